"""The tables of an index in PostgreSQL: beside the ledger's, in the schema `asof_projections`.

::

    with closing(PostgresTables.open("postgresql://asof_app@localhost/audit", origin, ledger=7)) as tables:
        Index(tables, reader).catch_up()

Any number of processes may write and ask. Who writes holds the build's row, so that batches come one
after the other; who asks holds a shared lock of the ledger, which whoever drops a build must have
alone: a table never goes away under a question. Each statement sees one moment, and each question is
one statement, so nothing more is needed (docs/adr/0072).

Questions and writes go in pipelines: a batch of any size costs half a dozen round trips, a state
three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import psycopg
from psycopg.types.numeric import Int8BinaryDumper

from ledger.errors import AsofError, StoreError, UnreachableError
from projections.tables import (
    TABLES,
    Ask,
    Build,
    MovedError,
    UnfitRowError,
    load_schema,
    load_statements,
    of_build,
)

__all__ = ["SHARED", "PostgresTables"]

DIALECT: Final = "postgres"
SHARED: Final = 0
"""The build that all ledgers share which were never rebuilt."""

COPIED: Final = ("change", "known", "use", "parent", "run_asset", "end", "span", "name")
"""What a load copies; the rest needs ON CONFLICT, or is little."""

Connection = psycopg.Connection[Any]


class PostgresTables:
    """The contract of `projections.tables.Tables` for one ledger of a database."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        origin: str,
        ledger: int,
        build: int | None = None,
    ) -> None:
        self.name = name
        self._connection = connection
        self._origin = origin
        self._ledger = ledger
        self._fixed = build
        self._sql: dict[str, str] = {}
        self._build: Build | None = None

    @classmethod
    def open(cls, url: str, origin: str, ledger: int) -> PostgresTables:
        """Connect; make the schema's tables where they are missing, and an empty build for this
        ledger. Raises: StoreError.
        """
        name = _shown(url)
        with _translated(name):
            connection = psycopg.connect(url, autocommit=True)
        tables = cls(connection, name, origin, ledger)
        try:
            tables._prepare()
        except BaseException:
            connection.close()
            raise
        return tables

    def close(self) -> None:
        if self._fixed is None:
            self._connection.close()

    def _prepare(self) -> None:
        self._connection.adapters.register_dumper(int, Int8BinaryDumper)
        with _translated(self.name):
            if self._scalar("projector"):
                self._connection.execute(_text("act_as_projector"))
            if not self._scalar("is_there"):
                self._make_schema()
            if not any(build.live for build in self._all_builds()):
                with self._connection.transaction():
                    self._add_build(SHARED, live=True)

    def _make_schema(self) -> None:
        """Whoever comes second waits for the first, and finds everything there."""
        with self._connection.transaction():
            self._connection.execute(_text("lock_schema"))
            tables, schema = self._connection.execute(_text("is_there")).fetchone() or (0, 0)
            if not schema:
                self._connection.execute(_text("make_schema"))
            if not tables:
                for statement in load_schema(DIALECT)[""]:
                    self._connection.execute(statement.encode())
                self._make_tables(SHARED, "build", "loaded")

    def _make_tables(self, build: int, *parts: str) -> None:
        for part in parts:
            for statement in load_schema(DIALECT)[part]:
                self._connection.execute(statement.replace("{build}", str(build)).encode())

    # --- transactions --------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Build]:
        if self._build is not None:
            yield self._build
            return
        with self._transaction("share", "builds") as build:
            yield build

    @contextmanager
    def writing(self) -> Iterator[Build]:
        held = "hold_live_build" if self._fixed is None else "hold_own_build"
        with self._transaction(held) as build:
            yield build

    @contextmanager
    def _transaction(self, *first: str) -> Iterator[Build]:
        with _translated(self.name), self._connection.transaction():
            try:
                self._build = self._found(self._pipelined([(name, {}) for name in first])[-1])
                self._sql = of_build(DIALECT, self._build.number)
                yield self._build
            finally:
                self._build = None

    def _found(self, rows: list[tuple[Any, ...]]) -> Build:
        for build in map(Build._make, rows):
            if build.number == self._fixed or (build.live and self._fixed is None):
                return build
        which = "the live build" if self._fixed is None else f"build {self._fixed}"
        raise MovedError(f"{which} of the index {self.name} was switched or dropped: ask again")

    # --- rows ----------------------------------------------------------------------------------

    def ask(self, *questions: Ask) -> list[list[tuple[Any, ...]]]:
        with self.reading():
            return self._pipelined(questions)

    def _pipelined(self, questions: Sequence[Ask]) -> list[list[tuple[Any, ...]]]:
        """Send all, then read all: one round trip."""
        alone = len(questions) == 1
        with nullcontext() if alone else self._connection.pipeline():
            cursors = [
                self._connection.execute(
                    self._text(name).encode(), {"ledger": self._ledger, **values}
                )
                for name, values in questions
            ]
            return [cursor.fetchall() for cursor in cursors]

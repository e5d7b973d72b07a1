"""The tables of an index in PostgreSQL: beside the ledger's, in the schema `asof_projections`.

::

    tables = PostgresTables.open("postgresql://asof_app@localhost/audit", origin)
    with closing(Index(tables, reader)) as index:
        index.catch_up()

Any number of processes may write and ask. Who writes holds the build's row, so that batches come
one after the other; who asks holds a shared lock of the ledger, which whoever drops a build must
have alone: a table never goes away under a question. Each statement sees one moment, and each
question is one statement, so nothing more is needed (docs/adr/0072).

Questions and writes go in pipelines: a batch of any size costs half a dozen round trips, a state
three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from itertools import chain, repeat
from struct import pack
from typing import Any, Final

import psycopg
from psycopg.types.numeric import Int8BinaryDumper

from ledger.errors import NotFoundError
from ledger.stores.postgres.binary import (
    COPY_END,
    COPY_START,
    Encoded,
    int8_array,
    text_array,
)
from ledger.stores.postgres.connecting import connect, register, shown
from ledger.stores.postgres.errors import explained
from projections.tables import (
    COMPARED,
    TABLES,
    Answer,
    Ask,
    Build,
    MovedError,
    UnfitRowError,
    UnwritableError,
    load_schema,
    load_statements,
    of_build,
)

__all__ = ["SHARED", "PostgresTables"]

DIALECT: Final = "postgres"
SHARED: Final = 0
"""The build that all ledgers share which were never rebuilt."""

COPIED: Final = frozenset(
    f"add_{table}"
    for table in ("name", "change", "known", "use", "span", "end", "parent", "run_asset")
)
"""What a load copies; the rest is little, or is there already."""

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
        self._live = SHARED

    @classmethod
    def open(cls, url: str, origin: str, ledger: int | None = None) -> PostgresTables:
        """Connect; make the tables where they are missing, and an empty build for this ledger.

        `ledger` is the ledger's number in this database, looked up by its origin where it is not
        given. Raises: NotFoundError, UnreachableError, StoreError.
        """
        connection = connect(url, "writer")
        try:
            number = _number_of(connection, origin, shown(url)) if ledger is None else ledger
        except BaseException:
            connection.close()
            raise
        tables = cls(connection, shown(url), origin, number)
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
        register(self._connection)
        self._connection.adapters.register_dumper(int, Int8BinaryDumper)
        with _translated(self.name):
            self._connection.execute(_text("session"))
            if self._scalar("projector"):
                self._connection.execute(_text("act_as_projector"))
            if not self._scalar("is_there"):
                self._make_schema()
            self._sql = of_build(DIALECT, SHARED)
            if not any(build.live for build in self.builds()):
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
        found = "live_build" if self._fixed is None else "own_build"
        with self._transaction("share", found) as build:
            yield build

    @contextmanager
    def writing(self) -> Iterator[Build]:
        held = "hold_live_build" if self._fixed is None else "hold_own_build"
        with self._transaction(held) as build:
            yield build

    @contextmanager
    def _transaction(self, *first: str) -> Iterator[Build]:
        """One transaction, sent in a pipeline: what is only written is not waited for. A load is
        not, because it copies.
        """
        connection = self._connection
        with _translated(self.name):
            try:
                with connection.pipeline() if self._fixed is None else nullcontext():
                    connection.execute("BEGIN")
                    self._sql = of_build(DIALECT, self._fixed or SHARED)
                    self._build = self._found(self._sent([(name, {}) for name in first])[-1])
                    self._live = self._build.number
                    self._sql = of_build(DIALECT, self._live)
                    yield self._build
                    connection.execute("COMMIT")
            except BaseException:
                if not connection.closed:
                    connection.rollback()
                raise
            finally:
                self._build = None

    def _found(self, rows: list[tuple[Any, ...]]) -> Build:
        if rows:
            return Build(*rows[0])
        which = "the live build" if self._fixed is None else f"build {self._fixed}"
        raise MovedError(f"{which} of the index {self.name} was switched or dropped: ask again")

    # --- rows ----------------------------------------------------------------------------------

    def ask(self, *questions: Ask) -> list[list[tuple[Any, ...]]]:
        with self.reading():
            return self._sent(questions)

    def ask_one(self, question: Ask) -> Answer:
        """Of the build that was live when we last heard, in a statement that says whether it is."""
        if self._build is None and self._fixed is None:
            answer = self._of_live_build(*question)
            if answer is not None:
                return answer
        with self.reading() as build:
            return Answer(build.number, build.size, self._sent([question])[0])

    def _of_live_build(self, question: str, values: dict[str, Any]) -> Answer | None:
        """None where that build is not live any more. Its tables cannot go away under a statement;
        where they went before it, the statement fails and nothing was answered.
        """
        bound = {name: _bound(value) for name, value in values.items()} | {"ledger": self._ledger}
        text = _of_live(self._live, question)
        with _translated(self.name):
            try:
                cursor = self._connection.execute(text, bound, binary=True, prepare=True)
            except psycopg.errors.UndefinedTable:
                return None
            rows = cursor.fetchall()
        if not rows:
            return None
        return Answer(self._live, rows[0][0], [row[2:] for row in rows if row[1]])

    def _sent(self, questions: Sequence[Ask]) -> list[list[tuple[Any, ...]]]:
        """Send all, then read all: one round trip."""
        with self._connection.pipeline() if len(questions) > 1 else nullcontext():
            cursors = [self._run(name, **values) for name, values in questions]
            return [cursor.fetchall() for cursor in cursors]

    def _run(self, statement: str, **values: Any) -> psycopg.Cursor[Any]:
        bound = {name: _bound(value) for name, value in values.items()}
        text = self._sql[statement].encode()
        return self._connection.execute(text, {"ledger": self._ledger, **bound}, binary=True)

    def add(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        if self._fixed is not None and statement in COPIED:
            self._copy(statement, rows)
            return
        columns = [_column(column) for column in zip(*rows, strict=True)]
        self._connection.execute(self._sql[statement].encode(), (self._ledger, *columns))

    def _copy(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """The same columns of the same table as the statement names, without the statement."""
        target = self._sql[statement].removeprefix("INSERT INTO").partition("SELECT")[0]
        statement_of_copy = f"COPY {target} FROM STDIN (FORMAT BINARY)".encode()
        with self._connection.cursor().copy(statement_of_copy) as copy:
            if all(isinstance(one, int) for one in rows[0]):
                copy.write(COPY_START + _packed(self._ledger, rows) + COPY_END)
                return
            copy.set_types(["int4", *("int8" if type(one) is int else "text" for one in rows[0])])
            for row in rows:
                copy.write_row((self._ledger, *row))

    def advance(self, size: int, leaf_hash: bytes) -> None:
        before = 0 if self._build is None else self._build.size
        self._run("forget_dead_letters", size=before)
        self._run("advance", size=size, leaf_hash=leaf_hash)

    # --- builds --------------------------------------------------------------------------------

    def builds(self) -> list[Build]:
        with _translated(self.name):
            return [Build(*row) for row in self._sent([("builds", {})])[0]]

    def begin_build(self) -> PostgresTables:
        with self._changing():
            self._drop_builds(keep_live=True)
            (number,) = self._run("next_build").fetchone() or (SHARED,)
            self._make_tables(number, "build")
            self._add_build(number, live=False)
        return PostgresTables(self._connection, self.name, self._origin, self._ledger, number)

    def finish_load(self) -> None:
        """Make the keys that only questions need, and tell the planner what is there."""
        if self._fixed is None:
            return
        with _translated(self.name), self._connection.transaction():
            self._run("patience")
            self._make_tables(self._fixed, "loaded")
            self._analyze(self._fixed)

    def analyze(self) -> None:
        if self._fixed is not None:  # a load is analysed at its end
            return
        with self.reading() as build:
            self._run("patience")
            self._analyze(build.number)

    def _analyze(self, build: int) -> None:
        for table in TABLES:
            self._run_on(table, build, "analyze")

    def digests(self, build: int) -> dict[str, str]:
        self._run("patience")
        rows = {table: self._run_on(table, build, "digest") for table in COMPARED}
        return {table: str(cursor.fetchall()[0][0]) for table, cursor in rows.items()}

    def go_live(self, build: int) -> None:
        self._run("retire")
        self._run_of(build, "go_live")

    def drop_retired(self) -> None:
        with self._changing():
            self._drop_builds(keep_live=True)

    def drop(self) -> None:
        with self._changing():
            self._drop_builds(keep_live=False)
            self._add_build(SHARED, live=True)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone with this ledger's builds: no reader is left that could miss a table."""
        with _translated(self.name), self._connection.transaction():
            self._sql = of_build(DIALECT, SHARED)
            self._run("patience")
            self._run("lock_schema")
            self._run("exclude")
            yield

    def _drop_builds(self, *, keep_live: bool) -> None:
        for build in self.builds():
            if keep_live and build.live:
                continue
            for table in TABLES:
                how = "forget_rows" if build.number == SHARED else "drop_table"
                self._run_on(table, build.number, how)
            self._run_of(build.number, "forget_build")

    def _add_build(self, number: int, *, live: bool) -> None:
        self._run_of(number, "add_build", origin=self._origin, live=live)

    def _run_of(self, build: int, statement: str, **values: Any) -> None:
        text = of_build(DIALECT, build)[statement].encode()
        self._connection.execute(text, {"ledger": self._ledger, **values})

    def _run_on(self, table: str, build: int, statement: str) -> psycopg.Cursor[Any]:
        text = of_build(DIALECT, build)[statement].replace("{table}", table)
        values = {"ledger": self._ledger} if "%(ledger)s" in text else None
        return self._connection.execute(text.encode(), values)

    def _scalar(self, statement: str) -> Any:
        return (self._connection.execute(_text(statement)).fetchone() or (None,))[0]


@cache
def _of_live(build: int, question: str) -> bytes:
    """A question of a build, as it is asked by itself."""
    statements = of_build(DIALECT, build)
    return statements["of_live_build"].replace("{question}", statements[question]).encode()


def _bound(value: Any) -> Any:
    """A list as an array. Text that PostgreSQL cannot hold is in no table: it is not asked for."""
    if not isinstance(value, list):
        return value
    return _column([one for one in value if not (isinstance(one, str) and "\0" in one)])


def _column(values: Sequence[Any]) -> Encoded:
    """Values of one column as an array. Of an empty one the type does not matter."""
    return text_array(values) if values and isinstance(values[0], str) else int8_array(values)


def _packed(ledger: int, rows: Sequence[tuple[int, ...]]) -> bytes:
    """Rows of the ledger and bigints in the binary format of COPY: each value after its length."""
    columns = list(zip(*rows, strict=True))
    lengths = repeat(8)
    values = chain.from_iterable((lengths, column) for column in columns)
    flat = chain.from_iterable(
        zip(repeat(len(columns) + 1), repeat(4), repeat(ledger), *values, strict=False)
    )
    return pack(">" + ("hii" + "iq" * len(columns)) * len(rows), *flat)


def _number_of(connection: Connection, origin: str, place: str) -> int:
    with _translated(place):
        found = connection.execute(_text("ledger_number"), (origin,)).fetchone()
    if found is None:
        raise NotFoundError(f"{place} holds no ledger {origin!r}: nothing can be indexed")
    return int(found[0])


def _text(statement: str) -> bytes:
    return load_statements(DIALECT)[statement].encode()


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """Let no exception of the driver out of the block."""
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise UnfitRowError(f"the index cannot hold what it leaves: {error}") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise UnwritableError(
            f"the index in {place} may not be written by this login ({error}): `asof migrate "
            "--login NAME` makes one that is a member of asof_projector"
        ) from error
    except psycopg.Error as error:
        raise explained(error, f"the index in {place}") from error

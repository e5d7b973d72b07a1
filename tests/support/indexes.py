"""Indexes for tests, of each kind: in a SQLite file, and in PostgreSQL.

A test that takes `indexes` is run for both; without a PostgreSQL that half reports itself as
skipped. In PostgreSQL each name is a ledger of the same database, as many tenants' are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from ledger.reader import Reader
from projections.index import Index
from projections.postgres_tables import PostgresTables
from projections.tables import Tables
from scripts.clusters import Server
from tests.support.postgres import database_of, prepared

__all__ = ["InPostgres", "Indexes", "indexes"]


class Indexes(Protocol):
    """Where a test's indexes lie. The same name is the same index, also for a second process."""

    kind: str

    def name(self, name: str) -> None:
        """Settle where the index of this name lies, before threads ask for it."""

    def tables(self, reader: Reader, name: str = "index") -> Tables: ...

    def open(self, reader: Reader, name: str = "index") -> Index: ...

    def fresh(self, reader: Reader) -> Index: ...


class _Files:
    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def name(self, name: str) -> None:
        """A file's name says where it lies."""

    def tables(self, reader: Reader, name: str = "index") -> Tables:
        index = Index.open(self._folder / f"{name}.index", reader)
        return index._tables

    def open(self, reader: Reader, name: str = "index") -> Index:
        return Index(self.tables(reader, name), reader)

    def fresh(self, reader: Reader) -> Index:
        return Index.open(None, reader)


class InPostgres:
    kind = "postgres"

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = count(1)
        self._known: dict[str, int] = {}

    def name(self, name: str) -> None:
        if name not in self._known:
            self._known[name] = next(self._numbers)

    def tables(self, reader: Reader, name: str = "index") -> Tables:
        self.name(name)
        return PostgresTables.open(self.url, reader.origin, self._known[name])

    def open(self, reader: Reader, name: str = "index") -> Index:
        return Index(self.tables(reader, name), reader)

    def fresh(self, reader: Reader) -> Index:
        return Index(PostgresTables.open(self.url, reader.origin, next(self._numbers)), reader)


@pytest.fixture(params=["sqlite", "postgres"])
def indexes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Indexes]:
    """Where this test's indexes lie."""
    if request.param == "sqlite":
        yield _Files(tmp_path)
        return
    server: Server = request.getfixturevalue("postgres")
    with database_of(server) as url:
        yield InPostgres(prepared(url))

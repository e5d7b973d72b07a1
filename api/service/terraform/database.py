"""A SQLite file of the service with transactions that hold off every other.

::

    database = OwnDatabase(folder / "terraform.db", schema)
    with database.changing() as file:
        file.execute("DELETE …")             # committed where the block ends without an error
    database.rows("SELECT …", value)
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from api.service.own_files import own_file
from ledger.errors import StoreError

__all__ = ["OwnDatabase"]

BUSY_SECONDS: Final = 10


class OwnDatabase:
    """For its owner only; thread-safe. Raises StoreError where it cannot be read or written."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._mutex = threading.Lock()
        try:
            own_file(path)
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
            )
            self._connection.executescript(schema)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path} cannot be opened: {error}") from None

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction; it holds off those of other processes too. Leaving the block commits,
        however it is left but by an error."""
        with self._mutex:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                self._undo()
                if isinstance(error, sqlite3.Error):
                    raise StoreError(f"{self._path}: {error}") from None
                raise

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """What a question finds, all of it."""
        with self._mutex:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self._path}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._connection.close()

    def _undo(self) -> None:
        """SQLite has done it itself where the disk was full, and a file that is closed has nothing
        to undo."""
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")

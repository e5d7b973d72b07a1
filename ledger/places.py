"""Where a ledger lies, by its URL: a file, a database, this process's memory.

::

    place = place_of("sqlite:///asof.db")           # keys in asof.keys, objects in asof.objects
    place = place_of("postgresql://app@db/audit")   # keys in ./asof.keys; the key says which ledger

What is different between them when a ledger is opened or begun is here, and nowhere else: in which
order key and store are made, and where the files that belong to it lie by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from ledger.errors import MalformedError, TamperError
from ledger.note import Signer
from ledger.store import Store
from ledger.stores.sqlite import SqliteStore

__all__ = ["DatabasePlace", "FilePlace", "Place", "place_of", "sqlite_path"]

SQLITE_PREFIX: Final = "sqlite:///"
DATABASE_PREFIXES: Final = ("postgresql://", "postgres://")
NAME: Final = "asof"
SMALL_FILE_BYTES: Final = 32 << 20

Notice = Callable[[str], None]


def _silent(_words: str) -> None:
    """Nobody wants to know."""


class Place(Protocol):
    """What opening and beginning need to know of a place."""

    @property
    def url(self) -> str:
        """What the place was named with, as it may be shown: without a password."""
        ...

    def beside(self, suffix: str) -> Path:
        """Where files that belong to the ledger lie by default: `asof.keys`, `asof.objects`."""
        ...

    def exists(self) -> bool:
        """Whether there is anything to open; True where only opening can tell."""
        ...

    def open(self, origin: str, *, write: bool) -> Store:
        """The store of the ledger, which must be there for a file. Raises: StoreError and kin."""
        ...

    def begin(self, key: Callable[[], Signer]) -> tuple[Store, Signer]:
        """A store to begin a ledger in, and its key, made in an order in which nothing is left
        behind that a second attempt could not use."""
        ...

    def check(self, store: Store) -> None:
        """What the place itself can be asked at each open. Raises: TamperError."""
        ...


@dataclass(frozen=True, slots=True)
class FilePlace:
    """One ledger in one SQLite file."""

    path: Path

    @property
    def url(self) -> str:
        return f"{SQLITE_PREFIX}{self.path}"

    def beside(self, suffix: str) -> Path:
        return self.path.with_suffix(suffix)

    def exists(self) -> bool:
        return self.path.exists()

    def open(self, origin: str, *, write: bool) -> Store:
        return SqliteStore.open(self.path, write=write)

    def begin(self, key: Callable[[], Signer]) -> tuple[Store, Signer]:
        store = SqliteStore.create_file(self.path)
        try:
            return store, key()
        except BaseException:
            store.close()
            raise

    def check(self, store: Store) -> None:
        """SQLite looks at every page of a file that is small; beyond that it is `verify`'s."""
        if self.path.stat().st_size <= SMALL_FILE_BYTES:
            for complaint in store.check_integrity(deep=False):
                raise TamperError(f"{store.url} is damaged: {complaint}")


@dataclass(frozen=True, slots=True)
class DatabasePlace:
    """One ledger of many in a PostgreSQL database; the key's name says which."""

    given: str = field(repr=False)
    checksums: bool = True
    notice: Notice = _silent

    @property
    def url(self) -> str:
        from ledger.stores.postgres import shown

        return shown(self.given)

    def beside(self, suffix: str) -> Path:
        return Path(NAME).with_suffix(suffix)

    def exists(self) -> bool:
        return True

    def open(self, origin: str, *, write: bool) -> Store:
        from ledger.stores.postgres import PostgresStore

        return PostgresStore.open(
            self.given, origin, write=write, checksums=self.checksums, notice=self.notice
        )

    def begin(self, key: Callable[[], Signer]) -> tuple[Store, Signer]:
        self.open(NAME, write=True).close()
        signer = key()
        return self.open(signer.name, write=True), signer

    def check(self, store: Store) -> None:
        """The server's own checks were asked when the store was opened."""


def place_of(
    url: str, *, checksums: bool = True, notice: Notice = _silent
) -> FilePlace | DatabasePlace:
    """The place that a URL names. `checksums=False` takes a PostgreSQL without data checksums.

    Raises: MalformedError.
    """
    if url.startswith(DATABASE_PREFIXES):
        return DatabasePlace(url, checksums, notice)
    return FilePlace(sqlite_path(url))


def sqlite_path(url: str) -> Path:
    """The file that a store's URL names. Raises: MalformedError."""
    path = url.removeprefix(SQLITE_PREFIX)
    if path == url or not path or path == ":memory:":
        raise MalformedError(
            f"{url!r} is not a store that is supported: use sqlite:///relative/path, "
            "sqlite:////absolute/path, postgresql://user@host/database or memory:"
        )
    return Path(path)

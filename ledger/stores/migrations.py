"""The numbered steps by which a store's schema came to be what it is.

::

    sql/postgres/migrations/0001_ledger.sql     applied once, in order, never edited afterwards

A store remembers which steps it has seen, each with the SHA-256 of its text, so that a step that
was edited later, or applied by a program that knew another text, is noticed. Applying is for
`ledger.stores.postgres.migrating` and `ledger.stores.sqlite`; this file only knows the texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from ledger.errors import StoreError, TamperError
from ledger.store import Applied

__all__ = ["Migration", "check_applied", "load_migrations", "pending"]


class Migration(NamedTuple):
    """One step: 1, "ledger", its SQL and the checksum of that text."""

    number: int
    name: str
    checksum: str
    sql: str

    def applied(self) -> Applied:
        """What a store remembers of it."""
        return Applied(self.number, self.name, self.checksum)


@cache
def load_migrations(dialect: str) -> tuple[Migration, ...]:
    """All steps of a dialect, in order."""
    folder = files("ledger.stores").joinpath("sql", dialect, "migrations")
    texts = {file.name: file.read_text("utf-8") for file in folder.iterdir()}
    return tuple(_migration(name, texts[name]) for name in sorted(texts) if name.endswith(".sql"))


def check_applied(applied: Sequence[Applied], known: Sequence[Migration], place: str) -> None:
    """That the steps applied are the first of those known, text by text.

    Raises: StoreError for a store that is ahead of this program; TamperError for another text.
    """
    for found, step in zip(applied, known, strict=False):
        if found != step.applied():
            raise TamperError(
                f"{place}: the migration {found.number:04} {found.name} is not the one that this "
                "program knows",
                expected=f"{step.name} {step.checksum}",
                found=f"{found.name} {found.checksum}",
            )
    if len(applied) > len(known):
        raise StoreError(
            f"{place} was migrated by a newer asof (schema {applied[-1].number}, this one knows "
            f"{known[-1].number}): install that version to open it"
        )


def pending(applied: Sequence[Applied], known: Sequence[Migration], place: str) -> list[Migration]:
    """The steps that are still to be applied. Raises as `check_applied`."""
    check_applied(applied, known, place)
    return list(known[len(applied) :])


def _migration(file: str, text: str) -> Migration:
    number, _, name = file.removesuffix(".sql").partition("_")
    return Migration(int(number), name, sha256(text.encode()).hexdigest(), text)

"""The driver's errors in our words, translated once, at the store's edge.

Classes by SQLSTATE (PostgreSQL's documentation, appendix A). An error that the server reports for a
statement before its commit means that nothing was written; a connection that is lost while a commit
is under way means that nobody knows (`unknown`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from ledger.errors import (
    AsofError,
    ConflictError,
    LoginRefusedError,
    NotPreparedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
    UnreachableError,
)

__all__ = ["explained", "is_lost", "translated", "unknown"]


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Let no exception of the driver out of the block."""
    try:
        yield
    except PoolClosed as exc:
        raise StoreError(f"{place} is closed") from exc
    except PoolTimeout as exc:
        raise UnreachableError(
            f"{place}: no connection became free in time: the server does not answer, or every "
            "connection of this process is in use"
        ) from exc
    except psycopg.Error as exc:
        raise explained(exc, place) from exc


def is_lost(exc: psycopg.Error) -> bool:
    """Whether the connection is gone, so that the server's answer, if there was one, is too."""
    state = exc.sqlstate or ""
    return not state or state.startswith("08") or state in ("57P01", "57P02", "57P03", "XX000")


def unknown(exc: psycopg.Error, place: str) -> UnknownOutcomeError:
    """What to say of a commit whose answer never came."""
    return UnknownOutcomeError(
        f"{place}: the connection was lost during the commit ({_words(exc)}); the batch may have "
        "been written or not. Repeat it with the same idempotency key"
    )


def explained(exc: psycopg.Error, place: str) -> AsofError:
    """The error in our words: whose it is, and what to do."""
    state, words = exc.sqlstate or "", _words(exc)
    family = _family_of_state(state) if state else _family_of_words(words.lower())
    kind, said = FAMILIES[family] if family else (StoreError, "{place}: {words} (SQLSTATE {state})")
    return kind(said.format(place=place, words=words, state=state))


def _family_of_state(state: str) -> str:
    return next((family for begin, family in STATES if state.startswith(begin)), "")


def _words(exc: psycopg.Error) -> str:
    """The first line, without what the driver puts before it: we name the place ourselves."""
    found = (exc.diag.message_primary or str(exc)).strip()
    if not found:
        return type(exc).__name__
    line = found.splitlines()[0]
    return line.rpartition(" failed: ")[2].removeprefix("FATAL:").strip()


def _family_of_words(lowered: str) -> str:
    """Without a SQLSTATE, as while connecting, the server's words are all there is."""
    if 'database "' in lowered and "does not exist" in lowered:
        return "no database"
    for family, marks in MARKS.items():
        if any(mark in lowered for mark in marks):
            return family
    return "unreachable"


MARKS: Final = {
    "login": ('role "', "password", "no pg_hba.conf entry", "authentication"),
    "exhausted": ("too many c", "connection slots"),
}
"""What the server says while connecting, where a code would say it better."""

STATES: Final = (
    ("28", "login"),
    ("3D000", "no database"),
    ("3F000", "no schema"),
    ("42P01", "no schema"),
    ("42883", "no schema"),
    ("42501", "not allowed"),
    ("23", "conflict"),
    ("40", "held"),
    ("55P03", "held"),
    ("53100", "no space"),
    ("53", "exhausted"),
    ("57014", "too slow"),
    ("25P0", "too slow"),
    ("25006", "standby"),
    ("57P", "stopping"),
    ("08", "unreachable"),
    ("XX001", "damaged"),
    ("XX002", "damaged"),
)
"""How a SQLSTATE begins, and the family it belongs to; the first that fits."""

FAMILIES: Final[dict[str, tuple[type[AsofError], str]]] = {
    "login": (
        LoginRefusedError,
        "{place} refused the login: {words}. Check user and password (PGPASSWORD, ~/.pgpass)",
    ),
    "no database": (
        NotPreparedError,
        "{place}: {words}. Create it, then run `asof migrate`",
    ),
    "no schema": (
        NotPreparedError,
        "{place} is not prepared for ledgers: {words}. Run `asof migrate`",
    ),
    "not allowed": (
        StoreError,
        "{place}: {words}. Log in as a member of asof_writer to append, of asof_reader to read",
    ),
    "conflict": (ConflictError, "{place} refused the write: {words}"),
    "held": (UnreachableError, "{place} is held by another process ({words}): try again"),
    "no space": (
        StoreError,
        "{place}: the server's disk is full ({words}); nothing was written",
    ),
    "exhausted": (UnreachableError, "{place} takes no more connections: {words}"),
    "too slow": (
        UnreachableError,
        "{place} took too long ({words}); nothing was written: try again",
    ),
    "standby": (UnreachableError, "{place} is a standby that cannot be written ({words})"),
    "stopping": (UnreachableError, "{place} is stopping or starting ({words}): try again"),
    "unreachable": (UnreachableError, "{place} does not answer: {words}"),
    "damaged": (TamperError, "{place} is damaged: {words}"),
}
"""What each family is to us, and what we say."""

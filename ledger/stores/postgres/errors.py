"""The driver's errors in our words, translated once, at the store's edge.

Classes by SQLSTATE (PostgreSQL's documentation, appendix A). An error that the server reports for a
statement before its commit means that nothing was written; a connection that is lost while a commit
is under way means that nobody knows (`unknown`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    for prefix, make in FAMILIES:
        if state.startswith(prefix):
            return make(place, words)
    if not state:
        return _unreachable(place, words)
    return StoreError(f"{place}: {words} (SQLSTATE {state})")


def _words(exc: psycopg.Error) -> str:
    """The first line, without what the driver puts before it: we name the place ourselves."""
    found = (exc.diag.message_primary or str(exc)).strip()
    if not found:
        return type(exc).__name__
    line = found.splitlines()[0]
    return line.rpartition(" failed: ")[2].removeprefix("FATAL:").strip()


def _unreachable(place: str, words: str) -> AsofError:
    """Without a SQLSTATE, as while connecting, the server's words are all there is."""
    lowered = words.lower()
    if (
        'role "' in lowered
        or "password" in lowered
        or "no pg_hba.conf entry" in lowered
        or "authentication" in lowered
    ):
        return _login_refused(place, words)
    if 'database "' in lowered and "does not exist" in lowered:
        return _no_database(place, words)
    if "too many c" in lowered or "connection slots" in lowered:
        return _exhausted(place, words)
    return UnreachableError(f"{place} does not answer: {words}")


def _login_refused(place: str, words: str) -> AsofError:
    return LoginRefusedError(
        f"{place} refused the login: {words}. Check user and password (PGPASSWORD, ~/.pgpass)"
    )


def _no_database(place: str, words: str) -> AsofError:
    return NotPreparedError(f"{place}: {words}. Create it, then run `asof migrate`")


def _no_schema(place: str, words: str) -> AsofError:
    return NotPreparedError(f"{place} is not prepared for ledgers: {words}. Run `asof migrate`")


def _conflict(place: str, words: str) -> AsofError:
    return ConflictError(f"{place} refused the write: {words}")


def _not_allowed(place: str, words: str) -> AsofError:
    return StoreError(
        f"{place}: {words}. Log in as a member of asof_writer to append, of asof_reader to read"
    )


def _no_space(place: str, words: str) -> AsofError:
    return StoreError(f"{place}: the server's disk is full ({words}); nothing was written")


def _exhausted(place: str, words: str) -> AsofError:
    return UnreachableError(f"{place} takes no more connections: {words}")


def _held(place: str, words: str) -> AsofError:
    return UnreachableError(f"{place} is held by another process ({words}): try again")


def _too_slow(place: str, words: str) -> AsofError:
    return UnreachableError(f"{place} took too long ({words}); nothing was written: try again")


def _shutting_down(place: str, words: str) -> AsofError:
    return UnreachableError(f"{place} is stopping or starting ({words}): try again")


def _standby(place: str, words: str) -> AsofError:
    return UnreachableError(f"{place} is a standby that cannot be written ({words})")


def _damaged(place: str, words: str) -> AsofError:
    return TamperError(f"{place} is damaged: {words}")


FAMILIES = (
    ("28", _login_refused),
    ("3D000", _no_database),
    ("3F000", _no_schema),
    ("42P01", _no_schema),
    ("42883", _no_schema),
    ("42501", _not_allowed),
    ("23", _conflict),
    ("40", _held),
    ("55P03", _held),
    ("53100", _no_space),
    ("53", _exhausted),
    ("57014", _too_slow),
    ("25P0", _too_slow),
    ("25006", _standby),
    ("57P", _shutting_down),
    ("08", _unreachable),
    ("XX001", _damaged),
    ("XX002", _damaged),
)
"""SQLSTATE, or how it begins, and what that means here; the first that fits."""

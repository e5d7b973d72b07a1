"""What can go wrong, in three families that call for three reactions.

::

    AsofError
    ├── MalformedError        the caller's mistake: mend the input and call again       (ValueError)
    │   └── UnknownEventError     an event type or version that this program does not know
    ├── RefusedError          a rule says no: an invalid transition, a missing approval
    ├── StoreError            the world's failure: disk, lock, file, another program
    │   ├── ConflictError         somebody else was first: re-read, decide again
    │   │   ├── HeadMovedError        another process has appended: read the head again
    │   │   └── KeyReusedError        the idempotency key stands for another batch
    │   ├── NotFoundError         there is no such entry, stream, object, file
    │   │   └── NotPreparedError      there is no such database, or it was never migrated
    │   ├── UnreachableError      the store or system does not answer
    │   │   └── LoginRefusedError     it answers, and does not let this user in
    │   └── UnknownOutcomeError   it may have happened: ask again with the same key
    ├── TamperError           evidence: what is there is not what was signed
    └── IncompleteError       it could not be verified: neither good nor bad is known

A message says what, where and what to do. `exit_code` is the code with which the command line ends
(docs/cli.md); HTTP maps the same classes to problem types.
"""

from __future__ import annotations

__all__ = [
    "AsofError",
    "ConflictError",
    "HeadMovedError",
    "IncompleteError",
    "KeyReusedError",
    "LoginRefusedError",
    "MalformedError",
    "NotFoundError",
    "NotPreparedError",
    "RefusedError",
    "StoreError",
    "TamperError",
    "UnknownEventError",
    "UnknownOutcomeError",
    "UnreachableError",
]


class AsofError(Exception):
    """The root: everything that this program raises on purpose."""

    exit_code = 8


class MalformedError(AsofError, ValueError):
    """The caller's mistake. `where` points to the place (a JSON pointer, a field), or is empty."""

    exit_code = 2

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.where = where


class UnknownEventError(MalformedError):
    """An event type or schema version that this program does not know; nothing was written."""


class RefusedError(AsofError):
    """A rule of the ledger says no: an invalid transition, a missing approval, a held record."""

    exit_code = 4


class StoreError(AsofError):
    """The world's failure. Nothing was acknowledged; what was acknowledged before still stands."""

    exit_code = 8


class ConflictError(StoreError):
    """Somebody else was first. Nothing was written."""

    exit_code = 5


class HeadMovedError(ConflictError):
    """The head that an append stood on is no longer the newest. Nothing was written."""


class KeyReusedError(ConflictError):
    """The idempotency key was used before, for another body. Nothing was written."""


class NotFoundError(StoreError):
    """There is no such entry, stream, version, object or file."""

    exit_code = 3


class NotPreparedError(NotFoundError):
    """There is no such database, or it is not prepared for ledgers: it wants `asof migrate`."""


class UnreachableError(StoreError):
    """The store or the system did not answer; nothing is known to have changed."""

    exit_code = 6


class LoginRefusedError(UnreachableError):
    """The server does not let this user in: the name, the password or its rules say no."""


class UnknownOutcomeError(StoreError):
    """It may have happened or not. Asking again with the same idempotency key tells."""


class TamperError(AsofError):
    """Evidence that what is there is not what was signed.

    It stands alone: `index` (None where no single entry is meant), `expected` and `found` as text,
    and the signed checkpoints that contradict each other or the data, so that a stranger can check
    the accusation without asking us.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        index: int | None = None,
        expected: str = "",
        found: str = "",
        checkpoints: tuple[bytes, ...] = (),
    ) -> None:
        place = f"entry {index}: " if index is not None else ""
        detail = f" (expected {expected}, found {found})" if expected or found else ""
        super().__init__(f"{place}{message}{detail}")
        self.index = index
        self.expected = expected
        self.found = found
        self.checkpoints = checkpoints


class IncompleteError(AsofError):
    """Something could not be verified. Never to be taken for 'verified', nor for 'tampered'."""

    exit_code = 7

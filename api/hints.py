"""Hints travel with errors: the command that helps in this very situation, as a note (PEP 678).

::

    raise hinted(NotFoundError("there is no pipeline 'forcast'"), "asof state -p forecast -s
    production")

Whoever reports the error prints them as `try: …`; everybody else need not know of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

__all__ = ["MIGRATE", "hinted", "hinting", "hints_of"]

_Error = TypeVar("_Error", bound=BaseException)
_MARK = "try: "

MIGRATE: Final = "asof migrate --admin postgresql://postgres@HOST/DATABASE --login NAME"
"""What prepares a database for ledgers, and makes a login for them."""


def hinted(error: _Error, hint: str) -> _Error:
    """Attach a hint and return the error, for `raise`."""
    error.add_note(_MARK + hint)
    return error


@contextmanager
def hinting(kind: type[BaseException], hint: str) -> Iterator[None]:
    """Attach a hint to any error of a kind that leaves the block and has none yet."""
    try:
        yield
    except kind as error:
        if not hints_of(error):
            hinted(error, hint)
        raise


def hints_of(error: BaseException) -> list[str]:
    """The hints that were attached to an error."""
    notes = getattr(error, "__notes__", [])
    return [note.removeprefix(_MARK) for note in notes if note.startswith(_MARK)]

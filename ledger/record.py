"""An entry as it is read: the stored row, with what follows from it.

::

    record.index         1234
    record.recorded_at   1795237200000000      microseconds, system time
    record.effective_at  1795233600000000      valid time; recorded_at where none was given
    record.data          {"text": "go"}        parsed when asked for; None where withheld or erased
    record.as_json()     what `asof show` prints
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import orjson

from ledger.canonical import format_time, parse_rfc3339
from ledger.errors import MalformedError, TamperError
from ledger.store import Row

__all__ = ["Record"]

Prev: TypeAlias = bytes | Callable[[], bytes]
EFFECTIVE_AT = b'"effective_at"'


class Record:
    """One entry. Immutable; what costs something is made when asked for, and then kept.

    A payload that cannot be read is a TamperError: what the writer keeps can.
    """

    __slots__ = ("_data", "_effective_at", "_prev", "row")

    def __init__(self, row: Row, prev: Prev) -> None:
        self.row = row
        self._prev = prev
        self._data: dict[str, Any] | None = None
        self._effective_at: int | None = None

    @property
    def index(self) -> int:
        """Where it stands in the ledger, from 0."""
        return self.row[0]

    @property
    def recorded_at(self) -> int:
        """When the ledger took it in; never decreasing."""
        return self.row[1]

    @property
    def actor(self) -> str:
        """Who did it: a principal id."""
        return self.row[2]

    @property
    def stream(self) -> str:
        """What it is about."""
        return self.row[3]

    @property
    def type(self) -> str:
        """The event's name and schema version."""
        return self.row[4]

    @property
    def version(self) -> int:
        """Where it stands in its stream, from 1."""
        return self.row[5]

    @property
    def commitment(self) -> bytes:
        """What the entry says about the payload."""
        return self.row[6]

    @property
    def payload(self) -> bytes | None:
        """The bytes that were hashed; None where they were withheld or erased."""
        return self.row[8]

    @property
    def leaf_hash(self) -> bytes:
        """The hash that the next entry links to and the tree is made of."""
        return self.row[9]

    @property
    def prev(self) -> bytes:
        """The leaf hash of the entry before."""
        if not isinstance(self._prev, bytes):
            self._prev = self._prev()
        return self._prev

    @property
    def data(self) -> dict[str, Any] | None:
        """The event's fields; None where the payload was withheld or erased."""
        if self._data is None and self.row[8] is not None:
            self._data = _parsed(self.row[8], self.row[0])
        return self._data

    @property
    def effective_at(self) -> int:
        """When it held in the world, by its source; `recorded_at` where the source said nothing."""
        if self._effective_at is None:
            self._effective_at = self._found_effective_at()
        return self._effective_at

    def as_json(self) -> dict[str, Any]:
        """The record as `show`, `log` and HTTP give it; unknown is None, never left out."""
        return {
            "index": self.index,
            "recorded_at": format_time(self.recorded_at),
            "effective_at": format_time(self.effective_at),
            "type": self.type,
            "stream": self.stream,
            "version": self.version,
            "actor": self.actor,
            "data": self.data,
            "commitment": self.commitment.hex(),
            "leaf_hash": self.leaf_hash.hex(),
            "prev": self.prev.hex(),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.row == other.row

    def __hash__(self) -> int:
        return hash(self.row)

    def __repr__(self) -> str:
        return f"Record({self.index}, {self.type!r}, {self.stream!r}#{self.version})"

    def _found_effective_at(self) -> int:
        payload = self.row[8]
        if payload is None or EFFECTIVE_AT not in payload:
            return self.recorded_at
        stated = (self.data or {}).get("effective_at")
        if stated is None:
            return self.recorded_at
        try:
            return parse_rfc3339(stated)
        except (MalformedError, TypeError):
            raise TamperError(
                "its effective_at is not a time", index=self.index, found=repr(stated)[:80]
            ) from None


def _parsed(payload: bytes, index: int) -> dict[str, Any]:
    try:
        data = orjson.loads(payload)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise TamperError("its payload is not a JSON object", index=index)
    return data

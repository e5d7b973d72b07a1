"""The numbers that stand for streams in the rows of one ledger, as far as they are remembered.

::

    numbers = StreamNumbers()
    numbers.learn({"note/release": 17})       # asked of the server, where it is committed
    numbers.give({"asset/model/a": 42})       # an append is under way that begins this stream
    numbers.among(["note/release", "asset/model/a"])
    numbers.take_back({"asset/model/a": 42})  # it failed; `keep` where it was committed

The number of a stream is the index of its first entry: whoever writes that entry gives it, and
nobody else ever does (docs/adr/0105).

What is remembered cannot be wrong. It belongs to one connection, so to one server and one history:
there a committed entry keeps its index, and a new connection, perhaps to a server that was promoted
without the newest entries, begins with nothing. An append that is under way may be built upon: what
is built on it is written only if it was, as each append compares the head (size and root) that it
continues, and that root says which entry is at which index. One that failed takes its numbers with
it, before anybody asks the server again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from ledger.store import Row

__all__ = ["MAX_KNOWN", "Numbering", "StreamNumbers"]

MAX_KNOWN: Final = 100_000
"""Beyond it everything is forgotten, and asked for again when it is needed: some 15 MB."""


class StreamNumbers:
    """Names and numbers of streams. Used by the one thread that appends, or under its lock."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._under_way: list[Mapping[str, int]] = []

    def among(self, names: Collection[str]) -> dict[str, int]:
        """The numbers of those that are remembered, also of those given by what is under way."""
        known = self._known
        found = {name: known[name] for name in names if name in known}
        for given in self._under_way:
            found |= {name: given[name] for name in names if name in given}
        return found

    def learn(self, committed: Mapping[str, int]) -> None:
        """Remember numbers that the server has."""
        if len(self._known) + len(committed) > MAX_KNOWN:
            self._known = {}
        self._known |= committed

    def give(self, given: Mapping[str, int]) -> None:
        """An append that begins these streams is on its way; to be followed by `keep` or
        `take_back` of the same."""
        self._under_way.append(given)

    def keep(self, given: Mapping[str, int]) -> None:
        """The append was committed."""
        self.learn(given)
        self.take_back(given)

    def take_back(self, given: Mapping[str, int]) -> None:
        """The append was not committed, or nobody knows; no harm where it was never given."""
        self._under_way = [one for one in self._under_way if one is not given]


class Numbering:
    """The numbers of the streams of one append: `of` has them all, `given` those that begin in it.

    The streams that begin are those of the rows of version 1. Whether that is so, or the name is
    there already, is for the database to say: it keeps one number a name and one name a number.
    """

    def __init__(self, remembered: StreamNumbers) -> None:
        self._remembered = remembered
        self.of: dict[str, int] = {}
        self.given: dict[str, int] = {}

    def lacking(self, rows: Sequence[Row]) -> set[str]:
        """Number the streams of some rows; the names of those that were not remembered. They are
        to be asked for and learned, and the rows to be given again. About 0.1 µs a row."""
        begun = {row[3]: row[0] for row in rows if row[5] == 1}
        self.given |= begun
        self.of |= begun
        wanted = {row[3] for row in rows} - self.of.keys()
        if wanted:
            self.of |= (found := self._remembered.among(wanted))
            wanted -= found.keys()
        return wanted

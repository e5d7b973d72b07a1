"""A legal hold's rules: records that must not be erased, until another person in another role says.

::

    placed ─▶ (some entries freed)… ─▶ lifted
       └─▶ (its time is over)

A hold covers single entries, whole streams, or all streams under a prefix that ends in `/`. Whoever
placed it cannot lift it, nor can the role in which it was placed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from ledger.errors import RefusedError
from ledger.events.privacy import HoldLifted, HoldPlaced
from ledger.lifecycle.aggregate import Aggregate, applies, given
from ledger.lifecycle.approval import has_run_out

__all__ = ["Held", "Hold", "held_entries"]

Status = Literal["new", "placed", "lifted"]
Held = Mapping[str, tuple[int, ...]]
"""Holds in force, by stream, and the entries that each of them covers."""


class Hold(Aggregate):
    """One hold. Commands raise `RefusedError`; repeated, they record nothing."""

    PREFIX: ClassVar[str] = "hold/"

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.status: Status = "new"
        self.placed_by = ""
        self.role: str | None = None
        self.indexes: frozenset[int] = frozenset()
        self.streams: tuple[str, ...] = ()
        self.until: str | None = None
        self._freed: frozenset[int] = frozenset()

    # ------------------------------------------------------------------------------- what is known

    def in_force(self, now: int) -> bool:
        """Whether anything may not be erased because of it."""
        return self.status == "placed" and not has_run_out(self.until, now)

    def covers(self, index: int, stream: str) -> bool:
        """Whether it is about this entry of this stream."""
        return index in self.indexes or any(
            stream.startswith(name) if name.endswith("/") else stream == name
            for name in self.streams
        )

    # ------------------------------------------------------------------------------------ decisions

    @classmethod
    def placed(
        cls,
        hold_id: str,
        *,
        ground: str,
        actor: str,
        indexes: tuple[int, ...] = (),
        streams: tuple[str, ...] = (),
        role: str | None = None,
        until: str | None = None,
        approvals: tuple[str, ...] = (),
    ) -> Hold:
        """A new hold; saving it fails with `ConflictError` where the id is taken."""
        hold = cls(f"{cls.PREFIX}{hold_id}")
        if not indexes and not streams:
            raise hold.refusal("it would hold nothing", "name entries or streams")
        optional = given(
            indexes=indexes, streams=streams, role=role, until=until, approvals=approvals
        )
        hold.record(HoldPlaced(ground=ground, **optional), actor)
        return hold

    def lift(
        self,
        ground: str,
        actor: str,
        *,
        now: int,
        role: str | None = None,
        indexes: tuple[int, ...] = (),
        approvals: tuple[str, ...] = (),
    ) -> None:
        """Ends it, or frees single entries of it."""
        if self.status == "lifted" or (indexes and self._freed.issuperset(indexes)):
            return
        if self.status != "placed":
            raise self.refusal("there is nothing to lift", "place it first")
        if has_run_out(self.until, now):
            raise self.refusal(f"it ended by itself at {self.until}", "leave it as it is")
        self._check_person(actor, role)
        self._check_free(indexes)
        event = HoldLifted(ground=ground, **given(indexes=indexes, role=role, approvals=approvals))
        self.record(event, actor)

    # ---------------------------------------------------------------------------------- small rules

    def _check_person(self, actor: str, role: str | None) -> None:
        if actor == self.placed_by:
            raise self.refusal(f"{actor} placed it", "somebody else must lift it")
        if self.role is not None and role in (None, self.role):
            raise self.refusal(
                f"it was placed by {self.role} and would be lifted by {role or 'no role'}",
                "another role must lift it",
            )

    def _check_free(self, indexes: tuple[int, ...]) -> None:
        for index in indexes:
            if index not in self.indexes | self._freed:
                raise self._not_alone(index)

    def _not_alone(self, index: int) -> RefusedError:
        return self.refusal(
            f"entry {index} is not one of those it names", "lift it whole, and place a narrower one"
        )

    # --------------------------------------------------------------------- what events leave behind

    @applies(HoldPlaced)
    def _was_placed(self, event: HoldPlaced, actor: str) -> None:
        self.status, self.placed_by, self.role = "placed", actor, event.role
        self.indexes, self.streams = frozenset(event.indexes), event.streams
        self.until = event.until

    @applies(HoldLifted)
    def _was_lifted(self, event: HoldLifted, actor: str) -> None:
        freed = frozenset(event.indexes) or self.indexes
        self.indexes, self._freed = self.indexes - freed, self._freed | freed
        if not event.indexes or not (self.indexes or self.streams):
            self.status = "lifted"


def held_entries(holds: Iterable[Hold], entries: Mapping[int, str], now: int) -> Held:
    """Which of the entries (index to stream) may not be erased now, and because of which holds."""
    found = {
        hold.id: tuple(index for index, stream in entries.items() if hold.covers(index, stream))
        for hold in holds
        if hold.in_force(now)
    }
    return {hold: indexes for hold, indexes in found.items() if indexes}

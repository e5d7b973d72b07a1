"""An erasure's rules: requested, granted by two others, stopped by a hold, carried out, closed.

::

    requested ─▶ granted ─▶ started ─▶ erased ─▶ closed
     ▲  │  │        │ ▲        │
     │  │  │        ▼ │        ▼
     │  │  └─▶ closed │ blocked by a hold
     └──┴─────────────┴───┘
    a changed request: approvals die

Here it is decided and told; whatever keeps the data does the work between `started` and the entry
that says what was done::

    erasure.start(held, actor, now=now);  save      # intent: it is in the ledger's order from here
    erasure.check_may_erase(held_now)               # looked at again, after the intent is durable
    …the data is destroyed…
    erasure.carried_out(indexes, evidence, actor);  save

A hold that is recorded before the second look is seen by it. One that is recorded later came too
late, and the order of the entries says so. What has happened is always recorded: a payload that is
gone without an entry that says why is a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ledger.events.privacy import (
    ErasureBlocked,
    ErasureClosed,
    ErasureGranted,
    ErasureRequested,
    ErasureStarted,
    PayloadRedacted,
    RecordDisposed,
    SubjectErased,
)
from ledger.lifecycle.aggregate import Aggregate, applies, given
from ledger.lifecycle.approval import Approval, first_to_expire, has_run_out, use_together
from ledger.lifecycle.hold import Held

__all__ = ["APPROVERS", "MEANING", "Erasure"]

MEANING = "erasure_approved"
"""What an approval must mean to count for an erasure."""

APPROVERS = 2
"""How many people must approve one. What is erased cannot be brought back."""

Status = Literal["new", "requested", "granted", "blocked", "started", "erased", "closed"]
NO_DIGEST = "sha256:" + "0" * 64


class Erasure(Aggregate):
    """One case. Commands raise `RefusedError`; repeated, they record nothing."""

    PREFIX: ClassVar[str] = "privacy/"

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.status: Status = "new"
        self.authors: tuple[str, ...] = ()
        self.granted: ErasureGranted | None = None
        self.erased: frozenset[int] = frozenset()
        self.outcome = ""
        self.begun = False
        self._blocked: ErasureBlocked | None = None
        self._request: ErasureRequested | None = None

    # ------------------------------------------------------------------------------- what is known

    @property
    def request(self) -> ErasureRequested:
        """The request in force. Raises `RefusedError` before there is one."""
        if self._request is None:
            raise self.refusal("nobody asked for it", "request the erasure first")
        return self._request

    @property
    def digest(self) -> str:
        """What approvals bind to."""
        return self.request.request_digest

    @property
    def remaining(self) -> tuple[int, ...]:
        """The entries of the request whose data is not said to be gone."""
        return tuple(index for index in self.request.indexes if index not in self.erased)

    def check_may_erase(self, held: Held) -> None:
        """The second look, after the intent is durable: nothing that remains may be held."""
        if self.status != "started":
            raise self.refusal("nothing may be erased", "start it first")
        self._check_not_held(held)

    # ------------------------------------------------------------------------------------ decisions

    @classmethod
    def requested(
        cls,
        case_id: str,
        *,
        indexes: Sequence[int],
        ground: str,
        actor: str,
        subject: str | None = None,
        received_at: str | None = None,
    ) -> Erasure:
        """A new case; saving it fails with `ConflictError` where the id is taken."""
        erasure = cls(f"{cls.PREFIX}{case_id}")
        erasure._ask(indexes, ground, actor, subject, received_at)
        return erasure

    def change(
        self, indexes: Sequence[int], ground: str, actor: str, *, subject: str | None = None
    ) -> None:
        """Asks otherwise, before anything is begun; approvals of the old request die with it."""
        old = self.request
        if self.begun or self.status == "closed":
            raise self.refusal("the request can no longer change", "open another case")
        if (tuple(indexes), ground, subject) != (old.indexes, old.ground, old.subject):
            self._ask(indexes, ground, actor, subject, old.received_at)

    def grant(self, approvals: Sequence[Approval], actor: str, *, now: int) -> None:
        """Stands on the approvals from here on: save them in the same batch."""
        streams = tuple(sorted(approval.id for approval in approvals))
        if self.status == "granted" and self.granted and self.granted.approvals == streams:
            return
        again = self.status in ("granted", "blocked") and self._has_run_out(now)
        if not (self.status == "requested" or again):
            raise self.refusal("it cannot be granted now", "a request that waits can")
        use_together(
            approvals,
            by=self,
            digest=self.digest,
            meaning=MEANING,
            needed=APPROVERS,
            authors=self.authors,
            actor=actor,
            now=now,
        )
        event = ErasureGranted(
            request_digest=self.digest,
            approvals=streams,
            **given(expires_at=first_to_expire(approvals)),
        )
        self.record(event, actor)

    def block(self, held: Held, actor: str) -> None:
        """Holds in force cover some of it. Nothing of it is erased until they are lifted."""
        if self.status not in ("granted", "blocked", "started"):
            raise self.refusal("there is nothing to block", "a hold stops what was granted")
        held = self._held_of_mine(held)
        if not held:
            raise self.refusal("no hold covers what remains", "start it")
        event = ErasureBlocked(
            holds=tuple(sorted(held)),
            indexes=tuple(sorted({index for indexes in held.values() for index in indexes})),
        )
        if self.status != "blocked" or self._blocked != event:
            self.record(event, actor)

    def start(self, held: Held, actor: str, *, now: int) -> None:
        """Intent: the data may be gone from here on. Save it, then `check_may_erase`."""
        if self.status == "started":
            return
        if self.status not in ("granted", "blocked"):
            raise self.refusal("it cannot be started", "have it granted first")
        if self._has_run_out(now) and not self.begun:
            raise self.refusal("its approval ran out", "have it granted again")
        self._check_not_held(held)
        self.record(ErasureStarted(request_digest=self.digest), actor)

    def carried_out(self, indexes: Sequence[int], evidence: Mapping[str, Any], actor: str) -> None:
        """The data of these entries is gone. It is told whatever holds have come since."""
        if indexes and self.erased.issuperset(indexes):
            return
        if not self.begun or self.granted is None:
            raise self.refusal("nothing was begun", "start it before anything is erased")
        strange = sorted(set(indexes) - set(self.request.indexes))
        if strange or not indexes:
            raise self.refusal(
                f"the request does not name {strange or 'no entries at all'}",
                "tell what was erased of what was asked for",
            )
        self.record(self._done(tuple(indexes), evidence, self.granted), actor)

    def close(
        self, outcome: Literal["erased", "refused", "withdrawn"], actor: str, *, why: str = ""
    ) -> None:
        """The case is over: all of it is erased, or nothing is, and why."""
        if self.status == "closed" and self.outcome == outcome:
            return
        if self.status in ("new", "closed"):
            raise self.refusal("it cannot be closed", "open another case")
        if outcome == "erased" and self.status != "erased":
            raise self.refusal(
                f"{len(self.remaining)} of {len(self.request.indexes)} entries are not erased",
                "erase them first",
            )
        if outcome != "erased" and self.begun:
            raise self.refusal(f"it was begun, it is not {outcome}", "bring it to its end")
        if outcome != "erased" and not why:
            raise self.refusal(f"why it is {outcome} is not said", "say why")
        self.record(ErasureClosed(outcome=outcome, **given(why=why or None)), actor)

    # ---------------------------------------------------------------------------------- small rules

    def _ask(
        self,
        indexes: Sequence[int],
        ground: str,
        actor: str,
        subject: str | None,
        received_at: str | None,
    ) -> None:
        if not indexes:
            raise self.refusal("no entries are named", "name those that hold the data")
        request = ErasureRequested(
            number=1 if self._request is None else self._request.number + 1,
            indexes=tuple(indexes),
            ground=ground,
            request_digest=NO_DIGEST,
            **given(subject=subject, received_at=received_at),
        )
        digest = request.content_digest(self.id)
        self.record(request.model_copy(update={"request_digest": digest}), actor)

    def _done(
        self, indexes: tuple[int, ...], evidence: Mapping[str, Any], grant: ErasureGranted
    ) -> PayloadRedacted | SubjectErased:
        told = {
            "indexes": indexes,
            "ground": self.request.ground,
            "approvals": grant.approvals,
            "evidence": dict(evidence),
        }
        if self.request.subject is None:
            return PayloadRedacted.model_validate(told)
        return SubjectErased.model_validate({"subject": self.request.subject, **told})

    def _has_run_out(self, now: int) -> bool:
        return self.granted is not None and has_run_out(self.granted.expires_at, now)

    def _held_of_mine(self, held: Held) -> Held:
        mine = set(self.remaining)
        return {hold: indexes for hold, indexes in held.items() if mine.intersection(indexes)}

    def _check_not_held(self, held: Held) -> None:
        mine = self._held_of_mine(held)
        for hold, indexes in sorted(mine.items()):
            raise self.refusal(
                f"{hold} holds {_numbered(indexes)}", "record that it is blocked, and wait"
            )

    # --------------------------------------------------------------------- what events leave behind

    @applies(ErasureRequested)
    def _was_requested(self, event: ErasureRequested, actor: str) -> None:
        self._request, self.granted, self.status = event, None, "requested"
        self.authors = (*self.authors, actor)

    @applies(ErasureGranted)
    def _was_granted(self, event: ErasureGranted, actor: str) -> None:
        self.granted, self.status = event, "granted"

    @applies(ErasureBlocked)
    def _was_blocked(self, event: ErasureBlocked, actor: str) -> None:
        self._blocked, self.status = event, "blocked"

    @applies(ErasureStarted)
    def _was_started(self, event: ErasureStarted, actor: str) -> None:
        self.status, self.begun = "started", True

    @applies(PayloadRedacted, SubjectErased, RecordDisposed)
    def _was_erased(
        self, event: PayloadRedacted | SubjectErased | RecordDisposed, actor: str
    ) -> None:
        self.erased |= frozenset(event.indexes)
        if self._request is not None and not self.remaining:
            self.status = "erased"

    @applies(ErasureClosed)
    def _was_closed(self, event: ErasureClosed, actor: str) -> None:
        self.status, self.outcome = "closed", event.outcome


def _numbered(indexes: Sequence[int]) -> str:
    shown = ", ".join(map(str, indexes[:5]))
    more = f" and {len(indexes) - 5} more" if len(indexes) > 5 else ""
    return f"{'entry' if len(indexes) == 1 else 'entries'} {shown}{more}"

"""An approval's rules: one person says yes or no to one thing, bound to its digest, used once.

::

    requested ─▶ approved ─▶ used
        │  │        ├─▶ expired   its time ran out
        │  │        └─▶ voided    the subject changed, or the yes was taken back
        │  └─▶ rejected
        └─▶ expired | voided

Who asks may not decide, a machine may not decide, and a yes to one digest is none to another. What
needs k people needs k approvals, and `use_together` takes them in one step: all or none, each of
another person, none of whom wrote what they approve (docs/spec/lifecycle.md).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Literal

from ledger.canonical import parse_rfc3339
from ledger.events.approvals import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalUsed,
    ApprovalVoided,
)
from ledger.lifecycle.aggregate import Aggregate, applies, given

__all__ = ["Approval", "first_to_expire", "has_run_out", "use_together"]

Status = Literal["new", "requested", "approved", "rejected", "expired", "voided", "used"]
Answer = Literal["approved", "rejected"]
PENDING = ("requested", "approved")
"""The states in which it can still come to be of use, and so can still end otherwise."""


class Approval(Aggregate):
    """One approval. Commands raise `RefusedError`; repeated, they record nothing."""

    PREFIX: ClassVar[str] = "approval/"

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.status: Status = "new"
        self.requester = ""
        self.decision: tuple[str, Answer] | None = None
        self.used_by = ""
        self._request: ApprovalRequested | None = None

    # ------------------------------------------------------------------------------- what is known

    @property
    def request(self) -> ApprovalRequested:
        """What was asked for. Raises `RefusedError` where somebody answered without a question."""
        if self._request is None:
            raise self.refusal("nobody asked for it", "request an approval")
        return self._request

    @property
    def approver(self) -> str:
        """Who decided; empty before anybody did."""
        return self.decision[0] if self.decision else ""

    def check_usable(self, *, digest: str, meaning: str, now: int) -> None:
        """Raises `RefusedError` unless it is a yes of that meaning to exactly that, still valid."""
        if self.status != "approved":
            raise self.refusal("nothing can stand on it", "only an approval that says yes counts")
        self._check_digest(digest)
        if self.request.meaning != meaning:
            raise self.refusal(
                f"it means {self.request.meaning}, not {meaning}", "request one of that meaning"
            )
        self._check_time(now)

    # ------------------------------------------------------------------------------------ decisions

    @classmethod
    def requested(
        cls,
        approval_id: str,
        *,
        subject_digest: str,
        meaning: str,
        actor: str,
        policy: str | None = None,
        subject: str | None = None,
        pipeline: str | None = None,
        stage: str | None = None,
        roles: tuple[str, ...] = (),
        expires_at: str | None = None,
        reason: str | None = None,
    ) -> Approval:
        """A new question; saving it fails with `ConflictError` where the id is taken."""
        approval = cls(f"{cls.PREFIX}{approval_id}")
        optional = given(
            policy=policy,
            subject=subject,
            pipeline=pipeline,
            stage=stage,
            roles=roles,
            expires_at=expires_at,
            reason=reason,
        )
        approval.record(
            ApprovalRequested(subject_digest=subject_digest, meaning=meaning, **optional), actor
        )
        return approval

    def decide(
        self,
        answer: Answer,
        actor: str,
        *,
        digest: str,
        now: int,
        role: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Says yes or no to what has that digest, as the person saw it."""
        request = self.request
        self._check_digest(digest)
        if self.decision == (actor, answer) and self.status == answer:
            return
        if self.status != "requested":
            raise self.refusal("it cannot be decided any more", "request another approval")
        self._check_time(now)
        self._check_person(actor)
        if request.roles and role not in request.roles:
            raise self.refusal(
                f"{actor} decides as {role or 'nobody in particular'}",
                f"it takes one of the roles {', '.join(request.roles)}",
            )
        event = ApprovalDecided(
            decision=answer,
            meaning=request.meaning,
            subject_digest=digest,
            **given(role=role, reason=reason),
        )
        self.record(event, actor)

    def expire(self, actor: str, *, now: int) -> None:
        """Says that its time ran out, so that nobody waits for it. Never before it did."""
        if self.status == "expired":
            return
        if self.status not in PENDING:
            raise self.refusal("it cannot expire any more", "leave it as it is")
        if not has_run_out(self.request.expires_at, now):
            raise self.refusal(
                f"its time ({self.request.expires_at or 'no end'}) has not run out",
                "void it if the subject changed",
            )
        self.record(ApprovalExpired(subject_digest=self.request.subject_digest), actor)

    def void(self, actor: str, *, digest_now: str | None = None, reason: str | None = None) -> None:
        """Ends it: its subject has another digest now, or is gone, or the yes is taken back."""
        if self.status == "voided":
            return
        if self.status not in PENDING:
            raise self.refusal("it cannot be voided any more", "leave it as it is")
        digest = self.request.subject_digest
        if digest_now == digest:
            raise self.refusal(f"the subject still has the digest {digest}", "leave it as it is")
        self.record(
            ApprovalVoided(subject_digest=digest, **given(digest_now=digest_now, reason=reason)),
            actor,
        )

    def use(self, by: str, actor: str, *, digest: str, meaning: str, now: int) -> None:
        """A decision of the stream `by` stands on it: save both in one batch."""
        if self.status == "used" and self.used_by == by:
            return
        if self.status == "used":
            raise self.refusal(f"{self.used_by} stands on it", "each decision needs its own")
        self.check_usable(digest=digest, meaning=meaning, now=now)
        self.record(ApprovalUsed(subject_digest=digest, by=by), actor)

    # ---------------------------------------------------------------------------------- small rules

    def _check_digest(self, digest: str) -> None:
        if digest != self.request.subject_digest:
            raise self.refusal(
                f"it was asked for {self.request.subject_digest}, not for {digest}",
                "look at the subject again and request an approval of what it is now",
            )

    def _check_time(self, now: int) -> None:
        if has_run_out(self.request.expires_at, now):
            raise self.refusal(
                f"its time ran out at {self.request.expires_at}", "request another approval"
            )

    def _check_person(self, actor: str) -> None:
        if actor == self.requester:
            raise self.refusal(f"{actor} asked for it", "somebody else must decide")
        if not actor.startswith("user:"):
            raise self.refusal(f"{actor} is not a person", "a person must decide")

    # --------------------------------------------------------------------- what events leave behind

    @applies(ApprovalRequested)
    def _was_requested(self, event: ApprovalRequested, actor: str) -> None:
        self._request, self.requester, self.status = event, actor, "requested"

    @applies(ApprovalDecided)
    def _was_decided(self, event: ApprovalDecided, actor: str) -> None:
        self.decision, self.status = (actor, event.decision), event.decision

    @applies(ApprovalExpired)
    def _has_expired(self, event: ApprovalExpired, actor: str) -> None:
        self.status = "expired"

    @applies(ApprovalVoided)
    def _was_voided(self, event: ApprovalVoided, actor: str) -> None:
        self.status = "voided"

    @applies(ApprovalUsed)
    def _was_used(self, event: ApprovalUsed, actor: str) -> None:
        self.status, self.used_by = "used", event.by


def has_run_out(expires_at: str | None, now: int) -> bool:
    """Whether that time has passed; one that is not stated never does."""
    return expires_at is not None and now > parse_rfc3339(expires_at)


def first_to_expire(approvals: Sequence[Approval]) -> str | None:
    """When the first of them runs out, or None if none does."""
    times = [approval.request.expires_at for approval in approvals]
    return min((time for time in times if time is not None), key=parse_rfc3339, default=None)


def use_together(
    approvals: Sequence[Approval],
    *,
    by: Aggregate,
    digest: str,
    meaning: str,
    needed: int,
    authors: Collection[str],
    actor: str,
    now: int,
) -> None:
    """Lets a decision of `by` stand on all of them, or raises `RefusedError` and uses none.

    They are checked first and together: each a valid yes, at least `needed` people, no author among
    them. The caller saves `by` and every approval in one batch; whoever voids or uses one of them
    in between makes that batch a conflict.
    """
    for approval in approvals:
        approval.check_usable(digest=digest, meaning=meaning, now=now)
    people = {approval.approver for approval in approvals}
    own = sorted(people & set(authors))
    if own:
        raise by.refusal(f"{own[0]} wrote it and approves it", "somebody else must approve it")
    if len(people) < needed:
        raise by.refusal(
            f"{len(people)} of {needed} people have approved it", "request further approvals"
        )
    for approval in approvals:
        approval.use(by.id, actor, digest=digest, meaning=meaning, now=now)

"""A release's rules: changes of a pipeline's slots, proposed, approved by others, then bound.

::

    proposed ─▶ approved ─▶ completed ─▶ withdrawn
       ▲  └────────┼─────────────────────────▲
       └───────────┘
    a new proposal: approvals die

The proposal says how many people must approve it, and its digest covers that. The digest is the
release's own: a yes to `release/7` is none to `release/8`, whatever they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from ledger.errors import RefusedError
from ledger.events.bindings import BindingChanged
from ledger.events.releases import (
    ReleaseApproved,
    ReleaseChange,
    ReleaseCompleted,
    ReleaseProposed,
    ReleaseWithdrawn,
)
from ledger.lifecycle.aggregate import Aggregate, applies, given
from ledger.lifecycle.approval import Approval, first_to_expire, has_run_out, use_together

__all__ = ["MEANING", "Release"]

MEANING = "authorised_deployment"
"""What an approval must mean to count for a release."""

Status = Literal["new", "proposed", "approved", "completed", "withdrawn"]
NO_DIGEST = "sha256:" + "0" * 64


class Release(Aggregate):
    """One release. Commands raise `RefusedError`; repeated, they record nothing."""

    PREFIX: ClassVar[str] = "release/"

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.status: Status = "new"
        self.authors: tuple[str, ...] = ()
        self.approval: ReleaseApproved | None = None
        self._proposal: ReleaseProposed | None = None

    # ------------------------------------------------------------------------------- what is known

    @property
    def proposal(self) -> ReleaseProposed:
        """The proposal in force. Raises `RefusedError` before there is one."""
        if self._proposal is None:
            raise self.refusal("it has no proposal", "propose it first")
        return self._proposal

    @property
    def digest(self) -> str:
        """What approvals bind to."""
        return self.proposal.release_digest

    @property
    def pipeline_stream(self) -> str:
        """Where its bindings lie."""
        return f"pipeline/{self.proposal.pipeline}@{self.proposal.stage}"

    def bindings(self) -> Iterator[BindingChanged]:
        """What completing it binds, in the order of the proposal."""
        for change in self.proposal.changes:
            yield BindingChanged(
                pipeline=self.proposal.pipeline,
                stage=self.proposal.stage,
                slot=change.slot,
                asset_version=change.asset_version,
                change_id=self.id,
                **given(
                    previous=change.previous,
                    approval=self.approval.approvals[0] if self.approval else None,
                ),
            )

    # ------------------------------------------------------------------------------------ decisions

    @classmethod
    def proposed(
        cls,
        release_id: str,
        *,
        pipeline: str,
        stage: str,
        changes: Sequence[ReleaseChange],
        actor: str,
        approvers: int = 1,
        reason: str | None = None,
    ) -> Release:
        """A new release; saving it fails with `ConflictError` where the id is taken."""
        release = cls(f"{cls.PREFIX}{release_id}")
        proposal = ReleaseProposed(
            pipeline=pipeline,
            stage=stage,
            changes=tuple(changes),
            approvers=approvers,
            release_digest=NO_DIGEST,
            **given(reason=reason),
        )
        release.record(release._sealed(proposal), actor)
        return release

    def change(
        self,
        changes: Sequence[ReleaseChange],
        actor: str,
        *,
        approvers: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Proposes otherwise, before it is completed; approvals of the old proposal die with it."""
        old = self.proposal
        if self.status not in ("proposed", "approved"):
            raise self.refusal("its proposal can no longer change", "propose another release")
        proposal = self._sealed(
            ReleaseProposed(
                pipeline=old.pipeline,
                stage=old.stage,
                changes=tuple(changes),
                approvers=old.approvers if approvers is None else approvers,
                release_digest=NO_DIGEST,
                **given(reason=reason),
            )
        )
        if proposal.release_digest != old.release_digest:
            self.record(proposal, actor)

    def approve(self, approvals: Sequence[Approval], actor: str, *, now: int) -> None:
        """Stands on the approvals from here on: save them in the same batch."""
        streams = tuple(sorted(approval.id for approval in approvals))
        if self.status == "approved" and self.approval and self.approval.approvals == streams:
            return
        if not (self.status == "proposed" or (self.status == "approved" and self.has_run_out(now))):
            raise self.refusal("it cannot be approved now", "a proposal that waits can")
        use_together(
            approvals,
            by=self,
            digest=self.digest,
            meaning=MEANING,
            needed=self.proposal.approvers,
            authors=self.authors,
            actor=actor,
            now=now,
        )
        event = ReleaseApproved(
            release_digest=self.digest,
            approvals=streams,
            **given(expires_at=first_to_expire(approvals)),
        )
        self.record(event, actor)

    def complete(self, actor: str, *, now: int, bound: Mapping[str, str]) -> None:
        """The bindings are made, in the same batch. `bound` is what the slots hold before it."""
        if self.status == "completed":
            return
        if self.status != "approved" or self.approval is None:
            raise self.refusal("it cannot be completed", "have it approved first")
        if self.has_run_out(now):
            raise self.refusal(
                f"its approval ran out at {self.approval.expires_at}", "have it approved again"
            )
        self._check_bound(bound)
        event = ReleaseCompleted(release_digest=self.digest, approvals=self.approval.approvals)
        self.record(event, actor)

    def withdraw(self, why: str, actor: str) -> None:
        """It shall not happen, or not stand. Bindings stay: a rollback or a release moves them."""
        if self.status == "withdrawn":
            return
        self.record(ReleaseWithdrawn(release_digest=self.digest, why=why), actor)

    def has_run_out(self, now: int) -> bool:
        """Whether the approval it stands on was valid only until before `now`."""
        return self.approval is not None and has_run_out(self.approval.expires_at, now)

    # ---------------------------------------------------------------------------------- small rules

    def _sealed(self, proposal: ReleaseProposed) -> ReleaseProposed:
        digest = proposal.content_digest(self.id)
        return proposal.model_copy(update={"release_digest": digest})

    def _check_bound(self, bound: Mapping[str, str]) -> None:
        """Whoever approved saw what is replaced: it must still be there."""
        for change in self.proposal.changes:
            found = bound.get(change.slot)
            if change.previous is not None and found != change.previous:
                raise self._moved_on(change, found)

    def _moved_on(self, change: ReleaseChange, found: str | None) -> RefusedError:
        return self.refusal(
            f"{change.slot} holds {found or 'nothing'}, not {change.previous} as proposed",
            "propose the change from what is there now",
        )

    # --------------------------------------------------------------------- what events leave behind

    @applies(ReleaseProposed)
    def _was_proposed(self, event: ReleaseProposed, actor: str) -> None:
        self._proposal, self.approval, self.status = event, None, "proposed"
        self.authors = (*self.authors, actor)

    @applies(ReleaseApproved)
    def _was_approved(self, event: ReleaseApproved, actor: str) -> None:
        self.approval, self.status = event, "approved"

    @applies(ReleaseCompleted)
    def _was_completed(self, event: ReleaseCompleted, actor: str) -> None:
        self.status = "completed"

    @applies(ReleaseWithdrawn)
    def _was_withdrawn(self, event: ReleaseWithdrawn, actor: str) -> None:
        self.status = "withdrawn"

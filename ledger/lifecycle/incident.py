"""An incident's rules: opened once, told as it goes, closed once with its cause.

::

    open ─▶ (updated)… ─▶ closed

What was closed is not opened again: its report may have left the house. A new incident names the
old one in `about`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from ledger.events.incidents import IncidentClosed, IncidentOpened, IncidentUpdated
from ledger.lifecycle.aggregate import Aggregate, applies, given

__all__ = ["Incident"]

Status = Literal["new", "open", "closed"]


class Incident(Aggregate):
    """One incident. Commands raise `RefusedError`; repeated, they record nothing."""

    PREFIX: ClassVar[str] = "incident/"

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.status: Status = "new"
        self.severity = ""
        self.actions: tuple[str, ...] = ()
        self.reported_to: tuple[str, ...] = ()
        self._closing: tuple[IncidentClosed, str] | None = None

    # ------------------------------------------------------------------------------------ decisions

    @classmethod
    def opened(
        cls,
        incident_id: str,
        *,
        severity: str,
        summary: str,
        actor: str,
        aware_at: str | None = None,
        pipeline: str | None = None,
        stage: str | None = None,
        about: tuple[str, ...] = (),
    ) -> Incident:
        """A new incident; saving it fails with `ConflictError` where the id is taken."""
        incident = cls(f"{cls.PREFIX}{incident_id}")
        optional = given(aware_at=aware_at, pipeline=pipeline, stage=stage, about=about)
        incident.record(IncidentOpened(severity=severity, summary=summary, **optional), actor)
        return incident

    def update(
        self,
        actor: str,
        *,
        action: str | None = None,
        severity: str | None = None,
        reported_to: str | None = None,
    ) -> None:
        """Tells what was done, how grave it is now, whom it was reported to; what is known is left
        out, and nothing new is nothing recorded."""
        if self.status != "open":
            raise self.refusal("nothing more can be told of it", "open another that names it")
        news = given(
            action=None if action in self.actions else action,
            severity=None if severity == self.severity else severity,
            reported_to=None if reported_to in self.reported_to else reported_to,
        )
        if news:
            self.record(IncidentUpdated(**news), actor)

    def close(self, cause: str, actor: str, *, actions: tuple[str, ...] = ()) -> None:
        """It is over, and why it happened is known."""
        event = IncidentClosed(cause=cause, **given(actions=actions))
        if self._closing == (event, actor):
            return
        if self.status != "open":
            raise self.refusal("it cannot be closed", "open another that names it")
        self.record(event, actor)

    # --------------------------------------------------------------------- what events leave behind

    @applies(IncidentOpened)
    def _was_opened(self, event: IncidentOpened, actor: str) -> None:
        self.status, self.severity = "open", event.severity

    @applies(IncidentUpdated)
    def _was_updated(self, event: IncidentUpdated, actor: str) -> None:
        self.severity = event.severity or self.severity
        if event.action is not None:
            self.actions = (*self.actions, event.action)
        if event.reported_to is not None:
            self.reported_to = (*self.reported_to, event.reported_to)

    @applies(IncidentClosed)
    def _was_closed(self, event: IncidentClosed, actor: str) -> None:
        self.status, self._closing = "closed", (event, actor)

"""Incidents: something went wrong, and what was done about it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from ledger.events.event import Event
from ledger.events.fields import Name, Names, Prose, Proses, Stage, Time, Word, misfit

__all__ = ["IncidentClosed", "IncidentOpened", "IncidentUpdated"]


class IncidentOpened(Event):
    """An incident is known. `aware_at` starts the clocks that regulators set."""

    TYPE: ClassVar[str] = "incident.opened/1"
    STREAM: ClassVar[str] = "incident/{incident}"
    EXAMPLE_STREAM: ClassVar[str] = "incident/2026-031"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "severity": "major",
        "summary": "Weekend forecasts are a third too low since Friday.",
        "aware_at": "2026-11-21T07:40:00Z",
        "pipeline": "demand-forecast",
        "stage": "production",
        "about": ["model/forecaster@7"],
    }

    severity: Word = Field(description="minor, major, critical, serious, … (open)")
    summary: Prose = Field(description="what is wrong, in words")
    aware_at: Time | None = Field(default=None, description="when somebody became aware of it")
    pipeline: Name | None = Field(default=None, description="the pipeline that it concerns")
    stage: Stage | None = Field(default=None, description="its stage")
    about: Names = Field(default=(), description="what it is about: asset versions, runs, streams")


class IncidentUpdated(Event):
    """While it lasts: what was done, how grave it is seen now, whom it was reported to."""

    TYPE: ClassVar[str] = "incident.updated/1"
    STREAM: ClassVar[str] = "incident/{incident}"
    EXAMPLE_STREAM: ClassVar[str] = "incident/2026-031"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "action": "Rolled back to entry 1204.",
        "severity": "critical",
        "reported_to": "market surveillance authority",
    }

    action: Prose | None = Field(default=None, description="what was done, in words")
    severity: Word | None = Field(default=None, description="the severity from now on")
    reported_to: Name | None = Field(default=None, description="whom it was reported to")

    @model_validator(mode="after")
    def _says_something(self) -> IncidentUpdated:
        if self.action is None and self.severity is None and self.reported_to is None:
            raise misfit("says nothing: give an action, a severity or reported_to", "action")
        return self


class IncidentClosed(Event):
    """The incident is over; its cause is known."""

    TYPE: ClassVar[str] = "incident.closed/1"
    STREAM: ClassVar[str] = "incident/{incident}"
    EXAMPLE_STREAM: ClassVar[str] = "incident/2026-031"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "cause": "The new imputation filled closed days with the mean.",
        "actions": ["Rolled back to entry 1204.", "Added a check of closed days to the gate."],
    }

    cause: Prose = Field(description="why it happened, in words")
    actions: Proses = Field(default=(), description="what was done, in words")

"""Monitoring: what is measured while a model is in use."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag, model_validator

from ledger.canonical import parse_rfc3339
from ledger.events.evaluations import Metric
from ledger.events.event import Event, Part
from ledger.events.fields import Name, Number, Time, misfit

__all__ = ["DriftDetected", "Figure", "MonitoringObserved", "Window"]


class Window(Part):
    """A period of time that holds its first instant and not its last."""

    from_: Time = Field(alias="from", description="first instant, RFC 3339 with offset")
    to: Time = Field(description="the instant after the last")

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Window:
        if parse_rfc3339(self.from_) >= parse_rfc3339(self.to):
            raise misfit("the window must end after it begins", "to")
        return self


def _kind_of_figure(value: object) -> str:
    return "\0metric" if isinstance(value, (dict, Metric)) else "\0number"


Figure = Annotated[
    Annotated[Number, Tag("\0number")] | Annotated[Metric, Tag("\0metric")],
    Discriminator(_kind_of_figure),
]


class MonitoringObserved(Event):
    """Figures of something in use, over a window of time."""

    TYPE: ClassVar[str] = "monitoring.observed/1"
    STREAM: ClassVar[str] = "monitor/{monitor}"
    EXAMPLE_STREAM: ClassVar[str] = "monitor/forecast-error"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "subject": "model/forecaster@7",
        "window": {"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z"},
        "metrics": {"requests": 48_211, "mape_percent": {"value": 8.3, "n": 48_211}},
    }

    subject: Name = Field(description="what is watched: an asset version, pipeline/<p>@<stage>")
    window: Window = Field(description="the time that the figures cover")
    metrics: dict[Name, Figure] = Field(description="name to number, or to figure with its n")


class DriftDetected(Event):
    """A statistic has passed its threshold: what comes in is not what the model was made for."""

    TYPE: ClassVar[str] = "drift.detected/1"
    STREAM: ClassVar[str] = "monitor/{monitor}"
    EXAMPLE_STREAM: ClassVar[str] = "monitor/orders-drift"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "statistic": "population_stability_index",
        "value": 0.31,
        "threshold": 0.2,
        "baseline": "dataset/orders@2026-10-01",
        "subject": "model/forecaster@7",
        "feature": "units",
        "window": {"from": "2026-11-14T00:00:00Z", "to": "2026-11-21T00:00:00Z"},
    }

    statistic: Name = Field(description="what is computed")
    value: Number = Field(description="what it came to")
    threshold: Number = Field(description="what it must not pass")
    baseline: Name = Field(description="what it is compared with: an asset version, a period")
    subject: Name | None = Field(default=None, description="what is watched")
    feature: Name | None = Field(default=None, description="the input that drifts")
    window: Window | None = Field(default=None, description="the time that the value covers")

"""Evaluations: what a model or a dataset was measured to be, on what, with how many samples."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ledger.events.event import Event, Part
from ledger.events.fields import AssetRef, Count, Flag, Index, Name, Number, misfit

__all__ = ["Criterion", "EvaluationRecorded", "Metric", "Metrics", "Slice"]


class Metric(Part):
    """A figure with the number of samples behind it."""

    value: Number = Field(description="the figure")
    n: Count = Field(description="number of samples")
    interval: Annotated[tuple[Number, Number], Field(strict=False)] | None = Field(
        default=None, description="lower and upper end of the confidence interval"
    )
    level: Number | None = Field(default=None, description="confidence level of it, 0 to 1")
    unit: Name | None = Field(default=None, description="unit of the figure")

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> Metric:
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise misfit("ends before it begins", "interval")
        return self


Metrics = dict[Name, Metric]


class Slice(Part):
    """The same figures for a part of the samples: a region, an age group, weekends."""

    slice: Name = Field(description="which part")
    metrics: Metrics = Field(description="name to figure")


class Criterion(Part):
    """A bar that was set: which figure must be on which side of which value."""

    metric: Name = Field(description="name of the figure")
    operator: Literal["<", "<=", "=", ">=", ">"] = Field(description="the side")
    value: Number = Field(description="the value, in the figure's unit")
    defined_by: Index | None = Field(default=None, description="the entry that set it beforehand")


class EvaluationRecorded(Event):
    """Something was evaluated on a dataset, with these figures."""

    TYPE: ClassVar[str] = "evaluation.recorded/1"
    STREAM: ClassVar[str] = "evaluation/{evaluation}"
    EXAMPLE_STREAM: ClassVar[str] = "evaluation/forecaster-7-holdout"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "subject": "model/forecaster@7",
        "dataset": "dataset/holdout@2026-10",
        "metrics": {"mape_percent": {"value": 7.9, "n": 4210, "interval": [7.6, 8.2]}},
        "slices": [{"slice": "weekend", "metrics": {"mape_percent": {"value": 9.1, "n": 1203}}}],
        "criteria": [{"metric": "mape_percent", "operator": "<=", "value": 8.5}],
        "passed": True,
    }

    subject: Name = Field(description="what was evaluated: an asset version, or run/<id>")
    dataset: AssetRef = Field(description="what it was evaluated on")
    metrics: Metrics = Field(description="name to figure")
    slices: Annotated[tuple[Slice, ...], Field(strict=False)] = Field(
        default=(), description="figures of parts of the dataset"
    )
    criteria: Annotated[tuple[Criterion, ...], Field(strict=False)] | None = Field(
        default=None, description="the bars that were set"
    )
    passed: Flag | None = Field(default=None, description="whether all of them were met")

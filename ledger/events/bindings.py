"""Bindings: which asset version a slot holds, since when."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from ledger.events.event import Event
from ledger.events.fields import AssetRef, Name, Stage, misfit

__all__ = ["BindingChanged", "BindingRemoved"]


class BindingChanged(Event):
    """From its effective time on, the slot holds this asset version."""

    TYPE: ClassVar[str] = "binding.changed/1"
    STREAM: ClassVar[str] = "pipeline/{pipeline}@{stage}"
    EXAMPLE_STREAM: ClassVar[str] = "pipeline/demand-forecast@production"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pipeline": "demand-forecast",
        "stage": "production",
        "slot": "model",
        "asset_version": "model/forecaster@7",
        "previous": "model/forecaster@6",
        "reason": "Passed the gate: MAPE 7.9 % on the holdout, 8.4 % before.",
        "effective_at": "2026-11-21T05:00:00Z",
    }

    pipeline: Name = Field(description="the pipeline")
    stage: Stage = Field(description="its stage")
    slot: Name = Field(description="the slot that changes")
    asset_version: AssetRef = Field(description="what the slot holds from now on")
    previous: AssetRef | None = Field(
        default=None, description="what it held, as the source saw it"
    )
    approval: Name | None = Field(
        default=None, description="stream of the approval that allows it: approval/<id>"
    )


class BindingRemoved(Event):
    """From its effective time on, the slot holds nothing."""

    TYPE: ClassVar[str] = "binding.removed/1"
    STREAM: ClassVar[str] = "pipeline/{pipeline}@{stage}"
    EXAMPLE_STREAM: ClassVar[str] = "pipeline/demand-forecast@production"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pipeline": "demand-forecast",
        "stage": "production",
        "slot": "model/challenger",
        "previous": "model/forecaster@7",
        "reason": "The trial is over.",
    }

    pipeline: Name = Field(description="the pipeline")
    stage: Stage = Field(description="its stage")
    slot: Name = Field(description="the slot that becomes empty")
    asset_version: AssetRef | None = Field(
        default=None, description="what leaves the slot; the same as previous where both are given"
    )
    previous: AssetRef | None = Field(
        default=None, description="what it held, as the source saw it"
    )
    approval: Name | None = Field(
        default=None, description="stream of the approval that allows it: approval/<id>"
    )

    @model_validator(mode="after")
    def _one_version_leaves(self) -> BindingRemoved:
        if self.asset_version and self.previous and self.asset_version != self.previous:
            raise misfit("is not asset_version, but one version leaves the slot", "previous")
        return self

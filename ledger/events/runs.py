"""Runs: one execution, with what it ran on and what came out."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ledger.events.event import Event
from ledger.events.fields import AssetRefs, Digest, JsonObject, Name, Number, Stage, Word

__all__ = ["RunFinished", "RunStarted"]


class RunStarted(Event):
    """A run begins, on these inputs and in this state of its pipeline."""

    TYPE: ClassVar[str] = "run.started/1"
    STREAM: ClassVar[str] = "run/{run}"
    EXAMPLE_STREAM: ClassVar[str] = "run/8841223"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "run": "8841223",
        "kind": "training",
        "pipeline": "demand-forecast",
        "stage": "production",
        "state_digest": "sha256:" + "0d" * 32,
        "inputs": ["dataset/orders@2026-11-20", "code/forecast@4f2a91c"],
        "params": {"alpha": 0.5, "horizon_days": 14},
    }

    run: Name = Field(description="the run's id")
    kind: Word = Field(description="training, evaluation, batch_inference, service, … (open)")
    pipeline: Name = Field(description="the pipeline")
    stage: Stage = Field(description="its stage")
    state_digest: Digest | None = Field(default=None, description="digest of the state it runs on")
    inputs: AssetRefs = Field(default=(), description="the asset versions that it reads")
    params: JsonObject = Field(default_factory=dict, description="its parameters")


class RunFinished(Event):
    """A run is over, however it ended."""

    TYPE: ClassVar[str] = "run.finished/1"
    STREAM: ClassVar[str] = "run/{run}"
    EXAMPLE_STREAM: ClassVar[str] = "run/8841223"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "run": "8841223",
        "status": "succeeded",
        "outputs": ["model/forecaster@7"],
        "metrics": {"mape_percent": 7.9, "training_seconds": 412},
    }

    run: Name | None = Field(default=None, description="the run's id, as in the stream")
    status: Word = Field(description="succeeded, failed, aborted, … (open)")
    outputs: AssetRefs = Field(default=(), description="the asset versions that it made")
    metrics: dict[Name, Number] = Field(
        default_factory=dict, description="name to number; the unit belongs into the name"
    )

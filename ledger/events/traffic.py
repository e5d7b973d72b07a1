"""Traffic: the share of requests that each model version serves."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ledger.events.event import Event
from ledger.events.fields import AssetRef, Name, Percent, Stage, misfit

__all__ = ["TrafficChanged"]


class TrafficChanged(Event):
    """From its effective time on, requests are shared like this. The newest event counts, whole.

    In the modes `live`, `canary` and `ab` every request is answered by one version: the shares add
    up to 100 (within 0.000001), or there are none because nothing serves. In the mode `shadow` a
    version sees copies of requests, so shares need not add up.
    """

    TYPE: ClassVar[str] = "traffic.changed/1"
    STREAM: ClassVar[str] = "pipeline/{pipeline}@{stage}"
    EXAMPLE_STREAM: ClassVar[str] = "pipeline/demand-forecast@production"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pipeline": "demand-forecast",
        "stage": "production",
        "shares": {"model/forecaster@6": 90, "model/forecaster@7": 10},
        "mode": "canary",
    }

    pipeline: Name = Field(description="the pipeline")
    stage: Stage = Field(description="its stage")
    shares: dict[AssetRef, Percent] = Field(description="asset version to percent of the requests")
    mode: Literal["live", "canary", "shadow", "ab"] = Field(description="how they are shared")

    @model_validator(mode="after")
    def _shares_add_up(self) -> TrafficChanged:
        total = math.fsum(self.shares.values())
        if self.shares and self.mode != "shadow" and abs(total - 100) > 1e-6:
            raise misfit(
                f"the shares add up to {total:g}, not to 100, in mode {self.mode}", "shares"
            )
        return self

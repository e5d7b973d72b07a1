"""Observations: what a connector found in a system, whoever put it there."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from ledger.events.event import Event, Part
from ledger.events.fields import (
    AssetRef,
    Digest,
    Flag,
    JsonObject,
    Location,
    Name,
    Stage,
    Word,
)

__all__ = ["ObservationRecorded", "Observed"]


class Observed(Part):
    """One thing that was found."""

    slot: Name | None = Field(default=None, description="the slot that it belongs to, where known")
    asset_version: AssetRef | None = Field(default=None, description="what it is, where known")
    digest: Digest | None = Field(default=None, description="digest of its content, as computed")
    location: Location | None = Field(default=None, description="where it lies")
    details: JsonObject | None = Field(default=None, description="what else the system says of it")


class ObservationRecorded(Event):
    """A snapshot of a system, and whether it differs from what the ledger says should be there."""

    TYPE: ClassVar[str] = "observation.recorded/1"
    STREAM: ClassVar[str] = "observed/{system}/{target}"
    EXAMPLE_STREAM: ClassVar[str] = "observed/git/forecast.git"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "system": "git",
        "target": "forecast.git",
        "observed": [
            {
                "slot": "code",
                "asset_version": "code/forecast@4f2a91c",
                "digest": "sha1:" + "4f2a91c0d3" * 4,
                "details": {"branch": "main", "dirty": False},
            }
        ],
        "differs_from_declared": False,
        "pipeline": "demand-forecast",
        "stage": "production",
    }

    system: Word = Field(description="the connector's system: git, files, environment, …")
    target: Name = Field(description="what was looked at, in the system's words")
    observed: Annotated[tuple[Observed, ...], Field(strict=False)] = Field(
        description="what was found; empty: nothing"
    )
    differs_from_declared: Flag = Field(description="whether the ledger says otherwise")
    pipeline: Name | None = Field(
        default=None, description="the pipeline that it was compared with"
    )
    stage: Stage | None = Field(default=None, description="its stage")

"""Pipelines: the named places that a pipeline and stage have, and how they depend on each other."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from ledger.events.event import Event, Part
from ledger.events.fields import Flag, Kind, Name, Names, Stage, misfit

__all__ = ["PipelineDefined", "Slot"]


class Slot(Part):
    """A named place that holds one asset version at a time."""

    slot: Name = Field(description="the slot's name: model, data/orders, infra/cluster")
    kind: Kind = Field(description="the kind of asset that it holds")
    required: Flag = Field(
        default=True, description="whether the pipeline is incomplete without it"
    )
    depends_on: Names = Field(default=(), description="slots that must be restored before this one")


class PipelineDefined(Event):
    """The slots of a pipeline in a stage. The newest definition counts, whole."""

    TYPE: ClassVar[str] = "pipeline.defined/1"
    STREAM: ClassVar[str] = "pipeline/{pipeline}@{stage}"
    EXAMPLE_STREAM: ClassVar[str] = "pipeline/demand-forecast@production"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pipeline": "demand-forecast",
        "stage": "production",
        "slots": [
            {"slot": "data/orders", "kind": "dataset", "required": True},
            {"slot": "model", "kind": "model", "depends_on": ["data/orders"]},
        ],
    }

    pipeline: Name = Field(description="the pipeline")
    stage: Stage = Field(description="its stage: production, staging, any name")
    slots: Annotated[tuple[Slot, ...], Field(strict=False)] = Field(description="all its slots")

    @model_validator(mode="after")
    def _slots_form_an_order(self) -> PipelineDefined:
        wanted = {slot.slot: slot.depends_on for slot in self.slots}
        if len(wanted) != len(self.slots):
            raise misfit("two slots have the same name", "slots")
        _check_order(wanted)
        return self


def _check_order(wanted: Mapping[str, tuple[str, ...]]) -> None:
    """Raises if a slot depends on what is no slot here, or on itself in the end."""
    for slot, others in wanted.items():
        for other in others:
            if other not in wanted:
                raise misfit(f"{slot!r} depends on {other!r}, which is no slot here", "slots")
    try:
        TopologicalSorter(wanted).prepare()
    except CycleError as error:
        raise misfit(f"depend on each other: {' → '.join(error.args[1])}", "slots") from None

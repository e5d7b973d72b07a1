"""Assets: what a pipeline uses or makes, in versions that never change."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ledger.events.event import Event, Source
from ledger.events.fields import (
    AssetRefs,
    Count,
    Digest,
    JsonObject,
    Kind,
    Location,
    Name,
    Prose,
    Version,
)

__all__ = ["AssetVersionRecorded", "AssetVersionWithdrawn"]


class AssetVersionRecorded(Event):
    """A version of an asset exists, with this content at this place, made from these parents.

    Whoever records it has computed `digest` from the content. `restorable` says what a rollback can
    count on: `restorable` (the content can be fetched again, byte for byte), `recreatable` (it can
    be made again from its source), `verify_only` (it can only be compared).
    """

    TYPE: ClassVar[str] = "asset.version.recorded/1"
    STREAM: ClassVar[str] = "asset/{kind}/{name}"
    EXAMPLE_STREAM: ClassVar[str] = "asset/dataset/orders"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "kind": "dataset",
        "name": "orders",
        "version": "2026-11-20",
        "digest": "sha256:" + "5e" * 32,
        "location": "data/orders.csv",
        "size": 18_220_114,
        "source": {"system": "files", "ref": "data/orders.csv"},
        "parents": ["data_source/erp@2026-11-20"],
        "metadata": {"rows": 210_400, "columns": ["day", "store", "units"]},
        "restorable": "restorable",
    }

    kind: Kind = Field(description="dataset, model, code, config, environment, … (open)")
    name: Name = Field(description="the asset's name, unique for its kind")
    version: Version = Field(description="the version's name, unique for the asset")
    digest: Digest = Field(description="digest of the content")
    location: Location | None = Field(default=None, description="where the content lies")
    size: Count | None = Field(default=None, description="size of the content in bytes")
    source: Source | None = Field(
        default=None, description="the system that holds it, and its reference there, to restore it"
    )
    parents: AssetRefs = Field(default=(), description="the asset versions that it was made from")
    metadata: JsonObject = Field(
        default_factory=dict, description="schema, metrics, parameters, card: whatever describes it"
    )
    restorable: Literal["restorable", "recreatable", "verify_only"] = Field(
        default="verify_only", description="what a rollback can count on"
    )
    restorable_because: Prose | None = Field(
        default=None, description="why it is restorable, recreatable or neither"
    )


class AssetVersionWithdrawn(Event):
    """A version must not be used any more: it is wrong, unsafe or unlawful. It stays recorded."""

    TYPE: ClassVar[str] = "asset.version.withdrawn/1"
    STREAM: ClassVar[str] = "asset/{kind}/{name}"
    EXAMPLE_STREAM: ClassVar[str] = "asset/dataset/orders"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "kind": "dataset",
        "name": "orders",
        "version": "2026-11-20",
        "why": "The export left out all returns since 17 November.",
    }

    kind: Kind | None = Field(default=None, description="the asset's kind, as in the stream")
    name: Name | None = Field(default=None, description="the asset's name, as in the stream")
    version: Version = Field(description="the version that is withdrawn")
    why: Prose = Field(description="why, in words")

"""What the ledger says of itself: all in the one stream `ledger`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from ledger.events.event import Event, Part
from ledger.events.fields import (
    Count,
    Digest,
    JsonObject,
    Location,
    Name,
    Prose,
    Root,
    Time,
    Vkey,
    Word,
)

__all__ = [
    "CheckpointAnchored",
    "EpochStarted",
    "KeyRotated",
    "LedgerOpened",
    "MigrationApplied",
    "TreeHead",
]

_STREAM = "ledger"
_VKEY_A = "ledger.example.com/acme+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
_VKEY_B = "ledger.example.com/acme+0c4ea1f7+AWqDLdGPkGgxbXqeqs4lYJDa2DiPVbKp2RH0FWwXsLxP"


class TreeHead(Part):
    """A state of the tree."""

    tree_size: Count = Field(description="entries in the tree")
    root: Root | None = Field(default=None, description="root of the tree")


class LedgerOpened(Event):
    """Entry 0: the ledger begins under this name, signed with these keys."""

    TYPE: ClassVar[str] = "ledger.opened/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "origin": "ledger.example.com/acme",
        "keys": [_VKEY_A],
        "program": "asof-ledger 0.1.0",
    }

    origin: Name = Field(description="the ledger's name for ever, also its key name")
    keys: Annotated[tuple[Vkey, ...], Field(strict=False, min_length=1)] = Field(
        description="the keys that sign its checkpoints"
    )
    program: Name | None = Field(
        default=None, description="the program that began it, with version"
    )


class EpochStarted(Event):
    """Writing goes on after a promotion or a restore: what was signed, and what is here."""

    TYPE: ClassVar[str] = "epoch.started/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "why": "Restored from the backup of 20 November after the disk failed.",
        "from": {"tree_size": 1311, "root": "sha256:" + "3b" * 32},
        "to": {"tree_size": 1290, "root": "sha256:" + "9e" * 32},
    }

    why: Prose = Field(description="what happened, in words")
    from_: TreeHead | None = Field(
        default=None, alias="from", description="the highest tree that is known to have been signed"
    )
    to: TreeHead | None = Field(default=None, description="the tree from which writing goes on")


class KeyRotated(Event):
    """Checkpoints are signed with another key from here on.

    The checkpoint that holds this entry is the last one that the old key signs.
    """

    TYPE: ClassVar[str] = "key.rotated/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "why": "Yearly rotation.",
        "from": _VKEY_A,
        "to": _VKEY_B,
    }

    why: Prose | None = Field(default=None, description="why, in words")
    from_: Vkey = Field(alias="from", description="the key until now")
    to: Vkey = Field(description="the key from now on")


class CheckpointAnchored(Event):
    """Somebody else has seen and kept a checkpoint: a witness, a time-stamping authority."""

    TYPE: ClassVar[str] = "checkpoint.anchored/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "tree_size": 1280,
        "root": "sha256:" + "3b" * 32,
        "kind": "rfc3161",
        "to": "tsa.example.org",
        "anchored_at": "2026-11-21T06:00:00Z",
        "evidence_digest": "sha256:" + "8d" * 32,
    }

    tree_size: Count = Field(description="entries in the tree that is anchored")
    root: Root = Field(description="its root")
    kind: Word = Field(description="witness, rfc3161, … (open)")
    to: Name = Field(description="who has it")
    anchored_at: Time | None = Field(default=None, description="when, as that party says")
    evidence_digest: Digest | None = Field(default=None, description="digest of what it answered")
    location: Location | None = Field(default=None, description="where that answer lies")
    details: JsonObject | None = Field(default=None, description="serial number, policy, chain")


class MigrationApplied(Event):
    """The store's tables changed their form; the entries did not."""

    TYPE: ClassVar[str] = "migration.applied/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "migration": "0002_index_of_runs",
        "from": "1",
        "to": "2",
        "digest": "sha256:" + "6a" * 32,
    }

    migration: Name | None = Field(default=None, description="the migration's name")
    from_: Name | None = Field(default=None, alias="from", description="schema version before")
    to: Name = Field(description="schema version from now on")
    digest: Digest | None = Field(default=None, description="digest of the migration's text")
    why: Prose | None = Field(default=None, description="why, in words")

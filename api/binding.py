"""What is put into a slot: the events of capture, bind and unbind, with `previous` filled in.

A pipeline needs no definition before something is bound to it: `pipeline.defined/1` says which
slots are required, and until somebody records it nothing is missing (docs/adr/0063).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.asking import asset_version
from api.hints import hinted
from ledger.asset_ref import split_asset_ref
from ledger.canonical import canonical_digest
from ledger.errors import ConflictError, NotFoundError
from ledger.events import draft

if TYPE_CHECKING:
    from api.main import Rooms
    from ledger.draft import Draft

__all__ = ["Change", "bind", "capture", "current_state", "unbind"]

_NOTHING: dict[str, Any] = {"bindings": {}, "state_digest": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The drafts that change a slot; none where it already holds `asset_version`.

    `key` is an idempotency key made of the change itself and of the entry that it replaces: two
    programs that capture the same thing at once record it once, and coming back to an old version
    is a new change.
    """

    asset_version: str
    drafts: Sequence[Draft]
    key: str | None = None


def current_state(rooms: Rooms, pipeline: str, stage: str, *, now: int) -> Mapping[str, Any]:
    """The state now as JSON; an empty one for a pipeline that no entry is about yet."""
    try:
        return rooms.state(pipeline, stage, now=now).as_json()
    except NotFoundError:
        return _NOTHING


def capture(
    rooms: Rooms,
    recorded: Mapping[str, Any],
    *,
    pipeline: str,
    stage: str,
    slot: str,
    common: Mapping[str, Any],
    actor: str,
    now: int,
) -> Change:
    """Record the version that was seen (data of asset.version.recorded/1), if it is new, and bind
    it.

    Raises:
        ConflictError: this version is recorded with another digest; a version never changes.
    """
    ref = f"{recorded['kind']}/{recorded['name']}@{recorded['version']}"
    held = _held(rooms, pipeline, stage, slot, now=now)
    if held is not None and (held["asset_version"], held["digest"]) == (ref, recorded["digest"]):
        return Change(asset_version=ref, drafts=())
    drafts = []
    if _is_new(rooms, ref, recorded["digest"]):
        drafts.append(draft(("asset.version.recorded/1", dict(recorded)), actor=actor, now=now))
    data = _changed(pipeline, stage, slot, ref, held, common)
    drafts.append(draft(("binding.changed/1", data), actor=actor, now=now))
    key = canonical_digest([dict(recorded), data, None if held is None else held["since"]["index"]])
    return Change(asset_version=ref, drafts=drafts, key=f"capture:{key}")


def bind(
    rooms: Rooms,
    ref: str,
    *,
    pipeline: str,
    stage: str,
    slot: str,
    common: Mapping[str, Any],
    actor: str,
    now: int,
) -> Change:
    """Bind a recorded version. Raises NotFoundError for one that no entry records."""
    ref = asset_version(rooms, ref)
    if _recorded(rooms, ref) is None:
        raise hinted(
            NotFoundError(f"no entry records {ref}, so it cannot be bound"),
            f"asof capture SYSTEM TARGET -p {pipeline} -s {stage} --slot {slot}",
        )
    held = _held(rooms, pipeline, stage, slot, now=now)
    if held is not None and held["asset_version"] == ref:
        return Change(asset_version=ref, drafts=())
    data = _changed(pipeline, stage, slot, ref, held, common)
    return Change(
        asset_version=ref, drafts=[draft(("binding.changed/1", data), actor=actor, now=now)]
    )


def unbind(
    rooms: Rooms,
    *,
    pipeline: str,
    stage: str,
    slot: str,
    common: Mapping[str, Any],
    actor: str,
    now: int,
) -> Change:
    """Empty a slot. Raises NotFoundError where nothing is bound to it."""
    held = _held(rooms, pipeline, stage, slot, now=now)
    if held is None:
        raise hinted(
            NotFoundError(f"nothing is bound to {slot!r} of {pipeline!r} in stage {stage!r}"),
            f"asof state -p {pipeline} -s {stage}",
        )
    data = {
        "pipeline": pipeline,
        "stage": stage,
        "slot": slot,
        "previous": held["asset_version"],
        **common,
    }
    return Change(
        asset_version=held["asset_version"],
        drafts=[draft(("binding.removed/1", data), actor=actor, now=now)],
    )


def _held(
    rooms: Rooms, pipeline: str, stage: str, slot: str, *, now: int
) -> Mapping[str, Any] | None:
    held: Mapping[str, Any] | None = current_state(rooms, pipeline, stage, now=now)["bindings"].get(
        slot
    )
    return held


def _changed(
    pipeline: str,
    stage: str,
    slot: str,
    ref: str,
    held: Mapping[str, Any] | None,
    common: Mapping[str, Any],
) -> dict[str, Any]:
    data = {"pipeline": pipeline, "stage": stage, "slot": slot, "asset_version": ref, **common}
    return data if held is None else {**data, "previous": held["asset_version"]}


def _is_new(rooms: Rooms, ref: str, digest: str) -> bool:
    found = _recorded(rooms, ref)
    if found is not None and found != digest:
        raise ConflictError(
            f"{ref} is already recorded with the digest {found}, and this is {digest}; "
            "a version never changes, so give this one another --version"
        )
    return found is None


def _recorded(rooms: Rooms, ref: str) -> str | None:
    """The digest with which a version was first recorded, or None."""
    kind, name, version = split_asset_ref(ref)
    for record in rooms.reader.stream(f"asset/{kind}/{name}"):
        data = record.data
        if data is not None and record.type.startswith("asset.version.recorded/"):
            if data.get("version") == version:
                return str(data.get("digest"))
    return None

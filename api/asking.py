"""Questions as they are typed: words become moments and versions, and each question one answer.

What `--at`, `--known-at` and an asset version mean is resolved here, once for every door.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from api.main import GENERATOR
from ledger.errors import MalformedError, TamperError

if TYPE_CHECKING:
    from api.main import Rooms
    from projections.diff import Diff
    from projections.history import HistoryEntry
    from projections.impact import Impact
    from projections.lineage import Lineage
    from projections.state import State

__all__ = ["asset_version", "diff", "history", "impact", "lineage", "state"]


def state(
    rooms: Rooms,
    pipeline: str,
    stage: str,
    *,
    at: str | None,
    known_at: str | None,
    basis: int | None,
    now: int,
    replay: bool = False,
    proof: Path | None = None,
) -> State:
    """The state. With `replay` it is replayed too, from the nearest snapshot, and compared; with
    `proof` from every entry, and bundled.

    Raises TamperError where index and entries disagree: the entries are right, and the index, which
    holds nothing of its own, must be dropped.
    """
    if rooms.remote is not None:
        if proof is not None:
            raise MalformedError(
                "a proof is made beside the store; a server makes one as a report: POST …/reports",
                where="--proof",
            )
        return cast(
            "State",
            rooms.remote.state(
                pipeline, stage, at=at, known_at=known_at, basis=basis, replay=replay or None
            ),
        )
    moment, known = rooms.moment(at, now=now), rooms.moment(known_at, now=now, known=True)
    found = rooms.state(pipeline, stage, at=moment, known_at=known, basis=basis, now=now)
    if proof is None and not replay:
        return found
    again = rooms.replayed(
        pipeline,
        stage,
        at=moment,
        known_at=known,
        basis=found.basis.tree_size,
        now=now,
        evidence=proof is not None,
    )
    if again.state_digest != found.state_digest:
        raise TamperError(
            "the index says something else than the entries: `asof projections drop`, which drops "
            "its snapshots too, and ask again",
            expected=again.state_digest,
            found=found.state_digest,
        )
    if proof is not None:
        _bundle(rooms, again, proof, now)
    return again


def _bundle(rooms: Rooms, found: State, path: Path, now: int) -> None:
    from ledger.bundle import bundle_state

    bundle_state(
        path,
        rooms.reader,
        found.as_json(),
        made_at=now,
        generator=GENERATOR,
        signer=rooms.signer,
    )


def diff(
    rooms: Rooms,
    pipeline: str,
    stage: str,
    *,
    start: str,
    end: str | None,
    basis: int | None,
    now: int,
) -> Diff:
    """What is different at `end` from `start`."""
    if rooms.remote is not None:
        return cast("Diff", rooms.remote.diff(pipeline, stage, start=start, end=end, basis=basis))
    from projections.diff import diff_states

    before = rooms.state(pipeline, stage, at=rooms.moment(start, now=now), basis=basis, now=now)
    after = rooms.state(pipeline, stage, at=rooms.moment(end, now=now), basis=basis, now=now)
    return diff_states(rooms.reader, rooms.index, before, after)


def history(
    rooms: Rooms,
    pipeline: str,
    stage: str,
    *,
    slot: str | None,
    at: str | None,
    known_at: str | None,
    basis: int | None,
    after: tuple[int, int] | None = None,
    now: int,
) -> Iterator[HistoryEntry]:
    """The changes in effect, oldest first. Raises NotFoundError with the nearest pipeline."""
    if rooms.remote is not None:
        told = rooms.remote.history(
            pipeline, stage, slot=slot, at=at, known_at=known_at, basis=basis
        )
        return cast("Iterator[HistoryEntry]", told)
    from projections.history import history

    return rooms.nearest(
        pipeline,
        stage,
        lambda: history(
            rooms.reader,
            rooms.index,
            pipeline,
            stage,
            slot=slot,
            at=rooms.moment(at, now=now),
            known_at=rooms.moment(known_at, now=now, known=True),
            basis=basis,
            after=after,
            now=now,
        ),
    )


def lineage(
    rooms: Rooms,
    text: str,
    *,
    up: bool,
    down: bool,
    depth: int,
    at: str | None,
    known_at: str | None,
    basis: int | None,
    now: int,
) -> Lineage:
    """The graph around a version, up, down, or both where neither or both are asked for."""
    if rooms.remote is not None:
        told = rooms.remote.lineage(
            text, up=up, down=down, depth=depth, at=at, known_at=known_at, basis=basis
        )
        return cast("Lineage", told)
    from projections.lineage import lineage

    return lineage(
        rooms.reader,
        rooms.index,
        asset_version(rooms, text),
        direction="both" if up == down else "up" if up else "down",
        depth=depth,
        at=rooms.moment(at, now=now),
        known_at=rooms.moment(known_at, now=now, known=True),
        basis=basis,
        now=now,
    )


def impact(
    rooms: Rooms,
    text: str,
    *,
    at: str | None,
    known_at: str | None,
    basis: int | None,
    now: int,
) -> Impact:
    """What stood on a version."""
    if rooms.remote is not None:
        return cast("Impact", rooms.remote.impact(text, at=at, known_at=known_at, basis=basis))
    from projections.impact import impact

    return impact(
        rooms.reader,
        rooms.index,
        asset_version(rooms, text),
        at=rooms.moment(at, now=now),
        known_at=rooms.moment(known_at, now=now, known=True),
        basis=basis,
        now=now,
    )


def asset_version(rooms: Rooms, text: str) -> str:
    """The asset version that was typed: whole, or cut off (`code/shop@4f2a91c0b7d5…`) where only
    one recorded version begins so. What no entry records is returned as it is.

    Raises MalformedError for what is no asset version, or begins several.
    """
    from ledger.asset_ref import split_asset_ref

    kind, name, beginning = split_asset_ref(text.removesuffix("…"))
    versions = set(_versions(rooms, kind, name))
    if beginning in versions:
        return text.removesuffix("…")
    found = sorted(version for version in versions if version.startswith(beginning))
    if len(found) > 1:
        told = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise MalformedError(f"{text!r} is the beginning of several versions: {told}")
    return f"{kind}/{name}@{found[0]}" if found else text


def _versions(rooms: Rooms, kind: str, name: str) -> Iterator[str]:
    for record in rooms.reader.stream(f"asset/{kind}/{name}"):
        version = (record.data or {}).get("version")
        if isinstance(version, str) and record.type.startswith("asset.version.recorded/"):
            yield version

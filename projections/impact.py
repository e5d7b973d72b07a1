"""What an asset version touched: what was made from it, where that was bound, what it served, and
when.

::

    found = impact(reader, index, "dataset/orders@2026-11-13", now=now)
    found.versions       # ('model/forecaster@6', 'model/forecaster@7'): made of it
    found.bound[0]       # model/forecaster@7 in demand-forecast, production, from … to …
    found.served[0]      # 10 % of the traffic, from … to …

The question after an incident: "this data was wrong; what stood on it, and who met it?" Nothing is
guessed: a use that no entry states is not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ledger.canonical import format_time
from projections.at import position
from projections.facts import fact_of, shares_of
from projections.lineage import known_version, walk

if TYPE_CHECKING:
    from ledger.reader import Basis, Reader
    from projections.at import Moment, Position
    from projections.index import Index, Interval

__all__ = ["Bound", "Impact", "Served", "UsedBy", "impact"]

DEEP: Final = 100
USES: Final = 1_000
"""Uses of one version that are listed; more are said to be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A version held a slot from one instant to another (None: it still does)."""

    asset_version: str
    pipeline: str
    stage: str
    slot: str
    start: int
    stop: int | None
    index: int

    def as_json(self) -> dict[str, Any]:
        return {
            "asset_version": self.asset_version,
            "pipeline": self.pipeline,
            "stage": self.stage,
            "slot": self.slot,
            **_span(self.start, self.stop),
            "index": self.index,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A version got a share of the requests; `shadow` means copies that nobody saw the answers
    of.
    """

    asset_version: str
    pipeline: str
    stage: str
    percent: Any
    shadow: bool
    start: int
    stop: int | None
    index: int

    def as_json(self) -> dict[str, Any]:
        return {
            "asset_version": self.asset_version,
            "pipeline": self.pipeline,
            "stage": self.stage,
            "percent": self.percent,
            "shadow": self.shadow,
            **_span(self.start, self.stop),
            "index": self.index,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedBy:
    """A run that read or made a version."""

    run: str
    asset_version: str
    role: str
    index: int

    def as_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "asset_version": self.asset_version,
            "role": self.role,
            "index": self.index,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """All that stood on a version, itself included. `truncated` says what was left out, or is
    None.
    """

    asset_version: str
    mode: str
    versions: tuple[str, ...]
    runs: tuple[UsedBy, ...]
    bound: tuple[Bound, ...]
    served: tuple[Served, ...]
    truncated: str | None
    basis: Basis

    def as_json(self) -> dict[str, Any]:
        return {
            "asset_version": self.asset_version,
            "mode": self.mode,
            "versions": list(self.versions),
            "runs": [item.as_json() for item in self.runs],
            "bound": [item.as_json() for item in self.bound],
            "served": [item.as_json() for item in self.served],
            "truncated": self.truncated,
            "basis": self.basis.as_json(),
        }

    def summary(self) -> list[str]:
        """The impact in lines for people."""
        lines = [f"{self.asset_version}, {self.mode}"]
        lines += [f"  made from it: {ref}" for ref in self.versions]
        lines += [
            f"  {item.asset_version} was bound to {item.slot} of {item.pipeline} in {item.stage} "
            f"{_words(item.start, item.stop)} (entry {item.index})"
            for item in self.bound
        ]
        lines += [
            f"  {item.asset_version} served {item.percent} % of "
            f"{item.pipeline} in {item.stage} {_words(item.start, item.stop)} (entry {item.index})"
            + (", in the shadow" if item.shadow else "")
            for item in self.served
        ]
        if len(lines) == 1:
            lines.append("  nothing was made from it, and it was bound nowhere")
        return lines if self.truncated is None else [*lines, f"  {self.truncated}"]


def impact(
    reader: Reader,
    index: Index,
    asset_version: str,
    *,
    at: Moment | None = None,
    known_at: Moment | None = None,
    basis: int | None = None,
    now: int,
) -> Impact:
    """What stood on a version at a position. Raises MalformedError, or NotFoundError where none
    names it.
    """
    where = position(reader, at=at, known_at=known_at, basis=basis, now=now)
    known_version(index, asset_version, where)
    distances, truncated = walk(index, asset_version, where, side="down", depth=DEEP)
    below = sorted(distances, key=lambda ref: (distances[ref], ref))
    refs = [asset_version, *(ref for ref in below if ref != asset_version)]
    uses = _Uses(reader, index, where)
    bound = [item for ref in refs for item in uses.bound(ref)]
    served = [item for ref in refs for item in uses.served(ref)]
    runs = [item for ref in refs for item in uses.runs(ref)]
    return Impact(
        asset_version=asset_version,
        mode=where.mode,
        versions=tuple(refs[1:]),
        runs=tuple(runs),
        bound=tuple(sorted(bound, key=lambda item: (item.start, item.index))),
        served=tuple(sorted(served, key=lambda item: (item.start, item.index))),
        truncated=truncated or uses.truncated,
        basis=reader.basis(where.basis, head=where.head),
    )


class _Uses:
    """The uses of versions at one position, each read from the ledger once."""

    def __init__(self, reader: Reader, index: Index, where: Position) -> None:
        self._reader = reader
        self._index = index
        self._where = where
        self.truncated: str | None = None

    def bound(self, ref: str) -> Iterator[Bound]:
        for item in self._intervals(ref):
            if item.part == "slot":
                yield Bound(
                    asset_version=ref,
                    pipeline=item.pipeline,
                    stage=item.stage,
                    slot=item.name,
                    start=item.start,
                    stop=item.stop,
                    index=item.entry,
                )

    def served(self, ref: str) -> Iterator[Served]:
        for item in self._intervals(ref):
            percent = self._percent(ref, item) if item.part == "traffic" else 0
            if percent:
                yield Served(
                    asset_version=ref,
                    pipeline=item.pipeline,
                    stage=item.stage,
                    percent=percent,
                    shadow=item.name == "shadow",
                    start=item.start,
                    stop=item.stop,
                    index=item.entry,
                )

    def runs(self, ref: str) -> Iterator[UsedBy]:
        where = self._where
        for stream, role, entry in self._index.runs_of(
            ref, at=where.at, known=where.known, limit=USES
        ):
            run = stream.removeprefix("run/")
            yield UsedBy(run=run, asset_version=ref, role=("input", "output")[role], index=entry)

    def _percent(self, ref: str, item: Interval) -> Any:
        fact = fact_of(self._reader.entry(item.entry).row)
        return 0 if fact is None else shares_of(fact).get(ref, 0)

    def _intervals(self, ref: str) -> list[Interval]:
        where = self._where
        found = self._index.intervals(ref, at=where.at, known=where.known, limit=USES + 1)
        if len(found) > USES:
            self.truncated = (
                f"{ref} was used more than {USES} times: "
                f"{USES} of them are listed; give an earlier --at for fewer"
            )
        return found[:USES]


def _span(start: int, stop: int | None) -> dict[str, Any]:
    return {"from": format_time(start), "to": None if stop is None else format_time(stop)}


def _words(start: int, stop: int | None) -> str:
    return f"from {format_time(start)} " + ("on" if stop is None else f"to {format_time(stop)}")

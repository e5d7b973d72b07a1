"""What an asset version was made from, and what was made from it, as of a time.

::

    graph = lineage(reader, index, "model/forecaster@7", direction="up", depth=3, now=now)
    graph.edges[0].parent, graph.edges[0].child, graph.edges[0].run

Nodes are versions, never "the latest": an edge says which version went into which, which run did
it (or that the record of the version itself names its parents) and by which entry that is known.
An edge is there if it was known and in effect at the asked position.

The graph is bounded on purpose: it begins with one step, and stops at `CAP` nodes with a message
that says so. A graph that nobody can read answers nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ledger.errors import MalformedError, NotFoundError
from projections.at import position
from projections.facts import parse_ref

if TYPE_CHECKING:
    from ledger.reader import Basis, Reader
    from projections.at import Moment, Position
    from projections.index import Index, RunEdge

__all__ = ["CAP", "DEPTH", "Edge", "Lineage", "Node", "known_version", "lineage", "walk"]

CAP: Final = 150
DEPTH: Final = 1
Direction = Literal["up", "down", "both"]
Side = Literal["up", "down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A version, its distance from the asked one (negative: made from), and whether an entry
    records it.
    """

    asset_version: str
    distance: int
    recorded: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "asset_version": self.asset_version,
            "distance": self.distance,
            "recorded": self.recorded,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """`child` was made from `parent`: by a run, or (run is None) as the child's own record says."""

    parent: str
    child: str
    run: str | None
    index: int

    def as_json(self) -> dict[str, Any]:
        return {
            "parent": self.parent,
            "child": self.child,
            "run": self.run,
            "index": self.index,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A graph around one version. `truncated` says in words what was left out, or is None."""

    asset_version: str
    mode: str
    depth: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    truncated: str | None
    basis: Basis

    def as_json(self) -> dict[str, Any]:
        return {
            "asset_version": self.asset_version,
            "mode": self.mode,
            "depth": self.depth,
            "nodes": [node.as_json() for node in self.nodes],
            "edges": [edge.as_json() for edge in self.edges],
            "truncated": self.truncated,
            "basis": self.basis.as_json(),
        }

    def summary(self) -> list[str]:
        """The graph in lines for people: each edge once."""
        lines = [f"{self.asset_version}, {self.mode}, {self.depth} steps"]
        lines += [
            f"  {edge.child} was made from {edge.parent}"
            f" ({edge.run or 'as its record says'}, entry {edge.index})"
            for edge in self.edges
        ]
        return lines if self.truncated is None else [*lines, f"  {self.truncated}"]


def lineage(
    reader: Reader,
    index: Index,
    asset_version: str,
    *,
    direction: Direction = "both",
    depth: int = DEPTH,
    at: Moment | None = None,
    known_at: Moment | None = None,
    basis: int | None = None,
    now: int,
) -> Lineage:
    """The graph around a version. Raises MalformedError, or NotFoundError where no entry names
    it.
    """
    if depth < 1:
        raise MalformedError(f"a lineage has a depth of at least 1, not {depth}")
    where = position(reader, at=at, known_at=known_at, basis=basis, now=now)
    known_version(index, asset_version, where)
    found = _Graph(index, where)
    for side in ("up", "down") if direction == "both" else (direction,):
        found.grow(asset_version, side, depth)
    found.distances[asset_version] = 0
    return Lineage(
        asset_version=asset_version,
        mode=where.mode,
        depth=depth,
        nodes=found.nodes(),
        edges=tuple(sorted(found.edges.values(), key=lambda edge: (edge.index, edge.parent))),
        truncated=found.truncated,
        basis=reader.basis(where.basis, head=where.head),
    )


def known_version(index: Index, ref: str, where: Position) -> None:
    """Bring the index up, and see to it that some known entry records or uses the version."""
    if parse_ref(ref) is None:
        raise MalformedError(
            f"{ref!r} is not an asset version; "
            "write <kind>/<name>@<version>, such as model/forecaster@3"
        )
    if index.size() < where.basis:
        index.catch_up()
    if not index.names(ref, where.at, where.known):
        raise NotFoundError(f"no entry records or uses {ref} ({where.mode})")


def walk(
    index: Index, ref: str, where: Position, *, side: Side, depth: int
) -> tuple[dict[str, int], str | None]:
    """Distances of all versions above or below one, and what was left out, in words."""
    found = _Graph(index, where)
    found.grow(ref, side, depth)
    return found.distances, found.truncated


class _Graph:
    """A breadth-first search that stops at `CAP` nodes."""

    def __init__(self, index: Index, where: Position) -> None:
        self._index = index
        self._where = where
        self.distances: dict[str, int] = {}
        self.edges: dict[tuple[str, str, str], Edge] = {}
        self.truncated: str | None = None

    def grow(self, root: str, side: Side, depth: int) -> None:
        step = -1 if side == "up" else 1
        seen = {root}
        layer = [root]
        for distance in range(1, depth + 1):
            layer = [other for ref in layer for other in self._next(ref, side, seen)]
            self.distances |= {
                other: step * distance for other in layer if other not in self.distances
            }
            if not layer or self.truncated is not None:
                return

    def _next(self, ref: str, side: Side, seen: set[str]) -> list[str]:
        """The new neighbours on one side; all their edges are kept, also to versions met before."""
        look: Callable[..., list[RunEdge]] = (
            self._index.parents if side == "up" else self._index.children
        )
        found = look(ref, at=self._where.at, known=self._where.known, limit=CAP + 1)
        new: list[str] = []
        for edge in found:
            if edge.ref not in seen:
                if len(seen) >= CAP:
                    self.truncated = (
                        f"more than {CAP} versions: the rest is left out; "
                        "narrow it with a smaller depth, one direction, or another version"
                    )
                    break
                seen.add(edge.ref)
                new.append(edge.ref)
            self._keep(ref, side, edge)
        return new

    def _keep(self, ref: str, side: Side, edge: RunEdge) -> None:
        parent, child = (edge.ref, ref) if side == "up" else (ref, edge.ref)
        run = edge.run.removeprefix("run/") or None
        made = Edge(parent=parent, child=child, run=run, index=edge.entry)
        self.edges.setdefault((parent, child, edge.run), made)

    def nodes(self) -> tuple[Node, ...]:
        known = self._where.known
        ordered = sorted(self.distances.items(), key=lambda item: (item[1], item[0]))
        return tuple(
            Node(
                asset_version=ref,
                distance=distance,
                recorded=bool(self._index.records([ref], known)[1]),
            )
            for ref, distance in ordered
        )

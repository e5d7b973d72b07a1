"""A small ledger that reads as a story: `demand` in `live` from first training to a mistake.

Entry by entry (index, seconds after START):

    0    0  opened                         7  30  service:ci binds model/m@2 (reason: better)
    1   10  dataset d@1 recorded           8  30  traffic 100 % m@2
    2   10  model m@1 from d@1 recorded    9  60  user:ann binds dataset d@2 late: since 25
    3   10  slots defined                 10  60  run t2 finished, made m@2
    4   10  d@1 bound to data             11  90  incident 7 opened, of demand
    5   10  m@1 bound to model
    6   20  run t2 started on d@2
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from ledger.note import Signer
from ledger.reader import Reader
from ledger.stores.memory import MemoryStore
from projections.at import Moment, parse_at
from projections.index import Index
from tests.support.histories import SECOND, START, draft, ledger_of

WHERE = {"pipeline": "demand", "stage": "live"}
STREAM = "pipeline/demand@live"
NOW = START + 1000 * SECOND


@dataclass(frozen=True)
class Story:
    """The open ledger with its index."""

    reader: Reader
    index: Index
    store: MemoryStore
    write: Any

    def at(self, text: str, **how: Any) -> Moment:
        return parse_at(text, reader=self.reader, now=NOW, **how)


def second(after: int) -> str:
    """An instant of the story as text."""
    from ledger.canonical import format_time

    return format_time(START + after * SECOND)


def recorded(kind: str, name: str, version: str, digest: str, **more: Any) -> Any:
    data = {
        "kind": kind,
        "name": name,
        "version": version,
        "digest": f"sha256:{digest * 64}",
        "location": f"{name}.bin",
        "source": {"system": "files", "ref": f"sha256:{digest * 64}"},
        "restorable": "restorable",
    }
    return draft("asset.version.recorded/1", f"asset/{kind}/{name}", "service:ci", data | more)


def changed(
    slot: str, ref: str, actor: str = "service:ci", late: int | None = None, **more: Any
) -> Any:
    data = WHERE | {"slot": slot, "asset_version": ref} | more
    return draft(
        "binding.changed/1", STREAM, actor, data, None if late is None else START + late * SECOND
    )


def removed(slot: str) -> Any:
    return draft("binding.removed/1", STREAM, "user:ann", WHERE | {"slot": slot})


def traffic(shares: dict[str, float], mode: str = "live") -> Any:
    return draft("traffic.changed/1", STREAM, "user:ann", WHERE | {"shares": shares, "mode": mode})


def started(run: str, inputs: list[str]) -> Any:
    data = WHERE | {"run": run, "kind": "training", "inputs": inputs}
    return draft("run.started/1", f"run/{run}", "service:ci", data)


def finished(run: str, outputs: list[str]) -> Any:
    data = {"status": "succeeded", "outputs": outputs}
    return draft("run.finished/1", f"run/{run}", "service:ci", data)


SLOTS = [
    {"slot": "data", "kind": "dataset"},
    {"slot": "model", "kind": "model", "depends_on": ["data"]},
    {"slot": "env", "kind": "environment"},
    {"slot": "note", "kind": "config", "required": False},
]

BEGINNING = [
    (0, [draft("note.added/1", "note/first", "user:ann", {"text": "opened"})]),
    (
        10,
        [
            recorded("dataset", "d", "1", "1", metadata={"rows": 10}),
            recorded("model", "m", "1", "a", parents=["dataset/d@1"], metadata={"mape": {"v": 9}}),
            draft("pipeline.defined/1", STREAM, "user:ann", WHERE | {"slots": SLOTS}),
            changed("data", "dataset/d@1"),
            changed("model", "model/m@1"),
        ],
    ),
    (20, [started("t2", ["dataset/d@2"])]),
    (30, [changed("model", "model/m@2", reason="better"), traffic({"model/m@2": 100})]),
    (60, [changed("data", "dataset/d@2", "user:ann", late=25), finished("t2", ["model/m@2"])]),
    (
        90,
        [
            draft(
                "incident.opened/1",
                "incident/7",
                "user:ann",
                WHERE | {"severity": "major", "summary": "low", "aware_at": "2026-11-21T07:40:00Z"},
            )
        ],
    ),
]


@contextmanager
def story() -> Iterator[Story]:
    """The ledger of the story, writable on, with an index that is up to date."""
    store, signer = MemoryStore(), Signer.from_seed("test.example/story", b"\x07" * 32)
    with ledger_of(store, signer) as write:
        for after, drafts in BEGINNING:
            write(START + after * SECOND, drafts)
        reader = Reader(store, signer.vkey)
        with closing(Index.open(None, reader)) as index:
            index.catch_up()
            yield Story(reader, index, store, write)
    store.close()

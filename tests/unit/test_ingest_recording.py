"""From the spool into a real ledger: the order, what fails, and what finds its key used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from api.main import ingest_translators
from api.service.ingest import spool as spooling
from api.service.ingest.recording import Ingest
from api.service.ingest.spool import Spool
from ledger.draft import Draft
from ledger.errors import ConflictError, MalformedError, StoreError
from ledger.opening import Ledger
from ledger.writer import Appended
from tests.support.ledgers import SettableClock, sqlite_ledger


@dataclass
class Here:
    """One ledger, as ingest needs it; appends to the streams in `away` fail."""

    ledger: Ledger
    away: dict[str, Exception] = field(default_factory=dict)
    name: str = "acme"

    async def append(self, drafts: Sequence[Draft], *, key: str | None = None) -> Appended:
        if drafts[0].stream in self.away:
            raise self.away[drafts[0].stream or ""]
        return await asyncio.wrap_future(self.ledger.writer.submit(drafts, idempotency_key=key))

    def told(self) -> list[tuple[str, str, str]]:
        entries = [one for one in self.ledger.reader.entries() if one.index > 0]
        return [(one.type, one.stream, one.actor) for one in entries]


@dataclass
class World:
    here: Here
    spool: Spool
    served: dict[str, Here]
    ingest: Ingest

    def take(self, system: str, body: Any, *, actor: str = "service:a", **more: Any) -> bool:
        data = json.dumps(body).encode()
        taking = self.ingest.take(
            cast("Any", self.here),
            system,
            delivery=f"{actor}{data!r}",
            actor=actor,
            headers={},
            body=data,
            **more,
        )
        return asyncio.run(taking)

    def drain(self) -> int:
        return asyncio.run(self.ingest.drain())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger = sqlite_ledger(tmp_path, SettableClock())
    spool = Spool(tmp_path / "spool.db")
    here = Here(ledger)
    served = {"acme": here}
    yield World(here, spool, served, Ingest(spool, cast("Any", served), ingest_translators()))
    spool.close()
    ledger.close()


def note(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(number),
        "source": "/ci",
        "type": "asof.note.added/1",
        "subject": f"note/{number}",
        "data": {"text": "go"},
    }


def run(kind: str, at: str = "09:00:00") -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": f"2026-11-20T{at}Z",
        "run": {"runId": "r"},
        "job": {"namespace": "n", "name": "j"},
    }


def test_what_waits_is_recorded_in_its_order(world: World) -> None:
    for number in range(150):
        world.take("cloudevents", note(number))
    assert [world.drain(), world.drain(), world.drain()] == [100, 50, 0]
    assert [stream for _, stream, _ in world.here.told()] == [f"note/{n}" for n in range(150)]
    assert world.spool.counts() == {"waiting": 0, "dead": 0, "done": 150}


@pytest.mark.parametrize(
    ("error", "dead"),
    [
        (StoreError("the store is away"), 0),
        (MalformedError("it does not fit"), 1),
        (ZeroDivisionError("a mistake of ours"), 0),
    ],
)
def test_one_that_fails_holds_up_no_other(world: World, error: Exception, dead: int) -> None:
    world.here.away["note/0"] = error
    for number in range(3):
        world.take("cloudevents", note(number))
    world.drain()
    assert [stream for _, stream, _ in world.here.told()] == ["note/1", "note/2"]
    assert world.spool.counts() == {"waiting": 1 - dead, "dead": dead, "done": 2}
    if dead:
        (line,) = world.spool.listed("acme", state="dead", after=0, limit=9)
        assert line["reason"] == "it does not fit"
    else:
        assert world.drain() == 0, "not before its turn"
        world.here.away.clear()
        world.spool._connection.execute("UPDATE delivery SET not_before = 0")
        assert world.drain() == 1 and len(world.here.told()) == 3


def test_a_system_in_order_is_recorded_in_its_order(world: World) -> None:
    """Also where one takes longer: its key was used, so it is recorded beside what stands."""
    told = ["START", "COMPLETE", "START", "FAIL", "START"]

    def drained(ingest: Ingest) -> list[str]:
        before = len(world.here.told())
        for number, kind in enumerate(told):
            event = run(kind, f"09:00:0{number}") | {"run": {"runId": str(before)}}
            world.take("openlineage", event)
        asyncio.run(ingest.drain())
        return [one for one, _, _ in world.here.told()[before:]]

    side_by_side = drained(world.ingest)
    served = cast("Any", world.served)
    ordered = Ingest(world.spool, served, ingest_translators(), in_order=("openlineage",))
    expected = ["run.started/1", "run.finished/1"] + ["observation.recorded/1"] * 3
    assert sorted(side_by_side) == sorted(expected)
    assert drained(ordered) == expected


def test_what_is_dead_may_be_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.here.away["note/0"] = MalformedError("it does not fit")
    world.take("cloudevents", note(0))
    world.drain()
    (line,) = world.spool.listed("acme", state="dead", after=0, limit=9)
    assert not asyncio.run(world.ingest.retry("other", line["id"])), "another ledger's"
    world.here.away.clear()
    assert asyncio.run(world.ingest.retry("acme", line["id"]))
    assert not asyncio.run(world.ingest.retry("acme", line["id"])), "it waits already"
    assert world.drain() == 1 and len(world.here.told()) == 1
    assert world.spool.counts() == {"waiting": 0, "dead": 0, "done": 1}
    monkeypatch.setattr(spooling, "MOST_DEAD_BYTES", 0)
    world.here.away["note/1"] = MalformedError("it does not fit")
    world.take("cloudevents", note(1))
    world.drain()
    (line,) = world.spool.listed("acme", state="dead", after=0, limit=9)
    with pytest.raises(ConflictError, match="was not kept"):
        asyncio.run(world.ingest.retry("acme", line["id"]))


def test_a_ledger_that_is_not_served_now_is_waited_for(world: World) -> None:
    world.take("cloudevents", note(1))
    held = world.served.pop("acme")
    world.drain()
    assert world.spool.counts() == {"waiting": 1, "dead": 0}
    world.served["acme"] = held
    world.spool._connection.execute("UPDATE delivery SET not_before = 0")
    world.drain()
    assert len(world.here.told()) == 1


def test_what_finds_its_key_used_is_recorded_beside_it_once(world: World) -> None:
    for event in (run("COMPLETE"), run("START"), run("COMPLETE", "09:00:01"), run("START")):
        world.take("openlineage", event)
        world.drain()
    types = [type for type, _, _ in world.here.told()]
    assert types == ["run.started/1", "run.finished/1"] + ["observation.recorded/1"] * 2


def test_keys_of_senders_are_their_own_and_others_are_not(world: World) -> None:
    for actor in ("service:a", "service:b"):
        world.take("standard", {"type": "x"}, actor=actor)
        push = {"ref": "refs/heads/m", "after": "2" * 40, "repository": {"full_name": "a/b"}}
        world.take("github", push, actor=actor)
        world.drain()
    told = [(stream, actor) for _, stream, actor in world.here.told()]
    assert sorted(told) == [
        ("asset/code/a/b", "service:a"),
        ("observed/standard/x", "service:a"),
        ("observed/standard/x", "service:b"),
    ]


def test_what_cannot_be_translated_is_refused_or_dead(world: World) -> None:
    far = run("START") | {"eventTime": "2126-01-01T00:00:00Z"}
    with pytest.raises(MalformedError, match="future"):
        world.take("openlineage", far)
    assert world.spool.counts() == {"waiting": 0, "dead": 0}
    assert world.take("openlineage", far, happened=True)
    (line,) = world.spool.listed("acme", state="dead", after=0, limit=9)
    assert "future" in line["reason"] and world.drain() == 0
    assert not world.take("openlineage", far, happened=True)

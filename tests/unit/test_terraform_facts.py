"""Facts of the state backend as entries: pure, and recorded once whatever comes twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from api.main import ingest_translators
from api.service.ingest.recording import Ingest
from api.service.ingest.spool import Spool
from api.service.terraform.telling import SYSTEM
from connectors.terraform_state import translate
from ledger.draft import Draft
from ledger.errors import MalformedError
from ledger.events.lines import draft_of
from ledger.opening import Ledger
from ledger.writer import Appended
from tests.support.ledgers import NOON, SettableClock, sqlite_ledger

DIGEST = "sha256:" + "5e" * 32
LOCK = {
    "ID": "0290",
    "Operation": "OperationTypeApply",
    "Who": "ada@box",
    "Info": "free",
    "Path": "",
}
STATE = {
    "fact": "state",
    "mark": "m1",
    "at": "2026-11-21T12:00:00.000000Z",
    "state": "prod",
    "version": "7-5e5e5e5e5e5e5e5e",
    "serial": 7,
    "lineage": "fcbb51db",
    "terraform_version": "1.5.7",
    "resources": 12,
    "digest": DIGEST,
    "size": 812,
    "under_lock": True,
    "lock": LOCK,
}
UNLOCK = {
    "fact": "unlock",
    "mark": "m2",
    "at": STATE["at"],
    "state": "prod",
    "lock": LOCK,
    "held_by": "service:ci",
    "forced": False,
    "versions": 1,
}


def one(told: dict[str, Any]) -> dict[str, Any]:
    """The one event of a fact; it passes the ledger's door."""
    (recording,) = translate({}, json.dumps(told).encode())
    (event,) = recording.events
    draft_of(dict(event), "service:ci", NOON)
    found: dict[str, Any] = event
    return found


def test_a_state_is_a_version_of_infrastructure() -> None:
    event = one(STATE)
    data = event["data"]
    assert event["type"] == "asset.version.recorded/1"
    assert (data["kind"], data["name"]) == ("infrastructure", "terraform/prod")
    assert (data["version"], data["digest"]) == ("7-5e5e5e5e5e5e5e5e", DIGEST)
    assert data["metadata"]["resources"] == 12 and data["metadata"]["lineage"] == "fcbb51db"
    assert data["metadata"]["lock"] == {"id": "0290", "operation": "OperationTypeApply"}
    assert data["source"]["claimed_actor"] == "ada@box"
    assert data["source"]["authenticated_by"] == "none" and "free" not in json.dumps(event)


def test_nothing_is_said_of_what_is_not_known() -> None:
    unknown = dict.fromkeys(("serial", "lineage", "terraform_version", "resources"))
    bare = {name: value for name, value in STATE.items() if name != "lock"} | unknown
    data = one(bare)["data"]
    assert data["metadata"]["lock"] is None and "claimed_actor" not in data["source"]


@pytest.mark.parametrize("fact", ["lock", "unlock", "delete", "refused"])
def test_the_others_are_observations(fact: str) -> None:
    told = (STATE if fact == "refused" else UNLOCK) | {"fact": fact}
    event = one(told)
    (seen,) = event["data"]["observed"]
    assert event["stream"] == "observed/terraform/prod" and seen["details"]["event"] == fact
    assert event["data"]["differs_from_declared"] is (fact == "refused")
    named = event["data"]["source"].get("claimed_actor")
    assert named == (None if fact == "refused" else "ada@box"), "a holder is not who was refused"


def test_who_takes_a_lock_away_is_not_who_holds_it() -> None:
    source = one(UNLOCK | {"forced": True})["data"]["source"]
    assert "claimed_actor" not in source


@pytest.mark.parametrize(
    "who", ["AKIAIOSFODNN7EXAMPLE@box", "password=hunter2-Xy9@box", "a\x00b", "x" * 4_000, "\u00e9"]
)
def test_no_name_of_a_sender_keeps_a_fact_out(who: str) -> None:
    event = one(STATE | {"lock": LOCK | {"Who": who}})
    assert "AKIA" not in json.dumps(event) and "hunter2" not in json.dumps(event)
    assert one(UNLOCK | {"fact": "lock", "lock": LOCK | {"Who": who}})


@pytest.mark.parametrize("told", [{}, {"fact": "other"}, {"fact": ["state"]}])
def test_what_the_backend_does_not_tell_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match="no fact"):
        translate({}, json.dumps(told).encode())


class _Here:
    def __init__(self, ledger: Ledger) -> None:
        self.name = "acme"
        self._ledger = ledger

    async def append(self, drafts: Sequence[Draft], *, key: str | None = None) -> Appended:
        return await asyncio.wrap_future(self._ledger.writer.submit(drafts, idempotency_key=key))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = sqlite_ledger(tmp_path, SettableClock())
    yield made
    made.close()


def test_what_comes_to_hold_again_is_an_observation(ledger: Ledger, tmp_path: Path) -> None:
    """Recorded by the real ingest: the first, the same delivery after a crash, the state pushed
    back."""
    here = cast("Any", _Here(ledger))
    spool = Spool(tmp_path / "spool.db")
    ingest = Ingest(spool, cast("Any", {"acme": here}), ingest_translators())
    later = STATE | {"mark": "m9", "at": "2026-11-21T12:00:01.000000Z"}

    async def run() -> None:
        for number, told in enumerate((STATE, STATE, later, later)):
            body = json.dumps(told).encode()
            await ingest.take(
                here,
                SYSTEM,
                delivery=str(number),
                actor="service:ci",
                headers={},
                body=body,
                happened=True,
            )
            await ingest.drain()

    asyncio.run(run())
    assert spool.counts() == {"waiting": 0, "dead": 0, "done": 4}
    spool.close()
    told = [(entry.type, entry.stream) for entry in ledger.reader.entries() if entry.index > 0]
    assert told == [
        ("asset.version.recorded/1", "asset/infrastructure/terraform/prod"),
        ("observation.recorded/1", "observed/terraform/prod"),
    ]

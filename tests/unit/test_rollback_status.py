"""A rollback as JSON: the same keys at every stage of its life."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ledger.events.rollbacks import RollbackTarget
from ledger.lifecycle.rollback import Rollback
from ledger.lifecycle.status import rollback_json
from tests.support.empty_ledgers import empty_ledger
from tests.support.rollback_world import PIPELINE, STAGE, Story, World, classes_of, digest_of


@pytest.fixture
def story() -> Iterator[Story]:
    with empty_ledger() as ledger:
        yield Story(ledger, World(), classes_of("keyed", "blind"))


def test_every_stage_has_the_same_keys(story: Story) -> None:
    fresh = Rollback.requested(
        "8", pipeline=PIPELINE, stage=STAGE, target=RollbackTarget(index=0), actor="user:mia"
    )
    before = rollback_json(fresh)
    assert before["plan_digest"] is None and before["steps"] == []
    story.ready()
    parked = rollback_json(story.run())
    assert parked.keys() == before.keys()
    json.dumps(parked)


def test_what_it_tells(story: Story) -> None:
    story.ready().world.faults["b"] = "timeout"
    told = rollback_json(story.run())
    assert (told["rollback"], told["status"], told["requested_by"]) == ("7", "parked", "user:mia")
    assert told["approval"]["by"] == "user:noah" and told["approval"]["self_approved"] is False
    first, second = told["steps"]
    assert (first["outcome"], first["observed_digest"]) == ("done", digest_of("old a"))
    assert (first["from"], first["to"], first["class"]) == ("model/a@new", "model/a@old", "keyed")
    assert (second["outcome"], second["attempts"]) == (None, 1)
    assert "TimeoutError" in second["parked"]


def test_a_failure_tells_its_differences(story: Story) -> None:
    story.ready().world.faults["a"] = "wrong-content"
    told = rollback_json(story.run())
    assert told["status"] == "failed" and "the system said done, but shows" in told["why"]
    [difference] = told["differences"]
    assert (difference["slot"], difference["observed"]) == ("a", digest_of("wrong a"))

"""The ledger's side: when a plan is stale, what a completed one declares, where versions lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.declared import asset_version, compensation, foreign_change
from ledger.canonical import format_time
from ledger.errors import NotFoundError, RefusedError
from tests.support.empty_ledgers import empty_ledger
from tests.support.rollback_world import PIPELINE, STAGE, Story, World, classes_of, plan_step

PLACE = {"pipeline": PIPELINE, "stage": STAGE}
SHARES: dict[str, Any] = {"from": {}, "to": {"model/a@old": 100}}


@pytest.fixture
def story() -> Iterator[Story]:
    with empty_ledger() as ledger:
        story = Story(ledger, World(), classes_of("keyed", "read_back"))
        story.begin()
        yield story


def change(story: Story, **plan: Any) -> str | None:
    """What is found stale in a plan made before the last entry."""
    basis = {"tree_size": story.ledger.reader.size() - 1, "root": "sha256:" + "0" * 64}
    made = story.plan(basis=basis, **plan)
    found = foreign_change(story.ledger.reader, made, story.ledger.clock())
    return None if found is None else f"{found.slot}: {found.detail}"


def bound(story: Story, slot: str, **more: Any) -> None:
    story.record("binding.changed/1", {**PLACE, "slot": slot, "asset_version": "model/x@1", **more})


def test_an_untouched_plan_is_not_stale(story: Story) -> None:
    plan = story.plan()
    assert foreign_change(story.ledger.reader, plan, story.ledger.clock()) is None


def test_a_slot_of_the_plan_that_was_bound_since(story: Story) -> None:
    bound(story, "a")
    assert change(story) == "a: entry 8 by user:mia changed it since the plan was made"


def test_a_slot_of_the_plan_that_was_removed_since(story: Story) -> None:
    story.record("binding.removed/1", {**PLACE, "slot": "b"})
    assert change(story) == "b: entry 8 by user:mia changed it since the plan was made"


def test_other_slots_and_other_facts_do_not_matter(story: Story) -> None:
    bound(story, "c")
    assert change(story) is None
    slots = [{"slot": "a", "kind": "model", "required": True, "depends_on": []}]
    story.record("pipeline.defined/1", {**PLACE, "slots": slots})
    assert change(story) is None


def test_traffic_matters_to_a_plan_that_sets_it(story: Story) -> None:
    story.record("traffic.changed/1", {**PLACE, "shares": {"model/a@new": 100}, "mode": "live"})
    assert change(story) is None
    assert (change(story, traffic=SHARES) or "").startswith("traffic: entry 8 by user:mia")


def test_a_binding_that_takes_effect_only_later_makes_the_plan_wait(story: Story) -> None:
    later = format_time(story.ledger.clock() + 60_000_000)
    bound(story, "a", effective_at=later)
    plan = story.plan()
    found = foreign_change(story.ledger.reader, plan, story.ledger.clock())
    assert found is not None and found.detail == f"entry 8 changes it at {later}"
    story.ledger.clock.now += 120_000_000
    assert foreign_change(story.ledger.reader, plan, story.ledger.clock()) is None


def test_what_a_completed_plan_declares(story: Story) -> None:
    steps = [
        plan_step(2, "c", "keyed", to=None, to_digest=None),
        plan_step(0, "a", "keyed"),
        plan_step(1, "b", "keyed", **{"from": None}),
        plan_step(3, "d", "keyed", to="model/d@new"),
    ]
    plan = story.plan(steps=steps, traffic=SHARES)
    told = [
        (event.TYPE, event.model_dump(exclude_none=True, include={"slot", "previous", "shares"}))
        for event in compensation(plan, "rollback/7")
    ]
    assert told == [
        ("binding.changed/1", {"slot": "a", "previous": "model/a@new"}),
        ("binding.changed/1", {"slot": "b"}),
        ("binding.removed/1", {"slot": "c", "previous": "model/c@new"}),
        ("traffic.changed/1", {"shares": {"model/a@old": 100}}),
    ]


def test_the_last_record_of_a_version_counts(story: Story) -> None:
    version = asset_version(story.ledger.reader, "model/a@old")
    story.record("asset.version.recorded/1", {**version.as_event_data(), "location": "sim://moved"})
    assert asset_version(story.ledger.reader, "model/a@old").location == "sim://moved"


def test_a_version_that_is_not_recorded_is_not_found(story: Story) -> None:
    with pytest.raises(NotFoundError, match="model/a@7 is not recorded in this ledger"):
        asset_version(story.ledger.reader, "model/a@7")


def test_a_version_without_a_system_cannot_be_planned_for(story: Story) -> None:
    version = asset_version(story.ledger.reader, "model/a@old").as_event_data()
    del version["source"]
    story.record("asset.version.recorded/1", version)
    story.request()
    story.approve()
    with pytest.raises(RefusedError, match=r"no system can restore model/a@old: .*without source"):
        story.run()
    assert not story.world.calls

"""The pure plan of a rollback: order, narrowing, what each step says, the digest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.errors import MalformedError, NotFoundError
from projections.plan import Plan, plan
from projections.state import State, state
from tests.support.histories import SECOND, START, draft
from tests.support.story import (
    NOW,
    STREAM,
    WHERE,
    Story,
    changed,
    recorded,
    removed,
    story,
    traffic,
)

KINDS = (
    ("a-model", "model"), ("b-prompt", "prompt"), ("c-code", "code"),
    ("c-params", "hyperparameters"),
    ("d-feature", "feature"), ("e-data", "dataset"), ("f-env", "environment"),
    ("g-infra", "infrastructure"),
)  # fmt: skip


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


def at(told: Story, text: str = "now") -> State:
    return state(told.reader, told.index, "demand", "live", at=told.at(text), now=NOW)


def release(told: Story, after: int, version: str, digest: str) -> None:
    drafts = []
    for slot, kind in KINDS:
        drafts.append(recorded(kind, slot, version, digest))
        drafts.append(changed(slot, f"{kind}/{slot}@{version}"))
    told.write(START + after * SECOND, drafts)


def slots(made: Plan) -> list[str]:
    return [step.slot for step in made.steps]


def test_from_the_ground_up_traffic_last(told: Story) -> None:
    release(told, 100, "1", "1")
    release(told, 200, "2", "2")
    told.write(START + 201 * SECOND, [traffic({"model/a-model@2": 100})])
    made = plan(at(told), at(told, "index:27"))
    assert slots(made) == [
        "g-infra", "f-env", "e-data", "d-feature", "c-code", "c-params", "b-prompt", "a-model",
    ]  # fmt: skip
    assert made.traffic is not None
    assert (made.traffic.from_, made.traffic.to) == ({"model/a-model@2": 100}, {"model/m@2": 100})
    assert made.leads_to == made.target.state_digest
    assert [step.order for step in made.steps] == list(range(8))


def test_a_stated_dependency_goes_before_the_kinds_order(told: Story) -> None:
    depends = [{"slot": "c-code", "kind": "code", "depends_on": ["between"]}]
    depends.append({"slot": "between", "kind": "model", "depends_on": ["a-model"]})
    defined = WHERE | {"slots": [*depends, {"slot": "a-model", "kind": "model"}]}
    told.write(START + 99 * SECOND, [draft("pipeline.defined/1", STREAM, "user:ann", defined)])
    release(told, 100, "1", "1")
    release(told, 200, "2", "2")
    order = slots(plan(at(told), at(told, "index:28")))
    assert order.index("a-model") < order.index("c-code")
    assert order[0] == "g-infra"


def test_what_is_unchanged_makes_no_step(told: Story) -> None:
    assert slots(plan(at(told), at(told, "index:9"))) == []
    same = plan(at(told), at(told))
    assert same.is_empty and same.summary()[-1].startswith("  nothing to do")
    assert same.leads_to == at(told).state_digest


def test_narrowed_to_slots_the_rest_stays(told: Story) -> None:
    now, then = at(told), at(told, "index:6")
    made = plan(now, then, slots=("model",))
    assert slots(made) == ["model"]
    assert made.traffic is None
    assert made.leads_to not in (now.state_digest, then.state_digest)
    told.write(START + 100 * SECOND, [changed("model", "model/m@1")])
    assert at(told).state_digest == made.leads_to
    assert plan(now, then, slots=("model", "traffic")).traffic is not None
    assert slots(plan(now, then, slots=("traffic",))) == []
    with pytest.raises(NotFoundError, match="no slot modle now or then; there is: data, model"):
        plan(now, then, slots=("modle",))


def test_a_slot_that_was_empty_becomes_empty(told: Story) -> None:
    made = plan(at(told), at(told, "index:2"))
    assert {(step.slot, step.to, step.restorable) for step in made.steps} == {
        ("data", None, "available"),
        ("model", None, "available"),
    }
    told.write(START + 100 * SECOND, [removed("model")])
    back = plan(at(told), at(told, "index:6"), slots=("model",))
    assert back.steps[0].from_ is None and back.steps[0].to is not None


def test_what_a_step_says(told: Story) -> None:
    step = plan(at(told), at(told, "index:6"), slots=("model",)).steps[0]
    assert step.as_json() == {
        "id": "0-model", "order": 0, "slot": "model", "system": "files", "target": "m.bin",
        "from": "model/m@2", "to": "model/m@1",
        "from_digest": None, "to_digest": "sha256:" + "a" * 64,
        "call": f"files: restore model/m@1 (sha256:{'a' * 64}) at m.bin",
        "class": "read_back", "restorable": "unknown", "risk": "overwrites what is at m.bin",
    }  # fmt: skip


def test_what_cannot_be_restored_is_said(told: Story) -> None:
    told.write(
        START + 100 * SECOND,
        [
            recorded("environment", "e", "1", "1", restorable="verify_only"),
            recorded("dataset", "x", "1", "1", restorable="recreatable"),
            changed("env", "environment/e@1"),
            changed("x", "dataset/x@1"),
            changed("y", "code/y@1"),
        ],
    )
    told.write(START + 200 * SECOND, [removed("env"), removed("x"), removed("y")])
    steps = {step.slot: step for step in plan(at(told), at(told, "index:16")).steps}
    assert steps["env"].restorable == "verify_only"
    assert "nothing is changed" in steps["env"].call and "by hand" in steps["env"].risk
    assert "may give other bytes" in steps["x"].risk
    assert (steps["y"].class_, steps["y"].system) == ("blind", "declared")
    assert "could never be verified" in steps["y"].risk


def test_the_digest_dies_with_any_change(told: Story) -> None:
    made = plan(at(told), at(told, "index:6"))
    event = made.as_event()
    assert event.plan_digest == event.content_digest() == made.plan_digest
    assert event.target.index == 6 and event.target.state_digest == made.leads_to
    others = {
        made.with_availability({"model": "missing"}).plan_digest,
        made.as_event(separate_approver=True).plan_digest,
        plan(at(told), at(told, "index:6"), slots=("model",)).plan_digest,
        plan(at(told), at(told, "index:5")).plan_digest,
    }
    assert len(others) == 4 and made.plan_digest not in others
    told.write(START + 100 * SECOND, [draft("note.added/1", "note/x", "user:ann", {"text": "-"})])
    assert plan(at(told), at(told, "index:6")).plan_digest != made.plan_digest
    assert made.with_availability({}).plan_digest == made.plan_digest


def test_a_plan_by_time_names_the_time(told: Story) -> None:
    from tests.support.story import second

    event = plan(at(told), at(told, second(20))).as_event()
    assert (event.target.index, event.target.at) == (None, second(20))
    shown = plan(at(told), at(told, second(20))).as_json()
    assert shown["plan_digest"] == event.plan_digest
    assert shown["steps"][0]["target"] == "d.bin"


def test_two_pipelines_are_refused(told: Story) -> None:
    other = draft(
        "binding.changed/1",
        "pipeline/demand@test",
        "user:ann",
        {"pipeline": "demand", "stage": "test", "slot": "model", "asset_version": "model/m@1"},
    )
    told.write(START + 100 * SECOND, [other])
    elsewhere = state(told.reader, told.index, "demand", "test", now=NOW)
    with pytest.raises(MalformedError, match="stays in one pipeline and stage"):
        plan(at(told), elsewhere)


def test_a_plan_for_people(told: Story) -> None:
    made = plan(at(told), at(told, "index:6"))
    assert made.summary() == [
        f"demand in live, back to what was {made.target.mode}",
        f"  1. data: files: restore dataset/d@1 (sha256:{'1' * 64}) at d.bin (unknown)",
        f"  2. model: files: restore model/m@1 (sha256:{'a' * 64}) at m.bin (unknown)",
        "  3. traffic: none (declared)",
        f"  plan {made.plan_digest}",
    ]

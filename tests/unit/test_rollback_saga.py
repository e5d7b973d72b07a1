"""The executor, story by story: each is one sentence of docs/spec/rollback.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.connector import AssetVersion, Availability, Observation, RestoreStep
from ledger.errors import ConflictError, NotFoundError, RefusedError, UnreachableError
from tests.support.empty_ledgers import empty_ledger
from tests.support.rollback_world import (
    HUMAN,
    PIPELINE,
    STAGE,
    Crashes,
    Died,
    Simulated,
    Story,
    Unanswered,
    World,
    classes_of,
    digest_of,
    plan_step,
)


@pytest.fixture
def story() -> Iterator[Story]:
    """Two readable steps of different classes."""
    with empty_ledger() as ledger:
        yield Story(ledger, World(), classes_of("keyed", "read_back"))


@pytest.fixture
def blind() -> Iterator[Story]:
    """A readable step, then a blind one."""
    with empty_ledger() as ledger:
        yield Story(ledger, World(), classes_of("keyed", "blind"))


def test_a_plan_is_run_and_the_declared_state_follows(story: Story) -> None:
    rollback = story.ready().run()
    assert rollback.status == "completed"
    assert story.world.content == {"a": digest_of("old a"), "b": digest_of("old b")}
    assert story.bound() == {"a": "model/a@old", "b": "model/b@old"}
    assert story.types() == [
        "rollback.requested/1",
        "rollback.planned/1",
        "rollback.approved/1",
        "rollback.step.started/1",
        "rollback.step.finished/1",
        "rollback.step.started/1",
        "rollback.step.finished/1",
        "rollback.completed/1",
    ]


def test_completed_and_its_bindings_are_one_batch(story: Story) -> None:
    story.ready().run()
    last = list(story.ledger.reader.entries())[-3:]
    assert [record.type for record in last] == [
        "rollback.completed/1",
        "binding.changed/1",
        "binding.changed/1",
    ]
    assert len({record.recorded_at for record in last}) == 1
    assert all((record.data or {}).get("change_id") == "rollback/7" for record in last[1:])
    use = story.ledger.store.key_use("rollback/7/completed")
    assert use is not None and (use.first_index, use.count) == (last[0].index, 3)


def test_running_what_is_over_does_nothing(story: Story) -> None:
    story.ready().run()
    size = story.ledger.reader.size()
    assert story.run().status == "completed"
    assert story.ledger.reader.size() == size
    assert story.world.effects == {"a": 1, "b": 1}


def test_without_approval_nothing_is_touched(story: Story) -> None:
    story.begin()
    story.request()
    with pytest.raises(RefusedError, match="asks for an approval and has none"):
        story.run()
    assert not story.world.calls


def test_an_unknown_rollback_is_not_found(story: Story) -> None:
    with pytest.raises(NotFoundError, match="there is no rollback '7'"):
        story.run()


def test_what_is_there_already_is_found_not_called(story: Story) -> None:
    story.ready()
    story.world.content["a"] = digest_of("old a")
    assert story.run().status == "completed"
    assert story.world.calls == {"b": 1}
    assert story.types().count("rollback.step.started/1") == 1


def test_a_change_by_a_human_before_the_run_ends_the_plan_untouched(story: Story) -> None:
    story.ready()
    story.world.content["b"] = HUMAN
    rollback = story.run()
    assert rollback.status == "failed"
    assert "somebody changed it" in rollback.why
    assert [d.observed for d in rollback.differences] == [HUMAN]
    assert not story.world.calls, "the first step was not begun either"


def test_a_missing_object_ends_the_plan_untouched(story: Story) -> None:
    class Missing(Simulated):
        def available(self, version: AssetVersion) -> Availability:
            return Availability(status="missing", detail="object 9f86 is gone")

    story.ready().connectors["sim-read_back"] = Missing(story.world, "read_back")
    rollback = story.run()
    assert rollback.status == "failed"
    assert rollback.why == "model/b@old cannot be restored: missing object 9f86 is gone"
    assert not story.world.calls


def test_a_binding_that_came_after_the_plan_makes_it_stale(story: Story) -> None:
    story.ready().bind("b", "new")
    rollback = story.run()
    assert rollback.status == "failed"
    assert "changed it since the plan was made" in rollback.why
    assert not story.world.calls


def test_a_binding_during_the_run_is_not_silently_undone(story: Story) -> None:
    story.ready()
    rollback = story.run(lambda point: story.bind("a", "new") if point == "after-effect" else None)
    assert rollback.status == "failed"
    assert story.bound()["a"] == "model/a@new"


def test_a_binding_at_the_last_moment_is_a_conflict_and_the_next_run_sees_it(story: Story) -> None:
    story.ready()
    with pytest.raises(ConflictError):
        story.run(lambda point: story.bind("a", "new") if point == "before-compensation" else None)
    assert story.run().status == "failed"
    assert "rollback.completed/1" not in story.types()


@pytest.mark.parametrize("fault", ["fail-but-applied", "timeout"])
def test_what_is_read_back_decides_not_what_the_system_said(story: Story, fault: str) -> None:
    story.ready().world.faults["a"] = fault  # type: ignore[assignment]
    assert story.run().status == "completed"
    assert story.world.effects == {"a": 1, "b": 1}


def test_a_success_with_the_wrong_content_stops_the_line(story: Story) -> None:
    story.ready().world.faults["a"] = "wrong-content"
    rollback = story.run()
    assert rollback.status == "failed"
    assert [(d.slot, d.observed) for d in rollback.differences] == [("a", digest_of("wrong a"))]
    assert story.world.calls == {"a": 1}, "the second step was not begun"
    assert story.bound() == {"a": "model/a@new", "b": "model/b@new"}


def test_a_failure_stops_the_line(story: Story) -> None:
    story.ready().world.faults["a"] = "fail-not-applied"
    rollback = story.run()
    assert (rollback.status, rollback.why) == ("failed", "step 0-a: 503")
    assert story.world.calls == {"a": 1}


@pytest.mark.parametrize("idempotency", ["keyed", "read_back"])
def test_an_unknown_outcome_is_called_again_where_that_is_safe(
    story: Story, idempotency: str
) -> None:
    story.ready().connectors[f"sim-{idempotency}"] = Unanswered(story.world, idempotency)  # type: ignore[arg-type]
    assert story.run().status == "completed"
    assert sorted(story.world.calls.values()) == [1, 2]
    assert story.world.effects == {"a": 1, "b": 1}


def test_without_an_answer_three_times_a_human_is_asked(story: Story) -> None:
    silent = Unanswered(story.world, "keyed")
    silent.patience = 99
    story.ready().connectors["sim-keyed"] = silent
    rollback = story.run()
    assert rollback.status == "parked"
    assert "called 3 times" in rollback.parked["0-a"]
    assert story.run().status == "parked"
    assert story.world.calls == {"a": 3}, "a parked step is not called again"


def test_a_parked_step_that_was_mended_by_hand_goes_on(story: Story) -> None:
    silent = Unanswered(story.world, "keyed")
    silent.patience = 99
    story.ready().connectors["sim-keyed"] = silent
    story.run()
    story.world.content["a"] = digest_of("old a")
    assert story.run().status == "completed"
    assert story.world.calls == {"a": 3, "b": 1}


def test_a_blind_step_is_confirmed_by_a_human_and_never_called_twice(blind: Story) -> None:
    rollback = blind.ready().run()
    assert rollback.status == "parked"
    assert rollback.parked == {"1-b": "it cannot be read back: a human must confirm it"}
    rollbacks = blind.rollbacks()
    rollback = rollbacks.get("7")
    rollback.resolve("1-b", "done", "user:noah", detail="seen on the gateway's page")
    rollbacks.store(rollback)
    assert blind.run().status == "completed"
    assert blind.world.calls == {"a": 1, "b": 1}


def test_a_human_may_say_that_a_blind_step_failed(blind: Story) -> None:
    blind.ready().run()
    rollbacks = blind.rollbacks()
    rollback = rollbacks.get("7")
    rollback.resolve("1-b", "failed", "user:noah", detail="the gateway shows the new one")
    rollbacks.store(rollback)
    assert blind.run().status == "failed"
    assert blind.world.calls["b"] == 1


def test_a_blind_step_of_unknown_outcome_is_parked_and_never_fired_again(blind: Story) -> None:
    blind.ready().world.faults["b"] = "timeout"
    rollback = blind.run()
    assert rollback.status == "parked"
    assert "TimeoutError: no answer in 30 s" in rollback.parked["1-b"]
    for _ in range(3):
        assert blind.run().status == "parked"
    assert blind.world.calls["b"] == 1


def test_a_change_by_a_human_after_a_crash_is_not_overwritten(story: Story) -> None:
    story.ready()
    with pytest.raises(Died):
        story.run(Crashes(6))  # 2nd step: after its intent, before its call
    assert story.types()[-1] == "rollback.step.started/1"
    story.world.content["b"] = HUMAN
    rollback = story.run()
    assert rollback.status == "parked"
    assert "somebody changed it" in rollback.parked["1-b"]
    assert story.world.content["b"] == HUMAN


def test_a_slot_that_is_taken_away_needs_no_call(story: Story) -> None:
    story.begin()
    steps = [plan_step(0, "a", "keyed", to=None, to_digest=None), plan_step(1, "b", "read_back")]
    story.request(steps=steps)
    story.approve()
    assert story.run().status == "completed"
    assert story.bound() == {"a": None, "b": "model/b@old"}
    assert story.world.calls == {"b": 1}


def test_traffic_is_declared_with_the_bindings(story: Story) -> None:
    story.begin()
    shares = {"model/a@new": 100.0}
    story.record(
        "traffic.changed/1",
        {"pipeline": PIPELINE, "stage": STAGE, "shares": shares, "mode": "live"},
    )
    story.request(traffic={"from": shares, "to": {"model/a@old": 90, "model/b@old": 10}})
    story.approve()
    assert story.run().status == "completed"
    last = list(story.ledger.reader.entries())[-1]
    assert last.type == "traffic.changed/1"
    assert (last.data or {})["shares"] == {"model/a@old": 90, "model/b@old": 10}


def test_a_plan_of_nothing_but_traffic_completes(story: Story) -> None:
    story.begin()
    story.request(steps=[], traffic={"from": {}, "to": {"model/a@old": 100}})
    story.approve()
    assert story.run().status == "completed"
    assert [record.type for record in story.ledger.reader.entries()][-2:] == [
        "rollback.completed/1",
        "traffic.changed/1",
    ]


def test_a_system_that_cannot_be_read_ends_the_run_not_the_rollback(story: Story) -> None:
    class Flaky(Simulated):
        silent = False

        def read_back(self, step: RestoreStep) -> Observation:
            if self.silent:
                raise UnreachableError("the registry does not answer")
            return super().read_back(step)

    flaky = Flaky(story.world, "keyed")
    story.ready().connectors["sim-keyed"] = flaky

    def fall_silent(point: str) -> None:
        flaky.silent = point == "after-effect"

    with pytest.raises(UnreachableError):
        story.run(fall_silent)
    assert story.types()[-1] == "rollback.step.started/1"
    flaky.silent = False
    assert story.run().status == "completed"
    assert story.world.effects == {"a": 1, "b": 1}


def test_what_can_only_be_verified_is_left_to_a_human_before_anything_happens(story: Story) -> None:
    story.begin()
    steps = [plan_step(0, "a", "keyed"), plan_step(1, "b", "read_back", restorable="verify_only")]
    story.request(steps=steps)
    story.approve()
    rollback = story.run()
    assert rollback.status == "parked"
    assert rollback.parked["1-b"].startswith("b cannot be restored, only verified: expected sha256")
    assert not story.world.calls
    size = story.ledger.reader.size()
    assert story.run().status == "parked"
    assert story.ledger.reader.size() == size, "the same reason is recorded once"
    story.world.content["b"] = digest_of("old b")
    assert story.run().status == "completed"
    assert story.world.calls == {"a": 1}


def test_what_drifts_after_its_step_is_found_at_the_end(story: Story) -> None:
    story.ready()

    def meddle(point: str) -> None:
        if point == "after-outcome":
            story.world.content["a"] = HUMAN

    rollback = story.run(meddle)
    assert rollback.status == "failed"
    assert rollback.why == "what is there now is not what was meant"
    assert [(d.slot, d.observed) for d in rollback.differences] == [("a", HUMAN)]
    assert story.bound()["a"] == "model/a@new"


def test_a_plan_for_another_digest_than_recorded_is_refused(story: Story) -> None:
    story.begin()
    story.request(steps=[plan_step(0, "a", "keyed", to_digest=digest_of("something else"))])
    story.approve()
    with pytest.raises(RefusedError, match="make a new plan"):
        story.run()
    assert not story.world.calls


def test_of_two_executors_one_wins_before_any_second_effect(story: Story) -> None:
    story.ready()
    first, second = story.saga(), story.saga()
    late = second.rollbacks.get("7")
    assert first.run("7").status == "completed"
    late.start_step("0-a", "service:late", now=0)
    with pytest.raises(ConflictError):
        second.rollbacks.store(late)
    assert story.world.effects == {"a": 1, "b": 1}


def test_the_loser_of_a_race_stops_before_its_effect(story: Story) -> None:
    story.ready()

    def race(point: str) -> None:
        if point == "before-intent" and not story.world.calls:
            assert story.saga().run("7").status == "completed"

    with pytest.raises(ConflictError):
        story.run(race)
    assert story.world.effects == {"a": 1, "b": 1}

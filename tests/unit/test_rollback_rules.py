"""What the aggregate refuses, and what its stream brings back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ledger.canonical import format_time
from ledger.errors import ConflictError, MalformedError, NotFoundError, RefusedError, StoreError
from ledger.events.rollbacks import RollbackRequested, RollbackTarget
from ledger.lifecycle.aggregate import Decision
from ledger.lifecycle.rollback import Rollback
from tests.support.empty_ledgers import START, empty_ledger
from tests.support.rollback_world import (
    APPROVER,
    EXECUTOR,
    REQUESTER,
    Story,
    World,
    classes_of,
    digest_of,
    plan_step,
)


@pytest.fixture
def story() -> Iterator[Story]:
    with empty_ledger() as ledger:
        yield Story(ledger, World(), classes_of("keyed", "blind"))


def planned(story: Story, **changes: Any) -> Rollback:
    rollback = Rollback.requested(
        "7",
        pipeline="demand-forecast",
        stage="production",
        target=RollbackTarget(index=0),
        actor=REQUESTER,
    )
    rollback.propose(story.plan(**changes), EXECUTOR)
    return rollback


def approved(story: Story, **changes: Any) -> Rollback:
    rollback = planned(story, **changes)
    rollback.approve(rollback.plan.plan_digest, APPROVER)
    return rollback


def settled(story: Story) -> Rollback:
    """Every step finished."""
    rollback = approved(story)
    rollback.find_step("0-a", EXECUTOR, observed=digest_of("old a"), now=START)
    rollback.start_step("1-b", EXECUTOR, now=START)
    rollback.finish_step("1-b", "done", EXECUTOR, observed=None)
    return rollback


def test_a_request_alone_has_no_plan_and_cannot_run(story: Story) -> None:
    rollback = Rollback.requested(
        "7", pipeline="p", stage="s", target=RollbackTarget(index=0), actor=REQUESTER
    )
    with pytest.raises(RefusedError, match="has no plan yet: make one first"):
        rollback.check_may_run(START)


def test_an_approval_of_another_digest_is_refused(story: Story) -> None:
    rollback = planned(story)
    with pytest.raises(RefusedError, match="look at the plan again"):
        rollback.approve(digest_of("another plan"), APPROVER)


def test_an_approval_dies_with_any_change_of_the_plan(story: Story) -> None:
    rollback = approved(story)
    rollback.propose(story.plan(steps=[plan_step(0, "a", "keyed", risk="new")]), EXECUTOR)
    assert (rollback.status, rollback.approval) == ("planned", None)
    with pytest.raises(RefusedError, match="asks for an approval and has none"):
        rollback.check_may_run(START)


def test_a_plan_whose_digest_does_not_cover_its_content_is_refused(story: Story) -> None:
    plan = story.plan()
    forged = plan.model_copy(update={"steps": plan.steps[:1]})
    with pytest.raises(RefusedError, match="the plan's content has the digest sha256:"):
        planned(story).propose(forged, EXECUTOR)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pipeline": "another"}, "the plan is for another@production"),
        ({"slots": ["a"]}, "for other slots than those requested"),
        ({"steps": [plan_step(0, "a", "keyed", to_digest=None)]}, "could never be verified"),
    ],
)
def test_a_plan_for_something_else_is_refused(
    story: Story, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(RefusedError, match=why):
        planned(story).propose(story.plan(**changes), EXECUTOR)


def test_the_requester_may_approve_unless_the_policy_says_no(story: Story) -> None:
    rollback = planned(story)
    rollback.approve(rollback.plan.plan_digest, REQUESTER)
    assert rollback.approval is not None and rollback.approval.self_approved
    assert rollback.pending[-1].event.model_dump()["self_approved"] is True
    strict = planned(story, separate_approver=True)
    with pytest.raises(RefusedError, match="somebody else must approve it"):
        strict.approve(strict.plan.plan_digest, REQUESTER)
    strict.approve(strict.plan.plan_digest, APPROVER)


def test_without_a_policy_of_approval_a_plan_runs_as_it_is(story: Story) -> None:
    planned(story, requires_approval=False).check_may_run(START)


def test_an_approval_that_ran_out_begins_nothing_but_ends_what_was_begun(story: Story) -> None:
    rollback = planned(story)
    rollback.approve(rollback.plan.plan_digest, APPROVER, expires_at=format_time(START))
    rollback.check_may_run(START)
    with pytest.raises(RefusedError, match="has run out"):
        rollback.check_may_run(START + 1)
    rollback.start_step("0-a", EXECUTOR, now=START)
    rollback.check_may_run(START + 1)


REFUSALS: list[tuple[str, Callable[[Rollback], object], str]] = [
    (
        "a step that is not in the plan",
        lambda r: r.start_step("9-z", EXECUTOR, now=START),
        "the plan has no step '9-z'",
    ),
    (
        "a step before its turn",
        lambda r: r.start_step("1-b", EXECUTOR, now=START),
        "comes after 0-a, which is not finished",
    ),
    (
        "the end of a step never begun",
        lambda r: r.finish_step("0-a", "done", EXECUTOR, observed=digest_of("old a")),
        "was not begun, it cannot be finished",
    ),
    (
        "a find of something else",
        lambda r: r.find_step("0-a", EXECUTOR, observed=digest_of("new a"), now=START),
        "shows sha256:",
    ),
    (
        "a human's word on what waits for none",
        lambda r: r.resolve("0-a", "done", APPROVER, detail="so it is"),
        "is not parked",
    ),
    (
        "completion with open steps",
        lambda r: r.complete({}, EXECUTOR),
        "step 0-a is not finished",
    ),
    (
        "a second approval",
        lambda r: r.approve(r.plan.plan_digest, APPROVER),
        "only a planned rollback can be approved",
    ),
]


@pytest.mark.parametrize(
    ("decision", "why"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_an_approved_rollback_refuses(
    story: Story, decision: Callable[[Rollback], object], why: str
) -> None:
    rollback = approved(story)
    before = rollback.version
    with pytest.raises(RefusedError, match=why):
        decision(rollback)
    assert rollback.version == before, "a refusal decides nothing"


def test_a_begun_rollback_keeps_its_plan(story: Story) -> None:
    rollback = approved(story)
    rollback.start_step("0-a", EXECUTOR, now=START)
    with pytest.raises(RefusedError, match="its plan can no longer change"):
        rollback.propose(story.plan(), EXECUTOR)


def test_a_parked_but_unbegun_rollback_takes_another_plan(story: Story) -> None:
    rollback = approved(story)
    rollback.park("0-a", "the environment differs", EXECUTOR)
    rollback.propose(story.plan(), EXECUTOR)
    assert rollback.status == "planned"
    assert not rollback.parked


def test_a_step_that_reads_back_wrong_is_not_done(story: Story) -> None:
    rollback = approved(story)
    rollback.start_step("0-a", EXECUTOR, now=START)
    with pytest.raises(RefusedError, match="it is not done"):
        rollback.finish_step("0-a", "done", EXECUTOR, observed=digest_of("new a"))
    with pytest.raises(RefusedError, match="it is not done"):
        rollback.finish_step("0-a", "done", EXECUTOR, observed=None)


def test_a_keyed_step_may_be_begun_again_and_is_counted(story: Story) -> None:
    rollback = approved(story)
    assert rollback.start_step("0-a", EXECUTOR, now=START) == 1
    assert rollback.start_step("0-a", EXECUTOR, now=START) == 2
    rollback.finish_step("0-a", "done", EXECUTOR, observed=digest_of("old a"))
    with pytest.raises(RefusedError, match="is finished: done"):
        rollback.start_step("0-a", EXECUTOR, now=START)
    with pytest.raises(RefusedError, match="it is not merely found"):
        rollback.find_step("0-a", EXECUTOR, observed=digest_of("old a"), now=START)


def test_a_blind_step_of_unknown_outcome_is_not_begun_again(story: Story) -> None:
    rollback = approved(story)
    rollback.find_step("0-a", EXECUTOR, observed=digest_of("old a"), now=START)
    rollback.start_step("1-b", EXECUTOR, now=START)
    with pytest.raises(RefusedError, match="cannot be called safely again, a human must decide"):
        rollback.start_step("1-b", EXECUTOR, now=START)


def test_what_is_only_verified_or_taken_away_is_never_called(story: Story) -> None:
    steps = [
        plan_step(0, "a", "keyed", to=None, to_digest=None),
        plan_step(1, "b", "read_back", restorable="verify_only"),
    ]
    rollback = approved(story, steps=steps)
    for step in ("0-a", "1-b"):
        with pytest.raises(RefusedError, match="is checked, never called"):
            rollback.start_step(step, EXECUTOR, now=START)


def test_a_parked_step_is_not_called_until_it_is_resolved(story: Story) -> None:
    rollback = approved(story)
    rollback.start_step("0-a", EXECUTOR, now=START)
    rollback.park("0-a", "no answer", EXECUTOR)
    rollback.park("0-a", "no answer", EXECUTOR)
    assert [d.event.TYPE for d in rollback.pending].count("rollback.parked/1") == 1
    with pytest.raises(RefusedError, match="waits for a human: no answer"):
        rollback.start_step("0-a", EXECUTOR, now=START)
    rollback.resolve("0-a", "done", APPROVER, detail="seen there")
    assert rollback.status == "running"
    assert rollback.progress("0-a").attested_by is None, "what can be read needs no word"


def test_a_step_that_was_parked_before_any_call_has_nothing_to_resolve(story: Story) -> None:
    rollback = approved(story)
    rollback.park("0-a", "the environment differs", EXECUTOR)
    with pytest.raises(RefusedError, match="mend what it waits for and run again"):
        rollback.resolve("0-a", "done", APPROVER, detail="-")


def test_completion_with_a_difference_is_refused(story: Story) -> None:
    rollback = settled(story)
    with pytest.raises(RefusedError, match="it is not completed"):
        rollback.complete({"a": digest_of("old a"), "b": None}, EXECUTOR)
    rollback.complete({"a": digest_of("old a"), "b": digest_of("old b")}, EXECUTOR)
    assert rollback.status == "completed"


def test_completion_with_what_a_human_vouches_for(story: Story) -> None:
    rollback = settled(story)
    rollback.park("1-b", "it cannot be read back", EXECUTOR)
    rollback.resolve("1-b", "done", APPROVER, detail="seen")
    assert rollback.progress("1-b").attested_by == APPROVER
    rollback.complete({"a": digest_of("old a"), "b": None}, EXECUTOR)


def test_a_plan_that_names_no_state_cannot_complete(story: Story) -> None:
    rollback = approved(story, target={"index": 0}, steps=[])
    with pytest.raises(RefusedError, match="does not say which state"):
        rollback.complete({}, EXECUTOR)


def test_nothing_follows_the_end(story: Story) -> None:
    rollback = approved(story)
    rollback.fail("it cannot be", (), EXECUTOR)
    for decision in (
        lambda: rollback.check_may_run(START),
        lambda: rollback.start_step("0-a", EXECUTOR, now=START),
        lambda: rollback.park("0-a", "why", EXECUTOR),
        lambda: rollback.fail("again", (), EXECUTOR),
        lambda: rollback.complete({}, EXECUTOR),
        lambda: rollback.propose(story.plan(), EXECUTOR),
    ):
        with pytest.raises(RefusedError, match="failed"):
            decision()


def test_the_stream_brings_back_all_that_is_known(story: Story) -> None:
    rollback = settled(story)
    rollback.park("1-b", "who knows", EXECUTOR)
    rollbacks = story.rollbacks()
    rollbacks.store(rollback)
    again = rollbacks.get("7")
    assert (again.rollback_id, again.version) == ("7", rollback.version)
    assert (again.status, again.requester) == ("parked", REQUESTER)
    assert again.plan == rollback.plan and again.plan.content_digest() == again.plan.plan_digest
    assert again.approval == rollback.approval
    assert [again.progress(s.id) for s in again.steps] == [
        rollback.progress(s.id) for s in rollback.steps
    ]
    assert list(rollbacks.ids()) == ["7"]


def test_saving_at_a_version_that_moved_is_a_conflict(story: Story) -> None:
    story.begin()
    story.request()
    one, two = story.rollbacks().get("7"), story.rollbacks().get("7")
    one.approve(one.plan.plan_digest, APPROVER)
    two.approve(two.plan.plan_digest, "user:ada")
    story.rollbacks().store(one)
    with pytest.raises(ConflictError):
        story.rollbacks().store(two)
    approval = story.rollbacks().get("7").approval
    assert approval is not None and approval.actor == APPROVER


def test_trouble_of_the_store_is_said_in_our_words(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_stream: str) -> int:
        raise StoreError("the disk is gone")

    rollbacks = story.rollbacks()
    monkeypatch.setattr(story.ledger.reader, "stream_version", gone)
    with pytest.raises(StoreError, match="the disk is gone"):
        rollbacks.get("7")


def test_the_door_refuses_a_decision_in_a_foreign_stream(story: Story) -> None:
    event = RollbackRequested(pipeline="p", stage="s", target=RollbackTarget(index=0))
    foreign = Decision("incident/1", 1, event, REQUESTER)
    with pytest.raises(MalformedError, match="'incident/1' is not a stream for this event"):
        story.rollbacks().store(planned(story), foreign)
    assert story.ledger.reader.size() == 0


def test_what_was_never_requested_takes_no_plan(story: Story) -> None:
    with pytest.raises(RefusedError, match="rollback/9 was never requested"):
        Rollback("rollback/9").propose(story.plan(), EXECUTOR)


def test_an_id_is_taken_once(story: Story) -> None:
    story.begin()
    story.request()
    with pytest.raises(ConflictError):
        story.request()
    with pytest.raises(NotFoundError, match="there is no rollback '8'"):
        story.rollbacks().get("8")

"""Invariant I6, counted over crash schedules: effects at most once, nothing unknown fired again.

A schedule is: systems of any class in any order, a fault for each of their first calls, and one or
two points at which the process dies, also inside the call. After each death a new executor takes
over from the ledger alone. The same harness must convict an executor that simply calls again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.connector import Idempotency, RestoreStep
from connectors.saga import _restored, _Run
from connectors.verdicts import Verdict
from ledger.events.rollbacks import PlanStep
from ledger.lifecycle.rollback import Rollback
from tests.support.empty_ledgers import empty_ledger
from tests.support.rollback_world import (
    CLASSES,
    FAULTS,
    HUMAN,
    Crashes,
    Fault,
    Story,
    World,
    classes_of,
    digest_of,
)

# Counting branches doubles the time of a search, and others reach the same ones.
pytestmark = pytest.mark.no_cover

POINTS_A_STEP = 6
"""before-intent, after-intent, inside twice, after-effect, after-outcome.

A blind system cannot show that a human was faster: its first call goes over it. That is what
"blind" means, and why such a step says so in the plan; everywhere else it counts as broken.
"""


@dataclass(frozen=True)
class Schedule:
    """What goes wrong, and when we die."""

    classes: tuple[Idempotency, ...]
    faults: tuple[Fault, ...]
    deaths: tuple[int, ...]


@dataclass
class Count:
    """What a campaign found."""

    schedules: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    def add(self, story: Story, rollback: Rollback) -> None:
        self.schedules += 1
        self.ended[rollback.status] += 1
        self.broken.update(violations(story, rollback))


def violations(story: Story, rollback: Rollback) -> Iterator[str]:
    """What of the promises did not hold."""
    world = story.world
    for slot, idempotency in story.classes.items():
        if world.effects[slot] > 1:
            yield f"{idempotency}: effect more than once"
        if idempotency == "blind" and world.calls[slot] > 1:
            yield "blind: fired again"
    if any(story.classes[slot] != "blind" for slot in world.overwritten):
        yield "a human's change was overwritten"
    if rollback.status not in ("completed", "failed", "parked"):
        yield f"ended {rollback.status}"
    reached = all(world.content[slot] == digest_of(f"old {slot}") for slot in story.slots)
    declared = all(story.bound()[slot] == f"model/{slot}@old" for slot in story.slots)
    if (rollback.status == "completed") != declared:
        yield "completed and declared differ"
    if rollback.status == "completed" and not reached:
        yield "completed, and not there"


@contextmanager
def played(schedule: Schedule) -> Iterator[tuple[Story, Rollback]]:
    with empty_ledger() as ledger:
        story = Story(ledger, World(), classes_of(*schedule.classes)).ready()
        story.world.faults = dict(zip(story.slots, schedule.faults, strict=True))
        yield story, story.run_through(Crashes(*schedule.deaths))


def play(schedule: Schedule, count: Count) -> None:
    with played(schedule) as (story, rollback):
        count.add(story, rollback)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    classes = tuple(draw(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=4)))
    faults = tuple(draw(st.sampled_from(FAULTS)) for _ in classes)
    point = st.integers(1, POINTS_A_STEP * len(classes) + 2)
    return Schedule(classes, faults, tuple(draw(st.lists(point, max_size=3))))


@given(schedules())
def test_i6_no_schedule_breaks_a_promise(schedule: Schedule) -> None:
    with played(schedule) as (story, rollback):
        assert list(violations(story, rollback)) == []


def every_schedule(classes: tuple[Idempotency, ...], deaths: int) -> Iterator[Schedule]:
    points = range(1, POINTS_A_STEP * len(classes) + 3)
    for faults in product(FAULTS, repeat=len(classes)):
        for times in range(deaths + 1):
            for at in product(points, repeat=times):
                yield Schedule(classes, faults, at)


@pytest.mark.parametrize("idempotency", CLASSES)
def test_i6_every_single_and_double_death_of_a_step(idempotency: Idempotency) -> None:
    count = Count()
    for schedule in every_schedule((idempotency,), deaths=2):
        play(schedule, count)
    assert not count.broken, count
    assert count.schedules == 6 * (1 + 8 + 64)


@pytest.mark.long
def test_i6_campaign_of_two_steps_and_two_deaths() -> None:
    count = Count()
    for classes in product(CLASSES, repeat=2):
        for schedule in every_schedule(classes, deaths=2):
            play(schedule, count)
    assert not count.broken, count
    assert count.schedules > 60_000


def test_a_run_without_faults_or_deaths_completes() -> None:
    for classes in product(("keyed", "read_back"), repeat=3):
        with played(Schedule(classes, ("none",) * 3, ())) as (story, rollback):
            assert rollback.status == "completed"
            assert set(story.world.effects.values()) == {1}


def test_readable_steps_complete_after_any_death() -> None:
    """Nothing is left to a human that the ledger can find out itself."""
    for classes in (("keyed", "read_back"), ("read_back", "keyed")):
        for at in range(1, 15):
            with played(Schedule(classes, ("none", "none"), (at,))) as (_, rollback):
                assert rollback.status == "completed", at


# --------------------------------------------------------------------------------- negative control


class Naive(_Run):
    """An executor that takes an unfinished step for one that was not begun, and calls it."""

    def _resume(self, step: PlanStep) -> None:
        _restored(self._connector(step), self._restores[step.id])
        self._finish(step, Verdict("done", "called, so it must be done"), step.to_digest)


def test_the_harness_convicts_a_naive_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.saga._Run", Naive)
    count = Count()
    for schedule in every_schedule(("blind",), deaths=1):
        play(schedule, count)
    assert count.broken["blind: fired again"] > 0
    assert count.broken["blind: effect more than once"] > 0


def test_the_harness_convicts_a_system_that_overwrites(monkeypatch: pytest.MonkeyPatch) -> None:
    def blunt(step: RestoreStep, found: str | None) -> str:
        return ""

    monkeypatch.setattr("tests.support.rollback_world.drift", blunt)
    count = Count()
    play(Schedule(("read_back",), ("human",), ()), count)
    assert count.broken["a human's change was overwritten"] == 1
    assert HUMAN.startswith("sha256:")

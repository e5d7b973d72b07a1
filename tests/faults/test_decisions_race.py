"""Two decide at once from the same version: one is recorded, the other gets a conflict.

Each loads on its own, both decide, and only then both save. The pairs cross streams, too: what a
release stands on is voided, and a slot that it binds is bound by somebody else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import ConflictError
from ledger.events import draft
from ledger.lifecycle.approval import Approval
from ledger.lifecycle.decisions import Decisions
from ledger.lifecycle.erasure import Erasure
from ledger.lifecycle.hold import Hold
from ledger.lifecycle.incident import Incident
from ledger.lifecycle.release import Release
from tests.support.deciding import (
    ACTS,
    ALSO,
    DIGEST,
    EARLY,
    OTHER,
    SAYS,
    Approvals,
    Erasures,
    Holds,
    Incidents,
    Releases,
    decisions_of,
    yes,
)
from tests.support.empty_ledgers import Opened, empty_ledger

Decide = Callable[[Decisions], tuple[Any, ...]]
"""Loads and decides; gives back what is to be saved together."""


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    with empty_ledger(tmp_path / "asof.db" if request.param == "sqlite" else None) as opened:
        yield opened


def on(kind: type[Any], command: str, *given: Any, **named: Any) -> Decide:
    """A decision about the subject "1"."""

    def decide(decisions: Decisions) -> tuple[Any, ...]:
        subject = decisions.get(kind, "1")
        getattr(subject, command)(*given, **named)
        return (subject,)

    return decide


def stands_on_it(decisions: Decisions) -> tuple[Any, ...]:
    """The release is approved by approvals "r1" and "r2", which it uses up."""
    subject = decisions.get(Release, "1")
    given = [decisions.get(Approval, name) for name in ("r1", "r2")]
    subject.approve(given, ACTS, now=EARLY)
    return (subject, *given)


def takes_it_back(decisions: Decisions) -> tuple[Any, ...]:
    given = decisions.get(Approval, "r1")
    given.void(SAYS, digest_now=OTHER)
    return (given,)


def says(answer: str, by: str) -> Decide:
    return on(Approval, "decide", answer, by, digest=DIGEST, now=EARLY, role="owner")


LIFTS = on(Hold, "lift", "Settled.", SAYS, now=EARLY, role="privacy")
FREES = on(Hold, "lift", "Partly.", ALSO, now=EARLY, role="privacy", indexes=(3,))
PAIRS = {
    "two answers": (Approvals, (), says("approved", SAYS), says("rejected", ALSO)),
    "the same answer": (Approvals, (), says("approved", SAYS), says("approved", SAYS)),
    "an answer and a change": (
        Approvals,
        (),
        says("approved", SAYS),
        on(Approval, "void", ACTS, digest_now=OTHER),
    ),
    "an approval used and taken back": (Releases, ("ready",), stands_on_it, takes_it_back),
    "an approval used twice": (Releases, ("ready",), stands_on_it, stands_on_it),
    "completed and withdrawn": (
        Releases,
        ("approve",),
        on(Release, "complete", ACTS, now=EARLY, bound={"model": "model/forecaster@1"}),
        on(Release, "withdraw", "Wrong.", SAYS),
    ),
    "told and closed": (
        Incidents,
        (),
        on(Incident, "update", SAYS, action="Rolled back."),
        on(Incident, "close", "A unit.", ALSO),
    ),
    "lifted and freed": (Holds, (), LIFTS, FREES),
    "started and blocked": (
        Erasures,
        ("grant",),
        on(Erasure, "start", {}, ACTS, now=EARLY),
        on(Erasure, "block", {"hold/1": (7,)}, ACTS),
    ),
    "started and changed": (
        Erasures,
        ("grant",),
        on(Erasure, "start", {}, ACTS, now=EARLY),
        on(Erasure, "change", (7,), "Art. 17", SAYS),
    ),
}


def prepare(machine: Any, command: str) -> None:
    """Brings the subject to where both may decide."""
    if command != "ready":
        machine.run(command, None)
        return
    digest = machine.load().digest
    for name, by in (("r1", SAYS), ("r2", ALSO)):
        meaning = "authorised_deployment"
        machine.decisions.store(yes(name, digest, meaning, by, asker="service:ci"))


@pytest.mark.parametrize("pair", PAIRS)
def test_one_is_recorded_and_the_other_is_told(ledger: Opened, pair: str) -> None:
    machine_class, before, *deciders = PAIRS[pair]
    machine = machine_class(decisions_of(ledger))
    for command in before:
        prepare(machine, command)
    size, start = ledger.reader.size(), threading.Barrier(2)
    saved, conflicts = [], []

    def decide_and_save(decide: Decide) -> None:
        decisions = decisions_of(ledger)
        decided = decide(decisions)
        entries = sum(len(subject.pending) for subject in decided)
        start.wait()
        try:
            decisions.store(*decided)
        except ConflictError as error:
            conflicts.append(error)
        else:
            saved.append(entries)

    threads = [threading.Thread(target=decide_and_save, args=(item,)) for item in deciders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(saved), len(conflicts)) == (1, 1)
    assert ledger.reader.size() == size + saved[0]


def test_a_slot_that_somebody_binds_in_between_is_a_conflict(
    ledger: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Releases(decisions_of(ledger))
    machine.run("approve", None)
    bound = {"pipeline": "p", "stage": "s", "slot": "model", "asset_version": "model/forecaster@1"}
    binding = draft(("binding.changed/1", bound), actor=ALSO, now=EARLY)
    ledger.writer.append([binding])
    decisions, release = machine.decisions, machine.load()
    store = decisions.store

    def after_another(*given: Any, **named: Any) -> None:
        ledger.writer.append([binding])
        store(*given, **named)

    monkeypatch.setattr(decisions, "store", after_another)
    with pytest.raises(ConflictError, match="pipeline/p@s"):
        decisions.complete(release, ACTS, now=ledger.clock())
    assert machine.state == "approved"
    monkeypatch.undo()
    decisions.complete(machine.load(), ACTS, now=ledger.clock())
    assert machine.state == "completed"

"""What decisions refuse, in which words, and what their streams bring back (lifecycle.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ledger.canonical import format_time
from ledger.draft import Draft
from ledger.errors import ConflictError, IncompleteError, NotFoundError, RefusedError
from ledger.events import draft
from ledger.events.approvals import ApprovalDecided
from ledger.events.incidents import IncidentUpdated
from ledger.events.releases import ReleaseProposed
from ledger.lifecycle import erasure, release
from ledger.lifecycle.approval import Approval
from ledger.lifecycle.decisions import Decisions, bound_slots
from ledger.lifecycle.erasure import Erasure
from ledger.lifecycle.hold import Hold, held_entries
from ledger.lifecycle.incident import Incident
from ledger.lifecycle.release import Release
from ledger.lifecycle.rollback import Rollback
from tests.support.deciding import (
    ACTS,
    ALSO,
    ASKS,
    DIGEST,
    EARLY,
    EXPIRES,
    LATE,
    OTHER,
    SAYS,
    asked,
    change,
    decisions_of,
    yes,
)
from tests.support.empty_ledgers import START, Opened, empty_ledger

Command = Callable[[], object]


@pytest.fixture
def ledger() -> Iterator[Opened]:
    with empty_ledger() as opened:
        yield opened


@pytest.fixture
def decisions(ledger: Opened) -> Decisions:
    return decisions_of(ledger)


def refused(command: Command, words: str) -> None:
    """The whole message, so that no wrong value can be in it."""
    with pytest.raises(RefusedError) as caught:
        command()
    assert str(caught.value) == words


# ---------------------------------------------------------------------------------------- approvals


def test_6_who_may_not_decide() -> None:
    question = asked(roles=("owner", "risk"))
    for actor, role, words in (
        (ASKS, "owner", "user:mia asked for it; somebody else must decide"),
        ("agent:7", "owner", "agent:7 is not a person; a person must decide"),
        (
            SAYS,
            "guest",
            "user:noah decides as guest; it takes one of the roles owner, risk",
        ),
        (
            SAYS,
            None,
            "user:noah decides as nobody in particular; it takes one of the roles owner, risk",
        ),
    ):
        refused(
            lambda actor=actor, role=role: question.decide(
                "approved", actor, digest=DIGEST, now=EARLY, role=role
            ),
            f"approval/1 is requested: {words}",
        )
    assert (question.version, question.approver) == (1, "")


def test_7_another_digest_is_refused() -> None:
    words = (
        f"it was asked for {DIGEST}, not for {OTHER}; "
        "look at the subject again and request an approval of what it is now"
    )
    question, good = asked(), yes("2", DIGEST, release.MEANING, SAYS)
    refused(
        lambda: question.decide("approved", SAYS, digest=OTHER, now=EARLY),
        f"approval/1 is requested: {words}",
    )
    refused(
        lambda: good.use("release/1", ACTS, digest=OTHER, meaning=release.MEANING, now=EARLY),
        f"approval/2 is approved: {words}",
    )


def test_8_time() -> None:
    question, good = asked(), yes("2", DIGEST, release.MEANING, SAYS)
    refused(
        lambda: question.decide("rejected", SAYS, digest=DIGEST, now=LATE),
        f"approval/1 is requested: its time ran out at {EXPIRES}; request another approval",
    )
    refused(
        lambda: good.check_usable(digest=DIGEST, meaning=release.MEANING, now=LATE),
        f"approval/2 is approved: its time ran out at {EXPIRES}; request another approval",
    )
    refused(
        lambda: question.expire(ACTS, now=EARLY),
        f"approval/1 is requested: its time ({EXPIRES}) has not run out; "
        "void it if the subject changed",
    )
    refused(
        lambda: asked(expires_at=None).expire(ACTS, now=LATE),
        "approval/1 is requested: its time (no end) has not run out; "
        "void it if the subject changed",
    )


def test_9_an_approval_is_used_once_and_for_what_it_means() -> None:
    good = yes("1", DIGEST, release.MEANING, SAYS)
    refused(
        lambda: good.use("privacy/1", ACTS, digest=DIGEST, meaning=erasure.MEANING, now=EARLY),
        "approval/1 is approved: it means authorised_deployment, not erasure_approved; "
        "request one of that meaning",
    )
    good.use("release/1", ACTS, digest=DIGEST, meaning=release.MEANING, now=EARLY)
    refused(
        lambda: good.use("release/2", ACTS, digest=DIGEST, meaning=release.MEANING, now=EARLY),
        "approval/1 is used: release/1 stands on it; each decision needs its own",
    )


def test_what_an_approval_refuses_in_its_state() -> None:
    no = asked()
    no.decide("rejected", SAYS, digest=DIGEST, now=EARLY)
    for command, words in (
        (
            lambda: no.decide("approved", SAYS, digest=DIGEST, now=EARLY),
            "it cannot be decided any more; request another approval",
        ),
        (lambda: no.expire(ACTS, now=LATE), "it cannot expire any more; leave it as it is"),
        (lambda: no.void(ACTS), "it cannot be voided any more; leave it as it is"),
        (
            lambda: no.check_usable(digest=DIGEST, meaning=release.MEANING, now=EARLY),
            "nothing can stand on it; only an approval that says yes counts",
        ),
    ):
        refused(command, f"approval/1 is rejected: {words}")
    refused(
        lambda: asked().void(ACTS, digest_now=DIGEST),
        f"approval/1 is requested: the subject still has the digest {DIGEST}; leave it as it is",
    )


def test_an_answer_without_a_question_is_of_no_use(decisions: Decisions, ledger: Opened) -> None:
    answer = ApprovalDecided(decision="approved", meaning="authorised_deployment")
    ledger.writer.append([draft(answer, stream="approval/1", actor=SAYS, now=START)])
    found = decisions.get(Approval, "1")
    assert (found.status, found.approver) == ("approved", SAYS)
    refused(
        lambda: found.check_usable(digest=DIGEST, meaning=release.MEANING, now=EARLY),
        "approval/1 is approved: nobody asked for it; request an approval",
    )


def test_what_was_asked_is_kept() -> None:
    request = asked(
        policy="two-person-release", subject="model/m@1", pipeline="p", stage="s", reason="Gate."
    ).request
    assert request.model_dump(exclude_unset=True) == {
        "subject_digest": DIGEST,
        "meaning": "authorised_deployment",
        "policy": "two-person-release",
        "subject": "model/m@1",
        "pipeline": "p",
        "stage": "s",
        "expires_at": EXPIRES,
        "reason": "Gate.",
    }


# ----------------------------------------------------------------------------------------- releases


def proposed(name: str = "1", *, approvers: int = 1, previous: str | None = None) -> Release:
    return Release.proposed(
        name,
        pipeline="p",
        stage="s",
        changes=[change(7, previous=previous)],
        actor=ASKS,
        approvers=approvers,
    )


def for_release(name: str, subject: Release, by: str, **changes: Any) -> Approval:
    made = asked(name, subject_digest=subject.digest, actor="service:ci", **changes)
    made.decide("approved", by, digest=subject.digest, now=EARLY)
    return made


def test_10_the_digest_covers_the_stream_the_changes_and_the_number_of_approvers() -> None:
    digests = {
        proposed().digest,
        proposed("2").digest,
        proposed(approvers=2).digest,
        proposed(previous="model/forecaster@6").digest,
    }
    assert len(digests) == 4
    subject = proposed()
    assert subject.digest == subject.proposal.content_digest("release/1") == proposed().digest


def test_11_it_takes_as_many_people_as_it_says_and_no_author() -> None:
    subject = proposed(approvers=2)
    once = for_release("1", subject, SAYS)
    twice = for_release("2", subject, SAYS)
    own = for_release("3", subject, ASKS)
    refused(
        lambda: subject.approve([once, twice], ACTS, now=EARLY),
        "release/1 is proposed: 1 of 2 people have approved it; request further approvals",
    )
    refused(
        lambda: subject.approve([once, own], ACTS, now=EARLY),
        "release/1 is proposed: user:mia wrote it and approves it; somebody else must approve it",
    )
    assert [item.status for item in (once, twice, own)] == ["approved"] * 3
    subject.approve([once, for_release("4", subject, ALSO)], ACTS, now=EARLY)
    assert (subject.status, once.used_by) == ("approved", "release/1")


def test_11_who_changed_the_proposal_is_an_author_too() -> None:
    subject = proposed()
    subject.change([change(8)], SAYS)
    refused(
        lambda: subject.approve([for_release("1", subject, SAYS)], ACTS, now=EARLY),
        "release/1 is proposed: user:noah wrote it and approves it; somebody else must approve it",
    )


def test_12_an_approval_that_ran_out_releases_nothing_until_others_are_given() -> None:
    subject = proposed()
    subject.approve([for_release("1", subject, SAYS)], ACTS, now=EARLY)
    refused(
        lambda: subject.complete(ACTS, now=LATE, bound={}),
        f"release/1 is approved: its approval ran out at {EXPIRES}; have it approved again",
    )
    later = format_time(LATE + 1)
    subject.approve([for_release("2", subject, ALSO, expires_at=later)], ACTS, now=LATE)
    subject.complete(ACTS, now=LATE, bound={})
    assert subject.status == "completed"


def test_a_changed_proposal_takes_its_approvals_with_it() -> None:
    subject = proposed()
    old = for_release("1", subject, SAYS)
    subject.approve([old], ACTS, now=EARLY)
    subject.change([change(7)], ASKS, approvers=1, reason="The same.")
    assert subject.status == "approved"
    subject.change([change(7)], ASKS, approvers=2)
    assert (subject.status, subject.approval, subject.proposal.approvers) == ("proposed", None, 2)
    refused(
        lambda: subject.approve([old], ACTS, now=EARLY),
        "approval/1 is used: nothing can stand on it; only an approval that says yes counts",
    )


def test_13_what_is_replaced_must_still_be_there() -> None:
    subject = proposed(previous="model/forecaster@6")
    subject.approve([for_release("1", subject, SAYS)], ACTS, now=EARLY)
    for bound, found in (({"model": "model/forecaster@8"}, "model/forecaster@8"), ({}, "nothing")):
        refused(
            lambda bound=bound: subject.complete(ACTS, now=EARLY, bound=bound),
            f"release/1 is approved: model holds {found}, not model/forecaster@6 as proposed; "
            "propose the change from what is there now",
        )


def test_what_a_release_refuses_in_its_state() -> None:
    subject = proposed()
    refused(
        lambda: subject.complete(ACTS, now=EARLY, bound={}),
        "release/1 is proposed: it cannot be completed; have it approved first",
    )
    subject.withdraw("No.", ASKS)
    refused(
        lambda: subject.change([change(8)], ASKS),
        "release/1 is withdrawn: its proposal can no longer change; propose another release",
    )
    refused(
        lambda: subject.approve([], ASKS, now=EARLY),
        "release/1 is withdrawn: it cannot be approved now; a proposal that waits can",
    )
    refused(
        lambda: Release("release/9").withdraw("No.", ASKS),
        "release/9 is new: it has no proposal; propose it first",
    )


def test_13_a_release_and_its_bindings_are_one_batch(decisions: Decisions, ledger: Opened) -> None:
    subject = proposed()
    assert next(iter(subject.bindings())).approval is None
    approval_ = for_release("1", subject, SAYS)
    subject.approve([approval_], ACTS, now=EARLY)
    decisions.store(subject, approval_)
    for _ in range(2):
        decisions.complete(decisions.get(Release, "1"), ACTS, now=EARLY)
    assert ledger.reader.entry(ledger.reader.size() - 2).type == "release.completed/1"
    bound = ledger.reader.entry(ledger.reader.size() - 1)
    assert (bound.stream, bound.version, bound.data) == (
        "pipeline/p@s",
        1,
        {
            "pipeline": "p",
            "stage": "s",
            "slot": "model",
            "asset_version": "model/forecaster@7",
            "change_id": "release/1",
            "approval": "approval/1",
        },
    )


def test_13_slots_as_the_stream_tells(ledger: Opened) -> None:
    def bind(kind: str, slot: str, at: int, **data: Any) -> Draft:
        fields = {"pipeline": "p", "stage": "s", "slot": slot, "effective_at": format_time(at)}
        return draft((f"binding.{kind}/1", {**fields, **data}), actor=ACTS, now=LATE)

    ledger.writer.append(
        [
            bind("changed", "model", START + 5, asset_version="model/m@2"),
            bind("changed", "model", START + 1, asset_version="model/m@1"),
            bind("changed", "model", LATE, asset_version="model/m@3"),
            bind("changed", "data", START, asset_version="dataset/d@1"),
            bind("removed", "data", START + 1),
            draft(
                (
                    "traffic.changed/1",
                    {"pipeline": "p", "stage": "s", "shares": {}, "mode": "live"},
                ),
                actor=ACTS,
                now=LATE,
            ),
        ]
    )
    assert bound_slots(ledger.reader, "pipeline/p@s", EARLY) == {"model": "model/m@2"}


# ---------------------------------------------------------------------------------------- incidents


def test_15_what_is_closed_stays_closed() -> None:
    subject = Incident.opened(
        "1", severity="major", summary="Too low.", actor=ASKS, about=("incident/0",)
    )
    subject.update(SAYS, action="Rolled back.", severity="critical", reported_to="authority")
    subject.close("A unit.", SAYS)
    refused(
        lambda: subject.update(SAYS, action="More."),
        "incident/1 is closed: nothing more can be told of it; open another that names it",
    )
    refused(
        lambda: subject.close("Another cause.", SAYS),
        "incident/1 is closed: it cannot be closed; open another that names it",
    )


def test_16_only_news_is_recorded(decisions: Decisions) -> None:
    decisions.store(Incident.opened("1", severity="major", summary="Too low.", actor=ASKS))
    subject = decisions.get(Incident, "1")
    news = {"action": "Rolled back.", "severity": "major", "reported_to": "authority"}
    subject.update(SAYS, **news)
    assert subject.pending[0].event.model_dump(exclude_unset=True) == {
        "action": "Rolled back.",
        "reported_to": "authority",
    }
    decisions.store(subject)
    again = decisions.get(Incident, "1")
    again.update(SAYS, **news)
    again.update(SAYS, severity="critical")
    assert (again.version, again.severity) == (3, "critical")
    assert (again.actions, again.reported_to) == (("Rolled back.",), ("authority",))


# -------------------------------------------------------------------------------------------- holds


def placed(**changes: Any) -> Hold:
    return Hold.placed("1", **{"ground": "File 7", "actor": ASKS, "indexes": (4, 5), **changes})


def test_17_what_a_hold_covers() -> None:
    refused(
        lambda: placed(indexes=()),
        "hold/1 is new: it would hold nothing; name entries or streams",
    )
    hold = placed(streams=("run/7", "note/", "pipeline/p@s"))
    covered = {
        (4, "x"): True,
        (6, "x"): False,
        (9, "run/7"): True,
        (9, "run/70"): False,
        (9, "note/release"): True,
        (9, "notes/release"): False,
    }
    assert {place: hold.covers(*place) for place in covered} == covered


def test_18_who_may_not_lift() -> None:
    hold = placed(role="legal")
    for actor, role, words in (
        (ASKS, "privacy", "user:mia placed it; somebody else must lift it"),
        (
            SAYS,
            "legal",
            "it was placed by legal and would be lifted by legal; another role must lift it",
        ),
        (
            SAYS,
            None,
            "it was placed by legal and would be lifted by no role; another role must lift it",
        ),
    ):
        refused(
            lambda actor=actor, role=role: hold.lift("Settled.", actor, now=EARLY, role=role),
            f"hold/1 is placed: {words}",
        )
    hold.lift("Settled.", SAYS, now=EARLY, role="privacy")
    assert hold.status == "lifted"


def test_18_entry_by_entry_until_none_is_left() -> None:
    hold = placed()
    refused(
        lambda: hold.lift("Settled.", SAYS, now=EARLY, indexes=(4, 9)),
        "hold/1 is placed: entry 9 is not one of those it names; "
        "lift it whole, and place a narrower one",
    )
    hold.lift("Settled.", SAYS, now=EARLY, indexes=(4,))
    assert (hold.status, hold.covers(4, "x"), hold.covers(5, "x")) == ("placed", False, True)
    hold.lift("Settled.", SAYS, now=EARLY, indexes=(4, 5))
    assert (hold.status, hold.in_force(EARLY)) == ("lifted", False)


def test_19_a_hold_whose_time_is_over() -> None:
    hold = placed(until=EXPIRES)
    assert (hold.in_force(EARLY), hold.in_force(LATE)) == (True, False)
    refused(
        lambda: hold.lift("Settled.", SAYS, now=LATE),
        f"hold/1 is placed: it ended by itself at {EXPIRES}; leave it as it is",
    )
    refused(
        lambda: Hold("hold/9").lift("Settled.", SAYS, now=EARLY),
        "hold/9 is new: there is nothing to lift; place it first",
    )


def test_22_what_is_held_now(decisions: Decisions, ledger: Opened) -> None:
    ledger.writer.append(
        [
            Draft(type="note.added/1", stream=name, actor=ACTS, payload=b'{"text":"x"}')
            for name in ("note/a", "note/b", "run/7")
        ]
    )
    decisions.store(
        Hold.placed("1", ground="x", actor=ASKS, indexes=(0, 1)),
        Hold.placed("2", ground="x", actor=ASKS, streams=("run/7",)),
        Hold.placed("3", ground="x", actor=ASKS, indexes=(1,), until=EXPIRES),
    )
    assert decisions.held((0, 2), now=EARLY) == {"hold/1": (0,), "hold/2": (2,)}
    assert decisions.held((1,), now=EARLY) == {"hold/1": (1,), "hold/3": (1,)}
    assert decisions.held((1,), now=LATE) == {"hold/1": (1,)}
    assert held_entries([], {0: "x"}, EARLY) == {}


# ----------------------------------------------------------------------------------------- erasures


def requested(name: str = "1", **changes: Any) -> Erasure:
    fields: dict[str, Any] = {"indexes": (7, 8), "ground": "Art. 17", "actor": ASKS}
    return Erasure.requested(name, **{**fields, **changes})


def for_erasure(name: str, subject: Erasure, by: str, **changes: Any) -> Approval:
    made = asked(
        name,
        subject_digest=subject.digest,
        meaning=erasure.MEANING,
        actor="service:desk",
        **changes,
    )
    made.decide("approved", by, digest=subject.digest, now=EARLY)
    return made


def granted(**changes: Any) -> Erasure:
    subject = requested(**changes)
    subject.grant(
        [for_erasure("1", subject, SAYS), for_erasure("2", subject, ALSO)], ASKS, now=EARLY
    )
    return subject


def started(**changes: Any) -> Erasure:
    subject = granted(**changes)
    subject.start({}, ACTS, now=EARLY)
    return subject


def test_20_every_request_of_a_case_has_its_own_digest() -> None:
    subject = requested()
    first = subject.digest
    subject.change((7, 8), "Art. 17", ASKS)
    assert (subject.version, subject.digest) == (1, first)
    subject.change((7, 8), "Art. 17(1)(b)", ASKS)
    assert subject.digest not in (first, requested("2").digest, requested(subject="k1").digest)
    assert subject.digest == subject.request.content_digest("privacy/1")
    assert subject.request.number == 2


def test_21_it_takes_two_others() -> None:
    subject = requested()
    one, same = for_erasure("1", subject, SAYS), for_erasure("2", subject, SAYS)
    refused(
        lambda: subject.grant([one, same], ASKS, now=EARLY),
        "privacy/1 is requested: 1 of 2 people have approved it; request further approvals",
    )
    refused(
        lambda: subject.grant([one, for_erasure("3", subject, ASKS)], ASKS, now=EARLY),
        "privacy/1 is requested: user:mia wrote it and approves it; somebody else must approve it",
    )


def test_22_a_hold_stops_it() -> None:
    subject = granted()
    refused(
        lambda: subject.start({"hold/1": (8,)}, ACTS, now=EARLY),
        "privacy/1 is granted: hold/1 holds entry 8; record that it is blocked, and wait",
    )
    refused(
        lambda: subject.block({"hold/1": (99,)}, ACTS),
        "privacy/1 is granted: no hold covers what remains; start it",
    )
    subject.block({"hold/1": (8,), "hold/2": (7, 8), "hold/3": (99,)}, ACTS)
    blocked = subject.pending[-1].event.model_dump(exclude_unset=True)
    assert blocked == {"holds": ("hold/1", "hold/2"), "indexes": (7, 8)}
    subject.block({"hold/2": (7,)}, ACTS)
    assert subject.pending[-1].event.model_dump(exclude_unset=True)["holds"] == ("hold/2",)
    subject.start({"hold/3": (99,)}, ACTS, now=EARLY)
    assert subject.status == "started"


def test_22_an_approval_that_ran_out_begins_nothing_but_ends_what_was_begun() -> None:
    subject = granted()
    refused(
        lambda: subject.start({}, ACTS, now=LATE),
        "privacy/1 is granted: its approval ran out; have it granted again",
    )
    later = {"expires_at": format_time(LATE + 1)}
    again = [for_erasure("3", subject, SAYS, **later), for_erasure("4", subject, ALSO, **later)]
    subject.grant(again, ASKS, now=LATE)
    subject.start({}, ACTS, now=LATE)
    begun = started()
    begun.block({"hold/1": (8,)}, ACTS)
    begun.start({}, ACTS, now=LATE)
    assert (subject.status, begun.status) == ("started", "started")


def test_23_the_second_look_sees_a_hold_that_came_after_the_first() -> None:
    subject = started(indexes=tuple(range(9)))
    subject.check_may_erase({})
    refused(
        lambda: subject.check_may_erase({"hold/2": tuple(range(7)), "hold/9": (1,)}),
        "privacy/1 is started: hold/2 holds entries 0, 1, 2, 3, 4 and 2 more; "
        "record that it is blocked, and wait",
    )
    subject.block({"hold/2": (3,)}, ACTS)
    refused(
        lambda: subject.check_may_erase({}),
        "privacy/1 is blocked: nothing may be erased; start it first",
    )


def test_24_what_has_happened_is_told_and_what_was_never_begun_is_not() -> None:
    refused(
        lambda: granted().carried_out((7,), {}, ACTS),
        "privacy/1 is granted: nothing was begun; start it before anything is erased",
    )
    subject = started()
    subject.block({"hold/1": (8,)}, ACTS)
    for indexes, named in (((7, 99), "[99]"), ((), "no entries at all")):
        refused(
            lambda indexes=indexes: subject.carried_out(indexes, {}, ACTS),
            f"privacy/1 is blocked: the request does not name {named}; "
            "tell what was erased of what was asked for",
        )
    subject.carried_out((7,), {"payloads_deleted": 1}, ACTS)
    assert (subject.status, subject.remaining) == ("blocked", (8,))
    refused(
        lambda: subject.close("erased", ASKS),
        "privacy/1 is blocked: 1 of 2 entries are not erased; erase them first",
    )
    subject.carried_out((8,), {"payloads_deleted": 1}, ACTS)
    assert subject.pending[-1].event.model_dump(exclude_unset=True) == {
        "indexes": (8,),
        "ground": "Art. 17",
        "approvals": ("approval/1", "approval/2"),
        "evidence": {"payloads_deleted": 1},
    }
    assert subject.status == "erased"


def test_a_persons_key_is_told_as_such() -> None:
    subject = started(subject="c41f", received_at=format_time(START))
    subject.carried_out((7, 8), {}, ACTS)
    event = subject.pending[-1].event
    assert event.TYPE == "subject.erased/1"
    assert event.model_dump()["subject"] == "c41f"


def test_26_it_is_refused_only_while_nothing_was_begun_and_with_the_reason() -> None:
    subject = requested()
    refused(
        lambda: subject.close("withdrawn", ASKS),
        "privacy/1 is requested: why it is withdrawn is not said; say why",
    )
    subject.close("withdrawn", ASKS, why="A mistake.")
    refused(
        lambda: subject.close("refused", ASKS, why="Too late."),
        "privacy/1 is closed: it cannot be closed; open another case",
    )
    refused(
        lambda: started().close("refused", ASKS, why="Too late."),
        "privacy/1 is started: it was begun, it is not refused; bring it to its end",
    )


def test_what_an_erasure_refuses_in_its_state() -> None:
    new, subject = Erasure("privacy/9"), requested()
    for command, words in (
        (
            lambda: subject.block({"hold/1": (7,)}, ACTS),
            "requested: there is nothing to block; a hold stops what was granted",
        ),
        (
            lambda: subject.start({}, ACTS, now=EARLY),
            "requested: it cannot be started; have it granted first",
        ),
        (
            lambda: requested(indexes=()),
            "new: no entries are named; name those that hold the data",
        ),
        (
            lambda: started().change((7,), "x", ASKS),
            "started: the request can no longer change; open another case",
        ),
        (
            lambda: started().grant([], ASKS, now=EARLY),
            "started: it cannot be granted now; a request that waits can",
        ),
    ):
        refused(command, f"privacy/1 is {words}")
    refused(lambda: new.digest, "privacy/9 is new: nobody asked for it; request the erasure first")


def test_5_what_was_written_past_the_rules_is_read_all_the_same(
    decisions: Decisions, ledger: Opened
) -> None:
    disposed = ("record.disposed/1", {"indexes": [0], "ground": "Retention is over."})
    ledger.writer.append([draft(disposed, stream="privacy/q4", actor=ACTS, now=START)])
    found = decisions.get(Erasure, "q4")
    assert (found.status, found.erased) == ("new", frozenset({0}))


# --------------------------------------------------------------------------------------- repository


def test_what_is_not_there_and_what_is_there_already(decisions: Decisions) -> None:
    with pytest.raises(NotFoundError, match=r"there is no hold/1: its id is not known here"):
        decisions.get(Hold, "1")
    decisions.store(placed())
    with pytest.raises(ConflictError, match="hold/1"):
        decisions.store(placed())
    assert list(decisions.ids(Hold)) == ["1"]
    assert (Rollback.PREFIX, list(decisions.ids(Rollback))) == ("rollback/", [])


def test_a_repeated_save_with_its_key_is_answered_again(
    decisions: Decisions, ledger: Opened
) -> None:
    for _ in range(2):
        decisions.store(placed(), idempotency_key="hold-1")
    assert ledger.reader.size() == 1


def test_a_hold_that_cannot_be_read_stops_an_erasure(
    decisions: Decisions, ledger: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    decisions.store(placed(indexes=(0,)))
    whole = ledger.store.stream_rows
    monkeypatch.setattr(
        ledger.store,
        "stream_rows",
        lambda *given, **named: (
            row._replace(payload=None, salt=None) for row in whole(*given, **named)
        ),
    )
    with pytest.raises(IncompleteError, match="hold/1#1: the payload was erased"):
        decisions.held((0,), now=EARLY)


def test_two_changes_of_one_slot_are_refused_at_the_door() -> None:
    with pytest.raises(ValueError, match="two changes are for the same slot"):
        ReleaseProposed(
            pipeline="p",
            stage="s",
            changes=(change(7), change(8)),
            approvers=1,
            release_digest=DIGEST,
        )


def test_16_an_update_that_says_nothing_is_refused_at_the_door() -> None:
    with pytest.raises(ValueError, match="says nothing: give an action, a severity or reported_to"):
        IncidentUpdated()

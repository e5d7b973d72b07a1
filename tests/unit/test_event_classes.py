"""The vocabulary: complete, documented, frozen, strict; and the rules of single classes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from ledger.canonical import parse_json_object, parse_time
from ledger.errors import MalformedError
from ledger.events import (
    COMMON_FIELDS,
    EVENT_TYPES,
    Event,
    FreeText,
    Personal,
    draft,
    event_class,
    marked_fields,
    parse_event,
    stream_of,
)

CHECKOUT = Path(__file__).resolve().parents[2]
NOW = parse_time("2026-11-22T00:00:00.000000Z")
CLASSES = pytest.mark.parametrize("cls", EVENT_TYPES.values(), ids=lambda cls: cls.TYPE)

TYPES_OF_THE_DESIGN = """
asset.version.recorded asset.version.withdrawn pipeline.defined binding.changed binding.removed
traffic.changed run.started run.finished evaluation.recorded monitoring.observed drift.detected
approval.requested approval.decided incident.opened incident.closed observation.recorded
rollback.requested rollback.planned rollback.approved rollback.step.started rollback.step.finished
rollback.parked rollback.completed rollback.failed tag.set note.added policy.changed access.granted
access.revoked access.recorded ledger.opened epoch.started key.rotated checkpoint.anchored
migration.applied payload.redacted subject.erased hold.placed hold.lifted record.disposed
report.generated
""".split()


TYPES_OF_DECISIONS = """
approval.expired approval.voided approval.used release.proposed release.approved release.completed
release.withdrawn incident.updated erasure.requested erasure.granted erasure.blocked erasure.started
erasure.closed
""".split()


def test_the_vocabulary_is_that_of_the_design_and_what_decisions_need() -> None:
    names = TYPES_OF_THE_DESIGN + TYPES_OF_DECISIONS
    assert sorted(EVENT_TYPES) == sorted(f"{name}/1" for name in names)


@CLASSES
def test_each_class_says_what_it_means(cls: type[Event]) -> None:
    assert event_class(cls.TYPE) is cls
    assert re.fullmatch(r"[a-z]+(\.[a-z]+)+/[1-9][0-9]*", cls.TYPE)
    assert cls.__doc__ and cls.__doc__ != Event.__doc__
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.__name__}.{name}"


@CLASSES
def test_each_example_passes_the_door(cls: type[Event]) -> None:
    made = draft((cls.TYPE, cls.EXAMPLE), stream=cls.EXAMPLE_STREAM, actor="user:7", now=NOW)
    assert parse_json_object(made.payload) == cls.EXAMPLE
    assert stream_of(parse_event(cls.TYPE, cls.EXAMPLE)) in (None, cls.EXAMPLE_STREAM)


@CLASSES
def test_each_event_is_frozen_and_closed(cls: type[Event]) -> None:
    event = parse_event(cls.TYPE, cls.EXAMPLE)
    with pytest.raises(ValidationError):
        event.reason = "later"  # type: ignore[misc]
    with pytest.raises(MalformedError, match='unknown field "colour"'):
        parse_event(cls.TYPE, {**cls.EXAMPLE, "colour": "red"})
    assert COMMON_FIELDS <= set(cls.model_fields)


@CLASSES
def test_every_needed_field_is_missed(cls: type[Event]) -> None:
    for name, field in cls.model_fields.items():
        if field.is_required():
            key = field.alias or name
            rest = {k: v for k, v in cls.EXAMPLE.items() if k != key}
            with pytest.raises(MalformedError, match=f'"{key}" is missing') as caught:
                parse_event(cls.TYPE, rest)
            assert caught.value.where == f"/{key}"


@CLASSES
def test_null_is_taken_wherever_a_field_may_be_unknown(cls: type[Event]) -> None:
    """Unknown is null: what the state prints can be recorded."""
    common = dict.fromkeys(COMMON_FIELDS)
    kept = {k: v for k, v in cls.EXAMPLE.items() if k not in common}
    if not cls.model_fields["source"].is_required():
        parse_event(cls.TYPE, {**common, **kept})


# ------------------------------------------------------------------------------------------ marks


def test_open_text_and_people_are_marked() -> None:
    assert marked_fields(event_class("binding.changed/1")) == {
        "/reason": FreeText,
        "/source/ref": FreeText,
        "/source/claimed_actor": Personal,
        "/source/details": FreeText,
    }
    planned = marked_fields(event_class("rollback.planned/1"))
    assert planned["/steps/*/call"] == FreeText
    assert marked_fields(event_class("incident.closed/1"))["/actions/*"] == FreeText
    assert marked_fields(event_class("access.granted/1"))["/principal"] == Personal
    assert marked_fields(event_class("note.added/1"))["/text"] == FreeText
    assert repr(FreeText) == "FreeText"


@CLASSES
def test_no_open_field_is_without_a_mark(cls: type[Event]) -> None:
    """Every prose and every free JSON of the vocabulary: the type itself carries the mark."""
    for name, field in cls.model_fields.items():
        words = [getattr(mark, "text", "") for mark in field.metadata]
        if {"text", "URI or path", "JSON object", "any JSON"} & set(words):
            assert f"/{field.alias or name}" in marked_fields(cls)


# ------------------------------------------------------------------------------- rules of classes


def data_of(name: str, **changed: Any) -> dict[str, Any]:
    return {**event_class(name).EXAMPLE, **changed}


def test_data_may_come_as_tuples() -> None:
    event = parse_event("note.added/1", {"text": "x", "about": ("a", "b")})
    assert event == parse_event("note.added/1", {"text": "x", "about": ["a", "b"]})


@pytest.mark.parametrize("mode", ["live", "canary", "ab"])
def test_shares_add_up_to_100(mode: str) -> None:
    refs = ("model/a@1", "model/b@1", "model/c@1")
    for percents in ((100,), (90, 10), (33.3, 33.3, 33.4), ()):
        shares = dict(zip(refs, percents, strict=False))
        parse_event("traffic.changed/1", data_of("traffic.changed/1", shares=shares, mode=mode))
    for percents in ((99.9,), (90, 11), (33.3, 33.3, 33.3)):
        shares = dict(zip(refs, percents, strict=False))
        with pytest.raises(MalformedError, match="/shares: the shares add up to"):
            parse_event("traffic.changed/1", data_of("traffic.changed/1", shares=shares, mode=mode))


def test_shadow_shares_need_not_add_up() -> None:
    shares = {"model/a@1": 100, "model/b@1": 100}
    parse_event("traffic.changed/1", data_of("traffic.changed/1", shares=shares, mode="shadow"))


SLOT_A, SLOT_B = {"slot": "a", "kind": "model"}, {"slot": "b", "kind": "dataset"}


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        ([SLOT_A, SLOT_A], "same name"),
        ([{**SLOT_A, "depends_on": ["x"]}], "no slot here"),
        ([{**SLOT_A, "depends_on": ["a"]}], "depend on each other"),
        ([{**SLOT_A, "depends_on": ["b"]}, {**SLOT_B, "depends_on": ["a"]}], "→"),
    ],
)
def test_slots_form_an_order(slots: list[Any], words: str) -> None:
    with pytest.raises(MalformedError, match=words) as caught:
        parse_event("pipeline.defined/1", data_of("pipeline.defined/1", slots=slots))
    assert caught.value.where == "/slots"


@pytest.mark.parametrize(
    ("name", "changed", "where"),
    [
        (
            "monitoring.observed/1",
            {"window": {"from": "2026-11-21T06:00:00+01:00", "to": "2026-11-21T05:00:00Z"}},
            "/window/to",
        ),
        (
            "evaluation.recorded/1",
            {"metrics": {"m": {"value": 1, "n": 2, "interval": [2, 1]}}},
            "/metrics/m/interval",
        ),
        ("evaluation.recorded/1", {"metrics": {"m": {"value": 1}}}, "/metrics/m/n"),
        ("tag.set/1", {"index": None, "state_digest": None}, "/index"),
        ("binding.removed/1", {"asset_version": "model/other@1"}, "/previous"),
        ("payload.redacted/1", {"indexes": []}, "/indexes"),
        ("ledger.opened/1", {"keys": []}, "/keys"),
        ("ledger.opened/1", {"keys": ["not a key"]}, "/keys/0"),
        ("ledger.opened/1", {"keys": [""]}, "/keys/0"),
        (
            "evaluation.recorded/1",
            {"metrics": {"value": {"value": 1, "n": 2, "m": 3}}},
            "/metrics/value/m",
        ),
        ("access.granted/1", {"principal": "user:anna@example.com"}, "/principal"),
        ("access.granted/1", {"principal": "Anna"}, "/principal"),
        ("rollback.step.started/1", {"attempt": 0}, "/attempt"),
        ("rollback.step.finished/1", {"outcome": "maybe"}, "/outcome"),
        ("asset.version.recorded/1", {"version": "a@b"}, "/version"),
        ("asset.version.recorded/1", {"digest": "sha256:" + "ab" * 31}, "/digest"),
        ("asset.version.recorded/1", {"digest": "x:" + "a" * 31}, "/digest"),
        ("asset.version.recorded/1", {"metadata": [1]}, "/metadata"),
        ("run.finished/1", {"status": "not ok"}, "/status"),
    ],
)
def test_rules_point_to_their_field(name: str, changed: dict[str, Any], where: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_event(name, data_of(name, **changed))
    assert caught.value.where == where


def test_two_steps_of_a_plan_differ() -> None:
    step = event_class("rollback.planned/1").EXAMPLE["steps"][0]
    with pytest.raises(MalformedError, match="/steps: two steps have the same id"):
        parse_event("rollback.planned/1", data_of("rollback.planned/1", steps=[step, step]))


@pytest.mark.parametrize("digest", ["sha1:" + "a" * 40, "md5:" + "0" * 32, "git-tree:" + "c" * 40])
def test_digests_of_other_systems_are_taken(digest: str) -> None:
    parse_event("asset.version.recorded/1", data_of("asset.version.recorded/1", digest=digest))


@pytest.mark.parametrize("metric", [7, 7.5, {"value": 7, "n": 3}])
def test_a_monitored_figure_may_have_its_n(metric: Any) -> None:
    parse_event("monitoring.observed/1", data_of("monitoring.observed/1", metrics={"m": metric}))


@pytest.mark.parametrize(
    "name",
    [
        "Ümläute",
        "預測",
        "مرحبا",
        "🎉👍🏽",
        "<script>alert(1)</script>",
        "x" * 512,
        "a b",
        "~/\\\"'",
    ],
)
def test_any_text_survives_in_names(name: str) -> None:
    made = draft(
        ("binding.changed/1", data_of("binding.changed/1", slot=name)), actor="user:7", now=NOW
    )
    assert orjson.loads(made.payload)["slot"] == name


def test_a_metadata_of_an_event_is_not_that_of_its_maker() -> None:
    metadata: dict[str, Any] = {"rows": 1}
    event: Any = parse_event(
        "asset.version.recorded/1", data_of("asset.version.recorded/1", metadata=metadata)
    )
    metadata["rows"] = 2
    assert event.metadata == {"rows": 1}


def test_the_digest_of_a_plan_covers_what_is_decided_about() -> None:
    example = event_class("rollback.planned/1").EXAMPLE
    plan: Any = parse_event("rollback.planned/1", example)
    same: Any = parse_event("rollback.planned/1", {**example, "reason": "said twice", "slots": []})
    other: Any = parse_event("rollback.planned/1", {**example, "steps": []})
    assert plan.content_digest() == same.content_digest()
    assert plan.content_digest() != other.content_digest()


def test_threads_that_come_first_at_once() -> None:
    """Validators are made at their first use: in a fresh process, by many threads at once."""
    program = """
import sys, threading
from ledger.events import REGISTRY, draft
sys.setswitchinterval(1e-5)
failed = []
def use(door):
    try:
        for name, kind in REGISTRY.types.items():
            if door:
                event = (name, dict(kind.EXAMPLE))
                draft(event, stream=kind.EXAMPLE_STREAM, actor="user:7", now=NOW)
            else:
                kind.model_validate(dict(kind.EXAMPLE))
    except Exception as error:
        failed.append(error)
threads = [threading.Thread(target=use, args=(number % 2,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit(str(failed) if failed else 0)
"""
    text = program.replace("NOW", str(4_000_000_000_000_000))
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert done.returncode == 0, done.stderr

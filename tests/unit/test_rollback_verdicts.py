"""The table of docs/spec/rollback.md 10 and 11, cell by cell."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.connector import AssetVersion, Outcome, RestoreStep
from connectors.verdicts import MAX_ATTEMPTS, judge
from tests.support.rollback_world import CLASSES, digest_of

THERE, BEFORE, THIRD = digest_of("old"), digest_of("new"), digest_of("a human's")
NOBODY = None


def step(idempotency: Any) -> RestoreStep:
    target = AssetVersion(
        kind="model",
        name="m",
        version="old",
        digest=THERE,
        location="sim://m",
        source={"system": "sim", "ref": "m"},
        restorable="restorable",
    )
    return RestoreStep(
        id="rollback/7/0-m",
        slot="m",
        target=target,
        expected_digest_now=BEFORE,
        idempotency=idempotency,
    )


def verdict(idempotency: str, answer: str | None, found: str | None, attempt: int = 1) -> str:
    outcome = None if answer is NOBODY else Outcome(status=answer, detail="")  # type: ignore[arg-type]
    return judge(step(idempotency), outcome, found, attempt).what


@pytest.mark.parametrize("idempotency", CLASSES)
@pytest.mark.parametrize("answer", ["done", "failed", "refused", "unknown"])
def test_10_what_is_there_is_done_whatever_was_said(idempotency: str, answer: str) -> None:
    assert verdict(idempotency, answer, THERE) == "done"


@pytest.mark.parametrize("idempotency", CLASSES)
def test_10_what_was_there_before_anybody_answered_is_already_there(idempotency: str) -> None:
    assert verdict(idempotency, NOBODY, THERE) == "already"
    assert verdict(idempotency, "already", THERE) == "already"


@pytest.mark.parametrize("found", [BEFORE, THIRD, None])
@pytest.mark.parametrize("answer", ["done", "already", "failed", "refused"])
@pytest.mark.parametrize("idempotency", ["keyed", "read_back"])
def test_10_what_is_not_there_has_failed(idempotency: str, answer: str, found: str | None) -> None:
    assert verdict(idempotency, answer, found) == "failed"


def test_10_the_reason_says_what_the_system_said_and_shows() -> None:
    said = judge(step("keyed"), Outcome(status="done"), THIRD, 1)
    assert said.why == f"the system said done, but shows {THIRD}"
    assert judge(step("keyed"), Outcome(status="failed"), None, 1).why == "the system said failed"


@pytest.mark.parametrize("answer", [NOBODY, "unknown"])
@pytest.mark.parametrize(
    ("idempotency", "found", "expected"),
    [
        ("keyed", BEFORE, "again"),
        ("keyed", THIRD, "again"),
        ("keyed", None, "again"),
        ("read_back", BEFORE, "again"),
        ("read_back", None, "again"),
        ("read_back", THIRD, "park"),
        ("blind", None, "park"),
        ("blind", BEFORE, "park"),
    ],
)
def test_11_what_nobody_knows(
    answer: str | None, idempotency: str, found: str | None, expected: str
) -> None:
    assert verdict(idempotency, answer, found) == expected
    last = "park" if expected == "again" else expected
    assert verdict(idempotency, answer, found, MAX_ATTEMPTS) == last


@pytest.mark.parametrize("answer", ["done", "already", "failed", "refused"])
def test_11_a_blind_answer_is_all_there_is(answer: str) -> None:
    expected = "done" if answer in ("done", "already") else "failed"
    assert verdict("blind", answer, None) == expected

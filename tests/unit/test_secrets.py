"""Secrets are refused, and what a ledger is made of is not: measured on a seeded corpus."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from ledger.errors import MalformedError
from ledger.secrets import find_secrets, may_hold_secrets, refuse_secrets, scrub_secrets
from ledger.secrets.keys import class_of_key
from ledger.secrets.values import is_random
from tests.support.secret_corpus import Case, harmless_captures, secrets_in_captures

SECRETS = secrets_in_captures()
HARMLESS = harmless_captures()


def caught(data: Any) -> bool:
    """As the door decides: a first look at the bytes, then at each value."""
    return may_hold_secrets(orjson.dumps(data)) and any(find_secrets(data))


def rates(secrets: Sequence[Case], harmless: Sequence[Case]) -> tuple[float, float]:
    """Recall and precision."""
    hits = sum(caught(data) for _, data in secrets)
    false = sum(caught(data) for _, data in harmless)
    return hits / len(secrets), hits / max(hits + false, 1)


def test_recall_and_precision_on_the_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(SECRETS) >= 200
    assert len(HARMLESS) >= 500
    recall, precision = rates(SECRETS, HARMLESS)
    with capsys.disabled():
        print(  # noqa: T201 - the figures are to be published
            f"\nsecrets: recall {recall:.3f} of {len(SECRETS)},"
            f" precision {precision:.3f} with {len(HARMLESS)} harmless captures"
        )
    missed = [label for label, data in SECRETS if not caught(data)]
    alarms = [(label, data) for label, data in HARMLESS if caught(data)]
    assert not missed
    assert not alarms


def test_another_seed_gives_the_same_rates() -> None:
    """The patterns are not fitted to one seed."""
    recall, precision = rates(secrets_in_captures(7), harmless_captures(7))
    assert recall >= 0.99
    assert precision >= 0.99


def test_the_corpus_can_tell_a_bad_finder() -> None:
    """Negative control: a harmless corpus put in for secrets is not "found"."""
    recall, _ = rates(HARMLESS, HARMLESS)
    assert recall == 0


def test_the_refusal_points_to_the_place_and_does_not_repeat_the_value() -> None:
    with pytest.raises(MalformedError) as caught_error:
        refuse_secrets({"params": {"a/b": [{"db_password": "hunter2!"}]}})
    assert caught_error.value.where == "/params/a~1b/0/db_password"
    assert "looks like a password" in str(caught_error.value)
    assert "digest" in str(caught_error.value)
    assert "hunter2" not in str(caught_error.value)


def test_words_after_a_colon_are_prose_and_the_search_goes_on() -> None:
    refuse_secrets({"text": "password: somebodyknows, secret: nobodydoes"})
    with pytest.raises(MalformedError, match="a password in text"):
        refuse_secrets({"text": "secret: nobodydoes, password=hunter2!"})


def test_nothing_is_refused_where_nothing_is() -> None:
    refuse_secrets({"text": "go", "numbers": [1, 2.5, None, True], "token_count": 7})


def test_a_secret_as_the_name_of_a_member_is_found() -> None:
    token = "ghp_" + "a1B2" * 9
    (secret,) = find_secrets({token: 1})
    assert secret.pointer == f"/{token}"
    assert "name of a member" in secret.looks_like


def test_scrubbing_keeps_equality_and_hides_the_rest() -> None:
    data = {
        "password": "hunter2!",
        "again": {"password": "hunter2!"},
        "other": [{"password": "hunter3!"}],
        "ghp_" + "a1B2" * 9: "dropped",
        "rows": 7,
    }
    scrubbed, found = scrub_secrets(data, b"k" * 32)
    assert len(found) == 4
    assert scrubbed["password"] == scrubbed["again"]["password"]
    assert scrubbed["password"] != scrubbed["other"][0]["password"]
    assert scrubbed["password"].startswith("redacted:")
    assert scrubbed["rows"] == 7
    assert "hunter" not in repr(scrubbed)
    assert "ghp_" not in repr(scrubbed)
    assert not list(find_secrets(scrubbed))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("password", "a password"),
        ("PGPASSWORD", "a password"),
        ("dbPasswordValue", "a password"),
        ("password2", "a password"),
        ("AWSSecretAccessKey", "a secret key"),
        ("X-API-Key", "a secret key"),
        ("refreshToken", "a token"),
        ("next_page_token", None),
        ("password_file", None),
        ("compass", None),
        ("key", None),
        ("", None),
    ],
)
def test_the_last_words_of_a_key_decide(key: str, kind: str | None) -> None:
    assert class_of_key(key) == kind


@pytest.mark.parametrize("text", ["a" * 64, "0" * 64, "abc", "no-digits-or-CAPITALS-mixed"])
def test_repetition_and_words_are_not_random(text: str) -> None:
    assert not is_random(text)


@pytest.mark.parametrize(
    "text",
    [
        "token " * 170_000,
        "token " + "eyJ" * 340_000,
        "-eyJ" * 260_000,
        "token://" * 130_000,
        "a:b://x:" * 130_000,
        "password=" * 110_000,
        "password " + " " * 1_000_000,
        "--password" + "-a" * 500_000,
        "-----BEGIN " + "A" * 1_000_000,
        "bearer " * 150_000,
        "SG." * 340_000,
        "sk-" * 340_000,
        "lg_a_" * 200_000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    """One MiB, made to provoke backtracking. A quadratic pattern would take minutes."""
    begin = time.process_time()
    list(find_secrets({"text": text}))
    assert time.process_time() - begin < 5

"""The command line's client: what each answer of a server, or of something else, is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import httpx2
import pytest

from api.hints import hints_of
from api.remote import client as module
from api.remote.client import Client
from api.remote.evidence import approve, plan
from api.remote.problems import BusyError, lost
from api.remote.rooms import RemoteWriter
from ledger.draft import Draft
from ledger.errors import (
    AsofError,
    ConflictError,
    IncompleteError,
    KeyReusedError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
    UnreachableError,
)
from tests.support.answering import DROP, Answering, problem

TOKEN = "asof_live_NOBODYMAYSEETHIS"
HTML = b"<html>hello"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.0)


@pytest.fixture
def there() -> Iterator[Answering]:
    with Answering() as answering:
        yield answering


@pytest.fixture
def client(there: Answering) -> Iterator[Client]:
    made = Client(there.url, token=TOKEN, ledger="acme")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("slug", "status", "kind"),
    [
        ("conflict", 409, ConflictError),
        ("idempotency-key-reused", 422, KeyReusedError),
        ("incomplete", 500, IncompleteError),
        ("internal", 500, StoreError),
        ("malformed", 400, MalformedError),
        ("not-allowed", 403, RefusedError),
        ("not-found", 404, NotFoundError),
        ("outcome-unknown", 503, UnknownOutcomeError),
        ("precondition-failed", 412, ConflictError),
        ("refused", 403, RefusedError),
        ("tampered", 500, TamperError),
        ("too-large", 413, MalformedError),
        ("too-many-requests", 429, BusyError),
        ("unauthenticated", 401, RefusedError),
        ("unavailable", 503, BusyError),
        ("unfit-event", 422, MalformedError),
    ],
)
def test_a_problem_is_the_error_of_the_house(
    there: Answering, client: Client, slug: str, status: int, kind: type[AsofError]
) -> None:
    there.next(status, problem(slug, "entry 3: it is so"))
    with pytest.raises(AsofError) as caught:
        client.get("/pipelines")
    assert type(caught.value) is kind and "Traceback" not in str(caught.value)
    assert slug == "unauthenticated" or "entry 3: it is so" in str(caught.value)


def test_every_slug_of_the_service_has_a_line_above() -> None:
    from api.service.problems import PROBLEMS

    of_others = {  # what this client never causes, or never asks for
        "idempotency-key-missing",
        "locked",
        "method-not-allowed",
        "not-acceptable",
        "timeout",
        "unsupported-media-type",
    }
    marks = test_a_problem_is_the_error_of_the_house.pytestmark  # type: ignore[attr-defined]
    told = {values[0] for mark in marks for values in mark.args[1]}
    assert told | of_others == set(PROBLEMS)


def test_evidence_keeps_its_place_and_says_it_once(there: Answering, client: Client) -> None:
    there.next(500, problem("tampered", "entry 7: the leaf is another", evidence={"index": 7}))
    with pytest.raises(TamperError) as caught:
        client.get("/pipelines")
    assert (caught.value.index, str(caught.value)) == (7, "entry 7: the leaf is another")


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (200, HTML, StoreError, "no asof server"),
        (200, [1], StoreError, "no asof server"),
        (400, [1], StoreError, "answers 400"),
        (404, {"type": "about:blank"}, StoreError, "answers 404"),
        (500, HTML, StoreError, "answers 500"),
        (502, HTML, UnreachableError, "what stands before"),
        (DROP, b"", UnreachableError, "does not answer"),
    ],
)
def test_another_program_is_not_taken_for_a_server(
    there: Answering, client: Client, status: int, body: Any, kind: type[AsofError], says: str
) -> None:
    there.next(status, body)
    with pytest.raises(AsofError, match=says) as caught:
        client.get("/pipelines")
    assert type(caught.value) is kind


def test_a_token_is_not_carried_elsewhere(there: Answering, client: Client) -> None:
    with Answering() as elsewhere:
        there.next(301, location=f"{elsewhere.url}/v1")
        with pytest.raises(MalformedError, match="sends on to"):
            client.get("/pipelines")
        assert there.seen and not elsewhere.seen


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN}é", f"{TOKEN} x", f"{TOKEN}\0"])
def test_a_broken_token_is_not_repeated(there: Answering, token: str) -> None:
    with pytest.raises(MalformedError, match="ASOF_TOKEN") as caught:
        Client(there.url, token=token, ledger="acme")
    assert "NOBODY" not in str(caught.value)


@pytest.mark.parametrize(
    "server",
    [
        "ledger.example.com",
        "ftp://ledger.example.com",
        "http://",
        "http://a:b",
        "http://user:NOBODY@ledger.example.com",
        "http://ledger.example.com?q=1",
        "http://ledger.example.com#x",
    ],
)
def test_what_is_no_url_of_a_server(server: str) -> None:
    with pytest.raises(MalformedError, match="--server") as caught:
        Client(server, token=None, ledger=None)
    assert "NOBODY" not in str(caught.value)


def test_without_a_token_it_is_said(there: Answering) -> None:
    there.next(401, problem("unauthenticated", "no"))
    with pytest.raises(RefusedError, match="ASOF_TOKEN is not set"):
        Client(there.url, token=None, ledger="acme").get("/pipelines")


def test_the_only_ledger_need_not_be_named(there: Answering) -> None:
    there.next(200, {"ledgers": [{"ledger": "acme"}]})
    there.next(200, {"ledgers": [{"ledger": "acme"}, {"ledger": "other"}]})
    assert Client(there.url, token=TOKEN, ledger=None).ledger == "acme"
    with pytest.raises(MalformedError, match="reaches acme, other"):
        assert Client(there.url, token=TOKEN, ledger=None).ledger


# --- what became of a POST -----------------------------------------------------------------------

GOOD = {"fine": True}
FULL = (503, problem("unavailable", "full"))
LOST = (503, problem("outcome-unknown", "lost"))


@pytest.mark.parametrize(
    ("answers", "repeatable", "kind", "sent"),
    [
        ([(201, GOOD)], True, None, 1),
        ([(DROP, b""), (201, GOOD)], True, None, 2),
        ([(502, HTML), LOST, FULL, (200, GOOD)], True, None, 4),
        ([(DROP, b"")], True, UnknownOutcomeError, 4),
        ([(504, HTML)], True, UnknownOutcomeError, 4),
        ([FULL], True, BusyError, 4),
        ([(DROP, b""), FULL], True, UnknownOutcomeError, 4),
        ([(DROP, b""), (409, problem("conflict", "first"))], True, ConflictError, 2),
        ([FULL, (201, GOOD)], False, None, 2),
        ([(DROP, b""), (201, GOOD)], False, UnknownOutcomeError, 1),
        ([FULL, LOST, (201, GOOD)], False, UnknownOutcomeError, 2),
    ],
)
def test_what_may_have_been_done_is_called_unknown(
    there: Answering,
    client: Client,
    answers: list[tuple[int, Any]],
    repeatable: bool,
    kind: type[AsofError] | None,
    sent: int,
) -> None:
    for status, body in answers:
        there.next(status, body)
    if kind is None:
        assert client.post("/entries", {}, key="k", repeatable=repeatable) == GOOD
    else:
        with pytest.raises(AsofError) as caught:
            client.post("/entries", {}, key="k", repeatable=repeatable)
        assert type(caught.value) is kind
    assert [one.key for one in there.seen] == ["k"] * sent


def test_a_busy_server_says_when(
    there: Answering, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    busy = problem("too-many-requests", "slowly")
    there.next(429, busy, **{"Retry-After": "7"})
    there.next(503, problem("unavailable", "full"), **{"Retry-After": "86400"})
    there.next(429, busy, **{"Retry-After": "soon"})
    there.next(200, GOOD)
    assert client.get("/pipelines") == GOOD and slept == [7.0, 60.0, 0.0]
    there.next(429, busy, **{"Retry-After": "3"})
    there.next(201, GOOD)
    assert client.post("/entries", {}, key="k") == GOOD and slept[3:] == [3.0]
    there.next(429, busy, **{"Retry-After": "3"})
    with pytest.raises(BusyError):
        client.get("/pipelines")
    assert slept[4:] == [3.0] * 3


def test_without_a_key_nothing_is_sent_twice(there: Answering, client: Client) -> None:
    there.next(*FULL)
    with pytest.raises(UnreachableError):
        client.post("/verifications", None)
    assert len(there.seen) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx2.ConnectError("refused"), UnreachableError),
        (httpx2.ConnectTimeout(""), UnreachableError),
        (httpx2.ReadTimeout(""), UnknownOutcomeError),
        (httpx2.WriteError("gone"), UnknownOutcomeError),
        (httpx2.RemoteProtocolError("half an answer"), UnknownOutcomeError),
    ],
)
def test_only_what_was_never_sent_is_unreachable(
    error: httpx2.HTTPError, kind: type[AsofError]
) -> None:
    assert type(lost(error, server="s", asks=False)) is kind
    assert type(lost(error, server="s", asks=True)) is UnreachableError


def test_an_unknown_outcome_says_with_which_key_to_ask(there: Answering, client: Client) -> None:
    one = Draft(type="note.added/1", stream="note/a", actor="user:7", payload=b"{}")
    with pytest.raises(UnknownOutcomeError) as caught:
        RemoteWriter(client).append([one])
    key = there.seen[0].key
    assert key and hints_of(caught.value) == [
        f"the same command again with --idempotency-key {key}"
    ]
    there.next(201, {"first_index": 0})
    with pytest.raises(UnknownOutcomeError, match="cannot be read"):
        RemoteWriter(client).append([one])


def test_a_plan_whose_answer_is_lost_is_not_asked_for_twice(
    there: Answering, client: Client
) -> None:
    with pytest.raises(UnknownOutcomeError) as planned:
        plan(client, {})
    with pytest.raises(UnknownOutcomeError) as approved:
        approve(client, "p-1", "sha256:00", None)
    assert len(there.seen) == 2
    assert "asof rollback list" in hints_of(planned.value)[0]
    assert hints_of(approved.value) == ["asof rollback status p-1"]


# --- a stream that breaks off --------------------------------------------------------------------

STREAM = {"content-type": "text/event-stream"}


def event(index: int) -> bytes:
    return b'id: %d\nevent: entry\ndata: {"index":%d}\n\n' % (index, index)


def test_a_stream_goes_on_where_it_was(there: Answering, client: Client) -> None:
    there.next(200, b": open\n\n" + event(5) + event(7), **STREAM)
    there.next(DROP)
    there.next(502, HTML)
    there.next(200, event(8), **STREAM)
    with closing(client.events("/stream", after=4, q="")) as events:
        assert [record["index"] for record in islice(events, 3)] == [5, 7, 8]
    assert [one.path.rpartition("after=")[2] for one in there.seen] == ["4", "7", "7", "7"]


def test_a_stream_that_cannot_be_opened_is_an_error_at_once(
    there: Answering, client: Client
) -> None:
    with pytest.raises(UnreachableError):
        next(client.events("/stream", after=-1))
    there.next(200, HTML, **{"content-type": "text/html"})
    with pytest.raises(StoreError, match="no event stream"):
        next(client.events("/stream", after=-1))
    assert len(there.seen) == 2


def test_a_stream_that_may_not_be_gone_on_with_ends(there: Answering, client: Client) -> None:
    there.next(200, event(5), **STREAM)
    there.next(401, problem("unauthenticated", "revoked"))
    events = client.events("/stream", after=4)
    assert next(events)["index"] == 5
    with pytest.raises(RefusedError):
        next(events)


def test_a_stream_is_not_waited_for_without_end(
    there: Answering, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 3)
    there.next(200, event(5), **STREAM)
    there.next(DROP)
    events = client.events("/stream", after=4)
    assert next(events)["index"] == 5
    with pytest.raises(UnreachableError):
        next(events)
    assert len(there.seen) == 1 + 4

"""eventsourcing's `Application` on a ledger: an aggregate of a test's own, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import eventsourcing.domain
import eventsourcing.persistence
import eventsourcing.utils
import pytest
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    NotSupportedError,
    StoredEvent,
    Tracking,
)

from ledger.draft import Draft
from ledger.errors import IncompleteError, MalformedError, RefusedError, UnknownEventError
from ledger.events.annotations import NoteAdded as Unapplied
from ledger.events.incidents import IncidentClosed, IncidentOpened
from ledger.lifecycle.aggregate import Aggregate, Decision, applies, topic_table
from ledger.lifecycle.application import (
    LedgerApplication,
    LedgerFactory,
    LedgerMapper,
    LedgerTranscoder,
)
from ledger.lifecycle.rollback import Rollback
from ledger.recorder import ActedEvent
from tests.support.empty_ledgers import Opened, empty_ledger


class Incident(Aggregate):
    """Opened once, closed once."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.status = "new"
        self.by: list[str] = []

    def open(self, summary: str, actor: str) -> None:
        self.record(IncidentOpened(severity="high", summary=summary), actor)

    def close(self, cause: str, actor: str) -> None:
        if self.status != "open":
            raise RefusedError(f"{self.id} is {self.status}")
        self.record(IncidentClosed(cause=cause), actor)

    @applies(IncidentOpened)
    def _opened(self, event: IncidentOpened, actor: str) -> None:
        self.status = "open"
        self.by.append(actor)

    @applies(IncidentClosed)
    def _closed(self, event: IncidentClosed, actor: str) -> None:
        self.status = "closed"
        self.by.append(actor)


class Incidents(LedgerApplication):
    aggregates: ClassVar[tuple[type[Aggregate], ...]] = (Incident,)


@pytest.fixture
def ledger() -> Iterator[Opened]:
    with empty_ledger() as opened:
        yield opened


def incidents(ledger: Opened) -> Incidents:
    return Incidents(ledger.writer, ledger.reader, actor="service:asof", clock=ledger.clock)


def test_an_application_saves_and_replays_its_aggregates(ledger: Opened) -> None:
    app, incident = incidents(ledger), Incident("incident/1")
    incident.open("Forecasts doubled.", "user:mia")
    recordings = app.save(incident)
    assert [recording.notification.id for recording in recordings] == [1]
    again = app.repository.get("incident/1")
    assert isinstance(again, Incident) and (again.version, again.status) == (1, "open")
    again.close("A unit was mixed up.", "user:noah")
    app.save(again)
    assert app.repository.get("incident/1").by == ["user:mia", "user:noah"]
    assert app.repository.get("incident/1", version=1).status == "open"
    assert "incident/2" not in app.repository
    record = ledger.reader.entry(1)
    assert (record.type, record.actor, record.version) == ("incident.closed/1", "user:noah", 2)


def test_the_notification_log_shows_every_entry(ledger: Opened) -> None:
    app, incident = incidents(ledger), Incident("incident/1")
    incident.open("Forecasts doubled.", "user:mia")
    app.save(incident)
    ledger.writer.append(
        [Draft(type="note.added/1", stream="note/x", actor="user:a", payload=b'{"text":"x"}')]
    )
    section = app.notification_log["1,10"]
    assert [(item.id, item.originator_id, item.topic) for item in section.items] == [
        (1, "incident/1", "incident.opened/1"),
        (2, "note/x", "note.added/1"),
    ]


def test_a_second_save_from_the_same_version_conflicts(ledger: Opened) -> None:
    app, incident = incidents(ledger), Incident("incident/1")
    incident.open("Forecasts doubled.", "user:mia")
    app.save(incident)
    one, two = app.repository.get("incident/1"), app.repository.get("incident/1")
    one.close("this", "user:mia")
    two.close("that", "user:noah")
    app.save(one)
    with pytest.raises(IntegrityError):
        app.save(two)


def test_what_a_row_says_is_never_resolved(ledger: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def imported(topic: str) -> object:
        raise AssertionError(f"{topic!r} was looked up in modules")

    for module in (eventsourcing.utils, eventsourcing.domain, eventsourcing.persistence):
        monkeypatch.setattr(module, "resolve_topic", imported)
    app, incident = incidents(ledger), Incident("incident/1")
    incident.open("Forecasts doubled.", "user:mia")
    app.save(incident)
    assert app.repository.get("incident/1").status == "open"
    hostile = Draft(type="os:system", stream="incident/1", actor="user:eve", payload=b'{"a":"b"}')
    ledger.writer.append([hostile])
    with pytest.raises(UnknownEventError, match=r"incident/1#2: no aggregate here.*'os:system'"):
        app.repository.get("incident/1")


def test_the_process_environment_has_no_say(
    ledger: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COMPRESSOR_TOPIC", "CIPHER_TOPIC", "TRANSCODER_TOPIC", "MAPPER_TOPIC"):
        monkeypatch.setenv(name, "zlib")
    for name in ("PERSISTENCE_MODULE", "IS_SNAPSHOTTING_ENABLED", "CIPHER_KEY"):
        monkeypatch.setenv(name, "y")
    app, incident = incidents(ledger), Incident("incident/1")
    incident.open("Forecasts doubled.", "user:mia")
    app.save(incident)
    payload = ledger.reader.entry(0).payload
    assert payload == b'{"severity":"high","summary":"Forecasts doubled."}'
    assert app.snapshots is None


def test_an_erased_payload_cannot_be_replayed(ledger: Opened) -> None:
    mapper = LedgerMapper(topic_table(Incident), ledger.clock)
    with pytest.raises(IncompleteError, match="incident/1#1: the payload was erased"):
        mapper.to_domain_event(ActedEvent("incident/1", 1, "incident.opened/1", b"", "user:mia"))


def test_only_decisions_are_kept(ledger: Opened) -> None:
    mapper = LedgerMapper(topic_table(Incident), ledger.clock)
    with pytest.raises(TypeError, match="a ledger keeps decisions, not StoredEvent"):
        mapper.to_stored_event(StoredEvent("incident/1", 1, "incident.opened/1", b"{}"))  # type: ignore[arg-type]


def test_what_the_library_offers_and_a_ledger_does_not(ledger: Opened) -> None:
    factory = LedgerFactory(ledger.writer, ledger.reader, actor="service:asof", clock=ledger.clock)
    for offer in (
        lambda: factory.aggregate_recorder("snapshots"),
        lambda: factory.application_recorder().insert_events(
            [StoredEvent("note/x", 1, "note.added/1", b'{"text":"x"}')],
            tracking=Tracking("upstream", 1),
        ),
    ):
        with pytest.raises(NotSupportedError):
            offer()
    assert ledger.reader.size() == 0


def test_the_door_is_the_vocabulary(ledger: Opened) -> None:
    recorder = LedgerFactory(
        ledger.writer, ledger.reader, actor="service:asof", clock=ledger.clock
    ).application_recorder()
    good = StoredEvent("note/x", 1, "note.added/1", b'{"text":"x"}')
    for topic, state in (
        ("os:system", b"{}"),
        ("note.added/1", b'{"texts":"x"}'),
        ("note.added/1", b'{"text":"x","text":"y"}'),
        ("note.added/1", b"[]"),
    ):
        with pytest.raises(DataError):
            recorder.insert_events([good, StoredEvent("note/x", 2, topic, state)])
    assert ledger.reader.size() == 0


def test_two_aggregates_may_not_claim_one_topic() -> None:
    class Another(Aggregate):
        @applies(IncidentOpened)
        def _opened(self, event: IncidentOpened, actor: str) -> None: ...

    assert set(topic_table(Rollback, Another)) > {"incident.opened/1", "rollback.requested/1"}
    with pytest.raises(AssertionError, match=r"Another may not claim incident\.opened/1"):
        topic_table(Incident, Another)


def test_what_an_aggregate_does_not_apply_is_counted_all_the_same() -> None:
    incident = Incident("incident/1")
    incident.apply(Decision("incident/1", 1, Unapplied(text="x"), "user:mia"))
    assert (incident.version, incident.status) == (1, "new")


def test_the_transcoder_keeps_plain_json() -> None:
    transcoder = LedgerTranscoder()
    assert transcoder.encode({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}'.encode()
    assert transcoder.decode(b'{"a":1}') == {"a": 1}
    with pytest.raises(MalformedError):
        transcoder.decode(b'{"a":1,"a":2}')


def test_a_decision_out_of_its_place_is_our_own_mistake() -> None:
    event = IncidentOpened(severity="high", summary="x")
    with pytest.raises(AssertionError, match="incident/1#2 does not follow incident/1#0"):
        Incident("incident/1").apply(Decision("incident/1", 2, event, "user:mia", Incident))
    with pytest.raises(AssertionError, match="belongs to no aggregate"):
        Decision("incident/1", 1, event, "user:mia").mutate(None)

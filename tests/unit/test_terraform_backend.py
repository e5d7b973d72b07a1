"""The state backend without a server: what is told, what is sealed, who holds what."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from api.service.access.credentials import Credentials
from api.service.access.granting import Grants
from api.service.assembly import assembled
from api.service.configuration import read_configuration
from api.service.own_files import own_once
from api.service.terraform.backend import Backend
from api.service.terraform.keeping import KEEPER_FILE
from api.service.terraform.reading import Lock, parse_lock, told_of
from api.service.terraform.sealing import KEY_FILE, Sealer, load_sealer
from api.service.terraform.states import States
from api.service.terraform.telling import SYSTEM, Telling
from ledger.errors import MalformedError, StoreError, TamperError
from ledger.opening import create_ledger
from tests.support.ledgers import NOON

LEDGER = "ledger.example.com/acme"
LINEAGE = "fcbb51db-6c31-4f4b-8a58-5fd7a3a4c1a0"
SECRET = "planted-9f8e7d6c5b4a"
ADA, EVE = "service:ci", "user:eve"


def state(serial: int = 1, value: str = SECRET, **more: Any) -> bytes:
    told = {
        "version": 4,
        "terraform_version": "1.5.7",
        "serial": serial,
        "lineage": LINEAGE,
        "outputs": {},
        "resources": [
            {
                "mode": "managed",
                "type": "terraform_data",
                "name": "x",
                "instances": [{"attributes": {"password": value}}, {"attributes": {}}],
            },
            {"mode": "data", "instances": [{}]},
        ],
    }
    return json.dumps(told | more, indent=2).encode()


def locked_by(lock_id: str = "lock-1", **members: str) -> Lock:
    return Lock(lock_id, {"Operation": "OperationTypeApply", "Who": "ada@box", **members})


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    (tmp_path / "keys").mkdir()
    states = States(tmp_path / "terraform.db", keep=3)
    yield Backend(states, {LEDGER: tmp_path / "keys"})
    states.close()


def write(backend: Backend, body: bytes, lock_id: str | None = None, actor: str = ADA) -> Any:
    return backend.write(LEDGER, "prod", body, lock_id=lock_id, actor=actor, now=NOON)[1]


def facts(backend: Backend) -> list[dict[str, Any]]:
    return [json.loads(fact.body) for fact in backend.states.untold(LEDGER, limit=100)]


# ---------------------------------------------------------------------------- what is told of it


def test_what_is_told_of_a_state() -> None:
    told = told_of(state(17))
    assert (told.serial, told.lineage, told.terraform_version) == (17, LINEAGE, "1.5.7")
    assert told.resources == 2, "each instance of what is managed; what is read is no resource"
    assert told.size == len(state(17)) and told.version == f"17-{told.digest[:16]}"
    assert SECRET not in repr(told)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", (None, None, None)),
        (b'{"serial": 1.5, "lineage": 7, "resources": {}}', (None, None, None)),
        (b'{"serial": true, "lineage": " a", "resources": [1, {}]}', (None, None, 0)),
        (b'{"serial": -1, "lineage": "AKIAIOSFODNN7EXAMPLE"}', (None, None, None)),
        (b'{"serial": 9007199254740992}', (None, None, None)),
        (b'{"serial": 3, "lineage": "x", "encrypted_data": "AAAA"}', (3, "x", None)),
        (b'{"serial": 1, "n": ' + b"9" * 5_000 + b"}", (1, None, None)),
        (b'{"serial": 1, "n": 1e400, "serial": 2}', (2, None, None)),
    ],
)
def test_what_it_does_not_say_safely_is_left_out(
    body: bytes, expected: tuple[int | None, str | None, int | None]
) -> None:
    told = told_of(body)
    assert (told.serial, told.lineage, told.resources) == expected
    assert told.serial is not None or told.version.startswith("unnumbered-")


@pytest.mark.parametrize("body", [b"", b"[]", b"x", b'{"a":', b"\xff{}", b"[" * 100_000])
def test_what_terraform_could_not_read_again_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError, match="JSON object"):
        told_of(body)


def test_a_lock_is_read_as_terraform_writes_it() -> None:
    given = {"ID": "0290", "Who": "a@b", "Created": "2026-11-27T23:52:36.836686559Z", "New": 1}
    lock = parse_lock(json.dumps(given).encode())
    assert lock.id == "0290" and lock.as_terraform()["Who"] == "a@b"
    assert lock.as_terraform()["Created"] == given["Created"] and "New" not in lock.members
    without = parse_lock(b'{"ID":"1","Created":"yesterday"}').as_terraform()
    assert "Created" not in without, "Go would not read the rest either"
    for wrong in (b"", b"{}", b'{"ID":""}', b'{"ID":7}', b'{"ID":"a b"}', b'{"ID":"1","Who":[]}'):
        with pytest.raises(MalformedError):
            parse_lock(wrong)


# ------------------------------------------------------------------------------- what is sealed


def test_a_sealed_state_opens_at_its_place_and_nowhere_else() -> None:
    sealer = Sealer(bytes(32))
    sealed = sealer.seal(state(), ("a", "prod", "1"))
    assert sealer.open(sealed, ("a", "prod", "1")) == state() and SECRET.encode() not in sealed
    assert sealer.seal(state(), ("a", "prod", "1")) != sealed, "no nonce comes twice"
    for place in (("b", "prod", "1"), ("a", "test", "1"), ("a", "prod", "2")):
        with pytest.raises(TamperError, match="not what was sealed"):
            sealer.open(sealed, place)
    for changed in (sealed[:-1], b"", bytes([sealed[0] ^ 1]) + sealed[1:]):
        with pytest.raises(TamperError):
            sealer.open(changed, ("a", "prod", "1"))


def test_a_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    made = load_sealer(tmp_path, create=True)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert load_sealer(tmp_path, create=True).key_id == made.key_id
    before = (tmp_path / KEY_FILE).read_bytes()
    own_once(tmp_path / KEY_FILE, bytes(32))
    assert (tmp_path / KEY_FILE).read_bytes() == before, "one that is there stays"
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    os.truncate(tmp_path / KEY_FILE, 31)
    with pytest.raises(StoreError, match="holds 31 bytes, not 32"):
        load_sealer(tmp_path, create=True)


def test_a_lost_key_is_not_made_anew_while_it_is_needed(backend: Backend, tmp_path: Path) -> None:
    write(backend, state())
    (tmp_path / "keys" / KEY_FILE).rename(tmp_path / "kept")
    again = Backend(backend.states, {LEDGER: tmp_path / "keys"})
    for asked in (
        lambda: again.lock(LEDGER, "prod", locked_by(), actor=ADA, now=NOON),
        lambda: again.read(LEDGER, "prod"),
    ):
        with pytest.raises(StoreError, match=r"terraform\.key is missing"):
            asked()
    own_once(tmp_path / "keys" / KEY_FILE, bytes(32))
    with pytest.raises(StoreError, match="sealed with the key"):
        again.read(LEDGER, "prod")
    (tmp_path / "kept").rename(tmp_path / "keys" / KEY_FILE)
    assert Backend(backend.states, {LEDGER: tmp_path / "keys"}).read(LEDGER, "prod") == state()


def test_one_server_keeps_the_states_of_a_ledger(backend: Backend, tmp_path: Path) -> None:
    """Replicas share the key folder: another one says neither that there is none nor that nobody
    holds the lock."""
    write(backend, state())
    folder = tmp_path / "keys"
    replica = Backend(States(tmp_path / "replica.db", keep=3), {LEDGER: folder, "other": tmp_path})
    assert replica.states.id != backend.states.id
    asked: list[Any] = [
        lambda: replica.read(LEDGER, "prod"),
        lambda: replica.versions(LEDGER, "prod"),
        lambda: replica.lock(LEDGER, "prod", locked_by(), actor=ADA, now=NOON),
        lambda: replica.unlock(LEDGER, "prod", None, actor=ADA, now=NOON),
        lambda: replica.delete(LEDGER, "prod", actor=ADA, now=NOON),
        lambda: write(replica, state(2)),
    ]
    for ask in asked:
        with pytest.raises(StoreError, match="data folder of another server"):
            ask()
    assert replica.read("other", "prod") is None, "the control: that ledger is its own"
    assert Backend(backend.states, {LEDGER: folder}).read(LEDGER, "prod") == state()
    (folder / KEEPER_FILE).unlink()
    assert replica.read(LEDGER, "prod") is None, "an operator has said that the file is lost"
    replica.states.close()
    (folder / KEEPER_FILE).unlink()
    (folder / KEEPER_FILE).mkdir()
    with pytest.raises(StoreError, match=r"terraform\.keeper cannot be read"):
        Backend(backend.states, {LEDGER: folder}).read(LEDGER, "prod")


def test_two_names_for_one_ledger_do_not_start(tmp_path: Path) -> None:
    """A copy beside the ledger itself; the control is the ledger alone."""
    (tmp_path / "a").mkdir()
    create_ledger(f"sqlite:///{tmp_path}/a/x.db", origin=LEDGER, keys=tmp_path / "a/keys").close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one = '[server]\ndata = "service"\n[ledgers.a]\nstore = "sqlite:///a/x.db"\nkeys = "a/keys"\n'
    two = one + '[ledgers.b]\nstore = "sqlite:///b/x.db"\nkeys = "b/keys"\n'
    (tmp_path / "asof.toml").write_text(one)
    with assembled(read_configuration(tmp_path / "asof.toml")):
        pass
    (tmp_path / "asof.toml").write_text(two)
    with pytest.raises(MalformedError, match=r"\[ledgers\.b\].*served under another name"):
        with assembled(read_configuration(tmp_path / "asof.toml")):
            raise AssertionError("it started")


# --------------------------------------------------------------------------------- what is kept


def test_the_newest_holds_and_so_many_are_kept(backend: Backend) -> None:
    assert backend.read(LEDGER, "prod") is None
    versions = [told_of(state(serial)).version for serial in range(1, 6)]
    for serial in range(1, 6):
        assert write(backend, state(serial)) is None
    assert backend.read(LEDGER, "prod") == state(5)
    kept = backend.states.versions(LEDGER, "prod")
    assert [one["version"] for one in kept] == versions[:1:-1], "the newest three"
    assert backend.read(LEDGER, "prod", versions[2]) == state(3)
    assert backend.read(LEDGER, "prod", versions[0]) is None
    assert backend.read(LEDGER, "test") is None and backend.states.newest("x", "prod") is None


def test_an_answer_that_was_lost_changes_nothing_twice(backend: Backend) -> None:
    for body in (state(1), state(1), state(2), state(1)):
        write(backend, body)
    told = [(fact["fact"], fact["serial"]) for fact in facts(backend)]
    assert told == [("state", 1), ("state", 2), ("state", 1)], "what comes back is told again"
    assert len({fact["mark"] for fact in facts(backend)}) == 3
    assert backend.read(LEDGER, "prod") == state(1)


def test_one_holds_the_lock(backend: Backend) -> None:
    states = backend.states
    assert states.lock(LEDGER, "prod", locked_by(), actor=ADA, now=NOON) is None
    assert states.lock(LEDGER, "prod", locked_by(), actor=ADA, now=NOON) is None, "asked again"
    for other, actor in ((locked_by("lock-2"), ADA), (locked_by(), EVE)):
        held = states.lock(LEDGER, "prod", other, actor=actor, now=NOON)
        assert held is not None and held.lock == locked_by() and held.actor == ADA
    assert states.lock(LEDGER, "test", locked_by("lock-3"), actor=EVE, now=NOON) is None
    assert write(backend, state(1), "lock-1") is None
    for wrong in (None, "lock-2"):
        assert write(backend, state(2), wrong, EVE).lock.id == "lock-1"
    assert states.delete(LEDGER, "prod", actor=ADA, now=NOON) is not None
    assert backend.read(LEDGER, "prod") == state(1)
    assert states.unlock(LEDGER, "prod", "lock-2", actor=ADA, now=NOON) is not None
    assert states.unlock(LEDGER, "prod", "lock-1", actor=ADA, now=NOON) is None
    assert states.unlock(LEDGER, "prod", "lock-1", actor=ADA, now=NOON) is None, "asked again"
    told = [one for one in facts(backend) if one["state"] == "prod"]
    assert [one["fact"] for one in told] == ["lock", "state", "refused", "refused", "unlock"]
    assert told[1]["under_lock"] and not told[2]["under_lock"]
    assert (told[-1]["versions"], told[-1]["forced"]) == (1, False)


def test_a_lock_that_is_taken_away_is_told_as_that(backend: Backend) -> None:
    for lock_id, actor in ((None, ADA), ("lock-1", EVE)):
        backend.states.lock(LEDGER, "prod", locked_by(), actor=ADA, now=NOON)
        assert backend.states.unlock(LEDGER, "prod", lock_id, actor=actor, now=NOON) is None
        assert facts(backend)[-1]["forced"] and facts(backend)[-1]["held_by"] == ADA
    assert write(backend, state(), "lock-1") is None, "what was built is kept without it"
    assert not facts(backend)[-1]["under_lock"]


def test_locks_and_states_outlive_the_process(backend: Backend, tmp_path: Path) -> None:
    backend.states.lock(LEDGER, "prod", locked_by(), actor=ADA, now=NOON)
    write(backend, state(), "lock-1")
    backend.states.close()
    again = Backend(States(tmp_path / "terraform.db", keep=3), {LEDGER: tmp_path / "keys"})
    assert again.read(LEDGER, "prod") == state()
    assert again.states.lock(LEDGER, "prod", locked_by("x"), actor=ADA, now=NOON) is not None
    assert [fact["fact"] for fact in facts(again)] == ["lock", "state"]
    again.states.close()


def test_what_is_deleted_is_gone_from_the_file(backend: Backend, tmp_path: Path) -> None:
    write(backend, state())
    lies = backend.states.newest(LEDGER, "prod")
    assert lies is not None

    def there() -> bool:
        with sqlite3.connect(tmp_path / "terraform.db") as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file.close()
        return lies.sealed[:40] in (tmp_path / "terraform.db").read_bytes()

    assert there(), "the control: it lies there while it is kept"
    assert backend.states.delete(LEDGER, "prod", actor=ADA, now=NOON) is None
    assert not there() and backend.read(LEDGER, "prod") is None
    assert backend.states.delete(LEDGER, "prod", actor=ADA, now=NOON) is None
    assert [fact["fact"] for fact in facts(backend)] == ["state", "delete"]


def test_a_moved_row_does_not_open(backend: Backend, tmp_path: Path) -> None:
    write(backend, state())
    with sqlite3.connect(tmp_path / "terraform.db") as file:
        file.execute("UPDATE state_version SET state = 'test'")
    file.close()
    with pytest.raises(TamperError):
        backend.read(LEDGER, "test")


def test_a_file_that_is_none_is_named(tmp_path: Path, backend: Backend) -> None:
    (tmp_path / "wrong.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"wrong\.db"):
        States(tmp_path / "wrong.db", keep=1)
    backend.states.close()
    with pytest.raises(StoreError, match=r"terraform\.db"):
        write(backend, state())
    with pytest.raises(StoreError, match=r"terraform\.db"):
        backend.read(LEDGER, "prod")


# --------------------------------------------------------------------- what the ledger is to know


class _Spool:
    """What `Ingest` is to `Telling`; fails while it is `away`."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.away = False

    async def take(
        self, here: Any, system: str, *, delivery: str, body: bytes, **more: Any
    ) -> bool:
        if self.away:
            raise StoreError("the spool of deliveries is full")
        assert system == SYSTEM and json.loads(body)["mark"] == delivery and more["happened"]
        self.taken.append((here.name, json.loads(body)["fact"]))
        return True


class _Here:
    def __init__(self, name: str, origin: str) -> None:
        self.name = name
        self.reader = type("_Reader", (), {"origin": origin})


def test_facts_wait_until_they_are_taken_and_keep_their_order(backend: Backend) -> None:
    spool = _Spool()
    ledgers = {"acme": _Here("acme", LEDGER), "other": _Here("other", "elsewhere")}
    telling = Telling(backend.states, cast("Any", spool), cast("Any", ledgers))
    backend.states.lock(LEDGER, "prod", locked_by(), actor=ADA, now=NOON)
    write(backend, state(), "lock-1")
    spool.away = True
    with pytest.raises(StoreError):
        asyncio.run(telling.drain())
    assert len(facts(backend)) == 2, "nothing is lost while the spool is full"
    spool.away = False
    assert asyncio.run(telling.drain()) == 2 and asyncio.run(telling.drain()) == 0
    assert spool.taken == [("acme", "lock"), ("acme", "state")] and facts(backend) == []


def test_it_goes_on_by_itself_when_the_spool_takes_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.service.terraform.telling.LOOK_SECONDS", 0.01)
    spool = _Spool()
    spool.away = True
    ledgers = {"acme": _Here("acme", LEDGER)}
    telling = Telling(backend.states, cast("Any", spool), cast("Any", ledgers))
    write(backend, state())

    async def run() -> None:
        task = asyncio.create_task(telling.watch())
        await asyncio.sleep(0.05)
        assert spool.taken == []
        spool.away = False
        telling.wake()
        for _ in range(500):
            await asyncio.sleep(0.01)
            if spool.taken:
                break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert spool.taken == [("acme", "state")]


# ------------------------------------------------------------------------------ who lets it in


class _Seen:
    """Remembers the header that it is asked about."""

    def __init__(self) -> None:
        self.header: str | None = None

    def authenticate(self, header: str | None) -> None:
        self.header = header


@pytest.mark.parametrize(
    ("path", "given", "seen"),
    [
        ("/terraform/a/b", "Basic YW55OnQwazpu", "Bearer t0k:n"),
        ("/terraform/a/b", "basic YW55OnQwazpu", "Bearer t0k:n"),
        ("/terraform/a/b", "Bearer t", "Bearer t"),
        ("/terraform/a/b", "Basic YW55", "Bearer "),
        ("/terraform/a/b", "Basic !", "Basic !"),
        ("/terraform/a/b", "Basic", "Bearer "),
        ("/terraform/a/b", "Basic \xe9", "Basic \xe9"),
        ("/v1/ledgers/a", "Basic YW55OnQwazpu", "Basic YW55OnQwazpu"),
        ("/terraform", "Basic YW55OnQwazpu", "Basic YW55OnQwazpu"),
    ],
)
def test_a_password_is_a_token_there_and_nowhere_else(path: str, given: str, seen: str) -> None:
    asked = _Seen()
    scope = {"path": path, "headers": [(b"authorization", given.encode("latin-1"))]}
    assert Credentials(cast("Any", asked), Grants({})).authenticate(cast("Any", scope)) is None
    assert asked.header == seen

"""What goes wrong with a server in daily life: each is told clearly, and none of it loses anything.

Every test ends alike: the trouble is over, the same key is sent again, there is one entry.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

import ledger.stores.postgres.store as postgres_store
from ledger.errors import NotFoundError, StoreError, UnknownOutcomeError, UnreachableError
from ledger.opening import Ledger, create_ledger, open_ledger
from ledger.stores.postgres import migrate
from scripts.clusters import Cluster, cluster_folder
from tests.support.ledgers import note
from tests.support.postgres import database_of, prepared
from tests.support.postgres_ledgers import begin, check_valid, texts


@pytest.fixture(scope="module")
def cluster(pg_bindir: Path) -> Iterator[Cluster]:
    with (
        cluster_folder(memory=True) as folder,
        Cluster.create(folder / "troubled", pg_bindir, fast=True) as cluster,
    ):
        cluster.start()
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    with database_of(cluster) as database:
        yield database


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def url(database: str, keys: Path) -> str:
    url = prepared(database)
    begin(url, keys)
    return url


def check_written_once(ledger: Ledger, key: str, *, repeated: bool = False) -> None:
    """The key is sent twice: the first answer, and the same again."""
    done = ledger.writer.append([note(key)], idempotency_key=key)
    assert done.repeated == repeated
    again = ledger.writer.append([note(key)], idempotency_key=key)
    assert again.repeated and list(again.receipts) == list(done.receipts)


# ------------------------------------------------------------------------------ away


def test_a_server_that_is_down_at_the_start(cluster: Cluster, url: str, keys: Path) -> None:
    cluster.stop()
    try:
        for write in (True, False):
            with pytest.raises(UnreachableError, match="does not answer"):
                open_ledger(url, keys=keys, write=write)
    finally:
        cluster.start()
    with open_ledger(url, keys=keys) as ledger:
        check_written_once(ledger, "after")
    check_valid(url, keys)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_goes_away_and_comes_back(
    cluster: Cluster, url: str, keys: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same open ledger goes on. The first append may meet a connection that is dead without
    knowing; it must not say that nothing was written unless that is so. Readers wait their time
    for a connection, once."""
    monkeypatch.setattr(postgres_store, "POOL_SECONDS", 2.0)
    with open_ledger(url, keys=keys) as ledger:
        check_written_once(ledger, "before")
        cluster.stop(mode)  # type: ignore[arg-type]
        try:
            for _ in range(2):
                with pytest.raises(StoreError) as told:
                    ledger.writer.append([note("while away")], idempotency_key="while away")
                assert not isinstance(told.value, UnknownOutcomeError)
            asked_at = time.monotonic()
            with pytest.raises(UnreachableError):
                ledger.reader.size()
            assert time.monotonic() - asked_at < 3.5
        finally:
            cluster.start()
        check_written_once(ledger, "while away")
        check_written_once(ledger, "before", repeated=True)
    assert texts(url, keys) == ["before", "while away"]
    check_valid(url, keys)


# ------------------------------------------------------------------------------ the door


@contextmanager
def asking_for_a_password(cluster: Cluster, login: str) -> Iterator[None]:
    """The server trusts everybody but this login, and the pool's threads say so in the log."""
    path = cluster.data / "pg_hba.conf"
    before = path.read_text()
    path.write_text(f"host all {login} 127.0.0.1/32 scram-sha-256\n{before}")
    cluster.reload()
    try:
        yield
    finally:
        path.write_text(before)
        cluster.reload()


def test_a_wrong_password(cluster: Cluster, database: str, keys: Path) -> None:
    done = migrate(database, login="asof_scram")
    right = database.replace("postgres@", f"asof_scram:{done.password}@")
    wrong = database.replace("postgres@", "asof_scram:hunter2@")
    with asking_for_a_password(cluster, "asof_scram"):
        begin(right, keys)
        for write in (True, False):
            with pytest.raises(UnreachableError, match="refused the login") as told:
                open_ledger(wrong, keys=keys, write=write)
            assert "PGPASSWORD" in str(told.value) and "hunter2" not in str(told.value)
        with open_ledger(right, keys=keys) as ledger:
            check_written_once(ledger, "with the right one")
            assert str(done.password) not in ledger.store.url
        check_valid(right, keys)


def test_a_database_that_is_not_there(cluster: Cluster, keys: Path) -> None:
    with pytest.raises(NotFoundError, match="Create it, then run `asof migrate`"):
        create_ledger(cluster.dsn("nowhere", "asof_app"), keys=keys)
    assert not keys.exists()


def test_a_database_that_is_not_prepared(database: str, keys: Path) -> None:
    with pytest.raises(NotFoundError, match="run `asof migrate`"):
        create_ledger(database, keys=keys)
    assert not keys.exists()


def test_no_connection_is_left(cluster: Cluster, url: str, keys: Path) -> None:
    name = url.rpartition("/")[2]
    with open_ledger(url, keys=keys) as ledger:
        check_written_once(ledger, "before")
        cluster.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
        with pytest.raises(UnreachableError, match="takes no more connections"):
            open_ledger(url, keys=keys)
        check_written_once(ledger, "the open one goes on")
        cluster.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    open_ledger(url, keys=keys).close()


def test_every_connection_of_the_pool_is_in_use(
    url: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads waits its time and is told why; who appends needs none of them."""
    monkeypatch.setattr(postgres_store, "POOL_SECONDS", 0.3)
    with open_ledger(url, keys=keys) as ledger:
        check_written_once(ledger, "before")
        held = [
            ledger.store.stream_spans(2)  # type: ignore[attr-defined]
            for _ in range(postgres_store.MOST_CONNECTIONS)
        ]
        for reading in held:
            next(reading)
        with pytest.raises(UnreachableError, match="no connection became free in time"):
            ledger.reader.size()
        assert not ledger.writer.append([note("meanwhile")]).repeated
        for reading in held:
            reading.close()
        assert ledger.reader.size() == 3


# ------------------------------------------------------------------------------ too slow


@pytest.mark.parametrize(
    ("limit", "words"),
    [("lock_timeout", "held by another process"), ("statement_timeout", "took too long")],
)
def test_a_lock_that_somebody_holds(
    database: str, url: str, keys: Path, limit: str, words: str
) -> None:
    impatient = f"{url}?options=-c%20{limit}%3D200ms"
    with (
        open_ledger(impatient, keys=keys) as ledger,
        closing(psycopg.connect(database)) as holder,
    ):
        check_written_once(ledger, "before")
        holder.execute("SELECT FROM asof.ledger FOR UPDATE")
        with pytest.raises(UnreachableError, match=re.escape(words)) as told:
            ledger.writer.append([note("waited")], idempotency_key="waited")
        assert "try again" in str(told.value)
        holder.rollback()
        check_written_once(ledger, "waited")
    assert texts(url, keys) == ["before", "waited"]
    check_valid(url, keys)


def test_a_session_that_an_administrator_ends(cluster: Cluster, url: str, keys: Path) -> None:
    with open_ledger(url, keys=keys) as ledger:
        check_written_once(ledger, "before")
        cluster.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'asof' AND backend_type = 'client backend'"
        )
        assert ledger.reader.size() == 2
        check_written_once(ledger, "after")  # its end was heard of before anything was sent
    check_valid(url, keys)

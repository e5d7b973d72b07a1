"""The peers of `scripts/bench postgres`, each at its best: eventsourcing, UmaDB, raw SQL."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ledger.store import Row
from ledger.stores.postgres.binary import COPY_END, COPY_START, copied_rows
from scripts.benches.postgres_world import IN_FLIGHT, STREAMS, Server, from_threads, note

__all__ = [
    "copy_rate",
    "eventsourcing_rate",
    "hangs_on_a_batch",
    "insert_rate",
    "umadb_rates",
    "umadb_server",
]

TABLE = """
CREATE TABLE entry (
    idx bigint NOT NULL, recorded_at bigint NOT NULL, stream_number bigint NOT NULL,
    ledger integer NOT NULL, version integer NOT NULL,
    actor text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL,
    commitment bytea NOT NULL, leaf_hash bytea NOT NULL, salt bytea, payload bytea,
    PRIMARY KEY (ledger, idx), UNIQUE (stream_number, ledger, version)
)
"""
COPY = """
COPY entry (
    idx, recorded_at, stream_number, ledger, version, commitment, leaf_hash, actor, type, salt,
    payload
) FROM STDIN WITH (FORMAT binary)
"""
INSERT = """
INSERT INTO entry (
    idx, recorded_at, actor, stream_number, type, version, commitment, salt, payload, leaf_hash,
    ledger
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1)
"""


# ----------------------------------------------------------------------------------- eventsourcing


@contextmanager
def _recorder(server: Server, pool: int) -> Iterator[tuple[object, type]]:
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

    said = conninfo_to_dict(server.database())
    datastore = PostgresDatastore(
        dbname=str(said["dbname"]),
        host=str(said["host"]),
        port=str(said.get("port", 5432)),
        user=str(said["user"]),
        password=str(said.get("password") or ""),
        pool_size=pool,
        connect_timeout=60,
    )
    try:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()
        yield recorder, StoredEvent
    finally:
        datastore.close()


def eventsourcing_rate(server: Server, seconds: float, *, pool: int) -> float:
    """Its PostgreSQL recorder: 64 threads, each its own streams, one event a call."""
    with _recorder(server, pool) as (recorder, stored_event):
        payload = note(0).payload
        streams = [[uuid4() for _ in range(STREAMS)] for _ in range(IN_FLIGHT)]

        def append(thread: int, number: int) -> None:
            stream = streams[thread][number % STREAMS]
            event = stored_event(stream, number // STREAMS + 1, "note.added/1", payload)
            recorder.insert_events([event])  # type: ignore[attr-defined]

        return from_threads(append, seconds)


BATCH_PROGRAM = """
import sys
from uuid import uuid4
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
dbname, host, port, user, password, count = sys.argv[1:]
datastore = PostgresDatastore(dbname, host, port, user, password)
recorder = PostgresApplicationRecorder(datastore)
recorder.create_table()
stream = uuid4()
batch = [StoredEvent(stream, n + 1, "note.added/1", b"x" * 500) for n in range(int(count))]
recorder.insert_events(batch)
print("done")
"""


def hangs_on_a_batch(server: Server, count: int, *, patience: float = 5) -> bool:
    """Whether one append of `count` events of 0.5 kB does not come to an end.

    In a process of its own, which is killed; so is what it left in the server.
    """
    said = conninfo_to_dict(server.database())
    where = [str(said["dbname"]), str(said["host"]), str(said.get("port", 5432)), str(said["user"])]
    command = [sys.executable, "-c", BATCH_PROGRAM, *where, str(said.get("password") or "")]
    process = subprocess.Popen([*command, str(count)], stdout=subprocess.DEVNULL)
    try:
        return process.wait(patience) != 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
        server.run(ending.format(where[0]))
        return True


# ------------------------------------------------------------------------------------------- UmaDB


@contextmanager
def umadb_server(folder: Path, *options: str) -> Iterator[str]:
    """Its own server from the wheel, with its fsync on as it ships; the URL for clients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    place = folder / "umadb"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    program = "from umadb.umadb_server_cli import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "--listen",
        address,
        "--db-path",
        str(place),
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_serves(f"http://{address}")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_serves(url: str, patience: float = 15) -> None:
    import umadb

    end = time.perf_counter() + patience
    while True:
        try:
            umadb.Client(url).head()
            return
        except Exception:  # whatever it raises before it listens
            if time.perf_counter() > end:
                raise
            time.sleep(0.1)


def umadb_rates(url: str, seconds: float) -> Iterator[tuple[str, float]]:
    """One event a call from 64 threads, each its own client, or one client for all."""
    import umadb

    payload = note(0).payload

    def appending(clients: Sequence[umadb.Client]) -> Callable[[int, int], object]:
        def append(thread: int, number: int) -> object:
            tag = f"note/{number % STREAMS}"
            event = umadb.Event("note.added/1", payload, tags=[tag], uuid=uuid4())
            return clients[thread % len(clients)].append([event])

        return append

    for layout, how_many in (("64 clients", IN_FLIGHT), ("one client", 1)):
        clients = [umadb.Client(url) for _ in range(how_many)]
        yield layout, from_threads(appending(clients), seconds)


# -------------------------------------------------------------------------------------- PostgreSQL


@contextmanager
def _bare_table(server: Server) -> Iterator[psycopg.Connection]:
    """The same columns and keys as a ledger's entries; no triggers, no checks, nobody's rules."""
    with psycopg.connect(server.database(), autocommit=True) as connection:
        connection.execute(TABLE)
        yield connection


def copy_rate(server: Server, rows: Sequence[Row], each: int) -> float:
    """Rows a second by binary COPY, `each` rows a transaction, encoded as fast as we can."""
    numbers = _numbers(rows)
    with _bare_table(server) as connection:
        begin = time.perf_counter()
        for at in range(0, len(rows), each):
            with connection.cursor().copy(COPY) as copy:
                copy.write(COPY_START)
                for piece in copied_rows(1, rows[at : at + each], numbers):
                    copy.write(piece)
                copy.write(COPY_END)
        return len(rows) / (time.perf_counter() - begin)


def _numbers(rows: Sequence[Row]) -> dict[str, int]:
    """A number for each stream, as a ledger gives them: made before the clock runs."""
    return {row.stream: row.index for row in rows if row.version == 1}


def insert_rate(server: Server, rows: Sequence[Row], each: int) -> float:
    """Rows a second by INSERT, `each` rows a transaction: executemany, which pipelines them."""
    numbers = _numbers(rows)
    values = [(*row[:3], numbers[row.stream], *row[4:]) for row in rows]
    with _bare_table(server) as connection:
        begin = time.perf_counter()
        for at in range(0, len(rows), each):
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(INSERT, values[at : at + each])
        return len(rows) / (time.perf_counter() - begin)

"""What the parts of `scripts/bench postgres` share: the server, databases, events, layouts.

One cluster a part, with the same settings for all that is measured on it; a database for each
measurement, so that none runs on the leavings of another. Durability is on and printed. A server of
one's own is measured with TEST_PG_DSN=postgresql://admin@host:port/postgres.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ledger.draft import Draft
from ledger.events import draft
from ledger.opening import Ledger, create_ledger
from ledger.stores.postgres import migrate
from scripts.benches.harness import Context, fsync_latency_ms
from scripts.clusters import Cluster, cluster_folder, newest, servers

__all__ = [
    "ACTOR",
    "BATCH",
    "IN_FLIGHT",
    "PAYLOAD_BYTES",
    "SETTINGS",
    "Event",
    "Server",
    "drafts_of",
    "events",
    "from_futures",
    "from_threads",
    "note",
    "server",
]

ACTOR = "service:trainer-0"
LOGIN = "asof_bench"
STREAMS = 50
BATCH = 1_000
IN_FLIGHT = 64
PAYLOAD_BYTES = 500

SETTINGS = {
    "max_connections": "300",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "min_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "autovacuum": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
}
"""For a small machine, with no checkpoint in the middle of a run; the same for all."""

Event = tuple[str, dict[str, object]]


@dataclass(slots=True)
class Server:
    """A PostgreSQL server, its administrator's URL, and where the keys of its ledgers lie."""

    admin_url: str
    folder: Path
    _numbers: Iterator[int] = field(default_factory=count)
    _password: str = field(default_factory=lambda: secrets.token_hex(16))

    def database(self) -> str:
        """A new database; the administrator's URL of it."""
        name = f"bench_{os.getpid()}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return _url(self.admin_url, dbname=name)

    def ledger(self) -> Ledger:
        """A new ledger in a new database, through the role that a program has."""
        admin = self.database()
        migrate(admin, login=LOGIN)
        self.run(f"ALTER ROLE {LOGIN} PASSWORD '{self._password}'")
        name = str(conninfo_to_dict(admin)["dbname"])
        url, keys = self._place(name)
        return create_ledger(url, origin="ledger.example.com/bench", keys=keys)

    def place_of(self, ledger: Ledger) -> tuple[str, Path]:
        """The program's URL of a ledger, and its keys: for another process."""
        return self._place(_database_of(ledger))

    def admin_of(self, ledger: Ledger) -> str:
        """The administrator's URL of a ledger's database."""
        return _url(self.admin_url, dbname=_database_of(ledger))

    def run(self, *statements: str) -> None:
        """As the administrator, each statement for itself."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def facts(self) -> dict[str, str]:
        """The version, and what durability hangs on."""
        asked = ("server_version", "fsync", "full_page_writes", "synchronous_commit")
        asked += ("wal_sync_method", "data_checksums", "shared_buffers")
        with psycopg.connect(self.admin_url) as connection:
            return {
                name: str(connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0])  # type: ignore[index]
                for name in asked
            }

    def _place(self, database: str) -> tuple[str, Path]:
        url = _url(self.admin_url, dbname=database, user=LOGIN, password=self._password)
        return url, self.folder / f"{database}.keys"


def _database_of(ledger: Ledger) -> str:
    return str(conninfo_to_dict(ledger.store.url)["dbname"])


def _url(url: str, **changed: str) -> str:
    said = conninfo_to_dict(url) | changed
    user, password = said.get("user", ""), said.get("password", "")
    login = f"{user}:{password}" if password else f"{user}"
    return f"postgresql://{login}@{said['host']}:{said.get('port', 5432)}/{said['dbname']}"


@contextmanager
def server(context: Context) -> Iterator[Server]:
    """The server of this part, started for it and thrown away after it."""
    given = os.environ.get("TEST_PG_DSN")
    if given:
        yield _announced(context, Server(given, context.folder))
        return
    _, bindir = newest(servers())
    with (
        cluster_folder() as folder,
        Cluster.create(folder / "bench", bindir, settings=SETTINGS) as cluster,
    ):
        cluster.start()
        context.say(f"fsync where the server writes: {fsync_latency_ms(folder):.3f} ms")
        yield _announced(context, Server(cluster.dsn(), context.folder))


def _announced(context: Context, started: Server) -> Server:
    context.say(
        "PostgreSQL " + ", ".join(f"{name} {what}" for name, what in started.facts().items())
    )
    return started


# ------------------------------------------------------------------------------------------ events


def note(number: int, *, stream: int | None = None) -> Draft:
    """A validated event with a payload of 0.5 kB."""
    return Draft(
        type="note.added/1",
        stream=f"note/{number % STREAMS if stream is None else stream}",
        actor=ACTOR,
        payload=b'{"text":"%s"}' % (b"x" * (PAYLOAD_BYTES - 11)),
    )


def events(total: int, random: Any) -> list[Event]:
    """Real events of 0.5 kB, as a program has them before the door."""
    return [
        (
            "binding.changed/1",
            {
                "pipeline": f"demand-forecast-{number % STREAMS}",
                "stage": "production",
                "slot": "model",
                "asset_version": f"model/forecaster@{number}",
                "previous": f"model/forecaster@{number - 1}" if number else None,
                "effective_at": f"2024-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}T09:00:00Z",
                "reason": "retrained on the data of last week; " + random.randbytes(128).hex(),
            },
        )
        for number in range(total)
    ]


def drafts_of(given: Sequence[Event]) -> list[Draft]:
    """Through the door."""
    now = time.time_ns() // 1000
    return [draft(event, actor=ACTOR, now=now) for event in given]


# ----------------------------------------------------------------------------------------- layouts


def from_threads(
    append: Callable[[int, int], object], seconds: float, threads: int = IN_FLIGHT
) -> float:
    """Appends a second by threads that each wait for their answer; `append(thread, number)`."""
    counts = [0] * threads
    start = threading.Barrier(threads + 1)
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        start.wait()
        try:
            while time.perf_counter() < end:
                append(thread, counts[thread])
                counts[thread] += 1
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(threads)]
    for worker in workers:
        worker.start()
    end = time.perf_counter() + seconds + 0.05
    begin = time.perf_counter()
    start.wait()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - begin
    if errors:
        raise errors[0]
    return sum(counts) / took


def from_futures(
    submit: Callable[[int], Future[Any]], seconds: float, window: int = IN_FLIGHT
) -> float:
    """Appends a second of one producer that keeps `window` futures."""
    waiting: deque[Future[Any]] = deque()
    begin = time.perf_counter()
    number = 0
    while time.perf_counter() - begin < seconds:
        if len(waiting) == window:
            waiting.popleft().result()
        waiting.append(submit(number))
        number += 1
    for future in waiting:
        future.result()
    return number / (time.perf_counter() - begin)

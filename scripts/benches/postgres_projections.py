"""The index in PostgreSQL: building it again from a ledger there, and asking it at any size.

A million entries go into a PostgreSQL ledger by COPY, of the kind that `ledger_state` makes and
without a true chain: five pipelines of 20 slots, bindings, records, runs, traffic, monitoring. The
index is built of them twice: as it follows a ledger (a batch a transaction, inserts), and as a
rebuild (COPY, keys afterwards).

States are asked at 10,000 entries and at ten million of the same kind. The ten million are not
signed: rows are put straight into `asof.entry` and the head by COPY, with leaf hashes that prove
nothing, for neither the index nor a question looks at them. The index over them is a real rebuild.
Questions are drawn from all four cases of (at, known_at); the ledger's own part of an answer, the
basis, is measured with it.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from hashlib import sha256

import psycopg

from api.tuning import tune_for_writing
from ledger.note import Signer
from ledger.reader import Reader
from ledger.store import Head, Row
from ledger.stores.postgres import PostgresStore, migrate
from ledger.stores.postgres.binary import COPY_END, COPY_START, copied_rows
from projections.at import Moment
from projections.index import Index
from projections.postgres_tables import PostgresTables
from projections.state import state
from scripts.benches.harness import Context, Measurement
from scripts.benches.ledger_state import ASKED, SECOND, START, _Clock, _events, _p99
from scripts.benches.postgres_world import SETTINGS
from scripts.clusters import Cluster, cluster_folder, newest, servers

__all__ = ["rows"]

SMALL = 10_000
MIDDLE = 1_000_000
LARGE = 10_000_000
BATCH = 1_000
QUESTIONS = 1_000
PEER = "eventsourcing's projection runner, an event a commit (~960/s)"
PEER_RATE = 960
COLUMNS = (
    "idx, recorded_at, stream_number, ledger, version, commitment, leaf_hash, actor, type, salt, "
    "payload"
)


def rows(context: Context) -> Iterator[Measurement]:
    """All figures of this part."""
    scale = 10 if context.quick else 1
    tune_for_writing()  # as `asof projections rebuild` does
    with ExitStack() as stack:
        folder = stack.enter_context(cluster_folder())
        _, bindir = newest(servers())
        cluster = stack.enter_context(
            Cluster.create(folder / "projections", bindir, settings=SETTINGS)
        )
        cluster.start()
        bench = _Bench(context, cluster.create_database("bench"))
        yield from bench.building(MIDDLE // scale)
        yield from bench.asking(LARGE // scale)


class _Bench:
    def __init__(self, context: Context, admin: str) -> None:
        migrate(admin, login="asof_app")
        self._context = context
        self._admin = admin
        self._url = admin.replace("postgres@", "asof_app@")

    def building(self, size: int) -> Iterator[Measurement]:
        with closing(self._filled("bench.example/middle", size)) as store, ExitStack() as stack:
            reader = _reader(store)
            index = stack.enter_context(closing(self._index(reader)))
            self._context.say(f"indexing {size:,} entries as they come")
            begin = time.perf_counter()
            index.catch_up()
            rate = size / (time.perf_counter() - begin)
            yield _rate(f"index, live, {size:,} entries", rate)
            self._context.say(f"building the index of {size:,} entries again")
            begin = time.perf_counter()
            rebuilt = index.rebuild()
            rate = size / (time.perf_counter() - begin)
            if rebuilt.differing != ():
                raise AssertionError(f"the rebuilt index differs in {rebuilt.differing}")
            yield _rate(f"rebuild into PostgreSQL, {size:,} entries", rate, goal=40_000)

    def asking(self, size: int) -> Iterator[Measurement]:
        small = self._times("bench.example/small", SMALL)
        large = self._times("bench.example/large", size)
        yield _time(f"state of 20 slots at {SMALL:,} entries, p99", _p99(small))
        yield _time(f"state of 20 slots at {size:,} entries, p99", _p99(large), goal=10)
        yield _time("the same, median", statistics.median(large))
        for name, ratio in (
            ("median", statistics.median(large) / statistics.median(small)),
            ("p99", _p99(large) / _p99(small)),
        ):
            yield Measurement(
                name=f"{name} at {size:,} over {name} at {SMALL:,}",
                value=ratio,
                unit="×",
                goal=1.5,
                at_most=True,
            )

    def _times(self, origin: str, size: int) -> list[float]:
        """Milliseconds of each question, after some to warm up."""
        with closing(self._filled(origin, size)) as store:
            reader = _reader(store)
            with closing(self._index(reader)) as index:
                self._context.say(f"building the index of {size:,} entries")
                index.rebuild()
                return _asked(self._context.seed, reader, index)

    def _index(self, reader: Reader) -> Index:
        return Index(PostgresTables.open(self._url, reader.origin), reader)

    def _filled(self, origin: str, size: int) -> PostgresStore:
        """A ledger of so many entries, by COPY, past the writer and so as the administrator."""
        self._context.say(f"copying {size:,} entries")
        store = PostgresStore.open(self._url, origin)
        store.create(_head(origin, 0))
        number = store._id() or 0
        numbers: dict[str, int] = {}
        made = _rows(random.Random(self._context.seed), size, numbers)
        with psycopg.connect(self._admin) as connection:
            with connection.cursor().copy(
                f"COPY asof.entry ({COLUMNS}) FROM STDIN WITH (FORMAT binary)".encode()
            ) as copy:
                copy.write(COPY_START)
                for piece in copied_rows(number, made, numbers):
                    copy.write(piece)
                copy.write(COPY_END)
            with connection.cursor().copy(
                b"COPY asof.stream (ledger, name, number) FROM STDIN"
            ) as copy:
                for name, first in numbers.items():
                    copy.write_row((number, name, first))
            last = START + size // BATCH * SECOND
            connection.execute(
                "UPDATE asof.ledger SET size = %s, recorded_at = %s, root = %s WHERE id = %s",
                (size, last, _leaf(size), number),
            )
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE asof.entry, asof.stream")
        return store


class _Reader(Reader):
    """Roots are not part of what is measured: these entries have no tree."""

    def root(self, size: int) -> bytes:
        return _leaf(size)


def _reader(store: PostgresStore) -> Reader:
    return _Reader(store, Signer.from_seed(store.origin, b"\x07" * 32).vkey)


def _rows(chance: random.Random, size: int, numbers: dict[str, int]) -> Iterator[Row]:
    """Entries as the writer would store them, but for commitments and leaf hashes; `numbers` is
    given those of their streams."""
    clock, versions = _Clock(), dict[str, int]()
    events = _events(chance, clock)
    for index in range(size):
        if index % BATCH == 0:
            clock.now += SECOND
        draft = next(events)
        version = versions[draft.stream] = versions.get(draft.stream, 0) + 1
        numbers.setdefault(draft.stream, index)
        yield Row(
            index,
            clock.now,
            draft.actor,
            draft.stream,
            draft.type,
            version,
            bytes(32),
            bytes(16),
            draft.payload,
            _leaf(index),
        )


def _leaf(index: int) -> bytes:
    return sha256(index.to_bytes(8, "big")).digest()


def _head(origin: str, size: int) -> Head:
    return Head(
        origin=origin,
        size=size,
        root=_leaf(0),
        last_leaf=_leaf(0),
        recorded_at=0,
        edge=(),
        checkpoint=b"none",
    )


def _asked(seed: int, reader: Reader, index: Index) -> list[float]:
    chance, samples = random.Random(seed), []
    size, now = reader.size(), reader.head().recorded_at
    for number in range(QUESTIONS + 50):
        at, known = _moment(chance, reader, size), _moment(chance, reader, size)
        case = number % 4
        begin = time.perf_counter()
        state(
            reader,
            index,
            *ASKED,
            at=at if case in (1, 3) else None,
            known_at=known if case in (2, 3) else None,
            now=now,
        )
        samples.append((time.perf_counter() - begin) * 1000)
    return samples[50:]


def _moment(chance: random.Random, reader: Reader, size: int) -> Moment:
    (row,) = reader.rows_at([chance.randrange(size // 10, size)])
    place = chance.random() < 0.5
    return Moment(text="", instant=row.recorded_at, size=row.index + 1 if place else None)


def _rate(name: str, value: float, goal: float | None = None) -> Measurement:
    return Measurement(
        name=name, value=value, unit="entries/s", goal=goal, peer=PEER, ratio=value / PEER_RATE
    )


def _time(name: str, value: float, goal: float | None = None) -> Measurement:
    return Measurement(name=name, value=value, unit="ms", goal=goal, at_most=True)

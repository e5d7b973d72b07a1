"""What an entry costs on the server's disk beyond its payload: rows, indexes, tiles, keys."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import psycopg

from scripts.benches.harness import Context, Measurement
from scripts.benches.postgres_world import BATCH, drafts_of, events, server

ENTRIES = 100_000
SIZE = """
SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c
WHERE c.relnamespace = 'asof'::regnamespace AND c.relkind = 'r'
"""


def rows(context: Context) -> Iterator[Measurement]:
    """All our tables with their indexes, after VACUUM, less the payloads, for each entry."""
    count = ENTRIES // 10 if context.quick else ENTRIES
    made = events(count, Random(context.seed))
    payload = 0
    with server(context) as started, started.ledger() as ledger:
        for at in range(0, count, BATCH):
            drafts = drafts_of(made[at : at + BATCH])
            ledger.writer.append(drafts, idempotency_key=f"batch {at}")
            payload += sum(len(one.payload) for one in drafts)
        size = ledger.reader.size()
        with psycopg.connect(started.admin_of(ledger), autocommit=True) as connection:
            connection.execute("VACUUM")
            used = int((connection.execute(SIZE).fetchone() or (0,))[0])
    yield Measurement(
        name="storage beyond the payload, indexes included",
        value=(used - payload) / size,
        unit="bytes/entry",
        goal=350,
        at_most=True,
    )

"""A program that appends while its server is killed, and what must hold afterwards.

    python -m tests.support.appending URL KEYS JOURNAL small-0 small-1 large-0 [--careless]

The journal lies outside of the database. It says of each batch what the program was told:

    try small-0-7               it is about to be sent
    unknown small-0-7           UnknownOutcomeError: it may have been written
    failed small-0-7            any other StoreError: it was not written
    ack small-0-7 41 1 9f86…    first index, whether it was a repeat, SHA-256 of the leaf hashes

Two of three batches that did not succeed are sent again with the same key until they do; the third
is left for the checker. The program ends when its standard input is closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import ledger.stores.postgres.store as postgres_store
from ledger.audit import verify_url
from ledger.draft import Draft
from ledger.errors import StoreError, TamperError, UnknownOutcomeError
from ledger.guard import Guard
from ledger.keys import GUARD_FILE, load_vkey
from ledger.opening import open_ledger
from ledger.reader import Reader
from ledger.store import Row
from ledger.stores.postgres.transaction import SQL, PostgresTransaction, _row_values
from ledger.verdict import Verdict
from ledger.writer import Writer
from scripts.clusters.processes import wait_until
from tests.support.ledgers import note

__all__ = ["Client", "Outcome", "batch_of", "check_journal", "client", "read_journal"]

CHECKOUT = Path(__file__).resolve().parents[2]
LARGE = 300
PAUSE_SECONDS = 0.002


def batch_of(key: str) -> list[Draft]:
    """The batch that belongs to a key: one to three notes, or more than go in one statement."""
    kind, _, number = key.split("-")
    count = LARGE if kind == "large" else 1 + int(number) % 3
    return [note(f"{key} {n}", f"note/{int(number) % 2}") for n in range(count)]


def is_left_alone(key: str) -> bool:
    """Whether the program does not send the batch again when it was not acknowledged."""
    return int(key.rpartition("-")[2]) % 3 == 0


# --------------------------------------------------------------------------------- the program


class Journal:
    """Lines that are there when `write` has returned, whatever happens to this process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def append_all(writer: Writer, journal: Journal, thread: str, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        append_one(writer, journal, f"{thread}-{number}", stop)
        number += 1
        stop.wait(PAUSE_SECONDS * (50 if thread.startswith("large") else 1))


def append_one(writer: Writer, journal: Journal, key: str, stop: threading.Event) -> None:
    journal.write("try", key)
    while not stop.is_set():
        try:
            done = writer.append(batch_of(key), idempotency_key=key)
            digest = sha256(b"".join(receipt.leaf_hash for receipt in done.receipts)).hexdigest()
            journal.write("ack", key, done.first_index, int(done.repeated), digest)
            return
        except UnknownOutcomeError:
            journal.write("unknown", key)
        except TamperError:
            stop.set()
            journal.write("unknown", key)
        except StoreError:
            journal.write("failed", key)
        if is_left_alone(key):
            return
        stop.wait(0.02)


def main(url: str, keys: str, journal_path: str, *words: str) -> None:
    if "--careless" in words:
        be_careless()
    journal, stop = Journal(Path(journal_path)), threading.Event()
    with open_ledger(url, keys=Path(keys)) as ledger:
        threads = [
            threading.Thread(target=append_all, args=(ledger.writer, journal, name, stop))
            for name in words
            if not name.startswith("--")
        ]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stop.set()
        for thread in threads:
            thread.join()


class CarelessTransaction(PostgresTransaction):
    """Commits before it is durable, which the server's function does not allow from outside."""

    def _send_whole(self, step: list[Any], rows: Sequence[Any]) -> None:
        self._connection.execute("BEGIN")
        self._locked = True
        self._commit_whole(step, rows)

    def _commit_whole(self, step: list[Any], rows: Sequence[Any]) -> None:
        values = [*step, *_row_values(rows, self._numbering.of)]
        answer = self._connection.execute(SQL["append"], values).fetchone()
        self._connection.execute("SET LOCAL synchronous_commit = off")
        self._check_moved(answer)
        self._connection.execute("COMMIT")
        self._remembered.learn(self._numbering.given)


def be_careless() -> None:
    """The store as it must not be. Waking readers is a commit of its own, which makes durable what
    lies before it: it is left out."""
    postgres_store.PostgresTransaction = CarelessTransaction  # type: ignore[misc]
    postgres_store.PostgresStore.tend = lambda self: None  # type: ignore[method-assign]


# -------------------------------------------------------------------------- the program's owner


@dataclass
class Client:
    """The running program."""

    process: subprocess.Popen[bytes]
    journal: Path

    def acknowledged(self) -> int:
        return self.journal.read_bytes().count(b"\nack ") if self.journal.exists() else 0

    def wait_for_more(self, count: int) -> None:
        """Until so many more batches were acknowledged. Raises: AssertionError where it died."""
        wanted = self.acknowledged() + count
        wait_until(
            lambda: self.process.poll() is not None or self.acknowledged() >= wanted,
            f"{count} more acknowledgements",
            seconds=120,
        )
        assert self.process.poll() is None, "the appending program ended by itself"

    def kill(self) -> None:
        self.process.kill()


@contextmanager
def client(url: str, keys: Path, journal: Path, *words: str) -> Iterator[Client]:
    """Run the program; at the end it finishes the batch it is at."""
    command = [sys.executable, "-m", "tests.support.appending", url, keys, journal, *words]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE)
    try:
        yield Client(process, journal)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(120)


# ------------------------------------------------------------------------------------- checking


@dataclass
class Outcome:
    """What the program was told of a batch; `lied`: a repeat of what was said to have failed."""

    unknown: bool = False
    answers: set[tuple[int, str]] = field(default_factory=set)
    told: bool = False
    lied: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the key must be asked: the outcome is unknown, or nothing was said at all."""
        return not self.answers and (self.unknown or not self.told)


def read_journal(path: Path) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for line in path.read_text().splitlines():
        word, key, *rest = line.split(" ")
        outcome = outcomes.setdefault(key, Outcome())
        outcome.told |= word != "try"
        outcome.unknown |= word == "unknown"
        if word == "ack":
            outcome.lied |= rest[1] == "1" and not outcome.unknown
            outcome.answers.add((int(rest[0]), rest[2]))
    return outcomes


def check_journal(url: str, keys: Path, journal: Path) -> dict[str, int]:
    """What must hold after any crash (docs/spec/append.md); the numbers of each kind of outcome.

    1. An acknowledged batch is there once, where it was said to be, with the leaf hashes that were
       acknowledged; by 5, its bytes are those that were hashed.
    2. A batch that failed is not there; one whose outcome is unknown is there as a whole, or not.
    3. Nothing else is there.
    4. The key of an unknown outcome answers: a repeat where it is there, else it is written now.
    5. `verify` finds the whole ledger valid, and the guard not ahead of it.
    """
    outcomes = read_journal(journal)
    with open_ledger(url, keys=keys, write=False, check=False) as ledger:
        found = _batches(ledger.reader)
    for key, outcome in outcomes.items():
        _check_outcome(key, outcome, found.get(key, []))
    assert found.keys() <= outcomes.keys(), f"nobody sent {found.keys() - outcomes.keys()}"
    still_open = [key for key, outcome in outcomes.items() if outcome.is_open]
    with open_ledger(url, keys=keys) as ledger:
        for key in still_open:
            done = ledger.writer.append(batch_of(key), idempotency_key=key)
            assert done.repeated == (key in found), key
    report = verify_url(url, vkey=load_vkey(keys), guard=Guard(keys / GUARD_FILE))
    assert report.result is Verdict.VALID, report
    return {
        "acknowledged": sum(bool(outcome.answers) for outcome in outcomes.values()),
        "unknown": sum(outcome.unknown for outcome in outcomes.values()),
        "failed": sum(not outcome.answers and not outcome.is_open for outcome in outcomes.values()),
    }


def _batches(reader: Reader) -> dict[str, list[Row]]:
    """The rows of each key, as they are there."""
    found: dict[str, list[Row]] = {}
    for record in reader.entries(1):
        found.setdefault(record.data["text"].split(" ")[0], []).append(record.row)
    return found


def _check_outcome(key: str, outcome: Outcome, kept: list[Row]) -> None:
    count = len(batch_of(key))
    assert not outcome.lied, f"{key} was said to have failed, and is there"
    if outcome.answers:
        [(first, digest)] = outcome.answers
        assert kept, f"{key} was acknowledged as entry {first}, and is not there"
        assert [row.index for row in kept] == list(range(first, first + count)), key
        assert sha256(b"".join(row.leaf_hash for row in kept)).hexdigest() == digest, key
    elif outcome.is_open:
        assert len(kept) in (0, count), f"{key} is there in part: {len(kept)} of {count}"
    else:
        assert not kept, f"{key} was said to have failed, and is there"


if __name__ == "__main__":
    main(*sys.argv[1:])

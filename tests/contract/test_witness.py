"""The witness, by its protocol (C2SP tlog-witness): every answer, and never a cosigned fork."""

from __future__ import annotations

import asyncio
import base64
import itertools
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.service.problems import ProblemError
from api.service.witnessing.door import Door
from api.service.witnessing.witness import Fork, RefusalError, Witness, request_body
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.cosignature import Cosigner, add_lines, check_cosignatures
from ledger.errors import StoreError, TamperError
from ledger.hashing import EMPTY_ROOT
from ledger.merkle import prove_consistency
from ledger.note import Signer
from ledger.opening import Ledger
from tests.support.failing import FailingConnection, sqlite_error
from tests.support.ledgers import memory_ledger, notes

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with memory_ledger() as ledger:
        ledger.writer.append(notes(9))
        yield ledger


@pytest.fixture
def alarms() -> list[str]:
    return []


@pytest.fixture
def witness(ledger: Ledger, tmp_path: Path, alarms: list[str]) -> Iterator[Witness]:
    made = Witness(
        tmp_path / "witness.db",
        Cosigner("witness.example.com/w", KEY),
        {ledger.vkey.name: ledger.vkey},
        alarm=lambda origin, what: alarms.append(what),
        clock=lambda: 1_795_000_000.0,
    )
    yield made
    made.close()


def note_at(ledger: Ledger, size: int, root: bytes | None = None) -> bytes:
    assert ledger.signer is not None
    root = ledger.reader.root(size) if root is None else root
    return sign_checkpoint(Checkpoint(ledger.vkey.name, size, root), ledger.signer)


def proof(ledger: Ledger, old: int, new: int) -> list[bytes]:
    return list(prove_consistency(old, new, ledger.reader.nodes(ledger.reader.size())))


def refused(witness: Witness, body: bytes) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        witness.add_checkpoint(body)
    return caught.value


def test_it_cosigns_what_continues(ledger: Ledger, witness: Witness) -> None:
    first = note_at(ledger, 4)
    line = witness.add_checkpoint(request_body(0, [], first))
    (held,) = check_cosignatures(add_lines(first, line), [witness.cosigner.key])
    assert held.time == 1_795_000_000
    second = note_at(ledger, 10)
    witness.add_checkpoint(request_body(4, proof(ledger, 4, 10), second))
    again = witness.add_checkpoint(request_body(10, [], second))
    assert check_cosignatures(add_lines(second, again), [witness.cosigner.key])
    assert witness.seen() == {ledger.vkey.name: 10}


def test_it_says_what_it_has_seen(ledger: Ledger, witness: Witness, tmp_path: Path) -> None:
    witness.add_checkpoint(request_body(0, [], note_at(ledger, 4)))
    late = refused(witness, request_body(0, [], note_at(ledger, 10)))
    assert (late.status, late.size) == (409, 4)
    witness.close()
    again = Witness(
        tmp_path / "witness.db", witness.cosigner, {ledger.vkey.name: ledger.vkey}, alarm=print
    )
    assert refused(again, request_body(0, [], note_at(ledger, 10))).size == 4, "it is kept"
    again.close()


def test_it_never_cosigns_a_fork(ledger: Ledger, witness: Witness, alarms: list[str]) -> None:
    witness.add_checkpoint(request_body(0, [], note_at(ledger, 4)))
    fork = note_at(ledger, 4, b"x" * 32)
    told = refused(witness, request_body(4, [], fork))
    assert told.status == 422 and alarms == ["two trees of 4 entries, both signed"]
    other = note_at(ledger, 10, b"x" * 32)
    assert refused(witness, request_body(4, proof(ledger, 4, 10), other)).status == 422
    wrong = [b"y" * 32, *proof(ledger, 4, 10)[1:]]
    assert refused(witness, request_body(4, wrong, note_at(ledger, 10))).status == 422
    assert refused(witness, request_body(4, [], note_at(ledger, 10))).status == 422
    assert refused(witness, request_body(4, [b"z" * 32], note_at(ledger, 4))).status == 422
    assert witness.seen() == {ledger.vkey.name: 4}


def test_what_is_no_request_is_refused(ledger: Ledger, witness: Witness) -> None:
    note = note_at(ledger, 4)
    stranger = Signer.from_seed("elsewhere.example.com/log", b"\x02" * 32)
    unknown = sign_checkpoint(Checkpoint(stranger.name, 1, b"r" * 32), stranger)
    impostor = Signer.from_seed(ledger.vkey.name, b"\x03" * 32)
    forged = sign_checkpoint(Checkpoint(ledger.vkey.name, 4, b"r" * 32), impostor)
    for body, status in (
        (b"", 400),
        (b"old 0\n", 400),
        (b"old x\n\n" + note, 400),
        (b"old 00\n\n" + note, 400),
        (b"new 0\n\n" + note, 400),
        (b"old 0\nnot base64\n\n" + note, 400),
        (b"old 0\n" + b"A" * 43 + b"=\n" * 1 + b"\n" + note[:30], 400),
        (request_body(0, [b"h" * 32] * 64, note), 400),
        (b"old 0\n\nhello\n", 400),
        (request_body(9, [], note), 400),
        (request_body(0, [], unknown), 404),
        (request_body(0, [], forged), 403),
    ):
        assert refused(witness, body).status == status, body[:40]
    assert witness.seen() == {}


def test_a_fork_is_evidence_whatever_old_size_it_comes_with(
    ledger: Ledger, witness: Witness, alarms: list[str], tmp_path: Path
) -> None:
    """Two signed trees of one size convict the log; the answer is the one that the protocol has."""
    seen, shown = note_at(ledger, 4), note_at(ledger, 4, b"x" * 32)
    witness.add_checkpoint(request_body(0, [], seen))
    told = refused(witness, request_body(0, [], shown))
    assert (told.status, told.size) == (409, 4)
    assert alarms == ["two trees of 4 entries, both signed"]
    assert refused(witness, request_body(4, [], shown)).status == 422
    assert refused(witness, request_body(4, [], note_at(ledger, 4, b"z" * 32))).status == 422
    assert len(alarms) == 1, "it is said once, not as often as somebody sends it again"
    assert witness.forks() == [Fork(ledger.vkey.name, 4, seen, shown)]
    witness.add_checkpoint(request_body(4, proof(ledger, 4, 9), note_at(ledger, 9)))
    witness.close()
    again: list[str] = []
    other = Witness(
        tmp_path / "witness.db",
        witness.cosigner,
        {ledger.vkey.name: ledger.vkey},
        alarm=lambda origin, what: again.append(what),
    )
    assert other.forks() == [Fork(ledger.vkey.name, 4, seen, shown)], "both are kept"
    assert again == alarms, "and it is said again with every start"
    other.close()


def time_of(line: bytes) -> int:
    return int.from_bytes(base64.b64decode(line.split(b" ")[2])[4:12], "big")


def test_times_do_not_go_back(ledger: Ledger, tmp_path: Path) -> None:
    clock = [1_795_000_000.0]

    def opened() -> Witness:
        return Witness(
            tmp_path / "clock.db",
            Cosigner("witness.example.com/w", KEY),
            {ledger.vkey.name: ledger.vkey},
            alarm=lambda origin, what: None,
            clock=lambda: clock[0],
        )

    witness = opened()
    first = witness.add_checkpoint(request_body(0, [], note_at(ledger, 4)))
    clock[0] -= 3
    second = witness.add_checkpoint(request_body(4, proof(ledger, 4, 5), note_at(ledger, 5)))
    assert time_of(first) == time_of(second) == 1_795_000_000
    witness.close()
    witness = opened()
    assert time_of(witness.add_checkpoint(request_body(5, [], note_at(ledger, 5)))) >= 1_795_000_000
    clock[0] = 1_600_000_000.0
    with pytest.raises(StoreError, match="clock"):
        witness.add_checkpoint(request_body(5, proof(ledger, 5, 6), note_at(ledger, 6)))
    assert witness.seen() == {ledger.vkey.name: 5}, "what is not cosigned is not kept as cosigned"
    clock[0] = 1_795_000_100.0
    third = witness.add_checkpoint(request_body(5, proof(ledger, 5, 6), note_at(ledger, 6)))
    assert time_of(third) == 1_795_000_100
    witness.close()


def test_a_time_is_that_at_which_the_tree_was_the_largest(ledger: Ledger, tmp_path: Path) -> None:
    """Two at once: the smaller tree is never signed with a later time than the larger one."""
    ticks, between, times = itertools.count(1_795_000_000), threading.Event(), dict[int, int]()

    def clock() -> float:
        if threading.current_thread() is small:
            between.wait(0.3)
        return float(next(ticks))

    def ask(size: int, old: int) -> None:
        body = request_body(old, proof(ledger, old, size) if old else [], note_at(ledger, size))
        times[size] = time_of(witness.add_checkpoint(body))

    witness = Witness(
        tmp_path / "slow.db",
        Cosigner("witness.example.com/w", KEY),
        {ledger.vkey.name: ledger.vkey},
        alarm=lambda origin, what: None,
        clock=clock,
    )
    small = threading.Thread(target=ask, args=(4, 0))
    small.start()
    until = time.monotonic() + 5
    while not witness.seen():
        assert time.monotonic() < until
        time.sleep(0.001)
    ask(9, 4)
    between.set()
    small.join()
    assert times[4] < times[9]
    witness.close()


@pytest.mark.parametrize("statement", ["COMMIT", "INSERT"])
def test_it_goes_on_after_a_disk_that_failed(
    ledger: Ledger, witness: Witness, statement: str
) -> None:
    """Nothing is cosigned that is not kept, and the next request finds no transaction open."""
    whole = witness._connection
    error = sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full")
    witness._connection = FailingConnection(whole, statement, error)  # type: ignore[assignment]
    body = request_body(0, [], note_at(ledger, 4))
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot keep what it saw"):
            witness.add_checkpoint(body)
    witness._connection = whole
    assert witness.seen() == {}
    assert witness.add_checkpoint(body)


def test_it_goes_on_after_a_file_that_is_full(ledger: Ledger, witness: Witness) -> None:
    assert ledger.signer is not None
    long = add_lines(note_at(ledger, 4), ledger.signer.sign(b"x" * 9) * 90)
    stranger = long.replace(b"\xe2\x80\x94 ledger", b"\xe2\x80\x94 elsewhere")
    body = request_body(0, [], stranger + note_at(ledger, 4).rpartition(b"\n\n")[2])
    (pages,) = witness._connection.execute("PRAGMA page_count").fetchone()
    witness._connection.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(2):
        with pytest.raises(StoreError, match="database or disk is full"):
            witness.add_checkpoint(body)
    witness._connection.execute("PRAGMA max_page_count = 1000")
    assert witness.seen() == {} and witness.add_checkpoint(body)


def test_its_file_is_its_own(ledger: Ledger, tmp_path: Path, witness: Witness) -> None:
    for name in ("witness.db", "witness.db-wal", "witness.db-shm"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name
    (tmp_path / "none.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none.db", tmp_path / "file" / "witness.db"):
        with pytest.raises(StoreError, match="witness"):
            Witness(path, witness.cosigner, {}, alarm=lambda origin, what: None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("size = 3", "another tree than the checkpoint beside it"),
        ("root = zeroblob(32)", "another tree than the checkpoint beside it"),
        ("note = x'00'", "no checkpoint"),
    ],
)
def test_what_it_keeps_is_what_was_signed(
    ledger: Ledger, tmp_path: Path, witness: Witness, change: str, says: str
) -> None:
    witness.add_checkpoint(request_body(0, [], note_at(ledger, 4)))
    witness._connection.execute(f"UPDATE log SET {change}")
    witness.close()
    with pytest.raises(TamperError, match=says):
        Witness(
            tmp_path / "witness.db",
            witness.cosigner,
            {ledger.vkey.name: ledger.vkey},
            alarm=lambda origin, what: None,
        )


def test_the_largest_tree_of_all(ledger: Ledger, witness: Witness) -> None:
    """2^63-1 entries, and one more, which no checkpoint can say."""
    most = (1 << 63) - 1
    assert witness.add_checkpoint(request_body(0, [], note_at(ledger, most, b"m" * 32)))
    assert witness.seen() == {ledger.vkey.name: most}
    assert refused(witness, request_body(0, [], note_at(ledger, 9))).size == most
    more = note_at(ledger, 9).replace(b"\n9\n", f"\n{most + 1}\n".encode())
    assert refused(witness, request_body(0, [], more)).status == 400
    assert refused(witness, b"old %d\n\n" % (most + 1) + note_at(ledger, 9)).status == 400


def test_an_empty_tree_is_one_of_no_entries(ledger: Ledger, witness: Witness) -> None:
    empty = note_at(ledger, 0, EMPTY_ROOT)
    assert witness.add_checkpoint(request_body(0, [], empty))
    assert witness.add_checkpoint(request_body(0, [], empty))
    assert refused(witness, request_body(0, [b"h" * 32], note_at(ledger, 4))).status == 422
    assert witness.add_checkpoint(request_body(0, [], note_at(ledger, 4)))
    assert refused(witness, request_body(0, [], empty)).size == 4


def test_a_body_of_lines_costs_no_memory(witness: Witness) -> None:
    """Anybody may send it: it is refused before it becomes a list of lines."""
    body = b"old 0\n" + b"a\n" * (4 << 20) + b"\nx"
    tracemalloc.start()
    assert refused(witness, body).status == 400
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(body), peak


def test_who_asks_too_much_keeps_nobody_else_waiting(ledger: Ledger, tmp_path: Path) -> None:
    """Anybody may send a checkpoint again: other work of the server goes on, and most of it waits
    for nothing.
    """
    slow = threading.Event()
    witness = Witness(
        tmp_path / "slow.db",
        Cosigner("witness.example.com/w", KEY),
        {ledger.vkey.name: ledger.vkey},
        alarm=lambda origin, what: None,
        clock=lambda: 1_795_000_000.0 if slow.wait(5) else 0.0,
    )

    async def asking() -> list[bytes | BaseException]:
        door = Door(witness)
        body = request_body(0, [], note_at(ledger, 0, EMPTY_ROOT))
        asked = [asyncio.create_task(door.add_checkpoint(body)) for _ in range(100)]
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0) for _ in range(50)))
        slow.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert await door.add_checkpoint(body)
        door.close()
        return found

    found = asyncio.run(asking())
    assert [type(one) for one in found] == [bytes] * 64 + [ProblemError] * 36
    witness.close()


def test_of_two_at_once_one_is_kept(ledger: Ledger, witness: Witness) -> None:
    """Two trees of one size from the same place: compare and keep are one step."""
    bodies = [
        request_body(0, [], note_at(ledger, 4)),
        request_body(0, [], note_at(ledger, 4, b"q" * 32)),
    ]
    results: list[object] = []
    start = threading.Barrier(2)

    def ask(body: bytes) -> None:
        start.wait()
        try:
            results.append(witness.add_checkpoint(body))
        except RefusalError as refusal:
            results.append(refusal.status)

    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(result).__name__ for result in results) == ["bytes", "int"]

"""The witness, by its protocol (C2SP tlog-witness): every answer, and never a cosigned fork."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.service.witnessing.witness import RefusalError, Witness, request_body
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.cosignature import Cosigner, add_lines, check_cosignatures
from ledger.merkle import prove_consistency
from ledger.note import Signer
from ledger.opening import Ledger
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

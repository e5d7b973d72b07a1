"""A witness that is killed, and two processes on one file: never two histories, never an answer
before what it says is kept.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.service.witnessing.witness import RefusalError, Witness, request_body
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.cosignature import Cosigner
from ledger.errors import StoreError
from ledger.note import Signer
from tests.support import reference_tree as tree
from tests.support.crashing import run_child
from tests.support.kills import forked

LOG = Signer.from_seed("ledger.example.com/acme", b"\x01" * 32)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
LEAVES = tree.leaves(80)
OTHERS = [tree.node(leaf, leaf) for leaf in LEAVES]


class KilledWhenSigning(Cosigner):
    """Dies between the commit and the answer."""

    def line(self, text: bytes, time: int) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def opened(
    path: Path,
    cosigner: type[Cosigner] = Cosigner,
    *,
    clock: Callable[[], float] = lambda: 1_795_000_000.0,
    alarm: Callable[[str, str], None] = lambda origin, what: None,
) -> Witness:
    made = cosigner("w.example.com/w", KEY)
    return Witness(path, made, {LOG.name: LOG.vkey}, alarm=alarm, clock=clock)


def request(leaves: list[bytes], old: int, size: int) -> bytes:
    root = tree.root(leaves[:size])
    note = sign_checkpoint(Checkpoint(LOG.name, size, root), LOG)
    return request_body(old, tree.proof(old, leaves[:size]) if 0 < old < size else [], note)


def killed() -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def test_killed_within_the_transaction_nothing_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "witness.db"
    before = opened(path)
    before.add_checkpoint(request(LEAVES, 0, 4))
    before.close()

    def work() -> None:
        opened(path, clock=killed).add_checkpoint(request(LEAVES, 4, 9))

    assert run_child(work) == -signal.SIGKILL
    after = opened(path)
    assert after.seen() == {LOG.name: 4}
    assert after.add_checkpoint(request(LEAVES, 4, 9))
    after.close()


def test_killed_before_the_answer_it_is_kept(tmp_path: Path) -> None:
    """The log asks again and gets it; another tree does not."""
    path = tmp_path / "witness.db"

    def work() -> None:
        opened(path, KilledWhenSigning).add_checkpoint(request(LEAVES, 0, 9))

    assert run_child(work) == -signal.SIGKILL
    after = opened(path)
    assert after.seen() == {LOG.name: 9}
    with pytest.raises(RefusalError) as caught:
        after.add_checkpoint(request(LEAVES, 0, 9))
    assert (caught.value.status, caught.value.size) == (409, 9)
    with pytest.raises(RefusalError) as caught:
        after.add_checkpoint(request(OTHERS, 9, 9))
    assert caught.value.status == 422
    assert after.add_checkpoint(request(LEAVES, 9, 9))
    after.close()


def test_killed_when_a_fork_is_said_it_is_said_again(tmp_path: Path) -> None:
    path = tmp_path / "witness.db"
    before = opened(path)
    before.add_checkpoint(request(LEAVES, 0, 9))
    before.close()

    def work() -> None:
        made = opened(path, alarm=lambda origin, what: os.kill(os.getpid(), signal.SIGKILL))
        made.add_checkpoint(request(OTHERS, 9, 9))

    assert run_child(work) == -signal.SIGKILL
    said: list[str] = []
    after = opened(path, alarm=lambda origin, what: said.append(what))
    assert not said and not after.forks()
    with pytest.raises(RefusalError):
        after.add_checkpoint(request(OTHERS, 9, 9))
    assert len(said) == len(after.forks()) == 1
    after.close()


def test_two_processes_on_one_file_see_one_history(tmp_path: Path) -> None:
    """Each shows a history of its own, as fast as it can; one of them is cosigned and no other."""
    path = tmp_path / "witness.db"
    opened(path).close()
    reading, writing = os.pipe()

    def work(leaves: list[bytes], name: str) -> Callable[[], None]:
        def asking() -> None:
            os.close(writing)
            os.read(reading, 1)  # both begin when the pipe is closed
            witness, old, cosigned = opened(path), 0, []
            for size in range(1, 41):
                try:
                    witness.add_checkpoint(request(leaves, old, size))
                    cosigned.append(size)
                    old = size
                except RefusalError as refusal:
                    old = refusal.size or old
                    if old > size:
                        continue
            witness.close()
            (tmp_path / name).write_text(" ".join(map(str, cosigned)))

        return asking

    children = [forked(work(LEAVES, "one")), forked(work(OTHERS, "other"))]
    os.close(reading)
    os.close(writing)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0]
    cosigned = [(tmp_path / name).read_text().split() for name in ("one", "other")]
    assert sorted(map(bool, cosigned)) == [False, True], "one history, and it was one"
    after = opened(path)
    assert after.seen() == {LOG.name: int((cosigned[0] or cosigned[1])[-1])}
    after.close()


def test_a_file_that_another_process_holds_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "witness.db"
    first, second = opened(path), opened(path)
    second._connection.execute("PRAGMA busy_timeout = 10")
    first._connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        second.add_checkpoint(request(LEAVES, 0, 4))
    first._connection.execute("ROLLBACK")
    assert second.add_checkpoint(request(LEAVES, 0, 4))
    first.close()
    second.close()

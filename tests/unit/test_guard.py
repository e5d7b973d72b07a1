"""The rollback guard (docs/spec/guard.md)."""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path

import pytest

from ledger.errors import StoreError, TamperError
from ledger.guard import SLOT_BYTES, SLOT_OFFSETS, Guard, GuardMark, MemoryGuard
from tests.support.stores import ORIGIN, digest, made_head


def mark(size: int, origin: str = ORIGIN) -> GuardMark:
    return GuardMark(origin, size, digest("root", size))


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    guard = Guard(tmp_path / "guard")
    guard.create(mark(0))
    return guard


def root_at(size: int) -> bytes:
    return digest("root", size)


def test_it_remembers_the_largest_tree(guard: Guard) -> None:
    assert Guard(guard.path.with_name("none")).read() is None
    for size in (1, 5, 3, 5, 9):
        guard.advance(mark(size))
    assert guard.read() == Guard(guard.path).read() == mark(9)
    assert guard.path.stat().st_mode & 0o777 == 0o600
    guard.create(mark(0))
    assert guard.read() == mark(9)
    guard.reset(mark(2))
    assert guard.read() == mark(2)


def test_the_record_is_text(guard: Guard) -> None:
    guard.advance(mark(12))
    slots = [guard.path.read_bytes()[at : at + SLOT_BYTES] for at in SLOT_OFFSETS]
    assert b"asof guard v1\nledger.example.com/test\n12\n" in b"".join(slots)


@pytest.mark.parametrize("slot", [0, 1])
def test_a_torn_record_leaves_the_other(guard: Guard, slot: int) -> None:
    """Cut or flipped at any byte: the older record stands in, never a wrong one."""
    guard.advance(mark(1))
    guard.advance(mark(2))
    whole = guard.path.read_bytes()
    at = SLOT_OFFSETS[slot]
    other = mark(1) if b"\n2\n" in whole[at : at + SLOT_BYTES] else mark(2)
    length = len(whole[at : at + SLOT_BYTES].rstrip(b"\x00"))
    for place in range(at, at + length):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        guard.path.write_bytes(flipped)
        assert guard.read() == other
    guard.path.write_bytes(whole[:at] + bytes(SLOT_BYTES) + whole[at + SLOT_BYTES :])
    assert guard.read() == other
    guard.advance(mark(7))
    assert guard.read() == mark(7)


def test_without_a_readable_record_it_refuses(guard: Guard) -> None:
    guard.path.write_bytes(b"")
    for use in (guard.read, lambda: guard.advance(mark(1))):
        with pytest.raises(TamperError, match="neither of its records"):
            use()
    guard.reset(mark(4))
    assert guard.read() == mark(4)


def test_check(guard: Guard) -> None:
    head = made_head(5)
    guard.check(lambda: head, root_at)
    guard.advance(mark(5))
    guard.check(lambda: head, root_at)
    with pytest.raises(TamperError, match="another ledger than its key and guard") as caught:
        guard.check(lambda: made_head(5, origin="other"), root_at)
    assert (caught.value.expected, caught.value.found) == (ORIGIN, "other")
    with pytest.raises(TamperError, match=r"entry 5 is missing: 6 .* holds 5") as caught:
        guard.advance(mark(6))
        guard.check(lambda: head, root_at)
    assert caught.value.checkpoints == (head.checkpoint,)
    guard.advance(mark(9))
    with pytest.raises(TamperError, match=r"entries 5 to 8 are missing.*`asof ledger recover`"):
        guard.check(lambda: head, root_at)
    with pytest.raises(TamperError, match="first 9 entries are not those") as caught:
        guard.check(lambda: made_head(12), lambda size: digest("other", size))
    assert caught.value.expected == digest("root", 9).hex()
    guard.path.unlink()
    with pytest.raises(StoreError, match=r"is missing.*`asof ledger recover`"):
        guard.check(lambda: head, root_at)


def test_what_the_system_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        Guard(tmp_path / "guard").advance(mark(1))


def test_the_guard_in_memory(guard: Guard) -> None:
    memory = MemoryGuard()
    memory.check(lambda: made_head(0), root_at)
    assert memory.read() is None
    for size in (3, 2, 5):
        memory.advance(mark(size))
    assert memory.read() == mark(5)
    memory.check(lambda: made_head(6), root_at)
    with pytest.raises(TamperError, match="entry 4 is missing"):
        memory.check(lambda: made_head(4), root_at)


def advance_all(path: Path, sizes: list[int]) -> None:
    guard = Guard(path)
    for size in sizes:
        guard.advance(mark(size))


def test_processes_take_turns_and_it_never_goes_back(guard: Guard) -> None:
    context = get_context("fork")
    workers = [
        context.Process(target=advance_all, args=(guard.path, list(range(n, 600, 3))))
        for n in range(3)
    ]
    for worker in workers:
        worker.start()
    seen = 0
    while any(worker.is_alive() for worker in workers):
        found = guard.read()
        assert found is not None and found.size >= seen
        seen = found.size
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert guard.read() == mark(599)
    assert os.stat(guard.path).st_size <= SLOT_OFFSETS[1] + SLOT_BYTES

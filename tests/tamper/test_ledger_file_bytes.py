"""Every byte of a small ledger file, changed: reported, or shown to say nothing.

For each byte of the file the ledger is opened and verified as `asof verify` does it. Where the
verdict stays VALID, the test reads everything that the ledger says and demands that it is exactly
what it was, and that the byte lies in a place of SQLite's file format that holds nothing (free
space in a page) or a counter that SQLite keeps for itself. The one exception is counted apart.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ledger.audit import Verdict, verify_url
from ledger.guard import GuardMark, MemoryGuard
from ledger.stores.sqlite import SqliteStore
from tests.support.claims import ORIGIN, SIGNER, story
from tests.support.sqlite_pages import Place, places

# Counting branches doubles the time of a search, and others reach the same ones.
pytestmark = pytest.mark.no_cover

Said = tuple[object, ...]
KEY_NAME = b"note-1"
"""The idempotency key of one entry: a verifier cannot know its name (docs/threats.md)."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The story of twelve entries in one file, closed, so that nothing is left in a log."""
    path = tmp_path_factory.mktemp("bytes") / "asof.db"
    store = SqliteStore.create_file(path)
    with story(store):
        pass
    store.close()
    assert not path.with_name("asof.db-wal").exists()
    return path


def said(path: Path) -> Said:
    """Everything that a ledger says through its contract."""
    with closing(SqliteStore.open(path, write=False)) as store:
        head = store.head()
        rows = list(store.rows(0, 1000))
        streams = {name: list(store.stream_rows(name)) for name in store.streams()}
        return (head, rows, streams, list(store.tiles()), list(store.key_uses()))


def judge(path: Path, guard: MemoryGuard) -> Verdict:
    return verify_url(f"sqlite:///{path}", vkey=SIGNER.vkey, guard=guard).result


class Survey:
    """What became of each changed byte."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.sound = file.read_bytes()
        self.truth = said(file)
        self.where = places(self.sound)
        name = self.sound.index(KEY_NAME)
        self.unsigned = range(name, name + len(KEY_NAME))
        self.copy = folder / "copy.db"
        head = self.truth[0]
        self.guard = MemoryGuard()
        self.guard.advance(GuardMark(ORIGIN, head.size, head.root))  # type: ignore[attr-defined]
        self.counts: Counter[str] = Counter()
        self.unreported: list[tuple[int, Place, str]] = []

    def change(self, position: int, mask: int) -> None:
        data = bytearray(self.sound)
        data[position] ^= mask
        self.copy.write_bytes(data)
        verdict = judge(self.copy, self.guard)
        for suffix in ("-wal", "-shm"):
            self.copy.with_name(self.copy.name + suffix).unlink(missing_ok=True)
        self.counts[verdict.value] += 1
        if verdict is Verdict.VALID:
            place = self.where[position]
            if position in self.unsigned:
                self.counts["the name of an idempotency key, which is not signed"] += 1
                return
            same = said(self.copy) == self.truth
            self.counts[f"nothing lost: {place.value}"] += 1
            if not same or place is Place.CONTENT:
                self.unreported.append((position, place, "same" if same else "other"))


def test_bytes_of_a_ledger_file(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every byte that holds something, and a sample of the others; one bit of each."""
    survey = Survey(file, tmp_path)
    held = [p for p, place in enumerate(survey.where) if place is not Place.FREE]
    free = [p for p, place in enumerate(survey.where) if place is Place.FREE]
    for position in [*held, *free[::499]]:
        survey.change(position, 1 << position % 8)
    with capsys.disabled():
        sys.stdout.write(f"\nbytes of a ledger file: {dict(survey.counts)} ")
    assert survey.unreported == []
    assert survey.counts["INVALID"] + survey.counts["ERROR"] > 0.9 * len(held)


@pytest.mark.long
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_byte_of_a_ledger_file(file: Path, tmp_path: Path, mask: int) -> None:
    survey = Survey(file, tmp_path)
    for position in range(len(survey.sound)):
        survey.change(position, mask)
    assert survey.unreported == []


def test_the_harness_would_notice(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a verification that always says VALID is convicted by the comparison."""
    monkeypatch.setattr(sys.modules[__name__], "judge", lambda path, guard: Verdict.VALID)
    survey = Survey(file, tmp_path)
    actor = survey.sound.index(b"user:ada")
    survey.change(actor, 1)
    assert survey.unreported == [(actor, Place.CONTENT, "other")]


# --- F10: whole files -----------------------------------------------------------------------------


@pytest.fixture
def pair(file: Path, tmp_path: Path) -> Iterator[tuple[Path, MemoryGuard]]:
    copy = tmp_path / "asof.db"
    shutil.copy(file, copy)
    head = said(file)[0]
    guard = MemoryGuard()
    guard.advance(GuardMark(ORIGIN, head.size, head.root))  # type: ignore[attr-defined]
    yield copy, guard


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_cut_file_is_reported(pair: tuple[Path, MemoryGuard], share: float) -> None:
    path, guard = pair
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert judge(path, guard) in (Verdict.INVALID, Verdict.ERROR)


def test_a_file_of_zeros_is_reported(pair: tuple[Path, MemoryGuard]) -> None:
    path, guard = pair
    path.write_bytes(bytes(path.stat().st_size))
    assert judge(path, guard) is Verdict.ERROR


def test_swapped_and_zeroed_pages_are_reported(pair: tuple[Path, MemoryGuard]) -> None:
    path, guard = pair
    data = path.read_bytes()
    size = int.from_bytes(data[16:18], "big")
    pages = [data[at : at + size] for at in range(0, len(data), size)]
    for number in range(1, len(pages)):
        zeroed = [*pages[:number], bytes(size), *pages[number + 1 :]]
        path.write_bytes(b"".join(zeroed))
        first = judge(path, guard)
        other = 1 + number % (len(pages) - 1)
        swapped = list(pages)
        swapped[number], swapped[other] = swapped[other], swapped[number]
        path.write_bytes(b"".join(swapped))
        second = judge(path, guard)
        assert {first, second} <= {Verdict.INVALID, Verdict.ERROR}, number


def test_a_stale_log_beside_the_file_is_reported_or_ignored(
    pair: tuple[Path, MemoryGuard],
) -> None:
    """A -wal that does not belong to the file: SQLite ignores it, and nothing changes."""
    path, guard = pair
    path.with_name("asof.db-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(5000))
    assert judge(path, guard) is Verdict.VALID
    assert said(path)[1]


def test_the_file_of_another_ledger_is_reported(
    tmp_path: Path, pair: tuple[Path, MemoryGuard]
) -> None:
    """F10, T23: another ledger's file under this name; its origin is not the key's."""
    from tests.support.empty_ledgers import empty_ledger

    other = tmp_path / "other.db"
    with empty_ledger(other):
        pass
    assert judge(other, pair[1]) is Verdict.INVALID


def test_a_lost_log_is_seen_by_the_guard(tmp_path: Path) -> None:
    """The newest entries live in the -wal: without it the file is behind its guard."""
    path = tmp_path / "asof.db"
    store = SqliteStore.create_file(path)
    with story(store) as told:
        head = told.reader.head()
        copy = tmp_path / "copy.db"
        shutil.copy(path, copy)
    store.close()
    guard = MemoryGuard()
    guard.advance(GuardMark(ORIGIN, head.size, head.root))
    assert judge(copy, guard) in (Verdict.INVALID, Verdict.ERROR)

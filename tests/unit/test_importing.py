"""History from elsewhere: pieces, keys, the check before the append, and what is repeated."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from api import import_pieces, importing
from api.event_files import CsvRows, EventFile, JsonLines
from api.hints import hints_of
from api.import_pieces import PIECE_BYTES, Piece, Refused, pieces_of
from api.importing import SHOWN, Checked, Imported, append_events, check_events
from ledger.batch import Batch
from ledger.canonical import parse_json
from ledger.draft import Draft
from ledger.errors import ConflictError, MalformedError, StoreError
from ledger.events import parse_line
from ledger.opening import Ledger, open_ledger
from tests.support.ledgers import NOON, SettableClock, check_whole, sqlite_ledger, sqlite_url

ACTOR = "service:backfill"


def line(number: int, *, stream: str = "note/x", **more: Any) -> bytes:
    event = {"type": "note.added/1", "stream": stream, "data": {"text": f"n{number}"}, **more}
    return json.dumps(event).encode() + b"\n"


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(line(n) for n in range(first, first + count))


def pieces(text: bytes) -> list[Piece]:
    return list(pieces_of(JsonLines(io.BytesIO(text)), actor=ACTOR, clock=SettableClock()))


def drafts(piece: Piece) -> list[Draft]:
    return list(piece.batch().drafts) if piece.count else []


def told(given: Iterable[Piece]) -> list[Any]:
    """All that pieces say, but the salts, which are random."""
    return [(one.key, one.read, one.count, one.refused, drafts(one)) for one in given]


def silent(done: int, total: int | None) -> None:
    """Nobody looks."""


def checked(text: bytes, *, keep: bool = True) -> Checked:
    events = JsonLines(io.BytesIO(text))
    return check_events(events, actor=ACTOR, clock=SettableClock(), keep=keep, progress=silent)


def run(ledger: Ledger, text: bytes) -> Imported:
    with checked(text) as done:
        assert not done.refused, done.first_refused
        return append_events(ledger.writer, done.pieces(), progress=silent)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with sqlite_ledger(tmp_path) as opened:
        yield opened


# ------------------------------------------------------------------------------------------ pieces


def test_a_file_is_cut_by_its_content_alone() -> None:
    """The keys are part of what a ledger keeps: a change here makes imports repeat themselves."""
    text = lines(1_500) + b"\n" + lines(600, 1_500)
    cut = pieces(text)
    assert [(piece.line, piece.count, piece.read) for piece in cut] == [
        (1, 1_000, len(lines(1_000))),
        (1_001, 999, len(lines(1_999)) + 1),
        (2_001, 101, len(text)),
    ]
    assert cut[0].key == (
        "import:1:cb04240daa3698703970eb6f09ec9ece42745d8e86a441f7ff0697340e27754b"
    )
    assert [piece.key for piece in pieces(text)] == [piece.key for piece in cut]


def test_long_lines_make_small_pieces() -> None:
    text = b"".join(line(n, data={"text": "x" * 900_000}) for n in range(12))
    cut = pieces(text)
    assert [piece.count for piece in cut] == [5, 5, 2]
    assert all(sum(len(one.payload) for one in drafts(piece)) < 2 * PIECE_BYTES for piece in cut)


def test_the_key_is_that_of_all_before_it() -> None:
    first, other = pieces(lines(2_000)), pieces(line(9) + lines(1_999, 1))
    assert first[0].key != other[0].key
    assert drafts(first[1]) == drafts(other[1])
    assert first[1].key != other[1].key


def test_nothing_makes_no_piece() -> None:
    assert pieces(b"") == []
    assert [piece.count for piece in pieces(b"\n \n")] == [0]


def test_a_future_time_is_judged_when_the_line_is_read() -> None:
    """A pipe may last for hours: what is the future at its beginning is not at its end."""
    clock = SettableClock()
    before = lines(1_000)
    late = line(0, effective_at="2026-11-21T13:00:00Z")

    class Slow(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            if self.tell() == len(before):
                clock.now = NOON + 3_600_000_000
            return super().readline(size)

    file = Slow(before + late + line(1, effective_at="2026-11-21T14:00:00Z"))
    cut = list(pieces_of(JsonLines(file), actor=ACTOR, clock=clock))
    assert [piece.count for piece in cut] == [1_000, 1]
    (refused,) = cut[1].refused
    assert (refused.where, refused.line) == ("line 1002 /effective_at", 1_002)
    assert "more than five minutes in the future" in refused.why


# ------------------------------------------------------------------------------------------- check


def test_what_passed_comes_out_as_it_went_in() -> None:
    text = lines(1_200) + line(7, expected_version=3, stream="note/ü")
    with checked(text) as done:
        assert told(done.pieces()) == told(pieces(text))


def test_what_is_refused_is_told_and_nothing_is_kept() -> None:
    bad = b'{"type":"note.added/1","stream":"note/x","data":{"tex":"x"}}\n'
    done = checked(lines(1_000) + bad * (SHOWN + 5) + lines(10))
    assert (done.events, done.refused, len(done.first_refused)) == (1_010, SHOWN + 5, SHOWN)
    first = done.first_refused[0]
    assert (first.line, first.place, first.raw) == (1_001, "/data/text", bad)
    assert first.why.startswith('the field "text" is missing; /tex: unknown field')
    assert list(done.pieces()) == []


def test_a_dry_run_keeps_nothing() -> None:
    done = checked(lines(10), keep=False)
    assert (done.events, list(done.pieces())) == (10, [])
    done.close()


def test_progress_is_told_in_bytes() -> None:
    told: list[tuple[int, int | None]] = []
    text = lines(1_500)
    check_events(
        JsonLines(io.BytesIO(text)),
        actor=ACTOR,
        clock=SettableClock(),
        progress=lambda done, total: told.append((done, total)),
    ).close()
    assert told == [(len(lines(1_000)), None), (len(text), None)]


def test_no_room_for_what_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing, "TemporaryFile", lambda prefix: Full())
    with pytest.raises(StoreError, match=r"No space left on device.*TMPDIR.*--skip-bad"):
        checked(lines(1))


# ------------------------------------------------------------------------------------------ append


def test_everything_is_recorded_in_order_with_its_own_times(ledger: Ledger) -> None:
    """Out of order in the file is out of order in the ledger: it keeps what happened to it."""
    times = ["2024-05-03T00:00:00Z", "2024-05-01T00:00:00+02:00", "2024-05-02T00:00:00Z"] * 900
    text = b"".join(line(n, effective_at=at) for n, at in enumerate(times))
    done = run(ledger, text)
    assert (done.entries, done.recorded, done.repeated) == (2_700, 2_700, 0)
    assert (done.first_index, done.last_index, done.tree_size) == (1, 2_700, 2_701)
    assert done.per_second > 0
    rows = list(ledger.store.rows(1, 2_701))
    data = [parse_json(row.payload or b"") for row in rows]
    assert data == [{"text": f"n{n}", "effective_at": at} for n, at in enumerate(times)]
    assert {row.recorded_at for row in rows} == {NOON}
    check_whole(ledger.store, ledger.reader)


def test_again_repeats_nothing(ledger: Ledger) -> None:
    text = lines(2_300)
    run(ledger, text)
    done = run(ledger, text)
    assert (done.entries, done.recorded, done.repeated) == (2_300, 0, 2_300)
    assert (done.first_index, done.last_index) == (None, None)
    assert ledger.reader.size() == 2_301


def test_a_file_that_has_grown_goes_on_after_its_whole_pieces(ledger: Ledger) -> None:
    run(ledger, lines(2_000))
    done = run(ledger, lines(2_500))
    assert (done.recorded, done.repeated) == (500, 2_000)


def test_an_interrupted_import_goes_on(ledger: Ledger) -> None:
    text = lines(3_400)
    append_events(ledger.writer, pieces(text)[:2], progress=silent)
    done = run(ledger, text)
    assert (done.recorded, done.repeated) == (1_400, 2_000)
    assert (done.first_index, done.last_index) == (2_001, 3_400)
    texts = [row.payload for row in ledger.store.rows(1, 3_401)]
    assert texts == [b'{"text":"n%d"}' % n for n in range(3_400)]


def test_another_actor_is_a_conflict_and_nothing_is_written(ledger: Ledger) -> None:
    text = lines(2_000)
    run(ledger, text)
    events = JsonLines(io.BytesIO(text))
    others = pieces_of(events, actor="user:8", clock=SettableClock())
    with pytest.raises(ConflictError, match="used for another batch") as caught:
        append_events(ledger.writer, others, progress=silent)
    assert hints_of(caught.value) == [
        "with the --actor of the first time, if this file was imported before: asof log shows it"
    ]
    assert ledger.reader.size() == 2_001


def test_expected_versions_stop_before_what_follows(ledger: Ledger) -> None:
    text = lines(1_000) + line(1, expected_version=7, stream="note/y") + lines(2_999)
    with pytest.raises(ConflictError, match="'note/y' stands at version 0, not 7"):
        run(ledger, text)
    assert ledger.reader.size() == 1_001


def test_skipped_lines_go_to_who_asked(ledger: Ledger) -> None:
    told: list[Refused] = []
    text = b"type,stream,data.text\nnote.added/1,note/x,a\nnote.added/1,note/x,\n,note/x,b\n"
    good = pieces_of(CsvRows(io.BytesIO(text)), actor=ACTOR, clock=SettableClock())
    done = append_events(ledger.writer, good, progress=silent, refuse=told.append)
    assert done.recorded == 1
    assert [one.where for one in told] == ["line 3 /data/text", "line 4"]


def test_a_piece_of_nothing_but_refusals_writes_nothing(ledger: Ledger) -> None:
    bad = pieces_of(JsonLines(io.BytesIO(b"{}\n")), actor=ACTOR, clock=SettableClock())
    done = append_events(ledger.writer, bad, progress=silent, refuse=lambda one: None)
    assert (done.entries, done.per_second, ledger.reader.size()) == (0, 0.0, 1)


class HeldWriter:
    """Answers nothing until it is told to; notes what was submitted and what was cancelled."""

    def __init__(self, answers: Iterable[Any]) -> None:
        self.futures: list[Future[Any]] = []
        self._answers = iter(answers)

    def submit_prepared(self, batch: Batch) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        answer = next(self._answers, None)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future


class Answer:
    count, first_index, tree_size, repeated = 1_000, 1, 1_001, False


def test_a_failure_cancels_what_waits_behind_it() -> None:
    writer: Any = HeldWriter([Answer(), StoreError("the disk is full")])
    with pytest.raises(StoreError, match="the disk is full"):
        append_events(writer, pieces(lines(11_500)), progress=silent)
    assert len(writer.futures) == 10  # the first alone, then a window of eight and one
    assert all(future.cancelled() for future in writer.futures[2:])


def test_the_next_pieces_are_prepared_while_earlier_ones_commit() -> None:
    """Negative control of the one above: nothing fails, so everything is submitted."""
    writer: Any = HeldWriter([Answer()] * 12)
    done = append_events(writer, pieces(lines(11_500)), progress=silent)
    assert (len(writer.futures), done.entries) == (12, 12_000)


def test_a_file_that_cannot_be_read_on_leaves_nothing_behind() -> None:
    with pytest.raises(MalformedError, match="UTF-16"):
        checked(lines(1).decode().encode("utf-16"))


def test_reopened_by_another_process_it_is_the_same_import(tmp_path: Path) -> None:
    with sqlite_ledger(tmp_path) as ledger:
        run(ledger, lines(1_500))
    with open_ledger(sqlite_url(tmp_path), clock=SettableClock()) as ledger:
        assert run(ledger, lines(1_500)).recorded == 0


# --------------------------------------------------------------------------------- other processes


class Through(JsonLines):
    """JSON lines that go through another door."""

    def __init__(self, text: bytes, door: Callable[[Any, str, int], Draft]) -> None:
        super().__init__(io.BytesIO(text))
        self.door = door


def dying(content: bytes, actor: str, now: int) -> Draft:
    """The door of an unlucky process, which gets the second piece."""
    if b'"n1000"' in content:
        os._exit(9)
    return parse_line(content, actor, now)


def spread(events: EventFile) -> list[Piece]:
    with closing(pieces_of(events, actor=ACTOR, clock=SettableClock(), workers=2)) as found:
        return list(found)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are begun after the first piece."""
    monkeypatch.setattr(import_pieces, "PIECES_ALONE", 1)


@pytest.mark.usefixtures("soon")
def test_other_processes_find_the_same_in_the_same_order() -> None:
    text = lines(3_500) + b"{}\n" + line(1, expected_version=2) + lines(4_000)
    assert told(spread(JsonLines(io.BytesIO(text)))) == told(pieces(text))
    rows = b'note.added/1,note/x,"a\n,b"\nnote.added/1,note/x,\nnote.added/1,note/x,\xff\n' * 1_200
    table = b"type,stream,data.text\n" + rows
    alone = pieces_of(CsvRows(io.BytesIO(table)), actor=ACTOR, clock=SettableClock())
    both = list(alone)
    assert told(spread(CsvRows(io.BytesIO(table)))) == told(both)
    assert [len(piece.refused) for piece in both] == [666, 667, 667, 400]


@pytest.mark.usefixtures("soon")
def test_a_process_that_dies_is_told_and_nothing_behind_it_is_given() -> None:
    assert len(spread(Through(lines(2_000), parse_line))) == 2
    given = pieces_of(Through(lines(2_000), dying), actor=ACTOR, clock=SettableClock(), workers=1)
    assert next(given).count
    with pytest.raises(StoreError, match="ended from outside: run the same import again"):
        next(given)


@pytest.mark.usefixtures("soon")
def test_closed_early_it_ends_its_processes() -> None:
    given = pieces_of(
        JsonLines(io.BytesIO(lines(9_000))), actor=ACTOR, clock=SettableClock(), workers=1
    )
    next(given)
    next(given)
    assert multiprocessing.active_children()
    given.close()
    assert not multiprocessing.active_children()

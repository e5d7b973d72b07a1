"""The way in: batches, keys, expected versions, groups, failures (docs/spec/append.md)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import pytest

import ledger.batch as batches
import ledger.edge as edges
import ledger.sequencer as sequencing
from ledger.batch import body_digest, prepare_batch
from ledger.draft import Draft
from ledger.edge import load_right_edge
from ledger.errors import (
    AsofError,
    ConflictError,
    KeyReusedError,
    MalformedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
)
from ledger.guard import MemoryGuard
from ledger.note import Signer
from ledger.opening import Ledger, _first_head
from ledger.reader import Reader
from ledger.receipt import check_receipt, format_receipt, spelled
from ledger.store import AppendTransaction, Forecast, KeyUse, Row
from ledger.stores.memory import MemoryStore
from ledger.writer import Writer
from tests.support.ledgers import (
    NOON,
    ORIGIN,
    SettableClock,
    check_whole,
    memory_ledger,
    note,
    notes,
    seeded,
)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def ledger(clock: SettableClock) -> Iterator[Ledger]:
    with memory_ledger(clock) as ledger:
        yield ledger


# -------------------------------------------------------------------------------- a batch


def test_a_batch_stands_together_and_its_receipts_prove_it(ledger: Ledger) -> None:
    done = ledger.writer.append([*notes(3), note("other", "note/b")])
    assert (done.first_index, done.count, done.tree_size, done.repeated) == (1, 4, 5, False)
    assert done.recorded_at == NOON
    assert done.checkpoint == ledger.reader.checkpoint()
    assert [record.version for record in ledger.reader.entries(1)] == [1, 2, 3, 1]
    for position, receipt in enumerate(done.receipts):
        entry, checkpoint = check_receipt(receipt, ledger.vkey)
        assert (entry.index, checkpoint.size) == (1 + position, 5)
        assert receipt.entry == ledger.reader.entry_bytes(1 + position)
    check_whole(ledger.store, ledger.reader)


def test_payloads_are_kept_byte_for_byte(ledger: Ledger) -> None:
    texts = ["ü", "🦉", "שלום", "<script>", 'a\\"b', ""]
    drafts = [note(text) for text in texts]
    ledger.writer.append(drafts)
    kept = [record.payload for record in ledger.reader.entries(1)]
    assert kept == [draft.payload for draft in drafts]


def test_recorded_at_never_decreases(ledger: Ledger, clock: SettableClock) -> None:
    times = []
    for step in (5, -(10**9), 7, 10**15):
        clock.now = NOON + step
        times.append(ledger.writer.append(notes(2)).recorded_at)
    assert times == [NOON + 5, NOON + 5, NOON + 7, NOON + 10**15]
    assert [record.recorded_at for record in ledger.reader.entries(1)] == [
        at for at in times for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("drafts", "words"),
    [
        ([], "1 to 50000 events"),
        ([note("x")] * 50_001, "1 to 50000 events"),
        ([Draft(type="", stream="s", actor="a", payload=b"{}")], "type"),
        ([Draft(type="t", stream="s\n", actor="a", payload=b"{}")], "stream"),
        ([Draft(type="t", stream="s", actor="a" * 513, payload=b"{}")], "actor"),
        ([note("x"), Draft(type="t", stream="s", actor="a", payload=b"x" * ((1 << 20) + 1))], "/1"),
        ([Draft(type="t", stream="s", actor="a", payload=b"x" * (1 << 20))] * 65, "67108864"),
    ],
)
def test_a_batch_out_of_bounds_is_refused(
    ledger: Ledger, drafts: Sequence[Draft], words: str
) -> None:
    for door in (ledger.writer.append, ledger.writer.submit):
        with pytest.raises(MalformedError, match=words):
            door(drafts)
    assert ledger.reader.size() == 1


# --------------------------------------------------------------------- expected versions


def test_expected_versions_count_on_within_a_batch(ledger: Ledger) -> None:
    ledger.writer.append(
        [note("1", expected=0), note("2", expected=1), note("b", "note/b", expected=0)]
    )
    ledger.writer.append([note("3"), note("4", expected=3)])
    for wrong in (0, 3, 5):
        with pytest.raises(ConflictError, match=f"stands at version 4, not {wrong}"):
            ledger.writer.append([note("b", "note/b"), note("x", expected=wrong)])
    with pytest.raises(ConflictError, match="stands at version 0, not 1"):
        ledger.writer.append([note("x", "note/new", expected=1)])
    assert ledger.reader.size() == 6
    ledger.writer.append([note("b", "note/b", expected=1)])
    check_whole(ledger.store, ledger.reader)


# ------------------------------------------------------------------------ idempotency keys


def test_a_repeat_gives_the_first_answer_again(ledger: Ledger, clock: SettableClock) -> None:
    drafts = notes(3)
    first = ledger.writer.append(drafts, idempotency_key="k")
    clock.now += 10**6
    ledger.writer.append(notes(300, "note/b"))
    again = ledger.writer.append(drafts, idempotency_key="k")
    assert again.repeated and not first.repeated
    for name in ("first_index", "count", "recorded_at", "tree_size", "checkpoint"):
        assert getattr(again, name) == getattr(first, name)
    assert len(again.receipts) == 3
    assert list(again.receipts) == list(first.receipts)
    assert list(spelled(again.receipts)) == list(spelled(first.receipts))
    for told, receipt in zip(spelled(first.receipts), first.receipts, strict=True):
        members = json.loads(format_receipt(receipt))
        assert asdict(told) | {"proof": json.loads(told.proof)} == {
            name: members[name] for name in ("index", "leaf_hash", "entry", "proof")
        }
    assert again.receipts[1:] == first.receipts[1:]
    assert ledger.reader.size() == 304


def test_the_expected_version_is_no_part_of_the_body(ledger: Ledger) -> None:
    """It is a condition on the moment of writing, met then and past now."""
    ledger.writer.append([note("x", expected=0)], idempotency_key="k")
    assert ledger.writer.append([note("x", expected=0)], idempotency_key="k").repeated
    assert ledger.writer.append([note("x")], idempotency_key="k").repeated


@pytest.mark.parametrize(
    "drafts",
    [notes(2), notes(4), notes(3, "note/b"), [*notes(2), note("x")], list(reversed(notes(3)))],
)
def test_a_key_used_for_another_body_is_a_conflict(ledger: Ledger, drafts: Sequence[Draft]) -> None:
    ledger.writer.append(notes(3), idempotency_key="k")
    with pytest.raises(KeyReusedError, match="'k' was used for another batch"):
        ledger.writer.append(drafts, idempotency_key="k")
    assert ledger.reader.size() == 4


def test_a_refused_batch_does_not_use_its_key(ledger: Ledger) -> None:
    with pytest.raises(ConflictError):
        ledger.writer.append([note("x", expected=9)], idempotency_key="k")
    assert not ledger.writer.append([note("y")], idempotency_key="k").repeated


def test_a_key_is_a_name(ledger: Ledger) -> None:
    for key in ("", "a\nb", "x" * 513):
        with pytest.raises(MalformedError, match="idempotency key"):
            ledger.writer.append([note("x")], idempotency_key=key)


def test_the_body_digest_is_salted_and_unambiguous() -> None:
    """Kept after an erasure, it must not tell what was erased; and parts must not run together."""
    content = ("t", "s", "a", b"{}")
    assert body_digest(b"1" * 16, [content]) != body_digest(b"2" * 16, [content])
    assert body_digest(b"1" * 16, [("t", "sa", "", b"{}")]) != body_digest(
        b"1" * 16, [("t", "s", "a", b"{}")]
    )
    batch = prepare_batch([note("x")], key=None, entropy=seeded())
    assert batch.digest == b""


def test_after_an_erasure_a_key_cannot_be_compared_any_more(ledger: Ledger) -> None:
    ledger.writer.append([note("secret")], idempotency_key="k")
    store: Any = ledger.store
    store._rows[1] = store._rows[1]._replace(salt=None, payload=None)
    with pytest.raises(ConflictError, match="payload was erased"):
        ledger.writer.append([note("secret")], idempotency_key="k")


def test_a_key_that_stands_for_nothing_is_evidence(ledger: Ledger) -> None:
    store: Any = ledger.store
    store._keys["gone"] = KeyUse("gone", b"d" * 32, 99, 1, 100)
    with pytest.raises(TamperError, match="entry 99: a key stands for it"):
        ledger.writer.append([note("x")], idempotency_key="gone")
    done = ledger.writer.append([note("x")], idempotency_key="k")
    store._keys["k"] = store._keys["k"]._replace(tree_size=99)
    with pytest.raises(TamperError, match="entries that are not there"):
        ledger.writer.append([note("x")], idempotency_key="k")
    assert done.first_index == 1


# --------------------------------------------------------------------------------- groups


class HeldStore(MemoryStore):
    """Holds its first transaction until `go`, so that what comes meanwhile forms one group.

    `failure` is raised at the end of the next transaction: before it is kept, or `after`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.failure: BaseException | None = None
        self.after = False
        self.groups: list[int] = []
        self.trouble_tending: AsofError | None = None

    @contextmanager
    def transaction(self, forecast: Forecast | None = None) -> Iterator[Any]:
        self.entered.set()
        assert self.go.wait(20)
        failure, self.failure = self.failure, None
        with super().transaction() as transaction:
            yield Counting(transaction, self.groups)
            if failure is not None and not self.after:
                raise failure
        if failure is not None:
            raise failure

    def tend(self) -> None:
        if self.trouble_tending is not None:
            raise self.trouble_tending


class Counting:
    def __init__(self, inner: AppendTransaction, groups: list[int]) -> None:
        self._inner = inner
        self._groups = groups

    def write(self, rows: Sequence[Row], *rest: Any) -> None:
        self._groups.append(len(rows))
        self._inner.write(rows, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
def held() -> HeldStore:
    return HeldStore()


@pytest.fixture
def writer(held: HeldStore) -> Iterator[Writer]:
    signer = Signer.from_seed(ORIGIN, b"\x01" * 32)
    held.create(_first_head(signer))
    with Writer(
        held, signer, guard=MemoryGuard(), clock=SettableClock(), entropy=seeded()
    ) as writer:
        yield writer
        held.go.set()


def hold(held: HeldStore, writer: Writer) -> Future[Any]:
    """Begin a transaction that waits; everything submitted from now on is the next group."""
    held.go.clear()
    held.entered.clear()
    future = writer.submit([note("first")])
    assert held.entered.wait(20)
    return future


def test_a_batch_that_was_prepared_before_is_appended_as_it_is(ledger: Ledger) -> None:
    batch = prepare_batch(notes(3), key="k", entropy=seeded(9))
    done = ledger.writer.submit_prepared(batch).result(20)
    rows = list(ledger.store.rows(done.first_index, done.first_index + 3))
    assert [row.salt for row in rows] == batch.salts
    assert [row.commitment for row in rows] == batch.commitments
    assert ledger.writer.append(notes(3), idempotency_key="k").repeated
    check_whole(ledger.store, ledger.reader)


def test_what_waits_is_committed_as_one_group(held: HeldStore, writer: Writer) -> None:
    first = hold(held, writer)
    futures = [writer.submit(notes(2, f"note/{n}")) for n in range(10)]
    held.go.set()
    done = [future.result(20) for future in futures]
    assert first.result(20).tree_size == 1
    assert held.groups == [1, 20]
    assert [each.first_index for each in done] == list(range(1, 21, 2))
    assert {each.tree_size for each in done} == {21}
    assert len({each.checkpoint for each in done}) == 1
    vkey = Signer.from_seed(ORIGIN, b"\x01" * 32).vkey
    for each in done:
        for receipt in each.receipts:
            check_receipt(receipt, vkey)


def test_a_refused_batch_fails_alone(held: HeldStore, writer: Writer) -> None:
    hold(held, writer)
    good = writer.submit([note("good", "note/s", expected=0)])
    conflict = writer.submit([note("y", "note/x"), note("late", "note/s", expected=0)])
    next_one = writer.submit([note("next", "note/s", expected=1), note("z", "note/x", expected=0)])
    held.go.set()
    assert good.result(20).first_index == 1
    with pytest.raises(ConflictError):
        conflict.result(20)
    assert next_one.result(20).first_index == 2
    assert held.groups == [1, 3]


def test_a_key_repeated_within_a_group(held: HeldStore, writer: Writer) -> None:
    hold(held, writer)
    refused = writer.submit([note("no", expected=7)], idempotency_key="k")
    plain = writer.submit([note("b")], idempotency_key="other")
    first = writer.submit([note("a")], idempotency_key="k")
    again = writer.submit([note("a")], idempotency_key="k")
    other = writer.submit([note("c")], idempotency_key="k")
    held.go.set()
    with pytest.raises(ConflictError):
        refused.result(20)
    with pytest.raises(ConflictError, match="another batch"):
        other.result(20)
    assert plain.result(20).first_index == 1
    assert not first.result(20).repeated and again.result(20).repeated
    assert again.result(20).first_index == first.result(20).first_index == 2
    assert list(again.result(20).receipts) == list(first.result(20).receipts)


def test_a_group_is_bounded(
    held: HeldStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencing, "MAX_GROUP_ENTRIES", 5)
    hold(held, writer)
    futures = [writer.submit(notes(count, "note/s")) for count in (2, 2, 2, 9, 1)]
    held.go.set()
    for future in futures:
        future.result(20)
    assert held.groups == [1, 4, 2, 9, 1]


def test_a_full_queue_makes_the_next_one_wait(
    held: HeldStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencing, "MAX_WAITING_ENTRIES", 5)
    hold(held, writer)
    writer.submit(notes(4))
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(writer.append(notes(2, "note/w"))))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive() and not answers
    held.go.set()
    thread.join(20)
    assert answers[0].first_index == 5


def test_an_offer_never_waits(
    held: HeldStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencing, "MAX_WAITING_ENTRIES", 5)
    hold(held, writer)
    taken: Future[Any] = Future()
    refused: Future[Any] = Future()
    assert writer.offer(notes(5), taken, idempotency_key="k")
    assert not writer.offer(notes(1), refused)
    writer.wake()
    held.go.set()
    assert taken.result(timeout=10).count == 5
    assert not refused.done()
    assert writer.offer(notes(2), refused) and writer.offer(notes(1), Future())
    writer.wake()
    assert refused.result(timeout=10).tree_size == 9, "offered together, written together"
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        writer.offer(notes(1), Future())


def test_a_cancelled_future_is_not_written(held: HeldStore, writer: Writer) -> None:
    hold(held, writer)
    unwanted, wanted = writer.submit([note("no")]), writer.submit([note("yes")])
    assert unwanted.cancel()
    held.go.set()
    assert wanted.result(20).first_index == 1
    with pytest.raises(CancelledError):
        unwanted.result()


def test_close_commits_what_waits_and_then_refuses(held: HeldStore, writer: Writer) -> None:
    hold(held, writer)
    futures = [writer.submit([note("x")]) for _ in range(20)]
    threading.Timer(0.02, held.go.set).start()
    writer.close()
    writer.close()
    assert [future.done() for future in futures] == [True] * 20
    with pytest.raises(StoreError, match="writer is closed"):
        writer.append([note("x")])


def test_a_writer_that_was_never_used_closes(held: HeldStore, writer: Writer) -> None:
    writer.close()
    assert held.groups == []


def test_many_threads(ledger: Ledger) -> None:
    def append_all(number: int) -> None:
        for n in range(20):
            done = ledger.writer.append([note(f"{number} {n}", f"note/{number}", expected=n)])
            check_receipt(done.receipts[0], ledger.vkey)

    threads = [threading.Thread(target=append_all, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.reader.size() == 321
    check_whole(ledger.store, ledger.reader)


# ------------------------------------------------------------------------------- failures


def test_a_store_that_is_busy_fails_one_group_only(held: HeldStore, writer: Writer) -> None:
    held.failure = StoreError("the disk is full")
    with pytest.raises(StoreError, match="disk is full"):
        writer.append([note("x", expected=0)])
    assert writer.append([note("x", expected=0)]).first_index == 0


def test_an_unknown_outcome_stops_the_writer_and_the_key_tells(
    held: HeldStore, writer: Writer
) -> None:
    """Failed-and-not-written and failed-but-written look alike to the caller."""
    writer.close()
    signer = Signer.from_seed(ORIGIN, b"\x01" * 32)
    for after, size in ((False, 1), (True, 1)):
        held.failure, held.after = UnknownOutcomeError("the line went dead"), after
        with Writer(held, signer, guard=MemoryGuard(), clock=SettableClock()) as broken:
            with pytest.raises(UnknownOutcomeError, match="line went dead"):
                broken.append([note("x")], idempotency_key=f"k {after}")
            with pytest.raises(
                StoreError, match=r"writer stopped \(the line.*open the ledger again"
            ):
                broken.append([note("y")])
        with Writer(held, signer, guard=MemoryGuard(), clock=SettableClock()) as again:
            done = again.append([note("x")], idempotency_key=f"k {after}")
            assert done.repeated is after
            assert done.count == size
    assert [row.version for row in held.rows(0, 9)] == [1, 2]


def test_the_guard_has_seen_what_a_key_answers(held: HeldStore, writer: Writer) -> None:
    """A batch whose outcome was unknown is acknowledged when its key answers, and not before."""
    writer.close()
    signer, guard = Signer.from_seed(ORIGIN, b"\x01" * 32), MemoryGuard()
    held.failure, held.after = UnknownOutcomeError("the line went dead"), True
    with Writer(held, signer, guard=guard, clock=SettableClock()) as broken:
        with pytest.raises(UnknownOutcomeError):
            broken.append([note("x")], idempotency_key="k")
    assert guard.read() is None
    with Writer(held, signer, guard=guard, clock=SettableClock()) as again:
        assert again.append([note("x")], idempotency_key="k").repeated
    head = held.head()
    assert head is not None and guard.read() == (ORIGIN, 1, head.root)


def test_those_who_wait_behind_a_failure_learn_of_it(
    held: HeldStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencing, "MAX_GROUP_ENTRIES", 1)
    held.failure = UnknownOutcomeError("the line went dead")
    first = hold(held, writer)
    behind = [writer.submit([note("x")]) for _ in range(3)]
    assert behind[1].cancel()
    held.go.set()
    with pytest.raises(UnknownOutcomeError):
        first.result(20)
    for future in (behind[0], behind[2]):
        with pytest.raises(StoreError, match="nothing of this batch was written"):
            future.result(20)
    assert held.head().size == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("failure", [MemoryError(), AssertionError("our arithmetic")])
def test_our_own_mistakes_are_rolled_back_and_stop_the_writer(
    held: HeldStore, writer: Writer, failure: BaseException
) -> None:
    held.failure = failure
    with pytest.raises(StoreError, match="failed unexpectedly and was rolled back") as caught:
        writer.append([note("x")])
    assert caught.value.__cause__ is failure
    with pytest.raises(StoreError, match="writer stopped"):
        writer.append([note("x")])
    assert held.head().size == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("who", ["guard", "housekeeping"])
def test_a_guard_or_a_tending_that_fails_is_told_after_the_answer(
    who: str, held: HeldStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries are durable, so they are acknowledged; but nothing is signed without a guard."""
    trouble = StoreError("no space beside the key")
    if who == "guard":

        def refuse(self: MemoryGuard, mark: object) -> None:
            raise trouble

        monkeypatch.setattr(MemoryGuard, "advance", refuse)
    else:
        held.trouble_tending = trouble
    assert writer.append([note("x")]).first_index == 0
    with pytest.raises(StoreError, match="writer stopped"):
        for _ in range(100):
            writer.append([note("y")])


def test_a_repeat_that_cannot_be_read_fails_alone(held: HeldStore, writer: Writer) -> None:
    writer.append([note("x")], idempotency_key="k")
    held._keys["k"] = held._keys["k"]._replace(tree_size=99)
    hold(held, writer)
    broken = writer.submit([note("x")], idempotency_key="k")
    fine = writer.submit([note("y")])
    held.go.set()
    with pytest.raises(TamperError):
        broken.result(20)
    assert fine.result(20).first_index == 2


# --------------------------------------------------------------------------- other writers


def test_two_writers_of_one_store_take_turns(ledger: Ledger) -> None:
    """As two processes would: each finds the head moved, and loads the edge again."""
    assert ledger.signer is not None
    with Writer(ledger.store, ledger.signer, guard=ledger.guard, clock=SettableClock()) as other:
        for n in range(300):
            writer = (ledger.writer, other)[n % 2]
            writer.append([note(str(n), expected=n)])
    assert ledger.reader.size() == 301
    check_whole(ledger.store, ledger.reader)


def test_a_store_of_another_ledger_is_refused(ledger: Ledger) -> None:
    other = Signer.from_seed("ledger.example.com/other", b"\x02" * 32)
    with (
        Writer(ledger.store, other, guard=MemoryGuard(), clock=SettableClock()) as writer,
        pytest.raises(TamperError, match="another ledger than the key signs for"),
    ):
        writer.append([note("x")])


def test_a_store_that_went_back_is_evidence(ledger: Ledger) -> None:
    store: Any = ledger.store
    before = store.head()
    ledger.writer.append([note("x")])
    store._head = before
    with pytest.raises(TamperError, match="went back while it was open") as caught:
        ledger.writer.append([note("y")])
    assert len(caught.value.checkpoints) == 2


def test_the_right_edge_must_lead_to_the_head(ledger: Ledger) -> None:
    ledger.writer.append(notes(300))
    store: Any = ledger.store
    head = store.head()
    edge = load_right_edge(store, head)
    assert (edge.frontier.root(), edge.tiles.root()) == (head.root, head.root)

    with pytest.raises(TamperError, match="edge is not that of"):
        load_right_edge(store, replace(head, edge=head.edge[1:]))
    with pytest.raises(TamperError, match="its edge leads to another root"):
        load_right_edge(store, replace(head, edge=(b"x" * 32, *head.edge[1:])))
    with pytest.raises(TamperError, match="entry 300: it is not the entry"):
        load_right_edge(store, replace(head, last_leaf=b"x" * 32))
    store._tiles[0, 0] = bytes(8192)
    with pytest.raises(TamperError, match="the tiles lead to another root"):
        load_right_edge(store, head)


def test_known_streams_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencing, "MAX_KNOWN_STREAMS", 3)
    for n in range(20):
        ledger.writer.append([note("x", f"note/{n % 7}", expected=n // 7)])
    sequencer = ledger.writer._sequencer
    assert len(sequencer._versions) <= 4
    assert batches.MAX_BATCH_ENTRIES == 50_000


@pytest.mark.parametrize("most", [0, 1, 100])
def test_what_another_writer_appended_is_caught_up_with(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaf by leaf where it is little, by the tiles where it is much; alike in the end."""
    monkeypatch.setattr(edges, "MAX_CATCH_UP", most)
    signer, store = Signer.from_seed(ORIGIN, b"\x01" * 32), MemoryStore()
    store.create(_first_head(signer))
    writers = [
        Writer(store, signer, guard=MemoryGuard(), clock=SettableClock(), entropy=seeded())
        for _ in range(2)
    ]
    for number in range(9):
        writers[number % 2].append(notes(60 if number == 4 else 1, f"note/{number % 3}"))
    for writer in writers:
        writer.close()
    check_whole(store, Reader(store, signer.vkey))

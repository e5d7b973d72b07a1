"""The one place where entries get their order: a thread that commits waiting batches in groups.

::

    append() ─┐                       one transaction                     ┌─▶ receipts
    append() ─┼─▶ queue ─▶ group ─▶ lock · plan · link · sign · commit ─▶ guard
    submit() ─┘   bounded             whoever waits meanwhile is the next group

Group commit without a delay: the group is whatever waits when the thread comes back, one batch when
idle, hundreds under load; so one fsync and one signature serve them all. A batch that is refused (a
conflict, a key that was used for something else) fails alone.

Where the store works elsewhere, a group is sent ahead, and the next one linked and signed while it
commits. The later is sent when the earlier is known to be written; where it was not, the later
begins again. docs/adr/0108.

What happens if we die here (docs/spec/append.md has the same numbers, tests/faults kills at each):

1. before the transaction: nothing was written;
2. within it: nothing was written;
3. at its commit: written as a whole or not at all; the key tells;
4. after it, before the guard: written; the guard is behind, which is harmless;
5. after the guard, before the answer: written; the key tells.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.batch import Batch
from ledger.bell import Bell
from ledger.chain import ChainHead, Linked, link
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.clock import Clock
from ledger.edge import RightEdge, brought_to, load_right_edge
from ledger.entry import EntryFormatter
from ledger.errors import (
    AsofError,
    HeadMovedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
)
from ledger.group import Answer, Appended, Plan, Waiting, plan_group, refuse_all, rows_of
from ledger.guard import Guard, GuardMark, MemoryGuard
from ledger.merkle import BatchTree, Frontier
from ledger.note import Signer
from ledger.receipt import BatchReceipts
from ledger.store import AppendTransaction, Forecast, Head, KeyUse, Row, Store

__all__ = ["Sequencer"]

MAX_GROUP_ENTRIES: Final = 5_000
MAX_GROUP_BYTES: Final = 16 << 20
MAX_WAITING_ENTRIES: Final = 50_000
MAX_WAITING_BYTES: Final = 64 << 20
MAX_KNOWN_STREAMS: Final = 100_000
MAX_UNASKED: Final = 200
"""Entries that are sooner sent twice than asked for: whether their keys were used."""
LINKED_A_PIECE: Final = 512


Repeat = Callable[[KeyUse], Appended]


@dataclass(slots=True)
class _Sent:
    """A group that the store was given, and what undoes our memory of it where it was not written.

    `wait` returns when it is durable or raises what became of it, which is heard of at `answer_at`;
    both are None where nothing is under way. `failure` came before that.
    """

    group: Sequence[Waiting]
    before: RightEdge | None
    plan: Plan | None = None
    written: _Written | None = None
    wait: Callable[[], None] | None = None
    answer_at: int | None = None
    failure: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Written:
    """A group as it was handed to the store: the new edge, and what the receipts are made of."""

    edge: RightEdge
    linked: Linked
    tree: BatchTree
    uses: list[KeyUse]


class Sequencer:
    """Owns the right edge and the thread that extends it; made and closed by the writer.

    `repeat` makes the first answer of a used key again. After a failure whose outcome is unknown,
    or that must not happen, it stops for good: opening the ledger again re-verifies it.
    """

    def __init__(
        self,
        store: Store,
        signer: Signer,
        *,
        guard: Guard | MemoryGuard,
        clock: Clock,
        repeat: Repeat,
    ) -> None:
        self._store = store
        self._signer = signer
        self._ahead = store.works_elsewhere
        self._guard = guard
        self._clock = clock
        self._repeat = repeat
        self._formatter = EntryFormatter(signer.name)
        self._edge: RightEdge | None = None
        self._contended = False
        self._bell = Bell()
        self._wanted = 0
        self._versions: dict[str, int] = {}
        self._mutex = threading.Lock()
        self._work = threading.Condition(self._mutex)
        self._room = threading.Condition(self._mutex)
        self._queue: deque[Waiting] = deque()
        self._waiting_entries = 0
        self._waiting_bytes = 0
        self._closing = False
        self._stopped: AsofError | None = None
        self._thread: threading.Thread | None = None

    # ---------------------------------------------------------------- the door, any thread

    def put(self, batch: Batch, answer: Answer) -> None:
        """Queue a batch; waits while the queue is full. Raises: StoreError once stopped."""
        with self._mutex:
            while self._is_full(batch) and not self._closing and self._stopped is None:
                self._room.wait()
            self._check_running()
            self._enqueue(batch, answer)
            self._notify()

    def offer(self, batch: Batch, answer: Answer) -> bool:
        """As `put`, without waiting: False, and nothing is queued, where the queue is full. The
        thread looks at the queue after `wake`, or when it comes back anyway.
        """
        with self._mutex:
            self._check_running()
            if self._is_full(batch):
                return False
            self._enqueue(batch, answer)
        return True

    def wake(self) -> None:
        """After some offers: let the thread take them, as one group if it is idle."""
        with self._mutex:
            self._notify()

    def _notify(self) -> None:
        self._work.notify()
        if 0 < self._wanted <= len(self._queue):
            self._wanted = 0
            self._bell.ring()

    def close(self) -> None:
        """Commit what waits, then end the thread. Calling it twice does no harm."""
        with self._mutex:
            self._closing = True
            self._work.notify_all()
            self._room.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._bell.close()

    def _enqueue(self, batch: Batch, answer: Answer) -> None:
        self._queue.append((batch, answer))
        self._waiting_entries += len(batch.drafts)
        self._waiting_bytes += batch.size_bytes

    def _is_full(self, batch: Batch) -> bool:
        return bool(self._queue) and (
            self._waiting_entries + len(batch.drafts) > MAX_WAITING_ENTRIES
            or self._waiting_bytes + batch.size_bytes > MAX_WAITING_BYTES
        )

    def _check_not_stopped(self) -> None:
        if self._stopped is not None:
            raise StoreError(
                f"the writer stopped ({self._stopped}); nothing of this batch was written: "
                "open the ledger again"
            )

    def _check_running(self) -> None:
        self._check_not_stopped()
        if self._closing:
            raise StoreError("the writer is closed; nothing of this batch was written")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="asof-sequencer", daemon=True)
            self._thread.start()

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        under_way: _Sent | None = None
        while (taken := self._take(under_way)) or under_way is not None:
            group = [waiting for waiting in taken if waiting[1].set_running_or_notify_cancel()]
            following = None
            if under_way is not None:
                following = self._following(group, under_way)
                self._finish(under_way)
            if group and following is None:
                following = self._sent(group)
            if following is not None and following.answer_at is None:
                self._finish(following)
                following = None
            under_way = following

    def _take(self, under_way: _Sent | None) -> list[Waiting]:
        """All that is queued, up to a bound: at least one batch, or nothing once closed and
        drained. With a group under way, as soon as half as many wait, or its answer is heard."""
        if under_way is not None and under_way.answer_at is not None:
            self._watch(under_way.answer_at, (len(under_way.group) + 1) // 2)
        with self._mutex:
            while under_way is None and not self._queue and not self._closing:
                self._work.wait()
            group: list[Waiting] = []
            entries = size = 0
            while self._queue:
                batch = self._queue[0][0]
                entries, size = entries + len(batch.drafts), size + batch.size_bytes
                if group and (entries > MAX_GROUP_ENTRIES or size > MAX_GROUP_BYTES):
                    break
                group.append(self._queue.popleft())
                self._waiting_entries -= len(batch.drafts)
                self._waiting_bytes -= batch.size_bytes
            self._room.notify_all()
        return group

    def _watch(self, answer_at: int, wanted: int) -> None:
        """Until so many batches wait, or the answer is heard."""
        with self._mutex:
            self._wanted = wanted if len(self._queue) < wanted else 0
        if self._wanted:
            self._bell.wait(answer_at)
            self._wanted = 0

    def _following(self, group: Sequence[Waiting], under_way: _Sent) -> _Sent | None:
        """The group sent behind the one under way; None where it has to begin again after it.

        Whatever was refused on the strength of what may not have been written is not yet refused.
        """
        if not group or not self._may_follow(group, under_way):
            return None
        sent = self._sent(group)
        refused = isinstance(sent.failure, AsofError)
        if refused and not isinstance(sent.failure, UnknownOutcomeError):
            return None
        return None if sent.failure is None and sent.written is None else sent

    def _may_follow(self, group: Sequence[Waiting], under_way: _Sent) -> bool:
        """Whether the group can be planned before the one under way is known to be written: nothing
        has to be asked for it, and no key of it is being used at this moment."""
        if _asks_for_keys(group):
            return False
        using = {use.key for use in under_way.written.uses} if under_way.written else set()
        return all(
            batch.tracked is None
            and batch.key not in using
            and all(draft.stream in self._versions for draft in batch.drafts)
            for batch, _ in group
        )

    def _sent(self, group: Sequence[Waiting]) -> _Sent:
        """Hand a group to the store; never raises."""
        sent = _Sent(group, self._edge)
        try:
            self._check_not_stopped()
            self._hand_over(sent)
        except BaseException as exc:
            sent.failure = exc
        return sent

    def _finish(self, sent: _Sent) -> None:
        """Answer a group, or tell each batch what happened, as soon as that is known; never raises.

        A head that has moved is no failure: nothing was written, and now the lock is taken first.
        """
        try:
            self._wait_for(sent)
        except UnknownOutcomeError as exc:
            self._forget(sent)
            if self._store.recovers:
                refuse_all(sent.group, exc)
            else:
                self._stop(exc, sent.group)
        except TamperError as exc:
            self._stop(exc, sent.group)
        except AsofError as exc:
            self._forget(sent)
            refuse_all(sent.group, exc)
        except BaseException as exc:
            self._stop(_unexpected(exc), sent.group)
        else:
            self._settle(sent.plan, sent.written)  # type: ignore[arg-type]

    def _wait_for(self, sent: _Sent) -> None:
        try:
            if sent.failure is not None:
                raise sent.failure
            if sent.wait is not None:
                sent.wait()
        except HeadMovedError:
            self._forget(sent)
            self._hand_over_locked(sent)

    def _forget(self, sent: _Sent) -> None:
        """What was remembered of a group that was not written."""
        self._edge = sent.before
        self._versions = {}

    def _settle(self, plan: Plan, written: _Written | None) -> None:
        """After the commit. Whatever fails now, what was committed is answered as committed."""
        trouble: AsofError | None = None
        if written is not None:
            trouble = self._advance(written)
            self._answer(plan, written)
        for (_, answer), error in plan.refused:
            answer.set_exception(error)
        for (_, answer), use in plan.repeated:
            self._answer_again(answer, use if isinstance(use, KeyUse) else written.uses[use])  # type: ignore[union-attr]
        trouble = trouble or self._tend()
        if trouble is not None:
            self._stop(trouble, [])

    def _advance(self, written: _Written) -> AsofError | None:
        head = written.edge.head
        try:
            self._guard.advance(GuardMark(head.origin, head.size, head.root))
        except AsofError as exc:
            return exc
        return None

    def _tend(self) -> AsofError | None:
        """Housekeeping, when everybody has their answer and prepares the next batch."""
        try:
            self._store.tend()
        except AsofError as exc:
            return exc
        return None

    def _answer(self, plan: Plan, written: _Written) -> None:
        head, position = written.edge.head, 0
        first, recorded_at = written.linked.first_index, written.linked.recorded_at
        for batch, answer in plan.accepted:
            count = len(batch.drafts)
            entries = written.linked.entries[position : position + count]
            answer.set_result(
                Appended(
                    first_index=first + position,
                    count=count,
                    recorded_at=recorded_at,
                    tree_size=head.size,
                    checkpoint=head.checkpoint,
                    repeated=False,
                    receipts=BatchReceipts(
                        written.tree, first + position, entries, head.checkpoint
                    ),
                )
            )
            position += count

    def _answer_again(self, answer: Answer, use: KeyUse) -> None:
        try:
            answer.set_result(self._repeat(use))
        except AsofError as exc:
            answer.set_exception(exc)

    def _stop(self, trouble: AsofError, group: Sequence[Waiting]) -> None:
        """Take nothing more: this group gets the trouble itself, those behind it learn of it."""
        with self._mutex:
            self._stopped = trouble
            behind = list(self._queue)
            self._queue.clear()
            self._waiting_entries = self._waiting_bytes = 0
            self._room.notify_all()
        refuse_all(group, trouble)
        message = f"the writer stopped ({trouble}); nothing of this batch was written"
        for _, answer in behind:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(StoreError(message))

    # ---------------------------------------------------------------- inside the transaction

    def _hand_over(self, sent: _Sent) -> None:
        """A group on the head that is remembered, as long as no other process appends; under the
        lock from the beginning where one did."""
        if self._edge is None or self._contended:
            self._hand_over_locked(sent)
            return
        forecast = self._forecast(sent.group, trusted=True)
        with self._store.transaction(forecast) as transaction:
            sent.plan, sent.written = self._write(transaction, sent.group, forecast)
        sent.wait, sent.answer_at = transaction.wait, transaction.answer_at
        self._remember(sent.plan, sent.written)

    def _hand_over_locked(self, sent: _Sent) -> None:
        before, sent.wait = self._edge, None
        forecast = self._forecast(sent.group, trusted=False)
        with self._store.transaction(forecast) as transaction:
            sent.plan, sent.written = self._write(transaction, sent.group, forecast)
            self._contended = before is not None and transaction.head() != before.head
        self._remember(sent.plan, sent.written)

    def _remember(self, plan: Plan, written: _Written | None) -> None:
        """What the next group builds on."""
        if written is None:
            return
        self._edge = written.edge
        if len(self._versions) > MAX_KNOWN_STREAMS:
            self._versions.clear()
        self._versions |= plan.versions

    def _forecast(self, group: Sequence[Waiting], *, trusted: bool) -> Forecast:
        """What this group will be asked about; the versions remembered are those of our edge.

        Of few entries that go ahead, no key is asked for: a key that was used is as good as a head
        that has moved, and is rare.
        """
        batches = [batch for batch, _ in group]
        streams = {draft.stream for batch in batches for draft in batch.drafts}
        ahead = trusted and self._ahead
        keys = {batch.key for batch in batches if batch.key is not None}
        return Forecast(
            head=None if self._edge is None else self._edge.head,
            trusted=trusted,
            ahead=ahead,
            streams=streams - self._versions.keys() if trusted else streams,
            keys=keys if not ahead or _asks_for_keys(group) else (),
            followers={batch.tracked.name for batch in batches if batch.tracked is not None},
        )

    def _write(
        self, transaction: AppendTransaction, group: Sequence[Waiting], forecast: Forecast
    ) -> tuple[Plan, _Written | None]:
        edge = self._current_edge(transaction)
        plan = plan_group(
            group,
            versions=self._versions_of(transaction, group),
            uses=transaction.key_uses(forecast.keys) if forecast.keys else {},
            positions=transaction.tracked(forecast.followers) if forecast.followers else {},
            row_at=self._row_at,
        )
        if not plan.events:
            return plan, None
        linked, rows = self._linked(transaction, plan, edge.head)
        leaves = linked.leaf_hashes
        tree = BatchTree(edge.frontier, leaves)
        frontier = tree.frontier()
        tiles, full = edge.tiles.extended(leaves, tree.node)
        head = self._signed_head(frontier, linked)
        uses = plan.key_uses(linked.first_index, head.size)
        transaction.write(rows, full, head, uses, plan.positions())
        new_edge = RightEdge(head=head, frontier=frontier, tiles=tiles)
        return plan, _Written(new_edge, linked, tree, uses)

    def _linked(
        self, transaction: AppendTransaction, plan: Plan, head: Head
    ) -> tuple[Linked, list[Row]]:
        """The events in their places, and the rows to keep; handed over in pieces, so that the
        store can be busy with one while the next is made."""
        chain, now = ChainHead(head.size, head.last_leaf, head.recorded_at), self._clock()
        contents = plan.contents()
        whole = Linked(head.size, max(now, head.recorded_at), [], [])
        rows: list[Row] = []
        for start in range(0, len(contents), LINKED_A_PIECE):
            stop = start + LINKED_A_PIECE
            events = plan.events[start:stop]
            piece = link(chain, events, formatter=self._formatter, now=now)
            made = rows_of(events, contents[start:stop], piece)
            transaction.ahead(made, of=len(contents))
            rows += made
            whole.entries.extend(piece.entries)
            whole.leaf_hashes.extend(piece.leaf_hashes)
            chain = piece.head()
        return whole, rows

    def _current_edge(self, transaction: AppendTransaction) -> RightEdge:
        """The edge in memory, brought to the head where another process has appended since."""
        edge, head = self._edge, transaction.head()
        if edge is not None and edge.head == head:
            return edge
        if head.origin != self._signer.name:
            raise TamperError(
                f"{self._store.url} holds another ledger than the key signs for",
                expected=self._signer.name,
                found=head.origin,
            )
        self._versions = {}
        self._edge = (
            load_right_edge(self._store, head)
            if edge is None
            else brought_to(head, edge, transaction, self._store)
        )
        return self._edge

    def _versions_of(
        self, transaction: AppendTransaction, group: Sequence[Waiting]
    ) -> dict[str, int]:
        """The versions of the streams of a group: remembered, or asked for."""
        known = self._versions
        wanted = {draft.stream for batch, _ in group for draft in batch.drafts}
        versions = {stream: known[stream] for stream in wanted if stream in known}
        if len(versions) < len(wanted):
            versions |= transaction.stream_versions(wanted - versions.keys())
        return versions

    def _row_at(self, index: int) -> Row | None:
        return next(self._store.rows(index, index + 1), None)

    def _signed_head(self, frontier: Frontier, linked: Linked) -> Head:
        root = frontier.root()
        checkpoint = Checkpoint(self._signer.name, frontier.size, root)
        return Head(
            origin=self._signer.name,
            size=frontier.size,
            root=root,
            last_leaf=linked.leaf_hashes[-1],
            recorded_at=linked.recorded_at,
            edge=frontier.edge,
            checkpoint=sign_checkpoint(checkpoint, self._signer),
        )


def _asks_for_keys(group: Sequence[Waiting]) -> bool:
    count = sum(len(batch.drafts) for batch, _ in group)
    return count > MAX_UNASKED and any(batch.key is not None for batch, _ in group)


def _unexpected(exc: BaseException) -> AsofError:
    """Our own mistake, or memory that ran out: rolled back, told, and the end of this writer."""
    error = StoreError(f"the append failed unexpectedly and was rolled back: {exc!r}")
    error.__cause__ = exc
    return error

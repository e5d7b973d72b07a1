"""The one path in: a batch becomes entries, all or none, and is answered when it is durable.

::

    with Writer(store, signer, guard=guard, clock=system_clock) as writer:
        done = writer.append([draft], idempotency_key="deploy-7")
        print(done.first_index, done.receipts[0].proof())

`append` waits, `submit` gives a future, `offer` never waits; any number of threads may call them. A
key makes a retry safe: the same key with the same batch gives the first answer again, down to the
signature, which is deterministic. docs/spec/append.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self, overload

from ledger.batch import Batch, check_tracked, prepare_batch
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.clock import Clock
from ledger.draft import Draft
from ledger.errors import TamperError
from ledger.group import Answer, Appended
from ledger.guard import Guard, GuardMark, MemoryGuard
from ledger.merkle import root_at
from ledger.note import Signer
from ledger.reader import Reader
from ledger.receipt import Receipt
from ledger.sequencer import Sequencer
from ledger.store import KeyUse, Store, Tracked

__all__ = ["Answer", "Appended", "Draft", "Writer"]


class Writer:
    """Appends to one ledger. Made by `ledger.opening`; closed by its maker."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        *,
        guard: Guard | MemoryGuard,
        clock: Clock,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._reader = Reader(store, signer.vkey)
        self._signer = signer
        self._guard = guard
        self._entropy = entropy
        self._sequencer = Sequencer(store, signer, guard=guard, clock=clock, repeat=self._repeated)

    def append(
        self,
        drafts: Sequence[Draft],
        *,
        idempotency_key: str | None = None,
        tracked: Tracked | None = None,
    ) -> Appended:
        """Append a batch and return when it is durable.

        `tracked` is a follower's position, set in the same transaction. Raises: MalformedError,
        ConflictError (a stream moved on, the key was used for another batch, the position does not
        grow), StoreError: nothing was written. UnknownOutcomeError: repeat with the same key; where
        the writer has stopped, open the ledger again before. TamperError.
        """
        batch = prepare_batch(drafts, key=idempotency_key, entropy=self._entropy, tracked=tracked)
        ticket = _Ticket()
        self._sequencer.put(batch, ticket)
        return ticket.result()

    def submit(
        self,
        drafts: Sequence[Draft],
        *,
        idempotency_key: str | None = None,
        tracked: Tracked | None = None,
    ) -> Future[Appended]:
        """As `append`, without waiting; waits only while the queue is full. A future that is
        cancelled before its turn is not written."""
        return self.submit_prepared(
            prepare_batch(drafts, key=idempotency_key, entropy=self._entropy, tracked=tracked)
        )

    def submit_prepared(self, batch: Batch) -> Future[Appended]:
        """As `submit`, for what `prepare_batch` has made, here or in another process. That its
        commitments are those of its payloads is the caller's promise: nothing looks at it again
        before it is written."""
        future: Future[Appended] = Future()
        self._sequencer.put(batch, future)
        return future

    def offer(
        self, drafts: Sequence[Draft], answer: Answer, *, idempotency_key: str | None = None
    ) -> bool:
        """As `submit`, for an answer of the caller's own kind, and never waiting: False where the
        queue is full, and then nothing was taken. The answer is called in the writer's thread.

        `wake` must follow, once for all that is offered together: what comes from many callers at
        a time is one group then.
        """
        batch = prepare_batch(drafts, key=idempotency_key, entropy=self._entropy)
        return self._sequencer.offer(batch, answer)

    def wake(self) -> None:
        """After `offer`: let the writer's thread begin."""
        self._sequencer.wake()

    def track(self, tracked: Tracked) -> None:
        """Set a follower's position without an entry; durable when it returns.

        Raises: MalformedError, ConflictError unless it grows, StoreError.
        """
        check_tracked(tracked)
        self._store.track(tracked)

    def close(self) -> None:
        """Commit what waits, then stop. Calling it twice does no harm."""
        self._sequencer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _repeated(self, use: KeyUse) -> Appended:
        """The first answer to a key, made again: its tree is there and Ed25519 signs alike.

        It may be the first that anybody gets, after an unknown outcome: then the guard has not seen
        that tree yet.
        """
        size = self._reader.size()
        if not use.first_index + use.count <= use.tree_size <= size:
            raise TamperError(
                f"the idempotency key {use.key!r} stands for entries that are not there"
            )
        root = root_at(use.tree_size, self._reader.nodes(size))
        self._guard.advance(GuardMark(self._signer.name, use.tree_size, root))
        checkpoint = sign_checkpoint(
            Checkpoint(self._signer.name, use.tree_size, root), self._signer
        )
        return Appended(
            first_index=use.first_index,
            count=use.count,
            recorded_at=self._reader.entry(use.first_index).recorded_at,
            tree_size=use.tree_size,
            checkpoint=checkpoint,
            repeated=True,
            receipts=_StoredReceipts(self._reader, use, checkpoint),
        )


class _StoredReceipts(Sequence[Receipt]):
    """The receipts of a batch that was written before, made from the store when asked for."""

    def __init__(self, reader: Reader, use: KeyUse, checkpoint: bytes) -> None:
        self._reader = reader
        self._use = use
        self._checkpoint = checkpoint

    def __len__(self) -> int:
        return self._use.count

    @overload
    def __getitem__(self, position: int) -> Receipt: ...
    @overload
    def __getitem__(self, position: slice) -> list[Receipt]: ...
    def __getitem__(self, position: int | slice) -> Receipt | list[Receipt]:
        if isinstance(position, slice):
            return [self._receipt(at) for at in range(len(self))[position]]
        return self._receipt(range(len(self))[position])

    def _receipt(self, position: int) -> Receipt:
        index = self._use.first_index + position
        return Receipt(
            index=index,
            leaf_hash=self._reader.leaf_hash(index),
            entry=self._reader.entry_bytes(index),
            checkpoint=self._checkpoint,
            hashes=tuple(self._reader.inclusion_hashes(index, self._use.tree_size)),
        )


class _Ticket:
    """What a waiting thread holds: lighter than a future, with one waiter and no callback."""

    __slots__ = ("_error", "_gate", "_result")

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._result: Appended | None = None
        self._error: BaseException | None = None

    def set_running_or_notify_cancel(self) -> bool:
        """It cannot be cancelled."""
        return True

    def set_result(self, result: Appended) -> None:
        self._result = result
        self._gate.release()

    def set_exception(self, exception: BaseException | None) -> None:
        self._error = exception
        self._gate.release()

    def result(self) -> Appended:
        """Waits. Raises what the sequencer said."""
        self._gate.acquire()
        if self._result is None:
            raise self._error or AssertionError("a ticket is answered once")
        return self._result

"""The rollbacks of one ledger: where they are loaded from and saved to.

::

    rollbacks = Rollbacks(ledger.writer, ledger.reader, actor="service:asof", clock=system_clock)
    rollback = rollbacks.get("7")
    rollback.approve(rollback.plan.plan_digest, "user:noah")
    rollbacks.store(rollback)            # ConflictError if somebody decided in between
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from eventsourcing.application import AggregateNotFoundError

from ledger.errors import NotFoundError
from ledger.lifecycle.aggregate import Aggregate, Decision
from ledger.lifecycle.application import LedgerApplication, in_our_words
from ledger.lifecycle.rollback import STREAM, Rollback

__all__ = ["Rollbacks"]


class Rollbacks(LedgerApplication):
    """The rollbacks of one ledger: loaded from their streams, saved at the version loaded."""

    aggregates: ClassVar[tuple[type[Aggregate], ...]] = (Rollback,)

    def get(self, rollback_id: str) -> Rollback:
        """The rollback as its stream tells. Raises: NotFoundError."""
        try:
            with in_our_words():
                rollback: Rollback = self.repository.get(f"{STREAM}{rollback_id}")
        except AggregateNotFoundError:
            raise NotFoundError(f"there is no rollback {rollback_id!r}") from None
        return rollback

    def store(
        self, rollback: Rollback, *also: Decision, idempotency_key: str | None = None
    ) -> None:
        """Saves what was decided, with decisions about other streams, in one batch: all or none.

        Raises:
            ConflictError: somebody decided in between. Nothing is written; load again. After any
                exception `rollback` is ahead of its stream: throw it away.
        """
        with in_our_words():
            self.save(rollback, *also, idempotency_key=idempotency_key)

    def ids(self) -> Iterator[str]:
        """The ids of all rollbacks, in the order of their names."""
        for stream in self.reader.streams(STREAM):
            yield stream.removeprefix(STREAM)

"""eventsourcing's own conformance tests, as it ships them, against our recorders on each store.

Not applied, and why:

* `TrackingRecorderTestCase`, `ProcessRecorderTestCase`: a ledger does not record the positions of
  projections; ours keep theirs beside their rows. Our recorders refuse tracking records.
* `InfrastructureFactoryTestCase`: its tests of ciphers and compressors ask that classes named by
  the environment change the stored bytes, which are hashed here; those of tracking and process
  recorders as above; it makes factories from an environment, ours are made from a writer and a
  reader. Its two tests of recorders are applied.
* `TranscoderTestCase`: tests the library's extensible JSON with Python types in it; a payload is
  plain JSON that any reader can read.
* `ApplicationTestCase` and the example applications: their aggregates define event classes beside
  the vocabulary; tests/unit/test_lifecycle_application.py runs an application of ours.

Our streams count from 1. Some of the library's tests have sequences that begin at 0, so all run
with `first_version=0`, and those that allow it a second time with 1, the library's default.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase

import eventsourcing.cryptography
from eventsourcing.persistence import StoredEvent

from ledger.lifecycle.application import LedgerFactory
from ledger.recorder import LedgerAggregateRecorder, LedgerApplicationRecorder
from tests.support.empty_ledgers import Opened, empty_ledger

# The shipped module wants a cipher at import, from a package that we do not install, for tests that
# do not apply here. The library has the same class over `cryptography`.
sys.modules.setdefault("eventsourcing.cipher", eventsourcing.cryptography)
from eventsourcing.tests import persistence as shipped  # noqa: E402

NOT_APPLIED = {
    shipped.TrackingRecorderTestCase: "projections keep their positions beside their rows",
    shipped.ProcessRecorderTestCase: "projections keep their positions beside their rows",
    shipped.TranscoderTestCase: "a payload is plain JSON, without Python types",
    shipped.InfrastructureFactoryTestCase: "made from a ledger; two of its tests are applied",
}
APPLIED = {
    shipped.AggregateRecorderTestCase,
    shipped.ApplicationRecorderTestCase,
    shipped.NonInterleavingNotificationIDsBaseCase,
}


def anything(_event: StoredEvent) -> None:
    """The library's tests have topics and states of their own."""


class InMemory(TestCase):
    """Makes ledgers in memory, and closes them."""

    first_version: ClassVar[int] = 0
    INITIAL_VERSION: ClassVar[int] = 0

    def setUp(self) -> None:
        super().setUp()
        self.closing = ExitStack()
        self.addCleanup(self.closing.close)

    def ledger(self) -> Opened:
        return self.closing.enter_context(empty_ledger())

    def recorder_of(self, cls: Any) -> Any:
        ledger = self.ledger()
        return cls(
            ledger.writer,
            ledger.reader,
            actor="service:test",
            door=anything,
            first_version=self.first_version,
        )


class InSqlite(InMemory):
    """Makes ledgers in SQLite files."""

    def ledger(self) -> Opened:
        folder = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
        return self.closing.enter_context(empty_ledger(folder / "asof.db"))


class AggregateCases(shipped.AggregateRecorderTestCase):
    def create_recorder(self) -> LedgerAggregateRecorder:
        recorder: LedgerAggregateRecorder = self.recorder_of(LedgerAggregateRecorder)  # type: ignore[attr-defined]
        return recorder


class ApplicationCases(shipped.ApplicationRecorderTestCase[LedgerApplicationRecorder]):
    def create_recorder(self) -> LedgerApplicationRecorder:
        recorder: LedgerApplicationRecorder = self.recorder_of(LedgerApplicationRecorder)  # type: ignore[attr-defined]
        return recorder

    def test_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class NonInterleavingCases(shipped.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> LedgerApplicationRecorder:
        recorder: LedgerApplicationRecorder = self.recorder_of(LedgerApplicationRecorder)  # type: ignore[attr-defined]
        return recorder


class TestAggregatesInMemory(InMemory, AggregateCases):
    pass


class TestAggregatesInSqlite(InSqlite, AggregateCases):
    pass


class TestApplicationInMemory(InMemory, ApplicationCases):
    pass


class TestApplicationInSqlite(InSqlite, ApplicationCases):
    pass


class TestNonInterleavingInMemory(InMemory, NonInterleavingCases):
    pass


class TestNonInterleavingInSqlite(InSqlite, NonInterleavingCases):
    pass


class FromOne:
    """The tests whose sequences begin at `INITIAL_VERSION`, with 1 as for the library's own."""

    first_version: ClassVar[int] = 1
    INITIAL_VERSION: ClassVar[int] = 1
    test_concurrent_no_conflicts = None
    test_concurrent_throughput = None
    test_performance = None


class TestApplicationFromOneInMemory(FromOne, InMemory, ApplicationCases):
    pass


class TestApplicationFromOneInSqlite(FromOne, InSqlite, ApplicationCases):
    pass


class TestFactory(InMemory):
    """The two tests of `InfrastructureFactoryTestCase` that speak of recorders."""

    def setUp(self) -> None:
        super().setUp()
        ledger = self.ledger()
        self.factory = LedgerFactory(
            ledger.writer, ledger.reader, actor="service:test", clock=ledger.clock
        )
        self.env = self.factory.env

    def expected_aggregate_recorder_class(self) -> type[LedgerAggregateRecorder]:
        return LedgerAggregateRecorder

    def expected_application_recorder_class(self) -> type[LedgerApplicationRecorder]:
        return LedgerApplicationRecorder

    test_create_aggregate_recorder = (
        shipped.InfrastructureFactoryTestCase.test_create_aggregate_recorder
    )
    test_create_application_recorder = (
        shipped.InfrastructureFactoryTestCase.test_create_application_recorder
    )


def test_every_shipped_case_is_applied_or_said_not_to_be() -> None:
    cases = {
        case
        for case in vars(shipped).values()
        if isinstance(case, type) and issubclass(case, TestCase) and case is not TestCase
    }
    assert cases - {shipped.RecorderTestCase} == APPLIED | set(NOT_APPLIED)


del AggregateCases, ApplicationCases, NonInterleavingCases, InMemory, InSqlite

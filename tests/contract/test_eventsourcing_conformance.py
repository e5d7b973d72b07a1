"""eventsourcing's own conformance tests, as it ships them, against our recorders on each store.

`APPLIED` and `NOT_APPLIED` name every case that the library ships, and a test compares them with
what is installed. A test that is said not to apply is run all the same and must fail: the day it
passes, the table is wrong.

A shipped case makes its parts in its own way: recorders alone (`create_recorder`), or whole
applications, whose factories the library makes from an environment (tests/support). The first
version of a sequence is 1, as in the library's own aggregates; a few tests count from 0, and their
recorders are made so.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase
from unittest import TestResult as Outcome
from unittest.mock import patch

import pytest
from eventsourcing.persistence import InfrastructureFactory, Tracking, Transcoder
from eventsourcing.utils import Environment

from ledger.lifecycle.application import LedgerTranscoder
from ledger.recorder import (
    LedgerAggregateRecorder,
    LedgerApplicationRecorder,
    LedgerProcessRecorder,
    LedgerTrackingRecorder,
)
from ledger.stores.postgres import PostgresStore
from tests.support.empty_ledgers import ORIGIN, Opened, empty_head, empty_ledger, opened
from tests.support.library_factories import (
    CONSTRUCTED,
    LIBRARY,
    ConstructedFactory,
    CountersInStreams,
    anything,
    ledgers_named,
)
from tests.support.postgres import database_of, prepared
from tests.support.shipped_cases import application, persistence, projection

# ------------------------------------------------------------------------------------ the stores

OpenIn = Callable[[pytest.FixtureRequest, ExitStack], Opened]


def in_memory(_request: pytest.FixtureRequest, stack: ExitStack) -> Opened:
    return stack.enter_context(empty_ledger())


def in_sqlite(_request: pytest.FixtureRequest, stack: ExitStack) -> Opened:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return stack.enter_context(empty_ledger(folder / "asof.db"))


def in_postgres(request: pytest.FixtureRequest, stack: ExitStack) -> Opened:
    server = request.getfixturevalue("postgres")
    url = prepared(stack.enter_context(database_of(server)))
    store = stack.enter_context(closing(PostgresStore.open(url, ORIGIN)))
    store.create(empty_head())
    return stack.enter_context(opened(store))


STORES: dict[str, OpenIn] = {"memory": in_memory, "sqlite": in_sqlite, "postgres": in_postgres}

# ----------------------------------------------------------------------- how a case makes its parts


class OnLedgers:
    """What all cases share: ledgers of one store, closed after the test."""

    store: ClassVar[str]
    opening: Callable[[], Opened]

    @pytest.fixture(autouse=True)
    def _ledgers(self, request: pytest.FixtureRequest) -> Iterator[None]:
        with ExitStack() as stack:
            self.opening = lambda: STORES[self.store](request, stack)
            yield


class Recorders(OnLedgers):
    """A case that asks for one recorder."""

    recorder_class: ClassVar[type[Any]]
    from_zero: ClassVar[frozenset[str]] = frozenset()

    @property
    def INITIAL_VERSION(self) -> int:  # noqa: N802 - the library's name
        return 0 if self.id().rpartition(".")[2] in self.from_zero else 1  # type: ignore[attr-defined]

    def create_recorder(self) -> Any:
        ledger = self.opening()
        return self.recorder_class(
            ledger.writer,
            ledger.reader,
            actor="service:test",
            door=anything,
            first_version=self.INITIAL_VERSION,
        )


class Aggregates(Recorders):
    recorder_class = LedgerAggregateRecorder
    from_zero = frozenset({"test_insert_and_select"})


class Applications(Recorders):
    recorder_class = LedgerApplicationRecorder
    from_zero = frozenset({"test_concurrent_no_conflicts", "test_concurrent_throughput"})

    def test_subscribe(self) -> None:
        self.optional_test_insert_subscribe()  # type: ignore[attr-defined]


class Interleaving(Recorders):
    recorder_class = LedgerApplicationRecorder
    from_zero = frozenset({"test"})


class Processes(Recorders):
    recorder_class = LedgerProcessRecorder
    from_zero = frozenset({"test_performance"})


class Positions(OnLedgers):
    def create_recorder(self) -> LedgerTrackingRecorder:
        ledger = self.opening()
        return LedgerTrackingRecorder(ledger.writer, ledger.reader, actor="service:test")


class Transcoders(OnLedgers):
    def construct_transcoder(self) -> Transcoder:
        return LedgerTranscoder()


class FromEnvironment(OnLedgers):
    """A case whose factories the library makes itself."""

    factory: ClassVar[str] = LIBRARY
    pytestmark: ClassVar = [pytest.mark.filterwarnings("default:'log' is deprecated")]

    def setUp(self) -> None:
        named = self.enterContext(ledgers_named(self.id(), lambda: self.opening()))
        self.env = Environment("", {**named, "PERSISTENCE_MODULE": self.factory})
        self.enterContext(patch.dict(os.environ, self.env))
        super().setUp()


class Factories(FromEnvironment):
    factory = CONSTRUCTED
    expected_factory_class = staticmethod(lambda: ConstructedFactory)
    expected_aggregate_recorder_class = staticmethod(lambda: LedgerAggregateRecorder)
    expected_application_recorder_class = staticmethod(lambda: LedgerApplicationRecorder)
    expected_tracking_recorder_class = staticmethod(lambda: LedgerTrackingRecorder)
    expected_process_recorder_class = staticmethod(lambda: LedgerProcessRecorder)
    tracking_recorder_subclass = staticmethod(lambda: CountersInStreams)


class Examples(FromEnvironment):
    expected_factory_topic = LIBRARY


class Views(FromEnvironment):
    view_class = CountersInStreams

    def construct_event_counters_view(self) -> CountersInStreams:
        factory = InfrastructureFactory[Any].construct(self.env)
        view: CountersInStreams = factory.tracking_recorder(CountersInStreams)
        return view


# --------------------------------------------------------------------------------------- the tables

APPLIED: dict[type[TestCase], type[OnLedgers]] = {
    persistence.AggregateRecorderTestCase: Aggregates,
    persistence.ApplicationRecorderTestCase: Applications,
    persistence.NonInterleavingNotificationIDsBaseCase: Interleaving,
    persistence.TrackingRecorderTestCase: Positions,
    persistence.ProcessRecorderTestCase: Processes,
    persistence.InfrastructureFactoryTestCase: Factories,
    persistence.TranscoderTestCase: Transcoders,
    application.ExampleApplicationTestCase: Examples,
    application.ApplicationTestCase: FromEnvironment,
    projection.EventCountersViewTestCase: Views,
    projection.AggregateEventCountersProjectionTestCase: Views,
    projection.EventSourcedProjectionTestCase: FromEnvironment,
    projection.TaggedDecisionCountersProjectionTestCase: Views,
}
BYTES = "a class named by an environment would change the bytes that are hashed"
PLAIN = "a payload is one plain JSON object, without Python types, that any reader can read"
TAGS = "decisions chosen by tags: a ledger's order of versions is that of its streams"
NOT_APPLIED: dict[type[TestCase], dict[str, str]] = {
    persistence.InfrastructureFactoryTestCase: {
        "test_mapper_with_compressor": BYTES,
        "test_mapper_with_cipher": BYTES,
        "test_mapper_with_cipher_and_compressor": BYTES,
        "test_mapper_with_wrong_cipher_key": BYTES,
    },
    persistence.TranscoderTestCase: {
        "test_str": PLAIN,
        "test_dict_subclass": PLAIN,
        "test_list_subclass": PLAIN,
        "test_str_subclass": PLAIN,
        "test_int_subclass": PLAIN,
        "test_tuple": PLAIN,
        "test_list": PLAIN,
        "test_mixed": PLAIN,
        "test_custom_type_in_dict": PLAIN,
        "test_nested_custom_type": PLAIN,
        "test_custom_type_error": PLAIN,
    },
    projection.TaggedDecisionCountersProjectionTestCase: {
        "test_event_counters_projection": TAGS,
        "test_run_forever_raises_projection_error": TAGS,
    },
}
BASES = {TestCase, persistence.RecorderTestCase}
"""What the modules show and what has no test of its own."""

# ----------------------------------------------------------------------- the cases, a class a store


def made_case(shipped: type[TestCase], maker: type[OnLedgers], store: str) -> type[TestCase]:
    left_out = dict.fromkeys(NOT_APPLIED.get(shipped, ()))
    name = f"Test{shipped.__name__.removesuffix('TestCase')}On{store.title()}"
    return type(name, (maker, shipped), {"store": store, "__module__": __name__, **left_out})


for _store in STORES:
    for _shipped, _maker in APPLIED.items():
        _case = made_case(_shipped, _maker, _store)
        globals()[_case.__name__] = _case
del _case, _shipped, _maker  # pytest would collect them by these names, too


def cases_of(*modules: Any) -> set[type[TestCase]]:
    values = [value for module in modules for value in vars(module).values()]
    return {cls for cls in values if isinstance(cls, type) and issubclass(cls, TestCase)} - BASES


def names_of_tests(case: type[TestCase]) -> set[str]:
    return {name for name in dir(case) if name.startswith("test")}


def test_every_shipped_case_is_in_the_tables() -> None:
    assert cases_of(application, persistence, projection) == set(APPLIED)
    assert set(NOT_APPLIED) <= set(APPLIED)
    for case, left_out in NOT_APPLIED.items():
        assert set(left_out) <= names_of_tests(case)


LEFT_OUT = [
    pytest.param(case, name, id=f"{case.__name__}.{name}: {reason}")
    for case, left_out in NOT_APPLIED.items()
    for name, reason in left_out.items()
]


@pytest.mark.parametrize(("shipped", "name"), LEFT_OUT)
def test_what_is_said_not_to_apply_fails_indeed(
    shipped: type[TestCase], name: str, request: pytest.FixtureRequest
) -> None:
    case: Any = type(shipped.__name__, (APPLIED[shipped], shipped), {})(name)
    with ExitStack() as stack:
        case.opening = lambda: in_memory(request, stack)
        outcome = Outcome()
        case.run(outcome)
    assert outcome.testsRun == 1 and not outcome.wasSuccessful()


class Forgetful(LedgerProcessRecorder):
    """Appends and forgets the position: what the library's tests are there to notice."""

    def _tracked(self, tracking: Tracking | None) -> None:
        return None


def test_a_recorder_that_forgets_the_position_is_noticed(request: pytest.FixtureRequest) -> None:
    members = {"recorder_class": Forgetful}
    case: Any = type("Control", (Processes, persistence.ProcessRecorderTestCase), members)
    for name in sorted(names_of_tests(case) - {"test_performance"}):
        test, outcome = case(name), Outcome()
        with ExitStack() as stack:
            test.opening = lambda stack=stack: in_memory(request, stack)
            test.run(outcome)
        assert outcome.failures and not outcome.errors, name

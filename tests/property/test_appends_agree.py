"""Random interleavings of appends against a model of ten lines: no tree, no groups, no store."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.draft import Draft
from ledger.errors import ConflictError
from ledger.opening import Ledger, create_ledger, open_ledger
from ledger.receipt import check_receipt
from ledger.writer import Appended
from tests.support.ledgers import ORIGIN, SettableClock, check_whole, note, seeded

STREAMS = ("note/a", "note/b", "note/c")


@dataclass(frozen=True)
class Step:
    """One request: drafts as (stream, text, expected version), a key, the clock's step."""

    drafts: tuple[tuple[str, str, int | None], ...]
    key: str | None
    tick: int
    wait: bool


def steps() -> st.SearchStrategy[list[Step]]:
    draft = st.tuples(
        st.sampled_from(STREAMS),
        st.sampled_from(["x", "y"]),
        st.one_of(st.none(), st.integers(0, 4)),
    )
    step = st.builds(
        Step,
        drafts=st.lists(draft, min_size=1, max_size=4).map(tuple),
        key=st.one_of(st.none(), st.sampled_from(["k1", "k2", "k3"])),
        tick=st.integers(-5, 5),
        wait=st.booleans(),
    )
    return st.lists(step, max_size=25)


@dataclass
class Model:
    """What an append does, said as plainly as possible."""

    log: list[tuple[str, str]] = field(default_factory=list)
    keys: dict[str, tuple[tuple[tuple[str, str], ...], int]] = field(default_factory=dict)

    def append(self, step: Step) -> tuple[int, bool] | None:
        """(first index, repeated), or None for a conflict."""
        body = tuple((stream, text) for stream, text, _ in step.drafts)
        if step.key in self.keys:
            used, first = self.keys[step.key]
            return (first, True) if used == body else None
        versions = {name: sum(stream == name for stream, _ in self.log) for name in STREAMS}
        for stream, _, expected in step.drafts:
            if expected not in (None, versions[stream]):
                return None
            versions[stream] += 1
        first = len(self.log)
        self.log += body
        if step.key is not None:
            self.keys[step.key] = (body, first)
        return first, False


def drafts_of(step: Step) -> list[Draft]:
    return [note(text, stream, expected=expected) for stream, text, expected in step.drafts]


def run(ledger: Ledger, clock: SettableClock, history: list[Step], model: Model) -> None:
    """Submit in order, waiting now and then, so that groups of every size come about."""
    vkey, pending = ledger.vkey, []
    for step in history:
        clock.now += step.tick
        future = ledger.writer.submit(drafts_of(step), idempotency_key=step.key)
        pending.append((future, step, model.append(step)))
        if step.wait:
            future.exception(20)
    for future, step, expected in pending:
        if expected is None:
            assert isinstance(future.exception(20), ConflictError), step
            continue
        done: Appended = future.result(20)
        assert (done.first_index - 1, done.repeated) == expected
        for position, receipt in enumerate(done.receipts):
            entry, checkpoint = check_receipt(receipt, vkey)
            assert (entry.index, checkpoint.size) == (done.first_index + position, done.tree_size)


def check_same(ledger: Ledger, model: Model) -> None:
    found = [(record.stream, record.data) for record in ledger.reader.entries(1)]
    assert found == [(stream, {"text": text}) for stream, text in model.log]
    check_whole(ledger.store, ledger.reader)


@given(steps())
def test_memory_agrees_with_the_model(history: list[Step]) -> None:
    clock, model = SettableClock(), Model()
    with create_ledger("memory:", origin=ORIGIN, clock=clock, entropy=seeded()) as ledger:
        run(ledger, clock, history, model)
        check_same(ledger, model)


@settings(max_examples=25)
@given(st.lists(steps(), min_size=1, max_size=3))
def test_sqlite_agrees_with_the_model_over_several_openings(histories: list[list[Step]]) -> None:
    clock, model = SettableClock(), Model()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'asof.db'}"
        create_ledger(url, origin=ORIGIN, clock=clock).close()
        for history in histories:
            with open_ledger(url, clock=clock) as ledger:
                run(ledger, clock, history, model)
                check_same(ledger, model)

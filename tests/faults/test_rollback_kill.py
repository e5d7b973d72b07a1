"""SIGKILL of a real process at each named point of a rollback, then another process goes on.

Real git, real files, a real SQLite ledger. Afterwards: the files are those of the target, byte for
byte; the declared state has the target's digest; each system acted at most once; the ledger is
whole and tells what happened.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from connectors.saga import POINTS
from ledger.audit import verify
from ledger.errors import ConflictError
from ledger.opening import open_ledger
from tests.support.real_pipeline import (
    NEW,
    OLD,
    ROLLBACK,
    SLOTS,
    build,
    declared,
    digests,
    effects,
    git,
    run_rollback,
    saga_in,
    url_of,
)

STEP_POINTS = POINTS[:4]
ONCE = POINTS[4:]
# Between the outcome of a step and the intent of the next nothing is done: one kill for both.
KILLS = [("before-intent", 1)]
KILLS += [(point, number) for number in range(1, len(SLOTS) + 1) for point in STEP_POINTS[1:]]
KILLS += [(point, 1) for point in ONCE]
SECOND_KILLS = [("before-intent", 1), ("after-intent", 1), ("after-effect", 2)]


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """A server that has imported everything and forks clean children quickly."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.real_pipeline"])
    return context


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built pipeline, and a copy of it beside: versions name absolute paths."""
    folder = tmp_path_factory.mktemp("rollback") / "pipeline"
    build(folder)
    shutil.copytree(folder, folder.with_suffix(".saved"), symlinks=True)
    return folder


@pytest.fixture
def folder(prepared: Path) -> Iterator[Path]:
    """The pipeline as it was built."""
    shutil.rmtree(prepared)
    shutil.copytree(prepared.with_suffix(".saved"), prepared, symlinks=True)
    yield prepared


def run_child(processes: ForkServerContext, folder: Path, point: str, number: int) -> int:
    child = processes.Process(target=run_rollback, args=(folder, point, number))
    child.start()
    child.join(timeout=60)
    assert child.exitcode is not None, "the child hangs"
    return child.exitcode


def check_reached(folder: Path) -> None:
    """All that a completed rollback promises."""
    assert digests(folder) == OLD
    assert git(folder, "status", "--porcelain") == ""
    with open_ledger(url_of(folder)) as ledger:
        types = [record.type for record in ledger.reader.stream(f"rollback/{ROLLBACK}")]
        assert types[-1] == "rollback.completed/1"
        [done] = [
            record
            for record in ledger.reader.stream(f"rollback/{ROLLBACK}")
            if record.type == "rollback.completed/1"
        ]
        good = next(ledger.reader.stream(f"rollback/{ROLLBACK}")).data
        assert good is not None and done.data is not None
        target = declared(ledger, f"index:{good['target']['index']}")
        assert declared(ledger).state_digest == target.state_digest == done.data["state_digest"]
        assert verify(ledger.store, vkey=ledger.vkey).result == "VALID"
    assert max(Counter(effects(folder)).values()) == 1
    assert git(folder, "rev-list", "--count", "main") == "3", "one commit forward, no more"


def test_a_rollback_brings_everything_back(folder: Path) -> None:
    assert digests(folder) == NEW
    with saga_in(folder, lambda _point: None) as saga:
        assert saga.run(ROLLBACK).status == "completed"
    check_reached(folder)
    assert effects(folder) == list(SLOTS)


@pytest.mark.parametrize(("point", "number"), KILLS, ids=lambda value: str(value))
def test_f32_a_kill_at_each_point_then_another_process(
    processes: ForkServerContext, folder: Path, point: str, number: int
) -> None:
    assert run_child(processes, folder, point, number) == -signal.SIGKILL
    assert run_child(processes, folder, "nowhere", 0) == 0
    check_reached(folder)


def test_the_check_convicts_a_rollback_that_nobody_went_on_with(
    processes: ForkServerContext, folder: Path
) -> None:
    """Negative control: killed before the last batch, all files are back and it is not done."""
    assert run_child(processes, folder, "before-compensation", 1) == -signal.SIGKILL
    assert digests(folder) == OLD
    with pytest.raises(AssertionError, match=r"rollback\.step\.finished/1"):
        check_reached(folder)


@pytest.mark.parametrize(("second", "number"), SECOND_KILLS, ids=lambda value: str(value))
def test_f32_a_second_kill_while_going_on(
    processes: ForkServerContext, folder: Path, second: str, number: int
) -> None:
    assert run_child(processes, folder, "after-intent", 1) == -signal.SIGKILL
    run_child(processes, folder, second, number)
    assert run_child(processes, folder, "nowhere", 0) == 0
    check_reached(folder)


def test_f34_a_second_executor_is_told_that_there_is_one(folder: Path) -> None:
    def second(point: str) -> None:
        if point == "after-intent":
            with saga_in(folder, lambda _point: None) as other:
                with pytest.raises(ConflictError, match="being run by another process"):
                    other.run(ROLLBACK)

    with saga_in(folder, second) as saga:
        assert saga.run(ROLLBACK).status == "completed"
    check_reached(folder)


def test_the_claim_of_a_killed_executor_is_free(processes: ForkServerContext, folder: Path) -> None:
    assert run_child(processes, folder, "after-intent", 2) == -signal.SIGKILL
    with saga_in(folder, lambda _point: None) as saga:
        assert saga.run(ROLLBACK).status == "completed"


def test_f33_a_file_changed_by_a_human_is_left_alone(folder: Path) -> None:
    (folder / "models/model.bin").write_text("mended by hand")
    with saga_in(folder, lambda _point: None) as saga:
        rollback = saga.run(ROLLBACK)
    assert rollback.status == "failed"
    assert [difference.slot for difference in rollback.differences] == ["model"]
    assert digests(folder) == {**NEW, "models/model.bin": "mended by hand"}
    assert effects(folder) == []


def test_a_missing_object_ends_the_plan_before_anything_happens(folder: Path) -> None:
    shutil.rmtree(folder / "asof.objects")
    with saga_in(folder, lambda _point: None) as saga:
        rollback = saga.run(ROLLBACK)
    assert rollback.status == "failed"
    assert "cannot be restored: missing" in rollback.why
    assert digests(folder) == NEW


def test_f35_what_reads_back_wrong_is_never_completed(folder: Path) -> None:
    def meddle(point: str) -> None:
        if point == "after-outcome" and len(effects(folder)) == len(SLOTS):
            (folder / "data/orders.csv").write_text("day,units\n")

    with saga_in(folder, meddle) as saga:
        rollback = saga.run(ROLLBACK)
    assert rollback.status == "failed"
    assert [difference.slot for difference in rollback.differences] == ["data/orders"]
    with open_ledger(url_of(folder)) as ledger:
        now = {slot: binding.asset_version for slot, binding in declared(ledger).bindings.items()}
        assert all(step.from_ == now[step.slot] for step in rollback.steps), "declared as before"

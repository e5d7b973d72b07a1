"""A real pipeline in a folder: git, files, a SQLite ledger, and a plan to roll it all back.

Everything here is what the program itself would do, without the command line: capture through the
connectors, record and bind, ask for the two states, plan the difference. `run_rollback` is what a
process of its own executes; it can be told to kill itself at a named point.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from connectors import connector_for
from connectors.claim import claim_in
from connectors.connector import Connector, Outcome, RestoreStep, Settings
from connectors.declared import asset_version
from connectors.saga import Saga
from ledger.clock import system_clock
from ledger.events import draft
from ledger.events.rollbacks import RollbackPlanned, RollbackTarget
from ledger.lifecycle.rollback import Rollback
from ledger.lifecycle.rollbacks import Rollbacks
from ledger.opening import Ledger, create_ledger, open_ledger
from projections.at import parse_at
from projections.index import Index
from projections.plan import plan
from projections.state import State, state

PIPELINE, STAGE = "shop-forecast", "production"
ROLLBACK = "2026-11-21-1"
ACTOR = "service:asof"

# In the order of a cross-system restore: data, code, model.
SLOTS: dict[str, tuple[str, str, str]] = {
    "data/images": ("files", "dataset", "data/images"),
    "data/orders": ("files", "dataset", "data/orders.csv"),
    "code": ("git", "code", "shop"),
    "model": ("files", "model", "models/model.bin"),
}
OLD = {
    "data/orders.csv": "day,units\n1,7\n",
    "data/images/a.txt": "first image",
    "data/images/deep/b.txt": "second image",
    "shop/train.py": "print('good')\n",
    "shop/params.yaml": "impute: median\n",
    "models/model.bin": "weights of the good model",
}
NEW = {
    "data/orders.csv": "day,units\n1,9\n2,8\n",
    "data/images/a.txt": "another image",
    "data/images/c.txt": "a third image",
    "shop/train.py": "print('biased')\n",
    "shop/params.yaml": "impute: zero\n",
    "models/model.bin": "weights of the biased model",
}


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/asof.db"


def settings(folder: Path) -> Settings:
    return Settings(environ=dict(os.environ), objects=folder / "asof.objects", trust_owner=True)


def write(folder: Path, files: dict[str, str]) -> None:
    """Exactly these files, in the folders that they name; git keeps its own."""
    for name in ("data", "models"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def git(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "GIT_AUTHOR_NAME": "mia",
        "GIT_AUTHOR_EMAIL": "mia@example.com",
        "GIT_COMMITTER_NAME": "mia",
        "GIT_COMMITTER_EMAIL": "mia@example.com",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": str(folder),
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder / "shop",
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def capture(ledger: Ledger, folder: Path, slot: str) -> None:
    """What is there now is kept, recorded and bound, in one batch."""
    system, kind, target = SLOTS[slot]
    connector = connector_for(system, settings(folder))
    [seen] = connector.observe(str(folder / target), kind=kind, name=slot)
    assert seen.asset is not None
    bind_version(ledger, slot, seen.asset.as_event_data(), seen.asset.ref)


def bind_version(ledger: Ledger, slot: str, version: dict[str, Any], ref: str) -> None:
    binding = {"pipeline": PIPELINE, "stage": STAGE, "slot": slot, "asset_version": ref}
    now = system_clock()
    ledger.writer.append(
        [
            draft(("asset.version.recorded/1", version), actor="user:mia", now=now),
            draft(("binding.changed/1", binding), actor="user:mia", now=now),
        ]
    )


def declared(ledger: Ledger, at: str | None = None) -> State:
    """The state that the ledger declares, now or at `at`."""
    now = system_clock()
    moment = None if at is None else parse_at(at, reader=ledger.reader, now=now)
    with closing(Index.open(None, ledger.reader)) as index:
        index.catch_up()
        return state(ledger.reader, index, PIPELINE, STAGE, at=moment, now=now)


def digests(folder: Path) -> dict[str, str]:
    """What is in the folders, file by file."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for name in ("data", "models", "shop")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and ".git" not in path.parts
    }


def build(folder: Path) -> None:
    """Old, captured; new, captured; a plan back to old, approved."""
    folder.mkdir()
    write(folder, OLD)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "the good version")
    with create_ledger(url_of(folder), origin="ledger.example.com/shop") as ledger:
        for slot in SLOTS:
            capture(ledger, folder, slot)
        good = ledger.reader.size() - 1
        write(folder, NEW)
        commit(folder, "a preprocessing change")
        for slot in SLOTS:
            capture(ledger, folder, slot)
        plan_back(ledger, folder, f"index:{good}")


def plan_back(
    ledger: Ledger, folder: Path, at: str, slots: tuple[str, ...] = (), *, name: str = ROLLBACK
) -> None:
    """Requested, planned and approved by who asked, as `--yes` does it."""
    rollbacks = Rollbacks(ledger.writer, ledger.reader, actor=ACTOR, clock=system_clock)
    rollback = Rollback.requested(
        name,
        pipeline=PIPELINE,
        stage=STAGE,
        target=RollbackTarget(index=int(at.removeprefix("index:"))),
        actor="user:mia",
        slots=slots,
    )
    rollback.propose(planned(ledger, folder, at, slots), ACTOR)
    rollback.approve(rollback.plan.plan_digest, "user:mia")
    rollbacks.store(rollback)


def planned(ledger: Ledger, folder: Path, at: str, slots: tuple[str, ...]) -> RollbackPlanned:
    made = plan(declared(ledger), declared(ledger, at), slots=slots)
    connectors = {step.slot: connector_for(step.system, settings(folder)) for step in made.steps}
    versions = {
        step.slot: asset_version(ledger.reader, step.to.asset_version)
        for step in made.steps
        if step.to is not None
    }
    return made.with_availability(
        {slot: one.available(versions[slot]).status for slot, one in connectors.items()},
        {slot: one.idempotency for slot, one in connectors.items()},
    ).as_event()


class Counted:
    """A real connector whose effects are counted in a file that survives the process."""

    def __init__(self, connector: Connector, tally: Path) -> None:
        self._connector = connector
        self._tally = tally

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def restore(self, step: RestoreStep) -> Outcome:
        outcome = self._connector.restore(step)
        with self._tally.open("a") as tally:
            tally.write(json.dumps([step.slot, outcome.status]) + "\n")
        return outcome


class KillAt:
    """Kills this process, as nothing else can, at the n-th time that it passes a point."""

    def __init__(self, point: str, number: int) -> None:
        self._point = point
        self._left = number

    def __call__(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def saga_in(folder: Path, point: Callable[[str], None]) -> Iterator[Saga]:
    """The executor as a process makes it: everything opened from the folder alone."""
    with open_ledger(url_of(folder)) as ledger:
        yield Saga(
            rollbacks=Rollbacks(ledger.writer, ledger.reader, actor=ACTOR, clock=system_clock),
            connectors=lambda system: Counted(  # type: ignore[return-value]
                connector_for(system, settings(folder)), folder / "tally"
            ),
            actor=ACTOR,
            clock=system_clock,
            claim=claim_in(folder),
            point=point,
        )


def run_rollback(folder: Path, point: str, number: int) -> None:
    """What the child process does."""
    with saga_in(folder, KillAt(point, number)) as saga:
        saga.run(ROLLBACK)


def effects(folder: Path) -> list[str]:
    """The slots on which a system really acted, in order, over all processes."""
    if not (folder / "tally").exists():
        return []
    lines = (folder / "tally").read_text().splitlines()
    return [slot for slot, status in map(json.loads, lines) if status == "done"]

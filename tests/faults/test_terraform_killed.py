"""SIGKILL between a state that was sent and its entry: nothing lost, nothing recorded twice.

Terraform sends what was not answered again, as far as it can; what was answered it never sends
again. The controls: a backend that answers before it keeps loses a state, and recording without
keys records one twice. The check sees both.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from api.main import ingest_translators
from api.service.ingest.recording import Ingest
from api.service.ingest.spool import Spool
from api.service.terraform.backend import Backend
from api.service.terraform.states import States
from api.service.terraform.telling import Telling
from ledger.draft import Draft
from ledger.opening import Ledger, create_ledger, open_ledger
from ledger.writer import Appended
from tests.support.ingest_killing import Kill
from tests.support.ledgers import NOON, ORIGIN
from tests.support.terraform import state

POINTS = ("keeping", "kept", "answered", "telling", "spooled", "told", "appended")
COUNT = 3
ACTOR = "service:ci"


class KillingStates(States):
    """The real file, with a death before and after what it makes durable."""

    kill: Kill

    def put(self, *arguments: Any, **named: Any) -> Any:
        self.kill.at("keeping")
        held = super().put(*arguments, **named)
        self.kill.at("kept")
        return held

    def told(self, fact: int) -> None:
        self.kill.at("spooled")
        super().told(fact)
        self.kill.at("told")


class _Here:
    """One ledger, as ingest needs it."""

    name = "acme"

    def __init__(self, ledger: Ledger, kill: Kill, *, keyed: bool) -> None:
        self.reader = ledger.reader
        self._ledger = ledger
        self._kill = kill
        self._keyed = keyed

    async def append(self, drafts: Sequence[Draft], *, key: str | None = None) -> Appended:
        told = self._ledger.writer.submit(drafts, idempotency_key=key if self._keyed else None)
        done = await asyncio.wrap_future(told)
        self._kill.at("appended")
        return done


async def send(folder: Path, kill: Kill, *, keyed: bool, keeps_first: bool) -> None:
    """Send what has no answer, one by one, and record what waits in between."""
    KillingStates.kill = kill
    states = KillingStates(folder / "terraform.db", keep=10)
    with open_ledger(f"sqlite:///{folder}/asof.db", keys=folder / "keys") as ledger:
        here = cast("Any", _Here(ledger, kill, keyed=keyed))
        backend = Backend(states, {ORIGIN: folder / "keys"})
        ingest = Ingest(Spool(folder / "spool.db"), cast("Any", {"acme": here}), TRANSLATORS)
        telling = Telling(states, ingest, cast("Any", {"acme": here}))

        async def record() -> None:
            kill.at("telling")
            await telling.drain()
            await ingest.drain()

        for serial in range(1, COUNT + 1):
            if serial in answered(folder):
                continue
            body = state(serial)
            if keeps_first:
                backend.write(ORIGIN, "prod", body, lock_id=None, actor=ACTOR, now=NOON + serial)
            with (folder / "answers").open("a") as journal:
                journal.write(f"{serial}\n")
            kill.at("answered")
            if not keeps_first:
                backend.write(ORIGIN, "prod", body, lock_id=None, actor=ACTOR, now=NOON + serial)
            await record()
        await record()


TRANSLATORS = ingest_translators()


def answered(folder: Path) -> set[int]:
    journal = folder / "answers"
    return {int(line) for line in journal.read_text().split()} if journal.exists() else set()


def run(folder: Path, kill: Kill, *, keyed: bool = True, keeps_first: bool = True) -> int:
    """Two children, one after the other: the first is to die. How many did."""
    create_ledger(f"sqlite:///{folder}/asof.db", origin=ORIGIN, keys=folder / "keys").close()
    died = 0
    for mine in (kill, Kill("never", 1)):
        child = os.fork()
        if child == 0:
            code = 3
            try:
                asyncio.run(send(folder, mine, keyed=keyed, keeps_first=keeps_first))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            died += 1
        else:
            assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return died


def check(folder: Path) -> None:
    """Each state is kept and recorded once, in order. Raises AssertionError."""
    assert answered(folder) == set(range(1, COUNT + 1))
    states = States(folder / "terraform.db", keep=10)
    kept = Backend(states, {ORIGIN: folder / "keys"}).read(ORIGIN, "prod")
    versions = [one["version"].split("-")[0] for one in states.versions(ORIGIN, "prod")]
    assert states.untold(ORIGIN, limit=10) == [], "everything is told"
    states.close()
    assert versions == ["3", "2", "1"] and kept == state(COUNT), "each is kept"
    with open_ledger(f"sqlite:///{folder}/asof.db", keys=folder / "keys") as ledger:
        told = [entry.data or {} for entry in ledger.reader.entries() if entry.index > 0]
    assert [one["metadata"]["serial"] for one in told] == [1, 2, 3], "each once"


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_nothing_and_doubles_nothing(tmp_path: Path, point: str, nth: int) -> None:
    assert run(tmp_path, Kill(point, nth)) == 1, "exactly one child died"
    check(tmp_path)


def test_answering_before_keeping_is_found_out(tmp_path: Path) -> None:
    assert run(tmp_path, Kill("answered", 2), keeps_first=False) == 1
    with pytest.raises(AssertionError, match="each is kept"):
        check(tmp_path)


def test_recording_without_keys_is_found_out(tmp_path: Path) -> None:
    assert run(tmp_path, Kill("appended", 2), keyed=False) == 1
    with pytest.raises(AssertionError, match="each once"):
        check(tmp_path)

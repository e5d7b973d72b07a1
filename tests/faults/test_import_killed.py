"""SIGKILL in the middle of an import, then the same command again: each event once, in order.

The control at the end imports without keys and shows that the check would see a repetition.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from api.event_files import JsonLines
from api.import_pieces import Piece, pieces_of
from api.importing import append_events
from ledger.clock import system_clock
from ledger.keys import GUARD_FILE, load_key
from ledger.opening import open_ledger
from ledger.places import place_of, sqlite_path
from ledger.stores.sqlite import SqliteStore
from ledger.writer import Writer
from tests.support.crashing import POINTS, Crash, CrashingGuard, CrashingStore, run_child
from tests.support.ledgers import SettableClock, check_whole, seeded, sqlite_ledger, sqlite_url

CHECKOUT = Path(__file__).resolve().parents[2]
EVENTS = 6_300
NOT_IN_AN_IMPORT = {"prepare", "clock", "answered"}


@dataclass(frozen=True)
class World:
    url: str
    file: Path
    texts: list[bytes]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    with path.open("w", encoding="utf-8", newline="\r\n") as file:
        for number in range(EVENTS):
            event = {
                "type": "note.added/1",
                "stream": f"note/{number % 7}",
                "effective_at": f"2024-05-{number % 28 + 1:02}T09:00:00Z",
                "data": {"text": f"n{number}"},
            }
            file.write(json.dumps(event) + "\n")
    return path


@pytest.fixture
def world(tmp_path: Path, history: Path) -> World:
    sqlite_ledger(tmp_path).close()
    return World(sqlite_url(tmp_path), history, [b'"n%d"' % n for n in range(EVENTS)])


def import_until_killed(
    world: World, crash: Crash, keyed: Callable[[Piece], Piece] = lambda piece: piece
) -> int:
    """The exit code of a child that imports and dies at `crash`."""

    def work() -> None:
        path = sqlite_path(world.url)
        folder = place_of(world.url).beside(".keys")
        store = CrashingStore(SqliteStore.open(path), crash)
        guard = CrashingGuard(folder / GUARD_FILE, crash)
        with (
            Writer(
                store,  # type: ignore[arg-type]  # all of it, by __getattr__
                load_key(folder),
                guard=guard,
                clock=SettableClock(),
                entropy=seeded(os.getpid()),
            ) as writer,
            world.file.open("rb") as file,
        ):
            pieces = pieces_of(JsonLines(file), actor="user:7", clock=system_clock)
            append_events(writer, map(keyed, pieces), progress=lambda done, total: None)
        store.close()

    return run_child(work)


def import_again(world: World) -> int:
    """How many events were there already."""
    with open_ledger(world.url, clock=SettableClock()) as ledger, world.file.open("rb") as file:
        pieces = pieces_of(JsonLines(file), actor="user:7", clock=system_clock)
        return append_events(ledger.writer, pieces, progress=lambda done, total: None).repeated


def recorded(world: World) -> list[bytes]:
    with open_ledger(world.url, write=False) as ledger:
        check_whole(ledger.store, ledger.reader)
        rows = ledger.store.rows(1, ledger.reader.size())
        return [(row.payload or b"").rpartition(b":")[2].rstrip(b"}") for row in rows]


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", [point for point in POINTS if point not in NOT_IN_AN_IMPORT])
def test_killed_at_a_named_point_and_started_again(world: World, point: str, nth: int) -> None:
    assert import_until_killed(world, Crash(point, nth)) == -signal.SIGKILL
    there = recorded(world)
    assert there == world.texts[: len(there)]
    assert import_again(world) == len(there)
    assert recorded(world) == world.texts


def test_killed_again_and_again(world: World) -> None:
    """Each run dies within its second transaction that writes; they add up to the whole."""
    for _ in range(20):
        status = import_until_killed(world, Crash("write", 2))
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert import_again(world) == EVENTS
    assert recorded(world) == world.texts


def test_the_program_is_killed_while_it_imports(world: World) -> None:
    """The real command, from a pipe, at an instant that nobody chose."""
    command = [sys.executable, "-m", "api.cli", "--store", world.url, "import", "-"]
    command += ["--actor", "user:7", "-o", "json"]
    with world.file.open("rb") as file:
        importing = subprocess.Popen(
            command, cwd=CHECKOUT, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_entries(world, importing)
        importing.send_signal(signal.SIGKILL)
        importing.wait()
    there = len(recorded(world))
    with world.file.open("rb") as file:
        again = subprocess.run(command, cwd=CHECKOUT, stdin=file, capture_output=True, check=True)
    answer = json.loads(again.stdout)
    assert (answer["repeated"], answer["recorded"]) == (there, EVENTS - there)
    assert recorded(world) == world.texts


def wait_for_entries(world: World, importing: subprocess.Popen[bytes]) -> None:
    """Until the first piece is committed, or the program has come to its end."""
    with open_ledger(world.url, write=False) as ledger:
        for _ in range(6_000):
            if ledger.reader.size() > 1 or importing.poll() is not None:
                return
            time.sleep(0.005)
    raise AssertionError("nothing was imported within 30 s")


def test_control_without_keys_it_repeats(world: World) -> None:
    def without_key(piece: Piece) -> Piece:
        return replace(piece, held=piece.batch()._replace(key=None, digest=b""))

    assert import_until_killed(world, Crash("committed", 3), without_key) == -signal.SIGKILL
    there = recorded(world)
    assert there
    import_again(world)
    assert len(recorded(world)) > EVENTS

"""Processes of a server: who they are, how they end, and that they end when we do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from scripts.clusters.accounts import SERVER_ENVIRONMENT, run_as

__all__ = ["Watcher", "children_of", "kill_all", "wait_until"]

# Ends when the other end of its standard input is closed, however we die. `read` fails then, and
# the server that the data folder names, if any, is told to stop at once. Data in memory would stay
# there for ever: they are removed when nobody uses them any more.
WATCH = """
read -r line
pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid"
case "$1" in /dev/shm/*)
  while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  rm -rf "$1"
esac
"""


class Watcher:
    """Stops the server of a data folder if this process dies without having done so."""

    def __init__(self, data: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "watch", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=SERVER_ENVIRONMENT,
            **run_as(),
        )

    def close(self) -> None:
        """There is nothing left to watch."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


def children_of(parent: int) -> list[int]:
    """The processes that `parent` started and that have not ended."""
    return [pid for pid, (owner, state) in _table().items() if owner == parent and state != "Z"]


def kill_all(parent: int) -> None:
    """SIGKILL a process and its children; it is stopped first, so that none slips through."""
    _send(parent, signal.SIGSTOP)
    victims = [parent, *children_of(parent)]
    for pid in victims:
        _send(pid, signal.SIGKILL)
    wait_until(lambda: not _alive(victims), "killed processes to be gone")


def wait_until(holds: Callable[[], bool], what: str, *, seconds: float = 30.0) -> None:
    """Ask every few milliseconds. Raises: TimeoutError."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.005)


def _alive(pids: Iterable[int]) -> list[int]:
    """Without those that only wait for a parent to ask how they ended."""
    table = _table()
    return [pid for pid in pids if pid in table and table[pid][1] != "Z"]


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _table() -> dict[int, tuple[int, str]]:
    """Parent and state of every process."""
    if Path("/proc/self/stat").exists():
        return dict(filter(None, map(_from_proc, Path("/proc").glob("[0-9]*"))))
    listed = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True)
    rows = (line.split() for line in listed.stdout.splitlines())
    return {int(pid): (int(parent), state[0]) for pid, parent, state in rows}


def _from_proc(folder: Path) -> tuple[int, tuple[int, str]] | None:
    try:
        text = (folder / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = text.rpartition(")")[2].split()[:2]
    return int(folder.name), (int(parent), state)

"""A cluster of PostgreSQL that belongs to the test: every way to end it, and to begin again."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg import conninfo, sql

from scripts.clusters.accounts import SERVER_ENVIRONMENT, give, run_as
from scripts.clusters.processes import Watcher, kill_all
from scripts.clusters.template import copy_of_template

__all__ = ["Cluster", "ClusterError", "Server"]

LOOPBACK: Final = "127.0.0.1"
# Below the range that outgoing connections take theirs from, so that a killed server finds its port
# still free.
PORTS: Final = range(20_000, 30_000)

DURABLE: Final[Mapping[str, str]] = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "log_line_prefix": "%m [%p] ",
}
"""As durable as a server that people trust."""

FAST: Final[Mapping[str, str]] = {
    "shared_buffers": "16MB",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "autovacuum": "off",
}
"""For tests that are about something else: small, and nothing runs beside them. The ledger refuses
a server without fsync, so that stays."""

STOPS: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# What PostgreSQL says while processes of a killed server still hold the data folder, or its port.
HELD: Final = ("is still in use", "already exists", "Address already in use")


class ClusterError(Exception):
    """A server did not do what it was told; the end of its log is in the message."""


class Server:
    """A server that is there: databases can be made in it and dropped."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def dsn(self, database: str = "postgres", user: str | None = None) -> str:
        """A URL for `database`, as its administrator or, without a password, as another."""
        said = conninfo.conninfo_to_dict(self._dsn)
        secret = said.pop("password", None)
        login = quote(str(user or said.get("user") or "postgres"), safe="")
        if user is None and secret:
            login += f":{quote(str(secret), safe='')}"
        rest = {name: said[name] for name in said if name not in ("user", "dbname")}
        return f"postgresql://{login}@/{quote(database, safe='')}?{urlencode(rest)}"

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[Any]:
        """Run one statement as administrator, outside of a transaction, and return its rows."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._run("CREATE DATABASE {} TEMPLATE template0", name)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _run(self, statement: str, name: str) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))  # type: ignore[arg-type]


class Cluster(Server):
    """A server and its data folder. Leaving the `with` block kills what still runs."""

    def __init__(self, folder: Path, bindir: Path, port: int) -> None:
        super().__init__(f"postgresql://postgres@{LOOPBACK}:{port}/postgres")
        self.folder, self.bindir, self.port = folder, bindir, port
        self.data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher = Watcher(self.data)

    @classmethod
    def create(
        cls,
        folder: Path,
        bindir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        fast: bool = False,
    ) -> Self:
        """A new, stopped cluster in `folder`, which must not exist and be where the server's
        account can enter (`cluster_folder`). `settings` go over the defaults."""
        folder.mkdir(mode=0o755)
        give(folder)
        copy_of_template(bindir, folder / "data")
        cluster = cls.over(folder, bindir)
        cluster.configure({**DURABLE, **(FAST if fast else {}), **(settings or {})})
        return cluster

    @classmethod
    def over(cls, folder: Path, bindir: Path) -> Self:
        """A stopped cluster whose files are in `folder / "data"` already."""
        return cls(folder, bindir, _free_port())

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write settings into the configuration file; they hold from the next start or reload."""
        lines = [
            f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()
        ]
        with open(self.data / "postgresql.conf", "a") as file:
            file.write("\n".join(["", *lines, ""]))

    # ------------------------------------------------------------------------ start and end

    def start(self, *, seconds: float = 60.0) -> None:
        """Return when it takes connections, recovery included. What a killed server left behind
        is waited for. Raises: ClusterError with the end of the log."""
        self._bury()
        end = time.monotonic() + seconds
        while not self._try_start(end):
            time.sleep(0.05)

    def _bury(self) -> None:
        """Ask how a server ended that was killed from outside; its number is free only then."""
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                raise ClusterError(f"{self.folder.name} runs already") from None

    def _try_start(self, end: float) -> bool:
        begin = self._log.stat().st_size if self._log.exists() else 0
        with open(self._log, "ab") as log:
            process = subprocess.Popen(
                [self.bindir / "postgres", "-D", self.data, *self._where()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=SERVER_ENVIRONMENT,
                start_new_session=True,
                **run_as(),
            )
        self._process = process
        while process.poll() is None and not self._is_ready(process.pid):
            if time.monotonic() > end:
                self.kill()
                raise ClusterError(f"it was not ready in time:\n{self.log_text()[-2000:]}")
            time.sleep(0.005)
        if process.poll() is None:
            return True
        self._process = None
        said = self._log.read_bytes()[begin:].decode(errors="replace")
        if time.monotonic() > end or not any(words in said for words in HELD):
            raise ClusterError(f"it ended with {process.returncode}:\n{said[-2000:]}")
        return False

    def _where(self) -> list[str]:
        """On the command line, out of reach of `ALTER SYSTEM` and of copied configurations."""
        return [
            *("-c", f"port={self.port}"),
            *("-c", f"listen_addresses={LOOPBACK}"),
            *("-c", f"unix_socket_directories={self.folder}"),
        ]

    def _is_ready(self, pid: int) -> bool:
        """Line 1 of the file is the process, line 8 its state (src/include/utils/pidfile.h)."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in ("ready", "standby")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster. Raises: ClusterError where there is none."""
        if self._process is None or not self.is_running:
            raise ClusterError(f"{self.folder.name} does not run")
        return self._process.pid

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """`fast` ends sessions and writes a checkpoint; `immediate` does neither."""
        if self.pid and self._process is not None:
            self._process.send_signal(STOPS[mode])
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """SIGKILL, the postmaster and all its children, as the power does; disks keep what was
        written to them."""
        if self._process is not None:
            kill_all(self.pid if self.is_running else self._process.pid)
            self._process.wait()
            self._process = None

    def reload(self) -> None:
        """Read the configuration again."""
        self.execute("SELECT pg_reload_conf()")

    def close(self) -> None:
        """Kill what runs. The folder stays, for whoever wants to look."""
        self.kill()
        self._watcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, program: str, *arguments: str) -> str:
        """What one of PostgreSQL's programs says, run as the server's account and from its folder.

        Raises: ClusterError where it fails, with its words.
        """
        done = subprocess.run(
            [self.bindir / program, *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=SERVER_ENVIRONMENT,
            **run_as(),
        )
        if done.returncode:
            raise ClusterError(f"{program} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    # ------------------------------------------------------------------------------- asking

    def dsn(self, database: str = "postgres", user: str | None = None) -> str:
        return f"postgresql://{quote(user or 'postgres')}@{LOOPBACK}:{self.port}/{quote(database)}"

    def socket_dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """The URL through the Unix socket."""
        where = urlencode({"host": str(self.folder), "port": self.port})
        return f"postgresql://{quote(user)}@/{quote(database)}?{where}"

    def backend_pids(self, database: str | None = None) -> list[int]:
        """The processes that serve clients, of one database or of all; not the one that asks."""
        rows = self.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() AND (%s::text IS NULL OR datname = %s)",
            *(database, database),
        )
        return [pid for (pid,) in rows]

    def log_text(self) -> str:
        """All that the server said since the cluster was made."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _free_port() -> int:
    """A port that nobody listens on now. `start` waits if somebody takes it in between."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port

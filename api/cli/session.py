"""One invocation: its settings, its output, who acts, and the rooms it opens, closed at the end.

A command asks for what it needs and pays for that only: `session.rooms` opens the ledger (for
writing where the command is one that writes) and brings the projections up to date when they are
asked. The rooms are put together in `api.main`, which is imported then.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from api.cli.output import Output
from api.cli.problems import with_store
from api.cli.progress import Tell, progress
from api.cli.terminal import Ink, plain
from api.hints import hinted
from api.settings import Settings, read_settings
from ledger.errors import MalformedError

if TYPE_CHECKING:
    from api.main import Rooms
    from api.remote.rooms import RemoteRooms
    from ledger.note import VerifierKey

__all__ = ["Given", "Session", "actor_id", "settled"]

_ACTOR_KINDS = ("user:", "service:", "agent:")


@dataclass(frozen=True, slots=True)
class Given:
    """The global options that were given on the line, before or after the sub-command."""

    store: str | None = None
    server: str | None = None
    ledger: str | None = None
    output: str | None = None
    quiet: bool = False
    actor: str | None = None

    @staticmethod
    def names() -> tuple[str, ...]:
        return tuple(field.name for field in fields(Given))

    def with_(self, said: dict[str, Any]) -> Given:
        return replace(self, **said)


class Session:
    """What a command is given. A context manager; leaving it closes the ledger."""

    def __init__(self, given: Given, command: str, *, writes: bool = False) -> None:
        self.command = command
        self.writes = writes
        self.settings = settled(given)
        self._store = given.store
        self._stack = ExitStack()
        self._watched = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # --- what it stands on -------------------------------------------------------------------

    @cached_property
    def rooms(self) -> Rooms:
        """The ledger, the projections and the connectors, opened when asked for; a server in their
        place where one is named.
        """
        from api.main import Rooms

        if self.remote is not None:
            return cast("Rooms", self.remote)
        return self._stack.enter_context(
            Rooms(self.settings, write=self.writes, watch=self.progress, notice=self.say)
        )

    @cached_property
    def remote(self) -> RemoteRooms | None:
        """The server that was named, or None."""
        if self.settings.server is None:
            return None
        from api.main import Rooms
        from api.remote.client import Client
        from api.remote.rooms import RemoteRooms

        settings = self.settings
        client = Client(settings.server or "", token=settings.token, ledger=settings.ledger)
        here = Rooms(settings, watch=self.progress, notice=self.say)
        return self._stack.enter_context(RemoteRooms(client, here.observe, _pinned(settings)))

    def beside_the_store(self) -> None:
        """Raises MalformedError where a server was named, for commands that it cannot do."""
        if self.settings.server is not None:
            raise MalformedError(
                f"{self.command} works beside the store, and not with --server: run it where the "
                "ledger lies, or name it with --store"
            )

    @cached_property
    def actor(self) -> str:
        """Who acts. Raises MalformedError for what is not an actor id."""
        return actor_id(self.settings.actor or f"user:{_login_name()}")

    @cached_property
    def now(self) -> int:
        """The one 'now' of this invocation, in microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    # --- what it says ------------------------------------------------------------------------

    @cached_property
    def output(self) -> Output:
        """The standard output in the form asked for."""
        return Output(self.settings.output, sys.stdout, Ink(self._colourful(sys.stdout)))

    @cached_property
    def remarks(self) -> Ink:
        """The pen for the standard error."""
        return Ink(self._colourful(sys.stderr))

    def say(self, text: str) -> None:
        """A remark on the standard error; --quiet silences it."""
        if not self.settings.quiet:
            print(plain(text), file=sys.stderr)  # noqa: T201

    def suggest(self, command: str) -> None:
        """What to do next, with the --store that was given."""
        self.say(f"next: {with_store(command, self._store)}")

    def say_painted(self, line: str) -> None:
        """A line on the standard error that is safe already, such as one of a table."""
        print(line, file=sys.stderr)  # noqa: T201

    @contextmanager
    def progress(self, title: str) -> Iterator[Tell]:
        """A bar on the standard error if this takes longer than half a second; one at a time."""
        shown = self._colourful(sys.stderr) and not self.settings.quiet and not self._watched
        self._watched, before = True, self._watched
        try:
            with progress(title, shown=shown) as tell:
                yield tell
        finally:
            self._watched = before

    def confirm(self, question: str, *, yes: bool, ask: Callable[[], str] = input) -> bool:
        """Ask on a terminal; without one, only `--yes` agrees.

        Raises:
            MalformedError: nobody can be asked, and --yes was not given.
        """
        if yes:
            return True
        if not sys.stdin.isatty():
            raise hinted(
                MalformedError("this needs a confirmation, and the standard input is no terminal"),
                f"{self.command} … --yes",
            )
        print(f"{plain(question)} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
        try:
            return ask().strip().lower() in {"y", "yes"}
        except EOFError:
            return False

    def _colourful(self, stream: Any) -> bool:
        return bool(stream.isatty()) and not self.settings.no_color


def actor_id(text: str) -> str:
    """Return `text` if it is an actor id. Raises MalformedError."""
    kind = next((kind for kind in _ACTOR_KINDS if text.startswith(kind)), "")
    if not kind or len(text) == len(kind) or any(c.isspace() for c in text):
        raise hinted(
            MalformedError(
                f"{text!r} is no actor id: user:…, service:… or agent:…", where="--actor"
            ),
            "--actor user:7, or ASOF_ACTOR=service:trainer",
        )
    return text


def settled(given: Given) -> Settings:
    """The environment, overridden by what the line says."""
    settings = read_settings()
    if given.actor is not None and _server(given, settings) is not None:
        raise MalformedError(
            "at a server the one who acts is whose token it is: leave it out", where="--actor"
        )
    return replace(
        settings,
        store=given.store or settings.store,
        server=_server(given, settings),
        ledger=given.ledger or settings.ledger,
        output=given.output or settings.output,
        quiet=given.quiet or settings.quiet,
        actor=given.actor or settings.actor,
    )


def _server(given: Given, settings: Settings) -> str | None:
    """A --store on the line wins over a server in the environment."""
    if given.server is None and given.store is not None:
        return None
    return given.server or settings.server


def _pinned(settings: Settings) -> VerifierKey | None:
    """The key that a server's acknowledgements must be signed by, where one is given."""
    if settings.vkey is None:
        return None
    from api.verification import vkey_of

    return vkey_of(settings.vkey, where="ASOF_VKEY")


def _login_name() -> str:
    """The operating system's name for who runs this, from the user id: no variable can fake it."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else Path.home().name

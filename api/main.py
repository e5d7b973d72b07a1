"""The composition root: puts the rooms together, and is the only file that names the connectors.

::

    with Rooms(settings, write=True) as rooms:
        rooms.state("forecast", "production", now=now).as_json()
        rooms.writer.append(drafts)

Each room is opened when it is first asked for, and all are closed together. Beside a ledger at
`asof.db` lie `asof.keys/` (signing key, rollback guard), `asof.objects/` (captured bytes) and
`asof.db.index` (projections: may be deleted at any time).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

from api import __version__
from api.hints import MIGRATE, hinted, hinting
from api.settings import Settings, environment
from api.tuning import tune_for_writing
from ledger.clock import system_clock
from ledger.errors import (
    ConflictError,
    MalformedError,
    NotFoundError,
    NotPreparedError,
    RefusedError,
)
from ledger.guard import Guard
from ledger.keys import GUARD_FILE, VKEY_FILE, has_signing_key, load_key, load_vkey
from ledger.note import Signer, format_vkey
from ledger.opening import Ledger, create_ledger, open_ledger
from ledger.places import DatabasePlace, FilePlace, place_of

if TYPE_CHECKING:
    import threading

    from api.remote.rooms import RemoteRooms
    from api.service.ledgers import Served
    from connectors.connector import AssetVersion, Connector
    from connectors.saga import Saga
    from ledger.lifecycle.rollbacks import Rollbacks
    from ledger.reader import Reader
    from ledger.writer import Writer
    from projections.at import Moment
    from projections.index import Index, OnUnfit
    from projections.runner import Wake
    from projections.state import Binding, State
    from projections.tables import Tables

__all__ = [
    "GENERATOR",
    "Rooms",
    "cloudevent_of_headers",
    "create",
    "describe_keys",
    "index_of",
    "ingest_translators",
    "keys_of",
    "objects_of",
    "serve_ledger",
    "webhook_of",
]

GENERATOR = f"asof {__version__}"
POLL_SECONDS = 0.25


class Tell(Protocol):
    """What work that may take long calls with what it has done, and of how much."""

    def __call__(self, done: int, total: int | None = None, /) -> None: ...


Answer = TypeVar("Answer")
Watch = Callable[[str], AbstractContextManager[Tell]]


def _silent(done: int, total: int | None = None, /) -> None:
    """Nobody looks."""


def _unwatched(title: str) -> AbstractContextManager[Tell]:
    return nullcontext(_silent)


class Rooms:
    """Everything that one invocation needs of the house. A context manager; not shared by threads.

    `write` opens the ledger for appending too, which needs its private key; an `opened` one belongs
    to somebody else, who closes it. `watch` is given the title of whatever may take long, and shows
    how it goes on; `notice` is told what went on by itself.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        write: bool = False,
        check: bool = True,
        watch: Watch = _unwatched,
        notice: Callable[[str], None] | None = None,
        opened: Ledger | None = None,
    ) -> None:
        self.settings = settings
        self.remote: RemoteRooms | None = None
        self._given = opened
        self._notice = notice
        self.watch = watch
        self._write = write
        self._check = check
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def keep_open(self) -> None:
        """Give what is open to the caller, who closes it."""
        self._stack.pop_all()

    # --- the ledger ----------------------------------------------------------------------------

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger. Raises NotFoundError, with what to do, where there is none."""
        if self._given is not None:
            return self._given
        place = store_of(self.settings, self._notice)
        if self._write:
            tune_for_writing()
        try:
            with hinting(RefusedError, MIGRATE):
                opened = open_ledger(
                    place, keys=self.settings.keys, write=self._write, check=self._check
                )
        except NotPreparedError:
            raise
        except NotFoundError as error:
            raise hinted(error, self._how_to_begin()) from None
        self._stack.callback(opened.close)
        return opened

    def _how_to_begin(self) -> str:
        """What helps where the ledger, or the key to write to it, is not there."""
        if (keys_of(self.settings) / VKEY_FILE).exists() and self._write:
            return "a command that only asks, or ASOF_KEYS=FOLDER with the signing key"
        if self.in_database:
            return "asof init, or ASOF_KEYS=FOLDER of a ledger that there is"
        return "asof init, or --store sqlite:///PATH of a ledger that there is"

    @property
    def reader(self) -> Reader:
        """The read side."""
        return self.ledger.reader

    @property
    def writer(self) -> Writer:
        """The way in."""
        return self.ledger.writer

    @cached_property
    def signer(self) -> Signer | None:
        """The signer, where this place holds the private key and may use it."""
        folder = keys_of(self.settings)
        return load_key(folder) if has_signing_key(folder) else None

    # --- the projections -----------------------------------------------------------------------

    @cached_property
    def index(self) -> Index:
        """The projections' index, brought up to date: beside the store where it may be written
        there, else in memory.
        """
        from projections.index import open_index

        path = index_of(self.settings)
        with self.watch("Indexing") as tell:
            if self.in_database:
                opened = self._database_index(tell)
            else:
                usable = path is not None and os.access(path.parent, os.W_OK)
                opened = open_index(
                    path if usable else None, self.reader, progress=tell, notice=self._notice
                )
        return self._stack.enter_context(closing(opened))

    def _database_index(self, tell: Tell) -> Index:
        from projections.index import Index, up_to_date
        from projections.tables import UnwritableError

        try:
            return up_to_date(self.index_as_it_is(), progress=tell, notice=self._notice)
        except UnwritableError as error:
            if self._notice is not None:
                self._notice(f"{error}; building one in memory")
            return up_to_date(Index.open(None, self.reader), progress=tell)

    def kept_index(self) -> Index:
        """An index of the caller's own, brought up to date, built again where it must be; the
        caller closes it."""
        from projections.index import open_index, up_to_date

        if self.in_database:
            return up_to_date(self.index_as_it_is(), notice=self._notice)
        return open_index(index_of(self.settings), self.reader, notice=self._notice)

    def index_as_it_is(self, on_unfit: OnUnfit = "dead-letter") -> Index:
        """The index where it lies, not brought up to date. The caller closes it."""
        from projections.index import Index
        from projections.sqlite_tables import SqliteTables

        origin = self.reader.origin
        if self.in_database:
            from projections.postgres_tables import PostgresTables

            tables: Tables = PostgresTables.open(self.settings.store, origin)
        else:
            tables = SqliteTables.open(index_of(self.settings), origin)
        return Index(tables, self.reader, on_unfit=on_unfit)

    @property
    def in_database(self) -> bool:
        """Whether the ledger is one of many in PostgreSQL."""
        return isinstance(store_of(self.settings), DatabasePlace)

    def moment(self, text: str | None, *, now: int, known: bool = False) -> Moment | None:
        """What was typed after --at (or --known-at) as a moment of this ledger."""
        if text is None:
            return None
        from projections.at import parse_at

        return parse_at(text, reader=self.reader, now=now, axis="known_at" if known else "at")

    def state(
        self,
        pipeline: str,
        stage: str,
        *,
        at: Moment | None = None,
        known_at: Moment | None = None,
        basis: int | None = None,
        now: int,
    ) -> State:
        """The state. Raises NotFoundError that names the nearest pipeline where there is no such
        one.
        """
        from projections.state import state

        return self.nearest(
            pipeline,
            stage,
            lambda: state(
                self.reader,
                self.index,
                pipeline,
                stage,
                at=at,
                known_at=known_at,
                basis=basis,
                now=now,
            ),
        )

    def replayed(
        self,
        pipeline: str,
        stage: str,
        *,
        at: Moment | None,
        known_at: Moment | None,
        basis: int | None,
        now: int,
        evidence: bool,
    ) -> State:
        """The state from the entries alone, each of them that is read verified on the way; it
        leaves snapshots beside the index. As `evidence` from the first entry, whatever snapshots
        there are.
        """
        from projections.replay import replayed

        snapshots = self.index.snapshots(notice=self._notice)
        with self.watch("Replaying") as tell:
            return replayed(
                self.reader,
                pipeline,
                stage,
                at=at,
                known_at=known_at,
                basis=basis,
                now=now,
                progress=tell,
                snapshots=snapshots,
                evidence=evidence,
            )

    def nearest(self, pipeline: str, stage: str, question: Callable[[], Answer]) -> Answer:
        """Ask; where there is no such pipeline, the error carries the command with the nearest."""
        try:
            return question()
        except NotFoundError as error:
            raise self._nearest(error, pipeline, stage) from None

    def _nearest(self, error: NotFoundError, pipeline: str, stage: str) -> NotFoundError:
        """Attach the command with the nearest pipeline, or the one that makes the first."""
        from difflib import get_close_matches

        if not str(error).startswith("no entry is about"):
            return error
        known = {
            f"{name} -s {of}": (name, of) for name, of in self.index.pipelines(self.reader.size())
        }
        if not known:
            return hinted(error, f"asof capture git . -p {pipeline} -s {stage} --slot code")
        if (pipeline, stage) in known.values():
            return error
        near = (
            get_close_matches(f"{pipeline} -s {stage}", known, n=1, cutoff=0.3) or sorted(known)[:1]
        )
        return hinted(error, f"asof state -p {near[0]}")

    # --- the systems ---------------------------------------------------------------------------

    def connector(self, system: str, *, progress: Tell = _silent) -> Connector:
        """The connector of a system. Raises NotFoundError naming those that there are."""
        from connectors import Settings as ConnectorSettings
        from connectors import connector_for

        given = ConnectorSettings(
            environ=environment(), objects=objects_of(self.settings), progress=progress
        )
        return connector_for(system, given)

    def observe(
        self, system: str, target: str, *, kind: str | None = None, name: str | None = None
    ) -> AssetVersion:
        """The one thing at `target`, as a version. Raises NotFoundError where nothing is."""
        with self.watch(f"Looking at {system} {target}") as tell:
            connector = self.connector(system, progress=tell)
            seen = list(connector.observe(target, kind=kind, name=name))
        if len(seen) != 1 or seen[0].asset is None:
            raise NotFoundError(
                f"{system} shows {len(seen)} things at {target!r}, one was expected"
            )
        return seen[0].asset

    # --- going back ----------------------------------------------------------------------------

    def availability(self, system: str, bound: Binding) -> str:
        """Whether what a slot held can still be restored, looked at now; `unknown` where nobody
        can.
        """
        from connectors.connector import AssetVersion

        try:
            version = AssetVersion.from_event_data(bound.record)
            with self.watch(f"Looking at {bound.asset_version}") as tell:
                return self.connector(system, progress=tell).available(version).status
        except (MalformedError, NotFoundError):
            return "unknown"

    def idempotency(self, system: str, otherwise: str) -> str:
        """Of which class a restore in this system is; `otherwise` where there is no connector."""
        try:
            return self.connector(system).idempotency
        except NotFoundError:
            return otherwise

    def rollbacks(self, actor: str) -> Rollbacks:
        """The rollbacks of this ledger; to save one the ledger must be open for writing."""
        from ledger.lifecycle.rollbacks import Rollbacks

        writer = cast("Writer", self.ledger.open_writer)  # None only where nothing will be saved
        return Rollbacks(writer, self.reader, actor=actor, clock=system_clock)

    def saga(self, actor: str, point: Callable[[str], None]) -> Saga:
        """The executor of plans; one at a time on this machine, whoever starts it."""
        from connectors.claim import claim_in
        from connectors.saga import Saga

        return Saga(
            rollbacks=self.rollbacks(actor),
            connectors=self.connector,
            actor=actor,
            clock=system_clock,
            claim=claim_in(keys_of(self.settings)),
            point=point,
        )


def serve_ledger(
    name: str,
    settings: Settings,
    *,
    public: bool = False,
    notice: Callable[[str], None] | None = None,
) -> Served:
    """One ledger for the service, open for writing; closed by its caller. Raises what opening does,
    with what to do about it.
    """
    from api.service.ledgers import Served
    from projections.runner import Listening, Polling

    with Rooms(settings, write=True, notice=notice) as opening:
        ledger = opening.ledger
        opening.keep_open()
    in_database = isinstance(store_of(settings), DatabasePlace)

    def rooms() -> Rooms:
        return Rooms(settings, opened=ledger, notice=notice)

    def index() -> Index:
        return rooms().kept_index()

    def wake(stop: threading.Event) -> Wake:
        return Listening(settings.store, stop) if in_database else Polling(stop, POLL_SECONDS)

    return Served(name, ledger, rooms=rooms, index=index, wake=wake, public=public)


def ingest_translators() -> dict[str, Callable[[Any, bytes], list[Any]]]:
    """What turns deliveries into events, by the system's name."""
    import orjson

    from connectors import cloudevents, openlineage, terraform_state
    from connectors.webhooks import HOOKS

    return {
        "openlineage": lambda headers, body: openlineage.translate(orjson.loads(body)),
        "cloudevents": lambda headers, body: [cloudevents.translate(orjson.loads(body))],
        "terraform-state": terraform_state.translate,
        **{name: hook.translate for name, hook in HOOKS.items()},
    }


def webhook_of(system: str) -> Any:
    """How a system proves itself. Raises MalformedError for one that has no webhooks here."""
    from connectors.webhooks import HOOKS

    if system not in HOOKS:
        raise MalformedError(f"{system!r} is none of {', '.join(sorted(HOOKS))}")
    return HOOKS[system]


def cloudevent_of_headers(headers: dict[str, str], data: Any) -> dict[str, Any]:
    """A CloudEvent that came in binary mode."""
    from connectors.cloudevents import of_headers

    return of_headers(headers, data)


def create(
    settings: Settings,
    *,
    origin: str | None,
    actor: str,
    notice: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Begin the ledger and its key; say what was made. Raises ConflictError where one is."""
    place = store_of(settings, notice)
    try:
        with (
            hinting(RefusedError, MIGRATE),
            create_ledger(place, origin=origin, keys=settings.keys, actor=actor) as ledger,
        ):
            return {
                "origin": ledger.reader.origin,
                "store": place.url,
                "keys": str(keys_of(settings)),
                "vkey": format_vkey(ledger.vkey),
            }
    except ConflictError as error:
        another = "--store sqlite:///PATH" if isinstance(place, FilePlace) else "ASOF_KEYS=FOLDER"
        raise hinted(error, f"asof log, or {another} for a new one") from None


def describe_keys(settings: Settings) -> dict[str, Any]:
    """What there is to know about the key folder, without the private key. Raises NotFoundError."""
    folder = keys_of(settings)
    try:
        vkey = load_vkey(folder)
    except NotFoundError as error:
        raise hinted(error, "asof init, or ASOF_KEYS=FOLDER") from None
    mark = Guard(folder / GUARD_FILE).read() if os.access(folder / GUARD_FILE, os.R_OK) else None
    return {
        "origin": vkey.name,
        "vkey": format_vkey(vkey),
        "key_id": vkey.key_id.hex(),
        "algorithm": "Ed25519",
        "folder": str(folder.absolute()),
        "can_sign": has_signing_key(folder),
        "guard": None if mark is None else {"tree_size": mark.size, "root": mark.root.hex()},
    }


def store_of(
    settings: Settings, notice: Callable[[str], None] | None = None
) -> FilePlace | DatabasePlace:
    """Where the ledger lies; `notice` is told what is taken though it should be better.

    Raises MalformedError for a URL that names no store.
    """
    told = {} if notice is None else {"notice": notice}
    return place_of(settings.store, checksums=not settings.without_checksums, **told)


def keys_of(settings: Settings) -> Path:
    """The key folder."""
    return settings.keys or store_of(settings).beside(".keys")


def objects_of(settings: Settings) -> Path:
    """The folder of captured bytes: asof.objects beside asof.db, or in the folder worked in."""
    return settings.objects or store_of(settings).beside(".objects")


def index_of(settings: Settings) -> Path | None:
    """The file of the projections' index: asof.db.index beside asof.db."""
    place = store_of(settings)
    return (
        place.path.with_name(f"{place.path.name}.index") if isinstance(place, FilePlace) else None
    )

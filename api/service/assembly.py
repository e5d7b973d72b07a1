"""The service put together: ledgers, access, routes, layers, and what works in the background.

::

    with assembled(configuration) as service:
        serving.run(service.app, listening, …)

Everything that is opened here is closed here, whatever happens.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from api.main import ingest_translators, keys_of, serve_ledger, webhook_of
from api.service.access.access import Access
from api.service.access.credentials import Credentials
from api.service.access.guard import AccessLayer, rules_of
from api.service.access.login import logins_of
from api.service.access.oidc import JwtAuthenticator
from api.service.access.provider import Provider
from api.service.access.reads import Reads
from api.service.access.setup import Setup
from api.service.access.tokens import load_pepper
from api.service.app import DirectLayer, build_app, layered
from api.service.bodies import BodyLimits
from api.service.executing import Executions
from api.service.headers import GzipLayer, HeadersLayer
from api.service.ingest.recording import Ingest
from api.service.ingest.spool import Spool
from api.service.ledgers import Ledgers
from api.service.metrics import Metrics
from api.service.outgoing.sending import Sending
from api.service.outgoing.subscriptions import Subscriptions
from api.service.pressure import CapacityLayer, RateLayer
from api.service.remembering import Remembered
from api.service.requests import now_micros
from api.service.routes import ROUTERS
from api.service.routes.ingest import Source
from api.service.telling import TellingLayer
from api.service.terraform.backend import Backend
from api.service.terraform.states import States
from api.service.terraform.telling import SYSTEM as STATES
from api.service.terraform.telling import Telling
from api.service.tracing import TracingLayer, tracer_for
from api.service.verifying import Verifications
from api.service.witnessing.door import Door
from api.service.witnessing.publishing import Publishing
from api.service.witnessing.witness import Witness
from api.settings import environment
from ledger.cosignature import Cosigner
from ledger.errors import MalformedError
from ledger.keys import load_witness_key

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from api.service.configuration import Configuration
    from api.service.principal import Caller
    from ledger.reader import Reader

__all__ = ["Service", "assembled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is served, and what the command line wants to tell about it."""

    app: ASGIApp
    inner: FastAPI
    ledgers: Ledgers
    access: Access
    setup: Setup
    stopping: asyncio.Event


@contextmanager
def assembled(configuration: Configuration) -> Iterator[Service]:
    """The service of a configuration; its ledgers are open within the block. Raises what opening a
    ledger does.
    """
    with ExitStack() as stack:
        parts = _Parts(configuration, stack)
        inner = build_app(
            parts.ledgers, ROUTERS, lifespan=parts.lifespan, **parts.for_requests(configuration)
        )
        app = _with_layers(inner, configuration, parts)
        if configuration.telemetry is not None:
            tracer, ended = tracer_for(configuration.telemetry)
            stack.callback(ended)
            app = TracingLayer(app, tracer=tracer)
        yield Service(
            app=app,
            inner=inner,
            ledgers=parts.ledgers,
            access=parts.access,
            setup=parts.setup,
            stopping=parts.stopping,
        )


class _Parts:
    """What the routes and layers use, made in the order in which one part needs another; the stack
    closes it in the opposite order.
    """

    def __init__(self, configuration: Configuration, stack: ExitStack) -> None:
        self.stopping = asyncio.Event()
        self.ledgers = _opened(configuration, stack)
        self.metrics = Metrics()
        self.metrics.watch(self.ledgers)
        self._make_access(configuration)
        self._make_arrivals(configuration, stack)
        self._make_departures(configuration, stack)
        self._make_witnesses(configuration, stack)
        self.verifications = Verifications(_verifier(configuration))
        self.executions = Executions(
            {name: one.rollback_roots for name, one in configuration.ledgers.items()}
        )

    def _make_access(self, configuration: Configuration) -> None:
        """Who may do what, who is asking, and what is told of both."""
        peppers = {
            name: load_pepper(keys_of(one.settings), create=True)
            for name, one in configuration.ledgers.items()
        }
        self.access = Access(self.ledgers, peppers)
        self.setup = Setup(self.access, clock=now_micros)
        self.reads = Reads(self.ledgers)
        self.provider = None if configuration.oidc is None else Provider(configuration.oidc)
        self.login, self.sessions = logins_of(self.provider, self.access.grants)
        self.authenticate = Credentials(
            self.access.authenticator,
            self.access.grants,
            None if self.provider is None else JwtAuthenticator(self.provider),
            self.sessions,
        ).authenticate

    def _make_arrivals(self, configuration: Configuration, stack: ExitStack) -> None:
        """What other systems send: deliveries, and the states of Terraform."""
        spool = Spool(configuration.data / "spool.db")
        stack.callback(spool.close)
        self.ingest = Ingest(spool, self.ledgers, ingest_translators(), in_order=(STATES,))
        self.backend = _backend(configuration, self.ledgers, stack)
        self.telling = Telling(self.backend.states, self.ingest, self.ledgers)
        self.sources = {
            name: Source(one.system, webhook_of(one.system), one.secrets, one.ledger)
            for name, one in configuration.sources.items()
        }

    def _make_departures(self, configuration: Configuration, stack: ExitStack) -> None:
        """What is sent to other systems."""
        subscriptions = Subscriptions(configuration.data / "webhooks.db")
        stack.callback(subscriptions.close)
        self.sending = Sending(subscriptions, self.ledgers, configuration.outgoing)
        stack.callback(self.sending.close)

    def _make_witnesses(self, configuration: Configuration, stack: ExitStack) -> None:
        """The witness that this server is, and the witnesses that its own ledgers have."""
        self.witness = _witness(configuration, stack, self.alarm)
        self.door = None if self.witness is None else Door(self.witness)
        if self.door is not None:
            stack.callback(self.door.close)
        self.publishing = {
            name: Publishing(self.ledgers[name], one.policy, alarm=self.alarm)
            for name, one in configuration.ledgers.items()
            if one.policy is not None
        }
        self.metrics.watch_quorums(
            lambda: {name: one.quorum_age() for name, one in self.publishing.items()}
        )

    # --- what happens ----------------------------------------------------------------------------

    def alarm(self, origin: str, what: str) -> None:
        """Somebody was shown two histories of a log."""
        structlog.get_logger("asof").error("fork", origin=origin, what=what)
        self.metrics.alarms.inc()

    def refused(self, why: str, who: Caller | None, ledger: str | None) -> None:
        """Somebody was turned away."""
        self.metrics.refused.labels(why).inc()
        self.reads.refused(why, who, ledger)

    def published(self, name: str, reader: Reader) -> bytes:
        """The checkpoint that a ledger shows."""
        found = self.publishing.get(name)
        return reader.checkpoint() if found is None else found.published(reader)

    def still_allowed(self, request: Request) -> bool:
        """Whether whoever opened a stream may still read: a token ends with its next look."""
        caller = self.authenticate(request.scope)
        ledger = request.path_params.get("ledger")
        return caller is not None and caller.may("entries:read", ledger=ledger)

    # --- the life of the server ------------------------------------------------------------------

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """What works in the background, while requests are answered."""
        for here in self.ledgers.values():
            here.start()
        watched: list[_Watched] = [self.access, self.reads, self.ingest, self.sending, self.telling]
        watched += [*self.publishing.values(), *([self.provider] if self.provider else [])]
        tasks = [asyncio.create_task(one.watch()) for one in watched]
        try:
            yield
        finally:
            self.stopping.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.verifications.close()
            await self.executions.close()
            if self.login is not None:
                await self.login.close()
            await self.reads.flush()

    def for_requests(self, configuration: Configuration) -> dict[str, Any]:
        """What routes find in `app.state`."""
        seconds = configuration.limits.request_seconds
        return {
            "access": self.access,
            "setup": self.setup,
            "login": self.login,
            "sessions": self.sessions,
            "logged_in": self.reads.logged_in,
            "note_read": self.reads.note,
            "refused": self.refused,
            "still_allowed": self.still_allowed,
            "metrics": self.metrics,
            "body_limits": BodyLimits(max_bytes=configuration.limits.body_bytes, seconds=seconds),
            "remembered": Remembered(),
            "streams": set(),
            "stopping": self.stopping,
            "verifications": self.verifications,
            "executions": self.executions,
            "ingest": self.ingest,
            "ingest_origins": configuration.ingest_origins,
            "sources": self.sources,
            "terraform": self.backend,
            "terraform_limits": BodyLimits(
                max_bytes=configuration.terraform.state_bytes, seconds=seconds
            ),
            "terraform_changed": self.telling.wake,
            "sending": self.sending,
            "published": self.published,
            "witness": self.door,
            "forks": lambda: [] if self.witness is None else self.witness.forks(),
            "witness_status": lambda: {name: one.status() for name, one in self.publishing.items()},
        }


class _Watched(Protocol):
    async def watch(self) -> None: ...


def _opened(configuration: Configuration, stack: ExitStack) -> Ledgers:
    served = []
    for name, one in configuration.ledgers.items():
        here = serve_ledger(name, one.settings, public=one.public, notice=_say)
        stack.callback(here.close)
        served.append(here)
    return Ledgers(served)


def _backend(configuration: Configuration, ledgers: Ledgers, stack: ExitStack) -> Backend:
    """The state backend of Terraform; each ledger's states are sealed under a key of its own."""
    states = States(configuration.data / "terraform.db", keep=configuration.terraform.versions)
    stack.callback(states.close)
    folders: dict[str, Path] = {}
    for name, one in configuration.ledgers.items():
        origin = ledgers[name].reader.origin
        if origin in folders:
            raise MalformedError(
                f"[ledgers.{name}]: {origin} is served under another name already: one of the two "
                "is a copy, and what is appended to it would make a second history"
            )
        folders[origin] = keys_of(one.settings)
    return Backend(states, folders)


def _witness(
    configuration: Configuration, stack: ExitStack, alarm: Callable[[str, str], None]
) -> Witness | None:
    """The witness of other logs, where it is configured; its key is made with its first start."""
    told = configuration.witness
    if told is None:
        return None
    key = load_witness_key(told.keys or configuration.data / "witness.keys")
    made = Witness(
        configuration.data / "witness.db",
        Cosigner(told.name, key),
        {log.name: log for log in told.logs},
        alarm=alarm,
    )
    stack.callback(made.close)
    return made


def _with_layers(inner: FastAPI, configuration: Configuration, parts: _Parts) -> ASGIApp:
    limits = configuration.limits
    return layered(
        inner,
        [
            lambda app: TellingLayer(app, metrics=parts.metrics),
            lambda app: HeadersLayer(
                app,
                trusted_hosts=configuration.trusted_hosts,
                origins=configuration.cors_origins,
            ),
            lambda app: CapacityLayer(app, most=limits.in_flight, metrics=parts.metrics),
            lambda app: AccessLayer(
                app,
                rules=rules_of(inner.routes),
                authenticate=parts.authenticate,
                public=[name for name, here in parts.ledgers.items() if here.public],
                refused=parts.refused,
            ),
            lambda app: RateLayer(
                app, rate=limits.requests_per_second, burst=limits.burst, metrics=parts.metrics
            ),
            GzipLayer,
            lambda app: DirectLayer(app, inner),
        ],
    )


def _verifier(configuration: Configuration):  # type: ignore[no-untyped-def]
    """Starts `asof verify` on a ledger in a process of its own, which reads and cannot write."""

    async def start(name: str) -> asyncio.subprocess.Process:
        settings = configuration.ledgers[name].settings
        given = {
            **environment(),
            "ASOF_STORE": settings.store,
            "ASOF_KEYS": str(keys_of(settings).absolute()),
            "ASOF_QUIET": "1",
            "ASOF_SERVER": "",
        }
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api.cli",
            "verify",
            "--workers",
            "1",
            "-o",
            "json",
            env=given,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    return start


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201

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
from typing import TYPE_CHECKING

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
    from starlette.types import ASGIApp, Scope

    from api.service.configuration import Configuration
    from api.service.principal import Caller

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
        ledgers = _opened(configuration, stack)
        peppers = {
            name: load_pepper(keys_of(one.settings), create=True)
            for name, one in configuration.ledgers.items()
        }
        access = Access(ledgers, peppers)
        reads = Reads(ledgers)
        spool = Spool(configuration.data / "spool.db")
        stack.callback(spool.close)
        subscriptions = Subscriptions(configuration.data / "webhooks.db")
        stack.callback(subscriptions.close)
        sending = Sending(subscriptions, ledgers, configuration.outgoing)
        stack.callback(sending.close)
        ingest = Ingest(spool, ledgers, ingest_translators())
        backend = _backend(configuration, ledgers, stack)
        telling = Telling(backend.states, ingest, ledgers)
        setup = Setup(access, clock=now_micros)
        metrics = Metrics()
        metrics.watch(ledgers)
        stopping = asyncio.Event()
        verifications = Verifications(_verifier(configuration))
        executions = Executions(
            {name: one.rollback_roots for name, one in configuration.ledgers.items()}
        )

        def alarm(origin: str, what: str) -> None:
            structlog.get_logger("asof").error("fork", origin=origin, what=what)
            metrics.alarms.inc()

        provider = None if configuration.oidc is None else Provider(configuration.oidc)
        login, sessions = logins_of(provider, access.grants)
        authenticate = Credentials(
            access.authenticator,
            access.grants,
            None if provider is None else JwtAuthenticator(provider),
            sessions,
        ).authenticate

        def refused(why: str, who: Caller | None, ledger: str | None) -> None:
            metrics.refused.labels(why).inc()
            reads.refused(why, who, ledger)

        witness = _witness(configuration, stack, alarm)
        door = None if witness is None else Door(witness)
        if door is not None:
            stack.callback(door.close)
        publishing = {
            name: Publishing(ledgers[name], one.policy, alarm=alarm)
            for name, one in configuration.ledgers.items()
            if one.policy is not None
        }
        metrics.watch_quorums(lambda: {name: one.quorum_age() for name, one in publishing.items()})

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            for here in ledgers.values():
                here.start()
            works = [access.watch(), reads.watch(), ingest.watch(), sending.watch()]
            works += [telling.watch()]
            works += [one.watch() for one in publishing.values()]
            works += [provider.watch()] if provider is not None else []
            tasks = [asyncio.create_task(work) for work in works]
            try:
                yield
            finally:
                stopping.set()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await verifications.close()
                await executions.close()
                if login is not None:
                    await login.close()
                await reads.flush()

        inner = build_app(
            ledgers,
            ROUTERS,
            lifespan=lifespan,
            access=access,
            setup=setup,
            login=login,
            sessions=sessions,
            logged_in=reads.logged_in,
            refused=refused,
            metrics=metrics,
            body_limits=BodyLimits(
                max_bytes=configuration.limits.body_bytes,
                seconds=configuration.limits.request_seconds,
            ),
            verifications=verifications,
            executions=executions,
            ingest=ingest,
            terraform=backend,
            terraform_limits=BodyLimits(
                max_bytes=configuration.terraform.state_bytes,
                seconds=configuration.limits.request_seconds,
            ),
            terraform_changed=telling.wake,
            sending=sending,
            ingest_origins=configuration.ingest_origins,
            sources={
                name: Source(one.system, webhook_of(one.system), one.secrets, one.ledger)
                for name, one in configuration.sources.items()
            },
            remembered=Remembered(),
            streams=set(),
            stopping=stopping,
            note_read=reads.note,
            published=lambda name, reader: (
                publishing[name].published(reader) if name in publishing else reader.checkpoint()
            ),
            witness=door,
            forks=lambda: [] if witness is None else witness.forks(),
            witness_status=lambda: {name: one.status() for name, one in publishing.items()},
            still_allowed=lambda request: _may_still(authenticate(request.scope), request),
        )
        app = _with_layers(inner, configuration, authenticate, metrics, ledgers, refused)
        if configuration.telemetry is not None:
            tracer, ended = tracer_for(configuration.telemetry)
            stack.callback(ended)
            app = TracingLayer(app, tracer=tracer)
        yield Service(
            app=app,
            inner=inner,
            ledgers=ledgers,
            access=access,
            setup=setup,
            stopping=stopping,
        )


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


def _with_layers(
    inner: FastAPI,
    configuration: Configuration,
    authenticate: Callable[[Scope], Caller | None],
    metrics: Metrics,
    ledgers: Ledgers,
    refused: Callable[[str, Caller | None, str | None], None],
) -> ASGIApp:
    limits = configuration.limits
    return layered(
        inner,
        [
            lambda app: TellingLayer(app, metrics=metrics),
            lambda app: HeadersLayer(
                app,
                trusted_hosts=configuration.trusted_hosts,
                origins=configuration.cors_origins,
            ),
            lambda app: CapacityLayer(app, most=limits.in_flight, metrics=metrics),
            lambda app: AccessLayer(
                app,
                rules=rules_of(inner.routes),
                authenticate=authenticate,
                public=[name for name, here in ledgers.items() if here.public],
                refused=refused,
            ),
            lambda app: RateLayer(
                app, rate=limits.requests_per_second, burst=limits.burst, metrics=metrics
            ),
            GzipLayer,
            lambda app: DirectLayer(app, inner),
        ],
    )


def _may_still(caller: Caller | None, request: Request) -> bool:
    """Whether whoever opened a stream may still read: a token ends with its next look."""
    ledger = request.path_params.get("ledger")
    return caller is not None and caller.may("entries:read", ledger=ledger)


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

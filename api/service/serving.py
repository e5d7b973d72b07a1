"""Running the application: sockets, TLS, the end.

::

    run(app, host="127.0.0.1", port=8080, started=lambda url: print(url))

SIGTERM and Ctrl-C let what is being answered end (at most `GRACE_SECONDS`), then the ledgers close:
what was acknowledged is durable already, what waits is committed or refused.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from api.service.transport import BoundedHttp
from ledger.errors import MalformedError, StoreError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["bound_socket", "run"]

GRACE_SECONDS: Final = 20
KEEP_ALIVE_SECONDS: Final = 75
BACKLOG: Final = 1024


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StoreError that says what is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise StoreError(f"cannot listen on {host}:{port}: {error}") from None
    return listening


def run(
    app: ASGIApp,
    listening: socket.socket,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    proxies: str | None = None,
    started: Callable[[str], None],
    stopping: Callable[[], None],
) -> None:
    """Serve until a signal ends it. `started` is told the address; `stopping` is called when the
    end begins. `proxies` are the addresses whose X-Forwarded headers are believed: none by default.

    Raises MalformedError for a certificate that cannot be loaded.
    """
    server = _Server(
        uvicorn.Config(
            app,
            http=BoundedHttp,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=proxies is not None,
            forwarded_allow_ips=proxies,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        ),
        started=started,
        stopping=stopping,
        address=_address(listening, tls=certificate is not None),
    )
    try:
        server.config.load()
    except (OSError, ValueError) as error:
        raise MalformedError(f"the TLS certificate or key cannot be loaded: {error}") from None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ended_well)
    server.run([listening])


def _ended_well(number: int, frame: object) -> None:
    """uvicorn raises again the signal that it ended by, when all is answered: that is no failure,
    and the ledgers have still to be closed."""


class _Server(uvicorn.Server):
    """Tells when it listens and when it begins to end."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        started: Callable[[str], None],
        stopping: Callable[[], None],
        address: str,
    ) -> None:
        super().__init__(config)
        self._tell_started = started
        self._tell_stopping = stopping
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_started(self._address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._tell_stopping()
        await super().shutdown(sockets)


def _address(listening: socket.socket, *, tls: bool) -> str:
    host, port, *_ = listening.getsockname()
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"

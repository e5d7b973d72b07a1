"""How this program connects: limits on everything that could hang, and a name without the password.

::

    connection = connect("postgresql://asof_app@db.example.com/audit", "writer")
    shown("postgresql://asof_app:secret@db.example.com/audit")    # …asof_app@db.example.com/audit

What the URL says wins: `sslmode`, `target_session_attrs`, several hosts for a failover, `options`.
"""

from __future__ import annotations

from select import POLLIN, poll
from typing import Any, Final, Literal

import psycopg
from psycopg import conninfo

from ledger.errors import MalformedError
from ledger.stores.postgres.binary import Encoded, EncodedDumper
from ledger.stores.postgres.errors import translated

__all__ = ["PREFIXES", "Purpose", "connect", "is_alive", "register", "settings_of", "shown"]

PREFIXES: Final = ("postgresql://", "postgres://")
Purpose = Literal["reader", "writer", "admin"]

LIMITS: Final = {
    "lock_timeout": "30s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
}
"""For everything but an audit's long questions, which set their own."""

PLANS: Final[dict[str, dict[str, str]]] = {
    "reader": {"default_transaction_read_only": "on", "plan_cache_mode": "force_custom_plan"},
    "writer": {"enable_seqscan": "off", "jit": "off"},
}
"""A plan that was made while a table was empty, and is kept with the connection, would go on
reading all of it when it is large. Readers plan each question anew; writers ask few, each by an
index."""

DEFAULTS: Final[dict[str, Any]] = {
    "application_name": "asof",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "client_encoding": "utf8",
}


def connect(url: str, purpose: Purpose) -> psycopg.Connection[Any]:
    """A connection in autocommit mode. Raises: UnreachableError, NotFoundError, MalformedError."""
    with translated(shown(url)):
        return psycopg.connect(url, autocommit=True, **settings_of(url, purpose))


def settings_of(url: str, purpose: Purpose) -> dict[str, Any]:
    """What is added to the URL: only what it does not say itself."""
    said = _parsed(url)
    wanted = dict(DEFAULTS)
    if purpose != "reader":
        wanted["target_session_attrs"] = "read-write"
    options = [f"-c {name}={value}" for name, value in _session(purpose).items()]
    found = {name: value for name, value in wanted.items() if name not in said}
    return found | {"options": " ".join([*options, said.get("options") or ""]).strip()}


def register(connection: psycopg.Connection[Any]) -> None:
    """Teach a connection to send values that are encoded already."""
    connection.adapters.register_dumper(Encoded, EncodedDumper)


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Whether an idle connection is still there, as far as this side has heard.

    Nothing comes unasked on an idle connection but its end (or a word of the server, which is then
    looked into): what is sent on one that has ended would be lost, and its outcome unknown.
    """
    if connection.closed:
        return False
    heard = poll()
    heard.register(connection.fileno(), POLLIN)
    if not heard.poll(0):
        return True
    try:
        connection.execute("")
    except psycopg.Error:
        return False
    return True


def shown(url: str) -> str:
    """The URL for messages and logs: never a password."""
    said = _parsed(url)
    user = f"{said['user']}@" if said.get("user") else ""
    host = said.get("host") or said.get("hostaddr") or "localhost"
    port = f":{said['port']}" if said.get("port") else ""
    return f"postgresql://{user}{host}{port}/{said.get('dbname') or ''}"


def _session(purpose: Purpose) -> dict[str, str]:
    if purpose == "admin":
        return {"lock_timeout": "60s"}
    return LIMITS | PLANS[purpose]


def _parsed(url: str) -> dict[str, Any]:
    if not url.startswith(PREFIXES):
        raise MalformedError(f"{url!r} is no PostgreSQL URL: postgresql://user@host/database")
    try:
        return conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as exc:
        words = str(exc).strip().splitlines()[0]
        raise MalformedError(f"the store's URL cannot be read: {words}") from None

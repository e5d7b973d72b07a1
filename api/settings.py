"""What may be set from outside, and the one place that reads the environment.

::

    ASOF_STORE=sqlite:////srv/ledger/asof.db  ASOF_ACTOR=service:trainer  asof state -p forecast -s
    production

An option on the command line wins over the environment, the environment over the default. Every
setting is a line of `SETTINGS`; docs/cli.md is made from that table, and a test compares the two.

Nothing heavy is imported: each command pays for this file, `asof --help` too (docs/adr/0061).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ledger.errors import MalformedError

__all__ = [
    "DEFAULT_STORE",
    "FORMATS",
    "SETTINGS",
    "Setting",
    "Settings",
    "debugging",
    "environment",
    "read_settings",
]

DEFAULT_STORE = "sqlite:///asof.db"
FORMATS = ("table", "json", "jsonl", "csv")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable: its name, the option that overrides it (or ""), and its meaning."""

    variable: str
    option: str
    default: str
    meaning: str


SETTINGS = (
    Setting(
        "ASOF_STORE",
        "--store",
        DEFAULT_STORE,
        "Where the ledger lies: sqlite:///relative/path.db, sqlite:////absolute/path.db or "
        "postgresql://user@host/database. A password belongs into PGPASSWORD or ~/.pgpass.",
    ),
    Setting(
        "ASOF_SERVER",
        "--server",
        "",
        "A server (asof serve) that is asked instead of a store: https://ledger.example.com.",
    ),
    Setting(
        "ASOF_LEDGER", "--ledger", "the only one", "The ledger at that server, by its name there."
    ),
    Setting("ASOF_TOKEN", "", "", "The token for that server; never on the command line."),
    Setting(
        "ASOF_VKEY",
        "",
        "",
        "The ledger's public key, as text or as a file: what a server acknowledges must be signed "
        "by it.",
    ),
    Setting("ASOF_CONFIG", "", "", "The file of asof serve: docs/configuration.md."),
    Setting(
        "ASOF_OUTPUT", "--output", "table", "How answers are printed: table, json, jsonl or csv."
    ),
    Setting(
        "ASOF_ACTOR",
        "--actor",
        "user:<login name>",
        "Who records: user:…, service:… or agent:…, an id and never a person's name or address.",
    ),
    Setting(
        "ASOF_QUIET", "--quiet", "no", "Set to 1: no progress and no remarks on the standard error."
    ),
    Setting(
        "ASOF_KEYS",
        "",
        "asof.keys beside the store",
        "The folder of the signing key and of the "
        "rollback guard. Keep it on another disk than the database if you can.",
    ),
    Setting(
        "ASOF_OBJECTS",
        "",
        "asof.objects beside the store",
        "The folder in which captured files are kept, by digest, so that they can be restored.",
    ),
    Setting(
        "ASOF_PG_WITHOUT_CHECKSUMS",
        "",
        "no",
        "Set to 1: take a PostgreSQL server without data checksums, which does not notice a "
        "damaged page itself.",
    ),
    Setting("ASOF_DEBUG", "", "no", "Set to 1: print the traceback of an error."),
    Setting("NO_COLOR", "", "", "Set to anything: no colour and no progress bars (no-color.org)."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one invocation. None means: decided by whoever needs it."""

    store: str = DEFAULT_STORE
    server: str | None = None
    ledger: str | None = None
    token: str | None = field(default=None, repr=False)
    vkey: str | None = None
    config: Path | None = None
    output: str = "table"
    actor: str | None = None
    quiet: bool = False
    keys: Path | None = None
    objects: Path | None = None
    without_checksums: bool = False
    debug: bool = False
    no_color: bool = False


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. Raises MalformedError naming the variable that makes no sense."""
    env = os.environ if environment is None else environment
    return Settings(
        store=env.get("ASOF_STORE") or DEFAULT_STORE,
        server=env.get("ASOF_SERVER") or None,
        ledger=env.get("ASOF_LEDGER") or None,
        token=env.get("ASOF_TOKEN") or None,
        vkey=env.get("ASOF_VKEY") or None,
        config=_folder(env, "ASOF_CONFIG"),
        output=_choice(env, "ASOF_OUTPUT", FORMATS),
        actor=env.get("ASOF_ACTOR") or None,
        quiet=_switch(env, "ASOF_QUIET"),
        keys=_folder(env, "ASOF_KEYS"),
        objects=_folder(env, "ASOF_OBJECTS"),
        without_checksums=_switch(env, "ASOF_PG_WITHOUT_CHECKSUMS"),
        debug=_switch(env, "ASOF_DEBUG"),
        no_color=bool(env.get("NO_COLOR")),
    )


def environment() -> Mapping[str, str]:
    """The environment as it is, for the programs that connectors run (they pass on the few they
    allow).
    """
    return os.environ


def debugging() -> bool:
    """Whether tracebacks are wanted. Never raises: it is asked when something went wrong."""
    return os.environ.get("ASOF_DEBUG", "").strip().lower() in _TRUE


def _choice(env: Mapping[str, str], variable: str, choices: tuple[str, ...]) -> str:
    value = env.get(variable) or choices[0]
    if value not in choices:
        raise MalformedError(f"{value!r} is none of {', '.join(choices)}", where=variable)
    return value


def _switch(env: Mapping[str, str], variable: str) -> bool:
    value = env.get(variable, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise MalformedError(f"{value!r} is neither yes nor no", where=variable)


def _folder(env: Mapping[str, str], variable: str) -> Path | None:
    value = env.get(variable)
    return Path(value).expanduser() if value else None

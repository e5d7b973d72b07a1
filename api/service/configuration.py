"""The settings of `asof serve`: one TOML file, or one ledger named on the command line.

::

    configuration = read_configuration(Path("asof.toml"))
    configuration = single(settings)                       # --store and no file

Every key is a line of `KEYS`; docs/configuration.md is made from that table, and a test compares
the two. An unknown key is refused with the nearest known one: a limit that is passed over is no
limit. Secrets are never in the file: it names the environment variable or the file that holds them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from api.main import webhook_of
from api.service.access.provider import LoginSettings, OidcSettings
from api.service.outgoing.addresses import Allowed
from api.service.permissions import ROLES
from api.settings import Settings, environment
from ledger.errors import MalformedError, StoreError
from ledger.note import VerifierKey, check_signer_name, parse_vkey
from ledger.policy import Policy, parse_policy

__all__ = [
    "KEYS",
    "Configuration",
    "Key",
    "LedgerConfiguration",
    "Limits",
    "SourceConfiguration",
    "TerraformConfiguration",
    "WitnessConfiguration",
    "read_configuration",
    "single",
]

Kind = Literal["text", "path", "number", "flag", "texts", "paths", "table"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file: the table it stands in, its name, kind, default in words, and meaning."""

    table: str
    name: str
    kind: Kind
    default: str
    meaning: str
    least: int = 0
    most: int = 1 << 53


KEYS: Final = (
    Key("server", "host", "text", "127.0.0.1", "The address to listen on; 0.0.0.0 for all."),
    Key("server", "port", "number", "8080", "The port; 0 takes a free one.", 0, 65_535),
    Key("server", "url", "text", "http://HOST:PORT", "What callers reach the server by."),
    Key("server", "certificate", "path", "none", "TLS: the certificate chain, PEM."),
    Key("server", "private_key", "path", "none", "TLS: its private key, PEM."),
    Key(
        "server",
        "trusted_hosts",
        "texts",
        "any",
        "The Host names that are answered; without any, all are. /healthz, /readyz and /metrics "
        "answer to any: probes ask at the address.",
    ),
    Key(
        "server",
        "trusted_proxies",
        "texts",
        "none",
        "Addresses of proxies whose X-Forwarded headers are believed.",
    ),
    Key("server", "cors_origins", "texts", "none", "Browser origins that may call the API."),
    Key("server", "data", "path", "asof.service", "The folder of what the service keeps itself."),
    Key(
        "server", "log_format", "text", "json", "How the log is written: json, or text for people."
    ),
    Key(
        "server",
        "telemetry",
        "text",
        "none",
        "Where traces go, OTLP over HTTP: http://collector:4318/v1/traces (extra `telemetry`).",
    ),
    Key("limits", "body_bytes", "number", "8388608", "The largest body, packed or not.", 1024),
    Key("limits", "request_seconds", "number", "30", "How long a body may take.", 1, 3600),
    Key("limits", "in_flight", "number", "512", "Requests that are answered at once.", 1, 100_000),
    Key(
        "limits",
        "requests_per_second",
        "number",
        "5000",
        "Requests a second of one principal.",
        1,
        1_000_000,
    ),
    Key("limits", "burst", "number", "10000", "Requests that may come at once.", 1, 1_000_000),
    Key(
        "ledgers.NAME",
        "policy",
        "path",
        "none",
        "The tlog-policy of its witnesses: checkpoints are sent to them and published cosigned.",
    ),
    Key(
        "witness", "name", "text", "needed", "The name under which this server cosigns other logs."
    ),
    Key("witness", "keys", "path", "witness.keys in the data folder", "The folder of its key."),
    Key("witness", "logs", "texts", "none", "The verifier keys of the logs that it witnesses."),
    Key("oidc", "issuer", "text", "needed", "The OpenID provider, as its tokens name it."),
    Key("oidc", "audience", "text", "needed", "The audience that its tokens for this server have."),
    Key("oidc", "jwks_url", "text", "needed", "Where its keys are; they come from nowhere else."),
    Key("oidc", "role_claim", "text", "groups", "The claim whose values stand for roles."),
    Key(
        "oidc",
        "service_claim",
        "text",
        "client_id",
        "A token whose subject is also this claim is a service's, and no person's.",
    ),
    Key(
        "oidc",
        "client_id",
        "text",
        "none",
        "Lets people log in with a browser, as this client of the provider; its redirect URI is "
        "the server's url with /auth/callback.",
    ),
    Key("oidc", "client_secret_env", "text", "none", "The variable that holds its secret."),
    Key("oidc", "client_secret_file", "path", "none", "The file that holds it."),
    Key("oidc", "authorization_url", "text", "needed for client_id", "Where browsers are sent."),
    Key("oidc", "token_url", "text", "needed for client_id", "Where their codes are redeemed."),
    Key("oidc", "scope", "text", "openid", "What is asked for; openid is part of it."),
    Key("oidc", "session_hours", "number", "8", "How long somebody stays logged in.", 1, 24),
    Key(
        "oidc.roles",
        "VALUE",
        "texts",
        "none",
        'What a value of the claim stands for: ["LEDGER:ROLE", …].',
    ),
    Key("outgoing", "hosts", "texts", "none", "Hosts that webhooks may go to, over https."),
    Key(
        "outgoing",
        "private_hosts",
        "texts",
        "none",
        "Hosts that they may go to though they lie in a private network, over http too.",
    ),
    Key(
        "ingest",
        "origins",
        "texts",
        "none",
        "CloudEvents senders that are told they may deliver (WebHook-Request-Origin).",
    ),
    Key(
        "ingest.NAME",
        "system",
        "text",
        "NAME",
        "github, gitlab, gitea, forgejo, lakefs, mlflow, wandb, terraform, registry, kubernetes, "
        "eventgrid or standard; the webhook's path ends with NAME.",
    ),
    Key("ingest.NAME", "ledger", "text", "any", "The only ledger that it may deliver to."),
    Key("ingest.NAME", "secret_env", "text", "", "The environment variable that holds its secret."),
    Key("ingest.NAME", "secret_file", "path", "", "The file that holds it."),
    Key(
        "ingest.NAME",
        "old_secret_env",
        "text",
        "",
        "The variable of the secret before it, while it is being replaced.",
    ),
    Key(
        "terraform",
        "versions",
        "number",
        "100",
        "How many versions of each Terraform state are kept; older ones are deleted.",
        1,
        100_000,
    ),
    Key("terraform", "state_bytes", "number", "67108864", "The largest Terraform state.", 1024),
    Key(
        "ledgers.NAME",
        "store",
        "text",
        "needed",
        "sqlite:///relative/path.db, sqlite:////absolute/path.db or "
        "postgresql://user@host/database.",
    ),
    Key("ledgers.NAME", "keys", "path", "beside the store", "The folder of the signing key."),
    Key("ledgers.NAME", "objects", "path", "beside the store", "The folder of captured files."),
    Key(
        "ledgers.NAME",
        "public",
        "flag",
        "false",
        "Whether everybody may read checkpoint and tiles: who, what kind, when; never payloads.",
    ),
    Key(
        "ledgers.NAME",
        "rollback_roots",
        "paths",
        "none",
        "The folders that rollbacks run by this server may change; without any it runs none.",
    ),
)

LOGIN_KEYS: Final = (
    "client_id",
    "client_secret_env",
    "client_secret_file",
    "authorization_url",
    "token_url",
    "scope",
    "session_hours",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is taken at once."""

    body_bytes: int = 8 << 20
    request_seconds: int = 30
    in_flight: int = 512
    requests_per_second: int = 5_000
    burst: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfiguration:
    """One ledger: where it lies, and what the service may do with it."""

    settings: Settings
    public: bool = False
    rollback_roots: tuple[Path, ...] = ()
    policy: Policy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessConfiguration:
    """This server as a witness of other logs."""

    name: str
    keys: Path | None = None
    logs: tuple[VerifierKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TerraformConfiguration:
    """How much the state backend keeps, and takes."""

    versions: int = 100
    state_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfiguration:
    """A sender of webhooks. Its secrets are shown by nothing."""

    system: str
    ledger: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that `asof serve` is told."""

    ledgers: Mapping[str, LedgerConfiguration]
    host: str = "127.0.0.1"
    port: int = 8080
    url: str | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    trusted_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    data: Path = Path("asof.service")
    log_format: str = "json"
    telemetry: str | None = None
    limits: Limits = field(default_factory=Limits)
    ingest_origins: tuple[str, ...] = ()
    sources: Mapping[str, SourceConfiguration] = field(default_factory=dict)
    terraform: TerraformConfiguration = field(default_factory=TerraformConfiguration)
    witness: WitnessConfiguration | None = None
    oidc: OidcSettings | None = None
    outgoing: Allowed = field(default_factory=Allowed)


def single(settings: Settings, name: str, data: Path) -> Configuration:
    """One ledger and the defaults."""
    return Configuration(ledgers={name: LedgerConfiguration(settings=settings)}, data=data)


def read_configuration(path: Path, base: Settings | None = None) -> Configuration:
    """What the file says; relative paths are relative to it. Raises MalformedError naming table and
    key, StoreError where the file cannot be read.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"{path} is no TOML: {error}") from None
    reading = _Reading(path)
    _check_tables(path, given)
    server = reading.table("server", given.get("server", {}), "server")
    limits = reading.table("limits", given.get("limits", {}), "limits")
    ledgers = given.get("ledgers", {})
    if not isinstance(ledgers, dict) or not ledgers:
        raise MalformedError(f"{path}: name a ledger: [ledgers.acme] with its store")
    told = {name: _ledger(reading, name, one, base or Settings()) for name, one in ledgers.items()}
    ingest = dict(given.get("ingest", {}))
    tables = {name: ingest.pop(name) for name in list(ingest) if isinstance(ingest[name], dict)}
    arriving = reading.table("ingest", ingest, "ingest")
    terraform = reading.table("terraform", given.get("terraform", {}), "terraform")
    found = Configuration(
        ledgers=told,
        limits=Limits(**limits),
        ingest_origins=arriving.get("origins", ()),
        sources={name: _source(reading, name, one) for name, one in tables.items()},
        terraform=TerraformConfiguration(**terraform),
        witness=_witness(reading, given["witness"]) if "witness" in given else None,
        outgoing=_allowed(reading, given.get("outgoing", {})),
        oidc=_oidc(reading, given["oidc"], told, server.get("url")) if "oidc" in given else None,
        **server,
    )
    _check_together(path, found)
    return found


class _Reading:
    """Takes tables apart by `KEYS`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent

    def table(self, kind: str, given: Any, shown: str) -> dict[str, Any]:
        """The values of a table, each of its kind. Raises MalformedError."""
        if not isinstance(given, dict):
            raise MalformedError(f"{self._path}: [{shown}] must be a table")
        keys = {key.name: key for key in KEYS if key.table == kind}
        for name in given:
            if name not in keys:
                near = get_close_matches(name, keys, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(keys)}"
                raise MalformedError(f"{self._path}: [{shown}] {name}: no such key; {hint}")
        return {name: self._value(keys[name], given[name], shown) for name in given}

    def _value(self, key: Key, value: Any, shown: str) -> Any:
        where = f"{self._path}: [{shown}] {key.name}"
        if key.kind == "flag" and isinstance(value, bool):
            return value
        if key.kind == "number" and type(value) is int and key.least <= value <= key.most:
            return value
        if key.kind in ("text", "path") and isinstance(value, str) and value:
            return value if key.kind == "text" else self._folder / value
        if (
            key.kind in ("texts", "paths")
            and isinstance(value, list)
            and all(isinstance(item, str) and item for item in value)
        ):
            return tuple(value if key.kind == "texts" else (self._folder / item for item in value))
        wanted = {
            "flag": "true or false",
            "number": f"a whole number from {key.least} to {key.most}",
            "text": "a text",
            "path": "a path",
            "texts": "a list of texts",
            "paths": "a list of paths",
        }
        raise MalformedError(f"{where}: must be {wanted[key.kind]}")


def _ledger(reading: _Reading, name: str, given: Any, base: Settings) -> LedgerConfiguration:
    if not name or not all(
        letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in name
    ):
        raise MalformedError(
            f"[ledgers.{name}]: the name stands in paths: letters, digits, - _ . only"
        )
    told = reading.table("ledgers.NAME", given, f"ledgers.{name}")
    if "store" not in told:
        raise MalformedError(f"[ledgers.{name}]: store is missing")
    settings = replaced(
        base,
        store=_store(reading, told["store"]),
        keys=told.get("keys"),
        objects=told.get("objects"),
    )
    return LedgerConfiguration(
        settings=settings,
        public=told.get("public", False),
        rollback_roots=told.get("rollback_roots", ()),
        policy=_policy(told["policy"], name) if "policy" in told else None,
    )


def _policy(path: Path, name: str) -> Policy:
    try:
        return parse_policy(path.read_bytes().decode())
    except OSError as error:
        raise MalformedError(
            f"[ledgers.{name}] policy: {path} cannot be read: {error.strerror}"
        ) from None
    except (MalformedError, UnicodeDecodeError) as error:
        raise MalformedError(f"[ledgers.{name}] policy: {path}: {error}") from None


def _witness(reading: _Reading, given: Any) -> WitnessConfiguration:
    told = reading.table("witness", given, "witness")
    if "name" not in told:
        raise MalformedError("[witness]: name is missing")
    try:
        check_signer_name(told["name"])
    except MalformedError as error:
        raise MalformedError(f"[witness] name: {error}") from None
    try:
        logs = tuple(parse_vkey(text) for text in told.get("logs", ()))
    except MalformedError as error:
        raise MalformedError(f"[witness] logs: {error}") from None
    names = [log.name for log in logs]
    for name in names:
        if names.count(name) > 1:
            raise MalformedError(f"[witness] logs: two keys of the log {name}; it has one")
    return WitnessConfiguration(name=told["name"], keys=told.get("keys"), logs=logs)


def _allowed(reading: _Reading, given: Any) -> Allowed:
    told = reading.table("outgoing", given, "outgoing")
    hosts = {name: tuple(host.lower() for host in held) for name, held in told.items()}
    return Allowed(public=hosts.get("hosts", ()), private=hosts.get("private_hosts", ()))


def _oidc(
    reading: _Reading, given: Any, ledgers: Mapping[str, Any], site: str | None
) -> OidcSettings:
    roles = given.pop("roles", {}) if isinstance(given, dict) else {}
    told = reading.table("oidc", given, "oidc")
    for name in ("issuer", "audience", "jwks_url"):
        if name not in told:
            raise MalformedError(f"[oidc]: {name} is missing")
    if not isinstance(roles, dict):
        raise MalformedError("[oidc.roles] must be a table")
    login = {name: told.pop(name) for name in LOGIN_KEYS if name in told}
    return OidcSettings(
        **told,
        roles={value: _grants(value, held, ledgers) for value, held in roles.items()},
        login=_login(login, site) if login else None,
    )


def _login(told: dict[str, Any], site: str | None) -> LoginSettings:
    for name in ("client_id", "authorization_url", "token_url"):
        if name not in told:
            raise MalformedError(f"[oidc]: {name} is missing: logging in needs it")
    if site is None:
        raise MalformedError("[server]: url is missing: logging in needs it, to be sent back to")
    for where, url in (
        ("[server] url", site),
        ("[oidc] authorization_url", told["authorization_url"]),
        ("[oidc] token_url", told["token_url"]),
    ):
        _check_private(where, url)
    if "openid" not in told.get("scope", "openid").split():
        raise MalformedError("[oidc] scope: openid must be part of it")
    if urlsplit(site).path not in ("", "/"):
        raise MalformedError("[server] url: must have no path where people log in")
    secret = None
    if "client_secret_env" in told:
        variable = told.pop("client_secret_env")
        secret = _secret_of_environment(variable, "[oidc] client_secret_env")
    if "client_secret_file" in told:
        secret = _secret_of_file(told.pop("client_secret_file"), "[oidc] client_secret_file")
    return LoginSettings(site=site, client_secret=secret, **told)


def _check_private(where: str, url: str) -> None:
    """Codes, secrets and cookies go there: over TLS, or not over a network at all."""
    parts = urlsplit(url)
    here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or (parts.scheme != "https" and not here):
        raise MalformedError(f"{where}: must begin with https:// where people log in")


def _grants(value: str, held: Any, ledgers: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    for text in held if isinstance(held, list) else [held]:
        ledger, colon, role = str(text).partition(":")
        if not colon or ledger not in ledgers or role not in ROLES:
            raise MalformedError(
                f'[oidc.roles] {value}: {text!r} is not "LEDGER:ROLE" with a ledger of this file '
                f"and one of {', '.join(sorted(ROLES))}"
            )
        found.append((ledger, role))
    return tuple(found)


def _source(reading: _Reading, name: str, given: Any) -> SourceConfiguration:
    told = reading.table("ingest.NAME", given, f"ingest.{name}")
    secrets = [
        _secret_of_environment(told[key], f"[ingest.{name}] {key}")
        for key in ("secret_env", "old_secret_env")
        if key in told
    ]
    if "secret_file" in told:
        secrets.append(_secret_of_file(told["secret_file"], f"[ingest.{name}] secret_file"))
    if not secrets:
        raise MalformedError(f"[ingest.{name}]: secret_env or secret_file is missing")
    system = told.get("system", name)
    try:
        webhook_of(system)
    except MalformedError as error:
        raise MalformedError(f"[ingest.{name}] system: {error}") from None
    return SourceConfiguration(system=system, ledger=told.get("ledger"), secrets=tuple(secrets))


def _secret_of_environment(variable: str, where: str) -> str:
    found = environment().get(variable, "")
    if not found:
        raise MalformedError(f"{where}: the environment variable {variable} is not set")
    return found


def _secret_of_file(path: Path, where: str) -> str:
    try:
        found = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise MalformedError(f"{where}: {path} cannot be read: {error.strerror}") from None
    if not found:
        raise MalformedError(f"{where}: {path} is empty")
    return found


def _store(reading: _Reading, url: str) -> str:
    """sqlite:///relative is relative to the file, as every other path in it."""
    if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
        path = (reading._folder / url.removeprefix("sqlite:///")).absolute()
        return f"sqlite:///{path}"
    return url


def _check_tables(path: Path, given: Mapping[str, Any]) -> None:
    known = sorted({key.table.partition(".")[0] for key in KEYS})
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean [{near[0]}]?" if near else f"known are {', '.join(known)}"
            raise MalformedError(f"{path}: [{name}]: no such table; {hint}")


def _check_together(path: Path, found: Configuration) -> None:
    if (found.certificate is None) != (found.private_key is None):
        raise MalformedError(f"{path}: [server] certificate and private_key belong together")
    if found.log_format not in ("json", "text"):
        raise MalformedError(f"{path}: [server] log_format: must be json or text")

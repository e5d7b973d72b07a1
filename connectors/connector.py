"""What every connector is: five verbs on a foreign system, and the values that they exchange.

A connector shows what is there now, keeps what the ledger will cite, says whether an old version
can still come back, brings it back, and looks again::

    [seen] = connector.observe("/srv/shop/orders.csv")      # hashed by us, and kept
    event = ("asset.version.recorded/1", seen.asset.as_event_data())
    …
    connector.available(old)                                # Availability(status="available", …)
    connector.restore(step)                                 # Outcome(status="done", …)
    connector.read_back(step).digest == old.digest          # never believed, always looked at

Rules that hold for all of them (docs/connectors/README.md gives the reasons):

1. A digest is `sha256:` of bytes that we read ourselves; what the system says stands beside it.
2. `observe` keeps what it shows (a pin, a copy), so that it can be restored; `read_back` keeps
   nothing.
3. `restore` is a comparison and a change: it looks first, answers `already` when the target is
   there, and `refused` when something else is there than the step expects, unless the step says
   `overwrite`.
4. `restore` may be called again with the same step, after any crash, and ends in the same place.
5. The world's failures come back as an Outcome or an Availability; only a caller's mistake is
   raised.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

from ledger.asset_ref import format_asset_ref
from ledger.canonical import check_name
from ledger.errors import MalformedError

__all__ = [
    "AssetVersion",
    "Availability",
    "Connector",
    "Idempotency",
    "Message",
    "Observation",
    "Outcome",
    "Progress",
    "Restorable",
    "RestoreStep",
    "Settings",
    "check_digest",
    "check_plain_path",
    "check_system",
    "drift",
    "path_of_location",
    "plain_name",
]

Restorable = Literal["restorable", "recreatable", "verify_only"]
Idempotency = Literal["keyed", "read_back", "blind"]

# Called now and then with (bytes done, bytes in all or None); must be cheap and must not raise.
Progress = Callable[[int, int | None], None]


def _silent(_done: int, _total: int | None) -> None:
    """The progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a connector is given from outside; only the program's root reads the environment.

    `environ` is that environment: programs that we run see the few variables of it that are
    allowed. `objects` is the folder of the object store; `files` needs it, the others do without.
    `trust_owner` lets git read a repository that belongs to another user. `variables` names
    further environment variables that a captured environment may show.
    """

    environ: Mapping[str, str]
    objects: Path | None = None
    progress: Progress = _silent
    timeout: float = 600.0
    trust_owner: bool = False
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetVersion:
    """One immutable version of an asset, with all that is needed to bring it back.

    `source` is `{"system", "ref", "details": {…}}`, as events carry it; `restore` uses `source`,
    `digest` and `location` only, so a version rebuilt from a state's binding will do.
    """

    kind: str
    name: str
    version: str
    digest: str
    location: str
    source: Mapping[str, Any]
    restorable: Restorable
    size: int | None = None
    parents: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        format_asset_ref(self.kind, self.name, self.version)
        check_digest(self.digest)

    @property
    def ref(self) -> str:
        """`<kind>/<name>@<version>`, as bindings name it."""
        return f"{self.kind}/{self.name}@{self.version}"

    @property
    def details(self) -> Mapping[str, Any]:
        """What the system's own connector needs beside `source`'s `system` and `ref`."""
        return self.source.get("details") or {}

    def as_event_data(self) -> dict[str, Any]:
        """The data of `asset.version.recorded/1`."""
        data: dict[str, Any] = {
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "location": self.location,
            "source": dict(self.source),
            "parents": list(self.parents),
            "metadata": dict(self.metadata),
            "restorable": self.restorable,
        }
        return data if self.size is None else {**data, "size": self.size}

    @classmethod
    def from_event_data(cls, data: Mapping[str, Any]) -> AssetVersion:
        """The version that a recorded event, or the binding of a state, speaks of.

        Fields that neither this class nor the connectors use are left aside.
        Raises: MalformedError where a field that every version has is missing.
        """
        needed = ("kind", "name", "version", "digest", "location", "source", "restorable")
        missing = [key for key in needed if data.get(key) is None]
        if missing:
            raise MalformedError(f"an asset version without {', '.join(missing)}", where="/")
        return cls(
            **{key: data[key] for key in needed},
            size=data.get("size"),
            parents=tuple(data.get("parents") or ()),
            metadata=data.get("metadata") or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was there when we looked. No digest: nothing is there. `details` are for humans."""

    system: str
    target: str
    asset: AssetVersion | None
    digest: str | None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a version can still be brought back, checked now; `detail` says what is wrong."""

    status: Literal["available", "missing", "changed", "verify_only", "unknown"]
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreStep:
    """One restore in one system.

    `id` is the key under which the step happens at most once. `expected_digest_now` is what the
    plan saw; None says that the plan saw nothing there. `overwrite` waives that comparison.
    """

    id: str
    slot: str
    target: AssetVersion
    current: AssetVersion | None = None
    expected_digest_now: str | None = None
    idempotency: Idempotency = "read_back"
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_name(self.id, "step id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a restore ended. `unknown`: it may have happened; read back before anything else."""

    status: Literal["done", "already", "failed", "unknown", "refused"]
    detail: str = ""
    observed_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something that a system sent to us: a hook's input, a webhook's body."""

    headers: Mapping[str, str]
    body: bytes


class Connector(Protocol):
    """The hands on one system. Stateless; calls on different targets may run at once."""

    system: str
    idempotency: Idempotency

    def observe(
        self, target: str, *, kind: str | None = None, name: str | None = None
    ) -> Iterable[Observation]:
        """What is at `target` now, with digests of ours, kept for a later restore.

        Raises: MalformedError (a target that makes no sense), NotFoundError, RefusedError (what is
        there has no version that could be named, such as uncommitted changes), ConflictError (it
        changed while it was read), StoreError.
        """
        ...

    def translate(self, message: Message) -> list[tuple[str, dict[str, Any]]]:
        """The (type, data) of the events that a pushed message tells of. Pure.

        Raises: MalformedError for a message that this system does not send.
        """
        ...

    def available(self, version: AssetVersion) -> Availability:
        """Whether `version` can be restored: it exists and its bytes hash to its digest, now."""
        ...

    def restore(self, step: RestoreStep) -> Outcome:
        """Bring `step.target` back, or say why not. Rules 3 and 4 above."""
        ...

    def read_back(self, step: RestoreStep) -> Observation:
        """What is now where `step.target` belongs. Changes nothing.

        Raises: StoreError, or RefusedError where something is that can have no digest.
        """
        ...


def check_digest(digest: str) -> str:
    """The hex part of a `sha256:` digest. Raises: MalformedError for anything else."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise MalformedError(
            f"{digest!r} is not sha256: and 64 hexadecimal digits", where="/digest"
        )
    return value


def plain_name(text: str) -> str:
    """`text`, the name of a file or folder, as the name of an asset: in Unicode form NFC.

    Raises: MalformedError for one that cannot be a name, such as one with a line end.
    """
    name = unicodedata.normalize("NFC", text).strip()
    try:
        check_name(name, "name")
    except MalformedError as error:
        raise MalformedError(f"choose another name for {text!a} ({error})") from error
    return name


def check_plain_path(path: Path) -> Path:
    """`path`, if it can stand in an entry. Raises: MalformedError for one that is not UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedError(
            "a path that is not UTF-8 cannot be recorded; rename it", where=ascii(str(path))
        ) from None
    return path


def check_system(version: AssetVersion, system: str) -> None:
    """Raises: MalformedError when a version of another system is handed to this connector."""
    found = version.source.get("system")
    if found != system:
        raise MalformedError(
            f"{version.ref} comes from {found!r}; the connector {system!r} cannot restore it",
            where="/source/system",
        )


def drift(step: RestoreStep, found: str | None) -> str:
    """Why `step` must not overwrite what is there, or nothing at all (rule 3)."""
    if step.overwrite or found == step.expected_digest_now or found is None:
        return ""
    expected = step.expected_digest_now or "nothing"
    return (
        f"somebody changed it since the plan was made: expected {expected}, found {found}; "
        "make a new plan, or allow the step to overwrite it"
    )


def path_of_location(location: str) -> Path:
    """The path in a `file://` location of this machine. Raises: MalformedError."""
    parts = urlsplit(location)
    path = unquote(parts.path, errors="surrogateescape")
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.startswith("/"):
        raise MalformedError(
            f"{location!r} is not a file:// location of this machine", where="/location"
        )
    if "\0" in path or ".." in path.split("/"):
        raise MalformedError(f"{location!r} is not a plain path", where="/location")
    return Path(path)

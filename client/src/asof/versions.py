"""Versions of assets: what a file, a folder, a frame, values or an object are, by their content.

Digests are taken in the calling thread, because a file may change a moment later: about a second
for a gigabyte, remembered while size, times and place of a file stay the same. All else is one
write to the spool. Nothing in here raises unless the client is strict: what cannot be read has the
version `unknown`, and that is said.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from asof.errors import AsofError
from asof.events import plain, reference
from asof.frames import frame_digest, is_frame
from asof.html import table

if TYPE_CHECKING:
    from asof.client import Client

__all__ = ["PathLike", "Reference", "described", "record_config", "record_version", "references"]

PathLike = Union[str, "os.PathLike[str]"]
PIECE = 1 << 20


class Reference(str):
    """A recorded version, `<kind>/<name>@<version>`: a text that can be an input or an output.
    `digest` is empty where the content could not be read."""

    digest: str

    def __new__(cls, text: str, digest: str) -> Reference:
        made = super().__new__(cls, text)
        made.digest = digest
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (Reference, (str(self), self.digest))

    def _repr_html_(self) -> str:
        return table("Version", {"reference": str(self), "digest": self.digest})


@dataclass(frozen=True)
class Content:
    """What a version consists of: its digest, and what belongs into its record."""

    digest: str
    fields: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def record_version(
    client: Client,
    kind: str,
    what: Any,
    *,
    name: str,
    version: Optional[str] = None,
    parents: Iterable[str] = (),
    metadata: Optional[Mapping[str, Any]] = None,
) -> Reference:
    """Record a file or folder by its bytes, an array or frame by its values, any other object by
    its class and parameters (`get_params`, `get_config`): the version says no more than that."""
    return _record(client, kind, lambda: _content(what), name, version, parents, metadata)


def record_config(
    client: Client,
    what: Union[PathLike, Mapping[str, Any]],
    *,
    name: str,
    version: Optional[str] = None,
    parents: Iterable[str] = (),
    metadata: Optional[Mapping[str, Any]] = None,
) -> Reference:
    """Record a configuration: a file, or values, which are kept with the version."""

    def read() -> Content:
        if not isinstance(what, Mapping):
            return _content(what)
        values = plain(what)
        return Content(_digest(_canonical(values)), metadata={"values": values})

    return _record(client, "config", read, name, version, parents, metadata)


def references(given: Union[str, Iterable[str]]) -> list[str]:
    """Asset versions as texts; one alone is one, not its letters."""
    return [str(given)] if isinstance(given, str) else [str(one) for one in given]


def described(what: Any) -> Any:
    """The parameters of an object, where it tells them."""
    for method in ("get_params", "get_config"):
        ask = getattr(what, method, None)
        if callable(ask):
            try:
                return plain(ask())
            except Exception:
                return None
    return None


def _record(
    client: Client,
    kind: str,
    read: Callable[[], Content],
    name: str,
    version: Optional[str],
    parents: Union[str, Iterable[str]],
    metadata: Optional[Mapping[str, Any]],
) -> Reference:
    try:
        content = read()
        told = version or content.digest.partition(":")[2]
        data: dict[str, Any] = {
            "kind": kind,
            "name": name,
            "version": told,
            "digest": content.digest,
            **content.fields,
            "restorable": "verify_only",
        }
        if made_from := references(parents):
            data["parents"] = made_from
        if more := {**content.metadata, **(metadata or {})}:
            data["metadata"] = plain(more)
    except Exception as error:
        trouble = AsofError(f"the {kind} {name!r}: {type(error).__name__}: {error}")
        trouble.__cause__ = error
        client.trouble(trouble)
        return Reference(reference(kind, name, version or "unknown"), "")
    client.record("asset.version.recorded/1", data)
    return Reference(reference(kind, name, told), content.digest)


# ------------------------------------------------------------------------------------------ content


def _content(what: Any) -> Content:
    if isinstance(what, (str, os.PathLike)):
        path = Path(what)
        digest, size = _digest_of(path)
        return Content(digest, fields={"location": path.resolve().as_uri(), "size": size})
    if is_frame(what):
        digest, told = frame_digest(what)
        return Content(digest, metadata=told)
    told = {
        "class": f"{type(what).__module__}.{type(what).__qualname__}",
        "parameters": described(what),
    }
    return Content(
        _digest(_canonical(told)), metadata={**told, "digest_of": "class and parameters"}
    )


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


_remembered: dict[tuple[str, int, int, int, int], str] = {}


def _digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 of a file's bytes, or of a folder's listing (ADR 0040), and the bytes read."""
    if path.is_dir():
        return _tree_digest(path)
    seen = path.stat()
    mark = (
        str(path.resolve()),
        seen.st_size,
        seen.st_mtime_ns,
        getattr(seen, "st_ctime_ns", 0),
        seen.st_ino,
    )
    found = _remembered.get(mark)
    if found is None:
        found = f"sha256:{_file_digest(path)}"
        if len(_remembered) > 10_000:
            _remembered.clear()
        _remembered[mark] = found
    return found, seen.st_size


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _tree_digest(folder: Path) -> tuple[str, int]:
    entries, total = [], 0
    for path in sorted(
        folder.rglob("*"), key=lambda one: one.relative_to(folder).as_posix().encode()
    ):
        if path.is_symlink() or not path.is_file():
            continue
        size = path.stat().st_size
        total += size
        entries.append(
            {
                "mode": "100755" if os.access(path, os.X_OK) else "100644",
                "path": path.relative_to(folder).as_posix(),
                "sha256": _file_digest(path),
                "size": size,
            }
        )
    listing = {"entries": entries, "format": "asof.tree/1"}
    text = json.dumps(listing, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _digest(text.encode()), total

"""The contents list of a bundle: every member with its digest, the question, what it stands on.

::

    {"basis":{"recorded_at":"…","root":"<64 hex>","tree_size":42},"consistency":[],
     "files":[{"path":"checkpoint","sha256":"<64 hex>","size":243},…],"generator":"asof 0.1.0",
     "ledger":"ledger.example.com/acme","made_at":"2026-11-21T05:00:00.000000Z","parameters":{…},
     "payloads":{"erased":[{"evidence":40,"index":7}],"withheld":[41]},"question":"state","v":1}

One spelling only (RFC 8785 and a newline). It is signed through its digest, in `manifest.note`.
docs/spec/bundle.md, step 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple

from ledger.canonical import (
    JsonValue,
    format_base64,
    format_canonical,
    format_time,
    parse_base64,
    parse_json_object,
    parse_time,
)
from ledger.errors import MalformedError
from ledger.hashing import HASH_SIZE

__all__ = ["Basis", "FileDigest", "Manifest", "format_manifest", "note_text", "parse_manifest"]

MAX_MANIFEST_BYTES: Final = 1 << 24
_MEMBERS: Final = frozenset(
    "basis consistency files generator ledger made_at parameters payloads question v".split()
)


class FileDigest(NamedTuple):
    """A member as the manifest lists it."""

    path: str
    sha256: str
    size: int


class Basis(NamedTuple):
    """What an answer stands on: the tree of `tree_size` entries, and when the last of them was
    recorded.
    """

    tree_size: int
    root: bytes
    recorded_at: int

    def as_json(self) -> dict[str, JsonValue]:
        return {
            "recorded_at": format_time(self.recorded_at),
            "root": self.root.hex(),
            "tree_size": self.tree_size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`consistency` leads from the basis to the checkpoint; `erased` is {entry: the entry that
    erased it}.
    """

    ledger: str
    question: str
    parameters: Mapping[str, JsonValue]
    basis: Basis
    generator: str
    made_at: int
    files: tuple[FileDigest, ...]
    consistency: tuple[bytes, ...] = ()
    withheld: tuple[int, ...] = ()
    erased: Mapping[int, int] = field(default_factory=dict)


def format_manifest(manifest: Manifest) -> bytes:
    """The bytes of manifest.json."""
    return format_canonical(_as_json(manifest)) + b"\n"


def note_text(manifest: bytes) -> bytes:
    """What is signed: one line, so that it can never be read as a checkpoint, which has three."""
    return b"asof/bundle/v1 manifest.json sha256:%s\n" % sha256(manifest).hexdigest().encode(
        "ascii"
    )


def parse_manifest(data: bytes) -> Manifest:
    """The manifest whose bytes these are: parsed, formatted again, compared. MalformedError
    otherwise.
    """
    members = parse_json_object(data, max_bytes=MAX_MANIFEST_BYTES)
    if members.keys() != _MEMBERS or members["v"] != 1 or isinstance(members["v"], bool):
        raise MalformedError("not a manifest of version 1")
    payloads = _object(members["payloads"], "payloads")
    manifest = Manifest(
        ledger=_text(members["ledger"], "ledger"),
        question=_text(members["question"], "question"),
        parameters=_object(members["parameters"], "parameters"),
        basis=_basis(_object(members["basis"], "basis")),
        generator=_text(members["generator"], "generator"),
        made_at=parse_time(_text(members["made_at"], "made_at")),
        files=tuple(_file(item) for item in _list(members["files"], "files")),
        consistency=tuple(
            parse_base64(_text(item, "consistency"), size=HASH_SIZE)
            for item in _list(members["consistency"], "consistency")
        ),
        withheld=tuple(
            _index(item, "withheld") for item in _list(payloads.get("withheld"), "withheld")
        ),
        erased=_erased(_list(payloads.get("erased"), "erased")),
    )
    if format_manifest(manifest) != data:
        raise MalformedError("the bytes are not the canonical form of the manifest they hold")
    _check_order(item.path for item in manifest.files)
    return manifest


def _as_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "basis": manifest.basis.as_json(),
        "consistency": [format_base64(node) for node in manifest.consistency],
        "files": [item._asdict() for item in manifest.files],
        "generator": manifest.generator,
        "ledger": manifest.ledger,
        "made_at": format_time(manifest.made_at),
        "parameters": manifest.parameters,
        "payloads": {
            "erased": [{"evidence": e, "index": i} for i, e in sorted(manifest.erased.items())],
            "withheld": sorted(set(manifest.withheld)),
        },
        "question": manifest.question,
        "v": 1,
    }


def _check_order(paths: Iterable[str]) -> None:
    listed = list(paths)
    if listed != sorted(set(listed)):
        raise MalformedError("the files are in the order of their paths, each once", where="/files")


def _basis(members: Mapping[str, JsonValue]) -> Basis:
    return Basis(
        _index(members.get("tree_size"), "tree_size"),
        _hash(members.get("root"), "root"),
        parse_time(_text(members.get("recorded_at"), "recorded_at")),
    )


def _file(value: JsonValue) -> FileDigest:
    item = _object(value, "files")
    digest = _hash(item.get("sha256"), "sha256").hex()
    return FileDigest(_text(item.get("path"), "path"), digest, _index(item.get("size"), "size"))


def _erased(values: list[JsonValue]) -> dict[int, int]:
    items = [_object(value, "erased") for value in values]
    return {_index(i.get("index"), "index"): _index(i.get("evidence"), "evidence") for i in items}


def _hash(value: JsonValue, field: str) -> bytes:
    text = _text(value, field)
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != HASH_SIZE or data.hex() != text:
        raise MalformedError("expected 64 lower-case hex digits", where=f"/{field}")
    return data


def _text(value: JsonValue, field: str) -> str:
    if not isinstance(value, str):
        raise MalformedError("expected a string", where=f"/{field}")
    return value


def _index(value: JsonValue, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise MalformedError("expected a count", where=f"/{field}")
    return value


def _list(value: JsonValue, field: str) -> list[JsonValue]:
    if not isinstance(value, list):
        raise MalformedError("expected a list", where=f"/{field}")
    return value


def _object(value: JsonValue, field: str) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise MalformedError("expected an object", where=f"/{field}")
    return value

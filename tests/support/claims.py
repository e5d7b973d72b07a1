"""A small ledger with a story worth proving, bundles about it, and verify.py as a module."""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from ledger.bundle import build_bundle, bundle_state
from ledger.canonical import canonical_digest, format_time
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.draft import Draft
from ledger.guard import MemoryGuard
from ledger.hashing import EMPTY_ROOT
from ledger.note import Signer
from ledger.reader import Reader
from ledger.store import Head, Store
from ledger.stores.memory import MemoryStore
from ledger.writer import Writer

ORIGIN = "ledger.example.com/claims"
START = 1_795_237_200_000_000  # 2026-11-21T05:00:00Z
MINUTE = 60_000_000
SIGNER = Signer.from_seed(ORIGIN, bytes(range(32)))
STRANGER = Signer.from_seed(ORIGIN, b"\x99" * 32)
VERIFIER = Path(__file__).resolve().parents[2] / "ledger" / "verifier" / "verify.py"
GENERATOR = "asof test"


@dataclass(frozen=True)
class Told:
    """The ledger of the story, open."""

    store: Store
    writer: Writer
    reader: Reader

    def record(
        self, type_: str, stream: str, data: Mapping[str, Any], key: str | None = None
    ) -> int:
        """Append one event, a minute after the one before; its index."""
        payload = json.dumps(data, sort_keys=True, ensure_ascii=False).encode()
        draft = Draft(type=type_, stream=stream, actor="user:ada", payload=payload)
        return self.writer.append([draft], idempotency_key=key).first_index


def fixed_entropy() -> Any:
    """Salts that are the same in every run."""
    numbers = count()

    def entropy(size: int) -> bytes:
        return b"".join(sha256(b"salt %d" % next(numbers)).digest()[:16] for _ in range(size // 16))

    return entropy


def first_head() -> Head:
    return Head(
        origin=ORIGIN,
        size=0,
        root=EMPTY_ROOT,
        last_leaf=EMPTY_ROOT,
        recorded_at=0,
        edge=(),
        checkpoint=sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), SIGNER),
    )


@contextmanager
def opened(store: Store) -> Iterator[Told]:
    """A writer and a reader on an empty store."""
    ticks = count(START, MINUTE)
    store.create(first_head())
    with Writer(
        store, SIGNER, guard=MemoryGuard(), clock=lambda: next(ticks), entropy=fixed_entropy()
    ) as writer:
        yield Told(store, writer, Reader(store, SIGNER.vkey))


def tell(told: Told) -> None:
    """Twelve entries: two models, bindings, a late one, traffic, somebody else's pipeline."""
    place = {"pipeline": "shop", "stage": "live"}
    told.record("ledger.opened/1", "ledger", {"origin": ORIGIN})
    told.record("asset.version.recorded/1", "asset/model/m", asset("1"))
    told.record("asset.version.recorded/1", "asset/model/m", asset("2"))
    told.record("binding.changed/1", "pipeline/shop@live", place | bound("model", "model/m@1"))
    told.record("binding.changed/1", "pipeline/other@live", {"pipeline": "other", "stage": "live"})
    told.record("traffic.changed/1", "pipeline/shop@live", place | {"shares": {"model/m@1": 62.5}})
    told.record(
        "traffic.changed/1",
        "pipeline/shop@live",
        place | {"shares": {"model/m@2": 5}, "mode": "shadow"},
    )
    told.record("binding.changed/1", "pipeline/shop@live", place | bound("model", "model/m@2"))
    late = {"effective_at": format_time(START + MINUTE)}
    told.record(
        "binding.changed/1", "pipeline/shop@live", place | bound("data", "dataset/d@1") | late
    )
    told.record("binding.changed/1", "pipeline/shop@live", place | bound("old", "model/m@1"))
    told.record("binding.removed/1", "pipeline/shop@live", place | {"slot": "old"})
    told.record("note.added/1", "note/größe", {"text": "ü 😀 <script> \u202e"}, key="note-1")


def asset(version: str) -> dict[str, Any]:
    return {"kind": "model", "name": "m", "version": version, "digest": f"sha256:{version * 64}"}


def bound(slot: str, ref: str) -> dict[str, Any]:
    return {"slot": slot, "asset_version": ref}


@contextmanager
def story(store: Store | None = None) -> Iterator[Told]:
    """The story, told into a new ledger in memory or into the store given."""
    with opened(MemoryStore() if store is None else store) as told:
        tell(told)
        yield told


def answer(told: Told, *, size: int | None = None, known_at: str | None = None) -> dict[str, Any]:
    """What the story's state is, written by hand: model 2, a late dataset, 62.5 % on model 1."""
    bindings = {
        "model": {"asset_version": "model/m@2", "digest": f"sha256:{'2' * 64}"},
        "data": {"asset_version": "dataset/d@1", "digest": None},
    }
    content = {
        "bindings": bindings,
        "pipeline": "shop",
        "stage": "live",
        "traffic": {"model/m@1": 62.5},
    }
    return content | {
        "at": format_time(START + 100 * MINUTE),
        "known_at": known_at,
        "basis": told.reader.basis(size).as_json(),
        "state_digest": canonical_digest(content),
    }


def state_bundle(told: Told, path: Path, **options: Any) -> Path:
    """A bundle of the story's state."""
    given = options.pop("answer", None) or answer(told)
    options = {"signer": SIGNER, "made_at": START, "generator": GENERATOR} | options
    bundle_state(path, told.reader, given, **options)
    return path


def entries_bundle(told: Told, path: Path, indexes: list[int], **options: Any) -> Path:
    """A bundle of some entries."""
    options = {"signer": SIGNER, "made_at": START, "generator": GENERATOR} | options
    build_bundle(path, told.reader, indexes=indexes, **options)
    return path


@cache
def verifier() -> ModuleType:
    """verify.py, imported from where it lies: it is no part of the package."""
    spec = importlib.util.spec_from_file_location("standalone_verify", VERIFIER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["standalone_verify"] = module
    spec.loader.exec_module(module)
    return module


# --- containers by hand: what an attacker can make ------------------------------------------------


def members_of(data: bytes) -> dict[str, bytes]:
    """The members of a sound bundle, in order."""
    from ledger.bundle.container import read_container

    container, wrong = read_container(data)
    assert not wrong
    return {name: container.read(name) for name in container}


def pack(members: Mapping[str, bytes] | list[tuple[str, bytes]]) -> bytes:
    """A container in the format's own profile, of any names and contents whatever."""
    pairs = list(members.items()) if isinstance(members, Mapping) else members
    body, directory = b"", b""
    for name, data in pairs:
        raw = name.encode()
        crc = zlib.crc32(data)
        local = struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0x21, crc, len(data), len(data), len(raw), 0
        )
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0x21, crc, len(data), len(data), len(raw),
            0, 0, 0, 0, 0, len(body),
        ) + raw  # fmt: skip
        body += local + raw + data
    end = struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, len(pairs), len(pairs), len(directory), len(body), 0
    )
    return body + directory + end


def resealed(members: Mapping[str, bytes], *, signer: Signer | None = SIGNER) -> bytes:
    """A bundle whose manifest lists what is there, signed again: what an insider can make."""
    from ledger.bundle.manifest import note_text
    from ledger.canonical import format_canonical
    from ledger.note import sign_note

    content = {n: d for n, d in members.items() if not n.startswith("manifest.")}
    manifest = json.loads(members["manifest.json"])
    manifest["files"] = [
        {"path": name, "sha256": sha256(data).hexdigest(), "size": len(data)}
        for name, data in sorted(content.items())
    ]
    data = format_canonical(manifest) + b"\n"
    sealed = {**content, "manifest.json": data}
    if signer is not None:
        sealed["manifest.note"] = sign_note(note_text(data), [signer])
    return pack(sealed)

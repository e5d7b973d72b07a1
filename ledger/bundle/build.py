"""To write a bundle: the entries that bear on a question, and all that is needed to check them.

::

    build_bundle("claim.zip", reader, indexes=[7, 9], signer=signer, made_at=now, generator=name)
    bundle_state("state.zip", reader, answer.as_json(), signer=signer, made_at=now, generator=name)

The same question on the same basis gives the same bytes, but for `made_at`. A bundle of a state
carries each entry that touched the pipeline, and, up to `COMPLETE_LIMIT` entries, all entries of
the ledger without their payloads: only so can a stranger see that nothing else touched it
(docs/adr/0022).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

from ledger.asset_ref import split_asset_ref
from ledger.bundle.container import write_container
from ledger.bundle.manifest import Basis, FileDigest, Manifest, format_manifest, note_text
from ledger.bundle.question import (
    ERASURE_TYPES,
    erased_indexes,
    parse_question,
    recorded_asset,
)
from ledger.canonical import JsonValue, format_canonical, format_time
from ledger.chain import StoredRow
from ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from ledger.entry import EntryFormatter
from ledger.errors import MalformedError, NotFoundError, RefusedError, TamperError
from ledger.hashing import EMPTY_ROOT
from ledger.merkle import check_consistency
from ledger.note import Signer, VerifierKey, format_vkey, sign_note
from ledger.proof import InclusionProof, format_proof
from ledger.tiles import TILE_WIDTH, format_bundle, format_bundle_path

__all__ = [
    "COMPLETE_LIMIT",
    "MAX_ENTRIES",
    "Source",
    "build_bundle",
    "bundle_state",
    "entry_tiles",
]

COMPLETE_LIMIT: Final = 65_536
"""Up to this size of the tree a bundle of a state carries all entries (about 26 MB), if not told
otherwise.
"""

MAX_ENTRIES: Final = 16_000
"""Entries with their payloads and proofs in one bundle: four members each, and a ZIP file holds
65,535.
"""

ERASURE_STREAMS: Final = ("hold/", "privacy/", "report/")
FOLDER: Final = Path(__file__).resolve().parents[1] / "verifier"


class HasIndex(Protocol):
    """A record of a stream, as far as a bundle needs it."""

    @property
    def index(self) -> int: ...


class Rows(Protocol):
    """A ledger's name and rows: what entry bundles are made from."""

    @property
    def origin(self) -> str: ...
    def rows(self, start: int, stop: int) -> Iterable[StoredRow]: ...


class Source(Rows, Protocol):
    """What a bundle is made from; `ledger.reader.Reader` is one."""

    @property
    def vkey(self) -> VerifierKey: ...
    def checkpoint(self) -> bytes: ...
    def root(self, size: int) -> bytes: ...
    def consistency(self, size1: int, size2: int) -> list[bytes]: ...
    def inclusion_hashes(self, index: int, size: int) -> list[bytes]: ...
    def entry_bytes(self, index: int) -> bytes: ...
    def stream(self, name: str, after_version: int = 0) -> Iterable[HasIndex]: ...
    def streams(self, prefix: str = "") -> Iterable[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """The signed tree that the proofs lead to, and how the basis begins it."""

    basis: Basis
    size: int
    checkpoint: bytes
    consistency: tuple[bytes, ...]


@dataclass(slots=True)
class _Chosen:
    """Which entries go in, which without payload, and which payloads were erased by what."""

    indexes: set[int]
    withheld: set[int]
    erased: dict[int, int] = field(default_factory=dict)


def build_bundle(
    path: str | os.PathLike[str],
    source: Source,
    *,
    indexes: Iterable[int],
    made_at: int,
    generator: str,
    tree_size: int | None = None,
    question: str = "entries",
    parameters: Mapping[str, JsonValue] | None = None,
    members: Mapping[str, bytes] | None = None,
    withhold: Collection[int] = (),
    complete: bool = False,
    signer: Signer | None = None,
) -> Manifest:
    """Write a bundle that proves these entries; its manifest. Nothing is left at `path` on failure.

    `tree_size` is the basis (the whole ledger where None). `members` are further files of the
    format, such as report.json. `withhold` names entries whose payloads are not disclosed.
    `complete` adds all entries of the tree, without payloads. Without a `signer` the manifest
    stays unsigned, which a verifier calls INCOMPLETE.

    Raises NotFoundError for an entry beyond the basis, RefusedError for too many, TamperError for
    a payload that is missing without an entry that erased it.
    """
    tree = _signed_tree(source, tree_size, signer)
    chosen = _choose(source, set(indexes), set(withhold), tree.basis.tree_size)
    draft = Manifest(
        ledger=source.origin,
        question=question,
        parameters=dict(parameters or {}),
        basis=tree.basis,
        generator=generator,
        made_at=made_at,
        files=(),
        consistency=tree.consistency,
        withheld=tuple(sorted(chosen.withheld)),
        erased=chosen.erased,
    )
    files: list[FileDigest] = []
    content = _content(source, tree, chosen, dict(members or {}), complete)
    target = Path(path)
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        with unfinished.open("wb") as file:
            write_container(file, _with_manifest(_listed(content, files), files, draft, signer))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            unfinished.unlink()
        raise
    return _finished(draft, files)


def bundle_state(
    path: str | os.PathLike[str],
    source: Source,
    answer: Mapping[str, Any],
    *,
    made_at: int,
    generator: str,
    complete: bool | None = None,
    members: Mapping[str, bytes] | None = None,
    signer: Signer | None = None,
) -> Manifest:
    """Write a bundle that justifies a state (`State.as_json()`), with the answer itself as
    report.json.

    Inside are all entries of the pipeline's stream up to the basis and, of each bound asset
    version, its stream up to the record that holds. `complete` None means: all entries up to
    `COMPLETE_LIMIT`.
    """
    asked = {name: answer[name] for name in ("pipeline", "stage", "at", "known_at")}
    tree_size = int(answer["basis"]["tree_size"])
    return build_bundle(
        path,
        source,
        indexes=_state_entries(source, answer, tree_size),
        made_at=made_at,
        generator=generator,
        tree_size=tree_size,
        question="state",
        parameters=asked,
        members={**(members or {}), "report.json": format_canonical(dict(answer)) + b"\n"},
        complete=tree_size <= COMPLETE_LIMIT if complete is None else complete,
        signer=signer,
    )


# --- what goes in ---------------------------------------------------------------------------------


def _signed_tree(source: Source, tree_size: int | None, signer: Signer | None) -> _Tree:
    """The tree of the basis, signed; without a signer the newest checkpoint, and the way to it.

    An older size is signed only after it was shown to be the beginning of the tree that is signed
    already: a store that was tampered with cannot have its rewritten past signed here.
    """
    signed = source.checkpoint()
    newest = open_checkpoint(signed, source.vkey)
    size = newest.size if tree_size is None else tree_size
    if not 1 <= size <= newest.size:
        raise NotFoundError(f"a basis of {size} entries: this ledger has 1 to {newest.size}")
    root = source.root(size)
    path = source.consistency(size, newest.size)
    check_consistency(size, newest.size, path, root, newest.root)
    basis = Basis(size, root, _row(source, size - 1)[1])
    if size == newest.size or signer is None:
        return _Tree(basis=basis, size=newest.size, checkpoint=signed, consistency=tuple(path))
    own = sign_checkpoint(Checkpoint(origin=source.origin, size=size, root=root), signer)
    return _Tree(basis=basis, size=size, checkpoint=own, consistency=())


def _choose(source: Source, indexes: set[int], withhold: set[int], tree_size: int) -> _Chosen:
    """The entries asked for, the last one of the basis (it dates it), and those that erased
    payloads.
    """
    beyond = [index for index in indexes if not 0 <= index < tree_size]
    if beyond:
        raise NotFoundError(f"entry {min(beyond)} is not among the {tree_size} of the basis")
    chosen = _Chosen(indexes | {tree_size - 1}, (withhold & indexes) | ({tree_size - 1} - indexes))
    missing = {i for i in chosen.indexes if _row(source, i)[8] is None}
    for index, evidence in _erasures(source, missing, tree_size).items():
        chosen.erased[index] = evidence
        chosen.indexes.add(evidence)
        chosen.withheld -= {index, evidence}
    lost = sorted(missing - chosen.erased.keys())
    if lost:
        raise TamperError(
            "payload missing without erasure evidence",
            index=lost[0],
            expected="an erasure entry that lists it",
            found="none",
        )
    if len(chosen.indexes) > MAX_ENTRIES:
        raise RefusedError(
            f"{len(chosen.indexes)} entries are more than one bundle holds ({MAX_ENTRIES}):"
            " ask a narrower question, or export the ledger"
        )
    return chosen


def _erasures(source: Source, missing: set[int], tree_size: int) -> dict[int, int]:
    """{entry: the entry of the basis that says its payload was erased}; the streams of privacy
    only.
    """
    found: dict[int, int] = {}
    names = [s for prefix in ERASURE_STREAMS for s in source.streams(prefix)] if missing else []
    for name in names:
        for record in source.stream(name):
            row = _row(source, record.index)
            if row[4] in ERASURE_TYPES and row[8] is not None and record.index < tree_size:
                for index in missing & set(erased_indexes(row[8])):
                    found.setdefault(index, record.index)
    return found


def _state_entries(source: Source, answer: Mapping[str, Any], tree_size: int) -> set[int]:
    question = parse_question(answer)
    indexes = {r.index for r in source.stream(question.stream) if r.index < tree_size}
    for binding in answer["bindings"].values():
        with suppress(MalformedError):
            indexes |= _records(source, binding["asset_version"], tree_size)
    return indexes


def _records(source: Source, ref: str, tree_size: int) -> set[int]:
    """The asset's stream up to the first record of this version: so it is the first."""
    kind, name, _ = split_asset_ref(ref)
    before: set[int] = set()
    for record in source.stream(f"asset/{kind}/{name}"):
        if record.index >= tree_size:
            break
        before.add(record.index)
        row = _row(source, record.index)
        if recorded_asset(row[4], row[8]) == ref:
            break
    return before


def _row(source: Rows, index: int) -> StoredRow:
    return next(iter(source.rows(index, index + 1)))


# --- members --------------------------------------------------------------------------------------


def _content(
    source: Source, tree: _Tree, chosen: _Chosen, members: Mapping[str, bytes], complete: bool
) -> Iterator[tuple[str, bytes]]:
    """All members but the manifest, one at a time."""
    yield "README.txt", (FOLDER / "README.txt").read_bytes()
    yield "checkpoint", tree.checkpoint
    yield "keys/ledger.vkey", format_vkey(source.vkey).encode() + b"\n"
    yield from sorted(members.items())
    for index in sorted(chosen.indexes):
        yield f"entries/{index}.json", source.entry_bytes(index)
        if index not in chosen.withheld and index not in chosen.erased:
            row = _row(source, index)
            yield f"payloads/{index}.bin", row[8] or b""
            yield f"payloads/{index}.salt", row[7] or b""
        hashes = tuple(source.inclusion_hashes(index, tree.size))
        yield (
            f"proofs/{index}.tlog-proof",
            format_proof(InclusionProof(index, hashes, tree.checkpoint)),
        )
    if complete:
        yield from entry_tiles(source, tree.size)
    yield "verify.py", (FOLDER / "verify.py").read_bytes()


def entry_tiles(source: Rows, size: int, start: int = 0) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of the entry bundles of the first `size` entries, from entry `start` (256·k)
    on.
    """
    formatter = EntryFormatter(source.origin)
    prev = EMPTY_ROOT if start == 0 else _row(source, start - 1)[9]
    held: list[bytes] = []
    for row in source.rows(start, size):
        index, at, actor, stream, type_, version, commitment = row[:7]
        held.append(
            formatter.format(
                index, prev.hex(), format_time(at), actor, stream, type_, version, commitment.hex()
            )
        )
        prev = row[9]
        if len(held) == TILE_WIDTH or index + 1 == size:
            yield format_bundle_path(index // TILE_WIDTH, len(held)), format_bundle(held)
            held.clear()


def _listed(
    content: Iterable[tuple[str, bytes]], files: list[FileDigest]
) -> Iterator[tuple[str, bytes]]:
    """The members as they pass by, each noted for the manifest."""
    for path, data in content:
        files.append(FileDigest(path, sha256(data).hexdigest(), len(data)))
        yield path, data


def _with_manifest(
    content: Iterable[tuple[str, bytes]],
    files: list[FileDigest],
    draft: Manifest,
    signer: Signer | None,
) -> Iterator[tuple[str, bytes]]:
    yield from content
    manifest = format_manifest(_finished(draft, files))
    yield "manifest.json", manifest
    if signer is not None:
        yield "manifest.note", sign_note(note_text(manifest), [signer])


def _finished(draft: Manifest, files: list[FileDigest]) -> Manifest:
    return Manifest(
        ledger=draft.ledger,
        question=draft.question,
        parameters=draft.parameters,
        basis=draft.basis,
        generator=draft.generator,
        made_at=draft.made_at,
        files=tuple(sorted(files)),
        consistency=draft.consistency,
        withheld=draft.withheld,
        erased=draft.erased,
    )

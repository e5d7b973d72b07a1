"""To check a bundle: twelve numbered steps, the same as in docs/spec/bundle.md and in verify.py.

::

    report = read_bundle("claim.zip", vkey=parse_vkey("ledger.example.com/acme+5cbf3414+AQOh…"))
    report.result                Verdict.VALID, and report.not_checked says what that does not cover

Steps 1 to 6 stop at the first finding: after it nothing else in the file could be attributed to
anybody. From step 7 on every damaged entry is named, each by its own finding.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ledger.bundle.container import Container, TooLargeError, member_index, read_container
from ledger.bundle.manifest import Manifest, note_text, parse_manifest
from ledger.bundle.question import (
    ERASURE_TYPES,
    Question,
    erased_indexes,
    parse_question,
    recorded_asset,
)
from ledger.canonical import canonical_digest, format_time, parse_json_object
from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.commitment import check_commitment
from ledger.entry import Entry, entry_leaf, parse_entry
from ledger.errors import AsofError, IncompleteError, MalformedError, TamperError
from ledger.hashing import EMPTY_ROOT
from ledger.merkle import Frontier, check_consistency, check_inclusion
from ledger.note import VerifierKey, format_vkey, open_note, parse_vkey
from ledger.proof import parse_proof
from ledger.tiles import TILE_WIDTH, format_bundle_path, parse_bundle
from ledger.verdict import Report

__all__ = ["STEPS", "check_bundle", "read_bundle"]

STEPS: Final = (
    "1 container",
    "2 manifest",
    "3 keys",
    "4 signature",
    "5 checkpoint",
    "6 basis",
    "7 entries",
    "8 proofs",
    "9 links",
    "10 payloads",
    "11 completeness",
    "12 answer",
)
_REQUIRED: Final = ("manifest.json", "checkpoint", "verify.py", "README.txt")
_UNLISTED: Final = frozenset(("manifest.json", "manifest.note"))
_MAX_REPORT: Final = 1 << 24

ALWAYS_UNCHECKED: Final = (
    "that what was recorded is true, and that everything that happened was recorded",
    "entries recorded after the checkpoint",
    "that the ledger showed everybody else the same tree: compare checkpoints, or ask a witness",
)


@dataclass(slots=True)
class _State:
    """What the steps hand on; each field is set by the step of its line."""

    report: Report
    vkey: VerifierKey | None
    data: bytes
    container: Container = field(init=False)  # 1
    manifest: Manifest = field(init=False)  # 2
    key: VerifierKey = field(init=False)  # 3
    checkpoint: Checkpoint = field(init=False)  # 5
    entries: dict[int, tuple[Entry, bytes]] = field(default_factory=dict)  # 7
    payloads: dict[int, bytes] = field(default_factory=dict)  # 10
    every: list[Entry] | None = None  # 11


def read_bundle(path: str | os.PathLike[str], *, vkey: VerifierKey | None = None) -> Report:
    """`check_bundle` of a file, which is mapped and not loaded. A file that cannot be read is an
    ERROR.
    """
    try:
        with Path(path).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return check_bundle(b"", vkey=vkey)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return check_bundle(data, vkey=vkey)  # type: ignore[arg-type]  # slices of it are bytes
    except OSError as error:
        return Report(error=f"cannot read {path}: {error.strerror}")


def check_bundle(data: bytes, *, vkey: VerifierKey | None = None) -> Report:
    """The report on the bytes of a bundle, whatever they are. Without `vkey` the key inside is
    believed, and the report says so.
    """
    state = _State(Report(), vkey, data)
    report = state.report
    done = 0
    for done, step in enumerate(_CHECKS, start=1):
        try:
            step(state)
        except TooLargeError as error:
            report.error = str(error)
            break
        except (MalformedError, TamperError) as error:
            report.refuse(STEPS[done - 1], error, place=_PLACES.get(done, ""))
        if done <= 6 and report.findings:
            break
    if done < len(STEPS):
        report.not_checked.append("because of that: steps " + ", ".join(STEPS[done:]))
    report.not_checked.extend(ALWAYS_UNCHECKED)
    return report


# --- 1 to 6: what the file is, and who says so ----------------------------------------------------


def _check_container(state: _State) -> None:
    """1. Every bit lies in a header that is exactly as written, or under a checksum."""
    state.container, wrong = read_container(state.data)
    state.report.count("members", len(state.container))
    for name, expected, found in wrong:
        state.report.find(
            STEPS[0],
            "the content is not what was written",
            index=member_index(name),
            place=name,
            expected=expected,
            found=found,
        )


def _check_manifest(state: _State) -> None:
    """2. The manifest names every member with its size and SHA-256, and nothing else is inside."""
    container, report = state.container, state.report
    for name in _REQUIRED:
        if name not in container:
            report.find(STEPS[1], "a bundle must have this member", place=name)
    if report.findings:
        return
    state.manifest = parse_manifest(container.read("manifest.json"))
    listed = {item.path: item for item in state.manifest.files}
    for name in container:
        if name not in listed and name not in _UNLISTED:
            message = "a member that the manifest does not list"
            report.find(STEPS[1], message, index=member_index(name), place=name)
    for path, item in listed.items():
        content = container.read(path) if path in container else None
        found = None if content is None else (len(content), sha256(content).hexdigest())
        if found != (item.size, item.sha256):
            report.find(
                STEPS[1],
                "the content is not the listed one",
                index=member_index(path),
                place=path,
                expected=f"{item.size} bytes, sha256 {item.sha256}",
                found="no such member" if found is None else f"{found[0]} bytes, sha256 {found[1]}",
            )
    report.count("digests", len(listed))


def _find_key(state: _State) -> None:
    """3. The key of the ledger: the caller's, or else the one inside, which is then not pinned."""
    inside = [
        parse_vkey(_one_line(state.container.read(name)))
        for name in sorted(state.container)
        if name.startswith("keys/")
    ]
    own = [key for key in inside if key.name == state.manifest.ledger]
    state.report.count("keys", len(inside))
    if state.vkey is not None:
        if state.vkey.name != state.manifest.ledger:
            raise TamperError(
                "a bundle of another ledger than the key",
                expected=state.vkey.name,
                found=state.manifest.ledger,
            )
        if any(key != state.vkey for key in own):
            state.report.notes.append("the key inside is not the key you gave; yours was used")
        state.key = state.vkey
    elif len(own) != 1:
        raise TamperError(
            "there is not exactly one key of the ledger inside, and none was given",
            expected="1",
            found=str(len(own)),
        )
    else:
        state.key = own[0]
        state.report.notes.append(f"KEY NOT PINNED: {format_vkey(own[0])}")
        state.report.not_checked.append(
            "that the key is the ledger's: none was given, so the one inside was believed"
        )


def _check_signature(state: _State) -> None:
    """4. The manifest is signed by the ledger's key."""
    if "manifest.note" not in state.container:
        state.report.lack("who made this bundle: its manifest is not signed")
        return
    note = open_note(state.container.read("manifest.note"), [state.key])
    right = note_text(state.container.read("manifest.json"))
    if note.text != right:
        raise TamperError(
            "the signed manifest is another one", expected=ascii(right), found=ascii(note.text)
        )
    state.report.count("manifest_signature", 1)


def _check_checkpoint(state: _State) -> None:
    """5. The checkpoint is signed by the ledger's key."""
    data = state.container.read("checkpoint")
    state.checkpoint = open_checkpoint(data, state.key)
    state.report.checked["checkpoint"] = state.checkpoint.size
    others = len(open_note(data, [state.key]).signatures) - 1
    if others:
        state.report.not_checked.append(f"{others} cosignatures on the checkpoint")
    for name in sorted(state.container):
        if name == "policy" or name.startswith("timestamps/"):
            state.report.lack(f"{name}: this verifier does not evaluate it")


def _check_basis(state: _State) -> None:
    """6. The tree that the answer stands on is the signed tree, or the beginning of it."""
    basis, tree = state.manifest.basis, state.checkpoint
    proof = state.manifest.consistency
    check_consistency(basis.tree_size, tree.size, proof, basis.root, tree.root)
    state.report.checked["basis"] = basis.tree_size


# --- 7 to 10: entries, proofs, links, payloads ----------------------------------------------------


def _check_entries(state: _State) -> None:
    """7. Each entry is canonical, of this ledger, in its place; the last one dates the basis."""
    report, basis = state.report, state.manifest.basis
    for index, name in state.container.indexed("entries", ".json").items():
        data = state.container.read(name)
        try:
            state.entries[index] = (_placed(data, index, state.manifest.ledger), entry_leaf(data))
        except AsofError as error:
            report.refuse(STEPS[6], error, index=index, place=name)
    last = state.entries.get(basis.tree_size - 1)
    if last is None:
        report.find(
            STEPS[6], "the last entry of the basis is missing", expected=basis.tree_size - 1
        )
    elif last[0].recorded_at != basis.recorded_at:
        report.find(
            STEPS[6],
            "the basis has another time than its last entry",
            index=last[0].index,
            expected=format_time(last[0].recorded_at),
            found=format_time(basis.recorded_at),
        )
    report.entries = len(state.entries)
    report.count("entries", len(state.entries))


def _check_proofs(state: _State) -> None:
    """8. Each entry has a proof that it is in the tree of the checkpoint."""
    signed, tree = state.container.read("checkpoint"), state.checkpoint
    proofs = state.container.indexed("proofs", ".tlog-proof")
    for index, name in proofs.items():
        try:
            proof = parse_proof(state.container.read(name))
            if proof.index != index or proof.checkpoint != signed:
                raise TamperError("the proof is of another entry, or for another checkpoint")
            if index in state.entries:
                leaf = state.entries[index][1]
                check_inclusion(index, tree.size, leaf, proof.hashes, tree.root)
        except AsofError as error:
            state.report.refuse(STEPS[7], error, index=index, place=name)
    for index in sorted(set(state.container.indexed("entries", ".json")) ^ set(proofs)):
        state.report.find(STEPS[7], "an entry and its proof come together", index=index)
    state.report.count("proofs", len(proofs))


def _check_links(state: _State) -> None:
    """9. Neighbours are linked, time does not run backwards, stream versions count up."""
    before: Entry | None = None
    versions: dict[str, int] = {}
    for index, (entry, _) in state.entries.items():
        if before is not None and before.recorded_at > entry.recorded_at:
            state.report.find(STEPS[8], "recorded before its predecessor", index=index)
        if index - 1 in state.entries:
            _check_prev(state, entry, state.entries[index - 1][1])
        if entry.version <= versions.get(entry.stream, 0):
            state.report.find(
                STEPS[8],
                "a stream version does not count up",
                index=index,
                expected=versions[entry.stream] + 1,
                found=entry.version,
            )
        versions[entry.stream] = max(versions.get(entry.stream, 0), entry.version)
        before = entry


def _check_prev(state: _State, entry: Entry, expected: bytes) -> None:
    state.report.count("links", 1)
    if entry.prev != expected:
        state.report.find(
            STEPS[8],
            "not linked to the entry before",
            index=entry.index,
            expected=expected.hex(),
            found=entry.prev.hex(),
        )


def _check_payloads(state: _State) -> None:
    """10. Each payload is the one committed to, or is stated to be withheld, or was lawfully
    erased.
    """
    container, report = state.container, state.report
    bins, salts = container.indexed("payloads", ".bin"), container.indexed("payloads", ".salt")
    have = container.indexed("entries", ".json")
    withheld, erased = set(state.manifest.withheld), state.manifest.erased
    for index in sorted((bins.keys() | salts.keys() | withheld | erased.keys()) - have.keys()):
        report.find(STEPS[9], "a payload without its entry", index=index)
    for index in have:
        ways = (index in bins and index in salts, index in withheld, index in erased)
        if (index in bins) != (index in salts) or sum(ways) != 1:
            message = "a payload is present with its salt, or stated as withheld, or as erased"
            report.find(
                STEPS[9], message, index=index, expected="one of the three", found=sum(ways)
            )
        elif ways[0] and index in state.entries:
            _check_payload(state, index, container.read(salts[index]), container.read(bins[index]))
    for index, evidence in erased.items():
        _check_evidence(state, index, evidence)
    report.count("payloads", len(state.payloads))
    if withheld:
        report.not_checked.append(f"the {len(withheld)} payloads that were withheld")


def _check_payload(state: _State, index: int, salt: bytes, payload: bytes) -> None:
    try:
        check_commitment(state.entries[index][0].commitment, salt, payload)
        state.payloads[index] = payload
    except AsofError as error:
        state.report.refuse(STEPS[9], error, index=index, place=f"payloads/{index}.bin")


def _check_evidence(state: _State, index: int, evidence: int) -> None:
    """An erased payload is lawful only when an entry of the ledger lists it."""
    entry = state.entries.get(evidence)
    payload = state.payloads.get(evidence)
    lawful = entry is not None and payload is not None and entry[0].type in ERASURE_TYPES
    if not lawful or index not in erased_indexes(payload or b""):
        state.report.find(
            STEPS[9],
            "payload missing without erasure evidence",
            index=index,
            expected="an erasure entry that lists it",
            found=evidence,
        )


# --- 11: completeness -----------------------------------------------------------------------------


def _check_completeness(state: _State) -> None:
    """11. Where all entries of the tree are inside, they give its root."""
    container, size = state.container, state.checkpoint.size
    inside = {name for name in container if name.startswith("tile/")}
    if not inside:
        return
    paths = [
        format_bundle_path(start // TILE_WIDTH, min(TILE_WIDTH, size - start))
        for start in range(0, size, TILE_WIDTH)
    ]
    if inside != set(paths):
        raise TamperError(
            "the entry bundles are not those of the tree",
            expected=str(len(paths)),
            found=str(len(inside)),
        )
    every, leaves = [], []
    versions: dict[str, int] = {}
    for entry, leaf in _all_entries(state, paths):
        every.append(entry)
        leaves.append(leaf)
        version = versions.get(entry.stream, 0) + 1
        if entry.version != version:
            state.report.find(
                STEPS[10],
                "a stream version is not the next one",
                index=entry.index,
                expected=version,
                found=entry.version,
            )
        versions[entry.stream] = entry.version
    root = Frontier.empty().extended(leaves).root()
    if len(every) != size or root != state.checkpoint.root:
        expected = state.checkpoint.root.hex()
        raise TamperError(
            "all entries do not give the signed root", expected=expected, found=root.hex()
        )
    state.every = every
    state.report.count("all_entries", len(every))


def _all_entries(state: _State, paths: list[str]) -> Iterator[tuple[Entry, bytes]]:
    index, prev = 0, EMPTY_ROOT
    for path in paths:
        for data in parse_bundle(state.container.read(path)):
            try:
                entry = _placed(data, index, state.manifest.ledger)
            except MalformedError as error:
                raise TamperError(f"no entry lies here: {error}", index=index) from error
            if entry.prev != prev:
                raise TamperError(
                    "not linked to the entry before",
                    index=index,
                    expected=prev.hex(),
                    found=entry.prev.hex(),
                )
            prev = entry_leaf(data)
            yield entry, prev
            index += 1


# --- 12: the answer -------------------------------------------------------------------------------


def _check_answer(state: _State) -> None:
    """12. The state of a pipeline is recomputed from the payloads, never taken on trust."""
    container, report = state.container, state.report
    report.not_checked.append("the verify.py inside: a checker that comes with the goods")
    if state.manifest.question != "state":
        if "report.json" in container:
            report.not_checked.append("what report.json says: only a state is recomputed")
        return
    if "report.json" not in container:
        raise TamperError("the state is missing", expected="report.json", found="absent")
    answer = parse_json_object(container.read("report.json"), max_bytes=_MAX_REPORT)
    question = _asked(state, answer)
    _check_touching(state, question)
    size = state.manifest.basis.tree_size
    known = [entry for entry, _ in state.entries.values() if question.knows(entry, size)]
    try:
        content = question.content(known, state.payloads)
    except IncompleteError as error:
        report.lack(str(error))
        return
    _check_records(state, question, content)
    _compare(state, answer, content)
    report.count("state_digest", 1)
    report.not_checked.append(
        "in report.json: runs, open incidents and approvals, what is missing, changes before and"
        " after, places and sources; recomputed were bindings, traffic and state_digest"
    )


def _asked(state: _State, answer: Mapping[str, Any]) -> Question:
    """The question, which the answer and the signed manifest must state alike."""
    asked = state.manifest.parameters
    for name in ("pipeline", "stage", "at", "known_at"):
        if name not in asked or name not in answer or asked[name] != answer[name]:
            raise TamperError(f"the answer is to another question ({name})")
    if answer.get("basis") != state.manifest.basis.as_json():
        raise TamperError("the answer stands on another basis")
    return parse_question(answer)


def _check_touching(state: _State, question: Question) -> None:
    """Nothing else touched this pipeline: provable only where every entry of the tree is inside."""
    report, size = state.report, state.manifest.basis.tree_size
    if state.every is not None:
        for entry in state.every:
            touched = entry.stream == question.stream and entry.index < size
            if touched and entry.index not in state.entries:
                message = "an entry that touched the pipeline was left out"
                report.find(STEPS[11], message, index=entry.index)
        return
    here = {e.version for e, _ in state.entries.values() if e.stream == question.stream}
    gaps = set(range(1, max(here, default=0) + 1)) - here
    if gaps:
        message = "an entry of the pipeline's stream is missing"
        report.find(STEPS[11], message, expected=f"stream version {min(gaps)}", found="absent")
    report.lack(
        f"that no later entry touched {question.stream}: the bundle does not carry all entries"
    )


def _check_records(state: _State, question: Question, content: Mapping[str, Any]) -> None:
    """The digest of each bound version is that of its first record: nothing before it may be
    missing.
    """
    for bound in content["bindings"].values():
        ref = bound["asset_version"]
        stream = f"asset/{ref.rpartition('@')[0]}"
        versions = _readable_versions(state, stream)
        first = _first_record(state, question, ref)
        wanted = _known_versions(state, question, stream) if first is None else range(1, first)
        unseen = first is None and state.every is None
        if unseen or not set(wanted) <= versions:
            state.report.lack(f"that no other entry was the first to record {ref}")


def _readable_versions(state: _State, stream: str) -> set[int]:
    return {
        entry.version
        for entry, _ in state.entries.values()
        if entry.stream == stream and entry.index in state.payloads
    }


def _first_record(state: _State, question: Question, ref: str) -> int | None:
    """The stream version of the first record of an asset version that is known and inside."""
    for entry, _ in state.entries.values():
        if question.knows(entry, state.manifest.basis.tree_size):
            if recorded_asset(entry.type, state.payloads.get(entry.index)) == ref:
                return entry.version
    return None


def _known_versions(state: _State, question: Question, stream: str) -> set[int]:
    """The versions of a stream that were known, as far as the bundle tells."""
    size = state.manifest.basis.tree_size
    return {e.version for e in state.every or () if e.stream == stream and question.knows(e, size)}


def _compare(state: _State, answer: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """The answer's bindings, traffic and digest against the recomputed ones."""
    stated = answer.get("bindings")
    bindings = stated if isinstance(stated, dict) else {}
    for slot in sorted(bindings.keys() | content["bindings"].keys()):
        value = bindings.get(slot)
        found = {
            n: (value if isinstance(value, dict) else {}).get(n)
            for n in ("asset_version", "digest")
        }
        right = content["bindings"].get(slot, {"asset_version": None, "digest": None})
        _compare_one(state, f"the binding of {slot}", right, found)
    _compare_one(state, "the traffic", content["traffic"], answer.get("traffic"))
    _compare_one(state, "the state digest", canonical_digest(content), answer.get("state_digest"))


def _compare_one(state: _State, what: str, expected: object, found: object) -> None:
    if expected != found:
        state.report.find(
            STEPS[11],
            f"{what} is not the recomputed one",
            place="report.json",
            expected=expected,
            found=found,
        )


# --- small parts ----------------------------------------------------------------------------------


def _placed(data: bytes, index: int, ledger: str) -> Entry:
    """The entry in its place: of this ledger, at this index."""
    entry = parse_entry(data)
    if (entry.ledger, entry.index) != (ledger, index):
        raise TamperError(
            "another entry lies in this place",
            index=index,
            expected=f"entry {index} of {ledger}",
            found=f"entry {entry.index} of {entry.ledger}",
        )
    if index == 0 and entry.prev != EMPTY_ROOT:
        raise TamperError(
            "entry 0 follows nothing", index=0, expected=EMPTY_ROOT.hex(), found=entry.prev.hex()
        )
    return entry


def _one_line(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("a key file is UTF-8") from error
    if not text.endswith("\n"):
        raise MalformedError("a key file is one line")
    return text[:-1]


_CHECKS: Final = (
    _check_container,
    _check_manifest,
    _find_key,
    _check_signature,
    _check_checkpoint,
    _check_basis,
    _check_entries,
    _check_proofs,
    _check_links,
    _check_payloads,
    _check_completeness,
    _check_answer,
)
_PLACES: Final = {
    2: "manifest.json",
    3: "keys/",
    4: "manifest.note",
    5: "checkpoint",
    6: "manifest.json",
}

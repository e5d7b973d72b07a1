"""What `asof verify` looks at: the ledger, an export's folder or a bundle, and with which key.

The key decides what a verification is worth. One that was given earlier, on paper or in a contract,
shows that the ledger is the same; the one that lies beside the store only shows that the store
agrees with itself. The report says which of them it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from api.hints import hinted
from api.main import keys_of, store_of
from api.settings import Settings
from api.tuning import tune_for_writing
from ledger.audit import Report, verify_url
from ledger.bundle import read_bundle
from ledger.canonical import format_time
from ledger.checkpoint import open_checkpoint, parse_checkpoint
from ledger.cosignature import check_cosignatures
from ledger.entry import entry_leaf, parse_entry
from ledger.errors import MalformedError, NotFoundError, TamperError
from ledger.export import ExportFolder
from ledger.guard import Guard
from ledger.keys import GUARD_FILE, load_vkey
from ledger.note import VerifierKey, note_text, parse_vkey
from ledger.places import FilePlace
from ledger.policy import Policy, parse_policy
from ledger.proof import PROOF_HEADER, check_proof, parse_proof
from ledger.receipt import parse_receipt
from ledger.store import Store

__all__ = ["verify", "vkey_of"]

LARGE_FILE = 256 << 20
"""A store beyond this many bytes is shared among all processors where nobody says otherwise."""

FUTURE_MICROS = 300_000_000
"""A clock elsewhere may be so far ahead without a word about it."""

_OWN_KEY = "whether the key is the right one: it was taken from {}, not given with --vkey"


def verify(
    settings: Settings,
    target: Path | None,
    *,
    workers: int | None,
    vkey: str | None,
    against: Path | None,
    receipt: Path | None,
    entry: Path | None,
    policy: Path | None = None,
    now: int,
    progress: Callable[[int, int], None],
) -> Report:
    """The report on `target`, or on the ledger of the settings.

    Raises NotFoundError for a target or key that is not there, MalformedError for a key that is
    none.
    """
    given = None if vkey is None else vkey_of(vkey)
    if target is not None and target.is_file():
        _refuse_evidence(against, receipt)
        if policy is not None:
            raise MalformedError("it goes with a ledger or an export's folder", where="--policy")
        if _is_proof(target):
            return _check_one(target, entry, given or _own_key(settings))
    if entry is not None:
        raise MalformedError("it belongs to a .tlog-proof", where="--entry")
    if target is not None and target.is_file():
        return read_bundle(target, vkey=given)
    tune_for_writing()
    again, guard = _place(settings, target)
    key = given or _own_key(settings)
    demanded = None if policy is None else _policy(policy)
    kept = None if receipt is None else _receipts(receipt)
    signed = None if against is None else _checkpoint(against, key)
    report = verify_url(
        lambda: again(key.name),
        vkey=key,
        guard=guard,
        workers=workers or _workers(settings, target),
        progress=progress,
        receipt=kept,
        against=signed,
        now=now,
    )
    if demanded is not None:
        _check_policy(report, _cosigned(target, signed), demanded, key, now)
    if given is None:
        report.not_checked.append(_OWN_KEY.format(keys_of(settings)))
    return report


def vkey_of(text: str, *, where: str = "--vkey") -> VerifierKey:
    """A key as it was typed, or from the file of that name. Raises MalformedError."""
    path = Path(text)
    try:
        if "+" not in text or path.is_file():
            text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise MalformedError(
            f"{text!r} is neither a key (name+id+base64) nor a file", where=where
        ) from error
    return parse_vkey(text)


def _is_proof(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PROOF_HEADER)) == PROOF_HEADER.encode()


def _check_one(path: Path, entry: Path | None, key: VerifierKey) -> Report:
    """The report on one proof: the entry's bytes, their place, the tree, the signature."""
    report = Report()
    if entry is None:
        report.lack("the entry: give its bytes with --entry (asof prove N --entry FILE)")
        return report
    try:
        data = entry.read_bytes()
        proof, parsed = parse_proof(path.read_bytes()), parse_entry(data)
        checkpoint = check_proof(proof, entry_leaf(data), key)
        if (parsed.index, parsed.ledger) != (proof.index, checkpoint.origin):
            raise TamperError(
                "the proof is about another entry",
                index=proof.index,
                expected=f"entry {proof.index} of {checkpoint.origin}",
                found=f"entry {parsed.index} of {parsed.ledger}",
            )
    except (MalformedError, TamperError) as error:
        report.refuse("proof", error)
        return report
    report.entries = 1
    report.count("proof", 1)
    report.not_checked.append("what the entry says: its payload is not part of a proof")
    return report


def _receipts(path: Path) -> bytes:
    """The receipts of a file, one a line; anything else is the caller's mistake."""
    data = path.read_bytes()
    for number, line in enumerate(data.splitlines(), 1):
        try:
            parse_receipt(line)
        except MalformedError as error:
            where = f"--receipt {path} line {number}"
            raise MalformedError(f"this is no receipt: {error}", where=where) from None
    return data


def _checkpoint(path: Path, key: VerifierKey) -> bytes:
    """The checkpoint of a file; one that this key never signed says nothing of the ledger."""
    data = path.read_bytes()
    try:
        open_checkpoint(data, key)
    except MalformedError as error:
        where = f"--against {path}"
        raise MalformedError(f"this is no checkpoint of the ledger: {error}", where=where) from None
    return data


def _policy(path: Path) -> Policy:
    try:
        return parse_policy(path.read_bytes().decode())
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedError(f"{path} cannot be read: {error}", where="--policy") from None
    except MalformedError as error:
        raise MalformedError(f"{path}: {error}", where="--policy") from None


def _cosigned(target: Path | None, signed: bytes | None) -> bytes | None:
    """The checkpoint that may carry cosignatures: the one that was kept, or an export's own."""
    if signed is not None or target is None:
        return signed
    path = target / "checkpoint"
    return path.read_bytes() if path.is_file() else None


def _check_policy(
    report: Report, note: bytes | None, policy: Policy, key: VerifierKey, now: int
) -> None:
    """Whether the witnesses that one demands have cosigned the checkpoint that was compared.

    A cosignature that does not hold is a finding; a quorum that is not met leaves it INCOMPLETE.
    What was recorded after that checkpoint is called not checked.
    """
    if key not in (log for log, _ in policy.logs):
        report.lack(f"the policy: it names other logs than {key.name} with this key")
        return
    if note is None:
        report.lack("the policy: give the cosigned checkpoint with --against")
        return
    try:
        found = check_cosignatures(note, [one.key for one in policy.witnesses.values()])
        size = parse_checkpoint(note_text(note)).size
    except (MalformedError, TamperError) as error:
        report.refuse("cosignatures", error)
        return
    report.count("cosignatures", len({one.key for one in found}))
    for one in found:
        report.notes.append(f"cosigned by {one.name} at {_told_time(one.time, now)}")
    if size < report.entries:
        report.not_checked.append(
            f"that witnesses saw the last {report.entries - size} entries: the cosigned checkpoint "
            f"is of {size}"
        )
    if not policy.is_met({one.key for one in found}):
        report.lack(f"the policy: its quorum {policy.quorum} has not cosigned the checkpoint")


def _told_time(time: int, now: int) -> str:
    """The time of a cosignature, as its witness states it; the calendar ends before that may."""
    try:
        told = format_time(time * 1_000_000)
    except MalformedError:
        told = f"{time} s after 1970"
    return told if time * 1_000_000 <= now + FUTURE_MICROS else f"{told}, which is in the future"


def _place(settings: Settings, target: Path | None) -> tuple[Callable[[str], Store], Guard | None]:
    """What opens the place to look at, and the guard that belongs to it, if it may be read."""
    if target is not None:
        if not target.is_dir():
            raise NotFoundError(f"there is no bundle and no folder {target}")
        return lambda _origin: ExportFolder(target), None
    place = store_of(settings)
    if not place.exists():
        raise hinted(NotFoundError(f"there is no ledger at {settings.store}"), "asof init")
    guard = Guard(keys_of(settings) / GUARD_FILE)
    return partial(place.open, write=False), guard if os.access(guard.path, os.R_OK) else None


def _own_key(settings: Settings) -> VerifierKey:
    try:
        return load_vkey(keys_of(settings))
    except NotFoundError as error:
        raise hinted(error, "asof verify --vkey KEY, with the key that you were given") from None


def _workers(settings: Settings, target: Path | None) -> int:
    """One process for what is checked in a moment, all processors for more."""
    place = store_of(settings)
    if target is not None or (
        isinstance(place, FilePlace) and place.path.stat().st_size < LARGE_FILE
    ):
        return 1
    return os.cpu_count() or 1


def _refuse_evidence(against: Path | None, receipt: Path | None) -> None:
    if against is not None or receipt is not None:
        raise MalformedError(
            "--against and --receipt are about a ledger or an export, not a bundle"
        )

"""Bundles made to deceive: hostile containers, and claims put together from true parts (T22)."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.bundle import check_bundle
from ledger.canonical import format_json
from ledger.note import Signer, format_vkey
from ledger.verdict import Verdict
from tests.support.claims import (
    SIGNER,
    STRANGER,
    entries_bundle,
    members_of,
    pack,
    resealed,
    state_bundle,
    story,
    verifier,
)

VKEY = format_vkey(SIGNER.vkey)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with story() as told:
        return state_bundle(told, tmp_path_factory.mktemp("s") / "s.zip").read_bytes()


def verdict(data: bytes) -> str:
    """The verdict on which both verifiers agree."""
    ours, theirs = check_bundle(data, vkey=SIGNER.vkey), verifier().check(data, VKEY)
    assert ours.result.value == theirs.result, (ours, theirs.as_json())
    return ours.result.value


# --- containers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/etc/passwd", "entries/../../evil", "C:\\evil", "entries\\1.json", "entries/",
        "entries/01.json", "entries/1.JSON", "ENTRIES/1.json", "é", "keys/a b.vkey", "nested.zip",
        "entries/1.json\n", "", "payloads/1.bin.exe", "tile/0/000", "report.html",
    ],
)  # fmt: skip
def test_a_name_that_no_bundle_has_is_refused(sound: bytes, name: str) -> None:
    assert verdict(resealed({**members_of(sound), name: b"x"})) == "INVALID"


def test_a_name_that_occurs_twice_is_refused(sound: bytes) -> None:
    members = list(members_of(sound).items())
    report = check_bundle(pack([*members, ("entries/7.json", b"{}")]), vkey=SIGNER.vkey)
    assert verdict(pack([*members, ("entries/7.json", b"{}")])) == "INVALID"
    assert [(f.step, f.index, f.place) for f in report.findings] == [
        ("1 container", 7, "entries/7.json")
    ]


def test_a_bomb_is_refused_before_anything_is_inflated(sound: bytes) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("report.json", b"0" * (1 << 26))
    assert len(bomb.getvalue()) < 1 << 18
    assert verdict(bomb.getvalue()) in ("INVALID", "ERROR")


def test_a_size_beyond_the_caps_is_an_error(sound: bytes) -> None:
    members = members_of(sound)
    assert verdict(pack({**members, "payloads/1.bin": bytes((1 << 20) + 1)})) == "ERROR"
    assert verdict(pack({**members, "payloads/1.salt": bytes(17)})) == "ERROR"


def rewritten(data: bytes, change: Callable[[zipfile.ZipInfo], None], **options: int) -> bytes:
    """The same members as an ordinary ZIP program writes them, with something odd about one."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members_of(data).items():
            info = zipfile.ZipInfo(name)
            if name == "checkpoint":
                change(info)
            file.writestr(info, content, **options)
    return out.getvalue()


def symlink(info: zipfile.ZipInfo) -> None:
    info.create_system, info.external_attr = 3, 0o120777 << 16


@pytest.mark.parametrize("change", [symlink, lambda info: None], ids=["symlink", "other program"])
def test_a_container_of_another_program_is_refused(
    sound: bytes, change: Callable[[zipfile.ZipInfo], None]
) -> None:
    assert verdict(rewritten(sound, change)) == "INVALID"
    assert verdict(rewritten(sound, change, compress_type=zipfile.ZIP_DEFLATED)) == "INVALID"


def test_bytes_before_between_and_behind_are_refused(sound: bytes) -> None:
    count, size, offset = struct.unpack("<HII", sound[-12:-2])
    directory = sound[offset : offset + size]
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, offset + 4, 0)
    assert verdict(sound[:offset] + b"evil" + directory + end) == "INVALID"
    assert verdict(b"evil" + sound) == "INVALID"
    assert verdict(sound[:-2] + b"\4\0evil") == "INVALID"
    fewer = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count - 1, count - 1, size, offset, 0)
    assert verdict(sound[:-22] + fewer) == "INVALID"
    more = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count + 1, count + 1, size, offset, 0)
    assert verdict(sound[:-22] + more) == "INVALID"


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip at all, but long enough to be looked at"])
def test_what_is_no_container_is_an_error(data: bytes) -> None:
    assert verdict(data) == "ERROR"


@pytest.mark.parametrize("missing", ["manifest.json", "checkpoint", "verify.py", "README.txt"])
def test_what_every_bundle_has_must_be_there(sound: bytes, missing: str) -> None:
    members = {n: d for n, d in members_of(sound).items() if n != missing}
    assert verdict(pack(members)) == "INVALID"


def test_an_unlisted_and_a_missing_member_are_found(sound: bytes) -> None:
    members = members_of(sound)
    assert verdict(pack({**members, "policy": b"none"})) == "INVALID"
    assert verdict(pack({n: d for n, d in members.items() if n != "entries/7.json"})) == "INVALID"


# --- claims ---------------------------------------------------------------------------------------


def test_a_bundle_signed_by_a_stranger_is_invalid_once_the_key_is_pinned(sound: bytes) -> None:
    members = members_of(sound)
    members["keys/ledger.vkey"] = format_vkey(STRANGER.vkey).encode() + b"\n"
    assert verdict(resealed(members, signer=STRANGER)) == "INVALID"


def test_parts_of_two_ledgers_do_not_mix(sound: bytes, tmp_path: Path) -> None:
    with story() as told:
        told.record("note.added/1", "note/x", {"text": "another continuation"})
        other = members_of(entries_bundle(told, tmp_path / "o.zip", [12]).read_bytes())
    mixed = {**members_of(sound), **{n: d for n, d in other.items() if "/12." in n}}
    assert verdict(resealed(mixed)) == "INVALID"


def test_the_payload_of_another_entry_does_not_pass(sound: bytes) -> None:
    members = members_of(sound)
    for suffix in ("bin", "salt"):
        members[f"payloads/3.{suffix}"] = members[f"payloads/7.{suffix}"]
    assert verdict(resealed(members)) == "INVALID"


def test_an_older_checkpoint_does_not_pass_for_the_new_one(sound: bytes, tmp_path: Path) -> None:
    with story() as told:
        older = members_of(entries_bundle(told, tmp_path / "o.zip", [1], tree_size=6).read_bytes())
    assert verdict(resealed({**members_of(sound), "checkpoint": older["checkpoint"]})) == "INVALID"


def test_a_payload_that_is_called_withheld_makes_the_state_incomplete(sound: bytes) -> None:
    """T18 in a bundle: dropping the payload that decides is not a way to another state."""
    members = {n: d for n, d in members_of(sound).items() if not n.startswith("payloads/7.")}
    manifest = json.loads(members["manifest.json"])
    manifest["payloads"]["withheld"] = [7, *manifest["payloads"]["withheld"]]
    members["manifest.json"] = format_json(manifest)
    assert verdict(resealed(members)) == "INCOMPLETE"


def test_an_entry_of_another_ledger_says_so(sound: bytes) -> None:
    """T23: the ledger's name is inside each hashed entry."""
    members = members_of(sound)
    entry = members["entries/7.json"].replace(b"/claims", b"/others")
    report = check_bundle(resealed({**members, "entries/7.json": entry}), vkey=SIGNER.vkey)
    assert any("ledger.example.com/others" in finding.found for finding in report.findings)


def test_another_version_of_the_entry_format_is_not_understood(sound: bytes) -> None:
    """T24: an entry of an invented version is refused, not read as version 1."""
    members = members_of(sound)
    entry = members["entries/7.json"].replace(b'"v":1', b'"v":2')
    assert verdict(resealed({**members, "entries/7.json": entry})) == "INVALID"


def test_a_signature_does_not_move_between_a_checkpoint_and_a_manifest(sound: bytes) -> None:
    members = members_of(sound)
    swapped = {**members, "manifest.note": members["checkpoint"]}
    assert verdict(pack(swapped)) == "INVALID"
    witness = Signer.from_seed("witness.example.com", b"w" * 32)
    assert check_bundle(sound, vkey=witness.vkey).result is Verdict.INVALID


def test_the_sound_bundle_is_valid(sound: bytes) -> None:
    """Negative control of all of the above."""
    assert verdict(sound) == verdict(pack(members_of(sound))) == "VALID"
    assert verdict(resealed(members_of(sound))) == "VALID"

"""verify.py: the parts that it has of its own, each against a second source."""

from __future__ import annotations

import ast
import json
import math
import os
import runpy
import struct
import subprocess
import sys
from hashlib import sha512
from pathlib import Path
from random import Random

import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.canonical import parse_json, parse_rfc3339, parse_time
from ledger.errors import MalformedError, TamperError
from ledger.merkle import Frontier, check_consistency, check_inclusion
from ledger.note import Signer, format_vkey, open_note, sign_note
from ledger.proof import InclusionProof, format_proof
from tests.support.claims import (
    SIGNER,
    STRANGER,
    VERIFIER,
    entries_bundle,
    state_bundle,
    story,
    verifier,
)
from tests.support.golden import golden

V = verifier()
VKEY = format_vkey(SIGNER.vkey)

RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e3970"
        "1cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613"
        "d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760"
        "984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c6"
        "6431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


# --- Ed25519 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_ed25519_holds_for_the_vectors_of_rfc_8032(
    key: str, message: bytes, signature: str
) -> None:
    assert V.ed25519_holds(bytes.fromhex(key), message, bytes.fromhex(signature))
    assert not V.ed25519_holds(bytes.fromhex(key), message + b"!", bytes.fromhex(signature))


def test_ed25519_agrees_with_openssl_on_sound_and_mutated_signatures() -> None:
    random = Random(8032)
    verdicts = {True: 0, False: 0}
    for round_ in range(120):
        private = Ed25519PrivateKey.from_private_bytes(random.randbytes(32))
        key, message = private.public_key().public_bytes_raw(), random.randbytes(round_ % 70)
        signature = bytearray(private.sign(message))
        if round_ % 3:
            signature[random.randrange(64)] ^= 1 << random.randrange(8)
        ours, theirs = V.ed25519_holds(key, message, bytes(signature)), True
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(bytes(signature), message)
        except InvalidSignature:
            theirs = False
        assert ours == theirs
        verdicts[ours] += 1
    assert verdicts == {True: 40, False: 80}


def test_ed25519_refuses_a_second_spelling_of_the_same_signature() -> None:
    key, message, signature = RFC_8032[1]
    data = bytes.fromhex(signature)
    s = int.from_bytes(data[32:], "little") + V.L
    assert not V.ed25519_holds(bytes.fromhex(key), message, data[:32] + s.to_bytes(32, "little"))


def test_ed25519_refuses_points_that_are_not_points() -> None:
    identity = (1).to_bytes(32, "little")
    assert V.point_decode(identity) is not None
    assert V.point_decode((V.P + 1).to_bytes(32, "little")) is None  # y is not below p
    assert V.point_decode((1 | 1 << 255).to_bytes(32, "little")) is None  # x = 0 has no sign
    assert V.point_decode((2).to_bytes(32, "little")) is None  # not on the curve
    message, nothing = b"any", identity + bytes(32)
    assert not V.ed25519_holds(identity, message, nothing)  # a key of small order signs anything
    assert not V.ed25519_holds((2).to_bytes(32, "little"), message, nothing)
    assert not V.ed25519_holds(identity[:31], message, nothing)
    assert not V.ed25519_holds(identity, message, nothing[:63])


# --- text -----------------------------------------------------------------------------------------


def test_canonical_json_is_that_of_rfc8785() -> None:
    random = Random(8785)
    for _ in range(20_000):
        number = struct.unpack(">d", random.randbytes(8))[0]
        if math.isfinite(number):
            assert V.jcs_float(number) == rfc8785.dumps(number).decode()
    value = {"é": [1, -0.0, 1e21, 0.1, None, True], "\U0001f600": {}, "\ue000": "\n\u2028\x7f"}
    assert V.canonical(value) == rfc8785.dumps(value)


HOSTILE_JSON = [
    b'{"a":1,"a":2}', b"NaN", b"-Infinity", b"1e999", b"9007199254740992", b'"\\ud800"', b"\xff",
    b"[" * 100_000, b"[" * 65 + b"]" * 65, b"", b"\xef\xbb\xbf1", b"9" * 5000, b"01", b"[1,]",
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE_JSON, ids=range(len(HOSTILE_JSON)))
def test_json_that_the_product_refuses_is_refused(data: bytes) -> None:
    with pytest.raises(V.RefusedError):
        V.parse_json(data)
    with pytest.raises(MalformedError):
        parse_json(data)


def test_json_that_the_product_takes_is_taken() -> None:
    for data in (b"[" * 64 + b"]" * 64, b'{"a":[1,-1.5e3,"\\ud83d\\ude00",null,true]}', b"-0"):
        assert V.parse_json(data) == parse_json(data)


TIMES = [
    "2026-11-21T05:00:00Z", "2026-11-21t05:00:00.1234567891z", "2026-11-21 05:00:00-23:59",
    "2026-11-21T05:00:00+01:00", "2016-12-31T23:59:60Z", "2017-01-01T00:59:60+01:00",
    "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z",
]  # fmt: skip
NO_TIMES = [
    "2026-11-21T05:00:00", "2026-13-01T00:00:00Z", "2026-11-21T24:00:00Z", "yesterday", "",
    "2026-11-21T05:00:60Z", "2026-11-21T05:00:00+24:00", "2026-11-21T05:00:00+00:60",
    "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:60Z",
]  # fmt: skip


def test_an_effective_time_is_read_as_the_product_reads_it() -> None:
    for text in TIMES:
        assert V.effective_at({"effective_at": text}, {"recorded_at": -1}) == parse_rfc3339(text)
    for text in [*NO_TIMES, None, 7]:
        assert V.effective_at({"effective_at": text}, {"recorded_at": -1}) == -1
        if isinstance(text, str):
            with pytest.raises(MalformedError):
                parse_rfc3339(text)


def test_a_recorded_time_has_one_form() -> None:
    assert V.parse_time("2026-11-21T05:00:00.000001Z") == parse_time("2026-11-21T05:00:00.000001Z")
    for text in ["2026-11-21T05:00:00Z", "2026-02-30T00:00:00.000000Z", 7, *NO_TIMES]:
        with pytest.raises(V.RefusedError):
            V.parse_time(text)


def test_what_is_printed_cannot_move_the_cursor() -> None:
    assert V.shown("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\\n"
    assert V.shown("x" * 300) == "x" * 200 + "..."


# --- tree -----------------------------------------------------------------------------------------


def test_inclusion_and_consistency_agree_with_the_product() -> None:
    random = Random(9162)
    hashes = [random.randbytes(32) for _ in range(3)]
    agreed = {True: 0, False: 0}
    for _ in range(3000):
        a, b, proof = random.randrange(-1, 9), random.randrange(0, 9), hashes[: random.randrange(4)]
        for ours, theirs, middle in (
            (V.check_inclusion, check_inclusion, (hashes[0],)),
            (V.check_consistency, check_consistency, ()),
        ):
            end = (proof, hashes[1]) if middle else (proof, hashes[1], hashes[random.randrange(2)])
            first = _accepts(ours, (a, b, *middle, *end))
            assert first == _accepts(theirs, (a, b, *middle, *end))
            agreed[first] += 1
    assert agreed[True] and agreed[False]


def _accepts(check: object, arguments: tuple[object, ...]) -> bool:
    try:
        check(*arguments)  # type: ignore[operator]
    except (V.RefusedError, MalformedError, TamperError):
        return False
    return True


def test_the_tree_of_golden_entries_grows_to_their_root() -> None:
    tree = V.Tree()
    assert tree.root() == V.EMPTY_ROOT
    for entry in golden()[:300]:
        assert V.leaf_hash(entry.data) == entry.leaf
        V.parse_entry(entry.data, entry.entry.index, entry.entry.ledger)
        tree.append(entry.leaf)
    assert tree.root() == Frontier.empty().extended([e.leaf for e in golden()[:300]]).root()


# --- the program ----------------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(VERIFIER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with story() as told:
        return state_bundle(told, tmp_path_factory.mktemp("bundle") / "state.zip")


def test_it_needs_python_3_8_and_the_standard_library_only() -> None:
    tree = ast.parse(VERIFIER.read_text("utf-8"), feature_version=(3, 8))
    names = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert names <= set(sys.stdlib_module_names)
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


def test_valid_is_exit_0_and_says_what_was_not_checked(bundle: Path) -> None:
    done = run(bundle, "--vkey", VKEY)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout.startswith("VALID\n")
        and "NOT checked: that what was recorded is true" in done.stdout
    )
    assert "KEY NOT PINNED" not in done.stdout


def test_a_key_from_inside_is_believed_aloud(bundle: Path) -> None:
    done = run(bundle)
    assert done.returncode == 0 and "KEY NOT PINNED" in done.stdout


def test_json_for_machines(bundle: Path) -> None:
    report = json.loads(run(bundle, "-o", "json").stdout)
    assert (report["result"], report["findings"], report["entries"]) == ("VALID", [], 10)


def test_another_key_is_invalid_and_exit_1(bundle: Path) -> None:
    done = run(bundle, "--vkey", format_vkey(STRANGER.vkey))
    assert done.returncode == 1 and "FINDING step 4 signature (manifest.note)" in done.stdout


def test_part_of_the_claim_unproved_is_incomplete_and_exit_7(tmp_path: Path) -> None:
    with story() as told:
        path = state_bundle(told, tmp_path / "b.zip", complete=False)
    done = run(path, "--vkey", VKEY)
    assert done.returncode == 7 and done.stdout.startswith("INCOMPLETE")
    assert "NOT checked: that no later entry touched pipeline/shop@live" in done.stdout


def test_no_bundle_is_error_and_exit_8(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty", tmp_path / "text"
    empty.write_bytes(b"")
    text.write_text("no zip")
    for path in (empty, text, tmp_path / "absent", tmp_path):
        done = run(path)
        assert done.returncode == 8 and done.stdout.startswith("ERROR") and not done.stderr


def test_wrong_usage_is_exit_2(bundle: Path) -> None:
    for arguments in (
        [],
        [bundle, "--vkey", "no key"],
        [bundle, "--vkey", VKEY[:-1]],
        [bundle, "--entry", bundle],
    ):
        done = run(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_defect_of_the_verifier_itself_is_never_a_verdict(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(V, "check_links", lambda entries, report: 1 / 0)
    assert V.main([str(bundle)]) == 8
    assert "the verifier failed: ZeroDivisionError" in capsys.readouterr().out


def test_a_proof_by_itself(tmp_path: Path) -> None:
    with story() as told:
        files = {
            "e.tlog-proof": format_proof(told.reader.inclusion(11)),
            "e.json": told.reader.entry_bytes(11),
            "p.bin": told.reader.entry(11).payload or b"",
            "p.salt": told.reader.entry(11).row.salt or b"",
            "other.json": told.reader.entry_bytes(10),
        }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    path = {name: tmp_path / name for name in files}
    proof = (path["e.tlog-proof"], "--vkey", VKEY, "--entry")
    done = run(*proof, path["e.json"])
    assert done.returncode == 0 and "the payload: give --payload" in done.stdout
    assert (
        run(*proof, path["e.json"], "--payload", path["p.bin"], "--salt", path["p.salt"]).returncode
        == 0
    )
    assert (
        run(
            *proof, path["e.json"], "--payload", path["p.salt"], "--salt", path["p.salt"]
        ).returncode
        == 1
    )
    assert run(*proof, path["other.json"]).returncode == 1
    assert run(path["e.json"], "--vkey", VKEY, "--entry", path["e.json"]).returncode == 1


def test_it_prints_on_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    with story() as told:
        path = entries_bundle(told, tmp_path / "b.zip", [11])
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, str(VERIFIER), str(path), "--vkey", VKEY],
        capture_output=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr


# --- what is refused ------------------------------------------------------------------------------

HEAD = "c2sp.org/tlog-proof@v1\nindex "
SOUND = golden()[0]
ENTRY = json.loads(SOUND.data)


def entry(**changes: object) -> bytes:
    return bytes(V.canonical(ENTRY | changes))


REFUSED = {
    "a number with a sign": lambda: V.parse_decimal("+1"),
    "no base64": lambda: V.parse_base64("A=A="),
    "base64 with another spelling": lambda: V.parse_base64("AAB="),
    "a short hash": lambda: V.parse_hash("AAAA"),
    "a key of another type": lambda: V.Key("n+00000000+" + "AgAA"),
    "a key with a wrong id": lambda: V.Key(VKEY.replace("+9", "+8", 1)),
    "a key without name": lambda: V.Key("+00000000+AQ=="),
    "a note that is no text": lambda: V.split_note(b"\xff\n\n"),
    "a note with control characters": lambda: V.split_note(b"a\t\n\n\xe2\x80\x94 x AAAA\n"),
    "a note without signatures": lambda: V.split_note(b"a\n"),
    "a note with too many": lambda: V.split_note(b"a\n\n" + b"x\n" * 101),
    "a signature line of two words": lambda: V.parse_signature_line("\u2014 a"),
    "a signature that is short": lambda: V.parse_signature_line("\u2014 a AAAA"),
    "an entry that is a list": lambda: V.parse_entry(b"[]", 0, ENTRY["ledger"]),
    "an entry with a true index": lambda: V.parse_entry(entry(index=True), 0, ENTRY["ledger"]),
    "an entry with spaces": lambda: V.parse_entry(SOUND.data + b" ", 0, ENTRY["ledger"]),
    "an entry of version 2": lambda: V.parse_entry(entry(v=2), 0, ENTRY["ledger"]),
    "an entry of another index": lambda: V.parse_entry(entry(index=1), 0, ENTRY["ledger"]),
    "an entry of another ledger": lambda: V.parse_entry(SOUND.data, 0, "other"),
    "a stream version of 0": lambda: V.parse_entry(entry(version=0), 0, ENTRY["ledger"]),
    "a name of 513 bytes": lambda: V.parse_entry(entry(actor="x" * 513), 0, ENTRY["ledger"]),
    "a name with a control sign": lambda: V.parse_entry(entry(actor="\x00"), 0, ENTRY["ledger"]),
    "a name in another form": lambda: V.parse_entry(entry(actor="u\u0308"), 0, ENTRY["ledger"]),
    "a hash in capitals": lambda: V.parse_entry(entry(prev="A" * 64), 0, ENTRY["ledger"]),
    "entry 0 that follows something": lambda: V.parse_entry(
        entry(prev="0" * 64), 0, ENTRY["ledger"]
    ),
    "a proof that is no ASCII": lambda: V.parse_proof(b"\xff\n\n"),
    "a proof of another version": lambda: V.parse_proof(b"c2sp.org/tlog-proof@v2\nindex 1\n\n"),
    "a proof without index": lambda: V.parse_proof(b"c2sp.org/tlog-proof@v1\nat 1\n\n"),
    "a proof of too many hashes": lambda: V.parse_proof(
        (HEAD + "1" + "\nA" * 70 + "\n\n").encode()
    ),
    "a bundle that is cut": lambda: V.split_tile(b"\x00\x05abc"),
    "a bundle of nothing": lambda: V.split_tile(b""),
    "a checkpoint of four lines": lambda: V.open_checkpoint(signed(b"a\n1\nb\nc\n"), V.Key(VKEY)),
    "a checkpoint of another origin": lambda: V.open_checkpoint(signed(b"a\n1\nb\n"), V.Key(VKEY)),
    "a signature that is wrong": lambda: V.open_note(
        signed(b"a\n").replace(b"a\n\n", b"b\n\n"), V.Key(VKEY)
    ),
    "a stranger's signature": lambda: V.open_note(
        signed(b"a\n"), V.Key(format_vkey(STRANGER.vkey))
    ),
}


def signed(text: bytes) -> bytes:
    return sign_note(text, [SIGNER])


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses(what: str) -> None:
    with pytest.raises(V.RefusedError):
        REFUSED[what]()


def test_findings_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    report = V.Report()
    for number in range(V.MAX_FINDINGS + 5):
        report.find("1 container", "x", number)
    assert len(report.findings) == V.MAX_FINDINGS and report.as_json()["result"] == "INVALID"


def test_a_file_beyond_the_cap_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(V, "MAX_BUNDLE", 10)
    assert V.check(bytes(11)).error == "the file is larger than 10 bytes"


def test_the_program_in_this_process(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the subprocesses above show, where coverage sees it."""
    with story() as told:
        (tmp_path / "p").write_bytes(format_proof(told.reader.inclusion(11)))
        (tmp_path / "e").write_bytes(told.reader.entry_bytes(11))
        (tmp_path / "b").write_bytes(told.reader.entry(11).payload or b"")
        (tmp_path / "s").write_bytes(told.reader.entry(11).row.salt or b"")
        witness = Signer.from_seed("witness.example.com", b"w" * 32)
        cosigned = sign_note(
            open_note(told.reader.checkpoint(), [SIGNER.vkey]).text, [SIGNER, witness]
        )
        proof = told.reader.inclusion(11)
        (tmp_path / "c").write_bytes(
            format_proof(InclusionProof(proof.index, proof.hashes, cosigned))
        )
    (tmp_path / "empty").write_bytes(b"")
    one = ["--vkey", VKEY, "--entry", f"{tmp_path}/e"]
    full = [*one, "--payload", f"{tmp_path}/b", "--salt", f"{tmp_path}/s"]
    assert V.main([f"{tmp_path}/p", *one]) == V.main([f"{tmp_path}/p", *full]) == 0
    assert V.main([f"{tmp_path}/c", *one]) == 0
    assert "1 cosignatures on the checkpoint" in capsys.readouterr().out
    assert V.main([f"{tmp_path}/e", *one]) == 1
    assert V.main([str(bundle), "-o", "json"]) == 0
    assert V.main([f"{tmp_path}/empty"]) == V.main([f"{tmp_path}/absent"]) == 8
    assert V.main([str(bundle), "--vkey", format_vkey(STRANGER.vkey)]) == 1
    other = Signer.from_seed("ledger.example.com/x", b"x" * 32)
    assert V.main([str(bundle), "--vkey", format_vkey(other.vkey)]) == 1
    for wrong in (["--vkey", "x"], ["--entry", "x"]):
        with pytest.raises(SystemExit) as stopped:
            V.main([str(bundle), *wrong])
        assert stopped.value.code == 2


def test_it_is_a_program(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["verify.py", str(bundle), "--vkey", VKEY])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(VERIFIER), run_name="__main__")
    assert stopped.value.code == 0

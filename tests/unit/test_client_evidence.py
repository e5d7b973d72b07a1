"""What the client keeps as evidence, and its own check of it: no library, no server."""

from __future__ import annotations

import os
from pathlib import Path

import asof
import pytest
from asof import ed25519
from asof.appending import append_line
from asof.pins import keep_pin, read_pin
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.note import format_vkey
from ledger.receipt import format_receipt
from tests.support.ledgers import memory_ledger, notes

RFC_8032 = [  # section 7.1, tests 1 to 3: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b4"
        "6bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d"
        "8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6"
        "594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.fixture
def lines() -> tuple[str, list[str]]:
    """The vkey of a ledger and receipts of it, several of them of one batch."""
    with memory_ledger() as ledger:
        receipts = [
            *ledger.writer.append(notes(3)).receipts,
            *ledger.writer.append(notes(2)).receipts,
        ]
        return format_vkey(ledger.vkey), [format_receipt(one).decode() for one in receipts]


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_ed25519_as_in_the_specification(key: str, message: str, signature: str) -> None:
    public, text, signed = (bytes.fromhex(one) for one in (key, message, signature))
    assert ed25519.verifies(public, text, signed)
    assert not ed25519.verifies(public, text + b"x", signed)
    for at in range(0, 64, 7):
        changed = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
        assert not ed25519.verifies(public, text, changed)


def test_ed25519_refuses_what_could_be_anybodys() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public, signature = private.public_key().public_bytes_raw(), private.sign(b"text")
    assert ed25519.verifies(public, b"text", signature)
    again = int.from_bytes(signature[32:], "little") + ed25519.L
    assert not ed25519.verifies(public, b"text", signature[:32] + again.to_bytes(32, "little"))
    neutral = (1).to_bytes(32, "little")
    assert not ed25519.verifies(neutral, b"text", neutral + bytes(32)), "a key of small order"
    assert not ed25519.verifies(b"\xff" * 32, b"text", signature)
    assert not ed25519.verifies(public[:-1], b"text", signature)
    assert not ed25519.verifies(public, b"text", signature[:-1])


def test_a_file_of_receipts(lines: tuple[str, list[str]], tmp_path: Path) -> None:
    vkey, receipts = lines
    path = tmp_path / "receipts.jsonl"
    with pytest.raises(asof.UnverifiedError, match="cannot be read"):
        asof.verify(path, vkey=vkey)
    path.touch()
    with pytest.raises(asof.UnverifiedError, match="holds no receipt"):
        asof.verify(path, vkey=vkey)
    path.write_text("".join(f"{line}\n" for line in [*receipts, receipts[0]]))
    found = asof.verify(path, vkey=vkey)
    assert (found.count, found.tree_size) == (5, 6), "what was answered twice counts once"
    path.write_text("".join(f"{line}\n" for line in receipts) + receipts[0][:80])
    assert asof.verify(path, vkey=vkey).count == 5, "a torn last line is no receipt yet"
    for wrong in ("{}", "[1]", "null", "x", '{"v":1}', "[" * 100_000, receipts[0] + " "):
        path.write_text(f"{receipts[0]}\n{wrong}\n")
        with pytest.raises(asof.VerificationError, match=r"line 2|version 1"):
            asof.verify(path, vkey=vkey)
    path.write_bytes(b"\xff\n")
    with pytest.raises(asof.UnverifiedError):
        asof.verify(path, vkey=vkey)


@pytest.mark.parametrize("changed", ["", "name", "a+b+c", "spaced", "upper", "padded", "type"])
def test_what_is_no_key_decides_nothing(
    changed: str, lines: tuple[str, list[str]], tmp_path: Path
) -> None:
    vkey, receipts = lines
    name, key_id, key = vkey.split("+", 2)
    wrong = {
        "spaced": f"{name}+{key_id[:4]} {key_id[4:]}+{key}",
        "upper": f"{name}+{'0' * 8}+{key}",
        "padded": f"{name}+{key_id}+{key}=",
        "type": f"{name}+{key_id}+Ag{key[2:]}",
    }.get(changed, changed)
    path = tmp_path / "receipts.jsonl"
    path.write_text(receipts[0] + "\n")
    with pytest.raises(asof.UnverifiedError, match="no verifier key"):
        asof.verify(path, vkey=wrong)


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            for _ in range(40):
                append_line(path, b"%d" % number * 20_000 + b"\n")
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    found = path.read_text().split("\n")
    assert len(found) == 121 and all(
        len(line) == 20_000 and len(set(line)) == 1 for line in found[:-1]
    )
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("torn", [b"", b"x", b"x" * 4_095, b"x" * 4_096, b"x" * 10_000])
def test_a_torn_line_is_no_part_of_the_next(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    for before in (b"", b"one\n"):
        path.write_bytes(before + torn)
        append_line(path, b"two\n")
        assert path.read_bytes() == before + b"two\n"


def test_the_first_key_is_kept_and_another_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert read_pin(folder) is None
    assert keep_pin(folder, "a+1+b") and not keep_pin(folder, "a+1+b")
    with pytest.raises(asof.VerificationError, match="another ledger"):
        keep_pin(folder, "a+2+c")
    assert read_pin(folder) == "a+1+b" and len(list(folder.iterdir())) == 1


def test_the_key_is_kept_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", no_link)
    assert keep_pin(tmp_path, "a+1+b") and read_pin(tmp_path) == "a+1+b"
    assert len(list(tmp_path.iterdir())) == 1


def test_verifying_needs_no_server(lines: tuple[str, list[str]], tmp_path: Path) -> None:
    vkey, receipts = lines
    keep_pin(tmp_path, vkey)
    append_line(tmp_path / "receipts.jsonl", f"{receipts[0]}\n".encode())
    away = asof.Client(server="http://127.0.0.1:9", ledger="acme", spool=tmp_path)
    assert away.verify().count == 1
    with pytest.raises(asof.UnverifiedError, match="not acknowledged"):
        asof.Client(spool=tmp_path / "other", timeout=0.1).verify(
            away.record("note.added/1", {"text": float("nan")})
        )

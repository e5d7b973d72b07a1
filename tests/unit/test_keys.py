"""The key folder (docs/spec/keys.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ledger.errors import ConflictError, NotFoundError, StoreError, TamperError
from ledger.keys import (
    SIGNING_FILE,
    VKEY_FILE,
    create_key,
    has_signing_key,
    list_keys,
    load_key,
    load_vkey,
)
from ledger.note import format_vkey
from tests.support.failing import as_nobody
from tests.support.ledgers import ORIGIN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "asof.keys"
    create_key(folder, ORIGIN)
    return folder


def test_a_key_is_made_once_and_found_again(folder: Path) -> None:
    signer = load_key(folder)
    assert signer.name == ORIGIN
    assert signer.vkey == load_vkey(folder)
    assert list_keys(folder) == [signer.vkey]
    assert has_signing_key(folder)
    assert (folder / VKEY_FILE).read_text() == f"{format_vkey(signer.vkey)}\n"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConflictError, match="never overwritten"):
        create_key(folder, ORIGIN)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(before) == [".gitignore", VKEY_FILE, SIGNING_FILE]


def test_rights(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / SIGNING_FILE).stat().st_mode & 0o777 == 0o600
    assert (folder / VKEY_FILE).stat().st_mode & 0o777 == 0o644
    for rights in (0o640, 0o604, 0o620, 0o602):
        (folder / SIGNING_FILE).chmod(rights)
        with pytest.raises(StoreError, match=r"read by others.*chmod 600"):
            load_key(folder)
    assert load_vkey(folder).name == ORIGIN


def test_two_keys_differ(folder: Path, tmp_path: Path) -> None:
    assert create_key(tmp_path / "other", ORIGIN).vkey != load_vkey(folder)


def test_an_interrupted_beginning_is_finished_with_the_same_key(folder: Path) -> None:
    vkey = load_vkey(folder)
    (folder / VKEY_FILE).unlink()
    assert list_keys(folder) == []
    assert create_key(folder, ORIGIN).vkey == vkey


def test_a_reader_has_the_public_key_only(folder: Path) -> None:
    (folder / SIGNING_FILE).unlink()
    assert load_vkey(folder).name == ORIGIN
    assert not has_signing_key(folder)
    with pytest.raises(NotFoundError, match="can read, not write"):
        load_key(folder)


def test_what_is_not_a_key_is_told_apart(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="asof init"):
        load_vkey(tmp_path / "none")
    (folder / SIGNING_FILE).write_bytes(b"-----BEGIN NOTHING-----\n")
    with pytest.raises(StoreError, match="no private key in PEM"):
        load_key(folder)
    private = ed25519.Ed25519PrivateKey.generate()
    secret = BestAvailableEncryption(b"password")
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    (folder / SIGNING_FILE).write_bytes(locked)
    with pytest.raises(StoreError, match="without a password"):
        load_key(folder)
    other = x25519.X25519PrivateKey.generate()
    (folder / SIGNING_FILE).write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(StoreError, match="another kind than Ed25519"):
        load_key(folder)
    (folder / SIGNING_FILE).write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(TamperError, match="is not the private key of") as caught:
        load_key(folder)
    assert caught.value.expected == format_vkey(load_vkey(folder))
    for text in (b"", b"\xff", b"ledger.example.com/x+00000000+AAAA\n", b"\n"):
        (folder / VKEY_FILE).write_bytes(text)
        with pytest.raises(StoreError, match="no public key"):
            load_vkey(folder)
    (folder / VKEY_FILE).unlink()
    (folder / VKEY_FILE).mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        load_vkey(folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        create_key(tmp_path / "file", ORIGIN)

    def denied() -> None:
        with pytest.raises(StoreError, match="cannot be written"):
            create_key(Path("/asof.keys"), ORIGIN)

    as_nobody(denied)


def test_git_is_told_to_leave_the_key_alone(tmp_path: Path) -> None:
    create_key(tmp_path / "asof.keys", "ledger.example.com/acme")
    assert (tmp_path / "asof.keys" / ".gitignore").read_text() == "*\n"

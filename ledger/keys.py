"""The key folder of a ledger: the signing key, the public key, the rollback guard.

::

    asof.keys/                  0700     beside asof.db
        .gitignore              0644     *, so that `git add .` never publishes a key
        signing.pem             0600     PKCS #8, Ed25519; whoever has it speaks for the ledger
        ledger.vkey             0644     one line, to be given to everybody who verifies
        guard                   0600     docs/spec/guard.md

A reader needs `ledger.vkey` only. It is written last: a folder without it holds no key yet, and an
interrupted `create_key` is simply called again. docs/spec/keys.md.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ledger.errors import ConflictError, NotFoundError, StoreError, TamperError
from ledger.note import Signer, VerifierKey, format_vkey, parse_vkey

__all__ = [
    "GUARD_FILE",
    "SIGNING_FILE",
    "VKEY_FILE",
    "create_key",
    "has_signing_key",
    "list_keys",
    "load_key",
    "load_vkey",
]

SIGNING_FILE: Final = "signing.pem"
VKEY_FILE: Final = "ledger.vkey"
GUARD_FILE: Final = "guard"
WITNESS_FILE: Final = "witness.pem"
GITIGNORE_FILE: Final = ".gitignore"


def create_key(folder: Path, origin: str) -> Signer:
    """Make the key of the ledger `origin`; durable when it returns.

    Raises: ConflictError where the folder already holds a key, StoreError.
    """
    if (folder / VKEY_FILE).exists():
        raise ConflictError(f"{folder} already holds the key of a ledger; it is never overwritten")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / GITIGNORE_FILE).exists():
            _write_new(folder / GITIGNORE_FILE, b"*\n", 0o644)
        if not has_signing_key(folder):
            _write_new(folder / SIGNING_FILE, _format_private(Ed25519PrivateKey.generate()), 0o600)
        signer = Signer(origin, _load_private(folder / SIGNING_FILE))
        _write_new(folder / VKEY_FILE, f"{format_vkey(signer.vkey)}\n".encode(), 0o644)
    except OSError as exc:
        raise StoreError(f"the key folder {folder} cannot be written: {exc.strerror}") from exc
    return signer


def load_key(folder: Path) -> Signer:
    """The signer of a ledger, its private key having been kept from others.

    Raises: NotFoundError, StoreError (rights, form), TamperError (not the key of the vkey).
    """
    vkey = load_vkey(folder)
    signer = Signer(vkey.name, _load_private(folder / SIGNING_FILE))
    if signer.vkey != vkey:
        raise TamperError(
            f"{folder / SIGNING_FILE} is not the private key of {folder / VKEY_FILE}",
            expected=format_vkey(vkey),
            found=format_vkey(signer.vkey),
        )
    return signer


def load_vkey(folder: Path) -> VerifierKey:
    """The public key to verify with, which is all that a reader needs."""
    text = _read(folder / VKEY_FILE, f"there is no key in {folder}: `asof init` makes one")
    try:
        return parse_vkey(text.decode().removesuffix("\n"))
    except ValueError as exc:
        raise StoreError(f"{folder / VKEY_FILE} holds no public key: {exc}") from exc


def has_signing_key(folder: Path) -> bool:
    """Whether the folder can sign, or only verify."""
    return (folder / SIGNING_FILE).exists()


def load_witness_key(folder: Path) -> Ed25519PrivateKey:
    """The key with which this place cosigns others' checkpoints; made with the first call, for the
    owner only. Another one than a ledger's signs with. Raises StoreError.
    """
    path = folder / WITNESS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            with suppress(FileExistsError):  # another process was faster, and its key is the one
                _write_new(path, _format_private(Ed25519PrivateKey.generate()), 0o600)
    except OSError as exc:
        raise StoreError(f"{path}: the witness's key cannot be made: {exc}") from exc
    return _load_private(path)


def list_keys(folder: Path) -> list[VerifierKey]:
    """The public keys in the folder: one, or none."""
    return [load_vkey(folder)] if (folder / VKEY_FILE).exists() else []


def _load_private(path: Path) -> Ed25519PrivateKey:
    text = _read(path, f"there is no signing key at {path}: this place can read, not write")
    rights = stat.S_IMODE(path.stat().st_mode)
    if rights & 0o077:
        raise StoreError(f"{path} can be read by others ({rights:04o}): run `chmod 600 {path}`")
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError) as exc:
        raise StoreError(f"{path} holds no private key in PEM form without a password") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path} holds a key of another kind than Ed25519")
    return key


def _format_private(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(path: Path, missing: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(missing) from None
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc.strerror}") from exc


def _write_new(path: Path, data: bytes, rights: int) -> None:
    """The whole file or none, and never over another: written aside, synced, then linked."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(handle, rights)
        os.write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(aside, path)
    finally:
        aside.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

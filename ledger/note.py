"""Signed notes (C2SP signed-note): a text for people, and lines that a machine can check.

::

    This is an example message.

    — example.com/foo Uw+k2uDZHJG…

The key name says whose signature a line claims to be; the four bytes before the signature say by
which key. A verifier key travels as one word, ``example.com/foo+530d903a+AekyeRrm56h…``.
docs/spec/note.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.canonical import check_name, format_base64, parse_base64
from ledger.errors import MalformedError, TamperError

__all__ = [
    "ED25519",
    "Note",
    "NoteSignature",
    "Signer",
    "VerifierKey",
    "check_signer_name",
    "format_vkey",
    "note_text",
    "open_note",
    "parse_vkey",
    "sign_note",
    "signatures_of",
]

ED25519: Final = 0x01
MAX_NOTE_BYTES: Final = 1 << 20
MAX_SIGNATURES: Final = 100
_PUBLIC_SIZE: Final = 32
_KEY_ID_SIZE: Final = 4
_DASH: Final = "\u2014 "
_VKEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


# ------------------------------------------------------------------------------------------- keys


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """The public half of a signer, bound to its name."""

    name: str
    key_id: bytes
    algorithm: int
    public_key: bytes

    @classmethod
    def ed25519(cls, name: str, public_key: bytes) -> VerifierKey:
        """The verifier key of an Ed25519 public key of 32 bytes."""
        check_signer_name(name)
        if len(public_key) != _PUBLIC_SIZE:
            raise MalformedError(f"an Ed25519 key has {_PUBLIC_SIZE} bytes, not {len(public_key)}")
        key_id = _key_id(name, ED25519, public_key)
        return cls(name=name, key_id=key_id, algorithm=ED25519, public_key=public_key)

    def check(self, text: bytes, signature: bytes) -> None:
        """Raises TamperError unless `signature` is this key's over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError) as error:
            raise TamperError(
                f"the signature of {self.name} does not belong to this text"
            ) from error


def format_vkey(key: VerifierKey) -> str:
    """``<name>+<8 hex digits>+<base64 of type and public key>``."""
    return f"{key.name}+{key.key_id.hex()}+{format_base64(bytes([key.algorithm]) + key.public_key)}"


def parse_vkey(text: str) -> VerifierKey:
    """The key of exactly what `format_vkey` writes; its id must be the one that its bytes give."""
    match = _VKEY.fullmatch(text)
    if not match:
        raise MalformedError(f"not a verifier key (name+hash+base64): {text[:80]!r}")
    name, key_id, encoded = match.groups()
    data = parse_base64(encoded)
    if data[0] != ED25519:
        raise MalformedError(f"a verifier key of type {data[0]}; only Ed25519 (1) is known")
    key = VerifierKey.ed25519(name, data[1:])
    if key.key_id.hex() != key_id:
        raise MalformedError(f"the key id is {key_id}, but name and key give {key.key_id.hex()}")
    return key


class Signer:
    """A name and an Ed25519 private key. It never shows the key."""

    __slots__ = ("_private", "vkey")

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        self._private = private_key
        self.vkey = VerifierKey.ed25519(name, private_key.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Signer:
        """The signer of a 32-byte seed (RFC 8032)."""
        if len(seed) != _PUBLIC_SIZE:
            raise MalformedError(f"an Ed25519 seed has {_PUBLIC_SIZE} bytes")
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def name(self) -> str:
        return self.vkey.name

    def sign(self, text: bytes) -> bytes:
        """The signature line of a note with this text, its newline included."""
        blob = self.vkey.key_id + self._private.sign(text)
        return f"{_DASH}{self.name} {format_base64(blob)}\n".encode()

    def __repr__(self) -> str:
        return f"Signer({format_vkey(self.vkey)})"


def _key_id(name: str, algorithm: int, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:_KEY_ID_SIZE]


def check_signer_name(name: str) -> None:
    """Refuses the name of a key of ours that would make no signature line."""
    check_name(name, "key name")
    _check_key_name(name)


def _check_key_name(name: str) -> None:
    if not name or "+" in name or any(char.isspace() for char in name):
        raise MalformedError("a key name has neither spaces nor '+'", where=name)


# ------------------------------------------------------------------------------------------ notes


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: whose it claims to be, by which key, and the signature."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose known signatures hold: its text, all its lines, those that were `verified`."""

    text: bytes
    signatures: tuple[NoteSignature, ...]
    verified: tuple[NoteSignature, ...]


def sign_note(text: bytes, signers: Sequence[Signer]) -> bytes:
    """The note of `text`, with one line for each signer."""
    _check_text(text)
    if not 0 < len(signers) <= MAX_SIGNATURES:
        raise MalformedError(f"a note has 1 to {MAX_SIGNATURES} signatures, not {len(signers)}")
    return text + b"\n" + b"".join(signer.sign(text) for signer in signers)


def open_note(data: bytes, keys: Iterable[VerifierKey]) -> Note:
    """The note, once each line of a known key is verified (docs/spec/note.md, rules 6 to 9).

    Lines of unknown keys are ignored. TamperError if a known key's signature is wrong or no known
    key has signed; MalformedError if it is no note at all.
    """
    text, lines = _split(data)
    signatures = tuple(_parse_line(line) for line in lines)
    known = {(key.name, key.key_id): key for key in keys}
    verified = []
    for signature in signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            key.check(text, signature.signature)
            verified.append(signature)
    if not verified:
        names = ", ".join(name for name, _ in known) or "no key given"
        raise TamperError(f"no signature by a known key ({names})")
    return Note(text, signatures, tuple(verified))


def note_text(data: bytes) -> bytes:
    """The text of a note, of whose signatures nothing is known yet. Raises MalformedError."""
    return _split(data)[0]


def signatures_of(data: bytes) -> list[NoteSignature]:
    """The signature lines of a note, none of them verified. Raises MalformedError."""
    return [_parse_line(line) for line in _split(data)[1]]


def _split(data: bytes) -> tuple[bytes, list[str]]:
    """The text with its last newline, and the signature lines without theirs."""
    _check_text(data)
    text, blank, tail = data.rpartition(b"\n\n")
    if not blank or not tail:
        raise MalformedError("a note is a text, a blank line and lines of signatures")
    lines = tail.decode().split("\n")[:-1]
    if len(lines) > MAX_SIGNATURES:
        raise MalformedError(f"a note with {len(lines)} signatures; at most {MAX_SIGNATURES}")
    return text + b"\n", lines


def _parse_line(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise MalformedError(f"not a signature line: {line[:80]!r}")
    _check_key_name(name)
    blob = parse_base64(encoded)
    if len(blob) <= _KEY_ID_SIZE:
        raise MalformedError(f"a signature line without a signature: {line[:80]!r}")
    return NoteSignature(name, blob[:_KEY_ID_SIZE], blob[_KEY_ID_SIZE:])


def _check_text(text: bytes) -> None:
    if not text.endswith(b"\n"):
        raise MalformedError("a note and its text end with a newline")
    if len(text) > MAX_NOTE_BYTES:
        raise MalformedError(f"a note of {len(text)} bytes; at most {MAX_NOTE_BYTES} are accepted")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("a note is UTF-8", where=f"byte {error.start}") from error
    if _CONTROL.search(decoded):
        raise MalformedError("a note has no control characters but newlines")

"""Cosignatures (C2SP tlog-cosignature, Ed25519): a witness says that as of a time this was the
largest tree of a ledger that it had seen, and that each grew out of the one before.

::

    — witness.example.com/w1 jWbPPwAAAABkGFDL…      key id ‖ time, 8 bytes ‖ signature

What is signed is ``cosignature/v1``, ``time <seconds>`` and the whole text of the checkpoint. A
witness's key travels as a verifier key of type 4. docs/spec/cosignature.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.canonical import MAX_DECIMAL, format_base64, format_decimal, parse_base64
from ledger.errors import MalformedError, TamperError
from ledger.note import NoteSignature, check_signer_name, note_text, signatures_of

__all__ = [
    "COSIGNATURE",
    "Cosignature",
    "Cosigner",
    "WitnessKey",
    "add_lines",
    "check_cosignatures",
    "format_witness_vkey",
    "parse_witness_vkey",
]

COSIGNATURE: Final = 0x04
_TIME_SIZE: Final = 8
_SIGNATURE_SIZE: Final = 64
_PUBLIC_SIZE: Final = 32
_VKEY: Final = re.compile(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """The public key of a witness, bound to its name."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes before its signatures."""
        named = self.name.encode() + b"\n" + bytes([COSIGNATURE])
        return sha256(named + self.public_key).digest()[:4]


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature that holds: by which key, and as of when (seconds since 1970)."""

    key: WitnessKey
    time: int

    @property
    def name(self) -> str:
        """The name of the witness; not that of one key alone."""
        return self.key.name


class Cosigner:
    """A witness's name and private key. It never shows the key."""

    __slots__ = ("_private", "key")

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        check_signer_name(name)
        self._private = private_key
        self.key = WitnessKey(name, private_key.public_key().public_bytes_raw())

    def line(self, text: bytes, time: int) -> bytes:
        """The cosignature line of a checkpoint with this text, its newline included.

        Raises MalformedError for a time that the specification does not have.
        """
        format_decimal(time)
        blob = (
            self.key.key_id
            + time.to_bytes(_TIME_SIZE, "big")
            + self._private.sign(_message(text, time))
        )
        return f"\u2014 {self.key.name} {format_base64(blob)}\n".encode()

    def __repr__(self) -> str:
        return f"Cosigner({format_witness_vkey(self.key)})"


def format_witness_vkey(key: WitnessKey) -> str:
    """``<name>+<8 hex digits>+<base64 of 4 and the public key>``."""
    encoded = format_base64(bytes([COSIGNATURE]) + key.public_key)
    return f"{key.name}+{key.key_id.hex()}+{encoded}"


def parse_witness_vkey(text: str) -> WitnessKey:
    """The key of exactly what `format_witness_vkey` writes. Raises MalformedError."""
    match = _VKEY.fullmatch(text)
    data = parse_base64(match[3]) if match else b""
    if match is None or len(data) != 1 + _PUBLIC_SIZE or data[0] != COSIGNATURE:
        raise MalformedError(f"not the key of a witness (name+hash+base64, type 4): {text[:80]!r}")
    check_signer_name(match[1])
    key = WitnessKey(match[1], data[1:])
    if format_witness_vkey(key) != text:
        raise MalformedError(f"the key id is {match[2]}, and name and key give {key.key_id.hex()}")
    return key


def check_cosignatures(note: bytes, keys: Iterable[WitnessKey]) -> list[Cosignature]:
    """The cosignatures of these witnesses on a checkpoint; lines of others are passed over.

    Raises TamperError where a known witness's does not hold, MalformedError for what is no note.
    """
    text = note_text(note)
    known = {(key.name, key.key_id): key for key in keys}
    found = []
    for signature in signatures_of(note):
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            found.append(_checked(text, signature, key, note))
    return found


def add_lines(note: bytes, lines: bytes) -> bytes:
    """The note with further signature lines. Raises MalformedError where that makes none."""
    made = note + lines
    signatures_of(made)
    return made


def _checked(text: bytes, signature: NoteSignature, key: WitnessKey, note: bytes) -> Cosignature:
    blob = signature.signature
    time = int.from_bytes(blob[:_TIME_SIZE], "big")
    try:
        if len(blob) != _TIME_SIZE + _SIGNATURE_SIZE or time > MAX_DECIMAL:
            raise ValueError("length or time")
        public = Ed25519PublicKey.from_public_bytes(key.public_key)
        public.verify(blob[_TIME_SIZE:], _message(text, time))
    except (InvalidSignature, ValueError):
        raise TamperError(
            f"the cosignature of {key.name} does not belong to this checkpoint", checkpoints=(note,)
        ) from None
    return Cosignature(key, time)


def _message(text: bytes, time: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time + text

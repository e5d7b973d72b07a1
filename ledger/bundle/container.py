"""The ZIP file of a bundle, in a form in which no bit is free.

Any ZIP program opens it; this reader accepts only what `write_container` makes: members stored one
after the other without compression, each header exactly the bytes that its name, size and checksum
give, the directory behind them, nothing before, between or after. So there is no second reading of
the same file (CVE-rich ground: local header against directory, prefixes, duplicate names), nothing
to inflate, and a flipped bit is either in a header that no longer matches or under a checksum.
docs/spec/bundle.md, step 1.

::

    with open("claim.zip", "wb") as file:
        write_container(file, [("checkpoint", b"…"), ("entries/0.json", b"…")])
    container = read_container(data)           TamperError or MalformedError for anything else
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple
from zlib import crc32

from ledger.errors import MalformedError, TamperError

__all__ = [
    "MAX_BYTES",
    "MAX_MEMBERS",
    "Container",
    "TooLargeError",
    "WrongMember",
    "member_index",
    "read_container",
    "write_container",
]

MAX_BYTES: Final = 1 << 30
MAX_MEMBERS: Final = 65_535

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_VERSION: Final = 20
_FIRST_DATE: Final = (
    0x0021  # 1980-01-01, the first day that ZIP knows: a bundle's time is in its manifest
)

_NUMBER = r"(?:0|[1-9][0-9]{0,15})"
_SIZES: Final = tuple(
    (re.compile(name.encode("ascii")), most)
    for name, most in {
        r"manifest\.json": 1 << 24,
        r"manifest\.note|checkpoint|policy": 1 << 16,
        r"schema\.json|report\.json": 1 << 24,
        r"report\.(?:csv|pdf)": 1 << 28,
        r"verify\.py|README\.txt": 1 << 20,
        rf"entries/{_NUMBER}\.json": 65_535,
        rf"payloads/{_NUMBER}\.bin": 1 << 20,
        rf"payloads/{_NUMBER}\.salt": 16,
        rf"proofs/{_NUMBER}\.tlog-proof": 1 << 17,
        r"tile/entries/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?": 1 << 24,
        r"timestamps/[a-z0-9][a-z0-9_-]{0,63}\.tsr": 1 << 20,
        r"keys/[a-z0-9][a-z0-9_-]{0,63}\.vkey": 1 << 12,
    }.items()
)
_INDEXED = re.compile(r"(?:entries|payloads|proofs)/([0-9]{1,16})\.[a-z-]+")


class TooLargeError(MalformedError):
    """Beyond the caps, or no container at all: it is not examined, so nothing is said about it."""


class WrongMember(NamedTuple):
    """A member whose content or name is not as written; the rest can still be told apart."""

    name: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    crc: int
    size: int
    start: int


class Container:
    """The members of a file whose every byte was accounted for; `read` copies one out."""

    def __init__(self, data: bytes, members: Iterable[_Member]) -> None:
        self._data = data
        self._members = {member.name: member for member in members}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of a member. Raises: KeyError."""
        member = self._members[name]
        return bytes(self._data[member.start : member.start + member.size])

    def indexed(self, folder: str, suffix: str) -> dict[int, str]:
        """{index: name} of the members `<folder>/<index><suffix>`, in the order of the indexes."""
        names = (name for name in self if name.startswith(folder + "/") and name.endswith(suffix))
        return dict(sorted((int(name[len(folder) + 1 : -len(suffix)]), name) for name in names))


def member_index(name: str) -> int | None:
    """The entry that a member is about, or None."""
    match = _INDEXED.fullmatch(name)
    return int(match[1]) if match else None


def write_container(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    """Write members in the order given, one held in memory at a time.

    Raises MalformedError for a name or size that no reader would take; the file is then unfinished.
    """
    directory, offset, count = [], 0, 0
    for name, data in members:
        raw = name.encode("ascii")
        _check_size(raw, len(data))
        crc = crc32(data)
        local = _local_header(raw, crc, len(data))
        file.write(local)
        file.write(data)
        directory.append(_central_header(raw, crc, len(data), offset))
        offset, count = offset + len(local) + len(data), count + 1
    size = sum(map(len, directory))
    if count > MAX_MEMBERS or offset + size + _END.size > MAX_BYTES:
        raise TooLargeError(f"a bundle holds at most {MAX_MEMBERS} members and {MAX_BYTES} bytes")
    file.writelines(directory)
    file.write(_END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0))


def read_container(data: bytes) -> tuple[Container, list[WrongMember]]:
    """The members, and what is wrong inside them (a checksum, a name that comes twice), each by
    name.

    Raises TamperError where the file is not laid out as written, TooLargeError where it is not a
    container or beyond the caps.
    """
    count, directory = _read_end(data)
    members, at, offset = [], directory, 0
    for _ in range(count):
        member, at, offset = _read_member(data, at, offset)
        members.append(member)
    if offset != directory or at != len(data) - _END.size:
        raise TamperError(
            "bytes that belong to no member", expected=str(directory), found=str(offset)
        )
    return Container(data, members), list(_wrong_members(data, members))


def _wrong_members(data: bytes, members: Iterable[_Member]) -> Iterator[WrongMember]:
    seen = set()
    for member in members:
        if member.name.casefold() in seen:
            yield WrongMember(member.name, "one member of this name", "two")
        seen.add(member.name.casefold())
        found = crc32(data[member.start : member.start + member.size])
        if found != member.crc:
            yield WrongMember(member.name, f"crc32 {member.crc:08x}", f"crc32 {found:08x}")


def _read_end(data: bytes) -> tuple[int, int]:
    """(number of members, offset of the directory); the end record fits the file exactly."""
    if len(data) > MAX_BYTES:
        raise TooLargeError(f"the file has {len(data)} bytes; at most {MAX_BYTES} are examined")
    at = len(data) - _END.size
    tail = bytes(data[at:]) if at >= 0 else b""
    if data[:4] != b"PK\3\4" and tail[:4] != b"PK\5\6":
        raise TooLargeError("the file is not a bundle: it has no ZIP signature")
    if tail[:4] != b"PK\5\6":
        raise TamperError(
            "the file does not end with a ZIP end record", expected="504b0506", found=tail[:4].hex()
        )
    _, _, _, _, count, size, offset, _ = _END.unpack(tail)
    right = _END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0)
    if tail != right:
        raise TamperError(
            "the ZIP end record is not as written", expected=right.hex(), found=tail.hex()
        )
    if offset + size != at:
        raise TamperError(
            "the ZIP directory is elsewhere", expected=str(at - size), found=str(offset)
        )
    return count, offset


def _read_member(data: bytes, at: int, offset: int) -> tuple[_Member, int, int]:
    """The member whose directory entry is at `at` and whose data begins, header first, at
    `offset`.
    """
    if at + _CENTRAL.size > len(data) - _END.size:
        raise TamperError("the ZIP directory is cut", expected="another member", found="its end")
    fields = _CENTRAL.unpack(data[at : at + _CENTRAL.size])
    crc, size, length = fields[7], fields[9], fields[10]
    raw = bytes(data[at + _CENTRAL.size : at + _CENTRAL.size + length])
    _check_size(raw, size)
    central, local = _central_header(raw, crc, size, offset), _local_header(raw, crc, size)
    _check_header(raw, central, bytes(data[at : at + len(central)]))
    _check_header(raw, local, bytes(data[offset : offset + len(local)]))
    start = offset + len(local)
    return _Member(raw.decode("ascii"), crc, size, start), at + len(central), start + size


def _check_header(raw: bytes, right: bytes, found: bytes) -> None:
    if right != found:
        name = raw.decode("ascii")
        raise TamperError(
            f"a header of {name} is not as written",
            index=member_index(name),
            expected=right.hex(),
            found=found.hex(),
        )


def _check_size(raw: bytes, size: int) -> None:
    """Only names that a bundle has: none is absolute, climbs, is a folder or beyond ASCII."""
    for pattern, most in _SIZES:
        if pattern.fullmatch(raw):
            if size > most:
                raise TooLargeError(
                    f"{raw.decode('ascii')} has {size} bytes; at most {most} are read"
                )
            return
    raise TamperError(
        "a member that no bundle has", expected="a name of the format", found=ascii(raw[:200])
    )


def _local_header(raw: bytes, crc: int, size: int) -> bytes:
    fixed = (b"PK\3\4", _VERSION, 0, 0, 0, _FIRST_DATE)
    return _LOCAL.pack(*fixed, crc, size, size, len(raw), 0) + raw


def _central_header(raw: bytes, crc: int, size: int, offset: int) -> bytes:
    fixed = (b"PK\1\2", _VERSION, _VERSION, 0, 0, 0, _FIRST_DATE)
    return _CENTRAL.pack(*fixed, crc, size, size, len(raw), 0, 0, 0, 0, 0, offset) + raw

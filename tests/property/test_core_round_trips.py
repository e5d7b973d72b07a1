"""parse(format(x)) = x, and format(parse(b)) = b or a refusal, for every format of the core."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ledger.canonical import (
    check_name,
    format_base64,
    format_decimal,
    format_time,
    parse_base64,
    parse_decimal,
    parse_rfc3339,
    parse_time,
)
from ledger.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from ledger.entry import Entry, EntryFormatter, format_entry, parse_entry
from ledger.errors import AsofError, MalformedError
from ledger.hashing import EMPTY_ROOT
from ledger.note import Signer, format_vkey, open_note, parse_vkey, sign_note
from ledger.proof import InclusionProof, format_proof, parse_proof
from ledger.receipt import Receipt, format_receipt, parse_receipt
from ledger.tiles import (
    format_bundle,
    format_bundle_path,
    format_tile_path,
    parse_bundle,
    parse_bundle_path,
    parse_tile_path,
)

HASHES = st.binary(min_size=32, max_size=32)
INDEXES = st.integers(0, 2**53 - 1)
LETTERS = st.characters(exclude_categories=("Cs", "Cc"))


def is_name(text: str) -> bool:
    try:
        check_name(text, "name")
    except MalformedError:
        return False
    return True


NAMES = (
    st.text(LETTERS, min_size=1, max_size=40)
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(is_name)
)
KEY_NAMES = NAMES.filter(lambda name: "+" not in name and not any(c.isspace() for c in name))
FIRST, LAST = "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"
INSTANTS = st.integers(parse_time(FIRST), parse_time(LAST))
ENTRIES = st.builds(
    Entry,
    actor=NAMES, commitment=HASHES, index=INDEXES, ledger=NAMES, prev=HASHES, recorded_at=INSTANTS,
    stream=NAMES, type=NAMES, version=st.integers(1, 2**53 - 1),
)  # fmt: skip


Step = Callable[[Any], Any]


def refuses_or_rewrites(parse: Step, write: Step, data: Any) -> None:
    """A reader takes only what the writer would have written."""
    try:
        parsed = parse(data)
    except AsofError:
        return
    assert write(parsed) == data


def edited(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a few bytes put in, taken out or changed."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(out) - 1, 0)))
        out[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b" ", b"0", b"\n", b'"', b"=", b"+", b"x", b"\xc3\xa9", b"_"])
        )
    return bytes(out)


@given(ENTRIES)
def test_entry(entry: Entry) -> None:
    data = format_entry(entry)
    assert parse_entry(data) == entry
    members = {
        "actor": entry.actor, "commitment": entry.commitment.hex(), "index": entry.index,
        "ledger": entry.ledger, "prev": entry.prev.hex(), "stream": entry.stream,
        "type": entry.type, "recorded_at": format_time(entry.recorded_at), "v": 1,
        "version": entry.version,
    }  # fmt: skip
    assert data == rfc8785.dumps(members)


@given(ENTRIES, st.data())
def test_entry_edited(entry: Entry, data: st.DataObject) -> None:
    refuses_or_rewrites(parse_entry, format_entry, edited(data.draw, format_entry(entry)))


@given(NAMES, st.lists(NAMES, min_size=1, max_size=5))
def test_formatter_escapes_as_jcs(ledger: str, names: list[str]) -> None:
    formatter = EntryFormatter(ledger)
    for name in names * 2:
        data = formatter.format(0, "a" * 64, format_time(0), name, name, name, 1, "b" * 64)
        assert rfc8785.dumps(name) in data
        assert parse_entry(data).actor == name


@given(INSTANTS)
def test_time(instant: int) -> None:
    assert parse_time(format_time(instant)) == instant
    assert parse_rfc3339(format_time(instant)) == instant


@given(st.text("0123456789-:.TZz ٤+", max_size=30) | st.text(max_size=30))
@example("2026-11-21T24:00:00.000000Z")
@example("2026-02-29T00:00:00.000000Z")
@example("2026-11-21T05:00:00.000000Z\n")
@example("٢٠٢٦-11-21T05:00:00.000000Z")
def test_time_text(text: str) -> None:
    refuses_or_rewrites(parse_time, format_time, text)


@given(
    st.datetimes(),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.sampled_from("Tt "),
    st.integers(0, 9),
)
def test_rfc3339(moment: Any, offset: int, letter: str, digits: int) -> None:
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    fraction = f".{moment.microsecond:06d}000"[: digits + 1] if digits else ""
    text = f"{moment:%H:%M:%S}{fraction}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    text = f"{moment.isoformat()[:10]}{letter}{text}"
    kept = int((fraction[1:] + "000000")[:6])
    utc = parse_time(moment.isoformat()[:19] + ".000000Z") + kept - offset * 60_000_000
    try:
        format_time(utc)
    except MalformedError:
        with pytest.raises(MalformedError):
            parse_rfc3339(text)
    else:
        assert parse_rfc3339(text) == utc


@given(st.binary(max_size=40))
def test_base64(data: bytes) -> None:
    assert parse_base64(format_base64(data), size=len(data)) == data


@given(st.text("AB=+/-_ \n9", max_size=12) | st.text(max_size=6))
def test_base64_text(text: str) -> None:
    refuses_or_rewrites(parse_base64, format_base64, text)


@given(st.integers(0, 2**63 - 1))
def test_decimal(number: int) -> None:
    assert parse_decimal(format_decimal(number)) == number


@given(st.text("0123456789_+- \n٤", max_size=21))
@example("9223372036854775808")
@example("4_2")
def test_decimal_text(text: str) -> None:
    refuses_or_rewrites(parse_decimal, format_decimal, text)


@given(NAMES, st.integers(0, 2**63 - 1), HASHES)
def test_checkpoint(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root if size else EMPTY_ROOT)
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


@given(NAMES, st.integers(1, 2**63 - 1), HASHES, st.data())
def test_checkpoint_edited(origin: str, size: int, root: bytes, data: st.DataObject) -> None:
    text = edited(data.draw, format_checkpoint(Checkpoint(origin, size, root)))
    refuses_or_rewrites(parse_checkpoint, format_checkpoint, text)


@given(st.integers(0, 2**63 - 1), st.lists(HASHES, max_size=63), st.binary(max_size=60))
def test_proof(index: int, hashes: list[bytes], checkpoint: bytes) -> None:
    proof = InclusionProof(index, tuple(hashes), checkpoint)
    assert parse_proof(format_proof(proof)) == proof


@given(INDEXES, st.lists(HASHES, max_size=4), st.data())
def test_proof_edited(index: int, hashes: list[bytes], data: st.DataObject) -> None:
    whole = format_proof(InclusionProof(index, tuple(hashes), b"checkpoint\n"))
    refuses_or_rewrites(parse_proof, format_proof, edited(data.draw, whole))


RECEIPTS = st.builds(
    Receipt,
    index=INDEXES, leaf_hash=HASHES, entry=st.text(max_size=40).map(str.encode),
    checkpoint=st.text(max_size=40).map(str.encode), hashes=st.lists(HASHES, max_size=5).map(tuple),
)  # fmt: skip


@given(RECEIPTS)
def test_receipt(receipt: Receipt) -> None:
    assert parse_receipt(format_receipt(receipt)) == receipt


@given(RECEIPTS, st.data())
def test_receipt_edited(receipt: Receipt, data: st.DataObject) -> None:
    refuses_or_rewrites(parse_receipt, format_receipt, edited(data.draw, format_receipt(receipt)))


@given(
    KEY_NAMES, st.binary(min_size=32, max_size=32), st.text(LETTERS | st.just("\n"), max_size=40)
)
def test_note_and_key(name: str, seed: bytes, text: str) -> None:
    signer = Signer.from_seed(name, seed)
    assert parse_vkey(format_vkey(signer.vkey)) == signer.vkey
    body = text.encode() + b"\n"
    note = sign_note(body, [signer])
    assert open_note(note, [signer.vkey]).text == body


@given(KEY_NAMES, st.data())
def test_key_edited(name: str, data: st.DataObject) -> None:
    vkey = format_vkey(Signer.from_seed(name, bytes(32)).vkey)
    text = edited(data.draw, vkey.encode()).decode("utf-8", "replace")
    refuses_or_rewrites(parse_vkey, format_vkey, text)


@given(st.integers(0, 63), st.integers(0, 2**55 - 1), st.integers(1, 256))
def test_paths(level: int, n: int, width: int) -> None:
    assert parse_tile_path(format_tile_path(level, n, width)) == (level, n, width)
    assert parse_bundle_path(format_bundle_path(n, width)) == (n, width)


PATH_TEXTS = st.lists(
    st.sampled_from("tile/ entries/ 0 1 63 64 / x000 x001 /000 /005 .p/ 255 256 00 ٤ -1".split())
).map("".join)


@given(PATH_TEXTS)
@example("tile/0/x000/005")
@example("tile/0/005.p/256")
@example("tile/64/005")
@example("tile/entries/x001/000.p/7")
def test_path_text(path: str) -> None:
    refuses_or_rewrites(parse_tile_path, lambda parts: format_tile_path(*parts), path)
    refuses_or_rewrites(parse_bundle_path, lambda parts: format_bundle_path(*parts), path)


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=256))
def test_bundle(entries: list[bytes]) -> None:
    assert parse_bundle(format_bundle(entries)) == entries


@given(st.binary(max_size=40))
def test_bundle_bytes(data: bytes) -> None:
    refuses_or_rewrites(parse_bundle, format_bundle, data)


@given(st.text(max_size=20))
def test_a_name_is_what_an_entry_can_hold(text: str) -> None:
    assume(not is_name(text))
    with pytest.raises(MalformedError):
        EntryFormatter("x").format(0, "a" * 64, format_time(0), text, "s", "t", 1, "b" * 64)

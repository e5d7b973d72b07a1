"""note, checkpoint, proof, receipt: numbered as in their specifications."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ledger.canonical import format_base64
from ledger.checkpoint import (
    Checkpoint,
    format_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from ledger.entry import entry_leaf, format_entry
from ledger.errors import MalformedError, TamperError
from ledger.hashing import EMPTY_ROOT
from ledger.note import Signer, VerifierKey, format_vkey, open_note, parse_vkey, sign_note
from ledger.proof import InclusionProof, check_proof, format_proof, parse_proof
from ledger.receipt import Receipt, check_receipt, format_receipt, parse_receipt
from tests.support.golden import ORIGIN, golden, golden_signer
from tests.support.golden_receipts import golden_receipts

SIGNER = golden_signer()
OTHER = Signer.from_seed("other.example", b"o" * 32)
TWIN = Signer.from_seed(ORIGIN, b"t" * 32)
TEXT = b"Some text.\n\nWith a blank line.\n"


# ------------------------------------------------------------------------------------------ note


def test_rule_1_the_last_blank_line_divides() -> None:
    note = sign_note(TEXT, [SIGNER, OTHER])
    opened = open_note(note, [OTHER.vkey])
    assert opened.text == TEXT
    assert [line.name for line in opened.signatures] == [ORIGIN, "other.example"]
    assert [line.name for line in opened.verified] == ["other.example"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAA=",
        b"text\n\n-- a AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a\n",
        b"text\n\n\xe2\x80\x94  AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a+b AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a\xc2\xa0b AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a AAAAAA==\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAB=\n",
        b"te\xffxt\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"te\txt\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"text\r\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"x" * (1 << 20) + b"\n",
        b"text\n\n" + b"\xe2\x80\x94 a AAAAAAA=\n" * 101,
    ],
)
def test_rules_1_to_4_not_a_note(data: bytes) -> None:
    with pytest.raises(MalformedError):
        open_note(data, [SIGNER.vkey])


def test_rules_2_and_8_many_unknown_lines_are_ignored() -> None:
    strangers = "".join(f"— witness-{i} {format_base64(bytes(12))}\n" for i in range(99))
    note = TEXT + b"\n" + strangers.encode() + SIGNER.sign(TEXT)
    opened = open_note(note, [SIGNER.vkey])
    assert (len(opened.signatures), len(opened.verified)) == (100, 1)


@pytest.mark.parametrize("text", [b"", b"no newline", b"bell\x07\n", b"\xff\n"])
def test_rule_2_cannot_be_signed(text: bytes) -> None:
    with pytest.raises(MalformedError):
        sign_note(text, [SIGNER])


def test_rule_2_needs_a_signer() -> None:
    with pytest.raises(MalformedError, match="1 to 100 signatures"):
        sign_note(TEXT, [])


def test_rule_7_one_wrong_signature_of_a_known_key_refuses_all() -> None:
    wrong = SIGNER.sign(b"Another text.\n")
    note = TEXT + b"\n" + OTHER.sign(TEXT) + wrong
    with pytest.raises(TamperError, match=f"the signature of {ORIGIN} does not belong"):
        open_note(note, [OTHER.vkey, SIGNER.vkey])
    assert open_note(note, [OTHER.vkey]).verified


def test_rule_7_a_short_signature_is_wrong() -> None:
    blob = format_base64(SIGNER.vkey.key_id + b"short")
    with pytest.raises(TamperError, match="does not belong"):
        open_note(TEXT + f"\n— {ORIGIN} {blob}\n".encode(), [SIGNER.vkey])


def test_rule_8_same_name_other_key_is_unknown() -> None:
    note = sign_note(TEXT, [SIGNER])
    with pytest.raises(TamperError, match="no signature by a known key"):
        open_note(note, [TWIN.vkey])
    with pytest.raises(TamperError, match="no key given"):
        open_note(note, [])
    assert open_note(sign_note(TEXT, [TWIN, SIGNER]), [SIGNER.vkey]).text == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        "a+00000000+AAAA",
        "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fooo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3Q==",
        "example.com/foo+530d903a+====",
    ],
)
def test_rule_10_not_a_key(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_vkey(text)


def test_keys_are_bound_to_their_names() -> None:
    with pytest.raises(MalformedError, match="32 bytes, not 31"):
        VerifierKey.ed25519("a", bytes(31))
    with pytest.raises(MalformedError, match="seed has 32"):
        Signer.from_seed("a", b"")
    with pytest.raises(MalformedError, match="neither spaces"):
        Signer.from_seed("a b", bytes(32))
    assert repr(SIGNER) == f"Signer({format_vkey(SIGNER.vkey)})"
    assert SIGNER.name == ORIGIN


# ------------------------------------------------------------------------------------ checkpoint


@pytest.mark.parametrize(
    "text",
    [
        b"origin\n1\n",
        b"origin\n1\nroot\n",
        b"origin\n01\n" + format_base64(EMPTY_ROOT).encode() + b"\n",
        b"origin\n1\n" + format_base64(EMPTY_ROOT).encode(),
        b"origin\n1\n" + format_base64(EMPTY_ROOT).encode() + b"\nextension\n",
        b"origin\n1\n" + format_base64(EMPTY_ROOT[:31]).encode() + b"\n",
        b"origin\n0\n" + format_base64(bytes(32)).encode() + b"\n",
        b"\n1\n" + format_base64(EMPTY_ROOT).encode() + b"\n",
        b"\xff\n1\n" + format_base64(EMPTY_ROOT).encode() + b"\n",
    ],
)
def test_checkpoint_rules_1_to_4(text: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(text)


def test_checkpoint_cannot_be_made() -> None:
    with pytest.raises(MalformedError, match="root has 32"):
        format_checkpoint(Checkpoint(ORIGIN, 1, b""))
    with pytest.raises(MalformedError, match="not between 0"):
        format_checkpoint(Checkpoint(ORIGIN, -1, EMPTY_ROOT))
    with pytest.raises(MalformedError, match=r"other.example does not sign for ledger.example"):
        sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), OTHER)


def test_checkpoint_rule_5_the_key_is_the_origin() -> None:
    foreign = sign_note(format_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT)), [OTHER])
    with pytest.raises(TamperError, match="another ledger") as caught:
        open_checkpoint(foreign, OTHER.vkey)
    assert (caught.value.expected, caught.value.found) == ("other.example", ORIGIN)
    assert caught.value.checkpoints == (foreign,)


def test_checkpoint_rule_6_signatures_are_deterministic() -> None:
    checkpoint = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert sign_checkpoint(checkpoint, SIGNER) == sign_checkpoint(checkpoint, golden_signer())


# ----------------------------------------------------------------------------------------- proof


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"c2sp.org/tlog-proof@v1\n\ncheckpoint",
        b"c2sp.org/tlog-proof@v1\nindex 1\ncheckpoint",
        b"c2sp.org/tlog-proof@v2\nindex 1\n\ncheckpoint",
        b"c2sp.org/tlog-proof@v1\nindex 01\n\ncheckpoint",
        b"c2sp.org/tlog-proof@v1\nIndex 1\n\ncheckpoint",
        b"c2sp.org/tlog-proof@v1\nextra AAAA\nindex 1\n\ncheckpoint",
        b"c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\ncheckpoint",
        b"c2sp.org/tlog-proof@v1\nindex \xff\n\ncheckpoint",
        b"c2sp.org/tlog-proof@v1\nindex 1\n" + (b"A" * 43 + b"=\n") * 64 + b"\ncheckpoint",
    ],
)
def test_proof_rules_1_to_4(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_proof(data)


@pytest.mark.parametrize("hashes", [(bytes(32),) * 64, (bytes(31),)])
def test_proof_cannot_be_written(hashes: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedError, match="at most 63 hashes of 32 bytes"):
        format_proof(InclusionProof(0, hashes, b""))


def test_proof_rules_5_and_6() -> None:
    receipt = golden_receipts(3, 9)[2]
    proof = parse_proof(format_proof(receipt.proof()))
    assert check_proof(proof, receipt.leaf_hash, SIGNER.vkey).size == 9
    with pytest.raises(TamperError, match="no signature"):
        check_proof(proof, receipt.leaf_hash, TWIN.vkey)
    with pytest.raises(TamperError, match="another root"):
        check_proof(proof, bytes(32), SIGNER.vkey)


# --------------------------------------------------------------------------------------- receipt


def test_batch_receipts_are_a_sequence() -> None:
    batch = golden_receipts(5, 12)
    assert len(batch) == 7
    assert [receipt.index for receipt in batch] == list(range(5, 12))
    assert batch[-1] == batch[6] == batch[2:][4]
    assert batch[1:3] == [batch[1], batch[2]]
    with pytest.raises(IndexError):
        batch[7]
    for receipt in batch:
        entry, checkpoint = check_receipt(parse_receipt(format_receipt(receipt)), SIGNER.vkey)
        assert (entry, checkpoint.size) == (golden()[receipt.index].entry, 12)


RECEIPT = golden_receipts(0, 9)[3]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"v":1}', b'"v":2}'),
        (b'"v":1}', b'"v":true}'),
        (b'"v":1}', b'"v":1,"x":1}'),
        (b'"index":3', b'"index":"3"'),
        (b'"index":3', b'"index":-3'),
        (b'"index":3', b'"index":true'),
        (b'"index":3', b'"index": 3'),
        (b'"leaf_hash":"', b'"leaf_hash":"z'),
        (b'"proof":["', b'"proof":[1,"'),
        (b'"proof":[', b'"proof":[[],'),
        (b'"proof":["', b'"proof":["A'),
    ],
)
def test_receipt_rules_1_to_3(old: bytes, new: bytes) -> None:
    data = format_receipt(RECEIPT)
    assert old in data
    with pytest.raises(MalformedError):
        parse_receipt(data.replace(old, new, 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"index": -1},
        {"leaf_hash": b""},
        {"hashes": (b"",)},
        {"hashes": (bytes(32),) * 64},
        {"entry": b"\xff"},
        {"checkpoint": b"\xff"},
    ],
)
def test_receipt_cannot_be_written(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        format_receipt(dataclasses.replace(RECEIPT, **changes))


def changed(**changes: Any) -> Receipt:
    return dataclasses.replace(RECEIPT, **changes)


@pytest.mark.parametrize(
    ("receipt", "words"),
    [
        (changed(leaf_hash=bytes(32)), "in the leaf hash"),
        (changed(index=4), "in the index"),
        (changed(hashes=(bytes(32),) * len(RECEIPT.hashes)), "another root"),
        (changed(checkpoint=golden_receipts(0, 8)[3].checkpoint), "must have 3 hashes"),
    ],
)
def test_receipt_rules_5_to_7(receipt: Receipt, words: str) -> None:
    with pytest.raises((TamperError, MalformedError), match=words):
        check_receipt(receipt, SIGNER.vkey)


def alone(**changes: Any) -> Receipt:
    """A ledger of one entry, whose signer signs whatever it is asked to."""
    data = format_entry(dataclasses.replace(golden()[0].entry, **changes))
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, entry_leaf(data)), SIGNER)
    return Receipt(index=0, leaf_hash=entry_leaf(data), entry=data, checkpoint=note, hashes=())


def test_receipt_rules_6_and_8() -> None:
    check_receipt(alone(), SIGNER.vkey)
    with pytest.raises(TamperError, match="in the first link") as caught:
        check_receipt(alone(prev=bytes(32)), SIGNER.vkey)
    assert caught.value.expected == EMPTY_ROOT.hex()
    assert caught.value.checkpoints
    with pytest.raises(TamperError, match="in the ledger"):
        check_receipt(alone(ledger="other.example"), SIGNER.vkey)

"""Cosignatures and policies: what holds, and everything that does not."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.cosignature import (
    Cosignature,
    Cosigner,
    WitnessKey,
    add_lines,
    check_cosignatures,
    format_witness_vkey,
    parse_witness_vkey,
)
from ledger.errors import MalformedError, StoreError, TamperError
from ledger.keys import load_witness_key
from ledger.note import Signer, format_vkey, note_text, open_note, signatures_of
from ledger.policy import parse_policy

ORIGIN = "ledger.example.com/acme"
SIGNER = Signer.from_seed(ORIGIN, b"\x01" * 32)
NOTE = sign_checkpoint(Checkpoint(ORIGIN, 7, b"r" * 32), SIGNER)


def cosigner(number: int) -> Cosigner:
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return Cosigner(f"witness.example.com/w{number}", key)


W1, W2 = cosigner(1), cosigner(2)
COSIGNED = add_lines(NOTE, W1.line(note_text(NOTE), 1_795_000_000))


def test_a_cosignature_holds_for_its_text_and_time() -> None:
    assert check_cosignatures(COSIGNED, [W1.key, W2.key]) == [Cosignature(W1.key, 1_795_000_000)]
    assert check_cosignatures(COSIGNED, [W1.key])[0].name == "witness.example.com/w1"
    assert check_cosignatures(COSIGNED, [W2.key]) == [], "others are passed over"
    assert open_note(COSIGNED, [SIGNER.vkey]).text == note_text(NOTE)
    assert len(signatures_of(COSIGNED)) == 2
    assert "PrivateKey" not in repr(W1) and W1.key.name in repr(W1)


def test_the_message_is_that_of_the_specification() -> None:
    """Made again here from the words of formats.md, section 4."""
    blob = base64.b64decode(COSIGNED.split(b"\n")[-2].split(b" ")[2])
    message = b"cosignature/v1\ntime 1795000000\n" + NOTE.partition(b"\n\n")[0] + b"\n"
    key = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    key.public_key().verify(blob[12:], message)
    assert blob[:4] == W1.key.key_id and blob[4:12] == (1_795_000_000).to_bytes(8, "big")


@pytest.mark.parametrize("at", [0, 4, 11, 12, 75])
def test_a_changed_one_is_evidence(at: int) -> None:
    line = W1.line(note_text(NOTE), 5)
    blob = bytearray(base64.b64decode(line.split(b" ")[2]))
    blob[at] ^= 1
    changed = b"\xe2\x80\x94 witness.example.com/w1 " + base64.b64encode(blob) + b"\n"
    if at < 4:  # another key's: nobody's that is known
        assert check_cosignatures(add_lines(NOTE, changed), [W1.key]) == []
        return
    with pytest.raises(TamperError, match="cosignature of witness"):
        check_cosignatures(add_lines(NOTE, changed), [W1.key])


def test_one_of_another_length_is_evidence() -> None:
    blob = base64.b64decode(W1.line(note_text(NOTE), 5).split(b" ")[2])
    short = b"\xe2\x80\x94 witness.example.com/w1 " + base64.b64encode(blob[:-1]) + b"\n"
    with pytest.raises(TamperError):
        check_cosignatures(add_lines(NOTE, short), [W1.key])
    with pytest.raises(MalformedError):
        add_lines(NOTE, b"no line\n")


def test_the_key_of_a_witness_is_strict() -> None:
    text = format_witness_vkey(W1.key)
    assert parse_witness_vkey(text) == W1.key == WitnessKey(W1.key.name, W1.key.public_key)
    name, key_id, encoded = text.split("+", 2)
    for wrong in (
        format_vkey(SIGNER.vkey),
        f"{name}+00000000+{encoded}",
        f"{name}+{key_id}+{encoded[:-4]}",
        "nothing",
    ):
        with pytest.raises(MalformedError):
            parse_witness_vkey(wrong)


@pytest.mark.parametrize("time", [-1, 1 << 63, 1 << 64])
def test_a_time_beyond_the_specification_is_not_signed(time: int) -> None:
    with pytest.raises(MalformedError, match="2\\^63-1"):
        W1.line(note_text(NOTE), time)
    assert W1.line(note_text(NOTE), (1 << 63) - 1)


def test_a_time_beyond_the_specification_does_not_hold() -> None:
    """Also where the key signed it: it is a statement about no time."""
    time = 1 << 63
    key = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    message = b"cosignature/v1\ntime %d\n" % time + note_text(NOTE)
    blob = W1.key.key_id + time.to_bytes(8, "big") + key.sign(message)
    line = f"\u2014 {W1.key.name} {base64.b64encode(blob).decode()}\n".encode()
    with pytest.raises(TamperError, match="cosignature of witness"):
        check_cosignatures(add_lines(NOTE, line), [W1.key])


@pytest.mark.parametrize("name", ["two words", "a+b", "", "a\u2003b", "a\x01b", "x" * 513])
def test_a_name_that_makes_no_line_is_nobodys(name: str) -> None:
    with pytest.raises(MalformedError):
        Cosigner(name, Ed25519PrivateKey.generate())
    with pytest.raises(MalformedError):
        parse_witness_vkey(format_witness_vkey(WitnessKey(name, W1.key.public_key)))


def test_the_key_of_a_witness_is_made_once(tmp_path: Path) -> None:
    made = load_witness_key(tmp_path / "w")
    assert load_witness_key(tmp_path / "w").private_bytes_raw() == made.private_bytes_raw()
    assert (tmp_path / "w" / "witness.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        load_witness_key(tmp_path / "file" / "w")


def test_two_that_make_the_key_at_once_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other was faster between the look and the link: its key is taken."""
    made = load_witness_key(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert load_witness_key(tmp_path).private_bytes_raw() == made.private_bytes_raw()
    assert [path.name for path in tmp_path.iterdir()] == ["witness.pem"]


@pytest.mark.parametrize("rights", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_cosigns_nothing(tmp_path: Path, rights: int) -> None:
    load_witness_key(tmp_path)
    (tmp_path / "witness.pem").chmod(rights)
    with pytest.raises(StoreError, match="can be read by others"):
        load_witness_key(tmp_path)


# ------------------------------------------------------------------------------------------ policy


SAME_KEY = format_witness_vkey(WitnessKey("elsewhere.example.com/w9", W1.key.public_key))
SAME_LOG = format_vkey(Signer.from_seed("ledger.example.com/other", b"\x01" * 32).vkey)


def policy(rest: str) -> str:
    return f"""# who must have seen it
log {format_vkey(SIGNER.vkey)} https://ledger.example.com/t/acme

witness W1 {format_witness_vkey(W1.key)} https://witness.example.com/witness
witness W2 {format_witness_vkey(W2.key)}
{rest}"""


@pytest.mark.parametrize(
    ("rest", "one", "both"),
    [
        ("group g any W1 W2\nquorum g\n", True, True),
        ("group g all W1 W2\nquorum g\n", False, True),
        ("group g 1 W1 W2\nquorum g\n", True, True),
        ("quorum W1", True, True),
        ("quorum W2", False, True),
        ("group a any W1\ngroup b 2 a W2\nquorum b", False, True),
        ("group a any W2\ngroup b 2 a W1\nquorum a", False, True),
        ("quorum none", True, True),
    ],
)
def test_a_quorum_is_met_or_not(rest: str, one: bool, both: bool) -> None:
    found = parse_policy(policy(rest))
    assert found.is_met({W1.key}) is one
    assert found.is_met({W1.key, W2.key}) is both
    assert found.is_met(()) is (rest == "quorum none")
    assert found.witnesses["W1"].url == "https://witness.example.com/witness"
    assert found.witnesses["W2"].url is None and found.logs[0][0] == SIGNER.vkey


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("", "names a log and a quorum"),
        ("quorum W3", "line 6: there is no witness or group W3"),
        ("quorum W1\nquorum W2", "line 7: expected"),
        ("group g 3 W1 W2\nquorum g", "1 to 2 of its members"),
        ("group g 0 W1\nquorum g", "1 to 1 of its members"),
        ("group g x W1\nquorum g", "1 to 1 of its members"),
        ("group g 1000 W1\nquorum g", "1 to 1 of its members"),
        ("group g any W1 W1\nquorum g", "names a member twice"),
        ("group a any W1 W2\ngroup b 2 a W2\nquorum b", "W2 is a member of another group already"),
        ("group a any W1\ngroup b 2 a W1\nquorum b", "W1 is a member of another group already"),
        ("group g 01 W1\nquorum g", "1 to 1 of its members"),
        ("group g \u0661 W1\nquorum g", "1 to 1 of its members"),
        ("group g none W1\nquorum g", "1 to 1 of its members"),
        ("group g any none\nquorum g", "there is no witness or group none"),
        ("group\u00a0g any W1\nquorum g", "line 6: expected log"),
        ("quorum W1\r", "line 6: control character"),
        ("quorum W1 # \x00", "line 6: control character"),
        ("# \x7f\nquorum W1", "line 6: control character"),
        ("quorum\x0bW1", "line 6: control character"),
        (f"witness W3 {format_witness_vkey(W1.key)}\nquorum W1", "this key is W1's already"),
        (f"witness W3 {SAME_KEY}\nquorum W1", "line 6: this key is W1's already"),
        (f"log {format_vkey(SIGNER.vkey)}\nquorum W1", "line 6: this log is there already"),
        (f"log {SAME_LOG}\nquorum W1", "line 6: this log is there already"),
        ("group W1 any W2\nquorum W1", "the name W1 is taken"),
        ("group none any W2\nquorum W1", "the name none is taken"),
        ("witness W1 x\nquorum W1", "the name W1 is taken"),
        ("witness W3 x\nquorum W1", "not the key of a witness"),
        ("log x\nquorum W1", "not a verifier key"),
        ("wines\nquorum W1", "line 6: expected log, witness, group"),
        ("group g any\nquorum W1", "line 6: expected"),
    ],
)
def test_what_is_no_policy_is_refused_by_its_line(rest: str, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        parse_policy(policy(rest))


def test_two_keys_of_one_name_are_two_witnesses() -> None:
    """A witness that changes its key has both for a while; one of them has not signed for two."""
    other = Cosigner(W1.key.name, Ed25519PrivateKey.from_private_bytes(b"\x09" * 32))
    found = parse_policy(
        policy(f"witness W9 {format_witness_vkey(other.key)}\ngroup g all W1 W9\nquorum g\n")
    )
    keys = [one.key for one in found.witnesses.values()]
    signed = {one.key for one in check_cosignatures(COSIGNED, keys)}
    assert signed == {W1.key} and not found.is_met(signed)
    both = add_lines(COSIGNED, other.line(note_text(NOTE), 1_795_000_000))
    assert found.is_met({one.key for one in check_cosignatures(both, keys)})


def test_words_are_parted_by_spaces_and_tabs() -> None:
    lines = " \t\n\t # g\u00a0\n\tgroup  g\u00a0h\tany W1 \n quorum g\u00a0h\t"
    found = parse_policy(policy(lines))
    assert found.quorum == "g\u00a0h" and found.is_met({W1.key}) and not found.is_met({W2.key})


def test_groups_may_be_as_deep_as_they_like() -> None:
    lines = ["group g0 any W1", *(f"group g{n} all g{n - 1}" for n in range(1, 1_500))]
    found = parse_policy(policy("\n".join([*lines, "quorum g1499\n"])))
    assert found.is_met({W1.key}) and not found.is_met({W2.key})

"""Cosignatures, the keys of witnesses, requests to them and policies: what is written is read, what
is read is what would have been written, and a byte that was changed never passes.
"""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.service.witnessing.witness import RefusalError, parse_request_body, request_body
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.cosignature import (
    Cosignature,
    Cosigner,
    add_lines,
    check_cosignatures,
    format_witness_vkey,
    parse_witness_vkey,
)
from ledger.errors import MalformedError, TamperError
from ledger.note import Signer, format_vkey, note_text
from ledger.policy import Policy, parse_policy

LOG = Signer.from_seed("ledger.example.com/acme", b"\x01" * 32)
NOTE = sign_checkpoint(Checkpoint(LOG.name, 7, b"r" * 32), LOG)
WITNESSES = [
    Cosigner(f"w{n}.example.com", Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32))
    for n in range(1, 6)
]
W = WITNESSES[0]
NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="+", codec="utf-8"),
    min_size=1,
    max_size=40,
).filter(lambda name: not re.search(r"\s|[\x00-\x20\x7f-\xa0]", name))
HASHES = st.binary(min_size=32, max_size=32)
SIZES = st.integers(0, 2**63 - 1)


@given(NAMES, st.binary(min_size=32, max_size=32))
def test_the_key_of_a_witness(name: str, seed: bytes) -> None:
    try:
        key = Cosigner(name, Ed25519PrivateKey.from_private_bytes(seed)).key
    except MalformedError:
        return  # not in Unicode form NFC
    assert parse_witness_vkey(format_witness_vkey(key)) == key


@given(st.data())
def test_the_key_of_a_witness_edited(data: st.DataObject) -> None:
    text = format_witness_vkey(W.key)
    at = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.characters(codec="utf-8").filter(lambda one: one != text[at]))
    for changed in (text[:at] + char + text[at + 1 :], text[:at] + text[at + 1 :]):
        with pytest.raises(MalformedError):
            parse_witness_vkey(changed)


@given(SIZES)
def test_a_cosignature(time: int) -> None:
    cosigned = add_lines(NOTE, W.line(note_text(NOTE), time))
    assert check_cosignatures(cosigned, [W.key]) == [Cosignature(W.key, time)]


@pytest.mark.parametrize("bit", range(8))
def test_a_cosignature_with_a_bit_changed(bit: int) -> None:
    """Every byte of the text and of the line. Control: in the log's own line it changes nothing
    that the witness said.
    """
    line = W.line(note_text(NOTE), 1_795_000_000)
    cosigned = add_lines(NOTE, line)
    mine, text = range(len(NOTE), len(cosigned)), range(len(note_text(NOTE)))
    held = 0
    for at in range(len(cosigned)):
        changed = bytearray(cosigned)
        changed[at] ^= 1 << bit
        try:
            found = check_cosignatures(bytes(changed), [W.key])
        except (MalformedError, TamperError):
            found = []
        assert not found or (at not in mine and at not in text), at
        held += len(found)
    assert held > 0 or bit == 7, "no byte of a signature line stays UTF-8 with its highest bit"


@given(SIZES, st.lists(HASHES, max_size=63))
def test_a_request(old: int, proof: list[bytes]) -> None:
    assert parse_request_body(request_body(old, proof, NOTE)) == (old, proof, NOTE)


@given(st.lists(HASHES, max_size=3), st.data())
def test_a_request_edited(proof: list[bytes], data: st.DataObject) -> None:
    """What is read is what would have been sent, byte for byte: nothing is read in two ways."""
    body = bytearray(request_body(12, proof, NOTE))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - len(NOTE) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    check_read_as_written(bytes(body))


@example(b"old 0\r\n\r\n")
@example(b"old  0\n\nx")
@example(b"old 0 \n\nx")
@example(b"old +1\n\nx")
@example(b"old 1_0\n\nx")
@example("old \u0663\n\nx".encode())
@example(b"old 9223372036854775808\n\nx")
@example(b"old 0\n" + b"A" * 43 + b"=\n\n")
@example(b"old 0\n" + b"A" * 42 + b"B=\n\n")
@example(b"\n\n")
@given(st.binary(max_size=60).map(lambda rest: b"old " + rest))
def test_any_request(body: bytes) -> None:
    check_read_as_written(body)


def check_read_as_written(body: bytes) -> None:
    try:
        read = parse_request_body(body)
    except RefusalError as refusal:
        assert refusal.status == 400
        return
    assert request_body(*read) == body


# ------------------------------------------------------------------------------------------ policy


@st.composite
def policies(draw: st.DrawFn) -> tuple[list[str], dict[str, tuple[int, list[str]]], str]:
    """The lines of a policy of all witnesses, its groups, and its quorum."""
    lines = [f"log {format_vkey(LOG.vkey)}"]
    free = []
    for number, one in enumerate(WITNESSES):
        lines.append(f"witness W{number} {format_witness_vkey(one.key)}")
        free.append(f"W{number}")
    groups: dict[str, tuple[int, list[str]]] = {}
    for number in range(draw(st.integers(0, 4))):
        members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        words = {"all": len(members), "any": 1}
        least = draw(st.sampled_from([*words, *map(str, range(1, len(members) + 1))]))
        free = [one for one in free if one not in members] + [f"g{number}"]
        groups[f"g{number}"] = words.get(least) or int(least), members
        lines.append(f"group g{number} {least} {' '.join(members)}")
    quorum = draw(st.sampled_from(["none", *(f"W{n}" for n in range(5)), *groups]))
    return [*lines, f"quorum {quorum}"], groups, quorum


def is_met(name: str, groups: dict[str, tuple[int, list[str]]], signed: set[str]) -> bool:
    """The specification's words: at least k of the members."""
    if name in groups:
        least, members = groups[name]
        return len([one for one in members if is_met(one, groups, signed)]) >= least
    return name == "none" or name in signed


@given(policies(), st.sets(st.integers(0, 4)), st.data())
def test_a_policy_means_what_it_says(
    made: tuple[list[str], dict[str, tuple[int, list[str]]], str],
    signed: set[int],
    data: st.DataObject,
) -> None:
    lines, groups, quorum = made
    spaces = st.text(st.sampled_from(" \t"), min_size=1, max_size=3)
    loose = [data.draw(spaces).join(line.split(" ")) for line in lines]
    policy = parse_policy("\n".join(loose))
    assert policy == parse_policy("\n".join([*lines, "", "# and so on"]))
    assert [*policy.witnesses] == [f"W{n}" for n in range(5)] and [*policy.groups] == [*groups]
    keys = {WITNESSES[number].key for number in signed}
    assert policy.is_met(keys) is is_met(quorum, groups, {f"W{number}" for number in signed})
    everybody = {one.key for one in WITNESSES}
    assert policy.is_met(everybody), "nobody can ask for more than all"


def least_signers(policy: Policy) -> int:
    """How few keys are enough."""
    keys = [one.key for one in policy.witnesses.values()]
    sets = [{key for at, key in enumerate(keys) if chosen >> at & 1} for chosen in range(1 << 5)]
    return min(len(one) for one in sets if policy.is_met(one))


@given(st.integers(1, 5), st.data())
def test_a_group_of_k_needs_k_keys(least: int, data: st.DataObject) -> None:
    """However the members are put into further groups: what is accepted counts nobody twice."""
    lines = [f"log {format_vkey(LOG.vkey)}"]
    lines += [f"witness W{n} {format_witness_vkey(one.key)}" for n, one in enumerate(WITNESSES)]
    names = [f"W{n}" for n in range(5)]
    for number in range(data.draw(st.integers(0, 3))):
        members = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
        lines.append(f"group h{number} any {' '.join(members)}")
        names.append(f"h{number}")
    members = data.draw(st.lists(st.sampled_from(names), min_size=least, unique=True))
    lines += [f"group all-of-it {least} {' '.join(members)}", "quorum all-of-it"]
    try:
        policy = parse_policy("\n".join(lines))
    except MalformedError as error:
        assert "counts once" in str(error)
        return
    assert least_signers(policy) == least


@settings(max_examples=300)
@given(st.data())
def test_a_policy_edited(data: st.DataObject) -> None:
    """A byte of a key or a keyword that was changed is refused by its line."""
    lines = [f"log {format_vkey(LOG.vkey)}", f"witness A {format_witness_vkey(W.key)}", "quorum A"]
    number = data.draw(st.integers(0, 2))
    line = lines[number]
    at = data.draw(st.integers(0, len(line) - 1))
    char = data.draw(
        st.characters(codec="utf-8", exclude_characters=" \t\n#").filter(line[at].__ne__)
    )
    changed = line[:at] + char + line[at + 1 :]
    with pytest.raises(MalformedError, match=r"line \d"):
        parse_policy("\n".join([*lines[:number], changed, *lines[number + 1 :]]))

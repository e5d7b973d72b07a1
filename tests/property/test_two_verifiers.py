"""The product and verify.py never disagree, whatever is done to a bundle (scoreboard: S17)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.bundle import check_bundle
from ledger.canonical import format_json
from ledger.note import format_vkey
from tests.support.claims import SIGNER, members_of, pack, resealed, state_bundle, story, verifier

VKEY = format_vkey(SIGNER.vkey)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with story() as told:
        return members_of(state_bundle(told, tmp_path_factory.mktemp("two") / "s.zip").read_bytes())


def agree(data: bytes) -> str:
    ours, theirs = check_bundle(data, vkey=SIGNER.vkey), verifier().check(data, VKEY)
    assert ours.result.value == theirs.result, (ours.as_json(), theirs.as_json())
    mine = {(finding.step, finding.index) for finding in ours.findings}
    assert mine == {(found["step"], found["index"]) for found in theirs.findings}
    return theirs.result


@given(data=st.data())
def test_they_agree_on_edited_members(members: dict[str, bytes], data: st.DataObject) -> None:
    """Bytes of a member cut, doubled, changed; sealed again by an insider or not at all."""
    name = data.draw(st.sampled_from(sorted(set(members) - {"manifest.json", "manifest.note"})))
    content = members[name]
    at = data.draw(st.integers(0, len(content)))
    insert = data.draw(st.binary(max_size=4))
    drop = data.draw(st.integers(0, 4))
    changed = {**members, name: content[:at] + insert + content[at + drop :]}
    sealed = resealed(changed) if data.draw(st.booleans()) else pack(changed)
    if changed[name] == content:
        assert agree(sealed) == "VALID"
    elif name not in ("README.txt", "verify.py", "report.json"):
        assert agree(sealed) != "VALID"
    else:
        agree(sealed)


@given(data=st.data())
def test_they_agree_on_members_left_out_or_exchanged(
    members: dict[str, bytes], data: st.DataObject
) -> None:
    names = sorted(set(members) - {"manifest.json", "manifest.note"})
    one, other = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    changed = {**members, one: members[other], other: members[one]}
    for gone in data.draw(st.sets(st.sampled_from(names), max_size=2)):
        del changed[gone]
    agree(resealed(changed))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(data=st.data())
def test_they_agree_on_edited_manifests_and_answers(
    members: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["manifest.json", "report.json"]))
    value = json.loads(members[name])
    key = data.draw(st.sampled_from(sorted(value)))
    value[key] = data.draw(VALUES)
    ending = b"\n" if name == "manifest.json" else b""
    changed = {**members, name: format_json(value) + ending}
    agree(pack(changed) if name == "manifest.json" and key == "files" else resealed(changed))

"""To build a bundle and to read it: what goes in, what is said about the rest, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.audit import verify
from ledger.bundle import build as building
from ledger.bundle import check_bundle, read_bundle
from ledger.bundle.container import TooLargeError, read_container, write_container
from ledger.bundle.manifest import parse_manifest
from ledger.bundle.question import erased_indexes, parse_question
from ledger.canonical import canonical_digest, format_json
from ledger.chain import ChainHead, Prepared, link
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.commitment import commit
from ledger.draft import Draft
from ledger.entry import EntryFormatter
from ledger.errors import MalformedError, NotFoundError, RefusedError, TamperError
from ledger.merkle import Frontier
from ledger.note import Signer, format_vkey, open_note, sign_note
from ledger.reader import Reader
from ledger.store import Head, Row
from ledger.stores.memory import MemoryStore
from ledger.tiles import format_bundle
from ledger.verdict import MAX_FINDINGS, Finding, Report, Verdict
from tests.support.claims import (
    GENERATOR,
    MINUTE,
    ORIGIN,
    SIGNER,
    START,
    STRANGER,
    Told,
    answer,
    bound,
    entries_bundle,
    members_of,
    pack,
    resealed,
    state_bundle,
    story,
    verifier,
)

SIGNER_X = Signer.from_seed("ledger.example.com/x", b"x" * 32)


@pytest.fixture
def told() -> Iterator[Told]:
    with story() as told:
        yield told


def both(data: bytes, *, pinned: bool = True) -> tuple[Report, Any]:
    """The report of the product and that of the stand-alone verifier, which must agree."""
    ours = check_bundle(data, vkey=SIGNER.vkey if pinned else None)
    vkey = format_vkey(SIGNER.vkey)
    theirs = verifier().check(data, vkey if pinned else None)
    assert ours.result.value == theirs.result, (ours, theirs.as_json())
    mine = {(finding.step, finding.index) for finding in ours.findings}
    assert mine == {(f["step"], f["index"]) for f in theirs.findings}
    assert len(ours.lacking) == len(theirs.incomplete)
    return ours, theirs


# --- to build -------------------------------------------------------------------------------------


def test_a_bundle_of_entries_is_valid(told: Told, tmp_path: Path) -> None:
    path = entries_bundle(told, tmp_path / "b.zip", [1, 2, 11])
    report, _ = both(path.read_bytes())
    assert (report.result, report.entries) == (Verdict.VALID, 3)
    assert report.checked["payloads"] == 3 and report.checked["links"] == 1
    assert read_bundle(path, vkey=SIGNER.vkey).result is Verdict.VALID
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_same_question_gives_the_same_bytes(told: Told, tmp_path: Path) -> None:
    first = state_bundle(told, tmp_path / "a.zip").read_bytes()
    claim = answer(told)
    told.record("note.added/1", "note/x", {"text": "later"})
    assert state_bundle(told, tmp_path / "b.zip", answer=claim).read_bytes() == first
    assert state_bundle(told, tmp_path / "c.zip", made_at=START + 1).read_bytes() != first


def test_an_earlier_basis_is_signed_for_itself(told: Told, tmp_path: Path) -> None:
    path = entries_bundle(told, tmp_path / "b.zip", [1], tree_size=5)
    report, _ = both(path.read_bytes())
    assert report.result is Verdict.VALID and report.checked["checkpoint"] == 5
    manifest = parse_manifest(members_of(path.read_bytes())["manifest.json"])
    assert manifest.basis.tree_size == 5 and manifest.consistency == ()


def test_without_the_private_key_the_basis_is_led_to_the_newest_checkpoint(
    told: Told, tmp_path: Path
) -> None:
    path = entries_bundle(told, tmp_path / "b.zip", [1], tree_size=5, signer=None)
    report, _ = both(path.read_bytes())
    assert report.result is Verdict.INCOMPLETE and report.checked["checkpoint"] == 12
    assert report.lacking == ["who made this bundle: its manifest is not signed"]
    assert parse_manifest(members_of(path.read_bytes())["manifest.json"]).consistency


def test_a_rewritten_past_is_not_signed(told: Told, tmp_path: Path) -> None:
    store = told.store
    assert isinstance(store, MemoryStore)
    told.reader.nodes(12)
    store._leaves[32:64] = bytes(32)
    told.reader._nodes = None
    with pytest.raises(TamperError):
        entries_bundle(told, tmp_path / "b.zip", [1], tree_size=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"tree_size": 0}, {"tree_size": 13}, {"tree_size": 3}])
def test_what_is_beyond_the_ledger_or_the_basis_is_not_found(
    told: Told, tmp_path: Path, options: dict[str, int]
) -> None:
    with pytest.raises(NotFoundError):
        entries_bundle(told, tmp_path / "b.zip", [7], **options)


def test_too_many_entries_are_refused(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "MAX_ENTRIES", 3)
    with pytest.raises(RefusedError, match="4 entries are more than one bundle holds"):
        entries_bundle(told, tmp_path / "b.zip", [1, 2, 3])


def test_a_failure_leaves_nothing_behind(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Iterator[tuple[str, bytes]]:
        yield "checkpoint", b"..."
        raise OSError("disk")

    monkeypatch.setattr(building, "_content", fails)
    with pytest.raises(OSError, match="disk"):
        entries_bundle(told, tmp_path / "b.zip", [1])
    assert list(tmp_path.iterdir()) == []


def test_withheld_payloads_are_stated(told: Told, tmp_path: Path) -> None:
    path = entries_bundle(told, tmp_path / "b.zip", [1, 2], withhold=[2])
    report, _ = both(path.read_bytes())
    assert report.result is Verdict.VALID
    assert "the 2 payloads that were withheld" in report.not_checked  # the last entry's is, too
    names = members_of(path.read_bytes())
    assert "payloads/1.bin" in names and "payloads/2.bin" not in names


# --- erased payloads ------------------------------------------------------------------------------


def erase(told: Told, index: int) -> None:
    """What lawful erasure leaves of a row."""
    store = told.store
    assert isinstance(store, MemoryStore)
    store._rows[index] = store._rows[index]._replace(salt=None, payload=None)


def test_an_erased_payload_comes_with_its_evidence(told: Told, tmp_path: Path) -> None:
    evidence = told.record("payload.redacted/1", "privacy/1", {"indexes": [2], "ground": "art-17"})
    erase(told, 2)
    path = entries_bundle(told, tmp_path / "b.zip", [2])
    report, _ = both(path.read_bytes())
    assert report.result is Verdict.VALID
    manifest = parse_manifest(members_of(path.read_bytes())["manifest.json"])
    assert manifest.erased == {2: evidence} and manifest.withheld == ()


def test_a_payload_that_is_gone_without_evidence_is_evidence(told: Told, tmp_path: Path) -> None:
    told.record("payload.redacted/1", "privacy/1", {"indexes": [3], "ground": "art-17"})
    told.record("note.added/1", "privacy/2", {"indexes": [2]})
    erase(told, 2)
    with pytest.raises(TamperError, match="entry 2: payload missing without erasure evidence"):
        entries_bundle(told, tmp_path / "b.zip", [2])


@pytest.mark.parametrize(
    ("payload", "indexes"),
    [
        (b'{"indexes":[1,2]}', (1, 2)),
        (b'{"indexes":[1,true,"2",null]}', (1,)),
        (b'{"indexes":1}', ()),
        (b"[1]", ()),
        (b"{", ()),
    ],
)
def test_which_entries_an_erasure_lists(payload: bytes, indexes: tuple[int, ...]) -> None:
    assert tuple(erased_indexes(payload)) == tuple(verifier().erased_indexes(payload)) == indexes


# --- a state --------------------------------------------------------------------------------------


def test_a_state_is_recomputed(told: Told, tmp_path: Path) -> None:
    report, _ = both(state_bundle(told, tmp_path / "b.zip").read_bytes())
    assert report.result is Verdict.VALID and report.checked["state_digest"] == 1
    assert report.checked["all_entries"] == 12


def test_without_all_entries_the_claim_is_incomplete(told: Told, tmp_path: Path) -> None:
    report, _ = both(state_bundle(told, tmp_path / "b.zip", complete=False).read_bytes())
    assert report.result is Verdict.INCOMPLETE and not report.findings
    assert "that no later entry touched pipeline/shop@live" in report.lacking[0]
    assert len(report.lacking) == 2  # nor that nothing recorded dataset/d@1 first


def test_above_the_limit_not_all_entries_are_carried(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "COMPLETE_LIMIT", 11)
    report, _ = both(state_bundle(told, tmp_path / "b.zip").read_bytes())
    assert report.result is Verdict.INCOMPLETE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_digest": "sha256:0"}, "the state digest is not the recomputed one"),
        ({"traffic": {}}, "the traffic is not the recomputed one"),
        ({"bindings": {"model": {"asset_version": "model/m@1"}}}, "the binding of model"),
        ({"bindings": {"model": 7}}, "the binding of data"),
        ({"bindings": []}, "the binding of data"),
    ],
)
def test_an_answer_that_does_not_follow_is_invalid(
    told: Told, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "b.zip"
    members = members_of(state_bundle(told, path).read_bytes())
    members["report.json"] = format_json(answer(told) | change)
    report, _ = both(resealed(members))
    assert report.result is Verdict.INVALID
    assert any(message in finding.message for finding in report.findings)
    assert {finding.step for finding in report.findings} == {"12 answer"}


@pytest.mark.parametrize(
    "change",
    [
        {"pipeline": "other"},
        {"stage": None},
        {"at": "2026-11-21T05:00:00.000000Z"},
        {"known_at": "index:3"},
        {"basis": {}},
    ],
)
def test_an_answer_to_another_question_is_invalid(
    told: Told, tmp_path: Path, change: dict[str, Any]
) -> None:
    members = members_of(state_bundle(told, tmp_path / "b.zip").read_bytes())
    members["report.json"] = format_json(answer(told) | change)
    report, _ = both(resealed(members))
    assert [finding.step for finding in report.findings] == ["12 answer"]


@pytest.mark.parametrize("data", [b"[]", b"{", b"{}", None])
def test_a_report_that_is_no_answer_is_invalid(
    told: Told, tmp_path: Path, data: bytes | None
) -> None:
    members = members_of(state_bundle(told, tmp_path / "b.zip").read_bytes())
    members["report.json"] = data or b""
    if data is None:
        del members["report.json"]
    report, _ = both(resealed(members))
    assert [finding.step for finding in report.findings] == ["12 answer"]


@pytest.mark.parametrize(
    "change", [{"at": 7}, {"at": "now"}, {"known_at": 7}, {"known_at": "index:x"}, {"stage": 1}]
)
def test_a_question_has_its_form(told: Told, tmp_path: Path, change: dict[str, Any]) -> None:
    members = members_of(state_bundle(told, tmp_path / "b.zip").read_bytes())
    manifest = json.loads(members["manifest.json"])
    manifest["parameters"] |= change
    members["manifest.json"] = format_json(manifest)
    members["report.json"] = format_json(answer(told) | change)
    report, _ = both(resealed(members))
    assert [finding.step for finding in report.findings] == ["12 answer"]
    with pytest.raises(MalformedError):
        parse_question(answer(told) | change)


def known(
    told: Told, known_at: str, bindings: dict[str, Any], traffic: dict[str, Any]
) -> dict[str, Any]:
    content = {"bindings": bindings, "pipeline": "shop", "stage": "live", "traffic": traffic}
    return answer(told, known_at=known_at) | content | {"state_digest": canonical_digest(content)}


def test_what_was_known_earlier_is_recomputed_too(told: Told, tmp_path: Path) -> None:
    model = {"model": {"asset_version": "model/m@1", "digest": f"sha256:{'1' * 64}"}}
    for known_at, traffic in (
        ("index:4", {}),
        ("2026-11-21T05:05:00.000000Z", {"model/m@1": 62.5}),
    ):
        claim = known(told, known_at, model, traffic)
        report, _ = both(state_bundle(told, tmp_path / "b.zip", answer=claim).read_bytes())
        assert report.result is Verdict.VALID, report


def test_the_future_is_not_in_effect(told: Told, tmp_path: Path) -> None:
    told.record(
        "binding.changed/1",
        "pipeline/shop@live",
        {"pipeline": "shop", "stage": "live", "slot": "data", "asset_version": "dataset/d@2"}
        | {"effective_at": "2099-01-01T00:00:00Z"},
    )
    told.record(
        "binding.changed/1",
        "pipeline/shop@live",
        {"pipeline": "shop", "stage": "x", "slot": "data", "asset_version": "dataset/d@2"}
        | {"effective_at": "not a time"},
    )
    report, _ = both(state_bundle(told, tmp_path / "b.zip").read_bytes())
    assert report.result is Verdict.VALID, report


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("binding.changed/1", {"slot": 7}),
        ("binding.changed/1", {"slot": "x"}),
        ("traffic.changed/1", {"shares": 7}),
        ("traffic.changed/2", {}),
        ("binding.changed/1", None),
    ],
)
def test_a_change_that_cannot_be_understood_makes_the_state_incomplete(
    told: Told, tmp_path: Path, type_: str, data: dict[str, Any] | None
) -> None:
    place = {"pipeline": "shop", "stage": "live"}
    told.record(type_, "pipeline/shop@live", [] if data is None else place | data)  # type: ignore[arg-type]
    report, _ = both(state_bundle(told, tmp_path / "b.zip").read_bytes())
    assert report.result is Verdict.INCOMPLETE and not report.findings
    assert report.lacking[0].startswith("the state: ")


def test_a_change_whose_payload_is_no_json_or_withheld_makes_it_incomplete(
    told: Told, tmp_path: Path
) -> None:
    broken = Draft(
        type="binding.removed/1", stream="pipeline/shop@live", actor="user:x", payload=b"{"
    )
    with_broken = told.writer.append([broken]).first_index
    report, _ = both(state_bundle(told, tmp_path / "b.zip").read_bytes())
    assert report.lacking == [f"the state: the payload of entry {with_broken} cannot be read"]
    report, _ = both(
        entries_bundle(
            told,
            tmp_path / "c.zip",
            [3, 5, 6, 7, 8, 9, 10, with_broken],
            question="state",
            parameters={n: answer(told)[n] for n in ("pipeline", "stage", "at", "known_at")},
            members={"report.json": format_json(answer(told))},
            withhold=[3],
            complete=True,
        ).read_bytes()
    )
    assert report.lacking == ["the state: the payload of entry 3 is not here, or newer"]


def test_the_first_record_of_a_version_counts_and_must_be_shown(told: Told, tmp_path: Path) -> None:
    told.record("asset.version.recorded/1", "asset/dataset/d", {"text": "no version"})
    told.record("asset.version.recorded/1", "asset/dataset/d", [])  # type: ignore[arg-type]
    draft = Draft(
        type="asset.version.recorded/1", stream="asset/dataset/d", actor="user:x", payload=b"{"
    )
    told.writer.append([draft])
    report, _ = both(state_bundle(told, tmp_path / "b.zip").read_bytes())
    assert report.result is Verdict.VALID  # all three are inside, and none of them records it
    members = members_of(state_bundle(told, tmp_path / "b.zip").read_bytes())
    kept = {n: d for n, d in members.items() if "/1." not in n}
    report, _ = both(resealed(kept))
    assert report.result is Verdict.INCOMPLETE
    assert report.lacking == ["that no other entry was the first to record model/m@2"]


def test_an_asset_version_that_is_none_is_carried_as_it_is(told: Told, tmp_path: Path) -> None:
    told.record(
        "binding.changed/1",
        "pipeline/shop@live",
        {"pipeline": "shop", "stage": "live", "slot": "odd", "asset_version": "no reference"},
    )
    claim = answer(told)
    claim["bindings"]["odd"] = {"asset_version": "no reference", "digest": None}
    content = {n: claim[n] for n in ("bindings", "pipeline", "stage", "traffic")}
    claim["state_digest"] = canonical_digest(content)
    report, _ = both(state_bundle(told, tmp_path / "b.zip", answer=claim).read_bytes())
    assert report.result is Verdict.VALID, report


def test_assets_recorded_after_the_basis_stay_out(told: Told, tmp_path: Path) -> None:
    claim = answer(told)
    told.record("asset.version.recorded/1", "asset/dataset/d", {"kind": "dataset"})
    report, _ = both(state_bundle(told, tmp_path / "b.zip", answer=claim).read_bytes())
    assert report.result is Verdict.VALID


def test_an_entry_of_the_pipeline_that_is_left_out_is_missed(told: Told, tmp_path: Path) -> None:
    members = members_of(state_bundle(told, tmp_path / "b.zip").read_bytes())
    without = {name: data for name, data in members.items() if "/7." not in name}
    report, _ = both(resealed(without))
    assert ("12 answer", 7) in {(f.step, f.index) for f in report.findings}
    members = members_of(state_bundle(told, tmp_path / "b.zip", complete=False).read_bytes())
    without = {name: data for name, data in members.items() if "/7." not in name}
    report, _ = both(resealed(without))
    assert any(f.expected == "stream version 4" for f in report.findings)


# --- what a report says ---------------------------------------------------------------------------


def test_other_answers_are_not_recomputed_and_that_is_said(told: Told, tmp_path: Path) -> None:
    members = {"report.json": b"{}", "report.csv": b"a,b\n", "schema.json": b"{}"}
    report, _ = both(entries_bundle(told, tmp_path / "b.zip", [1], members=members).read_bytes())
    assert report.result is Verdict.VALID
    assert "what report.json says: only a state is recomputed" in report.not_checked


def test_policies_and_timestamps_are_not_evaluated_and_that_is_incomplete(
    told: Told, tmp_path: Path
) -> None:
    members = {"policy": b"log x", "timestamps/a.tsr": b"..."}
    report, _ = both(entries_bundle(told, tmp_path / "b.zip", [1], members=members).read_bytes())
    assert report.result is Verdict.INCOMPLETE and len(report.lacking) == 2


def test_an_unpinned_key_is_said_to_be_unpinned(told: Told, tmp_path: Path) -> None:
    report, _ = both(entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes(), pinned=False)
    assert report.result is Verdict.VALID and report.notes[0].startswith("KEY NOT PINNED: ")
    assert any("that the key is the ledger's" in text for text in report.not_checked)


def test_cosignatures_are_counted_and_not_checked(told: Told, tmp_path: Path) -> None:
    witness = Signer.from_seed("witness.example.com", b"w" * 32)
    members = members_of(entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes())
    text = open_note(members["checkpoint"], [SIGNER.vkey]).text
    cosigned = sign_note(text, [SIGNER, witness])
    for name, data in members.items():
        members[name] = data.replace(members["checkpoint"], cosigned) if "proof" in name else data
    members["checkpoint"] = cosigned
    report, _ = both(resealed(members))
    assert report.result is Verdict.VALID
    assert "1 cosignatures on the checkpoint" in report.not_checked


def test_a_report_reads_well_and_keeps_its_size() -> None:
    report = Report()
    for index in range(MAX_FINDINGS + 3):
        report.find("4 chain", "broken", index=index, place="x", expected="a", found="b")
    assert (len(report.findings), report.more_findings) == (MAX_FINDINGS, 3)
    assert report.as_json()["findings"][0] == {
        "step": "4 chain", "index": 0, "place": "x", "message": "broken",
        "expected": "a", "found": "b",
    }  # fmt: skip
    assert str(report.findings[0]) == "step 4 chain: entry 0, x: broken (expected a, found b)"
    assert str(Finding(step="1 x", message="m")) == "step 1 x: m"
    assert str(Finding(step="1 x", message="m", index=3)) == "step 1 x: entry 3: m"
    assert [verdict.exit_code for verdict in Verdict] == [0, 1, 7, 8]
    assert Report(error="no file").result is Verdict.ERROR


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "empty"):
        report = read_bundle(path)
        assert report.result is Verdict.ERROR and report.error


# --- the container and the manifest ---------------------------------------------------------------


def test_only_names_and_sizes_of_the_format_are_written(tmp_path: Path) -> None:
    for name, data in (("other", b""), ("payloads/1.salt", b"x" * 17)):
        with (tmp_path / "c").open("wb") as file, pytest.raises((TamperError, TooLargeError)):
            write_container(file, [(name, data)])


def test_a_container_has_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.bundle.container.MAX_BYTES", 100)
    with (tmp_path / "c").open("wb") as file, pytest.raises(TooLargeError):
        write_container(file, [("checkpoint", b"x" * 60)])
    with pytest.raises(TooLargeError):
        read_container(bytes(101))


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"v": True}, {"files": {}}, {"files": [7]}, {"question": 7}, {"basis": []},
        {"made_at": "now"}, {"consistency": ["AA=="]}, {"consistency": 7}, {"parameters": []},
        {"payloads": {"erased": [], "withheld": [-1]}},
        {"payloads": {"erased": [7], "withheld": []}},
        {"payloads": {"erased": [], "withheld": [True]}}, {"payloads": {"withheld": []}},
        {"payloads": {"erased": [], "withheld": [3, 2]}}, {"extra": 1},
        {"basis": {"recorded_at": "2026-11-21T05:00:00.000000Z", "root": "x", "tree_size": 1}},
        {"basis": {"recorded_at": "2026-11-21T05:00:00.000000Z", "root": "A" * 64, "tree_size": 1}},
        {"files": [{"path": "a", "sha256": "0" * 64, "size": 1}] * 2},
        {"files": [{"path": "a", "sha256": "0" * 64, "size": -1}]},
        {"payloads": {"erased": [{"index": 1, "evidence": 2}] * 2, "withheld": []}},
    ],
)  # fmt: skip
def test_a_manifest_has_one_form(told: Told, tmp_path: Path, change: dict[str, Any]) -> None:
    members = members_of(entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes())
    manifest = json.loads(members["manifest.json"]) | change
    members["manifest.json"] = format_json(manifest) + b"\n"
    report, _ = both(pack(members))
    assert {finding.step for finding in report.findings} == {"2 manifest"}
    assert report.not_checked[0].startswith("because of that: steps 3 keys, 4 signature")


def test_a_manifest_has_one_spelling(told: Told, tmp_path: Path) -> None:
    members = members_of(entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes())
    members["manifest.json"] = members["manifest.json"].rstrip()
    report, _ = both(pack(members))
    assert report.result is Verdict.INVALID


# --- steps 3 to 11, each broken by somebody who can seal the rest ---------------------------------


def test_each_step_finds_what_is_its_own(told: Told, tmp_path: Path) -> None:
    sound = members_of(state_bundle(told, tmp_path / "b.zip").read_bytes())
    assert both(resealed(sound))[0].result is Verdict.VALID  # the harness itself is sound
    other = sign_checkpoint(Checkpoint("ledger.example.com/x", 12, bytes(32)), SIGNER_X)
    cases: list[tuple[str, dict[str, bytes | None]]] = [
        ("3 keys", {"keys/ledger.vkey": b"\xff\n"}),
        ("3 keys", {"keys/ledger.vkey": b"no newline"}),
        ("3 keys", {"keys/ledger.vkey": b"no key\n"}),
        ("5 checkpoint", {"checkpoint": other}),
        ("5 checkpoint", {"checkpoint": b"\xff\n\n"}),
        ("7 entries", {"entries/7.json": sound["entries/8.json"]}),
        ("7 entries", {"entries/7.json": b"{}"}),
        ("7 entries", {"entries/11.json": None, "proofs/11.tlog-proof": None}),
        ("8 proofs", {"proofs/7.tlog-proof": sound["proofs/8.tlog-proof"]}),
        ("8 proofs", {"proofs/7.tlog-proof": None}),
        ("8 proofs", {"entries/7.json": sound["entries/7.json"].replace(b"user:ada", b"user:eve")}),
        ("9 links", {"entries/7.json": sound["entries/7.json"].replace(b"user:ada", b"user:eve")}),
        ("9 links", {"entries/7.json": sound["entries/7.json"].replace(b'n":4', b'n":1')}),
        ("9 links", {"entries/7.json": sound["entries/7.json"].replace(b"T05:07", b"T04:07")}),
        ("10 payloads", {"payloads/7.bin": b"{}"}),
        ("10 payloads", {"payloads/7.salt": b"short"}),
        ("10 payloads", {"payloads/7.salt": None}),
        ("10 payloads", {"payloads/0.bin": b"{}", "payloads/0.salt": bytes(16)}),
        ("11 completeness", {"tile/entries/000.p/12": sound["tile/entries/000.p/12"][:-2]}),
        ("11 completeness", {"tile/entries/000.p/12": sound["tile/entries/000.p/12"][:-1] + b"]"}),
        ("11 completeness", {"tile/entries/000.p/12": None, "tile/entries/000.p/11": b"x"}),
    ]  # fmt: skip
    for step, change in cases:
        members = {n: d for n, d in {**sound, **change}.items() if d is not None}
        report, _ = both(resealed(members))
        assert report.result is Verdict.INVALID
        assert step in {finding.step for finding in report.findings}, (step, list(change))


def test_a_tile_of_entries_that_are_all_sound_but_cut_is_not_the_tree(
    told: Told, tmp_path: Path
) -> None:
    sound = members_of(state_bundle(told, tmp_path / "b.zip").read_bytes())
    entries = [told.reader.entry_bytes(index) for index in range(12)]
    cases = {
        "short": entries[:11],
        "swapped": [*entries[:5], entries[6], entries[5], *entries[7:]],
        "another end": [*entries[:11], entries[11].replace(b"user:ada", b"user:eve")],
        "unlinked": [*entries[:4], entries[4].replace(b"user:ada", b"user:eve"), *entries[5:]],
        "no beginning": [entries[0].replace(b"e3b0", b"e3b1"), *entries[1:]],
    }
    for data in cases.values():
        report, _ = both(resealed({**sound, "tile/entries/000.p/12": format_bundle(data)}))
        assert "11 completeness" in {finding.step for finding in report.findings}


def test_evidence_must_be_an_erasure_that_lists_the_entry(told: Told, tmp_path: Path) -> None:
    told.record("payload.redacted/1", "privacy/1", {"indexes": [3]})
    members = members_of(entries_bundle(told, tmp_path / "b.zip", [2, 3, 5, 12]).read_bytes())
    for name in ("payloads/2.bin", "payloads/2.salt"):
        del members[name]
    for evidence in (12, 5, 4, 2):
        manifest = json.loads(members["manifest.json"])
        manifest["payloads"]["erased"] = [{"index": 2, "evidence": evidence}]
        members["manifest.json"] = format_json(manifest)
        report, _ = both(resealed(members))
        assert [(f.step, f.index) for f in report.findings] == [("10 payloads", 2)]
        assert "without erasure evidence" in report.findings[0].message


def test_a_basis_that_is_no_part_of_the_tree_is_invalid(told: Told, tmp_path: Path) -> None:
    members = members_of(entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes())
    manifest = json.loads(members["manifest.json"])
    for change in ({"tree_size": 5}, {"root": "00" * 32}, {"tree_size": 0}, {"tree_size": 99}):
        changed = manifest | {"basis": manifest["basis"] | change}
        report, _ = both(resealed({**members, "manifest.json": format_json(changed)}))
        assert [finding.step for finding in report.findings] == ["6 basis"]
    moved = manifest["basis"] | {"recorded_at": "2026-11-21T05:00:00.000000Z"}
    changed = manifest | {"basis": moved}
    report, _ = both(resealed({**members, "manifest.json": format_json(changed)}))
    assert [finding.step for finding in report.findings] == ["7 entries"]


def test_the_manifest_is_signed_by_the_key_and_for_itself(told: Told, tmp_path: Path) -> None:
    members = members_of(entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes())
    report, _ = both(resealed(members, signer=STRANGER))
    assert [finding.step for finding in report.findings] == ["4 signature"]
    stale = members["manifest.note"]
    manifest = json.loads(members["manifest.json"]) | {"question": "other"}
    fresh = members_of(resealed({**members, "manifest.json": format_json(manifest)}))
    report, _ = both(pack({**fresh, "manifest.note": stale}))
    assert [finding.step for finding in report.findings] == ["4 signature"]
    report, _ = both(resealed(members, signer=None))
    assert report.result is Verdict.INCOMPLETE


def test_a_bundle_of_another_ledger_than_the_pinned_key_is_invalid(
    told: Told, tmp_path: Path
) -> None:
    data = entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes()
    report = check_bundle(data, vkey=SIGNER_X.vkey)
    assert [finding.step for finding in report.findings] == ["3 keys"]
    report = check_bundle(data, vkey=STRANGER.vkey)
    assert "the key inside is not the key you gave; yours was used" in report.notes
    assert [finding.step for finding in report.findings] == ["4 signature"]


def test_two_keys_inside_are_no_key(told: Told, tmp_path: Path) -> None:
    members = members_of(entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes())
    members["keys/other.vkey"] = format_vkey(STRANGER.vkey).encode() + b"\n"
    report, _ = both(resealed(members), pinned=False)
    assert [finding.step for finding in report.findings] == ["3 keys"]
    assert both(resealed(members))[0].result is Verdict.VALID


def test_the_story_is_what_it_says(told: Told) -> None:
    rows = list(told.reader.rows(0, 12))
    assert isinstance(rows[0], Row) and rows[1].recorded_at - rows[0].recorded_at == MINUTE
    assert (told.reader.origin, GENERATOR) == (ORIGIN, "asof test")


def test_an_operator_who_skips_a_stream_version_is_found(tmp_path: Path) -> None:
    """Every hash and signature is right, as the operator made them; only the numbering is not."""
    events = [
        Prepared("user:ada", "note/a", "note.added/1", v, commit(b"s" * 16, b"{}")) for v in (1, 3)
    ]
    linked = link(ChainHead(), events, formatter=EntryFormatter(ORIGIN), now=START)
    frontier = Frontier.empty().extended(linked.leaf_hashes)
    head = Head(
        origin=ORIGIN,
        size=2,
        root=frontier.root(),
        last_leaf=linked.leaf_hashes[-1],
        recorded_at=START,
        edge=frontier.edge,
        checkpoint=sign_checkpoint(Checkpoint(ORIGIN, 2, frontier.root()), SIGNER),
    )
    rows = [
        Row(i, START, *event[:4], event.commitment, b"s" * 16, b"{}", linked.leaf_hashes[i])
        for i, event in enumerate(events)
    ]
    store = MemoryStore()
    store._head, store._rows, store._streams = head, rows, {"note/a": [0, 1]}
    store._leaves = bytearray(b"".join(linked.leaf_hashes))
    told = Told(store, None, Reader(store, SIGNER.vkey))  # type: ignore[arg-type]
    report, _ = both(entries_bundle(told, tmp_path / "b.zip", [0], complete=True).read_bytes())
    assert [(f.step, f.index) for f in report.findings] == [("11 completeness", 1)]
    assert [f.step for f in verify(store, vkey=SIGNER.vkey).findings] == ["5 streams"]


def test_a_tree_of_many_tiles_is_carried_whole(tmp_path: Path) -> None:
    with story() as told:
        drafts = [Draft(type="note.added/1", stream="note/x", actor="user:a", payload=b"{}")] * 500
        told.writer.append(drafts)
        data = entries_bundle(told, tmp_path / "b.zip", [7], complete=True).read_bytes()
        assert {"tile/entries/000", "tile/entries/001.p/256"[:16]} <= set(members_of(data))
        report, _ = both(data)
        assert report.result is Verdict.VALID and report.checked["all_entries"] == 512
    assert verifier().tile_number(1_234_067) == "x001/x234/067"


def test_what_does_not_bear_on_a_state_is_passed_over(told: Told, tmp_path: Path) -> None:
    told.record("pipeline.defined/1", "pipeline/shop@live", {"pipeline": "shop", "slots": []})
    told.record("binding.changed/1", "note/x", bound("model", "model/m@9"))
    report, _ = both(state_bundle(told, tmp_path / "b.zip").read_bytes())
    assert report.result is Verdict.VALID, report


def test_keys_of_others_inside_are_not_used(told: Told, tmp_path: Path) -> None:
    members = members_of(entries_bundle(told, tmp_path / "b.zip", [1]).read_bytes())
    members["keys/witness.vkey"] = format_vkey(SIGNER_X.vkey).encode() + b"\n"
    report, theirs = both(resealed(members), pinned=False)
    assert report.result is Verdict.VALID and "1 keys of other names were not used" in theirs.notes

"""State, history, difference, lineage, impact and log of one small story."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.canonical import canonical_digest
from ledger.errors import MalformedError, NotFoundError
from projections.diff import diff
from projections.history import history
from projections.impact import impact
from projections.lineage import CAP, lineage
from projections.log import Filter, log
from projections.replay import replayed
from projections.state import State, state, state_digest_now
from tests.support.histories import SECOND, START, draft
from tests.support.story import (
    NOW,
    Story,
    changed,
    finished,
    recorded,
    removed,
    second,
    started,
    story,
    traffic,
)

ASKED = ("demand", "live")


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


def ask(told: Story, **texts: str) -> State:
    moments = {name: told.at(text) for name, text in texts.items()}
    found = state(told.reader, told.index, *ASKED, **moments, now=NOW)
    assert found.as_json() == replayed(told.reader, *ASKED, **moments, now=NOW).as_json()
    return found


def refs(found: State) -> dict[str, str]:
    return {slot: bound.asset_version for slot, bound in found.bindings.items()}


# --- state --------------------------------------------------------------------------------------


def test_a_late_arrival_in_all_four_cases(told: Story) -> None:
    old, new = {"data": "dataset/d@1"}, {"data": "dataset/d@2"}
    assert refs(ask(told)).items() >= new.items()
    assert refs(ask(told, at=second(30))).items() >= new.items()
    assert refs(ask(told, known_at=second(30))).items() >= old.items()
    assert refs(ask(told, at=second(30), known_at=second(59))).items() >= old.items()
    assert refs(ask(told, at=second(30), known_at=second(60))).items() >= new.items()
    assert refs(ask(told, at=second(24))).items() >= old.items()
    assert refs(ask(told, at="index:8")).items() >= old.items()
    assert refs(ask(told, at="index:9")).items() >= new.items()


def test_a_state_as_json_says_everything(told: Story) -> None:
    found = ask(told).as_json()
    assert list(found) == [
        "pipeline", "stage", "mode", "at", "known_at", "bindings", "traffic", "shadow", "runs",
        "open", "missing", "before", "after", "warnings", "basis", "state_digest",
    ]  # fmt: skip
    assert found["bindings"]["model"] == {
        "asset_version": "model/m@2", "kind": "model", "name": "m", "version": "2",
        "digest": None, "location": None, "source": None, "restorable": None,
        "since": {"index": 7, "recorded_at": second(30), "effective_at": second(30)},
        "by": "service:ci", "reason": "better", "approval": None,
    }  # fmt: skip
    assert found["missing"] == ["env"]
    assert found["traffic"] == {"model/m@2": 100}
    assert found["runs"] == []
    assert [item["incident"] for item in found["open"]["incidents"]] == ["7"]
    assert found["before"] == {
        "index": 8, "effective_at": second(30), "type": "traffic.changed/1",
    }  # fmt: skip
    assert found["after"] is None
    assert found["basis"]["tree_size"] == 12


def test_the_brackets_and_the_runs_in_the_past(told: Story) -> None:
    found = ask(told, at=second(22))
    assert found.before and (found.before.index, found.before.effective_at) == (
        5,
        START + 10 * SECOND,
    )
    assert found.after and (found.after.index, found.after.effective_at) == (9, START + 25 * SECOND)
    assert [run.id for run in found.runs] == ["t2"]
    assert ask(told, at=second(60)).runs == ()
    assert [run.id for run in ask(told, known_at=second(59)).runs] == ["t2"]


def test_the_digest_covers_content_only(told: Story) -> None:
    found = ask(told)
    assert found.state_digest == canonical_digest(
        {
            "bindings": {
                "data": {"asset_version": "dataset/d@2", "digest": None},
                "model": {"asset_version": "model/m@2", "digest": None},
            },
            "pipeline": "demand",
            "stage": "live",
            "traffic": {"model/m@2": 100},
        }
    )
    told.write(START + 100 * SECOND, [changed("model", "model/m@2", "user:eve", reason="again")])
    again = ask(told)
    assert again.bindings["model"].by == "user:eve"
    assert again.state_digest == found.state_digest
    assert state_digest_now(told.reader, told.index, *ASKED, now=NOW) == found.state_digest


def test_ties_go_to_the_highest_index_and_a_removal_binds_to_nothing(told: Story) -> None:
    told.write(START + 200 * SECOND, [changed("model", "model/m@3"), changed("model", "model/m@4")])
    assert refs(ask(told))["model"] == "model/m@4"
    told.write(START + 200 * SECOND, [removed("model")])
    assert "model" not in refs(ask(told))
    assert ask(told).missing == ("env", "model")
    told.write(START + 201 * SECOND, [changed("model", "model/m@1", late=150)])
    assert "model" not in refs(ask(told))
    assert refs(ask(told, at=second(180)))["model"] == "model/m@1"


def test_another_digest_for_a_version_is_reported_and_changes_nothing(told: Story) -> None:
    told.write(
        START + 100 * SECOND,
        [
            recorded("dataset", "d", "2", "2"),
            recorded("dataset", "d", "2", "2"),
            recorded("dataset", "d", "2", "3"),
            draft(
                "asset.version.withdrawn/1",
                "asset/dataset/d",
                "user:ann",
                {"version": "2", "why": "returns are missing"},
            ),
        ],
    )
    found = ask(told)
    assert found.bindings["data"].digest == "sha256:" + "2" * 64
    assert found.warnings[:2] == (
        f"entry 14 recorded dataset/d@2 again with another digest, sha256:{'3' * 64}; "
        "the first record, entry 12, holds",
        "dataset/d@2 was withdrawn by entry 15: returns are missing",
    )
    assert "its digest is not known" in found.warnings[2]


def test_shadow_traffic_leaves_the_live_shares_alone(told: Story) -> None:
    told.write(START + 100 * SECOND, [traffic({"model/m@9": 30}, "shadow")])
    found = ask(told)
    assert (found.traffic, found.shadow) == ({"model/m@2": 100}, {"model/m@9": 30})


def test_an_approval_by_name_or_by_cause(told: Story) -> None:
    def approval(kind: str, data: dict) -> object:
        return draft(kind, "approval/c1", "user:lin", data)

    request = {
        "subject_digest": "sha256:" + "0" * 64,
        "meaning": "reviewed",
        **{"pipeline": "demand"},
    }
    told.write(START + 100 * SECOND, [approval("approval.requested/1", request)])
    assert [item.id for item in ask(told).approvals] == ["c1"]
    told.write(
        START + 101 * SECOND,
        [
            approval("approval.decided/1", {"decision": "approved", "meaning": "reviewed"}),
            changed("model", "model/m@3", caused_by=[12, 13]),
            changed("data", "dataset/d@3", approval="approval/c0"),
        ],
    )
    found = ask(told)
    assert found.approvals == ()
    assert found.bindings["model"].approval == "approval/c1"
    assert found.bindings["data"].approval == "approval/c0"


def test_what_a_newer_program_wrote_is_reported_and_not_guessed(told: Story) -> None:
    newer = {"pipeline": "demand", "stage": "live", "slot": "model", "holds": "model/m@9"}
    told.write(
        START + 100 * SECOND,
        [
            draft("binding.changed/2", "pipeline/demand@live", "user:ann", newer),
            draft("binding.swapped/1", "pipeline/demand@live", "user:ann", newer),
            draft("run.started/2", "run/t8", "user:ann", newer),
        ],
    )
    found = ask(told)
    assert refs(found)["model"] == "model/m@2"
    assert found.runs == ()
    assert found.warnings[0] == (
        "entry 12 is about this pipeline, but its payload is withheld, erased or of a newer schema"
    )
    assert not any("13" in text or "14" in text for text in found.warnings)


def test_data_that_name_another_pipeline_than_their_stream_do_not_count(told: Story) -> None:
    other = {"pipeline": "demand", "stage": "test", "slot": "model", "asset_version": "model/m@9"}
    told.write(
        START + 100 * SECOND,
        [draft("binding.changed/1", "pipeline/demand@live", "user:ann", other)],
    )
    assert refs(ask(told))["model"] == "model/m@2"
    with pytest.raises(NotFoundError):
        state(told.reader, told.index, "demand", "test", now=NOW)


def test_an_unknown_pipeline_is_not_an_empty_one(told: Story) -> None:
    for answer in (
        lambda: state(told.reader, told.index, "demnd", "live", now=NOW),
        lambda: replayed(told.reader, "demnd", "live", now=NOW),
        lambda: history(told.reader, told.index, "demnd", "live", now=NOW),
    ):
        with pytest.raises(NotFoundError, match="this ledger knows: demand in live"):
            answer()
    assert state_digest_now(told.reader, told.index, "demnd", "live", now=NOW) is None
    early = ask(told, at=second(5))
    assert (refs(early), early.before, early.missing) == ({}, None, ())
    assert early.after is not None and early.after.index == 3


def test_an_answer_is_repeated_from_its_basis(told: Story) -> None:
    first = ask(told)
    told.write(START + 100 * SECOND, [removed("model"), traffic({})])
    again = state(
        told.reader,
        told.index,
        *ASKED,
        at=told.at(second(1000)),
        basis=first.basis.tree_size,
        now=NOW,
    )
    plain, before = again.as_json(), first.as_json()
    assert {name for name in plain if plain[name] != before[name]} == {"mode"}


def test_people_and_notebooks_are_told_the_same(told: Story) -> None:
    told.write(START + 100 * SECOND, [changed("<script>", "config/<b>&@1")])
    found = ask(told)
    page = found._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "config/&lt;b&gt;&amp;@1" in page
    assert "<td>unknown</td>" in page
    lines = found.summary()
    assert lines[0] == "demand in live, in effect now, as known now"
    assert any("incident 7 is open" in line for line in lines)
    assert any("env: missing" in line for line in lines)


# --- history and difference -----------------------------------------------------------------------


def test_history_is_oldest_first_by_effect(told: Story) -> None:
    found = list(history(told.reader, told.index, *ASKED, now=NOW))
    assert [change.index for change in found] == [3, 4, 5, 9, 7, 8]
    assert [change.index for change in found if change.late] == [9]
    data = list(history(told.reader, told.index, *ASKED, slot="data", now=NOW))
    assert [change.asset_version for change in data] == ["dataset/d@1", "dataset/d@2"]
    known = history(told.reader, told.index, *ASKED, known_at=told.at(second(30)), now=NOW)
    assert [change.index for change in known] == [3, 4, 5, 7, 8]
    with pytest.raises(NotFoundError, match="no slot 'modle'; there is: data, model"):
        history(told.reader, told.index, *ASKED, slot="modle", now=NOW)
    assert found[3].as_json()["late"] and "recorded" in found[3].summary()[0]


def test_history_pages_do_not_lose_anything(told: Story) -> None:
    told.write(START + 100 * SECOND, [changed("model", f"model/m@{n}") for n in range(1200)])
    found = list(history(told.reader, told.index, *ASKED, slot="model", now=NOW))
    assert len(found) == 1202
    assert [change.index for change in found] == sorted(change.index for change in found)


def test_diff_names_fields_and_the_entries_that_did_it(told: Story) -> None:
    told.write(
        START + 100 * SECOND,
        [recorded("model", "m", "2", "b", parents=["dataset/d@2"], metadata={"mape": {"v": 7}})],
    )
    found = diff(told.reader, told.index, *ASKED, start=told.at(second(20)), now=NOW)
    words = {
        item.slot: (item.word, [entry.index for entry in item.entries]) for item in found.bindings
    }
    assert words == {"data": ("changed", [9]), "model": ("changed", [7])}
    model = next(item for item in found.bindings if item.slot == "model")
    assert {field.path: (field.before, field.after) for field in model.fields} == {
        "/digest": ("sha256:" + "a" * 64, "sha256:" + "b" * 64),
        "/metadata/mape/v": (9, 7),
        "/parents": (["dataset/d@1"], ["dataset/d@2"]),
        "/source/ref": ("sha256:" + "a" * 64, "sha256:" + "b" * 64),
        "/version": ("1", "2"),
    }
    assert (model.entries[0].actor, model.entries[0].reason) == ("service:ci", "better")
    assert [(item.path, item.before, item.after) for item in found.traffic] == [
        ("/model~1m@2", None, 100)
    ]
    assert [entry.index for entry in found.traffic_entries] == [8]
    assert any("/metadata/mape/v: 9 -> 7" in line for line in found.summary())
    assert "<table>" in found._repr_html_()
    plain = found.as_json()
    assert plain["to"]["state_digest"] == ask(told).state_digest
    assert not plain["equal"]


def test_diff_names_the_deciding_entry_among_very_many(told: Story) -> None:
    """The newest entries are late corrections of the past; what decides lies before them."""
    told.write(START + 100 * SECOND, [changed("model", "model/m@3", reason="this one")])
    late = [changed("model", f"model/m@{n}", late=40 + n % 40) for n in range(80)]
    told.write(START + 101 * SECOND, late)
    found = diff(told.reader, told.index, *ASKED, start=told.at(second(30)), now=NOW)
    model = next(item for item in found.bindings if item.slot == "model")
    assert model.after is not None and model.after.asset_version == "model/m@3"
    assert model.entries[0].reason == "this one" and len(model.entries) == 51
    assert model.more and model.as_json()["more_entries"]
    assert "      and earlier entries" in found.summary()


def test_diff_of_what_became_known_about_one_instant(told: Story) -> None:
    at = told.at(second(30))
    found = diff(
        told.reader,
        told.index,
        *ASKED,
        start=at,
        end=at,
        start_known_at=told.at(second(30)),
        now=NOW,
    )
    assert [item.slot for item in found.bindings] == ["data"]
    assert [entry.index for entry in found.bindings[0].entries] == [9]


def test_diff_backwards_and_of_nothing(told: Story) -> None:
    early, late = told.at(second(5)), told.at(second(60))
    back = diff(told.reader, told.index, *ASKED, start=late, end=early, now=NOW)
    assert {item.slot: item.word for item in back.bindings} == {
        "data": "removed",
        "model": "removed",
    }
    assert [len(item.entries) for item in back.bindings] == [2, 2]
    same = diff(told.reader, told.index, *ASKED, start=late, end=late, now=NOW)
    assert same.is_empty and same.as_json()["equal"]
    assert same.summary()[-1] == "  nothing is different"


# --- lineage and impact ---------------------------------------------------------------------------


def edges(found: object) -> set[tuple[str, str, str | None]]:
    return {(edge.parent, edge.child, edge.run) for edge in found.edges}  # type: ignore[attr-defined]


def test_lineage_carries_versions_runs_and_time(told: Story) -> None:
    up = lineage(told.reader, told.index, "model/m@2", direction="up", now=NOW)
    assert edges(up) == {("dataset/d@2", "model/m@2", "t2")}
    assert {node.asset_version: node.distance for node in up.nodes} == {
        "dataset/d@2": -1,
        "model/m@2": 0,
    }
    assert not any(node.recorded for node in up.nodes)
    down = lineage(told.reader, told.index, "dataset/d@1", direction="down", now=NOW)
    assert edges(down) == {("dataset/d@1", "model/m@1", None)}
    then = lineage(told.reader, told.index, "dataset/d@2", at=told.at(second(59)), now=NOW)
    assert edges(then) == set()
    with pytest.raises(NotFoundError, match="no entry records or uses model/m@3"):
        lineage(told.reader, told.index, "model/m@3", now=NOW)
    with pytest.raises(NotFoundError):
        lineage(told.reader, told.index, "dataset/d@2", known_at=told.at(second(10)), now=NOW)
    with pytest.raises(MalformedError, match="is not an asset version"):
        lineage(told.reader, told.index, "m2", now=NOW)
    with pytest.raises(MalformedError, match="depth"):
        lineage(told.reader, told.index, "model/m@2", depth=0, now=NOW)
    assert up.as_json()["basis"]["tree_size"] == 12
    assert "was made from dataset/d@2 (t2, entry 10)" in up.summary()[1]


def test_lineage_goes_as_deep_as_asked_and_no_wider_than_can_be_read(told: Story) -> None:
    chain = [
        recorded("feature", "f", str(n), "c", parents=[f"feature/f@{n - 1}"]) for n in range(1, 6)
    ]
    told.write(START + 100 * SECOND, chain)
    for depth, size in ((1, 2), (3, 4), (99, 6)):
        found = lineage(
            told.reader, told.index, "feature/f@0", direction="down", depth=depth, now=NOW
        )
        assert (len(found.nodes), found.truncated) == (size, None)
    wide = [recorded("feature", f"w{n}", "1", "c", parents=["dataset/d@9"]) for n in range(CAP + 5)]
    told.write(START + 101 * SECOND, wide)
    found = lineage(told.reader, told.index, "dataset/d@9", now=NOW)
    assert len(found.nodes) == CAP
    assert found.truncated is not None and "more than 150 versions" in found.truncated
    assert found.summary()[-1].strip() == found.truncated


def test_lineage_survives_a_circle(told: Story) -> None:
    told.write(
        START + 100 * SECOND,
        [
            recorded("feature", "a", "1", "c", parents=["feature/b@1"]),
            recorded("feature", "b", "1", "c", parents=["feature/a@1"]),
        ],
    )
    found = lineage(told.reader, told.index, "feature/a@1", depth=50, now=NOW)
    assert len(found.nodes) == 2 and len(found.edges) == 2


def test_impact_follows_runs_bindings_and_traffic(told: Story) -> None:
    told.write(START + 100 * SECOND, [traffic({"model/m@1": 90, "model/m@2": 10}, "canary")])
    told.write(START + 200 * SECOND, [changed("model", "model/m@1"), started("t3", ["model/m@2"])])
    told.write(START + 210 * SECOND, [finished("t3", ["model/x@1"])])
    found = impact(told.reader, told.index, "dataset/d@2", now=NOW)
    assert found.versions == ("model/m@2", "model/x@1")
    assert [(b.asset_version, b.slot, b.start, b.stop) for b in found.bound] == [
        ("dataset/d@2", "data", START + 25 * SECOND, None),
        ("model/m@2", "model", START + 30 * SECOND, START + 200 * SECOND),
    ]
    assert [(s.asset_version, s.percent, s.start, s.stop) for s in found.served] == [
        ("model/m@2", 100, START + 30 * SECOND, START + 100 * SECOND),
        ("model/m@2", 10, START + 100 * SECOND, None),
    ]
    assert {(run.run, run.asset_version, run.role) for run in found.runs} == {
        ("t2", "dataset/d@2", "input"),
        ("t2", "model/m@2", "output"),
        ("t3", "model/m@2", "input"),
        ("t3", "model/x@1", "output"),
    }
    then = impact(told.reader, told.index, "dataset/d@2", at=told.at(second(150)), now=NOW)
    assert [b.stop for b in then.bound] == [None, None]
    assert then.versions == ("model/m@2",)
    assert found.as_json()["bound"][1]["to"] == second(200)
    assert any("served 10 % of demand in live" in line for line in found.summary())


def test_impact_leaves_out_what_was_superseded_in_the_same_instant(told: Story) -> None:
    told.write(START + 100 * SECOND, [changed("model", "model/m@5"), changed("model", "model/m@6")])
    assert impact(told.reader, told.index, "model/m@5", now=NOW).bound == ()
    assert len(impact(told.reader, told.index, "model/m@6", now=NOW).bound) == 1


# --- log ------------------------------------------------------------------------------------------


def indexes(told: Story, **wanted: object) -> list[int]:
    return [record.index for record in log(told.reader, Filter(**wanted))]  # type: ignore[arg-type]


def test_log_filters(told: Story) -> None:
    assert indexes(told) == list(range(12))
    assert indexes(told, actor="user:ann") == [0, 3, 8, 9, 11]
    assert indexes(told, type="binding.*") == [4, 5, 7, 9]
    assert indexes(told, type="run.started") == [6]
    assert indexes(told, type="run.started/1") == [6]
    assert indexes(told, pipeline="demand") == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert indexes(told, stage="test") == []
    assert indexes(told, pipeline="demand", stage="live", type="run.*") == [6, 10]
    assert indexes(told, start=told.at(second(20)), end=told.at(second(30))) == [6, 7, 8]
    assert indexes(told, start=told.at("index:7"), end=told.at("index:9")) == [7, 8, 9]
    assert indexes(told, end=told.at(second(10))) == [0, 1, 2, 3, 4, 5]


def test_log_follows_while_it_is_told_to(told: Story) -> None:
    turns = iter((True, True, False))

    def wait() -> bool:
        going = next(turns)
        if going:
            told.write(START + 300 * SECOND, [changed("model", "model/m@1"), started("t9", [])])
        return going

    found = [record.index for record in log(told.reader, Filter(type="binding.*"), wait=wait)]
    assert found == [4, 5, 7, 9, 12, 14]


def test_log_shows_the_last_ones_before_it_waits(told: Story) -> None:
    shown: list[int] = []

    def wait() -> bool:
        assert shown == [7, 9], "what is there is not held back until something comes"
        return False

    for record in log(told.reader, Filter(type="binding.*"), last=2, wait=wait):
        shown.append(record.index)
    assert shown == [7, 9]


# --- what the door would have refused -----------------------------------------------------------


def test_an_effective_time_that_is_none_counts_as_not_given(told: Story) -> None:
    from ledger.draft import Draft

    for number, stated in enumerate(('"soon"', "17", "null", '"2026-11-21T06:00:00"')):
        payload = (
            f'{{"asset_version":"model/m@{number}","effective_at":{stated},'
            '"pipeline":"demand","slot":"model","stage":"live"}'
        )
        event = Draft(
            type="binding.changed/1",
            stream="pipeline/demand@live",
            actor="user:ann",
            payload=payload.encode(),
        )
        told.write(START + (100 + number) * SECOND, [event])
        bound = ask(told).bindings["model"]
        assert bound.asset_version == f"model/m@{number}"
        assert bound.since.effective_at == START + (100 + number) * SECOND


@pytest.mark.parametrize("payload", [b"", b"[]", b"not json", b'"text"'])
def test_a_payload_that_is_no_object_is_reported(told: Story, payload: bytes) -> None:
    from ledger.draft import Draft

    event = Draft(
        type="binding.changed/1", stream="pipeline/demand@live", actor="user:ann", payload=payload
    )
    told.write(START + 100 * SECOND, [event])
    found = ask(told)
    assert found.bindings["model"].asset_version == "model/m@2"
    assert found.warnings[0].startswith("entry 12 is about this pipeline")

"""Every command, every form: the standard output holds the answer and nothing else.

One small ledger is made, each command is run on it in each form, and what is printed is read back.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from api.cli import main

ASSET = {
    "kind": "model",
    "version": "7",
    "digest": "sha256:" + "3" * 64,
    "location": "s3://m/7",
    "source": {"system": "s3", "ref": "m/7"},
    "restorable": "verify_only",
    "parents": ["dataset/orders@1"],
}
HOSTILE = "=cmd()\x1b[2J\u202e Übung 🚀 שלום <script>"
SCOPE = ["-p", "forecast", "-s", "production"]

# What is asked, and the members or columns that its answer must have.
QUESTIONS: dict[str, tuple[list[str], str]] = {
    "state": (["state", *SCOPE], "state_digest"),
    "diff": (["diff", *SCOPE, "--from", "index:3"], "change"),
    "history": (["history", *SCOPE], "asset_version"),
    "log": (["log"], "leaf_hash"),
    "show": (["show", "2"], "leaf_hash"),
    "lineage": (["lineage", "model/m@7"], "parent"),
    "impact": (["impact", "dataset/orders@1"], "asset_version"),
    "verify": (["verify"], "result"),
    "keys": (["keys", "show"], "vkey"),
    "rollbacks": (["rollback", "list"], "plan_digest"),
    "plan": (["rollback", "plan", *SCOPE, "--to", "index:3", "--dry-run"], "plan_digest"),
}
STREAMED = {"history", "log", "rollbacks"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("purity")
    url = f"sqlite:///{folder}/asof.db"
    events = [
        {"type": "asset.version.recorded/1", "data": {**ASSET, "name": "m"}},
        {"type": "note.added/1", "stream": "note/x", "data": {"text": HOSTILE}},
    ]
    file = folder / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    for line in [
        ["init", "--origin", "example.com/p"],
        ["record", str(file)],
        ["bind", "model/m@7", *SCOPE, "--slot", "model", "--reason", HOSTILE.split("\x1b")[0]],
        ["traffic", "model/m@7=100", *SCOPE],
    ]:
        assert main([*line, "--store", url, "--quiet", "--actor", "user:ada"]) == 0
    return url


def asked(
    name: str, form: str, store: str, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[str, str]:
    capsys.readouterr()
    assert main([*QUESTIONS[name][0], "-o", form, "--store", store, *more]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


@pytest.mark.parametrize("name", QUESTIONS)
def test_json(name: str, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = asked(name, "json", store, capsys)
    answer = json.loads(out)
    assert isinstance(answer, list if name in STREAMED else dict)


@pytest.mark.parametrize("name", QUESTIONS)
def test_jsonl_is_the_same_answer(
    name: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads(asked(name, "json", store, capsys)[0])
    lines = [json.loads(line) for line in asked(name, "jsonl", store, capsys)[0].splitlines()]
    for answer in (*lines, *(whole if name in STREAMED else [whole])):
        answer.pop("at", None)  # two questions of "now" are asked at two instants
        answer.pop("target", None)
        answer.pop("to", None)
        answer.pop("plan_digest", None)
    assert lines == (whole if name in STREAMED else [whole])


@pytest.mark.parametrize("name", QUESTIONS)
def test_csv(name: str, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.reader(io.StringIO(asked(name, "csv", store, capsys)[0])))
    assert QUESTIONS[name][1] in rows[0]
    assert all(len(row) == len(rows[0]) for row in rows)
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for row in rows for cell in row)


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_nothing_steers_the_terminal(
    name: str, form: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = asked(name, form, store, capsys)
    assert out or (name, form) == ("rollbacks", "jsonl")  # there are none
    assert not set(out + err) & set("\x1b\x07\x9b\u202e\u2066\r")


@pytest.mark.parametrize("name", QUESTIONS)
def test_quiet_says_nothing_beside_the_answer(
    name: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(name, "table", store, capsys, "--quiet")[1] == ""


def test_a_table_and_its_export_have_the_same_rows(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is exported is what was seen, to the last row."""
    for name in STREAMED - {"rollbacks"}:
        table = asked(name, "table", store, capsys)[0].splitlines()
        rows = asked(name, "csv", store, capsys)[0].splitlines()
        lines = asked(name, "jsonl", store, capsys)[0].splitlines()
        assert len(table) == len(rows) == len(lines) + 1


def test_text_survives_unchanged(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = asked("show", "json", store, capsys)
    assert json.loads(out)["data"]["text"] == HOSTILE


def test_an_answer_can_be_repeated(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The basis of an answer, passed back, gives the same state after the ledger went on."""
    before = json.loads(asked("state", "json", store, capsys)[0])
    assert (
        main(["traffic", "model/m@7=100", *SCOPE, "--mode", "canary", "--store", store, "-q"]) == 0
    )
    basis = str(before["basis"]["tree_size"])
    again = json.loads(asked("state", "json", store, capsys, "--basis", basis)[0])
    assert again["basis"] == before["basis"]
    assert again["state_digest"] == before["state_digest"]
    assert again["before"] == before["before"]


def test_the_proof_leaves_the_standard_output_alone(
    store: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bundle = tmp_path / "state.zip"
    out, err = asked("state", "json", store, capsys, "--proof", str(bundle))
    assert json.loads(out)["pipeline"] == "forecast"
    assert bundle.stat().st_size > 0
    assert "the same digest" in err

"""`asof projections …`: the same commands over a file and over PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.cli import main
from ledger.stores.postgres import migrate
from projections.index import Index
from projections.snapshots import Beginning

SCOPE = ["-p", "forecast", "-s", "production"]
ASSET = {
    "kind": "model",
    "name": "m",
    "digest": "sha256:" + "3" * 64,
    "location": "s3://m",
    "source": {"system": "s3", "ref": "m"},
    "restorable": "verify_only",
    "parents": [],
}
Run = Callable[..., Any]


@pytest.fixture(params=["sqlite", "postgres"])
def run(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run one line on a ledger in which m@8 is bound; the JSON that it printed."""
    monkeypatch.chdir(tmp_path)
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/asof.db" if sqlite else request.getfixturevalue("pg_url")
    monkeypatch.setenv("ASOF_STORE", url)
    monkeypatch.setenv("ASOF_QUIET", "1")

    def line(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*words, "-o", "json"]) == code
        out = capsys.readouterr().out
        return json.loads(out) if out else None

    line("init", "--origin", "example.com/p")
    events = [{"type": "asset.version.recorded/1", "data": ASSET | {"version": v}} for v in "78"]
    Path("events.jsonl").write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    line("record", "events.jsonl")
    for version in "78":
        line("bind", f"model/m@{version}", *SCOPE, "--slot", "model")
    return line


def test_status_says_how_far_it_is_without_indexing(run: Run) -> None:
    run("projections", "drop", "--yes")
    for _ in range(2):
        found = run("projections", "status")
        size = found["ledger_entries"]
        assert (found["entries"], found["lag"]["entries"]) == (0, size)
        assert found["lag"]["seconds"] > 0
    assert run("state", *SCOPE)["bindings"]["model"]["asset_version"] == "model/m@8"
    found = run("projections", "status")
    assert found["entries"] == found["ledger_entries"] == size
    assert found["lag"] == {"entries": 0, "seconds": 0.0}
    assert (found["paused_at"], found["dead_letters"], found["problem"]) == (None, [], None)


def test_rebuild_compares(run: Run) -> None:
    run("state", *SCOPE)
    done = run("projections", "rebuild")
    assert done["differing"] == [] and done["entries"] == run("projections", "status")["entries"]
    run("projections", "drop", "--yes")
    assert run("projections", "rebuild")["differing"] is None
    assert run("state", *SCOPE)["bindings"]["model"]["asset_version"] == "model/m@8"


def test_drop_asks_first(run: Run) -> None:
    run("state", *SCOPE)
    run("projections", "drop", code=2)
    assert run("projections", "status")["entries"] > 0
    assert run("projections", "drop", "--yes")["entries"] > 0
    assert run("projections", "status")["entries"] == 0


def test_replays_leave_snapshots_and_begin_at_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def newest() -> int | None:
        return run("projections", "status")["newest_snapshot"]

    size = run("projections", "status")["ledger_entries"]
    asked = ["state", *SCOPE, "--at", f"index:{size - 1}", "--replay"]
    answer = run(*asked)
    assert newest() is None  # too few entries
    monkeypatch.setitem(Index.snapshots.__kwdefaults__, "every", 2)
    assert run(*asked) == answer and newest() == size - size % 2
    begun_at: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(Beginning, "entries", lambda self, _: begun_at.append(self.size) or [])
        assert run(*asked, "--proof", "bundle.zip") == answer
        run(*asked, code=1)  # what a snapshot hides
    assert begun_at == [0, newest()]  # evidence begins at the first entry
    run("projections", "rebuild")
    assert newest() is None
    assert main(["projections", "status"]) == 0
    assert "newest snapshot" in capsys.readouterr().out


def test_tables_for_people(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("state", *SCOPE)
    assert main(["projections", "status"]) == 0
    out = capsys.readouterr().out
    assert "behind" in out and "dead letters" in out and "runs" in out
    assert main(["projections", "rebuild"]) == 0
    assert "the one before said the same" in capsys.readouterr().out


def test_only_known_ways_with_errors(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["projections", "follow", "--on-error", "shrug"]) == 2
    assert "'shrug' is none of dead-letter, pause" in capsys.readouterr().err


def test_who_may_only_read_is_answered_all_the_same(
    pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the index while it is up to date; else from one in memory, and it says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASOF_STORE", pg_url)
    assert main(["init", "--origin", "example.com/p"]) == 0
    Path("events.jsonl").write_text(
        json.dumps({"type": "asset.version.recorded/1", "data": ASSET | {"version": "7"}})
    )
    assert main(["record", "events.jsonl"]) == 0
    assert main(["bind", "model/m@7", *SCOPE, "--slot", "model"]) == 0
    assert main(["state", *SCOPE]) == 0
    admin = pg_url.replace("asof_app@", "postgres@")
    migrate(admin, login="asof_viewer", roles=("reader",))
    viewer = pg_url.replace("asof_app@", "asof_viewer@")
    capsys.readouterr()
    assert main(["state", *SCOPE, "--store", viewer, "-o", "json"]) == 0
    first = capsys.readouterr()
    assert "building one in memory" not in first.err
    assert main(["note", "one more"]) == 0
    capsys.readouterr()
    assert main(["state", *SCOPE, "--store", viewer, "-o", "json"]) == 0
    second = capsys.readouterr()
    assert "may not be written by this login" in second.err
    assert "building one in memory" in second.err
    digests = [json.loads(one.out)["state_digest"] for one in (first, second)]
    assert digests[0] == digests[1]

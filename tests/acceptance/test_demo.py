"""The demo on PostgreSQL: its story, told by the real program in processes of its own.

The whole takes minutes and is a long campaign. What a database makes different is in every run:
the ledger of one's own, its folder, and the byte that is changed in a copy of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.demonstration import story
from scripts.demonstration.stage import PIPELINE, DemoError, Stage

CODE = next(slot for slot in story.SLOTS if slot[0] == "code")


@pytest.fixture
def stage(pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage as somebody meets it who already keeps a ledger, whose key must stay untouched."""
    monkeypatch.setenv("ASOF_STORE", pg_url)
    monkeypatch.setenv("ASOF_KEYS", str(tmp_path / "mine"))
    return Stage(tmp_path / "demo")


def test_a_ledger_of_its_own_and_one_byte(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story.open_the_ledger(stage)
    story.capture(stage, *CODE, reason="first release")
    story.trust_and_tampering(stage)
    told = capsys.readouterr().out
    assert "$ asof export --out" in told and "INVALID  4 entries\nentry 3:" in told
    assert f"$ asof verify {stage.folder / 'forged'}" in told
    assert (stage.folder / "asof.keys").is_dir() and not (tmp_path / "mine").exists()
    with pytest.raises(DemoError, match="does not hold"):
        story.flip_one_byte(story.payloads_of(stage.folder / "forged"), b"no such words", b"")


def test_another_run_is_another_ledger_of_the_same_database(stage: Stage, tmp_path: Path) -> None:
    another = Stage(tmp_path / "another")
    for one in (stage, another):
        one.build()
        one.asof("init", "--origin", one.origin, show=False)
    assert stage.ask("keys", "show")["origin"] != another.ask("keys", "show")["origin"]


def test_the_commands_to_try_hold_no_password(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASOF_STORE", "postgresql://app:secret@db/audit?sslmode=require&user=x")
    Stage(stage.folder).invite()
    told = capsys.readouterr().out
    assert "export ASOF_STORE='postgresql://app@db/audit?sslmode=require&user=x'" in told
    assert f"export ASOF_KEYS={stage.folder / 'asof.keys'}\n" in told and "secret" not in told


def test_a_file_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASOF_STORE", "sqlite:////srv/mine.db")
    stage = Stage(tmp_path)
    assert stage.environment["ASOF_STORE"] == f"sqlite:///{tmp_path / 'asof.db'}"
    assert stage.origin == "ledger.clinic.example/progression"
    assert "ASOF_KEYS" not in stage.environment


@pytest.mark.long
def test_the_whole_story(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    story.play(stage)
    told = capsys.readouterr().out
    assert told.count("  identical\n") == 7 and "DIFFERENT" not in told
    assert stage.ask("state", *PIPELINE)["missing"] == []

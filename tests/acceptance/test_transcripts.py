"""Every transcript of tests/acceptance, through the real program in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.urls import as_user
from tests.support import transcript
from tests.support.postgres import APP

HERE = Path(__file__).parent
POSTGRES = HERE / "postgres.txt"
TRANSCRIPTS = sorted(path for path in HERE.glob("*.txt") if path != POSTGRES)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, tmp_path: Path) -> None:
    differences = transcript.run(path.read_text(encoding="utf-8"), tmp_path)
    assert not differences, f"{path.name}, " + "\n".join(differences)


def test_transcript_on_postgresql(pg_database: str, tmp_path: Path) -> None:
    """It is told two URLs of one empty database: the administrator's, and the program's."""
    more = {"ADMIN": pg_database, "ASOF_STORE": as_user(pg_database, APP)}
    differences = transcript.run(POSTGRES.read_text(encoding="utf-8"), tmp_path, more=more)
    assert not differences, f"{POSTGRES.name}, " + "\n".join(differences)


def test_a_transcript_can_fail(tmp_path: Path) -> None:
    """The negative control: wrong output, code or error text, output where none may be."""
    for text, complaint in [
        ("$ echo one\ntwo\n", "expected:"),
        ("$ false\n", "exit code 1, expected 0"),
        ("$ echo no >&2\n2> yes\n", "expected:"),
        ("$ echo x\n! empty\n", "something on the standard output"),
        ("$ echo 'Traceback (most recent call last)' >&2\n", "a traceback"),
    ]:
        (difference,) = transcript.run(text, tmp_path)
        assert complaint in difference
    assert transcript.run("$ printf 'a\\nb\\nc 12 d\\n'\na\n...\nc ... d\n", tmp_path) == []

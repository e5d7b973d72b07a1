"""Running programs: what they see, how long, how much, and what is said when they fail."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from connectors.program import ProgramError, check_operand, find_program, redacted, run, stream
from ledger.errors import MalformedError, NotFoundError, UnreachableError

PYTHON = sys.executable


def python(code: str, folder: Path, **more: object) -> bytes:
    argv = [PYTHON, "-I", "-c", code]
    return run(argv, cwd=folder, environ=os.environ, **more).stdout  # type: ignore[arg-type]


def test_rule_1_programs_are_found_in_absolute_folders_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "git"
    planted.write_text("#!/bin/sh\necho planted\n")
    planted.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert find_program("git", {"PATH": f".:{tmp_path.name}:{os.environ['PATH']}"}) != str(planted)
    with pytest.raises(NotFoundError, match=r"'git'.*absolute folder of PATH"):
        find_program("git", {"PATH": ".:"})
    assert find_program("git", {"PATH": str(tmp_path)}) == str(planted)


def test_rule_2_the_environment_is_scrubbed(tmp_path: Path) -> None:
    code = "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))"
    environ = {"PATH": "/usr/bin", "SECRET": "s", "GIT_DIR": "/x", "LD_PRELOAD": "/x", "SEEN": "1"}
    said = run([PYTHON, "-c", code], cwd=tmp_path, environ=environ, allow=["SEEN"]).stdout
    assert said.decode().strip() == "['LC_ALL', 'PATH', 'SEEN', 'TZ']"


def test_rule_3_input_is_what_is_given_or_nothing(tmp_path: Path) -> None:
    code = "import sys; print(len(sys.stdin.read()))"
    assert python(code, tmp_path) == b"0\n"
    assert python(code, tmp_path, stdin=b"x" * 300_000) == b"300000\n"


def test_rule_4_the_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    child = "import time, pathlib; time.sleep(1.5); pathlib.Path('late').write_text('x')"
    code = (
        "import subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, '-I', '-c', {child!r}]); time.sleep(30)"
    )
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"did not answer within 0\.5 seconds and was ended"):
        python(code, tmp_path, timeout=0.5)
    assert time.monotonic() - began < 4
    time.sleep(1.3)
    assert not (tmp_path / "late").exists()


def test_rule_4_a_program_that_ignores_the_first_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.program.GRACE_SECONDS", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(30)"
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        python(code, tmp_path, timeout=0.5)
    assert time.monotonic() - began < 4


def test_rule_4_output_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="said more than 1000 bytes and was ended"):
        python(
            "print('x' * 100, flush=True)\nwhile True: print('x' * 100)", tmp_path, max_output=1000
        )
    assert python("print('x' * 999)", tmp_path, max_output=1000) == b"x" * 999 + b"\n"


def test_rule_4_closing_a_stream_ends_its_program(tmp_path: Path) -> None:
    code = "import os\nprint(os.getpid(), flush=True)\nwhile True: print('x' * 1000)"
    said = stream([PYTHON, "-I", "-u", "-c", code], cwd=tmp_path, environ=os.environ)
    number = int(next(said).split(b"\n")[0])
    said.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_rule_5_failures_say_what_where_and_the_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no access to https://me:hunter2@host/x token=abc')"
    with pytest.raises(ProgramError) as caught:
        python(code, tmp_path)
    said = str(caught.value)
    assert str(tmp_path) in said and "ended with code 1" in said and "no access to" in said
    assert "https://***@host/x" in said and "hunter2" not in said and "abc" not in said
    assert caught.value.returncode == 1
    with pytest.raises(NotFoundError, match="could not run"):
        run(["/nowhere/at-all"], cwd=tmp_path, environ={})


def test_a_stream_raises_the_failure_after_the_last_piece(tmp_path: Path) -> None:
    argv = [PYTHON, "-I", "-c", "print('half'); raise SystemExit(3)"]
    said = stream(argv, cwd=tmp_path, environ=os.environ)
    assert next(said) == b"half\n"
    with pytest.raises(ProgramError, match="code 3"):
        next(said)


@pytest.mark.parametrize("value", ["", "-x", "--upload-pack=evil", "a\nb", "a\0b", "\x7f"])
def test_operands_that_are_options_are_refused(value: str) -> None:
    with pytest.raises(MalformedError, match=r"^revision: "):
        check_operand(value, "revision")
    assert check_operand("main", "revision") == "main"


def test_redaction_leaves_the_rest() -> None:
    assert redacted("ssh://u:p@h:22/a b@c") == "ssh://***@h:22/a b@c"
    assert redacted("Password: x, api_key=y and more") == "Password: *** api_key=*** and more"
    assert redacted("git@host:team/repo.git") == "git@host:team/repo.git"

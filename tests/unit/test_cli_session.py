"""One invocation: where options may stand, who acts, who may be asked, what is imported when."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from api.cli import main
from api.cli.progress import progress
from api.cli.session import Given, Session, actor_id
from ledger.errors import MalformedError

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("ASOF_STORE", "ASOF_OUTPUT", "ASOF_ACTOR", "ASOF_QUIET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/asof.db"
    assert main(["init", "--store", url, "--quiet", "--origin", "example.com/t"]) == 0
    return url


@pytest.mark.parametrize(
    "line",
    [
        ["--store", "{}", "-o", "jsonl", "keys", "show"],
        ["keys", "--store", "{}", "-o", "jsonl", "show"],
        ["keys", "show", "--store", "{}", "-o", "jsonl"],
        ["--store", "sqlite:///nowhere.db", "-o", "csv", "keys", "show", "--store={}", "-ojsonl"],
    ],
)
def test_global_options_anywhere(
    store: str, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    capsys.readouterr()
    assert main([word.replace("{}", store) for word in line]) == 0
    assert capsys.readouterr().out.startswith('{"origin":"example.com/t"')


def test_options_win_over_the_environment(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASOF_STORE", store)
    monkeypatch.setenv("ASOF_OUTPUT", "csv")
    monkeypatch.setenv("ASOF_ACTOR", "service:env")
    capsys.readouterr()
    assert main(["note", "x"]) == 0
    assert main(["note", "y", "--actor", "agent:line"]) == 0
    assert capsys.readouterr().out.startswith("first_index,")
    for index, actor in [("1", "service:env"), ("2", "agent:line")]:
        assert main(["show", index, "-o", "json"]) == 0
        assert f'"actor": "{actor}"' in capsys.readouterr().out


@pytest.mark.parametrize("actor", ["user:7", "service:trainer", "agent:bot-1"])
def test_actor_ids(actor: str) -> None:
    assert actor_id(actor) == actor


@pytest.mark.parametrize("actor", ["ada", "user:", "Ada Lovelace", "user:ada lovelace", "mail:a@b"])
def test_other_actors_are_refused(actor: str) -> None:
    with pytest.raises(MalformedError, match="is no actor id"):
        actor_id(actor)


def test_the_default_actor_is_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the user id: no variable can fake it."""
    monkeypatch.delenv("ASOF_ACTOR", raising=False)
    before = Session(Given(), "asof").actor
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")
    assert Session(Given(), "asof").actor == before != "user:mallory"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y", True), (" YES ", True), ("n", False), ("", False), ("yess", False)]
)
def test_asking_on_a_terminal(
    answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    session = Session(Given(), "asof rollback run")
    assert session.confirm("Run 4 steps?", yes=False, ask=lambda: answer) is agreed
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Run 4 steps? [y/N] "


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    session = Session(Given(), "asof rollback run")
    with pytest.raises(MalformedError, match="the standard input is no terminal"):
        session.confirm("Run?", yes=False)
    assert session.confirm("Run?", yes=True) is True


def test_one_bar_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would be an error of the library that draws them, in a thread of its own."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("api.cli.session.progress", partial(progress, patience=0.01))
    session = Session(Given(), "asof")
    with session.progress("Outer"):
        time.sleep(0.3)
        with session.progress("Inner") as tell:
            tell(1, 2)
            time.sleep(0.3)
    assert "Outer" in stream.getvalue()
    assert "Inner" not in stream.getvalue()


def test_an_end_of_input_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise EOFError

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert Session(Given(), "asof").confirm("Run?", yes=False, ask=gone) is False


def test_what_nobody_meant_is_reported_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    """A bug ends with 8 and says so; the traceback is for those who ask."""
    import api.main

    def broken(*_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(api.main, "describe_keys", broken)
    capsys.readouterr()
    assert main(["keys", "show", "--store", store]) == 8
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("asof: unexpected KeyError: 'bug'")
    assert "Traceback" not in captured.err
    monkeypatch.setenv("ASOF_DEBUG", "1")
    assert main(["keys", "show", "--store", store]) == 8
    assert capsys.readouterr().err.startswith("Traceback")


def test_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    import api.main

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api.main, "describe_keys", interrupted)
    assert main(["keys", "show", "--store", store]) == 130
    assert capsys.readouterr().err.endswith("asof: interrupted\n")


def test_a_broken_pipe_is_not_invalid(store: str) -> None:
    """Typer alone would end with 1, which means INVALID here."""
    shell = f'"{sys.executable}" -m api.cli show 0 -o json --store "{store}"; echo $? >&2'
    reader = "import os, sys; sys.stdin.close(); os.close(0)"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{{ sleep 0.3; {shell}; }} | {sys.executable} -c '{reader}'"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.strip() == "141"


HEAVY = (
    "pydantic",
    "rich",
    "orjson",
    "cryptography",
    "eventsourcing",
    "sqlite3",
    "asyncio",
    "connectors",
)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from api.cli import main; code = main(['--help'])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_help_is_quick() -> None:
    """0.3 s on the reference machine; the best of five, so that a busy machine does not fail it."""

    def once() -> float:
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "api.cli", "--help"],
            cwd=CHECKOUT,
            capture_output=True,
            check=True,
        )
        return time.perf_counter() - begin

    assert min(once() for _ in range(5)) < 0.6

"""Every error is one plain line, a hint and a documented exit code; a traceback only when asked
for.
"""

from __future__ import annotations

import inspect

import pytest

from api.cli.problems import EXIT_CODES, exit_code_of, problem_lines, with_store
from api.hints import hinted, hinting, hints_of
from ledger import errors
from ledger.errors import AsofError, MalformedError, NotFoundError, TamperError

FAMILY = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AsofError)
]


def lines(error: BaseException, **more: bool) -> list[str]:
    return list(problem_lines(error, command="asof state", **more))


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_each_error_has_a_documented_code_and_a_hint(kind: type[AsofError]) -> None:
    error = kind("what and where")
    assert exit_code_of(error) in {code for code, _, _ in EXIT_CODES}
    first, *rest = lines(error)
    assert first == "asof: what and where"
    if kind not in (AsofError, errors.StoreError):
        (hint,) = rest
        assert hint.startswith("try: ") and "{" not in hint


def test_the_nearest_hint_wins() -> None:
    error = hinted(NotFoundError("no pipeline 'x'"), "asof state -p y")
    assert lines(error) == ["asof: no pipeline 'x'", "try: asof state -p y"]


def test_where_it_went_wrong_is_said() -> None:
    assert (
        lines(MalformedError("not a number", where="/data/x"))[0] == "asof: /data/x: not a number"
    )
    error = TamperError("the leaf hash differs", index=7, expected="aa", found="bb")
    assert lines(error)[0] == "asof: entry 7: the leaf hash differs (expected aa, found bb)"


def test_hostile_words_stay_on_their_line() -> None:
    (first, *_) = lines(NotFoundError("no asset 'a\x1b[2J\nasof: VALID'"))
    assert first == r"asof: no asset 'a\x1b[2J\x0aasof: VALID'"


def test_a_file_that_cannot_be_read() -> None:
    error = FileNotFoundError(2, "No such file or directory", "events.jsonl")
    assert lines(error) == ["asof: events.jsonl: No such file or directory"]
    assert exit_code_of(error) == 3
    assert exit_code_of(PermissionError(13, "Permission denied", "events.jsonl")) == 8


def test_what_nobody_meant() -> None:
    try:
        {}["x"]
    except KeyError as error:
        first, hint = lines(error)
        debug = lines(error, debug=True)
    assert first.startswith("asof: unexpected KeyError: 'x' (unit/test_cli_problems.py:")
    assert "ASOF_DEBUG=1" in hint
    assert debug[0].startswith("Traceback")
    assert exit_code_of(KeyError()) == 8


def test_interrupted() -> None:
    assert lines(KeyboardInterrupt()) == ["asof: interrupted"]
    assert exit_code_of(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ("asof init", "asof init --store URL"),
        ("asof init, or another folder", "asof init --store URL, or another folder"),
        ("asof state -p x (the nearest)", "asof state -p x --store URL (the nearest)"),
        ("asof log --store other", "asof log --store other"),
        ("asof state --help", "asof state --help"),
        ("again in a moment", "again in a moment"),
    ],
)
def test_a_suggested_command_names_the_store_that_was_given(hint: str, expected: str) -> None:
    assert with_store(hint, "URL") == expected
    assert with_store(hint, None) == hint


def test_a_hint_is_attached_once() -> None:
    with pytest.raises(NotFoundError) as caught, hinting(NotFoundError, "outer"):
        with hinting(NotFoundError, "inner"):
            raise NotFoundError("x")
    assert hints_of(caught.value) == ["inner"]

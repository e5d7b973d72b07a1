"""A bar appears when it takes long and somebody looks, and never otherwise."""

from __future__ import annotations

import io
import sys
import time

import pytest

from api.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, *, shown: bool, patience: float, work: float) -> str:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with progress("Verifying", shown=shown, patience=patience) as tell:
        tell(1, 10)
        time.sleep(work)
        tell(7, 10)
        time.sleep(work)
    return stream.getvalue()


def test_a_bar_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(monkeypatch, shown=True, patience=0.01, work=0.4)
    assert "Verifying" in text and "7/10" in text


def test_quick_work_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, shown=True, patience=5, work=0) == ""


def test_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, shown=False, patience=0, work=0.05) == ""

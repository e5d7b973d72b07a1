"""One line of words for an entry, whatever its type: `asof log` shows them."""

from __future__ import annotations

import pytest

from api.cli.answers import entry_sentence
from ledger.events import EVENT_TYPES


@pytest.mark.parametrize("cls", EVENT_TYPES.values(), ids=lambda cls: cls.TYPE)
def test_every_type_has_words(cls: type) -> None:
    told = entry_sentence({"type": cls.TYPE, "data": dict(cls.EXAMPLE)})  # type: ignore[attr-defined]
    assert told and "\n" not in told and "None" not in told, told


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (
            "observation.recorded/1",
            {
                "system": "terraform",
                "target": "prod",
                "observed": [{"details": {"event": "lock", "lock": {"id": "7"}}}],
                "differs_from_declared": False,
            },
            "terraform prod: lock",
        ),
        (
            "observation.recorded/1",
            {
                "system": "git",
                "target": "repo",
                "observed": [{"digest": "sha256:7"}, {"digest": "sha256:8"}],
                "differs_from_declared": True,
            },
            "git repo: 2 seen, not as declared",
        ),
        ("observation.recorded/1", {"system": "a", "target": "b"}, "a b: 0 seen"),
        (
            "access.granted/1",
            {"principal": "user:7", "role": "auditor", "before": [], "after": ["auditor"]},
            "auditor for user:7",
        ),
        ("access.revoked/1", {"principal": "user:7", "token": "abc"}, "token abc for user:7"),
        (
            "access.recorded/1",
            {"action": "unauthenticated", "outcome": "refused", "count": 2},
            "somebody unknown: unauthenticated refused, 2 times",
        ),
    ],
)
def test_what_matters_is_said(name: str, data: dict[str, object], words: str) -> None:
    assert entry_sentence({"type": name, "data": data}) == words

"""The examples of C2SP signed-note and of golang.org/x/mod/sumdb/note, which nobody here made."""

from __future__ import annotations

import pytest

from ledger.errors import TamperError
from ledger.note import format_vkey, open_note, parse_vkey

SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
EXAMPLES = [(SPEC_VKEY, SPEC_NOTE), (GO_VKEY, GO_NOTE)]


@pytest.mark.parametrize(("vkey", "note"), EXAMPLES, ids=["C2SP", "Go"])
def test_opens(vkey: str, note: str) -> None:
    opened = open_note(note.encode(), [parse_vkey(vkey)])
    assert opened.text.decode() == note.split("\n\n")[0] + "\n"
    assert format_vkey(parse_vkey(vkey)) == vkey


@pytest.mark.parametrize(("vkey", "note"), EXAMPLES, ids=["C2SP", "Go"])
def test_another_text_is_refused(vkey: str, note: str) -> None:
    with pytest.raises(TamperError, match="does not belong to this text"):
        open_note(note.replace("i", "I", 1).encode(), [parse_vkey(vkey)])

"""`asof verify --policy`: the witnesses that one demands have cosigned, or the answer says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.settings import Settings
from api.verification import verify
from ledger.audit import Report
from ledger.cosignature import Cosigner, add_lines, format_witness_vkey
from ledger.errors import MalformedError
from ledger.export import export_folder
from ledger.note import format_vkey, note_text
from ledger.opening import create_ledger, open_ledger
from ledger.verdict import Verdict
from tests.support.ledgers import notes

WITNESSES = [
    Cosigner(f"w{n}.example.com/w", Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32))
    for n in (1, 2)
]


class Case:
    """A ledger, its export, a checkpoint, and a policy of two witnesses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(store=f"sqlite:///{folder}/asof.db")
        with create_ledger(self.settings.store, origin="ledger.example.com/acme") as ledger:
            ledger.writer.append(notes(3))
            self.note = ledger.reader.checkpoint()
            self.log = format_vkey(ledger.vkey)
            export_folder(ledger.reader, folder / "out")

    def policy(self, quorum: str, *, log: str | None = None) -> Path:
        lines = [f"log {log or self.log}"]
        lines += [
            f"witness W{n} {format_witness_vkey(one.key)}" for n, one in enumerate(WITNESSES, 1)
        ]
        path = self.folder / "policy"
        path.write_text("\n".join([*lines, "group both all W1 W2", f"quorum {quorum}", ""]))
        return path

    def cosigned(self, *by: Cosigner, time: int = 1_795_000_000) -> Path:
        lines = b"".join(one.line(note_text(self.note), time) for one in by)
        path = self.folder / "cosigned"
        path.write_bytes(add_lines(self.note, lines))
        return path

    def verify(self, policy: Path, against: Path | None, target: Path | None = None) -> Report:
        return verify(
            self.settings,
            target,
            workers=1,
            vkey=None,
            against=against,
            receipt=None,
            entry=None,
            policy=policy,
            now=1_900_000_000_000_000,
            progress=lambda done, of: None,
        )


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_quorum_that_has_cosigned(case: Case) -> None:
    for by in (WITNESSES, [*WITNESSES, *WITNESSES]):
        report = case.verify(case.policy("both"), case.cosigned(*by))
        assert report.result is Verdict.VALID and report.checked["cosignatures"] == 2
    twice = case.verify(case.policy("both"), case.cosigned(WITNESSES[0], WITNESSES[0]))
    assert twice.result is Verdict.INCOMPLETE and twice.checked["cosignatures"] == 1
    assert "cosigned by w1.example.com/w at 2026-" in "\n".join(report.notes)
    (case.folder / "out" / "checkpoint").write_bytes(case.cosigned(*WITNESSES).read_bytes())
    assert case.verify(case.policy("both"), None, case.folder / "out").result is Verdict.VALID


def test_one_that_has_not_is_incomplete_and_never_valid(case: Case) -> None:
    for against in (case.cosigned(WITNESSES[0]), None):
        report = case.verify(case.policy("both"), against)
        assert report.result is Verdict.INCOMPLETE
        assert any("policy" in line for line in report.not_checked)
    other = "elsewhere.example.com/x+" + case.log.partition("+")[2]
    with pytest.raises(MalformedError, match="key id"):
        case.verify(case.policy("W1", log=other), case.cosigned(*WITNESSES))
    assert case.verify(case.policy("W1"), case.cosigned(WITNESSES[0])).result is Verdict.VALID


@pytest.mark.parametrize(
    ("time", "says"),
    [
        (1_900_000_000 + 301, "in the future"),
        ((1 << 63) - 1, "9223372036854775807 s after 1970, which is in the future"),
    ],
)
def test_a_time_that_has_not_come_is_said(case: Case, time: int, says: str) -> None:
    """Also one beyond the calendar: a verdict all the same, and no other error."""
    report = case.verify(case.policy("both"), case.cosigned(*WITNESSES, time=time))
    assert report.result is Verdict.VALID
    assert sum(says in note for note in report.notes) == 2
    report = case.verify(case.policy("both"), case.cosigned(*WITNESSES))
    assert not any("future" in note for note in report.notes)


def test_what_came_after_the_cosigned_tree_is_not_called_cosigned(case: Case) -> None:
    with open_ledger(case.settings.store) as ledger:
        ledger.writer.append(notes(2, "note/later"))
        size = ledger.reader.size()
    report = case.verify(case.policy("both"), case.cosigned(*WITNESSES))
    assert report.result is Verdict.VALID
    expected = f"that witnesses saw the last 2 entries: the cosigned checkpoint is of {size - 2}"
    assert expected in report.not_checked
    report = case.verify(case.policy("none"), case.cosigned(*WITNESSES))
    assert expected in report.not_checked
    assert "witnesses saw" not in "\n".join(case.verify(case.policy("W1"), None).not_checked)


def test_a_checkpoint_that_cannot_be_read_is_no_verdict_on_the_policy(case: Case) -> None:
    path = case.folder / "out" / "checkpoint"
    path.unlink()
    path.mkdir()
    report = case.verify(case.policy("both"), None, case.folder / "out")
    assert report.result is not Verdict.VALID
    assert "the policy: give the cosigned checkpoint with --against" in report.not_checked


def test_a_policy_about_another_log_says_nothing_of_this_one(case: Case, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Case(tmp_path / "other")
    report = case.verify(stranger.policy("none"), case.cosigned(*WITNESSES))
    assert report.result is Verdict.INCOMPLETE


def test_a_cosignature_that_does_not_hold_is_a_finding(case: Case) -> None:
    path = case.cosigned(*WITNESSES)
    wrong = WITNESSES[0].line(note_text(case.note)[:-1] + b"x\n", 1_795_000_000)
    path.write_bytes(add_lines(case.note, wrong))
    report = case.verify(case.policy("none"), path)
    assert report.result is Verdict.INVALID and report.findings[0].step == "cosignatures"


def test_what_is_no_policy(case: Case) -> None:
    carriage_returns = case.policy("both").read_bytes().replace(b"\n", b"\r\n")
    for content in (b"nonsense", b"# \xff\n", carriage_returns, None):
        path = case.folder / "no-policy"
        if content is not None:
            path.write_bytes(content)
        else:
            path.unlink()
        with pytest.raises(MalformedError, match="--policy"):
            case.verify(path, case.cosigned(*WITNESSES))
    proof = case.folder / "x.zip"
    proof.write_bytes(b"PK")
    with pytest.raises(MalformedError, match="--policy"):
        case.verify(case.policy("none"), None, proof)

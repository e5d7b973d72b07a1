"""What a verification says: one of four verdicts, and why.

::

    report = Report()
    report.find("4 chain", "not linked to the entry before", index=7, expected="ab…", found="cd…")
    report.result                     Verdict.INVALID, exit code 1

The verdict follows from what was collected and can never be set: a report in which nothing was
found and nothing was lacking is VALID, one that could not be made is ERROR. Neither ERROR nor
INCOMPLETE may be taken for VALID (docs/spec/verification.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from ledger.errors import AsofError, TamperError

__all__ = ["MAX_FINDINGS", "Finding", "Report", "Verdict"]

MAX_FINDINGS: Final = 1000
"""Findings beyond this number are counted, not kept: a report stays readable and memory flat."""


class Verdict(StrEnum):
    """VALID: all holds. INVALID: something is not what was signed. INCOMPLETE: part could not be
    checked. ERROR: it could not be examined.
    """

    VALID = "VALID"
    INVALID = "INVALID"
    INCOMPLETE = "INCOMPLETE"
    ERROR = "ERROR"

    @property
    def exit_code(self) -> int:
        """0, 1, 7, 8: the code with which the command line ends."""
        return {"VALID": 0, "INVALID": 1, "INCOMPLETE": 7, "ERROR": 8}[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong: in which numbered step, at which entry or place, expected and
    found.
    """

    step: str
    message: str
    index: int | None = None
    place: str = ""
    expected: str = ""
    found: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "index": self.index,
            "place": self.place,
            "message": self.message,
            "expected": self.expected,
            "found": self.found,
        }

    def __str__(self) -> str:
        where = [] if self.index is None else [f"entry {self.index}"]
        place = ", ".join([*where, self.place] if self.place else where)
        detail = f" (expected {self.expected}, found {self.found})" if self.expected else ""
        return f"step {self.step}: {place + ': ' if place else ''}{self.message}{detail}"


@dataclass(slots=True)
class Report:
    """The collected result of a verification; one thread fills it."""

    entries: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    not_checked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    lacking: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def result(self) -> Verdict:
        """The verdict: ERROR before INVALID before INCOMPLETE before VALID."""
        if self.error:
            return Verdict.ERROR
        if self.findings:
            return Verdict.INVALID
        return Verdict.INCOMPLETE if self.lacking else Verdict.VALID

    def add(self, finding: Finding) -> None:
        """Something is wrong: the verdict becomes INVALID."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.more_findings += 1

    def find(
        self,
        step: str,
        message: str,
        *,
        index: int | None = None,
        place: str = "",
        expected: object = "",
        found: object = "",
    ) -> None:
        """`add` from its parts."""
        finding = Finding(
            step=step,
            message=message,
            index=index,
            place=place,
            expected=str(expected),
            found=str(found),
        )
        self.add(finding)

    def refuse(
        self, step: str, error: AsofError, *, index: int | None = None, place: str = ""
    ) -> None:
        """`add` from an error that a check raised, with the evidence that it carries."""
        if isinstance(error, TamperError):
            message = str(error).removeprefix(f"entry {error.index}: ")
            message = message.removesuffix(f" (expected {error.expected}, found {error.found})")
            self.find(
                step,
                message,
                index=error.index if index is None else index,
                place=place,
                expected=error.expected,
                found=error.found,
            )
        else:
            self.find(step, str(error), index=index, place=place)

    def lack(self, text: str) -> None:
        """Part of the claim could not be checked: at best INCOMPLETE."""
        self.lacking.append(text)
        self.not_checked.append(text)

    def count(self, name: str, number: int) -> None:
        """So many of a thing were checked."""
        self.checked[name] = self.checked.get(name, 0) + number

    def as_json(self) -> dict[str, Any]:
        """What `asof verify -o json` prints."""
        return {
            "result": self.result.value,
            "entries": self.entries,
            "checked": self.checked,
            "not_checked": self.not_checked,
            "notes": self.notes,
            "findings": [finding.as_json() for finding in self.findings],
            "more_findings": self.more_findings,
            "error": self.error or None,
        }

"""A rollback as people see it: the steps as a table, what each calls and risks, how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from api.cli.output import Column, pairs, table_lines
from api.cli.state_view import mode_text
from api.cli.terminal import Ink, plain
from api.cli.words import digest_text, version_text

__all__ = ["LIST_COLUMNS", "STEP_COLUMNS", "plan_lines", "step_rows"]

_TITLES = ("STEP", "SLOT", "FROM", "TO", "SYSTEM", "CLASS", "RESTORABLE", "OUTCOME")

STEP_COLUMNS = tuple(
    Column(name, lambda record, name=name: record.get(name))  # type: ignore[misc]
    for name in (
        "rollback",
        "status",
        "order",
        "slot",
        "system",
        "from",
        "to",
        "from_digest",
        "to_digest",
        "call",
        "class",
        "restorable",
        "risk",
        "outcome",
        "observed_digest",
        "plan_digest",
    )
)

LIST_COLUMNS = (
    Column("rollback", lambda r: r["rollback"], "PLAN"),
    Column("status", lambda r: r["status"], "STATUS"),
    Column("pipeline", lambda r: r["pipeline"], "PIPELINE"),
    Column("stage", lambda r: r["stage"], "STAGE"),
    Column("steps", lambda r: len(r["steps"]), "STEPS", right=True),
    Column("requested_by", lambda r: r["requested_by"], "BY"),
    Column("reason", lambda r: r["reason"], "REASON"),
    Column("plan_digest", lambda r: r["plan_digest"]),
)


def step_rows(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    outer = {name: answer[name] for name in ("rollback", "status", "plan_digest")}
    for step in answer["steps"]:
        yield outer | step


def plan_lines(answer: Mapping[str, Any], mode: str, ink: Ink) -> Iterator[str]:
    """A plan as people read it: the steps as a table, what each calls and risks, the digest."""
    head = plain(f"{answer['pipeline']} in {answer['stage']}")
    yield ink.bold(f"{head}, back to what was {mode_text(mode)}" if mode else head)
    if not answer["steps"] and answer["traffic"] is None:
        yield "nothing to do: what is asked for already holds"
        return
    yield ""
    if answer["steps"]:
        yield from table_lines(_TITLES, [_step_row(step) for step in answer["steps"]], ink)
        yield ""
        yield from _step_notes(answer["steps"], ink)
    if answer["traffic"] is not None:
        shares = ", ".join(
            f"{n:g} % {version_text(ref)}" for ref, n in answer["traffic"]["to"].items()
        )
        yield f"traffic afterwards: {plain(shares or 'none')}"
    yield from pairs(list(_facts(answer)), ink)


def _step_row(step: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(step["order"] + 1),
        step["slot"],
        version_text(step["from"] or "nothing"),
        version_text(step["to"] or "nothing"),
        step["system"],
        step["class"],
        step["restorable"],
        step.get("outcome") or ("waits" if step.get("parked") else ""),
    )


def _step_notes(steps: list[Mapping[str, Any]], ink: Ink) -> Iterator[str]:
    for step in steps:
        rows = [("call", step["call"]), ("risk", step["risk"])]
        rows += [("waits", step["parked"])] if step.get("parked") else []
        rows += [("shows", digest_text(step["observed_digest"]))] if step.get("outcome") else []
        yield from pairs([(f"{step['order'] + 1}  {name}", text or "") for name, text in rows], ink)
    yield ""


def _facts(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if answer["rollback"] is not None:
        yield "plan", answer["rollback"]
    yield "digest", answer["plan_digest"]
    yield "status", answer["status"]
    approval = answer.get("approval")
    if approval is not None:
        own = ", who also asked for it" if approval["self_approved"] else ""
        yield "approved", f"by {approval['by']}{own}"
    if answer.get("why"):
        yield "why", answer["why"]
    for item in answer.get("differences") or []:
        seen = f"expected {item['expected']}, found {item['observed'] or 'nothing'}"
        yield "difference", f"{item['slot']}: {seen}"
    for warning in answer.get("warnings") or []:
        yield "warning", warning

"""What to make of a step after it was called, or may have been: a pure table.

::

    judge("read_back", outcome="unknown", found=old, step=step, attempt=1)    # Verdict("again", …)
    judge("blind", outcome=None, found=None, step=step, attempt=1)            # Verdict("park", …)

What is read back decides, not what the system said: a call that "failed" and whose target is there
has been done, one that "succeeded" and shows something else has failed. Only where nothing is known
of the outcome (it timed out, or we died: outcome None) does the class of the step decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectors.connector import Outcome, RestoreStep, drift

__all__ = ["MAX_ATTEMPTS", "Verdict", "judge"]

MAX_ATTEMPTS = 3
"""How often a step is called before a human is asked, where calling it again is safe."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`done`, `already`: settled. `failed`: stop the line. `again`: call. `park`: ask a human."""

    what: Literal["done", "already", "failed", "again", "park"]
    why: str = ""


def judge(step: RestoreStep, outcome: Outcome | None, found: str | None, attempt: int) -> Verdict:
    """The verdict on `step` after attempt number `attempt`.

    `outcome` is what the connector answered, None where nobody was there to hear it; `found` is the
    digest that was read back since, None where nothing is there or nothing can be read.
    """
    if found == step.target.digest:
        already = outcome is None or outcome.status == "already"
        return Verdict("already" if already else "done", outcome.detail if outcome else "")
    if outcome is None or outcome.status == "unknown":
        return _unknown(step, outcome, found, attempt)
    if step.idempotency == "blind" and found is None and outcome.status in ("done", "already"):
        return Verdict("done", outcome.detail)
    if outcome.status in ("done", "already"):
        return Verdict(
            "failed", f"the system said {outcome.status}, but shows {found or 'nothing'}"
        )
    return Verdict("failed", outcome.detail or f"the system said {outcome.status}")


def _unknown(
    step: RestoreStep, outcome: Outcome | None, found: str | None, attempt: int
) -> Verdict:
    what = (outcome.detail if outcome else "") or "nobody knows whether the call took effect"
    if step.idempotency == "blind":
        return Verdict("park", f"{what}; the step can neither be read back nor safely called again")
    if attempt >= MAX_ATTEMPTS:
        return Verdict("park", f"{what}; called {attempt} times without an answer")
    if step.idempotency == "read_back" and (changed := drift(step, found)):
        return Verdict("park", f"{what}; {changed}")
    return Verdict("again", what)

"""Going back: rollback plan, approve, run, status, list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from api.cli import completing
from api.cli.command import command, group, new_app
from api.cli.importing import refuse_options
from api.cli.options import PipelineOption, ReasonOption, StageOption, YesOption
from api.cli.plan_view import LIST_COLUMNS, STEP_COLUMNS, plan_lines, step_rows
from api.cli.session import Session
from api.cli.terminal import plain
from api.cli.words import count_text
from ledger.errors import MalformedError

if TYPE_CHECKING:
    from projections.plan import Plan

__all__ = ["register"]

_EXIT = {"failed": 8, "parked": 7}


PlanArgument = Annotated[
    str, typer.Argument(metavar="PLAN", help="The plan's id.", autocompletion=completing.plans)
]


def register(app: typer.Typer) -> None:
    """Add the group to the app."""
    rollback = new_app(
        "rollback",
        "Bring the real systems back to an earlier state, by appending, never by erasing.",
        examples=[
            "asof rollback plan -p forecast -s production --to tag:release-7",
            "asof rollback run 2026-11-21-1",
        ],
    )
    group(rollback)
    app.add_typer(rollback, name="rollback")
    _register_plan(rollback)
    _register_approve(rollback)
    _register_run(rollback)
    _register_resolve(rollback)
    _register_status(rollback)
    _register_list(rollback)


TargetOption = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="WHEN",
        show_default=False,
        help="Where to: a time, '2h ago', index:N, tag:NAME, run:ID.",
    ),
]
OnlySlotOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slot",
        metavar="SLOT",
        show_default=False,
        help="Only this slot; 'traffic' stands for the traffic (default: all).",
    ),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="PLAN",
        show_default=False,
        help="The plan's id (default: today's next).",
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", show_default=False, help="Only show it; record nothing."),
]
ApprovalOption = Annotated[
    bool,
    typer.Option(
        "--approval/--no-approval", help="Whether somebody must approve it before it runs."
    ),
]
SeparateApproverOption = Annotated[
    bool,
    typer.Option(
        "--separate-approver",
        show_default=False,
        help="Somebody else than who asks must approve it.",
    ),
]


def _register_plan(rollback: typer.Typer) -> None:
    @command(
        rollback,
        "plan",
        examples=[
            "asof rollback plan -p forecast -s production --to tag:release-7 --reason 'biased'",
            "asof rollback plan -p forecast -s production --to '2h ago' --slot model --dry-run",
        ],
        writes=True,
        remote=True,
    )
    def plan(
        session: Session,
        pipeline: PipelineOption,
        stage: StageOption,
        to: TargetOption,
        slot: OnlySlotOption = None,
        reason: ReasonOption = None,
        id: IdOption = None,
        dry_run: DryRunOption = False,
        approval: ApprovalOption = True,
        separate_approver: SeparateApproverOption = False,
    ) -> None:
        """What going back would do: the steps in order, and whether each can still be done.

        Every target is looked at now: is it still there, does its digest match? Nothing is changed;
        the plan is recorded, and its digest is what an approval is about.
        """
        if session.remote is not None:
            told = "--server, where somebody else than who asks must approve each plan"
            refuse_options(told, no_approval=not approval)
            wanted = {"to": to, "slots": slot or [], "reason": reason, "id": id, "dry_run": dry_run}
            _show(session, _planned_there(session, pipeline, stage, wanted), "")
            return
        from api.rolling_back import make_plan

        made = make_plan(session.rooms, pipeline, stage, to=to, slots=slot or (), now=session.now)
        if made.is_empty or dry_run:
            answer = made.as_json() | {"rollback": None, "status": "proposed"}
        else:
            answer = _proposed(session, made, id, reason, approval, separate_approver)
        _show(session, answer, made.target.mode)


def _planned_there(
    session: Session, pipeline: str, stage: str, wanted: dict[str, Any]
) -> dict[str, Any]:
    """The plan that the server made and requested."""
    from api.remote import evidence as there

    assert session.remote is not None  # noqa: S101 - asked by the caller
    return there.plan(session.remote.client, {"pipeline": pipeline, "stage": stage} | wanted)


def _proposed(
    session: Session,
    made: Plan,
    id: str | None,
    reason: str | None,
    approval: bool,
    separate_approver: bool,
) -> dict[str, Any]:
    """The plan, recorded."""
    from api.rollback_json import rollback_json
    from api.rolling_back import propose

    proposed = propose(
        session.rooms,
        made,
        rollback_id=id,
        actor=session.actor,
        reason=reason,
        now=session.now,
        requires_approval=approval or separate_approver,
        separate_approver=separate_approver,
    )
    return rollback_json(proposed)


def _register_approve(rollback: typer.Typer) -> None:
    @command(
        rollback,
        "approve",
        examples=[
            "asof rollback approve 2026-11-21-1 --digest sha256:5f2c…",
            "asof rollback approve 2026-11-21-1 --reason 'reviewed with the model owner'",
        ],
        writes=True,
        remote=True,
    )
    def approve(
        session: Session,
        plan: PlanArgument,
        digest: Annotated[
            str | None,
            typer.Option(
                "--digest",
                metavar="DIGEST",
                show_default=False,
                help="The plan's digest that you looked at (default: shown, and asked about).",
            ),
        ] = None,
        reason: ReasonOption = None,
        yes: YesOption = False,
    ) -> None:
        """Approve exactly this plan. Any change of the plan ends the approval."""
        told = _found(session, plan)
        current = told["plan_digest"]
        if digest is None:
            if not yes:
                _describe(session, told)
            if not session.confirm(f"Approve the plan {current}?", yes=yes):
                session.say("nothing was approved")
                raise typer.Exit(130)
        answer = _approved(session, plan, digest or current, reason)
        session.output.answer(
            answer,
            lines=lambda ink: [f"approved: {plain(plan)}, {answer['plan_digest']}"],
            rows=step_rows(answer),
            columns=STEP_COLUMNS,
        )
        session.suggest(f"asof rollback run {plan}")


def _register_run(rollback: typer.Typer) -> None:
    @command(
        rollback,
        "run",
        examples=["asof rollback run 2026-11-21-1", "asof rollback run 2026-11-21-1 --yes -o json"],
        writes=True,
        remote=True,
    )
    def run(session: Session, plan: PlanArgument, yes: YesOption = False) -> None:
        """Do what the plan says, step by step; started again it goes on where it was.

        Before each call the intent is recorded, after it what was read back. completed (exit code
        0): every digest is the target's. failed (8): it is not, and the difference is said. parked
        (7): a human must decide.
        """
        told = _found(session, plan)
        total = len(told["steps"])
        if told["status"] not in ("completed", "failed"):
            if not yes:
                _describe(session, told)
            if not session.confirm(f"Run {count_text(total, 'step')} of plan {plan}?", yes=yes):
                session.say("nothing was done")
                raise typer.Exit(130)
        with session.progress(f"Rolling back {plan}") as tell:
            answer = _ran(session, plan, lambda count: tell(count, total))
        _show(session, answer, "")
        raise typer.Exit(_EXIT.get(str(answer["status"]), 0))


def _register_resolve(rollback: typer.Typer) -> None:
    @command(
        rollback,
        "resolve",
        examples=[
            "asof rollback resolve 2026-11-21-1 2-model --outcome done --detail 'I saw it'",
            "asof rollback resolve 2026-11-21-1 2-model --outcome failed --detail 'not there'",
        ],
        writes=True,
    )
    def resolve(
        session: Session,
        plan: PlanArgument,
        step: Annotated[str, typer.Argument(metavar="STEP", help="The id of the step that waits.")],
        outcome: Annotated[
            str,
            typer.Option(
                "--outcome", metavar="done|failed", show_default=False, help="What it was."
            ),
        ],
        detail: Annotated[
            str,
            typer.Option(
                "--detail", metavar="TEXT", show_default=False, help="How you know; it is recorded."
            ),
        ],
    ) -> None:
        """Say what became of a step that waits for a human; it is never called again by itself.

        For a step that was called and whose outcome no system can show. Your word stands in the
        ledger under your name. Anything else that waits is mended where it is, and run again.
        """
        from api.rollback_json import rollback_json
        from api.rolling_back import find
        from api.rolling_back import resolve as resolved

        if outcome not in ("done", "failed"):
            raise MalformedError(f"{outcome!r} is neither done nor failed", where="--outcome")
        found = find(session.rooms, plan, actor=session.actor)
        word: Literal["done", "failed"] = "done" if outcome == "done" else "failed"
        done = resolved(session.rooms, found, step, word, detail=detail, actor=session.actor)
        _show(session, rollback_json(done), "")


def _register_status(rollback: typer.Typer) -> None:
    @command(
        rollback,
        "status",
        examples=["asof rollback status 2026-11-21-1", "asof rollback status 2026-11-21-1 -o json"],
        remote=True,
    )
    def status(session: Session, plan: PlanArgument) -> None:
        """How far a plan is: each step with its outcome and what was read back."""
        _show(session, _found(session, plan), "")


def _register_list(rollback: typer.Typer) -> None:
    @command(
        rollback,
        "list",
        examples=["asof rollback list", "asof rollback list -o csv > rollbacks.csv"],
        remote=True,
    )
    def list_(session: Session) -> None:
        """All plans, with their status."""
        session.output.records(
            _every(session),
            LIST_COLUMNS,
            empty="no rollback was planned yet\n"
            "try: asof rollback plan --pipeline NAME --stage NAME --to '2h ago'",
        )


def _found(session: Session, plan: str) -> dict[str, Any]:
    if session.remote is not None:
        from api.remote import evidence as there

        return there.find(session.remote.client, plan)
    from api.rollback_json import rollback_json
    from api.rolling_back import find

    return rollback_json(find(session.rooms, plan, actor=session.actor))


def _every(session: Session) -> Iterator[dict[str, Any]]:
    if session.remote is not None:
        from api.remote import evidence as there

        yield from there.every(session.remote.client)
        return
    from api.rollback_json import rollback_json
    from api.rolling_back import every

    yield from (rollback_json(found) for found in every(session.rooms, actor=session.actor))


def _approved(session: Session, plan: str, digest: str, reason: str | None) -> dict[str, Any]:
    if session.remote is not None:
        from api.remote import evidence as there

        return there.approve(session.remote.client, plan, digest, reason)
    from api.rollback_json import rollback_json
    from api.rolling_back import approve, find

    found = find(session.rooms, plan, actor=session.actor)
    done = approve(session.rooms, found, digest=digest, actor=session.actor, reason=reason)
    return rollback_json(done)


def _ran(session: Session, plan: str, settled: Callable[[int], None]) -> dict[str, Any]:
    if session.remote is not None:
        from api.remote import evidence as there

        return there.run(session.remote.client, plan, settled)
    from api.rollback_json import rollback_json
    from api.rolling_back import run

    return rollback_json(run(session.rooms, plan, actor=session.actor, settled=settled))


def _show(session: Session, answer: Mapping[str, Any], mode: str) -> None:
    """The plan as the answer of a command, and on the standard error what to do next."""
    session.output.answer(
        answer,
        lines=lambda ink: plan_lines(answer, mode, ink),
        rows=step_rows(answer),
        columns=STEP_COLUMNS,
    )
    hint = _next(answer)
    if hint:
        session.suggest(f"{hint}")


def _describe(session: Session, answer: Mapping[str, Any]) -> None:
    """The plan on the standard error, before a question about it."""
    for line in plan_lines(answer, "", session.remarks):
        session.say_painted(line)


def _next(answer: Mapping[str, Any]) -> str:
    plan = answer["rollback"]
    if plan is None:
        return ""
    if answer["status"] == "planned":
        return f"asof rollback {'approve' if answer['requires_approval'] else 'run'} {plan}"
    if answer["status"] in ("approved", "running", "parked"):
        return f"asof rollback run {plan}"
    if answer["status"] == "completed":
        return f"asof state -p {answer['pipeline']} -s {answer['stage']}"
    return f"asof rollback plan -p {answer['pipeline']} -s {answer['stage']} --to …"

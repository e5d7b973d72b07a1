"""What a rollback would do: from the state now to an earlier one, in order. Pure; nothing is
called.

::

    made = plan(state_now, state_then, slots=("model", "data/orders"))
    [step.slot for step in made.steps]          # ['data/orders', 'model']
    made.as_event().plan_digest                 # what approvals bind to

Order, from what others stand on to what stands on them: infrastructure, environment, data,
features, code and configuration, pipeline and policy, model; traffic last. Where the target's
definition says that a slot depends on another, that goes before. A slot that holds the same thing
in both states makes no step. Two slots that live in one checkout are two steps with one `target`.

Whether a target can still be restored is for a connector to say (`with_availability`); until then a
step says `unknown`, or `verify_only` where its record says that nobody can restore it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ledger.canonical import canonical_digest, format_time
from ledger.errors import MalformedError, NotFoundError

if TYPE_CHECKING:
    from ledger.events.rollbacks import RollbackPlanned
    from projections.state import Binding, State

__all__ = ["Plan", "PlannedStep", "TrafficStep", "plan"]

RANKS: Final = {
    kind: rank
    for rank, kinds in enumerate(
        (
            ("infrastructure",),
            ("environment",),
            ("dataset", "data_source", "schema"),
            ("feature", "preprocessing"),
            ("code", "config", "hyperparameters"),
            ("pipeline", "prompt", "policy"),
            ("model",),
        )
    )
    for kind in kinds
}
OTHER_KIND: Final = RANKS["pipeline"]
TRAFFIC: Final = "traffic"
DECLARED: Final = "declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One restore in one system; `to` is None where the slot becomes empty again."""

    id: str
    order: int
    slot: str
    system: str
    target: str | None
    from_: Binding | None
    to: Binding | None
    call: str
    class_: str
    restorable: str
    risk: str

    def as_json(self) -> dict[str, Any]:
        """The step as a plan's JSON holds it; `target` beside what the event keeps."""
        return self.as_event_data() | {"target": self.target}

    def as_event_data(self) -> dict[str, Any]:
        """The step as `rollback.planned` keeps it."""
        return {
            "id": self.id,
            "order": self.order,
            "slot": self.slot,
            "system": self.system,
            "from": None if self.from_ is None else self.from_.asset_version,
            "to": None if self.to is None else self.to.asset_version,
            "from_digest": None if self.from_ is None else self.from_.digest,
            "to_digest": None if self.to is None else self.to.digest,
            "call": self.call,
            "class": self.class_,
            "restorable": self.restorable,
            "risk": self.risk,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficStep:
    """The shares before and after; declared only, no system is called."""

    from_: Mapping[str, Any]
    to: Mapping[str, Any]
    mode: str

    def as_json(self) -> dict[str, Any]:
        return {"from": dict(self.from_), "to": dict(self.to), "mode": self.mode}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps in order, between two states."""

    now: State
    target: State
    slots: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    traffic: TrafficStep | None
    leads_to: str

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps and self.traffic is None

    @property
    def plan_digest(self) -> str:
        """The digest of everything that an approver decides about."""
        return self.as_event().plan_digest

    def with_availability(
        self, statuses: Mapping[str, str], classes: Mapping[str, str] | None = None
    ) -> Plan:
        """The plan with what connectors said, slot by slot: about the target, and of which class a
        restore is (`keyed`, `read_back`, `blind`). Another plan, another digest."""
        known = classes or {}
        steps = tuple(
            replace(
                step,
                restorable=statuses.get(step.slot, step.restorable),
                class_=known.get(step.slot, step.class_),
            )
            for step in self.steps
        )
        return replace(self, steps=steps)

    def as_event(
        self, *, requires_approval: bool = True, separate_approver: bool = False
    ) -> RollbackPlanned:
        """The plan as `rollback.planned/1`; its `plan_digest` covers all the rest of it."""
        from ledger.events.rollbacks import RollbackPlanned

        data = self._event_data() | {
            "requires_approval": requires_approval,
            "separate_approver": separate_approver,
        }
        unsigned = RollbackPlanned.model_validate(data | {"plan_digest": _NO_DIGEST})
        return RollbackPlanned.model_validate(data | {"plan_digest": unsigned.content_digest()})

    def _event_data(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "pipeline": self.now.pipeline,
            "stage": self.now.stage,
            "target": self._target(),
            "from_state_digest": self.now.state_digest,
            "basis": {
                "tree_size": self.now.basis.tree_size,
                "root": f"sha256:{self.now.basis.root.hex()}",
            },
            "steps": [_without_nulls(step.as_event_data()) for step in self.steps],
            "slots": list(self.slots),
        }
        return data if self.traffic is None else data | {"traffic": self.traffic.as_json()}

    def _target(self) -> dict[str, Any]:
        named = self.target.known_at or ""
        if named.startswith("index:"):
            return {"index": int(named.removeprefix("index:")), "state_digest": self.leads_to}
        return {"at": format_time(self.target.at), "state_digest": self.leads_to}

    def as_json(self) -> dict[str, Any]:
        """The plan for people and programs; the event's fields, unknown as None, and the
        warnings.
        """
        event = self._event_data()
        return event | {
            "plan_digest": self.plan_digest,
            "steps": [step.as_json() for step in self.steps],
            "traffic": None if self.traffic is None else self.traffic.as_json(),
            "warnings": list(self.target.warnings),
        }

    def summary(self) -> list[str]:
        """The plan in a few lines for people."""
        head = f"{self.now.pipeline} in {self.now.stage}, back to what was {self.target.mode}"
        if self.is_empty:
            return [head, "  nothing to do: what is asked for already holds"]
        lines = [
            f"  {step.order + 1}. {step.slot}: {step.call} ({step.restorable})"
            for step in self.steps
        ]
        if self.traffic is not None:
            shares = ", ".join(f"{percent} % {ref}" for ref, percent in self.traffic.to.items())
            lines.append(f"  {len(self.steps) + 1}. traffic: {shares or 'none'} (declared)")
        return [head, *lines, f"  plan {self.plan_digest}"]


_NO_DIGEST: Final = "sha256:" + "0" * 64


def _without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


def plan(now: State, target: State, *, slots: Collection[str] = ()) -> Plan:
    """The steps that lead from `now` to `target`, or to `target` in these slots only.

    `"traffic"` among the slots stands for the traffic; without it a narrowed plan leaves traffic
    alone. Raises MalformedError for states of two pipelines, NotFoundError for a slot that
    neither state has.
    """
    if (now.pipeline, now.stage) != (target.pipeline, target.stage):
        raise MalformedError("a rollback stays in one pipeline and stage; these states are of two")
    chosen = _chosen(now, target, slots)
    changed = [slot for slot in chosen if _content(now, slot) != _content(target, slot)]
    ordered = _in_order(changed, now, target)
    traffic = _traffic(now, target) if not slots or TRAFFIC in slots else None
    return Plan(
        now=now,
        target=target,
        slots=tuple(sorted(slots)),
        steps=tuple(_step(order, slot, now, target) for order, slot in enumerate(ordered)),
        traffic=traffic,
        leads_to=_leads_to(now, target, changed, traffic),
    )


def _chosen(now: State, target: State, slots: Collection[str]) -> list[str]:
    known = now.bindings.keys() | target.bindings.keys()
    unknown = sorted(set(slots) - known - {TRAFFIC})
    if unknown:
        raise NotFoundError(
            f"no slot {', '.join(unknown)} now or then; "
            f"there is: {', '.join(sorted(known)) or 'none'}"
        )
    return sorted(known & set(slots) if slots else known)


def _content(state: State, slot: str) -> tuple[str, str | None] | None:
    bound = state.bindings.get(slot)
    return None if bound is None else (bound.asset_version, bound.digest)


def _leads_to(
    now: State, target: State, changed: Collection[str], traffic: TrafficStep | None
) -> str:
    """The digest of the state that there is when all steps are done; the target's, if not
    narrowed.
    """
    there, then = now.content(), target.content()
    bindings = {slot: bound for slot, bound in there["bindings"].items() if slot not in changed}
    bindings |= {slot: bound for slot, bound in then["bindings"].items() if slot in changed}
    shares = there["traffic"] if traffic is None else dict(traffic.to)
    return canonical_digest(there | {"bindings": bindings, "traffic": shares})


def _traffic(now: State, target: State) -> TrafficStep | None:
    if now.traffic == target.traffic:
        return None
    return TrafficStep(from_=now.traffic, to=target.traffic, mode=target.traffic_mode or "live")


# --- order --------------------------------------------------------------------------------------


def _in_order(slots: Collection[str], now: State, target: State) -> list[str]:
    """By rank of kind, then name; but never before a slot that it depends on, directly or through
    others.
    """
    waits = {slot: _needs(slot, slots, target) for slot in slots}
    ready = [(_rank(slot, now, target), slot) for slot in slots if not waits[slot]]
    heapq.heapify(ready)
    ordered: list[str] = []
    while ready:
        _, slot = heapq.heappop(ready)
        ordered.append(slot)
        for other in [other for other, needs in waits.items() if slot in needs]:
            waits[other] -= {slot}
            if not waits[other]:
                heapq.heappush(ready, (_rank(other, now, target), other))
    left = sorted(set(slots) - set(ordered), key=lambda slot: (_rank(slot, now, target), slot))
    return ordered + left  # a circle, which events refuse: by rank


def _needs(slot: str, among: Collection[str], target: State) -> set[str]:
    depends = {str(item.get("slot")): item.get("depends_on") or () for item in target.slots}
    found: set[str] = set()
    todo = list(depends.get(slot, ()))
    while todo:
        other = todo.pop()
        if other not in found:
            found.add(other)
            todo += depends.get(other, ())
    return (found & set(among)) - {slot}


def _rank(slot: str, now: State, target: State) -> int:
    bound = target.bindings.get(slot) or now.bindings.get(slot)
    return RANKS.get(bound.kind or "", OTHER_KIND) if bound is not None else OTHER_KIND


# --- one step -----------------------------------------------------------------------------------


def _step(order: int, slot: str, now: State, target: State) -> PlannedStep:
    held, wanted = now.bindings.get(slot), target.bindings.get(slot)
    system = DECLARED if wanted is None else _system(wanted)
    return PlannedStep(
        id=f"{order}-{slot}",
        order=order,
        slot=slot,
        system=system,
        target=None if wanted is None else wanted.location,
        from_=held,
        to=wanted,
        call=_call(slot, system, wanted),
        class_="read_back" if wanted is None or wanted.digest is not None else "blind",
        restorable=_restorable(wanted),
        risk=_risk(held, wanted, target),
    )


def _system(bound: Binding) -> str:
    system = None if bound.source is None else bound.source.get("system")
    return system if isinstance(system, str) and system else DECLARED


def _call(slot: str, system: str, wanted: Binding | None) -> str:
    if wanted is None:
        return f"take the binding of {slot} away; no system is called"
    if wanted.restorable == "verify_only":
        return f"compare what {system} shows with {wanted.asset_version}; nothing is changed"
    place = f" at {wanted.location}" if wanted.location else ""
    return f"{system}: restore {wanted.asset_version}{_reference(wanted)}{place}"


def _reference(bound: Binding) -> str:
    ref = None if bound.source is None else bound.source.get("ref")
    return f" ({ref})" if ref else ""


def _restorable(wanted: Binding | None) -> str:
    if wanted is None:
        return "available"
    return "verify_only" if wanted.restorable == "verify_only" else "unknown"


def _risk(held: Binding | None, wanted: Binding | None, target: State) -> str:
    if wanted is None:
        return "the slot is empty afterwards, as it was then"
    told = [text for text in target.warnings if wanted.asset_version in text.split()]
    if wanted.digest is None:
        told.append("its digest is not known, so it could never be verified")
    if wanted.restorable == "verify_only":
        told.append("it must be restored by hand, should it differ")
    elif wanted.restorable == "recreatable":
        told.append("it is made again from its source, which may give other bytes")
    elif held is not None and wanted.location:
        told.append(f"overwrites what is at {wanted.location}")
    return "; ".join(told) or "nothing is overwritten"

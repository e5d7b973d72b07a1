"""A world to roll back: one connector that simulates a system of each class, and a plan over it.

The systems really change (`World.content`) and count what is done to them (`World.effects`), so
that "at most once" is counted, not believed. Each call can go wrong in the ways of `FAULTS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from connectors.claim import Claim
from connectors.connector import (
    AssetVersion,
    Availability,
    Connector,
    Idempotency,
    Message,
    Observation,
    Outcome,
    RestoreStep,
    drift,
)
from connectors.saga import Saga
from ledger.errors import NotFoundError
from ledger.events import draft
from ledger.events.rollbacks import RollbackPlanned, RollbackTarget
from ledger.lifecycle.rollback import Rollback
from ledger.lifecycle.rollbacks import Rollbacks
from tests.support.empty_ledgers import Opened

PIPELINE, STAGE = "demand-forecast", "production"
REQUESTER, APPROVER, EXECUTOR = "user:mia", "user:noah", "service:asof"
HUMAN = "sha256:" + "f" * 64

Fault = Literal["none", "fail-not-applied", "fail-but-applied", "timeout", "wrong-content", "human"]
FAULTS: tuple[Fault, ...] = (
    "none",
    "fail-not-applied",
    "fail-but-applied",
    "timeout",
    "wrong-content",
    "human",
)
CLASSES: tuple[Idempotency, ...] = ("keyed", "read_back", "blind")


class Died(BaseException):
    """The process was killed here: nothing after it runs, and nobody may catch it."""


class Crashes:
    """Kills at the n-th point that is passed, for each n in turn; counts the points."""

    def __init__(self, *at: int) -> None:
        self._at = list(at)
        self.passed = 0

    def __call__(self, _point: str) -> None:
        self.passed += 1
        if self._at and self.passed == self._at[0]:
            self._at.pop(0)
            self.passed = 0
            raise Died


def digest_of(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


@dataclass
class World:
    """What is there, what was done to it, and by whom."""

    content: dict[str, str] = field(default_factory=dict)
    effects: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    overwritten: list[str] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    point: Callable[[str], None] = lambda _point: None

    def apply(self, slot: str, digest: str) -> None:
        if self.content.get(slot) == HUMAN:
            self.overwritten.append(slot)
        self.content[slot] = digest
        self.effects[slot] += 1


class Simulated:
    """A system of one class: `keyed` does a key once, `read_back` shows, `blind` does neither."""

    def __init__(self, world: World, idempotency: Idempotency) -> None:
        self.world = world
        self.idempotency: Idempotency = idempotency
        self.system: str = f"sim-{idempotency}"

    def observe(
        self, target: str, *, kind: str | None = None, name: str | None = None
    ) -> list[Observation]:
        raise NotFoundError(f"{target} is simulated")

    def translate(self, message: Message) -> list[tuple[str, dict[str, Any]]]:
        return []

    def available(self, version: AssetVersion) -> Availability:
        return Availability(status="available")

    def restore(self, step: RestoreStep) -> Outcome:
        """Does what the world's fault for this slot says; a human may have been faster."""
        world, slot, key = self.world, step.slot, step.id
        fault = world.faults.pop(slot, "none")
        world.calls[slot] += 1
        if self.idempotency == "keyed" and key in world.keys:
            return Outcome(status="already")
        if fault == "human":
            world.content[slot] = HUMAN
        if self.idempotency != "blind":
            if world.content.get(slot) == step.target.digest:
                return Outcome(status="already")
            if reason := drift(step, world.content.get(slot)):
                return Outcome(status="refused", detail=reason)
        return self._act(step, fault)

    def _act(self, step: RestoreStep, fault: Fault) -> Outcome:
        world = self.world
        world.point("inside-before-effect")
        if fault == "fail-not-applied":
            return Outcome(status="failed", detail="503")
        wrong = digest_of(f"wrong {step.slot}")
        world.apply(step.slot, wrong if fault == "wrong-content" else step.target.digest)
        world.keys.add(step.id)
        world.point("inside-after-effect")
        if fault == "timeout":
            raise TimeoutError("no answer in 30 s")
        if fault == "fail-but-applied":
            return Outcome(status="failed", detail="500 after the fact")
        return Outcome(status="done")

    def read_back(self, step: RestoreStep) -> Observation:
        seen = None if self.idempotency == "blind" else self.world.content.get(step.slot)
        return Observation(system=self.system, target=step.slot, asset=None, digest=seen)


class Unanswered(Simulated):
    """As a system that never takes effect and never answers, until `patience` calls were made."""

    patience = 1

    def _act(self, step: RestoreStep, fault: Fault) -> Outcome:
        if self.world.calls[step.slot] <= self.patience:
            return Outcome(status="unknown", detail="no answer")
        return super()._act(step, fault)


@contextmanager
def unclaimed(_rollback_id: str) -> Iterator[None]:
    """No lock: the stream's version alone decides."""
    yield


@dataclass
class Story:
    """A ledger in which every slot holds `new` and held `old`, and a plan back to `old`."""

    ledger: Opened
    world: World
    classes: dict[str, Idempotency]
    rollback_id: str = "7"
    connectors: dict[str, Connector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for idempotency in CLASSES:
            connector = Simulated(self.world, idempotency)
            self.connectors.setdefault(connector.system, connector)

    @property
    def slots(self) -> list[str]:
        return list(self.classes)

    def connector(self, system: str) -> Connector:
        if system not in self.connectors:
            raise NotFoundError(f"no connector for {system}")
        return self.connectors[system]

    def rollbacks(self) -> Rollbacks:
        return Rollbacks(
            self.ledger.writer, self.ledger.reader, actor=EXECUTOR, clock=self.ledger.clock
        )

    def record(self, type_: str, data: dict[str, Any], actor: str = "user:mia") -> None:
        now = self.ledger.clock()
        self.ledger.writer.append([draft((type_, data), actor=actor, now=now)])

    def begin(self) -> None:
        """Both versions of every slot are recorded, bound one after the other; new is there."""
        for slot, idempotency in self.classes.items():
            for version in ("old", "new"):
                self.record("asset.version.recorded/1", asset(slot, version, idempotency))
                self.bind(slot, version)
            self.world.content[slot] = digest_of(f"new {slot}")

    def bind(self, slot: str, version: str) -> None:
        self.record(
            "binding.changed/1",
            {
                "pipeline": PIPELINE,
                "stage": STAGE,
                "slot": slot,
                "asset_version": f"model/{slot}@{version}",
            },
        )

    def plan(self, **changes: Any) -> RollbackPlanned:
        """The plan back to `old`; `changes` replace fields, and the digest follows."""
        size = self.ledger.reader.size()
        fields: dict[str, Any] = {
            "plan_digest": digest_of("placeholder"),
            "pipeline": PIPELINE,
            "stage": STAGE,
            "target": {"index": 0, "state_digest": digest_of("the old state")},
            "from_state_digest": digest_of("the new state"),
            "basis": {"tree_size": size, "root": digest_of("root")},
            "steps": [
                plan_step(number, slot, idempotency)
                for number, (slot, idempotency) in enumerate(self.classes.items())
            ],
            **changes,
        }
        placeholder = RollbackPlanned.model_validate(fields)
        return RollbackPlanned.model_validate(
            {**fields, "plan_digest": placeholder.content_digest()}
        )

    def request(self, **changes: Any) -> Rollback:
        """Requested and planned, not yet approved."""
        rollback = Rollback.requested(
            self.rollback_id,
            pipeline=PIPELINE,
            stage=STAGE,
            target=RollbackTarget(index=0),
            actor=REQUESTER,
        )
        rollback.propose(self.plan(**changes), EXECUTOR)
        self.rollbacks().store(rollback)
        return rollback

    def approve(self) -> None:
        rollbacks = self.rollbacks()
        rollback = rollbacks.get(self.rollback_id)
        rollback.approve(rollback.plan.plan_digest, APPROVER)
        rollbacks.store(rollback)

    def ready(self) -> Story:
        self.begin()
        self.request()
        self.approve()
        return self

    def saga(
        self, point: Callable[[str], None] = lambda _point: None, claim: Claim = unclaimed
    ) -> Saga:
        return Saga(
            rollbacks=self.rollbacks(),
            connectors=self.connector,
            actor=EXECUTOR,
            clock=self.ledger.clock,
            claim=claim,
            point=point,
        )

    def run(self, point: Callable[[str], None] = lambda _point: None) -> Rollback:
        return self.saga(point).run(self.rollback_id)

    def run_through(self, crashes: Crashes) -> Rollback:
        """Runs, dies where it must, and runs again in a new executor, until one lives to answer."""
        while True:
            self.world.point = crashes
            try:
                return self.run(crashes)
            except Died:
                continue

    def bound(self) -> dict[str, str | None]:
        """The slots as the pipeline's stream declares them, folded naively."""
        bound: dict[str, str | None] = {}
        for record in self.ledger.reader.stream(f"pipeline/{PIPELINE}@{STAGE}"):
            data = record.data or {}
            if record.type == "binding.changed/1":
                bound[data["slot"]] = data["asset_version"]
            if record.type == "binding.removed/1":
                bound[data["slot"]] = None
        return bound

    def types(self) -> list[str]:
        """What the rollback's stream tells, in short."""
        stream = f"rollback/{self.rollback_id}"
        return [record.type for record in self.ledger.reader.stream(stream)]


def asset(slot: str, version: str, idempotency: str) -> dict[str, Any]:
    return {
        "kind": "model",
        "name": slot,
        "version": version,
        "digest": digest_of(f"{version} {slot}"),
        "location": f"sim://{slot}",
        "source": {"system": f"sim-{idempotency}", "ref": f"{slot}@{version}"},
        "restorable": "restorable",
    }


def plan_step(number: int, slot: str, idempotency: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"{number}-{slot}",
        "order": number,
        "slot": slot,
        "system": f"sim-{idempotency}",
        "from": f"model/{slot}@new",
        "to": f"model/{slot}@old",
        "from_digest": digest_of(f"new {slot}"),
        "to_digest": digest_of(f"old {slot}"),
        "class": idempotency,
        "restorable": "available",
        **changes,
    }


def classes_of(*idempotencies: Idempotency) -> dict[str, Idempotency]:
    """Slots `a`, `b`, … of these classes, in this order."""
    return {chr(ord("a") + number): one for number, one in enumerate(idempotencies)}

"""Random but valid histories of a ledger, written through the real writer into a memory store.

A history is a list of `Step`s: what is appended together, and how long after the step before. The
alphabets are tiny and the clock has whole seconds, so that ties, late arrivals, repeated versions
and events about the same thing in the wrong order are the rule and not the exception::

    @given(histories())
    def test_something(steps):
        with written(steps) as reader:
            ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from ledger.canonical import format_json, format_time
from ledger.chain import EARLIEST
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.draft import Draft
from ledger.guard import MemoryGuard
from ledger.hashing import EMPTY_ROOT
from ledger.note import Signer
from ledger.reader import Reader
from ledger.store import Head
from ledger.stores.memory import MemoryStore
from ledger.writer import Writer

SECOND = 1_000_000
START = 1_795_000_000 * SECOND
FAR = 400
"""Seconds by which an event may arrive late: more than a history lasts."""

PIPELINES = (("p", "live"), ("p", "test"), ("q", "live"))
SLOTS = ("model", "model", "data/a")
REFS = ("model/m@1", "model/m@2", "dataset/d/e@1", "dataset/d/e@2", "feature/f@1")
ACTORS = ("user:ann", "service:ci", "agent:a1")


@dataclass(frozen=True)
class Step:
    """One batch: `gap` seconds after the one before; `events` as (type, stream, actor, data)."""

    gap: int
    events: tuple[tuple[str, str, str, dict[str, Any]], ...]
    late: tuple[int | None, ...] = field(default=())


def split(ref: str) -> tuple[str, str, str]:
    asset, _, version = ref.rpartition("@")
    kind, _, name = asset.partition("/")
    return kind, name, version


# --- events ------------------------------------------------------------------------------------

scopes = st.sampled_from(PIPELINES[:1] * 6 + PIPELINES[1:])
refs = st.sampled_from(REFS[:2] * 2 + REFS)
ids = st.sampled_from(("1", "1", "2"))
about = st.sampled_from(
    (
        {},
        {"pipeline": "p"},
        {"pipeline": "p", "stage": "live"},
        {"stage": "live"},
        {"pipeline": "q"},
    )
)


def _of_pipeline(type_name: str, scope: tuple[str, str], **data: Any) -> tuple[str, str, dict]:
    pipeline, stage = scope
    return (
        type_name,
        f"pipeline/{pipeline}@{stage}",
        {"pipeline": pipeline, "stage": stage, **data},
    )


def _recorded(ref: str, digest: str, parents: list[str]) -> tuple[str, str, dict]:
    kind, name, version = split(ref)
    return (
        "asset.version.recorded/1",
        f"asset/{kind}/{name}",
        {
            "kind": kind,
            "name": name,
            "version": version,
            "digest": "sha256:" + digest * 64,
            "parents": [parent for parent in parents if parent != ref],
            "metadata": {"rows": int(digest, 16)},
        },
    )


def _withdrawn(ref: str) -> tuple[str, str, dict]:
    kind, name, version = split(ref)
    return "asset.version.withdrawn/1", f"asset/{kind}/{name}", {"version": version, "why": "wrong"}


_SHARES = ({}, {"model/m@1": 100}, {"model/m@1": 90.5, "model/m@2": 9.5}, {"model/m@2": 100})
_DEFINED = (
    [{"slot": "model", "kind": "model"}, {"slot": "data/a", "kind": "dataset", "required": True}],
    [{"slot": "model", "kind": "model", "required": False}, {"slot": "env", "kind": "environment"}],
)

slots = st.sampled_from(SLOTS)
bindings = st.builds(
    lambda scope, slot, ref, more: _of_pipeline(
        "binding.changed/1", scope, slot=slot, asset_version=ref, **more
    ),
    scopes,
    slots,
    refs,
    st.sampled_from(
        ({}, {"reason": "better"}, {"approval": "approval/9"}, {"caused_by": [1, 2, 3, 4]})
    ),
)
removals = st.builds(
    lambda scope, slot: _of_pipeline("binding.removed/1", scope, slot=slot), scopes, slots
)
others = st.one_of(
    removals,
    st.builds(
        lambda scope, shares, mode: _of_pipeline(
            "traffic.changed/1", scope, shares=shares, mode=mode
        ),
        scopes,
        st.sampled_from(_SHARES),
        st.sampled_from(("live", "canary", "shadow")),
    ),
    st.builds(
        lambda scope, slots: _of_pipeline("pipeline.defined/1", scope, slots=slots),
        scopes,
        st.sampled_from(_DEFINED),
    ),
    st.builds(
        lambda scope, run, inputs: (
            "run.started/1",
            f"run/{run}",
            {"run": run, "kind": "training", "pipeline": scope[0], "stage": scope[1]}
            | {"inputs": inputs},
        ),
        scopes,
        ids,
        st.lists(refs, max_size=2, unique=True),
    ),
    st.builds(
        lambda run, outputs: (
            "run.finished/1",
            f"run/{run}",
            {"status": "succeeded", "outputs": outputs},
        ),
        ids,
        st.lists(refs, max_size=2, unique=True),
    ),
    st.builds(
        lambda name, where: (
            "incident.opened/1",
            f"incident/{name}",
            {"severity": "major", "summary": "odd", "aware_at": format_time(START), **where},
        ),
        ids,
        about,
    ),
    st.builds(lambda name: ("incident.closed/1", f"incident/{name}", {"cause": "known"}), ids),
    st.builds(
        lambda name, where: (
            "approval.requested/1",
            f"approval/{name}",
            {"subject_digest": "sha256:" + "0" * 64, "meaning": "reviewed", **where},
        ),
        ids,
        about,
    ),
    st.builds(
        lambda name, decision: (
            "approval.decided/1",
            f"approval/{name}",
            {"decision": decision, "meaning": "reviewed"},
        ),
        ids,
        st.sampled_from(("approved", "rejected")),
    ),
    st.builds(
        lambda name, end: (
            f"approval.{end}/1",
            f"approval/{name}",
            {"subject_digest": "sha256:" + "0" * 64},
        ),
        ids,
        st.sampled_from(("expired", "voided")),
    ),
    st.just(("note.added/1", "note/x", {"text": "nothing to do with it"})),
)
versions = st.one_of(
    st.builds(_recorded, refs, st.sampled_from("ab"), st.lists(refs, max_size=2, unique=True)),
    st.builds(_withdrawn, refs),
)
events = st.integers(0, 9).flatmap(lambda n: bindings if n < 4 else versions if n < 6 else others)

# How late: not stated, the same instant, seconds in the past, up to five minutes ahead.
lateness = st.one_of(st.none(), st.integers(0, 6), st.integers(0, FAR), st.integers(-300, -1))


@st.composite
def steps(draw: st.DrawFn) -> Step:
    event = st.tuples(events, st.sampled_from(ACTORS), lateness)
    drawn = draw(st.lists(event, min_size=1, max_size=3))
    return Step(
        gap=draw(st.sampled_from((0, 0, 1, 2, 60))),
        events=tuple((kind, stream, actor, data) for (kind, stream, data), actor, _ in drawn),
        late=tuple(late for *_, late in drawn),
    )


def histories(*, max_steps: int = 6) -> st.SearchStrategy[list[Step]]:
    """Histories of at most three events a step; shrinks towards few plain events."""
    return st.lists(steps(), min_size=max_steps // 3, max_size=max_steps)


# --- writing -----------------------------------------------------------------------------------


@contextmanager
def written(history: Sequence[Step], *, origin: str = "test.example/h") -> Iterator[Reader]:
    """A ledger that holds this history after its entry 0."""
    store, signer = MemoryStore(), Signer.from_seed(origin, b"\x07" * 32)
    with ledger_of(store, signer) as write:
        write(START, [draft("note.added/1", "note/first", "user:ann", {"text": "opened"})])
        now = START
        for step in history:
            now += step.gap * SECOND
            write(now, drafts_of(step, now))
    try:
        yield Reader(store, signer.vkey)
    finally:
        store.close()


def drafts_of(step: Step, now: int) -> list[Draft]:
    """The drafts of a step, with the effective times that its lateness means at `now`."""
    late = step.late or (None,) * len(step.events)
    return [
        draft(kind, stream, actor, data, None if by is None else now - by * SECOND)
        for (kind, stream, actor, data), by in zip(step.events, late, strict=True)
    ]


def draft(
    kind: str, stream: str, actor: str, data: dict[str, Any], effective_at: int | None = None
) -> Draft:
    stated = {} if effective_at is None else {"effective_at": format_time(effective_at)}
    return Draft(type=kind, stream=stream, actor=actor, payload=format_json(data | stated))


@contextmanager
def ledger_of(store: Any, signer: Signer) -> Iterator[Any]:
    """`write(now, drafts)` through the real writer, with a clock that says `now`."""
    times = [START]
    with open_writer(store, signer, lambda: times[0]) as writer:

        def write(now: int, drafts: list[Draft]) -> None:
            times[0] = now
            if drafts:
                writer.append(drafts)

        yield write


@contextmanager
def open_writer(store: Any, signer: Signer, clock: Any) -> Iterator[Writer]:
    """A writer over a new ledger in `store`."""
    begin(store, signer)
    with Writer(store, signer, guard=MemoryGuard(), clock=clock) as writer:
        yield writer


def begin(store: Any, signer: Signer) -> None:
    """An empty ledger."""
    empty = Checkpoint(signer.name, 0, EMPTY_ROOT)
    store.create(
        Head(
            origin=signer.name,
            size=0,
            root=EMPTY_ROOT,
            last_leaf=EMPTY_ROOT,
            recorded_at=EARLIEST,
            edge=(),
            checkpoint=sign_checkpoint(empty, signer),
        )
    )


def withhold(reader: Reader, index: int) -> None:
    """Take the payload of one entry away, as an erasure does."""
    rows = reader._store._rows  # type: ignore[attr-defined]
    rows[index] = rows[index]._replace(salt=None, payload=None)

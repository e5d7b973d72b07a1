"""The witness against a reference that keeps all leaves: the same answers, and one history.

The histories share a beginning, go apart, and are all signed by the log: what a log with two faces
shows to a witness. The reference knows nothing of proofs: a tree continues another if its leaves
do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from api.service.witnessing.witness import RefusalError, Witness, request_body
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.cosignature import Cosigner, add_lines, check_cosignatures
from ledger.errors import StoreError
from ledger.note import Signer
from tests.support import reference_tree as tree

LOG = Signer.from_seed("ledger.example.com/acme", b"\x01" * 32)
COSIGNER = Cosigner("w.example.com/w", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
SIZES = st.integers(0, 8)
TRUNK = tree.leaves(9)
HISTORIES = [
    TRUNK,
    [*TRUNK[:3], *(tree.node(leaf, leaf) for leaf in TRUNK[3:])],
    [tree.node(leaf, TRUNK[0]) for leaf in TRUNK],
]


@dataclass(frozen=True)
class Asked:
    """A request: a tree of one history, with the proof from a size of another."""

    history: int
    size: int
    old: int | None
    proof_of: int
    spoiled: bool


@dataclass
class Reference:
    """The specification's words, over leaves."""

    leaves: list[bytes] = field(default_factory=list)
    seen: bool = False
    forked: bool = False
    time: int = 0

    def answer(self, asked: Asked, old: int, proof: list[bytes], now: int) -> int:
        new = HISTORIES[asked.history][: asked.size]
        if old > len(new):
            return 400
        fork = self.seen and len(new) == len(self.leaves) and new != self.leaves
        self.forked = self.forked or fork
        if old != len(self.leaves):
            return 409
        if fork:
            return 422
        wanted = tree.proof(old, new) if 0 < old < len(new) else []
        if proof != wanted or new[:old] != self.leaves:
            return 422
        if now < self.time - 60:
            return 503
        self.leaves, self.seen, self.time = new, True, max(now, self.time)
        return 200


ASKED = st.builds(
    Asked,
    history=st.sampled_from([0, 0, 0, 1, 2]),
    size=SIZES,
    old=st.none() | SIZES,
    proof_of=st.sampled_from([0, 0, 0, 1, 2]),
    spoiled=st.sampled_from([False, False, False, True]),
)
ONWARD = st.builds(
    Asked,
    history=st.just(0),
    size=SIZES,
    old=st.none(),
    proof_of=st.just(0),
    spoiled=st.just(False),
)
CLOCK = st.sampled_from([-100, -30, -1, 1, 50])
STEPS = st.lists(ASKED | ONWARD | st.just("again") | CLOCK, min_size=8, max_size=30)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


def opened(path: Path, clock: list[int], alarms: list[str]) -> Witness:
    return Witness(
        path,
        COSIGNER,
        {LOG.name: LOG.vkey},
        alarm=lambda origin, what: alarms.append(what),
        clock=lambda: float(clock[0]),
    )


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_the_witness_answers_as_the_reference_does(steps: list[Asked | str | int]) -> None:
    with folder() as place:
        run(place / "witness.db", steps)


def run(path: Path, steps: list[Asked | str | int]) -> None:
    """All steps; whatever was cosigned is one history, and its times do not go back."""
    clock, alarms, reference = [1_795_000_000], list[str](), Reference()
    cosigned: list[tuple[int, list[bytes]]] = []
    witness = opened(path, clock, alarms)
    try:
        for step in steps:
            if isinstance(step, int):
                clock[0] += step
            elif isinstance(step, str):
                witness.close()
                alarms.clear()
                witness = opened(path, clock, alarms)
            else:
                told = ask(witness, reference, step, clock[0])
                if told is not None:
                    cosigned.append((told, HISTORIES[step.history][: step.size]))
            assert witness.seen() == ({LOG.name: len(reference.leaves)} if reference.seen else {})
            assert len(alarms) == len(witness.forks()) == int(reference.forked)
    finally:
        witness.close()
    for (time, one), (later, another) in pairwise(cosigned):
        assert time <= later and another[: len(one)] == one


def ask(witness: Witness, reference: Reference, asked: Asked, now: int) -> int | None:
    """One request; the time of the cosignature, or None. Asserts that both answer the same."""
    old = len(reference.leaves) if asked.old is None else asked.old
    of = HISTORIES[asked.proof_of][: asked.size]
    proof = tree.proof(old, of) if 0 < old < len(of) else []
    if asked.spoiled:
        proof = [*proof[1:], b"s" * 32]
    new = HISTORIES[asked.history][: asked.size]
    note = sign_checkpoint(Checkpoint(LOG.name, len(new), tree.root(new)), LOG)
    expected, had = reference.answer(asked, old, proof, now), len(reference.leaves)
    try:
        line = witness.add_checkpoint(request_body(old, proof, note))
    except RefusalError as refusal:
        assert refusal.status == expected, refusal.detail
        assert refusal.size == (had if expected == 409 else None)
        return None
    except StoreError:
        assert expected == 503
        return None
    assert expected == 200
    (held,) = check_cosignatures(add_lines(note, line), [COSIGNER.key])
    assert held.time == reference.time
    return held.time


def test_the_reference_tells_the_histories_apart() -> None:
    """Control: each answer is reached, and the walk by which a fork would be cosigned ends."""
    with folder() as place:
        fork = Asked(history=1, size=8, old=None, proof_of=1, spoiled=False)
        run(place / "a.db", [Asked(0, 8, None, 0, False), fork, "again", fork])
    reference = Reference()
    answers = [
        reference.answer(Asked(0, 8, 0, 0, False), 0, [], 1_000),
        reference.answer(Asked(1, 8, 8, 1, False), 8, [], 1_000),
        reference.answer(Asked(0, 8, 3, 0, False), 3, [], 1_000),
        reference.answer(Asked(0, 3, 8, 0, False), 8, [], 1_000),
        reference.answer(Asked(0, 8, 8, 0, False), 8, [], 900),
    ]
    assert answers == [200, 422, 409, 400, 503] and reference.forked

"""What projections answer, a bundle proves: three folds, written apart, give one state.

Random histories with late arrivals and withdrawals; every answer goes into a bundle, and both
verifiers recompute it from the payloads inside.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.bundle import bundle_state, check_bundle
from ledger.errors import NotFoundError
from ledger.note import format_vkey
from ledger.reader import Reader
from projections.at import Moment
from projections.index import Index
from projections.state import state
from tests.support.claims import verifier
from tests.support.histories import PIPELINES, histories, written

FAR = 10**16


def moments(reader: Reader) -> list[Moment]:
    """Instants at which something happens, and places right after entries."""
    records = list(reader.entries())
    instants = {record.effective_at for record in records} | {r.recorded_at for r in records}
    places = [Moment(text="", instant=r.recorded_at, size=r.index + 1) for r in records]
    return [Moment(text="", instant=at) for at in sorted(instants)] + places


def proved(reader: Reader, index: Index, scope: tuple[str, str], **when: Moment | None) -> str:
    """The verdict on a bundle of the answer; both verifiers must give it."""
    try:
        answer = state(reader, index, *scope, now=FAR, **when)
    except NotFoundError:
        return "VALID"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.zip"
        bundle_state(path, reader, answer.as_json(), made_at=FAR, generator="asof test")
        data = path.read_bytes()
    ours = check_bundle(data, vkey=reader.vkey)
    theirs = verifier().check(data, format_vkey(reader.vkey))
    assert ours.result.value == theirs.result
    assert not ours.findings, (answer.as_json(), [str(found) for found in ours.findings])
    assert ours.lacking == ["who made this bundle: its manifest is not signed"]
    return ours.result.value


@settings(max_examples=25, deadline=None)
@given(histories(max_steps=6), st.sampled_from(PIPELINES), st.data())
def test_every_answer_is_proved(history: list, scope: tuple[str, str], data: st.DataObject) -> None:
    with written(history) as reader, closing(Index.open(None, reader)) as index:
        index.catch_up()
        choice = st.none() | st.sampled_from(moments(reader))
        for _ in range(4):
            at, known_at = data.draw(choice), data.draw(choice)
            proved(reader, index, scope, at=at, known_at=known_at)

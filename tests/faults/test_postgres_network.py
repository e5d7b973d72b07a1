"""The connection is cut at each byte of an append, in both directions; then the key is asked.

An append to a new stream is two round trips: where does the stream stand, and write. Cut in the
first, nothing was written and that is what the program is told. Cut in the second, it is told that
nobody knows, and the same key gives the one answer there is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.errors import StoreError, UnknownOutcomeError, UnreachableError
from ledger.opening import Ledger, open_ledger
from ledger.writer import Appended
from scripts.clusters import Cluster, Server
from tests.support.ledgers import check_whole, note
from tests.support.postgres_ledgers import begin, check_valid
from tests.support.proxy import TO_CLIENT, TO_SERVER, Direction, Proxy


@pytest.fixture
def proxy(postgres: Server) -> Iterator[Proxy]:
    if not isinstance(postgres, Cluster):
        pytest.skip("TEST_PG_DSN names a server whose port this test does not know")
    with Proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def ledger(pg_url: str, proxy: Proxy, postgres: Cluster, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that is reached through the proxy and has appended before."""
    begin(pg_url, tmp_path / "keys")
    through = pg_url.replace(f":{postgres.port}/", f":{proxy.port}/")
    with open_ledger(through, keys=tmp_path / "keys") as ledger:
        # Waking readers is traffic of its own, at times of its own.
        ledger.store.tend = lambda: None  # type: ignore[method-assign]
        calm(ledger)
        yield ledger
        proxy.mend()


def calm(ledger: Ledger) -> None:
    """Appends until the next one costs what each does: the connection is there, the statements are
    prepared, the head is trusted again."""
    for _ in range(3):
        ledger.writer.append([note("calm")], idempotency_key=os.urandom(6).hex())


def bytes_of_an_append(ledger: Ledger, proxy: Proxy, direction: Direction) -> int:
    """How many go one way for one append."""
    before = proxy.forwarded[direction]
    append_at(ledger, 0)
    return proxy.forwarded[direction] - before


def append_at(ledger: Ledger, place: int) -> Appended:
    key = f"cut {place:08}"
    return ledger.writer.append([note(key, f"note/{place:08}")], idempotency_key=key)


@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("direction", [TO_CLIENT, TO_SERVER])
def test_cut_at_every_byte(
    ledger: Ledger, proxy: Proxy, pg_url: str, tmp_path: Path, direction: Direction, every: int
) -> None:
    total = bytes_of_an_append(ledger, proxy, direction)
    places = [*range(0, total, every), total - 1]
    told: Counter[tuple[str, bool]] = Counter()
    for place in places:
        size = ledger.reader.size()
        proxy.cut(direction, after=place, reset=place % 2 == 1)
        answer = told_of(lambda: append_at(ledger, place + 1))  # noqa: B023
        written = ledger.reader.size() > size
        told[answer, written] += 1
        assert append_at(ledger, place + 1).repeated == written
        assert ledger.reader.size() == size + 1
        calm(ledger)
    assert proxy.cuts == len(places)
    assert told["it failed", False] > 0
    if direction == TO_CLIENT:  # what is replied to a commit says that it was made
        assert told.keys() == {("it failed", False), ("nobody knows", True)}, told
    else:  # what did not arrive whole was not made
        assert told.keys() == {("it failed", False), ("nobody knows", False)}, told
    check_whole(ledger.store, ledger.reader)
    check_valid(pg_url, tmp_path / "keys")


def told_of(append: Callable[[], Appended]) -> str:
    try:
        append()
    except UnknownOutcomeError as exc:
        assert "same idempotency key" in str(exc)
        return "nobody knows"
    except UnreachableError:
        return "it failed"
    return "done"


def test_a_reply_that_is_late_is_waited_for(ledger: Ledger, proxy: Proxy) -> None:
    """The negative control: a network that is slow and whole gives no unknown outcome."""
    proxy.delay = 0.05
    done = ledger.writer.append([note("late")], idempotency_key="late")
    assert not done.repeated and proxy.cuts == 0


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(
    ledger: Ledger, proxy: Proxy
) -> None:
    """The program asks in time; what was held arrives at last, and is there once."""
    proxy.hold()
    future = ledger.writer.submit([note("held")], idempotency_key="held")
    with pytest.raises(TimeoutError):
        future.result(0.5)
    proxy.drop()
    with pytest.raises(StoreError) as told:
        future.result(30)
    assert isinstance(told.value, UnknownOutcomeError | UnreachableError)
    proxy.mend()
    done = ledger.writer.append([note("held")], idempotency_key="held")
    assert ledger.reader.entry(done.first_index).data == {"text": "held"}


def test_a_server_that_does_not_read_on_is_left_in_the_middle_of_a_word(
    ledger: Ledger, proxy: Proxy
) -> None:
    """More than the network holds: it is being sent, and nobody knows how far it came."""
    many = [note("x" * (1 << 19)) for _ in range(40)]
    proxy.hold()
    future = ledger.writer.submit(many, idempotency_key="many")
    with pytest.raises(TimeoutError):
        future.result(0.5)
    proxy.drop()
    with pytest.raises(UnknownOutcomeError):
        future.result(30)
    proxy.mend()
    done = ledger.writer.append(many, idempotency_key="many")
    assert not done.repeated and done.count == 40


def test_a_server_that_nobody_reaches(ledger: Ledger, proxy: Proxy) -> None:
    proxy.refuses = True
    proxy.drop()
    with pytest.raises(StoreError):
        ledger.writer.append([note("away")], idempotency_key="away")
    with pytest.raises(UnreachableError, match="does not answer"):
        ledger.writer.append([note("away")], idempotency_key="away")
    proxy.mend()
    assert not ledger.writer.append([note("away")], idempotency_key="away").repeated

"""docs/spec/time.md, rule by rule."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.canonical import format_time
from ledger.errors import MalformedError, NotFoundError
from projections.at import Moment, position
from tests.support.histories import SECOND, START, draft
from tests.support.story import NOW, Story, second, story


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


def test_1_an_instant_with_any_offset(told: Story) -> None:
    plus_one = format_time(START + 3600 * SECOND)[:19] + "+01:00"
    assert told.at(plus_one) == Moment(text=plus_one, instant=START)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", 0),
        ("NOW", 0),
        ("10s ago", 10),
        ("90 seconds ago", 90),
        ("2m ago", 120),
        ("1 min ago", 60),
        ("1h30m ago", 5400),
        ("1d 2h ago", 93600),
        ("2 weeks ago", 1_209_600),
        ("  5 minutes ago ", 300),
    ],
)
def test_4_counted_back_from_now(told: Story, text: str, seconds: int) -> None:
    assert told.at(text).instant == NOW - seconds * SECOND


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("index:0", 1),
        ("index:11", 12),
        ("event:7", 8),
        ("event:run/t2#2", 11),
        (f"event:{'pipeline/demand@live'}#1", 4),
    ],
)
def test_3_a_place_knows_up_to_its_entry(told: Story, text: str, size: int) -> None:
    moment = told.at(text)
    assert moment.size == size
    assert moment.instant == told.reader.entry(size - 1).recorded_at
    assert moment.known_text == f"index:{size - 1}"


def test_4_a_tag_names_its_entry_or_itself(told: Story) -> None:
    def tag(name: str, **data: object) -> object:
        return draft("tag.set/1", f"tag/{name}", "user:ann", {"tag": name, **data})

    told.write(
        START + 100 * SECOND,
        [tag("r7", index=3), tag("r7", index=5), tag("s", state_digest="sha256:" + "0" * 64)],
    )
    assert told.at("tag:r7").size == 6
    assert told.at("tag:s").size == told.reader.size()
    with pytest.raises(NotFoundError, match="no tag 'r8'"):
        told.at("tag:r8")


def test_4_a_run_stands_on_its_start(told: Story) -> None:
    moment = told.at("run:t2")
    assert (moment.size, moment.instant) == (7, START + 20 * SECOND)
    with pytest.raises(NotFoundError, match="no run 't3'"):
        told.at("run:t3")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-11-21T06:00:00", "2026-11-21T06:00:00Z for UTC"),
        ("2026-11-21 06:00", "2026-11-21T06:00:00Z for UTC"),
        ("2026-11-21", "2026-11-21T00:00:00Z for UTC"),
        ("2999-01-01T00:00:00Z", "lies in the future"),
        ("1969-01-01T00:00:00Z", "before 1970"),
        ("yesterday", "write a time with its offset"),
        ("2 fortnights ago", "'fortnights' is no unit"),
        ("2026-13-01T00:00:00Z", "is not a time"),
        ("index:-1", "decimal number"),
        ("index:01", "decimal number"),
        ("index:٤", "decimal number"),
        ("event:run/t2", "stream and version"),
        ("event:run/t2#0", "stream and version"),
        ("", "write a time"),
    ],
)
def test_5_refused_with_a_word_on_how_to_write_it(told: Story, text: str, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        told.at(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("index:12", "last index is 11"),
        ("event:99", "last index is 11"),
        ("event:run/t2#9", "no version 9"),
        ("event:run/none#1", "no version 1"),
    ],
)
def test_5_what_is_not_there(told: Story, text: str, says: str) -> None:
    with pytest.raises(NotFoundError, match=says):
        told.at(text)


def test_5_before_the_first_entry_nothing_was_known(told: Story) -> None:
    early = format_time(START - SECOND)
    assert told.at(early).instant == START - SECOND
    with pytest.raises(MalformedError, match=f"before the first entry, recorded at {second(0)}"):
        told.at(early, axis="known_at")


def test_6_the_last_entry_counts_as_now_where_it_is_later(told: Story) -> None:
    from projections.at import parse_at

    moment = parse_at(second(90), reader=told.reader, now=START, axis="known_at")
    assert moment.instant == START + 90 * SECOND


def test_2_the_four_cases(told: Story) -> None:
    reader, at, known = told.reader, told.at(second(30)), told.at(second(20))
    size = reader.size()

    def where(**given: Moment) -> tuple[int, int, str | None, str]:
        found = position(reader, now=NOW, **given)
        return found.at, found.known, found.known_at, found.mode

    assert where() == (NOW, size, None, "in effect now, as known now")
    mode = f"in effect at {second(30)}, as known now"
    assert where(at=at) == (at.instant, size, None, mode)
    mode = f"known and in effect at {second(20)}"
    assert where(known_at=known) == (known.instant, 7, second(20), mode)
    mode = f"in effect at {second(30)}, as known at {second(20)}"
    assert where(at=at, known_at=known) == (at.instant, 7, second(20), mode)


def test_3_a_place_as_at_is_also_what_was_known(told: Story) -> None:
    place = told.at("index:5")
    found = position(told.reader, at=place, now=NOW)
    assert (found.at, found.known, found.known_at) == (START + 10 * SECOND, 6, "index:5")
    assert found.mode == f"in effect at {second(10)}, as known right after entry 5"
    same = position(told.reader, known_at=place, now=NOW)
    assert (same.at, same.known, same.known_at) == (found.at, found.known, found.known_at)
    other = position(told.reader, at=place, known_at=told.at(second(60)), now=NOW)
    assert (other.at, other.known) == (found.at, 11)


def test_8_a_basis_bounds_what_is_known(told: Story) -> None:
    found = position(told.reader, basis=4, now=NOW)
    assert (found.known, found.basis) == (4, 4)
    assert found.mode == "in effect now, as known from the first 4 entries"
    for basis in (0, 13):
        with pytest.raises(NotFoundError, match="this ledger holds 12 entries"):
            position(told.reader, basis=basis, now=NOW)
    with pytest.raises(NotFoundError, match="stand on 4 entries"):
        position(told.reader, at=told.at("index:4"), basis=4, now=NOW)

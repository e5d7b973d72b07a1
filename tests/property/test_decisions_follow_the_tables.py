"""Random commands against the naive model of docs/spec/lifecycle.md: the tables of the page.

After every step the ledger must hold what the table says and nothing else: the one event and the
state that it leads to, or, where the table says `refused` or `nothing` or the command is spoiled
(asked by the wrong person, too late, for another digest), not one entry more.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import RefusedError
from ledger.lifecycle.approval import Approval
from ledger.lifecycle.decisions import Decisions
from tests.support.deciding import MACHINES, Approvals, Machine, decisions_of
from tests.support.empty_ledgers import Opened, empty_ledger

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spec" / "lifecycle.md"
Cell = tuple[str, str] | str
"""An event and the state after it, or `refused`, or `nothing`."""


@cache
def table_of(title: str) -> dict[str, dict[str, Cell]]:
    """The first table under a heading: state → command → cell."""
    section = PAGE.read_text(encoding="utf-8").partition(f"### {title}\n")[2].partition("\n### ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    commands, rows = lines[0][1:], lines[2:]
    return {
        row[0]: {command: cell_of(text) for command, text in zip(commands, row[1:], strict=True)}
        for row in rows
    }


def cell_of(text: str) -> Cell:
    found = re.fullmatch(r"`([a-z./0-9]+)` → ([a-z, ]+)", text)
    return (found[1], found[2]) if found else text


def own_events(ledger: Opened, machine: Machine) -> list[str]:
    return [record.type for record in ledger.reader.stream(machine.load().id)]


def check_step(ledger: Opened, machine: Machine, command: str, flaw: str | None) -> None:
    """Runs one command and compares what it left behind with the table."""
    state, before, size = machine.state, own_events(ledger, machine), ledger.reader.size()
    cell = table_of(machine.TITLE)[state][command]
    refused = False
    try:
        machine.run(command, flaw)
    except RefusedError as error:
        refused = True
        assert re.fullmatch(r"\S+/\S+ is [a-z]+: .+; .+", str(error))
    if isinstance(cell, tuple) and flaw is None:
        assert not refused
        assert own_events(ledger, machine) == [*before, cell[0]]
        assert machine.state == cell[1]
        return
    if cell != "nothing":
        assert refused
    elif flaw is None:
        assert not refused
    assert (ledger.reader.size(), machine.state) == (size, state)


@pytest.mark.parametrize("machine_class", MACHINES, ids=lambda cls: cls.TITLE)
@given(data=st.data())
def test_random_commands_do_what_the_table_says(
    machine_class: type[Machine], data: st.DataObject
) -> None:
    flaws = machine_class.FLAWS
    assert all(row.keys() == flaws.keys() for row in table_of(machine_class.TITLE).values())
    with empty_ledger() as ledger:
        machine = machine_class(decisions_of(ledger))
        for command in data.draw(st.lists(st.sampled_from(sorted(flaws)), max_size=12)):
            flaw = data.draw(st.sampled_from([None, None, *flaws[command]]))
            check_step(ledger, machine, command, flaw)


@pytest.mark.parametrize("machine_class", MACHINES, ids=lambda cls: cls.TITLE)
def test_every_cell_of_the_table_is_reached(machine_class: type[Machine]) -> None:
    """By the shortest way, each command in each state, whole and spoiled in every way."""
    table, ways = table_of(machine_class.TITLE), {}
    with empty_ledger() as ledger:
        ways[machine_class(decisions_of(ledger)).state] = []
    waiting = list(ways)
    while waiting:
        state = waiting.pop(0)
        for command, cell in table[state].items():
            if isinstance(cell, tuple) and cell[1] not in ways:
                ways[cell[1]] = [*ways[state], command]
                waiting.append(cell[1])
            for flaw in (None, *machine_class.FLAWS[command]):
                with empty_ledger() as ledger:
                    machine = machine_class(decisions_of(ledger))
                    for earlier in ways[state]:
                        machine.run(earlier, None)
                    check_step(ledger, machine, command, flaw)
    assert ways.keys() == table.keys()


class Careless(Approval):
    """Lets whoever asked decide, and does not look at the digest."""

    def _check_person(self, actor: str) -> None: ...

    def _check_digest(self, digest: str) -> None: ...


class CarelessDecisions(Decisions):
    aggregates = (Careless,)


@pytest.mark.parametrize("flaw", ["requester", "machine", "digest"])
def test_careless_rules_are_convicted(flaw: str) -> None:
    """The control: rules that leave out a check record what the table forbids."""

    class Convicted(Approvals):
        kind = Careless

    with empty_ledger() as ledger:
        machine = Convicted(
            CarelessDecisions(ledger.writer, ledger.reader, actor="service:a", clock=ledger.clock)
        )
        with pytest.raises(AssertionError):
            check_step(ledger, machine, "approve", flaw)
        with suppress(RefusedError):
            machine.run("void", None)
        assert machine.state == "voided"

"""A state as people see it: a row a slot, then what serves, runs, is open and is missing, and the
basis.

Made from the answer's JSON only, so that the table can never show what `-o json` does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from api.cli.output import Column, named_once, pairs, table_lines
from api.cli.terminal import Ink, plain
from api.cli.words import digest_text, time_of, version_text

__all__ = ["STATE_COLUMNS", "basis_text", "mode_text", "state_lines", "state_rows"]

Answer = Mapping[str, Any]

_TITLES = ("SLOT", "VERSION", "DIGEST", "SINCE", "ENTRY", "BY", "REASON")
_RIGHT = (False, False, False, False, True, False, False)


def _of(*path: str) -> Any:
    def value(record: Mapping[str, Any]) -> object:
        found: Any = record
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    return value


STATE_COLUMNS = (
    Column("pipeline", _of("pipeline")),
    Column("stage", _of("stage")),
    Column("slot", _of("slot")),
    Column("asset_version", _of("asset_version")),
    Column("kind", _of("kind")),
    Column("digest", _of("digest")),
    Column("location", _of("location")),
    Column("restorable", _of("restorable")),
    Column("since_index", _of("since", "index")),
    Column("since_recorded_at", _of("since", "recorded_at")),
    Column("since_effective_at", _of("since", "effective_at")),
    Column("by", _of("by")),
    Column("reason", _of("reason")),
    Column("approval", _of("approval")),
    Column("state_digest", _of("state_digest")),
    Column("tree_size", _of("tree_size")),
)


def state_rows(state: Answer) -> Iterator[dict[str, Any]]:
    """One record a slot, each with what it stands on: the CSV of a state."""
    outer = {
        "pipeline": state["pipeline"],
        "stage": state["stage"],
        "state_digest": state["state_digest"],
        "tree_size": state["basis"]["tree_size"],
    }
    for slot, held in state["bindings"].items():
        yield {**outer, "slot": slot, **held}


def state_lines(state: Answer, ink: Ink) -> Iterator[str]:
    """The lines of the table."""
    yield ink.bold(plain(f"{state['pipeline']} in {state['stage']}"))
    yield ink.dim(mode_text(state["mode"]))
    yield ""
    if state["bindings"]:
        rows = [_slot_row(slot, held) for slot, held in state["bindings"].items()]
        yield from table_lines(_TITLES, rows, ink, right=_RIGHT)
    else:
        yield "nothing was bound"
    yield ""
    yield from pairs(named_once(_notes(state)), ink)


def mode_text(mode: str) -> str:
    """The mode, with its exact instants cut to seconds as everywhere in tables."""
    words = [
        time_of(word.rstrip(",")) + ("," if word.endswith(",") else "") for word in mode.split(" ")
    ]
    return plain(" ".join(words))


def _slot_row(slot: str, held: Mapping[str, Any]) -> tuple[str, ...]:
    since = held["since"]
    return (
        slot,
        version_text(held["asset_version"]),
        digest_text(held["digest"]) or "unknown",
        time_of(since["effective_at"]),
        str(since["index"]),
        held["by"],
        held["reason"] or "",
    )


def _notes(state: Answer) -> Iterator[tuple[str, str]]:
    for name, shares in (("traffic", state["traffic"]), ("shadow", state.get("shadow") or {})):
        for ref, percent in shares.items():
            yield name, f"{percent:g} %  {version_text(ref)}"
    yield from (("running", _run_text(run)) for run in state["runs"])
    opened = state["open"]
    yield from (("incidents", _open_text("incident", item)) for item in opened["incidents"])
    yield from (("approvals", _open_text("approval", item)) for item in opened["approvals"])
    yield from (("missing", f"{slot} (required)") for slot in state["missing"])
    yield from (("warning", warning) for warning in state["warnings"])
    for name, side in (("last change", "before"), ("next change", "after")):
        if state[side] is not None:
            yield name, _change_text(state[side])
    yield "digest", state["state_digest"]
    yield "basis", basis_text(state["basis"])


def _change_text(change: Mapping[str, Any]) -> str:
    return f"entry {change['index']}, {change['type']}, {time_of(change['effective_at'])}"


def _run_text(run: Mapping[str, Any]) -> str:
    since = run["since"]
    what = f"{run['run']} ({run.get('kind') or 'run'})"
    return f"{what} since {time_of(since['effective_at'])}, by {run['by']}"


def _open_text(what: str, item: Mapping[str, Any]) -> str:
    about = item.get("summary") or item.get("meaning") or ""
    return f"{item[what]} since {time_of(item['since']['effective_at'])} {about}".rstrip()


def basis_text(basis: Mapping[str, Any]) -> str:
    """What an answer stands on, in one line."""
    return (
        f"the first {basis['tree_size']} entries, last recorded {time_of(basis['recorded_at'])}, "
        f"root {str(basis['root'])[:12]}"
    )

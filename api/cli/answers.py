"""Entries, histories, differences and lineages as people see them, each made from the answer's
JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from api.cli.output import Column, named_once, pairs, table_lines
from api.cli.state_view import basis_text, mode_text
from api.cli.terminal import Ink, plain
from api.cli.words import digest_text, short_text, time_of, version_text

__all__ = [
    "HISTORY_COLUMNS",
    "LOG_COLUMNS",
    "entry_lines",
    "entry_sentence",
    "impact_lines",
    "impact_rows",
    "lineage_lines",
]

Record = Mapping[str, Any]

_COMMON = ("effective_at", "reason", "change_id", "caused_by", "source", "inferred")


def _data(record: Record) -> Mapping[str, Any]:
    return record["data"] or {}


def entry_sentence(record: Record) -> str:
    """What an entry says, in one line of words: the fields that matter, whatever the type."""
    data = record["data"]
    if data is None:
        return "(the payload is withheld or erased)"
    template = _SENTENCES.get(str(record["type"]).partition("/")[0])
    text = template(data) if template else ""
    return text or _fields_text(data)


def _fields_text(data: Mapping[str, Any]) -> str:
    told = (f"{name}={_short(value)}" for name, value in data.items() if name not in _COMMON)
    return " ".join(told)


def _short(value: object) -> str:
    return short_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _bound(data: Mapping[str, Any]) -> str:
    was = f" (was {version_text(data['previous'])})" if data.get("previous") else ""
    return f"{data.get('slot')} ← {version_text(str(data.get('asset_version')))}{was}"


def _removed(data: Mapping[str, Any]) -> str:
    was = data.get("previous") or data.get("asset_version")
    return f"{data.get('slot')} ← nothing" + (f" (was {version_text(was)})" if was else "")


def _recorded(data: Mapping[str, Any]) -> str:
    ref = f"{data.get('kind')}/{data.get('name')}@{data.get('version')}"
    return f"{version_text(ref)} {digest_text(str(data.get('digest')))}"


def _traffic(data: Mapping[str, Any]) -> str:
    shares = data.get("shares") or {}
    told = ", ".join(f"{percent:g} % {ref}" for ref, percent in shares.items())
    return f"{data.get('mode')}: {told or 'nothing serves'}"


def _run_started(data: Mapping[str, Any]) -> str:
    return f"{data.get('kind')} {data.get('run')} in {data.get('pipeline')} {data.get('stage')}"


def _run_finished(data: Mapping[str, Any]) -> str:
    made = ", ".join(data.get("outputs") or [])
    metrics = " ".join(f"{name}={value}" for name, value in (data.get("metrics") or {}).items())
    return " ".join(
        part for part in (str(data.get("status")), made and f"made {made}", metrics) if part
    )


def _tag(data: Mapping[str, Any]) -> str:
    return f"{data.get('tag')} = index:{data.get('index')}" if data.get("index") is not None else ""


def _opened(data: Mapping[str, Any]) -> str:
    return f"the ledger {data.get('origin')} begins"


def _planned(data: Mapping[str, Any]) -> str:
    steps = data.get("steps") or []
    return f"{len(steps)} steps for {data.get('pipeline')} {data.get('stage')}"


def _step(data: Mapping[str, Any]) -> str:
    return f"step {data.get('step')} {data.get('outcome') or 'begins'}"


def _completed(data: Mapping[str, Any]) -> str:
    return f"the state is {digest_text(data.get('state_digest'))} again"


def _observed(data: Mapping[str, Any]) -> str:
    """What a system was seen doing, where it names it; else what was seen."""
    seen = [one for one in data.get("observed") or [] if isinstance(one, Mapping)]
    details = [one["details"] for one in seen if isinstance(one.get("details"), Mapping)]
    events = [told for one in details for name in _EVENT_NAMES if (told := one.get(name))]
    what = ", ".join(str(event) for event in events) or f"{len(seen)} seen"
    unlike = ", not as declared" if data.get("differs_from_declared") else ""
    return _short(f"{data.get('system')} {data.get('target')}: {what}{unlike}")


_EVENT_NAMES = ("event", "event_type", "eventType", "type", "action", "verb")


def _granted(data: Mapping[str, Any]) -> str:
    token = data.get("token")
    what = f"token {token}" if token else str(data.get("role"))
    return f"{what} for {data.get('principal')}"


def _access(data: Mapping[str, Any]) -> str:
    who = data.get("principal") or "somebody unknown"
    times = f", {data['count']} times" if data.get("count", 1) != 1 else ""
    return f"{who}: {data.get('action')} {data.get('outcome')}{times}"


_SENTENCES = {
    "access.granted": _granted,
    "access.recorded": _access,
    "access.revoked": _granted,
    "asset.version.recorded": _recorded,
    "binding.changed": _bound,
    "binding.removed": _removed,
    "ledger.opened": _opened,
    "observation.recorded": _observed,
    "note.added": lambda data: _short(str(data.get("text"))),
    "run.started": _run_started,
    "rollback.completed": _completed,
    "rollback.planned": _planned,
    "rollback.step.finished": _step,
    "rollback.step.started": _step,
    "run.finished": _run_finished,
    "tag.set": _tag,
    "traffic.changed": _traffic,
}


def _json_text(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)


LOG_COLUMNS = (
    Column("index", lambda r: r["index"], "ENTRY", right=True),
    Column(
        "recorded_at", lambda r: r["recorded_at"], "RECORDED", lambda r: time_of(r["recorded_at"])
    ),
    Column("effective_at", lambda r: r["effective_at"]),
    Column("type", lambda r: r["type"], "TYPE"),
    Column("stream", lambda r: r["stream"], "STREAM"),
    Column("version", lambda r: r["version"]),
    Column("actor", lambda r: r["actor"], "BY"),
    Column("what", entry_sentence, "WHAT"),
    Column("reason", lambda r: _data(r).get("reason")),
    Column("data", lambda r: _json_text(r["data"])),
    Column("leaf_hash", lambda r: r["leaf_hash"]),
)


def entry_lines(record: Record, ink: Ink) -> Iterator[str]:
    """One entry: a sentence, its place and author, its fields, its hashes."""
    yield ink.bold(next(pairs([("", entry_sentence(record))], Ink(False))).strip())
    data = record["data"]
    rows = [
        ("entry", str(record["index"])),
        ("type", record["type"]),
        ("stream", f"{record['stream']}, version {record['version']}"),
        ("recorded", f"{record['recorded_at']} by {record['actor']}"),
    ]
    if record["effective_at"] != record["recorded_at"]:
        rows.append(("effective", f"{record['effective_at']} (stated by the source)"))
    yield from pairs(rows, ink)
    yield ""
    if data is not None:
        fields = [
            (name, value if isinstance(value, str) else str(_json_text(value)))
            for name, value in data.items()
        ]
        yield from pairs(fields, ink)
        yield ""
    yield from pairs([("leaf hash", record["leaf_hash"]), ("prev", record["prev"])], ink)


# --- histories, lineages, impacts --------------------------------------------------------------


def _holds(record: Record) -> str:
    if record["shares"] is not None:
        told = [f"{percent:g} % {version_text(ref)}" for ref, percent in record["shares"].items()]
        return ", ".join(told) or "nothing serves"
    if record["asset_version"] is not None:
        return version_text(record["asset_version"])
    return "nothing" if record["slot"] is not None else "(definition)"


HISTORY_COLUMNS = (
    Column(
        "effective_at", lambda r: r["effective_at"], "SINCE", lambda r: time_of(r["effective_at"])
    ),
    Column("index", lambda r: r["index"], "ENTRY", right=True),
    Column(
        "slot", lambda r: r["slot"], "SLOT", lambda r: r["slot"] or "traffic" * bool(r["shares"])
    ),
    Column("asset_version", lambda r: r["asset_version"], "HOLDS", _holds),
    Column("shares", lambda r: _json_text(r["shares"])),
    Column("type", lambda r: r["type"]),
    Column("actor", lambda r: r["actor"], "BY"),
    Column(
        "recorded_at",
        lambda r: r["recorded_at"],
        "RECORDED",
        lambda r: f"late, {time_of(r['recorded_at'])}" if r["late"] else "",
    ),
    Column("late", lambda r: r["late"]),
    Column("reason", lambda r: r["reason"], "REASON"),
)


def lineage_lines(answer: Record, ink: Ink) -> Iterator[str]:
    """A lineage as two lists: above it what it was made from, below what was made from it."""
    yield ink.bold(plain(answer["asset_version"]))
    yield ink.dim(mode_text(answer["mode"]))
    yield ""
    if not answer["edges"]:
        yield "nothing is known that it was made from, or that was made from it"
    else:
        rows = [
            (
                version_text(edge["child"]),
                version_text(edge["parent"]),
                _how(edge),
                str(edge["index"]),
            )
            for edge in answer["edges"]
        ]
        yield from table_lines(
            ("VERSION", "MADE FROM", "HOW", "ENTRY"), rows, ink, right=(False, False, False, True)
        )
    yield ""
    told = [("cut", answer["truncated"])] if answer["truncated"] else []
    yield from pairs([*told, ("basis", basis_text(answer["basis"]))], ink)


def _how(edge: Record) -> str:
    return f"run {edge['run']}" if edge["run"] else "as recorded"


def impact_rows(answer: Record) -> Iterator[dict[str, Any]]:
    """One row a version, a run, a binding and a share: the CSV of an impact."""
    for ref in answer["versions"]:
        yield {"what": "made from it", "asset_version": ref}
    for what in ("runs", "bound", "served"):
        for item in answer[what]:
            yield {"what": {"runs": "run"}.get(what, what)} | item


def impact_lines(answer: Record, ink: Ink) -> Iterator[str]:
    """What stood on a version: versions, then where and when they were bound and served."""
    yield ink.bold(plain(answer["asset_version"]))
    yield ink.dim(mode_text(answer["mode"]))
    yield ""
    if not (answer["versions"] or answer["runs"] or answer["bound"] or answer["served"]):
        yield "nothing was made from it, and it was bound nowhere"
        yield ""
    rows = [("made from it", version_text(ref)) for ref in answer["versions"]]
    rows += [(_role(run), _run_text(run)) for run in answer["runs"]]
    rows += [("bound", f"{_place(use)} {use['slot']} {_span(use)}") for use in answer["bound"]]
    rows += [("served", f"{_place(use)} {_share(use)} {_span(use)}") for use in answer["served"]]
    rows += [("cut", answer["truncated"])] if answer["truncated"] else []
    yield from pairs(named_once([*rows, ("basis", basis_text(answer["basis"]))]), ink)


def _role(run: Record) -> str:
    return "read by" if run["role"] == "input" else "made by"


def _run_text(run: Record) -> str:
    return f"{run['run']} ({version_text(run['asset_version'])}, entry {run['index']})"


def _place(use: Record) -> str:
    return f"{version_text(use['asset_version'])} in {use['pipeline']} {use['stage']}"


def _share(use: Record) -> str:
    return f"{use['percent']:g} %" + (" in the shadow" if use["shadow"] else "")


def _span(use: Record) -> str:
    until = f"to {time_of(use['to'])}" if use["to"] else "until now"
    return f"from {time_of(use['from'])} {until} (entry {use['index']})"

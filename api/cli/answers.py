"""Entries, histories, differences and lineages as people see them, each made from the answer's
JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from api.cli.output import Column, pairs
from api.cli.terminal import Ink
from api.cli.words import digest_text, time_of, version_text

__all__ = ["LOG_COLUMNS", "entry_lines", "entry_sentence"]

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
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


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


_SENTENCES = {
    "asset.version.recorded": _recorded,
    "binding.changed": _bound,
    "binding.removed": _removed,
    "note.added": lambda data: _short(str(data.get("text"))),
    "run.started": _run_started,
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

"""A difference as people see it: slot by slot, what it was and is, the fields, and who did it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from api.cli.output import Column, pairs
from api.cli.state_view import basis_text, mode_text
from api.cli.terminal import Ink, plain
from api.cli.words import digest_text, short_text, time_of, version_text

__all__ = ["DIFF_COLUMNS", "diff_lines", "diff_rows"]

Answer = Mapping[str, Any]

_MOST_FIELDS = 40

DIFF_COLUMNS = tuple(
    Column(name, lambda record, name=name: record.get(name))  # type: ignore[misc]
    for name in ("slot", "change", "path", "before", "after", "entries")
)


def diff_rows(diff: Answer) -> Iterator[dict[str, Any]]:
    """One row a slot (without path) and one a field of it; traffic likewise: the CSV of a diff."""
    for item in diff["bindings"]:
        entries = " ".join(str(entry["index"]) for entry in item["entries"])
        outer = {"slot": item["slot"], "change": item["change"], "entries": entries}
        yield outer | {"before": _version(item["before"]), "after": _version(item["after"])}
        for field in item["fields"]:
            yield outer | {
                "path": field["path"],
                "before": _source(field["before"]),
                "after": _source(field["after"]),
            }
    for change in diff["traffic"]["changes"]:
        entries = " ".join(str(entry["index"]) for entry in diff["traffic"]["entries"])
        yield change | {"slot": "traffic", "change": "changed", "entries": entries}


def diff_lines(diff: Answer, ink: Ink) -> Iterator[str]:
    """The lines of the table."""
    yield ink.bold(plain(f"{diff['pipeline']} in {diff['stage']}"))
    yield from pairs(
        [("from", mode_text(diff["from"]["mode"])), ("to", mode_text(diff["to"]["mode"]))], ink
    )
    yield ""
    if diff["equal"]:
        yield "nothing is different"
    for item in diff["bindings"]:
        yield from _slot_lines(item, ink)
    if diff["traffic"]["changes"]:
        yield from _traffic_lines(diff["traffic"], ink)
    if diff["equal"]:
        yield ""
    yield from pairs([("basis", basis_text(diff["basis"]))], ink)


def _slot_lines(item: Answer, ink: Ink) -> Iterator[str]:
    yield f"{ink.bold(plain(item['slot']))} {item['change']}"
    yield from pairs(
        [("  was", _side_text(item["before"])), ("  is", _side_text(item["after"]))], ink
    )
    rows = [("  " + field["path"], _change_text(field)) for field in item["fields"][:_MOST_FIELDS]]
    yield from pairs([(plain(name), text) for name, text in rows], ink)
    if len(item["fields"]) > _MOST_FIELDS:
        yield f"  … and {len(item['fields']) - _MOST_FIELDS} more fields (-o json has all)"
    yield from _entry_lines(item["entries"])
    yield ""


def _traffic_lines(traffic: Answer, ink: Ink) -> Iterator[str]:
    yield f"{ink.bold('traffic')} changed"
    for name, shares in (("  was", traffic["before"]), ("  is", traffic["after"])):
        told = ", ".join(f"{percent:g} % {version_text(ref)}" for ref, percent in shares.items())
        yield from pairs([(name.ljust(5), told or "nothing served")], ink)
    yield from _entry_lines(traffic["entries"])
    yield ""


def _entry_lines(entries: list[Answer]) -> Iterator[str]:
    for entry in entries:
        why = f": {entry['reason']}" if entry["reason"] else ""
        when = time_of(entry["effective_at"])
        yield plain(f"  entry {entry['index']}, {when}, {entry['type']} by {entry['actor']}{why}")


def _side_text(bound: Answer | None) -> str:
    if bound is None:
        return "nothing"
    return f"{version_text(bound['asset_version'])}  {digest_text(bound['digest'])}".rstrip()


def _version(bound: Answer | None) -> str | None:
    return None if bound is None else bound["asset_version"]


def _change_text(field: Answer) -> str:
    return f"{_short(field['before'])} → {_short(field['after'])}"


def _short(value: object) -> str:
    return short_text(_source(value) or "nothing")


def _source(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)

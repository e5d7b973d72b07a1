"""Small tables for notebooks: plain HTML, everything escaped, no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

__all__ = ["rows", "table"]


def table(title: str, facts: Mapping[str, object]) -> str:
    """Names and values under a caption."""
    body = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(_shown(value))}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{body}</tbody></table>"


def rows(title: str, columns: Sequence[str], records: Iterable[Mapping[str, object]]) -> str:
    """Records as rows."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_shown(one.get(c)))}</td>" for c in columns) + "</tr>"
        for one in records
    )
    return (
        f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _shown(value: object) -> str:
    return "–" if value is None else str(value)

"""Lists in the form that was asked for: JSON, JSON lines or CSV, a page at a time.

::

    return listed(request, records, columns=ENTRY_COLUMNS, name="entries", cursor=next_cursor)

`Link: <…>; rel="next"` is there while there is more, whatever the form. A CSV cell that a
spreadsheet would take for a formula is prefixed with `'`. docs/spec/http.md, rules 8 and 9.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.service.problems import ProblemError
from api.service.requests import answer

if TYPE_CHECKING:
    from api.paging import Listed

__all__ = ["listed", "listed_page"]

JSON: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
CSV: Final = "text/csv"
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_FORMS: Final = {"json": JSON, "jsonl": JSON_LINES, "csv": CSV}


def listed(
    request: Request,
    records: Sequence[Mapping[str, Any]],
    *,
    columns: Sequence[str],
    name: str,
    cursor: str | None = None,
    basis: dict[str, Any] | None = None,
    form: str | None = None,
) -> Response:
    """The page. Raises ProblemError `not-acceptable` where Accept asks for something else."""
    media = _FORMS[form] if form else _accepted(request)
    headers = {"Vary": "Accept"}
    if cursor is not None:
        following = request.url.include_query_params(cursor=cursor)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    if media == JSON:
        body = {name: records, "next": cursor, "basis": basis}
        return answer(request, body, headers=headers)
    headers |= {"Cache-Control": "no-store"}
    if media == JSON_LINES:
        lines = b"".join(
            orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records
        )
        return Response(lines, media_type=JSON_LINES, headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return Response(_csv(records, columns), media_type=CSV, headers=headers)


def listed_page(
    request: Request,
    page: Listed,
    *,
    columns: Sequence[str],
    name: str,
    form: str | None,
) -> Response:
    """A page of `api.paging`, its records as they are or by their `as_json`."""
    records = [record if isinstance(record, dict) else record.as_json() for record in page.records]
    return listed(
        request,
        records,
        columns=columns,
        name=name,
        cursor=page.cursor,
        basis=page.basis.as_json(),
        form=form,
    )


def _accepted(request: Request) -> str:
    """The first form of Accept that there is, the caller's order counting; q is not weighed but for
    q=0."""
    given = request.headers.get("accept", "")
    if not given:
        return JSON
    for part in given.split(","):
        media, *parameters = [word.strip().lower() for word in part.split(";")]
        if "q=0" in parameters:
            continue
        if media in ("*/*", "application/*", JSON):
            return JSON
        if media in (JSON_LINES, "application/jsonl"):
            return JSON_LINES
        if media in (CSV, "text/*"):
            return CSV
    raise ProblemError("not-acceptable", f"this list comes as {JSON}, {JSON_LINES} or {CSV}")


def _csv(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for record in records:
        writer.writerow([_cell(record.get(column)) for column in columns])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    told = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"'{told}" if isinstance(value, str) and told.startswith(FORMULA) else told

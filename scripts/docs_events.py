"""Writes docs/events.md from the code: `python scripts/docs_events.py`; `--check` only compares.

Every type, field, unit and example is in the page because the page is made of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "events.md"
sys.path.insert(0, str(CHECKOUT))

from ledger.events import COMMON_FIELDS, EVENT_TYPES, Event, Source, marked_fields  # noqa: E402
from ledger.events.fields import Marker, Words  # noqa: E402

INTRODUCTION = """# Events

<!-- Made by scripts/docs_events.py from the code; a test compares. Change the code, then run it. -->

```console
$ echo '{"type": "note.added/1", "stream": "note/release", "data": {"text": "go"}}' | asof record
```

Each event has a type: a stable name and, behind the slash, the version of its schema. `asof record` takes
one event, or JSON lines as one batch, all or none. Beside `type` and `data` there may stand `stream` (where the data do
not name it), `expected_version`, `effective_at` and `source`. What is kept, and what is refused: [spec/payload.md](spec/payload.md).

| type of a field | what it takes |
| --- | --- |
| name | 1 to 512 bytes of UTF-8 in NFC, no control characters, no space at either end |
| name without @ | the same, without `@` |
| kind | a lower-case letter, then at most 63 of `a-z 0-9 _ . -`; open to new ones |
| word | a letter, then at most 63 of `A-Z a-z 0-9 _ . + -`; open to new ones |
| asset version | `<kind>/<name>@<version>`: the kind ends at the first `/`, the version begins after the last `@` |
| actor id | `user:…`, `service:…` or `agent:…`, without spaces; never an e-mail address |
| digest | `<algorithm>:<lower-case hex>`, such as `sha256:…` with 64 digits |
| verifier key | `<name>+<8 hex digits>+<base64>`, as in a signed note |
| time | RFC 3339 with an offset (`Z` or `+01:00`) |
| number | a finite number; an integer within ±(2^53-1) |
| entry index, integer | 0 (where it says so, 1) to 2^53-1 |
| text | a string that is not blank |
| JSON object, any JSON | JSON, nested at most 60 deep |

Marks: **P** the value says something about a person; **F** the value is open text or open JSON, which can hold anything.
A vault can be put under the marked fields without renaming a schema.
"""  # noqa: E501 - lines of a page


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, *_common(), *_contents()]
    for event_class in EVENT_TYPES.values():
        parts += _event(event_class)
    return "\n".join(parts).rstrip() + "\n"


def _common() -> Iterator[str]:
    yield "## Fields that every event may carry\n"
    fields = {name: Event.model_fields[name] for name in Event.model_fields}
    yield from _table(fields, "", marked_fields(Event))
    yield "\n`source` is an object (here and in `asset.version.recorded/1`):\n"
    yield from _table(Source.model_fields, "source.", marked_fields(Event))
    yield ""


def _contents() -> Iterator[str]:
    yield "## All types\n"
    yield "| type | stream |"
    yield "| --- | --- |"
    for name, event_class in EVENT_TYPES.items():
        yield f"| [`{name}`](#{_anchor(name)}) | `{_spelled_stream(event_class)}` |"
    yield ""


def _event(event_class: type[Event]) -> Iterator[str]:
    yield f"## {event_class.TYPE}\n"
    yield f"{_prose(event_class)}\n"
    own = {
        name: field
        for name, field in event_class.model_fields.items()
        if name not in COMMON_FIELDS or field != Event.model_fields[name]
    }
    own = {name: field for name, field in own.items() if not _is_inherited(event_class, name)}
    yield from _table(own, "", marked_fields(event_class))
    for prefix, part in _parts(own):
        yield f"\n`{prefix}`: {_first_line(part)}\n"
        yield from _table(part.model_fields, f"{prefix}.", marked_fields(event_class))
    record = {
        "type": event_class.TYPE,
        "stream": event_class.EXAMPLE_STREAM,
        "data": event_class.EXAMPLE,
    }
    yield f"\n```json\n{json.dumps(record, indent=2, ensure_ascii=False)}\n```\n"


def _is_inherited(event_class: type[Event], name: str) -> bool:
    return name in COMMON_FIELDS and name not in vars(event_class)["__annotations__"]


def _table(fields: dict[str, FieldInfo], prefix: str, marks: dict[str, Marker]) -> Iterator[str]:
    yield "| field | type | needed | mark | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for name, field in fields.items():
        spelled = prefix + (field.alias or name)
        needed = "yes" if field.is_required() else ""
        kind = _kind(field.annotation, field.metadata)
        mark = _mark(spelled, marks)
        yield f"| `{spelled}` | {kind} | {needed} | {mark} | {field.description} |"


def _mark(spelled: str, marks: dict[str, Marker]) -> str:
    pointer = "/" + spelled.replace("[]", "/*").replace(".", "/")
    found = {marks[place].name[0] for place in (pointer, f"{pointer}/*") if place in marks}
    return ", ".join(sorted(found))


def _parts(fields: dict[str, FieldInfo], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The objects inside the fields, each with the way to it; `source` is explained once, above."""
    for name, field in fields.items():
        for brackets, part in _models(field.annotation):
            if part is not Source:
                path = f"{prefix}{field.alias or name}{brackets}"
                yield path, part
                yield from _parts(part.model_fields, f"{path}.")


def _models(kind: Any, brackets: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield brackets, kind
        return
    origin, choices = get_origin(kind), get_args(kind)
    inside = brackets + "[]" if origin in (tuple, dict) else brackets
    for choice in choices[1:] if origin is dict else choices:
        yield from _models(choice, inside)


def _kind(kind: Any, metadata: list[Any] | None = None) -> str:
    """What the page calls a type."""
    words = [mark.text for mark in metadata or () if isinstance(mark, Words)]
    if words:
        return words[-1]
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(choices[0], list(choices[1:]))
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in choices)
    if origin is tuple:
        return (
            f"list of {_kind(choices[0])}" if choices[-1] is ... else f"two of {_kind(choices[0])}"
        )
    if origin is dict:
        member = _kind(choices[1])
        return f"object: {_kind(choices[0])} to {f'({member})' if ' or ' in member else member}"
    if choices:
        return " or ".join("null" if choice is type(None) else _kind(choice) for choice in choices)
    return "object"


def _prose(model: type[BaseModel]) -> str:
    lines = (model.__doc__ or "").strip().splitlines()
    return "\n".join(line.strip() for line in lines)


def _first_line(model: type[BaseModel]) -> str:
    text = _prose(model).splitlines()[0].rstrip(".")
    return text[0].lower() + text[1:]


def _spelled_stream(event_class: type[Event]) -> str:
    return event_class.STREAM.replace("{", "<").replace("}", ">")


def _anchor(name: str) -> str:
    return name.replace(".", "").replace("/", "")


def main() -> int:
    """0 where the page is current (or has been written), 1 where it is not."""
    current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if "--check" in sys.argv[1:]:
        if current != page():
            print("docs/events.md is not what the code says: run scripts/docs_events.py")
            return 1
        return 0
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(CHECKOUT)}: {len(EVENT_TYPES)} types")
    return 0


if __name__ == "__main__":
    sys.exit(main())

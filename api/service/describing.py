"""What OpenAPI says of bodies and answers: shapes with examples, each in one place.

The shapes are JSON Schema as OpenAPI 3.1 has it. They describe; what is refused is decided by the
door (`ledger.events`) and by the routes' parameters.
"""

from __future__ import annotations

from typing import Any, Final

from ledger.events.registry import REGISTRY

__all__ = [
    "APPENDED",
    "APPEND_BODY",
    "DIFF",
    "ENTRY",
    "HISTORY",
    "IMPACT",
    "JSON_OBJECT",
    "LEDGER",
    "LINEAGE",
    "PAGE",
    "PIPELINES",
    "PROBLEM",
    "STATE",
    "described",
    "described_as",
    "described_body",
    "described_list",
    "described_page",
    "page_of",
    "shape",
]

Schema = dict[str, Any]
HASH: Final = "9c1185a5c5e9fc54612808977ee8f548b2258d31"
TIME: Final = {"type": "string", "format": "date-time", "examples": ["2026-11-21T05:00:00.000000Z"]}
HEX: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
COUNT: Final = {"type": "integer", "minimum": 0}
TEXT: Final = {"type": "string"}
NULLABLE_TEXT: Final = {"type": ["string", "null"]}


def shape(properties: dict[str, Any], *, required: bool = True, more: bool = False) -> Schema:
    """An object of these members, all of them there unless `required` is false."""
    told: Schema = {"type": "object", "properties": properties, "additionalProperties": more}
    if required:
        told["required"] = list(properties)
    return told


def described(schema: Schema, *, status: int = 200, example: Any = None) -> dict[int | str, Any]:
    """The answer of a route for `responses=`."""
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {status: {"description": "The answer", "content": {"application/json": content}}}


def described_list(schema: Schema) -> dict[int | str, Any]:
    """A page of a list, which comes as JSON lines and CSV too."""
    told = described(schema)
    told[200]["content"] |= {
        "application/x-ndjson": {"schema": TEXT},
        "text/csv": {"schema": TEXT},
    }
    return told


def described_page(schema: Schema) -> dict[int | str, Any]:
    """JSON for programs, a page for people."""
    told = described(schema)
    told[200]["content"]["text/html"] = {"schema": TEXT}
    return told


def described_as(*media: str, status: int = 200) -> dict[int | str, Any]:
    """An answer that is no JSON, for `responses=`."""
    content = {
        one: {"schema": TEXT if one.startswith("text/") else {**TEXT, "format": "binary"}}
        for one in media
    }
    return {status: {"description": "The answer", "content": content}}


def described_body(schema: Schema, example: Any) -> dict[str, Any]:
    """The body of a route for `openapi_extra=`."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }


JSON_OBJECT: Final = {"type": "object"}

PROBLEM_SCHEMA: Final = shape(
    {
        "type": {"type": "string", "examples": ["/problems/not-found"]},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "instance": {"type": "string", "examples": ["urn:request:0f6f3c"]},
    },
    more=True,
)
PROBLEM: Final[dict[int | str, Any]] = {
    "default": {
        "description": "A problem (RFC 9457); `type` is the page that explains it",
        "content": {
            "application/problem+json": {
                "schema": PROBLEM_SCHEMA,
                "example": {
                    "type": "/problems/not-found",
                    "title": "There is no such thing",
                    "status": 404,
                    "detail": "there is no entry 99: the ledger has 12, counted from 0",
                    "instance": "urn:request:0f6f3c",
                },
            }
        },
    }
}

BASIS: Final = shape({"tree_size": COUNT, "root": HEX, "recorded_at": {"type": ["string", "null"]}})

EVENT: Final = {
    "type": "object",
    "required": ["type", "data"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "enum": sorted(REGISTRY.types)},
        "stream": TEXT,
        "expected_version": COUNT,
        "effective_at": TIME,
        "source": JSON_OBJECT,
        "data": JSON_OBJECT,
    },
}
EVENT_EXAMPLE: Final = {"type": "note.added/1", "stream": "note/release", "data": {"text": "go"}}
APPEND_BODY: Final = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            "example": "deploy-7",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        EVENT,
                        shape({"events": {"type": "array", "minItems": 1, "items": EVENT}}),
                    ]
                },
                "example": {"events": [EVENT_EXAMPLE]},
            },
            "application/x-ndjson": {
                "schema": TEXT,
                "example": '{"type":"note.added/1","stream":"note/release","data":{"text":"go"}}\n',
            },
        },
    },
}

RECEIPT: Final = shape(
    {"index": COUNT, "leaf_hash": HEX, "entry": TEXT, "proof": {"type": "array", "items": TEXT}}
)
APPENDED: Final = shape(
    {
        "first_index": COUNT,
        "count": COUNT,
        "recorded_at": TIME,
        "tree_size": COUNT,
        "repeated": {"type": "boolean"},
        "checkpoint": TEXT,
        "receipts": {"type": "array", "items": RECEIPT},
    }
)
APPENDED["required"].remove("receipts")

ENTRY: Final = shape(
    {
        "index": COUNT,
        "recorded_at": TIME,
        "effective_at": TIME,
        "type": TEXT,
        "stream": TEXT,
        "version": COUNT,
        "actor": TEXT,
        "data": {"type": ["object", "null"]},
        "commitment": HEX,
        "leaf_hash": HEX,
        "prev": HEX,
    }
)


def page_of(name: str, item: Schema) -> Schema:
    """A page of a list."""
    return shape(
        {
            name: {"type": "array", "items": item},
            "next": NULLABLE_TEXT,
            "basis": {"oneOf": [BASIS, {"type": "null"}]},
        }
    )


PAGE: Final = page_of("entries", ENTRY)
HISTORY: Final = page_of("changes", JSON_OBJECT)
PIPELINES: Final = shape(
    {
        "pipelines": {"type": "array", "items": shape({"pipeline": TEXT, "stage": TEXT})},
        "basis": BASIS,
    }
)
LEDGER: Final = shape(
    {"ledger": TEXT, "origin": TEXT, "vkey": TEXT, "checkpoint": TEXT, "basis": BASIS}
)
STATE: Final = shape(
    {
        "pipeline": TEXT,
        "stage": TEXT,
        "mode": TEXT,
        "at": NULLABLE_TEXT,
        "known_at": NULLABLE_TEXT,
        "bindings": JSON_OBJECT,
        "traffic": JSON_OBJECT,
        "runs": {"type": "array", "items": JSON_OBJECT},
        "open": JSON_OBJECT,
        "missing": {"type": "array", "items": TEXT},
        "basis": BASIS,
        "state_digest": TEXT,
    },
    more=True,
)
DIFF: Final = JSON_OBJECT
LINEAGE: Final = JSON_OBJECT
IMPACT: Final = JSON_OBJECT

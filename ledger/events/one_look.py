"""Whether a payload fits its schema, seen in one look: a compiled pattern over the whole of it.

::

    fits = one_look(BindingChanged)
    fits('{"asset_version":"model/m@7","pipeline":"p","slot":"model","stage":"production"}')  True
    fits('{"asset_version":"model/m@7","pipeline":"p","slot":"model"}')        False: not seen so

True is a proof, False says nothing: then pydantic's validator decides, and explains. The pattern is
made of the validator's own schema, and whatever is not known here (a check in Python, a length, a
rule between fields) is left out of it, so that data which need it are not seen to fit. It holds for
payloads that `format_json` wrote of values that came out of JSON: sorted members, no space, and
a number with an exponent where an integer was too large for 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import SchemaValidator, core_schema

from ledger.canonical import MAX_SAFE_INTEGER
from ledger.events.event import Event
from ledger.events.explaining import FAST, NUMBER
from ledger.events.free_json import is_free_json, is_free_object

__all__ = ["one_look", "payload_pattern"]

_LONGEST: Final = 512
"""What the schemas allow a name; no pattern below counts signs."""

_PLAIN_TEXT: Final = r'"[^"\\]*"'
_TEXT_NOT_BLANK: Final = r'"[^"\\]*[^\s"\\][^"\\]*"'
_NUMBER: Final = "-?[0-9]+(?:[.][0-9]+)?"
_COUNT: Final = "[0-9]+"

Schema = Mapping[str, Any]


def one_look(event_class: type[Event]) -> Callable[[str], bool]:
    """The look for a class whose validator is made. It never sees a fit where there is none."""
    pattern = payload_pattern(event_class)
    if pattern is None:
        return _sees_nothing
    matches = SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python

    def fits(payload: str) -> bool:
        if len(payload) > _LONGEST and max(map(len, payload.split('"'))) > _LONGEST:
            return False
        return matches(payload)

    return fits


def payload_pattern(event_class: type[Event]) -> str | None:
    """The pattern of the payloads that are seen to fit; None where the class has rules that no
    pattern can say.
    """
    inner = _pattern_of(event_class.__pydantic_core_schema__)
    return None if inner is None else f"^{inner}$"


def _sees_nothing(payload: str) -> bool:
    return False


# ------------------------------------------------------------------------------ schema to pattern


def _pattern_of(schema: Schema) -> str | None:
    """The pattern of a part of the schema, or None: it is not known, or not to be said so."""
    reader = _READERS.get(schema["type"])
    return None if reader is None else reader(schema)


def _only(schema: Schema, *known: str) -> bool:
    """Whether the schema says nothing but what is known, and what does not concern a check."""
    return schema.keys() <= {"type", "metadata", "ref", "serialization", *known}


def _of_model(schema: Schema) -> str | None:
    config = {name: value for name, value in schema["config"].items() if name != "title"}
    if (
        not _only(schema, "cls", "config", "custom_init", "root_model", "schema")
        or config != {"extra_fields_behavior": "forbid", "strict": True}
        or schema["custom_init"]
        or schema["root_model"]
    ):
        return None
    return _pattern_of(schema["schema"])


def _of_fields(schema: Schema) -> str | None:
    """The members in their order. That commas are where they belong is the writer's doing."""
    if not _only(schema, "computed_fields", "fields", "model_name"):
        return None
    members: dict[str, str] = {}
    for own, field in schema["fields"].items():
        if not _only(field, "schema", "validation_alias", "serialization_alias"):
            return None
        name, inner = field.get("validation_alias", own), field["schema"]
        pattern = _pattern_of(inner)
        if pattern is not None and isinstance(name, str):
            optional = "?" if inner["type"] == "default" else ""
            members[name] = f'(?:,?"{re.escape(name)}":{pattern}){optional}'
        elif inner["type"] != "default":
            return None
    return r"\{" + "".join(members[name] for name in sorted(members)) + r"\}"


def _of_default(schema: Schema) -> str | None:
    if not _only(schema, "default", "default_factory", "default_factory_takes_data", "schema"):
        return None
    return _pattern_of(schema["schema"])


def _of_nullable(schema: Schema) -> str | None:
    pattern = _pattern_of(schema["schema"])
    return f"(?:null|{pattern})" if pattern is not None and _only(schema, "schema") else None


def _of_union(schema: Schema) -> str | None:
    """Of two ways into a text, the compiled one; a number, where it has no limits."""
    first, label = schema["choices"][0]
    if label == FAST:
        return _of_text(first)
    if label == NUMBER and first["steps"][1].keys() == {"type", "allow_inf_nan", "strict"}:
        return _NUMBER
    return None


_PLAIN_WORD = re.compile(r"[!#-\[\]-~]+")
_SET = re.compile(r"\[([^\]]+)\]")


def _of_text(schema: Schema) -> str | None:
    """A text that JSON writes as it is: each set of signs loses the quote and the backslash."""
    pattern = schema.get("pattern")
    if not _only(schema, "pattern", "strict", "max_length") or not isinstance(pattern, str):
        return None
    if pattern == r"\S":
        return None if "max_length" in schema else _TEXT_NOT_BLANK
    between = _SET.sub("", pattern)
    if schema.get("max_length") != _LONGEST or not pattern.startswith("^") or pattern[-1] != "$":
        return None
    if any(sign in between for sign in '."\\'):
        return None
    return '"' + _SET.sub(r'[[\1]&&[^"\\\\]]', pattern[1:-1]) + '"'


def _of_integer(schema: Schema) -> str | None:
    known = _only(schema, "ge", "le", "strict")
    limits = (schema.get("ge"), schema.get("le"))
    return _COUNT if known and limits == (0, MAX_SAFE_INTEGER) else None


def _of_tuple(schema: Schema) -> str | None:
    items, least = schema["items_schema"], schema.get("min_length", 0)
    known = _only(schema, "items_schema", "min_length", "strict", "variadic_item_index")
    if not known or schema.get("variadic_item_index") != 0 or len(items) != 1 or least > 1:
        return None
    pattern = _pattern_of(items[0])
    return None if pattern is None else rf"\[(?:,?{pattern}){'+' if least else '*'}\]"


def _of_dict(schema: Schema) -> str | None:
    key, value = _pattern_of(schema["keys_schema"]), _pattern_of(schema["values_schema"])
    if key is None or value is None or not _only(schema, "keys_schema", "values_schema"):
        return None
    return rf"\{{(?:,?{key}:{value})*\}}"


def _of_literal(schema: Schema) -> str | None:
    words = schema["expected"]
    if not all(isinstance(word, str) and _PLAIN_WORD.fullmatch(word) for word in words):
        return None
    return f'"(?:{"|".join(map(re.escape, words))})"'


def _free(opening: str, closing: str, levels: int = 4) -> str:
    """Free JSON in brackets; of numbers with an exponent, and below some levels, nothing is seen.
    As the text is JSON already, it is enough that nothing else stands between the brackets.
    """
    inner = f"{_PLAIN_TEXT}|[,:0-9.-]|true|false|null"
    if levels > 1:
        inner += "|" + _free(r"[\[{]", r"[\]}]", levels - 1)
    return f"{opening}(?:{inner})*{closing}"


_FREE_OBJECT: Final = _free(r"\{", r"\}")
_FREE_LIST: Final = _free(r"\[", r"\]")
_FREE_JSON: Final = f"(?:{_PLAIN_TEXT}|{_NUMBER}|true|false|null|{_FREE_OBJECT}|{_FREE_LIST})"


def _of_function(schema: Schema) -> str | None:
    function = schema["function"]["function"]
    if is_free_object(function):
        return _FREE_OBJECT
    return _FREE_JSON if is_free_json(function) else None


_READERS: Final[Mapping[str, Callable[[Schema], str | None]]] = {
    "model": _of_model,
    "model-fields": _of_fields,
    "default": _of_default,
    "nullable": _of_nullable,
    "union": _of_union,
    "str": _of_text,
    "int": _of_integer,
    "tuple": _of_tuple,
    "dict": _of_dict,
    "literal": _of_literal,
    "function-plain": _of_function,
    "bool": lambda schema: "(?:true|false)" if _only(schema) else None,
}

"""Whether a payload fits its schema, seen in one look: a compiled pattern over the whole of it.

::

    fits = one_look(NoteAdded)
    fits('{"text":"go"}', {"text": "go"})          True
    fits('{"text":7}', {"text": 7})                False: it is not seen so

True is a proof, False says nothing: then pydantic's validator decides, and explains. The pattern is
made of the validator's own schema, and whatever is not known here (a check in Python, a length, a
rule between fields) is left out of it, so that data which need it are not seen to fit. It holds for
payloads that `format_json` wrote of values that came out of JSON: sorted members, no space, and
a number with an exponent where an integer was too large for 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic_core import SchemaValidator, core_schema

from ledger.canonical import MAX_SAFE_INTEGER
from ledger.events.event import Event
from ledger.events.explaining import FAST, NUMBER
from ledger.events.free_json import is_free_json, is_free_object

__all__ = ["Look", "one_look", "payload_pattern"]

_LONGEST: Final = 512
"""What the schemas allow a name; no pattern below counts signs."""

_PLAIN_TEXT: Final = r'"[^"\\]*"'
_TEXT_NOT_BLANK: Final = r'"[^"\\]*[^\s"\\][^"\\]*"'
_NUMBER: Final = "-?[0-9]+(?:[.][0-9]+)?"
_COUNT: Final = "[0-9]+"

Schema = Mapping[str, Any]


Look = Callable[[str, Mapping[str, Any]], bool]
"""Whether a payload, and the data of which it was written, are seen to fit."""


def one_look(event_class: type[Event]) -> Look:
    """The look for a class whose validator is made. It never sees a fit where there is none."""
    pattern = payload_pattern(event_class)
    if pattern is None:
        return _sees_nothing
    matches = SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python
    prose = _prose(event_class)

    def fits(payload: str, data: Mapping[str, Any]) -> bool:
        if len(payload) > _LONGEST and not _only_prose_is_long(payload, data, prose):
            return False
        return matches(payload)

    return fits


def _only_prose_is_long(payload: str, data: Mapping[str, Any], prose: Sequence[str]) -> bool:
    """Whether no name is too long: what is long between two quotes are the texts that may be.
    Without a backslash, which no pattern matches, a text stands in one piece between its quotes.
    """
    long = sum(len(part) > _LONGEST for part in payload.split('"'))
    return long == sum(len(data.get(name) or "") > _LONGEST for name in prose)


def payload_pattern(event_class: type[Event]) -> str | None:
    """The pattern of the payloads that are seen to fit; None where the class has rules that no
    pattern can say.
    """
    try:
        return f"^{_pattern_of(event_class.__pydantic_core_schema__)}$"
    except _UnsayableError:
        return None


def _sees_nothing(payload: str, data: Mapping[str, Any]) -> bool:
    return False


def _prose(event_class: type[Event]) -> list[str]:
    """The fields of the event itself that hold text of any length."""
    fields = event_class.__pydantic_core_schema__["schema"]["fields"]
    return [name for name, field in fields.items() if _is_prose(field)]


def _is_prose(field: Schema) -> bool:
    try:
        return _pattern_of(field) in (_TEXT_NOT_BLANK, f"(?:null|{_TEXT_NOT_BLANK})")
    except _UnsayableError:
        return False


# ------------------------------------------------------------------------------ schema to pattern


class _UnsayableError(Exception):
    """A part of a schema that is not known here, or that no pattern can say."""


def _say(known: object) -> None:
    """Raises _UnsayableError unless it is known."""
    if not known:
        raise _UnsayableError


def _pattern_of(schema: Schema) -> str:
    """The pattern of a part of the schema. Raises: _UnsayableError."""
    kind = schema["type"]
    _say(kind in _READERS)
    reader, known = _READERS[kind]
    _say(schema.keys() <= {"type", "metadata", "ref", "serialization", *known.split()})
    return reader(schema)


def _of_model(schema: Schema) -> str:
    config = {name: value for name, value in schema["config"].items() if name != "title"}
    _say(config == {"extra_fields_behavior": "forbid", "strict": True})
    _say(not schema["custom_init"] and not schema["root_model"])
    return _pattern_of(schema["schema"])


def _of_fields(schema: Schema) -> str:
    """The members in their order. That commas are where they belong is the writer's doing. A field
    that can be left out is left out where it cannot be said.
    """
    members: dict[str, str] = {}
    for own, field in schema["fields"].items():
        name, needed = field.get("validation_alias", own), field["schema"]["type"] != "default"
        try:
            pattern = _pattern_of(field)
        except _UnsayableError:
            _say(not needed)
        else:
            members[name] = f'(?:,?"{re.escape(name)}":{pattern}){"" if needed else "?"}'
    return r"\{" + "".join(members[name] for name in sorted(members)) + r"\}"


def _of_field(schema: Schema) -> str:
    _say(isinstance(schema.get("validation_alias", ""), str))
    return _pattern_of(schema["schema"])


def _of_inner(schema: Schema) -> str:
    return _pattern_of(schema["schema"])


def _of_nullable(schema: Schema) -> str:
    return f"(?:null|{_pattern_of(schema['schema'])})"


def _of_union(schema: Schema) -> str:
    """Of two ways into a text, the compiled one; a number, where it has no limits."""
    _say(isinstance(schema["choices"][0], tuple))
    first, label = schema["choices"][0]
    if label == FAST:
        return _pattern_of(first)
    _say(label == NUMBER)
    _say(first["steps"][1].keys() == {"type", "allow_inf_nan", "strict"})
    return _NUMBER


_SET = re.compile(r"\[([^\]]+)\]")


def _of_text(schema: Schema) -> str:
    """A text that JSON writes as it is: each set of signs loses the quote and the backslash."""
    pattern, longest = str(schema.get("pattern")), schema.get("max_length")
    if pattern == r"\S" and longest is None:
        return _TEXT_NOT_BLANK
    _say(longest == _LONGEST)
    _say(re.fullmatch(r'\^[^."\\]*\$', _SET.sub("", pattern)))
    return '"' + _SET.sub(r'[[\1]&&[^"\\\\]]', pattern[1:-1]) + '"'


def _of_integer(schema: Schema) -> str:
    _say((schema.get("ge"), schema.get("le")) == (0, MAX_SAFE_INTEGER))
    return _COUNT


def _of_tuple(schema: Schema) -> str:
    least = schema.get("min_length", 0)
    _say(schema.get("variadic_item_index") == 0 and len(schema["items_schema"]) == 1 and least < 2)
    return rf"\[(?:,?{_pattern_of(schema['items_schema'][0])}){'+' if least else '*'}\]"


def _of_dict(schema: Schema) -> str:
    key, value = _pattern_of(schema["keys_schema"]), _pattern_of(schema["values_schema"])
    return rf"\{{(?:,?{key}:{value})*\}}"


_PLAIN_WORD = re.compile(r"[!#-\[\]-~]+")


def _of_literal(schema: Schema) -> str:
    words = schema["expected"]
    _say(all(isinstance(word, str) and _PLAIN_WORD.fullmatch(word) for word in words))
    return f'"(?:{"|".join(map(re.escape, words))})"'


def _of_flag(schema: Schema) -> str:
    return "(?:true|false)"


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


def _of_function(schema: Schema) -> str:
    function = schema["function"]["function"]
    if is_free_object(function):
        return _FREE_OBJECT
    _say(is_free_json(function))
    return _FREE_JSON


_READERS: Final[Mapping[str, tuple[Callable[[Schema], str], str]]] = {
    "model": (_of_model, "cls config custom_init root_model schema"),
    "model-fields": (_of_fields, "computed_fields fields model_name"),
    "model-field": (_of_field, "schema validation_alias serialization_alias"),
    "default": (_of_inner, "default default_factory default_factory_takes_data schema"),
    "nullable": (_of_nullable, "schema"),
    "union": (_of_union, "choices mode"),
    "str": (_of_text, "pattern strict max_length"),
    "int": (_of_integer, "ge le strict"),
    "bool": (_of_flag, ""),
    "tuple": (_of_tuple, "items_schema min_length strict variadic_item_index"),
    "dict": (_of_dict, "keys_schema values_schema"),
    "literal": (_of_literal, "expected"),
    "function-plain": (_of_function, "function json_schema_input_schema"),
}
"""How a part is said, and what may stand in it: whatever else stands there may be a rule."""

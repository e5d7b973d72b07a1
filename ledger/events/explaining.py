"""From pydantic's errors to ours: what, where, and what to do.

::

    /slots: unknown field "slots"; did you mean "slot"?
    /slot: the field "slot" is missing

Up to three problems are named at once, so that a form need not be sent once for each mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from ledger.errors import MalformedError

__all__ = ["FAST", "NUMBER", "SLOW", "explain", "misfit", "pointer_of"]

FAST, SLOW, NUMBER = "\0fast", "\0slow", "\0number"
"""Labels of the ways into a type, as they stand in the places of errors. None of our fields is
called so; what a caller calls theirs is another matter.
"""
_LABELS: Final = frozenset((FAST, SLOW, NUMBER))

_AT_ONCE: Final = 3
_PLAIN: Final = {  # what pydantic says in the words of Python
    "string_type": "must be a string",
    "string_pattern_mismatch": "must not be blank",
    "string_unicode": "holds a lone surrogate, which is not text",
    "int_type": "must be an integer",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "tuple_type": "must be a list",
}


def misfit(why: str, *steps: str | int) -> PydanticCustomError:
    """The error of a rule of ours: `why`, at the place to which `steps` lead from the value."""
    return PydanticCustomError("misfit", "{why}", {"why": why, "steps": steps})


def pointer_of(steps: Sequence[str | int]) -> str:
    """The JSON pointer (RFC 6901) along these steps."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def explain(error: ValidationError, model: type[BaseModel]) -> MalformedError:
    """The error to raise for data that `model` did not accept."""
    problems = _problems(error.errors(include_url=False), model)
    (where, message), *others = problems[:_AT_ONCE]
    if others:
        message += "".join(f"; {place or 'as a whole'}: {text}" for place, text in others)
    if len(problems) > _AT_ONCE:
        message += f"; and {len(problems) - _AT_ONCE} more"
    return MalformedError(message, where=where)


def _problems(details: Sequence[ErrorDetails], model: type[BaseModel]) -> list[tuple[str, str]]:
    """Pointer and message of each problem; of two ways in, those of the careful one."""
    found: dict[str, str] = {}
    for detail in details:
        steps = _steps_of(detail)
        steps += detail.get("ctx", {}).get("steps", ())
        if steps and steps[-1] == "[key]" and detail["type"] != "extra_forbidden":
            found[pointer_of(steps[:-1])] = f"the key {_message(detail, steps[:-1], model)}"
        else:
            found[pointer_of(steps)] = _message(detail, steps, model)
    return list(found.items())


def _steps_of(detail: ErrorDetails) -> list[str | int]:
    """Where it is, without the labels. The last step to an unknown field is its name, whatever it
    is called.
    """
    place = detail["loc"]
    end = len(place) - 1 if detail["type"] == "extra_forbidden" else len(place)
    return [step for step in place[:end] if step not in _LABELS] + list(place[end:])


def _message(detail: ErrorDetails, steps: Sequence[str | int], model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return f'the field "{steps[-1]}" is missing'
    if kind == "extra_forbidden":
        return _unknown_field(steps, model)
    if kind in {"value_error", "misfit"}:
        return str(context.get("error") or context["why"])
    if kind == "int_type" and NUMBER in detail["loc"]:
        return "must be a finite number"
    plain = _PLAIN.get(kind)
    return plain or detail["msg"].replace("Input should", "must", 1)


def _unknown_field(steps: Sequence[str | int], model: type[BaseModel]) -> str:
    name = str(steps[-1])
    known = [field.alias or own for own, field in _model_at(steps[:-1], model).model_fields.items()]
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(sorted(known))}"
    return f'unknown field "{name[:100]}"; {hint}'


def _model_at(steps: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    """The model of the part to which these steps lead."""
    for step in steps:
        for own, field in model.model_fields.items():
            if (field.alias or own) == step:
                model = next(_models_in(field.annotation), model)
    return model


def _models_in(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for choice in getattr(kind, "__args__", ()):
        yield from _models_in(choice)

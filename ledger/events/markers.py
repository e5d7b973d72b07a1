"""Marks in the types of fields: what protection a value needs, and what its type is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FreeText", "Marker", "Personal", "Words"]


@dataclass(frozen=True, slots=True)
class Marker:
    """A mark in a field's type: what kind of protection its values need (docs/spec/payload.md)."""

    name: str

    def __repr__(self) -> str:
        return self.name


Personal: Final = Marker("Personal")
"""The value says something about a person (a claimed name, an account)."""

FreeText: Final = Marker("FreeText")
"""The value is open (prose, a path, free JSON) and so can hold anything, personal data included."""


@dataclass(frozen=True, slots=True)
class Words:
    """What the reference in docs/events.md calls a type."""

    text: str

"""From the schema that was stored to the newest one, step by step.

::

    table = {"binding.changed/1": Upcast("binding.changed/2", add_cluster)}
    upcast("binding.changed/1", data, table)      ("binding.changed/2", add_cluster(data))

Stored bytes never change; what is read is brought up to date on the way out. A step is a pure
function from the data of one version to the data of the next, and is never taken out again: some
ledger still holds the old version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

__all__ = ["UPCASTS", "Upcast", "check_upcasts", "upcast_data"]

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Upcast:
    """One step: the type that it leads to, and how the data changes.

    `change` gets a copy of the outermost object and must leave what lies inside it as it is.
    """

    to: str
    change: Callable[[Data], Data]


UPCASTS: Final[Mapping[str, Upcast]] = MappingProxyType({})
"""The steps of this version of the vocabulary: none yet, all types are at /1."""


def upcast_data(
    type_name: str, data: Mapping[str, Any], table: Mapping[str, Upcast]
) -> tuple[str, Mapping[str, Any]]:
    """The newest type that `type_name` leads to, with the data in its form.

    Where no step begins at `type_name` both come back as they are. `data` itself is not changed.
    """
    step = table.get(type_name)
    while step is not None:
        type_name, data = step.to, step.change(dict(data))
        step = table.get(type_name)
    return type_name, data


def check_upcasts(table: Mapping[str, Upcast], types: Mapping[str, Any]) -> None:
    """Raises AssertionError unless each step goes up by some versions and ends at a known type."""
    for type_name, step in table.items():
        name, old = _split(type_name)
        new_name, new = _split(step.to)
        if name != new_name or new <= old:
            raise AssertionError(
                f"an upcast leads from {type_name} to {step.to}, not to a newer one"
            )
        if step.to not in table and step.to not in types:
            raise AssertionError(f"an upcast leads from {type_name} to {step.to}, which is unknown")


def _split(type_name: str) -> tuple[str, int]:
    name, _, version = type_name.rpartition("/")
    return name, int(version)

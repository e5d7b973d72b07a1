"""Answers of the server as Python objects: the JSON as it is, with names for what one asks most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

from asof.html import rows, table

__all__ = ["Entries", "State"]


class State:
    """What was bound, running and served; `json` is all of the answer (docs/spec/state.md)."""

    def __init__(self, json: dict[str, Any]) -> None:
        self.json = json

    @property
    def bindings(self) -> dict[str, str]:
        """Each slot with the version that it holds."""
        return {slot: held["asset_version"] for slot, held in self.json["bindings"].items()}

    @property
    def digest(self) -> str:
        """The same for the same state, however it was asked for."""
        return str(self.json["state_digest"])

    @property
    def basis(self) -> int:
        """The number of entries that the answer stands on; pass it back to get it again."""
        return int(self.json["basis"]["tree_size"])

    def __repr__(self) -> str:
        return f"State({self.json['pipeline']!r}, {self.json['stage']!r}, {self.bindings!r})"

    def _repr_html_(self) -> str:
        title = f"{self.json['pipeline']} in {self.json['stage']}, {self.json['mode']}"
        held = self.json["bindings"].items()
        records = [
            {"slot": slot, **one, "since": one["since"]["effective_at"]} for slot, one in held
        ]
        columns = ("slot", "asset_version", "since", "by", "reason")
        basis = table("Stands on", {"entries": self.basis, "digest": self.digest})
        return rows(title, columns, records) + basis


class Entries:
    """A page of the log; `next` is the cursor of the following one."""

    def __init__(self, json: dict[str, Any]) -> None:
        self.json = json

    @property
    def next(self) -> Optional[str]:
        """The cursor of the next page; None where this is the last."""
        found: Optional[str] = self.json["next"]
        return found

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.json["entries"])

    def __len__(self) -> int:
        return len(self.json["entries"])

    def _repr_html_(self) -> str:
        return rows("Entries", ("index", "recorded_at", "type", "stream", "actor"), list(self))

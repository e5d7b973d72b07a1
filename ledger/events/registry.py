"""The table from names to classes: which events there are.

::

    REGISTRY["note.added/1"].event_class      NoteAdded
    REGISTRY["note.aded/1"]                   UnknownEventError: … nearest: note.added/1

What a row of a ledger says is looked up here, and never imported. A registry does not change: a
test that needs one more event makes another registry with `extended`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from threading import Lock
from types import MappingProxyType
from typing import Any, Final

from ledger.errors import UnknownEventError
from ledger.events.annotations import NoteAdded, TagSet
from ledger.events.approvals import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalUsed,
    ApprovalVoided,
)
from ledger.events.assets import AssetVersionRecorded, AssetVersionWithdrawn
from ledger.events.bindings import BindingChanged, BindingRemoved
from ledger.events.evaluations import EvaluationRecorded
from ledger.events.event import Event
from ledger.events.governance import AccessGranted, AccessRecorded, AccessRevoked, PolicyChanged
from ledger.events.incidents import IncidentClosed, IncidentOpened, IncidentUpdated
from ledger.events.ledger_events import (
    CheckpointAnchored,
    EpochStarted,
    KeyRotated,
    LedgerOpened,
    MigrationApplied,
)
from ledger.events.monitoring import DriftDetected, MonitoringObserved
from ledger.events.observations import ObservationRecorded
from ledger.events.one_look import Look, one_look
from ledger.events.pipelines import PipelineDefined
from ledger.events.privacy import (
    ErasureBlocked,
    ErasureClosed,
    ErasureGranted,
    ErasureRequested,
    ErasureStarted,
    HoldLifted,
    HoldPlaced,
    PayloadRedacted,
    RecordDisposed,
    SubjectErased,
)
from ledger.events.releases import (
    ReleaseApproved,
    ReleaseCompleted,
    ReleaseProposed,
    ReleaseWithdrawn,
)
from ledger.events.reports import ReportGenerated
from ledger.events.rollbacks import (
    RollbackApproved,
    RollbackCompleted,
    RollbackFailed,
    RollbackParked,
    RollbackPlanned,
    RollbackRequested,
    RollbackStepFinished,
    RollbackStepStarted,
)
from ledger.events.runs import RunFinished, RunStarted
from ledger.events.streams import StreamTemplate
from ledger.events.traffic import TrafficChanged
from ledger.events.upcasting import UPCASTS, Upcast, check_upcasts

__all__ = ["REGISTRY", "Registry", "Shape"]

_CLASSES: Final[tuple[type[Event], ...]] = (
    AssetVersionRecorded,
    AssetVersionWithdrawn,
    PipelineDefined,
    BindingChanged,
    BindingRemoved,
    TrafficChanged,
    RunStarted,
    RunFinished,
    EvaluationRecorded,
    MonitoringObserved,
    DriftDetected,
    ApprovalRequested,
    ApprovalDecided,
    ApprovalExpired,
    ApprovalVoided,
    ApprovalUsed,
    ReleaseProposed,
    ReleaseApproved,
    ReleaseCompleted,
    ReleaseWithdrawn,
    IncidentOpened,
    IncidentUpdated,
    IncidentClosed,
    ObservationRecorded,
    RollbackRequested,
    RollbackPlanned,
    RollbackApproved,
    RollbackStepStarted,
    RollbackStepFinished,
    RollbackParked,
    RollbackCompleted,
    RollbackFailed,
    TagSet,
    NoteAdded,
    PolicyChanged,
    AccessGranted,
    AccessRevoked,
    AccessRecorded,
    LedgerOpened,
    EpochStarted,
    KeyRotated,
    CheckpointAnchored,
    MigrationApplied,
    ErasureRequested,
    ErasureGranted,
    ErasureBlocked,
    ErasureStarted,
    ErasureClosed,
    PayloadRedacted,
    SubjectErased,
    HoldPlaced,
    HoldLifted,
    RecordDisposed,
    ReportGenerated,
)


@dataclass(frozen=True)
class Shape:
    """What the door needs of a class, looked up once."""

    event_class: type[Event]
    validate: Callable[[Any], Event]
    stream: StreamTemplate

    @cached_property
    def fits(self) -> Look:
        """`one_look` at a payload of this class; made when it is first asked for, in 1 ms."""
        return one_look(self.event_class)


class _Shapes(dict[str, Shape]):
    """The shapes that are made; another one is made when it is first asked for."""

    def __init__(self, make: Callable[[str], Shape]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, type_name: str) -> Shape:
        return self._make(type_name)


class Registry:
    """Names to classes, and the steps from old versions to new ones. Immutable, and thread-safe."""

    __slots__ = ("_making", "shapes", "types", "upcasts")

    def __init__(
        self, classes: Iterable[type[Event]], upcasts: Mapping[str, Upcast] = UPCASTS
    ) -> None:
        self.shapes: dict[str, Shape] = _Shapes(self._made)
        self._making = Lock()
        self.types: Mapping[str, type[Event]] = MappingProxyType({cls.TYPE: cls for cls in classes})
        self.upcasts: Mapping[str, Upcast] = MappingProxyType(dict(upcasts))
        check_upcasts(self.upcasts, self.types)

    def __getitem__(self, type_name: str) -> Shape:
        """The shape of a type, made when it is first asked for. Raises UnknownEventError, which
        names the nearest known ones.
        """
        try:
            return self.shapes[type_name]
        except TypeError:  # not hashable
            raise self._unknown(type_name) from None

    def _made(self, type_name: str) -> Shape:
        if not isinstance(type_name, str) or type_name not in self.types:
            raise self._unknown(type_name)
        with self._making:  # of two that come at once, the second finds it built
            return self.shapes.setdefault(type_name, _shape_of(self.types[type_name]))

    def extended(
        self, classes: Iterable[type[Event]], upcasts: Mapping[str, Upcast] | None = None
    ) -> Registry:
        """Another registry that knows these classes and steps too."""
        return Registry((*self.types.values(), *classes), {**self.upcasts, **(upcasts or {})})

    def _unknown(self, type_name: object) -> UnknownEventError:
        if not isinstance(type_name, str):
            return UnknownEventError(
                'the type must be a string such as "note.added/1"', where="type"
            )
        said = f"the event type {type_name[:100]!r} is unknown"
        if type_name in self.upcasts:
            return UnknownEventError(
                f"{said} at the door: write {self._newest(type_name)}", where="type"
            )
        name, _, _ = type_name.partition("/")
        others = [known for known in self.types if known.partition("/")[0] == name]
        if others:
            return UnknownEventError(
                f"{said}; of this event, this program knows {', '.join(others)}", where="type"
            )
        near = get_close_matches(type_name, self.types, n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else "docs/events.md lists all types"
        return UnknownEventError(f"{said}; {hint}", where="type")

    def _newest(self, type_name: str) -> str:
        while type_name in self.upcasts:
            type_name = self.upcasts[type_name].to
        return type_name


def _shape_of(event_class: type[Event]) -> Shape:
    event_class.model_rebuild()
    return Shape(
        event_class=event_class,
        validate=event_class.__pydantic_validator__.validate_python,
        stream=StreamTemplate.of(event_class),
    )


REGISTRY: Final = Registry(_CLASSES)
"""The vocabulary of this program."""

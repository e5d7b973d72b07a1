"""The test cases that eventsourcing ships, importable without the packages that we do not install.

Its module of persistence wants a cipher from one, its module of projections a codec for decisions
from another. The first has a twin in the library itself; of the second only two names are needed.
"""

from __future__ import annotations

import sys
from types import ModuleType

import eventsourcing.cryptography
from eventsourcing.dcb import domain

__all__ = ["application", "persistence", "projection"]


class _Decision(domain.Decision):
    """Stands for the codec's class; nothing here encodes it."""


class _InitialDecision(_Decision, domain.InitialDecision):
    """Stands for the codec's class of first decisions."""


_codec = ModuleType("eventsourcing.dcb.msgpack")
_codec.Decision, _codec.InitialDecision = _Decision, _InitialDecision  # type: ignore[attr-defined]

sys.modules.setdefault("eventsourcing.cipher", eventsourcing.cryptography)
sys.modules.setdefault("eventsourcing.dcb.msgpack", _codec)

from eventsourcing.tests import application, persistence, projection  # noqa: E402

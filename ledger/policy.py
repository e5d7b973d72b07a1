"""Policies (C2SP tlog-policy): which log, which witnesses, and how many of them must have signed.

::

    log ledger.example.com/acme+5cbf3414+AQOh… https://ledger.example.com/t/acme
    witness W1 witness.example.com/w1+7a3ce1f0+BEq… https://witness.example.com/witness
    witness W2 …
    group two-of-us all W1 W2
    quorum two-of-us

docs/spec/policy.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.cosignature import WitnessKey, parse_witness_vkey
from ledger.errors import MalformedError
from ledger.note import VerifierKey, parse_vkey

__all__ = ["NO_QUORUM", "Group", "Policy", "Witness", "parse_policy"]

NO_QUORUM: Final = "none"
_SPACE: Final = re.compile(r"[ \t]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness by the policy's own name for it; `url` is where it answers, if it is told."""

    name: str
    key: WitnessKey
    url: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """`least` of the members, which are witnesses and earlier groups."""

    name: str
    least: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a checkpoint must carry to be believed."""

    logs: Sequence[tuple[VerifierKey, str | None]] = ()
    witnesses: Mapping[str, Witness] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str = NO_QUORUM

    def is_met(self, signed: Collection[WitnessKey]) -> bool:
        """Whether the quorum has signed; `signed` are the keys whose cosignatures hold."""
        met = {NO_QUORUM, *(name for name, one in self.witnesses.items() if one.key in signed)}
        for group in self.groups.values():  # each after its members, as they stand in the file
            if sum(member in met for member in group.members) >= group.least:
                met.add(group.name)
        return self.quorum in met


def parse_policy(text: str) -> Policy:
    """The policy of a file. Raises MalformedError naming the line."""
    logs: list[tuple[VerifierKey, str | None]] = []
    witnesses: dict[str, Witness] = {}
    groups: dict[str, Group] = {}
    quorum: str | None = None
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if _CONTROL.search(line):
                raise MalformedError("control character; there are only tabs and newlines")
            words = [word for word in _SPACE.split(line) if word]
            if not words or words[0].startswith("#"):
                continue
            match words:
                case ["log", vkey, *rest] if len(rest) <= 1:
                    logs.append((_new_log(vkey, logs), rest[0] if rest else None))
                case ["witness", name, vkey, *rest] if len(rest) <= 1:
                    _check_new(name, witnesses, groups)
                    key = _new_key(vkey, witnesses)
                    witnesses[name] = Witness(name, key, rest[0] if rest else None)
                case ["group", name, least, *members] if members:
                    _check_new(name, witnesses, groups)
                    groups[name] = _group(name, least, members, witnesses, groups)
                case ["quorum", name] if quorum is None:
                    _check_known(name, witnesses, groups, also=(NO_QUORUM,))
                    quorum = name
                case _:
                    raise MalformedError("expected log, witness, group, or one quorum")
        except MalformedError as error:
            raise MalformedError(str(error), where=f"line {number}") from None
    if not logs or quorum is None:
        raise MalformedError("a policy names a log and a quorum (`quorum none` for nobody)")
    return Policy(tuple(logs), witnesses, groups, quorum)


def _new_log(vkey: str, logs: Sequence[tuple[VerifierKey, str | None]]) -> VerifierKey:
    log = parse_vkey(vkey)
    if any(log.public_key == other.public_key for other, _ in logs):
        raise MalformedError("this log is there already, by the same public key")
    return log


def _new_key(vkey: str, witnesses: Mapping[str, Witness]) -> WitnessKey:
    """A cosignature does not commit to its name: under two names one key would count twice."""
    key = parse_witness_vkey(vkey)
    for other in witnesses.values():
        if other.key.public_key == key.public_key:
            raise MalformedError(f"this key is {other.name}'s already, and would count twice")
    return key


def _group(
    name: str,
    least: str,
    members: Sequence[str],
    witnesses: Mapping[str, Witness],
    groups: Mapping[str, Group],
) -> Group:
    for member in members:
        _check_known(member, witnesses, groups)
        if any(member in group.members for group in groups.values()):
            raise MalformedError(f"{member} is a member of another group already: it counts once")
    if len(set(members)) != len(members):
        raise MalformedError(f"the group {name} names a member twice")
    counts = {"all": len(members), "any": 1}
    count = counts.get(least) or (int(least) if _COUNT.fullmatch(least) else 0)
    if not 1 <= count <= len(members):
        raise MalformedError(f"a group wants all, any, or 1 to {len(members)} of its members")
    return Group(name, count, tuple(members))


def _check_new(name: str, witnesses: Mapping[str, Witness], groups: Mapping[str, Group]) -> None:
    if name in witnesses or name in groups or name == NO_QUORUM:
        raise MalformedError(f"the name {name} is taken")


def _check_known(
    name: str,
    witnesses: Mapping[str, Witness],
    groups: Mapping[str, Group],
    *,
    also: Collection[str] = (),
) -> None:
    if name not in witnesses and name not in groups and name not in also:
        raise MalformedError(f"there is no witness or group {name} above")

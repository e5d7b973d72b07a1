"""Getting the checkpoints of our ledgers cosigned, and publishing them with what there is.

Every `EVERY_SECONDS` the newest checkpoint goes to each witness of the policy, with the proof that
it continues what that witness saw last. A witness that is away or refuses is told in `status`, and
the publication goes on with fewer cosignatures and says so; a witness that says "fork" is an alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx2
import structlog

from api.service.witnessing.witness import request_body
from ledger.checkpoint import parse_checkpoint
from ledger.cosignature import add_lines, check_cosignatures
from ledger.errors import AsofError, MalformedError, TamperError
from ledger.note import note_text

if TYPE_CHECKING:
    from api.service.ledgers import Served
    from ledger.cosignature import WitnessKey
    from ledger.policy import Policy, Witness
    from ledger.reader import Reader

__all__ = ["Publishing"]

EVERY_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Seen:
    """What is known of one witness."""

    size: int = 0
    problem: str | None = "not asked yet"
    alarm: str | None = None


@dataclass(slots=True)
class _Published:
    """A checkpoint with the cosignatures that it has."""

    note: bytes
    size: int
    by: list[WitnessKey] = field(default_factory=list)


class Publishing:
    """One ledger and its policy. `watch` runs as a task; the rest is called in the event loop."""

    def __init__(self, here: Served, policy: Policy, *, alarm: Callable[[str, str], None]) -> None:
        self._here = here
        self._policy = policy
        self._alarm = alarm
        self._seen = {name: _Seen() for name in policy.witnesses}
        self._published: _Published | None = None

    async def watch(self) -> None:
        """Have it cosigned again and again, until cancelled."""
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False) as http:
            while True:
                try:
                    await self.cosign(http)
                except AsofError as error:
                    structlog.get_logger("asof").warning("witness", problem=str(error))
                await asyncio.sleep(EVERY_SECONDS)

    async def cosign(self, http: httpx2.AsyncClient) -> None:
        """Ask every witness once about the newest checkpoint."""
        note = await self._here.asked(lambda rooms: rooms.reader.checkpoint())
        size = parse_checkpoint(note_text(note)).size
        asked = [self._ask(http, one, note, size) for one in self._policy.witnesses.values()]
        lines = [line for line in await asyncio.gather(*asked) if line is not None]
        made = _Published(add_lines(note, b"".join(lines)), size)
        keys = [one.key for one in self._policy.witnesses.values()]
        made.by = [one.key for one in check_cosignatures(made.note, keys)]
        self._published = made

    def published(self, reader: Reader) -> bytes:
        """The newest checkpoint that a quorum has cosigned; where there is none of the newest tree,
        the newest one with what it has."""
        made = self._published
        if made is not None and self._policy.is_met(made.by):
            return made.note
        return reader.checkpoint() if made is None else made.note

    def status(self) -> dict[str, Any]:
        """Whether the quorum is met, and what each witness said last."""
        made = self._published
        return {
            "quorum_met": made is not None and self._policy.is_met(made.by),
            "cosigned_size": None if made is None else made.size,
            "witnesses": {
                name: {"size": seen.size, "problem": seen.problem, "alarm": seen.alarm}
                for name, seen in self._seen.items()
            },
        }

    async def _ask(
        self, http: httpx2.AsyncClient, witness: Witness, note: bytes, size: int
    ) -> bytes | None:
        """The cosignature line of one witness; None where it does not give any."""
        seen = self._seen[witness.name]
        if witness.url is None:
            seen.problem = "the policy does not say where it answers"
            return None
        try:
            answered = await self._post(http, witness, seen.size, note, size)
            if answered.status_code == 409:
                seen.size = _told_size(answered)
                answered = await self._post(http, witness, seen.size, note, size)
        except httpx2.HTTPError as error:
            seen.problem = f"it does not answer: {type(error).__name__}"
            return None
        except MalformedError as error:
            seen.problem = str(error)
            return None
        if answered.status_code == 422 or (answered.status_code == 409 and seen.size >= size):
            seen.alarm = seen.problem = f"it saw another tree: {answered.text[:200]}"
            self._alarm(self._here.reader.origin, f"{witness.name}: {seen.alarm}")
            return None
        if answered.status_code != 200:
            seen.problem = f"it answers {answered.status_code}: {answered.text[:200]}"
            return None
        return self._checked(witness, note, answered.content, size)

    def _checked(self, witness: Witness, note: bytes, lines: bytes, size: int) -> bytes | None:
        """Its own line, of all that it sent, once it is seen to hold."""
        seen = self._seen[witness.name]
        mark = f"\u2014 {witness.key.name} ".encode()
        mine = [line + b"\n" for line in lines.split(b"\n") if line.startswith(mark)]
        try:
            if not mine or not check_cosignatures(add_lines(note, mine[0]), [witness.key]):
                raise MalformedError("it answered without a cosignature of its key")
        except (MalformedError, TamperError) as error:
            seen.problem = str(error)
            return None
        seen.size, seen.problem = size, None
        return mine[0]

    async def _post(
        self, http: httpx2.AsyncClient, witness: Witness, old: int, note: bytes, size: int
    ) -> httpx2.Response:
        if old > size:
            raise MalformedError(f"it has seen {old} entries, and this ledger has {size}")
        proof = await self._here.asked(
            lambda rooms: rooms.reader.consistency(old, size) if 0 < old < size else []
        )
        body = request_body(old, list(proof), note)
        return await http.post(f"{(witness.url or '').rstrip('/')}/add-checkpoint", content=body)


def _told_size(answered: httpx2.Response) -> int:
    text = answered.text.strip()
    if not text.isdecimal() or len(text) > 16:
        raise MalformedError("it answers 409 and does not say which size it has")
    return int(text)

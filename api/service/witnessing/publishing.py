"""Getting the checkpoints of our ledgers cosigned, and publishing them with what there is.

Every `EVERY_SECONDS` the newest checkpoint goes to each witness of the policy, with the proof that
it continues what that witness saw last. A witness that is away, slow, or answers nonsense is told
in `status`, once in the log, and is no other witness's trouble: the publication goes on with fewer
cosignatures and says so. A witness that says "fork" is an alarm, raised once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx2
import structlog

from api.service.problems import ProblemError
from api.service.witnessing.witness import request_body
from ledger.canonical import parse_decimal
from ledger.checkpoint import parse_checkpoint
from ledger.cosignature import add_lines, check_cosignatures
from ledger.errors import AsofError, MalformedError
from ledger.note import note_text

if TYPE_CHECKING:
    from api.service.ledgers import Served
    from ledger.cosignature import WitnessKey
    from ledger.policy import Policy, Witness
    from ledger.reader import Reader

__all__ = ["Publishing"]

EVERY_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 10.0
MOST_REPLY: Final = 64 << 10


class _Answer(NamedTuple):
    """What a witness answered."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The beginning, for people: whatever stands there, it changes no terminal."""
        text = self.body[:200].decode("utf-8", "replace").strip()
        return "".join(char if char.isprintable() else " " for char in text)


class _ForkError(Exception):
    """What a witness says can only be explained by another history than this ledger's."""


@dataclass(slots=True)
class _Seen:
    """What is known of one witness."""

    size: int = 0
    problem: str | None = "not asked yet"
    alarm: str | None = None
    told: bool = False


@dataclass(slots=True)
class _Published:
    """A checkpoint with the cosignatures that it has."""

    note: bytes
    size: int
    by: list[WitnessKey] = field(default_factory=list)


class Publishing:
    """One ledger and its policy. `watch` runs as a task; the rest is called in the event loop.

    Raises MalformedError where the policy is about other logs.
    """

    def __init__(self, here: Served, policy: Policy, *, alarm: Callable[[str, str], None]) -> None:
        if here.ledger.vkey not in (log for log, _ in policy.logs):
            raise MalformedError(
                f"[ledgers.{here.name}] policy: no log line has the key of {here.ledger.vkey.name}"
            )
        self._here = here
        self._policy = policy
        self._alarm = alarm
        self._seen = {name: _Seen() for name in policy.witnesses}
        self._published: _Published | None = None
        self._shown = (0, b"")
        self._mutex = threading.Lock()
        self._met_at = time.monotonic()
        self._short = False
        self._trouble: str | None = None

    async def watch(self) -> None:
        """Have it cosigned again and again, until cancelled: nothing else ends it."""
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False) as http:
            while True:
                try:
                    await self.cosign(http)
                    self._trouble = None
                except Exception as error:
                    self._tell(error)
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
        self._note_quorum(met=self._policy.is_met(made.by))

    def published(self, reader: Reader) -> bytes:
        """The checkpoint that the witnesses were asked about last, with the cosignatures that came;
        the newest one before they were asked at all. It does not go back. Called in any thread.
        """
        made = self._published
        if made is not None and made.size >= self._shown[0]:
            return made.note
        if made is None:
            note = reader.checkpoint()
            with self._mutex:
                self._shown = max(self._shown, (parse_checkpoint(note_text(note)).size, note))
        return self._shown[1]

    def status(self) -> dict[str, Any]:
        """Whether the quorum is met, since when not, and what each witness said last."""
        made = self._published
        return {
            "quorum_met": made is not None and self._policy.is_met(made.by),
            "quorum_age_seconds": round(self.quorum_age()),
            "cosigned_size": None if made is None else made.size,
            "witnesses": {
                name: {"size": seen.size, "problem": seen.problem, "alarm": seen.alarm}
                for name, seen in self._seen.items()
            },
        }

    def quorum_age(self) -> float:
        """Seconds since a checkpoint with a quorum was made; since the start where none was."""
        return time.monotonic() - self._met_at

    async def _ask(
        self, http: httpx2.AsyncClient, witness: Witness, note: bytes, size: int
    ) -> bytes | None:
        """The cosignature line of one witness; None where it does not give any, whatever it does
        instead.
        """
        seen = self._seen[witness.name]
        line, problem = None, None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                line = await self._cosignature(http, witness, note, size)
        except TimeoutError:
            problem = f"it was not through within {TIMEOUT_SECONDS:.0f} s"
        except _ForkError as error:
            problem = str(error)
            if seen.alarm is None:
                seen.alarm = problem
                self._alarm(self._here.reader.origin, f"{witness.name}: {problem}")
        except (AsofError, ProblemError) as error:
            problem = str(error)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            problem = f"it does not answer: {type(error).__name__}"
        self._note_problem(witness, problem)
        return line

    async def _cosignature(
        self, http: httpx2.AsyncClient, witness: Witness, note: bytes, size: int
    ) -> bytes:
        """Its line, seen to hold. Raises _ForkError, MalformedError, and what asking raises."""
        seen = self._seen[witness.name]
        old = seen.size
        answer = await self._post(http, witness, old, note, size)
        told = _told_size(answer)
        if told is not None and told != old:
            seen.size = old = await self._not_ahead(told, size)
            answer = await self._post(http, witness, old, note, size)
            told = _told_size(answer)
        if answer.status == 409 and old == size and told in (None, old):
            raise _ForkError(f"it saw another tree of {size} entries: {answer.text}")
        if answer.status == 422 and old > 0:
            raise _ForkError(f"it saw another tree of {old} entries: {answer.text}")
        if answer.status != 200:
            raise MalformedError(f"it answers {answer.status}: {answer.text}")
        line = _own_line(witness, note, answer.body)
        seen.size = size
        return line

    async def _not_ahead(self, told: int, size: int) -> int:
        """The size that a witness says it has, once it is one that this ledger had. Nothing is
        remembered of another: it may have been an error.
        """
        if told <= size:
            return told
        now = await self._here.asked(lambda rooms: rooms.reader.size())
        if told > now:
            raise _ForkError(
                f"it says it has cosigned {told} entries, and this ledger has {now}: the ledger "
                "was set back, or the witness errs"
            )
        raise MalformedError(f"it has seen {told} entries already, and is asked about them next")

    async def _post(
        self, http: httpx2.AsyncClient, witness: Witness, old: int, note: bytes, size: int
    ) -> _Answer:
        if witness.url is None:
            raise MalformedError("the policy does not say where it answers")
        proof = await self._here.asked(
            lambda rooms: rooms.reader.consistency(old, size) if 0 < old < size else []
        )
        body, answered = request_body(old, list(proof), note), b""
        url = f"{witness.url.rstrip('/')}/add-checkpoint"
        plain = {"Accept-Encoding": "identity", "User-Agent": "asof"}
        async with http.stream("POST", url, content=body, headers=plain) as answer:
            async for piece in answer.aiter_raw():
                answered += piece
                if len(answered) > MOST_REPLY:
                    raise MalformedError(f"it answers more than {MOST_REPLY} bytes")
        return _Answer(answer.status_code, answered)

    def _note_problem(self, witness: Witness, problem: str | None) -> None:
        """Told when it begins and when it ends, and not as often as it is asked."""
        seen, log = self._seen[witness.name], structlog.get_logger("asof")
        if problem is not None and not seen.told:
            log.warning("witness", ledger=self._here.name, witness=witness.name, problem=problem)
        if problem is None and seen.told:
            log.info("witness", ledger=self._here.name, witness=witness.name, problem=None)
        seen.problem, seen.told = problem, problem is not None

    def _note_quorum(self, *, met: bool) -> None:
        if met:
            self._met_at = time.monotonic()
        if met is self._short:
            self._short = not met
            log = structlog.get_logger("asof")
            (log.info if met else log.warning)("quorum", ledger=self._here.name, met=met)

    def _tell(self, error: Exception) -> None:
        text, log = f"{type(error).__name__}: {error}", structlog.get_logger("asof")
        if text != self._trouble:
            expected = isinstance(error, (AsofError, ProblemError))
            told = log.warning if expected else log.exception
            told("witnesses", ledger=self._here.name, problem=text)
        self._trouble = text


def _own_line(witness: Witness, note: bytes, lines: bytes) -> bytes:
    """Its line by the key of the policy, of all that it sent. Raises MalformedError, TamperError.

    A witness may have several keys under its name, and answers with a line by each.
    """
    mark = f"\u2014 {witness.key.name} ".encode()
    for line in lines.splitlines(keepends=True):
        if line.startswith(mark) and check_cosignatures(add_lines(note, line), [witness.key]):
            return line
    raise MalformedError("it answered without a cosignature of its key")


def _told_size(answer: _Answer) -> int | None:
    """The size that a 409 tells; None where it tells none, or the answer is another."""
    if answer.status != 409:
        return None
    try:
        return parse_decimal(answer.body.decode("ascii").removesuffix("\n"))
    except (MalformedError, UnicodeDecodeError):
        return None

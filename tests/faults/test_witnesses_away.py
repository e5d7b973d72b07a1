"""Witnesses that are away, slow, broken or hostile: each its own trouble, publication goes on.

The ledger is real, the witness that does well is a real one, and all of them are asked over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from api.service.ledgers import Served, too_much
from api.service.witnessing import publishing as module
from api.service.witnessing.publishing import Publishing
from api.service.witnessing.witness import RefusalError, Witness, request_body
from ledger.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from ledger.cosignature import Cosigner, check_cosignatures, format_witness_vkey
from ledger.errors import MalformedError
from ledger.note import Signer, format_vkey, note_text
from ledger.opening import Ledger
from ledger.policy import parse_policy
from tests.support.ledgers import memory_ledger, notes

Answers = Callable[[bytes], bytes | AsyncIterator[bytes]]
GOOD = Cosigner("good.example.com/w", Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
BAD = Cosigner("bad.example.com/w", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def of(witness: Witness) -> Answers:
    """A real witness as a server answers for it."""

    def answer(body: bytes) -> bytes:
        try:
            return http(200, witness.add_checkpoint(body))
        except RefusalError as error:
            size = error.size
            return http(error.status, error.detail.encode() if size is None else b"%d\n" % size)

    return answer


@dataclass
class World:
    """A ledger, its publishing, and two witnesses: a real one, and what a test makes of it."""

    ledger: Ledger
    good: Witness
    name: str = "acme"
    refused: int = 0
    alarms: list[str] = field(default_factory=list)
    asked_of: list[bytes] = field(default_factory=list)

    @property
    def reader(self) -> Any:
        return self.ledger.reader

    async def asked(self, question: Callable[[Any], Any]) -> Any:
        if self.refused:
            self.refused -= 1
            raise too_much("more questions wait than the server takes")
        return question(SimpleNamespace(reader=self.ledger.reader))

    def policy(self, url: str, bad_url: str, quorum: str = "both") -> Any:
        return parse_policy(
            f"log {format_vkey(self.ledger.vkey)}\n"
            f"witness good {format_witness_vkey(GOOD.key)} {url}\n"
            f"witness bad {format_witness_vkey(BAD.key)} {bad_url}\n"
            f"group both all good bad\nquorum {quorum}\n"
        )

    def run(
        self,
        bad: Answers | str,
        rounds: Callable[[Publishing, httpx2.AsyncClient], Awaitable[None]] | int = 1,
    ) -> Publishing:
        """Ask both, so many times."""

        async def asking() -> Publishing:
            async with AsyncExitStack() as stack:
                good_url = await serving(stack, of(self.good))
                bad_url = bad if isinstance(bad, str) else await serving(stack, self._noted(bad))
                made = Publishing(
                    cast(Served, self),
                    self.policy(good_url, bad_url),
                    alarm=lambda origin, what: self.alarms.append(what),
                )
                client = await stack.enter_async_context(httpx2.AsyncClient(timeout=10))
                if callable(rounds):
                    await rounds(made, client)
                else:
                    for _ in range(rounds):
                        await made.cosign(client)
                return made

        return asyncio.run(asking())

    def _noted(self, answers: Answers) -> Answers:
        def noting(body: bytes) -> Any:
            self.asked_of.append(body)
            return answers(body)

        return noting

    def note(self, size: int, root: bytes | None = None) -> bytes:
        signer = self.ledger.signer
        assert signer is not None
        root = self.reader.root(size) if root is None else root
        return sign_checkpoint(Checkpoint(signer.name, size, root), signer)


async def _pieces(found: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(found, bytes):
        yield found
        return
    async for piece in found:
        yield piece


async def serving(stack: AsyncExitStack, answers: Answers) -> str:
    """A server whose answers are bytes, for as long as the stack is open."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            found = answers(await reader.readexactly(length))
            with suppress(ConnectionError):
                async for piece in _pieces(found):
                    writer.write(piece)
                    await writer.drain()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(one(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)

    async def end() -> None:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stack.push_async_callback(end)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/witness"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with memory_ledger() as ledger:
        ledger.writer.append(notes(9))
        good = Witness(
            tmp_path / "good.db", GOOD, {ledger.vkey.name: ledger.vkey}, alarm=lambda *_: None
        )
        yield World(ledger, good)
        good.close()


def other(world: World, folder: Path, cosigner: Cosigner = BAD) -> Witness:
    """A second real witness."""
    logs = {world.ledger.vkey.name: world.ledger.vkey}
    return Witness(folder / "other.db", cosigner, logs, alarm=lambda *_: None)


def published_by(world: World, made: Publishing) -> list[str]:
    note = made.published(world.reader)
    assert parse_checkpoint(note_text(note)).size == world.reader.size()
    return [one.name for one in check_cosignatures(note, [GOOD.key, BAD.key])]


def problem(made: Publishing, name: str = "bad") -> str:
    return str(made.status()["witnesses"][name]["problem"])


def test_both_do_well(world: World, tmp_path: Path) -> None:
    """Control: with two real ones the quorum is met, and met again as the ledger grows."""
    witness = other(world, tmp_path)

    async def rounds(made: Publishing, client: httpx2.AsyncClient) -> None:
        await made.cosign(client)
        world.ledger.writer.append(notes(5, "note/b"))
        await made.cosign(client)
        await made.cosign(client)

    made = world.run(of(witness), rounds)
    assert published_by(world, made) == [GOOD.key.name, BAD.key.name]
    assert made.status()["quorum_met"] and problem(made) == "None" and not world.alarms
    assert made.quorum_age() < 5
    witness.close()


HUGE = b"\xe2\x80\x94 " + b"x" * (1 << 20)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (http(500, b"oh \x1b[31m no"), "it answers 500: oh  [31m no"),
        (http(301, b"", "Location: http://127.0.0.1:1/"), "it answers 301"),
        (http(200), "without a cosignature of its key"),
        (http(200, b"\xe2\x80\x94 bad.example.com/w AAAA\n"), "a signature line without"),
        (http(200, b"\xe2\x80\x94 bad.example.com/w AAAA"), "newline"),
        (http(200, GOOD.line(b"x\n", 5)), "without a cosignature of its key"),
        (http(200, BAD.line(b"x\n", 5)), "does not belong to this checkpoint"),
        (http(200, HUGE), "more than 65536 bytes"),
        (http(409, b"many\n"), "it answers 409: many"),
        (http(409, b"\xd9\xa4\n"), "it answers 409"),
        (http(409, b"04\n"), "it answers 409"),
        (http(409, b"0\n"), "it answers 409"),
        (http(422, b"no such field"), "it answers 422"),
        (http(500, b"zz", "Content-Type: text/plain; charset=hex"), "it answers 500: zz"),
        (http(200, b"zz", "Content-Encoding: gzip"), "without a cosignature of its key"),
        (b"nonsense\r\n\r\n", "it does not answer: RemoteProtocolError"),
        (b"", "it does not answer: RemoteProtocolError"),
    ],
)
def test_what_one_answers_is_its_own_trouble(world: World, answer: bytes, says: str) -> None:
    made = world.run(lambda body: answer)
    assert says in problem(made)
    assert published_by(world, made) == [GOOD.key.name]
    assert not made.status()["quorum_met"] and not world.alarms


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/w", "http://[::1/w", "nonsense", "http://a\u00ad\u2028.test/"]
)
def test_an_address_that_is_none_is_its_own_trouble(world: World, url: str) -> None:
    made = world.run(url)
    assert "it does not answer" in problem(made)
    assert published_by(world, made) == [GOOD.key.name]


def test_one_that_is_slow_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that sends a byte at a time, so that no single wait is long."""
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)

    async def trickling(body: bytes) -> AsyncIterator[bytes]:
        yield http(200)[:-2]
        for number in range(3_000):
            await asyncio.sleep(0.01)
            yield b"X-%d: y\r\n" % number

    made = world.run(trickling)
    assert "not through within" in problem(made)
    assert published_by(world, made) == [GOOD.key.name]


def test_one_with_two_keys_answers_by_both(world: World, tmp_path: Path) -> None:
    """The line by another key comes first: it is that of the policy's which counts."""
    second = Cosigner(BAD.key.name, Ed25519PrivateKey.from_private_bytes(b"\x05" * 32))
    witness = other(world, tmp_path)

    def answer(body: bytes) -> bytes:
        text = note_text(body.partition(b"\n\n")[2])
        return http(200, second.line(text, 5) + witness.add_checkpoint(body))

    made = world.run(answer)
    assert published_by(world, made) == [GOOD.key.name, BAD.key.name]
    witness.close()


@pytest.mark.parametrize("answer", [b"another tree", b"10\n"])
def test_one_that_says_fork_is_an_alarm_once(world: World, answer: bytes) -> None:
    """422 by the one version of the protocol, 409 for the same size by the other."""
    size = world.reader.size()
    assert size == 10
    status = 409 if answer == b"10\n" else 422

    def forked(body: bytes) -> bytes:
        return http(status, answer) if body.startswith(b"old 10\n") else http(409, b"10\n")

    made = world.run(forked, 3)
    assert len(world.alarms) == 1 and "bad: it saw another tree of 10" in world.alarms[0]
    assert made.status()["witnesses"]["bad"]["alarm"] is not None
    assert published_by(world, made) == [GOOD.key.name]


def test_a_fork_at_a_real_witness(world: World, tmp_path: Path) -> None:
    witness = other(world, tmp_path)
    witness.add_checkpoint(request_body(0, [], world.note(7, b"f" * 32)))
    world.run(of(witness), 2)
    assert len(world.alarms) == 1
    witness.close()


def test_one_that_is_ahead_is_an_alarm_and_not_for_ever(world: World, tmp_path: Path) -> None:
    """The ledger was set back, or the witness errs: it is asked again all the same."""
    witness, ahead = other(world, tmp_path), [b"9223372036854775807\n"]

    def answer(body: bytes) -> Any:
        return http(409, ahead.pop()) if ahead else of(witness)(body)

    made = world.run(answer, 2)
    assert world.alarms == [
        "bad: it says it has cosigned 9223372036854775807 entries, and this ledger has 10: "
        "the ledger was set back, or the witness errs"
    ]
    assert published_by(world, made) == [GOOD.key.name, BAD.key.name]
    assert problem(made) == "None" and made.status()["witnesses"]["bad"]["alarm"] is not None
    witness.close()


def test_one_that_moved_on_meanwhile_is_no_alarm(world: World) -> None:
    """Another process of this ledger was faster: what the witness has seen is here by now."""

    def answer(body: bytes) -> bytes:
        if world.reader.size() == 10:
            world.ledger.writer.append(notes(2, "note/c"))
        return http(409, b"12\n")

    made = world.run(answer)
    assert "12 entries already" in problem(made) and not world.alarms


def test_a_log_that_overtakes_itself_is_no_alarm(world: World) -> None:
    """Told 10, asked with 10, told 12: somebody was faster twice."""

    def answer(body: bytes) -> bytes:
        return http(409, b"12\n" if body.startswith(b"old 10\n") else b"10\n")

    made = world.run(answer)
    assert "it answers 409" in problem(made) and not world.alarms


def test_the_watch_goes_on_whatever_happens(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is full for a moment, and what nobody thought of, end no publication."""
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.01)
    witness = other(world, tmp_path)
    world.refused = 3
    broken = [RuntimeError("nobody thought of it")] * 2

    async def rounds(made: Publishing, client: httpx2.AsyncClient) -> None:
        cosign = made.cosign

        async def failing(http: httpx2.AsyncClient) -> None:
            if broken and not world.refused:
                raise broken.pop()
            await cosign(http)

        made.cosign = failing  # type: ignore[method-assign]
        task = asyncio.create_task(made.watch())
        for _ in range(500):
            await asyncio.sleep(0.01)
            if made.status()["quorum_met"]:
                break
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with capture_logs() as logs:
        made = world.run(of(witness), rounds)
    assert published_by(world, made) == [GOOD.key.name, BAD.key.name]
    told = [one["problem"].partition(":")[0] for one in logs if one["event"] == "witnesses"]
    assert told == ["ProblemError", "RuntimeError"], "each trouble once, not each time"
    witness.close()


def test_one_that_is_away_for_ever_is_said_once(world: World, tmp_path: Path) -> None:
    witness, away = other(world, tmp_path), [True]

    def answer(body: bytes) -> bytes:
        return http(503, b"away") if away else of(witness)(body)  # type: ignore[return-value]

    async def rounds(made: Publishing, client: httpx2.AsyncClient) -> None:
        for _ in range(20):
            await made.cosign(client)
        away.clear()
        for _ in range(3):
            await made.cosign(client)

    with capture_logs() as logs:
        world.run(answer, rounds)
    said = [(one["event"], one["log_level"]) for one in logs]
    assert said == [
        ("witness", "warning"),
        ("quorum", "warning"),
        ("witness", "info"),
        ("quorum", "info"),
    ]
    witness.close()


def test_what_is_published_does_not_go_back(world: World, tmp_path: Path) -> None:
    """While the witnesses are asked for the first time the newest checkpoint is published, and it
    may be newer than what they are asked about.
    """
    witness, shown, making = other(world, tmp_path), list[int](), list[Publishing]()

    def show() -> None:
        note = making[0].published(world.reader)
        shown.append(parse_checkpoint(note_text(note)).size)

    def answer(body: bytes) -> Any:
        if not shown:
            world.ledger.writer.append(notes(5, "note/d"))
            show()
        return of(witness)(body)

    async def rounds(made: Publishing, client: httpx2.AsyncClient) -> None:
        making.append(made)
        for _ in range(2):
            await made.cosign(client)
            show()

    made = world.run(answer, rounds)
    assert shown == [15, 15, 15]
    assert published_by(world, made) == [GOOD.key.name, BAD.key.name]
    witness.close()


def test_a_policy_about_another_log_ends_the_start(world: World) -> None:
    policy = world.policy("http://127.0.0.1:1/", "http://127.0.0.1:1/")
    stranger = Signer.from_seed(world.ledger.vkey.name, b"\x09" * 32).vkey
    with pytest.raises(MalformedError, match="no log line has the key of"):
        Publishing(
            cast(Served, world),
            replace(policy, logs=((stranger, None),)),
            alarm=lambda *_: None,
        )

"""Receivers of webhooks that are slow, broken or somebody else: each is its own trouble only.

The ledger is real, and so are the receivers, in this process. Where a check might pass for another
reason a control beside it shows that it can fail.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.service.ledgers import Ledgers, too_much
from api.service.outgoing import sending as module
from api.service.outgoing.addresses import Allowed
from api.service.outgoing.sending import Sending
from api.service.outgoing.subscriptions import Subscription, Subscriptions
from ledger.opening import Ledger
from tests.support.ledgers import note, sqlite_ledger

ALLOWED = Allowed(private=("localhost", "one.test", "two.test", "127.0.0.1"))
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass
class Here:
    """One ledger, as sending needs it; the first questions may be refused."""

    ledger: Ledger
    refused: int = 0

    async def asked(self, question: Callable[[Any], Any]) -> Any:
        if self.refused:
            self.refused -= 1
            raise too_much("more questions wait than the server takes")
        return question(SimpleNamespace(reader=self.ledger.reader))


@dataclass
class World:
    here: Here
    kept: Subscriptions
    sending: Sending

    def subscribe(self, url: str, position: int = 1) -> Subscription:
        return self.kept.make("acme", url, "", by="user:7", position=position)

    def now(self, one: Subscription) -> Subscription:
        found = self.kept.get("acme", one.id)
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    ledger = sqlite_ledger(tmp_path)
    for number in range(3):
        ledger.writer.append([note(str(number))])
    kept = Subscriptions(tmp_path / "webhooks.db")
    here = Here(ledger)
    ledgers = cast("Ledgers", {"acme": here})
    sending = Sending(kept, ledgers, ALLOWED)
    yield World(here, kept, sending)
    sending.close()
    kept.close()
    ledger.close()


@dataclass
class Receiver:
    """Keeps the entries that come, answers each with `answer`."""

    answer: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    got: list[int] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                lines = dict(line.split(": ", 1) for line in head.split("\r\n") if ": " in line)
                body = await reader.readexactly(int(lines["content-length"]))
                self.hosts.append(lines["host"])
                self.got.append(json.loads(body)["data"]["index"])
                if self.answer is None:
                    writer.write(OK)
                    await writer.drain()
                else:
                    await self.answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def received(receiver: Receiver, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://localhost:{receiver.port}/hook"
    finally:
        server.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    """A reply that never ends: a byte at a time, each well within a read's time."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


@asynccontextmanager
async def watching(sending: Sending) -> AsyncIterator[None]:
    task = asyncio.create_task(sending.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(done: Callable[[], object], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


def test_a_receiver_that_drips_keeps_no_other_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 1.5)
    slow, fast = Receiver(drip), Receiver()

    async def story() -> None:
        async with received(slow) as slow_url, received(fast) as fast_url:
            dripping = world.subscribe(slow_url)
            world.subscribe(fast_url)
            async with watching(world.sending):
                await until(lambda: fast.got == [1, 2, 3] and slow.got)
                world.here.ledger.writer.append([note("later")])
                await until(lambda: fast.got == [1, 2, 3, 4])
                assert world.now(dripping).failures == 0, "it still drips"
                await until(lambda: world.now(dripping).failures == 1)
            (line,) = world.kept.deliveries(dripping.id, limit=10)
            assert line["problem"].startswith("it was not through") and slow.got == [1]
            assert world.now(dripping).position == 1, "nothing was skipped"

    asyncio.run(story())


def test_a_subscription_that_is_broken_is_its_own_trouble(world: World) -> None:
    """A URL that was taken before it was refused, a query that is no longer one, a full house."""
    good = Receiver()
    world.here.refused = 3

    async def story() -> None:
        async with received(good) as url:
            broken = world.subscribe("https://localhost/\x7f")
            asked = world.kept.make("acme", url, "colour:red", by="u", position=1)
            world.subscribe(url)
            async with watching(world.sending):
                await until(lambda: good.got == [1, 2, 3])
                await until(lambda: world.now(broken).failures)
            assert world.now(asked).position == 1
            (line,) = world.kept.deliveries(broken.id, limit=10)
            assert "RefusedError" in line["problem"]

    asyncio.run(story())


def test_it_goes_on_in_order_and_is_disabled_after_its_time_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)
    replies = [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", OK] * 3

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(replies.pop(0) if replies else OK)
        await writer.drain()

    receiver = Receiver(answer)

    async def story() -> None:
        async with received(receiver) as url:
            one = world.subscribe(url)
            world.kept.failed(one.id, again_in=0, disable=False)
            monkeypatch.setattr(module, "PATIENCE", 3_600)
            async with watching(world.sending):
                await until(lambda: world.now(one).position == 4)
            assert receiver.got == [1, 1, 2, 2, 3, 3]
            assert world.now(one).failing_since is None and world.now(one).failures == 0
            again = world.subscribe(url, position=3)
            world.kept.failed(again.id, again_in=0, disable=False)
            monkeypatch.setattr(module, "PATIENCE", -1)
            replies.append(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            async with watching(world.sending):
                await until(lambda: world.now(again).state == "disabled")
                await asyncio.sleep(0.1)
                assert receiver.got[6:] == [3], "no more is sent"
                world.kept.resume(again.id)
                await until(lambda: world.now(again).position == 4)
            assert receiver.got[6:] == [3, 3], "from where it stood"

    asyncio.run(story())


def test_failures_before_a_success_do_not_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of a page is taken after days of failures, the second is not: not disabled."""
    replies = [OK]

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(replies.pop() if replies else b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def story() -> None:
        async with received(Receiver(answer)) as url:
            one = world.subscribe(url)
            for _ in range(10):
                world.kept.failed(one.id, again_in=0, disable=False)
            monkeypatch.setattr(module, "PATIENCE", -1)
            async with world.sending.client() as http:
                assert not await world.sending._deliver(http, world.now(one))
            now = world.now(one)
            assert (now.state, now.position, now.failures) == ("live", 2, 1)
            assert now.not_before - now.made_at < 60, "the first pause, not the eleventh"
            async with world.sending.client() as http:
                assert not await world.sending._deliver(http, now)
            assert world.now(one).state == "disabled", "the control"

    asyncio.run(story())


def test_a_connection_to_one_name_is_not_used_for_another(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two allowed hosts at one address, whose certificate is that of the first only."""
    server, client = certified(tmp_path, "one.test")
    world.sending._tls = client
    real = socket.getaddrinfo

    def lookup(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith(".test") else host, port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    receiver = Receiver()
    record = world.here.ledger.reader.entry(1)

    async def story() -> None:
        async with received(receiver, server):
            one, two = (
                world.subscribe(f"https://{name}.test:{receiver.port}/") for name in ("one", "two")
            )
            async with world.sending.client() as http:
                assert await world.sending.send(http, one, record) == (204, None)
            async with world.sending.client() as http:
                status, problem = await world.sending.send(http, two, record)
            assert status is None and "certificate" in str(problem).lower(), problem
            assert receiver.hosts == [f"one.test:{receiver.port}"]
            async with world.sending.client() as http:  # the control: one client for both
                assert (await world.sending.send(http, one, record))[0] == 204
                assert (await world.sending.send(http, two, record))[0] == 204

    asyncio.run(story())


def certified(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `name`, and a client's that trusts it."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "server.pem").write_bytes(pem + private)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "server.pem")
    return server, ssl.create_default_context(cadata=pem.decode())

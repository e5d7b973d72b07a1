"""SIGKILL between a delivery and its place in the log: at least once, in order, under the same id.

The control: a sender that notes the place before it delivers skips an entry, and the check sees it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from api.service.outgoing.addresses import Allowed
from api.service.outgoing.sending import Sending
from api.service.outgoing.subscriptions import Subscription, Subscriptions
from ledger.opening import open_ledger
from ledger.record import Record
from tests.support.ingest_killing import Kill
from tests.support.kills import dies
from tests.support.ledgers import note, sqlite_ledger, sqlite_url

ENTRIES = 3


class Receiver:
    """Keeps the ids and entries that come in a file, in a process of its own: a fork, as a process
    that has threads must not fork the senders.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "received"
        self.file.touch()
        kept = self.file

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                index = json.loads(body)["data"]["index"]
                with kept.open("a") as file:
                    file.write(f"{self.headers['webhook-id']} {index}\n")
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}/"
        self.process = os.fork()
        if self.process == 0:
            try:
                server.serve_forever()
            finally:
                os._exit(0)
        server.server_close()

    @property
    def got(self) -> list[tuple[str, int]]:
        lines = (line.split() for line in self.file.read_text().splitlines())
        return [(name, int(index)) for name, index in lines]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path)
    yield made
    os.kill(made.process, signal.SIGKILL)
    os.waitpid(made.process, 0)


class Dying(Subscriptions):
    """The real file, with a death before and after each place."""

    kill: Kill

    def note(self, *arguments: Any, **named: Any) -> None:
        self.kill.at("delivered")
        super().note(*arguments, **named)
        self.kill.at("noted")

    def moved(self, wanted: str, position: int) -> None:
        super().moved(wanted, position)
        self.kill.at("moved")


class Hasty(Sending):
    """Notes the place first, which no sender may."""

    async def send(
        self, http: httpx2.AsyncClient, one: Subscription, record: Record
    ) -> tuple[int | None, str | None]:
        self.kept.moved(one.id, record.index + 1)
        return await super().send(http, one, record)


@dataclass
class Here:
    reader: Any

    async def asked(self, question: Callable[[Any], Any]) -> Any:
        return question(SimpleNamespace(reader=self.reader))


def deliver(folder: Path, kill: Kill, url: str, sender: type[Sending] = Sending) -> bool:
    """Deliver everything in a child; whether it died."""
    return dies(lambda: asyncio.run(_deliver(folder, kill, url, sender)))


async def _deliver(folder: Path, kill: Kill, url: str, sender: type[Sending]) -> None:
    Dying.kill = Kill("never", 1)
    kept = Dying(folder / "webhooks.db")
    if not kept.every():
        kept.make("acme", url, "", by="user:7", position=1)
    Dying.kill = kill
    with open_ledger(sqlite_url(folder)) as ledger:
        ledgers = cast("Any", {"acme": Here(ledger.reader)})
        sending = sender(kept, ledgers, Allowed(private=("127.0.0.1",)))
        async with sending.client() as http:
            while await sending._deliver(http, kept.every()[0]):
                pass


def check_in_order(receiver: Receiver) -> None:
    """Every entry, in order, each again only under its own id. Raises AssertionError."""
    assert list(dict.fromkeys(index for _, index in receiver.got)) == [1, 2, 3], "every entry"
    indexes = [index for _, index in receiver.got]
    assert indexes == sorted(indexes), "what comes again comes before what is later"
    assert len(set(receiver.got)) == ENTRIES, "an entry has one id"


def world(folder: Path) -> None:
    ledger = sqlite_ledger(folder)
    for number in range(ENTRIES):
        ledger.writer.append([note(str(number))])
    ledger.close()


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", ["delivered", "noted", "moved"])
def test_a_kill_skips_nothing(tmp_path: Path, receiver: Receiver, point: str, nth: int) -> None:
    world(tmp_path)
    assert deliver(tmp_path, Kill(point, nth), receiver.url)
    assert not deliver(tmp_path, Kill("never", 1), receiver.url)
    check_in_order(receiver)
    assert len(receiver.got) == ENTRIES + (point != "moved"), "once more where the place is lost"


def test_a_sender_that_notes_first_is_found_out(tmp_path: Path, receiver: Receiver) -> None:
    world(tmp_path)
    assert deliver(tmp_path, Kill("moved", 3), receiver.url, Hasty)  # before the second goes out
    deliver(tmp_path, Kill("never", 1), receiver.url, Hasty)
    with pytest.raises(AssertionError, match="every entry"):
        check_in_order(receiver)

"""What a command needs of the house, from a server: the same methods, the same answers.

A `RemoteRooms` stands where `api.main.Rooms` stands. What a server cannot do for somebody far away
(an export, the keys, the projections) is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from uuid import uuid4

import orjson

from api.hints import hinting
from api.remote.client import Client, segment
from api.remote.receipts import check_appended
from ledger.canonical import parse_base64, parse_rfc3339
from ledger.errors import MalformedError, UnknownOutcomeError
from ledger.group import Appended
from ledger.receipt import Receipt

if TYPE_CHECKING:
    from ledger.draft import Draft
    from ledger.note import VerifierKey

__all__ = ["RemoteRooms", "Told"]

BESIDE: Final = "works beside the store, and not with --server: run it where the ledger lies"


@dataclass(frozen=True, slots=True)
class Told:
    """An answer of the server, in the place of the object that a local question gives."""

    json: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """As it was told."""
        return self.json

    @property
    def data(self) -> dict[str, Any] | None:
        """An entry's fields."""
        found: dict[str, Any] | None = self.json["data"]
        return found

    @property
    def type(self) -> str:
        """An entry's type."""
        return str(self.json["type"])

    @property
    def index(self) -> int:
        """An entry's place."""
        return int(self.json["index"])


class RemoteRooms:
    """One ledger of one server. A context manager."""

    def __init__(
        self,
        client: Client,
        observe: Callable[..., Any] | None = None,
        vkey: VerifierKey | None = None,
    ) -> None:
        self.remote = self
        self.client = client
        self.reader = RemoteReader(client)
        self.writer = RemoteWriter(client, vkey)
        self._observe = observe

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()

    def observe(
        self, system: str, target: str, *, kind: str | None = None, name: str | None = None
    ) -> Any:
        """What a system holds on this machine: connectors run here, the ledger is there."""
        if self._observe is None:
            raise MalformedError(f"observing {BESIDE}")
        return self._observe(system, target, kind=kind, name=name)

    def state(self, pipeline: str, stage: str, **more: Any) -> Told:
        """The state."""
        more.pop("now", None)
        return Told(self.client.get(f"{_place(pipeline, stage)}/state", **more))

    def diff(self, pipeline: str, stage: str, *, start: str, **more: Any) -> Told:
        """What changed."""
        given = {"from": start, "to": more.get("end"), "basis": more.get("basis")}
        return Told(self.client.get(f"{_place(pipeline, stage)}/diff", **given))

    def history(self, pipeline: str, stage: str, **more: Any) -> Iterator[Told]:
        """Every change, page by page; the first page is asked for at once."""
        path = f"{_place(pipeline, stage)}/history"
        return _primed(map(Told, self.client.pages(path, "changes", **_without_now(more))))

    def lineage(self, ref: str, *, up: bool, down: bool, depth: int, **more: Any) -> Told:
        """The graph around a version."""
        direction = "both" if up == down else "up" if up else "down"
        path = f"/lineage/{_ref(ref)}"
        given = {"direction": direction, "depth": depth, **_without_now(more)}
        return Told(self.client.get(path, **given))

    def impact(self, ref: str, **more: Any) -> Told:
        """What stood on a version."""
        return Told(self.client.get(f"/impact/{_ref(ref)}", **_without_now(more)))

    def log(self, query: str, *, last: int | None, follow: bool) -> Iterator[Told]:
        """The entries that pass, oldest first; with `follow` those that come too."""
        newest = -1
        if last is not None:
            found = []
            for record in self.client.pages("/entries", "entries", q=query, order="desc"):
                found.append(record)
                if len(found) == last:
                    break
            records: Any = reversed(found)
        else:
            records = self.client.pages("/entries", "entries", q=query)
        size = self.reader.size() if follow else 0
        for record in records:
            newest = record["index"]
            yield Told(record)
        if follow:
            after = max(newest, size - 1)
            yield from map(Told, self.client.events("/stream", after=after, q=query))

    @property
    def index(self) -> NoReturn:
        raise MalformedError(f"this {BESIDE}")

    @property
    def ledger(self) -> NoReturn:
        raise MalformedError(f"this {BESIDE}")

    @property
    def signer(self) -> NoReturn:
        raise MalformedError(f"this {BESIDE}")


class RemoteReader:
    """What commands read of a ledger."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def size(self) -> int:
        """The number of entries."""
        return int(self._client.get("")["basis"]["tree_size"])

    def entry(self, index: int) -> Told:
        """One entry."""
        return Told(self._client.get(f"/entries/{index}"))

    def stream(self, name: str) -> Iterator[Told]:
        """The entries of one stream, in order."""
        return map(Told, self._client.pages("/entries", "entries", q=f"stream:{_quoted(name)}"))

    def stream_version(self, name: str) -> int:
        """The version that a stream stands at; 0 where there is none."""
        query = f"stream:{_quoted(name)}"
        found = self._client.get("/entries", q=query, limit=1, order="desc")["entries"]
        return int(found[0]["version"]) if found else 0

    def proof(self, index: int) -> bytes:
        """The .tlog-proof of an entry."""
        return self._client.text(f"/entries/{index}/proof").encode()

    def entry_bytes(self, index: int) -> bytes:
        """The entry, byte for byte as it was hashed."""
        return str(self._client.get(f"/entries/{index}/receipt")["entry"]).encode()


class RemoteWriter:
    """The way in. A key is always sent, so that a lost answer can be asked for again. With a `vkey`
    no answer is believed whose receipts it has not signed.
    """

    def __init__(self, client: Client, vkey: VerifierKey | None = None) -> None:
        self._client = client
        self._vkey = vkey

    def append(self, drafts: Sequence[Draft], *, idempotency_key: str | None = None) -> Appended:
        """Append a batch. Raises what a local writer does, and TamperError for receipts that are
        not of these events, or not signed by the key.
        """
        events = [_event(draft) for draft in drafts]
        key = idempotency_key or f"cli-{uuid4().hex}"
        with hinting(UnknownOutcomeError, f"the same command again with --idempotency-key {key}"):
            told = self._client.post("/entries", {"events": events}, key=key, repeatable=True)
            appended = _appended(told, self._client.server)
        check_appended(appended, drafts, self._vkey)
        return appended


def _event(draft: Draft) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": draft.type,
        "stream": draft.stream,
        "data": orjson.loads(draft.payload),
    }
    if draft.expected_version is not None:
        told["expected_version"] = draft.expected_version
    return told


def _appended(told: Mapping[str, Any], server: str) -> Appended:
    """Raises UnknownOutcomeError for an answer that cannot be read: the entries may be there."""
    try:
        checkpoint = told["checkpoint"].encode()
        return Appended(
            first_index=told["first_index"],
            count=told["count"],
            recorded_at=parse_rfc3339(told["recorded_at"]),
            tree_size=told["tree_size"],
            checkpoint=checkpoint,
            repeated=told["repeated"],
            receipts=[_receipt(one, checkpoint) for one in told["receipts"]],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnknownOutcomeError(
            f"{server} took the entries, and its answer cannot be read ({type(error).__name__})"
        ) from None


def _receipt(told: Mapping[str, Any], checkpoint: bytes) -> Receipt:
    return Receipt(
        index=told["index"],
        leaf_hash=bytes.fromhex(told["leaf_hash"]),
        entry=told["entry"].encode(),
        checkpoint=checkpoint,
        hashes=tuple(parse_base64(node, size=32) for node in told["proof"]),
    )


def _place(pipeline: str, stage: str) -> str:
    return f"/pipelines/{segment(pipeline)}/stages/{segment(stage)}"


def _ref(text: str) -> str:
    """A version in a path, its slashes as they are."""
    return "/".join(segment(part) for part in text.removesuffix("…").split("/"))


def _quoted(text: str) -> str:
    """A value of a query: pattern letters stand for themselves as far as the server lets them."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _without_now(more: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in more.items() if name != "now"}


def _primed(found: Iterator[Told]) -> Iterator[Told]:
    """The same records, the first of which has been asked for: errors come before any output."""
    try:
        first = next(found)
    except StopIteration:
        return iter(())
    return _chained(first, found)


def _chained(first: Told, rest: Iterator[Told]) -> Iterator[Told]:
    yield first
    yield from rest

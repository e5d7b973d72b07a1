"""Opening, beginning and recovering a ledger: what belongs together is put together here.

::

    with create_ledger("sqlite:///asof.db") as ledger:      # asof.db, asof.keys/ and entry 0
        print(format_vkey(ledger.vkey))
    with open_ledger("sqlite:///asof.db") as ledger:        # reader, writer
        ledger.writer.append([draft])
    with open_ledger("sqlite:///asof.db", write=False) as ledger:     # the public key is enough
        print(ledger.reader.size())

At every open (docs/spec/store.md, docs/adr/0004):

1. the store's own checks: the file, its schema, its settings;
2. the head is of the ledger that the key speaks for, and its checkpoint is signed by that key;
3. the last entries, recomputed, have the leaf hashes stored, and nothing lies beyond the head;
4. the tiles and the last leaves lead to the head's root;
5. a small file is checked as a whole by SQLite;
6. the rollback guard is not ahead of the store.

That is the tail, at a cost that does not grow with the ledger. All the rest is for `verify`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ledger.canonical import format_json
from ledger.chain import EARLIEST, ChainChecker
from ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from ledger.clock import Clock, system_clock
from ledger.draft import Draft
from ledger.edge import load_right_edge
from ledger.errors import (
    ConflictError,
    MalformedError,
    RefusedError,
    StoreError,
    TamperError,
)
from ledger.group import Appended
from ledger.guard import Guard, GuardMark, MemoryGuard
from ledger.hashing import EMPTY_ROOT
from ledger.keys import GUARD_FILE, VKEY_FILE, create_key, load_key, load_vkey
from ledger.note import Signer, VerifierKey, format_vkey
from ledger.places import Place, place_of
from ledger.reader import Reader
from ledger.store import Applied, Head, Store, Tracked
from ledger.stores.memory import MemoryStore
from ledger.writer import Writer

__all__ = [
    "Ledger",
    "check_tail",
    "create_ledger",
    "open_ledger",
    "recover",
]

MEMORY_URL: Final = "memory:"
KEYS_SUFFIX: Final = ".keys"
STREAM: Final = "ledger"
SCHEMA: Final = "asof/schema"
PROGRAM: Final = "service:asof"
TAIL_ENTRIES: Final = 64

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """An open ledger. `close` commits what waits and gives everything back."""

    store: Store
    reader: Reader
    guard: Guard | MemoryGuard
    signer: Signer | None
    open_writer: Writer | None

    @property
    def vkey(self) -> VerifierKey:
        """The public key that everything is verified with."""
        return self.reader.vkey

    @property
    def writer(self) -> Writer:
        """The way in. Raises: StoreError for a ledger opened for reading."""
        if self.open_writer is None:
            raise StoreError(f"{self.store.url} was opened for reading only")
        return self.open_writer

    def close(self) -> None:
        """Calling it twice does no harm."""
        if self.open_writer is not None:
            self.open_writer.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_ledger(
    url: str | Place,
    *,
    keys: Path | None = None,
    clock: Clock = system_clock,
    entropy: Entropy = os.urandom,
    write: bool = True,
    check: bool = True,
) -> Ledger:
    """Open a ledger, having checked its tail. `memory:` is a new, empty ledger each time.

    `check=False` is for `verify`, which reads a damaged ledger to report on it; it is ignored for
    writing. Raises: NotFoundError, StoreError, TamperError; MalformedError for the URL.
    """
    if url == MEMORY_URL:
        return create_ledger(url, clock=clock, entropy=entropy)
    place = place_of(url) if isinstance(url, str) else url
    folder = place.beside(KEYS_SUFFIX) if keys is None else keys
    signer = load_key(folder) if write else None
    vkey = load_vkey(folder) if signer is None else signer.vkey
    store = place.open(vkey.name, write=write)
    try:
        guard = Guard(folder / GUARD_FILE)
        reader = Reader(store, vkey)
        if check or write:
            check_tail(store, vkey)
            place.check(store)
            if write or os.access(guard.path, os.R_OK):
                guard.check(reader.head, reader.root)
        ledger = _assembled(store, vkey, guard, signer, clock, entropy)
    except BaseException:
        store.close()
        raise
    if write:
        try:
            _note_migrations(ledger)
        except BaseException:
            ledger.close()
            raise
    return ledger


def create_ledger(
    url: str | Place,
    *,
    origin: str | None = None,
    keys: Path | None = None,
    actor: str = PROGRAM,
    clock: Clock = system_clock,
    entropy: Entropy = os.urandom,
) -> Ledger:
    """Begin a ledger: file, key, guard and entry 0 (`ledger.opened/1`).

    `origin` is its name for ever; by default a random one below `asof.local/`. What an interrupted
    call left behind is taken over. Raises: ConflictError where there is a ledger already, or the
    key folder belongs to another one.
    """
    if url == MEMORY_URL:
        signer = Signer.from_seed(origin or _random_origin(entropy), entropy(32))
        return _begun(MemoryStore(), signer, MemoryGuard(), actor, clock, entropy)
    place = place_of(url) if isinstance(url, str) else url
    folder = place.beside(KEYS_SUFFIX) if keys is None else keys
    store, signer = place.begin(lambda: _key_for(folder, origin, entropy))
    try:
        _check_unbegun(store)
        guard = Guard(folder / GUARD_FILE)
        _check_unsigned(guard, folder)
        guard.create(GuardMark(signer.name, 0, EMPTY_ROOT))
        return _begun(store, signer, guard, actor, clock, entropy)
    except BaseException:
        store.close()
        raise


def recover(
    url: str | Place,
    *,
    why: str,
    actor: str,
    keys: Path | None = None,
    clock: Clock = system_clock,
    entropy: Entropy = os.urandom,
) -> Appended:
    """Go on from a store that is behind its guard, on request: `epoch.started/1` says so for ever.

    For a backup that was restored on purpose, or a guard that was lost or damaged. What was signed
    and is missing stays missing; whoever holds a receipt for it can still show that. The guard is
    reset after the entry is durable, so an interrupted call is repeated. Raises: RefusedError where
    there is nothing to recover, TamperError where more is wrong than a shorter ledger.
    """
    if not why.strip():
        raise MalformedError("say what happened: it becomes part of the ledger", where="why")
    place = place_of(url) if isinstance(url, str) else url
    folder = place.beside(KEYS_SUFFIX) if keys is None else keys
    signer = load_key(folder)
    guard = Guard(folder / GUARD_FILE)
    store = place.open(signer.name, write=True)
    try:
        check_tail(store, signer.vkey)
        place.check(store)
        reader = Reader(store, signer.vkey)
        mark = _recoverable_mark(guard, reader)
        draft = _epoch(why, actor, mark, reader.head())
        with Writer(store, signer, guard=MemoryGuard(), clock=clock, entropy=entropy) as writer:
            appended = writer.append([draft])
        head = reader.head()
        guard.reset(GuardMark(head.origin, head.size, head.root))
        return appended
    finally:
        store.close()


def check_tail(store: Store, vkey: VerifierKey) -> None:
    """Steps 2 to 4. Cost: some tiles and 64 entries. Raises: StoreError, TamperError."""
    head = store.head()
    if head is None:
        raise StoreError(f"{store.url} holds no ledger yet: `asof init` begins or finishes it")
    _check_head(head, store, vkey)
    start = max(0, head.size - TAIL_ENTRIES)
    before = Reader(store, vkey).chain_head(start)
    checker = ChainChecker(
        head.origin, start=start, prev=before.last_leaf, recorded_at=before.recorded_at
    )
    for finding in checker.check(store.rows(start, head.size)).findings:
        raise finding.error()
    if (checker.index, checker.prev, checker.recorded_at) != (
        head.size,
        head.last_leaf,
        max(head.recorded_at, before.recorded_at),
    ):
        raise TamperError("it is missing, or not what the head ends with", index=checker.index)
    _check_nothing_beyond(store, head.size)
    load_right_edge(store, head)


# ------------------------------------------------------------------------------------- opening


def _assembled(
    store: Store,
    vkey: VerifierKey,
    guard: Guard | MemoryGuard,
    signer: Signer | None,
    clock: Clock,
    entropy: Entropy,
) -> Ledger:
    writer = None
    if signer is not None:
        writer = Writer(store, signer, guard=guard, clock=clock, entropy=entropy)
    return Ledger(
        store=store, reader=Reader(store, vkey), guard=guard, signer=signer, open_writer=writer
    )


def _check_head(head: Head, store: Store, vkey: VerifierKey) -> None:
    if head.origin != vkey.name:
        raise TamperError(
            f"{store.url} holds another ledger than the key belongs to",
            expected=vkey.name,
            found=head.origin,
            checkpoints=(head.checkpoint,),
        )
    try:
        signed = open_checkpoint(head.checkpoint, vkey)
    except MalformedError as exc:
        raise TamperError(f"{store.url}: the head's checkpoint cannot be read: {exc}") from exc
    if (signed.size, signed.root) != (head.size, head.root):
        raise TamperError(
            f"{store.url}: the head is not what its checkpoint signs",
            expected=f"{signed.size} entries, root {signed.root.hex()}",
            found=f"{head.size} entries, root {head.root.hex()}",
            checkpoints=(head.checkpoint,),
        )


def _check_nothing_beyond(store: Store, size: int) -> None:
    """An entry beyond the head is one that slipped in, unless the head has moved since."""
    beyond = next(store.rows(size, size + 1), None)
    head = store.head()
    if beyond is not None and head is not None and head.size == size:
        raise TamperError("it lies beyond the head, which nobody signed", index=size)


# ----------------------------------------------------------------------------------- beginning


def _begun(
    store: Store,
    signer: Signer,
    guard: Guard | MemoryGuard,
    actor: str,
    clock: Clock,
    entropy: Entropy,
) -> Ledger:
    if store.head() is None:
        store.create(_first_head(signer))
    ledger = _assembled(store, signer.vkey, guard, signer, clock, entropy)
    try:
        ledger.writer.append([_opened(signer, actor)], tracked=_newest_schema(store))
    except BaseException:
        ledger.close()
        raise
    return ledger


def _newest_schema(store: Store) -> Tracked | None:
    """The migrations that a new ledger need not speak of: it began after them."""
    applied = store.migrations()
    return Tracked(SCHEMA, applied[-1].number) if applied else None


def _note_migrations(ledger: Ledger) -> None:
    """An entry for each migration since the last that the ledger tells of, by whoever opens first.

    A ledger that keeps no position began before there were any, with the first schema.
    """
    applied = ledger.store.migrations()
    noted = ledger.reader.tracked(SCHEMA) or 1
    for step in applied:
        if step.number > noted:
            with suppress(ConflictError):  # another process was faster
                ledger.writer.append([_migration(step)], tracked=Tracked(SCHEMA, step.number))


def _migration(step: Applied) -> Draft:
    data = {
        "migration": f"{step.number:04}_{step.name}",
        "from": str(step.number - 1),
        "to": str(step.number),
        "digest": f"sha256:{step.checksum}",
    }
    return Draft(
        type="migration.applied/1", stream=STREAM, actor=PROGRAM, payload=format_json(data)
    )


def _first_head(signer: Signer) -> Head:
    checkpoint = Checkpoint(signer.name, 0, EMPTY_ROOT)
    return Head(
        origin=signer.name,
        size=0,
        root=EMPTY_ROOT,
        last_leaf=EMPTY_ROOT,
        recorded_at=EARLIEST,
        edge=(),
        checkpoint=sign_checkpoint(checkpoint, signer),
    )


def _opened(signer: Signer, actor: str) -> Draft:
    data = {"origin": signer.name, "keys": [format_vkey(signer.vkey)]}
    return Draft(type="ledger.opened/1", stream=STREAM, actor=actor, payload=format_json(data))


def _check_unbegun(store: Store) -> None:
    head = store.head()
    if head is not None and head.size:
        raise ConflictError(f"{store.url} already holds the ledger {head.origin!r}")


def _key_for(folder: Path, origin: str | None, entropy: Entropy) -> Signer:
    """The new key, or the one of an interrupted beginning."""
    if not (folder / VKEY_FILE).exists():
        return create_key(folder, origin or _random_origin(entropy))
    signer = load_key(folder)
    if origin is not None and origin != signer.name:
        raise ConflictError(f"{folder} holds the key of {signer.name!r}, not of {origin!r}")
    return signer


def _check_unsigned(guard: Guard, folder: Path) -> None:
    mark = guard.read()
    if mark is not None and mark.size:
        raise ConflictError(
            f"the key in {folder} has signed a ledger of {mark.size} entries, which is not here: "
            "bring its file back, or begin another ledger with another key folder"
        )


def _random_origin(entropy: Entropy) -> str:
    return f"asof.local/{entropy(8).hex()}"


# ---------------------------------------------------------------------------------- recovering


def _recoverable_mark(guard: Guard, reader: Reader) -> GuardMark | None:
    """The mark that the store is behind, or None where the guard is lost. Raises for all else."""
    try:
        mark = guard.read()
    except TamperError:
        return None
    if mark is None:
        return None
    head = reader.head()
    if mark.origin == head.origin and mark.size > head.size:
        return mark
    guard.check(reader.head, reader.root)
    raise RefusedError(
        f"nothing to recover: the store has {head.size} entries, the guard knows {mark.size}"
    )


def _epoch(why: str, actor: str, mark: GuardMark | None, head: Head) -> Draft:
    data: dict[str, object] = {"why": why, "to": _tree_head(head.size, head.root)}
    if mark is not None:
        data["from"] = _tree_head(mark.size, mark.root)
    return Draft(type="epoch.started/1", stream=STREAM, actor=actor, payload=format_json(data))


def _tree_head(size: int, root: bytes) -> dict[str, object]:
    return {"tree_size": size, "root": f"sha256:{root.hex()}"}

"""A ledger as a folder of files: to be kept, served as it lies, checked, and read back.

::

    export_folder(reader, Path("out"))              out/checkpoint, out/tile/…, out/payloads/…
    verify(ExportFolder(Path("out")), vkey=vkey)    the same steps as for a database
    import_folder(Path("out"), Path("copy.db"), vkey=vkey)

`checkpoint` and `tile/` are those of C2SP tlog-tiles: a web server over the folder is a public
log. `payloads/` has the numbering of the entry bundles; each payload lies there with its salt.
docs/spec/export.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NoReturn, Protocol

from ledger.bundle.build import entry_tiles
from ledger.chain import EARLIEST, StoredRow
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.commitment import SALT_SIZE
from ledger.entry import Entry, parse_entry
from ledger.errors import ConflictError, MalformedError, NotFoundError, StoreError, TamperError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE
from ledger.keys import VKEY_FILE
from ledger.merkle import Frontier, frontier_at
from ledger.note import VerifierKey, format_vkey
from ledger.store import AppendTransaction, Applied, Forecast, Head, KeyUse, Row, Store, Tracked
from ledger.stores.sqlite import SqliteStore
from ledger.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    TileBuilder,
    TileNodes,
    format_bundle_path,
    format_tile_path,
    full_tiles_between,
    parse_bundle,
    partial_width,
)
from ledger.verdict import Report, Verdict

__all__ = ["FOLDER_PREFIX", "ExportFolder", "Source", "copy_rows", "export_folder", "import_folder"]

FOLDER_PREFIX: Final = "folder:"
COPY_ROWS: Final = 4096
ABSENT: Final = b"\x00"
PRESENT: Final = b"\x01"

Progress = Callable[[int, int], None]


class Source(Protocol):
    """What an export is made from; `ledger.reader.Reader` is one."""

    @property
    def origin(self) -> str: ...
    @property
    def vkey(self) -> VerifierKey: ...
    def head(self) -> Head: ...
    def nodes(self, size: int) -> TileNodes: ...
    def rows(self, start: int, stop: int) -> Iterator[Row]: ...


# --- out ------------------------------------------------------------------------------------------


def export_folder(source: Source, folder: Path, *, progress: Progress | None = None) -> int:
    """Write the ledger as it is now into a folder; the number of its entries.

    A folder that holds an earlier export of the same ledger is brought up to date: what is
    complete there never changes and is left alone. `checkpoint` is replaced last, so a reader of
    the folder always finds what its checkpoint speaks of. Interrupted, it is simply called again.

    Raises ConflictError for the folder of another ledger or of a longer one, TamperError,
    StoreError.
    """
    head = source.head()
    _check_same_ledger(folder, head)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / VKEY_FILE, f"{format_vkey(source.vkey)}\n".encode())
        for start in range(0, head.size, TILE_WIDTH):
            stop = min(head.size, start + TILE_WIDTH)
            _export_piece(source, folder, start, stop)
            if progress is not None:
                progress(stop, head.size)
        _export_tiles(source, folder, head.size)
        _write(folder / "checkpoint", head.checkpoint)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}") from error
    return head.size


def _check_same_ledger(folder: Path, head: Head) -> None:
    if not (folder / "checkpoint").exists():
        return
    there = _stated_checkpoint(folder)
    if there.origin != head.origin or there.size > head.size:
        raise ConflictError(
            f"{folder} holds {there.size} entries of {there.origin}; this ledger has {head.size}"
            f" of {head.origin}: choose another folder"
        )


def _export_piece(source: Source, folder: Path, start: int, stop: int) -> None:
    """The entries [start, stop) of one entry bundle, with their payloads."""
    n, width = start // TILE_WIDTH, stop - start
    entries, payloads = format_bundle_path(n, width), _payload_path(n, width)
    if (folder / entries).exists() and (folder / payloads).exists():
        return
    for path, data in entry_tiles(source, stop, start):
        _write(folder / path, data)
    _write(folder / payloads, format_payloads(list(source.rows(start, stop))))


def _export_tiles(source: Source, folder: Path, size: int) -> None:
    """Every tile of the tree, the partial ones at its right edge too."""
    nodes = source.nodes(size)
    level = 0
    while size >> (TILE_HEIGHT * level):
        for n in range(size >> (TILE_HEIGHT * (level + 1))):
            path = folder / format_tile_path(level, n)
            if not path.exists():
                _write(path, nodes.row(level, n))
        width = partial_width(level, size)
        if width:
            n = size >> (TILE_HEIGHT * (level + 1))
            _write(folder / format_tile_path(level, n, width), nodes.partial_row(level))
        level += 1


def _write(path: Path, data: bytes) -> None:
    """A file under its name is complete: it is written under another one and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def format_payloads(rows: Sequence[StoredRow]) -> bytes:
    """The payloads of some rows: 01, salt, length in four bytes, payload; or 00 where it was
    erased.
    """
    parts = []
    for row in rows:
        salt, payload = row[7], row[8]
        if salt is None or payload is None:
            parts.append(ABSENT)
        else:
            parts.append(PRESENT + salt + len(payload).to_bytes(4, "big") + payload)
    return b"".join(parts)


def parse_payloads(data: bytes) -> list[tuple[bytes | None, bytes | None]]:
    """(salt, payload) of each row; MalformedError where a length leads beyond the end."""
    payloads: list[tuple[bytes | None, bytes | None]] = []
    at = 0
    while at < len(data):
        mark = data[at : at + 1]
        if mark == ABSENT:
            payloads.append((None, None))
            at += 1
            continue
        start = at + 1 + SALT_SIZE + 4
        stop = start + int.from_bytes(data[start - 4 : start], "big")
        if mark != PRESENT or stop > len(data) or start > len(data):
            raise MalformedError(f"the payloads end within the one of row {len(payloads)}")
        payloads.append((data[at + 1 : at + 1 + SALT_SIZE], data[start:stop]))
        at = stop
    return payloads


def _payload_path(n: int, width: int = TILE_WIDTH) -> str:
    return format_bundle_path(n, width).replace("tile/entries/", "payloads/", 1)


# --- the folder as a store ------------------------------------------------------------------------


class ExportFolder:
    """An exported folder, read through the same contract as a database; nothing can be appended.

    Its head is what `checkpoint` states; that this is signed, and true of the files, is for
    `verify` to show. What cannot be read is a TamperError that names the file.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "checkpoint").is_file():
            raise NotFoundError(
                f"{folder} holds no export of a ledger: it has no file `checkpoint`"
            )
        self._folder = folder
        self._size = _stated_checkpoint(folder).size

    @property
    def works_elsewhere(self) -> bool:
        return False

    @property
    def recovers(self) -> bool:
        return False

    @property
    def url(self) -> str:
        return f"{FOLDER_PREFIX}{self._folder}"

    def head(self) -> Head:
        checkpoint = _stated_checkpoint(self._folder)
        size = checkpoint.size
        edge = frontier_at(size, TileNodes(self.tile, self.leaf_hashes, size)).edge
        last = next(self.rows(size - 1, size), None) if size else None
        return Head(
            origin=checkpoint.origin,
            size=size,
            root=checkpoint.root,
            last_leaf=EMPTY_ROOT if last is None else last[9],
            recorded_at=EARLIEST if last is None else last[1],
            edge=edge,
            checkpoint=(self._folder / "checkpoint").read_bytes(),
        )

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        stop = min(stop, self._size)
        for n in range(start // TILE_WIDTH, -(-stop // TILE_WIDTH)):
            first = n * TILE_WIDTH
            for offset, row in enumerate(self._piece(n)):
                if start <= first + offset < stop:
                    yield row

    def rows_at(self, indexes: Collection[int]) -> list[Row]:
        """Reads the piece of 256 entries that each lies in."""
        return [row for index in sorted(set(indexes)) for row in self.rows(index, index + 1)]

    def raw_rows(self, start: int, stop: int) -> list[StoredRow]:
        return list(self.rows(start, stop))

    def stream_rows(
        self, stream: str, after_version: int = 0, limit: int | None = None
    ) -> Iterator[Row]:
        """Reads every entry: a folder has no index."""
        found = (
            row
            for row in self.rows(0, self._size)
            if row.stream == stream and row.version > after_version
        )
        return islice(found, limit)

    def stream_version(self, stream: str) -> int:
        return max((row.version for row in self.stream_rows(stream)), default=0)

    def streams(self, prefix: str = "") -> Iterator[str]:
        names = {row.stream for row in self.rows(0, self._size) if row.stream.startswith(prefix)}
        return iter(sorted(names))

    def stream_spans(self, size: int) -> Iterator[tuple[str, int, int, int]]:
        """Memory grows with the number of streams here: there is no index to read in its order."""
        spans: dict[str, tuple[int, int, int]] = {}
        for row in self.rows(0, size):
            count, low, high = spans.get(row.stream, (0, row.version, 0))
            spans[row.stream] = (count + 1, min(low, row.version), max(high, row.version))
        for name, span in sorted(spans.items()):
            yield name, *span

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        stop = min(stop, self._size)
        parts = []
        for n in range(start // TILE_WIDTH, -(-stop // TILE_WIDTH)):
            row = self._tile_file(0, n, min(TILE_WIDTH, self._size - n * TILE_WIDTH))
            low = max(start - n * TILE_WIDTH, 0)
            parts.append(row[low * HASH_SIZE : (stop - n * TILE_WIDTH) * HASH_SIZE])
        return b"".join(parts)

    def tile(self, level: int, number: int) -> bytes | None:
        if number >= self._size >> (TILE_HEIGHT * (level + 1)):
            return None
        return self._tile_file(level, number, TILE_WIDTH)

    def tiles(self) -> Iterator[Tile]:
        for level, n in full_tiles_between(0, self._size):
            yield Tile(level, n, self._tile_file(level, n, TILE_WIDTH))

    def key_use(self, key: str) -> KeyUse | None:
        return None

    def key_uses(self) -> Iterator[KeyUse]:
        """None: idempotency keys are not exported."""
        return iter(())

    def index_at(self, recorded_at: int) -> int:
        low, high = 0, self._size
        while low < high:
            middle = (low + high) // 2
            row = next(self.rows(middle, middle + 1))
            low, high = (middle + 1, high) if row[1] <= recorded_at else (low, middle)
        return low

    def check_integrity(self, *, deep: bool = True) -> list[str]:
        """The partial tiles, which nothing else reads, are what lies below them."""
        nodes = TileNodes(self.tile, self.leaf_hashes, self._size)
        complaints = []
        level = 1
        while deep and self._size >> (TILE_HEIGHT * level):
            width = partial_width(level, self._size)
            n = self._size >> (TILE_HEIGHT * (level + 1))
            try:
                if width and self._tile_file(level, n, width) != nodes.partial_row(level):
                    complaints.append(f"{format_tile_path(level, n, width)} has other hashes")
            except TamperError as error:
                complaints.append(str(error))
            level += 1
        return complaints

    def tend(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing is held."""

    def create(self, head: Head) -> None:
        self._refuse()

    def transaction(
        self, forecast: Forecast | None = None
    ) -> AbstractContextManager[AppendTransaction]:
        self._refuse()

    def tracked(self, follower: str) -> int | None:
        return None

    def track(self, tracked: Tracked) -> None:
        self._refuse()

    def migrations(self) -> Sequence[Applied]:
        return ()

    def again(self) -> Callable[[], Store] | None:
        return partial(ExportFolder, self._folder)

    def _refuse(self) -> NoReturn:
        raise StoreError(f"{self.url} is an export: import it to go on with it")

    def _tile_file(self, level: int, n: int, width: int) -> bytes:
        path = format_tile_path(level, n, width)
        data = _read(self._folder, path)
        if len(data) != width * HASH_SIZE:
            raise TamperError(
                f"{path} has another size",
                expected=f"{width * HASH_SIZE} bytes",
                found=f"{len(data)} bytes",
            )
        return data

    def _piece(self, n: int) -> list[Row]:
        """The rows of one entry bundle, from the three files that hold their parts."""
        width = min(TILE_WIDTH, self._size - n * TILE_WIDTH)
        try:
            entries = parse_bundle(_read(self._folder, format_bundle_path(n, width)))
            payloads = parse_payloads(_read(self._folder, _payload_path(n, width)))
        except MalformedError as error:
            raise TamperError(f"{format_bundle_path(n, width)}: {error}") from error
        if len(entries) != width or len(payloads) != width:
            raise TamperError(
                f"{format_bundle_path(n, width)} or its payloads are not complete",
                expected=str(width),
                found=f"{len(entries)} entries, {len(payloads)} payloads",
            )
        leaves = self._tile_file(0, n, width)
        return [
            _row(data, payload, leaves[i * HASH_SIZE : (i + 1) * HASH_SIZE])
            for i, (data, payload) in enumerate(zip(entries, payloads, strict=True))
        ]


def _row(data: bytes, payload: tuple[bytes | None, bytes | None], leaf: bytes) -> Row:
    """The row of entry bytes; of bytes that are no entry, a row that no check will take for one."""
    try:
        entry = parse_entry(data)
    except MalformedError:
        entry = Entry(
            actor="",
            commitment=b"",
            index=0,
            ledger="",
            prev=b"",
            recorded_at=0,
            stream="",
            type="",
            version=0,
        )
    return Row(
        entry.index,
        entry.recorded_at,
        entry.actor,
        entry.stream,
        entry.type,
        entry.version,
        entry.commitment,
        *payload,
        leaf,
    )


def _stated_checkpoint(folder: Path) -> Checkpoint:
    """What the checkpoint of a folder says; its signature is not looked at."""
    try:
        text, blank, _ = _read(folder, "checkpoint").rpartition(b"\n\n")
        return parse_checkpoint(text + b"\n" if blank else b"")
    except MalformedError as error:
        raise TamperError(f"{folder / 'checkpoint'} is not a checkpoint: {error}") from error


def _read(folder: Path, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except FileNotFoundError as error:
        raise TamperError(f"{path} is missing", expected="a file", found="none") from error
    except OSError as error:
        raise StoreError(f"{folder / path} cannot be read: {error.strerror}") from error


# --- in -------------------------------------------------------------------------------------------


def import_folder(
    folder: Path,
    path: Path,
    *,
    vkey: VerifierKey,
    keys: Path | None = None,
    progress: Progress | None = None,
) -> int:
    """Make a ledger's file out of an export, entry for entry; the number of its entries.

    It is a copy to read and to verify: without the private key nothing can be appended to it. The
    public key is put into `keys` where that folder has none. Nothing appears at `path` before the
    folder and the copy were both verified in full.

    Raises ConflictError where `path` exists, TamperError with the first finding, StoreError.
    """
    from ledger.audit import verify  # which reads folders through this module

    if path.exists():
        raise ConflictError(f"{path} exists: an import makes a new file")
    source = ExportFolder(folder)
    _demand_valid(verify(source, vkey=vkey), str(folder))
    unfinished = path.with_name(path.name + ".importing")
    _remove(unfinished)
    try:
        store = SqliteStore.create_file(unfinished)
        try:
            copy_rows(source, store, progress=progress)
            _demand_valid(verify(store, vkey=vkey), str(unfinished))
        finally:
            store.close()
        if keys is not None and not (keys / VKEY_FILE).exists():
            keys.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(keys / VKEY_FILE, f"{format_vkey(vkey)}\n".encode())
        unfinished.replace(path)
    except BaseException:
        _remove(unfinished)
        raise
    return source.head().size


def copy_rows(source: ExportFolder, store: Store, *, progress: Progress | None = None) -> None:
    """Put the rows of a folder into an empty store. Only the last head that is written is the
    signed one.
    """
    head = source.head()
    empty = Frontier.empty()
    start = Head(
        origin=head.origin,
        size=0,
        root=empty.root(),
        last_leaf=EMPTY_ROOT,
        recorded_at=EARLIEST,
        edge=(),
        checkpoint=head.checkpoint,
    )
    store.create(start)
    builder = TileBuilder.empty()
    rows = source.rows(0, head.size)
    while piece := list(islice(rows, COPY_ROWS)):
        builder, tiles = builder.extended([row.leaf_hash for row in piece])
        frontier = builder.frontier()
        newer = Head(
            origin=head.origin,
            size=builder.size,
            root=frontier.root(),
            last_leaf=piece[-1].leaf_hash,
            recorded_at=piece[-1].recorded_at,
            edge=frontier.edge,
            checkpoint=head.checkpoint,
        )
        with store.transaction() as append:
            append.write(piece, tiles, newer, ())
        store.tend()
        if progress is not None:
            progress(builder.size, head.size)


def _demand_valid(report: Report, what: str) -> None:
    if report.result is Verdict.ERROR:
        raise StoreError(f"{what} cannot be verified: {report.error}")
    if report.result is not Verdict.VALID:
        raise TamperError(f"{what} is not what was signed: {report.findings[0]}")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

"""The public read side: checkpoint and tiles, as C2SP tlog-tiles has them (docs/spec/tiles.md).

Full tiles never change, so anybody may keep them for ever; what is partial is put together from the
leaf hashes and kept as long, as a tile of that width never changes either. Entry bundles hold who,
what kind and when; never what an entry says. What needed a token is kept by whoever had it and by
nobody between: a shared cache would give it to everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Path, Request
from starlette.responses import Response

from api.service.describing import PROBLEM, described_as
from api.service.permissions import needs
from api.service.problems import ProblemError
from api.service.requests import new_router, served
from ledger.bundle.build import entry_tiles
from ledger.entry import entry_leaf
from ledger.errors import MalformedError, TamperError
from ledger.tiles import (
    TILE_WIDTH,
    parse_bundle,
    parse_bundle_path,
    parse_tile_path,
    split_hashes,
)

if TYPE_CHECKING:
    from api.main import Rooms
    from api.service.ledgers import Served
    from ledger.reader import Reader

__all__ = ["router"]

router = new_router()

BINARY: Final = "application/octet-stream"
FOREVER: Final = "max-age=31536000, immutable"
SHORT: Final = "max-age=5"
ENTRIES: Final = "entries/"


@router.get(
    "/t/{ledger}/checkpoint",
    summary="The newest checkpoint, with the cosignatures that there are",
    openapi_extra=needs("tiles:read"),
    responses=described_as("text/plain") | PROBLEM,
)
async def checkpoint(request: Request) -> Response:
    """A signed note. A cosigned one may be some seconds older than the newest entry."""
    here = served(request)
    published = request.app.state.published
    found = await here.asked(lambda rooms: published(here.name, rooms.reader))
    headers = _kept(here, SHORT)
    return Response(found, media_type="text/plain; charset=utf-8", headers=headers)


@router.get(
    "/t/{ledger}/tile/{tile:path}",
    summary="A tile of the tree, or a bundle of entries",
    openapi_extra=needs("tiles:read"),
    responses=described_as(BINARY) | PROBLEM,
)
async def tile(
    request: Request, tile: Annotated[str, Path(min_length=1, max_length=200)]
) -> Response:
    """`<L>/<N>[.p/<W>]` or `entries/<N>[.p/<W>]`; 404 beyond the end of the ledger."""

    def question(rooms: Rooms) -> bytes:
        try:
            if tile.startswith(ENTRIES):
                return _entries(rooms.reader, *parse_bundle_path(f"tile/{tile}"))
            return _hashes(rooms.reader, *parse_tile_path(f"tile/{tile}"))
        except MalformedError as error:
            raise ProblemError("not-found", str(error)) from None

    here = served(request)
    found = await here.asked(question)
    return Response(found, media_type=BINARY, headers=_kept(here, FOREVER))


def _kept(here: Served, how_long: str) -> dict[str, str]:
    """By whom an answer may be kept. `public` would allow a shared cache also where a token was
    needed (RFC 9111, section 3.5).
    """
    return {"Cache-Control": f"{'public' if here.public else 'private'}, {how_long}"}


def _hashes(reader: Reader, level: int, n: int, width: int) -> bytes:
    size = reader.size()
    if not _is_there(size >> (8 * level), n, width):
        raise _beyond(size)
    nodes = reader.nodes(size)
    row = nodes.row(level, n)
    return row[: 32 * width]


def _entries(reader: Reader, n: int, width: int) -> bytes:
    size = reader.size()
    if not _is_there(size, n, width):
        raise _beyond(size)
    start = n * TILE_WIDTH
    data = b"".join(data for _, data in entry_tiles(reader, start + width, start))
    leaves = [entry_leaf(entry) for entry in parse_bundle(data)] if data else []
    _check_leaves(leaves, split_hashes(reader.nodes(size).row(0, n))[:width], start)
    return data


def _check_leaves(found: list[bytes], expected: list[bytes], start: int) -> None:
    """The entries are those of the tile: what is handed out is kept for a year, whatever is mended
    meanwhile.
    """
    for at, leaf in enumerate(expected):
        if at >= len(found) or found[at] != leaf:
            raise TamperError(
                "it is not what the tile of the tree says",
                index=start + at,
                expected=leaf.hex(),
                found=found[at].hex() if at < len(found) else "nothing",
            )


def _is_there(count: int, n: int, width: int) -> bool:
    """Whether a row of `count` hashes has tile `n` at least `width` wide."""
    return n * TILE_WIDTH + width <= count


def _beyond(size: int) -> ProblemError:
    return ProblemError(
        "not-found",
        f"the ledger has {size} entries, so there is no such tile yet",
        headers={"Cache-Control": "no-store"},
    )

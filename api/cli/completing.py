"""What the shell offers after TAB: pipelines, stages, slots, plans and asset versions of the
ledger.

A completion that cannot be made is none: it never prints, never fails, and opens the ledger for
reading without checking it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from ledger.reader import Reader

    _Words: TypeAlias = Callable[[Reader], Iterable[str]]

__all__ = ["asset_versions", "pipelines", "plans", "slots", "stages"]

MANY = 200


def pipelines(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of pipelines."""
    return _offer(ctx, incomplete, lambda reader: (name for name, _ in _scopes(reader)))


def stages(ctx: typer.Context, incomplete: str) -> list[str]:
    """The stages of the pipeline that was typed, or of all."""
    wanted = ctx.params.get("pipeline")
    return _offer(
        ctx,
        incomplete,
        lambda reader: (stage for name, stage in _scopes(reader) if wanted in (None, name)),
    )


def slots(ctx: typer.Context, incomplete: str) -> list[str]:
    """The slots of the pipeline and stage that were typed."""
    stream = f"pipeline/{ctx.params.get('pipeline')}@{ctx.params.get('stage')}"
    return _offer(
        ctx,
        incomplete,
        lambda reader: ((record.data or {}).get("slot", "") for record in reader.stream(stream)),
    )


def plans(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of rollbacks."""
    return _offer(
        ctx,
        incomplete,
        lambda reader: (name.removeprefix("rollback/") for name in reader.streams("rollback/")),
    )


def asset_versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """The assets, and after `@` the versions of one."""
    asset, at, _ = incomplete.rpartition("@")
    return _offer(
        ctx,
        incomplete,
        lambda reader: (
            (f"{asset}@{(r.data or {}).get('version')}" for r in reader.stream(f"asset/{asset}"))
            if at
            else (f"{name.removeprefix('asset/')}@" for name in reader.streams("asset/"))
        ),
    )


def _scopes(reader: Reader) -> Iterator[tuple[str, str]]:
    for stream in reader.streams("pipeline/"):
        name, _, stage = stream.removeprefix("pipeline/").rpartition("@")
        yield name, stage


def _offer(ctx: typer.Context, incomplete: str, words: _Words) -> list[str]:
    """At most `MANY` distinct words that begin so."""
    from api.cli.session import Given, settled
    from ledger.opening import open_ledger

    found: dict[str, None] = {}
    with suppress(Exception):
        settings = settled(Given(store=_store(ctx)))
        with open_ledger(settings.store, keys=settings.keys, write=False, check=False) as ledger:
            for word in words(ledger.reader):
                if word.startswith(incomplete):
                    found[word] = None
                if len(found) == MANY:
                    break
    return list(found)


def _store(ctx: typer.Context) -> str | None:
    """The --store that was typed, nearest to the end of the line."""
    place: Any = ctx
    while place is not None:
        if place.params.get("store"):
            return str(place.params["store"])
        place = place.parent
    return None

"""What every command that appends ends with: the batch, the receipts, the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.session import Session
from api.cli.terminal import Ink, plain
from api.cli.words import time_text

if TYPE_CHECKING:
    from ledger.draft import Draft
    from ledger.writer import Appended

__all__ = ["ReceiptOption", "append", "append_one", "common_fields"]

ReceiptOption = Annotated[
    Path | None,
    typer.Option(
        "--receipt",
        metavar="FILE",
        show_default=False,
        help="Keep the receipts there, one a line: proof for yourself that it was recorded.",
    ),
]


def common_fields(reason: str | None, effective_at: str | None) -> dict[str, Any]:
    """The optional fields of every event that were given."""
    given = {"reason": reason, "effective_at": effective_at}
    return {name: value for name, value in given.items() if value is not None}


def append_one(
    session: Session,
    type_name: str,
    data: dict[str, Any],
    *,
    key: str | None,
    receipt: Path | None,
    stream: str | None = None,
    expected_version: int | None = None,
    sentence: str = "",
) -> None:
    """Append one event."""
    from ledger.events import draft

    one = draft(
        (type_name, data),
        stream=stream,
        actor=session.actor,
        expected_version=expected_version,
        now=session.now,
    )
    append(session, [one], key=key, receipt=receipt, sentence=sentence)


def append(
    session: Session,
    drafts: Sequence[Draft],
    *,
    key: str | None,
    receipt: Path | None,
    sentence: str = "",
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Append a batch, keep the receipts if asked to, and answer with where it lies now.

    `facts` is what the command found out and a program wants to know: it leads the JSON.
    """
    appended = session.rooms.writer.append(drafts, idempotency_key=key)
    if receipt is not None:
        _keep_receipts(appended, receipt)
    data = {
        **(facts or {}),
        "first_index": appended.first_index,
        "count": appended.count,
        "recorded_at": time_text(appended.recorded_at, exact=True),
        "tree_size": appended.tree_size,
        "repeated": appended.repeated,
        "checkpoint": appended.checkpoint.decode(),
    }
    session.output.answer(data, lines=lambda ink: _appended_lines(appended, sentence, ink))


def _keep_receipts(appended: Appended, path: Path) -> None:
    from ledger.receipt import format_receipt

    with path.open("wb") as file:
        for receipt in appended.receipts:
            file.write(format_receipt(receipt) + b"\n")


def _appended_lines(appended: Appended, sentence: str, ink: Ink) -> Iterator[str]:
    first, last = appended.first_index, appended.first_index + appended.count - 1
    place = f"entry {first}" if first == last else f"entries {first} to {last}"
    done = "already recorded as" if appended.repeated else "recorded as"
    if sentence:
        yield ink.bold(plain(sentence))
    yield f"{done} {place} at {time_text(appended.recorded_at)}"

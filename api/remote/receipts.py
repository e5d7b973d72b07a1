"""What a server acknowledged, checked before it is believed.

::

    check_appended(appended, drafts, vkey)          # returns nothing, or raises TamperError

Every answer must be about the events that were sent. With a pinned key (ASOF_VKEY) it must also be
signed by it: then who answers in the server's place, or a server with another ledger under the same
name, is found out by whoever records, at once. The payload is bound by a commitment that the server
makes; a receipt alone does not show it (docs/spec/receipt.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ledger.entry import parse_entry
from ledger.errors import MalformedError, TamperError
from ledger.receipt import Receipt, check_receipt

if TYPE_CHECKING:
    from ledger.draft import Draft
    from ledger.group import Appended
    from ledger.note import VerifierKey

__all__ = ["check_appended"]


def check_appended(
    appended: Appended, drafts: Sequence[Draft], vkey: VerifierKey | None = None
) -> None:
    """Raises TamperError, naming the entry, where a receipt is not of the draft in its place, or is
    not signed by `vkey`.
    """
    if not len(appended.receipts) == appended.count == len(drafts):
        raise TamperError(
            "the answer is not about these events",
            expected=f"{len(drafts)} receipts",
            found=str(len(appended.receipts)),
            checkpoints=(appended.checkpoint,),
        )
    for place, (receipt, draft) in enumerate(zip(appended.receipts, drafts, strict=True)):
        _check_one(receipt, draft, appended.first_index + place, vkey)


def _check_one(receipt: Receipt, draft: Draft, index: int, vkey: VerifierKey | None) -> None:
    try:
        entry = parse_entry(receipt.entry)
        if vkey is not None:
            check_receipt(receipt, vkey)
    except (MalformedError, TamperError) as error:
        raise TamperError(
            f"its receipt does not hold: {error}", index=index, checkpoints=(receipt.checkpoint,)
        ) from None
    told = (receipt.index, entry.index, entry.type, entry.stream)
    sent = (index, index, draft.type, draft.stream)
    if told != sent:
        raise TamperError(
            "its receipt is not of the event that was sent",
            index=index,
            expected=f"{draft.type} in {draft.stream}",
            found=f"entry {entry.index}, {entry.type} in {entry.stream}",
            checkpoints=(receipt.checkpoint,),
        )

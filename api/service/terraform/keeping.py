"""Which server keeps the states of a ledger: one, and every other says so.

Replicas share a ledger's key folder and have a data folder each. The first that is asked for a
state leaves the id of its file there (`terraform.keeper`); another one would answer "there is no
state" or "nobody holds the lock", and Terraform would build everything again. What happens if we
die here: the file is there, whole, or it is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from api.service.own_files import own_once
from ledger.errors import StoreError

__all__ = ["KEEPER_FILE", "claim"]

KEEPER_FILE: Final = "terraform.keeper"


def claim(folder: Path, mine: str) -> None:
    """Keep the states of the ledger with this key folder in the file with the id `mine`; where it
    is so, nothing happens. Raises StoreError where another file has them.
    """
    path = folder / KEEPER_FILE
    try:
        if not path.exists():
            own_once(path, mine.encode())
        kept = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise StoreError(f"{path} cannot be read or made: {error.strerror}") from None
    if kept != mine:
        raise StoreError(
            "the states of this ledger are kept in the data folder of another server: send "
            f"/terraform/ to that one. If its terraform.db is lost for ever, stop all servers, "
            f"remove {path} and start again"
        )

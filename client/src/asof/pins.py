"""The ledger's key as it was seen first, kept beside the spool: `ledger.vkey`.

Who was shown another ledger than yesterday would notice nothing without it. Compare the file once
with what the ledger's operator gave you.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Optional

from asof.errors import VerificationError

__all__ = ["PIN_FILE", "keep_pin", "read_pin"]

PIN_FILE = "ledger.vkey"


def read_pin(folder: Path) -> Optional[str]:
    """The key that is kept there; None where there is none yet."""
    try:
        return (folder / PIN_FILE).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def keep_pin(folder: Path, shown: str) -> bool:
    """Keep the key if it is the first; whether it was. Raises VerificationError where another one
    is kept. Of several processes that come first at once, one keeps and the others compare.
    """
    path = folder / PIN_FILE
    pinned = read_pin(folder)
    if pinned is None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        whole = path.with_name(f"{PIN_FILE}.{secrets.token_hex(4)}")
        whole.write_text(shown + "\n", encoding="ascii")
        try:
            os.link(whole, path)
            return True
        except FileExistsError:
            pinned = read_pin(folder)
        except OSError:  # no hard links here: the last of those that come at once keeps
            os.replace(whole, path)
            return True
        finally:
            whole.unlink(missing_ok=True)
    if pinned != shown:
        raise VerificationError(
            f"the server shows the key {shown}, and {path} holds {pinned}: another ledger, or a "
            "key that was changed. Nothing is sent. Ask the ledger's operator; each ledger needs "
            "a spool folder of its own, and a key that was rotated is put into that file"
        )
    return False

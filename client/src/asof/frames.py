"""Digests of data in memory: arrays (NumPy), frames and series (pandas, polars), by their values.

::

    digest, told = frame_digest(frame)       # "sha256:…", {"shape": [210400, 3], …}

The bytes that are hashed (`asof.frame/1`) are a line of JSON, which names the rows and each column
with how its values are written, and then each column: its length in 8 bytes, little end first, and
its values: numbers, times and booleans as they lie in memory, little end first; everything else as
JSON, a text or null for each. So the same values give the same digest on every machine; the same
values with another width (float32, float64) are other data. No library is imported here.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any, Optional

__all__ = ["frame_digest", "is_frame"]

PLAIN_KINDS = "biufcmM"
MOST_NAMES = 200


def is_frame(what: Any) -> bool:
    """Whether it is an array or a frame, as far as this module can tell."""
    frame = all(hasattr(what, name) for name in ("columns", "shape", "dtypes"))
    return frame or _is_array(what) or _is_series(what)


def frame_digest(what: Any) -> tuple[str, dict[str, Any]]:
    """The digest of the values, and what is worth knowing about them. Reads all of them, in the
    calling thread: about a second for a gigabyte of numbers; texts are slower."""
    columns = [("", what)] if _is_array(what) else _columns(what)
    written = [(name, *_written(values)) for name, values in columns]
    shape = [int(size) for size in what.shape]
    head = {
        "columns": [[name, form] for name, form, _ in written],
        "format": "asof.frame/1",
        "shape": shape,
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode())
    for _, _, data in written:
        digest.update(b"\n" + struct.pack("<Q", memoryview(data).nbytes))
        digest.update(data)
    told: dict[str, Any] = {"digest_of": "values, as asof.frame/1", "shape": shape}
    if not _is_array(what):
        told["columns"] = [name for name, _, _ in written][:MOST_NAMES]
    return f"sha256:{digest.hexdigest()}", told


def _is_array(what: Any) -> bool:
    return all(hasattr(what, name) for name in ("dtype", "shape", "tobytes"))


def _is_series(what: Any) -> bool:
    return all(hasattr(what, name) for name in ("dtype", "shape", "name", "to_numpy"))


def _columns(frame: Any) -> list[tuple[str, Any]]:
    """The columns with their names; an index that is more than a count is one of them."""
    found = []
    index: Optional[Any] = getattr(frame, "index", None)
    if index is not None and type(index).__name__ != "RangeIndex" and hasattr(index, "to_numpy"):
        found.append(("(index)", index.to_numpy()))
    if _is_series(frame):
        return [*found, (str(frame.name), frame.to_numpy())]
    for number, name in enumerate(frame.columns):
        column = frame.iloc[:, number] if hasattr(frame, "iloc") else frame[name]
        found.append((str(name), column.to_numpy()))
    return found


def _written(values: Any) -> tuple[str, Any]:
    """How the values are written, and their bytes."""
    if values.dtype.kind in PLAIN_KINDS:
        little = values.dtype.newbyteorder("<")
        data = values.astype(little, order="C", copy=False)
        return str(little.str), data.tobytes() if data.dtype.kind in "mM" else memoryview(data)
    flat = [_text(value) for value in values.ravel().tolist()]
    return "text", json.dumps(flat, separators=(",", ":")).encode()


def _text(value: Any) -> Optional[str]:
    missing = value is None or (isinstance(value, float) and value != value)
    return None if missing else str(value)

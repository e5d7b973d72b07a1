"""A prepared batch as bytes, for a file and for processes of our own, and back.

::

    unpacked(packed(batch), key=batch.key) == batch

Columns in the interpreter's own serialisation (`marshal` cannot run code, and nobody else gets at
these bytes), behind a checksum: what a disk or a memory has changed between the door and the append
would be recorded beside a commitment that it does not fit, and is refused instead. A third of a
microsecond an event, each way.
"""

from __future__ import annotations

import marshal
from zlib import crc32

from ledger.batch import Batch, in_parts
from ledger.commitment import SALT_SIZE
from ledger.draft import as_draft
from ledger.errors import StoreError
from ledger.hashing import HASH_SIZE

__all__ = ["packed", "unpacked"]


def packed(batch: Batch) -> bytes:
    """All of it but the key, which says where a batch comes from and is known there."""
    types, streams, actors, payloads, versions = zip(*batch.drafts, strict=True)
    once: dict[str, str] = {}  # equal names as one object, which is written once
    columns = (
        [once.setdefault(name, name) for name in types],
        [once.setdefault(name, name) for name in streams],
        [once.setdefault(name, name) for name in actors],
        payloads,
        versions,
        b"".join(batch.salts),
        b"".join(batch.commitments),
        batch.size_bytes,
        batch.digest,
    )
    data = marshal.dumps(columns)
    return crc32(data).to_bytes(4, "big") + data


def unpacked(data: bytes, *, key: str) -> Batch:
    """The batch again. Raises: StoreError where the bytes are not those that were packed."""
    body = memoryview(data)[4:]
    if crc32(body) != int.from_bytes(data[:4], "big"):
        raise StoreError(
            "what was checked was changed before it was appended, by the memory or by the disk of"
            " temporary files: nothing of this piece was written; run the same import again"
        )
    *columns, salts, commitments, size, digest = marshal.loads(body)  # noqa: S302  # our own bytes
    return Batch(
        drafts=tuple(map(as_draft, zip(*columns, strict=True))),
        salts=in_parts(salts, SALT_SIZE),
        commitments=in_parts(commitments, HASH_SIZE),
        size_bytes=size,
        key=key,
        digest=digest,
    )

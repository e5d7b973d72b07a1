"""What can go wrong, and it never goes wrong in training code unless `strict=True` was asked
for.
"""

from __future__ import annotations

from typing import Any, Optional

__all__ = ["AsofError", "NotSentError", "ProblemError", "UnverifiedError", "VerificationError"]


class AsofError(Exception):
    """The root of what this library raises on purpose."""


class ProblemError(AsofError):
    """The server said no: `slug` is the kind of problem, `status` the HTTP status."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.slug = str(body.get("type", "")).rpartition("/")[2] or "unknown"
        self.detail = str(body.get("detail", ""))
        self.pointer = str(body.get("pointer", ""))
        self.retry_after: Optional[float] = None
        super().__init__(f"{self.slug}: {self.detail or f'HTTP {status}'}")


class NotSentError(AsofError):
    """The server did not answer; what was recorded is in the spool and will be sent."""


class VerificationError(AsofError):
    """Evidence: what was checked is not what was signed."""


class UnverifiedError(AsofError):
    """It could not be checked. Neither good nor bad is known."""

"""A token as people and programs see it: everything but the secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger.canonical import format_time

if TYPE_CHECKING:
    from api.service.access.registry import Token

__all__ = ["token_json"]


def token_json(token: Token, now: int, used: int | None = None) -> dict[str, Any]:
    """Unknown is None, never left out. `status` is live, expired or revoked."""
    if token.revoked_at is not None:
        status = "revoked"
    else:
        status = "expired" if token.expires_at <= now else "live"
    return {
        "id": token.id,
        "principal": token.principal,
        "roles": sorted(token.roles),
        "status": status,
        "created_at": format_time(token.created_at),
        "created_by": token.created_by,
        "expires_at": format_time(token.expires_at),
        "revoked_at": None if token.revoked_at is None else format_time(token.revoked_at),
        "last_used_at": None if used is None else format_time(used),
    }

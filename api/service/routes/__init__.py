"""The routes, a file for each subject. A route translates; it holds no rule (docs/spec/http.md).

Each file has a `router`; each route says what it `needs(…)`.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from api.service.routes import (
    access,
    docs,
    entries,
    health,
    ingest,
    login,
    pages,
    questions,
    reports,
    rollbacks,
    setup,
    stream,
    terraform,
    tiles,
    verifications,
    webhooks,
    witness,
)

__all__ = ["ROUTERS"]

ROUTERS: Final[tuple[APIRouter, ...]] = tuple(
    module.router
    for module in (
        entries,
        questions,
        stream,
        verifications,
        rollbacks,
        reports,
        tiles,
        witness,
        ingest,
        terraform,
        webhooks,
        access,
        login,
        setup,
        pages,
        docs,
        health,
    )
)

"""The client for asyncio: the same spool, questions that do not block the loop.

::

    async with asof.aio.AsyncClient() as client:
        client.record("note.added/1", {"text": "go"}, stream="note/release")
        print((await client.state("demand-forecast", "production")).bindings)

Recording is a write to the spool, which is as quick as anything that a loop does; flushing, asking
and verifying are awaited.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Union

import httpx2

import asof
from asof.answers import Entries, State
from asof.errors import NotSentError
from asof.events import instant
from asof.transport import problem_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asof.client import Client, Recorded
    from asof.receipts import Receipt, Verified

__all__ = ["AsyncClient"]


class AsyncClient:
    """Beside a `Client` (that of the module by default), for one event loop."""

    def __init__(self, client: Optional[Client] = None) -> None:
        self._client = client or asof.client()
        self._http: Optional[httpx2.AsyncClient] = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.flush(5.0)
        if self._http is not None:
            await self._http.aclose()

    def record(
        self, type_name: str, data: Mapping[str, Any], *, stream: Optional[str] = None
    ) -> Recorded:
        """Record an event; returns at once."""
        return self._client.record(type_name, data, stream=stream)

    async def flush(self, timeout: Optional[float] = 30.0) -> bool:
        """Wait until everything was acknowledged; whether it was."""
        return await asyncio.to_thread(self._client.flush, timeout)

    async def state(
        self,
        pipeline: Optional[str] = None,
        stage: Optional[str] = None,
        *,
        at: Union[str, datetime, None] = None,
        known_at: Union[str, datetime, None] = None,
        basis: Optional[int] = None,
    ) -> State:
        """What was bound, running and served. Raises ProblemError, NotSentError."""
        from urllib.parse import quote

        await self.flush(self._client.timeout)
        named = quote(pipeline or self._client.pipeline or "unnamed", safe="")
        path = f"/pipelines/{named}/stages/{quote(stage or self._client.stage, safe='')}/state"
        return State(await self._get(path, at=instant(at), known_at=instant(known_at), basis=basis))

    async def log(self, query: str = "", *, limit: int = 100, order: str = "desc") -> Entries:
        """Entries that pass a query. Raises ProblemError, NotSentError."""
        await self.flush(self._client.timeout)
        return Entries(await self._get("/entries", q=query, limit=limit, order=order))

    async def verify(
        self, what: Union[Receipt, Recorded, str, Path, None] = None, *, vkey: Optional[str] = None
    ) -> Verified:
        """Check receipts offline."""
        return await asyncio.to_thread(self._client.verify, what, vkey=vkey)

    async def _get(self, path: str, **params: Any) -> dict[str, Any]:
        client = self._client
        if not client.server or not client.ledger:
            raise NotSentError("no server is configured: asof.configure(server=…) or ASOF_SERVER")
        if self._http is None:
            headers = {"Authorization": f"Bearer {client.token}"} if client.token else {}
            self._http = httpx2.AsyncClient(
                base_url=client.server, headers=headers, timeout=client.timeout
            )
        given = {name: value for name, value in params.items() if value is not None}
        try:
            response = await self._http.get(f"/v1/ledgers/{client.ledger}{path}", params=given)
        except httpx2.HTTPError as error:
            raise NotSentError(f"{client.server} does not answer: {error}") from None
        if not response.is_success:
            raise problem_of(response)
        found: dict[str, Any] = response.json()
        return found

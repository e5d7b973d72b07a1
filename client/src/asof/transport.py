"""Requests to the server, sync: one connection that is kept, problems as errors, keys on all that
appends."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any, Optional

import httpx2

from asof.errors import NotSentError, ProblemError

__all__ = ["GZIP_FROM", "Transport", "encoded", "problem_of"]

GZIP_FROM = 8 << 10


class Transport:
    """One server and ledger. Used by one thread at a time."""

    def __init__(self, server: str, token: Optional[str], ledger: str, *, timeout: float) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.server = server
        self.ledger = ledger
        self._client = httpx2.Client(base_url=server, headers=headers, timeout=timeout)

    def append(self, events: Sequence[bytes], key: str) -> dict[str, Any]:
        """Append a batch of events, each as JSON; the answer. Raises ProblemError, NotSentError."""
        content, headers = encoded(events, key)
        answer = self._json("POST", "/entries", content=content, headers=headers)
        if type(answer.get("first_index")) is not int or "checkpoint" not in answer:
            raise NotSentError(f"{self.server} answers something else than a ledger does")
        return answer

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """The answer to a question. Raises ProblemError, NotSentError."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._json("GET", path, params=given)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, f"/v1/ledgers/{self.ledger}{path}", **more)
        except httpx2.HTTPError as error:
            raise NotSentError(
                f"{self.server} does not answer: {error or type(error).__name__}"
            ) from None
        if not response.is_success:
            raise problem_of(response)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise NotSentError(f"{self.server} answers something else than a ledger does")
        return found


def encoded(events: Sequence[bytes], key: str) -> tuple[bytes, dict[str, str]]:
    """The body of an append and its headers: the same bytes for the same events."""
    content = b'{"events":[' + b",".join(events) + b"]}"
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    if len(content) >= GZIP_FROM:
        content = gzip.compress(content, 5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return content, headers


def problem_of(response: httpx2.Response) -> ProblemError:
    """The problem that an answer is; with how long to wait, where it says so."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    error = ProblemError(response.status_code, body if isinstance(body, dict) else {})
    wait = response.headers.get("retry-after", "")
    if wait.isdecimal():
        error.retry_after = min(60.0, float(wait))
    return error

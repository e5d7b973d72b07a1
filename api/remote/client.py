"""Requests of the command line to a server: problems become the house's errors, so that messages,
hints and exit codes are those of a local ledger.

::

    client = Client("https://ledger.example.com", token=…, ledger="acme")
    client.get("/pipelines/forecast/stages/production/state", at="2h ago")
    client.post("/entries", {"events": […]}, key="deploy-7")

A POST whose outcome is unknown is sent again with the same key, a few times.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx2

from api.hints import hinted
from ledger.errors import (
    AsofError,
    ConflictError,
    IncompleteError,
    LoginRefusedError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
    UnreachableError,
)

__all__ = ["Client", "segment"]

ATTEMPTS: Final = 4
SECONDS: Final = 60.0

_ERRORS: Final[dict[str, type[AsofError]]] = {
    "conflict": ConflictError,
    "idempotency-key-reused": ConflictError,
    "incomplete": IncompleteError,
    "not-allowed": RefusedError,
    "not-found": NotFoundError,
    "outcome-unknown": UnknownOutcomeError,
    "precondition-failed": ConflictError,
    "refused": RefusedError,
    "too-many-requests": UnreachableError,
    "unavailable": UnreachableError,
    "unauthenticated": LoginRefusedError,
}


class Client:
    """One server, token and ledger. A token that reaches one ledger need not name it."""

    def __init__(self, server: str, *, token: str | None, ledger: str | None) -> None:
        if not server.startswith(("http://", "https://")):
            raise MalformedError(f"{server!r} is no URL of a server: https://…", where="--server")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.server = server.rstrip("/")
        self._ledger = ledger
        self._token = token
        self._http = httpx2.Client(base_url=self.server, headers=headers, timeout=SECONDS)

    @property
    def ledger(self) -> str:
        """The ledger's name at the server. Raises MalformedError where the token reaches
        several.
        """
        if self._ledger is None:
            names = [one["ledger"] for one in self._request("GET", "/v1/ledgers").json()["ledgers"]]
            if len(names) != 1:
                told = ", ".join(names) or "none"
                raise MalformedError(f"which ledger? this token reaches {told}", where="--ledger")
            self._ledger = names[0]
        return self._ledger

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of an answer. Raises the error that a problem is; UnreachableError."""
        return self._request("GET", self._path(path), params=_given(parameters)).json()

    def text(self, path: str) -> str:
        """An answer that is no JSON."""
        return self._request("GET", self._path(path)).text

    def post(self, path: str, body: Mapping[str, Any] | None, *, key: str | None = None) -> Any:
        """The JSON of the answer; sent again with the same key while its outcome is unknown."""
        headers = {} if key is None else {"Idempotency-Key": key}
        for attempt in range(ATTEMPTS):
            try:
                url = self._path(path)
                return self._request("POST", url, json=body or {}, headers=headers).json()
            except (UnknownOutcomeError, UnreachableError) as error:
                again = key is not None and attempt < ATTEMPTS - 1
                if not again or isinstance(error, LoginRefusedError):
                    raise
                time.sleep(0.3 * 2**attempt)
        raise AssertionError("each attempt returns or raises")

    def pages(self, path: str, name: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Every record of a list, page by page."""
        cursor: str | None = None
        while True:
            found = self.get(path, **parameters, cursor=cursor, limit=1_000)
            yield from found[name]
            cursor = found["next"]
            if cursor is None:
                return

    def events(self, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The records of an event stream, for as long as it is open."""
        url = self._path(path)
        try:
            with self._http.stream("GET", url, params=_given(parameters), timeout=None) as response:
                if response.status_code >= 400:
                    response.read()
                    raise self._error(response)
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line.removeprefix("data: "))
        except httpx2.HTTPError as error:
            raise self._away(error) from None

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _path(self, path: str) -> str:
        return f"/v1/ledgers/{segment(self.ledger)}{path}"

    def _request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        try:
            response = self._http.request(method, path, **more)
        except httpx2.HTTPError as error:
            raise self._away(error) from None
        if response.status_code >= 400:
            raise self._error(response)
        return response

    def _away(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"{self.server} does not answer: {error or type(error).__name__}")

    def _error(self, response: httpx2.Response) -> AsofError:
        """The error of the house that a problem stands for."""
        try:
            body = response.json()
        except ValueError:
            return StoreError(
                f"{self.server} answers {response.status_code}, and is no asof server"
            )
        slug = str(body.get("type", "")).rpartition("/")[2]
        detail = str(body.get("detail", f"HTTP {response.status_code}"))
        if slug == "tampered":
            told = body.get("evidence") or {}
            return TamperError(detail, index=told.get("index"))
        kind = _ERRORS.get(slug)
        if kind is LoginRefusedError:
            what = "ASOF_TOKEN is not set" if self._token is None else "the token is not taken"
            return hinted(RefusedError(f"{self.server}: {what}"), "ASOF_TOKEN=asof_live_… asof …")
        if kind is None:
            malformed = response.status_code < 500
            return MalformedError(detail) if malformed else StoreError(f"{self.server}: {detail}")
        return kind(detail)


def segment(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}

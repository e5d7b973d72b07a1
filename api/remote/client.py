"""Requests of the command line to a server: problems become the house's errors, so that messages,
hints and exit codes are those of a local ledger.

::

    client = Client("https://ledger.example.com", token=…, ledger="acme")
    client.get("/pipelines/forecast/stages/production/state", at="2h ago")
    client.post("/entries", {"events": […]}, key="deploy-7", repeatable=True)

What was certainly not done is sent again, a few times, after as long as the server demands; what
may have been done only where the server answers the same key with the first answer
(docs/adr/0100).
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx2

from api.hints import hinted
from api.remote.problems import BusyError, error_of, lost, object_of
from ledger.errors import (
    AsofError,
    MalformedError,
    RefusedError,
    StoreError,
    UnknownOutcomeError,
    UnreachableError,
)

__all__ = ["Client", "segment"]

ATTEMPTS: Final = 4
PATIENCE: Final = 30
SECONDS: Final = 60.0
FIRST_PAUSE_SECONDS: Final = 0.3
LONGEST_PAUSE_SECONDS: Final = 2.0


class Client:
    """One server, token and ledger. A token that reaches one ledger need not name it."""

    def __init__(self, server: str, *, token: str | None, ledger: str | None) -> None:
        """Raises MalformedError for what is no URL of a server, or no token; repeats neither a
        token nor a password.
        """
        headers = {} if token is None else {"Authorization": f"Bearer {_checked_token(token)}"}
        self.server = _checked_server(server)
        self._ledger = ledger
        self._token = token
        self._http = httpx2.Client(base_url=self.server, headers=headers, timeout=SECONDS)

    @property
    def ledger(self) -> str:
        """The ledger's name at the server. Raises MalformedError where the token reaches
        several.
        """
        if self._ledger is None:
            names = [one["ledger"] for one in self._json("GET", "/v1/ledgers")["ledgers"]]
            if len(names) != 1:
                told = ", ".join(names) or "none"
                raise MalformedError(f"which ledger? this token reaches {told}", where="--ledger")
            self._ledger = names[0]
        return self._ledger

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of an answer; a server that is busy is asked again when it says so, a few times.

        Raises the error that a problem is; UnreachableError.
        """
        url, given = self._path(path), _given(parameters)
        for attempt in range(1, ATTEMPTS):
            try:
                return self._json("GET", url, params=given)
            except BusyError as error:
                _pause(attempt, error)
        return self._json("GET", url, params=given)

    def text(self, path: str) -> str:
        """An answer that is no JSON."""
        return self._request("GET", self._path(path)).text

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        key: str | None = None,
        repeatable: bool = False,
    ) -> Any:
        """The JSON of the answer. With a key, what was not done is sent again; with `repeatable`
        also what may have been done.

        Raises UnknownOutcomeError where any attempt may have arrived and none was answered.
        """
        url = self._path(path)
        headers = {} if key is None else {"Idempotency-Key": key}
        unknown: UnknownOutcomeError | None = None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._json("POST", url, json=body or {}, headers=headers)
            except UnknownOutcomeError as error:
                unknown = error
                if not repeatable or attempt == ATTEMPTS:
                    raise
                _pause(attempt, error)
            except UnreachableError as error:
                if key is None or attempt == ATTEMPTS:
                    raise unknown or error from None
                _pause(attempt, error)
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

    def events(self, path: str, *, after: int, **parameters: Any) -> Generator[dict[str, Any]]:
        """The records of an event stream behind the entry `after`, without end: a stream that
        breaks off is gone on with where it was, so that nothing is left out and nothing comes
        twice.

        Raises UnreachableError where it cannot be opened, or not again within a minute or so.
        """
        url, given = self._path(path), _given(parameters)
        opened, failures = False, 0
        while True:
            try:
                for line in self._lines(url, {**given, "after": after}):
                    opened, failures = True, 0
                    if line.startswith("data: "):
                        record = json.loads(line.removeprefix("data: "))
                        after = record["index"]
                        yield record
            except UnreachableError:
                failures += 1
                if not opened or failures > PATIENCE:
                    raise
            time.sleep(min(FIRST_PAUSE_SECONDS * 2**failures, LONGEST_PAUSE_SECONDS))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _path(self, path: str) -> str:
        return f"/v1/ledgers/{segment(self.ledger)}{path}"

    def _lines(self, url: str, parameters: Mapping[str, Any]) -> Iterator[str]:
        """The lines of a stream until it breaks off. The server says at least each 15 s that it is
        there, so that a longer silence is a dead line.
        """
        try:
            with self._http.stream("GET", url, params=parameters) as response:
                if not response.is_success:
                    response.read()
                    raise self._error(response, asks=True)
                kind = response.headers.get("content-type", "")
                if not kind.startswith("text/event-stream"):
                    raise StoreError(f"{self.server} gives no event stream: it is no asof server")
                yield from response.iter_lines()
        except httpx2.HTTPError as error:
            raise lost(error, server=self.server, asks=True) from None

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return object_of(self._request(method, path, **more), server=self.server)

    def _request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        asks = method == "GET"
        try:
            response = self._http.request(method, path, **more)
        except httpx2.HTTPError as error:
            raise lost(error, server=self.server, asks=asks) from None
        if not response.is_success:
            raise self._error(response, asks=asks)
        return response

    def _error(self, response: httpx2.Response, *, asks: bool) -> AsofError:
        if response.status_code == 401 and self._token is None:
            told = RefusedError(f"{self.server}: ASOF_TOKEN is not set")
            return hinted(told, "ASOF_TOKEN=asof_live_… asof …")
        return error_of(response, server=self.server, asks=asks)


def _pause(attempt: int, error: AsofError) -> None:
    """As long as the server says, or longer each time."""
    told = error.seconds if isinstance(error, BusyError) else None
    time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) if told is None else told)


def segment(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


def _checked_server(text: str) -> str:
    """The URL without its last slash. Raises MalformedError."""
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        raise MalformedError(
            "this is no URL: https://ledger.example.com", where="--server"
        ) from None
    if url.userinfo:
        raise MalformedError("a URL with a password: put a token into ASOF_TOKEN", where="--server")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise MalformedError(f"{text!r} is no URL of a server: https://…", where="--server")
    return text.rstrip("/")


def _checked_token(token: str) -> str:
    """Raises MalformedError, which does not repeat it, for what no header may hold."""
    if all("!" <= letter <= "~" for letter in token):
        return token
    told = "holds a character that no token has, such as a blank or a line break"
    raise MalformedError(told, where="ASOF_TOKEN")


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}

"""An OpenID provider of the tests, over real HTTP: keys, an authorization page, a token endpoint.

It is strict where a provider is strict (a code is good once, for its redirect URI, with the right
verifier and client secret), and `spoil` makes it answer with what must not be taken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

__all__ = ["AUDIENCE", "CLIENT", "SECRET", "Provider"]

AUDIENCE = "asof"
CLIENT = "asof-browser"
SECRET = "a client's secret: with +/&= in it"


class Provider:
    """Serves its public keys; signs whatever it is asked to; knows one person, who always agrees.

    `asked` counts fetches of the keys, `redeemed` those of codes. `person` are claims of whoever
    logs in; `spoil` changes an answer of the token endpoint before it is sent.
    """

    def __init__(self) -> None:
        self.keys = [
            RSAKey.generate_key(2048, {"kid": "one"}),
            ECKey.generate_key("P-256", {"kid": "two"}),
        ]
        self.asked = 0
        self.redeemed = 0
        self.person: dict[str, Any] = {}
        self.spoil: Callable[[dict[str, Any]], tuple[int, bytes]] | None = None
        self.lax_codes = False
        self._codes: dict[str, dict[str, str]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def token(self, *, key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        """A JWT for the API; a claim that is None is left out."""
        now = int(time.time())
        told = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "person-1",
            "iat": now,
            "exp": now + 300,
            "groups": ["ml-auditors"],
            "email": "ada@example.com",
        } | claims
        told = {name: value for name, value in told.items() if value is not None}
        key = key or self.keys[0]
        header = {"alg": algorithm, "kid": key.kid}
        return jwt.encode(header, told, key, algorithms=[algorithm])

    def authorize(self, address: str) -> str:
        """What the person's browser is told after they agreed: the address to go back to."""
        asked = dict(parse_qsl(urlsplit(address).query, strict_parsing=True))
        assert address.startswith(f"{self.url}/authorize?")
        assert asked["response_type"] == "code" and asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256" and "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        told = {"code": code, "state": asked["state"], "iss": self.url, "session_state": "x.y"}
        return f"{asked['redirect_uri']}?{urlencode(told)}"

    def redeem(self, form: dict[str, str], authorization: str | None) -> tuple[int, bytes]:
        """The answer of the token endpoint."""
        self.redeemed += 1
        code = form.get("code", "")
        asked = self._codes.get(code) if self.lax_codes else self._codes.pop(code, None)
        pair = f"{quote(CLIENT, safe='')}:{quote(SECRET, safe='')}".encode()
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        good = (
            asked is not None
            and authorization == f"Basic {base64.b64encode(pair).decode()}"
            and form.get("grant_type") == "authorization_code"
            and form.get("redirect_uri") == asked["redirect_uri"]
            and challenge == asked["code_challenge"]
        )
        if not good or asked is None:
            return 400, b'{"error": "invalid_grant"}'
        claims = {"aud": CLIENT, "nonce": asked["nonce"], "azp": CLIENT} | self.person
        if self.spoil is not None:
            return self.spoil(claims)
        return 200, json.dumps({"id_token": self.token(**claims), "access_token": "x"}).encode()


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            self._send(200, json.dumps(KeySet(provider.keys).as_dict(private=False)).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._send(*provider.redeem(form, self.headers.get("Authorization")))

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    return Handler

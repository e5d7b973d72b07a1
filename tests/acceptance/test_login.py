"""A person logs in with a browser, at a provider of the tests, over real HTTP; and all the ways in
which nobody does.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey

from tests.support.provider import AUDIENCE, CLIENT, SECRET, Provider
from tests.support.service import Running, prepare, started

L = "/v1/ledgers/acme"
SESSION, LOGIN = "asof-session", "asof-login"
NOTE = {"type": "note.added/1", "stream": "note/x", "data": {"text": "from a browser"}}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


@contextmanager
def served(provider: Provider, folder: Path, site: str | None = None) -> Iterator[Running]:
    """A server that knows the provider, and has its keys already; `site` where browsers reach it
    by another address than its own.
    """
    made = prepare(folder, roles=("admin", "auditor"))
    (folder / "secret").write_text(SECRET + "\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = f"""
[server]
url = "{site or f"http://127.0.0.1:{port}"}"
[ledgers.acme]
store = "{made.environment["ASOF_STORE"]}"
keys = "keys"

[oidc]
issuer = "{provider.url}"
audience = "{AUDIENCE}"
jwks_url = "{provider.url}/keys"
client_id = "{CLIENT}"
client_secret_file = "secret"
authorization_url = "{provider.url}/authorize"
token_url = "{provider.url}/token"

[oidc.roles]
"ml-auditors" = ["acme:auditor"]
"ml-operators" = ["acme:operator"]
"""
    with started(made, config=config, port=port) as running:
        running.url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with running.client(headers={"Authorization": f"Bearer {provider.token()}"}) as client:
                if client.get("/v1/whoami").status_code == 200:
                    break
            time.sleep(0.02)
        yield running


@pytest.fixture(scope="module")
def running(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with served(provider, tmp_path_factory.mktemp("login")) as running:
        yield running


@pytest.fixture(autouse=True)
def honest(provider: Provider) -> None:
    provider.person, provider.spoil, provider.lax_codes = {}, None, False


def begun(browser: httpx2.Client, to: str = "/v1/whoami") -> str:
    """The address at the provider that the browser is sent to."""
    answer = browser.get("/auth/login", params={"to": to})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def logged_in(
    browser: httpx2.Client, provider: Provider, to: str = "/v1/whoami"
) -> httpx2.Response:
    return browser.get(provider.authorize(begun(browser, to)))


def cookies_of(answer: httpx2.Response) -> dict[str, str]:
    lines = answer.headers.get_list("set-cookie")
    return {line.partition("=")[0]: line for line in lines}


# ---------------------------------------------------------------------------------- in and out


def test_a_person_logs_in_reads_and_logs_out(running: Running, provider: Provider) -> None:
    with running.client() as browser:
        assert browser.get("/v1/whoami").status_code == 401, "the control"
        answer = logged_in(browser, provider, "/v1/ledgers")
        assert answer.status_code == 200 and answer.headers["refresh"] == "0;url=/v1/ledgers"
        assert 'href="/v1/ledgers"' in answer.text and "no-store" in answer.headers["cache-control"]
        cookies = cookies_of(answer)
        assert "HttpOnly" in cookies[SESSION] and "SameSite=strict" in cookies[SESSION]
        assert "Max-Age=0" in cookies[LOGIN], "what the login needed is gone"
        told = browser.get("/v1/whoami").json()
        assert told["principal"].startswith("user:") and told["credential"].startswith("session:")
        assert told["ledgers"]["acme"]["roles"] == ["auditor"]
        assert "ada" not in json.dumps(told) and browser.cookies[SESSION] not in json.dumps(told)
        assert browser.get(f"{L}/entries").status_code == 200
        assert browser.get(f"{L}/access/principals").status_code == 200
        kept = browser.cookies[SESSION]
        done = browser.post("/auth/logout", headers={"Origin": running.url})
        assert done.status_code == 204 and SESSION not in browser.cookies
        stolen = {"Cookie": f"{SESSION}={kept}"}
        assert httpx2.get(f"{running.url}/v1/whoami", headers=stolen).status_code == 401


def test_session_and_token_of_a_person_are_one_principal(
    running: Running, provider: Provider
) -> None:
    """Whoever requests with one cannot approve with the other."""
    with running.client() as browser:
        logged_in(browser, provider)
        bearer = {"Authorization": f"Bearer {provider.token()}"}
        mine = browser.get("/v1/whoami").json()["principal"]
        assert browser.get("/v1/whoami", headers=bearer).json()["principal"] == mine
        provider.person = {"sub": "person-2"}
    with running.client() as other:
        logged_in(other, provider)
        assert other.get("/v1/whoami").json()["principal"] != mine, "the control"


def test_another_site_writes_nothing_with_a_session(running: Running, provider: Provider) -> None:
    provider.person = {"groups": ["ml-operators"]}
    with running.client() as browser:
        logged_in(browser, provider)

        def posted(number: int, **headers: str) -> int:
            told = {"Idempotency-Key": f"login-{number}", **headers}
            return browser.post(f"{L}/entries", json=NOTE, headers=told).status_code

        port = urlsplit(running.url).port or 0
        wrong = (
            "https://evil.example.com",
            "null",
            f"http://127.0.0.1:{port + 1}",
            f"https://127.0.0.1:{port}",
            f"http://localhost:{port}",
            f"{running.url}.evil.example.com",
        )
        assert posted(0) == 401, "no Origin"
        assert [posted(n, Origin=one) for n, one in enumerate(wrong)] == [401] * len(wrong)
        assert browser.post("/auth/logout", headers={"Origin": wrong[0]}).status_code == 401
        assert posted(99, Origin=running.url) == 201, "the control"


def test_an_authorization_that_does_not_hold_is_not_saved_by_a_cookie(
    running: Running, provider: Provider
) -> None:
    with running.client() as browser:
        logged_in(browser, provider)
        assert browser.get("/v1/whoami").status_code == 200, "the control"
        for value in ("Bearer nothing", "Basic eDp5", ""):
            answer = browser.get("/v1/whoami", headers={"Authorization": value})
            assert answer.status_code == 401, value


# ------------------------------------------------------------------------------ nobody gets in

Spoil = Callable[[Provider, dict[str, Any]], dict[str, Any]]
NOW = time.time
TOKENS: dict[str, Spoil] = {
    "another nonce": lambda provider, claims: claims | {"nonce": "another"},
    "no nonce": lambda provider, claims: claims | {"nonce": None},
    "a nonce of another kind": lambda provider, claims: claims | {"nonce": 7},
    "the audience of the API": lambda provider, claims: claims | {"aud": AUDIENCE},
    "for another client": lambda provider, claims: claims | {"aud": [CLIENT, "x"], "azp": "x"},
    "another issuer": lambda provider, claims: claims | {"iss": "https://x.example.com"},
    "expired": lambda provider, claims: claims | {"exp": int(NOW()) - 120},
    "an hour old": lambda provider, claims: claims | {"iat": int(NOW()) - 3600},
    "from the future": lambda provider, claims: claims | {"iat": int(NOW()) + 600},
    "another key": lambda provider, claims: (
        claims | {"key": RSAKey.generate_key(2048, {"kid": "one"})}
    ),
}


@pytest.mark.parametrize("name", TOKENS)
def test_an_id_token_that_does_not_hold(running: Running, provider: Provider, name: str) -> None:
    spoiled = TOKENS[name]
    provider.spoil = lambda claims: (200, _answer(provider.token(**claims)))
    with running.client() as browser:
        assert logged_in(browser, provider).status_code == 200, "the control"
    provider.spoil = lambda claims: (200, _answer(provider.token(**spoiled(provider, claims))))
    assert refused(running, provider) == 401


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((400, b'{"error":"invalid_grant"}'), 401),
        ((302, b""), 401),
        ((500, b"no"), 503),
        ((200, b"no json"), 503),
        ((200, b"[]"), 503),
        ((200, b"{}"), 503),
        ((200, b'{"id_token": 7}'), 401),
        ((200, b'{"id_token": "a.b.c"}'), 401),
        ((200, b"x" * 100_000), 503),
    ],
)
def test_a_token_endpoint_that_gives_none(
    running: Running, provider: Provider, answer: tuple[int, bytes], status: int
) -> None:
    provider.spoil = lambda claims: answer
    assert refused(running, provider) == status


def test_an_id_token_without_a_signature(running: Running, provider: Provider) -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    def unsigned(claims: dict[str, Any]) -> tuple[int, bytes]:
        now = int(time.time())
        told = {"iss": provider.url, "sub": "p", "iat": now, "exp": now + 60, **claims}
        told["groups"] = ["ml-auditors"]
        return 200, _answer(f"{part({'alg': 'none'})}.{part(told)}.")

    provider.spoil = unsigned
    assert refused(running, provider) == 401


def test_somebody_without_a_role(running: Running, provider: Provider) -> None:
    """Until a ledger grants one to their principal, and no longer than that: in an open session,
    too.
    """
    provider.person = {"groups": ["others"], "sub": "grace"}
    with running.client() as browser, running.client("admin") as by:
        told = logged_in(browser, provider)
        assert told.status_code == 403 and SESSION not in cookies_of(told)
        whom = re.search(r"user:[0-9a-f]{24}", told.json()["detail"])
        assert whom is not None
        role = {"principal": whom[0], "role": "operator"}
        granted = by.post(f"{L}/access/grants", json=role, headers={"Idempotency-Key": "g"})
        assert granted.is_success, granted.text
        assert logged_in(browser, provider).status_code == 200
        assert browser.get(f"{L}/entries").status_code == 200
        assert browser.get("/v1/whoami").json()["ledgers"]["acme"]["roles"] == ["operator"]
        by.post(f"{L}/access/revocations", json=role, headers={"Idempotency-Key": "r"})
        assert browser.get(f"{L}/entries").status_code == 401


def test_a_code_is_redeemed_once(running: Running, provider: Provider) -> None:
    """Also where the provider would give a second token for it: the login has ended."""
    provider.lax_codes = True
    with running.client() as browser:
        back = provider.authorize(begun(browser))
        cookie = {"Cookie": f"{LOGIN}={browser.cookies[LOGIN]}"}
        assert httpx2.get(back, headers=cookie).status_code == 200, "the control"
        before = provider.redeemed
        again = httpx2.get(back, headers=cookie)
        assert again.status_code == 401 and SESSION not in cookies_of(again)
        assert provider.redeemed == before
        with ThreadPoolExecutor(4) as pool:
            back = provider.authorize(begun(browser))
            cookie = {"Cookie": f"{LOGIN}={browser.cookies[LOGIN]}"}
            asks = [pool.submit(httpx2.get, back, headers=cookie) for _ in range(4)]
            assert sorted(ask.result().status_code for ask in asks) == [200, 401, 401, 401]


def test_a_login_ends_in_the_browser_in_which_it_began(
    running: Running, provider: Provider
) -> None:
    """A link with somebody else's code logs nobody in; nor does any part of it that is changed."""
    with running.client() as mine, running.client() as other:
        back = provider.authorize(begun(mine))
        assert other.get(back).status_code == 401, "no cookie"
        begun(other)
        assert other.get(back).status_code == 401, "the cookie of another login"
        query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
        before = provider.redeemed
        wrong: list[dict[str, Any]] = [
            query | {"state": query["state"][:-1]},
            query | {"state": ""},
            query | {"state": "ä"},
            query | {"iss": "https://x.example.com"},
            query | {"code": ""},
            query | {"code": "x" * 5000},
            query | {"error": "access_denied"},
            {"state": query["state"], "error": "access_denied"},
            {"code": query["code"]},
            {},
        ]
        for one in wrong:
            assert mine.get("/auth/callback", params=one).status_code == 401, one
        twice = f"{back}&code=another"
        assert mine.get(twice).status_code == 400
        assert provider.redeemed == before, "the provider is not asked for any of them"
        cookie = mine.cookies[LOGIN]
        for bad in ("", "x", cookie[:42], cookie.replace(".", "~"), f"{cookie}!", "A" * 43 + ".AA"):
            told = {"Cookie": f"{LOGIN}={bad}"}
            assert httpx2.get(back, headers=told).status_code == 401, bad
        double = {"Cookie": f"{LOGIN}={cookie}; {LOGIN}={cookie}"}
        assert httpx2.get(back, headers=double).status_code == 401
        assert mine.get(back).status_code == 200, "the control"


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example.com/",
        "//evil.example.com",
        "/\\evil.example.com",
        "evil",
        "",
        "/x\r\nSet-Cookie: a=b",
        "/x;url=https://evil.example.com",
        '/"><script>',
        "/" + "x" * 600,
    ],
)
def test_a_login_leads_nowhere_else(running: Running, to: str) -> None:
    with running.client() as browser:
        assert browser.get("/auth/login", params={"to": to}).status_code == 400
        assert LOGIN not in browser.cookies


def refused(running: Running, provider: Provider) -> int:
    """The status of a login that goes well but for what the provider does; nobody is logged in."""
    with running.client() as browser:
        answer = logged_in(browser, provider)
        assert SESSION not in browser.cookies and browser.get("/v1/whoami").status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code


def _answer(token: str) -> bytes:
    return json.dumps({"id_token": token}).encode()


def test_behind_tls_cookies_are_for_tls(provider: Provider, tmp_path: Path) -> None:
    """A proxy ends TLS: what counts is the address in the configuration."""
    site = "https://ledger.example.com"
    with served(provider, tmp_path, site) as running, running.client() as browser:
        first = browser.get("/auth/login")
        (line,) = first.headers.get_list("set-cookie")
        assert line.startswith("__Host-asof-login=") and "SameSite=lax" in line
        back = provider.authorize(first.headers["location"])
        assert back.startswith(f"{site}/auth/callback?")
        cookie = {"Cookie": line.partition(";")[0]}
        done = httpx2.get(back.replace(site, running.url), headers=cookie)
        assert done.status_code == 200
        lines = [line, *done.headers.get_list("set-cookie")]
        assert len(lines) == 3
        for one in lines:
            assert one.startswith("__Host-") and "Path=/" in one and "Domain" not in one
            assert "Secure" in one and "HttpOnly" in one
        session = {"Cookie": lines[1].partition(";")[0]}
        for origin, status in ((running.url, 401), (site, 204)):
            told = {**session, "Origin": origin}
            assert httpx2.post(f"{running.url}/auth/logout", headers=told).status_code == status


def test_logins_are_entries(provider: Provider, tmp_path: Path) -> None:
    """They are summed up; a stop writes what is left. No code stands in the log of the server."""
    with served(provider, tmp_path) as running:
        with running.client() as browser:
            logged_in(browser, provider)
            who = browser.get("/v1/whoami").json()["principal"]
            browser.get("/auth/callback?state=x&code=nobody-may-see")
        assert running.stop() == 0
        lines = running.prepared.run("log", "type:access.recorded", "-o", "jsonl").splitlines()
        told = [json.loads(line)["data"] for line in lines]
        allowed = {"action": "login", "outcome": "allowed", "principal": who, "count": 1}
        assert allowed in told
        assert {"action": "login", "outcome": "refused", "count": 1} in told
        log = running.log.read_text()
        assert "/auth/callback" in log and "nobody-may-see" not in log

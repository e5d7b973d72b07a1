"""Sessions of browsers: how long they live, for what they count, and what cookies are called."""

from __future__ import annotations

from typing import Any

import pytest

from api.service.access import sessions as module
from api.service.access.credentials import Credentials
from api.service.access.granting import Grants
from api.service.access.sessions import IDLE_SECONDS, Sessions, Site, cookie_of
from api.service.principal import Caller

ADA = Caller(id="user:ada", roles={"acme": frozenset({"auditor"})})
SITE = Site("https://ledger.example.com")
NAME = "__Host-asof-session"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(SITE, hours=8, clock=clock)


def scope(cookie: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    told = [(b"cookie", cookie.encode("latin-1"))] if cookie else []
    told += [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "headers": told}


def test_it_stands_for_whoever_began_it(sessions: Sessions) -> None:
    value, other = sessions.open(ADA), sessions.open(Caller(id="user:noah"))
    found = sessions.authenticate(scope(f"a=b; {NAME}={value}; c=d"))
    assert found is not None and found.id == "user:ada" and found.roles == ADA.roles
    assert found.credential is not None and value not in found.credential
    assert found is sessions.authenticate(scope(f"{NAME}={value}")), "the guard remembers it"
    second = sessions.authenticate(scope(f"{NAME}={other}"))
    assert second is not None and second.id == "user:noah"
    for bad in ("", value[:-1], value + "x", "é" * 43, f"{value}; {NAME}={other}", f'"{value}"'):
        assert sessions.authenticate(scope(f"{NAME}={bad}")) is None
    assert sessions.authenticate(scope(f"asof-session={value}")) is None
    sessions.close(scope(""))
    sessions.close(scope(f"{NAME}={value}"))
    assert sessions.authenticate(scope(f"{NAME}={value}")) is None
    assert sessions.authenticate(scope(f"{NAME}={other}")) is not None


def test_it_ends_when_nobody_uses_it(sessions: Sessions, clock: Clock) -> None:
    used = scope(f"{NAME}={sessions.open(ADA)}")
    left = scope(f"{NAME}={sessions.open(ADA)}")
    clock.now += IDLE_SECONDS - 1
    assert sessions.authenticate(used)
    clock.now += 1
    assert sessions.authenticate(used) and sessions.authenticate(left) is None
    clock.now -= 100
    assert sessions.authenticate(left) is None, "it does not come back"


def test_it_ends_after_its_hours_however_much_it_is_used(sessions: Sessions, clock: Clock) -> None:
    used, begun = scope(f"{NAME}={sessions.open(ADA)}"), clock.now
    while clock.now < begun + 8 * 3600 - 600:
        clock.now += 600
        assert sessions.authenticate(used)
    clock.now = begun + 8 * 3600
    assert sessions.authenticate(used) is None


def test_what_changes_something_has_to_come_from_here(sessions: Sessions) -> None:
    cookie = f"{NAME}={sessions.open(ADA)}"
    assert sessions.authenticate(scope(cookie, "HEAD"))
    for method in ("POST", "DELETE", "PUT", "PATCH", "OPTIONS"):
        assert sessions.authenticate(scope(cookie, method)) is None
        assert sessions.authenticate(scope(cookie, method, origin="https://x.example.com")) is None
        assert sessions.authenticate(scope(cookie, method, origin=SITE.url))
    twice = scope(cookie, "POST", origin=SITE.url)
    twice["headers"].append((b"origin", b"https://x.example.com"))
    assert sessions.authenticate(twice) is None


def test_there_are_only_so_many(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 3)
    cookies = [scope(f"{NAME}={sessions.open(ADA)}") for _ in range(4)]
    assert [bool(sessions.authenticate(one)) for one in cookies] == [False, True, True, True]


@pytest.mark.parametrize(
    ("url", "origin", "cookie"),
    [
        ("https://Ledger.Example.com/", b"https://ledger.example.com", "__Host-asof-x"),
        ("https://ledger.example.com:443", b"https://ledger.example.com", "__Host-asof-x"),
        ("https://ledger.example.com:8443", b"https://ledger.example.com:8443", "__Host-asof-x"),
        ("http://127.0.0.1:8080", b"http://127.0.0.1:8080", "asof-x"),
        ("http://[::1]:80", b"http://[::1]", "asof-x"),
    ],
)
def test_what_browsers_call_a_site(url: str, origin: bytes, cookie: str) -> None:
    site = Site(url)
    assert (site.origin, site.cookie_name("x")) == (origin, cookie)
    assert site.address("/a") == f"{url.rstrip('/')}/a" and site.is_tls == url.startswith("https")


def test_a_cookie_that_is_there_twice_is_none() -> None:
    assert cookie_of(scope("a=1;b=2"), "b") == "2"
    both = scope("b=2")
    both["headers"].append((b"cookie", b"b=2"))
    assert cookie_of(both, "b") is None and cookie_of(scope(""), "b") is None


def test_an_authorization_decides_alone(sessions: Sessions) -> None:
    class Nobody:
        def authenticate(self, authorization: str | None) -> None:
            return None

    asked: Any = Nobody()
    cookie = f"{NAME}={sessions.open(ADA)}"
    grants = Grants({})
    with_sessions = Credentials(asked, grants, None, sessions)
    assert with_sessions.authenticate(scope(cookie)) is not None, "the control"
    assert with_sessions.authenticate(scope(cookie, authorization="Bearer x")) is None
    stranger = Credentials(asked, grants, asked, sessions)
    assert stranger.authenticate(scope("", authorization="x")) is None
    assert Credentials(asked, grants).authenticate(scope(cookie)) is None

"""Tokens of an identity provider of the tests, over real HTTP: those that hold, and all others."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from tests.support.provider import AUDIENCE, Provider
from tests.support.service import Running, prepare, started


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


@pytest.fixture(scope="module")
def running(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = prepare(tmp_path_factory.mktemp("oidc"), roles=("recorder", "admin"))
    config = f"""
[ledgers.acme]
store = "{made.environment["ASOF_STORE"]}"
keys = "keys"

[oidc]
issuer = "{provider.url}"
audience = "{AUDIENCE}"
jwks_url = "{provider.url}/keys"

[oidc.roles]
"ml-auditors" = ["acme:auditor"]
"ml-writers" = ["acme:recorder"]
"""
    with started(made, config=config) as running:
        until = time.monotonic() + 10
        while provider.asked == 0 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)
        yield running


def status(running: Running, token: str) -> int:
    with running.client(headers={"Authorization": f"Bearer {token}"}) as client:
        return client.get("/v1/ledgers/acme").status_code


def test_a_person_and_a_service_are_let_in(running: Running, provider: Provider) -> None:
    token = provider.token()
    with running.client(headers={"Authorization": f"Bearer {token}"}) as client:
        told = client.get("/v1/whoami").json()
        assert told["principal"].startswith("user:") and "example.com" not in json.dumps(told)
        assert told["ledgers"]["acme"]["roles"] == ["auditor"]
        assert client.get("/v1/ledgers/acme/entries").status_code == 200
        assert client.get("/v1/ledgers/acme/access/tokens").status_code == 200
        assert client.post("/v1/ledgers/acme/entries", json={}).status_code == 403
    service = provider.token(sub="trainer", client_id="trainer", groups=["ml-writers"])
    with running.client(headers={"Authorization": f"Bearer {service}"}) as client:
        event = {"type": "note.added/1", "stream": "note/x", "data": {"text": "by oidc"}}
        done = client.post("/v1/ledgers/acme/entries", json=event, headers={"Idempotency-Key": "k"})
        assert done.status_code == 201
        entry = client.get(f"/v1/ledgers/acme/entries/{done.json()['first_index']}").json()
        assert entry["actor"].startswith("service:")
    assert status(running, provider.token(key=provider.keys[1], algorithm="ES256")) == 200


def test_what_the_ledger_grants_comes_to_what_the_claims_give(
    running: Running, provider: Provider
) -> None:
    here = "/v1/ledgers/acme"
    token = provider.token(sub="grace")
    with running.client(headers={"Authorization": f"Bearer {token}"}) as client:
        who = client.get("/v1/whoami").json()["principal"]
        role = {"principal": who, "role": "operator"}
        for path, roles in (("grants", ["auditor", "operator"]), ("revocations", ["auditor"])):
            with running.client("admin") as by:
                done = by.post(
                    f"{here}/access/{path}", json=role, headers={"Idempotency-Key": path}
                )
                assert done.is_success, done.text
            assert client.get("/v1/whoami").json()["ledgers"]["acme"]["roles"] == roles
    assert status(running, provider.token(sub="ada", groups=["others"])) == 401


def test_whatever_does_not_hold_is_nobody(running: Running, provider: Provider) -> None:
    now = int(time.time())
    good = provider.token()
    assert status(running, good) == 200, "the control"
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    head, body, signature = good.split(".")
    public = provider.keys[0].as_pem(private=False)
    confused = f"{_part({'alg': 'HS256', 'kid': 'one'})}.{_part(jwt_claims(provider))}"
    stamp = hmac.new(public, confused.encode(), "sha256").digest()
    wrong = {
        "another key": provider.token(key=stranger),
        "another audience": provider.token(aud="elsewhere"),
        "no audience": provider.token(aud=None),
        "another issuer": provider.token(iss="https://elsewhere.example.com"),
        "expired": provider.token(exp=now - 120),
        "no expiry": provider.token(exp=None),
        "not yet": provider.token(nbf=now + 600),
        "from the future": provider.token(iat=now + 600, exp=now + 900),
        "old": provider.token(iat=now - 90_000, exp=now + 300),
        "no end at all": provider.token(exp=float("nan")),
        "an end that no float holds": provider.token(exp=10**400),
        "no subject": provider.token(sub=None),
        "no role": provider.token(groups=["others"]),
        "roles of a wrong kind": provider.token(groups={"ml-auditors": True}),
        "no signature": f"{head}.{body}.",
        "changed": f"{head}.{body[:-2]}AA.{signature}",
        "alg none": f"{_part({'alg': 'none'})}.{body}.",
        "a public key as secret": f"{confused}.{_encoded(stamp)}",
        "a key of its own": provider.token(key=RSAKey.generate_key(2048, {"kid": "evil"})),
        "too long": good + "A" * 9_000,
        "two dots": "a.b.c",
    }
    for name, token in wrong.items():
        assert status(running, token) == 401, name


def jwt_claims(provider: Provider) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": provider.url,
        "aud": AUDIENCE,
        "sub": "person-1",
        "iat": now,
        "exp": now + 300,
        "groups": ["ml-auditors"],
    }


def _part(value: dict[str, Any]) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_unknown_keys_do_not_make_it_ask_again_and_again(
    running: Running, provider: Provider
) -> None:
    before = provider.asked
    for number in range(20):
        key = ECKey.generate_key("P-256", {"kid": f"k{number}"})
        status(running, provider.token(key=key, algorithm="ES256"))
    assert provider.asked <= before + 1

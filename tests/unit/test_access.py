"""Tokens, the registry as a fold of the ledger, and the rules of its changes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.service.access.authenticating import TokenAuthenticator
from api.service.access.changing import (
    DAY,
    first_admin,
    grant_role,
    issue_token,
    revoke_role,
    revoke_token,
    rotate_token,
)
from api.service.access.registry import STREAM, Registry
from api.service.access.tokens import digest_of, id_of, load_pepper, new_token
from ledger.draft import Draft
from ledger.errors import (
    ConflictError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
)
from ledger.opening import Ledger
from tests.support.ledgers import NOON, memory_ledger

PEPPER = b"p" * 32


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with memory_ledger() as ledger:
        yield ledger


@pytest.fixture
def registry(ledger: Ledger) -> Registry:
    return Registry(ledger.reader, PEPPER)


def done(ledger: Ledger, registry: Registry, decision: Any) -> Any:
    if decision.drafts:
        ledger.writer.append(decision.drafts)
    registry.refresh()
    return decision


def admin(ledger: Ledger, registry: Registry) -> None:
    done(ledger, registry, first_admin(registry, "user:ada", by="service:asof", now=NOON))


def given(ledger: Ledger, registry: Registry, role: str, who: str = "service:t") -> None:
    done(ledger, registry, grant_role(registry, who, role, by="user:ada", now=NOON))


def issued(ledger: Ledger, registry: Registry, **more: Any) -> Any:
    told = {"roles": (), "days": None, "by": "user:ada", "now": NOON} | more
    return done(ledger, registry, issue_token(registry, "service:t", **told))


# ---------------------------------------------------------------------------------------- tokens


def test_a_token_carries_its_id_and_a_checksum() -> None:
    token, token_id = new_token()
    assert token.startswith("asof_live_") and id_of(token) == token_id
    for at in range(len(token)):
        other = "a" if token[at] != "a" else "b"
        assert id_of(token[:at] + other + token[at + 1 :]) is None
    for bad in ("", token[:-1], token + "x", token.upper(), f" {token}", token.replace("_", "-")):
        assert id_of(bad) is None
    assert len({new_token()[0] for _ in range(50)}) == 50


def test_the_pepper_is_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is missing"):
        load_pepper(tmp_path)
    made = load_pepper(tmp_path, create=True)
    assert load_pepper(tmp_path) == load_pepper(tmp_path, create=True) == made
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    with pytest.raises(StoreError, match="damaged"):
        load_pepper(tmp_path)


def test_a_digest_without_the_pepper_says_nothing() -> None:
    token, _ = new_token()
    assert digest_of(token, PEPPER) != digest_of(token, b"q" * 32)
    assert token not in digest_of(token, PEPPER)


# --------------------------------------------------------------------------------- what is decided


def test_the_first_administrator_is_made_once(ledger: Ledger, registry: Registry) -> None:
    admin(ledger, registry)
    assert registry.has_admin() and registry.roles_of("user:ada") == {"admin"}
    with pytest.raises(ConflictError, match="somebody administers"):
        first_admin(registry, "user:eve", by="service:asof", now=NOON)


def test_nobody_gives_a_role_to_themselves(ledger: Ledger, registry: Registry) -> None:
    admin(ledger, registry)
    with pytest.raises(RefusedError, match="another administrator"):
        grant_role(registry, "user:ada", "approver", by="user:ada", now=NOON)
    beside = grant_role(
        registry, "user:ada", "approver", by="user:ada", now=NOON, beside_the_store=True
    )
    assert len(beside.drafts) == 1
    with pytest.raises(MalformedError, match="is none of"):
        grant_role(registry, "user:noah", "god", by="user:ada", now=NOON)


def test_what_holds_already_is_not_recorded_again(ledger: Ledger, registry: Registry) -> None:
    given(ledger, registry, "auditor")
    assert not grant_role(registry, "service:t", "auditor", by="user:ada", now=NOON).drafts
    assert not revoke_role(registry, "service:t", "admin", by="user:ada", now=NOON).drafts


def test_the_last_administrator_stays(ledger: Ledger, registry: Registry) -> None:
    admin(ledger, registry)
    with pytest.raises(RefusedError, match="only administrator"):
        revoke_role(registry, "user:ada", "admin", by="user:ada", now=NOON)
    given(ledger, registry, "admin", "user:noah")
    done(ledger, registry, revoke_role(registry, "user:ada", "admin", by="user:noah", now=NOON))
    assert set(registry.principals()) == {"user:noah"}


def test_a_token_is_for_roles_that_are_held(ledger: Ledger, registry: Registry) -> None:
    with pytest.raises(RefusedError, match="does not have any role"):
        issue_token(registry, "service:t", roles=(), days=1, by="user:ada", now=NOON)
    given(ledger, registry, "recorder")
    with pytest.raises(RefusedError, match="does not have auditor"):
        issued(ledger, registry, roles=["auditor"])
    for days in (0, 401):
        with pytest.raises(MalformedError, match="1 to 400"):
            issued(ledger, registry, days=days)
    made = issued(ledger, registry, days=3)
    held = registry.token(made.id)
    assert held is not None and held.roles == {"recorder"} and held.expires_at == NOON + 3 * DAY
    entries = [record.data or {} for record in ledger.reader.stream(STREAM)]
    assert all(made.token not in str(data) for data in entries), "the ledger holds a digest only"


def test_a_rotation_is_a_second_token_like_the_first(ledger: Ledger, registry: Registry) -> None:
    given(ledger, registry, "recorder")
    first = issued(ledger, registry, days=3)
    second = done(ledger, registry, rotate_token(registry, first.id, by="user:ada", now=NOON + DAY))
    both = registry.token(first.id), registry.token(second.id)
    assert both[0] is not None and both[1] is not None
    assert both[1].expires_at == NOON + 4 * DAY and both[1].roles == both[0].roles
    done(ledger, registry, revoke_token(registry, first.id, by="user:ada", now=NOON))
    assert not revoke_token(registry, first.id, by="user:ada", now=NOON).drafts
    with pytest.raises(RefusedError, match="lives no more"):
        rotate_token(registry, first.id, by="user:ada", now=NOON)
    with pytest.raises(NotFoundError, match="no token"):
        revoke_token(registry, "nothing", by="user:ada", now=NOON)


def test_two_who_decide_at_once_do_not_both_succeed(ledger: Ledger, registry: Registry) -> None:
    one = grant_role(registry, "user:a", "auditor", by="user:ada", now=NOON)
    two = grant_role(registry, "user:b", "auditor", by="user:ada", now=NOON)
    ledger.writer.append(one.drafts)
    with pytest.raises(ConflictError):
        ledger.writer.append(two.drafts)


def test_what_an_entry_does_not_say_well_gives_nobody_anything(
    ledger: Ledger, registry: Registry
) -> None:
    given(ledger, registry, "recorder")
    made = issued(ledger, registry)
    payloads = [
        ("access.granted/1", b'{"principal":"user:x","role":"god"}'),
        ("access.granted/1", b'{"role":"admin"}'),
        ("access.granted/1", b'{"principal":"user:x","token":"T"}'),
        ("access.granted/1", b'{"principal":"user:x","token":"T","token_digest":"d"}'),
        (
            "access.granted/1",
            b'{"principal":"user:x","token":"%s","token_digest":"d",'
            b'"expires_at":"2999-01-01T00:00:00Z"}' % made.id.encode(),
        ),
        *(
            ("access.granted/1", b'{"principal":"user:x","token":"T",%s}' % rest)
            for rest in (
                b'"token_digest":"d","expires_at":"tomorrow"',
                b'"token_digest":"d","expires_at":"2999-01-01T00:00:00Z","roles":7',
                b'"token_digest":"\xc3\xa4","expires_at":"2999-01-01T00:00:00Z"',
                b'"token_digest":7,"expires_at":"2999-01-01T00:00:00Z"',
            )
        ),
        ("access.granted/1", b'{"principal":"user:x","role":["admin"]}'),
        (
            "access.granted/1",
            b'{"principal":"user:x","token":"R","token_digest":"d","roles":["god",["admin"],7],'
            b'"expires_at":"2999-01-01T00:00:00Z"}',
        ),
        ("access.revoked/1", b'{"principal":"user:x","token":"T"}'),
        ("access.revoked/1", b'{"principal":"user:x"}'),
        ("note.added/1", b'{"principal":"user:x","role":"admin"}'),
    ]
    before = registry.token(made.id)
    ledger.writer.append(
        [
            Draft(type=name, stream=STREAM, actor="user:eve", payload=payload)
            for name, payload in payloads
        ]
    )
    assert registry.refresh() and not registry.refresh()
    assert set(registry.principals()) == {"service:t"}
    assert registry.token(made.id) == before and registry.token("T") is None
    empty = registry.token("R")
    assert empty is not None and not empty.roles


# ------------------------------------------------------------------------------- who is let in


def test_the_caller_has_what_token_and_principal_both_have(
    ledger: Ledger, registry: Registry
) -> None:
    for role in ("recorder", "auditor"):
        given(ledger, registry, role)
    made = issued(ledger, registry, roles=["auditor"], days=1)
    now = [NOON]
    who = TokenAuthenticator({"acme": registry}, clock=lambda: now[0])
    caller = who.authenticate(f"Bearer {made.token}")
    assert caller is not None and caller.id == "service:t" and caller.credential == made.id
    assert caller.roles == {"acme": {"auditor"}} and not caller.may("entries:append", ledger="acme")
    assert who.authenticate(f"Bearer {made.token}") is caller and who.last_used == {made.id: NOON}
    now[0] = NOON + DAY
    assert who.authenticate(f"Bearer {made.token}") is None, "it has expired"
    now[0] = NOON
    done(ledger, registry, revoke_role(registry, "service:t", "auditor", by="user:ada", now=NOON))
    who.forget()
    assert who.authenticate(f"Bearer {made.token}") is None, "the role is gone"


def test_a_token_of_one_ledger_is_none_of_another(ledger: Ledger, registry: Registry) -> None:
    given(ledger, registry, "auditor")
    made = issued(ledger, registry)
    with memory_ledger() as other:
        stranger = Registry(other.reader, PEPPER)
        stranger.refresh()
        both = TokenAuthenticator({"other": stranger, "acme": registry}, clock=lambda: NOON)
        caller = both.authenticate(f"Bearer {made.token}")
        assert caller is not None and set(caller.permissions) == {"acme"}
        alone = TokenAuthenticator({"other": stranger}, clock=lambda: NOON)
        assert alone.authenticate(f"Bearer {made.token}") is None


def test_a_wrong_token_takes_as_long_as_an_unknown_one(ledger: Ledger, registry: Registry) -> None:
    """Medians of interleaved measurements; a lookup that ended early would be several times faster
    (the control)."""
    given(ledger, registry, "auditor")
    made = issued(ledger, registry)
    unknown, _ = new_token()
    wrong = _with_id_of(made.token, unknown)
    who = TokenAuthenticator({"acme": registry}, clock=lambda: NOON)
    times: dict[str, list[int]] = {"wrong": [], "unknown": [], "malformed": []}
    for _ in range(400):
        for name, token in (("wrong", wrong), ("unknown", unknown), ("malformed", "x")):
            begin = time.perf_counter_ns()
            assert who.authenticate(f"Bearer {token}") is None
            times[name].append(time.perf_counter_ns() - begin)
    wrong_, unknown_ = statistics.median(times["wrong"]), statistics.median(times["unknown"])
    assert 0.7 < wrong_ / unknown_ < 1.4
    assert statistics.median(times["malformed"]) < 0.9 * unknown_


def _with_id_of(token: str, other: str) -> str:
    """A well-formed token with the id of one and the secret of the other."""
    from api.service.access.tokens import _checksum

    body = f"asof_live_{token.split('_')[2]}_{other.split('_')[3]}"
    return f"{body}_{_checksum(body)}"

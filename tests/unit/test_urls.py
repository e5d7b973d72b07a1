"""A password in a database's URL is never printed: not in a hint, not in what to do next."""

from __future__ import annotations

import pytest

from api.cli.problems import with_store
from api.main import store_of
from api.settings import Settings
from api.urls import as_user, without_password
from ledger.places import DatabasePlace


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app@db/audit", "postgresql://app@db/audit"),
        ("postgresql://app:secret@db:5433/audit", "postgresql://app@db:5433/audit"),
        ("postgres://:secret@db/audit", "postgres://db/audit"),
        ("postgresql://db1,db2/audit?a=1", "postgresql://db1,db2/audit?a=1"),
        ("postgresql://app:secret@db1:1,db2:2/audit", "postgresql://app@db1:1,db2:2/audit"),
        ("postgresql://app:se?#:@cret@db/audit", "postgresql://app@db/audit"),
        ("postgresql://app@db/audit?password=secret", "postgresql://app@db/audit"),
        ("postgresql:///audit?p%61ssword=secret&sslmode=x", "postgresql:///audit?sslmode=x"),
        ("postgresql://db/a?x=1&sslpassword=secret&y=u@v", "postgresql://db/a?x=1&y=u@v"),
        ("sqlite:///a:b@c.db?password=1", "sqlite:///a:b@c.db?password=1"),
    ],
)
def test_all_but_the_password_is_left(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_another_login_in_the_same_place() -> None:
    url = "postgresql://postgres:secret@db1,db2/audit?sslmode=verify-full&password=secret"
    assert as_user(url, "ada@x") == "postgresql://ada%40x@db1,db2/audit?sslmode=verify-full"
    assert as_user("postgresql:///audit", "app") == "postgresql://app@/audit"


def test_a_hint_repeats_the_store_without_it() -> None:
    hint = with_store("asof log", "postgresql://app:secret@db/audit")
    assert hint == "asof log --store postgresql://app@db/audit"


def test_what_is_taken_without_checksums_is_remarked_on() -> None:
    """The remark of the store reaches whoever runs the command."""
    said: list[str] = []
    place = store_of(Settings(store="postgresql://h/d", without_checksums=True), said.append)
    assert isinstance(place, DatabasePlace) and not place.checksums
    place.notice("data checksums are off")
    assert said == ["data checksums are off"]

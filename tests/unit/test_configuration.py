"""The configuration of the service: what is read, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.service.configuration import KEYS, Configuration, read_configuration, single
from api.service.starting import configured
from api.settings import Settings
from ledger.errors import AsofError, MalformedError, StoreError
from ledger.note import Signer, format_vkey
from ledger.opening import create_ledger
from scripts.docs_settings import PAGE, page

TWO_KEYS = [format_vkey(Signer.from_seed("l.example.com/x", bytes([n]) * 32).vkey) for n in (1, 2)]
WHOLE = """
[server]
port = 9000
trusted_hosts = ["ledger.example.com"]
data = "service"

[limits]
in_flight = 7

[ledgers.acme]
store = "sqlite:///data/asof.db"
keys = "keys"
public = true
rollback_roots = ["srv", "/abs"]

[ledgers.other]
store = "postgresql://app@db/audit"

[oidc]
issuer = "https://login.example.com"
audience = "asof"
jwks_url = "https://login.example.com/keys"
[oidc.roles]
"a" = ["acme:auditor", "other:recorder"]

[ingest]
origins = ["x.example.com"]
[ingest.code]
system = "github"
ledger = "acme"
secret_env = "A_SECRET"
secret_file = "secret"
"""


_LEDGER = "[ledgers.a]\nstore='sqlite:///x'\n"
_OIDC = "[oidc]\nissuer='i'\naudience='a'\njwks_url='https://i/k'\n"
_LOGIN = f"[server]\nurl='https://ledger.example.com'\n{_LEDGER}{_OIDC}"
_CLIENT = "client_id='c'\nauthorization_url='https://i/a'"


def _login_at(url: str | None) -> str:
    server = "" if url is None else f"[server]\nurl='{url}'\n"
    return f"{server}{_LEDGER}{_OIDC}{_CLIENT}\ntoken_url='http://localhost:1/t'"


def read(folder: Path, text: str) -> Configuration:
    path = folder / "asof.toml"
    path.write_text(text)
    return read_configuration(path)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
    assert len({(key.table, key.name) for key in KEYS}) == len(KEYS)


def test_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "first-secret")
    (tmp_path / "secret").write_text("second-secret\n")
    found = read(tmp_path, WHOLE)
    acme = found.ledgers["acme"]
    assert acme.settings.store == f"sqlite:///{tmp_path}/data/asof.db"
    assert acme.settings.keys == tmp_path / "keys" and acme.public
    assert acme.rollback_roots == (tmp_path / "srv", Path("/abs"))
    assert (found.port, found.limits.in_flight, found.data) == (9000, 7, tmp_path / "service")
    assert found.oidc is not None
    assert found.oidc.roles == {"a": (("acme", "auditor"), ("other", "recorder"))}
    source = found.sources["code"]
    assert (source.system, source.ledger, source.secrets) == (
        "github",
        "acme",
        ("first-secret", "second-secret"),
    )
    assert "-secret" not in repr(found), "no secret is shown"


def test_people_log_in_where_the_file_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "first-secret")
    text = _login_at("https://ledger.example.com") + "\nclient_secret_env='A_SECRET'"
    found = read(tmp_path, text)
    assert found.oidc is not None and found.oidc.login is not None
    login = found.oidc.login
    assert (login.site, login.client_id) == ("https://ledger.example.com", "c")
    assert (login.client_secret, login.scope, login.session_hours) == ("first-secret", "openid", 8)
    assert "first-secret" not in repr(found), "no secret is shown"
    without = read(tmp_path, _LEDGER + _OIDC)
    assert without.oidc is not None and without.oidc.login is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name a ledger"),
        ("[ledgers.a]", r"\[ledgers.a\]: store is missing"),
        ("[ledgers.a]\nstroe = 'x'", "did you mean store"),
        ("[ledgers.a]\nstore = 7", "must be a text"),
        ("[ledgers.a]\nstore = 'sqlite:///x'\npublic = 'yes'", "must be true or false"),
        ("[ledgers.'a/b']\nstore = 'sqlite:///x'", "letters, digits"),
        ("[servre]\nport = 1", r"did you mean \[server\]"),
        ("[server]\nport = 70000", "from 0 to 65535"),
        ("[server]\nport = true", "from 0 to 65535"),
        ("[server]\nzzz = 1", "known are host"),
        ("[server]\ncertificate = 'x'\n[ledgers.a]\nstore='sqlite:///x'", "belong together"),
        ("[server]\nlog_format = 'xml'\n[ledgers.a]\nstore='sqlite:///x'", "json or text"),
        ("server = 1", r"\[server\] must be a table"),
        ("[ledgers.a]\nstore='sqlite:///x'\n[ingest.y]\nsystem='github'", "secret_env or"),
        ("[ledgers.a]\nstore='sqlite:///x'\n[ingest.y]\nsecret_env='NOT_SET'", "is not set"),
        ("[ledgers.a]\nstore='sqlite:///x'\n[ingest.y]\nsecret_file='none'", "cannot be read"),
        ("[ledgers.a]\nstore='sqlite:///x'\npolicy='none'", "cannot be read"),
        ("[ledgers.a]\nstore='sqlite:///x'\n[witness]\nlogs=[]", "name is missing"),
        ("[ledgers.a]\nstore='sqlite:///x'\n[witness]\nname='w'\nlogs=['x']", "verifier key"),
        ("[ledgers.a]\nstore='sqlite:///x'\n[witness]\nname='a b'", "name: .*neither spaces"),
        (
            f"[ledgers.a]\nstore='sqlite:///x'\n[witness]\nname='w'\nlogs={TWO_KEYS}",
            "two keys of the log l.example.com/x",
        ),
        ("[ledgers.a]\nstore='sqlite:///x'\n[oidc]\nissuer='x'", "audience is missing"),
        *(
            (f"{_LOGIN}{more}", says)
            for more, says in (
                ("client_id='c'", "authorization_url is missing"),
                ("client_id='c'\nauthorization_url='https://i/a'", "token_url is missing"),
                ("scope='openid'", "client_id is missing"),
                (
                    f"{_CLIENT}\ntoken_url='http://i.example.com/t'",
                    "token_url: must begin with https",
                ),
                (f"{_CLIENT}\ntoken_url='https://i/t'\nscope='email'", "openid must be part"),
                (f"{_CLIENT}\ntoken_url='https://i/t'\nclient_secret_env='NOT_SET'", "is not set"),
                (f"{_CLIENT}\ntoken_url='https://i/t'\nsession_hours=25", "from 1 to 24"),
            )
        ),
        (_login_at(None), r"\[server\]: url is missing"),
        (_login_at("http://ledger.example.com"), "url: must begin with https"),
        (_login_at("https://ledger.example.com/asof"), "must have no path"),
        ("= 7", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        read(tmp_path, text)


def test_a_system_or_role_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "one")
    (tmp_path / "secret").write_text("two")
    with pytest.raises(MalformedError, match="is none of eventgrid, forgejo"):
        read(tmp_path, WHOLE.replace('"github"', '"githib"'))
    with pytest.raises(MalformedError, match="LEDGER:ROLE"):
        read(tmp_path, WHOLE.replace("acme:auditor", "acme:god"))
    (tmp_path / "secret").write_text("")
    with pytest.raises(MalformedError, match="is empty"):
        read(tmp_path, WHOLE)
    with pytest.raises(StoreError, match="cannot be read"):
        read_configuration(tmp_path / "none.toml")


def test_one_ledger_without_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/asof.db"
    with pytest.raises(AsofError):
        configured(Settings(store=url), None, host=None, port=None)
    create_ledger(url, origin="ledger.example.com/acme~one").close()
    found = configured(Settings(store=url), None, host="::1", port=0)
    assert list(found.ledgers) == ["acme-one"] and (found.host, found.port) == ("::1", 0)
    assert found.data == tmp_path / "asof.db.service"
    assert single(Settings(store=url), "x", tmp_path).limits.body_bytes == 8 << 20

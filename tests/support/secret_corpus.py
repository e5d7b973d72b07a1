"""Secrets and things that look like them, made by a seeded generator: nothing here opens anything.

`secrets_in_captures()` gives data in which something must be found, `harmless_captures()` data in
which nothing may be: what a ledger is full of, digests, commit ids, checksums, paths, metrics.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

LETTERS_DIGITS = string.ascii_letters + string.digits
UPPER_DIGITS = string.ascii_uppercase + string.digits
URL_SAFE = LETTERS_DIGITS + "-_"
HEX = "0123456789abcdef"

Case = tuple[str, Any]


def _some(rng: random.Random, alphabet: str, length: int) -> str:
    """Random signs, of all kinds that the alphabet has: a generator's tokens do not lack digits."""
    kinds = [set(kind) & set(alphabet) for kind in (string.ascii_lowercase, string.ascii_uppercase)]
    kinds.append(set(string.digits) & set(alphabet))
    while True:
        text = "".join(rng.choices(alphabet, k=length))
        if length < 16 or all(not kind or kind & set(text) for kind in kinds):
            return text


def _password(rng: random.Random) -> str:
    words = ("Summer", "falcon", "Zürich", "tulip", "Correct", "horse", "admin", "Winter")
    return rng.choice(words) + rng.choice("!#$%&*-_.") + str(rng.randrange(10, 9999))


def _jwt(rng: random.Random) -> str:
    head, body = (
        base64.urlsafe_b64encode(
            f'{{"{key}":"{_some(rng, LETTERS_DIGITS, 24)}"}}'.encode()
        ).decode()
        for key in ("alg", "sub")
    )
    return f"{head.rstrip('=')}.{body.rstrip('=')}.{_some(rng, URL_SAFE, 43)}"


def _pem(rng: random.Random) -> str:
    kind = rng.choice(("RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", ""))
    body = "\n".join(_some(rng, LETTERS_DIGITS + "+/", 64) for _ in range(4))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----\n"


TOKENS: dict[str, Callable[[random.Random], str]] = {
    "AWS access key id": lambda r: r.choice(("AKIA", "ASIA")) + _some(r, UPPER_DIGITS, 16),
    "GitHub token": lambda r: r.choice(("ghp", "gho", "ghs")) + "_" + _some(r, LETTERS_DIGITS, 36),
    "GitHub fine-grained": lambda r: "github_pat_" + _some(r, LETTERS_DIGITS + "_", 82),
    "GitLab token": lambda r: "glpat-" + _some(r, URL_SAFE, 20),
    "Slack token": lambda r: f"xoxb-{r.randrange(10**11)}-{_some(r, LETTERS_DIGITS, 24)}",
    "Slack webhook": lambda r: (
        f"https://hooks.slack.com/services/T{_some(r, UPPER_DIGITS, 8)}"
        f"/B{_some(r, UPPER_DIGITS, 8)}/{_some(r, LETTERS_DIGITS, 24)}"
    ),
    "Stripe key": lambda r: "sk_live_" + _some(r, LETTERS_DIGITS, 24),
    "OpenAI-like key": lambda r: "sk-proj-" + _some(r, URL_SAFE, 48),
    "Anthropic-like key": lambda r: "sk-ant-" + "api03-" + _some(r, URL_SAFE, 90),
    "Google key": lambda r: "AIza" + _some(r, URL_SAFE, 35),
    "Google OAuth": lambda r: "ya29." + _some(r, URL_SAFE, 60),
    "npm token": lambda r: "npm_" + _some(r, LETTERS_DIGITS, 36),
    "PyPI token": lambda r: "pypi-AgEIcHlwaS5vcmc" + _some(r, URL_SAFE, 60),
    "Hugging Face": lambda r: "hf_" + _some(r, string.ascii_letters, 34),
    "SendGrid": lambda r: f"SG.{_some(r, URL_SAFE, 22)}.{_some(r, URL_SAFE, 43)}",
    "Twilio": lambda r: "SK" + _some(r, HEX, 32),
    "DigitalOcean": lambda r: "dop_v1_" + _some(r, HEX, 64),
    "Databricks": lambda r: "dapi" + _some(r, HEX, 32),
    "Vault": lambda r: "hvs." + _some(r, URL_SAFE, 95),
    "Docker": lambda r: "dckr_pat_" + _some(r, URL_SAFE, 27),
    "Shopify": lambda r: "shpat_" + _some(r, HEX, 32),
    "Telegram": lambda r: f"{r.randrange(10**8, 10**10)}:AA{_some(r, URL_SAFE, 33)}",
    "NVIDIA": lambda r: "nvapi-" + _some(r, URL_SAFE, 64),
    "asof": lambda r: f"lg_live_{_some(r, LETTERS_DIGITS, 8)}_{_some(r, LETTERS_DIGITS, 43)}",
    "JWT": _jwt,
    "private key": _pem,
    "URL password": lambda r: f"postgresql://app:{_some(r, LETTERS_DIGITS, 12)}@db.internal:5432/x",
    "signed URL": lambda r: (
        "https://store.example.com/data/orders.csv?X-Amz-Date=20261121T050000Z"
        f"&X-Amz-Signature={_some(r, HEX, 64)}"
    ),
    "bearer": lambda r: "Authorization: Bearer " + _some(r, LETTERS_DIGITS, 40),
}

KEYED: dict[str, Callable[[random.Random], Any]] = {
    "password": _password,
    "db_password": _password,
    "POSTGRES_PASSWORD": _password,
    "PGPASSWORD": _password,
    "smtpPasswd": _password,
    "passphrase": lambda r: "correct horse battery staple",
    "admin_pwd": lambda r: r.randrange(10_000, 10**8),
    "client_secret": lambda r: _some(r, URL_SAFE, 34),
    "clientSecret": lambda r: _some(r, URL_SAFE, 34),
    "AWS_SECRET_ACCESS_KEY": lambda r: _some(r, LETTERS_DIGITS + "/+", 40),
    "wandb_api_key": lambda r: _some(r, HEX, 40),
    "apiKey": lambda r: _some(r, HEX, 32),
    "api-key": lambda r: _some(r, LETTERS_DIGITS, 32),
    "accountKey": lambda r: base64.b64encode(r.randbytes(64)).decode(),
    "signing_key_b64": lambda r: base64.b64encode(r.randbytes(32)).decode(),
    "access_token": lambda r: _some(r, URL_SAFE, 40),
    "GITHUB_TOKEN": lambda r: _some(r, HEX, 40),
    "credentials": lambda r: _some(r, LETTERS_DIGITS, 24),
    "authorization": lambda r: "Token " + _some(r, LETTERS_DIGITS, 40),
}

IN_TEXT: dict[str, Callable[[random.Random], str]] = {
    "dotenv": lambda r: f"DEBUG=1\nDB_PASSWORD={_password(r)}\nREGION=eu\n",
    "yaml": lambda r: f"db:\n  user: app\n  password: {_password(r)}\n",
    "json text": lambda r: f'{{"user": "app", "api_key": "{_some(r, LETTERS_DIGITS, 32)}"}}',
    "command line": lambda r: f"train.py --epochs 3 --token {_some(r, LETTERS_DIGITS, 32)}",
    "option": lambda r: f"mysql --password={_password(r)} -h db",
    "connection string": lambda r: (
        "DefaultEndpointsProtocol=https;AccountName=x;AccountKey="
        + base64.b64encode(r.randbytes(64)).decode()
    ),
    "export": lambda r: f"export AWS_SECRET_ACCESS_KEY='{_some(r, LETTERS_DIGITS, 40)}'",
}


def _placements(label: str, token: str) -> Iterator[Case]:
    yield label, {"reason": f"see {token} in the log"}
    yield label, {"metadata": {"env": [{"name": "X", "value": token}]}}
    yield label, {"source": {"system": "ci", "details": {"line": token}}}


def secrets_in_captures(seed: int = 20261121) -> list[Case]:
    """Label and data; in each data there is one secret."""
    rng = random.Random(seed)
    cases: list[Case] = []
    for label, make in TOKENS.items():
        for _ in range(2):
            cases += _placements(label, make(rng))
    for key, make_value in KEYED.items():
        cases += [(key, {"params": {key: make_value(rng)}}) for _ in range(3)]
        cases.append(
            (f"{key} in a list", {"metadata": {"env": [{"name": key, "value": make_value(rng)}]}})
        )
        cases.append((f"{key} deeper", {"params": {key: {"value": make_value(rng)}}}))
    for label, make in IN_TEXT.items():
        cases += [(label, {"metadata": {"captured": make(rng)}}) for _ in range(3)]
    return cases


def _harmless_values(rng: random.Random) -> Iterator[Case]:
    digest = _some(rng, HEX, 64)
    yield "digest", f"sha256:{digest}"
    yield "hex", digest
    yield "git sha", _some(rng, HEX, 40)
    yield "short sha", _some(rng, HEX, 7)
    yield "md5", _some(rng, HEX, 32)
    yield "uuid", str(rng.randbytes(16).hex())
    yield "dashed uuid", "-".join(_some(rng, HEX, n) for n in (8, 4, 4, 4, 12))
    yield "base64 checksum", base64.b64encode(rng.randbytes(32)).decode()
    yield "integrity", "sha512-" + base64.b64encode(rng.randbytes(64)).decode()
    yield "lock line", f"numpy==2.{rng.randrange(9)}.{rng.randrange(9)} --hash=sha256:{digest}"
    yield (
        "path",
        f"/mnt/data/{_some(rng, string.ascii_lowercase, 8)}/part-{rng.randrange(999):05}.parquet",
    )
    yield "s3", f"s3://bucket-{rng.randrange(99)}/models/{_some(rng, HEX, 40)}/model.pkl"
    yield "url", f"https://user@host.example.com:8443/runs/{rng.randrange(10**9)}?page=2#top"
    yield "image", f"registry.example.com:5000/ml/serve@sha256:{digest}"
    yield "metric", rng.choice(("val/token_accuracy", "tokens_per_second", "auc_pr", "secret_rate"))
    yield "class", "sklearn.ensemble.RandomForestRegressor"
    yield "model id", "sk-learn-contrib/hdbscan-v2-large-embedding"
    yield "run id", _some(rng, string.ascii_lowercase + string.digits, 8)
    yield (
        "vkey",
        f"ledger.example.com/a+{_some(rng, HEX, 8)}+"
        + base64.b64encode(rng.randbytes(33)).decode(),
    )
    yield "time", "2026-11-21T05:00:00.000000Z"
    yield "prose", "The password policy changed: tokens expire after 30 days, see the secret store."
    yield "note", "Set the api key in the vault; password: unchanged, token: rotated"
    yield "unicode", "Grüße aus Zürich 🎉 مرحبا <script>alert(1)</script>"


HARMLESS_KEYED: tuple[Case, ...] = (
    ("password", "${DB_PASSWORD}"),
    ("password", "********"),
    ("password", "env:DB_PASSWORD"),
    ("password", "vault:secret/data/db#password"),
    ("password", "<redacted>"),
    ("password", "redacted:" + "0f" * 32),
    ("password", ""),
    ("password", "required"),
    ("password_file", "/run/secrets/db"),
    ("password_hash_algorithm", "argon2id"),
    ("secret", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf"),
    ("secret", "projects/p-1/secrets/db/versions/3"),
    ("secret_name", "db-credentials-production-2026A"),
    ("client_secret", "{{ client_secret }}"),
    ("api_key", "sha256:" + "9f" * 32),
    ("api_key", "%(API_KEY)s"),
    ("api_key_id", "Qm9vbGVhbjEyMzQ1Njc4OTA"),
    ("access_key_id", "minioadmin-read-only"),
    ("private_key", "/etc/ssl/private/server.pem"),
    ("private_key_path", "~/.ssh/id_ed25519"),
    ("ssh_key", "./keys/deploy"),
    ("PWD", "/home/trainer/project"),
    ("OLDPWD", "/home/trainer"),
    ("token", "[PAD]"),
    ("pad_token", "<|endoftext|>"),
    ("eos_token_id", 50256),
    ("max_tokens", 4096),
    ("tokens", 81920),
    ("token_count", "123456789"),
    ("tokenizer", "bert-base-uncased"),
    ("next_page_token", "CAoSBkFhQmJDYzEyMzQ1Njc4"),
    ("auth", "oauth2"),
    ("authenticated_by", "oidc"),
    ("author", "user:81f3"),
    ("session_id", "123e4567-e89b-12d3-a456-426614174000"),
    ("token", "123e4567-e89b-12d3-a456-426614174000"),
    ("primary_key", "customer_id"),
    ("partition_key", "region#2026"),
    ("sort_key", "CustomerRegionMonth2026AbC"),
    ("cache_key", "linux-py311-9f86d081884c7d659a2feaa0c55ad015"),
    ("s3_key", "models/9f86d081884c7d659a2feaa0c55ad015/model.bin"),
    ("public_key", "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="),
    ("idempotency_key", "Zx81kfLpQwErTy12345678"),
    ("feature", "password_reset_requests_7d"),
    ("columns", ["user_id", "token_age", "secret_santa", "passport_country"]),
    ("compass", "north"),
    ("bypass", "none of them"),
)


def harmless_captures(seed: int = 20261121) -> list[Case]:
    """Label and data; in none of them is a secret."""
    rng = random.Random(seed)
    places: tuple[Callable[[Any], dict[str, Any]], ...] = (
        lambda value: {"metadata": {"value": value}},
        lambda value: {"metadata": {"digest": value, "list": [value, {"checksum": value}]}},
        lambda value: {"reason": f"observed {value} there"},
    )
    cases = [
        (label, place(value))
        for _ in range(7)
        for label, value in _harmless_values(rng)
        for place in places
    ]
    cases += [(f"{key}={value}", {"params": {key: value}}) for key, value in HARMLESS_KEYED]
    cases += [
        (f"env {key}", {"metadata": {"env": [{"name": key, "value": value}]}})
        for key, value in HARMLESS_KEYED
    ]
    return cases

"""Prepares the database and begins the ledger, once; every later start finds both and does nothing.

Run by the compose file and by the chart before the server. No shell: each step is a list of
arguments, and passwords are in files and in the environment of one child.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECRETS = Path(os.environ.get("ASOF_SECRETS", "/run/secrets"))
DATA = Path(os.environ.get("ASOF_DATA", "/data"))
HOST = os.environ.get("ASOF_DB_HOST", "db")
NAME = os.environ.get("ASOF_DB_NAME", "audit")
LOGIN = "asof_app"


def secret(name: str) -> str:
    return (SECRETS / name).read_text(encoding="utf-8").strip()


def asof(*arguments: str, password: str) -> int:
    environment = {**os.environ, "PGPASSWORD": password}
    command = [sys.executable, "-m", "api.cli", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def main() -> int:
    admin = f"postgresql://postgres@{HOST}/{NAME}"
    if asof("migrate", "--admin", admin, "--login", LOGIN, password=secret("db_password")):
        return 1
    set_password(admin)
    passfile = DATA / "pgpass"
    passfile.write_text(f"{HOST}:5432:{NAME}:{LOGIN}:{secret('app_password')}\n", encoding="utf-8")
    passfile.chmod(0o600)
    if (DATA / "keys" / "ledger.vkey").exists():
        return 0
    os.environ["ASOF_KEYS"] = str(DATA / "keys")
    origin = os.environ.get("ASOF_ORIGIN", "ledger.example.com/main")
    store = f"postgresql://{LOGIN}@{HOST}/{NAME}"
    return asof("init", "--origin", origin, "--store", store, password=secret("app_password"))


def set_password(admin: str) -> None:
    """The login's password, as the secret says today."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(admin, password=secret("db_password"), autocommit=True) as connection:
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
            sql.Identifier(LOGIN), sql.Literal(secret("app_password"))
        )
        connection.execute(statement)


if __name__ == "__main__":
    sys.exit(main())

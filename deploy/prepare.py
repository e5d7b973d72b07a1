"""Prepares the database and begins the ledger, once; every later start finds both and does nothing.

Run by the compose file before the server. No shell: each step is a list of arguments, passwords are
in files and in the environment of one child, and none is printed. If it dies in between, the next
run goes on: each step may be repeated.
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
PORT = os.environ.get("PGPORT", "5432")  # libpq's own name: the URLs below go there too
LOGIN = "asof_app"


def main() -> int:
    admin = f"postgresql://postgres@{HOST}/{NAME}"
    store = f"postgresql://{LOGIN}@{HOST}/{NAME}"
    # What it prints has the password that it invents for a new login; ours replaces it below.
    quietly = subprocess.DEVNULL
    migrate = ("migrate", "--admin", admin, "--login", LOGIN)
    if asof(*migrate, password=secret("db_password"), stdout=quietly):
        return 1
    set_password(admin)
    write_passfile()
    os.environ["ASOF_KEYS"] = str(DATA / "keys")
    if (DATA / "keys" / "ledger.vkey").exists():
        asked = ("log", "--last", "1", "--store", store)
        if not asof(*asked, password=secret("app_password"), stdout=quietly, stderr=quietly):
            return 0
    origin = os.environ.get("ASOF_ORIGIN", "ledger.example.com/main")
    return asof("init", "--origin", origin, "--store", store, password=secret("app_password"))


def secret(name: str) -> str:
    return (SECRETS / name).read_text(encoding="utf-8").strip()


def asof(
    *arguments: str, password: str, stdout: int | None = None, stderr: int | None = None
) -> int:
    environment = {**os.environ, "PGPASSWORD": password, "ASOF_QUIET": "1"}
    command = [sys.executable, "-m", "api.cli", *arguments]
    done = subprocess.run(command, env=environment, stdout=stdout, stderr=stderr, check=False)
    return done.returncode


def set_password(admin: str) -> None:
    """The login's password, as the secret says today."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(admin, password=secret("db_password"), autocommit=True) as connection:
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
            sql.Identifier(LOGIN), sql.Literal(secret("app_password"))
        )
        connection.execute(statement)


def write_passfile() -> None:
    """For the server, readable by nobody else from its first byte on."""
    password = secret("app_password").replace("\\", "\\\\").replace(":", "\\:")
    line = f"{HOST}:{PORT}:{NAME}:{LOGIN}:{password}\n"
    aside = DATA / ".pgpass"
    aside.unlink(missing_ok=True)
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(line)
    aside.replace(DATA / "pgpass")


if __name__ == "__main__":
    sys.exit(main())

"""Writes ledger/stores/sql/postgres/schema.txt: what the migrations make of an empty database.

`python -m scripts.pg_schema URL` with the URL of a database that was migrated; a test compares the
file with what each version of the server says.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from ledger.stores.postgres.checks import schema_lines
from ledger.stores.postgres.connecting import connect

FILE = Path(__file__).resolve().parents[1] / "ledger/stores/sql/postgres/schema.txt"

if __name__ == "__main__":
    with closing(connect(sys.argv[1], "admin")) as connection:
        FILE.write_text("\n".join(schema_lines(connection)) + "\n", "utf-8")

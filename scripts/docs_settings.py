"""Writes docs/configuration.md from the table of keys: `python -m scripts.docs_settings`.

A test compares the page with what this gives.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from api.service.configuration import KEYS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"

INTRODUCTION = """# The configuration of `asof serve`

<!-- Made by scripts/docs_settings.py from the code; a test compares. Change the code, then run it. -->

`asof serve --config asof.toml` (or `ASOF_CONFIG`). Without a file one ledger is served, that of `--store`, under the last part
of its origin. Relative paths are relative to the file. A key that is not here is refused, with the nearest one that is.

```toml
[server]
host = "0.0.0.0"
certificate = "tls/server.pem"
private_key = "tls/server.key"
trusted_hosts = ["ledger.example.com"]

[ledgers.acme]
store = "postgresql://asof_app@db/audit"      # its password: PGPASSWORD or ~/.pgpass
keys = "keys/acme"
rollback_roots = ["/srv/pipelines"]

[ingest.github]
secret_env = "GITHUB_WEBHOOK_SECRET"
```

No secret stands in the file: it names the environment variable, or the file, that holds it.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *_tables()])


def _tables() -> Iterator[str]:
    for table in dict.fromkeys(key.table for key in KEYS):
        yield f"## `[{table}]`\n"
        yield "| key | default | |\n| --- | --- | --- |"
        for key in KEYS:
            if key.table == table:
                default = f"`{key.default}`" if key.default else ""
                yield f"| `{key.name}` | {default} | {key.meaning} |"
        yield ""


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.name}: {len(KEYS)} keys")
    return 0


if __name__ == "__main__":
    sys.exit(main())

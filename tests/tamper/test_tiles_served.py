"""A damaged store behind a running server: caches must not keep the damage for a year."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.service import prepare, started

DAMAGES = {
    "another actor": "UPDATE entry SET actor = 'user:eve' WHERE idx = 1",
    "the middle is missing": "DELETE FROM entry WHERE idx = 1",
    "the end is missing": "DELETE FROM entry WHERE idx = 2",
    "all is missing": "DELETE FROM entry WHERE idx < 3",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiles")


def test_an_entry_bundle_that_is_not_the_tile_is_not_served(folder: Path) -> None:
    made = prepare(folder, roles=("auditor",))
    path = "/t/acme/tile/entries/000.p/3"
    with started(made) as running, running.client("auditor") as client:
        whole = client.get(path)
        assert whole.status_code == 200 and "immutable" in whole.headers["cache-control"]
        for name, damage in DAMAGES.items():
            with closing(sqlite3.connect(folder / "asof.db")) as connection:
                rows = connection.execute("SELECT * FROM entry").fetchall()
                for (trigger,) in connection.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
                ).fetchall():
                    connection.execute(f"DROP TRIGGER {trigger}")
                connection.execute(damage)
                connection.commit()
                told = client.get(path)
                assert told.json()["type"].endswith("/problems/tampered"), (name, told.text)
                assert told.headers["cache-control"] == "no-store"
                connection.execute("DELETE FROM entry")
                marks = ", ".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO entry VALUES ({marks})", rows)
                connection.commit()
            assert client.get(path).content == whole.content, name

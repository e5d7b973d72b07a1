"""Where the rows of an index lie: the small contract that SQLite and PostgreSQL keep alike.

::

    with tables.writing() as build:                     # alone with this build, one transaction
        tables.add("add_change", rows)
        tables.advance(build.size + 1, leaf_hash)
    with tables.reading():                              # one build, whatever is switched meanwhile
        (found,) = tables.ask(("lanes", {"audience": audience}))
    answer = tables.ask_one(("records", {"refs": refs, "known": known}))    # and of which build

The questions and the rules are written once, in `index` and `indexing`; what differs is the text of
the statements, which lie by name in `sql/<dialect>/queries.sql` and take the same values
(docs/adr/0071). The promises:

* **Builds.** The rows of one ledger lie in a build: a set of tables with its number in their names.
  At most one is live. Statements speak of the live build, or of the one that the tables were
  `begun` for.
* **Atomicity.** What `writing` did is there as a whole or not at all; nobody else writes to the
  build meanwhile.
* **Stillness.** Inside `reading` the build stays the same and its tables stay there; each `ask` is
  answered from one moment.
* **Failure.** `UnfitRowError`: the values cannot be rows, whoever tries. `MovedError`: the build
  was given up for another. Else `StoreError`; never an exception of the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple, Protocol

from ledger.errors import ConflictError, StoreError

__all__ = [
    "COMPARED",
    "TABLES",
    "Answer",
    "Ask",
    "Build",
    "MovedError",
    "Tables",
    "UnfitRowError",
    "UnwritableError",
    "load_schema",
    "load_statements",
    "of_build",
]

TABLES: Final = (
    "name",
    "scope",
    "lane",
    "change",
    "known",
    "unreadable",
    "use",
    "span",
    "end",
    "asset",
    "withdrawal",
    "parent",
    "run_asset",
    "dead_letter",
    "snapshot",
)
"""What a build consists of."""

COMPARED: Final = TABLES[:-1]
"""What a rebuild makes anew, and must make alike. Snapshots are made by replays."""

VERSION: Final = 3

Ask = tuple[str, dict[str, Any]]
"""A statement's name and its values."""


class UnfitRowError(StoreError):
    """Values that this database cannot hold, whoever tries and however often."""


class MovedError(ConflictError):
    """The build that was spoken of is not there any more: another was built, or it was dropped."""


class UnwritableError(StoreError):
    """This login may not write the index; what it reads is right as far as it goes."""


class Build(NamedTuple):
    """How far a build is; `leaf_hash` is that of its last entry, empty where it has none."""

    number: int
    origin: str
    size: int
    leaf_hash: bytes
    live: bool


class Answer(NamedTuple):
    """The rows of one question, and the build, with its size, that they are from."""

    build: int
    size: int
    rows: list[tuple[Any, ...]]


class Tables(Protocol):
    """The tables of one ledger's index. One thread at a time."""

    @property
    def name(self) -> str:
        """What these tables are called in messages."""
        ...

    def reading(self) -> AbstractContextManager[Build]:
        """The build stays for the length of the block. Raises: MovedError."""
        ...

    def writing(self) -> AbstractContextManager[Build]:
        """Alone with the build; durable at the block's normal end, undone by an exception.

        Raises: MovedError.
        """
        ...

    def ask(self, *questions: Ask) -> list[list[tuple[Any, ...]]]:
        """The rows of each question, in one round trip where the database allows it."""
        ...

    def ask_one(self, question: Ask) -> Answer:
        """The rows of a question that needs no other one beside it: as of one moment, of one build.

        One round trip, but for the first time and after another build went live.
        """
        ...

    def add(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write these rows with a statement `add_…` or `close_…`. Raises: UnfitRowError."""
        ...

    def advance(self, size: int, leaf_hash: bytes) -> None:
        """The build now has `size` entries; dead letters that held it up until here are gone."""
        ...

    def builds(self) -> list[Build]:
        """All builds of this ledger, oldest first."""
        ...

    def begin_build(self) -> Tables:
        """An empty build beside the live one, for loading; others that are not live are dropped."""
        ...

    def finish_load(self) -> None:
        """Whatever is quicker done once all rows are there."""
        ...

    def analyze(self) -> None:
        """Tell the planner what the live build holds now, where it would be long in seeing it."""
        ...

    def digests(self, build: int) -> dict[str, str]:
        """A digest of each compared table of a build, over its rows in whatever order; inside
        `writing`.

        Comparable only with each other, by the same connection.
        """
        ...

    def go_live(self, build: int) -> None:
        """Inside `writing`: questions are answered from this build from the commit on."""
        ...

    def drop_retired(self) -> None:
        """Drop every build that is not live."""
        ...

    def drop(self) -> None:
        """Drop everything of this ledger: what is left is as if nothing had ever been indexed."""
        ...

    def close(self) -> None:
        """Give the connection back. Calling it twice does no harm."""
        ...


@cache
def load_statements(dialect: str) -> dict[str, str]:
    """The statements of a dialect by name, without their comments."""
    parts = _read(dialect, "queries.sql").split("-- name: ")[1:]
    named = (part.partition("\n") for part in parts)
    return {name: _plain(body).removesuffix(";") for name, _, body in named}


@cache
def of_build(dialect: str, build: int) -> dict[str, str]:
    """The statements as they speak of one build."""
    number = str(build)
    return {
        name: text.replace("{build}", number) for name, text in load_statements(dialect).items()
    }


@cache
def load_schema(dialect: str) -> dict[str, list[str]]:
    """The statements of `schema.sql` by the part they stand in: "" at first, then `-- <part>:`."""
    found: dict[str, list[str]] = {}
    part = ""
    lines: list[str] = []
    for line in [*_read(dialect, "schema.sql").splitlines(), "-- end: of the file"]:
        word = line.removeprefix("-- ").partition(":")[0]
        if line.startswith("-- ") and word in ("build", "loaded", "end"):
            found[part] = [text.strip() for text in _plain("\n".join(lines)).split(";\n") if text]
            part, lines = word, []
        else:
            lines.append(line)
    return found


def _plain(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("--")]
    return "\n".join(lines).strip().removesuffix(";")


def _read(dialect: str, name: str) -> str:
    return files("projections").joinpath("sql", dialect, name).read_text("utf-8")

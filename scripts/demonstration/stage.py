"""Where the demo plays: a folder with a git repository and a ledger, and hands to work there."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sklearn.datasets import load_diabetes

from api.urls import without_password
from ledger.places import DATABASE_PREFIXES

PROGRAM = Path(__file__).resolve().parent
CHECKOUT = PROGRAM.parents[1]
PIPELINE = ("--pipeline", "progression", "--stage", "production")
ORIGIN = "ledger.clinic.example/progression"
NOT_INHERITED = ("ASOF_KEYS", "ASOF_OBJECTS", "ASOF_OUTPUT", "ASOF_QUIET")
"""They belong to somebody's ledger, or to how somebody likes to read."""


class DemoError(SystemExit):
    """The demo saw something that it must not see; it ends with exit code 1 and says what."""


class Stage:
    """A folder: `work/` is the git repository of the pipeline, `asof.db` the ledger beside it.

    Where ASOF_STORE names a PostgreSQL database, the ledger is a new one of many in there, and its
    key and the captured files lie in the folder. No ledger or key that is there is ever touched.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.store = folder / "asof.db"
        url = os.environ.get("ASOF_STORE", "")
        self.in_database = url.startswith(DATABASE_PREFIXES)
        self.origin = f"{ORIGIN}-{secrets.token_hex(4)}" if self.in_database else ORIGIN
        path = os.environ.get("PYTHONPATH")
        self.environment = {
            name: value for name, value in os.environ.items() if name not in NOT_INHERITED
        } | {
            "ASOF_STORE": url if self.in_database else f"sqlite:///{self.store}",
            "ASOF_ACTOR": "user:ada",
            "PYTHONPATH": f"{CHECKOUT}{os.pathsep + path if path else ''}",
            "COLUMNS": "118",
            **(self.beside() if self.in_database else {}),
        }

    def beside(self) -> dict[str, str]:
        """Where a ledger in a database keeps what a file has beside it."""
        return {
            "ASOF_KEYS": str(self.folder / "asof.keys"),
            "ASOF_OBJECTS": str(self.folder / "asof.objects"),
        }

    # -- what is printed ---------------------------------------------------------------------------

    def chapter(self, title: str, *lines: str) -> None:
        print(f"\n\033[1m── {title}\033[0m" if sys.stdout.isatty() else f"\n── {title}")
        for line in lines:
            print(f"   {line}")

    def invite(self) -> None:
        """The commands to try next, ready to be pasted."""
        self.chapter("Try it yourself", f"everything lies in {self.folder}")
        pipeline = " ".join(PIPELINE)
        where = {"ASOF_STORE": without_password(self.environment["ASOF_STORE"])}
        where |= self.beside() if self.in_database else {}
        exports = "\n  ".join(f"export {name}={quoted(value)}" for name, value in where.items())
        print(
            f"""
  cd {self.work}
  {exports}
  alias asof={CHECKOUT}/scripts/asof
  asof state {pipeline} --at 'tag:release-3'
  asof diff {pipeline} --from tag:release-1 --to now
  asof log --type 'rollback.*'
  asof show 12
  asof verify
  asof --help"""
        )

    # -- hands -------------------------------------------------------------------------------------

    def asof(self, *arguments: str, expect: int = 0, show: bool = True) -> str:
        """Run `asof …` as a process, print it as a person would see it, return its stdout."""
        if show:
            print(f"\n$ asof {' '.join(quoted(word) for word in arguments)}", flush=True)
        answer = subprocess.run(
            [sys.executable, "-m", "api.cli", *arguments],
            cwd=self.work,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if show:
            print(answer.stdout, end="")
            print(answer.stderr, end="")
        if answer.returncode != expect:
            raise DemoError(
                f"asof {' '.join(arguments)}: exit code {answer.returncode}, expected {expect}\n"
                f"{answer.stdout}{answer.stderr}"
            )
        return answer.stdout

    def ask(self, *arguments: str) -> Any:
        """The same question as JSON, for the demo's own checks; not printed."""
        return json.loads(self.asof(*arguments, "-o", "json", show=False))

    def record(self, **event: Any) -> None:
        """Append one event, given as the JSON that `asof record` reads."""
        file = self.folder / "event.json"
        file.write_text(json.dumps(event), encoding="utf-8")
        print(f"\n$ asof record {file.name}   # {event['type']} in {event['stream']}")
        self.asof("record", str(file), show=False)

    def git(self, *arguments: str) -> str:
        """Run git in the pipeline's repository; whose commits these are is said, not inherited."""
        answer = subprocess.run(
            ["git", "-c", "user.name=Ada", "-c", "user.email=ada@clinic.example", *arguments],
            cwd=self.work,
            capture_output=True,
            text=True,
            check=True,
        )
        return answer.stdout.strip()

    def script(self, name: str) -> str:
        """Run one script of the pipeline, as its makers do."""
        answer = subprocess.run(
            [sys.executable, name], cwd=self.work, capture_output=True, text=True, check=True
        )
        return answer.stdout.strip()

    def edit(self, name: str, before: str, after: str) -> None:
        """Change a file of the repository by hand."""
        path = self.work / name
        text = path.read_text(encoding="utf-8")
        if before not in text:
            raise DemoError(f"{name} does not hold {before!r}")
        path.write_text(text.replace(before, after), encoding="utf-8")

    def build(self) -> None:
        """Lay out the repository and the clinic's real data."""
        shutil.copytree(
            PROGRAM / "pipeline", self.work, ignore=shutil.ignore_patterns("__pycache__")
        )
        bunch = load_diabetes(scaled=False)
        rows = [
            dict(zip(bunch.feature_names, map(float, features), strict=True))
            | {"progression": float(target)}
            for features, target in zip(bunch.data, bunch.target, strict=True)
        ]
        write_csv(self.work / "data" / "raw" / "patients.csv", rows[:342])
        write_csv(self.work / "data" / "clinic" / "patients.csv", rows[342:])
        (self.work / ".gitignore").write_text(
            "data/\nmodel/\nmetrics.json\n__pycache__/\n", encoding="utf-8"
        )
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("Forecast how the disease progresses")

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    # -- what is really there, read without asof --------------------------------------------------

    def fingerprint(self) -> dict[str, str]:
        """The code tree, the data, the parameters, the model and the predictions, by digest."""
        files = ("params.json", "data/raw/patients.csv", "data/prepared/train.csv",
                 "data/prepared/validation.csv", "model/model.joblib")  # fmt: skip
        return {
            "code tree": self.git("rev-parse", "HEAD^{tree}"),
            **{name: sha256((self.work / name).read_bytes()) for name in files},
            "predictions": sha256(self.script("predict.py").encode()),
        }


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def quoted(word: str) -> str:
    return f"'{word}'" if set(word) & set(" *?&'\"$") else word

"""A fresh data folder to copy: `initdb` takes a second, a copy of what it made a tenth of one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from scripts.clusters.accounts import SERVER_ENVIRONMENT, give, run_as
from scripts.clusters.binaries import cache_folder, locked, version_of

__all__ = ["copy_of_template", "give_all"]

OPTIONS = (
    "--username=postgres",
    "--data-checksums",
    "--encoding=UTF8",
    "--locale=C",
    "--auth=trust",
    "--no-sync",
)


def copy_of_template(bindir: Path, data: Path) -> None:
    """A new cluster's files at `data`: page checksums, UTF-8, the C locale, trust on loopback."""
    shutil.copytree(_template(bindir), data, symlinks=True)
    give_all(data)


def give_all(folder: Path) -> None:
    """Make the server's account the owner of a folder and of all that is in it."""
    for path in (folder, *folder.rglob("*")):
        give(path)


def _template(bindir: Path) -> Path:
    """Made by whoever comes first, for these very programs: their size stands for the build."""
    built = (bindir / "postgres").stat().st_size
    target = cache_folder() / f"template-{version_of(bindir)}-{built:x}"
    with locked(target):
        if not target.exists():
            making = target.with_name(f"{target.name}.making")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(mode=0o700)
            give(making)
            _initdb(bindir, making)
            making.rename(target)
    return target


def _initdb(bindir: Path, data: Path) -> None:
    made = subprocess.run(
        [bindir / "initdb", f"--pgdata={data}", *OPTIONS],
        capture_output=True,
        text=True,
        cwd="/",
        env=SERVER_ENVIRONMENT,
        **run_as(),
    )
    if made.returncode:
        raise LookupError(f"initdb of {bindir} failed:\n{made.stdout}{made.stderr}")

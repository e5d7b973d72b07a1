"""The connector for the computing environment: packages, interpreter, operating system, hardware.

::

    connector = EnvironmentConnector(Settings(environ=os.environ))
    [seen] = connector.observe(".")          # this interpreter, the lock files in this folder
    seen.asset.metadata["environment"]["packages"]      # {'numpy': '2.3.4', …}

    TARGET = FOLDER | INTERPRETER | INTERPRETER "#" FOLDER

FOLDER is where lock files lie; its `.venv`, or itself if it is a virtual environment, gives the
interpreter, else the one that runs asof does. The digest is the SHA-256 of a canonical document
of what matters; two looks at an unchanged machine give the same. It is verify-only: asof compares
an environment with a recorded one and says in words what differs; it installs nothing.
docs/connectors/environment.md has the fields.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from connectors.connector import (
    AssetVersion,
    Availability,
    Idempotency,
    Message,
    Observation,
    Outcome,
    RestoreStep,
    Settings,
    check_plain_path,
    check_system,
    plain_name,
)
from connectors.machine import Program, read_machine
from connectors.program import run
from connectors.reading import hash_open, hash_text, read_file
from ledger.canonical import format_canonical, parse_json
from ledger.errors import AsofError, MalformedError, NotFoundError, StoreError

__all__ = ["EnvironmentConnector", "differences"]

FORMAT = "asof.environment/1"
LOCK_FILES = ("uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "conda-lock.yml")
LOCK_PATTERNS = (
    "pylock.*.toml",
    "requirements*.txt",
    "requirements*.lock",
    "requirements/*.txt",
    "requirements/*.lock",
)
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "MKL_NUM_THREADS",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "TF_DETERMINISTIC_OPS",
    "TZ",
)
IMAGE_VARIABLE = "ASOF_IMAGE_DIGEST"
_FOR_PYTHON = ("HOME", "PYTHONPATH", "PYTHONNOUSERSITE", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_SECRET = re.compile(r"(?i)pass|secret|token|credential|auth|key$|^key|_key_")
_MAX_PACKAGES = 16 << 20

# Run by the interpreter that is captured; needs nothing but its standard library.
_PROBE = """
import json, platform, sys
from importlib import metadata
packages = []
for found in metadata.distributions():
    name, version = found.metadata.get("Name"), found.metadata.get("Version")
    try:
        origin = json.loads(found.read_text("direct_url.json") or "null")
    except ValueError:
        origin = None
    if name:
        packages.append({"metadata": {"name": name, "version": version}, "direct_url": origin})
print(json.dumps({"version": platform.python_version(), "implementation": sys.implementation.name,
                  "machine": platform.machine(), "build": " ".join(platform.python_build()),
                  "compiler": platform.python_compiler(), "installed": packages}))
"""


class EnvironmentTarget(NamedTuple):
    """Which interpreter to ask, and where lock files lie."""

    python: Path
    folder: Path


class EnvironmentConnector:
    """The environment that a program would run in, here and now."""

    system: str = "environment"
    idempotency: Idempotency = "read_back"

    def __init__(
        self, settings: Settings, *, root: Path = Path("/"), program: Program | None = None
    ) -> None:
        """`root` and `program` stand in for the machine in tests and for recorded outputs."""
        self._settings = settings
        self._root = root
        self._program = program or self._run_program

    def observe(
        self, target: str, *, kind: str | None = None, name: str | None = None
    ) -> list[Observation]:
        """The environment at `target`. The document that it returns is all that is kept."""
        wanted = parse_target(target, search=self._settings.environ.get("PATH", ""))
        document, method = self._read(wanted)
        asset = self._asset(wanted, document, method, kind, name)
        details = {"python": str(wanted.python), "folder": str(wanted.folder), "method": method}
        return [
            Observation(
                system=self.system, target=target, asset=asset, digest=asset.digest, details=details
            )
        ]

    def translate(self, message: Message) -> list[tuple[str, dict[str, Any]]]:
        """Always refused: a machine sends nothing. Raises: MalformedError."""
        raise MalformedError("an environment sends no messages; capture it instead")

    def available(self, version: AssetVersion) -> Availability:
        """Always `verify_only`; the detail says whether this machine is as recorded now."""
        check_system(version, self.system)
        try:
            different = self._differences(version)
        except AsofError as error:
            return Availability(status="verify_only", detail=f"could not be looked at now: {error}")
        if not different:
            return Availability(status="verify_only", detail="as recorded")
        return Availability(status="verify_only", detail=f"differs: {'; '.join(different)}")

    def restore(self, step: RestoreStep) -> Outcome:
        """`already` where nothing differs, else `refused` with the differences in words."""
        check_system(step.target, self.system)
        try:
            found = self.read_back(step).digest
            different = self._differences(step.target)
        except AsofError as error:
            return Outcome(status="failed", detail=str(error))
        if found == step.target.digest:
            return Outcome(status="already", observed_digest=found)
        return Outcome(
            status="refused",
            detail=f"An environment is verify-only, differs: {'; '.join(different)}. "
            f"{_advice(step.target)}",
            observed_digest=found,
        )

    def read_back(self, step: RestoreStep) -> Observation:
        """The environment now, where the recorded one was. No digest if its interpreter is gone."""
        check_system(step.target, self.system)
        digest: str | None = None
        try:
            document, _ = self._read(_target_of(step.target))
            digest = _digest(document)
        except NotFoundError:
            document = {}
        asset = step.target if digest == step.target.digest else None
        target = str(step.target.details.get("python", ""))
        return Observation(
            system=self.system, target=target, asset=asset, digest=digest, details=document
        )

    # Reading.

    def _read(self, wanted: EnvironmentTarget) -> tuple[dict[str, Any], str]:
        """The document of what matters, and how the packages were found."""
        python, packages, method = self._read_python(wanted.python)
        machine = read_machine(self._root, self._program)
        machine["container"]["image_digest"] = self._settings.environ.get(IMAGE_VARIABLE) or None
        machine["gpu"]["cuda_runtime"] = _cuda_runtimes(packages)
        document = {
            "format": FORMAT,
            "python": python,
            "packages": packages,
            "locks": _read_locks(wanted.folder),
            "variables": self._variables(),
            **machine,
        }
        return document, method

    def _read_python(self, python: Path) -> tuple[dict[str, str], dict[str, str], str]:
        probed = parse_json(self._ask(python, "-c", _PROBE), max_bytes=_MAX_PACKAGES)
        if not isinstance(probed, dict):
            raise StoreError(f"{python} gave no facts about itself; is it a Python interpreter?")
        method, installed = (
            "importlib.metadata (pip is not installed there)",
            probed.pop("installed"),
        )
        try:
            inspected = parse_json(
                self._ask(python, "-m", "pip", "--disable-pip-version-check", "inspect"),
                max_bytes=_MAX_PACKAGES,
            )
            if isinstance(inspected, dict):
                method, installed = "pip inspect", inspected["installed"]
        except (StoreError, MalformedError, KeyError):
            pass  # no pip, or one from before `inspect`; `method` says that the other way was taken
        return {key: str(value) for key, value in probed.items()}, _packages(installed), method

    def _ask(self, python: Path, *arguments: str) -> bytes:
        # An empty folder: `-m` and `-c` would find the modules of the working folder first.
        with tempfile.TemporaryDirectory(prefix="asof-environment-") as folder:
            return run(
                [str(python), *arguments],
                cwd=Path(folder),
                environ=self._settings.environ,
                allow=_FOR_PYTHON,
                extra={
                    "PIP_CONFIG_FILE": os.devnull,
                    "PIP_NO_INPUT": "1",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                timeout=self._settings.timeout,
                max_output=_MAX_PACKAGES,
            ).stdout

    def _run_program(self, argv: list[str]) -> bytes:
        return run(argv, cwd=Path("/"), environ=self._settings.environ, timeout=30.0).stdout

    def _variables(self) -> dict[str, str]:
        for name in self._settings.variables:
            if _SECRET.search(name):
                raise MalformedError(
                    f"{name} looks like a secret; it would be kept for ever", where="variables"
                )
        allowed = sorted({*VARIABLES, *self._settings.variables})
        return {
            name: self._settings.environ[name] for name in allowed if name in self._settings.environ
        }

    def _differences(self, version: AssetVersion) -> list[str]:
        recorded = version.metadata.get("environment") or version.details.get("environment")
        document, _ = self._read(_target_of(version))
        if _digest(document) == version.digest:
            return []
        if not isinstance(recorded, Mapping) or _digest(recorded) != version.digest:
            return [f"{version.digest} was recorded, {_digest(document)} found"]
        return differences(recorded, document)

    def _asset(
        self,
        wanted: EnvironmentTarget,
        document: dict[str, Any],
        method: str,
        kind: str | None,
        name: str | None,
    ) -> AssetVersion:
        digest = _digest(document)
        return AssetVersion(
            kind=kind or "environment",
            name=name or plain_name(wanted.folder.name or "machine"),
            version=digest.partition(":")[2],
            digest=digest,
            location=wanted.python.as_uri(),
            source={
                "system": self.system,
                "ref": str(wanted.python),
                "details": {"python": str(wanted.python), "folder": str(wanted.folder)},
            },
            restorable="verify_only",
            metadata={"environment": document, "method": method},
        )


def parse_target(target: str, *, search: str = "") -> EnvironmentTarget:
    """`FOLDER`, `INTERPRETER` or `INTERPRETER#FOLDER`; a bare name (`python3.12`) is looked for on
    the path `search`. Raises: MalformedError, NotFoundError.
    """
    if not target or "\0" in target:
        raise MalformedError("name a folder or a Python interpreter", where="target")
    first, sign, second = target.partition("#") if not os.path.lexists(target) else (target, "", "")
    if os.sep not in first and not os.path.lexists(first):
        first = shutil.which(first, path=search) or first
    place = check_plain_path(Path(os.path.abspath(first)))
    folder = check_plain_path(Path(os.path.abspath(second or ".")))
    if not place.exists() or not folder.is_dir():
        raise NotFoundError(
            f"{first if not place.exists() else second}: no such interpreter or folder"
        )
    if place.is_dir() and sign:
        raise MalformedError("before '#' stands an interpreter, behind it a folder", where="target")
    if place.is_dir():
        return EnvironmentTarget(_interpreter_of(place), place)
    return EnvironmentTarget(place, folder)


def _interpreter_of(folder: Path) -> Path:
    """A virtual environment's own interpreter is named by its link, which carries the meaning."""
    for candidate in (folder, folder / ".venv"):
        if (candidate / "pyvenv.cfg").is_file():
            return candidate / "bin" / "python"
    return Path(sys.executable)


def _target_of(version: AssetVersion) -> EnvironmentTarget:
    """Where a recorded environment was. Raises: MalformedError, NotFoundError (it is gone)."""
    python, folder = version.details.get("python"), version.details.get("folder")
    if not isinstance(python, str) or not isinstance(folder, str):
        raise MalformedError(
            f"{version.ref} does not say where it was captured", where="/source/details"
        )
    if not os.path.isabs(python) or not os.path.exists(python):
        raise NotFoundError(f"{python}: this interpreter is gone")
    return EnvironmentTarget(Path(python), Path(folder))


def _digest(document: Mapping[str, Any]) -> str:
    return f"sha256:{hash_text(format_canonical(dict(document))).sha256}"


def _packages(installed: Any) -> dict[str, str]:
    """Name (as PyPI spells it to compare) → version, with the origin where it was no index."""
    found: dict[str, str] = {}
    for item in installed:
        name = re.sub(r"[-_.]+", "-", str(item["metadata"]["name"])).lower()
        found.setdefault(name, str(item["metadata"]["version"]) + _origin(item.get("direct_url")))
    return dict(sorted(found.items()))


def _origin(direct_url: Any) -> str:
    """What PEP 610 says of a package that came from a repository or a folder; no addresses."""
    if not isinstance(direct_url, Mapping):
        return ""
    if vcs := direct_url.get("vcs_info"):
        return f" ({vcs.get('vcs', 'vcs')} {vcs.get('commit_id', '')})"
    if directory := direct_url.get("dir_info"):
        return " (editable)" if directory.get("editable") else " (folder)"
    archive = direct_url.get("archive_info") or {}
    return f" (archive {archive.get('hash', '')})".replace(" )", ")")


def _cuda_runtimes(packages: Mapping[str, str]) -> dict[str, str]:
    """The CUDA runtimes that packages bring along; the driver's own figure is another thing."""
    found = {
        name: version
        for name, version in packages.items()
        if name.startswith("nvidia-cuda-runtime")
    }
    for name, version in packages.items():
        if match := re.search(r"\+cu(\d+)(\d)$", version):
            found[name] = f"{match[1]}.{match[2]}"
    return found


def _read_locks(folder: Path) -> dict[str, str]:
    """Lock files of the folder by their SHA-256."""
    paths = {folder / name for name in LOCK_FILES}
    for pattern in LOCK_PATTERNS:
        paths.update(folder.glob(pattern))
    return {
        path.relative_to(folder).as_posix(): f"sha256:{read_file(path, hash_open).sha256}"
        for path in sorted(paths)
        if path.is_file() and not path.is_symlink()
    }


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What differs between two documents, in words, in a fixed order."""
    words: list[str] = []
    for section in sorted({*recorded, *found} - {"format"}):
        label = "package" if section == "packages" else section
        words += _different(label, recorded.get(section), found.get(section))
    return words


def _different(label: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            line
            for key in sorted({*before, *after})
            for line in _different(f"{label} {key}", before.get(key), after.get(key))
        ]
    if before is None:
        return [f"{label} added ({_shown(after)})"]
    if after is None:
        return [f"{label} removed (was {_shown(before)})"]
    return [f"{label} {_shown(before)} → {_shown(after)}"]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else format_canonical(value).decode()


def _advice(version: AssetVersion) -> str:
    folder = version.details.get("folder", "")
    return (
        f"Install the recorded packages yourself (in {folder}: from its lock file), or run the "
        "recorded container image; then run this step again"
    )

"""The connector for environments: what is captured from real and recorded machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from connectors.connector import AssetVersion, RestoreStep, Settings
from connectors.environment import EnvironmentConnector, differences, parse_target
from connectors.machine import parse_nvidia_smi, parse_os_release, read_machine
from ledger.canonical import format_json
from ledger.errors import MalformedError, NotFoundError, StoreError
from tests.support.nvidia import NVIDIA_SMI
from tests.support.repositories import write

DEBIAN = """PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
ID=debian
VERSION_ID="12"
# a comment
BROKEN="
"""


def not_installed(argv: list[str]) -> bytes:
    raise NotFoundError(f"the program {argv[0]!r} is not installed")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The files of a recorded machine."""
    root = tmp_path / "machine"
    write(root / "etc/os-release", DEBIAN)
    write(root / "proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 7763\nprocessor\t: 1\n")
    write(root / "proc/meminfo", "MemTotal:       32658228 kB\nMemFree:         1000 kB\n")
    write(
        root / "usr/local/cuda/version.json", '{"cuda": {"name": "CUDA SDK", "version": "12.1.1"}}'
    )
    return root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write(folder / "uv.lock", "version = 1\n")
    write(folder / "requirements/base.lock", "numpy==2.0.0\n")
    return folder


def connector_on(
    machine: Path, program: Callable[[list[str]], bytes] = not_installed, **more: Any
) -> EnvironmentConnector:
    settings = Settings(**{"environ": os.environ, **more})
    return EnvironmentConnector(settings, root=machine, program=program)


def version_of(connector: EnvironmentConnector, target: Path | str) -> AssetVersion:
    [seen] = connector.observe(str(target))
    assert seen.asset is not None
    return seen.asset


def step_to(target: AssetVersion) -> RestoreStep:
    return RestoreStep(id="7/1", slot="env", target=target, expected_digest_now=target.digest)


def document_of(version: AssetVersion) -> dict[str, Any]:
    return dict(version.metadata["environment"])


# What is captured.


def test_the_running_interpreter_is_captured(machine: Path, project: Path) -> None:
    version = version_of(connector_on(machine), project)
    document = document_of(version)
    assert document["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert document["packages"]["pytest"] == metadata.version("pytest")
    assert set(document["locks"]) == {"uv.lock", "requirements/base.lock"}
    assert document["os"]["id"] == "debian" and document["os"]["version"] == "12"
    assert document["hardware"] == {"cpu": "AMD EPYC 7763", "cpus": 2, "memory_gib": 31}
    assert version.restorable == "verify_only" and version.name == "project"
    assert len(format_json(version.as_event_data())) < 100_000


def test_both_cuda_versions_are_there(machine: Path, project: Path) -> None:
    document = document_of(version_of(connector_on(machine, lambda argv: NVIDIA_SMI), project))
    gpu = document["gpu"]
    assert (gpu["driver"], gpu["cuda_driver"], gpu["cuda_toolkit"]) == (
        "550.90.07",
        "12.4",
        "12.1.1",
    )
    assert [card["name"] for card in gpu["cards"]] == ["NVIDIA A100-SXM4-40GB", "NVIDIA T4"]
    assert gpu["cards"][0] == {
        "name": "NVIDIA A100-SXM4-40GB",
        "vbios": "92.00.45.00.03",
        "memory_mib": 40960,
        "ecc": "Enabled",
        "mig": "Disabled",
    }
    without = document_of(version_of(connector_on(machine), project))["gpu"]
    assert without["status"] == "nvidia-smi is not installed" and without["cards"] == []


def test_what_changes_by_itself_is_left_out(machine: Path, project: Path) -> None:
    before = version_of(connector_on(machine, lambda argv: NVIDIA_SMI), project)
    write(machine / "proc/meminfo", "MemTotal:       32658100 kB\nMemFree:         9999 kB\n")
    warmer = NVIDIA_SMI.replace(b"41 C", b"77 C").replace(b"1337 MiB", b"1 MiB")
    swapped = warmer.replace(b"09:00:00", b"10:00:00").replace(b"GPU-1", b"GPU-9")
    after = version_of(connector_on(machine, lambda argv: swapped), project)
    assert before == after
    newer = NVIDIA_SMI.replace(b"550.90.07", b"560.28.03")
    assert version_of(connector_on(machine, lambda argv: newer), project).digest != before.digest


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no element"),
        (b"<html/>", "<html> instead"),
        (b"<nvidia_smi_log>", "no element"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><nvidia_smi_log/>', "entities"),
        (b" " * (9 << 20), "too long"),
    ],
)
def test_what_nvidia_smi_does_not_print(machine: Path, data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_nvidia_smi(data)
    gpu = read_machine(machine, lambda argv: data)["gpu"]
    assert gpu["status"].startswith("nvidia-smi printed what cannot be read") and gpu["cards"] == []


def test_a_driver_that_does_not_answer(machine: Path) -> None:
    def fails(argv: list[str]) -> bytes:
        raise StoreError("driver/library version mismatch")

    assert read_machine(machine, fails)["gpu"]["status"] == "nvidia-smi could not be run"


def test_os_release_is_read_as_a_shell_would() -> None:
    assert parse_os_release(DEBIAN) == {
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
        "ID": "debian",
        "VERSION_ID": "12",
    }
    assert parse_os_release("ID='a b'\nlower=x\n\n=\n") == {"ID": "a b"}


def test_an_empty_machine(tmp_path: Path) -> None:
    facts = read_machine(tmp_path / "nothing", not_installed)
    assert facts["os"]["id"] == "" and facts["hardware"]["memory_gib"] is None
    assert facts["container"] == {"inside": False}
    write(tmp_path / "nothing/.dockerenv", "")
    assert read_machine(tmp_path / "nothing", not_installed)["container"] == {"inside": True}


def test_variables_by_allow_list_only(machine: Path, project: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "4",
        "MY_FLAG": "1",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "ASOF_IMAGE_DIGEST": "sha256:" + "ab" * 32,
    }
    version = version_of(connector_on(machine, environ=environ, variables=("MY_FLAG",)), project)
    document = document_of(version)
    assert document["variables"] == {"MY_FLAG": "1", "OMP_NUM_THREADS": "4"}
    assert document["container"]["image_digest"] == environ["ASOF_IMAGE_DIGEST"]
    assert "hunter2" not in str(version)
    for name in ("AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "GH_TOKEN", "API_KEY"):
        with pytest.raises(MalformedError, match=f"{name} looks like a secret"):
            connector_on(machine, environ=environ, variables=(name,)).observe(str(project))


# Interpreters.


@pytest.fixture(scope="module")
def bare_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a virtual environment without pip; `alone` keeps other packages out of it."""
    project = tmp_path_factory.mktemp("bare")
    command = [sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")]
    subprocess.run(command, check=True)
    return project


@pytest.fixture
def alone(machine: Path) -> EnvironmentConnector:
    """A connector whose interpreters see no package folder of the test's own."""
    return connector_on(machine, environ={"PATH": os.environ["PATH"]})


def install(
    project: Path, name: str, version: str, direct_url: dict[str, Any] | None = None
) -> Path:
    """What an installer leaves behind, in short."""
    [site] = (project / ".venv/lib").glob("python*/site-packages")
    folder = site / f"{name}-{version}.dist-info"
    write(folder / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if direct_url is not None:
        write(folder / "direct_url.json", json.dumps(direct_url))
    return folder


def test_without_pip_the_metadata_is_read_and_said(
    alone: EnvironmentConnector, bare_venv: Path
) -> None:
    install(bare_venv, "Some_Pkg.Name", "1.0")
    install(bare_venv, "torch", "2.4.0+cu121")
    install(bare_venv, "nvidia-cuda-runtime-cu12", "12.1.105")
    install(bare_venv, "mine", "0.1", {"url": "file:///x", "dir_info": {"editable": True}})
    vcs = {"vcs": "git", "commit_id": "ab" * 20}
    install(bare_venv, "theirs", "0.2", {"url": "https://u:p@h/x.git", "vcs_info": vcs})
    version = version_of(alone, bare_venv)
    document = document_of(version)
    assert document["packages"] == {
        "some-pkg-name": "1.0",
        "torch": "2.4.0+cu121",
        "nvidia-cuda-runtime-cu12": "12.1.105",
        "mine": "0.1 (editable)",
        "theirs": f"0.2 (git {'ab' * 20})",
    }
    assert document["gpu"]["cuda_runtime"] == {
        "nvidia-cuda-runtime-cu12": "12.1.105",
        "torch": "12.1",
    }
    assert version.metadata["method"] == "importlib.metadata (pip is not installed there)"
    assert version.location == (bare_venv / ".venv/bin/python").as_uri()
    assert "u:p" not in str(version)


def test_with_pip_it_is_asked(alone: EnvironmentConnector, bare_venv: Path) -> None:
    """A stand-in for pip: what `pip inspect` prints is a JSON document with `installed`."""
    [site] = (bare_venv / ".venv/lib").glob("python*/site-packages")
    said = {"version": "1", "installed": [{"metadata": {"name": "Only.Pip", "version": "3"}}]}
    pip = write(
        site / "pip.py", f"import sys; assert 'inspect' in sys.argv; print({json.dumps(said)!r})"
    )
    try:
        version = version_of(alone, bare_venv)
        assert version.metadata["method"] == "pip inspect"
        assert document_of(version)["packages"] == {"only-pip": "3"}
        pip.write_text("raise SystemExit('unknown command inspect')")
        assert "importlib" in version_of(alone, bare_venv).metadata["method"]
    finally:
        pip.unlink()


def test_modules_of_the_working_folder_are_not_run(
    machine: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project / "platform.py", "raise SystemExit('planted')")
    write(project / "pip.py", "raise SystemExit('planted')")
    monkeypatch.chdir(project)
    assert document_of(version_of(connector_on(machine), "."))["packages"]


def test_the_grammar_of_targets(bare_venv: Path, project: Path, tmp_path: Path) -> None:
    python = bare_venv / ".venv/bin/python"
    assert parse_target(str(bare_venv)) == (python, bare_venv)
    assert parse_target(str(bare_venv / ".venv")) == (python, bare_venv / ".venv")
    assert parse_target(str(project)) == (Path(sys.executable), project)
    assert parse_target(f"{python}#{project}") == (python, project)
    assert parse_target(str(python)) == (python, Path.cwd())
    assert parse_target("python", search=str(python.parent)) == (python, Path.cwd())
    with pytest.raises(NotFoundError):
        parse_target("python")
    for target in (f"{tmp_path}/no", f"{python}#{tmp_path}/no"):
        with pytest.raises(NotFoundError):
            parse_target(target)
    with pytest.raises(MalformedError):
        parse_target(f"{project}#{project}")


def test_what_is_no_interpreter(machine: Path, project: Path, tmp_path: Path) -> None:
    liar = write(tmp_path / "python", "#!/bin/sh\necho 7\n", executable=True)
    with pytest.raises(StoreError, match="is it a Python interpreter"):
        connector_on(machine).observe(f"{liar}#{project}")
    silent = write(tmp_path / "silent", "#!/bin/sh\nexit 3\n", executable=True)
    with pytest.raises(StoreError, match="code 3"):
        connector_on(machine).observe(f"{silent}#{project}")


# What differs, in words.


def test_the_difference_in_words(
    alone: EnvironmentConnector, machine: Path, bare_venv: Path
) -> None:
    old = install(bare_venv, "numpy", "2.0.0")
    gone = install(bare_venv, "pandas", "2.2.0")
    lock = write(bare_venv / "requirements.txt", "numpy==2.0.0\n")
    good = version_of(alone, bare_venv)
    for folder in (old, gone):
        (folder / "METADATA").unlink()
        folder.rmdir()
    install(bare_venv, "numpy", "2.1.0")
    install(bare_venv, "polars", "1.0")
    write(lock, "numpy==2.1.0\n")
    write(machine / "etc/os-release", DEBIAN.replace("12", "13"))
    outcome = alone.restore(step_to(good))
    assert outcome.status == "refused"
    assert outcome.observed_digest == alone.read_back(step_to(good)).digest != good.digest
    for words in (
        "An environment is verify-only, differs: ",
        "package numpy 2.0.0 → 2.1.0",
        "package pandas removed (was 2.2.0)",
        "package polars added (1.0)",
        "locks requirements.txt sha256:",
        "os version 12 → 13",
        "then run this step again",
    ):
        assert words in outcome.detail
    assert outcome.detail.index("locks") < outcome.detail.index("os version")
    without = replace(good, metadata={})
    assert f"{good.digest} was recorded, " in alone.restore(step_to(without)).detail
    forged = replace(good, metadata={"environment": {"packages": {}}})
    assert f"{good.digest} was recorded, " in alone.available(forged).detail


def test_an_interpreter_that_is_gone(machine: Path, project: Path) -> None:
    good = version_of(connector_on(machine), project)
    details = {**good.details, "python": str(project / "gone/bin/python")}
    moved = replace(good, source={**good.source, "details": details})
    connector = connector_on(machine)
    assert connector.read_back(step_to(moved)).digest is None
    assert connector.restore(step_to(moved)).status == "failed"
    assert "this interpreter is gone" in connector.available(moved).detail
    nowhere = replace(good, source={"system": "environment", "ref": "x"})
    with pytest.raises(MalformedError, match="does not say where"):
        connector.read_back(step_to(nowhere))


def test_differences_of_equal_documents_are_none() -> None:
    document = {"format": "f", "packages": {"a": "1"}, "gpu": {"cards": [{"name": "x"}]}}
    assert differences(document, document) == []
    assert differences(document, {**document, "gpu": {"cards": []}}) == [
        'gpu cards [{"name":"x"}] → []'
    ]

"""What this machine is: operating system, processor, memory, graphics cards, container.

::

    read_machine(Path("/"), programs)["os"]     # {'id': 'debian', 'kernel': '6.1.0', …}

Facts are read from files below a root folder and from programs, so that a test, or another
machine's recorded output, can stand in for both. What changes by itself (free memory,
temperature, host name, serial numbers) is left out: two looks at the same machine say the same.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ledger.errors import NotFoundError, StoreError

__all__ = ["Program", "parse_nvidia_smi", "parse_os_release", "read_machine"]

# Runs an argument list and returns what it printed; raises NotFoundError where it is not installed.
Program = Callable[[list[str]], bytes]

_GIB = 1 << 20  # /proc/meminfo counts in kB
_MAX_XML = 8 << 20
_MAX_TEXT = 1 << 20


def read_machine(root: Path, program: Program) -> dict[str, Any]:
    """The parts `os`, `hardware`, `gpu` and `container` of an environment."""
    return {
        "os": _read_os(root),
        "hardware": _read_hardware(root),
        "gpu": _read_gpu(root, program),
        "container": {"inside": _is_container(root)},
    }


def _read_os(root: Path) -> dict[str, Any]:
    release = parse_os_release(_text(root / "etc/os-release") or _text(root / "usr/lib/os-release"))
    name, version = platform.libc_ver()
    uname = os.uname()
    return {
        "id": release.get("ID", ""),
        "version": release.get("VERSION_ID", ""),
        "name": release.get("PRETTY_NAME", ""),
        "kernel": f"{uname.sysname} {uname.release}",
        "machine": uname.machine,
        "libc": f"{name} {version}".strip(),
    }


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of /etc/os-release, quotes as in a shell; other lines are left aside."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"[A-Z0-9_]+", name):
            try:
                found[name] = " ".join(shlex.split(value))
            except ValueError:
                continue
    return found


def _read_hardware(root: Path) -> dict[str, Any]:
    processor = _text(root / "proc/cpuinfo")
    memory = re.search(r"(?m)^MemTotal:\s+(\d+) kB$", _text(root / "proc/meminfo"))
    model = re.search(r"(?m)^(?:model name|Model|Hardware|CPU part)\s*:\s*(.+)$", processor)
    return {
        "cpu": model[1].strip() if model else platform.processor(),
        "cpus": len(re.findall(r"(?m)^processor\s*:", processor)) or os.cpu_count(),
        "memory_gib": round(int(memory[1]) / _GIB) if memory else None,
    }


def _read_gpu(root: Path, program: Program) -> dict[str, Any]:
    """Cards and driver as `nvidia-smi` says; `status` says why there are none."""
    toolkit = re.search(
        r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([^"]+)"', _text(_toolkit_file(root))
    )
    facts: dict[str, Any] = {"cuda_toolkit": toolkit[1] if toolkit else None}
    try:
        return {**parse_nvidia_smi(program(["nvidia-smi", "-q", "-x"])), **facts}
    except NotFoundError:
        status = "nvidia-smi is not installed"
    except StoreError:
        status = "nvidia-smi could not be run"
    except ValueError as error:
        status = f"nvidia-smi printed what cannot be read: {error}"
    return {"status": status, "cards": [], "driver": None, "cuda_driver": None, **facts}


def _toolkit_file(root: Path) -> Path:
    return root / "usr/local/cuda/version.json"


def parse_nvidia_smi(data: bytes) -> dict[str, Any]:
    """The cards, the driver, and the newest CUDA version that this driver can serve.

    That version is not the one that a program uses: see `cuda_runtime` and `cuda_toolkit`.
    Raises: ValueError for what is not the XML of `nvidia-smi -q -x`.
    """
    if len(data) > _MAX_XML or b"<!ENTITY" in data:
        raise ValueError("too long, or with entities")
    try:
        log = ElementTree.fromstring(data)  # noqa: S314 - no entities, and expat bounds the rest
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    if log.tag != "nvidia_smi_log":
        raise ValueError(f"<{log.tag}> instead of <nvidia_smi_log>")
    return {
        "status": "ok",
        "driver": log.findtext("driver_version"),
        "cuda_driver": log.findtext("cuda_version"),
        "cards": sorted((_card(gpu) for gpu in log.findall("gpu")), key=lambda card: str(card)),
    }


def _card(gpu: ElementTree.Element) -> dict[str, Any]:
    memory = re.match(r"\d+", gpu.findtext("fb_memory_usage/total") or "")
    return {
        "name": gpu.findtext("product_name"),
        "vbios": gpu.findtext("vbios_version"),
        "memory_mib": int(memory[0]) if memory else None,
        "ecc": gpu.findtext("ecc_mode/current_ecc"),
        "mig": gpu.findtext("mig_mode/current_mig"),
    }


def _is_container(root: Path) -> bool:
    marks = (root / ".dockerenv", root / "run/.containerenv")
    return any(mark.exists() for mark in marks)


def _text(path: Path) -> str:
    """The beginning of a text file; empty where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""

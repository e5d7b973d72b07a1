"""What is shipped, as far as it can be checked without an engine: parsed, linted, rendered.

No container engine and no cluster is here, so nothing of this is run. `systemd-analyze` and `helm`
are used where they are (a helm in .tools/helm/ too); where they are not, that part reports itself
as skipped.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"
CHART = DEPLOY / "helm" / "asof"
HELM = shutil.which("helm", path=str(Path(sys.executable).parent)) or shutil.which("helm")


# ----------------------------------------------------------------------------------- container file


def faults_of_containerfile(text: str) -> list[str]:
    """What a reviewer would refuse."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
    words = [line.split(None, 1) for line in lines]
    last = max(at for at, (word, *_) in enumerate(words) if word == "FROM")
    final = dict(reversed([(word, rest[0]) for word, *rest in words[last:] if rest]))
    faults = []
    if not re.fullmatch(r"[1-9]\d*(:\d+)?", final.get("USER", "")):
        faults.append("the user is not a number other than 0")
    for word in ("ENTRYPOINT", "CMD"):
        if not final.get(word, "[]").startswith("["):
            faults.append(f"{word} goes through a shell")
    if "HEALTHCHECK" not in final or 'CMD ["' not in final["HEALTHCHECK"]:
        faults.append("no health check without a shell")
    commands = [command for line in lines for command in line.split("&&")]
    installs = [command for command in commands if "pip install" in command]
    if not installs or not all("--require-hashes" in x or "--no-index" in x for x in installs):
        faults.append("packages are installed without their hashes")
    if not all(
        "--no-build-isolation" in x for x in commands if re.search(r"pip wheel|install .* \.$", x)
    ):
        faults.append("what builds the wheel is fetched without its hash")
    made = [command for command in commands if re.search(r"install -d -o 10001 .* /data", command)]
    if not made:
        faults.append("a new volume at /data would belong to root")
    if any(word == "ADD" for word, *_ in words) or ":latest" in text:
        faults.append("ADD, or a tag that moves")
    sources = [line.split()[1:-1] for line in lines if re.match("COPY (?!--from)", line)]
    allowed = (CHECKOUT / ".containerignore").read_text().splitlines()
    for name in (name for names in sources for name in names):
        if not (CHECKOUT / name).exists() or f"!{name}" not in allowed:
            faults.append(f"{name} is not there, or does not get into the build")
    return faults


def test_the_container_file() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert faults_of_containerfile(text) == []
    for wrong, right in (
        ("USER 10001:10001", "USER root"),
        ('ENTRYPOINT ["asof"]', "ENTRYPOINT asof"),
        ("--require-hashes ", ""),
        ("--no-build-isolation ", ""),
        ("-o 10001 ", ""),
        (" requirements/build.lock", " requirements/bulid.lock"),
        ("COPY ledger ledger", "COPY legder ledger"),
    ):
        assert faults_of_containerfile(text.replace(wrong, right)), "the control is not noticed"


def test_nothing_but_what_is_needed_goes_into_the_image() -> None:
    allowed = (CHECKOUT / ".containerignore").read_text().splitlines()
    assert allowed[0] == "*" and not any(".git" in line or "tests" in line for line in allowed)


# ----------------------------------------------------------------------------------------- compose


def faults_of_compose(told: dict[str, Any]) -> list[str]:
    faults = []
    for name, service in told["services"].items():
        ours = service["image"] == "asof"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            faults.append(f"{name} may gain privileges")
        if ours and (service.get("cap_drop") != ["ALL"] or not service.get("read_only")):
            faults.append(f"{name} keeps capabilities, or may write its root")
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable and not variable.endswith("_FILE") and value:
                faults.append(f"{name} has a password in its environment")
        faults += [f"{name}: {v}" for v in service.get("secrets", []) if v not in told["secrets"]]
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                faults.append(f"{name} listens on every address")
    if (
        "outside" in told["services"]["db"]["networks"]
        or not told["networks"]["inside"]["internal"]
    ):
        faults.append("the database can be reached from outside")
    if "--data-checksums" not in told["services"]["db"]["environment"]["POSTGRES_INITDB_ARGS"]:
        faults.append("no data checksums: asof would refuse to start")
    return faults


def test_the_compose_file() -> None:
    told = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert faults_of_compose(told) == []
    for path, value in (
        (("services", "asof", "cap_drop"), []),
        (("services", "asof", "ports"), ["8080:8080"]),
        (("services", "db", "environment"), {"POSTGRES_INITDB_ARGS": "", "POSTGRES_PASSWORD": "x"}),
        (("networks", "inside", "internal"), False),
    ):
        wrong = copy.deepcopy(told)
        place = wrong
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        assert faults_of_compose(wrong), f"{path}: the control is not noticed"


def test_what_compose_serves_is_a_configuration() -> None:
    from api.service.configuration import read_configuration

    found = read_configuration(DEPLOY / "asof.toml")
    assert list(found.ledgers) == ["main"] and found.host == "0.0.0.0"
    ast.parse((DEPLOY / "prepare.py").read_text())


# ----------------------------------------------------------------------------------------- systemd


def test_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze on this machine")
    text = (DEPLOY / "asof.service").read_text()
    good = text.replace("/opt/asof/bin/asof", "/bin/true")
    assert _verified(analyze, tmp_path, good) == ""
    assert "Protekt" in _verified(analyze, tmp_path, good.replace("ProtectHome", "ProtektHome"))
    assert "PGPASSFILE=%d" not in text  # libpq passes over a file that an ACL opens
    for needed in (
        "DynamicUser=yes",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "LoadCredential",
    ):
        assert needed in text


def _verified(analyze: str, folder: Path, text: str) -> str:
    path = folder / "asof.service"
    path.write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    mine = [line for line in done.stderr.splitlines() if "asof.service" in line]
    return "\n".join(mine)


# -------------------------------------------------------------------------------------------- helm


def test_the_values_fit_their_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(values, schema)
    for wrong in (values | {"replicas": 0}, values | {"replcas": 1}, values | {"config": ""}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def rendered(*more: str) -> list[dict[str, Any]]:
    assert HELM is not None
    done = subprocess.run(
        [HELM, "template", "audit", str(CHART), "--kube-version", "1.31.0", *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def faults_of_pods(objects: list[dict[str, Any]]) -> list[str]:
    faults = []
    for one in objects:
        if one["kind"] not in ("StatefulSet", "Job"):
            continue
        pod = one["spec"]["template"]["spec"]
        if not pod["securityContext"].get("runAsNonRoot"):
            faults.append(f"{one['kind']} may run as root")
        if pod["securityContext"].get("fsGroupChangePolicy") != "OnRootMismatch":
            faults.append(f"{one['kind']}: every start opens the signing key to the group")
        for container in pod["containers"] + pod.get("initContainers", []):
            held = container.get("securityContext", {})
            if not held.get("readOnlyRootFilesystem") or held.get("allowPrivilegeEscalation", True):
                faults.append(f"{container['name']} may write its root, or gain privileges")
            if held.get("capabilities", {}).get("drop") != ["ALL"]:
                faults.append(f"{container['name']} keeps capabilities")
            if "limits" not in container.get("resources", {}):
                faults.append(f"{container['name']} has no limit")
            if "--login" in container.get("args", []):
                faults.append(f"{container['name']} prints the password that it makes")
            of_secrets = {v["name"] for v in pod["volumes"] if "secret" in v}
            mounts = {m["mountPath"]: m["name"] for m in container.get("volumeMounts", [])}
            for variable in container.get("env", []):
                folder = str(Path(variable.get("value", "")).parent)
                if variable["name"] == "PGPASSFILE" and mounts.get(folder) in {None, *of_secrets}:
                    faults.append(f"{container['name']}: libpq passes over a Secret's file")
    return faults


@pytest.mark.skipif(HELM is None, reason="there is no helm on this machine")
def test_the_chart_renders() -> None:
    assert HELM is not None
    lint = subprocess.run([HELM, "lint", "--strict", str(CHART)], capture_output=True, check=False)
    assert lint.returncode == 0, lint.stdout
    everything = ["--set", "ingress.enabled=true,ingress.tlsSecret=t,serviceMonitor.enabled=true"]
    objects = rendered(*everything, "--set", "secrets.environment={hooks}")
    kinds = {one["kind"] for one in objects}
    assert kinds >= {"StatefulSet", "Service", "ConfigMap", "Job", "Ingress", "NetworkPolicy"}
    assert faults_of_pods(objects) == []
    toml = next(one for one in objects if one["kind"] == "ConfigMap")["data"]["asof.toml"]
    assert "[ledgers.main]" in toml
    script = next(one for one in objects if one["kind"] == "ConfigMap")["data"]["before.py"]
    assert script == (CHART / "files" / "before.py").read_text()
    for place, name, value in (
        (("containers", 0, "securityContext"), "readOnlyRootFilesystem", False),
        (("initContainers", 0, "securityContext"), "capabilities", {}),
        (("containers", 0, "env", 0), "value", "/secrets/pgpass"),
        (("containers", 0), "args", ["migrate", "--login", "x"]),
        (("securityContext",), "fsGroupChangePolicy", "Always"),
    ):
        loose = copy.deepcopy(objects)
        part = next(one for one in loose if one["kind"] == "StatefulSet")["spec"]["template"][
            "spec"
        ]
        for step in place:
            part = part[step]
        part[name] = value
        assert faults_of_pods(loose), f"{name}: the control is not noticed"
    with pytest.raises(AssertionError, match="replcas"):
        rendered("--set", "replcas=3")

"""The story by chapters. Each does something real and shows what the ledger says of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.demonstration.stage import CHECKOUT, PIPELINE, DemoError, Stage, sha256

__all__ = ["play"]

SLOTS = (
    # slot, system, target, kind
    ("environment", "environment", ".", "environment"),
    ("data/raw", "files", "data/raw", "dataset"),
    ("data/prepared", "files", "data/prepared", "dataset"),
    ("code", "git", ".", "code"),
    ("params", "files", "params.json", "hyperparameters"),
    ("model", "files", "model/model.joblib", "model"),
)


def play(stage: Stage) -> None:
    """All chapters; DemoError at the first thing that is not as it must be."""
    open_the_ledger(stage)
    good = good_version(stage)
    honest_changes(stage)
    biased = quiet_bias(stage)
    what_ran_when(stage)
    trust_and_tampering(stage)
    roll_back(stage, good, biased)
    proof_for_a_stranger(stage)


def open_the_ledger(stage: Stage) -> None:
    stage.chapter(
        "A real pipeline in a real git repository, and a ledger beside it",
        "It forecasts how a patient's diabetes progresses within a year.",
    )
    stage.build()
    stage.asof("init", "--origin", stage.origin)
    stage.record(
        type="pipeline.defined/1",
        stream="pipeline/progression@production",
        data={
            "pipeline": "progression",
            "stage": "production",
            "slots": [
                {"slot": "environment", "kind": "environment"},
                {"slot": "data/raw", "kind": "dataset"},
                {"slot": "data/prepared", "kind": "dataset", "depends_on": ["data/raw"]},
                {"slot": "code", "kind": "code"},
                {"slot": "params", "kind": "hyperparameters"},
                {
                    "slot": "model",
                    "kind": "model",
                    "depends_on": ["data/prepared", "code", "params"],
                },
            ],
        },
    )


def good_version(stage: Stage) -> dict[str, str]:
    stage.chapter("Release 1: train, evaluate, record")
    release(stage, 1, "first release")
    stage.asof("state", *PIPELINE)
    return stage.fingerprint()


def honest_changes(stage: Stage) -> None:
    stage.chapter(
        "Release 2: honest changes", "A comment in the code, a little more regularisation."
    )
    stage.edit(
        "train.py",
        "x, y = load(",
        "# ridge regression, because the features are correlated\nx, y = load(",
    )
    stage.edit("params.json", '"alpha": 1.0', '"alpha": 2.0')
    stage.commit("Say why it is a ridge; regularise a little more")
    release(stage, 2, "more regularisation")


def quiet_bias(stage: Stage) -> dict[str, str]:
    stage.chapter(
        "Release 3: a preprocessing change that looks harmless",
        "“Drop outliers” removes every patient whose disease progressed fast.",
        "The validation error improves, because the validation set lost them too.",
    )
    stage.edit(
        "prepare.py",
        "if all(row.values())]",
        "if all(row.values()) and float(row['progression']) < 200]",
    )
    stage.edit(
        "prepare.py",
        "Keep the rows that are complete.",
        "Keep the rows that are complete, drop outliers.",
    )
    stage.commit("Drop outliers before training")
    release(stage, 3, "better validation error")
    return stage.fingerprint()


def release(stage: Stage, number: int, reason: str) -> None:
    """Prepare, train, evaluate with the pipeline's own scripts; record what was used and made."""
    run = f"train-{number}"
    print(f"\n$ python prepare.py\n{stage.script('prepare.py')}")
    used = [capture(stage, *slot, reason=reason) for slot in SLOTS if slot[0] != "model"]
    inputs = [word for ref in used for word in ("--input", ref)]
    stage.asof("run", "start", run, *PIPELINE, "--kind", "training", *inputs, show=False)
    print(f"$ python train.py && python evaluate.py   # {run}\n{stage.script('train.py')}")
    stage.script("evaluate.py")
    model = capture(stage, *SLOTS[-1], reason=reason)
    stage.asof("run", "finish", run, "--made", model, show=False)
    stage.asof("traffic", f"{model}=100", *PIPELINE, "--reason", reason, show=False)
    metrics = json.loads((stage.work / "metrics.json").read_text(encoding="utf-8"))
    show_metrics(metrics)
    stage.record(
        type="evaluation.recorded/1",
        stream=f"evaluation/release-{number}",
        data={
            "subject": model,
            "dataset": used[2],
            "metrics": {
                name: {"value": metrics["validation"][name], "n": metrics["validation"]["n"]}
                for name in ("mae", "bias")
            },
        },
    )
    stage.asof("tag", f"release-{number}", show=False)


def capture(stage: Stage, slot: str, system: str, target: str, kind: str, *, reason: str) -> str:
    """Capture one slot; the reference of the version that it holds now."""
    seen = stage.ask(
        "capture", system, target, *PIPELINE, "--slot", slot, "--kind", kind, "--reason", reason
    )
    version = str(seen["asset_version"])
    print(f"  asof capture {system} {target} --slot {slot}  →  {version}")
    return version


def show_metrics(metrics: dict[str, dict[str, float]]) -> None:
    print(f"  {'measured on':<24}{'patients':>9}{'mean abs. error':>17}{'bias':>9}")
    for name, row in metrics.items():
        print(f"  {name:<24}{row['n']:>9}{row['mae']:>17.2f}{row['bias']:>+9.2f}")


def what_ran_when(stage: Stage) -> None:
    stage.chapter(
        "Doctors complain: severe cases are forecast far too low. What ran before, what runs now?"
    )
    stage.asof("state", *PIPELINE, "--at", "tag:release-2")
    stage.asof("state", *PIPELINE)
    stage.asof("diff", *PIPELINE, "--from", "tag:release-2", "--to", "now")
    stage.asof("history", *PIPELINE, "--slot", "code")
    data = stage.ask("state", *PIPELINE)["bindings"]["data/prepared"]["asset_version"]
    stage.asof("impact", data)


def trust_and_tampering(stage: Stage) -> None:
    stage.chapter(
        "Can the answer be trusted? Verify the ledger; then change one byte in a copy of it"
    )
    stage.asof("verify")
    code = stage.ask("state", *PIPELINE)["bindings"]["code"]
    index = code["since"]["index"]
    true = f'"asset_version":"{code["asset_version"]}'.encode()
    false = true[:-1] + (b"0" if true[-1:] != b"0" else b"1")
    changed, forged = copy_to_forge(stage)
    flip_one_byte(changed, true, false)
    print(f"\nIn the copy, entry {index} now names a commit that ends in {false[-4:].decode()}.")
    answer = stage.asof(*forged, expect=1)
    if f"entry {index}:" not in answer:
        raise DemoError(f"the changed entry {index} was not named")


def copy_to_forge(stage: Stage) -> tuple[Path, tuple[str, ...]]:
    """A copy of the ledger: its file that holds the payloads, and what verifies the copy."""
    forged = stage.folder / "forged"
    if stage.in_database:
        stage.asof("export", "--out", str(forged))
        return payloads_of(forged), ("verify", str(forged))
    forged.mkdir()
    for source in (stage.store, stage.folder / "asof.keys"):
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, forged / source.name)
    file = forged / stage.store.name
    return file, ("--store", f"sqlite:///{file}", "verify")


def payloads_of(export: Path) -> Path:
    """The one file of payloads that the export of a small ledger has (docs/spec/export.md)."""
    (file,) = (path for path in (export / "payloads").rglob("*") if path.is_file())
    return file


def flip_one_byte(file: Path, before: bytes, after: bytes) -> None:
    """Change the last place in `file` where `before` stands."""
    data = bytearray(file.read_bytes())
    place = data.rfind(before)
    if place < 0:
        raise DemoError(f"{file.name} does not hold {before!r}")
    data[place : place + len(after)] = after
    file.write_bytes(data)


def roll_back(stage: Stage, good: dict[str, str], biased: dict[str, str]) -> None:
    stage.chapter("Roll the real systems back to release 1, the good version")
    plan = stage.asof(
        "rollback", "plan", *PIPELINE, "--to", "tag:release-1", "-o", "json", show=False
    )
    rollback = json.loads(plan)["rollback"]
    stage.asof("rollback", "status", rollback)
    stage.asof("rollback", "approve", rollback, "--reason", "severe cases forecast too low",
               "--yes", "--actor", "user:lin")  # fmt: skip
    stage.asof("rollback", "run", rollback, "--yes")
    now = stage.fingerprint()
    print(f"\n{'':<30}{'release 1':<16}{'release 3':<16}now")
    for name, digest in good.items():
        verdict = "identical" if now[name] == digest else "DIFFERENT"
        print(f"{name:<30}{digest[:12]:<16}{biased[name][:12]:<16}{now[name][:12]}  {verdict}")
    if now != good:
        raise DemoError("what runs now is not what ran in release 1")
    then = stage.ask("state", *PIPELINE, "--at", "tag:release-1")["state_digest"]
    if stage.ask("state", *PIPELINE)["state_digest"] != then:
        raise DemoError("the ledger's state is not that of release 1")
    stage.asof("state", *PIPELINE)
    stage.asof("verify")


def proof_for_a_stranger(stage: Stage) -> None:
    stage.chapter(
        "The auditor asks: what ran at release 3? Here is a file that answers without us",
        "verify.py needs Python's standard library, no network, and none of our code.",
    )
    bundle = stage.folder / "release-3.zip"
    stage.asof("state", *PIPELINE, "--at", "tag:release-3", "--proof", str(bundle))
    verifier = stage.folder / "verify.py"
    shutil.copy2(CHECKOUT / "ledger" / "verifier" / "verify.py", verifier)
    vkey = stage.asof("keys", "public", show=False).strip()
    command = ["python3", "-I", "-S", verifier.name, bundle.name, "--vkey", vkey]
    print(f"\n$ {' '.join(command)}")
    answer = subprocess.run(
        [sys.executable, *command[1:]],
        cwd=stage.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    print(answer.stdout + answer.stderr, end="")
    if answer.returncode != 0:
        raise DemoError(f"the bundle did not verify: exit code {answer.returncode}")
    print(f"\n{bundle.name}: sha256 {sha256(bundle.read_bytes())}")

"""Record what training code does in an asof ledger.

::

    import asof

    asof.configure(server="https://ledger.example.com", ledger="acme", pipeline="demand-forecast")

    @asof.track
    def train(alpha): ...

    with asof.run("training", inputs=[asof.record_dataset("orders.csv", name="orders")]) as run:
        run.record_metrics({"mape_percent": 7.9})

A call writes to a spool on disk and returns; a background thread sends it. Nothing here raises into
training code unless `asof.configure(strict=True)`. docs/client.md says what is promised.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Optional, Union

from asof import runs as _runs
from asof import versions as _versions
from asof.answers import Entries, State
from asof.autologging import autolog as _autolog
from asof.client import SPOOL_BYTES, TIMEOUT_SECONDS, Client, Recorded
from asof.errors import (
    AsofError,
    NotSentError,
    ProblemError,
    UnverifiedError,
    VerificationError,
)
from asof.events import plain
from asof.receipts import Receipt, Verified
from asof.runs import Run
from asof.versions import Reference, record_version

__version__ = "0.1.0"

__all__ = [
    "AsofError",
    "Client",
    "Entries",
    "NotSentError",
    "ProblemError",
    "Receipt",
    "Recorded",
    "Reference",
    "Run",
    "State",
    "UnverifiedError",
    "VerificationError",
    "Verified",
    "autolog",
    "bind",
    "client",
    "configure",
    "flush",
    "log",
    "record",
    "record_config",
    "record_dataset",
    "record_evaluation",
    "record_metrics",
    "record_model",
    "run",
    "state",
    "track",
    "verify",
]

_made: Optional[Client] = None
_mutex = threading.Lock()


def configure(
    *,
    server: Optional[str] = None,
    token: Optional[str] = None,
    ledger: Optional[str] = None,
    pipeline: Optional[str] = None,
    stage: Optional[str] = None,
    spool: Union[str, os.PathLike[str], None] = None,
    spool_bytes: int = SPOOL_BYTES,
    durable: bool = False,
    strict: bool = False,
    timeout: float = TIMEOUT_SECONDS,
) -> Client:
    """Set where to record; what is not given comes from the environment (ASOF_SERVER, ASOF_TOKEN,
    ASOF_LEDGER, ASOF_PIPELINE, ASOF_STAGE, ASOF_SPOOL).

    `spool` is a folder, for one ledger; `durable` flushes to the disk in each call; `strict`
    raises, and waits for each acknowledgement. What was recorded before and not sent yet goes where
    it was meant to go; if there was no server then, to this one.
    """
    global _made
    with _mutex:
        before = _made
        _made = Client(
            server=server or _setting("SERVER"),
            token=token or _setting("TOKEN"),
            ledger=ledger or _setting("LEDGER"),
            pipeline=pipeline or _setting("PIPELINE"),
            stage=stage or _setting("STAGE"),
            spool=spool or _setting("SPOOL"),
            spool_bytes=spool_bytes,
            durable=durable,
            strict=strict,
            timeout=timeout,
        )
        if before is not None:
            _made.follow(before)
        return _made


def _setting(name: str) -> Optional[str]:
    return os.environ.get(f"ASOF_{name}") or None


def _after_fork() -> None:
    global _mutex
    _mutex = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def client() -> Client:
    """The client in use; made from the environment with the first call."""
    return _made if _made is not None else configure()


def record(type_name: str, data: Mapping[str, Any], *, stream: Optional[str] = None) -> Recorded:
    """Record any event of the vocabulary (docs/events.md)."""
    return client().record(type_name, data, stream=stream)


def run(
    kind: str = "training",
    *,
    name: Optional[str] = None,
    inputs: Union[str, Iterable[str]] = (),
    params: Optional[Mapping[str, Any]] = None,
    pipeline: Optional[str] = None,
    stage: Optional[str] = None,
) -> Run:
    """A run, for `with`: training, evaluation, batch inference, a period of service. `name` is its
    id, unique in the ledger; without one it gets one."""
    return Run(
        client(), kind, name=name, inputs=inputs, params=params, pipeline=pipeline, stage=stage
    )


def track(function: Any = None, *, kind: str = "training", name: Optional[str] = None) -> Any:
    """Make each call of a function a run: `@asof.track` or `@asof.track(kind="evaluation")`."""
    return _runs.track(client, function, kind=kind, name=name)


def record_dataset(
    what: Any,
    *,
    name: str,
    version: Optional[str] = None,
    parents: Union[str, Iterable[str]] = (),
    metadata: Optional[Mapping[str, Any]] = None,
) -> Reference:
    """Record the version of a dataset: a file or folder by its bytes, an array or a frame (NumPy,
    pandas, polars) by its values. Within a run it is an input."""
    return _runs.used(
        record_version(
            client(),
            "dataset",
            what,
            name=name,
            version=version,
            parents=parents,
            metadata=metadata,
        )
    )


def record_config(
    what: Union[str, os.PathLike[str], Mapping[str, Any]],
    *,
    name: str,
    version: Optional[str] = None,
    parents: Union[str, Iterable[str]] = (),
    metadata: Optional[Mapping[str, Any]] = None,
) -> Reference:
    """Record the version of a configuration: a file, or values. Within a run it is an input."""
    return _runs.used(
        _versions.record_config(
            client(), what, name=name, version=version, parents=parents, metadata=metadata
        )
    )


def record_model(
    what: Any,
    *,
    name: str,
    version: Optional[str] = None,
    parents: Union[str, Iterable[str]] = (),
    metadata: Optional[Mapping[str, Any]] = None,
) -> Reference:
    """Record the version of a model: a file or folder by its bytes, an object by its class and
    parameters. Within a run it is an output, made of the run's inputs."""
    made = _runs.current_run()
    if made is not None:
        more: dict[str, Any] = {"version": version, "metadata": metadata}
        if parents:
            more["parents"] = parents
        return made.record_model(what, name=name, **more)
    return record_version(
        client(), "model", what, name=name, version=version, parents=parents, metadata=metadata
    )


def record_metrics(metrics: Mapping[str, Any]) -> None:
    """Keep measured values with the run that is under way, until its end; without a run they are a
    note."""
    made = _runs.current_run()
    if made is not None:
        made.record_metrics(metrics)
        return
    values = plain(metrics)
    told = ", ".join(f"{name} = {value}" for name, value in values.items())
    record("note.added/1", {"text": f"metrics: {told}"}, stream="note/metrics")


def record_evaluation(
    subject: str,
    dataset: str,
    metrics: Mapping[str, Any],
    *,
    n: int,
    name: Optional[str] = None,
    passed: Optional[bool] = None,
) -> Recorded:
    """Record how a version (or `run/<id>`) did on a dataset, over `n` samples."""
    figures = {name: {"value": value, "n": n} for name, value in plain(metrics).items()}
    data: dict[str, Any] = {"subject": str(subject), "dataset": str(dataset), "metrics": figures}
    if passed is not None:
        data["passed"] = passed
    mark = name or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    return record("evaluation.recorded/1", data, stream=f"evaluation/{mark}")


def bind(slot: str, version: str, *, reason: Optional[str] = None) -> Recorded:
    """Put a recorded version into a slot of the pipeline and stage that are configured."""
    here = client()
    data: dict[str, Any] = {
        "pipeline": here.pipeline or "unnamed",
        "stage": here.stage,
        "slot": slot,
        "asset_version": str(version),
    }
    if reason is not None:
        data["reason"] = reason
    return here.record("binding.changed/1", data)


def autolog(*, disable: bool = False) -> list[str]:
    """Record every fit of scikit-learn, XGBoost, LightGBM and PyTorch (what is installed):
    parameters, shapes, duration. Returns what is watched. Results are never changed."""
    return _autolog(client, disable=disable)


def flush(timeout: Optional[float] = 30.0) -> bool:
    """Wait until everything recorded so far was acknowledged; whether it was."""
    return client().flush(timeout)


def state(
    pipeline: Optional[str] = None,
    stage: Optional[str] = None,
    *,
    at: Union[str, datetime, None] = None,
    known_at: Union[str, datetime, None] = None,
    basis: Optional[int] = None,
) -> State:
    """What was bound, running and served, now or at any instant, and as it was known at any other.
    What was recorded here is sent first. Raises ProblemError, NotSentError, also where not
    strict: a question has no answer to go on with."""
    return client().state(pipeline, stage, at=at, known_at=known_at, basis=basis)


def log(query: str = "", *, limit: int = 100, order: str = "desc") -> Entries:
    """Entries that pass a query such as `type:binding.* after:7d`. Raises as `state` does."""
    return client().log(query, limit=limit, order=order)


def verify(
    what: Union[Receipt, Recorded, str, Path, None] = None, *, vkey: Optional[str] = None
) -> Verified:
    """Check receipts offline: one, a file of them, or all that were kept here."""
    return client().verify(what, vkey=vkey)

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
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional, Union

from asof import runs as _runs
from asof.answers import Entries, State
from asof.autologging import autolog as _autolog
from asof.client import Client, Recorded
from asof.errors import (
    AsofError,
    NotSentError,
    ProblemError,
    UnverifiedError,
    VerificationError,
)
from asof.receipts import Receipt, Verified
from asof.runs import Reference, Run

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
    "record_metrics",
    "record_model",
    "run",
    "state",
    "track",
    "verify",
]

_made: Optional[Client] = None
_mutex = threading.Lock()


def configure(**settings: Any) -> Client:
    """Set where to record; what is not given comes from the environment (ASOF_SERVER, ASOF_TOKEN,
    ASOF_LEDGER, ASOF_PIPELINE, ASOF_STAGE, ASOF_SPOOL).

    Settings: server, token, ledger, pipeline, stage, spool (a folder), spool_bytes, durable (flush
    to the disk in each call), strict (raise, and wait for the acknowledgement), timeout.
    """
    global _made
    fallback = {
        name: os.environ.get(f"ASOF_{name.upper()}") or None
        for name in ("server", "token", "ledger", "pipeline", "stage", "spool")
    }
    with _mutex:
        before = _made
        _made = Client(**{**fallback, **settings})
    if before is not None:
        before.flush(0)
    return _made


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
    inputs: Iterable[str] = (),
    params: Optional[Mapping[str, Any]] = None,
    pipeline: Optional[str] = None,
    stage: Optional[str] = None,
) -> Run:
    """A run, for `with`: training, evaluation, batch inference, a period of service."""
    return Run(
        client(), kind, name=name, inputs=inputs, params=params, pipeline=pipeline, stage=stage
    )


def track(function: Any = None, *, kind: str = "training", name: Optional[str] = None) -> Any:
    """Make each call of a function a run: `@asof.track` or `@asof.track(kind="evaluation")`."""
    return _runs.track(client, function, kind=kind, name=name)


def record_dataset(what: Union[str, os.PathLike[str]], *, name: str, **more: Any) -> Reference:
    """Record the version of a dataset, a file or a folder, by its content. Options: version,
    parents, metadata."""
    return _runs.record_file(client(), "dataset", what, name=name, **more)


def record_model(what: Any, *, name: str, **more: Any) -> Reference:
    """Record the version of a model: a file or folder by its content, an object by its class and
    parameters."""
    made = _runs.current_run()
    if made is not None:
        return made.record_model(what, name=name, **more)
    return _runs.record_object(client(), "model", what, name=name, **more)


def record_config(
    what: Union[str, os.PathLike[str], Mapping[str, Any]], *, name: str, **more: Any
) -> Reference:
    """Record the version of a configuration: a file, or values."""
    return _runs.record_config(client(), what, name=name, **more)


def record_metrics(metrics: Mapping[str, Any]) -> None:
    """Keep measured values with the run that is under way; without one they are a note."""
    made = _runs.current_run()
    if made is not None:
        made.record_metrics(metrics)
        return
    from asof.events import plain

    told = ", ".join(f"{name} = {value}" for name, value in plain(dict(metrics)).items())
    record("note.added/1", {"text": f"metrics: {told}"}, stream="note/metrics")


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


def state(pipeline: Optional[str] = None, stage: Optional[str] = None, **more: Any) -> State:
    """What was bound, running and served, now or `at=` any instant."""
    return client().state(pipeline, stage, **more)


def log(query: str = "", **more: Any) -> Entries:
    """Entries that pass a query such as `type:binding.* after:7d`."""
    return client().log(query, **more)


def verify(
    what: Union[Receipt, Recorded, str, Path, None] = None, *, vkey: Optional[str] = None
) -> Verified:
    """Check receipts offline: one, a file of them, or all that were kept here."""
    return client().verify(what, vkey=vkey)

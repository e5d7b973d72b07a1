"""Runs and what they use and make: `with asof.run(…)`, `@asof.track`, datasets, models, configs.

Digests are taken in the calling thread, because a file may change a moment later: about a second
for a gigabyte, remembered while size, times and place stay the same. All else is one write to the
spool.
"""

from __future__ import annotations

import contextvars
import functools
import hashlib
import inspect
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

from asof.events import plain, reference
from asof.html import table

if TYPE_CHECKING:
    from asof.client import Client

__all__ = [
    "Reference",
    "Run",
    "current_run",
    "record_config",
    "record_file",
    "record_object",
    "track",
]

Function = TypeVar("Function", bound=Callable[..., Any])
PathLike = Union[str, "os.PathLike[str]"]
PIECE = 1 << 20

_current: contextvars.ContextVar[Optional[Run]] = contextvars.ContextVar("asof_run", default=None)


class Reference(str):
    """A recorded version, `<kind>/<name>@<version>`: a text that can be an input or an output."""

    digest: str

    def __new__(cls, text: str, digest: str) -> Reference:
        made = super().__new__(cls, text)
        made.digest = digest
        return made

    def _repr_html_(self) -> str:
        return table("Version", {"reference": str(self), "digest": self.digest})


class Run:
    """One execution. A context manager: how it ends is recorded, also when it raises."""

    def __init__(
        self,
        client: Client,
        kind: str,
        *,
        name: Optional[str] = None,
        inputs: Iterable[str] = (),
        params: Optional[Mapping[str, Any]] = None,
        pipeline: Optional[str] = None,
        stage: Optional[str] = None,
    ) -> None:
        self.client = client
        self.kind = kind
        self.id = name or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        self.pipeline = pipeline or client.pipeline or "unnamed"
        self.stage = stage or client.stage
        self.inputs = [str(one) for one in inputs]
        self.params = dict(params or {})
        self.outputs: list[str] = []
        self.metrics: dict[str, Any] = {}
        self.status = "not started"
        self._begun = 0.0
        self._token: Optional[contextvars.Token[Optional[Run]]] = None

    def start(self) -> Run:
        """Record that it began. Called by `with`."""
        self._begun = time.monotonic()
        self.status = "running"
        data: dict[str, Any] = {
            "run": self.id,
            "kind": self.kind,
            "pipeline": self.pipeline,
            "stage": self.stage,
        }
        if self.inputs:
            data["inputs"] = self.inputs
        if self.params:
            data["params"] = plain(self.params)
        self.client.record("run.started/1", data, stream=f"run/{self.id}")
        return self

    def finish(self, status: str = "succeeded", *, reason: Optional[str] = None) -> None:
        """Record how it ended, with what it made and measured. Called by `with`.

        A ledger's metrics are finite numbers; others are named in the reason ("loss was nan").
        """
        self.status = status
        measured = plain(self.metrics)
        numbers = {name: value for name, value in measured.items() if _is_number(value)}
        odd = [f"{name} was {value}" for name, value in measured.items() if name not in numbers]
        numbers["seconds"] = round(time.monotonic() - self._begun, 3)
        data: dict[str, Any] = {"run": self.id, "status": status, "metrics": numbers}
        if told := "; ".join([*([reason] if reason else []), *odd]):
            data["reason"] = told[:2_000]
        if self.outputs:
            data["outputs"] = self.outputs
        self.client.record("run.finished/1", data, stream=f"run/{self.id}")

    def record_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Keep measured values; the last of each name goes into the run's end."""
        self.metrics.update({str(name): value for name, value in metrics.items()})

    def record_model(self, what: Any, *, name: str, **more: Any) -> Reference:
        """Record a model that this run made: a file, or an object by its class and parameters."""
        found = record_object(self.client, "model", what, name=name, parents=self.inputs, **more)
        self.outputs.append(str(found))
        return found

    def record_dataset(self, what: PathLike, *, name: str, **more: Any) -> Reference:
        """Record a dataset that this run made."""
        found = record_file(self.client, "dataset", what, name=name, parents=self.inputs, **more)
        self.outputs.append(str(found))
        return found

    def __enter__(self) -> Run:
        self.start()
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        if kind is None:
            self.finish()
            return
        status = "cancelled" if kind in (KeyboardInterrupt, SystemExit) else "failed"
        self.finish(status, reason=f"raised {kind.__name__}")  # never its text: it may hold data

    def _repr_html_(self) -> str:
        return table(
            f"Run {self.id}",
            {
                "kind": self.kind,
                "status": self.status,
                "inputs": ", ".join(self.inputs),
                "outputs": ", ".join(self.outputs),
                "metrics": json.dumps(plain(self.metrics)),
            },
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def current_run() -> Optional[Run]:
    """The run of the innermost `with` of this thread or task."""
    return _current.get()


def track(
    client: Callable[[], Client],
    function: Optional[Function] = None,
    *,
    kind: str = "training",
    name: Optional[str] = None,
) -> Any:
    """Each call of the function is a run, with its arguments as parameters."""

    def decorate(wrapped: Function) -> Function:
        signature = inspect.signature(wrapped)

        def begin(args: Any, kwargs: Any) -> Run:
            try:
                given = dict(signature.bind_partial(*args, **kwargs).arguments)
            except TypeError:
                given = {}
            made = Run(client(), kind, params={"function": wrapped.__qualname__, **given})
            if name is not None:
                made.id = f"{name}-{made.id}"
            return made

        if inspect.iscoroutinefunction(wrapped):

            @functools.wraps(wrapped)
            async def later(*args: Any, **kwargs: Any) -> Any:
                with begin(args, kwargs):
                    return await wrapped(*args, **kwargs)

            return later  # type: ignore[return-value]

        @functools.wraps(wrapped)
        def call(*args: Any, **kwargs: Any) -> Any:
            with begin(args, kwargs):
                return wrapped(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate if function is None else decorate(function)


# ----------------------------------------------------------------------------------------- versions


def record_file(
    client: Client,
    kind: str,
    what: PathLike,
    *,
    name: str,
    version: Optional[str] = None,
    parents: Iterable[str] = (),
    metadata: Optional[Mapping[str, Any]] = None,
) -> Reference:
    """Record the version of a file or folder, by its content."""
    path = Path(what)
    try:
        digest, size = _digest_of(path)
    except OSError as error:
        client.trouble(error)
        return Reference(reference(kind, name, version or "unknown"), "")
    return _recorded(
        client,
        kind,
        name,
        digest,
        version=version,
        parents=parents,
        metadata=metadata,
        location=path.resolve().as_uri(),
        size=size,
    )


def record_object(
    client: Client,
    kind: str,
    what: Any,
    *,
    name: str,
    version: Optional[str] = None,
    parents: Iterable[str] = (),
    metadata: Optional[Mapping[str, Any]] = None,
) -> Reference:
    """Record a file, or an object by its class and parameters (`get_params`, `get_config`): those
    are what is digested then, and the version says no more than that."""
    if isinstance(what, (str, os.PathLike)):
        return record_file(
            client, kind, what, name=name, version=version, parents=parents, metadata=metadata
        )
    told = {
        "class": f"{type(what).__module__}.{type(what).__qualname__}",
        "parameters": described(what),
    }
    content = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    return _recorded(
        client,
        kind,
        name,
        f"sha256:{hashlib.sha256(content).hexdigest()}",
        version=version,
        parents=parents,
        metadata={**told, "digest_of": "class and parameters", **(metadata or {})},
    )


def record_config(
    client: Client, what: Union[PathLike, Mapping[str, Any]], *, name: str, **more: Any
) -> Reference:
    """Record a configuration: a file, or values, which are kept with the version."""
    if not isinstance(what, Mapping):
        return record_file(client, "config", what, name=name, **more)
    values = plain(what)
    content = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    metadata = {**more.pop("metadata", {}), "values": values}
    return _recorded(client, "config", name, digest, metadata=metadata, **more)


def described(what: Any) -> Any:
    """The parameters of an object, where it tells them."""
    for method in ("get_params", "get_config"):
        ask = getattr(what, method, None)
        if callable(ask):
            try:
                return plain(ask())
            except Exception:
                return None
    return None


def _recorded(
    client: Client,
    kind: str,
    name: str,
    digest: str,
    *,
    version: Optional[str] = None,
    parents: Iterable[str] = (),
    metadata: Optional[Mapping[str, Any]] = None,
    **more: Any,
) -> Reference:
    told = version or digest.partition(":")[2]
    data: dict[str, Any] = {"kind": kind, "name": name, "version": told, "digest": digest, **more}
    data["restorable"] = "verify_only"
    if parents := [str(one) for one in parents]:
        data["parents"] = parents
    if metadata:
        data["metadata"] = plain(metadata)
    client.record("asset.version.recorded/1", data)
    found = Reference(reference(kind, name, told), digest)
    run = current_run()
    if run is not None and str(found) not in run.inputs and kind in ("dataset", "config"):
        run.inputs.append(str(found))
    return found


_remembered: dict[tuple[str, int, int, int], tuple[str, int]] = {}


def _digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 of a file's bytes, or of a folder's listing (ADR 0040), and the bytes read."""
    if path.is_dir():
        return _tree_digest(path)
    seen = path.stat()
    mark = (str(path.resolve()), seen.st_size, seen.st_mtime_ns, seen.st_ino)
    found = _remembered.get(mark)
    if found is None:
        found = _remembered[mark] = (f"sha256:{_file_digest(path)}", seen.st_size)
        if len(_remembered) > 10_000:
            _remembered.clear()
    return found


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _tree_digest(folder: Path) -> tuple[str, int]:
    entries, total = [], 0
    for path in sorted(
        folder.rglob("*"), key=lambda one: one.relative_to(folder).as_posix().encode()
    ):
        if path.is_symlink() or not path.is_file():
            continue
        size = path.stat().st_size
        total += size
        entries.append(
            {
                "mode": "100755" if os.access(path, os.X_OK) else "100644",
                "path": path.relative_to(folder).as_posix(),
                "sha256": _file_digest(path),
                "size": size,
            }
        )
    listing = {"entries": entries, "format": "asof.tree/1"}
    text = json.dumps(listing, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    content = text.encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}", total

"""Runs: `with asof.run(…)` and `@asof.track`, with what they use, make and measure.

A run's beginning and its end are one write to the spool each. Metrics are kept in memory until the
end: a process that is killed before has a run that began.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

from asof.events import plain
from asof.html import table
from asof.versions import Reference, record_version, references

if TYPE_CHECKING:
    from asof.client import Client

__all__ = ["Run", "current_run", "track", "used"]

Function = TypeVar("Function", bound=Callable[..., Any])

_current: contextvars.ContextVar[Optional[Run]] = contextvars.ContextVar("asof_run", default=None)


class Run:
    """One execution. A context manager: how it ends is recorded, also when it raises."""

    def __init__(
        self,
        client: Client,
        kind: str,
        *,
        name: Optional[str] = None,
        inputs: Union[str, Iterable[str]] = (),
        params: Optional[Mapping[str, Any]] = None,
        pipeline: Optional[str] = None,
        stage: Optional[str] = None,
    ) -> None:
        self.client = client
        self.kind = kind
        self.id = name or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        self.pipeline = pipeline or client.pipeline or "unnamed"
        self.stage = stage or client.stage
        self.inputs = references(inputs)
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
        return self._made("model", what, name, more)

    def record_dataset(self, what: Any, *, name: str, **more: Any) -> Reference:
        """Record a dataset that this run made: a file, a folder, a frame."""
        return self._made("dataset", what, name, more)

    def _made(self, kind: str, what: Any, name: str, more: dict[str, Any]) -> Reference:
        parents = more.pop("parents", self.inputs)
        found = record_version(self.client, kind, what, name=name, parents=parents, **more)
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
            with suppress(ValueError):  # ended in another context than it began in
                _current.reset(self._token)
        if kind is None or (isinstance(error, SystemExit) and not error.code):
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


def used(version: Reference) -> Reference:
    """What is recorded while a run is under way is one of its inputs: what it makes from then on
    has it as a parent."""
    run = current_run()
    if run is not None and version.digest and str(version) not in run.inputs:
        run.inputs.append(str(version))
    return version


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
        called = getattr(wrapped, "__qualname__", type(wrapped).__qualname__)
        try:
            signature: Optional[inspect.Signature] = inspect.signature(wrapped)
        except (TypeError, ValueError):  # some built-in functions tell none
            signature = None

        def begin(args: Any, kwargs: Any) -> Run:
            given: dict[str, Any] = {}
            if signature is not None:
                with suppress(TypeError):  # the call itself will say so
                    given = dict(signature.bind_partial(*args, **kwargs).arguments)
            made = Run(client(), kind, params={"function": called, **given})
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

"""`asof.autolog()`: fits become runs without a word in the training code.

* scikit-learn: every estimator's `fit` (XGBoost's and LightGBM's estimators are such too);
* XGBoost and LightGBM: `train`;
* PyTorch: `torch.save` to a path records the file as a model version, as PyTorch has no `fit`.

A library that is imported later is watched from then on. A fit inside a fit (a grid search, a
pipeline) belongs to the outer one. The wrapped function gets what it was given and returns what it
returned; whatever goes wrong in here is logged once and never reaches the training code.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, Optional

from asof.events import plain
from asof.imported import Finder
from asof.runs import Run, current_run
from asof.versions import described, record_version

if TYPE_CHECKING:
    from asof.client import Client

__all__ = ["autolog"]

log = logging.getLogger("asof")

_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("asof_inside_fit", default=False)
_fitting: dict[threading.Thread, set[int]] = {}
"""The threads in which a fit is under way, each with the threads that were there before it."""
_undo: list[Callable[[], None]] = []
_watched: set[str] = set()
_mutex = threading.Lock()
_MARK = "_asof_original"


def autolog(client: Callable[[], Client], *, disable: bool = False) -> list[str]:
    """Watch what is imported, and what will be; or put everything back. Returns what is watched."""
    with _mutex:
        if disable:
            while _undo:
                _undo.pop()()
            _watched.clear()
            return []
        if not any(isinstance(finder, Finder) for finder in sys.meta_path):
            finder = Finder({*_HOOKS, *_PACKAGES}, functools.partial(_loaded, client))
            sys.meta_path.insert(0, finder)
            _undo.append(lambda: sys.meta_path.remove(finder))
        for name in _HOOKS:
            module = sys.modules.get(name)
            if module is not None:
                _hook(name, module, client)
        return sorted(_watched)


def _hook(name: str, module: ModuleType, client: Callable[[], Client]) -> None:
    if name in _watched:
        return
    try:
        _HOOKS[name](module, client)
        _watched.add(name)
    except Exception:
        log.exception("asof: autolog cannot watch %s; it is left alone", name)


# -------------------------------------------------------------------------------- what is wrapped


def _hook_sklearn(module: ModuleType, client: Callable[[], Client]) -> None:
    base = module.BaseEstimator
    for cls in _subclasses(base):
        _wrap_fit(cls, client)
    original = base.__dict__.get("__init_subclass__")

    def later(cls: type, /, **kwargs: Any) -> None:
        bound = (
            original.__get__(None, cls)
            if original is not None
            else super(base, cls).__init_subclass__
        )
        bound(**kwargs)
        _wrap_fit(cls, client)

    base.__init_subclass__ = classmethod(later)

    def restore() -> None:
        if original is None:
            del base.__init_subclass__
        else:
            base.__init_subclass__ = original

    _undo.append(restore)


def _subclasses(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


def _wrap_fit(cls: type, client: Callable[[], Client]) -> None:
    fit = cls.__dict__.get("fit")
    if not callable(fit) or hasattr(fit, _MARK):
        return

    @functools.wraps(fit)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _as_run(client, lambda: _estimator(self, args, kwargs)):
            return fit(self, *args, **kwargs)

    setattr(watched, _MARK, fit)
    cls.fit = watched  # type: ignore[attr-defined]
    _undo.append(lambda: setattr(cls, "fit", fit))


def _estimator(estimator: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "class": f"{type(estimator).__module__}.{type(estimator).__qualname__}",
        "parameters": described(estimator),
    }
    given = args[0] if args else kwargs.get("X")
    shape = getattr(given, "shape", None)
    if shape is not None:
        told["data_shape"] = [int(size) for size in shape]
    return told


def _hook_train(module: ModuleType, client: Callable[[], Client]) -> None:
    """`train(params, data, …)` of XGBoost and LightGBM, in the module and in the package."""
    train = module.train
    library = module.__name__.partition(".")[0]

    @functools.wraps(train)
    def watched(*args: Any, **kwargs: Any) -> Any:
        with _as_run(client, lambda: _trained(library, args, kwargs)):
            return train(*args, **kwargs)

    setattr(watched, _MARK, train)
    for holder in (module, sys.modules.get(library)):
        if holder is not None and getattr(holder, "train", None) is train:
            holder.train = watched  # type: ignore[attr-defined]
            _undo.append(functools.partial(setattr, holder, "train", train))


def _trained(library: str, args: Any, kwargs: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"class": f"{library}.train"}
    given = args[0] if args else kwargs.get("params")
    told["parameters"] = plain(given)
    data = args[1] if len(args) > 1 else kwargs.get("dtrain", kwargs.get("train_set"))
    for rows, columns in (("num_row", "num_col"), ("num_data", "num_feature")):
        with suppress(Exception):  # LightGBM's data is not there before it is constructed
            told["data_shape"] = [int(getattr(data, rows)()), int(getattr(data, columns)())]
            break
    return told


def _hook_torch(module: ModuleType, client: Callable[[], Client]) -> None:
    save = module.save

    @functools.wraps(save)
    def watched(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        found = save(obj, f, *args, **kwargs)
        try:
            if isinstance(f, str) or hasattr(f, "__fspath__"):
                name = str(f).replace("\\", "/").rpartition("/")[2].partition(".")[0] or "model"
                made = record_version(
                    client(),
                    "model",
                    f,
                    name=name,
                    metadata={"class": f"{type(obj).__module__}.{type(obj).__qualname__}"},
                )
                run = current_run()
                if run is not None:
                    run.outputs.append(str(made))
        except Exception:
            log.exception("asof: a saved model was not recorded")
        return found

    setattr(watched, _MARK, save)
    for holder in (module, sys.modules.get("torch")):
        if holder is not None and getattr(holder, "save", None) is save:
            holder.save = watched  # type: ignore[attr-defined]
            _undo.append(functools.partial(setattr, holder, "save", save))


_HOOKS: dict[str, Callable[[ModuleType, Callable[[], Any]], None]] = {
    "sklearn.base": _hook_sklearn,
    "xgboost.training": _hook_train,
    "lightgbm.engine": _hook_train,
    "torch.serialization": _hook_torch,
}
_PACKAGES = {
    "xgboost": "xgboost.training",
    "lightgbm": "lightgbm.engine",
    "torch": "torch.serialization",
}


# ----------------------------------------------------------------------------------------- as a run


@contextmanager
def _as_run(client: Callable[[], Client], describe: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """The block as a run, unless it lies within one that is watched already."""
    if _is_inside():
        yield
        return
    token = _inside.set(True)
    here = threading.current_thread()
    _fitting[here] = {id(thread) for thread in threading.enumerate()}
    run: Optional[Run] = None
    try:
        try:
            run = Run(client(), "training", params=describe()).start()
        except Exception:
            log.exception("asof: a fit is not recorded")
        try:
            yield
        except BaseException as error:
            _finished(run, error)
            raise
        _finished(run, None)
    finally:
        _fitting.pop(here, None)
        _inside.reset(token)


def _is_inside() -> bool:
    """Whether this is part of a fit: in its thread, or in a pool of threads that the fit has made
    (joblib's `n_jobs`), which knows who made it."""
    if _inside.get():
        return True
    thread: Any = threading.current_thread()
    while (maker := getattr(thread, "_parent", None)) is not None:
        if maker in _fitting and id(thread) not in _fitting[maker]:
            return True
        thread = maker
    return False


def _finished(run: Optional[Run], error: Optional[BaseException]) -> None:
    if run is None:
        return
    try:
        if error is None:
            run.finish()
        else:
            run.finish("failed", reason=f"raised {type(error).__name__}")
    except Exception:
        log.exception("asof: the end of a fit is not recorded")


# ------------------------------------------------------------------------- imported afterwards


def _loaded(client: Callable[[], Client], name: str, module: ModuleType) -> None:
    with _mutex:
        if name in _PACKAGES:
            _hand_on(module, sys.modules.get(_PACKAGES[name]))
        else:
            _hook(name, module, client)


def _hand_on(package: ModuleType, module: Optional[ModuleType]) -> None:
    """A package that took the function before it was wrapped gets the wrapped one."""
    for name in ("train", "save"):
        wrapped = getattr(module, name, None)
        original = getattr(wrapped, _MARK, None)
        if original is not None and getattr(package, name, None) is original:
            setattr(package, name, wrapped)
            _undo.append(functools.partial(setattr, package, name, original))

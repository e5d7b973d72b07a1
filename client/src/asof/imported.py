"""To be told when a module has been imported: the real finders and loaders do all the work."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import logging
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Optional

__all__ = ["Finder"]

log = logging.getLogger("asof")

Loaded = Callable[[str, ModuleType], None]


class Finder(importlib.abc.MetaPathFinder):
    """Put first into `sys.meta_path`, it calls `loaded` after each of the named modules ran. What
    `loaded` raises is logged, and the import goes on."""

    def __init__(self, names: Iterable[str], loaded: Loaded) -> None:
        self._names = frozenset(names)
        self._loaded = loaded
        self._busy: set[str] = set()

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in self._names or name in self._busy:
            return None
        self._busy.add(name)
        try:
            spec = importlib.util.find_spec(name)
        except Exception:
            return None
        finally:
            self._busy.discard(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, name, self._loaded)
        return spec


class _Loader(importlib.abc.Loader):
    """The real loader, and then the call."""

    def __init__(self, inner: Any, name: str, loaded: Loaded) -> None:
        self._inner = inner
        self._name = name
        self._loaded = loaded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Optional[ModuleType]:
        found: Optional[ModuleType] = self._inner.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        try:
            self._loaded(self._name, module)
        except Exception:
            log.exception("asof: %s is imported and not watched", self._name)

"""Actions that run as soon as a module has been imported, which may never happen.

PySDK takes more than a second to import, so dgrec never imports it before a program does.
Every command imports this: its classes do not need ``importlib.abc``, which imports a lot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["when_imported"]

_awaited: dict[str, list[Callable[[ModuleType], None]]] = {}
#: While OpenCV is imported, it imports itself once more.
_executing: set[str] = set()


def when_imported(name: str, action: Callable[[ModuleType], None]) -> None:
    """Call ``action`` with a module: now, if it has been imported, or when it is."""
    if (module := sys.modules.get(name)) is not None:
        action(module)
        return
    _awaited.setdefault(name, []).append(action)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _awaited or name in _executing:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and hasattr(spec.loader, "exec_module"):
                loader: Any = _Loader(name, spec.loader)
                spec.loader = loader
                return spec
        return None


class _Loader:
    """The module's own loader, which also runs the actions."""

    def __init__(self, name: str, loader: Any) -> None:
        self._name, self._loader = name, loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        _executing.add(self._name)
        try:
            self._loader.exec_module(module)
        finally:
            _executing.discard(self._name)
        module.__spec__.loader = module.__loader__ = self._loader
        # Not before: a program may look for a module without importing it.
        for action in _awaited.pop(self._name, []):
            action(module)


_finder = _Finder()

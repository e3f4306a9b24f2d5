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
        if name not in _awaited:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and hasattr(spec.loader, "exec_module"):
                loader: Any = _Loader(spec.loader, _awaited.pop(name))
                spec.loader = loader
                return spec
        return None


class _Loader:
    def __init__(self, loader: Any, actions: list[Callable[[ModuleType], None]]) -> None:
        self._loader, self._actions = loader, actions

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        module.__spec__.loader = module.__loader__ = self._loader
        for action in self._actions:
            action(module)


_finder = _Finder()

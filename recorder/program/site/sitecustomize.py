"""Recording of an unchanged program: Python runs this first where `dgrec run` starts a program.

It stands before the program's own imports, so it does nothing but wait for PySDK to be imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH120 - pathlib takes 10 ms
#: With them come the classes whose results are recorded.
_AWAITED = ("degirum.model", "degirum_tools.compound_models.compound_models")


class _Finder(importlib.abc.MetaPathFinder):
    """Has the classes of a module recorded as soon as they are made."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _AWAITED:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and hasattr(spec.loader, "exec_module"):
                spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        module.__spec__.loader = module.__loader__ = self._loader
        try:
            from dgrec.recorder.program import unchanged
        except ImportError as error:
            sys.stderr.write(f"dgrec run: nothing is recorded: {error}\n")
        else:
            unchanged.record_models_of(module)


def _run_own() -> None:
    """Run the `sitecustomize` that Python would have found without this one."""
    others = [path for path in sys.path if os.path.abspath(path) != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("DGREC_RECORD"):
    sys.meta_path.insert(0, _Finder())
_run_own()

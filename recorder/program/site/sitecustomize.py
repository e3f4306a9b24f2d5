"""Recording and replay of an unchanged program: Python runs this first under `dgrec run`.

It runs before the program's own imports, so it only waits for the first of them that matters.
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
#: The modules that have models and cameras.
_AWAITED = ("degirum", "degirum_tools", "cv2")


class _Finder(importlib.abc.MetaPathFinder):
    """Prepares dgrec before the program imports PySDK, degirum_tools or OpenCV."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in _AWAITED:
            sys.meta_path.remove(self)
            _prepare()


def _prepare() -> None:
    if os.environ.get("DGREC_REPLAY"):
        try:
            from dgrec.stand_in import replay_recordings
        except ImportError as error:
            raise SystemExit(f"dgrec run: nothing can be replayed: {error}") from None
        replay_recordings()
    if os.environ.get("DGREC_RECORD"):
        try:
            from dgrec.recorder.program import unchanged_program
        except ImportError as error:
            sys.stderr.write(f"dgrec run: nothing is recorded: {error}\n")
        else:
            unchanged_program.record_models()


def _run_own() -> None:
    """Run the `sitecustomize` that Python would have found without this one."""
    others = [path for path in sys.path if os.path.abspath(path) != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("DGREC_RECORD") or os.environ.get("DGREC_REPLAY"):
    sys.meta_path.insert(0, _Finder())
_run_own()

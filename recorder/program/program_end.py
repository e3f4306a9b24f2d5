"""Calls at the end of a program, and of the processes that it starts."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from multiprocessing import parent_process, util

_closing: list[Callable[[], None]] = []


def at_end(close: Callable[[], None]) -> None:
    """Have ``close`` called at the end of this process, and of those that multiprocessing forks.

    Those leave by `os._exit`, which skips everything registered with `atexit`.
    """
    atexit.register(close)
    _closing.append(close)
    if parent_process() is not None:
        _at_end_of_child(close)


def _at_end_of_child(close: Callable[[], None]) -> None:
    util.Finalize(None, close, exitpriority=-100)  # after the program's own


def _after_fork(_: object) -> None:
    for close in _closing:
        _at_end_of_child(close)


util.register_after_fork(_after_fork, _after_fork)

"""Forks of a process that has run other tests."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["forking"]


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Keep a fork from collecting garbage of this process.

    A connection of DuckDB in it, or a model of PySDK, would wait in the fork for its threads, which
    are not there.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

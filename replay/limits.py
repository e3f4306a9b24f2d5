"""Limits on memory, time and rows of statements, the first also by the operating system."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

#: DuckDB's memory for a statement, in its own notation, and the longest time that one may take.
MEMORY = "2GB"
TIMEOUT_S = 300.0
#: Rows of a table unless --limit says otherwise.
TABLE_ROWS = 1000

#: Memory of this program besides DuckDB's: results on their way out, buffers.
_BESIDE = 10**9
#: DuckDB and Arrow start threads for each processor, whose stacks count in full.
_PER_PROCESSOR = 32 << 20
#: The limit is for the whole process: threads that run statements take turns.
_TURN = threading.Lock()


def most_rows(form: str, limit: int | None) -> int | None:
    """Return how many rows to write at most in a format; None: all.

    Args:
        limit: ``--limit``; 0: all, None: what is usual for the format.
    """
    if limit is None and form == "table":
        return TABLE_ROWS
    return limit or None


@contextlib.contextmanager
def bounded_memory(size: int, beside: int = _BESIDE) -> Iterator[None]:
    """Limit the process to its present memory, ``size`` bytes more, and what it needs itself.

    DuckDB's own limit leaves out memory of functions that build a text or a list: one ``repeat``
    may take gigabytes. Only Linux has such a limit.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except (ImportError, OSError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    stacks = (os.cpu_count() or 1) * _PER_PROCESSOR
    wanted = pages * os.sysconf("SC_PAGE_SIZE") + size + beside + stacks
    soft = wanted if before[0] == resource.RLIM_INFINITY else min(wanted, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextlib.contextmanager
def only_bounded(size: int) -> Iterator[None]:
    """Limit the process as `bounded_memory` does, one thread at a time."""
    with _TURN, bounded_memory(size):
        yield

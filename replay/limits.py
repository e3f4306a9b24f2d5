"""Limits that the operating system holds this process to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MEMORY", "TIMEOUT_S", "bounded_memory"]

#: What DuckDB may hold for a statement, as it writes sizes, and how long one may take.
MEMORY = "2GB"
TIMEOUT_S = 300.0

#: What this program itself may take beside DuckDB: results on their way out, buffers.
_BESIDE = 10**9
#: For each processor, DuckDB and Arrow start threads, whose stacks count in full.
_PER_PROCESSOR = 32 << 20


@contextlib.contextmanager
def bounded_memory(size: int) -> Iterator[None]:
    """Let the process take ``size`` bytes, and what it needs itself, beyond what it has now.

    DuckDB's own limit leaves out the memory in which functions build a text or a list: one
    ``repeat`` may ask for gigabytes. Where there is no such limit (other than Linux), nothing
    happens.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except (ImportError, OSError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    beside = _BESIDE + (os.cpu_count() or 1) * _PER_PROCESSOR
    wanted = pages * os.sysconf("SC_PAGE_SIZE") + size + beside
    hard = before[1]
    soft = wanted if before[0] == resource.RLIM_INFINITY else min(wanted, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)

"""Waiting of tests: for a condition, as long as a busy machine may need."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

__all__ = ["PATIENCE_S", "wait_until"]

#: What never comes fails its test after this, instead of hanging the run. Nothing that works takes
#: as long, not even beside eight other busy processes.
PATIENCE_S = 300


def wait_until(
    is_so: Callable[[], bool],
    *,
    process: subprocess.Popen[str] | None = None,
    pause_s: float = 0.01,
) -> None:
    """Wait until ``is_so()``; fail where ``process`` ends before, or where it never happens."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the condition never held"
        time.sleep(pause_s)

"""Locks of ``flock``: whether a live process is writing a file."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

#: Without O_NONBLOCK, opening a FIFO would wait for a writer.
OPEN_TO_LOCK = os.O_RDONLY | os.O_NONBLOCK
_ATTEMPTS, _PAUSE_S = 20, 0.005
#: How often to wait for a lock that `is_locked` has taken: its process may have to wait itself.
_ATTEMPTS_BESIDE_LOOKS = 2000


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed or this process dies; False if another process has it.

    On a file system without locks nothing is locked, and the answer is True.
    """
    left = _ATTEMPTS
    for _ in range(_ATTEMPTS_BESIDE_LOOKS):
        if _try_lock(descriptor) is not False:
            return True
        if not _is_looked_at(descriptor):
            left -= 1
            if not left:
                return False
        time.sleep(_PAUSE_S)
    return False


def _is_looked_at(descriptor: int) -> bool:
    """Return whether a file that could not be locked is only locked by `is_locked`."""
    is_shared = _share(descriptor)
    if is_shared:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return is_shared


def is_locked(path: Path) -> bool:
    """Return whether a live process has locked the file ``path``."""
    try:
        descriptor = os.open(path, OPEN_TO_LOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def lock_to_remove(descriptor: int) -> bool:
    """Lock an open file for removal, unless another process has it; return whether that worked.

    No process is writing it: for `is_locked` it is not locked.
    """
    if _try_lock(descriptor) is not True:
        return False
    # In two steps: a process that locks it in between keeps it.
    return _share(descriptor)


def _share(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _try_lock(descriptor: int) -> bool | None:
    """Lock an open file; return False if another process has it, None where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True

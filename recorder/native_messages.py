"""Leaves out a line that a native library writes to the descriptor of standard error."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

#: The line that TensorFlow Lite writes once, at the first inference; no setting silences it.
TENSORFLOW_LITE = b"INFO: Created TensorFlow Lite"


@contextlib.contextmanager
def left_out(start: bytes) -> Iterator[None]:
    """Leave out the first line that begins with ``start``; pass on all others.

    From that line on, or the end of the block, the descriptor is what it was before. Processes
    that are started in between keep writing to this one, which passes their lines on.
    """
    stderr = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    lock = threading.Lock()
    is_restored = False

    def restore() -> None:
        nonlocal is_restored
        with lock:
            if not is_restored:
                os.dup2(stderr, 2)
            is_restored = True

    def pass_on() -> None:
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                if line.startswith(start):
                    restore()
                else:
                    with contextlib.suppress(OSError):
                        os.write(stderr, line)
        restore()
        os.close(stderr)

    thread = threading.Thread(target=pass_on, name="dgrec-native-messages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        restore()

"""A result that its program may still add to, on its way into a session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from dgrec.recorder.sources import Frame

#: Rows reach the disk within a second, half of which the writer may take.
_LONGEST_S = 0.3
_LOOK_S = 0.1


class Held(NamedTuple):
    frame: Frame
    result: Any
    completed_ns: int


class HeldResult:
    """Keeps one result until the next one comes, and asks for it to be taken before it is old.

    Args:
        release: Called in another thread when the result has been held for a while: a program
            that works on one result for minutes must not lose it when it is killed. If it puts
            the result back, it is called again and again.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._held: Held | None = None
        self._since = 0.0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def set(self, frame: Frame, result: Any, completed_ns: int) -> None:
        self._since = time.monotonic()
        self._held = Held(frame, result, completed_ns)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="dgrec-held", daemon=True)
            self._thread.start()

    def take(self) -> Held | None:
        held, self._held = self._held, None
        return held

    def put_back(self, held: Held) -> None:
        """Hold a result again that could not be recorded."""
        self._held = held

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_S):
            if self._held is not None and time.monotonic() - self._since > _LONGEST_S:
                self._release()

"""When the slowest target had taken each frame, while a recording goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from dgrec.format import Delivery

__all__ = ["PublishedFrames"]

#: Frames that some targets have taken, and others not yet. No target has as many on their way:
#: with one that is away, older frames are never complete.
_MOST_OPEN: Final = 8192


class _Open(NamedTuple):
    targets: int
    published_ms: float | None


class PublishedFrames:
    """Puts together what each of some targets has taken.

    ``on_published`` is called with each frame's ``published_ms``, in any thread.
    """

    def __init__(self, targets: int) -> None:
        self.on_published: Callable[[float], None] = lambda _: None
        self._targets = targets
        self._open: dict[int, _Open] = {}
        self._lock = threading.Lock()

    def add(self, delivery: Delivery) -> None:
        published_ms = delivery.published_ms
        if self._targets > 1:
            with self._lock:
                found = self._together(delivery)
            if found is None:
                return
            published_ms = found.published_ms
        if published_ms is not None:
            self.on_published(published_ms)

    def _together(self, delivery: Delivery) -> _Open | None:
        """Return what all targets say of a frame, once they have."""
        before = self._open.pop(delivery.source_frame, None)
        published_ms = delivery.published_ms
        found = _Open(1, published_ms)
        if before is not None:
            both = published_ms is not None and before.published_ms is not None
            slowest = max(published_ms or 0.0, before.published_ms or 0.0) if both else None
            found = _Open(before.targets + 1, slowest)
        if found.targets == self._targets:
            return found
        self._open[delivery.source_frame] = found
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        return None

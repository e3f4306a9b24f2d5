"""The pages that are open: they say so every half minute, and when they are closed."""

from __future__ import annotations

import threading
import time
from typing import Final

#: Browsers let pages in the background do something once a minute.
_OPEN_S: Final = 150.0
#: A page that is loaded again is closed for a moment.
_RELOADED_S: Final = 3.0
_MOST: Final = 1000
_POLL_S: Final = 0.25


class Pages:
    """Knows which pages are open, by the names that they give themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_s: dict[str, float] = {}

    def seen(self, page: str, *, is_closed: bool) -> None:
        now = time.monotonic()
        with self._lock:
            self._until_s[page] = now + (_RELOADED_S if is_closed else _OPEN_S)
            while len(self._until_s) > _MOST:
                del self._until_s[next(iter(self._until_s))]

    @property
    def are_open(self) -> bool:
        with self._lock:
            return any(until_s > time.monotonic() for until_s in self._until_s.values())

    def wait_until_closed(self) -> None:
        while self.are_open:
            time.sleep(_POLL_S)

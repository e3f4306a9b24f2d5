"""Events for pictures of a source that could not be decoded."""

from __future__ import annotations

from dgrec.format import Event, utc_text

#: Losses less than `_APART_NS` apart belong to one event, which lasts `_LONGEST_NS` at most.
_APART_NS = 10_000_000_000
_LONGEST_NS = 60_000_000_000


class DamageLog:
    """Joins losses into events: a bad connection may lose every fifth picture."""

    def __init__(self) -> None:
        self._event: Event | None = None
        self._first_ns = self._last_ns = 0

    def add(self, lost: int, source_frame: int, at_ns: int, media_time_s: float | None) -> None:
        """Add ``lost`` pictures before a frame, which the other arguments describe."""
        if self._event is None:
            self._first_ns = at_ns
            self._event = {
                "kind": "damage",
                "from": utc_text(at_ns),
                "source_frame": source_frame,
                "media_time_s": media_time_s,
                "lost": 0,
            }
        self._event["lost"] += lost
        self._event["to"] = utc_text(at_ns)
        self._last_ns = at_ns

    def take(self, now_ns: int | None = None) -> list[Event]:
        """Return the event if it is over at ``now_ns``; without that, any event."""
        if self._event is None:
            return []
        if now_ns is not None and (
            now_ns - self._last_ns < _APART_NS and now_ns - self._first_ns < _LONGEST_NS
        ):
            return []
        event, self._event = self._event, None
        return [event]

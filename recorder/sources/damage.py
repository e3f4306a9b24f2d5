"""Pictures of a source that could not be decoded, as events."""

from __future__ import annotations

from dgrec.format import Event, utc_text

__all__ = ["DamageLog"]

#: Losses that are no further apart are one event, which covers no more than the second of these.
_APART_NS = 10_000_000_000
_LONGEST_NS = 60_000_000_000


class DamageLog:
    """Makes one event of losses that follow each other: a bad line may lose every fifth picture."""

    def __init__(self) -> None:
        self._event: Event | None = None
        self._first_ns = self._last_ns = 0

    def add(self, lost: int, source_frame: int, at_ns: int, media_time_s: float | None) -> None:
        """Note that ``lost`` pictures are missing before the frame that was captured at ``at_ns``.

        ``source_frame`` and ``media_time_s`` are those of that frame.
        """
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
        """Return the event that is over by ``now_ns``; whatever there is without it."""
        if self._event is None:
            return []
        if now_ns is not None and (
            now_ns - self._last_ns < _APART_NS and now_ns - self._first_ns < _LONGEST_NS
        ):
            return []
        event, self._event = self._event, None
        return [event]

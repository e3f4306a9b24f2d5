"""Rows at which a recorder began again: in continued and merged sessions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dgrec.format import RESTARTED, stamp_us


class Restart(NamedTuple):
    """The beginning of another run.

    Args:
        source_frame: Its first frame.
        ended_us: The end of the run before, in microseconds since 1970; None if its frames have no
            stamps, as some imported ones.
        began_us: Its own beginning, likewise.
    """

    source_frame: int
    ended_us: int | None
    began_us: int | None

    def began_by(self, source_frame: int | None, at_us: int | None) -> bool:
        """Return whether the run had begun when a frame came.

        Args:
            source_frame: The frame's number in the source; another tool may have left it out.
            at_us: The frame's stamp, which says it then.
        """
        if source_frame is None:
            return at_us is not None and self.began_us is not None and self.began_us <= at_us
        return self.source_frame <= source_frame


def begins_run(event: Mapping[str, Any]) -> bool:
    """Return whether an event begins another run. Older ones say so by their reason alone."""
    return event.get("kind") == "gap" and ("ended" in event or event.get("reason") == RESTARTED)


def run_ended_us(event: Mapping[str, Any]) -> int | None:
    """Return when the run before ended; None if no run ended, or nobody knows when."""
    if not begins_run(event):
        return None
    ended_us = stamp_us(event.get("ended"))
    if ended_us is None and event.get("reason") == RESTARTED:  # all that older events have
        return stamp_us(event.get("from"))
    return ended_us


def restarts(events: Iterable[Mapping[str, Any]]) -> list[Restart]:
    """Return where a recording was continued, from the events of its metadata."""
    found = []
    for event in events:
        number = event.get("source_frame")
        if begins_run(event) and isinstance(number, int):
            found.append(Restart(number, run_ended_us(event), stamp_us(event.get("to"))))
    return sorted(found, key=lambda restart: restart.source_frame)


class Runs:
    """Tells in which run of a recording a frame is. Trackers begin anew in each.

    Args:
        events: Of the metadata.
    """

    def __init__(self, events: Iterable[Mapping[str, Any]]) -> None:
        self._starts = [restart.source_frame for restart in restarts(events)]

    @property
    def are_several(self) -> bool:
        return bool(self._starts)

    def number(self, source_frame: int | None) -> int:
        """Return the run's number, from 0, as in the SQL view ``tracks``."""
        return 0 if source_frame is None else bisect_right(self._starts, source_frame)

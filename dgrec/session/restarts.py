"""Where a recording was continued: the next run of the recorder knows nothing of the one before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dgrec.format import RESTARTED, stamp_us

__all__ = ["Restart", "restarts"]


class Restart(NamedTuple):
    """The beginning of another run.

    Args:
        source_frame: Its first frame.
        from_us: The end of the run before, in microseconds since 1970.
        to_us: Its own beginning.
    """

    source_frame: int
    from_us: int
    to_us: int


def restarts(events: Iterable[Mapping[str, Any]]) -> list[Restart]:
    """Return where a recording was continued, from the events of its metadata."""
    found = []
    for event in events:
        if event.get("kind") == "gap" and event.get("reason") == RESTARTED:
            number = event.get("source_frame")
            from_us, to_us = (stamp_us(event.get(key)) for key in ("from", "to"))
            if isinstance(number, int) and from_us is not None and to_us is not None:
                found.append(Restart(number, from_us, to_us))
    return sorted(found)

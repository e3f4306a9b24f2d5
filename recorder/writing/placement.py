"""The rows with which events and deliveries are written."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from dgrec.format import Delivery, Event, Row, deliveries_as_note, stamp_us
from dgrec.recorder.segments import Segment


def event_us(event: Event) -> int | None:
    """Return when an event was or began, in microseconds since 1970; None if it does not say."""
    return stamp_us(event.get("at") or event.get("from"))


def events_of(events: Sequence[Event], groups: Sequence[Sequence[Row]]) -> list[list[Event]]:
    """Return the events of each group of rows: those since its first result, or before the next."""
    found: list[list[Event]] = [[] for _ in groups]
    begins_us = [rows[0].completed_ns // 1000 for rows in groups[1:]]
    for event in events if groups else ():
        at_us = event_us(event)
        found[0 if at_us is None else bisect.bisect_right(begins_us, at_us)].append(event)
    return found


def with_events(note: dict[str, Any], events: Sequence[Event]) -> dict[str, Any]:
    return {**note, "events": list(events)} if events else note


def split_before(
    deliveries: Sequence[Delivery], following: Sequence[tuple[Segment, list[Row]]]
) -> tuple[list[Delivery], list[Delivery]]:
    """Return the deliveries of frames before the group that follows, and the rest."""
    return split_at(deliveries, following[0][1][0].source_frame if following else None)


def split_at(
    deliveries: Sequence[Delivery], source_frame: int | None
) -> tuple[list[Delivery], list[Delivery]]:
    if source_frame is None:
        return list(deliveries), []
    before = [each for each in deliveries if each.source_frame < source_frame]
    return before, [each for each in deliveries if each.source_frame >= source_frame]


def split_early(
    deliveries: Sequence[Delivery], last_frame: int
) -> tuple[list[Delivery], list[Delivery]]:
    """Return the deliveries of rows until ``last_frame``, and those of later rows.

    The end of a recording is not a row, and may come after frames of which none was kept.
    """
    early = [each for each in deliveries if each.source_frame > last_frame and not each.is_end]
    if not early:
        return list(deliveries), []
    return [each for each in deliveries if each.source_frame <= last_frame or each.is_end], early


def done_with(deliveries: Sequence[Delivery], first_frame: int) -> list[int]:
    """Return the targets that are done with rows since ``first_frame``, each once for each row."""
    rows = (each for each in deliveries if not each.is_end and each.source_frame >= first_frame)
    return [each.target for each in rows]


def with_deliveries(note: dict[str, Any], deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {**note, "deliveries": deliveries_as_note(deliveries)} if deliveries else note

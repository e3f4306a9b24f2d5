"""The rows of a clip, and their frames in its video."""

from __future__ import annotations

import bisect
import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.footage import LONGEST_USUAL_STEP_US, Timeline, chosen_batches
from dgrec.format import cuts_of, signals_of, utc_ns, utc_text, with_signals
from dgrec.replay.clip.spans import Span
from dgrec.session import Session


class _After(NamedTuple):
    """Values of the rows that follow the spans."""

    #: Their positions and times, a batch at a time.
    completed_at: list[tuple[np.ndarray[Any, Any], pa.Array]]
    #: Signals of rows that have any, from before their own results, by position.
    logged: dict[int, pa.StructArray]


def cut_positions(session: Session) -> list[int]:
    """Return the positions of the rows at which a session jumps, as a clip or by removed parts."""
    jumps = cuts_of(session.metadata)
    if session.parts:  # the frames of a clip count from 0
        starts = itertools.accumulate((part.rows for part in session.parts), initial=0)
        places = dict(zip((part.first_frame for part in session.parts), starts, strict=False))
        jumps = [places[jump] for jump in jumps if jump in places]
    return [jump for jump in jumps if 0 < jump < len(session)]


def _split(session: Session, spans: Sequence[Span]) -> list[Span]:
    """Return the spans, cut where parts of the recording were removed."""
    cuts = cut_positions(session) if session.parts else []
    found = []
    for span in spans:
        limits = [span.start, *(cut for cut in cuts if span.start < cut < span.end), span.end]
        found += list(itertools.starmap(Span, itertools.pairwise(limits)))
    return found


class ClipRows:
    """The rows of a clip, and their frames in its video."""

    def __init__(self, session: Session, spans: Sequence[Span]) -> None:
        self.session = session
        spans = _split(session, spans)
        #: Positions of the rows in the session.
        self._positions = np.concatenate([np.arange(span.start, span.end) for span in spans])
        self.count = len(self._positions)
        columns = ["frame", "source_frame", "media_time_s", "captured_at", "completed_at"]
        columns += ["video_frame", "width", "height", "pixel_digest"]
        #: The rows, with the columns that cutting a video needs.
        self.facts = pa.Table.from_batches(
            part for _, part in chosen_batches(session, self._positions, columns)
        )
        self.from_frames = self.facts["frame"].to_pylist()
        #: Place of the first row of each span in the clip.
        self.starts = np.cumsum([0, *(span.end - span.start for span in spans)])[:-1].tolist()
        self._spans = spans
        #: The positions at which a span ends and the next one begins.
        self._touching = {span.end for span in spans} & {span.start for span in spans}
        self._ends = ends = [*self.starts[1:], self.count]
        #: The spans as the metadata describes them.
        self.ranges = [
            {"first_frame": start, "frames": end - start, "from_frame": self.from_frames[start]}
            for start, end in zip(self.starts, ends, strict=True)
        ]
        clip = {"ranges": self.ranges, "clip": session.metadata.get("clip")}
        self._cuts = cuts_of({"clip": clip})
        #: The frame of the clip's video of each row; -1 if there is none.
        self.video_frames = np.full(self.count, -1, np.int64)

    @property
    def has_last(self) -> bool:
        """Return whether the session's last row is in the clip."""
        return self._spans[-1].end == len(self.session)

    def times_logged(self) -> list[tuple[dt.datetime | None, dt.datetime | None]]:
        """Return, for each span, the start and end of the time of its marks; None: no limit."""
        behind = {
            position: completed_at.as_py()
            for positions, times in self._after.completed_at
            for position, completed_at in zip(positions.tolist(), times, strict=True)
        }
        return [
            (
                self.facts["captured_at"][start].as_py() if span.start else None,
                behind.get(span.end),
            )
            for span, start in zip(self._spans, self.starts, strict=True)
        ]

    def times_us(self, *, of_source: bool) -> list[int]:
        """Return each row's time in a video, by the source's stamps or by capture, then the end.

        Spans follow each other without a gap.
        """
        timeline = Timeline(self._cuts)
        media = self.facts["media_time_s"] if of_source else pa.nulls(self.count, pa.float64())
        columns = np.arange(self.count), media, self.facts["captured_at"]
        times = timeline.times_us(pa.table(columns, Timeline.COLUMNS)).tolist()
        return [*times, times[-1] + timeline.step_us]

    def durations(
        self, places: Sequence[int], *, of_source: bool = False
    ) -> Iterator[tuple[int, int, int]]:
        """Yield (place, pts, duration) in microseconds, counted from the first of ``places``."""
        every = self.times_us(of_source=of_source)
        times = [every[place] - every[places[0]] for place in places]
        last_us = min(every[places[-1] + 1] - every[places[-1]], LONGEST_USUAL_STEP_US)
        times.append(times[-1] + last_us)
        for place, (time, following) in zip(places, itertools.pairwise(times), strict=True):
            yield place, time, following - time

    def captured_at(self, place: int) -> str | None:
        """Return when a frame was captured, as text for the metadata; None if unknown."""
        stamp = self.facts["captured_at"][place].as_py()
        return None if stamp is None else utc_text(utc_ns(stamp))

    def number_video(self, places: Sequence[int | None]) -> None:
        """Note the places of the frames of the clip's video, in order; None for repeated ones."""
        for index, place in enumerate(places):
            if place is not None:
                self.video_frames[place] = index

    def batches(self, *, has_video: bool) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the clip."""
        lost = "not in the video that the clip was cut from" if has_video else "not cut"
        place = 0
        for _, batch in chosen_batches(self.session, self._positions):
            end = place + batch.num_rows
            replaced = {"frame": pa.array(np.arange(place, end))}
            names = set(batch.schema.names)
            frames = self.video_frames[place:end]
            if "video_frame" in names:
                replaced["video_frame"] = pa.array(frames, mask=frames < 0)
            if {"video_frame", "video_state"} <= names:
                is_lost = pc.and_(frames < 0, batch.column("video_frame").is_valid())
                replaced["video_state"] = pc.if_else(is_lost, lost, batch.column("video_state"))
            arrays = [replaced.get(name, batch.column(name)) for name in batch.schema.names]
            rows = pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
            yield self._with_own_signals(rows, place) if "signals" in names else rows
            place = end

    def _with_own_signals(self, rows: pa.RecordBatch, place: int) -> pa.RecordBatch:
        """Return rows without what was logged before a span begins, but with all until it ends.

        Rows are written in batches: a value may be in a later row than the one of its time.
        """
        lengths = pc.fill_null(pc.list_value_length(rows.column("signals")), 0).to_numpy()
        found: dict[int, pa.StructArray] = {}
        # Only the spans that have any of these rows: there may be many spans.
        first_span = bisect.bisect_right(self._ends, place)
        end_span = bisect.bisect_left(self.starts, place + rows.num_rows)
        for index in range(first_span, end_span):
            span = self._spans[index]
            first, last = self.starts[index] - place, self._ends[index] - 1 - place
            # Between spans that touch, all is in the clip, and in its row already.
            is_first = span.start > 0 and span.start not in self._touching
            if first >= 0 and lengths[first] and is_first:
                items = signals_of(rows, first)
                began = self.facts["captured_at"][self.starts[index]]
                is_within = pc.greater_equal(pc.struct_field(items, "at"), began)
                found[first] = items.filter(is_within)
            is_last = span.end not in self._touching
            if last < rows.num_rows and is_last and span.end in self._after.logged:
                items = found[last] if last in found else signals_of(rows, last)
                found[last] = pa.concat_arrays([items, self._after.logged[span.end]])
        return with_signals(rows, found) if found else rows

    @cached_property
    def _after(self) -> _After:
        """Values of the rows that follow the spans, in one pass: there may be 100,000 spans."""
        after = _After([], {})
        ends = np.array([span.end for span in self._spans if span.end < len(self.session)])
        columns = ["completed_at", "signals"]
        for positions, rows in chosen_batches(self.session, ends, columns):
            after.completed_at.append((positions, rows.column(0)))
            lengths = pc.fill_null(pc.list_value_length(rows.column(1)), 0).to_numpy()
            for index in np.flatnonzero(lengths).tolist():
                items = signals_of(rows, index)
                is_before = pc.less(pc.struct_field(items, "at"), rows.column(0)[index])
                after.logged[int(positions[index])] = items.filter(is_before)
        return after

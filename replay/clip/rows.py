"""The rows of a clip, and their frames in its video."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.footage import LONGEST_USUAL_STEP_US, Timeline, chosen_batches
from dgrec.format import SIGNAL, cuts_of, signals_of, utc_ns, utc_text, with_signals
from dgrec.replay.clip.spans import Span
from dgrec.session import Session

__all__ = ["ClipRows"]


def _split(session: Session, spans: Sequence[Span]) -> list[Span]:
    """Return the spans, cut where parts of the recording were removed."""
    cuts, place = [], 0
    jumps = set(cuts_of({**session.metadata, "clip": None}))
    for part in session.parts:
        if part.first_frame in jumps:
            cuts.append(place)
        place += part.rows
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
        #: The columns of the rows that cutting a video needs.
        self.facts = pa.Table.from_batches(
            part for _, part in chosen_batches(session, self._positions, columns)
        )
        self.from_frames = self.facts["frame"].to_pylist()
        #: Place of the first row of each span in the clip.
        self.starts = np.cumsum([0, *(span.end - span.start for span in spans)])[:-1].tolist()
        self._spans = spans
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
        """Whether the session's last row is among them."""
        return self._spans[-1].end == len(self.session)

    def times_logged(self) -> list[tuple[dt.datetime | None, dt.datetime | None]]:
        """Return from when until when what was marked belongs to each span; None: no limit."""
        return [
            (
                self.facts["captured_at"][start].as_py() if span.start else None,
                self.session.row(span.end)["completed_at"]
                if span.end < len(self.session)
                else None,
            )
            for span, start in zip(self._spans, self.starts, strict=True)
        ]

    def times_us(self, *, of_source: bool) -> list[int]:
        """Return each row's time in a video, by the source's stamps or by capture, and its end.

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
        """Return rows without what was logged before a span begins, with all until it ends.

        Rows are written some at a time: a value may be in a row after the one of its time.
        """
        found: dict[int, pa.StructArray] = {}
        for span, start, end in zip(self._spans, self.starts, self._ends, strict=True):
            first, last = start - place, end - 1 - place
            if 0 <= first < rows.num_rows and span.start > 0:
                items = signals_of(rows, first)
                began = self.facts["captured_at"][start]
                is_within = pc.greater_equal(pc.struct_field(items, "at"), began)
                found[first] = items.filter(is_within)
            if 0 <= last < rows.num_rows:
                items = found[last] if last in found else signals_of(rows, last)
                found[last] = pa.concat_arrays([items, self._logged_after(span)])
        return with_signals(rows, found)

    def _logged_after(self, span: Span) -> pa.StructArray:
        """Return what the row after a span has of the time before its own result."""
        following = self.session.batches(["signals", "completed_at"], span.end, span.end + 1)
        row = next(following, None)
        if row is None:
            return pa.array([], SIGNAL)
        items = signals_of(row, 0)
        return items.filter(pc.less(pc.struct_field(items, "at"), row.column("completed_at")[0]))

"""Lines over time: the smallest, the largest and the mean value of each column of pixels.

=================  =========================================================================
name               value
=================  =========================================================================
latency_ms, ...    duration of a stage of each frame, in milliseconds (`STAGE_COLUMNS`)
fps                the SQL library's ``throughput``, in windows of about a second or ten frames
detections         detections in each frame
label:LABEL        detections of a label in each frame
signal:NAME        what was logged under a name (the view ``signals``)
=================  =========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from dgrec.errors import QueryError
from dgrec.format import STAGE_KEYS
from dgrec.replay.viewing.labels import SessionLabels
from dgrec.replay.viewing.time_line import Pixels, TimeLine, once, pixels, time_line
from dgrec.sql import library

if TYPE_CHECKING:
    from dgrec.replay.query import SqlReader
    from dgrec.session import Session

#: Durations, in the order of a frame's path, and their SQL.
STAGE_COLUMNS = {
    **{
        name: name for name in ("latency_ms", "read_ms", *STAGE_KEYS, "recorder_ms", "published_ms")
    },
    "waiting_ms": "_waiting_ms(latency_ms, preprocess_ms, inference_ms, postprocess_ms)",
}
#: The most names in one request.
_MOST_NAMES = 40
#: Windows of the rate: at least a second, or so many frames on average, and at most so many.
_WINDOW_FRAMES, _MOST_WINDOWS = 10, 100_000
#: Values of signals that are kept in memory, of 16 bytes each.
_MOST_KEPT = 4_000_000
#: With fewer rows than this in a pixel on average, some pixels have none.
_SPARSE = 4
#: Digits of a value: a picture shows three of them.
_DIGITS = 7

_Array = np.ndarray[Any, Any]


def series_names(text: str) -> list[str]:
    """Return the names in a request: between commas, each percent-encoded (labels have commas)."""
    return [unquote(name) for name in text.split(",") if name]


@dataclass(frozen=True)
class Series:
    """Lines, still without those of labels: DuckDB would read detections whole."""

    answer: dict[str, Any]
    names: Sequence[str]
    found: dict[str, Bands]
    #: Where the labels are; None: no labels are asked for.
    rows: LabelRows | None

    def complete(
        self, session: Session, labels: Callable[[Session], SessionLabels]
    ) -> dict[str, Any]:
        """Return the lines over a stretch of the time line; this needs no connection.

        Returns ``from``, ``to``, ``step`` in seconds; ``series``, by name ``min``, ``max`` and
        ``mean`` of each pixel, null where there is nothing; ``fps_window_s``, the windows of the
        rate; ``gaps``, where a pixel has few rows: from when to when nothing was captured.

        Raises:
            QueryError: There is no such line.
            SessionError: Part of the file cannot be read.
        """
        found = dict(self.found)
        if self.rows is not None:
            found |= _counted(session, self.rows, labels(session))
        if unknown := [name for name in self.names if name not in found]:
            raise QueryError(f"there is no line {unknown[0]!r}")
        return {**self.answer, "series": {name: found[name].lists() for name in self.names}}


def begin_series(
    session: Session,
    reader: SqlReader,
    names: Sequence[str],
    start: float | None = None,
    end: float | None = None,
    width: int = 1000,
) -> Series:
    """Ask DuckDB what lines over a stretch take (`dgrec.replay.viewing.time_line`).

    Args:
        reader: A connection over just this session.
        names: Of the lines.
        start: Seconds since the first frame; None: from the beginning.
        end: Seconds since the first frame; None: to the end.
        width: Pixels.

    Raises:
        QueryError: There is no such stretch.
        SessionError: Part of the file cannot be read.
    """
    if len(names) > _MOST_NAMES:
        raise QueryError(f"{len(names)} lines at once; expected at most {_MOST_NAMES}")
    times = time_line(session, reader)
    span = pixels(times, start, end, width)
    if span is None:
        return Series(
            {"from": 0, "to": 0, "step": 0}, names, {name: Bands(0) for name in names}, None
        )
    found = _stages(reader, span, [name for name in names if name in STAGE_COLUMNS])
    signals = [name for name in names if name.startswith("signal:")]
    if signals:
        found |= _signals(session, reader, span, signals)
    answer: dict[str, Any] = span.edges()
    if "fps" in names:
        windows = _rate_windows(session, reader)
        found["fps"] = windows.bands(span)
        answer["fps_window_s"] = windows.seconds
    # Otherwise a gap is several pixels without a value.
    answer["gaps"] = _gaps_in(session, reader, span) if _is_sparse(times, span) else None
    of_labels = [name for name in names if name == "detections" or name.startswith("label:")]
    rows = _label_rows(reader, times, span, of_labels) if of_labels else None
    return Series(answer, names, found, rows)


def _is_sparse(times: TimeLine, span: Pixels) -> bool:
    return times.count * span.step_us < _SPARSE * (times.most_us - times.least_us)


def _gaps_in(session: Session, reader: SqlReader, span: Pixels) -> list[list[float]]:
    """Return the gaps in a stretch that are wider than a pixel."""
    began_us, ended_us = _gaps(session, reader)
    is_seen = (ended_us > span.start_us) & (began_us < span.end_us)
    is_seen &= ended_us - began_us > span.step_us
    pairs = zip(began_us[is_seen].tolist(), ended_us[is_seen].tolist(), strict=True)
    return [[span.seconds(began), span.seconds(ended)] for began, ended in pairs]


@once
def _gaps(session: Session, reader: SqlReader) -> tuple[_Array, _Array]:
    """Return stamps of capture with none between them: stalls, and gaps that are events."""
    if not time_line(session, reader).is_of_captures:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    result = reader.stream(
        "SELECT epoch_us(f.captured_at) - round(captured_gap_ms * 1e3)::BIGINT AS began, "
        "epoch_us(f.captured_at) AS ended FROM stalls() JOIN frames f USING (session_id, frame) "
        "WHERE captured_gap_ms > 0 UNION ALL "
        "SELECT epoch_us(from_at), epoch_us(to_at) FROM events "
        "WHERE kind = 'gap' AND from_at IS NOT NULL AND to_at IS NOT NULL"
    )
    table = pa.Table.from_batches(result.batches, result.schema)
    began, ended = (column.to_numpy() for column in table.columns)
    return began, ended


class Bands:
    """The smallest and the largest value of each pixel, and their mean."""

    def __init__(self, width: int) -> None:
        self.least = np.full(width, np.inf)
        self.most = np.full(width, -np.inf)
        self.sum = np.zeros(width)
        self.count = np.zeros(width, np.int64)

    def add(self, at: _Array, values: _Array) -> None:
        """Add values, each to its pixel; those that are not finite are left out."""
        is_finite = np.isfinite(values)
        if not is_finite.all():
            at, values = at[is_finite], values[is_finite]
        np.minimum.at(self.least, at, values)
        np.maximum.at(self.most, at, values)
        self.sum += np.bincount(at, values, len(self.sum))
        self.count += np.bincount(at, minlength=len(self.count))

    def lists(self) -> dict[str, list[float | None]]:
        is_there = self.count > 0
        mean = np.divide(self.sum, self.count, where=is_there, out=np.zeros(len(self.sum)))
        return {
            name: [
                _short(value) if there else None
                for value, there in zip(values.tolist(), is_there.tolist(), strict=True)
            ]
            for name, values in (("min", self.least), ("max", self.most), ("mean", mean))
        }


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


# --- stages --------------------------------------------------------------------------------------


def _stages(reader: SqlReader, span: Pixels, names: Sequence[str]) -> dict[str, Bands]:
    found = {name: Bands(span.width) for name in names}
    if not names:
        return found
    columns = ", ".join(
        f"min({sql}), max({sql}), sum({sql}), count({sql})"
        for sql in (STAGE_COLUMNS[name] for name in found)
    )
    query = f"SELECT {span.sql} AS pixel, {columns} FROM frames WHERE {span.where} GROUP BY pixel"
    for batch in reader.stream(query).batches:
        pixel, *values = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
        for at, bands in enumerate(found.values()):
            least, most, total, count = values[4 * at : 4 * at + 4]
            bands.least[pixel], bands.most[pixel] = least, most
            bands.sum[pixel], bands.count[pixel] = np.nan_to_num(total), count
    return found


# --- rate ----------------------------------------------------------------------------------------


class RateWindows:
    """The rate of a session in windows, one after the other from the first capture."""

    def __init__(self, starts_us: _Array, fps: _Array, end_us: int, seconds: float) -> None:
        self.starts_us, self.fps, self.end_us, self.seconds = starts_us, fps, end_us, seconds

    def bands(self, span: Pixels) -> Bands:
        """Return the rate of each pixel: of windows with their middle in it, or else around it."""
        bands = Bands(span.width)
        if not len(self.fps) or not span.times.is_of_captures:
            return bands
        ends = np.append(self.starts_us[1:], self.end_us)
        middles = self.starts_us + (ends - self.starts_us) // 2
        here = span.are_within(middles)
        bands.add(span.of(middles[here]), self.fps[here])
        empty = np.flatnonzero(bands.count == 0)
        centres = span.start_us + (empty + 0.5) * span.step_us
        covered = (centres >= self.starts_us[0]) & (centres <= self.end_us)
        window = np.searchsorted(self.starts_us, centres[covered], side="right") - 1
        bands.add(empty[covered], self.fps[window])
        return bands


@once
def _rate_windows(session: Session, reader: SqlReader) -> RateWindows:
    (whole,) = reader.rows(
        "SELECT rate(captured_at, completed_at) AS fps, "
        "_seconds(captured_at, completed_at) AS seconds, "
        "epoch_us(max(completed_at)) AS ended FROM frames"
    )
    seconds = max(
        1.0,
        _WINDOW_FRAMES / whole["fps"] if whole["fps"] else 0.0,
        (whole["seconds"] or 0.0) / _MOST_WINDOWS,
    )
    seconds = _round_number(seconds)
    query = f"SELECT epoch_us(window_start) AS us, fps FROM throughput({seconds!r})"
    result = reader.stream(query)
    table = pa.Table.from_batches(result.batches, result.schema)
    starts, fps = (column.to_numpy() for column in table.columns)
    return RateWindows(starts, fps, whole["ended"] or 0, seconds)


def _round_number(seconds: float) -> float:
    """Return 1, 2 or 5, times a power of ten: the next that is not less."""
    power = 10.0 ** math.floor(math.log10(seconds))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= seconds)


# --- detections ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelRows:
    """The rows of a stretch of the time line, and the lines that are made of their labels."""

    times: TimeLine
    span: Pixels
    first: int
    stop: int
    names: Collection[str]


def _label_rows(
    reader: SqlReader, times: TimeLine, span: Pixels, names: Collection[str]
) -> LabelRows:
    (ends,) = reader.rows(
        f"SELECT min(frame) AS first, max(frame) AS last FROM frames WHERE {span.where}"
    )
    if ends["first"] is None:
        return LabelRows(times, span, 0, 0, names)
    first, last = times.positions(np.array([ends["first"], ends["last"]])).tolist()
    return LabelRows(times, span, first, last + 1, names)


def _counted(session: Session, rows: LabelRows, labels: SessionLabels) -> dict[str, Bands]:
    """Count detections in each frame."""
    span = rows.span
    found = {name: Bands(span.width) for name in rows.names}
    for column, of_rows in labels.rows(session, rows.times.column, rows.first, rows.stop):
        stamps_us = rows.times.stamps(column)
        here = span.are_within(stamps_us)
        at = span.of(stamps_us[here])
        for name, bands in found.items():
            is_of_all = name == "detections"
            counts = of_rows.lengths if is_of_all else of_rows.count(name.removeprefix("label:"))
            bands.add(at, counts[here].astype(np.float64))
    return found


# --- signals -------------------------------------------------------------------------------------


def _signals(
    session: Session, reader: SqlReader, span: Pixels, names: Sequence[str]
) -> dict[str, Bands]:
    kept = _kept_signals(session, reader)
    missing = [name for name in names if name not in kept]
    if missing:
        kept |= _read_signals(reader, missing)
    found = {}
    for name in names:
        stamps_us, values = kept[name] = kept.pop(name)  # used last, removed last
        here = span.are_within(stamps_us) & span.times.is_of_captures
        found[name] = Bands(span.width)
        found[name].add(span.of(stamps_us[here]), values[here])
    while sum(len(values) for _, values in kept.values()) > _MOST_KEPT and len(kept) > 1:
        del kept[next(iter(kept))]
    return found


@once
def _kept_signals(session: Session, reader: SqlReader) -> dict[str, tuple[_Array, _Array]]:
    """Return the signals read so far: those of an accelerator are in every row."""
    return {}


def _read_signals(reader: SqlReader, names: Sequence[str]) -> dict[str, tuple[_Array, _Array]]:
    texts = {name.removeprefix("signal:"): name for name in names}
    query = (
        "SELECT name, epoch_us(time) AS us, value FROM signals "
        f"WHERE time IS NOT NULL AND name IN ({', '.join(map(library.literal, texts))})"
    )
    stamps: dict[str, list[_Array]] = {name: [] for name in names}
    values: dict[str, list[_Array]] = {name: [] for name in names}
    for batch in reader.stream(query).batches:
        codes = batch.column(0).dictionary_encode()
        indices = codes.indices.to_numpy(zero_copy_only=False)
        for number, text in enumerate(codes.dictionary.to_pylist()):
            chosen = indices == number
            stamps[texts[text]].append(batch.column(1).to_numpy()[chosen])
            values[texts[text]].append(batch.column(2).to_numpy()[chosen])
    return {
        name: (
            np.concatenate([np.zeros(0, np.int64), *stamps[name]]),
            np.concatenate([np.zeros(0), *values[name]]),
        )
        for name in names
    }

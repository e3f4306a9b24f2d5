"""Charts of text: a histogram of the latency, and a time line of latency, rate and losses.

They are drawn with eighths of a block where the destination can show them, else with ASCII. Their
data come from the SQL library; nothing here knows a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dgrec.format import LARGEST_MEASUREMENT
from dgrec.replay.query import SqlReader

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:#"
#: Columns to the left of a chart: a number, and what it counts.
_MARGIN = 10
_HISTOGRAM_HEIGHT = 6
_LINE_HEIGHT = 3
#: With more columns, windows would hold a frame or two each.
_MOST_COLUMNS = 120


@dataclass(frozen=True)
class Histogram:
    """The number of frames by latency, in bins of equal width from ``low_ms`` to ``high_ms``."""

    low_ms: float
    high_ms: float
    counts: tuple[int, ...]
    #: Frames above ``high_ms``, which would make the rest of the chart too narrow to read.
    beyond: int
    largest_ms: float

    def lines(self, *, blocks: bool) -> Iterator[str]:
        yield f"Latency: {sum(self.counts) + self.beyond:,} frames"
        most = max(self.counts, default=0)
        for row, text in enumerate(bars(self.counts, _HISTOGRAM_HEIGHT, most, blocks=blocks)):
            label = f"{most:,}" if row == 0 else "0" if row == _HISTOGRAM_HEIGHT - 1 else ""
            yield f"{label:>{_MARGIN - 2}}  {text}".rstrip()
        high = _ms(self.high_ms)
        yield f"{'':{_MARGIN}}{_ms(self.low_ms):<{max(0, len(self.counts) - len(high))}}{high}"
        if self.beyond:
            yield f"{'':{_MARGIN}}and {self.beyond:,} more, up to {_ms(self.largest_ms)}"


@dataclass(frozen=True)
class TimeLine:
    """One value for each stretch of a session, from its first capture to its last result."""

    seconds: float
    #: Seconds of one stretch; the last may be shorter.
    step_s: float
    #: Results a second.
    fps: tuple[float, ...]
    #: 95th percentile of the latency; None where nothing came out.
    latency_p95_ms: tuple[float | None, ...]
    #: Source frames lost; None where the file does not have it.
    dropped: tuple[int | None, ...]

    def lines(self, *, blocks: bool) -> Iterator[str]:
        yield f"Over time: {self.seconds:,.1f} s, a column is {self.step_s:,.3g} s"
        yield from self._chart("p95 ms", self.latency_p95_ms, blocks)
        yield from self._chart("fps", self.fps, blocks)
        if any(self.dropped):
            yield from self._chart("dropped", self.dropped, blocks)

    def _chart(self, name: str, values: Sequence[float | None], blocks: bool) -> Iterator[str]:
        largest = max((value for value in values if value is not None), default=0)
        rows = bars(values, _LINE_HEIGHT, largest, blocks=blocks)
        labels = [_number(largest), name, "0"]
        for label, text in zip(labels, rows, strict=True):
            yield f"{label:>{_MARGIN - 2}}  {text}".rstrip()


def bars(values: Sequence[float | None], height: int, largest: float, *, blocks: bool) -> list[str]:
    """Return rows of text, the top one first, with one bar for each value from 0 to ``largest``.

    A value above zero is never invisible, however small.
    """
    levels = _BLOCKS if blocks else _ASCII
    steps = len(levels) - 1
    filled = []
    for value in values:
        share = (value or 0) / largest if largest > 0 else 0.0
        filled.append(min(height * steps, math.ceil(share * height * steps - 1e-9)))
    return [
        "".join(levels[min(steps, max(0, count - row * steps))] for count in filled)
        for row in reversed(range(height))
    ]


def can_show_blocks(encoding: str) -> bool:
    """Return whether text in ``encoding`` can hold the block characters."""
    try:
        _BLOCKS.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


#: A file may claim wrongly that all of its numbers are finite.
_MEASURED = f"abs(latency_ms) <= {LARGEST_MEASUREMENT}"


def histogram(reader: SqlReader, width: int) -> Histogram | None:
    """Return the histogram of all frames' latency, ``width`` columns wide; None without frames."""
    bins = _columns(width)
    (found,) = reader.rows(
        "SELECT min(latency_ms) AS low, max(latency_ms) AS largest, "
        "approx_quantile(latency_ms, 0.99) AS high FROM frames WHERE " + _MEASURED
    )
    if found["low"] is None:
        return None
    low, largest = found["low"], found["largest"]
    high = found["high"]
    if not low < high < largest:
        high = largest
    step = (high - low) / bins or 1.0
    # The largest of all belongs to the last bin, unless it is part of a rest beyond the bins.
    last = bins if high < largest else bins - 1
    counts = [0] * (bins + 1)
    for row in reader.rows(
        f"SELECT least(floor((latency_ms - {low!r}) / {step!r}), {last})::BIGINT AS bin, "
        f"count(*) AS frames FROM frames WHERE {_MEASURED} GROUP BY bin"
    ):
        counts[row["bin"]] = row["frames"]
    return Histogram(low, high, tuple(counts[:bins]), counts[bins], largest)


_FRAMES_A_COLUMN = 3


def time_line(reader: SqlReader, width: int) -> TimeLine | None:
    """Return latency, rate and losses of one session over time; None without frames."""
    (span,) = reader.rows(
        "SELECT sum(duration_s) AS seconds, sum(frames)::BIGINT AS frames FROM session_throughput"
    )
    if not span["seconds"]:
        return None
    # With hardly a frame in a column, the rate would be spikes between gaps.
    columns = max(1, min(_columns(width), span["frames"] // _FRAMES_A_COLUMN))
    # Whole microseconds, rounded up: the windows are then never more than the columns.
    step = math.ceil(span["seconds"] * 1e6 / columns) / 1e6
    rows = reader.rows(f"SELECT fps, latency_p95_ms, dropped FROM throughput({step!r})")
    return TimeLine(
        span["seconds"],
        step,
        tuple(row["fps"] for row in rows),
        tuple(row["latency_p95_ms"] for row in rows),
        tuple(row["dropped"] for row in rows),
    )


def _columns(width: int) -> int:
    return max(10, min(_MOST_COLUMNS, width - _MARGIN))


def _ms(value: float) -> str:
    return f"{_number(value)} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"

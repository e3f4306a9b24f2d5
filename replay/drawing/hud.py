"""The head-up display: a frame's timing, drawn on its picture."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from dgrec.footage import media_us
from dgrec.format import utc_us
from dgrec.rates import frame_rate, rate_text
from dgrec.replay.drawing.lettering import Lettering, Line, draw_panel, text_height
from dgrec.replay.drawing.neighbours import Neighbours
from dgrec.replay.drawing.painter import Painter
from dgrec.session import RecordedResult, Session
from dgrec.video import Image

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
#: Frames in the latency strip.
BARS = 100
#: The rate is that of the results in the last two seconds.
_WINDOW_US = 2_000_000
_COLUMNS = 22
_STAGES = ("read", "preprocess", "inference", "postprocess")
#: Top of the strip, as a multiple of the p99.
_HEADROOM = 1.5

# Blue, green, red.
_PLAIN, _DIM = (245, 245, 245), (170, 170, 170)
_BAR, _SLOW, _DROPPED, _P99 = (200, 190, 90), (60, 190, 255), (70, 70, 255), (235, 235, 235)


class Bar(NamedTuple):
    """One frame in the strip."""

    latency_ms: float
    dropped: bool


@dataclass(frozen=True, slots=True)
class HudValues:
    """The values on the display of one frame."""

    #: Its row; a stage that the runtime did not report is None.
    row: Mapping[str, Any]
    elapsed_s: float
    #: Frames a second, over the last two seconds; None for the first frame.
    fps: float | None
    p99_ms: float | None
    #: The last frames, this one at the end.
    bars: tuple[Bar, ...]
    #: Whether the session was published while it was recorded.
    is_published: bool = False


class _Seen(NamedTuple):
    captured_us: int | None
    completed_us: int | None
    bar: Bar


def _seen(row: Mapping[str, Any]) -> _Seen:
    """Return what the display needs of a row. Stamps may be missing."""
    latency_ms = row["latency_ms"]
    return _Seen(
        utc_us(row["captured_at"]),
        utc_us(row["completed_at"]),
        Bar(math.nan if latency_ms is None else latency_ms, (row["dropped_before"] or 0) > 0),
    )


class Elapsed:
    """Seconds from the session's first frame to another, by the source's own stamps.

    Without them, as with most cameras, by the times of capture.
    """

    def __init__(self, session: Session) -> None:
        first = session.row(0)
        self._captured, self._media = first["captured_at"], _media_s(first)

    def seconds(self, row: Mapping[str, Any]) -> float:
        media = _media_s(row)
        if media is not None and self._media is not None:
            return media - self._media
        if row["captured_at"] is None or self._captured is None:
            return 0.0
        elapsed: float = (row["captured_at"] - self._captured) / dt.timedelta(seconds=1)
        return elapsed


def _media_s(row: Mapping[str, Any]) -> float | None:
    media_s: float | None = row["media_time_s"]
    return None if media_s is None or media_us(media_s) is None else media_s


class HudModel:
    """Finds the values to display for frames in any order."""

    def __init__(self, session: Session) -> None:
        self._elapsed = Elapsed(session)
        p99 = session.sql_rows("SELECT p99_ms FROM end_to_end_latency")
        value = p99[0][0] if p99 else None
        # Files of other tools may hold infinite latencies.
        self._p99_ms: float | None = value if value is None or math.isfinite(value) else None
        self._is_published = bool(session.metadata.get("targets"))
        self._neighbours = Neighbours(session, _seen)

    def values(self, result: RecordedResult) -> HudValues:
        position = self._neighbours.note(result)
        recent = [_seen(result.row), *itertools.islice(self._neighbours.before(position), BARS - 1)]
        return HudValues(
            row=result.row,
            elapsed_s=self._elapsed.seconds(result.row),
            fps=_rate(recent),
            p99_ms=self._p99_ms,
            bars=tuple(seen.bar for seen in reversed(recent)),
            is_published=self._is_published,
        )


def _rate(seen: Sequence[_Seen]) -> float | None:
    """Return the rate of the last frames, which come newest first."""
    stamps = [
        (captured, completed)
        for captured, completed, _ in seen
        if captured is not None and completed is not None
    ]
    recent = [pair for pair in stamps if pair[1] >= stamps[0][1] - _WINDOW_US]
    if len(recent) < 2:
        recent = stamps[:2]  # slower than the window
    if not recent:
        return None
    spans = ((max(times) - min(times)) / 1e6 for times in zip(*recent, strict=True))
    return frame_rate(len(recent) - 1, *spans)


def hud_lines(values: HudValues) -> list[Line]:
    """Return the display's text."""
    row = values.row
    latency_ms, captured_at = row["latency_ms"], row["captured_at"]
    slow = None not in (values.p99_ms, latency_ms) and latency_ms > values.p99_ms
    time = time_text(values.elapsed_s)
    number = f"frame {row['frame']}"
    if len(number) + len(time) >= _COLUMNS:
        number = str(row["frame"])
    rate = rate_text(values.fps)
    clock = "-" if captured_at is None else f"{captured_at:%H:%M:%S} UTC"
    lost = [f"{row['dropped_before']} dropped"] if row["dropped_before"] else []
    left_out = [f"{row['skipped_before']} skipped"] if row["skipped_before"] else []
    return [
        Line(number + time.rjust(_COLUMNS - len(number)), _PLAIN),
        Line(clock.ljust(12) + f"{rate} fps".rjust(_COLUMNS - 12), _DIM),
        *(Line(_row(stage, row[f"{stage}_ms"]), _PLAIN) for stage in _STAGES),
        Line(_row("latency", latency_ms), _SLOW if slow else _PLAIN),
        Line(_row("p99", values.p99_ms), _DIM),
        *([Line(_row("published", row["published_ms"]), _PLAIN)] if values.is_published else []),
        Line(" ".join(lost + left_out), _DROPPED if lost else _DIM),
    ]


def _row(name: str, value: float | None) -> str:
    text = "-   " if value is None or not math.isfinite(value) else f"{value:.1f} ms"
    return name + text.rjust(_COLUMNS - len(name))


def time_text(seconds: float) -> str:
    """Return a time as ``h:mm:ss.mmm``."""
    sign, total = ("-", -seconds) if seconds < 0 else ("", seconds)
    whole = round(total * 1000)
    minutes, thousandths = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{thousandths // 1000:02}.{thousandths % 1000:03}"


def strip_image(values: HudValues, width: int, height: int) -> Image:
    """Return the latency strip: a bar for each frame, the newest at the right.

    Bars are red after drops and orange above the p99, a dashed line; higher ones are cut off.
    """
    import cv2

    bars = values.bars[-BARS:]
    latency = np.array([bar.latency_ms for bar in bars], np.float64)
    latency[~np.isfinite(latency)] = 0
    p99 = values.p99_ms
    top = _HEADROOM * p99 if p99 else max(float(latency.max()), 1e-9)
    heights = np.clip(np.ceil(latency / top * height), 1, height).astype(int)
    colors = np.array(
        [
            _DROPPED if bar.dropped else _SLOW if p99 and bar.latency_ms > p99 else _BAR
            for bar in bars
        ],
        np.uint8,
    )
    # One column of pixels for each bar; widened at the end.
    narrow = np.zeros((height, BARS, 3), np.uint8)
    filled = np.arange(height)[:, None] >= height - heights[None, :]
    narrow[:, BARS - len(bars) :] = np.where(filled[..., None], colors[None], 0)
    # A drop is marked at the top as well: its bar may be short.
    lost = BARS - len(bars) + np.flatnonzero([bar.dropped for bar in bars])
    narrow[: max(1, height // 6), lost] = _DROPPED
    image: Image = cv2.resize(narrow, (width, height), interpolation=cv2.INTER_NEAREST)
    if p99:
        y = height - 1 - min(height - 1, int(p99 / top * height))
        dash = max(2, width // 50)
        image[y : y + max(1, height // 40), np.arange(width) // dash % 2 == 0] = _P99
    return image


class Hud(Painter):
    """Draws timing on pictures: stages, rate, time, drops, and the latency of the last frames.

    Args:
        session: The frames' session, which no other thread reads from.
        corner: The corner that the display covers.
    """

    draws_in_place = True

    def __init__(self, session: Session, corner: Corner = "top-left") -> None:
        self._model = HudModel(session)
        self._corner = corner

    def draw(self, result: RecordedResult, image: Image) -> Image:
        values = self._model.values(result)
        height = text_height(image.shape[1], image.shape[0])
        text = Lettering.of(height).render(hud_lines(values), _COLUMNS)
        gap = max(1, height // 5)
        strip = strip_image(values, text.shape[1], round(2.6 * height))
        content = np.zeros((text.shape[0] + gap + strip.shape[0], text.shape[1], 3), np.uint8)
        content[: text.shape[0]] = text
        content[-strip.shape[0] :] = strip
        left = image.shape[1] - content.shape[1] - 2 * gap if "right" in self._corner else 0
        top = image.shape[0] - content.shape[0] - 2 * gap if "bottom" in self._corner else 0
        draw_panel(image, content, max(left, 0), max(top, 0), gap)
        return image

"""Vega-Lite specifications that the plots of a report share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = list[dict[str, Any]]
Spec = dict[str, Any]

#: Spans of time that a plot is cut into, at most.
_SPANS = 240
#: Fewer frames than this say little about a span of time.
FRAMES_IN_SPAN = 8
_WIDTH = 860


@dataclass(frozen=True)
class Extent:
    """The length of a session and the size of its latencies, by which plots are cut."""

    frames: int
    #: From the first frame's capture to the last result.
    seconds: float
    #: Latency below which 99.5% of the frames are, in ms; None without frames.
    latency_ms: float | None
    detections: int

    @property
    def span_s(self) -> float:
        """Seconds in one span of time: 1, 2 or 5 times a power of ten."""
        spans = min(_SPANS, max(1, self.frames // FRAMES_IN_SPAN))
        return _nice(max(self.seconds / spans, 0.001))

    @property
    def bin_ms(self) -> float:
        """Milliseconds in one bar of a histogram."""
        return _nice(max((self.latency_ms or 1.0) / 60, 0.001))


def _nice(value: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    step = next(step for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))
    return float(f"{step * power:.12g}")


def number_text(value: float) -> str:
    return f"{value:.12g}"


def base_spec(height: int) -> Spec:
    return {
        "width": _WIDTH,
        "height": height,
        "background": None,
        "config": {
            "font": "system-ui, sans-serif",
            "view": {"stroke": None},
            "axis": {"gridColor": "#e8eaed", "labelColor": "#3c4043", "titleColor": "#3c4043"},
        },
    }


def over_time(
    rows: Sequence[Mapping[str, Any]],
    extent: Extent,
    layers: list[Spec],
    *,
    height: int,
    spans: bool = False,
    marks: Sequence[Mapping[str, Any]] = (),
) -> Spec:
    """Return ``layers`` over the time since the first frame; the wheel zooms, dragging moves.

    Each of ``marks`` is a line at its ``second``, which shows its ``mark``, a text.
    """
    unit, seconds = next(
        (unit, seconds)
        for unit, seconds, limit in (
            ("seconds", 1, 600),
            ("minutes", 60, 4 * 3600),
            ("hours", 3600, math.inf),
        )
        if extent.seconds <= limit
    )
    end = max(extent.seconds, extent.span_s)
    x: Spec = {
        "field": "time",
        "type": "quantitative",
        "axis": {"title": f"{unit} since the first frame"},
        "scale": {"domain": [0, end / seconds], "nice": False},
    }
    transform = [{"calculate": f"datum.second / {seconds}", "as": "time"}]
    span: Spec = {}
    if spans:
        span = {
            "x": {**x, "bin": {"binned": True}},
            "x2": {"field": "until"},
        }
        # The last one ends with the recording.
        until = f"datum.second + (datum.seconds || {number_text(extent.span_s)})"
        transform.append(
            {"calculate": f"min({until}, {number_text(end)}) / {seconds}", "as": "until"}
        )
    zoom = {"name": "zoom", "select": {"type": "interval", "encodings": ["x"]}, "bind": "scales"}
    # The first layer shows the spans; the others mark moments.
    encodings = [span or {"x": x}, *({"x": x} for _ in layers[1:])]
    placed = [
        {**layer, "encoding": {**place, **layer["encoding"]}}
        for layer, place in zip(layers, encodings, strict=True)
    ]
    placed[0]["params"] = [zoom]
    if marks:
        lines = [{"time": row["second"] / seconds, **row} for row in marks]
        placed.append(
            {
                "data": {"values": lines},
                "mark": {"type": "rule", "color": "#7b3294", "strokeWidth": 1.5},
                "encoding": {"x": x, "tooltip": tooltip(mark="mark", second="s")},
            }
        )
    return {
        **base_spec(height),
        "data": {"values": list(rows)},
        "transform": transform,
        "layer": placed,
    }


def measure(field: str, title: str, **more: Any) -> Spec:
    """Return the encoding of a number."""
    return {"field": field, "type": "quantitative", **more, "axis": {"title": title}}


def tooltip(**titles: str) -> list[Spec]:
    return [
        {"field": name, "title": title, **({"format": ".4~g"} if _is_measured(name) else {})}
        for name, title in titles.items()
    ]


def _is_measured(name: str) -> bool:
    return name.endswith("ms") or name in ("second", "per_second", "fps")

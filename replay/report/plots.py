"""The plots of a report, as Vega-Lite specifications with their data inside.

Each is drawn from the rows of one statement that the reader can run again. Recordings of any
length give plots of one size: frames are counted into at most a few hundred spans of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dgrec.replay.report.vega import (
    FRAMES_IN_SPAN,
    Extent,
    Rows,
    Spec,
    base_spec,
    measure,
    number_text,
    over_time,
    tooltip,
)

#: Up to this many frames, each is a point of its own.
_POINTS = 3000
#: Lines of the program's marks, and names of signals, at most.
_MOST_MARKS, _MOST_SIGNALS = 200, 20
#: Labels with a colour of their own; the rest is drawn together.
_LABELS = 9
#: Colours that colour-blind readers can tell apart, too (Okabe and Ito).
_BLUE, _ORANGE, _GREEN, _RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
_GREY = "#9aa0a6"
_STAGES = ("preprocess", "inference", "postprocess", "other")
_STAGE_COLORS = (_ORANGE, _BLUE, _GREEN, _GREY)
_MARKS = ("p50", "p50 to p95", "slowest frame")
_MARK_COLORS = (_BLUE, "#bfdbeb", _ORANGE)
#: Seconds since the first frame was captured, for each frame.
_SECOND = "((epoch_us(captured_at) - (SELECT min(epoch_us(captured_at)) FROM frames)) / 1e6)"


_NO_STAMPS = "No frame has the times of capture and result that this takes."


def _no_times(extent: Extent) -> str:
    return _NO_STAMPS if extent.frames else "No frames."


def _no_latencies(extent: Extent) -> str:
    return "No frame has a latency." if extent.frames else "No frames."


def _no_detections(extent: Extent) -> str:
    return _NO_STAMPS if extent.detections else "Nothing was detected."


@dataclass(frozen=True)
class ChartPlan:
    """A plot to be made: the statement that gives its data, and the function that draws them."""

    name: str
    title: str
    #: What to look for, in a sentence or two.
    text: str
    sql: Callable[[Extent], str]
    spec: Callable[[Rows, Extent], Spec]
    #: Returns the text for a plot whose statements give no rows.
    nothing: Callable[[Extent], str] = _no_times
    #: With fewer frames there is no picture.
    at_least: int = 1
    #: More statements whose rows the plot shows, by name.
    more: Mapping[str, Callable[[Extent], str]] = field(default_factory=dict)
    #: Whether a page leaves it out where there is nothing to draw.
    is_optional: bool = False


# --- latency over time ---------------------------------------------------------------------------


def _latency_sql(extent: Extent) -> str:
    if extent.frames <= _POINTS:
        return f"""
SELECT frame, {_SECOND} AS second, latency_ms,
       preprocess_ms, inference_ms, postprocess_ms, dropped_before
FROM frames
WHERE captured_at IS NOT NULL
ORDER BY frame"""
    span = number_text(extent.span_s)
    return f"""
SELECT floor({_SECOND} / {span}) * {span} AS second,
       unnest(_summary(latency_ms)),
       arg_max(frame, latency_ms) AS slowest_frame,
       sum(dropped_before) AS dropped
FROM frames
WHERE captured_at IS NOT NULL
GROUP BY second
ORDER BY second"""


def _marks_sql(extent: Extent) -> str:
    return f"""
SELECT (epoch_us(from_at) - (SELECT min(epoch_us(captured_at)) FROM frames)) / 1e6 AS second,
       coalesce(text, '') AS mark
FROM events
WHERE kind = 'mark' AND from_at IS NOT NULL
  AND EXISTS (SELECT captured_at FROM frames WHERE captured_at IS NOT NULL)
ORDER BY second
LIMIT {_MOST_MARKS}"""


def _latency_spec(rows: Rows, extent: Extent) -> Spec:
    marks = [row for row in rows if "mark" in row]
    rows = [row for row in rows if "mark" not in row]

    def on(name: str, **more: Any) -> Spec:
        return {"y": measure(name, "latency, ms"), **more}

    if "latency_ms" in rows[0]:
        shown = tooltip(
            frame="frame",
            second="s",
            latency_ms="latency, ms",
            preprocess_ms="preprocess, ms",
            inference_ms="inference, ms",
            postprocess_ms="postprocess, ms",
            dropped_before="frames lost before",
        )
        layers = [
            {
                "mark": {"type": "line", "strokeWidth": 0.6, "opacity": 0.5, "color": _BLUE},
                "encoding": on("latency_ms"),
            },
            {
                "mark": {"type": "point", "filled": True, "size": 14, "color": _BLUE},
                "encoding": on("latency_ms", tooltip=shown),
            },
            _drop_marks("dropped_before"),
        ]
    else:
        shown = tooltip(
            second="from second",
            frames="frames",
            p50_ms="p50, ms",
            p95_ms="p95, ms",
            max_ms="max, ms",
            slowest_frame="slowest frame",
            dropped="frames lost",
        )
        layers = [
            {
                "mark": {"type": "area", "opacity": 1},
                "encoding": on("p50_ms", y2={"field": "p95_ms"}, color=_named("p50 to p95")),
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.2},
                "encoding": on("p50_ms", color=_named("p50")),
            },
            {
                "mark": {"type": "point", "filled": True, "size": 10},
                "encoding": on("max_ms", color=_named("slowest frame"), tooltip=shown),
            },
            _drop_marks("dropped"),
        ]
    return over_time(rows, extent, layers, height=240, marks=marks)


def _named(mark: str) -> Spec:
    """Return the colour of one of the marks of a plot in spans, and its place in the legend."""
    return {
        "datum": mark,
        "type": "nominal",
        "scale": {"domain": list(_MARKS), "range": list(_MARK_COLORS)},
        "legend": {"title": None, "orient": "top", "symbolType": "square", "symbolOpacity": 1},
    }


def _drop_marks(name: str) -> Spec:
    """Return a red tick at the foot of the plot wherever frames were lost."""
    return {
        "transform": [{"filter": f"datum.{name} > 0"}],
        "mark": {"type": "tick", "color": _RED, "thickness": 2, "orient": "vertical", "size": 16},
        "encoding": {
            "y": {"value": "height"},
            "tooltip": tooltip(second="s", **{name: "frames lost"}),
        },
    }


# --- histogram -----------------------------------------------------------------------------------


def _histogram_sql(extent: Extent) -> str:
    width = number_text(extent.bin_ms)
    last = number_text(extent.bin_ms * math.ceil((extent.latency_ms or 1.0) / extent.bin_ms))
    return f"""
SELECT least(floor(latency_ms / {width}) * {width}, {last}) AS from_ms,
       count(*) AS frames
FROM frames
WHERE latency_ms IS NOT NULL
GROUP BY from_ms
ORDER BY from_ms"""


def _quantiles_sql(extent: Extent) -> str:
    return """
SELECT unnest(['p50', 'p95', 'p99']) AS name, unnest([p50_ms, p95_ms, p99_ms]) AS ms
FROM end_to_end_latency
WHERE p50_ms IS NOT NULL"""


def _histogram_spec(rows: Rows, extent: Extent) -> Spec:
    width = extent.bin_ms
    bars = [
        {**row, "to_ms": row["from_ms"] + width}
        for row in rows
        if "frames" in row and row["from_ms"] is not None  # infinite, whatever the file claims
    ]
    marks = [row for row in rows if "name" in row and row["ms"] is not None]
    return {
        **base_spec(220),
        "layer": [
            {
                "data": {"values": bars},
                "mark": {"type": "bar", "color": _BLUE, "binSpacing": 0.5},
                "encoding": {
                    "x": measure(
                        "from_ms",
                        "latency, ms (the last bar: that and longer)",
                        bin={"binned": True, "step": width},
                    ),
                    "x2": {"field": "to_ms"},
                    "y": measure("frames", "frames"),
                    "tooltip": tooltip(from_ms="from, ms", to_ms="to, ms", frames="frames"),
                },
            },
            {
                "data": {"values": marks},
                "mark": {"type": "rule", "color": _RED, "strokeDash": [4, 3]},
                "encoding": {
                    "x": {"field": "ms", "type": "quantitative"},
                    "tooltip": tooltip(name="quantile", ms="ms"),
                },
            },
            {
                "data": {"values": marks},
                "mark": {"type": "text", "color": _RED, "align": "left", "dx": 3, "y": 8},
                "encoding": {
                    "x": {"field": "ms", "type": "quantitative"},
                    "text": {"field": "name"},
                },
            },
        ],
    }


# --- stages --------------------------------------------------------------------------------------


def _stages_sql(extent: Extent) -> str:
    span = number_text(extent.span_s)
    return f"""
SELECT floor({_SECOND} / {span}) * {span} AS second,
       unnest(['preprocess', 'inference', 'postprocess', 'other']) AS stage,
       unnest([
           avg(coalesce(preprocess_ms, 0)), avg(coalesce(inference_ms, 0)),
           avg(coalesce(postprocess_ms, 0)),
           avg(coalesce(_waiting_ms(latency_ms, preprocess_ms, inference_ms, postprocess_ms),
                        latency_ms))
       ]) AS mean_ms
FROM frames
WHERE captured_at IS NOT NULL
GROUP BY second
ORDER BY second"""


def _stages_spec(rows: Rows, extent: Extent) -> Spec:
    layer = {
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            "y": measure("mean_ms", "mean, ms a frame", stack="zero"),
            "color": {
                "field": "stage",
                "type": "nominal",
                "scale": {"domain": list(_STAGES), "range": list(_STAGE_COLORS)},
                "legend": {"title": None, "orient": "top"},
            },
            "order": {"field": "order"},
            "tooltip": tooltip(second="from second", stage="stage", mean_ms="mean, ms"),
        },
    }
    ordered = [
        {**row, "mean_ms": row["mean_ms"] or 0.0, "order": _STAGES.index(row["stage"])}
        for row in rows
    ]
    return over_time(ordered, extent, [layer], height=220, spans=True)


# --- throughput ----------------------------------------------------------------------------------


def _throughput_sql(extent: Extent) -> str:
    # A rest at the end of less than half a span belongs to the last span: a rate over a moment
    # would be a spike.
    span = number_text(extent.span_s)
    return f"""
SELECT epoch(min(window_start) - (SELECT min(captured_at) FROM frames)) AS second,
       sum(seconds) AS seconds, sum(fps * seconds) / sum(seconds) AS fps, sum(frames) AS frames,
       sum(dropped) AS dropped, sum(dropped_at_start) AS dropped_at_start,
       sum(skipped) AS skipped
FROM (
    SELECT *, row_number() OVER (ORDER BY window_start)
              - CASE WHEN 2 * seconds < {span} THEN 1 ELSE 0 END AS number
    FROM throughput({span})
)
GROUP BY greatest(number, 1)
ORDER BY second"""


def _throughput_spec(rows: Rows, extent: Extent) -> Spec:
    shown = tooltip(
        second="from second",
        frames="results",
        fps="frames/s",
        dropped="frames lost",
        dropped_at_start="lost while the model started",
        skipped="frames left out",
    )
    layers = [
        {
            "mark": {"type": "bar", "color": _GREEN, "binSpacing": 0},
            "encoding": {
                "y": measure("fps", "frames, 1/s"),
                "tooltip": shown,
            },
        },
        _drop_marks("dropped"),
    ]
    return over_time(rows, extent, layers, height=180, spans=True)


# --- detections ----------------------------------------------------------------------------------


def _labels_sql(extent: Extent) -> str:
    # The spans are those of the throughput.
    span = number_text(extent.span_s)
    return f"""
WITH whole AS (
    SELECT duration_s AS ended, greatest(0, round(ended / {span}) - 1) AS last
    FROM session_throughput
), counted AS MATERIALIZED (
    SELECT CASE WHEN last < number THEN last ELSE number END AS number, label, detections
    FROM whole, label_windows({span})
), ranked AS (
    SELECT label, row_number() OVER (ORDER BY sum(detections) DESC, label) AS place
    FROM counted GROUP BY label
), named AS (
    SELECT number, CASE WHEN number = last THEN ended - last * {span} ELSE {span} END AS seconds,
           CASE WHEN place > {_LABELS} THEN '(other labels)'
                ELSE coalesce(ranked.label, '(no label)') END AS label, detections
    FROM whole, counted JOIN ranked ON counted.label IS NOT DISTINCT FROM ranked.label
    WHERE number IS NOT NULL AND ended IS NOT NULL
)
SELECT number * {span} AS second, seconds, label, sum(detections)::BIGINT AS detections,
       sum(detections) / seconds AS per_second
FROM named
GROUP BY number, seconds, label
ORDER BY second, label"""


def _labels_spec(rows: Rows, extent: Extent) -> Spec:
    layer = {
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            "y": measure("per_second", "detections, 1/s", stack="zero"),
            "color": {
                "field": "label",
                "type": "nominal",
                "scale": {"scheme": "tableau10"},
                "legend": {"title": None, "orient": "top", "columns": 5},
            },
            "tooltip": tooltip(
                second="from second", label="label", detections="detections", per_second="1/s"
            ),
        },
    }
    return over_time(rows, extent, [layer], height=200, spans=True)


# --- signals -------------------------------------------------------------------------------------


def _signals_sql(extent: Extent) -> str:
    span = number_text(extent.span_s)
    return f"""
WITH named AS (
    SELECT name, value,
           (epoch_us(time) - (SELECT min(epoch_us(captured_at)) FROM frames)) / 1e6 AS passed
    FROM signals
)
SELECT name, floor(passed / {span}) * {span} AS second, count(*) AS values,
       avg(value) AS mean, min(value) AS least, max(value) AS most
FROM named
WHERE passed IS NOT NULL
  AND name IN (SELECT name FROM named GROUP BY name ORDER BY name LIMIT {_MOST_SIGNALS})
GROUP BY name, second
ORDER BY name, second"""


def _signals_spec(rows: Rows, extent: Extent) -> Spec:
    y = {"type": "quantitative", "scale": {"zero": False}, "axis": {"title": None, "tickCount": 3}}
    shown = tooltip(
        name="signal",
        second="from second",
        mean="mean",
        least="least",
        most="most",
        values="values",
    )
    layers: list[Spec] = [
        {
            "mark": {"type": "area", "opacity": 0.25, "color": _BLUE},
            "encoding": {"y": {"field": "least", **y}, "y2": {"field": "most"}},
        },
        {
            "mark": {"type": "line", "strokeWidth": 1.2, "color": _BLUE, "point": {"size": 8}},
            "encoding": {"y": {"field": "mean", **y}, "tooltip": shown},
        },
    ]
    whole = over_time(rows, extent, layers, height=60)
    one = {key: whole.pop(key) for key in ("width", "height", "layer")}
    del one["layer"][0]["params"]  # each would zoom by itself
    header = {"labelAngle": 0, "labelAlign": "left", "labelOrient": "top", "labelAnchor": "start"}
    return {
        **whole,
        "facet": {"row": {"field": "name", "type": "nominal", "title": None, "header": header}},
        "spec": one,
        "resolve": {"scale": {"y": "independent"}},
    }


CHARTS = (
    ChartPlan(
        "latency",
        "Latency over time",
        "From capture to result, queueing included. Red marks at the foot: frames lost there. "
        "Violet lines: what the program marked.",
        _latency_sql,
        _latency_spec,
        more={"marks": _marks_sql},
        at_least=2,
    ),
    ChartPlan(
        "histogram",
        "How latencies are spread",
        "If there are two humps, frames went through the pipeline in two ways; if there is a long "
        "tail, it is what makes p99.",
        _histogram_sql,
        _histogram_spec,
        nothing=_no_latencies,
        more={"quantiles": _quantiles_sql},
    ),
    ChartPlan(
        "stages",
        "Where the time goes",
        "Mean of each stage. “other” is the rest of the latency: waiting between stages, and "
        "transport.",
        _stages_sql,
        _stages_spec,
        at_least=FRAMES_IN_SPAN,
    ),
    ChartPlan(
        "throughput",
        "Throughput",
        "Results as they came out. Red marks at the foot: frames lost there.",
        _throughput_sql,
        _throughput_spec,
        at_least=FRAMES_IN_SPAN,
    ),
    ChartPlan(
        "detections",
        "Detections by label",
        "How many detections of each label a second brought.",
        _labels_sql,
        _labels_spec,
        nothing=_no_detections,
        at_least=FRAMES_IN_SPAN,
    ),
    ChartPlan(
        "signals",
        "Signals",
        "What was logged beside the frames: mean, least and most.",
        _signals_sql,
        _signals_spec,
        nothing=lambda _: "Nothing was logged.",
        at_least=2,
        is_optional=True,
    ),
)

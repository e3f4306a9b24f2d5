"""Sections of a report: plots, tables and pictures, each with the SQL behind it."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa

from dgrec.footage import Pixels
from dgrec.format import LARGEST_MEASUREMENT
from dgrec.rates import exact_rate_text, rate_text
from dgrec.replay.output import cell_text
from dgrec.replay.query import SqlReader
from dgrec.replay.report.pictures import SLOWEST, Picture, pictures
from dgrec.replay.report.plots import CHARTS, ChartPlan
from dgrec.replay.report.vega import Extent, Rows, number_text
from dgrec.replay.stats import LABELS_QUERY, Pipeline, caveats, explain, moments
from dgrec.session import Session
from dgrec.units import counted
from dgrec.version import __version__


@dataclass(frozen=True)
class _Column:
    title: str
    number: bool


@dataclass
class Section:
    """One part of the page: a plot, a table, or pictures."""

    name: str
    title: str
    text: str
    #: The SQL that made it, by its name.
    statements: dict[str, str] = field(default_factory=dict)
    #: The rows of a plot's statements, and its facts (`Plot` in the page's plots.ts).
    plot: dict[str, Any] | None = None
    columns: list[_Column] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    #: The text if there is nothing to show.
    nothing: str = ""
    #: Warnings about the pictures.
    caveats: list[str] = field(default_factory=list)
    #: The text below a table that does not show every row.
    rest: str = ""


@dataclass(frozen=True)
class _TablePlan:
    name: str
    title: str
    text: str
    sql: str
    nothing: str = "None."
    #: Rows that are shown at most.
    limit: int | None = None


_FIRST_TABLES = (
    _TablePlan(
        "pipeline",
        "Why this rate",
        "Little's law: frames on their way at a time = rate x latency. A pipeline that works on "
        "several frames at once is faster than one over its latency. Without the warm-up.",
        "SELECT * EXCLUDE (session_id) FROM pipeline",
    ),
    _TablePlan(
        "load",
        "How busy each stage is",
        "A stage that is busy nearly all the time is what limits the rate.",
        "SELECT * EXCLUDE (session_id) FROM stage_load",
    ),
)
_LABELS = _TablePlan(
    "labels",
    "Labels",
    "",
    LABELS_QUERY,
    "Nothing was detected.",
    limit=50,
)
_LAST_TABLES = (
    _TablePlan(
        "stage-table",
        "Stages in numbers",
        "Milliseconds, all frames, the first one too.",
        "SELECT * EXCLUDE (session_id) FROM stage_latency",
    ),
    _TablePlan(
        "targets",
        "What was published",
        "Frames that were due for each target while recording, and those that it took. "
        "`dgrec publish --missing` sends the rest.",
        "SELECT target, payload, every, frames, delivered, left_out FROM targets",
        "Nothing was published while recording.",
    ),
    _TablePlan(
        "losses",
        "Frames that are missing",
        "Left out on purpose (skipped), or lost: at the camera, while waiting for inference, or "
        "in front of a slow disk.",
        "SELECT place, frames, at_start, share FROM losses",
    ),
    _TablePlan(
        "late",
        "Late frames, and what was to blame",
        "The part of the way that took most above its own median. The slowest frame first.",
        "SELECT frame, captured_at, total_ms, late_by_ms, blame, blame_ms FROM late_frames()\n"
        "ORDER BY total_ms DESC, frame",
        "No frame was late by the rule of late_frames().",
        limit=20,
    ),
    _TablePlan(
        "stalls",
        "Stalls",
        "Times without a result, the longest first.",
        "SELECT * EXCLUDE (session_id) FROM stalls()\nORDER BY gap_ms DESC, frame",
        "No gap between results was longer than three times the median and 100 ms.",
        limit=20,
    ),
    _LABELS,
    _TablePlan(
        "warm-up",
        "Warm-up",
        "How many frames came before the session had settled. They are in every number above "
        "unless it says otherwise.",
        "SELECT * EXCLUDE (session_id) FROM warm_up",
    ),
    _TablePlan(
        "recording",
        "The recording",
        "",
        "SELECT unnest(['source', 'model', 'device', 'inference host', 'host', 'started',\n"
        "               'ended', 'end reason', 'session id']) AS what,\n"
        "       unnest([source, model, device, inference_host, host, started_at::VARCHAR,\n"
        "               ended_at::VARCHAR, end_reason, session_id]) AS value\n"
        "FROM sessions",
    ),
)


def report_of(session: Session, pixels: Pixels | None = None) -> dict[str, Any]:
    """Return the contents of a session's report, as `Report` in the page's report.ts.

    Args:
        pixels: Where the strip of the slowest frames comes from; without it there is none.
    """
    with SqlReader([session]) as reader:
        extent = extent_of(session, reader)
        # Counting labels keeps one core busy, DuckDB another one.
        with ThreadPoolExecutor(1, thread_name_prefix="dgrec-report") as beside:
            windows = beside.submit(_label_windows, session, extent)
            pipelines = explain([session], reader)
            reader.keep("session_throughput")
            tables = {plan.name: _table(reader, plan) for plan in _LAST_TABLES if plan != _LABELS}
            reader.put("label_windows", windows.result(), instead_of="_label_counts")
            tables[_LABELS.name] = _table(reader, _LABELS)
            # Drawing takes libraries and memory, and those tables take much: not at the same time.
            slowest = [] if pixels is None else reader.rows(SLOWEST)
            strip = None if pixels is None else beside.submit(_strip, slowest, session, pixels)
            sections = [*_charts(reader, session, extent)]
            if strip is not None:
                sections.append(strip.result())
        sections += [tables[plan.name] for plan in _LAST_TABLES]
        return {
            "name": str(session.metadata.get("name") or session.path.stem),
            "path": session.path.name.encode(errors="backslashreplace").decode(),
            "summary": _summary(reader, extent, moments(session), pipelines),
            "facts": _facts(session),
            "caveats": caveats(session),
            "findings": [finding for item in pipelines for finding in item.findings],
            "sections": sections,
            "version": __version__,
        }


# --- sections ------------------------------------------------------------------------------------


def _label_windows(session: Session, extent: Extent) -> pa.Table:
    with session.for_another_thread() as own, SqlReader([own]) as reader:
        windows = reader.stream(f"FROM label_windows({number_text(extent.span_s)})")
        return pa.Table.from_batches(windows.batches, windows.schema)


def _charts(reader: SqlReader, session: Session, extent: Extent) -> Iterator[Section]:
    for plan in CHARTS:
        chart = chart_of(reader, plan, extent)
        if chart.plot is not None or not plan.is_optional:
            yield chart
        # For a clip of several moments, rates and loads mean nothing.
        if plan.name == "stages" and moments(session) == 1:
            for table in _FIRST_TABLES:
                yield _table(reader, table)


def chart_of(reader: SqlReader, plan: ChartPlan, extent: Extent) -> Section:
    statements = {"SQL": plan.sql(extent).strip()} | {
        f"SQL of the {name}": make(extent).strip() for name, make in plan.more.items()
    }
    section = Section(plan.name, plan.title, plan.text, statements)
    if 0 < extent.frames < plan.at_least:
        section.nothing = f"{counted(extent.frames, 'frame')}: too little to draw over time."
        return section
    rows: Rows = []
    if extent.frames:
        found = {name: list(map(_plain, reader.rows(sql))) for name, sql in statements.items()}
        rows = [row for of_statement in found.values() for row in of_statement]
        # A statement that adds nothing to the plot is not shown.
        section.statements = {
            name: sql for name, sql in statements.items() if name == "SQL" or found[name]
        }
    if rows:
        section.plot = {
            "name": plan.name,
            "title": plan.title,
            "rows": rows,
            "seconds": extent.seconds,
            "span_s": extent.span_s,
            "bin_ms": extent.bin_ms,
        }
    else:
        section.nothing = plan.nothing(extent)
    return section


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of values that JSON has: no `Decimal`."""
    return {
        key: value if value is None or isinstance(value, str) else float(value)
        for key, value in row.items()
    }


def _table(reader: SqlReader, plan: _TablePlan) -> Section:
    sql, rest = plan.sql, ""
    result = reader.stream(sql)
    rows: list[list[Any]] = []
    there = 0
    for batch in result.batches:  # counting them takes no second statement
        shown = batch if plan.limit is None else batch.slice(0, max(0, plan.limit - there))
        rows += [list(row.values()) for row in shown.to_pylist()]
        there += batch.num_rows
    if plan.limit is not None:
        sql = f"{sql}\nLIMIT {plan.limit}"
        if there > plan.limit:
            rest = f"The first {plan.limit:,} of {there:,}."
    numeric = [
        any(isinstance(row[i], int | float | Decimal) for row in rows)
        for i in range(len(result.schema))
    ]
    return Section(
        plan.name,
        plan.title,
        plan.text,
        {"SQL": sql},
        columns=[
            _Column(_column_title(name), number)
            for name, number in zip(result.schema.names, numeric, strict=True)
        ],
        rows=[[_cell(value) for value in row] for row in rows],
        nothing="" if rows else plan.nothing,
        rest=rest,
    )


def _column_title(name: str) -> str:
    for suffix, unit in (("_ms", ", ms"), ("_s", ", s")):
        if name.endswith(suffix):
            return name.removesuffix(suffix).replace("_", " ") + unit
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | Decimal):
        return exact_rate_text(float(value)) if value % 1 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03}"
    return cell_text(value)


def _strip(rows: Rows, session: Session, pixels: Pixels) -> Section:
    section = Section(
        "slowest",
        "The slowest frames",
        "With what was found in them, in the order of the recording.",
        {"SQL": SLOWEST.strip()},
        nothing="No frames.",
    )
    if not rows:
        return section
    with session.for_another_thread() as own:
        section.pictures = pictures(own, sorted(rows, key=lambda row: int(row["frame"])), pixels)
    # Missing pixels are noticed; pixels that are black, or from another file, are not.
    if pixels.footage.note:
        section.caveats = [f"{pixels.footage.note[0].upper()}{pixels.footage.note[1:]}."]
    missing = len(rows) - len(section.pictures)
    section.nothing = f"{missing} of them have no pixels." if missing else ""
    return section


def extent_of(session: Session, reader: SqlReader) -> Extent:
    (row,) = reader.rows(
        "SELECT count(*) AS frames, "
        "coalesce(_seconds(captured_at, completed_at), 0) AS seconds, "
        "quantile_cont(latency_ms, 0.995) "
        f"FILTER (abs(latency_ms) <= {LARGEST_MEASUREMENT}) AS latency_ms FROM frames"
    )
    return Extent(**row, detections=session.totals["detections"] or 0)


def _facts(session: Session) -> dict[str, str]:
    """Return what was recorded, when and where: the head of the page."""
    metadata = session.metadata
    model, source, host = (metadata.get(name, {}) for name in ("model", "source", "host"))
    started = metadata.get("started_at")
    with contextlib.suppress(ValueError):  # a stamp of another tool
        started = f"{dt.datetime.fromisoformat(str(started)):%Y-%m-%d %H:%M:%S} UTC"
    machine = [host.get("name"), host.get("system"), host.get("machine")]
    facts = {
        "Model": [model.get("name"), model.get("device"), model.get("inference_host")],
        "Source": [source.get("given"), source.get("file")],
        "Recorded": [started],
        "Host": machine,
    }
    known = {name: dict.fromkeys(str(v) for v in values if v) for name, values in facts.items()}
    return {name: ", ".join(values) or "unknown" for name, values in known.items()}


def _summary(reader: SqlReader, extent: Extent, moments: int, pipelines: Sequence[Pipeline]) -> str:
    """Return the session in a line; its rate is that of `dgrec stats`.

    If the findings are about the frames after the warm-up, the rate of these is named, too.
    """
    if moments > 1:
        frames = f"{counted(extent.frames, 'frame')} of {moments:,} moments"
        return f"{frames}; {counted(extent.detections, 'detection')}."
    parts = [counted(extent.frames, "frame")]
    for row in reader.rows("SELECT fps, duration_s FROM session_throughput"):
        if row["fps"] is not None:
            rate = f"{rate_text(row['fps'])} frames a second"
            later = {rate_text(each.fps) for each in pipelines if each.left_out}
            if later - {rate_text(row["fps"]), "-"}:
                rate += f" ({', '.join(later)} without the warm-up, as below)"
            parts.append(f"in {row['duration_s']:,.1f} s, {rate}")
    return f"{' '.join(parts)}; {counted(extent.detections, 'detection')}."

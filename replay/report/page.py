"""A session as one HTML file: plots, tables, the slowest frames, and the SQL behind each.

The file opens offline and loads nothing: its scripts are inside it, and a content security policy
lets no other run. Whatever comes from the session (labels, names, notes) is text wherever it
stands, never markup or script.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgrec.errors import DgrecError
from dgrec.files import NewFile, check_new_file, output_error
from dgrec.footage import recorded_files, refuse_recorded
from dgrec.format import LARGEST_MEASUREMENT
from dgrec.rates import exact_rate_text, rate_text
from dgrec.replay.output import cell_text
from dgrec.replay.query import SqlReader
from dgrec.replay.report.pictures import SLOWEST, Picture, pictures
from dgrec.replay.report.plots import CHARTS, ChartPlan
from dgrec.replay.report.vega import Extent, Rows, Spec, number_text
from dgrec.replay.stats import caveats, explain, moments
from dgrec.units import counted
from dgrec.version import __version__

if TYPE_CHECKING:
    from dgrec.footage import Pixels
    from dgrec.replay.stats import Pipeline
    from dgrec.session import Session

__all__ = ["PLOTS", "write_plot", "write_report"]

#: Names of the plots, in their order.
PLOTS = tuple(plan.name for plan in CHARTS)

_BUNDLER = """\
import sys
sys.path[:] = sys.argv[1:]
import vl_convert
sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())
"""


@dataclass(frozen=True)
class _Column:
    title: str
    number: bool


@dataclass
class _Section:
    """One part of the page: a plot, a table, or pictures."""

    name: str
    title: str
    text: str
    #: The SQL that made it, by its name.
    statements: dict[str, str] = field(default_factory=dict)
    spec: Spec | None = None
    columns: list[_Column] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    #: Said instead where there is nothing to show.
    nothing: str = ""
    #: Warnings about the pictures.
    caveats: list[str] = field(default_factory=list)
    #: Said below a table that does not show every row.
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
    _TablePlan(
        "labels",
        "Labels",
        "",
        "SELECT label, detections, frames, per_second, mean_score FROM label_rate\n"
        "ORDER BY detections DESC, label",
        "Nothing was detected.",
        limit=50,
    ),
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


def write_report(
    session: Session,
    output: Path,
    *,
    pixels: Pixels | None = None,
    overwrite: bool = False,
) -> None:
    """Write the report of ``session`` to ``output``.

    Args:
        session: The session.
        output: The HTML file to write; it appears when it is whole.
        pixels: Where the strip of the slowest frames comes from; without it there is none.
        overwrite: Whether ``output`` may be replaced.

    Raises:
        OutputError: The file exists, or cannot be written.
        DgrecError: The libraries that draw the plots are not installed.
    """
    check_file(output, overwrite=overwrite, keep=recorded_files([session]))
    template, start = _template(), _resource("start.js")
    with _bundling() as bundler, SqlReader([session]) as reader:
        extent = _extent(session, reader)
        pipelines = explain([session], reader)
        reader.keep("session_throughput", f"label_windows({number_text(extent.span_s)})")
        summary = _summary(reader, extent, moments(session), pipelines)
        sections = list(_sections(reader, session, extent, pixels))
        library = _bundled(bundler)
    page = template.render(
        name=str(session.metadata.get("name") or session.path.stem),
        path=session.path.name,
        summary=summary,
        caveats=caveats(session),
        facts=_facts(session),
        findings=[finding for item in pipelines for finding in item.findings],
        sections=sections,
        library=library,
        start=start,
        policy=_policy(library, start),
        version=__version__,
    )
    # Names of files may hold bytes that are no UTF-8, and texts halves of characters.
    write_file(output, page.encode("utf-8", "backslashreplace"), overwrite=overwrite)


def write_plot(session: Session, name: str, output: Path, *, overwrite: bool = False) -> None:
    """Write the plot ``name`` (one of `PLOTS`) as a PNG, twice as dense as on the page.

    Raises:
        OutputError: The file exists, or cannot be written.
        DgrecError: There is nothing to draw, or no library to draw it.
    """
    check_file(output, overwrite=overwrite, keep=recorded_files([session]))
    plan = next(plan for plan in CHARTS if plan.name == name)
    with SqlReader([session]) as reader:
        section = _chart(reader, plan, _extent(session, reader))
    if section.spec is None:
        raise DgrecError(f"{session.path}: no plot of {name}: {section.nothing}")
    write_png(section.spec, section.title, output, overwrite=overwrite)


def write_png(spec: Spec, title: str, output: Path, *, overwrite: bool = False) -> None:
    """Write a plot as a PNG, twice as dense as on a page.

    Raises:
        OutputError: The file exists, or cannot be written.
        DgrecError: There is no library to draw it.
    """
    vl_convert = _import("vl_convert")
    # A picture stands alone: it needs a ground of its own, and a title.
    spec = {**spec, "background": "white", "title": title, "padding": 12}
    write_file(output, vl_convert.vegalite_to_png(spec, scale=2), overwrite=overwrite)


# --- sections ------------------------------------------------------------------------------------


def _sections(
    reader: SqlReader,
    session: Session,
    extent: Extent,
    pixels: Pixels | None,
) -> Iterator[_Section]:
    for plan in CHARTS:
        chart = _chart(reader, plan, extent)
        if chart.spec is not None or not plan.is_optional:
            yield chart
        # Of moments of a recording, rates and loads say nothing.
        if plan.name == "stages" and moments(session) == 1:
            for table in _FIRST_TABLES:
                yield _table(reader, table)
    # Drawing takes libraries and memory that the statements can do without.
    tables = [_table(reader, table) for table in _LAST_TABLES]
    if pixels is not None:
        yield _strip(reader, session, pixels)
    yield from tables


def _chart(reader: SqlReader, plan: ChartPlan, extent: Extent) -> _Section:
    statements = {"SQL": plan.sql(extent).strip()} | {
        f"SQL of the {name}": make(extent).strip() for name, make in plan.more.items()
    }
    section = _Section(plan.name, plan.title, plan.text, statements)
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
        section.spec = plan.spec(rows, extent)
    else:
        section.nothing = plan.nothing
    return section


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose values JSON knows: no decimals."""
    return {
        key: value if value is None or isinstance(value, str) else float(value)
        for key, value in row.items()
    }


def _table(reader: SqlReader, plan: _TablePlan) -> _Section:
    sql, rest = plan.sql, ""
    result = reader.stream(sql)
    rows: list[list[Any]] = []
    there = 0
    for batch in result.batches:  # how many there are takes no second statement
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
    return _Section(
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


def _strip(reader: SqlReader, session: Session, pixels: Pixels) -> _Section:
    section = _Section(
        "slowest",
        "The slowest frames",
        "With what was found in them, in the order of the recording.",
        {"SQL": SLOWEST.strip()},
        nothing="No frames.",
    )
    rows = sorted(reader.rows(SLOWEST), key=lambda row: int(row["frame"]))
    if not rows:
        return section
    section.pictures = pictures(session, rows, pixels)
    # That pixels are missing shows; that they are black, or from another file, does not.
    if pixels.footage.note:
        section.caveats = [f"{pixels.footage.note[0].upper()}{pixels.footage.note[1:]}."]
    missing = len(rows) - len(section.pictures)
    section.nothing = f"{missing} of them have no pixels." if missing else ""
    return section


def _extent(session: Session, reader: SqlReader) -> Extent:
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
    with contextlib.suppress(ValueError):  # of another tool
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

    Where what limits the rate is said of the frames after the warm-up, their rate is named, too.
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


# --- the page ------------------------------------------------------------------------------------


def _policy(*scripts: str) -> str:
    """Return a content security policy under which only ``scripts`` run and nothing is loaded."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _template() -> Any:
    jinja2 = _import("jinja2")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_resource("report.html"))


def _resource(name: str) -> str:
    return resources.files("dgrec.replay.report").joinpath(name).read_text(encoding="utf-8")


def _bundling() -> subprocess.Popen[bytes]:
    """Start a process that makes one script of the plot libraries.

    It takes a second and 130 MB, in which no other Python code of its process can run.
    """
    _import("vl_convert")
    return subprocess.Popen(
        [sys.executable, "-c", _BUNDLER, *sys.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _bundled(bundler: subprocess.Popen[bytes]) -> str:
    script, errors = bundler.communicate()
    if bundler.returncode:
        lines = errors.decode(errors="replace").splitlines() or [f"exit code {bundler.returncode}"]
        raise DgrecError(f"the plot libraries cannot be bundled: {lines[-1]}")
    # Inside a page, this text would end the script.
    assert b"</script" not in script.lower()
    return script.decode()


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise DgrecError(
            "reports need libraries that are not installed: `pip install 'dgrec[report]'`"
        ) from None


def check_file(path: Path, *, overwrite: bool, keep: Sequence[Path]) -> None:
    """Raise `OutputError` if ``path`` cannot be written, before any work is done.

    ``keep`` is never written over, as it holds what was recorded.
    """
    refuse_recorded(path, keep)
    check_new_file(path, overwrite=overwrite)


def write_file(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write ``data`` so that the file appears when it is whole."""
    try:
        with NewFile(path, replace=overwrite) as new:
            new.file.write(data)
    except OSError as error:
        raise output_error(path, error) from None

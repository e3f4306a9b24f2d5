"""Every number that two commands show of a session is the same number, and numpy's."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

import dgrec
from dgrec.replay import report
from dgrec.replay.info import describe
from dgrec.replay.listing import listed
from dgrec.replay.output import json_text
from dgrec.replay.query import SqlReader
from dgrec.replay.stats import Follower, explain, measure, moments
from dgrec.replay.stats.questions import by_query
from dgrec.session import Session
from tests.factory import START_NS, make_row, new_metadata, write_session
from tests.replay.made_sessions import COUNTS, DURATIONS, make_sessions
from tests.reports import ReportPage

#: What a figure is of, by who shows it.
Figures = defaultdict[str, dict[str, Any]]

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_PLACES = ("camera", "queue", "writer")
_LOST = ("dropped", *(f"dropped_{place}" for place in _PLACES))
_TOTALS = ("frames", "detections", "skipped", *_LOST, *(f"{name}_at_start" for name in _LOST))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_sessions(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a dgrec command in this process."""
    import dgrec.replay.cli
    from dgrec.cli import root

    for command in dgrec.replay.cli.COMMANDS:
        root.add_command(command)
    return lambda *arguments: CliRunner().invoke(root, [*map(str, arguments)])


# --- who shows what ------------------------------------------------------------------------------


def of_numpy(session: Session, add: Callable[[str, Any], None]) -> None:
    frames = session.frames
    labels = session.detections
    add("frames", frames.num_rows)
    add("detections", labels.num_rows)
    for name in DURATIONS:
        values = _finite(frames, name)
        stage = name.removesuffix("_ms")
        add(f"{stage} count", len(values))
        add(f"{stage} mean", values.mean() if len(values) else None)
        add(f"{stage} max", values.max() if len(values) else None)
        for quantile, q in _QUANTILES.items():
            add(f"{stage} {quantile}", np.quantile(values, q) if len(values) else None)
    for name in COUNTS:
        values = _finite(frames, name)
        is_known = len(values) or not frames.num_rows
        lost = {"skipped_before": "skipped", "dropped_before": "dropped"}.get(name, name)
        add(_in_all(lost), int(values.sum()) if is_known else None)
        if name != "skipped_before":
            at_start = int(np.nansum(_raw(frames, name)[_at_start(session)]))
            add(f"{lost}_at_start", at_start if is_known else None)
            add(lost, int(values.sum()) - at_start if is_known else None)
    for stretch, rate in (("throughput", _rate(frames)), ("whole window", _rate(frames))):
        add(stretch, rate)
    if captured := _known(frames, "captured_at"):
        completed = _known(frames, "completed_at")
        add("duration", (max(completed) - min(captured)) / 1e6 if completed else None)
    for label in {*labels["label"].to_pylist()}:
        found = [row for row in labels.to_pylist() if row["label"] == label]
        scores = [row["score"] for row in found if row["score"] is not None]
        known = [score for score in scores if math.isfinite(score)]
        add(f"label {label} detections", len(found))
        add(f"label {label} frames", len({row["frame"] for row in found}))
        add(f"label {label} mean score", np.mean(known) if known else None)


def of_stats(session: Session, add: Callable[[str, Any], None]) -> None:
    stats = measure(session)
    add("frames", stats.frames)
    add("detections", stats.detections)
    add("duration", stats.duration_s)
    add("throughput", stats.throughput_fps)
    add("skipped", stats.skipped)
    add("dropped", stats.dropped["total"])
    add("dropped_at_start", stats.dropped["at_start"])
    for place in _PLACES:
        add(f"dropped_{place}", stats.dropped[place])
    add("warm-up", stats.warm_up["frames"])
    add("settled", stats.warm_up["has_settled"])
    for name, values in stats.stages.items():
        for statistic in ("count", "mean", *_QUANTILES, "max"):
            add(f"{name.removesuffix('_ms')} {statistic}", getattr(values, statistic))
    for label in stats.labels:
        add(f"label {label.label} detections", label.detections)
        add(f"label {label.label} frames", label.frames)
        add(f"label {label.label} mean score", label.mean_score)
        add(f"label {label.label} per second", label.per_second)


def of_info(session: Session, add: Callable[[str, Any], None]) -> None:
    info = describe(session)
    add("frames", info["frames"])
    add("detections", info["detections"])
    add("bytes", info["bytes"])
    for name, count in info["totals"].items():
        if name in _TOTALS:
            add(name, count)


def of_python(session: Session, add: Callable[[str, Any], None]) -> None:
    for name, count in session.totals.items():
        add(name, count)


def of_list(session: Session, add: Callable[[str, Any], None]) -> None:
    """What `dgrec list` shows."""
    found = listed(session)
    for name in ("frames", "detections", "dropped"):
        add(name, getattr(found, name))
    add("duration", found.duration_s)
    add("throughput", found.fps)


def of_follower(session: Session, add: Callable[[str, Any], None]) -> None:
    """What `dgrec stats --follow` shows of a journal."""
    if session.sealed or session.damage:
        return
    follower = Follower(session.files[-1])
    while follower.poll() and follower.will_be_sealed:
        pass
    found = follower.snapshot()
    follower.close()
    for name in ("frames", "detections", "skipped", "dropped", "dropped_at_start"):
        add(name, getattr(found, name))
    add("duration", round(found.seconds, 6))  # of stamps in seconds
    if sum(found.results_by_second) == found.frames:  # all of it is recent
        for name, value in zip(_QUANTILES, found.recent_latency_ms or [None] * 3, strict=True):
            add(f"latency {name}", value)
        add("inference p50", found.recent_inference_ms)


def of_metadata(session: Session, add: Callable[[str, Any], None]) -> None:
    """The totals that the recorder left, where it did and nobody has edited the file since."""
    totals = session.metadata.get("totals")
    if not session.has_checksums or totals is None:
        return
    for name in ("frames", "detections", "skipped", "dropped", *(f"dropped_{p}" for p in _PLACES)):
        add(_in_all(name), totals[name])
    for name in _TOTALS:
        if name.endswith("_at_start"):
            add(name, totals[name])


def of_sql(reader: SqlReader, add: Callable[[str, str, Any], None]) -> None:
    """The views, asked once about all sessions; ``add`` takes the session's id first."""
    for row in reader.rows("FROM sessions"):
        for name in ("frames", "detections", "skipped", "dropped", "dropped_at_start", "bytes"):
            add(row["session_id"], name, row[name])
        if row["dropped"] is not None and row["dropped_at_start"] is not None:
            in_all = row["dropped"] + row["dropped_at_start"]
            add(row["session_id"], _in_all("dropped"), in_all)
    for row in reader.rows("FROM stage_latency WHERE stage <> 'waiting'"):
        add(row["session_id"], f"{row['stage']} count", row["frames"])
        for statistic in ("mean", *_QUANTILES, "max"):
            add(row["session_id"], f"{row['stage']} {statistic}", row[f"{statistic}_ms"])
    for row in reader.rows("FROM session_throughput"):
        add(row["session_id"], "duration", row["duration_s"])
        add(row["session_id"], "throughput", row["fps"])
    for row in reader.rows("FROM losses"):
        name = row["place"] if row["place"] == "skipped" else f"dropped_{row['place']}"
        add(row["session_id"], name, row["frames"])
        if row["place"] != "skipped":
            add(row["session_id"], f"{name}_at_start", row["at_start"])
    for row in reader.rows("FROM end_to_end_latency"):
        for statistic in ("mean", *_QUANTILES, "max"):
            add(row["session_id"], f"latency {statistic}", row[f"{statistic}_ms"])
    for row in reader.rows("FROM latency_quantile(0.95)"):
        add(row["session_id"], "latency p95", row["latency_ms"])
    for row in reader.rows(
        "SELECT session_id, rate(captured_at, completed_at) AS fps, count(*) AS frames "
        "FROM steady_frames GROUP BY session_id"
    ):
        add(row["session_id"], "steady throughput", row["fps"])
        add(row["session_id"], "steady frames", row["frames"])
    for row in reader.rows("FROM pipeline"):
        add(row["session_id"], "throughput that ran", row["fps"])
        add(row["session_id"], "frames that ran", row["frames"])
        add(row["session_id"], "in flight", row["in_flight"])
    for row in reader.rows("FROM stage_load"):
        add(row["session_id"], f"{row['stage']} busy", row["busy"])
    for row in reader.rows("SELECT session_id, count(*) AS count FROM stalls() GROUP BY 1"):
        add(row["session_id"], "stalls", row["count"])
    for row in reader.rows(
        "SELECT session_id, any_value(stalls) * 6e7 / sum(greatest(0, step)) AS rate FROM ("
        "SELECT session_id, epoch_us(completed_at) - lag(epoch_us(completed_at)) OVER "
        "(PARTITION BY session_id ORDER BY frame) AS step FROM frames"
        ") JOIN (SELECT session_id, count(frame) AS stalls FROM session_throughput "
        "LEFT JOIN stalls() USING (session_id) GROUP BY session_id) USING (session_id) GROUP BY 1"
    ):
        add(row["session_id"], "stalls a minute", row["rate"])
    for row in reader.rows("SELECT session_id, count(*) AS count FROM late_frames() GROUP BY 1"):
        add(row["session_id"], "late frames", row["count"])
    for row in reader.rows("SELECT session_id, count(*) AS count FROM tracks GROUP BY 1"):
        add(row["session_id"], "tracks", row["count"])
    for row in reader.rows("FROM jitter"):
        add(row["session_id"], "capture jitter", row["capture_jitter_ms"])
        add(row["session_id"], "result jitter", row["result_jitter_ms"])
    for row in reader.rows("FROM detection_rate"):
        add(row["session_id"], "detections", row["detections"] or 0)
        add(row["session_id"], "detections per second", row["per_second"])
        add(row["session_id"], "detections per frame", row["per_frame"])
    for row in reader.rows("FROM label_rate"):
        for name in ("detections", "frames", "mean_score", "per_second"):
            label = f"label {row['label']} {name.replace('_', ' ')}"
            add(row["session_id"], label, row[name])
    for row in reader.rows("FROM warm_up"):
        add(row["session_id"], "warm-up", row["warm_up_frames"])
        add(row["session_id"], "settled", row["has_settled"])


def of_why(
    reader: SqlReader, sessions: Mapping[str, Session], add: Callable[[str, str, Any], None]
) -> None:
    """What `dgrec stats --why` is made of, which leaves out what came before the session ran."""
    # A clip of several moments has no rate.
    of_moments = {session.id for session in sessions.values() if moments(session) > 1}
    for p in explain(list(sessions.values()), reader):
        add(p.session_id, "dropped_at_start", p.dropped_at_start)
        add(p.session_id, "frames that ran", p.frames)
        if p.session_id in of_moments:
            continue
        add(p.session_id, "throughput that ran", p.fps)
        for load in p.loads:
            add(p.session_id, f"{load.stage} busy", load.busy)


def of_windows(reader: SqlReader, add: Callable[[str, str, Any], None]) -> None:
    """Windows have every row that has a stamp, once."""
    whole = reader.rows(
        "SELECT session_id FROM frames GROUP BY session_id "
        "HAVING count(completed_at) = count(*) AND count(captured_at) > 0"
    )
    of_all = {row["session_id"] for row in whole}
    for row in reader.rows(
        "SELECT session_id, sum(frames) AS frames, sum(skipped) FILTER (frames > 0) AS skipped, "
        "sum(dropped) FILTER (frames > 0) AS dropped, "
        "sum(dropped_at_start) FILTER (frames > 0) AS dropped_at_start "
        "FROM throughput(0.7) GROUP BY session_id"
    ):
        if row["session_id"] in of_all:
            for name in ("frames", "skipped", "dropped", "dropped_at_start"):
                add(row["session_id"], name, row[name])
    for row in reader.rows("FROM throughput(1e6)"):
        add(row["session_id"], "whole window", row["fps"] or None)
        if row["session_id"] in of_all:
            for quantile in ("p50", "p95"):
                add(row["session_id"], f"latency {quantile}", row[f"latency_{quantile}_ms"])


def of_groups(reader: SqlReader, add: Callable[[str, str, Any], None]) -> None:
    """What `dgrec stats --by session` shows, which is rounded."""
    for row in reader.rows(by_query("session")):
        for name in ("frames", "dropped", "dropped_at_start", "detections"):
            add(row["session_id"], name, row[name])
        for quantile in _QUANTILES:
            add(row["session_id"], f"latency {quantile} rounded", row[f"latency_{quantile}_ms"])
        add(row["session_id"], "inference p50 rounded", row["inference_p50_ms"])
        add(row["session_id"], "throughput rounded", row["fps"])


def of_comparison(session: Session, add: Callable[[str, Any], None]) -> None:
    if "source_frame" not in session.schema.names or not len(session):
        return
    try:
        comparison = dgrec.compare(session, session)
    except dgrec.NotASessionError:  # a column is missing
        return
    (recording,) = comparison.base
    add("frames", recording.frames)
    add("warm-up", recording.warm_up)
    add("skipped", recording.skipped)
    add("dropped", recording.lost)
    add("dropped_at_start", recording.dropped_at_start)
    add("settled", recording.has_settled)
    for place in _PLACES:
        add(f"dropped_{place}", recording.dropped[place])
    is_whole = recording.compared == recording.frames
    for row in comparison.rows:
        assert row.base.value == row.new.value, row
        assert row.verdict in ("SAME", "UNCLEAR"), row
        stage, _, statistic = row.metric.removesuffix("_ms").rpartition("_")
        if statistic in _QUANTILES and is_whole and row.base.value is not None:
            add(f"{stage} {statistic}", row.base.value)
        is_steady = recording.compared + recording.warm_up == recording.frames
        if row.metric == "throughput_fps" and is_steady and _is_one_stretch(session):
            add("steady throughput", row.base.value)
        if row.metric == "stalls_per_min" and is_whole and _is_one_stretch(session):
            add("stalls a minute", row.base.value)
    if comparison.agreement is not None and recording.compared:
        assert comparison.agreement.f1 in (1.0, None)


# --- the tests -----------------------------------------------------------------------------------


def figures(sessions: Mapping[str, Session]) -> dict[str, Figures]:
    """Return by name of the session, and by figure, what each source says of it."""
    found: dict[str, Figures] = {name: defaultdict(dict) for name in sessions}
    names = {session.id: name for name, session in sessions.items()}
    assert len(names) == len(sessions)

    def add(who: str, session: str, figure: str, value: Any) -> None:
        values = found[session][figure]
        values[who if who not in values else f"{who} again"] = value

    with SqlReader(list(sessions.values())) as reader:
        for who in (of_sql, of_windows, of_groups):
            who(reader, lambda id_, *figure, who=who: add(who.__name__, names[id_], *figure))
        of_why(reader, sessions, lambda id_, *figure: add("of_why", names[id_], *figure))
    for number, (name, session) in enumerate(sessions.items()):
        askers = [of_numpy, of_stats, of_info, of_python, of_list, of_metadata, of_follower]
        if number % 3 == 0:  # each takes as long as all the others together
            askers.append(of_comparison)
        for ask in askers:
            ask(session, functools.partial(add, ask.__name__, name))
    for of_one in found.values():
        for figure in [figure for figure in of_one if figure.endswith(" rounded")]:
            exact = of_one[figure.removesuffix(" rounded")]["of_stats"]
            of_one[figure]["of_stats"] = None if exact is None else round(exact, 3)
    return found


def _in_all(name: str) -> str:
    """Rows and metadata count all losses; what commands call dropped comes after the start."""
    return f"{name} in all" if name.startswith("dropped") else name


def _finite(frames: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if name not in frames.column_names:
        return np.empty(0)
    values = np.array([np.nan if v is None else v for v in frames[name].to_pylist()], np.float64)
    return values[np.isfinite(values)]


def _raw(frames: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if name not in frames.column_names:
        return np.full(frames.num_rows, np.nan)
    if pa.types.is_timestamp(frames.schema.field(name).type):
        values = frames[name].cast(pa.int64()).to_pylist()
    else:
        values = frames[name].to_pylist()
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _rate(frames: pa.Table) -> float | None:
    """Return frames a second as docs/sql.md defines it."""
    captured, completed = _raw(frames, "captured_at"), _raw(frames, "completed_at")
    known = ~np.isnan(captured + completed)
    if known.sum() < 2:
        return None
    span = max(np.ptp(captured[known]), np.ptp(completed[known]))
    return (known.sum() - 1) * 1e6 / span if span else None


def _at_start(session: Session) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return for each row whether what was lost before it was lost while the model started."""
    frames = session.frames
    source = session.metadata["source"]
    completed = _raw(frames, "completed_at")
    never = np.zeros(frames.num_rows, bool)
    if not frames.num_rows or frames["frame"][0].as_py() or "clip" in session.metadata:
        return never
    if source["kind"] != "camera" or np.isnan(completed).all():
        return never
    before = np.concatenate([[-np.inf], _raw(frames, "captured_at")[:-1]])
    found: np.ndarray[Any, np.dtype[np.bool_]] = before <= np.nanmin(completed)
    return found


def _is_one_stretch(session: Session) -> bool:
    """Return whether each frame follows the one before."""
    is_cut = len(session.metadata.get("clip", {}).get("ranges", [])) > 1
    return not is_cut and bool((np.diff(_raw(session.frames, "frame")) == 1).all())


def _known(frames: pa.Table, name: str) -> list[int]:
    if name not in frames.column_names:
        return []
    stamps = frames[name].cast(pa.int64()).to_pylist()
    return [stamp for stamp in stamps if stamp is not None]


def agree(values: Mapping[str, Any]) -> bool:
    first = next(iter(values.values()))
    return all(
        value is first
        if value is None or first is None
        else math.isclose(value, first, rel_tol=1e-9, abs_tol=1e-9)
        for value in values.values()
    )


@pytest.mark.slow
def test_there_are_sessions_of_every_kind(made: dict[str, Path]) -> None:
    assert len(made) > 60


@pytest.mark.slow
def test_every_command_shows_the_same_number(made: dict[str, Path]) -> None:
    with contextlib.ExitStack() as stack:
        sessions = {name: stack.enter_context(dgrec.open(path)) for name, path in made.items()}
        found = figures(sessions)
    wrong = [
        f"{name}: {figure}: {values}"
        for name, of_one in found.items()
        for figure, values in of_one.items()
        if not agree(values)
    ]
    assert not wrong, "\n".join(wrong)
    assert sum(len(values) > 1 for of_one in found.values() for values in of_one.values()) > 2000


@pytest.mark.slow
def test_several_sessions_have_the_rates_that_each_has_alone(tmp_path: Path) -> None:
    """Results that come faster than the frames, after a late first one, are a backlog."""
    paths = []
    for number in range(6):
        rows = []
        for i in range(120):
            captured = START_NS + i * (40 + number) * 10**6
            completed = max(captured + 10 * 10**6, START_NS + 800 * 10**6 + i * 36 * 10**6)
            rows.append(make_row(i, [], captured_ns=captured, completed_ns=completed))
        paths.append(
            write_session(tmp_path / f"{number}.parquet", rows, new_metadata(f"run {number}"))
        )
    (row,) = [
        row for row in dgrec.compare(paths[:3], paths[3:]).rows if row.metric == "throughput_fps"
    ]
    for side, value in ((paths[:3], row.base), (paths[3:], row.new)):
        alone = [dgrec.compare(path, path).row("throughput_fps").base.value for path in side]
        with dgrec.connect(*side) as connection:
            of_sql = connection.sql(
                "SELECT rate(captured_at, completed_at) FROM steady_frames GROUP BY session_id"
            ).fetchall()
        assert sorted(rate for (rate,) in of_sql) == pytest.approx(sorted(alone))
        assert (value.low, value.high) == pytest.approx((min(alone), max(alone)))


def _rounded(text: str) -> Any:
    """Return what JSON says; threads may add the numbers of a mean up in another order."""
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.9g}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uneven 101", "inference_ms NaN", "killed journal", "no rows"])
def test_what_is_printed_is_what_was_measured(
    run: Callable[..., Result], made: dict[str, Path], name: str, tmp_path: Path
) -> None:
    with dgrec.open(made[name]) as session:
        stats = measure(session)
        card = session._repr_html_()
        report.write_report(session, tmp_path / "s.html")
        with SqlReader([session]) as reader:
            stages = {row["stage"]: row for row in reader.rows("FROM stage_latency")}
    assert _rounded(run("stats", made[name], "--format", "json").stdout) == _rounded(
        json_text(asdict(stats))
    )
    table = run("stats", made[name], "--no-charts").stdout
    page = ReportPage(tmp_path / "s.html")
    cells = {cell for section in page.sections for row in section["rows"] for cell in row}
    assert re.search(rf"^frames +{stats.frames:,}$", table, re.MULTILINE)
    assert re.search(rf"^detections +{stats.detections:,}$", table, re.MULTILINE)
    for stage, values in stats.stages.items():
        shown = (values.mean, values.p50, values.p90, values.p95, values.p99, values.max)
        texts = ["-" if value is None else f"{value:,.3f}" for value in shown]
        line = " +".join(map(re.escape, [stage.removesuffix("_ms"), f"{values.count:,}", *texts]))
        assert re.search(rf"^{line}$", table, re.MULTILINE), stage
        if values.p95 is not None:
            row = stages[stage.removesuffix("_ms")]
            assert f"{row['p95_ms']:,.3f}" in cells
    latency = stats.stages["latency_ms"]
    if latency.p50 is not None and latency.p95 is not None:
        assert f"p50 {latency.p50:,.1f}, p95 {latency.p95:,.1f}" in card
    assert f'<td style="text-align:left">{stats.frames:,}</td>' in card
    assert f"{stats.frames:,} frames" in page.text

"""Every view and macro of the SQL library, against numpy and plain Python on the same rows."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dgrec
from dgrec import sample
from dgrec.format import Row
from dgrec.format.schema import METADATA_KEY
from dgrec.sql import library, views
from dgrec.sql.logged_values import STREAMS
from tests.factory import (
    CAMERA,
    START_NS,
    edited,
    make_detection,
    make_row,
    new_metadata,
    restart,
    without_column,
    write_journal,
    write_session,
)
from tests.replay.conftest import uneven_rows

MS = 1_000_000
Columns = dict[str, Any]

_STAGES = ("preprocess_ms", "inference_ms", "postprocess_ms")


# --- the recordings ----------------------------------------------------------------------------


def _tracked(count: int) -> list[Row]:
    """Return rows with tracks that come and go, one of them with two labels."""
    rows = uneven_rows(count, seed=6)
    tracks = [
        [
            make_detection(track, label="cat" if track == 2 and i % 3 else "dog", track_id=track)
            for track in range(4)
            if (i // (5 + track)) % 2
        ]
        for i in range(count)
    ]
    return [row._replace(results=found) for row, found in zip(rows, tracks, strict=True)]


def _settling(count: int, slow: int) -> list[Row]:
    """Return rows at 25 a second of which the first ``slow`` take longer and longer less."""
    return [
        make_row(
            i,
            [],
            captured_ns=START_NS + i * 40 * MS,
            completed_ns=START_NS + i * 40 * MS + int((12 + max(0, slow - i) * 2 + i % 3) * MS),
        )
        for i in range(count)
    ]


def _recordings() -> dict[str, list[Row]]:
    return {
        "uneven": uneven_rows(240, seed=11),
        "uneven camera": uneven_rows(240, seed=11),
        "one frame": [make_row(0)],
        "two frames": [make_row(0), make_row(1)],
        "no detections": [make_row(i, []) for i in range(30)],
        "everything dropped but two": [
            make_row(0, dropped_camera=5, dropped_queue=7),
            make_row(1, dropped_writer=100),
        ],
        "everything dropped but two camera": [
            make_row(0, dropped_camera=5, dropped_queue=7),
            make_row(1, dropped_writer=100),
        ],
        "no timing": [make_row(i, timing={}, recorder_ns=i % 4 * MS) for i in range(40)],
        "tracks": _tracked(90),
        "settling": _settling(400, slow=70),
        "looped": [make_row(i, media_time_s=(i % 20) / 30) for i in range(60)],
        "same stamps": [
            make_row(i, captured_ns=START_NS, completed_ns=START_NS) for i in range(12)
        ],
    }


NAMES = [*_recordings(), "sample", "journal"]


def _metadata(name: str) -> dict[str, Any]:
    return new_metadata(name, **({"source": CAMERA} if name.endswith("camera") else {}))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("library")
    made = {
        name: write_session(folder / f"{name}.parquet", rows, _metadata(name))
        for name, rows in _recordings().items()
    }
    journal = write_journal(
        folder / "j.arrows", uneven_rows(100, seed=12), new_metadata(source=CAMERA), end=False
    )
    return {**made, "sample": sample.SESSION, "journal": journal}


class Recording:
    """One recording: its rows as numpy sees them, and the library's answers."""

    def __init__(self, path: Path) -> None:
        self.session = dgrec.open(path)
        self.connection = views.connect([self.session])
        self.columns: Columns = {}
        for name in self.session.frames.column_names:
            column = self.session.frames[name]
            if name in ("captured_at", "completed_at"):
                self.columns[name] = column.cast("int64").to_numpy()
            elif name.endswith("_ms"):
                values = [np.nan if value is None else value for value in column.to_pylist()]
                self.columns[name] = np.array(values)
            elif name in ("frame", "source_frame", "skipped_before") or name.startswith("dropped_"):
                self.columns[name] = column.to_numpy()
        self.detections = self.session.detections.to_pylist()

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    @property
    def waiting(self) -> Any:
        """Milliseconds of the latency in no stage of the runtime; NaN where it told no times."""
        known = np.array([self[name] for name in _STAGES])
        rest = np.maximum(0, self["latency_ms"] - np.nansum(known, axis=0))
        return np.where(np.isnan(known).all(axis=0), np.nan, rest)

    def ask(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.connection.sql(query).to_arrow_table().to_pylist()
        return rows

    def one(self, query: str) -> dict[str, Any]:
        (row,) = self.ask(query)
        assert row.pop("session_id") == self.session.id
        return row

    def close(self) -> None:
        self.connection.close()
        self.session.close()


@pytest.fixture(scope="module", params=NAMES)
def recording(request: pytest.FixtureRequest, paths: dict[str, Path]) -> Iterator[Recording]:
    with contextlib.closing(Recording(paths[request.param])) as made:
        yield made


def same(value: Any, expected: Any) -> bool:
    """Return whether a number of the library is numpy's, where NaN and nothing are NULL."""
    if expected is None or not math.isfinite(expected):
        return value is None
    return value is not None and math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9)


def seconds(later: Any, earlier: Any) -> float:
    return float(later - earlier) / 1e6


# --- warm-up -----------------------------------------------------------------------------------


def reference_warm_up(r: Recording) -> tuple[int | None, bool | None, int]:
    """Return (frames in a window, whether it settled, frames of the warm-up), by the rule."""
    count = len(r["frame"])
    elapsed = int(r["completed_at"].max() - r["captured_at"].min())
    if elapsed <= 0:
        return None, None, 0
    window = max(10, math.floor(count * 1e6 / elapsed + 0.5))
    ends = [int(r["captured_at"].min())]
    latencies, rates = [], []
    for start in range(0, count - window + 1, window):
        rows = slice(start, start + window)
        ends.append(int(r["completed_at"][rows].max()))
        rates.append(window / max(1, ends[-1] - ends[-2]))
        latencies.append(np.median(r["latency_ms"][rows]))
    for first in range(len(rates) - 2):
        three = slice(first, first + 3)
        if all(max(v[three]) <= 1.1 * min(v[three]) for v in (rates, latencies)):
            settled = 2 * first * window <= count
            return window, settled, first * window if settled else 0
    return window, False if len(rates) >= 3 else None, 0


@pytest.mark.slow
def test_warm_up(recording: Recording) -> None:
    window, has_settled, frames = reference_warm_up(recording)
    assert recording.one("FROM warm_up") == {
        "frames": len(recording["frame"]),
        "window_frames": window,
        "has_settled": has_settled,
        "warm_up_frames": frames,
        "first_steady_frame": frames,
    }
    steady = [row["frame"] for row in recording.ask("SELECT frame FROM steady_frames")]
    assert sorted(steady) == list(recording["frame"][frames:])


@pytest.mark.slow
def test_a_warm_up_is_found_where_it_is_and_nothing_is_deleted(paths: dict[str, Path]) -> None:
    with contextlib.closing(Recording(paths["settling"])) as r:
        found = r.one("FROM warm_up")
        # 13 to 150 ms at first; the windows of 25 frames are level from the fourth on.
        assert found["has_settled"]
        assert found["warm_up_frames"] == 75
        assert r.ask("SELECT count(*) AS n FROM frames") == [{"n": 400}]
        assert r.ask("SELECT count(*) AS n FROM steady_frames") == [{"n": 325}]


@pytest.mark.slow
def test_what_settles_only_in_the_second_half_has_not_settled(tmp_path: Path) -> None:
    rows = _settling(400, slow=300)
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        found = r.one("FROM warm_up")
        assert (found["has_settled"], found["warm_up_frames"]) == (False, 0)


@pytest.mark.slow
def test_a_rate_that_settles_ends_the_warm_up_though_the_latency_is_level(tmp_path: Path) -> None:
    at, rows = START_NS, []
    for i in range(300):
        at += (33 + max(0, 100 - i)) * MS  # slow at first, and quicker with every frame
        rows.append(make_row(i, [], captured_ns=at, completed_ns=at + 10 * MS))
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        window, has_settled, frames = reference_warm_up(r)
        found = r.one("FROM warm_up")
    assert has_settled
    assert 0 < frames < 150
    assert (found["window_frames"], found["warm_up_frames"]) == (window, frames)


def test_exactly_four_windows_are_all_looked_at(tmp_path: Path) -> None:
    rows = []
    for i in range(40):  # at 8 a second a window has 10 frames, the fewest
        at = START_NS + i * 125 * MS
        latency = 90 if i < 10 else 50
        rows.append(make_row(i, [], captured_ns=at, completed_ns=at + latency * MS))
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        found = r.one("FROM warm_up")
    assert (found["window_frames"], found["has_settled"], found["warm_up_frames"]) == (10, True, 10)


def test_stamps_that_are_all_the_same_make_no_window(tmp_path: Path) -> None:
    """A window would have millions of frames a second: whether it settled is unknown."""
    rows = [make_row(i, [], captured_ns=START_NS, completed_ns=START_NS) for i in range(90)]
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        assert r.one("FROM warm_up") == {
            "frames": 90,
            "window_frames": None,
            "has_settled": None,
            "warm_up_frames": 0,
            "first_steady_frame": 0,
        }
        assert r.ask("SELECT count(*) AS n FROM steady_frames") == [{"n": 90}]


@pytest.mark.slow
@pytest.mark.parametrize("unknown", ["rate", "latency"])
def test_a_window_of_which_nothing_is_known_settles_nothing(tmp_path: Path, unknown: str) -> None:
    rows = [make_row(i) for i in range(90)]
    path = write_session(tmp_path / "s.parquet", rows)
    columns: dict[str, list[Any]] = {
        "rate": {"completed_at": [row.completed_ns // 1000 for row in rows]},
        "latency": {"latency_ms": [12.5] * 90},
    }[unknown]
    (values,) = columns.values()
    # Of three windows of 30 frames, the one in the middle.
    values[30:60] = [None] * 30
    with contextlib.closing(Recording(edited(path, columns))) as r:
        assert r.one("FROM warm_up")["has_settled"] is False


# --- durations, rates and losses ---------------------------------------------------------------


def test_stage_latency(recording: Recording) -> None:
    rows = {row["stage"]: row for row in recording.ask("FROM stage_latency")}
    timed = ("read", "preprocess", "inference", "postprocess", "waiting", "latency")
    assert tuple(rows) == (*timed, "published", "recorder")
    for stage, row in rows.items():
        if stage == "published":  # the sample is older, and nothing of it was published
            assert row["frames"] == 0
            continue
        values = recording.waiting if stage == "waiting" else recording[f"{stage}_ms"]
        values = values[~np.isnan(values)]
        assert row["frames"] == len(values)
        expected = dict.fromkeys(("mean_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms"))
        if len(values):
            expected = {
                "mean_ms": values.mean(),
                "max_ms": values.max(),
                **{f"p{p}_ms": np.quantile(values, p / 100) for p in (50, 90, 95, 99)},
            }
        for name, value in expected.items():
            assert same(row[name], value), (stage, name)


def test_end_to_end_latency(recording: Recording) -> None:
    row = recording.one("FROM end_to_end_latency")
    (stage,) = recording.ask("FROM stage_latency WHERE stage = 'latency'")
    assert row == {name: value for name, value in stage.items() if name in row}
    assert set(row) == {"frames", "mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms"}
    for q in (0, 0.25, 0.999, 1):
        found = recording.one(f"FROM latency_quantile({q})")
        assert same(found["latency_ms"], np.quantile(recording["latency_ms"], q))


def reference_rate(captured: Any, completed: Any) -> float | None:
    """Return frames a second of rows in a row: steps, over the longer of the two times."""
    span = max(seconds(captured.max(), captured.min()), seconds(completed.max(), completed.min()))
    return (len(captured) - 1) / span if span else None


def reference_at_start(r: Recording) -> Any:
    """Return for each row whether what was lost before it was lost while the model started."""
    is_live = r.session.metadata["source"].get("live", False)
    if r.session.row(0)["frame"] or "clip" in r.session.metadata or not is_live:
        return np.zeros(len(r["frame"]), bool)
    return np.concatenate([[True], r["captured_at"][:-1] <= r["completed_at"].min()])


def test_session_throughput(recording: Recording) -> None:
    row = recording.one("FROM session_throughput")
    completed, count = recording["completed_at"], len(recording["frame"])
    assert row["frames"] == count
    assert same(row["duration_s"], seconds(completed.max(), recording["captured_at"].min()))
    assert same(row["fps"], reference_rate(recording["captured_at"], completed))


def window_rate(r: Recording, inside: Any, begin: int, stop: int) -> float | None:
    """Return the rate of the rows in a window; the step into each row belongs to its window."""
    rows = np.flatnonzero(inside)
    steps = len(rows[rows > 0])
    if not steps:
        return 0.0
    captured = r["captured_at"]
    if len(rows) > 1:
        step = seconds(captured[rows[-1]], captured[rows[0]]) / (len(rows) - 1)
    else:
        step = seconds(captured[rows[0]], captured[rows[0] - 1])
    results = seconds(min(stop, r["completed_at"].max()), max(begin, r["completed_at"].min()))
    longer = max(steps * step, results)
    return steps / longer if longer else None


@pytest.mark.parametrize("width", [0.25, 1, 7])
def test_throughput_in_windows(recording: Recording, width: float) -> None:
    rows = recording.ask(f"FROM throughput({width})")
    start, end = int(recording["captured_at"].min()), int(recording["completed_at"].max())
    edges = [start]
    while edges[-1] + width * 1e6 < end:
        edges.append(edges[-1] + int(width * 1e6))
    assert [row["window_start"].timestamp() for row in rows] == [edge / 1e6 for edge in edges]
    ends = [*edges[1:], max(end, start + 1)]
    for row, begin, stop in zip(rows, edges, ends, strict=True):
        is_last = stop == ends[-1]
        stamps = recording["completed_at"]
        inside = (stamps >= begin) & ((stamps < stop) | is_last)
        latency = recording["latency_ms"][inside]
        assert row["frames"] == inside.sum()
        assert same(row["seconds"], seconds(stop, begin))
        assert same(row["fps"], window_rate(recording, inside, begin, stop))
        assert same(row["latency_p50_ms"], np.median(latency) if len(latency) else None)
        assert same(row["latency_p95_ms"], np.quantile(latency, 0.95) if len(latency) else None)
        assert row["skipped"] == recording["skipped_before"][inside].sum()
        dropped, at_start = recording["dropped_before"], reference_at_start(recording)
        assert row["dropped"] == dropped[inside & ~at_start].sum()
        assert row["dropped_at_start"] == dropped[inside & at_start].sum()
    assert sum(row["frames"] for row in rows) == len(recording["frame"])


@pytest.mark.slow
def test_a_window_without_results_is_there(tmp_path: Path) -> None:
    rows = [make_row(0), make_row(1, captured_ns=START_NS + 10_000 * MS)]
    rows[1].completed_ns = START_NS + 10_010 * MS
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        found = r.ask("SELECT frames, fps, latency_p50_ms FROM throughput(3)")
        assert [row["frames"] for row in found] == [1, 0, 0, 1]
        assert found[1] == {"frames": 0, "fps": 0.0, "latency_p50_ms": None}


@pytest.mark.slow
def test_the_last_window_ends_with_the_last_result(tmp_path: Path) -> None:
    rows = [make_row(i, captured_ns=START_NS + i * 1000 * MS) for i in range(10)]
    rows = [row._replace(completed_ns=row.captured_ns + 1000 * MS) for row in rows]
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        # 10 seconds in windows of 5: the result at the end belongs to the second, not to a third.
        assert [row["frames"] for row in r.ask("FROM throughput(5)")] == [4, 6]


def test_jitter(recording: Recording) -> None:
    row = recording.one("FROM jitter")
    assert row["intervals"] == len(recording["frame"]) - 1
    for name, kind in (("captured_at", "capture"), ("completed_at", "result")):
        intervals = np.diff(recording[name]) / 1e3
        median = np.median(intervals) if len(intervals) else None
        changes = np.abs(np.diff(intervals))
        assert same(row[f"{kind}_interval_ms"], median)
        assert same(row[f"{kind}_jitter_ms"], changes.mean() if len(changes) else None)
    p99 = np.quantile(intervals, 0.99) if len(intervals) else None
    assert same(row["result_interval_p99_ms"], p99)


def test_losses(recording: Recording) -> None:
    found = {row["place"]: row for row in recording.ask("FROM losses")}
    at_start = reference_at_start(recording)
    lost = {"skipped": int(recording["skipped_before"].sum())}
    for place in ("camera", "queue", "writer"):
        dropped = recording[f"dropped_{place}"]
        lost[place] = int(dropped.sum())
        assert found[place]["frames"] == dropped[~at_start].sum()
        assert found[place]["at_start"] == dropped[at_start].sum()
    assert (found["skipped"]["frames"], found["skipped"]["at_start"]) == (lost["skipped"], 0)
    source_frames = len(recording["frame"]) + sum(lost.values())
    for place, row in found.items():
        assert same(row["share"], lost[place] / source_frames)


@pytest.mark.parametrize(("factor", "at_least"), [(3, 100), (1.2, 0), (1, 45)])
def test_stalls(recording: Recording, factor: float, at_least: float) -> None:
    rows = recording.ask(f"FROM stalls({factor}, {at_least})")
    gaps = np.diff(recording["completed_at"]) / 1e3
    usual = np.median(gaps) if len(gaps) else np.inf
    stalled = np.flatnonzero((gaps > factor * usual) & (gaps > at_least)) + 1
    assert [row["frame"] for row in rows] == list(stalled)
    for row, at in zip(rows, stalled, strict=True):
        assert same(row["gap_ms"], gaps[at - 1])
        assert same(row["usual_ms"], usual)
        assert same(row["captured_gap_ms"], np.diff(recording["captured_at"])[at - 1] / 1e3)
        assert (row["to_at"] - row["from_at"]).total_seconds() == pytest.approx(gaps[at - 1] / 1e3)


# --- late frames -------------------------------------------------------------------------------


def reference_parts(r: Recording) -> dict[str, Any]:
    before = np.concatenate([[0.0], r["recorder_ms"][:-1]])
    told = ~np.isnan(r.waiting)
    slack = np.where(told, r.waiting, r["latency_ms"])
    consumer = np.minimum(slack, before)
    return {
        "capture": r["read_ms"],
        **{name.removesuffix("_ms"): r[name] for name in _STAGES},
        "queue": np.where(told, slack - consumer, np.nan),
        "consumer": consumer,
        "untimed": np.where(told, np.nan, slack - consumer),
    }


def test_the_parts_of_a_frame_add_up_to_its_time(recording: Recording) -> None:
    rows = recording.ask("FROM frame_parts ORDER BY frame")
    parts = reference_parts(recording)
    totals = recording["read_ms"] + recording["latency_ms"]
    for i, row in enumerate(rows):
        for name, values in parts.items():
            assert same(row[f"{name}_ms"], values[i]), name
        assert same(row["total_ms"], totals[i])
        known = [row[f"{name}_ms"] or 0 for name in parts]
        if recording["latency_ms"][i] >= np.nansum([recording[name][i] for name in _STAGES]):
            assert sum(known) == pytest.approx(totals[i])


@pytest.mark.parametrize(("factor", "at_least"), [(1.5, 10), (1.02, 0)])
def test_late_frames_and_their_blame(recording: Recording, factor: float, at_least: float) -> None:
    rows = recording.ask(f"FROM late_frames({factor}, {at_least})")
    totals = recording["read_ms"] + recording["latency_ms"]
    usual = np.median(totals)
    late = {
        int(i) for i in np.flatnonzero((totals > factor * usual) & (totals - usual >= at_least))
    }
    assert {row["frame"] for row in rows} == late
    assert [row["total_ms"] for row in rows] == sorted(totals[list(late)], reverse=True)
    over = {
        name: values - (np.nanmedian(values) if not np.isnan(values).all() else 0)
        for name, values in reference_parts(recording).items()
    }
    for row in rows:
        excess = {name: values[row["frame"]] for name, values in over.items()}
        excess = {name: value for name, value in excess.items() if not np.isnan(value)}
        assert same(row["blame_ms"], max(excess.values()))
        assert same(excess[row["blame"]], max(excess.values()))
        assert same(row["late_by_ms"], row["total_ms"] - usual)


def _one_late(**late: Any) -> list[Row]:
    rows = []
    for i in range(40):
        # A frame that waited: nothing but its own latency says so.
        timing = {
            "CorePreprocessDuration_ms": 1.0,
            "CoreInferenceDuration_ms": 10.0,
            "CorePostprocessDuration_ms": 1.0,
        }
        captured, extra, row = START_NS + i * 40 * MS, 0, {}
        if i == 20:
            timing.update(late.get("timing", {}))
            extra = late.get("extra_ms", 0)
            row = late.get("row", {})
        if i == 19:
            row = late.get("row_before", {})
        completed = captured + (14 + extra) * MS
        rows.append(
            make_row(i, [], captured_ns=captured, completed_ns=completed, timing=timing, **row)
        )
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blame", "late"),
    [
        ("capture", {"row": {"read_ns": 200 * MS}}),
        ("preprocess", {"timing": {"CorePreprocessDuration_ms": 90.0}, "extra_ms": 89}),
        ("inference", {"timing": {"CoreInferenceDuration_ms": 90.0}, "extra_ms": 80}),
        ("postprocess", {"timing": {"CorePostprocessDuration_ms": 90.0}, "extra_ms": 89}),
        ("queue", {"extra_ms": 90}),
        ("consumer", {"extra_ms": 90, "row_before": {"recorder_ns": 80 * MS}}),
    ],
)
def test_each_part_is_blamed_for_what_it_did(
    tmp_path: Path, blame: str, late: dict[str, Any]
) -> None:
    path = write_session(tmp_path / "s.parquet", _one_late(**late))
    with contextlib.closing(Recording(path)) as r:
        row = r.one("SELECT session_id, frame, blame FROM late_frames()")
        assert row == {"frame": 20, "blame": blame}


def test_late_causes_name_the_frame_that_was_waited_for(recording: Recording) -> None:
    rows = recording.ask("FROM late_causes(5)")
    late = recording.ask("SELECT frame, blame FROM late_frames() LIMIT 5")
    assert [(row["frame"], row["blame"]) for row in rows] == [tuple(r.values()) for r in late]
    parts = reference_parts(recording)
    names = ("preprocess", "inference", "postprocess", "consumer")
    own = np.nansum([parts[name] for name in names], axis=0)
    waited = np.where(np.isnan(parts["queue"]), parts["untimed"], parts["queue"])
    total = recording["read_ms"] + recording["latency_ms"]
    noticeable = max(np.median(total) / 4, 5)
    has_waited = waited > np.median(waited) + noticeable
    took_longer = own > np.median(own) + noticeable
    for row in rows:
        assert row["behind_frame"] == _behind(recording, row, has_waited, took_longer)
        if row["behind_frame"] is not None:
            assert same(row["behind_ms"], own[row["behind_frame"]])


def _behind(r: Recording, row: dict[str, Any], waited: Any, took_longer: Any) -> int | None:
    """Return the frame that began the backlog in which a late frame waited."""
    if row["blame"] not in ("queue", "untimed"):
        return None
    late = first = row["frame"]
    while first and waited[first - 1]:
        first -= 1
    if not first:
        return None  # the backlog is older than the recording
    on_its_way = r["completed_at"][:first] > r["captured_at"][first]
    candidates = [*np.flatnonzero(on_its_way), *range(first, late)]
    for such in (took_longer, waited):
        for frame in candidates:
            if such[frame]:
                return int(frame)
    return None


# --- detections --------------------------------------------------------------------------------


def test_detection_rates(recording: Recording) -> None:
    elapsed = seconds(recording["completed_at"].max(), recording["captured_at"].min())
    row = recording.one("FROM detection_rate")
    count = len(recording.detections)
    assert row["detections"] == count
    assert same(row["per_frame"], count / len(recording["frame"]))
    assert same(row["per_second"], count / elapsed if elapsed else None)

    labels = {row["label"]: row for row in recording.ask("FROM label_rate")}
    counts = Counter(d["label"] for d in recording.detections)
    assert {name: row["detections"] for name, row in labels.items()} == counts
    for name, row in labels.items():
        own = [d for d in recording.detections if d["label"] == name]
        assert row["frames"] == len({d["frame"] for d in own})
        assert row["scored"] == sum(d["score"] is not None for d in own)
        assert same(row["per_second"], len(own) / elapsed if elapsed else None)
        assert same(row["mean_score"], np.mean([d["score"] for d in own]))


def test_tracks(recording: Recording) -> None:
    rows = recording.ask("FROM tracks")
    ids = {d["track_id"] for d in recording.detections} - {None}
    assert [row["track_id"] for row in rows] == sorted(ids)
    for row in rows:
        own = [d for d in recording.detections if d["track_id"] == row["track_id"]]
        frames = sorted({d["frame"] for d in own})
        stamps = recording["captured_at"][frames]
        assert (row["frames"], row["first_frame"]) == (len(frames), frames[0])
        assert row["last_frame"] == frames[-1]
        assert same(row["dwell_s"], seconds(stamps[-1], stamps[0]))
        labels = Counter(d["label"] for d in own)
        assert labels[row["label"]] == max(labels.values())


@pytest.mark.slow
def test_there_are_tracks_in_what_is_tested(paths: dict[str, Path]) -> None:
    with contextlib.closing(Recording(paths["tracks"])) as r:
        assert len(r.ask("FROM tracks")) == 4
        assert {row["label"] for row in r.ask("FROM tracks")} == {"cat", "dog"}


def test_tracks_and_totals_begin_anew_in_each_run(tmp_path: Path) -> None:
    """Runs begin at frames 6 and 9; at frame 3, a camera was back."""
    from degirum_tools.analyzers.line_count import LineCounts, SingleLineCounts

    def row(i: int) -> Row:
        line = LineCounts()
        line.left = i % 3 + (i < 6)
        line.for_class["car"] = SingleLineCounts()
        line.for_class["car"].left = line.left
        found = [make_detection(track_id=track) for track in (1, 2) if track == 1 or i > 8]
        return make_row(i, found, attributes={"line_counts": [line]})

    rows = [row(i) for i in range(12)]
    older = {**restart(rows[9]), "reason": "the recorder was started again"}
    back = {**restart(rows[3]), "reason": "no frame for 5 s"}
    del older["ended"], back["ended"]
    metadata = new_metadata(events=[back, restart(rows[6]), older])
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    with dgrec.open(path) as session:
        tracks = "SELECT track_id, run, frames, first_frame, last_frame FROM tracks"
        assert session.sql_rows(tracks) == [
            (1, 0, 6, 0, 5),
            (1, 1, 3, 6, 8),
            (1, 2, 3, 9, 11),
            (2, 2, 3, 9, 11),
        ]
        dwell = session.sql_rows("SELECT dwell_s FROM tracks WHERE track_id = 1 AND run = 1")
        assert dwell == [
            (pytest.approx(seconds(rows[8].captured_ns, rows[6].captured_ns) / 1000, abs=2e-6),)
        ]
        left = "FROM lines WHERE direction = 'left' GROUP BY ALL ORDER BY ALL"
        totals = [(0, 3), (1, 2), (2, 2)]
        assert session.sql_rows(f"SELECT label, run, max(count) {left}") == [
            (label, *total) for label in ("car", None) for total in totals
        ]


# --- the pipeline ------------------------------------------------------------------------------


def reference_running(r: Recording) -> int:
    """Return how many frames there are before the session ran."""
    left_out = reference_warm_up(r)[2]
    captured, completed = r["captured_at"][left_out:], r["completed_at"]
    if r.session.row(0)["frame"] or "clip" in r.session.metadata:
        return left_out
    waited = int((captured <= completed.min()).sum())
    return left_out + waited if len(captured) - waited >= 10 else left_out


def test_frames_in_flight_are_what_counting_them_gives(recording: Recording) -> None:
    row = recording.one("FROM pipeline")
    left_out = reference_running(recording)
    captured = recording["captured_at"][left_out:]
    completed = recording["completed_at"][left_out:]
    assert (row["left_out"], row["frames"]) == (left_out, len(captured))
    elapsed = max(1, int(completed.max() - captured.min()))
    assert same(row["seconds"], elapsed / 1e6)
    rate = reference_rate(captured, completed)
    assert same(row["fps"], rate)
    source_frame = recording["source_frame"][left_out:]
    capture_s = seconds(captured.max(), captured.min())
    delivered = (source_frame[-1] - source_frame[0]) / capture_s if capture_s else None
    assert same(row["delivered_fps"], delivered)
    if delivered is not None:
        assert row["fps"] <= row["delivered_fps"] * (1 + 1e-12) <= row["sent_fps"] * (1 + 1e-9)
    assert same(row["latency_ms"], recording["latency_ms"][left_out:].mean())
    # Not by Little's law, but by going through all arrivals and departures and counting.
    events = sorted([(int(t), 1) for t in captured] + [(int(t), -1) for t in completed])
    inside = area = 0
    for (at, change), (following, _) in itertools.pairwise(events):
        inside += change
        area += inside * (following - at)
    # The mean time of a frame, from counting, times the rate. latency_ms is rounded to 1/4096 ms,
    # the stamps to microseconds.
    if rate is None:
        assert row["in_flight"] is None
    else:
        latency_s = area / len(captured) / 1e6
        assert row["in_flight"] == pytest.approx(rate * latency_s, abs=rate * 2e-6)


def test_stage_load(recording: Recording) -> None:
    rows = {row["stage"]: row for row in recording.ask("FROM stage_load")}
    steady = slice(reference_running(recording), None)
    rate = reference_rate(recording["captured_at"][steady], recording["completed_at"][steady])
    count = len(recording["frame"][steady])
    if rate is not None:  # rows that were lost at the writer went through all stages but the last
        rate *= (count - 1 + recording["dropped_writer"][steady][1:].sum()) / (count - 1)
    model = recording.session.metadata.get("model", {})
    counts = {
        "waiting": None,
        "read": None if recording.session.metadata["source"].get("live") else 1,
        "inference": max(1, len(model.get("devices", []))),
        "postprocess": 1 if model.get("python_postprocessor") else None,
    }
    for stage, row in rows.items():
        values = recording.waiting if stage == "waiting" else recording[f"{stage}_ms"]
        values = values[steady][~np.isnan(values[steady])]
        mean = values.mean() if len(values) else None
        times = 1.0
        if stage == "read":
            left = recording["skipped_before"] + recording["dropped_queue"]
            times += left[steady].sum() / count
        workers = counts.get(stage, 1)
        assert row["workers"] == workers
        assert same(row["mean_ms"], mean)
        in_it = None if rate is None or mean is None else mean * times * rate / 1e3
        assert same(row["frames_in_it"], in_it)
        known = in_it is not None and workers
        assert same(row["busy"], min(1, in_it / workers) if known else None)
        if not known:
            assert row["busy_at_least"] is None
            continue
        # All work on these frames was done between the first capture and the last result.
        stamps = recording["captured_at"][steady], recording["completed_at"][steady]
        all_s = max(seconds(stamps[1].max(), stamps[0].min()), 1e-6)
        share = (count - 1) / reference_rate(*stamps) / all_s
        least = (values.min() if stage in ("preprocess", "postprocess") else mean) * times
        assert same(row["busy_at_least"], min(1, least * rate * share / 1e3 / workers))


# --- all of it ---------------------------------------------------------------------------------


def test_what_was_lost_counts_once(recording: Recording) -> None:
    (row,) = recording.ask("FROM _session_losses")
    at_start = reference_at_start(recording)
    for name, count in (("dropped", "before"), *((p, p) for p in ("camera", "queue", "writer"))):
        lost = recording[f"dropped_{count}"]
        assert row[name] == lost[~at_start].sum()
        assert row[f"{name}_at_start" if name != "dropped" else "at_start"] == lost[at_start].sum()


@pytest.mark.slow
@pytest.mark.parametrize("left_out", ["Preprocess", "Inference", "Postprocess"])
def test_what_late_frames_waited_behind_where_a_stage_is_not_timed(
    tmp_path: Path, left_out: str
) -> None:
    """One frame takes 300 ms; those behind it wait, and no runtime has to time every stage."""
    stages = [name for name in ("Preprocess", "Inference", "Postprocess") if name != left_out]
    rows, free = [], 0
    for i in range(60):
        captured = START_NS + i * 40 * MS
        own = 300 if i == 20 else 10
        free = max(captured, free) + own * MS
        timing = {f"Core{name}Duration_ms": own / 2 for name in stages}
        rows.append(
            make_row(i, [], captured_ns=captured, completed_ns=free, timing=timing, recorder_ns=0)
        )
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        causes = {row["frame"]: row for row in r.ask("FROM late_causes(5)")}
    assert len(causes) == 5
    behind = {row["behind_frame"] for row in causes.values() if row["blame"] == "queue"}
    assert behind == {20}


@pytest.mark.slow
def test_labels_come_with_the_most_frequent_first(tmp_path: Path) -> None:
    labels = [*["b"] * 3, *["a"] * 3, *["c"] * 7, "d"]
    rows = [make_row(i, [make_detection(label=label)]) for i, label in enumerate(labels)]
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        found = [(row["label"], row["detections"]) for row in r.ask("FROM label_rate")]
    assert found == [("c", 7), ("a", 3), ("b", 3), ("d", 1)]


def _calls() -> list[str]:
    return [
        entry.name + ("()" if entry.kind == "table macro" else "")
        for entry in library.entries()
        if entry.kind != "macro"
    ]


@pytest.mark.slow
def test_many_sessions_at_once_give_what_each_gives_alone(paths: dict[str, Path]) -> None:
    with contextlib.ExitStack() as stack:
        alone = [stack.enter_context(contextlib.closing(Recording(p))) for p in paths.values()]
        connection = stack.enter_context(
            contextlib.closing(views.connect([r.session for r in alone]))
        )
        for call in _calls():
            if call == "late_causes()":  # the latest of all
                continue
            together = connection.sql(f"FROM {call}").to_arrow_table().to_pylist()
            apart = [row for r in alone for row in r.ask(f"FROM {call}")]
            assert Counter(map(repr, map(_rounded, together))) == Counter(
                map(repr, map(_rounded, apart))
            ), call


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    # Means are added up in another order; and lists of detections are compared by their length.
    return {
        name: float(f"{value:.9g}")
        if isinstance(value, float)
        else len(value)
        if isinstance(value, list)
        else value
        for name, value in row.items()
    }


@pytest.mark.slow
def test_a_session_without_frames_breaks_nothing(tmp_path: Path) -> None:
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", []))) as r:
        for call in _calls():
            assert r.ask(f"FROM {call}") == [], call


# --- what is not there -------------------------------------------------------------------------


_LOSSES = ("skipped_before", "dropped_before", "dropped_camera", "dropped_queue", "dropped_writer")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "unknown"),
    [
        ("completed_at", {"fps", "seconds", "in_flight", "duration_s", "throughput_fps"}),
        ("captured_at", {"fps", "seconds", "in_flight", "per_second"}),
        ("latency_ms", {"latency_ms", "in_flight", "waiting_mean_ms"}),
        ("read_ms", {"read_mean_ms"}),
        ("inference_ms", {"inference_mean_ms"}),
        ("recorder_ms", {"recorder_mean_ms"}),
        *(
            (name, {name.removeprefix("dropped_").replace("before", "dropped")})
            for name in _LOSSES[1:]
        ),
        ("skipped_before", {"skipped"}),
    ],
)
def test_what_a_file_does_not_have_is_null_and_never_zero(
    paths: dict[str, Path], column: str, unknown: set[str]
) -> None:
    with contextlib.closing(Recording(without_column(paths["uneven"], column))) as r:
        values = r.one("SELECT *, fps AS throughput_fps FROM session_throughput")
        values |= r.one("FROM detection_rate") | r.one("FROM _session_losses")
        for row in r.ask("FROM stage_latency"):
            values[f"{row['stage']}_mean_ms"] = row["mean_ms"]
        values |= r.one("FROM pipeline")
        for name in unknown:
            assert values[name] is None, name
        windows = r.ask("FROM throughput(1)")
        assert bool(windows) == (column not in ("captured_at", "completed_at"))
        lost = next((name for name in ("skipped", "dropped") if column == f"{name}_before"), None)
        assert not lost or all(row[lost] is None for row in windows if row["frames"])
        is_timed = column not in ("captured_at", "completed_at", "latency_ms")
        assert (r.one("FROM warm_up")["has_settled"] is not None) == is_timed
        loads = {row["stage"]: row for row in r.ask("FROM stage_load")}
        if column.endswith("_at"):
            assert {row["busy"] for row in loads.values()} == {None}
        if column in ("skipped_before", "dropped_queue"):
            assert (loads["read"]["busy"], loads["read"]["mean_ms"] is None) == (None, False)


@pytest.mark.slow
def test_a_time_that_is_no_number_is_none(tmp_path: Path) -> None:
    timing = {"CoreInferenceDuration_ms": math.nan, "CorePreprocessDuration_ms": 1.0}
    rows = [make_row(i, timing=timing, read_ns=(90 if i == 9 else 2) * MS) for i in range(20)]
    with contextlib.closing(Recording(write_session(tmp_path / "s.parquet", rows))) as r:
        loads = {row["stage"]: row for row in r.ask("FROM stage_load")}
        assert loads["inference"]["mean_ms"] is loads["inference"]["busy"] is None
        rest = np.mean(r["latency_ms"][1:] - 1.0)  # the first is captured before its own result
        assert same(loads["waiting"]["mean_ms"], rest)
        assert loads["preprocess"]["busy"] > 0
        assert [row["blame"] for row in r.ask("FROM late_frames()")] == ["capture"]


@pytest.mark.slow
@pytest.mark.parametrize("macro", ["throughput", "label_windows"])
@pytest.mark.parametrize("width", ["0", "-1", "NULL", "0.0000001"])
def test_windows_of_no_length_are_refused(paths: dict[str, Path], macro: str, width: str) -> None:
    with (
        contextlib.closing(Recording(paths["uneven"])) as r,
        pytest.raises(duckdb.Error, match=rf"{macro}\(seconds\): give more than 0"),
    ):
        r.ask(f"FROM {macro}({width})")


@pytest.mark.slow
def test_the_library_lists_and_documents_itself(paths: dict[str, Path]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
    with contextlib.closing(Recording(paths["one frame"])) as r:
        listed = {row["name"]: row for row in r.ask("FROM library")}
    public = [entry for entry in library.entries() if not entry.name.startswith("_")]
    assert list(listed) == [entry.name for entry in public]
    for entry in public:
        assert len(entry.description) > 40, entry.name
        assert listed[entry.name]["sql"] == entry.sql
        assert f"`{entry.name}" in page, entry.name
    assert library.text().count("\nCREATE ") == len(library.entries())


@pytest.mark.slow
def test_creating_the_library_leaves_only_its_names_behind(paths: dict[str, Path]) -> None:
    with contextlib.closing(Recording(paths["one frame"])) as r:
        names = {
            row["name"] for row in r.ask("SELECT table_name AS name FROM information_schema.tables")
        }
    views = {entry.name for entry in library.entries() if entry.kind == "view"}
    own = {"frames", "detections", "frame_labels", "sessions", "library"}
    assert names - {"_sessions", "_frame_labels", "_label_batches", *STREAMS} == views | own


@pytest.mark.slow
@pytest.mark.parametrize("form", ["journal", "sealed", "nullable", "large_texts", "pairs"])
def test_signals_have_an_accelerator_that_reported_nothing_at_first(
    tmp_path: Path, form: str
) -> None:
    rows = uneven_rows(10, seed=3)
    rows[1:] = [row._replace(timing={"DeviceTemperature_C": 40.0}) for row in rows[1:]]
    if form == "journal":
        path = write_journal(tmp_path / "s.arrows", rows)
    else:
        path = write_session(tmp_path / "s.parquet", rows)
    if form == "nullable":
        edited(path, {"timing": [None] + 9 * [[("DeviceTemperature_C", 40.0)]]})
    elif form == "large_texts":
        _with_timing_as(path, pa.map_(pa.large_string(), pa.float64()))
    elif form == "pairs":
        pair = pa.struct([("key", pa.string()), ("value", pa.float64())])
        _with_timing_as(path, pa.list_(pair))
    with dgrec.open(path) as session:
        found = session.sql_rows("SELECT frame, name, value FROM signals ORDER BY frame")
    assert found == [(frame, "DeviceTemperature_C", 40.0) for frame in range(1, 10)]


def _with_timing_as(path: Path, type_: pa.DataType) -> None:
    """Give a session's column ``timing`` another type, as another tool may."""
    file = pq.ParquetFile(path)
    table, metadata = file.read(), file.metadata.metadata
    file.close()
    schema = pa.schema([f.with_type(type_) if f.name == "timing" else f for f in table.schema])
    timing = table.column("timing").cast(type_)
    table = table.set_column(schema.get_field_index("timing"), schema.field("timing"), timing)
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: metadata[METADATA_KEY]}), path)


@pytest.mark.parametrize("interrupted", ["begin", "commit", "rollback"])
def test_it_is_whole_or_not_there_where_it_was_interrupted(interrupted: str) -> None:
    class Interrupted:
        """Interrupted as one of its calls ends, or while it creates a view."""

        def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
            self._connection = connection
            self._is_due = True

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def begin(self) -> None:
            self._connection.begin()
            self._interrupt("begin")

        def commit(self) -> None:
            self._interrupt("commit")
            self._connection.commit()

        def rollback(self) -> None:
            self._interrupt("rollback")
            self._connection.rollback()

        def execute(self, statement: str) -> None:
            if interrupted == "rollback" and self._is_due and "VIEW jitter" in statement:
                raise duckdb.InterruptException("Interrupted!")
            self._connection.execute(statement)

        def _interrupt(self, name: str) -> None:
            if self._is_due and name == interrupted:
                self._is_due = False
                raise duckdb.InterruptException("Interrupted!")

    with (
        dgrec.open(sample.SESSION) as session,
        views.connect([session], with_library=False) as connection,
    ):
        created = library.Library(Interrupted(connection))  # type: ignore[arg-type]
        with pytest.raises(duckdb.InterruptException):
            created.provide("FROM jitter")
        assert connection.sql("SELECT count(*) FROM frames").fetchall() == [(420,)]
        created.provide("FROM jitter")
        assert connection.sql("SELECT intervals FROM jitter").fetchall() == [(419,)]

"""Lines over time and marks, compared with numpy and with the commands' own numbers."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgrec.errors import QueryError
from dgrec.format import Signal
from dgrec.replay.query import SqlReader
from dgrec.replay.viewing.labels import read_labels
from dgrec.replay.viewing.marks import marks, next_mark
from dgrec.replay.viewing.series import STAGE_COLUMNS, begin_series, series_names
from dgrec.session import Session
from tests.factory import START_NS, edited, make_detection, make_row, new_metadata, write_session
from tests.replay.made_sessions import make_sessions
from tests.replay.viewing.client import served

NAMES = ("latency_ms", "read_ms", "preprocess_ms", "postprocess_ms", "recorder_ms", "waiting_ms")
MS = 1_000_000
ROOT = Path(__file__).resolve().parents[3]


def series(session: Session, reader: SqlReader, *arguments: Any, **options: Any) -> Any:
    """Return lines as ``/api/series`` answers."""
    return begin_series(session, reader, *arguments, **options).complete(session, read_labels)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Session, SqlReader]]:
    with Session(path) as session, SqlReader([session]) as reader:
        yield session, reader


class Expected:
    """What numpy makes of the rows of a session."""

    def __init__(self, session: Session) -> None:
        table = session.frames.to_pydict()
        none = [None] * len(session)
        captured = session.frames.column("captured_at").cast("int64").to_pylist()
        self.there = np.array([us is not None for us in captured], bool)
        us = np.array([0 if us is None else us for us in captured], np.int64)
        known = us[self.there]
        self.frames = np.array(table["frame"])
        self.origin = int(us[0])
        if not self.there[0]:  # then by the times in the source, or the rows
            media = self.column(table.get("media_time_s", none))
            if np.isnan(media[0]):
                media = (self.frames - self.frames[0]) * 0.04
            us, self.there, self.origin = np.round((media - media[0]) * 1e6), ~np.isnan(media), 0
            known = us[self.there]
        self.t = us - self.origin
        self.ends = int(known.min()), int(known.max())
        self.values = {name: self.column(table.get(name, none)) for name in NAMES}
        stages = [
            self.column(table.get(f"{s}_ms", none))
            for s in ("preprocess", "inference", "postprocess")
        ]
        timed = ~np.all(np.isnan(stages), axis=0)
        waiting = np.maximum(0, self.values["latency_ms"] - np.nansum(stages, axis=0))
        self.values["waiting_ms"] = np.where(timed, waiting, np.nan)
        boxes = session.detections.to_pydict()
        for label in ("person", "car"):
            has = [
                f for f, each in zip(boxes["frame"], boxes["label"], strict=True) if each == label
            ]
            self.values[f"label:{label}"] = np.array([has.count(f) for f in self.frames], float)
        counts = [boxes["frame"].count(f) for f in self.frames.tolist()]
        self.values["detections"] = np.array(counts, float)

    def column(self, values: list[Any]) -> np.ndarray[Any, Any]:
        found = np.array([math.nan if value is None else value for value in values], float)
        return np.where(np.isfinite(found), found, np.nan)

    def bands(self, name: str, answer: dict[str, Any]) -> list[tuple[float, float, float] | None]:
        """Return what each pixel has, one after the other."""
        width = len(answer["series"][name]["min"])
        edges = np.round(np.array([answer["from"], answer["to"]]) * 1e6)
        passed = np.floor((self.t - edges[0]) / ((edges[1] - edges[0]) / width))
        pixel = np.minimum(passed, width - 1)
        inside = self.there & (self.t >= edges[0]) & (self.t <= edges[1])
        found: list[tuple[float, float, float] | None] = []
        for at in range(width):
            values = self.values[name][inside & (pixel == at)]
            values = values[~np.isnan(values)]
            found.append((values.min(), values.max(), values.mean()) if len(values) else None)
        return found


def assert_bands(expected: Expected, answer: dict[str, Any]) -> int:
    """Compare all lines of an answer; return how many pixels have something."""
    compared = 0
    for name, lists in answer["series"].items():
        got = list(zip(lists["min"], lists["max"], lists["mean"], strict=True))
        for one, other in zip(got, expected.bands(name, answer), strict=True):
            if other is None:
                assert one == (None, None, None), name
            else:
                assert one == pytest.approx(other, rel=1e-6), name
                compared += 1
    return compared


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_sessions(tmp_path_factory.mktemp("made"))


@pytest.mark.slow
@pytest.mark.parametrize("are_kept", [True, False])
def test_lines_are_those_of_numpy_and_the_rate_that_of_the_library(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, are_kept: bool
) -> None:
    if not are_kept:  # as where there are very many detections
        monkeypatch.setattr("dgrec.replay.viewing.labels._MOST_KEPT", -1)
    chosen = (
        "uneven 400", "stalls", "live losses", "stages of NaN", "captured_at NULL",
        "captures that run backwards", "captured_at first and last NULL", "inference_ms NULL",
        "without latency_ms", "parts and a journal", "clip of moments", "killed journal", "one row",
    )  # fmt: skip
    names = [*NAMES, "detections", "label:person", "label:car"]
    for path in (ROOT / "sample_data" / "session.parquet", *(made[name] for name in chosen)):
        with opened(path) as (session, reader):
            expected = Expected(session)
            length = (expected.ends[1] - expected.ends[0]) / 1e6
            begin = (expected.ends[0] - expected.origin) / 1e6
            for start, end, width in (
                (None, None, 50),
                (None, None, 700),
                (begin + length / 3, begin + length / 2, 17),
            ):
                answer = series(session, reader, names, start, end, width)
                assert_bands(expected, answer)
            whole = series(session, reader, [*names, "fps"], width=50)
            assert assert_bands(expected, series(session, reader, names, width=50)) > 0
            assert_rate(session, reader, whole)


def assert_rate(session: Session, reader: SqlReader, answer: dict[str, Any]) -> None:
    """Each window of `throughput` is in the pixel of its middle; other pixels are within one."""
    rate = answer["series"]["fps"]
    windows = reader.rows(
        "SELECT epoch_us(window_start) / 1e6 AS start, seconds, fps "
        f"FROM throughput({answer['fps_window_s']})"
    )
    if not windows:
        assert set(rate["mean"]) == {None}
        return
    expected = Expected(session)
    if not expected.origin:
        assert set(rate["mean"]) == {None}
        return
    origin = expected.origin / 1e6
    for window in windows:
        middle = window["start"] - origin + window["seconds"] / 2
        if window["fps"] is None or not answer["from"] <= middle <= answer["to"]:
            continue
        at = min(int((middle - answer["from"]) / answer["step"]), len(rate["min"]) - 1)
        near = [k for k in (at - 1, at, at + 1) if 0 <= k < len(rate["min"])]
        slack = 1e-6 * (1 + window["fps"])
        assert any(
            rate["min"][k] is not None
            and rate["min"][k] - slack <= window["fps"] <= rate["max"][k] + slack
            for k in near
        )


def test_a_rate_goes_to_zero_where_nothing_came(tmp_path: Path) -> None:
    rows = []
    for i in range(600):
        at = START_NS + (i * 40 + (30_000 if i >= 500 else 0)) * MS
        rows.append(make_row(i, [], captured_ns=at, completed_ns=at + 9 * MS))
    with opened(write_session(tmp_path / "gap.parquet", rows)) as (session, reader):
        answer = series(session, reader, ["fps", "latency_ms"], width=54)
        rate = answer["series"]["fps"]["mean"]
        assert answer["fps_window_s"] == 1
        assert rate[30] == 0
        assert rate[10] == pytest.approx(25)
        assert answer["series"]["latency_ms"]["mean"][30] is None
        (gap,) = marks(session, reader)["gaps"]
        assert (gap["i"], gap["count"], gap["text"]) == (500, 1, "30 s without a result")
        assert (gap["t"], gap["to"]) == pytest.approx((19.969, 50.009))
        # Also where it neither begins nor ends.
        for start, end, count in ((30, 40, 1), (20, 60, 1), (0, 30, 1), (0, 19, 0), (50.1, 60, 0)):
            found = marks(session, reader, start, end)
            assert (found["gaps"], found["totals"]["gaps"]) == ([gap] * count, count)


def test_signals_and_names_with_commas(tmp_path: Path) -> None:
    rows = [
        make_row(i, [make_detection(label="a,b")], signals=[
            Signal(name, make_row(i).completed_ns, value) for name, value in (
                ("cpu, %", float(i)), ("</script>", math.inf if i % 2 else 0.5))
        ]) for i in range(60)
    ]  # fmt: skip
    with opened(write_session(tmp_path / "s.parquet", rows)) as (session, reader):
        names = series_names("signal:cpu%2C%20%25,signal:%3C%2Fscript%3E,label:a%2Cb,signal:no")
        assert names == ["signal:cpu, %", "signal:</script>", "label:a,b", "signal:no"]
        for _ in range(2):  # the second is answered from memory
            answer = series(session, reader, names, width=4)
            found = answer["series"]
            assert found["label:a,b"]["mean"] == [1, 1, 1, 1]
            assert found["signal:no"] == dict.fromkeys(("min", "max", "mean"), [None] * 4)
            assert found["signal:cpu, %"]["min"] == [0, 15, 30, 45]
            assert found["signal:</script>"]["max"] == [0.5] * 4
        json.dumps(answer, allow_nan=False)


def test_a_million_labels_cost_no_more_than_those_that_are_asked_for(tmp_path: Path) -> None:
    results = [make_detection(k, label=f"label {k}") for k in range(300)]
    rows = [make_row(i, results) for i in range(20)]
    with opened(write_session(tmp_path / "s.parquet", rows)) as (session, reader):
        answer = series(session, reader, ["label:label 7", "detections"], width=1)
        assert answer["series"]["label:label 7"]["mean"] == [1]
        assert answer["series"]["detections"]["max"] == [300]


@pytest.mark.parametrize("most", [1 << 30, -1])
def test_rows_without_detections_and_detections_without_a_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("dgrec.replay.viewing.labels._MOST_KEPT", most)
    kinds: list[list[str | None]] = [[], ["a", "b", "a"], [], [None], [], ["b"], ["a"], []]
    rows = [
        make_row(i, [make_detection(label=... if label is None else label) for label in labels])
        for i, labels in enumerate(kinds * 40)
    ]
    with opened(write_session(tmp_path / "s.parquet", rows)) as (session, _):
        labels = read_labels(session)
        assert labels.counts == {"a": 120, "b": 80}
        assert (labels.codes is None) == (most < 0)
        for start, stop in ((0, len(rows)), (1, 2), (5, 261), (0, 1), (7, 7), (319, 320)):
            found: dict[str, list[int]] = {"a": [], "b": [], "no": [], "all": []}
            for _, of_rows in labels.rows(session, "frame", start, stop):
                for label in ("a", "b", "no"):
                    found[label] += of_rows.count(label).tolist()
                found["all"] += of_rows.lengths.tolist()
            wanted = (kinds * 40)[start:stop]
            for label in ("a", "b", "no"):
                assert found[label] == [row.count(label) for row in wanted]
            assert found["all"] == [len(row) for row in wanted]


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    nothing = write_session(tmp_path / "none.parquet", [])
    with opened(nothing) as (session, reader):
        assert series(session, reader, ["latency_ms"])["series"]["latency_ms"]["min"] == []
        assert marks(session, reader)["totals"]["late"] == 0
        assert next_mark(session, reader, 0, [])["i"] is None
    with opened(write_session(tmp_path / "s.parquet", [make_row(0), make_row(1)])) as opened_one:
        for names in (["frame"], ["latency_ms; DROP"], ["signal"], ["latency_ms"] * 41):
            with pytest.raises(QueryError, match="line"):
                series(*opened_one, names)
        with pytest.raises(QueryError, match="after"):
            series(*opened_one, ["latency_ms"], 5, 4)
        with pytest.raises(QueryError, match="nan is not a time"):
            series(*opened_one, ["latency_ms"], math.nan, 4)
        with pytest.raises(QueryError, match="pixels"):
            marks(*opened_one, width=0)
        with pytest.raises(QueryError, match="expected drop, gap"):
            next_mark(*opened_one, 0, ["frames"])
        far = series(*opened_one, ["latency_ms", "fps", "label:x"], -1e300, 1e300, 10**9)
        assert len(far["series"]["latency_ms"]["min"]) == 4096
        assert set(STAGE_COLUMNS) <= set(series(*opened_one, list(STAGE_COLUMNS))["series"])


@pytest.mark.slow
def test_marks_are_those_of_the_library(made: dict[str, Path]) -> None:
    seen = 0
    chosen = (
        "live losses", "live late at first", "uneven 400", "stalls", "parts", "clip of moments",
        "dropped_before NULL", "captures that run backwards",
    )  # fmt: skip
    for name in chosen:
        with opened(made[name]) as (session, reader):
            wanted = {
                "drops": reader.rows("FROM frame_losses WHERE dropped_before > 0"),
                "late": reader.rows("FROM late_frames()"),
                "gaps": reader.rows("FROM stalls()"),
            }
            frames = session.frames.column("frame").to_pylist()
            for width in (10, 4096):
                answer = marks(session, reader, width=width)
                for kind, rows in wanted.items():
                    shown = answer[kind]
                    lost = (
                        sum(row["dropped_before"] for row in rows) if kind == "drops" else len(rows)
                    )
                    assert sum(mark["count"] for mark in shown) == lost == answer["totals"][kind]
                    assert len(shown) <= width
                    there = {row["frame"] for row in rows}
                    assert all(frames[mark["i"]] in there for mark in shown)
                    seen += len(shown)
            # From one to the next, and back.
            walked, i = [], -1
            while (i := next_mark(session, reader, i, ["late", "drop"])["i"]) is not None:
                walked.append(i)
            both = {row["frame"] for kind in ("late", "drops") for row in wanted[kind]}
            assert [frames[i] for i in walked] == sorted(both)
            back, i = [], len(frames)
            while (i := next_mark(session, reader, i, ["late", "drop"], -1)["i"]) is not None:
                back.append(i)
            assert back == walked[::-1]
    assert seen > 100


def test_events_and_alerts(tmp_path: Path) -> None:
    def at(second: float) -> str:
        return f"2026-01-02T03:04:{5.678901 + second:09.6f}Z"

    events = [
        {"kind": "mark", "at": at(0.5), "text": "<b>lamp</b>\x1b[31m" + "x" * 500},
        {"kind": "gap", "from": at(1), "to": at(1.5), "reason": "source lost"},
        {"kind": "gap", "from": at(1.1), "to": at(1.6)},
        {"kind": "alert", "from": at(0.9), "at": at(1.2), "text": "crowd", "rule": "count() > 3",
         "source_frame": 33},
        {"kind": "alert_end", "at": at(1.4), "text": "crowd"},
        {"kind": "mark", "at": "never", "text": "no time"},
    ]  # fmt: skip
    path = write_session(
        tmp_path / "s.parquet", [make_row(i) for i in range(60)], new_metadata(events=events)
    )
    with opened(path) as (session, reader):
        answer = marks(session, reader)
        (event,), (gap, longer), (alert,) = answer["events"], answer["gaps"], answer["alerts"]
        assert event["text"].startswith("mark: <b>lamp</b>")
        assert len(event["text"]) == 200
        assert event["t"] == pytest.approx(0.5, abs=0.01)
        assert (gap["text"], gap["to"]) == ("gap: source lost", pytest.approx(1.5, abs=0.01))
        assert (alert["text"], alert["i"]) == ("crowd: count() > 3", 33)
        # Those that began before a stretch are one mark, which lasts as long as any of them.
        lasting = marks(session, reader, 1.3, 1.35)
        assert lasting["alerts"] == [alert]
        assert lasting["gaps"] == [{**gap, "count": 2, "to": longer["to"]}]
        assert next_mark(session, reader, 20, ["alert"]) == {
            "i": 33, "kind": "alert", "text": "crowd: count() > 3"
        }  # fmt: skip


def test_gaps_are_given_where_pixels_may_be_empty(tmp_path: Path) -> None:
    at = [START_NS + (i * 40 + (3000 if i >= 50 else 0)) * MS for i in range(100)]
    rows = [make_row(i, captured_ns=ns, completed_ns=ns + 9 * MS) for i, ns in enumerate(at)]
    with opened(write_session(tmp_path / "s.parquet", rows, new_metadata())) as of:
        sparse = series(*of, ["latency_ms"], width=400)
        assert sparse["gaps"] == [[pytest.approx(1.96), pytest.approx(5.0)]]
        assert series(*of, ["latency_ms"], 0, 1, width=400)["gaps"] == []
        assert series(*of, ["latency_ms"], width=4)["gaps"] is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("first", [2.0, 1e14])
def test_times_that_no_source_has_are_on_no_time_line(tmp_path: Path, first: float) -> None:
    """They are no number of microseconds; where the first row has one, the rows are counted."""
    media = [first, *(2 + i / 10 for i in range(1, 50))]
    media[7], media[9] = 1e14, math.nan
    path = write_session(tmp_path / "s.parquet", [make_row(i, dropped_queue=1) for i in range(50)])
    edited(path, {"captured_at": [None] * 50, "media_time_s": media})
    is_of_media = first == 2
    there = [i for i in range(50) if not (is_of_media and i in (7, 9))]
    step = 0.1 if is_of_media else 0.04
    with served(path) as client:
        answer = client.json("/api/series", s="s", names="detections,latency_ms", width=4096)
        times = client.json("/api/rows", s="s", **{"from": 0, "to": 50})["t"]
        position = client.json("/api/at", s="s", t=20 * step)["i"]
        drops = client.json("/api/marks", s="s")["totals"]["drops"]
    assert (answer["from"], answer["to"]) == (0, pytest.approx(49 * step))
    for lists in answer["series"].values():
        assert sum(value is not None for value in lists["mean"]) == len(there)
    assert [i for i, t in enumerate(times) if t is not None] == there
    assert [times[i] for i in there] == pytest.approx([i * step for i in there])
    assert position == 20
    assert drops == len(there)

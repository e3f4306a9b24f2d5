"""`dgrec stats --why` and `--late`: what they say of recordings whose limit is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import dgrec as library
from dgrec import sample
from tests.factory import START_NS, make_row, new_metadata, without_column, write_session

Run = Callable[..., Result]
MS = 1_000_000


def recorded(
    path: Path,
    *,
    every_ms: float,
    count: int = 60,
    kind: str = "file",
    read_ms: float = 1.0,
    inference_ms: float | None = 12.0,
    waiting_ms: float = 5.0,
    recorder_ms: float = 0.1,
    devices: int = 1,
    host: str = "@cloud",
    **row: Any,
) -> Path:
    """Write a session of which every frame is alike."""
    timing = {}
    if inference_ms is not None:
        timing = {
            "CorePreprocessDuration_ms": 1.0,
            "CoreInferenceDuration_ms": inference_ms,
            "CorePostprocessDuration_ms": 1.0,
        }
    is_told = inference_ms is not None and not math.isnan(inference_ms)
    latency = (inference_ms if is_told else 12.0) + 2 + waiting_ms
    rows = []
    steps = 1 + sum(row.get(name, 0) for name in ("skipped_before", "dropped_queue"))
    for i in range(count):
        captured = START_NS + int(i * every_ms * MS)
        rows.append(
            make_row(
                i,
                [],
                captured_ns=captured,
                completed_ns=captured + int(latency * MS),
                read_ns=int(read_ms * MS),
                recorder_ns=int(recorder_ms * MS),
                timing=timing,
                **{"source_frame": i * steps, **row},
            )
        )
    metadata = new_metadata(
        source={"kind": kind},
        model={"name": "m", "inference_host": host, "devices": list(range(devices))},
    )
    return write_session(path, rows, metadata)


def why(dgrec: Run, path: Path) -> dict[str, Any]:
    done = dgrec("stats", path, "--why", "--format", "json")
    assert done.exit_code == 0, done.output
    (value,) = json.loads(done.stdout)
    return dict(value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "recording", "said"),
    [
        (
            "read",
            {"every_ms": 124, "read_ms": 120, "kind": "camera", "waiting_ms": 81},
            "8.06 fps although inference takes 12 ms: the source delivers 8.06 fps, and all of it "
            "is taken: the camera is the limit.",
        ),
        (
            "read",
            {"every_ms": 60, "read_ms": 55},
            "reading the source takes 55 ms a frame and is busy 92%",
        ),
        (
            "inference",
            {
                "every_ms": 100,
                "inference_ms": 98.0,
                "read_ms": 33,
                "kind": "camera",
                "dropped_queue": 2,
            },
            "inference takes 98 ms a frame and is busy 98% of the time: it is the limit.",
        ),
        (
            "inference",
            {"every_ms": 50, "inference_ms": 98.0, "devices": 2},
            "of the time on 2 devices: it is the limit.",
        ),
        (
            "recorder",
            {"every_ms": 40, "recorder_ms": 38},
            "recording (with display, video and publishing) takes 38 ms a frame and is busy 95%",
        ),
        (
            "thread",
            {"every_ms": 100, "read_ms": 45, "recorder_ms": 48},
            "take turns, and together are busy 93% of the time: they are the limit.",
        ),
        (
            "asked",
            {"every_ms": 100, "read_ms": 33, "kind": "url", "skipped_before": 2},
            "that is the rate asked for. --fps or --every left out 116 of 175 frames.",
        ),
        # 60 frames of 19 ms in 5.919 s.
        (
            None,
            {"every_ms": 100},
            "the pipeline waits for frames. At least 81% of the time none was on its way.",
        ),
        (
            None,
            {"every_ms": 100, "inference_ms": None, "read_ms": 0.0},
            "10.0 fps: the pipeline waits for frames.",
        ),
        (
            None,
            {"every_ms": 100, "waiting_ms": 300},
            "what limits it is unknown. No part that is timed was busy all the time (inference "
            "most, 12%); the rest may go where nothing measures it, such as resizing before "
            "inference, a network, an AI server, or a busy processor.",
        ),
        (
            None,
            {"every_ms": 100, "waiting_ms": 300, "host": "@local"},
            "measures it, such as resizing before inference, or a busy processor.",
        ),
        (
            None,
            {"every_ms": 100, "inference_ms": None, "waiting_ms": 300},
            "10.0 fps: the runtime reported no times of inference, so what limits",
        ),
        (
            None,
            {"every_ms": 100, "inference_ms": math.nan, "waiting_ms": 300},
            "10.0 fps: the runtime reported no times of inference, so what limits",
        ),
    ],
)
def test_the_limit_is_named(
    dgrec: Run, tmp_path: Path, limit: str | None, recording: dict[str, Any], said: str
) -> None:
    path = recorded(tmp_path / "s.parquet", **recording)
    found = why(dgrec, path)
    assert found["limit"] == limit
    assert said in found["findings"][0]
    table = dgrec("stats", path, "--why").stdout
    for finding in found["findings"]:
        assert finding in table
        assert f"- {finding}" in dgrec("stats", path, "--why", "--format", "markdown").stdout


@pytest.mark.slow
def test_the_numbers_of_the_sentences(dgrec: Run, tmp_path: Path) -> None:
    found = why(dgrec, recorded(tmp_path / "s.parquet", every_ms=20, waiting_ms=35, count=400))
    text = "\n".join(found["findings"])
    assert found["fps"] == pytest.approx(50)
    assert (
        "fps is not 1/latency, which is 20.4 fps: a frame takes 49 ms from capture to result, and "
        "2.5 are on their way at a time (Little's law: 50.0/s x 0.049 s)." in text
    )
    assert "Where the 49 ms go: waiting 35 ms (71%), inference 12 ms (24%)" in text
    assert "Left out as warm-up: the first 3 frames." in text


@pytest.mark.slow
def test_a_source_of_which_every_tenth_frame_is_kept(dgrec: Run, tmp_path: Path) -> None:
    """20 ms a read, ten reads a result: 5 results a second at most, not 50."""
    path = recorded(tmp_path / "s.parquet", every_ms=300, read_ms=20, skipped_before=9)
    (read,) = (load for load in why(dgrec, path)["loads"] if load["stage"] == "read")
    assert read["capacity_fps"] == pytest.approx(5, rel=0.05)
    inference = next(x for x in why(dgrec, path)["loads"] if x["stage"] == "inference")
    assert inference["capacity_fps"] == pytest.approx(1000 / 12, rel=1e-9)


@pytest.mark.slow
def test_a_short_recording_of_slow_frames_makes_no_stage_faster(dgrec: Run, tmp_path: Path) -> None:
    """What a stage can do is one over its time, however much of the time the rate leaves out."""
    path = recorded(
        tmp_path / "s.parquet", every_ms=100, read_ms=20, inference_ms=190, devices=2,
        waiting_ms=5000, count=60,
    )  # fmt: skip
    loads = {load["stage"]: load for load in why(dgrec, path)["loads"]}
    assert loads["read"]["capacity_fps"] == pytest.approx(1000 / 20)
    assert loads["inference"]["capacity_fps"] == pytest.approx(2 * 1000 / 190)


@pytest.mark.slow
def test_a_rate_that_was_asked_for_is_said_even_if_some_frames_were_replaced(
    dgrec: Run, tmp_path: Path
) -> None:
    path = recorded(
        tmp_path / "s.parquet",
        every_ms=500,
        kind="url",
        read_ms=40,
        skipped_before=11,
        dropped_queue=1,
    )
    found = why(dgrec, path)
    assert found["limit"] == "asked"
    assert "--fps or --every left out" in found["findings"][0]


@pytest.mark.slow
def test_frames_that_were_replaced_are_counted(dgrec: Run, tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "s.parquet", every_ms=100, inference_ms=98.0, kind="camera", dropped_queue=2
    )
    text = "\n".join(why(dgrec, path)["findings"])
    assert "114 of 172 frames were replaced by a newer one while they waited" in text


@pytest.mark.slow
def test_the_warm_up_is_left_out_and_said_to_be(dgrec: Run, tmp_path: Path) -> None:
    rows = []
    for i in range(400):
        captured = START_NS + i * 40 * MS
        latency = 10 + max(0, 60 - i)
        timing = {"CoreInferenceDuration_ms": latency - 5.0}
        rows.append(
            make_row(
                i, [], captured_ns=captured, completed_ns=captured + latency * MS, timing=timing
            )
        )
    path = write_session(tmp_path / "s.parquet", rows)
    found = why(dgrec, path)
    assert found["left_out"] > 0
    assert found["frames"] == 400 - found["left_out"]
    assert f"Left out as warm-up: the first {found['left_out']} frames." in found["findings"]
    (inference,) = (load for load in found["loads"] if load["stage"] == "inference")
    kept = [row.timing["CoreInferenceDuration_ms"] for row in rows[found["left_out"] :]]
    assert inference["mean_ms"] == pytest.approx(sum(kept) / len(kept))
    settled = f"after {found['left_out']} frames  (left out here: 0 frames)"
    assert settled in dgrec("stats", path).stdout


@pytest.mark.slow
def test_one_frame_and_none(dgrec: Run, tmp_path: Path) -> None:
    one = write_session(tmp_path / "one.parquet", [make_row(0, [], timing={})])
    none = write_session(tmp_path / "none.parquet", [])
    (finding,) = why(dgrec, one)["findings"]
    assert finding == "1 frame in 12.3 ms: too little for a rate."
    rows = [make_row(i, captured_ns=START_NS, completed_ns=START_NS) for i in range(3)]
    (finding,) = why(dgrec, write_session(tmp_path / "at_once.parquet", rows))["findings"]
    assert finding.startswith("3 frames in 0.001 ms: too little")
    assert json.loads(dgrec("stats", none, "--why", "--format", "json").stdout) == []
    for path in (one, none):
        for form in ("table", "markdown"):
            assert dgrec("stats", path, "--why", "--format", form).exit_code == 0
    assert "has no frames" in dgrec("stats", none, "--why").stderr


@pytest.mark.slow
def test_late_frames_of_the_sample(dgrec: Run) -> None:
    rows = json.loads(dgrec("stats", sample.SESSION, "--late", 3, "--format", "json").stdout)
    assert len(rows) == 3
    with library.open(sample.SESSION) as session:
        totals = session.sql("SELECT total_ms FROM frame_parts ORDER BY total_ms DESC LIMIT 3")
        latest = [total for (total,) in totals.fetchall()]
    assert [row["total_ms"] for row in rows] == pytest.approx(latest, abs=0.001)
    printed = dgrec("stats", sample.SESSION, "--late", 3).stdout
    for row in rows:
        late_by = row["total_ms"] - row["usual_ms"]
        assert row["late_by_ms"] == pytest.approx(late_by, abs=0.002)
        assert str(row["frame"]) in printed


@pytest.mark.slow
def test_the_sql_that_is_printed_gives_the_same_answer(dgrec: Run, tmp_path: Path) -> None:
    for options in (("--late", 3), ("--window", "5s"), ("--by", "label"), ("--by", "hour")):
        text = dgrec("stats", *options, "--sql").stdout
        assert "SELECT" in text
        file = tmp_path / "q.sql"
        file.write_text(text)
        asked = dgrec("query", sample.SESSION, "--file", file, "--format", "json")
        assert asked.exit_code == 0, asked.output
        assert asked.stdout == dgrec("stats", sample.SESSION, *options, "--format", "json").stdout
    # What the query stands on is above it.
    late = dgrec("stats", "--late", 3, "--sql").stdout
    assert "-- CREATE MACRO late_frames" in late
    assert "-- CREATE VIEW frame_parts" in late
    assert "warm_up" not in late


@pytest.mark.slow
def test_the_sql_of_several_answers_is_asked_one_after_the_other(dgrec: Run) -> None:
    text = dgrec("stats", "--sql").stdout
    assert "-- CREATE VIEW warm_up" in text
    assert "stage_load" not in text
    asked = dgrec("query", sample.SESSION, "--format", "jsonl", input=text)
    assert asked.exit_code == 0, asked.output
    first, dropped, *labels, warm_up = map(json.loads, asked.stdout.splitlines())
    stats = json.loads(dgrec("stats", sample.SESSION, "--format", "json").stdout)
    assert first["frames"] == stats["frames"]
    assert dropped == {"skipped": stats["skipped"], **stats["dropped"]}
    assert first["inference_ms"]["mean_ms"] == stats["stages"]["inference_ms"]["mean"]
    assert [row["detections"] for row in labels] == [row["detections"] for row in stats["labels"]]
    assert warm_up == stats["warm_up"]

    text = dgrec("stats", "--why", "--sql").stdout
    assert "-- CREATE VIEW pipeline" in text
    asked = dgrec("query", sample.SESSION, "--format", "jsonl", input=text)
    assert asked.exit_code == 0, asked.output
    *loads, pipeline = map(json.loads, asked.stdout.splitlines())
    found = why(dgrec, sample.SESSION)
    assert [load["stage"] for load in loads] == [load["stage"] for load in found["loads"]]
    assert pipeline["fps"] == pytest.approx(found["fps"])


@pytest.mark.slow
def test_a_recording_may_be_too_short_to_settle(dgrec: Run, tmp_path: Path) -> None:
    short = recorded(tmp_path / "short.parquet", every_ms=33, count=30)
    said = "too short to tell (that takes 3 windows of 31 frames)"
    assert f"settled      {said}" in dgrec("stats", short).stdout
    first = "the first frame (captured before the first result)"
    assert f"Left out as warm-up: {first}; {said}." in why(dgrec, short)["findings"]
    assert json.loads(dgrec("stats", short, "--format", "json").stdout)["warm_up"] == {
        "frames": 0,
        "has_settled": None,
        "window_frames": 31,
    }
    empty = write_session(tmp_path / "empty.parquet", [])
    assert "settled      -\n" in dgrec("stats", empty).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("completed_at", "60 frames; the rate is unknown: captured_at or completed_at is"),
        ("captured_at", "60 frames; the rate is unknown: captured_at or completed_at is"),
        ("latency_ms", "How many frames were on their way at a time is unknown: latency_ms"),
        *((name, "fps is not 1/latency") for name in ("read_ms", "recorder_ms", "inference_ms")),
        *((name, "fps is not 1/latency") for name in ("skipped_before", "dropped_before")),
        *((f"dropped_{place}", "fps is not 1/latency") for place in ("camera", "queue", "writer")),
    ],
)
def test_what_a_file_does_not_tell_is_said_and_not_made_up(
    dgrec: Run, tmp_path: Path, column: str, said: str
) -> None:
    whole = recorded(tmp_path / "whole.parquet", every_ms=33, skipped_before=1, dropped_queue=1)
    path = without_column(whole, column)
    other = recorded(tmp_path / "other.parquet", every_ms=33)
    done = dgrec("stats", path, other, "--why")
    assert (done.exit_code, done.stderr) == (
        0,
        f"{path}: has no {column}: figures that need it are missing\n",
    )
    assert said in "\n".join(why(dgrec, path)["findings"])
    stats = json.loads(dgrec("stats", path, "--format", "json").stdout)
    if column.startswith("dropped"):
        place = column.removeprefix("dropped_").replace("before", "total")
        assert stats["dropped"][place] is None
    assert (stats["skipped"] is None) == (column == "skipped_before")
    for options in (("--window", "1s"), ("--late", 3), ("--by", "hour")):
        assert dgrec("stats", path, *options).exit_code == 0


@pytest.mark.slow
def test_sessions_of_one_name_are_told_apart(dgrec: Run, tmp_path: Path) -> None:
    paths = [recorded(tmp_path / f"{name}.parquet", every_ms=33) for name in ("a", "b")]
    ids = [why(dgrec, path)["session_id"] for path in paths]
    for options in (("--window", "10s"), ("--why",)):
        done = dgrec("stats", *paths, *options, "--format", "json")
        assert sorted(row["session"] for row in json.loads(done.stdout)) == sorted(
            f"test {id_}" for id_ in ids
        )
    assert why(dgrec, paths[0])["session"] == "test"


@pytest.mark.slow
def test_a_short_recording_does_not_show_how_busy_a_part_was(dgrec: Run, tmp_path: Path) -> None:
    """The rate is over 5.5 s, and work on these frames may have been spread over 11.5 s."""
    rows = [
        make_row(
            i,
            [],
            captured_ns=START_NS + i * 40 * MS,
            completed_ns=START_NS + (6000 + i * 500) * MS,
            timing={"CoreInferenceDuration_ms": 500.0},
        )
        for i in range(12)
    ]
    found = why(dgrec, write_session(tmp_path / "s.parquet", rows))
    (load,) = [load for load in found["loads"] if load["stage"] == "inference"]
    assert load["busy"] == pytest.approx(1)
    assert load["busy_at_least"] == pytest.approx(11 * 0.5 / 11.5)
    # It was the queue that had frames all the time, and nothing else that could be busy.
    assert found["limit"] == "inference"
    assert "is busy 48% to 100% of the time: it is the limit." in found["findings"][0]
    cloud = new_metadata(model={**new_metadata()["model"], "inference_host": "@cloud"})
    found = why(dgrec, write_session(tmp_path / "cloud.parquet", rows, cloud))
    assert found["limit"] is None
    assert (
        "what limits it is unknown. Inference may: it was busy 48% to 100% of the time, and in "
        "so short a recording that is as much as can be known." in found["findings"][0]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("latencies", "mean"), [((0, 0), "0"), ((-5, 5), "0"), ((-5, -3), "-4")])
def test_latencies_that_are_none_give_no_rate(
    dgrec: Run, tmp_path: Path, latencies: tuple[int, ...], mean: str
) -> None:
    """One over 0 is infinite, and one over less is a rate below nothing."""
    rows = [
        make_row(i, captured_ns=at, completed_ns=at + latencies[i % 2] * 1_000_000)
        for i in range(20)
        for at in [START_NS + i * 33_000_000]
    ]
    path = write_session(tmp_path / "s.parquet", rows)
    with library.open(path) as session:
        assert session.sql_rows("SELECT one_at_a_time_fps FROM pipeline") == [(None,)]
    findings = why(dgrec, path)["findings"]
    said = f"The mean latency is {mean} ms, which says nothing about the rate."
    assert said in findings, findings

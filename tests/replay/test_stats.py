"""`dgrec stats`, against numpy on the same rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import dgrec as dgrec_package
from dgrec.format import Row
from dgrec.replay.stats import measure
from dgrec.replay.stats import summary as stats_module
from dgrec.replay.stats.summary import STAGES
from tests.factory import (
    CAMERA,
    START_NS,
    losses_of,
    make_detection,
    make_row,
    new_metadata,
    rate_of,
    write_journal,
    write_session,
)
from tests.replay.conftest import uneven_rows

Run = Callable[..., Result]
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
MS = 1_000_000


def stage_values(rows: list[Row]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the durations of the rows in milliseconds, from what went into the recorder."""

    def timing(key: str) -> list[float]:
        return [row.timing[key] for row in rows if key in row.timing]

    return {
        "read_ms": np.array([row.read_ns for row in rows]) / MS,
        "preprocess_ms": np.array(timing("CorePreprocessDuration_ms")),
        "inference_ms": np.array(timing("CoreInferenceDuration_ms")),
        "postprocess_ms": np.array(timing("CorePostprocessDuration_ms")),
        "latency_ms": np.array([row.completed_ns - row.captured_ns for row in rows]) / MS,
        "recorder_ms": np.array([row.recorder_ns for row in rows]) / MS,
    }


def json_stats(dgrec: Run, path: Path) -> dict[str, Any]:
    result = dgrec("stats", path, "--format", "json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sealed", "journal", "cut off"])
def test_stages_agree_with_numpy(dgrec: Run, tmp_path: Path, form: str) -> None:
    rows = uneven_rows(997, seed=3)
    if form == "sealed":
        path = write_session(tmp_path / "s.parquet", rows)
    else:
        path = write_journal(tmp_path / "s.arrows", rows, end=form == "journal")
    stages = json_stats(dgrec, path)["stages"]
    assert tuple(stages) == tuple(name for name in STAGES if name != "published_ms")
    for name, values in stage_values(rows).items():
        # What dgrec measures itself is stored in steps of 1/4096 ms.
        assert stages[name]["count"] == len(values)
        assert stages[name]["mean"] == pytest.approx(values.mean(), abs=1 / 4096)
        assert stages[name]["max"] == pytest.approx(values.max(), abs=1 / 4096)
        for quantile, point in QUANTILES.items():
            expected = np.quantile(values, point)
            assert stages[name][quantile] == pytest.approx(expected, abs=1 / 4096), quantile
    assert stages["postprocess_ms"]["count"] < len(rows)


@pytest.mark.slow
def test_quantiles_of_runtime_stages_are_exact(dgrec: Run, tmp_path: Path) -> None:
    rows = uneven_rows(200, seed=5)
    stages = json_stats(dgrec, write_session(tmp_path / "s.parquet", rows))["stages"]
    values = stage_values(rows)["inference_ms"]
    for quantile, point in QUANTILES.items():
        assert stages["inference_ms"][quantile] == pytest.approx(
            np.quantile(values, point), rel=1e-12
        )


@pytest.mark.slow
def test_estimates_of_a_long_session_say_so(
    monkeypatch: pytest.MonkeyPatch, dgrec: Run, tmp_path: Path
) -> None:
    rows = uneven_rows(3000, seed=1)
    path = write_session(tmp_path / "s.parquet", rows, batch=500)
    assert "estimates" not in dgrec("stats", path).stdout
    monkeypatch.setattr(stats_module, "EXACT_FRAMES", len(rows) - 1)
    estimated = json_stats(dgrec, path)
    assert estimated["quantiles"] == "estimated"
    assert "estimates" in dgrec("stats", path).stdout
    for name, values in stage_values(rows).items():
        for quantile, point in QUANTILES.items():
            low, high = np.quantile(values, [point - 0.005, min(1, point + 0.005)])
            assert low - 0.001 <= estimated["stages"][name][quantile] <= high + 0.001


@pytest.mark.slow
def test_throughput_duration_and_losses(dgrec: Run, tmp_path: Path) -> None:
    rows = uneven_rows(300, seed=2)
    camera = new_metadata(source=CAMERA)
    result = json_stats(dgrec, write_session(tmp_path / "s.parquet", rows, camera))
    completed = [row.completed_ns // 1000 for row in rows]
    captured = [row.captured_ns // 1000 for row in rows]
    duration = (max(completed) - min(captured)) / 1e6
    assert result["frames"] == 300
    assert result["duration_s"] == pytest.approx(duration)
    assert result["throughput_fps"] == pytest.approx(rate_of(rows))
    assert result["skipped"] == sum(row.skipped_before for row in rows)
    assert result["dropped"] == losses_of(rows)
    assert result["dropped"]["writer"] == 1
    footage = json_stats(dgrec, write_session(tmp_path / "footage.parquet", rows))
    assert footage["dropped"] == losses_of(rows, live=False)
    assert footage["dropped"]["at_start"] == 0 < result["dropped"]["at_start"]


@pytest.mark.slow
def test_labels_agree_with_the_rows(dgrec: Run, tmp_path: Path) -> None:
    rows = uneven_rows(300, seed=4)
    result = json_stats(dgrec, write_session(tmp_path / "s.parquet", rows))
    found = {label["label"]: label for label in result["labels"]}
    assert set(found) == {"person", "car", None}
    for name, label in found.items():
        scores = [d["score"] for row in rows for d in row.results if d.get("label") == name]
        frames = sum(any(d.get("label") == name for d in row.results) for row in rows)
        assert label["detections"] == len(scores)
        assert label["frames"] == frames
        assert frames < len(scores)  # or the test would not tell the two apart
        assert label["mean_score"] == pytest.approx(np.mean(scores))
        assert label["per_second"] == pytest.approx(len(scores) / result["duration_s"])
    assert result["detections"] == sum(len(row.results) for row in rows)
    counts = [label["detections"] for label in result["labels"]]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.slow
def test_no_frames(dgrec: Run, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [])
    result = json_stats(dgrec, path)
    assert result["frames"] == 0
    assert result["duration_s"] is None
    assert result["throughput_fps"] is None
    assert result["labels"] == []
    empty = {"mean": None, "p50": None, "p90": None, "p95": None, "p99": None, "max": None}
    assert all(stage == {"count": 0, **empty} for stage in result["stages"].values())
    text = dgrec("stats", path).stdout
    (line,) = (line for line in text.splitlines() if line.startswith("latency"))
    assert line.split() == ["latency", "0", *("-" * 6)]
    assert "Labels" not in text


@pytest.mark.slow
def test_one_frame_without_detections_or_timing(dgrec: Run, tmp_path: Path) -> None:
    row = make_row(0, [], timing={}, captured_ns=START_NS, completed_ns=START_NS + 8 * MS)
    path = write_session(tmp_path / "s.parquet", [row])
    result = json_stats(dgrec, path)
    assert result["duration_s"] == 0.008
    assert result["throughput_fps"] is None
    assert result["stages"]["latency_ms"] == {"count": 1} | dict.fromkeys(
        ("mean", "p50", "p90", "p95", "p99", "max"), 8.0
    )
    assert result["stages"]["inference_ms"]["count"] == 0
    assert result["stages"]["inference_ms"]["p99"] is None
    for form in ("table", "markdown", "csv"):
        assert dgrec("stats", path, "--format", form).exit_code == 0


def test_labels_without_scores_and_with_nan(dgrec: Run, tmp_path: Path) -> None:
    rows = [
        make_row(0, [make_detection(label="a", score=...), make_detection(label="b")]),
        make_row(1, [make_detection(label="b", score=float("nan"))]),
    ]
    result = json_stats(dgrec, write_session(tmp_path / "s.parquet", rows))
    means = {label["label"]: label["mean_score"] for label in result["labels"]}
    # NaN is no score, so what is known is the other one.
    assert means == {"a": None, "b": pytest.approx(0.9)}


@pytest.mark.slow
@pytest.mark.parametrize(("first_ms", "warns"), [(5.0, False), (14.9, False), (15.1, True)])
def test_a_slow_first_frame_is_pointed_out_and_counted(
    dgrec: Run, tmp_path: Path, first_ms: float, warns: bool
) -> None:
    rows = []
    for i in range(11):
        captured = START_NS + i * 40 * MS
        latency = {0: first_ms, 7: 40.0}.get(i, 5.0)
        rows.append(
            make_row(i, [], captured_ns=captured, completed_ns=captured + int(latency * MS))
        )
    path = write_session(tmp_path / "s.parquet", rows)
    for form in ("table", "markdown"):
        assert ("warm-up" in dgrec("stats", path, "--format", form).stdout) is warns
    result = json_stats(dgrec, path)
    assert result["first_frame"]["latency_ms"] == pytest.approx(first_ms, abs=1 / 4096)
    assert result["first_frame"]["times_median"] == pytest.approx(first_ms / 5, abs=0.001)
    mean = (first_ms + 9 * 5.0 + 40.0) / 11
    assert result["stages"]["latency_ms"]["mean"] == pytest.approx(mean, abs=1 / 4096)
    assert result["stages"]["latency_ms"]["count"] == 11


@pytest.mark.slow
def test_csv_has_every_number_of_the_json(dgrec: Run, session: Path) -> None:
    result = json_stats(dgrec, session)
    text = dgrec("stats", session, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    table = {(row["section"], row["name"], row["statistic"]): row for row in rows}
    assert len(table) == len(rows)
    for name, stage in result["stages"].items():
        for statistic, value in stage.items():
            cell = table["stage", name.removesuffix("_ms"), statistic]
            assert float(cell["value"]) == value
            assert cell["unit"] == ("frames" if statistic == "count" else "ms")
    for label in result["labels"]:
        assert int(table["label", label["label"] or "", "frames"]["value"]) == label["frames"]
    for place, count in result["dropped"].items():
        assert int(table["dropped", place, "count"]["value"]) == count


@pytest.mark.slow
def test_table_and_markdown_show_the_same_numbers(dgrec: Run, session: Path) -> None:
    result = json_stats(dgrec, session)
    latency = result["stages"]["latency_ms"]
    shown = [f"{latency[name]:,.3f}" for name in ("mean", *QUANTILES, "max")]
    (line,) = (s for s in dgrec("stats", session).stdout.splitlines() if s.startswith("latency"))
    assert line.split() == ["latency", "40", *shown]
    markdown = dgrec("stats", session, "--format", "markdown").stdout
    assert f"| latency | 40 | {' | '.join(shown)} |" in markdown
    throughput = f"{result['throughput_fps']:,.3f} frames/s"
    assert throughput in markdown
    assert throughput in dgrec("stats", session).stdout


@pytest.mark.slow
def test_output_goes_to_a_file(dgrec: Run, session: Path, tmp_path: Path) -> None:
    output = tmp_path / "stats.json"
    result = dgrec("stats", session, "--output", output)
    assert (result.exit_code, result.output) == (0, "")
    assert json.loads(output.read_text())["frames"] == 40
    assert dgrec("stats", session, "--output", output).exit_code == 1


@pytest.mark.slow
def test_a_damaged_journal_is_measured_and_said_to_be_damaged(dgrec: Run, tmp_path: Path) -> None:
    path = write_journal(tmp_path / "s.arrows", uneven_rows(30), end=False)
    path.write_bytes(path.read_bytes()[:-50])
    result = dgrec("stats", path, "--format", "json")
    assert json.loads(result.stdout)["frames"] == 20
    assert "damaged" in result.stderr


@pytest.mark.slow
def test_the_library_function_gives_what_the_command_prints(dgrec: Run, session: Path) -> None:
    with dgrec_package.open(session) as opened:
        measured = measure(opened)
    assert (
        measured.stages["latency_ms"].p99
        == json_stats(dgrec, session)["stages"]["latency_ms"]["p99"]
    )


@pytest.mark.slow
def test_a_table_shows_the_most_frequent_labels_and_their_beginning(
    dgrec: Run, tmp_path: Path
) -> None:
    labels = ["x" * 3000, *(f"label {i:02}" for i in range(69))]
    rows = [make_row(i, [make_detection(label=label) for label in labels[i:]]) for i in range(70)]
    path = write_session(tmp_path / "s.parquet", rows)
    text = dgrec("stats", path).stdout
    assert text.count("label ") - text.count("label   ") < 60
    assert "20 more labels are left out here" in text
    assert max(map(len, text.splitlines())) < 200
    assert len(json_stats(dgrec, path)["labels"]) == 70
    assert "x" * 3000 in dgrec("stats", path, "--format", "csv").stdout


@pytest.mark.slow
def test_stages_that_are_no_numbers_are_unknown(dgrec: Run, tmp_path: Path) -> None:
    timing = {"CoreInferenceDuration_ms": float("nan")}
    path = write_session(tmp_path / "s.parquet", [make_row(i, timing=timing) for i in range(30)])
    assert "nan" not in dgrec("stats", path).stdout

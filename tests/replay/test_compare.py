"""`dgrec compare`, on sessions whose differences are known."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result

import dgrec as dgrec_package
from dgrec import sample
from dgrec.errors import SessionError
from dgrec.format import Row
from dgrec.paths import part_path
from tests.factory import (
    CLOSING,
    START_NS,
    TIMING,
    make_detection,
    make_row,
    new_metadata,
    write_journal,
    write_session,
)

Run = Callable[..., Result]
MS = 1_000_000
FOOTAGE = {
    "given": "clip.mp4",
    "kind": "file",
    "sha256": "ab" * 32,
    "width": 640,
    "height": 480,
}


def metadata(**overrides: Any) -> dict[str, Any]:
    return new_metadata(source=FOOTAGE, **overrides)


def boxes() -> list[dict[str, Any]]:
    return [
        make_detection(
            i, bbox=[10.0 + 200 * i, 20.0, 110.0 + 200 * i, 120.0], label=label, score=0.5
        )
        for i, label in enumerate(("person", "car", "dog"))
    ]


def timed_rows(
    count: int,
    seed: int,
    results: Callable[[int], list[dict[str, Any]]] = lambda i: boxes(),
    factor: float = 1.0,
    interval_ms: float = 40.0,
) -> list[Row]:
    """Return frames whose inference takes about 12 ms, each as long as the one before (0.5)."""
    rng = np.random.default_rng(seed)
    rows, state, now = [], 0.0, START_NS
    for i in range(count):
        state = 0.5 * state + np.sqrt(0.75) * rng.standard_normal()
        inference = 12.0 * factor * float(np.exp(0.1 * state))
        timing = {**TIMING, "CoreInferenceDuration_ms": inference}
        captured = now
        now += round(interval_ms * MS * float(np.exp(0.05 * rng.standard_normal())))
        rows.append(
            make_row(
                i,
                results(i),
                captured_ns=captured,
                completed_ns=captured + round((inference + 3) * MS),
                timing=timing,
            )
        )
    return rows


def json_compare(dgrec: Run, *arguments: object) -> dict[str, Any]:
    result = dgrec("compare", *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def verdicts(value: dict[str, Any]) -> dict[str, str]:
    return {row["metric"]: row["verdict"] for row in value["rows"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    return write_session(folder / "base.parquet", timed_rows(1200, 1), metadata())


@pytest.mark.slow
def test_a_session_against_itself(dgrec: Run, base: Path) -> None:
    value = json_compare(dgrec, base, base)
    assert set(verdicts(value).values()) == {"SAME"}
    for row in value["rows"]:
        assert (row["change"], row["change_low"], row["change_high"]) == (0, 0, 0)
        assert row["base"] == row["new"]
    assert value["differences"] == []
    agreement = value["agreement"]
    assert (agreement["f1"], agreement["mean_iou"], agreement["score_distance"]) == (1, 1, 0)
    assert agreement["counts"] == {**dict.fromkeys(agreement["counts"], 0), "same": 3600}
    assert agreement["changed"] == []


@pytest.mark.slow
def test_the_sample_against_itself(dgrec: Run) -> None:
    value = json_compare(dgrec, sample.SESSION, sample.SESSION)
    assert set(verdicts(value).values()) == {"SAME"}
    assert value["agreement"]["f1"] == 1
    assert value["agreement"]["same_frames"] == 420


@pytest.mark.slow
def test_a_copy_with_known_changes(dgrec: Run, base: Path, tmp_path: Path) -> None:
    """Boxes moved, dropped, relabelled, doubled and added; 3 ms more inference: just these."""

    def results(i: int) -> list[dict[str, Any]]:
        found = boxes()
        if i in range(300, 310):  # moved by half of its width: IoU 1/3
            found[0]["bbox"] = [60.0, 20.0, 160.0, 120.0]
        if i in range(400, 405):
            del found[1]
        if i in range(500, 503):
            found[2]["label"] = "person"
        if i == 600:
            found.append({**found[0], "score": 0.25})
        if i == 700:
            found.append(make_detection(bbox=[10.0, 300.0, 60.0, 400.0], label="dog"))
        if i == 800:
            found = []
        if i == 900:
            found[0]["score"] = 0.9
        return found

    slow = timed_rows(1200, 1, results)
    for row in slow:
        row.timing["CoreInferenceDuration_ms"] += 3.0  # type: ignore[index]
        row.completed_ns += 3 * MS
    new = write_session(
        tmp_path / "new name's.parquet",
        slow,
        metadata(model={**new_metadata()["model"], "device": "OTHER/CPU"}),
    )
    value = json_compare(dgrec, base, new)
    assert value["differences"] == [
        {"key": "model.device", "base": ["TFLITE/CPU"], "new": ["OTHER/CPU"]}
    ]
    found = verdicts(value)
    touched = {m for m in found if m.startswith(("inference", "latency"))}
    # Frames as alike as these are too few for a p99.
    assert {m for m in touched if found[m] == "SLOWER"} == {
        m for m in touched if not m.endswith("p99_ms")
    }
    assert {m for m in touched if found[m] == "UNCLEAR"} == {"inference_p99_ms", "latency_p99_ms"}
    assert {found[m] for m in found if m not in touched} == {"SAME"}
    rows = {row["metric"]: row for row in value["rows"]}
    for stage in ("inference", "latency"):
        row = rows[f"{stage}_p50_ms"]
        assert row["new"]["value"] - row["base"]["value"] == pytest.approx(3, abs=1e-3)
        assert row["change_low"] <= row["change"] <= row["change_high"]
    agreement = value["agreement"]
    assert agreement["counts"] == {
        "same": 3600 - 10 - 5 - 3 - 3,
        "label_flip": 3,
        "box_shift": 10,
        "both": 0,
        "duplicate_base": 0,
        "duplicate_new": 1,
        "only_base": 5 + 3,
        "only_new": 1,
    }
    assert (agreement["base"], agreement["new"]) == (3600, 3600 - 5 + 1 + 1 - 3)
    assert agreement["same_frames"] == 1200 - 10 - 5 - 3 - 3
    assert agreement["flips"] == [["dog", "person", 3]]
    assert agreement["score_shift"] == pytest.approx(0.4 / (3600 - 8 - 3))
    first, *others = agreement["changed"]
    assert (first["source_frame"], first["kinds"]) == (800, {"only_base": 3})
    assert {frame["source_frame"] for frame in others} <= {
        *range(300, 310),
        *range(400, 405),
        *range(500, 503),
        600,
        700,
    }
    words = shlex.split(first["command"])
    assert words == [
        "dgrec",
        "replay",
        str(base),
        "--side-by-side",
        str(new),
        "--start",
        "800",
        "--end",
        "801",
    ]


@pytest.mark.slow
def test_independent_runs(dgrec: Run, base: Path, tmp_path: Path) -> None:
    """Frames of a camera are no pairs: a slower run is found, its throughput is not touched."""
    for name, factor, interval in (("a", 1.0, 40.0), ("b", 1.2, 40.0), ("c", 1.0, 60.0)):
        write_session(
            tmp_path / f"{name}.parquet",
            timed_rows(1200, ord(name), factor=factor, interval_ms=interval),
            new_metadata(source={"given": "cam0", "kind": "camera"}),
        )
    a, b, c = (tmp_path / f"{name}.parquet" for name in "abc")
    value = json_compare(dgrec, a, b)
    assert value["agreement"] is None
    assert value["pairs"] == 0
    found = verdicts(value)
    assert found["inference_p50_ms"] == found["latency_p50_ms"] == "SLOWER"
    assert found["throughput_fps"] == "SAME"
    assert verdicts(json_compare(dgrec, b, a))["inference_p50_ms"] == "FASTER"
    value = json_compare(dgrec, a, c)
    assert verdicts(value)["throughput_fps"] == "SLOWER"
    (row,) = (row for row in value["rows"] if row["metric"] == "throughput_fps")
    assert row["change"] == pytest.approx(-1 / 3, abs=0.01)


@pytest.mark.slow
def test_sessions_as_the_unit(dgrec: Run, tmp_path: Path) -> None:
    paths = []
    for i, factor in enumerate((1.0, 1.03, 0.97, 1.3, 1.33, 1.27)):
        path = tmp_path / f"{i}.parquet"
        paths.append(write_session(path, timed_rows(400, i, factor=factor), metadata()))
    value = json_compare(dgrec, "--base", *paths[:3], "--new", *paths[3:])
    assert value["unit"] == "session"
    assert [len(value[side]) for side in ("base", "new")] == [3, 3]
    assert verdicts(value)["inference_p50_ms"] == "SLOWER"
    assert verdicts(value)["preprocess_p50_ms"] == "SAME"
    # All saw the same file: the detections of the first on each side are compared.
    assert value["agreement"]["f1"] == 1
    few = json_compare(dgrec, "--base", *paths[:2], "--new", paths[3], "--new", paths[4])
    row = next(row for row in few["rows"] if row["metric"] == "inference_p50_ms")
    assert row["verdict"] == "UNCLEAR"
    assert row["reason"] == "BASE and NEW: 2 sessions with a value, 3 are needed"
    text = dgrec("compare", "--base", *paths[:3], "--new", *paths[3:]).stdout
    assert "Sessions are the unit" in text
    assert f"of the first session on each side: {paths[0]} and {paths[3]}." in text


@pytest.mark.slow
def test_other_work_on_the_machine_is_said_beside_the_verdict(dgrec: Run, tmp_path: Path) -> None:
    """NEW is slower: a model on a busy machine looks just like a slower model."""
    load = {"cores": 2, "seconds": 10.0, "process_cpu_s": 3.0, "children_cpu_s": 1.0, "sources": 1}
    paths = {}
    for name, factor, busy in (("quiet", 1.0, 0.3), ("busy", 3.0, 0.97), ("also", 3.0, 0.96)):
        rows = timed_rows(200, 1, factor=factor)
        machine = {**load, "system_busy": busy}
        paths[name] = write_session(
            tmp_path / f"{name}.parquet", rows, metadata(name=name, machine=machine)
        )
    value = json_compare(dgrec, paths["quiet"], paths["busy"])
    assert value["conclusion"][1] == (
        "While NEW was recorded, the machine was busy with other work: 97% of all its processor "
        "time was used, 0.4 of 2 cores by this recording."
    )
    assert value["new"][0]["machine"] == {
        "cores": 2.0, "busy": 0.97, "seconds": 10.0, "used_cores": 0.4
    }  # fmt: skip
    several = json_compare(
        dgrec, "--base", paths["quiet"], "--new", paths["busy"], "--new", paths["also"]
    )
    assert "While 2 of 2 sessions of NEW were recorded, the machine was" in several["conclusion"][1]
    same = json_compare(dgrec, paths["busy"], paths["busy"])
    assert not any("other work" in line for line in same["conclusion"])


@pytest.mark.slow
def test_a_folder_and_a_glob_stand_for_their_sessions(dgrec: Run, tmp_path: Path) -> None:
    for i in range(6):
        folder = tmp_path / ("base" if i < 3 else "new")
        folder.mkdir(exist_ok=True)
        write_session(folder / f"{i}.parquet", timed_rows(100, i), metadata())
    value = json_compare(dgrec, tmp_path / "base", str(tmp_path / "new" / "*.parquet"))
    assert [Path(r["path"]).name for r in value["new"]] == ["3.parquet", "4.parquet", "5.parquet"]
    assert value["unit"] == "session"
    # Nothing is left out of a side: the verdict would be about something else.
    (tmp_path / "new" / "4.parquet").write_bytes(b"PAR1")
    result = dgrec("compare", tmp_path / "base", tmp_path / "new")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "4.parquet: " in line


@pytest.mark.slow
def test_fail_on(dgrec: Run, base: Path, tmp_path: Path) -> None:
    new = write_session(tmp_path / "new.parquet", timed_rows(1200, 1, factor=1.2), metadata())
    limit = "inference_p50_ms > +10% and > +2ms"
    failed = dgrec("compare", base, new, "--fail-on", limit, "--fail-on", "agreement < 0.5")
    assert failed.exit_code == 3
    assert f"FAILED: --fail-on '{limit}'" in failed.stdout
    assert "passed: --fail-on 'agreement < 0.5'" in failed.stdout
    assert failed.stderr == f"failed: {limit}\n"
    assert dgrec("compare", base, new, "--fail-on", "inference_p50_ms > +30%").exit_code == 0
    assert dgrec("compare", base, base, "--fail-on", limit).exit_code == 0
    written = dgrec("compare", base, new, "--fail-on", limit, "--format", "json")
    assert json.loads(written.stdout)["fail_on"] == [
        {"condition": limit, "holds": True, "doubtful": [], "problem": None}
    ]
    wrong = dgrec("compare", base, new, "--fail-on", "speed > +1%")
    assert wrong.exit_code == 2
    assert "'speed' is not a metric; there are throughput_fps," in wrong.stderr


@pytest.mark.slow
def test_too_few_frames_fail_a_build(dgrec: Run, base: Path, tmp_path: Path) -> None:
    """A run that is too short to judge, or ended early, must not pass for a good one."""
    path = write_session(tmp_path / "short.parquet", timed_rows(60, 5, factor=3), metadata())
    result = dgrec("compare", base, path, "--fail-on", "latency_p50_ms > +10%")
    assert result.exit_code == 1
    assert "unknown: BASE and NEW: 60 frames are too few" in result.stderr
    early = ("--fail-on", "agreement < 0.99", "--fail-on", "frames < -1%")
    result = dgrec("compare", base, path, *early)
    assert result.exit_code == 3
    assert result.stderr == "failed: frames < -1%\n"
    runs = [write_session(tmp_path / f"{i}.parquet", timed_rows(300, i, factor=3)) for i in (1, 2)]
    result = dgrec("compare", "--base", base, "--new", *runs, "--fail-on", "latency_p50_ms > +10%")
    assert result.exit_code == 1
    assert "BASE: 1 session with a value, 3 are needed; NEW: 2 sessions" in result.stderr


@pytest.mark.slow
def test_pairs_outlive_a_lost_frame(dgrec: Run, base: Path, tmp_path: Path) -> None:
    rows = timed_rows(1200, 1, factor=1.1)
    lost = [row for i, row in enumerate(rows) if i != 700]
    lost[700].dropped_queue = 1
    whole = write_session(tmp_path / "whole.parquet", rows, metadata())
    path = write_session(tmp_path / "new.parquet", lost, metadata())
    known, value = json_compare(dgrec, base, whole), json_compare(dgrec, base, path)
    assert (known["pairs"], known["unpaired"]) == (1200, [0, 0])
    assert (value["pairs"], value["unpaired"]) == (1199, [1, 0])
    assert [value[side][0]["compared"] for side in ("base", "new")] == [1199, 1199]
    changes = [
        next(row for row in found["rows"] if row["metric"] == "latency_p50_ms")
        for found in (known, value)
    ]
    assert changes[1]["verdict"] == changes[0]["verdict"] == "SLOWER"
    for key in ("change", "change_low", "change_high"):
        assert changes[1][key] == pytest.approx(changes[0][key], abs=0.002)
    # Its time is still there: 1,199 results in the time of 1,200.
    (row,) = (row for row in value["rows"] if row["metric"] == "throughput_fps")
    assert row["change"] == pytest.approx(1198 / 1199 - 1, abs=1e-5)
    text = dgrec("compare", base, path).stdout
    assert "1,199 pairs are compared." in text
    assert "1 frame is only in BASE and 0 frames are only in NEW" in text


@pytest.mark.slow
def test_recordings_say_what_is_compared(dgrec: Run, base: Path, tmp_path: Path) -> None:
    half = write_session(tmp_path / "half.parquet", timed_rows(600, 2), metadata())
    journal = write_journal(tmp_path / "j.arrows", timed_rows(600, 2), metadata(), end=False)
    value = json_compare(dgrec, base, half)
    (a,), (b,) = value["base"], value["new"]
    assert (a["frames"], a["compared"], b["compared"]) == (1200, 600, 600)
    alone = json_compare(dgrec, half, half)["base"][0]
    assert b["effective"] == alone["effective"]
    assert (a["end_reason"], b["end_reason"]) == ("finished", "finished")
    assert json_compare(dgrec, base, journal)["new"][0]["end_reason"] is None
    assert "never (killed, or still running)" in dgrec("compare", base, journal).stdout


@pytest.mark.slow
def test_stalls_have_one_limit(dgrec: Run, tmp_path: Path) -> None:
    """A slower pipeline has no fewer stalls because three times as long as usual is longer."""
    paths = []
    for name, interval, every in (("base", 33.0, 30), ("new", 80.0, 12)):
        rows, late = timed_rows(900, 1, lambda i: [], interval_ms=interval), 0
        for i, row in enumerate(rows):
            late += 150 * MS * (i % every == every - 1)
            row.captured_ns += late
            row.completed_ns += late
        paths.append(write_session(tmp_path / f"{name}.parquet", rows))
    value = json_compare(dgrec, *paths)
    (row,) = (row for row in value["rows"] if row["metric"] == "stalls_per_min")
    assert row["new"]["value"] == pytest.approx(row["base"]["value"], rel=0.05)
    assert (row["verdict"], verdicts(value)["throughput_fps"]) == ("UNCLEAR", "SLOWER")


@pytest.mark.slow
def test_moments_of_a_session_are_as_fast_as_it(dgrec: Run, base: Path, tmp_path: Path) -> None:
    path = tmp_path / "moments.parquet"
    assert dgrec("clip", base, "--where", "frame % 100 < 20", "-o", path).exit_code == 0
    found = verdicts(json_compare(dgrec, base, path))
    # There are no stalls, in too short a time to say so.
    assert (found["throughput_fps"], found["stalls_per_min"]) == ("SAME", "UNCLEAR")


@pytest.mark.slow
def test_clips_in_a_folder_are_judged_where_they_are_asked_for(dgrec: Run, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", timed_rows(20, 1), metadata())
    clip = ("clip", path, "--where", "frame < 5", "-o", tmp_path / "clip.parquet")
    assert dgrec(*clip).exit_code == 0
    for options, names in (((), ["s"]), (("--with-clips",), ["clip", "s"])):
        result = dgrec("compare", "--truth", path, tmp_path, "--format", "json", *options)
        judged = [Path(row["path"]).stem for row in json.loads(result.stdout)["sessions"]]
        assert sorted(judged) == names
        assert ("left out (--with-clips counts it)" in result.stderr) == (not options)


@pytest.mark.slow
def test_some_sessions_without_a_value_are_counted(dgrec: Run, tmp_path: Path) -> None:
    paths = [
        write_session(tmp_path / f"{i}.parquet", timed_rows(300 if i == 4 else 1200, i))
        for i in range(8)
    ]
    value = json_compare(dgrec, "--base", *paths[:3], "--new", *paths[3:])
    rows = {row["metric"]: row for row in value["rows"]}
    assert "of 4 of 5 sessions of NEW" in rows["inference_p95_ms"]["reason"]
    assert "sessions of" not in (rows["inference_p50_ms"]["reason"] or "")


@pytest.mark.slow
def test_markdown_is_no_markup(dgrec: Run, tmp_path: Path) -> None:
    hostile = "<unknown> [x](http://e) \u202eback `c` a|b"
    path = write_session(
        tmp_path / "s.parquet", timed_rows(100, 1, lambda i: [make_detection(label=hostile)])
    )
    shown = r"&lt;unknown&gt; \[x\](http://e) \u202eback \`c\` a\|b"
    text = dgrec("compare", path, path, "--format", "markdown").stdout
    assert f"| {shown} | 100 |" in text
    assert "| latency_p95_ms |" in text
    limit = ("--fail-on", "latency_p95_ms > +10%")
    assert "> +10%" not in dgrec("compare", path, path, *limit, "--format", "markdown").stdout
    assert "\u202e" not in dgrec("compare", path, path).stdout


@pytest.mark.slow
def test_warm_up_is_left_out_and_counted(dgrec: Run, base: Path, tmp_path: Path) -> None:
    rows = timed_rows(1200, 1)
    for row in rows[:50]:
        row.completed_ns += 30 * MS
    value = json_compare(dgrec, base, write_session(tmp_path / "n.parquet", rows, metadata()))
    assert (value["base"][0]["warm_up"], value["new"][0]["warm_up"]) == (0, 50)
    assert value["pairs"] == 1150
    assert set(verdicts(value).values()) == {"SAME"}


@pytest.mark.slow
def test_table_and_markdown(dgrec: Run, base: Path, tmp_path: Path) -> None:
    text = dgrec("compare", base, base).stdout
    assert "In short: 17 SAME; agreement 1.0000." in text
    assert "BASE and NEW are the same recording." in text
    assert "agreement (F1)" in text
    target = tmp_path / "report.md"
    assert dgrec("compare", base, base, "--output", target).exit_code == 0
    lines = target.read_text().splitlines()
    assert "## Speed" in lines
    assert any(line.startswith("| latency_p95_ms |") for line in lines)
    refused = dgrec("compare", base, base, "--output", base, "--overwrite", "--format", "json")
    assert refused.exit_code == 1
    assert "is the session itself" in refused.stderr


# --- edge cases --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_short_sessions(dgrec: Run, tmp_path: Path, count: int) -> None:
    a = write_session(tmp_path / "a.parquet", timed_rows(count, 1), metadata())
    b = write_session(tmp_path / "b.parquet", timed_rows(count, 2), metadata())
    value = json_compare(dgrec, a, b)
    found = {row["metric"]: row for row in value["rows"]}
    assert found["latency_p50_ms"]["verdict"] == "UNCLEAR"
    assert found["latency_p50_ms"]["reason"] is not None
    assert value["agreement"]["f1"] == (1 if count else None)
    same = json_compare(dgrec, a, a)
    # A frame or two would be the same by chance.
    assert verdicts(same)["latency_p50_ms"] == ("SAME" if count >= 10 else "UNCLEAR")
    # No p99 of so few frames, not even without an interval.
    assert found["latency_p99_ms"]["base"]["value"] is None
    assert dgrec("compare", a, b).exit_code == 0


@pytest.mark.slow
def test_missing_timing_and_no_detections(dgrec: Run, base: Path, tmp_path: Path) -> None:
    rows = timed_rows(600, 2, lambda i: [])
    for row in rows:
        row.timing = {}
    path = write_session(tmp_path / "n.parquet", rows, metadata())
    value = json_compare(dgrec, base, path)
    row = next(row for row in value["rows"] if row["metric"] == "inference_p50_ms")
    assert (row["new"]["value"], row["verdict"], row["reason"]) == (
        None,
        "UNCLEAR",
        "NEW: not measured",
    )
    assert value["agreement"]["counts"]["only_base"] == 1800
    assert (value["agreement"]["precision"], value["agreement"]["recall"]) == (None, 0)
    assert (value["agreement"]["frames"], value["agreement"]["only_base_frames"]) == (600, 600)
    failed = dgrec("compare", base, path, "--fail-on", "inference_p50_ms > +5%")
    assert failed.exit_code == 1
    assert failed.stderr.endswith("unknown: NEW: not measured\n")
    assert "UNKNOWN: --fail-on 'inference_p50_ms > +5%'" in failed.stdout


@pytest.mark.slow
def test_a_journal_and_parts(dgrec: Run, base: Path, tmp_path: Path) -> None:
    rows = timed_rows(1200, 1)
    journal = write_journal(tmp_path / "j.arrows", rows, metadata(), end=False)
    value = json_compare(dgrec, base, journal)
    assert set(verdicts(value).values()) == {"SAME"}
    assert value["agreement"]["f1"] == 1
    session = tmp_path / "night.parquet"
    for number, first in ((1, 0), (2, 600)):
        part = {"number": number, "set_id": "one", "first_frame": first}
        write_session(
            part_path(session, number),
            rows[first : first + 600],
            metadata(part=part),
            closing={**CLOSING, "end_reason": "split" if number == 1 else "finished"},
        )
    value = json_compare(dgrec, base, session)
    assert value["new"][0]["frames"] == 1200
    assert value["agreement"]["f1"] == 1


@pytest.mark.slow
def test_columns_that_another_tool_left_out(dgrec: Run, base: Path, tmp_path: Path) -> None:
    stored = pq.read_metadata(base).metadata
    table = pq.read_table(base).replace_schema_metadata({b"dgrec": stored[b"dgrec"]})
    path = tmp_path / "other.parquet"
    pq.write_table(table.drop_columns(["read_ms", "postprocess_ms", "dropped_camera"]), path)
    found = verdicts(json_compare(dgrec, base, path))
    assert found["read_p50_ms"] == found["postprocess_p50_ms"] == "UNCLEAR"
    assert found["latency_p50_ms"] == found["inference_p50_ms"] == "SAME"
    pq.write_table(table.drop_columns(["source_frame"]), path)
    result = dgrec("compare", base, path)
    assert result.exit_code == 1
    assert result.stderr.endswith("cannot be compared: it has no column 'source_frame'\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["BASE"], 2, "give two sessions"),
        (["BASE", "BASE", "BASE"], 2, "give two sessions"),
        (["BASE", "--new", "BASE"], 2, "not both"),
        (["--base", "BASE"], 2, "give --new, too"),
        (["BASE", "nowhere.parquet"], 1, "nowhere.parquet: cannot be read"),
        (["--base", "BASE", "BASE", "--new", "BASE"], 1, "is named twice"),
        (["--base", "COPY", "BASE", "--new", "BASE"], 1, "is the same session as"),
        (["--base=BASE", "BASE", "--new", "BASE"], 1, "is named twice"),
        (["--base", "BASE", "--new", "BASE", "SHORT"], 1, "which is in BASE; NEW needs others"),
        (["BASE", "BASE", "-o", "table.csv"], 2, "table.csv: no format goes with .csv"),
    ],
)
def test_bad_input_is_one_line(
    dgrec: Run, base: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    copy = shutil.copy(base, tmp_path / "copy.parquet")
    short = write_session(tmp_path / "short.parquet", timed_rows(10, 1), metadata())
    words = {"BASE": str(base), "COPY": str(copy), "SHORT": str(short)}
    words["--base=BASE"] = f"--base={base}"
    result = dgrec("compare", *(words.get(word, word) for word in arguments))
    assert result.exit_code == code
    assert message in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1


@pytest.mark.slow
def test_library(base: Path) -> None:
    with dgrec_package.open(base) as session:
        found = dgrec_package.compare(session, base)
        assert len(session) == 1200  # still open
        with pytest.raises(SessionError, match="is the same recording as"):
            dgrec_package.compare([session, session], base)
    assert isinstance(found, dgrec_package.Comparison)
    assert found.row("latency_p50_ms").verdict == "SAME"
    with pytest.raises(KeyError):
        found.row("speed")
    with pytest.raises(SessionError, match="base: no session"):
        dgrec_package.compare([], base)
    with pytest.raises(TypeError, match=r"a session is a path, or what dgrec\.open returns, not 5"):
        dgrec_package.compare(5, base)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_side_with_a_value_of_zero_has_a_mean(tmp_path: Path) -> None:
    """The geometric mean of several sessions would be zero, or a warning."""
    side = []
    for number, read_ms in enumerate((0, 1, 2)):
        rows = [make_row(i, read_ns=read_ms * MS) for i in range(200)]
        side.append(write_session(tmp_path / f"{number}.parquet", rows))
    other = [
        write_session(tmp_path / f"x{number}.parquet", [make_row(i) for i in range(200)])
        for number in range(3)
    ]
    row = dgrec_package.compare(side, other).row("read_p50_ms")
    assert (row.base.value, row.base.low, row.base.high) == (1.0, 0.0, 2.0)
    assert row.verdict == "UNCLEAR"
    assert row.reason == "is 0 in one of the sessions: a ratio needs more"


@pytest.mark.slow
def test_stamps_that_are_all_the_same_have_no_rates(tmp_path: Path) -> None:
    """In no time nothing can stall, and nothing comes: both are not known, not the same."""
    rows = [make_row(i, captured_ns=START_NS, completed_ns=START_NS + 9_000_000) for i in range(50)]
    path = write_session(tmp_path / "one.parquet", rows)
    copy = tmp_path / "copy.parquet"
    shutil.copy(path, copy)
    found = dgrec_package.compare(path, copy)
    for metric, reason in (
        ("throughput_fps", "BASE and NEW: no time passed from one frame to the next"),
        ("stalls_per_min", "no time was recorded in which they could happen"),
    ):
        row = found.row(metric)
        assert (row.base.value, row.change) == (None, None)
        assert (row.verdict, row.reason) == ("UNCLEAR", reason)
    assert found.row("latency_p50_ms").verdict == "SAME"

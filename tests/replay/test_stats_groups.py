"""`dgrec stats` over several sessions, by groups and in windows, against the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from dgrec.format import Row
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
HOUR_NS = 3600 * 1_000_000_000


def recordings() -> dict[str, tuple[list[Row], str, str]]:
    """Return rows, model and device by name; the third began an hour later."""
    later = uneven_rows(50, seed=23)
    for row in later:
        row.captured_ns += HOUR_NS
        row.completed_ns += HOUR_NS
    return {
        "a": (uneven_rows(80, seed=21), "small", "CPU"),
        "b": (uneven_rows(60, seed=22), "small", "NPU"),
        "c": (later, "large", "NPU"),
    }


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("groups")
    made = {}
    for name, (rows, model, device) in recordings().items():
        metadata = new_metadata(name, model={"name": model, "device": device}, source=CAMERA)
        write = write_journal if name == "b" else write_session
        suffix = "arrows" if name == "b" else "parquet"
        made[name] = write(folder / f"{name}.{suffix}", rows, metadata)
    return made


def ask(dgrec: Run, *arguments: object) -> list[dict[str, Any]]:
    done = dgrec("stats", *arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def expected(groups: list[list[Row]]) -> dict[str, Any]:
    rows = [row for group in groups for row in group]
    latency = [(row.completed_ns - row.captured_ns) / 1e6 for row in rows]
    span = sum((len(group) - 1) / rate_of(group) for group in groups)
    losses = [losses_of(group) for group in groups]
    p50, p95, p99 = np.quantile(latency, [0.5, 0.95, 0.99])
    return {
        "sessions": len(groups),
        "frames": len(rows),
        "fps": (len(rows) - len(groups)) / span,
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "latency_p99_ms": p99,
        "inference_p50_ms": np.median([row.timing["CoreInferenceDuration_ms"] for row in rows]),
        "dropped": sum(lost["total"] for lost in losses),
        "dropped_at_start": sum(lost["at_start"] for lost in losses),
        "detections": sum(len(row.results) for row in rows),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("session", {"a": "a", "b": "b", "c": "c"}),
        ("model", {"small": "ab", "large": "c"}),
        ("device", {"CPU": "a", "NPU": "bc"}),
        ("hour", {"2026-01-02 03:00Z": "ab", "2026-01-02 04:00Z": "c"}),
    ],
)
def test_groups_agree_with_numpy(
    dgrec: Run, paths: dict[str, Path], by: str, groups: dict[str, str]
) -> None:
    rows = {row.pop(by): row for row in ask(dgrec, *paths.values(), "--by", by)}
    assert set(rows) == set(groups)
    for name, members in groups.items():
        rows[name].pop("session_id", None)
        values = expected([recordings()[member][0] for member in members])
        # Rounded to three digits where they are printed, and to 1/4096 ms where they are kept.
        assert rows[name] == pytest.approx(values, abs=1e-3), name


@pytest.mark.slow
def test_by_label(dgrec: Run, paths: dict[str, Path]) -> None:
    rows = {row["label"]: row for row in ask(dgrec, *paths.values(), "--by", "label")}
    groups = [rows for rows, _, _ in recordings().values()]
    span = sum(
        max(row.completed_ns for row in g) // 1000 - min(row.captured_ns for row in g) // 1000
        for g in groups
    )
    assert set(rows) == {"person", "car", None}
    for label, row in rows.items():
        found = [[d for d in r.results if d.get("label") == label] for g in groups for r in g]
        scores = [d["score"] for results in found for d in results]
        assert row["detections"] == len(scores)
        assert row["frames"] == sum(map(bool, found))
        assert row["sessions"] == 3
        assert row["per_second"] == pytest.approx(len(scores) / span * 1e6, abs=1e-3)
        assert row["mean_score"] == pytest.approx(np.mean(scores), abs=1e-3)


@pytest.mark.slow
def test_the_mean_score_is_of_the_detections_that_have_one(dgrec: Run, tmp_path: Path) -> None:
    paths = []
    for name, scores in (("a", [0.9, 0.8, ...]), ("b", [...] * 30), ("c", [0.4])):
        rows = [make_row(i, [make_detection(label="car", score=s)]) for i, s in enumerate(scores)]
        paths.append(write_session(tmp_path / f"{name}.parquet", rows))
    (row,) = ask(dgrec, *paths, "--by", "label")
    assert (row["detections"], row["mean_score"]) == (34, 0.7)
    (row,) = ask(dgrec, paths[1], "--by", "label")
    assert row["mean_score"] is None


def test_windows(dgrec: Run, paths: dict[str, Path]) -> None:
    rows = ask(dgrec, paths["a"], paths["c"], "--window", "1s")
    for name in "ac":
        own = [row for row in rows if row["session"] == name]
        assert sum(row["frames"] for row in own) == len(recordings()[name][0])
        # What the library's windows are is held against numpy where the library is.
        assert len(own) > 1
        for row in own:
            assert 0 < row["fps"] <= row["frames"] / row["seconds"] + 1e-3
    refused = dgrec("stats", paths["a"], "--window", "ten")
    assert refused.exit_code == 2
    assert "Invalid value for '--window': 'ten' is not a valid time" in refused.stderr


@pytest.mark.slow
def test_several_sessions_are_a_row_each(dgrec: Run, paths: dict[str, Path]) -> None:
    assert ask(dgrec, *paths.values()) == ask(dgrec, *paths.values(), "--by", "session")


def test_what_cannot_be_read_is_named_and_left_out(
    dgrec: Run, paths: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 nothing")
    done = dgrec("stats", paths["a"], broken, tmp_path / "none.parquet", "--format", "json")
    assert done.exit_code == 0
    # One session of three is left, and it is still a table of sessions.
    assert [row["session"] for row in json.loads(done.stdout)] == ["a"]
    assert done.stderr.count("left out") == 2
    assert str(broken) in done.stderr
    assert "none.parquet" in done.stderr
    alone = dgrec("stats", broken)
    assert alone.exit_code == 1
    assert str(broken) in alone.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument"),
        (("s.parquet", "--by", "model", "--why"), "--by and --why cannot be combined"),
        (("s.parquet", "--late", "0"), "--late"),
        (("s.parquet", "--by", "color"), "--by"),
        (("s.parquet", "--why", "--format", "csv"), "--why is written as"),
        (("s.parquet", "--why", "--output", "why.csv"), "--why is written as"),
        (("s.parquet", "--charts", "--by", "hour"), "--charts are drawn below"),
        (("s.parquet", "--charts", "--format", "json"), "--charts are drawn below"),
        (("s.parquet", "--charts", "--sql"), "--charts are drawn below"),
        (("s.parquet", "--follow", "--sql"), "--follow reads the journal"),
        (("a.arrows", "b.arrows", "--follow"), "--follow shows one recording"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    dgrec: Run, arguments: tuple[str, ...], said: str
) -> None:
    done = dgrec("stats", *arguments)
    assert done.exit_code == 2
    assert said in done.output


def test_charts_are_of_one_session(dgrec: Run, paths: dict[str, Path]) -> None:
    done = dgrec("stats", paths["a"], paths["c"], "--charts")
    assert done.exit_code == 2
    assert "--charts are drawn below" in done.output


def test_windows_are_as_long_as_asked_for(dgrec: Run, paths: dict[str, Path]) -> None:
    assert "throughput(1234.5678)" in dgrec("stats", "--window", "1234.5678s", "--sql").stdout


@pytest.mark.slow
def test_a_folder_is_all_sessions_in_it(dgrec: Run, paths: dict[str, Path]) -> None:
    folder = paths["a"].parent
    assert ask(dgrec, folder) == ask(dgrec, *paths.values())
    assert ask(dgrec, folder / "*.parquet") == ask(dgrec, paths["a"], paths["c"])


@pytest.mark.slow
def test_two_recordings_of_one_name_stay_apart(dgrec: Run, tmp_path: Path) -> None:
    paths = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        rows = [make_row(i, captured_ns=START_NS + i * 10**7) for i in range(5)]
        paths.append(write_session(tmp_path / folder / "s.parquet", rows))
    rows = ask(dgrec, *paths, "--by", "session")
    assert [row["frames"] for row in rows] == [5, 5]


@pytest.mark.slow
def test_a_frame_every_hour_has_a_rate(dgrec: Run, tmp_path: Path) -> None:
    captured = [START_NS + i * 3600 * 10**9 for i in range(5)]
    rows = [make_row(i, captured_ns=ns, completed_ns=ns + 10**7) for i, ns in enumerate(captured)]
    path = write_session(tmp_path / "s.parquet", rows)
    hourly = 1 / 3600
    for arguments, name in (
        (["--by", "session"], "fps"),
        (["--by", "label"], "per_second"),
        (["--window", "2h"], "fps"),
    ):
        found = [row[name] for row in ask(dgrec, path, *arguments)]
        assert max(found) == pytest.approx(hourly if name == "fps" else hourly / 2, rel=0.01)
    text = dgrec("stats", path, "--no-charts").stdout
    assert "throughput   0.000278 frames/s" in text

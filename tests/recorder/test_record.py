"""``dgrec record`` as a process: what it writes, says, and leaves behind."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec import sample
from dgrec.format import Row
from dgrec.publishing import Lines, PublishedFrame, check_target
from dgrec.publishing import payload as payload_of
from dgrec.recorder.capture import Capture
from dgrec.recorder.outputs import Publisher
from dgrec.session import Session
from tests.factory import make_detection, make_row
from tests.recorder.command import Command, names
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, new_stream
from tests.waiting import PATIENCE_S

OPTIONS = ["--source", "sample", "--every", "5", "--max-frames", "40"]


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[subprocess.CompletedProcess[str], Session]]:
    """One recording with several options, published too, and then looked at from all sides."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "sessions").mkdir()
    done = Command(folder).record(
        *OPTIONS,
        "--output",
        "sessions/faces.parquet",
        "--property",
        'postprocess={"timing":{"enable":true}}',
        "--property",
        "output_confidence_threshold=0.3",
        "--property",
        "overlay_color=[255,0,128]",
        "--durability",
        "frame",
        "--publish",
        "-",
        env={"DGREC_HOST": "device-7"},
    )
    assert done.returncode == 0, done.stderr
    with dgrec.open(folder / "sessions" / "faces.parquet") as session:
        yield done, session


@pytest.mark.slow
def test_rows(recorded: Any) -> None:
    _, session = recorded
    rows = session.frames.to_pylist()
    assert [row["frame"] for row in rows] == list(range(40))
    assert [row["source_frame"] for row in rows] == list(range(0, 200, 5))
    assert [row["skipped_before"] for row in rows] == [0, *[4] * 39]
    assert [row["media_time_s"] for row in rows] == pytest.approx(
        [i * 1001 / 30000 for i in range(0, 200, 5)], abs=1e-4
    )
    assert {(row["width"], row["height"]) for row in rows} == {(640, 360)}
    for earlier, later in itertools.pairwise(rows):
        assert earlier["captured_at"] <= later["captured_at"]
        assert earlier["completed_at"] <= later["completed_at"]
    for row in rows:
        taken = (row["completed_at"] - row["captured_at"]) / dt.timedelta(milliseconds=1)
        assert row["latency_ms"] == pytest.approx(taken, abs=0.002)
        assert row["latency_ms"] > row["inference_ms"] > 0
        assert row["preprocess_ms"] > 0
        assert row["postprocess_ms"] > 0
        assert row["read_ms"] > 0
        assert row["video_frame"] is None


def test_the_recorders_own_cost_is_measured(recorded: Any) -> None:
    _, session = recorded
    costs = session.frames["recorder_ms"].to_pylist()
    assert all(0 < cost < 10_000 for cost in costs)
    # Something else than the latency, of which it is no part.
    assert sum(costs) < sum(session.frames["latency_ms"].to_pylist())


def test_a_property_takes_effect(recorded: Any) -> None:
    """The model's own threshold is 0.6."""
    _, session = recorded
    scores = session.detections["score"].to_pylist()
    assert 0.3 <= min(scores) < 0.6 < max(scores)
    assert session.metadata["model"]["parameters"]["output_confidence_threshold"] == 0.3
    assert session.metadata["model"]["properties"] == {
        "output_confidence_threshold": 0.3,
        "overlay_color": [255, 0, 128],
    }
    assert session.metadata["overlay"]["color"] == [255, 0, 128]


def test_metadata_of_the_recording(recorded: Any) -> None:
    _, session = recorded
    metadata = session.metadata
    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata
    assert metadata["format"] == {"name": "dgrec", "version": 1}
    assert metadata["session_id"][14] == "7"
    assert metadata["name"] == "faces"
    started, ended = (
        dt.datetime.fromisoformat(metadata[f"{at}_at"]) for at in ("started", "ended")
    )
    rows = session.frames
    assert started <= rows["captured_at"][0].as_py() < rows["completed_at"][-1].as_py() <= ended
    assert ended - started < dt.timedelta(minutes=3)
    assert metadata["end_reason"] == "limit"
    assert "end_detail" not in metadata
    assert metadata["versions"].keys() >= {"dgrec", "degirum", "degirum_tools", "pyarrow", "python"}
    assert metadata["versions"]["dgrec"] == dgrec.__version__
    assert metadata["versions"]["python"] == platform.python_version()
    assert all(metadata["versions"].values())
    assert metadata["host"]["name"] == "device-7"
    assert metadata["host"].keys() >= {"system", "release", "machine", "cpus"}
    assert metadata["options"] == {
        "max_frames": 40,
        "every": 5,
        "stall_timeout": 10.0,
        "masks": "exact",
        "durability": "frame",
        "video": "auto",
    }


def test_metadata_of_the_source(recorded: Any) -> None:
    _, session = recorded
    source = session.metadata["source"]
    assert source["given"] == source["kind"] == "sample"
    assert source["file"] == "faces.mp4"
    assert source["size"] == sample.CLIP.stat().st_size
    assert source["sha256"] == hashlib.sha256(sample.CLIP.read_bytes()).hexdigest()
    assert (source["width"], source["height"], source["frames"]) == (640, 360, 420)
    assert source["fps"] == pytest.approx(30000 / 1001)
    assert source["loop"] is False


def test_metadata_of_the_model(recorded: Any) -> None:
    _, session = recorded
    model = session.metadata["model"]
    (config,) = (sample.ZOO / sample.MODEL_NAME).glob(f"{sample.MODEL_NAME}.json")
    assert model["name"] == sample.MODEL_NAME
    assert model["zoo"] == "sample"
    assert model["inference_host"] == "@local"
    assert model["device"] == "TFLITE/CPU"
    assert model["result_type"] == "Detection"
    assert model["checksum"] == json.loads(config.read_text())["Checksum"]
    assert model["input_shape"] == [[1, 128, 128, 3]]
    assert model["labels"] == {"0": "face"}
    overlay = session.metadata["overlay"]
    assert overlay.keys() >= {
        "color",
        "line_width",
        "show_labels",
        "show_probabilities",
        "alpha",
        "blur",
        "font_scale",
        "fill_color",
    }


def test_totals(recorded: Any) -> None:
    _, session = recorded
    totals = session.metadata["totals"]
    assert totals["frames"] == len(session) == 40
    assert totals["detections"] == len(session.detections) > 0
    assert totals["source_frames"] == 196
    assert totals["skipped"] == 156
    assert totals["dropped"] == totals["dropped_writer"] == 0
    # --durability frame, and what targets had taken while there were no rows.
    assert 40 <= totals["flushes"] <= 80
    assert abs(totals["clock_drift_ms"]) < 60_000


@pytest.mark.parametrize(
    ("totals", "texts"),
    [
        ({"skipped": 0, "dropped": 0}, []),
        ({"skipped": 3, "dropped": 2}, ["3 skipped on purpose", "2 dropped"]),
        (
            {"skipped": 12, "skipped_after": 1, "dropped": 0, "dropped_after": 4},
            [
                "12 skipped on purpose (and 1 after the last frame)",
                "0 dropped (and 4 after the last frame)",
            ],
        ),
    ],
)
def test_losses_after_the_last_frame_are_told_apart(
    totals: dict[str, int], texts: list[str]
) -> None:
    from dgrec.recorder import status

    assert status._losses(totals) == texts


def test_json_counts_losses_as_every_command_does(tmp_path: Path) -> None:
    """Those of a live source while the model started are counted apart."""
    from dgrec.recorder import status

    model = PysdkDouble("Detection", lambda _: [])
    frames = ScriptedFrames([index / 25 for index in range(20)], dropped_queue=[7] + [0] * 18 + [3])
    output = tmp_path / "s.parquet"
    described = {**model.describe(), "source": {"given": "cam0", "live": True}}
    stream = new_stream(model, Capture(frames, is_live=True), output, described)
    metadata = stream.run()
    assert metadata["totals"]["dropped"] == 10
    with dgrec.open(output) as session:
        assert session.totals["dropped"] == 3
    assert status.facts(stream, metadata, 1.0)["dropped"] == 3


def test_what_is_said(recorded: Any) -> None:
    done, session = recorded
    assert "Recorded 40 frames" in done.stderr
    assert ", ended by --max-frames)." in done.stderr
    assert "156 skipped on purpose" in done.stderr
    assert re.search(r"^Latency p50 .* ms, p95 .* ms \(all frames\)\.$", done.stderr, re.MULTILINE)
    assert "sessions/faces.parquet" in done.stderr
    assert "dgrec replay sessions/faces.parquet" in done.stderr
    assert "\x1b[" not in done.stderr, "no terminal, no colours and no live line"
    assert "TensorFlow" not in done.stderr
    assert not session.path.with_suffix(".arrows").exists()
    assert names(session.path.parent) == ["faces.parquet"]


# --- --publish ---


def test_published_lines_are_the_rows(recorded: Any) -> None:
    done, session = recorded
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 40
    assert any(line["detections"] for line in lines)
    for line, result in zip(lines, session, strict=True):
        assert list(line) == ["timestamp", "detections"]
        completed = result.row["completed_at"].timestamp()
        assert line["timestamp"] == completed
        assert line["detections"] == [
            {"label": face["label"], "score": face["score"], "bbox": face["bbox"]}
            for face in result.results
        ]


def payload(row: Row) -> dict[str, Any]:
    return payload_of(PublishedFrame.of_row(row, "s"))


def test_payload_is_valid_json_whatever_the_model_yields() -> None:
    results = [
        make_detection(score=math.nan, bbox=[0.0, math.inf, np.float32(2.5), -math.inf]),
        make_detection(score=np.float64("nan"), bbox=np.array([1.0, np.nan])),
        {"label": "cat"},
        "no dictionary",
    ]
    text = json.dumps(payload(make_row(0, results)), allow_nan=False)
    assert json.loads(text)["detections"] == [
        {"label": "person", "score": None, "bbox": [0.0, None, 2.5, None]},
        {"label": "person", "score": None, "bbox": [1.0, None]},
        {"label": "cat"},
    ]
    assert payload(make_row(0, {"a": "class map"}))["detections"] == []


def test_publishing_appends_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    for start in (0, 2):
        lines = Publisher(Lines(str(path)))
        for i in (start, start + 1):
            lines.frame(make_row(i), None)
            # Each line is there at once: somebody follows the file.
            assert path.read_text().count("\n") == i + 1
        lines.close()
    stamps = [json.loads(line)["timestamp"] for line in path.read_text().splitlines()]
    assert stamps == [make_row(i).completed_ns // 1000 / 1e6 for i in range(4)]


def test_what_may_be_published_to(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "before.jsonl").write_text(json.dumps(payload(make_row(0))) + "\n")
    for name in ("new.jsonl", "empty", "pipe", "before.jsonl"):
        check_target(str(tmp_path / name), output)
    check_target("-", output)
    check_target(os.devnull, output)


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(payload(make_row(0))) + '\n{"timestamp": 17')
    lines = Publisher(Lines(str(path)))
    lines.frame(make_row(1), None)
    lines.close()
    first, cut, last = path.read_text().splitlines()
    assert (json.loads(first), cut) == (payload(make_row(0)), '{"timestamp": 17')
    assert json.loads(last) == payload(make_row(1))


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_recording(dgrec: Command) -> None:
    process = dgrec.start(
        *OPTIONS, "--output", "s.parquet", "--publish", "-", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    for _ in range(3):
        assert json.loads(process.stdout.readline())["detections"] == []
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert "Recorded 40 frames" in stderr
    assert stderr.count("-: publishing ended: Broken pipe") == 1
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    with open_session(dgrec.folder / "s.parquet") as session:
        assert len(session) == 40


def open_session(path: Path) -> Session:
    return Session(path)


# --- names of the session file ---


@pytest.mark.slow
def test_a_name_is_made_and_the_summary_tells_it(dgrec: Command) -> None:
    (dgrec.folder / "my clip (1).mp4").symlink_to(sample.CLIP)
    arguments = ["--source", "my clip (1).mp4", "--duration", "0.1s", "--quiet"]
    done = dgrec.record(*arguments, env={"DGREC_HOST": ""})
    assert done.returncode == 0, done.stderr
    assert "Recorded" not in done.stderr  # --quiet
    (path,) = (dgrec.folder / "recordings").iterdir()
    again = dgrec.record("--source", "my clip (1).mp4", "--max-frames", "1")
    assert again.returncode == 0, again.stderr  # also where the folder is there already
    assert len(list((dgrec.folder / "recordings").iterdir())) == 2
    assert path.name.startswith("my-clip-1-2")
    with open_session(path) as session:
        metadata = session.metadata
        assert metadata["name"] == path.stem
        assert "name" not in metadata["host"]
        assert metadata["source"]["given"] == "my clip (1).mp4"
        assert metadata["source"]["kind"] == "file"
        assert metadata["options"]["duration"] == 0.1
        assert metadata["totals"]["source_frames"] == 3 == len(session)
        # The session and its footage can be moved together.
        footage = path.parent / metadata["source"]["relative"]
        assert footage.resolve() == sample.CLIP.resolve()


@pytest.mark.slow
def test_one_frame_of_so_many_seconds(dgrec: Command) -> None:
    arguments = ["--source", "sample", "--every", "300", "--duration", "1s", "-o", "s.parquet"]
    done = dgrec.record(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Recorded 1 frame with " in done.stderr
    assert ", ended by --duration)." in done.stderr


@pytest.mark.slow
def test_overwrite(dgrec: Command) -> None:
    path = dgrec.folder / "s.parquet"
    path.write_bytes(b"something of worth")
    done = dgrec.record(
        "--source", "sample", "--max-frames", "2", "--output", "s.parquet", "--overwrite"
    )
    assert done.returncode == 0, done.stderr
    with open_session(path) as session:
        assert len(session) == 2
    assert names(dgrec.folder) == ["s.parquet"]

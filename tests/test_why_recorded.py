"""`dgrec stats --why` on recordings of a real PySDK pipeline whose limit is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.replay.query import SqlReader
from dgrec.replay.stats import explain
from dgrec.replay.stats.pipeline import Pipeline
from tests.recorder.command import Command
from tests.recorder.network_camera import MjpegCamera
from tests.recorder.zoo import broken_model


def recorded(folder: Path, *arguments: str) -> tuple[Pipeline, dict[str, Any], str]:
    done = Command(folder).record(*arguments, "--output", "s.parquet")
    assert done.returncode == 0, done.stderr
    with dgrec.open(folder / "s.parquet") as session, SqlReader([session]) as reader:
        (found,) = explain([session], reader)
        return found, session.metadata, done.stdout + done.stderr


def holds(found: Pipeline) -> None:
    """Check what has to be so on any machine, however busy."""
    assert found.fps is not None
    for load in found.loads:
        assert load.capacity_fps is None or load.capacity_fps >= found.fps * (1 - 1e-9)
    if found.next_fps is not None:
        assert found.next_fps >= found.fps * (1 - 1e-9)


@pytest.mark.slow
def test_a_slow_postprocessor_in_python(tmp_path: Path) -> None:
    slow = broken_model(tmp_path, "import time; time.sleep(0.15)", 0)
    found, metadata, _ = recorded(tmp_path, "--source", "sample", *slow, "--max-frames", "30")
    holds(found)
    assert metadata["model"]["python_postprocessor"] is True
    assert found.fps is not None
    assert found.fps <= 1 / 0.15
    # On a machine that is busy with other things, inference may take as long.
    assert found.limit in ("postprocess", "inference", None)
    post = next(load for load in found.loads if load.stage == "postprocess")
    assert post.workers == 1
    assert post.capacity_fps is not None


@pytest.mark.slow
def test_a_camera_is_never_said_to_send_more_than_it_does(tmp_path: Path) -> None:
    with MjpegCamera(fps=5.0) as camera:
        found, metadata, said = recorded(
            tmp_path, "--source", camera.url, "--max-frames", "40", "--video", "none"
        )
    holds(found)
    # On a machine that is busy with other things, inference may be slower than the camera.
    assert found.limit in ("read", "inference", None)
    assert found.delivered_fps == pytest.approx(5.0, rel=0.1)
    assert found.fps is not None
    assert found.fps <= found.delivered_fps * (1 + 1e-9)
    at_start = metadata["totals"]["dropped_at_start"]
    assert ("more while the model started" in said) == (at_start > 0)

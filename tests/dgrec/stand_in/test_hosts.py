"""Recordings from wherever the model ran: here, on a real AI server; the cloud needs a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec import sample
from tests.clips import FRAMES, short_clip
from tests.recorder.ai_server import AiServer
from tests.recorder.command import Command

pytestmark = pytest.mark.slow


def results_of(model: Any, clip: str) -> list[Any]:
    from degirum_tools import predict_stream

    return [(each.results, str(each)) for each in predict_stream(model, clip)]


def test_a_model_of_an_ai_server(tmp_path: Path) -> None:
    clip = str(short_clip(tmp_path / "clip.mp4"))
    with AiServer() as server:
        done = Command(tmp_path).record(
            *("--source", clip, "--model-name", sample.MODEL_NAME, "-o", "s.parquet"),
            *("--inference-host-address", server.address),
        )
    assert done.returncode == 0, done.stderr
    # The server is gone; the recording is not.
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert session.metadata["model"]["inference_host"] == server.address
        recorded = [(each.results, str(each)) for each in session]
    assert len(recorded) == FRAMES
    assert any(found for found, _ in recorded)
    assert results_of(dgrec.model(tmp_path / "s.parquet"), clip) == recorded


def test_a_model_of_the_cloud_needs_a_network(tmp_path: Path) -> None:
    done = Command(tmp_path).record(
        *("--source", "sample", "--zoo-url", "degirum/public", "--model-name", "yolov8n"),
        *("--inference-host-address", "@cloud", "-o", "s.parquet"),
        env={"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
    )
    assert done.returncode == 1
    assert "yolov8n: cannot be loaded" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s.parquet").exists()

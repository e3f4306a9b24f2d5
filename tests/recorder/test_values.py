"""What results hold comes back: results in results, gizmos' notes, other kinds, other sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.format import InnerResult
from dgrec.replay.verify import verify
from tests.recorder.doubles import PysdkDouble
from tests.recorder.test_program import FRAMES, clip, graph, model, second_model

__all__ = ["clip", "model", "second_model"]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


def picture(width: int = 64, height: int = 48, shade: int = 0) -> np.ndarray[Any, Any]:
    image = np.full((height, width, 3), shade, np.uint8)
    image[: height // 2, :, 1] = 200
    return image


def result_of(kind: str, found: list[Any], image: Any = None, **settings: Any) -> Any:
    image = picture() if image is None else image
    (result,) = PysdkDouble(kind, lambda _: found, **settings).predict_batch(iter([image]))
    return result


def check_frames(path: Path, results: list[Any]) -> None:
    """Check that values, text and overlays of a session are those of these results."""
    assert verify(path) == []
    with dgrec.open(path) as session:
        assert len(session) == len(results) > 0
        for frame, result in zip(session, results, strict=True):
            assert frame.results == result.results
            assert result.results == frame.results
            assert type(frame.to_pysdk(None)).image_overlay is not None
            overlay = np.asarray(result.image_overlay)
            if hasattr(result.image, "getchannel"):
                overlay = overlay[..., ::-1]
            shown = np.asarray(result.image)
            pixels = shown[..., ::-1] if hasattr(result.image, "getchannel") else shown
            assert frame.overlay(pixels).tobytes() == overlay.tobytes()


# --- graphs of gizmos ---


def crops(clip: str, model: Any, second: Any, last: Callable[[], Any], combined: bool) -> list[Any]:
    """Run a graph that crops faces and runs a model on them; return what comes out."""
    from degirum_tools.streams import (
        AiObjectDetectionCroppingGizmo,
        AiSimpleGizmo,
        Composition,
        CropCombiningGizmo,
        SinkGizmo,
        VideoSourceGizmo,
    )

    source, sink = VideoSourceGizmo(clip), SinkGizmo(stream_depth=100)
    cropping = AiObjectDetectionCroppingGizmo(["face"], crop_extent=50)
    inner = AiSimpleGizmo(second)
    chain = source >> AiSimpleGizmo(model) >> cropping >> inner
    if combined:
        combiner = CropCombiningGizmo()
        chain = Composition(source >> combiner[0], chain >> combiner[1] >> last() >> sink)
    else:
        chain = Composition(chain >> last() >> sink)
    chain.start(wait=False)
    data = list(sink())
    chain.wait()
    return data


def test_results_about_crops_come_back_and_are_drawn(
    model: Any, second_model: Any, clip: str, output: Path
) -> None:
    from degirum_tools.streams import tag_inference, tag_video

    with dgrec.Recorder(output) as recorder:
        data = crops(clip, model, second_model, recorder.gizmo, combined=True)
    results = [item.meta.find_last(tag_inference) for item in data]
    inner = [each for r in results for found in r.results for each in found["extra_results"]]
    assert len(inner) >= FRAMES
    assert any(each.results for each in inner)
    check_frames(output, results)
    with dgrec.open(output) as session:
        recorded = [
            each for frame in session for found in frame.results for each in found["extra_results"]
        ]
        assert {type(each) for each in recorded} == {InnerResult}
        assert recorded == inner
        for one, live in zip(recorded, inner, strict=True):
            assert one.results == live.results
            assert one.timing == live.timing
            assert one.info.find(tag_video) == live.info.find(tag_video)
            assert one.info._tags == live.info._tags
        frame = session[0]
        assert frame.info == results[0].info
        assert frame.info.find_last(tag_video) == results[0].info.find_last(tag_video)
        assert frame.info.get(0) == results[0].info.get(0)
        assert frame.info.find("nothing") == []
        assert frame.info.find_last("nothing") is None
        assert session.metadata.get("notes", []) == []
    assert output.stat().st_size < 200_000  # no pixels


def test_results_in_the_notes_of_gizmos_come_back(
    model: Any, second_model: Any, clip: str, output: Path
) -> None:
    """A model that runs on crops: what it was a crop of is in the result's info."""
    from degirum_tools.streams import tag_crop, tag_inference

    with dgrec.Recorder(output) as recorder:
        data = crops(clip, model, second_model, recorder.gizmo, combined=False)
    results = [item.meta.find_last(tag_inference) for item in data]
    check_frames(output, results)
    with dgrec.open(output) as session:
        for frame, result in zip(session, results, strict=True):
            assert frame.info == result.info
            note, live = frame.info.find_last(tag_crop), result.info.find_last(tag_crop)
            assert note == live
            # It is in the list of notes as well: written and read once.
            assert note["original_result"] is frame.info.find_last(tag_inference)
            assert note["original_result"].results == live["original_result"].results
        sizes = {frame.size for frame in session}
    assert len(sizes) > 3


def test_results_that_were_combined(
    model: Any, second_model: Any, clip: str, output: Path
) -> None:
    from degirum_tools.streams import (
        AiResultCombiningGizmo,
        AiSimpleGizmo,
        Composition,
        SinkGizmo,
        VideoSourceGizmo,
        tag_inference,
    )

    source, sink, combiner = VideoSourceGizmo(clip), SinkGizmo(stream_depth=100), None
    combiner = AiResultCombiningGizmo(2)
    with dgrec.Recorder(output) as recorder:
        graph = Composition(
            source >> AiSimpleGizmo(model) >> combiner[0],
            source >> AiSimpleGizmo(second_model) >> combiner[1],
            combiner >> recorder.gizmo() >> sink,
        )
        graph.start(wait=False)
        data = list(sink())
        graph.wait()
    results = [item.meta.find_last(tag_inference) for item in data]
    assert len(results) == FRAMES
    check_frames(output, results)
    with dgrec.open(output) as session:
        assert [frame.info for frame in session] == [result.info for result in results]


def test_watched_models_of_a_graph_keep_its_notes(model: Any, clip: str, output: Path) -> None:
    from degirum_tools.streams import AiSimpleGizmo, tag_inference

    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        data = graph(clip, AiSimpleGizmo(model))
    results = [item.meta.find_last(tag_inference) for item in data]
    check_frames(output, results)
    with dgrec.open(output) as session:
        assert [frame.info for frame in session] == [result.info for result in results]
        assert [frame.info._tags for frame in session] == [r.info._tags for r in results]

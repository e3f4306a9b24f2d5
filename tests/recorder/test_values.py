"""Values of results come back: results in results, gizmos' notes, other kinds and sizes."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

import dgrec
from dgrec.format import InnerResult
from dgrec.replay.verify import verify
from tests.dgrec.compare import assert_same
from tests.factory import make_detection
from tests.recorder.doubles import LABELS, PysdkDouble, run_length
from tests.recorder.test_program import clip, graph, model, second_model

__all__ = ["clip", "model", "second_model"]

FRAMES = 4


@pytest.fixture(scope="module")
def few(clip: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first pictures of the clip."""
    path = tmp_path_factory.mktemp("few") / "few.mp4"
    with av.open(clip) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for frame in itertools.islice(source.decode(video=0), FRAMES):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return str(path)


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


def check_equal_values(one: Any, other: Any) -> None:
    try:
        assert one == other
        assert other == one
    except ValueError:  # of arrays
        assert_same(one, other)


def check_frames(path: Path, results: list[Any]) -> None:
    """Check that values, text and overlays of a session are those of these results."""
    assert verify(path) == []
    with dgrec.open(path) as session:
        assert len(session) == len(results) > 0
        for frame, result in zip(session, results, strict=True):
            check_equal_values(frame.results, result.results)
            overlay = np.asarray(result.image_overlay)
            if hasattr(result.image, "getchannel"):
                overlay = overlay[..., ::-1]
            shown = np.asarray(result.image)
            pixels = shown[..., ::-1] if hasattr(result.image, "getchannel") else shown
            assert frame.overlay(pixels).tobytes() == overlay.tobytes()


# --- graphs of gizmos ---


def crops(few: str, model: Any, second: Any, last: Callable[[], Any], combined: bool) -> list[Any]:
    """Run a graph that crops faces and runs a model on them; return what comes out."""
    from degirum_tools.streams import (
        AiObjectDetectionCroppingGizmo,
        AiSimpleGizmo,
        Composition,
        CropCombiningGizmo,
        SinkGizmo,
        VideoSourceGizmo,
    )

    source, sink = VideoSourceGizmo(few), SinkGizmo(stream_depth=100)
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


@pytest.mark.slow
def test_results_about_crops_come_back_and_are_drawn(
    model: Any, second_model: Any, few: str, output: Path
) -> None:
    from degirum_tools.streams import tag_inference, tag_video

    with dgrec.Recorder(output) as recorder:
        data = crops(few, model, second_model, recorder.gizmo, combined=True)
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


@pytest.mark.slow
def test_results_in_the_notes_of_gizmos_come_back(
    model: Any, second_model: Any, few: str, output: Path
) -> None:
    """A model that runs on crops: what it was a crop of is in the result's info."""
    from degirum_tools.streams import tag_crop, tag_inference

    with dgrec.Recorder(output) as recorder:
        data = crops(few, model, second_model, recorder.gizmo, combined=False)
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
    assert len(sizes) > 1


@pytest.mark.slow
def test_results_that_were_combined(model: Any, second_model: Any, few: str, output: Path) -> None:
    from degirum_tools.streams import (
        AiResultCombiningGizmo,
        AiSimpleGizmo,
        Composition,
        SinkGizmo,
        VideoSourceGizmo,
        tag_inference,
    )

    source, sink, combiner = VideoSourceGizmo(few), SinkGizmo(stream_depth=100), None
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


@pytest.mark.slow
def test_watched_models_of_a_graph_keep_its_notes(model: Any, few: str, output: Path) -> None:
    from degirum_tools.streams import AiSimpleGizmo, tag_inference

    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        data = graph(few, AiSimpleGizmo(model))
    results = [item.meta.find_last(tag_inference) for item in data]
    check_frames(output, results)
    with dgrec.open(output) as session:
        assert [frame.info for frame in session] == [result.info for result in results]
        assert [frame.info._tags for frame in session] == [r.info._tags for r in results]


# --- classes of the program's own ---


def own_class(base: str) -> type:
    from degirum import postprocessor

    class Own(getattr(postprocessor, base)):  # type: ignore[misc]
        """Adds what it found out to the result, and draws nothing of its own."""

        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.faces = len(self._inference_results)
            self._inference_results.append({"label": "sum", "count": self.faces})

    return Own


@pytest.mark.slow
@pytest.mark.parametrize("base", ["DetectionResults", "InferenceResults"])
@pytest.mark.parametrize("door", ["watch", "add", "predict_stream"])
def test_results_of_a_custom_postprocessor(
    model: Any, few: str, output: Path, base: str, door: str
) -> None:
    """Drawn as the class of PySDK's that it is derived from."""
    before, model._custom_postprocessor = model._custom_postprocessor, own_class(base)
    try:
        if door == "predict_stream":
            results = list(dgrec.predict_stream(model, few, output=output, max_frames=3))
        else:
            images = [picture(128, 128, shade) for shade in range(3)]
            with dgrec.Recorder(output) as recorder:
                if door == "watch":
                    with recorder.watch(model):
                        results = list(model.predict_batch(images))
                else:
                    results = list(model.predict_batch(images))
                    for result in results:
                        recorder.add(result)
    finally:
        model._custom_postprocessor = before
    assert results[0].results[-1]["label"] == "sum"
    check_frames(output, results)
    with dgrec.open(output) as session:
        assert [frame.faces for frame in session] == [result.faces for result in results]
        assert [str(frame) for frame in session] == [str(result) for result in results]


# --- results of several kinds in one session ---

BOXES = [make_detection(bbox=[4.0, 5.0, 30.0, 40.0], label="car", category_id=1)]
MASK = np.zeros((10, 12))
MASK[3:8, 2:9] = 1
#: What runtimes hand to PySDK's own classes, by result type.
KINDS: dict[str, list[Any]] = {
    "Detection": BOXES,
    "DetectionYoloV8OBB": [{**BOXES[0], "angle": 0.4}],
    "PoseDetection": [
        {
            **BOXES[0],
            "landmarks": [
                {
                    "category_id": number,
                    "label": f"point{number}",
                    "landmark": [10.0 + 8 * number, 12.0],
                    "score": 0.9,
                    "connect": [1 - number],
                }
                for number in range(2)
            ],
        }
    ],
    "SegmentationYoloV8": [{**BOXES[0], "mask": run_length(MASK)}],
    "Classification": [{"category_id": 2, "label": "bicycle", "score": 0.75}],
    "MultiLabelClassification": [
        {"classifier": "colour", "results": [{"label": "red", "score": 0.5, "category_id": 1}]}
    ],
    "Segmentation": [{"data": np.arange(48 * 64).reshape(48, 64) // 1000 % 3}],
    "HandDetection": [
        {
            "score": 0.9,
            "handedness": 0.75,
            "landmarks": [
                {
                    "category_id": number,
                    "label": f"joint{number}",
                    "landmark": [10.0 + 8 * number, 12.0, 3.0],
                    "world_landmark": [0.1, 0.2, 0.3],
                    "connect": [1 - number],
                }
                for number in range(2)
            ],
        }
    ],
}


def every_kind() -> list[Any]:
    return [result_of(kind, copy.deepcopy(found)) for kind, found in KINDS.items()]


@pytest.mark.parametrize("first", KINDS)
def test_results_of_every_kind_in_one_session(output: Path, first: str) -> None:
    """Each row says what draws it, where that is not the session's."""
    results = sorted(every_kind(), key=lambda result: type(result).__name__)
    results.insert(0, result_of(first, copy.deepcopy(KINDS[first])))
    with dgrec.Recorder(output) as recorder:
        for result in results:
            recorder.add(result)
    check_frames(output, results)
    with dgrec.open(output) as session:
        assert [str(frame) for frame in session] == [str(result) for result in results]
        assert [str(frame.to_pysdk(None)) for frame in session] == list(map(str, results))
        own = ["model" in frame._restored.described for frame in session]
        assert own[0] is False
        same = [type(result) is type(results[0]) for result in results]
        assert own == [not each for each in same]


def test_results_of_two_models_of_a_kind(output: Path) -> None:
    """With other labels, colours and widths of lines; names that PySDK adds change nothing."""
    plain = result_of("Detection", copy.deepcopy(BOXES))
    other = result_of("Detection", copy.deepcopy(BOXES), draw_color=(9, 8, 7), line_width=5)
    named = result_of("Detection", copy.deepcopy(BOXES))
    named._label_dictionary = {**LABELS, 1: "lorry", "somebody": 80}
    again = result_of("Detection", [{**BOXES[0], "label": "somebody"}])
    again._label_dictionary = {**LABELS, "somebody": 3}
    with dgrec.Recorder(output) as recorder:
        for result in (plain, other, named, again):
            recorder.add(result)
    check_frames(output, [plain, other, named, again])
    with dgrec.open(output) as session:
        described = [frame._restored.described for frame in session]
        assert [bool(each) for each in described] == [False, True, True, False]
        assert session[2].label_dictionary == {**LABELS, 1: "lorry"}
        assert session[3].label_dictionary == LABELS


def test_lists_of_detections_are_drawn(output: Path) -> None:
    """As PySDK draws such detections: masks let the picture through."""
    found = [{**BOXES[0], "mask": {"x_min": 6, "y_min": 8, "data": MASK.astype(np.float32)}}]
    with dgrec.Recorder(output) as recorder:
        recorder.add(copy.deepcopy(found), picture())
        recorder.add([], picture())
    with dgrec.open(output) as session:
        shown = session[0].overlay(picture())
        assert session.metadata["model"] == {"result_type": "Detection"}
        assert session[1].overlay(picture()).tobytes() == picture().tobytes()
    changed = (shown != picture()).any(axis=2)
    assert changed[5:40, 4:31].any()
    assert not changed[:, 40:].any()
    inside = shown[8:18, 6:18][MASK > 0]
    assert ((inside > 0) & (inside < 200)).any()


def test_detections_after_results_of_another_kind(output: Path) -> None:
    with dgrec.Recorder(output) as recorder:
        recorder.add(result_of("Classification", KINDS["Classification"]))
        recorder.add(copy.deepcopy(BOXES), picture())
    expected = result_of("Detection", copy.deepcopy(BOXES))
    expected._label_dictionary = {}
    with dgrec.open(output) as session:
        assert session[1].overlay(picture()).tobytes() == expected.image_overlay.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_results_about_a_detection_are_of_every_kind(output: Path, kind: str) -> None:
    from degirum_tools.streams import CropCombiningGizmo

    outer = result_of("Detection", copy.deepcopy(BOXES))
    inner = result_of(kind, copy.deepcopy(KINDS[kind]))
    inner.note = {"when": np.float32(0.5)}
    result = CropCombiningGizmo(1)._clone_result(outer)
    result._inference_results[0]["extra_results"] = [inner]
    with dgrec.Recorder(output) as recorder:
        recorder.add(result)
    check_frames(output, [result])
    with dgrec.open(output) as session:
        (back,) = session[0].results[0]["extra_results"]
        assert back == inner
        assert back.note == {"when": np.float32(0.5)}
        assert repr(back).startswith("<recorded degirum.postprocessor")
        rebuilt = session[0].to_pysdk(picture()).results[0]["extra_results"][0]
        assert type(rebuilt) is type(inner)
        assert str(rebuilt) == str(inner)


def test_a_result_is_recorded_as_it_was_when_it_was_added(output: Path) -> None:
    """Results inside of it too, although rows are written later."""
    inner = result_of("Detection", copy.deepcopy(BOXES))
    inner.zones = [1]
    outer = result_of("Detection", [])
    outer._inference_results = [{**BOXES[0], "extra_results": [inner]}]
    with dgrec.Recorder(output) as recorder:
        recorder.add(outer)
        inner._inference_results.clear()
        inner.zones.append(2)
        inner.late = True
    with dgrec.open(output) as session:
        (back,) = session[0].results[0]["extra_results"]
        assert back.results == BOXES
        assert back.zones == [1]
        assert not hasattr(back, "late")


@pytest.mark.parametrize(
    ("info", "change"),
    [
        ({"n": 1, "parts": [2]}, lambda info: info["parts"].append(3)),
        (("cam0", [2]), lambda info: info[1].append(3)),
        (np.zeros(3), lambda info: info.fill(3)),
    ],
)
def test_what_came_with_a_frame_is_recorded_as_it_was(
    output: Path, info: Any, change: Callable[[Any], None]
) -> None:
    """A program gives one dictionary with all of its frames, say."""
    before = copy.deepcopy(info)
    result = result_of("Detection", copy.deepcopy(BOXES))
    result._frame_info = info
    with dgrec.Recorder(output) as recorder:
        recorder.add(result)
        change(info)
    with dgrec.open(output) as session:
        assert_same(session[0].info, before)


def test_what_came_with_a_frame_may_hold_itself(output: Path) -> None:
    result = result_of("Detection", copy.deepcopy(BOXES))
    info: dict[str, Any] = {"n": 1, "camera": Camera()}
    info["one"] = info["other"] = [info, (info,)]
    result._frame_info = info
    with dgrec.Recorder(output) as recorder:
        recorder.add(result)
    with dgrec.open(output) as session:
        assert session[0].results == BOXES


def test_a_result_of_a_program_s_own_class(output: Path) -> None:
    """Its fields have PySDK's names, and no pixels are in its row."""
    found = SimpleNamespace(
        results=copy.deepcopy(BOXES), timing={}, info={"n": 1}, image=picture(), zones=[1]
    )
    with dgrec.Recorder(output) as recorder:
        recorder.add(found)
        found.results[0]["label"] = "changed"
        found.results.clear()
        found.info["n"] = 2
    with dgrec.open(output) as session:
        assert session[0].results == BOXES
        assert session[0].info == {"n": 1}
        assert session[0].attributes == {"zones": [1]}
        assert session[0].size == (64, 48)


def test_results_that_hold_themselves(output: Path) -> None:
    result = result_of("Detection", copy.deepcopy(BOXES))
    result._inference_results[0]["extra_results"] = [result]
    with dgrec.Recorder(output) as recorder:
        recorder.add(result)
    with dgrec.open(output) as session:
        (back,) = session[0].results[0]["extra_results"]
        assert isinstance(back, InnerResult)
        assert "left out" in repr(back)


# --- what cannot be kept ---


class Camera:
    pass


def test_what_is_not_recorded_is_said_once(output: Path) -> None:
    result = result_of("Detection", copy.deepcopy(BOXES))
    result._inference_results[0]["thing"] = Camera()
    result.camera = {"handle": Camera(), "when": 5}
    result._frame_info = Camera()
    with dgrec.Recorder(output) as recorder:
        for _ in range(3):
            recorder.add(result)
    expected = [
        f"{key} ({__name__}.Camera): a value of this type is not recorded"
        for key in ("handle", "thing", "info")
    ]
    assert sorted(recorder.notes) == sorted(expected)
    with dgrec.open(output) as session:
        assert sorted(session.metadata["notes"]) == sorted(expected)
        assert session[0].camera["when"] == 5
        assert "0x" not in repr(session[0].camera)


def test_pictures_in_the_notes_of_gizmos_are_not_recorded(output: Path) -> None:
    from degirum_tools.streams import StreamMeta

    meta = StreamMeta({"image_input": picture(200, 100), "converter": len, "n": 1}, ["pre"])
    meta.append(meta, "itself")
    result = result_of("Detection", copy.deepcopy(BOXES))
    result._frame_info = meta
    with dgrec.Recorder(output) as recorder:
        recorder.add(result)
    with dgrec.open(output) as session:
        assert any(note.startswith("image_input") for note in session.metadata["notes"])

"""Recording from a program: `dgrec.predict_stream`, `Recorder.watch` and `gizmo`, `dgrec run`."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec import sample
from dgrec.format import digest, signature
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.program.run import run_program
from dgrec.replay.verify import verify
from tests.clips import FRAMES, short_clip
from tests.factory import make_detection
from tests.recorder.doubles import PysdkDouble
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(short_clip(tmp_path_factory.mktemp("clip") / "clip.mp4"))


def load() -> Any:
    from degirum_tools import ModelSpec

    model = ModelSpec(
        model_name=sample.MODEL_NAME,
        zoo_url=str(sample.ZOO),
        inference_host_address="@local",
    ).load_model()
    model.devices_selected = [0]  # the two TFLITE devices of a small machine hinder each other
    return model


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    assert dgrec.Recorder  # PySDK finds this Python for its worker from here on
    with load() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def second_model() -> Iterator[Any]:
    with load() as loaded:
        yield loaded


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


def tracker() -> Any:
    from degirum_tools import ObjectTracker

    return ObjectTracker(class_list=["face"], track_thresh=0.3, trail_depth=5)


def pictures(path: str) -> Iterator[np.ndarray[Any, Any]]:
    import cv2

    capture = cv2.VideoCapture(path)
    while True:
        ok, image = capture.read()
        if not ok:
            return
        yield image


def check_equal(path: Path, results: list[Any], kind: str = "finished") -> list[dict[str, Any]]:
    """Check that a session has exactly these PySDK results; return its rows."""
    assert verify(path) == []
    with dgrec.open(path) as session:
        assert session.metadata["end_reason"] == kind
        assert len(session) == len(results)
        for frame, result in zip(session, results, strict=True):
            assert frame.results == result.results
            assert str(frame.to_pysdk(result.image)) == str(result)
            assert frame.overlay(result.image).tobytes() == result.image_overlay.tobytes()
        rows: list[dict[str, Any]] = session.frames.to_pylist()
    return rows


def check_pixels(path: Path, given: list[Any]) -> None:
    """Check that a session has the digests of these pictures."""
    with dgrec.open(path) as session:
        rows = session.frames.select(["pixel_digest", "pixel_signature"]).to_pylist()
    assert [row["pixel_digest"] for row in rows] == list(map(digest, given))
    assert [row["pixel_signature"] for row in rows] == list(map(signature, given))
    assert None not in map(digest, given)


def draw(result: Any) -> None:
    """Draw on the picture itself, as programs do."""
    result.image[:40] = 255 - result.image[:40]


# --- dgrec.predict_stream ---


def test_a_stream_yields_what_pysdk_yields_and_records_it(
    model: Any, clip: str, output: Path
) -> None:
    from degirum_tools import predict_stream

    bare = list(predict_stream(model, clip, analyzers=tracker()))
    ours = list(dgrec.predict_stream(model, clip, output=output, analyzers=[tracker()]))
    assert [result.results for result in ours] == [result.results for result in bare]
    assert [result.trails for result in ours] == [result.trails for result in bare]
    assert [result.image_overlay.tobytes() for result in ours] == [
        result.image_overlay.tobytes() for result in bare
    ]
    assert any("track_id" in item for result in bare for item in result.results)
    with dgrec.open(output) as session:
        assert verify(output) == []
        assert [frame.results for frame in session] == [result.results for result in bare]
        assert [frame.trails for frame in session] == [result.trails for result in bare]
        assert session.metadata["model"]["name"] == sample.MODEL_NAME
        assert session.metadata["source"]["kind"] == "file"
        assert all(row["latency_ms"] > 0 for row in session.frames.to_pylist())
    assert model._custom_postprocessor is None
    assert not model.non_blocking_batch_predict


def test_what_the_loop_adds_is_recorded(model: Any, clip: str, output: Path) -> None:
    for number, result in enumerate(dgrec.predict_stream(model, clip, output=output)):
        draw(result)
        result.results.append({"label": "mine", "number": number})
        result.note = {"number": number}
    with dgrec.open(output) as session:
        assert [frame.results[-1]["number"] for frame in session] == list(range(FRAMES))
        assert [frame.note["number"] for frame in session] == list(range(FRAMES))
    check_pixels(output, list(pictures(clip)))


def test_the_program_may_change_its_folder_before_the_first_result(
    model: Any, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "clip.mp4").symlink_to(clip)
    monkeypatch.chdir(tmp_path)
    stream = dgrec.predict_stream(model, "clip.mp4", output="s.parquet", max_frames=2)
    monkeypatch.chdir(tmp_path / "other")
    assert len(list(stream)) == 2
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert session.metadata["source"]["given"] == "clip.mp4"
        assert len(session) == 2
    assert not list((tmp_path / "other").iterdir())


def test_options_of_the_source(model: Any, output: Path) -> None:
    stream = dgrec.predict_stream(model, "sample", output=output, fps=10, max_frames=5, video="raw")
    assert len(list(stream)) == 5
    with dgrec.open(output) as session:
        assert session.frames.column("source_frame").to_pylist() == [0, 3, 6, 9, 12]
        assert session.metadata["end_reason"] == "limit"
        # The clip's own packets, also of the frames that were left out.
        assert session.metadata["video"][0]["frames"] == 13
        assert session.frames.column("video_frame").to_pylist() == [0, 3, 6, 9, 12]
        assert session.metadata["options"]["fps"] == 10


def test_a_loop_that_is_left(model: Any, clip: str, output: Path) -> None:
    seen = []
    for result in dgrec.predict_stream(model, clip, output=output, analyzers=tracker()):
        seen.append(result.results)
        if len(seen) == 7:
            break
    assert model._custom_postprocessor is None
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == seen
        assert session.metadata["end_reason"] == "interrupted"


@pytest.mark.parametrize("at", [0, 5, FRAMES - 1])
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("mine"), KeyboardInterrupt(), dgrec.QueryError("x")]
)
def test_an_error_of_the_program_goes_through(
    model: Any, clip: str, output: Path, error: BaseException, at: int
) -> None:
    def run() -> None:
        for number, _ in enumerate(dgrec.predict_stream(model, clip, output=output)):
            if number == at:
                raise error

    with pytest.raises(type(error)) as raised:
        run()
    assert raised.value is error
    assert not hasattr(error, "__notes__")
    with dgrec.open(output) as session:
        assert len(session) == at + 1


def test_an_error_of_an_analyzer_goes_through(model: Any, clip: str, output: Path) -> None:
    from degirum_tools import ResultAnalyzerBase

    class Fails(ResultAnalyzerBase):
        def __init__(self) -> None:
            self.seen = 0

        def analyze(self, result: Any) -> None:
            self.seen += 1
            if self.seen >= 5:
                raise ValueError("an analyzer's own")

    with pytest.raises(Exception, match="an analyzer's own"):
        list(dgrec.predict_stream(model, clip, output=output, analyzers=Fails()))
    with dgrec.open(output) as session:
        assert len(session) == 4
        assert session.metadata["end_reason"] == "failed"
    assert model._custom_postprocessor is None


def test_an_output_that_fails_does_not_end_the_stream(model: Any, clip: str, output: Path) -> None:
    class Fails(dgrec.Output):
        def frame(self, row: Any, result: Any) -> None:
            raise ValueError("an output's own")

    assert len(list(dgrec.predict_stream(model, clip, output=output, outputs=[Fails()]))) == FRAMES
    with dgrec.open(output) as session:
        assert len(session) == FRAMES


@pytest.mark.parametrize("use", ["close", "take results of"])
def test_an_output_neither_closes_its_stream_nor_takes_its_results(
    model: Any, clip: str, output: Path, use: str
) -> None:
    """The end waited a minute for the output, which waited for the end."""
    found: list[str] = []

    class Uses(dgrec.Output):
        def frame(self, row: Any, result: Any) -> None:
            if found:
                return
            try:
                if use == "close":
                    stream.close()
                else:
                    next(stream)
            except dgrec.DgrecError as error:
                found.append(str(error))

    stream = dgrec.predict_stream(model, clip, output=output, outputs=[Uses()])
    assert len(list(stream)) == FRAMES
    assert found == [f"{output}: an output cannot {use} the stream that it watches"]
    with dgrec.open(output) as session:
        assert len(session) == FRAMES
        assert "notes" not in session.metadata


def test_a_stream_is_not_closed_in_the_middle_of_a_result(
    model: Any, clip: str, output: Path
) -> None:
    """As by a signal handler: Python's own error told nobody what to do."""
    found: list[str] = []

    class Closes:
        def analyze(self, result: Any) -> None:
            try:
                stream.close()
            except dgrec.DgrecError as error:
                found.append(str(error))

        def annotate(self, result: Any, image: Any) -> Any:
            return image

        def finalize(self) -> None:
            pass

    stream = dgrec.predict_stream(model, clip, output=output, analyzers=Closes())
    assert len(list(stream)) == FRAMES
    assert set(found) == {
        f"{output}: the stream cannot be closed in the middle of its next result, as by a signal "
        "handler: leave its loop instead"
    }


def test_a_stream_that_is_kept_is_closed_by_hand_or_with_a_block(
    model: Any, clip: str, output: Path
) -> None:
    stream = dgrec.predict_stream(model, clip, output=output)
    first = next(stream)
    stream.close()
    stream.close()
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == [first.results]
    with dgrec.predict_stream(model, clip, output=output, overwrite=True) as stream:
        next(stream)
        next(stream)
    with dgrec.open(stream.output) as session:
        assert len(session) == 2


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("nothing.mp4", "nothing.mp4: no such source"),
        (None, "None is not a source"),
        (1.5, "1.5 is not a source"),
    ],
)
def test_a_source_that_is_none(model: Any, output: Path, source: Any, what: str) -> None:
    with pytest.raises(dgrec.DgrecError, match=what):
        dgrec.predict_stream(model, source, output=output)
    assert not list(output.parent.iterdir())


def test_what_is_no_model(output: Path) -> None:
    with pytest.raises(dgrec.ConfigError, match="a str is not a model"):
        list(dgrec.predict_stream("yolo", "sample", output=output))
    with dgrec.Recorder(output) as recorder, pytest.raises(dgrec.ConfigError, match="not a model"):
        recorder.watch("yolo")


# --- Recorder.watch ---


def own_loop(model: Any, clip: str) -> list[Any]:
    return list(model.predict_batch(pictures(clip)))


def own_loop_with_info(model: Any, clip: str) -> list[Any]:
    return list(model.predict_batch((image, {"n": n}) for n, image in enumerate(pictures(clip))))


def pysdk_stream(model: Any, clip: str) -> list[Any]:
    from degirum_tools import predict_stream

    return list(predict_stream(model, clip))


def pysdk_stream_with_tracker(model: Any, clip: str) -> list[Any]:
    from degirum_tools import predict_stream

    return list(predict_stream(model, clip, analyzers=tracker()))


def single_calls(model: Any, clip: str) -> list[Any]:
    return [model.predict(image) for image in pictures(clip)]


def called(model: Any, clip: str) -> list[Any]:
    return [model(image) for image in pictures(clip)]


def non_blocking(model: Any, clip: str) -> list[Any]:
    def frames() -> Iterator[Any]:
        for image in pictures(clip):
            yield image
            yield None

    model.non_blocking_batch_predict = True
    try:
        return [result for result in model.predict_batch(frames()) if result is not None]
    finally:
        model.non_blocking_batch_predict = False


LOOPS = [
    own_loop,
    own_loop_with_info,
    pysdk_stream,
    pysdk_stream_with_tracker,
    single_calls,
    called,
    non_blocking,
]


@pytest.mark.parametrize("loop", LOOPS)
def test_whatever_runs_a_model_is_recorded(
    model: Any, clip: str, output: Path, loop: Callable[[Any, str], list[Any]]
) -> None:
    bare = loop(model, clip)
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        results = loop(model, clip)
    assert len(results) == FRAMES
    assert [result.results for result in results] == [result.results for result in bare]
    rows = check_equal(output, results)
    assert all(row["latency_ms"] > 0 for row in rows)
    assert [row["source_frame"] for row in rows] == list(range(FRAMES))
    assert {(row["width"], row["height"]) for row in rows} == {(640, 360)}
    with dgrec.open(output) as session:
        assert [frame.info for frame in session] == [result.info for result in results]
    check_pixels(output, list(pictures(clip)))
    assert not {"predict", "predict_batch", "predict_dir"} & set(vars(model))


def drawing_loop(model: Any, clip: str) -> None:
    for result in model.predict_batch(pictures(clip)):
        draw(result)


def drawing_calls(model: Any, clip: str) -> None:
    for image in pictures(clip):
        draw(model.predict(image))
        image[:] = 0


def one_array(model: Any, clip: str) -> None:
    """Give every frame in the same array, as a program does that reads into it."""

    def frames() -> Iterator[Any]:
        array = np.empty((360, 640, 3), np.uint8)
        for image in pictures(clip):
            array[:] = image
            yield array

    for result in model.predict_batch(frames()):
        draw(result)


class Painter:
    """An analyzer that draws on the picture before anybody has the result."""

    def analyze(self, result: Any) -> None:
        draw(result)

    def annotate(self, result: Any, image: Any) -> Any:
        return image

    def analyze_and_annotate(self, result: Any, image: Any) -> Any:
        return image

    def finalize(self) -> None:
        pass


def painting_analyzer(model: Any, clip: str) -> None:
    from degirum_tools import predict_stream

    list(predict_stream(model, clip, analyzers=Painter()))


@pytest.mark.parametrize("loop", [drawing_loop, drawing_calls, one_array, painting_analyzer])
def test_digests_are_of_what_the_model_was_given(
    model: Any, clip: str, output: Path, loop: Callable[[Any, str], None]
) -> None:
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        loop(model, clip)
    check_pixels(output, list(pictures(clip)))


def test_images_in_a_folder(model: Any, clip: str, tmp_path: Path) -> None:
    import cv2

    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(itertools.islice(pictures(clip), 4)):
        size = (320, 180) if number % 2 else (640, 360)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(image, size))
    names = sorted(map(str, folder.iterdir()))
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        results = [
            *model.predict_batch(names),
            *model.predict_dir(str(folder), extensions=[".png"]),
            model(names[0]),
        ]
    rows = check_equal(output, results)
    assert [row["width"] for row in rows[:4]] == [640, 320, 640, 320]
    check_pixels(output, [cv2.imread(str(result.info)) for result in results])
    with dgrec.open(output) as session:
        assert [frame.info for frame in session][:4] == names
    # In a folder PySDK takes the images by itself, and nobody sees when.
    assert [row["latency_ms"] is None for row in rows] == [False] * 4 + [True] * 4 + [False]


def test_pictures_of_pil(clip: str, output: Path) -> None:
    from PIL import Image

    with load() as model:
        model.image_backend = "pil"
        images = [Image.fromarray(image[..., ::-1].copy()) for image in pictures(clip)][:5]
        with dgrec.Recorder(output, video="raw") as recorder, recorder.watch(model):
            results = list(model.predict_batch(images))
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == [result.results for result in results]
        assert session.frames.column("width").to_pylist() == [640] * 5
        check_pixels(output, images)
        with session.pixels() as pixels:
            for image, frame in zip(images, pixels.results(session), strict=True):
                shown = np.asarray(image)[..., ::-1].astype(int)
                assert np.abs(shown - frame.image).mean() < 5


def test_annotate_video_with_analyzers(model: Any, clip: str, tmp_path: Path) -> None:
    from degirum_tools import annotate_video

    output = tmp_path / "s.parquet"
    options: dict[str, Any] = {"visual_display": False, "show_progress": False}
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        annotate_video(model, clip, str(tmp_path / "v.mp4"), analyzers=[tracker()], **options)
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert len(session) == FRAMES
        assert all(hasattr(frame, "trails") for frame in session)
        assert any("track_id" in item for frame in session for item in frame.results)


def combining(first: Any, second: Any) -> Any:
    from degirum_tools import CombiningCompoundModel

    return CombiningCompoundModel(first, second)


def cropping(first: Any, second: Any) -> Any:
    from degirum_tools import CroppingAndDetectingCompoundModel

    return CroppingAndDetectingCompoundModel(first, second)


def tiles(first: Any, second: Any) -> Any:
    from degirum_tools import TileExtractorPseudoModel, TileModel

    extractor = TileExtractorPseudoModel(cols=2, rows=1, overlap_percent=0.1, model2=first)
    return TileModel(extractor, first)


@pytest.mark.parametrize(
    ("make", "loop"),
    [(combining, own_loop), (cropping, pysdk_stream), (tiles, called), (tiles, own_loop)],
)
def test_of_a_compound_model_the_outermost_result_is_recorded_once(
    model: Any,
    second_model: Any,
    clip: str,
    output: Path,
    make: Callable[[Any, Any], Any],
    loop: Callable[[Any, str], list[Any]],
) -> None:
    bare = loop(make(model, second_model), clip)
    compound = make(model, second_model)
    with dgrec.Recorder(output) as recorder, recorder.watch(compound):
        results = loop(compound, clip)
    assert [result.results for result in results] == [result.results for result in bare]
    assert len(results) == FRAMES
    rows = check_equal(output, results)
    assert all(row["latency_ms"] > 0 for row in rows)
    with dgrec.open(output) as session:
        assert session.metadata["model"]["name"].startswith(type(compound).__name__)
    check_pixels(output, list(pictures(clip)))
    assert [path.name for path in output.parent.iterdir()] == ["s.parquet"]


def test_inner_models_are_recorded_on_request(
    model: Any, second_model: Any, clip: str, output: Path
) -> None:
    compound = combining(model, second_model)
    with (
        dgrec.Recorder(output) as recorder,
        recorder.watch(compound),
        recorder.watch(model, name="first"),
        recorder.watch(second_model, name="second"),
    ):
        results = own_loop(compound, clip)
    check_equal(output, results)
    paths = sorted(output.parent.iterdir())
    assert [path.name for path in paths] == ["s-first.parquet", "s-second.parquet", "s.parquet"]
    groups = set()
    for path in paths:
        with dgrec.open(path) as session:
            assert len(session) == FRAMES
            groups.add(session.metadata["group"]["id"])
    assert len(groups) == 1


def test_a_watched_inner_model_has_the_digests_of_its_crops(
    model: Any, second_model: Any, clip: str, output: Path
) -> None:
    from degirum_tools import CroppingAndDetectingCompoundModel, crop_image

    first = own_loop(model, clip)
    crops = [crop_image(each.image, found["bbox"]) for each in first for found in each.results]
    assert len(crops) >= FRAMES
    compound = CroppingAndDetectingCompoundModel(model, second_model)
    with dgrec.Recorder(output) as recorder, recorder.watch(second_model):
        own_loop(compound, clip)
    check_pixels(output, crops)


def test_models_that_feed_each_other(
    model: Any, second_model: Any, clip: str, output: Path
) -> None:
    with (
        dgrec.Recorder(output) as recorder,
        recorder.watch(model),
        recorder.watch(second_model, name="second"),
    ):
        first = model.predict_batch(pictures(clip))
        results = list(second_model.predict_batch(result.image for result in first))
    assert len(results) == FRAMES
    for path in (output, output.with_name("s-second.parquet")):
        check_equal(path, results)
        check_pixels(path, list(pictures(clip)))


def test_a_model_is_watched_once(model: Any, output: Path) -> None:
    with (
        dgrec.Recorder(output) as recorder,
        recorder.watch(model),
        pytest.raises(dgrec.ConfigError, match="this model is watched already"),
    ):
        recorder.watch(model).__enter__()
    assert "predict_batch" not in vars(model)


def test_a_watched_loop_that_is_left(model: Any, clip: str, output: Path) -> None:
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        for number, result in enumerate(model.predict_batch(pictures(clip))):
            result.results.append({"number": number})
            if number == 5:
                break
    with dgrec.open(output) as session:
        assert [frame.results[-1] for frame in session] == [{"number": n} for n in range(6)]
        assert session.metadata["end_reason"] == "finished"


def test_a_result_that_the_program_works_on_for_long_is_not_lost(output: Path) -> None:
    model = PysdkDouble("Detection", lambda index: [make_detection(index)])
    recorder = dgrec.Recorder(output)
    with recorder.watch(model):
        loop = model.predict_batch(np.zeros((48, 64, 3), np.uint8) for _ in range(3))
        next(loop)
        journal = output.with_suffix(".arrows")

        def rows() -> int:
            with dgrec.open(journal) as session:
                return len(session)

        wait_until(lambda: journal.exists() and rows() == 1)
        loop.close()
    recorder.close()


def test_an_error_in_a_watched_loop_goes_through(model: Any, clip: str, output: Path) -> None:
    def run() -> None:
        with dgrec.Recorder(output) as recorder, recorder.watch(model):
            for number, _ in enumerate(model.predict_batch(pictures(clip))):
                print(1 / (3 - number))

    with pytest.raises(ZeroDivisionError) as raised:
        run()
    assert not hasattr(raised.value, "__notes__")
    assert "predict_batch" not in vars(model)
    with dgrec.open(output) as session:
        assert len(session) == 4
        assert session.metadata["end_reason"] == "failed"
        assert session.metadata["end_detail"] == "ZeroDivisionError: division by zero"


def test_an_error_of_the_frames_goes_through(model: Any, output: Path) -> None:
    def frames() -> Iterator[Any]:
        yield np.zeros((360, 640, 3), np.uint8)
        raise RuntimeError("the camera is on fire")

    def run() -> None:
        with dgrec.Recorder(output) as recorder, recorder.watch(model):
            list(model.predict_batch(frames()))

    with pytest.raises(Exception, match="the camera is on fire"):
        run()
    with dgrec.open(output) as session:
        assert session.metadata["end_reason"] == "failed"


# --- gizmos ---


def graph(clip: str, *gizmos: Any) -> list[Any]:
    """Run a chain of gizmos to its end; return what comes out."""
    from degirum_tools.streams import Composition, SinkGizmo, VideoSourceGizmo

    chain: Any = VideoSourceGizmo(clip)
    for gizmo in gizmos:
        chain = chain >> gizmo
    sink = SinkGizmo()
    composition = Composition(chain >> sink)
    composition.start(wait=False)
    data = list(sink())
    composition.wait()
    return data


def test_a_gizmo_records_what_passes_it(model: Any, clip: str, output: Path) -> None:
    from degirum_tools.streams import AiSimpleGizmo, VideoSourceGizmo, tag_inference, tag_video

    with dgrec.Recorder(output, video="raw") as recorder:
        data = graph(clip, AiSimpleGizmo(model, analyzers=[tracker()]), recorder.gizmo())
    results = [item.meta.find_last(tag_inference) for item in data]
    assert len(results) == FRAMES
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == [result.results for result in results]
        assert [frame.trails for frame in session] == [result.trails for result in results]
        rows = session.frames.to_pylist()
    check_pixels(output, list(pictures(clip)))
    assert [row["source_frame"] for row in rows] == list(range(FRAMES))
    for row, item in zip(rows, data, strict=True):
        stamp = item.meta.find_last(tag_video)[VideoSourceGizmo.key_timestamp]
        assert abs(row["captured_at"].timestamp() - stamp) < 1e-3
        assert row["latency_ms"] > 0


def test_a_watched_model_in_a_graph(model: Any, clip: str, output: Path) -> None:
    from degirum_tools.streams import AiSimpleGizmo, tag_inference

    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        data = graph(clip, AiSimpleGizmo(model, analyzers=[tracker()]))
    results = [item.meta.find_last(tag_inference) for item in data]
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == [result.results for result in results]
        assert [frame.trails for frame in session] == [result.trails for result in results]
    check_pixels(output, list(pictures(clip)))


def test_a_graph_of_two_cameras(model: Any, second_model: Any, clip: str, output: Path) -> None:
    from degirum_tools.streams import AiSimpleGizmo, Composition, SinkGizmo, VideoSourceGizmo

    with dgrec.Recorder(output) as recorder:
        sinks, chains = [], []
        for number, each in enumerate((model, second_model)):
            sinks.append(SinkGizmo())
            chains.append(
                VideoSourceGizmo(clip)
                >> AiSimpleGizmo(each)
                >> recorder.gizmo(name=f"cam{number}")
                >> sinks[-1]
            )
        composition = Composition(*chains)
        composition.start(wait=False)
        for sink in sinks:
            list(sink())
        composition.wait()
    found = sorted(output.parent.iterdir())
    assert [path.name for path in found] == ["s-cam0.parquet", "s-cam1.parquet"]
    groups = set()
    for path in found:
        with dgrec.open(path) as session:
            assert len(session) == FRAMES
            groups.add(session.metadata["group"]["id"])
    assert len(groups) == 1


# --- add, mark ---


def test_supervision_detections(output: Path) -> None:
    class Detections:
        """What supervision's class has, for a machine without it."""

        xyxy = np.array([[1.0, 2.0, 30.0, 40.0], [5.0, 6.0, 7.0, 8.0]], np.float32)
        class_id = np.array([0, 3])
        confidence = np.array([0.5, 0.25], np.float32)
        tracker_id = np.array([7, 8])
        mask = np.zeros((2, 48, 64), bool)
        data: dict[str, Any] = {"class_name": np.array(["cat", "dog"]), "speed": np.array([1.5, 2])}

    Detections.__module__ = "supervision.detection.core"
    Detections.mask[0, 10:20, 30:50] = True
    with dgrec.Recorder(output) as recorder:
        recorder.add(Detections())
    with dgrec.open(output) as session:
        cat, dog = session[0].results
    assert cat["bbox"] == [1.0, 2.0, 30.0, 40.0]
    assert (cat["label"], cat["category_id"], cat["score"], cat["track_id"]) == ("cat", 0, 0.5, 7)
    assert (cat["mask"]["x_min"], cat["mask"]["y_min"]) == (30, 10)
    assert cat["mask"]["data"].shape == (10, 20)
    assert cat["mask"]["data"].all()
    assert (dog["label"], dog["speed"]) == ("dog", 2.0)


def test_detections_of_the_real_supervision(output: Path) -> None:
    supervision = pytest.importorskip("supervision")
    masks = np.zeros((2, 48, 64), bool)
    masks[0, 10:20, 30:50] = True
    found = supervision.Detections(
        xyxy=np.array([[1.0, 2.0, 30.0, 40.0], [5.0, 6.0, 7.0, 8.0]], np.float32),
        mask=masks,
        confidence=np.array([0.5, 0.25], np.float32),
        class_id=np.array([0, 3]),
        tracker_id=np.array([7, 8]),
        data={
            "class_name": np.array(["cat", "dog"]),
            "xyxyxyxy": np.arange(16, dtype=np.float32).reshape(2, 4, 2),
        },
        metadata={"camera": "door", "gain": np.float32(0.5)},
    )
    with dgrec.Recorder(output) as recorder:
        recorder.add(found, np.zeros((48, 64, 3), np.uint8))
        recorder.add(supervision.Detections.empty())
        recorder.add(found[found.class_id == 3])
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert [len(frame.results) for frame in session] == [2, 0, 1]
        cat, dog = session[0].results
        assert session[0].metadata == found.metadata
        assert session[2].results[0]["label"] == "dog"
    for index, item in enumerate((cat, dog)):
        assert item["bbox"] == found.xyxy[index].tolist()
        assert item["category_id"] == found.class_id[index]
        assert item["label"] == found.data["class_name"][index]
        assert item["score"] == found.confidence[index]
        assert item["track_id"] == found.tracker_id[index]
        assert item["xyxyxyxy"].tolist() == found.data["xyxyxyxy"][index].tolist()
        shown = np.zeros((48, 64), bool)
        x, y, data = item["mask"]["x_min"], item["mask"]["y_min"], item["mask"]["data"]
        shown[y : y + data.shape[0], x : x + data.shape[1]] = data > 0
        assert (shown == masks[index]).all()


def test_a_bare_result_has_no_latency_and_draws_as_it_did(output: Path) -> None:
    model = PysdkDouble("Detection", lambda index: [make_detection(index)], show_probabilities=True)
    results = list(model.predict_batch(np.full((48, 64, 3), i, np.uint8) for i in range(5)))
    with dgrec.Recorder(output) as recorder:
        for result in results:
            recorder.add(result)
    rows = check_equal(output, results)
    assert [row["latency_ms"] for row in rows] == [None] * 5
    assert all(row["captured_at"] == row["completed_at"] for row in rows)


def test_a_result_may_be_changed_after_it_was_added(output: Path) -> None:
    model = PysdkDouble("Detection", lambda index: [make_detection(index)])
    with dgrec.Recorder(output) as recorder:
        for result in model.predict_batch(np.zeros((48, 64, 3), np.uint8) for _ in range(20)):
            recorder.add(result)
            result.results[0]["label"] = "changed"
            result.results[0]["bbox"][0] = -1.0
            result.results.clear()
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == [[make_detection(i)] for i in range(20)]


def test_marks_stand_on_the_time_line(output: Path) -> None:
    with dgrec.Recorder(output) as recorder:
        recorder.mark("before the first frame")
        recorder.add([])
        recorder.mark("lamp on", lux=120.5, where=["door"])
        with pytest.raises(dgrec.ConfigError, match="mark: cannot be written as JSON"):
            recorder.mark("bad", value=object())
        with pytest.raises(dgrec.ConfigError, match="5 is not a text"):
            recorder.mark(5)  # type: ignore[arg-type]
    with dgrec.open(output) as session:
        events = session.metadata["events"]
    assert [event["kind"] for event in events] == ["mark", "mark"]
    assert [event["text"] for event in events] == ["before the first frame", "lamp on"]
    assert events[1]["details"] == {"lux": 120.5, "where": ["door"]}
    assert events[0]["at"] < events[1]["at"]


# --- threads, tasks, forks ---


def test_two_recorders_at_once(model: Any, second_model: Any, clip: str, tmp_path: Path) -> None:
    results: dict[str, list[Any]] = {}

    def run(name: str, each: Any) -> None:
        with dgrec.Recorder(tmp_path / f"{name}.parquet") as recorder, recorder.watch(each):
            results[name] = own_loop(each, clip)

    threads = [
        threading.Thread(target=run, args=pair) for pair in (("a", model), ("b", second_model))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, found in results.items():
        check_equal(tmp_path / f"{name}.parquet", found)


def test_tasks_of_asyncio(output: Path) -> None:
    async def record(recorder: dgrec.Recorder, name: str) -> None:
        for number in range(10):
            recorder.add([{"label": name, "number": number}])
            await asyncio.sleep(0)

    async def main() -> None:
        with dgrec.Recorder(output) as recorder:
            await asyncio.gather(*(record(recorder, name) for name in "abc"))

    asyncio.run(main())
    with dgrec.open(output) as session:
        found = [(frame.results[0]["label"], frame.results[0]["number"]) for frame in session]
    assert sorted(found) == [(name, number) for name in "abc" for number in range(10)]


def test_a_fork_runs_a_watched_model_unrecorded(output: Path) -> None:
    model = PysdkDouble("Detection", lambda index: [make_detection(index)])
    frame = np.zeros((48, 64, 3), np.uint8)
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        list(model.predict_batch([frame] * 3))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert len(list(model.predict_batch([frame] * 5))) == 5
                with pytest.raises(dgrec.DgrecError, match="belongs to another process"):
                    recorder.add([])
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        list(model.predict_batch([frame] * 2))
    with dgrec.open(output) as session:
        assert len(session) == 5


# --- programs ---

HEAD = """
import dgrec, os, signal, sys, time
from tests.recorder.test_program import load, pictures
clip, output = sys.argv[1:]
"""


def run_python(text: str, clip: str, output: Path, **options: Any) -> subprocess.Popen[bytes]:
    program = output.with_name("program.py")
    program.write_text(textwrap.dedent(HEAD) + textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(program), clip, str(output)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.mark.parametrize(
    "text",
    [
        """
        stream = dgrec.predict_stream(load(), clip, output=output)
        print([next(stream).results for _ in range(3)])
        """,
        """
        from tests.recorder.doubles import PysdkDouble  # PySDK aborts where its loop is left open
        model = PysdkDouble("Detection", lambda index: [])
        recorder = dgrec.Recorder(output)
        recorder.watch(model).__enter__()
        loop = model.predict_batch(pictures(clip))
        print([next(loop).results for _ in range(3)])
        """,
        """
        model = load()
        recorder = dgrec.Recorder(output)
        for result in model.predict_batch(list(pictures(clip))[:3]):
            recorder.add(result)
        sys.exit(3)
        """,
    ],
)
def test_what_a_program_leaves_open_is_sealed_at_its_end(
    clip: str, output: Path, text: str
) -> None:
    process = run_python(text, clip, output)
    _, error = process.communicate()
    assert process.returncode == (3 if "sys.exit" in text else 0), error.decode()
    assert b"Traceback" not in error
    with dgrec.open(output) as session:
        assert len(session) == 3
        assert session.metadata["end_reason"] == "interrupted"


@pytest.mark.parametrize(
    "text",
    [
        """
        for result in dgrec.predict_stream(load(), "sample", output=output, loop=True):
            print("frame", flush=True)
        """,
        """
        import itertools
        model = load()
        with dgrec.Recorder(output) as recorder, recorder.watch(model):
            for result in model.predict_batch(itertools.cycle(pictures(clip))):
                print("frame", flush=True)
        """,
    ],
)
def test_ctrl_c_ends_the_program_and_seals_the_session(clip: str, output: Path, text: str) -> None:
    process = run_python(text, clip, output, start_new_session=True)
    assert process.stdout is not None
    for _ in range(20):
        assert process.stdout.readline() == b"frame\n"
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate()
    assert b"KeyboardInterrupt" in error
    assert process.returncode == -signal.SIGINT
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert len(session) >= 19  # Ctrl-C may come while the last one is being recorded
        assert session.metadata["end_reason"] == "interrupted"


APP = """
import sys
from tests.recorder.test_program import combining, load, pictures, tracker
from degirum_tools import predict_stream

clip = sys.argv[1]
model, second = load(), load()
compound = combining(model, second)
seen = [len(list(predict_stream(compound, clip, analyzers=tracker())))]
for number, result in enumerate(model.predict_batch(pictures(clip))):
    if number == 4:
        break
image = next(pictures(clip))
for _ in range(3):
    model(image)
print(seen, number)
sys.exit(7)
"""


def test_an_unchanged_program_is_recorded(
    clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "recorded"
    code, found = run_program(
        [sys.executable, str(app), clip], folder, RecordingOptions(video="raw")
    )
    assert code == 7
    assert f"[{FRAMES}] 4" in capfd.readouterr().out
    assert sorted(each.frames for each in found) == [8, FRAMES]
    names = {}
    for each in found:
        assert verify(each.path) == []
        with dgrec.open(each.path) as session:
            names[len(session)] = session.metadata["model"]["name"]
            analyzers = [each["class"] for each in session.metadata.get("analyzers", [])]
            assert analyzers == ["degirum_tools.ObjectTracker"] * (len(session) == FRAMES)
            assert len(session.metadata["video"]) == 1
            assert session.metadata["end_reason"] == "finished"
        images = list(pictures(clip))
        check_pixels(each.path, images if each.frames == FRAMES else [*images[:5], *images[:1] * 3])
    assert names[FRAMES].startswith("CombiningCompoundModel")
    assert names[8] == sample.MODEL_NAME


def test_a_program_that_is_killed_leaves_its_sessions(clip: str, tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import os, signal, time\n"
        "from tests.recorder.test_program import load, pictures\n"
        f"for n, result in enumerate(load().predict_batch(pictures({clip!r}))):\n"
        "    time.sleep(0.2)\n"
        "    if n == 12:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    os.environ["PYTHONPATH"], before = str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")
    try:
        code, found = run_program([sys.executable, str(app)], tmp_path / "r", RecordingOptions())
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    assert code == 128 + signal.SIGKILL
    (killed,) = found
    assert killed.recovery is not None
    assert killed.frames is not None
    assert 5 < killed.frames <= 13
    assert verify(killed.path) == []

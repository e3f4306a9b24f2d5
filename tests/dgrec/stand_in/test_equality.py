"""Live, recorded, read, and given back by a model: the same results, through PySDK's own calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from tests.dgrec.stand_in.scripted import LABELS, OUTPUTS, ScriptedModel, picture, pictures


def recorded(model: Any, path: Path, run: Callable[[Any], Any]) -> list[Any]:
    """Return what a run of a model gives, and record it."""
    with dgrec.Recorder(path) as recorder, recorder.watch(model):
        return list(run(model))


def batch(model: Any) -> Iterator[Any]:
    yield from model.predict_batch(pictures())


def check_same(given: list[Any], live: list[Any]) -> None:
    """Check that results are equal in all that a program sees of them."""
    assert len(given) == len(live) > 0
    for one, other in zip(given, live, strict=True):
        assert type(one) is type(other)
        assert_equal(one.results, other.results)
        assert one.timing == other.timing
        assert list(map(type, one.timing.values())) == list(map(type, other.timing.values()))
        assert one.info == other.info
        assert str(one) == str(other)
        assert repr(one) == repr(other)
        assert_equal_pixels(one.image, other.image)
        assert_equal_pixels(one.image_overlay, other.image_overlay)
        assert_equal_pixels(one.image_model, other.image_model)


def assert_equal(one: Any, other: Any) -> None:
    """Compare values with their types, and the order of keys."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    else:
        assert one == other


def assert_equal_pixels(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if one is not None:
        first, second = np.asarray(one), np.asarray(other)
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert np.array_equal(first, second)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


@pytest.mark.parametrize("is_timed", [False, True], ids=["untimed", "timed"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_every_type(name: str, is_timed: bool, output: Path) -> None:
    model = ScriptedModel(*OUTPUTS[name])
    model.measure_time = is_timed
    live = recorded(model, output, batch)
    stand_in = dgrec.model(output)
    stand_in.measure_time = is_timed
    check_same(list(batch(stand_in)), live)
    check_same(list(batch(stand_in)), live)  # once more, from the first frame
    with dgrec.open(output) as session:
        for frame, result in zip(session, live, strict=True):
            assert_equal(frame.results, result.results)
            assert_equal_pixels(frame.overlay(result.image), result.image_overlay)
    if is_timed:
        times = model.time_stats()
        assert list(stand_in.time_stats()) == list(times)
        for key in ("CoreInferenceDuration_ms", "CoreInputFrameSize_bytes"):
            assert stand_in.time_stats()[key].avg == times[key].avg


@pytest.mark.parametrize("name", ["faces", "classes", "masks", "class map"])
def test_overlay_settings_of_the_model_and_of_the_program(name: str, output: Path) -> None:
    settings: dict[str, Any] = {
        "overlay_color": [(255, 0, 0), (0, 200, 3)],
        "overlay_line_width": 1,
        "overlay_show_probabilities": True,
        "overlay_alpha": 0.4,
        "overlay_font_scale": 0.6,
    }
    model = ScriptedModel(*OUTPUTS[name])
    for key, value in settings.items():
        setattr(model, key, value)
    live = recorded(model, output, batch)
    check_same(list(batch(dgrec.model(output))), live)

    others: dict[str, Any] = {
        "overlay_color": (1, 2, 250),
        "overlay_blur": "all",
        "overlay_show_labels": False,
    }
    stand_in = dgrec.model(output, **others)
    for key, value in others.items():
        setattr(model, key, value)
    check_same(list(batch(stand_in)), list(batch(model.rewind())))
    for key in (*settings, *others):
        assert getattr(stand_in, key) == getattr(model, key)


def test_frame_info(output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["faces"])

    def run(model: Any) -> Iterator[Any]:
        given = [(image, {"number": n}) for n, image in enumerate(pictures())]
        for (_, info), result in zip(given, model.predict_batch(given), strict=True):
            assert result.info is info
            yield result

    live = recorded(model, output, run)
    check_same(list(run(dgrec.model(output))), live)


def _of_pil(folder: Path) -> list[Any]:
    from PIL import Image

    return [*map(Image.fromarray, pictures(2)), Image.fromarray(picture(2)).convert("L")]


#: Ways to give pictures to a model.
WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "folder": lambda model, folder: model.predict_dir(str(folder), recursive=True),
    "files": lambda model, folder: model.predict_batch(sorted(map(str, folder.glob("*.png")))),
    "arrays": lambda model, folder: model.predict_batch(pictures(3)),
    "pil": lambda model, folder: model.predict_batch(_of_pil(folder)),
}
#: PySDK takes no pictures of PIL's there.
_NO = [("pil", "opencv")]


@pytest.mark.parametrize("saves_image", [False, True])
@pytest.mark.parametrize(
    ("way", "backend"),
    [(way, backend) for way in WAYS for backend in ("pil", "opencv") if (way, backend) not in _NO],
)
def test_files_pictures_and_arrays(
    way: str, backend: str, saves_image: bool, output: Path, tmp_path: Path
) -> None:
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(picture(number)).save(folder / f"{number}.png")

    model = ScriptedModel(*OUTPUTS["yolo"])
    model.image_backend = backend
    model.save_model_image = saves_image
    live = recorded(model, output, lambda model: WAYS[way](model, folder))
    stand_in = dgrec.model(output)
    stand_in.save_model_image = saves_image
    assert stand_in.image_backend == backend
    given = list(WAYS[way](stand_in, folder))
    check_same(given, live)
    assert (given[0].image_model is not None) is saves_image


@pytest.mark.parametrize(("recorded_by", "given_by"), [("opencv", "pil"), ("pil", "opencv")])
def test_the_other_image_backend(
    recorded_by: str, given_by: str, output: Path, tmp_path: Path
) -> None:
    """OpenCV has blue first, and PIL red, of the same file."""
    import cv2
    from PIL import Image

    names = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number, name in enumerate(names):
        Image.fromarray(picture(number)).save(name)
    model = ScriptedModel(*OUTPUTS["yolo"])
    model.image_backend = recorded_by
    live = recorded(model, output, lambda model: model.predict_batch(names))
    stand_in = dgrec.model(output)
    exchanged = cv2.imread(names[0]) if recorded_by == "pil" else picture(0)
    with pytest.raises(Exception, match="has the pixels of this picture"):
        stand_in.predict(exchanged)
    stand_in.image_backend = given_by
    read: Any = cv2.imread if given_by == "opencv" else Image.open
    for given in (names, map(read, names)):
        results = list(stand_in.predict_batch(given))
        assert [each.results for each in results] == [each.results for each in live]


@pytest.mark.parametrize("backend", ["opencv", "pil"])
def test_bytes(backend: str, output: Path) -> None:
    """PySDK hands encoded pictures to the model as they are."""
    model = ScriptedModel(*OUTPUTS["yolo"])
    model.image_backend = backend
    data = [b"encoded 1", b"encoded 2"]
    live = recorded(model, output, lambda model: model.predict_batch(data))
    given = list(dgrec.model(output).predict_batch(data))
    assert [result.image for result in given] == data
    assert [result.results for result in given] == [result.results for result in live]


def test_what_pysdk_refuses_is_refused(output: Path) -> None:
    from degirum.exceptions import DegirumException

    model = ScriptedModel(*OUTPUTS["faces"])
    recorded(model, output, batch)
    stand_in = dgrec.model(output)
    for wrong in (picture(0)[..., 0], "nothing.png", 3.5, None):
        for each in (model, stand_in):
            with pytest.raises(DegirumException, match=r"Image|Failed|misconfig|not supported"):
                list(each.predict_batch([wrong]))


def test_tensors(output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["tensors"], input_type="Tensor")
    data = [np.zeros((1, 48, 48, 3), np.uint8)] * 3

    def run(model: Any) -> Iterator[Any]:
        yield from model.predict_batch(data)

    live = recorded(model, output, run)
    assert live[0].image is None
    given = list(run(dgrec.model(output)))
    for one, other in zip(given, live, strict=True):
        assert type(one) is type(other)
        assert_equal(one.results, other.results)
        assert one.image is None


def test_single_pictures_come_one_after_the_other(output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["faces"])
    live = recorded(model, output, batch)
    stand_in = dgrec.model(output)
    with stand_in as entered:
        given = [entered.predict(picture(0)), *map(entered, pictures()[1:])]
    check_same(given, live)
    check_same(list(batch(stand_in)), live)
    in_order = dgrec.model(output, match="order")
    assert [in_order(picture(0)).results for _ in live] == [result.results for result in live]
    with pytest.raises(Exception, match=r"has 4 frames, and this is one more"):
        in_order(picture(0))


def test_without_waiting(output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["faces"])

    def run(model: Any) -> list[Any]:
        model.non_blocking_batch_predict = True
        given = [item for image in pictures() for item in (None, image)]
        return list(model.predict_batch(given))

    live = run(model)
    assert [result is None for result in live] == [True, False] * 4
    recorded(model.rewind(), output, run)
    given = run(dgrec.model(output))
    assert [result is None for result in given] == [True, False] * 4
    check_same(given[1::2], live[1::2])


@pytest.mark.parametrize("chosen", [["car"], [0, 2], {"person"}, "bicycle"])
def test_classes_that_are_yielded(chosen: Any, output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["yolo"])
    recorded(model, output, batch)
    stand_in = dgrec.model(output)
    for each in (model.rewind(), stand_in):
        each.output_class_set = chosen
    check_same(list(batch(stand_in)), list(batch(model)))


def test_classes_that_were_not_recorded_are_refused(output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["yolo"])
    model.output_class_set = ["person", "car"]
    live = recorded(model, output, batch)
    stand_in = dgrec.model(output)
    assert stand_in.output_class_set == ["car", "person"]
    check_same(list(batch(stand_in)), live)
    stand_in.output_class_set = [1]
    assert {found["label"] for result in batch(stand_in) for found in result.results} == {"car"}
    for more in (["person", "bicycle"], [], None):
        with pytest.raises(dgrec.ModelError, match="holds no other results"):
            stand_in.output_class_set = more
    assert stand_in.output_class_set == [1]


def test_classes_below_the_recorded_threshold_are_refused(output: Path) -> None:
    """With output_top_k=3 the model would have given three classes, whatever the threshold is."""
    model = ScriptedModel(*OUTPUTS["classes"])
    model.output_confidence_threshold, model.output_top_k = 0.15, 0
    live = recorded(model, output, batch)
    stand_in = dgrec.model(output)
    with pytest.raises(dgrec.ModelError, match=r"_top_k=3: .* at output_confidence_threshold=0.15"):
        stand_in.output_top_k = 3
    stand_in.output_top_k = 0
    check_same(list(batch(stand_in)), live)


class Counted:
    """A program's own postprocessor, on top of each of PySDK's."""

    def __new__(cls, base: Any) -> Any:
        class Own(base):  # type: ignore[misc]
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                self.count = len(self._inference_results)
                for item in self._inference_results:
                    item["seen"] = True

            @property
            def image_overlay(self) -> Any:
                return super().image_overlay[::2]

        return Own


@pytest.mark.parametrize("name", ["faces", "masks", "classes", "class map", "base"])
def test_a_postprocessor_of_the_program(name: str, output: Path) -> None:
    model = ScriptedModel(*OUTPUTS[name])
    recorded(model, output, batch)
    own = Counted(model.get_inference_results_class())
    stand_in = dgrec.model(output)
    for each in (model.rewind(), stand_in):
        each.custom_postprocessor = own
    live, given = list(batch(model)), list(batch(stand_in))
    check_same(given, live)
    assert [result.count for result in given] == [result.count for result in live]
    assert isinstance(given[0], own)


def test_results_that_the_program_changed_are_those_of_the_frame_only(output: Path) -> None:
    """A program owns its results: those of the next run are as recorded."""
    model = ScriptedModel(*OUTPUTS["faces"])
    live = recorded(model, output, batch)
    stand_in = dgrec.model(output)
    before = copy.deepcopy([result.results for result in live])
    for result in batch(stand_in):
        for found in result.results:
            found["bbox"][0] = -1
            found["landmarks"].clear()
        result.results.append("mine")
        result.timing["mine"] = 1
    assert [result.results for result in batch(stand_in)] == before


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_picture_that_was_not_recorded_can_have_an_empty_result(name: str, output: Path) -> None:
    model = ScriptedModel(*OUTPUTS[name])
    recorded(model, output, batch)
    stand_in = dgrec.model(output, missing="empty", measure_time=True)
    results = list(stand_in.predict_batch(pictures(6)))
    assert len(results) == 6
    for result in results[4:]:
        assert type(result) is type(results[0])
        if name == "class map":
            assert result.results[0]["data"].shape == results[0].results[0]["data"].shape
            assert not result.results[0]["data"].any()
        else:
            assert result.results == []
        assert result.timing == {}
        assert isinstance(str(result), str)
        assert result.image_overlay is not None


def test_what_a_model_says_of_itself(output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["faces"])
    model.output_confidence_threshold = 0.25
    model.output_nms_threshold = 0.35
    model.output_max_detections = 17
    model.input_pad_method = "stretch"
    model.input_letterbox_fill_color = (1, 2, 3)
    recorded(model, output, batch)
    stand_in = dgrec.model(output)
    different = {"model_info", "time_stats", "devices_available"}
    for name in sorted(set(dir(model)) - different):
        one, other = getattr(stand_in, name), getattr(model, name)
        if not callable(other):
            assert one == other, name
    assert stand_in.get_inference_results_class() is model.get_inference_results_class()
    assert stand_in.get_inference_results_type() == "FaceDetection"
    assert stand_in.label_dictionary == LABELS
    assert stand_in.model_info.OutputPostprocessType == "FaceDetection"
    stand_in.device_type = ["HAILORT/HAILO8L", "OPENVINO/NPU"]
    stand_in.devices_selected = [0, 1, 2]
    assert stand_in.device_type == "TFLITE/CPU"
    check_same(list(batch(stand_in)), list(batch(model.rewind())))


def test_settings_of_the_input_may_be_set_but_not_used(output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["faces"])
    live = recorded(model, output, batch)
    stand_in = dgrec.model(output)
    assert stand_in.input_pad_method == "letterbox"
    stand_in.input_pad_method = "stretch"
    assert stand_in.input_pad_method == "stretch"
    with pytest.raises(dgrec.ModelError, match="recorded with letterbox"):
        list(batch(stand_in))
    stand_in.input_pad_method = "letterbox"
    check_same(list(batch(stand_in)), live)
    with pytest.raises(dgrec.ModelError, match="recorded with FaceDetection"):
        stand_in.output_postprocess_type = "None"


def test_another_shape_of_the_input_is_refused(output: Path) -> None:
    model = ScriptedModel(*OUTPUTS["faces"])
    live = recorded(model, output, batch)
    stand_in = dgrec.model(output, input_shape=model.input_shape)
    for value in ([[1, 64, 64, 3]], [[1, 48, 48]], [[1, 48, 48, 3]] * 2):
        with pytest.raises(dgrec.ModelError, match=r"was recorded with \[\[1, 48, 48, 3\]\]"):
            stand_in.input_shape = value
    for value in ([(1, 48, 48, 3)], []):
        stand_in.input_shape = value
    assert stand_in.input_shape == model.input_shape
    check_same(list(batch(stand_in)), live)

"""A session that somebody else made, in the place of a model."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import degirum
import numpy as np
import pytest
from degirum.exceptions import DegirumException

import dgrec
from dgrec.format.recorded_objects import RecordedObject
from dgrec.overlay import Colors, Operations, image_overlay, note_overlay
from tests.dgrec.stand_in.scripted import pictures
from tests.factory import make_detection, make_row, new_metadata, write_session

#: What a program does that a file must not have it do.
_WATCHED = ("open", "socket.connect", "subprocess.Popen", "os.system", "exec", "import")
ZONES = {"count_polygons": [[[0, 0], [90, 0], [90, 70], [0, 70]]], "per_class_display": True}
_seen: list[tuple[str, str]] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in _WATCHED:
        what = arguments[0].co_filename if event == "exec" else arguments[0]
        _seen.append((event, str(what)))


sys.addaudithook(_note)  # for the rest of the process: it cannot be removed


@contextmanager
def noted() -> Iterator[list[tuple[str, str]]]:
    global _seen
    _seen = []
    try:
        yield _seen
    finally:
        _seen = None


def write(path: Path, model: dict[str, Any], results: Any = None, **more: Any) -> Path:
    rows = [make_row(n, [make_detection(n)] if results is None else results) for n in range(3)]
    described = {"name": "m", "result_type": "Detection", "labels": {"0": "person"}, **model}
    write_session(path, rows, metadata={**new_metadata("s"), "model": described, **more})
    return path


def use(path: Path) -> list[Any]:
    model = degirum.connect("@dgrec", f"{path}?match=order").load_model(path.stem)
    model.measure_time = model.save_model_image = True
    results = list(model.predict_batch(pictures(3)))
    for result in results:
        assert result.image_overlay is not None
        assert isinstance(str(result), str)
    return results


def test_files_that_a_session_names_are_not_read_and_code_does_not_run(tmp_path: Path) -> None:
    secret, code = tmp_path / "secret.json", tmp_path / "code.py"
    secret.write_text(json.dumps({"0": "secret"}))
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    names = {"LabelsPath": str(secret), "PythonFile": str(code), "ModelPath": str(secret)}
    names |= {"CloudModelURL": "http://127.0.0.1:9/model", "URL": "http://127.0.0.1:9/"}
    hostile: dict[str, Any] = {
        **names,
        "name": str(code),
        "zoo": "http://127.0.0.1:9/zoo",
        "inference_host": "127.0.0.1",
        "checksum": '", "PythonFile": "' + str(code),
        "device": 'TFLITE/CPU", "PythonFile": "x',
        "parameters": {**names, "output_postprocess_type": "Detection", "model_path": str(secret)},
        "properties": names,
        "POST_PROCESS": [{"PythonFile": str(code)}],
    }
    analyzers = [{"class": "os.system", "parameters": {"command": "true"}}]
    path = write(tmp_path / "s.parquet", hostile, analyzers=analyzers)
    harmless = write(tmp_path / "harmless.parquet", {})
    use(harmless)  # imports what is imported late
    with noted() as seen:
        (result, *_) = use(path)
    assert result.results[0]["label"] == "person"
    others = [what for event, what in seen if event == "open" and str(tmp_path) in what]
    assert set(others) <= {str(path)}
    assert [each for each in seen if each[0] in ("socket.connect", "subprocess.Popen")] == []
    assert [what for event, what in seen if event in ("exec", "import") and "code" in what] == []
    assert not (tmp_path / "ran").exists()
    info = dgrec.model(path, match="order").model_info
    assert (info.LabelsPath, info.PythonFile) == ("", "")


@pytest.mark.parametrize(
    "model",
    [
        {"labels": {"0": {"deep": [1]}, "1": 7, "2": None, "-5": "x", "99999999999": "y"}},
        {"labels": {str(n): "x" * 300 for n in range(3000)}},
        {"input_shape": [[1, 60000, 60000, 3]]},
        {"input_shape": [[2**40, 2**40, 3, 3]]},
        {"input_shape": [[0, 0, 0, 0]]},
        {"input_shape": []},
        {"input_shape": [[]]},
        {"device": "*/*"},
        {"device": ["a", "b"]},
        {"devices": ["x", 10**30, -4, None]},
        {"devices": 7},
        {"image_backend": "gpu"},
        {"image_backend": 7},
        {"checksum": 5},
        {"checksum": "\ud800", "name": "\ud800", "labels": {"0": "\ud800"}},
        {"parameters": [1]},
        {"parameters": {"output_confidence_threshold": "x", "output_top_k": 10**40}},
        {"parameters": {"output_confidence_threshold": float("1e308"), "output_top_k": -3}},
        {"parameters": {"output_class_set": [{"a": 1}, [2], "person"]}},
        {"parameters": {"input_pad_method": "x", "input_resize_method": 7}},
        {"parameters": {"output_max_detections": 2**70, "output_nms_threshold": None}},
        {"parameters": {"output_postprocess_type": "Classification"}},
    ],
    ids=lambda model: json.dumps(model)[:50],
)
def test_odd_metadata_is_no_obstacle(tmp_path: Path, model: dict[str, Any]) -> None:
    path = write(tmp_path / "s.parquet", model)
    assert len(use(path)) == 3
    assert dgrec.model(path, match="order").get_inference_results_type() == "Detection"


@pytest.mark.parametrize(
    "overlay",
    [
        {"color": [9, 9], "alpha": None, "font_scale": None, "line_width": None},
        {"color": [[1, 2, 3], "x"], "blur": {"a": 1}, "fill_color": [1, 2]},
        {"color": "red", "alpha": "x", "fill_color": None, "show_labels": "yes"},
    ],
)
def test_odd_overlay_settings_are_no_obstacle(tmp_path: Path, overlay: dict[str, Any]) -> None:
    assert len(use(write(tmp_path / "s.parquet", {}, overlay=overlay))) == 3


@pytest.mark.parametrize("name", ["os.system", "../../x", "Detection\n", "None\0", "x" * 5000])
def test_unknown_types_are_refused_when_the_model_is_loaded(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "s.parquet", {"result_type": name})
    with pytest.raises(DegirumException) as caught:
        use(path)
    assert isinstance(caught.value, dgrec.ModelError)
    assert "is not known to the installed PySDK" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "results",
    [
        [{"Timing": {"x": "y"}, "success": False, "msg": "[CRITICAL]"}],
        {"success": False, "msg": "not what it seems"},
        [None, 3, "text", [1]],
        "text",
        [{"bbox": None, "score": "high", "label": 5}],
    ],
    ids=str,
)
def test_results_are_given_as_they_are(tmp_path: Path, results: Any) -> None:
    """What PySDK takes for an error of its runtime, or for times, is a result here."""
    path = write(tmp_path / "s.parquet", {"result_type": "Base"}, results)
    model = dgrec.model(path, match="order", measure_time=True)
    given = list(model.predict_batch(pictures(3)))
    assert [result.results for result in given] == [results] * 3
    assert all(isinstance(value, float) for result in given for value in result.timing.values())


@pytest.mark.parametrize("analyzers", [False, True])
def test_half_a_character_is_drawn_as_a_question_mark(tmp_path: Path, analyzers: bool) -> None:
    """OpenCV would end the process. What the program gets of the label is what was recorded."""
    counter = {"class": "degirum_tools.ZoneCounter", "parameters": ZONES}
    more = {"analyzers": [counter]} if analyzers else {}
    drawn = []
    for name, label in (("half", "a\ud800b"), ("whole", "a?b")):
        marks = [{"landmark": [10.0, 30.0], "label": label, "category_id": 0}]
        found = make_detection(0, label=label, bbox=[5.0, 20.0, 60.0, 44.0], landmarks=marks)
        results = use(write(tmp_path / f"{name}.parquet", {}, [found], **more))
        assert [result.results for result in results] == [[found]] * 3
        assert type(results[0]).__name__ == "DetectionResults"
        drawn.append([result.image_overlay for result in results])
        drawn.append([image_overlay(result) for result in results])
        with dgrec.open(tmp_path / f"{name}.parquet") as session:
            own = session[0].to_pysdk(pictures(3)[0])
            drawn.append([own.image_overlay] * 3)
            noted = Operations(Colors(), 96, 72)
            note_overlay(own, noted)
            assert not noted.notes
            assert noted.layers
    for half, whole in zip(drawn[:3], drawn[3:], strict=True):
        assert all(map(np.array_equal, half, whole))


def test_settings_on_odd_results_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "s.parquet", {"result_type": "Base"}, [{"score": "high"}])
    model = dgrec.model(path, match="order", output_confidence_threshold=0.9)
    with pytest.raises(DegirumException, match="cannot be applied to results without scores"):
        list(model.predict_batch(pictures(3)))


def test_a_recorded_object_can_be_copied() -> None:
    one = RecordedObject("degirum_tools.X", {"left": [1]})
    other = copy.deepcopy(one)
    assert other == one
    assert other.left == [1]
    with pytest.raises(AttributeError, match="has no attribute 'right'"):
        _ = other.right

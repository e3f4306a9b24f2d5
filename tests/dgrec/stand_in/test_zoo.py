"""Recorded sessions as a zoo of PySDK's, and recordings of recordings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import degirum
import pytest
from degirum.exceptions import DegirumException
from degirum_tools import ModelSpec, attach_analyzers

import dgrec
from dgrec import sample
from dgrec.format import Metadata
from dgrec.stand_in import register_video_sources
from tests.analyzed import everything
from tests.dgrec.stand_in.scripted import OUTPUTS, ScriptedModel, pictures
from tests.dgrec.stand_in.test_equality import batch, check_same, recorded
from tests.factory import new_metadata, write_session
from tests.recorder.command import Command
from tests.waiting import PATIENCE_S


def connect(path: Path | str) -> Any:
    return degirum.connect("@dgrec", str(path))


def session(path: Path, name: str = "scripted", kind: str = "faces") -> list[Any]:
    """Record a session whose model has a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return recorded(ScriptedModel(*OUTPUTS[kind], name=name), path, batch)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    session(folder / "door.parquet", "faces")
    session(folder / "yard" / "door.parquet", "cars", "yolo")
    session(folder / "yard" / "night.parquet", "cars", "yolo")
    shutil.copy(folder / "door.parquet", folder / "copy.parquet")
    (folder / "broken.parquet").write_bytes(b"PAR1 nothing PAR1")
    (folder / "notes.txt").write_text("no session")
    return folder


def test_sessions_are_named_by_their_files_and_their_models(zoo: Path) -> None:
    found = connect(zoo)
    names = found.list_models()
    assert set(names) >= {"door", "yard/door", "night", "copy"}
    assert "cars" not in names  # two sessions of that model
    assert "faces" not in names  # and a copy
    for name in ("door", "copy"):
        assert found.load_model(name).get_inference_results_type() == "FaceDetection"
    assert found.load_model("yard/door").get_inference_results_type() == "DetectionYolo"
    assert found.model_info("night").OutputPostprocessType == "DetectionYolo"
    assert found.supported_device_types() == {"TFLITE/CPU"}
    assert connect(f"file://{zoo}").list_models() == names


def test_filters_of_a_zoo(zoo: Path) -> None:
    found = connect(zoo)
    assert found.list_models("nig") == ["night"]
    assert set(found.list_models(postprocess_type="FaceDetection")) == {"door", "copy"}
    assert "night" not in found.list_models(postprocess_type="FaceDetection")
    assert found.list_models(device_type="TFLITE/CPU") == found.list_models()
    assert found.list_models(runtime="HAILORT") == []


def test_one_session_is_a_zoo_too(zoo: Path) -> None:
    assert set(connect(zoo / "door.parquet").list_models()) == {"door", "faces"}


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("missing", "missing: cannot be read: No such file"),
        ("missing/a.parquet", "cannot be read: No such file"),
        ("yard/../notes.txt", "notes.txt: not a dgrec session"),
        ("broken.parquet", "broken.parquet: "),
        ("empty", "empty: is a folder without sessions"),
        ("?missing=often", "missing='often': expected error, nearest, empty"),
        ("?match=luck", "match='luck': expected"),
        ("?pace=slow", "pace='slow': expected fast, recorded"),
        ("?speed=2", "'speed' is not an option; expected match, missing, pace"),
        ("a" * 300, "cannot be read"),
        ("\0", "expected a session, or a folder of sessions"),
    ],
)
def test_what_is_not_a_zoo_is_refused_in_one_line(zoo: Path, place: str, reason: str) -> None:
    (zoo / "empty").mkdir(exist_ok=True)
    with pytest.raises(DegirumException) as caught:
        connect(f"{zoo}/{place}" if place[:1] != "?" else f"{zoo}{place}").load_model("door")
    assert isinstance(caught.value, dgrec.ModelError)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_utf8_is_refused_and_keeps_no_other_from_being_found(
    zoo: Path, tmp_path: Path
) -> None:
    for name in ("good", os.fsdecode(b"caf\xe9")):
        shutil.copy(zoo / "door.parquet", tmp_path / f"{name}.parquet")
    assert connect(tmp_path).load_model("good").device_type
    for path in (tmp_path / f"{name}.parquet", Path(f"{tmp_path}/{name}")):
        with pytest.raises(dgrec.ModelError, match="its path is not UTF-8, which PySDK cannot"):
            dgrec.model(path)


def test_a_zoo_that_is_not_named_is_refused() -> None:
    with pytest.raises(dgrec.ModelError, match=r"^zoo_url=None: expected a session, or a folder"):
        degirum.load_model("door", "@dgrec", None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "has no session nothing; it has "),
        ("cars", "several sessions of cars: yard/door, night; name one"),
        ("broken", "broken.parquet: "),
    ],
)
def test_a_session_that_is_not_there_is_named(zoo: Path, name: str, reason: str) -> None:
    with pytest.raises(DegirumException) as caught:
        connect(zoo).load_model(name)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_threshold_that_is_no_number_is_refused_as_by_pysdk(zoo: Path) -> None:
    live, recorded = ScriptedModel(*OUTPUTS["faces"]), dgrec.model(zoo / "door.parquet")
    errors = []
    for model in (live, recorded):
        with pytest.raises(RuntimeError) as caught:
            model.output_confidence_threshold = "0.9"
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_properties_are_set_or_refused(zoo: Path) -> None:
    model = connect(zoo).load_model(
        "door", device_type=["HAILORT/HAILO8"], measure_time=True, overlay_line_width=7
    )
    assert (model.measure_time, model.overlay_line_width) == (True, 7)
    with pytest.raises(DegirumException, match="does not exist"):
        connect(zoo).load_model("door", nothing=1)
    with pytest.raises(dgrec.ModelError, match="nothing is not a property"):
        dgrec.model(zoo / "door.parquet", nothing=1)
    with pytest.raises(dgrec.ModelError, match=r"label_dictionary is not a property .* can be set"):
        dgrec.model(zoo / "door.parquet", label_dictionary={})
    with pytest.raises(dgrec.ModelError, match="output_top_k='x' is refused"):
        dgrec.model(zoo / "door.parquet", output_top_k="x")


def test_options_of_the_address(zoo: Path) -> None:
    url = f"{zoo}?match=order&missing=empty"
    spec = ModelSpec(model_name="door", zoo_url=url, inference_host_address="@dgrec")
    with spec.load_model() as model:
        results = list(model.predict_batch(pictures(6)))
    assert [len(result.results) for result in results] == [0, 1, 2, 3, 0, 0]


def test_a_question_mark_in_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "what?match=luck"
    session(folder / "door.parquet")
    assert "door" in connect(folder).list_models()


def test_a_device_that_nobody_has_is_no_obstacle(tmp_path: Path) -> None:
    """A device's name may be anything, and another session's is not in the way of listing."""
    for number, device in enumerate(("HAILORT/HAILO8L", "a/b/c; d", None, "\n/x")):
        described: Metadata = {"name": f"m{number}", "result_type": "Detection", "device": device}
        metadata = {**new_metadata(f"s{number}"), "model": described}
        write_session(tmp_path / f"s{number}.parquet", [], metadata=metadata)
    found = connect(f"{tmp_path}?match=order")
    assert len(found.list_models()) == 8
    assert set(found.supported_device_types()) == {"HAILORT/HAILO8L", "DGREC/SESSION"}
    assert found.load_model("s1").device_type == "DGREC/SESSION"


def test_a_journal_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    model = ScriptedModel(*OUTPUTS["faces"])
    live = []
    with dgrec.Recorder(path) as recorder, recorder.watch(model):
        for result in model.predict_batch(pictures(4)):
            live.append(result)
        from tests.waiting import wait_until

        journal = path.with_suffix(".arrows")

        def rows() -> int:
            try:
                with dgrec.open(journal) as opened:
                    return len(opened)
            except dgrec.SessionError:
                return 0

        wait_until(lambda: rows() == 4)
        check_same(list(dgrec.model(journal, match="order").predict_batch(pictures())), live)


@pytest.mark.slow
def test_a_recording_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    model = ScriptedModel("FaceDetection", lambda n: OUTPUTS["faces"][1](n % 4))
    images = pictures(4) * 300
    with dgrec.Recorder(path, split_size=1_000_000) as recorder, recorder.watch(model):
        live = [result.results for result in model.predict_batch(images)]
    given = dgrec.model(path, match="order").predict_batch(images)
    assert [result.results for result in given] == live
    assert "s" in connect(tmp_path).list_models()


# --- recordings of recordings ---


def again(path: Path, copy: Path) -> None:
    model = dgrec.model(path, match="order", measure_time=True)
    recorded(model, copy, batch)


@pytest.mark.parametrize("kind", ["faces", "masks", "class map", "classes", "base"])
def test_a_recording_of_a_recording(kind: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    model = ScriptedModel(*OUTPUTS[kind])
    model.measure_time = True
    live = recorded(model, first, batch)
    again(first, second)
    stand_in = dgrec.model(second, match="order", measure_time=True)
    check_same(list(batch(stand_in)), live)
    with dgrec.open(first) as one, dgrec.open(second) as other:
        different = {"name", "inference_host", "parameters"}
        before, after = one.metadata["model"], other.metadata["model"]
        for key in before.keys() - different:
            assert after[key] == before[key], key
        assert after["parameters"] == before["parameters"]
        assert after["inference_host"] == "@dgrec"
        assert other.metadata["overlay"] == one.metadata["overlay"]


def test_analyzers_of_a_recording_of_a_recording(tmp_path: Path) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    model = ScriptedModel(*OUTPUTS["yolo"])
    attach_analyzers(model, everything()[1:2])
    live = recorded(model, first, batch)
    again(first, second)
    with dgrec.open(first) as one, dgrec.open(second) as other:
        assert other.metadata["analyzers"] == one.metadata["analyzers"]
        for frame, result in zip(other, live, strict=True):
            assert frame.results == result.results
            assert frame.overlay(result.image).tobytes() == result.image_overlay.tobytes()


@pytest.mark.slow
def test_dgrec_record_of_a_recording(tmp_path: Path) -> None:
    record = Command(tmp_path).record
    zoo = ["--inference-host-address", "@dgrec", "--zoo-url", str(sample.SESSION.parent)]
    options = ["--source", "sample", "--max-frames", "240", *zoo, "--model-name"]
    assert record(*options, "session", "-o", "again.parquet").returncode == 0
    with dgrec.open(sample.SESSION) as one, dgrec.open(tmp_path / "again.parquet") as other:
        pairs = list(zip(one, other, strict=False))
        assert len(pairs) == 240
        assert any(first.results for first, _ in pairs)
        for first, second in pairs:
            assert (first.results, first.timing) == (second.results, second.timing)
    failed = record(*options, "sessoin", "-o", "other.parquet")
    assert failed.returncode == 1
    assert "sessoin: is not in the zoo" in failed.stderr
    assert "has session" in failed.stderr


# --- where PySDK finds it ---

_PROGRAM = """
{imports}
from degirum_tools import ModelSpec
spec = ModelSpec(model_name="door", zoo_url={zoo!r}, inference_host_address="@dgrec")
print(spec.load_model().get_inference_results_type())
print(degirum.connect("@dgrec", {zoo!r}).load_model("door").label_dictionary[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    ["import dgrec, degirum", "import degirum, dgrec", "import degirum.model, dgrec, degirum"],
)
def test_in_either_order_of_imports(imports: str, zoo: Path) -> None:
    program = _PROGRAM.format(imports=imports, zoo=str(zoo))
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert run.stdout.split() == ["FaceDetection", "person"]


def test_a_module_that_a_program_blocks_keeps_no_other_from_being_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("video_support", "degirum_tools.streams.test_gizmos")
    support, user = map(ModuleType, names)
    monkeypatch.setitem(sys.modules, names[1], user)
    for name in ("torch_not_wanted", "degirum_tools.not_wanted"):
        monkeypatch.setitem(sys.modules, name, None)  # Python's way to block an import
    vars(support)["create_video_stream"] = vars(user)["create_video_stream"] = original = print
    register_video_sources(support)
    assert vars(user)["create_video_stream"] is vars(support)["create_video_stream"]
    assert vars(user)["create_video_stream"] is not original


@pytest.mark.slow
def test_importing_dgrec_does_not_import_pysdk() -> None:
    program = "import dgrec, sys; print('degirum' in sys.modules, 'pyarrow' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert run.stdout.split() == ["False", "False"]

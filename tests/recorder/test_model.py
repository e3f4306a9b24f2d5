"""Models by any of DeGirum's names, and their record in the metadata."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dgrec import sample
from dgrec.errors import ConfigError, ModelError
from dgrec.recorder.model import (
    LoadedModel,
    ModelRequest,
    lead_path_to_this_python,
    load_model,
    parse_property,
)
from dgrec.session import Session
from tests.recorder.command import Command

REGISTRY = f"""\
models:
  {sample.MODEL_NAME}:
    alias: faces
    description: the bundled face detector
    task: face_detection
    hardware:
      - TFLITE/CPU
    zoo_url: {sample.ZOO}
defaults:
  inference_host_address: "@local"
  model_properties:
    output_max_detections: 7
"""


def by_name(**changes: Any) -> ModelRequest:
    return ModelRequest(**{"model_name": sample.MODEL_NAME, "zoo_url": str(sample.ZOO), **changes})


def refusal(request: ModelRequest) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(request)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- names ---


def test_the_bundled_model(loaded: LoadedModel) -> None:
    assert ModelRequest().is_bundled
    assert loaded.description["name"] == sample.MODEL_NAME
    assert loaded.description["zoo"] == "sample"
    assert loaded.description["result_type"] == "Detection"
    assert loaded.model.measure_time is True


def test_a_zoo_folder_means_this_machine() -> None:
    loaded = load_model(by_name())
    assert loaded.description["inference_host"] == "@local"
    assert loaded.description["zoo"] == str(sample.ZOO)
    assert loaded.description["name"] == sample.MODEL_NAME


def test_a_model_url() -> None:
    url = f"{sample.ZOO}/{sample.MODEL_NAME}"
    loaded = load_model(ModelRequest(model_url=url, inference_host_address="@local"))
    assert loaded.description["name"] == sample.MODEL_NAME
    assert loaded.description["zoo"] == str(sample.ZOO)


def test_a_registry(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(REGISTRY)
    request = ModelRequest(
        registry=str(path), alias="faces", properties={"output_confidence_threshold": 0.25}
    )
    assert not request.is_bundled
    loaded = load_model(request)
    assert loaded.description["name"] == sample.MODEL_NAME
    assert loaded.description["inference_host"] == "@local"
    assert loaded.description["parameters"]["output_confidence_threshold"] == 0.25
    assert loaded.description["parameters"]["output_max_detections"] == 7


@pytest.mark.slow
def test_a_registry_on_the_command_line(dgrec: Command) -> None:
    (dgrec.folder / "models.yaml").write_text(REGISTRY)
    options = ["--model-registry", "models.yaml", "--model", "faces"]
    done = dgrec.record(
        "--source", "sample", "--max-frames", "2", "--output", "s.parquet", *options
    )
    assert done.returncode == 0, done.stderr
    assert "No model named" not in done.stderr
    with Session(dgrec.folder / "s.parquet") as session:
        assert len(session) == 2
        assert session.metadata["model"]["name"] == sample.MODEL_NAME
        assert session.metadata["model"]["zoo"] == str(sample.ZOO)


# --- refusals ---


def test_a_registry_that_is_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "none.yaml")
    error = refusal(ModelRequest(registry=path, alias="faces"))
    assert error == f"{path}: cannot be read: No such file or directory"


@pytest.mark.parametrize("text", ["models: [1, 2]", "nothing: {}", "[", "3", ""])
def test_a_registry_that_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    error = refusal(ModelRequest(registry=str(path), alias="faces"))
    assert error.startswith(f"{path}: not a model registry: ")


def test_an_alias_that_the_registry_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(REGISTRY)
    error = refusal(ModelRequest(registry=str(path), alias="cats"))
    assert error == f"{path}: has no model with the alias 'cats'"


def test_a_model_that_the_zoo_does_not_have() -> None:
    error = refusal(by_name(model_name="yolo99"))
    assert error == f"yolo99: is not in the zoo; {sample.ZOO} has {sample.MODEL_NAME}"


def test_a_zoo_that_is_missing(tmp_path: Path) -> None:
    error = refusal(by_name(zoo_url=str(tmp_path / "zoo")))
    assert error.startswith(f"{tmp_path / 'zoo'}: no such zoo folder")


def test_a_server_that_does_not_answer() -> None:
    error = refusal(by_name(inference_host_address="localhost:9", zoo_url=""))
    assert error.startswith(f"{sample.MODEL_NAME}: cannot be loaded: ")


@pytest.mark.parametrize(
    ("properties", "which"),
    [
        ({"no_such_property": 1}, "no_such_property=1 is refused: Model property"),
        (
            {"output_confidence_threshold": "high"},
            "output_confidence_threshold=high is refused: its value has to be of another type",
        ),
        (
            {"output_confidence_threshold": 0.5, "output_class_set": 5},
            "output_class_set=5 is refused: output_class_set must be convertible",
        ),
        ({"postprocess": {"timing": {"enable": True}, "more": 1}}, 'postprocess={"timing":'),
    ],
)
def test_properties_that_pysdk_refuses(properties: dict[str, Any], which: str) -> None:
    error = refusal(ModelRequest(properties=properties))
    assert error.startswith(f"{sample.MODEL_NAME}: property {which}"), error


# --- properties ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("output_confidence_threshold=0.4", ("output_confidence_threshold", 0.4)),
        ("device_type=TFLITE/CPU", ("device_type", "TFLITE/CPU")),
        ('overlay_blur=["face"]', ("overlay_blur", ["face"])),
        (" overlay_show_labels = false", ("overlay_show_labels", False)),
        ("a=b=c", ("a", "b=c")),
        ("a=", ("a", "")),
        ("overlay_show_labels=True", ("overlay_show_labels", True)),
        ("overlay_show_labels= False ", ("overlay_show_labels", False)),
        ("output_class_set=None", ("output_class_set", None)),
        ("output_class_set=('car', 'person')", ("output_class_set", ("car", "person"))),
        ("output_class_set={'car'}", ("output_class_set", {"car"})),
        ("overlay_color=(255, 0, 0)", ("overlay_color", (255, 0, 0))),
        ("overlay_color=[(255, 0, 0), (0, 255, 0)]", ("overlay_color", [(255, 0, 0), (0, 255, 0)])),
        ("image_backend='pil'", ("image_backend", "pil")),
        ('image_backend="pil"', ("image_backend", "pil")),
        ("image_backend=pil", ("image_backend", "pil")),
        (
            "postprocess={'timing': {'enable': True}}",
            ("postprocess", {"timing": {"enable": True}}),
        ),
        ("a=-1.5e-3", ("a", -1.5e-3)),
        ("a=__import__('os').getcwd()", ("a", "__import__('os').getcwd()")),
        ("a=true story", ("a", "true story")),
        ("a=" + "[" * 100_000, ("a", "[" * 100_000)),
        ("a=" + "(" * 100_000, ("a", "(" * 100_000)),
    ],
)
def test_properties(text: str, expected: tuple[str, Any]) -> None:
    assert parse_property(text) == expected


def test_properties_as_python_writes_them_reach_the_model() -> None:
    texts = [
        "overlay_show_labels=True",
        "output_class_set=('face', 'car')",
        "overlay_color=(1, 2, 3)",
    ]
    loaded = load_model(ModelRequest(properties=dict(map(parse_property, texts))))
    assert loaded.model.overlay_show_labels is True
    assert set(loaded.model.output_class_set) == {"face", "car"}
    assert loaded.model.overlay_color == (1, 2, 3)
    assert loaded.description["properties"]["output_class_set"] == ["face", "car"]


def test_odd_values_are_plain_json_in_the_metadata() -> None:
    """A set has no order of its own, and JSON has no infinity."""
    texts = ["output_class_set={'face', 'car', 'bus'}", "output_confidence_threshold=-1e999"]
    loaded = load_model(ModelRequest(properties=dict(map(parse_property, texts))))
    assert loaded.description["properties"] == {
        "output_class_set": ["bus", "car", "face"],
        "output_confidence_threshold": "-inf",
    }
    json.dumps(loaded.description, allow_nan=False)


def test_the_bundled_model_runs_on_one_device() -> None:
    """PySDK offers one a processor; their thread pools would spin against each other."""
    loaded = load_model(ModelRequest())
    assert loaded.description["devices"] == [0]
    assert load_model(by_name()).description["devices"] == [0]
    available = loaded.model.devices_available
    asked = load_model(ModelRequest(properties={"devices_selected": available}))
    assert asked.description["devices"] == available


@pytest.mark.parametrize("text", ["threshold", "=3", " =3", ""])
def test_what_is_no_property(text: str) -> None:
    with pytest.raises(ConfigError, match="write it as key=value"):
        parse_property(text)


def test_the_guides_way_of_switching_timing_on(tmp_path: Path) -> None:
    """PySDK 1.5 refuses this property, which DeGirum's guide shows; timing is always on here."""
    properties = {"postprocess": {"timing": {"enable": True}}, "output_confidence_threshold": 0.5}
    loaded = load_model(ModelRequest(properties=properties))
    assert loaded.model.measure_time is True
    assert loaded.description["properties"] == {"output_confidence_threshold": 0.5}
    assert "postprocess" in properties, "the caller's own dictionary is left alone"


def test_the_worker_is_started_with_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PySDK takes the first ``python3`` on PATH, which need not have its libraries."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for _ in range(2):
        lead_path_to_this_python()
    first, *others = os.environ["PATH"].split(os.pathsep)
    assert others == ["/usr/bin", "/bin"]

    def ask(*arguments: str) -> str:
        done = subprocess.run(["python3", *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    # As PySDK asks for it; anything else is run by this very Python.
    assert ask("-c", "import sys; print(sys.executable)") == f"{first}/python3"
    assert ask("-c", "import sys; print(sys.prefix)") == sys.prefix
    program = tmp_path / "pproc_worker.py"
    program.write_text("import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)")
    assert ask(str(program), "--parent_pid", str(os.getpid())) == "True"

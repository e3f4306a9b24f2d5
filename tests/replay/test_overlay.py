"""The promise: results come back equal, and their overlay is identical pixel by pixel."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from degirum.postprocessor import class_from_type_string

import dgrec
from dgrec.replay.drawing import Filtered
from dgrec.replay.rendering.render import OverlayPainter
from dgrec.session import OVERLAY_SETTINGS
from tests.factory import make_row, new_metadata, write_session

WIDTH, HEIGHT, MODEL = 320, 180, 96
LABELS = {0: "cat", 1: "dog", 2: "car", 3: "person"}
COLORS = [(255, 255, 0), (0, 128, 255), (250, 20, 90), (10, 200, 30), (200, 200, 200)]
Conversion = Callable[[float, float], tuple[float, float]]


def image() -> Any:
    """Return a picture with detail everywhere, so that a blur or a blend cannot hide."""
    rng = np.random.default_rng(7)
    return rng.integers(1, 255, (HEIGHT, WIDTH, 3), np.uint8)


def letterbox(x: float, y: float) -> tuple[float, float]:
    """Model to image where the picture was fitted into the square with bars above and below."""
    scale = MODEL / WIDTH
    return x / scale, (y - (MODEL - HEIGHT * scale) / 2) / scale


def stretch(x: float, y: float) -> tuple[float, float]:
    return x * WIDTH / MODEL, y * HEIGHT / MODEL


def crop(x: float, y: float) -> tuple[float, float]:
    """Model to image where the square was cut out of the middle of the picture."""
    scale = MODEL / HEIGHT
    return (x / scale) + (WIDTH - HEIGHT) / 2, y / scale


def box(index: int, **more: Any) -> dict[str, Any]:
    left, top = 6.25 + 17 * index, 30.5 + 3 * index
    detection = {
        "bbox": [left, top, left + 21.125, top + 24.75],
        "category_id": index % 4,
        "label": LABELS[index % 4],
        "score": float(np.float32(0.91 - index / 10)),
        **more,
    }
    return {key: value for key, value in detection.items() if value is not ...}


def run_lengths(mask: Any, x_min: int = 0, y_min: int = 0) -> dict[str, Any]:
    """Return a mask as PySDK's runtime sends it: base64 of run values, then run lengths."""
    flat = mask.astype(np.uint32).reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]])).astype(np.uint32)
    data = base64.b64encode(np.concatenate([flat[starts], lengths]).tobytes()).decode()
    height, width = mask.shape
    return {"x_min": x_min, "y_min": y_min, "height": height, "width": width, "data": data}


def disc(height: int, width: int) -> Any:
    y, x = np.mgrid[:height, :width]
    return ((x - width / 2) / (width / 2)) ** 2 + ((y - height / 2) / (height / 2)) ** 2 < 0.8


def instance(index: int, **more: Any) -> dict[str, Any]:
    """Return a detection with a mask of its box, in model coordinates."""
    left, top, width, height = 8 + 20 * index, 30 + 5 * index, 26, 22
    return box(
        index,
        bbox=[left + 0.4, top + 0.3, left + width - 0.2, top + height - 0.4],
        mask=run_lengths(disc(height, width), left, top),
        **more,
    )


def key_points(count: int, connect: bool = True, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "category_id": i,
            "label": f"point {i}",
            "score": float(np.float32(0.5 + i / 20)),
            "landmark": [12.5 + 9 * i, 34.25 + 7 * (i % 3)],
            **({"connect": [(i + 1) % count]} if connect else {}),
            **more,
        }
        for i in range(count)
    ]


def hand() -> dict[str, Any]:
    names = ["Wrist", "Thumb", "Index", "Middle"]
    points = [
        {
            "label": name,
            "category_id": i,
            "landmark": [20.5 + 12 * i, 40.0 + 6 * i, -20.0 + 15 * i],
            "world_landmark": [0.01 * i, -0.02 * i, 0.03],
            "connect": [i - 1] if i else [],
        }
        for i, name in enumerate(names)
    ]
    return {"score": 0.97, "handedness": 0.88, "landmarks": points}


def class_map(dtype: Any = np.int64, height: int = MODEL, width: int = MODEL) -> Any:
    y, x = np.mgrid[:height, :width]
    return ((x // 12 + y // 9) % 4).astype(dtype)


CASES: dict[str, tuple[str, list[Any], Conversion]] = {
    "boxes": ("Detection", [box(i) for i in range(4)], letterbox),
    "boxes YOLO, stretched": ("DetectionYoloV8", [box(i) for i in range(4)], stretch),
    "nothing found": ("DetectionYolo", [], letterbox),
    "without ids": ("Detection", [box(i, category_id=...) for i in range(4)], letterbox),
    "without labels": ("Detection", [box(i, label=...) for i in range(4)], letterbox),
    "without both": ("Detection", [box(i, label=..., category_id=...) for i in range(3)], crop),
    "label not the model's": (
        "DetectionYolo",
        [box(0, label="Ada"), box(1, label="Grace"), box(2, label="Ada"), box(3)],
        letterbox,
    ),
    "label beyond ASCII": ("Detection", [box(0, label="кіт"), box(1)], letterbox),
    "analyzers' keys": (
        "DetectionYolo",
        [box(0, track_id=7, in_zone=[True, False]), box(1, track_id=2**40), box(2)],
        letterbox,
    ),
    "rotated": ("DetectionYoloV8OBB", [box(i, angle=0.3 * i - 0.7) for i in range(4)], letterbox),
    "some rotated": ("DetectionYoloV8OBB", [box(0), box(1, angle=1.1)], letterbox),
    "face": ("FaceDetection", [box(0, landmarks=key_points(5, connect=False))], letterbox),
    "pose": ("PoseDetection", [{"landmarks": key_points(6), "score": 0.8}], letterbox),
    "pose with boxes": (
        "PoseDetectionYoloV8",
        [box(0, landmarks=key_points(6)), box(2, landmarks=key_points(3))],
        crop,
    ),
    "instance masks": ("SegmentationYoloV8", [instance(i) for i in range(3)], letterbox),
    "instance masks, cropped": ("SegmentationYoloV8", [instance(i) for i in range(3)], crop),
    "mask of the whole frame": (
        "SegmentationYoloV8",
        [{"mask": run_lengths(disc(MODEL, MODEL))}],
        letterbox,
    ),
    "masks and none": ("SegmentationYoloV8", [instance(0), box(1), instance(2)], stretch),
    "hand": ("HandDetection", [hand(), {**hand(), "handedness": 0.2}], letterbox),
    "classification": (
        "Classification",
        [{"category_id": i, "label": LABELS[i], "score": 0.6 / (i + 1)} for i in range(4)],
        stretch,
    ),
    "regression": (
        "Classification",
        [{"category_id": 0, "label": "age", "score": 34.215625762939453}],
        stretch,
    ),
    "wide label": (
        "Classification",
        [{"category_id": 0, "label": "a very long label " * 4, "score": 1}],
        stretch,
    ),
    "multi-label": (
        "MultiLabelClassification",
        [
            {
                "classifier": "vehicle color",
                "results": [{"label": "red", "score": 0.99}, {"label": "blue", "score": 0.01}],
            },
            {"classifier": "vehicle type", "results": [{"label": "car"}]},
        ],
        stretch,
    ),
    "class map": ("Segmentation", [{"data": class_map()}], stretch),
    "class map, letterboxed": ("Segmentation", [{"data": class_map(np.uint8)}], letterbox),
    "class map, cropped": ("Segmentation", [{"data": class_map(np.int32, 64, 64)}], crop),
    "class map, 3-D": ("Segmentation", [{"data": class_map()[None]}], letterbox),
    "base": ("Base", [{"data": np.arange(12, dtype=np.float32).reshape(3, 4)}], stretch),
    "dequantized": ("Dequantization", [{"id": 0, "data": np.ones((1, 2, 3), np.int8)}], stretch),
}

SETTINGS: dict[str, dict[str, Any]] = {
    "as PySDK sets them": {"color": COLORS, "alpha": "auto"},
    "one color": {"color": (20, 200, 255), "alpha": "auto", "show_probabilities": True},
    "translucent": {"color": COLORS, "alpha": 0.35, "line_width": 5},
    "blurred": {"color": COLORS, "alpha": 1.0, "blur": "all"},
    "some blurred": {"color": COLORS, "alpha": 1.0, "blur": ["dog", "car"]},
    "no labels": {"color": COLORS, "alpha": 1.0, "show_labels": False, "font_scale": 2.0},
    "large": {"color": COLORS, "alpha": 0.8, "font_scale": 1.7, "show_probabilities": True},
    "no lines": {"color": COLORS, "alpha": 1.0, "line_width": 0, "show_labels": False},
}


def full(settings: dict[str, Any]) -> dict[str, Any]:
    """Return every overlay setting of a model, as PySDK has them by default or as said."""
    return {
        "line_width": 3,
        "show_labels": True,
        "show_probabilities": False,
        "blur": None,
        "font_scale": 1.0,
        **settings,
    }


def pysdk_result(type_name: str, found: list[Any], conversion: Conversion, **settings: Any) -> Any:
    """Build the result as PySDK's model does it: through the constructor of its class."""
    return class_from_type_string(type_name)(
        inference_results=found,
        conversion=conversion,
        input_image=image(),
        fill_color=(0, 0, 0),
        frame_info="",
        label_dictionary=dict(LABELS),
        input_shape=[[1, MODEL, MODEL, 3]],
        **{OVERLAY_SETTINGS[name]: value for name, value in full(settings).items()},
    )


def record(
    path: Path, type_name: str, originals: list[Any], settings: dict[str, Any], **write: Any
) -> dgrec.Session:
    """Write results as the recorder does, and open them again."""
    rows = []
    for i, original in enumerate(originals):
        sampled = None
        if type_name == "Segmentation":
            height, width = np.squeeze(original.results[0]["data"]).shape
            one = original._conversion(width / 2, height / 2)
            two = original._conversion(width / 2 - 1, height / 2 - 1)
            sampled = (*one, *two)
        rows.append(make_row(i, original.results, width=WIDTH, height=HEIGHT, conversion=sampled))
    metadata = new_metadata(overlay=full(settings))
    metadata["model"]["result_type"] = type_name
    metadata["model"]["labels"] = {str(key): label for key, label in LABELS.items()}
    metadata["model"]["input_shape"] = [[1, MODEL, MODEL, 3]]
    return dgrec.open(write_session(path, rows, metadata, **write))


def assert_same(one: Any, other: Any) -> None:
    """Assert that two values have equal types, keys, order of keys, values and array bytes."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for item, twin in zip(one, other, strict=True):
            assert_same(item, twin)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    else:
        assert one == other


@pytest.mark.parametrize("case", CASES)
def test_results_come_back_equal(tmp_path: Path, case: str) -> None:
    type_name, found, conversion = CASES[case]
    settings = SETTINGS["as PySDK sets them"]
    original = pysdk_result(type_name, found, conversion, **settings)
    with record(tmp_path / "s.parquet", type_name, [original], settings) as session:
        assert_same(session.result(0).results, original.results)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("case", CASES)
def test_overlays_are_identical(tmp_path: Path, case: str, settings: str) -> None:
    type_name, found, conversion = CASES[case]
    chosen = SETTINGS[settings]
    original = pysdk_result(type_name, found, conversion, **chosen)
    pixels = image()
    with record(tmp_path / "s.parquet", type_name, [original], chosen) as session:
        drawn = session.result(0).overlay(pixels)
    live = original.image_overlay
    assert np.array_equal(drawn, live)
    assert np.array_equal(pixels, image()), "drawing must not change the pixels it was given"
    draws_nothing = (
        not found
        or type_name in ("Base", "Dequantization")
        or (settings == "no lines" and type_name not in ("SegmentationYoloV8", "Segmentation"))
        or (settings == "no labels" and "Classification" in type_name)
    )
    assert np.array_equal(live, pixels) == draws_nothing


@pytest.mark.parametrize("settings", ["as PySDK sets them", "large"])
@pytest.mark.parametrize("case", CASES)
def test_a_part_of_the_results_is_drawn_as_pysdk_draws_it(
    tmp_path: Path, case: str, settings: str
) -> None:
    """What `--where` leaves of each result type: the first, all but the first, nothing."""
    type_name, found, conversion = CASES[case]
    chosen = SETTINGS[settings]
    original = pysdk_result(type_name, found, conversion, **chosen)
    all_results = original.results
    with record(tmp_path / "s.parquet", type_name, [original], chosen) as session:
        result = session.result(0)
        for kept in ([0], list(range(1, len(all_results)))):
            if not all_results or not kept:
                continue
            live = pysdk_result(type_name, found, conversion, **chosen)
            live._inference_results = [all_results[index] for index in kept]
            part = result.keep(kept)
            assert_same(part.results, live._inference_results)
            assert_same(result.results, all_results)
            drawn = Filtered(OverlayPainter(), lambda _, kept=kept: kept).draw(result, image())
            assert np.array_equal(drawn, live.image_overlay)
        nothing = Filtered(OverlayPainter(), lambda _: [])
        assert np.array_equal(nothing.draw(result, image()), image())
        assert nothing.notes() == []


def test_settings_tell_pictures_apart() -> None:
    """Each setting changes something; else the test above could not see it go missing."""
    pictures = [
        pysdk_result(
            "Detection", [box(i) for i in range(4)], letterbox, **chosen
        ).image_overlay.tobytes()
        for chosen in SETTINGS.values()
    ]
    assert len(set(pictures)) == len(SETTINGS)


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_can_be_replaced(tmp_path: Path, settings: str) -> None:
    found = [box(i) for i in range(4)]
    recorded = {"color": (1, 2, 3), "alpha": 0.2, "line_width": 11, "font_scale": 3.0}
    original = pysdk_result("Detection", found, letterbox, **recorded)
    wanted = pysdk_result("Detection", found, letterbox, **full(SETTINGS[settings]))
    with record(tmp_path / "s.parquet", "Detection", [original], recorded) as session:
        drawn = session.result(0).overlay(image(), full(SETTINGS[settings]))
    assert np.array_equal(drawn, wanted.image_overlay)


@pytest.mark.parametrize("case", [name for name in CASES if "mask" in name])
def test_bitmap_masks_draw_the_same(tmp_path: Path, case: str) -> None:
    type_name, found, conversion = CASES[case]
    original = pysdk_result(type_name, found, conversion, color=COLORS, alpha="auto")
    settings = {"color": COLORS, "alpha": "auto"}
    path = tmp_path / "s.parquet"
    with record(path, type_name, [original], settings, masks="bitmap") as session:
        assert np.array_equal(session.result(0).overlay(image()), original.image_overlay)


def test_colors_of_unknown_labels_follow_the_live_order(tmp_path: Path) -> None:
    """PySDK numbers labels that are not the model's as it meets them, over all frames."""
    settings = {"color": COLORS, "alpha": "auto"}
    names = ["Ada", "Grace", "Edsger", "Grace", "Ada"]
    shared = dict(LABELS)
    live = []
    originals = []
    for name in names:
        original = pysdk_result("Detection", [box(0, label=name)], letterbox, **settings)
        original._label_dictionary = shared
        originals.append(original)
        live.append(original.image_overlay)
    with record(tmp_path / "s.parquet", "Detection", originals, settings) as session:
        painter = OverlayPainter()
        drawn = [painter.draw(result, image()) for result in session]
        alone = session.result(1).overlay(image())
    assert all(np.array_equal(one, other) for one, other in zip(drawn, live, strict=True))
    assert not np.array_equal(alone, live[1]), "then sharing the dictionary would mean nothing"


def test_unknown_result_type_is_said(tmp_path: Path) -> None:
    settings = {"color": COLORS, "alpha": "auto"}
    original = pysdk_result("Detection", [box(0)], letterbox, **settings)
    with (
        record(tmp_path / "s.parquet", "Holograms", [original], settings) as session,
        pytest.raises(dgrec.VideoError, match="'Holograms' is not known"),
    ):
        session.result(0).overlay(image())


def record_in_another_process(folder: Path) -> None:
    """Write a session of labels without ids, and the picture that this process sees of it."""
    settings = {"color": COLORS, "alpha": "auto"}
    found = [box(i, category_id=..., label=f"thing {i}") for i in range(5)]
    original = pysdk_result("Detection", found, letterbox, **settings)
    record(folder / "s.parquet", "Detection", [original], settings).close()
    np.save(folder / "live.npy", original.image_overlay)


@pytest.mark.slow
def test_label_colors_are_those_of_the_recording_process(tmp_path: Path) -> None:
    """PySDK picks the colour of a label without id by its hash, which differs per process."""
    live = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        code = (
            "import sys; from pathlib import Path;"
            "from tests.replay.test_overlay import record_in_another_process as record;"
            "record(Path(sys.argv[1]))"
        )
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root}
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=environment)
        live.append(np.load(folder / "live.npy"))
        with dgrec.open(folder / "s.parquet") as session:
            result = session.result(0)
            assert np.array_equal(result.overlay(image()), live[-1])
            assert {type(found["label"]) for found in result.results} == {str}
    assert not np.array_equal(*live), "the two processes must differ for this to be a test"

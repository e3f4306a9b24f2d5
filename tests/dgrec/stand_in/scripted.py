"""A model of PySDK's with everything but an accelerator, and results of every type for it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from degirum._ext_zoo_accessor import ExtModelBase
from degirum.aiclient import ModelParams

from tests.recorder.doubles import run_length

__all__ = ["LABELS", "OUTPUTS", "ScriptedModel", "picture", "pictures"]

LABELS = {0: "person", 1: "car", 2: "bicycle"}
WIDTH, HEIGHT = 96, 72
#: Of the model's input: coordinates are converted.
SIZE = 48


def picture(number: int) -> np.ndarray[Any, Any]:
    """Return pixels that no other frame has."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def pictures(count: int = 4) -> list[np.ndarray[Any, Any]]:
    return [picture(number) for number in range(count)]


class ScriptedModel(ExtModelBase):  # type: ignore[misc]
    """Runs PySDK's own code on an output that a test names.

    Args:
        result_type: PySDK's name of it.
        infer: Returns the output of the runtime for the nth frame.
    """

    def __init__(
        self,
        result_type: str,
        infer: Callable[[int], list[Any]],
        *,
        labels: dict[int, str] | None = None,
        input_type: str = "Image",
        name: str = "scripted",
    ) -> None:
        shape = {"InputN": 1, "InputH": SIZE, "InputW": SIZE, "InputC": 3}
        parameters = ModelParams(
            json.dumps(
                {
                    "ConfigVersion": 6,
                    "Checksum": "1",
                    "DEVICE": [{"RuntimeAgent": "TFLITE", "DeviceType": "CPU"}],
                    "PRE_PROCESS": [
                        {"InputType": input_type, "InputPadMethod": "letterbox", **shape}
                    ],
                    "MODEL_PARAMETERS": [{"ModelPath": "scripted"}],
                    "POST_PROCESS": [{"OutputPostprocessType": result_type}],
                }
            )
        )
        super().__init__(name, parameters, "TFLITE/CPU")
        self._infer = infer
        self._count = 0
        self._label_dict = dict(LABELS if labels is None else labels)

    @contextmanager
    def _predict_handler(self) -> Iterator[None]:
        self._runtime = self
        yield

    def rewind(self) -> ScriptedModel:
        self._count = 0
        return self

    def predict(self, data: Any, info: str | None = None) -> Any:
        if info is None:
            return super().predict(data)
        output = copy.deepcopy(self._infer(self._count))
        self._count += 1
        if self.measure_time:
            timing = {"CoreInferenceDuration_ms": 1.5 * self._count, "CoreInputFrameSize_bytes": 7}
            output.insert(0, {"Timing": timing})
        self._result_callback(output)
        return None


def _box(index: int, **more: Any) -> dict[str, Any]:
    left = 3.25 + 7 * index
    return {
        "bbox": [left, 4.5, left + 14, 30.75],
        "category_id": index % 3,
        "label": LABELS[index % 3],
        "score": 0.9 - 0.1 * index,
        **more,
    }


def _points(index: int, count: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "category_id": n,
            "label": f"point {n}",
            "score": 0.5 + 0.1 * n,
            "landmark": [4.0 + 5 * n + index, 9.5 + 3 * n],
            "connect": [(n + 1) % count],
        }
        for n in range(count)
    ]


def _mask(index: int) -> dict[str, Any]:
    y, x = np.mgrid[:12, :10]
    return run_length((((x - 5) / 5) ** 2 + ((y - 6) / 6) ** 2 < 0.8), 4 + index, 5)


def _hand(index: int) -> dict[str, Any]:
    return {
        "score": 0.9,
        "handedness": 0.8 - index / 10,
        "landmarks": [
            {
                "label": f"joint {n}",
                "category_id": n,
                "landmark": [4.0 + 4 * n + index, 6.0 + 2 * n, 0.5 * n],
                "world_landmark": [0.01 * n, 0.02, -0.03],
                "connect": [(n + 1) % 5],
            }
            for n in range(5)
        ],
    }


def _class(index: int, score: float) -> dict[str, Any]:
    return {"category_id": index, "label": LABELS[index], "score": score}


def _detections(n: int) -> list[Any]:
    return [_box(index) for index in range(n)]


def _class_map(n: int) -> list[Any]:
    return [{"data": (np.arange(SIZE * SIZE).reshape(1, SIZE, SIZE) // (400 + 50 * n)) % 3}]


#: For each name: the result type, and the output for the nth frame.
OUTPUTS: dict[str, tuple[str, Callable[[int], list[Any]]]] = {
    "detection": ("Detection", _detections),
    "yolo": ("DetectionYolo", _detections),
    "yolo v8": ("DetectionYoloV8", _detections),
    "yolo v10": ("DetectionYoloV10", _detections),
    "yolo hailo": ("DetectionYoloHailo", _detections),
    "damo yolo": ("DetectionDamoYolo", _detections),
    "without ids": (
        "Detection",
        lambda n: [{k: v for k, v in _box(i).items() if k != "category_id"} for i in range(n)],
    ),
    "first is empty": ("Detection", lambda n: [{}, *_detections(n)]),
    "obb": ("DetectionYoloV8OBB", lambda n: [_box(i, angle=0.3 + 0.2 * i) for i in range(n)]),
    "faces": ("FaceDetection", lambda n: [_box(i, landmarks=_points(i)) for i in range(n)]),
    "poses": (
        "PoseDetection",
        lambda n: [{"landmarks": _points(i), "score": 0.8} for i in range(n)],
    ),
    "yolo poses": (
        "PoseDetectionYoloV8",
        lambda n: [_box(i, landmarks=_points(i)) for i in range(n)],
    ),
    "masks": ("SegmentationYoloV8", lambda n: [_box(i, mask=_mask(i)) for i in range(n)]),
    "classes": ("Classification", lambda n: [_class(n % 3, 0.7), _class((n + 1) % 3, 0.2)]),
    "regression": ("Classification", lambda n: [{"label": "age", "score": 34.25 + n}]),
    "several labels": (
        "MultiLabelClassification",
        lambda n: [
            {"classifier": "color", "results": [{"label": "red", "score": 0.9 - n / 10}]},
            {"classifier": "type", "results": [{"label": "truck"}]},
        ],
    ),
    "class map": ("Segmentation", _class_map),
    "hands": ("HandDetection", lambda n: [_hand(i) for i in range(n % 3)]),
    "base": ("Base", lambda n: [{"text": f"plate {n}", "digits": list(range(n))}]),
    "tensors": (
        "None",
        lambda n: [{"id": 0, "data": np.arange(6, dtype=np.float32).reshape(2, 3) + n}],
    ),
}

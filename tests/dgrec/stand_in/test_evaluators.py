"""Evaluators of degirum_tools give the same figures live and on a recording."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from degirum_tools import (
    ImageClassificationModelEvaluator,
    ImageRegressionModelEvaluator,
    ObjectDetectionModelEvaluator,
)

import dgrec
from tests.dgrec.stand_in.scripted import LABELS, OUTPUTS, ScriptedModel, picture

COUNT = 6


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for number in range(COUNT):
        path = folder / LABELS[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(number))
    return folder


def truth(images: Path) -> str:
    """Write what is in the pictures, in the form of each evaluator."""
    names = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    path = images.parent / "truth.json"
    described = {
        "images": [
            {"id": n, "file_name": name, "value": 34 + n, "width": 96, "height": 72}
            for n, name in enumerate(names)
        ],
        "categories": [{"id": n, "name": name} for n, name in LABELS.items()],
        "annotations": [
            {
                "id": n + 1,
                "image_id": n,
                "category_id": 0,
                "bbox": [6.5, 0, 28, 50],
                "area": 1400,
                "iscrowd": 0,
            }
            for n in range(len(names))
        ],
        "info": {},
    }
    path.write_text(json.dumps(described))
    return str(path)


EVALUATORS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "detection": (
        "yolo",
        lambda model: ObjectDetectionModelEvaluator(
            model, classmap={0: 0, 1: 1, 2: 2}, output_confidence_threshold=0.05
        ),
    ),
    "classification": (
        "classes",
        lambda model: ImageClassificationModelEvaluator(
            model, foldermap=LABELS, top_k=[1, 2], show_progress=False
        ),
    ),
    "regression": ("regression", lambda model: ImageRegressionModelEvaluator(model)),
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # degirum_tools'
@pytest.mark.parametrize("kind", EVALUATORS)
def test_figures(kind: str, images: Path, tmp_path: Path) -> None:
    output, make = EVALUATORS[kind]
    model = ScriptedModel(*OUTPUTS[output])
    with dgrec.Recorder(tmp_path / "s.parquet") as recorder, recorder.watch(model):
        # Settings that are made while it is watched are recorded, too.
        live = make(model).evaluate(str(images), truth(images), 0)
    stand_in = dgrec.model(tmp_path / "s.parquet")
    given = make(stand_in).evaluate(str(images), truth(images), 0)
    assert repr(given) == repr(live)
    assert stand_in.output_confidence_threshold == model.output_confidence_threshold

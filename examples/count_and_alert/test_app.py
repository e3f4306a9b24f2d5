"""Tests of the application against a recording: no camera, no accelerator, the same every time.

python -m pytest
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import app
import pytest

RECORDING = "../../sample_data/session.parquet"


@pytest.fixture
def pipeline(dgrec_model: Callable[..., Any], dgrec_camera: Callable[..., Any]) -> tuple[Any, Any]:
    return dgrec_model(RECORDING), dgrec_camera(RECORDING)


def test_three_people_are_too_many(pipeline: tuple[Any, Any]) -> None:
    assert list(app.watch(*pipeline, app.Alert(most=2))) == [
        "picture 219: too many people",
        "picture 265: all clear",
    ]


def test_one_person_is_not(pipeline: tuple[Any, Any]) -> None:
    assert list(app.watch(*pipeline, app.Alert(most=3))) == []


def test_patience_delays_the_alert(pipeline: tuple[Any, Any]) -> None:
    lines = list(app.watch(*pipeline, app.Alert(most=2, patience=20)))
    assert lines == ["picture 234: too many people", "picture 280: all clear"]


def test_a_stricter_threshold_misses_somebody(
    dgrec_model: Callable[..., Any], dgrec_camera: Callable[..., Any]
) -> None:
    model = dgrec_model(RECORDING, output_confidence_threshold=0.95)
    assert list(app.watch(model, dgrec_camera(RECORDING), app.Alert(most=2))) == []


def test_results_are_as_before(pipeline: tuple[Any, Any], dgrec_check: Callable[..., None]) -> None:
    """If the tracker changes, this says where: pytest --dgrec-update takes it as the new state."""
    dgrec_check(islice(app.results(*pipeline), 215, 235), "expected.parquet")

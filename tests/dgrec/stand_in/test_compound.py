"""Compound models and graphs of gizmos, with recordings in the place of the models in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from degirum_tools import (
    CombiningCompoundModel,
    CropExtentOptions,
    CroppingAndClassifyingCompoundModel,
    CroppingAndDetectingCompoundModel,
    LineCounter,
    NmsOptions,
    ObjectTracker,
    RegionExtractionPseudoModel,
    attach_analyzers,
)
from degirum_tools.streams import (
    AiObjectDetectionCroppingGizmo,
    AiSimpleGizmo,
    Composition,
    CropCombiningGizmo,
    IteratorSourceGizmo,
    SinkGizmo,
    load_composition,
    tag_inference,
)

import dgrec
from tests.analyzed import everything
from tests.dgrec.stand_in.scripted import OUTPUTS, ScriptedModel, pictures
from tests.dgrec.stand_in.test_equality import assert_equal, check_same


def detector() -> ScriptedModel:
    return ScriptedModel("DetectionYolo", OUTPUTS["yolo"][1], name="detector")


def parts() -> ScriptedModel:
    return ScriptedModel("Detection", lambda n: OUTPUTS["yolo"][1](1 + n % 3), name="parts")


def classifier() -> ScriptedModel:
    return ScriptedModel(*OUTPUTS["classes"], name="classifier")


Made = Callable[[Any, Any], Any]
COMPOUNDS: dict[str, tuple[Callable[[], Any], Made]] = {
    "combining": (parts, CombiningCompoundModel),
    "classifying": (classifier, CroppingAndClassifyingCompoundModel),
    "classifying more": (
        classifier,
        lambda one, two: CroppingAndClassifyingCompoundModel(
            one, two, 30, CropExtentOptions.ASPECT_RATIO_ADJUSTMENT_BY_AREA
        ),
    ),
    "detecting": (parts, CroppingAndDetectingCompoundModel),
    "detecting more": (
        parts,
        lambda one, two: CroppingAndDetectingCompoundModel(
            one, two, crop_extent=20, add_model1_results=True, nms_options=NmsOptions(0.3)
        ),
    ),
}


def watched(path: Path, models: dict[str, Any], run: Callable[[], Any]) -> list[Any]:
    """Return what a run gives, and record each of the models in it."""
    with dgrec.Recorder(path) as recorder, ExitStack() as stack:
        for name, model in models.items():
            stack.enter_context(recorder.watch(model, name=name))
        return list(run())


def run(compound: Any) -> list[Any]:
    return list(compound.predict_batch(pictures(5)))


@pytest.mark.parametrize("kind", COMPOUNDS)
def test_recordings_of_the_models_in_it(kind: str, tmp_path: Path) -> None:
    second, make = COMPOUNDS[kind]
    models = {"first": detector(), "second": second()}
    expected = run(make(detector(), second()))
    compound = make(*models.values())
    live = watched(tmp_path / "s.parquet", models, lambda: compound.predict_batch(pictures(5)))
    check_same(live, expected)
    given = [dgrec.model(tmp_path / f"s-{name}.parquet") for name in models]
    check_same(run(make(*given)), live)
    check_same(run(make(*given)), live)
    single = make(*given)
    check_same([single.predict(pictures(5)[4])], live[4:])


@pytest.mark.parametrize("kind", COMPOUNDS)
def test_a_recording_of_the_whole(kind: str, tmp_path: Path) -> None:
    second, make = COMPOUNDS[kind]
    compound = make(detector(), second())
    path = tmp_path / "s.parquet"
    live = watched(path, {"whole": compound}, lambda: compound.predict_batch(pictures(5)))
    stand_in = dgrec.model(tmp_path / "s-whole.parquet")
    for one, other in zip(run(stand_in), live, strict=True):
        assert_equal(one.results, other.results)
        assert np.array_equal(one.image_overlay, other.image_overlay)


def regions(second: Any) -> Any:
    zones = [[0, 0, 40, 40], [30, 20, 90, 70]]
    return CroppingAndDetectingCompoundModel(RegionExtractionPseudoModel(zones, second), second)


def test_regions_of_a_picture(tmp_path: Path) -> None:
    second = parts()
    run_live = watched(tmp_path / "s.parquet", {"second": second}, lambda: run(regions(second)))
    stand_in = dgrec.model(tmp_path / "s-second.parquet")
    check_same(run(regions(stand_in)), run_live)


def test_analyzers_of_the_compound(tmp_path: Path) -> None:
    models = {"first": detector(), "second": parts()}
    compound = CombiningCompoundModel(*models.values())
    attach_analyzers(compound, everything()[1:2])
    live = watched(tmp_path / "s.parquet", models, lambda: run(compound))
    given = CombiningCompoundModel(
        *(dgrec.model(tmp_path / f"s-{name}.parquet") for name in models)
    )
    attach_analyzers(given, everything()[1:2])
    for one, other in zip(run(given), live, strict=True):
        assert_equal(one.results, other.results)
        assert one.trails == other.trails
        assert np.array_equal(one.image_overlay, other.image_overlay)


@pytest.mark.parametrize("is_attached", [False, True], ids=["recorded", "attached"])
@pytest.mark.parametrize("kind", ["combining", "detecting more"])
def test_analyzers_of_the_first_model_belong_to_the_whole(
    kind: str, is_attached: bool, tmp_path: Path
) -> None:
    """They draw on the results of the compound, before its own."""
    lines = [(10, 0, 10, 72), (0, 40, 96, 40)]
    first = detector()
    attach_analyzers(first, [ObjectTracker(track_thresh=0.1, match_thresh=0.9, trail_depth=5)])
    compound = COMPOUNDS[kind][1](first, parts())
    attach_analyzers(compound, [LineCounter(lines)])
    path = tmp_path / "s.parquet"
    with dgrec.Recorder(path) as recorder, recorder.watch(compound):
        live = [(result, result.image_overlay) for result in compound.predict_batch(pictures(5))]
    assert live[3][0].trails

    with dgrec.open(path) as session:
        assert [entry.get("within") for entry in session.metadata["analyzers"]] == ["model1", None]
        for result, (_, overlay), picture in zip(session, live, pictures(5), strict=True):
            assert np.array_equal(result.overlay(picture), overlay)
    stand_in = dgrec.model(path)
    if is_attached:
        attach_analyzers(stand_in, [LineCounter(lines)])
    # Of compounds that crop, degirum_tools does not analyze the last result.
    for one, (other, overlay) in zip(run(stand_in)[:-1], live[:-1], strict=True):
        assert_equal(one.results, other.results)
        assert one.trails == other.trails
        assert type(one).__name__ == type(other).__name__ or not is_attached
        assert np.array_equal(one.image_overlay, overlay)


def test_a_part_cannot_stand_for_the_whole(tmp_path: Path) -> None:
    """Only the detector was recorded: a crop is none of its pictures."""
    model = detector()
    watched(tmp_path / "s.parquet", {"first": model}, lambda: model.predict_batch(pictures(5)))
    stand_in = dgrec.model(tmp_path / "s-first.parquet")
    with pytest.raises(Exception, match=r"none of its 5 frames has the pixels of this picture"):
        run(CroppingAndDetectingCompoundModel(stand_in, dgrec.model(stand_in_path(stand_in))))


def stand_in_path(model: Any) -> str:
    return str(model.model_info.ModelPath)


def graph(first: Any, second: Any, *tail: Any) -> list[Any]:
    """Return the results of a graph that crops what the first finds, and puts it together again."""
    source, sink = IteratorSourceGizmo(iter(pictures(5))), SinkGizmo(stream_depth=100)
    cropping = AiObjectDetectionCroppingGizmo(["person", "car"], crop_extent=20)
    chain = source >> AiSimpleGizmo(first) >> cropping >> AiSimpleGizmo(second)
    combiner = CropCombiningGizmo()
    chain = chain >> combiner[1]
    for gizmo in tail:
        chain = chain >> gizmo
    composition = Composition(source >> combiner[0], chain >> sink)
    composition.start(wait=False)
    data = list(sink())
    composition.wait()
    return [item.meta.find_last(tag_inference) for item in data]


def check_same_graph(given: list[Any], live: list[Any]) -> None:
    assert len(given) == len(live) == 5
    for one, other in zip(given, live, strict=True):
        assert len(one.results) == len(other.results)
        for found, expected in zip(one.results, other.results, strict=True):
            for key in expected:
                if key != "extra_results":
                    assert_equal(found[key], expected[key])
                    continue
                for inner, inner_live in zip(found[key], expected[key], strict=True):
                    assert type(inner) is type(inner_live)
                    assert_equal(inner.results, inner_live.results)
                    assert str(inner) == str(inner_live)
        assert np.array_equal(one.image_overlay, other.image_overlay)


@pytest.mark.slow
def test_a_graph_of_gizmos(tmp_path: Path) -> None:
    models = {"first": detector(), "second": parts()}
    with dgrec.Recorder(tmp_path / "g.parquet") as whole:
        live = watched(
            tmp_path / "s.parquet", models, lambda: graph(*models.values(), whole.gizmo())
        )
    assert any("extra_results" in found for result in live for found in result.results)
    given = [dgrec.model(tmp_path / f"s-{name}.parquet") for name in models]
    check_same_graph(graph(*given), live)

    # The outermost results, in the place of one model.
    check_same_graph(
        list(dgrec.model(tmp_path / "g.parquet").predict_batch(pictures(5))),
        live,
    )


def test_gizmos_load_recordings_by_name(tmp_path: Path) -> None:
    model = detector()
    watched(tmp_path / "s.parquet", {"first": model}, lambda: model.predict_batch(pictures(5)))
    gizmo = AiSimpleGizmo(
        "detector",
        inference_host_address="@dgrec",
        zoo_url=str(tmp_path),
        overlay_show_probabilities=True,
    )
    assert gizmo.model.overlay_show_probabilities
    composition = load_composition(
        f"""
        gizmos:
            source: VideoSourceGizmo
            ai:
                AiSimpleGizmo:
                    model: s-first
                    inference_host_address: '@dgrec'
                    zoo_url: '{tmp_path}'
                    measure_time: true
        connections:
            - [source, ai]
        """
    )
    assert composition._gizmos[1].model.measure_time


def test_a_postprocessor_that_was_recorded(tmp_path: Path) -> None:
    """Its results are recorded, and given without it."""
    from degirum.postprocessor import DetectionResults

    class Halves(DetectionResults):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._inference_results = [
                {**found, "half": "left" if found["bbox"][0] < 48 else "right"}
                for found in self._inference_results
            ]

    model = detector()
    model.custom_postprocessor = Halves
    live = watched(tmp_path / "s.parquet", {"first": model}, lambda: run(model))
    for one, other in zip(run(dgrec.model(tmp_path / "s-first.parquet")), live, strict=True):
        assert type(one) is DetectionResults
        assert_equal(one.results, other.results)
        assert str(one) == str(other)
        assert np.array_equal(one.image_overlay, other.image_overlay)

"""Overlays are drawn faster than PySDK draws them, and come out the same, pixel by pixel."""

from __future__ import annotations

import copy
import json
import threading
import tracemalloc
from typing import Any, NamedTuple

import numpy as np
import pytest
from degirum import _draw_primitives, postprocessor
from degirum.postprocessor import class_from_type_string
from hypothesis import given, settings
from hypothesis import strategies as st

from dgrec.analyzers import drawable, drawable_result
from dgrec.overlay import canvas, image_overlay, note_overlay, overlay
from dgrec.overlay.canvas import fingerprint
from dgrec.overlay.operations import Colors, Operations

WIDTH, HEIGHT = 97, 61
LABELS = {0: "cat", 1: "dog", 2: "car"}
TYPES = sorted(postprocessor._supported_types_map)
DETECTIONS = [name for name in TYPES if class_from_type_string(name).__name__[:3] == "Det"]

coordinates = st.one_of(
    st.floats(-40, 140, allow_nan=False), st.integers(-5, 100), st.sampled_from([0.0, 30.5, 1e6])
)
# Grey value 0 and not black: PySDK takes a pixel of such a color for one that was not drawn.
parts = st.one_of(st.integers(0, 4), st.integers(0, 255))
colors = st.tuples(parts, parts, parts)
label_texts = st.sampled_from(["cat", "dog", "car", "Ada", "кіт", "", "Wrist"])


@st.composite
def masks(draw: Any) -> dict[str, Any]:
    width, height = draw(st.integers(0, 40)), draw(st.integers(0, 30))
    seed = draw(st.integers(0, 9))
    data = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    return {
        "x_min": draw(st.integers(0, WIDTH - width)),
        "y_min": draw(st.integers(0, HEIGHT - height)),
        "data": draw(st.sampled_from([data, data > 0, (data > 0).astype(np.uint8)])),
    }


@st.composite
def detections(draw: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "bbox": st.lists(coordinates, min_size=4, max_size=4),
        "category_id": st.integers(-3, 600),
        "label": label_texts,
        "score": st.one_of(st.floats(0, 1), st.integers(0, 1)),
        "angle": st.floats(-7, 7),
        "mask": masks(),
        "landmarks": st.lists(
            st.fixed_dictionaries(
                {"landmark": st.lists(coordinates, min_size=2, max_size=2)},
                optional={"label": label_texts, "score": st.floats(0, 1), "connect": st.just([0])},
            ),
            max_size=3,
        ),
    }
    return draw(st.fixed_dictionaries({}, optional=keys))


hands = st.fixed_dictionaries(
    {
        "score": st.floats(0, 1),
        "handedness": st.floats(0, 1),
        "landmarks": st.lists(
            st.fixed_dictionaries(
                {
                    "landmark": st.lists(coordinates, min_size=3, max_size=3),
                    "label": label_texts,
                    "connect": st.just([0]),
                }
            ),
            max_size=3,
        ),
    }
)
classes = st.fixed_dictionaries(
    {}, optional={"label": label_texts, "score": st.floats(-1e3, 1e3), "category_id": st.just(1)}
)
several = st.fixed_dictionaries(
    {}, optional={"classifier": label_texts, "results": st.lists(classes, max_size=2)}
)


@st.composite
def found(draw: Any, type_name: str) -> Any:
    kind = class_from_type_string(type_name).__name__
    if kind == "SegmentationResults":
        height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        seed = draw(st.integers(0, 9))
        data = np.random.default_rng(seed).integers(0, draw(st.integers(1, 300)), (height, width))
        return [{"data": data}]
    entry = {
        "DetectionResults": detections(),
        "Hand_DetectionResults": hands,
        "MultiLabelClassificationResults": several,
    }.get(kind, classes)
    return draw(st.lists(entry, max_size=4))


opacity = st.one_of(st.just("auto"), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
overlay_settings = st.fixed_dictionaries(
    {},
    optional={
        "draw_color": st.one_of(colors, st.lists(colors, min_size=1, max_size=5)),
        "line_width": st.integers(0, 12),
        "show_labels": st.booleans(),
        "show_probabilities": st.booleans(),
        "alpha": opacity,
        "font_scale": st.floats(0.3, 3),
        "fill_color": colors,
        "blur": st.sampled_from([None, "all", "dog", ["cat", "Ada"]]),
    },
)


def picture() -> Any:
    return np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def new_result(type_name: str, items: Any, image: Any = None, **overlay: Any) -> Any:
    """Return a result as a session gives it back, with masks and points in picture pixels."""
    is_map = type_name == "Segmentation"
    result = class_from_type_string(type_name)(
        inference_results=items if is_map else [],
        conversion=lambda x, y: (x * 2.5, y * 1.75),
        input_image=picture() if image is None else image,
        label_dictionary=dict(LABELS),
        input_shape=[[1, 32, 32, 3]],
        **overlay,
    )
    result._inference_results = items
    if hasattr(result, "masks_present"):
        result.masks_present = any("mask" in item for item in items)
    return result


def outcome(draw: Any, result: Any) -> Any:
    try:
        return draw(result)
    except Exception as error:
        return type(error)


def assert_drawn_alike(one: Any, other: Any) -> None:
    """Assert that PySDK draws ``one`` as we draw ``other``: the same pixels, or none at all."""
    theirs, ours = outcome(lambda result: result.image_overlay, one), outcome(image_overlay, other)
    if isinstance(theirs, type):
        assert isinstance(ours, type), f"PySDK says {theirs}"
    else:
        assert not isinstance(ours, type), f"{ours} where PySDK draws"
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("area_work", [0, 4000], ids=["in parts", "at once"])
@pytest.mark.parametrize("type_name", TYPES)
def test_every_type_is_drawn_as_pysdk_draws_it(
    type_name: str, area_work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas, "_AREA_WORK", area_work)
    if class_from_type_string(type_name) is not postprocessor.InferenceResults:
        assert overlay._drawing(class_from_type_string(type_name)) is not None

    @settings(max_examples=25 if type_name in DETECTIONS[1:] else 100, deadline=None, database=None)
    @given(found(type_name), overlay_settings)
    def check(items: Any, overlay: dict[str, Any]) -> None:
        one = new_result(type_name, items, **overlay)
        other = new_result(type_name, copy.deepcopy(items), **overlay)
        before = picture()
        assert_drawn_alike(one, other)
        assert np.array_equal(other.image, before), "drawing must not change what it was given"
        assert one._label_dictionary == other._label_dictionary

    check()


def test_blurring_outside_is_done_where_pysdk_does_it() -> None:
    """Coordinates below 0 count from the other side of the array."""
    items = [{"bbox": [-30.0, -30.0, -9.0, -12.0], "label": "cat"}]
    overlay = {"alpha": 0.5, "blur": "all", "line_width": 0, "show_labels": False}
    one, other = (new_result("Detection", items, **overlay) for _ in range(2))
    assert not np.array_equal(one.image_overlay, picture())
    assert_drawn_alike(one, other)


def masked(count: int = 3, **more: Any) -> list[dict[str, Any]]:
    y, x = np.mgrid[:24, :30]
    data = (((x - 15) / 15) ** 2 + ((y - 12) / 12) ** 2 < 0.8).astype(np.float32)
    return [
        {
            "bbox": [5.0 + 20 * i, 8.0 + 6 * i, 35.0 + 20 * i, 32.0 + 6 * i],
            "label": LABELS[i % 3],
            "category_id": i,
            "mask": {"x_min": 5 + 20 * i, "y_min": 8 + 6 * i, "data": data},
            **more,
        }
        for i in range(count)
    ]


@pytest.fixture
def blends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the times that PySDK's own blending ran."""
    assert (
        overlay._drawing(postprocessor.DetectionResults) is not None
    )  # known from before it was replaced
    calls: list[str] = []
    theirs = _draw_primitives._PrimitivesDrawOpenCV
    blend = theirs._alpha_blend

    def counted(self: Any, *arguments: Any) -> Any:
        calls.append("blend")
        return blend(self, *arguments)

    monkeypatch.setattr(theirs, "_alpha_blend", counted)
    return calls


def test_pysdk_does_not_blend_what_we_do(blends: list[str]) -> None:
    result = new_result("SegmentationYoloV8", masked(), alpha=0.4)
    drawn = image_overlay(result)
    assert not blends
    assert np.array_equal(result.image_overlay, drawn)
    assert len(blends) == 2


ODD = {
    "opacity above 1": {"alpha": 1.5},
    "mask past the edge": {"mask": {"x_min": 90, "y_min": 0, "data": np.ones((9, 9))}},
    "mask before the edge": {"mask": {"x_min": -4, "y_min": 0, "data": np.ones((9, 9))}},
    "mask of one row": {"mask": {"x_min": 90, "y_min": 60, "data": np.ones((1, 7))}},
    "mask of one column": {"mask": {"x_min": 96, "y_min": 3, "data": np.ones((50, 1))}},
    "empty mask": {"mask": {"x_min": 3, "y_min": 3, "data": np.zeros((0, 5))}},
    "mask of nothing": {"mask": {"x_min": 3, "y_min": 3, "data": np.full((4, 5), np.nan)}},
    "no mask after all": {"mask": None},
    "class is a float": {"category_id": 1.0},
    "class is large": {"category_id": 254},
    "NaN box": {"bbox": [float("nan"), 1.0, 9.0, 9.0]},
    "black masks": {"draw_color": [(0, 0, 0), (1, 0, 0), (0, 2, 0), (9, 9, 9)]},
    "no colors": {"draw_color": []},
    "colors are lists": {"draw_color": [[1, 2, 3], [200, 3, 90]]},
    "color of four": {"draw_color": (1, 2, 3, 4)},
}


@pytest.mark.parametrize("case", ODD)
def test_odd_values_are_drawn_as_pysdk_draws_them(case: str) -> None:
    values = ODD[case]
    overlay = {key: value for key, value in values.items() if key in ("alpha", "draw_color")}
    items = masked()
    items[1].update({key: value for key, value in values.items() if key not in overlay})
    overlay = {"draw_color": [(255, 255, 0), (0, 128, 255)], "alpha": "auto", **overlay}
    assert_drawn_alike(
        new_result("SegmentationYoloV8", items, **overlay),
        new_result("SegmentationYoloV8", copy.deepcopy(items), **overlay),
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_colors_of_masks_begin_after_those_of_nameless_detections(count: int) -> None:
    items = [{"bbox": [1.0, 1.0, 9.0, 9.0]}] * count + masked()
    drawn = set()
    for color in ([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], (9, 200, 9)):
        one, other = (new_result("Detection", items, draw_color=color) for _ in range(2))
        assert_drawn_alike(one, other)
        drawn.add(image_overlay(other).tobytes())
    assert len(drawn) == 2


PICTURES = {
    "upside down": lambda image: image[::-1],
    "channels turned": lambda image: image[:, :, ::-1],
    "cut out": lambda image: image[5:50, 3:80],
    "read-only": lambda image: np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape),
    "Fortran order": np.asfortranarray,
    "one pixel": lambda image: image[:1, :1],
    "16 bits": lambda image: image.astype(np.uint16),
    "four channels": lambda image: np.dstack([image, image[:, :, 0]]),
    "grey": lambda image: image[:, :, 0],
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("type_name", ["Classification", "SegmentationYoloV8", "Segmentation"])
def test_pictures_of_any_kind(kind: str, type_name: str) -> None:
    image = PICTURES[kind](picture())
    items: Any = {
        "Classification": [{"label": "cat", "score": 0.5}, {"label": "dog", "score": 0.25}],
        "SegmentationYoloV8": masked(2),
        "Segmentation": [{"data": np.arange(64).reshape(8, 8)}],
    }[type_name]
    one, other = (new_result(type_name, items, image, alpha=0.6) for _ in range(2))
    assert_drawn_alike(one, other)


def test_a_picture_of_a_smaller_size_follows_a_larger_one() -> None:
    for size in ((300, 400), (40, 50), (61, 97), (300, 400)):
        image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
        for type_name, items in (("Detection", masked(1)), ("Classification", [{"label": "cat"}])):
            one, other = (new_result(type_name, items, image, alpha=0.3) for _ in range(2))
            assert_drawn_alike(one, other)


def test_what_is_returned_is_the_callers_own() -> None:
    first = image_overlay(new_result("SegmentationYoloV8", masked(), alpha=0.4))
    kept = first.copy()
    image_overlay(new_result("SegmentationYoloV8", masked(1), alpha=1.0))
    image_overlay(new_result("Classification", [{"label": "cat", "score": 0.5}]))
    assert np.array_equal(first, kept)


def test_threads_draw_side_by_side() -> None:
    wrong: list[int] = []

    def work(count: int) -> None:
        overlay = {"alpha": 0.25 + count / 10}
        wanted = new_result("SegmentationYoloV8", masked(count), **overlay).image_overlay
        for _ in range(60):
            drawn = image_overlay(new_result("SegmentationYoloV8", masked(count), **overlay))
            if not np.array_equal(drawn, wanted):
                wrong.append(count)

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Own(postprocessor.DetectionResults):
    """A class of a user's, which draws what it likes."""

    @property
    def image_overlay(self) -> Any:
        return np.zeros((2, 2, 3), np.uint8)


HALF = "a\ud800b"


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_half_a_character_is_drawn_as_a_question_mark(alpha: float) -> None:
    """OpenCV ends the process at one, and a session may hold it."""

    def item(text: str) -> dict[str, Any]:
        marks = [{"landmark": [10 * i, 30.0], "label": text, "category_id": i} for i in range(3)]
        return {"label": text, "score": 0.5, "bbox": [5.0, 20.0, 60.0, 44.0], "landmarks": marks}

    results = [
        new_result("Detection", [item(text)], picture(), alpha=alpha) for text in (HALF, "a?b")
    ]
    drawn, expected = map(image_overlay, results)
    assert np.array_equal(drawn, expected)
    assert results[0].results[0]["label"] == HALF  # it is not changed
    noted = Operations(Colors(), WIDTH, HEIGHT)
    note_overlay(results[0], noted)
    assert "a\\ud800b" in json.dumps(noted.layers)
    assert noted.notes == []


class UserText(str):
    """A program's results may be of its own classes."""


class UserList(list[Any]):
    pass


class UserTuple(NamedTuple):
    text: str
    number: int


def test_what_can_be_drawn_is_the_same_object() -> None:
    result = new_result("Detection", [{"label": "Grüße", "bbox": [1.0, 2.0, 3.0, 4.0]}])
    assert drawable_result(result) is result
    value = {"a": [1.0, 2.0, "x"], "b": ("ü", {"c": None})}
    assert drawable(value) is value
    odd = {HALF: [1, HALF], "t": (HALF, {"deep": {HALF: HALF}})}
    assert drawable(odd) == {"a?b": [1, "a?b"], "t": ("a?b", {"deep": {"a?b": "a?b"}})}
    kinds = {"list": UserList([HALF]), "tuple": UserTuple(HALF, 1), "text": UserText(HALF)}
    assert drawable(kinds) == {"list": ["a?b"], "tuple": ("a?b", 1), "text": "a?b"}
    assert drawable([{"label": np.str_(HALF)}]) == [{"label": "a?b"}]
    assert drawable(np.str_(HALF)) == "a?b"


def test_pixels_are_not_copied_in_search_of_texts() -> None:
    pixels = np.zeros((1000, 1000), np.uint8)
    masked = {"label": "a", "mask": {"x_min": 0, "y_min": 0, "data": pixels}}
    tracemalloc.start()
    try:
        for value in ([{"data": pixels}], [masked]):
            assert drawable(value) is value
        assert tracemalloc.get_traced_memory()[1] < pixels.nbytes
    finally:
        tracemalloc.stop()
    assert drawable([{**masked, "label": HALF}])[0]["label"] == "a?b"


def test_other_classes_draw_themselves() -> None:
    own = Own(inference_results=[], conversion=None, input_image=picture())
    assert overlay._drawing(Own) is None
    assert image_overlay(own).shape == (2, 2, 3)


def test_another_pysdk_draws_itself(monkeypatch: pytest.MonkeyPatch, blends: list[str]) -> None:
    assert fingerprint() in canvas._COMPARED_WITH, "compare this PySDK's drawing, then add it"
    monkeypatch.setattr(canvas, "_COMPARED_WITH", frozenset({"of another version"}))
    canvas.canvas_class.cache_clear()
    overlay._drawing.cache_clear()
    try:
        assert overlay._drawing(postprocessor.DetectionResults) is None
        image_overlay(new_result("SegmentationYoloV8", masked(), alpha=0.4))
        assert len(blends) == 2
    finally:
        canvas.canvas_class.cache_clear()
        overlay._drawing.cache_clear()


def test_a_pysdk_without_its_source_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_source(_: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(canvas.inspect, "getsource", no_source)
    assert fingerprint() not in canvas._COMPARED_WITH


def test_a_frame_that_cannot_be_drawn_leaves_no_trace_on_the_next() -> None:
    good = [{"label": "cat", "score": 0.5}]
    broken = [{"bbox": [1.0, 1.0, 90.0, 50.0]}, {"bbox": [float("nan"), 1.0, 9.0, 9.0]}]
    with pytest.raises(ValueError, match="NaN"):
        image_overlay(new_result("Detection", broken, alpha=0.5))
    for items in ([], [{"bbox": [5.0, 5.0, 20.0, 20.0]}]):
        one, other = (new_result("Detection", items, alpha=0.5) for _ in range(2))
        assert_drawn_alike(one, other)
    assert_drawn_alike(new_result("Classification", good), new_result("Classification", good))


def test_coordinates_far_outside_are_drawn_as_pysdk_draws_them() -> None:
    far = [15e3, 17e3, 33e3, 1e5, 2e9]
    for size in (*far, *(-value for value in far)):
        for box in ([5.0, 5.0, size, 40.0], [size, 5.0, 40.0, 20.0], [3.0, size, 9.0, -size]):
            points = [{"landmark": box[:2], "connect": [1]}, {"landmark": box[2:]}]
            items = [{"bbox": box, "label": "cat", "landmarks": points}]
            one, other = (new_result("Detection", items, alpha=0.5) for _ in range(2))
            assert_drawn_alike(one, other)

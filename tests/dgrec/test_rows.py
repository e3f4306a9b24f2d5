"""Results to rows and back: keys, their order, values and types, bit by bit."""

from __future__ import annotations

import collections
import datetime as dt
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dgrec.format import SCHEMA, MaskMode, RestoredFrame, Row, restore
from dgrec.format.encode import build_batch
from dgrec.format.json_values import RecordedObject
from tests.dgrec.compare import assert_same
from tests.factory import make_detection, make_row, smooth_boxes

NAN = float("nan")
RNG = np.random.default_rng(5)


def round_trip(*rows: Row, masks: MaskMode = "exact") -> list[RestoredFrame]:
    batch = build_batch(rows, 0, masks)
    batch.validate(full=True)
    assert batch.schema.equals(SCHEMA)
    # Through IPC, so that what Arrow writes is looked at rather than what it holds.
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, SCHEMA) as writer:
        writer.write_batch(batch)
    table = pa.ipc.open_stream(stream.getvalue()).read_all()
    return [restore(row) for row in table.to_pylist()]


def results_back(*results: Any, masks: MaskMode = "exact") -> list[Any]:
    rows = [make_row(i, value) for i, value in enumerate(results)]
    return [frame.results for frame in round_trip(*rows, masks=masks)]


def check(*results: Any) -> None:
    """Check one frame by itself, and all of them in one batch with an ordinary frame beside."""
    for value in results:
        assert_same(value, results_back(value)[0])
    ordinary = [make_detection()]
    assert_same([*results, ordinary], results_back(*results, ordinary))


ODD_VALUES: dict[str, Any] = {
    "none": None,
    "bool": True,
    "int": 7,
    "negative_int": -7,
    "int32_edge": 2**31 - 1,
    "beyond_int32": 2**31,
    "int64_edge": -(2**63),
    "beyond_int64": 2**63,
    "huge_int": 10**400,
    "longer_than_python_prints": 7**6000,
    "float": 0.1,
    "tiny": 5e-324,
    "minus_zero": -0.0,
    "nan": NAN,
    "inf": math.inf,
    "minus_inf": -math.inf,
    "text": "person",
    "empty_text": "",
    "unicode": "naïve 人 \U0001f600 \x00 \x1f\n",
    "surrogate": "bad \ud800 text",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "complex": complex(1, NAN),
    "tuple": (1, 2.0, ("x", None)),
    "empty_tuple": (),
    "list": [1, [2.0, []], None],
    "empty_list": [],
    "empty_dict": {},
    "dict": {"b": 1, "a": {"c": (1,)}},
    "dict_of_ints": {1: "a", 2.5: "b", (1, 2): None},
    "dollar_keys": {"$tuple": [1], "$x": 2},
    "one_dollar_key": {"$float": "nan"},
    "set": {1, "a", (1, 2)},
    "frozenset": frozenset({1.5, 2}),
    "deque": collections.deque([1, (2,)], maxlen=4),
    "datetime": dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC),
    "float32": np.float32(0.1),
    "float64": np.float64(0.1),
    "float16": np.float16(0.1),
    "longdouble": np.longdouble(1) / 3,
    "int64": np.int64(-3),
    "uint8": np.uint8(200),
    "bool_": np.bool_(True),
    "str_": np.str_("x"),
    "empty_str_": np.str_(""),
    "datetime64": np.datetime64("2026-01-02T03:04:05.678901"),
    "array_f32": np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32),
    "array_big_endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "array_fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "array_strided": np.arange(20)[::3],
    "array_0d": np.array(3.5),
    "array_empty": np.zeros((0, 4), np.float32),
    "array_bool": np.array([True, False]),
    "array_text": np.array(["a", "bcd"]),
    "array_3d": np.arange(24, dtype=np.uint16).reshape(2, 3, 4),
    "array_datetime": np.array(["2026-01-02", "NaT"], "datetime64[s]"),
}

KEYS = (
    "bbox",
    "category_id",
    "label",
    "score",
    "angle",
    "track_id",
    "landmarks",
    "mask",
    "data",
    "crop_index",
    "keys",
    "extra",
    "x_min",
    "naïve\ud800",
)


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES.keys())
def test_any_value_under_any_key(value: Any) -> None:
    check(*([make_detection(**{key: value})] for key in KEYS))
    # In the middle of a frame of ordinary ones, and alone in its dictionary.
    check(*([make_detection(), {key: value}, make_detection()] for key in KEYS))


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES.keys())
def test_any_value_as_a_detection_and_as_results(value: Any) -> None:
    check([value])
    check([make_detection(), value])
    check(value)


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES.keys())
def test_any_value_in_timing_info_and_attributes(value: Any) -> None:
    timing = {"CoreInferenceDuration_ms": 1.5, "odd": value}
    row = make_row(0, timing=timing, info=value, attributes={"trails": value})
    frame, plain = round_trip(row, make_row(1))
    assert_same(timing, frame.timing)
    assert_same(value, frame.info)
    assert_same({"trails": value}, frame.attributes)
    assert_same(make_row(1).timing, plain.timing)
    assert plain.info == ""


def test_canonical_detections() -> None:
    check(*smooth_boxes(40, 7))


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{}],
        [{}, {}],
        [[]],
        {},
        "",
        None,
        [None, {}, [], "x", 3],
        [{"label": "a"}, {"score": 0.5, "label": "a"}, {"label": "a", "score": 0.5}],
        [make_detection(bbox=...), make_detection(score=...), make_detection(label=...)],
        [make_detection(bbox=[1, 2, 3, 4]), make_detection(bbox=[1.0, 2.0, 3.0])],
        [make_detection(bbox=[1.0, 2, 3.0, 4.0]), make_detection(bbox=(1.0, 2.0, 3.0, 4.0))],
        [make_detection(bbox=np.arange(4.0)), make_detection(bbox=[NAN, -0.0, math.inf, 1e308])],
        [make_detection(bbox=[10**400, 0.0, 0.0, 0.0]), make_detection(bbox="1234")],
        [{1: "a", None: 2}, {"label": "a", 3: 4}, make_detection()],
        [{"$value": 1}, {"$hash": 2, "label": "x"}, {"$x": 1, "category_id": 3}],
        [{"": 1}, {"a.b": 2}, {"\x00": 3}],
        [collections.OrderedDict(a=1)["a"], {"label": "person"}],
        # multi-label classification
        [{"classifier": "colour", "results": [{"label": "red", "score": 0.5, "category_id": 1}]}],
        # hands
        [
            {
                "handedness": [{"label": "Left", "score": 0.75, "category_id": 0}],
                "landmarks": [
                    {
                        "label": "wrist",
                        "landmark": [1.0, 2.0, 3.0],
                        "world_landmark": [0.1, 0.2, 0.3],
                        "connect": [1, 5],
                    }
                ],
                "score": 0.5,
            }
        ],
        # a regression
        [{"category_id": 0, "label": "age", "score": 34.2}],
        # what analyzers add
        [make_detection(track_id=5, in_zone=[True, False], frames_in_zone=[3, 0], cross_line=[1])],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_results_of_every_shape(results: Any) -> None:
    check(results)


LANDMARK = {
    "category_id": 0,
    "connect": [1, 2],
    "label": "nose",
    "landmark": [1.5, 2.5],
    "score": 0.5,
}


@pytest.mark.parametrize(
    "landmarks",
    [
        [],
        [LANDMARK],
        [LANDMARK] * 17,
        [{"label": "a"}],
        [{}],
        [LANDMARK, {"label": "a"}],
        [{**LANDMARK, "connect": []}],
        [{**LANDMARK, "connect": [2**40]}],
        [{**LANDMARK, "connect": None}],
        [{**LANDMARK, "landmark": [1.0, 2.0, 3.0]}, {**LANDMARK, "landmark": []}],
        [{**LANDMARK, "landmark": [1, 2]}],
        [{**LANDMARK, "landmark": (1.0, 2.0)}],
        [{**LANDMARK, "landmark": [NAN, -0.0]}],
        [{**LANDMARK, "score": None}],
        [{**LANDMARK, "score": 1}],
        [{**LANDMARK, "label": "\ud800"}],
        [{**LANDMARK, "visible": True}],
        [dict(reversed(LANDMARK.items()))],
        [LANDMARK, dict(reversed(LANDMARK.items()))],
        [[1.0, 2.0]],
        (LANDMARK,),
        None,
    ],
    ids=lambda value: repr(value)[:40],
)
def test_landmarks_of_every_shape(landmarks: Any) -> None:
    odd = make_detection(landmarks=landmarks)
    check([odd], [odd, make_detection()], [make_detection(landmarks=[LANDMARK]), odd])


def mask_values(kind: str, dtype: str) -> np.ndarray[Any, Any]:
    shape = (12, 30)
    if kind == "few":
        return RNG.integers(0, 5, shape).astype(dtype)
    if kind == "many":
        return (RNG.random(shape) * 1000).astype(dtype)
    if kind == "constant":
        return np.ones(shape, dtype)
    if kind == "strided":
        return np.asfortranarray(RNG.integers(0, 50, shape)).astype(dtype)[::2, ::3]
    return np.zeros((0, 7), dtype)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8", "f2", "u1", "i8", ">i2", "u4", "?", "g"])
@pytest.mark.parametrize("kind", ["few", "many", "constant", "strided", "empty"])
def test_masks_and_class_maps(kind: str, dtype: str) -> None:
    array = mask_values(kind, dtype)
    mask = {"x_min": -3, "y_min": 40000, "data": array}
    check([make_detection(mask=mask)], [{"data": array}], [make_detection(mask=mask, data=array)])


def test_masks_keep_bit_patterns() -> None:
    array = np.array([[0.0, -0.0, np.nan, np.inf]], np.float32)
    array.view(np.uint32)[0, 2] |= 5  # a NaN with a payload
    check([make_detection(mask={"x_min": 0, "y_min": 0, "data": array})])


@pytest.mark.parametrize(
    "mask",
    [
        {"x_min": 1.0, "y_min": 2, "data": np.ones((2, 2), np.float32)},
        {"y_min": 1, "x_min": 2, "data": np.ones((2, 2), np.float32)},
        {"x_min": 2**40, "y_min": 2, "data": np.ones((2, 2), np.float32)},
        {"x_min": 1, "y_min": 2, "data": np.ones(4, np.float32)},
        {"x_min": 1, "y_min": 2, "data": [[1, 0]]},
        {"x_min": 1, "y_min": 2, "data": np.ones((2, 2), np.float32), "more": 1},
        {"x_min": 1, "y_min": 2, "data": np.ones((2, 2), complex)},
        {"x_min": 1, "y_min": 2, "height": 2, "width": 3, "data": "run-length"},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_odd_masks(mask: Any) -> None:
    check([make_detection(mask=mask)])


def test_class_map_as_semantic_segmentation_gives_it() -> None:
    check(*([{"data": RNG.integers(0, 21, (64, 96)).astype(t)}] for t in (np.int64, np.uint8)))


def test_bitmap_mode_keeps_what_an_overlay_uses() -> None:
    array = (RNG.random((33, 21)) - 0.5).astype(np.float32)
    mask = {"x_min": 5, "y_min": 6, "data": array}
    class_map = RNG.integers(0, 9, (5, 5))
    sent = [make_detection(mask=mask), {"data": class_map}]
    (back,) = results_back(sent, masks="bitmap")
    assert list(back[0]["mask"]) == ["x_min", "y_min", "data"]
    assert back[0]["mask"]["data"].dtype == np.float32
    assert ((back[0]["mask"]["data"] > 0) == (array > 0)).all()
    assert_same(class_map, back[1]["data"])


def test_restored_arrays_are_the_callers_to_change() -> None:
    arrays = [mask_values(kind, "<f4") for kind in ("few", "many")]
    back = results_back([{"data": array} for array in arrays])[0]
    for item in back:
        item["data"][0, 0] = 9
    assert_same(arrays[0].shape, back[0]["data"].shape)


@pytest.mark.parametrize(
    "timing",
    [
        {},
        {"CorePreprocessDuration_ms": 1.5},
        {"preprocess": 1.0, "inference": 2.0, "postprocess": 3.0},
        {"CoreInputFrameSize_bytes": 49152, "CoreInferenceDuration_ms": 3},
        {"CoreInferenceDuration_ms": NAN, "x": -0.0, "y": math.inf},
        {"big": 2**53 + 1},
        {"big": -(2**70)},
        {"text": "fast", "CoreInferenceDuration_ms": 3.5},
        {"flag": True, "CoreInferenceDuration_ms": True},
        {1: 2.0},
        {"\ud800": 1.0},
        collections.OrderedDict(b=1.0, a=2),
    ],
    ids=repr,
)
def test_timing_of_every_kind(timing: Any) -> None:
    rows = [make_row(0, timing=timing), make_row(1), make_row(2, timing={"b": 1.0, "a": 2})]
    for chosen in (rows[:1], [rows[0]] * 3, rows):
        for row, frame in zip(chosen, round_trip(*chosen), strict=True):
            assert_same(dict(row.timing), frame.timing)


def test_an_integer_that_outgrows_a_double_in_a_later_frame() -> None:
    values = [1, 2**40, 2**53, 2**53 + 1, -(2**64), 5]
    rows = [make_row(i, timing={"n": n, "f": 0.5}) for i, n in enumerate(values)]
    assert [frame.timing["n"] for frame in round_trip(*rows)] == values


def test_stage_columns_take_either_names() -> None:
    rows = [
        make_row(0),
        make_row(1, timing={"preprocess": 1.0, "inference": 2, "postprocess": 3.0}),
        make_row(2, timing={}),
        make_row(3, timing={"inference": "slow"}),
    ]
    for chosen in ([0, 1, 2, 3], [0], [1], [2], [3]):
        batch = build_batch([rows[i] for i in chosen], 0)
        expected = [[7.5, 2.0, None, None][i] for i in chosen]
        assert batch.column("inference_ms").to_pylist() == expected


class Counter:
    def __init__(self, left: int, right: int) -> None:
        self.left, self.right = left, right

    def to_dict(self) -> dict[str, Any]:
        return {"left": self.left, "right": self.right}


class Broken:
    def to_dict(self) -> dict[str, Any]:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __float__(self) -> float:
        raise RuntimeError("no")

    __int__ = __index__ = __iter__ = __float__  # type: ignore[assignment]


def test_objects_of_analyzers_come_back_equal() -> None:
    attributes = {
        "line_counts": [Counter(1, 2)],
        "events_detected": {"a", "b"},
        "counters": {Counter(1, 2)},
        "trails": {1: [(1.0, 2.0)]},
    }
    (frame,) = round_trip(make_row(0, attributes=attributes))
    (count,) = frame.attributes["line_counts"]
    assert isinstance(count, RecordedObject)
    assert count == Counter(1, 2)
    assert count != Counter(2, 2)
    assert (count.left, count.right) == (1, 2)
    assert frame.attributes["events_detected"] == {"a", "b"}
    assert [*frame.attributes["counters"]] == [Counter(1, 2)]
    with pytest.raises(AttributeError, match="no attribute 'up'"):
        _ = count.up


def test_an_object_that_fails_does_not_end_the_recording() -> None:
    broken = Broken()
    row = make_row(
        0,
        [{"label": broken, "score": broken, "bbox": broken, "track_id": broken}, broken],
        attributes={"x": broken, "s": {broken}},
        timing={"t": broken},
        info=broken,
    )
    (frame,) = round_trip(row)
    assert isinstance(frame.results[1], RecordedObject)
    assert isinstance(frame.results[0]["score"], RecordedObject)


def test_values_that_hold_themselves() -> None:
    loop: list[Any] = []
    loop += [loop, loop]
    (frame,) = round_trip(make_row(0, [{"label": loop}], attributes={"loop": loop}))
    assert isinstance(frame.results[0]["label"], RecordedObject)


def test_labels_without_an_id_keep_their_hash() -> None:
    (frame,) = round_trip(make_row(0, [{"label": "a"}, {"label": "b", "category_id": 1}]))
    assert frame.label_hashes == {"a": hash("a")}


def test_lists_and_dictionaries_of_other_classes_are_detections_like_others() -> None:
    class Found(list):  # type: ignore[type-arg]
        """A list that is not plain."""

    item = make_detection(1)
    others = [collections.OrderedDict(item), collections.defaultdict(int, item), item]
    rows = [make_row(0, others), make_row(1, Found(others)), make_row(2, [item])]
    column = build_batch(rows, 0, "exact").column("detections").to_pylist()
    assert column == [[column[2][0]] * 3, [column[2][0]] * 3, column[2]]
    assert_same([frame.results for frame in round_trip(*rows)], [[item] * 3, [item] * 3, [item]])


def test_typed_columns_hold_what_sql_can_use_of_odd_values() -> None:
    detections = [
        make_detection(score=1, category_id=np.int64(3), bbox=(1, 2, 3, np.float32(4.5))),
        make_detection(score="high", category_id="x", bbox="?", label=None, track_id=7.0),
    ]
    batch = build_batch([make_row(0, detections)], 0)
    one, two = batch.column("detections")[0].as_py()
    assert (one["score"], one["category_id"], one["x_min"], one["y_max"]) == (1.0, 3, 1.0, 4.5)
    assert (two["score"], two["category_id"], two["x_min"], two["label"]) == (None,) * 4
    assert two["track_id"] == 7


def test_frame_columns() -> None:
    rows = [
        make_row(0, [], media_time_s=None, width=1, height=2),
        make_row(5, [], dropped_camera=1, dropped_queue=2, dropped_writer=3, skipped_before=4),
        make_row(6, [], video_frame=9, video_state="gap", conversion=(1.0, 2.0, 3.0, 4.0)),
    ]
    batch = build_batch(rows, 100)
    table = batch.to_pylist()
    assert [row["frame"] for row in table] == [100, 101, 102]
    assert [row["source_frame"] for row in table] == [0, 5, 6]
    assert [row["dropped_before"] for row in table] == [0, 6, 0]
    assert [row["video_frame"] for row in table] == [None, None, 9]
    assert [row["video_state"] for row in table] == [None, None, "gap"]
    assert table[0]["media_time_s"] is None
    assert table[0]["latency_ms"] == pytest.approx(12.345678, abs=1 / 4096)
    assert table[0]["captured_at"] == dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC)
    assert restore(table[2]).conversion == (1.0, 2.0, 3.0, 4.0)
    assert restore(table[1]).conversion is None


@pytest.mark.parametrize("boxes", [0, 1, 10, 9000])
def test_a_batch_is_as_arrow_makes_it(boxes: int) -> None:
    """Columns are kept from batch to batch, but only the bytes of the rows are written."""
    rows = [make_row(i, [make_detection(score=n / 7) for n in range(boxes)]) for i in range(2)]
    batch = build_batch(rows, 5)
    batch.validate(full=True)
    expected = pa.RecordBatch.from_pylist(batch.to_pylist(), SCHEMA)
    assert batch.equals(expected)
    assert batch.serialize().size < 1.1 * expected.serialize().size


def test_no_rows() -> None:
    batch = build_batch([], 0)
    assert batch.num_rows == 0
    assert batch.schema.equals(SCHEMA)

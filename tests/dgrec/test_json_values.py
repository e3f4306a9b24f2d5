"""Any Python value to JSON and back: what the tests of rows do not reach."""

from __future__ import annotations

import base64
import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import pickle
import uuid
import zlib
import zoneinfo
from typing import Any

import numpy as np
import pytest

from dgrec.format.json_values import Losses, RecordedObject, dumps, loads
from dgrec.format.untrusted import DecodeError
from tests.dgrec.compare import assert_same


class Side(enum.IntEnum):
    LEFT = 1


class Colour(enum.StrEnum):
    RED = "red"


class Shade(enum.Enum):
    DARK = "dark"
    LIGHT = (1, 2)


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Level(str, enum.Enum):  # noqa: UP042  # its text is another than its value
    HIGH = "high"


class Point(collections.namedtuple("Point", "x y")):
    pass


@dataclasses.dataclass
class Event:
    kind: str
    frames: list[int]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (collections.defaultdict(list, {"a": [1]}), {"a": [1]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
    ],
)
def test_subclasses_become_what_they_are_equal_to(value: Any, plain: Any) -> None:
    assert value == plain
    assert_same(plain, loads(dumps(value)))


@pytest.mark.parametrize(
    "member", [Side.LEFT, Colour.RED, Shade.DARK, Access.READ | Access.WRITE, Access(0), Level.HIGH]
)
def test_members_of_enumerations_are_equal_and_named(member: Any) -> None:
    (back,) = loads(dumps([member]))
    assert back == member
    assert member == back
    assert (back.name, back.value) == (member.name, member.value)
    assert repr(back) == repr(member)
    assert str(back) == str(member)
    assert loads(dumps({member})) == {member}
    assert back in {member}
    assert back != Shade.LIGHT
    for plain in (int, str):
        assert isinstance(back, plain) == isinstance(member, plain)


def test_named_tuples_are_equal_and_named() -> None:
    point = Point(1, 2.0)
    back = loads(dumps(point))
    assert back == point == (1, 2.0)
    assert isinstance(back, tuple)
    assert (back.x, back.y, back._fields) == (1, 2.0, ("x", "y"))
    assert back._asdict() == point._asdict()
    assert repr(back) == repr(point)
    assert pickle.loads(pickle.dumps(back)).y == 2.0
    assert copy.deepcopy(back).x == 1
    with pytest.raises(AttributeError, match="no attribute 'z'"):
        _ = back.z


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(2026, 1, 2, 3, 4, 5, 6),
        dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=0),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        dt.date(2026, 1, 2),
        dt.time(3, 4, 5, 6),
        dt.time(3, 4, tzinfo=dt.UTC),
        dt.time(3, 4, tzinfo=BERLIN),
        dt.timedelta(days=-3, microseconds=7),
        dt.timedelta.max,
        decimal.Decimal("1.10"),
        decimal.Decimal("-Infinity"),
        decimal.Decimal("1E+2000"),
        uuid.UUID(int=5),
        pathlib.PurePosixPath("/a/b.txt"),
        pathlib.PureWindowsPath("C:\\a\\b.txt"),
        np.arange(5000.0),
        np.zeros(3, [("x", "<f4"), ("y", "?", (2,)), ("in", [("t", "<U3"), ("d", "<M8[s]")])]),
        np.zeros((2, 0), [("a", "u1")]),
        np.void(b"abc"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_standard_types_come_back_exactly(value: Any) -> None:
    back = loads(dumps({"a": [value]}))["a"][0]
    assert_same(value, back)
    if isinstance(value, dt.datetime | dt.time):
        assert back.tzinfo == value.tzinfo
        assert back.fold == value.fold
    if isinstance(value, dt.datetime):
        assert back.utcoffset() == value.utcoffset()


def test_subclasses_of_standard_types() -> None:
    assert loads(dumps(pathlib.Path("a/b"))) == pathlib.PurePath("a/b")

    class Stamp(dt.datetime):
        pass

    assert_same(dt.datetime(2026, 1, 2, 3), loads(dumps(Stamp(2026, 1, 2, 3))))
    table = np.rec.fromarrays([[1, 2], [0.5, 1.5]], names="a,b")
    assert loads(dumps(table)).tolist() == table.tolist()


def test_structured_types_keep_their_layout() -> None:
    """Bytes between fields mean nothing, and need not come back."""
    aligned = np.array([(1, 2.5), (3, 4.5)], np.dtype([("a", "u1"), ("b", "<f8")], align=True))
    several = np.zeros(2, "u1,?,f8")[["f0", "f2"]]
    for array in (aligned, several):
        back = loads(dumps(array))
        assert back.dtype == array.dtype
        assert back.dtype.isalignedstruct == array.dtype.isalignedstruct
        assert back.tolist() == array.tolist()
        (scalar,) = loads(dumps([array[1]]))
        assert scalar.dtype == array.dtype
        assert scalar == array[1]
    union = np.zeros(
        2, np.dtype({"names": ["a", "b"], "formats": ["<u4", "<u2"], "offsets": [0, 0]})
    )
    losses = Losses()
    assert isinstance(loads(dumps(union, "u", losses)), RecordedObject)
    assert losses.lines


@pytest.mark.parametrize(
    "array",
    [
        np.ma.array(np.arange(2000), mask=np.arange(2000) % 3 == 0, fill_value=7),
        np.ma.array([1.0, 2.0]),
        np.ma.array(["a", "bc"], mask=[True, False], fill_value="-"),
        np.ma.array([(1, 2.0), (3, 4.0)], mask=[(0, 1), (0, 0)], dtype="i4,f8"),
        np.ma.array(3, mask=True),
    ],
    ids=repr,
)
def test_masked_arrays(array: Any) -> None:
    back = loads(dumps(array))
    assert isinstance(back, np.ma.MaskedArray)
    assert_same(np.asarray(array.data), np.asarray(back.data))
    assert_same(np.ma.getmaskarray(array), np.ma.getmaskarray(back))
    assert back.fill_value == array.fill_value
    assert (back.mask is np.ma.nomask) == (array.mask is np.ma.nomask)
    assert loads(dumps([np.ma.masked]))[0] is np.ma.masked


def test_arrays_of_objects_keep_their_items() -> None:
    array = np.array([[1, "a"], [None, decimal.Decimal("0.1")]], object)
    back = loads(dumps(array))
    assert back.dtype == object
    assert back.shape == (2, 2)
    assert back.tolist() == array.tolist()
    ragged = np.empty(2, object)
    ragged[:] = [[1, 2], [3, 4]]
    assert loads(dumps(ragged)).tolist() == [[1, 2], [3, 4]]


def test_a_zone_that_this_machine_does_not_know_becomes_an_offset() -> None:
    back = loads('{"$datetime":["2026-01-02T03:04:05+01:00","Mars/Olympus"]}')
    assert back == dt.datetime(2026, 1, 2, 2, 4, 5, tzinfo=dt.UTC)


class Handle:
    pass


def test_what_cannot_be_kept_is_named_once() -> None:
    losses = Losses()
    for _ in range(3):
        text = dumps({"a": {"camera": Handle(), "n": 1}, "b": [Handle()]}, "x", losses)
        text += dumps([len, range(3)], "x", losses)
    assert "0x" not in text
    assert "object at" not in text
    assert losses.lines == [
        f"camera ({__name__}.Handle): a value of this type is not recorded",
        f"b ({__name__}.Handle): a value of this type is not recorded",
        "x (builtins.builtin_function_or_method): "
        "only the text of a value of this type is recorded",
        "x (builtins.range): only the text of a value of this type is recorded",
    ]
    for number in range(1000):
        dumps({f"key{number}": Handle()}, "x", losses)
    assert len(losses.lines) == 100


def test_a_dataclass_keeps_its_fields() -> None:
    back = loads(dumps(Event("in", [1, 2])))
    assert isinstance(back, RecordedObject)
    assert (back.kind, back.frames) == ("in", [1, 2])
    assert "Event" in repr(back)


def test_unknown_objects_keep_their_text() -> None:
    back = loads(dumps(range(3)))
    assert isinstance(back, RecordedObject)
    assert back.to_dict() == "range(0, 3)"


def test_equal_sets_make_equal_text() -> None:
    assert dumps({"b", "a", "c", 1}) == dumps({1, "c", "a", "b"})


def test_objects_with_arrays_compare() -> None:
    class Totals:
        def __init__(self, counts: list[int]) -> None:
            self.counts = counts

        def to_dict(self) -> dict[str, Any]:
            return {"counts": np.array(self.counts)}

    back = loads(dumps(Totals([1, 2])))
    assert back == Totals([1, 2])
    assert back != Totals([1, 3])
    assert back != 5


def test_depth() -> None:
    """As deep as data ever is, exactly; deeper is cut, at the same place for every caller."""
    value: Any = 1
    for _ in range(90):
        value = [value]
    assert loads(dumps(value)) == value
    for _ in range(5000):
        value = {"a": value}
    assert isinstance(loads(dumps(value)), RecordedObject)


@pytest.mark.parametrize("value", [float("nan"), {"x": float("inf")}, np.float32("nan"), (1,), {1}])
def test_the_text_is_strict_json(value: Any) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(dumps(value), parse_constant=refuse)


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def fields(**changes: Any) -> dict[str, Any]:
    plain = {"names": ["a"], "formats": ["<f8"], "offsets": [0], "itemsize": 8, "aligned": False}
    return {**plain, **changes}


EIGHT = packed(bytes(8))
RESULT = {"results": [], "timing": {}, "info": "", "attributes": {}}


@pytest.mark.parametrize(
    "value",
    [
        {"$ndarray": [fields(formats=["|O"]), [1], EIGHT]},
        {"$ndarray": [fields(formats=[fields(formats=["O"])]), [1], EIGHT]},
        {"$ndarray": [fields(formats=[["|O", [1]]]), [1], EIGHT]},
        {"$ndarray": [fields(formats=["f4,O"]), [1], EIGHT]},
        {"$ndarray": [fields(offsets=[-8]), [1], EIGHT]},
        {"$ndarray": [fields(offsets=[2**62]), [1], EIGHT]},
        {"$ndarray": [fields(itemsize=4), [1], packed(bytes(4))]},
        {"$ndarray": [fields(itemsize=-1), [1], EIGHT]},
        {"$ndarray": [fields(itemsize=2**40), [1], EIGHT]},
        {"$ndarray": [fields(names=[1]), [1], EIGHT]},
        {"$ndarray": [fields(names=["a", "a"], formats=["f4"] * 2, offsets=[0, 4]), [1], EIGHT]},
        {"$ndarray": [fields(names=["a", "b"], formats=["u4", "b1"], offsets=[0, 0]), [1], EIGHT]},
        {"$ndarray": [fields(formats=[["<f8", [10**9, 10**9]]]), [1], EIGHT]},
        {"$ndarray": [fields(formats=[["<U1", [2]]]), [1], packed(b"\xff" * 8)]},
        {"$ndarray": [fields(aligned=1), [1], EIGHT]},
        {"$ndarray": [{"names": ["a"]}, [1], EIGHT]},
        {"$scalar": [fields(formats=["O"]), "AAAAAAAAAAA="]},
        {"$objects": [[2], [1]]},
        {"$objects": [[10**12, 0, 1], [1]]},
        {"$objects": [[-1], [1]]},
        {"$objects": ["x", [1]]},
        {"$masked": [1, 2, 3]},
        {"$masked": [{"$ndarray": ["<f8", [1], EIGHT]}, None, None]},
        {
            "$masked": [
                {"$ndarray": ["<f8", [1], EIGHT]},
                {"$ndarray": ["|b1", [8], EIGHT]},
                {"$ndarray": ["<f8", [], EIGHT]},
            ]
        },
        {"$namedtuple": ["C", ["a"], []]},
        {"$namedtuple": ["C", [1], [1]]},
        {"$namedtuple": [1, ["a"], [1]]},
        {"$enum": ["C", "A", 1]},
        {"$enum": ["C", "A", 1, "yes", "A"]},
        {"$enum": [1, 2, 3, True, 5]},
        {"$decimal": "x"},
        {"$decimal": 5},
        {"$uuid": "x"},
        {"$uuid": 5},
        {"$path": ["C:", "x"]},
        {"$path": ["posix", 5]},
        {"$path": ["builtins.open", "x"]},
        {"$date": "x"},
        {"$time": 5},
        {"$datetime": ["2026-01-02T03:04:05", "../../etc/passwd"]},
        {"$datetime": ["2026-01-02T03:04:05", "/etc/passwd"]},
        {"$datetime": ["2026-01-02T03:04:05", "a" * 10_000]},
        {"$datetime": ["0001-01-01T00:00:00+00:00", "America/New_York"]},
        {"$timedelta": [10**12, 0, 0]},
        {"$timedelta": [0.5, 0, 0]},
        {"$timedelta": "x"},
        {"$result": ["C", []]},
        {"$result": [1, RESULT]},
        {"$result": ["C", {**RESULT, "timing": []}]},
        {"$result": ["C", {**RESULT, "attributes": {"_results": 1}}]},
        {"$result": ["C", {**RESULT, "attributes": {"$dict": [[1, 2]]}}]},
        {"$result": ["C", {**RESULT, "hashes": {"a": "b"}}]},
        {"$result": ["C", {**RESULT, "conversion": [1, 2, 3]}]},
        {"$result": ["C", {**RESULT, "info": {"$same": 0}}]},
        {"$same": 0},
        {"$same": True},
        [{"$result": ["C", RESULT]}, {"$same": -1}],
        {"$meta": [[], [["a", [0]]]]},
        {"$meta": [[1], [["a", [-1]]]]},
        {"$meta": [[1], [[5, [0]]]]},
        {"$meta": [[1], {"a": 0}]},
        {"$meta": 5},
        {"$set": [{"$enum": ["C", "A", [n], False, "A"]} for n in range(2000)]},
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_dgrec_does_not_write_is_refused(value: Any) -> None:
    with pytest.raises(DecodeError):
        loads(json.dumps(value))


def test_results_that_refer_to_one_another_are_counted_each_time() -> None:
    """Printing or comparing them would take for ever, though the text is short."""
    results: list[Any] = [{"$result": ["C", RESULT]}]
    for number in range(60):
        again = [{"$same": number}, {"$same": number}]
        results.append({"$result": ["C", {**RESULT, "results": again}]})
    with pytest.raises(DecodeError, match="too often"):
        loads(json.dumps(results))


def test_a_description_in_a_file_has_the_types_of_metadata() -> None:
    model = {"result_type": 5, "labels": {"0": "cat", "x": []}, "input_shape": "?", "y": [[]]}
    state = {**RESULT, "model": model, "overlay": {"alpha": 9, "line_width": 2, "color": "red"}}
    back = loads(json.dumps({"$result": ["C", state]}))
    assert back._described["model"] == {"labels": {"0": "cat"}, "y": [[]]}
    assert back._described["overlay"] == {"line_width": 2}


@pytest.mark.parametrize("value", [Event("a", 1), Shade.DARK, Point(1, 2), Colour.RED, Side.LEFT])
def test_what_stands_for_objects_can_be_copied(value: Any) -> None:
    read = loads(dumps(value))
    for again in (copy.deepcopy(read), copy.copy(read), pickle.loads(pickle.dumps(read))):
        assert again == read
        assert (type(again), repr(again)) == (type(read), repr(read))
        assert dumps(again) == dumps(read)


@pytest.mark.parametrize("text", ["1E+999999", "-1E-999999", "9" * 4000])
def test_of_a_decimal_number_of_too_many_digits_the_text_is_kept(text: str) -> None:
    losses = Losses()
    read = loads(dumps({"rate": decimal.Decimal(text)}, "result", losses))["rate"]
    assert isinstance(read, RecordedObject)
    assert text in repr(read)
    (line,) = losses.lines
    assert line.startswith("rate (decimal.Decimal): ")

"""Any Python value to JSON and back: what the tests of rows do not reach."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
from typing import Any

import numpy as np
import pytest

from dgrec.format.json_values import RecordedObject, dumps, loads
from tests.dgrec.compare import assert_same


class Side(enum.IntEnum):
    LEFT = 1


class Colour(enum.StrEnum):
    RED = "red"


class Point(collections.namedtuple("Point", "x y")):
    pass


@dataclasses.dataclass
class Event:
    kind: str
    frames: list[int]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Side.LEFT, 1),
        (Colour.RED, "red"),
        (Point(1, 2.0), (1, 2.0)),
        (collections.defaultdict(list, {"a": [1]}), {"a": [1]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
    ],
)
def test_subclasses_become_what_they_are_equal_to(value: Any, plain: Any) -> None:
    assert value == plain
    assert_same(plain, loads(dumps(value)))


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

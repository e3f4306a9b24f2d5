"""Values as JSON that browsers can read."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pytest

from dgrec.replay.viewing.values import json_bytes, plain

VALUES: list[tuple[Any, Any]] = [
    ({"a": [1, 2.5, True, None, "x"]}, {"a": [1, 2.5, True, None, "x"]}),
    ([float("nan"), float("inf"), np.float64("nan"), np.float32(0.5)], [None, None, None, 0.5]),
    ([2**53, 2**53 + 1, -(2**60)], [2**53, "9007199254740993", "-1152921504606846976"]),
    ({"n": 2**60, "f": 0.12345678901234567}, {"n": str(2**60), "f": 0.12345678901234567}),
    ([1e22, 1234567890123456.7], [1e22, 1234567890123456.8]),
    ({None: 1, True: 2, 3: 4, 0.5: 6}, {"NULL": 1, "true": 2, "3": 4, "0.5": 6}),
    ({"null": 1, "12": 2}, {"null": 1, "12": 2}),
    ("[1234567890123456789", "[1234567890123456789"),
    ((1, {2}, b"\0"), [1, [2], "AA=="]),
    (np.arange(3), [0, 1, 2]),
    (np.zeros(5000, np.uint8), "array of 5000 uint8"),
    ({"at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)}, {"at": "2026-01-02T00:00:00.000000Z"}),
    ([np.array([np.nan, 2**60])], [[None, 2.0**60]]),
    ([np.int64(2**60)], [str(2**60)]),
    ({(1, 2): 3}, {"(1, 2)": 3}),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_json_has_only_what_browsers_read(value: Any, expected: Any) -> None:
    text = json_bytes(value).decode()
    assert json.loads(text) == expected
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json_bytes(plain(value)) == json_bytes(value)


def test_values_that_are_too_deep_for_python_are_texts() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert json.loads(json_bytes([deep, float("nan")]))[1] is None

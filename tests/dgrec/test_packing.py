"""Numbers are packed only if each is exactly of the type that comes back."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dgrec.format.packing import pack_boxes, pack_floats, pack_int32


class Celsius(float):
    pass


class Index(int):
    pass


floats = st.floats(allow_nan=True, allow_infinity=True)
ODD: list[Any] = [
    1,
    True,
    None,
    "1.5",
    b"12345678",
    np.float64(1.5),
    np.float32(1.5),
    np.int32(1),
    Celsius(1.5),
    Index(3),
    1 + 0j,
    (),
    [],
    [1.5],
    {},
    2**31,
    -(2**31) - 1,
    2**80,
    object(),
    ...,
    frozenset(),
    bytearray(8),
    np.arange(3.0),
    range(2),
]


@given(st.lists(floats))
def test_floats_keep_every_bit(values: list[float]) -> None:
    packed = pack_floats(values)
    assert packed is not None
    assert packed.flags.c_contiguous
    assert packed.flags.aligned
    assert packed.tobytes() == struct.pack(f"={len(values)}d", *values)


def test_payload_of_nan_is_kept() -> None:
    (odd_nan,) = struct.unpack("=d", struct.pack("=Q", 0x7FF8_0000_DEAD_BEEF))
    packed = pack_floats([odd_nan])
    assert packed is not None
    assert packed.view(np.uint64)[0] == 0x7FF8_0000_DEAD_BEEF


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
@example([-(2**31), 2**31 - 1, 0, -1])
def test_integers(values: list[int]) -> None:
    packed = pack_int32(values)
    assert packed is not None
    assert packed.tolist() == values


@pytest.mark.slow
@given(st.lists(st.lists(floats, min_size=4, max_size=4)))
def test_boxes_come_as_columns(values: list[list[float]]) -> None:
    packed = pack_boxes(values)
    assert packed is not None
    assert packed.shape == (4, len(values))
    assert packed.flags.c_contiguous
    assert packed.T.tobytes() == b"".join(struct.pack("=4d", *box) for box in values)


@pytest.mark.parametrize("odd", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_what_is_no_float_is_refused(odd: Any, at: int) -> None:
    values: list[Any] = [0.5, 1.5, 2.5]
    values.insert(at, odd)
    assert pack_floats(values) is None
    assert pack_boxes([[0.0, 1.0, 2.0, 3.0], values]) is None


@pytest.mark.parametrize(
    "odd",
    [value for value in ODD if type(value) is not int or abs(value) > 2**20],
    ids=lambda value: repr(value).partition(" at ")[0],
)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_what_is_no_small_integer_is_refused(odd: Any, at: int) -> None:
    values: list[Any] = [0, 1, 2]
    values.insert(at, odd)
    assert pack_int32(values) is None


@pytest.mark.parametrize(
    "odd",
    [
        (0.0, 1.0, 2.0, 3.0),
        [0.0, 1.0, 2.0],
        [0.0, 1.0, 2.0, 3.0, 4.0],
        np.zeros(4),
        None,
        [[0.0, 1.0, 2.0, 3.0]],
        # As long as four floats are, in other words.
        [0.0, 1.0, 2.0, b"\0\0\0\0"],
    ],
    ids=repr,
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_is_no_box_is_refused(odd: Any, at: int) -> None:
    values: list[Any] = [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]
    values.insert(at, odd)
    assert pack_boxes(values) is None


def test_lengths_that_add_up_do_not_deceive() -> None:
    """Three values in one box and five in the next are as long as four in each."""
    assert pack_boxes([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0, 6.0, 7.0]]) is None


def test_values_that_contain_themselves() -> None:
    values: list[Any] = [0.5]
    values.append(values)
    assert pack_floats(values) is None

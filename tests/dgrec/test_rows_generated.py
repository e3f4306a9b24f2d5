"""Generated results, of shapes that nobody thought of, to rows and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.dgrec.compare import assert_same
from tests.dgrec.test_rows import round_trip
from tests.factory import make_row

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.floats(), st.floats(width=32), st.integers(), st.integers(-5, 5), st.booleans()
)
SCALARS = st.one_of(NUMBERS, st.none(), st.text(max_size=8), st.binary(max_size=4))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)
BOXES = st.lists(st.floats(width=32), min_size=4, max_size=4)
POINTS = st.fixed_dictionaries(
    {"landmark": st.lists(st.floats(), max_size=3)},
    optional={
        "label": st.text(max_size=4),
        "category_id": st.integers(-5, 2**33),
        "score": st.one_of(st.floats(), st.none()),
        "connect": st.lists(st.integers(0, 20), max_size=3),
    },
)
MASKS = st.fixed_dictionaries(
    {
        "x_min": st.integers(0, 9),
        "y_min": st.integers(0, 9),
        "data": st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 9)).map(
            lambda t: np.full(t[:2], t[2], np.float32)
        ),
    }
)
TYPED = st.fixed_dictionaries(
    {},
    optional={
        "bbox": st.one_of(BOXES, ANYTHING),
        "category_id": st.one_of(st.integers(0, 80), ANYTHING),
        "label": st.one_of(st.text(max_size=6), ANYTHING),
        "score": st.one_of(st.floats(width=32), ANYTHING),
        "angle": st.one_of(st.floats(), ANYTHING),
        "track_id": st.one_of(st.integers(), ANYTHING),
        "landmarks": st.one_of(st.lists(POINTS, max_size=3), ANYTHING),
        "mask": st.one_of(MASKS, ANYTHING),
        "crop_index": st.integers(),
    },
)
DETECTIONS = st.one_of(
    TYPED,
    TYPED.flatmap(lambda d: st.permutations(list(d.items())).map(dict)),
    st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), ANYTHING, max_size=3),
    ANYTHING,
)
FRAMES = st.lists(st.one_of(st.lists(DETECTIONS, max_size=4), ANYTHING), min_size=1, max_size=4)
TIMINGS = st.dictionaries(st.text(max_size=5), st.one_of(NUMBERS, SCALARS), max_size=3)


@pytest.mark.slow
@settings(
    derandomize=True,
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)
@given(FRAMES, TIMINGS, ANYTHING)
def test_whatever_comes_out_of_a_model_comes_back(
    frames: list[Any], timing: dict[str, Any], info: Any
) -> None:
    rows = [make_row(i, results, timing=timing, info=info) for i, results in enumerate(frames)]
    for row, frame in zip(rows, round_trip(*rows), strict=True):
        assert_same(row.results, frame.results)
        assert_same(timing, frame.timing)
        assert_same(info, frame.info)

"""Times from stamps of which some are odd."""

from __future__ import annotations

import numpy as np
import pytest

from dgrec.timeline import SteadyTime


def times(stamps: list[int | None], step: int = 40) -> list[int]:
    steady = SteadyTime(step, 60_000)
    return [steady.at(stamp) for stamp in stamps]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        pytest.param([0, 40, 80, 120], [0, 40, 80, 120], id="regular"),
        pytest.param([7, 9, 500], [7, 9, 500], id="variable"),
        pytest.param([0, 40, 40, 120, 160], [0, 40, 80, 120, 160], id="repeated"),
        pytest.param([0, 40, 10, 120, 160], [0, 40, 80, 120, 160], id="backwards"),
        pytest.param([0, 40, None, 120, 160], [0, 40, 80, 120, 160], id="missing"),
        pytest.param([None, 40, 80], [0, 40, 80], id="the first is missing"),
        pytest.param([0, 40, 0, 40, 80], [0, 40, 80, 120, 160], id="counted anew"),
        pytest.param(
            [0, 40, 500_000, 500_000, 500_080], [0, 40, 500_000, 500_040, 500_080], id="a gap"
        ),
        pytest.param([0, 40, 40, 41], [0, 40, 80, 81], id="always later"),
    ],
)
def test_an_odd_stamp_shifts_its_own_frame_only(
    stamps: list[int | None], expected: list[int]
) -> None:
    assert times(stamps) == expected


def test_many_at_once_are_the_same() -> None:
    one, all_ = SteadyTime(40, 60_000), SteadyTime(40, 60_000)
    stamps = np.array([5, 9, 100, 90_000, 90_001])
    all_.at(5)
    rest = all_.at_all(stamps[1:])
    assert [one.at(int(stamp)) for stamp in stamps][1:] == rest.tolist()
    assert vars(one) == vars(all_)
    assert all_.at_all(np.array([90_002, 90_002, 90_003])).tolist() == [90_002]
    assert all_.at_all(np.array([90_002])).tolist() == []

"""The clock of a session never steps back, whatever happens to the system's."""

from __future__ import annotations

import time

from dgrec.clock import Clock


class Times:
    """A monotonic clock that ticks a millisecond a reading, and a wall clock that people set."""

    def __init__(self) -> None:
        self.monotonic = 5_000_000
        self.utc = 1_767_323_045_000_000_000

    def tick(self, ns: int = 1_000_000) -> None:
        self.monotonic += ns
        self.utc += ns

    def clock(self) -> Clock:
        return Clock(lambda: self.monotonic, lambda: self.utc)


def test_it_follows_utc() -> None:
    times = Times()
    clock = times.clock()
    assert clock.now_ns() == times.utc
    times.tick(123_456_789)
    assert clock.now_ns() == times.utc
    assert clock.drift_ns() == 0


def test_a_clock_that_is_set_back_does_not_reorder_frames() -> None:
    times = Times()
    clock = times.clock()
    stamps = []
    for step in range(10):
        times.tick()
        if step == 5:
            times.utc -= 3_600_000_000_000
        stamps.append(clock.now_ns())
    assert stamps == sorted(set(stamps))
    assert stamps[-1] - stamps[0] == 9_000_000
    assert clock.drift_ns() == -3_600_000_000_000


def test_a_clock_that_is_set_forward_is_drift_too() -> None:
    times = Times()
    clock = times.clock()
    times.utc += 250_000_000
    assert clock.drift_ns() == 250_000_000


def test_a_pause_between_the_readings_of_two_clocks_is_no_drift() -> None:
    """A busy machine lets the process wait there."""
    times = Times()
    pauses = iter([7_000_000, 0, 5_000_000])

    def utc() -> int:
        read = times.utc
        times.tick(next(pauses, 0))
        return read

    clock = Clock(lambda: times.monotonic, utc)
    assert clock.now_ns() == times.utc
    assert clock.drift_ns() == 0


def test_the_real_one() -> None:
    clock = Clock()
    stamps = [clock.now_ns() for _ in range(1000)]
    assert stamps == sorted(stamps)
    assert abs(clock.now_ns() - time.time_ns()) < 10**9

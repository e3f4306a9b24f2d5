"""The ring keeps rows around alerts, whatever thread is faster, and is bounded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dgrec.clock import Clock
from dgrec.format import Row, utc_text
from dgrec.recorder.options import RecordingOptions, Splitting
from dgrec.recorder.ring import Ring, RingEntry, memory_of
from dgrec.recorder.ring_writer import RingWriter
from dgrec.recorder.segments import Cutter, Names
from dgrec.recorder.video import EncodedPackets, SegmentVideos, VideoOptions, VideoRecorder
from dgrec.video import KeptPacket, PacketFormat
from tests.factory import START_NS, make_detection, make_row
from tests.waiting import wait_until

FORMAT = PacketFormat("h264", b"\0\0\0\1", (64, 48), 0, b"")
START_US = START_NS // 1000


def packet(number: int, *, is_key: bool, size: int = 1000) -> KeptPacket:
    data: Any = SimpleNamespace(size=size, is_keyframe=is_key)
    return KeptPacket(FORMAT, data, number, number, is_key, is_key, place=number)


@dataclass
class Plan:
    """A recording: when results come, where key frames are, and when alerts fire and are over."""

    times_us: list[int]
    keys: set[int]
    #: (row at which it fires, row at which it is over; None: it is on at the end).
    alerts: list[tuple[int, int | None]]

    @classmethod
    def random(cls, chance: random.Random) -> Plan:
        times_us, now = [], START_US
        for _ in range(chance.choice((1, 5, 60, 200))):
            now += chance.choice((0, 1000, 33_000, 33_000, 40_000, 900_000))
            times_us.append(now)
        keys = {number for number in range(len(times_us)) if chance.random() < 0.15}
        if chance.random() < 0.5:
            keys.add(0)
        alerts: list[tuple[int, int | None]] = []
        for _ in range(chance.choice((0, 1, 3, 6))):
            fired = chance.randrange(len(times_us))
            over = fired + chance.choice((1, 2, 10, 500))
            alerts.append((fired, over if over < len(times_us) else None))
        return cls(times_us, keys, sorted(alerts, key=lambda alert: alert[0]))

    def kept(self, before_us: int, after_us: int, *, has_video: bool) -> set[int]:
        """Return the rows that are to be kept, from the definition alone."""
        kept: set[int] = set()
        for fired, over in self.alerts:
            wanted_us = self.times_us[fired] - before_us
            first = next(at for at, time_us in enumerate(self.times_us) if time_us >= wanted_us)
            starts = [
                number
                for number, time_us in enumerate(self.times_us[: first + 1])
                if time_us <= wanted_us and (number in self.keys or not has_video)
            ]
            until_us = None if over is None else self.times_us[over] + after_us
            kept |= {
                number
                for number, time_us in enumerate(self.times_us)
                if number >= max(starts, default=0) and (until_us is None or time_us <= until_us)
            }
        return kept


def rows_of(plan: Plan, chance: random.Random) -> list[Row]:
    return [
        make_row(
            number,
            [make_detection(number)],
            captured_ns=time_us * 1000 - 5_000_000,
            completed_ns=time_us * 1000,
            skipped_before=chance.choice((0, 0, 2)),
            dropped_camera=chance.choice((0, 0, 1)),
            dropped_queue=chance.choice((0, 0, 3)),
        )
        for number, time_us in enumerate(plan.times_us)
    ]


def run(
    plan: Plan,
    rows: Sequence[Row],
    ring: Ring,
    chance: random.Random,
    *,
    encodes: bool,
    lag: int,
) -> tuple[list[Row], list[list[int]]]:
    """Give a plan's rows to a ring; return those that it keeps, and its moments.

    Args:
        encodes: Packets come later, from an encoder.
        lag: How many rows the rules may be behind, and the encoder.
    """
    kept: list[Row] = []
    fates: list[str] = []
    judged = encoded = 0

    def settle() -> None:
        while (fate := ring.fate()) is not None or ring.take_events():
            if fate is not None:
                entry = ring.take(fate)
                fates.append(fate)
                if fate == "keep":
                    assert not encodes or entry.own is not None
                    kept.append(entry.row)

    def judge(until: int) -> None:
        nonlocal judged
        while judged < until:
            for index, (fired, over) in enumerate(plan.alerts):
                if over == judged:
                    ring.end(f"{index}", plan.times_us[judged], {"kind": "alert_end"})
                if fired == judged:
                    ring.fire(f"{index}", plan.times_us[judged], {"kind": "alert"})
            judged += 1
            ring.judge(judged)
            if chance.random() < 0.5:
                settle()

    def encode(until: int) -> None:
        nonlocal encoded
        while encodes and encoded < until:
            ring.encoded(packet(encoded, is_key=encoded in plan.keys))
            encoded += 1

    for number, row in enumerate(rows):
        own = None if encodes else packet(number, is_key=number in plan.keys)
        ring.add(RingEntry(row, [own] if own else [], own, is_encoding=encodes))
        encode(number + 1 - chance.randrange(lag + 1))
        judge(number + 1 - chance.randrange(lag + 1))
        if chance.random() < 0.7:
            settle()
    encode(len(rows))
    judge(len(rows))
    ring.finish()
    settle()
    assert len(ring) == ring.size == 0
    numbers = iter(range(len(fates)))
    runs = [[next(numbers) for _ in group] for fate, group in groupby(fates)]
    return kept, [run for run in runs if fates[run[0]] == "keep"]


@pytest.mark.slow
def test_random_recordings_and_alerts() -> None:
    moments = 0
    for seed in range(1500):
        chance = random.Random(seed)
        plan = Plan.random(chance)
        rows = rows_of(plan, chance)
        before_s, after_s = chance.choice((0, 0.05, 0.5, 3)), chance.choice((0, 0.05, 0.5, 3))
        mode = chance.choice(("rows", "kept", "encoded"))
        ring = Ring(before_s, after_s, has_video=mode != "rows")
        if mode == "rows":
            plan.keys = set(range(len(rows)))
        kept, runs = run(
            plan, rows, ring, chance, encodes=mode == "encoded", lag=chance.choice((0, 3, 30))
        )
        expected = plan.kept(round(before_s * 1e6), round(after_s * 1e6), has_video=mode != "rows")
        assert [row.source_frame for row in kept] == sorted(expected), (seed, mode)
        assert [number for run in runs for number in run] == sorted(expected)
        for moment in runs:
            assert moment == list(range(moment[0], moment[-1] + 1))
        moments += len(runs)
        # No frame is without a count: those between rows, and those after the last one.
        assert ring.left_out == len(rows) - len(expected)
        last = max(expected, default=-1)
        for name in ("dropped_camera", "dropped_queue"):
            before_last = sum(getattr(row, name) for row in rows[: last + 1])
            assert sum(getattr(row, name) for row in kept) == before_last
        skipped = sum(row.skipped_before for row in rows[: last + 1]) + last + 1 - len(kept)
        assert sum(row.skipped_before for row in kept) == skipped
    assert moments > 1000


@pytest.mark.slow
def test_an_hour_stays_within_the_bound() -> None:
    """Ten seconds are asked for, of groups of pictures that take up to a minute."""
    chance = random.Random(7)
    limit = 500_000
    ring = Ring(10, 10, has_video=True, limit=limit)
    largest = fired = 0
    next_key = 0
    exact = 0
    for number in range(10 * 3600):
        is_key = number == next_key
        if is_key:
            next_key += chance.choice((10, 100, 600))
        found = [make_detection(at) for at in range(chance.choice((0, 1, 5)))]
        row = make_row(number, found, completed_ns=START_NS + number * 100_000_000)
        own = packet(number, is_key=is_key, size=30_000 if is_key else chance.choice((500, 5000)))
        entry = RingEntry(row, [own], own)
        ring.add(entry)
        if number % 2000 == 1999:
            fired += 1
            ring.fire("a", row.completed_ns // 1000, {"kind": "alert"})
        if number % 2000 == 50 and number > 2000:
            ring.end("a", row.completed_ns // 1000, {"kind": "alert_end"})
        ring.judge(number + 1)
        while (fate := ring.fate()) is not None or ring.take_events():
            if fate is not None:
                ring.take(fate)
        exact = sum(each.size for each in ring._entries)
        assert ring.size == exact <= limit
        largest = max(largest, ring.size)
    assert fired == 18
    assert largest > limit * 0.95  # it was needed
    assert 0 < (ring.shortened_s or 0) < 10


def test_what_is_too_large_leaves_early_and_is_counted() -> None:
    row = make_row(0, [{"mask": {"data": np.zeros((1000, 1000), np.float32)}}])
    assert memory_of(row) > 4_000_000
    ring = Ring(10, 10, has_video=False, limit=9_000_000)
    for number in range(5):
        ring.add(RingEntry(row._replace(source_frame=number)))
        ring.judge(number + 1)
        while ring.fate() == "leave":
            ring.take("leave")
        assert ring.size <= 9_000_000
    ring.fire("a", row.completed_ns // 1000, {"kind": "alert"})
    assert ring.take_events()
    kept = [ring.take("keep").row for _ in range(len(ring))]
    assert [(row.source_frame, row.skipped_before) for row in kept] == [(3, 3), (4, 0)]
    assert ring.shortened_s is not None


def dropped_from(ring: Ring, results: list[Any], keys: set[int], delay: int = 0) -> list[RingEntry]:
    """Return the 40 rows of an alert, but those that a full ring drops, as they are taken.

    Args:
        delay: How many packets more a decoder gets before a picture comes out.
    """
    packets = [packet(number, is_key=number in keys, size=10_000) for number in range(40)]
    for number, own in enumerate(packets):
        row = make_row(number, results, completed_ns=START_NS + number * 40_000_000)
        came = packets[number + delay if number else 0 : number + delay + 1]
        ring.add(RingEntry(row, came, own))
        if number == 0:
            ring.fire("a", START_US, {"kind": "alert"})
        while ring.is_full:
            ring.drop()
    ring.judge(40)
    assert ring.take_events()
    taken = [ring.take("keep") for _ in range(len(ring))]
    assert ring.size == 0
    assert sum(entry.row.dropped_writer for entry in taken) == ring.dropped > 0
    return taken


def test_a_row_that_is_dropped_leaves_its_packet_to_the_next() -> None:
    """Otherwise all pictures up to the next key frame would be lost with it."""
    mask = [{"mask": {"data": np.zeros((1000, 1000), np.float32)}}]
    taken = dropped_from(Ring(10, 10, has_video=True, limit=100_000_000), mask, {0})
    assert len(taken) < 30
    assert [each.number for entry in taken for each in entry.packets] == list(range(40))
    assert all(entry.own is not None and entry.own is entry.packets[-1] for entry in taken)


@pytest.mark.parametrize("delay", [0, 2])
def test_pictures_are_dropped_before_more_than_a_few_rows(delay: int) -> None:
    """Rows are small beside packets: dropping them alone would make no room.

    Where a key frame comes before its row, it was lost with the rows before it, and with it the
    pictures up to the next one.
    """
    taken = dropped_from(Ring(10, 10, has_video=True, limit=200_000), [], {0, 10, 20, 30}, delay)
    assert len(taken) >= 36
    numbers = [each.number for entry in taken for each in entry.packets]
    assert numbers in (list(range(30, 40)), list(range(20, 40)))
    states = {entry.row.source_frame: entry.state for entry in taken}
    assert {number for number, state in states.items() if state is None} == {*numbers}
    assert {*states.values()} == {None, "no_key_frame"}


def test_the_packet_of_a_dropped_row_may_still_be_with_the_encoder() -> None:
    ring = Ring(10, 10, has_video=True)
    for number in range(4):
        row = make_row(number, completed_ns=START_NS + number * 40_000_000)
        ring.add(RingEntry(row, is_encoding=True))
    ring.fire("a", START_US, {"kind": "alert"})
    ring.drop()
    for number in range(4):
        ring.encoded(packet(number, is_key=number == 0))
    ring.judge(4)
    assert ring.take_events()
    taken = [ring.take("keep") for _ in range(3)]
    assert [[each.number for each in entry.packets] for entry in taken] == [[0, 1], [2], [3]]
    assert ring.size == 0


def test_memory_of_nested_and_of_endless_results() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert memory_of(make_row(0, endless)) < 100_000
    big = [{"landmarks": [{"landmark": [1.0, 2.0]}] * 1000}]
    assert 200_000 < memory_of(make_row(0, big)) < 2_000_000
    assert memory_of(make_row(0, [], info=np.zeros(10**6, np.uint8))) > 10**6


@pytest.mark.parametrize("fails_at_end", [False, True])
def test_each_picture_that_an_encoder_has_is_answered(fails_at_end: bool) -> None:
    """Also those that it kept back when it failed: their rows would wait for ever."""

    class Encoder:
        count = 0

        def encode(self, image: Any, pts_us: int) -> list[Any]:
            self.count += 1
            if self.count == 3 and not fails_at_end:
                raise RuntimeError("no memory")
            return []

        def finish(self) -> list[Any]:
            raise RuntimeError("no memory")

        def release(self) -> None:
            pass

    taken: list[KeptPacket | None] = []
    packets = EncodedPackets(VideoOptions(("raw",)), taken.append)
    packets._encoder = Encoder()  # type: ignore[assignment]
    packets._container = object()
    for number in range(4):
        packets.write(np.zeros((2, 2, 3), np.uint8), lambda: None, number)  # type: ignore[arg-type, return-value]
    packets.close()
    assert taken == [None] * 4
    assert packets.failure is not None


class SetClock(Clock):
    """A clock that stands where it was put, and counts how often it was asked there."""

    def __init__(self, now_ns: int) -> None:
        super().__init__()
        self.put(now_ns)

    def put(self, now_ns: int) -> None:
        self.now, self.asked = now_ns, 0

    def now_ns(self) -> int:
        self.asked += 1
        return self.now


def test_a_moment_is_one_part_however_late_its_rows_are_judged() -> None:
    written: list[int | str] = []
    cutter = Cutter(
        Splitting(), lambda _: SegmentVideos(VideoOptions(), Path(), ()), lambda _: 0, 1
    )
    writer: Any = SimpleNamespace(
        journal=SimpleNamespace(cutter=cutter, path=Path("s.arrows")),
        note=lambda event: None,
        put=lambda row, segment: written.append(row.source_frame),
        cut=lambda segment: written.append("cut"),
        close=lambda: None,
        alarm=lambda reason: None,
        dropped=0,
    )
    judge: Any = SimpleNamespace(taken=0, on_taken=None)
    clock = SetClock(START_NS)
    options = RecordingOptions(only_on_alert=True, before=1, after=1)
    video = VideoRecorder(VideoOptions(), Names(Path("s.parquet")))
    ring = RingWriter(writer, video, None, options, [judge], clock)
    rows = [make_row(number) for number in (0, 3, 6, 9)]
    for row in rows:
        ring.put(row, SimpleNamespace(packets=[], packet=None))  # type: ignore[arg-type]
    for kind, row in (("alert", rows[0]), ("alert_end", rows[1])):
        ring.note({"kind": kind, "at": utc_text(row.completed_ns), "text": "seen"})
    judge.taken = 2
    ring._wake()
    wait_until(lambda: written == [0, 3])
    clock.put(START_NS + 60_000_000_000)
    ring._wake()
    wait_until(lambda: clock.asked > 1 or "cut" in written)
    judge.taken = 4
    ring._wake()
    wait_until(lambda: "cut" in written and 9 in written)
    ring.close()
    assert written == [0, 3, 6, 9, "cut"]

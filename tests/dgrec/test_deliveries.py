"""Deliveries of rows to targets, against sets that are kept here; ranges are bounded."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dgrec.format import Delivery, Journal, JournalWriter, deliveries_as_note, merged_targets, seal
from dgrec.format import deliveries as module
from dgrec.format.deliveries import Deliveries, TargetCounts, deliveries_from_note, without_ranges
from dgrec.session import open_session
from tests.factory import CLOSING, make_rows, new_metadata

TARGETS = [{"target": "a", "payload": "guide", "every": 1}, {"target": "b"}]


def rows_of(numbers: list[int], first: int = 0) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array(range(first, first + len(numbers)), pa.int64()),
            pa.array(numbers, pa.int64()),
            pa.nulls(len(numbers), pa.float64()),
        ],
        names=["frame", "source_frame", "published_ms"],
    )


def in_ranges(ranges: list[list[int]], numbers: list[int]) -> list[int]:
    return [n for n in numbers if any(first <= n <= last for first, last in ranges)]


def test_random_recordings_agree_with_sets() -> None:
    seen = 0
    for seed in range(200):
        chance = random.Random(seed)
        step = chance.choice([1, 2, 5])
        numbers = [100 + step * n for n in range(chance.randrange(1, 60))]
        earlier = [n for n in range(0, 100, step) if chance.random() < 0.1]
        share = chance.choice([0.0, 0.2, 0.5, 0.9, 1.0])
        taken: list[dict[int, int]] = [
            {n: chance.randrange(-2, 10**6) for n in numbers if chance.random() < share}
            for _ in TARGETS
        ]
        found = [Delivery(0, n, 7) for n in earlier]
        found += [
            Delivery(t, n, ticks) for t, each in enumerate(taken) for n, ticks in each.items()
        ]
        chance.shuffle(found)
        deliveries = Deliveries(len(TARGETS))
        for start in range(0, len(found), 7):
            deliveries.add(deliveries_from_note(deliveries_as_note(found[start : start + 7])))
        counts, published = TargetCounts({"targets": TARGETS}), []
        for start in range(0, len(numbers), 11):
            rows = rows_of(numbers[start : start + 11])
            counts.add(rows, deliveries)
            published += deliveries.filled(rows).column("published_ms").to_pylist()
        expected = []
        for n in numbers:
            ticks = [each.get(n, -1) for each in taken]
            expected.append(max(ticks) / 4096 if min(ticks) >= 0 else None)
        assert published == expected
        described = counts.described(deliveries)
        for target, entry in enumerate(described):
            left_out = [n for n in numbers if n not in taken[target]]
            due = [n for n in numbers if taken[target].get(n) != -1]
            assert in_ranges(entry["left_out"], numbers) == left_out
            assert entry["frames"] == len(due)
            assert entry["delivered"] == len(due) - len(left_out)
            assert entry["target"] == TARGETS[target]["target"]
            seen += len(left_out)
        if earlier:
            assert in_ranges(described[0]["later"], [*range(100)]) == earlier
        assert "later" not in described[1]
    assert seen > 1000


def test_frames_that_are_not_due_divide_no_range() -> None:
    """Of a target that gets one of three frames, and takes nothing for a while."""
    deliveries, counts = Deliveries(1), TargetCounts({"targets": [{"target": "a", "every": 3}]})
    found = [Delivery.not_due(0, n) for n in range(300) if n % 3]
    found += [Delivery(0, n, 0) for n in range(0, 300, 3) if not 90 <= n < 210]
    deliveries.add(deliveries_from_note(deliveries_as_note(found)))
    for start in range(0, 300, 50):
        counts.add(rows_of([*range(start, start + 50)], start), deliveries)
    (entry,) = counts.described(deliveries)
    assert entry["left_out"] == [[90, 207]]
    assert (entry["frames"], entry["delivered"]) == (100, 60)


def test_ranges_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many, the nearest become one: nothing that was left out is outside of them."""
    monkeypatch.setattr(module, "_MOST_RANGES", 10)
    numbers = [*range(1000)]
    kept = [n for n in numbers if n % 2 or 400 <= n < 600]
    deliveries = Deliveries(1)
    deliveries.add([(0, np.array(kept), np.zeros(len(kept), np.int64))])
    counts = TargetCounts({"targets": TARGETS[:1]})
    for start in range(0, 1000, 50):
        counts.add(rows_of(numbers[start : start + 50]), deliveries)
    (entry,) = counts.described(deliveries)
    assert len(entry["left_out"]) == 10
    assert {n for n in numbers if n not in {*kept}} <= {*in_ranges(entry["left_out"], numbers)}
    assert not in_ranges(entry["left_out"], [*range(400, 599)])
    assert entry["frames"] - entry["delivered"] == 1000 - len(kept)


def test_ranges_without_others_agree_with_sets() -> None:
    for seed in range(300):
        chance = random.Random(seed)

        def some(most: int, chance: random.Random = chance) -> list[tuple[int, int]]:
            starts = [chance.randrange(50) for _ in range(chance.randrange(most))]
            return [(start, start + chance.randrange(8)) for start in starts]

        taken = some(12)
        bounds = sorted(chance.sample(range(50), 6))
        ranges = [*zip(bounds[::2], bounds[1::2], strict=True)]
        left = without_ranges(ranges, taken)
        numbers = [*range(60)]
        others = {*in_ranges([[*each] for each in taken], numbers)}
        expected = [n for n in in_ranges([[*each] for each in ranges], numbers) if n not in others]
        assert in_ranges([[*each] for each in left], numbers) == expected


def test_parts_are_one_recording() -> None:
    first = {"target": "a", "frames": 10, "delivered": 6, "left_out": [[6, 9]]}
    second = {
        "target": "a",
        "frames": 10,
        "delivered": 9,
        "left_out": [[13, 13]],
        # Also of a part that was removed.
        "later": [[-9, -5], [6, 7], [9, 9]],
    }
    assert merged_targets([{"targets": [first]}, {"targets": [second]}, {}]) == [
        {"target": "a", "frames": 20, "delivered": 18, "left_out": [[8, 8], [13, 13]]}
    ]
    # One that is being recorded does not say yet.
    (merged,) = merged_targets([{"targets": [first]}, {"targets": [{"target": "a"}]}])
    assert merged == {"target": "a"}
    assert merged_targets([{}, {}]) == []


def write(path: Path, note: Any) -> Path:
    """Write a journal of 30 rows whose second batch says what was taken."""
    writer = JournalWriter(path, {**new_metadata(), "targets": TARGETS})
    rows = make_rows(30)
    writer.write(rows[:20])
    writer.write(rows[20:], deliveries=note)
    writer.end(CLOSING)
    writer.close()
    return path


def test_rows_before_are_filled_too(tmp_path: Path) -> None:
    both = [Delivery(t, n, 4096 * (n + t)) for t in (0, 1) for n in (3, 25)]
    journal = write(tmp_path / "s.arrows", deliveries_as_note([*both, Delivery(0, 4, 0)]))
    seal(Journal.open(journal), tmp_path / "s.parquet")
    for path in (journal, tmp_path / "s.parquet"):
        with open_session(path) as session:
            found = {r.frame: r.row["published_ms"] for r in session}
            assert {n: ms for n, ms in found.items() if ms is not None} == {3: 4.0, 25: 26.0}
            assert session.row(3)["published_ms"] == 4.0
            assert [t["delivered"] for t in session.metadata["targets"]] == [3, 2]
            assert session.sql_rows("SELECT target, left_out FROM targets") == [
                ("a", 27),
                ("b", 28),
            ]


@pytest.mark.parametrize(
    "note",
    [
        1,
        [1],
        [[0, [1], [1, 2]]],
        [[0, [True], [1]]],
        [[0, [1.0], [1]]],
        [[0, [1], [-5]]],
        [[0, [2**60], [1]]],
        [[-1, [1], [1]]],
        [["0", [1], [1]]],
        [[0, [1], [1], []]],
    ],
)
def test_what_dgrec_did_not_write_is_damage(tmp_path: Path, note: Any) -> None:
    with open_session(write(tmp_path / "s.arrows", note)) as session:
        assert len(session) == 20
        assert len(session.damage) > 0


def test_a_target_that_is_not_listed_is_ignored(tmp_path: Path) -> None:
    with open_session(write(tmp_path / "s.arrows", [[7, [1], [1]]])) as session:
        assert len(session) == 30
        assert session.damage == []

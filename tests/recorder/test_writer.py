"""The thread between the inference loop and the journal: nothing lost, or counted where it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dgrec.errors import DgrecError, OutputError
from dgrec.format import Event, Journal, Row, Signal, utc_text
from dgrec.recorder.segments import PlacedRow, Segment
from dgrec.recorder.video import SegmentVideos, VideoOptions
from dgrec.recorder.writing import RowWriter
from dgrec.recorder.writing import writer as writer_module
from tests.factory import CLOSING, make_row, make_rows
from tests.recorder.doubles import journal_of
from tests.waiting import PATIENCE_S, wait_until

#: Longer than any test is waited for: what comes sooner does not come by the clock.
NEVER_S = 10 * PATIENCE_S


class SlowJournal:
    """Takes the place of a `PartedJournal`; each write waits for the gate."""

    has_ending_parts = False

    def __init__(self, durability: str = "flush") -> None:
        self.path = Path("slow.arrows")
        self.durability = durability
        self.batches: list[list[Row]] = []
        self.events: list[Event] = []
        self.gate = threading.Event()
        self.writing = threading.Event()
        self.failure: Exception | None = None

    @property
    def rows(self) -> list[Row]:
        return [row for batch in self.batches for row in batch]

    def write(
        self,
        placed: Sequence[PlacedRow],
        events: Sequence[Event] = (),
        signals: Sequence[Signal] = (),
        deliveries: Sequence[Any] = (),
    ) -> None:
        self.writing.set()
        self.gate.wait(PATIENCE_S)
        if self.failure is not None:
            raise self.failure
        self.batches.append([item.row for item in placed])
        self.events += events


@pytest.fixture
def slow() -> Iterator[SlowJournal]:
    journal = SlowJournal()
    yield journal
    journal.gate.set()


class Writer(RowWriter):
    """Takes rows that all go into one segment."""

    segment = Segment(1, SegmentVideos(VideoOptions(), Path("s.parquet"), ()))

    def put(self, row: Row, segment: Segment = segment) -> None:
        super().put(row, segment)


def writer_of(journal: Any, **options: Any) -> Writer:
    return Writer(journal, **options)


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dgrec-writer"]


# --- a journal that is slower than the camera ---


def test_block_waits_and_loses_nothing(slow: SlowJournal) -> None:
    writer = writer_of(slow, policy="block", capacity=8)
    rows = make_rows(60)

    def put_all() -> None:
        for row in rows:
            writer.put(row)

    producer = threading.Thread(target=put_all)
    producer.start()
    assert slow.writing.wait(10)
    producer.join(0.3)
    assert producer.is_alive(), "a full queue must make the producer wait"
    slow.gate.set()
    producer.join(20)
    assert not producer.is_alive()
    writer.close()

    assert slow.rows == rows
    assert writer.dropped == 0
    assert {row.dropped_writer for row in rows} == {0}


def test_drop_oldest_never_waits_and_counts(slow: SlowJournal) -> None:
    writer = writer_of(slow, policy="drop-oldest", capacity=8)
    rows = [make_row(i, skipped_before=1, dropped_queue=2, dropped_camera=3) for i in range(60)]
    writer.put(rows[0])
    assert slow.writing.wait(10)  # frame 0 is on its way; all the others have to wait
    for row in rows[1:]:
        writer.put(row)
    assert writer.dropped == 51
    slow.gate.set()
    writer.close()

    written = slow.rows
    assert [row.source_frame for row in written] == [0, *range(52, 60)]
    # The loss stands on the first row that is there again.
    assert [row.dropped_writer for row in written] == [0, 51, *[0] * 7]
    assert len(written) + writer.dropped == len(rows)
    # What the lost rows had to tell of losses before them is not lost with them.
    assert sum(row.skipped_before for row in written) == 60
    assert sum(row.dropped_queue for row in written) == 120
    assert sum(row.dropped_camera for row in written) == 180


def test_two_losses_stand_on_two_rows(slow: SlowJournal) -> None:
    writer = writer_of(slow, policy="drop-oldest", capacity=4)
    writer.put(make_row(0))
    for start in (1, 11):
        assert slow.writing.wait(10)
        for i in range(start, start + 10):
            writer.put(make_row(i))
        slow.writing.clear()
        slow.gate.set()
        wait_until(lambda start=start: bool(slow.rows) and slow.rows[-1].source_frame >= start - 1)
        slow.gate.clear()
    slow.gate.set()
    writer.close()

    written = slow.rows
    assert len(written) + writer.dropped == 21
    expected = 0
    for row in written:
        assert row.source_frame == expected + row.dropped_writer
        expected = row.source_frame + 1
    assert sum(row.dropped_writer > 0 for row in written) == 2


def test_a_queue_of_one(slow: SlowJournal) -> None:
    writer = writer_of(slow, policy="drop-oldest", capacity=1)
    writer.put(make_row(0))
    assert slow.writing.wait(10)
    for i in range(1, 10):
        writer.put(make_row(i))
    slow.gate.set()
    writer.close()
    assert [(row.source_frame, row.dropped_writer) for row in slow.rows] == [(0, 0), (9, 8)]


# --- errors ---


@pytest.mark.parametrize("policy", ["block", "drop-oldest"])
def test_an_error_surfaces_in_put_and_close(slow: SlowJournal, policy: str) -> None:
    slow.failure = OutputError("s.arrows: cannot be written: No space left on device")
    slow.gate.set()
    writer = writer_of(slow, policy=policy, capacity=4)
    writer.put(make_row(0))
    wait_until(lambda: writer.error is not None)
    for _ in range(2):
        with pytest.raises(OutputError, match="No space left"):
            writer.put(make_row(1))
    with pytest.raises(OutputError, match="No space left"):
        writer.close()
    assert writer_threads() == []


def test_an_error_wakes_a_producer_that_waits(slow: SlowJournal) -> None:
    writer = writer_of(slow, policy="block", capacity=2)
    slow.failure = OutputError("full")
    raised = []

    def put_many() -> None:
        try:
            for i in range(10):
                writer.put(make_row(i))
        except OutputError as error:
            raised.append(error)

    producer = threading.Thread(target=put_many)
    producer.start()
    assert slow.writing.wait(10)
    slow.gate.set()
    producer.join(10)
    assert not producer.is_alive()
    assert raised == [slow.failure]
    with pytest.raises(OutputError):
        writer.close()


def test_a_defect_of_the_journal_does_not_hang_the_recording(slow: SlowJournal) -> None:
    slow.failure = RuntimeError("a defect")
    slow.gate.set()
    writer = writer_of(slow)
    writer.put(make_row(0))
    with pytest.raises(DgrecError, match="the writer failed: RuntimeError"):
        writer.close()


# --- flushing ---


@pytest.mark.slow
def test_rows_are_written_while_more_are_coming(slow: SlowJournal) -> None:
    """A new row does not put off those that wait already."""
    slow.gate.set()
    writer = writer_of(slow)
    count = 0

    def put_another() -> bool:
        nonlocal count
        writer.put(make_row(count))
        count += 1
        return len(slow.batches) >= 2

    wait_until(put_another, pause_s=0.05)
    writer.close()
    assert len(slow.rows) == count
    assert len(slow.batches[0]) < 128, "not for a queue that is half full"


def test_rows_wait_for_one_another(slow: SlowJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """One write a row would be as wrong as none."""
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", NEVER_S)
    slow.gate.set()
    writer = writer_of(slow)
    for row in make_rows(10):
        writer.put(row)
    writer.close()
    assert [len(batch) for batch in slow.batches] == [10]


def test_a_single_row_does_not_wait_for_the_next(slow: SlowJournal) -> None:
    slow.gate.set()
    writer = writer_of(slow)
    writer.put(make_row(0))
    wait_until(lambda: len(slow.rows) == 1)
    writer.close()


def test_an_event_does_not_wait_for_a_row(slow: SlowJournal) -> None:
    """A camera that is lost gives none, perhaps for hours."""
    slow.gate.set()
    writer = writer_of(slow)
    time.sleep(0.05)  # the writer waits
    writer.note({"kind": "gap"})
    wait_until(lambda: slow.events == [{"kind": "gap"}])
    writer.close()
    assert slow.events == [{"kind": "gap"}]


@pytest.mark.parametrize("is_plain", [False, True])
def test_large_rows_do_not_wait(
    slow: SlowJournal, monkeypatch: pytest.MonkeyPatch, is_plain: bool
) -> None:
    import numpy as np

    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", NEVER_S)
    slow.gate.set()
    writer = writer_of(slow)
    pixels = np.zeros((540, 960), np.float32)
    mask = pixels if is_plain else {"x_min": 0, "y_min": 0, "data": pixels}
    for i in range(8):
        writer.put(make_row(i, [{"label": "person", "mask": mask}] * 3))
    wait_until(lambda: len(slow.batches) > 0)
    writer.close()


def test_durability_frame_is_one_batch_a_row(tmp_path: Path) -> None:
    path = tmp_path / "s.arrows"
    journals = journal_of(path, durability="frame")
    writer = RowWriter(journals)
    for row in make_rows(20):
        writer.put(row, journals.cutter.current)
    writer.note({"kind": "gap"})
    writer.close()
    writer.end(CLOSING)
    writer.journal.close()
    journal = Journal.open(path)
    assert sum(batch.num_rows for batch in journal.batches()) == 20
    assert [row for row, _ in journal.places] == list(range(20))
    assert journal.events == [{"kind": "gap"}]
    assert journal.closing == CLOSING


def test_durability_frame_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", NEVER_S)
    journal = SlowJournal("frame")
    journal.gate.set()
    writer = writer_of(journal)
    writer.put(make_row(0))
    wait_until(lambda: len(journal.rows) == 1)
    writer.close()


def test_closing_writes_what_waits_and_ends_the_thread(tmp_path: Path) -> None:
    path = tmp_path / "s.arrows"
    journals = journal_of(path)
    writer = RowWriter(journals)
    rows = make_rows(100)
    for row in rows:
        writer.put(row, journals.cutter.current)
    assert len(writer_threads()) == 1
    writer.close()
    assert writer_threads() == []
    writer.end(CLOSING)
    writer.journal.close()
    frames = [
        n for batch in Journal.open(path).batches() for n in batch["source_frame"].to_pylist()
    ]
    assert frames == list(range(100))


def test_a_writer_that_got_nothing(slow: SlowJournal) -> None:
    slow.gate.set()
    writer = writer_of(slow)
    writer.close()
    assert slow.batches == []
    assert writer_threads() == []


# --- late threads ---


class PartsJournal(SlowJournal):
    """Knows what was written into which part."""

    def __init__(self, durability: str = "flush") -> None:
        super().__init__(durability)
        self.parts: list[list[Any]] = [[]]

    def now_ns(self) -> int:
        return 2**62  # all that was logged is old by now

    def write(
        self,
        placed: Sequence[PlacedRow],
        events: Sequence[Event] = (),
        signals: Sequence[Signal] = (),
        deliveries: Sequence[Any] = (),
    ) -> None:
        super().write(placed, events, signals, deliveries)
        rows = [item.row for item in placed]
        found = [*signals, *(signal for row in rows for signal in row.signals or ())]
        self.parts[-1] += [row.source_frame for row in rows]
        self.parts[-1] += [*(event["kind"] for event in events), *(each.name for each in found)]

    def cut(self, segment: Segment) -> None:
        self.parts.append([])


def test_what_belongs_to_a_part_is_in_it_before_it_is_cut() -> None:
    """A moment is over while the disk still writes its rows: its alert ended meanwhile."""
    journal = PartsJournal()
    writer = writer_of(journal)
    first, second = make_rows(2)
    writer.put(first)
    assert journal.writing.wait(PATIENCE_S)
    writer.note({"kind": "alert_end"})
    writer.log(Signal("speed", first.completed_ns + 1, 1.0))
    cutter = threading.Thread(target=writer.cut, args=(writer.segment,))
    cutter.start()
    wait_until(lambda: writer._cut_to is not None)
    journal.gate.set()
    cutter.join(PATIENCE_S)
    writer.put(second)
    writer.close()
    assert journal.parts == [[0, "alert_end", "speed"], [1]]


def on_a_slow_disk() -> tuple[PartsJournal, Writer, list[Row]]:
    """Return a journal that is held up at the first of four rows, each a batch of its own."""
    journal = PartsJournal("frame")
    writer = writer_of(journal)
    rows = make_rows(4)
    writer.put(rows[0])
    assert journal.writing.wait(PATIENCE_S)
    return journal, writer, rows


@pytest.mark.parametrize("is_closing", [False, True])
def test_values_wait_for_the_rows_that_wait(is_closing: bool) -> None:
    """Where each row is a batch, and the disk is slow."""
    journal, writer, rows = on_a_slow_disk()
    for row in rows[1:]:
        writer.put(row)
        writer.log(Signal(f"after {row.source_frame}", row.completed_ns + 1, 1.0))
    if is_closing:
        closer = threading.Thread(target=writer.close)
        closer.start()
        wait_until(lambda: writer._closing)
    journal.gate.set()
    wait_until(lambda: len(journal.parts[0]) == 7)
    writer.close()
    assert journal.parts == [[0, 1, "after 1", 2, "after 2", 3, "after 3"]]


def test_events_wait_for_the_rows_that_wait() -> None:
    """Else one could stand in the part before the rows of its time."""
    journal, writer, rows = on_a_slow_disk()
    for row in rows[1:]:
        writer.put(row)
    writer.note({"kind": "undated"})
    writer.note({"kind": "mark 2", "at": utc_text(rows[2].completed_ns)})
    writer.note({"kind": "gap 1", "from": utc_text(rows[1].completed_ns)})
    writer.note({"kind": "mark 3", "at": utc_text(rows[3].completed_ns + 10**9)})
    journal.gate.set()
    writer.close()
    assert journal.parts == [[0, 1, "undated", "gap 1", 2, "mark 2", 3, "mark 3"]]

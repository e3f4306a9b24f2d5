"""`Recorder.log` and `mark`: what is logged comes back, whatever becomes of the recording."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dgrec
from dgrec.errors import ConfigError, DgrecError
from dgrec.format import (
    LATER_COLUMNS,
    MOST_WITHOUT_ROW,
    SCHEMA,
    Journal,
    JournalTail,
    JournalWriter,
    Signal,
    as_note,
    seal,
    utc_text,
)
from dgrec.format import signals as signals_module
from dgrec.format.schema import METADATA_KEY
from dgrec.recorder import host_signals
from dgrec.recorder.recovery import recover
from dgrec.recorder.writing.continuation import Earlier
from dgrec.replay.clip import Span, write_clip
from dgrec.replay.info import _sections, describe
from dgrec.replay.report import write_plot, write_report
from dgrec.replay.verify import verify
from tests.factory import (
    CLOSING,
    START_NS,
    make_row,
    make_rows,
    new_metadata,
    without_column,
    write_journal,
    write_session,
)
from tests.reports import ReportPage
from tests.waiting import wait_until

DATA = Path(__file__).parents[1] / "data"
EACH_NAME = "SELECT name, list(value ORDER BY time) FROM signals GROUP BY name ORDER BY name"


def logged(path: Path) -> dict[str, list[float]]:
    with dgrec.open(path) as session:
        return dict(session.sql(EACH_NAME).fetchall())


def frames_of(path: Path, name: str) -> list[int | None]:
    with dgrec.open(path) as session:
        rows = session.sql(f"SELECT frame FROM signals WHERE name = '{name}' ORDER BY time")
        return [frame for (frame,) in rows.fetchall()]


def at(frame: int, after_ms: float = 1.0) -> int:
    """Return a time after the result of ``frame`` of `make_rows`."""
    return make_row(frame).completed_ns + round(after_ms * 1e6)


# --- recording ---------------------------------------------------------------------------------


def test_what_is_logged_stands_beside_the_frames(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output) as recorder:
        recorder.log("before", 1)
        recorder.mark("start", by="hand")
        for number in range(5):
            recorder.add([])
            recorder.log("rpm", 100.0 * number)
        recorder.log("after", np.float32(0.5))
    assert logged(output) == {
        "after": [0.5],
        "before": [1.0],
        "rpm": [0.0, 100.0, 200.0, 300.0, 400.0],
    }
    assert frames_of(output, "rpm") == [0, 1, 2, 3, 4]
    assert frames_of(output, "before") == [None]
    with dgrec.open(output) as session:
        event = "SELECT kind, from_at = to_at, frame, text, details FROM events"
        assert session.sql(event).fetchall() == [("mark", True, None, "start", '{"by":"hand"}')]
    assert verify(output) == []


def test_a_mark_takes_numbers_of_numpy(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    details = {"n": np.int64(3), "lux": np.float32(0.5), "on": np.bool_(True), "x": [np.uint8(1)]}
    with dgrec.Recorder(output) as recorder:
        recorder.mark("", **details, no=np.float64("nan"))
        with pytest.raises(dgrec.ConfigError, match="Object of type datetime is not JSON"):
            recorder.mark("", at=np.datetime64("2026-01-02T03:04:05", "s"))
    with dgrec.open(output) as session:
        (event,) = session.metadata["events"]
    assert event["details"] == {"n": 3, "lux": 0.5, "on": True, "x": [1], "no": None}


def test_a_mark_may_have_no_text(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output) as recorder:
        recorder.mark("", lux=1)
    with dgrec.open(output) as session:
        assert session.sql("SELECT text, details FROM events").fetchall() == [("", '{"lux":1}')]


def test_a_recorder_without_frames_keeps_what_was_logged(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output) as recorder:
        recorder.log("rpm", 1.5)
    assert logged(output) == {"rpm": [1.5]}


@pytest.mark.parametrize(
    "value", [2, True, Decimal("1.5"), Fraction(1, 2), np.int64(3), np.float16(0.5)]
)
def test_any_real_number_is_a_value(tmp_path: Path, value: Any) -> None:
    if isinstance(value, Decimal):
        value = float(value)
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output) as recorder:
        recorder.log("x", value)
    assert logged(output) == {"x": [float(value)]}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("x", math.nan, "not a finite number"),
        ("x", math.inf, "not a finite number"),
        ("x", 10**400, "not a finite number"),
        ("x", "1", "not a number"),
        ("x", None, "not a number"),
        ("x", 1j, "not a number"),
        ("", 1.0, "not the name of a signal"),
        (b"x", 1.0, "not the name of a signal"),
        ("\ud800", 1.0, "not the name of a signal"),
        ("x" * 201, 1.0, "longer than 200 characters"),
    ],
)
def test_what_cannot_be_logged_is_refused(
    tmp_path: Path, name: Any, value: Any, reason: str
) -> None:
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output) as recorder:
        with pytest.raises(ConfigError, match=reason):
            recorder.log(name, value)
        recorder.add([])
        with pytest.raises(ConfigError, match=reason):
            recorder.log(name, value)
    assert logged(output) == {}


def test_after_the_end_nothing_is_logged(tmp_path: Path) -> None:
    recorder = dgrec.Recorder(tmp_path / "s.parquet")
    recorder.add([])
    recorder.close()
    with pytest.raises(DgrecError, match="the recorder is closed"):
        recorder.log("rpm", 1.0)


def test_threads_may_log_at_once(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output) as recorder:

        def log(name: str) -> None:
            for number in range(500):
                recorder.log(name, number)
                if number % 50 == 0:
                    recorder.add([])

        threads = [threading.Thread(target=log, args=(f"thread{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    numbers = [float(number) for number in range(500)]
    # Several may be logged within a microsecond.
    found = {name: sorted(values) for name, values in logged(output).items()}
    assert found == {f"thread{n}": numbers for n in range(4)}


def written(recorder: dgrec.Recorder) -> int:
    assert recorder._main is not None
    return recorder._main.writer.bytes_written


@pytest.mark.slow
def test_each_value_is_in_one_part(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output, split_size=1_000_000) as recorder:
        for number in range(9):
            noise = np.random.default_rng(0).bytes(200_000).hex()
            recorder.add([{"label": noise, "score": 0.5, "bbox": [0.0, 0.0, 1.0, 1.0]}])
            recorder.log("n", number)
            if number % 3 == 2:  # parts are cut by what was written
                wait_until(lambda size=number * 400_000: written(recorder) > size)
        recorder.log("n", 9)
    assert len(recorder.files) > 1
    assert logged(output) == {"n": [float(n) for n in range(10)]}


@pytest.mark.slow
def test_the_machine_s_own_values_are_logged(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output, signals="host") as recorder:
        recorder.add([])
        assert recorder._main is not None
        journal = recorder._main.writer.journal
        wait_until(lambda: "host.cpu" in logged(journal))
    found = logged(output)
    assert all(0 <= share <= 1 for share in found["host.cpu"] + found["host.memory"])
    sensors = getattr(psutil, "sensors_temperatures", dict)()
    temperatures = [name for name in found if name.endswith(".celsius")]
    assert len(temperatures) == sum(map(len, sensors.values()))
    with dgrec.open(output) as session:
        assert session.metadata["options"]["signals"] == "host"


def test_sensors_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = {
        "coretemp": [SimpleNamespace(label="Core 0", current=51.0)] * 2,
        "soc": [SimpleNamespace(label="", current=40.5), SimpleNamespace(label="", current=None)],
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    assert dict(host_signals._temperatures()) == {
        "host.coretemp.Core 0.celsius": 51.0,
        "host.coretemp.Core 0.2.celsius": 51.0,
        "host.soc.celsius": 40.5,
    }

    def without_sensors() -> None:
        raise OSError("no such device")

    monkeypatch.setattr(psutil, "sensors_temperatures", without_sensors, raising=False)
    assert list(host_signals._temperatures()) == []


# --- what becomes of it ------------------------------------------------------------------------

LOGGING = """
import sys, time
import dgrec
recorder = dgrec.Recorder(sys.argv[1])
recorder.add([])
recorder.log("rpm", 1.0)
time.sleep(1)
for number in range(10_000):
    recorder.log("late", number)
    time.sleep(0.01)
"""


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_written(tmp_path: Path) -> None:
    journal = tmp_path / "s.arrows"
    command = [sys.executable, "-c", LOGGING, str(tmp_path / "s.parquet")]
    with subprocess.Popen(command, text=True) as process:
        try:
            # Without a single frame after the first.
            wait_until(
                lambda: journal.exists() and len(logged(journal).get("late", ())) > 10,
                process=process,
            )
            seen = logged(journal)["late"]
        finally:
            process.send_signal(signal.SIGKILL)
    recovery = recover(journal)
    assert recovery.complete
    found = logged(recovery.output)
    assert found["rpm"] == [1.0]
    assert found["late"][: len(seen)] == seen == [float(n) for n in range(len(seen))]


def journal_with_silence(path: Path, *, end: bool = True) -> Path:
    """Write 6 frames, with values logged in rows, and twice while no frames came."""
    rows = make_rows(6)
    rows[1] = rows[1]._replace(signals=[Signal("rpm", at(1), 1.0)])
    writer = JournalWriter(path, new_metadata(), durability="never")
    writer.write(rows[:3])
    writer.write([], signals=as_note([Signal("rpm", at(2), 2.0), Signal("rpm", at(2, 2), 2.5)]))
    writer.write([], signals=as_note([Signal("rpm", at(2, 3), 2.75)]))
    rows[3] = rows[3]._replace(signals=[Signal("rpm", at(3), 3.0)])
    writer.write(rows[3:])
    writer.write([], signals=as_note([Signal("rpm", at(5), 5.0)]))
    if end:
        writer.end(CLOSING)
    writer.close()
    return path


VALUES = [1.0, 2.0, 2.5, 2.75, 3.0, 5.0]


@pytest.mark.slow
@pytest.mark.parametrize("end", [True, False])
def test_values_of_a_silence_belong_to_the_next_row(tmp_path: Path, end: bool) -> None:
    path = journal_with_silence(tmp_path / "s.arrows", end=end)
    sealed = tmp_path / "s.parquet"
    seal(Journal.open(path), sealed)
    for each in (path, sealed):
        assert logged(each) == {"rpm": VALUES}
        assert frames_of(each, "rpm") == [1, 2, 2, 2, 3, 5]
        with dgrec.open(each) as session:
            in_rows = [[s["value"] for s in r.row["signals"] or []] for r in session]
            assert in_rows == [[], [1.0], [], [2.0, 2.5, 2.75, 3.0], [], []]
            one_by_one = [session.row(i)["signals"] for i in reversed(range(6))][::-1]
            assert one_by_one == [r.row["signals"] for r in session]
            assert [s["value"] for s in session.metadata["signals"]] == [5.0]
        assert verify(each)[:-1] == [] if not end and each is path else True
    rows = pq.read_table(sealed, columns=["signals"])["signals"].to_pylist()
    assert [len(row or []) for row in rows] == [0, 1, 0, 4, 0, 0]


def test_a_journal_that_grows_shows_them_in_the_next_row(tmp_path: Path) -> None:
    path = tmp_path / "s.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    tail = JournalTail(path)
    writer.write([], signals=as_note([Signal("rpm", START_NS, 1.0)]))
    assert list(tail.read()) == []
    writer.write(make_rows(2))
    (batch,) = tail.read()
    counts = [len(signals or []) for signals in batch.column("signals").to_pylist()]
    assert counts == [1, 0]
    tail.close()
    writer.close()


def test_what_is_kept_of_a_long_silence_is_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals_module, "MOST_WITHOUT_ROW", 10)
    path = tmp_path / "s.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    writer.write(make_rows(1))
    for start in range(0, 21, 3):
        values = [Signal("n", at(0, 1 + n), float(n)) for n in range(start, start + 3)]
        writer.write([], signals=as_note(values))
    writer.end(CLOSING)
    writer.close()
    sealed = tmp_path / "s.parquet"
    metadata = seal(Journal.open(path), sealed)
    assert metadata["totals"]["signals_left_out"] == 11
    assert logged(sealed) == logged(path) == {"n": [float(n) for n in range(11, 21)]}


def test_what_is_logged_before_the_first_frame_is_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgrec.recorder.program.recorder.MOST_WITHOUT_ROW", 10)
    path = tmp_path / "s.parquet"
    with dgrec.Recorder(path) as recorder:
        for number in range(25):
            recorder.log("n", number)
        recorder.add([])
    with dgrec.open(path) as session:
        assert session.metadata["totals"]["signals_left_out"] == 15
    assert logged(path) == {"n": [float(n) for n in range(15, 25)]}


@pytest.mark.slow
def test_many_values_belong_to_the_frames_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgrec.recorder.writing.writer.MOST_WITHOUT_ROW", 10)
    path = tmp_path / "s.parquet"
    with dgrec.Recorder(path) as recorder:
        for frame in range(4):
            recorder.add([])
            for _ in range(15):
                recorder.log("n", frame)
        wait_until(lambda: len(dgrec.open(path.with_suffix(".arrows"))) == 4)
        recorder.add([])
    with dgrec.open(path) as session:
        found = session.sql("SELECT frame, value, count(*) FROM signals GROUP BY ALL ORDER BY 1")
        assert found.fetchall() == [(frame, float(frame), 15) for frame in range(4)]


def test_details_of_a_mark_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    with dgrec.Recorder(path) as recorder:
        recorder.mark("lamp", text="on", self=1)
    with dgrec.open(path) as session:
        (event,) = session.metadata["events"]
    assert (event["text"], event["details"]) == ("lamp", {"text": "on", "self": 1})


def test_files_of_before_read_as_before(tmp_path: Path) -> None:
    for name in ("format-1.parquet", "format-1-killed.arrows"):
        assert logged(DATA / name) == {}
        with dgrec.open(DATA / name) as session:
            assert "signals" not in session.schema.names
            assert session.row(0)["signals"] is None
            assert session.sql("FROM events").fetchall() == []
    old = tmp_path / "old.arrows"
    shutil.copy(DATA / "format-1-killed.arrows", old)
    assert recover(old).complete


def test_sessions_with_and_without_the_column_are_asked_together(tmp_path: Path) -> None:
    rows = [
        row._replace(signals=[Signal("rpm", at(row.source_frame), 1.0)]) for row in make_rows(3)
    ]
    new = write_session(tmp_path / "new.parquet", rows)
    other = write_session(tmp_path / "other.parquet", rows, new_metadata(session_id="another"))
    paths = [without_column(other, "signals"), DATA / "format-1-killed.arrows", new]
    with dgrec.connect(*paths) as connection:
        count = connection.execute("SELECT count(*), count(DISTINCT session_id) FROM signals")
        assert count.fetchone() == (3, 1)


def test_parts_of_an_earlier_version_are_continued(tmp_path: Path) -> None:
    columns = tuple(name for name in SCHEMA.names if name not in LATER_COLUMNS)
    metadata = new_metadata()
    output = tmp_path / "s.parquet"
    Earlier(metadata=metadata, columns=columns).check(output, metadata)
    with pytest.raises(ConfigError, match="another version"):
        Earlier(metadata=metadata, columns=columns[:-1]).check(output, metadata)


# --- clips -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_clip_has_what_was_logged_in_its_time(tmp_path: Path) -> None:
    journal = journal_with_silence(tmp_path / "s.arrows")
    cases: list[tuple[tuple[int, int], list[float]]] = [
        ((0, 2), [1.0]),
        ((0, 3), [1.0, 2.0, 2.5, 2.75]),
        ((2, 3), [2.0, 2.5, 2.75]),
        ((3, 5), [3.0]),
        ((4, 6), [5.0]),
        ((0, 6), VALUES),
    ]
    for number, ((start, end), values) in enumerate(cases):
        output = tmp_path / f"clip{number}.parquet"
        with dgrec.open(journal) as session:
            write_clip(session, [Span(start, end)], output)
        assert logged(output).get("rpm", []) == values, (start, end)
        assert verify(output) == []


def test_a_clip_of_many_spans_reads_the_recording_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day has 100,000 late frames: what was logged around each is not looked for by itself."""
    rows = [
        row._replace(
            signals=[
                Signal("rpm", at(number - 1), 1000.0 + number),
                Signal("rpm", row.completed_ns - 500_000, float(number)),
            ]
        )
        for number, row in enumerate(make_rows(300))
    ]
    mark = {"kind": "mark", "at": utc_text(at(150)), "text": "lamp on"}
    path = write_session(tmp_path / "s.parquet", rows, {**new_metadata(), "events": [mark]})
    spans = [Span(start, start + 2) for start in range(0, 300, 3)]
    calls = []
    batches, row = dgrec.Session.batches, dgrec.Session.row

    def counted(self: dgrec.Session, *arguments: Any) -> Any:
        calls.append(arguments)
        return batches(self, *arguments)

    def counted_row(self: dgrec.Session, position: int) -> Any:
        calls.append((position,))
        return row(self, position)

    monkeypatch.setattr(dgrec.Session, "batches", counted)
    monkeypatch.setattr(dgrec.Session, "row", counted_row)
    with dgrec.open(path) as session:
        write_clip(session, spans, tmp_path / "clip.parquet")
    assert len(calls) < 20
    # The row behind a span has what was logged since the span's last row.
    within = [number for span in spans for number in range(span.start, min(span.end + 1, 300))]
    first = {span.start for span in spans if span.start > 0}
    expected = [*map(float, within), *(1000.0 + number for number in within if number not in first)]
    assert sorted(logged(tmp_path / "clip.parquet")["rpm"]) == sorted(expected)


def test_a_clip_has_the_marks_of_its_time(tmp_path: Path) -> None:
    events = [{"kind": "mark", "at": utc_text(at(frame)), "text": f"{frame}"} for frame in range(6)]
    metadata = {**new_metadata(), "events": [*events, {"kind": "mark", "text": "when?"}]}
    path = write_session(tmp_path / "s.parquet", make_rows(6), metadata)
    for number, (start, end) in enumerate([(0, 2), (2, 4), (4, 6)]):
        output = tmp_path / f"clip{number}.parquet"
        with dgrec.open(path) as session:
            write_clip(session, [Span(start, end)], output)
        with dgrec.open(output) as session:
            texts = [event["text"] for event in session.metadata["events"]]
        assert texts == [str(start), str(start + 1), "when?"]


# --- files from elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "note",
    [
        "x",
        [1],
        [["a", 1]],
        [["a", "1", 1.0]],
        [["a" * 1000, 1, 1.0]],
        [["a", 2**62, 1.0]],
        [["a", True, 1.0]],
    ],
)
def test_a_journal_s_signals_are_checked(tmp_path: Path, note: Any) -> None:
    path = tmp_path / "s.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    writer.write(make_rows(2))
    writer.write([], signals=note)
    writer.close()
    with dgrec.open(path) as session:
        assert len(session) == 2
        assert len(session.damage) == 1
    assert logged(path) == {}


def test_stamps_beyond_all_dates_do_no_harm(tmp_path: Path) -> None:
    row = make_row(0, signals=[Signal("far", 2**62, 1.0), Signal("rpm", at(0), 2.0)])
    sealed = write_session(tmp_path / "s.parquet", [row])
    metadata = pq.read_metadata(sealed).metadata[METADATA_KEY]
    table = pq.ParquetFile(sealed).read()
    column = table["signals"].combine_chunks()
    items = column.flatten()
    far = pa.array([2**62, at(0) // 1000]).view(items.type.field("at").type)
    names, _, values = items.flatten()
    items = pa.StructArray.from_arrays([names, far, values], fields=list(items.type))
    changed = pa.ListArray.from_arrays(column.offsets, items, type=column.type)
    index = table.schema.get_field_index("signals")
    table = table.set_column(index, table.schema.field(index), changed)
    with pq.ParquetWriter(sealed, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA_KEY: metadata})
    with dgrec.open(sealed) as session:
        assert [s["name"] for s in session.row(0)["signals"]] == ["far", "rpm"]
    assert logged(sealed)["rpm"] == [2.0]


def test_numbers_that_are_not_finite_are_no_signals(tmp_path: Path) -> None:
    row = make_row(0, signals=[Signal("rpm", at(0), math.nan), Signal("rpm", at(0), 2.0)])
    assert logged(write_session(tmp_path / "s.parquet", [row])) == {"rpm": [2.0]}


# --- views -------------------------------------------------------------------------------------


def test_what_an_accelerator_reports_is_a_signal(tmp_path: Path) -> None:
    timing = {
        "DeviceInferenceDuration_ms": 4.0,
        "DeviceTemperature_C": 51.5,
        "DeviceFrequency_MHz": 800.0,
        "CoreInferenceDuration_ms": 5.0,
    }
    path = write_session(tmp_path / "s.parquet", make_rows(3, timing=timing))
    assert logged(path) == {
        "DeviceFrequency_MHz": [800.0] * 3,
        "DeviceTemperature_C": [51.5] * 3,
    }
    assert frames_of(path, "DeviceTemperature_C") == [0, 1, 2]


def test_events_are_a_view(tmp_path: Path) -> None:
    gap = {
        "kind": "gap",
        "from": "2026-01-02T03:04:05.800000Z",
        "to": "2026-01-02T03:04:06Z",
        "seconds": 0.2,
        "source_frame": 4,
        "back": True,
        "attempts": 1,
        "reason": "no frame came",
    }
    mark = {"kind": "mark", "at": "2026-01-02T03:04:05.700000Z", "text": "lamp on"}
    writer = JournalWriter(tmp_path / "s.arrows", new_metadata(), durability="never")
    writer.write(make_rows(6), events=[gap, mark])
    writer.close()
    seal(Journal.open(tmp_path / "s.arrows"), tmp_path / "s.parquet")
    query = "SELECT kind, epoch_ms(to_at) - epoch_ms(from_at), frame, text, details FROM events"
    for path in (tmp_path / "s.arrows", tmp_path / "s.parquet"):
        with dgrec.open(path) as session:
            found = session.sql(f"{query} ORDER BY from_at").fetchall()
        assert [row[:4] for row in found] == [
            ("mark", 0, 0, "lamp on"),
            ("gap", 200, 3, "no frame came"),
        ]
        assert found[0][4] == "{}"
        assert json.loads(found[1][4]) == {
            "seconds": 0.2,
            "source_frame": 4,
            "back": True,
            "attempts": 1,
        }


def test_the_bound_is_that_of_the_metadata() -> None:
    assert MOST_WITHOUT_ROW == 100_000, "longer lists of metadata are cut when they are read"


def test_a_journal_without_signals_has_none(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "s.arrows", make_rows(4))
    with dgrec.open(path) as session:
        assert [row.row["signals"] for row in session] == [None] * 4
    assert "signals" not in session.metadata


# --- what shows them ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session with two signals and a mark, whose names are markup."""
    rows = [
        make_row(i, [], signals=[Signal("rpm", at(i), 50.0 * i), Signal("<b>load", at(i), 0.5)])
        for i in range(30)
    ]
    mark = {"kind": "mark", "at": utc_text(at(15)), "text": "lamp <b>on"}
    metadata = {**new_metadata(), "events": [mark]}
    return write_session(tmp_path_factory.mktemp("marked") / "s.parquet", rows, metadata)


def test_info_counts_them(marked: Path) -> None:
    with dgrec.open(marked) as session:
        assert session.metadata["totals"]["signals"] == 60
        info = describe(session)
        assert info["signals"] == {"<b>load": 30, "rpm": 30}
        sections = {section.title: section.rows for section in _sections(info)}
    assert sections["Signals"] == [("<b>load", "30 values"), ("rpm", "30 values")]
    assert sections["Marks"] == [(utc_text(at(15)), "lamp <b>on")]
    with dgrec.open(DATA / "format-1.parquet") as session:
        assert describe(session)["signals"] == {}


@pytest.mark.slow
def test_the_report_draws_them(marked: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    with dgrec.open(marked) as session:
        write_report(session, output)
    page = ReportPage(output)
    assert {row["name"] for row in page.plots["signals"]} == {"<b>load", "rpm"}
    second = (at(15) // 1000 - START_NS // 1000) / 1e6
    marks = [row for row in page.plots["latency"] if "mark" in row]
    assert marks == [{"second": second, "mark": "lamp <b>on"}]


@pytest.mark.slow
def test_a_report_without_signals_does_not_mention_them(tmp_path: Path) -> None:
    path, output = write_session(tmp_path / "s.parquet", make_rows(30)), tmp_path / "report.html"
    with dgrec.open(path) as session:
        write_report(session, output)
    text = ReportPage(output).text
    assert "What was logged" not in text
    assert "SQL of the marks" not in text
    assert "Latency over time" in text


@pytest.mark.slow
def test_a_plot_of_them_is_a_picture(marked: Path, tmp_path: Path) -> None:
    output = tmp_path / "signals.png"
    with dgrec.open(marked) as session:
        write_plot(session, "signals", output)
    picture = cv2.imread(str(output))
    assert (picture == (178, 114, 0)).all(axis=2).any(), "the line, in blue"

"""The journal: whatever happens to it, what is read is what was written, and the rest is named."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import dgrec.format.journal as journal_module
import dgrec.format.messages as messages_module
from dgrec.errors import (
    DgrecError,
    FormatVersionError,
    NotASessionError,
    OutputError,
    SessionError,
)
from dgrec.format import SCHEMA, Journal, JournalTail, JournalWriter, is_being_written, seal
from dgrec.format.encode import build_batch
from dgrec.format.messages import whole_messages
from dgrec.format.schema import FORMAT_VERSION
from dgrec.session import open_session, rows_of
from tests.dgrec.damage import read_all, wrong_rows
from tests.factory import (
    CLOSING,
    make_row,
    make_rows,
    new_metadata,
    smooth_boxes,
    write_journal,
    write_session,
)

ROWS = [make_row(i, results) for i, results in enumerate(smooth_boxes(12, 2))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a journal of 12 frames in 4 batches, ended properly."""
    return write_journal(tmp_path_factory.mktemp("journal") / "whole.arrows", ROWS, batch=3)


@pytest.fixture(scope="module")
def expected(whole: Path) -> list[dict[str, Any]]:
    rows, damage = read_all(whole)
    assert len(rows) == 12
    assert damage == []
    return rows


def batch_ends(path: Path, rows: int, batch: int) -> list[int]:
    """Return the size of the file after the head and after each batch, as the writer tells it."""
    ends = []
    writer = JournalWriter(path, new_metadata(), durability="never")
    ends.append(writer.bytes_written)
    for start in range(0, rows, batch):
        writer.write(ROWS[start : start + batch])
        ends.append(writer.bytes_written)
    writer.close()
    return ends


def check(data: bytes, path: Path, expected: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Read ``data`` as a journal; return (number of rows, damage)."""
    path.write_bytes(data)
    rows, damage = read_all(path)
    assert wrong_rows(rows, expected) == []
    return len(rows), damage


# --- what it is --------------------------------------------------------------------------------


def test_any_arrow_reader_takes_it(whole: Path, expected: list[dict[str, Any]]) -> None:
    with pa.ipc.open_stream(whole) as stream:
        assert stream.schema.equals(SCHEMA)
        assert json.loads(stream.schema.metadata[b"dgrec"])["name"] == "test"
        assert stream.read_all().to_pylist() == expected


def test_a_journal_without_an_end_too(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    path = write_journal(tmp_path / "a.arrows", ROWS, end=False)
    with pa.ipc.open_stream(path) as stream:
        assert stream.read_all().to_pylist() == expected
    journal = Journal.open(path)
    assert sum(batch.num_rows for batch in journal.batches()) == 12
    assert journal.closing is None
    assert journal.damage == []


def test_what_the_recorder_says_at_the_end(whole: Path) -> None:
    journal = Journal.open(whole)
    assert journal.closing is None
    list(journal.batches())
    assert journal.closing == CLOSING


def test_events_between_batches(tmp_path: Path) -> None:
    with_events = tmp_path / "a.arrows"
    writer = JournalWriter(with_events, new_metadata(), durability="never")
    writer.write(ROWS[:3], events=[{"kind": "reconnect"}])
    writer.write([], events=[{"kind": "second"}])
    writer.end(CLOSING)
    writer.close()
    journal = Journal.open(with_events)
    assert [batch.num_rows for batch in journal.batches()] == [3]
    assert journal.events == [{"kind": "reconnect"}, {"kind": "second"}]


def test_small_batches_come_together_and_are_found_alone(
    whole: Path, expected: list[dict[str, Any]]
) -> None:
    journal = Journal.open(whole)
    assert [batch.to_pylist() for batch in journal.batches()] == [expected]
    assert [row for row, _ in journal.places] == [0, 3, 6, 9]
    found = [journal.batch_at(row) for row in range(12)]
    assert [place and (place[0], place[1].to_pylist()) for place in found] == [
        (row // 3 * 3, expected[row // 3 * 3 :][:3]) for row in range(12)
    ]


def test_a_pass_that_stops_early_changes_nothing(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_TOGETHER_BYTES", 0)
    session = open_session(whole)
    session.result(0)
    next(iter(session))
    assert session.metadata["end_reason"] == "finished"
    journal = Journal.open(whole)
    list(journal.batches())
    passes = journal.batches(), journal.batches()
    assert [[b.num_rows for b in pair] for pair in zip(*passes, strict=True)] == [[3, 3]] * 4


def test_one_bad_batch_among_small_ones(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    """Stamps beyond all dates are looked for in many batches at once."""
    path = tmp_path / "a.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    writer.write(ROWS[:3])
    at = writer.bytes_written
    good = build_batch(ROWS[3:6], 3)
    never = pa.array([2**62] * 3).view(SCHEMA.field("captured_at").type)
    columns = {**dict(zip(SCHEMA.names, good.columns, strict=True)), "captured_at": never}
    bad = pa.RecordBatch.from_arrays(list(columns.values()), schema=SCHEMA)
    writer._put(writer._encode(bad, {}))
    writer.frames += 3
    writer._sequence += 1
    writer.write(ROWS[6:9])
    writer.end(CLOSING)
    writer.close()
    journal = Journal.open(path)
    assert [batch.to_pylist() for batch in journal.batches()] == [expected[:3] + expected[6:9]]
    damage = [f"the message at byte {at:,} cannot be decoded", "frames 3 to 5 are lost"]
    assert journal.damage == damage


def test_a_tail_that_is_left_early_loses_no_rows(
    whole: Path, expected: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_TOGETHER_BYTES", 0)
    tail = JournalTail(whole)
    first = next(iter(tail.read())).to_pylist()
    rest = [row for batch in tail.read() for row in batch.to_pylist()]
    tail.close()
    assert first + rest == expected


def test_counts(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a.arrows", new_metadata(), durability="flush")
    writer.write(ROWS[:5])
    writer.write(ROWS[5:])
    assert (writer.frames, writer.detections, writer.flushes) == (12, 24, 2)
    assert writer.bytes_written == (tmp_path / "a.arrows").stat().st_size
    writer.close()
    writer.close()


# --- cut, flipped, overwritten -----------------------------------------------------------------


@pytest.mark.slow
def test_cut_anywhere(tmp_path: Path) -> None:
    """Thousands of times: batches are compared as they are, without Python values."""
    path = write_journal(tmp_path / "small.arrows", ROWS[:4], batch=2)
    data = path.read_bytes()
    written = pa.Table.from_batches(Journal.open(path).batches())
    borders = message_ends(data)
    batch_borders = borders[2:4]  # after the schema and the empty batch; the end note follows
    # Every byte around a border; elsewhere a place is as good as the next one.
    near = {end + by for end in borders for by in range(-100, 100)}
    for size in sorted({*range(0, len(data), 7), *near} & {*range(len(data))}, reverse=True):
        os.truncate(path, size)
        try:
            journal = Journal.open(path)
            rows = pa.Table.from_batches(journal.batches(), written.schema)
            damage = journal.damage
        except NotASessionError as error:
            rows, damage = written[:0], [str(error)]
        complete = sum(end <= size for end in batch_borders)
        assert rows.equals(written[: 2 * complete]), size
        # At a border nothing is missing that anybody could know of.
        assert damage or size in borders or size >= len(data) - 8, f"cut at {size}: not reported"


def message_ends(data: bytes) -> list[int]:
    """Return where each message of an Arrow stream ends."""
    stream = pa.BufferReader(data)
    ends = []
    while True:
        try:
            pa.ipc.read_message(stream)
        except EOFError:
            return ends
        ends.append(stream.tell())


@pytest.mark.slow
def test_bit_flips(whole: Path, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    data = whole.read_bytes()
    rng = random.Random(7)
    end_of_stream = len(data) - 8
    for _ in range(300):
        at, bit = rng.randrange(len(data)), rng.randrange(8)
        changed = bytearray(data)
        changed[at] ^= 1 << bit
        count, damage = check(bytes(changed), tmp_path / "flip.arrows", expected)
        assert damage, f"bit {bit} of byte {at} is not reported"
        # One batch at the most is lost, and none by a flip in the head or in the end mark.
        assert count >= 9
        if at >= end_of_stream:
            assert count == 12


def test_a_damaged_head_costs_only_the_metadata(
    whole: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    data = bytearray(whole.read_bytes())
    at = data.index(b'"session_id"')
    data[at : at + 300] = os.urandom(300)
    count, damage = check(bytes(data), tmp_path / "head.arrows", expected)
    assert count == 12
    assert any("head is damaged" in line for line in damage)


@pytest.mark.parametrize("junk", ["random", "zeros", "ones", "own", "older"])
def test_garbage_where_the_end_was(
    junk: str, whole: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A torn write: blocks of the file hold what was on the disk before."""
    data = whole.read_bytes()
    older_rows = make_rows(12)
    older = write_journal(tmp_path / "older.arrows", older_rows, batch=3).read_bytes()
    rng = random.Random(3)
    head = message_ends(data)[0]
    for _ in range(40):
        # Without the head nobody can tell an older session's batches from this one's.
        at = rng.randrange(head if junk == "older" else 0, len(data)) // 8 * 8
        size = rng.randrange(1, 6000)
        start = rng.randrange(max(1, len(data) - size)) // 8 * 8
        garbage = {
            "random": rng.randbytes(size),
            "zeros": bytes(size),
            "ones": b"\xff" * size,
            "own": data[start : start + size],
            # Whole batches with valid checksums, of another session.
            "older": older[start:],
        }[junk]
        _, damage = check(data[:at] + garbage, tmp_path / "torn.arrows", expected)
        assert damage or garbage == data[at:]


def test_batches_of_another_session_are_not_taken(
    whole: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    older = write_journal(tmp_path / "older.arrows", make_rows(30), batch=3).read_bytes()
    count, damage = check(whole.read_bytes() + older, tmp_path / "both.arrows", expected)
    assert count == 12
    assert any("another session" in line for line in damage)


def test_a_batch_that_is_there_twice(
    whole: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    data = whole.read_bytes()
    ends = batch_ends(tmp_path / "b.arrows", 12, 3)
    doubled = data[: ends[2]] + data[ends[1] : ends[2]] + data[ends[2] :]
    count, damage = check(doubled, tmp_path / "doubled.arrows", expected)
    assert count == 12
    assert any("twice" in line for line in damage)


def test_lost_frames_are_counted(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    ends = batch_ends(tmp_path / "b.arrows", 12, 3)
    path = tmp_path / "hole.arrows"
    path.write_bytes(data[: ends[1]] + data[ends[2] :])
    journal = Journal.open(path)
    assert sum(batch.num_rows for batch in journal.batches()) == 9
    assert journal.lost_frames == 3
    assert journal.damage == ["frames 3 to 5 are lost"]


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\xff" * 4, b"\xff" * 4096, bytes(4096), b"PAR1" + bytes(100), b"# text\n" * 99],
    ids=["empty", "x", "mark", "marks", "zeros", "parquet", "text"],
)
def test_what_is_no_journal(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.arrows"
    path.write_bytes(content)
    with pytest.raises(NotASessionError, match=r"a\.arrows"):
        open_session(path)


def test_an_arrow_stream_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "a.arrows"
    table = pa.table({"x": [1, 2, 3]})
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(NotASessionError):
        open_session(path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    newer = new_metadata(format={"name": "dgrec", "version": FORMAT_VERSION + 1})
    path = write_journal(tmp_path / "a.arrows", ROWS, newer)
    with pytest.raises(FormatVersionError, match=f"{FORMAT_VERSION + 1}.*up to {FORMAT_VERSION}"):
        open_session(path)


# --- while it is being written -----------------------------------------------------------------


def test_a_growing_journal_can_be_read(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    path = tmp_path / "a.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    assert len(open_session(path)) == 0
    for start in range(0, 12, 3):
        writer.write(ROWS[start : start + 3])
        rows, damage = read_all(path)
        assert rows == expected[: start + 3]
        assert damage == []
    writer.end(CLOSING)
    writer.close()
    assert read_all(path) == (expected, [])


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_journal_that_is_sealed_while_it_is_open_shows_the_same(
    tmp_path: Path, asked_before: bool
) -> None:
    path = tmp_path / "a.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    writer.write(ROWS[:5])
    writer.write(ROWS[5:9])
    query = "SELECT count(*), max(frame) FROM frames"
    with open_session(path) as session:
        expected = session.frames, session.detections
        if asked_before:
            assert session.sql_rows(query) == [(9, 8)]
            assert session[2].frame == 2
        writer.write(ROWS[9:12])
        writer.end(CLOSING)
        seal(Journal.open(path), path.with_suffix(".parquet"))
        writer.close()
        path.unlink()
        assert (session.frames, session.detections) == expected
        assert [result.frame for result in session] == list(range(9))
        assert [session[i].frame for i in (8, 0, 2)] == [8, 0, 2]
        some = session.batches(["frame"], 4, 7)
        assert [frame for batch in some for frame in batch["frame"].to_pylist()] == [4, 5, 6]
        (whole,) = session.batches(["detections.label"], 0, 2)
        assert whole.column("detections").type == SCHEMA.field("detections").type
        assert session.sql_rows(query) == [(9, 8)]
        assert session.files == (path.with_suffix(".parquet"),)
        # Another recording has the name by now.
        path.with_suffix(".parquet").unlink()
        write_session(path.with_suffix(".parquet"), ROWS, new_metadata("other"))
        with pytest.raises(SessionError, match=r"no longer exists: it was sealed to a\.parquet"):
            list(session)


def test_all_looks_at_a_growing_journal_show_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    writer.write(ROWS[:5])
    with open_session(path) as session:
        writer.write(ROWS[5:9])
        assert len(session) == 5
        assert session.frames.num_rows == 5
        assert sum(1 for _ in session) == 5
        assert session.sql("SELECT count(*), max(frame) FROM frames").fetchall() == [(5, 4)]
        path.unlink()
        with pytest.raises(SessionError, match=r"a\.arrows: no longer exists: it was removed"):
            list(session)
        with pytest.raises(SessionError, match=r"a\.arrows: no longer exists: it was removed"):
            session[2]
        path.with_suffix(".parquet").touch()
        with pytest.raises(SessionError, match=r"it was sealed to a\.parquet"):
            list(session)
        with pytest.raises(SessionError, match=r"it was sealed to a\.parquet"):
            list(session.batches(start=4))
    writer.close()


def test_only_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    with pytest.raises(OutputError, match="exists already"):
        JournalWriter(path, new_metadata())
    writer.close()
    with pytest.raises(OutputError, match="exists already"):
        JournalWriter(path, new_metadata())


def test_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "a.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    assert is_being_written(path)
    assert is_being_written(path)
    writer.close()
    assert not is_being_written(path)
    assert not is_being_written(tmp_path / "missing.arrows")


@pytest.mark.slow
def test_a_killed_writer_leaves_a_readable_journal(tmp_path: Path) -> None:
    path = tmp_path / "a.arrows"
    code = (
        "import os, pathlib, sys\n"
        "from dgrec.format import JournalWriter\n"
        "from tests.factory import make_rows, new_metadata\n"
        "writer = JournalWriter(pathlib.Path(sys.argv[1]), new_metadata(), durability='never')\n"
        "writer.write(make_rows(7))\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_being_written(path)
        process.kill()
    assert not is_being_written(path)
    session = open_session(path)
    assert len(session) == 7
    assert session.damage == []


@pytest.mark.parametrize("path", ["missing/a.arrows", "."])
def test_a_path_that_cannot_be_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutputError):
        JournalWriter(tmp_path / path, new_metadata())


FULL_DISK = """
import pathlib, resource, signal, sys
from dgrec.errors import OutputError
from dgrec.format import JournalWriter
from tests.factory import CLOSING, make_rows, new_metadata
path, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
writer = JournalWriter(path, new_metadata(), durability="never")
try:
    while True:
        writer.write(make_rows(10))
except OutputError as error:
    print(writer.frames, error)
# Room again, as when somebody has cleaned up: the same rows are tried once more.
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
if sys.argv[3] == "again":
    writer.write(make_rows(10))
    writer.end(CLOSING)
"""


@pytest.mark.slow
@pytest.mark.parametrize("again", ["again", "not"])
def test_a_full_disk_costs_nothing_that_was_written(tmp_path: Path, again: str) -> None:
    path = tmp_path / "a.arrows"
    command = [sys.executable, "-c", FULL_DISK, str(path), "50000", again]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    frames = int(output.split()[0])
    assert frames >= 20
    assert "cannot be written" in output
    session = open_session(path)
    assert session.damage == []
    assert len(session) == frames + 10 * (again == "again")
    assert [frame.frame for frame in session] == list(range(len(session)))


@pytest.mark.slow
def test_a_disk_that_is_full_from_the_start_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.arrows"
    command = [sys.executable, "-c", FULL_DISK, str(path), "100", "not"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "StorageError" in failed.stderr
    assert list(tmp_path.iterdir()) == []


def test_rows_that_cannot_be_built_leave_the_journal_as_it_was(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a.arrows", new_metadata(), durability="never")
    writer.write(ROWS[:2])
    broken = make_row(2)
    broken.width = "wide"  # type: ignore[assignment]
    with pytest.raises((pa.ArrowException, TypeError, ValueError)):
        writer.write([broken])
    writer.write(ROWS[2:4])
    writer.end(CLOSING)
    writer.close()
    session = open_session(tmp_path / "a.arrows")
    assert (len(session), session.damage) == (4, [])


def test_errors_are_dgrecs_own(tmp_path: Path) -> None:
    with pytest.raises(DgrecError, match="cannot be read"):
        open_session(tmp_path / "missing.arrows")
    with pytest.raises(DgrecError, match="cannot be read"):
        open_session(tmp_path)


# --- how long a search takes ---


class Counted(io.FileIO):
    """Counts the bytes that are read."""

    count = 0

    def readinto(self, buffer: Any) -> Any:
        read = super().readinto(buffer)
        self.count += read or 0
        return read


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], tuple[int, list[Any]]]:
    """Return how many bytes of a journal are read and summed up to find its messages, and those."""
    count = 0

    def pread(file: int, size: int, at: int, real: Any = os.pread) -> bytes:
        nonlocal count
        data: bytes = real(file, size, at)
        count += len(data)
        return data

    def preadv(file: int, buffers: list[Any], at: int, real: Any = os.preadv) -> int:
        nonlocal count
        read: int = real(file, buffers, at)
        count += read
        return read

    def crc32(data: Any, start: int = 0, real: Any = zlib.crc32) -> int:
        nonlocal count
        count += len(data)
        value: int = real(data, start)
        return value

    def look(path: Path) -> tuple[int, list[Any]]:
        nonlocal count
        count = 0
        with monkeypatch.context() as patch, BufferedReader(raw := Counted(path), 1 << 16) as file:
            patch.setattr(os, "pread", pread)
            patch.setattr(os, "preadv", preadv)
            patch.setattr(zlib, "crc32", crc32)
            found = list(whole_messages(file))
        return count + raw.count, found

    return look


def _head(message: bytes, length: int) -> bytes:
    return message[:length].ljust(length, b"\0")


#: What may stand in a journal for a megabyte, from what a message looks like.
GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda _: bytes(8),
    "erased flash": lambda _: b"\xff" * 8,
    "ends of streams": lambda _: b"\xff\xff\xff\xff\0\0\0\0",
    "short headers": lambda _: b"\xff\xff\xff\xff\x10\0\0\0",
    "long headers": lambda _: b"\xff\xff\xff\xff\0\0\x0f\0",
    "beginnings of messages": lambda message: _head(message, 64),
    "heads of messages": lambda message: _head(message, 2048),
    "torn messages": lambda message: _head(message, len(message) // 16 * 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", GARBAGE)
def test_searching_is_linear(
    tmp_path: Path, kind: str, looked_at: Callable[[Path], tuple[int, list[Any]]]
) -> None:
    path = write_journal(tmp_path / "a.arrows", make_rows(12), batch=4)
    whole = path.read_bytes()
    starts = [start for start, _, _ in looked_at(path)[1]]
    second, third = starts[2], starts[3]  # after the schema and a batch without rows
    work = []
    for size in (1 << 19, 1 << 20):
        unit = GARBAGE[kind](whole[second:third])
        path.write_bytes(
            whole[:third] + unit * (size // len(unit)) + bytes(-third % 8) + whole[third:]
        )
        count, found = looked_at(path)
        assert sum(message is not None for _, message, _ in found) == len(starts)
        assert sum(batch.num_rows for batch in Journal.open(path).batches()) == 12
        work.append(count)
        assert count < 10 * size
    assert work[1] < 2.5 * work[0]


def test_a_journal_made_to_be_searched_for_ever(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looked_at: Callable[[Path], tuple[int, list[Any]]],
) -> None:
    """Each of many messages claims all that follows: the search ends, and says what it left."""
    monkeypatch.setattr(messages_module, "_IN_VAIN", 1 << 20)
    path = write_journal(tmp_path / "a.arrows", make_rows(8), batch=4)
    whole = path.read_bytes()
    starts = [start for start, _, _ in looked_at(path)[1]]
    message = bytearray(whole[starts[2] : starts[3]])
    header_length = int.from_bytes(message[4:8], "little")
    at = message.index(struct.pack("<q", len(message) - 8 - header_length))
    unit = 8 + header_length
    count = (1 << 20) // unit
    hostile = bytearray()
    for number in range(count):
        message[at : at + 8] = struct.pack("<q", (count - 1 - number) * unit)
        hostile += message[:unit]
    path.write_bytes(whole[: starts[3]] + hostile + whole[starts[3] :])
    count, found = looked_at(path)
    size = path.stat().st_size
    assert size > 1 << 20
    assert count < 40 * size + (4 << 20)
    assert found[-1][1] is None
    assert found[-1][2] > 0
    journal = Journal.open(path)
    assert sum(batch.num_rows for batch in journal.batches()) == 4
    assert journal.damage


def test_a_few_rows_are_read_without_those_before(
    whole: Path, expected: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_session(whole) as session:

        def refuse(_: Journal) -> None:
            raise AssertionError("all of it is read")

        monkeypatch.setattr(Journal, "batches", refuse)
        for start in range(1, 12):
            for end in range(start + 1, 13):
                found = [
                    row for batch in session.batches(None, start, end) for row in rows_of(batch)
                ]
                assert found == expected[start:end], (start, end)

"""Recordings that followed one another become one: rows, numbers, times, videos."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import dgrec
from dgrec import sample
from dgrec.alerts import alerts_of, parse_rules
from dgrec.cli import gather
from dgrec.footage import session_times
from dgrec.format import SCHEMA, JournalWriter, Signal, build_batch, cuts_of, write_sealed
from dgrec.paths import part_path
from dgrec.replay.clip import Span, write_clip
from dgrec.replay.merging import merge
from dgrec.replay.stats.caveats import caveats
from dgrec.replay.verify import verify
from dgrec.session import Runs, open_sessions
from dgrec.video import VideoReader
from tests.factory import CAMERA, edited, later, make_rows, new_metadata, write_session
from tests.replay.clips import file_source, number_in, numbered_metadata, numbered_row
from tests.replay.clips import write_clip as write_numbered
from tests.test_gaps import rows_of

SECOND = 1_000_000_000


def run(*arguments: object) -> Result:
    return CliRunner().invoke(gather(), [str(argument) for argument in arguments])


def recording(path: Path, seconds: int, *, frames: int = 20, **metadata: Any) -> Path:
    """Write a session of a camera that began ``seconds`` after the first one."""
    rows = [later(row, seconds * SECOND) for row in make_rows(frames)]
    return write_session(path, rows, new_metadata(path.stem, **{"source": CAMERA, **metadata}))


@pytest.mark.slow
def test_rows_are_joined_in_the_order_of_time(tmp_path: Path) -> None:
    a, b, c = (recording(tmp_path / f"{n}.parquet", 10 * at) for at, n in enumerate("abc"))
    output = tmp_path / "all.parquet"
    said = run("merge", c, a, b, "-o", output)
    assert said.exit_code == 0, said.output
    assert said.output == f"{output}: 60 frames from 3 recordings\n"
    assert verify(output) == []
    wanted = [row for path in (a, b, c) for row in rows_of(path)]
    found = rows_of(output)
    same = set(found[0]) - {"frame", "source_frame", "media_time_s"}
    assert [{k: row[k] for k in same} for row in found] == [
        {k: row[k] for k in same} for row in wanted
    ]
    assert [row["frame"] for row in found] == list(range(60))
    assert [row["source_frame"] for row in found] == list(range(60))
    # The source's time goes on as the clock did.
    stamps = [row["captured_at"].timestamp() for row in found]
    times = [row["media_time_s"] for row in found]
    np.testing.assert_allclose(np.diff(times), np.diff(stamps), atol=2e-6)
    with dgrec.open(output) as session:
        assert session.totals["frames"] == 60
        gaps = [event for event in session.metadata["events"] if event["kind"] == "gap"]
        assert [(gap["source_frame"], round(gap["seconds"])) for gap in gaps] == [(20, 9), (40, 9)]
        assert [each["name"] for each in session.metadata["clip"]["merged"]] == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.parquet", "all.parquet", "b.parquet", "c.parquet"
    ]  # fmt: skip


def test_a_recording_in_progress_is_refused(tmp_path: Path) -> None:
    a = recording(tmp_path / "a.parquet", 0)
    writer = JournalWriter(tmp_path / "b.arrows", new_metadata("b", source=CAMERA))
    try:
        writer.write([later(row, 10 * SECOND) for row in make_rows(5)])
        said = run("merge", a, tmp_path / "b.arrows", "-o", tmp_path / "all.parquet")
    finally:
        writer.close()
    assert said.exit_code == 1
    assert said.stderr == (
        f"Error: {tmp_path / 'b.arrows'}: is being recorded; merge it when it has ended\n"
    )


def test_a_full_disk_names_the_output(tmp_path: Path) -> None:
    a, b = (recording(tmp_path / f"{n}.parquet", 10 * at) for at, n in enumerate("ab"))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        said = run("merge", a, b, "-o", tmp_path / "all.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert said.exit_code == 4
    assert said.stderr == (
        f"Error: {tmp_path / 'all.parquet'}: cannot be written: File too large\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_a_file_system_without_links_names_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded video was said to be unwritable, which is only read."""
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    about = {"source": {"given": "cam0", "kind": "camera"}}
    for path in paths:
        with dgrec.Recorder(path, video="raw", metadata=about) as recorder:
            recorder.add([], np.zeros((48, 64, 3), np.uint8))

    def link(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(target), None, str(path))

    monkeypatch.setattr(Path, "symlink_to", link)
    output = tmp_path / "o.parquet"
    with pytest.raises(dgrec.DgrecError, match="not permitted") as error:
        merge(paths, output)
    assert str(error.value).startswith(f"{output}: ")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".mp4", ".mp4"] + 2 * [".parquet"]


@pytest.mark.slow
def test_a_folder_counts_each_frame_once(tmp_path: Path) -> None:
    a, b = (recording(tmp_path / f"{n}.parquet", 10 * at) for at, n in enumerate("ab"))
    output = tmp_path / "merged.parquet"
    merge([a, b], output)
    said: list[str] = []
    for left, wanted in ((a, [a, b]), (b, [output])):
        opened = open_sessions([tmp_path], on_clip=said.append)
        assert sorted(session.path for session in opened) == wanted
        for session in opened:
            session.close()
        if left == a:
            a.unlink()
    assert said == [
        f"{output}: its frames are also in {a}; left out",
        f"{b}: its frames are also in {output}; left out",
    ]


@pytest.mark.slow
def test_recordings_in_parts_and_imported_ones(tmp_path: Path) -> None:
    for number in (1, 2):
        first = 20 * (number - 1)
        rows = [
            later(row, number * SECOND)._replace(source_frame=first + at)
            for at, row in enumerate(make_rows(20))
        ]
        part = {"number": number, "set_id": "s", "first_frame": first}
        about = new_metadata("p", part=part, source=CAMERA, session_id=f"part{number}")
        path = part_path(tmp_path / "p.parquet", number)
        write_sealed(path, SCHEMA, [build_batch(rows, first)], lambda _, about=about: about)
    other = recording(tmp_path / "q.parquet", 60)
    merge([tmp_path / "p.parquet", other], tmp_path / "o.parquet")
    assert verify(tmp_path / "o.parquet") == []
    assert [row["source_frame"] for row in rows_of(tmp_path / "o.parquet")] == list(range(60))
    # Without times, by the numbers of the frames.
    for name, first in (("late", 50), ("early", 3)):
        results = [
            {"image_id": first + n, "category_id": 1, "bbox": [1, 2, 3, 4]} for n in range(5)
        ]
        (tmp_path / "a.json").write_text(json.dumps(results))
        dgrec.import_(tmp_path / "a.json", tmp_path / f"{name}.parquet")
    output = tmp_path / "imported.parquet"
    merge([tmp_path / "late.parquet", tmp_path / "early.parquet"], output)
    assert [row["source_frame"] for row in rows_of(output)] == [*range(3, 8), *range(50, 55)]


def _times_s(path: Path) -> list[float]:
    with dgrec.open(path) as session:
        found: list[float] = (np.concatenate([*session_times(session)]) / 1e6).tolist()
        return found


@pytest.mark.slow
def test_tracks_of_two_recordings_without_times_are_two_tracks(tmp_path: Path) -> None:
    """As imported tables have none: only numbers say that one came after the other."""
    for name, start in (("a", 0), ("b", 100)):
        lines = [f"{start + i},{10 + i},10,{40 + i},40,person,7\n" for i in range(5)]
        table = tmp_path / f"{name}.csv"
        table.write_text("frame,x_min,y_min,x_max,y_max,label,track_id\n" + "".join(lines))
        dgrec.import_(table, tmp_path / f"{name}.parquet", size=(640, 480))
    merge([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "m.parquet")
    with dgrec.open(tmp_path / "m.parquet") as session:
        write_clip(session, [Span(4, 6)], tmp_path / "clip.parquet")
        assert alerts_of(session, parse_rules(["a=count() > 0"])) == []
        session.export(tmp_path / "t.txt")
    assert verify(tmp_path / "m.parquet") == []
    for name, frames in (("m", 5), ("clip", 1)):
        with dgrec.open(tmp_path / f"{name}.parquet") as session:
            found = session.sql_rows("SELECT track_id, run, frames FROM tracks ORDER BY run")
            assert found == [(7, 0, frames), (7, 1, frames)]
            runs = Runs(session.metadata["events"])
            numbers = session.frames.column("source_frame").to_pylist()
            assert [runs.number(number) for number in numbers] == [0] * frames + [1] * frames
    ids = [line.split(",")[1] for line in (tmp_path / "t.txt").read_text().splitlines()]
    assert ids == ["7"] * 5 + ["1"] * 5


@pytest.mark.slow
def test_what_jumps_goes_on_without_a_pause_once_it_is_joined(tmp_path: Path) -> None:
    """Only the time between two recordings is a gap."""
    rows = [  # each with a value between the capture of the frame and its result
        row._replace(signals=[Signal("rpm", row.captured_ns + 1_000_000, float(at))])
        for at, row in enumerate(make_rows(200))
    ]
    moments = {"a": (0, 50), "b": (100, 150)}
    with dgrec.open(write_session(tmp_path / "s.parquet", rows, new_metadata("s"))) as session:
        for name, starts in moments.items():
            spans = [Span(start, start + 10) for start in starts]
            write_clip(session, spans, tmp_path / f"{name}.parquet")
    output = tmp_path / "o.parquet"
    assert merge([tmp_path / "a.parquet", tmp_path / "b.parquet"], output).spans == 2
    again = tmp_path / "again.parquet"
    with dgrec.open(tmp_path / "s.parquet") as session:
        write_clip(session, [Span(180, 185)], tmp_path / "c.parquet")
    merge([output, tmp_path / "c.parquet"], again)
    for path in (output, again):
        with dgrec.open(path) as session:
            assert cuts_of(session.metadata) == [10, 30]
            assert any("A clip of 3 moments" in each for each in caveats(session))
            logged = session.sql_rows("SELECT value FROM signals ORDER BY time")
        # Values until the next frame's result are the moment's.
        every = [start + at for starts in moments.values() for start in starts for at in range(11)]
        assert [value for (value,) in logged][: len(every)] == every
        steps = np.diff(_times_s(path))
        assert (np.flatnonzero(steps > 0.5) + 1).tolist() == [20, 40][: len(steps) // 20]


def test_parts_that_were_removed_leave_no_pause_in_what_is_joined(tmp_path: Path) -> None:
    for number, first in enumerate((100, 300), 1):
        rows = [
            later(row, first * SECOND)._replace(source_frame=first + at)
            for at, row in enumerate(make_rows(10))
        ]
        part = {"number": number, "set_id": "s", "first_frame": first}
        about = {"part": part, "source": CAMERA, "options": {"keep_only": "alerts"}}
        about = new_metadata("p", session_id=f"part{number}", **about)
        write_session(part_path(tmp_path / "p.parquet", number), rows, about)
    last = recording(tmp_path / "last.parquet", 600)
    output = tmp_path / "o.parquet"
    merge([tmp_path / "p.parquet", last], output)
    with dgrec.open(tmp_path / "p.parquet") as parts, dgrec.open(output) as session:
        assert cuts_of(parts.metadata) == [300]
        assert cuts_of(session.metadata) == [10]
    assert (np.flatnonzero(np.diff(_times_s(output)) > 0.5) + 1).tolist() == [20]


def _pixels_of(path: Path, most: int | None = None) -> tuple[str, list[np.ndarray[Any, Any]]]:
    """Return where the pixels of a session's rows come from, and their pictures."""
    with dgrec.open(path) as session:
        pixels = session.pixels()
        found = [np.array(result.image) for result in islice(pixels.results(session), most)]
        assert pixels.missing == 0
        return pixels.footage.column, found


@pytest.mark.slow
def test_pixels_stay_with_their_rows(tmp_path: Path) -> None:
    """Of clips with videos of their own, joined, and of footage that was read again."""
    spans = {"a": (0, 12), "b": (100, 115), "again": (5, 15)}
    with dgrec.open(sample.SESSION) as session:
        for name, (start, end) in spans.items():
            path = tmp_path / f"{name}.parquet"
            write_clip(session, [Span(start, end)], path, with_video=name != "again")
    _, pictures = _pixels_of(sample.SESSION, 115)
    numbers = [*range(12), *range(100, 115)]
    output = tmp_path / "o.parquet"
    report = merge([tmp_path / "b.parquet", tmp_path / "a.parquet"], output)
    assert [path.name for path, _ in report.videos] == ["o.mp4"]
    assert verify(output) == []
    # Footage that is moved together with a session is found; here only the joined video is.
    edited(output, {}, source={"given": "gone.mp4", "kind": "file", "file": "gone.mp4"})
    column, found = _pixels_of(output)
    assert column == "video_frame"
    for picture, number in zip(found, numbers, strict=True):
        distances = [np.abs(picture.astype(int) - pictures[each]).mean() for each in numbers]
        assert numbers[int(np.argmin(distances))] == number
    # The same frames once more: they are the pictures of a second round.
    second = tmp_path / "second.parquet"
    rows = _later(tmp_path / "again.parquet")
    with dgrec.open(tmp_path / "again.parquet") as session:
        write_sealed(second, SCHEMA, rows, lambda _: {**session.metadata, "session_id": "later"})
    merge([tmp_path / "again.parquet", second], output, overwrite=True)
    assert [row["source_frame"] for row in rows_of(output)] == [*range(5, 15), *range(425, 435)]
    column, found = _pixels_of(output)
    assert column == "source_frame"
    for picture, number in zip(found, [*range(5, 15)] * 2, strict=True):
        np.testing.assert_array_equal(picture, pictures[number])


@pytest.mark.parametrize("name", ["damaged.mp4", "uncounted.mkv"])
def test_footage_is_read_again_by_the_pictures_that_it_has(name: str, tmp_path: Path) -> None:
    """Not by those that its container counts, of which some cannot be decoded, or that it does not
    count."""
    video = write_numbered(tmp_path / name, 20, b_frames=0, group=5)
    lost = 2 if name == "damaged.mp4" else 0
    if lost:
        data = bytearray(video.read_bytes())
        with av.open(str(video)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            places = [(packet.pos, packet.size) for packet in (packets[9], packets[14])]
        for at, size in places:
            data[at : at + size] = b"\0" * size
        video.write_bytes(data)
    reader = VideoReader(video)
    numbers: list[int] = []
    seen = []
    while (picture := reader.read()) is not None:
        numbers.append(number_in(picture.image))
        assert picture.time is not None
        seen.append({"media_time_s": float(picture.time), "dropped_camera": picture.lost_before})
    announced = reader.announced
    reader.release()
    assert len(numbers) == 20 - lost
    assert announced == (20 if lost else None)
    for at, each in enumerate("ab"):
        rows = [
            later(numbered_row(number, number, **facts), at * 10 * SECOND)
            for number, facts in enumerate(seen)
        ]
        source = file_source(video, frames=announced)
        about = numbered_metadata(source, session_id=each)
        write_session(tmp_path / f"{each}.parquet", rows, about)
    output = tmp_path / "all.parquet"
    merge([tmp_path / "a.parquet", tmp_path / "b.parquet"], output)
    assert verify(output) == []
    column, found = _pixels_of(output)
    assert column == "source_frame"
    assert list(map(number_in, found)) == numbers * 2


def _later(path: Path) -> list[pa.RecordBatch]:
    """Return the rows of a session an hour later."""
    hour = pa.scalar(3_600_000_000, pa.duration("us"))
    with dgrec.open(path) as session:
        return [
            pa.RecordBatch.from_arrays(
                [
                    pc.add(batch.column(name), hour) if name.endswith("_at") else batch.column(name)
                    for name in SCHEMA.names
                ],
                schema=SCHEMA,
            )
            for batch in session.batches(SCHEMA.names)
        ]


@pytest.mark.slow
def test_sessions_of_a_program_are_joined(tmp_path: Path) -> None:
    """Their source has the name of their file."""
    a, b, c, d = (tmp_path / f"{name}.parquet" for name in "abcd")
    for path in (a, b, c, d):
        with dgrec.Recorder(path) as recorder:
            recorder.add([])
    once, twice, thrice = (tmp_path / f"{name}.parquet" for name in ("once", "twice", "thrice"))
    merge([a, b], once)
    merge([c, once], twice)
    merge([twice, d], thrice)
    with dgrec.open(thrice) as session:
        assert len(session) == 4
        assert [each["name"] for each in session.metadata["clip"]["merged"]] == ["twice", "d"]
    with dgrec.open(twice) as session:
        assert session.metadata["clip"]["merged"][0]["clip"]["merged"][0]["name"] == "a"


def test_columns_of_other_tools_are_left_out_with_a_note(tmp_path: Path) -> None:
    a, b = recording(tmp_path / "a.parquet", 0), recording(tmp_path / "b.parquet", 9)
    edited(a, {})  # its metadata stands where other tools leave it
    table = pq.read_table(a)
    pq.write_table(table.append_column("weather", pa.array(["sun"] * len(table))), a)
    report = merge([a, b], tmp_path / "o.parquet")
    assert report.notes == ["left out columns of other tools: weather"]


@pytest.mark.slow
def test_what_does_not_follow_one_another_is_refused(tmp_path: Path) -> None:
    a = recording(tmp_path / "a.parquet", 0)
    output = tmp_path / "o.parquet"
    model = new_metadata()["model"]
    for other, message in (
        (recording(tmp_path / "b.parquet", 0, session_id="b"), "at the same time as"),
        (recording(tmp_path / "m.parquet", 9, model={**model, "name": "big"}), "another model"),
        (
            recording(tmp_path / "s.parquet", 9, source={**CAMERA, "given": "cam1"}),
            "another source",
        ),
        (recording(tmp_path / "n.parquet", 9, frames=0), "has no frames"),
        (tmp_path / "no.parquet", "no.parquet: cannot be read"),
        (a, "is the same recording as"),
    ):
        said = run("merge", a, other, "-o", output)
        assert said.exit_code == 1, said.output
        assert message in said.output
        assert not output.exists()
    assert run("merge", a, "-o", output).exit_code == 2
    assert run("merge", a, recording(tmp_path / "c.parquet", 9), "-o", a).exit_code == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

"""Runs that go on with one another: one recording in parts, however often it was cut off."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import av
import pytest

import dgrec
from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError, OutputError
from dgrec.format import JournalWriter, Metadata, SealedFile, utc_ns
from dgrec.paths import part_path
from dgrec.recorder.capture import Capture
from dgrec.recorder.options import Retention, Splitting
from dgrec.recorder.recovery import Recovery, recover
from dgrec.recorder.sources import Frame
from dgrec.recorder.stream import Stream
from dgrec.recorder.writing import Earlier, continuation, find_earlier, recover_parts
from dgrec.recorder.writing import sealer as sealer_module
from dgrec.replay.verify import verify
from tests.factory import (
    CLOSING,
    make_detection,
    make_rows,
    new_metadata,
    write_journal,
    write_session,
)
from tests.recorder.command import Command
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, new_stream
from tests.recorder.test_parts import names
from tests.replay.clips import number_in, write_clip

FRAMES = 5
#: Two rows in a part: three parts a run.
SIZE = 16_400


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer_module, "_CHECK_SECONDS", 0.05)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


class Killed(BaseException):
    """Ends a run where it stands."""


def begin(output: Path, keep: Retention | None = None, **options: Any) -> Stream:
    """Return the next run, as `dgrec record --continue` begins it."""
    recover_parts(output, lambda journal, result: TOLD.append((journal.name, result)))
    earlier = find_earlier(output)
    model = PysdkDouble("DetectionYolo", lambda index: [make_detection(index)])
    metadata = new_metadata("s", **model.describe())
    earlier.check(output, metadata)
    options = {"clock": Clock(after_ns=earlier.completed_ns + 1000), **options}
    return new_stream(
        model,
        Capture(ScriptedFrames(i / 30 for i in range(FRAMES))),
        output,
        metadata,
        durability="frame",
        in_step=True,
        splitting=Splitting(size=SIZE, keep=keep or Retention()),
        earlier=earlier,
        **options,
    )


TOLD: list[tuple[str, Recovery | DgrecError]] = []


def kill(output: Path, after: int = 3, **options: Any) -> None:
    """Make a run that is cut off, by kill -9 as far as its files go."""

    recording = begin(output, **options)
    take = recording.capture.take

    def take_or_die(image: Any) -> Frame:
        frame = take(image)
        if frame.source_frame == after:
            raise Killed
        return frame

    recording.capture.take = take_or_die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        recording.run()
    recording.recorder._writer.close()
    recording.recorder._journal.close()


def columns(output: Path, *wanted: str) -> list[list[Any]]:
    with dgrec.open(output) as session:
        return [session.frames.column(name).to_pylist() for name in wanted]


def metadata_of(output: Path) -> Metadata:
    with dgrec.open(output) as session:
        assert session.damage == []
        return session.metadata


@pytest.mark.slow
def test_three_runs_are_one_recording(output: Path) -> None:
    for _ in range(3):
        begin(output).run()
    assert names(output.parent) == [f"s-000{n}.parquet" for n in range(1, 10)]
    frame, source_frame, media, captured, completed = columns(
        output, "frame", "source_frame", "media_time_s", "captured_at", "completed_at"
    )
    assert frame == source_frame == list(range(3 * FRAMES))
    for stamps in (media, captured, completed):
        assert stamps == sorted(stamps)
        assert len(set(stamps)) == len(stamps)
    # The source's own time goes on by what passed on the clock.
    for first in (FRAMES, 2 * FRAMES):
        passed = (captured[first] - captured[first - 1]).total_seconds()
        assert media[first] - media[first - 1] == pytest.approx(passed, abs=1e-5)
        assert media[first + 1] - media[first] == pytest.approx(1 / 30, abs=1e-9)
    assert verify(output) == []
    metadata = metadata_of(output)
    assert metadata["totals"]["frames"] == 3 * FRAMES
    assert metadata["totals"]["dropped"] == 0
    gaps = [event for event in metadata["events"] if event["kind"] == "gap"]
    assert [(gap["source_frame"], gap["reason"]) for gap in gaps] == [
        (FRAMES, "the recorder was started again"),
        (2 * FRAMES, "the recorder was started again"),
    ]
    for gap in gaps:
        at = gap["source_frame"]
        assert gap["seconds"] == pytest.approx(
            (captured[at] - captured[at - 1]).total_seconds(), abs=0.001
        )
    sets = {metadata_of(path)["part"]["set_id"] for path in output.parent.iterdir()}
    assert sets == {metadata["session_id"]}


@pytest.mark.slow
def test_sql_and_statistics_over_runs(output: Path) -> None:
    for _ in range(2):
        begin(output).run()
    with dgrec.open(output) as session:
        answers = session.sql(
            "SELECT count(*), count(DISTINCT session_id), min(frame), max(frame) FROM frames"
        ).fetchall()
        assert answers == [(2 * FRAMES, 1, 0, 2 * FRAMES - 1)]
        assert [result.frame for result in session] == list(range(2 * FRAMES))
        assert session[FRAMES].results[0]["bbox"] == session[0].results[0]["bbox"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3, 4])
def test_after_a_kill(output: Path, after: int) -> None:
    TOLD.clear()
    kill(output, after)
    left = [name for name in names(output.parent) if name.endswith(".arrows")]
    assert len(left) == 1
    begin(output).run()
    (told,) = TOLD
    assert told[0] == left[0]
    assert isinstance(told[1], Recovery)
    assert not told[1].ended
    assert not [name for name in names(output.parent) if name.endswith(".arrows")]
    frame, source_frame = columns(output, "frame", "source_frame")
    assert frame == source_frame == list(range(after + FRAMES))
    assert verify(output) == []


@pytest.mark.slow
def test_killed_again_and_again(output: Path) -> None:
    for _ in range(4):
        kill(output)
    begin(output).run()
    (frame,) = columns(output, "frame")
    assert frame == list(range(4 * 3 + FRAMES))
    assert len([e for e in metadata_of(output)["events"] if e["kind"] == "gap"]) == 4


def test_a_kill_before_the_first_row(output: Path) -> None:
    kill(output, 0)
    assert names(output.parent) == ["s-0001.arrows"]
    begin(output).run()
    (frame,) = columns(output, "frame")
    assert frame == list(range(FRAMES))
    assert "events" not in metadata_of(output)


@pytest.mark.slow
def test_retention_counts_the_parts_of_all_runs(output: Path) -> None:
    begin(output).run()
    size = sum(path.stat().st_size for path in output.parent.iterdir())
    kill(output)
    recording = begin(output, Retention(total=size))
    recording.run()
    kept = names(output.parent)
    assert sum(path.stat().st_size for path in output.parent.iterdir()) <= size
    assert "s-0001.parquet" not in kept
    assert kept[-1] == "s-0008.parquet"
    assert recording.notes[0].startswith("Parts removed, as asked for: ")
    # What this run recorded is all there, and counted as its own only.
    assert [path.name for path in recording.recorder.files] == kept[
        -len(recording.recorder.files) :
    ]
    frame, _ = columns(output, "frame", "source_frame")
    assert frame == list(range(frame[0], 3 + 2 * FRAMES))
    assert frame[0] > 0


def test_a_copy_takes_no_video_of_the_original_with_it(tmp_path: Path) -> None:
    part = tmp_path / "s-0001.parquet"
    names_video = {**CLOSING, "video": [{"file": "s-0001.mp4", "kind": "raw"}]}
    write_session(part, make_rows(3), other_metadata(), closing=names_video)
    video = tmp_path / "s-0001.mp4"
    video.write_bytes(b"footage")
    shutil.copy(part, tmp_path / "t-0001.parquet")
    for name, left in (("t", [part.name, video.name]), ("s", [])):
        removable = find_earlier(tmp_path / name).parts
        sealer_module.Sealer(Retention(total=1), Clock(), earlier=removable).close()
        assert sorted(names(tmp_path)) == sorted(left)


@pytest.mark.slow
def test_what_took_the_name_of_a_part_is_not_removed(output: Path) -> None:
    begin(output).run()
    part = output.with_name("s-0001.parquet")

    def replace(row: Any, _: Any) -> None:
        if row.source_frame == FRAMES + 2:
            part.unlink()
            write_session(part, make_rows(3))

    recording = begin(output, Retention(total=1), watchers=(replace,))
    # Nothing is removed before: with that limit it would be done at once.
    recording.recorder._journal._sealer._keep = Retention()  # type: ignore[union-attr]
    replacing = recording.recorder._journal._sealer  # type: ignore[union-attr]
    end = recording.recorder._writer.end

    def end_and_keep_less(closing: Any) -> None:
        end(closing)
        replacing._keep = Retention(total=1)

    recording.recorder._writer.end = end_and_keep_less  # type: ignore[method-assign]
    recording.run()
    assert names(output.parent) == ["s-0001.parquet", "s-0006.parquet"]
    assert f"{part}: was replaced by another file; not removed" in recording.notes
    with dgrec.open(part) as session:
        assert len(session) == 3


@pytest.mark.slow
def test_retention_by_age_counts_from_when_a_part_ended(output: Path) -> None:
    begin(output).run()
    hour_ns = 3_600_000_000_000
    later = Clock(utc_ns=lambda: Clock().now_ns() + hour_ns)
    recording = begin(output, Retention(last_s=1800), clock=later)
    recording.run()
    assert names(output.parent) == [f"s-000{n}.parquet" for n in (4, 5, 6)]
    begin(output, Retention(last_s=3 * 3600)).run()
    assert len(names(output.parent)) == 6


@pytest.mark.slow
def test_a_clock_that_was_set_back(output: Path) -> None:
    """A device without a battery for its clock may wake up in the past."""
    ahead_ns = 7_200_000_000_000
    begin(output, clock=Clock(utc_ns=lambda: Clock().now_ns() + ahead_ns)).run()
    recording = begin(output, Retention(last_s=3600))
    recording.run()
    captured, completed = columns(output, "captured_at", "completed_at")
    assert captured == sorted(captured)
    assert completed == sorted(completed)
    assert metadata_of(output)["totals"]["clock_drift_ms"] < -7_100_000
    assert len(names(output.parent)) == 6


def test_what_is_in_the_way_is_numbered_past(output: Path, tmp_path: Path) -> None:
    """A damaged part, a video without a session, somebody's file: nothing stops a service."""
    begin(output).run()
    damaged = tmp_path / "s-0003.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    (tmp_path / "s-0005.mp4").write_bytes(b"footage")
    write_session(tmp_path / "s-0006.parquet", make_rows(3))
    (tmp_path / "s-0007.arrows").write_bytes(b"")
    (tmp_path / "s-0008.annotated.mp4").write_bytes(b"footage")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    begin(output).run()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert sorted({*names(tmp_path)} - {*before}) == [f"s-00{n:02}.parquet" for n in (9, 10, 11)]
    with dgrec.open(output) as session:
        frames = session.frames.column("frame").to_pylist()
        # The frame in the damaged part was number 4: what follows cannot know.
        assert frames == [0, 1, 2, 3, 4, 5, 6, 7, 8]
        assert [line[:6] for line in session.damage] == ["part 3", "part 7"]


@pytest.mark.slow
def test_frames_of_a_part_whose_rows_are_damaged_count(output: Path) -> None:
    begin(output).run()
    before = find_earlier(output)
    media, captured = columns(output, "media_time_s", "captured_at")
    damaged = output.with_name("s-0003.parquet")
    data = bytearray(damaged.read_bytes())
    data[4:104] = bytes(100)  # the first page
    damaged.write_bytes(data)
    after = find_earlier(output)
    assert after.media_time_s == media[-2]
    for name in ("frames", "source_frames", "captured_ns", "completed_ns", "metadata", "parts"):
        assert getattr(after, name) == getattr(before, name), name
    begin(output).run()
    with dgrec.open(output.with_name("s-0004.parquet")) as session:
        row = session.frames.to_pylist()[0]
    assert (row["frame"], row["source_frame"]) == (FRAMES, FRAMES)
    passed_s = (row["captured_at"] - captured[-2]).total_seconds()
    assert row["media_time_s"] == pytest.approx(media[-2] + passed_s, abs=1e-5)
    # It is not kept for longer than others.
    begin(output, Retention(total=1)).run()
    assert len(names(output.parent)) == 1


def test_a_journal_that_cannot_be_sealed_stays_and_is_read(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(output)
    (journal,) = output.parent.glob("*.arrows")
    monkeypatch.setattr("dgrec.recorder.recovery.seal", lambda *_, **__: fail())
    TOLD.clear()
    begin(output).run()
    assert [(name, str(told)) for name, told in TOLD] == [(journal.name, "the disk is full")]
    monkeypatch.undo()
    assert journal.exists()
    (frame,) = columns(output, "frame")
    assert frame == list(range(3 + FRAMES))


def fail() -> None:
    raise OutputError("the disk is full")


@pytest.mark.slow
def test_a_damaged_journal_goes_with_its_part(output: Path) -> None:
    kill(output)
    (journal,) = output.parent.glob("*.arrows")
    os.truncate(journal, journal.stat().st_size - 50)
    begin(output).run()
    assert journal.exists()
    assert journal.with_suffix(".parquet").exists()
    begin(output).run()  # and does not stand in the way
    begin(output, Retention(total=1)).run()
    assert not journal.exists()
    assert len(names(output.parent)) == 1


@pytest.mark.slow
def test_retention_leaves_a_journal_that_could_not_be_sealed(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else holds its rows; but it counts for what all parts take."""
    kill(output)
    (journal,) = output.parent.glob("*.arrows")
    monkeypatch.setattr("dgrec.recorder.recovery.seal", lambda *_, **__: fail())
    begin(output, Retention(total=40_000)).run()  # two parts, or one and the journal
    monkeypatch.undo()
    assert names(output.parent) == [journal.name, "s-0005.parquet"]
    begin(output).run()
    (frame,) = columns(output, "frame")
    assert frame == [2, *range(frame[1], 3 + 2 * FRAMES)]


@pytest.mark.slow
@pytest.mark.parametrize("is_whole", [True, False])
def test_the_journal_of_another_recording_stays(output: Path, is_whole: bool) -> None:
    """One that was to overwrite this one, and was killed before its first part was sealed."""
    begin(output).run()
    other = output.with_name("s-0001.arrows")
    write_journal(other, make_rows(7), other_metadata())
    if not is_whole:
        other.write_bytes(other.read_bytes()[:8])
    before = other.read_bytes()
    begin(output, Retention(total=1)).run()
    assert names(output.parent) == [other.name, "s-0006.parquet"]
    # Sealed, it would be read instead of what is continued.
    begin(output).run()
    assert other.read_bytes() == before
    frame, _ = columns(output, "frame", "source_frame")
    assert frame == list(range(frame[0], 3 * FRAMES))
    assert frame[0] > FRAMES


def other_metadata() -> Metadata:
    part = {"number": 1, "set_id": "other", "first_frame": 0}
    return {**new_metadata("s"), "part": part}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": {"given": "cam1"}}, r"has parts of another source \(.*, not cam1\)"),
        ({"model": {"name": "other"}}, r"has parts of another model \(.*, not other\)"),
    ],
)
def test_another_source_or_model_is_not_mixed(
    output: Path, change: dict[str, dict[str, Any]], message: str
) -> None:
    begin(output).run()
    metadata = metadata_of(output)
    find_earlier(output).check(output, metadata)
    changed = {**metadata, **{key: {**metadata[key], **facts} for key, facts in change.items()}}
    with pytest.raises(ConfigError, match=message):
        find_earlier(output).check(output, changed)
    Earlier().check(output, changed)


def test_footage_that_is_repeated_goes_on_at_its_first_frame(output: Path) -> None:
    begin(output).run()
    earlier = find_earlier(output)
    assert earlier.source_frames == FRAMES
    assert earlier.aligned(output, 4).source_frames == 8
    assert earlier.aligned(output, FRAMES).source_frames == FRAMES
    with pytest.raises(ConfigError, match="does not say how many frames"):
        earlier.aligned(output, None)
    assert Earlier().aligned(output, None) == Earlier()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uneven.mkv", "damaged.mp4"])
def test_repeated_footage_is_counted_where_its_container_does_not_say(
    name: str, tmp_path: Path
) -> None:
    """By its length and rate it would have more pictures; or some cannot be decoded."""
    pts_ms = [0, 40, 400, 440, 480, 900, 940, 980] if name == "uneven.mkv" else None
    video = write_clip(tmp_path / name, 8, pts_ms, b_frames=0, group=4)
    if name == "damaged.mp4":
        data = bytearray(video.read_bytes())
        with av.open(str(video)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        at, size = packets[3].pos, packets[3].size
        data[at : at + size] = b"\0" * size
        video.write_bytes(data)
    command = Command(tmp_path)
    for _ in range(2):
        done = command.record(
            "--source", name, "--output", "s.parquet", "--split-every", "10m", "--continue",
            "--loop", "--max-frames", "10",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    with dgrec.open(tmp_path / "s.parquet") as session:
        pixels = session.pixels()
        assert pixels.footage.path == video
        shown = [number_in(result.image) for result in pixels.results(session)]
    pictures = [0, 1, 2, 4, 5, 6, 7] if name == "damaged.mp4" else list(range(8))
    assert shown == [*pictures, *pictures][:10] * 2


@pytest.mark.slow
def test_only_rows_of_the_newest_part_are_read(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A week of parts of a minute would otherwise take minutes to continue."""
    kill(output)
    kill(output)
    begin(output).run()
    real = SealedFile.batches
    read: list[str] = []

    def batches(file: SealedFile, *args: Any, **options: Any) -> Any:
        read.append(file.path.name)
        return real(file, *args, **options)

    monkeypatch.setattr(SealedFile, "batches", batches)
    earlier = find_earlier(output)
    assert read == [names(output.parent)[-1]]
    monkeypatch.undo()
    captured, completed = columns(output, "captured_at", "completed_at")
    assert earlier.frames == earlier.source_frames == len(captured)
    assert earlier.captured_ns == utc_ns(captured[-1])
    assert earlier.completed_ns == utc_ns(completed[-1])
    ended = [columns(part.path, "completed_at")[0][-1] for part in earlier.parts]
    assert [part.ended_ns for part in earlier.parts] == list(map(utc_ns, ended))


def test_two_services_of_one_name(output: Path) -> None:
    begin(output).run()
    live = JournalWriter(output.with_name("s-0004.arrows"), part_metadata(output))
    before = names(output.parent)
    with pytest.raises(OutputError, match=r"s-0004\.arrows: is being recorded now"):
        begin(output)
    # Also one that was begun after the journals had been looked at.
    with pytest.raises(OutputError, match=r"s-0004\.arrows: is being recorded now"):
        find_earlier(output)
    live.close()
    assert names(output.parent) == before
    shutil.rmtree(output.parent)


def part_metadata(output: Path) -> Metadata:
    part = {"number": 4, "set_id": metadata_of(output)["session_id"], "first_frame": FRAMES}
    return {**new_metadata("s"), "part": part}


def test_a_part_that_another_run_begins_meanwhile_is_not_numbered_past(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would have recorded the same numbers of frames into one recording."""
    begin(output).run()
    count = len(names(output.parent))
    real = continuation.parts_in_set
    others: list[JournalWriter] = []

    def parts_in_set(path: Path) -> Any:
        found = real(path)
        if not others:
            journal = part_path(output, count + 1).with_suffix(".arrows")
            others.append(JournalWriter(journal, new_metadata("s"), durability="never"))
        return found

    monkeypatch.setattr(continuation, "parts_in_set", parts_in_set)
    with pytest.raises(OutputError, match=r"-0004\.arrows: "):
        begin(output)
    others[0].close()


def test_frames_of_a_part_that_is_sealed_meanwhile_count(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(output)
    earlier = find_earlier(output)
    assert earlier.frames
    real = continuation.RecordedFile
    sealed: list[Path] = []

    def open_file(path: Path, **options: Any) -> Any:
        if path.suffix == ".arrows" and not sealed:
            sealed.append(path)
            recover(path)
        return real(path, **options)

    monkeypatch.setattr(continuation, "RecordedFile", open_file)
    assert find_earlier(output).frames == earlier.frames
    assert sealed

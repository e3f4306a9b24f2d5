"""Gaps of half an hour, of days: recorded, recovered, replayed and clipped with exact times."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import dgrec
import dgrec.replay.cli
from bench.kill9_video import mismatches, run_once
from dgrec.cli import root
from dgrec.clock import Clock
from dgrec.errors import DgrecError, StorageError, VideoError
from dgrec.footage import Pixels, find_footage
from dgrec.format import Journal
from dgrec.recorder.capture import Capture
from dgrec.recorder.options import Splitting
from dgrec.recorder.recovery import recover
from dgrec.recorder.sources import Frame
from dgrec.recorder.video.codecs import CODECS, find_codec
from dgrec.recorder.video.file import EncodedVideo
from dgrec.recorder.video.mp4 import frame_stamps
from dgrec.replay.rendering.animation import Animation
from dgrec.replay.verify import verify
from dgrec.video import VideoWriter, import_av, repeats
from dgrec.video import writer as writer_module
from tests.factory import START_NS, write_session
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, record
from tests.replay.clips import (
    HEIGHT,
    WIDTH,
    file_source,
    number_drawn,
    number_in,
    numbered_image,
    numbered_metadata,
    numbered_results,
    numbered_row,
)
from tests.waiting import PATIENCE_S

Run = Callable[..., Result]
ROOT = Path(__file__).parents[1]
#: What FFmpeg's MP4 muxer cannot express in microseconds begins here.
MUXER_LIMIT_US = 2**31
DAY_US = 86_400_000_000
#: Gaps before frames, in microseconds.
GAPS: dict[str, dict[int, int]] = {
    "just below and at the limit": {10: MUXER_LIMIT_US - 40_001, 20: MUXER_LIMIT_US - 40_000},
    "several, and one of days": {5: 2_148_000_000, 6: 5_000_000_000, 20: 3 * DAY_US + 123_457},
    "at the ends": {1: 2 * MUXER_LIMIT_US, 39: 2_148_000_000},
}
FRAMES = 40


@pytest.fixture
def dgrec_command() -> Run:
    for command in dgrec.replay.cli.COMMANDS:
        root.add_command(command)
    return lambda *arguments: CliRunner().invoke(root, [str(item) for item in arguments])


class AwayCamera(ScriptedFrames):
    """Numbered pictures, 25 a second of a clock that jumps while the camera is away."""

    def __init__(self, gaps_us: Mapping[int, int]) -> None:
        self._elapsed_ns = 0
        # The encoder and the writer have to see the same time as the camera.
        self.clock = Clock(lambda: self._elapsed_ns, lambda: START_NS + self._elapsed_ns)
        super().__init__((i / 25 for i in range(FRAMES)), clock=self.clock)
        self._gaps_us = gaps_us

    def read(self) -> Frame | None:
        self._elapsed_ns += 40_000_000 + self._gaps_us.get(self._next, 0) * 1000
        frame = super().read()
        if frame is not None:
            frame.image, frame.media_time_s = numbered_image(frame.source_frame), None
            frame.height, frame.width = frame.image.shape[:2]
        return frame


def record_gaps(output: Path, gaps_us: Mapping[int, int], **more: Any) -> list[dict[str, Any]]:
    """Record through the real `predict_stream`, with both videos; return the rows."""
    camera = AwayCamera(gaps_us)
    settings = {"draw_color": (255, 255, 255), "line_width": 9, "show_labels": False}
    model = PysdkDouble("Detection", numbered_results, **settings)
    _, metadata = record(
        model, Capture(camera), output, model.describe(), clock=camera.clock, video="both", **more,
    )  # fmt: skip
    assert isinstance(metadata, dict), metadata
    assert verify(output) == []
    return rows_of(output)


def rows_of(path: Path) -> list[dict[str, Any]]:
    with dgrec.open(path) as session:
        return [row for batch in session.batches() for row in batch.to_pylist()]


def pictures(path: Path) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """Return (microseconds, BGR pixels) of every frame, as PyAV decodes them."""
    with import_av().open(str(path)) as container:
        return [
            (round(frame.pts * frame.time_base * 10**6), frame.to_ndarray(format="bgr24"))
            for frame in container.decode(video=0)
        ]


def check_video(path: Path, rows: list[dict[str, Any]]) -> None:
    """Check times and pictures of a recorded video against the rows, by PyAV and by ffprobe."""
    shown = pictures(path)
    number = number_drawn if "annotated" in path.name else number_in
    begun = rows[0]["captured_at"]
    named = {row["video_frame"]: row for row in rows}
    assert len(named) == len(rows)
    before = None
    for index, (pts_us, image) in enumerate(shown):
        row = named.get(index)
        if row is None:  # it is the one before, repeated
            assert before is not None
            assert np.abs(image.astype(int) - before.astype(int)).max() < 60
        else:
            assert number(image) == row["frame"]
            offset = row["captured_at"] - begun
            assert pts_us == offset.days * DAY_US + offset.seconds * 10**6 + offset.microseconds
        before = image
    times = [pts_us for pts_us, _ in shown]
    assert max(b - a for a, b in pairwise(times)) < MUXER_LIMIT_US
    assert ffprobe_times(path) == times
    assert len(shown) == max(named) + 1


def ffprobe_times(path: Path) -> list[int]:
    if shutil.which("ffprobe") is None:
        return frame_stamps(path)
    command = ["ffprobe", "-v", "warning", "-show_frames", "-of", "json", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stderr == ""
    frames = json.loads(done.stdout)["frames"]
    return [int(frame["best_effort_timestamp"]) for frame in frames]


@pytest.mark.slow
@pytest.mark.parametrize("gaps", GAPS)
def test_a_camera_that_was_away(tmp_path: Path, gaps: str, dgrec_command: Run) -> None:
    output = tmp_path / "s.parquet"
    rows = record_gaps(output, GAPS[gaps])
    assert len(rows) == FRAMES
    assert all(row["video_frame"] is not None for row in rows)
    check_video(tmp_path / "s.mp4", rows)
    check_video(tmp_path / "s.annotated.mp4", rows)
    # A replay shows each frame at its own time, with its own overlay.
    replayed = tmp_path / "r.mp4"
    assert dgrec_command("replay", output, "-o", replayed).exit_code == 0
    begun = rows[0]["captured_at"]
    wanted = {
        round((row["captured_at"] - begun).total_seconds() * 10**6): row["frame"] for row in rows
    }
    found = {
        pts_us: number_in(image)
        for pts_us, image in pictures(replayed)
        if number_in(image) == number_drawn(image) and pts_us in wanted
    }
    assert found == wanted
    # A clip from a key frame on is copied, any other is encoded again.
    for start, end, words in ((0, FRAMES, "copied"), (3, FRAMES - 1, "encoded again")):
        cut = tmp_path / f"cut{start}.parquet"
        done = dgrec_command("clip", output, "--start", str(start), "--end", str(end), "-o", cut)
        assert done.output.count(words) == 2, done.output
        assert verify(cut) == []
        cut_rows = rows_of(cut)
        assert [row["source_frame"] for row in cut_rows] == list(range(start, end))
        for kind in ("", ".annotated"):
            check_clip(cut.with_suffix(f"{kind}.mp4"), cut_rows)
        with dgrec.open(cut) as session, Pixels(find_footage(session)) as pixels:
            shown = [number_in(result.image) for result in pixels.results(session)]
        assert shown == [row["source_frame"] for row in cut_rows]


def check_clip(path: Path, rows: list[dict[str, Any]]) -> None:
    numbers = [{**row, "frame": row["source_frame"]} for row in rows]
    check_video(path, numbers)


@pytest.mark.slow
def test_parts_across_a_gap(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    rows = record_gaps(output, {10: 5_000_000_000, 30: DAY_US}, splitting=Splitting(every_s=6000))
    assert len(rows) == FRAMES
    with dgrec.open(output) as session:
        parts = list(session.parts)
        with Pixels(find_footage(session)) as pixels:
            shown = [number_in(result.image) for result in pixels.results(session)]
    assert shown == list(range(FRAMES))
    assert len(parts) == 2
    for part in parts:
        check_video(part.path.with_suffix(".mp4"), rows_of(part.path))


@pytest.mark.slow
@pytest.mark.parametrize("codec", [codec.name for codec in CODECS])
def test_every_codec_keeps_the_times(tmp_path: Path, codec: str) -> None:
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec(codec), 70)
    times = [0, 40_000, 80_000, 4_000_000_000, 4_000_040_000, 9 * DAY_US, 9 * DAY_US + 40_000]
    for index, time_us in enumerate(times):
        file.write(numbered_image(index), time_us)
    file.close()
    shown = pictures(file.path)
    assert [at for at, _ in shown if at in times] == times
    assert {at: number_in(image) for at, image in shown if at in times} == dict(
        zip(times, range(len(times)), strict=True)
    )
    assert file.frames == len(shown)


def test_what_reaches_the_disk_after_a_gap(tmp_path: Path) -> None:
    """A fragment is complete half a second after its first frame, also behind a gap."""
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec("h264"), 70)
    for start_us in (0, 3_000_000_000, 2 * DAY_US):
        for i in range(30):
            file.write(numbered_image(i), start_us + i * 40_000)
        left = tmp_path / "left.mp4"
        left.write_bytes(file.path.read_bytes())
        assert frame_stamps(left)[-1] >= start_us + 500_000
    file.discard()


@pytest.mark.slow
def test_killed_after_a_gap(tmp_path: Path) -> None:
    gap_s = 200_000.0
    # How much is lost, bench/kill9_video.py measures; a busy machine may take seconds.
    found, wrong, _ = run_once(tmp_path, 5, 30.0, False, gap_s=gap_s, at_least=35)
    assert found > 30
    assert wrong == 0
    (session,) = tmp_path.glob("*.parquet")
    rows = rows_of(session)
    assert max((b["captured_at"] - a["captured_at"]).total_seconds() for a, b in pairwise(rows)) > (
        gap_s
    )
    assert mismatches(session) == (found, 0)


# --- footage, and other outputs ---


def write_footage(path: Path, times_s: list[float]) -> Path:
    """Write Matroska, which keeps such gaps in milliseconds."""
    av = import_av()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(numbered_image(index), format="bgr24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


FOOTAGE_TIMES_S = [0.0, 0.04, 0.08, 2148.0, 2148.04, 2 * 86_400.0, 2 * 86_400.0 + 0.04]


@pytest.fixture
def gapped(tmp_path: Path) -> Path:
    """Return a session of footage with gaps, its pixels in the file."""
    footage = write_footage(tmp_path / "footage.mkv", FOOTAGE_TIMES_S)
    rows = [
        numbered_row(i, i, media_time_s=time_s, captured_ns=START_NS + i * 1000_000)
        for i, time_s in enumerate(FOOTAGE_TIMES_S)
    ]
    return write_session(
        tmp_path / "s.parquet", rows, numbered_metadata(file_source(footage, tmp_path))
    )


@pytest.mark.slow
def test_footage_with_gaps(gapped: Path, dgrec_command: Run) -> None:
    output = gapped.with_name("r.mp4")
    done = dgrec_command("replay", gapped, "-o", output)
    assert done.exit_code == 0, done.output
    times_us = [round(time_s * 1e6) for time_s in FOOTAGE_TIMES_S]
    found = {at: number_in(image) for at, image in pictures(output) if at in times_us}
    assert found == dict(zip(times_us, range(len(times_us)), strict=True))
    cut = gapped.with_name("cut.parquet")
    done = dgrec_command("clip", gapped, "--start", "1", "--with-video", "-o", cut)
    assert done.exit_code == 0, done.output
    assert verify(cut) == []
    shown = dict(enumerate(pictures(cut.with_suffix(".mp4"))))
    for row, time_us in zip(rows_of(cut), times_us[1:], strict=True):
        at, image = shown[row["video_frame"]]
        assert (at, number_in(image)) == (time_us - times_us[1], row["source_frame"])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_keep_gaps(gapped: Path, suffix: str, dgrec_command: Run) -> None:
    output = gapped.with_name(f"r.{suffix}")
    done = dgrec_command("replay", gapped, "-o", output)
    assert done.exit_code == 0, done.output
    durations_ms = gif_durations(output) if suffix == "gif" else webp_durations(output)
    ends = set(np.cumsum(durations_ms).tolist())
    assert {round(time_s * 1000) for time_s in FOOTAGE_TIMES_S[1:]} <= ends
    assert max(ends) == round(FOOTAGE_TIMES_S[-1] * 1000) + 40


def test_equal_pictures_in_a_webp(tmp_path: Path) -> None:
    """They become one in the file, which lasts as long as all of them."""
    path = tmp_path / "a.webp"
    animation = Animation(path, 64, 48, loop=True, overwrite=False)
    for i in range(10):
        image = np.full((48, 64, 3), 200 if i < 5 else 20, np.uint8)
        animation.write(image, i * 100_000, 100_000, None)  # type: ignore[arg-type]
    animation.finish()
    assert webp_durations(path) == [500, 500]


def gif_durations(path: Path) -> list[int]:
    """Return how long each picture of a GIF lasts, in milliseconds."""
    data = path.read_bytes()
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)
    durations = []
    while data[at] != 0x3B:
        if data[at] == 0x21:
            if data[at + 1] == 0xF9:
                durations.append(10 * int.from_bytes(data[at + 4 : at + 6], "little"))
            at += 2
        else:
            at += 11 + (3 << (data[at + 9] & 7) + 1 if data[at + 9] & 128 else 0)
        while data[at]:
            at += 1 + data[at]
        at += 1
    return durations


def webp_durations(path: Path) -> list[int]:
    """Return how long each picture of a WebP lasts, in milliseconds."""
    data = path.read_bytes()
    durations, at = [], 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"ANMF":
            durations.append(int.from_bytes(data[at + 20 : at + 23], "little"))
        at += 8 + length + length % 2
    return durations


def test_the_last_frame_does_not_last_as_long_as_the_gap_before_it(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, WIDTH, HEIGHT) as writer:
        numbers = [
            writer.write(numbered_image(i), at, 40_000)
            for i, at in enumerate((0, 40_000, 2_200_000_000))
        ]
    assert numbers == [0, 1, 3]
    with import_av().open(str(path)) as container:
        assert container.duration == pytest.approx(2_200_040_000, abs=1000)


def test_repeats() -> None:
    assert list(repeats(5, 1_800_000_005)) == []
    assert list(repeats(5, 1_800_000_006)) == [1_800_000_005]
    assert list(repeats(0, 100, 30)) == [30, 60, 90]
    assert list(repeats(0, 90, 30)) == [30, 60]


# --- a source that falls silent ---


@pytest.mark.slow
@pytest.mark.parametrize("codec", [codec.name for codec in CODECS])
def test_what_is_held_back_can_be_written_ahead(tmp_path: Path, codec: str) -> None:
    """Also before the first fragment, behind later ones, and behind a gap."""
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec(codec), 70)
    left = tmp_path / "left.mp4"
    times = [i * 40_000 for i in range(40)] + [3_000_000_000 + i * 40_000 for i in range(40)]
    written = []
    assert file.ahead_due_s is None
    for index, time_us in enumerate(times):
        file.write(numbered_image(index), time_us)
        assert file.ahead_due_s is not None
        written += [*repeats(written[-1], time_us), time_us] if written else [time_us]
        if index in (0, 5, 12, 13, 14, 39, 40, 41, 70, 79):
            file.write_ahead()
            assert file.ahead_due_s is None
            left.write_bytes(file.path.read_bytes())
            assert frame_stamps(left) == written
            assert [at for at, _ in pictures(left)] == written
            assert ffprobe_times(left) == written
    file.write_ahead()
    file.close()
    assert frame_stamps(file.path) == written
    assert ffprobe_times(file.path) == written
    shown = {at: image for at, image in pictures(file.path) if at in times}
    for index, time_us in enumerate(times):
        apart = [
            np.abs(shown[time_us] - numbered_image(number).astype(int)).mean()
            for number in (index, index + 1, abs(index - 1))
        ]
        assert apart[0] == min(apart)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 20])
def test_a_silent_camera_loses_nothing(tmp_path: Path, frames: int) -> None:
    """What it sent before is on the disk although no picture follows."""
    command = [sys.executable, "-m", "bench.kill9_video", "--child", str(tmp_path)]
    child = subprocess.Popen(
        [*command, "--frames", str(frames)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    video, journal = tmp_path / "s.mp4", tmp_path / "s.arrows"
    try:
        deadline = time.monotonic() + 60
        while not (stamps_in(video) == frames and rows_in(journal) == frames):
            assert time.monotonic() < deadline, (stamps_in(video), rows_in(journal))
            assert child.poll() is None
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
    recover(journal)
    session = tmp_path / "s.parquet"
    assert verify(session) == []
    assert mismatches(session) == (frames, 0)


def stamps_in(video: Path) -> int:
    try:
        return len(frame_stamps(video))
    except (VideoError, OSError):
        return 0


def rows_in(journal: Path) -> int:
    try:
        return sum(batch.num_rows for batch in Journal.open(journal).batches())
    except (DgrecError, OSError):
        return 0


def test_a_failed_write_ahead_ends_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec("h264"), 70)
    for i in range(20):
        file.write(numbered_image(i), i * 40_000)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="No space left"):
        file.write_ahead()
    monkeypatch.undo()
    assert file.failure == "cannot be written: No space left on device"
    assert file.ahead_due_s is None
    assert 0 < file.frames < 20
    assert len(frame_stamps(file.path)) == file.frames


def test_what_was_written_ahead_stays_when_the_encoder_fails(tmp_path: Path) -> None:
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec("h264"), 70)
    for i in range(20):
        file.write(numbered_image(i), i * 40_000)
    file.write_ahead()
    file.fail(VideoError("enough"))
    assert file.frames == len(frame_stamps(file.path)) == 20


@pytest.mark.parametrize("name", ["v.mp4", "v.gif"])
def test_stamps_that_are_centuries_apart_do_not_fill_the_disk(
    tmp_path: Path, name: str, dgrec_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_MOST_REPEATS", 200)
    year_us = 365 * DAY_US
    rows = [
        numbered_row(
            i, i, media_time_s=None, captured_ns=START_NS + i * 20 * year_us * 1000,
            completed_ns=START_NS + i * 20 * year_us * 1000 + 1000,
        )
        for i in range(4)
    ]  # fmt: skip
    session = write_session(
        tmp_path / "s.parquet", rows, numbered_metadata({"given": "cam0", "kind": "camera"})
    )
    done = dgrec_command("replay", session, "-o", tmp_path / name)
    assert done.exit_code == 1
    assert "the frames are too far apart in time for one file" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.parquet"]

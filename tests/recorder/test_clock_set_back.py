"""A program gives stamps of a clock that is set back: the video goes on, as promptly as before."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dgrec
from dgrec.alerts import parse_rule
from dgrec.paths import journal_path
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import Alerts
from dgrec.recorder.recovery import recover
from dgrec.recorder.video import video_options
from dgrec.recorder.video.mp4 import frame_stamps
from dgrec.recorder.video.segment import SegmentVideos
from dgrec.replay.verify import verify
from dgrec.timeline import VideoTimes, shown_us
from tests.replay.clips import number_in, numbered_image
from tests.waiting import PATIENCE_S, wait_until

FRAMES = 60
SET_AT = (20, 45)
HOUR_S = 3600.0
BEGUN_S = 1_700_000_000


def captured_s(frame: int) -> float:
    """Return a frame's stamp: 25 a second, set back by an hour twice."""
    return BEGUN_S + frame / 25 - HOUR_S * sum(frame >= at for at in SET_AT)


def add_all(recorder: dgrec.Recorder) -> None:
    for number in range(FRAMES):
        image = numbered_image(number)
        recorder.add([{"label": "a", "score": 0.5}], image, captured_at=captured_s(number))


def numbers_shown(session: dgrec.Session) -> list[int | None]:
    with session.pixels() as pixels:
        images = [pixels.stored(session.row(position)) for position in range(len(session))]
    return [None if image is None else number_in(image) for image in images]


def rows_in(journal: Path) -> int:
    with dgrec.open(journal) as session:
        return len(session)


def _pictures_in(video: Path) -> int:
    try:
        return len(frame_stamps(video))
    except dgrec.VideoError:  # it has no header yet
        return 0


def stamps_of(video: Path) -> np.ndarray:
    return np.diff(frame_stamps(video))


@pytest.mark.parametrize("split", [None, 1e6])
def test_each_row_has_its_own_picture(tmp_path: Path, split: float | None) -> None:
    path = tmp_path / "s.parquet"
    with dgrec.Recorder(path, video="raw", split_every=split) as recorder:
        add_all(recorder)
    (file,) = recorder.files
    with dgrec.open(path) as session:
        assert numbers_shown(session) == list(range(FRAMES))
        stamps = session.frames["captured_at"].to_pylist()
        assert [stamp.timestamp() for stamp in stamps] == [
            pytest.approx(captured_s(number), abs=1e-5) for number in range(FRAMES)
        ]
    assert set(stamps_of(file.with_suffix(".mp4"))) == {40_000}
    assert not list(verify(path))


def test_the_file_grows_as_before(tmp_path: Path) -> None:
    videos = SegmentVideos(video_options(RecordingOptions(video="raw")), tmp_path / "s.parquet", ())
    for number in range(FRAMES):
        frame, pts_us = videos.place(round(captured_s(number) * 1e9))
        assert frame == number
        image = numbered_image(number)
        videos.write(image, image.copy, pts_us)
    written = frame_stamps(tmp_path / "s.mp4")  # by somebody who looks, or after kill -9
    videos.close()
    assert len(written) > FRAMES - 25  # all but the last second


@pytest.mark.slow
def test_after_kill_9(tmp_path: Path) -> None:
    path, video = tmp_path / "s.parquet", tmp_path / "s.mp4"
    child = subprocess.Popen([sys.executable, "-m", __name__, str(path)])

    try:
        wait_until(lambda: child.poll() is not None or _pictures_in(video) == FRAMES)
        wait_until(lambda: child.poll() is not None or rows_in(journal_path(path)) == FRAMES)
    finally:
        child.kill()
        child.wait(PATIENCE_S)
    with dgrec.open(journal_path(path)) as session:
        assert numbers_shown(session) == list(range(FRAMES))
    recovery = recover(journal_path(path), None)
    assert recovery.videos == (f"{path.with_suffix('.mp4')}: {FRAMES} frames",)
    with dgrec.open(path) as session:
        assert numbers_shown(session) == list(range(FRAMES))
    assert not list(verify(path))

    # A copy whose last bytes are gone: each picture is compared with its row by its time.
    with video.open("r+b") as file:
        file.truncate(video.stat().st_size - 1000)
    with dgrec.open(path) as session:
        shown = numbers_shown(session)
    assert all(found in (None, number) for number, found in enumerate(shown))
    assert shown[50] == 50 or shown[30] == 30


def test_times_of_a_video() -> None:
    times = VideoTimes()
    stamps = [100, 140, 140, 139, 180, 180 + 40_000, 10, 10 + 33_000, 90]
    # Equal and late ones are moved apart; a second back is waited for.
    assert [times.at(stamp) for stamp in stamps] == [
        0, 40, 41, 42, 80, 40_080, 40_081, 40_082, 40_083,
    ]  # fmt: skip
    assert times.shift == 0
    assert times.at(180 + 80_000) == 80_080
    assert times.at(80_000 - 2_000_000) == 80_080 + 39_997
    assert times.at(120_000 - 2_000_000) == 80_080 + 39_997 + 40_000


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_shown_at_the_times(seed: int) -> None:
    random.seed(seed)
    stamps, now = [], 10**15
    for _ in range(300):
        now += random.choice([0, 1, 40_000, 40_001, 5_000_000, -100, -900_000])
        now += random.choice([0] * 50 + [-2_000_000, -3_600_000_000, 10**14])
        stamps.append(now)
    times = VideoTimes()
    shown, shifts = [], []
    for stamp in stamps:
        shown.append(times.at(stamp))
        shifts.append(times.shift)
    assert shown == sorted(set(shown))
    assert (shown_us(np.array(stamps)) - stamps[0]).tolist() == shown
    behind = np.array(shown) - (np.array(stamps) - stamps[0] + shifts)
    assert 0 <= behind.min() <= behind.max() <= 1_000_000


@pytest.mark.parametrize("back_s", [0.3, 1.5, HOUR_S, -BEGUN_S])
def test_of_the_moments_of_alerts_too(tmp_path: Path, back_s: float) -> None:
    path = tmp_path / "s.parquet"
    begun_s = BEGUN_S if back_s > 0 else 0  # or from 1970 to today
    alerts = Alerts([parse_rule("seen=count() > 0")])
    with dgrec.Recorder(path, video="raw", only_on_alert=True, outputs=[alerts]) as recorder:
        for number in range(FRAMES):
            stamp = begun_s + number / 25 - (back_s if number >= 30 else 0)
            recorder.add([{"label": "a"}], numbered_image(number), captured_at=stamp)
    assert list(verify(path)) == []
    with dgrec.open(path) as session:
        assert numbers_shown(session) == list(range(FRAMES))
    (file,) = [each for each in recorder.files if each.with_suffix(".mp4").exists()]
    shown = frame_stamps(file.with_suffix(".mp4"))
    assert len(shown) == FRAMES
    assert shown[-1] > 1_000_000


def test_a_clock_that_begins_in_1970(tmp_path: Path) -> None:
    """That of a camera without a battery, until it is set: a step of decades is none of the video.

    The last picture would be written for each half hour of it.
    """
    path = tmp_path / "s.parquet"
    with dgrec.Recorder(path, video="raw") as recorder:
        for number in range(10):
            stamp = number / 25 + (BEGUN_S if number >= 5 else 0)
            recorder.add([], numbered_image(number), captured_at=stamp)
    assert set(stamps_of(path.with_suffix(".mp4"))) == {40_000}
    assert list(verify(path)) == []
    with dgrec.open(path) as session:
        assert numbers_shown(session) == list(range(10))


def test_stamps_of_a_file_may_be_anything() -> None:
    stamps = np.array([0, 2**62, -(2**62), 2**62, -(2**62), 2**63 - 1, -(2**63)] * 3)
    assert len(shown_us(stamps)) == len(stamps)
    assert shown_us(stamps[:0]).tolist() == []


@pytest.mark.slow
def test_stamps_of_two_threads_cross(tmp_path: Path) -> None:
    """Frames that were captured in another order than their results came keep their pictures."""
    path, copy = tmp_path / "s.parquet", tmp_path / "copy"
    copy.mkdir()
    with dgrec.Recorder(path, video="raw") as recorder:
        for number in range(FRAMES):
            late_s = 0.3 if number % 5 == 3 else 0.0
            stamp = BEGUN_S + number / 25 - late_s
            recorder.add([], numbered_image(number), captured_at=stamp)
        wait_until(lambda: rows_in(journal_path(path)) == FRAMES)
        wait_until(lambda: _pictures_in(path.with_suffix(".mp4")) == FRAMES)
        with dgrec.open(journal_path(path)) as session:
            assert numbers_shown(session) == list(range(FRAMES))
        for file in (journal_path(path), path.with_suffix(".mp4")):
            shutil.copy(file, copy)  # what a kill would leave
    assert list(verify(path)) == []
    recovery = recover(copy / "s.arrows", None)
    assert recovery.videos == (f"{copy / 's.mp4'}: {FRAMES} frames",)
    assert list(verify(copy / "s.parquet")) == []
    with dgrec.open(copy / "s.parquet") as session:
        assert numbers_shown(session) == list(range(FRAMES))


if __name__ == "__main__":
    killed = dgrec.Recorder(sys.argv[1], video="raw")
    add_all(killed)
    signal.pause()

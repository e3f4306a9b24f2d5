"""Every video that dgrec writes opens elsewhere: in a real browser, and in FFmpeg's tools."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dgrec.recorder.video.codecs import find_codec
from dgrec.recorder.video.file import EncodedVideo
from dgrec.recorder.video.mp4 import frame_stamps
from tests.browser import Browser, needs_chromium
from tests.footage import Encoding, encode
from tests.recorder.kept import record_kept
from tests.recorder.network_camera import MjpegCamera
from tests.replay.clips import numbered_image
from tests.waiting import PATIENCE_S

NAMES = ("s.mp4", "s.annotated.mp4", "s.replay.mp4", "cut.mp4")
#: On a busy machine, several of the camera's pictures come at once, and none for seconds. ffprobe
#: says so.
_PAUSE_US = 1_000_000
PAGE = """<!doctype html><meta charset="utf-8"><title>player</title>
<video id="v" src="{name}" preload="auto" muted></video>"""
#: Resolves to what the video is, once all that there is to know has been read.
LOADED = """new Promise((done) => {
  const v = document.getElementById('v');
  const tell = () => done({error: v.error && v.error.message, duration: v.duration,
                           width: v.videoWidth, height: v.videoHeight});
  if (v.readyState >= 2 || v.error) tell();
  v.onloadeddata = tell; v.onerror = tell;
})"""
#: Resolves to the time of the picture that is shown after seeking, in seconds.
SEEK = """new Promise((done) => {
  const v = document.getElementById('v');
  v.onerror = () => done(v.error.message);
  v.requestVideoFrameCallback((_, shown) => done(shown.mediaTime));
  v.currentTime = %s;
})"""
#: Plays for a while; resolves to how far it came.
PLAY = """new Promise((done) => {
  const v = document.getElementById('v');
  v.currentTime = 0;
  v.play().then(() => {
    const wait = () => (v.currentTime > 0.4 || v.ended) ? done(v.currentTime)
                                                        : setTimeout(wait, 20);
    wait();
  }, (error) => done(String(error)));
})"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record both videos of a camera for two seconds, replay them, and cut a part out."""
    folder = tmp_path_factory.mktemp("videos")

    def dgrec(*arguments: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "dgrec", *arguments]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stderr

    with MjpegCamera(fps=25.0) as camera:
        dgrec(
            "record",
            "--source",
            camera.url,
            "--max-frames",
            "60",
            "--output",
            "s.parquet",
            "--video",
            "both",
            "--quiet",
        )
    dgrec("replay", "s.parquet", "--output", "s.replay.mp4", "--quiet")
    dgrec("clip", "s.parquet", "--start", "20", "--end", "50", "--output", "cut.parquet")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ffprobe_has_nothing_to_complain_about(folder: Path, name: str) -> None:
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        pytest.skip("ffprobe is not installed")
    done = subprocess.run(
        [
            ffprobe,
            "-v",
            "warning",
            "-count_frames",
            "-show_streams",
            "-of",
            "json",
            str(folder / name),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    stamps = frame_stamps(folder / name)
    complaints = done.stderr.splitlines()
    if any(later - stamp > _PAUSE_US for stamp, later in pairwise(stamps)):
        complaints = [line for line in complaints if "DTS discontinuity" not in line]
    assert complaints == []
    (stream,) = json.loads(done.stdout)["streams"]
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert stream["has_b_frames"] == 0
    assert int(stream["nb_read_frames"]) == len(stamps)
    assert stamps[0] == 0


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("name", NAMES)
def test_a_browser_plays_and_seeks(folder: Path, tmp_path: Path, name: str) -> None:
    stamps = frame_stamps(folder / name)
    page = folder / f"{name}.html"
    page.write_text(PAGE.format(name=name))
    with Browser(tmp_path / "browser") as browser:
        browser.open(page)
        loaded: dict[str, Any] = browser.run(LOADED)
        assert loaded["error"] is None
        assert loaded["width"] > 0
        # The last picture is shown as long as the one before, which may be long on a busy machine.
        longest = max(after - before for before, after in pairwise(stamps))
        ends_s = stamps[-1] / 1e6, (stamps[-1] + longest) / 1e6
        assert ends_s[0] - 0.6 <= loaded["duration"] <= ends_s[1] + 0.6
        ends = [*stamps[1:], stamps[-1] + 20_000]
        # A page's clock is too coarse for what was waiting when the camera was opened.
        apart = [i for i in range(len(stamps)) if ends[i] - stamps[i] > 10_000]
        assert len(apart) > 10
        for at in (apart[len(apart) // 2], apart[3], apart[-1]):
            following = ends[at]
            shown = browser.run(SEEK % ((stamps[at] + following) / 2e6))
            assert shown == pytest.approx(stamps[at] / 1e6, abs=2e-6), at
        assert browser.run(PLAY) > min(0.2, 0.9 * stamps[-1] / 1e6)
        assert browser.console == []


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_browser_seeks_behind_a_gap_of_days(tmp_path: Path, is_finished: bool) -> None:
    """Also in a file whose recorder was killed while the camera was silent."""
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec("h264"), 70)
    stamps = [start + i * 40_000 for start in (0, 3 * 86_400_000_000) for i in range(30)]
    for number, stamp in enumerate(stamps):
        file.write(numbered_image(number), stamp)
    file.write_ahead()
    shutil.copy(file.path, tmp_path / "left.mp4")
    file.close()
    name = "v.mp4" if is_finished else "left.mp4"
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(name=name))
    with Browser(tmp_path / "browser") as browser:
        browser.open(page)
        loaded: dict[str, Any] = browser.run(LOADED)
        assert loaded["error"] is None
        # The last picture is shown as long as the one before, which may be long on a busy machine.
        longest = max(after - before for before, after in pairwise(stamps))
        ends_s = stamps[-1] / 1e6, (stamps[-1] + longest) / 1e6
        assert ends_s[0] - 0.6 <= loaded["duration"] <= ends_s[1] + 0.6
        for at in (5, 29, 30, 45, 59):
            shown = browser.run(SEEK % ((stamps[at] + 20_000) / 1e6))
            assert shown == pytest.approx(stamps[at] / 1e6, abs=2e-6)
        assert browser.console == []


@pytest.mark.slow
@needs_chromium
def test_a_browser_plays_kept_packets(tmp_path: Path) -> None:
    """Of footage with B-frames, whose packets are stored in another order."""
    how = Encoding(b_frames=2, options={"x264-params": "b-adapt=0"})
    encode(tmp_path / "source.mp4", how, 60)
    output = tmp_path / "s.parquet"
    record_kept(tmp_path / "source.mp4", output, watch=lambda _: time.sleep(0.012))
    stamps = frame_stamps(tmp_path / "s.mp4")
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(name="s.mp4"))
    with Browser(tmp_path / "browser") as browser:
        browser.open(page)
        loaded: dict[str, Any] = browser.run(LOADED)
        assert loaded["error"] is None
        # Players seek by decoding times: just before a key frame (every 8 here) they may show that.
        for at in (2, 12, 27, 42):
            shown = browser.run(SEEK % ((stamps[at] + stamps[at + 1]) / 2e6))
            assert shown == pytest.approx(stamps[at] / 1e6, abs=20e-6)
        assert browser.run(PLAY) > 0.1
        assert browser.console == []

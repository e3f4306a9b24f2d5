"""An encoder that stops is replaced; its video goes on in the same file, and lacks nothing."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dgrec.errors import VideoError
from dgrec.processes import module_command
from dgrec.recorder.video import SegmentVideos, VideoOptions, encoder_process
from dgrec.recorder.video.codecs import find_codec, open_stream
from dgrec.recorder.video.encoder_process import EncoderProcess
from dgrec.recorder.video.file import EncodedVideo
from dgrec.video import import_av
from tests.replay.clips import number_in, numbered_image
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

_STEP_US = 40_000


@pytest.fixture
def video(tmp_path: Path) -> Iterator[EncodedVideo]:
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec("av1"), 70)
    yield file
    file.discard()


def encoders() -> list[psutil.Process]:
    """Return the encoders' processes of this one."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and encoder_process._PROGRAM in child.cmdline()
    ]


def signal_encoder(number: int) -> Callable[[], None]:
    def send() -> None:
        wait_until(lambda: bool(encoders()))  # just after its start it has no command line yet
        (encoder,) = encoders()
        encoder.send_signal(number)

    return send


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP], ids=["ended", "stopped"])
def test_another_one_goes_on(video: EncodedVideo, stop: int) -> None:
    for i in range(30):
        if i in (10, 20):
            signal_encoder(stop)()
        video.write(numbered_image(i), i * _STEP_US)
    video.close()
    (note,) = video.notes
    assert "encoder stopped 2 times" in note
    assert encoders() == []
    with import_av().open(str(video.path)) as container:
        shown = [
            (frame.pts, number_in(frame.to_ndarray(format="bgr24")))
            for frame in container.decode(video=0)
        ]
    assert shown == [(i * _STEP_US, i) for i in range(30)]
    # A player can jump to where another one began.
    with import_av().open(str(video.path)) as container:
        keys = [packet.pts for packet in container.demux(video=0) if packet.is_keyframe]
    assert {0, 10 * _STEP_US, 20 * _STEP_US} <= set(keys)


def test_a_session_notes_it(tmp_path: Path) -> None:
    options = VideoOptions(kinds=("raw",), codec=find_codec("av1"))
    videos = SegmentVideos(options, tmp_path / "s.parquet", replaced=())
    for i in range(3):
        assert videos.notes == []
        videos.write(numbered_image(i), lambda: numbered_image(0), i * _STEP_US)
    signal_encoder(signal.SIGKILL)()
    videos.write(numbered_image(3), lambda: numbered_image(0), 3 * _STEP_US)
    videos.close()
    (note,) = videos.notes
    assert "s.mp4: the av1 encoder stopped 1 time, and was started again" in note


def test_a_process_that_cannot_be_started(
    video: EncodedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(VideoError, match="its process cannot be started: No such file"):
        video.write(numbered_image(0), 0)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN])
def test_no_connection_to_it(
    number: int, video: EncodedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(multiprocessing, "Pipe", fail)
    with pytest.raises(VideoError, match=f"process cannot be started: {os.strerror(number)}"):
        video.write(numbered_image(0), 0)
    assert video.notes == []


def test_no_thread_to_watch_it(video: EncodedVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(VideoError, match="process cannot be started: can't start new thread"):
        video.write(numbered_image(0), 0)
    assert encoders() == []


def test_a_frozen_program_is_not_started(
    video: EncodedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no Python, and would record once more."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(VideoError, match="its process cannot be started: a frozen or embedded"):
        video.write(numbered_image(0), 0)


def large_picture() -> Any:
    """Return one that no connection takes until the other side reads."""
    pixels = np.random.default_rng(0).integers(0, 256, (720, 640), np.uint8)
    return import_av().VideoFrame.from_ndarray(pixels, format="yuv420p")


@pytest.fixture
def process() -> Iterator[EncoderProcess]:
    process = EncoderProcess(find_codec("av1"), 70, (640, 480))
    yield process
    process.close()
    assert encoders() == []


def test_one_that_stops_before_it_reads(process: EncoderProcess) -> None:
    packets = process.encode(large_picture(), 0, is_key=True)
    signal_encoder(signal.SIGSTOP)()
    packets += process.encode(large_picture(), _STEP_US, is_key=False)
    packets += process.finish()
    assert [packet.pts for packet in packets] == [0, _STEP_US]
    assert process.restarts == 1


def test_one_whose_side_another_process_has(
    process: EncoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that the program forks while an encoder is started: nothing ends with this one."""
    make, held = multiprocessing.Pipe, []

    def pipe() -> Any:
        ends = make()
        held.append(os.dup(ends[1].fileno()))
        return ends

    monkeypatch.setattr(multiprocessing, "Pipe", pipe)
    try:
        process.encode(large_picture(), 0, is_key=True)
        signal_encoder(signal.SIGKILL)()
        process.encode(large_picture(), _STEP_US, is_key=False)
        process.finish()
    finally:
        for end in held:
            os.close(end)
    assert process.restarts == 1


def test_one_that_waits_for_the_processor_has_not_stopped() -> None:
    """Beside many others it may get none for long."""
    command = "import sys\nfor _ in sys.stdin: pass\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE) as other:
        try:
            wait_until(lambda: psutil.Process(other.pid).status() == psutil.STATUS_SLEEPING)
            assert other.stdin is not None
            wait_until(lambda: not encoder_process._is_at_work(other.pid))
            other.stdin.close()
            wait_until(lambda: encoder_process._is_at_work(other.pid))
            other.send_signal(signal.SIGSTOP)
            wait_until(lambda: not encoder_process._is_at_work(other.pid))
        finally:
            other.kill()
            other.wait()
    assert not encoder_process._is_at_work(other.pid)


_CLOSED = """
import os, sys
from pathlib import Path
for stream in 0, 1, 2:
    os.close(stream)
from dgrec.recorder.video.codecs import find_codec
from dgrec.recorder.video.file import EncodedVideo
from tests.replay.clips import numbered_image
file = EncodedVideo(Path(sys.argv[1]), "raw", find_codec("av1"), 70)
file.write(numbered_image(0), 0)
file.close()
sys.exit(len(file.notes))
"""


def test_a_program_without_standard_streams(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    done = subprocess.run(
        [sys.executable, "-c", _CLOSED, str(path)],
        cwd=Path(__file__).parents[2],
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0
    with import_av().open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 1


def test_at_the_end(video: EncodedVideo) -> None:
    for i in range(3):
        video.write(numbered_image(i), i * _STEP_US)
    signal_encoder(signal.SIGKILL)()
    video.close()
    assert video.failure is None
    with import_av().open(str(video.path)) as container:
        assert len(list(container.decode(video=0))) == 3


def test_at_one_picture_again_and_again(video: EncodedVideo, tmp_path: Path) -> None:
    """The video ends there, and what came before can be played."""
    for i in range(20):
        video.write(numbered_image(i), i * _STEP_US)
    process = video._encoder._process
    assert process is not None
    start = process._ready

    def ready() -> Any:
        pipe = start()
        signal_encoder(signal.SIGKILL)()
        return pipe

    process._ready = ready  # type: ignore[method-assign]
    with pytest.raises(VideoError, match="the av1 encoder failed: it stopped 3 times at the same"):
        video.write(numbered_image(20), 20 * _STEP_US)
    assert video.failure == "the av1 encoder failed: it stopped 3 times at the same picture"
    assert encoders() == []
    with import_av().open(str(video.path)) as container:
        assert len(list(container.decode(video=0))) == video.frames >= 12


def test_its_packets_are_those_of_an_encoder_here() -> None:
    codec, size = find_codec("av1"), (288, 144)
    av = import_av()
    made: list[list[tuple[bytes, int, bool]]] = []
    pictures = [
        av.VideoFrame.from_ndarray(numbered_image(i), format="bgr24").reformat(
            *size, "yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        for i in range(8)
    ]
    process = EncoderProcess(codec, 70, size)
    apart = [
        packet
        for i, picture in enumerate(pictures)
        for packet in process.encode(picture, i * _STEP_US, is_key=i == 5)
    ]
    apart += process.finish()
    kinds = av.video.frame.PictureType
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        stream = open_stream(container, codec, 70, size)
        here = []
        for i, picture in enumerate(pictures):
            picture.pts, picture.time_base = i * _STEP_US, Fraction(1, 1_000_000)
            picture.pict_type = kinds.I if i == 5 else kinds.NONE
            here += stream.encode(picture)
        here += stream.encode(None)
    for packets in (apart, here):
        made.append([(bytes(one), one.pts, one.is_keyframe) for one in packets])
    assert made[0] == made[1]
    assert [is_key for _, _, is_key in made[0]] == [i in (0, 5) for i in range(8)]


def test_a_size_that_cannot_be_encoded() -> None:
    process = EncoderProcess(find_codec("av1"), 70, (2, 2))
    with pytest.raises(VideoError, match=r"^Invalid argument$"):
        process.encode(import_av().VideoFrame(2, 2, "yuv420p"), 0, is_key=True)
    process.close()
    assert encoders() == []


_PROGRAM = """
import os, sys, time
from pathlib import Path
from dgrec.recorder.video.codecs import find_codec
from dgrec.recorder.video.file import EncodedVideo
from tests.replay.clips import numbered_image
file = EncodedVideo(Path(sys.argv[1]), "raw", find_codec("av1"), 70)
file.write(numbered_image(0), 0)
forked = 0
if sys.argv[2] == "forks" and not (forked := os.fork()):
    time.sleep(600)
print(file._encoder._process._process.pid, forked, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("what", ["alone", "forks"])
def test_it_ends_with_a_recorder_that_is_killed(what: str, tmp_path: Path) -> None:
    """Also while a process that the recorder has forked goes on."""
    recorder = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "v.mp4"), what],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    forked = 0
    try:
        assert recorder.stdout is not None
        number, forked = map(int, recorder.stdout.readline().split())
        encoder = psutil.Process(number)
        encoder.send_signal(signal.SIGTERM)  # as a service manager does to all of a service
        assert encoder.is_running()
        recorder.kill()
        wait_until(lambda: not encoder.is_running() or encoder.status() == psutil.STATUS_ZOMBIE)
    finally:
        recorder.kill()
        if forked:
            os.kill(forked, signal.SIGKILL)
        recorder.communicate(timeout=PATIENCE_S)


def test_modules_are_those_of_this_process(tmp_path: Path) -> None:
    """Not those of the current folder, which may hold anything."""
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the current folder')")
    done = subprocess.run(
        [*module_command("json.tool", "--compact"), "-"],
        cwd=tmp_path, input="[1]", capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[1]\n"), done.stderr

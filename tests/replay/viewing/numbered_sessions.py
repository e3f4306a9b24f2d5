"""Recordings of every kind whose pictures say their numbers, as do the boxes of their rows."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

# isort: off
import cv2  # noqa: F401 - before PyAV, or windows hang (dgrec.video)
import av

# isort: on
import numpy as np

import dgrec
from dgrec.recorder.recovery import recover
from dgrec.replay.clip import Span
from dgrec.replay.clip import write_clip as cut
from tests.recorder.doubles import PysdkDouble
from tests.replay.clips import (
    BLOCK,
    HEIGHT,
    WIDTH,
    number_in,
    numbered_image,
    numbered_results,
    write_clip,
)
from tests.waiting import PATIENCE_S

__all__ = ["CASES", "FOOTAGE_CASES", "NumberReader", "added", "numbers_of", "recorded"]

_Case = Callable[[Path, int], Path]

#: A program that records the pictures of a camera and is killed in the middle.
_KILLED = """
import sys
from pathlib import Path
from tests.replay.viewing import numbered_sessions
numbered_sessions.killed_while_recording(Path(sys.argv[1]), int(sys.argv[2]))
"""


class NumberReader(PysdkDouble):
    """A model whose detections say the number that it reads in the picture."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        super().__init__(
            "Detection",
            lambda index: numbered_results(self._numbers[index]),
            line_width=9,
            show_labels=False,
            show_probabilities=False,
        )

    def predict_batch(self, frames: Iterator[Any]) -> Iterator[Any]:
        self._numbers.clear()

        def read() -> Iterator[Any]:
            for image in frames:
                self._numbers.append(number_in(image))
                yield image

        yield from super().predict_batch(read())


def recorded(source: Path, output: Path, **choices: Any) -> Path:
    """Record a numbered clip with `dgrec.predict_stream`."""
    count = sum(1 for _ in dgrec.predict_stream(NumberReader(), source, output=output, **choices))
    assert count > 5
    return output


def added(
    output: Path,
    numbers: Sequence[int],
    seconds: Iterable[float],
    pause_s: float = 0.0,
    **choices: Any,
) -> Path:
    """Record numbered pictures that were captured at these times, as those of a camera."""
    reader, seconds = NumberReader(), list(seconds)
    began = datetime.now(UTC) - timedelta(seconds=seconds[-1] + 1)
    with dgrec.Recorder(output, metadata={"model": reader.describe()["model"]}, **choices) as to:
        results = reader.predict_batch(numbered_image(number) for number in numbers)
        for result, second in zip(results, seconds, strict=True):
            to.add(result, captured_at=began + timedelta(seconds=second))
            time.sleep(pause_s)
    return output


def killed_while_recording(output: Path, count: int) -> None:
    """Record and kill this process when ``count`` rows are there, and on the disk."""
    reader = NumberReader()
    recorder = dgrec.Recorder(output, metadata={"model": reader.describe()["model"]}, video="raw")
    results = reader.predict_batch(numbered_image(number) for number in range(10 * count))
    began = datetime.now(UTC) - timedelta(seconds=10 * count / 25)
    for number, result in enumerate(results):
        recorder.add(result, captured_at=began + timedelta(seconds=number / 25))
        if number >= count:
            time.sleep(0.02)
            if _readable(output.with_suffix(".arrows")) >= count:
                break
    os.kill(os.getpid(), signal.SIGKILL)


def _readable(journal: Path) -> int:
    try:
        with dgrec.open(journal) as session:
            return len(session)
    except dgrec.SessionError:
        return 0


def numbers_of(session: dgrec.Session) -> list[int]:
    """Return the number of each row, from its detections."""
    return [
        sum(1 << round((found["bbox"][0] - 8) / BLOCK) for found in result.results)
        for result in session
    ]


# --- the kinds --------------------------------------------------------------------------------


def uneven(index: int) -> int:
    """Return an uneven stamp of a picture, in milliseconds."""
    return index * 40 + index % 3 * 11 + (index // 7) * 90


def _footage(folder: Path, name: str, frames: int, **how: Any) -> Path:
    return write_clip(folder / name, frames, **how)


def _constant(folder: Path, count: int) -> Path:
    source = _footage(folder, "constant-source.mp4", count, b_frames=0)
    return recorded(source, folder / "constant.parquet", video="raw", video_quality=70)


def _variable(folder: Path, count: int) -> Path:
    stamps = [uneven(i) for i in range(count)]
    source = _footage(folder, "variable-source.mp4", count, pts_ms=stamps, b_frames=0)
    return recorded(source, folder / "variable.parquet", video="raw", video_quality=70)


def _b_frames(folder: Path, count: int) -> Path:
    stamps = [uneven(i) for i in range(count)]
    source = _footage(folder, "b-source.mp4", count, pts_ms=stamps, b_frames=3)
    return recorded(source, folder / "b-frames.parquet", video="raw")


def _matroska(folder: Path, count: int) -> Path:
    source = _footage(folder, "footage.mkv", count, b_frames=2)
    return recorded(source, folder / "in-place.parquet")


def _decimated(folder: Path, count: int) -> Path:
    source = _footage(folder, "decimated-source.mp4", 3 * count, b_frames=2)
    return recorded(source, folder / "decimated.parquet", video="raw", every=3)


def _dropped(folder: Path, count: int) -> Path:
    numbers = [number for number in range(2 * count) if number % 7 not in (2, 3, 5)][:count]
    # Three seconds in which nothing was captured.
    seconds = [number / 25 + (3 if number > count // 2 else 0) for number in numbers]
    return added(folder / "dropped.parquet", numbers, seconds, video="raw")


def _clipped(folder: Path, count: int) -> Path:
    whole = added(
        folder / "whole.parquet",
        range(count + 30),
        [n / 25 for n in range(count + 30)],
        video="raw",
    )
    output = folder / "clipped.parquet"
    with dgrec.open(whole) as session:
        cut(session, [Span(5, 9), Span(17, 13 + count)], output)
    return output


def _parts(folder: Path, count: int) -> Path:
    # Parts are split by real time, of which a second is the least.
    seconds = [number / 25 for number in range(count)]
    return added(
        folder / "parts.parquet", range(count), seconds, 2.6 / count, video="raw", split_every=1.0
    )


def _killed(folder: Path, count: int, name: str = "killed") -> Path:
    output = folder / f"{name}.parquet"
    program = [sys.executable, "-c", _KILLED, str(output), str(count)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-500:]
    return output.with_suffix(".arrows")


def _recovered(folder: Path, count: int) -> Path:
    journal = _killed(folder, count, "recovered")
    recover(journal)
    return journal.with_suffix(".parquet")


#: Makes a recording of about so many frames, in a folder.
CASES: dict[str, _Case] = {
    "constant": _constant,
    "variable": _variable,
    "b-frames": _b_frames,
    "in-place": _matroska,
    "decimated": _decimated,
    "dropped": _dropped,
    "clipped": _clipped,
    "parts": _parts,
    "killed": _killed,
    "recovered": _recovered,
}


# --- footage of other kinds -----------------------------------------------------------------------


def _coded(
    path: Path,
    numbers: Sequence[int],
    pts_ms: Sequence[int] | None = None,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pixel_aspect: Fraction = Fraction(1),
    container: dict[str, str] | None = None,
    turns: int = 0,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write numbered pictures with an encoder and its options.

    Args:
        turns: Quarter turns, counterclockwise, of the pictures in the file.
    """
    pts_ms = [40 * index for index in range(len(numbers))] if pts_ms is None else pts_ms
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height = size[:: -1 if turns % 2 else 1]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.options = dict(options or {})
        for number, pts in zip(numbers, pts_ms, strict=True):
            image = np.ascontiguousarray(np.rot90(numbered_image(number, *size), turns))
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.time_base, frame.pts = Fraction(1, 1000), pts
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


_ODD: Final = (WIDTH + 1, HEIGHT + 3)
_X265: Final = {"preset": "ultrafast", "x265-params": "log-level=none"}
_OPEN_GOP: Final = "open-gop=1:keyint=12:bframes=3"
_X264: Final = {"preset": "ultrafast", "crf": "20"}
_VPX: Final = {"deadline": "realtime", "cpu-used": "8", "b": "2M"}


def _x264(bf: str = "3", params: str = "") -> dict[str, str]:
    return {**_X264, "bf": bf, "x264-params": params}


def _of_kind(name: str, suffix: str, *, video: str | None = None, **how: Any) -> _Case:
    """Return what records footage of a kind, at its place unless ``video`` says otherwise."""

    def make(folder: Path, count: int) -> Path:
        source = _coded(folder / f"{name}-source{suffix}", range(count), **how)
        choices = {} if video is None else {"video": video}
        return recorded(source, folder / f"{name}.parquet", **choices)

    return make


def _steps(folder: Path, count: int, name: str = "steps", **how: Any) -> Path:
    """Steps of two milliseconds and of two seconds."""
    stamps = [index // 4 * 2006 + index % 4 * 2 for index in range(count)]
    source = _coded(folder / f"{name}-source.mp4", range(count), stamps, options=_x264(bf="0"))
    return recorded(source, folder / f"{name}.parquet", **how)


def _before_zero(folder: Path, count: int) -> Path:
    """The first stamps are below zero; an edit list says where the pictures begin."""
    stamps = [40 * index - 400 for index in range(count)]
    how = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    source = _coded(
        folder / "before-zero-source.mp4",
        range(count),
        stamps,
        container=how,
        options=_x264(bf="2"),
    )
    return recorded(source, folder / "before-zero.parquet")


def _turned(folder: Path, count: int, turns: int) -> Path:
    """The container says by how many quarters the pictures are to be turned, clockwise."""
    name = f"turned-{turns}"
    source = _coded(folder / f"{name}-source.mp4", range(count), turns=turns, options=_x264(bf="0"))
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # of its version 0
    one, last = 1 << 16, 1 << 30
    assert struct.unpack_from(">9i", data, at) == (one, 0, 0, 0, one, 0, 0, 0, last)
    matrix = {
        1: (0, one, 0, -one, 0, 0, WIDTH << 16, 0, last),
        2: (-one, 0, 0, 0, -one, 0, WIDTH << 16, HEIGHT << 16, last),
    }
    struct.pack_into(">9i", data, at, *matrix[turns])
    source.write_bytes(data)
    return recorded(source, folder / f"{name}.parquet")


#: As `CASES`, of footage as others make it: the page shows all of it, in one way or the other.
FOOTAGE_CASES: dict[str, _Case] = {
    "open-gop": _of_kind("open-gop", ".mp4", options=_x264(params=_OPEN_GOP)),
    "open-gop-raw": _of_kind(
        "open-gop-raw",
        ".mp4",
        video="raw",
        options=_x264(params=_OPEN_GOP),
    ),
    "interlaced": _of_kind("interlaced", ".mp4", options=_x264(params="tff=1:bframes=2")),
    "wide-pixels": _of_kind("wide-pixels", ".mp4", pixel_aspect=Fraction(16, 11), options=_X264),
    "narrow-pixels": _of_kind(
        "narrow-pixels", ".mkv", pixel_aspect=Fraction(1, 2), video="raw", options=_X264
    ),
    "steps": _steps,
    "steps-raw": lambda folder, count: _steps(
        folder, count, "steps-raw", video="raw", video_quality=70
    ),
    "before-zero": _before_zero,
    "late-start": lambda folder, count: recorded(
        _coded(
            folder / "late-start-source.mkv",
            range(count),
            [5000 + 33 * index for index in range(count)],
            options=_x264(bf="2"),
        ),
        folder / "late-start.parquet",
    ),
    "turned-1": lambda folder, count: _turned(folder, count, 1),
    "turned-2": lambda folder, count: _turned(folder, count, 2),
    "odd-vp9": _of_kind(
        "odd-vp9", ".webm", codec="libvpx-vp9", size=(WIDTH + 1, HEIGHT + 3), options=_VPX
    ),
    "vp8": _of_kind("vp8", ".webm", codec="libvpx", options=_VPX),
    "vp9-mkv": _of_kind("vp9-mkv", ".mkv", codec="libvpx-vp9", options=_VPX),
    "hevc": _of_kind(
        "hevc",
        ".mp4",
        codec="libx265",
        options=_X265,
    ),
    "ts": _of_kind("ts", ".ts", options=_x264(bf="2")),
    "mjpeg": _of_kind("mjpeg", ".avi", codec="mjpeg"),
    "mpeg4": _of_kind("mpeg4", ".mp4", codec="mpeg4", options={"b": "2M"}),
}

"""Recordings of every kind whose pictures say their numbers, as do the boxes of their rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dgrec
from dgrec.recorder.recovery import recover
from dgrec.replay.clip import Span
from dgrec.replay.clip import write_clip as cut
from tests.recorder.doubles import PysdkDouble
from tests.replay.clips import BLOCK, number_in, numbered_image, numbered_results, write_clip

__all__ = ["CASES", "NumberReader", "added", "numbers_of", "recorded"]

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
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-500:]
    return output.with_suffix(".arrows")


def _recovered(folder: Path, count: int) -> Path:
    journal = _killed(folder, count, "recovered")
    recover(journal)
    return journal.with_suffix(".parquet")


#: Makes a recording of about so many frames, in a folder.
CASES: dict[str, Callable[[Path, int], Path]] = {
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

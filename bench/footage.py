"""Every kind of footage, recorded, replayed and clipped, against PyAV's decoding.

    python -m bench.footage [FOLDER ...] [--keep FOLDER]
    python -m bench.footage --speed FILE

Makes some eighty files (`tests.footage`: codecs, containers, interlacing, stamps, damage, display
matrices, shapes of pixels, names) and takes those of the folders that are given. Each is decoded
here with PyAV in a few plain lines, which is what counts, and compared in number, order, times (1
microsecond), size and pixels with

- what the recorder hands to `predict_stream`, and the rows that it writes;
- what replay shows of each row: forwards, backwards and at random;
- a clip of the session, which counts from 0 again, without a video of its own and with one;
- what OpenCV shows, which reads for `predict_stream`, where that is right: whole and progressive.

Times are compared with ffprobe's as well, where that is installed. ``--speed`` reads one file with
dgrec, with OpenCV and with FFmpeg's kinds of threads, in turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import dgrec
from dgrec.clock import Clock
from dgrec.errors import DgrecError
from dgrec.footage import Pixels, find_footage
from dgrec.format import digest
from dgrec.recorder.capture import Capture
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import FileSource, open_source, parse_source
from dgrec.recorder.stream import Stream
from dgrec.replay.clip import Span, write_clip
from dgrec.video import PixelConverter, VideoReader, import_av
from tests.footage import kinds
from tests.recorder.doubles import PysdkDouble

#: FFmpeg's mark of containers that carry no stamps.
_NO_STAMPS = 0x80
_SAME_S = 1e-6


@dataclass
class Truth:
    """What a file shows, by PyAV in a few plain lines."""

    images: list[np.ndarray[Any, Any]]
    times_s: list[float | None]
    packets: int


def decode(path: Path) -> Truth:
    """Decode a file picture by picture, going on after what cannot be decoded."""
    av = import_av()
    truth = Truth([], [], 0)
    with av.open(os.path.abspath(path)) as container:
        stream = container.streams.video[0]
        # More than one thread shows whatever was in memory where a picture is damaged.
        stream.codec_context.thread_count = 1
        start = stream.start_time
        for packet in container.demux(stream):
            truth.packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                image = frame.to_ndarray(format="bgr24", interpolation="BICUBIC")
                time_s: float | None = None
                if container.format.flags & _NO_STAMPS:
                    time_s = len(truth.images) / float(stream.average_rate)
                elif frame.pts is not None:
                    start = frame.pts if start is None else start
                    time_s = float((frame.pts - start) * Fraction(stream.time_base))
                truth.images.append(shown(image, frame))
                truth.times_s.append(time_s)
    return truth


def shown(image: np.ndarray[Any, Any], frame: Any) -> np.ndarray[Any, Any]:
    """Put each pixel where the frame's display matrix says."""
    found = [bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    if not found:
        return image
    matrix = np.sign(np.array(struct.unpack("=9i", found[0])).reshape(3, 3)[:2, :2])
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    places = np.stack([columns.ravel(), rows.ravel()], 1) @ matrix
    places -= places.min(0)
    turned = np.zeros((places[:, 1].max() + 1, places[:, 0].max() + 1, 3), np.uint8)
    turned[places[:, 1], places[:, 0]] = image.reshape(-1, 3)
    return turned


class Counter(PysdkDouble):
    """A model that finds nothing, and keeps copies of what it was given."""

    def __init__(self) -> None:
        super().__init__("Detection", lambda _: [])
        self.given: list[np.ndarray[Any, Any]] = []

    def predict_batch(self, frames: Iterator[Any]) -> Iterator[Any]:
        def noted() -> Iterator[Any]:
            for image in frames:
                self.given.append(image.copy())
                yield image

        return super().predict_batch(noted())


def record(path: Path, output: Path) -> list[np.ndarray[Any, Any]]:
    """Record a file through the real `predict_stream`; return what the model was given."""
    clock, model = Clock(), Counter()
    source = parse_source(str(path))
    capture = Capture(FileSource(open_source(source), clock))
    metadata = {**model.describe(), "source": source.describe(output.parent)}
    recorder = SessionWriter(output, RecordingOptions(), metadata=metadata, clock=clock)
    try:
        Stream(model, capture, recorder, clock=clock).run()
    finally:
        capture.release()
    return model.given


def check(path: Path, folder: Path, *, same_in_opencv: bool, seed: int = 1) -> list[str]:
    """Return what differs, a line each; ``folder`` takes the session."""
    truth = decode(path)
    if not truth.images:
        return ["PyAV decodes no picture"]
    output = folder / "session.parquet"
    try:
        given = record(path, output)
        with dgrec.open(output) as session:
            problems = [
                *differences("recorded", truth.images, given),
                *row_differences(session, truth),
                *event_differences(session, truth),
                *replay_differences(session, truth.images, seed),
                *clip_differences(session, truth, folder),
            ]
    except DgrecError as error:
        return [f"{type(error).__name__}: {error}"]
    if same_in_opencv:
        problems += differences("in OpenCV", truth.images, opencv_images(path))
    return problems


def differences(
    name: str, expected: list[np.ndarray[Any, Any]], found: list[np.ndarray[Any, Any] | None]
) -> Iterator[str]:
    if len(expected) != len(found):
        yield f"{name}: {len(found)} pictures instead of {len(expected)}"
        return
    wrong = [
        i
        for i, (one, other) in enumerate(zip(expected, found, strict=True))
        if other is None or not np.array_equal(one, other)
    ]
    if wrong:
        yield f"{name}: {len(wrong)} pictures differ, the first is {wrong[0]}"


def row_differences(session: dgrec.Session, truth: Truth) -> Iterator[str]:
    rows = session.frames.to_pylist()
    if [row["source_frame"] for row in rows] != list(range(len(truth.images))):
        yield "rows: source_frame does not count the pictures"
        return
    for row, time_s, image in zip(rows, truth.times_s, truth.images, strict=True):
        if (row["height"], row["width"]) != image.shape[:2]:
            yield f"row {row['frame']}: {row['width']}x{row['height']}"
            return
        said = row["media_time_s"]
        if (said is None) != (time_s is None) or (
            said is not None and time_s is not None and abs(said - time_s) > _SAME_S
        ):
            yield f"row {row['frame']}: at {said} instead of {time_s}"
            return
        if row["pixel_digest"] != digest(image):
            yield f"row {row['frame']}: the digest is of another picture"
            return


def event_differences(session: dgrec.Session, truth: Truth) -> Iterator[str]:
    events = session.metadata.get("events", [])
    lost = sum(event["lost"] for event in events if event["kind"] == "damage")
    if lost != truth.packets - len(truth.images):
        yield f"events: {lost} damaged of {truth.packets} with {len(truth.images)} pictures"
    sizes = [image.shape for image in truth.images]
    turns = sum(one != other for one, other in itertools.pairwise(sizes))
    said = sum(event["kind"] == "size" for event in events)
    if said != turns:
        yield f"events: {said} changes of size instead of {turns}"


def replay_differences(
    session: dgrec.Session, expected: list[np.ndarray[Any, Any]], seed: int
) -> Iterator[str]:
    rng = random.Random(seed)
    count = len(expected)
    orders = {
        "forwards": list(range(count)),
        "backwards": list(reversed(range(count))),
        "at random": [rng.randrange(count) for _ in range(2 * count)],
    }
    for name, order in orders.items():
        with Pixels(find_footage(session)) as pixels:
            if pixels.footage.path is None:
                yield f"replayed: {pixels.footage.note}"
                return
            found = [pixels.frame(session.row(index)) for index in order]
        yield from differences(f"replayed {name}", [expected[index] for index in order], found)


def clip_differences(session: dgrec.Session, truth: Truth, folder: Path) -> Iterator[str]:
    count = len(truth.images)
    span = Span(count // 3, max(count // 3 + 1, 2 * count // 3))
    expected = slice(span.start, span.end)
    output = folder / "clip.parquet"
    write_clip(session, [span], output)
    with dgrec.open(output) as clip:
        times_s = [row["media_time_s"] for row in clip.frames.to_pylist()]
        said = [row["media_time_s"] for row in session.frames.to_pylist()][expected]
        if times_s != said:
            yield "clipped: other times"
        with Pixels(find_footage(clip)) as pixels:
            found = [pixels.frame(clip.row(index)) for index in range(len(clip))]
        yield from differences("clipped", truth.images[expected], found)


def opencv_images(path: Path) -> list[np.ndarray[Any, Any]]:
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    images = []
    while (answer := capture.read())[0]:
        images.append(answer[1])
    capture.release()
    return images


def probe_differences(path: Path, truth: Truth) -> Iterator[str]:
    """Compare times with ffprobe's, an older FFmpeg's as a rule."""
    said = subprocess.run(
        [
            "ffprobe",
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-of",
            "json",
            "-show_entries",
            "frame=pts_time:stream=start_time",
            f"file:{path}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(said.stdout or "{}")
    frames = found.get("frames", [])
    start = found.get("streams", [{}])[0].get("start_time", "0")
    if not frames or "pts_time" not in frames[0] or not start[:1].isdigit():
        return
    if len(frames) != len(truth.times_s):
        yield f"ffprobe: {len(frames)} frames"
        return
    for index, (frame, time_s) in enumerate(zip(frames, truth.times_s, strict=True)):
        if "pts_time" in frame and time_s is not None:
            at = float(frame["pts_time"]) - float(start)
            if abs(at - time_s) > 2e-6:  # both are printed with six digits
                yield f"ffprobe: frame {index} at {at:.6f} instead of {time_s:.6f}"
                return


def print_speed(path: Path, rounds: int = 5) -> None:
    """Print how many frames a second are read and turned into arrays, each way, at its best."""
    av = import_av()

    def by_dgrec() -> int:
        reader = VideoReader(path)
        count = sum(1 for _ in iter(reader.read, None))
        reader.release()
        return count

    def by_opencv() -> int:
        capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        count, answer = 0, capture.read()
        while answer[0]:  # the last picture is kept until the next one is there, as by dgrec
            count += 1
            answer = capture.read()
        return count

    def by_threads(kind: str) -> int:
        converter = PixelConverter()
        with av.open(os.path.abspath(path)) as container:
            container.streams.video[0].thread_type = kind
            count, image = 0, None
            for frame in container.decode(video=0):
                image = converter.image(frame)
                count += image is not None
            return count

    ways = {
        "dgrec": by_dgrec,
        "OpenCV": by_opencv,
        "threads for slices": lambda: by_threads("SLICE"),
        "threads for frames": lambda: by_threads("FRAME"),
    }
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for name, read in ways.items():
            started = time.perf_counter()
            count = read()
            best[name] = max(best[name], count / (time.perf_counter() - started))
    for name, rate in best.items():
        print(f"{name:20} {rate:7.0f} frames/s")


def given_files(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in (".md", ".txt", ".json"):
                yield path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="more footage")
    parser.add_argument("--keep", type=Path, help="where the made files go, and are kept")
    parser.add_argument("--speed", type=Path, metavar="FILE", help="time reading of this file")
    options = parser.parse_args()
    if options.speed:
        print_speed(options.speed)
        return 0
    wrong = total = 0
    with tempfile.TemporaryDirectory() as temporary:
        made = options.keep or Path(temporary) / "made"
        made.mkdir(parents=True, exist_ok=True)
        cases: list[tuple[Path, bool, bool]] = []
        for kind in kinds():
            path = made / kind.name
            kind.make(path)
            cases.append((path, kind.same_in_opencv, True))
        cases += [(path, False, False) for path in given_files(options.folders)]
        for path, same_in_opencv, is_made in cases:
            with tempfile.TemporaryDirectory() as folder:
                problems = check(path, Path(folder), same_in_opencv=same_in_opencv)
            if is_made and same_in_opencv and shutil.which("ffprobe"):
                problems += probe_differences(path, decode(path))
            total += 1
            wrong += bool(problems)
            print(f"{'WRONG' if problems else 'right':6} {path.name}", *problems, sep="\n       ")
    print(f"{total - wrong} of {total} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

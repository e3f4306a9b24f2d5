"""Time to jump to any frame of a one-hour video, and whether it is the right one.

    python -m bench.seek [--folder FOLDER]

Three videos of 90,000 frames: small pictures whose every frame has its own number in its pixels;
1280x720 with a key frame a second, as dgrec records; 1280x720 as x264 encodes by default (a key
frame every 250 frames, B-frames). The large ones repeat the packets of their first 1,000 frames,
so that making them takes a minute and not an hour. Each is jumped into 200 times; counting, which
is what a jump took before there was an index, is timed over 3,000 frames.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dgrec.footage import VideoFrames
from dgrec.video import import_av

FRAMES = 90_000
JUMPS = 200
COUNTED = 3_000
BASE = Fraction(1, 1000)
STEP = 40  # milliseconds a frame
BITS = 17


def numbered(number: int, background: Any, block: int) -> Any:
    """Return a picture with a number in its pixels: a row of bits, below it the same inverted."""
    image = background.copy()
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8)
    for top, row in ((0, bits), (block, 1 - bits)):
        strip = np.repeat(row * 255, block)
        image[top : top + block, : BITS * block] = strip[None, :, None]
    return image


def number_in(image: Any, block: int) -> int | None:
    """Return the number in a picture's pixels; None if they contradict themselves."""
    middle = block // 2
    rows = [image[top + middle, middle : BITS * block : block].mean(-1) for top in (0, block)]
    one, inverted = (sum(int(v > 127) << bit for bit, v in enumerate(row)) for row in rows)
    return one if one == inverted ^ (2**BITS - 1) else None


def backgrounds(width: int, height: int) -> Iterator[Any]:
    """Yield pictures in which something moves."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (height // 16, width // 8, 3), np.uint8)
    wide = cv2.resize(coarse, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    wide = cv2.add(wide, rng.integers(0, 12, wide.shape, np.uint8))
    at = 0
    while True:
        yield wide[:, at : at + width]
        at = (at + 3) % width


def make(
    path: Path, size: tuple[int, int], block: int, frames: int, options: dict[str, str]
) -> None:
    """Write a numbered video; after ``frames`` of them, its packets again for the hour."""
    av = import_av()
    packets = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = BASE
        stream.options = options
        pictures = backgrounds(*size)
        background = next(pictures)
        for number in range(frames):
            if frames < FRAMES:
                background = next(pictures)
            picture = numbered(number, background, block)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number * STEP, BASE
            packets += stream.encode(frame)
            if frames == FRAMES:
                for packet in packets:
                    container.mux(packet)
                packets.clear()
        packets += stream.encode(None)
        kept = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        for again in range(FRAMES // frames):
            shift = again * frames * STEP
            for data, pts, dts, is_key in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, BASE
                packet.pts, packet.dts = pts + shift, dts + shift
                packet.is_keyframe = is_key
                container.mux(packet)


def measure(name: str, path: Path, block: int, frames: int) -> None:
    started = time.perf_counter()
    clip = VideoFrames(path)
    clip.read(FRAMES // 2)  # the first jump also opens the index
    opened = time.perf_counter() - started
    assert clip.has_index, "the index was refused"
    rng = random.Random(1)
    taken: list[float] = []
    processor: list[float] = []
    wrong = 0
    for _ in range(JUMPS):
        index = rng.randrange(FRAMES)
        started, busy = time.perf_counter(), time.process_time()
        image = clip.read(index)
        taken.append((time.perf_counter() - started) * 1000)
        processor.append((time.process_time() - busy) * 1000)
        wrong += image is None or number_in(image, block) != index % frames
    clip.close()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    started = time.perf_counter()
    for _ in range(COUNTED):
        capture.grab()
    rate = COUNTED / (time.perf_counter() - started)
    capture.release()
    taken.sort()
    middle = FRAMES / 2 / rate * 1000
    median = statistics.median(taken)
    print(
        f"{name:34} {path.stat().st_size / 1e6:6.0f} MB  open {opened * 1000:5.0f} ms  "
        f"median {median:5.1f}  p95 {taken[int(0.95 * JUMPS)]:5.1f}  max {taken[-1]:5.1f} ms "
        f"({max(processor):.0f} ms of CPU)  "
        f"{wrong} of {JUMPS} wrong;  counting {rate:5.0f} frames/s, {middle / median:,.0f} times "
        "the median to the middle"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the videos go, and are kept")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        every_second = {"preset": "veryfast", "g": "25", "bf": "0"}
        for name, size, block, frames, options in (
            ("own numbers, a key a second", (160, 64), 8, FRAMES, {**every_second, "bf": "2"}),
            ("1280x720, a key a second", (1280, 720), 40, 1000, every_second),
            ("1280x720, x264's defaults", (1280, 720), 40, 1000, {"preset": "medium"}),
        ):
            path = place / f"{name.replace(' ', '_').replace(',', '')}.mp4"
            if not path.exists():
                make(path, size, block, frames, options)
            measure(name, path, block, frames)


if __name__ == "__main__":
    main()

"""The cost of digest and signature of a frame's pixels, and of copying them.

    python -m bench.digest [CLIP ...] [--frames 300]

Processor time of the calling thread, medians in microseconds. "decoded" are frames as the recorder
has them, just made by a decoder (synthetic footage of 1280x720), "from memory" those that no cache
holds any more. The writer makes the signatures, of many samples at once, in a thread of its own.
With clips: of how many frames that differ from the one before the digest is equal, and how often
the signature finds the frame of a copy re-encoded at CRF 28 among all frames of the clip, beside
what a comparison of whole pictures finds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from dgrec.format import digest, fingerprint, signature, vectors
from dgrec.format.digest import signatures

_Array = np.ndarray[Any, Any]
_SIZE = 1280, 720
#: More than the caches of any processor here hold.
_MANY = 64


def pictures(count: int) -> list[_Array]:
    rng = np.random.default_rng(0)
    width, height = _SIZE
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def decoded(path: Path, frames: int) -> Iterator[_Array]:
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == frames:
                return
            yield frame.to_ndarray(format="bgr24")


def encode(path: Path, images: Iterator[_Array], crf: int) -> None:
    with av.open(str(path), "w") as container:
        stream = None
        for index, image in enumerate(images):
            if stream is None:
                stream = container.add_stream("libx264", rate=30, options={"crf": str(crf)})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = index
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())


def moving(frames: int) -> Iterator[_Array]:
    width, height = _SIZE
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (height // 8, width // 4, 3), np.uint8)
    wide = cv2.resize(small, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    for index in range(frames):
        at = index * 2 % width
        yield np.ascontiguousarray(wide[:, at : at + width])


def cost(call: Callable[[_Array], Any], images: Any) -> float:
    took = []
    for image in images:
        began = time.thread_time_ns()
        call(image)
        took.append((time.thread_time_ns() - began) / 1000)
    return statistics.median(took)


def print_costs(name: str, make: Callable[[], Any]) -> None:
    copy = np.empty((_SIZE[1], _SIZE[0], 3), np.uint8)

    def memcpy(image: _Array) -> None:
        nonlocal copy
        if copy.shape != image.shape:
            copy = np.empty_like(image)
        np.copyto(copy, image)

    calls: dict[str, Callable[[_Array], Any]] = {
        "digest and sample": fingerprint,
        "digest alone": digest,
        "copy of the frame": memcpy,
        "cv2.resize to 640x640": lambda image: cv2.resize(image, (640, 640)),
    }
    parts = [f"{each} {cost(call, make()):.0f}" for each, call in calls.items()]
    print(f"{name}: {', '.join(parts)} us")


def print_batch_cost() -> None:
    """Print what a signature costs as the writer makes them: of the rows of half a second."""
    batch = [fingerprint(image).sample for image in pictures(15)]
    each = cost(signatures, [batch] * 100) / len(batch)
    print(f"signature of a sample, in a batch of {len(batch)}: {each:.1f} us")


def compare(path: Path, frames: int) -> None:
    """Print how well digests and signatures tell the frames of a clip apart."""
    images = list(decoded(path, frames))
    pairs = list(itertools.pairwise(images))
    differing = [(a, b) for a, b in pairs if not np.array_equal(a, b)]
    equal = sum(digest(a) == digest(b) for a, b in differing)
    print(f"{path.name}: {len(differing)} of {len(pairs)} frames differ from the one before;")
    print(f"  the digest is equal in {equal} of them")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.mp4"
        encode(copy, iter(images), 28)
        copies = list(decoded(copy, frames))
    recorded = vectors([signature(image) or b"" for image in images])
    of_copy = vectors([signature(image) or b"" for image in copies])
    whole = np.array([small(image) for image in images])
    found, near, by_whole = 0, 0, 0
    for index, image in enumerate(copies):
        nearest = int(np.linalg.norm(recorded - of_copy[index], axis=1).argmin())
        found += nearest == index
        near += abs(nearest - index) <= 1
        by_whole += int(np.square(whole - small(image)).sum(1).argmin()) == index
    shares = [f"{100 * number / len(copies):.1f}%" for number in (found, near, by_whole)]
    print(
        f"  of the copy's {len(copies)} frames the signature finds {shares[0]} (to one frame "
        f"{shares[1]}); a comparison of whole pictures {shares[2]}"
    )


def small(image: _Array) -> _Array:
    resized = cv2.resize(image[..., 1], (480, 270), interpolation=cv2.INTER_AREA)
    return resized.astype(np.float32).ravel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP")
    parser.add_argument("--frames", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "moving.mp4"
        encode(clip, moving(arguments.frames), 23)
        print_costs("decoded", lambda: decoded(clip, arguments.frames))
    stored = pictures(_MANY)
    print_costs("from memory", lambda: stored * 5)
    print_costs("the same frame again", lambda: stored[:1] * 300)
    print_batch_cost()
    for path in arguments.clips:
        compare(path, arguments.frames)


if __name__ == "__main__":
    main()

"""Speed of drawing overlays again and replaying to MP4, next to the other ways.

    python -m bench.replay_speed [--video CLIP] [--frames 300] [--repetitions 5]

Two tables. *Drawing*: milliseconds a frame for instance masks, classification and boxes at
960x540, by PySDK's own `image_overlay`, by dgrec (every picture compared, pixel by pixel) and by
supervision's annotators, each going through all frames by itself; the fastest repetition counts,
which leaves out what other programs took. *Replay to MP4*: the same clip with ten boxes a frame,
decoded, drawn and encoded, next to decoding and encoding it without drawing anything: as a plain
loop and with decoding in a thread of its own, the faster of which is the floor. All with the same
decoder, encoder and settings; only DeGirum's `annotate_video` brings its own (it pipes into the
program ``ffmpeg``, libx264 as that sets it).

Repetitions take turns; the fastest of each counts, and the ratio within each is printed too.
supervision, and an ``ffmpeg`` on PATH, are left out where they are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dgrec
from dgrec import overlay, sample
from dgrec.footage import Pixels, VideoFrames, find_footage
from dgrec.replay.rendering import write_replay
from dgrec.replay.rendering.pipeline import ahead
from dgrec.video import Image, VideoWriter
from tests.factory import LABELS, make_row, new_metadata, smooth_boxes, write_session

WIDTH, HEIGHT = 960, 540
COLORS = [[255, 255, 0], [0, 128, 255], [250, 20, 90], [10, 200, 30]]
STEP_US = 40_000


# --- what is drawn -----------------------------------------------------------------------------


def scaled_clip(source: Path, frames: int, path: Path) -> list[Image]:
    """Write ``frames`` frames of a clip as 960x540, from the start again as often as it takes."""
    import cv2

    clip = VideoFrames(source)
    pictures = []
    with VideoWriter(path, WIDTH, HEIGHT) as writer:
        for number in range(frames):
            image = clip.read(number % clip.length if clip.length else number)
            if image is None:
                assert clip.length
                image = clip.read(number % clip.length)
            picture = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            writer.write(picture, number * STEP_US)
            if number < 60:
                pictures.append(picture)
    clip.close()
    return pictures


def boxes(frames: int, count: int) -> list[list[dict[str, Any]]]:
    found = smooth_boxes(frames, count, seed=2)
    for detections in found:  # they are made for 1920x1080
        for detection in detections:
            detection["bbox"] = [value / 2 for value in detection["bbox"]]
    return found


def masked(frames: int) -> list[list[dict[str, Any]]]:
    """Return three instances a frame, with masks as PySDK has them: float32, of the box's size."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:240, :200]
    oval = np.clip(1.2 - ((x - 100) / 100) ** 2 - ((y - 120) / 120) ** 2, 0, 1).astype(np.float32)
    result = []
    for _ in range(frames):
        found = []
        for index in range(3):
            left = int(rng.integers(0, WIDTH - 200))
            top = int(rng.integers(0, HEIGHT - 240))
            found.append(
                {
                    "bbox": [left + 0.5, top + 0.25, left + 199.5, top + 239.75],
                    "category_id": index,
                    "label": LABELS[index],
                    "score": 0.75,
                    "mask": {"x_min": left, "y_min": top, "data": oval},
                }
            )
        result.append(found)
    return result


def classes(frames: int) -> list[list[dict[str, Any]]]:
    return [
        [{"category_id": i, "label": LABELS[i], "score": 0.9 / (i + 1)} for i in range(4)]
        for _ in range(frames)
    ]


def pysdk_result(type_name: str, found: Any, image: Image) -> Any:
    from degirum.postprocessor import class_from_type_string

    result = class_from_type_string(type_name)(
        inference_results=[],
        conversion=lambda x, y: (x, y),
        input_image=image,
        draw_color=[tuple(color) for color in COLORS],
        label_dictionary=dict(enumerate(LABELS)),
        alpha="auto",
    )
    result._inference_results = found
    if type_name == "SegmentationYoloV8":
        result.masks_present = True
    return result


# --- supervision -------------------------------------------------------------------------------


def supervision_annotators(with_masks: bool) -> Callable[[list[Any], Image], Image] | None:
    if importlib.util.find_spec("supervision") is None:
        return None
    import supervision as sv

    annotators = [sv.BoxAnnotator(thickness=3), sv.LabelAnnotator()]
    if with_masks:
        annotators.insert(0, sv.MaskAnnotator(opacity=0.5))

    def detections_of(found: list[Any]) -> Any:
        masks = None
        if with_masks:
            masks = np.zeros((len(found), HEIGHT, WIDTH), bool)
            for index, item in enumerate(found):
                mask = item["mask"]
                height, width = mask["data"].shape
                top, left = mask["y_min"], mask["x_min"]
                masks[index, top : top + height, left : left + width] = mask["data"] > 0
        return sv.Detections(
            xyxy=np.array([item["bbox"] for item in found], np.float32),
            confidence=np.array([item["score"] for item in found], np.float32),
            class_id=np.array([item["category_id"] for item in found]),
            mask=masks,
            data={"class_name": np.array([item["label"] for item in found])},
        )

    def annotate(found: list[Any], image: Image) -> Image:
        detections = detections_of(found)
        picture = image.copy()
        for annotator in annotators:
            picture = annotator.annotate(picture, detections)
        return picture

    return annotate


# --- drawing -----------------------------------------------------------------------------------


def measure_drawing(pictures: list[Image], repetitions: int) -> bool:
    """Print the first table; return whether every picture was identical."""
    cases = (
        ("instance masks (3)", "SegmentationYoloV8", masked(len(pictures))),
        ("classification (4)", "Classification", classes(len(pictures))),
        ("boxes (10)", "Detection", boxes(len(pictures), 10)),
    )
    print(f"drawing at {WIDTH}x{HEIGHT}, ms a frame, the fastest of {repetitions} repetitions\n")
    print("| what | PySDK | dgrec | times as fast | identical | supervision |")
    print("|---|--:|--:|--:|--:|--:|")
    all_identical = True
    for name, type_name, found in cases:
        annotate = (
            None if type_name == "Classification" else supervision_annotators("masks" in name)
        )
        identical = drawn = 0
        fastest = [math.inf] * 3
        for _ in range(repetitions):
            # Each way goes through all frames by itself, as a replay does: in turns from frame to
            # frame, each would find the caches full of what the other has left.
            pairs = list(zip(found, pictures, strict=True))
            ways: list[list[Any]] = []
            for way, draw in enumerate(
                (lambda result: result.image_overlay, overlay.image_overlay)
            ):
                results = [pysdk_result(type_name, items, image) for items, image in pairs]
                ways.append([])
                seconds = 0.0
                for result in results:
                    picture, took = timed(draw, result)
                    seconds += took
                    ways[-1].append(hash(picture.tobytes()))
                fastest[way] = min(fastest[way], seconds)
            identical += sum(one == two for one, two in zip(*ways, strict=True))
            drawn += len(pairs)
            if annotate is not None:
                seconds = sum(
                    timed(lambda pair: annotate(*pair), pair)[1]  # noqa: B023
                    for pair in pairs
                )
                fastest[2] = min(fastest[2], seconds)
        all_identical = all_identical and identical == drawn
        theirs, ours, other = (total * 1000 / len(pictures) for total in fastest)
        print(
            f"| {name} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f} "
            f"| {identical:,} of {drawn:,} | {f'{other:.2f}' if annotate else '-'} |"
        )
    return all_identical


def by_pysdk(result: Any) -> Image:
    overlay: Image = result.image_overlay
    return overlay


def timed(draw: Callable[[Any], Any], argument: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    drawn = draw(argument)
    return drawn, time.perf_counter() - begin


# --- replay to MP4 -----------------------------------------------------------------------------


def clip_frames(clip: VideoFrames) -> Iterator[Image]:
    number = 0
    while (image := clip.read(number)) is not None:
        yield image
        number += 1


def copy_in_a_loop(clip_path: Path, output: Path) -> None:
    clip = VideoFrames(clip_path)
    with VideoWriter(output, WIDTH, HEIGHT) as writer:
        for number, image in enumerate(clip_frames(clip)):
            writer.write(image, number * STEP_US)
    clip.close()


def copy_side_by_side(clip_path: Path, output: Path) -> None:
    clip = VideoFrames(clip_path)
    with (
        VideoWriter(output, WIDTH, HEIGHT) as writer,
        contextlib.closing(ahead(clip_frames(clip), "decode")) as images,
    ):
        for number, image in enumerate(images):
            writer.write(image, number * STEP_US)
    clip.close()


def replay(session_path: Path, output: Path) -> None:
    with dgrec.open(session_path) as session, Pixels(find_footage(session)) as pixels:
        write_replay(session, pixels, output)


def supervision_video(clip_path: Path, output: Path, found: list[Any]) -> None:
    annotate = supervision_annotators(False)
    assert annotate is not None
    clip = VideoFrames(clip_path)
    with VideoWriter(output, WIDTH, HEIGHT) as writer:
        for number, image in enumerate(clip_frames(clip)):
            writer.write(annotate(found[number], image), number * STEP_US)
    clip.close()


class _Answers:
    """In a model's place: gives the recorded results, so that no inference is in the time."""

    def __init__(self, found: list[Any]) -> None:
        self._found = found

    def predict_batch(self, images: Any) -> Iterator[Any]:
        for found, image in zip(self._found, images, strict=False):
            picture = image[0] if isinstance(image, tuple) else image
            yield pysdk_result("Detection", found, picture)


def annotate_video(clip_path: Path, output: Path, found: list[Any]) -> None:
    import degirum_tools

    degirum_tools.annotate_video(
        _Answers(copy.deepcopy(found)),
        str(clip_path),
        str(output),
        show_progress=False,
        visual_display=False,
    )


def measure_replay(folder: Path, clip_path: Path, frames: int, repetitions: int) -> None:
    found = boxes(frames, 10)
    metadata = new_metadata(
        source={
            "kind": "file",
            "given": clip_path.name,
            "path": str(clip_path),
            "size": clip_path.stat().st_size,
        },
        overlay={"color": COLORS, "alpha": "auto", "line_width": 3, "show_labels": True},
    )
    metadata["model"]["result_type"] = "Detection"
    rows = [
        make_row(i, found[i], width=WIDTH, height=HEIGHT, media_time_s=i * STEP_US / 1e6)
        for i in range(frames)
    ]
    session_path = write_session(folder / "session.parquet", rows, metadata)
    ways: dict[str, Callable[[Path], None]] = {
        "decode and encode, a plain loop": lambda output: copy_in_a_loop(clip_path, output),
        "decode and encode, side by side": lambda output: copy_side_by_side(clip_path, output),
        "dgrec replay": lambda output: replay(session_path, output),
    }
    if importlib.util.find_spec("supervision") is not None:
        ways["supervision's annotators, in the plain loop"] = lambda output: supervision_video(
            clip_path, output, found
        )
    if shutil.which("ffmpeg"):
        ways["DeGirum's annotate_video"] = lambda output: annotate_video(clip_path, output, found)
    times: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        for name, way in ways.items():
            output = folder / f"{repetition}-{len(times[name])}.mp4"
            begin, used = time.perf_counter(), processor_seconds()
            way(output)
            seconds, used = time.perf_counter() - begin, processor_seconds() - used
            assert len(list(clip_frames(VideoFrames(output)))) == frames, name
            output.unlink()
            if repetition:  # the first one warms up
                times[name].append(seconds)
                processor[name].append(used)
    floors = [min(pair) for pair in zip(*list(times.values())[:2], strict=True)]
    print(
        f"\n{frames} frames of {WIDTH}x{HEIGHT}, 10 boxes each, to MP4; fastest of {repetitions} "
        "repetitions; rate against the faster of the first two"
    )
    print("\n| way | frames/s | CPU ms/frame | rate | rate, by repetition |")
    print("|---|--:|--:|--:|---|")
    for name, series in times.items():
        each = " ".join(f"{floor / one:.2f}" for floor, one in zip(floors, series, strict=True))
        print(
            f"| {name} | {frames / min(series):.0f} | {min(processor[name]) * 1000 / frames:.1f} "
            f"| {min(floors) / min(series):.2f} | {each} |"
        )


def processor_seconds() -> float:
    """Return the processor time of this process and of the programs that it ran."""
    return sum(os.times()[:4])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, default=sample.CLIP)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip_path = folder / "clip.mp4"
        pictures = scaled_clip(options.video, options.frames, clip_path)
        identical = measure_drawing(pictures, options.repetitions)
        measure_replay(folder, clip_path, options.frames, options.repetitions)
    return 0 if identical else 1


if __name__ == "__main__":
    raise SystemExit(main())

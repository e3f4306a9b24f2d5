"""Small sessions whose exports are compared with what went into them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgrec.format import Row
from tests.factory import make_detection, make_row, new_metadata, smooth_boxes, write_session
from tests.replay.clips import file_source, numbered_metadata, numbered_row, write_clip

SIZE = (1920, 1080)
#: Key points of every object of `with_points`, and how they are connected.
POINTS = ("nose", "left eye", "right eye")
CONNECTED = ([1, 2], [], [])
#: Pictures of `numbered`: frame i is picture 3 + 2 i of the clip.
NUMBERED = 12


def tracked_rows(frames: int = 30, boxes: int = 5) -> list[Row]:
    """Return frames with boxes of float64; all but the last box of each have a track.

    Every tenth frame is empty, and track 2 is away for a while.
    """
    rows = []
    for i, results in enumerate(smooth_boxes(frames, boxes)):
        for box, detection in enumerate(results):
            detection["bbox"] = [abs(value) / 3 for value in detection["bbox"]]
            if box < boxes - 1:
                detection["track_id"] = box + 1
        if i % 10 == 9:
            results = []
        elif 12 <= i < 16:
            results = [each for each in results if each.get("track_id") != 2]
        rows.append(make_row(i, results, width=SIZE[0], height=SIZE[1]))
    return rows


def tracked(folder: Path, **metadata: Any) -> tuple[Path, list[Row]]:
    rows = tracked_rows()
    return write_session(folder / "tracked.parquet", rows, new_metadata(**metadata)), rows


def disc(width: int, height: int) -> np.ndarray[Any, Any]:
    """Return a mask as PySDK has it: scores of pixels, above 0 inside."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    inside = ((x - width / 2) / (width / 2)) ** 2 + ((y - height / 2) / (height / 2)) ** 2 < 1
    return np.where(inside, np.float32(0.8), np.float32(0))


def with_masks(folder: Path) -> tuple[Path, list[Row]]:
    rows = []
    for i in range(8):
        left, top = 20 + 5 * i, 30
        mask = {"x_min": left, "y_min": top, "data": disc(60 + i, 40)}
        box = [float(left), float(top), float(left + 60 + i), float(top + 40)]
        plain = make_detection(1)
        # The second one reaches over the picture's edge.
        over = {"x_min": 610, "y_min": 460, "data": disc(60, 40)}
        rows.append(
            make_row(
                i,
                [
                    make_detection(0, bbox=box, mask=mask),
                    plain,
                    make_detection(2, bbox=[610.0, 460.0, 670.0, 500.0], mask=over),
                ],
            )
        )
    return write_session(folder / "masks.parquet", rows), rows


def with_points(folder: Path) -> tuple[Path, list[Row]]:
    rows = []
    for i in range(6):
        results = []
        for number in range(2):
            x = 50.25 + 10 * i + 100 * number
            # One at the edge is a whole number, as PySDK has it.
            places: list[list[Any]] = [[x, 60.5], [x + 8.125, 50.0], [0, 55.75]]
            points = [
                {
                    "category_id": index,
                    "connect": CONNECTED[index],
                    "label": name,
                    "landmark": places[index],
                    "score": 0.5,
                }
                for index, name in enumerate(POINTS)
            ]
            results.append(
                make_detection(
                    0, bbox=[x - 20, 40.0, x + 20, 80.0], category_id=0, landmarks=points
                )
            )
        rows.append(make_row(i, results))
    return write_session(folder / "points.parquet", rows), rows


def numbered(folder: Path, frames: int = NUMBERED, **clip: Any) -> Path:
    """Write a session of a clip: pictures say the source's number, boxes that of the frame."""
    video = write_clip(folder / "clip.mp4", 3 + 2 * frames, **clip)
    rows = [numbered_row(i, 3 + 2 * i, media_time_s=(3 + 2 * i) * 0.04) for i in range(frames)]
    source = file_source(video, folder, frames=3 + 2 * frames)
    return write_session(folder / "numbered.parquet", rows, numbered_metadata(source))


def detections(rows: Sequence[Row]) -> list[tuple[int, dict[str, Any]]]:
    """Return (number of the frame, detection), in order."""
    return [(i, each) for i, row in enumerate(rows) for each in row.results]

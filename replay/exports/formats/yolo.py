"""YOLO data sets in Ultralytics' layout: boxes, segments, poses, turned boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dgrec.errors import ConfigError
from dgrec.replay.exports import (
    Classes,
    Detection,
    Exported,
    Format,
    Frame,
    Mask,
    corners_of,
    frame_masks,
    registered,
)

__all__ = ["Yolo", "YoloObb", "YoloPose", "YoloSegments"]

_HOLDS = frozenset({"label", "empty frames", "float64"})


@registered
class Yolo(Format):
    """Boxes: a line ``class x y width height`` for each, as parts of the picture's size.

    A folder: ``data.yaml``, ``images/SPLIT/`` and ``labels/SPLIT/``. Without splits there is one,
    ``train``.
    """

    name = "yolo"
    title = "YOLO data set: boxes"
    is_folder = True
    replaced = ("data.yaml", "images", "labels")
    holds = _HOLDS
    pictures = ("jpg", "png", "none")
    has_splits = True

    def __init__(self) -> None:
        #: The points that each object has, once that is known.
        self._points: int | None = None

    def picture_name(self, number: int, index: int, split: str, suffix: str) -> str:
        return f"images/{split or 'train'}/frame-{number:06}{suffix}"

    def write(self, exported: Exported, path: Path) -> None:
        classes = exported.classes(contiguous=True)
        for split in exported.splits:
            (path / "labels" / (split or "train")).mkdir(parents=True, exist_ok=True)
            (path / "images" / (split or "train")).mkdir(parents=True, exist_ok=True)
        for frame in exported.frames():
            width, height = frame.size
            if frame.detections and not (width and height):
                raise ConfigError(
                    f"frame {frame.number}: has no recorded size, of which YOLO's numbers are parts"
                )
            lines = self._lines(exported, classes, frame)
            name = f"frame-{frame.number:06}.txt"
            text = "".join(f"{line}\n" for line in lines)
            (path / "labels" / (frame.split or "train") / name).write_text(text, "ascii")
        (path / "data.yaml").write_text(self._description(exported, classes), "utf-8")

    def _description(self, exported: Exported, classes: Classes) -> str:
        splits = [split or "train" for split in exported.splits]
        found: dict[str, Any] = {name: f"images/{name}" for name in splits}
        for needed in ("train", "val"):  # Ultralytics wants both
            if needed not in found:
                found[needed] = found[splits[0]]
                exported.notes.append(
                    f"data.yaml has no pictures of its own for {needed}: it names those of "
                    f"{splits[0]} (--split train=0.8,val=0.2 sets some apart)"
                )
        found["names"] = classes.names
        found |= self._more()
        return yaml.safe_dump(found, allow_unicode=True, sort_keys=False)

    def _more(self) -> dict[str, Any]:
        """Return what else the description of the data set needs."""
        return {}

    def _lines(self, exported: Exported, classes: Classes, frame: Frame) -> list[str]:
        """Return the lines of a frame's labels."""
        return [
            _line(classes, each, box)
            for each in frame.detections
            if (box := _box(exported, each, frame)) is not None
        ]


def _line(classes: Classes, detection: Detection, numbers: Sequence[float]) -> str:
    number = classes.number(detection.label, detection.category_id)
    return " ".join([str(number), *map(repr, numbers)])


def _box(exported: Exported, detection: Detection, frame: Frame) -> list[float] | None:
    """Return centre and size as parts of the picture's; None if it is not in the picture."""
    width, height = frame.size
    x_min, x_max = (min(max(x, 0.0), width) for x in (detection.x_min, detection.x_max))
    y_min, y_max = (min(max(y, 0.0), height) for y in (detection.y_min, detection.y_max))
    if x_max <= x_min or y_max <= y_min:
        exported.losses.add("left out boxes that are not in the picture")
        return None
    if (x_min, y_min, x_max, y_max) != detection.box:
        exported.losses.add("cut boxes at the edge of the picture")
    return [
        (x_min + x_max) / 2 / width,
        (y_min + y_max) / 2 / height,
        (x_max - x_min) / width,
        (y_max - y_min) / height,
    ]


@registered
class YoloSegments(Yolo):
    """Segments: the outline of each mask's largest piece."""

    name = "yolo-seg"
    title = "YOLO data set: outlines of masks"
    holds = _HOLDS | {"mask"}

    def _lines(self, exported: Exported, classes: Classes, frame: Frame) -> list[str]:
        masks = frame_masks(frame)
        found = [
            (each, _outline(exported, mask, frame))
            for each, mask in zip(frame.detections, masks, strict=True)
        ]
        return [_line(classes, each, points) for each, points in found if points]


def _outline(exported: Exported, mask: Mask | None, frame: Frame) -> list[float]:
    if mask is None:
        exported.losses.add("left out what has no mask in the picture")
        return []
    points, is_all = mask.outline()
    if len(points) < 3:
        exported.losses.add("left out masks of less than three points")
        return []
    if not is_all:
        exported.losses.add("yolo-seg cannot hold holes and further pieces of a mask")
    values: list[float] = (points / frame.size).reshape(-1).tolist()
    return values


@registered
class YoloPose(Yolo):
    """Poses: a box, and x, y and visibility of each key point."""

    name = "yolo-pose"
    title = "YOLO data set: boxes with key points"
    holds = _HOLDS | {"landmarks"}

    def _more(self) -> dict[str, Any]:
        if self._points is None:
            raise ConfigError("there are no key points for yolo-pose; --format yolo takes boxes")
        return {"kpt_shape": [self._points, 3]}

    def _lines(self, exported: Exported, classes: Classes, frame: Frame) -> list[str]:
        lines = []
        for each in frame.detections:
            points = each.landmarks
            if points and self._points is None:
                self._points = len(points)
            if not points or len(points) != self._points:
                exported.losses.add("left out what has no key points, or another number of them")
                continue
            box = _box(exported, each, frame)
            if box is not None:
                lines.append(_line(classes, each, [*box, *_places(points, frame)]))
        return lines


def _places(points: list[dict[str, Any]], frame: Frame) -> list[float]:
    width, height = frame.size
    values: list[float] = []
    for point in points:
        place = point["landmark"] or []
        # A comparison with NaN is false.
        if len(place) >= 2 and 0 <= place[0] <= width and 0 <= place[1] <= height:
            values += [place[0] / width, place[1] / height, 2]
        else:
            values += [0.0, 0.0, 0]
    return values


@registered
class YoloObb(Yolo):
    """Turned boxes: the four corners of each."""

    name = "yolo-obb"
    title = "YOLO data set: turned boxes"
    holds = _HOLDS | {"angle"}

    def _lines(self, exported: Exported, classes: Classes, frame: Frame) -> list[str]:
        width, height = frame.size
        lines = []
        for each in frame.detections:
            corners = corners_of(each.box, each.angle)
            values = [part for x, y in corners for part in (x / width, y / height)]
            if not all(0 <= value <= 1 for value in values):
                exported.losses.add("left out turned boxes that reach over the picture's edge")
                continue
            lines.append(_line(classes, each, values))
        return lines

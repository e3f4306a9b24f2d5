"""YOLO data sets in Ultralytics' layout: boxes, segments, poses, turned boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from dgrec.errors import ConfigError
from dgrec.replay.exports import (
    Block,
    Classes,
    Exported,
    ExportFormat,
    Frame,
    Mask,
    corners_of,
    frame_masks,
)

_Array = np.ndarray[Any, Any]
_HOLDS = frozenset({"label", "empty frames", "float64"})


class Yolo(ExportFormat):
    """Boxes: a line ``class x y width height`` for each, as parts of the picture's size.

    A folder: ``data.yaml``, ``images/SPLIT/`` and ``labels/SPLIT/``. Without splits there is one,
    ``train``.
    """

    name = "yolo"
    title = "YOLO data set: boxes"
    is_folder = True
    replaced = ("data.yaml", "images", "labels")
    names_classes = True
    holds = _HOLDS
    pictures = ("jpg", "png", "none")
    has_splits = True

    def __init__(self) -> None:
        #: Number of key points of each object, once that is known.
        self._points: int | None = None

    def picture_name(self, number: int, index: int, split: str, suffix: str) -> str:
        return f"images/{split or 'train'}/frame-{number:06}{suffix}"

    def write(self, exported: Exported, path: Path) -> None:
        classes = exported.classes(contiguous=True)
        for split in exported.splits:
            (path / "labels" / (split or "train")).mkdir(parents=True, exist_ok=True)
            (path / "images" / (split or "train")).mkdir(parents=True, exist_ok=True)
        for block in exported.blocks():
            _check_sizes(block, exported.session.path)
            lines = self._lines(exported, classes, block)
            folder = path / "labels" / (block.split or "train")
            numbers = block.rows.column("frame").to_pylist()
            bounds = np.searchsorted(block.row_of, np.arange(len(numbers) + 1)).tolist()
            for number, first, end in zip(numbers, bounds[:-1], bounds[1:], strict=True):
                text = "".join(line for line in lines[first:end] if line is not None)
                (folder / f"frame-{number:06}.txt").write_text(text, "ascii")
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
        """Return further entries of the data set's description."""
        return {}

    def _lines(self, exported: Exported, classes: Classes, block: Block) -> list[str | None]:
        """Return the line of each detection; None for one that is left out."""
        boxes, is_there = _boxes(exported, block)
        numbers = pa.array(_numbers(classes, block), pa.int64())
        columns = [column.cast(pa.string()) for column in (numbers, *map(pa.array, boxes.T))]
        lines = pc.binary_join_element_wise(*columns, " ")
        lines = pc.if_else(pa.array(is_there), lines, pa.scalar(None, pa.string()))
        found: list[str | None] = pc.binary_join_element_wise(lines, "\n", "").to_pylist()
        return found


def _check_sizes(block: Block, path: Path) -> None:
    """Refuse frames without a size: all numbers are parts of it.

    Raises:
        ConfigError: A frame with detections has none.
    """
    for row in np.unique(block.row_of).tolist():
        if 0 in block.size(row):
            number = block.rows.column("frame")[row]
            raise ConfigError(
                f"{path}: frame {number} has no recorded size, of which YOLO's numbers are parts"
            )


def _numbers(classes: Classes, block: Block) -> list[int]:
    return list(map(classes.number, block.values("label"), block.values("category_id")))


def _line(number: int, values: Sequence[float]) -> str:
    return " ".join([str(number), *map(repr, values)]) + "\n"


def _cut(
    exported: Exported, block: Block, chosen: _Array | bool = True
) -> tuple[_Array, _Array, _Array]:
    """Return each box, cut at the edge of its picture; the picture's size; and which are in it.

    Args:
        chosen: Which boxes are counted.
    """
    row_of = pa.array(block.row_of)
    width, height = (
        block.rows.column(name).take(row_of).to_numpy(zero_copy_only=False).astype(np.float64)
        for name in ("width", "height")
    )
    x_min, y_min, x_max, y_max = (
        block.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
        for name in ("x_min", "y_min", "x_max", "y_max")
    )
    left, right = np.clip(x_min, 0, width), np.clip(x_max, 0, width)
    top, bottom = np.clip(y_min, 0, height), np.clip(y_max, 0, height)
    is_there = (right > left) & (bottom > top)
    is_cut = (left != x_min) | (right != x_max) | (top != y_min) | (bottom != y_max)
    is_cut &= is_there & chosen
    exported.losses.add("cut boxes at the edge of the picture", np.count_nonzero(is_cut))
    exported.leave_out("boxes that are not in the picture", np.count_nonzero(~is_there & chosen))
    return np.stack([left, top, right, bottom]), np.stack([width, height]), is_there


def _boxes(exported: Exported, block: Block) -> tuple[_Array, _Array]:
    """Return centre and size of each box as parts of the picture's size, and which are in it."""
    (left, top, right, bottom), (width, height), is_there = _cut(exported, block)
    centre = [(left + right) / 2 / width, (top + bottom) / 2 / height]
    return np.stack([*centre, (right - left) / width, (bottom - top) / height], axis=1), is_there


class YoloSegments(Yolo):
    """Segments: the outline of each mask's largest piece."""

    name = "yolo-seg"
    title = "YOLO data set: outlines of masks"
    holds = _HOLDS | {"mask"}

    def _lines(self, exported: Exported, classes: Classes, block: Block) -> list[str | None]:
        found: list[str | None] = []
        for frame in block.frames():
            for each, mask in zip(frame.detections, frame_masks(frame), strict=True):
                points = _outline(exported, mask, frame)
                number = classes.number(each.label, each.category_id)
                found.append(_line(number, points) if points else None)
        return found


def _outline(exported: Exported, mask: Mask | None, frame: Frame) -> list[float]:
    if mask is None:
        exported.leave_out("what has no mask in the picture")
        return []
    points, is_all = mask.outline()
    if len(points) < 3:
        exported.leave_out("masks of less than three points")
        return []
    if not is_all:
        exported.losses.add("yolo-seg cannot hold holes and further pieces of a mask")
    values: list[float] = (points / frame.size).reshape(-1).tolist()
    return values


class YoloPose(Yolo):
    """Poses: a box, and x, y and visibility of each key point."""

    name = "yolo-pose"
    title = "YOLO data set: boxes with key points"
    holds = _HOLDS | {"landmarks"}

    def _more(self) -> dict[str, Any]:
        if self._points is None:
            raise ConfigError("there are no key points for yolo-pose; --format yolo takes boxes")
        return {"kpt_shape": [self._points, 3]}

    def _lines(self, exported: Exported, classes: Classes, block: Block) -> list[str | None]:
        boxes, is_there = _boxes(exported, block)
        numbers = _numbers(classes, block)
        found: list[str | None] = [None] * len(numbers)
        index = -1
        for frame in block.frames():
            for each in frame.detections:
                index += 1
                points = each.landmarks
                if points and self._points is None:
                    self._points = len(points)
                if not is_there[index]:
                    continue  # it has been counted with the boxes
                if not points or len(points) != self._points:
                    exported.leave_out("what has no key points, or another number of them")
                else:
                    values = [*boxes[index].tolist(), *_places(points, frame)]
                    found[index] = _line(numbers[index], values)
        return found


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


class YoloObb(Yolo):
    """Turned boxes: the four corners of each."""

    name = "yolo-obb"
    title = "YOLO data set: turned boxes"
    holds = _HOLDS | {"angle"}

    def _lines(self, exported: Exported, classes: Classes, block: Block) -> list[str | None]:
        turned = pc.not_equal(pc.fill_null(block.column("angle"), 0.0), 0.0)
        is_turned = turned.to_numpy(zero_copy_only=False)
        cut, _, is_there = _cut(exported, block, ~is_turned)
        boxes = cut.T.tolist()
        found: list[str | None] = []
        for frame in block.frames():
            width, height = frame.size
            for each in frame.detections:
                index = len(found)
                box = each.box if is_turned[index] else boxes[index]
                corners = corners_of(box, each.angle)
                values = [part for x, y in corners for part in (x / width, y / height)]
                is_inside = bool(is_there[index])  # if not, it has been counted with the boxes
                if is_turned[index]:
                    is_inside = all(0 <= value <= 1 for value in values)
                    if not is_inside:
                        exported.leave_out("turned boxes that reach over the picture's edge")
                number = classes.number(each.label, each.category_id)
                found.append(_line(number, values) if is_inside else None)
        return found

"""Ground truth of a session: boxes that people drew, in a file of COCO's format."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from dgrec.comparison.blocks import Floats
from dgrec.errors import DgrecError
from dgrec.files import read_small_text

__all__ = ["Truth", "TruthError", "TruthFrame", "read_truth"]

#: Larger files are refused: some ten million boxes.
_LARGEST: Final = 1 << 30
#: Under these names, tools write the number of a picture's frame.
_FRAME_KEYS: Final = ("frame", "frame_id", "frame_index")
_LAST_NUMBER: Final = re.compile(r"(\d+)\D*\Z")


class TruthError(DgrecError):
    """A file with ground truth cannot be used."""


@dataclass
class TruthFrame:
    """What is there to be found in a frame."""

    labels: list[str] = field(default_factory=list)
    #: n x 4: x_min, y_min, x_max, y_max, in pixels of the frame.
    boxes: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    #: Regions of many objects: what is found there is neither right nor wrong.
    is_crowd: list[bool] = field(default_factory=list)
    #: Width and height of the annotated picture, if the file says so.
    size: tuple[int, int] | None = None


@dataclass
class Truth:
    """The annotated frames of a recording, by their number in the source."""

    path: Path
    frames: dict[int, TruthFrame]
    labels: tuple[str, ...]


def read_truth(path: Path) -> Truth:
    """Read annotations in COCO's format.

    An image is the frame that its key ``frame`` (``frame_id``, ``frame_index``) says, or the last
    number in its file name: ``frame_000123.jpg`` is frame 123 of the source, counted from 0.

    Raises:
        TruthError: The file cannot be read, is not in COCO's format, or an image has no number.
    """
    try:
        data = json.loads(read_small_text(path, _LARGEST))
    except OSError as error:
        raise TruthError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise TruthError(f"{path}: not COCO annotations: nested too deeply") from None
    except ValueError as error:  # of JSON, too
        raise TruthError(f"{path}: not COCO annotations: {error}") from None
    try:
        return _read(path, data)
    except _InvalidError as error:
        raise TruthError(f"{path}: not COCO annotations: {error}") from None


class _InvalidError(Exception):
    pass


def _read(path: Path, data: Any) -> Truth:
    if not isinstance(data, dict):
        raise _InvalidError("expected an object with images, annotations and categories")
    names: dict[int, str] = {}
    for index, item in enumerate(_objects(data, "categories")):
        where = f"categories[{index}]"
        names[_new_id(item, names, where)] = _text(item, "name", where)
    frame_of_image: dict[int, int] = {}
    frames: dict[int, TruthFrame] = {}
    for index, item in enumerate(_objects(data, "images")):
        where = f"images[{index}]"
        frame = _frame_number(item, where)
        if frame in frames:
            raise _InvalidError(f"{where}: is frame {frame}, as an image before it")
        frames[frame] = TruthFrame(size=_size(item))
        frame_of_image[_new_id(item, frame_of_image, where)] = frame
    boxes: defaultdict[int, list[list[float]]] = defaultdict(list)
    for index, item in enumerate(_objects(data, "annotations")):
        where = f"annotations[{index}]"
        image, category = _number(item, "image_id", where), _number(item, "category_id", where)
        if image not in frame_of_image:
            raise _InvalidError(f"{where}: there is no image {image}")
        if category not in names:
            raise _InvalidError(f"{where}: there is no category {category}")
        found = frames[frame_of_image[image]]
        found.labels.append(names[category])
        found.is_crowd.append(bool(item.get("iscrowd")))
        boxes[frame_of_image[image]].append(_box(item, where))
    for frame, corners in boxes.items():
        frames[frame].boxes = np.array(corners, np.float64)
    if not frames:
        raise _InvalidError("it has no images")
    if not names:
        raise _InvalidError("it has no categories")
    return Truth(path, frames, tuple(dict.fromkeys(names.values())))


def _objects(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = data.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _InvalidError(f"{key!r} is not a list of objects")
    return items


def _number(item: Mapping[str, Any], key: str, where: str) -> int:
    value = item.get(key)
    if type(value) is not int:
        raise _InvalidError(f"{where}: {key!r} is not a whole number")
    return value


def _new_id(item: Mapping[str, Any], known: Mapping[int, Any], where: str) -> int:
    number = _number(item, "id", where)
    if number in known:
        raise _InvalidError(f"{where}: has the id {number}, as one before it")
    return number


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if type(width) is int and type(height) is int and width > 0 and height > 0:
        return width, height
    return None


def _text(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise _InvalidError(f"{where}: {key!r} is not a text")
    return value


def _frame_number(item: Mapping[str, Any], where: str) -> int:
    for key in _FRAME_KEYS:
        if key in item:
            return _number(item, key, where)
    name = Path(_text(item, "file_name", where)).stem
    number = _LAST_NUMBER.search(name)
    if number is None or len(number[1]) > 18:
        raise _InvalidError(
            f"{where}: neither 'frame' nor a number in its file name says its frame"
        )
    return int(number[1])


def _box(item: Mapping[str, Any], where: str) -> list[float]:
    box = item.get("bbox")
    if isinstance(box, list) and len(box) == 4 and all(type(n) in (int, float) for n in box):
        try:
            x, y, width, height = map(float, box)
        except OverflowError:
            x = math.inf
            y = width = height = 0.0
        if all(map(math.isfinite, (x, y, width, height))) and width >= 0 and height >= 0:
            return [x, y, x + width, y + height]
    raise _InvalidError(f"{where}: 'bbox' is not [x, y, width, height]")

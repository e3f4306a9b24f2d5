"""Checks of what other programs wrote: numbers, boxes, labels, masks."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np

from dgrec.format import Allowance, DecodeError, json_values
from dgrec.imports.text import InvalidError

#: Coordinates beyond this are not pixels.
_LARGEST_COORDINATE: Final = 1e9
#: Numbers of frames up to here are exact as a double.
_LARGEST_FRAME: Final = 2**53
_LONGEST_LABEL: Final = 10_000
#: The note on key points without a place.
LACKING_POINTS: Final = "key points that are not marked are left out"
INT32_MAX: Final = 2**31 - 1
_MOST_POINTS: Final = 1000
#: Pictures of more pixels are refused.
_MOST_PIXELS: Final = 40_000_000
#: PySDK's names of parts of a detection.
_RESERVED: Final = frozenset(
    "bbox category_id label score track_id angle landmarks mask data".split()
)
_DEEPEST: Final = 8
#: The same where dgrec's encoding is checked afterwards: a value takes up to three levels of JSON.
_DEEPEST_ENCODED: Final = 300
#: Stamps are within these years: they are nanoseconds of 64 bits on their way to a session.
_YEARS: Final = range(1970, 2262)
_LONGEST_EXTRA: Final = 1 << 20
_LAST_NUMBER: Final = re.compile(r"(\d+)\D*\Z", re.ASCII)


def objects(value: Any, where: str) -> Mapping[str, Any]:
    """Return ``value`` if it is an object of JSON."""
    if not isinstance(value, dict):
        raise InvalidError(where, "is not an object")
    return value


def number(value: Any, name: str, where: str) -> float:
    """Return a finite number."""
    if type(value) in (int, float) and abs(value) <= 1e308:  # false for NaN, too
        return float(value)
    raise InvalidError(where, f"{name!r} is not a finite number")


def count(value: Any, name: str, where: str, most: int = _LARGEST_FRAME) -> int:
    """Return a whole number from 0 to ``most``."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value <= most:
        return value
    raise InvalidError(where, f"{name!r} is not a whole number from 0 to {most:,}")


def size(width: Any, height: Any, where: str) -> tuple[int, int]:
    """Return the size of a picture."""
    return count(width, "width", where, INT32_MAX), count(height, "height", where, INT32_MAX)


def exact(text: str) -> int | float:
    """Return the number in a text: whole ones to the last digit, which a float may not hold.

    Raises:
        ValueError: It is not a number.
    """
    if "_" in text:  # 2024_01 is a name; only Python takes it for a number
        raise ValueError(text)
    is_whole = len(text) <= 20 and text.lstrip("+-").isdecimal()
    return int(text) if is_whole else float(text)


def whole(value: Any, name: str, where: str, bits: int = 32) -> int:
    """Return a whole number that fits a signed integer of ``bits``: an id of any program."""
    if type(value) is float and value.is_integer():
        value = int(value)
    most = 2 ** (bits - 1) - 1
    if type(value) is int and -most - 1 <= value <= most:
        return value
    raise InvalidError(where, f"{name!r} is not a whole number of {bits} bits")


def stamp(value: Any, name: str, where: str) -> int:
    """Return microseconds since 1970 of a stamp in ISO 8601, or of seconds since 1970."""
    try:
        if isinstance(value, str):
            moment = dt.datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=dt.UTC)
            since = moment - dt.datetime.fromtimestamp(0, dt.UTC)
        else:
            since = dt.timedelta(seconds=number(value, name, where))
        at = since // dt.timedelta(microseconds=1)
        if dt.datetime.fromtimestamp(at // 1_000_000, dt.UTC).year in _YEARS:
            return at
    except (ValueError, OverflowError, OSError):
        pass
    raise InvalidError(where, f"{name!r} is not a time from 1970 to 2261")


def label(value: Any, name: str, where: str) -> str:
    if isinstance(value, str) and len(value) <= _LONGEST_LABEL:
        return value
    raise InvalidError(where, f"{name!r} is not a text of up to {_LONGEST_LABEL:,} characters")


def _coordinates(value: Any, size: int, name: str, form: str, where: str) -> list[float]:
    if (
        isinstance(value, list | tuple)
        and len(value) == size
        and all(type(n) in (int, float) and abs(n) <= _LARGEST_COORDINATE for n in value)
    ):
        return [float(n) for n in value]
    raise InvalidError(where, f"{name!r} is not {form} in pixels")


def corners(value: Any, name: str, where: str) -> list[float]:
    """Return the box [x_min, y_min, x_max, y_max]."""
    form = "[x_min, y_min, x_max, y_max]"
    box = _coordinates(value, 4, name, form, where)
    if box[2] < box[0] or box[3] < box[1]:
        raise InvalidError(where, f"{name!r} is not {form}: its second corner is before the first")
    return box


def box_of_size(value: Any, name: str, where: str) -> list[float]:
    """Return the box [x, y, width, height] as [x_min, y_min, x_max, y_max]."""
    form = "[x, y, width, height]"
    x, y, width, height = _coordinates(value, 4, name, form, where)
    if width < 0 or height < 0:
        raise InvalidError(where, f"{name!r} is not {form}: its size is negative")
    return [x, y, x + width, y + height]


def key_points(
    points: Sequence[Sequence[Any]], names: Sequence[str], name: str, where: str
) -> list[dict[str, Any]]:
    """Return key points as PySDK has them; each of ``points`` is x, y and a score or None."""
    if len(points) > _MOST_POINTS:
        raise InvalidError(where, f"{name!r} has more than {_MOST_POINTS:,} key points")
    found = []
    for index, (x, y, certainty) in enumerate(points):
        point: dict[str, Any] = {
            "category_id": index,
            "connect": [],
            "landmark": _coordinates([x, y], 2, name, "a list of key points", where),
        }
        if index < len(names):
            point["label"] = names[index]
        if certainty is not None:
            point["score"] = number(certainty, name, where)
        found.append(point)
    return found


def landmarks(value: Any, where: str, notes: Counter[str]) -> list[dict[str, Any]]:
    """Return key points that already have PySDK's keys, except those without a place."""
    if not isinstance(value, list) or len(value) > _MOST_POINTS:
        raise InvalidError(where, "'landmarks' is not a list of up to 1,000 key points")
    there = [point for point in value if not _lacks_place(point)]
    if len(there) < len(value):
        notes[LACKING_POINTS] += len(value) - len(there)
    return [landmark(point, where) for point in there]


def _lacks_place(point: Any) -> bool:
    """Return whether this is a key point without a place: NaN is null in a payload."""
    if not isinstance(point, dict) or "landmark" not in point:
        return False
    place = point["landmark"]
    return place in (None, []) or (isinstance(place, list) and None in place)


def landmark(value: Any, where: str) -> dict[str, Any]:
    """Return a key point that has PySDK's keys already."""
    point = objects(value, where)
    place = point.get("landmark")
    if not isinstance(place, list) or not 2 <= len(place) <= 3:
        raise InvalidError(where, "a key point has no 'landmark' [x, y]")
    form = "the place of a key point"
    found: dict[str, Any] = {"landmark": _coordinates(place, len(place), "landmark", form, where)}
    if point.get("label") is not None:
        found["label"] = label(point["label"], "label", where)
    if point.get("category_id") is not None:
        found["category_id"] = whole(point["category_id"], "category_id", where)
    if point.get("score") is not None:
        found["score"] = number(point["score"], "score", where)
    connect = point.get("connect")
    if isinstance(connect, list) and len(connect) <= _MOST_POINTS:
        found["connect"] = [whole(n, "connect", where) for n in connect]
    # In the order of the file.
    return {key: found[key] for key in point if key in found}


def detection(
    box: list[float] | None,
    more: Mapping[str, Any] | None = None,
    *,
    label: str | None = None,
    category_id: int | None = None,
    score: float | None = None,
    track_id: int | None = None,
) -> dict[str, Any]:
    """Return a detection with PySDK's keys, and ``more``; what is None is left out."""
    found = {
        "bbox": box,
        "category_id": category_id,
        "label": label,
        "score": score,
        "track_id": track_id,
        **(more or {}),
    }
    return {key: value for key, value in found.items() if value is not None}


def plain_extras(
    item: Mapping[str, Any], where: str, known: Collection[str] = ()
) -> dict[str, Any]:
    """Return the members of an object that are not ``known``: a session keeps them as they are.

    Members that have a meaning in PySDK are left out, too: the format has checked those that it
    takes.
    """
    return _extras(item, where, _DEEPEST, known, _RESERVED)


def encoded_extras(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return members that are in dgrec's JSON for any Python value, to be made `EncodedValue`s.

    Key points and masks are among them if they are not what PySDK has.
    """
    return _extras(item, where, _DEEPEST_ENCODED, (), _RESERVED - {"landmarks", "mask", "data"})


def _extras(
    item: Mapping[str, Any],
    where: str,
    deepest: int,
    known: Collection[str],
    reserved: Collection[str],
) -> dict[str, Any]:
    item = {key: value for key, value in item.items() if key not in known}
    for key, value in item.items():
        if isinstance(value, dict | list) and _depth(value, deepest) > deepest:
            raise InvalidError(where, f"{key[:40]!r} is nested more than {deepest} levels deep")
    if item and len(json.dumps(item)) > _LONGEST_EXTRA:
        raise InvalidError(where, f"has more than {_LONGEST_EXTRA:,} characters of other members")
    return {key: value for key, value in item.items() if key not in reserved}


def _depth(value: Any, deepest: int, level: int = 0) -> int:
    if level > deepest or not isinstance(value, dict | list):
        return level
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(item, deepest, level + 1) for item in inner), default=level + 1)


@dataclass(frozen=True)
class EncodedValue:
    """A value that a program added to a detection, in dgrec's JSON for any Python value."""

    json: Any
    where: str

    def decoded(self, allowance: Allowance) -> Any:
        """Return the value.

        Args:
            allowance: How much memory the values of its frame may still take.
        """
        try:
            return json_values.decode(self.json, allowance)
        except DecodeError as error:
            raise InvalidError(self.where, str(error)) from None


def frame_of_name(name: str) -> int | None:
    """Return the last number in the name of a picture: ``frame_000123.jpg`` is frame 123."""
    found = _LAST_NUMBER.search(PureWindowsPath(PurePosixPath(name).name).stem)
    if found is None or len(found[1]) > 18 or int(found[1]) > _LARGEST_FRAME:
        return None
    return int(found[1])


# --- masks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackedMask:
    """A mask as run lengths of zeros and ones in turn, down its columns or along its rows."""

    where: str
    left: int
    top: int
    width: int
    height: int
    runs: list[int]
    by_columns: bool

    def decoded(self, allowance: Allowance) -> dict[str, Any]:
        """Return the mask as PySDK has it: only the rectangle that it covers is kept.

        Args:
            allowance: How much memory the masks of its frame may still take.
        """
        bits = np.repeat(np.arange(len(self.runs), dtype=np.uint8) & 1, self.runs)
        if self.by_columns:
            mask = bits.reshape(self.width, self.height).T
        else:
            mask = bits.reshape(self.height, self.width)
        columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
        if not len(columns):
            return {"x_min": self.left, "y_min": self.top, "data": np.zeros((0, 0), np.float32)}
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        try:
            allowance.take(part.size * 4)
        except DecodeError:
            raise InvalidError(self.where, "the masks of its frame take too much memory") from None
        return {
            "x_min": self.left + int(columns[0]),
            "y_min": self.top + int(rows[0]),
            "data": part.astype(np.float32),
        }


def packed_mask(
    place: tuple[int, int],
    size: tuple[int, int],
    runs: list[int] | None,
    where: str,
    *,
    by_columns: bool,
) -> PackedMask:
    """Return a mask at a place (left, top), of a size (width, height).

    Args:
        runs: None if one of them is not a length.
    """
    width, height = size
    if width < 1 or height < 1 or width * height > _MOST_PIXELS:
        raise InvalidError(where, "its mask has no size, or too large a one")
    if runs is None or len(runs) > width * height + 1 or sum(runs) != width * height:
        raise InvalidError(where, f"its mask does not cover {width}x{height} pixels")
    return PackedMask(where, *place, width, height, runs, by_columns)


def coco_mask(rle: Any, where: str) -> PackedMask:
    """Return a mask of COCO: ``size`` is [height, width], ``counts`` goes down the columns."""
    size, counts = (rle.get(key) if isinstance(rle, dict) else None for key in ("size", "counts"))
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int for n in size):
        raise InvalidError(where, "the size of its mask is not [height, width]")
    runs = _runs(counts, where)
    return packed_mask((0, 0), (size[1], size[0]), runs, where, by_columns=True)


def _runs(counts: Any, where: str) -> list[int] | None:
    """Return run lengths; None if one is not a length."""
    if isinstance(counts, list):
        return counts if all(type(n) is int and 0 <= n <= _MOST_PIXELS for n in counts) else None
    if not isinstance(counts, str):
        raise InvalidError(where, "the 'counts' of its mask are neither a list nor a text")
    runs: list[int] = []
    value = bits = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64 or bits > 30:
            return None
        value |= (group & 31) << bits
        bits += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << bits
        # From the fourth on, a length is the difference to the one before the last.
        if len(runs) > 2:
            value += runs[-2]
        if not 0 <= value <= _MOST_PIXELS:
            return None
        runs.append(value)
        value = bits = 0
    return None if bits else runs

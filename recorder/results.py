"""Takes from a result, or a list of detections, what is recorded of it."""

from __future__ import annotations

import contextlib
import copy
import math
import numbers
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from dgrec import analyzers
from dgrec.errors import ConfigError, DgrecError, value_text
from dgrec.format import (
    LONGEST_NAME,
    Metadata,
    is_result,
    is_stream_meta,
    is_utf8,
    json_values,
    result_values,
    utc_ns,
)


@dataclass
class DetectionList:
    """Detections with the interface of a PySDK result."""

    # With an underscore, or it would count as added by an analyzer (see `added_attributes`).
    _results: list[dict[str, Any]]
    timing: Mapping[str, Any] = field(default_factory=dict)
    #: The pixels that they were found in, if a page shows them.
    _image: Any = None

    @property
    def results(self) -> list[dict[str, Any]]:
        return self._results

    @property
    def info(self) -> str:
        return ""

    @property
    def image(self) -> Any:
        return self._image

    def with_image(self, image: Any) -> DetectionList:
        """Return the same list with a copy of the pixels: the caller may change its own."""
        found = copy.copy(self)
        found._image = own_pixels(image)
        return found


def recordable(result: Any) -> Any:
    """Return ``result`` if it is like one of PySDK's, or else a result made of detections.

    Raises:
        DgrecError: It is neither a result, a list of detections, nor supervision's detections.
    """
    if isinstance(result, list) and all(isinstance(item, dict) for item in result):
        return DetectionList(result)
    has_all = all(hasattr(result, name) for name in ("__dict__", "results", "timing", "info"))
    if has_all and isinstance(result.timing, Mapping):
        return result
    if _is_supervision(result):
        made = DetectionList(_detections_of_supervision(result))
        if metadata := getattr(result, "metadata", None):  # of all detections of the frame
            vars(made)["metadata"] = dict(metadata)
        return made
    raise DgrecError(
        f"type {type(result).__name__!r} cannot be recorded: expected a PySDK result, a list of "
        "detections (each a dictionary), or supervision.Detections"
    )


def snapshot(result: Any) -> Any:
    """Return a result that stays as it is now: rows are written later, by another thread.

    Raises:
        DgrecError: Something in it cannot be copied.
    """
    try:
        return _Copier().result(result)
    except Exception as error:  # because of its contents: a lock, or a list that is too deep
        raise DgrecError(f"detections that cannot be copied are not recorded: {error}") from None


#: Types of values that cannot change.
_FIXED = frozenset({str, int, float, bool, type(None), bytes})
#: How deep values that came with a frame are copied.
_DEEPEST = 100


class _Copier:
    """Copies what results hold, but for pixels; `copy.deepcopy` takes 10 times as long."""

    def __init__(self) -> None:
        #: Results and notes of gizmos by id: they refer to one another.
        self._copies: dict[int, Any] = {}

    def result(self, result: Any) -> Any:
        frozen = copy.copy(result)
        self._copies[id(result)] = frozen
        own = vars(frozen)
        # Without an underscore in a program's own classes.
        for name in ("_results", "_inference_results", "results"):
            if name in own:
                own[name] = self.value(own[name])
        own["timing"] = dict(result.timing)
        for name in ("_frame_info", "info"):
            if type(info := own.get(name)) not in _FIXED:
                own[name] = self.value(info) if is_stream_meta(info) else _with_own_values(info, {})
        return frozen

    def value(self, value: Any) -> Any:
        kind = type(value)
        if kind in _FIXED:
            return value
        if kind is dict:
            return {k: v if type(v) in _FIXED else self.value(v) for k, v in value.items()}
        if kind is list:
            if set(map(type, value)) <= _FIXED:
                return value.copy()
            return [self.value(item) for item in value]
        if kind is np.ndarray and not value.dtype.hasobject:
            return value.copy()
        if is_stream_meta(value) or is_result(value):
            return self._copies.get(id(value)) or self._shared(value)
        return copy.deepcopy(value)

    def _shared(self, value: Any) -> Any:
        if is_result(value):
            inner = self.result(value)
            # Values added to the outermost result are written out at once.
            vars(inner).update(_with_own_values(result_values.added_values(inner), {}))
            return inner
        notes = self._copies[id(value)] = copy.copy(value)
        # Other things in the notes (pictures, functions) are not the program's to change.
        notes._meta_list = [self._note(item) for item in value._meta_list]
        notes._tags = {tag: list(places) for tag, places in value._tags.items()}
        return notes

    def _note(self, note: Any) -> Any:
        if type(note) is dict:
            return {key: self._note(item) for key, item in note.items()}
        return self.value(note) if is_result(note) or is_stream_meta(note) else note


def _with_own_values(info: Any, copies: dict[int, Any], depth: int = 0) -> Any:
    """Return what came with a frame, with copies of its values; anything else stays as it is.

    It is the program's, and may hold a camera.

    Args:
        copies: The copies so far, by id: a value may hold itself.
    """
    kind = type(info)
    if kind in _FIXED or depth > _DEEPEST:  # no row is that deep
        return info
    if id(info) in copies:
        return copies[id(info)]
    if kind is dict:
        notes = copies[id(info)] = {}
        notes |= {key: _with_own_values(item, copies, depth + 1) for key, item in info.items()}
        return notes
    if kind is list:
        items = copies[id(info)] = []
        items += [_with_own_values(item, copies, depth + 1) for item in info]
        return items
    if kind is tuple:
        copies[id(info)] = tuple(_with_own_values(item, copies, depth + 1) for item in info)
        return copies[id(info)]
    if kind is np.ndarray and not info.dtype.hasobject:
        return info.copy()
    return info


def own_pixels(image: Any) -> Any:
    """Return a copy of an image that is to be recorded: the caller may change its own.

    Raises:
        DgrecError: It is not an image.
    """
    if hasattr(image, "getchannel") and image.width and image.height:  # of PIL
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    is_picture = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if is_picture and image.shape[2:] == (3,) and image.size:
        return np.array(image)
    raise DgrecError(
        "a video is recorded, so every frame needs an image: an array of bytes of the shape "
        "(height, width, 3), BGR, or a picture of PIL's"
    )


def size_of(image: Any) -> tuple[int, int] | None:
    """Return width and height of an image: an array, or one of PIL's."""
    if hasattr(image, "getchannel"):
        width, height = image.size
        return int(width), int(height)
    if not isinstance(image, np.ndarray) or image.ndim < 2:
        return None
    height, width = image.shape[:2]
    return width, height


def stamp_ns(moment: datetime | float) -> int:
    """Return nanoseconds since 1970 of a datetime, or of seconds since then.

    Raises:
        ConfigError: It is neither, has no time zone, is before 1970, or far in the future.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ConfigError(f"captured_at: {moment} has no time zone")
        ns = utc_ns(moment)
    else:
        seconds = finite("captured_at", moment, "neither a datetime nor seconds since 1970")
        ns = round(seconds * 1e9) if abs(seconds) < _LATEST_S else _LATEST_S * 10**9
    if ns < 0:
        raise ConfigError(f"captured_at: {moment} is before 1970")
    if ns > time.time_ns() + _DAY_NS:  # most often milliseconds; clocks are not that wrong
        raise ConfigError(
            f"captured_at: {moment} is in the future; give a datetime, or seconds since 1970"
        )
    return ns


_DAY_NS = 24 * 3600 * 10**9
_LATEST_S = 10**11


def finite(name: str, number: float, complaint: str = "not a number of seconds") -> float:
    """Return a number of seconds as a Python float.

    Args:
        complaint: What the error calls anything else.

    Raises:
        ConfigError: It is not a finite number.
    """
    with contextlib.suppress(OverflowError):  # of an integer that is too long
        if isinstance(number, numbers.Real) and math.isfinite(number):
            return float(number)
    raise ConfigError(f"{name}: {value_text(number)} is {complaint}")


def signal_name(name: object) -> str:
    """Return the name of a signal.

    Raises:
        ConfigError: It is not a text that can be a name.
    """
    if type(name) is str and 0 < len(name) <= LONGEST_NAME and (name.isascii() or is_utf8(name)):
        return name
    if isinstance(name, str) and len(name) > LONGEST_NAME:
        raise ConfigError(f"log: the name of a signal is longer than {LONGEST_NAME} characters")
    raise ConfigError(f"log: {value_text(name)} is not the name of a signal")


def signal_value(name: str, value: object) -> float:
    """Return the value of a signal.

    Raises:
        ConfigError: It is not a finite number.
    """
    if type(value) is not float:
        if not isinstance(value, numbers.Real):
            raise ConfigError(f"log: {name}: {value_text(value)} is not a number")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if math.isfinite(value):
        return value
    raise ConfigError(f"log: {name}: {value!r} is not a finite number")


def describe_result(result: Any) -> Metadata:
    """Return what a PySDK result says of its model, and of how its overlay is drawn."""
    if isinstance(result, DetectionList):  # drawn as PySDK draws such detections
        return {"model": {"result_type": "Detection"}, "overlay": {"alpha": "auto"}}
    plain: Metadata = json_values.plain(result_values.described(result))
    if attached := analyzers.analyzers_of_result(result):
        plain["analyzers"] = analyzers.describe(attached)
    return plain


def added_attributes(result: Any, losses: json_values.Losses | None = None) -> str | None:
    """Return what analyzers added to a result, as `json_values.dumps` writes it.

    It is written out at once: an analyzer may keep changing the object that it added (running
    totals, for example), and every row of a batch would show its last state.
    """
    added = result_values.added_values(result)
    return json_values.dumps(added, "result", losses) if added else None


def _is_supervision(value: Any) -> bool:
    """Return whether this is supervision's ``Detections``, which need not be installed."""
    kind = type(value)
    return kind.__name__ == "Detections" and kind.__module__.partition(".")[0] == "supervision"


def _detections_of_supervision(found: Any) -> list[dict[str, Any]]:
    """Return supervision's detections as PySDK has them.

    ``data`` (but for the class names, which are labels) is kept under its own names; masks are
    cut out at their boxes, as PySDK's are.
    """
    names = found.data.get("class_name")
    detections = []
    for index, box in enumerate(found.xyxy):
        item: dict[str, Any] = {"bbox": [float(number) for number in box]}
        if found.class_id is not None:
            item["category_id"] = int(found.class_id[index])
        if names is not None:
            item["label"] = str(names[index])
        if found.confidence is not None:
            item["score"] = float(found.confidence[index])
        if found.tracker_id is not None:
            item["track_id"] = int(found.tracker_id[index])
        if found.mask is not None:
            item["mask"] = _cut_out(np.asarray(found.mask[index]))
        for key, values in found.data.items():
            if key != "class_name":
                item[key] = values[index]
        detections.append(item)
    return detections


def _cut_out(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return {"x_min": 0, "y_min": 0, "data": np.zeros((1, 1), np.float32)}
    area = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return {"x_min": int(columns[0]), "y_min": int(rows[0]), "data": area.astype(np.float32)}

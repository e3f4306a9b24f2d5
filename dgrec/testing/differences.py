"""Differences of results from those of a recording."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import dgrec
from dgrec.errors import DgrecError
from dgrec.units import counted

#: Frames that are named and drawn, and differences of a frame that are named.
_FRAMES, _DIFFERENCES = 5, 4
#: A longer value is cut off.
_LONGEST = 60
#: Whole numbers in these places are pixels, and may differ as other numbers do.
_PIXELS = re.compile(r"(^|\.)(bbox|landmark)\[\d+\]$")


def write(results: Iterable[Any], path: Path) -> None:
    """Record results as the expected ones; an existing file is replaced once all are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".") as place:
        recorded = Path(place) / path.name
        with dgrec.Recorder(recorded) as recorder:
            for result in results:
                recorder.add(result)
        recorded.replace(path)


def compare(results: Iterable[Any], expected: Path, folder: Path, tolerance: float = 0.0) -> str:
    """Return how results differ from a recording; "" if they do not.

    Both are compared as they are read from a recording: results, and what analyzers added.

    Args:
        folder: Where pictures of the first frames that differ go.
        tolerance: By how much numbers may differ.

    Raises:
        DgrecError: The recording cannot be read, or the results cannot be recorded.
    """
    differing: list[str] = []
    frames = count = 0
    with ExitStack() as stack:
        wanted = stack.enter_context(dgrec.open(expected))
        recorded = Path(stack.enter_context(TemporaryDirectory())) / "results.parquet"
        images = _Images()
        with dgrec.Recorder(recorded) as recorder:
            for index, result in enumerate(results):
                recorder.add(result)
                images.keep(index, result)
        # Without a result there is no session.
        given: Iterable[Any] = ()
        if recorded.exists():
            given = stack.enter_context(dgrec.open(recorded))
        for index, (one, other) in enumerate(zip_longest(wanted, given)):
            frames += 1
            found = list(_differences(one, other, tolerance))
            if not found:
                continue
            count += 1
            if count > _FRAMES:
                continue
            lines = [f"  frame {index}: {text}" for text in found[:_DIFFERENCES]]
            if len(found) > _DIFFERENCES:
                lines.append(f"  frame {index}: and {len(found) - _DIFFERENCES:,} more")
            picture = _draw(folder / f"frame-{index}.png", images.of(index), one, other)
            if picture is not None:
                lines.append(f"  frame {index}, expected (left) and found: {picture}")
            differing += lines
    if not count:
        return ""
    differ = "differs" if count == 1 else "differ"
    head = f"{count:,} of {counted(frames, 'frame')} {differ} from {expected}:"
    rest = [f"  and {counted(count - _FRAMES, 'more frame')}"] if count > _FRAMES else []
    return "\n".join([head, *differing, *rest])


class _Images:
    """The pictures of the results, as far as memory allows."""

    #: Bytes of pictures that are kept: of the first frames, which are those that are drawn.
    _MOST = 256 << 20

    def __init__(self) -> None:
        self._kept: dict[int, np.ndarray[Any, Any]] = {}
        self._left = self._MOST

    def keep(self, index: int, result: Any) -> None:
        image: Any = getattr(result, "image", None)
        if hasattr(image, "getchannel"):  # a PIL picture
            image = np.asarray(image.convert("RGB"))[..., ::-1]
        if isinstance(image, np.ndarray) and image.nbytes <= self._left:
            self._kept[index] = image.copy()
            self._left -= image.nbytes

    def of(self, index: int) -> np.ndarray[Any, Any] | None:
        return self._kept.get(index)


def _differences(wanted: Any, given: Any, tolerance: float) -> Iterator[str]:
    """Yield a text for each thing in a frame that is not as expected."""
    if wanted is None:
        yield "not expected"
    elif given is None:
        yield "missing"
    else:
        yield from _of_values(wanted.results, given.results, "", tolerance)
        names = {**wanted.attributes, **given.attributes}
        for name in names:
            there, here = wanted.attributes.get(name), given.attributes.get(name)
            yield from _of_values(there, here, name, tolerance)


def _of_values(wanted: Any, given: Any, where: str, tolerance: float) -> Iterator[str]:
    if isinstance(wanted, list | tuple) and isinstance(given, list | tuple):
        if len(wanted) != len(given):
            what = where or "detections"
            yield f"{len(given)} {what}, expected {len(wanted)}"
        for index, (one, other) in enumerate(zip(wanted, given, strict=False)):
            yield from _of_values(one, other, f"{where}[{index}]", tolerance)
    elif isinstance(wanted, Mapping) and isinstance(given, Mapping):
        for key in {**wanted, **given}:
            place = f"{where}.{key}" if where else str(key)
            if key not in given:
                yield f"{place} is missing"
            elif key not in wanted:
                yield f"{place} is not expected"
            else:
                yield from _of_values(wanted[key], given[key], place, tolerance)
    elif not _is_equal(wanted, given, tolerance, _PIXELS.search(where) is not None):
        yield f"{where} is {_short(given)}, expected {_short(wanted)}"


def _is_equal(wanted: Any, given: Any, tolerance: float, is_pixel: bool = False) -> bool:
    if isinstance(wanted, np.ndarray) or isinstance(given, np.ndarray):
        one, other = np.asarray(wanted), np.asarray(given)
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if one.dtype.kind in "fc":
            return np.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True)
        return np.array_equal(one, other)
    if is_pixel and type(wanted) is type(given) is int:
        return abs(wanted - given) <= tolerance
    is_float = isinstance(wanted, float) and isinstance(given, float | int)
    if is_float or (isinstance(wanted, np.floating) and type(wanted) is type(given)):
        if math.isnan(wanted):
            return math.isnan(given)
        return bool(wanted == given or abs(wanted - given) <= tolerance)
    if type(wanted) is not type(given):
        return False
    if hasattr(wanted, "__dict__") and not isinstance(wanted, type):
        return not list(_of_values(vars(wanted), vars(given), "", tolerance))
    return bool(wanted == given)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _draw(path: Path, image: np.ndarray[Any, Any] | None, wanted: Any, given: Any) -> Path | None:
    """Draw a frame as it was expected, and as it is; return None if there is no picture of it."""
    import cv2

    if image is None:
        return None
    try:
        halves = [image if frame is None else frame.overlay(image) for frame in (wanted, given)]
    except DgrecError:  # results that PySDK cannot draw
        return None
    return path if cv2.imwrite(str(path), np.hstack(halves)) else None

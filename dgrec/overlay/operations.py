"""Drawing operations: what an overlay consists of, in pixels of the frame.

==========  ====================================================================================
operation   values
==========  ====================================================================================
``box``     x1, y1, x2, y2, width, color: the outline through the middle of these pixels
``fill``    x1, y1, x2, y2, color: all pixels from the first to the last, included
``line``    x1, y1, x2, y2, width, color
``poly``    closed (0, 1), width, color, [x, y, x, y, ...]
``circle``  x, y, radius, width (0: filled), color
``text``    x, y, width, height of its box, text, color, background (-1: none), then left end,
            base line, width and height of the letters
``mask``    x, y, width, height, columns, rows, runs, color, alpha: a bitmap by rows, as the
            lengths of runs that are outside and inside in turn
``map``     x, y, width, height, columns, rows, runs, colors of the runs, alpha
``blur``    x1, y1, x2, y2 (excluded), width and height of the kernel
==========  ====================================================================================

A color is an index of `Colors`; -1 removes what was drawn there before. A width is that of the
painted line. Masks are a layer below all the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: The color that removes what is below it.
ERASED = -1
#: The most that is noted of a frame: about this many numbers and letters.
_MOST_WEIGHT = 600_000
#: Notes on a frame that are kept.
_MOST_NOTES = 5
#: Longer texts are cut.
_LONGEST_TEXT = 200
#: Bitmaps with more runs are made coarser.
_MOST_RUNS = 60_000
#: OpenCV counts in 32 bits.
_FARTHEST = 2**31 - 1

Operation = list[Any]


class TooMuchError(Exception):
    """A frame has more to draw than is noted."""


class Colors:
    """The colors of operations (red, green, blue), each by its number."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int, int], int] = {}

    @property
    def table(self) -> list[tuple[int, int, int]]:
        return list(self._numbers)

    def number(self, color: Any) -> int:
        """Return the number of a color; values outside 0 to 255 are clipped, as in OpenCV."""
        known = self._numbers.get(color) if type(color) is tuple else None
        if known is not None:
            return known
        red, green, blue = (min(255, max(0, int(part))) for part in color)
        return self._numbers.setdefault((red, green, blue), len(self._numbers))


@dataclass
class Operations:
    """The operations that draw one frame.

    Args:
        colors: The colors of all frames of an answer.
        width, height: The size of the picture that is drawn on.
    """

    colors: Colors
    width: int
    height: int
    #: The detection that is being drawn, by its index; -1: none.
    detection: int = -1
    #: The size of the frame's picture in it, where there is room for labels beside and below it.
    picture: tuple[int, int] | None = None
    #: The color of that room.
    fill: tuple[int, ...] | None = None
    #: How much was noted.
    weight: int = 0
    layers: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: The number of notes that are not kept.
    unkept: int = 0
    _may_erase: bool = False

    def begin_layer(self, alpha: float, *, may_erase: bool) -> None:
        """Draw on a new layer, which is then blended with the picture.

        Args:
            may_erase: Colors whose grey value is 0 remove what was drawn before, as in PySDK.
        """
        self._may_erase = may_erase
        self.layers.append({"alpha": float(alpha), "groups": []})

    def add(self, *operation: Any, weight: int = 12) -> None:
        """Add an operation of the detection that is being drawn.

        Raises:
            TooMuchError: The frame has too many.
        """
        self.weight += weight
        if self.weight > _MOST_WEIGHT:
            raise TooMuchError
        groups = self.layers[-1]["groups"]
        if not groups or groups[-1]["d"] != self.detection:
            groups.append({"d": self.detection, "ops": []})
        groups[-1]["ops"].append(list(operation))

    def last(self) -> Operation | None:
        """Return the last operation, if it is of the detection that is being drawn."""
        groups = self.layers[-1]["groups"]
        if not groups or groups[-1]["d"] != self.detection:
            return None
        last: Operation = groups[-1]["ops"][-1]
        return last

    def add_text(
        self, text: str, left: float, base: float, width: float, height: float, color: int
    ) -> None:
        """Add a line of text; a filled box below it becomes its background."""
        text = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
        box, background = [left, base - height, width, height], ERASED
        last = self.last()
        if last and last[0] == "fill" and _is_in(last, left, base):
            box = [last[1], last[2], last[3] - last[1] + 1, last[4] - last[2] + 1]
            background = last[5]
            self.layers[-1]["groups"][-1]["ops"].pop()
            if not self.layers[-1]["groups"][-1]["ops"]:
                self.layers[-1]["groups"].pop()
        measures = (left, base, width, height)
        self.add("text", *box, text, color, background, *measures, weight=14 + len(text))

    def color(self, color: Any) -> int:
        """Return the number of a color (red, green, blue) on this layer."""
        if self._may_erase and _is_unseen(tuple(color)):
            return ERASED
        return self.colors.number(color)

    def note(self, text: str) -> None:
        """Note what is left out."""
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(text)
        else:
            self.unkept += 1

    def drop(self, detection: int) -> None:
        """Remove what was last noted, as far as it is of this detection."""
        groups = self.layers[-1]["groups"] if self.layers else []
        while groups and groups[-1]["d"] == detection:
            groups.pop()

    @contextmanager
    def of(self, detection: int) -> Iterator[None]:
        """Note operations as those of a detection."""
        before, self.detection = self.detection, detection
        try:
            yield
        finally:
            self.detection = before


def _is_in(fill: Operation, x: float, y: float) -> bool:
    return bool(fill[1] <= x <= fill[3] and fill[2] <= y <= fill[4])


def whole(value: Any) -> int:
    """Return a coordinate as a whole number that OpenCV takes.

    Raises:
        OverflowError: It is too large.
        ValueError: It is NaN.
    """
    number = int(value)
    if not -_FARTHEST <= number <= _FARTHEST:
        raise OverflowError("a coordinate has more than 32 bits")
    return number


@functools.lru_cache(4096)
def _is_unseen(color: tuple[Any, ...]) -> bool:
    """Return whether PySDK takes a pixel of this color for one that was not drawn."""
    import cv2

    pixel = np.clip(np.array(color, np.float64), 0, 255).astype(np.uint8).reshape(1, 1, 3)
    return int(cv2.cvtColor(pixel, cv2.COLOR_RGB2GRAY)[0, 0]) == 0


def line_width(width: int, points: Any) -> float:
    """Return how wide OpenCV paints a line through points (x, y, x, y, ...).

    If it is neither level nor upright, that is between 1.5 pixels less and half a pixel more.
    """
    painted = painted_width(width)
    steps = np.diff(np.asarray(points, np.float64).reshape(-1, 2), axis=0)
    return painted - 0.5 if painted > 1 and (steps != 0).all(axis=1).any() else painted


@functools.lru_cache(256)
def painted_width(width: int) -> int:
    """Return how many pixels wide OpenCV paints a level line, which depends on its version."""
    if not 1 <= width <= 255:
        return max(1, width)
    import cv2

    column = np.zeros((4 * width + 9, 9), np.uint8)
    middle = len(column) // 2
    cv2.line(column, (0, middle), (8, middle), 255, width)
    return int(np.count_nonzero(column[:, 4]))


def bitmap_runs(bitmap: Any) -> tuple[int, int, list[int]]:
    """Return columns, rows and run lengths of a bitmap, coarser if it has too many runs."""
    columns, rows, starts, lengths, values = _runs(bitmap)
    runs = lengths.tolist()
    if starts.size and values[0]:
        runs.insert(0, 0)
    return columns, rows, runs


def value_runs(image: Any) -> tuple[int, int, list[int], list[int]]:
    """Return columns, rows, run lengths and values of an image, coarser if it has too many runs."""
    columns, rows, _, lengths, values = _runs(image)
    return columns, rows, lengths.tolist(), values.tolist()


def _runs(image: Any) -> tuple[int, int, Any, Any, Any]:
    while True:
        flat = np.ascontiguousarray(image).reshape(-1)
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        if starts.size <= _MOST_RUNS:
            break
        image = image[::2, ::2]
    rows, columns = image.shape
    return columns, rows, starts, np.diff(starts, append=flat.size), flat[starts]

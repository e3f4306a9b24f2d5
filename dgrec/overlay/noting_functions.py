"""Functions with the names of OpenCV's and PIL's that note their arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dgrec.analyzers import drawable
from dgrec.overlay.operations import Operations, line_width, painted_width, whole


class Picture:
    """A picture without pixels: what is drawn on it is noted."""

    dtype = np.dtype(np.uint8)

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.operations.height, self.operations.width, 3

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as PIL has it."""
        return self.operations.width, self.operations.height

    @property
    def width(self) -> int:
        return self.operations.width

    @property
    def height(self) -> int:
        return self.operations.height

    def __setitem__(self, area: tuple[slice, slice], patch: Any) -> None:
        rows, columns = area
        color = self.operations.color(np.asarray(patch)[0, 0, ::-1].tolist())
        box = columns.start, rows.start, columns.stop - 1, rows.stop - 1
        self.operations.add("fill", *map(whole, box), color)


# --- OpenCV --------------------------------------------------------------------------------------


class OpenCV:
    """The functions of OpenCV that PySDK and degirum_tools draw with; all else is OpenCV's own."""

    def __getattr__(self, name: str) -> Any:
        import cv2

        found = getattr(cv2, name)
        setattr(self, name, found)  # it is asked for once
        return found

    @staticmethod
    def rectangle(
        picture: Picture, one: Any, other: Any, color: Any, thickness: int = 1, *_: Any
    ) -> Picture:
        corners = [whole(value) for value in (*one, *other)]
        number = picture.operations.color(color[::-1])
        if thickness < 0:
            left, right = sorted(corners[::2])
            top, bottom = sorted(corners[1::2])
            picture.operations.add("fill", left, top, right, bottom, number)
        else:
            picture.operations.add("box", *corners, painted_width(thickness), number)
        return picture

    @staticmethod
    def line(
        picture: Picture, one: Any, other: Any, color: Any, thickness: int = 1, *_: Any
    ) -> Picture:
        ends = [whole(value) for value in (*one, *other)]
        number = picture.operations.color(color[::-1])
        picture.operations.add("line", *ends, line_width(thickness, ends), number)
        return picture

    @staticmethod
    def arrowedLine(  # noqa: N802
        picture: Picture,
        one: Any,
        other: Any,
        color: Any,
        thickness: int = 1,
        *_: Any,
        tipLength: float = 0.1,  # noqa: N803
    ) -> Picture:
        OpenCV.line(picture, one, other, color, thickness)
        x, y = one[0] - other[0], one[1] - other[1]
        size, angle = math.hypot(x, y) * tipLength, math.atan2(y, x)
        for turned in (angle + math.pi / 4, angle - math.pi / 4):
            tip = (
                round(other[0] + size * math.cos(turned)),
                round(other[1] + size * math.sin(turned)),
            )
            OpenCV.line(picture, tip, other, color, thickness)
        return picture

    @staticmethod
    def circle(
        picture: Picture, center: Any, radius: int, color: Any, thickness: int = 1, *_: Any
    ) -> Picture:
        width = 0 if thickness < 0 else painted_width(thickness)
        number = picture.operations.color(color[::-1])
        picture.operations.add("circle", *map(whole, center), whole(radius), width, number)
        return picture

    @staticmethod
    def polylines(
        picture: Picture, lines: Any, closed: bool, color: Any, thickness: int = 1, *_: Any
    ) -> Picture:
        number = picture.operations.color(color[::-1])
        for line in lines:
            points = [whole(value) for value in np.asarray(line).reshape(-1).tolist()]
            width, weight = line_width(thickness, points), 12 + len(points)
            picture.operations.add("poly", int(closed), width, number, points, weight=weight)
        return picture

    @staticmethod
    def getTextSize(text: str, *how: Any) -> Any:  # noqa: N802
        import cv2

        return cv2.getTextSize(drawable(text), *how)

    @staticmethod
    def putText(  # noqa: N802
        picture: Picture,
        text: str,
        origin: Any,
        font: int,
        scale: float,
        color: Any,
        thickness: int = 1,
        *_: Any,
    ) -> Picture:
        (width, height), _base = OPENCV.getTextSize(text, font, scale, thickness)
        number = picture.operations.color(color[::-1])
        left, base = map(whole, origin)
        picture.operations.add_text(text, left, base, width, height, number)
        return picture


OPENCV: Any = OpenCV()


# --- PIL -----------------------------------------------------------------------------------------


class Draw:
    """The functions of PIL's ImageDraw that PySDK draws with."""

    def __init__(self, picture: Picture) -> None:
        self._operations = picture.operations

    def ellipse(self, box: Any, outline: Any, width: int, fill: Any) -> None:
        left, top, right, bottom = map(_place, box)
        center, radius = ((left + right) / 2, (top + bottom) / 2), (right - left) / 2
        color = self._operations.color((fill or outline)[:3])
        if fill:
            self._operations.add("circle", *center, radius, 0, color)
        else:  # PIL paints outlines inside of the shape
            self._operations.add("circle", *center, radius - (width - 1) / 2, width, color)

    def rectangle(self, box: Any, outline: Any, width: int = 1, fill: Any = None) -> None:
        left, top, right, bottom = map(_place, box)
        color = self._operations.color((fill or outline)[:3])
        if fill:
            box = (round(value) for value in (left, top, right, bottom))
            self._operations.add("fill", *box, color)
        else:
            inset = (width - 1) / 2
            corners = (left + inset, top + inset, right - inset, bottom - inset)
            self._operations.add("box", *corners, width, color)

    def line(self, ends: Any, fill: Any, width: int) -> None:
        color = self._operations.color(fill[:3])
        self._operations.add("line", *map(_place, ends), max(1, width), color)

    def polygon(self, points: Any, outline: Any, width: int) -> None:
        color = self._operations.color(outline[:3])
        places = _inset([_place(value) for value in points], (width - 1) / 2)
        self._operations.add("poly", 1, max(1, width), color, places, weight=12 + len(places))

    def text(self, place: Any, text: str, font: Any, fill: Any) -> None:
        left, top = map(_place, place)
        width, base = float(font.getlength(text)), float(font.getmetrics()[0])
        height = base - float(font.getbbox("H")[1])
        color = self._operations.color(fill[:3])
        self._operations.add_text(text, left, top + base, width, height, color)


def _inset(points: list[float], by: float) -> list[float]:
    """Return a rectangle (x, y, x, y, ...) that is smaller by a margin, as PIL paints outlines."""
    outer = np.array(points).reshape(-1, 2)
    corners = outer
    for others in (np.roll(outer, 1, 0), np.roll(outer, -1, 0)):
        sides = others - outer
        lengths = np.maximum(np.linalg.norm(sides, axis=1, keepdims=True), 1e-9)
        corners = corners + np.minimum(by, lengths / 2) * sides / lengths
    return [round(value, 2) for value in corners.reshape(-1).tolist()]


def _place(value: Any) -> float:
    whole(value)
    return round(float(value), 2)

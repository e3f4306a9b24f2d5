"""PySDK's OpenCV canvas with faster blending: only where something was drawn."""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from dgrec.overlay.arrays import Image, copied, new_picture, scratch

_Area = tuple[slice, slice]

#: OpenCV may draw coordinates beyond this elsewhere.
_FAR = 16_000
#: The constant cost of an area, in pixels.
_AREA_WORK = 4000
#: The `fingerprint` of versions that give the same pixels as this canvas: PySDK 1.5.0.
_COMPARED_WITH = frozenset({"da37fd71ddb197a085e7c04b74b68c7bf4abc26045d6feda31676c6c278522f9"})


@dataclass(frozen=True)
class Mask:
    """The mask of an object, and its color."""

    area: _Area
    #: Height x width of the area, any type: above 0 where the object is.
    data: Image
    #: BGR, uint8.
    color: Image
    #: The index of its detection.
    index: int


def fingerprint() -> str:
    """Return the SHA-256 of the PySDK code that this replaces; "" if its source is missing."""
    try:
        from degirum import _draw_primitives as primitives
        from degirum.postprocessor import DetectionResults

        parts = [primitives._PrimitivesDrawOpenCV, primitives._image_segmentation_overlay]
        parts += [DetectionResults._deduce_color, DetectionResults.image_overlay.fget]
        text = "".join(inspect.getsource(part) for part in parts)
    except (ImportError, AttributeError, OSError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def canvas_class() -> Any:
    """Return PySDK's canvas with faster blending; None if PySDK is of an unknown version."""
    if fingerprint() not in _COMPARED_WITH:
        return None
    import cv2
    from degirum import _draw_primitives as primitives

    class Canvas(primitives._PrimitivesDrawOpenCV):  # type: ignore[misc]
        """Two layers over the picture, as PySDK has them: masks, and on top all the rest.

        A layer is blended where its grey value is not 0. PySDK's methods draw; those below note
        where: the areas may be too large, never too small.
        """

        def __init__(
            self,
            image: Image,
            alpha: float,
            segm_alpha: float | None,
            font_scale: float,
            masks: list[Mask],
        ) -> None:
            # As PySDK's constructor, except for the origin of arrays.
            self._cv = cv2
            self._font, self._font_scale = cv2.FONT_HERSHEY_PLAIN, font_scale
            self._alpha: float = alpha
            self._segm_alpha: Any = segm_alpha  # None: no masks
            self._original_image = image
            self._segm_image: Image | None = None
            self._masks = masks
            self._is_own = False
            #: Without layers, PySDK draws on the picture itself.
            self._has_layers = alpha < 1.0 or segm_alpha is not None
            self._drawn: list[_Area] = []
            self._image = self._new_layer()

        def _new_layer(self) -> Image:
            shape = self._original_image.shape
            return _LAYER.clean(shape) if self._has_layers else copied(self._original_image)

        def _note(self, x: Any, y: Any, margin: float) -> None:
            """Note that something was drawn around the points with these coordinates."""
            if not self._has_layers:
                return
            height, width = self._image.shape[:2]
            left, right = min(x) - margin, max(x) + margin + 1
            top, bottom = min(y) - margin, max(y) + margin + 1
            if min(left, top) < -_FAR or max(right, bottom) > _FAR:
                area = slice(0, height), slice(0, width)
            else:
                area = (
                    slice(max(0, int(top)), min(height, int(bottom) + 1)),
                    slice(max(0, int(left)), min(width, int(right) + 1)),
                )
            if _size(area) > 0:
                self._drawn.append(area)

        def draw_circle(
            self, cx: Any, cy: Any, radius: Any, width: Any, color: Any, fill: bool = False
        ) -> None:
            super().draw_circle(cx, cy, radius, width, color, fill)
            self._note((cx,), (cy,), radius + width + 2)

        def draw_text(self, px: Any, py: Any, color: Any, text: Any) -> Any:
            box = super().draw_text(px, py, color, text)
            self._note(box[::2], box[1::2], box[3] - box[1] + 4)
            return box

        def draw_text_label(self, *arguments: Any, **more: Any) -> Any:
            box = super().draw_text_label(*arguments, **more)
            self._note(box[::2], box[1::2], box[3] - box[1] + 4)
            return box

        def draw_line(self, x1: Any, y1: Any, x2: Any, y2: Any, width: Any, color: Any) -> None:
            super().draw_line(x1, y1, x2, y2, width, color)
            self._note((x1, x2), (y1, y2), width + 2)

        def blur_box(self, x1: Any, y1: Any, x2: Any, y2: Any) -> None:
            super().blur_box(x1, y1, x2, y2)
            # Negative numbers count from the other side of the picture.
            margin = 2 if min(x1, y1, x2, y2) >= 0 else math.inf
            self._note((x1, x2), (y1, y2), margin)

        def draw_box(self, x1: Any, y1: Any, x2: Any, y2: Any, width: Any, color: Any) -> None:
            super().draw_box(x1, y1, x2, y2, width, color)
            self._note((x1, x2), (y1, y2), width + 2)

        def draw_polygon(self, polygon: Any, width: Any, color: Any) -> None:
            super().draw_polygon(polygon, width, color)
            points = polygon.reshape(-1, 2)
            self._note(points[:, 0].tolist(), points[:, 1].tolist(), width + 2)

        def image_overlay_extend(self, width: int, height: int, fill_color: Any) -> Any:
            """Add room below and to the right; return the size before."""
            picture = self._original_image
            before = picture.shape[1], picture.shape[0]
            extended = new_picture((before[1] + height, max(width, before[0]), 3))
            color = tuple(fill_color)
            if len(color) == 3 and all(type(part) is int and 0 <= part <= 255 for part in color):
                right = extended.shape[1] - before[0]
                border = (0, height, 0, right, cv2.BORDER_CONSTANT)
                cv2.copyMakeBorder(picture, *border, dst=extended, value=color[::-1])
            else:
                extended[:] = color[::-1]
                extended[: before[1], : before[0]] = picture
            self._original_image, self._is_own = extended, True
            self._image, self._drawn, self._segm_image = self._new_layer(), [], None
            return before

        def image_overlay(self) -> Image:
            if not self._has_layers:
                drawn: Image = self._image
                return drawn
            if self._masks:
                self._blend_masks(self._masks)
            elif self._segm_image is not None:
                height, width = self._segm_image.shape[:2]
                everywhere = [(slice(0, height), slice(0, width))]
                self._blend(self._segm_image, everywhere, self._segm_alpha)
            if self._drawn:
                self._blend(self._image, self._drawn, self._alpha)
            _LAYER.drawn = self._drawn
            picture: Image = self._original_image
            return picture

        def _blend(self, layer: Image, drawn: list[_Area], alpha: float) -> None:
            # Areas may overlap, and only opaque pixels may be blended twice.
            areas = _together(drawn) if not _opacity(1.0 - alpha) else (_around(drawn),)
            for area in areas:
                part = layer[area]
                grey = scratch("grey", part.shape[:2])
                cv2.cvtColor(part, cv2.COLOR_BGR2GRAY, dst=grey)
                scaled = _scaled(part, _opacity(alpha), "layer scaled")
                self._mix(area, grey, scaled, alpha)

        def _blend_masks(self, masks: list[Mask]) -> None:
            before = self._own_picture()
            for mask in masks:
                # As in PySDK, a later mask replaces earlier ones, and is mixed with the original
                # picture.
                picture = before[mask.area]
                if cv2.cvtColor(mask.color.reshape(1, 1, 3), cv2.COLOR_BGR2GRAY)[0, 0]:
                    picture = self._tinted(picture, mask.color)
                # else: PySDK does not draw a color whose grey value is 0
                inside = scratch("inside", mask.data.shape, bool)
                np.greater(mask.data, 0, out=inside)
                cv2.copyTo(picture, inside.view(np.uint8), self._original_image[mask.area])

        def _tinted(self, picture: Image, color: Image) -> Image:
            height, width = picture.shape[:2]
            rest = _scaled(picture, _opacity(1.0 - self._segm_alpha), "tinted")
            color = _scaled(color, _opacity(self._segm_alpha), "color")
            mixed = scratch("tinted", picture.shape)
            # By rows, since NumPy is slow on pixels of three. Sums above 255, by rounding, wrap
            # around as in PySDK.
            rows = rest.reshape(height, 3 * width)
            np.add(rows, np.tile(color, width), out=mixed.reshape(height, 3 * width))
            return mixed

        def _own_picture(self) -> Image:
            """Return the picture as it is, and continue on a copy."""
            before = self._original_image
            if not self._is_own:
                self._original_image, self._is_own = copied(before), True
                return before
            return before.copy()

        def _mix(self, area: _Area, mask: Image, layer: Image, alpha: float) -> None:
            """Put ``layer``, already scaled by its opacity, on the picture where ``mask`` is."""
            if not self._is_own:
                self._own_picture()
            rest = _opacity(1.0 - alpha)
            if rest:
                # Sums above 255, by rounding, wrap around as in PySDK.
                scaled = _scaled(self._original_image[area], rest, "picture scaled")
                layer = np.add(scaled, layer, out=scratch("mixed", layer.shape))
            cv2.copyTo(layer, mask, self._original_image[area])

    return Canvas


class _Layer(threading.local):
    """This thread's layer, which is cleared where the previous frame was drawn."""

    def __init__(self) -> None:
        self._last = np.zeros((0, 0, 3), np.uint8)
        #: Where it was drawn on; None if unknown, after an error.
        self.drawn: list[_Area] | None = []

    def clean(self, shape: tuple[int, ...]) -> Image:
        if self._last.shape != shape:
            self._last = np.zeros(shape, np.uint8)
        elif self.drawn is None:
            self._last.fill(0)
        elif self.drawn:
            for area in _together(self.drawn):
                self._last[area] = 0
        self.drawn = None
        return self._last


_LAYER = _Layer()


def _together(areas: list[_Area]) -> tuple[_Area, ...]:
    """Return ``areas``, or the one around all if that is less work."""
    around = _around(areas)
    is_less = sum(map(_size, areas)) + _AREA_WORK * len(areas) < _size(around)
    return tuple(areas) if is_less else (around,)


def _around(areas: list[_Area]) -> _Area:
    rows, columns = [area[0] for area in areas], [area[1] for area in areas]
    return (
        slice(min(item.start for item in rows), max(item.stop for item in rows)),
        slice(min(item.start for item in columns), max(item.stop for item in columns)),
    )


def _size(area: _Area) -> int:
    rows, columns = area
    return int(max(0, rows.stop - rows.start) * max(0, columns.stop - columns.start))


@functools.lru_cache(64)
def _opacity(alpha: float) -> Fraction:
    """Return an opacity as the fraction that PySDK uses."""
    return Fraction(alpha).limit_denominator(255)


def _scaled(image: Image, factor: Fraction, name: str) -> Image:
    """Return ``image`` times ``factor``, rounded down, in the array ``name`` unless it is 1."""
    if factor == 1:
        return image
    scaled = scratch(name, image.shape)
    if factor == Fraction(1, 2):  # the default of masks
        return np.right_shift(image, 1, out=scaled)
    wide = scratch("wide", image.shape, np.uint16)
    np.multiply(image, np.uint16(factor.numerator), out=wide)
    np.floor_divide(wide, np.uint16(factor.denominator), out=wide)
    np.copyto(scaled, wide, casting="unsafe")
    return scaled

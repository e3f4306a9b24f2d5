"""PySDK's overlays, drawn faster: the same pixels, a tenth of the time.

What is drawn, where and in which colors is decided by PySDK's own code, which runs here as it is.
Only the canvas below it is ours: the layers that PySDK blends pixel by pixel, over the whole
frame, through arrays of indices, are blended here only where something was drawn. Where the
installed PySDK blends in another way than the one that this was compared with, it draws itself.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from types import FunctionType
from typing import Any

import numpy as np

__all__ = ["image_overlay", "is_fast"]

_Image = np.ndarray[Any, Any]
_Area = tuple[slice, slice]

#: Classes whose `image_overlay` draws on a canvas; the base class returns a copy of the picture.
_CLASSES = (
    "DetectionResults",
    "ClassificationResults",
    "MultiLabelClassificationResults",
    "SegmentationResults",
    "Hand_DetectionResults",
)
#: The parts of PySDK's canvas that ours replaces or relies on; `fingerprint` has some more.
_REPLACED = (
    "__init__",
    "_alpha_blend",
    "image_overlay",
    "image_overlay_extend",
    "image_segmentation_overlay",
)
#: SHA-256 of their source text where ours was found to give the same pixels. PySDK 1.5.0.
_COMPARED_WITH = frozenset({"80df51a21c1d49e9ac389d68bc9ae56daa30d1595f060c5ee4b616b3a962a310"})


def image_overlay(result: Any) -> _Image:
    """Return ``result.image_overlay``, pixel by pixel, of a PySDK result.

    Raises whatever PySDK and OpenCV raise on values that they never expected (a box of NaN).
    """
    result_class: Any = type(result)
    draw = _drawing(result_class)
    overlay: _Image
    if draw is None:
        overlay = result.image_overlay
        return overlay
    layer = _mask_layer(result)
    if layer is not None:
        # A twin without masks: PySDK draws all the rest.
        without = [{k: v for k, v in item.items() if k != "mask"} for item in result.results]
        result = copy.copy(result)
        result._inference_results = without
    overlay = draw(result, layer)
    return overlay


def is_fast(result_class: type) -> bool:
    """Return whether `image_overlay` draws results of this class on a canvas of its own."""
    return _drawing(result_class) is not None


@dataclass(frozen=True)
class _MaskLayer:
    """The masks of one frame, put together: the later one is on top."""

    #: Number of the color of each pixel, uint8, height x width; 0 where there is no mask.
    numbers: _Image
    #: 256 x 1 x 3, BGR.
    colors: _Image
    #: Where masks are.
    area: _Area


@functools.cache
def _drawing(result_class: Any) -> Callable[[Any, _MaskLayer | None], _Image] | None:
    """Return PySDK's own drawing of a class over our canvas; None where PySDK has to do it all."""
    from degirum import postprocessor

    canvas = _canvas_class()
    known = [getattr(postprocessor, name, None) for name in _CLASSES]
    own = vars(result_class).get("image_overlay")
    if canvas is None or result_class not in known or not isinstance(own, property):
        return None
    function = own.fget
    if not isinstance(function, FunctionType) or function.__closure__:
        return None
    if "create_draw_primitives" not in function.__code__.co_names:
        return None
    code, names = function.__code__, function.__globals__

    def draw(result: Any, layer: _MaskLayer | None) -> _Image:
        def create(image: Any, alpha: float, segm_alpha: float | None, font_scale: float) -> Any:
            if _is_picture(image) and all(0 <= value <= 1 for value in (alpha, segm_alpha or 0.0)):
                return canvas(image, alpha, segm_alpha, font_scale, layer)
            return names["create_draw_primitives"](image, alpha, segm_alpha, font_scale)

        # The same code with another canvas, rather than a patch of PySDK's module: live pipelines
        # in this process go on as they are.
        overlay: _Image = FunctionType(code, {**names, "create_draw_primitives": create})(result)
        return overlay

    return draw


def _mask_layer(result: Any) -> _MaskLayer | None:
    """Return the masks of a detection result; None if it has none, or any that is out of order.

    PySDK takes a color for each class in turn, beginning after those that it gave to detections
    with neither label nor class.
    """
    image, found = result._input_image, result._inference_results
    if not getattr(result, "masks_present", False) or result.mask_result is not None:
        return None
    if not _is_picture(image) or not 0 <= result._segm_alpha <= 1 or not 0 <= result._alpha <= 1:
        return None
    colors = _as_colors(result._overlay_color)
    if colors is None or not all(type(item) is dict for item in found):
        return None
    height, width = image.shape[:2]
    numbers = _scratch("numbers", (height, width))
    numbers.fill(0)
    left, top, right, bottom = width, height, 0, 0
    for item in found:
        mask = item.get("mask")
        if mask is None:
            continue
        data, x, y = mask["data"], mask["x_min"], mask["y_min"]
        category = item.get("category_id", 0)
        if not (type(x) is type(y) is type(category) is int and type(data) is np.ndarray):
            return None
        if data.ndim != 2 or data.dtype.kind not in "biuf":
            return None
        if x < 0 or y < 0 or x + data.shape[1] > width or y + data.shape[0] > height:
            return None
        if data.size:
            end_x, end_y = x + data.shape[1], y + data.shape[0]
            number = np.uint8(category % type(result).max_colors + 1)
            np.copyto(numbers[y:end_y, x:end_x], number, where=data > 0)
            left, top = min(left, x), min(top, y)
            right, bottom = max(right, end_x), max(bottom, end_y)
    if right == 0:
        return None
    first = 0
    if isinstance(result._overlay_color, list):
        first = sum(item.get("label") is item.get("category_id") is None for item in found)
    table = np.zeros((256, 1, 3), np.uint8)
    table[1:, 0] = colors[(first + np.arange(255)) % len(colors), ::-1]
    return _MaskLayer(numbers, table, (slice(top, bottom), slice(left, right)))


def _as_colors(value: Any) -> _Image | None:
    """Return colors as an array, n x 3 (RGB); None if they are no plain ones."""
    colors = value if isinstance(value, list) else [value]
    for color in colors:
        if type(color) is not tuple or len(color) != 3:
            return None
        if not all(type(part) is int and 0 <= part <= 255 for part in color):
            return None
    return np.array(colors, np.uint8) if colors else None


def _is_picture(image: Any) -> bool:
    return (
        type(image) is np.ndarray
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    )


def fingerprint() -> str:
    """Return the SHA-256 of what is replaced in the installed PySDK; "" without its source."""
    try:
        from degirum import _draw_primitives as primitives
        from degirum.postprocessor import DetectionResults

        theirs = primitives._PrimitivesDrawOpenCV
        parts = [getattr(theirs, name) for name in _REPLACED]
        parts += [primitives._image_segmentation_overlay]
        parts += [DetectionResults._deduce_color, DetectionResults.image_overlay.fget]
        text = "".join(inspect.getsource(part) for part in parts)
    except (ImportError, AttributeError, OSError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _canvas_class() -> Any:
    """Return PySDK's canvas with blending of ours; None if its own is not the one compared."""
    if fingerprint() not in _COMPARED_WITH:
        return None
    import cv2
    from degirum import _draw_primitives as primitives

    class Canvas(primitives._PrimitivesDrawOpenCV):  # type: ignore[misc]
        """Two layers over the picture, as PySDK has them: masks, and on top all the rest.

        A layer's pixel counts where its grey value is not 0, with the layer's opacity.
        """

        def __init__(
            self,
            image: _Image,
            alpha: float,
            segm_alpha: float | None,
            font_scale: float,
            masks: _MaskLayer | None,
        ) -> None:
            super().__init__(image, alpha, segm_alpha, font_scale)
            self._original_image: _Image
            self._masks = masks
            self._is_own = False
            if self._has_layers:
                self._image = _empty_layer(image.shape)

        def image_overlay_extend(self, width: int, height: int, fill_color: Any) -> Any:
            """Add room below and to the right; return the size before."""
            color = tuple(fill_color)
            if len(color) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in color):
                return super().image_overlay_extend(width, height, fill_color)
            picture = self._original_image
            before = picture.shape[1], picture.shape[0]
            right = max(0, width - before[0])
            self._original_image = cv2.copyMakeBorder(
                picture, 0, height, 0, right, cv2.BORDER_CONSTANT, value=color[::-1]
            )
            self._is_own = True
            if self._has_layers:
                self._image = _empty_layer(self._original_image.shape)
            else:
                self._image = self._original_image.copy()
            self._segm_image = None
            return before

        @property
        def _has_layers(self) -> bool:
            return bool(self._alpha < 1.0 or self._segm_alpha is not None)

        def image_overlay(self) -> _Image:
            if not self._has_layers:
                drawn: _Image = self._image
                return drawn
            if self._masks is not None:
                self._blend_masks(self._masks)
            elif self._segm_image is not None:
                self._blend(self._segm_image, self._segm_alpha)
            self._blend(self._image, self._alpha)
            picture: _Image = self._original_image
            return picture

        def _blend(self, layer: _Image, alpha: float) -> None:
            grey = cv2.cvtColor(layer, cv2.COLOR_BGR2GRAY, dst=_scratch("grey", layer.shape[:2]))
            left, top, width, height = cv2.boundingRect(grey)
            if width:
                area = slice(top, top + height), slice(left, left + width)
                scaled = _scaled(layer[area], _opacity(alpha), "layer scaled")
                self._mix(area, grey, scaled, alpha)

        def _blend_masks(self, masks: _MaskLayer) -> None:
            visible = cv2.cvtColor(masks.colors, cv2.COLOR_BGR2GRAY) != 0
            mask = masks.numbers
            if not visible[1:].all():  # some colors are as good as black: not drawn at all
                mask = cv2.LUT(mask, visible.astype(np.uint8).reshape(-1))
            palette = _scaled(masks.colors, _opacity(self._segm_alpha), "palette")
            numbers = masks.numbers[masks.area]
            layer = _scratch("masks", (*numbers.shape, 3))
            cv2.applyColorMap(numbers, palette, dst=layer)
            self._mix(masks.area, mask, layer, self._segm_alpha)

        def _mix(self, area: _Area, mask: _Image, layer: _Image, alpha: float) -> None:
            """Put ``layer``, scaled by its opacity already, onto the picture where ``mask`` is."""
            if not self._is_own:
                self._original_image, self._is_own = self._original_image.copy(), True
            picture = self._original_image[area]
            rest = _opacity(1.0 - alpha)
            if rest:
                # Never above 255 but for rounding, which wraps around in PySDK's sum too.
                scaled = _scaled(picture, rest, "picture scaled")
                layer = np.add(scaled, layer, out=_scratch("mixed", layer.shape))
            cv2.copyTo(layer, mask[area], picture)

    return Canvas


def _opacity(alpha: float) -> Fraction:
    """Return the fraction that PySDK takes for an opacity; it scales by whole numbers."""
    return Fraction(alpha).limit_denominator(255)


def _scaled(image: _Image, factor: Fraction, name: str) -> _Image:
    """Return ``image`` times ``factor``, rounded down; in the array ``name`` unless it is 1."""
    if factor == 1:
        return image
    scaled = _scratch(name, image.shape)
    if factor == Fraction(1, 2):  # every mask, unless told otherwise
        return np.right_shift(image, 1, out=scaled)
    wide = _scratch("wide", image.shape, np.uint16)
    np.multiply(image, np.uint16(factor.numerator), out=wide)
    np.floor_divide(wide, np.uint16(factor.denominator), out=wide)
    np.copyto(scaled, wide, casting="unsafe")
    return scaled


def _empty_layer(shape: tuple[int, ...]) -> _Image:
    layer = _scratch("layer", shape)
    layer.fill(0)
    return layer


class _Arrays(threading.local):
    def __init__(self) -> None:
        self.flat: dict[str, _Image] = {}


_ARRAYS = _Arrays()


def _scratch(name: str, shape: tuple[int, ...], dtype: Any = np.uint8) -> _Image:
    """Return this thread's array for a purpose, with whatever is in it.

    Arrays of megabytes that are made anew for every frame go back to the system each time, and
    getting their pages again takes longer than all of the drawing.
    """
    size = math.prod(shape)
    flat = _ARRAYS.flat.get(name)
    if flat is None or flat.size < size:
        flat = _ARRAYS.flat[name] = np.empty(size, dtype)
    return flat[:size].reshape(shape)

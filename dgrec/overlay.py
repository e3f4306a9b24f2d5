"""PySDK's overlays, drawn faster: the same pixels, a tenth of the time.

What is drawn, where and in which colors is decided by PySDK's own code, which runs here as it is.
Only the canvas below it is ours: the layers that PySDK blends pixel by pixel, over the whole
frame, through arrays of indices, are blended here only where something was drawn. Where the
installed PySDK blends in another way than the one that this was compared with, it draws itself.
"""

from __future__ import annotations

import collections
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

__all__ = ["as_pil", "image_overlay", "is_fast"]

_Image = np.ndarray[Any, Any]
_Area = tuple[slice, slice]

#: Coordinates beyond are not trusted to be drawn where they say.
_FAR = 16_000
#: An area takes as long as so many pixels, however small it is.
_AREA_WORK = 4000

#: Classes whose `image_overlay` draws on a canvas; the base class returns a copy of the picture.
_CLASSES = (
    "DetectionResults",
    "ClassificationResults",
    "MultiLabelClassificationResults",
    "SegmentationResults",
    "Hand_DetectionResults",
)
#: Those that draw nothing but boxes, labels and key points where there are no masks.
_BOXES = ("DetectionResults", "Hand_DetectionResults")
#: What `fingerprint` returns where ours was found to give the same pixels: PySDK 1.5.0.
_COMPARED_WITH = frozenset({"da37fd71ddb197a085e7c04b74b68c7bf4abc26045d6feda31676c6c278522f9"})


def image_overlay(result: Any, image: _Image | None = None) -> _Image:
    """Return ``result.image_overlay``, pixel by pixel, of a PySDK result.

    With the image backend PIL that is a picture of PIL's, of which the pixels are returned, BGR as
    from OpenCV. Unless the model's ``input_numpy_colorspace`` says otherwise, PySDK has taken blue
    for red there: it is drawn on ``image`` instead, the frame as it was read (BGR), if that is
    given.

    Raises whatever PySDK and OpenCV raise on values that they never expected (a box of NaN).
    """
    if _is_of_pil(result):
        return _drawn_by_pil(result, image)
    result_class: Any = type(result)
    draw = _drawing(result_class)
    overlay: _Image
    if draw is None or _has_one_layer(result):
        overlay = result.image_overlay
        return overlay
    masks = _masks_of(result)
    if masks:
        # A twin without masks: PySDK draws all the rest.
        without = [{k: v for k, v in item.items() if k != "mask"} for item in result.results]
        result = copy.copy(result)
        result._inference_results = without
    overlay = draw(result, masks)
    return overlay


def as_pil(image: _Image) -> Any:
    """Return pixels (BGR) as a picture of PIL's."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(image[..., ::-1]))


def _has_one_layer(result: Any) -> bool:
    """Return whether PySDK draws on a copy of the picture and blends nothing: it is as fast."""
    has_masks = getattr(result, "masks_present", False)
    return type(result).__name__ in _BOXES and not has_masks and result._alpha >= 1.0


def _is_of_pil(result: Any) -> bool:
    return hasattr(getattr(result, "_input_image", None), "getchannel")


def _drawn_by_pil(result: Any, image: _Image | None) -> _Image:
    if image is not None:
        result = copy.copy(result)
        result._input_image = as_pil(image)
    return np.ascontiguousarray(np.asarray(result.image_overlay.convert("RGB"))[..., ::-1])


def is_fast(result_class: type) -> bool:
    """Return whether `image_overlay` draws results of this class on a canvas of its own."""
    return _drawing(result_class) is not None


@dataclass(frozen=True)
class _Mask:
    """Where an object is, and the color it is shown in."""

    area: _Area
    #: Height x width of the area, any type: above 0 where the object is.
    data: _Image
    #: BGR, uint8.
    color: _Image


@functools.cache
def _drawing(result_class: Any) -> Callable[[Any, list[_Mask]], _Image] | None:
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

    def draw(result: Any, masks: list[_Mask]) -> _Image:
        def create(image: Any, alpha: float, segm_alpha: float | None, font_scale: float) -> Any:
            if _is_picture(image) and all(0 <= value <= 1 for value in (alpha, segm_alpha or 0.0)):
                return canvas(image, alpha, segm_alpha, font_scale, masks)
            return names["create_draw_primitives"](image, alpha, segm_alpha, font_scale)

        # The same code with another canvas, rather than a patch of PySDK's module: live pipelines
        # in this process go on as they are.
        overlay: _Image = FunctionType(code, {**names, "create_draw_primitives": create})(result)
        return overlay

    return draw


def _masks_of(result: Any) -> list[_Mask]:
    """Return the masks of a detection result; none if any is out of order: PySDK draws them then.

    PySDK takes a color for each class in turn, beginning after those that it gave to detections
    with neither label nor class.
    """
    image, found = result._input_image, result._inference_results
    if not getattr(result, "masks_present", False) or result.mask_result is not None:
        return []
    if not _is_picture(image) or not 0 <= result._segm_alpha <= 1 or not 0 <= result._alpha <= 1:
        return []
    colors = _as_colors(result._overlay_color)
    if colors is None or not all(type(item) is dict for item in found):
        return []
    first = 0
    if isinstance(result._overlay_color, list):
        first = len([i for i in found if i.get("label") is i.get("category_id") is None])
    height, width = image.shape[:2]
    masks: list[_Mask] = []
    for item in found:
        mask = item.get("mask")
        if mask is None:
            continue
        data, x, y = mask["data"], mask["x_min"], mask["y_min"]
        category = item.get("category_id", 0)
        if not (type(x) is type(y) is type(category) is int and type(data) is np.ndarray):
            return []
        if data.ndim != 2 or data.dtype.kind not in "biuf":
            return []
        if x < 0 or y < 0 or x + data.shape[1] > width or y + data.shape[0] > height:
            return []
        if data.size:
            area = slice(y, y + data.shape[0]), slice(x, x + data.shape[1])
            number = (first + category % type(result).max_colors) % len(colors)
            masks.append(_Mask(area, data, colors[number, ::-1]))
    return masks


def _together(areas: list[_Area]) -> tuple[_Area, ...]:
    """Return ``areas``, or the one around them all if that is less work."""
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


def _as_colors(value: Any) -> _Image | None:
    """Return colors as an array, n x 3 (RGB); None if they are no plain ones."""
    colors = value if isinstance(value, list) else [value]
    if set(map(type, colors)) != {tuple}:
        return None
    try:
        table = np.array(colors)
    except ValueError:  # not all of one length
        return None
    if table.dtype.kind != "i" or table.shape[1:] != (3,) or table.min() < 0 or table.max() > 255:
        return None
    return table.astype(np.uint8)


def _is_picture(image: Any) -> bool:
    return (
        type(image) is np.ndarray
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    )


def fingerprint() -> str:
    """Return the SHA-256 of the PySDK code that ours stands in for; "" without its source."""
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
def _canvas_class() -> Any:
    """Return PySDK's canvas with blending of ours; None if its own is not the one compared."""
    if fingerprint() not in _COMPARED_WITH:
        return None
    import cv2
    from degirum import _draw_primitives as primitives

    class Canvas(primitives._PrimitivesDrawOpenCV):  # type: ignore[misc]
        """Two layers over the picture, as PySDK has them: masks, and on top all the rest.

        A layer's pixel counts where its grey value is not 0, with the layer's opacity. PySDK's own
        methods draw; those below note where, which may be too much, never too little.
        """

        def __init__(
            self,
            image: _Image,
            alpha: float,
            segm_alpha: float | None,
            font_scale: float,
            masks: list[_Mask],
        ) -> None:
            # What PySDK's own constructor sets, but for where the arrays come from.
            self._cv = cv2
            self._font, self._font_scale = cv2.FONT_HERSHEY_PLAIN, font_scale
            self._alpha: float = alpha
            self._segm_alpha: Any = segm_alpha  # None: no masks
            self._original_image = image
            self._segm_image: _Image | None = None
            self._masks = masks
            self._is_own = False
            #: Without layers, what is drawn on is the picture itself.
            self._has_layers = alpha < 1.0 or segm_alpha is not None
            self._drawn: list[_Area] = []
            self._image = self._new_layer()

        def _new_layer(self) -> _Image:
            shape = self._original_image.shape
            return _LAYER.clean(shape) if self._has_layers else _copy(self._original_image)

        def _note(self, x: Any, y: Any, margin: float) -> None:
            """Note that something was drawn around the points with these coordinates."""
            if not self._has_layers:
                return
            height, width = self._image.shape[:2]
            left, right = min(x) - margin, max(x) + margin + 1
            top, bottom = min(y) - margin, max(y) + margin + 1
            if min(left, top) < -_FAR or max(right, bottom) > _FAR:
                area = slice(0, height), slice(0, width)  # wherever OpenCV's arithmetic leads
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
            # Numbers below 0 count from the other side of the picture.
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
            extended = _new_picture((before[1] + height, max(width, before[0]), 3))
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

        def image_overlay(self) -> _Image:
            if not self._has_layers:
                drawn: _Image = self._image
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
            picture: _Image = self._original_image
            return picture

        def _blend(self, layer: _Image, drawn: list[_Area], alpha: float) -> None:
            # Opaque pixels may be put down twice; others may not, so theirs is a single area.
            areas = _together(drawn) if not _opacity(1.0 - alpha) else (_around(drawn),)
            for area in areas:
                part = layer[area]
                grey = _scratch("grey", part.shape[:2])
                cv2.cvtColor(part, cv2.COLOR_BGR2GRAY, dst=grey)
                scaled = _scaled(part, _opacity(alpha), "layer scaled")
                self._mix(area, grey, scaled, alpha)

        def _blend_masks(self, masks: list[_Mask]) -> None:
            before = self._own_picture()
            for mask in masks:
                # In the order of PySDK: a later mask takes the place of those below it, and is
                # mixed with the picture as it was without any.
                picture = before[mask.area]
                if cv2.cvtColor(mask.color.reshape(1, 1, 3), cv2.COLOR_BGR2GRAY)[0, 0]:
                    picture = self._tinted(picture, mask.color)
                # else: a color as good as black, which PySDK does not draw at all
                inside = _scratch("inside", mask.data.shape, bool)
                np.greater(mask.data, 0, out=inside)
                cv2.copyTo(picture, inside.view(np.uint8), self._original_image[mask.area])

        def _tinted(self, picture: _Image, color: _Image) -> _Image:
            height, width = picture.shape[:2]
            rest = _scaled(picture, _opacity(1.0 - self._segm_alpha), "tinted")
            color = _scaled(color, _opacity(self._segm_alpha), "color")
            mixed = _scratch("tinted", picture.shape)
            # A row at a time: NumPy is slow on rows of three. Never above 255 but for rounding,
            # which wraps around in PySDK's sum too.
            rows = rest.reshape(height, 3 * width)
            np.add(rows, np.tile(color, width), out=mixed.reshape(height, 3 * width))
            return mixed

        def _own_picture(self) -> _Image:
            """Return the picture as it is; what is drawn from now on is drawn on a copy."""
            before = self._original_image
            if not self._is_own:
                self._original_image, self._is_own = _copy(before), True
                return before
            return before.copy()

        def _mix(self, area: _Area, mask: _Image, layer: _Image, alpha: float) -> None:
            """Put ``layer``, scaled by its opacity already, over the picture where ``mask`` is."""
            if not self._is_own:
                self._own_picture()
            rest = _opacity(1.0 - alpha)
            if rest:
                # Never above 255 but for rounding, which wraps around in PySDK's sum too.
                scaled = _scaled(self._original_image[area], rest, "picture scaled")
                layer = np.add(scaled, layer, out=_scratch("mixed", layer.shape))
            cv2.copyTo(layer, mask, self._original_image[area])

    return Canvas


@functools.lru_cache(64)
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


class _Arrays(threading.local):
    def __init__(self) -> None:
        self.flat: dict[str, _Image] = {}


_ARRAYS = _Arrays()


class _Layer(threading.local):
    """The layer that this thread draws on, black again where the frame before was drawn."""

    def __init__(self) -> None:
        self._last = np.zeros((0, 0, 3), np.uint8)
        #: Where the last one was drawn on; None if nobody knows, since drawing failed.
        self.drawn: list[_Area] | None = []

    def clean(self, shape: tuple[int, ...]) -> _Image:
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


class _Loan:
    """Memory that an array stands in, and that the next picture takes once nobody has the array."""

    def __init__(self, memory: _Image, shape: tuple[int, ...]) -> None:
        self._memory = memory
        self.__array_interface__ = {**memory.__array_interface__, "shape": shape}

    def __del__(self) -> None:
        _SPARE.append(self._memory)


#: Memory of pictures that are no longer needed; the oldest gives way.
_SPARE: collections.deque[_Image] = collections.deque(maxlen=4)


def _new_picture(shape: tuple[int, ...]) -> _Image:
    """Return a picture with whatever is in it, for the caller to keep: as `_scratch`, but new."""
    size = math.prod(shape)
    try:
        memory = _SPARE.pop()
    except IndexError:
        memory = np.empty(size, np.uint8)
    if memory.size != size:
        memory = np.empty(size, np.uint8)
    return np.asarray(_Loan(memory, shape))


def _copy(picture: _Image) -> _Image:
    copied = _new_picture(picture.shape)
    np.copyto(copied, picture)
    return copied

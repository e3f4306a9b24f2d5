"""PySDK's overlays with the same pixels, faster where they have masks, classes or opacity.

PySDK's own code decides what is drawn, where and in which colors. Only its canvas is replaced:
PySDK blends layers over the whole frame through arrays of indices, `dgrec.overlay.canvas` only
where something was drawn. Overlays without layers, and an unknown PySDK, are left to PySDK.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from dgrec.analyzers import drawable_result
from dgrec.overlay.arrays import Image
from dgrec.overlay.canvas import Mask, canvas_class

#: In a class that also draws texts with half a character in them: the class that it extends.
DRAWN_AS = "_dgrec_drawn_as"
#: Classes whose `image_overlay` draws on a canvas; the base class returns a copy of the picture.
_CLASSES = (
    "DetectionResults",
    "ClassificationResults",
    "MultiLabelClassificationResults",
    "SegmentationResults",
    "Hand_DetectionResults",
)
#: Without masks, these draw only boxes, labels and key points.
_BOXES = ("DetectionResults", "Hand_DetectionResults")


def image_overlay(result: Any, image: Image | None = None) -> Image:
    """Return the pixels of ``result.image_overlay`` of a PySDK result.

    With the image backend PIL they are converted to BGR. By default PySDK confuses red and blue
    there (``input_numpy_colorspace``), so ``image``, the frame as it was read, is drawn on instead.

    Raises whatever PySDK and OpenCV raise on invalid values, such as a box of NaN.
    """
    result = drawable_result(of_own_class(result))
    if hasattr(getattr(result, "_input_image", None), "getchannel"):  # a PIL picture
        if image is not None:
            result = copy.copy(result)
            result._input_image = as_pil(image)
        return np.ascontiguousarray(np.asarray(result.image_overlay.convert("RGB"))[..., ::-1])
    result_class: Any = type(result)
    draw = _drawing(result_class)
    overlay: Image
    if draw is None or _has_one_layer(result):
        overlay = result.image_overlay
        return overlay
    masks = masks_of(result)
    # PySDK draws all but the masks.
    overlay = draw(without_masks(result) if masks else result, masks)
    return overlay


def of_own_class(result: Any) -> Any:
    """Return a result with PySDK's own class, if it has one that draws odd texts (`DRAWN_AS`)."""
    own = vars(type(result)).get(DRAWN_AS)
    if own is not None:
        result = copy.copy(result)
        result.__class__ = own
    return result


def without_masks(result: Any) -> Any:
    """Return a detection result without the masks."""
    without = [{k: v for k, v in item.items() if k != "mask"} for item in result.results]
    result = copy.copy(result)
    result._inference_results = without
    return result


def as_pil(image: Image) -> Any:
    """Return pixels (BGR) as a PIL picture."""
    from PIL import Image as Pictures

    return Pictures.fromarray(np.ascontiguousarray(image[..., ::-1]))


def _has_one_layer(result: Any) -> bool:
    """Return whether PySDK blends nothing, and is therefore just as fast."""
    has_masks = getattr(result, "masks_present", False)
    return type(result).__name__ in _BOXES and not has_masks and result._alpha >= 1.0


@functools.cache
def _drawing(result_class: Any) -> Callable[[Any, list[Mask]], Image] | None:
    """Return PySDK's drawing of a class on our canvas; None if that is not possible."""
    canvas, draw_on = canvas_class(), drawing_on(result_class)
    if canvas is None or draw_on is None:
        return None
    from degirum._draw_primitives import create_draw_primitives

    def draw(result: Any, masks: list[Mask]) -> Image:
        def create(image: Any, alpha: float, segm_alpha: float | None, font_scale: float) -> Any:
            if _is_picture(image) and all(0 <= value <= 1 for value in (alpha, segm_alpha or 0.0)):
                return canvas(image, alpha, segm_alpha, font_scale, masks)
            return create_draw_primitives(image, alpha, segm_alpha, font_scale)

        overlay: Image = draw_on(result, create)
        return overlay

    return draw


@functools.cache
def drawing_on(result_class: Any) -> Callable[[Any, Callable[..., Any]], Any] | None:
    """Return PySDK's drawing of a class on another canvas; None if that is not possible.

    It takes a result, and a function that makes the canvas, with the arguments of PySDK's own.
    """
    from degirum import postprocessor

    known = [getattr(postprocessor, name, None) for name in _CLASSES]
    own = vars(result_class).get("image_overlay")
    if result_class not in known or not isinstance(own, property):
        return None
    function = own.fget
    if not isinstance(function, FunctionType) or function.__closure__:
        return None
    if "create_draw_primitives" not in function.__code__.co_names:
        return None
    code, names = function.__code__, function.__globals__

    def draw(result: Any, create: Callable[..., Any]) -> Any:
        # A copy of the function: a patch of PySDK's module would change live pipelines.
        return FunctionType(code, {**names, "create_draw_primitives": create})(result)

    return draw


def masks_of(result: Any) -> list[Mask]:
    """Return the masks of a detection result; none if PySDK has to draw them, since one is odd.

    PySDK takes a color for each class in turn, after those of detections without label and class.
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
    masks: list[Mask] = []
    for index, item in enumerate(found):
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
            masks.append(Mask(area, data, colors[number, ::-1], index))
    return masks


def _as_colors(value: Any) -> Image | None:
    """Return colors as an array, n x 3 (RGB); None if they are unusual."""
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

"""Notes the drawing calls of PySDK and of degirum_tools instead of painting.

Their own code decides what is drawn, where and in which colors. It draws on a picture without
pixels, by functions that have the names of OpenCV's and PIL's and note their arguments.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Iterator
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np

from dgrec.analyzers import Drawing, Notice
from dgrec.errors import first_line
from dgrec.overlay.noting_functions import OPENCV, Draw, Picture
from dgrec.overlay.operations import (
    ERASED,
    Operations,
    TooMuchError,
    bitmap_runs,
    value_runs,
    whole,
)
from dgrec.overlay.overlay import drawing_on, masks_of, of_own_class, without_masks
from dgrec.overlay.pysdk import inner_results

#: Class maps of larger pictures are not drawn.
_MOST_PIXELS = 40_000_000
#: After this many detections that cannot be drawn, the others are left out.
_MOST_FAILED = 50
#: The longest reason in a note.
_LONGEST_REASON = 160


# --- PySDK's canvases ----------------------------------------------------------------------------


@functools.cache
def _canvases() -> tuple[Any, Any]:
    """Return PySDK's canvases for OpenCV and PIL, noting what is drawn on them."""
    from degirum import _draw_primitives as primitives

    class _Noting:
        """The methods that both canvases have in common."""

        _segm_alpha: float
        _operations: Operations

        def blur_box(self, x1: Any, y1: Any, x2: Any, y2: Any) -> None:
            width, height = self._operations.width, self._operations.height
            options = primitives.GlobalOptions
            kernel = [
                max(options.blur_min_kernel, side // options.blur_scale) for side in (width, height)
            ]
            # Beyond the edges PySDK fails; what is to be covered stays covered here.
            left, right = sorted(min(max(whole(x), 0), width) for x in (x1, x2))
            top, bottom = sorted(min(max(whole(y), 0), height) for y in (y1, y2))
            if left < right and top < bottom:
                self._operations.add("blur", left, top, right, bottom, *kernel)

        def image_overlay_extend(self, width: int, height: int, fill_color: Any) -> Any:
            noted = self._operations
            before = noted.width, noted.height
            noted.picture = before
            noted.width, noted.height = max(before[0], width), before[1] + height
            noted.fill = tuple(min(255, max(0, int(part))) for part in fill_color)
            return before

        def image_segmentation_overlay(
            self, conversion: Any, overlay_data: Any, lut: Any, convert: bool = True
        ) -> None:
            noted = self._operations
            same = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(256, 1, 3)
            size = noted.width, noted.height
            if size[0] * size[1] > _MOST_PIXELS:
                raise ValueError("the frame is too large")
            classes = primitives._image_segmentation_overlay(
                conversion, overlay_data, *size, same, convert
            )[..., 0]
            columns, rows, runs, values = value_runs(classes)
            numbers = {value: noted.color(tuple(lut[value, 0].tolist())) for value in set(values)}
            colors = [numbers[value] for value in values]
            if set(colors) != {ERASED}:
                more = (columns, rows, runs, colors, float(self._segm_alpha))
                noted.add("map", 0, 0, *size, *more, weight=2 * len(runs))

        def image_overlay(self) -> None:
            """There is no picture to return."""

    class OpenCV(_Noting, primitives._PrimitivesDrawOpenCV):  # type: ignore[misc]
        def __init__(self, operations: Operations, segm_alpha: Any, font_scale: float) -> None:
            self._operations, self._segm_alpha = operations, segm_alpha
            self._image = Picture(operations)
            self._cv, self._font, self._font_scale = OPENCV, OPENCV.FONT_HERSHEY_PLAIN, font_scale

    class Pil(_Noting, primitives._PrimitivesDrawPIL):  # type: ignore[misc]
        def __init__(self, operations: Operations, segm_alpha: Any, font_scale: float) -> None:
            self._operations, self._segm_alpha, self._alpha = operations, segm_alpha, 1.0
            self._image = Picture(operations)
            self._draw = SimpleNamespace(Draw=Draw)
            self._font_to_draw = _pil_font(int(font_scale * 12))

    return OpenCV, Pil


@functools.lru_cache(16)
def _pil_font(size: int) -> Any:
    from pathlib import Path

    from degirum import _draw_primitives as primitives
    from PIL import ImageFont

    file = Path(primitives.__file__).parent / "LiberationMono-Regular.ttf"
    return ImageFont.truetype(str(file), size=size)


# --- overlays ------------------------------------------------------------------------------------


class _Counted(list[Any]):
    """A result's detections, which track the one that is being drawn."""

    def __init__(self, found: list[Any], operations: Operations) -> None:
        super().__init__(found)
        self._operations = operations
        #: Whether their result is about one detection of another result.
        self._is_inner = operations.detection >= 0
        #: The first to be drawn.
        self.start = 0
        #: The one that is being drawn, or at which drawing ended.
        self.at: int | None = None

    def __iter__(self) -> Iterator[Any]:
        before = self._operations.detection
        try:
            for index in range(self.start, len(self)):
                self.at = index
                if not self._is_inner:
                    self._operations.detection = index
                yield self[index]
            self.at = None
        finally:
            self._operations.detection = before


def note_overlay(result: Any, operations: Operations, *, is_pil: bool = False) -> None:
    """Note what `image_overlay` of a PySDK result draws.

    What cannot be drawn is left out, with a note.

    Args:
        is_pil: Whether PIL would draw it.
    """
    try:
        _note_all(of_own_class(result), operations, is_pil)
    except TooMuchError:
        operations.note("too much to draw: the rest of this frame is left out")
    except Exception as error:  # results in files may be anything
        operations.note(f"not drawn: {_reason(error)}")


def _note_all(result: Any, operations: Operations, is_pil: bool) -> None:
    classes = type(result).__mro__
    draw = next((found for kind in classes[:2] if (found := drawing_on(kind))), None)
    if draw is not None:
        _note_result(result, draw, operations, is_pil)
    elif not _draws_nothing(result):
        operations.note(f"results of the class {type(result).__name__} are not drawn here")
    for index, inner in inner_results(result):
        # Results nested deeper belong to the same detection.
        with operations.of(index if operations.detection < 0 else operations.detection):
            note_overlay(inner, operations, is_pil=is_pil)


def _reason(error: Exception) -> str:
    return first_line(error)[:_LONGEST_REASON]


def _draws_nothing(result: Any) -> bool:
    from degirum.postprocessor import InferenceResults

    kinds: Any = type(result).__mro__[:2]
    return any(kind.image_overlay is InferenceResults.image_overlay for kind in kinds[:-1])


def _note_result(result: Any, draw: Any, operations: Operations, is_pil: bool) -> None:
    width, height = operations.width, operations.height
    # Without memory for its pixels.
    blank = np.broadcast_to(np.zeros(3, np.uint8), (height, width, 3))
    result = copy.copy(result)
    result._input_image = blank
    masks = masks_of(result)
    if masks:
        result = without_masks(result)
    elif getattr(result, "masks_present", False) and width * height > _MOST_PIXELS:
        operations.note("masks are not drawn: the frame is too large")
        result = without_masks(result)
    if is_pil:
        result._input_image = Picture(operations)
    outer = operations.detection
    found = result._inference_results
    counted = _Counted(found if type(found) is list else [], operations)
    if type(found) is list:
        result._inference_results = counted
    failed = 0

    def create(image: Any, alpha: float, segm_alpha: float | None, font_scale: float) -> Any:
        if not counted.start:
            has_layers = alpha < 1 or segm_alpha is not None
            operations.begin_layer(alpha, may_erase=has_layers and not is_pil)
            for mask in masks:
                with operations.of(mask.index if outer < 0 else outer):
                    _note_mask(mask, operations, float(segm_alpha or 0.0))
        return _canvases()[is_pil](operations, segm_alpha, font_scale)

    while True:
        try:
            draw(result, create)
            return
        except TooMuchError:
            raise
        except Exception as error:  # PySDK raises anything for odd results
            at, reason = counted.at, _reason(error)
        operations.detection = outer
        if at is None:
            operations.note(f"not drawn: {reason}")
            return
        failed += 1
        if outer < 0:
            operations.drop(at)
        operations.note(f"detection {at} is not drawn: {reason}")
        counted.start = at + 1
        if failed == _MOST_FAILED and counted.start < len(counted):
            left = len(counted) - counted.start
            operations.note(f"the {left:,} detections after it are not drawn either")
            return


def _note_mask(mask: Any, operations: Operations, alpha: float) -> None:
    inside = np.asarray(mask.data) > 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not rows.size:
        return
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    wide, high, runs = bitmap_runs(inside[top:bottom, left:right])
    x, y = int(mask.area[1].start + left), int(mask.area[0].start + top)
    box = (x, y, int(right - left), int(bottom - top))
    color = operations.color(tuple(mask.color[::-1].tolist()))
    operations.add("mask", *box, wide, high, runs, color, alpha, weight=12 + len(runs))


# --- analyzers -----------------------------------------------------------------------------------


def note_analyzers(
    drawing: Drawing, result: Any, operations: Operations, notices: dict[str, Notice]
) -> None:
    """Note what analyzers of degirum_tools draw on a result's overlay.

    What they draw of a detection is noted as that detection's.
    """
    result = copy.copy(result)
    if type(result._inference_results) is list:
        result._inference_results = _Counted(result._inference_results, operations)

    def annotate(analyzer: Any, seen: Any, picture: Any) -> Any:
        own: Any = type(analyzer)
        kind = _noting_class(own)
        noting: Any = kind.__new__(kind)
        noting.__dict__ = analyzer.__dict__
        try:
            noting.annotate(seen, picture)
        except TooMuchError:
            raise
        except Exception as error:
            operations.note(f"{type(analyzer).__name__} is not drawn: {_reason(error)}")
        operations.detection = -1
        return picture

    operations.begin_layer(1.0, may_erase=False)
    try:
        drawing.draw(result, Picture(operations), notices, annotate)
    except TooMuchError:
        operations.note("too much to draw: the rest of this frame is left out")


@functools.cache
def _noting_class(kind: Any) -> Any:
    """Return an analyzer's class that draws by functions that only note what they are given."""
    methods: dict[str, Any] = {"__del__": lambda self: None}  # the analyzer itself lives on
    for base in kind.__mro__[::-1]:
        for name, value in vars(base).items():
            function = inspect.unwrap(value) if isinstance(value, FunctionType) else None
            if function is not None and _DRAWING & set(function.__code__.co_names):
                methods[name] = _noting_function(function)
    return type(kind.__name__, (kind,), methods)


_DRAWING = {"cv2", "put_text"}


@functools.cache
def _noting_function(function: Any) -> Any:
    """Return a copy of a function that notes: a patch of its module would change live pipelines."""
    names = {**vars(sys.modules[function.__module__]), "cv2": OPENCV}
    if "put_text" in function.__code__.co_names:
        names["put_text"] = _noting_function(names["put_text"])
    made = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made

"""PySDK's own result objects, made from recorded ones."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter, is_not
from typing import Any

import numpy as np

from dgrec.analyzers import drawable, drawable_result, with_degirum_counts
from dgrec.errors import VideoError
from dgrec.format import OVERLAY_SETTINGS, InnerResult, RestoredFrame
from dgrec.overlay.overlay import DRAWN_AS, image_overlay

#: Under this key, a gizmo that combines crops keeps the results about a detection.
_EXTRA_RESULTS = "extra_results"


def pysdk_result(
    described: Mapping[str, Any],
    recorded: RestoredFrame | InnerResult,
    image: Any,
    settings: Mapping[str, Any],
    labels: dict[Any, Any],
) -> Any:
    """Return a real PySDK result object, equal to the one that was recorded.

    Args:
        described: Its ``model`` and ``overlay``.
        image: The picture that it is about; None if it is not drawn.
        settings: Overlay settings that replace the recorded ones, also in results inside of it.
        labels: Its label dictionary.

    Raises:
        VideoError: The installed PySDK does not know the recorded result type.
    """
    model = described.get("model", {})
    chosen = {**described.get("overlay", {}), **settings}
    arguments = {
        argument: as_pysdk(name, chosen[name])
        for name, argument in OVERLAY_SETTINGS.items()
        if name in chosen
    }
    result_class = result_class_of(model.get("result_type") or "Base")
    results = with_inner_results(recorded.results, settings)
    result = result_class.__new__(result_class)
    fill_result(
        result,
        result_class,
        recorded,
        results,
        input_image=image,
        frame_info=recorded.info,
        fill_color=tuple(chosen.get("fill_color") or (0, 0, 0)),
        label_dictionary=labels,
        input_shape=model.get("input_shape"),
        **arguments,
    )
    result.__class__ = plain_class(result_class, results)
    return result


def plain_class(result_class: Any, results: Any) -> Any:
    """Return the class of a result: its own, or one that draws the results inside of it as well.

    Where a file has texts that OpenCV cannot draw, it is one that draws others in their place.
    """
    found = _combined(result_class) if _has_extra_results(results) else result_class
    return found if drawable(results) is results else _with_drawable_texts(found)


def fill_result(
    result: Any,
    result_class: Any,
    recorded: RestoredFrame | InnerResult,
    results: Any,
    **arguments: Any,
) -> None:
    """Run PySDK's constructor on a result object, and give it what was recorded.

    Args:
        result_class: The class of PySDK's own whose constructor runs.
        results: The recorded ones, or some of them.
        arguments: The constructor's other arguments.
    """
    results = _with_recorded_hashes(results, recorded.label_hashes)
    # The constructor would convert coordinates and unpack masks again, so the results are set
    # afterwards. A class map is the exception: its class requires it, and does not change it.
    is_class_map = result_class.__name__ == "SegmentationResults"
    result_class.__init__(
        result,
        inference_results=results if is_class_map else [],
        conversion=_conversion(recorded.conversion, results),
        **arguments,
    )
    result._inference_results = results
    result.timing = recorded.timing
    if isinstance(results, list) and hasattr(result, "masks_present"):
        result.masks_present = any(isinstance(item, dict) and "mask" in item for item in results)
    for name, value in recorded.attributes.items():
        # Never replace an attribute of PySDK's own.
        if not hasattr(result, name):
            setattr(result, name, with_degirum_counts(value))


def result_class_of(type_name: str) -> Any:
    """Return PySDK's class of a recorded result type.

    Raises:
        VideoError: The installed PySDK does not know it.
    """
    from degirum.exceptions import DegirumException
    from degirum.postprocessor import class_from_type_string

    try:
        return class_from_type_string(type_name)
    except DegirumException:
        raise VideoError(
            f"result type {type_name!r} is not known to the installed PySDK; "
            "it cannot draw this session's overlays"
        ) from None


# --- results inside of results ---

_HOLD_NOTHING = frozenset({float, int, str, bool, type(None), np.ndarray})


def with_inner_results(value: Any, settings: Mapping[str, Any]) -> Any:
    """Return a value with PySDK's own objects for the results in it."""
    if isinstance(value, InnerResult):
        labels = value._described.get("model", {}).get("labels", {})
        by_id = {int(key): label for key, label in labels.items()}
        return pysdk_result(value._described, value, None, settings, by_id)
    if type(value) is list:
        if _HOLD_NOTHING.issuperset(map(type, value)):
            return value
        items = [with_inner_results(item, settings) for item in value]
        return items if any(map(is_not, items, value)) else value
    if type(value) is dict:
        if _HOLD_NOTHING.issuperset(map(type, value.values())):
            return value
        others = {
            key: other
            for key, item in value.items()
            if type(item) not in _HOLD_NOTHING
            and (other := with_inner_results(item, settings)) is not item
        }
        return {**value, **others} if others else value
    return value


def _has_extra_results(results: Any) -> bool:
    items = results if isinstance(results, list) else []
    return any(isinstance(item, dict) and _EXTRA_RESULTS in item for item in items)


def inner_results(result: Any) -> Iterator[tuple[int, Any]]:
    """Yield copies of the results that are drawn over a result: each about one detection.

    They come with the index of that detection.
    """
    if not _has_extra_results(result._inference_results):
        return
    for index, item in enumerate(result._inference_results):
        inner = item.get(_EXTRA_RESULTS) if isinstance(item, dict) else None
        if isinstance(inner, list) and item.get("bbox"):
            for each in inner:
                if hasattr(each, "_input_image"):
                    yield index, copy.copy(each)


@functools.cache
def _combined(result_class: Any) -> type:
    """Return a result class that also draws the results about each detection, one over another."""

    def draw_all(result: Any) -> Any:
        draw: Callable[[Any], Any] = image_overlay
        if hasattr(result._input_image, "getchannel"):  # a PIL picture, and stays one
            draw = attrgetter("image_overlay")
        plain = copy.copy(result)
        plain.__class__ = result_class
        overlay = draw(plain)
        for _, inner in inner_results(result):
            inner._input_image = overlay
            overlay = draw(inner)
        return overlay

    name = f"{result_class.__name__}_overlay_extra_results"
    return type(name, (result_class,), {"image_overlay": property(draw_all)})


@functools.lru_cache(8)
def _with_drawable_texts(result_class: Any) -> type:
    """Return a result class that draws texts with half a character in them, too."""

    def draw(result: Any) -> Any:
        return result_class.image_overlay.fget(drawable_result(result))

    own = {"image_overlay": property(draw), DRAWN_AS: result_class}
    return type(result_class.__name__, (result_class,), own)


# --- arguments of PySDK's constructors ---


def as_pysdk(name: str, value: Any) -> Any:
    """Turn JSON's lists into tuples: for PySDK a tuple is one colour, a list is many."""
    if name == "color" and isinstance(value, list):
        if value and isinstance(value[0], list | tuple):
            return [tuple(item) for item in value]
        return tuple(value)
    return value


def _conversion(samples: tuple[float, float, float, float] | None, results: Any) -> Any:
    """Return a model-to-image conversion that gives the same overlay as the original.

    Only the overlay of a class map uses it, and only at the two points at which it was recorded.
    """
    if samples is None:
        return lambda x, y: (x, y)
    height, width = np.squeeze(results[0]["data"]).shape
    first = (width / 2, height / 2)

    def convert(x: float, y: float) -> tuple[float, float]:
        return (samples[0], samples[1]) if (x, y) == first else (samples[2], samples[3])

    return convert


class _HashedLabel(str):
    """A label whose hash is that of the recording process: PySDK picks colours by it."""

    recorded_hash: int

    def __deepcopy__(self, memo: Any) -> str:
        return str(self)  # PySDK writes a copy out as text, in which the class would be named

    def __hash__(self) -> int:
        return self.recorded_hash

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True


def _with_recorded_hashes(results: Any, hashes: Mapping[str, int]) -> Any:
    if not hashes:
        return results
    copies = []
    for detection in results:
        label = detection.get("label") if isinstance(detection, dict) else None
        known = hashes.get(label) if isinstance(label, str) else None
        # The hash of another process.
        if known is not None and known != hash(label) and "category_id" not in detection:
            hashed = _HashedLabel(label)
            hashed.recorded_hash = known
            detection = {**detection, "label": hashed}
        copies.append(detection)
    return copies

"""Attributes of a PySDK result, and results inside of results, as plain values.

PySDK is never imported here: a program that has a result has imported it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from dgrec.format.metadata_types import checked
from dgrec.format.recorded_objects import InnerResult
from dgrec.format.untrusted import DecodeError

#: Overlay settings of PySDK's models, without their prefix ``overlay_``, and the argument of a
#: result's constructor for each.
OVERLAY_SETTINGS = {
    "color": "draw_color",
    "line_width": "line_width",
    "show_labels": "show_labels",
    "show_probabilities": "show_probabilities",
    "alpha": "alpha",
    "blur": "blur",
    "font_scale": "font_scale",
}
#: Overlay settings that a PySDK result has under other names than its model.
_OVERLAY_ATTRIBUTES = {"color": "_overlay_color"}
# Attributes of PySDK's own result objects, and of a program's that are like them; any other was
# added by an analyzer.
_OWN_ATTRIBUTES = frozenset(
    {"timing", "mask_result", "masks_present", "results", "info", "image", "image_overlay"}
)


def pysdk_class(result_class: type) -> type | None:
    """Return PySDK's own class that is nearest to a result's class."""
    for base in result_class.__mro__:
        if base.__module__.startswith("degirum.postprocessor"):
            return base
    return None


def _type_string(result_class: type) -> str | None:
    """Return PySDK's name for a result type: that of PySDK's own class nearest to it."""
    base: Any = pysdk_class(result_class)
    if base is None:
        return None
    names = base.supported_types()
    return names if isinstance(names, str) else next(name for name in names if name != "None")


def described(result: Any) -> dict[str, Any]:
    """Return what a result says of its ``model``, and of how its ``overlay`` is drawn."""
    settings = {
        name: getattr(result, _OVERLAY_ATTRIBUTES.get(name, f"_{name}"), None)
        for name in (*OVERLAY_SETTINGS, "fill_color")
    }
    if getattr(result, "_segm_alpha", settings["alpha"]) != settings["alpha"]:
        settings["alpha"] = "auto"  # masks are blended, boxes are not
    labels = getattr(result, "_label_dictionary", None) or {}
    backend = "pil" if hasattr(getattr(result, "image", None), "getchannel") else "opencv"
    return {
        "model": {
            "result_type": _type_string(type(result)),
            # PySDK adds names that are not the model's, by themselves.
            "labels": {str(key): name for key, name in labels.items() if isinstance(key, int)},
            "input_shape": getattr(result, "_input_shape", None),
            "image_backend": backend,
        },
        "overlay": settings,
    }


def added_values(result: Any) -> dict[str, Any]:
    """Return what was added to a result object."""
    # Not `dir`: for a PySDK result that is a fixed list of six names.
    return {
        name: value
        for name, value in vars(result).items()
        if name[0] != "_" and name not in _OWN_ATTRIBUTES
    }


def sampled_conversion(result: Any) -> tuple[float, float, float, float] | None:
    """Return the model-to-image conversion at the two points where PySDK's overlay samples it."""
    try:
        height, width = result.results[0]["data"].squeeze().shape
        convert = result._conversion
        points = [convert(width / 2, height / 2), convert(width / 2 - 1, height / 2 - 1)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    (x1, y1), (x2, y2) = itertools.islice(points, 2)
    return float(x1), float(y1), float(x2), float(y2)


def state_of(result: Any) -> dict[str, Any]:
    """Return what is recorded of a result inside of another: everything but pixels."""
    state = {
        **described(result),
        "results": result.results,
        "timing": dict(result.timing),
        "info": result.info,
        "attributes": added_values(result),
    }
    if conversion := sampled_conversion(result):
        state["conversion"] = list(conversion)
    if hashes := _label_hashes(result.results):
        state["hashes"] = hashes
    return state


def _label_hashes(results: Any) -> dict[str, int]:
    """Return the hashes of labels without an id, by which PySDK picks their colours."""
    items = results if isinstance(results, list) else []
    return {
        item["label"]: hash(item["label"])
        for item in items
        if isinstance(item, dict)
        and "category_id" not in item
        and isinstance(item.get("label"), str)
        and not item["label"].startswith("$")
    }


def result_from(class_name: str, state: Mapping[str, Any]) -> InnerResult:
    """Return the result whose `state_of` this is.

    Raises:
        DecodeError: It is not the state of a result.
    """
    timing, attributes = state.get("timing", {}), state.get("attributes", {})
    hashes = state.get("hashes", {})
    if not all(isinstance(part, dict) for part in (timing, attributes, hashes)):
        raise DecodeError("a result is not what dgrec writes")
    if not all(type(name) is str and not name.startswith("_") for name in attributes):
        raise DecodeError("a result has attributes with invalid names")
    if not all(type(key) is str and type(value) is int for key, value in hashes.items()):
        raise DecodeError("a label's hash is not a number")
    return InnerResult(
        class_name,
        checked_description(state),
        state.get("results"),
        timing,
        state.get("info", ""),
        attributes,
        conversion_from(state["conversion"]) if "conversion" in state else None,
        hashes,
    )


def checked_description(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``model`` and ``overlay`` of a result, with the types that metadata has."""
    found = {key: _as_lists(value[key]) for key in ("model", "overlay") if key in value}
    return checked(found)[0]


def _as_lists(value: Any) -> Any:
    """Return a value as JSON has it: tuples as lists."""
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items() if type(key) is str}
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    return value if isinstance(value, str | int | float | bool) else None


def conversion_from(value: Any) -> tuple[float, float, float, float]:
    """Return the four numbers of a conversion.

    Raises:
        DecodeError: It is something else.
    """
    numbers = [float(item) for item in value]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise DecodeError("its conversion is not four numbers")
    return numbers[0], numbers[1], numbers[2], numbers[3]

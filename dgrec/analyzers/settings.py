"""Analyzers of a model, and their entries in the metadata: their classes and their settings.

An analyzer does not keep the arguments of its constructor, so they are read from the attributes
that it keeps them in. Those show settings that were changed later, too.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import numpy as np

from dgrec.credentials import redact_text

#: The package of the analyzers that can be drawn from a file, and the prefix of their names there.
PACKAGE = "degirum_tools"

#: Values that are longer are not recorded, nor are lists of more items.
_LONGEST_TEXT, _LONGEST_LIST = 200, 10_000
_DEEPEST = 6
#: Arguments whose names say that they are secret.
_SECRET = re.compile(r"token|secret|passw|key|auth|credential|config|url", re.IGNORECASE)

#: Where degirum_tools' analyzers keep an argument, if not in an attribute of its name with an
#: underscore before it.
_READ: dict[str, dict[str, Callable[[Any], Any]]] = {
    "ObjectTracker": {
        "class_list": lambda each: each._tracker._class_list,
        "track_thresh": lambda each: each._tracker._track_thresh,
        "track_buffer": lambda each: each._tracker._max_time_lost,
        "match_thresh": lambda each: each._tracker._match_thresh,
        "trail_depth": lambda each: 0 if each._tracer is None else each._tracer._trace_depth,
    },
    "ZoneCounter": {
        "zones": lambda each: (
            each._zone_polygons
            if each._zones_as_list
            else dict(zip(each._zone_names, each._zone_polygons, strict=True))
        ),
        "iopa_threshold": lambda each: each._iopa_thresholds,
        "frame_size": lambda each: each._frame_wh,
        "window_name": lambda each: each._win_name,
    },
    "LineCounter": {"window_name": lambda each: each._win_name},
    "EventDetector": {"event_description": lambda each: each._event_desc},
    "EventNotifier": {},
    "ObjectSelector": {},
    "SceneCutDetector": {},
}

#: What degirum_tools' analyzers add: keys of detections, and attributes of results.
_ADDED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "ObjectTracker": (frozenset({"track_id"}), frozenset({"trails", "trail_classes"})),
    "ZoneCounter": (
        frozenset({"in_zone", "frames_in_zone", "time_in_zone"}),
        frozenset({"zone_counts", "zone_events"}),
    ),
    "LineCounter": (
        frozenset({"cross_line", "cross_line_direction"}),
        frozenset({"line_counts"}),
    ),
    "EventDetector": (frozenset(), frozenset({"events_detected"})),
    "EventNotifier": (frozenset(), frozenset({"notifications"})),
    "SceneCutDetector": (frozenset(), frozenset({"scene_cut"})),
}


def as_list(analyzers: Any) -> list[Any]:
    """Return analyzers as a list: ``predict_stream`` takes one, several or None."""
    if analyzers is None:
        return []
    return list(analyzers) if isinstance(analyzers, list | tuple) else [analyzers]


def attach(model: Any, analyzers: list[Any]) -> None:
    """Attach analyzers to a model or a compound model, as degirum_tools does."""
    from degirum_tools import attach_analyzers

    attach_analyzers(model, analyzers)


def detach(model: Any, analyzers: list[Any]) -> None:
    """Detach analyzers from their model, and finalize them.

    Raises whatever one of them raises at its end; the others are finalized all the same.
    """
    from degirum_tools import attach_analyzers

    processor = vars(model).get("_custom_postprocessor")
    try:
        attach_analyzers(model, None)
    except Exception:
        # degirum_tools stops at the first that fails, and leaves all attached.
        model._custom_postprocessor = getattr(processor, "_custom_postprocessor_saved", None)
        for each in analyzers:
            with contextlib.suppress(Exception):
                each.finalize()
        raise


def analyzers_of_model(model: Any) -> list[Any]:
    """Return the analyzers that are attached to a model or a compound model, in their order."""
    own = getattr(model, "__dict__", {})
    if attached := own.get("_analyzers"):  # of a compound model
        return as_list(attached)
    return _of_class(own.get("_custom_postprocessor"))


def describe_attached(model: Any, further: Iterable[Any] = ()) -> list[dict[str, Any]]:
    """Return the metadata's entries for the analyzers that a model's results come with.

    The results of a compound model are those of its first model, changed: the analyzers that are
    attached to the first model draw on them, too, and first. Their entries are ``within`` it.

    Args:
        further: Analyzers that are going to be attached as well.
    """
    own = getattr(model, "__dict__", {})
    inner = describe_attached(own["model1"]) if own.get("model1") is not None else []
    # A recording in place of a model gives the results of the analyzers that were recorded.
    attached = describe([*analyzers_of_model(model), *further]) or own.get("recorded_analyzers", [])
    return [*({**entry, "within": "model1"} for entry in inner), *attached]


def analyzers_of_result(result: Any) -> list[Any]:
    """Return the analyzers that draw on a result's overlay, in their order."""
    return _of_class(type(result))


def _of_class(result_class: type | None) -> list[Any]:
    # degirum_tools makes a class for each attachment; those of the base draw first.
    classes = [] if result_class is None else result_class.__mro__[::-1]
    return [each for cls in classes for each in as_list(vars(cls).get("_analyzers"))]


def class_of(analyzer: Any) -> str:
    """Return the name of an analyzer's class, as the metadata has it."""
    kind = type(analyzer)
    package = PACKAGE if kind.__module__.startswith(f"{PACKAGE}.") else kind.__module__
    return f"{package}.{kind.__qualname__}"


def describe(analyzers: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the metadata's entries for analyzers: class and plain settings of each.

    Settings that JSON cannot hold, and those that may be secret, are left out.
    """
    return [_described(each) for each in analyzers]


def added_by(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys of detections, and the attributes of results, that an analyzer adds.

    Args:
        name: Its class, as the metadata names it.
    """
    return _ADDED.get(name.removeprefix(f"{PACKAGE}."), (frozenset(), frozenset()))


def remove_added(results: Any, attributes: dict[str, Any], names: Iterable[str]) -> None:
    """Remove what analyzers added to a result, so that others can begin anew.

    Args:
        results: The results of a frame; lists and detections in them are changed.
        names: Classes of the analyzers, as the metadata names them.
    """
    for name in names:
        keys, own = added_by(name)
        for attribute in own:
            attributes.pop(attribute, None)
        for found in results if keys and isinstance(results, list) else ():
            if isinstance(found, dict) and not keys.isdisjoint(found):
                for key in keys:
                    found.pop(key, None)


def _described(analyzer: Any) -> dict[str, Any]:
    kind = type(analyzer)
    is_theirs = kind.__module__.startswith(f"{PACKAGE}.") and kind.__name__ in _READ
    readers = _READ[kind.__name__] if is_theirs else {}
    parameters = {}
    for name in _arguments(kind):
        if _SECRET.search(name):
            continue
        try:
            value = readers[name](analyzer) if name in readers else _attribute(analyzer, name)
            parameters[name] = _plain(value)
        except (AttributeError, LookupError, TypeError, ValueError):
            continue
    return {"class": class_of(analyzer), "parameters": parameters}


def _arguments(kind: type) -> list[str]:
    try:
        names = list(inspect.signature(kind).parameters.values())
    except (TypeError, ValueError):
        return []
    return [each.name for each in names if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]


def _attribute(analyzer: Any, name: str) -> Any:
    own = vars(analyzer)
    return own[f"_{name}"] if f"_{name}" in own else own[name]


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a setting as JSON has it.

    Raises:
        ValueError: JSON cannot hold it, it is long, or it may be secret.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT or "://" in value:  # an address may hold a token
            raise ValueError("not a plain setting")
        return redact_text(value)
    if depth >= _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping) and len(value) <= _LONGEST_LIST:
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and len(value) <= _LONGEST_LIST:
        return [_plain(item, depth + 1) for item in value]
    raise ValueError("not a plain setting")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError("JSON has texts as keys only")
    return key

"""Draws what analyzers added to a result, from the recorded values.

The drawing is that of degirum_tools' own classes. They are built anew from the metadata: only the
classes that `_BUILT` names, with settings that `dgrec.format` has checked, and only with settings
that their drawing needs. Nothing else that a file names is ever imported or built.
"""

from __future__ import annotations

import copy
import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dgrec.analyzers.settings import PACKAGE
from dgrec.analyzers.texts import drawable, drawable_result
from dgrec.format import Metadata, json_values

Image = np.ndarray[Any, Any]


class Notice(NamedTuple):
    """A message of a notifier, and how many seconds before the frame it came."""

    text: str
    age_s: float


_NO_NOTICES: Mapping[str, Notice] = {}


def _annotate(analyzer: Any, result: Any, image: Any) -> Any:
    return analyzer.annotate(result, image)


@dataclass(frozen=True)
class Drawing:
    """The analyzers that draw on a session's frames, in their order."""

    analyzers: tuple[Any, ...] = ()
    #: Classes of analyzers that ran, but cannot be drawn from the file.
    missing: tuple[str, ...] = ()

    def draw(
        self,
        result: Any,
        image: Any,
        notices: Mapping[str, Notice] = _NO_NOTICES,
        annotate: Callable[[Any, Any, Any], Any] = _annotate,
    ) -> Image:
        """Return ``image``, a result's overlay, with what analyzers draw on it.

        Args:
            result: A PySDK result with the recorded values.
            image: It is drawn on.
            notices: The last message of each notifier, by its name.
            annotate: Has an analyzer draw a result on an image, and returns that.

        Raises whatever degirum_tools and OpenCV raise on invalid values.
        """
        if isinstance(result._overlay_color, list):  # degirum_tools can take only one
            result = copy.copy(result)
            result._overlay_color = result._overlay_color[0]
        result = drawable_result(result)
        for analyzer in self.analyzers:
            if _is_notifier(analyzer):
                _show_notice(analyzer, notices)
            if _has_what_it_draws(analyzer, result):
                image = annotate(analyzer, result, image)
        drawn: Image = image
        return drawn

    @property
    def has_notifiers(self) -> bool:
        """True if the drawing depends on earlier frames: messages are shown for a while."""
        return any(map(_is_notifier, self.analyzers))


#: The attribute that each class adds to every result that it sees, and draws.
_DRAWN_ATTRIBUTES = {"ObjectTracker": "trails", "ZoneCounter": "zone_counts"}


def _has_what_it_draws(analyzer: Any, result: Any) -> bool:
    """Return whether an analyzer of degirum_tools has seen a result; True for any other."""
    for kind in type(analyzer).__mro__:
        if kind.__module__.startswith(f"{PACKAGE}.") and kind.__name__ in _DRAWN_ATTRIBUTES:
            return hasattr(result, _DRAWN_ATTRIBUTES[kind.__name__])
    return True


def drawing_of(metadata: Metadata, given: Sequence[Any] = ()) -> Drawing:
    """Return the drawing of a session's analyzers.

    Args:
        given: Analyzers of the user. Each replaces a recorded one of the same class; the others
            draw last.
    """
    global _last
    entries = metadata.get("analyzers") or []
    if not entries and not given:
        return _NOTHING
    if given:
        return _drawing(entries, given)
    last_entries, drawing = _last
    if last_entries is not entries:  # one session's frames are drawn one after the other
        drawing = _drawing(entries, ())
        _last = entries, drawing
    return drawing


def _drawing(entries: Sequence[Metadata], given: Sequence[Any]) -> Drawing:
    left = list(given)
    analyzers: list[Any] = []
    missing: list[str] = []
    for entry in entries:
        name = entry.get("class") or ""
        own = next((each for each in left if _class_name(each) == name.rpartition(".")[2]), None)
        if own is not None:
            left.remove(own)
            analyzers.append(_ready(own))
        elif name.removeprefix(f"{PACKAGE}.") in _DRAW_NOTHING:
            continue
        elif (built := _built(json.dumps(entry))) is not None:
            analyzers.append(built)
        else:
            missing.append(name)
    return Drawing((*analyzers, *map(_ready, left)), tuple(missing))


_NOTHING = Drawing()
_last: tuple[Any, Drawing] = (None, _NOTHING)
#: Classes of degirum_tools that do not draw.
_DRAW_NOTHING = frozenset({"SceneCutDetector", "ClipSaver"})


def _class_name(analyzer: Any) -> str:
    return type(analyzer).__name__


def _ready(analyzer: Any) -> Any:
    """Return an analyzer, made ready to draw though it has not analyzed anything."""
    if getattr(analyzer, "_geometries", ()) is None:  # of a ZoneCounter, which waits for a frame
        analyzer._geometries = []
    return analyzer


# --- built from a file -------------------------------------------------------------------------


def _taken(tools: Any, given: Mapping[str, Any], names: str) -> dict[str, Any]:
    """Return these settings as constructors take them."""
    taken = {name: given[name] for name in names.split()}
    for name, value in taken.items():
        if name == "annotation_color":
            taken[name] = None if value is None else tuple(value)
        elif name == "anchor_point" or (name == "annotation_pos" and isinstance(value, str)):
            taken[name] = tools.AnchorPoint[value]
        elif name == "annotation_pos":
            taken[name] = tuple(value)
    return taken


def _tracker(tools: Any, given: Mapping[str, Any]) -> Any:
    names = "anchor_point trail_depth show_overlay annotation_color show_only_track_ids"
    return tools.ObjectTracker(**_taken(tools, given, names))


def _zone_counter(tools: Any, given: Mapping[str, Any]) -> Any:
    names = (
        "class_list per_class_display show_overlay show_inzone_counters annotation_color "
        "annotation_line_width"
    )
    uses_tracking = given["show_inzone_counters"] is not None
    settings = _taken(tools, given, names)
    return tools.ZoneCounter(given["zones"], use_tracking=uses_tracking, **settings)


def _line_counter(tools: Any, given: Mapping[str, Any]) -> Any:
    names = (
        "absolute_directions per_class_display show_overlay annotation_color annotation_line_width"
    )
    return tools.LineCounter(given["lines"], **_taken(tools, given, names))


def _event_detector(tools: Any, given: Mapping[str, Any]) -> Any:
    # Only the name is drawn, and any event will do for it.
    event = {
        "Trigger": given["event_description"]["Trigger"],
        "when": "ObjectCount",
        "is greater than": 0,
        "during": [1, "frame"],
    }
    names = "show_overlay annotation_color annotation_font_scale annotation_pos"
    return tools.EventDetector(event, **_taken(tools, given, names))


def _object_selector(tools: Any, given: Mapping[str, Any]) -> Any:
    return tools.ObjectSelector(**_taken(tools, given, "show_overlay annotation_color"))


def _event_notifier(tools: Any, given: Mapping[str, Any]) -> Any:
    names = (
        "show_overlay annotation_color annotation_font_scale annotation_pos annotation_cool_down"
    )
    # Its condition is Python code, which is not taken from the file: here it never notifies.
    return tools.EventNotifier(given["name"], "False", **_taken(tools, given, names))


def _is_notifier(analyzer: Any) -> bool:
    kind = type(analyzer)
    return kind.__name__ == "EventNotifier" and kind.__module__.startswith(f"{PACKAGE}.")


def _show_notice(analyzer: Any, notices: Mapping[str, Notice]) -> None:
    """Have a notifier show a message for as long as it was shown, whatever it drew before."""
    notice = notices.get(analyzer._name)
    analyzer._last_notification.set(drawable(notice.text) if notice else "")
    analyzer._last_display_time.set(time.time() - (notice.age_s if notice else 0.0))


#: Functions that build the classes that are drawn from a file.
_BUILT: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "ObjectTracker": _tracker,
    "ZoneCounter": _zone_counter,
    "LineCounter": _line_counter,
    "EventDetector": _event_detector,
    "EventNotifier": _event_notifier,
    "ObjectSelector": _object_selector,
}


@functools.lru_cache(64)
def _built(text: str) -> Any:
    """Return the analyzer of an entry of the metadata; None if it cannot be drawn from that."""
    entry = json.loads(text)
    package, _, name = (entry.get("class") or "").rpartition(".")
    if package != PACKAGE or name not in _BUILT:
        return None
    import degirum_tools

    try:
        return _ready(_BUILT[name](degirum_tools, drawable(entry.get("parameters") or {})))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None  # a setting is missing, or not what this version takes


# --- counts ------------------------------------------------------------------------------------

#: The classes of degirum_tools whose objects analyzers add, and their attributes.
_COUNTS = {
    "SingleLineCounts": ("left", "right", "top", "bottom"),
    "LineCounts": ("left", "right", "top", "bottom"),
    "SingleVectorCounts": ("right", "left"),
    "VectorCounts": ("right", "left"),
}


def with_degirum_counts(value: Any) -> Any:
    """Return an attribute of a result with the counts of lines as degirum_tools' own objects."""
    kind = json_values.RecordedObject
    if isinstance(value, list) and any(isinstance(item, kind) for item in value):
        return [_counts(item) if isinstance(item, kind) else item for item in value]
    return value


def _counts(recorded: json_values.RecordedObject) -> Any:
    from degirum_tools.analyzers import line_count

    module, _, name = recorded._class_name.rpartition(".")
    state = recorded.to_dict()
    if module != line_count.__name__ or name not in _COUNTS or not isinstance(state, dict):
        return recorded
    made = _filled(getattr(line_count, name)(), name, state)
    classes = state.get("for_class")
    if isinstance(classes, dict):
        single = "SingleLineCounts" if name == "LineCounts" else "SingleVectorCounts"
        for label, counts in _items(classes):
            made.for_class[label] = _filled(getattr(line_count, single)(), single, counts)
    return made


def _items(classes: Mapping[Any, Any]) -> Iterable[tuple[Any, Mapping[str, Any]]]:
    return ((label, counts) for label, counts in classes.items() if isinstance(counts, dict))


def _filled(counts: Any, name: str, state: Mapping[str, Any]) -> Any:
    for attribute in _COUNTS[name]:
        value = state.get(attribute)
        if type(value) is int:
            setattr(counts, attribute, value)
    return counts

"""The types of a session's metadata.

Everything that reads metadata gets it from `checked`, in which each known key has the type that is
named here or is absent. Nothing else has to check types.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

#: Deeper values are left out. Each clip of a clip adds a level.
_DEEPEST: Final = 64
_LONGEST_TEXT: Final = 16_384
_LONGEST_PATH: Final = 4096
_LONGEST_LIST: Final = 100_000
#: Counts up to here are exact as a double, and their sums fit into 64 bits.
_LARGEST_COUNT: Final = 2**53
_LARGEST_NUMBER: Final = 1e15
_LARGEST_INTEGER: Final = 2**64

#: Marks a value that does not fit.
_ABSENT: Final = object()

#: Takes a value and its depth; returns it as it may be used, or `_ABSENT`.
_Form = Callable[[Any, int], Any]


def checked(value: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values that have the right type, and the keys of those that do not.

    A text or number that is null stays so: it is not known (yet). An object or a list that is null
    is absent.
    """
    problems: list[str] = []
    return _object(_METADATA, problems)(value, 0), problems


# --- plain values ------------------------------------------------------------------------------


def _text(value: Any, depth: int) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        return _ABSENT
    text = value if value.isascii() else _without_surrogates(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _path(value: Any, depth: int) -> Any:
    """File names keep their surrogates, which stand for bytes that are not UTF-8."""
    if value is None:
        return None
    fits = isinstance(value, str) and len(value) <= _LONGEST_PATH and "\0" not in value
    return value if fits and _is_file_name(value) else _ABSENT


def _count(value: Any, depth: int) -> Any:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # as JavaScript writes counts
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return value if is_count and 0 <= value <= _LARGEST_COUNT else _ABSENT


def _number(value: Any, depth: int) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _ABSENT
    return value if abs(value) <= _LARGEST_NUMBER else _ABSENT


def _finite(value: Any, depth: int) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _ABSENT
    fits = abs(value) <= sys.float_info.max  # false for NaN, too
    return float(value) if fits else _ABSENT


def _flag(value: Any, depth: int) -> Any:
    return value if value is None or isinstance(value, bool) else _ABSENT


def _anything(value: Any, depth: int) -> Any:
    """Take any JSON value; what cannot be printed or written as JSON again becomes null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_INTEGER else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() else _without_surrogates(value)
    if depth >= _DEEPEST:
        return None
    if isinstance(value, list):
        return [_anything(item, depth + 1) for item in value[:_LONGEST_LIST]]
    items = list(value.items())[:_LONGEST_LIST]
    return {_without_surrogates(key): _anything(item, depth + 1) for key, item in items}


def _without_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text


def _is_file_name(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


# --- objects and lists -------------------------------------------------------------------------


def _object(forms: Mapping[str, _Form], problems: list[str] | None = None) -> _Form:
    """Take an object; keys without a form may have any value."""

    def take(value: Any, depth: int) -> Any:
        if not isinstance(value, dict) or depth >= _DEEPEST:
            return _ABSENT
        found = {}
        for key, item in list(value.items())[:_LONGEST_LIST]:
            form = forms.get(key, _anything)
            fitting = form(item, depth + 1)
            if fitting is not _ABSENT:
                found[key if key.isascii() else _without_surrogates(key)] = fitting
            elif problems is not None and item is not None:
                problems.append(key)
        return found

    return take


def _list(form: _Form, most: int = _LONGEST_LIST) -> _Form:
    """Take a list, without the items that do not fit."""

    def take(value: Any, depth: int) -> Any:
        if not isinstance(value, list) or depth >= _DEEPEST:
            return _ABSENT
        items = [form(item, depth + 1) for item in value[:most]]
        return [item for item in items if item is not _ABSENT and item is not None]

    return take


def _either(*forms: _Form) -> _Form:
    """Take a value by the first of some forms that it fits."""

    def take(value: Any, depth: int) -> Any:
        taken = (form(value, depth) for form in forms)
        return next((item for item in taken if item is not _ABSENT), _ABSENT)

    return take


def _whole_list(form: _Form, most: int = 10_000, length: int | None = None) -> _Form:
    """Take a list if every item fits: its items are identified by their positions."""

    def take(value: Any, depth: int) -> Any:
        if not isinstance(value, list) or depth >= _DEEPEST or len(value) > most:
            return _ABSENT
        items = [form(item, depth + 1) for item in value]
        fits = all(item is not _ABSENT and item is not None for item in items)
        return items if fits and length in (None, len(items)) else _ABSENT

    return take


def _or_null(form: _Form) -> _Form:
    return lambda value, depth: None if value is None else form(value, depth)


# --- single keys -------------------------------------------------------------------------------


def _labels(value: Any, depth: int) -> Any:
    """Labels by category id, which is a text in JSON."""
    if not isinstance(value, dict):
        return _ABSENT
    return {
        key: _anything(item, depth + 1)
        for key, item in list(value.items())[:_LONGEST_LIST]
        if len(key) < 12 and key.removeprefix("-").isdecimal() and key.isascii()
    }


def _between(low: float, high: float, form: _Form = _number) -> _Form:
    def take(value: Any, depth: int) -> Any:
        number = form(value, depth)
        return number if number is None or number is _ABSENT or low <= number <= high else _ABSENT

    return take


def _color(value: Any, depth: int) -> Any:
    parts = value if isinstance(value, list) and len(value) == 3 else []
    fits = parts and all(type(part) is int and 0 <= part <= 255 for part in parts)
    return value if fits else _ABSENT


def _auto(value: Any, depth: int) -> Any:
    return value if value == "auto" else _ABSENT


def _ranges(value: Any, depth: int) -> Any:
    """Ranges of a clip, ascending and not overlapping, also in the session it was cut from."""
    items = _list(_object(_RANGE))(value, depth)
    if items is _ABSENT:
        return _ABSENT
    place = source = 0
    for item in items:
        first, frames, start = (item.get(key) for key in _RANGE)
        if first is None or frames is None or first < place:
            return _ABSENT
        place = first + frames
        if start is not None:
            if start < source:
                return _ABSENT
            source = start + frames
    return items


_RANGE: Final[dict[str, _Form]] = dict.fromkeys(("first_frame", "frames", "from_frame"), _count)

_MERGED: Final[dict[str, _Form]] = {
    **dict.fromkeys(("session_id", "name"), _text),
    **dict.fromkeys(("first_frame", "frames"), _count),
}
_CLIP: Final[dict[str, _Form]] = {
    **dict.fromkeys(("session_id", "name"), _text),
    "ranges": _ranges,
    "damage": _list(_text),
    "merged": _list(_object(_MERGED)),
    "alert": _object(dict.fromkeys(("name", "rule", "fired", "ended"), _text)),
}
_CLIP["clip"] = _MERGED["clip"] = _object(_CLIP)  # a clip of a clip

_EVENT: Final[dict[str, _Form]] = {
    **dict.fromkeys(("kind", "from", "to", "at", "ended", "reason", "text"), _text),
    "seconds": _number,
    "back": _flag,
    "media_time_s": _number,
    **dict.fromkeys(("attempts", "source_frame", "lost", "width", "height"), _count),
}

_SIGNAL: Final[dict[str, _Form]] = {"name": _text, "at": _text, "value": _finite}

_GROUP: Final[dict[str, _Form]] = {"id": _text, "name": _text, "members": _list(_path, 10_000)}

_VIDEO: Final[dict[str, _Form]] = {
    "file": _path,
    **dict.fromkeys(("kind", "codec", "packets", "started_at", "sha256", "problem"), _text),
    **dict.fromkeys(("width", "height", "frames", "size"), _count),
}

_NAMED_FILES: Final[dict[str, _Form]] = {
    **dict.fromkeys(("sha256", "problem"), _text),
    **dict.fromkeys(("count", "size"), _count),
}

_SOURCE: Final[dict[str, _Form]] = {
    **dict.fromkeys(("given", "kind", "name", "file", "sha256"), _text),
    **dict.fromkeys(("path", "relative"), _path),
    **dict.fromkeys(("size", "width", "height", "frames"), _count),
    "fps": _number,
    "loop": _flag,
    "pixel_aspect": _text,
    "named_files": _object(_NAMED_FILES),
}

_MODEL: Final[dict[str, _Form]] = {
    **dict.fromkeys(("name", "zoo", "inference_host", "device", "result_type"), _text),
    "labels": _labels,
    "input_shape": _list(_list(_count, 16), 64),
}

_OVERLAY: Final[dict[str, _Form]] = {
    "color": _either(_color, _list(_color, 1000)),
    "line_width": _between(0, 1000, _count),
    **dict.fromkeys(("show_labels", "show_probabilities"), _flag),
    "alpha": _either(_auto, _between(0, 1)),
    "blur": _either(_text, _list(_text, 1000)),
    "font_scale": _between(0.01, 100),
    "fill_color": _color,
}

_PIXEL: Final = _between(-1_000_000, 1_000_000)
_POINT: Final = _whole_list(_PIXEL, length=2)
_POLYGON: Final = _whole_list(_POINT, 1000)
#: Zones, lines and labels that are drawn: each label may be written for each zone of a frame.
_MOST_DRAWN: Final = 256
_LONGEST_DRAWN: Final = 200


def _drawn_text(value: Any, depth: int) -> Any:
    fits = isinstance(value, str) and len(value) <= _LONGEST_DRAWN
    return _without_surrogates(value) if fits else _ABSENT


def _named_polygons(value: Any, depth: int) -> Any:
    if not isinstance(value, dict) or depth >= _DEEPEST or len(value) > _MOST_DRAWN:
        return _ABSENT
    found = {_drawn_text(key, depth): _POLYGON(item, depth + 1) for key, item in value.items()}
    return _ABSENT if _ABSENT in found or _ABSENT in found.values() else found


#: Settings that the drawing of degirum_tools' analyzers uses, by any of their names.
_ANALYZER_PARAMETERS: Final[dict[str, _Form]] = {
    **dict.fromkeys(("anchor_point", "show_inzone_counters"), _text),
    **dict.fromkeys(("show_overlay", "show_only_track_ids", "per_class_display"), _flag),
    "absolute_directions": _flag,
    "trail_depth": _between(0, 1_000_000, _count),
    "annotation_color": _or_null(_color),
    "annotation_line_width": _between(0, 1000, _count),
    "annotation_font_scale": _between(0.01, 100),
    "annotation_pos": _either(_text, _POINT),
    "class_list": _or_null(_whole_list(_drawn_text, _MOST_DRAWN)),
    "lines": _whole_list(_whole_list(_PIXEL, length=4), _MOST_DRAWN),
    "zones": _either(_named_polygons, _whole_list(_POLYGON, _MOST_DRAWN)),
    "event_description": _object({"Trigger": _drawn_text}),
    "name": _drawn_text,
    "annotation_cool_down": _between(0, 86_400),
}


def _analyzer(value: Any, depth: int) -> Any:
    found = _object({"class": _text, "parameters": _object({})})(value, depth)
    if found is not _ABSENT and str(found.get("class")).startswith("degirum_tools."):
        found = _object({"class": _text, "parameters": _object(_ANALYZER_PARAMETERS)})(value, depth)
    return found


_PART: Final[dict[str, _Form]] = {
    "number": _between(0, 10**9, _count),
    "set_id": _text,
    "first_frame": _count,
}

_TOTALS: Final[dict[str, _Form]] = {
    **dict.fromkeys(("frames", "detections", "source_frames", "skipped", "dropped"), _count),
    **dict.fromkeys(("dropped_camera", "dropped_queue", "dropped_writer"), _count),
    **dict.fromkeys(("dropped_at_start", "dropped_camera_at_start"), _count),
    **dict.fromkeys(("dropped_queue_at_start", "dropped_writer_at_start"), _count),
    **dict.fromkeys(("flushes", "video_left_out", "signals", "signals_left_out"), _count),
    **dict.fromkeys(("skipped_after", "dropped_after", "dropped_camera_after"), _count),
    **dict.fromkeys(("dropped_queue_after", "dropped_writer_after"), _count),
    "clock_drift_ms": _number,
}

_FRAME_RANGES: Final = _whole_list(_whole_list(_count, length=2))

_TARGET: Final[dict[str, _Form]] = {
    **dict.fromkeys(("target", "payload", "where"), _text),
    **dict.fromkeys(("every", "frames", "delivered"), _count),
    "only_changes": _flag,
    "ended_after": _number,
    **dict.fromkeys(("left_out", "later"), _FRAME_RANGES),
    **dict.fromkeys(("ends", "ended"), _whole_list(_count)),
}

_MACHINE: Final[dict[str, _Form]] = {
    **dict.fromkeys(("cores", "seconds", "process_cpu_s", "children_cpu_s"), _number),
    "system_busy": _between(0, 1),
    "sources": _count,
}

_METADATA: Final[dict[str, _Form]] = {
    **dict.fromkeys(("session_id", "name", "started_at", "ended_at"), _text),
    **dict.fromkeys(("end_reason", "end_detail"), _text),
    "source": _object(_SOURCE),
    "model": _object(_MODEL),
    "overlay": _object(_OVERLAY),
    "analyzers": _list(_analyzer, 1000),
    "analyzed": _object(dict.fromkeys(("session_id", "name"), _text)),
    "imported": _object({**dict.fromkeys(("format", "file", "sha256"), _text), "size": _count}),
    "totals": _object(_TOTALS),
    "machine": _object(_MACHINE),
    "clip": _object(_CLIP),
    "part": _object(_PART),
    "host": _object({"name": _text}),
    **dict.fromkeys(("versions", "options"), _object({})),
    "events": _list(_object(_EVENT)),
    "signals": _list(_object(_SIGNAL)),
    "group": _object(_GROUP),
    "targets": _list(_object(_TARGET), 100),
    "video": _list(_object(_VIDEO), 10_000),
    **dict.fromkeys(("damage", "notes"), _list(_text, 10_000)),
}

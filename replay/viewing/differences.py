"""Differences of two sessions: in some rows, on the time line, and in all."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np

from dgrec.comparison import FrameBoxes, FrameMatches
from dgrec.errors import QueryError
from dgrec.replay.compare import KIND_NAMES, comparison_notes, comparison_sections, conclude
from dgrec.replay.stats import STAGES
from dgrec.replay.viewing.pairs import GROUPS, Pair
from dgrec.replay.viewing.parameters import Parameters
from dgrec.replay.viewing.series import Bands, series_names
from dgrec.replay.viewing.time_line import Pixels, TimeLine, pixels
from dgrec.replay.viewing.values import numbers
from dgrec.replay.viewing.why import table_cells
from dgrec.replay.viewing.workers import Task
from dgrec.terminal import shortened

_MOST_ROWS: Final = 300
#: The detections after which an answer ends with their frame, and the most listed for a frame.
_MOST_DETECTIONS, _MOST_LISTED = 20_000, 3_000
_LONGEST_LABEL: Final = 200
_WIDEST: Final = 8192
#: The names of `GROUPS`, and of detections that could not be compared.
_GROUP_NAMES: Final = {
    "label": "other label",
    "shift": "box shifted",
    "only_a": "only in A",
    "only_b": "only in B",
    "not_compared": "not compared",
}


# --- rows ----------------------------------------------------------------------------------------


def differences(pair: Pair, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/pair``: how the frames are paired; with ``from``, what differs in some rows.

    Returns ``n``, ``paired`` (rows with a partner), ``reason`` (why there are none). For rows:
    ``partner``, the position in the other session, or null; ``frames``, for each of these (fewer
    than asked for where they have many detections): ``kinds``, the number of detections of each
    kind, and ``groups``, of each of `GROUPS`; ``same``, ``[index, index in B, IoU]``;
    ``different``, ``{kind, group, a, b, iou, labels, boxes}``; ``not_compared``.
    """
    partners = pair.partners(task)
    if "from" not in parameters:
        return {
            "n": pair.count,
            "n_b": len(pair.b),
            "paired": int(np.count_nonzero(partners >= 0)),
            "reason": pair.reason,
        }
    start, stop = parameters.positions(pair.count, _MOST_ROWS)
    frames: list[dict[str, Any] | None] = []
    size = 0
    for found in pair.matched(start, stop, task):
        frames.append(None if found is None else _frame(*found))
        if found is not None:
            size += len(found[2].matches) + 10
        if size > _MOST_DETECTIONS:
            break
    shown = partners[start : start + len(frames)].tolist()
    return {
        "from": start,
        "to": start + len(frames),
        "partner": [partner if partner >= 0 else None for partner in shown],
        "frames": frames,
    }


def _frame(a: FrameBoxes, b: FrameBoxes, found: FrameMatches) -> dict[str, Any]:
    groups = {kind: group for group, kinds in GROUPS.items() for kind in kinds}
    different = [match for match in found.matches if match.kind != "same"][:_MOST_LISTED]
    same = [match for match in found.matches if match.kind == "same"][:_MOST_LISTED]
    kinds = Counter(match.kind for match in found.matches)
    return {
        "source_frame": a.source_frame,
        "kinds": kinds,
        "groups": {group: sum(kinds[kind] for kind in of) for group, of in GROUPS.items()},
        "same": [[match.base, match.new, _rounded(match.iou)] for match in same],
        "different": [
            {
                "kind": KIND_NAMES[match.kind],
                "group": groups[match.kind],
                "a": match.base,
                "b": match.new,
                "iou": _rounded(match.iou),
                "labels": [_label(a, match.base), _label(b, match.new)],
                "boxes": [_box(a, match.base), _box(b, match.new)],
            }
            for match in different
        ],
        "not_compared": found.not_compared,
    }


def _rounded(iou: float | None) -> float | None:
    return None if iou is None else round(iou, 4)


def _label(frame: FrameBoxes, at: int | None) -> str | None:
    label = None if at is None else frame.labels[at]
    return None if label is None else shortened(label, _LONGEST_LABEL)


def _box(frame: FrameBoxes, at: int | None) -> list[float | None] | None:
    if at is None or np.isnan(frame.boxes[at]).any():
        return None
    return numbers(np.round(frame.boxes[at], 2))


# --- the time line -------------------------------------------------------------------------------


def _span(times: TimeLine, parameters: Parameters) -> Pixels | None:
    start, end = (
        parameters.seconds(name) if name in parameters else None for name in ("from", "to")
    )
    return pixels(times, start, end, parameters.whole("width", 1000, least=1, most=_WIDEST))


def pair_marks(pair: Pair, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/pair/marks``: rows that differ, at most one mark a pixel.

    Returns ``differences``, as other marks are; ``total``, in the whole stretch; ``compared``, how
    many rows of ``n`` have been compared by now.
    """
    compared = pair.compared
    answer = {"differences": [], "total": 0, "compared": compared, "n": pair.count}
    times, stamps = pair.time_line(task)
    span = _span(times, parameters)
    changed = np.flatnonzero(pair.counts[:compared].any(axis=1))
    if span is None or not len(changed):
        return answer
    stamps = stamps[changed]
    within = span.are_within(stamps)
    changed, stamps = changed[within], stamps[within]
    _, first, count = np.unique(span.of(stamps), return_index=True, return_counts=True)
    marks = [
        {
            "t": span.seconds(int(stamps[one])),
            "i": int(changed[one]),
            "count": int(many),
            "text": _words(pair.counts[changed[one]].tolist()),
        }
        for one, many in zip(first, count, strict=True)
    ]
    return {**answer, "differences": marks, "total": len(changed)}


def _words(counts: list[int]) -> str:
    names = zip(_GROUP_NAMES.values(), counts, strict=True)
    return ", ".join(f"{count:,} {name}" for name, count in names if count)


def pair_series(pair: Pair, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/pair/series``: durations of the other session's frames, as ``/api/series``.

    Each is placed where its partner is on the time line of the base.
    """
    names = series_names(parameters.text("names"))
    if unknown := [name for name in names if name not in STAGES]:
        raise QueryError(f"there is no line {unknown[0]!r}")
    times, stamps = pair.time_line(task)
    span = _span(times, parameters)
    if span is None:
        return {"from": 0, "to": 0, "step": 0, "series": {}}
    partners = pair.partners(task)
    rows = np.flatnonzero(span.are_within(stamps) & (partners >= 0))
    found = {name: Bands(span.width) for name in names}
    if len(rows):
        wanted = partners[rows]
        for start, columns in pair.other_columns(names, int(wanted[0]), int(wanted[-1]) + 1, task):
            end = start + len(columns[names[0]])
            here = slice(*np.searchsorted(wanted, [start, end]))
            at, within = span.of(stamps[rows[here]]), wanted[here] - start
            for name, values in columns.items():
                found[name].add(at, values[within])
    return {**span.edges(), "series": {name: bands.lists() for name, bands in found.items()}}


def next_difference(pair: Pair, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/pair/next``: ``i``, the next row that differs, and if that ``is_certain``."""
    position = parameters.whole("i", least=-1, most=pair.count)
    direction = parameters.whole("dir", 1, least=-1, most=1) or 1
    found, is_certain = pair.next_difference(position, direction, task)
    return {"i": found, "is_certain": is_certain}


# --- all of it -----------------------------------------------------------------------------------


def verdict(pair: Pair, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/verdict``: what ``dgrec compare`` says of A (its BASE) and B (its NEW).

    Returns ``state``: ``comparing``, ``done`` or ``failed``; ``share``, how much of it is done;
    ``problem``; ``groups``, how many detections are the same, and differ in each way, by now;
    ``conclusion`` and ``notes``, sentences; ``tables`` of cells.
    """
    comparison = pair.comparison
    answer: dict[str, Any] = {
        "state": "done" if comparison else "failed" if pair.problem else "comparing",
        "share": 1.0 if comparison else pair.compared / max(pair.count, 1),
        "problem": pair.problem,
        "groups": dict(pair.groups),
        "conclusion": [],
        "notes": [],
        "tables": [],
    }
    if comparison is None:
        return answer
    return {
        **answer,
        "conclusion": list(conclude(comparison)),
        "notes": list(comparison_notes(comparison)),
        "tables": [table_cells(section) for section in comparison_sections(comparison)],
    }

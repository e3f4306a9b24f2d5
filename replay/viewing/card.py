"""The card of a recording, made before its rows are read, and the list of all recordings."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dgrec.errors import DgrecError
from dgrec.footage import pixel_aspect_of
from dgrec.replay.info import facts
from dgrec.replay.listing import listed
from dgrec.replay.query import SqlReader
from dgrec.replay.stats import STAGES, caveats
from dgrec.replay.viewing.opened_session import STATEMENT_MEMORY, STATEMENT_S, OpenedSession
from dgrec.replay.viewing.parameters import Parameters
from dgrec.replay.viewing.recordings import Recordings
from dgrec.replay.viewing.workers import Task
from dgrec.session import Session, open_sessions

_MOST_LABELS: Final = 200
_MOST_SIGNALS: Final = 500
#: Samples that show what detections have: the share of the session, and rows there.
_SAMPLES: Final = ((0.0, 512), (0.25, 64), (0.5, 64), (0.75, 64), (1.0, 64))
#: Columns of the samples: reading whole detections would take long, and much memory.
_SAMPLED: Final = (
    "detections.list.element.track_id",
    "detections.list.element.mask.encoding",
    "detections.list.element.landmarks.list.element.label",
    "detections.list.element.angle",
    "attributes",
)


def card(opened: OpenedSession, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/card``."""
    if "brief" in parameters:
        counted: dict[str, Any] = {"stages": [], "labels": [], "labels_total": 0, "signals": []}
    else:
        counted = opened.kept("counted", lambda: _counted(opened, task))
    session = opened.session
    with opened.rows:
        known = opened.kept("facts", lambda: _facts(opened))
    videos = opened.videos.all
    task.check()
    with opened.rows:
        labels = [
            {"label": label, "count": count, "color": _color(session, label)}
            for label, count in counted["labels"]
        ]
    return {
        "s": opened.name,
        "id": opened.session.id,
        **known,
        "videos": [
            {
                "k": k,
                "url": f"video?s={_quoted(opened.name)}&k={k}",
                "kind": video.kind,
                "mime": video.mime,
                "codec": video.codec,
                "bytes": _size(video.path),
                "width": video.width,
                "height": video.height,
                "note": video.note,
            }
            for k, video in enumerate(videos)
        ],
        "picture_note": opened.videos.note,
        "stages": counted["stages"],
        "signals": [{"name": name} for name in counted["signals"]],
        "labels": labels,
        "labels_total": counted["labels_total"],
        "version": opened.version,
    }


def _facts(opened: OpenedSession) -> dict[str, Any]:
    session = opened.session
    metadata = session.metadata
    model, source = _mapping(metadata, "model"), _mapping(metadata, "source")
    of_list = listed(session)
    ends = [_row(session, at) for at in (0, opened.count - 1)] if opened.count else [{}, {}]
    overlay = _mapping(metadata, "overlay")
    return {
        "name": opened.name,  # as the list has it: the file may have been renamed
        "path": str(session.path),
        "n": opened.count,
        "first_frame": ends[0].get("frame"),
        "last_frame": ends[1].get("frame"),
        "duration_s": of_list.duration_s,
        "fps": of_list.fps,
        "clock": opened.clock,
        "began": opened.began / 1e6 if opened.clock == "captured_at" else opened.began,
        "state": of_list.state,
        "model": of_list.model,
        "device": None if model.get("device") is None else str(model["device"]),
        "source": of_list.source,
        "width": ends[0].get("width") or source.get("width") or 0,
        "height": ends[0].get("height") or source.get("height") or 0,
        "pixel_aspect": float(pixel_aspect_of(session)),
        "facts": [[name, value] for name, value in facts(session)],
        "caveats": caveats(session),
        "has": {
            **_has(session),
            "alerts": any(event.get("kind") == "alert" for event in metadata.get("events", [])),
            "targets": bool(metadata.get("targets")),
        },
        "overlay": dict(overlay),
    }


def _mapping(metadata: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = metadata.get(name)
    return value if isinstance(value, Mapping) else {}


def _row(session: Session, position: int) -> dict[str, Any]:
    columns = ["frame", "width", "height"]
    found = next(session.batches(columns, position, position + 1))
    return {name: found.column(name)[0].as_py() for name in columns}


def _has(session: Session) -> dict[str, bool]:
    """Return what detections have, as far as rows at a few places show."""
    found = dict.fromkeys(("tracks", "masks", "landmarks", "angles", "zones"), False)
    for share, rows in _SAMPLES:
        start = max(0, min(round(len(session) * share), len(session) - rows))
        for batch in session.batches([*_SAMPLED], start, start + rows):
            detections = batch.column("detections").flatten()
            for name, field in (
                ("tracks", "track_id"),
                ("masks", "mask"),
                ("landmarks", "landmarks"),
                ("angles", "angle"),
            ):
                if detections.type.get_field_index(field) >= 0:
                    values = detections.field(field)
                    found[name] = found[name] or values.null_count < len(values)
            attributes = batch.column("attributes")
            found["zones"] = found["zones"] or any(
                "zone" in (text.as_py() or "") or "line_counts" in (text.as_py() or "")
                for text in attributes
            )
    return found


def _counted(opened: OpenedSession, task: Task) -> dict[str, Any]:
    labels = opened.labels(task).counts
    order = heapq.nsmallest(_MOST_LABELS, labels.items(), key=lambda item: (-item[1], item[0]))
    return {
        "labels": order,
        "labels_total": len(labels),
        **opened.own(lambda _, reader: _names(reader), task),
    }


def _names(reader: SqlReader) -> dict[str, list[str]]:
    columns = ", ".join(f"count({name}) > 0 AS {name}" for name in STAGES)
    (stages,) = reader.rows(f"SELECT {columns} FROM frames")
    signals = reader.rows(f"SELECT DISTINCT name FROM signals ORDER BY name LIMIT {_MOST_SIGNALS}")
    return {
        "stages": [name for name in STAGES if stages[name]],
        "signals": [row["name"] for row in signals],
    }


def _color(session: Session, label: str) -> Any:
    """Return the color in which detections of a label are drawn; None if that is not known."""
    names = _mapping(_mapping(session.metadata, "model"), "labels")
    category = next((key for key, name in names.items() if name == label), None)
    number = int(category) if category is not None and str(category).isdecimal() else None
    with contextlib.suppress(ImportError, AttributeError, LookupError, TypeError, ValueError):
        return import_module("dgrec.replay.viewing.overlay").label_color(session, label, number)
    return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


# --- the list ------------------------------------------------------------------------------------


def sessions(
    recordings: Recordings,
    parameters: Parameters,
    matches: Callable[[list[Path], str], Collection[str]],
) -> dict[str, Any]:
    """Answer ``/api/sessions``.

    Args:
        matches: Returns what `matching` does.
    """
    found = recordings.listed()
    words = parameters.text("q", "").lower().split()
    if words:
        found = [
            (name, each)
            for name, each in found
            if all(
                word
                in " ".join(
                    (name, each.path, each.state, each.model or "", each.source or "")
                ).lower()
                for word in words
            )
        ]
    condition = parameters.text("where", "").strip()
    if condition and found:
        there = matches([Path(each.path) for _, each in found], condition)
        found = [(name, each) for name, each in found if each.path in there]
    return {"sessions": [{"s": name, **asdict(each)} for name, each in found]}


def matching(paths: list[Path], condition: str, task: Task) -> set[str]:
    """Return the paths of the sessions for which a condition over ``sessions`` holds."""
    try:
        opened = open_sessions(paths, lambda _: None, with_clips=True)
    except DgrecError:
        return set()
    with contextlib.ExitStack() as stack:
        for session in opened:
            stack.enter_context(session)
        reader = stack.enter_context(
            SqlReader(opened, STATEMENT_MEMORY, timeout=STATEMENT_S, left_out=lambda _: None)
        )
        stack.enter_context(task.interrupted_by(reader.interrupt))
        # Without brackets first: "a) OR (b" makes sense only inside of them.
        reader.check(f"SELECT session_id FROM sessions WHERE {condition}")
        result = reader.answer(f"SELECT session_id FROM sessions WHERE (\n{condition}\n)")
        ids = {value for batch in result.batches for value in batch.column(0).to_pylist()}
        return {str(session.path) for session in opened if session.id in ids}

"""Everything that is known about a recording, and the size of its columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dgrec.errors import DgrecError
from dgrec.format import is_being_written, leaves_of, video_entries
from dgrec.replay.events import damage_events, source_events
from dgrec.replay.output import Destination, Section, json_text, write_report
from dgrec.session import Session
from dgrec.sql import has_device_values
from dgrec.units import count_text, counted, size_text

#: Longer values are shortened in the table, not in JSON.
_LONGEST_VALUE = 160
#: The most events of a kind that are shown one by one.
_MOST_EVENTS = 10


def describe(session: Session) -> dict[str, Any]:
    """Return what is known about a session; the keys are those that ``--format json`` prints.

    ``bytes`` are compressed, as in the file; ``share`` is of the whole file. The columns of a
    journal have no sizes of their own.

    Raises:
        SessionError: Part of the file cannot be read.
    """
    size = sum(map(os.path.getsize, session.files))
    columns = _columns(session)
    frames = len(session)
    detections = session.totals["detections"]
    detection_bytes = [c["bytes"] for c in columns if c["name"].startswith("detections.")]
    return {
        "path": str(session.path),
        "session_id": session.id,
        "form": "parts" if session.parts else "sealed" if session.sealed else "journal",
        "state": state_of(session),
        "end_reason": session.metadata.get("end_reason"),
        "checksums": session.has_checksums if session.sealed or session.parts else True,
        "damage": session.damage,
        "frames": frames,
        "detections": detections,
        "totals": {**session.metadata.get("totals", {}), **session.totals},
        "bytes": size,
        "bytes_per_frame": size / frames if frames else None,
        "bytes_per_detection": (
            sum(detection_bytes) / detections if session.sealed and detections else None
        ),
        "columns": columns,
        "events": source_events(session),
        "signals": _signals(session),
        "metadata": session.metadata,
    }


def state_of(session: Session) -> str:
    if session.parts:
        return _state_of_parts(session)
    if session.sealed:
        return "sealed"
    if is_being_written(session.path):
        return "being recorded"
    if session.journal.closing is None:
        return "cut off: its recorder did not end it"
    return "ended, not sealed"


def _state_of_parts(session: Session) -> str:
    journals = [part for part in session.parts if not part.sealed]
    count = counted(len(session.parts), "part")
    last = session.parts[-1]
    removed = last.number - len(session.parts)
    if removed and last.metadata.get("options", {}).get("keep_only"):
        count += f" ({removed:,} removed: --keep-only)"
    if not journals:
        return f"{count}, sealed"
    if any(is_being_written(part.place) for part in journals):
        return f"{count}, being recorded"
    if all(part.ended for part in journals):
        return f"{count}, {len(journals)} not sealed"
    return f"{count}, cut off: its recorder did not end the last one"


def _signals(session: Session) -> dict[str, int]:
    """Return how many values were logged under each name."""
    metadata = session.metadata
    is_logged = bool(metadata.get("totals", {}).get("signals") or metadata.get("signals"))
    if session.sealed and not is_logged and not _has_device_values(session):
        return {}  # counting takes a while for a day
    counts = "SELECT name, count(*) FROM signals GROUP BY name ORDER BY name"
    return {str(name): count for name, count in session.sql_rows(counts)}


def _has_device_values(session: Session) -> bool:
    """Return whether an accelerator gave values of its own, which count as signals."""
    try:
        return has_device_values(session)
    except DgrecError:  # what can be known of a damaged file is shown all the same
        return False


def _columns(session: Session) -> list[dict[str, Any]]:
    """Return name, type, bytes and share of every leaf, as nested columns are stored."""
    if not session.sealed:
        return [
            {"name": leaf.name, "type": str(leaf.type), "bytes": None, "share": None}
            for leaf in leaves_of(session.schema)
        ]
    size = sum(map(os.path.getsize, session.files))
    return [
        {"name": name, "type": str(type_), "bytes": taken, "share": taken / size}
        for name, type_, taken in session.column_bytes()
    ]


def facts(session: Session) -> Iterator[tuple[str, str]]:
    """Yield what is known about a session by name, in short, without the sizes of columns."""
    metadata, totals = session.metadata, session.totals
    yield from _session_rows(
        {
            "metadata": metadata,
            "session_id": session.id,
            "end_reason": metadata.get("end_reason"),
            "frames": len(session),
            "detections": totals["detections"],
        }
    )
    yield "path", str(session.path)
    for group, rows in _metadata_groups({**metadata, "totals": totals}).items():
        for name, value in rows:
            yield f"{group.replace('_', ' ')}: {name.replace('_', ' ')}", value


# --- writing -----------------------------------------------------------------------------------


def write_info(
    info: Mapping[str, Any] | Sequence[Mapping[str, Any]], form: str, destination: Destination
) -> None:
    """Write what `describe` returned, of one session or of several, as ``table`` or ``json``."""
    if form == "json":
        destination.write(json_text(info, indent=2) + "\n")
        return
    for each in [info] if isinstance(info, Mapping) else info:
        write_report(_sections(each), (), form, destination)


def _sections(info: Mapping[str, Any]) -> Iterator[Section]:
    yield Section("Session", (), list(_session_rows(info)))
    yield Section("File", (), list(_file_rows(info)))
    if videos := list(_video_rows(info["metadata"])):
        yield Section("Video", (), videos)
    if gaps := list(_gap_rows(info["events"])):
        yield Section("Gaps", (), gaps)
    if losses := list(_damage_rows(info["events"])):
        yield Section("Damaged in the source", (), losses)
    if sizes := list(_size_rows(info["events"])):
        yield Section("Size", (), sizes)
    if marks := list(_mark_rows(info["events"])):
        yield Section("Marks", (), marks)
    if info["signals"]:
        yield Section(
            "Signals", (), [(name, counted(n, "value")) for name, n in info["signals"].items()]
        )
    for name, rows in _metadata_groups(
        # Counted from the rows, as in every command.
        {**info["metadata"], "totals": info["totals"]}
    ).items():
        if rows:
            yield Section(name.replace("_", " ").capitalize(), (), rows)
    yield _columns_section(info)
    if info["damage"]:
        yield Section("Damage", (), [(str(i), line) for i, line in enumerate(info["damage"], 1)])


def _session_rows(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metadata = info["metadata"]
    yield "name", _value_text(metadata.get("name"))
    yield "id", info["session_id"] or "-"
    yield "started", _value_text(metadata.get("started_at"))
    yield "ended", _value_text(metadata.get("ended_at"))
    yield "end reason", _value_text(info["end_reason"])
    if metadata.get("end_detail"):
        yield "end detail", _value_text(metadata["end_detail"])
    yield "frames", f"{info['frames']:,}"
    yield "detections", count_text(info["detections"])
    yield "format version", _value_text(metadata.get("format", {}).get("version"))


def _file_rows(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "path", info["path"]
    yield "state", info["state"]
    size = info["bytes"]
    yield "size", f"{size:,} bytes" + (f" ({size_text(size)})" if size >= 1000 else "")
    yield "a frame takes", _bytes_each(info["bytes_per_frame"])
    if _has_sizes(info):
        yield "a detection takes", _bytes_each(info["bytes_per_detection"])
        intact = "all correct" if info["checksums"] else "none: another tool rewrote the file"
        yield "checksums", intact
    yield "damage", f"{len(info['damage'])} parts, below" if info["damage"] else "none"


def _video_rows(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and facts of each recorded video, as far as known."""
    for video in video_entries(metadata):
        facts = [str(video.get("kind")), str(video.get("codec"))]
        if video.get("width") is not None and video.get("height") is not None:
            facts.append(f"{video['width']}x{video['height']}")
        if video.get("frames") is not None:
            facts.append(f"{video['frames']:,} frames")
        if video.get("packets") == "kept":
            facts.append("the source's own packets")
        if video.get("size") is not None:
            facts.append(size_text(video["size"]))
        if video.get("problem"):
            facts.append(f"ended early: {video['problem']}")
        yield str(video.get("file")), ", ".join(facts)


def _gap_rows(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield how often and how long the source was lost, and the longest gaps."""
    gaps = [
        (float(event["seconds"]), event)
        for event in events
        if event.get("kind") in ("gap", "server_lost") and event.get("seconds") is not None
    ]
    if not gaps:
        return
    yield "in all", f"{len(gaps):,}, {sum(seconds for seconds, _ in gaps):,.1f} s"
    least = sorted((seconds for seconds, _ in gaps), reverse=True)[:_MOST_EVENTS][-1]
    for seconds, event in [gap for gap in gaps if gap[0] >= least][:_MOST_EVENTS]:
        until = "" if event.get("back", True) else ", until the end"
        server = f"{event['server']}, " if "server" in event else ""
        yield str(event.get("from")), f"{seconds:,.1f} s{until}: {server}{event.get('reason')}"
    yield from _later(gaps, "shorter ones")


def _damage_rows(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield how many frames of the source could not be decoded, and the first such events."""
    damage = damage_events(events)
    if not damage:
        return
    lost = sum(event["lost"] for event in damage)
    yield "in all", f"{counted(lost, 'frame')} could not be decoded"
    for event in damage[:_MOST_EVENTS]:
        yield str(event.get("from")), f"{event['lost']:,}, before frame {event.get('source_frame')}"
    yield from _later(damage)


def _size_rows(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the frames at which the size of the source's pictures changed."""
    sizes = [event for event in events if event.get("kind") == "size"]
    for event in sizes[:_MOST_EVENTS]:
        size = f"{event.get('width')}x{event.get('height')}"
        yield str(event.get("at")), f"{size} from frame {event.get('source_frame')} of the source"
    yield from _later(sizes)


def _mark_rows(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what the program marked on the time line."""
    marks = [event for event in events if event.get("kind") == "mark"]
    for event in marks[:_MOST_EVENTS]:
        yield str(event.get("at")), _value_text(event.get("text"))
    yield from _later(marks)


def _later(events: Sequence[Any], name: str = "later ones") -> Iterator[tuple[str, str]]:
    """Yield how many events are not shown, if any."""
    if len(events) > _MOST_EVENTS:
        yield name, f"{len(events) - _MOST_EVENTS:,} (--format json has them)"


#: Groups of the metadata in the order in which they are shown, before all others.
_GROUPS = ("source", "model", "overlay", "options", "totals", "machine", "versions", "host")
_SHOWN_ABOVE = tuple(
    "format session_id name started_at ended_at end_reason end_detail damage video events "
    "signals".split()
)


def _metadata_groups(metadata: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    groups: dict[str, list[tuple[str, str]]] = {name: [] for name in _GROUPS}
    other: list[tuple[str, str]] = []
    for key, value in metadata.items():
        if key in _SHOWN_ABOVE:
            continue
        if key == "analyzers":
            groups[key] = [
                (_value_text(each.get("class")), _value_text(each.get("parameters")))
                for each in value
            ]
        elif isinstance(value, dict) and key != "other":
            groups[key] = [(name, _value_text(item)) for name, item in value.items()]
        else:
            other.append((key, _value_text(value)))
    groups["other"] = groups.get("other", []) + other
    return groups


def _value_text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json_text(value)
    if len(text) <= _LONGEST_VALUE:
        return text
    count = f"{len(value):,} entries: " if isinstance(value, dict | list) else ""
    return f"{count}{text[:_LONGEST_VALUE]}… (--format json has all of it)"


def _columns_section(info: Mapping[str, Any]) -> Section:
    if not _has_sizes(info):
        return Section(
            "Columns",
            ("column", "type"),
            [(column["name"], column["type"]) for column in info["columns"]],
            numeric=(False, False),
        )
    rows = [
        (column["name"], column["type"], f"{column['bytes']:,}", f"{column['share']:.1%}")
        for column in info["columns"]
    ]
    rest = info["bytes"] - sum(column["bytes"] for column in info["columns"])
    share = f"{rest / info['bytes']:.1%}"
    rows.append(("footer, index, metadata, checksums", "", f"{rest:,}", share))
    return Section(
        "Columns", ("column", "type", "bytes", "share"), rows, (False, False, True, True)
    )


def _has_sizes(info: Mapping[str, Any]) -> bool:
    """Return whether the columns have sizes: the whole session is sealed."""
    return all(column["bytes"] is not None for column in info["columns"])


def _bytes_each(size: float | None) -> str:
    return "-" if size is None else f"{size:,.1f} bytes"

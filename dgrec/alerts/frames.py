"""Frames as rules see them, from rows that are being recorded and from a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from dgrec import compute as pc
from dgrec.alerts.detections import NO_NUMBERS
from dgrec.alerts.evaluator import Alert, AlertFrame, Evaluator
from dgrec.alerts.events import ADDED
from dgrec.alerts.rule import ROW_VALUES, Rule
from dgrec.analyzers import with_degirum_counts
from dgrec.format import (
    Allowance,
    DecodeError,
    Metadata,
    Row,
    cuts_of,
    json_values,
    known_end,
    milliseconds,
    parse_json,
    stage_values,
    stamp_us,
)
from dgrec.session import Part, Session, restarts

#: Labels of a model that a message lists if a rule asks for another one.
_NAMED = 10

_LEAVES = ("label", "score", "extra")
#: Names in ``extra`` of what the columns do not have as it was.
_APART = ('"label"', '"score"', '"$value"')


def frame_of(row: Row, *, with_added: bool = False) -> AlertFrame:
    """Return a row that is being recorded, as rules see it.

    Args:
        with_added: With the counts of analyzers, which take time to read.
    """
    values: dict[str, float | None] = {
        "latency_ms": (
            milliseconds(row.completed_ns - row.captured_ns) if row.is_capture_known else None
        ),
        "read_ms": milliseconds(row.read_ns),
        "dropped_before": row.dropped_camera + row.dropped_queue + row.dropped_writer,
        "skipped_before": row.skipped_before,
        **stage_values(row.timing),
    }
    added = _added(row.attributes) if with_added else {}
    return AlertFrame(row.completed_ns // 1000, values, row.results, added)


def unknown_labels(rules: Sequence[Rule], metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Yield the name of each rule that counts what the model cannot find, and the reason."""
    labels = metadata.get("model", {}).get("labels")
    known = [name for name in labels.values() if isinstance(name, str)] if labels else []
    if not known:
        return
    named = ", ".join(known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
    for rule in rules:
        for label in sorted(rule.labels - {*known}):
            yield rule.name, f"the model has no label {label!r}; it has {named}"


def alerts_of(
    session: Session,
    rules: list[Rule],
    on_problem: Callable[[str, str], None] = lambda name, reason: None,
) -> list[Alert]:
    """Return the alerts that rules would have given in a session, in the order of their beginning.

    Args:
        on_problem: Called once for each rule that cannot be evaluated: its name and the reason.

    Raises:
        SessionError: Part of the session cannot be read.
    """
    found: list[Alert] = []

    def take(alert: Alert) -> None:
        if alert.ended_us is None:
            found.append(alert)

    evaluator = Evaluator(rules, take, on_problem)
    events = session.metadata.get("events", [])
    runs = restarts(events)
    expected: int | None = None
    moments = {part.first_frame for part in session.parts if _is_moment(part)}
    cuts = {*cuts_of(session.metadata)}  # of a clip, whose frames are numbered anew
    for number, frame, source_frame in _frames(session, evaluator.wants_added):
        while runs and runs[0].began_by(source_frame, frame.completed_us):
            if (run_ended_us := runs.pop(0).ended_us) is not None:
                evaluator.restart(run_ended_us)
        # If only times around alerts were kept, the gaps between them are not silence.
        is_after_others = expected is not None and number != expected
        is_after_others |= number in cuts
        is_after_others |= number in moments and bool(frame.values["skipped_before"])
        evaluator.frame(frame, source_frame, is_after_others=is_after_others)
        expected = number + 1
    # A session that goes on, or is merged, went on until its last alert at least.
    ended_us = stamp_us(known_end(session.ended_at, session.metadata))
    if ended_us is not None:
        evaluator.until(ended_us)
    return found


def _is_moment(part: Part) -> bool:
    return bool(part.metadata.get("options", {}).get("only_on_alert"))


def _frames(session: Session, with_added: bool) -> Iterator[tuple[int, AlertFrame, int | None]]:
    """Yield the number of each row, the row as rules see it, and its number in the source.

    Another tool may have left that one out.
    """
    leaves = [f"detections.list.element.{name}" for name in _LEAVES]
    columns = ["frame", "source_frame", "completed_at", "captured_at", "restore"]
    columns += [*ROW_VALUES, *leaves]
    columns += ["attributes"] if with_added else []
    position, metadata = 0, session.metadata
    for batch in session.batches(columns):
        results = _results(batch)
        restores = batch.column("restore").to_pylist()
        completed = batch.column("completed_at").cast(pa.int64()).to_pylist()
        captured = batch.column("captured_at").cast(pa.int64()).to_pylist()
        frames = batch.column("frame").to_pylist()
        sources = batch.column("source_frame").to_pylist()
        values = [batch.column(name).to_pylist() for name in ROW_VALUES]
        attributes = batch.column("attributes").to_pylist() if with_added else None
        for index, numbers in enumerate(zip(*values, strict=True)):
            items: Any = results[index]
            if items is None or '"results"' in (restores[index] or ""):
                items = session.restored(session.row(position + index), metadata).results
            stamp_us = completed[index] if completed[index] is not None else captured[index]
            if stamp_us is not None:
                added = _added(attributes[index]) if attributes is not None else {}
                row_values = dict(zip(ROW_VALUES, numbers, strict=True))
                frame = AlertFrame(stamp_us, row_values, items, added)
                yield frames[index], frame, sources[index]
        position += batch.num_rows


def _added(attributes: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Return the counts of zones and lines, as degirum_tools' own objects."""
    found: Any = attributes
    if isinstance(attributes, str):
        try:
            found = json_values.loads(attributes)
        except DecodeError:
            return {}
    if not isinstance(found, Mapping):
        return {}
    return {name: with_degirum_counts(found[name]) for name, _ in ADDED.values() if name in found}


def _results(batch: pa.RecordBatch) -> list[list[dict[str, Any]] | None]:
    """Return label and score of each detection; None for frames that have to be restored."""
    lists = batch.column("detections")
    flat = lists.flatten()
    leaves = [pc.struct_field(flat, name).to_pylist() for name in _LEAVES]
    items = list(map(_item, *leaves))
    found: list[list[dict[str, Any]] | None] = []
    start = 0
    for length in pc.fill_null(pc.list_value_length(lists), 0).to_pylist():
        inside = [item for item in items[start : start + length] if item is not None]
        found.append(inside if len(inside) == length else None)
        start += length
    return found


def _item(label: str | None, score: float | None, extra: str | None) -> dict[str, Any] | None:
    """Return label and score of a detection from its columns; None if it has to be restored.

    Of a value that its column cannot hold, that has what is nearest, and ``extra`` the value.
    """
    item: dict[str, Any] = {"label": label, "score": score}
    if not extra or not any(name in extra for name in _APART):
        return item
    allowance = Allowance()
    try:
        values = parse_json(extra, allowance)
        if not isinstance(values, dict) or "$value" in values:
            return None
        apart = {name: values[name] for name in item if name in values}
        recorded = json_values.decode(apart, allowance)
    except DecodeError:  # restoring it says so
        return None
    name = recorded.get("label", label)
    item["label"] = name if isinstance(name, str) else None  # nothing else is a rule's label
    if isinstance(recorded.get("score"), NO_NUMBERS):
        item["score"] = None  # any other number is in the column, also that of an unknown class
    return item

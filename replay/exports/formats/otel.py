"""OpenTelemetry: a span for each frame and stage, as JSON lines of OTLP."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgrec.replay.exports import (
    EVERYTHING,
    STAGE_COLUMNS,
    Exported,
    ExportFormat,
    FrameTimes,
    Slice,
    frames_with_times,
    session_name,
    utf8,
)
from dgrec.version import __version__

#: Spans on a line: what the collector's file receiver takes as one request.
_SPANS_AT_ONCE = 500
_INTERNAL = 1


class OpenTelemetry(ExportFormat):
    """OTLP as JSON lines, as the collector's ``otlpjsonfile`` receiver and file exporter have it.

    A frame is a trace: a span from captured to completed, whose children are its stages.
    """

    name = "otel"
    title = "OpenTelemetry spans: OTLP as JSON lines"
    suffixes = (".otlp",)
    holds = EVERYTHING
    needs_box = False
    columns = STAGE_COLUMNS
    pictures = ("none",)

    def write(self, exported: Exported, path: Path) -> None:
        resource = {"attributes": list(_attributes(_resource(exported)))}
        scope = {"name": "dgrec", "version": __version__}
        spans: list[dict[str, Any]] = []

        def line() -> str:
            scoped = [{"scope": scope, "spans": spans}]
            return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scoped}]})

        with path.open("w", encoding="utf-8") as file:
            for times in frames_with_times(exported):
                spans += _spans(exported.session.id, times)
                if len(spans) >= _SPANS_AT_ONCE:
                    file.write(line() + "\n")
                    spans.clear()
            if spans:
                file.write(line() + "\n")
        exported.losses.add(
            "otel holds only the number of detections of each frame", exported.detection_count
        )


def _resource(exported: Exported) -> dict[str, Any]:
    model = exported.metadata.get("model", {})
    source = exported.metadata.get("source", {})
    return {
        "service.name": str(exported.metadata.get("name") or session_name(exported.session)),
        "dgrec.session_id": exported.session.id,
        "dgrec.model": str(model.get("name") or ""),
        "dgrec.device": str(model.get("device") or ""),
        "dgrec.source": str(source.get("name") or source.get("file") or ""),
    }


def _spans(session_id: str, times: FrameTimes) -> Iterator[dict[str, Any]]:
    frame, row = times.frame, times.frame.row
    # The same frame has the same ids in every export.
    digest = hashlib.sha256(f"{session_id}/{frame.number}".encode()).hexdigest()
    trace, root = digest[:32], digest[32:48]
    notes = {
        "dgrec.frame": frame.number,
        "dgrec.source_frame": row["source_frame"],
        "dgrec.detections": len(frame.detections),
        "dgrec.latency_ms": row["latency_ms"],
        "dgrec.dropped_before": row["dropped_before"],
        "dgrec.skipped_before": row["skipped_before"],
    }
    yield _span(trace, root, "", Slice("frame", times.whole.start_ns, times.whole.end_ns), notes)
    found = [times.read, *times.stages, times.recorder, times.publishing]
    for number, stage in enumerate(stage for stage in found if stage is not None):
        own = f"{(int(root, 16) + number + 1) % 2**64:016x}"
        yield _span(trace, own, root, stage, {})


def _span(trace: str, own: str, parent: str, stage: Slice, notes: dict[str, Any]) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": own,
        **({"parentSpanId": parent} if parent else {}),
        "name": stage.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(stage.start_ns),
        "endTimeUnixNano": str(stage.end_ns),
        "attributes": list(_attributes(notes)),
    }


def _attributes(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield values as OTLP has them; numbers of 64 bits are text in its JSON."""
    for name, value in values.items():
        if isinstance(value, float):
            if math.isfinite(value):
                yield {"key": name, "value": {"doubleValue": value}}
        elif isinstance(value, int):
            yield {"key": name, "value": {"intValue": str(value)}}
        elif value:
            yield {"key": name, "value": {"stringValue": utf8(value)}}

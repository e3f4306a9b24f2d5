"""Time lines: Perfetto's trace by its protobuf messages, OpenTelemetry's spans by those of OTLP."""

from __future__ import annotations

import base64
import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.errors import ConfigError
from dgrec.format import Signal
from tests.factory import edited, make_detection, make_row, write_session
from tests.replay.conftest import uneven_rows

STAGES = ("preprocess", "inference", "postprocess")


def _uneven(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    rows = uneven_rows(40)
    rows[9] = rows[9]._replace(signals=[Signal("rpm", rows[9].completed_ns, 1200.5)])
    path = write_session(folder / "s.parquet", rows)
    edited(path, {"published_ms": [500.0 if i % 2 else None for i in range(40)]})
    with dgrec.open(path) as session:
        return path, [session.row(position) for position in range(len(session))]


def _ns(stamp: Any) -> int:
    return round(stamp.timestamp() * 1e6) * 1000


def _trace(path: Path) -> Any:
    messages = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    trace = messages.Trace()
    trace.ParseFromString(path.read_bytes())
    return trace


def _slices(trace: Any) -> tuple[dict[str, list[tuple[str, int, int, int]]], dict[str, Any]]:
    """Return (name, start, end, depth) of the slices of each track, and counters by their name."""
    names = {
        packet.track_descriptor.uuid: packet.track_descriptor.name
        for packet in trace.packet
        if packet.HasField("track_descriptor")
    }
    slices: dict[str, list[tuple[str, int, int, int]]] = defaultdict(list)
    counters: dict[str, Any] = defaultdict(list)
    started: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for packet in trace.packet:
        if not packet.HasField("track_event"):
            continue
        event, track = packet.track_event, names[packet.track_event.track_uuid]
        if event.type == event.TYPE_SLICE_BEGIN:
            started[track].append((event.name, packet.timestamp))
        elif event.type == event.TYPE_SLICE_END:
            name, start = started[track].pop()
            assert start <= packet.timestamp
            slices[track].append((name, start, packet.timestamp, len(started[track])))
        else:
            counters[track].append((packet.timestamp, event.double_counter_value))
    assert not any(started.values())
    return slices, counters


def test_a_trace_has_every_frame_and_stage_in_its_place(tmp_path: Path) -> None:
    path, rows = _uneven(tmp_path)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "s.pftrace")
    trace = _trace(tmp_path / "s.pftrace")
    slices, counters = _slices(trace)
    lanes = [name for name in slices if name.startswith("frames ")]
    assert len(lanes) > 1  # frames are in flight at the same time
    frames = sorted(one for lane in lanes for one in slices[lane] if one[3] == 0)
    assert sorted((start, end) for _, start, end, _ in frames) == [
        (_ns(row["captured_at"]), _ns(row["completed_at"])) for row in rows
    ]
    for lane in lanes:
        whole = [one for one in slices[lane] if one[3] == 0]
        for before, after in itertools.pairwise(whole):
            assert before[2] <= after[1]
        for name, start, end, depth in slices[lane]:
            if depth == 1:
                assert name in STAGES
                assert any(one[1] <= start <= end <= one[2] for one in whole)
    inferred = [one for lane in lanes for one in slices[lane] if one[0] == "inference"]
    assert len(inferred) == len(rows)
    assert sum(end - start for _, start, end, _ in inferred) == pytest.approx(
        sum(row["inference_ms"] for row in rows) * 1e6, rel=1e-6
    )
    assert len(slices["read"]) == len(slices["recorder"]) == len(rows)
    assert [value for _, value in counters["latency_ms"]] == [row["latency_ms"] for row in rows]
    assert [value for _, value in counters["detections"]] == [
        len(row["detections"]) for row in rows
    ]
    assert counters["dropped"][-1][1] == sum(row["dropped_before"] for row in rows)
    assert [value for _, value in counters["published_ms"]] == [500.0] * 20
    assert counters["signal rpm"] == [(_ns(rows[9]["completed_at"]), 1200.5)]
    assert report.frames == 40
    (clocks,) = [packet.clock_snapshot for packet in trace.packet if packet.clock_snapshot.clocks]
    assert {clock.timestamp for clock in clocks.clocks} == {_ns(rows[0]["captured_at"])}


def _otlp(path: Path) -> list[Any]:
    """Return the spans, read by OTLP's own messages."""
    messages = pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2")
    from google.protobuf import json_format

    spans = []
    for line in path.read_text().splitlines():
        value = json.loads(line)
        for scoped in value["resourceSpans"][0]["scopeSpans"]:
            for span in scoped["spans"]:  # ids are in hexadecimal there, unlike in other JSON
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
        data = json_format.ParseDict(value, messages.TracesData())
        spans += data.resource_spans[0].scope_spans[0].spans
    return spans


@pytest.mark.slow
def test_spans_have_every_frame_and_stage(tmp_path: Path) -> None:
    path, rows = _uneven(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "s.otlp")
        session.export(tmp_path / "again.otlp")
    assert (tmp_path / "s.otlp").read_bytes() == (tmp_path / "again.otlp").read_bytes()
    spans = _otlp(tmp_path / "s.otlp")
    assert {len(span.trace_id) for span in spans} == {16}
    assert len({span.span_id for span in spans}) == len(spans)
    roots = [span for span in spans if span.name == "frame"]
    for span, row in zip(roots, rows, strict=True):
        assert span.start_time_unix_nano == _ns(row["captured_at"])
        assert span.end_time_unix_nano == _ns(row["completed_at"])
        notes = {each.key: each.value for each in span.attributes}
        assert notes["dgrec.frame"].int_value == row["frame"]
        assert notes["dgrec.latency_ms"].double_value == row["latency_ms"]
        assert notes["dgrec.detections"].int_value == len(row["detections"])
        children = {each.name: each for each in spans if each.parent_span_id == span.span_id}
        there = [name for name in STAGES if row[f"{name}_ms"] is not None]
        published = [] if row["published_ms"] is None else ["publishing"]
        assert set(children) == {*there, *published, "read", "recorder"}
        for name in published:
            taken = children[name].end_time_unix_nano - span.start_time_unix_nano
            assert taken == 500_000_000
        assert {each.trace_id for each in children.values()} == {span.trace_id}
        for name in there:
            one = children[name]
            took = one.end_time_unix_nano - one.start_time_unix_nano
            assert took == pytest.approx(row[f"{name}_ms"] * 1e6, abs=1)


@pytest.mark.slow
def test_spans_come_out_of_the_sdk_s_exporter_as_they_are(tmp_path: Path) -> None:
    """The same spans, made by OpenTelemetry's SDK and read from its in-memory exporter."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    path, _ = _uneven(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "s.otlp")
    spans = _otlp(tmp_path / "s.otlp")
    current: list[Any] = []

    class Recorded(IdGenerator):
        def generate_span_id(self) -> int:
            return int.from_bytes(current[-1].span_id, "big")

        def generate_trace_id(self) -> int:
            return int.from_bytes(current[-1].trace_id, "big")

    exporter = InMemorySpanExporter()
    provider = TracerProvider(id_generator=Recorded(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer, frame = provider.get_tracer("dgrec"), None
    for span in spans:
        current.append(span)
        inside = trace.set_span_in_context(frame) if span.parent_span_id and frame else None
        values = {
            each.key: getattr(each.value, each.value.WhichOneof("value"))
            for each in span.attributes
        }
        made = tracer.start_span(
            span.name, context=inside, attributes=values, start_time=span.start_time_unix_nano
        )
        made.end(span.end_time_unix_nano)
        frame = frame if span.parent_span_id else made
    for span, found in zip(spans, exporter.get_finished_spans(), strict=True):
        context = found.get_span_context()
        assert context is not None
        assert context.is_valid
        assert context.span_id.to_bytes(8, "big") == span.span_id
        assert context.trace_id.to_bytes(16, "big") == span.trace_id
        parent = b"" if found.parent is None else found.parent.span_id.to_bytes(8, "big")
        assert parent == span.parent_span_id
        assert (found.name, found.start_time) == (span.name, span.start_time_unix_nano)
        assert found.end_time == span.end_time_unix_nano
        assert len(found.attributes or {}) == len(span.attributes)
    provider.shutdown()


def test_impossible_times_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [make_row(i, [make_detection(i)]) for i in range(6)]
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.open(path) as session:
        stamps = [round(_ns(session.row(i)["captured_at"]) / 1000) for i in range(6)]
    nan, inf = float("nan"), float("inf")
    edited(
        path,
        {
            "captured_at": [None, -(10**15), stamps[2], stamps[3], stamps[5] + 10**9, stamps[5]],
            "inference_ms": [1.0, 1.0, nan, 1e300, 1.0, -5.0],
            "read_ms": [inf] * 6,
            "latency_ms": [nan] * 6,
        },
    )
    with dgrec.open(path) as session:
        for output in ("s.pftrace", "s.otlp"):
            report = session.export(tmp_path / output)
            assert "left out frames without possible times: 3 frames" in report.notes
            assert (report.frames, report.detections) == (3, 3)
        assert session.export(tmp_path / "s.mcap", images="none").frames == 4
    slices, _ = _slices(_trace(tmp_path / "s.pftrace"))
    assert sum(name.startswith("frame ") for lane in slices.values() for name, *_ in lane) == 3
    assert sum(span.name == "frame" for span in _otlp(tmp_path / "s.otlp")) == 3
    edited(path, {"captured_at": [None] * 6})
    with dgrec.open(path) as session:
        for output in ("none.pftrace", "none.otlp", "none.mcap"):
            with pytest.raises(ConfigError, match=r"nothing is left to export.*: 6 frames"):
                session.export(tmp_path / output, images="none")
            assert not (tmp_path / output).exists()

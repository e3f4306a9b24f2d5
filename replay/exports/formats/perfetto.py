"""Perfetto: the pipeline's time line, as a trace for ui.perfetto.dev."""

from __future__ import annotations

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
)
from dgrec.replay.exports.formats.library import import_library

#: More frames than any runtime has in flight.
_MOST_LANES = 64
_SEQUENCE = 1


class Perfetto(ExportFormat):
    """A trace: a slice for each frame and stage, counters for latency, detections and signals.

    Frames that were in flight at the same time are in lanes of their own.
    """

    name = "perfetto"
    title = "a trace of the pipeline: a slice for each frame and stage, counters"
    suffixes = (".pftrace", ".perfetto-trace")
    holds = EVERYTHING
    needs_box = False
    columns = (*STAGE_COLUMNS, "timing", "signals")
    pictures = ("none",)

    def write(self, exported: Exported, path: Path) -> None:
        builder = import_library("perfetto.trace_builder.proto_builder", self.name)
        protos = import_library("perfetto.protos.perfetto.trace.perfetto_trace_pb2", self.name)
        with path.open("wb") as file:
            trace = _Trace(builder.StreamingTraceProtoBuilder(file), protos)
            trace.begin(session_name(exported.session))
            lost = 0
            for times in frames_with_times(exported):
                lost += times.frame.row["dropped_before"] or 0
                trace.write(times, lost, exported)
        exported.losses.add(
            "perfetto holds only the number of detections of each frame", exported.detection_count
        )


class _Trace:
    """Writes packets: tracks when they are needed, then slices and counters on them."""

    def __init__(self, builder: Any, protos: Any) -> None:
        self._builder, self._event = builder, protos.TrackEvent
        self._tracks: dict[str, int] = {}
        #: When the last slice ends, of each lane, and of each track with one slice at a time.
        self._lanes: list[int] = []
        self._ends: dict[str, int] = {}
        self._has_clock = False

    def begin(self, name: str) -> None:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.sequence_flags = 1  # nothing before this counts
        packet.track_descriptor.uuid = 1
        packet.track_descriptor.process.pid = 1
        packet.track_descriptor.process.process_name = name
        self._builder.write_packet(packet)

    def write(self, times: FrameTimes, lost: int, exported: Exported) -> None:
        """Write a frame."""
        frame = times.frame
        if not self._has_clock:
            self._write_clock(times.whole.start_ns)
        lane = self._lane(times.whole)
        if lane is None:
            exported.leave_out_frames("beyond 64 at a time", 1, len(frame.detections))
            return
        self._slice(
            lane,
            times.whole,
            {"frame": frame.number, "detections": len(frame.detections)},
            times.stages,
        )
        for one in (times.read, times.recorder):
            if one is not None:
                self._alone(one)
        at = times.whole.end_ns
        for name, value in _counters(times, lost):
            self._counter(name, at, value)
        for signal in frame.row["signals"] or ():
            stamp = signal["at"]
            if signal["value"] is not None and stamp is not None and stamp.timestamp() > 0:
                at = round(stamp.timestamp() * 1e6) * 1000
                self._counter(f"signal {signal['name']}", at, signal["value"])

    def _lane(self, whole: Slice) -> str | None:
        """Return the track of a frame: the first one whose last slice has ended."""
        for number, end in enumerate(self._lanes):
            if end <= whole.start_ns:
                self._lanes[number] = whole.end_ns
                return f"frames {number + 1}"
        if len(self._lanes) >= _MOST_LANES:
            return None
        self._lanes.append(whole.end_ns)
        return f"frames {len(self._lanes)}"

    def _alone(self, one: Slice) -> None:
        """Write a slice to the track of its name, which has one at a time."""
        start = max(one.start_ns, self._ends.get(one.name, 0))
        if start < one.end_ns:
            self._ends[one.name] = one.end_ns
            self._slice(one.name, Slice(one.name, start, one.end_ns), {}, ())

    def _slice(
        self, track: str, one: Slice, notes: dict[str, int], inside: tuple[Slice, ...]
    ) -> None:
        event = self._packet(one.start_ns, track, self._event.TYPE_SLICE_BEGIN)
        event.track_event.name = one.name
        for name, value in notes.items():
            note = event.track_event.debug_annotations.add()
            note.name, note.int_value = name, value
        self._builder.write_packet(event)
        for part in inside:
            self._slice(track, part, {}, ())
        event = self._packet(one.end_ns, track, self._event.TYPE_SLICE_END)
        self._builder.write_packet(event)

    def _counter(self, track: str, at_ns: int, value: float) -> None:
        event = self._packet(at_ns, track, self._event.TYPE_COUNTER, is_counter=True)
        event.track_event.double_counter_value = value
        self._builder.write_packet(event)

    def _packet(self, at_ns: int, track: str, kind: int, *, is_counter: bool = False) -> Any:
        uuid = self._tracks.get(track)
        if uuid is None:
            uuid = self._tracks[track] = len(self._tracks) + 2
            packet = self._builder.create_packet()
            packet.trusted_packet_sequence_id = _SEQUENCE
            packet.track_descriptor.uuid = uuid
            packet.track_descriptor.parent_uuid = 1
            packet.track_descriptor.name = track
            if is_counter:
                packet.track_descriptor.counter.SetInParent()
            self._builder.write_packet(packet)
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.timestamp = at_ns
        packet.track_event.type = kind
        packet.track_event.track_uuid = uuid
        return packet

    def _write_clock(self, at_ns: int) -> None:
        """Say that stamps are UTC, so that the viewer shows them as times of day."""
        self._has_clock = True
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.timestamp = at_ns
        for number in (6, 1):  # the clock of the trace, and UTC
            clock = packet.clock_snapshot.clocks.add()
            clock.clock_id, clock.timestamp = number, at_ns
        self._builder.write_packet(packet)


def _counters(times: FrameTimes, lost: int) -> Iterator[tuple[str, float]]:
    frame = times.frame
    for name in ("latency_ms", "published_ms"):
        if frame.row[name] is not None:
            yield name, frame.row[name]
    yield "detections", len(frame.detections)
    yield "dropped", lost
    for name, value in frame.row["timing"] or ():
        if value is not None and not name.endswith("Duration_ms"):
            yield f"timing {name}", value

"""Recordings that keep only what is around alerts, and what they should have kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import dgrec
from dgrec.alerts import parse_rule
from dgrec.clock import Clock
from dgrec.footage import Pixels, find_recorded
from dgrec.format import Event, Metadata, Row, utc_ns
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.outputs import Alerts, OutputQueue
from dgrec.recorder.sources import FileSource, FrameSource, LiveSource, open_source, parse_source
from dgrec.recorder.stream import Stream
from tests.recorder.doubles import PysdkDouble, new_stream
from tests.recorder.kept import DETECTION, digest_of

__all__ = ["Alerted", "check", "pictures", "record_alerted"]


@dataclass
class Alerted:
    """What a recording went through, seen beside it."""

    stream: Stream
    rows: list[Row] = field(default_factory=list)
    #: The digest of each picture that was inferred, by the number of its frame in the source.
    seen: dict[int, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    metadata: Metadata = field(default_factory=dict)

    def spans_us(self) -> list[tuple[int, int | None]]:
        """When each alert fired, and when it was over."""
        spans: dict[str, list[tuple[int, int | None]]] = {}
        for event in self.events:
            of_rule = spans.setdefault(event["text"], [])
            at_us = utc_ns(datetime.fromisoformat(event["at"])) // 1000
            if event["kind"] == "alert":
                of_rule.append((at_us, None))
            else:
                of_rule[-1] = (of_rule[-1][0], at_us)
        return [span for of_rule in spans.values() for span in of_rule]

    def wanted(self, before_s: float, after_s: float) -> list[list[Row]]:
        """Return for each alert the rows that must be there, from the definition."""
        return [
            [
                row
                for row in self.rows
                if row.completed_ns // 1000 >= fired_us - round(before_s * 1e6)
                and (over_us is None or row.completed_ns // 1000 <= over_us + round(after_s * 1e6))
            ]
            for fired_us, over_us in self.spans_us()
        ]


def record_alerted(
    source: Path | str | FrameSource,
    output: Path,
    found: Callable[[int], bool],
    *,
    rules: Sequence[str] = ("seen=count() > 0",),
    video: str = "raw",
    keeps: bool = True,
    loop: bool = False,
    every: int = 1,
    max_frames: int | None = None,
    watch: Callable[[int, Stream], None] = lambda count, stream: None,
    pause_s: float = 0.0,
    clock: Clock | None = None,
    **choices: Any,
) -> Alerted:
    """Record a source through real PySDK results of which ``found(index)`` says what is in them.

    Args:
        keeps: Whether the source's packets are kept.
        pause_s: How long each row takes.
        watch: Called after each row.
    """
    clock = clock or Clock()
    packets = None
    if isinstance(source, Path | str):
        parsed = parse_source(str(source))

        def opened() -> Any:
            reader = open_source(parsed, stall_timeout_s=5.0)
            if keeps:
                reader.keep_packets()
            return reader

        reader = open_source(parsed, stall_timeout_s=5.0)
        packets = reader.keep_packets() if keeps else None
        assert (packets is not None) is keeps
        if reader.has_end:
            source = FileSource(reader, clock, reopen=opened, loop=loop)
        else:
            source = LiveSource(reader, parsed, clock, reopen=opened)
    capture = Capture(source, decimator=Decimator(every=every), max_frames=max_frames)
    model = PysdkDouble("Detection", lambda index: [dict(DETECTION)] if found(index) else [])

    def note(event: Event) -> None:
        alerted.events.append(event)
        alerted.stream.recorder.note(event)

    def take(row: Row, result: Any) -> None:
        alerted.rows.append(row)
        alerted.seen[row.source_frame] = digest_of(result.image)
        watch(len(alerted.rows), alerted.stream)
        time.sleep(pause_s)

    alerts = Alerts([parse_rule(rule) for rule in rules], note, clock, lambda line: None)
    policy = choices.get("policy", "block")
    stream = new_stream(
        model,
        capture,
        output,
        model.describe(),
        clock=clock,
        watchers=(take,),
        packets=packets,
        outputs=[OutputQueue(alerts, policy)],
        only_on_alert=True,
        video=video,
        **choices,
    )
    alerted = Alerted(stream)
    try:
        alerted.metadata = stream.run()
    finally:
        capture.release()
    return alerted


def check(alerted: Alerted, output: Path, before: float, after: float) -> list[list[int]]:
    """Check a recording against what it went through; return the source frames of each part.

    Every frame of every span is there, the first of each at or before the time that was asked for
    (unless the recording began later), no row is there twice, and all counts are true.
    """
    rows = {row.source_frame: row for row in alerted.rows}
    parts = []
    with dgrec.open(output) as session:
        kept = [session.row(at)["source_frame"] for at in range(len(session))]
        numbers = [session.row(at)["frame"] for at in range(len(session))]
        totals = session.metadata["totals"]
        skipped = sum(session.row(at)["skipped_before"] for at in range(len(session)))
        for part in session.parts:
            first = part.first_frame - session.parts[0].first_frame
            parts.append(kept[first : first + part.rows])
    assert numbers == list(range(len(kept)))
    assert kept == sorted({*kept})
    all_frames = list(rows)
    for wanted, (fired_us, _) in zip(
        alerted.wanted(before, after), alerted.spans_us(), strict=True
    ):
        needed = [row.source_frame for row in wanted]
        assert {*needed} <= {*kept}
        asked_us = fired_us - round(before * 1e6)
        # A moment may be in several parts: what comes before it may end the part before.
        at = all_frames.index(needed[0] if needed else parts[0][0])
        is_there = at > 0 and all_frames[at - 1] in kept
        first = rows[all_frames[at - 1 if is_there else at]]
        assert first.completed_ns // 1000 <= asked_us or first.source_frame == all_frames[0]
    for part in parts:  # nothing is missing within a moment
        if part:
            at = all_frames.index(part[0])
            assert part == all_frames[at : at + len(part)]
    after = totals.get("skipped_after", 0)
    assert totals["frames"] == len(kept)
    assert totals["skipped"] == skipped
    assert totals["dropped_writer"] == 0
    assert len(kept) + skipped + after == totals["source_frames"]
    assert totals["source_frames"] == alerted.stream.capture.counts.read
    return parts


def pictures(output: Path, read: Callable[[Any], Any] = digest_of) -> dict[int, Any]:
    """Return what ``read`` says of each row's picture, by the frame's number in the source."""
    found: dict[int, Any] = {}
    with dgrec.open(output) as session:
        footage = find_recorded(session)[0]
        assert footage is not None
        with Pixels(footage) as pixels:
            for at in range(len(session)):
                row = session.row(at)
                image = pixels.frame(row)
                found[row["source_frame"]] = None if image is None else read(image)
    return found

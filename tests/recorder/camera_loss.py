"""A recording whose camera is killed and started again, and what has to hold afterwards."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dgrec
from dgrec.clock import Clock
from dgrec.format import Metadata
from dgrec.recorder.capture import Capture
from dgrec.recorder.sources import LiveSource, open_source, parse_source
from tests.recorder.doubles import new_stream
from tests.recorder.network_camera import MjpegCamera, frame_number

#: Each start of the camera counts from the next multiple of this.
EPOCH = 1000
_PATIENCE_S = 60.0


@dataclass
class Story:
    """What became of a recording."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # read from the pixels, one for each row
    events: list[dict[str, Any]] = field(default_factory=list)
    metadata: Metadata = field(default_factory=dict)

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == "gap"]

    def problems(self, *, is_exact: bool = True) -> list[str]:
        """Return one line for each frame or stamp that is not explained."""
        return problems(self.rows, self.numbers, self.gaps, is_exact=is_exact)


def problems(
    rows: list[dict[str, Any]],
    numbers: list[int],
    gaps: list[dict[str, Any]],
    *,
    is_exact: bool = True,
) -> list[str]:
    """Return what is wrong with rows whose pictures carried ``numbers``.

    Between two rows as many numbers may be missing as frames were counted as lost there; across a
    gap the camera was another, and only the order has to hold.

    Args:
        is_exact: Whether all that the camera lost is known. From the stamps of a busy camera it is
            estimated, rather too few than too many.
    """
    found = []
    if len(rows) != len(numbers):
        found.append(f"{len(numbers)} results, but {len(rows)} rows")
    starts = [gap["source_frame"] for gap in gaps if gap["back"]]
    pairs = itertools.pairwise(zip(rows, numbers, strict=False))
    for index, ((before, old), (after, new)) in enumerate(pairs, start=1):
        crossed = sum(before["source_frame"] < at <= after["source_frame"] for at in starts)
        lost = after["dropped_camera"] + after["dropped_queue"] + after["dropped_writer"]
        if new <= old:
            found.append(f"row {index}: picture {new} after picture {old}")
        missing = new - old - 1
        if not crossed and (missing != lost if is_exact else missing < lost):
            found.append(f"row {index}: {missing} pictures missing, {lost} counted")
        if after["source_frame"] - before["source_frame"] != 1 + after["dropped_queue"]:
            found.append(f"row {index}: source_frame jumps to {after['source_frame']}")
    for stamp in ("captured_at", "completed_at", "media_time_s"):
        stamps = [row[stamp] for row in rows if row[stamp] is not None]
        back = sum(after < before for before, after in itertools.pairwise(stamps))
        if back:
            found.append(f"{stamp} steps back {back} times")
    found += [f"a gap without a reason: {gap}" for gap in gaps if not gap["reason"]]
    return found


def run(
    camera: MjpegCamera,
    losses: int,
    output: Path,
    model: Any,
    described: Metadata,
    *,
    frames_between: int = 20,
    down_s: float = 0.3,
) -> Story:
    """Record ``camera``, which is killed and started again ``losses`` times, all in one session."""
    story = Story()
    source = parse_source(camera.url)
    clock = Clock()
    live = LiveSource(
        open_source(source, stall_timeout_s=3),
        source,
        clock,
        reopen=lambda: open_source(source, stall_timeout_s=3),
        stall_timeout_s=3,
    )
    capture = Capture(live)
    failures: list[str] = []

    def note(row: Any, result: Any) -> None:
        story.numbers.append(frame_number(result.image))

    def lose() -> None:
        for epoch in range(losses + 1):
            due = time.monotonic() + _PATIENCE_S
            while sum(number // EPOCH == epoch for number in list(story.numbers)) < frames_between:
                if time.monotonic() > due:
                    failures.append(f"no frames after start {epoch + 1}; {live.take_events()}")
                    capture.stop()
                    return
                time.sleep(0.05)
            if epoch < losses:
                camera.kill()
                time.sleep(down_s)
                camera.start((epoch + 1) * EPOCH)
        capture.stop()

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    try:
        new_stream(model, capture, output, described, clock=clock, watchers=(note,)).run()
    finally:
        thread.join(_PATIENCE_S)
        capture.release()
    assert not failures, failures
    with dgrec.open(output) as session:
        story.rows = session.frames.to_pylist()
        story.metadata = session.metadata
        story.events = session.metadata.get("events", [])
    return story

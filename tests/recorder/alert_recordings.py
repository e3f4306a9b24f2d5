"""Recordings with alerts, and the comparison of their clips to what the model saw."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dgrec
from dgrec.alerts import RecordedAlert, parse_rules, recorded_alerts
from dgrec.clock import Clock
from dgrec.footage import Pixels, find_recorded
from dgrec.recorder.alerting import Alerting
from dgrec.recorder.capture import Capture
from dgrec.recorder.options import Splitting
from dgrec.recorder.outputs import OutputQueue
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import FileSource, open_source, parse_source
from tests.recorder.doubles import PysdkDouble, new_stream, options_of
from tests.recorder.kept import DETECTION, digest_of

__all__ = ["AFTER_S", "BEFORE_S", "Recorded", "record_alerts"]

BEFORE_S, AFTER_S = 0.2, 0.15
RULE = "seen=count('person') > 0"


@dataclass
class Recorded:
    """A recording, and what the model saw."""

    path: Path
    #: The digest of each frame as the model saw it.
    seen: dict[int, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    alerting: Alerting | None = None
    writer: SessionWriter | None = None

    def clips(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.stem}.alert-*.parquet"))

    def alerts(self) -> list[RecordedAlert]:
        with dgrec.open(self.path) as session:
            return recorded_alerts(session.metadata["events"])

    def assert_clip(self, path: Path, alert: RecordedAlert, *, is_exact: bool = True) -> None:
        """Check that a clip has its moment's rows, each with its own picture."""
        first_us = alert.fired_us - round(BEFORE_S * 1e6)
        last_us = None if alert.ended_us is None else alert.ended_us + round(AFTER_S * 1e6)
        with dgrec.open(self.path) as session:
            rows = [session.row(place) for place in range(len(session))]
            recorded = _pictures(session)
        wanted = [
            row["frame"]
            for row in rows
            if _us(row["completed_at"]) >= first_us
            and (last_us is None or _us(row["captured_at"]) <= last_us)
        ]
        before = [row["frame"] for row in rows if _us(row["completed_at"]) <= first_us]
        with dgrec.open(path) as clip:
            assert clip.damage == []
            # Parts in between may have been removed.
            numbers = [
                number
                for item in clip.metadata["clip"]["ranges"]
                for number in range(item["from_frame"], item["from_frame"] + item["frames"])
            ]
            assert len(numbers) == len(clip)
            start = numbers[0]
            assert set(wanted) <= set(numbers)
            assert start <= (before or wanted)[-1 if before else 0]
            assert numbers[-1] == wanted[-1]
            assert clip.metadata["clip"]["alert"]["name"] == alert.name
            by_frame = {row["frame"]: row for row in rows}
            shown = _pictures(clip)
            for place, number in enumerate(numbers):
                row, old = clip.row(place), by_frame[number]
                same = ("source_frame", "captured_at", "completed_at", "pixel_digest", "detections")
                assert [row[name] for name in same] == [old[name] for name in same]
                if old["video_frame"] is None:
                    assert row["video_frame"] is None
                    continue
                assert shown[place] is not None
                assert shown[place] == (self.seen[number] if is_exact else recorded[number])
            video = clip.metadata["video"][0]
            if is_exact:
                assert video["packets"] == "kept"


def _us(stamp: Any) -> int:
    return round(stamp.timestamp() * 1e6)


def _pictures(session: dgrec.Session) -> dict[int, str | None]:
    """Return the digest of each row's picture in the recorded video, by its number."""
    footage, lacking = find_recorded(session)
    assert footage is not None, lacking
    found: dict[int, str | None] = {}
    with Pixels(footage) as pixels:
        for place in range(len(session)):
            row = session.row(place)
            image = pixels.frame(row)
            found[row["frame"]] = None if image is None else digest_of(image)
    return found


def record_alerts(
    source: Path,
    output: Path,
    *,
    on: Callable[[int], bool],
    frames: int,
    watch: Callable[[int, Recorded], None] = lambda count, recorded: None,
    cuts: bool = False,
    keeps: bool = True,
    rules: Collection[str] = (RULE,),
    splitting: Splitting | None = None,
    **choices: Any,
) -> Recorded:
    """Record a file, again and again, with a person in the frames that ``on`` says.

    Args:
        watch: Called after each row, with how many there are.
        cuts: Whether clips are cut while recording.
        keeps: Whether packets are kept; otherwise pictures are encoded.
    """
    recorded = Recorded(output)
    clock = Clock()
    parsed = parse_source(str(source))

    def opened() -> Any:
        reader = open_source(parsed)
        if keeps:
            reader.keep_packets()
        return reader

    reader = open_source(parsed)
    packets = reader.keep_packets() if keeps else None
    capture = Capture(FileSource(reader, clock, reopen=opened, loop=True), max_frames=frames)
    splitting = splitting or Splitting()
    choices |= {"clip_on_alert": cuts, "before": BEFORE_S, "after": AFTER_S, "video": "raw"}
    options = options_of(splitting, **choices)
    writers: list[SessionWriter] = []
    recorded.alerting = alerting = Alerting.of(
        parse_rules(tuple(rules)),
        "",
        options,
        output,
        writer=lambda: writers[0],
        clock=clock,
        say=recorded.said.append,
    )

    def note(row: Any, result: Any) -> None:
        recorded.seen[len(recorded.seen)] = digest_of(result.image)
        watch(len(recorded.seen), recorded)

    model = PysdkDouble("Detection", lambda index: [dict(DETECTION)] if on(index) else [])
    stream = new_stream(
        model,
        capture,
        output,
        model.describe(),
        clock=clock,
        watchers=(note,),
        packets=packets,
        outputs=[OutputQueue(each, "block") for each in alerting.outputs],
        moments=alerting.moments,
        splitting=splitting,
        **choices,
    )
    writers.append(stream.recorder)
    recorded.writer = stream.recorder
    stream.run()
    capture.release()
    return recorded

"""Recordings of kept packets, and the comparison of their pictures to what the model saw."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import dgrec
from dgrec.clock import Clock
from dgrec.footage import Pixels, find_footage, find_recorded
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.sources import FileSource, LiveSource, open_source, parse_source
from tests.recorder.doubles import PysdkDouble, new_stream

__all__ = ["DETECTION", "KILLED", "digest_of", "differing", "record_kept"]

#: A program that records SOURCE to OUTPUT and kills itself at row COUNT; it prints digests.
KILLED = """
import os, signal, sys, time
from pathlib import Path
from tests.recorder import kept

digest = kept.digest_of
def digest_of(image):
    found = digest(image)
    print(found, flush=True)
    return found
kept.digest_of = digest_of
def watch(count):
    time.sleep(0.008)
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
kept.record_kept(Path(sys.argv[1]), Path(sys.argv[2]), watch=watch, loop=True, every=2)
"""

DETECTION = {"bbox": [1.0, 2.0, 9.0, 9.0], "category_id": 0, "label": "person", "score": 0.5}


def digest_of(image: np.ndarray[Any, Any]) -> str:
    return hashlib.md5(np.ascontiguousarray(image)).hexdigest()


def record_kept(
    source: Path | str,
    output: Path,
    *,
    every: int = 1,
    loop: bool = False,
    watch: Callable[[int], None] = lambda count: None,
    max_frames: int | None = None,
    video: str = "raw",
    keeps: bool = True,
    digests: bool = True,
    notes: list[str] | None = None,
    **choices: Any,
) -> dict[int, str]:
    """Record a source with its packets; return the digest of each frame as the model saw it.

    Args:
        watch: Called after each row, with how many there are.
        keeps: Whether packets are kept; otherwise pictures are encoded.
        notes: Gets the recording's notes for the user.
    """
    seen: dict[int, str] = {}
    clock = Clock()
    parsed = parse_source(str(source))

    def opened() -> Any:
        reader = open_source(parsed, stall_timeout_s=choices.get("stall_timeout", 10.0))
        if keeps:
            reader.keep_packets()
        return reader

    reader = open_source(parsed, stall_timeout_s=choices.get("stall_timeout", 10.0))
    packets = reader.keep_packets() if keeps else None
    assert (packets is not None) is keeps
    frames: Any
    if reader.has_end:
        frames = FileSource(reader, clock, reopen=opened, loop=loop)
    else:
        frames = LiveSource(reader, parsed, clock, reopen=opened)
    capture = Capture(frames, decimator=Decimator(every=every), max_frames=max_frames)

    def note(row: Any, result: Any) -> None:
        seen[len(seen)] = digest_of(result.image) if digests else ""
        watch(len(seen))

    model = PysdkDouble("Detection", lambda index: [dict(DETECTION)])
    stream = new_stream(
        model,
        capture,
        output,
        model.describe(),
        clock=clock,
        watchers=(note,),
        packets=packets,
        video=video,
        **choices,
    )
    stream.run()
    capture.release()
    if notes is not None:
        notes += stream.notes
    return seen


def differing(
    session: dgrec.Session,
    seen: dict[int, str],
    video: Path | None = None,
    order: Iterable[int] | None = None,
) -> tuple[int, int]:
    """Return how many rows have other pixels than were seen, and how many have none.

    The source is there too: ``video``, or else the videos of the parts, are read.
    """
    other = without = 0
    footage = find_recorded(session)[0] if video is None else find_footage(session, video)
    assert footage is not None
    with Pixels(footage) as pixels:
        for row in range(len(session)) if order is None else order:
            facts = session.row(row)
            image = pixels.frame(facts)
            if image is None:
                without += 1
            elif digest_of(image) != seen[facts["frame"]]:
                other += 1
    return other, without

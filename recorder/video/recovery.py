"""Recovers the videos of a journal that lost its recorder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.errors import VideoError
from dgrec.footage import base_name, recorded_video
from dgrec.format import Journal, VideoEntry, utc_text, video_entries
from dgrec.recorder.video.mp4 import digest, drop_torn_end, frame_size, frame_stamps
from dgrec.timeline import shown_us
from dgrec.units import counted

#: Stamps agree to the microsecond, except that equal ones were moved apart by one.
_SAME_US = 1000
#: Less in a video of kept packets, whose pictures may be closer together than that.
_SAME_KEPT_US = 5
#: The problem of a video that ends before the rows do.
_CUT_OFF = "its recorder was cut off"


@dataclass
class RecoveredVideos:
    """The metadata's ``video``, and lines for the user."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recover_videos(journal: Journal) -> RecoveredVideos | None:
    """Complete the entries for the videos of ``journal``; None if there is nothing to do.

    A torn end is cut off. A file whose frames do not have the stamps of the rows is another video:
    it is left out of the metadata, and not changed.

    Raises:
        OSError: A video cannot be read or cut.
    """
    named = video_entries(journal.metadata)
    if not named:
        return None
    numbers, captured = _rows(journal)
    if journal.closing is not None and "video" in journal.closing:
        return None
    found = RecoveredVideos()
    for entry in named:
        _recover(journal, entry, numbers, captured, found)
    return found


def _rows(journal: Journal) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the video frame and the stamp in microseconds of each row that has one."""
    numbers, captured = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in journal.batches():
        if "video_frame" not in batch.schema.names:
            continue
        with_frame = batch.filter(batch.column("video_frame").is_valid())
        for name, values in (("video_frame", numbers), ("captured_at", captured)):
            column = with_frame.column(name).cast(pa.int64())
            values.append(column.to_numpy(zero_copy_only=False))
    return np.concatenate(numbers), np.concatenate(captured)


def _recover(
    journal: Journal,
    entry: VideoEntry,
    numbers: np.ndarray[Any, Any],
    captured: np.ndarray[Any, Any],
    found: RecoveredVideos,
) -> None:
    path = recorded_video(journal.path.parent, entry)
    if path is None:
        if len(numbers):
            missing = journal.path.with_name(base_name(entry.get("file")) or "its video")
            found.notes.append(f"{missing}: is missing")
        return
    try:
        is_kept = entry.get("packets") == "kept"
        beginning = _kept_beginning if is_kept else _beginning
        if beginning(frame_stamps(path), numbers, captured) is None:
            found.notes.append(f"{path}: is not the video of this recording; left out")
            return
        drop_torn_end(path)
        stamps = frame_stamps(path)
        begun_us = beginning(stamps, numbers, captured)
        width, height = frame_size(path)
    except VideoError:  # the recorder was killed before the first fragment was complete
        found.notes.append(f"{path}: nothing in it can be played; left out")
        return
    if begun_us is None:
        found.notes.append(f"{path}: no frame of it can be read")
        return
    if is_kept:
        stamps = stamps[: _whole_until(stamps, numbers, captured - begun_us)]
        begun_us += stamps[0]
    completed = {
        **entry,
        "width": width,
        "height": height,
        "frames": len(stamps),
        "started_at": utc_text(begun_us * 1000),
        "size": path.stat().st_size,
        "sha256": digest(path),
    }
    without = int((numbers >= len(stamps)).sum())
    if without:
        completed["problem"] = _CUT_OFF
    found.entries.append(completed)
    rest = f"; {counted(without, 'row', 'has', 'have')} no picture" if without else ""
    found.notes.append(f"{path}: {counted(len(stamps), 'frame')}{rest}")


def _beginning(
    stamps: list[int], numbers: np.ndarray[Any, Any], captured: np.ndarray[Any, Any]
) -> int | None:
    """Return when frame 0 was captured, in microseconds of UTC; None if rows and video differ."""
    there = numbers < len(stamps)
    if not there.any():
        return None
    begun = shown_us(captured)[there] - np.array(stamps)[numbers[there]]
    return int(begun[0]) if np.ptp(begun) < _SAME_US else None


def _kept_beginning(
    stamps: list[int], numbers: np.ndarray[Any, Any], captured: np.ndarray[Any, Any]
) -> int | None:
    """Return the same for a video of kept packets.

    If its end is torn, pictures that are shown before its last ones are missing, so that the last
    ones have too low numbers.
    """
    there = numbers < len(stamps)
    if not there.any():
        return None
    begun = captured[there] - np.array(stamps)[numbers[there]]
    usual = int(np.median(begun))
    is_same = np.abs(begun - usual) < _SAME_KEPT_US
    return int(begun[is_same][0]) if is_same.any() and is_same[0] else None


def _whole_until(
    stamps: list[int], numbers: np.ndarray[Any, Any], times: np.ndarray[Any, Any]
) -> int:
    """Return the number before which all pictures that the rows name are there."""
    there = numbers < len(stamps)
    differs = np.abs(times[there] - np.array(stamps)[numbers[there]]) >= _SAME_KEPT_US
    return int(numbers[there][differs].min()) if differs.any() else len(stamps)

"""Begin and end of each stage of a frame, for time lines of other tools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dgrec.format import STAGE_KEYS

if TYPE_CHECKING:
    from dgrec.replay.exports.block import Frame
    from dgrec.replay.exports.exported import Exported

#: The columns of frames that the stages need.
STAGE_COLUMNS = (
    "read_ms",
    *STAGE_KEYS,
    "recorder_ms",
    "published_ms",
    "dropped_before",
    "skipped_before",
)
#: The numbers of a frame that are shown over time.
METRICS = ("latency_ms", *STAGE_COLUMNS)
#: An hour; longer stages are ignored.
_LONGEST_MS = 3_600_000.0
#: The years from 1970 to 2262, in microseconds: what fits nanoseconds in 63 bits.
_LAST_US = 2**63 // 1000


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of time, in nanoseconds since 1970."""

    name: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """The times at which a frame was read, inferred and recorded.

    Only the durations of the stages of inference are known. They are shown one after the other,
    the last one ending when the result came.
    """

    frame: Frame
    #: From captured to completed.
    whole: Slice
    read: Slice | None
    stages: tuple[Slice, ...]
    recorder: Slice | None
    #: From the result until the slowest target had taken the frame.
    publishing: Slice | None


def frames_with_times(exported: Exported) -> Iterator[FrameTimes]:
    """Yield the frames that have times; the others are counted as a loss."""
    for frame in exported.frames():
        times = _frame_times(frame)
        if times is None:
            exported.leave_out_frames("without possible times", 1, len(frame.detections))
        else:
            yield times


def _frame_times(frame: Frame) -> FrameTimes | None:
    """Return the times of a frame's stages; None if its stamps are missing or impossible."""
    row = frame.row
    captured, completed = row["captured_at"], row["completed_at"]
    if captured is None or completed is None or not 0 < captured <= completed < _LAST_US:
        return None
    start, end = captured * 1000, completed * 1000
    stages: list[Slice] = []
    until = end
    for name in ("postprocess", "inference", "preprocess"):
        duration = _nanoseconds(row[f"{name}_ms"])
        if duration is not None:
            begin = max(start, until - duration)
            stages.insert(0, Slice(name, begin, until))
            until = begin
    read, recorder, published = (
        _nanoseconds(row[name]) for name in ("read_ms", "recorder_ms", "published_ms")
    )
    return FrameTimes(
        frame,
        Slice(f"frame {frame.number}", start, end),
        None if not read or read > start else Slice("read", start - read, start),
        tuple(stages),
        None if not recorder else Slice("recorder", end, end + recorder),
        None
        if not published or start + published <= end
        else Slice("publishing", end, start + published),
    )


def _nanoseconds(duration_ms: Any) -> int | None:
    # A comparison with NaN is false.
    if duration_ms is None or not 0 <= duration_ms <= _LONGEST_MS:
        return None
    nanoseconds: int = round(duration_ms * 1e6)
    return nanoseconds

"""The recorded frames of a session that stands in for a model, by position."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgrec.errors import DamagedSessionError
from dgrec.format import DecodeError, RestoredFrame, restore, utc_ns
from dgrec.session import Session

__all__ = ["Frames", "RecordedFrame", "empty_frame"]


@dataclass(slots=True)
class RecordedFrame:
    """What the model gave for a frame, and when."""

    restored: RestoredFrame
    #: When the result came out, in nanoseconds since 1970; None if unknown.
    completed_ns: int | None
    latency_ms: float | None


class Frames:
    """The frames of a session; several threads may ask for them."""

    def __init__(self, path: Path) -> None:
        self.session = Session(path)
        self.metadata = self.session.metadata
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.session)

    def at(self, position: int) -> RecordedFrame:
        """Return the frame at a position, with values of its own, which may be changed.

        Raises:
            DamagedSessionError: The row does not hold what dgrec writes.
        """
        with self._lock:
            row: dict[str, Any] = self.session.row(position)
        try:
            restored = restore(row)
        except DecodeError as error:
            raise DamagedSessionError(
                f"{self.session.path}: damaged: frame {row['frame']}: {error}"
            ) from None
        stamp = row["completed_at"] or row["captured_at"]
        return RecordedFrame(
            restored, None if stamp is None else utc_ns(stamp), row.get("latency_ms")
        )


def empty_frame() -> RecordedFrame:
    """Return a frame of which nothing was recorded."""
    return RecordedFrame(RestoredFrame([], {}, "", {}), None, None)

"""The end of a recording: its reason, and what its source counted until then."""

from __future__ import annotations

from dataclasses import dataclass, field

from dgrec.errors import DgrecError, StorageError


@dataclass(kw_only=True)
class SourceCounts:
    """The number of frames that a source gave, and of those that were left out and lost."""

    read: int = 0
    skipped: int = 0
    dropped_camera: int = 0
    dropped_queue: int = 0

    @property
    def dropped(self) -> int:
        return self.dropped_camera + self.dropped_queue

    def totals(self, results: int, left_out: int, dropped_writer: int) -> dict[str, int]:
        """Return the counts for the metadata's ``totals``.

        Args:
            results: How many results came.
            left_out: How many of their rows were left out on purpose.
        """
        return {
            "source_frames": max(self.read, results),
            "skipped": self.skipped + left_out,
            "dropped": self.dropped + dropped_writer,
            "dropped_camera": self.dropped_camera,
            "dropped_queue": self.dropped_queue,
            "dropped_writer": dropped_writer,
        }


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The end of a recording, and its reason.

    Args:
        reason: The ``end_reason`` of docs/format.md.
        detail: More about the reason.
        failure: The error that ended it early.
        counts: The counts of the source, whose last frames may have no row.
    """

    reason: str = "finished"
    detail: str = ""
    failure: DgrecError | None = None
    counts: SourceCounts = field(default_factory=SourceCounts)

    @classmethod
    def after(cls, error: BaseException) -> Ending:
        """Return the ending of a recording whose program raised ``error``."""
        if not isinstance(error, Exception):  # Ctrl-C, or the end of the program
            return cls(reason="interrupted")
        return cls(reason="failed", detail=f"{type(error).__name__}: {error}")

    @property
    def recorded_reason(self) -> str:
        """The reason in the metadata, which has one of its own for a full disk."""
        if isinstance(self.failure, StorageError):
            return "disk_full" if self.failure.is_full else "failed"
        return self.reason

    @property
    def recorded_detail(self) -> str:
        return self.detail if self.failure is None else str(self.failure)

"""The definition of a rate, for rows in memory; in SQL it is ``rate`` (docs/sql.md)."""

from __future__ import annotations

from collections import deque

__all__ = ["RecentRate", "exact_rate_text", "frame_rate", "rate_text"]


def frame_rate(steps: float, captured_s: float, completed_s: float) -> float | None:
    """Return frames per second: steps from one frame to the next, over the longer of two times.

    Args:
        captured_s: The time over which the frames were captured. With it, the rate is never more
            than that of the source, however late the first result came.
        completed_s: The time over which their results came.
    """
    longer = max(captured_s, completed_s)
    return steps / longer if longer > 0 else None


def rate_text(fps: float | None) -> str:
    """Return a rate for people: with one decimal, or with three digits if it is small."""
    if fps is None:
        return "-"
    return f"{fps:,.1f}" if fps >= 10 or fps == 0 else f"{fps:.2f}" if fps >= 1 else f"{fps:.3g}"


def exact_rate_text(value: float | None) -> str:
    """Return a rate for tables: with three decimals, or with three digits if it is small."""
    if value is None:
        return "-"
    return f"{value:,.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


class RecentRate:
    """The rate of the last seconds of a stream of rows, like SQL's `throughput` of a window.

    It goes down while no row comes. All times are seconds of the same clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: When the frames of the last seconds were captured and completed.
        self._rows: deque[tuple[float, float]] = deque()
        self._first_result_s: float | None = None
        #: When the last frame before those was captured.
        self._captured_before_s = 0.0

    def add(self, captured_s: float, completed_s: float) -> None:
        if self._first_result_s is None:
            self._first_result_s = completed_s
        self._rows.append((captured_s, completed_s))
        self._forget(completed_s)

    def fps(self, now_s: float) -> float:
        """Return the frames per second of the last seconds before ``now_s``."""
        first = self._first_result_s
        since = now_s - self._seconds
        rows = list(self._rows)
        before_s = self._captured_before_s
        while rows and rows[0][1] <= since:
            before_s = rows.pop(0)[0]
        if first is None or not rows:
            return 0.0
        # No step ends at the very first result.
        steps = len(rows) - 1 if first > since else len(rows)
        if len(rows) > 1:
            captured_s = (rows[-1][0] - rows[0][0]) / (len(rows) - 1) * steps
        else:
            captured_s = (rows[0][0] - before_s) * steps
        return frame_rate(steps, captured_s, now_s - max(since, first)) or 0.0

    def _forget(self, now_s: float) -> None:
        while self._rows[0][1] <= now_s - self._seconds:
            self._captured_before_s, _ = self._rows.popleft()

"""The one definition of a rate, for rows in memory. SQL has it as ``rate`` (docs/sql.md)."""

from __future__ import annotations

from collections import deque

__all__ = ["RecentRate", "exact_rate_text", "frame_rate", "rate_text"]


def frame_rate(steps: float, captured_s: float, completed_s: float) -> float | None:
    """Return frames a second: steps from one frame to the next, over the time that they took.

    Args:
        captured_s: The time over which these frames were captured: the rate is then never more
            than what the source sent, however late the first result came out.
        completed_s: The time over which their results came out.
    """
    longer = max(captured_s, completed_s)
    return steps / longer if longer > 0 else None


def rate_text(fps: float | None) -> str:
    """Return a rate as a person reads it: one decimal, or three digits where that is too coarse."""
    if fps is None:
        return "-"
    return f"{fps:,.1f}" if fps >= 10 or fps == 0 else f"{fps:.2f}" if fps >= 1 else f"{fps:.3g}"


def exact_rate_text(value: float | None) -> str:
    """Return a rate as tables have it: three decimals, or three digits where these begin later."""
    if value is None:
        return "-"
    return f"{value:,.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


class RecentRate:
    """The rate of the last seconds of a stream of rows, as `throughput` in SQL has it of a window.

    While nothing comes it goes down. Times are seconds of any clock, the same for all of them.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: When the frames of the last seconds were captured and completed.
        self._rows: deque[tuple[float, float]] = deque()
        self._first_result_s: float | None = None
        #: When the last frame was captured that is not in there any more.
        self._captured_before_s = 0.0

    def add(self, captured_s: float, completed_s: float) -> None:
        if self._first_result_s is None:
            self._first_result_s = completed_s
        self._rows.append((captured_s, completed_s))
        self._forget(completed_s)

    def fps(self, now_s: float) -> float:
        """Return frames a second over the last seconds before ``now_s``."""
        first = self._first_result_s
        since = now_s - self._seconds
        rows = list(self._rows)
        before_s = self._captured_before_s
        while rows and rows[0][1] <= since:
            before_s = rows.pop(0)[0]
        if first is None or not rows:
            return 0.0
        # The first result of all ends no step.
        steps = len(rows) - 1 if first > since else len(rows)
        if len(rows) > 1:
            captured_s = (rows[-1][0] - rows[0][0]) / (len(rows) - 1) * steps
        else:
            captured_s = (rows[0][0] - before_s) * steps
        return frame_rate(steps, captured_s, now_s - max(since, first)) or 0.0

    def _forget(self, now_s: float) -> None:
        while self._rows[0][1] <= now_s - self._seconds:
            self._captured_before_s, _ = self._rows.popleft()

"""The figures of a running recording."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from dgrec.rates import RecentRate, frame_rate

#: How many of the last seconds the current rate covers.
RECENT_S = 10.0


@dataclass
class Progress:
    """Counts of a running recording. Latencies are in milliseconds."""

    frames: int = 0
    detections: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=1024))
    #: How often a live source was lost, and for how many seconds in total.
    gaps: int = 0
    gap_s: float = 0.0
    #: Pictures of the source that could not be decoded.
    damaged: int = 0

    def __post_init__(self) -> None:
        self._recent = RecentRate(RECENT_S)
        #: (captured, completed) of the first and the last frame.
        self._first_ns = self._last_ns = (0, 0)

    def add(
        self, captured_ns: int, completed_ns: int, detections: int, *, has_latency: bool = True
    ) -> None:
        self._last_ns = captured_ns, completed_ns
        if not self.frames:
            self._first_ns = self._last_ns
        self.frames += 1
        self.detections += detections
        if has_latency:
            self.latencies.append((completed_ns - captured_ns) / 1e6)
        self._recent.add(captured_ns / 1e9, completed_ns / 1e9)

    def recent_fps(self, now_ns: int) -> float:
        """Return the frames per second of the last `RECENT_S` seconds."""
        return self._recent.fps(now_ns / 1e9)

    def fps(self) -> float | None:
        """Return the frames per second of the whole recording; None below two frames."""
        captured, completed = (
            (last - first) / 1e9 for first, last in zip(self._first_ns, self._last_ns, strict=True)
        )
        return frame_rate(self.frames - 1, captured, completed)

    def latency(self) -> tuple[float, float]:
        """Return p50 and p95 over the last 1,024 frames, in milliseconds."""
        values = list(self.latencies)
        if not values:
            return 0.0, 0.0
        p50, p95 = np.quantile(values, (0.5, 0.95)).tolist()
        return p50, p95

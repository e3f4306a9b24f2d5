"""Counts values that a format cannot hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from dgrec.units import counted


class Losses:
    """Counts what is lost in an export.

    A loss is a phrase (``"cannot hold angles"``) and the noun that is counted (``"detection"``).
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, what: str, count: int | np.integer[Any] = 1, noun: str = "detection") -> None:
        """Count ``count`` of ``noun`` that are affected."""
        if count:
            self._counts[what, noun] += int(count)

    def update(self, other: Losses) -> None:
        self._counts.update(other._counts)

    def lines(self) -> list[str]:
        """Return one line for each loss.

        Example:
            >>> losses = Losses()
            >>> losses.add("cannot hold angles", 2)
            >>> losses.lines()
            ['cannot hold angles: 2 detections']
        """
        return [f"{what}: {counted(count, noun)}" for (what, noun), count in self._counts.items()]

"""Boxes of neighbouring frames that are related, for many frames at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgrec.comparison.blocks import Floats, Mask
from dgrec.comparison.boxes import NEAR_IOU, FrameBoxes, overlaps

#: Pairs of boxes that are compared at once: some 100 MB.
_MOST_PAIRS = 1_000_000
#: Frames with more detections are not compared.
MOST_BOXES = 500


def most_frames(boxes: int) -> int:
    """Return how many frames with this many boxes go into one block."""
    return max(4, _MOST_PAIRS // max(1, boxes) ** 2)


class Block:
    """Consecutive frames as arrays: frames x the most detections of a frame.

    Args:
        frames: At least one.
        labels: A number for each label; new ones are added.
    """

    def __init__(self, frames: Sequence[FrameBoxes], labels: dict[str | None, int]) -> None:
        widest = max((len(frame.labels) for frame in frames), default=0)
        shape = len(frames), max(widest, 1)
        self.frames = frames
        #: Whether there is a detection, and whether it has a box.
        self.exists: Mask = np.zeros(shape, np.bool_)
        self.labels = np.full(shape, -1, np.int64)
        #: NaN: there is none.
        self.scores: Floats = np.full(shape, np.nan)
        boxes: Floats = np.full((*shape, 4), np.nan)
        for at, frame in enumerate(frames):
            count = len(frame.labels)
            self.exists[at, :count] = True
            self.labels[at, :count] = [
                labels.setdefault(name, len(labels)) for name in frame.labels
            ]
            self.scores[at, :count] = frame.scores
            boxes[at, :count] = frame.boxes
        self.boxed: Mask = ~np.any(np.isnan(boxes), axis=2)
        #: Whether a frame has too many detections to be compared.
        self.is_too_wide = widest > MOST_BOXES
        self._next = self._related(boxes, 1)
        self._after_next = self._related(boxes, 2)

    def partners(self, scores: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the best score of related boxes before, after, and in the frame after the next.

        Args:
            scores: Of each detection; -infinity leaves it out, and fills places without one.
        """
        before, after, later = (np.full(self.exists.shape, -np.inf) for _ in range(3))
        if self.is_too_wide:
            return before, after, later
        if len(self.frames) > 1:
            before[1:] = np.where(self._next, scores[:-1, :, None], -np.inf).max(axis=1)
            after[:-1] = np.where(self._next, scores[1:, None, :], -np.inf).max(axis=2)
        if len(self.frames) > 2:
            later[:-2] = np.where(self._after_next, scores[2:, None, :], -np.inf).max(axis=2)
        return before, after, later

    def _related(self, boxes: Floats, distance: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        one, other = boxes[:-distance], boxes[distance:]
        if self.is_too_wide:
            return np.zeros(0, np.bool_)
        is_same = self.labels[:-distance, :, None] == self.labels[distance:, None, :]
        related: Mask = is_same & (overlaps(one, other) >= NEAR_IOU)
        return related

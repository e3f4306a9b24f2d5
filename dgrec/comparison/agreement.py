"""Agreement of two sessions of the same footage, without ground truth.

BASE stands where ground truth would; `matching` says which detections go together.
Both sides are streamed: memory does not grow with their length.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import numpy as np

from dgrec.comparison.boxes import FrameBoxes, frames_of
from dgrec.comparison.matching import KINDS, FrameMatches, Match, match_frames, paired
from dgrec.session import Session

#: Gets a frame of BASE, the frame of NEW paired with it, and which detections go together.
OnPair = Callable[[FrameBoxes, FrameBoxes, FrameMatches], None]

#: Changed frames that are listed.
_CHANGED_FRAMES: Final = 10


class _Shares:
    """Precision and recall, from counts."""

    base: int
    new: int
    counts: dict[str, int]

    @property
    def precision(self) -> float | None:
        """Share of NEW's detections that BASE has, too; None if NEW has none."""
        return share(self.counts["same"], self.new)

    @property
    def recall(self) -> float | None:
        """Share of BASE's detections that NEW has, too; None if BASE has none."""
        return share(self.counts["same"], self.base)


@dataclass
class LabelAgreement(_Shares):
    """Counts for one label, as BASE gives it, or NEW where the box is NEW's alone."""

    label: str | None
    base: int = 0
    new: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    @property
    def f1(self) -> float:
        return _f1(self.counts["same"], self.base, self.new)


@dataclass(frozen=True, order=True)
class ChangedFrame:
    """A frame in which something differs."""

    #: Detections that are not ``same``, a matched pair counting once.
    changes: int
    #: F1 of this frame.
    f1: float
    source_frame: int
    #: Its position in either session, from 0, as ``--start`` counts.
    base_position: int
    new_position: int
    kinds: tuple[tuple[str, int], ...]


@dataclass
class Agreement(_Shares):
    """Detections of NEW compared with those of BASE, over the frames that both have."""

    #: Frames that both sides inferred.
    frames: int = 0
    only_base_frames: int = 0
    only_new_frames: int = 0
    #: Frames whose detections are all ``same``; not those with results that cannot be compared.
    same_frames: int = 0
    base: int = 0
    new: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    #: Over all pairs with IoU of at least 0.1.
    mean_iou: float | None = None
    #: Score of NEW less that of BASE, over pairs of the same label: mean, and mean of its size.
    score_shift: float | None = None
    score_distance: float | None = None
    #: By label, those with the most detections first.
    labels: list[LabelAgreement] = field(default_factory=list)
    #: (label in BASE, label in NEW, how often), most frequent first.
    flips: list[tuple[str | None, str | None, int]] = field(default_factory=list)
    #: The frames that changed most, most changed first.
    changed: list[ChangedFrame] = field(default_factory=list)
    #: Frames with results that have no boxes (classification): their best label is compared.
    classified: int = 0
    #: Detections that have an angle; their boxes are compared as if they had none.
    rotated: int = 0
    #: Detections with neither box nor label, or too many in one frame (more than 2,000 on both
    #: sides): they are not compared.
    not_compared: int = 0
    #: Detections that have a mask or key points, which are not compared.
    shaped: int = 0

    @property
    def f1(self) -> float | None:
        """F1, the agreement: 1 if nothing changed; None if there was nothing to compare.

        Frames without a detection on either side agree; results that cannot be compared do not.
        """
        if not self.frames or (not self.base + self.new and self.not_compared):
            return None
        return _f1(self.counts["same"], self.base, self.new)


def share(part: int, whole: int) -> float | None:
    """Return ``part`` as a fraction of ``whole``; None if ``whole`` is 0."""
    return part / whole if whole else None


def _f1(same: int, base: int, new: int) -> float:
    return 2 * same / (base + new) if base + new else 1.0


def compare_detections(base: Session, new: Session, on_pair: OnPair | None = None) -> Agreement:
    """Match the detections of two sessions, frame by frame of their source.

    Args:
        on_pair: Gets each pair of frames, in the order of BASE.

    Raises:
        SessionError: Part of a file cannot be read.
    """
    tally = _Tally()
    number = attrgetter("source_frame")
    for a, b in paired(frames_of(base), frames_of(new), number):
        if a is None:
            tally.agreement.only_new_frames += 1
        elif b is None:
            tally.agreement.only_base_frames += 1
        else:
            found = match_frames(a, b)
            tally.add(a, b, found)
            if on_pair is not None:
                on_pair(a, b, found)
    return tally.result()


class _Tally:
    def __init__(self) -> None:
        self.agreement = Agreement()
        self._labels: dict[str | None, LabelAgreement] = {}
        self._flips: Counter[tuple[str | None, str | None]] = Counter()
        self._changed: list[tuple[tuple[int, float, int], ChangedFrame]] = []
        self._ious = _Mean()
        self._shifts = _Mean()
        self._distances = _Mean()

    def add(self, a: FrameBoxes, b: FrameBoxes, found: FrameMatches) -> None:
        agreement = self.agreement
        agreement.frames += 1
        agreement.not_compared += found.not_compared
        if found.is_too_large:
            return
        agreement.rotated += a.rotated + b.rotated
        agreement.shaped += a.shaped + b.shaped
        if found.is_classified:
            agreement.classified += 1
        kinds: Counter[str] = Counter()
        for match in found.matches:
            kinds[match.kind] += 1
            self._add(match, a, b)
        changes = found.changes
        if found.is_same:
            agreement.same_frames += 1
        if not changes:
            return
        frame = ChangedFrame(
            changes,
            _f1(kinds["same"], *found.compared),
            a.source_frame,
            a.position,
            b.position,
            tuple((kind, kinds[kind]) for kind in KINDS if kinds[kind] and kind != "same"),
        )
        # More changes first, then less agreement, then the earlier one.
        item = ((changes, -frame.f1, -a.position), frame)
        if len(self._changed) < _CHANGED_FRAMES:
            heapq.heappush(self._changed, item)
        else:
            heapq.heappushpop(self._changed, item)

    def _add(self, match: Match, a: FrameBoxes, b: FrameBoxes) -> None:
        if match.base is not None and match.new is not None:
            if match.iou is not None:
                self._ious.add(match.iou)
            self._pair(match.kind, a, match.base, b, match.new)
        elif match.base is not None:
            self._alone(match.kind, "base", a.labels[match.base])
        elif match.new is not None:
            self._alone(match.kind, "new", b.labels[match.new])

    def _pair(self, kind: str, a: FrameBoxes, i: int, b: FrameBoxes, j: int) -> None:
        before, after = a.labels[i], b.labels[j]
        self.agreement.counts[kind] += 1
        self.agreement.base += 1
        self.agreement.new += 1
        self._label(before).base += 1
        self._label(after).new += 1
        self._label(before).counts[kind] += 1
        if before != after:
            self._flips[before, after] += 1
            return
        shift = float(b.scores[j] - a.scores[i])
        if not np.isnan(shift):
            self._shifts.add(shift)
            self._distances.add(abs(shift))

    def _alone(self, kind: str, side: str, label: str | None) -> None:
        self.agreement.counts[kind] += 1
        entry = self._label(label)
        entry.counts[kind] += 1
        if side == "base":
            self.agreement.base += 1
            entry.base += 1
        else:
            self.agreement.new += 1
            entry.new += 1

    def _label(self, label: str | None) -> LabelAgreement:
        if label not in self._labels:
            self._labels[label] = LabelAgreement(label)
        return self._labels[label]

    def result(self) -> Agreement:
        agreement = self.agreement
        agreement.mean_iou = self._ious.value
        agreement.score_shift = self._shifts.value
        agreement.score_distance = self._distances.value
        agreement.labels = sorted(
            self._labels.values(), key=lambda item: (-item.base - item.new, item.label or "")
        )
        agreement.flips = [(*pair, count) for pair, count in self._flips.most_common()]
        agreement.changed = [frame for _, frame in sorted(self._changed, reverse=True)]
        return agreement


class _Mean:
    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        self._sum += value
        self._count += 1

    @property
    def value(self) -> float | None:
        return self._sum / self._count if self._count else None

"""How far two sessions of the same footage found the same things, without ground truth.

BASE stands where ground truth would. The boxes of a frame are matched in two steps, each so that
the sum of the IoU is largest (scipy's assignment): boxes of the same label with an IoU of at least
0.5 first, since a model may give one object two labels; then what is left, whatever the labels. The
kinds are those of TIDE (Bolya et al., ECCV 2020):

=============  ==================================================================
same           IoU at least 0.5, same label
label flip     of what is left: IoU at least 0.5, another label
box shift      of what is left: IoU from 0.1 to 0.5, same label
both           of what is left: IoU from 0.1 to 0.5, another label
duplicate      no partner, but IoU at least 0.5 with a box of the other side that has one
only in BASE   no partner
only in NEW    no partner
=============  ==================================================================

Both sides are streamed: memory does not grow with their length.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from dgrec.comparison.blocks import Floats, Mask
from dgrec.comparison.boxes import NEAR_IOU, SAME_IOU, FrameBoxes, frames_of, overlaps
from dgrec.comparison.samples import UNKNOWN

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["KINDS", "Agreement", "ChangedFrame", "LabelAgreement", "compare_detections"]

#: The kinds of (dis)agreement on a detection.
KINDS: Final = (
    "same",
    "label_flip",
    "box_shift",
    "both",
    "duplicate_base",
    "duplicate_new",
    "only_base",
    "only_new",
)
#: Pairs of boxes that one frame may have: 2,000 against 2,000 take 300 MB.
_MOST_PAIRS: Final = 4_000_000
#: Frames that are named.
_CHANGED_FRAMES: Final = 10


class _Shares:
    """Precision and recall, from counts."""

    base: int
    new: int
    counts: dict[str, int]

    @property
    def precision(self) -> float | None:
        """Share of NEW's detections that BASE has, too; None if NEW has none."""
        return _share(self.counts["same"], self.new)

    @property
    def recall(self) -> float | None:
        """Share of BASE's detections that NEW has, too; None if BASE has none."""
        return _share(self.counts["same"], self.base)


@dataclass
class LabelAgreement(_Shares):
    """Detections of one label: those of BASE, and in ``new`` and ``only_new`` those of NEW."""

    label: str | None
    base: int = 0
    new: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    @property
    def f1(self) -> float:
        return _f1(self.counts["same"], self.base, self.new)


@dataclass(frozen=True, order=True)
class ChangedFrame:
    """A frame in which something is not the same."""

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
    #: Frames with results that have no boxes (classification), of which the best label is compared.
    classified: int = 0
    #: Detections that have an angle; their boxes are compared as if they had none.
    rotated: int = 0
    #: Detections with neither box nor label, or too many in one frame (more than 2,000 on both
    #: sides): nothing of them is compared.
    not_compared: int = 0
    #: Detections that have a mask or key points, which are not compared.
    shaped: int = 0

    @property
    def f1(self) -> float | None:
        """Both in one, the agreement: 1 if nothing changed; None if there was nothing to compare.

        Frames without a detection on either side agree; results that cannot be compared do not.
        """
        if not self.frames or (not self.base + self.new and self.not_compared):
            return None
        return _f1(self.counts["same"], self.base, self.new)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _f1(same: int, base: int, new: int) -> float:
    return 2 * same / (base + new) if base + new else 1.0


def compare_detections(base: Session, new: Session) -> Agreement:
    """Match the detections of two sessions, frame by frame of their source.

    A looped file goes on counting, so its second pass is compared with the other's second pass.

    Raises:
        SessionError: Part of a file cannot be read.
    """
    tally = _Tally()
    left, right = _numbered(base), _numbered(new)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a.source_frame < b.source_frame):
            tally.agreement.only_base_frames += 1
            a = next(left, None)
        elif a is None or a.source_frame > b.source_frame:
            tally.agreement.only_new_frames += 1
            b = next(right, None)
        else:
            tally.add(a, b)
            a, b = next(left, None), next(right, None)
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

    def add(self, a: FrameBoxes, b: FrameBoxes) -> None:
        agreement = self.agreement
        agreement.frames += 1
        kinds: Counter[str] = Counter()
        sides = (_split(a), _split(b))
        if len(sides[0][0]) * len(sides[1][0]) > _MOST_PAIRS:
            agreement.not_compared += len(a.labels) + len(b.labels)
            return
        agreement.rotated += a.rotated + b.rotated
        agreement.shaped += a.shaped + b.shaped
        agreement.not_compared += sum(rest for _, _, rest in sides)
        boxes_a, boxes_b = sides[0][0], sides[1][0]
        self._match(a, boxes_a, b, boxes_b, kinds)
        best_a, best_b = sides[0][1], sides[1][1]
        if best_a is not None or best_b is not None:
            agreement.classified += 1
            self._classify(a, best_a, b, best_b, kinds)
        changes = kinds.total() - kinds["same"]
        if not changes:
            if not any(rest for _, _, rest in sides):
                agreement.same_frames += 1
            return
        counted = [len(boxes) + (0 if best is None else 1) for boxes, best, _ in sides]
        frame = ChangedFrame(
            changes,
            _f1(kinds["same"], *counted),
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

    def _match(
        self,
        a: FrameBoxes,
        boxes_a: list[int],
        b: FrameBoxes,
        boxes_b: list[int],
        kinds: Counter[str],
    ) -> None:
        overlap = overlaps(a.boxes[boxes_a], b.boxes[boxes_b])
        partner_a: dict[int, int] = {}
        for i, j in _assign(overlap, a, boxes_a, b, boxes_b):
            iou = float(overlap[i, j])
            partner_a[i] = j
            same_label = a.labels[boxes_a[i]] == b.labels[boxes_b[j]]
            close = iou >= SAME_IOU
            kind = _kind(same_label, close)
            self._ious.add(iou)
            self._pair(kind, a, boxes_a[i], b, boxes_b[j], kinds)
        taken_b = set(partner_a.values())
        for i, at in enumerate(boxes_a):
            if i not in partner_a:
                is_double = any(overlap[i, j] >= SAME_IOU for j in taken_b)
                self._alone("base", is_double, a.labels[at], kinds)
        for j, at in enumerate(boxes_b):
            if j not in taken_b:
                is_double = any(overlap[i, j] >= SAME_IOU for i in partner_a)
                self._alone("new", is_double, b.labels[at], kinds)

    def _classify(
        self,
        a: FrameBoxes,
        best_a: int | None,
        b: FrameBoxes,
        best_b: int | None,
        kinds: Counter[str],
    ) -> None:
        if best_a is None or best_b is None:
            frame, best, side = (a, best_a, "base") if best_b is None else (b, best_b, "new")
            assert best is not None
            self._alone(side, False, frame.labels[best], kinds)
            return
        kind = "same" if a.labels[best_a] == b.labels[best_b] else "label_flip"
        self._pair(kind, a, best_a, b, best_b, kinds)

    def _pair(
        self, kind: str, a: FrameBoxes, i: int, b: FrameBoxes, j: int, kinds: Counter[str]
    ) -> None:
        before, after = a.labels[i], b.labels[j]
        kinds[kind] += 1
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

    def _alone(self, side: str, is_double: bool, label: str | None, kinds: Counter[str]) -> None:
        kind = f"{'duplicate' if is_double else 'only'}_{side}"
        kinds[kind] += 1
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


def _kind(same_label: bool, close: bool) -> str:
    if close:
        return "same" if same_label else "label_flip"
    return "box_shift" if same_label else "both"


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


def _split(frame: FrameBoxes) -> tuple[list[int], int | None, int]:
    """Return (detections with a box, the best of those with a label only, how many have neither).

    A classifier's results are alternatives: what it says is the best one.
    """
    if frame.boxed == len(frame.labels):
        return list(range(frame.boxed)), None, 0
    has_box = frame.is_boxed
    boxes = np.flatnonzero(has_box).tolist()
    others = np.flatnonzero(~has_box).tolist()
    labelled = [i for i in others if frame.labels[i] is not None]
    if not labelled:
        return boxes, None, len(others)
    scores = np.nan_to_num(frame.scores[labelled], nan=-np.inf)
    return boxes, labelled[int(np.argmax(scores))], len(others) - len(labelled)


def _assign(
    overlap: Floats, a: FrameBoxes, boxes_a: list[int], b: FrameBoxes, boxes_b: list[int]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs (row, column) that go together."""
    if not overlap.size:
        return
    # Below, boxes are unrelated.
    near = overlap >= NEAR_IOU
    if near.sum(axis=0).max() <= 1 and near.sum(axis=1).max() <= 1:
        # No box has a choice.
        yield from zip(*(found.tolist() for found in near.nonzero()), strict=True)
        return
    same_label = np.array([[a.labels[i] == b.labels[j] for j in boxes_b] for i in boxes_a])
    # Among boxes in the very same place the label decides, then the score: too little to outweigh
    # IoU.
    distance = np.abs(a.scores[boxes_a][:, None] - b.scores[boxes_b][None, :])
    closeness = 1 / (1 + np.nan_to_num(distance, nan=0.0, posinf=1.0))
    weight = overlap + 1e-6 * same_label + 1e-9 * closeness
    first = list(_best_pairs(weight, same_label & (overlap >= SAME_IOU)))
    yield from first
    for i, j in first:
        near[i, :] = near[:, j] = False
    yield from _best_pairs(weight, near)


def _best_pairs(weight: Floats, allowed: Mask) -> Iterator[tuple[int, int]]:
    """Yield the pairs (row, column), of those allowed, whose weights have the largest sum."""
    from scipy.optimize import linear_sum_assignment

    if not allowed.any():
        return
    rows, columns = linear_sum_assignment(np.where(allowed, weight, 0.0), maximize=True)
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        if allowed[i, j]:
            yield i, j


def _numbered(session: Session) -> Iterator[FrameBoxes]:
    """Yield the frames whose number in the source is known: the others have no counterpart."""
    return (frame for frame in frames_of(session) if frame.source_frame != UNKNOWN)

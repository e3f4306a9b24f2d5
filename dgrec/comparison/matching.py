"""Pairs of frames that two sessions have in common, and pairs of their detections.

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
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import numpy as np

from dgrec.comparison.blocks import Floats, Mask
from dgrec.comparison.boxes import NEAR_IOU, SAME_IOU, FrameBoxes, overlaps
from dgrec.comparison.samples import UNKNOWN

_T = TypeVar("_T")
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
#: After the last frame.
_END: Final = (math.inf, None)


def paired(
    base: Iterable[_T], new: Iterable[_T], number: Callable[[_T], int]
) -> Iterator[tuple[_T | None, _T | None]]:
    """Yield pairs of frames with the same number in the source; None for a frame of one side only.

    A looped file goes on counting, so its second pass is paired with the other side's second.
    Frames whose number is not known (`UNKNOWN`) have no counterpart, and are left out.
    """
    left, right = _numbered(base, number), _numbered(new, number)
    (m, a), (n, b) = next(left, _END), next(right, _END)
    while a is not None or b is not None:
        if m < n:
            yield a, None
            m, a = next(left, _END)
        elif m > n:
            yield None, b
            n, b = next(right, _END)
        else:
            yield a, b
            (m, a), (n, b) = next(left, _END), next(right, _END)


def _numbered(frames: Iterable[_T], number: Callable[[_T], int]) -> Iterator[tuple[float, _T]]:
    for frame in frames:
        found = number(frame)
        if found != UNKNOWN:
            yield found, frame


class Match(NamedTuple):
    """The result for a detection, or for two that go together, with their indices in the frames."""

    #: One of `KINDS`.
    kind: str
    base: int | None
    new: int | None
    #: IoU of a pair's boxes.
    iou: float | None = None


@dataclass(frozen=True)
class FrameMatches:
    """The detections of two frames, compared."""

    matches: list[Match]
    #: Detections of BASE and of NEW that were compared.
    compared: tuple[int, int] = (0, 0)
    #: Detections with neither box nor label, or too many in one frame.
    not_compared: int = 0
    #: Whether labels without boxes were compared, too.
    is_classified: bool = False
    #: Whether there are too many detections to compare.
    is_too_large: bool = False

    @property
    def changes(self) -> int:
        """Detections that are not ``same``, a matched pair counting once."""
        return sum(match.kind != "same" for match in self.matches)

    @property
    def is_same(self) -> bool:
        """True if nothing differs, and everything could be compared."""
        return not self.not_compared and not self.changes


def match_frames(a: FrameBoxes, b: FrameBoxes) -> FrameMatches:
    """Match the detections of a frame of BASE and one of NEW."""
    boxes_a, best_a, rest_a = _split(a)
    boxes_b, best_b, rest_b = _split(b)
    if len(boxes_a) * len(boxes_b) > _MOST_PAIRS:
        return FrameMatches([], not_compared=len(a.labels) + len(b.labels), is_too_large=True)
    matches = list(_match(a, boxes_a, b, boxes_b))
    is_classified = best_a is not None or best_b is not None
    if is_classified:
        matches.append(_classified(a, best_a, b, best_b))
    compared = len(boxes_a) + (best_a is not None), len(boxes_b) + (best_b is not None)
    return FrameMatches(matches, compared, rest_a + rest_b, is_classified)


def _match(a: FrameBoxes, boxes_a: list[int], b: FrameBoxes, boxes_b: list[int]) -> Iterator[Match]:
    overlap = overlaps(a.boxes[boxes_a], b.boxes[boxes_b])
    partners: dict[int, int] = {}
    for i, j in _assign(overlap, a, boxes_a, b, boxes_b):
        iou = float(overlap[i, j])
        partners[i] = j
        same_label = a.labels[boxes_a[i]] == b.labels[boxes_b[j]]
        yield Match(_kind(same_label, iou >= SAME_IOU), boxes_a[i], boxes_b[j], iou)
    taken = set(partners.values())
    # Boxes that overlap a box of the other side that already has a partner.
    double_a: Mask = np.any(overlap[:, sorted(taken)] >= SAME_IOU, axis=1)
    double_b: Mask = np.any(overlap[list(partners)] >= SAME_IOU, axis=0)
    for i, at in enumerate(boxes_a):
        if i not in partners:
            yield Match("duplicate_base" if double_a[i] else "only_base", at, None)
    for j, at in enumerate(boxes_b):
        if j not in taken:
            yield Match("duplicate_new" if double_b[j] else "only_new", None, at)


def _classified(a: FrameBoxes, best_a: int | None, b: FrameBoxes, best_b: int | None) -> Match:
    if best_b is None:
        return Match("only_base", best_a, None)
    if best_a is None:
        return Match("only_new", None, best_b)
    is_same = a.labels[best_a] == b.labels[best_b]
    return Match("same" if is_same else "label_flip", best_a, best_b)


def _kind(same_label: bool, close: bool) -> str:
    if close:
        return "same" if same_label else "label_flip"
    return "box_shift" if same_label else "both"


def _split(frame: FrameBoxes) -> tuple[list[int], int | None, int]:
    """Return (detections with a box, the best of those with a label only, how many have neither).

    A classifier's results are alternatives: only the best one counts.
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
    # Below this IoU, boxes are unrelated.
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

"""Precision, recall and COCO's average precision of a session against ground truth.

The numbers are those of COCO's evaluation of boxes (all areas, 100 detections of a label in a
frame): pycocotools gives the same for the frames that were recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from dgrec.arguments import given_path
from dgrec.comparison.agreement import share
from dgrec.comparison.blocks import Floats, Mask
from dgrec.comparison.boxes import FrameBoxes, frames_of, overlaps, shares_inside
from dgrec.comparison.truth import (
    Truth,
    TruthError,
    TruthFrame,
    check_sizes,
    left_out,
    read_truth,
    unrecorded,
)
from dgrec.session import Session

#: IoU from which a detection is right: AP50 takes the first, AP50:95 the mean over all.
_THRESHOLDS: Final = np.linspace(0.5, 0.95, 10)
#: Recalls at which the precision is averaged.
_RECALLS: Final = np.linspace(0, 1, 101)
#: Detections of a label in a frame; those with lower scores are left out.
_MOST: Final = 100


@dataclass(frozen=True)
class LabelAccuracy:
    """Detections of one label against the objects of that label."""

    label: str
    #: Objects in the annotated frames that were recorded.
    objects: int
    #: At an IoU of 0.5, over all detections as they were recorded.
    right: int
    wrong: int
    #: Average precision at an IoU of 0.5, and its mean from 0.5 to 0.95; None without an object.
    ap50: float | None
    ap: float | None

    @property
    def precision(self) -> float | None:
        return share(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float | None:
        return share(self.right, self.objects)


@dataclass(frozen=True)
class Accuracy:
    """The result of `accuracy`.

    Example:
        >>> import dgrec
        >>> found = dgrec.accuracy("session.parquet", truth="session.parquet")
        >>> found.precision, found.recall, found.ap50
        (1.0, 1.0, 1.0)
    """

    path: str
    #: Annotated frames that were recorded.
    frames: int
    labels: tuple[LabelAccuracy, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def objects(self) -> int:
        return sum(each.objects for each in self.labels)

    @property
    def right(self) -> int:
        """Detections that match an object, at an IoU of 0.5."""
        return sum(each.right for each in self.labels)

    @property
    def wrong(self) -> int:
        return sum(each.wrong for each in self.labels)

    @property
    def precision(self) -> float | None:
        """Share of the detections that are right; None without a detection."""
        return share(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float | None:
        """Share of the objects that were found; None without an object."""
        return share(self.right, self.objects)

    @property
    def ap50(self) -> float | None:
        """Mean over the labels of the average precision at an IoU of 0.5."""
        return _mean([each.ap50 for each in self.labels])

    @property
    def ap(self) -> float | None:
        """The same, averaged over IoUs from 0.5 to 0.95 (COCO's AP)."""
        return _mean([each.ap for each in self.labels])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary, as JSON has it."""
        names = ("objects", "right", "wrong", "precision", "recall", "ap50", "ap")
        value = {**asdict(self), **{name: getattr(self, name) for name in names}}
        for entry, label in zip(value["labels"], self.labels, strict=True):
            entry |= {"precision": label.precision, "recall": label.recall}
        return value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def accuracy(session: str | Path | Session, truth: str | Path | Session) -> Accuracy:
    """Return how well a session finds what ground truth says is there.

    Frames are paired by their number in the source. Labels that the ground truth does not have are
    left out, as are frames that are in only one of the two.

    Args:
        session: A session, or its path.
        truth: A file of any format that can be imported (docs/imports.md), or a session.

    Raises:
        TruthError: The ground truth cannot be read, or is for other frames, sizes or labels.
        SessionError: The session cannot be read.

    Example:
        >>> import dgrec
        >>> dgrec.accuracy("session.parquet", truth="session.parquet").objects
        426
    """
    from dgrec.session import Session

    if not isinstance(session, Session):
        with Session(session) as opened:
            return accuracy(opened, truth)
    annotated = read_truth(given_path("truth", truth), session)
    check_sizes(annotated, session)
    tally = _Tally(annotated)
    for frame in frames_of(session):
        tally.add(frame)
    return tally.result(str(session.path))


class _Tally:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._labels = {label: _Label() for label in truth.labels}
        self._seen: set[int] = set()
        self._others: Counter[str | None] = Counter()
        self._repeated = self._known = 0

    def add(self, frame: FrameBoxes) -> None:
        truth = self._truth.frames.get(frame.source_frame)
        if truth is None:
            return
        if frame.source_frame in self._seen:  # programs may have several results of a frame
            self._repeated += 1
            return
        self._seen.add(frame.source_frame)
        is_boxed = frame.is_boxed
        labels = np.array(frame.labels, object)
        objects = np.array(truth.labels, object)
        for label in {*frame.labels, *truth.labels}:
            tally = self._labels.get(label) if label is not None else None
            chosen = np.flatnonzero((labels == label) & is_boxed)
            if tally is None:
                self._others[label] += len(chosen)
            else:
                self._known += len(chosen)
                tally.add(frame, chosen, truth, np.flatnonzero(objects == label))

    def result(self, path: str) -> Accuracy:
        truth = self._truth
        notes = unrecorded(truth, len(self._seen))
        if self._others and not self._known:
            found = ", ".join(str(label) for label, _ in self._others.most_common(5))
            raise TruthError(
                f"{truth.path}: has none of the labels that were found: "
                f"{', '.join(truth.labels[:5])}; the session has {found}"
            )
        notes += left_out(self._others, self._repeated)
        labels = tuple(tally.result(label) for label, tally in self._labels.items())
        return Accuracy(path, len(self._seen), labels, tuple(notes))


class _Label:
    """The detections of one label, frame by frame."""

    def __init__(self) -> None:
        self._objects = self._right = self._wrong = 0
        self._scores: list[Floats] = []
        #: For each detection and IoU, whether it matches an object, and whether it counts.
        self._matched: list[Mask] = []
        self._counts: list[Mask] = []

    def add(
        self,
        frame: FrameBoxes,
        chosen: np.ndarray[Any, Any],
        truth: TruthFrame,
        objects: np.ndarray[Any, Any],
    ) -> None:
        crowd = np.array(truth.is_crowd, np.bool_)[objects]
        self._objects += int((~crowd).sum())
        scores = np.nan_to_num(frame.scores[chosen], nan=0.0)
        order = np.argsort(-scores, kind="stable")
        boxes = frame.boxes[chosen][order]
        matched, in_crowd = _match(boxes, truth.boxes[objects], crowd)
        self._right += int(matched[:, 0].sum())
        self._wrong += int((~matched[:, 0] & ~in_crowd[:, 0]).sum())
        # Worse detections take no match from better ones, so they can be cut off afterwards.
        self._scores.append(scores[order][:_MOST])
        self._matched.append(matched[:_MOST])
        self._counts.append(~in_crowd[:_MOST])

    def result(self, label: str) -> LabelAccuracy:
        values: list[float | None] = [None] * len(_THRESHOLDS)
        if self._objects:
            order = np.argsort(-np.concatenate(self._scores), kind="stable")
            matched = np.concatenate(self._matched)[order]
            counts = np.concatenate(self._counts)[order]
            values = [
                _average_precision(matched[:, at], counts[:, at], self._objects)
                for at in range(len(_THRESHOLDS))
            ]
        return LabelAccuracy(
            label, self._objects, self._right, self._wrong, values[0], _mean(values)
        )


def _match(boxes: Floats, objects: Floats, crowd: Mask) -> tuple[Mask, Mask]:
    """Match detections, the best first, with objects, as COCO does.

    Returns:
        For each detection and IoU, whether it matches an object, and whether it matches none but
        is in a crowd.
    """
    shape = len(boxes), len(_THRESHOLDS)
    matched, in_crowd = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    if not len(objects):
        return matched, in_crowd
    overlap = _overlap(boxes, objects, crowd)
    free = np.ones((len(_THRESHOLDS), len(objects)), np.bool_)
    rows = np.arange(len(_THRESHOLDS))
    for index, row in enumerate(overlap):
        if row.max() < _THRESHOLDS[0]:
            continue
        is_near = row >= _THRESHOLDS[:, None]
        near = np.where(is_near & free & ~crowd, row, -1.0)
        # Among objects that overlap equally, COCO takes the last.
        best = len(objects) - 1 - near[:, ::-1].argmax(axis=1)
        matched[index] = near[rows, best] >= 0
        free[rows[matched[index]], best[matched[index]]] = False
        in_crowd[index] = ~matched[index] & (is_near & crowd).any(axis=1)
    return matched, in_crowd


def _overlap(boxes: Floats, objects: Floats, crowd: Mask) -> Floats:
    """Return the IoU of boxes and objects; for a crowd, the share of the box that is in it."""
    overlap = overlaps(boxes, objects)
    if crowd.any():
        overlap = np.where(crowd, shares_inside(boxes, objects), overlap)
    return overlap


def _average_precision(matched: Mask, counts: Mask, objects: int) -> float:
    """Return the mean precision at `_RECALLS`, for detections sorted best first."""
    right = np.cumsum(matched & counts)
    wrong = np.cumsum(~matched & counts)
    precision = right / np.maximum(right + wrong, 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right / objects, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[at].mean())

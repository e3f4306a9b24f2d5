"""What a session would hold with other thresholds: counted, without running the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dgrec.analyzers import AnalyzerRequest
from dgrec.comparison.blocks import Floats, Mask
from dgrec.comparison.boxes import NEAR_IOU, SAME_IOU, FrameBoxes, frames_of, overlaps
from dgrec.comparison.truth import Truth, TruthError, TruthFrame, read_truth
from dgrec.errors import ConfigError
from dgrec.stand_in import settings

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["Outcome", "Setting", "WhatIf", "whatif"]

THRESHOLD: Final = settings.THRESHOLD
NMS: Final = settings.NMS
#: Settings that are looked at in one pass over a session.
_MOST_SETTINGS: Final = 1000


@dataclass(frozen=True)
class Setting:
    """One set of thresholds; None: as recorded."""

    threshold: float | None = None
    nms: float | None = None
    #: Settings of an ObjectTracker, as `--tracker` takes them; None: no tracker runs.
    tracker: str | None = None


@dataclass
class Outcome:
    """What the recording holds with a setting."""

    setting: Setting
    frames: int = 0
    detections: int = 0
    frames_with_detections: int = 0
    labels: Counter[str | None] = field(default_factory=Counter)
    #: Boxes without a partner (same label, IoU of 0.1) in both neighbouring frames, and boxes that
    #: are in one frame and the one after the next, but not between.
    single: int = 0
    gaps: int = 0
    #: Detections that the recording has, and that are compared with it.
    _recorded: int = 0
    _same: int = 0
    tracks: int | None = None
    tracked: int = 0
    #: Against ground truth: right, wrong, and not found.
    true_positives: int | None = None
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def per_frame(self) -> float | None:
        return self.detections / self.frames if self.frames else None

    @property
    def flicker(self) -> float | None:
        """Share of detections that come and go: single ones, and gaps."""
        return (self.single + self.gaps) / self.detections if self.detections else None

    @property
    def agreement(self) -> float | None:
        """F1 against the recording as it is: what `dgrec compare` calls the agreement."""
        if not self.frames:
            return None
        both = self._recorded + self._same
        return 2 * self._same / both if both else 1.0

    @property
    def track_length(self) -> float | None:
        """Mean number of frames of a track."""
        return self.tracked / self.tracks if self.tracks else None

    @property
    def precision(self) -> float | None:
        if self.true_positives is None or not self.true_positives + self.false_positives:
            return None
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        if self.true_positives is None or not self.true_positives + self.false_negatives:
            return None
        return self.true_positives / (self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        if self.true_positives is None:
            return None
        wrong = self.false_positives + self.false_negatives
        whole = 2 * self.true_positives + wrong
        return 2 * self.true_positives / whole if whole else None


@dataclass
class WhatIf:
    """The answer of `whatif`.

    Example:
        >>> import dgrec
        >>> answer = dgrec.whatif("session.parquet", [0.6, 0.9])
        >>> stricter = answer.outcomes[1]
        >>> stricter.setting.threshold, stricter.detections, round(stricter.agreement, 3)
        (0.9, 379, 0.942)
    """

    outcomes: list[Outcome]
    #: The settings at which the session was recorded, as far as they are known.
    recorded: dict[str, float]
    notes: list[str]

    @property
    def best(self) -> Outcome | None:
        """The outcome with the best F1 against ground truth; of equal ones the first."""
        judged = [outcome for outcome in self.outcomes if outcome.f1 is not None]
        return max(judged, key=lambda outcome: outcome.f1 or 0.0, default=None)


def whatif(
    session: str | Path | Session,
    thresholds: Sequence[float] = (),
    *,
    nms: Sequence[float] = (),
    trackers: Sequence[str] = (),
    truth: str | Path | None = None,
) -> WhatIf:
    """Count what a session would hold with each combination of settings, without the model.

    Args:
        thresholds: Confidence thresholds, at or above the recorded one; none: as recorded.
        nms: NMS thresholds (IoU), at or below the recorded one; none: as recorded.
        trackers: Settings of an ObjectTracker each, as ``--tracker`` takes them.
        truth: A file of COCO annotations: boxes that people drew, of this footage.

    Raises:
        ConfigError: A setting asks for detections that were not recorded, or cannot be applied.
        TruthError: The ground truth cannot be read, or is of other frames or labels.
        SessionError: The session cannot be read.

    Example:
        >>> import dgrec
        >>> answer = dgrec.whatif("session.parquet", [0.6, 0.9])
        >>> [outcome.detections for outcome in answer.outcomes]
        [426, 379]
    """
    from dgrec.session import Session

    if not isinstance(session, Session):
        with Session(session) as opened:
            return whatif(opened, thresholds, nms=nms, trackers=trackers, truth=truth)
    model = session.metadata.get("model", {})
    recorded = settings.recorded_limits(model.get("parameters"))
    _check(THRESHOLD, thresholds, recorded)
    _check(NMS, nms, recorded)
    chosen = [
        Setting(threshold, overlap, tracker)
        for threshold in (*thresholds,) or (None,)
        for overlap in (*nms,) or (None,)
        for tracker in (*trackers,) or (None,)
    ]
    if len(chosen) > _MOST_SETTINGS:
        raise ConfigError(f"{len(chosen):,} settings; at most {_MOST_SETTINGS:,} fit in one pass")
    requests = {text: AnalyzerRequest((text,)) for text in trackers}
    annotated = None if truth is None else read_truth(Path(truth))
    tally = _Tally(session, chosen, requests, annotated)
    for frame in frames_of(session):
        tally.add(frame)
    return WhatIf(tally.result(), recorded, tally.notes)


def _check(limit: settings.Limit, values: Sequence[float], recorded: Mapping[str, float]) -> None:
    known = recorded.get(limit.property)
    for value in values:
        if known is not None and limit.loosens(value, known):
            side = "lower" if limit.is_least else "higher"
            raise ConfigError(
                f"{limit.property} {value:g} is {side} than {known:g}, at which the session was "
                f"recorded: it holds no detections beyond it (record it again at {value:g})"
            )


@dataclass
class _Kept:
    """A frame's detections, and which of them each setting keeps (settings x detections)."""

    frame: FrameBoxes
    kept: Mask


class _Tally:
    def __init__(
        self,
        session: Session,
        chosen: list[Setting],
        trackers: Mapping[str, AnalyzerRequest],
        truth: Truth | None,
    ) -> None:
        self.notes: list[str] = []
        self._session, self._settings, self._truth = session, chosen, truth
        self._outcomes = [Outcome(setting) for setting in chosen]
        model = session.metadata.get("model", {})
        parameters = model.get("parameters")
        self._by_class = not (
            isinstance(parameters, dict) and parameters.get("output_use_regular_nms") is False
        )
        labels = [text for text in model.get("labels", {}).values() if isinstance(text, str)]
        self._trackers = [
            trackers[setting.tracker].make(labels) if setting.tracker is not None else []
            for setting in chosen
        ]
        self._ids: list[set[int]] = [set() for _ in chosen]
        #: The last two frames, for what comes and goes.
        self._last: _Kept | None = None
        self._before: _Kept | None = None
        self._judged = 0
        if truth is not None:
            self._check_labels(truth, labels)
            for outcome in self._outcomes:
                outcome.true_positives = 0

    def add(self, frame: FrameBoxes) -> None:
        kept = self._kept(frame)
        for outcome, mask in zip(self._outcomes, kept, strict=True):
            outcome.frames += 1
            count = int(mask.sum())
            outcome.detections += count
            outcome.frames_with_detections += count > 0
            outcome.labels.update(
                label for label, is_kept in zip(frame.labels, mask, strict=True) if is_kept
            )
            self._compare(outcome, frame, mask)
        now = _Kept(frame, kept)
        self._come_and_go(now)
        self._track(now)
        truth = self._truth
        if truth is not None and frame.source_frame in truth.frames:
            self._judged += 1
            self._judge(now, truth.frames[frame.source_frame])

    def result(self) -> list[Outcome]:
        self._come_and_go(None)
        for outcome, ids in zip(self._outcomes, self._ids, strict=True):
            if outcome.setting.tracker is not None:
                outcome.tracks = len(ids)
        if self._truth is not None:
            self._check_frames(self._truth)
        return self._outcomes

    # --- which detections a setting keeps ---

    def _kept(self, frame: FrameBoxes) -> Mask:
        kept = np.ones((len(self._settings), len(frame.labels)), np.bool_)
        if not len(frame.labels):
            return kept
        is_boxed = frame.is_boxed
        overlapping = {
            value: self._suppressed(frame, is_boxed, value)
            for value in {setting.nms for setting in self._settings}
            if value is not None
        }
        for mask, setting in zip(kept, self._settings, strict=True):
            if setting.threshold is not None:
                if np.isnan(frame.scores).any():
                    raise ConfigError(
                        f"{self._session.path}: frame {frame.position} has detections without a "
                        "score, which a threshold cannot choose from"
                    )
                mask &= frame.scores >= setting.threshold
            # A better box is never below a threshold that a worse one passes, so the order of the
            # two does not matter.
            if setting.nms is not None:
                mask &= ~overlapping[setting.nms]
        return kept

    def _suppressed(self, frame: FrameBoxes, is_boxed: Mask, overlap: float) -> Mask:
        if frame.rotated:
            raise ConfigError(
                f"{self._session.path}: frame {frame.position} has boxes with an angle, to which "
                "NMS is not applied here"
            )
        removed = np.zeros(len(is_boxed), np.bool_)
        if is_boxed.any():
            numbers = {label: number for number, label in enumerate(dict.fromkeys(frame.labels))}
            classes = np.array([numbers[label] for label in frame.labels])[is_boxed]
            removed[is_boxed] = settings.suppressed(
                frame.boxes[is_boxed],
                np.nan_to_num(frame.scores[is_boxed], nan=0.0),
                classes if self._by_class else None,
                overlap,
            )
        return removed

    # --- what is counted ---

    def _compare(self, outcome: Outcome, frame: FrameBoxes, mask: Mask) -> None:
        """Count what `dgrec compare` would: boxes, and the best of those without."""
        if frame.boxed == len(frame.labels):
            outcome._recorded += frame.boxed
            outcome._same += int(mask.sum())
            return
        is_boxed = frame.is_boxed
        outcome._recorded += int(is_boxed.sum())
        outcome._same += int((mask & is_boxed).sum())
        labelled = [i for i in np.flatnonzero(~is_boxed) if frame.labels[i] is not None]
        if labelled:
            outcome._recorded += 1
            best = max(labelled, key=lambda i: np.nan_to_num(frame.scores[i], nan=-np.inf))
            outcome._same += int(mask[best])

    def _come_and_go(self, now: _Kept | None) -> None:
        """Count what is in the last frame alone, and what is missing in it."""
        before, last = self._before, self._last
        self._before, self._last = last, now
        if last is None:
            return
        has_partner = np.zeros_like(last.kept)
        if before is not None:
            has_partner |= _with_partner(last, before)
        if now is not None:
            has_partner |= _with_partner(last, now)
        is_box = last.frame.is_boxed
        single = (last.kept & ~has_partner & is_box).sum(axis=1)
        gaps = np.zeros(len(single), np.int64)
        if before is not None and now is not None:
            is_gone = before.kept & ~_with_partner(before, last)
            gaps = (is_gone & _with_partner(before, now)).sum(axis=1)
        for outcome, alone, gap in zip(self._outcomes, single, gaps, strict=True):
            outcome.single += int(alone)
            outcome.gaps += int(gap)

    def _track(self, now: _Kept) -> None:
        frame = now.frame
        for outcome, analyzers, ids, mask in zip(
            self._outcomes, self._trackers, self._ids, now.kept, strict=True
        ):
            if not analyzers:
                continue
            result = _Result(list(_detections(frame, mask)))
            for analyzer in analyzers:
                analyzer.analyze(result)
            found = [item["track_id"] for item in result.results if "track_id" in item]
            outcome.tracked += len(found)
            ids.update(found)

    def _judge(self, now: _Kept, truth: TruthFrame) -> None:
        frame = now.frame
        crowd = np.array(truth.is_crowd, np.bool_)
        objects = int((~crowd).sum())
        overlap = overlaps(frame.boxes, truth.boxes)
        same = np.array([[a == b for b in truth.labels] for a in frame.labels], np.bool_)
        overlap = np.where(same.reshape(overlap.shape), overlap, 0.0)
        inside = _share_inside(overlap, frame.boxes, truth.boxes)
        is_in_crowd: Mask = np.any((inside >= SAME_IOU) & crowd, axis=1)
        ranked = sorted(
            (i for i in range(len(frame.labels)) if not np.isnan(frame.boxes[i]).any()),
            key=lambda i: -np.nan_to_num(frame.scores[i], nan=0.0),
        )
        for outcome, mask in zip(self._outcomes, now.kept, strict=True):
            right, wrong = _right_and_wrong(
                np.where(crowd, 0.0, overlap), [i for i in ranked if mask[i]], is_in_crowd
            )
            assert outcome.true_positives is not None
            outcome.true_positives += right
            outcome.false_positives += wrong
            outcome.false_negatives += objects - right

    # --- checks of the ground truth ---

    def _check_labels(self, truth: Truth, labels: Sequence[str]) -> None:
        if labels and not {*truth.labels} & {*labels}:
            raise TruthError(
                f"{truth.path}: has none of the model's labels: {', '.join(truth.labels[:5])}; "
                f"the model finds {', '.join(labels[:5])}"
            )

    def _check_frames(self, truth: Truth) -> None:
        missing = len(truth.frames) - self._judged
        if not self._judged:
            first = min(truth.frames)
            raise TruthError(
                f"{truth.path}: none of its frames was recorded (its first is {first}); an image's "
                "'frame', or the last number in its file name, is its number in the source, from 0"
            )
        if missing:
            self.notes.append(
                f"{truth.path}: {missing:,} of {len(truth.frames):,} annotated frames were not "
                "recorded, and are left out."
            )


@dataclass
class _Result:
    """What an ObjectTracker takes for a result."""

    results: list[dict[str, Any]]


def _detections(frame: FrameBoxes, mask: Mask) -> Iterator[dict[str, Any]]:
    for index in np.flatnonzero(mask):
        box = frame.boxes[index]
        if not np.isnan(box).any():
            score = float(np.nan_to_num(frame.scores[index], nan=0.0))
            yield {"bbox": box.tolist(), "label": frame.labels[index] or "", "score": score}


def _with_partner(one: _Kept, other: _Kept) -> Mask:
    """Return, for each setting, which kept boxes have a box of the same label in another frame."""
    if not one.frame.labels or not other.frame.labels:
        return np.zeros_like(one.kept)
    near = overlaps(one.frame.boxes, other.frame.boxes) >= NEAR_IOU
    same = np.array([[a == b for b in other.frame.labels] for a in one.frame.labels])
    partners: Mask = one.kept & ((other.kept.astype(np.int32) @ (near & same).T) > 0)
    return partners


def _share_inside(overlap: Floats, boxes: Floats, objects: Floats) -> Floats:
    """Return how much of each box is inside of each object, from their IoU."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    others = (objects[:, 2] - objects[:, 0]) * (objects[:, 3] - objects[:, 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        common = overlap * (areas[:, None] + others[None, :]) / (1 + overlap)
        share: Floats = np.nan_to_num(common / areas[:, None])
    return share


def _right_and_wrong(overlap: Floats, ranked: Sequence[int], in_crowd: Mask) -> tuple[int, int]:
    """Match detections with objects as COCO does: the best detection first takes the nearest.

    Args:
        in_crowd: Detections that are not wrong if they match nothing.
    """
    taken = np.zeros(overlap.shape[1], np.bool_)
    right = wrong = 0
    for index in ranked:
        near = np.where(taken, 0.0, overlap[index])
        if near.size and near.max() >= SAME_IOU:
            taken[int(near.argmax())] = True
            right += 1
        elif not in_crowd[index]:
            wrong += 1
    return right, wrong

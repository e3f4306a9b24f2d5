"""Other thresholds for a session: its detections counted without running the model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final

import numpy as np

from dgrec.analyzers import AnalyzerRequest, failure_of
from dgrec.arguments import given_path, one_or_more, with_parameters
from dgrec.comparison.blocks import Floats, Mask
from dgrec.comparison.boxes import SAME_IOU, FrameBoxes, frames_of, overlaps, shares_inside
from dgrec.comparison.neighbours import MOST_BOXES, Block, most_frames
from dgrec.comparison.outcomes import Outcome, Setting, WhatIf
from dgrec.comparison.truth import (
    Truth,
    TruthError,
    TruthFrame,
    check_sizes,
    left_out,
    read_truth,
    unrecorded,
)
from dgrec.errors import ConfigError, value_text
from dgrec.session import Runs, Session
from dgrec.stand_in import settings
from dgrec.units import counted

_THRESHOLD: Final = settings.THRESHOLD
NMS: Final = settings.NMS
#: Settings that one pass over a session can take.
_MOST_SETTINGS: Final = 1000
#: Below any score.
_LEAST: Final = -1e300


@with_parameters()
def whatif(
    session: str | Path | Session,
    thresholds: float | Sequence[float] = (),
    *,
    nms: float | Sequence[float] = (),
    trackers: str | Sequence[str] = (),
    truth: str | Path | Session | None = None,
) -> WhatIf:
    """Count what a session would hold with each combination of settings, without the model.

    Args:
        thresholds: Confidence thresholds (or one), at or above the recorded one; none: as recorded.
        nms: NMS thresholds (IoU), at or below the recorded one; none: as recorded.
        trackers: Settings of an ObjectTracker each, as ``--tracker`` takes them.
        truth: Boxes that people drew on this footage: a file in any format that dgrec imports, or a
            session.

    Raises:
        ConfigError: A setting asks for detections that were not recorded, or cannot be applied.
        DgrecError: A tracker cannot follow the boxes; the message names the frame.
        TruthError: The ground truth cannot be read, or is for other frames or labels.
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
    thresholds = _checked(
        _THRESHOLD, one_or_more("thresholds", thresholds, "a number", Real), recorded
    )
    nms = _checked(NMS, one_or_more("nms", nms, "a number", Real), recorded)
    trackers = one_or_more("trackers", trackers, "a text")
    for each in trackers:
        if not isinstance(each, str):
            raise ConfigError(f"trackers: {value_text(each)} is not a text")
    chosen = [
        Setting(threshold, overlap, tracker)
        for threshold in (*thresholds,) or (None,)
        for overlap in (*nms,) or (None,)
        for tracker in (*trackers,) or (None,)
    ]
    if len(chosen) > _MOST_SETTINGS:
        raise ConfigError(f"{len(chosen):,} settings; at most {_MOST_SETTINGS:,} fit in one pass")
    requests = {text: AnalyzerRequest((text,)) for text in trackers}
    for text, request in requests.items():
        if request.needs_pictures:
            raise ConfigError(
                f"--tracker: {text}: finding scene cuts needs the pictures, which are not read "
                "here; dgrec analyze reads them"
            )
    annotated = None if truth is None else read_truth(given_path("truth", truth), session)
    tally = _Tally(session, chosen, requests, annotated)
    for frame in frames_of(session):
        tally.add(frame)
    return WhatIf(tally.result(), recorded, tally.notes)


def _checked(
    limit: settings.Limit, values: Sequence[float], recorded: Mapping[str, float]
) -> list[float]:
    """Return settings as Python numbers: a program may pass numpy's."""
    known = recorded.get(limit.property)
    for value in values:
        if not isinstance(value, Real) or not _is_finite(value):
            raise ConfigError(f"{limit.property}: {value_text(value)} is not a finite number")
        if known is not None and limit.loosens(value, known):
            side = "lower" if limit.is_least else "higher"
            raise ConfigError(
                f"{limit.property} {value:g} is {side} than {known:g}, at which the session was "
                f"recorded: it holds no detections beyond it (record it again at {value:g})"
            )
    return [float(value) for value in values]


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


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
        self._top_k = settings.recorded_limits(parameters).get(settings.TOP_K.property)
        self._has_classes = False
        labels = [text for text in model.get("labels", {}).values() if isinstance(text, str)]
        self._make_trackers: Callable[[], list[list[Any]]] = lambda: [
            trackers[setting.tracker].make(labels) if setting.tracker is not None else []
            for setting in chosen
        ]
        self._trackers = self._make_trackers()
        self._runs, self._run = Runs(session.metadata.get("events", [])), 0
        #: The tracks found, by run and id.
        self._ids: list[set[tuple[int, int]]] = [set() for _ in chosen]
        self._labels: dict[str | None, int] = {}
        #: How often each label was found, by its number.
        self._counts = [np.zeros(0, np.int64) for _ in chosen]
        #: Frames that are counted together, after up to two that have been counted.
        self._waiting: list[FrameBoxes] = []
        self._counted = 0
        self._widest = 0
        self._is_too_wide = False
        self._judged: set[int] = set()
        self._repeated = 0
        #: Detections of labels that the ground truth does not have, as recorded.
        self._others: Counter[str | None] = Counter()
        if truth is not None:
            self._check_labels(truth, labels)
            check_sizes(truth, session)
            for outcome in self._outcomes:
                outcome.true_positives = 0

    def add(self, frame: FrameBoxes) -> None:
        self._check_frame(frame)
        self._has_classes |= frame.boxed < len(frame.labels)
        self._waiting.append(frame)
        self._widest = max(self._widest, len(frame.labels))
        if len(self._waiting) >= most_frames(self._widest):
            self._count(is_last=False)

    def result(self) -> list[Outcome]:
        self._count(is_last=True)
        names = list(self._labels)
        for outcome, ids, counts in zip(self._outcomes, self._ids, self._counts, strict=True):
            if outcome.setting.tracker is not None:
                outcome.tracks = len(ids)
            outcome.labels.update(
                {names[at]: int(counts[at]) for at in np.flatnonzero(counts).tolist()}
            )
        if self._is_too_wide:
            self.notes.append(
                f"There are frames with more than {MOST_BOXES} detections: their flicker is not "
                "counted."
            )
        if self._truth is not None:
            self._check_frames(self._truth)
        is_threshold_asked = any(setting.threshold is not None for setting in self._settings)
        if self._top_k and self._has_classes and is_threshold_asked:
            self.notes.append(
                f"Recorded with output_top_k={self._top_k:g}, with which PySDK reports as many "
                "classes at any threshold: this is counted as with output_top_k=0."
            )
        return self._outcomes

    def _check_frame(self, frame: FrameBoxes) -> None:
        where = f"{self._session.path}: frame {frame.position}"
        chosen = self._settings
        if any(each.threshold is not None for each in chosen) and np.isnan(frame.scores).any():
            raise ConfigError(
                f"{where} has detections without a score, which a threshold cannot choose from"
            )
        if frame.rotated and any(each.nms is not None for each in chosen):
            raise ConfigError(f"{where} has boxes with an angle, to which NMS is not applied here")

    def _count(self, *, is_last: bool) -> None:
        """Count the waiting frames; keep the last two, to find boxes that come and go."""
        if not self._waiting:
            return
        block = Block(self._waiting, self._labels)
        new = self._counted
        alternatives = [
            index
            for index in range(new, len(block.frames))
            if block.frames[index].boxed < len(block.frames[index].labels)
        ]
        self._is_too_wide |= block.is_too_wide
        scores, partners = {}, {}
        for nms in {setting.nms for setting in self._settings}:
            scores[nms] = self._scores(block, nms)
            partners[nms] = block.partners(scores[nms])
        kept_of = []
        for number, outcome in enumerate(self._outcomes):
            setting = outcome.setting
            least = -np.inf if setting.threshold is None else setting.threshold
            best = scores[setting.nms]
            kept = (best >= least) & (best > -np.inf)
            kept_of.append(kept)
            fresh = kept[new:]
            outcome.frames += len(fresh)
            outcome.detections += int(fresh.sum())
            outcome.frames_with_detections += int(fresh.any(axis=1).sum())
            counts = np.bincount(block.labels[new:][fresh], minlength=len(self._labels))
            counts[: len(self._counts[number])] += self._counts[number]
            self._counts[number] = counts
            is_boxed = block.boxed[new:]
            outcome.recorded += int(is_boxed.sum())
            outcome.same += int((fresh & is_boxed).sum())
            for index in alternatives:
                self._compare_best(outcome, block.frames[index], kept[index])
            self._come_and_go(outcome, block, kept, partners[setting.nms], least, is_last=is_last)
        for index in range(new, len(block.frames)):
            masks = [kept[index, : len(block.frames[index].labels)] for kept in kept_of]
            self._follow(block.frames[index], masks)
        self._waiting = self._waiting[-2:]
        self._counted = len(self._waiting)

    def _follow(self, frame: FrameBoxes, masks: list[Mask]) -> None:
        """Give a frame to the trackers, and compare it with the ground truth."""
        self._track(frame, masks)
        truth = self._truth
        if truth is not None and frame.source_frame in truth.frames:
            if frame.source_frame in self._judged:  # programs may have several results of a frame
                self._repeated += 1
                return
            self._judged.add(frame.source_frame)
            self._judge(frame, masks, truth.frames[frame.source_frame])

    # --- which detections a setting keeps ---

    def _scores(self, block: Block, nms: float | None) -> Floats:
        """Return the scores of the detections that NMS leaves; -infinity for the others.

        A better box is never below a threshold that a worse one passes, so the order of the two
        does not matter.
        """
        scores = np.where(block.exists, np.nan_to_num(block.scores, nan=np.inf), -np.inf)
        if nms is not None:
            for at, frame in enumerate(block.frames):
                scores[at, : len(frame.labels)][self._suppressed(frame, nms)] = -np.inf
        return scores

    def _suppressed(self, frame: FrameBoxes, overlap: float) -> Mask:
        is_boxed = frame.is_boxed
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

    @staticmethod
    def _compare_best(outcome: Outcome, frame: FrameBoxes, mask: Mask) -> None:
        """Count the best of the detections without a box, as `dgrec compare` does."""
        labelled = [i for i in np.flatnonzero(~frame.is_boxed) if frame.labels[i] is not None]
        if labelled:
            outcome.recorded += 1
            best = max(labelled, key=lambda i: np.nan_to_num(frame.scores[i], nan=-np.inf))
            outcome.same += int(mask[best])

    def _come_and_go(
        self,
        outcome: Outcome,
        block: Block,
        kept: Mask,
        partners: tuple[Floats, Floats, Floats],
        least: float,
        *,
        is_last: bool,
    ) -> None:
        """Count the boxes that are in one frame alone, and those that are missing in one."""
        if block.is_too_wide:
            return
        before, after, later = (best >= max(least, _LEAST) for best in partners)
        single = (kept & block.boxed & ~before & ~after).sum(axis=1)
        gaps = (kept & ~after & later).sum(axis=1)
        # The last of the frames that were counted before had no next frame yet.
        end = len(single) if is_last else len(single) - 1
        outcome.single += int(single[max(0, self._counted - 1) : end].sum())
        outcome.gaps += int(gaps[: max(0, len(gaps) - 2)].sum())

    def _track(self, frame: FrameBoxes, masks: list[Mask]) -> None:
        run = self._runs.number(frame.source_frame)
        if run != self._run:  # as they would have begun anew while recording
            self._run, self._trackers = run, self._make_trackers()
        for outcome, analyzers, ids, mask in zip(
            self._outcomes, self._trackers, self._ids, masks, strict=True
        ):
            if not analyzers:
                continue
            result = _Result(list(_detections(frame, mask)))
            for analyzer in analyzers:
                try:
                    analyzer.analyze(result)
                except Exception as error:  # such as a box with an infinite corner
                    where = f"at frame {frame.position} of {self._session.path}"
                    raise failure_of(analyzer, error, where) from error
            found = [item["track_id"] for item in result.results if "track_id" in item]
            outcome.tracked += len(found)
            ids.update((run, track) for track in found)

    def _judge(self, frame: FrameBoxes, masks: list[Mask], truth: TruthFrame) -> None:
        crowd = np.array(truth.is_crowd, np.bool_)
        objects = int((~crowd).sum())
        overlap = overlaps(frame.boxes, truth.boxes)
        same = np.array([[a == b for b in truth.labels] for a in frame.labels], np.bool_)
        same = same.reshape(overlap.shape)
        overlap = np.where(same, overlap, 0.0)
        inside = shares_inside(frame.boxes, truth.boxes)
        is_in_crowd: Mask = np.any((inside >= SAME_IOU) & same & crowd, axis=1)
        assert self._truth is not None
        boxed = [i for i in range(len(frame.labels)) if not np.isnan(frame.boxes[i]).any()]
        known = {*self._truth.labels}
        self._others.update(frame.labels[i] for i in boxed if frame.labels[i] not in known)
        ranked = sorted(
            (i for i in boxed if frame.labels[i] in known),
            key=lambda i: -np.nan_to_num(frame.scores[i], nan=0.0),
        )
        for outcome, mask in zip(self._outcomes, masks, strict=True):
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
        objects = Counter(label for frame in truth.frames.values() for label in frame.labels)
        if labels and (unknown := [label for label in objects if label not in {*labels}]):
            count = counted(sum(objects[label] for label in unknown), "object")
            self.notes.append(
                f"{truth.path}: {count} of labels that the model does not have "
                f"({', '.join(sorted(unknown)[:5])}) cannot be found, and lower the recall."
            )

    def _check_frames(self, truth: Truth) -> None:
        self.notes += unrecorded(truth, len(self._judged))
        self.notes += left_out(self._others, self._repeated)


@dataclass
class _Result:
    """The part of a result that an ObjectTracker needs."""

    results: list[dict[str, Any]]


def _detections(frame: FrameBoxes, mask: Mask) -> Iterator[dict[str, Any]]:
    for index in np.flatnonzero(mask):
        box = frame.boxes[index]
        if not np.isnan(box).any():
            score = float(np.nan_to_num(frame.scores[index], nan=0.0))
            yield {"bbox": box.tolist(), "label": frame.labels[index] or "", "score": score}


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
            # Among objects that overlap equally, COCO takes the last.
            taken[near.size - 1 - int(near[::-1].argmax())] = True
            right += 1
        elif not in_crowd[index]:
            wrong += 1
    return right, wrong

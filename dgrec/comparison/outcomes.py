"""A session's frames and detections under one setting, and under all that were asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Setting:
    """One set of thresholds; None: as recorded."""

    threshold: float | None = None
    nms: float | None = None
    #: Settings of an ObjectTracker, as `--tracker` takes them; None: no tracker runs.
    tracker: str | None = None


@dataclass
class Outcome:
    """The content of a recording with one setting."""

    setting: Setting
    frames: int = 0
    detections: int = 0
    frames_with_detections: int = 0
    labels: Counter[str | None] = field(default_factory=Counter)
    #: Boxes without a partner (same label, IoU of 0.1) in both neighbouring frames, and boxes that
    #: are in one frame and the one after the next, but not between.
    single: int = 0
    gaps: int = 0
    #: Detections of the recording that are compared, and how many of them are kept.
    recorded: int = 0
    same: int = 0
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
        both = self.recorded + self.same
        return 2 * self.same / both if both else 1.0

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

"""Comparing recordings, in speed and in what they found; docs/compare.md says how.

=================  ===============================================================
comparison         `compare`: the whole answer
provenance         what differs in how the recordings were made
samples            durations and stamps of one session, without its warm-up
blocks             how much a mean over autocorrelated frames can be trusted
changes            one metric: its value and its change, with their intervals
metrics            all metrics, of one session a side or of several
verdicts           faster, slower, the same, or unclear
agreement          detections of the same footage, compared
matching           which frames are the same, and which of their detections
boxes              the boxes of frames as arrays, and how far they overlap
neighbours         boxes of neighbouring frames that belong together
truth              ground truth: boxes that people drew
average_precision  precision, recall and COCO's average precision
outcomes           what a session would hold with other thresholds
thresholds         `whatif`, which counts that
limits             conditions on a comparison: ``latency_p95_ms > +10%``
=================  ===============================================================
"""

from dgrec.comparison.agreement import Agreement
from dgrec.comparison.average_precision import Accuracy, accuracy
from dgrec.comparison.boxes import FrameBoxes, frames_of
from dgrec.comparison.changes import GOOD_SESSIONS, MARGIN
from dgrec.comparison.comparison import ComparedSession, Comparison, are_of_same_frames, compare
from dgrec.comparison.limits import Limit, Outcome, check_limits, parse_limit
from dgrec.comparison.matching import KINDS, FrameMatches, match_frames, paired
from dgrec.comparison.metrics import MetricRow, Value
from dgrec.comparison.outcomes import Outcome as SettingOutcome
from dgrec.comparison.outcomes import WhatIf
from dgrec.comparison.samples import UNKNOWN
from dgrec.comparison.thresholds import whatif
from dgrec.comparison.verdicts import Verdict

__all__ = [
    "Accuracy",
    "Agreement",
    "ComparedSession",
    "Comparison",
    "FrameBoxes",
    "FrameMatches",
    "GOOD_SESSIONS",
    "KINDS",
    "Limit",
    "MARGIN",
    "MetricRow",
    "Outcome",
    "SettingOutcome",
    "UNKNOWN",
    "Value",
    "Verdict",
    "WhatIf",
    "accuracy",
    "are_of_same_frames",
    "check_limits",
    "compare",
    "frames_of",
    "match_frames",
    "paired",
    "parse_limit",
    "whatif",
]

"""Alerts: rules over detections and performance, the same live and on a recording.

===============  ===============================================================
condition        comparisons joined by and, or, not
rule             the grammar of rules: ``count('person') >= 3 for 2s``
events           rules of degirum_tools' EventDetector, in files
detections       conditions over one detection: ``score > 0.5``
evaluator        when each rule holds, frame by frame
frames           rows and sessions, as rules see them
recorded_alerts  the alerts that a recording gave, and the names of their clips
===============  ===============================================================
"""

from dgrec.alerts.detections import DetectionCondition, parse_detection_condition
from dgrec.alerts.evaluator import Alert, Evaluator
from dgrec.alerts.events import EventRule, parse_rules
from dgrec.alerts.frames import alerts_of, frame_of, unknown_labels
from dgrec.alerts.recorded_alerts import (
    LONGEST_CLIP_NAME,
    RecordedAlert,
    clip_path,
    recorded_alerts,
    without_clip,
)
from dgrec.alerts.rule import Rule, parse_rule

__all__ = [
    "LONGEST_CLIP_NAME",
    "Alert",
    "DetectionCondition",
    "Evaluator",
    "EventRule",
    "RecordedAlert",
    "Rule",
    "alerts_of",
    "clip_path",
    "frame_of",
    "parse_detection_condition",
    "parse_rule",
    "parse_rules",
    "recorded_alerts",
    "unknown_labels",
    "without_clip",
]

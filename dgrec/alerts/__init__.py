"""Alerts: rules over detections and performance, the same live and on a recording.

=========  =====================================================================
rule       the grammar of rules: ``count('person') >= 3 for 2s``
events     rules of degirum_tools' EventDetector, in files
evaluator  when each rule holds, frame by frame
frames     what rules ask of rows, and of a session
=========  =====================================================================
"""

from dgrec.alerts.evaluator import Alert, AlertFrame, Evaluator
from dgrec.alerts.events import EventRule, parse_rules
from dgrec.alerts.frames import alerts_of, frame_of
from dgrec.alerts.rule import Rule, parse_rule

__all__ = [
    "Alert",
    "AlertFrame",
    "Evaluator",
    "EventRule",
    "Rule",
    "alerts_of",
    "frame_of",
    "parse_rule",
    "parse_rules",
]

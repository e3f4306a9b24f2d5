"""Alerts: rules over detections and performance, the same live and on a recording.

=========  =====================================================================
rule       the grammar of rules: ``count('person') >= 3 for 2s``
evaluator  when each rule holds, frame by frame
frames     what rules ask of rows, and of a session
=========  =====================================================================
"""

from dgrec.alerts.evaluator import Alert, AlertFrame, Evaluator
from dgrec.alerts.frames import alerts_of, frame_of
from dgrec.alerts.rule import Rule, parse_rule

__all__ = ["Alert", "AlertFrame", "Evaluator", "Rule", "alerts_of", "frame_of", "parse_rule"]

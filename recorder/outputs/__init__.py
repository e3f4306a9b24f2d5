"""Outputs, which watch a recording: targets, alerts, a window, and the base class for others."""

from dgrec.recorder.outputs.alerts import AlertListener, Alerts, parse_command
from dgrec.recorder.outputs.clips import AlertClips, without_clips
from dgrec.recorder.outputs.later_delivery import LaterDelivery
from dgrec.recorder.outputs.metrics import Metrics, parse_metrics_address
from dgrec.recorder.outputs.newest_frame import NewestFrame, Shown
from dgrec.recorder.outputs.output import Output, OutputQueue
from dgrec.recorder.outputs.publisher import AlertFeed, Publisher
from dgrec.recorder.outputs.window import OverlayWindow

__all__ = [
    "AlertClips",
    "AlertFeed",
    "AlertListener",
    "Alerts",
    "LaterDelivery",
    "Metrics",
    "NewestFrame",
    "Output",
    "OutputQueue",
    "OverlayWindow",
    "Publisher",
    "Shown",
    "parse_metrics_address",
    "parse_command",
    "without_clips",
]

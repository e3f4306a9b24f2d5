"""Outputs, which watch a recording: JSON lines, a window, and the base class for others."""

from dgrec.recorder.outputs.json_lines import JsonLines, check_target
from dgrec.recorder.outputs.output import Output, OutputQueue
from dgrec.recorder.outputs.window import OverlayWindow

__all__ = [
    "JsonLines",
    "Output",
    "OutputQueue",
    "OverlayWindow",
    "check_target",
]

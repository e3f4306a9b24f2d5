"""Outputs, which watch a recording: targets, a window, and the base class for others."""

from dgrec.recorder.outputs.output import Output, OutputQueue
from dgrec.recorder.outputs.publisher import Publisher
from dgrec.recorder.outputs.window import OverlayWindow

__all__ = [
    "Output",
    "OutputQueue",
    "OverlayWindow",
    "Publisher",
]

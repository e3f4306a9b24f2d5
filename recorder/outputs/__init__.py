"""What watches a recording: JSON lines and a window."""

from dgrec.recorder.outputs.json_lines import Publisher, check_target
from dgrec.recorder.outputs.window import OverlayWindow

__all__ = [
    "OverlayWindow",
    "Publisher",
    "check_target",
]

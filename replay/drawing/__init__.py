"""Painters of everything on a frame besides its overlay.

==========  ====================================================================
painter     the base class of painters; sizes
lettering   text, drawn fast
neighbours  the rows before and after a frame
hud         timing, as a head-up display
trails      the paths of tracks
labels      checks the labels that options name
redaction   covers detections
==========  ====================================================================
"""

from dgrec.replay.drawing.hud import Corner, Elapsed, Hud, time_text
from dgrec.replay.drawing.labels import check_labels
from dgrec.replay.drawing.lettering import Lettering, Line, paste, text_height
from dgrec.replay.drawing.painter import Filtered, Painter, Resize, SquarePixels, Stack
from dgrec.replay.drawing.redaction import Redaction, Region
from dgrec.replay.drawing.trails import Trails, track_color

__all__ = [
    "Corner",
    "Elapsed",
    "Filtered",
    "Hud",
    "Lettering",
    "Line",
    "Painter",
    "Redaction",
    "Region",
    "Resize",
    "SquarePixels",
    "Stack",
    "Trails",
    "check_labels",
    "paste",
    "text_height",
    "time_text",
    "track_color",
]

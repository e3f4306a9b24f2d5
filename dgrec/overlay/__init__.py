"""PySDK's overlays, drawn faster.

================  ==============================================================
overlay           draws a result as PySDK does
pysdk             makes PySDK's own result objects from recorded ones
canvas            PySDK's canvas, blending only where something was drawn
noting            notes what PySDK and degirum_tools would draw, without painting
noting_functions  stand-ins for the drawing functions that they call
operations        the drawing operations that are noted
arrays            arrays that are reused
================  ==============================================================
"""

from dgrec.overlay.noting import note_analyzers, note_overlay
from dgrec.overlay.operations import Colors, Operations
from dgrec.overlay.overlay import as_pil, image_overlay
from dgrec.overlay.pysdk import (
    as_pysdk,
    fill_result,
    plain_class,
    pysdk_result,
    result_class_of,
    with_inner_results,
)

__all__ = [
    "Colors",
    "Operations",
    "as_pil",
    "as_pysdk",
    "fill_result",
    "image_overlay",
    "note_analyzers",
    "note_overlay",
    "plain_class",
    "pysdk_result",
    "result_class_of",
    "with_inner_results",
]

"""PySDK's overlays, drawn faster.

=======  ==========================================================
overlay  draws a result as PySDK does
pysdk    makes PySDK's own result objects from recorded ones
canvas   PySDK's canvas, blending only where something was drawn
arrays   arrays that are used again
=======  ==========================================================
"""

from dgrec.overlay.overlay import as_pil, image_overlay, is_fast
from dgrec.overlay.pysdk import (
    as_pysdk,
    fill_result,
    plain_class,
    pysdk_result,
    result_class_of,
    with_inner_results,
)

__all__ = [
    "as_pil",
    "as_pysdk",
    "fill_result",
    "image_overlay",
    "is_fast",
    "plain_class",
    "pysdk_result",
    "result_class_of",
    "with_inner_results",
]

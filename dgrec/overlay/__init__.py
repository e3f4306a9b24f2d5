"""PySDK's overlays, drawn faster.

=======  ==========================================================
overlay  draws a result as PySDK does
canvas   PySDK's canvas, blending only where something was drawn
arrays   arrays that are used again
=======  ==========================================================
"""

from dgrec.overlay.overlay import as_pil, image_overlay, is_fast

__all__ = ["as_pil", "image_overlay", "is_fast"]

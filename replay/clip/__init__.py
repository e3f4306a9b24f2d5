"""A part of a session as a session of its own.

========  ======================================================================
spans     which moments it is made of
rows      its rows, and where in its video each will be
recorded  the videos there were
packets   copies frames without decoding them
videos    copies or encodes the videos
clip      writes the whole
cli       `dgrec clip`
========  ======================================================================
"""

from dgrec.replay.clip.clip import check_clip_output, write_clip
from dgrec.replay.clip.spans import Span, spans_where

__all__ = [
    "Span",
    "check_clip_output",
    "spans_where",
    "write_clip",
]

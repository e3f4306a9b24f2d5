"""A part of a session as a session of its own.

===============  ===============================================================
spans            the spans of frames that it is made of
rows             its rows, and their frames in its video
recorded_videos  the recorded videos that it has frames of
packets          copies frames without decoding them
kept_packets     the same for videos that keep their source's packets
videos           copies or encodes the videos
clip             writes the session
key_frames       where a clip can begin without being encoded again
alert_clips      clips of the alerts that a recording gave
===============  ===============================================================
"""

from dgrec.replay.clip.alert_clips import cut_alerts
from dgrec.replay.clip.clip import check_clip_output, moved_source, write_clip
from dgrec.replay.clip.recorded_videos import ClipReport
from dgrec.replay.clip.rows import cut_positions
from dgrec.replay.clip.spans import Span, spans_where

__all__ = [
    "ClipReport",
    "Span",
    "check_clip_output",
    "cut_alerts",
    "cut_positions",
    "moved_source",
    "spans_where",
    "write_clip",
]

"""The pixels of a recording: which there are, and which belong to which row.

===========  ===================================================================
frame_index  where the frames of a video file are
video        a frame of a video file, by its number
finding      where a session's pixels are
pixels       the picture of each row
timeline     when each frame was recorded
selection    which part of a session is meant: frames, times
===========  ===================================================================
"""

from dgrec.replay.footage.finding import Footage, files_of, find_footage, find_recorded
from dgrec.replay.footage.pixels import Pixels, pixel_aspect_of
from dgrec.replay.footage.selection import Position, chosen_batches, parse_position, resolve
from dgrec.replay.footage.timeline import (
    FIRST_STEP_US,
    LONGEST_USUAL_STEP_US,
    Timeline,
    column_values,
    media_us,
    session_times,
)
from dgrec.replay.footage.video import Clip

__all__ = [
    "Clip",
    "FIRST_STEP_US",
    "Footage",
    "LONGEST_USUAL_STEP_US",
    "Pixels",
    "Position",
    "Timeline",
    "chosen_batches",
    "column_values",
    "files_of",
    "find_footage",
    "find_recorded",
    "media_us",
    "parse_position",
    "pixel_aspect_of",
    "resolve",
    "session_times",
]

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

from dgrec.footage.finding import Footage, files_of, find_footage, find_recorded
from dgrec.footage.originals import recorded_files, refuse_recorded
from dgrec.footage.pixels import Pixels, pixel_aspect_of
from dgrec.footage.selection import Position, chosen_batches, parse_position, resolve
from dgrec.footage.timeline import (
    FIRST_STEP_US,
    LONGEST_USUAL_STEP_US,
    Timeline,
    column_values,
    media_us,
    session_times,
)
from dgrec.footage.video import VideoFrames
from dgrec.footage.videos import base_name, difference_of, may_open, recorded_video, videos_beside

__all__ = [
    "FIRST_STEP_US",
    "Footage",
    "LONGEST_USUAL_STEP_US",
    "Pixels",
    "Position",
    "Timeline",
    "VideoFrames",
    "base_name",
    "chosen_batches",
    "column_values",
    "difference_of",
    "files_of",
    "find_footage",
    "find_recorded",
    "may_open",
    "media_us",
    "parse_position",
    "pixel_aspect_of",
    "recorded_files",
    "recorded_video",
    "refuse_recorded",
    "resolve",
    "session_times",
    "videos_beside",
]

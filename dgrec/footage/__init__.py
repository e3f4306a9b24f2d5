"""The pixels of a recording: where they are, and which belong to which row.

==============  ==================================================================
recorded_files  files that metadata names: may they be opened, or replaced?
footage         finds the video with a session's pixels
video_frames    a frame of a video file, by its number
kept_frames     the same for a video that keeps its source's packets
frame_index     key frames and presentation times, without decoding
table_index     the same for an MP4, of which only the part that is needed is read
pixels          the picture of each row
picture_times   when each row's picture is shown, without decoding
timeline        when each frame is shown
position        a point in a session: a frame, a time
==============  ==================================================================
"""

from dgrec.footage.footage import Footage, files_of, find_footage, find_recorded
from dgrec.footage.picture_times import GrowingPictureTimes, PictureTimes, Shown
from dgrec.footage.pixels import Pixels, pixel_aspect_of
from dgrec.footage.position import Position, chosen_batches, parse_position, resolve
from dgrec.footage.recorded_files import (
    base_name,
    difference_of,
    file_facts,
    own_videos,
    recorded_files,
    recorded_video,
    refuse_recorded,
    source_paths,
    videos_beside,
    videos_of_its_name,
    why_not_there,
)
from dgrec.footage.timeline import (
    FIRST_STEP_US,
    LATEST_MEDIA_S,
    LONGEST_USUAL_STEP_US,
    Timeline,
    column_values,
    media_us,
    session_times,
)
from dgrec.footage.video_frames import VideoFrames, count_pictures

__all__ = [
    "FIRST_STEP_US",
    "Footage",
    "GrowingPictureTimes",
    "LATEST_MEDIA_S",
    "LONGEST_USUAL_STEP_US",
    "PictureTimes",
    "Pixels",
    "Position",
    "Shown",
    "Timeline",
    "VideoFrames",
    "count_pictures",
    "base_name",
    "chosen_batches",
    "column_values",
    "difference_of",
    "file_facts",
    "files_of",
    "find_footage",
    "find_recorded",
    "media_us",
    "own_videos",
    "parse_position",
    "pixel_aspect_of",
    "recorded_files",
    "recorded_video",
    "refuse_recorded",
    "resolve",
    "session_times",
    "source_paths",
    "videos_beside",
    "videos_of_its_name",
    "why_not_there",
]

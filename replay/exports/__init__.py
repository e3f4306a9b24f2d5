"""Exports: a session in the formats of other tools.

==============  ================================================================
exporter        writes the files of an export, and reports what was written
exported        which frames and detections of a session are exported
selection       the options that choose them
block           some frames and their detections, as columns and as Python values
classes         numbers for labels
odd_values      values that only JSON holds, back in their columns
stages          begin and end of each stage of a frame
tracks          detections ordered by track
track_ids       track ids that no two tracks share
pictures        writes pictures of frames
packets         the packets of a session's video
shown_video     the video whose frames an export numbers
losses          what a format cannot hold, counted
geometry        masks as run lengths and outlines; corners of turned boxes
format          `ExportFormat`, the base class; the registry of formats
formats/        the formats, a file for each, with what several of them need
==============  ================================================================
"""

from dgrec.replay.exports.block import Block, Frame
from dgrec.replay.exports.classes import Classes
from dgrec.replay.exports.exported import (
    EVERYTHING,
    Exported,
    has_other_numbers,
    session_name,
    utf8,
)
from dgrec.replay.exports.exporter import (
    ExportReport,
    export,
    export_session,
    export_to_stdout,
    member_outputs,
)
from dgrec.replay.exports.format import FORMATS, ExportFormat, format_of
from dgrec.replay.exports.geometry import Mask, corners_of, frame_masks, masks_of
from dgrec.replay.exports.losses import Losses
from dgrec.replay.exports.packets import (
    UnsuitableVideoError,
    VideoPackets,
    check_rows,
    unchanged_video,
)
from dgrec.replay.exports.selection import ExportOptions, parse_split
from dgrec.replay.exports.stages import METRICS, STAGE_COLUMNS, FrameTimes, Slice, frames_with_times
from dgrec.replay.exports.tracks import Place, Track, Tracks

__all__ = [
    "Block",
    "Classes",
    "EVERYTHING",
    "ExportOptions",
    "ExportReport",
    "Exported",
    "FORMATS",
    "ExportFormat",
    "Frame",
    "FrameTimes",
    "Losses",
    "Mask",
    "Place",
    "METRICS",
    "STAGE_COLUMNS",
    "Slice",
    "Track",
    "Tracks",
    "UnsuitableVideoError",
    "VideoPackets",
    "check_rows",
    "corners_of",
    "export",
    "export_session",
    "export_to_stdout",
    "format_of",
    "frame_masks",
    "frames_with_times",
    "has_other_numbers",
    "masks_of",
    "member_outputs",
    "parse_split",
    "session_name",
    "unchanged_video",
    "utf8",
]

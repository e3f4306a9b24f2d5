"""Draws frames with their results and writes them.

=============  =================================================================
selection      which frames of a session are drawn
scene          what is drawn on them
side_by_side   two sessions of the same footage in one picture
render         draws the frames and writes them, each at its own time
pipeline       stages that run in parallel
outputs        the kind of output by its name: video, animation, folder, sheet
sinks          writes an MP4 or a folder of pictures
animation      writes GIF and WebP
contact_sheet  writes many frames as one picture
=============  =================================================================
"""

from dgrec.replay.rendering.outputs import ReplayOutput, choose_output, contact_sheet_of
from dgrec.replay.rendering.render import Canvas, canvas_for, write_replay
from dgrec.replay.rendering.scene import Scene
from dgrec.replay.rendering.selection import Selection, select_frames
from dgrec.replay.rendering.sinks import earlier_pictures, encode_picture

__all__ = [
    "Canvas",
    "ReplayOutput",
    "Scene",
    "Selection",
    "canvas_for",
    "choose_output",
    "contact_sheet_of",
    "earlier_pictures",
    "encode_picture",
    "select_frames",
    "write_replay",
]

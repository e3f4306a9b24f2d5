"""Frames with their results drawn, one after the other, and where they go.

=============  =================================================================
scene          everything that is drawn, chosen once
render         frames, drawn, each at its own time
pipeline       stages that work side by side
beside         two sessions of the same footage
cut            which frames of a session are drawn
outputs        what a path stands for: a video, an animation, a folder, a sheet
sinks          writes an MP4 or pictures
animation      writes GIF and WebP
contact_sheet  writes many frames as one picture
=============  =================================================================
"""

from dgrec.replay.rendering.outputs import Output, choose_output
from dgrec.replay.rendering.render import Canvas, canvas_for, write_replay
from dgrec.replay.rendering.scene import Scene
from dgrec.replay.rendering.selection import Cut, select_frames

__all__ = [
    "Canvas",
    "Cut",
    "Output",
    "Scene",
    "canvas_for",
    "choose_output",
    "select_frames",
    "write_replay",
]

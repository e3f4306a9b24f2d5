"""The window in which a session is played.

=============  =================================================================
player         keys, clicks, and what is drawn
playhead       the frame that is shown, and the one that comes next
played_frames  the frames, and their times
marks          frames that stand out: drops, slow frames, new labels
time_bar       the bar below the picture
window         an OpenCV window, and its keys
=============  =================================================================
"""

from dgrec.replay.player.player import Look, play_session

__all__ = ["Look", "play_session"]

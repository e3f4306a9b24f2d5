"""The window in which a session is played.

========  ======================================================================
player    keys, clicks, and the pace at which frames are shown
playhead  where the player stands, and what it does next
moments   drops, slow frames, new labels: what there is to jump to
time_bar  the bar below the frame
========  ======================================================================
"""

from dgrec.replay.player.player import Look, play_session

__all__ = [
    "Look",
    "play_session",
]

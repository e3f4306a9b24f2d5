"""The window in which a session is played.

========  ======================================================================
player    keys, clicks, and the pace at which frames are shown
playhead  where the player stands, and what it does next
moments   drops, slow frames, new labels: what there is to jump to
time_bar  the bar below the frame
========  ======================================================================
"""

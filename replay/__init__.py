"""Reads sessions: overlays, SQL answers, statistics.

=========  =====================================================================
query      SQL of a stranger, and conditions
stats      measures, charts, why
compare    BASE against NEW
report     one HTML file
footage    pixels, and which row they belong to
drawing    what is drawn on a frame
rendering  frames drawn one after the other, to files
player     the window
clip       a part of a session as a session
=========  =====================================================================

``cli`` gathers the commands; ``options`` and ``output`` are what they share; ``info`` and
``verify`` are small ones.
"""

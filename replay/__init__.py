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

``cli`` gathers the commands, of which ``info`` and ``verify`` are small ones. What they share:
``options``, ``output`` (results as text and files), ``recorded`` (what nothing may replace).
"""

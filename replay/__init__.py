"""Reads sessions: overlays, SQL answers, statistics.

=========  =====================================================================
query      untrusted SQL, and conditions
stats      measurements, charts, bottlenecks
compare    BASE against NEW
report     one HTML file
drawing    what is drawn on a frame
rendering  draws frames and writes them to files
player     the window
clip       a part of a session as a session
output     results as text and files
commands   the command line, with `cli` and `options`
=========  =====================================================================
"""

"""Recordings in a browser: the page of `dgrec view`, and its server.

=============  =========================================================================
server         the paths, and how each is answered
foreground     serves until Ctrl-C, and opens a browser
recordings     which recordings there are, by their names; those that are open
opened         one that is open
workers        threads for what would hold up the server
parameters     the parameters of a request
values         values as JSON that browsers can read
card           what there is to know of one before its rows are read; the list of all
rows           rows by their positions
videos         video files, and which picture of them belongs to a row
files          files by ranges of their bytes
live           what a recording in progress adds
pictures       pictures as JPEG, decoded here
questions      which questions are answered by SQL
time_line      seconds, pixels and positions of rows
overlay        what is drawn over the pictures; thumbnails
label_colors   the colors of labels
bounded_rows   rows whose detections are few enough to be drawn
series         lines over time
marks          what stands out on the time line
matches        which detections a condition keeps
statements     SQL that somebody typed
why            what limited the rate
pairs          two sessions side by side, and their frames paired
differences    what differs between them
=============  =========================================================================
"""

from dgrec.replay.viewing.foreground import parse_listen, show
from dgrec.replay.viewing.server import ViewServer

__all__ = ["ViewServer", "parse_listen", "show"]

"""Recordings in a browser: the page of `dgrec view`, and its server.

=================  =======================================================================
server             the paths, and how each is answered
foreground         serves until Ctrl-C, and opens a browser
recordings         which recordings there are, by their names; those that are open
opened_session     one that is open
workers            threads for what would hold up the server
parameters         the parameters of a request
values             values as JSON that browsers can read
card               facts about one before its rows are read; the list of all
rows               rows by their positions
videos             video files, and which picture of them belongs to a row
files              files by ranges of their bytes
live               news of a recording in progress
recorder_link      asks the process that records for its newest frame
pages              the pages that are open
pictures           pictures as JPEG, decoded here
questions          which questions are answered by SQL
time_line          seconds, pixels and positions of rows
overlay            what is drawn over the pictures; thumbnails
label_colors       the colors of labels
bounded_rows       rows whose detections are few enough to be drawn
series             lines over time
labels             the labels of all detections, as numbers
marks              what stands out on the time line
matches            which detections a condition keeps
statements         SQL that a user typed
statement_process  runs it in a process of its own
statement_program  that process
why                what limited the rate
downloads          files made of a marked part for pages
download_program   makes it
export             recordings as a folder that needs no server
contents           the contents of an export for one
previews           videos for browsers that are made of others
targets            where the parts of an export are written
single             the page in one file
notebook           the player in a notebook
pairs              two sessions side by side, and their frames paired
differences        what differs between them
=================  =======================================================================

Requests of the page, by GET. ``s`` is the name of a session on this server, ``i`` the position of a
row from 0, ``t`` seconds since the first row. Answers are JSON without NaN, in which whole numbers
beyond 2^53 are texts; a refusal is ``{error}`` with the status 400, 404, 422 or 500. With ``known``
(ID,POSITION,FRAME: of the card, and of a row), a request that names a session is refused with 409
if that row has another position by now: older parts were removed, or another recording has the
name.

==================  =====================================================================
``/``               the page (``page.js``, ``page.css``, ``NOTICE``); with ``token``, a
                    cookie and a redirect
``/api/sessions``   what `dgrec list` says of each; ``q``: words, ``where``: SQL over the
                    view ``sessions``
``/api/card``       ``s``: what there is to know before rows are read: ``n`` rows, state,
                    model, size, facts, caveats, videos, stages, signals, labels with
                    their colors, ``id``, ``has``, ``clock`` (what ``t`` is counted by),
                    ``began`` (its value at the first row, in seconds), and ``version``,
                    another one once its files have changed; ``brief``: the labels, stages
                    and signals, which have to be counted, are left empty
``/api/rows``       ``s``, ``from``, ``to`` (at most 1,000): columns of rows; ``video``
                    (of the card's, or -1), ``pts_s``: when its picture is shown in that
                    file, as browsers count it, ``duration_s``: for how long, ``state``:
                    why there is none
``/api/row``        ``s``, ``i``: every column, and ``detections`` as PySDK had them
``/api/at``         ``s``, and ``t``, ``frame`` or ``media``: the nearest row, ``i``
``/api/overlay``    ``s``, ``from``, ``to`` (at most 300): what to draw (`overlay`)
``/api/thumb``      ``s``: a small JPEG of one frame, with its overlay
``/api/picture``    ``s``, ``i``, ``w``: the row's picture as JPEG, no wider than that;
                    ``before``: or of a row up to so many earlier, at ``X-Position``
``/api/series``     ``s``, ``names``, ``from``, ``to``, ``width``: lines over time
``/api/marks``      ``s``, ``from``, ``to``, ``width``: what stands out
``/api/next``       ``s``, ``i``, ``kind``, ``dir``: the next row that stands out
``/api/why``        ``s``: what limited the rate, and the table of stages
``/api/sql``        ``s``, ``q``, ``limit``: the rows of one statement that reads, or
                    ``error``
``/api/matches``    ``s``, ``q``, ``from``, ``to``: which detections a condition keeps
``/api/questions``  the SQL library
``/api/live``       ``s``: Server-Sent Events ``grew`` (``n``, ``first_frame``, ``version``),
                    ``alert``, ``targets``, ``ended`` and ``problem``
``/api/newest``     ``s``, ``after``: the frame that is recorded now as JPEG, with its overlay;
                    ``X-Captured-Us``: to be ``after`` in the next request; 204: none yet,
                    or with ``Retry-After``: the recorder gives none
``/api/page``       ``id``, ``closed``: a page says that it is open, or is closed
``/video``          ``s``, ``k``: a video file, by ranges
``/api/downloads``  ``are_allowed``: whether pages may have files made
``/api/make``       ``s``, ``kind`` (``clip``, ``export``, ``png``), ``first``, ``last``,
                    ``format``: makes one of some rows: ``id``, ``name``, ``bytes``
``/made``           ``id``: what was made
==================  =====================================================================
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dgrec.replay.viewing.single import single_page
from dgrec.replay.viewing.targets import packed

if TYPE_CHECKING:
    from dgrec.replay.viewing.export import export_folder
    from dgrec.replay.viewing.foreground import parse_listen, show
    from dgrec.replay.viewing.notebook import player

__all__ = ["export_folder", "packed", "parse_listen", "player", "show", "single_page"]

#: Modules of the rest, imported when needed: `dgrec report` does without a server.
_HOMES = {
    "export_folder": "export",
    "parse_listen": "foreground",
    "player": "notebook",
    "show": "foreground",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Reads recorded sessions: one file, the parts of one recording, or a folder of many."""

from dgrec.session.discovery import (
    connect,
    current_path,
    find_sessions,
    names_something,
    open_found,
    open_sessions,
    unreadable,
)
from dgrec.session.file import RecordedFile, damaged_frame, each_row, rows_of
from dgrec.session.membership import (
    first_frame,
    is_in_set,
    journals_of,
    part_of,
    parts_in_set,
    parts_of,
    set_of,
)
from dgrec.session.names import session_file
from dgrec.session.notebook import table_card
from dgrec.session.parts import Part
from dgrec.session.restarts import Runs, begins_run, restarts, run_ended_us
from dgrec.session.result import OVERLAY_SETTINGS, RecordedResult
from dgrec.session.session import Session, open_session

__all__ = [
    "OVERLAY_SETTINGS",
    "Part",
    "RecordedFile",
    "RecordedResult",
    "Runs",
    "Session",
    "begins_run",
    "connect",
    "current_path",
    "damaged_frame",
    "each_row",
    "find_sessions",
    "first_frame",
    "is_in_set",
    "journals_of",
    "names_something",
    "open_found",
    "open_session",
    "open_sessions",
    "part_of",
    "parts_in_set",
    "parts_of",
    "restarts",
    "rows_of",
    "run_ended_us",
    "session_file",
    "set_of",
    "table_card",
    "unreadable",
]

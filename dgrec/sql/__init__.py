"""SQL over sessions: the views, and the library of views and macros on top of them."""

from dgrec.sql import library, views
from dgrec.sql.checking import check_files, damaged_sessions, nodes_of
from dgrec.sql.conditions import EXAMPLE, frame_condition
from dgrec.sql.logged_values import has_device_values

__all__ = [
    "EXAMPLE",
    "check_files",
    "damaged_sessions",
    "frame_condition",
    "has_device_values",
    "library",
    "nodes_of",
    "views",
]

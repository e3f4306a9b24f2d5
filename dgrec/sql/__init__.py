"""SQL over sessions: the views, and the library of views and macros on top of them."""

from dgrec.sql import library, views
from dgrec.sql.checking import check_files, damaged_sessions

__all__ = [
    "check_files",
    "damaged_sessions",
    "library",
    "views",
]

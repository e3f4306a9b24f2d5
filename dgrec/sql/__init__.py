"""SQL over sessions: the views, and the library of views and macros on top of them."""

from dgrec.sql import library, views

__all__ = [
    "library",
    "views",
]

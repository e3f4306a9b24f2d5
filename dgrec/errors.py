"""Every error that dgrec raises on purpose.

DgrecError
├── SourceError            a source cannot be opened, or fails while it is read
├── ModelError             a model cannot be loaded, or fails while it runs
├── OutputError            a file exists already, or cannot be written
│   └── StorageError       the disk is full, failing, read-only or gone
├── ConfigError            dgrec.toml, or the value of an option
├── QueryError             SQL that DuckDB refuses
├── VideoError             pixels that cannot be found, read or written
│   └── OverlayError       results that PySDK cannot draw
└── SessionError           a file that cannot be used as a session
    ├── NotASessionError   it is something else
    ├── DamagedSessionError  it was one: truncated, overwritten, bits flipped
    └── FormatVersionError   written by a newer dgrec

Messages are one line in lower case: they name the thing and say what to do about it. The
command line prints them as they are and exits with the error's `exit_code`.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DamagedSessionError",
    "DgrecError",
    "FormatVersionError",
    "ModelError",
    "NotASessionError",
    "OutputError",
    "OverlayError",
    "QueryError",
    "SessionError",
    "SourceError",
    "StorageError",
    "VideoError",
]


class DgrecError(Exception):
    """Base of all errors that dgrec raises on purpose."""

    exit_code = 1


class SourceError(DgrecError):
    """A source cannot be opened, or fails while it is read."""


class ModelError(DgrecError):
    """A model cannot be loaded, or fails while it runs."""


class OutputError(DgrecError):
    """A file exists already, or cannot be written."""


class StorageError(OutputError):
    """What is written to failed: full, failing, read-only or gone.

    Args:
        is_full: There was no room, rather than a fault.
    """

    exit_code = 4

    def __init__(self, message: str, *, is_full: bool = False) -> None:
        super().__init__(message)
        self.is_full = is_full


class ConfigError(DgrecError):
    """A setting in dgrec.toml, or the value of an option, makes no sense."""


class QueryError(DgrecError):
    """SQL that DuckDB refuses."""


class VideoError(DgrecError):
    """Pixels that cannot be found, read or written."""


class OverlayError(VideoError):
    """Results that PySDK cannot draw, such as a box of NaN."""


class SessionError(DgrecError):
    """A file that cannot be used as a session."""


class NotASessionError(SessionError):
    """The file is no dgrec session."""


class DamagedSessionError(SessionError):
    """The file is a dgrec session, but part of it cannot be trusted."""


class FormatVersionError(SessionError):
    """The session was written in a newer format than this dgrec reads."""

"""The errors that dgrec raises on purpose.

DgrecError
├── SourceError            a source cannot be opened, or fails while it is read
├── ModelError             a model cannot be loaded, or fails while it runs
├── OutputError            a file exists already, or cannot be written
│   └── StorageError       the disk is full, failing, read-only or gone
├── ConfigError            dgrec.toml, or the value of an option
├── QueryError             SQL that DuckDB refuses
├── ImportFileError        a file of another program that cannot be read as its format says
├── VideoError             pixels that cannot be found, read or written
│   └── OverlayError       results that PySDK cannot draw
└── SessionError           a file that cannot be used as a session
    ├── NotASessionError     missing, or not a session
    │   └── ForeignFileError   another program's Parquet
    ├── DamagedSessionError  truncated, overwritten, bits flipped
    └── FormatVersionError   written by a newer dgrec

A message is one line in lower case that names the thing and says what to do about it. The
command line prints it as it is and exits with the error's `exit_code`.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DamagedSessionError",
    "DgrecError",
    "ForeignFileError",
    "FormatVersionError",
    "ImportFileError",
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


#: The most characters of a value in an error.
_MOST_SHOWN = 100


def value_text(value: object) -> str:
    """Return a program's value as an error shows it: in one line, cut off if it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer with more digits than Python writes
        return f"this {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error; without a message, its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class DgrecError(Exception):
    """The base of all errors that dgrec raises on purpose."""

    exit_code = 1


class SourceError(DgrecError):
    """A source cannot be opened, or fails while it is read."""


class ModelError(DgrecError):
    """A model cannot be loaded, or fails while it runs."""


class OutputError(DgrecError):
    """A file exists already, or cannot be written."""


class StorageError(OutputError):
    """A disk is full, failing, read-only or gone.

    Args:
        is_full: The disk is full.
    """

    exit_code = 4

    def __init__(self, message: str, *, is_full: bool = False) -> None:
        super().__init__(message)
        self.is_full = is_full


class ConfigError(DgrecError):
    """A setting in dgrec.toml, or the value of an option, is invalid."""


class QueryError(DgrecError):
    """SQL that DuckDB refuses."""


class ImportFileError(DgrecError):
    """A file of another program is damaged, or not of a format that can be imported."""


class VideoError(DgrecError):
    """Pixels that cannot be found, read or written."""


class OverlayError(VideoError):
    """Results that PySDK cannot draw, such as a box of NaN."""


class SessionError(DgrecError):
    """A file that cannot be used as a session."""


class NotASessionError(SessionError):
    """The file is not a dgrec session."""


class ForeignFileError(NotASessionError):
    """The file is another program's Parquet."""


class DamagedSessionError(SessionError):
    """The file is a dgrec session, but part of it is damaged."""


class FormatVersionError(SessionError):
    """The session was written in a newer format than this dgrec reads."""

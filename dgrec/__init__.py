"""dgrec: record what an AI camera pipeline did, look at it again, measure it.

`open` gives a recorded session, `open_sessions` many, `connect` SQL over them; `compare` holds
recordings against each other; the rest of the public names are the errors they may raise.
Recording and replaying are done by the command ``dgrec``.
"""

from dgrec.errors import (
    ConfigError,
    DamagedSessionError,
    DgrecError,
    FormatVersionError,
    ModelError,
    NotASessionError,
    OutputError,
    OverlayError,
    QueryError,
    SessionError,
    SourceError,
    StorageError,
    VideoError,
)
from dgrec.version import __version__

__all__ = [
    "Comparison",
    "ConfigError",
    "DamagedSessionError",
    "DgrecError",
    "FormatVersionError",
    "ModelError",
    "NotASessionError",
    "OutputError",
    "OverlayError",
    "QueryError",
    "RecordedResult",
    "Session",
    "SessionError",
    "SourceError",
    "StorageError",
    "VideoError",
    "__version__",
    "compare",
    "connect",
    "open",
    "open_sessions",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dgrec.comparison import Comparison, compare
    from dgrec.result import RecordedResult
    from dgrec.session import Session
    from dgrec.session import open_session as open
    from dgrec.sessions import connect, open_sessions


def __getattr__(name: str) -> object:
    # pyarrow takes 0.4 s to import, which `dgrec --help` must not wait for.
    if name in ("Session", "open"):
        from dgrec import session

        return session.Session if name == "Session" else session.open_session
    if name in ("connect", "open_sessions"):
        from dgrec import sessions

        return getattr(sessions, name)
    if name == "RecordedResult":
        from dgrec.result import RecordedResult

        return RecordedResult
    if name in ("Comparison", "compare"):
        from dgrec import comparison

        return comparison.Comparison if name == "Comparison" else comparison.compare
    raise AttributeError(f"module 'dgrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

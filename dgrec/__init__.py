"""dgrec: record what an AI camera pipeline did, look at it again, measure it.

`Recorder` writes a session, and an `Output` watches it; `open` gives a recorded session,
`open_sessions` many, `connect` SQL over them; `compare` holds recordings against each other; the
rest of the public names are the errors they may raise. Cameras are recorded, and sessions
replayed, by the command ``dgrec``.
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
    "Output",
    "OutputError",
    "OverlayError",
    "QueryError",
    "RecordedResult",
    "Recorder",
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
    "predict_stream",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dgrec.comparison import Comparison, compare
    from dgrec.recorder.outputs import Output
    from dgrec.recorder.program import Recorder, predict_stream
    from dgrec.session import RecordedResult, Session, connect, open_sessions
    from dgrec.session import open_session as open


#: Where the public names stand. They are imported when they are used: pyarrow takes 0.4 s, which
#: `dgrec --help` must not wait for.
_HOMES = {
    "Comparison": ("dgrec.comparison", "Comparison"),
    "Output": ("dgrec.recorder.outputs", "Output"),
    "RecordedResult": ("dgrec.session", "RecordedResult"),
    "Recorder": ("dgrec.recorder.program", "Recorder"),
    "Session": ("dgrec.session", "Session"),
    "compare": ("dgrec.comparison", "compare"),
    "connect": ("dgrec.session", "connect"),
    "open": ("dgrec.session", "open_session"),
    "predict_stream": ("dgrec.recorder.program", "predict_stream"),
    "open_sessions": ("dgrec.session", "open_sessions"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dgrec' has no attribute {name!r}")
    import importlib

    module, home_name = _HOMES[name]
    return getattr(importlib.import_module(module), home_name)


def __dir__() -> list[str]:
    return __all__

"""dgrec: records what an AI camera pipeline did, replays it, and measures it.

`Recorder` writes a session, and an `Output` watches it: `Alerts` follow rules, a `Publisher` sends
messages. `open` opens a session, `open_sessions` many, and `connect` connects to them with SQL.
`compare` compares recordings, `accuracy` one with ground truth; `export` writes them for other
tools, also in an `ExportFormat` of your own, and `import_` makes sessions of other tools' results.
The other public names are classes that these take or return, and errors. The command ``dgrec``
records cameras and replays sessions.
"""

from __future__ import annotations

from dgrec.errors import (
    ConfigError,
    DamagedSessionError,
    DgrecError,
    ForeignFileError,
    FormatVersionError,
    ImportFileError,
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
from dgrec.import_hook import when_imported
from dgrec.version import __version__

__all__ = [
    "Accuracy",
    "Alerts",
    "Comparison",
    "ConfigError",
    "DamagedSessionError",
    "DgrecError",
    "ExportFormat",
    "ForeignFileError",
    "FormatVersionError",
    "ImportFileError",
    "ModelError",
    "NotASessionError",
    "Output",
    "OutputError",
    "OverlayError",
    "PayloadOptions",
    "Publisher",
    "QueryError",
    "RecordedResult",
    "Recorder",
    "Session",
    "SessionError",
    "SourceError",
    "StorageError",
    "VideoError",
    "WhatIf",
    "__version__",
    "accuracy",
    "camera",
    "compare",
    "connect",
    "export",
    "import_",
    "model",
    "open",
    "open_sessions",
    "predict_stream",
    "whatif",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from dgrec.comparison import Accuracy, Comparison, WhatIf, accuracy, compare, whatif
    from dgrec.imports import import_
    from dgrec.publishing import PayloadOptions
    from dgrec.recorder.outputs import Alerts, Output, Publisher
    from dgrec.recorder.program import Recorder, predict_stream
    from dgrec.replay.exports import ExportFormat, export
    from dgrec.session import RecordedResult, Session, connect, open_sessions
    from dgrec.session import open_session as open
    from dgrec.stand_in import camera, model


#: The modules of the public names, which are imported when they are used: pyarrow takes 0.4 s, and
#: `dgrec --help` must not wait for it.
_HOMES = {
    "Accuracy": ("dgrec.comparison", "Accuracy"),
    "Alerts": ("dgrec.recorder.outputs", "Alerts"),
    "Comparison": ("dgrec.comparison", "Comparison"),
    "ExportFormat": ("dgrec.replay.exports", "ExportFormat"),
    "Output": ("dgrec.recorder.outputs", "Output"),
    "PayloadOptions": ("dgrec.publishing", "PayloadOptions"),
    "Publisher": ("dgrec.recorder.outputs", "Publisher"),
    "RecordedResult": ("dgrec.session", "RecordedResult"),
    "Recorder": ("dgrec.recorder.program", "Recorder"),
    "Session": ("dgrec.session", "Session"),
    "accuracy": ("dgrec.comparison", "accuracy"),
    "camera": ("dgrec.stand_in", "camera"),
    "compare": ("dgrec.comparison", "compare"),
    "connect": ("dgrec.session", "connect"),
    "export": ("dgrec.replay.exports", "export"),
    "import_": ("dgrec.imports", "import_"),
    "model": ("dgrec.stand_in", "model"),
    "open": ("dgrec.session", "open_session"),
    "predict_stream": ("dgrec.recorder.program", "predict_stream"),
    "open_sessions": ("dgrec.session", "open_sessions"),
    "WhatIf": ("dgrec.comparison", "WhatIf"),
    "whatif": ("dgrec.comparison", "whatif"),
    "_player": ("dgrec.replay.viewing", "player"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dgrec' has no attribute {name!r}")
    import importlib

    module, home_name = _HOMES[name]
    return getattr(importlib.import_module(module), home_name)


def _register_zoo(zoo_manager: ModuleType) -> None:
    from dgrec.stand_in import register_zoo

    register_zoo(zoo_manager)


def _register_video_sources(video_support: ModuleType) -> None:
    from dgrec.stand_in import register_video_sources

    register_video_sources(video_support)


# PySDK finds recorded sessions as models from now on (`model`), and degirum_tools as video sources
# (`camera`).
when_imported("degirum.zoo_manager", _register_zoo)
when_imported("degirum_tools.tools.video_support", _register_video_sources)


def __dir__() -> list[str]:
    return __all__

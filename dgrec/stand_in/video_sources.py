"""Recorded sessions wherever degirum_tools takes a video source."""

from __future__ import annotations

import functools
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from dgrec.errors import ConfigError
from dgrec.paths import names_session

if TYPE_CHECKING:
    from dgrec.stand_in.session_camera import SessionCamera

#: Options of `dgrec.camera`, which may follow the name of a session.
_OPTIONS = ("pace", "loop", "video")
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no")


def named_camera(source: object, pace: str = "recorded") -> SessionCamera | None:
    """Return the recorded camera that a source names; None if it names something else.

    Args:
        source: ``session.parquet``, or ``session.parquet?pace=fast&loop=1`` with options of
            `dgrec.camera`.
        pace: The default.

    Raises:
        ConfigError: An option is unknown, or its value invalid.
        DgrecError: The session cannot be read, or has no pictures.
    """
    if not isinstance(source, str | os.PathLike) or isinstance(source, bytes):
        return None
    text = os.fspath(source)
    if not isinstance(text, str):
        return None
    name, _, query = text.partition("?")
    if names_session(text):
        name, query = text, ""
    elif not names_session(name):
        return None
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(set(options) - {*_OPTIONS}):
        raise ConfigError(
            f"{text}: {unknown[0]!r} is not an option; expected {', '.join(_OPTIONS)}"
        )
    loop = options.get("loop", "0").lower()
    if loop not in (*_YES, *_NO):
        raise ConfigError(f"{text}: loop={loop!r}: expected 1 or 0")
    from dgrec.stand_in.session_camera import SessionCamera

    return SessionCamera(
        name, pace=options.get("pace", pace), loop=loop in _YES, video=options.get("video")
    )


def register_video_sources(video_support: ModuleType, camera_of: Any = named_camera) -> None:
    """Have degirum_tools open recorded sessions as video sources.

    Args:
        video_support: Its module of this name, in which all its video sources are opened.
        camera_of: Returns the camera for a source; None: degirum_tools opens it.
    """
    original = video_support.create_video_stream

    @functools.wraps(original)
    def create_video_stream(video_source: Any = None, **options: Any) -> Any:
        camera = camera_of(_meant(video_support, video_source))
        return original(video_source, **options) if camera is None else camera

    # Where it was imported before, other modules of degirum_tools have the function as well. Some
    # entries are no modules, such as None for one that must not be imported.
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "degirum_tools" or not isinstance(module, ModuleType):
            continue
        if vars(module).get("create_video_stream") is original:
            vars(module)["create_video_stream"] = create_video_stream
    vars(video_support)["create_video_stream"] = create_video_stream


def _meant(video_support: ModuleType, source: Any) -> Any:
    """Return the source that degirum_tools will open: the environment may name it."""
    environment = video_support.env
    if hasattr(source, "read") and hasattr(source, "get"):
        return source
    if source is None or environment.get_test_mode():
        return environment.get_var(environment.var_VideoSource, 0)
    return source

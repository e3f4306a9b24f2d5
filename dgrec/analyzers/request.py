"""Analyzers that a command is given: ``--tracker`` and ``--analyzers FILE.py:function``."""

from __future__ import annotations

import functools
import importlib.util
import shlex
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from dgrec.errors import ConfigError, DgrecError


@dataclass(frozen=True)
class AnalyzerRequest:
    """The analyzers of a command.

    Args:
        tracker: Settings of an ObjectTracker, each text some of ``NAME=VALUE``; none: no tracker.
        functions: Functions that return analyzers, each written ``FILE.py:function``.

    Raises:
        ConfigError: There is no such setting, or a value is out of its limits.
    """

    tracker: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    _settings: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for text in self.tracker:
            self._settings.update(_tracker_settings(text))
        for function in self.functions:
            _split(function)

    def __bool__(self) -> bool:
        return bool(self.tracker or self.functions)

    @property
    def needs_pictures(self) -> bool:
        """Whether the tracker looks at the pictures, and not at the detections alone."""
        return bool(self._settings.get("reset_at_scene_cut"))

    def make(self, labels: Collection[str] = (), *, again: bool = False) -> list[Any]:
        """Return new analyzers, the tracker first.

        Args:
            labels: Labels of the model, as far as they are known.
            again: Whether the user's files are run again, as in another process: analyzers may be
                made where a file begins, and others be kept there.

        Raises:
            ConfigError: The tracker is to follow a label that the model does not have.
            DgrecError: The user's file fails; the message names its line.
        """
        analyzers: list[Any] = []
        if again:
            _forget_modules()
        if self.tracker:
            analyzers += _tracker(self._settings, labels)
        for function in self.functions:
            analyzers += _called(function)
        return analyzers


def failure_of(analyzer: Any, error: Exception, where: str) -> DgrecError:
    """Return what an analyzer raised as an error in one line, such as "at frame 7"."""
    text = (str(error).strip().splitlines() or [""])[0]
    kind = type(error).__name__
    return DgrecError(f"{type(analyzer).__name__} failed {where}: {kind}: {text}")


# --- the tracker -------------------------------------------------------------------------------


def _number(low: float, high: float, parse: Callable[[str], float]) -> Callable[[str], Any]:
    def take(text: str) -> Any:
        number = parse(text)
        if not low <= number <= high:
            raise ValueError(f"expected {low:g} to {high:g}")
        return number

    return take


def _flag(text: str) -> bool:
    flags = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in flags:
        raise ValueError("expected true or false")
    return flags[text.lower()]


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError("expected labels with commas between them, such as person,car")
    return names


def _color(text: str) -> tuple[int, ...]:
    parts = text.strip("()").split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError("expected red, green and blue, such as 255,200,0")
    return tuple(_number(0, 255, int)(part) for part in parts)


_ANCHORS = (
    "CENTER",
    "CENTER_LEFT",
    "CENTER_RIGHT",
    "TOP_CENTER",
    "TOP_LEFT",
    "TOP_RIGHT",
    "BOTTOM_LEFT",
    "BOTTOM_CENTER",
    "BOTTOM_RIGHT",
)


def _anchor(text: str) -> str:
    name = text.upper().replace("-", "_").removeprefix("ANCHORPOINT.")
    if name not in _ANCHORS:
        raise ValueError(f"expected one of {', '.join(_ANCHORS)}")
    return name


_TRACKER: dict[str, Callable[[str], Any]] = {
    "class_list": _names,
    "track_thresh": _number(0, 1, float),
    "track_buffer": _number(1, 1_000_000, int),
    "match_thresh": _number(0, 1, float),
    "reset_at_scene_cut": _flag,
    "anchor_point": _anchor,
    "trail_depth": _number(0, 100_000, int),
    "show_overlay": _flag,
    "annotation_color": _color,
    "show_only_track_ids": _flag,
}


def _tracker_settings(text: str) -> dict[str, Any]:
    settings = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--tracker: {text!r}: {str(error).lower()}") from None
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(
                f"--tracker: {word!r} is not NAME=VALUE, such as trail_depth=10 (several in quotes)"
            )
        if name not in _TRACKER:
            raise ConfigError(
                f"--tracker: ObjectTracker has no setting {name!r}; it has {', '.join(_TRACKER)}"
            )
        try:
            settings[name] = _TRACKER[name](value)
        except ValueError as error:
            reason = str(error) if str(error).startswith("expected") else "expected a number"
            raise ConfigError(f"--tracker: {name}={value}: {reason}") from None
    return settings


def _tracker(settings: dict[str, Any], labels: Collection[str]) -> list[Any]:
    wanted = settings.get("class_list", [])
    unknown = [name for name in wanted if labels and name not in labels]
    if unknown:
        some = ", ".join(sorted(labels)[:10]) + (", ..." if len(labels) > 10 else "")
        raise ConfigError(
            f"--tracker: class_list: the model has no label {unknown[0]!r}; it has {some}"
        )
    import degirum_tools

    given = dict(settings)
    if "anchor_point" in given:
        given["anchor_point"] = degirum_tools.AnchorPoint[given["anchor_point"]]
    tracker = degirum_tools.ObjectTracker(**given)
    if given.get("reset_at_scene_cut"):
        return [degirum_tools.SceneCutDetector(), tracker]
    return [tracker]


# --- the user's own ----------------------------------------------------------------------------


def _split(text: str) -> tuple[Path, str]:
    file, colon, name = text.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise ConfigError(f"--analyzers: {text!r} is not FILE.py:function")
    return Path(file), name


def _called(text: str) -> list[Any]:
    from degirum_tools import ResultAnalyzerBase

    path, name = _split(text)
    function = getattr(_module(path.absolute(), str(path)), name, None)
    if not callable(function):
        raise DgrecError(f"{path}: has no function {name!r}")
    try:
        made = function()
    except Exception as error:
        raise DgrecError(_error_at(path, error)) from None
    analyzers = list(made) if isinstance(made, list | tuple) else [made]
    for each in analyzers:
        if not isinstance(each, ResultAnalyzerBase):
            raise DgrecError(
                f"{path}: {name}() returned a {type(each).__name__}; expected an analyzer of "
                "degirum_tools (a ResultAnalyzerBase), or a list of them"
            )
        _name_errors(each, path)
    return analyzers


#: The names of the modules of users' files.
_loaded: set[str] = set()


def _forget_modules() -> None:
    """Run users' files again when they are next asked for."""
    _module.cache_clear()
    for name in _loaded:
        sys.modules.pop(name, None)
    _loaded.clear()


@functools.cache
def _module(path: Path, shown: str) -> ModuleType:
    """Return a Python file as a module. Its code runs once."""
    if not path.is_file():
        raise DgrecError(f"{shown}: no such file")
    name = path.stem
    if name in sys.modules:
        name = f"{name}_of_analyzers"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DgrecError(f"{shown}: is not a Python file; expected FILE.py:function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses need
    _loaded.add(name)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # modules beside the file
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise DgrecError(_error_at(Path(shown), error)) from None
    return module


def _name_errors(analyzer: Any, path: Path) -> None:
    """Make an analyzer's errors name the line: PySDK keeps only their text."""
    analyze = analyzer.analyze

    @functools.wraps(analyze)
    def named(result: Any) -> None:
        try:
            analyze(result)
        except Exception as error:
            raise DgrecError(_error_at(path, error)) from error

    analyzer.analyze = named


def _error_at(path: Path, error: BaseException) -> str:
    """Return an error of a user's file in one line, with the line that raised it."""
    kind = type(error).__name__
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, SyntaxError) and _is_same(error.filename, path):
        return f"{path}:{error.lineno}: {kind}: {error.msg}"
    lines = list(_lines_in(path, error))
    where = f"{path}:{lines[-1]}" if lines else str(path)
    return f"{where}: {kind}: {text}" if text else f"{where}: {kind}"


def _lines_in(path: Path, error: BaseException) -> Iterable[int]:
    trace = error.__traceback__
    while trace is not None:
        if _is_same(trace.tb_frame.f_code.co_filename, path):
            yield trace.tb_lineno
        trace = trace.tb_next


def _is_same(name: str | None, path: Path) -> bool:
    return name is not None and Path(name).absolute() == path.absolute()

"""Types of command line options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from dgrec.errors import ConfigError
from dgrec.units import parse_time

__all__ = ["NamedPath", "Parsed", "analyzer_options", "payload_options"]

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # older versions of click know no brackets there
    _ParamType = click.ParamType


class NamedPath(click.Path):
    """A path that is not empty: an empty one comes from a variable that is not set."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if not os.fspath(value):
            self.fail("the name is empty", param, ctx)
        if "\0" in os.fspath(value):
            self.fail("a name cannot hold a NUL", param, ctx)
        return super().convert(value, param, ctx)


class Parsed(_ParamType):
    """A value that ``parse`` makes of a text; its `ConfigError` is a usage error."""

    name = "text"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def analyzer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--tracker`` and ``--analyzers``."""
    command = click.option(
        "--analyzers",
        "analyzer_functions",
        multiple=True,
        metavar="FILE.py:FUNCTION",
        help="Run the analyzers that a function of yours returns: one of degirum_tools, or "
        "your own ResultAnalyzerBase, or a list of them. Repeatable. FILE.py is "
        "run as any Python program is: name only files that you trust.",
    )(command)
    return click.option(
        "--tracker",
        multiple=True,
        is_flag=False,
        flag_value="",
        metavar="[NAME=VALUE ...]",
        help="Track objects with degirum_tools' ObjectTracker, by its own settings: --tracker, or "
        '--tracker "class_list=person,car track_thresh=0.3 trail_depth=10". It runs before '
        "--analyzers.",
    )(command)


def payload_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--payload``, ``--payload-where``, ...: what is published of a recording."""
    command = click.option(
        "--ended-after",
        type=Parsed(parse_time),
        default="0s",
        show_default=True,
        metavar="TIME",
        help="With --only-changes: how long a track or label may be out of sight before it has "
        "ended.",
    )(command)
    command = click.option(
        "--mqtt-discovery",
        is_flag=True,
        help="Introduce the recording to Home Assistant, at each mqtt:// target: a device with "
        "sensors, and one for each alert.",
    )(command)
    command = click.option(
        "--only-changes",
        is_flag=True,
        help="Publish what changes instead of frames: a track, or a label where there are no "
        "tracks, that has started, was updated or has ended (docs/publishing.md).",
    )(command)
    command = click.option(
        "--payload-where",
        default="",
        metavar="CONDITION",
        help='Publish only detections for which a condition holds: "score > 0.5 and label in '
        "('person', 'car')\".",
    )(command)
    command = click.option(
        "--publish-every",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        show_default=True,
        help="Publish one of N frames.",
    )(command)
    return click.option(
        "--payload",
        type=click.Choice(["guide", "full"]),
        default="guide",
        show_default=True,
        help="What is published of a frame: timestamp and detections as in DeGirum's guide, or all "
        "but pixels.",
    )(command)

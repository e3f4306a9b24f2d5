"""Options that several commands share, their types, and the class of the commands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from dgrec.errors import ConfigError
from dgrec.paths import with_session_suffix
from dgrec.terminal import set_verbosity
from dgrec.units import parse_time

__all__ = [
    "Command",
    "Completed",
    "NamedPath",
    "Parsed",
    "SessionOutput",
    "SessionPath",
    "analyzer_options",
    "json_option",
    "option_group",
    "payload_options",
    "usage_errors",
    "verbosity_options",
]

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # older versions of click do not take brackets there
    _ParamType = click.ParamType


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a `ConfigError` that the library raises in the block into a usage error."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


class NamedPath(click.Path):
    """A path that is not empty: an empty one comes from a variable that is not set.

    Args:
        is_file: It is written, and cannot be standard output.
    """

    def __init__(self, *arguments: Any, is_file: bool = False, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._is_file = is_file

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
        if self._is_file and os.fspath(value) == "-":
            self.fail("it cannot be written to standard output; give a name", param, ctx)
        return super().convert(value, param, ctx)


class SessionPath(NamedPath):
    """The name of a session, or of a folder or glob of sessions; completed as such."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from dgrec.completion import sessions

        return sessions(incomplete)


class SessionOutput(NamedPath):
    """The name of a session to write, which may leave out ``.parquet``."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        from pathlib import Path

        return with_session_suffix(Path(super().convert(value, param, ctx)))


def option_group(title: str, *options: Callable[[_Decorated], _Decorated]) -> Any:
    """Return a decorator that adds options, in this order, below a title in ``--help``."""

    def decorate(command: _Decorated) -> _Decorated:
        known = {id(each) for each in getattr(command, "__click_params__", ())}
        for option in reversed(options):
            command = option(command)
        for added in command.__click_params__:  # type: ignore[attr-defined]
            if id(added) not in known:
                added.group = title
        return command

    return decorate


#: Titles of options in no group, and of those that every command has.
_UNGROUPED, _GENERAL = "Options", "General options"


def _set_verbosity(level: int) -> Callable[[click.Context, click.Parameter, bool], bool]:
    def callback(_: click.Context, __: click.Parameter, given: bool) -> bool:
        if given:
            set_verbosity(level)
        return given

    return callback


def verbosity_options() -> list[click.Option]:
    """Return ``--quiet`` and ``--verbose``."""
    return [
        click.Option(
            ["--quiet", "-q"],
            is_flag=True,
            expose_value=False,
            callback=_set_verbosity(-1),
            help="Print only the answer and what went wrong.",
        ),
        click.Option(
            ["--verbose", "-v"],
            is_flag=True,
            expose_value=False,
            callback=_set_verbosity(1),
            help="Say on standard error what is done, and where an error came from.",
        ),
    ]


class Command(click.Command):
    """A command with ``--quiet`` and ``--verbose``, whose ``--help`` has options in groups.

    Args:
        groups: The names of parameters by the titles of their groups, besides `option_group`.
    """

    def __init__(
        self,
        *arguments: Any,
        groups: Mapping[str, Sequence[str]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        titles = {name: title for title, names in (groups or {}).items() for name in names}
        for each in self.params:
            if each.name in titles:
                each.group = titles[each.name]  # type: ignore[attr-defined]
        names = {name for each in self.params for name in each.opts}
        for option in verbosity_options():
            if not names.intersection(option.opts):
                option.group = _GENERAL  # type: ignore[attr-defined]
                self.params.append(option)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        # When a word is completed, the others are parsed as far as possible.
        for each in () if ctx.resilient_parsing else self.params:
            name = each.name or ""
            value = ctx.params.get(name)
            # dgrec itself gives hidden ones.
            is_ours = getattr(each, "hidden", False)
            is_default = ctx.get_parameter_source(name) is ParameterSource.DEFAULT
            if isinstance(value, str) and not (value.strip() or is_default or is_ours):
                # It comes from a variable that is not set, and would count as left out.
                raise click.BadParameter("is empty; leave the option out", ctx, each)
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx) if isinstance(each, click.Option) else None
            if record is not None:
                title = _GENERAL if "--help" in each.opts else getattr(each, "group", _UNGROUPED)
                groups.setdefault(title, []).append(record)
        groups[_GENERAL] = groups.pop(_GENERAL, [])
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Completed(_ParamType):
    """A text that ``complete`` has completions for."""

    name = "text"

    def __init__(
        self, complete: Callable[[click.Context, str], Sequence[str | CompletionItem]]
    ) -> None:
        self._complete = complete

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = self._complete(ctx, incomplete)
        return [CompletionItem(each) if isinstance(each, str) else each for each in found]


class Parsed(_ParamType):
    """A value that ``parse`` makes from a text; its `ConfigError` is a usage error.

    Args:
        keeps_text: The value is the text itself, once it has been parsed.
    """

    name = "text"

    def __init__(self, parse: Callable[[str], Any], *, keeps_text: bool = False) -> None:
        self._parse, self._keeps_text = parse, keeps_text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            parsed = self._parse(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return value if self._keeps_text else parsed


#: ``--json`` of commands that write files; `dgrec.terminal.say_written` prints the line.
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print what was written as a line of JSON on standard output.",
)


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

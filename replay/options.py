"""Options that several commands share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from dgrec.errors import ConfigError
from dgrec.options import Completed, NamedPath, Parsed, SessionPath, option_group
from dgrec.terminal import echo, note, say_written
from dgrec.units import and_more

if TYPE_CHECKING:
    from dgrec.replay.clip import ClipReport
    from dgrec.session import Session

_Command = TypeVar("_Command", bound=Callable[..., Any])


#: Format by the suffix of --output.
_SUFFIXES = {
    **dict.fromkeys(("", ".txt", ".log", ".sql"), "table"),
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".md": "markdown",
    ".parquet": "parquet",
}


def _complete_columns(view: str) -> Callable[[click.Context, str], list[str]]:
    """Return a function that completes names of columns of a view in a condition."""

    def complete(_: click.Context, incomplete: str) -> list[str]:
        from dgrec.completion import columns

        return columns(incomplete, view)

    return complete


class FiniteRange(click.FloatRange):
    """A number in a range. click's own type accepts NaN."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def check_companions(context: click.Context, needed: str, *names: str) -> None:
    """Refuse options that have no effect without another one.

    Raises:
        UsageError: One of ``names`` was given, and ``needed`` was not.
    """
    if context.params[needed]:
        return
    for flag in given_flags(context, names):
        raise click.UsageError(f"{flag} goes with {_flag(needed)}")


def given_flags(context: click.Context, names: Sequence[str]) -> list[str]:
    """Return those of the options that were given, as they are written."""
    default = click.core.ParameterSource.DEFAULT
    return [_flag(name) for name in names if context.get_parameter_source(name) is not default]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def clips_option(command: _Command) -> _Command:
    """Add ``--with-clips``, for commands that take folders of sessions."""
    return click.option(
        "--with-clips",
        is_flag=True,
        help="Also count clips in folders and globs whose frames are in other sessions there. "
        "By default they are reported and left out, unless the clip itself is named.",
    )(command)


def _links(text: str) -> Any:
    from dgrec.replay.links import parse_links  # which imports pyarrow

    return parse_links(text)


def links_option(command: _Command) -> _Command:
    """Add ``--links``, for commands whose results name frames."""
    return click.option(
        "--links",
        type=Parsed(_links),
        metavar="ADDRESS|command",
        help="Say where each frame is shown: on the page of a running dgrec view, by the ADDRESS "
        "that it prints, or by a dgrec view command.",
    )(command)


def say_clip(line: str) -> None:
    """Report a clip that is not counted."""
    note(f"{line} (--with-clips counts it)")


def say_clip_written(
    output: Path, report: ClipReport, contents: str, *, as_json: bool, **facts: Any
) -> None:
    """Report a session that was made of others, with its videos.

    Args:
        contents: Its contents, in words.
        facts: More fields for a line of JSON.
    """
    videos = [
        f"{path}: {'copied' if is_copy else 'encoded again'}" for path, is_copy in report.videos
    ]
    say_written(
        [f"{output}: {contents}", *videos],
        as_json=as_json,
        path=output,
        files=[output, *(path for path, _ in report.videos)],
        **facts,
        frames=report.frames,
        videos_copied=[is_copy for _, is_copy in report.videos],
        notes=report.notes,
    )


def check_group(sessions: Sequence[Session]) -> None:
    """Refuse several sessions that were not recorded together.

    Raises:
        ConfigError: They are not of one group.
    """
    first, *others = sessions
    group = first.metadata.get("group", {}).get("id")
    for other in others:
        if group is None or other.metadata.get("group", {}).get("id") != group:
            raise ConfigError(
                f"{other.path}: was not recorded together with {first.path}; --together shows them "
                "side by side all the same, by their times of capture"
            )


def session_argument(command: _Command) -> _Command:
    """Add SESSION. The library opens it, not click, so that the exit code is 1 instead of 2."""
    return click.argument("session", type=SessionPath(path_type=Path))(command)


def sessions_argument(command: _Command) -> _Command:
    """Add SESSION..., one or several."""
    type_ = SessionPath(path_type=Path)
    return click.argument("sessions", metavar="SESSION...", nargs=-1, required=True, type=type_)(
        command
    )


def video_option(command: _Command) -> _Command:
    """Add ``--video``."""
    return click.option(
        "--video",
        type=NamedPath(path_type=Path),
        help="The footage that was recorded, where dgrec does not find it itself.",
    )(command)


def output_options(*formats: str) -> Callable[[_Command], _Command]:
    """Add ``--format`` with these choices, ``--json``, ``--output`` and ``--overwrite``.

    The command gets the format as ``form``: the given one, or that of the suffix.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_format(
            *, form: str | None, as_json: bool, output: Path | None, **options: Any
        ) -> Any:
            if as_json and form not in (None, "json"):
                raise click.UsageError(f"--json and --format {form} exclude each other")
            form = "json" if as_json else form or _by_suffix(output, formats)
            return command(form=form, output=output, **options)

        return cast(_Command, option_group("Output", *options)(with_format))

    options = [
        click.option("--json", "as_json", is_flag=True, help="Short for --format json."),
        click.option(
            "--format",
            "form",
            type=click.Choice(formats),
            help="[default: what the suffix of --output says, else table]",
        ),
        click.option(
            "--output",
            "-o",
            type=NamedPath(path_type=Path),
            help="File to write; - is standard output.  [default: -]",
        ),
        click.option("--overwrite", is_flag=True, help="Replace the output if it exists."),
    ]

    return decorate


def _by_suffix(output: Path | None, formats: Sequence[str]) -> str:
    suffix = "" if output is None else output.suffix.lower()
    form = _SUFFIXES.get(suffix, "")
    if form not in formats:
        known = ", ".join(s for s, f in _SUFFIXES.items() if s and f != "table" and f in formats)
        raise click.UsageError(
            f"--output {output}: no format goes with {suffix}; write {known} or .txt, or name one "
            "with --format"
        )
    return form


def say_damage(session: Session) -> None:
    """Report on stderr what cannot be read in a session, and is missing in the result."""
    damage = session.damage
    if damage:
        shown = and_more(damage, "more: dgrec info")
        echo(f"{session.path}: {shown}; the result is of what can be read", err=True)


def _position(text: str) -> Any:
    from dgrec.footage import parse_position  # which imports numpy and pyarrow

    return parse_position(text)


#: A position in a session: a frame, a time since the first, or a time in UTC.
POSITION = Parsed(_position)
#: The same, checked but kept as the text that was typed, which is recorded.
POSITION_TEXT = Parsed(_position, keeps_text=True)


_SELECTION = {
    "where": click.option(
        "--where",
        type=Completed(_complete_columns("frames")),
        metavar="CONDITION",
        help="Only frames that match: SQL over the columns of the view frames, such as "
        '"latency_ms > 100" or "count(\'car\') >= 2".',
    ),
    "detections_where": click.option(
        "--detections-where",
        type=Completed(_complete_columns("detections")),
        metavar="CONDITION",
        help="Only detections that match: SQL over the columns of the view detections, such as "
        "\"label = 'face' and score > 0.5\". The frames all stay.",
    ),
    "start": click.option(
        "--start",
        type=POSITION,
        metavar="POSITION",
        help="First frame: its number (300), the time since the first frame (12.5s, 1m30s, "
        "00:01:30), or a time in UTC (2026-01-02T03:04:05).",
    ),
    "end": click.option("--end", type=POSITION, metavar="POSITION", help="Frame to stop before."),
    "max_frames": click.option(
        "--max-frames", type=click.IntRange(1), metavar="N", help="Stop after this many frames."
    ),
}


def selection_options(*names: str) -> Callable[[_Command], _Command]:
    """Add options that select frames and detections."""
    options = [_SELECTION[name] for name in names]
    return cast(Callable[[_Command], _Command], option_group("Frames and detections", *options))

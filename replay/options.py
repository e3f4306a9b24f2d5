"""Options that several commands share, and the many of `dgrec replay`."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from dgrec.errors import ConfigError
from dgrec.options import Completed, NamedPath, Parsed, SessionPath, option_group
from dgrec.terminal import echo, note, say_written
from dgrec.units import and_more, parse_dimensions, parse_time

if TYPE_CHECKING:
    from dgrec.replay.clip import ClipReport
    from dgrec.session import Session

__all__ = [
    "TABLE_ROWS",
    "POSITION",
    "FiniteRange",
    "check_annotated",
    "check_companions",
    "check_group",
    "check_no_overlay",
    "clips_option",
    "complete_columns",
    "links_option",
    "output_options",
    "overlay_options",
    "overlay_settings",
    "parse_grid",
    "picture_options",
    "say_clip",
    "say_clip_written",
    "say_damage",
    "selection_options",
    "session_argument",
    "sessions_argument",
    "video_option",
]

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
#: Rows of a table unless --limit says otherwise.
TABLE_ROWS = 1000


def complete_columns(view: str) -> Callable[[click.Context, str], list[str]]:
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
    for flag in _given(context, names):
        raise click.UsageError(f"{flag} goes with {_flag(needed)}")


def check_no_overlay(context: click.Context) -> None:
    """Refuse settings of the overlay beside --no-overlay."""
    # --detections-where also selects trails.
    names = _OVERLAY if context.params["trails"] else (*_OVERLAY, "detections_where")
    for flag in _given(context, names) if context.params["no_overlay"] else ():
        raise click.UsageError(f"{flag} does nothing with --no-overlay")


def check_annotated(context: click.Context, video: Path | None) -> None:
    """Refuse options that need the pixels without the overlay, for a video that has it.

    Raises:
        VideoError: One of them was given.
    """
    from dgrec.errors import VideoError

    names = (*_OVERLAY, "no_overlay", "detections_where", "trails", "redact", "side_by_side")
    for flag in _given(context, names):
        raise VideoError(
            f"{video}: has the overlay in it already, as it was drawn live; "
            f"{flag} needs the pixels without it"
        )


def _given(context: click.Context, names: Sequence[str]) -> list[str]:
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
        contents: What is in it.
        facts: What else a line of JSON has.
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
    """Report on stderr what of a session cannot be read, and is missing in the result."""
    damage = session.damage
    if damage:
        shown = and_more(damage, "more: dgrec info")
        echo(f"{session.path}: {shown}; the result is of what can be read", err=True)


def _position(text: str) -> Any:
    from dgrec.footage import parse_position  # which imports numpy and pyarrow

    return parse_position(text)


#: A position in a session: a frame, a time since the first, or a time in UTC.
POSITION = Parsed(_position)


def parse_grid(text: str) -> tuple[int, int]:
    """Return columns and rows of a grid such as ``4x3``."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise click.BadParameter(
            f"{text!r} is not a valid grid; expected COLUMNSxROWS, such as 4x3"
        )
    return int(match[1]), int(match[2])


_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})\Z")


def parse_color(text: str) -> tuple[int, int, int]:
    """Return a color (red, green, blue) written as ``R,G,B`` or ``#RRGGBB``."""
    match = _HEX_COLOR.match(text)
    parts = [str(int(item, 16)) for item in match.groups()] if match else text.split(",")
    values = [int(part) for part in parts if part.strip().isdecimal()]
    if not len(parts) == len(values) == 3 or max(values) > 255:
        raise click.BadParameter(
            f"{text!r} is not a valid color; expected R,G,B (255,128,0) or #RRGGBB"
        )
    return values[0], values[1], values[2]


def parse_alpha(text: str) -> float | str:
    """Return PySDK's ``overlay_alpha``: a number from 0 to 1, or ``auto``."""
    if text == "auto":
        return text
    try:
        alpha = float(text)
    except ValueError:
        alpha = -1.0
    if not 0 <= alpha <= 1:
        raise click.BadParameter(
            f"{text!r} is not a valid opacity; expected a number from 0 to 1, or auto"
        )
    return alpha


#: The parameters of `overlay_options`.
_OVERLAY = tuple(
    "line_width show_labels show_probabilities alpha font_scale color blur no_blur".split()
)


def overlay_options(command: _Command) -> _Command:
    """Add the options that replace recorded overlay settings; `overlay_settings` reads them."""
    options = [
        click.option(
            "--line-width",
            type=click.IntRange(0, 100),
            metavar="PIXELS",
            help="Of boxes, in pixels.",
        ),
        click.option("--show-labels/--no-show-labels", default=None, help="Write class labels."),
        click.option(
            "--show-probabilities/--no-show-probabilities", default=None, help="Write scores."
        ),
        click.option(
            "--alpha",
            type=parse_alpha,
            metavar="OPACITY",
            help="Of what is drawn: 0 to 1, or auto (masks let the picture through).",
        ),
        click.option(
            "--font-scale",
            type=FiniteRange(0.1, 20),
            metavar="FACTOR",
            help="Size of text; 1 is PySDK's own.",
        ),
        click.option(
            "--color",
            type=parse_color,
            metavar="COLOR",
            multiple=True,
            help="R,G,B or #RRGGBB; several are taken in turn, by class.",
        ),
        click.option(
            "--blur", multiple=True, metavar="LABEL", help="Blur objects of this class, or all."
        ),
        click.option("--no-blur", is_flag=True, help="Do not blur what was blurred live."),
    ]
    return cast(_Command, option_group("Overlay", *options)(command))


def overlay_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the given overlay settings by PySDK's names (`OVERLAY_SETTINGS`)."""
    colors, blur, no_blur = (options.pop(name) for name in ("color", "blur", "no_blur"))
    names = ("line_width", "show_labels", "show_probabilities", "alpha", "font_scale")
    settings = {name: value for name in names if (value := options.pop(name)) is not None}
    if colors:
        settings["color"] = colors[0] if len(colors) == 1 else list(colors)
    if blur and no_blur:
        raise click.UsageError("--blur and --no-blur exclude each other")
    if no_blur:
        settings["blur"] = None
    elif blur:
        settings["blur"] = "all" if "all" in blur else list(blur)
    return settings


def selection_options(command: _Command) -> _Command:
    """Add the options that select frames and detections."""
    options = [
        click.option(
            "--start",
            type=POSITION,
            metavar="POSITION",
            help="First frame: its number (300), the time since the first frame (12.5s, 1m30s, "
            "00:01:30), or a time in UTC (2026-01-02T03:04:05).",
        ),
        click.option("--end", type=POSITION, metavar="POSITION", help="Frame to stop before."),
        click.option(
            "--max-frames",
            type=click.IntRange(1),
            metavar="N",
            help="Stop after this many frames.",
        ),
        click.option(
            "--where",
            type=Completed(complete_columns("frames")),
            metavar="CONDITION",
            help="Only frames that match, one after the other: SQL over the columns of the view "
            'frames, such as "inference_ms > 80" or "count(\'car\') >= 2".',
        ),
        click.option(
            "--detections-where",
            type=Completed(complete_columns("detections")),
            metavar="CONDITION",
            help="Draw only detections that match: SQL over the columns of the view detections, "
            "such as \"score > 0.5 and label = 'face'\". The frames all stay.",
        ),
    ]
    return cast(_Command, option_group("Frames and detections", *options)(command))


def picture_options(command: _Command) -> _Command:
    """Add the options of what is drawn besides the overlay, and of its size."""
    options = [
        click.option("--no-overlay", is_flag=True, help="Do not draw what the model found."),
        click.option(
            "--hud",
            is_flag=True,
            help="Burn in frame number, time, rate, stage times, drops, and the latency of the "
            "last frames as bars: red after drops, orange above the p99.",
        ),
        click.option(
            "--hud-at",
            type=click.Choice(["top-left", "top-right", "bottom-left", "bottom-right"]),
            default="top-left",
            show_default=True,
            help="Where it stands: it hides what is below it.",
        ),
        click.option(
            "--trails",
            type=click.IntRange(2, 2000),
            metavar="FRAMES",
            help="Draw each track's path over the last FRAMES frames.",
        ),
        click.option(
            "--redact",
            multiple=True,
            metavar="LABEL",
            help="Cover objects of this class, or all, before anything is drawn. Only what was "
            "detected can be covered, and short gaps between detections: look before you share.",
        ),
        click.option(
            "--redact-style",
            type=click.Choice(["solid", "mosaic"]),
            default="solid",
            show_default=True,
            help="solid leaves nothing; mosaic at most five blocks across.",
        ),
        click.option(
            "--redact-margin",
            type=FiniteRange(0, 5),
            metavar="SHARE",
            default=0.1,
            show_default=True,
            help="What to add on every side, as a part of the longer one.",
        ),
        click.option(
            "--redact-hold",
            type=Parsed(parse_time),
            metavar="DURATION",
            default="0.5s",
            show_default=True,
            help="Go on covering an object that the model misses for so long.",
        ),
        click.option(
            "--side-by-side",
            type=SessionPath(path_type=Path),
            metavar="OTHER",
            help="Draw another session of the same footage beside this one.",
        ),
        click.option(
            "--size",
            type=Parsed(parse_dimensions),
            metavar="WxH",
            help="Size of the pictures: 640x360, or 640x or x360 to keep their shape.",
        ),
        click.option(
            "--scale",
            type=FiniteRange(0.01, 16),
            metavar="FACTOR",
            help="Size of the pictures, as a multiple of their own.",
        ),
    ]
    return cast(_Command, option_group("Picture", *options)(command))

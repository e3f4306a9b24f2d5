"""`dgrec replay`: draw a session's overlays again."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

__all__ = ["replay_command"]

_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})\Z")


def parse_color(text: str) -> tuple[int, int, int]:
    """Return the color (red, green, blue) that ``R,G,B`` or ``#RRGGBB`` names."""
    match = _HEX_COLOR.match(text)
    parts = [str(int(item, 16)) for item in match.groups()] if match else text.split(",")
    values = [int(part) for part in parts if part.strip().isdecimal()]
    if not len(parts) == len(values) == 3 or max(values) > 255:
        raise click.BadParameter(f"{text!r} is no color; write R,G,B (255,128,0) or #RRGGBB")
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
        raise click.BadParameter(f"{text!r} is no opacity; write a number from 0 to 1, or auto")
    return alpha


def overlay_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that replace recorded overlay settings; `overlay_settings` reads them."""
    options = [
        click.option("--line-width", type=click.IntRange(0, 100), help="Of boxes, in pixels."),
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
            "--font-scale", type=click.FloatRange(0.1, 20), help="Size of text; 1 is PySDK's own."
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
    for option in reversed(options):
        command = option(command)
    return command


def overlay_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the overlay settings that were asked for, by PySDK's names (`OVERLAY_SETTINGS`)."""
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


@click.command(
    "replay",
    short_help="Draw a session's overlays again: in a window, or as an MP4.",
    epilog="""Example: dgrec replay session.parquet --output session.replay.mp4

\b
Keys in the window:
  space        play, pause
  . ,          one frame on, back
  right left   10 s on, back (or ] [)
  n p          next, previous event: a drop, a frame slower than p99, a label that appears
  + -          faster, slower
  home end     first, last frame
  l h          labels, HUD
  s            save this frame as PNG beside the session
  ?            show the keys
  q esc        quit
""",
)
@click.argument("session", type=click.Path(path_type=Path))
@click.option(
    "--video",
    type=click.Path(path_type=Path),
    help="The footage that was recorded, where dgrec does not find it itself.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Write an MP4 (H.264). Without a display: NAME.replay.mp4 beside the session.",
)
@click.option("--overwrite", is_flag=True, help="Replace the MP4 if it exists.")
@click.option("--start", type=click.IntRange(0), default=0, help="Number of the first frame.")
@click.option("--end", type=click.IntRange(1), help="Number of the frame to stop before.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after this many frames.")
@overlay_options
@click.option("--quiet", "-q", is_flag=True, help="No progress bar; say only what went wrong.")
def replay_command(
    session: Path,
    video: Path | None,
    output: Path | None,
    overwrite: bool,
    start: int,
    end: int | None,
    max_frames: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Draw the overlays of SESSION again, with the settings they were recorded with.

    The pixels come from the recorded file, which must be unchanged; for a camera, from the video
    that was recorded beside the session. PySDK itself draws, so that the picture is the one that
    was seen live. In a window the session runs at its recorded pace; a click on the time
    line below goes there.
    """
    settings = overlay_settings(options)
    if end is not None and end <= start:
        raise click.UsageError("--end must come after --start")

    import dgrec
    from dgrec.errors import VideoError
    from replay.pixels import Pixels, find_footage

    with dgrec.open(session) as opened:
        size = len(opened)
        if size == 0:
            raise VideoError(f"{session}: no frames were recorded, so there is nothing to draw")
        if start >= size:
            raise VideoError(f"{session}: has {size:,} frames; --start {start} is past the end")
        end = min(size, end or size, start + max_frames if max_frames else size)
        _say_damage(opened)
        chosen = _output(session, output, overwrite)
        footage = find_footage(opened, video)
        if footage.note:
            click.echo(footage.note, err=True)
        with Pixels(footage) as pixels:
            if chosen is None:
                _show(opened, pixels, settings, start, end, quiet)
            else:
                _write(opened, pixels, settings, start, end, quiet, chosen, overwrite)


def _say_damage(session: Any) -> None:
    damage = session.damage
    if damage:
        more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
        click.echo(f"{session.path}: {damage[0]}{more}; what can be read is drawn", err=True)


def _output(session: Path, output: Path | None, overwrite: bool) -> Path | None:
    """Return the MP4 to write, or None for a window."""
    from dgrec.display import has_display
    from dgrec.video import check_output

    if output is None and has_display():
        return None
    chosen = output or session.with_suffix(".replay.mp4")
    if output is None and os.environ.get("DISPLAY"):
        click.echo(
            f"display {os.environ['DISPLAY']} cannot be opened: writing {chosen} instead", err=True
        )
    check_output(chosen, overwrite=overwrite)  # before anything slow
    return chosen


def _show(
    session: Any, pixels: Any, settings: dict[str, Any], start: int, end: int, quiet: bool
) -> None:
    from replay.player import Look, play_session
    from replay.render import OverlayPainter, canvas_for

    recorded = session.metadata.get("overlay", {}).get("show_labels", True)
    labels = bool(settings.get("show_labels", recorded))
    painter = OverlayPainter(settings)
    painters = {labels: painter}

    def paint(look: Look) -> OverlayPainter:
        if look.labels not in painters:
            painters[look.labels] = OverlayPainter({**settings, "show_labels": look.labels})
        return painters[look.labels]

    canvas = canvas_for(session, painter, start, end)
    player = play_session(
        session,
        pixels,
        paint,
        canvas,
        f"dgrec: {session.path.name}",
        start=start,
        end=end,
        look=Look(labels),
    )
    for note in (*pixels.notes(), *painter.notes()):
        click.echo(note, err=True)
    if not quiet:
        for note in player.notes():
            click.echo(note, err=True)
        click.echo(f"{player.shown:,} frames shown")


def _write(
    session: Any,
    pixels: Any,
    settings: dict[str, Any],
    start: int,
    end: int,
    quiet: bool,
    output: Path,
    overwrite: bool,
) -> None:
    from replay.render import write_replay

    with _progress(end - start, quiet) as advance:
        written, seconds, notes = write_replay(
            session,
            pixels,
            output,
            settings=settings,
            start=start,
            end=end,
            overwrite=overwrite,
            progress=advance,
        )
    for note in notes:
        click.echo(note, err=True)
    if not quiet:
        click.echo(f"{output}: {written:,} frames, {seconds:.1f} s")


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left on stderr, where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda frame: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        "frames",
        TimeRemainingColumn(),
        "left",
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda frame: bar.advance(task)

"""Options for what is drawn: the overlay and its look, redaction, sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from dgrec.options import Parsed, SessionPath, option_group
from dgrec.replay.options import FiniteRange, given_flags
from dgrec.units import parse_dimensions, parse_time

_Command = TypeVar("_Command", bound=Callable[..., Any])


def check_no_overlay(context: click.Context) -> None:
    """Refuse settings of the overlay beside --no-overlay."""
    # --detections-where also selects trails.
    names = _OVERLAY if context.params["trails"] else (*_OVERLAY, "detections_where")
    for flag in given_flags(context, names) if context.params["no_overlay"] else ():
        raise click.UsageError(f"{flag} does nothing with --no-overlay")


def check_annotated(context: click.Context, video: Path | None) -> None:
    """Refuse options that need the pixels without the overlay, for a video that has it.

    Raises:
        VideoError: One of them was given.
    """
    from dgrec.errors import VideoError

    names = (*_OVERLAY, "no_overlay", "detections_where", "trails", "redact", "side_by_side")
    for flag in given_flags(context, names):
        raise VideoError(
            f"{video}: has the overlay in it already, as it was drawn live; "
            f"{flag} needs the pixels without it"
        )


def parse_grid(text: str) -> tuple[int, int]:
    """Return columns and rows of a grid such as ``4x3``."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise click.BadParameter(
            f"{text!r} is not a valid grid; expected COLUMNSxROWS, such as 4x3"
        )
    return int(match[1]), int(match[2])


_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})\Z")


def _parse_color(text: str) -> tuple[int, int, int]:
    """Return a color (red, green, blue) written as ``R,G,B`` or ``#RRGGBB``."""
    match = _HEX_COLOR.match(text)
    parts = [str(int(item, 16)) for item in match.groups()] if match else text.split(",")
    values = [int(part) for part in parts if part.strip().isdecimal()]
    if not len(parts) == len(values) == 3 or max(values) > 255:
        raise click.BadParameter(
            f"{text!r} is not a valid color; expected R,G,B (255,128,0) or #RRGGBB"
        )
    return values[0], values[1], values[2]


def _parse_alpha(text: str) -> float | str:
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
            help="Line width of boxes, in pixels.",
        ),
        click.option("--show-labels/--no-show-labels", default=None, help="Write class labels."),
        click.option(
            "--show-probabilities/--no-show-probabilities", default=None, help="Write scores."
        ),
        click.option(
            "--alpha",
            type=_parse_alpha,
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
            type=_parse_color,
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
            help="Corner for the HUD, which covers the picture there.",
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
            help="Go on covering an object that the model misses for so long. More than 2,000 "
            "frames are refused.",
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

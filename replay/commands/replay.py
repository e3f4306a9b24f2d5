"""`dgrec replay`: draw a session's overlays again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dgrec.options import Command, json_option, usage_errors
from dgrec.replay.options import (
    FiniteRange,
    check_companions,
    check_group,
    say_damage,
    selection_options,
    sessions_argument,
    video_option,
)
from dgrec.replay.picture_options import (
    check_annotated,
    check_no_overlay,
    overlay_options,
    overlay_settings,
    parse_grid,
    picture_options,
)
from dgrec.replay.progress import frames_bar
from dgrec.terminal import echo, is_quiet, line, say_written
from dgrec.units import counted

if TYPE_CHECKING:
    from dgrec.footage import Footage, Pixels, Position
    from dgrec.replay.drawing import Stack
    from dgrec.replay.rendering import ReplayOutput, Scene, Selection
    from dgrec.session import Session


@click.command(
    "replay",
    cls=Command,
    short_help="Draw a session's overlays again: in a window, as a video or as pictures.",
    epilog="""Example: dgrec replay session.parquet --hud --output session.replay.mp4

\b
Keys in the window:
  space        play, pause
  . ,          one frame on, back
  right left   10 s on, back (or ] [)
  n p          next, previous mark: drop, slower than p99, new label, mark
  + -          faster, slower
  home end     first, last frame
  l h          labels, HUD
  s            save this frame as PNG beside the session
  ?            show the keys
  q esc        quit
""",
)
@sessions_argument
@click.option(
    "--together",
    is_flag=True,
    help="Show several sessions side by side in time: with each frame of the first the latest one "
    "of the others. Without it, that is done if all were recorded together.",
)
@video_option
@click.option(
    "--output",
    "-o",
    metavar="PATH",
    help="Write NAME.mp4 (H.264), NAME.gif or NAME.webp (animated), or NAME/, a folder of "
    "pictures. Without a display: NAME.replay.mp4 beside the session.",
)
@click.option(
    "--frames",
    "pictures",
    type=click.Choice(["png", "jpg"]),
    help="Write a folder of pictures of this kind, named by frame number.",
)
@click.option(
    "--contact-sheet",
    "grid",
    type=parse_grid,
    metavar="COLSxROWS",
    help="Write one picture of so many frames, evenly spaced, with number and time.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@selection_options("start", "end", "max_frames", "where", "detections_where")
@click.option(
    "--speed",
    type=FiniteRange(0.01, 1000),
    default=1.0,
    metavar="FACTOR",
    help="Play so many times as fast: 0.5, 2, ...",
)
@click.option(
    "--loop", is_flag=True, help="Play again and again: a window, or what a GIF or WebP says."
)
@overlay_options
@click.option(
    "--analyzers",
    "analyzer_functions",
    multiple=True,
    metavar="FILE.py:FUNCTION",
    help="Draw with the analyzers that a function of yours returns: your own classes, which a "
    "session never brings along, or those of degirum_tools with other settings than the recorded "
    "ones. FILE.py is run as any Python program is.",
)
@picture_options
@json_option
def replay_command(
    sessions: tuple[Path, ...],
    together: bool,
    video: Path | None,
    output: str | None,
    pictures: str | None,
    grid: tuple[int, int] | None,
    overwrite: bool,
    start: Position | None,
    end: Position | None,
    max_frames: int | None,
    where: str | None,
    speed: float,
    loop: bool,
    side_by_side: Path | None,
    analyzer_functions: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Draw the overlays of SESSION again, with the settings they were recorded with.

    The pixels come from the recorded file, which must be unchanged; for a camera, from the video
    that was recorded beside the session. PySDK itself draws, so that the picture is the one that
    was seen live; tracks, zones, lines and events of degirum_tools' analyzers are drawn by
    degirum_tools. In a window the session runs at its recorded pace; a click on the time line below
    goes there.

    --blur is PySDK's own, and for looks only: it fails on boxes that reach over the left or upper
    edge, and --alpha lets the picture through. To share pictures, --redact.
    """
    context = click.get_current_context()
    session = sessions[0]
    _check_several(sessions, together, side_by_side, options["redact"])
    check_companions(context, "hud", "hud_at")
    check_companions(context, "redact", "redact_style", "redact_margin", "redact_hold")
    check_no_overlay(context)
    settings = overlay_settings(options)
    _check_pairs(context.params)

    import dgrec
    from dgrec.analyzers import AnalyzerRequest
    from dgrec.errors import VideoError
    from dgrec.footage import Pixels, files_of, find_footage, refuse_recorded
    from dgrec.replay.rendering import choose_output, contact_sheet_of, select_frames

    if analyzer_functions and options["no_overlay"]:
        raise click.UsageError("--analyzers does nothing with --no-overlay")
    with usage_errors():
        request = AnalyzerRequest(functions=analyzer_functions)
    with ExitStack() as closing:
        opened = closing.enter_context(dgrec.open(session))
        if not len(opened):
            raise VideoError(f"{session}: no frames were recorded, so there is nothing to draw")
        say_damage(opened)
        chosen = choose_output(opened, output, pictures, grid, loop=loop)
        if chosen is None and as_json:
            raise click.UsageError("--json is for what is written; name it with --output")
        _check_playing(chosen, speed, loop)
        selection = select_frames(opened, start, end, max_frames, where)
        if grid is not None and chosen is not None:
            selection = selection.spread(grid[0] * grid[1])
            chosen = replace(chosen, target=contact_sheet_of(opened, grid, len(selection)))
        pixels = closing.enter_context(Pixels(find_footage(opened, video, annotated=True)))
        footage = pixels.footage
        notes = [footage.note]
        if footage.annotated:
            check_annotated(context, video)
            notes.append(f"{video} has the overlay in it already: shown as it was drawn live")
        beside = []
        for path in sessions[1:] if side_by_side is None else [side_by_side]:
            other = closing.enter_context(dgrec.open(path))
            say_damage(other)
            beside.append((other, closing.enter_context(Pixels(find_footage(other)))))
            if note := beside[-1][1].footage.note:
                notes.append(f"{path.name}: {note}")
        if len(sessions) > 1 and not together:
            check_group([opened, *(other for other, _ in beside)])
        scene = replace(_scene(settings, options, chosen, footage), analyzers=tuple(request.make()))
        if chosen is None:
            _say(notes)
            together = len(sessions) > 1
            _show(opened, pixels, scene, beside, together, selection, speed, loop, closing)
            return
        painter = scene.painter(opened, closing, beside, together=len(sessions) > 1)
        # After the checks of options: a mistyped one is the more likely mistake.
        chosen.target.check(chosen.path, overwrite=overwrite)
        for other, its_pixels in beside:
            refuse_recorded(chosen.path, [*files_of(other), *its_pixels.footage.files])
        notes.insert(0, chosen.note)
        _say(notes)
        report = partial(say_written, as_json=as_json, session=opened.path, said=notes)
        _write(opened, pixels, painter, selection, speed, chosen, overwrite, report)


def _check_several(
    sessions: Sequence[Path], together: bool, side_by_side: Path | None, redact: Sequence[str]
) -> None:
    """Refuse what only one session can have."""
    if len(sessions) == 1:
        if together:
            raise click.UsageError("--together takes several sessions")
        return
    if side_by_side is not None:
        raise click.UsageError("--side-by-side is for one session: several stand side by side")
    if redact:
        raise click.UsageError(
            "--redact takes one session: what it covers, another camera would show"
        )


def _check_pairs(given: dict[str, Any]) -> None:
    """Refuse options that contradict each other."""
    start, end = given["start"], given["end"]
    if start and end and start.kind == end.kind and end.value <= start.value:
        raise click.UsageError("--end must come after --start")
    if given["size"] is not None and given["scale"] is not None:
        raise click.UsageError("--size and --scale exclude each other")
    if given["pictures"] is not None and given["grid"] is not None:
        raise click.UsageError("--frames and --contact-sheet exclude each other")
    if given["redact"] and given["side_by_side"] is not None:
        raise click.UsageError(
            "--redact and --side-by-side exclude each other: what one session covers, the other "
            "would show"
        )


def _say(notes: Iterable[str]) -> None:
    for note in notes:
        if note:
            echo(note, err=True)


def _check_playing(output: ReplayOutput | None, speed: float, loop: bool) -> None:
    """Refuse --speed and --loop for outputs that do not play, or not in a loop."""
    if speed != 1 and output is not None and not output.plays:
        raise click.UsageError("--speed is for what plays: a window, a video, a GIF or WebP")
    if loop and output is not None and not output.loops:
        raise click.UsageError("--loop is for a window, a GIF or a WebP: a video plays once")


def _scene(
    settings: dict[str, Any], options: dict[str, Any], output: ReplayOutput | None, footage: Footage
) -> Scene:
    """Return what to draw, as `picture_options` and the kind of output say."""
    from dgrec.replay.drawing import Resize
    from dgrec.replay.rendering import Scene

    size, scale = options["size"], options["scale"]
    resize = None if output is None else output.resize
    if size is not None or scale is not None:
        resize = Resize(*(size or ()), scale=scale)
    return Scene(
        settings=settings,
        overlay=not (options["no_overlay"] or footage.annotated),
        where=options["detections_where"],
        trails=options["trails"] or 0,
        hud=options["hud"],
        hud_at=options["hud_at"],
        redact=options["redact"],
        redact_style=options["redact_style"],
        redact_margin=options["redact_margin"],
        redact_hold_s=options["redact_hold"],
        resize=resize,
    )


def _show(
    session: Session,
    pixels: Pixels,
    scene: Scene,
    beside: Sequence[tuple[Session, Pixels]],
    together: bool,
    selection: Selection,
    speed: float,
    loop: bool,
    closing: ExitStack,
) -> None:
    from dgrec.replay.player import Look, play_session
    from dgrec.replay.rendering import canvas_for

    recorded = session.metadata.get("overlay", {}).get("show_labels", True)
    first = Look(bool(scene.settings.get("show_labels", recorded)), scene.hud)
    painters: dict[Look, Stack] = {}

    def painter_for(look: Look) -> Stack:
        if look not in painters:
            settings = {**scene.settings, "show_labels": look.labels}
            shown = replace(scene, settings=settings, hud=look.hud)
            painters[look] = shown.painter(session, closing, beside, together=together)
        return painters[look]

    player = play_session(
        session,
        pixels,
        painter_for,
        canvas_for(session, painter_for(first), selection.start, selection.end),
        line(f"dgrec: {session.path.name}"),
        start=selection.start,
        end=selection.end,
        wanted=selection.wanted,
        speed=speed,
        loop=loop,
        look=first,
    )
    notes = dict.fromkeys(note for painter in painters.values() for note in painter.notes())
    _say((*pixels.notes(), *notes))
    if not is_quiet():
        _say(player.notes())
        echo(f"{counted(player.shown, 'frame')} shown")


def _write(
    session: Session,
    pixels: Pixels,
    painter: Stack,
    selection: Selection,
    speed: float,
    output: ReplayOutput,
    overwrite: bool,
    report: Callable[..., None],
) -> None:
    from dgrec.replay.rendering import write_replay

    with frames_bar() as show:
        done = itertools.count(1)
        written, seconds, notes = write_replay(
            session,
            pixels,
            output.path,
            painter=painter,
            pictures=selection.frames(session, pixels, speed),
            target=output.target,
            start=selection.start,
            end=selection.end,
            overwrite=overwrite,
            progress=lambda _: show("frames", next(done), len(selection)),
        )
    length = f", {seconds:.1f} s" if output.plays else ""
    report(
        [f"{output.path}: {counted(written, 'frame')}{length}"],
        path=output.path,
        frames=written,
        seconds=seconds if output.plays else None,
        notes=notes,
    )

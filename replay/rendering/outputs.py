"""The kind of output that `dgrec replay` writes, by its name and options."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from dgrec.errors import OutputError
from dgrec.paths import CONTACT_SHEET_SUFFIX, FRAMES_SUFFIX, REPLAY_SUFFIX
from dgrec.replay.drawing import Elapsed, Resize
from dgrec.replay.rendering.animation import Animation
from dgrec.replay.rendering.contact_sheet import ContactSheet
from dgrec.replay.rendering.sinks import MP4, Target, picture_folder
from dgrec.screen import has_display
from dgrec.session import Session

#: Wider GIFs are too large for most viewers.
_GIF_WIDTH = 640
#: Of a contact sheet.
_SHEET_WIDTH, _SMALLEST_CELL = 1920, 160
_SHEETS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ReplayOutput:
    """A file or folder to write."""

    path: Path
    target: Target
    #: Whether it shows frames at a pace.
    plays: bool = False
    #: Whether it can play in a loop.
    loops: bool = False
    #: The default size of pictures.
    resize: Resize | None = None
    #: What the user should know about the choice, in one line; "" for nothing.
    note: str = ""


def choose_output(
    session: Session,
    output: str | None,
    pictures: str | None = None,
    grid: tuple[int, int] | None = None,
    *,
    loop: bool = False,
) -> ReplayOutput | None:
    """Return what to write; None: nothing, a window is opened. The disk is not read yet.

    Args:
        output: The name, if it was given; one that ends in a slash is a folder.
        pictures: ``png`` or ``jpg`` for a folder of pictures.
        grid: Columns and rows of a contact sheet.
        loop: Whether an animation plays in a loop.

    Raises:
        OutputError: The name does not fit the kind of output.
    """
    if grid is not None:
        path = Path(output) if output else session.path.with_suffix(CONTACT_SHEET_SUFFIX)
        if path.suffix.lower() not in _SHEETS:
            raise OutputError(f"{path}: a contact sheet is a picture; choose a .png or .jpg name")
        width = max(_SMALLEST_CELL, _SHEET_WIDTH // grid[0])
        sheet = contact_sheet_of(session, grid, len(session))
        return ReplayOutput(path, sheet, resize=Resize(widest=width, quiet=True))
    if pictures is not None or (output is not None and output.endswith(("/", os.sep))):
        path = Path(output) if output else session.path.with_suffix(FRAMES_SUFFIX)
        return ReplayOutput(path, picture_folder(f".{pictures or 'png'}"))
    if output is None:
        if has_display():
            return None
        path = session.path.with_suffix(REPLAY_SUFFIX)
        display = os.environ.get("DISPLAY")
        note = f"display {display} cannot be opened: writing {path} instead" if display else ""
        return ReplayOutput(path, MP4, plays=True, note=note)
    path = Path(output)
    suffix = path.suffix.lower()
    if suffix in (".gif", ".webp"):
        limit = Resize(widest=_GIF_WIDTH) if suffix == ".gif" else None
        target = Target(functools.partial(Animation, loop=loop))
        return ReplayOutput(path, target, plays=True, loops=True, resize=limit)
    if suffix in _SHEETS:
        raise OutputError(
            f"{path}: is one picture; --contact-sheet 4x3 puts many frames into it, "
            f"--frames {'png' if suffix == '.png' else 'jpg'} writes a folder of pictures"
        )
    return ReplayOutput(path, MP4, plays=True)


def contact_sheet_of(session: Session, grid: tuple[int, int], frames: int) -> Target:
    """Return a contact sheet of that grid, without columns and rows that no frame comes into."""
    columns, rows = min(grid[0], frames), min(grid[1], -(-frames // grid[0]))
    sheet = functools.partial(ContactSheet, columns=columns, rows=rows, elapsed=Elapsed(session))
    return Target(sheet)

"""What `dgrec replay` writes, from the name and the options that it was given."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dgrec.errors import OutputError
from dgrec.paths import CONTACT_SHEET_SUFFIX, FRAMES_SUFFIX, REPLAY_SUFFIX
from dgrec.replay.drawing import Resize
from dgrec.replay.rendering.animation import animation
from dgrec.replay.rendering.contact_sheet import contact_sheet
from dgrec.replay.rendering.sinks import MP4, Target, picture_folder
from dgrec.screen import has_display
from dgrec.session import Session

__all__ = ["Output", "choose_output"]

#: Wider GIFs than this are too large for anything that shows GIFs.
_GIF_WIDTH = 640
#: Of a contact sheet.
_SHEET_WIDTH, _SMALLEST_CELL = 1920, 160
_SHEETS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Output:
    """A file or folder to write."""

    path: Path
    target: Target
    #: Whether it has a pace.
    plays: bool = False
    #: Whether it can say that it is to be played again and again.
    loops: bool = False
    #: How large pictures are made unless a size is asked for.
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
) -> Output | None:
    """Return what to write; None: nothing, a window is opened. Nothing is looked for on disk yet.

    Args:
        session: The session.
        output: The name that was given; one that ends in a slash is a folder.
        pictures: ``png`` or ``jpg``, if pictures are asked for.
        grid: Columns and rows, if a contact sheet is asked for.
        loop: Whether an animation is to play again and again.

    Raises:
        OutputError: The name does not tell what to write.
    """
    if grid is not None:
        path = Path(output) if output else session.path.with_suffix(CONTACT_SHEET_SUFFIX)
        if path.suffix.lower() not in _SHEETS:
            raise OutputError(f"{path}: a contact sheet is a picture; choose a .png or .jpg name")
        width = max(_SMALLEST_CELL, _SHEET_WIDTH // grid[0])
        return Output(path, contact_sheet(session, *grid), resize=Resize(widest=width, quiet=True))
    if pictures is not None or (output is not None and output.endswith(("/", os.sep))):
        path = Path(output) if output else session.path.with_suffix(FRAMES_SUFFIX)
        return Output(path, picture_folder(f".{pictures or 'png'}"))
    if output is None:
        if has_display():
            return None
        path = session.path.with_suffix(REPLAY_SUFFIX)
        display = os.environ.get("DISPLAY")
        note = f"display {display} cannot be opened: writing {path} instead" if display else ""
        return Output(path, MP4, plays=True, note=note)
    path = Path(output)
    suffix = path.suffix.lower()
    if suffix in (".gif", ".webp"):
        limit = Resize(widest=_GIF_WIDTH) if suffix == ".gif" else None
        return Output(path, animation(loop=loop), plays=True, loops=True, resize=limit)
    if suffix in _SHEETS:
        raise OutputError(
            f"{path}: is one picture; --contact-sheet 4x3 puts many frames into it, "
            f"--frames {'png' if suffix == '.png' else 'jpg'} writes a folder of pictures"
        )
    return Output(path, MP4, plays=True)

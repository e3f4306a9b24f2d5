"""The player as a notebook shows it: a frame with a short part of a session inside."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Final

from dgrec.errors import VideoError
from dgrec.files import TemporaryFolder
from dgrec.replay.clip import Span, write_clip
from dgrec.replay.viewing.contents import Contents
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.previews import make_preview
from dgrec.replay.viewing.single import single_page
from dgrec.replay.viewing.targets import PageTarget
from dgrec.session import Session

#: Rows that are shown, and how wide their pictures are in pixels.
_ROWS: Final = 150
_WIDEST: Final = 640
#: Rows with large masks, and larger pages, are not put into a notebook.
_MOST_ROW_BYTES: Final = 8_000_000
_MOST_BYTES: Final = 4_000_000
_HEIGHT: Final = 720
_FOLDER: Final = "0"


def player(session: Session) -> str | None:
    """Return an HTML element with the player and the first rows of a session.

    Nothing in it can reach the notebook: it has an origin of its own.

    Returns None where that would be too large.

    Raises:
        DgrecError: The session cannot be read or drawn.
    """
    count = min(_ROWS, len(session))
    rows = session.batches(None, 0, count)
    if not count or sum(batch.nbytes for batch in rows) > _MOST_ROW_BYTES:
        return None
    with TemporaryFolder("dgrec") as folder:
        part = folder.path / "part.parquet"
        write_clip(session, [Span(0, count)], part)
        opened = OpenedSession(_FOLDER, part, "")
        name = str(session.metadata.get("name") or session.path.stem)
        part_of = ""
        if count < len(session):
            part_of = f"The first {count} of {len(session):,} frames: `dgrec view` shows all."
        try:
            page = _page(opened, folder.path, name, part_of)
        finally:
            opened.close()
    if len(page) > _MOST_BYTES:
        return None
    source = html.escape(page.decode(), quote=True)
    style = f"width:100%;height:{_HEIGHT}px;border:0"
    return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{source}"></iframe>'


def _page(opened: OpenedSession, folder: Path, name: str, note: str) -> bytes:
    target = PageTarget()
    videos: dict[int, str] = {}
    preview = None
    try:
        video = folder / "video-0.mp4"
        preview = make_preview(opened, video, widest=_WIDEST)
        if preview is not None:
            videos[0] = video.name
            target.put_file(f"{_FOLDER}/{video.name}", video.read_bytes())
    except VideoError as error:
        note = note or str(error)
    contents = Contents(opened, _FOLDER, target, videos, preview, note, name, has_file=False)
    contents.write(is_short=True)
    facts = {"s": opened.name, "path": name}
    target.put("index", {"sessions": [facts], "folders": {opened.name: _FOLDER}, "thumbs": {}})
    return single_page(target.blocks)

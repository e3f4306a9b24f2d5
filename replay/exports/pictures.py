"""Writes the pictures of exported frames, covered where asked for."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dgrec.errors import VideoError
from dgrec.footage import Pixels, find_footage
from dgrec.replay.drawing import Redaction
from dgrec.replay.rendering import encode_picture

if TYPE_CHECKING:
    from dgrec.session import Session
    from dgrec.video import Image


class Pictures:
    """Writes pictures of a session's frames into a folder.

    Args:
        folder: Where they go.
        suffix: ``.jpg`` or ``.png``.
        prefix: Comes before their names in the export: the folder's name and a slash.
        video: The footage, where dgrec does not find it itself.
        redact: Labels to cover; ``("all",)``: every detection.

    Raises:
        VideoError: There are no pixels, or a label to cover was never recorded.
    """

    def __init__(
        self,
        session: Session,
        folder: Path,
        suffix: str,
        prefix: str = "",
        *,
        video: Path | None = None,
        redact: tuple[str, ...] = (),
    ) -> None:
        self.suffix, self.written = suffix, 0
        self._session, self._folder, self._prefix = session, folder, prefix
        footage = find_footage(session, video)
        if footage.path is None:
            raise VideoError(
                f"{session.path}: its pictures cannot be exported: {footage.lacking} "
                "(--video PATH says where they are; --images none leaves them out)"
            )
        #: The name of their folder.
        self.folder_name = prefix.rstrip("/")
        self._stack = ExitStack()
        self._pixels = self._stack.enter_context(Pixels(footage))
        self._redaction: Redaction | None = None
        if redact:
            labels = None if "all" in redact else redact
            self._redaction = Redaction(session, labels)

    def image(self, position: int) -> Image | None:
        """Return the picture of the row at a position; None if there is none."""
        row = self._session.row(position)
        image = self._pixels.frame(row)
        if image is not None and self._redaction is not None:
            if not image.flags.writeable:
                image = image.copy()
            image = self._redaction.draw(self._session.restored(row), image)
        return image

    def encoded(self, position: int) -> bytes | None:
        """Return the picture as the bytes of a file; None if there is none."""
        image = self.image(position)
        if image is None:
            return None
        self.written += 1
        return encode_picture(image, self.suffix)

    def write(self, position: int, name: str) -> str | None:
        """Write a picture; return its name in the export, or None if there is none."""
        data = self.encoded(position)
        if data is None:
            return None
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return self._prefix + name

    def notes(self) -> list[str]:
        """Return notes for the user, a line each."""
        note = self._pixels.footage.note
        return [*([note] if note else []), *self._pixels.notes()]

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

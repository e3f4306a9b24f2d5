"""Many frames in one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dgrec.errors import OutputError
from dgrec.files import NewFile, check_new_file
from dgrec.replay.drawing import Elapsed, Lettering, Line, paste, time_text
from dgrec.replay.rendering.sinks import Sink, encode_picture, output_errors
from dgrec.session import RecordedResult
from dgrec.video import Image

_BACKGROUND = (24, 24, 24)
#: JPEG takes no longer side, and the whole sheet is in memory.
_LONGEST_SIDE, _MOST_PIXELS = 65_500, 200_000_000


def spread(count: int, cells: int) -> list[int]:
    """Return which of ``count`` frames to show in ``cells`` cells, evenly spaced."""
    chosen: list[int] = np.linspace(0, count - 1, min(count, cells)).round().astype(int).tolist()
    return chosen


class ContactSheet(Sink):
    """One PNG or JPEG with a picture in each cell, its frame number and time below.

    Args:
        width: Of a picture, in pixels.
        height: Of a picture, in pixels.
        columns: Pictures in a row.
        rows: The most rows.
        elapsed: Returns the time of a frame.
        overwrite: Whether an existing file is replaced.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        columns: int,
        rows: int,
        elapsed: Elapsed,
        overwrite: bool,
    ) -> None:
        check_new_file(path, overwrite=overwrite)
        self._path = path
        self._columns, self._rows = columns, rows
        self._width, self._height = width, height
        self._elapsed = elapsed
        self._gap = max(4, width // 40)
        self._lettering = Lettering.of(max(11, min(28, round(width / 17))))
        cell = self._cell
        shape = rows * cell[1] + self._gap, columns * cell[0] + self._gap, 3
        if max(shape) > _LONGEST_SIDE or shape[0] * shape[1] > _MOST_PIXELS:
            raise OutputError(
                f"{path}: the sheet would be {shape[1]}x{shape[0]} pixels; "
                "choose fewer cells or a smaller --size"
            )
        with output_errors(path, lambda: None):
            self._new = NewFile(path, replace=overwrite)
        self._sheet = np.full(shape, _BACKGROUND, np.uint8)

    @property
    def _cell(self) -> tuple[int, int]:
        return self._width + self._gap, self._height + self._lettering.height + 2 * self._gap

    def write(self, image: Image, pts_us: int, duration_us: int, result: RecordedResult) -> None:
        row, column = divmod(self.frames, self._columns)
        if row >= self._rows:
            raise ValueError("the sheet is full")
        left = column * self._cell[0] + self._gap
        top = row * self._cell[1] + self._gap
        self._sheet[top : top + self._height, left : left + self._width] = image
        text = f"frame {result.frame}  {time_text(self._elapsed.seconds(result.row))}"
        room = self._width // self._lettering.width
        if len(text) > room:
            text = text.removeprefix("frame ")
        caption = self._lettering.render([Line(text)], min(len(text), room))
        paste(self._sheet, caption, left, top + self._height + self._gap // 2)
        self.frames += 1

    def finish(self) -> None:
        used = -(-self.frames // self._columns)
        height = used * self._cell[1] + self._gap
        width = min(self.frames, self._columns) * self._cell[0] + self._gap
        with output_errors(self._path, self.discard):
            sheet = self._sheet[:height, :width]
            self._new.file.write(encode_picture(sheet, self._path.suffix.lower()))
            self._new.finish()

    def discard(self) -> None:
        self._new.discard()

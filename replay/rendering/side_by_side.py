"""Two sessions of the same footage, drawn side by side."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.errors import VideoError
from dgrec.footage import Pixels
from dgrec.format import utc_ns
from dgrec.replay.drawing import Elapsed, Lettering, Line, Painter, paste, text_height
from dgrec.replay.rendering.render import canvas_for, usual_step_us
from dgrec.session import RecordedResult, Session
from dgrec.units import counted
from dgrec.video import Image

#: Later than any stamp.
_NEVER = 2**63 - 1


class Partners:
    """Finds the frame of another session that was recorded at the same time as a row.

    Sessions of the same file are paired by source frame. Others are paired by the time since the
    first frame: the nearest frame is taken, if it is at most half the usual step away.

    Raises:
        VideoError: The sessions were recorded from different files.
    """

    def __init__(self, session: Session, other: Session) -> None:
        self._other = other
        first, second = _source(session), _source(other)
        digests = first.get("sha256"), second.get("sha256")
        self.by_source_frame = bool(digests[0]) and digests[0] == digests[1]
        if all(digests) and not self.by_source_frame:
            raise VideoError(
                f"{other.path}: was recorded from {_name(second)}, and {session.path} from "
                f"{_name(first)}: their frames cannot be paired"
            )
        self._elapsed, self._other_elapsed = Elapsed(session), Elapsed(other)
        self._reach_s = max(usual_step_us(session), usual_step_us(other)) / 1e6
        self._last = 0

    def find(self, row: Mapping[str, Any]) -> RecordedResult | None:
        """Return the other session's frame, or None if it has none."""
        if self.by_source_frame:
            wanted = row["source_frame"]
            if wanted is None:
                return None
            at = self._search(lambda row: (row["source_frame"] or 0) >= wanted)
            if at == len(self._other) or self._other.row(at)["source_frame"] != wanted:
                return None
            return self._other.result(at)
        time, seconds = self._other_elapsed.seconds, self._elapsed.seconds(row)
        at = self._search(lambda row: time(row) >= seconds)
        near = [
            (abs(time(self._other.row(i)) - seconds), i)
            for i in (at - 1, at)
            if 0 <= i < len(self._other)
        ]
        distance, nearest = min(near)
        return self._other.result(nearest) if distance <= self._reach_s / 2 else None

    def _search(self, reached: Callable[[Mapping[str, Any]], bool]) -> int:
        """Return the position of the first row for which ``reached`` is true."""
        low, high = 0, len(self._other)
        # It is probably near the last one, whose row group is in memory.
        if not (self._last > 0 and reached(self._other.row(self._last - 1))):
            low = self._last
            if low + 256 < high and reached(self._other.row(low + 256)):
                high = low + 256
        else:
            high = self._last
        rows = range(len(self._other))
        self._last = bisect.bisect_left(
            rows, True, low, high, key=lambda at: reached(self._other.row(at))
        )
        return self._last


class Together:
    """Finds the last frame that another camera had captured when a row was captured.

    For sessions that were recorded together, whose stamps are of one clock.
    """

    by_source_frame = True

    def __init__(self, other: Session) -> None:
        self._other = other
        self._times = np.concatenate(
            [
                pc.fill_null(batch.column(0).cast(pa.int64()), _NEVER).to_numpy()
                for batch in other.batches(["captured_at"])
            ]
        )

    def find(self, row: Mapping[str, Any]) -> RecordedResult | None:
        """Return the other session's frame, or None if it had none yet."""
        if row["captured_at"] is None:
            return None
        now_us = utc_ns(row["captured_at"]) // 1000
        at = int(np.searchsorted(self._times, now_us, side="right")) - 1
        return self._other.result(at) if at >= 0 else None


class SideBySide(Painter):
    """Draws a frame and its partner in another session side by side, with names above.

    Args:
        session: The frames' session.
        painter: Draws them.
        other: The partners' session.
        other_painter: Draws the partners.
        other_pixels: The pixels of the partners.
        together: Whether they were recorded together: then partners are of the same time.
        names: The names above the pictures; by default those of the files.

    Raises:
        VideoError: The sessions are not of the same footage.
    """

    def __init__(
        self,
        session: Session,
        painter: Painter,
        other: Session,
        other_painter: Painter,
        other_pixels: Pixels,
        *,
        together: bool = False,
        names: tuple[str, str] | None = None,
    ) -> None:
        if not len(other):
            raise VideoError(f"{other.path}: no frames were recorded, so there is nothing to draw")
        self._partners: Partners | Together
        self._partners = Together(other) if together else Partners(session, other)
        self._painters = painter, other_painter
        self._pixels = other_pixels
        self._names = names or (session.path.stem, other.path.stem)
        if self._names[0] == self._names[1]:
            self._names = str(session.path), str(other.path)
        self._other = other
        left = canvas_for(session, painter, even=False)
        right = canvas_for(other, other_painter, even=False)
        self._canvases = left, right
        self._width = max(1, round(right.width * left.height / right.height))
        self._text = Lettering.of(round(1.4 * text_height(left.width, left.height)))
        self._gap = max(2, left.width // 160)
        self._bar = self._text.height + 2 * self._gap
        self._unpaired = 0

    def extent(self, width: int, height: int) -> tuple[int, int]:
        left = self._canvases[0]
        return left.width + self._gap + self._width, self._bar + left.height

    def draw(self, result: RecordedResult, image: Image) -> Image:
        left = self._canvases[0]
        width, height = self.extent(*result.size)
        picture = np.full((height, width, 3), 32, np.uint8)
        top, start = self._bar, left.width + self._gap
        picture[top:, : left.width] = left.fit(self._painters[0].draw(result, image))
        picture[top:, start:] = self._right(result)
        for name, at, room in zip(self._names, (0, start), (left.width, self._width), strict=True):
            if not name:  # the left picture has names of its own, below
                continue
            columns = max(1, (room - self._gap) // self._text.width)
            # The end of a long path is the more useful part.
            text = self._text.render([Line(name[-columns:])], min(columns, len(name)))
            paste(picture, text, at + self._gap, self._gap)
        return picture

    def _right(self, result: RecordedResult) -> Image:
        import cv2

        partner = self._partners.find(result.row)
        image = None if partner is None else self._pixels.frame(partner.row)
        size = self._width, self._canvases[0].height
        if partner is None or image is None:
            self._unpaired += 1
            return self._note("no such frame" if partner is None else "no pixels", size)
        picture = self._canvases[1].fit(self._painters[1].draw(partner, image))
        if picture.shape[1::-1] == size:
            return picture
        resized: Image = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return resized

    def _note(self, reason: str, size: tuple[int, int]) -> Image:
        panel = np.full((size[1], size[0], 3), 48, np.uint8)
        text = self._text.render([Line(reason)], len(reason))
        top, left = (max(0, (panel.shape[i] - text.shape[i]) // 2) for i in (0, 1))
        paste(panel, text, left, top)
        return panel

    def notes(self) -> list[str]:
        notes = [*self._painters[0].notes(), *self._painters[1].notes(), *self._pixels.notes()]
        name = self._other.path.name
        if not self._partners.by_source_frame:
            notes.append(
                f"{name} may be of another file: its frames are paired by the time since the first"
            )
        if self._unpaired:
            frames = counted(self._unpaired, "frame")
            notes.append(f"{name} has no frame for {frames}")
        return notes


def _source(session: Session) -> Mapping[str, Any]:
    source: Mapping[str, Any] = session.metadata.get("source", {})
    return source


def _name(source: Mapping[str, Any]) -> str:
    return str(source.get("file") or source.get("name") or source.get("given") or "another file")

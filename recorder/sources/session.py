"""A recorded session as a source: its pictures, with the numbers and stamps of its frames."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from dgrec.errors import SessionError, VideoError
from dgrec.footage import find_footage, media_us, pixel_aspect_of
from dgrec.session import Session
from dgrec.video import Picture


class SessionReader:
    """Pictures of a session, as fast as they are asked for; see `SourceReader`.

    Raises:
        VideoError: It is not a session, or has no pictures.
    """

    has_end = True
    lost_at_end = 0
    waiting = 0
    problem = ""

    def __init__(self, path: Path) -> None:
        from dgrec.stand_in import camera

        self.opening_s = time.monotonic()
        try:
            with Session(path) as session:
                source: dict[str, Any] = session.metadata.get("source", {})
                self.aspect: Fraction = pixel_aspect_of(session)
                last = session.row(len(session) - 1)["source_frame"] if len(session) else 0
            self._camera = camera(path, pace="fast")
        except SessionError as error:
            raise VideoError(str(error)) from None
        self.fps: float | None = self._camera.fps or None
        self.size = self._camera.size
        self.frame_count = self._camera.frame_count
        frames = source.get("frames")
        #: How many frames the recorded source had, including those that were left out; whole
        #: rounds if it was repeated.
        self.announced: int | None = last + 1
        if isinstance(frames, int) and frames > 0:
            self.announced = (last // frames + 1) * frames

    def read(self) -> Picture | None:
        """Return the next picture; None at the end.

        Raises:
            SourceError: A picture that was recorded cannot be read any more.
        """
        ok, image = self._camera.read()
        row = self._camera.row
        if not ok or row is None:
            return None
        media_s, number = row["media_time_s"], row["source_frame"]
        is_possible = media_s is not None and media_us(media_s) is not None
        return Picture(image, Fraction(media_s) if is_possible else None, number=number)

    def keep_packets(self) -> None:
        """Return None: pictures come from anywhere in a video."""

    def missing(self) -> str:
        return ""

    def repeats(self, earlier: object) -> bool:
        return False

    def release(self) -> None:
        self._camera.release()


def footage_facts(path: Path) -> dict[str, Any] | None:
    """Return a session's facts about its source file, if its pictures are still read from that.

    A recording of the session is then a recording of that file.

    Raises:
        SessionError: It is not a session.
    """
    with Session(path) as session:
        footage = find_footage(session)
        if footage.path is None or footage.column != "source_frame":
            return None
        return {**session.metadata.get("source", {}), "path": str(footage.path)}

"""The videos of an export: copies of those that browsers play, H.264 for all others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from dgrec.errors import DgrecError
from dgrec.footage import Pixels, find_footage, session_times
from dgrec.replay.drawing import Redaction
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.videos import Video, shown_footage
from dgrec.session import Session
from dgrec.video import VideoWriter, import_av, open_container

#: What all browsers decode, by FFmpeg's names: codecs, kinds of pixels, and types of files.
_CODECS: Final = frozenset(("h264", "vp8", "vp9", "av1"))
_PIXELS: Final = frozenset(("yuv420p", "yuvj420p"))
_TYPES: Final = frozenset(("video/mp4", "video/webm"))
#: Larger pictures are made smaller.
_WIDEST: Final = 1920
#: A picture is shown no longer than this: the writer repeats it (`dgrec.video.repeats`).
_LONGEST_US: Final = 1_800_000_000


def plays_everywhere(video: Video) -> bool:
    """Return whether any browser plays a video file."""
    if video.mime not in _TYPES or video.codec not in _CODECS:
        return False
    try:
        with contextlib.closing(open_container(video.path, video.path.name)) as container:
            context = container.streams.video[0].codec_context
            return context.pix_fmt in _PIXELS
    except (DgrecError, OSError, IndexError, import_av().FFmpegError):
        return False


@dataclass
class Preview:
    """A video that was made of a session's pictures, and when each row's picture is shown in it."""

    width: int
    height: int
    frames: int = 0
    #: By position, in microseconds; -1: the row has no picture.
    pts_us: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.int64))
    duration_us: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.int64))
    notes: Sequence[str] = ()

    def shown(self, start: int, stop: int) -> dict[str, list[Any]]:
        """Return the fields of `/api/rows` about pictures: ``video``, ``pts_s`` and so on."""
        pts, duration = self.pts_us[start:stop], self.duration_us[start:stop]
        is_there = pts >= 0
        return {
            "video": np.where(is_there, 0, -1).tolist(),
            "pts_s": [value / 1e6 if value >= 0 else None for value in pts.tolist()],
            "duration_s": [
                value / 1e6 if there else None
                for value, there in zip(duration.tolist(), is_there.tolist(), strict=True)
            ],
            "state": ["" if there else "no picture" for there in is_there.tolist()],
        }


def make_preview(
    opened: OpenedSession,
    path: Path,
    redact: tuple[str, ...] = (),
    widest: int = _WIDEST,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Preview | None:
    """Encode the pictures of rows as H.264, each shown at the exact time of its row.

    Args:
        path: The video, which ends in ``.mp4``.
        redact: Labels whose detections are covered; ``("all",)``: of all labels.
        widest: Larger pictures are made smaller.
        progress: Called with the number of rows done, and that of all rows.

    Returns None if no row has a picture.

    Raises:
        OutputError: The file cannot be written.
        VideoError: The footage is not a video, or a label was never recorded.
    """
    session = opened.session
    preview = Preview(0, 0)
    preview.pts_us = np.full(opened.count, -1, np.int64)
    preview.duration_us = np.zeros(opened.count, np.int64)
    # What was drawn into a video cannot be covered.
    footage = find_footage(session) if redact else shown_footage(session)
    if footage.path is None and not footage.parts:
        return None
    redaction = Redaction(session, None if "all" in redact else redact) if redact else None
    with opened.rows, contextlib.closing(Pixels(footage)) as pixels:
        fits = _Size(widest)
        with contextlib.ExitStack() as stack:
            writer: VideoWriter | None = None
            first_us = last = 0
            for position, time_us, step_us in _times(session, opened.count):
                progress(position, opened.count)
                row = session.row(position)
                image = pixels.frame(row)
                if image is None:
                    continue
                if redaction is not None:
                    image = redaction.draw(session.restored(row), np.array(image))
                image = fits(image)
                if writer is None:
                    writer = stack.enter_context(VideoWriter(path, fits.width, fits.height))
                    first_us = time_us
                else:
                    _end(preview, last, time_us - first_us)
                writer.write(image, time_us - first_us, step_us)
                preview.pts_us[position] = time_us - first_us
                preview.duration_us[position] = min(step_us, _LONGEST_US)
                preview.frames += 1
                last = position
        preview.notes = [*filter(None, [footage.note]), *pixels.notes()]
    preview.width, preview.height = fits.width, fits.height
    return preview if preview.frames else None


def _end(preview: Preview, position: int, next_us: int) -> None:
    """Let the picture of a row last until the next one."""
    lasts = next_us - int(preview.pts_us[position])
    preview.duration_us[position] = min(lasts, _LONGEST_US)


def _times(session: Session, count: int) -> Iterable[tuple[int, int, int]]:
    """Yield position, time and usual duration of the first rows, in microseconds."""
    position, step, before = 0, 40_000, None
    for times in session_times(session, end=count):
        for time in times.tolist():
            step = step if before is None else time - before
            yield position, time, step
            position, before = position + 1, time


class _Size:
    """Brings pictures to one size, with even sides as H.264 needs them."""

    def __init__(self, widest: int) -> None:
        self._widest = widest
        self.width = self.height = 0

    def __call__(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        height, width = image.shape[:2]
        if not self.width:
            scale = min(1.0, self._widest / width)
            self.width, self.height = _even(width * scale), _even(height * scale)
        if (width, height) == (self.width, self.height):
            return image
        import cv2

        size = self.width, self.height
        smaller: np.ndarray[Any, Any] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return smaller


def _even(side: float) -> int:
    return max(2, 2 * round(side / 2))

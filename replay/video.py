"""The frames of a video file, by their number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dgrec.errors import VideoError
from dgrec.video import Image

__all__ = ["Clip"]


class Clip:
    """The frames of a video file, by their number in decoding order, from 0.

    Frames are counted while they are decoded, one after the other, by the same decoder that the
    recorder read them with: both the numbers and the pixels are those of the recording. Asking
    the decoder to seek instead gives wrong frames in files with a variable rate.

    Raises:
        VideoError: The file is no video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Number of frames; known once the end has been reached.
        self.length: int | None = None
        self._next = 0
        self._capture = self._open()

    def _open(self) -> Any:
        # OpenCV's and FFmpeg's own remarks on a broken file would stand beside our one line.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        logging = cv2.utils.logging
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            # An absolute path cannot be taken for a URL, nor, with the backend named, for
            # a series of numbered pictures.
            capture = cv2.VideoCapture(os.path.abspath(self.path), cv2.CAP_FFMPEG)
        finally:
            logging.setLogLevel(level)
        if not capture.isOpened():
            raise VideoError(f"{self.path}: not a video that OpenCV can read")
        return capture

    def read(self, index: int) -> Image | None:
        """Return frame ``index``, or None if the video ends before it.

        Going forwards costs the decoding of the frames between; going back starts over.
        """
        if self.length is not None and index >= self.length:
            return None
        if index < self._next:
            self._capture.release()
            self._capture = self._open()
            self._next = 0
        while self._next < index:
            # Skipped frames are decoded, but not converted to BGR.
            if not self._capture.grab():
                self.length = self._next
                return None
            self._next += 1
        ok, image = self._capture.read()
        if not ok:
            self.length = self._next
            return None
        self._next += 1
        pixels: Image = image
        return pixels

    def close(self) -> None:
        self._capture.release()

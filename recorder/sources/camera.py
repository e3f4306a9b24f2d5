"""A local camera, through OpenCV."""

from __future__ import annotations

import os
import threading
import time
from fractions import Fraction

from dgrec.errors import VideoError
from dgrec.video import Picture


class CameraReader:
    """Pictures of a local camera (V4L2); see `SourceReader`.

    One thread reads; any thread may call `release`.

    Raises:
        VideoError: There is no such camera, or it is in use.
    """

    has_end = False
    announced: int | None = None
    frame_count: int | None = None
    lost_at_end = 0
    waiting = 0
    problem = ""
    aspect = Fraction(1)

    def __init__(self, index: int) -> None:
        # OpenCV prints errors on stderr, besides returning them.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        import cv2

        # In case OpenCV was imported before. OpenCV 4.10 to 4.12 have no such switch.
        logging = getattr(cv2.utils, "logging", None)
        if logging is not None:
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        self.opening_s = time.monotonic()
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            self._capture.release()
            raise VideoError(f"there is no camera with index {index}, or it is in use")
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps < 1000 else None
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        self._in_use = threading.Lock()
        self._is_released = False

    def read(self) -> Picture | None:
        """Return the next picture; None when the camera gives no more.

        It has no stamp: V4L2 gives the time since boot, or nothing.
        """
        with self._in_use:
            if self._is_released:
                return None
            ok, image = self._capture.read()
        if self._is_released:
            self.release()  # the first attempt could not close it during the read
            return None
        return Picture(image, None) if ok and image is not None else None

    def keep_packets(self) -> None:
        """Return None: OpenCV gives no packets."""

    def missing(self) -> str:
        return ""

    def repeats(self, earlier: object) -> bool:
        return False

    def release(self) -> None:
        """Close the camera, or let a read that is going on close it when it returns."""
        self._is_released = True
        if self._in_use.acquire(blocking=False):
            try:
                self._capture.release()
            finally:
                self._in_use.release()

"""What `--source` may name, and where its frames come from."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dgrec import sample
from dgrec.credentials import percent_encoded, redact, redact_text, remember
from dgrec.errors import SourceError
from recorder.answer import ask
from recorder.config import expand

__all__ = ["Source", "VideoReader", "parse_source"]

Kind = Literal["camera", "file", "url", "sample", "asset"]

_CAMERA = re.compile(r"cam(\d+)\Z")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_HOST_AND_PATH = re.compile(r"[^:]*://(?:\*\*\*@)?(\[[^]]*\]|[^:/?]*)(?::\d+)?([^?]*)")


@dataclass(frozen=True)
class Source:
    """A source as it was asked for, resolved to what OpenCV can open.

    ``target`` may hold a password: it is for opening only. Everything that is printed or recorded
    uses ``given``, from which secrets are gone.
    """

    given: str
    kind: Kind
    target: int | str
    name: str

    @property
    def has_end(self) -> bool:
        """Whether it is footage with an end, rather than something live."""
        return self.kind in ("file", "sample") or self.kind == "asset"

    def describe(self, session_folder: Path) -> dict[str, Any]:
        """Return what the session's metadata says of this source."""
        facts: dict[str, Any] = {"given": self.given, "kind": self.kind, "name": self.name}
        if self.kind in ("file", "sample"):
            path = Path(str(self.target)).resolve()
            facts["file"] = path.name
            facts["size"] = path.stat().st_size
            facts["sha256"] = _sha256(path)
            if self.kind == "file":
                facts["path"] = str(path)
            # A session that lies near its footage finds it again when both are moved.
            relative = os.path.relpath(path, session_folder.resolve())
            if self.kind == "file" or not relative.startswith(".."):
                facts["relative"] = Path(relative).as_posix()
        return facts


def parse_source(text: str, named: dict[str, str] | None = None) -> Source:
    """Return the source that ``text`` names.

    Args:
        text: ``cam0``, a file, a URL, ``sample``, ``asset:NAME``, or a name in ``named``.
        named: Names from ``dgrec.toml`` and what they stand for.

    Raises:
        SourceError: It names nothing that there is.
    """
    remember(text)
    if named and text in named:
        meant = parse_source(expand(named[text]))
        return Source(text, meant.kind, meant.target, text)
    camera = _CAMERA.match(text)
    if camera:
        return Source(text, "camera", int(camera.group(1)), text)
    if text == "sample":
        return Source(text, "sample", str(sample.CLIP), "sample")
    if text.startswith("asset:"):
        return _asset(text)
    if _URL.match(text):
        given = redact(text)
        # Of the redacted form: a password may stand in the path, and this becomes a file name.
        where = _HOST_AND_PATH.match(given)
        name = _file_name("".join(where.groups()) if where else "")
        return Source(given, "url", percent_encoded(text), name)
    path = Path(text)
    if path.is_dir():
        raise SourceError(f"{text}: is a folder; name one video file")
    if not path.exists():
        known = f", or one of {', '.join(sorted(named))} (dgrec.toml)" if named else ""
        raise SourceError(
            f"{redact(text)}: no such source; give a file, a URL, cam0 for a camera, sample{known}"
        )
    return Source(text, "file", str(path), _file_name(path.stem))


def _asset(text: str) -> Source:
    """Return one of DeGirum's public example media, which degirum_tools lists from the network."""
    name = text.removeprefix("asset:")
    try:
        from degirum_tools import remote_assets

        videos = dict(remote_assets.list_videos()) if "__errors" not in dir(remote_assets) else {}
    except Exception as error:  # whatever requests and urllib3 raise without a network
        raise SourceError(
            f"{text}: DeGirum's media list cannot be fetched: {_line(error)}"
        ) from None
    if not videos:
        raise SourceError(
            f"{text}: DeGirum's media list cannot be fetched; assets need a network connection "
            "(`--source sample` does not)"
        )
    if name not in videos:
        raise SourceError(f"{text}: no such asset; there are: {', '.join(sorted(videos))}")
    return Source(text, "asset", str(videos[name]), _file_name(name))


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or "source"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error: BaseException) -> str:
    lines = redact_text(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class VideoReader:
    """Frames of a source through OpenCV, as DeGirum's own `open_video_stream` reads them.

    One thread reads; any thread may call `release`.

    Raises:
        SourceError: The source cannot be opened, or is footage without a frame.

    Args:
        stall_timeout_s: How long a network stream may stay silent before a read fails.

    Attributes:
        fps: Nominal frames per second, or None where the source does not say.
        size: Width and height that the source announces.
        frame_count: Number of frames as the container tells it; None for a live source.
        opening_s: When opening began (`time.monotonic`): a camera's first frames are about so old.
    """

    def __init__(self, source: Source, *, stall_timeout_s: float = 10.0) -> None:
        # Both libraries print their own complaints on stderr, besides returning them.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

        self.source = source
        self.opening_s = time.monotonic()
        if source.kind == "file" and not os.access(str(source.target), os.R_OK):
            raise SourceError(f"{source.given}: cannot be read: permission denied")
        if source.kind == "url":
            # Without these OpenCV waits half a minute for a camera that has gone silent.
            milliseconds = max(1, int(stall_timeout_s * 1000))
            limits = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                milliseconds,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                milliseconds,
            ]
            self._capture = cv2.VideoCapture(source.target, cv2.CAP_FFMPEG, limits)
        else:
            self._capture = cv2.VideoCapture(source.target)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(_cannot_open(source, stall_timeout_s))
        self._cv2 = cv2
        self._in_use = threading.Lock()
        self._is_released = False
        # Asked for now: later another thread may be reading, or have let go of it.
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps < 1000 else None
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if source.has_end and count > 0 else None
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        # A container may be whole and yet hold nothing that can be decoded.
        self._has_grabbed = source.has_end and self._capture.grab()
        if source.has_end and not self._has_grabbed:
            self._capture.release()
            raise SourceError(f"{source.given}: holds no frame that OpenCV can read")
        self._last_position_s = -1.0
        self._has_positions = True
        self._last_stamp = 0.0
        self._shift_s = 0.0

    def read(self) -> tuple[bool, Any]:
        """Return (True, BGR image, uint8, height x width x 3), or (False, None) at the end."""
        with self._in_use:
            if self._is_released:
                return False, None
            ok, image = self._capture.retrieve() if self._has_grabbed else self._capture.read()
            self._has_grabbed = False
        if self._is_released:
            self.release()  # now that nobody reads from it
            return False, None
        return (True, image) if ok and image is not None else (False, None)

    def position_s(self) -> float | None:
        """Return where in the source's time line the last frame stands, in seconds."""
        if self.source.kind == "camera":
            return None  # V4L2 gives the time since boot, or nothing
        with self._in_use:
            if self._is_released:
                return None
            value = float(self._capture.get(self._cv2.CAP_PROP_POS_MSEC)) / 1000 + self._shift_s
            if not self.source.has_end:
                return self._live_position(value)
        if value <= self._last_position_s and self._last_position_s >= 0:
            self._has_positions = False  # stands still: this container has no time stamps
        self._last_position_s = value
        return value if self._has_positions else None

    def _live_position(self, value: float) -> float | None:
        """Return ``value``, if it is what the stream's own stamp says; None if it is not.

        Where a stream has no stamps (JPEG over HTTP), OpenCV makes up positions from an assumed
        rate. To the first two frames of an RTSP stream it may give the same position, and to one
        in the middle that of the beginning.
        """
        number = getattr(self._cv2, "CAP_PROP_PTS", None)  # not in the oldest OpenCV we take
        stamp = float(self._capture.get(number)) if number is not None else 0.0
        if abs(stamp) > 2**62:
            return None
        step, self._last_stamp = stamp - self._last_stamp, stamp  # in nominal periods
        if value <= self._last_position_s:
            if step <= 0 or not self.fps or self._last_position_s > 0:
                return None
            self._shift_s = step / self.fps
            value += self._shift_s
        self._last_position_s = value
        return value

    def get(self, prop: int) -> float:
        return float(self._capture.get(prop))

    def release(self) -> None:
        """Close the source; if a read is going on, as soon as that comes back.

        Closing what another thread reads from takes the memory away under FFmpeg's hands.
        """
        self._is_released = True
        if self._in_use.acquire(blocking=False):
            try:
                self._capture.release()
            finally:
                self._in_use.release()


def _cannot_open(source: Source, patience_s: float) -> str:
    if source.kind == "camera":
        return (
            f"{source.given}: there is no camera with index {source.target}, or it is in use; "
            "`dgrec record --source sample` works without one"
        )
    if source.kind == "url":
        why = (
            ask(str(source.target), min(patience_s, 3.0))
            or "check the address, the network and the login"
        )
        return f"{source.given}: cannot be opened: {why}"
    return f"{source.given}: is no video that OpenCV can read"

"""A recording in place of the camera: its pictures through OpenCV's own calls."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from dgrec.arguments import optional_path
from dgrec.errors import ConfigError, SourceError, VideoError
from dgrec.footage import Footage, Pixels, column_values, find_footage
from dgrec.format import SCHEMA, utc_ns
from dgrec.session import Session
from dgrec.stand_in import given_pictures

_PACES = ("recorded", "fast")

# OpenCV's numbers; importing cv2 for some integers would cost 0.4 s.
_POS_MSEC, _POS_FRAMES, _POS_AVI_RATIO, _WIDTH, _HEIGHT, _FPS = range(6)
_FRAME_COUNT, _FORMAT = 7, 8
#: Bytes, three channels (CV_8UC3).
_BGR = 16.0

#: The columns that are read.
_COLUMNS = (
    "frame",
    "source_frame",
    "media_time_s",
    "captured_at",
    "width",
    "height",
    "video_frame",
    "video_state",
    "pixel_digest",
)
_STEP_NS = 40_000_000
#: Reasons why a frame is known to be in no video: the camera skips it, like a dropped one.
_KNOWN = ("left_out", "ends")


class SessionCamera:
    """The recorded pictures of a session, as ``cv2.VideoCapture`` gives those of a camera.

    They come from the video that was recorded with the session, or from the footage that it was
    recorded from. Frames that the recording left out (``fps=15``, drops) are missing, and so are
    those whose picture was not recorded; there is a pause in their place. `SessionModel` knows
    the pictures of a camera, whatever encoding did to their pixels.

    Any thread may `release` it; one at a time reads. It can be iterated over, and used in a
    ``with`` block.

    Args:
        session: A session in any form, with a video or with its footage.
        pace: "recorded": a picture comes when it was captured, counted from the first one, with
            all gaps and stalls; a slow program loses none. "fast": at once.
        loop: Begin again after the last one.
        video: The file with the pictures, if it is not where it was.

    Raises:
        SessionError: The session is missing, not a session, damaged, or of a newer format.
        VideoError: It has no pictures.
        ConfigError: There is no such pace.
    """

    def __init__(
        self,
        session: str | os.PathLike[str],
        *,
        pace: str = "recorded",
        loop: bool = False,
        video: str | os.PathLike[str] | None = None,
    ) -> None:
        if pace not in _PACES:
            raise ConfigError(f"pace={pace!r}: expected {' or '.join(_PACES)}")
        self._pace, self._loop = pace, loop
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._session = Session(session)
        try:
            self._open(video)
        except BaseException:
            self._session.close()
            raise

    def _open(self, video: str | os.PathLike[str] | None) -> None:
        session = self._session
        footage = find_footage(session, optional_path("video", video, VideoError))
        if footage.path is None:
            raise VideoError(
                f"{session.path}: has no pictures to give: {footage.lacking}; record with "
                "--video raw (in Python video='raw'), or name their file by video=..."
            )
        self._facts = given_pictures.SessionFacts.of(session)
        table = _rows_of(session)
        #: The rows that have a picture.
        self._rows = table.filter(pa.array(_has_picture(footage, table))).combine_chunks()
        if not len(self._rows):
            raise VideoError(f"{session.path}: has no pictures to give: {_nothing(session)}")
        stamps, _ = column_values(self._rows.column("captured_at"))
        stamps = np.maximum.accumulate(stamps) * 1000
        #: When each was captured, in nanoseconds after the first.
        self._times_ns = stamps - stamps[0]
        self._pixels = Pixels(footage)
        self._has_given = False
        #: The place of the next picture in `_rows`.
        self._next = 0
        self._now: dict[str, Any] | None = None
        self._image: np.ndarray[Any, Any] | None = None
        #: When `_times_ns` is 0, by the monotonic clock.
        self._began_ns: int | None = None
        first = self._row(0)
        self._size = int(first["width"] or 0), int(first["height"] or 0)
        self._media_ms = _media_ms(self._rows, self._times_ns)
        self.fps = _rate(session, self._times_ns)

    # --- facts ---

    @property
    def path(self) -> Path:
        return self._session.path

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture that was given last; at first, of the first."""
        return self._size

    @property
    def frame_count(self) -> int:
        """Number of pictures, from the first to the last."""
        return len(self._rows)

    @property
    def has_chosen_frames(self) -> bool:
        """True if a program had chosen the frames before they were recorded."""
        return bool(self._session.metadata.get("source", {}).get("kind") == "program")

    @property
    def row(self) -> dict[str, Any] | None:
        """Numbers and stamps of the row of the picture that was given last; None before."""
        return self._now

    # --- the interface of cv2.VideoCapture ---

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return not self._ended.is_set()

    def open(self, *arguments: Any, **options: Any) -> bool:
        """Return False: a recording is not another camera."""
        return False

    def getBackendName(self) -> str:  # noqa: N802 - OpenCV's name
        return "DGREC"

    def getExceptionMode(self) -> bool:  # noqa: N802 - OpenCV's name
        return False

    def setExceptionMode(self, enable: bool) -> None:  # noqa: N802 - OpenCV's name
        """Do nothing: errors in a recording are raised in any case."""

    def get(self, prop: int) -> float:
        """Return one of OpenCV's properties; 0 for those that a recording does not have.

        ``CAP_PROP_FPS`` is the rate of the recorded pictures: 10 where every third of 30 a second
        was recorded. ``CAP_PROP_FRAME_COUNT`` is 0 if the camera loops.
        """
        count = len(self._rows)
        values: dict[int, float] = {
            _POS_MSEC: self._position_ms(),
            _POS_FRAMES: self._next,
            _POS_AVI_RATIO: self._next / count,
            _WIDTH: self._size[0],
            _HEIGHT: self._size[1],
            _FPS: self.fps,
            _FRAME_COUNT: 0 if self._loop else count,
            _FORMAT: _BGR,
        }
        return float(values.get(prop, 0.0))

    def set(self, prop: int, value: float) -> bool:
        """Go to another picture (``CAP_PROP_POS_...``); nothing else can be set."""
        with self._lock:
            if self._ended.is_set() or not np.isfinite(value):
                return False
            if prop == _POS_FRAMES:
                place = int(value)
            elif prop == _POS_AVI_RATIO:
                place = round(value * len(self._rows))
            elif prop == _POS_MSEC:
                place = int(np.searchsorted(np.maximum.accumulate(self._media_ms), value))
            else:
                return False
            self._next = min(max(place, 0), len(self._rows))
            self._began_ns = None
            return True

    def read(self, image: Any = None) -> tuple[bool, Any]:
        """Wait for the next picture; return (True, picture), or (False, None) after the last.

        Args:
            image: An array to copy it into, if it fits, as OpenCV does.

        Raises:
            SourceError: A picture that was recorded cannot be read any more.
        """
        return self.retrieve(image) if self.grab() else (False, None)

    def grab(self) -> bool:
        """Wait for the next picture; return whether there is one."""
        with self._lock:
            self._image = self._now = None
            while not self._ended.is_set():
                if self._next >= len(self._rows):
                    self._check_gave_some()
                    if not self._begin_again():
                        return False
                place, self._next = self._next, self._next + 1
                row = self._row(place)
                image = self._picture(row)
                if image is None:
                    continue
                self._wait_for(place)
                if self._ended.is_set():
                    return False
                self._now, self._image = row, image
                self._has_given = True
                self._size = image.shape[1], image.shape[0]
                return True
            return False

    def retrieve(self, image: Any = None, flag: int = 0) -> tuple[bool, Any]:
        """Return (True, the picture that was grabbed), or (False, None)."""
        with self._lock:
            if self._now is None or self._ended.is_set():
                return False, None
            picture, self._image = self._image, None
            if picture is None:  # it was retrieved before
                picture = self._picture(self._now)
            assert picture is not None
            if _fits(image, picture):
                image[...] = picture
                picture = image
            given_pictures.note(picture, self._origin(self._now))
            return True, picture

    def release(self) -> None:
        """Close the camera. A read that waits in another thread ends."""
        self._ended.set()
        with self._lock:
            self._pixels.close()
            self._session.close()

    # --- as Python has it ---

    def __iter__(self) -> Iterator[np.ndarray[Any, Any]]:
        """Yield the pictures that are left."""
        while True:
            ok, image = self.read()
            if not ok:
                return
            yield image

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<dgrec camera {str(self.path)!r}: {len(self._rows)} pictures>"

    # --- inside ---

    def _row(self, place: int) -> dict[str, Any]:
        row: dict[str, Any] = self._rows.slice(place, 1).to_pylist()[0]
        return row

    def _picture(self, row: dict[str, Any]) -> np.ndarray[Any, Any] | None:
        image = self._pixels.frame(row)
        if image is None and self._pixels.missed not in _KNOWN:
            raise SourceError(f"{self.path}: frame {row['frame']}: {self._pixels.why_missed()}")
        return image

    def _origin(self, row: dict[str, Any]) -> given_pictures.Origin:
        def known(name: str) -> int:
            return -1 if row[name] is None else int(row[name])

        stamp = row["captured_at"]
        return given_pictures.Origin(
            self._facts,
            known("frame"),
            known("source_frame"),
            -1 if stamp is None else utc_ns(stamp) // 1000,
            known("pixel_digest"),
        )

    def _check_gave_some(self) -> None:
        """Complain at the end if there was no picture: a loop would look for one for ever."""
        if not self._has_given and self._pixels.missed:
            raise SourceError(f"{self.path}: has no pictures to give: {self._pixels.why_missed()}")

    def _begin_again(self) -> bool:
        if not self._loop:
            return False
        if self._began_ns is not None:  # the last picture is shown for as long as the one before
            steps = np.diff(self._times_ns[-2:])
            self._began_ns += int(self._times_ns[-1]) + int(steps[0] if len(steps) else _STEP_NS)
        self._next = 0
        return True

    def _wait_for(self, place: int) -> None:
        if self._pace == "fast":
            return
        due_ns = int(self._times_ns[place])
        if self._began_ns is None:
            self._began_ns = time.monotonic_ns() - due_ns
        left_ns = self._began_ns + due_ns - time.monotonic_ns()
        if left_ns > 0:
            self._ended.wait(left_ns / 1e9)

    def _position_ms(self) -> float:
        return 0.0 if self._now is None else float(self._media_ms[max(self._next - 1, 0)])


def _fits(image: Any, picture: np.ndarray[Any, Any]) -> bool:
    is_array = isinstance(image, np.ndarray)
    return is_array and (image.shape, image.dtype) == (picture.shape, picture.dtype)


def _rows_of(session: Session) -> pa.Table:
    schema = pa.schema([SCHEMA.field(name).with_nullable(True) for name in _COLUMNS])
    # Files may declare the same column with or without nulls.
    return pa.concat_tables(
        [
            schema.empty_table(),
            *(
                pa.Table.from_batches([batch]).cast(schema)
                for batch in session.batches(list(_COLUMNS))
            ),
        ]
    )


def _media_ms(rows: pa.Table, times_ns: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return each picture's time in its footage; if any is unknown, the times of capture."""
    media_s, is_there = column_values(rows.column("media_time_s"))
    return media_s * 1e3 if is_there.all() else times_ns / 1e6


def _has_picture(footage: Footage, rows: pa.Table) -> np.ndarray[Any, Any]:
    """Return for each row whether it is known to be in the footage."""
    numbers, is_there = column_values(rows.column(footage.column))
    if footage.column == "source_frame":
        return is_there
    frames, _ = column_values(rows.column("frame"))
    parts = footage.parts or ((0, footage),)
    part_of = np.searchsorted([first for first, _ in parts], frames, "right") - 1
    most = np.array([np.inf if part.frames is None else part.frames for _, part in parts])
    return is_there & (numbers < most[np.maximum(part_of, 0)])


def _nothing(session: Session) -> str:
    return "it has no frames" if not len(session) else "none of its frames is in its video"


def _rate(session: Session, times_ns: np.ndarray[Any, Any]) -> float:
    """Return how many pictures a second there are: as the source says, without those left out."""
    metadata = session.metadata
    source, options = metadata.get("source", {}), metadata.get("options", {})
    rate = source.get("fps")
    if isinstance(rate, int | float) and 0 < rate < 1000:
        every, asked = options.get("every"), options.get("fps")
        if isinstance(every, int) and every > 0:
            rate /= every
        if isinstance(asked, int | float) and asked > 0:
            rate = min(rate, asked)
        return float(rate)
    steps = np.diff(times_ns)
    steps = steps[steps > 0]
    return round(1e9 / float(np.median(steps)), 3) if len(steps) else 0.0

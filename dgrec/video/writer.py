"""Writing a video: H.264 that plays anywhere, one exact time for each frame."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from dgrec.errors import OutputError, VideoError
from dgrec.files import NewFile, Unfinished, check_new_file, output_error
from dgrec.video.picture import Image
from dgrec.video.pyav import import_av

#: Encoders of H.264 that a build of PyAV may have, with options for good pictures at speed.
_ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "20", "forced-idr": "1"},
    "libopenh264": {"rc_mode": "quality"},
}
#: The time base of videos that dgrec writes.
MICROSECOND = Fraction(1, 1_000_000)
#: The most that a player has to decode after a jump.
_KEY_FRAME_EVERY_US = 1_000_000
#: The longest step between two pictures in an MP4. FFmpeg's muxer replaces a step of 2**31 units
#: (35 min 47 s) or more by a single unit, and every later time is wrong.
_LONGEST_STEP_US = 1_800_000_000
#: How often a picture may be repeated in one file: over a year of gaps. Without a limit, damaged
#: stamps would fill the disk.
_MOST_REPEATS = 20_000


class Repeats:
    """Counts the pictures that one output repeats (`repeats`).

    Args:
        path: The output.
        longest: As for `repeats`.
    """

    def __init__(self, path: Path, longest: int = _LONGEST_STEP_US) -> None:
        self._path, self._longest = path, longest
        self._count = 0

    def between(self, last: int, following: int) -> range:
        """Return `repeats` between two pictures.

        Raises:
            OutputError: The file has too many repeats.
        """
        times = repeats(last, following, self._longest)
        self._count += len(times)
        if self._count > _MOST_REPEATS:
            raise OutputError(
                f"{self._path}: the frames are too far apart in time for one file; "
                "take a part of the session (--start, --end)"
            )
        return times


def repeats(last: int, following: int, longest: int = _LONGEST_STEP_US) -> range:
    """Return the times at which the picture at ``last`` is repeated before that at ``following``.

    Every format limits the step between two pictures. So a picture is written again after each
    ``longest`` (half an hour in an MP4) without a successor.
    """
    return range(last + longest, following, longest)


def add_stream(
    container: Any,
    encoder: str,
    size: tuple[int, int],
    options: Any,
    pix_fmt: str = "yuv420p",
) -> Any:
    """Add a stream of 8 bit pictures, stamped in microseconds, to an MP4 being written."""
    stream = container.add_stream(encoder, rate=30)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    context = stream.codec_context
    stream.time_base = context.time_base = MICROSECOND
    context.options = options
    context.max_b_frames = 0
    if not pix_fmt.startswith("yuv"):
        return stream
    # Without these, players guess the colour space by the size of the picture.
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
    context.color_range = 1  # 16 to 235
    return stream


class ContainerFile(Unfinished):
    """A file that FFmpeg writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._av = import_av()
        self._container: Any = None
        self._new: NewFile | None = None

    def _open(
        self, form: str, options: dict[str, str], *, overwrite: bool, owner: NewFile | None = None
    ) -> None:
        self._new = NewFile(self.path, replace=overwrite, owner=owner)
        self._container = self._av.open(self._new.name, "w", format=form, options=options)

    def _close(self) -> NewFile:
        """Write what the container still holds; the file has no name yet."""
        container, self._container = self._container, None
        container.close()
        assert self._new is not None
        return self._new

    def finish(self) -> None:
        with self._errors():
            self._close().finish()

    def discard(self) -> None:
        container, self._container = self._container, None
        with contextlib.suppress(OSError, self._av.FFmpegError):
            if container is not None:
                container.close()
        if self._new is not None:
            self._new.discard()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._av.FFmpegError, ValueError) as error:
            self.discard()
            raise output_error(self.path, error) from None


class VideoWriter(ContainerFile):
    """Writes an MP4 (H.264, yuv420p) that browsers play, one exact time per frame.

    In gaps of more than half an hour, the last picture is repeated (`repeats`).

    Args:
        path: The file to write; it ends in ``.mp4``.
        width: In pixels, even.
        height: In pixels, even.
        overwrite: Whether an existing file is replaced.
        owner: The session that the video belongs to, if it is only kept together with that.

    Raises:
        OutputError: The file exists, or cannot be written.
        VideoError: The installed PyAV cannot encode H.264.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        overwrite: bool = False,
        owner: NewFile | None = None,
    ) -> None:
        check_output(path, overwrite=overwrite)
        super().__init__(path)
        self.frames = 0
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._key_pts = -_KEY_FRAME_EVERY_US
        self._last_pts = -1
        self._last_frame: Any = None
        self._repeats = Repeats(path)
        self._duration_us: dict[int, int] = {}  # of the pictures inside the encoder
        encoder = _encoder()
        options = {"movflags": "+faststart", "video_track_timescale": "1000000"}
        with self._errors():
            self._open("mp4", options, overwrite=overwrite, owner=owner)
            size = (width, height)
            self._stream = add_stream(self._container, encoder, size, _ENCODERS[encoder])

    def write(self, image: Image, pts_us: int, duration_us: int = 40_000) -> int:
        """Append ``image``, to be shown ``pts_us`` microseconds after the start.

        ``duration_us`` only counts for the last picture; the others last until the next one.

        Returns:
            Its number in the video: how many pictures come before it, repeated ones included.

        Raises:
            OutputError: The file cannot be written (the disk is full, say).
        """
        if pts_us <= self._last_pts:
            raise ValueError(f"pts {pts_us} does not come after {self._last_pts}")
        av = self._av
        frame = self._reformatter.reformat(
            # No copy is needed: the picture is converted before this returns.
            av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="bgr24"),
            format="yuv420p",
            dst_colorspace="ITU709",
            dst_color_range="MPEG",
        )
        if self._last_frame is not None:
            self._repeat_until(pts_us)
        is_key = pts_us - self._key_pts >= _KEY_FRAME_EVERY_US
        if is_key:
            self._key_pts = pts_us
        self._append(frame, pts_us, duration_us, is_key=is_key)
        self._last_frame = frame
        return self.frames - 1

    def _repeat_until(self, pts_us: int) -> None:
        times = [*self._repeats.between(self._last_pts, pts_us), pts_us]
        for time, following in itertools.pairwise(times):
            self._append(self._last_frame, time, following - time, is_key=False)

    def _append(self, frame: Any, pts_us: int, duration_us: int, *, is_key: bool) -> None:
        kinds = self._av.video.frame.PictureType
        frame.pts, frame.time_base = pts_us, MICROSECOND
        frame.pict_type = kinds.I if is_key else kinds.NONE
        # The muxer cannot express a longer one.
        self._duration_us[pts_us] = min(duration_us, _LONGEST_STEP_US)
        self._encode(frame)
        self._last_pts = pts_us
        self.frames += 1

    def _encode(self, frame: Any) -> None:
        with self._errors():
            for packet in self._stream.encode(frame):
                # libx264 reports the nominal frame time, but players use this one.
                packet.duration = self._duration_us.pop(packet.pts, packet.duration)
                self._container.mux(packet)

    def finish(self) -> None:
        self._last_frame = None
        self._encode(None)
        super().finish()


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if a video cannot be written to ``path``, before any work is done."""
    if path.suffix.lower() != ".mp4":
        raise OutputError(f"{path}: videos are written as MP4; choose a name that ends in .mp4")
    check_new_file(path, overwrite=overwrite)


def _encoder() -> str:
    av = import_av()
    for name in _ENCODERS:
        if name in av.codecs_available:
            return name
    raise VideoError(
        "the installed PyAV cannot encode H.264; "
        "its wheels can: `pip install --force-reinstall --only-binary :all: av`"
    )

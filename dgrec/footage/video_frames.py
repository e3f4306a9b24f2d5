"""The frames of a video file, by their number."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgrec.errors import VideoError
from dgrec.files import placed
from dgrec.footage.frame_index import FrameIndex, UntrustedIndexError
from dgrec.footage.kept_frames import KeptFrames
from dgrec.video import (
    Image,
    PixelConverter,
    VideoReader,
    import_av,
    is_random_access_point,
    nal_length_size,
    open_container,
    use_one_thread,
)

#: Up to about this many frames on, decoding is faster than opening the index and seeking.
_NEAR = 100
#: Frames before a wanted one that are kept, so that steps back need no decoding.
_KEPT_FRAMES = 24
_KEPT_BYTES = 128 << 20
#: A number that no frame has.
_PAST_THE_END = 2**62


class VideoFrames:
    """The frames of a video file, by their number in decoding order, from 0.

    Frame ``i`` is the ``i``-th that the recorder's `VideoReader` yields, bit for bit. Reading
    forwards, frames are counted. A jump uses the file's index: decoding starts at the key frame
    before and ends at the exact presentation time. Without an index that can be trusted, frames
    are counted from the start.

    Args:
        changed: Whether the file may have been damaged since its frames were numbered. Decoders
            yield nothing for some damaged frames, which would shift the count of later ones. So
            the index is used from the beginning, and frames that need lost data are None.
        kept: Whether it has its source's packets as they were: frames are numbered as
            `KeptFrames` says.

    Raises:
        VideoError: The file is not a video.
    """

    def __init__(self, path: Path, *, changed: bool = False, kept: bool = False) -> None:
        self.path = path
        self._place = placed(path)
        #: Number of frames, once the index was read or the end was reached.
        self.length: int | None = None
        #: Presentation time of the frame last read in seconds, from 0 at the stream's start.
        self.time_s: float | None = None
        self._changed = changed
        self._counting: _CountingReader | None = None
        self._seeking: _SeekingReader | None = None
        self._may_seek = True
        self._kept: KeptFrames | None = None
        if kept:
            try:
                self._kept = KeptFrames(path)
            except UntrustedIndexError:
                raise VideoError(f"{path}: cannot be read as a video of kept packets") from None
            self.length = self._kept.length
            return
        if changed and self._open_index() is not None:
            return
        self._counting = _CountingReader(path)

    def read(self, index: int) -> Image | None:
        """Return frame ``index``; None if the video does not have it, or it cannot be decoded."""
        if index < 0 or (self.length is not None and index >= self.length):
            return None
        if self._kept is not None:
            image = self._kept.read(index)
            self.time_s = self._kept.time_s
            return image
        counting = self._counting
        if self._seeking is None and (
            counting is None or not 0 <= index - counting.position < _NEAR
        ):
            self._open_index()
        if self._seeking is not None:
            if index >= self._seeking.index.count:
                return None
            try:
                image = self._seeking.read(index)
                self.time_s = self._seeking.time_s
                return image
            except UntrustedIndexError:
                self.count_frames()
        if self._counting is None:
            self._counting = _CountingReader(self._place)
        image = self._counting.read(index)
        self.time_s = self._counting.time_s
        if image is None:
            self.length = self._counting.position
        return image

    @property
    def has_index(self) -> bool:
        """Return whether frames are found by the file's index rather than by counting."""
        return self._seeking is not None or self._kept is not None

    @property
    def tick_s(self) -> float:
        """The file's unit of time in seconds; 0 without an index."""
        if self._kept is not None:
            return self._kept.tick_s
        return 0.0 if self._seeking is None else self._seeking.tick_s

    def find(self, time_s: float, tolerance_s: float = 0.0) -> int | None:
        """Return the number of the frame nearest to a time, within ``tolerance_s``.

        None if there is no such frame, or no index.
        """
        if self._kept is not None:
            return self._kept.find(time_s, tolerance_s)
        if self._seeking is None and self._open_index() is None:
            return None
        assert self._seeking is not None
        try:
            return self._seeking.find(time_s, tolerance_s)
        except UntrustedIndexError:
            self.count_frames()
            return None

    def has(self, index: int) -> bool:
        """Return whether a frame of a video of kept packets can be decoded."""
        return self._kept is not None and self._kept.frame(index) is not None

    def time_of(self, index: int) -> float | None:
        """Return the time of a frame without decoding it; None without an index."""
        if self._kept is not None:
            return self._kept.time_of(index)
        return None if self._seeking is None else self._seeking.time_of(index)

    def count_frames(self) -> None:
        """Count frames from now on: the index is wrong. (Packets that were kept are counted.)"""
        self._may_seek = False
        if self._seeking is not None:
            self._seeking.close()
            self._seeking = None
            self.length = None

    def _open_index(self) -> _SeekingReader | None:
        if self._seeking is None and self._may_seek:
            self._may_seek = False
            with contextlib.suppress(UntrustedIndexError):
                self._seeking = _SeekingReader(self._place, whole=not self._changed)
                self.length = self._seeking.index.count
        return self._seeking

    def close(self) -> None:
        if self._counting is not None:
            self._counting.close()
        if self._seeking is not None:
            self._seeking.close()
        if self._kept is not None:
            self._kept.close()


def count_pictures(path: Path) -> int | None:
    """Return how many frames of a file can be decoded, by decoding all; None if there are none.

    Containers may count more, or none.

    Raises:
        VideoError: The file is not a video.
    """
    with contextlib.closing(VideoFrames(path)) as video:
        video.count_frames()
        video.read(_PAST_THE_END)
        return video.length or None


class _CountingReader:
    """Reads frames one after the other, as the recorder did."""

    def __init__(self, path: Path) -> None:
        self._place = placed(path)
        #: Number of the next frame that is decoded.
        self.position = 0
        self.time_s: float | None = None
        self._reader = VideoReader(path)

    def read(self, index: int) -> Image | None:
        """Return frame ``index``, decoding those before it; None if the video ends earlier.

        In the latter case `position` is the number of frames.
        """
        if index < self.position:
            self._reader.release()
            self._reader = VideoReader(self._place)
            self.position = 0
        while self.position < index:
            if not self._reader.skip():
                return None
            self.position += 1
        picture = self._reader.read()
        if picture is None:
            return None
        self.time_s = None if picture.time is None else float(picture.time)
        self.position += 1
        return picture.image

    def close(self) -> None:
        self._reader.release()


class _SeekingReader:
    """Reads frames by the file's index.

    Args:
        whole: Whether the file is unchanged. An error of decoding then means that the index cannot
            be trusted; in a changed file, it only loses frames.

    Raises:
        UntrustedIndexError: There is no index that can be trusted.
    """

    def __init__(self, path: Path, *, whole: bool) -> None:
        self._whole = whole
        self._av = import_av()
        self._containers: list[Any] = []
        self.time_s: float | None = None
        try:
            # One to read the index from, and one to decode from.
            for _ in range(2):
                self._containers.append(open_container(path, str(path)))
            self.index = FrameIndex(self._containers[0])
        except (VideoError, OSError, ValueError, self._av.FFmpegError):
            self.close()
            raise UntrustedIndexError("cannot be opened") from None
        except UntrustedIndexError:
            self.close()
            raise
        self._stream = self._containers[1].streams.video[0]
        self._context = self._stream.codec_context
        self.tick_s = float(self._stream.time_base)
        use_one_thread(self._context)  # as the recorder decodes
        if not whole:
            # By default decoders make pixels up rather than fail.
            self._context.options = {"err_detect": "explode"}
        self._codec = self._context.name
        self._nal_length_size = nal_length_size(self._codec, bytes(self._context.extradata or b""))
        self._converter = PixelConverter()
        self._decoder: Iterator[Any] | None = None
        self._asked = -1
        self._front = -1  # number of the frame that was decoded last
        self._skip_before: int | None = None
        self._kept: OrderedDict[int, Any] = OrderedDict()  # decoded frames by their time
        self._kept_limit = _KEPT_FRAMES

    def read(self, frame: int) -> Image | None:
        """Return a frame below ``index.count``, or None if it needs data that is damaged.

        Raises:
            UntrustedIndexError: The file does not hold what its index says.
        """
        try:
            pts = self.index.pts(frame)
            decoded = self._kept.get(pts) or self._decode(frame, pts)
            self._asked = frame
        except (UntrustedIndexError, OSError, ValueError, self._av.FFmpegError):
            self._decoder = None
            if self._whole:
                raise UntrustedIndexError("cannot be read") from None
            return None
        if decoded is None:
            return None
        self.time_s = float((pts - (self._stream.start_time or 0)) * self._stream.time_base)
        return self._converter.image(decoded)

    def time_of(self, frame: int) -> float | None:
        """Return the time of a frame; None if the index cannot be read."""
        try:
            ticks = self.index.pts(frame) - (self._stream.start_time or 0)
        except (UntrustedIndexError, OSError, ValueError, self._av.FFmpegError):
            return None
        return float(ticks * self._stream.time_base)

    def find(self, time_s: float, tolerance_s: float) -> int | None:
        """Return the number of the frame nearest to a time (`time_s`), if near enough."""
        start = self._stream.start_time or 0
        try:
            return self.index.frame_at(
                round(time_s / self.tick_s) + start, int(tolerance_s / self.tick_s)
            )
        except (OSError, ValueError, self._av.FFmpegError):
            raise UntrustedIndexError("cannot be read") from None

    def _decode(self, frame: int, pts: int) -> Any:
        group = self.index.group_of(frame)
        # Frames shown before their key frame need the group before as well.
        start = group if pts >= self.index.group(group).key_pts else max(group - 1, 0)
        ahead = frame - self._front
        if self._decoder is None or not 0 < ahead <= frame - self.index.first(start) + 8:
            self._decoder = self._decode_from(start)
            self._kept.clear()
        # On the way there, pictures that no other refers to are skipped, except the last ones if
        # the user steps back: they will be needed next.
        self._skip_before = None
        if self._codec == "h264" and ahead != 1:
            kept = self._kept_limit if frame == self._asked - 1 else 1
            self._skip_before = self.index.pts(max(self.index.first(group), frame - kept + 1))
        for decoded in self._decoder:
            if decoded.pts is None:
                raise UntrustedIndexError("a frame without a time")
            self._keep(decoded)
            if decoded.pts == pts:
                self._front = frame
                return decoded
            if decoded.pts > pts:
                break
        self._decoder = None
        if self._whole:
            raise UntrustedIndexError("a frame of the index was not decoded")
        return None

    def _decode_from(self, group: int) -> Iterator[Any]:
        """Yield decoded frames from a group on, or an earlier one where decoding can start."""
        while True:
            packets = self.index.packets(self._containers[1], group)
            key = next(packets, None)
            if key is None:
                return
            if group == 0 or self._may_start(key):
                break
            group -= 1
        # Pictures after an open start that are shown before it refer to missing ones.
        is_broken, broken_before = False, key.pts
        lost: set[int] = set()
        packet = key
        while packet is not None:
            if is_broken and packet.is_keyframe and self._may_start(packet):
                is_broken, broken_before = False, packet.pts
            is_leading = packet.pts is not None and packet.pts < broken_before
            skips = self._skip_before is not None and (packet.pts or 0) < self._skip_before
            self._context.skip_frame = "NONREF" if skips and packet.pts is not None else "DEFAULT"
            frames = []
            try:
                frames = packet.decode()
                is_broken = is_broken or packet.is_corrupt
            except self._av.FFmpegError:
                is_broken = is_broken or not is_leading
            if packet.pts is not None and (is_broken or is_leading):
                lost.add(packet.pts)
            for decoded in frames:
                if decoded.pts in lost:
                    continue
                if decoded.is_corrupt or (is_broken and self._whole):
                    raise UntrustedIndexError("cannot be decoded")
                yield decoded
            packet = next(packets, None)

    def _may_start(self, packet: Any) -> bool:
        return is_random_access_point(
            self._codec, bytes(packet), self._nal_length_size, closed=not self._whole
        )

    def _keep(self, decoded: Any) -> None:
        if not self._kept:
            size = sum(plane.buffer_size for plane in decoded.planes)
            self._kept_limit = max(1, min(_KEPT_FRAMES, _KEPT_BYTES // max(1, size)))
        self._kept[decoded.pts] = decoded
        if len(self._kept) > self._kept_limit:
            self._kept.popitem(last=False)

    def close(self) -> None:
        self._decoder = None
        for container in self._containers:
            container.close()

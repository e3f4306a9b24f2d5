"""The frames of a recorded video that keeps the packets of its source."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgrec.errors import VideoError
from dgrec.footage.frame_index import FrameIndex, UntrustedIndexError
from dgrec.video import (
    Image,
    PixelConverter,
    import_av,
    is_random_access_point,
    nal_length_size,
    open_container,
    use_one_thread,
)

#: Decoded frames that are kept, so that steps back need no decoding.
_KEPT_FRAMES = 24
_KEPT_BYTES = 128 << 20


class KeptFrames:
    """The frames of a video of kept packets, numbered in the order in which they are shown.

    Frame ``i`` is the ``i``-th packet by its presentation time, whether a picture comes out of it
    or not. It is decoded as the recorder's source was: from a point at which decoding can begin, in
    one thread, going on after errors.

    Raises:
        VideoError: The file is not a video.
        UntrustedIndexError: It is not one that dgrec has written.
    """

    def __init__(self, path: Path) -> None:
        self._av = import_av()
        self.path = path
        #: Time of the frame last read in seconds after frame 0.
        self.time_s: float | None = None
        self._containers: list[Any] = []
        try:
            # One for the index, one for decoding, and one for looking at key frames.
            for _ in range(3):
                self._containers.append(open_container(path, str(path)))
            self._index = FrameIndex(self._containers[0], any_start=True)
            self._zero = self._index.pts(0)
        except (UntrustedIndexError, OSError, ValueError, self._av.FFmpegError):
            self.close()
            raise UntrustedIndexError("cannot be read") from None
        except VideoError:
            self.close()
            raise
        self._stream = self._containers[1].streams.video[0]
        self.length = self._index.count
        self.tick_s = float(self._stream.time_base)
        context = self._stream.codec_context
        use_one_thread(context)
        self._codec = context.name
        if self._codec == "mjpeg":
            # FFmpeg takes a picture that is much lower than announced for half of one.
            context.width = context.height = 0
        self._nal_length = nal_length_size(self._codec, bytes(context.extradata or b""))
        self._converter = PixelConverter()
        self._decoder: Iterator[Any] | None = None
        self._began_at = 0  # the group that decoding began with
        self._wanted = 0  # the group of the frame that is looked for
        self._key_pts = 0  # presentation time of its key frame
        self._front = 0  # presentation time of what was decoded last
        self._starts: dict[int, bool] = {}  # whether decoding can begin at a group
        self._broken: set[int] = set()  # groups from which on something is damaged
        #: Whether something could not be decoded since `_began_at`.
        self._is_broken = False
        self._fed_pts = 0  # presentation time of the latest picture that the decoder has
        self._recent: OrderedDict[int, Any] = OrderedDict()

    def read(self, number: int) -> Image | None:
        """Return a frame; None if it does not exist, or no picture comes out of its packet."""
        frame = self.frame(number)
        return None if frame is None else self._converter.image(frame)

    def frame(self, number: int) -> Any:
        """Return a frame as it was decoded; None where `read` returns None."""
        if not 0 <= number < self.length:
            return None
        try:
            pts = self._index.pts(number)
            self.time_s = self._seconds(pts)
            return self._recent.get(pts) or self._find(number, pts)
        except (UntrustedIndexError, OSError, ValueError, self._av.FFmpegError):
            self._decoder = None
            return None

    def find(self, time_s: float, tolerance_s: float) -> int | None:
        """Return the number of the frame nearest to a time, within ``tolerance_s``."""
        try:
            return self._index.frame_at(
                round(time_s / self.tick_s) + self._zero, int(tolerance_s / self.tick_s)
            )
        except (UntrustedIndexError, OSError, ValueError, self._av.FFmpegError):
            return None

    def time_of(self, number: int) -> float | None:
        """Return the time of a frame in seconds after frame 0."""
        try:
            return self._seconds(self._index.pts(number)) if number < self.length else None
        except (UntrustedIndexError, OSError, ValueError, self._av.FFmpegError):
            return None

    def close(self) -> None:
        self._decoder = None
        for container in self._containers:
            container.close()

    def _seconds(self, pts: int) -> float:
        return float((pts - self._zero) * self._stream.time_base)

    def _find(self, number: int, pts: int) -> Any:
        self._wanted = self._index.group_of(number)
        start = self._start_of(number, pts)
        if start in self._broken:
            start = 0
        # Decoding never goes on from one such point to the next: what was cut together there may
        # confuse a decoder.
        goes_on = self._decoder is not None and start == self._began_at and pts > self._front
        frame = self._decode_to(pts) if goes_on else None
        if frame is None and (self._decoder is None or not goes_on):
            self._begin(start)
            frame = self._decode_to(pts)
        if self._is_broken and start > 0:
            # Decoders make lost parts up from whatever they decoded before.
            self._broken.add(start)
            self._begin(0)
            frame = self._decode_to(pts)
        return frame

    def _start_of(self, number: int, pts: int) -> int:
        """Return the last group from which on a frame is decoded exactly."""
        index = self._index
        group = index.group_of(number)
        while group > 0 and not (pts >= index.group(group).key_pts and self._may_start(group)):
            group -= 1
        return group

    def _may_start(self, group: int) -> bool:
        if group not in self._starts:
            key = next(self._index.packets(self._containers[2], group), None)
            self._starts[group] = key is not None and is_random_access_point(
                self._codec, bytes(key), self._nal_length
            )
        return self._starts[group]

    def _begin(self, group: int) -> None:
        self._recent.clear()
        self._is_broken = False
        self._began_at = group
        # What comes out before the key frame lacks its reference.
        self._front = self._key_pts = self._index.group(group).key_pts
        self._front -= 1
        self._fed_pts = self._key_pts
        self._decoder = self._frames(group)

    def _frames(self, group: int) -> Iterator[Any]:
        index = self._index
        at, following = index.first(group), group + 1
        for packet in index.packets(self._containers[1], group):
            if following < index.groups and at == index.first(following):
                if following > self._wanted and self._may_start(following):
                    # What is left in the decoder comes before, whatever the next pictures say.
                    yield from self._stream.codec_context.decode(None)
                    return
                following += 1
            at += 1
            self._fed_pts = max(self._fed_pts, packet.pts or 0)
            self._is_broken = self._is_broken or packet.is_corrupt
            try:
                yield from packet.decode()
            except self._av.FFmpegError:
                self._is_broken = True

    def _decode_to(self, pts: int) -> Any:
        """Return the picture of a time; None if that has passed, or decoding has come to its end.

        Pictures that were decoded before it, and are shown after it, come out as well: only then
        is it known whether they are damaged.
        """
        assert self._decoder is not None
        found, until = None, pts
        for frame in self._decoder:
            if frame.pts is None or frame.pts < self._key_pts:
                continue
            self._is_broken = self._is_broken or frame.is_corrupt
            self._keep(frame)
            self._front = max(self._front, frame.pts)
            if frame.pts == pts:
                found, until = frame, self._fed_pts
            if frame.pts >= until or (found is not None and self._is_broken):
                return found
        self._decoder = None
        return found

    def _keep(self, frame: Any) -> None:
        size = sum(plane.buffer_size for plane in frame.planes)
        self._recent[frame.pts] = frame
        most = max(1, min(_KEPT_FRAMES, _KEPT_BYTES // max(1, size)))
        if len(self._recent) > most:
            self._recent.popitem(last=False)

"""The pictures of a video file or a network stream, one after the other.

Recorder and replay both count frames with it: frame ``n`` of a source is its ``n``-th picture.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from dgrec.errors import VideoError
from dgrec.units import and_more, counted
from dgrec.video.container import (
    JPEG_STREAM,
    announced_count,
    announced_end,
    discard_others,
    frame_rate,
    has_end,
    has_unknown_length,
    is_playlist,
    lacks_its_index,
    open_container,
    use_one_thread,
    video_stream,
)
from dgrec.video.http_body import HttpBody, load_mp4, quoted
from dgrec.video.losses import Losses
from dgrec.video.packet_keeper import PacketKeeper
from dgrec.video.packets import PacketFormat
from dgrec.video.picture import AS_STORED, Picture, PixelConverter, pixel_aspect, turn_of
from dgrec.video.playlist import PlaylistFiles
from dgrec.video.pyav import import_av
from dgrec.video.repeats import Repeats
from dgrec.video.truncation import is_cut_off

#: FFmpeg's flag for containers without stamps: those that it returns are made up.
_NO_STAMPS = 0x80
#: Formats that mark a packet for any damage, not only if it is incomplete.
_MARK_DAMAGE = frozenset(("mpegts", "hls", "dash", "mpeg"))
#: Reading continues after up to this many pieces of invalid data.
_MOST_FAILED_READS = 100
#: How long an answer of unknown length is examined: footage ends by then, or arrives faster than
#: it plays.
_PACE_FOR_S = 1.5
_PACE_MEDIA_S = 15.0
_PACE_BYTES = 32 << 20
#: How many equal packets at the beginning of two answers show that they are the same.
_FEWEST_SAME = 3
_MOST_SAME = 16


class VideoReader:
    """Reads the first video stream of a file or an address, picture by picture.

    Pictures that cannot be decoded are skipped and counted. One thread reads; any thread may call
    `release`.

    Args:
        source: A file (Path), whatever its name looks like, or an address (str).
        name: Its name in messages; an address may hold a password.
        open_timeout_s: How long opening an address may take.
        read_timeout_s: How long an address may stay silent before a read gives up.

    Raises:
        VideoError: It cannot be opened, or has no video.

    Attributes:
        has_end: Whether it is footage with an end, rather than something live.
        announced: Number of pictures that the container says it holds; None if it does not say.
        fps: Nominal pictures per second, or None where the source does not say.
        size: Width and height of the first picture; for a stream, as it announces them.
        aspect: Width / height of a pixel as it is shown. `Picture.image` is not stretched.
        problem: Why `read` returned None: "" for an ordinary end.
    """

    def __init__(
        self,
        source: Path | str,
        *,
        name: str | None = None,
        open_timeout_s: float = 10.0,
        read_timeout_s: float = 10.0,
    ) -> None:
        self._av = import_av()
        self.name = str(source) if name is None else name
        self._is_file = isinstance(source, Path)
        #: When opening began (`time.monotonic`), about when a camera took its first pictures.
        self.opening_s = time.monotonic()
        self._body: HttpBody | IO[bytes] | None = None
        self._files: PlaylistFiles | None = None
        # A pipe cannot be read a second time.
        self._path = source if isinstance(source, Path) and source.is_file() else None
        self._container = self._open(source, open_timeout_s, max(read_timeout_s, 0.001))
        self.has_end = self._is_file or has_end(str(source), self._container)
        self._stream = self._open_stream()
        context = self._stream.codec_context
        self._has_stamps = not self._container.format.flags & _NO_STAMPS
        self.fps = frame_rate(self._stream)
        self.announced = announced_count(self._container, self._stream)
        self._container_duration_s = (self._container.duration or 0) / 1_000_000
        self.size = (int(context.width or 0), int(context.height or 0))
        self.aspect = pixel_aspect(self._stream.sample_aspect_ratio, AS_STORED)
        self.problem = ""
        self._converter = PixelConverter()
        self._turn = AS_STORED  # it may change with a key frame
        self._beginning: list[bytes] = []  # what the first packets of an answer held
        self._packets: Iterator[Any] | None = self._container.demux(self._stream)
        if isinstance(self._body, HttpBody) and not self.has_end:
            self._try_pace()
        self._decoded: deque[Any] = deque()
        self._keeper = PacketKeeper()
        # A playlist that goes on gives its last segments again when it is opened again.
        goes_on = is_playlist(self._container) and not self.has_end
        self._repeats = Repeats() if goes_on else None
        self._losses = Losses(context.name)
        self._packets_read = 0
        self._last_is_partial = False
        self._pictures = 0
        self._start: int | None = self._stream.start_time
        self._seen_stamp = False
        self._last_end = 0  # the latest of a packet, in the stream's time base
        self._time_base = Fraction(self._stream.time_base)
        self._in_use = threading.Lock()
        self._is_released = False
        if self.has_end:
            first = self._look_ahead()
            if first is None:
                self.release()
                raise VideoError(f"{self.name}: holds no frame that can be decoded")
            turn = turn_of(first)
            self.aspect = pixel_aspect(self._stream.sample_aspect_ratio, turn)
            self.size = (first.height, first.width) if turn[0] else (first.width, first.height)

    def read(self) -> Picture | None:
        """Return the next picture; None at the end (see `problem`)."""
        with self._in_use:
            taken = None if self._is_released else self._take()
            while taken is not None and not self._is_released and self._is_repeated(taken[0]):
                self._keeper.leave(taken[0])
                taken = self._take()
            picture = None
            if taken is not None and not self._is_released:
                frame, time_, lost = taken
                image = self._converter.image(frame, self._turn)
                is_key, is_damaged = bool(frame.key_frame), bool(frame.is_corrupt)
                packets, packet = self._keeper.take(frame, self._pictures - 1)
                picture = Picture(image, time_, is_key, is_damaged, lost, packets, packet)
        if self._is_released:
            self.release()  # a call during this read left it to us
            return None
        return picture

    def keep_packets(self) -> PacketFormat | None:
        """Give each picture the packets that came with it; return their format.

        None if packets cannot be kept: those of other codecs, or of interlaced or turned pictures,
        and after the first picture was read. It waits for the first picture.
        """
        with self._in_use:
            if self._is_released or self._pictures or self._look_ahead() is None:
                return None
            return self._keeper.begin(self._stream, self._decoded[0][0])

    def skip(self) -> bool:
        """Skip the next picture without converting it; return whether there was one."""
        with self._in_use:
            return not self._is_released and self._take() is not None

    def missing(self) -> str:
        """Return what is missing from the announced pictures, in words; "" if nothing.

        Only meaningful after the end.
        """
        if isinstance(self._body, HttpBody) and self._body.is_broken:
            return "the connection broke off"
        if self._files is not None and (problems := self._files.problems):
            return and_more(problems)
        announced = self.announced
        if announced is not None and self._pictures < announced > self._packets_read:
            early = f"{self._pictures:,} of {announced:,} frames: the file ends early"
            return self.problem or early
        cut = ""
        if self._is_cut_off():
            cut = f"{counted(self._pictures, 'frame')}: the file ends early"
        return cut if announced is not None else self._missing_time() or cut or self.problem

    def repeats(self, earlier: VideoReader) -> bool:
        """Return whether it begins with the same packets as an earlier reader of the same address.

        Then it is footage, even if it arrives no faster than it plays: a camera that is opened
        again sends other pictures. A playlist that was live is footage once it has an end. One that
        goes on gives its last segments once more: pictures that the earlier reader gave are left
        out.
        """
        if is_playlist(self._container):
            if self._repeats is not None and earlier._repeats is not None:
                self._repeats.follow(earlier._repeats)
            return self.has_end and not earlier.has_end
        count = min(len(self._beginning), len(earlier._beginning))
        return count >= _FEWEST_SAME and self._beginning[:count] == earlier._beginning[:count]

    @property
    def lost_at_end(self) -> int:
        """Pictures that could not be decoded after the last that could."""
        return self._losses.at_end(self._packets_read, self._pictures)

    @property
    def waiting(self) -> int:
        """The number of pictures that are already decoded."""
        return len(self._decoded)

    @property
    def frame_count(self) -> int | None:
        """The approximate number of pictures; None if unknown."""
        duration = self._container_duration_s
        if self.announced is None and self.has_end and duration and self.fps:
            return max(1, round(duration * self.fps))
        return self.announced

    def release(self) -> None:
        """Close the source, after the current read if another thread is reading.

        Closing it during a read would free memory that FFmpeg is using.
        """
        self._is_released = True
        if self._in_use.acquire(blocking=False):
            try:
                self._packets = None
                self._decoded.clear()
                self._container.close()
                self._close_sources()
            finally:
                self._in_use.release()

    def _close_sources(self) -> None:
        for source in (self._body, self._files):
            if source is not None:
                source.close()

    def _open(self, source: Path | str, open_timeout_s: float, read_timeout_s: float) -> Any:
        if isinstance(source, Path):
            container = open_container(source, self.name)
        else:
            container = self._connect(source, max(open_timeout_s, 0.001), read_timeout_s)
        can_reopen = self._path is not None or not self._is_file
        if not (can_reopen and is_playlist(container) and (container.duration or 0) > 0):
            return container
        # A playlist with an end is opened again, to notice missing and incomplete files.
        files = PlaylistFiles(read_timeout_s)
        try:
            watched = open_container(source, self.name, files=files)
        except VideoError:
            files.close()
            return container
        if files.is_refused:
            watched.close()
            files.close()
            return container
        container.close()
        self._files = files
        # PyAV frees memory twice if such a container is collected without having been closed.
        weakref.finalize(self, watched.close)
        return watched

    def _open_stream(self) -> Any:
        """Return the video stream, with its decoder set up."""
        container = self._container
        stream = video_stream(container)
        if stream is None:
            container.close()
            self._close_sources()
            raise VideoError(f"{self.name}: has no video")
        if is_playlist(container):
            discard_others(container, stream)
        use_one_thread(stream.codec_context)
        # A picture then says which packet it came from.
        stream.codec_context.flags |= self._av.codec.context.Flags.copy_opaque
        if not self.has_end and container.format.name == JPEG_STREAM:
            # Otherwise half a JPEG becomes a picture with a grey half.
            stream.codec_context.options = {"err_detect": "explode"}
        return stream

    def _connect(self, address: str, open_timeout_s: float, read_timeout_s: float) -> Any:
        """Open an address, through FFmpeg if that can read it to its end."""
        address = quoted(address)
        try:
            container = open_container(address, self.name, (open_timeout_s, read_timeout_s))
        except VideoError:
            self._body = load_mp4(address, read_timeout_s)
            if self._body is None:
                raise
            return open_container(self._body, self.name)
        if lacks_its_index(container):
            self._body = load_mp4(address, read_timeout_s)
        elif has_unknown_length(address, container):
            try:
                self._body = HttpBody(address, read_timeout_s)
            except (OSError, ValueError, http.client.HTTPException):
                container.close()
                raise VideoError(f"{self.name}: cannot be read as a video: no answer") from None
        if self._body is None:
            return container
        container.close()
        return open_container(self._body, self.name)

    def _try_pace(self) -> None:
        """Find out whether an answer of unknown length is footage: it arrives faster than it plays.

        The packets that were read are kept. For a camera's stream this takes a second or two.
        """
        assert self._packets is not None
        packets: list[Any] = []
        first_s: float | None = None
        size, started = 0, time.monotonic()
        is_over = False
        while time.monotonic() - started < _PACE_FOR_S and size < _PACE_BYTES:
            packet = next(self._packets, None)
            if packet is None:
                is_over = True
                break
            packets.append(packet)
            size += packet.size
            is_over = packet.size == 0 and packet.dts is None
            if packet.dts is not None:
                at_s = float(packet.dts * self._stream.time_base)
                first_s = at_s if first_s is None else first_s
                if at_s - first_s > _PACE_MEDIA_S:
                    break
        else:
            self._beginning = [bytes(packet) for packet in packets[:_MOST_SAME]]
            self._packets = itertools.chain(packets, self._packets)
            return
        # A server buffers a few seconds of a live stream at most, and that does not end.
        self.has_end = is_over or size < _PACE_BYTES
        self._packets = itertools.chain(packets, self._packets)

    def _look_ahead(self) -> Any:
        """Return the next decoded frame without taking it; None at the end."""
        failed = 0
        while not self._decoded and self._packets is not None and not self._is_released:
            try:
                packet = next(self._packets)
            except StopIteration:
                self._packets = None
            except (OSError, ValueError, self._av.FFmpegError) as error:
                failed += 1
                is_data = isinstance(error, self._av.error.InvalidDataError)
                if not is_data or failed > _MOST_FAILED_READS:
                    self._packets = None
                    self.problem = self._reason(error)
                    self._drain()
                else:
                    self._packets = self._container.demux(self._stream)
            else:
                self._decode(packet)
        return self._decoded[0][0] if self._decoded else None

    def _decode(self, packet: Any) -> None:
        is_end = packet.size == 0 and packet.dts is None and packet.pts is None
        if packet.pts is not None:
            self._last_end = max(self._last_end, packet.pts + (packet.duration or 0))
        if packet.size == 0 and not is_end:
            return  # it repeats the picture before; decoders would take it for the end
        if not is_end:
            self._packets_read += 1
            self._last_is_partial = packet.is_corrupt
            self._losses.expect(packet)
            if self._repeats is not None:
                self._repeats.note(packet)
            self._keeper.note(packet, self._packets_read - 1)
        try:
            frames = packet.decode()
        except self._av.FFmpegError:
            if not is_end:
                self._losses.failed(packet)
                self._keeper.failed()
        else:
            self._keep(frames)

    def _is_repeated(self, frame: Any) -> bool:
        return self._repeats is not None and self._repeats.has(frame)

    def _drain(self) -> None:
        """Take what the decoder still has. At an ordinary end the demuxer flushes it."""
        with contextlib.suppress(self._av.FFmpegError):
            self._keep(self._stream.codec_context.decode(None))

    def _keep(self, frames: list[Any]) -> None:
        for frame in frames:
            self._decoded.append((frame, self._losses.before(frame)))

    def _take(self) -> tuple[Any, Fraction | None, int] | None:
        """Return the next frame, its time, and how many are missing before it; None at the end."""
        if self._look_ahead() is None:
            return None
        self._keeper.stop_waiting()
        frame, lost = self._decoded.popleft()
        if frame.key_frame or not self._pictures:
            self._turn = turn_of(frame)
        if not self.has_end and not self._pictures:
            lost = 0
        time_ = self._time(frame)
        self._pictures += 1
        return frame, time_, lost

    def _time(self, frame: Any) -> Fraction | None:
        pts = frame.pts if self._has_stamps else None
        if pts is None:
            is_stamped = self._has_stamps and (self._seen_stamp or self._start is not None)
            if is_stamped or not self.has_end or not self.fps:
                return None
            # A file without stamps: pictures follow each other at its rate.
            return self._pictures / Fraction(self.fps).limit_denominator(1_001_000)
        self._seen_stamp = True
        if self._start is None:
            self._start = pts
        return Fraction(pts - self._start) * self._time_base

    def _is_cut_off(self) -> bool:
        """Return whether the last packet was incomplete."""
        container = self._container.format.name
        if self._last_is_partial and container not in _MARK_DAMAGE:
            return True
        return self._path is not None and is_cut_off(self._path, container)

    def _missing_time(self) -> str:
        """Return how much earlier it ends than its container says, in words; "" if not."""
        said = announced_end(self._container, self._stream)
        if said is None or self.announced or not self.has_end or self._last_end <= 0:
            return ""
        period = 1 / self.fps if self.fps else 0.04
        ends = self._last_end * self._time_base
        if float(said - ends) <= 2.5 * period:
            return ""
        return f"{float(ends):.2f} of {float(said):.2f} s: the file ends early"

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, self._av.error.ExitError):
            return "no data came in time"
        return str(getattr(error, "strerror", None) or type(error).__name__).lower()

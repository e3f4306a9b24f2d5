"""The pictures of a video file or a network stream, one after the other.

The recorder and the replay tool count frames by this one reader: frame ``n`` of a source is the
``n``-th picture that it yields.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from dgrec.errors import VideoError
from dgrec.units import and_more
from dgrec.video.http_body import HttpBody, load_mp4, quoted
from dgrec.video.picture import AS_STORED, Image, PixelConverter, pixel_aspect, turn_of
from dgrec.video.playlist import PlaylistFiles
from dgrec.video.pyav import import_av
from dgrec.video.truncation import is_cut_off

__all__ = ["Picture", "VideoReader", "open_container", "use_one_thread", "video_stream"]

#: FFmpeg's mark of containers that carry no stamps: what it makes up for them is not the source's.
_NO_STAMPS = 0x80
#: Streams that have no end, whatever they say.
_LIVE_SCHEMES = frozenset(("rtsp", "rtsps", "rtp", "udp", "srt", "rtmp", "rtmps", "tcp", "mms"))
#: JPEG pictures one after the other, as cameras send them over HTTP.
_JPEG_STREAM = "mpjpeg"
#: Codecs of which each packet shows one picture (unless it is interlaced): a packet whose picture
#: never comes out was lost, also where the decoder does not call it an error.
_ONE_PICTURE_A_PACKET = frozenset(("h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9"))
#: More packets than this no decoder keeps back.
_MOST_WAITING = 256
#: Formats that mark a packet for any damage in it, not only where it is not all there.
_MARK_DAMAGE = frozenset(("mpegts", "hls", "dash", "mpeg"))
#: Reading goes on after data that is no packet, but not for ever.
_MOST_FAILED_READS = 100
_MOST_FPS = 1000
#: So long an answer of unknown length is looked at: footage ends by then, or brings more media.
_PACE_FOR_S = 1.5
_PACE_MEDIA_S = 15.0
_PACE_BYTES = 32 << 20
#: So many packets at the beginning of two answers show that they are the same.
_FEWEST_SAME = 3
_MOST_SAME = 16

_OPTIONS = {
    # A file that is called frame%03d.jpg is that file, not a series.
    "pattern_type": "none",
}
#: FFmpeg ends the process where it wants to use a connection again that is not its own.
_PLAYLIST_OPTIONS = {"http_persistent": "0", "http_multiple": "0"}
_LIVE_OPTIONS = {
    # UDP loses packets, and many networks let none of it through.
    "rtsp": {"rtsp_transport": "tcp", "analyzeduration": "1000000"},
    "rtsps": {"rtsp_transport": "tcp", "analyzeduration": "1000000"},
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture.

    Attributes:
        image: BGR, upright, not stretched: as `PixelConverter` gives it.
        time: Seconds since the beginning of the stream, exactly as the source stamps it; None
            where this picture has no stamp. Stamps may repeat or go backwards, as in the source.
        is_key: Whether decoding could begin here.
        is_damaged: Whether the decoder says that part of it is made up.
        lost_before: Pictures between the last one and this one that could not be decoded.
            What a live stream sends before its first key frame does not count.
    """

    image: Image
    time: Fraction | None
    is_key: bool = False
    is_damaged: bool = False
    lost_before: int = 0


class VideoReader:
    """Reads the first video stream of a file or an address, picture by picture.

    A picture that cannot be decoded is passed over and counted. One thread reads; any thread may
    call `release`.

    Args:
        source: A file (Path), whatever its name looks like, or an address (str).
        name: What to call it in messages; an address may hold a password.
        open_timeout_s: How long opening an address may take.
        read_timeout_s: How long an address may stay silent before a read gives up.

    Raises:
        VideoError: It cannot be opened, or has no video.

    Attributes:
        has_end: Whether it is footage with an end, rather than something live.
        announced: Number of pictures that the container says it holds; None if it does not say.
        fps: Nominal pictures per second, or None where the source does not say.
        size: Width and height of the first picture; of a stream, as it announces them.
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
        #: When opening began (`time.monotonic`): a camera's first pictures are about so old.
        self.opening_s = time.monotonic()
        self._body: HttpBody | IO[bytes] | None = None
        self._files: PlaylistFiles | None = None
        # Of a pipe nothing can be read once more.
        self._path = source if isinstance(source, Path) and source.is_file() else None
        if isinstance(source, Path):
            self._container = open_container(source, self.name)
        else:
            self._container = self._connect(source, max(open_timeout_s, 0.001), read_timeout_s)
        is_there = self._path is not None or not self._is_file
        if is_there and _is_playlist(self._container) and (self._container.duration or 0) > 0:
            self._open_playlist(source, max(read_timeout_s, 0.001))
        stream = video_stream(self._container)
        if stream is None:
            self._container.close()
            self._close_sources()
            raise VideoError(f"{self.name}: has no video")
        self._stream = stream
        if _is_playlist(self._container):
            _discard_others(self._container, stream)
        context = self._stream.codec_context
        use_one_thread(context)
        self.has_end = self._is_file or _has_end(str(source), self._container)
        if not self.has_end and self._container.format.name == _JPEG_STREAM:
            # Half a JPEG otherwise comes out as a picture with a grey half.
            context.options = {"err_detect": "explode"}
        self._has_stamps = not self._container.format.flags & _NO_STAMPS
        self.fps = _frame_rate(self._stream)
        self.announced = _announced_count(self._container, self._stream)
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
        self._losses = _Losses(context.name)
        self._packets_read = 0
        self._last_is_partial = False
        self._pictures = 0
        self._start: int | None = self._stream.start_time
        self._seen_stamp = False
        self._last_end = 0  # of packets, in the stream's time base
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
            picture = None
            if taken is not None and not self._is_released:
                frame, time_, lost = taken
                image = self._converter.image(frame, self._turn)
                is_key, is_damaged = bool(frame.key_frame), bool(frame.is_corrupt)
                picture = Picture(image, time_, is_key, is_damaged, lost)
        if self._is_released:
            self.release()  # now that nobody reads from it
            return None
        return picture

    def skip(self) -> bool:
        """Pass over the next picture without making pixels of it; return whether there was one."""
        with self._in_use:
            return not self._is_released and self._take() is not None

    def missing(self) -> str:
        """Return what the container announced and `read` did not find, in words; "" for nothing.

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
            cut = f"{self._pictures:,} frames: the file ends early"
        return cut if announced is not None else self._missing_time() or cut or self.problem

    def repeats(self, earlier: VideoReader) -> bool:
        """Return whether it gives once more what an earlier reader of the same address gave.

        It is footage then, though it came no faster than it plays. A camera that is opened again
        sends other pictures; a live playlist has got an end.
        """
        if _is_playlist(self._container):
            return self.has_end and not earlier.has_end
        count = min(len(self._beginning), len(earlier._beginning))
        return count >= _FEWEST_SAME and self._beginning[:count] == earlier._beginning[:count]

    @property
    def lost_at_end(self) -> int:
        """Pictures that could not be decoded after the last that could."""
        return self._losses.at_end(self._packets_read, self._pictures)

    @property
    def frame_count(self) -> int | None:
        """About how many pictures there are; None where nobody knows."""
        duration = self._container_duration_s
        if self.announced is None and self.has_end and duration and self.fps:
            return max(1, round(duration * self.fps))
        return self.announced

    def release(self) -> None:
        """Close the source; if a read is going on, as soon as that comes back.

        Closing what another thread reads from takes the memory away under FFmpeg's hands.
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

    # --- opening ---

    def _close_sources(self) -> None:
        for source in (self._body, self._files):
            if source is not None:
                source.close()

    def _open_playlist(self, source: Path | str, timeout_s: float) -> None:
        """Open a playlist that has an end once more, to see which of its files are not whole."""
        files = PlaylistFiles(timeout_s)
        try:
            container = open_container(source, self.name, files=files)
        except VideoError:
            files.close()
            return
        if files.is_refused:
            container.close()
            files.close()
            return
        self._container.close()
        self._container, self._files = container, files
        # PyAV frees its memory twice where such a container goes without having been closed.
        weakref.finalize(self, container.close)

    def _connect(self, address: str, open_timeout_s: float, read_timeout_s: float) -> Any:
        """Open an address, through FFmpeg where that can read it to its end."""
        read_timeout_s = max(read_timeout_s, 0.001)
        address = quoted(address)
        try:
            container = open_container(address, self.name, (open_timeout_s, read_timeout_s))
        except VideoError:
            self._body = load_mp4(address, read_timeout_s)
            if self._body is None:
                raise
            return open_container(self._body, self.name)
        if _lacks_its_index(container):
            self._body = load_mp4(address, read_timeout_s)
        elif _has_unknown_length(address, container):
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
        """Find out whether an answer of unknown length is footage: it comes faster than it plays.

        What was read meanwhile is kept. A camera's stream is looked at for a second or two.
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
        # What a server had ready of a live stream is a few seconds at most, and does not end.
        self.has_end = is_over or size < _PACE_BYTES
        self._packets = itertools.chain(packets, self._packets)

    # --- decoding ---

    def _look_ahead(self) -> Any:
        """Return the next decoded frame without taking it; None at the end."""
        failed = 0
        while not self._decoded and self._packets is not None:
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
            return  # the picture before is shown again: decoders take no data for the end
        if not is_end:
            self._packets_read += 1
            self._last_is_partial = packet.is_corrupt
            self._losses.expect(packet)
        try:
            frames = packet.decode()
        except self._av.FFmpegError:
            if not is_end:
                self._losses.failed(packet)
        else:
            self._keep(frames)

    def _drain(self) -> None:
        """Take what the decoder still has: at an ordinary end, the demuxer sees to that."""
        with contextlib.suppress(self._av.FFmpegError):
            self._keep(self._stream.codec_context.decode(None))

    def _keep(self, frames: list[Any]) -> None:
        for frame in frames:
            self._decoded.append((frame, self._losses.before(frame)))

    def _take(self) -> tuple[Any, Fraction | None, int] | None:
        """Return the next frame, its time, and how many are missing before it; None at the end."""
        if self._look_ahead() is None:
            return None
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
        """Return whether the last packet was not all there."""
        container = self._container.format.name
        if self._last_is_partial and container not in _MARK_DAMAGE:
            return True
        return self._path is not None and is_cut_off(self._path, container)

    def _missing_time(self) -> str:
        """Return how far it is from where the container says that it ends; "" for not at all."""
        said = _announced_end(self._container, self._stream)
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


class _Losses:
    """Tells which packets never became a picture.

    A decoder may raise an error for a packet, or say nothing: of H.264 it leaves out what refers to
    a picture that is not there. Packets and pictures then have to be held against each other, by
    their stamps.
    """

    def __init__(self, codec: str) -> None:
        self._matches = codec in _ONE_PICTURE_A_PACKET
        self._waiting: dict[int, int] = {}  # stamps of packets whose picture has not come out
        self._failed: list[int | None] = []  # stamps of packets that are errors, where not waiting
        self._lost = 0
        self._has_stamps = False

    def expect(self, packet: Any) -> None:
        """Note a packet that goes into the decoder."""
        if packet.pts is None or not self._matches or packet.is_discard:
            return
        self._has_stamps = True
        self._waiting[packet.pts] = self._waiting.get(packet.pts, 0) + 1
        if len(self._waiting) > _MOST_WAITING:
            self._give_up()

    def failed(self, packet: Any) -> None:
        """Note that the decoder raised an error for a packet."""
        if not self._matches or packet.pts is None:
            self._failed.append(packet.pts)

    def before(self, frame: Any) -> int:
        """Return how many pictures are missing before one that has come out."""
        pts = frame.pts
        if self._matches and self._has_stamps:
            if frame.interlaced_frame or pts not in self._waiting:
                self._give_up()  # two packets may be the two fields of one picture
            else:
                self._waiting[pts] -= 1
                if not self._waiting[pts]:
                    del self._waiting[pts]
        gone = [stamp for stamp in self._waiting if pts is not None and stamp < pts]
        count = sum(self._waiting.pop(stamp) for stamp in gone)
        later: list[int | None] = [
            s for s in self._failed if s is not None and pts is not None and s > pts
        ]
        count += len(self._failed) - len(later)
        self._failed = later
        self._lost += count
        return count

    def at_end(self, packets: int, pictures: int) -> int:
        """Return how many pictures are missing after the last that came out."""
        left = sum(self._waiting.values()) + len(self._failed)
        if self._matches and not self._has_stamps:
            return max(left, packets - pictures - self._lost)
        return left

    def _give_up(self) -> None:
        self._matches = False
        self._waiting.clear()


def use_one_thread(context: Any) -> None:
    """Make a decoder show the same of a damaged picture every time.

    FFmpeg fills what is missing from the pictures before, unless threads share one picture: then
    it shows whatever was in memory. With a thread for each picture it loses some at the end.
    """
    context.thread_type = "SLICE"
    context.thread_count = 1


def open_container(
    source: Path | str | HttpBody | IO[bytes],
    name: str,
    timeout: tuple[float, float] | None = None,
    files: PlaylistFiles | None = None,
) -> Any:
    """Open a file (Path), an address (str) or an answer with PyAV.

    Args:
        files: Opens the files that a playlist names, and itself.

    Raises:
        VideoError: It cannot be opened.
    """
    av = import_av()
    options = dict(_OPTIONS)
    where: Any = source
    if isinstance(source, Path):
        # An absolute path is never taken for an address, whatever colons it has.
        where = os.path.abspath(source)
    elif isinstance(source, str):
        options |= _LIVE_OPTIONS.get(_scheme(source), {})
    if files is not None:
        options |= _PLAYLIST_OPTIONS
    try:
        return av.open(where, options=options, timeout=timeout, io_open=files)
    except (OSError, ValueError, av.FFmpegError) as error:
        # Not the error's own text: it holds the address, and with it a password.
        reason = str(getattr(error, "strerror", None) or type(error).__name__).lower()
        if isinstance(error, av.error.ExitError):
            reason = "no answer in time"
        raise VideoError(f"{name}: cannot be read as a video: {reason}") from None


def video_stream(container: Any) -> Any:
    """Return the first video stream; None if there is none.

    The picture on the cover of a film or a record counts as one to FFmpeg.
    """
    for stream in container.streams.video:
        if not stream.disposition & import_av().stream.Disposition.attached_pic:
            return stream
    return None


def _scheme(address: str) -> str:
    return address.partition(":")[0].lower()


def _has_end(address: str, container: Any) -> bool:
    """Return whether what an address gives is footage with an end.

    What a container says of its duration or size tells: a live stream has neither.
    """
    if _scheme(address) in _LIVE_SCHEMES or container.format.name == _JPEG_STREAM:
        return False
    if container.duration is not None and container.duration > 0:
        return True
    return not _is_playlist(container) and bool(container.size > 0)


def _lacks_its_index(container: Any) -> bool:
    """Return whether it is an MP4 that had to be read from its end, which the server does not give.

    FFmpeg opens it, and finds no picture.
    """
    stream = video_stream(container)
    is_mp4 = "mp4" in container.format.name.split(",")
    return is_mp4 and stream is not None and stream.codec_context.pix_fmt is None


def _has_unknown_length(address: str, container: Any) -> bool:
    """Return whether a web server gives one long answer and nobody says how long.

    An MP4 knows its pictures, and may have to be read from its end.
    """
    stream = video_stream(container)
    return (
        _scheme(address) in ("http", "https")
        and not (stream is not None and _announced_count(container, stream))
        and container.format.name != _JPEG_STREAM
        and not _is_playlist(container)
        and container.size <= 0
    )


def _is_playlist(container: Any) -> bool:
    return any(name in ("hls", "dash") for name in container.format.name.split(","))


def _discard_others(container: Any, stream: Any) -> None:
    """Keep FFmpeg from loading what is not shown: sound, and the video in other sizes."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = import_av().stream.Discard.all


def _frame_rate(stream: Any) -> float | None:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate < _MOST_FPS:
            return float(rate)
    return None


def _announced_count(container: Any, stream: Any) -> int | None:
    """Return how many pictures the container says it holds; None if it does not.

    Only MP4 and its kin do: others count periods, or guess. What an edit list cuts away is in the
    number, and not in the index.
    """
    if "mp4" not in container.format.name.split(",") or not stream.frames:
        return None
    return min(int(stream.frames), len(stream.index_entries) or int(stream.frames))


def _announced_end(container: Any, stream: Any) -> Fraction | None:
    """Return where the stream ends, as the container's header says; None if it does not.

    Matroska writes it when a file is closed. The duration of the whole may be that of a sound
    track: it counts only where there is nothing but the video.
    """
    if container.format.name == "avi" and stream.frames:
        return Fraction(stream.frames) * Fraction(stream.time_base)  # it counts periods
    if "matroska" not in container.format.name:
        return None
    text = str(stream.metadata.get("DURATION", ""))
    if text:
        try:
            hours, minutes, seconds = text.split(":")
            return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
        except ValueError:
            return None
    if len(container.streams) > 1 or not container.duration:
        return None
    return Fraction(container.duration, 1_000_000)

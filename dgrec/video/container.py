"""Opening a file or an address with PyAV, and what its container says of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from dgrec.errors import VideoError
from dgrec.video.http_body import HttpBody, is_web_address
from dgrec.video.playlist import PlaylistFiles
from dgrec.video.pyav import import_av

#: Streams that have no end, whatever their container says.
_LIVE_SCHEMES = frozenset(("rtsp", "rtsps", "rtp", "udp", "srt", "rtmp", "rtmps", "tcp", "mms"))
#: JPEG pictures one after the other, as cameras send them over HTTP.
JPEG_STREAM = "mpjpeg"
_MOST_FPS = 1000
#: A file called frame%03d.jpg is that file, not a series.
_OPTIONS = {"pattern_type": "none"}
#: FFmpeg crashes if it tries to reuse a connection that PyAV opened.
_PLAYLIST_OPTIONS = {"http_persistent": "0", "http_multiple": "0"}
#: UDP loses packets, and many networks block it.
_RTSP_OPTIONS = {"rtsp_transport": "tcp", "analyzeduration": "1000000"}


def use_one_thread(context: Any) -> None:
    """Make decoding of damaged pictures repeatable.

    FFmpeg fills missing parts from earlier pictures. With threads that share a picture it shows
    arbitrary memory instead; with a thread for each picture it loses some at the end.
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
        files: Opens a playlist and the files that it names.

    Raises:
        VideoError: It cannot be opened.
    """
    av = import_av()
    options = dict(_OPTIONS)
    where: Any = source
    if isinstance(source, Path):
        # An absolute path is never taken for an address, whatever colons it has. (`os.path.abspath`
        # would take ".." for the folder above a link, not above the folder that the link names.)
        where = str(source.absolute())
    elif isinstance(source, str) and _scheme(source) in ("rtsp", "rtsps"):
        options |= _RTSP_OPTIONS
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

    To FFmpeg, a cover picture is a video stream too.
    """
    for stream in container.streams.video:
        if not stream.disposition & import_av().stream.Disposition.attached_pic:
            return stream
    return None


def _scheme(address: str) -> str:
    return address.partition(":")[0].lower()


def has_end(address: str, container: Any) -> bool:
    """Return whether an address is footage with an end: a live stream has no duration or size."""
    if _scheme(address) in _LIVE_SCHEMES or container.format.name == JPEG_STREAM:
        return False
    if container.duration is not None and container.duration > 0:
        return True
    return not is_playlist(container) and bool(container.size > 0)


def lacks_its_index(container: Any) -> bool:
    """Return whether it is an MP4 with its index at the end, where the server does not let us read.

    FFmpeg opens such a file, and finds no picture.
    """
    stream = video_stream(container)
    is_mp4 = "mp4" in container.format.name.split(",")
    return is_mp4 and stream is not None and stream.codec_context.pix_fmt is None


def has_unknown_length(address: str, container: Any) -> bool:
    """Return whether a web server sends one long answer without its length.

    False for an MP4: it counts its pictures, and may have to be read from its end.
    """
    stream = video_stream(container)
    return (
        is_web_address(address)
        and not (stream is not None and announced_count(container, stream))
        and container.format.name != JPEG_STREAM
        and not is_playlist(container)
        and container.size <= 0
    )


def is_playlist(container: Any) -> bool:
    return any(name in ("hls", "dash") for name in container.format.name.split(","))


def discard_others(container: Any, stream: Any) -> None:
    """Keep FFmpeg from loading sound, and the same video in other sizes."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = import_av().stream.Discard.all


def frame_rate(stream: Any) -> float | None:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate < _MOST_FPS:
            return float(rate)
    return None


def announced_count(container: Any, stream: Any) -> int | None:
    """Return how many pictures the container says it holds; None if it does not.

    Only MP4 and its relatives do: others count periods, or guess. Pictures that an edit list cuts
    away are in the number, but not in the index.
    """
    if "mp4" not in container.format.name.split(",") or not stream.frames:
        return None
    return min(int(stream.frames), len(stream.index_entries) or int(stream.frames))


def announced_end(container: Any, stream: Any) -> Fraction | None:
    """Return the end of the stream by the container's header; None if it does not say.

    Matroska writes it when the file is closed. The container's own duration may be that of a sound
    track, so it counts only if the video is the only stream.
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

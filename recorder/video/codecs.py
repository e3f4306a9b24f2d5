"""Which encoders there are for a recorded video, and what each wants to be fast and in time."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any

from dgrec.errors import VideoError
from dgrec.recorder.video.scheduling import kept_scheduling

__all__ = ["CODECS", "Codec", "check_codec", "find_codec", "open_stream"]


@dataclass(frozen=True)
class Codec:
    """A way to encode: ``name`` as the user says it, ``encoder`` as FFmpeg calls it.

    Every encoder is set up to keep no frame back: what was given is on its way to the disk, or a
    killed recording would lose it. All are given 8 bits, 4:2:0.
    """

    name: str
    encoder: str
    #: The encoder's scale (constant rate factor) at quality 1 and at quality 100.
    worst: float
    best: float
    options: dict[str, str]
    is_whole: bool = True  # the scale has whole numbers only

    def options_for(self, quality: int) -> dict[str, str]:
        """Return the encoder's options for a quality from 1 (smallest) to 100 (best)."""
        factor = self.worst + (self.best - self.worst) * (quality - 1) / 99
        return {**self.options, "crf": f"{round(factor) if self.is_whole else round(factor, 1)}"}


CODECS = (
    Codec(
        *("h264", "libx264", 46, 12),
        {"preset": "superfast", "tune": "zerolatency", "forced-idr": "1"},
        is_whole=False,
    ),
    Codec(
        *("h265", "libx265", 48, 14),
        {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "forced-idr": "1",
            "x265-params": "log-level=error",
        },
        is_whole=False,
    ),
    Codec(
        *("av1", "libsvtav1", 62, 16),
        {"preset": "10", "svtav1-params": "pred-struct=1"},
    ),
    Codec(
        *("vp9", "libvpx-vp9", 60, 16),
        {"deadline": "realtime", "cpu-used": "8", "b": "0", "lag-in-frames": "0"},
    ),
)


def find_codec(name: str) -> Codec:
    """Return the codec ``name``, or the one whose encoder has that name.

    Raises:
        VideoError: There is none of that name, or the installed PyAV has no encoder for it.
    """
    from dgrec.video import import_av

    os.environ.setdefault("SVT_LOG", "1")  # or SVT-AV1 writes a page about itself to stderr
    there = [codec for codec in CODECS if codec.encoder in import_av().codecs_available]
    for codec in there:
        if name.lower() in (codec.name, codec.encoder):
            return codec
    offered = ", ".join(codec.name for codec in there) or "none of those that dgrec knows"
    raise VideoError(f"--codec {name}: the installed PyAV offers {offered}")


def check_codec(codec: Codec, quality: int, size: tuple[int, int]) -> None:
    """Encode one black picture, to know before the recording whether that works.

    Raises:
        VideoError: It does not: a size that the encoder refuses, say.
    """
    from dgrec.video import import_av

    av = import_av()
    width, height = size
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as container:
            stream = open_stream(container, codec, quality, size)
            frame = av.VideoFrame(width, height, "yuv420p")
            frame.pts = 0
            for picture in (frame, None):
                container.mux(stream.encode(picture))
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"--codec {codec.name} cannot encode {width}x{height}: {reason}") from None


def open_stream(container: Any, codec: Codec, quality: int, size: tuple[int, int]) -> Any:
    """Add a stream of pictures, stamped in microseconds, to a container that is being written.

    The encoder is open then, its threads are there, and no scheduling has changed.
    """
    from dgrec.video import add_stream

    stream = add_stream(container, codec.encoder, size, codec.options_for(quality))
    context = stream.codec_context
    context.gop_size = 1 << 16  # key frames come by the clock, not by the number of frames
    context.thread_count = _threads()
    with kept_scheduling():
        context.open()
    return stream


def _threads() -> int:
    # The rest of the processor is for the model.
    return max(1, min(4, (os.cpu_count() or 2) // 2))

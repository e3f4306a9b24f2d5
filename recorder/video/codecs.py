"""The encoders for recorded videos, set up to be fast and to keep no frame back."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from dgrec.errors import VideoError
from dgrec.recorder.video.scheduling import kept_scheduling


@dataclass(frozen=True)
class Codec:
    """A way to encode: ``name`` for users, ``encoder`` for FFmpeg.

    No encoder keeps a frame back, which a killed recording would lose.
    """

    name: str
    encoder: str
    #: The constant rate factor at quality 1 and at quality 100.
    worst: float
    best: float
    options: dict[str, str]
    is_whole: bool = True  # the factor must be a whole number
    #: Whether a call of it may never return. SVT-AV1 4.1 stops now and then: all of its threads
    #: wait for each other (`python -m bench.encoder_stall`).
    may_stop: bool = False
    #: The format of the pixels it is given: 8 bits, 4:2:0, or unchanged for a lossless one.
    pix_fmt: str = "yuv420p"

    @property
    def is_lossless(self) -> bool:
        return self.pix_fmt != "yuv420p"

    def options_for(self, quality: int, size: tuple[int, int]) -> dict[str, str]:
        """Return the encoder's options for a quality from 1 (smallest) to 100 (best)."""
        if self.is_lossless:
            return _lossless_options(size)
        factor = self.worst + (self.best - self.worst) * (quality - 1) / 99
        return {**self.options, "crf": f"{round(factor) if self.is_whole else round(factor, 1)}"}


#: FFV1 takes up to about 4.9 million pixels in a slice.
_SLICE_PIXELS = 4_000_000


def _lossless_options(size: tuple[int, int]) -> dict[str, str]:
    """Return FFV1's options, which let threads share a picture if the picture is large enough.

    Its version 3 has slices and checksums, and takes no picture that is one pixel wide or high.
    """
    width, height = size
    if min(size) < 2:
        return {"level": "1"}
    across = max(2, math.ceil(math.sqrt(width * height / _SLICE_PIXELS)))
    return {"level": "3", "slices": str(across * across), "slicecrc": "1"}


_X264 = {"preset": "superfast", "tune": "zerolatency", "forced-idr": "1"}
_X265 = {**_X264, "preset": "ultrafast", "x265-params": "log-level=error"}
_AV1 = {"preset": "10", "svtav1-params": "pred-struct=1"}
_VP9 = {"deadline": "realtime", "cpu-used": "8", "b": "0", "lag-in-frames": "0"}
CODECS = (
    Codec("h264", "libx264", worst=46, best=12, options=_X264, is_whole=False),
    Codec("h265", "libx265", worst=48, best=14, options=_X265, is_whole=False),
    Codec("av1", "libsvtav1", worst=62, best=16, options=_AV1, may_stop=True),
    Codec("vp9", "libvpx-vp9", worst=60, best=16, options=_VP9),
)
#: For ``--video lossless``: each picture is a key frame.
LOSSLESS = Codec(
    "ffv1",
    "ffv1",
    worst=0,
    best=0,
    options={},  # they depend on the size
    pix_fmt="bgr0",
)


def find_codec(name: str) -> Codec:
    """Return the codec ``name``, or the one whose encoder has that name.

    Raises:
        VideoError: There is none of that name, or the installed PyAV has no encoder for it.
    """
    from dgrec.video import import_av

    os.environ.setdefault("SVT_LOG", "1")  # without it, SVT-AV1 fills stderr
    there = [codec for codec in CODECS if codec.encoder in import_av().codecs_available]
    for codec in there:
        if name.lower() in (codec.name, codec.encoder):
            return codec
    offered = ", ".join(codec.name for codec in there) or "none of those that dgrec knows"
    raise VideoError(f"--codec {name}: the installed PyAV offers {offered}")


def open_stream(container: Any, codec: Codec, quality: int, size: tuple[int, int]) -> Any:
    """Add a stream of pictures, stamped in microseconds, to a container, and open its encoder."""
    from dgrec.video import add_stream

    options = codec.options_for(quality, size)
    stream = add_stream(container, codec.encoder, size, options, codec.pix_fmt)
    context = stream.codec_context
    # Key frames come by the clock, not by the number of frames.
    context.gop_size = 1 if codec.is_lossless else 1 << 16
    context.thread_count = _threads()
    with kept_scheduling():
        context.open()
    return stream


def _threads() -> int:
    # The rest of the processor is for the model.
    return max(1, min(4, (os.cpu_count() or 2) // 2))

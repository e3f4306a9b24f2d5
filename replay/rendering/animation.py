"""Animated GIF and WebP."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dgrec.errors import VideoError
from dgrec.files import check_new_file
from dgrec.replay.rendering.sinks import Sink
from dgrec.session import RecordedResult
from dgrec.video import ContainerFile, Image, Repeats

#: Browsers show pictures of a shorter duration for 0.1 s instead.
_SHORTEST_US = 20_000


class _Format(NamedTuple):
    codec: str
    ticks: int  # a second
    pix_fmt: str
    options: dict[str, str]
    #: The muxer's value of ``loop`` for playing once.
    once: str
    #: The longest duration of a picture, in ticks.
    longest: int


_FORMATS = {
    ".gif": _Format("gif", 100, "pal8", {}, "-1", 2**16 - 1),
    ".webp": _Format(
        "libwebp_anim",
        1000,
        "yuv420p",
        {"quality": "80", "compression_level": "2"},
        once="1",
        longest=2**24 - 2,
    ),
}
#: A palette for each picture (one for all would need all in memory), dithered in a fixed pattern,
#: since noise would flicker.
_PALETTE = (("palettegen", "stats_mode=single"), ("paletteuse", "new=1:dither=bayer:bayer_scale=5"))


class Animation(ContainerFile, Sink):
    """Writes a GIF or WebP in bounded memory (for a WebP, libwebp holds the compressed pictures).

    Args:
        path: The file, which ends in .gif or .webp.
        loop: Whether it plays in a loop, or once.
        overwrite: Whether an existing file is replaced.

    Raises:
        OutputError: The file cannot be written.
        VideoError: The installed PyAV cannot encode it.
    """

    def __init__(self, path: Path, width: int, height: int, *, loop: bool, overwrite: bool) -> None:
        self._format = _FORMATS[path.suffix.lower()]
        super().__init__(path)
        if self._format.codec not in self._av.codecs_available:
            raise VideoError(
                f"the installed PyAV cannot encode {path.suffix} ({self._format.codec}); "
                "its wheels can: `pip install --force-reinstall --only-binary :all: av`"
            )
        check_new_file(path, overwrite=overwrite)
        self._time_base = Fraction(1, self._format.ticks)
        self._last_pts_us: int | None = None
        self._last_duration_us = 0
        self._last_tick = 0
        self._last_frame: Any = None
        self._repeats = Repeats(path, self._format.longest)
        #: Pictures that were left out as too short.
        self._passed_over = 0
        with self._errors():
            options = {"loop": "0" if loop else self._format.once}
            self._open(path.suffix.lower()[1:], options, overwrite=overwrite)
            self._stream = self._container.add_stream(self._format.codec, rate=self._format.ticks)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = self._format.pix_fmt
            context = self._stream.codec_context
            self._stream.time_base = context.time_base = self._time_base
            context.options = self._format.options
        self._palette: Any = None
        if path.suffix.lower() == ".gif":
            self._palette = self._palette_graph(width, height)

    def _palette_graph(self, width: int, height: int) -> Any:
        av = self._av
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=width, height=height, format=av.VideoFormat("bgr24"), time_base=self._time_base
        )
        split, sink = graph.add("split"), graph.add("buffersink")
        make, use = (graph.add(name, options) for name, options in _PALETTE)
        source.link_to(split)
        split.link_to(make, 0, 0)
        split.link_to(use, 1, 0)
        make.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        return graph

    def write(self, image: Image, pts_us: int, duration_us: int, result: RecordedResult) -> None:
        if self._last_pts_us is not None and pts_us - self._last_pts_us < _SHORTEST_US:
            self._passed_over += 1
            return
        self._last_pts_us, self._last_duration_us = pts_us, duration_us
        # Rounded half up, not half to even, so that equal steps stay equal.
        tick = (pts_us * self._format.ticks + 500_000) // 1_000_000
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        with self._errors():
            if self._last_frame is not None:
                for between in self._repeats.between(self._last_tick, tick):
                    self._append(self._last_frame, between)
            self._append(frame, tick)
        self._last_frame, self._last_tick = frame, tick
        self.frames += 1

    def _append(self, frame: Any, tick: int) -> None:
        frame.pts, frame.time_base = tick, self._time_base
        if self._palette is None:
            self._encode(frame.reformat(format=self._format.pix_fmt))
        else:
            self._palette.push(frame)
            self._pull()

    def _pull(self) -> None:
        """Encode what has come out of the palette filters."""
        error = self._av.error
        with contextlib.suppress(error.BlockingIOError, error.EOFError):
            while True:
                self._encode(self._palette.pull())

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            # Only the last one's duration counts: others last until the next begins.
            packet.duration = self._last_duration
            self._container.mux(packet)

    @property
    def _last_duration(self) -> int:
        """The duration of the last picture, in ticks."""
        duration_us = max(self._last_duration_us, _SHORTEST_US)
        return min(duration_us * self._format.ticks // 1_000_000, self._format.longest)

    def finish(self) -> None:
        with self._errors():
            if self._palette is not None:
                self._palette.push(None)
                self._pull()
            self._encode(None)
            new = self._close()
            if self.path.suffix.lower() == ".webp":
                _set_end(new.file, self._last_tick + self._last_duration)
            new.finish()

    def notes(self) -> list[str]:
        if not self._passed_over:
            return []
        kind = self.path.suffix.lower()[1:].upper()
        return [
            f"{kind} shows at most {1_000_000 // _SHORTEST_US} pictures a second: "
            f"{self._passed_over:,} of {self.frames + self._passed_over:,} frames were left out"
        ]


def _set_end(file: BinaryIO, end_ms: int) -> None:
    """Set the duration of a WebP's last picture, which FFmpeg leaves undefined.

    It may stand for several: equal pictures in a row are stored as one.
    """
    last, last_ms = None, 0
    file.seek(12)  # RIFF, its length, WEBP
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        start = file.tell()
        if head[:4] == b"ANMF":
            end_ms -= last_ms  # of the one before
            last = start + 12  # after the place and the size of the picture
            file.seek(last)
            last_ms = int.from_bytes(file.read(3), "little")
        file.seek(start + length + length % 2)
    if last is not None:
        file.seek(last)
        file.write(min(max(end_ms, 0), 2**24 - 1).to_bytes(3, "little"))

"""Encodes pictures into packets that wait in memory until it is known whether they are recorded."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dgrec.recorder.video.picture_encoder import PictureEncoder
from dgrec.recorder.video.segment import SegmentVideos, VideoOptions
from dgrec.video import Image, KeptPacket, PacketFormat, import_av


@dataclass(frozen=True, eq=False)
class EncodedFormat(PacketFormat):
    """The format of packets that the recorder encodes."""

    #: The encoder's stream; None before it has begun.
    _stream: Any = field(default=None, repr=False)
    is_of_source: ClassVar[bool] = False

    @classmethod
    def of(cls, options: VideoOptions, stream: Any = None) -> EncodedFormat:
        """Return the format of an encoder's packets, or what is known of it before it begins."""
        if stream is None:
            return cls(options.codec.name, b"", options.size or (0, 0), 0, b"")
        context = stream.codec_context
        size = int(context.width), int(context.height)
        return cls(options.codec.name, bytes(context.extradata or b""), size, 0, b"", stream)

    @property
    def name(self) -> str:
        return self.codec

    @property
    def may_reorder(self) -> bool:
        return False

    def add_stream(self, container: Any) -> Any:
        return container.add_stream_from_template(self._stream)


class EncodedPackets(SegmentVideos):
    """Takes the place of a segment's videos: pictures become packets instead of files.

    Args:
        take: Called once for each picture, in order, with its packet; or, once the encoder has
            failed, with None, for that picture and all that follow. Called in the encoder's
            thread.
    """

    def __init__(self, options: VideoOptions, take: Callable[[KeptPacket | None], None]) -> None:
        super().__init__(VideoOptions(), Path(), ())
        self.is_discarded = False
        self.failure: str | None = None
        self._options = options
        self._take = take
        self._encoder = PictureEncoder(
            "raw", options.codec, options.quality, options.size, options.aspect
        )
        self._container: Any = None
        self._format: EncodedFormat | None = None
        self._count = 0
        #: How many pictures have no packet yet.
        self._waiting = 0

    @property
    def has_failed(self) -> bool:
        return self.failure is not None

    @property
    def notes(self) -> list[str]:
        return self._encoder.notes

    def write(self, image: Image, draw: Callable[[], Image], pts_us: int) -> None:
        self._waiting += 1
        if self.failure is None:
            try:
                if self._container is None:
                    self._begin(image)
                for packet in self._encoder.encode(image, pts_us):
                    self._hand_over(packet)
                return
            except Exception as error:  # FFmpeg's errors have many classes
                self._fail(error)
        self._give_up()

    def close(self) -> None:
        if self._container is not None and self.failure is None:
            try:
                for packet in self._encoder.finish():
                    self._hand_over(packet)
            except Exception as error:
                self._fail(error)
        self._give_up()
        # The stream stays: packets may still be written to a file.
        self._encoder.release()

    # --- inside ---

    def _begin(self, image: Image) -> None:
        self._container = import_av().open(io.BytesIO(), "w", format="nut")
        stream = self._encoder.open(self._container, image)
        self._container.start_encoding()  # from here on the stream can be copied
        self._format = EncodedFormat.of(self._options, stream)

    def _hand_over(self, packet: Any) -> None:
        assert self._format is not None
        is_key = bool(packet.is_keyframe)
        kept = KeptPacket(
            self._format, packet, self._count, self._count, is_key, is_key, place=self._count
        )
        self._count += 1
        self._waiting -= 1
        self._take(kept)

    def _give_up(self) -> None:
        """Report that no more packets will come, also for pictures that the encoder has had."""
        while self._waiting > 0:
            self._waiting -= 1
            self._take(None)

    def _fail(self, error: Exception) -> None:
        codec = self._options.codec.name
        self.failure = f"the {codec} encoder failed: {error}"

"""Encodes pictures into packets that are written to a file at once, or kept for one."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np

from dgrec.errors import VideoError
from dgrec.paths import VideoKind
from dgrec.recorder.video.codecs import Codec, open_stream
from dgrec.recorder.video.encoder_process import EncoderProcess
from dgrec.units import counted
from dgrec.video import MICROSECOND, Image, import_av

_KEY_FRAME_EVERY_US = 1_000_000


class PictureEncoder:
    """Encodes pictures of one kind, with a key frame a second, and keeps none of them back.

    The size of the video is ``size``, or that of the first picture (made even, unless the codec is
    lossless). Pictures of another size are fitted into it: raw ones are stretched, so that overlays
    can be drawn once they are stretched back; annotated ones keep their shape.
    """

    def __init__(
        self,
        kind: VideoKind,
        codec: Codec,
        quality: int,
        size: tuple[int, int] | None = None,
        aspect: Fraction | None = None,
    ) -> None:
        self.codec = codec
        self.size = size
        #: How many pictures had another size.
        self._scaled = 0
        self._kind: VideoKind = kind
        self._quality = quality
        self._aspect = aspect
        self._key_us = self._last_us = -_KEY_FRAME_EVERY_US
        self._has_begun = False
        self._stream: Any = None
        self._process: EncoderProcess | None = None
        self._reformatter: Any = None
        self._last_picture: Any = None

    def open(self, container: Any, first: Image) -> Any:
        """Add a stream to a container, for pictures like ``first``, and return it."""
        if self.size is None:
            height, width = first.shape[:2]
            self.size = width, height
            if not self.codec.is_lossless:
                self.size = width + width % 2, height + height % 2
        self._stream = open_stream(container, self.codec, self._quality, self.size)
        if self.codec.may_stop:
            self._process = EncoderProcess(self.codec, self._quality, self.size)
        if self._aspect is not None:
            self._stream.codec_context.sample_aspect_ratio = self._aspect
        self._reformatter = import_av().video.reformatter.VideoReformatter()
        return self._stream

    @property
    def last_us(self) -> int:
        """The time at which the last picture is shown."""
        return self._last_us

    def encode(self, image: Image, pts_us: int) -> list[Any]:
        """Return the packets of a picture that is shown ``pts_us`` microseconds after the first."""
        # A key frame at least once a second: the next picture would be too late for that.
        step = pts_us - self._last_us if self._has_begun else 0
        is_key = pts_us + step - self._key_us > _KEY_FRAME_EVERY_US
        if is_key:
            self._key_us = pts_us
        self._last_picture = self._picture(image)
        return self._encode(self._last_picture, pts_us, is_key=is_key)

    def repeat(self, pts_us: int) -> list[Any]:
        """Return the packets of the last picture, shown once more."""
        return self._encode(self._last_picture, pts_us, is_key=False)

    def finish(self) -> list[Any]:
        """Return the packets that the encoder still holds."""
        if self._process is not None:
            return self._of_stream(self._process.finish())
        return list(self._stream.encode(None))

    def release(self) -> None:
        """Free the memory that an encoder takes as long as it exists."""
        if self._process is not None:
            self._process.close()
        self._stream = self._reformatter = self._last_picture = None

    @property
    def notes(self) -> list[str]:
        """Notes for the user about its pictures."""
        notes = []
        if self._process is not None and self._process.restarts:
            notes.append(
                f"the {self.codec.name} encoder stopped {counted(self._process.restarts, 'time')}, "
                "and was started again; see `video_state` for frames that were left out meanwhile"
            )
        if self.size is not None and self.codec.is_lossless and self._scaled:
            width, height = self.size
            frames = counted(self._scaled, "frame")
            notes.append(f"{frames} of another size, scaled to {width}x{height}: not lossless")
        return notes

    # --- inside ---

    def _encode(self, picture: Any, pts_us: int, *, is_key: bool) -> list[Any]:
        self._last_us, self._has_begun = pts_us, True
        if self._process is not None:
            return self._of_stream(self._process.encode(picture, pts_us, is_key=is_key))
        kinds = import_av().video.frame.PictureType
        picture.pts, picture.time_base = pts_us, MICROSECOND
        picture.pict_type = kinds.I if is_key else kinds.NONE
        return list(self._stream.encode(picture))

    def _of_stream(self, packets: list[Any]) -> list[Any]:
        for packet in packets:
            packet.stream = self._stream
        return packets

    def _picture(self, image: Image) -> Any:
        assert self.size is not None
        if self._kind == "annotated":
            image = _fitted(image, self.size)
        # No copy, since the pixels are converted to YUV at once.
        given = import_av().VideoFrame.from_numpy_buffer(
            np.ascontiguousarray(image), format="bgr24"
        )
        width, height = self.size
        is_scaled = (given.width, given.height) != self.size
        if is_scaled:
            self._scaled += 1
        if self.codec.is_lossless and not is_scaled:
            return self._reformatter.reformat(given, format=self.codec.pix_fmt)
        return self._reformatter.reformat(
            given,
            width,
            height,
            self.codec.pix_fmt,
            dst_colorspace="ITU709",
            dst_color_range="MPEG",
            interpolation="AREA" if is_scaled else None,
        )


def check_codec(codec: Codec, quality: int, size: tuple[int, int]) -> None:
    """Encode one black picture, to find out before the recording whether that works.

    Raises:
        VideoError: It does not, for example because of the size.
    """
    av = import_av()
    encoder = PictureEncoder("raw", codec, quality, size)
    black = np.zeros((size[1], size[0], 3), np.uint8)
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as container:
            encoder.open(container, black)
            container.mux([*encoder.encode(black, 0), *encoder.finish()])
    except (av.FFmpegError, OSError, ValueError, VideoError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        width, height = size
        raise VideoError(f"--codec {codec.name} cannot encode {width}x{height}: {reason}") from None
    finally:
        encoder.release()


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """Return a picture in ``size``: scaled, with black beside it, and its shape kept."""
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    import cv2

    scale = min(width / image.shape[1], height / image.shape[0])
    if scale < 1 or (scale > 1 and min(width - image.shape[1], height - image.shape[0]) > 1):
        shown = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = cv2.resize(image, shown, interpolation=cv2.INTER_AREA)
    below, right = height - image.shape[0], width - image.shape[1]
    fitted: Image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT)
    return fitted

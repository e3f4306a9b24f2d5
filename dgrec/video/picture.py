"""A decoded picture, and its pixels as a player shows them: BGR, upright."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from dgrec.video.packets import KeptPacket
from dgrec.video.pyav import import_av

#: Pixels: uint8, height x width x 3, BGR.
Image = np.ndarray[Any, Any]

#: How to turn a stored picture upright: transpose, then mirror left to right, then top to bottom.
Turn = tuple[bool, bool, bool]

#: A picture that is stored upright.
AS_STORED: Turn = (False, False, False)

#: FFmpeg's number for an unknown colour space.
_UNSPECIFIED = 2


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
            Those before the first key frame of a live stream do not count.
        packets: The packets that were read for it since the picture before (`keep_packets`).
        packet: The one that it is in.
        number: Its number in the source; None: it is the one after the last.
    """

    image: Image
    time: Fraction | None
    is_key: bool = False
    is_damaged: bool = False
    lost_before: int = 0
    packets: tuple[KeptPacket, ...] = ()
    packet: KeptPacket | None = None
    number: int | None = None


class PixelConverter:
    """Turns decoded pictures into BGR arrays, bit for bit as OpenCV does with progressive ones.

    Those of HDR and wide-gamut footage differ (docs/decisions.md).

    For one thread at a time: FFmpeg's scaler is reused.
    """

    def __init__(self) -> None:
        self._reformatter = import_av().video.reformatter.VideoReformatter()

    def image(self, frame: Any, turn: Turn | None = None) -> Image:
        """Return the pixels of a PyAV frame, upright by ``turn`` or its own `turn_of`.

        Pixels that are not square stay as they are stored (see `pixel_aspect`).
        """
        # As OpenCV: bicubic.
        try:
            image = self._bgr(frame)
        except OSError:
            if frame.colorspace == _UNSPECIFIED:
                raise
            frame.colorspace = _UNSPECIFIED  # one that FFmpeg cannot convert, such as ICtCp
            image = self._bgr(frame)
        turn = turn_of(frame) if turn is None else turn
        if turn == AS_STORED:
            return image
        is_transposed, is_mirrored, is_upended = turn
        if is_transposed:
            image = image.transpose(1, 0, 2)
        if is_mirrored:
            image = image[:, ::-1]
        if is_upended:
            image = image[::-1]
        return np.ascontiguousarray(image)

    def _bgr(self, frame: Any) -> Image:
        image: Image = self._reformatter.reformat(
            frame, format="bgr24", interpolation="BICUBIC"
        ).to_ndarray()
        return image


def turn_of(frame: Any) -> Turn:
    """Return how players turn a frame, by its display matrix: right angles and mirroring only."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return _turn(struct.unpack_from("=9i", bytes(data)))
    return AS_STORED


def _turn(matrix: tuple[int, ...]) -> Turn:
    # x' = a x + c y, y' = b x + d y; what counts is which of them are 0, and the signs.
    slack = max(map(abs, matrix[:5])) // 64  # as FFmpeg, which tolerates a degree
    a, b, c, d = (0 if abs(value) <= slack else value for value in (*matrix[:2], *matrix[3:5]))
    if a and d and not b and not c:
        return False, a < 0, d < 0
    if b and c and not a and not d:
        # Transposing has swapped x and y.
        return True, c < 0, b < 0
    return AS_STORED


def pixel_aspect(ratio: Fraction | None, turn: Turn) -> Fraction:
    """Return width / height of a pixel as it is shown; 1 if the stream does not say."""
    if ratio is None or ratio <= 0:
        return Fraction(1)
    return 1 / ratio if turn[0] else ratio

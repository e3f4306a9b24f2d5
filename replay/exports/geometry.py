"""Masks as run lengths and outlines, and the corners of turned boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dgrec.format import Allowance, DecodeError, unpack_array
from dgrec.replay.drawing import Region

if TYPE_CHECKING:
    from dgrec.replay.exports.block import Block, Frame

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Mask:
    """The pixels of an object: those of ``pixels`` (height x width, bool) that are set.

    Their upper left corner is at ``left``, ``top`` in a picture of ``size`` (width, height), in
    which they lie.
    """

    pixels: _Array
    left: int
    top: int
    size: tuple[int, int]

    def run_lengths(self) -> str:
        """Return COCO's compressed run lengths: column by column, zeros first."""
        width, height = self.size
        rows, columns = self.pixels.shape
        canvas = np.zeros((columns, height), bool)
        canvas[:, self.top : self.top + rows] = self.pixels.T
        flat = canvas.reshape(-1)
        changes = np.flatnonzero(np.diff(flat, prepend=False)) + self.left * height
        counts = np.diff(np.concatenate([[0], changes, [width * height]])).tolist()
        if counts[-1] == 0:
            counts.pop()
        return _compressed(counts)

    def outline(self) -> tuple[_Array, bool]:
        """Return the points (x, y) around the largest piece, and whether that is the whole mask."""
        import cv2

        pixels = np.pad(self.pixels, 1).astype(np.uint8)
        found, hierarchy = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        if not found:
            return np.zeros((0, 2)), False
        largest = max(found, key=cv2.contourArea)
        points = largest.reshape(-1, 2).astype(np.float64) - 1 + (self.left, self.top)
        return points, len(found) == 1 and hierarchy is not None


def masks_of(block: Block) -> list[Mask | None]:
    """Return the mask of each detection of a block; None where it has none in the picture.

    Raises:
        DecodeError: A mask is damaged or too large.
    """
    if not block.has_masks:
        return [None] * len(block.detections)
    return [mask for frame in block.frames() for mask in frame_masks(frame)]


def frame_masks(frame: Frame) -> Iterator[Mask | None]:
    """Yield the mask of each detection of a frame, as `masks_of` returns them."""
    width, height = frame.size
    allowance = Allowance.for_frame(width, height)
    for detection in frame.detections:
        packed = detection.mask
        if packed is None or packed["x_min"] is None or packed["y_min"] is None:
            yield None  # a class map has no place
            continue
        try:
            yield _placed(packed, frame.size, allowance)
        except DecodeError as error:
            raise DecodeError(f"frame {frame.number}: {error}") from None


def _placed(packed: Mapping[str, Any], size: tuple[int, int], allowance: Allowance) -> Mask | None:
    width, height = size
    pixels = unpack_array(packed, allowance) > 0
    left, top = int(packed["x_min"]), int(packed["y_min"])
    inside = pixels[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    if not inside.any():
        return None
    allowance.take(inside.shape[1] * height)
    return Mask(inside, max(0, left), max(0, top), size)


def corners_of(
    box: tuple[float, float, float, float], angle: float | None
) -> list[tuple[float, float]]:
    """Return the corners of a box that is turned by an angle about its centre, upper left first."""
    if not angle or not math.isfinite(angle):
        x_min, y_min, x_max, y_max = box
        return [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)]
    return [(float(x), float(y)) for x, y in Region(*box, angle).corners()]


def _compressed(counts: list[int]) -> str:
    """Return run lengths as text: differences in groups of five bits (COCO's own encoding)."""
    text = bytearray()
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            bits = value & 0x1F
            value >>= 5
            is_last = value == (-1 if bits & 0x10 else 0)
            text.append(48 + (bits if is_last else bits | 0x20))
            if is_last:
                break
    return text.decode("ascii")

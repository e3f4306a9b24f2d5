"""Painters: what draws on a frame's picture, or changes its size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from dgrec.session import RecordedResult
from dgrec.video import Image


class Painter(ABC):
    """Draws something of a frame's results.

    Frames may come in any order, as in a player. What a painter needs of earlier frames, it looks
    up in the session.
    """

    #: Whether `draw` draws on the array that it is given.
    draws_in_place = False

    @abstractmethod
    def draw(self, result: RecordedResult, image: Image) -> Image:
        """Return ``image`` with something drawn."""

    def extent(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of the picture drawn from one of this size, without labels below it."""
        return width, height

    def notes(self) -> list[str]:
        """Return what the user should know after the last frame, a line each."""
        return []


class Stack(Painter):
    """Painters, each of which draws on the picture of the one before it.

    The first picture is never changed, so that it can be drawn on again.
    """

    def __init__(self, painters: Sequence[Painter]) -> None:
        self._painters = tuple(painters)

    def draw(self, result: RecordedResult, image: Image) -> Image:
        picture = image
        for painter in self._painters:
            if painter.draws_in_place and (
                np.may_share_memory(picture, image) or not picture.flags.writeable
            ):
                picture = picture.copy()
            picture = painter.draw(result, picture)
        return picture

    def extent(self, width: int, height: int) -> tuple[int, int]:
        for painter in self._painters:
            width, height = painter.extent(width, height)
        return width, height

    def notes(self) -> list[str]:
        return [note for painter in self._painters for note in painter.notes()]


class Filtered(Painter):
    """Draws only the results that a filter keeps.

    Args:
        painter: Draws the results that are kept.
        choose: Returns the indices of the results to keep; None for all of them.
    """

    def __init__(
        self, painter: Painter, choose: Callable[[RecordedResult], Sequence[int] | None]
    ) -> None:
        self._painter = painter
        self._choose = choose

    def draw(self, result: RecordedResult, image: Image) -> Image:
        indices = self._choose(result)
        if indices is None:
            return self._painter.draw(result, image)
        # PySDK cannot draw a class map or a list of classes without entries.
        if not indices and result.results:
            return image
        return self._painter.draw(result.keep(indices), image)

    def notes(self) -> list[str]:
        return self._painter.notes()


class SquarePixels(Painter):
    """Stretches pictures whose pixels are not square to the shape in which they are shown.

    Args:
        aspect: Width / height of a pixel. The picture becomes wider or higher, never smaller.
    """

    def __init__(self, aspect: Fraction) -> None:
        self._aspect = aspect

    def extent(self, width: int, height: int) -> tuple[int, int]:
        if self._aspect >= 1:
            return max(1, round(width * self._aspect)), height
        return width, max(1, round(height / self._aspect))

    def draw(self, result: RecordedResult, image: Image) -> Image:
        import cv2

        size = self.extent(image.shape[1], image.shape[0])
        stretched: Image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        return stretched


class Resize(Painter):
    """Resizes finished pictures.

    Args:
        width: In pixels; None: by the height, keeping the shape.
        height: In pixels; None: by the width, keeping the shape.
        scale: A factor, instead of both.
        widest: Instead of the others: shrink pictures to this width, and report that in `notes`.
        quiet: Do not report it.
    """

    def __init__(
        self,
        width: int | None = None,
        height: int | None = None,
        *,
        scale: float | None = None,
        widest: int | None = None,
        quiet: bool = False,
    ) -> None:
        self._width, self._height, self._scale, self._widest = width, height, scale, widest
        self._quiet = quiet
        self._narrowed_from = 0

    def extent(self, width: int, height: int) -> tuple[int, int]:
        if self._widest is not None:
            scale = min(1.0, self._widest / width)
            return max(1, round(width * scale)), max(1, round(height * scale))
        if self._scale is not None:
            return max(1, round(width * self._scale)), max(1, round(height * self._scale))
        if self._width is None and self._height is None:
            return width, height
        new_width = self._width or max(1, round(width * (self._height or 1) / height))
        new_height = self._height or max(1, round(height * new_width / width))
        return new_width, new_height

    def draw(self, result: RecordedResult, image: Image) -> Image:
        height, width = image.shape[:2]
        size = self.extent(width, height)
        if size == (width, height):
            return image
        if self._widest is not None:
            self._narrowed_from = max(self._narrowed_from, width)
        import cv2

        smaller = size[0] * size[1] < width * height
        kind = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        resized: Image = cv2.resize(image, size, interpolation=kind)
        return resized

    def notes(self) -> list[str]:
        if self._quiet or not self._narrowed_from:
            return []
        return [
            f"pictures were made {self._widest} pixels wide instead of {self._narrowed_from:,} "
            "(--scale 1 keeps their size)"
        ]

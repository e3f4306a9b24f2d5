"""Text drawn fast: every character is rendered once and then copied."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dgrec.video import Image

_FIRST, _LAST = 32, 126
#: Characters are drawn larger by this factor and scaled down, which smooths them.
_OVERSAMPLED = 4

#: Blue, green, red.
_WHITE = (245, 245, 245)


class Line(NamedTuple):
    """A line of text and its color (blue, green, red)."""

    text: str
    color: tuple[int, int, int] = _WHITE


def text_height(width: int, height: int) -> int:
    """Return a readable height of text, in pixels, on a picture of this size."""
    return max(10, round(min(width / 64, height / 40)))


class Lettering:
    """Characters of one size, in cells of one width, so that changing numbers stay in place.

    Args:
        height: Of a line, in pixels.
    """

    def __init__(self, height: int) -> None:
        import cv2

        self.height = height
        self.width = max(5, round(height * 0.58))
        cell = (self.height * _OVERSAMPLED, self.width * _OVERSAMPLED)
        font, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, cell[0] / 34, max(1, cell[0] // 11)
        glyphs = []
        for code in range(_FIRST, _LAST + 1):
            (wide, _), _ = cv2.getTextSize(chr(code), font, scale, thickness)
            # Wide characters (m, W, @) are squeezed into the cell.
            canvas = np.zeros((cell[0], max(wide, cell[1])), np.uint8)
            at = ((canvas.shape[1] - wide) // 2, round(cell[0] * 0.76))
            cv2.putText(canvas, chr(code), at, font, scale, 255, thickness, cv2.LINE_AA)
            glyphs.append(cv2.resize(canvas, (self.width, height), interpolation=cv2.INTER_AREA))
        self._by_color: dict[tuple[int, int, int], Image] = {}
        # Smoothing darkens thin strokes.
        self._glyphs = np.minimum(np.array(glyphs).astype(np.uint16) * 3 // 2, 255).astype(np.uint8)

    def render(self, lines: tuple[Line, ...] | list[Line], columns: int) -> Image:
        """Return the lines in color on black, each cut or filled up to ``columns``."""
        text = "".join(line.text[:columns].ljust(columns) for line in lines)
        codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
        codes = np.where((codes < _FIRST) | (codes > _LAST), ord("?"), codes) - _FIRST
        image = np.empty((len(lines), self.height, columns, self.width, 3), np.uint8)
        for row, line_codes, line in zip(
            image, codes.reshape(len(lines), columns), lines, strict=True
        ):
            row[:] = self._colored(line.color)[line_codes].transpose(1, 0, 2, 3)
        return image.reshape(len(lines) * self.height, columns * self.width, 3)

    def _colored(self, color: tuple[int, int, int]) -> Image:
        """Return all characters in a color (cached)."""
        if color not in self._by_color:
            tinted = self._glyphs[..., None] * np.array(color, np.uint16) >> 8
            self._by_color[color] = tinted.astype(np.uint8)
        return self._by_color[color]

    @staticmethod
    @lru_cache(maxsize=8)
    def of(height: int) -> Lettering:
        """Return characters of this height (cached)."""
        return Lettering(height)


def paste(image: Image, text: Image, left: int, top: int) -> None:
    """Put bright ``text`` on a darker ``image``; what does not fit is cut off."""
    place = image[top : top + text.shape[0], left : left + text.shape[1]]
    np.maximum(place, text[: place.shape[0], : place.shape[1]], out=place)


def draw_panel(image: Image, content: Image, left: int, top: int, padding: int) -> None:
    """Put bright ``content`` into ``image`` on a darkened panel; what does not fit is cut off."""
    import cv2

    height, width = image.shape[:2]
    bottom = min(top + content.shape[0] + 2 * padding, height)
    right = min(left + content.shape[1] + 2 * padding, width)
    if bottom <= top or right <= left:
        return
    panel = image[top:bottom, left:right]
    panel[:] = cv2.convertScaleAbs(panel, alpha=0.28)
    paste(panel, content, padding, padding)

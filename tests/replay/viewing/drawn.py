"""Compares what the page draws with what PySDK draws."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from tests.browser import Browser

__all__ = ["differences", "drawn_by_page"]

#: Colors are blended in whole numbers by PySDK, rounded down twice.
_TOLERANCE = 4
#: The least step of color that is an edge.
_EDGE = 50
#: The part of edge pixels that may be elsewhere.
_ODD = 0.02

Image = np.ndarray[Any, Any]

#: Draws over a picture of one grey and returns what one sees.
_DRAW = """
(() => {
  const {drawing, size, grey} = %s;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = drawing.frame.size;
  const context = canvas.getContext("2d");
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = size;
  const below = picture.getContext("2d");
  below.fillStyle = "rgb(" + Array(3).fill(grey) + ")";
  below.fillRect(0, 0, ...size);
  drawOverlay(context, drawing, {picture, ...%s});
  const seen = document.createElement("canvas");
  [seen.width, seen.height] = drawing.frame.size;
  const on = seen.getContext("2d");
  on.drawImage(picture, 0, 0);
  on.drawImage(canvas, 0, 0);
  return seen.toDataURL("image/png").slice(22);
})()
"""


def drawn_by_page(
    browser: Browser,
    drawn: dict[str, Any],
    size: tuple[int, int],
    grey: int = 0,
    options: str = "{}",
) -> Image:
    """Return what the page shows of the first frame of an answer over a picture (BGR)."""
    import cv2

    drawing = {"colors": drawn["colors"], "labels": drawn["labels"], "frame": drawn["frames"][0]}
    given = json.dumps({"drawing": drawing, "size": size, "grey": grey})
    data = base64.b64decode(browser.run(_DRAW % (given, options)))
    image: Image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return image


def text_areas(frame: dict[str, Any]) -> list[tuple[slice, slice, bool]]:
    """Return the areas of a frame's labels, and whether they have a background."""
    areas = []
    for layer in frame["layers"]:
        for group in layer["groups"]:
            for op in group["ops"]:
                if op[0] == "text":
                    left, top, right, bottom = op[1], op[2], op[1] + op[3], op[2] + op[4]
                    # Letters such as g reach below the base line, and others above an H.
                    if op[7] < 0:
                        top, bottom = top - op[11] / 2, bottom + op[11] / 2
                    rows = slice(max(0, int(top) - 1), int(bottom) + 2)
                    areas.append((rows, slice(max(0, int(left) - 1), int(right) + 2), op[7] >= 0))
    return areas


def differences(page: Image, pysdk: Image, frame: dict[str, Any]) -> list[str]:
    """Return how pictures differ: nothing, if each edge is within a pixel, and colors are equal.

    Letters have another shape on the page: labels are compared by their background.
    """
    if page.shape != pysdk.shape:
        return [f"sizes: {page.shape} instead of {pysdk.shape}"]
    found = []
    one, other = page.copy(), pysdk.copy()
    for rows, columns, has_background in text_areas(frame):
        area = rows, columns
        color = _most_frequent(pysdk[area])
        shares = [_share(image[area], color) for image in (page, pysdk)]
        if shares[0] < shares[1] / 2:
            found.append(f"label at {columns.start}, {rows.start}: has little of {color}")
        if not has_background and page[area].any() != pysdk[area].any():
            found.append(f"text at {columns.start}, {rows.start}: in one picture only")
        one[area] = other[area] = 0
    steps = [_steps(image) for image in (one, other)]
    for name, edges, expected in (("drawn", *steps), ("missing", *steps[::-1])):
        wrong = (edges > _EDGE) & ~_near(expected > _EDGE / 2)
        # In the acute angle between two lines, a hair's breadth of width is several pixels.
        if np.count_nonzero(wrong) > 8 + _ODD * np.count_nonzero(edges > _EDGE):
            y, x = np.argwhere(wrong)[0]
            found.append(f"{np.count_nonzero(wrong)} pixels of edges {name}, such as {x}, {y}")
    is_even = np.logical_and(*(step <= _TOLERANCE for step in steps))
    other_color = is_even & (np.abs(one.astype(int) - other).max(axis=2) > _TOLERANCE)
    if other_color.any():
        y, x = np.argwhere(other_color)[0]
        count = np.count_nonzero(other_color)
        found.append(f"{count} pixels of another color, such as {x}, {y}: {one[y, x]}")
    return found


def _most_frequent(area: Image) -> Image:
    colors, counts = np.unique(area.reshape(-1, 3), axis=0, return_counts=True)
    return colors[np.argmax(counts)].astype(int)


def _share(area: Image, color: Image) -> float:
    """Return which part of an area has a color."""
    return float(np.mean(np.abs(area.astype(int) - color).max(axis=2) <= _TOLERANCE))


def _steps(image: Image) -> Image:
    """Return how much colors differ around each pixel."""
    import cv2

    steps: Image = cv2.morphologyEx(image, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return steps.max(axis=2)


def _near(mask: Image) -> Image:
    import cv2

    near: Image = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    return near > 0

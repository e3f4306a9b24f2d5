"""The paths of tracks over the last frames."""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dgrec.replay.drawing.neighbours import Neighbours
from dgrec.replay.drawing.painter import Painter
from dgrec.session import RecordedResult, Runs, Session
from dgrec.video import Image

#: The centre of each track's box.
_Centres = dict[int, tuple[float, float]]
_GOLDEN = 0.618033988749895


def track_color(track: int) -> tuple[int, int, int]:
    """Return a track's color (blue, green, red), constant and unlike those of the next tracks."""
    red, green, blue = colorsys.hsv_to_rgb(track * _GOLDEN % 1.0, 0.75, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)


def _trails_of(centres: Sequence[_Centres]) -> dict[int, list[tuple[float, float]]]:
    """Return each track's path, the oldest point first, from its centres frame by frame."""
    paths: dict[int, list[tuple[float, float]]] = {}
    for frame in centres:
        for track, centre in frame.items():
            paths.setdefault(track, []).append(centre)
    return paths


class Trails(Painter):
    """Draws the path of each track's centre over the last frames.

    Args:
        session: The frames' session, which no other thread reads from.
        length: Number of frames, the current one included.
        kept: Returns the indices of a frame's detections to use; None: all.
    """

    draws_in_place = True

    def __init__(
        self, session: Session, length: int, kept: Callable[[int], Sequence[int]] | None = None
    ) -> None:
        self._length = length
        self._kept = kept
        self._runs = Runs(session.metadata.get("events", []))
        self._neighbours = Neighbours(session, self._picked)
        self._found = False

    def _picked(self, row: Mapping[str, Any]) -> tuple[int, _Centres]:
        """Return the number of a row's run, and the centres."""
        return self._runs.number(row["source_frame"]), self._centres(row)

    def _centres(self, row: Mapping[str, Any]) -> _Centres:
        detections = row["detections"]
        if self._kept is not None:
            detections = [detections[index] for index in self._kept(row["frame"])]
        centres = {}
        for item in detections:
            corners = [item[name] for name in ("x_min", "y_min", "x_max", "y_max")]
            if item["track_id"] is None or any(
                value is None or not math.isfinite(value) for value in corners
            ):
                continue
            x_min, y_min, x_max, y_max = corners
            centres[item["track_id"]] = (x_min + x_max) / 2, (y_min + y_max) / 2
        return centres

    def paths(self, result: RecordedResult) -> dict[int, list[tuple[float, float]]]:
        """Return the paths to draw on a frame, by track."""
        position = self._neighbours.note(result)
        run, now = self._neighbours[position]
        back = itertools.islice(self._neighbours.before(position), self._length - 1)
        # In an earlier run, the same id was another object's.
        frames = [now, *(each for at, each in back if at == run)]
        return _trails_of(frames[::-1])

    def draw(self, result: RecordedResult, image: Image) -> Image:
        import cv2

        thickness = max(2, round(min(result.size) / 240))
        # In sixteenths of a pixel, which OpenCV keeps in 32 bits.
        limit = 2**26
        for track, path in self.paths(result).items():
            self._found = True
            color = track_color(track)
            points = np.clip(np.round(np.array(path) * 16), -limit, limit).astype(np.int32)
            cv2.polylines(image, [points], False, color, thickness, cv2.LINE_AA, 4)
            head = (int(points[-1][0]), int(points[-1][1]))
            cv2.circle(image, head, thickness * 24, color, -1, cv2.LINE_AA, 4)
        return image

    def notes(self) -> list[str]:
        if self._found:
            return []
        return ["these frames have no track ids, so there are no trails to draw"]

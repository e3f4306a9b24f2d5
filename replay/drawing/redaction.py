"""Covers detections, for pictures that are to be shared."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from dgrec.errors import VideoError
from dgrec.footage import Timeline, column_values
from dgrec.format import restore
from dgrec.replay.drawing.labels import check_labels
from dgrec.replay.drawing.neighbours import Neighbours
from dgrec.replay.drawing.painter import Painter
from dgrec.session import RecordedResult, Session
from dgrec.video import Image

#: The regions of a row, and how far away it is in microseconds.
_Sighting: TypeAlias = "tuple[list[Region], int]"
#: Blocks across the longer side of a box: too few to recognise a face or read a plate.
_BLOCKS = 5
#: The most rows that are looked at before a frame, and after it: as many as are remembered.
_FARTHEST = 2000
#: How many stamps in a row may be odd.
_ODD = 3


@dataclass(frozen=True, slots=True)
class Region:
    """The place of a detection: a rectangle, turned by ``angle`` (radians) about its centre."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    angle: float = 0.0
    label: str | None = None
    track: int | None = None

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x_min + self.x_max) / 2, (self.y_min + self.y_max) / 2

    @property
    def reach(self) -> float:
        """The longer side."""
        return max(self.x_max - self.x_min, self.y_max - self.y_min)

    def grown(self, margin: float) -> Region:
        """Return the region with ``margin`` of its longer side, and 2 pixels, on every side."""
        by = margin * self.reach + 2
        return replace(
            self,
            x_min=self.x_min - by,
            y_min=self.y_min - by,
            x_max=self.x_max + by,
            y_max=self.y_max + by,
        )

    def towards(self, other: Region, share: float) -> Region:
        """Return the region at ``share`` of the way to ``other``."""
        names = ("x_min", "y_min", "x_max", "y_max")
        values = {
            name: getattr(self, name) * (1 - share) + getattr(other, name) * share for name in names
        }
        return replace(self, **values)

    def corners(self) -> np.ndarray[Any, Any]:
        x, y = self.centre
        wide, high = (self.x_max - self.x_min) / 2, (self.y_max - self.y_min) / 2
        points = np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]])
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turned: np.ndarray[Any, Any] = points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
        return turned


def _regions_of(row: Mapping[str, Any], labels: frozenset[str] | None) -> list[Region]:
    """Return the regions of a row's detections with one of ``labels`` (None: all detections).

    A detection covers its box, its mask and its key points.

    Raises:
        VideoError: A detection has none of them, so it cannot be covered.
    """
    if row["restore"] and "results" in json.loads(row["restore"]):
        raise VideoError(
            f"--redact: the results of frame {row['frame']} are not a list of detections, "
            "so they cannot be covered"
        )
    regions = []
    for index, item in enumerate(row["detections"]):
        if labels is not None and item["label"] not in labels:
            continue
        found = list(_places(item))
        if not found and item["extra"]:
            # Key points of hands do not fit the columns; the restored result has them.
            found = list(_key_points(restore(row).results[index].get("landmarks") or ()))
        if not found:
            name = item["label"] or "a result"
            raise VideoError(
                f"--redact: frame {row['frame']}: {name} was recorded without a place in the "
                "picture, so it cannot be covered"
            )
        regions += [
            replace(region, label=item["label"], track=item["track_id"]) for region in found
        ]
    return regions


def _places(item: Mapping[str, Any]) -> Iterator[Region]:
    corners = [item[name] for name in ("x_min", "y_min", "x_max", "y_max")]
    if all(value is not None and math.isfinite(value) for value in corners):
        x, y = sorted((corners[0], corners[2])), sorted((corners[1], corners[3]))
        angle = item["angle"] or 0.0
        yield Region(x[0], y[0], x[1], y[1], angle if math.isfinite(angle) else 0.0)
    yield from _key_points(item["landmarks"] or ())
    mask = item["mask"]
    if mask is not None and mask["x_min"] is not None and "data" not in (item["keys"] or ""):
        left, top = float(mask["x_min"]), float(mask["y_min"])
        yield Region(left, top, left + mask["width"], top + mask["height"])


def _key_points(landmarks: Iterable[Mapping[str, Any]]) -> Iterator[Region]:
    points = [
        point["landmark"][:2]
        for point in landmarks
        if point["landmark"] and all(map(math.isfinite, point["landmark"][:2]))
    ]
    if points:
        x, y = zip(*points, strict=True)
        # Key points lie inside the object.
        yield Region(min(x), min(y), max(x), max(y)).grown(0.15)


class Redaction(Painter):
    """Covers detections before anything is drawn, also in frames where the detector missed one.

    Covered are: a detection's box with a margin; between two frames with it, at most ``hold_s``
    apart, the path between them; and for ``hold_s`` before its first and after its last frame, its
    place there. What was never detected is not covered.

    Args:
        session: The frames' session, which no other thread reads from.
        labels: Classes to cover; None: everything.
        style: ``solid`` leaves nothing; ``mosaic`` leaves some blocks of mean color.
        margin: Added on every side, as a part of the longer side of the box.
        hold_s: The longest gap between detections in seconds.

    Raises:
        ValueError: Margin or time is negative, infinite or NaN.
        VideoError: A label was not recorded, and the model does not have it either; when drawing, a
            result has no place, or too many frames lie within ``hold_s``.
    """

    draws_in_place = True

    def __init__(
        self,
        session: Session,
        labels: Sequence[str] | None,
        *,
        style: Literal["solid", "mosaic"] = "solid",
        margin: float = 0.1,
        hold_s: float = 0.5,
    ) -> None:
        if not (0 <= margin < math.inf and 0 <= hold_s < math.inf):
            raise ValueError(f"margin {margin} and hold_s {hold_s} must be numbers from 0 on")
        self._labels = None if labels is None else frozenset(labels)
        self._mosaic = style == "mosaic"
        self._margin = margin
        self._hold_us = round(hold_s * 1e6)
        self._session = session
        self._neighbours = Neighbours(session, lambda row: _regions_of(row, self._labels))
        if self._labels is not None:
            check_labels("--redact", self._labels, [session])

    @functools.cached_property
    def _times_us(self) -> np.ndarray[Any, Any]:
        """The time of each row: a stamp that is missing or odd does not end a hold.

        Where a clip jumps, its rows are as far apart as they were in the source.
        """
        names = ["media_time_s", "captured_at"]
        found = [
            [column_values(rows.column(name)) for name in names]
            for rows in self._session.batches(names)
        ]
        media, captured = (
            _believed(*map(np.concatenate, zip(*parts, strict=True)))
            for parts in zip(*found, strict=True)
        )
        if any(np.isfinite(stamps[is_there]).any() for (stamps, is_there), _ in found):
            # Frames of a file may have been captured much slower than they are shown.
            captured = pa.nulls(len(captured), captured.type)
        columns = [media, captured]
        return Timeline().times_us(pa.table(columns, names))

    def regions(self, result: RecordedResult) -> list[Region]:
        """Return the regions to cover on a frame, margins included."""
        position = self._neighbours.note(result)
        now = self._neighbours[position]
        covered = [region.grown(self._margin) for region in now]
        if not self._hold_us:
            return covered
        before_now, after_now = self._near(position, result.frame)
        past, coming = _unseen_since(now, before_now), _unseen_since(now, after_now)
        # Cover generously: the last place, the next one, and the one in between.
        missed = [region for region, _ in past] + [region for region, _ in coming]
        for (before, since), (after, until) in _pairs(past, coming):
            missed.append(before.towards(after, since / (since + until)))
        return covered + [region.grown(2 * self._margin) for region in missed]

    def _near(self, position: int, frame: int) -> tuple[Iterator[_Sighting], Iterator[_Sighting]]:
        """Return what was seen in the hold before a row and after it, nearest first."""
        times = self._times_us
        now = int(times[position])
        first, last = np.searchsorted(times, (now - self._hold_us, now + self._hold_us + 1))
        before, after = range(position - 1, first - 1, -1), range(position + 1, last)
        if max(len(before), len(after)) > _FARTHEST:
            raise VideoError(
                f"--redact: over {_FARTHEST:,} frames lie within {self._hold_us / 1e6:g}s of frame "
                f"{frame}, too many to look for what the model missed "
                "(`dgrec replay` takes a shorter --redact-hold)"
            )

        def seen(positions: range) -> Iterator[_Sighting]:
            return ((self._neighbours[at], abs(int(times[at]) - now)) for at in positions)

        return seen(before), seen(after)

    def draw(self, result: RecordedResult, image: Image) -> Image:
        for region in self.regions(result):
            _cover(image, region, mosaic=self._mosaic)
        return image


def _believed(stamps: np.ndarray[Any, Any], is_there: np.ndarray[Any, Any]) -> pa.Array:
    """Return stamps with null for those around one that goes back.

    The one may be too early, or those before it too late: nothing tells which.
    """
    is_there = is_there & np.isfinite(stamps)
    known = np.flatnonzero(is_there)
    goes_back = np.diff(stamps[known]) < 0
    odd = np.concatenate([known[:-1][goes_back], known[1:][goes_back]])
    for by in range(-_ODD, _ODD + 1):
        is_there[np.clip(odd + by, 0, len(is_there) - 1)] = False
    return pa.array(stamps, mask=~is_there)


def _unseen_since(
    now: Sequence[Region], sightings: Iterable[_Sighting]
) -> list[tuple[Region, int]]:
    """Return the regions in ``sightings``, nearest first, but not now, and how far away in us.

    Regions are followed from row to row, away from now; one that leads to a region of now has not
    been missed.
    """
    followed = list(now)
    missed = []
    for regions, away in sightings:
        matches = _match(followed, regions)
        new = []
        for index, region in enumerate(regions):
            if index in matches:
                followed[matches[index]] = region
            else:
                missed.append((region, away))
                new.append(region)
        followed += new
    return missed


def _match(known: Sequence[Region], seen: Sequence[Region], reach: float = 0.5) -> dict[int, int]:
    """Match regions, nearest first; return the index in ``known`` by the index in ``seen``.

    ``reach`` is how far a region may have moved, as a part of its size.
    """
    candidates = []
    for i, one in enumerate(seen):
        for j, other in enumerate(known):
            if one.track is not None and other.track is not None:
                if one.track == other.track:
                    candidates.append((-1.0, i, j))
                continue
            if one.label != other.label:
                continue
            distance = math.dist(one.centre, other.centre) / max(one.reach, other.reach, 1.0)
            if distance <= reach:
                candidates.append((distance, i, j))
    matches: dict[int, int] = {}
    taken = set()
    for _, i, j in sorted(candidates):
        if i not in matches and j not in taken:
            matches[i] = j
            taken.add(j)
    return matches


def _pairs(
    past: Sequence[tuple[Region, int]], coming: Sequence[tuple[Region, int]]
) -> Iterator[tuple[tuple[Region, int], tuple[Region, int]]]:
    """Yield regions seen before and after that may be the same object."""
    matches = _match([region for region, _ in past], [region for region, _ in coming], reach=3.0)
    for after, before in matches.items():
        yield past[before], coming[after]


def _cover(image: Image, region: Region, *, mosaic: bool) -> None:
    import cv2

    height, width = image.shape[:2]
    corners = region.corners()
    left, top = np.floor(corners.min(0)).clip(0, (width, height)).astype(int)
    right, bottom = np.ceil(corners.max(0)).clip(0, (width, height)).astype(int)
    if right <= left or bottom <= top:
        return
    part = image[top:bottom, left:right]
    if mosaic:
        blocks = _BLOCKS / max(part.shape[:2])
        size = (max(1, round(part.shape[1] * blocks)), max(1, round(part.shape[0] * blocks)))
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    else:
        cover = np.zeros_like(part)
    if region.angle:
        mask = np.zeros(part.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(corners - (left, top)).astype(np.int32)], 255)
        part[mask > 0] = cover[mask > 0]
    else:
        part[:] = cover

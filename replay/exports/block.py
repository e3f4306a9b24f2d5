"""`Block`: some frames and their detections, as columns or as Python values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.footage import column_values
from dgrec.format import CORNERS

_Array = np.ndarray[Any, Any]
#: The fields of detections without masks, in the order of `Detection`.
FIELDS = ("label", "category_id", "score", *CORNERS, "angle", "track_id", "landmarks", "extra")


class Detection(NamedTuple):
    """A detection: the fields of docs/format.md, None where it has none."""

    #: Its place among all detections of its frame, from 0.
    place: int
    label: str | None
    category_id: int | None
    score: float | None
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    angle: float | None
    track_id: int | None
    landmarks: list[dict[str, Any]] | None
    extra: str | None
    mask: Mapping[str, Any] | None

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x_min, self.y_min, self.x_max, self.y_max


@dataclass(slots=True)
class Frame:
    """A frame that is exported."""

    #: Its number in the session.
    number: int
    #: Its place among all frames of the export (or split), from 0.
    index: int
    #: Its place in the session, from 0.
    position: int
    #: Microseconds since the session's first frame, on its time line.
    time_us: int
    #: The columns of the row, without the nested ones; stamps are microseconds since 1970.
    row: dict[str, Any]
    detections: list[Detection]
    split: str = ""
    #: The name of its picture, relative to the output's folder.
    picture: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; 0 where they are unknown."""
        return max(self.row["width"] or 0, 0), max(self.row["height"] or 0, 0)


@dataclass(frozen=True, slots=True)
class Block:
    """Some frames, and their detections as columns."""

    split: str
    #: Place of the first frame among all frames of its split, from 0.
    first_index: int
    #: Positions in the session, and times in microseconds since its first frame.
    positions: _Array
    times_us: _Array
    #: The columns of frames.
    rows: pa.RecordBatch
    #: The names of their pictures, if there are any.
    pictures: list[str | None]
    #: The detections that are exported, one after the other.
    detections: pa.StructArray
    #: For each detection: its frame's place in ``rows``, and its own place in its frame.
    row_of: _Array
    index_of: _Array

    def column(self, name: str) -> pa.Array:
        """Return a field of all detections."""
        return pc.struct_field(self.detections, name)

    def values(self, name: str) -> list[Any]:
        """Return a field of all detections in Python values."""
        return _values(self.column(name))

    def size(self, row: int) -> tuple[int, int]:
        """Return width and height of a frame in pixels; 0 where they are unknown."""
        width, height = (self.rows.column(name)[row].as_py() for name in ("width", "height"))
        return max(width or 0, 0), max(height or 0, 0)

    def sizes(self) -> _Array:
        """Return width and height of all frames in pixels; 0 where they are unknown."""
        columns = (column_values(self.rows.column(name))[0] for name in ("width", "height"))
        sizes: _Array = np.maximum(np.stack([*columns], axis=1), 0)
        return sizes

    def places(self) -> list[pa.Array]:
        """Return left and upper edges, widths and heights of all detections; all need boxes."""
        left, top, right, bottom = map(self.column, CORNERS)
        return [left, top, pc.subtract(right, left), pc.subtract(bottom, top)]

    @property
    def has_masks(self) -> bool:
        """True if a detection has a mask, and the format can hold masks."""
        return has_mask_data(self.detections)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in Python values."""
        names = [name for name in self.rows.schema.names if name not in ("detections", "restore")]
        columns = [_values(self.rows.column(name)) for name in names]
        detections = self._detections()
        places = np.arange(self.rows.num_rows)
        ends = np.searchsorted(self.row_of, places, side="right").tolist()
        first = 0
        for place, values in enumerate(zip(*columns, strict=True)):
            row = dict(zip(names, values, strict=True))
            yield Frame(
                row["frame"],
                self.first_index + place,
                int(self.positions[place]),
                int(self.times_us[place]),
                row,
                detections[first : ends[place]],
                self.split,
                self.pictures[place],
            )
            first = ends[place]

    def _detections(self) -> list[Detection]:
        mask: list[Any] = [None] * len(self.detections)
        if self.has_masks:
            mask = self.column("mask").to_pylist()
        columns = [self.values(name) for name in FIELDS]
        return list(map(Detection, self.index_of.tolist(), *columns, mask))


def has_mask_data(found: pa.StructArray) -> bool:
    """Return whether a detection has a mask whose data were read."""
    data = pc.struct_field(found, ["mask", "data"])
    return bool(data.null_count < len(data))


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_floating(column.type) and not column.null_count:
        values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
        return values
    objects: list[Any] = column.to_pylist()
    return objects

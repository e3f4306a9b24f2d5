"""Makes a session's rows and metadata from the frames that a format yields."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dgrec import compute as pc
from dgrec.errors import first_line
from dgrec.format import NULLABLE_SCHEMA, Allowance, Metadata, Row, RowTotals, build_batch, utc_text
from dgrec.format import metadata as metadata_module
from dgrec.imports.format import ImportFormat
from dgrec.imports.frames import Facts, Frames, ImportedFrame, Input
from dgrec.imports.text import InvalidError
from dgrec.imports.values import INT32_MAX, EncodedValue, PackedMask

#: Rows that are made at a time.
_FRAMES_AT_ONCE: Final = 1024
_DETECTIONS_AT_ONCE: Final = 8192
#: Frames that are added because nothing was found in them: four days at 30 frames a second.
MOST_ADDED: Final = 10_000_000
#: Frames per second.
FASTEST: Final = 10_000.0
#: Microseconds since 1970: a row has nanoseconds of 64 bits.
_LATEST_US: Final = (2**63 - 1) // 1000
#: Limits of a row (docs/format.md).
_MOST_NESTED: Final = 500_000
_MOST_VALUES: Final = 4_000_000
#: Coordinates in parts of the picture are not larger; boxes may reach over its edge.
_LARGEST_PART: Final = 10.0
#: Columns that another program's file never has.
_UNKNOWN: Final = (
    "read_ms recorder_ms skipped_before dropped_before dropped_camera dropped_queue "
    "dropped_writer".split()
)
#: Characters of all names of categories in the metadata. Detections have their own labels.
_MOST_LABEL_TEXT: Final = 1 << 20
_PLAIN: Final = frozenset("bbox category_id label score track_id angle".split())


class ImportedRows:
    """Makes rows from the frames that a reader yields."""

    def __init__(
        self,
        chosen: ImportFormat,
        given: Input,
        facts: Facts,
        fps: float | None,
        length: int | None,
    ) -> None:
        self.frames = self.detections = 0
        self._format, self._given, self._facts = chosen, given, facts
        self._fps, self._length = fps, length
        #: How many frames the footage announces.
        self.announced: int | None = None
        self._largest = 0.0
        self._boxes = 0
        self._has_gaps = False
        self._size: tuple[int, int] | None = None
        self._first_us: int | None = None
        self._last = -1

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        waiting: list[ImportedFrame] = []
        held = 0
        with contextlib.closing(self.checked()) as frames:
            for frame in frames:
                waiting.append(frame)
                held += len(frame.detections) + frame.decoded_bytes // 1024
                if len(waiting) >= _FRAMES_AT_ONCE or held >= _DETECTIONS_AT_ONCE:
                    yield self._batch(waiting)
                    waiting, held = [], 0
        if waiting:
            yield self._batch(waiting)

    def checked(self) -> Frames:
        """Yield the frames, with coordinates in pixels."""
        with contextlib.closing(self._filled()) as frames:
            for frame in frames:
                self._check(frame)
                yield frame
        self._check_scale()

    def _filled(self) -> Frames:
        """Yield the frames, and empty ones for frames of the footage that are not in the file."""
        last = -1
        with contextlib.closing(self._format.read(self._given, self._facts)) as frames:
            for frame in _read(frames):
                self._has_gaps |= frame.number > last + 1
                yield from self._empty(last + 1, frame.number)
                yield frame
                last = frame.number
        length = self._length or self._facts.frames
        if length is not None:
            yield from self._empty(last + 1, length)
            if self._length is not None and last >= self._length:
                raise InvalidError(
                    f"frame {last:,}", f"is not one of the {self._length:,} frames of the footage"
                )

    def _empty(self, start: int, end: int) -> Iterator[ImportedFrame]:
        if (self._length or self._facts.frames) is None:
            return
        if end > MOST_ADDED:
            raise InvalidError(
                f"frame {end:,}", f"is beyond {MOST_ADDED:,}, up to which frames are added"
            )
        for number in range(start, end):
            yield ImportedFrame(number, [])

    def _check(self, frame: ImportedFrame) -> None:
        """Check what the format leaves open, and convert coordinates to pixels."""
        if frame.number < self._last or (
            frame.number == self._last and not self._format.repeats_frames
        ):
            raise InvalidError(_name(frame), "occurs twice")
        self._last = frame.number
        _check_stamps(frame)
        self._check_size(frame)
        _check_values(frame)
        if self._given.options.normalized and not self._format.is_in_pixels:
            _to_pixels(frame)
        for found in frame.detections:
            if (box := found.get("bbox")) is not None:
                self._boxes += 1
                self._largest = max(self._largest, *map(abs, box))
        _decode(frame)

    def _check_size(self, frame: ImportedFrame) -> None:
        frame.size, said = frame.size or self._facts.size, self._given.options.size
        if frame.size is not None and said is not None and frame.size != said:
            own, other = ("x".join(map(str, each)) for each in (frame.size, said))
            raise InvalidError(
                _name(frame), f"its picture is {own}, and that of the footage {other}"
            )
        frame.size = frame.size or said
        if frame.size is not None and max(frame.size) > INT32_MAX:
            width, height = frame.size
            raise InvalidError(_name(frame), f"its picture is {width}x{height}, which is too large")
        self._size = self._size or frame.size

    def _check_scale(self) -> None:
        if self._boxes and 0 < self._largest <= 1 and not self._given.options.normalized:
            raise InvalidError(
                "its boxes",
                "all coordinates are from 0 to 1, which are not pixels; --normalized with "
                "--size WxH converts them",
            )

    def _batch(self, frames: Sequence[ImportedFrame]) -> pa.RecordBatch:
        fps = self._fps or self._usable_fps()
        rows = [_row(frame, fps) for frame in frames]
        batch = build_batch(rows, self.frames)
        known = {
            "captured_at": [
                f.captured_us is not None or f.completed_us is not None for f in frames
            ],
            "completed_at": [f.completed_us is not None for f in frames],
            "latency_ms": [None not in (f.captured_us, f.completed_us) for f in frames],
            **dict.fromkeys(_UNKNOWN, [False] * len(frames)),
        }
        if self._first_us is None:
            stamps = (f.captured_us or f.completed_us for f in frames)
            self._first_us = next((stamp for stamp in stamps if stamp is not None), None)
        columns = [
            _where(batch.column(name), known[name]) if name in known else batch.column(name)
            for name in batch.schema.names
        ]
        self.frames += len(frames)
        self.detections += sum(len(frame.detections) for frame in frames)
        return pa.RecordBatch.from_arrays(columns, schema=NULLABLE_SCHEMA)

    def _labels(self) -> dict[str, str]:
        """Return the names of categories, as many as metadata should hold."""
        found: dict[str, str] = {}
        left = _MOST_LABEL_TEXT
        for number, name in self._facts.labels.items():
            left -= len(name)
            if left < 0:
                break
            found[str(number)] = name
        return found

    def _usable_fps(self) -> float | None:
        fps = self._facts.fps
        return fps if fps is not None and 0 < fps <= FASTEST else None

    def notes(self) -> Iterator[str]:
        """Yield notes on what a session does not keep, and what it lacks."""
        for note, count in self._facts.notes.items():
            if count:
                yield f"{note} ({count:,})"
        if self._size is None and self.detections:
            yield "the size of the frames is not known, and replay needs it: say --size or --video"
        if self._facts.is_sparse and self._has_gaps and self._length is None:
            number, where = "N", ", where the footage has N frames"
            if self.announced is not None:
                number, where = str(self.announced), ""
            yield (
                f"frames in which nothing was found are not in the file; --frames {number} adds "
                f"them{where}"
            )

    def metadata(self, totals: RowTotals, target: Path, source: dict[str, Any]) -> Metadata:
        metadata = metadata_module.new(target.stem, time.time_ns())
        del metadata["host"]  # this machine has not recorded it
        about = {**source, "fps": source.get("fps") or self._usable_fps()}
        if self._size is not None and not about.get("width"):
            about["width"], about["height"] = self._size
        if about["kind"] == "import" and self._facts.frames:
            about["frames"] = self._facts.frames
        with self._given.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        is_boxed = self._boxes or not self.detections
        metadata |= {
            "started_at": None if self._first_us is None else utc_text(self._first_us * 1000),
            "ended_at": totals.ended_at,
            "end_reason": "imported",
            "versions": {"dgrec": metadata["versions"]["dgrec"]},
            "source": about,
            "model": {
                "labels": self._labels(),
                "result_type": "Detection" if is_boxed else "Classification",
            },
            "imported": {
                "format": self._format.name,
                "file": self._given.path.name,
                "size": size,
                "sha256": digest,
            },
        }
        if notes := list(self.notes()):
            metadata["notes"] = notes
        return metadata


def _read(frames: Frames) -> Frames:
    """Yield frames; an error in reading the file is not one in writing the session."""
    try:
        yield from frames
    except OSError as error:
        raise InvalidError("its contents", f"cannot be read: {first_line(error)}") from None


def _row(frame: ImportedFrame, fps: float | None) -> Row:
    captured, completed = frame.captured_us, frame.completed_us
    at = (captured if captured is not None else completed) or 0
    media_time_s = frame.media_time_s
    if media_time_s is None and fps is not None:
        media_time_s = frame.number / fps
    width, height = frame.size or (None, None)
    return Row(
        source_frame=frame.number,
        media_time_s=media_time_s,
        captured_ns=at * 1000,
        completed_ns=(at if completed is None else completed) * 1000,
        read_ns=0,
        recorder_ns=0,
        width=width,  # type: ignore[arg-type]
        height=height,  # type: ignore[arg-type]
        results=frame.detections,
        timing=frame.timing,
        attributes=frame.attributes or None,
    )


def _where(column: pa.Array, is_known: list[bool]) -> pa.Array:
    if all(is_known):
        return column
    return pc.if_else(np.array(is_known), column, pa.scalar(None, column.type))


def _name(frame: ImportedFrame) -> str:
    return f"frame {frame.number:,}"


def _check_stamps(frame: ImportedFrame) -> None:
    """Refuse stamps that a row cannot hold: one may be the other plus a latency of any length."""
    for at_us in (frame.captured_us, frame.completed_us):
        if at_us is not None and not 0 <= at_us <= _LATEST_US:
            raise InvalidError(_name(frame), "its stamps and latency are not from 1970 to 2261")


def _decode(frame: ImportedFrame) -> None:
    """Put masks and encoded values in the place of what the format found."""
    allowance = Allowance.for_frame(*(frame.size or (0, 0)))
    most = allowance.bytes_left
    for found in frame.detections:
        for key, value in found.items():
            if isinstance(value, EncodedValue | PackedMask):
                found[key] = value.decoded(allowance)
    frame.decoded_bytes = most - allowance.bytes_left


def _check_values(frame: ImportedFrame) -> None:
    """Refuse a frame with more values than a row can hold."""
    nested = values = 0
    for found in frame.detections:
        if not _PLAIN.issuperset(found):
            for key, value in found.items():
                if key not in _PLAIN:
                    inner, count = _counted(value)
                    nested, values = nested + inner, values + count
    if nested > _MOST_NESTED or values > _MOST_VALUES:
        raise InvalidError(_name(frame), "has more lists and values than a row can hold")


def _to_pixels(frame: ImportedFrame) -> None:
    """Convert coordinates from parts of the picture to pixels."""
    if frame.size is None and frame.detections:
        raise InvalidError(_name(frame), "the size of its picture is not known; say --size")
    for found in frame.detections:
        if "angle" in found:
            raise InvalidError(
                _name(frame), "has a box with an angle in parts of the picture; write it in pixels"
            )
        if max(map(abs, found.get("bbox") or (0,))) > _LARGEST_PART:
            raise InvalidError(
                _name(frame), "has a box in pixels, not in parts of the picture; omit --normalized"
            )
        _scale(found, frame.size or (1, 1))


def _counted(value: Any) -> tuple[int, int]:
    """Return how many lists and objects a value has, and how many values."""
    if isinstance(value, EncodedValue):
        value = value.json
    if not isinstance(value, list | dict):
        return 0, 1
    nested = values = 0
    for item in value.values() if isinstance(value, dict) else value:
        inner, count = _counted(item)
        nested, values = nested + inner, values + count
    return nested + 1, values + 1


def _scale(found: dict[str, Any], size: tuple[int, int]) -> None:
    """Convert the coordinates of a detection from parts of the picture to pixels."""
    if (box := found.get("bbox")) is not None:
        found["bbox"] = [part * whole for part, whole in zip(box, (*size, *size), strict=True)]
    points = found.get("landmarks")
    for point in points if isinstance(points, list) else ():
        x, y, *rest = point["landmark"]
        point["landmark"] = [x * size[0], y * size[1], *rest]
    if isinstance(shapes := found.get("segmentation"), list):
        found["segmentation"] = [
            [n * size[at % 2] for at, n in enumerate(shape)] if isinstance(shape, list) else shape
            for shape in shapes
        ]

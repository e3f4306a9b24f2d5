"""`Exported`: the frames and detections of a session that are exported, in bounded memory."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.errors import ConfigError, DamagedSessionError, VideoError
from dgrec.footage import Footage, chosen_batches, column_values, find_footage, session_times
from dgrec.format import CORNERS, DecodeError, with_columns
from dgrec.replay.exports.block import FIELDS, Block, Frame, has_mask_data
from dgrec.replay.exports.classes import Classes
from dgrec.replay.exports.losses import Losses
from dgrec.replay.exports.odd_values import finite, with_odd_values
from dgrec.replay.exports.pictures import Pictures
from dgrec.replay.exports.shown_video import ShownVideo, recorded_rate
from dgrec.replay.exports.track_ids import TrackIds
from dgrec.replay.query import DetectionFilter

if TYPE_CHECKING:
    from dgrec.replay.exports.format import ExportFormat
    from dgrec.replay.exports.selection import ExportOptions
    from dgrec.session import Session

_Array = np.ndarray[Any, Any]
#: Rows whose detections are handled at once.
_ROWS_AT_ONCE = 1024
#: Fewer of them where detections have masks.
_ROWS_WITH_MASKS = 64
#: Coordinates beyond this, in pixels, are not in a picture.
_FARTHEST = 1e7
_ELEMENT = "detections.list.element."
_FRAME_COLUMNS = (
    "frame source_frame media_time_s captured_at completed_at latency_ms width height video_frame"
).split()
#: Words for the fields of a detection, to report those that a format cannot hold.
LOSSES = {
    "label": "labels",
    "score": "scores",
    "angle": "angles",
    "track_id": "track ids",
    "landmarks": "key points",
    "mask": "masks",
    "extra": "values that programs added",
}
#: `ExportFormat.holds` of a format that can hold everything of a frame.
EVERYTHING = frozenset((*LOSSES, "empty frames", "float64"))


def session_name(session: Session) -> str:
    """Return the name of a session's file, without suffix, as valid UTF-8."""
    return utf8(session.path.stem) or "session"


def utf8(value: object) -> str:
    """Return a text that UTF-8 can hold: names of files and metadata may be anything."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


class Exported:
    """The frames and detections of a session that are exported to a format.

    Args:
        positions: Of the frames, ascending; by split, if the format has splits (else one, ``""``).
        images: The kind of pictures that are exported.
        pictures: Writes the pictures, if there are any.
        video: The footage, where dgrec does not find it itself.
        before: The output of the split before: tracks and classes have one number in both.
    """

    def __init__(
        self,
        session: Session,
        target: ExportFormat,
        options: ExportOptions,
        positions: list[tuple[str, _Array]],
        images: str = "none",
        pictures: Pictures | None = None,
        video: Path | None = None,
        before: Exported | None = None,
    ) -> None:
        self.session, self.options = session, options
        #: The kind of pictures that are exported: ``jpg``, ``png``, ``none`` or ``video``.
        self.images = images
        #: The footage that the user named.
        self.video = video
        #: What else the user should know, a line each.
        self.notes: list[str] = []
        self.metadata = session.metadata
        self.pictures = pictures
        self.splits = [name for name, _ in positions]
        self.losses = Losses()
        self._track_ids: TrackIds = TrackIds(session) if before is None else before._track_ids
        self._classes: dict[bool, Classes] = {} if before is None else before._classes
        #: Frames and detections so far.
        self.frame_count = self.detection_count = 0
        #: Frames without detections that the format cannot hold, and detections without a box or
        #: track that it needs.
        self._empty = self._lacking = 0
        self._target = target
        self._positions = positions
        self._stack = ExitStack()
        self._has_other_numbers = False
        self._filter: DetectionFilter | None = None
        if options.detections_where is not None:
            self._filter = DetectionFilter(session, options.detections_where)
            self._stack.callback(self._filter.close)
        # Where a format needs a box, detections without one are left out, and counted.
        self._held = target.holds if target.needs_box else target.holds | {"bbox"}
        wants_masks = "mask" in target.holds
        self._columns = [*_FRAME_COLUMNS, *target.columns, "restore"]
        if wants_masks:
            self._columns.append("detections")
        else:
            # Masks are most of a file; whether there is one is known from its encoding.
            self._columns += [_ELEMENT + name for name in FIELDS]
            self._columns += [_ELEMENT + "mask.encoding"]

    def __len__(self) -> int:
        """Return the number of chosen frames; those without pictures may be missing in the end."""
        return sum(len(positions) for _, positions in self._positions)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def classes(self, *, contiguous: bool) -> Classes:
        """Return the classes of the session's model, and those that came so far."""
        return self._classes.setdefault(contiguous, Classes(self.metadata, contiguous=contiguous))

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of all splits, in Python values."""
        for block in self.blocks():
            yield from block.frames()

    def blocks(self) -> Iterator[Block]:
        """Yield the frames of all splits with their detections as columns.

        The picture of each frame is written first; frames without one are left out.
        """
        for split, positions in self._positions:
            index = 0
            for here, times, rows in self._rows_of(positions):
                names: list[str | None] = [None] * len(here)
                if self.pictures is not None and not self._target.has_pictures_inside:
                    names = self._write_pictures(self.pictures, split, index, here, rows)
                    there = np.array([name is not None for name in names])
                    if not there.all():
                        here, times = here[there], times[there]
                        rows = rows.filter(pa.array(there))
                        names = [name for name in names if name is not None]
                if rows.num_rows:
                    yield self._block(split, index, here, times, rows, names)
                    index += rows.num_rows

    def shown_blocks(self) -> Iterator[tuple[Block, _Array]]:
        """Yield the frames with their numbers among the exported pictures, or else in the video.

        Both count from 0, and rise. A frame that is not in the video has -1, and counts as a loss.

        Raises:
            ConfigError: The recording is in parts, with a video each; or the format names the
                video, in which boxes would be elsewhere.
        """
        if self.pictures is None and len(self.footage.parts) > 1:
            raise ConfigError(
                f"{self.session.path}: each of its parts has a video of its own; export the parts "
                "one by one, or pictures with --images jpg"
            )
        if self.pictures is None and self.footage.path is None:
            lacking = self.footage.lacking
            self.notes.append(f"{lacking}: frames are numbered as they were recorded")
        video: ShownVideo | None = None
        if self.pictures is None and self._target.says_video:
            video = ShownVideo(self.footage)
        last = -1
        for block in self.blocks():
            numbers = np.arange(block.rows.num_rows) + block.first_index
            if self.pictures is None:
                column = block.rows.column(self.footage.column)
                there = column.is_valid().to_numpy(zero_copy_only=False)
                if self.footage.path is not None or there.all():
                    numbers = column.fill_null(-1).to_numpy()
                if self.footage.loops and self.footage.column == "source_frame":
                    # Of a file that was read in a loop, the video has only the first round.
                    count = self.metadata.get("source", {}).get("frames") or 2**63 - 1
                    numbers = np.where(numbers < count, numbers, -1)
            highest = np.maximum.accumulate(np.concatenate([[last], numbers]))
            numbers = np.where(numbers > highest[:-1], numbers, -1)
            last = int(highest[-1])
            is_lost = numbers < 0
            if video is not None:
                video.check(block, ~is_lost)
            self.leave_out_frames(
                "that are not in the video",
                np.count_nonzero(is_lost),
                np.count_nonzero(is_lost[block.row_of]),
            )
            self.note_numbers(block, numbers)
            yield block, numbers

    def note_numbers(self, block: Block, numbers: _Array) -> None:
        """Add a note if the format's numbers of frames are not those of the source.

        Args:
            numbers: Of the block's frames, from 0; -1 for one that is left out.
        """
        if self._has_other_numbers or not has_other_numbers(block.rows, numbers):
            return
        self._has_other_numbers = True
        if self.pictures is None and self._target.says_video and self.footage.path is not None:
            self.notes.append(f"frames are numbered as in {self.footage.path.name}")
            return
        self.notes.append(
            "frames do not have the numbers that they have in the source, by which ground truth is "
            "compared"
        )

    @property
    def is_nothing(self) -> bool:
        """True if nothing of what was there is written.

        A split without detections is written: others have some.
        """
        if self.detection_count:
            return False
        if self._lacking and not any(self.splits):
            return True
        return not self.frame_count and not self._empty

    def leave_out(self, what: str, count: int | np.integer[Any] = 1) -> None:
        """Report detections that are not written after all."""
        self.losses.add(f"left out {what}", count)
        self._lacking += int(count)
        self.detection_count -= int(count)

    def leave_out_frames(
        self, what: str, frames: int | np.integer[Any], detections: int | np.integer[Any]
    ) -> None:
        """Report frames that are not written after all, and do not count their detections."""
        self.losses.add(f"left out frames {what}", frames, "frame")
        self.frame_count -= int(frames)
        self.detection_count -= int(detections)

    @functools.cached_property
    def has_source_numbers(self) -> bool:
        """True if every frame has a number in the source, and these numbers rise."""
        last = -1
        for batch in self.columns(["source_frame"]):
            numbers, is_known = column_values(batch.column("source_frame"))
            if not is_known.all() or (np.diff(numbers, prepend=last) <= 0).any():
                return False
            last = int(numbers[-1]) if len(numbers) else last
        return True

    @functools.cached_property
    def footage(self) -> Footage:
        """The video whose frames `shown_blocks` numbers."""
        found = find_footage(self.session, self.video)
        if found.note and found.path is not None:
            self.notes.append(found.note)
        return found

    def picture(self, position: int) -> bytes | None:
        """Return the picture of the row at a position as a file's bytes; None if there is none.

        For formats that have pictures inside.
        """
        return None if self.pictures is None else self.pictures.encoded(position)

    def lack_video(self, problem: VideoError, refusal: str) -> None:
        """Export JPEG pictures in place of a video, or note that there is none.

        Args:
            refusal: What the format cannot do with it.
        """
        if self.footage.path is None:
            self.notes.append(f"{problem}: there is no video in it")
            return
        self.notes.append(f"{problem}, which {refusal}: pictures are JPEG instead")
        self.images = "jpg"
        self.pictures = Pictures(self.session, Path(), ".jpg", video=self.video)
        self._stack.enter_context(self.pictures)

    def columns(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield columns of the frames of all splits."""
        for _, positions in self._positions:
            for _, batch in chosen_batches(self.session, positions, names):
                yield with_columns(batch, names)

    @functools.cached_property
    def rate(self) -> float:
        """Frames a second of the exported frames, from their median step."""
        positions = self._positions[0][1][:1000]
        steps = np.diff(_times(self.session, positions))
        return round(1e6 / max(1.0, float(np.median(steps))), 3) if len(steps) else 25.0

    @property
    def video_rate(self) -> float:
        """Frames a second of the video or pictures that `shown_blocks` numbers."""
        if self.pictures is not None:
            return self.rate
        if self.footage.column == "video_frame":
            return recorded_rate(self.session, self.footage) or self.rate
        rate = self.metadata.get("source", {}).get("fps")
        is_usual = isinstance(rate, int | float) and 0.1 <= rate <= 1000
        return float(rate) if is_usual else self.rate

    def one_size(self, sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
        """Return the most frequent size, for a format that has only one; the others are counted.

        Args:
            sizes: Of all its frames.
        """
        known = Counter({size: count for size, count in sizes.items() if all(size)})
        if not known:
            return 0, 0
        ((width, height), count) = known.most_common(1)[0]
        self.losses.add(
            f"{self._target.name} says {width}x{height} also for frames of another size",
            known.total() - count,
            "frame",
        )
        return width, height

    # --- inside ---

    def _write_pictures(
        self, pictures: Pictures, split: str, index: int, positions: _Array, rows: pa.RecordBatch
    ) -> list[str | None]:
        found: list[str | None] = []
        for position, number in zip(
            positions.tolist(), rows.column("frame").to_pylist(), strict=True
        ):
            name = self._target.picture_name(number, index, split, pictures.suffix)
            found.append(pictures.write(position, name))
            index += found[-1] is not None
        return found

    def _rows_of(self, positions: _Array) -> Iterator[tuple[_Array, _Array, pa.RecordBatch]]:
        """Yield positions, times and rows, some at a time."""
        times = _times(self.session, positions)
        last, at = -(2**63), 0
        for here, batch in chosen_batches(self.session, positions, self._columns):
            at_once = _ROWS_WITH_MASKS if _has_masks(batch.column("detections")) else _ROWS_AT_ONCE
            for start in range(0, len(here), at_once):
                rows = batch.slice(start, at_once)
                numbers = rows.column("frame").to_numpy()
                if numbers[0] <= last or (np.diff(numbers) <= 0).any():
                    raise DamagedSessionError(
                        f"{self.session.path}: damaged: the numbers of its frames do not rise; "
                        "dgrec verify tells more"
                    )
                last = int(numbers[-1])
                count = rows.num_rows
                yield here[start : start + count], times[at : at + count], rows
                at += count

    def _block(
        self,
        split: str,
        index: int,
        positions: _Array,
        times_us: _Array,
        rows: pa.RecordBatch,
        pictures: list[str | None],
    ) -> Block:
        column = rows.column("detections")
        found = column.flatten()
        row_of = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        firsts = np.searchsorted(row_of, np.arange(rows.num_rows))
        index_of = np.arange(len(row_of)) - firsts[row_of]
        kept = self._kept(rows, found, row_of, index_of)
        if not kept.all():
            found, row_of, index_of = found.filter(pa.array(kept)), row_of[kept], index_of[kept]
        try:
            found = with_odd_values(
                found,
                row_of.tolist(),
                keeps_extra="extra" in self._target.holds,
                held=self._held,
                losses=self.losses,
            )
        except DecodeError as error:
            first, last = rows.column("frame")[0], rows.column("frame")[rows.num_rows - 1]
            raise DecodeError(f"frames {first} to {last}: {error}") from None
        self._count_losses(rows, found, row_of)
        if "not finite" not in self._target.holds:
            found = finite(found, self._held, self.losses)
        found = self._track_ids.unique(rows, found, row_of.tolist(), self.losses)
        self.frame_count += rows.num_rows
        self.detection_count += len(row_of)
        return Block(split, index, positions, times_us, rows, pictures, found, row_of, index_of)

    def _kept(
        self, rows: pa.RecordBatch, found: pa.StructArray, row_of: _Array, index_of: _Array
    ) -> _Array:
        """Return which detections are exported."""
        kept = np.ones(len(row_of), bool)
        if self.options.min_score is not None:
            score, has_score = column_values(pc.struct_field(found, "score"))
            kept &= has_score & (score >= self.options.min_score)
        if self._filter is not None:
            matches = np.zeros(len(row_of), bool)
            for row, number in enumerate(rows.column("frame").to_pylist()):
                first = int(np.searchsorted(row_of, row))
                matches[[first + index for index in self._filter.kept(number)]] = True
            kept &= matches
        needs = []
        if self._target.needs_box:
            needs.append(("box in the picture", _has_box(found)))
        if self._target.needs_track:
            track = pc.struct_field(found, "track_id").is_valid()
            needs.append(("track", track.to_numpy(zero_copy_only=False)))
        for what, is_there in needs:
            lacking = int(np.count_nonzero(kept & ~is_there))
            self._lacking += lacking
            self.losses.add(f"left out what has no {what}", lacking)
            kept &= is_there
        return kept

    def _count_losses(self, rows: pa.RecordBatch, found: pa.StructArray, row_of: _Array) -> None:
        name, holds = self._target.name, self._target.holds
        for field, what in LOSSES.items():
            if field in holds:
                continue
            column = pc.struct_field(found, field)
            count = len(column) - column.null_count
            if field == "angle":  # most are 0, which says nothing
                count = np.count_nonzero(column_values(column)[0])
            self.losses.add(f"{name} cannot hold {what}", count)
        if self._target.names_classes:
            lacking = pc.struct_field(found, "label").null_count
            self.losses.add("made up the name of a class where there is no label", lacking)
        if "empty frames" not in holds:
            empty = rows.num_rows - len(np.unique(row_of))
            self.losses.add(f"{name} cannot hold frames without detections", empty, "frame")
            self.frame_count -= empty
            self._empty += empty
        if "float64" not in holds:
            corners = [column_values(pc.struct_field(found, name))[0] for name in CORNERS]
            with np.errstate(over="ignore"):
                rounded = [corner != corner.astype(np.float32) for corner in corners]
            self.losses.add(
                f"{name} rounds coordinates to float32",
                np.count_nonzero(np.any(rounded, axis=0)),
            )
        restore = rows.column("restore")
        if restore.null_count < len(restore):
            odd = sum('"results"' in text for text in restore.drop_null().to_pylist())
            self.losses.add("left out results that are not a list of detections", odd, "frame")


def has_other_numbers(rows: pa.RecordBatch, numbers: _Array) -> bool:
    """Return whether a number differs from the frame's number in the source; -1 is none."""
    source, is_known = column_values(rows.column("source_frame"))
    return bool((is_known & (numbers >= 0) & (source != numbers)).any())


def _has_masks(column: pa.ListArray) -> bool:
    return has_mask_data(column.flatten())


def _has_box(found: pa.StructArray) -> _Array:
    """Return which detections have a box that can be in a picture."""
    is_there = np.ones(len(found), bool)
    values = []
    for name in CORNERS:
        value, is_valid = column_values(pc.struct_field(found, name))
        values.append(value)
        with np.errstate(invalid="ignore"):
            is_there &= is_valid & (np.abs(value) <= _FARTHEST)
    x_min, y_min, x_max, y_max = values
    with np.errstate(invalid="ignore"):
        return is_there & (x_min <= x_max) & (y_min <= y_max)


def _times(session: Session, positions: _Array) -> _Array:
    """Return the times of chosen rows, in microseconds since the session's first row."""
    found, start = [], 0
    for times in session_times(session, 0, int(positions[-1]) + 1 if len(positions) else 0):
        here = slice(*np.searchsorted(positions, (start, start + len(times))))
        found.append(times[positions[here] - start])
        start += len(times)
    return np.concatenate([np.zeros(0, np.int64), *found])

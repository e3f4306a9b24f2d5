"""Rerun: the video itself, boxes, key points and timing, on three time lines."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.replay.exports import (
    METRICS,
    STAGE_COLUMNS,
    Block,
    Classes,
    Exported,
    ExportFormat,
    UnsuitableVideoError,
    check_rows,
    session_name,
    unchanged_video,
)
from dgrec.replay.exports.formats.library import import_library

#: The video is read into memory as a whole.
_LARGEST = 1 << 30
_PICTURES_AT_ONCE = 32
_CHUNK = 1 << 20
#: Seconds that Rerun may take to end a file once everything else has been written.
_PATIENCE_S = 60.0
_VIDEO, _BOXES, _POINTS = "video", "video/boxes", "video/points"


class Rerun(ExportFormat):
    """A recording for the Rerun viewer: ``video``, ``video/boxes``, ``metrics/...``.

    Time lines are ``frame`` (the number in the session), ``time`` (since the first frame) and
    ``captured`` (UTC).
    """

    name = "rrd"
    title = "Rerun: video, boxes, timing"
    suffixes = (".rrd",)
    names_classes = True
    holds = frozenset({"label", "score", "track_id", "landmarks", "empty frames"})
    columns = STAGE_COLUMNS
    pictures = ("video", "jpg", "png", "none")
    has_pictures_inside = True

    def write(self, exported: Exported, path: Path) -> None:
        rerun = import_library("rerun", self.name, extra="rerun")
        stamps: np.ndarray[Any, Any] | None = None
        # Not the session's id: two exports of it are two recordings.
        recording = rerun.RecordingStream("dgrec")
        with path.open("wb") as file, _Pipe(file) as pipe:
            try:
                recording.save(pipe.name)
                pipe.close_own_end()
                recording.send_recording_name(session_name(exported.session))
                if exported.images == "video":
                    stamps = _log_video(rerun, recording, exported)
                classes = exported.classes(contiguous=True)
                for block in exported.blocks():
                    _Block(rerun, recording, exported, block).write(classes, stamps)
                    recording.flush()
                    pipe.check()
                infos = [(number, name) for number, name in classes.names.items()]
                recording.log("video", rerun.AnnotationContext(infos), static=True)
                recording.flush()
            finally:
                recording.disconnect()


class _Pipe:
    """A pipe that ends in a file: Rerun waits for ever for a file that cannot be written.

    After an error it still reads what comes, so that Rerun does not wait.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None
        self._source, self._own_end = os.pipe()
        #: A path that can be opened for writing.
        self.name = f"/dev/fd/{self._own_end}"
        self._thread = threading.Thread(target=self._copy, name="dgrec-rrd", daemon=True)
        self._thread.start()

    def close_own_end(self) -> None:
        """Leave the pipe to Rerun, which has opened it."""
        if self._own_end >= 0:
            os.close(self._own_end)
            self._own_end = -1

    def check(self) -> None:
        """Raise the first error of the file."""
        if self._error is not None:
            raise self._error

    def _copy(self) -> None:
        with open(self._source, "rb", buffering=0) as source:
            while data := source.read(_CHUNK):
                if self._error is None:
                    try:
                        self._file.write(data)
                        self._file.flush()
                    except OSError as error:
                        self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close_own_end()
        self._thread.join(_PATIENCE_S)
        if kind is None:
            self.check()
            if self._thread.is_alive():
                raise OSError(errno.EIO, "Rerun does not end it")


def _log_video(rerun: Any, recording: Any, exported: Exported) -> np.ndarray[Any, Any] | None:
    """Write the video; return the times of its frames in nanoseconds, or None without a video."""
    try:
        path = unchanged_video(exported)
        if path.suffix.lower() != ".mp4":
            raise UnsuitableVideoError(f"{path.name} is not an MP4")
        if path.stat().st_size > _LARGEST:
            raise UnsuitableVideoError(f"{path.name} is larger than a gigabyte")
        asset = rerun.AssetVideo(path=str(path))
        try:
            stamps = np.sort(asset.read_frame_timestamps_nanos())
        except RuntimeError as error:
            raise UnsuitableVideoError(f"{path.name} cannot be read ({error})") from None
        check_rows(exported, (stamps - stamps[:1]) / 1e9)
    except UnsuitableVideoError as error:
        exported.lack_video(error, "cannot be in it as it is")
        return None
    recording.log(_VIDEO, asset, static=True)
    return stamps


class _Block:
    """Writes a block of frames."""

    def __init__(self, rerun: Any, recording: Any, exported: Exported, block: Block) -> None:
        self._rerun, self._recording = rerun, recording
        self._exported, self._block = exported, block
        rows = block.rows
        self._captured = rows.column("captured_at").cast(pa.int64())
        self._times = [
            ("frame", "sequence", rows.column("frame").to_numpy()),
            ("time", "duration", block.times_us.astype("timedelta64[us]")),
        ]
        if not self._captured.null_count:
            stamps = self._captured.to_numpy().astype("datetime64[us]")
            self._times.append(("captured", "timestamp", stamps))

    def write(self, classes: Classes, stamps: np.ndarray[Any, Any] | None) -> None:
        rerun, block, rows = self._rerun, self._block, self._block.rows
        if stamps is not None:
            column = rows.column(self._exported.footage.column)
            there = column.is_valid().to_numpy(zero_copy_only=False)
            numbers = column.drop_null().to_numpy().astype(np.int64)
            self._send(_VIDEO, rerun.VideoFrameReference.columns_nanos(stamps[numbers]), there)
        elif self._exported.pictures is not None:
            self._write_pictures()
        self._write_boxes(classes)
        if block.column("landmarks").null_count < len(block.row_of):
            self._write_points()
        for name in METRICS:
            values = rows.column(name).cast(pa.float64())
            there = pc.fill_null(pc.is_finite(values), False).to_numpy(zero_copy_only=False)
            if there.any():
                found = values.to_numpy(zero_copy_only=False)[there]
                self._send(f"metrics/{name}", rerun.Scalars.columns(scalars=found), there)
        counts = np.bincount(block.row_of, minlength=rows.num_rows).astype(np.float64)
        self._send("metrics/detections", rerun.Scalars.columns(scalars=counts))

    def _send(self, entity: str, columns: Any, there: np.ndarray[Any, Any] | None = None) -> None:
        times = [
            self._rerun.TimeColumn(name, **{kind: values if there is None else values[there]})
            for name, kind, values in self._times
        ]
        self._recording.send_columns(entity, indexes=times, columns=columns)

    def _write_pictures(self) -> None:
        kind = {"jpg": "image/jpeg", "png": "image/png"}[self._exported.images]
        for row, position in enumerate(self._block.positions.tolist()):
            data = self._exported.picture(position)
            if data is not None:
                there = np.arange(self._block.rows.num_rows) == row
                columns = self._rerun.EncodedImage.columns(blob=[data], media_type=[kind])
                self._send(_VIDEO, columns, there)
            if row % _PICTURES_AT_ONCE == 0:  # what waits to be written is in memory
                self._recording.flush()

    def _write_boxes(self, classes: Classes) -> None:
        block, rerun = self._block, self._rerun
        x_min, y_min, x_max, y_max = (
            block.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
            for name in ("x_min", "y_min", "x_max", "y_max")
        )
        labels, ids = (block.column(name).to_pylist() for name in ("label", "category_id"))
        lengths = np.bincount(block.row_of, minlength=block.rows.num_rows)
        boxes = rerun.Boxes2D.columns(
            centers=np.stack([(x_min + x_max) / 2, (y_min + y_max) / 2], axis=1),
            half_sizes=np.stack([(x_max - x_min) / 2, (y_max - y_min) / 2], axis=1),
            labels=list(map(classes.name, labels, ids)),
            class_ids=list(map(classes.number, labels, ids)),
        )
        self._send(_BOXES, boxes.partition(lengths))
        facts = {
            name: column
            for name in ("score", "track_id")
            if (column := block.column(name)).null_count < len(column)
        }
        if facts:
            self._send(_BOXES, rerun.AnyValues.columns(**facts).partition(lengths))

    def _write_points(self) -> None:
        block = self._block
        lengths = np.zeros(block.rows.num_rows, np.int64)
        places: list[list[float]] = []
        labels: list[str] = []
        for row, points in zip(
            block.row_of.tolist(), block.column("landmarks").to_pylist(), strict=True
        ):
            for point in points or ():
                place = list(point["landmark"] or ())[:2]
                if len(place) == 2 and np.isfinite(place).all():
                    places.append(place)
                    labels.append(point["label"] or "")
                    lengths[row] += 1
        columns = self._rerun.Points2D.columns(
            positions=np.array(places, np.float64).reshape(-1, 2), labels=labels
        )
        self._send(_POINTS, columns.partition(lengths))

"""MCAP for Foxglove: the video's own packets, boxes, key points, and timing."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from dgrec.replay.exports import (
    METRICS,
    STAGE_COLUMNS,
    Exported,
    ExportFormat,
    Frame,
    UnsuitableVideoError,
    VideoPackets,
    corners_of,
    session_name,
    utf8,
)
from dgrec.replay.exports.formats.library import import_library

_SCHEMA = {
    "type": "object",
    "title": "dgrec.FrameMetrics",
    "properties": {
        "frame": {"type": "integer"},
        "source_frame": {"type": "integer"},
        "time_s": {"type": "number"},
        "media_time_s": {"type": "number"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "detections": {"type": "integer"},
        **{name: {"type": "number"} for name in METRICS},
    },
}
_CAMERA = "camera"


class Mcap(ExportFormat):
    """Topics ``/video`` (or ``/image``), ``/annotations`` and ``/metrics``, by times of capture.

    The label, score and track id of a box are in the metadata of its annotation, exactly, as are
    its key points, and the box before it was turned.
    """

    name = "mcap"
    title = "MCAP for Foxglove: video, boxes, timing"
    suffixes = (".mcap",)
    holds = frozenset("label score angle track_id landmarks float64".split()) | {"empty frames"}
    columns = STAGE_COLUMNS
    pictures = ("video", "jpg", "png", "none")
    has_pictures_inside = True

    def write(self, exported: Exported, path: Path) -> None:
        foxglove = import_library("foxglove", self.name)
        video: _Video | None = None
        if exported.images == "video":
            video = _video(exported, foxglove)
        options = foxglove.mcap.MCAPWriteOptions(profile="")
        context = foxglove.Context()
        with path.open("wb") as file:
            careful = _File(file)
            with foxglove.open_mcap(careful, context=context, writer_options=options) as writer:
                writer.write_metadata("dgrec", _description(exported))
                topics = _Topics(foxglove, context, exported, video)
                for frame in exported.frames():
                    topics.write(frame)
                    careful.check()
            careful.check()


class _File:
    """A file that keeps its first error: Foxglove's writer prints errors, and goes on.

    After an error it goes on as if all had been written: the writer panics if positions are not
    those that it expects.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None
        #: Where the writer is, and where the file ends for it.
        self._at = self._end = 0

    def write(self, data: bytes) -> int:
        self._try(self._file.write, data)
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._try(self._file.seek, self._at)
        return self._at

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, action: Callable[..., object], *arguments: object) -> None:
        if self._error is None:
            try:
                action(*arguments)
            except OSError as error:
                self._error = error

    def check(self) -> None:
        """Raise the first error."""
        if self._error is not None:
            raise self._error


def _description(exported: Exported) -> dict[str, str]:
    model = exported.metadata.get("model", {})
    return {
        "session": session_name(exported.session),
        "session_id": utf8(exported.session.id),
        "model": utf8(model.get("name") or ""),
    }


def _video(exported: Exported, foxglove: Any) -> _Video | None:
    try:
        return _Video(VideoPackets(exported), foxglove)
    except UnsuitableVideoError as error:
        exported.lack_video(error, "Foxglove cannot show")
    return None


class _Video:
    """The packets of a video, which are written when the frames that they show are."""

    def __init__(self, packets: VideoPackets, foxglove: Any) -> None:
        self.packets = packets
        self._foxglove = foxglove
        self._data = enumerate(packets)
        self._next = 0
        #: The packet of the last frame, and its time.
        self._before: tuple[int, int] | None = None

    def write(self, channel: Any, frame: Frame, at_ns: int) -> None:
        """Write the packets up to a frame's, from the key frame before it on."""
        index = frame.row[self.packets.column]
        if index is None or index < self._next:
            return
        start = max(self._next, self.packets.start_of(index))
        codec = {"hevc": "h265"}.get(self.packets.codec, self.packets.codec)
        while self._next <= index:
            number, data = next(self._data)
            self._next = number + 1
            if number < start:
                continue
            stamp_ns = self._time_of(number, index, at_ns)
            message = self._foxglove.messages.CompressedVideo(
                timestamp=_stamp(self._foxglove, stamp_ns),
                frame_id=_CAMERA,
                data=data,
                format=codec,
            )
            channel.log(message, log_time=stamp_ns)
        self._before = index, at_ns

    def _time_of(self, number: int, index: int, at_ns: int) -> int:
        """Return the time of a packet; ``index`` is the next one that shows a frame, at ``at_ns``.

        Frames of the video that are not exported have no time of capture of their own: they are
        placed between those that are, in proportion to their times in the video.
        """
        times_s = self.packets.times_s
        left_s = float(times_s[index] - times_s[number])
        if self._before is None:
            return max(0, at_ns - round(left_s * 1e9))
        before, before_ns = self._before
        whole_s = float(times_s[index] - times_s[before])
        if whole_s <= 0:  # a video may give the same time for all frames
            return at_ns
        return at_ns - round((at_ns - before_ns) * left_s / whole_s)


class _Topics:
    """Writes the messages of frames."""

    def __init__(
        self, foxglove: Any, context: Any, exported: Exported, video: _Video | None
    ) -> None:
        self._foxglove, self._exported, self._video = foxglove, exported, video
        self._labels: dict[tuple[str | None, int | None], tuple[Any, list[Any]]] = {}
        channels = foxglove.channels
        self._annotations = channels.ImageAnnotationsChannel("/annotations", context=context)
        self._metrics = foxglove.Channel("/metrics", schema=_SCHEMA, context=context)
        if video is not None:
            self._pictures = channels.CompressedVideoChannel("/video", context=context)
        elif exported.pictures is not None:
            self._pictures = channels.CompressedImageChannel("/image", context=context)

    def write(self, frame: Frame) -> None:
        captured = frame.row["captured_at"]
        if captured is None or not 0 < captured < 2**32 * 1_000_000:
            self._exported.leave_out_frames("without possible times", 1, len(frame.detections))
            return
        at_ns = captured * 1000
        if self._video is not None:
            self._video.write(self._pictures, frame, at_ns)
        elif self._exported.pictures is not None:
            self._write_picture(frame, at_ns)
        self._annotations.log(self._annotation(frame, at_ns), log_time=at_ns)
        self._metrics.log(_metrics(frame), log_time=at_ns)

    def _write_picture(self, frame: Frame, at_ns: int) -> None:
        data = self._exported.picture(frame.position)
        if data is not None:
            kind = {"jpg": "jpeg"}.get(self._exported.images, self._exported.images)
            message = self._foxglove.messages.CompressedImage(
                timestamp=_stamp(self._foxglove, at_ns), frame_id=_CAMERA, data=data, format=kind
            )
            self._pictures.log(message, log_time=at_ns)

    def _of_label(self, label: str | None, category_id: int | None) -> tuple[Any, list[Any]]:
        """Return the colour of a label, and its entries in an annotation's metadata."""
        found = self._labels.get((label, category_id))
        if found is None:
            messages = self._foxglove.messages
            facts = (("label", label), ("category_id", category_id))
            named = [
                messages.KeyValuePair(key=key, value=str(value))
                for key, value in facts
                if value is not None
            ]
            found = self._labels[label, category_id] = _color(messages, label), named
        return found

    def _annotation(self, frame: Frame, at_ns: int) -> Any:
        messages = self._foxglove.messages
        point, pair = messages.Point2, messages.KeyValuePair
        line_loop = messages.PointsAnnotationType.LineLoop
        stamp = _stamp(self._foxglove, at_ns)
        points, texts = [], []
        for each in frame.detections:
            color, named = self._of_label(each.label, each.category_id)
            corners = [point(x=x, y=y) for x, y in corners_of(each.box, each.angle)]
            notes, caption = named.copy(), [each.label] if each.label else []
            if each.score is not None:
                notes.append(pair(key="score", value=repr(each.score)))
                caption.append(f"{each.score:.2f}")
            if each.track_id is not None:
                notes.append(pair(key="track_id", value=str(each.track_id)))
                caption.append(f"#{each.track_id}")
            if each.angle is not None:
                notes.append(pair(key="angle", value=repr(each.angle)))
                notes.append(pair(key="bbox", value=json.dumps(each.box)))
            points.append(
                messages.PointsAnnotation(
                    timestamp=stamp,
                    type=line_loop,
                    points=corners,
                    outline_color=color,
                    thickness=2.0,
                    metadata=notes,
                )
            )
            if each.landmarks:
                points.append(_key_points(messages, stamp, color, each.landmarks))
            texts.append(
                messages.TextAnnotation(
                    timestamp=stamp,
                    position=corners[0],
                    text=" ".join(caption),
                    font_size=12.0,
                    text_color=color,
                )
            )
        return messages.ImageAnnotations(points=points, texts=texts)


def _key_points(messages: Any, stamp: Any, color: Any, landmarks: list[dict[str, Any]]) -> Any:
    places = [point["landmark"][:2] for point in landmarks if len(point["landmark"] or ()) >= 2]
    return messages.PointsAnnotation(
        timestamp=stamp,
        metadata=[messages.KeyValuePair(key="landmarks", value=json.dumps(landmarks))],
        type=messages.PointsAnnotationType.Points,
        points=[messages.Point2(x=x, y=y) for x, y in places if math.isfinite(x + y)],
        outline_color=color,
        thickness=4.0,
    )


def _color(messages: Any, label: str | None) -> Any:
    """Return the colour of a label: the same one in every frame and every export."""
    number = zlib.crc32((label or "").encode())
    hue = number % 360 / 60
    parts = [min(max(abs((hue + shift) % 6 - 3) - 1, 0.0), 1.0) for shift in (0, 4, 2)]
    red, green, blue = (0.25 + 0.75 * part for part in parts)
    return messages.Color(r=red, g=green, b=blue, a=1.0)


def _metrics(frame: Frame) -> dict[str, Any]:
    row = frame.row
    values = {
        "frame": frame.number,
        "source_frame": row["source_frame"],
        "time_s": frame.time_us / 1e6,
        "media_time_s": row["media_time_s"],
        "width": row["width"],
        "height": row["height"],
        "detections": len(frame.detections),
        **{name: row[name] for name in METRICS},
    }
    return {
        name: value for name, value in values.items() if value is not None and math.isfinite(value)
    }


def _stamp(foxglove: Any, at_ns: int) -> Any:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return foxglove.messages.Timestamp(sec=seconds, nsec=rest)

"""A part of a session, or all of its moments that match, as a session of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec import metadata as metadata_module
from dgrec.errors import OutputError, QueryError, VideoError
from dgrec.metadata import Metadata
from dgrec.parts import parts_of
from dgrec.sealed import write_sealed
from dgrec.session import Session
from dgrec.video import Image, VideoWriter, check_output, import_av
from replay.footage.pixels import Footage, Pixels, files_of, find_footage, find_recorded
from replay.footage.timeline import Timeline, cuts_of
from replay.footage.video import Clip
from replay.query.reader import SqlReader, check_only_reads
from replay.rendering.render import Canvas

__all__ = ["ClipReport", "Span", "spans_where", "write_clip"]

_MICROSECOND = Fraction(1, 1_000_000)
_TIME_TOLERANCE_US = 2
_SUMMED = {
    "skipped": "skipped_before",
    "dropped": "dropped_before",
    "dropped_camera": "dropped_camera",
    "dropped_queue": "dropped_queue",
    "dropped_writer": "dropped_writer",
}
#: What the metadata says of the whole recording, or of one part of it, and not of a clip.
_NOT_OF_A_CLIP = ("part", "parts", "damage", "video", "end_detail", "totals")


@dataclass(frozen=True, slots=True)
class Span:
    """Frames that follow one another: places in the session, from 0; ``end`` is not in it."""

    start: int
    end: int


@dataclass
class ClipReport:
    """What was written."""

    frames: int
    spans: int
    #: Videos beside the clip, and whether each is a copy of the recorded one, bit by bit.
    videos: list[tuple[Path, bool]] = field(default_factory=list)
    #: What the user should know, a line each.
    notes: list[str] = field(default_factory=list)


def spans_where(
    session: Session, predicate: str, pad_us: int = 0, within: Span | None = None
) -> list[Span]:
    """Return the moments at which a DuckDB predicate on the view ``frames`` holds.

    Args:
        session: The session.
        predicate: Such as ``latency_ms > 100``.
        pad_us: Microseconds to add before and after each, on the session's time line. Moments
            that then overlap, or touch, become one.
        within: Where to look, and to end; everywhere by default.

    Raises:
        QueryError: DuckDB refuses the predicate.
    """
    text = f"SELECT frame FROM frames WHERE (\n{predicate}\n)"
    with SqlReader([session]) as reader:
        try:
            check_only_reads(reader.connection, text)
            matching = [
                number for batch in reader.stream(text).batches for number in batch[0].to_pylist()
            ]
        except QueryError as error:
            raise QueryError(f"--where {predicate!r}: {error}") from None
    frames, times = _times(session)
    limit = within or Span(0, len(frames))
    places = np.unique(np.searchsorted(frames, np.array(matching, np.int64)))
    spans: list[Span] = []
    for place in places[(places >= limit.start) & (places < limit.end)].tolist():
        start = int(np.searchsorted(times, times[place] - pad_us, "left"))
        end = int(np.searchsorted(times, times[place] + pad_us, "right"))
        start, end = max(start, limit.start), min(end, limit.end)
        if spans and start <= spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(end, spans[-1].end))
        else:
            spans.append(Span(start, end))
    return spans


def _times(session: Session) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the number of each row's frame, and its microseconds on the session's time line."""
    frames: list[int] = []
    times: list[int] = []
    timeline = Timeline(cuts_of(session.metadata))
    for batch in session.batches(["frame", "media_time_s", "captured_at"]):
        for row in batch.to_pylist():
            frames.append(row["frame"])
            times.append(timeline.pts_us(row))
    return np.array(frames, np.int64), np.array(times, np.int64)


def write_clip(
    session: Session,
    spans: Sequence[Span],
    output: Path,
    *,
    with_video: bool = False,
    overwrite: bool = False,
    description: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] = lambda place: None,
) -> ClipReport:
    """Write some of a session's frames, and their part of its videos, as a new session.

    Rows stay as they are but for ``frame``, which counts from 0 again, and ``video_frame``, which
    counts in the clip's own video. Recorded videos are copied, bit by bit, where every span begins
    with a key frame of theirs, and encoded anew otherwise. Pixels of a session that was recorded
    from a file stay in that file.

    Args:
        session: Where from; of any form, a journal too.
        spans: In order, and apart from each other.
        output: The clip; it ends in ``.parquet``.
        with_video: Whether pixels that stand in a source file are written beside the clip too.
        overwrite: Whether what is there already may be replaced.
        description: What the metadata says of how the spans were chosen.
        progress: Called for each frame that was encoded.

    Raises:
        OutputError: Something is there already, or cannot be written.
        VideoError: There are no pixels to put beside it, or they cannot be encoded.
    """
    if not spans:
        raise VideoError(f"{session.path}: no frames are selected")
    check_clip_output(session, output, with_video=with_video, overwrite=overwrite)
    rows = _Rows(session, spans)
    report = ClipReport(rows.count, len(spans))
    videos: list[dict[str, Any]] = []
    written: list[Path] = []
    try:
        for video in _recorded_videos(session, rows, report):
            path = _video_path(output, video.kind)
            if entry := _cut(video, rows, path, overwrite, report, progress):
                written.append(path)
                videos.append(entry)
        if with_video and not any(video["kind"] == "raw" for video in videos):
            path = _video_path(output, "raw")
            videos.append(_from_source(session, rows, path, overwrite, report, progress))
            written.append(path)
        metadata = _metadata(session, rows, output, videos, dict(description or {}))
        write_sealed(
            output,
            session.schema,
            rows.batches(has_video=bool(videos)),
            lambda: {**metadata, "totals": rows.totals},
            replace=overwrite,
        )
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return report


def check_clip_output(
    session: Session, output: Path, *, with_video: bool = False, overwrite: bool = False
) -> None:
    """Raise `OutputError` if a clip cannot be written to ``output``, before any work is done."""
    if output.suffix != ".parquet":
        raise OutputError(f"{output}: a clip is a session; choose a name that ends in .parquet")
    kinds = {str(item.get("kind")) for item in session.metadata.get("video", [])}
    kinds |= {"raw"} if with_video else set()
    for path in (output, *(_video_path(output, kind) for kind in sorted(kinds))):
        if path.exists() and any(path.samefile(file) for file in files_of(session)):
            raise OutputError(f"{path}: belongs to the session that the clip is cut from")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder")
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already; choose another name or say --overwrite")
    if not output.parent.is_dir():
        raise OutputError(f"{output}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise OutputError(f"{output}: cannot be written: the folder is read-only")
    if not output.exists() and parts_of(output):
        raise OutputError(f"{output}: a recording in parts has this name; choose another")


# --- rows --------------------------------------------------------------------------------------


class _Rows:
    """The chosen rows, and where in the clip's video each will be."""

    def __init__(self, session: Session, spans: Sequence[Span]) -> None:
        self.session = session
        self.spans = list(spans)
        self.count = sum(span.end - span.start for span in spans)
        self.totals: dict[str, int] = {}
        columns = ["frame", "source_frame", "media_time_s", "captured_at", "completed_at"]
        columns += ["video_frame", "width", "height", *_SUMMED.values()]
        columns = [name for name in columns if name in session.schema.names]
        #: Small columns of the chosen rows, in order: all that cutting a video needs.
        self.facts = pa.Table.from_batches(
            [part for _, part in self._chosen(columns)],
            pa.schema([session.schema.field(name) for name in columns]),
        )
        self.from_frames = self.facts["frame"].to_pylist()
        #: Place of the first row of each span in the clip.
        self.starts = np.cumsum([0, *(span.end - span.start for span in spans)])[:-1].tolist()
        #: By place in the clip: the frame of the clip's video; None if it is not in it.
        self.video_frames: list[int | None] = [None] * self.count
        self.totals = {
            name: int(sum(self.facts[column].to_pylist()))
            for name, column in _SUMMED.items()
            if column in columns
        }
        if self.totals:
            self.totals["source_frames"] = (
                self.count + self.totals["skipped"] + self.totals["dropped"]
            )

    def times_us(self, *, of_source: bool) -> list[int]:
        """Return the time of each row in a video: on the source's time line, or as captured.

        The last one is where the video ends. Spans follow each other without a gap.
        """
        timeline = Timeline(self.starts)
        rows = self.facts.select(["media_time_s", "captured_at"]).to_pylist()
        times = []
        for number, row in enumerate(rows):
            row["frame"] = number
            if not of_source:
                row["media_time_s"] = None
            times.append(timeline.pts_us(row))
        return [*times, times[-1] + timeline.step_us]

    def _chosen(self, columns: list[str] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (place in the clip, rows) of the session's rows that were chosen."""
        spans = iter(self.spans)
        span = next(spans, None)
        place = written = 0
        for batch in self.session.batches(columns):
            end = place + batch.num_rows
            while span is not None and span.start < end:
                first, last = max(span.start, place), min(span.end, end)
                if last > first:
                    yield written, batch.slice(first - place, last - first)
                    written += last - first
                if span.end > end:
                    break
                span = next(spans, None)
            if span is None:
                return
            place = end

    def batches(self, *, has_video: bool) -> Iterator[pa.RecordBatch]:
        """Yield the rows as they stand in the clip."""
        for place, batch in self._chosen(None):
            numbers = range(place, place + batch.num_rows)
            replaced = {"frame": pa.array(numbers, pa.int64())}
            if "video_frame" in batch.schema.names:
                frames = [self.video_frames[number] for number in numbers]
                replaced["video_frame"] = pa.array(frames, pa.int64())
                states = batch.column("video_state").to_pylist()
                lost = "not in the video that the clip was cut from" if has_video else "not cut"
                replaced["video_state"] = pa.array(
                    [
                        state if frame is not None or before is None else lost
                        for state, frame, before in zip(
                            states, frames, batch.column("video_frame").to_pylist(), strict=True
                        )
                    ],
                    pa.string(),
                )
            arrays = [replaced.get(name, batch.column(name)) for name in batch.schema.names]
            yield pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _metadata(
    session: Session,
    rows: _Rows,
    output: Path,
    videos: list[dict[str, Any]],
    description: dict[str, Any],
) -> Metadata:
    """Return what the clip says of itself; what it was recorded with stays as it is."""
    old = session.metadata
    metadata = {key: value for key, value in old.items() if key not in _NOT_OF_A_CLIP}
    ends = [*rows.starts[1:], rows.count]
    clip: dict[str, Any] = {
        "session_id": old.get("session_id"),
        "name": old.get("name"),
        "ranges": [
            {"first_frame": start, "frames": end - start, "from_frame": rows.from_frames[start]}
            for start, end in zip(rows.starts, ends, strict=True)
        ],
        **description,
    }
    if "clip" in old:
        clip["clip"] = old["clip"]
    if session.damage:
        clip["damage"] = list(session.damage)
    metadata |= {
        "session_id": str(metadata_module.uuid7()),
        "name": output.stem,
        "started_at": _utc(rows.facts["captured_at"][0].as_py()),
        "ended_at": _utc(rows.facts["completed_at"][-1].as_py()),
        "end_reason": "clip",
        "clip": clip,
    }
    if videos:
        metadata["video"] = videos
    if isinstance(old.get("source"), dict):
        metadata["source"] = _moved(old["source"], session.path, output)
    if isinstance(old.get("events"), list):
        numbers = rows.facts["source_frame"].to_pylist()
        ranges = [
            (numbers[start], numbers[end - 1]) for start, end in zip(rows.starts, ends, strict=True)
        ]
        metadata["events"] = [event for event in old["events"] if _is_within(event, ranges)]
    return metadata


def _utc(stamp: dt.datetime) -> str:
    text = stamp.astimezone(dt.UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def _moved(source: Mapping[str, Any], session: Path, output: Path) -> dict[str, Any]:
    """Return the facts about the source with its path as the clip sees it."""
    moved = dict(source)
    if isinstance(source.get("relative"), str) and source["relative"]:
        path = session.absolute().parent / source["relative"]
        with contextlib.suppress(ValueError):  # another drive
            relative = os.path.relpath(path.resolve(), output.absolute().parent.resolve())
            moved["relative"] = Path(relative).as_posix()
    return moved


def _is_within(event: Any, ranges: Sequence[tuple[int, int]]) -> bool:
    number = event.get("source_frame") if isinstance(event, Mapping) else None
    return not isinstance(number, int) or any(first <= number <= last for first, last in ranges)


# --- videos ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recorded:
    """A video that was recorded, in as many files as the recording has parts."""

    kind: str
    footage: Footage
    #: By place in the clip: file and number of the frame in it; None where it has none.
    frames: list[tuple[Path, int] | None]
    entry: Mapping[str, Any]


def _video_path(output: Path, kind: str) -> Path:
    return output.with_suffix(".mp4" if kind == "raw" else ".annotated.mp4")


def _recorded_videos(session: Session, rows: _Rows, report: ClipReport) -> Iterator[_Recorded]:
    """Yield the raw and the annotated video, where the session has them."""
    if "video_frame" not in rows.facts.schema.names:
        return
    numbers = rows.facts["video_frame"].to_pylist()
    for kind in ("raw", "annotated"):
        footage, lacking = find_recorded(session, kind)
        frames: list[tuple[Path, int] | None] = [None] * rows.count
        gone = 0
        for place, (frame, number) in enumerate(zip(rows.from_frames, numbers, strict=True)):
            if number is None:
                continue
            path = None if footage is None else footage.part_with(frame).path
            if path is not None:
                frames[place] = path, number
            gone += path is None
        if lacking and gone:
            of = "1 frame of the clip is" if gone == 1 else f"{gone:,} frames of the clip are"
            report.notes.append(f"{lacking}: {of} not in its {kind} video")
        if footage is not None and any(frame is not None for frame in frames):
            videos = session.metadata.get("video", [])
            entry = next(item for item in videos if item.get("kind") == kind)
            yield _Recorded(kind, footage, frames, entry)


def _cut(
    video: _Recorded,
    rows: _Rows,
    path: Path,
    overwrite: bool,
    report: ClipReport,
    progress: Callable[[int], None],
) -> dict[str, Any] | None:
    """Write the clip's part of a recorded video; return what the metadata says of it."""
    places = _copy_packets(video, rows, path)
    copied = places is not None
    if places is None:
        try:
            places = _encode_again(video, rows, path, overwrite, report, progress)
        except VideoError as error:
            report.notes.append(f"{error}: the clip has no {video.kind} video")
            return None
    if not places:
        report.notes.append(f"none of the frames is in the {video.kind} video")
        return None
    if report.videos and [rows.video_frames[place] for place in places] != list(range(len(places))):
        # One column numbers both: the raw video's frames are what it counts.
        path.unlink()
        report.notes.append(f"the {video.kind} video has other frames than the raw one: left out")
        return None
    _number_video(rows, places)
    report.videos.append((path, copied))
    known = video.entry if copied else {}
    return _entry(path, video.kind, len(places), _pts_zero(rows, places), known)


def _number_video(rows: _Rows, places: Sequence[int]) -> None:
    for index, place in enumerate(places):
        rows.video_frames[place] = index


def _pts_zero(rows: _Rows, places: Sequence[int]) -> str:
    return _utc(rows.facts["captured_at"][places[0]].as_py())


def _entry(
    path: Path, kind: str, frames: int, started_at: str, old: Mapping[str, Any]
) -> dict[str, Any]:
    clip = Clip(path)
    image = clip.read(0)
    clip.close()
    assert image is not None  # it was written just now, with at least one frame
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "file": path.name,
        "kind": kind,
        "codec": old.get("codec", "h264"),
        "width": image.shape[1],
        "height": image.shape[0],
        "frames": frames,
        "started_at": started_at,
        "size": path.stat().st_size,
        "sha256": digest,
    }


def _durations(
    rows: _Rows, places: Sequence[int], *, of_source: bool = False
) -> Iterator[tuple[int, int, int]]:
    """Yield (place, pts, duration) in microseconds, counted from the first of ``places``."""
    every = rows.times_us(of_source=of_source)
    times = [every[place] - every[places[0]] for place in places]
    times.append(times[-1] + every[places[-1] + 1] - every[places[-1]])
    for place, (time, following) in zip(places, itertools.pairwise(times), strict=True):
        yield place, time, following - time


def _encode_again(
    video: _Recorded,
    rows: _Rows,
    path: Path,
    overwrite: bool,
    report: ClipReport,
    progress: Callable[[int], None],
) -> list[int]:
    """Decode and encode the clip's frames; return their places, in order.

    `Pixels` holds each against its row: a video that was replaced would give other frames, which
    nothing could tell from the right ones any more once they are in the clip.
    """
    inside = [place for place, frame in enumerate(video.frames) if frame is not None]
    with Pixels(video.footage) as pixels:
        times = _durations(rows, inside)
        places = _write_frames(rows, times, pixels.stored, path, overwrite, progress)
        report.notes += pixels.notes()
        return places


def _write_frames(
    rows: _Rows,
    times: Iterable[tuple[int, int, int]],
    pixels_of: Callable[[dict[str, Any]], Image | None],
    path: Path,
    overwrite: bool,
    progress: Callable[[int], None],
) -> list[int]:
    """Encode the frames that have pixels; return their places in the clip.

    ``times`` are what `_durations` gives: place, microseconds, and for how many.
    """
    facts = rows.facts.to_pylist()
    places: list[int] = []
    with contextlib.ExitStack() as stack:
        writer: VideoWriter | None = None
        canvas = Canvas(0, 0)
        zero_us = 0  # of the first frame that there is: it is shown at 0
        for place, pts_us, duration_us in times:
            image = pixels_of(facts[place])
            if image is None:
                continue
            if writer is None:
                canvas = Canvas(image.shape[1], image.shape[0])
                writer = VideoWriter(path, canvas.width, canvas.height, overwrite=overwrite)
                stack.enter_context(writer)
                zero_us = pts_us
            writer.write(canvas.fit(image), pts_us - zero_us, duration_us)
            places.append(place)
            progress(place)
    return places


def _from_source(
    session: Session,
    rows: _Rows,
    path: Path,
    overwrite: bool,
    report: ClipReport,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Encode the clip's part of the source file beside the clip."""
    check_output(path, overwrite=overwrite)
    footage = find_footage(session)
    if footage.path is None:
        raise VideoError(
            f"{session.path}: there is no video to put beside the clip: "
            f"{footage.note.partition(': drawing on')[0]}"
        )
    with Pixels(footage) as pixels:
        times = _durations(rows, range(rows.count), of_source=True)
        places = _write_frames(rows, times, pixels.frame, path, overwrite, progress)
        report.notes += pixels.notes()
    if not places:
        raise VideoError(f"{footage.path}: has none of the clip's frames")
    _number_video(rows, places)
    report.videos.append((path, False))
    return _entry(path, "raw", len(places), _pts_zero(rows, places), {})


def _parts_used(video: _Recorded, rows: _Rows) -> Iterator[Footage]:
    for frame, file in zip(rows.from_frames, video.frames, strict=True):
        if file is not None:
            yield video.footage.part_with(frame)


def _copy_packets(video: _Recorded, rows: _Rows, path: Path) -> list[int] | None:
    """Copy the clip's frames without decoding them; return their places.

    None, and nothing written, where that would not give the very frames: a span does not begin
    with a key frame, frames are stored out of order, or files were encoded differently.
    """
    if any(part.note for part in _parts_used(video, rows)):
        return None  # it is not as it was recorded: each frame has to be held against its row
    wanted = [(place, *frame) for place, frame in enumerate(video.frames) if frame is not None]
    runs: list[list[tuple[int, Path, int]]] = []
    for item in wanted:
        last = runs[-1][-1] if runs else None
        if last is not None and (item[1], item[2]) == (last[1], last[2] + 1):
            runs[-1].append(item)
        else:
            runs.append([item])
    av = import_av()
    temporary = path.with_name(f".{path.name}.cutting")
    times = {place: (pts, step) for place, pts, step in _durations(rows, [w[0] for w in wanted])}
    try:
        files = [_Packets(file) for file in dict.fromkeys(item[1] for item in wanted)]
    except (OSError, av.FFmpegError, VideoError):
        return None  # decoding may still get at some of it
    if not all(file.in_order and file.facts == files[0].facts for file in files):
        return None
    keys = {file.path: file.keys for file in files}
    times_us = {file.path: file.times_us for file in files}
    stamps = rows.facts["captured_at"].to_pylist()
    for place, name, number in wanted:
        # Where nobody took a digest, the times tell whether these are the frames of the rows.
        part = video.footage.part_with(rows.from_frames[place])
        if part.changed and part.started_at is not None and number < len(keys[name]):
            offset_us = (stamps[place] - part.started_at) / dt.timedelta(microseconds=1)
            if abs(times_us[name][number] - offset_us) > _TIME_TOLERANCE_US:
                return None
    # A run ends where the video ended early; one that is not there at all is left out.
    parts = [[item for item in run if item[2] < len(keys[item[1]])] for run in runs]
    parts = [part for part in parts if part]
    if not all(keys[part[0][1]][part[0][2]] for part in parts):
        return None
    if not parts:
        return []
    places = [item[0] for part in parts for item in part]
    start = times[places[0]][0]
    try:
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(
                av.open(
                    os.path.abspath(temporary),
                    "w",
                    format="mp4",
                    options={"movflags": "+faststart", "video_track_timescale": "1000000"},
                )
            )
            target: Any = None
            for file in files:
                source = stack.enter_context(av.open(os.path.abspath(file.path)))
                stream = source.streams.video[0]
                if target is None:
                    target = output.add_stream_from_template(stream)
                    target.time_base = _MICROSECOND
                chosen = {
                    number: place
                    for part in parts
                    for place, path_, number in part
                    if path_ == file.path
                }
                packets = (packet for packet in source.demux(stream) if packet.size)
                for number, packet in enumerate(packets):
                    if number in chosen:
                        pts, duration = times[chosen[number]]
                        packet.stream, packet.time_base = target, _MICROSECOND
                        packet.pts = packet.dts = pts - start
                        packet.duration = duration
                        output.mux(packet)
        os.replace(temporary, path)
    except (OSError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"{path}: cannot be written: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return places


class _Packets:
    """What the packets of a video are like, one for each frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with import_av().open(os.path.abspath(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: has no video")
            stream = container.streams.video[0]
            context = stream.codec_context
            #: What must be equal for packets of two files to go into one.
            self.facts = (context.name, context.width, context.height, context.extradata)
            #: Whether each is a key frame.
            self.keys: list[bool] = []
            #: When each is shown.
            self.times_us: list[int] = []
            #: Whether frames are stored in the order they are shown in.
            self.in_order = True
            for packet in container.demux(stream):
                if packet.size:
                    self.keys.append(bool(packet.is_keyframe))
                    self.times_us.append(round((packet.pts or 0) * stream.time_base * 1_000_000))
                    self.in_order = self.in_order and packet.pts == packet.dts

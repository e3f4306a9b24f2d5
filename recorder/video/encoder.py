"""Encodes the frames of rows in a thread of its own, beside the inference loop.

A video of the source's own packets is written by the same thread (`VideoRecorder.keep`).

Whether a frame goes into the video is decided before its row is made, since the row records it.
Frames wait in a bounded queue. If that is full, the frame is left out (`VideoState`), or the loop
waits if its source can.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dgrec.format import Row
from dgrec.overlay import image_overlay
from dgrec.recorder.segments import Names, Segment
from dgrec.recorder.video.file import VideoFile
from dgrec.recorder.video.kept_order import Group, KeptPlace, TimedPacket
from dgrec.recorder.video.segment import SegmentVideos, VideoOptions
from dgrec.units import counted
from dgrec.video import KeptPacket

if TYPE_CHECKING:
    from dgrec.recorder.sources import Frame

#: Why a row of a recording with video has no `video_frame`: see docs/format.md.
VideoState = Literal["encoder_busy", "encoder_failed", "part_not_begun", "no_key_frame", "damaged"]


class VideoPlace(NamedTuple):
    """The number of a frame in the video, or why it is not in there."""

    frame: int | None
    state: VideoState | None


NO_VIDEO = VideoPlace(None, None)

#: The most that may wait for the encoder: two seconds at 30 frames per second.
_QUEUE_FRAMES = 60
_QUEUE_BYTES = 256 << 20

#: For the encoder's thread beside a live source. On two cores with eight other busy processes,
#: inference kept 0.82 to 0.85 of its rate with it and 0.54 to 0.60 without
#: (bench/video_throughput.py).
_NICENESS = 10


@dataclass(slots=True)
class _Task:
    """A task of the encoder's thread: a frame, or an action on a segment's videos."""

    videos: SegmentVideos
    image: Any = None
    result: Any = None
    pts_us: int = 0
    packets: Sequence[TimedPacket] = ()
    action: Literal["write", "write ahead", "close", "discard"] = "write"

    @property
    def frames(self) -> int:
        return 1 if self.action == "write" else 0

    @property
    def size(self) -> int:
        packets = sum(int(timed.packet.size) for timed in self.packets)
        return packets + (int(self.image.nbytes) if self.image is not None else 0)


class VideoRecorder:
    """Encodes the frames of rows in its own thread.

    `add` is called by the recording loop, before the row is made. Without kinds of video it does
    nothing.

    Args:
        names: The names of the sessions that the videos belong to.
        replaces: Videos of an older recording, which stay until the new session is sealed.
    """

    def __init__(self, options: VideoOptions, names: Names, replaces: Iterable[Path] = ()) -> None:
        self.options = options
        #: How many frames are in the video, and how many were left out, by reason.
        self.recorded = 0
        self.states: Counter[VideoState] = Counter()
        self._unkept = 0  # frames of a connection whose packets cannot be kept
        self.all: list[SegmentVideos] = []
        self._names = names
        self._replaces = tuple(replaces)
        self._group = Group()
        self._segment: Segment | None = None
        self._segments: list[Segment] = []
        self._tasks: deque[_Task] = deque()
        self._waiting_bytes = self._waiting_frames = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def begin(self, number: int) -> SegmentVideos:
        """Return the videos of segment ``number``; their files are made with the first frame."""
        videos = SegmentVideos(self.options, self._names.path(number), self._replaces)
        self.all.append(videos)
        return videos

    def take(self, segment: Segment, frame: Frame, result: Any) -> VideoPlace:
        """Take a frame, its packets or its pixels, or leave it out; return which."""
        if self.options.packets is not None:
            return self.keep(segment, frame.packets, frame.packet)
        return self.add(segment, frame.image, result, frame.captured_ns)

    def add(self, segment: Segment, image: Any, result: Any, captured_ns: int) -> VideoPlace:
        """Take a frame or leave it out; return which.

        From now on ``image``, the source's own pixels, is read-only.
        """
        if not self.options.kinds:
            return NO_VIDEO
        self.change(segment)
        state = self._state_of(segment, int(image.nbytes))
        if state is not None:
            with self._changed:
                self.states[state] += 1
            return VideoPlace(None, state)
        # The encoder reads the pixels later: drawing on them fails instead of changing what is
        # recorded.
        image.flags.writeable = False
        frame, pts_us = segment.videos.place(captured_ns)
        with self._changed:
            self.recorded += 1
        self._put(_Task(segment.videos, image, result, pts_us))
        return VideoPlace(frame, None)

    def keep(
        self,
        segment: Segment,
        packets: Sequence[KeptPacket],
        own: KeptPacket | None,
        state: VideoState | None = None,
    ) -> VideoPlace:
        """Take the packets that came with a frame, which is in ``own``, or leave them out.

        Args:
            state: Why the frame has no packet, if that is known.
        """
        self.change(segment)
        self.pass_over(packets, own)
        if own is None and not packets and state is None:
            self._unkept += 1
        size = sum(packet.size for packet in packets)
        state = state or self._state_of(segment, size)
        place = KeptPlace(None, "no_key_frame", [])
        if state is None and own is not None:
            place = segment.videos.keep(packets, own, self._group)
        state = state or place.state
        with self._changed:
            if state is None:
                self.recorded += 1
            else:
                self.states[state] += 1
        if place.packets:
            self._put(_Task(segment.videos, packets=place.packets))
        return VideoPlace(place.number, state)

    def pass_over(self, packets: Sequence[KeptPacket], own: KeptPacket | None) -> None:
        """Note packets that the next segment may have to begin with."""
        if own is not None:
            self._group.add(packets, own)

    @property
    def group_bytes(self) -> int:
        """The size of the packets that the next segment may have to begin with."""
        return self._group.size

    def change(self, segment: Segment) -> None:
        """End the videos of the previous segment; discard those of parts that were not begun."""
        if segment is self._segment:
            return
        if self._segment is not None:
            self._end(self._segment.videos)
        for earlier in self._segments:
            if earlier.failed:  # the next attempt uses the same file names
                self._discard(earlier.videos)
        # Those that may still be begun.
        self._segments = [
            other for other in self._segments if not other.begun and not other.videos.is_discarded
        ]
        self._segments.append(segment)
        self._segment = segment

    def without_part(self, rows: list[Row]) -> list[Row]:
        """Return rows of a part that was not begun, without their places in its video."""
        if not self.options.kinds:
            return rows
        count = sum(row.video_frame is not None for row in rows)
        with self._changed:  # this is the writer's thread
            self.states["part_not_begun"] += count
            self.recorded -= count
        return [
            row
            if row.video_frame is None
            else row._replace(video_frame=None, video_state="part_not_begun")
            for row in rows
        ]

    @property
    def left_out(self) -> int:
        return self.states.total()

    @property
    def files(self) -> list[VideoFile]:
        """The files that were made, in order."""
        kept = [videos for videos in self.all if not videos.is_discarded]
        return [file for videos in kept for file in videos.files if file.is_made]

    @property
    def bytes_written(self) -> int:
        return sum(videos.bytes_written for videos in self.all)

    def expected_bytes(self, videos: SegmentVideos) -> int:
        """Return what a segment's files will take, with the frames that wait, and one more."""
        # Frames of the segment before may wait as well, so that nothing is known of this one.
        recent = [file for each in self.all[-3:] for file in each.files]
        frame = sum(file.bytes_written for file in recent) // max(1, sum(f.frames for f in recent))
        waiting = (max(0, videos.frames - f.frames) + 1 for f in videos.files if not f.failure)
        return videos.bytes_written + frame * sum(waiting)

    @property
    def needed_bytes(self) -> int:
        """The room that ending the videos may still take on disk: waiting frames, and an index."""
        frame = self.bytes_written // max(1, self.recorded - self._waiting_frames)
        index = 64 * self._segment.videos.frames if self._segment is not None else 0
        return frame * self._waiting_frames + index

    @property
    def failures(self) -> list[str]:
        """The reasons that videos ended before the recording did, or lack frames, a line each."""
        kept = [videos for videos in self.all if not videos.is_discarded]
        failed = [
            f"{file.path}: {file.failure} (it has {counted(file.frames, 'frame')})"
            for videos in kept
            for file in videos.files
            if file.failure is not None
        ]
        unkept = [
            f"The video lacks {counted(self._unkept, 'frame')}: the source came back with packets "
            "that cannot be kept, as of another codec, or of interlaced or turned pictures "
            "(--codec h264 encodes those of any source)"
        ]
        of_parts = [note for videos in kept for note in videos.notes]
        return [*failed, *(unkept if self._unkept else []), *of_parts]

    def close(self) -> None:
        """Encode what waits, end the videos, and stop the thread."""
        for segment in self._segments:
            if not segment.begun:  # its rows went to another part
                self._discard(segment.videos)
        for videos in self.all:
            self._end(videos)
        if self._segment is not None:
            self._end(self._segment.videos)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    # --- inside ---

    def _state_of(self, segment: Segment, size: int) -> VideoState | None:
        """Return why a frame of ``size`` bytes is left out, after waiting for room if allowed."""
        videos = segment.videos
        if segment.failed:
            self._discard(videos)
            return "part_not_begun"
        with self._changed:
            while not (videos.has_failed or self._has_room(size)):
                if self.options.policy == "leave-out":
                    return "encoder_busy"
                self._changed.wait()
        return "encoder_failed" if videos.has_failed else None

    def _has_room(self, size: int) -> bool:
        # A frame that is larger than the limit waits alone.
        return self._waiting_frames < _QUEUE_FRAMES and (
            not self._waiting_frames or self._waiting_bytes + size <= _QUEUE_BYTES
        )

    def _end(self, videos: SegmentVideos) -> None:
        if not (videos.is_ended or videos.is_discarded):
            videos.is_ended = True
            self._put(_Task(videos, packets=videos.last_packets(), action="close"))

    def _discard(self, videos: SegmentVideos) -> None:
        if not videos.is_discarded:
            videos.is_discarded = True
            self._put(_Task(videos, action="discard"))

    def _put(self, task: _Task) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dgrec-video", daemon=True)
                self._thread.start()
            self._tasks.append(task)
            self._waiting_frames += task.frames
            self._waiting_bytes += task.size
            self._changed.notify_all()

    def _run(self) -> None:
        if self.options.policy == "leave-out":
            _lower_priority()
        videos: SegmentVideos | None = None  # those of the last frame
        while (task := self._next_task(videos)) is not None:
            _do(task)
            if task.action == "write":
                videos = task.videos
            if task.action == "write ahead":
                continue
            with self._changed:
                # Only now, since the frame that is being encoded takes memory, too.
                self._tasks.popleft()
                self._waiting_frames -= task.frames
                self._waiting_bytes -= task.size
                self._changed.notify_all()

    def _next_task(self, videos: SegmentVideos | None) -> _Task | None:
        """Return the next task; None at the end."""
        due_s = None if videos is None else videos.ahead_due_s
        with self._changed:
            while not self._tasks:
                if self._is_closing:
                    return None
                timeout_s = None if due_s is None else due_s - time.monotonic()
                if videos is not None and timeout_s is not None and timeout_s <= 0:
                    return _Task(videos, action="write ahead")
                self._changed.wait(timeout_s)
            return self._tasks[0]


def _lower_priority() -> None:
    """Let inference go before this thread, and those of the encoder that it starts."""
    if sys.platform == "linux":  # elsewhere this would concern the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _do(task: _Task) -> None:
    result, videos = task.result, task.videos
    if task.action == "close":
        videos.write_packets(task.packets)
        videos.close()
    elif task.action == "write ahead":
        videos.write_ahead()
    elif task.action == "discard":
        videos.discard()
    elif videos.is_discarded:
        pass
    elif task.packets:
        videos.write_packets(task.packets)
    else:
        videos.write(task.image, lambda: image_overlay(result, task.image), task.pts_us)

"""The videos of one segment of a recording: their files, and their entries in the metadata."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from dgrec.errors import DgrecError, VideoError
from dgrec.format import Metadata, utc_text
from dgrec.paths import VideoKind, new_video_path, video_path
from dgrec.recorder.options import (
    DEFAULT_CODEC,
    DEFAULT_QUALITY,
    RecordingOptions,
    VideoPolicy,
)
from dgrec.recorder.video.codecs import CODECS, LOSSLESS, Codec, find_codec
from dgrec.recorder.video.file import EncodedVideo, KeptVideo, VideoFile
from dgrec.recorder.video.kept_order import Group, KeptOrder, KeptPlace, TimedPacket
from dgrec.recorder.video.mp4 import digest
from dgrec.timeline import VideoTimes
from dgrec.video import Image, KeptPacket, PacketFormat, repeats

Entry = dict[str, Any]


@dataclass(frozen=True)
class VideoOptions:
    """The videos that are recorded, and their settings.

    Args:
        kinds: ``raw``, as they came from the source; ``annotated``, with the overlay.
        quality: From 1 (smallest) to 100 (best).
        size: Width and height of the videos; None: those of the first frame, made even.
        aspect: Width / height of a pixel, for players; None: 1.
        policy: Whether the loop waits for the encoder, or leaves frames out of the video.
        packets: The raw video is made of packets of this format: those of the source, or of a
            `PacketEncoder`; None: pictures are encoded.
    """

    kinds: tuple[VideoKind, ...] = ()
    codec: Codec = CODECS[0]
    quality: int = DEFAULT_QUALITY
    size: tuple[int, int] | None = None
    policy: VideoPolicy = "block"
    aspect: Fraction | None = None
    packets: PacketFormat | None = None


_KINDS: dict[str, tuple[VideoKind, ...]] = {
    "auto": (),
    "none": (),
    "raw": ("raw",),
    "lossless": ("raw",),
    "annotated": ("annotated",),
    "both": ("raw", "annotated"),
}


def video_options(options: RecordingOptions) -> VideoOptions:
    """Return which videos are recorded; none for ``auto``, which depends on the source.

    Raises:
        VideoError: The installed PyAV has no encoder for it.
    """
    kinds = _KINDS[options.video]
    # A recording without video does not import PyAV, unless a codec was named: a mistyped name is
    # reported in any case.
    if not kinds and options.codec is None:
        return VideoOptions()
    return VideoOptions(
        kinds,
        LOSSLESS if options.video == "lossless" else find_codec(options.codec or DEFAULT_CODEC),
        options.video_quality or DEFAULT_QUALITY,
        options.video_size,
        options.video_policy or "block",
    )


class SegmentVideos:
    """The videos of one segment: the same frames in each, with the same numbers and times."""

    def __init__(self, options: VideoOptions, session: Path, replaced: Iterable[Path]) -> None:
        taken = set(replaced)
        self.files: list[VideoFile] = []
        self._is_lossless = options.codec.is_lossless
        self._encoded: list[EncodedVideo] = []
        self._kept: KeptVideo | None = None
        self._order: KeptOrder | None = None
        #: The name of each file once its session has replaced an older one.
        self._names: dict[VideoFile, Path] = {}
        for kind in options.kinds:
            path = name = video_path(session, kind)
            if path in taken:
                # The old session keeps its video until there is a new session.
                path = new_video_path(name)
            file: VideoFile
            if options.packets is not None:
                file = self._kept = KeptVideo(path, options.packets)
                self._order = KeptOrder(options.packets)
            else:
                file = EncodedVideo(
                    path, kind, options.codec, options.quality, options.size, options.aspect
                )
                self._encoded.append(file)
            self.files.append(file)
            self._names[file] = name
        #: How many frames were handed over, including repeated ones (`repeats`).
        self.frames = 0
        self.first_us = 0
        self._times = VideoTimes()
        #: What the encoder's thread is to do with them.
        self.is_ended = self.is_discarded = False
        self._closed = threading.Event()
        self._entries: list[Entry] | None = None
        if not self.files:
            self.is_discarded = True
            self._closed.set()

    def place(self, captured_ns: int) -> tuple[int, int]:
        """Return number and time of the next frame; the time in microseconds since the first."""
        captured_us = captured_ns // 1000  # the resolution of the column
        if not self.frames:
            self.first_us = captured_us
        last_us = self._times.now
        pts_us = self._times.at(captured_us)
        if self.frames:
            self.frames += len(repeats(last_us, pts_us))
        self.frames += 1
        return self.frames - 1, pts_us

    def keep(self, packets: Sequence[KeptPacket], own: KeptPacket, group: Group) -> KeptPlace:
        """Take the packets that came with a frame (`KeptOrder.add`)."""
        assert self._order is not None
        assert self._kept is not None
        if not self._order.has_begun and own.format is not self._kept.format:
            self._follow_format(own.format)
        placed = self._order.add(packets, own, group)
        self._follow_order()
        return placed

    def _follow_format(self, known: PacketFormat) -> None:
        """Begin with the packets of another connection, which may be of another codec."""
        assert self._kept is not None
        file = KeptVideo(self._kept.path, known)
        self._names[file] = self._names.pop(self._kept)
        self.files[self.files.index(self._kept)] = file
        self._kept, self._order = file, KeptOrder(known)

    @property
    def notes(self) -> list[str]:
        """Notes for the user about videos that were written."""
        return [*(note for file in self._encoded for note in file.notes), *self._end_of_format()]

    def _end_of_format(self) -> list[str]:
        if self._order is None or self._kept is None or self._order.refused is None:
            return []
        before, after = self._kept.format.name, self._order.refused.name
        what = f"from {before} to {after}" if before != after else f"the parameters of its {after}"
        return [
            f"{self._kept.path}: ends early: the source changed {what}, which cannot follow in one "
            "file (parts begin a new one: --split-every)"
        ]

    def last_packets(self) -> list[TimedPacket]:
        """Return the packets that are left at the end, to be given to `close`."""
        if self._order is None:
            return []
        packets = self._order.finish()
        self._follow_order()
        return packets

    def _follow_order(self) -> None:
        assert self._order is not None
        self.frames, self.first_us = self._order.count, self._order.first_us or 0

    def _keeps_source(self, file: VideoFile) -> bool:
        return self._kept is not None and file is self._kept and self._kept.format.is_of_source

    @property
    def has_failed(self) -> bool:
        """Return whether none of the videos can go on."""
        return all(file.failure for file in self.files)

    @property
    def bytes_written(self) -> int:
        return sum(file.bytes_written for file in self.files)

    def header(self, size: tuple[int, int]) -> Metadata:
        """Return the journal's metadata about the videos, as far as it is known at the start.

        ``size`` is that of the frames, or 0, 0 if unknown; the size of an overlay is unknown until
        one is drawn.
        """
        entries: list[Entry] = []
        for file in self.files:
            entry: Entry = {"file": file.path.name, "kind": file.kind, "codec": file.codec}
            width, height = file.size or (size if file.kind == "raw" else (0, 0))
            if self._keeps_source(file):
                entry |= {"packets": "kept", "width": width, "height": height}
            elif width and height and self._is_lossless:
                entry |= {"width": width, "height": height}
            elif width and height:
                entry |= {"width": width + width % 2, "height": height + height % 2}
            entries.append(entry)
        return {"video": entries} if entries else {}

    # --- in the encoder's thread ---

    def write(self, image: Image, draw: Callable[[], Image], pts_us: int) -> None:
        """Encode one frame into each video that has not failed."""
        for file in self._encoded:
            if file.failure is not None:
                continue
            with contextlib.suppress(DgrecError):  # kept in `file.failure`
                try:
                    picture = draw() if file.kind == "annotated" else image
                except Exception as error:  # the model's postprocessor, or an analyzer
                    file.fail(VideoError(f"the overlay cannot be drawn: {error}"))
                    continue
                file.write(picture, pts_us)

    def write_packets(self, packets: Sequence[TimedPacket]) -> None:
        """Write packets to the video that keeps them, unless it has failed."""
        if self._kept is not None and self._kept.failure is None:
            with contextlib.suppress(DgrecError):
                self._kept.write(packets)

    @property
    def ahead_due_s(self) -> float | None:
        """The time to call `write_ahead` if no frame comes before (`time.monotonic`)."""
        due = [file.ahead_due_s for file in self.files]
        return min((at_s for at_s in due if at_s is not None), default=None)

    def write_ahead(self) -> None:
        """Write frames to the files that would otherwise wait for the next one."""
        for file in self.files:
            with contextlib.suppress(DgrecError):
                file.write_ahead()

    def close(self) -> None:
        for file in self.files:
            with contextlib.suppress(DgrecError):
                file.close()
        self._closed.set()

    def discard(self) -> None:
        for file in self.files:
            file.discard()
        self._closed.set()

    # --- for sealing the segment ---

    def described(self) -> Metadata:
        """Wait for the encoder; return the session's metadata about the videos."""
        self._closed.wait()
        if self._entries is None:
            made = [] if self.is_discarded else [file for file in self.files if file.is_made]
            self._entries = [self._entry(file) for file in made]
        return {"video": self._entries} if self.files else {}

    def _entry(self, file: VideoFile) -> Entry:
        width, height = file.size or (0, 0)
        problem = file.failure
        entry: Entry = {
            "file": self._names[file].name,
            "kind": file.kind,
            "codec": file.codec,
            **({"packets": "kept"} if self._keeps_source(file) else {}),
            "width": width,
            "height": height,
            "frames": file.frames,
            "started_at": utc_text(self.first_us * 1000),
        }
        try:
            entry |= {"size": file.path.stat().st_size, "sha256": digest(file.path)}
        except OSError as error:
            problem = problem or f"cannot be read back: {error.strerror}"
        return {**entry, "problem": problem} if problem else entry

    def put_in_place(self) -> list[Path]:
        """Give the files their names, now that the old session is replaced; return them.

        Raises:
            OSError: A file cannot be renamed.
        """
        if self.is_discarded:
            return []
        made = [file for file in self.files if file.is_made]
        for file in made:
            name = self._names[file]
            if file.path != name:
                os.replace(file.path, name)
                file.path = name
        return [file.path for file in made]

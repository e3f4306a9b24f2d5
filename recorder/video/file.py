"""One recorded video: a file that can be played up to its last half second if killed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from dgrec.errors import OutputError, VideoError
from dgrec.files import output_error, write_error
from dgrec.paths import VideoKind
from dgrec.recorder.video.codecs import Codec
from dgrec.recorder.video.fragments import fragment_of
from dgrec.recorder.video.kept_order import TimedPacket
from dgrec.recorder.video.mp4 import drop_torn_end, frame_stamps
from dgrec.recorder.video.picture_encoder import PictureEncoder
from dgrec.video import MICROSECOND, Image, PacketFormat, copy_of, import_av, repeats

#: The duration of a fragment. A killed recorder loses the one that is not complete.
_FRAGMENT_US = 500_000
#: After this long without a picture, an incomplete fragment is written ahead (`write_ahead`). Above
#: ten pictures per second fragments are completed in time.
_SILENCE_S = 0.1


class VideoFile:
    """A recorded video: an MP4 in fragments of half a second; the base of the classes that write.

    FFmpeg completes a fragment when the first picture after it comes. For a source that falls
    silent, `write_ahead` puts an incomplete fragment at the end of the file, which the complete one
    replaces.

    ``failure`` says why nothing more can be written; what was written before can be played.
    """

    def __init__(
        self, path: Path, kind: VideoKind, codec: str, size: tuple[int, int] | None
    ) -> None:
        self.path = path
        self.kind: VideoKind = kind
        #: Its name in metadata.
        self.codec = codec
        self.size = size
        self.frames = 0
        self.failure: str | None = None
        self._file: _CountedFile | None = None
        self._container: Any = None
        self._stream: Any = None
        #: Packets that are in no fragment of the file, and when the first and last of them came.
        self._held: list[Any] = []
        self._held_bytes = 0
        self._held_since_s = self._held_until_s = 0.0
        self._has_fragment = self._is_ahead = False

    @property
    def is_made(self) -> bool:
        """Return whether there is a file, made by this object."""
        return self._file is not None

    @property
    def bytes_written(self) -> int:
        """Its size, with the fragment that is not complete."""
        return self._file.size + self._held_bytes if self._file is not None else 0

    @property
    def ahead_due_s(self) -> float | None:
        """The time to call `write_ahead` if no picture comes before (`time.monotonic`)."""
        if not self._held or self._is_ahead or self._container is None:
            return None
        return max(self._held_since_s + _FRAGMENT_US / 1e6, self._held_until_s + _SILENCE_S)

    def write_ahead(self) -> None:
        """Write pictures to the file whose fragment is not complete yet.

        Raises:
            OutputError: The file cannot be written.
        """
        if self._file is None or self._container is None or not self._held:
            return
        with self._errors():
            fragment = fragment_of(self._stream, self._held, is_first=not self._has_fragment)
            self._file.write_ahead(fragment)
            self._is_ahead = True

    def close(self) -> None:
        """Write the end, which makes the file an ordinary MP4. After a failure, do nothing.

        Raises:
            OutputError: The end cannot be written. The file can still be played.
            VideoError: The pictures cannot be written.
        """
        if self._container is None:
            return
        with self._errors():
            self._finish()
            self._container.close()
        self._release()

    def discard(self) -> None:
        """Remove the file."""
        self._release()
        if self.is_made:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def fail(self, error: Exception) -> None:
        """End the video here: what was written before can be played."""
        self.failure = str(error).removeprefix(f"{self.path}: ")
        self._release()
        if self.is_made:
            self.frames = 0
            with contextlib.suppress(OSError, VideoError):
                drop_torn_end(self.path)
                self.frames = len(frame_stamps(self.path))

    # --- inside ---

    #: What failed, in messages.
    _failing = "writing"

    def _finish(self) -> None:
        """Write what is left, before the file is closed."""

    def _open(self, **options: str) -> None:
        self._file = _CountedFile(self.path)
        # "hybrid": closing it turns the fragments into one ordinary MP4, with one index.
        self._container = import_av().open(
            self._file,
            "w",
            format="mp4",
            options={
                "movflags": "+hybrid_fragmented",
                "frag_duration": str(_FRAGMENT_US),
                "flush_packets": "1",
                "video_track_timescale": "1000000",
                **options,
            },
        )

    def _mux(self, packet: Any) -> None:
        assert self._file is not None
        size, packet_bytes = self._file.size, int(packet.size)
        self._container.mux(packet)
        now_s = time.monotonic()
        if not self._held or self._file.size > size:
            self._has_fragment = bool(self._held)
            self._held = []
            self._held_bytes = 0
            self._held_since_s = now_s
        self._held.append(packet)
        self._held_bytes += packet_bytes
        self._held_until_s = now_s
        self._is_ahead = False

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            self.fail(error)
            raise
        except OSError as error:
            failure = write_error(self.path, error)
            self.fail(failure)
            raise failure from None
        except Exception as error:  # FFmpeg's errors have many classes
            text = f"{self.path}: {self._failing} failed: {error}"
            self.fail(VideoError(text))
            raise VideoError(text) from None

    def _release(self) -> None:
        container, self._container = self._container, None
        # An encoder takes memory as long as it exists.
        self._stream = None
        self._held = []
        self._held_bytes = 0
        if self._file is not None:
            self._file.is_dead = True
        if container is not None:
            with contextlib.suppress(Exception):  # the end cannot be written either
                container.close()
        if self._file is not None:
            self._file.close()


class KeptVideo(VideoFile):
    """Writes the packets of a source as they are. The file is made with the first of them."""

    _failing = "keeping the source's packets"

    def __init__(self, path: Path, known: PacketFormat) -> None:
        super().__init__(path, "raw", known.name, known.size if any(known.size) else None)
        self.format = known

    def write(self, packets: Sequence[TimedPacket]) -> None:
        """Append packets, in the order of decoding.

        Raises:
            OutputError: The file exists already, or cannot be written.
            VideoError: The packets cannot be written.
        """
        with self._errors():
            for timed in packets:
                if self._container is None:
                    # An edit list would hide pictures that no row names, and renumber the rest.
                    self._open(use_editlist="0")
                    self._stream = self.format.add_stream(self._container)
                    self._stream.time_base = MICROSECOND
                self._mux(
                    copy_of(
                        timed.packet,
                        self._stream,
                        timed.pts_us,
                        timed.dts_us,
                        MICROSECOND,
                        before=timed.parameters,
                        is_key=timed.is_key,
                    )
                )
                self.frames += 1


class EncodedVideo(VideoFile):
    """Encodes pictures (`PictureEncoder`). The file is made with the first of them."""

    def __init__(
        self,
        path: Path,
        kind: VideoKind,
        codec: Codec,
        quality: int,
        size: tuple[int, int] | None = None,
        aspect: Fraction | None = None,
    ) -> None:
        super().__init__(path, kind, codec.name, size)
        self._failing = f"the {codec.name} encoder"
        self._encoder = PictureEncoder(kind, codec, quality, size, aspect)

    def write(self, image: Image, pts_us: int) -> None:
        """Append a picture that is shown ``pts_us`` microseconds after the first one.

        If that is more than half an hour after the last picture, the last one is repeated
        (`repeats`).

        Raises:
            OutputError: The file exists already, or cannot be written.
            VideoError: The encoder failed.
        """
        encoder = self._encoder
        with self._errors():
            if self._container is None:
                self._open()
                self._stream = encoder.open(self._container, image)
                self.size = encoder.size
            for time_us in repeats(encoder.last_us, pts_us) if self.frames else ():
                self._append(encoder.repeat(time_us))
            self._append(encoder.encode(image, pts_us))

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the video."""
        return [f"{self.path}: {note}" for note in self._encoder.notes]

    # --- inside ---

    def _append(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            self._mux(packet)
        self.frames += 1

    def _finish(self) -> None:
        for packet in self._encoder.finish():
            self._mux(packet)

    def _release(self) -> None:
        self._encoder.release()
        super()._release()


class _CountedFile:
    """A new file with the interface that PyAV writes to.

    Raises:
        OutputError: It exists already, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except FileExistsError:
            raise OutputError(f"{path}: exists already") from None
        except OSError as error:
            raise output_error(path, error) from None
        self.size = 0
        #: Set after a failure: whatever FFmpeg writes then would damage the file further.
        self.is_dead = False
        self._at = 0
        self._is_ahead = False

    def write(self, data: Any) -> int:
        if self.is_dead:
            return len(data)
        self._drop_ahead()
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self._at += written
            self.size = max(self.size, self._at)
            view = view[written:]
        return len(data)

    def write_ahead(self, data: bytes) -> None:
        """Write data behind the end; the next write removes it."""
        self._drop_ahead()
        self._is_ahead = True
        at = self.size
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, at)
            at += written
            view = view[written:]

    def _drop_ahead(self) -> None:
        # The next data may be shorter, and would be followed by the rest of this.
        if self._is_ahead and not self.is_dead:
            os.ftruncate(self._fd, self.size)
            self._is_ahead = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._drop_ahead()
        self._at = os.lseek(self._fd, offset, whence)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # its data were written, or have failed
                os.close(fd)

"""One session that a program records: results become frames with all that is known of them."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgrec.clock import Clock
from dgrec.errors import DgrecError
from dgrec.format import NO_FINGERPRINT, Fingerprint, Metadata, fingerprint, source_size
from dgrec.paths import file_word
from dgrec.recorder.destination import free_path, replaced_files
from dgrec.recorder.ending import Ending
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import NewestFrame, OutputQueue
from dgrec.recorder.results import DetectionList, own_pixels, size_of
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import Frame
from dgrec.session import RecordedFile


@dataclass(frozen=True, slots=True)
class Capture:
    """The facts of a frame before its result: its number in the source, and when it came."""

    #: None: it is numbered when it is recorded.
    source_frame: int | None = None
    #: None: unknown.
    captured_ns: int | None = None
    read_ns: int = 0
    media_time_s: float | None = None
    #: Of the pixels that the model was given; not if it was given the name of their file.
    fingerprint: Fingerprint = NO_FINGERPRINT
    #: How long taking the fingerprint took.
    fingerprint_ns: int = 0


class ProgramSession:
    """Records the results of a program in one session. Threads may share it.

    The arguments are those of `SessionWriter`.
    """

    def __init__(
        self,
        output: Path,
        options: RecordingOptions,
        *,
        metadata: Metadata,
        overwrite: bool,
        clock: Clock,
        outputs: Sequence[OutputQueue] = (),
    ) -> None:
        self.clock = clock
        self.metadata = metadata
        self._size = source_size(metadata)
        #: Without a lock: a signal handler may add a frame at any moment.
        self._numbers = itertools.count()
        #: Reentrant, for the same reason.
        self._adding = threading.RLock()
        self.writer = SessionWriter(
            output, options, metadata=metadata, overwrite=overwrite, clock=clock, outputs=outputs
        )
        self._kinds = self.writer.video.options.kinds

    def number(self) -> int:
        """Return the number of the next frame of the source."""
        return next(self._numbers)

    def add(self, result: Any, image: Any, capture: Capture) -> None:
        """Record a result that the program is done with."""
        self._check_thread()
        with self._adding:  # numbers and times in the order of the rows
            completed_ns = self.clock.now_ns()
            frame = self._frame(result, image, capture, completed_ns)
            if isinstance(result, DetectionList) and self._is_looked_at:
                with contextlib.suppress(DgrecError):  # it is not a picture
                    result = result.with_image(image)
            self.writer.add(frame, result, completed_ns)

    def hold(self, result: Any, capture: Capture) -> None:
        """Record a result that has just come out, with what the program adds to it."""
        self._check_thread()
        self.writer.check_process()  # after a fork, a thread of the parent may hold the lock
        with self._adding:  # as in `add`
            completed_ns = self.clock.now_ns()
            frame = self._frame(result, None, capture, completed_ns)
            frame.before_ns = capture.fingerprint_ns + self.clock.now_ns() - completed_ns
            self.writer.hold(frame, result, completed_ns)

    def _check_thread(self) -> None:
        if self.writer.is_in_output():  # it would wait for itself
            raise DgrecError(
                f"{self.writer.output}: an output cannot add frames to the recording that it "
                "watches; give them to another one"
            )

    def release(self) -> None:
        """Record what is held: the program asks for the next result."""
        self._check_thread()
        self.writer.release()

    def release_late(self) -> None:
        """Record what is held; if that fails, `close` raises the error."""
        if not self.writer.is_in_output():  # as in `_check_thread`
            self.writer.release_late()

    @property
    def _is_looked_at(self) -> bool:
        """Return whether a page asks for the next frame."""
        outputs = [queue.output for queue in self.writer.outputs]
        return any(isinstance(each, NewestFrame) and each.is_asked for each in outputs)

    @property
    def is_closed(self) -> bool:
        return self.writer.is_closed

    def close(self, ending: Ending | None = None) -> None:
        self.metadata = self.writer.close(ending)

    def _frame(self, result: Any, image: Any, capture: Capture, completed_ns: int) -> Frame:
        if "annotated" in self._kinds and isinstance(result, DetectionList):
            raise DgrecError("an annotated video needs results of PySDK, not lists of detections")
        image = getattr(result, "image", None) if image is None else image
        pixels = own_pixels(image) if self._kinds else None
        width, height = size_of(image) or self._size
        number, captured_ns = capture.source_frame, capture.captured_ns
        return Frame(
            image=pixels,
            source_frame=self.number() if number is None else number,
            media_time_s=capture.media_time_s,
            time_s=0.0,
            # The clock of the stamp may be a little ahead of the recorder's.
            captured_ns=completed_ns if captured_ns is None else min(captured_ns, completed_ns),
            read_ns=capture.read_ns,
            width=width,
            height=height,
            is_capture_known=captured_ns is not None,
            fingerprint=(
                fingerprint(image) if capture.fingerprint.digest is None else capture.fingerprint
            ),
        )


def path_beside(
    output: Path,
    name: str | None,
    metadata: Metadata,
    others: Collection[Path] = (),
    *,
    overwrite: bool = False,
) -> Path:
    """Return the path of a recorder's further session, named after NAME or after its model.

    Args:
        metadata: That of the session.
        others: The sessions that the recorder has already. Different names may look the same in a
            file's name; the later ones get a number.
        overwrite: Whether one of an earlier recorder is replaced. Any other session of this name
            stays, unless NAME says to replace it.

    Raises:
        OutputError: There are too many of one name.
    """
    word = file_word(name or metadata.get("model", {}).get("name") or "") or "session"
    path = output.with_name(f"{output.stem}-{word}{output.suffix}")
    if name is None and not overwrite:
        return free_path(path)
    stem, number = path.stem, 1
    while path in others or (name is None and not _may_replace(path, output, metadata)):
        number += 1
        path = path.with_name(f"{stem}-{number}{path.suffix}")
    return path


def _may_replace(path: Path, output: Path, metadata: Metadata) -> bool:
    """Return whether nothing is there but what an earlier recorder of this name recorded."""
    group = metadata.get("group", {})
    return all(_is_of_recorder(file, output.stem, group) for file in replaced_files(path))


def _is_of_recorder(file: Path, name: str, group: Mapping[str, Any]) -> bool:
    try:
        with RecordedFile(file, check=False) as recorded:
            metadata = recorded.metadata
    except (DgrecError, OSError):
        return False  # nobody can tell
    of = metadata.get("group", {})
    # Clips and analyses keep their original's group; one with members is of `--together`.
    is_copy = "clip" in metadata or "analyzed" in metadata
    # A program may have given a group of its own, the same in each run.
    is_same = of.get("name") == name or (of == group and bool(of))
    return is_same and "members" not in of and not is_copy

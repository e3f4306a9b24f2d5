"""Seals finished parts beside the recording, and removes the oldest ones."""

from __future__ import annotations

import bisect
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dgrec.clock import Clock
from dgrec.errors import DgrecError, OutputError, StorageError
from dgrec.footage import own_videos, videos_beside
from dgrec.format import Event, Journal, JournalWriter, Metadata, SealedFile, seal
from dgrec.paths import JOURNAL_SUFFIX, sealed_path
from dgrec.recorder.options import Retention
from dgrec.recorder.video import SegmentVideos
from dgrec.recorder.writing.moments import Moments, Sample
from dgrec.session import is_in_set, run_ended_us
from dgrec.units import counted

#: Interval of checking whether parts are too old or too large.
_CHECK_SECONDS = 2.0
_POLL_SECONDS = 0.02
#: The kinds of events of alerts.
_ALERTS = ("alert", "alert_end")


def _is_needed(event: Event) -> bool:
    return event.get("kind") in _ALERTS or run_ended_us(event) is not None


@dataclass(frozen=True)
class SealedPart:
    """A part that may be removed: if it is too old or not needed, or if all parts take too much."""

    path: Path
    #: Its videos, and other files that are removed with it.
    videos: tuple[Path, ...]
    ended_ns: int
    first_frame: int
    frames: int
    set_id: str
    #: When its first row was captured.
    began_ns: int = 0
    #: Whether it has events without which others cannot be understood: those of alerts, which are
    #: written a little later than the rows, and those of the beginning of another run.
    has_needed_events: bool = False

    @property
    def is_gone(self) -> bool:
        """Return whether another file has its name now."""
        return self.path.exists() and not is_in_set(self.path, self.set_id)

    @property
    def size(self) -> int:
        return sum(map(_size, (self.path, *self.videos)))


@dataclass(frozen=True, eq=False)
class _Finished:
    """A finished journal, and the videos that were recorded with it."""

    journal: JournalWriter
    path: Path
    began_ns: int
    ended_ns: int
    videos: SegmentVideos


class Sealer:
    """Seals journals in a thread of its own, in the order in which they are added.

    A journal stays locked until it is sealed, so that it is not taken for an abandoned one. If it
    cannot be sealed, it stays; recording goes on, and sealing is tried again at the end, or before
    newer parts would be removed. A part is sealed after its videos, which its metadata describes.

    With a `Retention` the oldest sealed parts are removed with their videos, but never journals or
    the part with the newest rows. What cannot be removed is tried again, at the latest at the end.
    With ``only`` alerts, a part is removed once it is known that no moment overlaps it.

    Args:
        current_bytes: Returns the size of the journal that is being written.
        has_rows: Returns whether it has rows, which are then the newest.
        replaces: Files of an older recording, to be removed once a part is sealed.
        earlier: Parts of earlier runs of the recording, the oldest first; they may be removed too,
            but not by ``only``: their alerts are not known any more. Journals among them only count
            for what is there.
        moments: The times whose parts are kept, if ``keep`` asks for that.
    """

    def __init__(
        self,
        keep: Retention,
        clock: Clock,
        current_bytes: Callable[[], int] = lambda: 0,
        has_rows: Callable[[], bool] = lambda: True,
        replaces: Sequence[Path] = (),
        earlier: Sequence[SealedPart] = (),
        moments: Moments | None = None,
    ) -> None:
        self._moments = moments
        self._sample = Sample(keep.sample or 0)
        #: Sealed parts of which it is not known yet whether ``moments`` keep them.
        self._undecided: list[SealedPart] = []
        self._keep = keep
        self._clock = clock
        self._current_bytes = current_bytes
        self._has_rows = has_rows
        self._replaces = list(replaces)
        # Read now: the old files may be gone when their videos are removed.
        self._replaced_videos = {old: own_videos(old) for old in replaces}
        # Any other file that has a part's name is not replaced.
        self._replaceable = set(replaces)
        #: In the order of their rows.
        self._sealed = [part for part in earlier if part.path.suffix != JOURNAL_SUFFIX]
        #: Journals of earlier runs that could not be sealed.
        self._left = [part for part in earlier if part.path.suffix == JOURNAL_SUFFIX]
        self._earlier = {part.path for part in earlier}
        self._failed: list[_Finished] = []
        self._failures: dict[Path, OutputError] = {}
        self._notes: list[str] = []
        #: Files that could not be removed yet, and why.
        self._stuck: dict[Path, str] = {}
        self._finished: queue.SimpleQueue[_Finished | None] = queue.SimpleQueue()
        self._waiting: list[_Finished] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._has_last = False
        #: Metadata of the part that was sealed last.
        self.last_metadata: Metadata = {}
        #: Parts that were removed, and their frames.
        self.removed = 0
        self.removed_frames = 0
        self._thread = threading.Thread(target=self._run, name="dgrec-sealer", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> list[OutputError]:
        """The errors of unsealed journals: a `StorageError` if the disk is the cause."""
        return list(self._failures.values())

    @property
    def notes(self) -> list[str]:
        """Other problems, a line each; no rows are lost by them."""
        return [*self._notes, *self._stuck.values()]

    @property
    def sealed(self) -> list[Path]:
        """The parts that were sealed by this recorder and still exist."""
        return [part.path for part in self._sealed if part.path not in self._earlier]

    @property
    def unsealed(self) -> list[Path]:
        """The journals that wait for sealing, or could not be sealed."""
        return [finished.journal.path for finished in self._unsealed()]

    @property
    def waiting_bytes(self) -> int:
        """The size of the journals that are not sealed."""
        return sum(map(_size, self.unsealed))

    @property
    def waiting_video_bytes(self) -> int:
        """The size of the videos of the journals that are not sealed."""
        return sum(item.videos.bytes_written for item in self._unsealed())

    def note(self, problem: str) -> None:
        self._notes.append(problem)

    def add(
        self,
        journal: JournalWriter,
        began_ns: int,
        ended_ns: int,
        videos: SegmentVideos,
        *,
        last: bool = False,
    ) -> None:
        """Hand over a finished journal.

        Args:
            began_ns: When its first row was captured.
            ended_ns: When its last row was completed.
            last: Whether it is the last journal of the recording.
        """
        self._has_last = self._has_last or last
        finished = _Finished(journal, sealed_path(journal.path), began_ns, ended_ns, videos)
        with self._lock:
            self._waiting.append(finished)
        self._finished.put(finished)

    def wait(self) -> None:
        """Wait until all journals so far are sealed, or have failed for now."""
        while self._waiting:
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Wait until all journals are sealed or have failed, and end the thread."""
        if self._is_closed:
            return
        self._is_closed = True
        self._finished.put(None)
        self._thread.join()
        self._try_again()
        for finished in self._failed:
            _close(finished.journal)
        self._remove_unwanted()
        self._remove(())

    # --- inside ---

    def _run(self) -> None:
        while True:
            try:
                item = self._finished.get(timeout=_CHECK_SECONDS if self._keep else None)
            except queue.Empty:
                self._remove_unwanted()
                continue
            if item is None:
                return
            self._seal(item)
            with self._lock:
                self._waiting.remove(item)
            # Sealing an older part may make enough room to keep a newer one.
            if item not in self._failed and self._sealed and self._is_too_much():
                self._try_again()
            self._remove_unwanted()

    def _unsealed(self) -> list[_Finished]:
        with self._lock:
            return [*self._waiting, *self._failed]

    def _seal(self, finished: _Finished) -> None:
        journal, path, videos = finished.journal, finished.path, finished.videos
        try:
            written = Journal.open(journal.path, is_ours=True)
            replace = path in self._replaceable or _is_sealed_from(written, path)
            metadata = seal(written, path, replace=replace, overrides=videos.described())
        except Exception as error:  # a defect must not prevent the sealing of other parts
            self._failures[journal.path] = _failure(error, journal)
            with self._lock:
                self._failed.append(finished)
            return
        self._failures.pop(journal.path, None)
        # This name now belongs to the new part, which must not be replaced or removed.
        self._replaceable.discard(path)
        self._stuck.pop(path, None)
        self.last_metadata = metadata
        self._put_in_place(videos)
        if written.damage or metadata["totals"]["frames"] != journal.frames:
            # What cannot be read now may be readable later: it was written a moment ago.
            what = written.damage[0] if written.damage else "frames are missing"
            self._failures[journal.path] = StorageError(
                f"{journal.path}: what was written cannot be read back ({what}); the journal was "
                f"left, and what can be read is in {path}"
            )
        else:
            self._remove([journal.path])
        _close(journal)
        part = SealedPart(
            path,
            tuple(videos_beside(path, metadata)),
            finished.ended_ns,
            journal.first_frame,
            journal.frames,
            str(metadata.get("part", {}).get("set_id")),
            finished.began_ns,
            any(map(_is_needed, metadata.get("events", []))),
        )
        if self._moments is not None:
            bisect.insort(self._undecided, part, key=lambda part: part.first_frame)
        # A part that was sealed at the second attempt may be older than others.
        bisect.insort(self._sealed, part, key=lambda part: part.first_frame)
        # Only now does the new recording have a sealed file.
        replaced, self._replaces = self._replaces, []
        for old in replaced:
            files = {*self._replaced_videos.get(old, ()), old} - {path, *part.videos}
            self._remove(sorted(files))
            if old not in self._stuck:
                self._replaceable.discard(old)

    def _put_in_place(self, videos: SegmentVideos) -> None:
        try:
            for name in videos.put_in_place():
                self._stuck.pop(name, None)
        except OSError as error:
            self._notes.append(f"{error.filename}: cannot be renamed: {error.strerror}")

    def _try_again(self) -> None:
        with self._lock:
            again, self._failed = self._failed, []
        for finished in again:
            self._seal(finished)

    def _remove_unwanted(self) -> None:
        """Remove sealed parts that exceed the retention: those without a moment, or the oldest."""
        if self._moments is not None:
            self._decide(self._moments)
        while self._removable() and self._is_too_much():
            self._remove_part(self._sealed[0])

    def _removable(self) -> list[SealedPart]:
        # The newest rows are in the current journal, unless it has no rows yet: then the newest
        # sealed part has to stay.
        has_newest = self._has_last or not self._has_rows()
        return self._sealed[:-1] if has_newest else self._sealed

    def _decide(self, moments: Moments) -> None:
        """Remove the parts that are known to overlap no moment."""
        for part in self._undecided[:]:
            if part not in self._sealed:  # it was one of the oldest
                self._undecided.remove(part)
                continue
            is_wanted = moments.overlap(part.began_ns // 1000, part.ended_ns // 1000)
            if is_wanted is None or part not in self._removable():
                return
            self._undecided.remove(part)
            if not (is_wanted or part.has_needed_events) and not self._sample.takes():
                self._remove_part(part)

    def _remove_part(self, part: SealedPart) -> None:
        self._sealed.remove(part)
        if part.is_gone:  # the folder was replaced while recording went on, for example
            self._notes.append(f"{part.path}: was replaced by another file; not removed")
            return
        self._remove((*part.videos, part.path))
        self.removed += 1
        self.removed_frames += part.frames

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove files, and those that could not be removed before."""
        for path in [*self._stuck, *paths]:
            problem = _remove(path)
            if problem:
                self._stuck[path] = problem
            else:
                self._stuck.pop(path, None)

    def _is_too_much(self) -> bool:
        keep = self._keep
        if keep.last_s is not None:
            age_ns = self._clock.now_ns() - self._sealed[0].ended_ns
            if age_ns > keep.last_s * 1e9:
                return True
        if keep.total is None:
            return False
        taken = sum(part.size for part in [*self._sealed, *self._left])
        if not self._has_last:  # the last journal is among those that wait, or sealed
            taken += self._current_bytes()
        return taken + self.waiting_bytes + self.waiting_video_bytes > keep.total


def _remove(path: Path) -> str:
    """Remove a file; return why that failed, or ""."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"{path}: cannot be removed: {error.strerror}"
    return ""


def unsealed(problems: Sequence[OutputError], failure: DgrecError | None) -> OutputError:
    """Return the error for journals that could not be sealed after ``failure`` of the recording."""
    more = f" (and {counted(len(problems) - 1, 'more part')})" if len(problems) > 1 else ""
    reason = f"{failure}; then sealing failed: " if failure is not None else ""
    # If the disk is the cause of any, that is what the user has to mend.
    first = next((p for p in problems if isinstance(p, StorageError)), problems[0])
    text = f"{reason}{first}{more}"
    if isinstance(first, StorageError):
        return StorageError(text, is_full=first.is_full)
    return OutputError(text)


def _failure(error: Exception, journal: JournalWriter) -> OutputError:
    """Return the error for a journal that could not be sealed."""
    text = str(error) if isinstance(error, DgrecError | OSError) else repr(error)
    moved = None if journal.path.exists() else journal.moved_to()
    text = f"{text}; what it holds is in {moved or journal.path}"
    if isinstance(error, OSError):  # the journal could not be read
        return StorageError(text)
    if isinstance(error, StorageError):
        return StorageError(text, is_full=error.is_full)
    return OutputError(text)


def _is_sealed_from(journal: Journal, path: Path) -> bool:
    """Return whether ``path`` was sealed from this journal by an attempt that failed afterwards.

    It may not be on the disk completely, and has to be written again.
    """
    session_id = journal.metadata.get("session_id")
    try:
        sealed = SealedFile(path)
    except (DgrecError, OSError):  # usually no file has that name
        return False
    sealed.close()
    return session_id is not None and sealed.metadata.get("session_id") == session_id


def _close(journal: JournalWriter) -> None:
    # It is sealed, or left for recovery: an error here does not matter.
    with contextlib.suppress(DgrecError, OSError):
        journal.close()


def _size(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0

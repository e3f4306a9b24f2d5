"""Seals finished parts beside the recording, and removes the oldest ones."""

from __future__ import annotations

import bisect
import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dgrec.clock import Clock
from dgrec.errors import DgrecError, OutputError, StorageError
from dgrec.footage import videos_beside
from dgrec.format import Journal, JournalWriter, Metadata, SealedFile, seal
from dgrec.paths import sealed_path
from dgrec.recorder.options import Retention
from dgrec.session import is_in_set

if TYPE_CHECKING:
    from dgrec.recorder.video import SegmentVideos

__all__ = ["SealedPart", "Sealer", "recorded_videos", "remove", "unsealed"]

#: How often it is looked whether a part has become too old, or all of them too large.
_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class SealedPart:
    """A part that can be removed when it is too old, or all of them too much."""

    path: Path
    #: Its videos, and what else goes with it.
    videos: tuple[Path, ...]
    ended_ns: int
    first_frame: int
    frames: int
    set_id: str

    @property
    def is_gone(self) -> bool:
        """Whether something else has its name now."""
        return self.path.exists() and not is_in_set(self.path, self.set_id)

    @property
    def size(self) -> int:
        return sum(map(_size, (self.path, *self.videos)))


@dataclass(frozen=True, eq=False)
class _Finished:
    """A journal at its end, and the videos that were recorded with it."""

    journal: JournalWriter
    path: Path
    ended_ns: int
    videos: SegmentVideos


class Sealer:
    """Seals journals in a thread of its own, in the order in which they are added.

    A journal stays locked until it is sealed: nobody takes it for one that was left behind. One
    that cannot be sealed stays as it is and is tried once more at the end, or before newer
    parts would have to be removed; recording goes on. Before a part is sealed its videos are waited
    for, so that it can say what they are.
    With a `Retention` the oldest sealed parts are removed, with the videos that their metadata
    names; journals never are, nor the part with the newest rows. What cannot be removed is tried
    again, at the latest at the end.

    Args:
        current_bytes: What the journal takes that is being written.
        has_rows: Whether there are rows in it, which then are the newest.
        replaces: Files of an older recording, to be removed once a part is sealed.
        earlier: Parts of the same recording from before, the oldest first: they are removed as the
            others are.
    """

    def __init__(
        self,
        keep: Retention,
        clock: Clock,
        current_bytes: Callable[[], int] = lambda: 0,
        has_rows: Callable[[], bool] = lambda: True,
        replaces: Sequence[Path] = (),
        earlier: Sequence[SealedPart] = (),
    ) -> None:
        self._keep = keep
        self._clock = clock
        self._current_bytes = current_bytes
        self._has_rows = has_rows
        self._replaces = list(replaces)
        # Read now: the old files may be gone when their videos are removed.
        self._replaced_videos = {old: recorded_videos(old) for old in replaces}
        # Any other file that has a part's name by then belongs to somebody else.
        self._replaceable = set(replaces)
        #: In the order of their rows, whenever they were sealed.
        self._sealed: list[SealedPart] = list(earlier)
        self._earlier = {part.path for part in earlier}
        self._failed: list[_Finished] = []
        self._failures: dict[Path, OutputError] = {}
        self._notes: list[str] = []
        #: What could not be removed yet, and why.
        self._stuck: dict[Path, str] = {}
        # SimpleQueue: adding never waits.
        self._finished: queue.SimpleQueue[_Finished | None] = queue.SimpleQueue()
        self._waiting: list[_Finished] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._has_last = False
        #: Of the part that was sealed last.
        self.last_metadata: Metadata = {}
        #: How many parts were removed, and how many frames with them.
        self.removed = 0
        self.removed_frames = 0
        self._thread = threading.Thread(target=self._run, name="dgrec-sealer", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> list[OutputError]:
        """Why journals could not be sealed: a `StorageError` where the disk is to blame."""
        return list(self._failures.values())

    @property
    def notes(self) -> list[str]:
        """What else went wrong, a line each; nothing is lost by it."""
        return [*self._notes, *self._stuck.values()]

    @property
    def sealed(self) -> list[Path]:
        """The parts that were sealed here and have not been removed."""
        return [part.path for part in self._sealed if part.path not in self._earlier]

    @property
    def unsealed(self) -> list[Path]:
        """The journals that are waiting to be sealed, or could not be."""
        return [finished.journal.path for finished in self._unsealed()]

    @property
    def waiting_bytes(self) -> int:
        """What the journals take that are waiting to be sealed, or could not be."""
        return sum(map(_size, self.unsealed))

    @property
    def waiting_video_bytes(self) -> int:
        """What the videos take that belong to those journals."""
        return sum(item.videos.bytes_written for item in self._unsealed())

    def note(self, problem: str) -> None:
        self._notes.append(problem)

    def add(
        self,
        journal: JournalWriter,
        ended_ns: int,
        videos: SegmentVideos,
        *,
        path: Path | None = None,
        last: bool = False,
    ) -> None:
        """Hand over a journal that is at its end; ``path`` is where it goes, if not beside it.

        ``ended_ns`` is when its last row was completed; after the ``last`` nothing is written.
        """
        self._has_last = self._has_last or last
        finished = _Finished(journal, path or sealed_path(journal.path), ended_ns, videos)
        with self._lock:
            self._waiting.append(finished)
        self._finished.put(finished)

    def close(self) -> None:
        """Wait until everything that was added is sealed or has failed; end the thread."""
        if self._is_closed:
            return
        self._is_closed = True
        self._finished.put(None)
        self._thread.join()
        self._try_again()
        for finished in self._failed:
            _close(finished.journal)
        self._let_go()
        self._remove(())

    # --- inside ---

    def _run(self) -> None:
        while True:
            try:
                item = self._finished.get(timeout=_LOOK_SECONDS if self._keep else None)
            except queue.Empty:
                self._let_go()
                continue
            if item is None:
                return
            self._seal(item)
            with self._lock:
                self._waiting.remove(item)
            # Rather seal an older part than remove a newer one for the room its journal takes.
            if item not in self._failed and self._sealed and self._is_too_much():
                self._try_again()
            self._let_go()

    def _unsealed(self) -> list[_Finished]:
        with self._lock:
            return [*self._waiting, *self._failed]

    def _seal(self, finished: _Finished) -> None:
        journal, path, videos = finished.journal, finished.path, finished.videos
        try:
            written = Journal.open(journal.path, is_ours=True)
            replace = path in self._replaceable or _is_sealed_from(written, path)
            metadata = seal(written, path, replace=replace, known=videos.described())
        except Exception as error:  # a defect here must not end the sealing of other parts
            self._failures[journal.path] = _failure(error, journal.path)
            with self._lock:
                self._failed.append(finished)
            return
        self._failures.pop(journal.path, None)
        # In its place stands a part of this recording now, which nothing may replace or remove.
        self._replaceable.discard(path)
        self._stuck.pop(path, None)
        self.last_metadata = metadata
        self._put_in_place(videos)
        if written.damage or metadata["totals"]["frames"] != journal.frames:
            # It was whole a moment ago. What cannot be read now may be readable once more.
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
        )
        # One that is sealed at the second try is older than some that were at the first.
        bisect.insort(self._sealed, part, key=lambda part: part.first_frame)
        # Only now is there something in the place of what is to be overwritten.
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

    def _let_go(self) -> None:
        """Remove the oldest sealed parts that are past what is to be kept."""
        # While recording goes on, what is newest is in a journal, but for the moment in which the
        # next part has no rows yet. Should writing them fail, that moment lasts.
        while len(self._sealed) > (self._has_last or not self._has_rows()) and self._is_too_much():
            oldest = self._sealed.pop(0)
            if oldest.is_gone:  # the folder was replaced, say, while recording went on
                self._notes.append(f"{oldest.path}: is another file by now; not removed")
                continue
            self._remove((*oldest.videos, oldest.path))
            self.removed += 1
            self.removed_frames += oldest.frames

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
        taken = sum(part.size for part in self._sealed)
        if not self._has_last:  # the last one is among those that wait, or sealed
            taken += self._current_bytes()
        return taken + self.waiting_bytes + self.waiting_video_bytes > keep.total


def recorded_videos(path: Path) -> list[Path]:
    """Return the videos of a session file that may be there, and may be damaged."""
    with contextlib.suppress(DgrecError, OSError, KeyError, TypeError):
        sealed = SealedFile(path)
        sealed.close()
        if "analyzed" in sealed.metadata:  # they belong to the session that it was made from
            return []
        return videos_beside(path, sealed.metadata)
    return []


def remove(paths: Iterable[Path]) -> list[str]:
    """Remove files; return what could not be removed, a line each."""
    return [problem for path in paths if (problem := _remove(path))]


def _remove(path: Path) -> str:
    """Remove a file; return why that could not be done, or nothing."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"{path}: cannot be removed: {error.strerror}"
    return ""


def unsealed(problems: Sequence[OutputError], failure: DgrecError | None) -> OutputError:
    """Return what to say of journals that could not be sealed, after what ended the recording."""
    more = f" (and {len(problems) - 1} more parts)" if len(problems) > 1 else ""
    reason = f"{failure}; then sealing failed: " if failure is not None else ""
    # The disk, if it is to blame for any of them: that is what there is to be seen to.
    first = next((p for p in problems if isinstance(p, StorageError)), problems[0])
    text = f"{reason}{first}{more}"
    if isinstance(first, StorageError):
        return StorageError(text, is_full=first.is_full)
    return OutputError(text)


def _failure(error: Exception, journal: Path) -> OutputError:
    """Return what to say of a journal that could not be sealed."""
    text = str(error) if isinstance(error, DgrecError | OSError) else repr(error)
    text = f"{text}; what it holds is in {journal}"
    if isinstance(error, OSError):  # the journal could not be read
        return StorageError(text)
    if isinstance(error, StorageError):
        return StorageError(text, is_full=error.is_full)
    return OutputError(text)


def _is_sealed_from(journal: Journal, path: Path) -> bool:
    """Return whether ``path`` came from this very journal, by a try that failed after that.

    It has its name by then, but it may not be on the disk: it is to be made again.
    """
    session_id = journal.metadata.get("session_id")
    try:
        sealed = SealedFile(path)
    except (DgrecError, OSError):  # nearly always there is nothing of that name
        return False
    sealed.close()
    return session_id is not None and sealed.metadata.get("session_id") == session_id


def _close(journal: JournalWriter) -> None:
    # Nothing of it is needed any more, or it is left as it is: neither can fail the recording.
    with contextlib.suppress(DgrecError, OSError):
        journal.close()


def _size(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0

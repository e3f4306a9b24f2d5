"""Seals finished parts beside the recording, and lets the oldest ones go."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from dgrec.clock import Clock
from dgrec.errors import DgrecError
from dgrec.journal import Journal, JournalWriter
from dgrec.metadata import Metadata
from dgrec.sealed import SealedFile, seal

__all__ = ["Retention", "Sealer", "remove_session"]

#: How often it is looked whether a part has become too old, or all of them too large.
_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Retention:
    """How much of a recording in parts is kept: so many seconds of it, so many bytes on disk."""

    last_s: float | None = None
    total: int | None = None

    def __bool__(self) -> bool:
        return self.last_s is not None or self.total is not None


@dataclass(frozen=True)
class _Sealed:
    path: Path
    videos: tuple[Path, ...]
    ended_ns: int

    @property
    def size(self) -> int:
        return sum(map(_size, (self.path, *self.videos)))


class Sealer:
    """Seals journals in a thread of its own, in the order in which they are added.

    A journal stays locked until it is sealed: nobody takes it for one that was left behind. One
    that cannot be sealed stays as it is and is tried once more at the end; recording goes on.
    With a `Retention` the oldest sealed parts are removed, with the videos that their metadata
    names; journals never are, nor the last part of a finished recording.
    """

    def __init__(
        self,
        keep: Retention,
        clock: Clock,
        current_bytes: Callable[[], int] = lambda: 0,
        replaces: Sequence[Path] = (),
    ) -> None:
        self._keep = keep
        self._clock = clock
        self._current_bytes = current_bytes
        self._replaces = list(replaces)
        # Anything else that has a part's name by then is somebody's.
        self._replaceable = frozenset(replaces)
        self._sealed: deque[_Sealed] = deque()
        self._failed: list[tuple[JournalWriter, int]] = []
        self._failures: dict[Path, str] = {}
        self._notes: list[str] = []
        # SimpleQueue: adding never waits.
        self._finished: queue.SimpleQueue[tuple[JournalWriter, int] | None] = queue.SimpleQueue()
        self._waiting: list[JournalWriter] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._has_last = False
        self.removed = 0
        self._thread = threading.Thread(target=self._run, name="dgrec-sealer", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> list[str]:
        """Why journals could not be sealed, a line for each."""
        return list(self._failures.values())

    @property
    def notes(self) -> list[str]:
        """What else went wrong, a line each; nothing is lost by it."""
        return list(self._notes)

    @property
    def sealed(self) -> list[Path]:
        """The parts that were sealed and have not been let go."""
        return [part.path for part in self._sealed]

    @property
    def waiting_bytes(self) -> int:
        """What the journals take that are waiting to be sealed, or could not be."""
        with self._lock:
            journals = [*self._waiting, *(journal for journal, _ in self._failed)]
        return sum(_size(journal.path) for journal in journals)

    def note(self, problem: str) -> None:
        self._notes.append(problem)

    def add(self, journal: JournalWriter, ended_ns: int, *, last: bool = False) -> None:
        """Hand over a journal that is at its end.

        ``ended_ns`` is when its last row was completed; after the ``last`` nothing is written.
        """
        self._has_last = self._has_last or last
        with self._lock:
            self._waiting.append(journal)
        self._finished.put((journal, ended_ns))

    def close(self) -> None:
        """Wait until everything that was added is sealed or has failed; end the thread."""
        if self._is_closed:
            return
        self._is_closed = True
        self._finished.put(None)
        self._thread.join()
        again, self._failed = self._failed, []
        for journal, ended_ns in again:
            self._seal(journal, ended_ns)
        for journal, _ in self._failed:
            _close(journal)
        self._let_go()

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
            self._seal(*item)
            with self._lock:
                self._waiting.remove(item[0])
            self._let_go()

    def _seal(self, journal: JournalWriter, ended_ns: int) -> None:
        path = journal.path.with_suffix(".parquet")
        try:
            written = Journal.open(journal.path)
            metadata = seal(written, path, replace=path in self._replaceable)
        except Exception as error:  # a defect here must not end the sealing of other parts
            text = str(error) if isinstance(error, DgrecError | OSError) else repr(error)
            self._failures[journal.path] = f"{text}; what it holds is in {journal.path}"
            self._failed.append((journal, ended_ns))
            return
        self._failures.pop(journal.path, None)
        # A damaged end looks like a write in progress while the journal is locked: so count, too.
        if written.damage or metadata["totals"]["frames"] != journal.frames:
            # It was whole a moment ago. What cannot be read now may be readable once more.
            what = written.damage[0] if written.damage else "frames are missing"
            self._failures[journal.path] = (
                f"{journal.path}: what was written cannot be read back ({what}); the journal was "
                f"left, and what can be read is in {path}"
            )
        else:
            with contextlib.suppress(OSError):
                journal.path.unlink()
        _close(journal)
        self._sealed.append(_Sealed(path, videos_of(path, metadata), ended_ns))
        # Only now is there something in the place of what is to be overwritten.
        replaced, self._replaces = self._replaces, []
        for old in replaced:
            if old != path:
                self._notes += remove_session(old)

    def _let_go(self) -> None:
        """Remove the oldest sealed parts that are past what is to be kept."""
        # While recording goes on, what is newest is in a journal.
        while len(self._sealed) > self._has_last and self._is_too_much():
            oldest = self._sealed.popleft()
            self._notes += _remove((*oldest.videos, oldest.path))
            self.removed += 1

    def _is_too_much(self) -> bool:
        keep = self._keep
        if keep.last_s is not None:
            age_ns = self._clock.now_ns() - self._sealed[0].ended_ns
            if age_ns > keep.last_s * 1e9:
                return True
        if keep.total is None:
            return False
        taken = sum(part.size for part in self._sealed) + self._current_bytes()
        return taken + self.waiting_bytes > keep.total


def videos_of(path: Path, metadata: Metadata) -> tuple[Path, ...]:
    """Return the videos that were recorded with a session, which stand beside it.

    Only what its metadata names: a file that is merely called alike may be somebody's footage.
    """
    names = [PurePath(str(video["file"])).name for video in metadata.get("video", [])]
    return tuple(path.with_name(name) for name in names if name)


def remove_session(path: Path) -> list[str]:
    """Remove a session file and its videos; return what could not be removed, a line each."""
    videos: tuple[Path, ...] = ()
    with contextlib.suppress(DgrecError, KeyError, TypeError):
        sealed = SealedFile(path)
        sealed.close()
        videos = videos_of(path, sealed.metadata)
    return _remove((*videos, path))


def _remove(paths: Iterable[Path]) -> list[str]:
    # Videos first: a part that was half removed then still says what it had.
    problems = []
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            problems.append(f"{path}: cannot be removed: {error.strerror}")
    return problems


def _close(journal: JournalWriter) -> None:
    # Nothing of it is needed any more, or it is left as it is: neither can fail the recording.
    with contextlib.suppress(DgrecError, OSError):
        journal.close()


def _size(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0

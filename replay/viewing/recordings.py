"""The recordings that are shown: found, named, and opened when they are asked for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dgrec.errors import DgrecError
from dgrec.format import is_being_written
from dgrec.paths import JOURNAL_SUFFIX, SESSION_SUFFIX, numbered_files
from dgrec.replay.listing import ListedSession, list_session
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.parameters import RequestError
from dgrec.session import find_sessions, names_something

_T = TypeVar("_T")
#: Sessions that are kept open.
_MOST_OPEN = 4
#: Seconds after which folders, and the files of a session, are looked at again.
_FOUND_S = 1.0
_UNCHANGED_S = 0.2
#: The most folders of a name in a link that are looked at.
_MOST_PARTS = 16
#: Opening a session again takes at most this share of the time.
_SHARE = 0.1

#: Name, size, time of the last change and number of each file, and whether it is being written.
Signature = tuple[tuple[str, int, int, int, bool], ...]


@dataclass
class _Open:
    opened: OpenedSession
    signature: Signature
    #: `Videos.signature` when it was opened.
    videos: object
    #: When its files are looked at again.
    next_look_s: float
    users: int = 0
    is_outdated: bool = False

    def is_of(self, signature: Signature) -> bool:
        """Return whether it was opened as the files, and its videos, are now."""
        return self.signature == signature and self.videos == self.opened.videos.signature()


@dataclass
class _Listed:
    signature: Signature
    listed: ListedSession
    until_s: float


class Recordings:
    """The recordings that some places hold; safe to use from several threads.

    Args:
        places: Sessions, folders and globs, as `find_sessions` takes them.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = list(places)
        self._lock = threading.Lock()
        self._names: dict[str, Path] = {}
        self._found_s = 0.0
        self._listed: dict[Path, _Listed] = {}
        self._open: OrderedDict[str, _Open] = OrderedDict()
        #: A lock for each session: it is opened once at a time.
        self._opening: dict[str, threading.Lock] = {}
        #: The files of sessions that could not be opened.
        self._failed: dict[str, Signature] = {}

    def names(self) -> dict[str, Path]:
        """Return the sessions that are there now, by their names on this server."""
        with self._lock:
            now = time.monotonic()
            if not self._found_s or now - self._found_s >= _FOUND_S:
                there = (place for place in self._places if names_something(str(place)))
                found, _ = find_sessions(there)
                self._names = _named(found)
                self._found_s = now
            return dict(self._names)

    def path_of(self, name: str) -> Path:
        """Return the session with a name, or the only one that the name leads to.

        Raises:
            RequestError: There is none.
        """
        return self._resolved(name)[1]

    def _resolved(self, name: str) -> tuple[str, Path]:
        """Return a session's own name, and the session."""
        for _ in range(2):
            names = self.names()
            if name in names:
                return name, names[name]
            with self._lock:
                self._found_s = 0.0  # it may have begun just now
        # The link may be from when it was recorded, or from before another one had the same name.
        plain = name.removesuffix(JOURNAL_SUFFIX).removesuffix(SESSION_SUFFIX)
        parts = plain.split("/")[-_MOST_PARTS:]
        for at in range(len(parts)):
            wanted = "/".join(parts[at:])
            matching = [item for item in names.items() if _is_named(item[0], wanted)]
            if len(matching) == 1:
                return matching[0]
        raise RequestError(f"there is no recording {name[:200]!r} here", 404)

    def listed(self) -> list[tuple[str, ListedSession]]:
        """Return what `dgrec list` says of each session, in its order."""
        names = self.names()
        found = [(name, self._facts(path)) for name, path in names.items()]
        with self._lock:
            there = set(names.values())
            # A copy, in one step: other threads add to it.
            known = list(self._listed.items())
            self._listed = {path: each for path, each in known if path in there}
        return sorted(found, key=lambda each: (each[1].started_at or "", each[1].path))

    def _facts(self, path: Path) -> ListedSession:
        signature = signature_of(path)
        known = self._listed.get(path)
        now = time.monotonic()
        if known is not None and (now < known.until_s or known.signature == signature):
            return known.listed
        listed = list_session(path)
        took_s = time.monotonic() - now
        self._listed[path] = _Listed(signature, listed, now + max(_FOUND_S, took_s / _SHARE))
        return listed

    def read(self, name: str, work: Callable[[OpenedSession], _T]) -> _T:
        """Open a session and do something with it; once more if its files change meanwhile.

        Raises:
            RequestError: There is no such session.
            SessionError: It cannot be read.
        """
        used = None
        try:
            with self.opened(name) as used:
                return work(used)
        except (DgrecError, OSError) as error:
            # A journal becomes a sealed file at the end of a recording; old parts are removed.
            if isinstance(error, RequestError) or not self._has_changed(name, used):
                raise
        with self.opened(name) as opened:
            return work(opened)

    def _has_changed(self, name: str, used: OpenedSession | None) -> bool:
        """Look at the files of a session again; return whether they differ from those used."""
        with self._lock:
            self._found_s = 0.0
        name, path = self._resolved(name)
        with self._lock:
            entry = self._open.get(name)
            failed = self._failed.get(name)
        if entry is not None and used is not None and entry.opened is not used:
            return True  # another request has noticed that already
        signature = signature_of(path)
        is_same = failed == signature if entry is None else entry.is_of(signature)
        if is_same:
            return False
        if entry is not None:
            entry.next_look_s = 0.0
        return True

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[OpenedSession]:
        """Open a session as its files are now, or share it if it is open already.

        Raises:
            RequestError: There is no such session.
            SessionError: It cannot be read.
        """
        entry = self._entry(name)
        try:
            yield entry.opened
        finally:
            self._release(entry)

    def _entry(self, name: str) -> _Open:
        """Return a session with one more user."""
        name, path = self._resolved(name)
        with self._lock:
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:  # other sessions are not waited for
            now = time.monotonic()
            entry = self._used(name)
            if entry is not None and now < entry.next_look_s:
                return entry
            signature = signature_of(path)
            if entry is not None and entry.is_of(signature):
                entry.next_look_s = now + _UNCHANGED_S
                return entry
            if entry is not None:
                self._release(entry)
            return self._replaced(name, path, signature)

    def _used(self, name: str) -> _Open | None:
        """Return a session that is open, with one more user."""
        with self._lock:
            entry = self._open.get(name)
            if entry is not None:
                entry.users += 1
                self._open.move_to_end(name)
            return entry

    def _replaced(self, name: str, path: Path, signature: Signature) -> _Open:
        began_s = time.monotonic()
        try:
            opened = OpenedSession(name, path, "")
            videos = opened.videos.signature()
            opened.version = _version((signature, videos))
        except BaseException:
            with self._lock:
                self._failed[name] = signature
            raise
        ended_s = time.monotonic()
        wait_s = max(_UNCHANGED_S, (ended_s - began_s) / _SHARE)
        entry = _Open(opened, signature, videos, ended_s + wait_s, users=1)
        with self._lock:
            self._failed.pop(name, None)
            outdated = [self._open.pop(name)] if name in self._open else []
            self._open[name] = entry
            while len(self._open) > _MOST_OPEN:
                outdated.append(self._open.popitem(last=False)[1])
        for each in outdated:
            self._outdate(each)
        return entry

    def _release(self, entry: _Open) -> None:
        with self._lock:
            entry.users -= 1
            is_done = entry.is_outdated and not entry.users
        if is_done:
            entry.opened.close()

    def _outdate(self, entry: _Open) -> None:
        with self._lock:
            entry.is_outdated = True
            is_done = not entry.users
        if is_done:
            entry.opened.close()

    def close_outdated(self) -> None:
        """Close the sessions whose files are others by now: those take space for as long."""
        with self._lock:
            entries = [*self._open.items()]
        for name, entry in entries:
            path = entry.opened.path
            if time.monotonic() < entry.next_look_s or entry.is_of(signature_of(path)):
                continue
            with self._lock:
                if self._open.get(name) is not entry:
                    continue
                del self._open[name]
            self._outdate(entry)

    def close(self) -> None:
        """Close all sessions that nobody uses."""
        with self._lock:
            entries = [*self._open.values()]
            self._open.clear()
        for entry in entries:
            self._outdate(entry)


def signature_of(path: Path) -> Signature:
    """Return a value that changes when the files of a session do."""
    files = [path] if path.exists() else [file for _, file in numbered_files(path)]
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            facts = file.stat()
            grows = file.suffix == JOURNAL_SUFFIX and is_being_written(file)
            found.append((file.name, facts.st_size, facts.st_mtime_ns, facts.st_ino, grows))
    return tuple(sorted(found))


def _version(signature: object) -> str:
    return hashlib.sha256(repr(signature).encode(errors="backslashreplace")).hexdigest()[:16]


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Return sessions by their names: as much of the end of each path as tells them apart."""
    there = {os.path.abspath(path) for path in paths}
    parts = {path: _parts(path, there) for path in paths}
    used = dict.fromkeys(paths, 1)
    while True:
        names: dict[str, list[Path]] = {}
        for path in paths:
            names.setdefault(_joined(parts[path][-used[path] :]), []).append(path)
        longer = [
            path
            for same in names.values()
            for path in same
            if len(same) > 1 and used[path] < len(parts[path])
        ]
        if not longer:
            break
        for path in longer:
            used[path] += 1
    return {
        name if number == 1 else f"{name}#{number}": path
        for name, same in names.items()
        for number, path in enumerate(same, 1)
    }


def _parts(path: Path, there: set[str]) -> list[str]:
    file = Path(os.path.abspath(path))
    name = file.name.removesuffix(SESSION_SUFFIX)
    # A journal that will replace another recording keeps its suffix.
    if file.suffix == JOURNAL_SUFFIX and str(file.with_suffix(SESSION_SUFFIX)) not in there:
        name = file.name.removesuffix(JOURNAL_SUFFIX)
    return [*file.parts[1:-1], name]


def _joined(parts: Sequence[str]) -> str:
    text = "/".join(parts)  # names of files may be any bytes
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _is_named(key: str, wanted: str) -> bool:
    plain = key.removesuffix(JOURNAL_SUFFIX)
    return plain == wanted or plain.endswith(f"/{wanted}")

"""Many sessions at once: which ones files, folders and globs name, and a connection over them."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dgrec.errors import DgrecError, NotASessionError
from dgrec.files import resolved
from dgrec.format import Span, have_common_frames, original_of, recorded_spans
from dgrec.paths import SESSION_SUFFIXES, numbered_files
from dgrec.session.parts import part_of
from dgrec.session.session import Session

if TYPE_CHECKING:
    import duckdb

__all__ = ["connect", "names_something", "open_sessions", "unreadable"]


def connect(
    *paths: str | os.PathLike[str],
    memory_limit: str = "2GB",
    with_clips: bool = False,
    read_rows: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the views over all sessions that ``paths`` name.

    It is an ordinary connection, for SQL of your own: nothing is shut off. `open_sessions` says
    what a path may be; a session that cannot be read is left out with a warning.

    Args:
        read_rows: Read every row first, as `open_sessions` does where it is asked to.

    Raises:
        SessionError: None of them can be read.

    Example:
        >>> import dgrec
        >>> connection = dgrec.connect("recordings/")
        >>> connection.sql("SELECT model, count(*) FROM sessions GROUP BY model").fetchall()
        [('blazeface_short_range--128x128_float_tflite_cpu_1', 2)]
    """
    from dgrec.sql import views

    sessions = open_sessions(
        paths,
        lambda line: _warn(line, 5),
        with_clips=with_clips,
        read_rows=read_rows,
        check_all=True,  # what the connection will be asked is not known
    )
    return views.connect(sessions, memory_limit)


def open_sessions(
    paths: Iterable[str | os.PathLike[str]],
    skipped: Callable[[str], None] | None = None,
    *,
    with_clips: bool = False,
    on_clip: Callable[[str], None] | None = None,
    read_rows: bool = False,
    check_all: bool = False,
) -> list[Session]:
    """Open every session that ``paths`` name, each once.

    A path is a session, a folder (the sessions directly in it), or a glob (``**`` for folders
    within folders). Parts of one recording are one session where all that are there are named; a
    part named alone is opened alone. Of two files of one session, such as a copy, or a journal and
    the file it was sealed to, the best is taken: sealed, undamaged, with the most frames.

    Of folders and globs, each recorded frame is taken once: clips of what is there already are left
    out. A clip that is named itself is opened.

    Args:
        skipped: Called with one line for each file that is left out; without it, they are warned
            of (`UserWarning`).
        with_clips: Take clips, too, wherever they are found.
        on_clip: Called instead of ``skipped`` for clips.
        read_rows: Read every row first, and leave out what fails at that. It takes as long as
            reading does. Otherwise only those files are read that nothing vouches for: whoever
            forges checksums can still make a query fail that reads the damaged part.
        check_all: Compare all bytes of sealed files with their checksums first; otherwise they are
            compared when something reads them.

    Raises:
        SessionError: None of them can be read, or nothing is named.

    Example:
        >>> import dgrec
        >>> [session.path.name for session in dgrec.open_sessions(["recordings/"])]
        ['monday.parquet', 'tuesday.parquet']
    """
    tell = skipped if skipped is not None else _warn
    problems: list[DgrecError] = []
    opened: dict[Path, Session] = {}
    named: set[Path] = set()
    found = list(_gather(paths, problems))
    for path, is_named in found:
        if is_named:
            named.add(path)
        try:
            session = Session(path)
            if check_all:
                session.check()
            is_vouched_for = not session.sealed or session.has_checksums
            if read_rows:
                session.check_rows()
            elif len(found) > 1 and not is_vouched_for:
                for _ in session.batches():
                    pass
            opened[path] = session
        except DgrecError as error:
            problems.append(error)
        except OSError as error:
            problems.append(NotASessionError(f"{path}: cannot be read: {error.strerror}"))
    if not opened:
        raise _nothing(problems)
    for problem in problems:
        tell(f"{problem}; left out")
    distinct = list(_distinct(opened, tell))
    return distinct if with_clips else list(_without_clips(distinct, named, on_clip or tell))


def unreadable(sessions: Iterable[Session]) -> Iterator[tuple[Session, DgrecError]]:
    """Yield the sessions whose rows cannot be read, and why. They are closed."""
    for session in sessions:
        try:
            session.check_rows()
        except DgrecError as error:
            session.close()
            yield session, error


def names_something(path: str) -> bool:
    """Return whether a file, a folder, a recording in parts or a glob of files has this name."""
    if not path or "\0" in path:  # Path would take the first for the folder it is in
        return False
    try:
        return (
            Path(path).exists()
            or bool(numbered_files(Path(path)))
            or (glob.has_magic(path) and any(True for _ in _glob(path)))
        )
    except (OSError, ValueError):  # no file can have such a name, SQL may
        return False


def _warn(line: str, caller: int = 3) -> None:
    warnings.warn(line, UserWarning, stacklevel=caller)


def _nothing(problems: list[DgrecError]) -> DgrecError:
    if not problems:
        return NotASessionError("no session is named; give files, folders or globs")
    if len(problems) == 1:
        return problems[0]
    return NotASessionError(f"none of {len(problems)} can be read; the first: {problems[0]}")


@dataclass(frozen=True)
class _Candidate:
    path: Path
    #: Whether it was named itself, rather than found in a folder or by a glob.
    named: bool


def _gather(
    paths: Iterable[str | os.PathLike[str]], problems: list[DgrecError]
) -> Iterator[tuple[Path, bool]]:
    """Yield what to open, and whether it was named itself.

    Each file is there once, and the parts of a recording are one.
    """
    candidates: dict[Path, _Candidate] = {}
    for path in paths:
        if "\0" in os.fspath(path):
            problems.append(NotASessionError("a name cannot hold a NUL"))
            continue
        if not os.fspath(path):  # a variable that is not set; Path takes it for this folder
            problems.append(NotASessionError("an empty name stands for no session"))
            continue
        found = list(_expand(Path(path), problems))
        for candidate in found:
            file = resolved(candidate.path)
            known = candidates.get(file)
            if known is None or (candidate.named and not known.named):
                candidates[file] = candidate
    sets: dict[tuple[Path, str | None], list[_Candidate]] = {}
    set_of: dict[Path, tuple[Path, str | None]] = {}
    for file, candidate in candidates.items():
        part = part_of(candidate.path)
        if part is not None:
            set_of[file] = part
            sets.setdefault(part, []).append(candidate)
    whole = {part for part, members in sets.items() if _is_whole(part, members)}
    names = {name for name, _ in whole}
    done = set()
    for file, candidate in candidates.items():
        part = set_of.get(file)
        if part is None or part not in whole:
            # What a damaged part is missing from says so itself.
            if part is None or part[1] is not None or part[0] not in names:
                yield candidate.path, candidate.named
        elif part not in done:
            done.add(part)
            yield part[0], False


def _is_whole(part: tuple[Path, str | None], members: list[_Candidate]) -> bool:
    """Return whether ``members`` are all parts of their recording that are there."""
    name, set_id = part
    # A file of the recording's own name is what opening that name would give.
    if set_id is None or name.exists() or (len(members) == 1 and members[0].named):
        return False
    named = {member.path.stem for member in members}
    others = (file for _, file in numbered_files(name) if file.stem not in named)
    return not any(part_of(file) == part for file in others)


def _expand(path: Path, problems: list[DgrecError]) -> Iterator[_Candidate]:
    if path.is_dir():
        files = _files_in(path)
        if not files:
            problems.append(NotASessionError(f"{path}: is a folder without sessions"))
        yield from (_Candidate(file, False) for file in files)
    elif glob.has_magic(str(path)) and not path.exists():
        files = list(_glob(str(path)))
        # A wildcard at the end reaches videos and tables beside the sessions, too.
        files = sorted(file for file in files if file.suffix in SESSION_SUFFIXES and file.is_file())
        if not files:
            problems.append(NotASessionError(f"{path}: matches no session"))
        yield from (_Candidate(file, False) for file in files)
    else:
        yield _Candidate(path, True)


def _glob(pattern: str) -> Iterator[Path]:
    # Path.glob takes no pattern that starts at the root.
    return map(Path, glob.iglob(pattern, recursive=True))  # noqa: PTH207


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix in SESSION_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _without_clips(
    sessions: Sequence[Session], named: set[Path], tell: Callable[[str], None]
) -> Iterator[Session]:
    """Yield sessions without the clips, found and not named, whose frames are there already."""
    originals = {
        session_id: session.path
        for session in sessions
        if original_of(session.metadata) is None
        for session_id in (session.id, *(str(p.metadata.get("session_id")) for p in session.parts))
    }
    kept: dict[str | None, list[tuple[Path, list[Span]]]] = {}
    for session in sessions:
        original = original_of(session.metadata)
        if original is None or session.path in named:
            yield session
            continue
        spans = recorded_spans(session.metadata)
        earlier = kept.setdefault(original, [])
        other = originals.get(original) or next(
            (path for path, others in earlier if have_common_frames(spans, others)), None
        )
        if other is None:
            earlier.append((session.path, spans))
            yield session
            continue
        tell(f"{session.path}: is a clip with frames of {other}; left out")
        session.close()


def _worth(session: Session) -> tuple[bool, bool, int]:
    """Return what sorts the better one of two files of the same session before the other."""
    return not session.sealed, bool(session.damage), -len(session)


def _distinct(opened: dict[Path, Session], tell: Callable[[str], None]) -> Iterator[Session]:
    """Yield sessions in their order, without those that are here a second time."""
    first: dict[str, Session] = {}
    for session in sorted(opened.values(), key=_worth):
        first.setdefault(session.id, session)
    # Parts named beside the recording that they belong to.
    covered = {resolved(file) for s in opened.values() if s.parts for file in s.files}
    for session in opened.values():
        if not session.parts and resolved(session.path) in covered:
            session.close()
            continue
        other = first[session.id]
        if session.id and other is not session:
            tell(f"{session.path}: is the same session as {other.path}; left out")
            session.close()
            continue
        yield session

"""Finds the sessions that files, folders and globs name, and opens all of them."""

from __future__ import annotations

import glob
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dgrec.arguments import check_path, one_or_more
from dgrec.errors import ConfigError, DgrecError, NotASessionError, value_text
from dgrec.files import resolved
from dgrec.format import Span, have_common_frames, merged_from, original_of, recorded_spans
from dgrec.paths import JOURNAL_SUFFIX, SESSION_SUFFIXES, numbered_files, sealed_path
from dgrec.session.membership import part_of
from dgrec.session.names import session_file
from dgrec.session.session import Session

if TYPE_CHECKING:
    import duckdb

#: How often to look for files while recorders change them.
_ATTEMPTS = 5


def connect(
    *paths: str | os.PathLike[str],
    memory_limit: str = "2GB",
    with_clips: bool = False,
    read_rows: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the views over all sessions that ``paths`` name.

    It is an ordinary connection, for SQL of your own, without a sandbox. For what a path may be see
    `open_sessions`; a session that cannot be read is left out with a warning.

    Args:
        memory_limit: The memory that DuckDB may use.
        read_rows: Read every row first; see `open_sessions`.

    Raises:
        SessionError: None of them can be read.
        ConfigError: The limit is not a size.

    Example:
        >>> import dgrec
        >>> connection = dgrec.connect("recordings/")
        >>> connection.sql("SELECT model, count(*) FROM sessions GROUP BY model").fetchall()
        [('blazeface_short_range--128x128_float_tflite_cpu_1', 2)]
    """
    import duckdb

    from dgrec.sql import views

    sessions = open_sessions(
        paths,
        lambda line: _warn(line, 5),
        with_clips=with_clips,
        read_rows=read_rows,
        check_all=True,  # the connection may be asked about anything
    )
    try:
        return views.connect(sessions, memory_limit)
    except duckdb.ParserException:
        raise ConfigError(
            f"memory_limit: {value_text(memory_limit)} is not a size such as '2GB'"
        ) from None


def open_sessions(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    skipped: Callable[[str], None] | None = None,
    *,
    with_clips: bool = False,
    on_clip: Callable[[str], None] | None = None,
    read_rows: bool = False,
    check_all: bool = False,
) -> list[Session]:
    """Open every session that ``paths`` (or one path) name, each once.

    A path is a session, a folder (the sessions directly in it), or a glob (``**`` for folders
    within folders). If all existing parts of one recording are named, they are one session; a
    part named alone is opened alone. Of two files of one session, such as a copy, or a journal and
    the file it was sealed to, the best is taken: sealed, undamaged, with the most frames.

    From folders and globs, each recorded frame is taken once: clips of a session that is opened
    anyway are left out. A clip that is named itself is opened.

    Args:
        skipped: Called with one line for each file that is left out; None: a `UserWarning` each.
        with_clips: Open clips, too, wherever they are found.
        on_clip: Called instead of ``skipped`` for clips.
        read_rows: Read every row first, and leave out files whose rows cannot be read. Otherwise
            only files without checksums are read: a file with forged checksums can still make a
            query fail that reads its damaged part.
        check_all: Compare all bytes of sealed files with their checksums first; otherwise each is
            compared when it is read.

    Raises:
        SessionError: None of them can be read, or nothing is named.

    Example:
        >>> import dgrec
        >>> [session.path.name for session in dgrec.open_sessions(["recordings/"])]
        ['monday.parquet', 'tuesday.parquet']
    """
    paths = one_or_more("paths", paths, "a path", os.PathLike)
    for path in paths:
        check_path("paths", path)
    report = skipped or _warn
    problems: list[DgrecError] = []
    opened: dict[Path, Session] = {}
    named: set[Path] = set()
    given = set(map(Path, paths))
    found = _gather(paths, problems)
    for path, is_named in found:
        try:
            session = Session(path) if path in given else open_found(path)
            if check_all:
                session.check()
            if read_rows:
                session.check_rows()
            elif len(found) > 1 and session.sealed and not session.has_checksums:
                for _ in session.batches():
                    pass
            opened[session.path] = session
            if is_named:
                named.add(session.path)
        except DgrecError as error:
            problems.append(error)
        except OSError as error:
            problems.append(NotASessionError(f"{path}: cannot be read: {error.strerror}"))
    if not opened:
        raise _nothing(problems)
    for problem in problems:
        report(f"{problem}; left out")
    distinct = list(_distinct(opened, report))
    return distinct if with_clips else list(_without_clips(distinct, named, on_clip or report))


def find_sessions(
    paths: Iterable[str | os.PathLike[str]],
) -> tuple[list[Path], list[DgrecError]]:
    """Return the sessions that ``paths`` name, unopened, and errors for what cannot be one.

    Paths are those of `open_sessions`. Copies, clips and damaged files are included.
    """
    problems: list[DgrecError] = []
    return [path for path, _ in _gather(paths, problems)], problems


def current_path(path: Path) -> Path:
    """Return the file of a session that was found before: its journal may have been sealed."""
    if path.suffix == JOURNAL_SUFFIX and not path.exists() and sealed_path(path).exists():
        return sealed_path(path)
    return path


def open_found(path: Path) -> Session:
    """Open a session that was found before, even if it was sealed since.

    Raises:
        SessionError: It cannot be read.
    """
    try:
        return Session(path)
    except NotASessionError:
        now = current_path(path)
        if now == path:
            raise
    return Session(now)


def unreadable(sessions: Iterable[Session]) -> Iterator[tuple[Session, DgrecError]]:
    """Yield the sessions whose rows cannot be read, closed, and why."""
    for session in sessions:
        try:
            session.check_rows()
        except DgrecError as error:
            session.close()
            yield session, error


def names_something(path: str) -> bool:
    """Return whether a file, a folder, a recording in parts or a glob of files has this name."""
    if not path or "\0" in path:  # Path("") is the current folder
        return False
    try:
        return _is_a_name(Path(path)) or (glob.has_magic(path) and any(True for _ in _glob(path)))
    except (OSError, ValueError):  # not possible as a file name, such as long SQL
        return False


def _warn(line: str, caller: int = 3) -> None:
    warnings.warn(line, UserWarning, stacklevel=caller)


def _nothing(problems: list[DgrecError]) -> DgrecError:
    if not problems:
        return NotASessionError("no session is named; give files, folders or globs")
    if len(problems) == 1:
        return problems[0]
    return NotASessionError(f"none of {len(problems):,} can be read; the first: {problems[0]}")


@dataclass(frozen=True)
class _Candidate:
    path: Path
    #: Whether it was named itself, not found in a folder or by a glob.
    named: bool


def _gather(
    paths: Iterable[str | os.PathLike[str]], problems: list[DgrecError]
) -> list[tuple[Path, bool]]:
    """Return the paths to open, each once, and whether they were named themselves.

    All parts of a recording are one path.
    """
    paths = list(paths)
    found: list[DgrecError] = []
    candidates = _candidates(paths, found)
    for _ in range(_ATTEMPTS):
        chosen, is_settled = _chosen(candidates)
        if is_settled:
            break
        # A recorder may have sealed, begun or removed a part meanwhile.
        before, found = candidates, []
        candidates = _candidates(paths, found)
        if candidates == before:
            break
    problems += found
    return chosen


def _candidates(
    paths: Iterable[str | os.PathLike[str]], problems: list[DgrecError]
) -> dict[Path, _Candidate]:
    """Return the files that ``paths`` name, by their absolute paths."""
    candidates: dict[Path, _Candidate] = {}
    for path in paths:
        if "\0" in os.fspath(path):
            problems.append(NotASessionError("a name cannot hold a NUL"))
            continue
        if not os.fspath(path):  # a variable that is not set; Path("") is the current folder
            problems.append(NotASessionError("the name of a session is empty"))
            continue
        try:
            expanded = list(_expand(Path(path), problems))
        except OSError as error:  # a folder without permission, a name that is too long
            problems.append(NotASessionError(f"{path}: cannot be read: {error.strerror}"))
            continue
        for candidate in expanded:
            file = resolved(candidate.path)
            known = candidates.get(file)
            if known is None or (candidate.named and not known.named):
                candidates[file] = candidate
    return candidates


def _chosen(candidates: dict[Path, _Candidate]) -> tuple[list[tuple[Path, bool]], bool]:
    """Return the paths as `_gather` does, and whether all files are still as they were found."""
    part_of_file = {file: part_of(candidate.path) for file, candidate in candidates.items()}
    sets: defaultdict[tuple[Path, str | None], list[_Candidate]] = defaultdict(list)
    for file, part in part_of_file.items():
        if part is not None:
            sets[part].append(candidates[file])
    whole = {part for part, members in sets.items() if _is_whole(part, members)}
    names = {name for name, _ in whole}
    chosen = []
    is_settled = True
    for file, part in part_of_file.items():
        candidate = candidates[file]
        if not candidate.named and (
            (part is not None and part not in whole) or not candidate.path.exists()
        ):
            is_settled = False
        if part in whole:
            if candidate is sets[part][0]:
                chosen.append((part[0], False))
        # Otherwise it is a damaged part, which its set reports.
        elif part is None or part[1] is not None or part[0] not in names:
            chosen.append((candidate.path, candidate.named))
    return chosen, is_settled


def _is_whole(part: tuple[Path, str | None], members: list[_Candidate]) -> bool:
    """Return whether ``members`` are all existing parts of their recording."""
    name, set_id = part
    # If there is a file of the recording's own name, that name means the file.
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
    elif glob.has_magic(str(path)) and not _is_a_name(path):
        files = list(_glob(str(path)))
        # A wildcard at the end also matches videos and tables beside the sessions.
        files = sorted(file for file in files if file.suffix in SESSION_SUFFIXES and file.is_file())
        if not files:
            problems.append(NotASessionError(f"{path}: matches no session"))
        yield from (_Candidate(file, False) for file in files)
    else:
        yield _Candidate(session_file(path), True)


def _is_a_name(path: Path) -> bool:
    """Return whether a session has this name, which as a pattern might match another one."""
    return session_file(path).exists() or bool(numbered_files(path))


def _glob(pattern: str) -> Iterator[Path]:
    # Path.glob does not take absolute patterns.
    return map(Path, glob.iglob(pattern, recursive=True))  # noqa: PTH207


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix in SESSION_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _without_clips(
    sessions: Sequence[Session], named: set[Path], report: Callable[[str], None]
) -> Iterator[Session]:
    """Yield sessions without clips of other sessions, unless the clips were named."""
    originals = {
        session_id: session.path
        for session in sessions
        if original_of(session.metadata) is None
        for session_id in (session.id, *(str(p.metadata.get("session_id")) for p in session.parts))
    }
    merged = _merged_twice(sessions, named)
    kept: dict[str | None, list[tuple[Path, list[Span]]]] = {}
    for session in sessions:
        if (other := merged.get(session.path)) is not None:
            report(f"{session.path}: its frames are also in {other}; left out")
            session.close()
            continue
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
        report(f"{session.path}: is a clip with frames of {other}; left out")
        session.close()


def _merged_twice(sessions: Sequence[Session], named: set[Path]) -> dict[Path, Path]:
    """Return the sessions to leave out since another has their frames, and that other for each.

    A merged session is left out if all sessions that it was merged from are there, else these are.
    """
    found: dict[Path, Path] = {}
    by_id = {session.id: session.path for session in sessions}
    for session in sessions:
        ids = merged_from(session.metadata)
        there = [by_id[each] for each in ids if each in by_id]
        if ids and len(there) == len(ids):
            found[session.path] = there[0]
        else:
            found |= dict.fromkeys(there, session.path)
    return {path: other for path, other in found.items() if path not in named}


def _worth(session: Session) -> tuple[bool, bool, int]:
    """Return a sort key that puts the better of two files of one session first."""
    return not session.sealed, bool(session.damage), -len(session)


def _distinct(opened: dict[Path, Session], report: Callable[[str], None]) -> Iterator[Session]:
    """Yield sessions in their order, without duplicates."""
    first: dict[str, Session] = {}
    for session in sorted(opened.values(), key=_worth):
        first.setdefault(session.id, session)
    # Parts that are named together with the recording that they belong to.
    covered = {resolved(file) for s in opened.values() if s.parts for file in s.files}
    for session in opened.values():
        if not session.parts and resolved(session.place) in covered:
            session.close()
            continue
        other = first[session.id]
        if session.id and other is not session:
            report(f"{session.path}: is the same session as {other.path}; left out")
            session.close()
            continue
        yield session

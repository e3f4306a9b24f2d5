"""Which files are parts of a recording, and of which set.

A set is named NAME.parquet (or NAME), which is not a file. Its parts belong together by
``part.set_id`` in their metadata: another file with such a name is never taken for one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dgrec.errors import DgrecError
from dgrec.format import Journal, Metadata, SealedFile
from dgrec.paths import JOURNAL_SUFFIX, SESSION_SUFFIX, numbered_files, part_number


def parts_of(output: Path) -> list[Path]:
    """Return the files that are parts of any recording with this name, sealed or not."""
    return [path for _, path in numbered_files(output) if _membership(path)[0] is not None]


def journals_of(output: Path) -> list[Path]:
    """Return the journals that are parts of any recording with this name."""
    journals = [path for _, path in numbered_files(output) if path.suffix == JOURNAL_SUFFIX]
    return [path for path in journals if _membership(path)[0] is not None]


def part_of(file: Path) -> tuple[Path, str | None] | None:
    """Return (name of the recording, id of the set) of a part; None for any other file.

    The id is None for a file with a part's name that is too damaged to tell.
    """
    part = part_number(file)
    if part is None:
        return None
    set_id, broken = _membership(file)
    if set_id is None and not broken:
        return None
    return file.with_name(f"{part[0]}{SESSION_SUFFIX}"), set_id


def is_in_set(path: Path, set_id: str) -> bool:
    """Return whether a file is a part of that set, or too damaged to tell."""
    found, broken = _membership(path)
    return broken or found == set_id


def first_frame(metadata: Metadata) -> int:
    """Return the number of the first frame of a session, which is not 0 in a later part."""
    return metadata.get("part", {}).get("first_frame") or 0


def _metadata(path: Path) -> Metadata:
    """Return the metadata of a file without reading its rows."""
    if path.suffix == JOURNAL_SUFFIX:
        return Journal.open(path).metadata
    sealed = SealedFile(path, check=False)
    sealed.close()
    return sealed.metadata


def _membership(path: Path) -> tuple[str | None, bool]:
    """Return which set a file belongs to, if any, and whether it is too damaged to tell."""
    try:
        part = _metadata(path).get("part")
    except OSError:
        return None, False  # it was removed
    except DgrecError:
        return None, True
    return (None if part is None else str(part.get("set_id"))), False


def parts_in_set(path: Path) -> tuple[list[tuple[int, Path]], str | None]:
    """Return (number, path) of the parts of one set, each number once, and the set's id.

    Two sets share a name until the first part of a recording that overwrites an older one is
    sealed. Until then the older one is returned.
    """
    files = [(number, file, *_membership(file)) for number, file in numbered_files(path)]
    set_id = _chosen((file, id_) for _, file, id_, _ in files)
    chosen: dict[int, Path] = {}
    for number, file, id_, _ in files:
        if id_ is not None and id_ == set_id:
            chosen.setdefault(number, file)
    for number, file, _, broken in files:
        if broken:  # opening it reports what is wrong with it
            chosen.setdefault(number, file)
    return sorted(chosen.items()), set_id


def set_of(path: Path) -> str | None:
    """Return the id of the set that `parts_in_set` chooses, without looking at all parts."""
    return _chosen((file, _membership(file)[0]) for _, file in numbered_files(path))


def _chosen(members: Iterable[tuple[Path, str | None]]) -> str | None:
    first = None
    for file, set_id in members:
        if set_id is not None and file.suffix == SESSION_SUFFIX:
            return set_id
        first = first or set_id
    return first

"""Finding journals whose recorder was killed, and sealing what they hold."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dgrec.alerts import without_clip
from dgrec.errors import DgrecError, NotASessionError, OutputError, StorageError
from dgrec.files import check_session_name, lock
from dgrec.footage import base_name, difference_of, own_videos
from dgrec.format import (
    Journal,
    Metadata,
    SealedFile,
    is_being_written,
    seal,
    verify_checksums,
    video_entries,
)
from dgrec.paths import JOURNAL_SUFFIX, SESSION_SUFFIX, new_video_path, sealed_path, video_names
from dgrec.recorder.video import recover_videos
from dgrec.session import journals_of, part_of


@dataclass(frozen=True)
class Recovery:
    """The result of recovering a journal.

    ``complete``: every byte of it could be read. ``ended``: the recorder had finished; if not, what
    it had in memory when it was killed (less than a second) is lost.
    """

    output: Path
    frames: int
    detections: int
    ended: bool
    damage: tuple[str, ...]
    journal_removed: bool
    #: What was recovered of its videos, a line each.
    videos: tuple[str, ...] = ()
    #: How many alerts of the whole recording (at ``recording``) lack the clip that was to be cut
    #: of each.
    without_clip: int = 0
    recording: Path = Path()

    @property
    def complete(self) -> bool:
        return not self.damage


def left_behind(folder: Path) -> list[Path]:
    """Return the journals in ``folder`` that no process is writing."""
    return [
        path
        for path in sorted(folder.glob(f"*{JOURNAL_SUFFIX}"))
        if not is_being_written(path) and is_journal(path)
    ]


def is_journal(path: Path) -> bool:
    """Return whether the file ``path`` has anything of a recording."""
    try:
        Journal.open(path)
    except (NotASessionError, OSError):
        return False
    except DgrecError:  # damaged, or of a newer dgrec
        return True
    return True


def recover(journal_path: Path, output: Path | None = None, *, keep: bool = False) -> Recovery:
    """Seal what is readable in a journal, with what can be recovered of its videos.

    The journal is removed only if the sealed file is on disk and nothing was lost.

    Raises:
        NotASessionError: Nothing in the file is readable.
        OutputError: The sealed file exists already, or cannot have that name, or another process is
            writing or recovering the journal.
        StorageError: The journal cannot be read, or the sealed file not be written. Both are as
            before.
    """
    if not journal_path.is_file():
        raise NotASessionError(_no_journal(journal_path))
    output = output or sealed_path(journal_path)
    if journal_path.suffix == SESSION_SUFFIX:
        raise NotASessionError(
            f"{journal_path}: is not a journal ({JOURNAL_SUFFIX}); "
            f"`dgrec verify {journal_path}` checks whether it is whole"
        )
    check_session_name(output)
    removed = False
    try:
        with _locked(journal_path):
            if journal_path.stat().st_size == 0:
                raise NotASessionError(
                    f"{journal_path}: is empty: its recorder was killed before its first write"
                )
            journal = Journal.open(journal_path, is_ours=True)
            videos = None
            if output.exists():
                metadata = _existing(output, journal)
                _put_videos_in_place(output, metadata)
            else:
                _check_videos(journal)
                videos = recover_videos(journal)
                overrides = {} if videos is None else {"video": videos.entries}
                metadata = seal(journal, output, overrides=overrides)
            damage = tuple(journal.damage)
            if not damage and not keep:
                with contextlib.suppress(OSError):
                    journal_path.unlink()
                    removed = True
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"{journal_path}: cannot be read: {reason}") from None
    totals = metadata["totals"]
    is_asked = metadata.get("options", {}).get("clip_on_alert")
    recording = output
    if (of := part_of(output)) is not None:
        recording = of[0]
    return Recovery(
        output=output,
        frames=totals["frames"],
        detections=totals["detections"],
        ended=journal.closing is not None,
        damage=damage,
        journal_removed=removed,
        videos=tuple(videos.notes) if videos is not None else (),
        without_clip=without_clip(recording) if is_asked else 0,
        recording=recording,
    )


def _check_videos(journal: Journal) -> None:
    """Raise `OutputError` if a video of the journal is being recorded: the journal is a copy.

    The video's end would be cut off, and what is written after that would be damaged.
    """
    named = {base_name(entry.get("file")) for entry in video_entries(journal.metadata)}
    folder = journal.path.parent
    for other in folder.glob(f"*{JOURNAL_SUFFIX}") if named else ():
        found = [video for video in video_names(other) if video.name in named]
        # If the other one is a link to this journal, the lock is ours.
        if found and is_being_written(other) and not other.samefile(journal.path):
            raise OutputError(
                f"{found[0]}: is being recorded now, with {other.name}; wait for its end, or take "
                "the copy to another folder"
            )


def _put_videos_in_place(output: Path, metadata: Metadata) -> None:
    """Give the videos their names if the recorder was killed before it did.

    It had replaced an older session, whose videos still have these names.
    """
    for entry in video_entries(metadata):
        name = base_name(entry.get("file"))
        video = output.with_name(name)
        new = new_video_path(video)
        if not (name and new.is_file() and video in own_videos(output) and entry.get("sha256")):
            continue
        if difference_of(video, entry) and not difference_of(new, entry):
            new.replace(video)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a journal, so that no other process seals or removes it meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # sealed by another process, since it was there
        raise NotASessionError(_no_journal(path)) from None
    try:
        if not lock(descriptor):
            raise OutputError(
                f"{path}: is being recorded now, or recovered by another process; "
                "stop that first, or wait for it"
            )
        # Another process may have sealed it before.
        if not _is_at(path, descriptor):
            raise NotASessionError(_no_journal(path))
        yield
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _no_journal(path: Path) -> str:
    """Return the message for a missing journal; for a recording in parts it names the journal."""
    if path.is_dir():
        return f"{path}: is a folder; name one journal in it"
    if path.exists() and not path.is_file():
        return f"{path}: is a pipe or a device, not a journal"
    if left := journals_of(path):
        return f"{path}: is a recording in parts; its journal is {left[-1]}"
    sealed = sealed_path(path)
    is_sealed = path.suffix == JOURNAL_SUFFIX and sealed.is_file()
    there = f"; it is sealed: {sealed}" if is_sealed else ""
    return f"{path}: no such journal{there}"


def _existing(output: Path, journal: Journal) -> Metadata:
    """Return the metadata of ``output`` if it was sealed from this journal.

    The recorder may have been killed after sealing, before it removed the journal.
    """
    refusal = OutputError(f"{output}: exists already; choose another name with --output")
    frames = sum(batch.num_rows for batch in journal.batches())
    try:
        verify_checksums(output)
        sealed = SealedFile(output)
    except DgrecError:
        raise refusal from None
    same = sealed.metadata.get("session_id") == journal.metadata.get("session_id")
    if not same or sealed.num_rows < frames:
        raise refusal
    return sealed.metadata

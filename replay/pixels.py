"""The pixels of a session's frames: where they are, and which belong to which row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, Self

import numpy as np

from dgrec import sample
from dgrec.errors import VideoError
from dgrec.session import Session
from dgrec.video import Image
from replay.video import Clip

__all__ = ["Footage", "Pixels", "find_footage"]


@dataclass(frozen=True)
class Footage:
    """Where a session's pixels are."""

    #: The video; None when there is none, and a blank canvas has to do.
    path: Path | None
    #: The column that says which of its frames a row is about.
    column: Literal["source_frame", "video_frame"] = "source_frame"
    #: Whether the recording went through the file again and again, counting on.
    loops: bool = False
    #: What the user should know about the choice, in one line; "" for nothing.
    note: str = ""


def find_footage(session: Session, video: Path | None = None) -> Footage:
    """Find the video that the session was recorded from, or one recorded beside it.

    A file counts only if its size and digest are still those of the recording; results drawn over
    other pixels would look right and be wrong.

    Args:
        session: The session.
        video: Where the user says the pixels are: taken as it is, with a note if it differs.

    Raises:
        VideoError: ``video`` does not exist.
    """
    metadata = session.metadata
    source = _mapping(metadata.get("source"))
    loops = bool(source.get("loop"))
    recorded = [item for item in _recorded_videos(metadata) if item.get("kind") == "raw"]
    if len(session.parts) > 1:
        recorded = []  # each part has its own, and counts its frames from 0
    folder = session.path.absolute().parent
    if video is not None:
        return _given(video, source, recorded, loops)
    changed = None
    for path in _candidates(source, folder):
        if path.is_file():
            if not _difference(path, source):
                return Footage(path, "source_frame", loops)
            changed = changed or path
    if changed is not None:
        reason = f"{changed.name} is no longer the file that was recorded"
    elif source.get("kind") in ("camera", "url"):
        reason = f"the source was a {'camera' if source['kind'] == 'camera' else 'stream'}"
    else:
        reason = f"{source.get('file') or 'the source'} is not where it was"
    for item in recorded:
        path = folder / _base_name(item.get("file"))
        if path.is_file() and not _difference(path, item):
            # For a camera this is how it should be; a file that is gone is worth a word.
            note = "" if source.get("kind") in ("camera", "url") else f"{reason}: using {path.name}"
            return Footage(path, "video_frame", note=note)
    return Footage(
        None,
        note=f"{reason}: drawing on a blank canvas (--video PATH says where the pixels are)",
    )


def _given(
    video: Path, source: Mapping[str, Any], recorded: list[Mapping[str, Any]], loops: bool
) -> Footage:
    if not video.exists():
        raise VideoError(f"{video}: no such file")
    if not video.is_file():
        raise VideoError(f"{video}: not a video file")
    for item in recorded:
        difference = _difference(video, item)
        if not difference or video.name == _base_name(item.get("file")):
            note = f"{video.name} is not the video that was recorded: {difference}"
            return Footage(video, "video_frame", note=note if difference else "")
    difference = _difference(video, source)
    note = f"{video.name} is not the file that was recorded: {difference}" if difference else ""
    return Footage(video, "source_frame", loops, note)


def _candidates(source: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Yield where the source file may be, the most telling place first."""
    relative, path = source.get("relative"), source.get("path")
    if isinstance(relative, str) and relative:
        yield folder / relative
    if source.get("kind") == "sample":
        yield sample.CLIP
    if isinstance(path, str) and path:
        yield Path(path)


def _difference(path: Path, recorded: Mapping[str, Any]) -> str:
    """Return how the file differs from what was recorded of it; "" when it does not."""
    try:
        size, sha256 = recorded.get("size"), recorded.get("sha256")
        if isinstance(size, int) and path.stat().st_size != size:
            return f"{path.stat().st_size:,} bytes instead of {size:,}"
        if isinstance(sha256, str) and sha256:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256.lower():
                    return "its contents have changed"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return ""


def _recorded_videos(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    videos = metadata.get("video")
    return [_mapping(item) for item in videos] if isinstance(videos, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _base_name(name: Any) -> str:
    """Return the last part of a name: a recorded video stands beside its session, nowhere else."""
    return PureWindowsPath(PurePosixPath(str(name or "")).name).name


class Pixels:
    """The pixels of one row after the other.

    Without footage every frame is black, of the size that was recorded.

    Raises:
        VideoError: The footage is no video.
    """

    def __init__(self, footage: Footage) -> None:
        self.footage = footage
        #: Rows asked for that have no pixels: past the end, or never in the recorded video.
        self.missing = 0
        #: Size of the video's frames, when it is not the recorded one and they are resized.
        self.resized_from: tuple[int, int] | None = None
        self._clip = Clip(footage.path) if footage.path is not None else None

    def frame(self, row: Mapping[str, Any]) -> Image | None:
        """Return the pixels that the row's results were found in; None if there are none.

        Rows are cheapest in their own order. The array is the caller's.
        """
        width, height = int(row["width"]), int(row["height"])
        if self._clip is None:
            return np.zeros((height, width, 3), np.uint8)
        index = row[self.footage.column]
        image = None if index is None else self._read(self._clip, int(index))
        if image is None:
            self.missing += 1
            return None
        if image.shape[:2] != (height, width):
            import cv2

            self.resized_from = (image.shape[1], image.shape[0])
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return image

    def _read(self, clip: Clip, index: int) -> Image | None:
        image = clip.read(index % clip.length if self.footage.loops and clip.length else index)
        if image is None and self.footage.loops and clip.length:
            # Only now is it known where the file ends, and with it which round this is.
            image = clip.read(index % clip.length)
        return image

    def notes(self) -> list[str]:
        """Return what the user should know after the last frame, a line each."""
        notes = []
        path = self.footage.path
        if self.missing and path is not None and self._clip is not None:
            if self._clip.length is not None:
                why = f"{path.name} ends after {self._clip.length:,} frames"
            else:
                why = f"not every frame is in {path.name}"
            notes.append(f"{why}: {self.missing:,} recorded frames have no pixels and are left out")
        if self.resized_from is not None and path is not None:
            width, height = self.resized_from
            notes.append(f"{path.name} is {width}x{height}: resized to the recorded frame size")
        return notes

    def close(self) -> None:
        if self._clip is not None:
            self._clip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

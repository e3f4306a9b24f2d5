"""The video files of a session, and when the picture of each row is shown in them."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dgrec.errors import DgrecError, VideoError
from dgrec.footage import (
    Footage,
    GrowingPictureTimes,
    PictureTimes,
    Shown,
    find_footage,
    find_recorded,
    source_paths,
    videos_beside,
)
from dgrec.format import is_being_written, video_entries
from dgrec.paths import JOURNAL_SUFFIX
from dgrec.session import Session
from dgrec.video import import_av, open_container

#: Videos whose index is kept.
_MOST_INDEXED: Final = 8
#: Digests of larger recorded videos are compared only where the times of their pictures are not
#: those of the rows: a gigabyte takes a second.
LARGEST_DIGESTED: Final = 32 << 20
#: Types of containers that browsers may play, by FFmpeg's name of each.
_TYPES: Final = {
    "mov": "video/mp4",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "matroska": "video/x-matroska",
}
_BY_SUFFIX: Final = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
}
#: Reasons why a row has no picture that may differ once digests are compared.
_DOUBTFUL: Final = ("other", "unrelated", "ends", "damaged")
#: Codecs that some browser can decode.
_CODECS: Final = frozenset(("h264", "hevc", "vp8", "vp9", "av1"))


@dataclass(frozen=True)
class Video:
    """A video file of a session."""

    path: Path
    #: ``raw``, ``annotated`` or ``source``: what the session was recorded from.
    kind: str
    mime: str
    codec: str | None
    width: int | None
    height: int | None
    note: str = ""
    #: Of the file that was found: another one in its place is not served.
    inode: int | None = None

    @property
    def is_for_browsers(self) -> bool:
        return bool(self.mime) and self.codec in _CODECS


@dataclass(frozen=True)
class _Stretch:
    """The footage of the rows from a frame on."""

    first_frame: int
    footage: Footage
    #: Its number among the videos.
    number: int


class Videos:
    """The videos of a session: those that were recorded with it, and the file it was recorded from.

    Args:
        rows: Held while rows of the session are read.
    """

    def __init__(self, session: Session, rows: Any) -> None:
        self._session = session
        self._rows = rows
        self._lock = threading.RLock()
        self._found: list[Video] | None = None
        self._stretches: list[_Stretch] = []
        self._times: OrderedDict[int, PictureTimes | GrowingPictureTimes | None] = OrderedDict()
        self._largest: int | None = LARGEST_DIGESTED
        self.note = ""
        folder, source = session.place.parent, session.metadata.get("source", {})
        self._sources = {*source_paths(source, folder)}
        self._source_size = source.get("size")
        #: Where videos are, or may be.
        self._places = [
            *videos_beside(session.place, session.metadata),
            *self._sources,
        ]
        last = session.parts[-1].place if session.parts else session.place
        #: Whether the recording goes on.
        self.is_growing = last.suffix == JOURNAL_SUFFIX and is_being_written(last)

    def signature(self) -> tuple[tuple[str, int, int, int], ...]:
        """Return a value that changes when videos come or go, or are replaced.

        It does not when they grow in a recording that goes on.
        """
        found = []
        for place in self._places:
            with contextlib.suppress(OSError, ValueError):  # there is none of that name
                facts = place.stat()
                size, changed_ns = facts.st_size, facts.st_mtime_ns
                # One of another size is not what was recorded, and may be being written.
                is_other = place in self._sources and self._source_size not in (None, size)
                if self.is_growing or is_other:
                    size = changed_ns = 0
                found.append((str(place), size, changed_ns, facts.st_ino))
        return tuple(found)

    @property
    def all(self) -> Sequence[Video]:
        with self._lock:
            if self._found is None:
                with self._rows:
                    self._found = self._find()
            return self._found

    @property
    def used(self) -> Sequence[int]:
        """The numbers of those videos that hold the pictures of rows."""
        with self._lock:
            _ = self.all
            return sorted({each.number for each in self._stretches if each.number >= 0})

    def of(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, Shown | str]]:
        """Return for each row the number of its video (-1: none), and when its picture is shown.

        Args:
            rows: With their ``frame`` and the columns that `PictureTimes` needs.
        """
        with self._lock:
            _ = self.all
            found = [self._of(row) for row in rows]
            if self._largest is not None and any(shown in _DOUBTFUL for _, shown in found):
                self._check_digests()
                found = [self._of(row) for row in rows]
        for at in range(len(found) - 1):
            (number, shown), (following, after) = found[at], found[at + 1]
            if isinstance(shown, str) or isinstance(after, str) or number != following:
                continue
            if shown.duration_s is None and after.pts_s > shown.pts_s:
                found[at] = number, shown._replace(duration_s=after.pts_s - shown.pts_s)
        return found

    def _check_digests(self) -> None:
        """Find the videos once more, by digest: in unchanged ones, the rows' numbers are valid."""
        self._largest = None
        self._close_indexes()
        with self._rows:
            self._found = self._find()

    def _of(self, row: Mapping[str, Any]) -> tuple[int, Shown | str]:
        stretch = self._stretch_of(row["frame"])
        if stretch is None:
            return -1, "no_video"
        times = self._times_of(stretch)
        if times is None:
            return -1, "not_for_browsers"
        shown = times.of(row)
        return (-1 if isinstance(shown, str) else stretch.number), shown

    def _stretch_of(self, frame: int) -> _Stretch | None:
        found = None
        for stretch in self._stretches:
            if stretch.first_frame > frame and found is not None:
                break
            found = stretch
        return found if found is not None and found.number >= 0 else None

    def _times_of(self, stretch: _Stretch) -> PictureTimes | GrowingPictureTimes | None:
        number = stretch.number
        if number in self._times:
            self._times.move_to_end(number)
            return self._times[number]
        times: PictureTimes | GrowingPictureTimes | None = None
        video = self.all[number]
        if video.is_for_browsers:
            with contextlib.suppress(VideoError):
                grows = self.is_growing and stretch is self._stretches[-1]
                kind = GrowingPictureTimes if grows and video.kind == "raw" else PictureTimes
                times = kind(stretch.footage, video.path)
        self._times[number] = times
        while len(self._times) > _MOST_INDEXED:
            _, oldest = self._times.popitem(last=False)
            if oldest is not None:
                oldest.close()
        return times

    def _find(self) -> list[Video]:
        """Find the videos, and the rows of each."""
        session = self._session
        videos: list[Video] = []
        places: dict[Path, int] = {}
        try:
            footage = shown_footage(session, largest=self._largest)
            recorded, _ = find_recorded(session, largest=self._largest)
        except (DgrecError, OSError) as error:
            self.note = str(error)
            return videos

        def number_of(one: Footage, kind: str) -> int:
            if one.path is None:
                return -1
            if one.path not in places:
                places[one.path] = len(videos)
                videos.append(self._video(one, kind))
            return places[one.path]

        kind = _kind(footage)
        chosen = footage
        number = number_of(footage.part_with(session.first_frame), kind)
        if recorded is not None and kind == "source":
            # Footage that browsers cannot play has a recorded copy that they can.
            beside = number_of(recorded.part_with(session.first_frame), "raw")
            if beside >= 0 and not (number >= 0 and videos[number].is_for_browsers):
                chosen = recorded
        kind = _kind(chosen)
        parts = chosen.parts or ((session.first_frame, chosen),)
        self._stretches = [_Stretch(first, one, number_of(one, kind)) for first, one in parts]
        self.note = footage.note
        drawn, _ = find_recorded(session, "annotated", largest=self._largest)
        for _, one in () if drawn is None else drawn.parts or ((0, drawn),):
            number_of(one, "annotated")
        return videos

    def _video(self, footage: Footage, kind: str) -> Video:
        path = footage.path
        assert path is not None
        if kind != "source":  # opening those of a thousand parts would take seconds
            for entry in self._entries():
                if entry.get("file") == path.name and entry.get("codec"):
                    return Video(
                        path,
                        kind,
                        _BY_SUFFIX.get(path.suffix.lower(), ""),
                        _whole_codec(entry.get("codec")),
                        _size(entry.get("width")),
                        _size(entry.get("height")),
                        footage.note,
                        _inode(path),
                    )
        return _probed(path, kind, footage.note)

    def _entries(self) -> Sequence[Mapping[str, Any]]:
        return video_entries(self._session.metadata)

    def close(self) -> None:
        with self._lock:
            self._close_indexes()

    def _close_indexes(self) -> None:
        for times in self._times.values():
            if times is not None:
                times.close()
        self._times.clear()


def shown_footage(session: Session, *, largest: int | None = None) -> Footage:
    """Return the footage whose pictures the page shows, with a note for the page.

    Where there are no other pictures, those with the overlay in them are shown.

    Args:
        largest: As for `find_footage`.

    Raises:
        VideoError: The footage is not a video.
    """
    footage = find_footage(session, largest=largest)
    if footage.path is not None:
        return footage
    drawn, _ = find_recorded(session, "annotated", largest=largest)
    if drawn is not None and drawn.path is not None and _has_size_of_frames(session):
        note = "filters do not hide what was drawn into the video while it was recorded"
        return replace(drawn, note="; ".join(filter(None, (note, drawn.note))))
    return replace(footage, note=f"no pictures: {footage.lacking}")


def _has_size_of_frames(session: Session) -> bool:
    """Return whether the videos with the overlay have no labels beside or below the picture."""
    first = next(session.batches(["width", "height"], 0, 1), None)
    width, height = (None, None) if first is None else (first.column(i)[0].as_py() for i in (0, 1))
    if not width or not height:
        return False
    sides = [
        (_size(entry.get("width")), _size(entry.get("height")))
        for entry in video_entries(session.metadata, "annotated")
    ]
    # Encoders take even numbers only.
    return all(w and h and abs(w * height - h * width) <= 2 * max(width, height) for w, h in sides)


def _kind(footage: Footage) -> str:
    if footage.column == "source_frame":
        return "source"
    is_drawn = any(one.annotated for _, one in footage.parts) or footage.annotated
    return "annotated" if is_drawn else "raw"


def _whole_codec(codec: Any) -> str | None:
    """Return FFmpeg's name of a codec, where metadata may name an encoder (libx264)."""
    name = str(codec)
    encoders = {
        "libx264": "h264",
        "libx265": "hevc",
        "h265": "hevc",
        "libsvtav1": "av1",
        "libvpx-vp9": "vp9",
    }
    return encoders.get(name, name)


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _probed(path: Path, kind: str, note: str) -> Video:
    av = import_av()
    try:
        with contextlib.closing(open_container(path, str(path))) as container:
            names = container.format.name.split(",")
            mime = next((_TYPES[name] for name in names if name in _TYPES), "")
            if mime == "video/x-matroska" and path.suffix.lower() == ".webm":
                mime = "video/webm"
            context = container.streams.video[0].codec_context
            return Video(
                path,
                kind,
                mime,
                context.codec.canonical_name,
                context.width,
                context.height,
                note,
                _inode(path),
            )
    except (VideoError, OSError, ValueError, IndexError, AttributeError, av.FFmpegError):
        return Video(path, kind, "", None, None, None, note or f"{path.name} cannot be read")

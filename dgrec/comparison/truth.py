"""Ground truth of a session: boxes that people drew, or a session that counts as the truth."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from dgrec.comparison.blocks import Floats
from dgrec.comparison.boxes import frames_of
from dgrec.comparison.samples import UNKNOWN
from dgrec.errors import DgrecError, ImportFileError
from dgrec.footage import base_name
from dgrec.format import video_entries
from dgrec.imports import Facts, read_frames
from dgrec.paths import PICTURES_SUFFIX, names_session
from dgrec.session import Session, session_file
from dgrec.units import counted

#: Members of COCO's annotations, and of MOTChallenge's ground truth.
_MARKS: Final = ("iscrowd", "considered")


class TruthError(DgrecError):
    """A file with ground truth cannot be used."""


@dataclass
class TruthFrame:
    """The objects to be found in a frame."""

    labels: list[str] = field(default_factory=list)
    #: n x 4: x_min, y_min, x_max, y_max, in pixels of the frame.
    boxes: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    #: Regions of many objects: what is found there is neither right nor wrong.
    is_crowd: list[bool] = field(default_factory=list)
    #: Width and height of the annotated picture, if the file says so.
    size: tuple[int, int] | None = None


@dataclass
class Truth:
    """The annotated frames of a recording, by their number in the source."""

    path: Path
    frames: dict[int, TruthFrame]
    labels: tuple[str, ...]


@dataclass
class _Facts(Facts):
    #: The digest of the video whose frames are counted, if it is known.
    sha256: str | None = None


def read_truth(path: Path, session: Session) -> Truth:
    """Read ground truth: a file of any format that can be imported, or a session.

    Args:
        session: The session that is compared with it.

    Raises:
        TruthError: The file cannot be read, has no boxes with labels, or does not say which frames
            of the source it has.
    """
    frames: dict[int, TruthFrame] = {}
    facts = _Facts()
    if not path.exists():  # the name of a session, without its suffix
        path = session_file(path)
    try:
        found = _of_session(path, facts) if names_session(str(path)) else _of_file(path, facts)
        for number, size, detections in found:
            # Of several results of one frame the first counts, as in the session.
            if number not in frames:
                frames[number] = _frame(detections, size)
    except ImportFileError as error:
        raise TruthError(str(error)) from None
    labels = [*facts.labels.values(), *(name for each in frames.values() for name in each.labels)]
    if not frames:
        raise TruthError(f"{path}: has no frames")
    if not labels:
        raise TruthError(f"{path}: has no boxes with labels")
    numbered = _by_source(path, frames, facts, session)
    return Truth(path, numbered, tuple(dict.fromkeys(labels)))


def _by_source(
    path: Path, frames: dict[int, TruthFrame], facts: _Facts, session: Session
) -> dict[int, TruthFrame]:
    """Return frames by their numbers in the source.

    Args:
        frames: By their numbers in the video or folder that the facts name.
    """
    name = base_name(facts.counts)
    if name.endswith(PICTURES_SUFFIX):
        raise TruthError(
            f"{path}: its frames are numbered as the pictures in {name}, not as in the source; "
            "export it without --images"
        )
    source: Mapping[str, Any] = session.metadata.get("source", {})
    videos = [*_videos(session), ({}, session)]
    video, part = max(videos, key=lambda each: _likeness(facts, each[0]))
    likeness, likeness_of_source = _likeness(facts, video), _likeness(facts, source)
    if not likeness or likeness < likeness_of_source:
        return frames
    found: dict[int, TruthFrame] = {}
    differ = False
    for batch in part.batches(["source_frame", "video_frame"]):
        for number, shown in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            differ = differ or frames.get(number) is not frames.get(shown)
            if shown in frames and number is not None:
                found[number] = frames[shown]
    if likeness == likeness_of_source:
        is_video = _is_as_long(frames, facts, video, source) if differ else False
        if is_video is None:
            raise TruthError(
                f"{path}: has the frames of {name}, as the source and the video recorded with the "
                "session are called; dgrec import it with --video, and compare with that session"
            )
        if not is_video:
            return frames
    if not found:
        raise TruthError(
            f"{path}: none of its frames was recorded (its first is {min(frames)} of the recorded "
            "video)"
        )
    return found


def _likeness(facts: _Facts, video: Mapping[str, Any]) -> int:
    """Return how surely a video in the metadata is the one whose frames are counted.

    Returns:
        0 if it is not, 1 if it has the name, 2 if it has the digest.
    """
    known = video.get("sha256")
    if facts.sha256 and known:
        return 2 if known == facts.sha256 else 0
    name = base_name(facts.counts)
    return int(bool(name) and base_name(video.get("file")) == name)


def _is_as_long(
    frames: Mapping[int, TruthFrame],
    facts: _Facts,
    video: Mapping[str, Any],
    source: Mapping[str, Any],
) -> bool | None:
    """Return whether frames are those of the recorded video, and not of a source named alike.

    Only their count says it: None if it is that of both, or of neither.
    """
    count, others = video.get("frames"), source.get("frames")
    if count and max(frames) >= count:
        return False
    is_one = facts.frames is not None and count != others and facts.frames in (count, others)
    return facts.frames == count if is_one else None


def _videos(session: Session) -> Iterator[tuple[Mapping[str, Any], Session]]:
    """Yield the videos that were recorded with a session, each with the part that counts in it."""
    for part in [session.only([part]) for part in session.parts] or [session]:
        for video in video_entries(part.metadata):
            yield video, part


#: A frame's number and size, and its detections.
_Found = Iterator[tuple[int, tuple[int, int] | None, Sequence[Mapping[str, Any]]]]


def _of_file(path: Path, facts: Facts) -> _Found:
    with contextlib.closing(read_frames(path, facts)) as frames:
        for frame in frames:
            yield frame.number, frame.size, frame.detections


def _of_session(path: Path, facts: _Facts) -> _Found:
    from dgrec.session import Session

    with Session(path) as session:
        source = session.metadata.get("source", {})
        if source.get("kind") == "file":
            facts.counts = base_name(source.get("file"))
            facts.sha256, facts.frames = source.get("sha256"), source.get("frames")
        names = session.metadata.get("model", {}).get("labels", {}).values()
        facts.labels.update(enumerate(name for name in names if isinstance(name, str)))
        sizes = (
            size
            for batch in session.batches(["width", "height"])
            for size in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        )
        marks = (
            mark
            for batch in session.batches(["detections.list.element.extra"])
            for mark in _marks(batch.column("detections").to_pylist())
        )
        for frame, size, marked in zip(frames_of(session), sizes, marks, strict=True):
            if frame.source_frame == UNKNOWN:
                continue
            detections = [
                {"bbox": box, "label": label, **mark}
                for box, label, mark in zip(frame.boxes.tolist(), frame.labels, marked, strict=True)
                if not np.isnan(box).any()
            ]
            yield frame.source_frame, None if None in size else size, detections


def _marks(rows: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Yield for each frame the marks of detections that are not objects."""
    for row in rows:
        found = []
        for item in row:
            text = item["extra"] or ""
            extra: Any = None
            if any(f'"{name}"' in text for name in _MARKS):
                with contextlib.suppress(ValueError, RecursionError):  # a file may hold anything
                    extra = json.loads(text)
            is_plain = isinstance(extra, dict)
            found.append(
                {name: extra[name] for name in _MARKS if name in extra} if is_plain else {}
            )
        yield found


def _frame(detections: Sequence[Mapping[str, Any]], size: tuple[int, int] | None) -> TruthFrame:
    """Return the objects among detections: boxes with a label that are to be evaluated."""
    found = [
        item
        for item in detections
        if "bbox" in item and item.get("label") is not None and _mark(item, "considered") != 0
    ]
    return TruthFrame(
        [item["label"] for item in found],
        np.array([item["bbox"] for item in found], np.float64).reshape(-1, 4),
        [bool(_mark(item, "iscrowd")) for item in found],
        size,
    )


def _mark(item: Mapping[str, Any], name: str) -> Any:
    """Return a mark of a detection; None if a program has put something else there."""
    value = item.get(name)
    return value if isinstance(value, int | float | str) else None


def unrecorded(truth: Truth, recorded: int) -> list[str]:
    """Return a note on annotated frames that a session does not have.

    Args:
        recorded: How many it has.

    Raises:
        TruthError: It has none.
    """
    if not recorded:
        raise TruthError(
            f"{truth.path}: none of its frames was recorded (its first is {min(truth.frames)}); an "
            "image's 'frame', or the last number in its file name, is its number in the source, "
            "from 0"
        )
    if missing := len(truth.frames) - recorded:
        return [
            f"{truth.path}: {missing:,} of {len(truth.frames):,} annotated frames were not "
            "recorded, and are left out."
        ]
    return []


def left_out(others: Counter[str | None], repeated: int) -> list[str]:
    """Return notes on detections and results that are not compared with ground truth.

    Args:
        others: Detections of labels that the ground truth does not have.
        repeated: Results of frames that already have one.
    """
    notes = []
    if count := others.total():
        names = ", ".join(str(label) for label, _ in others.most_common(5))
        notes.append(
            f"{counted(count, 'detection')} of labels that the ground truth does not have "
            f"({names}) left out."
        )
    if repeated:
        notes.append(f"{counted(repeated, 'result')} of frames that have one before left out.")
    return notes


def check_sizes(truth: Truth, session: Session) -> None:
    """Refuse boxes that were drawn in pictures of another size.

    Raises:
        TruthError: A picture has another size than the recorded frame.
    """
    for batch in session.batches(["source_frame", "width", "height"]):
        for number, *size in zip(*(column.to_pylist() for column in batch), strict=True):
            annotated = truth.frames.get(number)
            if annotated is None or annotated.size is None or not all((*annotated.size, *size)):
                continue  # unknown: 0 where results were recorded without their pictures
            if annotated.size != tuple(size):
                drawn, recorded = ("x".join(map(str, each)) for each in (annotated.size, size))
                raise TruthError(
                    f"{truth.path}: the picture of frame {number} is {drawn}, and the recorded "
                    f"one {recorded}: boxes must be in pixels of the recorded frames"
                )

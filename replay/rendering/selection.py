"""The frames of a session that are replayed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dgrec.errors import QueryError, VideoError
from dgrec.footage import Pixels, Position, resolve
from dgrec.replay.query import matching_frames
from dgrec.replay.rendering.contact_sheet import spread
from dgrec.replay.rendering.render import ReplayFrame, at_speed, replay_frames
from dgrec.session import Session
from dgrec.units import counted


@dataclass(frozen=True)
class Selection:
    """Frames of a session: all of a range, or some of it."""

    #: Positions of the first frame and of the frame to stop before.
    start: int
    end: int
    #: Positions of the wanted frames, ascending; None: all of the range.
    wanted: np.ndarray[Any, Any] | None = None

    def __len__(self) -> int:
        return self.end - self.start if self.wanted is None else len(self.wanted)

    def frames(self, session: Session, pixels: Pixels, speed: float = 1.0) -> Iterator[ReplayFrame]:
        """Yield these frames, in bounded memory, at ``speed`` times their pace."""
        pictures = replay_frames(session, pixels, self.start, self.end, self.wanted)
        return pictures if speed == 1 else at_speed(pictures, speed)

    def spread(self, count: int) -> Selection:
        """Return ``count`` of these frames, evenly spaced, or all if there are fewer."""
        chosen = np.array(spread(len(self), count))
        wanted = self.start + chosen if self.wanted is None else self.wanted[chosen]
        return replace(self, wanted=wanted)


def select_frames(
    session: Session,
    start: Position | None = None,
    end: Position | None = None,
    max_frames: int | None = None,
    where: str | None = None,
) -> Selection:
    """Return the frames that the options of a replay select.

    Args:
        session: The session, with frames in it.
        start: The first frame; None: the beginning.
        end: The frame to stop before; None: the end.
        max_frames: The most frames, of those that match.
        where: A DuckDB predicate over the view ``frames``.

    Raises:
        QueryError: DuckDB refuses the predicate, or no frame matches it.
        VideoError: There are no such frames.
    """
    size = len(session)
    first = 0 if start is None else resolve(session, start)
    if start is not None and first >= size:
        raise VideoError(
            f"{session.path}: has {counted(size, 'frame')}; --start {start.text} is past the end"
        )
    last = size if end is None else min(size, resolve(session, end))
    if end is not None and last <= first:
        begin = "the first frame" if start is None else f"--start {start.text}"
        raise VideoError(f"{session.path}: there is no frame from {begin} to --end {end.text}")
    if where is None:
        return Selection(first, min(last, first + max_frames) if max_frames else last)
    numbers = session.row(first)["frame"], session.row(last - 1)["frame"] + 1
    wanted = matching_frames(session, where, *numbers)
    if not len(wanted):
        raise QueryError(f"--where {where!r}: no frame matches")
    return Selection(first, last, _positions(session, wanted[:max_frames], first, last))


def _positions(
    session: Session, numbers: np.ndarray[Any, Any], start: int, end: int
) -> np.ndarray[Any, Any]:
    """Return the positions of the frames with these numbers."""
    found, position = [], start
    for batch in session.batches(["frame"], start, end):
        frame = batch.column(0).to_numpy()
        found.append(position + np.flatnonzero(np.isin(frame, numbers)))
        position += len(frame)
    return np.concatenate(found)

"""The rows before and after a frame, for frames in any order."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from dgrec.session import RecordedResult, Session

_T = TypeVar("_T")
#: Rows that are remembered: more than any painter needs.
_REMEMBERED = 4096


class Neighbours(Generic[_T]):
    """Looks up the rows before and after a frame, in bounded memory.

    Rows are remembered as their frames are drawn; others are read from the session.

    Args:
        session: The session, opened for this: no other thread may read from it.
        pick: Returns what is needed of a row.
    """

    def __init__(self, session: Session, pick: Callable[[Mapping[str, Any]], _T]) -> None:
        self._session = session
        self._first_frame = session.first_frame
        self._pick = pick
        self._picked: dict[int, _T] = {}
        self._last: tuple[int, int] | None = None  # frame number and position
        self._in_step: bool | None = None

    def note(self, result: RecordedResult) -> int:
        """Remember the frame that is being drawn; return its position in the session."""
        position = self._position(result.frame)
        if position not in self._picked:
            self._remember(position, self._pick(result.row))
        self._last = result.frame, position
        return position

    def before(self, position: int) -> Iterator[_T]:
        """Yield what was picked of the rows before ``position``, nearest first."""
        for at in range(position - 1, -1, -1):
            yield self[at]

    def after(self, position: int) -> Iterator[_T]:
        """Yield what was picked of the rows after ``position``, nearest first."""
        for at in range(position + 1, len(self._session)):
            yield self[at]

    def __getitem__(self, position: int) -> _T:
        if position not in self._picked:
            self._remember(position, self._pick(self._session.row(position)))
        return self._picked[position]

    def _remember(self, position: int, value: _T) -> None:
        while len(self._picked) >= _REMEMBERED:
            del self._picked[next(iter(self._picked))]
        self._picked[position] = value

    def _position(self, frame: int) -> int:
        """Return a frame's position, which is less than its number if rows were lost."""
        if self._last is not None and self._last[0] == frame:
            return self._last[1]
        session = self._session
        if self._in_step is None:
            last = session.row(len(session) - 1)["frame"]
            self._in_step = last - self._first_frame == len(session) - 1
        if self._in_step:
            return frame - self._first_frame
        last = min(frame - self._first_frame, len(session) - 1)
        return bisect.bisect_left(range(last), frame, key=lambda at: session.row(at)["frame"])

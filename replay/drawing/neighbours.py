"""What was recorded around a frame, whichever frame is drawn next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from dgrec.session import RecordedResult, Session

__all__ = ["Neighbours"]

_T = TypeVar("_T")
#: Rows remembered: more than any painter looks around itself.
_REMEMBERED = 4096


class Neighbours(Generic[_T]):
    """Looks up the rows before and after a frame, in bounded memory.

    Frames drawn in their order cost nothing to look back to: each is remembered as it comes. Rows
    that were not (after a jump, or ahead) are read from the session.

    Args:
        session: The session. Another thread must not read from it at the same time; one that is
            opened a second time serves.
        pick: Returns what is wanted of a row.
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
        """Yield what was picked of the rows before ``position``, the nearest one first."""
        for at in range(position - 1, -1, -1):
            yield self[at]

    def after(self, position: int) -> Iterator[_T]:
        """Yield what was picked of the rows after ``position``, the nearest one first."""
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
        """Return where a frame stands: its number counts on over rows that were lost."""
        if self._last is not None and self._last[0] == frame:
            return self._last[1]
        session = self._session
        if self._in_step is None:
            last = session.row(len(session) - 1)["frame"]
            self._in_step = last - self._first_frame == len(session) - 1
        if self._in_step:
            return frame - self._first_frame
        low, high = 0, min(frame - self._first_frame, len(session) - 1)
        while low < high:
            middle = (low + high) // 2
            if session.row(middle)["frame"] < frame:
                low = middle + 1
            else:
                high = middle
        return low

"""Conditions on frames and detections: DuckDB predicates over a session's views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.errors import QueryError
from dgrec.replay.limits import MEMORY, TIMEOUT_S, only_bounded
from dgrec.replay.query.reader import SqlReader, without_options
from dgrec.session import RecordedResult, Session
from dgrec.sql import EXAMPLE, frame_condition
from dgrec.units import parse_size

#: Frames looked at in one query: as many as a row group of a sealed file holds at most.
_FRAMES_AT_ONCE = 16_384
_EXAMPLES = {
    "frames": f"expected a condition on frames, {EXAMPLE}",
    "detections": "expected a condition on detections, such as \"score > 0.5 and label = 'car'\"",
}


class _Predicate:
    """Answers a predicate for a stretch of frames at a time, in any order.

    The predicate may do what a statement of ``dgrec query`` may, with the same limits of memory
    and time.

    Args:
        reader: A connection over the session that others use, too; None: one of its own.

    Raises:
        QueryError: DuckDB refuses the predicate, here or when it meets a row that it fails on.
    """

    def __init__(
        self,
        session: Session,
        option: str,
        view: str,
        columns: str,
        text: str,
        reader: SqlReader | None = None,
    ) -> None:
        self._option, self._view, self._columns, self._given = option, view, columns, text
        self._text = frame_condition(text) if view == "frames" else text
        self._is_own = reader is None
        self._reader = reader or SqlReader([session], MEMORY, timeout=TIMEOUT_S)
        try:
            # Without brackets first: "a) OR (b" makes sense only inside of them.
            for query in (f"SELECT frame FROM {view} WHERE {self._text}", self._query(0, 0)):
                with only_bounded(int(parse_size(MEMORY))):
                    self._reader.check(query)
        except (QueryError, MemoryError) as error:
            self.close()
            raise self._error(error) from None
        except BaseException:
            self.close()
            raise

    def _query(self, start: int, end: int) -> str:
        # In brackets and on a line of its own, neither an OR nor a comment reaches further.
        return (
            f"SELECT {self._columns} FROM {self._view} WHERE (\n{self._text}\n) "
            f"AND frame >= {start} AND frame < {end}"
        )

    def matches(self, start: int, end: int) -> list[np.ndarray[Any, Any]]:
        """Return the columns of what matches in frames ``start`` to before ``end``, in order."""
        try:
            with only_bounded(int(parse_size(MEMORY))):
                result = self._reader.stream(self._query(start, end))
                table = pa.Table.from_batches(result.batches, result.schema)
        except (QueryError, MemoryError) as error:
            raise self._error(error) from None
        columns = [column.to_numpy() for column in table.columns]
        order = np.lexsort(columns[::-1])
        return [column[order] for column in columns]

    def close(self) -> None:
        if self._is_own:
            self._reader.close()

    def _error(self, error: QueryError | MemoryError) -> QueryError:
        reason = without_options(str(error)) or "out of memory"
        example = _EXAMPLES[self._view]
        return QueryError(f"{self._option} {self._given!r}: {reason}; {example}")


def matching_frames(session: Session, text: str, start: int, end: int) -> np.ndarray[Any, Any]:
    """Return the numbers of the frames that match a DuckDB predicate over the view ``frames``.

    They are ascending.

    Args:
        text: The predicate; see `dgrec.sql.conditions`.
        start: Number of the first frame to look at.
        end: Number of the frame to stop before.

    Raises:
        QueryError: DuckDB refuses the predicate.
    """
    predicate = _Predicate(session, "--where", "frames", "frame", text)
    try:
        return np.unique(predicate.matches(start, end)[0])
    finally:
        predicate.close()


class DetectionFilter:
    """Tells which detections match a DuckDB predicate over the view ``detections``.

    Each entry of a frame's results is a detection: a box, but also a class of a classification.
    A class map is one detection, without label and score. Frames may be asked for in any order;
    they are answered a stretch at a time, in bounded memory.

    Args:
        reader: A connection over the session that others use, too; None: one of its own.
        name: What messages call the condition.

    Raises:
        QueryError: DuckDB refuses the predicate.
    """

    def __init__(
        self,
        session: Session,
        text: str,
        *,
        reader: SqlReader | None = None,
        name: str = "--detections-where",
    ) -> None:
        columns = "frame, detection"
        self._predicate = _Predicate(session, name, "detections", columns, text, reader)
        self._first_frame = session.first_frame
        self._stretch: int | None = None
        self._frames = self._indices = np.zeros(0, np.int64)

    def kept(self, frame: int) -> list[int]:
        """Return the indices of the results of a frame that match, in their order."""
        stretch = (frame - self._first_frame) // _FRAMES_AT_ONCE
        if stretch != self._stretch:
            start = self._first_frame + stretch * _FRAMES_AT_ONCE
            self._frames, self._indices = self._predicate.matches(start, start + _FRAMES_AT_ONCE)
            self._stretch = stretch
        first = int(np.searchsorted(self._frames, frame))
        last = int(np.searchsorted(self._frames, frame, side="right"))
        found: list[int] = self._indices[first:last].tolist()
        return found

    def between(self, start: int, end: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the frame and the index of what matches in frames ``start`` to before ``end``."""
        frames, indices = self._predicate.matches(start, end)
        return frames, indices

    def choose(self, result: RecordedResult) -> list[int]:
        """Return the indices of the results to draw."""
        return self.kept(result.frame)

    def close(self) -> None:
        self._predicate.close()

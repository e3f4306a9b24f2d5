"""Which frames, and which detections of them: DuckDB predicates over a session's views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.errors import QueryError
from dgrec.result import RecordedResult
from dgrec.session import Session
from replay.query import SqlReader, check_only_reads

__all__ = ["DetectionFilter", "FrameFilter"]

#: Frames looked at in one query: as many as a row group of a sealed file holds at most.
_FRAMES_AT_ONCE = 16_384


class _Predicate:
    """Answers a predicate for one stretch of frames after the other, wherever they are.

    Raises:
        QueryError: DuckDB refuses the predicate, here or when it meets a row that it fails on.
    """

    def __init__(self, session: Session, option: str, view: str, columns: str, text: str) -> None:
        self._option, self._text = option, text
        if not text.strip():
            raise QueryError(f"{option}: the condition is empty")
        # In brackets and on a line of its own, neither an OR nor a comment reaches further.
        self._query = f"SELECT {columns} FROM {view} WHERE (\n{text}\n) AND frame >= {{}} AND frame < {{}}"
        self._first_frame = session.first_frame
        self._reader = SqlReader([session])
        self._stretch: int | None = None
        self._rows: list[np.ndarray[Any, Any]] = []
        try:
            check_only_reads(self._reader.connection, self._query.format(0, 0))
        except QueryError as error:
            self.close()
            raise self._error(error) from None

    def rows(self, frame: int) -> list[np.ndarray[Any, Any]]:
        """Return the columns of all matches in the stretch that ``frame`` is in, by frame."""
        stretch = (frame - self._first_frame) // _FRAMES_AT_ONCE
        if stretch != self._stretch:
            start = self._first_frame + stretch * _FRAMES_AT_ONCE
            self._rows = self.run(start, start + _FRAMES_AT_ONCE)
            self._stretch = stretch
        return self._rows

    def run(self, start: int, end: int) -> list[np.ndarray[Any, Any]]:
        try:
            result = self._reader.stream(self._query.format(start, end))
            table = pa.Table.from_batches(result.batches, result.schema)
        except QueryError as error:
            raise self._error(error) from None
        columns = [column.to_numpy() for column in table.columns]
        order = np.lexsort(columns[::-1])
        return [column[order] for column in columns]

    def close(self) -> None:
        self._reader.close()

    def _error(self, error: QueryError) -> QueryError:
        return QueryError(f"{self._option} {self._text!r}: {error}")


class FrameFilter:
    """Tells which frames match a DuckDB predicate over the columns of the view ``frames``.

    Raises:
        QueryError: DuckDB refuses the predicate.
    """

    def __init__(self, session: Session, text: str) -> None:
        self._predicate = _Predicate(session, "--frames-where", "frames", "frame", text)

    def keeps(self, frame: int) -> bool:
        (frames,) = self._predicate.rows(frame)
        at = int(np.searchsorted(frames, frame))
        return at < len(frames) and int(frames[at]) == frame

    def matching(self, start: int, end: int) -> np.ndarray[Any, Any]:
        """Return the numbers of all frames from ``start`` to before ``end`` that match."""
        return self._predicate.run(start, end)[0]

    def close(self) -> None:
        self._predicate.close()


class DetectionFilter:
    """Tells which detections match a DuckDB predicate over the view ``detections``.

    Each entry of a frame's results is a detection: a box, but also a class of a classification.
    A class map is one detection, without label and score.

    Raises:
        QueryError: DuckDB refuses the predicate.
    """

    def __init__(self, session: Session, text: str) -> None:
        columns = "frame, detection"
        self._predicate = _Predicate(session, "--where", "detections", columns, text)

    def kept(self, frame: int) -> list[int]:
        """Return the indices of the results of a frame that match, in their order."""
        frames, indices = self._predicate.rows(frame)
        start = int(np.searchsorted(frames, frame))
        end = int(np.searchsorted(frames, frame, side="right"))
        found: list[int] = indices[start:end].tolist()
        return found

    def choose(self, result: RecordedResult) -> list[int]:
        return self.kept(result.frame)

    def close(self) -> None:
        self._predicate.close()

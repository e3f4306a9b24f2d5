"""Rows that DuckDB cannot read itself, or not as fast as they can be counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from dgrec.format import (
    FRAME_LABELS,
    FRAME_LABELS_COLUMNS,
    LABEL_COUNTS,
    LABEL_COUNTS_COLUMNS,
    frame_labels,
    label_counts,
)

if TYPE_CHECKING:
    from dgrec.sql.views import Queryable

_T = TypeVar("_T")
#: The first column: the session that a row belongs to.
_SESSION_ID = pa.field("session_id", pa.dictionary(pa.int32(), pa.string()))


@dataclass
class Room:
    """The bytes of rows that a connection may still keep in memory."""

    left: int = 256 << 20

    def take(self, size: int) -> bool:
        if size > self.left:
            return False
        self.left -= size
        return True


class RowStream:
    """Gives DuckDB rows that it cannot read itself, for each scan.

    They are in a journal (for a set, even after it is sealed), or in a file whose columns have
    other types, or whose name DuckDB cannot take. Once they have been read to the end they are
    kept, if there is room: a report asks some thirty questions.
    """

    def __init__(
        self,
        schema: pa.Schema,
        batches: Callable[[list[str]], Iterator[pa.RecordBatch]],
        room: Room,
    ) -> None:
        self.schema = schema
        self._batches = batches
        self._room = room
        self._kept: list[pa.RecordBatch] | None = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        batches = self._read() if self._kept is None else self._kept
        reader = pa.RecordBatchReader.from_batches(self.schema, batches)
        return reader.__arrow_c_stream__(requested_schema)

    def _read(self) -> Iterator[pa.RecordBatch]:
        read: list[pa.RecordBatch] = []
        size = 0
        for batch in self._batches(self.schema.names):
            size += batch.nbytes
            if size <= self._room.left:
                read.append(batch)
            else:
                read.clear()
            yield batch
        if self._kept is None and self._room.take(size):
            self._kept = read


def label_streams(sessions: Sequence[Queryable], room: Room) -> Iterator[tuple[str, RowStream]]:
    """Yield the labels of all sessions as named tables: the labels of each frame, and counts.

    DuckDB would read every field of all detections to count their labels.
    """
    for name, schema, columns, count, kept in (
        ("_frame_labels", FRAME_LABELS, FRAME_LABELS_COLUMNS, frame_labels, Room(0)),
        ("_label_batches", LABEL_COUNTS, LABEL_COUNTS_COLUMNS, label_counts, room),
    ):
        schema = pa.schema([_SESSION_ID, *schema])

        def counted(
            _: list[str],
            schema: pa.Schema = schema,
            columns: list[str] = columns,
            count: Callable[[pa.RecordBatch], pa.RecordBatch] = count,
        ) -> Iterator[pa.RecordBatch]:
            for session in sessions:
                for batch in _read_ahead(session.batches(columns)):
                    rows = count(batch)
                    id_ = pa.DictionaryArray.from_arrays(
                        np.zeros(rows.num_rows, np.int32), [session.id]
                    )
                    yield pa.RecordBatch.from_arrays([id_, *rows.columns], schema=schema)

        yield name, RowStream(schema, counted, kept)


def _read_ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yield items; a thread makes the next one while the caller works on one."""
    left = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="dgrec-read-ahead") as pool:
        coming = pool.submit(next, left, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, left, None)
            yield item

"""Numbers of values in the lists of a Parquet file's rows, found before the rows are decoded.

Twenty kilobytes can claim fifty million detections in one row, all null. The footer has the number
of values in a row group, but not in which rows they are: for that, one leaf of each list is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.format.casting import taken_apart, without_extension
from dgrec.format.leaves import leaves_of, once_per_schema
from dgrec.format.pages import check_page_counts
from dgrec.format.parquet_input import ParquetInput

#: Values of one leaf in a row group. Locating them takes 30 bytes for each.
MOST_IN_GROUP = 16_000_000
#: Values of all leaves together: 40,000 detections in a frame, or 500 with all landmarks of a face.
_MOST_IN_ROW = 1_000_000
#: Values that are decoded at a time.
_MOST_AT_ONCE = 2_000_000
_ROWS_AT_ONCE = 4096
#: dgrec's own row groups never have more.
_FEW = 8_000_000
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}


@dataclass(frozen=True)
class _List:
    """A list at some depth of some column."""

    #: The leaf that its length is read from.
    path: str
    #: How many leaves it has.
    leaves: int


@once_per_schema
def _lists_of(schema: pa.Schema) -> tuple[dict[tuple[str, ...], list[int]], int]:
    """Return the leaves in each list by its path, outer lists first, and the number of leaves."""
    lists: dict[tuple[str, ...], list[int]] = {}
    leaves = [*leaves_of(schema)]
    for index, leaf in enumerate(leaves):
        if leaf.list_path is not None:
            lists.setdefault(leaf.list_path, []).append(index)
    return lists, len(leaves)


class NestedValues:
    """Finds out how many rows of a file can be decoded at a time.

    Raises:
        ValueError: Its columns have more or fewer leaves than Arrow's types for them, so that
            the wrong ones would be counted.
    """

    def __init__(self, file: ParquetInput) -> None:
        self._file = file
        self._inside, leaves = _lists_of(file.schema)
        if leaves != file.metadata.num_columns:
            raise ValueError("its footer contradicts itself")
        self._nested = sorted(index for leaves in self._inside.values() for index in leaves)

    @cached_property
    def _lists(self) -> dict[str, list[_List]]:
        """The lists in each column."""
        lists: dict[str, list[_List]] = {}
        for path, leaves in self._inside.items():
            found = [self._file.columns[index] for index in leaves]
            # Texts take the most memory, even if they are null.
            shortest = min(found, key=lambda column: _WIDTHS.get(column.physical_type, 16))
            lists.setdefault(path[0], []).append(_List(shortest.path, len(found)))
        return lists

    def longest(self, group: int) -> int:
        """Return how many values the longest leaf of a row group has."""
        return max(self._counts(group), default=0)

    def are_few(self) -> bool:
        """Return whether no row group has more values than dgrec writes into one."""
        try:
            for group in range(self._file.metadata.num_row_groups):
                if sum(self._counts(group)) > _FEW:
                    return False
                check_page_counts(self._file, group, self._nested)
        except (OSError, ValueError):  # reading it reports why
            return False
        return True

    def rows_at_once(self, group: int, names: Collection[str]) -> int:
        """Return how many rows of a group to decode at a time.

        Args:
            group: The row group.
            names: The columns and leaves that are read.

        Raises:
            ValueError: A row has more values than a frame can have.
        """
        columns = {name.partition(".")[0] for name in names}
        lists = [list_ for name in self._lists if name in columns for list_ in self._lists[name]]
        if not lists:
            return _ROWS_AT_ONCE
        check_page_counts(self._file, group, list(self._read(names)))
        if sum(self._counts(group, names)) <= _MOST_IN_ROW:
            return _ROWS_AT_ONCE
        values = np.zeros(self._file.metadata.row_group(group).num_rows, np.int64)
        for list_ in lists:  # inner ones after outer ones
            values += list_.leaves * self._values_in_rows(group, list_.path)
            if values.max(initial=0) > _MOST_IN_ROW:
                raise ValueError(f"a frame with more than {_MOST_IN_ROW:,} values in its lists")
        rows = _ROWS_AT_ONCE
        while rows > 1 and _most_in_window(values, rows) > _MOST_AT_ONCE:
            rows //= 2
        return rows

    def _counts(self, group: int, names: Collection[str] | None = None) -> Iterator[int]:
        footer = self._file.metadata.row_group(group)
        for index in self._nested if names is None else self._read(names):
            if index < footer.num_columns:
                yield footer.column(index).num_values

    def _read(self, names: Collection[str]) -> Iterator[int]:
        """Yield the nested leaves that are read with these columns and leaves."""
        for index in self._nested:
            path = self._file.columns[index].path
            if path in names or path.partition(".")[0] in names:
                yield index

    def _values_in_rows(self, group: int, path: str) -> np.ndarray[Any, Any]:
        batches = self._file.rows.iter_batches(
            batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=[path]
        )
        return np.concatenate([_lengths(batch.column(0)) for batch in batches])


def _lengths(array: Any) -> np.ndarray[Any, Any]:
    """Return how many values of the innermost list each row has; only one leaf was read."""
    ends = np.arange(len(array) + 1)
    while (array := without_extension(array)).type.num_fields:
        if pa.types.is_struct(array.type):
            (array,) = array.flatten()
        else:
            offsets, array = taken_apart(array)
            ends = offsets.to_numpy()[ends]
    return np.diff(ends)


def _most_in_window(values: np.ndarray[Any, Any], rows: int) -> int:
    return int(np.add.reduceat(values, np.arange(0, len(values), rows)).max(initial=0))

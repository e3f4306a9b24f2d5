"""Numbers of values in the pages of a Parquet column, from the page headers.

Arrow and DuckDB decode what the pages have, whatever the footer says, and neither gives Python the
headers: a hostile footer could hide millions of values.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq

_READ_AT_ONCE = 1 << 14
#: A header also has bounds, which may be texts.
_LONGEST_HEADER = 1 << 24
#: Fields of Parquet's PageHeader (parquet.thrift): the size, and the two kinds of data pages. The
#: first field of those is the number of values.
_COMPRESSED_SIZE = 3
_DATA_PAGES = (5, 8)
#: Types of Thrift's compact protocol.
_TRUTH_VALUES = (1, 2)
_BYTE, _DOUBLE, _BINARY, _STRUCT = 3, 7, 8, 12
_INTEGERS = (4, 5, 6)
_DEEPEST = 16


def check_page_counts(path: Path, file: pq.ParquetFile, group: int, leaves: list[int]) -> None:
    """Check that the pages of columns have as many values as the footer says.

    Args:
        path: The file.
        file: The same, for its footer.
        group: A row group.
        leaves: Numbers of the columns to look at.

    Raises:
        ValueError: They have more or fewer, or their headers cannot be read.
        OSError: The file cannot be read.
    """
    footer = file.metadata.row_group(group)
    if not footer.num_rows:  # no reader decodes its pages
        return
    with path.open("rb", 0) as opened:
        for index in leaves:
            column = footer.column(index)
            start = column.data_page_offset
            if column.has_dictionary_page and column.dictionary_page_offset:
                start = min(start, column.dictionary_page_offset)
            end = start + column.total_compressed_size
            if not 0 <= start <= end:
                raise ValueError("its footer contradicts itself")
            if _values(opened.fileno(), start, end) != column.num_values:
                raise ValueError("its pages have more or fewer values than its footer says")


def _values(file: int, start: int, end: int) -> int:
    """Return how many values the data pages between two offsets have."""
    values = 0
    data, first = b"", start
    while start < end:
        if not first <= start < first + len(data):
            data, first = os.pread(file, min(_READ_AT_ONCE, end - start), start), start
        try:
            page = _Header(data, start - first)
        except IndexError:
            data, first = os.pread(file, min(_LONGEST_HEADER, end - start), start), start
            try:
                page = _Header(data, 0)
            except IndexError:
                raise ValueError("a page header is incomplete") from None
        if page.values < 0 or page.compressed_size < 0:
            raise ValueError("a page header contradicts itself")
        values += page.values
        start = first + page.end + page.compressed_size
    return values


class _Header:
    """A page header, at an offset in some bytes.

    Raises:
        IndexError: The bytes end before it does.
        ValueError: It is not a page header.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.end = at
        self.values = 0
        self.compressed_size = -1
        self._struct(0)

    def _struct(self, depth: int, parent: int = 0) -> None:
        if depth > _DEEPEST:
            raise ValueError("a page header is nested too deeply")
        number = 0
        while (head := self._byte()) != 0:
            type_ = head & 15
            number = number + (head >> 4) if head >> 4 else self._integer()
            if type_ in _INTEGERS:
                value = self._integer()
                if depth == 0 and number == _COMPRESSED_SIZE:
                    self.compressed_size = value
                elif depth == 1 and number == 1 and parent in _DATA_PAGES:
                    self.values = value
            elif type_ == _STRUCT:
                self._struct(depth + 1, number)
            else:
                self._skip(type_)

    def _skip(self, type_: int) -> None:
        if type_ == _BYTE:
            self.end += 1
        elif type_ == _DOUBLE:
            self.end += 8
        elif type_ == _BINARY:
            length = self._varint()
            self.end += length
        elif type_ not in _TRUTH_VALUES:  # lists and maps, which no page header has
            raise ValueError("not a page header")
        if self.end > len(self._data):
            raise IndexError

    def _byte(self) -> int:
        value = self._data[self.end]
        self.end += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a page header has too long a number")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

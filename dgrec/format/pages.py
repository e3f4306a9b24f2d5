"""Numbers of values in the pages of a Parquet column, from the page headers.

Arrow and DuckDB decode what the pages have, whatever the footer says, and neither gives Python the
headers: a hostile footer could hide millions of values.
"""

from __future__ import annotations

from dgrec.format.parquet_input import ParquetInput

_READ_AT_ONCE = 1 << 14
#: A header also has bounds, which may be texts.
_LONGEST_HEADER = 1 << 24
#: Fields of Parquet's PageHeader (parquet.thrift): the size, and the two kinds of data pages. The
#: first field of those is the number of values. All numbers are of 32 bits.
_COMPRESSED_SIZE = 3
_DATA_PAGES = (5, 8)
_MOST = 2**31 - 1
#: Thrift's readers drop the other bits of a field's number.
_LAST_FIELD = 2**15 - 1
#: Types of Thrift's compact protocol.
_TRUTH_VALUES = (1, 2)
_BYTE, _DOUBLE, _BINARY, _STRUCT = 3, 7, 8, 12
_INTEGERS = (4, 5, 6)
_INTEGER_OF_32_BITS = 5
_DEEPEST = 16


def check_page_counts(file: ParquetInput, group: int, leaves: list[int]) -> None:
    """Check that the pages of columns have as many values as the footer says.

    Args:
        file: The file.
        group: A row group.
        leaves: Numbers of the columns to look at.

    Raises:
        ValueError: They have more or fewer, or their headers cannot be read.
        OSError: The file cannot be read.
    """
    footer = file.metadata.row_group(group)
    if not footer.num_rows:  # no reader decodes its pages
        return
    for index in leaves:
        column = footer.column(index)
        start = column.data_page_offset
        if column.has_dictionary_page and column.dictionary_page_offset:
            # If it is elsewhere, DuckDB and Arrow begin to read at different places.
            if not 4 <= column.dictionary_page_offset <= start:
                raise ValueError("its footer contradicts itself")
            start = column.dictionary_page_offset
        end = start + column.total_compressed_size
        if not 0 <= start <= end:
            raise ValueError("its footer contradicts itself")
        if _values(file, start, end) != column.num_values:
            raise ValueError("its pages have more or fewer values than its footer says")


def _values(file: ParquetInput, start: int, end_of_column: int) -> int:
    """Return how many values the data pages between two offsets have."""
    values = 0
    data, first = b"", start
    while start < end_of_column:
        if not first <= start < first + len(data):
            data, first = file.pread(min(_READ_AT_ONCE, end_of_column - start), start), start
        try:
            size, counted, end = _header(data, start - first)
        except IndexError:
            data, first = file.pread(min(_LONGEST_HEADER, end_of_column - start), start), start
            try:
                size, counted, end = _header(data, 0)
            except IndexError:
                raise ValueError("a page header is incomplete") from None
        if size < 0:
            raise ValueError("a page header contradicts itself")
        values += counted
        start = first + end + size
    return values


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """Read a page header at an offset in some bytes.

    Returns:
        The compressed size of the page, its number of values, and where the header ends.

    Raises:
        IndexError: The bytes end before the header does.
        ValueError: It is not a page header.
    """
    # One loop: hundreds of files have tens of thousands of headers.
    size = values = -1
    number = 0
    #: The fields that the struct is in.
    above: list[int] = []
    while True:
        head = data[at]
        at += 1
        if not head:
            if not above:
                return size, max(values, 0), at
            number = above.pop()
            continue
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        if not 0 <= number <= _LAST_FIELD:
            raise ValueError("not a page header")
        type_ = head & 15
        if type_ in _INTEGERS:
            value, at = _integer(data, at)
            if number == _COMPRESSED_SIZE and not above:
                size = _first(size, value, type_)
            elif number == 1 and len(above) == 1 and above[0] in _DATA_PAGES:
                values = _first(values, value, type_)
        elif type_ == _STRUCT:
            above.append(number)
            number = 0
            if len(above) > _DEEPEST:
                raise ValueError("a page header is nested too deeply")
        elif type_ == _BINARY:
            length, at = _varint(data, at)
            at += length
        elif type_ in (_BYTE, _DOUBLE):
            at += 1 if type_ == _BYTE else 8
        elif type_ not in _TRUTH_VALUES:  # lists and maps, which no page header has
            raise ValueError("not a page header")


def _first(before: int, value: int, type_: int) -> int:
    """Return a number of a header; if it is there twice, two readers could take different ones."""
    if before != -1 or type_ != _INTEGER_OF_32_BITS or not 0 <= value <= _MOST:
        raise ValueError("a page header contradicts itself")
    return value


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of either sign, and where it ends."""
    value = data[at]
    if value < 128:
        return (value >> 1) ^ -(value & 1), at + 1
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a page header has too long a number")

"""A Parquet file that is open for reading, whoever wrote it."""

from __future__ import annotations

import inspect
import os
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

#: The metadata in the footer is one text.
_LIMITS: dict[str, Any] = {
    "page_checksum_verification": True,
    "thrift_string_size_limit": 48 << 20,
    "thrift_container_size_limit": 4_000_000,
}
_OF_ROWS = _LIMITS.copy()
# Parquet's JSON would get a type of its own, whose texts Arrow decodes at once. (PyArrow 20 has no
# such option, and reads texts.) The schema has that type, which differs from text in DuckDB, too.
if "arrow_extensions_enabled" in inspect.signature(pq.ParquetFile).parameters:
    _OF_ROWS["arrow_extensions_enabled"] = False


class StoredColumn(NamedTuple):
    """A leaf of the columns, as Parquet knows it."""

    path: str
    physical_type: str


class ParquetInput:
    """The footer, and the rows once they are asked for.

    It stays the same file if another one takes its place on the disk.

    Args:
        place: Its absolute path.

    Raises:
        pyarrow.ArrowException: The footer cannot be read, or is too large.
        OSError: There is no such file.
    """

    def __init__(self, place: Path) -> None:
        # As bytes, since Arrow takes only texts that are UTF-8.
        self._file = pa.OSFile(os.fsencode(place))
        try:
            self._footer = pq.ParquetFile(self._file, **_LIMITS)
        except BaseException:
            self._file.close()
            raise
        self.metadata: pq.FileMetaData = self._footer.metadata

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as Arrow knows them."""
        return self._footer.schema_arrow.remove_metadata()

    @cached_property
    def columns(self) -> tuple[StoredColumn, ...]:
        """Its leaves, in their order."""
        schema = self._footer.schema
        leaves = map(schema.column, range(len(schema)))
        return tuple(StoredColumn(leaf.path, leaf.physical_type) for leaf in leaves)

    @cached_property
    def rows(self) -> pq.ParquetFile:
        """The reader of its rows: texts are dictionaries.

        A long text that all rows share is small in the file, and stays so until the decoded size
        was checked (`dgrec.format.casting`).
        """
        texts = [column.path for column in self.columns if column.physical_type == "BYTE_ARRAY"]
        options = {"metadata": self.metadata, "read_dictionary": texts, **_OF_ROWS}
        return pq.ParquetFile(self._file, **options)

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def pread(self, size: int, start: int) -> bytes:
        """Return up to ``size`` bytes from an offset."""
        return bytes(self._file.read_at(size, start))

    def close(self) -> None:
        self._file.close()

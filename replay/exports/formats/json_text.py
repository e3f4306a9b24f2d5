"""JSON of many rows at once: columns become text without a loop in Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def texts(column: pa.Array) -> pa.Array:
    """Return the JSON text of each value: numbers, stamps and strings; null for NaN as well."""
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        coded = column if pa.types.is_dictionary(kind) else column.dictionary_encode()
        words = [json.dumps(word) for word in coded.dictionary.to_pylist()]
        return pa.array(words, pa.string()).take(coded.indices).fill_null("null")
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    if pa.types.is_timestamp(kind):
        stamps = pc.strftime(column.cast(pa.timestamp("us", "UTC")), "%Y-%m-%dT%H:%M:%SZ")
        return pc.binary_join_element_wise('"', stamps, '"', "").fill_null("null")
    return column.cast(pa.string()).fill_null("null")


def lists(columns: Iterable[pa.Array]) -> pa.Array:
    """Return the JSON text of lists with one value of each column, given as JSON."""
    pieces: list[Any] = []
    for column in columns:
        pieces += ["," if pieces else "[", column]
    return pc.binary_join_element_wise(*pieces, "]", "")


def objects(columns: Mapping[str, pa.Array], end: str = "") -> pa.Array:
    """Return the JSON text of objects, whose values are given as JSON by their names.

    Where a value is null, the object has no such name; the first column has no nulls.
    """
    pieces: list[Any] = []
    for name, column in columns.items():
        head = f"{',' if pieces else '{'}{json.dumps(name)}:"
        if column.null_count:
            pieces.append(pc.binary_join_element_wise(head, column, "").fill_null(""))
        else:
            pieces += [head, column]
    return pc.binary_join_element_wise(*pieces, "}" + end, "")


def write_joined(file: BinaryIO, column: pa.Array) -> None:
    """Write all texts of a column, one after the other."""
    if not len(column):
        return
    offsets, data = column.buffers()[1:3]
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    file.write(memoryview(data)[int(bounds[0]) : int(bounds[-1])])

"""Columns as other tools write them, brought to the types of `SCHEMA`.

Valid Parquet may have wider or narrower numbers, large or dictionary-encoded text, stamps in other
units and zones or without one, structs with more or fewer fields. A value that its column cannot
hold is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from dgrec import compute as pc
from dgrec.errors import DamagedSessionError, NotASessionError, first_line
from dgrec.format.leaves import once_per_schema
from dgrec.format.schema import SCHEMA

#: Microseconds from 1970 to the years 2 and 9999, a year inside the range of Python's dates.
FIRST_US, LAST_US = -62_104_060_800_000_000, 253_370_764_800_000_000
_UNITS_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_Check = Callable[[pa.DataType], bool]
#: Without these a file is not a session.
_NEEDED = ("frame", "detections")
#: Batches that are larger once decoded are split: one long text that all rows share is small in a
#: file.
_BATCH_BYTES = 16 << 20
#: The largest row that is decoded.
_ROW_BYTES = 256 << 20


def cast_schema(schema: pa.Schema, path: Path) -> pa.Schema:
    """Return ``schema`` (of the file ``path``) with the types that `cast_batches` gives.

    Raises:
        NotASessionError: A column is missing, appears twice, or has a type that cannot be cast.
    """
    try:
        return _cast_schema(schema)
    except ValueError as error:
        raise NotASessionError(f"{path}: not a dgrec session ({error})") from None


@once_per_schema
def _cast_schema(schema: pa.Schema) -> pa.Schema:
    names = set(schema.names)
    if len(names) != len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise ValueError(f"column {twice!r} is there twice")
    for name in _NEEDED:
        if name not in names:
            raise ValueError(f"no column {name!r}")
    fields = []
    for field in schema:
        wanted = _wanted(field.name)
        if wanted is None:
            fields.append(field.remove_metadata())
            continue
        if not _is_castable(field.type, wanted.type) or not _holds_structs(field):
            raise ValueError(f"column {field.name!r} is {field.type}, not {wanted.type}")
        # Another tool may have written nulls, or numbers that do not fit and become null.
        may_be_null = wanted.nullable or field.nullable or not field.type.equals(wanted.type)
        fields.append(wanted.with_nullable(may_be_null))
    return pa.schema(fields)


def is_cast(schema: pa.Schema) -> bool:
    """Return whether the known columns have the types of `SCHEMA`."""
    return all(
        (wanted := _wanted(field.name)) is None or field.type.equals(wanted.type)
        for field in schema
    )


def cast_batches(batch: pa.RecordBatch, schema: pa.Schema, path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch with the types of ``schema``, which `cast_schema` returned.

    Detections, lists of them and timings that are null become empty. Stamps beyond Python's dates
    become the first or the last date. Texts may be dictionary-encoded in ``batch``.

    Raises:
        DamagedSessionError: The content contradicts the schema, or a row has no frame number or is
            too large.
    """
    try:
        # Checks for texts that are not UTF-8, and offsets that lead out of their buffers.
        batch.validate(full=True)
        for part in _small_parts(batch):
            fields = [schema.field(name) for name in part.schema.names]
            arrays = [
                _cast_column(array, field)
                for array, field in zip(part.columns, fields, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError) as error:
        raise DamagedSessionError(f"{path}: damaged: {first_line(error)}") from None


def check_required(rows: pa.RecordBatch | pa.Table) -> None:
    """Raise `ValueError` for nulls and stamps that a journal never has.

    (In sealed files, which other tools may have written, `cast_batches` replaces them.)
    """
    for name in ("frame", "detections", "timing"):
        if rows.column(name).null_count:
            raise ValueError(f"column {name!r} has nulls")
    if pc.list_flatten(rows.column("detections")).null_count:
        raise ValueError("a detection is null")
    for name in ("captured_at", "completed_at"):
        if not _is_within(rows.column(name), FIRST_US, LAST_US):
            raise ValueError(f"column {name!r} has stamps beyond all dates")
    if "signals" in rows.schema.names:
        signals = pc.list_flatten(rows.column("signals"))
        if not _is_within(pc.struct_field(signals, "at"), FIRST_US, LAST_US):
            raise ValueError("column 'signals' has stamps beyond all dates")


def with_columns(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Return columns of a batch; those of `SCHEMA` that it lacks are null."""
    fields, arrays = [], []
    for name in names:
        index = batch.schema.get_field_index(name)
        if index >= 0:
            fields.append(batch.schema.field(index))
            arrays.append(batch.column(index))
        else:
            wanted = SCHEMA.field(name)
            fields.append(wanted.with_nullable(True))
            arrays.append(pa.nulls(batch.num_rows, wanted.type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _small_parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    size = sum(map(_decoded_bytes, batch.columns))
    if size <= _BATCH_BYTES or (batch.num_rows == 1 and size <= _ROW_BYTES):
        yield batch
    elif batch.num_rows == 1:
        raise ValueError(f"a row decodes to {size:,} bytes")
    else:
        half = batch.num_rows // 2
        yield from _small_parts(batch.slice(0, half))
        yield from _small_parts(batch.slice(half))


def _decoded_bytes(array: Any) -> int:
    """Return how many bytes the texts of a column take once its dictionaries are decoded."""
    array = without_extension(array)
    type_ = array.type
    if pa.types.is_dictionary(type_):
        if not _is_text(type_) and not _is_binary(type_):
            return 0
        lengths = pc.binary_length(array.dictionary)
        return int(pc.sum(lengths.cast(pa.int64()).take(array.indices)).as_py() or 0)
    if pa.types.is_struct(type_):
        return sum(map(_decoded_bytes, array.flatten()))
    if pa.types.is_map(type_):
        return _decoded_bytes(taken_apart(array)[1])
    if _is_list(type_):
        return _decoded_bytes(array.flatten())
    return 0


def _wanted(name: str) -> pa.Field | None:
    index = SCHEMA.get_field_index(name)
    return None if index < 0 else SCHEMA.field(index)


def _holds_structs(field: pa.Field) -> bool:
    """Return False if the column ``detections`` is a list of anything but structs or nulls."""
    if field.name != "detections" or pa.types.is_null(field.type):
        return True
    item = field.type.value_type
    return bool(pa.types.is_struct(item) or pa.types.is_null(item))


def _cast_column(array: pa.Array, wanted: pa.Field) -> pa.Array:
    array = _cast(array, wanted.type)
    if _wanted(wanted.name) is None:
        return array
    if pa.types.is_timestamp(wanted.type):
        return _within(array, FIRST_US, LAST_US)
    if wanted.name == "detections" and array.flatten().null_count:
        array = _without_null_items(array)
    if wanted.name in ("detections", "timing") and array.null_count:
        return _without_nulls(array)
    if wanted.name == "signals":
        return _with_dates(array)
    if wanted.name == "frame" and array.null_count:
        raise ValueError("a row has no frame number")
    return array


# --- types -------------------------------------------------------------------------------------


def _is_castable(found: pa.DataType, wanted: pa.DataType) -> bool:
    if found.equals(wanted) or pa.types.is_null(found):
        return True
    if isinstance(found, pa.BaseExtensionType) and not found.storage_type.num_fields:
        found = found.storage_type
    return any(belongs(found) and belongs(wanted) for belongs in _KINDS)


def _one_of(*checks: _Check, encoded: bool = False) -> _Check:
    """Return a check for several types; ``encoded``: dictionary-encoded ones too."""

    def belongs(type_: pa.DataType) -> bool:
        plain = type_.value_type if encoded and pa.types.is_dictionary(type_) else type_
        return any(check(plain) for check in checks)

    return belongs


_types = pa.types
_is_number = _one_of(_types.is_integer, _types.is_floating, _types.is_decimal)
_is_text = _one_of(_types.is_string, _types.is_large_string, _types.is_string_view, encoded=True)
_is_binary = _one_of(
    _types.is_binary,
    _types.is_large_binary,
    _types.is_binary_view,
    _types.is_fixed_size_binary,
    encoded=True,
)
# A tool without maps writes their pairs as a list.
_is_list = _one_of(_types.is_list, _types.is_large_list, _types.is_fixed_size_list, _types.is_map)
_KINDS: tuple[_Check, ...] = (
    _is_number,
    _is_text,
    _is_list,
    _is_binary,
    _types.is_timestamp,
    _types.is_boolean,
    _types.is_struct,
)


# --- values ------------------------------------------------------------------------------------


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return an array with another type; values that cannot be cast are null."""
    found = array.type
    if found.equals(wanted):
        return array
    if pa.types.is_dictionary(found) and found.value_type.equals(wanted):
        return array.dictionary_decode()
    if isinstance(wanted, pa.BaseExtensionType):  # texts come dictionary-encoded, without it
        items = _cast(without_extension(array), wanted.storage_type)
        return pa.ExtensionArray.from_storage(wanted, items)
    if isinstance(array, pa.ExtensionArray):
        return _cast(array.storage, wanted)
    if not _is_castable(found, wanted) or pa.types.is_null(found):
        return pa.nulls(len(array), wanted)
    if pa.types.is_struct(wanted):
        return _cast_struct(array, wanted)
    if pa.types.is_map(wanted):
        return _cast_map(array, wanted)
    if pa.types.is_list(wanted):
        offsets, values = taken_apart(array)
        mask = array.is_null() if array.null_count else None
        items = _cast(values, wanted.value_type)
        return pa.ListArray.from_arrays(offsets, items, type=wanted, mask=mask)
    if pa.types.is_timestamp(wanted):
        return _cast_stamps(array)
    try:
        return array.cast(wanted)
    except pa.ArrowInvalid:  # raised for a single value that does not fit
        if not _is_number(wanted):
            return pa.nulls(len(array), wanted)
        return _cast_numbers(array, wanted)


def _cast_struct(array: pa.StructArray, wanted: pa.StructType) -> pa.Array:
    children = dict(zip((field.name for field in array.type), array.flatten(), strict=True))
    arrays = [
        _cast(children[field.name], field.type)
        if field.name in children
        else pa.nulls(len(array), field.type)
        for field in wanted
    ]
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(arrays, fields=list(wanted), mask=mask)


def _cast_map(array: pa.Array, wanted: pa.MapType) -> pa.Array:
    offsets, pairs = taken_apart(array)
    if not pa.types.is_struct(pairs.type) or pairs.type.num_fields != 2:
        return pa.nulls(len(array), wanted)
    keys, items = pairs.flatten()
    keys = _cast(keys, wanted.key_type)
    if keys.null_count:
        return pa.nulls(len(array), wanted)
    return pa.MapArray.from_arrays(offsets, keys, _cast(items, wanted.item_type), type=wanted)


def taken_apart(array: Any) -> tuple[pa.Array, pa.Array]:
    """Return offsets and items of a list of any kind; a null list has no items."""
    if pa.types.is_map(array.type):
        array = array.cast(_pairs_type(array.type))
    counts = pc.list_value_length(array).fill_null(0).cast(pa.int64())
    offsets = np.concatenate([[0], np.cumsum(counts.to_numpy(zero_copy_only=False))])
    return pa.array(offsets, pa.int64()).cast(pa.int32()), array.flatten()


def without_extension(array: Any) -> Any:
    """Return the storage of an array of an extension type; any other array as it is."""
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _pairs_type(type_: pa.MapType) -> pa.DataType:
    key = pa.field("key", type_.key_type, nullable=False)
    return pa.list_(pa.struct([key, pa.field("value", type_.item_type)]))


def _cast_stamps(array: pa.Array) -> pa.Array:
    """Return stamps in microseconds; those without a zone are taken as UTC."""
    wanted = SCHEMA.field("captured_at").type
    per_second = _UNITS_PER_SECOND[array.type.unit]
    numbers = array.view(pa.int64())
    if per_second > 1_000_000:
        values = numbers.fill_null(0).to_numpy(zero_copy_only=False) // 1000
        mask = numbers.is_null().to_numpy(zero_copy_only=False)
        return pa.array(values, pa.int64(), mask=mask).view(wanted)
    factor = 1_000_000 // per_second
    numbers = _within(numbers, FIRST_US // factor, LAST_US // factor)
    return pc.multiply(numbers, factor).view(wanted)


def _cast_numbers(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Cast numbers one by one; those that do not fit are null."""
    values = []
    for value in array.to_pylist():
        try:
            number = None if value is None else pa.scalar(value).cast(wanted).as_py()
        except (pa.ArrowException, OverflowError):
            number = None
        values.append(number)
    return pa.array(values, wanted)


def _within(array: pa.Array, low: int, high: int) -> pa.Array:
    """Return integers or stamps, clipped to a range."""
    if _is_within(array, low, high):
        return array
    numbers = array if pa.types.is_integer(array.type) else array.view(pa.int64())
    kept = pc.max_element_wise(numbers, low, skip_nulls=False)
    kept = pc.min_element_wise(kept, high, skip_nulls=False)
    return kept if array is numbers else kept.view(array.type)


def _is_within(array: pa.Array | pa.ChunkedArray, low: int, high: int) -> bool:
    ends = pc.min_max(array if pa.types.is_integer(array.type) else array.cast(pa.int64()))
    least, most = ends["min"].as_py(), ends["max"].as_py()
    return least is None or (low <= least and most <= high)


def _without_nulls(array: pa.Array) -> pa.Array:
    """Return lists or maps; null ones become empty."""
    offsets, values = taken_apart(array)
    if pa.types.is_map(array.type):
        keys, items = values.flatten()
        return pa.MapArray.from_arrays(offsets, keys, items, type=array.type)
    return cast(pa.Array, pa.ListArray.from_arrays(offsets, values, type=array.type))


def _with_dates(array: pa.Array) -> pa.Array:
    """Return signals with stamps clipped to the range of Python's dates."""
    times = pc.struct_field(array.flatten(), "at")
    if _is_within(times, FIRST_US, LAST_US):
        return array
    offsets, values = taken_apart(array)
    columns = dict(zip((field.name for field in values.type), values.flatten(), strict=True))
    columns["at"] = _within(columns["at"], FIRST_US, LAST_US)
    items = pa.StructArray.from_arrays(list(columns.values()), fields=list(values.type))
    mask = array.is_null() if array.null_count else None
    return cast(pa.Array, pa.ListArray.from_arrays(offsets, items, type=array.type, mask=mask))


def _without_null_items(array: pa.Array) -> pa.Array:
    """Return lists whose null structs are structs of nulls."""
    offsets, values = taken_apart(array)
    items = pa.StructArray.from_arrays(values.flatten(), fields=list(values.type))
    mask = array.is_null() if array.null_count else None
    return cast(pa.Array, pa.ListArray.from_arrays(offsets, items, type=array.type, mask=mask))

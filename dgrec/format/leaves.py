"""The leaves of nested columns, as Parquet stores them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa


@dataclass(frozen=True)
class Leaf:
    """One leaf of a column."""

    #: The names of the fields above it, and its own.
    name: str
    type: pa.DataType
    #: Its place in Parquet's schema, as Arrow and dgrec name the items of lists and maps.
    path: tuple[str, ...]
    #: The path of the innermost list (or map) that it is in.
    list_path: tuple[str, ...] | None = None


def leaves_of(schema: pa.Schema) -> Iterator[Leaf]:
    """Yield every leaf of the columns, in Parquet's order."""
    for field in schema:
        yield from _leaves(Leaf(field.name, field.type, (field.name,)))


def _leaves(above: Leaf) -> Iterator[Leaf]:
    type_, name, path = above.type, above.name, above.path
    if isinstance(type_, pa.BaseExtensionType) and type_.storage_type.num_fields:
        # Parquet stores the type that it is made of.
        type_ = type_.storage_type
    if pa.types.is_struct(type_):
        for field in type_:
            below = Leaf(f"{name}.{field.name}", field.type, (*path, field.name), above.list_path)
            yield from _leaves(below)
    elif pa.types.is_map(type_):
        for part, item in (("key", type_.key_type), ("value", type_.item_type)):
            yield from _leaves(Leaf(f"{name}.{part}", item, (*path, "key_value", part), path))
    elif type_.num_fields and not pa.types.is_dictionary(type_):  # a list of some kind
        item = type_.field(0).type
        yield from _leaves(Leaf(name, item, (*path, "list", "element"), path))
    else:
        yield above


_Found = TypeVar("_Found")
#: The most results that are kept, and the most leaves of a schema whose result is kept.
_MOST_KEPT, _MOST_LEAVES = 16, 1000


def once_per_schema(work: Callable[[pa.Schema], _Found]) -> Callable[[pa.Schema], _Found]:
    """Return a function that does its work once for schemas that are equal.

    The sessions of a folder mostly have the same columns. Arrow compares two faster than it hashes
    one. Schemas that differ in metadata, or in the names of a list's items, are not equal: else one
    file would get those of another.
    """
    kept: list[tuple[pa.Schema, _Found]] = []

    @functools.wraps(work)
    def kept_or_found(schema: pa.Schema) -> _Found:
        for known, found in kept:
            if known.equals(schema, check_metadata=True):
                return found
        found = work(schema)
        if len([*itertools.islice(leaves_of(schema), _MOST_LEAVES + 1)]) <= _MOST_LEAVES:
            kept.insert(0, (schema, found))
            del kept[_MOST_KEPT:]
        return found

    return kept_or_found

"""The leaves of nested columns, as Parquet stores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Leaf:
    """One leaf of a column."""

    #: The names of the fields above it, and its own.
    name: str
    type: pa.DataType
    #: Its place in Parquet's schema, as Arrow and dgrec name the items of lists and maps.
    path: tuple[str, ...]
    #: Of the innermost list (or map) that it is in.
    list_path: tuple[str, ...] | None = None


def leaves_of(schema: pa.Schema) -> Iterator[Leaf]:
    """Yield every leaf of the columns, in Parquet's order."""
    for field in schema:
        yield from _leaves(Leaf(field.name, field.type, (field.name,)))


def _leaves(above: Leaf) -> Iterator[Leaf]:
    type_, name, path = above.type, above.name, above.path
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

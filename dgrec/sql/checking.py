"""Comparing sealed files with their checksums before DuckDB, which checks none, reads them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from dgrec.errors import SessionError

if TYPE_CHECKING:
    import duckdb

    from dgrec.sql.views import Queryable

S = TypeVar("S", bound="Queryable")

#: Up to this much is compared as a whole: a look at the statement's plan takes longer.
_LITTLE_BYTES = 32 << 20


def check_files(
    connection: duckdb.DuckDBPyConnection,
    sessions: Sequence[Queryable],
    text: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
) -> None:
    """Compare what a statement reads of sealed files with their checksums, once for each block.

    Raises:
        DamagedSessionError: They differ.
    """
    for _, error in damaged_sessions(connection, sessions, text, parameters):
        raise error


def damaged_sessions(
    connection: duckdb.DuckDBPyConnection,
    sessions: Sequence[S],
    text: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
) -> Iterator[tuple[S, SessionError]]:
    """Yield the sessions in which what a statement reads is damaged, and how (`check_files`)."""
    unchecked = [session for session in sessions if session.unchecked_bytes]
    if not unchecked:
        return
    columns: set[str] | None = None
    if sum(session.unchecked_bytes for session in unchecked) > _LITTLE_BYTES:
        names = {name for session in unchecked for name in session.schema.names}
        columns = _columns_read(connection, text, parameters, names)
    for session in unchecked:
        try:
            session.check(columns)
        except SessionError as error:
            yield session, error


def _columns_read(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None,
    names: Collection[str],
) -> set[str] | None:
    """Return which columns of files a statement may read; None where its plan does not say."""
    import duckdb

    try:
        if len(connection.extract_statements(text)) != 1:
            return None
        explained = connection.execute(f"EXPLAIN (FORMAT json) {text}", parameters or None)
        plan = json.loads(explained.fetchall()[0][1])
    except (duckdb.Error, ValueError, LookupError):
        return None
    columns: set[str] = set()
    for node in nodes_of(plan):
        info = node.get("extra_info")
        if not isinstance(info, dict) or info.get("Function") != "READ_PARQUET":
            continue
        projected = info.get("Projections")
        projected = [projected] if isinstance(projected, str) else projected
        if projected is None or not {*projected} <= {*names, ""}:
            return None
        # Its filters are there as SQL. A name that is part of another one does no harm.
        columns |= {name for name in names if name in projected or name in str(info)}
    return columns


def nodes_of(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects in the JSON of a plan or a syntax tree."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)

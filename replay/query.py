"""SQL over a session: one statement that only reads, its result one Arrow batch at a time."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import duckdb
import pyarrow as pa

from dgrec import sql
from dgrec.errors import QueryError

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["QueryResult", "SqlReader", "check_only_reads"]

_T = TypeVar("_T")

#: Rows in one Arrow batch: with masks in them, more would be tens of megabytes at a time.
_BATCH_ROWS = 2048

#: DuckDB types whose values Arrow gives back to Python whole. The others (intervals, nanosecond
#: stamps, unions, bit strings, ...) are taken as DuckDB's own text.
_PLAIN_TYPES = (
    *("boolean", "tinyint", "smallint", "integer", "bigint", "hugeint"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "float", "double", "decimal"),
    *("varchar", "json", "blob", "uuid", "enum", "null", '"null"'),
    *("date", "time", "timestamp", "timestamp_s", "timestamp_ms", "timestamp with time zone"),
)


@dataclass
class QueryResult:
    """The columns of a result, and its rows as they are computed; they can be read once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class SqlReader:
    """A DuckDB connection over sessions that streams results and can be stopped with Ctrl-C.

    Memory does not grow with the length of a session or of a result; what a query itself has to
    hold (a sort, a join) is limited by ``memory_limit`` and spills to the disk beyond it.
    """

    def __init__(self, sessions: Sequence[Session], memory_limit: str = "2GB") -> None:
        self.connection = sql.connect(sessions, memory_limit)
        # DuckDB would spill into the working directory, which may be read-only or watched.
        self._spill = tempfile.TemporaryDirectory(prefix="dgrec-")
        self.connection.execute(f"SET temp_directory = {_literal(self._spill.name)}")
        # DuckDB's Arrow stream does not look at signals while it computes: a thread does that
        # work, and this one waits where Ctrl-C reaches it.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="duckdb")

    def stream(self, text: str) -> QueryResult:
        """Run one statement and return its result.

        Raises:
            QueryError: DuckDB refuses the statement, here or while its rows are read.
        """
        reader = self._wait(lambda: self._open(text))
        if reader is None:
            raise QueryError("the statement gives no rows; only reading statements can be run")
        return QueryResult(reader.schema, self._batches(reader))

    def rows(self, text: str) -> list[dict[str, Any]]:
        """Run one statement and return all its rows; for results that are known to be small."""
        return [row for batch in self.stream(text).batches for row in batch.to_pylist()]

    def close(self) -> None:
        self.connection.interrupt()  # a result may have been left half read
        self._worker.shutdown()
        self.connection.close()
        self._spill.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, text: str) -> pa.RecordBatchReader | None:
        relation = self.connection.sql(text)
        if relation is None:
            return None
        names = _unique(relation.columns)
        plain = [_is_plain(type_) for type_ in relation.types]
        if not all(plain) or names != relation.columns:
            statement = _without_end(self.connection, text)
            relation = self.connection.sql(_as_text(statement, names, plain))
        return relation.to_arrow_reader(_BATCH_ROWS)

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            while (batch := self._wait(lambda: next(reader, None))) is not None:
                yield batch
        finally:
            reader.close()

    def _wait(self, work: Callable[[], _T]) -> _T:
        future = self._worker.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            self.connection.interrupt()
            wait([future])
            raise
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # Arrow reports as an OSError what DuckDB finds out while it computes.
            raise sql.query_error(error) from None


def check_only_reads(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Refuse everything but one statement that reads.

    This keeps a query from changing anything by mistake; it is no sandbox: a query may still read
    files. (What shuts that off belongs into `dgrec.sql.connect`.)

    Raises:
        QueryError: The text is no valid SQL, no or several statements, or would write.
    """
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise sql.query_error(error) from None
    if len(statements) != 1:
        count = "no statement" if not statements else f"{len(statements)} statements"
        raise QueryError(f"{count} in the SQL text; give exactly one")
    statement = statements[0]
    kind = statement.type
    body = statement.query
    if kind == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains.
        prefix = re.match(r"\s*explain\b(\s*\([^)]*\)|\s+analyze\b)?", body, re.IGNORECASE)
        if prefix is None:
            raise QueryError("EXPLAIN has to come first, before any comment")
        check_only_reads(connection, body[prefix.end() :])
        return
    if kind not in (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI):
        raise QueryError(
            f"{kind.name} is refused: only statements that read can be run "
            "(SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SUMMARIZE, EXPLAIN)"
        )
    # A COPY or INSERT inside WITH counts as a SELECT; as a subquery it is not accepted.
    try:
        connection.execute(
            f"EXPLAIN SELECT * FROM (\n{_without_end(connection, body)}\n)"
        ).fetchall()
    except duckdb.Error as error:
        raise sql.query_error(error) from None


def _without_end(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """Return one statement without the semicolon after it, so that it can stand in brackets."""
    for match in re.finditer(";", text):
        # Only the parser knows a semicolon from one inside a string or a comment.
        with contextlib.suppress(duckdb.Error):
            rest = connection.extract_statements(text[match.start() :])
            if not rest and len(connection.extract_statements(text[: match.start()])) == 1:
                return text[: match.start()]
    return text


def _is_plain(type_: Any) -> bool:
    if type_.id in ("list", "array"):
        return _is_plain(type_.children[0][1])
    if type_.id in ("struct", "map"):
        return all(_is_plain(child) for _, child in type_.children)
    return type_.id in _PLAIN_TYPES


def _as_text(statement: str, names: list[str], plain: list[bool]) -> str:
    """Return a query for the same rows with unusual types as text and every name only once."""
    columns = ", ".join(
        f"{f'c{i}' if is_plain else f'CAST(c{i} AS VARCHAR)'} AS {_quoted(name)}"
        for i, (name, is_plain) in enumerate(zip(names, plain, strict=True))
    )
    aliases = ", ".join(f"c{i}" for i in range(len(names)))
    return f"SELECT {columns} FROM (\n{statement}\n) AS result({aliases})"


def _unique(names: list[str]) -> list[str]:
    """Number repeated names (``n``, ``n_1``): a JSON object would keep only the last of them."""
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        number, free = 0, name
        while free in seen or (number and free in taken):
            number += 1
            free = f"{name}_{number}"
        seen.add(free)
        result.append(free)
    return result


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

"""The SQL views over sessions: ``frames``, ``detections`` and ``sessions``.

Their names and columns are part of what dgrec promises, like the columns of the file itself.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from dgrec.errors import QueryError
from dgrec.format import (
    DETECTION,
    FIRST_US,
    FLOATS,
    LARGEST_MEASUREMENT,
    LAST_US,
    SCHEMA,
    dumps,
    is_live,
    is_utf8,
    original_of,
)
from dgrec.sql import library, logged_values
from dgrec.sql.library import literal
from dgrec.sql.streams import Room, RowStream, label_streams

if TYPE_CHECKING:
    import duckdb

    from dgrec.format import Metadata
    from dgrec.session import Part

_NAMES = frozenset(SCHEMA.names)
#: So many leave memory behind that is worth the time of giving it back.
_MANY_FRAMES = 50_000
#: The views besides the library.
_VIEWS = ("frames", "detections", "sessions", "frame_labels")
#: DuckDB's error for a table that does not exist, with its guess where it has one.
_NO_TABLE = re.compile(
    r"(?P<complaint>Catalog Error: Table with name (?P<name>.+) does not exist!)"
    r'(?: Did you mean "(?P<guess>.*)"\?)?',
    re.DOTALL,
)
#: DuckDB's error where two threads use one connection.
_BUSY = "connection is busy with another call"
#: DuckDB's errors begin with their kind; those about files with one of a few kinds, or none.
_KIND_OF_ERROR = re.compile(r"[A-Z][A-Za-z ]* Error: ")
_OF_FILES = ("Invalid Input Error: ", "IO Error: ", "INTERNAL Error: ", "Serialization Error: ")
#: The condition for a number that was measured.
_IS_MEASURED = f"isfinite({{0}}) AND abs({{0}}) <= {LARGEST_MEASUREMENT}"
#: The condition for a stamp. Where DuckDB does not read the file itself, stamps beyond all dates
#: were read as the first or the last one.
_IS_STAMP = f"{{0}} > make_timestamptz({FIRST_US}) AND {{0}} < make_timestamptz({LAST_US})"
_DETECTION_COLUMNS = ", ".join(
    f"CASE WHEN {_IS_MEASURED.format(f'd.{field.name}')} THEN d.{field.name} END AS {field.name}"
    if pa.types.is_floating(field.type)
    else f"d.{field.name}"
    for field in DETECTION
    if field.name != "keys"
)

_EXTRA = "CASE WHEN json_valid(d.extra) THEN d.extra END"
#: Values that analyzers of degirum_tools add to detections: they are in ``extra``, by their names.
_ADDED_COLUMNS = ", ".join(
    f"TRY_CAST(json_extract({_EXTRA}, '$.{name}') AS {type_}) AS {name}"
    for name, type_ in {
        "in_zone": "BOOLEAN[]",
        "frames_in_zone": "BIGINT[]",
        "time_in_zone": "DOUBLE[]",
        "cross_line": "BOOLEAN[]",
        "cross_line_direction": "JSON",
    }.items()
)


class Queryable(Protocol):
    """The interface of a `Session` that SQL needs."""

    path: Path
    place: Path

    @property
    def id(self) -> str: ...
    @property
    def is_plain(self) -> bool: ...
    @property
    def is_finite(self) -> bool: ...
    @property
    def metadata(self) -> Metadata: ...
    @property
    def schema(self) -> pa.Schema: ...
    @property
    def files(self) -> tuple[Path, ...]: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def totals(self) -> dict[str, int | None]: ...
    @property
    def ended_at(self) -> str | None: ...
    @property
    def unchecked_bytes(self) -> int: ...
    def check(self, columns: Collection[str] | None = None) -> None: ...
    def __len__(self) -> int: ...
    def batches(
        self, columns: list[str] | None = None, start: int = 0, end: int | None = None
    ) -> Iterator[pa.RecordBatch]: ...
    def batches_of(
        self, part: Part, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]: ...


def connect(
    sessions: Sequence[Queryable],
    memory_limit: str | None = "2GB",
    *,
    with_library: bool = True,
    confined: bool = False,
    spill: Path | None = None,
    spill_limit: str | None = None,
) -> duckdb.DuckDBPyConnection:
    """Return a new in-memory DuckDB connection with the views over ``sessions``.

    Rows are streamed from the files as a query needs them: memory does not grow with their size.

    Args:
        memory_limit: The memory that DuckDB may use, as it writes sizes; None: DuckDB's default.
        with_library: Create all of the SQL library; otherwise `Library` does, as it is needed.
        confined: From here on DuckDB opens no file but those of the sessions, no network and no
            extension, and no setting can be changed. It could still overwrite those files: check
            first that a statement only reads.
        spill: Folder for what does not fit into memory.
        spill_limit: The most that it may hold.
    """
    import duckdb

    config = {
        # DuckDB would spill into the working directory, which may be read-only or watched.
        # It makes the folder when it needs it, and removes it. The name cannot be guessed.
        "temp_directory": str(spill or Path(tempfile.gettempdir()) / f"dgrec-{uuid.uuid4()}"),
        "python_enable_replacements": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        # Exact quantiles take and free tens of megabytes each, which would be kept otherwise. Below
        # 3 MB, an answer's groups go back to the system, which takes as long as the answer itself.
        "allocator_bulk_deallocation_flush_threshold": "4MB",
        "allocator_flush_threshold": "1MB",
        # The system keeps what was read of files, and gives it up when memory is short.
        "enable_external_file_cache": "false",
    }
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    if spill_limit is not None:
        config["max_temp_directory_size"] = spill_limit
    if confined:
        config |= {"allow_community_extensions": "false", "allow_persistent_secrets": "false"}
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET TimeZone = 'UTC'")
    # A footer is read once, not for each look at a file: a question may take several.
    connection.execute("SET parquet_metadata_cache = true")
    room = Room()
    frames = _frames_query(sessions, connection, room)
    # Signatures are bytes that SQL cannot compare.
    connection.execute(f"CREATE VIEW frames AS SELECT * EXCLUDE (pixel_signature) FROM ({frames})")
    connection.execute(
        "CREATE VIEW detections AS "
        f"SELECT * EXCLUDE (d), {_DETECTION_COLUMNS}, {_ADDED_COLUMNS} FROM ("
        "SELECT * EXCLUDE (detections, restore, signals, pixel_digest), "
        "unnest(range(len(detections))) AS detection, unnest(detections) AS d FROM frames)"
    )
    for name, stream in label_streams(sessions, room):
        connection.register(name, stream)
    stamp = f"CASE WHEN {_IS_STAMP.format('captured_at')} THEN captured_at END AS captured_at"
    connection.execute(f"CREATE VIEW frame_labels AS SELECT * REPLACE ({stamp}) FROM _frame_labels")
    for name, (schema, rows_of) in logged_values.STREAMS.items():
        read = functools.partial(_rows_of_all, rows_of, sessions)
        connection.register(name, RowStream(schema, read, Room(0)))
    connection.register("_sessions", _sessions_table(sessions))
    connection.execute("CREATE VIEW sessions AS SELECT * FROM _sessions")
    if with_library:
        library.Library(connection).provide_all()
    if confined:
        _confine(connection, sessions)
    return connection


def return_memory(frames: int | None = None) -> None:
    """Give the system back what DuckDB has freed: its threads keep a hundred megabytes.

    DuckDB does so for all of its databases when one is closed, which takes 25 ms. Nothing is done
    where only a few ``frames`` have been read.
    """
    if frames is not None and frames < _MANY_FRAMES:
        return
    import ctypes

    import duckdb

    duckdb.connect(":memory:", config={"threads": 1}).close()
    with contextlib.suppress(OSError, TypeError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _confine(connection: duckdb.DuckDBPyConnection, sessions: Sequence[Queryable]) -> None:
    # A part may be sealed while the query runs; DuckDB still reads it as the journal it was.
    files = [path for s in sessions for path in (s.place, *(part.place for part in s.parts))]
    files = list(filter(_has_plain_name, files))
    names = ", ".join(map(_literal, files))
    connection.execute(f"SET allowed_paths = [{names}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@dataclass(frozen=True)
class _Rows:
    """The source of rows: a file that DuckDB reads itself, or a stream registered under a name.

    Streams are used for journals, and for files with columns of other types or unusual names.
    """

    session_id: str
    schema: pa.Schema
    path: Path | None = None
    name: str = ""
    #: Whether no number of the rows is NaN or infinite, as far as that is known.
    is_finite: bool = False


def _rows_of_all(
    rows_of: Callable[[Sequence[Queryable]], Iterator[pa.RecordBatch]],
    sessions: Sequence[Queryable],
    _: list[str],
) -> Iterator[pa.RecordBatch]:
    return rows_of(sessions)


def _is_taken(name: str) -> bool:
    """Return whether another tool's column would hide one of dgrec's: SQL ignores the case."""
    return name not in _NAMES and (name.lower() in _NAMES or name.lower() == "session_id")


def _frames_query(
    sessions: Sequence[Queryable], connection: duckdb.DuckDBPyConnection, room: Room
) -> str:
    """Return a query for the rows of all sessions, in their order."""
    rows = [
        row
        for number, session in enumerate(sessions)
        for row in _rows_of(session, number, connection, room)
    ]
    # DuckDB opens the first file of a list to learn the columns of all, and then only those that it
    # reads rows from. A scan for each of 200 files takes four times as long.
    runs = itertools.groupby(rows, lambda row: (row.name, row.schema, row.is_finite))
    first, *others = (_select(list(run)) for _, run in runs)
    # Columns that all files lack are null: the library's views need every column. The nulls are not
    # rows of a separate table: above a UNION, DuckDB holds the whole input of a window in memory.
    there = {name for row in rows for name in row.schema.names}
    if left_out := [column for column in SCHEMA if column.name not in there]:
        types = connection.from_arrow(pa.schema(left_out).empty_table()).types
        nulls = [
            f"NULL::{type_} AS {column.name}" for column, type_ in zip(left_out, types, strict=True)
        ]
        first = f"SELECT *, {', '.join(nulls)} FROM ({first})"
    return " UNION ALL BY NAME ".join([first, *others])


def _rows_of(
    session: Queryable, number: int, connection: duckdb.DuckDBPyConnection, room: Room
) -> Iterator[_Rows]:
    def streamed(
        name: str, schema: pa.Schema, batches: Callable[[list[str]], Iterator[pa.RecordBatch]]
    ) -> _Rows:
        schema = pa.schema([field for field in schema if not _is_taken(field.name)])
        connection.register(name, RowStream(schema, batches, room))
        return _Rows(session.id, schema, name=name)

    if not session.parts:
        if _can_be_read(session):
            yield _Rows(session.id, session.schema, path=session.place, is_finite=session.is_finite)
        else:
            yield streamed(f"_rows_{number}", session.schema, session.batches)
    for part in session.parts:
        if _can_be_read(part):
            yield _Rows(session.id, part.schema, path=part.place, is_finite=part.is_finite)
        else:
            batches = functools.partial(session.batches_of, part)
            yield streamed(f"_rows_{number}_{part.number}", part.schema, batches)


def _can_be_read(file: Queryable | Part) -> bool:
    """Return whether DuckDB itself finds the columns of `SCHEMA` in a file, and nothing else."""
    has_other_names = any(map(_is_taken, file.schema.names))
    return file.is_plain and _has_plain_name(file.place) and not has_other_names


def _select(rows: Sequence[_Rows]) -> str:
    """Return a query for rows that have the same columns."""
    ids = [literal(row.session_id) for row in rows]
    session_id = ids[0]
    if len(set(ids)) > 1:
        session_id = f"([{', '.join(ids)}])[(file_index + 1)::BIGINT]"
    source = rows[0].name or _scan([row.path for row in rows if row.path is not None])
    if rows[0].is_finite:
        return f"SELECT {session_id} AS session_id, * FROM {source}"
    return _finite(rows[0].schema, source, f"{session_id} AS session_id, ")


def _finite(schema: pa.Schema, source: str, also: str = "") -> str:
    """Return a query for the rows of ``source`` in which numbers that are not finite are NULL.

    So are those beyond `LARGEST_MEASUREMENT`, stamps beyond `FIRST_US` and `LAST_US`, and numbers
    of source frames too large to be counts. The bounds of a Parquet column leave out NaN:
    whether ``isnan`` or a comparison finds it depends on whether DuckDB looks at them. It does not
    for ``isfinite``.
    """
    columns = [
        f"CASE WHEN {condition.format(name)} THEN {name} END AS {name}"
        for name, type_ in zip(schema.names, schema.types, strict=True)
        if (condition := _condition(name, type_)) is not None
    ]
    replaced = f" REPLACE ({', '.join(columns)})" if columns else ""
    return f"SELECT {also}*{replaced} FROM {source}"


def _condition(name: str, type_: pa.DataType) -> str | None:
    """Return the condition on a column's values; None if any value will do."""
    if name in FLOATS and pa.types.is_floating(type_):
        return _IS_MEASURED
    if name == "source_frame" and pa.types.is_integer(type_):
        return f"{{0}} BETWEEN 0 AND {LARGEST_MEASUREMENT:.0f}"
    if name in ("captured_at", "completed_at") and type_ == pa.timestamp("us", "UTC"):
        return _IS_STAMP
    return None


def _scan(paths: Sequence[Path]) -> str:
    # By default DuckDB takes `name=value` in a path for a column, which replaces the file's own.
    return f"read_parquet([{', '.join(map(_literal, paths))}], hive_partitioning = false)"


def _literal(path: Path) -> str:
    return literal(str(path.absolute()))


def _has_plain_name(path: Path) -> bool:
    """Return whether DuckDB can be given the name of a file.

    It takes every path for a pattern, which other files can match or break, and Linux allows any
    bytes in a name.
    """
    name = str(path.absolute())
    return is_utf8(name) and not set("*?[\\") & set(name)


def _readable(text: str) -> str:
    """Return a text that may hold bytes of a file name that are not UTF-8, with those escaped."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


_TOTALS = ("frames", "detections", "skipped", "dropped", "dropped_at_start")
_SESSION_COLUMNS = pa.schema(
    [
        ("session_id", pa.string()),
        ("clip_of", pa.string()),
        ("group_id", pa.string()),
        ("name", pa.string()),
        ("path", pa.string()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("ended_at", pa.timestamp("us", tz="UTC")),
        ("end_reason", pa.string()),
        ("source", pa.string()),
        ("source_kind", pa.string()),
        ("live", pa.bool_()),
        ("model", pa.string()),
        ("device", pa.string()),
        ("inference_host", pa.string()),
        ("host", pa.string()),
        *((name, pa.int64()) for name in _TOTALS),
        ("bytes", pa.int64()),
        ("metadata", pa.string()),
    ]
)


def _sessions_table(sessions: Sequence[Queryable]) -> pa.Table:
    return pa.Table.from_pylist([_session_row(s) for s in sessions], schema=_SESSION_COLUMNS)


def _session_row(session: Queryable) -> dict[str, Any]:
    metadata = session.metadata
    source, model = metadata.get("source", {}), metadata.get("model", {})
    totals = session.totals
    return {
        "session_id": session.id,
        "clip_of": original_of(metadata),
        "group_id": metadata.get("group", {}).get("id"),
        "name": _readable(metadata.get("name") or "") or None,
        "path": _readable(str(session.path)),
        "started_at": logged_values.stamp(metadata.get("started_at")),
        "ended_at": logged_values.stamp(session.ended_at),
        "end_reason": metadata.get("end_reason"),
        "source": source.get("given"),
        "source_kind": source.get("kind"),
        "live": is_live(metadata),
        "model": model.get("name"),
        "device": model.get("device"),
        "inference_host": model.get("inference_host"),
        "host": metadata.get("host", {}).get("name"),
        **{name: totals.get(name) for name in _TOTALS},
        "bytes": sum(map(_size, session.files)),
        "metadata": _json(metadata),
    }


def _json(metadata: Mapping[str, Any]) -> str:
    """Return metadata as DuckDB can read it: names of files may have bytes that are not UTF-8."""
    text = dumps(metadata)
    # In JSON such a byte is half a character; most of those found here are part of a whole one.
    return dumps(_all_readable(metadata)) if "\\udc" in text else text


def _all_readable(value: Any) -> Any:
    if isinstance(value, str):
        return _readable(value)
    if isinstance(value, Mapping):
        return {key: _all_readable(item) for key, item in value.items()}
    return [*map(_all_readable, value)] if isinstance(value, list | tuple) else value


def _size(path: Path) -> int:
    # A part may have been sealed or removed since the set was opened.
    return os.path.getsize(path) if path.exists() else 0


def is_about_files(error: Exception) -> bool:
    """Return whether the cause of DuckDB's complaint may be a file rather than the statement."""
    kind = _KIND_OF_ERROR.match(str(error))
    return kind is None or kind[0] in _OF_FILES


def query_error(error: Exception) -> QueryError:
    """Return DuckDB's complaint as one line: without its own traceback, line art and advice."""
    text, _, advice = str(error).partition("\nPossible solutions:")
    # If a journal was sealed or removed while it was read, Arrow adds the place in Python.
    text = text.partition(" Detail: Python exception:")[0]
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("LINE ", "^"))]
    message = " ".join(kept) or type(error).__name__
    if _BUSY in message:
        return QueryError(
            "another thread is running a query on this session; open it separately in each thread"
        )
    missing = _NO_TABLE.fullmatch(message)
    kinds = {entry.name: entry.kind for entry in library.entries()}
    if missing and kinds.get(missing["name"].lower()) == "table macro":
        return QueryError(f"{missing['name']} is a table macro: write {missing['name']}()")
    if missing and missing["guess"] not in {*_VIEWS, *kinds}:
        # DuckDB proposes one of its own tables, which is unlikely to be meant.
        views = ", ".join(_VIEWS)
        message = (
            f'{missing["complaint"]} There are {views}, and those of the library ("SHOW TABLES")'
        )
    # The advice is about settings that a query cannot change.
    return QueryError(f"{message}; --memory-limit allows more" if advice else message)

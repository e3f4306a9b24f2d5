"""The SQL views over sessions: ``frames``, ``detections`` and ``sessions``.

Their names and columns are part of what dgrec promises, like the columns of the file itself.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dgrec import library
from dgrec.errors import QueryError
from dgrec.metadata import dumps
from dgrec.schema import DETECTION

if TYPE_CHECKING:
    import duckdb

    from dgrec.parts import Part
    from dgrec.session import Session

__all__ = ["connect", "query_error"]

_DETECTION_COLUMNS = ", ".join(f"d.{field.name}" for field in DETECTION if field.name != "keys")


def connect(sessions: Sequence[Session], memory_limit: str = "2GB") -> duckdb.DuckDBPyConnection:
    """Return a new in-memory DuckDB connection with the views over ``sessions``.

    Rows are streamed from the files as a query needs them: memory does not grow with their size.
    """
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory_limit,
            # DuckDB would spill into the working directory, which may be read-only or watched.
            "temp_directory": str(Path(tempfile.gettempdir()) / f"dgrec-duckdb-{os.getpid()}"),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    # A footer is read once, not for each look at a file: a question may take several.
    connection.execute("SET parquet_metadata_cache = true")
    selects = []
    for index, session in enumerate(sessions):
        for rows in _tables(session, index, connection):
            selects.append(f"SELECT {_literal(session.id)} AS session_id, * FROM {rows}")
    connection.execute("CREATE VIEW frames AS " + " UNION ALL BY NAME ".join(selects))
    connection.execute(
        "CREATE VIEW detections AS "
        f"SELECT * EXCLUDE (d), {_DETECTION_COLUMNS} FROM ("
        "SELECT * EXCLUDE (detections, restore), unnest(range(len(detections))) AS detection, "
        "unnest(detections) AS d FROM frames)"
    )
    connection.register("_sessions", _sessions_table(sessions))
    connection.execute("CREATE VIEW sessions AS SELECT * FROM _sessions")
    for statement in library.statements():
        connection.execute(statement)
    return connection


class _PartJournal:
    """Gives DuckDB the rows of a set's journal, anew for each scan, also once it is sealed."""

    def __init__(self, session: Session, part: Part) -> None:
        self._session = session
        self._part = part

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        rows = self._session.batches_of(self._part)
        reader = pa.RecordBatchReader.from_batches(self._part.schema, rows)
        return reader.__arrow_c_stream__(requested_schema)


def _tables(session: Session, index: int, connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Yield what to select the session's rows from, in their order."""
    if not session.parts:
        if session.sealed:
            yield _parquet([session.path])
        else:
            connection.register(f"_journal_{index}", session.journal)
            yield f"_journal_{index}"
    for sealed, parts in itertools.groupby(session.parts, key=lambda part: part.sealed):
        if sealed:
            yield _parquet([part.path for part in parts])
            continue
        for part in parts:
            name = f"_journal_{index}_{part.number}"
            connection.register(name, _PartJournal(session, part))
            yield name


def _parquet(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(_literal(str(path)) for path in paths)}])"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_SESSION_COLUMNS = pa.schema(
    [
        ("session_id", pa.string()),
        ("name", pa.string()),
        ("path", pa.string()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("ended_at", pa.timestamp("us", tz="UTC")),
        ("end_reason", pa.string()),
        ("source", pa.string()),
        ("source_kind", pa.string()),
        ("model", pa.string()),
        ("device", pa.string()),
        ("inference_host", pa.string()),
        ("host", pa.string()),
        ("frames", pa.int64()),
        ("detections", pa.int64()),
        ("skipped", pa.int64()),
        ("dropped", pa.int64()),
        ("bytes", pa.int64()),
        ("metadata", pa.string()),
    ]
)


def _sessions_table(sessions: Sequence[Session]) -> pa.Table:
    return pa.Table.from_pylist([_session_row(s) for s in sessions], schema=_SESSION_COLUMNS)


def _session_row(session: Session) -> dict[str, Any]:
    metadata = session.metadata
    source, model = metadata.get("source", {}), metadata.get("model", {})
    totals = metadata.get("totals", {})
    return {
        "session_id": session.id,
        "name": metadata.get("name"),
        "path": str(session.path),
        "started_at": _stamp(metadata.get("started_at")),
        "ended_at": _stamp(metadata.get("ended_at")),
        "end_reason": metadata.get("end_reason"),
        "source": source.get("given"),
        "source_kind": source.get("kind"),
        "model": model.get("name"),
        "device": model.get("device"),
        "inference_host": model.get("inference_host"),
        "host": metadata.get("host", {}).get("name"),
        "frames": totals.get("frames"),
        "detections": totals.get("detections"),
        "skipped": totals.get("skipped"),
        "dropped": totals.get("dropped"),
        "bytes": sum(map(_size, session.files)),
        "metadata": dumps(metadata),
    }


def _size(path: Path) -> int:
    # A part may have been sealed or removed since the set was opened.
    return os.path.getsize(path) if path.exists() else 0


def _stamp(text: str | None) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def query_error(error: Exception, path: Path | None = None) -> QueryError:
    """Return DuckDB's complaint as one line: without its own traceback and line art."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("LINE ", "^"))]
    return QueryError(" ".join(kept) or type(error).__name__)

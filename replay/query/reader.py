"""SQL over a session: one statement that only reads, its result one Arrow batch at a time."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Self, TypeVar

import duckdb
import pyarrow as pa

from dgrec.errors import DgrecError, QueryError, SessionError
from dgrec.files import TemporaryFolder
from dgrec.replay.output import QueryResult
from dgrec.replay.query.landlock import refuse_writing
from dgrec.replay.query.statement import (
    check_only_reads,
    one_statement,
    statements_of,
    without_end,
)
from dgrec.session import Session, unreadable
from dgrec.sql import damaged_sessions, library, views

__all__ = ["SqlReader", "check_only_reads", "remove_spilled", "without_options"]

_T = TypeVar("_T")

#: Rows in one Arrow batch: with masks in them, more would be tens of megabytes at a time.
_BATCH_ROWS = 2048
#: The names of threads that run statements, before a number.
_WORKER_NAME = "dgrec-duckdb"
#: How long an interrupted statement may go on, and how often it is interrupted until then.
_PATIENCE_S = 3.0
_INTERRUPT_S = 0.1
#: Bytes of intermediate results on the disk, unless there is little room.
_MOST_SPILLED = 8 * 10**9
#: The folders for them that exist now.
_spills: weakref.WeakSet[TemporaryFolder] = weakref.WeakSet()

#: DuckDB types whose values Arrow gives back to Python whole. The others (intervals, nanosecond
#: stamps, unions, bit strings, ...) are taken as DuckDB's own text.
_PLAIN_TYPES = (
    "timestamp with time zone",
    *"boolean tinyint smallint integer bigint hugeint utinyint usmallint uinteger ubigint".split(),
    *'float double decimal varchar json blob uuid enum null "null"'.split(),
    *"date time timestamp timestamp_s timestamp_ms".split(),
)


#: Advice in messages on options that only ``dgrec query`` has.
_OPTIONS = re.compile(r"; --(?:timeout|memory-limit)\b.*")


def without_options(message: str) -> str:
    """Return the message of an error without the advice that only ``dgrec query`` can follow."""
    return _OPTIONS.sub("", message)


def remove_spilled() -> None:
    """Remove what statements have spilled: for a process that does not wait for them."""
    for folder in [*_spills]:
        with contextlib.suppress(OSError):
            folder.cleanup()


class _FileError(QueryError):
    """DuckDB failed, and the cause may be one of the files."""


class SqlReader:
    """A DuckDB connection over sessions that streams results and can be stopped with Ctrl-C.

    Memory does not grow with the length of a session or of a result; what a query itself has to
    hold (a sort, a join) is limited by ``memory_limit`` and spills to the disk beyond it.

    Args:
        memory_limit: What DuckDB may hold, in its notation; None: DuckDB decides.
        timeout: Seconds that a statement may take, until its last row is read.
        unsafe: Let a statement do whatever DuckDB can: files, network, extensions, writing.
            Otherwise DuckDB can open the sessions and nothing else, and where Linux can enforce it
            (Landlock), nothing can be written and no connection made. `answer` takes only
            statements that read; `stream` is for our own.
        left_out: Called with a line for each session whose rows turn out to be unreadable when a
            statement reads them, before any row of its result is given. The answer is then that of
            the other sessions. Without it, or if there is no other session, that is an error.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        memory_limit: str | None = "2GB",
        *,
        timeout: float | None = None,
        unsafe: bool = False,
        left_out: Callable[[str], None] | None = None,
    ) -> None:
        self._sessions = list(sessions)
        self._memory_limit = memory_limit
        self._timeout = timeout
        self._unsafe = unsafe
        self._left_out = left_out
        self._deadline: float | None = None
        self._reader: pa.RecordBatchReader | None = None
        #: Whether a statement that could not be stopped still runs: no other can be run then.
        self.is_stuck = False
        # DuckDB would spill into the working directory, which may be read-only or watched.
        self._spill = TemporaryFolder("dgrec")
        _spills.add(self._spill)
        # DuckDB's Arrow stream does not look at signals while it computes: a thread does that
        # work, and this one waits where Ctrl-C reaches it.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=_WORKER_NAME)
        try:
            if not unsafe:
                # Before the connection is made: the threads it starts are bound by it, too.
                self._worker.submit(refuse_writing, self._spill.path).result()
            self.connection = self._connected()
        except BaseException:
            self._worker.shutdown()
            self._spill.cleanup()
            raise

    def _connected(self) -> duckdb.DuckDBPyConnection:
        while True:
            try:
                return self._worker.submit(self._connect).result()
            except duckdb.Error as error:  # a file may have gone since it was opened, too
                reason = views.query_error(error)
                if not views.is_about_files(error):
                    raise reason from None
                self._leave_out_unreadable(reason)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        spill = self._spill.path
        connection = views.connect(
            self._sessions,
            self._memory_limit,
            with_library=False,
            confined=not self._unsafe,
            spill=spill,
            spill_limit=None if self._unsafe else f"{_spill_limit(spill)}B",
        )
        self._library = library.Library(connection)
        if self._unsafe:
            # A statement may create something under a name that the library takes later.
            self._library.provide_all()
        return connection

    def answer(
        self, text: str, parameters: Mapping[str, Any] | None = None, *, all_used: bool = False
    ) -> QueryResult:
        """Run one untrusted statement: checked first, unless this reader is ``unsafe``.

        Args:
            parameters: Values for ``$name`` in the text.
            all_used: Refuse a parameter that the text does not use.

        Raises:
            QueryError: It does more than read, takes too long or too much, or DuckDB refuses it,
                here or while its rows are read.
        """
        self._start()
        used = self._wait(lambda: self._used(text, parameters or {}, all_used))
        if not self._unsafe:
            self._ask_readable(text, lambda: check_only_reads(self.connection, text, used))
        return self._result(text, used)

    def check(self, text: str) -> None:
        """Refuse a statement that `answer` would refuse, without running it.

        Raises:
            QueryError: It does more than read, or DuckDB refuses it.
        """
        self._start()
        self._ask_readable(text, lambda: check_only_reads(self.connection, text))

    def stream(self, text: str) -> QueryResult:
        """Run one statement and return its result.

        Raises:
            QueryError: DuckDB refuses the statement, here or while its rows are read.
        """
        self._start()
        return self._result(text, {})

    def keep(self, *names: str) -> None:
        """Compute views of few rows now, and let later statements read these rows."""
        for name in names:
            for statement in (
                f"CREATE TABLE IF NOT EXISTS _{name} AS FROM {name}",
                f"CREATE OR REPLACE VIEW {name} AS FROM _{name}",
            ):
                self._start()
                self._run(statement, {})

    def put(self, macro: str, rows: pa.Table, *, instead_of: str) -> None:
        """Let a table macro give these rows from now on, whatever its arguments are.

        Args:
            instead_of: A view that gives them, too.
        """
        self._start()
        self._wait(lambda: self.connection.register(f"_{macro}", rows))
        self._run(f"CREATE OR REPLACE MACRO {macro}(_ := 0) AS TABLE FROM _{macro}", {})
        self._run(f"CREATE OR REPLACE VIEW {instead_of} AS FROM _{macro}", {})

    def rows(self, text: str) -> list[dict[str, Any]]:
        """Run one statement and return all its rows; for results that are known to be small.

        Numbers that are not finite are None: a file may claim wrongly that it has none.
        """
        return [
            {name: _finite(value) for name, value in row.items()}
            for batch in self.stream(text).batches
            for row in batch.to_pylist()
        ]

    def statements(self, text: str) -> list[str]:
        """Return the statements in a text that may hold several.

        Raises:
            QueryError: It is not SQL.
        """
        self._start()
        found = self._wait(lambda: statements_of(self.connection, text))
        return [statement.query for statement in found]

    def interrupt(self) -> None:
        """End the statement that another thread waits for, which gets a `QueryError`."""
        self.connection.interrupt()

    def close(self) -> None:
        if self.is_stuck:
            # The process must end without waiting for that thread (`dgrec.cli` sees to it).
            self._worker.shutdown(wait=False)
            self._spill.cleanup()
            return
        self.connection.interrupt()  # a result may have been left half read
        self._worker.shutdown()
        self.connection.close()
        self._spill.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        # DuckDB does one thing at a time: a result left half read ends here.
        left = self._reader
        if left is not None:
            self._reader = None
            self._wait(left.close)
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout

    def _used(self, text: str, parameters: Mapping[str, Any], all_used: bool) -> dict[str, Any]:
        wanted = one_statement(self.connection, text).named_parameters
        missing = sorted(wanted - parameters.keys())
        if missing and missing[0].isdecimal():
            raise QueryError("a value has to have a name: $NAME, given by --param NAME=VALUE")
        if missing:
            raise QueryError(f"no value for ${missing[0]}: give it with --param {missing[0]}=VALUE")
        spare = sorted(parameters.keys() - wanted)
        if spare and all_used:
            raise QueryError(f"--param {spare[0]}: the SQL has no ${spare[0]}")
        return {name: parameters[name] for name in wanted}

    def _result(self, text: str, parameters: Mapping[str, Any]) -> QueryResult:
        reader, first = self._run(text, parameters)
        if reader is None:
            if self._unsafe:
                return QueryResult(pa.schema([]), iter(()))
            raise QueryError("the statement gives no rows; only reading statements can be run")
        return QueryResult(reader.schema, self._batches(reader, first))

    def _run(
        self, text: str, parameters: Mapping[str, Any]
    ) -> tuple[pa.RecordBatchReader | None, pa.RecordBatch | None]:
        if damaged := self._ask_readable(text, lambda: self._damaged(text, parameters)):
            self._leave_out(damaged)
            self._connect_anew()
        return self._ask_readable(text, lambda: self._begin(text, parameters))

    def _begin(
        self, text: str, parameters: Mapping[str, Any]
    ) -> tuple[pa.RecordBatchReader | None, pa.RecordBatch | None]:
        """Run a statement up to its first rows: most of what can fail has failed by then."""
        self._reader = reader = self._open(text, parameters)
        return reader, None if reader is None else next(reader, None)

    def _open(self, text: str, parameters: Mapping[str, Any]) -> pa.RecordBatchReader | None:
        relation = self.connection.sql(text, params=parameters or None)
        if relation is None:
            return None
        names = _unique(relation.columns)
        plain = [_is_plain(type_) for type_ in relation.types]
        if not all(plain) or names != relation.columns:
            statement = _as_text(without_end(self.connection, text), names, plain)
            relation = self.connection.sql(statement, params=parameters or None)
        return relation.to_arrow_reader(_BATCH_ROWS)

    def _leave_out_unreadable(self, error: QueryError) -> None:
        """Go on without the sessions whose rows cannot be read.

        Checksums can be forged, and reading every file in advance would take too long.

        Raises:
            SessionError: No other session is left, or none may be left out.
            QueryError: The error, if all sessions can be read.
        """
        bad = dict(unreadable(self._sessions))
        if not bad:
            raise error
        self._leave_out(bad)

    def _damaged(self, text: str, parameters: Mapping[str, Any]) -> dict[Session, SessionError]:
        """Return the sessions that are damaged where a statement reads, and how."""
        return dict(damaged_sessions(self.connection, self._sessions, text, parameters))

    def _leave_out(self, bad: Mapping[Session, DgrecError]) -> None:
        """Go on without some sessions, and say why; the caller has to connect anew."""
        left = [session for session in self._sessions if session not in bad]
        if not left or self._left_out is None:
            raise next(iter(bad.values())) from None
        for reason in bad.values():
            self._left_out(f"{reason}; left out")
        self._sessions = left

    def _connect_anew(self) -> None:
        self._start()
        self.connection.close()
        self.connection = self._connected()

    def _batches(
        self, reader: pa.RecordBatchReader, first: pa.RecordBatch | None
    ) -> Iterator[pa.RecordBatch]:
        batch = first
        try:
            while batch is not None:
                yield batch
                batch = self._wait(lambda: next(reader, None))
        except _FileError as error:
            # Rows have been given already: they cannot be taken back.
            for _, reason in unreadable(self._sessions):
                raise reason from None
            raise error from None
        finally:
            is_latest = self._reader is reader
            if is_latest and not self.is_stuck:
                self._reader = None
                reader.close()

    def _ask_readable(self, text: str, work: Callable[[], _T]) -> _T:
        """Wait for DuckDB's work on a statement, without sessions that cannot be read.

        The library entries that it names are created first, which may open the sessions' files.
        """
        while True:
            try:
                return self._wait(lambda: self._with_library(text, work))
            except _FileError as error:
                self._leave_out_unreadable(error)
                self._connect_anew()

    def _with_library(self, text: str, work: Callable[[], _T]) -> _T:
        self._library.provide(text)
        try:
            return work()
        except (duckdb.CatalogException, QueryError):
            # The name that DuckDB suggests instead may be any in the library.
            if not self._library.provide_all():
                raise
        return work()

    def _wait(self, work: Callable[[], _T]) -> _T:
        if self.is_stuck:
            raise QueryError("an earlier statement cannot be stopped")
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        future = self._worker.submit(work)
        try:
            return future.result(left)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C, or a signal that ends the process
            self._stop(future)
            raise
        except TimeoutError:
            self._stop(future)
            raise QueryError(
                f"stopped after {self._timeout:g} s; --timeout 30m would give it more"
            ) from None
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # Arrow reports an error of DuckDB while it computes as an OSError.
            found = views.query_error(error)
            is_file = views.is_about_files(error) or self._is_file_gone(error)
            raise _FileError(str(found)) if is_file else found from None
        except QueryError as error:  # of the check
            raise _FileError(str(error)) if self._is_file_gone(error) else error from None
        except MemoryError:
            raise QueryError("out of memory; --memory-limit allows more") from None

    def _is_file_gone(self, error: Exception) -> bool:
        # DuckDB looks for a folder of that name instead, and may not. Other errors are the
        # statement's, also where a journal has been sealed, which is still read.
        if "Permission Error: " not in str(error):
            return False
        files = (file for session in self._sessions for file in session.parts or (session,))
        return any(not file.place.exists() for file in files)

    def _stop(self, future: Future[Any]) -> None:
        until_s = time.monotonic() + _PATIENCE_S
        try:
            while not future.done() and time.monotonic() < until_s:
                # Repeatedly: between two statements there is nothing to interrupt.
                self.connection.interrupt()
                wait([future], _INTERRUPT_S)
        finally:  # a second Ctrl-C may end the wait
            # DuckDB notices between rows; a function that computes one value for minutes does not.
            self.is_stuck = not future.done()


def _spill_limit(folder: Path) -> int:
    return min(_MOST_SPILLED, shutil.disk_usage(folder).free // 2)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


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

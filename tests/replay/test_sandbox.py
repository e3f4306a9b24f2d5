"""A query reads the sessions it was given and does nothing else, in bounded memory and time."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import Result

import dgrec as dgrec_package
from dgrec import sample
from dgrec.errors import QueryError, SessionError
from dgrec.replay.limits import bounded_memory
from dgrec.replay.query import SqlReader, check_only_reads, where
from dgrec.replay.query.landlock import refuse_writing
from dgrec.replay.query.statement import _REFUSED_FUNCTIONS, _TABLE_FUNCTIONS
from tests.factory import make_rows, write_session
from tests.replay.conftest import ROOT
from tests.replay.hostile import STATEMENTS, files_in
from tests.waiting import PATIENCE_S, wait_until

Run = Callable[..., Result]
BY_CHECK, BY_SETTINGS, BY_LIMITS = STATEMENTS.values()
MEMORY = 300_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the session that is given, and others that are not."""
    folder = tmp_path_factory.mktemp("sandbox")
    for name in ("given.parquet", "other.parquet"):
        shutil.copy(sample.SESSION, folder / name)
    (folder / "x.duckdb").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def readers(folder: Path) -> Iterator[Callable[[], SqlReader]]:
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(dgrec_package.open(folder / "given.parquet"))
        made: list[SqlReader] = []

        def ready() -> SqlReader:
            # Where other programs want the processor, a statement may not end in time: what
            # follows is refused by that reader, and is no test of anything.
            if not made or made[-1].is_stuck:
                reader = SqlReader([session], f"{MEMORY}B", timeout=PATIENCE_S)
                made.append(stack.enter_context(reader))
            return made[-1]

        yield ready


@pytest.fixture
def reader(readers: Callable[[], SqlReader]) -> SqlReader:
    return readers()


@contextlib.contextmanager
def in_a_hurry(reader: SqlReader) -> Iterator[None]:
    """Give statements 0.4 s: on a busy machine, others need more than those that never end."""
    reader._timeout = 0.4
    try:
        yield
    finally:
        reader._timeout = PATIENCE_S


def filled(statement: str, folder: Path) -> str:
    return statement.replace("{session}", str(folder / "given.parquet")).replace(
        "{target}", str(folder / "written")
    )


def refused(reader: SqlReader, statement: str, folder: Path, *, hurry: bool = False) -> str:
    """Return why a statement failed, having seen that it left nothing behind."""
    before = files_in(folder)
    haste = in_a_hurry(reader) if hurry else contextlib.nullcontext()
    with pytest.raises(QueryError) as caught, bounded_memory(MEMORY), haste:
        for _ in reader.answer(statement).batches:
            pass
    assert files_in(folder) == before
    line = str(caught.value)
    assert line
    assert "\n" not in line
    assert len(line) < 400
    # It is still of use for the next.
    # (On a busy machine one that takes gigabytes goes on: `readers` makes another one.)
    if not reader.is_stuck:
        assert reader.rows("SELECT count(*) AS n FROM frames") == [{"n": 420}]
    return line


def test_there_are_enough_of_them() -> None:
    statements = [*BY_CHECK, *BY_SETTINGS, *BY_LIMITS]
    assert len(statements) == len(set(statements)) > 120


@pytest.mark.parametrize("statement", BY_CHECK)
def test_the_check_refuses(
    reader: SqlReader, folder: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    refused(reader, filled(statement, folder), folder)


@pytest.mark.slow
@pytest.mark.parametrize("statement", BY_CHECK)
def test_the_check_needs_no_settings(folder: Path, statement: str) -> None:
    """None of these is left to what DuckDB shuts off."""
    with duckdb.connect() as open_to_all:
        open_to_all.execute("CREATE VIEW frames AS SELECT 1 AS frame, [{'label': 'a'}] AS found")
        open_to_all.execute("CREATE VIEW detections AS SELECT 'a' AS label")
        before = files_in(folder)
        with pytest.raises(QueryError):
            check_only_reads(open_to_all, filled(statement, folder))
        assert files_in(folder) == before


@pytest.mark.parametrize("statement", BY_SETTINGS)
def test_settings_shut_off_files_and_python(
    reader: SqlReader, folder: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    table_of_python = [1]  # which DuckDB would find, could it look for variables
    line = refused(reader, filled(statement, folder), folder)
    assert "disabled by configuration" in line or "does not exist" in line
    assert table_of_python


@pytest.mark.slow
@pytest.mark.parametrize("statement", BY_LIMITS)
def test_memory_and_time_are_bounded(reader: SqlReader, folder: Path, statement: str) -> None:
    line = refused(reader, statement, folder, hurry=True)
    assert any(
        text in line.lower()
        for text in ("stopped after 0.4 s", "out of memory", "maximum supported", "larger than")
    ) or line.startswith(("Out of Range Error", "Invalid Input Error"))


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO '{session}' (USE_TMP_FILE false)",
        "COPY frames TO '{target}'",
        "COPY frames TO '{session}'",
    ],
)
def test_the_kernel_refuses_writing_to_what_gets_past_the_check(
    reader: SqlReader, folder: Path, statement: str
) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        if not thread.submit(refuse_writing, folder).result():
            pytest.skip("this kernel has no Landlock")
    before = files_in(folder)
    with pytest.raises(QueryError, match=r"Permission denied|disabled by configuration"):
        reader.stream(filled(statement, folder))
    assert files_in(folder) == before


def test_only_the_thread_that_gave_it_up_is_kept_from_writing(tmp_path: Path) -> None:
    (tmp_path / "spill").mkdir()

    def write(path: Path) -> bool:
        try:
            path.write_text("x")
        except PermissionError:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        if not thread.submit(refuse_writing, tmp_path / "spill").result():
            pytest.skip("this kernel has no Landlock")
        assert not thread.submit(write, tmp_path / "a").result()
        assert not thread.submit(write, Path(__file__)).result()
        assert thread.submit(write, tmp_path / "spill" / "a").result()
        assert thread.submit(Path(__file__).read_text).result()
    assert write(tmp_path / "a")


@pytest.mark.slow
def test_what_is_computed_beyond_memory_goes_to_the_disk_and_is_removed(folder: Path) -> None:
    with dgrec_package.open(folder / "given.parquet") as session:
        with SqlReader([session], "60MB") as reader:
            query = "SELECT range AS i, repeat('x', 40) AS t FROM range(1500000) ORDER BY hash(i)"
            assert sum(b.num_rows for b in reader.answer(query).batches) == 1_500_000
            spill = reader._spill.path
        assert not spill.exists()


def test_the_settings_are_what_they_are_meant_to_be(reader: SqlReader) -> None:
    for name, value in (
        ("allow_community_extensions", False),
        ("allow_persistent_secrets", False),
        ("enable_external_access", False),
        ("lock_configuration", True),
    ):
        assert reader.rows(f"SELECT current_setting('{name}') AS value") == [{"value": value}]
    (row,) = reader.rows("SELECT current_setting('max_temp_directory_size') AS size")
    assert float(row["size"].split()[0]) > 0, "DuckDB's own limit is a part of the disk"
    for name, value in (("threads", "1"), ("memory_limit", "'90GB'"), ("TimeZone", "'UTC'")):
        with pytest.raises(duckdb.Error, match="locked"):
            reader.connection.execute(f"SET {name} = {value}")


def test_memory_is_bounded_only_meanwhile() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounded_memory(10**9):
        outer = resource.getrlimit(resource.RLIMIT_DATA)
        assert outer != before
        with bounded_memory(10**12):  # never more than there was
            assert resource.getrlimit(resource.RLIMIT_DATA) == outer
        assert resource.getrlimit(resource.RLIMIT_DATA) == outer
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


_ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"


@pytest.mark.slow
def test_leaving_does_not_wait_for_what_is_half_read(folder: Path) -> None:
    with (
        dgrec_package.open(folder / "given.parquet") as session,
        SqlReader([session], timeout=PATIENCE_S) as reader,
    ):
        with pytest.raises(QueryError, match=r"stopped after 0\.4 s"), in_a_hurry(reader):
            list(reader.answer(_ENDLESS).batches)
        assert not reader.is_stuck
        assert reader.rows("SELECT 1 AS n") == [{"n": 1}]


class HardOfHearing:
    """The first interrupt comes between two statements: it ends neither."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._interrupts = 0

    def interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            self._connection.interrupt()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.slow
def test_a_statement_is_interrupted_until_it_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgrec.replay.query.reader._PATIENCE_S", PATIENCE_S)
    with (
        dgrec_package.open(folder / "given.parquet") as session,
        SqlReader([session], timeout=0.2) as reader,
    ):
        monkeypatch.setattr(reader, "connection", HardOfHearing(reader.connection))
        with pytest.raises(QueryError, match=r"stopped after 0\.2 s"):
            list(reader.answer(_ENDLESS).batches)
        assert not reader.is_stuck


def test_a_second_ctrl_c_waits_for_no_statement(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        dgrec_package.open(folder / "given.parquet") as session,
        SqlReader([session], timeout=0.2) as reader,
    ):
        connection = HardOfHearing(reader.connection)
        monkeypatch.setattr(reader, "connection", connection)
        monkeypatch.setattr("dgrec.replay.query.reader.wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.rows(_ENDLESS)
        assert reader.is_stuck
        # Its thread must not go on.
        has_ended = reader._worker.submit(int)
        wait_until(lambda: connection.interrupt() or has_ended.done())


@pytest.mark.slow
def test_a_wrong_statement_is_one_also_while_its_journal_is_sealed(tmp_path: Path) -> None:
    with dgrec_package.Recorder(tmp_path / "s.parquet") as recorder:
        recorder.add([])
        journal = tmp_path / "s.arrows"

        def rows() -> int:
            with dgrec_package.open(journal) as session:
                return len(session)

        wait_until(lambda: journal.exists() and rows() == 1)
        with dgrec_package.open(journal) as session, SqlReader([session]) as reader:
            assert reader.rows("SELECT count(*) AS n FROM frames") == [{"n": 1}]
            recorder.close()
            for wrong in ("SELECT nothing FROM frames", "FROM stal"):
                with pytest.raises(QueryError, match=r"nothing|stal"):
                    reader.answer(wrong)
            assert reader.rows("SELECT count(*) AS n FROM frames") == [{"n": 1}]


def test_a_file_that_goes_away_is_one_line(tmp_path: Path) -> None:
    given = tmp_path / "given.parquet"
    shutil.copy(sample.SESSION, given)
    with dgrec_package.open(given) as session:
        given.unlink()
        with pytest.raises(SessionError, match=r"given\.parquet: no longer exists"):
            SqlReader([session])


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement", ["SELECT count(*) FROM frames", "FROM warm_up", "SHOW TABLES"]
)
@pytest.mark.parametrize("is_checked", [True, False])
@pytest.mark.parametrize("is_cut", [True, False])
def test_a_file_that_goes_away_later_is_left_out(
    tmp_path: Path, statement: str, is_checked: bool, is_cut: bool
) -> None:
    given, other = tmp_path / "given.parquet", tmp_path / "other.parquet"
    shutil.copy(sample.SESSION, given)
    write_session(other, make_rows(3))
    left_out: list[str] = []
    with (
        dgrec_package.open(given) as session,
        dgrec_package.open(other) as another,
        SqlReader([session, another], left_out=left_out.append) as reader,
    ):
        if is_cut:
            os.truncate(given, 100)
        else:
            given.unlink()
        result = (reader.answer if is_checked else reader.stream)(statement)
        assert [row for batch in result.batches for row in batch.to_pylist()]
        (line,) = left_out
        assert line.startswith(f"{given}: {'damaged: ' if is_cut else 'no longer exists'}")
        assert reader.rows("SELECT count(*) AS n FROM frames") == [{"n": 3}]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'COPY x TO y; read_text(''/etc/passwd'')' AS copy",
        "WITH read_csv AS (SELECT 1 AS query) SELECT query FROM read_csv",
        "FROM range(3) t(i), generate_series(1, 2), unnest([1, 2])",
        "PIVOT detections ON label USING count(*)",
        "SELECT * FROM (PIVOT detections ON label IN ('face') USING count(*))",
        "SELECT table_name FROM information_schema.tables",
        "SELECT frame FROM frames TABLESAMPLE 10 ROWS",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 9) FROM r",
        "FROM histogram_values(frames, latency_ms)",
        "SELECT uuid(), random(), now(), version()",
        "SELECT key FROM sessions, json_each(metadata)",
    ],
)
def test_what_only_reads_is_not_refused(reader: SqlReader, statement: str) -> None:
    assert sum(batch.num_rows for batch in reader.answer(statement).batches)


def test_macros_of_the_connection_can_be_called() -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE MACRO rows_of(n) AS TABLE FROM range(n)")
        check_only_reads(connection, "FROM rows_of(3)")


def test_no_macro_of_duckdb_calls_what_is_refused() -> None:
    with duckdb.connect() as connection:
        macros = connection.execute(
            "SELECT lower(function_name), macro_definition FROM duckdb_functions() "
            "WHERE internal AND macro_definition IS NOT NULL"
        ).fetchall()
    assert len(macros) > 50
    calls = {
        name for name, body in macros if any(f"{f}(" in body.lower() for f in _REFUSED_FUNCTIONS)
    }
    assert calls <= _REFUSED_FUNCTIONS


@pytest.mark.parametrize("kind", sorted(duckdb.StatementType.__members__))
def test_every_type_of_statement_was_looked_at(reader: SqlReader, folder: Path, kind: str) -> None:
    """None of these writes; a type that is not here is one that a later DuckDB brought."""
    examples = {
        "ALTER": ("ALTER VIEW frames RENAME TO f", "COMMENT ON VIEW frames IS 'x'"),
        "ANALYZE": ("ANALYZE",),
        "ATTACH": ("ATTACH '{target}'",),
        "CALL": ("CALL range(3)", "CHECKPOINT"),
        "COPY": ("COPY frames TO '{target}'", "COPY (SELECT 1) TO '{target}'"),
        "COPY_DATABASE": ("COPY FROM DATABASE memory TO x",),
        "CREATE": ("CREATE TABLE t AS SELECT 1", "CREATE SECRET (TYPE s3)", "CREATE SCHEMA s"),
        "CREATE_FUNC": ("CREATE MACRO f(x) AS x", "CREATE MACRO f(x) AS TABLE SELECT x"),
        "DELETE": ("DELETE FROM frames", "TRUNCATE frames"),
        "DETACH": ("DETACH memory",),
        "DROP": ("DROP VIEW frames", "DEALLOCATE x"),
        "EXECUTE": ("EXECUTE x", "EXECUTE x(1)"),
        "EXPLAIN": ("EXPLAIN ANALYZE COPY frames TO '{target}'",),
        "EXPORT": ("EXPORT DATABASE '{target}'",),
        "EXTENSION": ("UPDATE EXTENSIONS", "UPDATE EXTENSIONS (httpfs)"),
        "INSERT": ("INSERT INTO frames VALUES (1)", "INSERT OR REPLACE INTO frames SELECT 1"),
        "INVALID": ("SELEC 1", "\0"),
        "LOAD": ("INSTALL httpfs", "LOAD httpfs", "FORCE INSTALL httpfs FROM community"),
        "LOGICAL_PLAN": ("",),
        "MERGE_INTO": ("MERGE INTO frames USING frames f ON true WHEN MATCHED THEN DELETE",),
        "MULTI": ("PIVOT (FROM read_text('/etc/passwd')) ON content", "IMPORT DATABASE 'x'"),
        "PRAGMA": ("PRAGMA version", "PRAGMA enable_profiling", "PRAGMA database_list"),
        "PREPARE": ("PREPARE x AS SELECT 1",),
        "RELATION": ("FROM no_such_relation",),
        "SELECT": ("SELECT 1; SELECT 2",),
        "SET": ("SET threads = 1", "RESET threads", "USE x", "SET GLOBAL memory_limit = '9GB'"),
        "TRANSACTION": ("BEGIN", "COMMIT", "ROLLBACK", "ABORT"),
        "UPDATE": ("UPDATE frames SET frame = 1",),
        "VACUUM": ("VACUUM", "VACUUM frames"),
        "VARIABLE_SET": ("SET VARIABLE x = 1", "RESET VARIABLE x"),
    }
    for statement in examples[kind]:
        refused(reader, filled(statement, folder), folder)


def test_every_function_of_this_duckdb_was_looked_at() -> None:
    """A new one may read, write or run something: decide on it, then add it here."""
    with duckdb.connect() as connection:
        volatile = connection.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
            "WHERE (has_side_effects OR stability = 'VOLATILE') AND function_type = 'scalar'"
        ).fetchall()
        tables = connection.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
            "WHERE function_type LIKE 'table%'"
        ).fetchall()
    harmless = {"uuid", "uuidv4", "uuidv7", "gen_random_uuid", "random", "setseed", "error"}
    harmless |= {"stats", "vector_type", "current_query", "current_query_id"}
    harmless |= {"current_connection_id", "current_transaction_id"}
    assert {name for (name,) in volatile} - _REFUSED_FUNCTIONS == harmless
    assert {name for (name,) in tables} >= _TABLE_FUNCTIONS


# --- the conditions of replay and clip are the same sandbox --------------------------------------


def ask(session: dgrec_package.Session, option: str, condition: str) -> None:
    if option == "--where":
        where.matching_frames(session, condition, 0, 420)
        return
    with contextlib.closing(where.DetectionFilter(session, condition)) as chosen:
        chosen.kept(0)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--detections-where", "--where"])
@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("getenv('HOME') = ''", "refused"),
        ("json_serialize_plan('SELECT getenv(''HOME'')', optimize := true) IS NULL", "refused"),
        ("EXISTS (FROM read_text('/etc/passwd'))", "refused"),
        ("EXISTS (FROM '/etc/passwd.csv')", "disabled by configuration"),
        ("len(range(4000000000 + frame)) > 0", "emory"),
        ("1 < (SELECT count(*) FROM range(100000000) a, range(100000000) b)", "stopped after"),
        ("levenshtein(repeat('a', 800000), repeat('b', 800000 + frame)) > 0", "stopped after"),
    ],
)
def test_conditions_have_its_limits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, option: str, condition: str, reason: str
) -> None:
    if reason == "stopped after":
        monkeypatch.setattr(where, "TIMEOUT_S", 0.4)
    with (
        dgrec_package.open(folder / "given.parquet") as session,
        pytest.raises(QueryError) as caught,
    ):
        ask(session, option, condition)
    line = str(caught.value)
    assert line.startswith(f"{option} ")
    assert reason in line
    assert "--timeout" not in line
    assert "--memory-limit" not in line


# --- through the command -----------------------------------------------------------------------


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dgrec", "query", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE EXTENSIONS", "refused"),
        ("FROM '/etc/passwd.csv'", "disabled by configuration"),
        ("WITH c AS (COPY frames TO '{target}') FROM c", "COPY is refused"),
        ("SELECT len(range(4000000000))", "emory"),
        # It computes one value for many minutes and cannot be interrupted.
        ("SELECT levenshtein(repeat('a', 800000), repeat('b', 800000))", "stopped after 0.5 s"),
    ],
)
def test_the_command_refuses_in_one_line(folder: Path, statement: str, reason: str) -> None:
    before = files_in(folder)
    options = ("--timeout", "0.5s") if "levenshtein" in statement else ()
    done = run(folder / "given.parquet", filled(statement, folder), *options)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert reason in line
    assert files_in(folder) == before


@pytest.mark.slow
def test_unsafe_lifts_it(dgrec: Run, folder: Path, tmp_path: Path) -> None:
    given = folder / "given.parquet"
    copy = f"COPY (SELECT 7 AS n) TO '{tmp_path / 'out.csv'}'"
    assert dgrec("query", given, copy).exit_code == 1
    done = dgrec("query", given, copy, "--unsafe", "--format", "csv")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.csv").read_text() == "n\n7\n"
    read = f"SELECT n FROM '{tmp_path / 'out.csv'}'"
    assert dgrec("query", given, read).exit_code == 1
    assert dgrec("query", given, read, "--unsafe", "--format", "csv").stdout == "n\n7\n"


@pytest.mark.slow
def test_limits_can_be_set(dgrec: Run, folder: Path) -> None:
    given = folder / "given.parquet"
    query = "SELECT len(list(i)) AS n FROM range(20000000) t(i)"
    small = dgrec("query", given, query, "--memory-limit", "100MB")
    assert small.exit_code == 1
    assert "--memory-limit" in small.stderr
    assert dgrec("query", given, query, "--memory-limit", "1GB").exit_code == 0
    slow = "SELECT count(*) FROM range(100000) a, range(100000) b, range(100) c"
    done = dgrec("query", given, slow, "--timeout", "0.3s")
    assert done.exit_code == 1
    assert "stopped after 0.3 s" in done.stderr
    assert dgrec("query", given, "SELECT 1", "--timeout", "five").exit_code == 2
    assert dgrec("query", given, "SELECT 1", "--memory-limit", "much").exit_code == 2


#: Spills, and takes minutes.
_LONG = "SELECT range AS i, repeat('x', 200) AS t FROM range(1000000000) ORDER BY hash(i)"


@contextlib.contextmanager
def in_the_background(folder: Path, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """A query that a script has started with ``&``: SIGINT is ignored."""
    shell = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")
    limits = ("--memory-limit", "60MB", "--format", "csv")
    query = ("-m", "dgrec", "query", str(folder / "given.parquet"), _LONG, *limits)
    started = subprocess.Popen(
        [*shell, sys.executable, *query],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: any(temporary.rglob("*.tmp")) or started.poll() is not None)
        yield started
    finally:
        started.kill()
        started.wait()
        assert started.stderr is not None
        started.stderr.close()


@pytest.mark.slow
def test_a_query_in_the_background_ends_in_order(folder: Path, tmp_path: Path) -> None:
    with in_the_background(folder, tmp_path) as query:
        # What a shell ignores for its background, Ctrl-C at the terminal does not end.
        status = Path(f"/proc/{query.pid}/status").read_text("ascii")
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        for number in (signal.SIGINT, signal.SIGHUP):
            assert ignored >> (number - 1) & 1
        query.send_signal(signal.SIGTERM)
        assert query.wait(60) == 128 + signal.SIGTERM
        assert query.stderr is not None
        assert query.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []

"""`dgrec query`: what comes out in every format, what is refused, and how it behaves as a tool."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

import dgrec as dgrec_package
from dgrec.errors import QueryError
from dgrec.format import JournalWriter, utc_text
from dgrec.replay.query import SqlReader, check_only_reads
from dgrec.sql import library
from tests.factory import make_row, make_rows, new_metadata, write_journal, write_session
from tests.replay.conftest import ROOT, uneven_rows
from tests.waiting import PATIENCE_S

Run = Callable[..., Result]
ROWS = uneven_rows(40)


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def refusal(result: Result, code: int = 1) -> str:
    """Return the one line that a failed command prints."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


# --- formats -----------------------------------------------------------------------------------

VALUES = """
    SELECT 1 AS n, 2 AS n, 'NaN'::DOUBLE AS nan, [1.5, 'inf'::DOUBLE] AS list, NULL AS nothing,
    '' AS empty, true AS yes, 'a,"b' AS quotes, sum(dropped_queue) AS total, MAP {1: 'x'} AS map,
    '\\x00\\xFF'::BLOB AS bytes, DATE '2026-01-02' AS day, INTERVAL 90 MINUTE AS span,
    TIMESTAMPTZ '2026-01-02 03:04:05.5+01' AS stamp, {'t': TIMESTAMPTZ '2026-01-02 00:00:00+00'}
    AS nested, 0.1::DOUBLE + 0.2::DOUBLE AS digits, 1.25::DECIMAL(5,2) AS decimal,
    TIMESTAMP_NS '2026-01-02 03:04:05.123456789' AS nanoseconds FROM frames
"""
QUEUE_DROPS = sum(row.dropped_queue for row in ROWS)


def test_json_has_every_type_in_its_own_form(dgrec: Run, session: Path) -> None:
    (row,) = json.loads(ok(dgrec("query", session, VALUES, "--format", "json")))
    assert row == {
        "n": 1,
        "n_1": 2,
        "nan": None,
        "list": [1.5, None],
        "nothing": None,
        "empty": "",
        "yes": True,
        "quotes": 'a,"b',
        "total": QUEUE_DROPS,
        "map": {"1": "x"},
        "bytes": "AP8=",
        "day": "2026-01-02",
        "span": "01:30:00",
        "stamp": "2026-01-02T02:04:05.500000Z",
        "nested": {"t": "2026-01-02T00:00:00.000000Z"},
        "digits": 0.1 + 0.2,
        "decimal": 1.25,
        "nanoseconds": "2026-01-02 03:04:05.123456789",
    }
    assert isinstance(row["total"], int)


def test_csv_tells_null_from_an_empty_text(dgrec: Run, session: Path) -> None:
    text = ok(dgrec("query", session, VALUES, "--format", "csv"))
    header, line = text.splitlines()
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["quotes"] == 'a,"b'
    assert row["list"] == "[1.5, null]"
    assert row["nan"] == "nan"
    assert row["digits"] == "0.30000000000000004"
    assert row["stamp"] == "2026-01-02T02:04:05.500000Z"
    cells = line.split(",")
    assert cells[header.split(",").index("empty") + 1] == '""'  # the list has a comma in it
    assert cells[header.split(",").index("nothing") + 1] == ""


def test_csv_of_one_null_is_no_empty_line(dgrec: Run, session: Path) -> None:
    text = ok(dgrec("query", session, "SELECT NULL AS x FROM range(2)", "--format", "csv"))
    assert list(csv.reader(io.StringIO(text))) == [["x"], [""], [""]]


def test_json_lines_of_all_frames_are_what_was_recorded(dgrec: Run, session: Path) -> None:
    text = ok(dgrec("query", session, "FROM frames", "--format", "jsonl"))
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["source_frame"] for row in rows] == [row.source_frame for row in ROWS]
    assert [row["captured_at"] for row in rows] == [utc_text(row.captured_ns) for row in ROWS]
    assert [row["timing"] for row in rows] == [row.timing for row in ROWS]
    assert [[d["score"] for d in row["detections"]] for row in rows] == [
        [d["score"] for d in row.results] for row in ROWS
    ]


def test_parquet_keeps_arrow_types(dgrec: Run, session: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    sql = "SELECT frame, captured_at, timing, detections FROM frames"
    assert ok(dgrec("query", session, sql, "--output", output)) == ""
    table = pq.read_table(output)
    with dgrec_package.open(session) as opened:
        expected = pa.Table.from_batches(opened.batches(table.column_names))
    assert table.to_pylist() == expected.to_pylist()
    assert table.schema.field("captured_at").type == pa.timestamp("us", "UTC")


@pytest.mark.slow
def test_parquet_goes_through_a_pipe(session: Path) -> None:
    command = [sys.executable, "-m", "dgrec", "query", str(session)]
    command += ["FROM frames", "--format", "parquet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stderr == b""
    assert pq.read_table(io.BytesIO(done.stdout)).num_rows == len(ROWS)


def test_markdown(dgrec: Run, session: Path) -> None:
    text = ok(dgrec("query", session, r"SELECT 1.5 AS n, E'a|b\nc' AS t", "--format", "markdown"))
    assert text == "| n | t |\n| ---: | --- |\n| 1.5 | a\\|b<br>c |\n"


def test_table_is_aligned_and_takes_wide_characters(dgrec: Run, session: Path) -> None:
    sql = "SELECT * FROM (VALUES (1, '人'), (100, 'xyz'), (NULL, '')) AS v(n, t)"
    assert ok(dgrec("query", session, sql)) == ("   n  t\n────  ───\n   1  人\n 100  xyz\nNULL\n")


@pytest.mark.slow
def test_a_label_cannot_steer_the_terminal(dgrec: Run, session: Path) -> None:
    for form in ("table", "markdown"):
        text = ok(dgrec("query", session, r"SELECT E'\x1b[31mred' AS t", "--format", form))
        assert "\x1b" not in text
        assert r"\x1b[31mred" in text.replace(r"\[", "[")


def test_a_number_that_is_added_to_a_name_is_free(dgrec: Run, session: Path) -> None:
    text = ok(dgrec("query", session, "SELECT 1 AS n, 2 AS n, 3 AS n_1, 4 AS n", "--format", "csv"))
    assert text.splitlines()[0] == "n,n_2,n_1,n_3"


@pytest.mark.slow
def test_a_semicolon_in_a_comment_or_a_text_ends_nothing(dgrec: Run, session: Path) -> None:
    for sql in (
        "SELECT ';' AS a -- ; ;",
        "SELECT 1 /* ; */ AS a ; ;",
        "SELECT INTERVAL 1 DAY AS a;",
    ):
        ok(dgrec("query", session, sql))


@pytest.mark.slow
def test_no_rows(dgrec: Run, session: Path) -> None:
    sql = "SELECT frame FROM frames WHERE false"
    assert ok(dgrec("query", session, sql)) == "frame\n─────\n(no rows)\n"
    assert json.loads(ok(dgrec("query", session, sql, "--format", "json"))) == []
    assert ok(dgrec("query", session, sql, "--format", "csv")) == "frame\n"


@pytest.mark.slow
def test_a_long_table_is_cut_and_says_so(dgrec: Run, session: Path) -> None:
    sql = "SELECT range AS i FROM range(2500)"
    lines = ok(dgrec("query", session, sql)).splitlines()
    assert lines[-1].startswith("… 1,500 more rows")
    assert lines[-2].strip() == "999"
    lines = ok(dgrec("query", session, sql, "--limit", "0")).splitlines()
    numbers = [int(line) for line in lines if line.strip().isdigit()]
    assert numbers == list(range(2500))


@pytest.mark.slow
def test_limit_of_a_machine_format_is_said_on_stderr(dgrec: Run, session: Path) -> None:
    result = dgrec("query", session, "FROM range(5)", "--limit", "2", "--format", "csv")
    assert result.stdout == "range\n0\n1\n"
    assert "3 more rows" in result.stderr
    assert ok(dgrec("query", session, "FROM range(5)", "--limit", "5", "--format", "csv"))


def test_a_limit_of_more_rows_than_anything_has(dgrec: Run, session: Path) -> None:
    result = ok(dgrec("query", session, "FROM range(3)", "--limit", "9" * 30, "--format", "csv"))
    assert result == "range\n0\n1\n2\n"


@pytest.mark.parametrize(
    ("suffix", "start"),
    [("csv", "n\n"), ("json", "[\n"), ("jsonl", '{"n"'), ("md", "| n |"), ("txt", "n\n─")],
)
def test_the_suffix_of_the_output_chooses_the_format(
    dgrec: Run, session: Path, tmp_path: Path, suffix: str, start: str
) -> None:
    output = tmp_path / f"out.{suffix}"
    ok(dgrec("query", session, "SELECT 1 AS n", "--output", output))
    assert output.read_text(encoding="utf-8").startswith(start)


# --- SQL ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sql_from_a_file_and_from_stdin(dgrec: Run, session: Path, tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    file.write_text("-- how many; really\nSELECT count(*) AS n FROM frames; -- done; yes\n")
    expected = '{"n": 40}\n'
    assert ok(dgrec("query", session, "--file", file, "--format", "jsonl")) == expected
    text = file.read_text()
    assert ok(dgrec("query", session, "-f", "-", "--format", "jsonl", input=text)) == expected
    for empty in ("", "-- nothing\n"):
        result = dgrec("query", session, input=empty)
        assert result.exit_code == 1
        assert "no statement on standard input" in result.stderr


@pytest.mark.slow
def test_what_could_be_meant_by_a_missing_table(dgrec: Run, session: Path) -> None:
    result = dgrec("query", session, "SELECT * FROM xyzzy")  # which DuckDB takes for none of ours
    assert result.exit_code == 1
    assert "name xyzzy does not exist! There are frames, detections, sessions" in result.stderr
    assert 'Did you mean "frames"?' in dgrec("query", session, "FROM frame").stderr
    assert 'Did you mean "label_rate"?' in dgrec("query", session, "FROM label_rat").stderr


@pytest.mark.slow
def test_videos_of_the_session_are_not_written_over(dgrec: Run, tmp_path: Path) -> None:
    video = tmp_path / "s.mp4"
    video.write_bytes(b"footage")
    metadata = new_metadata()
    metadata["video"] = [{"file": video.name, "kind": "raw"}]
    path = write_session(tmp_path / "s.parquet", make_rows(3), metadata=metadata)
    for command in (
        ("query", path, "SELECT 1"),
        ("stats", path),
        ("compare", path, path),
        ("info", path),
        ("whatif", path, "--threshold", "0.9"),
        ("alerts", path, "--alert", "slow=latency_p95_ms > 200 for 10s"),
    ):
        result = dgrec(*command, "--output", video, "--overwrite", "--format", "json")
        assert result.exit_code == 1
        assert f"{video}: is the session itself, or its video; choose another name" in result.stderr
    assert video.read_bytes() == b"footage"


def test_folder_where_one_session_is_wanted(dgrec: Run, session: Path) -> None:
    result = dgrec("whatif", session.parent, "--threshold", "0.9")
    assert result.exit_code == 1
    assert "is a folder; name one session in it" in result.stderr


@pytest.mark.parametrize(
    "sql",
    [
        "FROM frames",
        "WITH f AS (SELECT 1) FROM f",
        "VALUES (1)",
        "DESCRIBE frames",
        "SUMMARIZE detections",
        "SHOW TABLES",
        "PIVOT detections ON label USING count(*)",
        "EXPLAIN SELECT 1",
        "explain analyze SELECT count(*) FROM frames",
        "(SELECT 1);;",
        "SELECT INTERVAL 1 DAY AS \"a;b\", ';' AS c; -- trailing; comment",
    ],
)
def test_reading_statements_run(dgrec: Run, session: Path, sql: str) -> None:
    assert ok(dgrec("query", session, sql))


@pytest.mark.parametrize(
    "sql",
    [
        "COPY frames TO '{}'",
        "WITH c AS (COPY frames TO '{}') FROM c",
        "EXPLAIN ANALYZE COPY frames TO '{}'",
        "EXPLAIN (ANALYZE, FORMAT json) COPY frames TO '{}'",
        "EXPLAIN /* */ ANALYZE COPY frames TO '{}'",
        "/* */ EXPLAIN ANALYZE COPY frames TO '{}'",
        "EXPORT DATABASE '{}'",
        "ATTACH '{}' AS x",
        "SELECT 1) TO '{}' --",
        "SELECT 1; COPY frames TO '{}'",
        "CREATE TABLE t AS FROM frames",
        "SET memory_limit = '90GB'",
        "PRAGMA version",
        "",
        "/* nothing */",
        "SELECT 1; SELECT 2",
        "SELEC 1",
        "SELECT nothing FROM frames",
        "SELECT ?",
        "SELECT CASE WHEN frame > 20 THEN error('late') END FROM frames ORDER BY frame",
    ],
)
def test_what_writes_or_is_wrong_is_refused_in_one_line(
    dgrec: Run, session: Path, tmp_path: Path, sql: str
) -> None:
    target = tmp_path / "written"
    refusal(dgrec("query", session, sql.replace("{}", str(target)), "--format", "jsonl"))
    assert list(tmp_path.iterdir()) == []


def test_wrong_sql_names_what_is_wrong(dgrec: Run, session: Path) -> None:
    line = refusal(dgrec("query", session, "SELECT nothing FROM frames"))
    assert '"nothing"' in line
    assert "LINE 1" not in line


@pytest.mark.slow
def test_what_a_statement_names_of_the_library_is_there(session: Path) -> None:
    with dgrec_package.open(session) as opened:
        names = {name for (name,) in opened.sql("SHOW TABLES").fetchall()}
        for entry in library.entries():
            if entry.kind == "macro":
                continue
            call = entry.name + ("()" if entry.kind == "table macro" else "")
            with SqlReader([opened]) as reader:
                list(reader.answer(f"FROM {call}").batches)
                created = reader.connection.execute("SHOW TABLES").fetchall()
                assert {name for (name,) in created} < names, call
        with SqlReader([opened]) as reader:
            assert reader.rows("SELECT kind FROM Library WHERE name = 'stalls'")
            assert {row["name"] for row in reader.rows("SHOW TABLES")} >= names
        with SqlReader([opened]) as reader:
            assert reader.answer('FROM "STALLS"()').schema.names


@pytest.mark.slow
def test_the_check_alone_runs_nothing(session: Path) -> None:
    with dgrec_package.open(session) as opened, SqlReader([opened]) as reader:
        check_only_reads(reader.connection, "SELECT error('this ran')")
        with pytest.raises(QueryError, match="this ran"):
            reader.rows("SELECT error('this ran')")


def test_leaving_the_reader_closes_everything(session: Path) -> None:
    with dgrec_package.open(session) as opened:
        with SqlReader([opened]) as reader:
            next(reader.stream("FROM range(10000000000)").batches)
        with pytest.raises(duckdb.ConnectionException):
            reader.connection.execute("SELECT 1")


# --- sessions ----------------------------------------------------------------------------------


def test_views_agree_with_what_was_written(dgrec: Run, session: Path) -> None:
    sql = "SELECT label, count(*) AS n FROM detections GROUP BY label ORDER BY label NULLS LAST"
    rows = [json.loads(s) for s in ok(dgrec("query", session, sql, "--format=jsonl")).splitlines()]
    labels = [d.get("label") for row in ROWS for d in row.results]
    assert rows == [{"label": name, "n": labels.count(name)} for name in ("car", "person", None)]


@pytest.mark.slow
def test_a_name_with_brackets_is_that_file(dgrec: Run, tmp_path: Path) -> None:
    write_session(tmp_path / "a1.parquet", make_rows(10))
    named = write_session(tmp_path / "a[1].parquet", make_rows(3))
    query = "SELECT count(*) AS n, (SELECT frames FROM session_throughput) AS m FROM frames"
    assert json.loads(ok(dgrec("query", named, query, "--format", "json"))) == [{"n": 3, "m": 3}]


@pytest.mark.slow
def test_a_journal_being_written(dgrec: Run, tmp_path: Path) -> None:
    path = tmp_path / "live.arrows"
    writer = JournalWriter(path, new_metadata(), durability="never")
    sql = "SELECT count(*) AS n, max(frame) AS last FROM frames"
    try:
        assert json.loads(ok(dgrec("query", path, sql, "--format", "jsonl")))["n"] == 0
        writer.write(make_rows(10))
        assert json.loads(ok(dgrec("query", path, sql, "--format", "jsonl")))["n"] == 10
        writer.write([make_row(10)])
        result = json.loads(ok(dgrec("query", path, sql, "--format", "jsonl")))
        assert result == {"n": 11, "last": 10}
    finally:
        writer.close()


def test_a_torn_journal_gives_what_is_whole_and_says_what_is_not(
    dgrec: Run, tmp_path: Path
) -> None:
    path = write_journal(tmp_path / "torn.arrows", make_rows(30), end=False)
    path.write_bytes(path.read_bytes()[:-50])
    result = dgrec("query", path, "SELECT count(*) AS n FROM frames", "--format", "jsonl")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"n": 20}
    (line,) = result.stderr.splitlines()
    assert "damaged" in line


def _truncated(path: Path, session: Path) -> None:
    path.write_bytes(session.read_bytes()[:-100])


def _flipped(path: Path, session: Path) -> None:
    data = bytearray(session.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


BAD_FILES: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "missing": (lambda path, session: None, "No such file"),
    "folder": (lambda path, session: path.mkdir(), "is a folder; name one session in it"),
    "empty": (lambda path, session: path.write_bytes(b""), "not a dgrec session"),
    "text": (lambda path, session: path.write_text("hello " * 9), "not a dgrec session"),
    "parquet": (
        lambda path, session: pq.write_table(pa.table({"x": [1]}), path),
        "not a dgrec session",
    ),
    "truncated": (_truncated, "truncated or damaged"),
    "flipped": (_flipped, "damaged"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("command", ["query", "stats", "info"])
def test_a_file_that_is_no_session(
    dgrec: Run, session: Path, tmp_path: Path, command: str, kind: str
) -> None:
    path = tmp_path / "bad.parquet"
    make, expected = BAD_FILES[kind]
    make(path, session)
    sql = ["SELECT 1"] if command == "query" else []
    line = refusal(dgrec(command, path, *sql))
    assert str(path) in line
    if kind == "folder":
        expected = "is a folder without sessions"  # one with some could be asked
    assert expected in line


@pytest.mark.parametrize("command", ["query", "stats", "info"])
def test_a_session_of_a_newer_format(dgrec: Run, tmp_path: Path, command: str) -> None:
    path = tmp_path / "newer.arrows"
    write_journal(path, [], new_metadata(format={"name": "dgrec", "version": 99}))
    line = refusal(dgrec(command, path, *(["SELECT 1"] if command == "query" else [])))
    assert "99" in line
    assert "newer dgrec" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("SELECT 1", "--file", "q.sql"),
        ("SELECT 1", "--format", "xml"),
        ("SELECT 1", "--limit", "-1"),
        ("SELECT 1", "--limit", "many"),
    ],
)
def test_usage_errors(dgrec: Run, session: Path, arguments: tuple[str, ...]) -> None:
    result = dgrec("query", session, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


# --- output files ------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_existing_output_is_kept_unless_told_otherwise(
    dgrec: Run, session: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    output.write_text("precious")
    assert "--overwrite" in refusal(dgrec("query", session, "SELECT 1 AS n", "-o", output))
    assert output.read_text() == "precious"
    ok(dgrec("query", session, "SELECT 1 AS n", "-o", output, "--overwrite"))
    assert output.read_text() == "n\n1\n"


@pytest.mark.slow
def test_a_failed_query_leaves_no_output(dgrec: Run, session: Path, tmp_path: Path) -> None:
    sql = "SELECT CASE WHEN range > 99999 THEN error('late') ELSE range END FROM range(1000000)"
    output = tmp_path / "out.csv"
    output.write_text("precious")
    refusal(dgrec("query", session, sql, "-o", output, "--overwrite"))
    assert output.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.slow
def test_the_session_itself_is_never_the_output(dgrec: Run, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    before = path.read_bytes()
    link = tmp_path / "link.parquet"
    link.symlink_to(path)
    for output in (path, link):
        line = refusal(dgrec("query", path, "FROM frames", "-o", output, "--overwrite"))
        assert "session itself" in line
    assert path.read_bytes() == before


@pytest.mark.slow
def test_outputs_that_cannot_be_written(dgrec: Run, session: Path, tmp_path: Path) -> None:
    assert "folder" in refusal(dgrec("query", session, "SELECT 1", "-o", tmp_path))
    missing = tmp_path / "none" / "out.csv"
    assert str(missing) in refusal(dgrec("query", session, "SELECT 1", "-o", missing))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("S", "missingdir"), "'missingdir' is neither a session nor SQL"),
        (("SELECT 1", "S"), "give the SQL after the sessions"),
        (("S", "SELECT $a", "-p", "a=1", "-p", "a=2"), "a is given twice"),
    ],
)
def test_arguments_in_the_wrong_place(
    dgrec: Run, session: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = dgrec("query", *(session if word == "S" else word for word in arguments))
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("FROM stalls", "stalls is a table macro: write stalls()"),
        ("FROM stage_latency()", "stage_latency is a view: write it without ()"),
        ("SELECT ?", "a value has to have a name: $NAME, given by --param NAME=VALUE"),
    ],
)
def test_what_is_nearly_right_is_told_how(
    dgrec: Run, session: Path, sql: str, message: str
) -> None:
    assert refusal(dgrec("query", session, sql)) == message


def test_a_suffix_that_no_format_has(dgrec: Run, session: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.xlsx"
    for command, formats in (
        (("query", session, "SELECT 1"), ".csv, .json, .jsonl, .ndjson, .md, .parquet or .txt"),
        (("stats", session), ".csv, .json, .md or .txt"),
    ):
        result = dgrec(*command, "--output", output)
        assert result.exit_code == 2
        assert f"t.xlsx: no format goes with .xlsx; write {formats}" in result.stderr
        assert not output.exists()
    ok(dgrec("query", session, "SELECT 1 AS n", "-o", output, "--format", "csv"))
    assert output.read_text().split() == ["n", "1"]


def test_a_parameter_that_the_sql_does_not_use(dgrec: Run, session: Path) -> None:
    said = refusal(dgrec("query", session, "SELECT $a", "-p", "a=1", "-p", "b=2"))
    assert said == "--param b: the SQL has no $b"


@pytest.mark.slow
def test_a_device_is_written_to_and_not_replaced(dgrec: Run, session: Path) -> None:
    ok(dgrec("query", session, "SELECT 1", "-o", "/dev/null", "--overwrite"))
    assert Path("/dev/null").is_char_device()
    line = refusal(dgrec("query", session, "FROM range(10)", "-o", "/dev/full"), code=4)
    assert "No space left" in line


# --- as a process ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [("query", "SELECT * FROM detections"), ("stats",), ("info",)]
)
def test_pysdk_is_not_imported_and_nothing_is_said_at_exit(
    session: Path, arguments: tuple[str, ...]
) -> None:
    command, *sql = arguments
    code = (
        "import sys\n"
        "from dgrec.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    heavy = {'degirum', 'degirum_tools', 'cv2', 'av', 'pandas'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
        "    assert 'duckdb' in sys.modules or 'info' in sys.argv\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, command, str(session), *sql],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""  # DuckDB complains here when a connection is left open
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.slow
def test_a_reader_that_stops_early_is_no_error(
    dgrec_process: Callable[..., subprocess.Popen[str]], session: Path
) -> None:
    process = dgrec_process("query", session, "FROM range(10000000)", "--format", "csv")
    assert process.stdout is not None
    assert process.stdout.readline() == "range\n"
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == ""
    assert process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
        "FROM range(100000000000)",
    ],
    ids=["while DuckDB computes", "while rows are written"],
)
def test_ctrl_c_ends_a_query_at_once(
    dgrec_process: Callable[..., subprocess.Popen[str]], session: Path, tmp_path: Path, sql: str
) -> None:
    output = tmp_path / "out.csv"
    process = dgrec_process("query", session, sql, "-o", output)
    deadline = time.monotonic() + 20
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # into the query
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_result(session: Path) -> None:
    """The larger result, 20 million rows of 16 bytes, would take 320 MB at once."""

    def peak_mb(rows: int) -> float:
        code = (
            "import resource, sys\n"
            "from dgrec.cli import main\n"
            "try:\n"
            "    main()\n"
            "except SystemExit:\n"
            "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
        )
        sql = f"SELECT range AS a, range * 7919 % 65536 AS b FROM range({rows})"
        done = subprocess.run(
            [sys.executable, "-c", code, "query", str(session), sql, "--format", "parquet"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        return int(done.stderr) / 1024

    assert peak_mb(20_000_000) < peak_mb(1_000_000) + 80


# --- what is asked for several times -----------------------------------------------------------


def test_kept_views_answer_as_before(session: Path) -> None:
    asked = [
        "FROM warm_up",
        "FROM running",
        "FROM stage_load ORDER BY stage",
        "FROM label_windows(0.2) ORDER BY ALL",
        "SELECT label, frames, per_second, scored, round(mean_score, 12) FROM label_rate",
    ]
    with dgrec_package.open(session) as opened, SqlReader([opened]) as reader:
        before = [reader.rows(text) for text in asked]
        reader.keep("warm_up", "running")
        reader.keep("warm_up", "stage_load")  # kept already: not computed again
        windows = reader.stream("FROM label_windows(0.2)")
        rows = pa.Table.from_batches(windows.batches, windows.schema)
        reader.put("label_windows", rows, instead_of="_label_counts")
        assert [reader.rows(text) for text in asked] == before
        tables = {
            row["table_name"] for row in reader.rows("SELECT table_name FROM duckdb_tables()")
        }
    assert {"_warm_up", "_running", "_stage_load"} <= tables
    assert len(before[3]) > len(before[4]) > 0


@pytest.mark.slow
def test_pandas_is_loaded_by_no_command_but_for_programs_of_users(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "pandas.py").write_text("print('loaded'); __version__ = '9'\n")
    (tmp_path / "program.py").write_text("import pandas\n")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    found = {}
    for name, arguments in {
        "query": ("query", ROOT / "sample_data" / "session.parquet", "SELECT count(*) FROM frames"),
        "stats": ("stats", ROOT / "sample_data" / "session.parquet"),
        "run": ("run", "--", sys.executable, "program.py"),
    }.items():
        command = [sys.executable, "-m", "dgrec", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        found[name] = "loaded" in done.stdout
    assert found == {"query": False, "stats": False, "run": True}

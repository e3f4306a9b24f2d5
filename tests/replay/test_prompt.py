"""``dgrec query`` without SQL: a prompt in a real terminal, statements from a pipe, parameters."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from click.testing import Result

from tests.factory import make_rows, new_metadata, write_session
from tests.forks import forking
from tests.replay.conftest import ROOT
from tests.waiting import PATIENCE_S

Run = Callable[..., Result]
PROMPT = "dgrec>"
#: What the prompt sends when a line was entered: bracketed paste is switched off.
TYPED = "\x1b[?2004l"


class Terminal:
    """A ``dgrec query`` in a pseudo-terminal."""

    def __init__(self, session: Path, state: Path, *options: str) -> None:
        with forking():
            self.child = pexpect.spawn(
                sys.executable,
                ["-m", "dgrec", "query", str(session), *options],
                cwd=str(ROOT),
                # It cannot ask where the cursor is: nobody here would answer.
                env={
                    **os.environ,
                    "XDG_STATE_HOME": str(state),
                    "TERM": "xterm",
                    "PROMPT_TOOLKIT_NO_CPR": "1",
                },
                encoding="utf-8",
                timeout=PATIENCE_S,
                dimensions=(40, 120),
            )
        self.child.expect_exact(PROMPT)

    def ask(self, text: str, expected: str) -> str:
        """Type a line, wait for what is expected and for the next prompt; return all before."""
        self.child.sendline(text)
        self.child.expect_exact(TYPED)
        self.child.expect(expected)
        seen = self.child.before + self.child.after
        self.child.expect_exact(PROMPT)
        return str(seen + self.child.before)

    def leave(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus)


@pytest.fixture
def terminal(session: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(session, tmp_path / "state")
    yield terminal
    terminal.child.close(force=True)


@pytest.mark.slow
def test_a_conversation(terminal: Terminal, tmp_path: Path) -> None:
    assert "40" in terminal.ask("SELECT count(*) AS n FROM frames;", r"─+\s+40")
    # Over several lines; a semicolon inside a text ends nothing.
    terminal.child.sendline("SELECT 'a;")
    terminal.child.expect_exact("...")
    terminal.child.sendline("b' AS t,")
    terminal.child.expect_exact("...")
    assert terminal.ask("1 + 1 AS two;", r"t\s+two")
    # What goes wrong is one line, and the prompt goes on.
    assert '"nothing"' in terminal.ask("SELECT nothing FROM frames;", r"Error: .*nothing.*\n")
    assert terminal.ask("COPY frames TO 'x';", "Error: COPY is refused")
    assert terminal.ask("SELECT 1 AS a; SELECT 2 AS b;", r"b\s+─+\s+2")
    # Commands.
    assert "detections" in terminal.ask(".tables", "detections")
    assert terminal.ask(".schema sessions", r"session_id +VARCHAR")
    assert terminal.ask(".schema nothing", "Error: no view 'nothing'")
    assert terminal.ask("FROM range(1001);", "1 more row ")
    assert terminal.ask(".format csv", "written as csv")
    assert terminal.ask("FROM range(1001);", r"\n1000\r\n")  # a limit of tables only
    assert terminal.ask(".format json", "written as json")
    assert terminal.ask("SELECT 7 AS n;", r'\[\s+\{"n": 7\}')
    assert terminal.ask(".format xml", "Error: no format 'xml'")
    assert ".schema" in terminal.ask(".help", "Ctrl-C stops")
    assert terminal.ask(".wrong", r"Error: no command \.wrong")
    # A statement is stopped, then a line that is being typed is dropped; both times it goes on.
    terminal.child.sendline("SELECT count(*) FROM range(1000000) a, range(1000000) b;")
    terminal.child.expect_exact(TYPED)
    time.sleep(1)  # so that it is running, most likely; stopping it later or earlier is as good
    terminal.child.sendintr()
    terminal.child.expect_exact("stopped")
    terminal.child.expect_exact(PROMPT)
    terminal.child.send("SELECT half")
    terminal.child.expect_exact("half")
    terminal.child.sendintr()
    terminal.child.expect_exact(PROMPT)
    assert terminal.ask("SELECT 8 AS n;", '"n": 8')
    terminal.child.sendeof()
    assert terminal.leave() == 0
    assert "SELECT 8 AS n;" in (tmp_path / "state" / "dgrec" / "query_history").read_text()


@pytest.mark.slow
def test_names_are_completed(terminal: Terminal) -> None:
    terminal.child.send("SELECT max(preproc\t")
    terminal.child.expect_exact("ess_ms")
    assert terminal.ask(") AS slowest FROM frames;", "slowest")


@pytest.mark.slow
@pytest.mark.parametrize("word", [".quit", "quit", "exit;"])
def test_quit(terminal: Terminal, word: str) -> None:
    terminal.child.sendline(word)
    assert terminal.leave() == 0


@pytest.mark.slow
def test_history_comes_back_and_may_fail(session: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = Terminal(session, state)
    first.ask("SELECT 12345 AS n;", "12345")
    first.child.sendeof()
    assert first.leave() == 0
    second = Terminal(session, state)
    second.child.send("\x1b[A")  # arrow up
    second.child.expect_exact("SELECT 12345 AS n;")
    second.ask("", r"─+\s+12345")
    second.child.close(force=True)
    (tmp_path / "file").write_text("no folder can be made in here")
    third = Terminal(session, tmp_path / "file")
    assert third.ask("SELECT 6 AS n;", r"─+\s+6")
    third.child.sendeof()
    assert third.leave() == 0


# --- from a pipe -------------------------------------------------------------------------------


@pytest.mark.slow
def test_statements_from_a_pipe(dgrec: Run, session: Path) -> None:
    text = "-- two;\nSELECT 1 AS n; -- and\nSELECT 'a;b' AS t;\n"
    done = dgrec("query", session, "--format", "jsonl", input=text)
    assert done.exit_code == 0
    assert done.stdout == '{"n": 1}\n{"t": "a;b"}\n'
    assert dgrec("query", session, input=text).stdout == "n\n─\n1\n\nt\n───\na;b\n"
    assert dgrec("query", session, input="").stdout == ""


@pytest.mark.slow
def test_a_pipe_ends_at_the_first_error(dgrec: Run, session: Path) -> None:
    text = "SELECT 1 AS n; SELECT nothing; SELECT 2 AS n;"
    done = dgrec("query", session, "--format", "jsonl", input=text)
    assert done.exit_code == 1
    assert done.stdout == '{"n": 1}\n'
    assert len(done.stderr.splitlines()) == 1
    assert dgrec("query", session, input="SELECT 1; SELEC 2").stdout == ""


def test_a_parquet_file_holds_one_result(dgrec: Run, session: Path) -> None:
    text = "SELECT 1 AS n; SELECT 2 AS n;"
    done = dgrec("query", session, "--format", "parquet", input=text)
    assert (done.exit_code, done.stdout_bytes) == (1, b"")
    assert done.stderr.startswith("Error: a Parquet file holds the result of one statement; ")
    done = dgrec("query", session, "--format", "parquet", input="SELECT 1 AS n;")
    assert (done.exit_code, done.stdout_bytes[:4]) == (0, b"PAR1")


# --- parameters --------------------------------------------------------------------------------


def test_parameters_are_json_or_text(dgrec: Run, session: Path) -> None:
    sql = (
        "SELECT $i + 1 AS i, $f AS f, $t AS t, $l AS l, $s AS s, $n IS NULL AS n, $b AS b, $q AS q"
    )
    values = ["i=7", "f=1.5", "t=it's", "l=[1, 2]", 's={"a": "b"}', "n=null", "b=true", 'q="8"']
    options = [item for value in values for item in ("--param", value)]
    done = dgrec("query", session, sql, *options, "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == [
        {"i": 8, "f": 1.5, "t": "it's", "l": [1, 2], "s": {"a": "b"}, "n": True, "b": True}
        | {"q": "8"}
    ]


def test_a_parameter_is_a_value_and_no_sql(dgrec: Run, session: Path) -> None:
    text = "'; COPY frames TO 'x"
    done = dgrec("query", session, "SELECT $t AS t", "-p", f"t={text}", "--format", "csv")
    assert done.stdout == f"t\n{text}\n"


@pytest.mark.slow
def test_parameters_filter_rows_and_unusual_types(dgrec: Run, session: Path) -> None:
    sql = "SELECT count(*) AS n, INTERVAL 1 DAY AS d FROM frames WHERE frame < $n"
    done = dgrec("query", session, sql, "-p", "n=7", "--format", "jsonl")
    assert done.stdout == '{"n": 7, "d": "1 day"}\n'
    since = "SELECT count(*) AS n FROM frames WHERE captured_at >= $since"
    done = dgrec("query", session, since, "-p", "since=2020-01-01", "--format", "jsonl")
    assert done.stdout == '{"n": 40}\n'
    done = dgrec("query", session, "EXPLAIN ANALYZE SELECT $n", "-p", "n=7")
    assert done.exit_code == 0


def test_statements_of_a_pipe_take_those_they_name(dgrec: Run, session: Path) -> None:
    text = "SELECT $a AS x; SELECT $b AS x;"
    done = dgrec("query", session, "-p", "a=1", "-p", "b=2", "--format", "csv", input=text)
    assert done.stdout == "x\n1\nx\n2\n"


def test_a_missing_parameter_is_named(dgrec: Run, session: Path) -> None:
    done = dgrec("query", session, "SELECT $since, $x", "-p", "x=1")
    assert done.exit_code == 1
    assert done.stderr == "Error: no value for $since: give it with --param since=VALUE\n"
    for wrong in ("since", "=1", "1x=2"):
        assert dgrec("query", session, "SELECT 1", "-p", wrong).exit_code == 2


@pytest.mark.parametrize("value", ["1e999", "9" * 60, '[1, "a"]', "{}", "[]", "\ud800", "[" * 5000])
def test_odd_values_are_taken_or_refused_in_one_line(
    dgrec: Run, session: Path, value: str
) -> None:  # fmt: skip
    done = dgrec("query", session, "SELECT $x AS x", "-p", f"x={value}", "--format", "csv")
    assert done.exit_code in (0, 1), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert len(done.stderr.splitlines()) == done.exit_code


# --- which of the arguments is the SQL ---------------------------------------------------------


@pytest.mark.slow
def test_sessions_then_sql(dgrec: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_session(tmp_path / f"{name}.parquet", make_rows(5), new_metadata(name))
    (tmp_path / "q.sql").write_text("SELECT count(*) AS n FROM frames")
    sql = "SELECT count(*) AS n FROM frames"

    def n(*arguments: str, **options: str) -> int:
        done = dgrec("query", *arguments, "--format", "jsonl", **options)
        assert done.exit_code == 0, done.output
        return int(json.loads(done.stdout)["n"])

    assert n("a.parquet", sql) == 5
    assert n("a.parquet", "b.parquet", sql) == 10
    assert n("*.parquet", sql) == 10
    assert n(".", sql) == 10
    assert n("a.parquet", "b.parquet", "--file", "q.sql") == 10
    assert n("a.parquet", "b.parquet", input=sql) == 10
    assert n("*.parquet", input=sql) == 10


def test_one_damaged_session_is_named_and_left_out(dgrec: Run, tmp_path: Path) -> None:
    write_session(tmp_path / "a.parquet", make_rows(5), new_metadata("a"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 this is none")
    done = dgrec("query", tmp_path, "SELECT count(*) AS n FROM frames", "--format", "jsonl")
    assert done.exit_code == 0
    assert done.stdout == '{"n": 5}\n'
    (line,) = done.stderr.splitlines()
    assert line.startswith("Warning: ")
    assert "b.parquet" in line


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("SELECT 1",),
        ("{session}", "SELECT 1", "--file", "q.sql"),
        ("{session}", "--output", "x.csv"),
        ("{session}", "SELECT 1", "--timeout", "soon"),
    ],
)
def test_usage_errors(dgrec: Run, session: Path, arguments: tuple[str, ...]) -> None:
    done = dgrec("query", *(a.replace("{session}", str(session)) for a in arguments))
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("Usage: ")


def test_a_mistyped_session_is_not_taken_for_sql(dgrec: Run, session: Path) -> None:
    done = dgrec("query", session, "typo.parquet", input="SELECT 1")
    assert done.exit_code == 0
    assert "typo.parquet: cannot be read: No such file" in done.stderr

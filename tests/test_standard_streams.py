"""Streams that are closed, full or not read any more, and names that are empty: one line each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dgrec import sample
from dgrec.cli import gather
from dgrec.options import NamedPath
from tests.test_architecture import ROOT
from tests.waiting import PATIENCE_S

SESSION = str(sample.SESSION)
WRITING = {
    "help": ("--help",),
    "echo": ("verify", SESSION),
    "table": ("info", SESSION),
    "rows": ("query", SESSION, "SELECT frame FROM frames", "--format", "csv"),
}


_DGREC = (sys.executable, "-m", "dgrec")


def in_shell(arguments: tuple[str, ...], streams: str) -> subprocess.CompletedProcess[str]:
    """Run ``dgrec`` with what the shell makes of its streams; stderr comes back as stdout."""
    return subprocess.run(
        ["bash", "-c", f'exec 3>&1; "$@" {streams}', "bash", *_DGREC, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITING)
def test_stdout_that_is_full(name: str) -> None:
    done = in_shell(WRITING[name], ">/dev/full 2>&3")
    assert done.returncode == 4
    assert done.stdout == ("Error: standard output: cannot be written: No space left on device\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITING)
def test_stdout_that_is_closed(name: str) -> None:
    done = in_shell(WRITING[name], "2>&3 >&-")
    assert done.returncode == 1
    assert done.stdout == "Error: standard output: cannot be written: Bad file descriptor\n"


@pytest.mark.slow
def test_stdout_that_nobody_reads_any_more() -> None:
    rows = ("query", SESSION, "FROM range(3000000)", "--format", "csv")
    done = in_shell(rows, "2>&3 | head -1; exit ${PIPESTATUS[0]}")
    assert done.returncode == 0
    assert done.stdout == "range\n"


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "2>&- >&- <&-"])
def test_stderr_that_cannot_be_written_changes_no_exit_code(streams: str, tmp_path: Path) -> None:
    assert in_shell(("info", str(tmp_path / "none")), streams).returncode == 1
    copy = ("query", SESSION, "SELECT 1 AS n", "-o", str(tmp_path / "n.csv"))
    assert in_shell(copy, streams).returncode == 0
    assert (tmp_path / "n.csv").read_text() == "n\n1\n"


@pytest.mark.slow
def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    code = (
        "import os, sys; from dgrec.cli import _open_standard_streams as streams; streams();"
        "print(os.open('/dev/null', os.O_RDONLY) > 2, file=sys.stderr)"
    )
    for closed in ("<&-", ">&- <&-"):
        done = subprocess.run(
            ["bash", "-c", f'exec "$0" -c "{code}" {closed}', sys.executable],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        assert done.stderr == "True\n"


# --- empty names -------------------------------------------------------------------------------


def paths_of(command: click.Command) -> Iterator[click.Parameter]:
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            yield parameter


PATHS = [
    (name, parameter)
    for name, command in gather().commands.items()
    for parameter in paths_of(command)
]


def test_there_are_paths() -> None:
    assert len(PATHS) > 15
    assert [p.name for _, p in PATHS if not isinstance(p.type, NamedPath)] == []


@pytest.mark.parametrize(("command", "parameter"), PATHS, ids=lambda item: str(item))
def test_an_empty_path_is_refused(command: str, parameter: click.Parameter) -> None:
    for value, reason in (("", "the name is empty"), ("a\0b", "NUL")):
        given = [value]
        if isinstance(parameter, click.Option):
            given = [parameter.opts[0], value, *(["x"] * _needed(command))]
        done = CliRunner().invoke(gather(), [command, *given])
        assert done.exit_code == 2, done.output
        assert reason in done.stderr.splitlines()[-1]


def _needed(command: str) -> int:
    arguments = [p for p in gather().commands[command].params if isinstance(p, click.Argument)]
    return sum(argument.required for argument in arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("record", "--source", ""),
        ("record", "--source", " "),
        ("record", "--source", "a\0b"),
        ("record", "--source", "."),
        ("recover", "."),
        ("recover", "/"),
        ("info", "."),
        ("replay", "."),
        ("query", "", "SELECT 1"),
        ("query", "a\0b", "SELECT 1"),
        ("clip", ".", "-o", "x.parquet"),
        ("stats", "/dev/null"),
    ],
)
def test_names_that_are_no_files(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(gather(), list(arguments))
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit)
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_publishing_to_an_empty_name() -> None:
    done = CliRunner().invoke(gather(), ["record", "--source", "sample", "--publish", ""])
    assert done.exit_code == 2
    assert "--publish" in done.stderr.splitlines()[-1]

"""Text of files, cameras and libraries never steers a terminal, and is otherwise unchanged."""

from __future__ import annotations

import ast
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import unicodedata
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest
from rich.table import Table

from dgrec.console import Console
from dgrec.credentials import remember
from dgrec.terminal import echo, line, say_written, shown
from tests.factory import make_detection, make_rows, new_metadata, write_session
from tests.test_architecture import MODULES, ROOT

#: Sets the title of the window, colours, moves the cursor, turns the direction of writing, hides
#: characters, forges a line, and would be markup for rich.
HOSTILE = (
    "\x1b]0;TITLE\x07\x1b[31mRED\x9b2J\x1b[5A\r\u202eBIDI\u2066\u200b\u200e\u2028\ufeff"
    "\nFORGED [bold]MARK[/bold][link=http://x]LINK[/link] :car: Zo\u00eb \u8eca \U0001f697"
)
#: What must not reach a terminal; `\x1b[` followed by what rich itself writes may.
STEERING = re.compile(
    r"\x1b[\]PX^_]|\x07|[\x80-\x9f]|\x1b\[31mRED|\x1b\[5A|\rBIDI"
    "|[\u202a-\u202e\u2066-\u2069\u200b\u200e\u200f\u2028\u2029\ufeff]|^FORGED|(?<!\\[bold\\])(?<!\\[bold\\\\\\])MARK",
    re.MULTILINE,
)


def on_terminal(*arguments: object, cwd: Path, stdin: str = "") -> str:
    """Run ``dgrec`` in a pseudo-terminal of 4,000 columns; return all that it printed."""
    leader, follower = pty.openpty()
    ioctl(follower, TIOCSWINSZ, struct.pack("HHHH", 60, 4000, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "dgrec", *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "4000"},
    )
    os.close(follower)
    assert child.stdin is not None
    child.stdin.write(stdin.encode())
    child.stdin.close()
    data = b""
    try:
        while True:
            try:
                chunk = os.read(leader, 1 << 16)
            except OSError:  # Linux: the other side has been closed
                break
            if not chunk:
                break
            data += chunk
        child.wait(60)
    finally:
        child.kill()
        child.wait()
        os.close(leader)
    return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


def assert_harmless(text: str) -> None:
    found = STEERING.search(text)
    assert found is None, ascii(text[max(0, found.start() - 80) : found.end() + 80])
    assert "Traceback" not in text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sessions in whose every text, and in whose very names, is `HOSTILE`."""
    folder = tmp_path_factory.mktemp("hostile")
    metadata = new_metadata()
    for key in ("source", "model", "host", "versions"):
        metadata[key] = {**metadata.get(key, {}), HOSTILE: HOSTILE}
    metadata["name"] = HOSTILE
    metadata["source"] |= {"kind": "file", "given": HOSTILE, "file": HOSTILE, "path": HOSTILE}
    metadata["model"] |= {"name": HOSTILE, "device": HOSTILE, "labels": {"0": HOSTILE}}
    metadata["host"]["name"] = HOSTILE
    metadata["video"] = [{"kind": "raw", "codec": HOSTILE, "file": HOSTILE, "problem": HOSTILE}]
    metadata["events"] = [{"kind": "gap", "seconds": 1.5, "from": HOSTILE, "reason": HOSTILE}]
    metadata["damage"] = [HOSTILE]
    found = [make_detection(0, label=HOSTILE, **{"note\x1b]0;TITLE\x07": HOSTILE})]
    rows = make_rows(40, results=found)
    write_session(folder / "a.parquet", rows, metadata)
    write_session(folder / "\x1b]0;TITLE\x07\u202ename.parquet", rows, metadata)
    (folder / "\x1b[31mRED.arrows").write_bytes(b"no session")
    return folder


COMMANDS: dict[str, tuple[object, ...]] = {
    "info": ("info", "a.parquet"),
    "list": ("list", "."),
    "list as markdown": ("list", ".", "--format", "markdown"),
    "info as json": ("info", "a.parquet", "--format", "json"),
    "stats": ("stats", "a.parquet"),
    "stats as csv": ("stats", "a.parquet", "--format", "csv"),
    "stats as markdown": ("stats", "a.parquet", "--format", "markdown"),
    "stats by label": ("stats", "a.parquet", "--by", "label"),
    "stats by model": ("stats", ".", "--by", "model"),
    "why": ("stats", "a.parquet", "--why"),
    "late": ("stats", "a.parquet", "--late", "3"),
    "verify": ("verify", "a.parquet", "\x1b]0;TITLE\x07\u202ename.parquet", "no\x1b[31mRED"),
    "compare": ("compare", "a.parquet", "\x1b]0;TITLE\x07\u202ename.parquet"),
    "query": ("query", ".", "SELECT label, any_value(path) FROM detections, sessions GROUP BY ALL"),
    "query as csv": ("query", "a.parquet", "SELECT label FROM detections", "--format", "csv"),
    "query as json": ("query", "a.parquet", "FROM sessions", "--format", "json"),
    "query as jsonl": ("query", "a.parquet", "FROM detections", "--format", "jsonl"),
    "query as markdown": ("query", "a.parquet", "FROM detections", "--format", "markdown"),
    "column": ("query", "a.parquet", f'SELECT 1 AS "{HOSTILE}"'),
    "error of DuckDB": ("query", "a.parquet", f"SELECT error('{HOSTILE}')"),
    "error of the parser": ("query", "a.parquet", f'SELECT "{HOSTILE}" FROM frames'),
    "replay": ("replay", "a.parquet", "-o", "new.mp4", "--frames", "0:2"),
    "replay of labels": ("replay", "a.parquet", "-o", "x.mp4", "--redact", "\x1b[31mRED"),
    "clip": ("clip", "a.parquet", "--end", "3", "-o", "clip\u202e.parquet"),
    "recover": ("recover", "\x1b[31mRED.arrows"),
    "no such file": ("info", HOSTILE),
    "no such option": ("info", "--\x1b]0;TITLE\x07"),
    "no such command": ("\x1b]0;TITLE\x07",),
    "an argument too many": ("info", "a.parquet", HOSTILE),
    "a bad value": ("record", "--source", "sample", "--fps", HOSTILE),
    "no such source": ("record", "--source", HOSTILE),
    "no such model": ("record", "--source", "sample", "--zoo-url", HOSTILE, "--model-name", "x"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_lets_it_through(folder: Path, tmp_path: Path, name: str) -> None:
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    printed = on_terminal(*COMMANDS[name], cwd=tmp_path)
    assert printed
    assert_harmless(printed)


@pytest.mark.slow
def test_the_sessions_of_that_test_are_read(folder: Path) -> None:
    printed = on_terminal("stats", "a.parquet", cwd=folder)
    assert "\\x1b]0;TITLE\\x07" in printed
    assert ":car: Zo\u00eb \u8eca \U0001f697" in printed


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_pipes_and_files_get_the_values_as_they_are(
    folder: Path, tmp_path: Path, form: str
) -> None:
    sql = "SELECT label FROM detections LIMIT 1"
    command = [sys.executable, "-m", "dgrec", "query", "a.parquet", sql, "--format", form]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    piped = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    file = tmp_path / "out"
    subprocess.run([*command, "-o", str(file)], cwd=folder, env=environment, check=True)
    for text in (piped.stdout.decode(), file.read_bytes().decode()):
        if form == "csv":
            assert HOSTILE in text
        else:
            value = json.loads(text)
            assert (value[0] if form == "json" else value) == {"label": HOSTILE}


# --- the functions -----------------------------------------------------------------------------

#: Characters of format that have a glyph of their own.
_VISIBLE = frozenset(map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2)))
_VISIBLE |= {"\U000110bd", "\U000110cd"}


def test_every_character_that_steers_is_escaped() -> None:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    steering = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) in kinds]
    steering = [c for c in steering if c not in _VISIBLE and c != "\n"]
    assert len(steering) > 2_000
    assert [ascii(c) for c in steering if shown(f"a{c}b") == f"a{c}b"] == []
    assert shown("a\nb") == "a\nb"
    assert line("a\nb") == "a\\nb"


@pytest.mark.parametrize(
    "text",
    [
        "Zo\u00eb na\u00efve e\u0301",
        "\u8eca\u4e21 \ud55c\uad6d\uc5b4",
        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
        "\U0001f697 \u2764\ufe0f \U0001f469\U0001f3fd\u200d\U0001f680",
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937",
    ],
)
def test_writing_of_all_kinds_stays(text: str) -> None:
    assert line(text) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a\u200db", "a\\u200db"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\x7fb\x9b", "a\\u007fb\\u009b"),
        ("caf\udce9", "caf\\xe9"),
        ("\U000e0041", "\\U000e0041"),
        ("x" * 5_000, "x" * 2_000 + " ... (1,000 characters left out) ... " + "x" * 2_000),
    ],
)
def test_escapes(text: str, printed: str) -> None:
    assert line(text) == printed


def test_json_on_a_terminal_stays_json() -> None:
    value = {"label": "".join(map(chr, range(0x20, 0x3000)))}
    assert json.loads(shown(json.dumps(value, ensure_ascii=False))) == value


def test_secrets_are_cut_out_of_the_values_of_json_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    remember("http://host/in?topic=messages&camera=2000&key=se%22cr%C3%ABt")
    target = "http://host/in?key=se%22cr%C3%ABt"
    facts = {"messages": 2000, "target": [target], "session": Path('2000/se"crët.parquet')}
    say_written([], as_json=True, path=None, notes=["messages"], **facts)
    row = json.loads(capsys.readouterr().out)
    assert row == {
        "path": None,
        "files": [],
        "messages": 2000,
        "target": ["http://host/in?***"],
        "session": "***/***.parquet",
        "notes": ["***"],
    }


def test_the_console_prints_neither_markup_nor_emoji_by_name() -> None:
    console = Console(file=io.StringIO(), width=400, force_terminal=True)
    table = Table("[red]a", "b")
    table.add_row("[bold]x[/bold]", HOSTILE)
    for item in (HOSTILE, table):
        console.print(item)
    console.say(HOSTILE)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert printed.count("[bold]MARK[/bold]") == 3
    assert printed.count(":car:") == 3
    assert "[red]a" in printed
    assert not re.search("\x1b[]]|\x07|\x9b|\u202e|\u200b", printed)


def test_echo_on_a_terminal_that_knows_only_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    echo("\u8eca \x1b[31m")
    stream.seek(0)
    assert stream.read() == "\\u8eca \\x1b[31m\n"


@pytest.mark.slow
def test_there_is_no_other_way_to_print() -> None:
    """Text that comes from anywhere reaches a person through `dgrec.terminal` or a `Console`."""
    found = []
    for module, path in MODULES.items():
        if module in ("dgrec.terminal", "dgrec.console"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("print", "click.echo", "click.secho", "sys.stdout.write", "tqdm"):
                    found.append(f"{path}:{node.lineno} {name}")
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                found += [
                    f"{path}:{node.lineno}" for alias in node.names if alias.name == "Console"
                ]
    assert found == []

"""Tasks of newcomers: each one of docs/tasks.md, on terminals of several widths."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from dgrec import sample
from tests.factory import make_rows, new_metadata, write_journal
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tasks.md"
TASKS = re.findall(r"^\| (.*) \| `(dgrec .*)` \|$", PAGE.read_text(), flags=re.MULTILINE)
COMMANDS = [shlex.split(command)[1:] for _, command in TASKS]
#: Those that only print, and whose charts do not change with the width.
PRINTING = [
    [*words, "--no-charts"] if words[:2] == ["stats", "session"] and len(words) == 2 else words
    for words in COMMANDS
    if words[0] in ("list", "info", "verify", "stats", "compare", "whatif", "alerts", "query")
    and "-o" not in words
    and "--follow" not in words
]
WIDTHS = (60, 80, 200)
_NUMBER = re.compile(r"(?<![\w.,:-])\d[\d,]*\.\d+(?![\w.,:-])")
_SGR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_DRIVER = """\
import json, os, sys
from dgrec.cli import main
widths, commands = map(json.loads, sys.argv[1:])
for width in widths:
    os.environ["COLUMNS"] = str(width)
    for number, words in enumerate(commands):
        sys.argv = ["dgrec", *words]
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        print(f"@@ {width} {number} {code}", flush=True)
"""


def run_dgrec(*arguments: object) -> Result:
    from dgrec.cli import gather

    return CliRunner().invoke(gather(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the page has it in mind."""
    folder = tmp_path_factory.mktemp("tasks")
    shutil.copy(sample.CLIP, folder / "faces.mp4")
    (folder / "dgrec.toml").write_text('[sources]\nentrance = "faces.mp4"\n')
    (folder / "recordings").mkdir()
    for name in ("session", "before", "after"):
        shutil.copy(sample.SESSION, folder / f"{name}.parquet")
    for name, start in (("monday", 0), ("tuesday", 100)):
        done = run_dgrec(
            *("clip", sample.SESSION, "--start", start, "--end", start + 90),
            *("-o", folder / "recordings" / f"{name}.parquet"),
        )
        assert done.exit_code == 0, done.output
    write_journal(folder / "cut.arrows", make_rows(20), new_metadata())
    return folder


def test_the_page_has_forty_tasks() -> None:
    assert len(TASKS) >= 40
    assert len(PRINTING) >= 20


@pytest.mark.slow
def test_each_task_is_done_by_its_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("DISPLAY", raising=False)
    for words in COMMANDS:
        done = run_dgrec(*_with_few_frames(words))
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert "Traceback" not in done.output, words
        if "-o" in words and "{" not in words[-1]:
            written = Path(words[words.index("-o") + 1])
            assert written.exists(), words
            assert written.is_dir() or written.stat().st_size, words
    assert list(Path("recordings").glob("sample-*.parquet"))
    assert list(Path("recordings").glob("entrance-*.parquet"))
    assert list(Path().glob("20??-??-??/sample-*.parquet"))


def _with_few_frames(words: list[str]) -> list[str]:
    """Return words that record five seconds at most: a busy machine may take minutes for all."""
    if words[0] != "record":
        return words
    if "--max-frames" in words:
        return [*words, "--max-frames", "5"]
    return [*words, "--every", "5", "--max-frames", "30"]


def _printed(
    folder: Path,
    widths: tuple[int, ...],
    commands: list[list[str]] = PRINTING,
    *,
    terminal: bool,
    **extra: str,
) -> str:
    import json

    kept = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **extra}
    command = [sys.executable, "-c", _DRIVER, json.dumps(widths), json.dumps(commands)]
    if not terminal:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            check=True,
        )
        return done.stdout.decode()
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    chunks = []
    try:
        while chunk := os.read(leader, 1 << 16):
            chunks.append(chunk)
    except OSError:  # Linux: the other side has been closed
        pass
    finally:
        os.close(leader)
    assert child.wait(PATIENCE_S) == 0
    return b"".join(chunks).decode().replace("\r\n", "\n")


def _by_task(text: str) -> dict[tuple[int, int], str]:
    """Return what each task printed, by width and number."""
    pieces = re.split(r"^@@ (\d+) (\d+) (\d+)\n", text, flags=re.MULTILINE)
    found = {}
    for printed, width, number, code in zip(*(pieces[at::4] for at in range(4)), strict=False):
        assert code == "0", printed
        found[int(width), int(number)] = printed
    return found


@pytest.mark.slow
def test_no_terminal_is_too_narrow_for_a_number(folder: Path) -> None:
    printed = _by_task(_printed(folder, WIDTHS, terminal=True, LANG="C.UTF-8"))
    assert len(printed) == len(WIDTHS) * len(PRINTING)
    numbers = 0
    for at, words in enumerate(PRINTING):
        whole = set(_NUMBER.findall(_SGR.sub("", printed[200, at])))
        for width in WIDTHS[:2]:
            text = _SGR.sub("", printed[width, at])
            assert "Traceback" not in text
            # JSON, SQL's own texts and paths are as long as they are.
            if "--json" not in words and words[0] in ("list", "stats", "compare"):
                widest = max(map(cell_len, text.splitlines()))
                assert widest <= width, (words, width)
            broken = set(_NUMBER.findall(text)) - whole
            assert not broken, (words, width, broken)
            numbers += len(_NUMBER.findall(text))
    assert numbers > 100
    assert "\x1b[3" in printed[80, PRINTING.index(["verify", "session"])]


@pytest.mark.slow
def test_the_line_of_a_recording_fits(tmp_path: Path) -> None:
    words = ["record", "sample", "--max-frames", "10", "--video", "raw", "-o", "live.parquet"]
    text = _printed(tmp_path, (60,), [words], terminal=True)
    lines = [_SGR.sub("", line).strip() for line in re.split(r"[\r\n]+", text)]
    live = [line for line in lines if re.match(r"\d+ frames?  ", line)]
    assert live
    assert max(map(cell_len, lines)) <= 60
    assert all(line.split("  ")[1].endswith(("fps", "detections")) for line in live)
    assert "TensorFlow" not in text
    assert (tmp_path / "live.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_in_the_c_locale_without_colours(folder: Path, terminal: bool) -> None:
    text = _printed(folder, (80,), terminal=terminal, LANG="C", NO_COLOR="1")
    printed = _by_task(text)
    assert len(printed) == len(PRINTING)
    assert "Traceback" not in text
    assert not re.search(r"\x1b\[(?!0m|1m)", text)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["quick-start", "camera", "sharing", "terminal"])
def test_commands_of_the_pages_run(
    page: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    text = (ROOT / "docs" / f"{page}.md").read_text()
    if page == "quick-start":
        Path("session.parquet").unlink()
    commands = [
        shlex.split(line, comments=True)[1:]
        for block in re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert commands
    for words in commands:
        done = run_dgrec(*_with_few_frames(words))
        assert done.exit_code == 0, (words, done.output, done.exception)

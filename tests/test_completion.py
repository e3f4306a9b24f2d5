"""Completion, asked for with the tab key in the shells themselves."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest
from click.testing import CliRunner

from dgrec import sample
from dgrec.cli import gather
from tests.forks import forking
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
#: What a shell reads first, and how it is started without a user's own settings.
SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], "bind 'set bell-style none'"),
    "zsh": (["-f", "-i"], "autoload -U compinit && compinit -u -D; unsetopt beep"),
    "fish": (["--no-config", "-i"], "function fish_prompt; echo -n 'ready> '; end"),
}
#: What is typed, and what stands there after the tab key.
TYPED = [
    ("dgrec ver", "dgrec verify"),
    ("dgrec stats ses", "dgrec stats session.parquet"),
    ("dgrec info rec", "dgrec info recordings/"),
    ("dgrec stats session.parquet --why --lat", "--late"),
    ("dgrec record ent", "dgrec record entrance"),
    ("dgrec record --zoo-url zo", "--zoo-url zoo/"),
    ("dgrec record --zoo-url zoo --model-name ti", "--model-name tiny_model"),
    ("dgrec clip session.parquet --where laten", "--where latency_ms"),
]


def test_completion_goes_on_after_an_empty_option() -> None:
    """It is refused when the command is run; until then its text may be what comes next."""
    environment = {
        "_DGREC_COMPLETE": "bash_complete",
        "COMP_WORDS": 'dgrec record --model-name "" --video-s',
        "COMP_CWORD": "4",
    }
    found = CliRunner().invoke(gather(), env=environment, prog_name="dgrec")
    assert "plain,--video-size" in found.output, found.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(sample.SESSION, tmp_path / "session.parquet")
    (tmp_path / "sessions-of-mine.txt").write_text("no session")
    (tmp_path / "recordings").mkdir()
    (tmp_path / "dgrec.toml").write_text('[sources]\nentrance = "cam0"\n')
    (tmp_path / "zoo" / "tiny_model").mkdir(parents=True)
    (tmp_path / "zoo" / "tiny_model" / "tiny_model.json").write_text("{}")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "dgrec"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dgrec "$@"\n')
    command.chmod(0o755)
    return tmp_path


@contextmanager
def started(shell: str, folder: Path) -> Iterator[pexpect.spawn[str]]:
    options, settings = SHELLS[shell]
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "TERM": "dumb" if shell != "fish" else "xterm",
        "PS1": "ready> ",
    }
    with forking():
        child = pexpect.spawn(
            shell, options, cwd=str(folder), env=environment, encoding="utf-8", timeout=PATIENCE_S
        )
    child.setwinsize(50, 200)
    try:
        child.sendline(settings)
        child.sendline(f"source {folder / 'script'}; echo loa''ded")
        child.expect("loaded")
        yield child
    finally:
        child.close(force=True)


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key(shell: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = CliRunner().invoke(gather(), ["completion", shell])
    assert script.exit_code == 0
    (folder / "script").write_text(script.output)
    with started(shell, folder) as child:
        for typed, completed in TYPED:
            child.send(typed + "\t")
            # zsh rings between what was there and what it adds.
            end = completed.split()[-1]
            child.expect("\x07?".join(map(re.escape, end)))
            child.send("\x15")  # an empty line again


def test_nothing_but_what_fits_is_offered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dgrec.completion import columns, files, models, sessions, zoos

    monkeypatch.chdir(folder)
    assert [item.value for item in sessions("s")] == ["session.parquet"]
    assert [item.value for item in sessions("")] == ["bin", "recordings", "session.parquet", "zoo"]
    assert [item.value for item in sessions("nowhere/")] == []
    assert [item.value for item in files("zoo/")] == ["zoo/tiny_model"]
    assert models("", "zoo") == ["tiny_model"]
    assert [item.value for item in zoos("degirum/h")] == ["degirum/hailo"]
    assert columns("latency_ms > 5 AND infer", "frames") == ["latency_ms > 5 AND inference_ms"]
    assert columns("scor", "detections") == ["score"]
    assert columns("scor", "frames") == []

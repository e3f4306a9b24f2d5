"""``--view``: the page while a recording goes on."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from dgrec.cli import gather
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

_ADDRESS = re.compile(r"Look at it while it is recorded: (http://\S+)")


def test_the_page_is_there_for_as_long_as_is_recorded(tmp_path: Path) -> None:
    arguments = ["record", "sample", "--loop", "--view", "--output", "s.parquet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dgrec", *arguments],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    found = None
    while found is None:
        line = process.stderr.readline()
        assert line, "it ended"
        found = _ADDRESS.search(line)
    address, _, shown = found[1].partition("#")
    assert shown == "s=s"
    with urllib.request.urlopen(
        address.replace("/?", "/api/sessions?"), timeout=PATIENCE_S
    ) as page:
        assert b'"s":"s"' in page.read()
    process.kill()  # nothing of it is asked
    process.communicate(timeout=PATIENCE_S)

    def is_gone() -> bool:
        try:
            urllib.request.urlopen(address, timeout=PATIENCE_S).close()
        except OSError:
            return True
        return False

    wait_until(is_gone)


def test_what_is_not_recorded_is_not_shown() -> None:
    arguments = ["run", "--view", "--replay", "s.parquet", "--", "true"]
    result = CliRunner().invoke(gather(), arguments)
    assert result.exit_code == 2
    assert "--view shows what is recorded" in result.output

"""``dgrec`` as a person starts it: a process with its own environment, folder and exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE_S

__all__ = ["Command", "error_of", "names"]

_ROOT = Path(__file__).parents[2]
#: What may stand on stderr beside an error; how far a recording is, where that takes long.
_NOTES = re.compile(r"No model named: |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [\d,]+ frames? ")
#: Nothing listens on the discard port: every request through this "proxy" is refused at once.
_NOWHERE = "http://127.0.0.1:9"


class Command:
    """Runs ``dgrec`` in ``folder``. Nothing it does reaches a network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DGREC_", "DEGIRUM_", "PYTEST_")) and name != "DISPLAY"
        }
        return {
            **kept,
            "PYTHONPATH": str(_ROOT),
            # Not to depend on a token that somebody has installed, nor on a terminal's width.
            "HOME": str(self.folder),
            "COLUMNS": "100",
            "HTTP_PROXY": _NOWHERE,
            "HTTPS_PROXY": _NOWHERE,
            **(extra or {}),
        }

    def record(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``dgrec record`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "dgrec", "record", *arguments],
            cwd=self.folder,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``dgrec record`` as the leader of a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "dgrec", "record", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command said went wrong, having checked that it is one clear line."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not _NOTES.match(line)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    return lines[0].removeprefix("Error: ")


def names(folder: Path) -> list[str]:
    """Return what is in a folder, but for PySDK's own files in what it takes for our home."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".local")

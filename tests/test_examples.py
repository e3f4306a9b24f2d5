"""Every example runs as its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
#: What each has to say on the bundled session, whatever else.
SAYS = {
    "application_in_ci.py": "25 results in a row open it",
    "did_it_change.py": "agreement of 426 detections with 426: 1.000",
    "own_question.py": "426 boxes",
    "slowest_frames.py": "frame-000283.png",
    "walkthrough.py": "frames are on their way",
}


def test_each_is_listed_and_checked() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == set(SAYS)
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"({name})" in listed for name in scripts)


@pytest.mark.parametrize("name", SAYS)
def test_example_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=tmp_path,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    for picture in tmp_path.rglob("*.png"):
        assert cv2.imread(str(picture)) is not None

"""Every example runs as its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from dgrec.replay.verify import verify
from tests.factory import make_detection, make_row, write_session
from tests.recorder.test_program import make_clip
from tests.waiting import PATIENCE_S

EXAMPLES = Path(__file__).parent.parent / "examples"
#: What each has to say on the bundled session, whatever else.
SAYS = {
    "application_in_ci.py": "25 results in a row open it",
    "did_it_change.py": "agreement of 426 detections with 426: 1.000",
    "own_question.py": "426 boxes",
    "slowest_frames.py": "slowest/frame-0000",
    "walkthrough.py": "frames are on their way",
}
#: Those that record, and what each says of faces that move through the picture.
RECORDS = {
    "line_count.py": "frame 5: track 1 crosses line 0 to the",
    "tracker.py": "track 2: frames 0 to 8",
    "zone_count.py": "right half: at most 2, not empty in 56% of the frames",
}


def test_each_is_listed_and_checked() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == {*SAYS, *RECORDS}
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"({name})" in listed for name in scripts)


def run(name: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *map(str, arguments)],
        cwd=folder,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize("name", SAYS)
def test_example_runs(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    for picture in tmp_path.rglob("*.png"):
        assert cv2.imread(str(picture)) is not None


@pytest.mark.parametrize("name", RECORDS)
def test_example_that_records(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, make_clip(tmp_path / "clip.mp4", step=6))
    assert done.returncode == 0, done.stderr
    assert RECORDS[name] in done.stdout
    assert verify(tmp_path / name.replace(".py", ".parquet")) == []


@pytest.mark.parametrize("name", RECORDS)
def test_a_source_that_is_not_there(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, "nosuch.mp4")
    assert done.returncode == 1
    assert "Error: nosuch.mp4: no such source" in done.stderr
    assert not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize("name", SAYS)
def test_a_session_that_is_not_there(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, *["nosuch.parquet"] * (2 if name == "did_it_change.py" else 1))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: nosuch.parquet: cannot be read")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in SAYS if name != "did_it_change.py"])
def test_results_of_another_kind(name: str, tmp_path: Path) -> None:
    """Neither boxes nor labels nor pixels; scores that are missing."""
    results = [
        [{"category_id": 1, "score": 34.2}],
        [make_detection(score=...), {"label": "face", "score": 0.5}],
        [],
    ]
    path = write_session(
        tmp_path / "s.parquet", [make_row(i, found) for i, found in enumerate(results)]
    )
    done = run(name, tmp_path, path)
    assert (done.returncode, done.stderr) == (0, "")
    if name == "own_question.py":
        assert "no boxes with a score" in done.stdout


def test_boxes_without_a_score_do_not_count(tmp_path: Path) -> None:
    """NumPy's correlation takes no notice of what a masked array masks."""
    boxes = [[0.0, 0.0, 10.0, side] for side in (10.0, 20.0, 30.0, 99.0)]
    found = [
        make_detection(bbox=box, score=score)
        for box, score in zip(boxes, [0.2, 0.4, 0.6, ...], strict=True)
    ]
    path = write_session(tmp_path / "s.parquet", [make_row(0, found)])
    said = run("own_question.py", tmp_path, path).stdout.splitlines()
    assert said[-2:] == ["3 boxes, median area 200 px", "correlation of area and score: 1.00"]

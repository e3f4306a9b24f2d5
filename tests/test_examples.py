"""Every example runs as its first lines say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from dgrec.replay.verify import verify
from tests.clips import short_clip
from tests.factory import make_detection, make_row, write_session
from tests.waiting import PATIENCE_S

EXAMPLES = Path(__file__).parent.parent / "examples"
#: What each has to say on the bundled session, whatever else.
SAYS = {
    "did_it_change.py": "agreement of 426 detections with 426: 1.000",
    "own_question.py": "426 boxes",
    "slowest_frames.py": "slowest/frame-0000",
    "walkthrough.py": "frames are on their way",
}


#: What those that record say of a clip of 16 frames, in each of which there are faces.
RECORDS = {
    "line_count.py": "frame 14: track 3 crosses line 1 to the left",
    "tracker.py": "track 3: frames 0 to 15",
    "zone_count.py": "right half: at most 2, not empty in 100% of the frames",
    "record_gizmos.py": "s-left.parquet: 16 frames\ns-right.parquet: 16 frames",
    "record_own_loop.py": "16 frames, somebody looked in 16 of them",
    "record_tiles.py": "faces; recorded in s.parquet",
    "record_two_models.py": "s-coarse.parquet: 16 frames of blazeface",
}


def test_each_is_listed_and_checked() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == {*SAYS, *RECORDS, "record_images.py"}
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


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_example_runs(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    for picture in tmp_path.rglob("*.png"):
        assert cv2.imread(str(picture)) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_a_session_that_is_not_there(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, *["nosuch.parquet"] * (2 if name == "did_it_change.py" else 1))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: nosuch.parquet: cannot be read")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_what_records_a_video(name: str, tmp_path: Path) -> None:
    clip = short_clip(tmp_path / "clip.mp4")
    done = run(name, tmp_path, clip, "s.parquet")
    assert done.returncode == 0, done.stderr
    assert RECORDS[name] in done.stdout
    for path in tmp_path.glob("*.parquet"):
        assert verify(path) == []


@pytest.mark.slow
def test_what_records_images(tmp_path: Path) -> None:
    done = run("record_images.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "240.png: 640x360, 3 faces"
    assert verify(tmp_path / "images.parquet") == []


@pytest.mark.slow
def test_the_application_and_its_tests(tmp_path: Path) -> None:
    """They stand beside the sample, as in the repository."""
    for folder in ("examples/count_and_alert", "sample_data"):
        shutil.copytree(EXAMPLES.parent / folder, tmp_path / folder, symlinks=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path / "examples" / "count_and_alert",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert "5 passed" in done.stdout, done.stdout

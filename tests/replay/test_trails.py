"""Paths of tracks: from the last frames, in their own colors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.replay.drawing import Trails
from dgrec.replay.drawing.trails import track_color
from dgrec.replay.query import DetectionFilter
from tests.factory import make_detection, make_row, new_metadata, restart, write_session
from tests.replay.test_render import replay


def boxes(frame: int) -> list[dict[str, Any]]:
    """Track 7 goes to the right; track 8 down, and is not seen in every third frame."""
    found = [make_detection(bbox=[10.0 + 5 * frame, 100.0, 30.0 + 5 * frame, 120.0], track_id=7)]
    if frame % 3:
        box = [300.0, 10.0 + 4 * frame, 320.0, 30.0 + 4 * frame]
        found.append(make_detection(1, bbox=box, track_id=8))
    found.append(make_detection(2))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [make_row(i, boxes(i)) for i in range(40)]
    metadata = new_metadata(source={"kind": "camera", "given": "cam0"})
    return write_session(tmp_path / "s.parquet", rows, metadata)


@pytest.mark.parametrize("order", [range(40), [39, 5, 6, 30, 0]], ids=["in order", "jumping"])
def test_paths(path: Path, order: Any) -> None:
    with dgrec.open(path) as session:
        trails = Trails(session, 10)
        for frame in order:
            last = range(max(0, frame - 9), frame + 1)
            wanted = {7: [(20.0 + 5 * i, 110.0) for i in last]}
            if any(i % 3 for i in last):
                wanted[8] = [(310.0, 20.0 + 4 * i) for i in last if i % 3]
            assert trails.paths(session.result(frame)) == wanted


def test_a_path_begins_anew_with_its_tracker(tmp_path: Path) -> None:
    rows = [make_row(i, boxes(i)) for i in range(40)]
    metadata = new_metadata(events=[restart(rows[20])])
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    with dgrec.open(path) as session:
        trails = Trails(session, 10)
        for frame, first in ((19, 10), (20, 20), (23, 20)):
            paths = trails.paths(session.result(frame))
            assert paths[7] == [(20.0 + 5 * i, 110.0) for i in range(first, frame + 1)]


@pytest.mark.slow
def test_paths_of_detections_that_match(path: Path) -> None:
    with dgrec.open(path) as session:
        kept = DetectionFilter(session, "label = 'car'")
        trails = Trails(session, 5, kept.kept)
        assert set(trails.paths(session.result(20))) == {8}
        kept.close()


def test_drawing(path: Path) -> None:
    with dgrec.open(path) as session:
        trails = Trails(session, 10)
        picture = trails.draw(session.result(20), np.zeros((480, 640, 3), np.uint8))
    for x in range(20 + 5 * 11, 20 + 5 * 20, 5):
        assert tuple(picture[110, x]) == track_color(7)
    assert not picture[110, : 20 + 5 * 11 - 6].any(), "it begins ten frames ago"
    assert tuple(picture[20 + 4 * 17, 310]) == track_color(8)
    assert track_color(7) != track_color(8)


def test_without_track_ids_it_says_so(tmp_path: Path, path: Path) -> None:
    metadata = new_metadata(source={"kind": "camera", "given": "cam0"})
    bare = write_session(tmp_path / "bare.parquet", [make_row(i) for i in range(3)], metadata)
    for session, says in ((bare, True), (path, False)):
        outcome = replay(session, "--trails", 20, "-o", tmp_path / f"{says}.mp4", "--end", 3)
        assert outcome.exit_code == 0
        note = "these frames have no track ids, so there are no trails to draw\n"
        assert (note in outcome.stderr) == says


def test_values_that_nobody_expected(tmp_path: Path) -> None:
    odd = [float("nan"), 0.0, 1e300, 5.0]
    rows = [make_row(i, [make_detection(bbox=odd, track_id=1)]) for i in range(3)]
    rows.append(make_row(3, [make_detection(bbox=[-1e300, 0.0, 1e300, 5.0], track_id=2)]))
    rows.append(make_row(4, [make_detection(bbox=[1e200, 0.0, 1e250, 5.0], track_id=2)]))
    path = write_session(tmp_path / "s.parquet", rows, new_metadata())
    with dgrec.open(path) as session:
        trails = Trails(session, 10)
        for result in session:
            trails.draw(result, np.zeros((48, 64, 3), np.uint8))

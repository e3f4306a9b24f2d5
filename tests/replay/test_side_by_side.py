"""Two sessions beside each other: the same moment on both sides, or a note that there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.replay.rendering.side_by_side import Partners
from tests.factory import START_NS, make_row, write_session
from tests.replay.clips import (
    HEIGHT,
    WIDTH,
    file_source,
    number_drawn,
    number_in,
    numbered_metadata,
    numbered_results,
    numbered_row,
    write_clip,
)
from tests.replay.test_render import pictures, replay

pytestmark = pytest.mark.usefixtures("no_display")

FRAMES = 40


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "numbered.mp4", FRAMES)


def session_of(path: Path, source: dict[str, Any], indices: list[int], **row: Any) -> Path:
    """Return a session of these source frames whose boxes say their numbers."""
    rows = []
    for i, index in enumerate(indices):
        fields = {"width": WIDTH, "height": HEIGHT, "media_time_s": index * 0.04, **row}
        rows.append(make_row(i, numbered_results(index), source_frame=index, **fields))
    return write_session(path, rows, numbered_metadata(source))


def halves(image: Any) -> tuple[Any, Any]:
    """Return both pictures of a composed one: below the bar with the names."""
    top = image.shape[0] - HEIGHT
    return image[top:, :WIDTH], image[top:, image.shape[1] - WIDTH :]


def test_frames_of_the_same_file_meet(tmp_path: Path, clip: Path) -> None:
    one, two = [*range(0, FRAMES, 2)], [*range(0, FRAMES, 3)]
    first = session_of(tmp_path / "one.parquet", file_source(clip), one)
    second = session_of(tmp_path / "two.parquet", file_source(clip), two)
    outcome = replay(first, "--side-by-side", second, "-o", tmp_path / "a.mp4")
    assert outcome.exit_code == 0
    missing = [index for index in one if index not in two]
    assert outcome.stderr == f"two.parquet has no frame for {len(missing)} frames\n"
    images, times = pictures(tmp_path / "a.mp4")
    assert times == [index * 40_000 for index in one]
    for index, image in zip(one, images, strict=True):
        left, right = halves(image)
        assert (number_in(left), number_drawn(left)) == (index, index)
        if index in two:
            assert (number_in(right), number_drawn(right)) == (index, index)
        else:
            assert right.max() > 200, "a note"
            assert np.median(right) < 80


def test_partners_in_any_order(tmp_path: Path, clip: Path) -> None:
    first = session_of(tmp_path / "one.parquet", file_source(clip), list(range(FRAMES)))
    second = session_of(tmp_path / "two.parquet", file_source(clip), list(range(1, FRAMES, 2)))
    with dgrec.open(first) as session, dgrec.open(second) as other:
        partners = Partners(session, other)
        assert partners.by_source_frame
        for index in [0, 1, 39, 38, 2, 3, 17, 17, 18, 35]:
            partner = partners.find(session.row(index))
            found = None if partner is None else partner.row["source_frame"]
            assert found == (index if index % 2 else None)


def test_cameras_meet_by_time(tmp_path: Path) -> None:
    source = {"kind": "camera", "given": "cam0"}
    paths = []
    for name, step_ms, delay_ms in (("one", 100, 0), ("two", 50, 10)):
        rows = [
            numbered_row(
                i,
                i,
                media_time_s=None,
                captured_ns=START_NS + (delay_ms * (i > 0) + i * step_ms) * 10**6,
            )
            for i in range(10)
        ]
        paths.append(write_session(tmp_path / f"{name}.parquet", rows, numbered_metadata(source)))
    outcome = replay(paths[0], "--side-by-side", paths[1], "-o", tmp_path / "a.mp4")
    assert outcome.exit_code == 0
    note = "two.parquet may be of another file: its frames are paired by the time"
    assert note in outcome.stderr
    images, _ = pictures(tmp_path / "a.mp4")
    drawn = [number_drawn(halves(image)[1]) for image in images[:5]]
    assert drawn == [0, 2, 4, 6, 8]  # 0, 110, 210, 310, 410 ms
    assert "two.parquet has no frame for 4 frames" in outcome.stderr  # it ends after 460 ms


def test_other_footage_is_refused(tmp_path: Path, clip: Path) -> None:
    other_clip = write_clip(tmp_path / "other.mp4", 5, first=100)
    first = session_of(tmp_path / "one.parquet", file_source(clip), [0, 1, 2])
    second = session_of(tmp_path / "two.parquet", file_source(other_clip), [0, 1, 2])
    outcome = replay(first, "--side-by-side", second, "-o", tmp_path / "a.mp4")
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: {second}: was recorded from other.mp4, ")
    assert outcome.stderr.count("\n") == 1
    missing = replay(first, "--side-by-side", tmp_path / "no.parquet", "-o", tmp_path / "a.mp4")
    assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "a.mp4").exists()


def test_the_other_footage_is_never_overwritten(tmp_path: Path, clip: Path) -> None:
    own = tmp_path / "own.mp4"
    own.write_bytes(clip.read_bytes())
    first = session_of(tmp_path / "one.parquet", file_source(clip), [0, 1])
    second = session_of(tmp_path / "two.parquet", file_source(own), [0, 1])
    outcome = replay(first, "--side-by-side", second, "-o", own, "--overwrite")
    assert outcome.exit_code == 1
    assert (
        outcome.stderr
        == f"Error: {own}: is the session itself, or its video; choose another name\n"
    )
    assert own.read_bytes() == clip.read_bytes()


def test_sizes_that_differ(tmp_path: Path, clip: Path) -> None:
    """The other one is brought to the height of the first."""
    first = session_of(tmp_path / "one.parquet", file_source(clip), [3, 4, 5])
    second = session_of(
        tmp_path / "two.parquet", file_source(clip), [3, 4, 5], width=2 * WIDTH, height=2 * HEIGHT
    )
    assert replay(first, "--side-by-side", second, "-o", tmp_path / "a.mp4").exit_code == 0
    images, _ = pictures(tmp_path / "a.mp4")
    for index, image in zip([3, 4, 5], images, strict=True):
        left, right = halves(image)
        assert number_in(left) == number_in(right) == index
        assert image.shape[1] >= 2 * WIDTH


@pytest.mark.slow
def test_each_side_is_filtered_and_has_its_own_display(tmp_path: Path, clip: Path) -> None:
    first = session_of(tmp_path / "one.parquet", file_source(clip), [31, 30])
    second = session_of(tmp_path / "two.parquet", file_source(clip), [31])
    options = ["--detections-where", "x_min < 30", "--end", 1, "-o", tmp_path / "a.mp4"]
    assert replay(first, "--side-by-side", second, *options).exit_code == 0
    ((image,), _) = pictures(tmp_path / "a.mp4")
    assert [number_drawn(half) for half in halves(image)] == [1, 1]
    assert replay(first, "--side-by-side", second, *options, "--hud", "--overwrite").exit_code == 0
    ((with_hud,), _) = pictures(tmp_path / "a.mp4")
    for one, other in zip(halves(image), halves(with_hud), strict=True):
        assert np.abs(one[:60, :100].astype(int) - other[:60, :100]).mean() > 20

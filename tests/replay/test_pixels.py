"""Which frame of which video belongs to a row."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec import sample
from dgrec.metadata import Metadata
from replay.pixels import Footage, Pixels, find_footage
from replay.video import Clip
from tests.factory import write_session
from tests.replay.clips import (
    HEIGHT,
    WIDTH,
    file_source,
    number_in,
    numbered_metadata,
    numbered_row,
    write_clip,
)

FRAMES = 90


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "numbered.mp4", FRAMES)


@pytest.fixture(scope="module")
def uneven_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(3)
    pts = [0]
    for _ in range(FRAMES - 1):
        pts.append(pts[-1] + rng.choice([7, 20, 33, 40, 170, 900]))
    return write_clip(tmp_path_factory.mktemp("clip") / "uneven.mp4", FRAMES, pts)


def session_of(
    path: Path, source: dict[str, Any], indices: list[int] | None = None, **overrides: Any
) -> dgrec.Session:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [numbered_row(i, index) for i, index in enumerate(indices or [0, 1, 2])]
    return dgrec.open(write_session(path, rows, numbered_metadata(source, **overrides)))


def row(source_frame: int | None, width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    return {"source_frame": source_frame, "video_frame": None, "width": width, "height": height}


def numbers(pixels: Pixels, indices: list[int]) -> list[int | None]:
    images = [pixels.frame(row(index)) for index in indices]
    return [None if image is None else number_in(image) for image in images]


# --- reading ---


@pytest.mark.parametrize("name", ["clip", "uneven_clip"])
@pytest.mark.parametrize(
    "indices",
    [
        list(range(FRAMES)),
        list(range(0, FRAMES, 3)),
        list(range(2, FRAMES, 7)),
        sorted(random.Random(1).sample(range(FRAMES), 40)),
        [FRAMES - 1],
        [5, 4, 80, 0, 0, 33],
    ],
    ids=["all", "every 3rd", "every 7th", "at random", "the last", "back and forth"],
)
def test_frames_are_found_by_number(
    request: pytest.FixtureRequest, name: str, indices: list[int]
) -> None:
    with Pixels(Footage(request.getfixturevalue(name))) as pixels:
        assert numbers(pixels, indices) == indices


@pytest.mark.parametrize("step", [1, 4, 31])
def test_loops_count_on(clip: Path, step: int) -> None:
    indices = list(range(0, 3 * FRAMES + 11, step))
    with Pixels(Footage(clip, loops=True)) as pixels:
        assert numbers(pixels, indices) == [index % FRAMES for index in indices]


def test_a_late_round_of_a_loop_comes_first(clip: Path) -> None:
    with Pixels(Footage(clip, loops=True)) as pixels:
        assert numbers(pixels, [1000 * FRAMES + 7, 1000 * FRAMES + 9]) == [7, 9]


def test_past_the_end_there_are_no_pixels(clip: Path) -> None:
    with Pixels(Footage(clip)) as pixels:
        assert numbers(pixels, [88, 89, 90, 500, 3]) == [88, 89, None, None, 3]
        (note,) = pixels.notes()
    assert note.startswith("numbered.mp4 ends after 90 frames: 2 recorded frames")


def test_pixels_are_those_of_the_recording(clip: Path) -> None:
    """The recorder reads with OpenCV: bit for bit the same, skipped frames or not."""
    import cv2

    capture = cv2.VideoCapture(str(clip))
    recorded = [capture.read()[1] for _ in range(FRAMES)]
    capture.release()
    reader = Clip(clip)
    for index in range(0, FRAMES, 4):
        image = reader.read(index)
        assert image is not None
        assert np.array_equal(image, recorded[index])
    reader.close()


def test_another_size_is_brought_to_the_recorded_one(clip: Path) -> None:
    with Pixels(Footage(clip)) as pixels:
        image = pixels.frame(row(5, 2 * WIDTH, 2 * HEIGHT))
        assert image is not None
        assert image.shape == (2 * HEIGHT, 2 * WIDTH, 3)
        assert pixels.notes() == [
            f"numbered.mp4 is {WIDTH}x{HEIGHT}: resized to the recorded frame size"
        ]


def test_without_footage_the_canvas_is_blank() -> None:
    with Pixels(Footage(None)) as pixels:
        image = pixels.frame(row(None, 64, 48))
        assert image is not None
        assert image.shape == (48, 64, 3)
        assert image.dtype == np.uint8
        assert not image.any()
        assert pixels.notes() == []


@pytest.mark.parametrize("contents", [b"", b"no video at all" * 400, b"\0\0\0\x18ftypmp42"])
def test_what_is_no_video_is_said(
    tmp_path: Path, contents: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "not.mp4"
    path.write_bytes(contents)
    with pytest.raises(dgrec.VideoError, match=r"not\.mp4: not a video that OpenCV can read"):
        Pixels(Footage(path))
    assert capfd.readouterr() == ("", ""), "FFmpeg's own remarks belong nowhere"


# --- finding ---


def test_the_file_is_where_it_was(tmp_path: Path, clip: Path) -> None:
    with session_of(tmp_path / "s.parquet", file_source(clip)) as session:
        assert find_footage(session) == Footage(clip)


def test_looping_is_known(tmp_path: Path, clip: Path) -> None:
    with session_of(tmp_path / "s.parquet", file_source(clip, loop=True)) as session:
        assert find_footage(session).loops


def test_session_and_file_moved_together(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "media").mkdir(parents=True)
    path = write_clip(old / "media" / "a.mp4", 3)
    session_of(old / "sessions" / "s.parquet", file_source(path, old / "sessions")).close()
    old.rename(tmp_path / "new")
    with dgrec.open(tmp_path / "new" / "sessions" / "s.parquet") as session:
        found = find_footage(session)
    assert found.path is not None
    assert found.path.resolve() == tmp_path / "new" / "media" / "a.mp4"
    assert found.note == ""


def test_only_the_session_moved(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 3)
    source = file_source(path, tmp_path)
    # Where the session is now, another file has the name: the right one is still found.
    with session_of(tmp_path / "far" / "s.parquet", source) as session:
        assert find_footage(session) == Footage(path)
        write_clip(tmp_path / "far" / "a.mp4", 4, first=50)
        assert find_footage(session) == Footage(path)


@pytest.mark.parametrize("keep_size", [True, False])
def test_a_changed_file_is_not_taken(tmp_path: Path, keep_size: bool) -> None:
    path = write_clip(tmp_path / "a.mp4", 3)
    source = file_source(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data) if keep_size else bytes(data) + b"more")
    with session_of(tmp_path / "s.parquet", source) as session:
        found = find_footage(session)
        assert found.path is None
        assert found.note.startswith("a.mp4 is no longer the file that was recorded: drawing on")
        given = find_footage(session, path)
    assert given.path == path
    why = "its contents have changed" if keep_size else "bytes instead of"
    assert "a.mp4 is not the file that was recorded: " in given.note
    assert why in given.note


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 3)
    source = file_source(path)
    path.rename(tmp_path / "b.mp4")
    with session_of(tmp_path / "s.parquet", source) as session:
        found = find_footage(session)
        assert found.path is None
        assert found.note.startswith("a.mp4 is not where it was: drawing on a blank canvas")
        assert find_footage(session, tmp_path / "b.mp4") == Footage(tmp_path / "b.mp4")
        with pytest.raises(dgrec.VideoError, match=r"c\.mp4: no such file"):
            find_footage(session, tmp_path / "c.mp4")
        with pytest.raises(dgrec.VideoError, match="not a video file"):
            find_footage(session, tmp_path)


def test_the_sample_is_found_wherever_it_is_installed(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = file_source(clip, kind="sample")
    del source["path"]
    monkeypatch.setattr(sample, "CLIP", clip)
    with session_of(tmp_path / "s.parquet", source) as session:
        assert find_footage(session) == Footage(clip)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"given": "cam0", "kind": "camera"}, "the source was a camera"),
        ({"given": "rtsp://***@cam/1", "kind": "url"}, "the source was a stream"),
        ({}, "the source is not where it was"),
        ({"kind": "file", "path": 7, "relative": ["x"], "size": "?"}, "the source is not where"),
        (None, "the source is not where it was"),
    ],
)
def test_sources_without_a_file(tmp_path: Path, source: Any, reason: str) -> None:
    with session_of(tmp_path / "s.parquet", source) as session:
        found = find_footage(session)
    assert found.path is None
    assert found.note.startswith(reason)


def camera_session(folder: Path, video: Path, frames: list[int | None]) -> dgrec.Session:
    """Write a session of a camera with a recorded video beside it."""
    metadata: Metadata = numbered_metadata({"given": "cam0", "kind": "camera"})
    metadata["video"] = [
        {"file": "s.annotated.mp4", "kind": "annotated", "size": 1, "sha256": "0"},
        {
            "file": video.name,
            "kind": "raw",
            "size": video.stat().st_size,
            "sha256": hashlib.sha256(video.read_bytes()).hexdigest(),
        },
    ]
    rows = [numbered_row(i, 1000 + 5 * i, video_frame=at) for i, at in enumerate(frames)]
    return dgrec.open(write_session(folder / "s.parquet", rows, metadata))


def test_the_video_recorded_beside_a_camera_session(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "s.mp4", 5)
    with camera_session(tmp_path, video, [0, 1, None, 2, 4]) as session:
        found = find_footage(session)
        assert found == Footage(video, "video_frame")
        assert find_footage(session, video) == found
        with Pixels(found) as pixels:
            images = [pixels.frame(result.row) for result in session]
            assert [None if im is None else number_in(im) for im in images] == [0, 1, None, 2, 4]
            (note,) = pixels.notes()
        assert note.startswith("not every frame is in s.mp4: 1 recorded frame")
        video.write_bytes(video.read_bytes() + b"x")
        assert find_footage(session).path is None
        assert find_footage(session, video).column == "video_frame"


def test_a_recorded_video_stands_in_for_a_lost_file(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "s.mp4", 3)
    path = write_clip(tmp_path / "a.mp4", 3)
    source = file_source(path)
    path.unlink()
    listed = [{"file": "../elsewhere/s.mp4", "kind": "raw"}]  # only its last part counts
    with session_of(tmp_path / "s.parquet", source, video=listed) as session:
        found = find_footage(session)
    assert (found.path, found.column) == (video, "video_frame")
    assert found.note == "a.mp4 is not where it was: using s.mp4"

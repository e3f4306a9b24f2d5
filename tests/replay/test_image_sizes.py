"""Sessions whose images are of different sizes: one canvas, and each picture as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import Result

import dgrec as library
from dgrec.replay.merging import merge
from dgrec.replay.rendering import canvas_for
from dgrec.replay.rendering.render import OverlayPainter
from dgrec.replay.verify import verify
from tests.factory import CAMERA, make_row, new_metadata, write_session
from tests.recorder.doubles import PysdkDouble

Run = Callable[..., Result]
#: The first is neither the widest nor the highest.
SIZES = [(96, 64), (64, 96), (160, 48), (48, 48), (96, 64), (33, 31)]


def images() -> list[np.ndarray[Any, Any]]:
    """Pictures with a mark in the lower right quarter, each in a colour of its own."""
    made = []
    for number, (width, height) in enumerate(SIZES):
        image = np.full((height, width, 3), (200, 60, 30 * number), np.uint8)
        image[height // 2 :, width // 2 :] = (30 * number, 220, 40)
        made.append(image)
    return made


def results_of(pictures: list[Any]) -> list[Any]:
    def infer(index: int) -> list[dict[str, Any]]:
        width, height = SIZES[index]
        box = [2.0, 3.0, width - 4.0, height - 5.0]
        return [{"bbox": box, "label": "car", "category_id": 1, "score": 0.5}]

    return list(PysdkDouble("Detection", infer).predict_batch(iter(pictures)))


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "sizes.parquet"
    with library.Recorder(path, video="both") as recorder:
        for number, result in enumerate(results_of(images())):
            recorder.add(result, media_time_s=number / 10)
    return path


def decoded(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_each_picture_is_read_in_its_own_size(session: Path) -> None:
    assert verify(session) == []
    with library.open(session) as opened:
        assert [frame.size for frame in opened] == SIZES
        with opened.pixels() as pixels:
            frames = list(pixels.results(opened))
    assert [frame.image.shape[1::-1] for frame in frames] == SIZES
    for frame, image, result in zip(frames, images(), results_of(images()), strict=True):
        assert difference(frame.image, image) < 12  # colour is halved, and sizes were changed
        assert difference(frame.image_overlay, result.image_overlay) < 12
        assert frame.overlay(image).tobytes() == result.image_overlay.tobytes()


def test_recorded_videos_have_the_size_of_the_first_frame(session: Path) -> None:
    raw, annotated = (decoded(session.with_name(f"sizes{end}.mp4")) for end in ("", ".annotated"))
    assert len(raw) == len(annotated) == len(SIZES)
    assert {picture.shape for picture in (*raw, *annotated)} == {(64, 96, 3)}
    # An overlay keeps its shape: beside the upright picture it is black.
    assert annotated[1][:, 60:].max() < 20
    assert annotated[1][:60, :40].max() > 100


@pytest.mark.parametrize("backend", ["opencv", "pil"])
def test_pictures_of_pil_in_both_videos(tmp_path: Path, backend: str) -> None:
    from PIL import Image

    pictures: list[Any] = images()
    if backend == "pil":
        pictures = [Image.fromarray(image[..., ::-1].copy()) for image in pictures]
    path = tmp_path / "pil.parquet"
    results = results_of(pictures)
    with library.Recorder(path, video="both") as recorder:
        for result in results:
            recorder.add(result)
    assert verify(path) == []
    with library.open(path) as opened, opened.pixels() as pixels:
        for frame, image in zip(pixels.results(opened), images(), strict=True):
            assert difference(frame.image, image) < 12
    shown = decoded(path.with_name("pil.annotated.mp4"))
    first = np.asarray(results[0].image_overlay)
    first = first[..., ::-1] if backend == "pil" else first
    assert difference(shown[0], first) < 12


def test_a_replay_shows_all_pictures_whole(session: Path, dgrec: Run) -> None:
    output = session.with_name("replay.mp4")
    run = dgrec("replay", session, "-o", output)
    assert run.exit_code == 0, run.output
    pictures = decoded(output)
    assert {picture.shape for picture in pictures} == {(96, 160, 3)}
    for picture, result in zip(pictures, results_of(images()), strict=False):
        overlay = result.image_overlay
        height, width = overlay.shape[:2]
        assert difference(picture[:height, :width], overlay) < 20
        assert picture[height + 2 :].max(initial=0) < 30
        assert picture[:, width + 2 :].max(initial=0) < 30


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "sheet.png", "--contact-sheet", "3x2"],
        ["-o", "small.gif", "--size", "80x"],
        ["-o", "hud.mp4", "--hud", "--trails", "4"],
        ["-o", "blurred.mp4", "--redact", "car"],
    ],
    ids=lambda options: options[1],
)
def test_every_kind_of_replay(session: Path, dgrec: Run, options: list[str]) -> None:
    output = session.parent / options[1]
    run = dgrec("replay", session, "-o", output, *options[2:])
    assert run.exit_code == 0, run.output
    assert output.exists()


def test_pictures_in_a_folder_keep_their_sizes(session: Path, dgrec: Run) -> None:
    folder = session.with_name("pictures")
    run = dgrec("replay", session, "-o", f"{folder}/", "--frames", "png")
    assert run.exit_code == 0, run.output
    found = [cv2.imread(str(path)).shape[1::-1] for path in sorted(folder.iterdir())]
    assert found == SIZES


@pytest.mark.slow
def test_clips_reports_and_comparisons(session: Path, dgrec: Run) -> None:
    clip = session.with_name("clip.parquet")
    run = dgrec("clip", session, "--start", "1", "--end", "4", "-o", clip)
    assert run.exit_code == 0, run.output
    assert verify(clip) == []
    with library.open(clip) as opened, opened.pixels() as pixels:
        frames = list(pixels.results(opened))
        assert [frame.size for frame in frames] == SIZES[1:4]
        for frame, image in zip(frames, images()[1:4], strict=True):
            assert difference(frame.image, image) < 20
    run = dgrec("report", session, "-o", session.with_name("r.html"))
    assert run.exit_code == 0, run.output
    run = dgrec("compare", session, clip, "--format", "json")
    assert run.exit_code == 0, run.output
    run = dgrec("replay", session, "--side-by-side", clip, "-o", session.with_name("b.mp4"))
    assert run.exit_code == 0, run.output


@pytest.mark.slow
def test_recordings_of_two_sizes_are_merged_with_each_pixel_in_its_place(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("upper.parquet", "lower.parquet")]
    for path, result in zip(paths, results_of(images()[:2]), strict=True):
        with library.Recorder(path, video="both") as recorder:
            recorder.add(result)
    merged = tmp_path / "merged.parquet"
    merge(paths, merged)
    assert verify(merged) == []
    with library.open(merged) as opened, opened.pixels() as pixels:
        frames = list(pixels.results(opened))
        assert [frame.size for frame in frames] == SIZES[:2]
        for frame, image in zip(frames, images(), strict=False):
            assert difference(frame.image, image) < 12
    # An overlay keeps its shape.
    annotated = decoded(merged.with_name("merged.annotated.mp4"))
    assert annotated[1][:, 60:].max() < 20


@pytest.mark.parametrize(
    "more",
    [
        {"clip": {"ranges": [[0, 1], [9, 10]]}},
        {"events": [{"kind": "gap", "ended": None, "source_frame": 1}]},
    ],
    ids=["clip", "continued"],
)
def test_a_change_of_size_without_an_event(tmp_path: Path, more: dict[str, Any]) -> None:
    rows = [make_row(i, width=w, height=h) for i, (w, h) in enumerate(SIZES[:2])]
    path = write_session(tmp_path / "s.parquet", rows, new_metadata("s", source=CAMERA, **more))
    with library.open(path) as opened:
        canvas = canvas_for(opened, OverlayPainter())
    assert (canvas.width, canvas.height) == (96, 96)


def test_the_canvas_counts_only_the_frames_that_are_drawn(session: Path) -> None:
    with library.open(session) as opened:
        painter = OverlayPainter()
        assert (canvas_for(opened, painter).width, canvas_for(opened, painter).height) == (160, 96)
        canvas = canvas_for(opened, painter, 3, 4)
        assert (canvas.width, canvas.height) == (48, 48)

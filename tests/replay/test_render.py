"""`dgrec replay --output`: every picture carries its own row's number and results."""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

import dgrec
from dgrec.cli import RootGroup
from dgrec.footage import Footage, Pixels, Timeline
from dgrec.replay.commands.replay import replay_command
from dgrec.replay.rendering import Canvas, canvas_for, write_replay
from dgrec.replay.rendering.render import OverlayPainter, replay_frames
from dgrec.video import VideoWriter, writer
from tests.factory import START_NS, make_row, new_metadata, write_journal, write_session
from tests.replay.clips import (
    HEIGHT,
    WIDTH,
    file_source,
    number_drawn,
    number_in,
    numbered_metadata,
    numbered_row,
    write_clip,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_display")

FRAMES = 75


@pytest.fixture(scope="module")
def uneven_ms() -> list[int]:
    rng = random.Random(3)
    steps = [rng.choice([7, 20, 33, 40, 170, 900]) for _ in range(FRAMES - 1)]
    return [0, *itertools.accumulate(steps)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, uneven_ms: list[int]) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "uneven.mp4", FRAMES, uneven_ms)


def replay(*arguments: Any) -> Result:
    root = RootGroup(name="dgrec", commands=[replay_command])
    return CliRunner().invoke(root, ["replay", *map(str, arguments)])


def session_at(
    path: Path, clip: Path, indices: list[int], media_ms: list[int] | None = None, **source: Any
) -> Path:
    rows = [
        numbered_row(i, index, media_time_s=media_ms[index] / 1000 if media_ms else None)
        for i, index in enumerate(indices)
    ]
    return write_session(path, rows, numbered_metadata(file_source(clip, **source)))


def pictures(path: Path) -> tuple[list[Any], list[int]]:
    """Return the frames of a video and their times in microseconds."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    images = [frame.to_ndarray(format="bgr24") for frame in decoded]
    return images, [round(frame.pts * frame.time_base * 1_000_000) for frame in decoded]


SELECTIONS = {
    "all": list(range(FRAMES)),
    "every 3rd": list(range(0, FRAMES, 3)),
    "from late on": list(range(50, FRAMES, 2)),
    "at random": sorted(random.Random(5).sample(range(FRAMES), 31)),
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_picture_is_its_own_rows(
    tmp_path: Path, clip: Path, uneven_ms: list[int], selection: str
) -> None:
    indices = SELECTIONS[selection]
    session = session_at(tmp_path / "s.parquet", clip, indices, uneven_ms)
    outcome = replay(session)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    output = tmp_path / "s.replay.mp4"
    assert outcome.stdout.startswith(f"{output}: {len(indices)} frames, ")
    images, times = pictures(output)
    assert [number_in(image) for image in images] == indices
    assert [number_drawn(image) for image in images] == list(range(len(indices)))
    assert times == [(uneven_ms[index] - uneven_ms[indices[0]]) * 1000 for index in indices]


def test_loops(tmp_path: Path, clip: Path) -> None:
    indices = list(range(0, 2 * FRAMES + 20, 5))
    session = session_at(tmp_path / "s.parquet", clip, indices, loop=True)
    assert replay(session).exit_code == 0
    images, times = pictures(tmp_path / "s.replay.mp4")
    assert [number_in(image) for image in images] == [index % FRAMES for index in indices]
    assert [number_drawn(image) for image in images] == list(range(len(indices)))
    # No media time: the capture times count (in microseconds, as they are kept).
    stamps = [(START_NS + i * 33_366_700) // 1000 for i in range(len(indices))]
    assert times == [stamp - stamps[0] for stamp in stamps]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--start", 10], range(10, FRAMES)),
        (["--end", 12], range(12)),
        (["--start", 64, "--end", 70], range(64, 70)),
        (["--start", 60, "--max-frames", 4], range(60, 64)),
        (["--max-frames", 10_000], range(FRAMES)),
    ],
)
def test_a_part(tmp_path: Path, clip: Path, options: list[Any], expected: range) -> None:
    session = session_at(tmp_path / "s.parquet", clip, list(range(FRAMES)))
    output = tmp_path / "part.mp4"
    assert replay(session, "--output", output, *options).exit_code == 0
    images, times = pictures(output)
    assert [number_in(image) for image in images] == list(expected)
    assert [number_drawn(image) for image in images] == list(expected)
    assert times[0] == 0


def test_a_journal_is_replayed_too(tmp_path: Path, clip: Path) -> None:
    rows = [numbered_row(i, i) for i in range(25)]
    metadata = numbered_metadata(file_source(clip))
    journal = write_journal(tmp_path / "s.arrows", rows, metadata, end=False)
    with journal.open("ab") as file:
        file.write(b"torn off in the middle")
    outcome = replay(journal)
    assert outcome.exit_code == 0
    assert outcome.stderr.count("\n") == 1
    assert "the result is of what can be read" in outcome.stderr
    images, _ = pictures(tmp_path / "s.replay.mp4")
    assert [number_drawn(image) for image in images] == list(range(25))


def test_a_video_that_is_too_short(tmp_path: Path, clip: Path) -> None:
    session = session_at(tmp_path / "s.parquet", clip, list(range(0, 100, 5)))
    outcome = replay(session)
    assert outcome.exit_code == 0
    assert outcome.stderr == (
        f"uneven.mp4 ends after {FRAMES} frames: "
        "5 recorded frames have no pixels and are left out\n"
    )
    images, _ = pictures(tmp_path / "s.replay.mp4")
    assert [number_drawn(image) for image in images] == list(range(15))


def test_a_video_that_has_none_of_the_frames(tmp_path: Path, clip: Path) -> None:
    session = session_at(tmp_path / "s.parquet", clip, [100, 101])
    outcome = replay(session)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: uneven.mp4 ends after {FRAMES} frames: ")
    assert [file.name for file in tmp_path.iterdir()] == ["s.parquet"]


def test_a_blank_canvas(tmp_path: Path) -> None:
    rows = [numbered_row(i, 9 * i) for i in range(7)]
    metadata = numbered_metadata({"given": "cam0", "kind": "camera"})
    session = write_session(tmp_path / "s.parquet", rows, metadata)
    outcome = replay(session)
    assert outcome.exit_code == 0
    assert outcome.stderr == (
        "the source was a camera: drawing on a blank canvas "
        "(--video PATH says where the pixels are)\n"
    )
    images, _ = pictures(tmp_path / "s.replay.mp4")
    assert images[0].shape == (HEIGHT, WIDTH, 3)
    assert [number_drawn(image) for image in images] == list(range(7))


# --- the file ---


def run_ffprobe(path: Path, *arguments: str) -> dict[str, Any]:
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    done = subprocess.run(
        ["ffprobe", "-v", "warning", "-of", "json", *arguments, str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == "", "ffprobe warns"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_file_plays_in_browsers(tmp_path: Path, clip: Path, uneven_ms: list[int]) -> None:
    session = session_at(tmp_path / "s.parquet", clip, list(range(FRAMES)), uneven_ms)
    assert replay(session).exit_code == 0
    output = tmp_path / "s.replay.mp4"
    data = output.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "playing must not wait for the whole file"
    found = run_ffprobe(output, "-show_streams", "-show_packets")
    (stream,) = found["streams"]
    wanted = {
        "codec_name": "h264",
        "pix_fmt": "yuv420p",
        "has_b_frames": 0,
        "time_base": "1/1000000",
        "start_pts": 0,
        "color_space": "bt709",
        "color_range": "tv",
        "width": WIDTH,
        "height": HEIGHT,
    }
    assert {key: stream[key] for key in wanted} == wanted
    times = [packet["pts"] for packet in found["packets"]]
    assert times == [packet["dts"] for packet in found["packets"]]
    assert times == [ms * 1000 for ms in uneven_ms]
    keys = [packet["pts"] for packet in found["packets"] if "K" in packet["flags"]]
    assert keys[0] == 0
    for time_us in times:
        assert time_us - max(key for key in keys if key <= time_us) < 1_000_000
    assert len(keys) < len(times)
    # The last frame lasts as long as the one before it.
    length = times[-1] + times[-1] - times[-2]
    assert float(stream["duration"]) == pytest.approx(length / 1e6, abs=2e-6)


@pytest.mark.slow
def test_decoders_find_nothing_wrong(tmp_path: Path, clip: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    session = session_at(tmp_path / "s.parquet", clip, list(range(FRAMES)))
    assert replay(session).exit_code == 0
    output = tmp_path / "s.replay.mp4"
    command = ["ffmpeg", "-v", "warning", "-i", str(output), "-f", "null", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == ""


def test_colors_survive(tmp_path: Path) -> None:
    path = tmp_path / "colors.mp4"
    colors = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (200, 100, 50), (255, 255, 255), (9, 9, 9)]
    picture = np.repeat(np.array([colors], np.uint8), 32, 1).repeat(64, 0)
    with VideoWriter(path, picture.shape[1], 64) as writer:
        writer.write(picture, 0)
    (image,), _ = pictures(path)
    seen = image[32, 16::32].astype(int)
    assert np.abs(seen - np.array(colors)).max() < 8


def test_the_newer_time_must_be_later(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, 64, 64)
    writer.write(picture, 100)
    with pytest.raises(ValueError, match="does not come after"):
        writer.write(picture, 100)
    writer.discard()
    assert list(tmp_path.iterdir()) == []


# --- names and places ---


def test_an_existing_file_is_not_replaced(tmp_path: Path, clip: Path) -> None:
    session = session_at(tmp_path / "s.parquet", clip, [1, 2, 3])
    output = tmp_path / "s.replay.mp4"
    output.write_text("mine")
    outcome = replay(session)
    assert outcome.exit_code == 1
    assert outcome.stderr == (
        f"Error: {output}: exists already; choose another name or say --overwrite\n"
    )
    assert output.read_text() == "mine"
    assert replay(session, "--overwrite").exit_code == 0
    assert len(pictures(output)[0]) == 3
    assert {file.name for file in tmp_path.iterdir()} == {"s.parquet", "s.replay.mp4"}


def test_the_footage_is_never_overwritten(tmp_path: Path) -> None:
    footage = write_clip(tmp_path / "a.mp4", 3)
    before = footage.read_bytes()
    session = session_at(tmp_path / "s.parquet", footage, [0, 1])
    outcome = replay(session, "--output", footage, "--overwrite")
    assert outcome.exit_code == 1
    assert (
        outcome.stderr
        == f"Error: {footage}: is the session itself, or its video; choose another name\n"
    )
    assert footage.read_bytes() == before


def test_an_annotated_video_is_shown_as_it_is(tmp_path: Path) -> None:
    """Drawn once, and where it was drawn: its frames count from the first row, not the source's."""
    drawn = write_clip(tmp_path / "s.annotated.mp4", 5)
    digest = hashlib.sha256(drawn.read_bytes()).hexdigest()
    entry = {"file": drawn.name, "kind": "annotated", "sha256": digest, "frames": 5}
    metadata = numbered_metadata({"given": "http://cam", "kind": "url"}, video=[entry])
    rows = [numbered_row(i, 14 + i, video_frame=i) for i in range(5)]
    session = write_session(tmp_path / "s.parquet", rows, metadata)
    assert str(drawn) in replay(session, "-o", tmp_path / "blank.mp4").stderr
    shared = drawn.rename(tmp_path / "shared.mp4")
    output = tmp_path / "a.mp4"
    outcome = replay(session, "--video", shared, "-o", output)
    assert outcome.exit_code == 0
    assert outcome.stderr == (
        f"{shared} has the overlay in it already: shown as it was drawn live\n"
    )
    images, _ = pictures(output)
    assert [number_in(image) for image in images] == list(range(5))
    assert {number_drawn(image) for image in images} == {0}
    for options in (["--redact", "all"], ["--no-overlay"], ["--blur", "all"], ["--trails", "5"]):
        outcome = replay(session, "--video", shared, "-o", output, "--overwrite", *options)
        assert outcome.exit_code == 1
        assert outcome.stderr == (
            f"Error: {shared}: has the overlay in it already, as it was drawn live; "
            f"{options[0]} needs the pixels without it\n"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detections-where", "nosuch = 1"], "--detections-where 'nosuch = 1': "),
        (["--where", "nosuch = 1"], "--where 'nosuch = 1': "),
        (["--video", "nosuch.mp4"], "nosuch.mp4: no such file"),
        (["--redact", "nosuch"], "--redact nosuch: no such label was recorded"),
        (["--side-by-side", "nosuch.parquet"], "nosuch.parquet: cannot be read"),
        ([], "s.replay.mp4: exists already"),
    ],
)
def test_a_mistake_is_said_before_a_name_that_is_taken(
    tmp_path: Path, clip: Path, options: list[str], message: str
) -> None:
    session = session_at(tmp_path / "s.parquet", clip, [0, 1])
    (tmp_path / "s.replay.mp4").write_text("mine")
    outcome = replay(session, *options)
    assert outcome.exit_code == 1
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr


@pytest.mark.parametrize("kind", ["raw", "annotated"])
def test_recorded_videos_are_never_overwritten(tmp_path: Path, clip: Path, kind: str) -> None:
    """Not even where the pixels come from elsewhere: a recorded video cannot be had again."""
    video = write_clip(tmp_path / "s.mp4", 3)
    before = video.read_bytes()
    metadata = numbered_metadata(file_source(clip), video=[{"file": "s.mp4", "kind": kind}])
    rows = [numbered_row(i, i) for i in range(3)]
    session = write_session(tmp_path / "s.parquet", rows, metadata)
    outcome = replay(session, "--output", video, "--overwrite")
    assert outcome.exit_code == 1
    assert (
        outcome.stderr
        == f"Error: {video}: is the session itself, or its video; choose another name\n"
    )
    assert video.read_bytes() == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("nowhere/a.mp4", "there is no folder"),
        ("a.avi", "choose a name that ends in .mp4"),
        ("folder.mp4", "is a folder"),
        ("s.parquet/a.mp4", "there is no folder"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, clip: Path, output: str, message: str) -> None:
    session = session_at(tmp_path / "s.parquet", clip, [0, 1])
    (tmp_path / "folder.mp4").mkdir()
    outcome = replay(session, "--output", tmp_path / output)
    assert outcome.exit_code == 1
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr


def test_a_disk_that_fills_up(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and no half a file; here the encoder's 20th frame meets a full disk."""
    session = session_at(tmp_path / "s.parquet", clip, list(range(FRAMES)))
    write = VideoWriter.write

    def fails(self: VideoWriter, *arguments: Any) -> None:
        if self.frames == 20:
            with self._errors():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, *arguments)

    monkeypatch.setattr(VideoWriter, "write", fails)
    outcome = replay(session)
    assert outcome.exit_code == 4
    assert outcome.stderr == (
        f"Error: {tmp_path / 's.replay.mp4'}: cannot be written: No space left on device\n"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["s.parquet"]


def test_a_name_that_is_taken_at_the_last_moment(tmp_path: Path, clip: Path) -> None:
    session = session_at(tmp_path / "s.parquet", clip, [0, 1, 2])
    output = tmp_path / "a.mp4"
    with dgrec.open(session) as opened, Pixels(Footage(clip)) as pixels:

        def make_folder(frame: int) -> None:
            output.mkdir(exist_ok=True)

        with pytest.raises(dgrec.OutputError, match=r"a\.mp4: exists already"):
            write_replay(opened, pixels, output, progress=make_folder)
    assert {file.name for file in tmp_path.iterdir()} == {"s.parquet", "a.mp4"}


def test_no_encoder(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_ENCODERS", {"lib-none": {}})
    session = session_at(tmp_path / "s.parquet", clip, [0, 1])
    outcome = replay(session)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("Error: the installed PyAV cannot encode H.264; ")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_killed_replay_leaves_no_file(tmp_path: Path, clip: Path) -> None:
    session = session_at(tmp_path / "s.parquet", clip, list(range(20_000)), loop=True)
    code = "from tests.replay.test_render import replay; import sys; replay(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code, str(session)], env=environment)
    # It must still be at work when it is killed.
    new = ".s.replay.mp4.*.new"
    wait_until(
        lambda: any(file.stat().st_size > 10_000 for file in tmp_path.glob(new)), process=process
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "s.replay.mp4").exists()
    # What it left does not stand in the way of the next one.
    assert replay(session, "--end", 5).exit_code == 0
    assert {file.name for file in tmp_path.iterdir()} == {"s.parquet", "s.replay.mp4"}


def test_interrupted_by_the_user(tmp_path: Path, clip: Path) -> None:
    session = session_at(tmp_path / "s.parquet", clip, list(range(FRAMES)))

    def interrupt(frame: int) -> None:
        if frame == 30:
            raise KeyboardInterrupt

    with (
        dgrec.open(session) as opened,
        Pixels(Footage(clip)) as pixels,
        pytest.raises(KeyboardInterrupt),
    ):
        write_replay(opened, pixels, tmp_path / "a.mp4", progress=interrupt)
    assert [file.name for file in tmp_path.iterdir()] == ["s.parquet"]


# --- what cannot be replayed ---


def test_sessions_that_are_none(tmp_path: Path, clip: Path) -> None:
    empty = write_session(tmp_path / "empty.parquet", [], numbered_metadata(file_source(clip)))
    (tmp_path / "text.parquet").write_text("hello")
    for path, message in [
        (empty, "no frames were recorded"),
        (tmp_path / "text.parquet", "text.parquet"),
        (tmp_path / "missing.parquet", "cannot be read: No such file"),
        (tmp_path, "it is a folder; name one session in it"),
    ]:
        outcome = replay(path)
        assert outcome.exit_code == 1
        assert message in outcome.stderr
        assert outcome.stderr.count("\n") == 1


def test_start_past_the_end(tmp_path: Path, clip: Path) -> None:
    session = session_at(tmp_path / "s.parquet", clip, [0, 1])
    outcome = replay(session, "--start", 2)
    assert outcome.exit_code == 1
    assert outcome.stderr == f"Error: {session}: has 2 frames; --start 2 is past the end\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--alpha", "2"],
        ["--alpha", "much"],
        ["--color", "256,0,0"],
        ["--color", "reddish"],
        ["--line-width", "-1"],
        ["--font-scale", "0"],
        ["--blur", "all", "--no-blur"],
        ["--start", "5", "--end", "5"],
    ],
)
def test_values_that_make_no_sense(tmp_path: Path, clip: Path, options: list[str]) -> None:
    session = session_at(tmp_path / "s.parquet", clip, [0, 1])
    outcome = replay(session, *options)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("Usage: ")


def test_results_that_cannot_be_drawn(tmp_path: Path, clip: Path) -> None:
    rows = [numbered_row(i, i) for i in range(6)]
    rows[2].results[0]["bbox"] = [float("nan")] * 4 if rows[2].results else []
    session = write_session(tmp_path / "s.parquet", rows, numbered_metadata(file_source(clip)))
    outcome = replay(session)
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith("the results of 1 frame cannot be drawn (frame 2: ")
    images, _ = pictures(tmp_path / "s.replay.mp4")
    assert [number_drawn(image) for image in images] == [0, 1, 0, 3, 4, 5]


def test_a_type_that_pysdk_does_not_know(tmp_path: Path, clip: Path) -> None:
    metadata = numbered_metadata(file_source(clip))
    metadata["model"]["result_type"] = "Holograms"
    session = write_session(tmp_path / "s.parquet", [numbered_row(0, 0)], metadata)
    outcome = replay(session)
    assert outcome.exit_code == 1
    assert "result type 'Holograms' is not known" in outcome.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["s.parquet"]


# --- overlay options, sizes, times ---


def test_overlay_options_replace_what_was_recorded(tmp_path: Path, clip: Path) -> None:
    session = session_at(tmp_path / "s.parquet", clip, [0, 4095 % FRAMES])
    for options, color in [([], (255, 255, 255)), (["--color", "#ff0000"], (0, 0, 255))]:
        output = tmp_path / f"{len(options)}.mp4"
        assert replay(session, "--output", output, *options).exit_code == 0
        images, _ = pictures(output)
        block = images[1][4 * 24 + 10 : 4 * 24 + 14, 10:14].reshape(-1, 3).astype(int)
        assert np.abs(block.mean(0) - color).max() < 25


@pytest.mark.slow
def test_all_overlay_options(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    init = OverlayPainter.__init__

    def remember(self: OverlayPainter, settings: Any = None, analyzers: Any = ()) -> None:
        seen.append(dict(settings))
        init(self, settings, analyzers)

    monkeypatch.setattr(OverlayPainter, "__init__", remember)
    session = session_at(tmp_path / "s.parquet", clip, [0, 1])
    arguments = "--line-width 2 --show-labels --no-show-probabilities --alpha auto --font-scale 2"
    more = "--color 1,2,3 --color #0a0b0c --blur car --blur dog"
    assert replay(session, *arguments.split(), *more.split()).exit_code == 0
    assert replay(session, "--overwrite", "--no-blur", "--alpha", "0.5").exit_code == 0
    assert seen == [
        {
            "line_width": 2,
            "show_labels": True,
            "show_probabilities": False,
            "alpha": "auto",
            "font_scale": 2.0,
            "color": [(1, 2, 3), (10, 11, 12)],
            "blur": ["car", "dog"],
        },
        {"blur": None, "alpha": 0.5},
    ]


def test_labels_below_get_room(tmp_path: Path) -> None:
    """Classification enlarges pictures by its labels; the video is as large as the largest."""
    metadata = new_metadata(source={"kind": "camera"})
    metadata["model"]["result_type"] = "Classification"
    counts = [0, 1, 5, 2]
    rows = [
        make_row(
            i,
            [{"category_id": k, "label": f"class {k}", "score": 0.5} for k in range(count)],
            width=200,
            height=101,
        )
        for i, count in enumerate(counts)
    ]
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    with dgrec.open(path) as session, Pixels(Footage(None)) as pixels:
        painter = OverlayPainter()
        canvas = canvas_for(session, painter)
        drawn = [
            painter.draw(frame.result, frame.image) for frame in replay_frames(session, pixels)
        ]
        assert drawn[0].shape == (101, 200, 3)
        assert len({picture.shape for picture in drawn}) == len(counts)
        largest = drawn[2].shape
        assert (canvas.height, canvas.width) == (largest[0] + largest[0] % 2, largest[1])
        write_replay(session, pixels, tmp_path / "a.mp4")
    images, _ = pictures(tmp_path / "a.mp4")
    assert {image.shape for image in images} == {(canvas.height, canvas.width, 3)}


def test_canvas() -> None:
    canvas = Canvas(7, 5)
    assert (canvas.width, canvas.height) == (8, 6)
    full = np.full((6, 8, 3), 9, np.uint8)
    assert canvas.fit(full) is full
    odd = canvas.fit(np.full((5, 7, 3), 9, np.uint8))
    assert odd.shape == (6, 8, 3)
    assert odd[:5, :7].min() == 9
    assert odd[5].max() == odd[:, 7].max() == 0
    tall = canvas.fit(np.full((12, 8, 3), 9, np.uint8))
    assert tall[:, :4].min() == 9
    assert tall[:, 4:].max() == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (641, 7)])
def test_odd_sizes_are_encoded(tmp_path: Path, size: tuple[int, int]) -> None:
    rows = [make_row(i, [], width=size[0], height=size[1]) for i in range(3)]
    metadata = new_metadata(source={"kind": "camera"})
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    outcome = replay(path)
    assert outcome.exit_code == 0, outcome.stderr
    images, _ = pictures(tmp_path / "s.replay.mp4")
    assert images[0].shape[:2] == (size[1] + size[1] % 2, size[0] + size[0] % 2)


def timed(media: list[float | None], captured_ms: list[float]) -> list[int]:
    start = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    rows = pa.table(
        {
            "media_time_s": pa.array(media, pa.float64()),
            "captured_at": [start + dt.timedelta(milliseconds=at) for at in captured_ms],
        }
    )
    found: list[int] = Timeline().times_us(rows).tolist()
    return found


def test_timeline_follows_media_time_exactly() -> None:
    media: list[float | None] = [5 + i * 1001 / 30000 for i in range(1000)]
    times = timed(media, [0.0] * 1000)
    assert times == [round((5 + i * 1001 / 30000) * 1e6) - 5_000_000 for i in range(1000)]


@pytest.mark.parametrize("odd", [1e308, -1e300, float("inf"), float("nan")])
def test_a_stamp_that_no_source_can_have_is_as_good_as_none(odd: float) -> None:
    media: list[float | None] = [0.0, 0.04, 0.08, 0.12, 0.16]
    with_none, with_odd = ([*media[:2], stamp, *media[3:]] for stamp in (None, odd))
    assert timed(with_odd, [0.0] * 5) == timed(with_none, [0.0] * 5)


def test_timeline_of_a_camera() -> None:
    assert timed([None] * 4, [0, 40, 90.5, 3000]) == [0, 40_000, 90_500, 3_000_000]


def test_timeline_of_a_loop_goes_on_in_step() -> None:
    assert timed([1.0, 1.04, 1.08, 0.0, 0.04], [0] * 5) == [0, 40_000, 80_000, 120_000, 160_000]


def test_timeline_always_goes_forward() -> None:
    assert timed([None, None, None], [50, 50, 20]) == [0, 1, 2]
    assert timed([None, 1.0, 1.5, float("nan"), 2.0], [0, 10, 20, 30, 40]) == [
        0,
        10_000,
        510_000,
        1_010_000,
        1_010_001,
    ]
    hours = timed([0.0, 1e9, 1e9 + 1], [0, 0, 0])
    assert hours == [0, 365 * 86_400_000_000, 365 * 86_400_000_000 + 1_000_000]

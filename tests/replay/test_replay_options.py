"""The options of `dgrec replay`: which frames, which detections, how fast, and into what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

import dgrec
from dgrec.errors import OutputError
from dgrec.footage import Footage, Pixels, parse_position
from dgrec.replay.drawing import Elapsed, Resize
from dgrec.replay.rendering import Scene, select_frames
from dgrec.replay.rendering.animation import Animation
from dgrec.replay.rendering.contact_sheet import ContactSheet, spread
from dgrec.replay.rendering.render import at_speed, replay_frames, usual_step_us
from tests.factory import make_row, new_metadata, write_journal, write_session
from tests.replay.clips import (
    HEIGHT,
    WIDTH,
    file_source,
    number_drawn,
    number_in,
    numbered_image,
    numbered_metadata,
    numbered_row,
    write_clip,
)
from tests.replay.test_render import pictures, replay

pytestmark = pytest.mark.usefixtures("no_display")

FRAMES = 60
#: Options of `dgrec replay` that take a number with a fraction.
NUMBERS = ["--redact-margin", "--speed", "--scale", "--font-scale", "--alpha"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "numbered.mp4", FRAMES)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """Every frame of the clip at 25 frames a second; every fifth was slow. Read it only."""
    return write_numbered(tmp_path_factory.mktemp("session") / "s.parquet", clip)


def write_numbered(path: Path, clip: Path, first: int = 0, **source: Any) -> Path:
    rows = [
        numbered_row(
            i,
            first + i,
            media_time_s=i * 0.04,
            timing={"CoreInferenceDuration_ms": 90.0 if i % 5 == 0 else 10.0},
        )
        for i in range(FRAMES - first)
    ]
    return write_session(path, rows, numbered_metadata(file_source(clip, **source)))


def done(*arguments: Any) -> str:
    """Run `dgrec replay`, which must succeed without a word on stderr; return what it prints."""
    outcome = replay(*arguments)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    return outcome.stdout


def numbers(images: list[Any]) -> list[int]:
    """Return the numbers that pictures show, which must be those that their overlays say."""
    found = [number_in(image) for image in images]
    assert [number_drawn(image) for image in images] == found
    return found


# --- which frames ---


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--start", "1s"], range(25, FRAMES)),
        (["--start", "0.99s", "--end", "00:00:02"], range(25, 50)),
        (["--end", "2026-01-02T03:04:06"], range(10)),
        (["--start", 7, "--end", "400ms"], range(7, 10)),
        (["--where", "inference_ms > 80"], range(0, FRAMES, 5)),
        (["--where", "len(detections) = 1"], [1, 2, 4, 8, 16, 32]),
        (["--where", "frame IN (3, 4, 58)"], [3, 4, 58]),
        (["--where", "frame % 7 = 0", "--start", 10, "--end", 50], range(14, 50, 7)),
        (["--where", "inference_ms > 80", "--max-frames", 3], [0, 5, 10]),
        (["--where", "frame > (SELECT max(frame) - 2 FROM frames) -- end"], [58, 59]),
    ],
)
def test_frames_are_the_right_ones(
    tmp_path: Path, session: Path, options: list[Any], expected: Any
) -> None:
    output = tmp_path / "a.mp4"
    assert f": {len(list(expected))} frames" in done(session, "-o", output, *options)
    assert numbers(pictures(output)[0]) == list(expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "part"])
def test_frames_where_in_other_forms_of_a_session(tmp_path: Path, clip: Path, kind: str) -> None:
    rows = [numbered_row(i, i) for i in range(30)]
    metadata = numbered_metadata(file_source(clip))
    if kind == "journal":
        path = write_journal(tmp_path / "s.arrows", rows, metadata, end=False)
        expected = [(i, i) for i in (5, 12, 19, 26)]
    else:
        from dgrec.format import Journal, JournalWriter, seal

        part = {"number": 3, "set_id": "x", "first_frame": 100}
        journal = tmp_path / "s-0003.arrows"
        writer = JournalWriter(journal, {**metadata, "part": part}, first_frame=100)
        writer.write(rows)
        writer.end({"totals": {}})
        writer.close()
        path = tmp_path / "s-0003.parquet"
        seal(Journal.open(journal), path)
        journal.unlink()
        expected = [(frame - 100, frame - 100) for frame in range(103, 130, 7)]
    output = tmp_path / "a.mp4"
    condition = "frame % 7 = 5"
    done(path, "-o", output, "--where", condition, "--detections-where", "label = 'bit'")
    images, _ = pictures(output)
    assert [(number_in(image), number_drawn(image)) for image in images] == expected


def test_a_reel_closes_its_gaps(tmp_path: Path, session: Path) -> None:
    output = tmp_path / "a.mp4"
    done(session, "-o", output, "--where", "frame IN (2, 3, 4, 30, 31, 59)")
    images, times = pictures(output)
    assert numbers(images) == [2, 3, 4, 30, 31, 59]
    assert times == [0, 40_000, 80_000, 120_000, 160_000, 200_000]


@pytest.mark.slow
def test_a_reel_keeps_uneven_steps_between_neighbours(tmp_path: Path, clip: Path) -> None:
    """The gap is closed by the usual step; what follows each other keeps its own."""
    media = [0.0, 0.01, 0.05, 0.09, 0.13, 5.0, 5.2, 5.24]
    rows = [numbered_row(i, i, media_time_s=at) for i, at in enumerate(media)]
    path = write_session(tmp_path / "s.parquet", rows, numbered_metadata(file_source(clip)))
    output = tmp_path / "a.mp4"
    done(path, "-o", output, "--where", "frame IN (0, 1, 4, 5, 6)")
    images, times = pictures(output)
    assert numbers(images) == [0, 1, 4, 5, 6]
    assert times == [0, 10_000, 50_000, 4_920_000, 5_120_000]
    with dgrec.open(path) as opened:
        assert usual_step_us(opened) == 40_000


def test_positions_that_cannot_be(tmp_path: Path, session: Path) -> None:
    for options, message in [
        (["--start", "1h"], "has 60 frames; --start 1h is past the end"),
        (["--start", 20, "--end", "0.1s"], "there is no frame from --start 20 to --end 0.1s"),
        (["--end", "2020-01-01"], "there is no frame from the first frame to --end 2020-01-01"),
    ]:
        outcome = replay(session, "-o", tmp_path / "a.mp4", *options)
        assert outcome.exit_code == 1
        assert outcome.stderr == f"Error: {session}: {message}\n"


# --- which detections ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "mask"),
    [
        ("x_min < 100", 0b1111),
        ("x_min < 100 or x_min > 110 -- the rest", ~0b10000),
        ("frame >= 32 and detection = 0", None),
        ("score > 0.9", 0),
    ],
)
def test_only_detections_that_match_are_drawn(
    tmp_path: Path, session: Path, condition: str, mask: int | None
) -> None:
    output = tmp_path / "a.mp4"
    done(session, "-o", output, "--detections-where", condition)
    images, _ = pictures(output)
    assert [number_in(image) for image in images] == list(range(FRAMES))
    if mask is None:  # the lowest bit of the frames from 32 on
        expected = [(i & -i) if i >= 32 else 0 for i in range(FRAMES)]
    else:
        expected = [i & mask for i in range(FRAMES)]
    assert [number_drawn(image) for image in images] == expected


@pytest.mark.parametrize(
    ("option", "condition", "message"),
    [
        ("--detections-where", "scor > 0.5", 'Referenced column "scor" not found'),
        ("--detections-where", "score >", "syntax error"),
        ("--detections-where", "true) or (true", "syntax error"),
        ("--detections-where", "true; DROP VIEW frames", "2 statements"),
        ("--detections-where", "label", "Could not convert string 'bit' to BOOL"),
        ("--detections-where", "x_min < 1 ORDER BY frame", "syntax error"),
        ("--where", "count(*) > 3", "cannot contain aggregates"),
        ("--where", "frame > 1 LIMIT 1", "syntax error"),
        ("--where", "frame < 0", "no frame matches"),
        ("--where", "{'a': 1}.a = 2", "no frame matches"),
    ],
)
def test_conditions_that_cannot_be(
    tmp_path: Path, session: Path, option: str, condition: str, message: str
) -> None:
    outcome = replay(session, "-o", tmp_path / "a.mp4", option, condition)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: {option}")
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_filter_answers_out_of_order(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dgrec.replay.query import where

    monkeypatch.setattr(where, "_FRAMES_AT_ONCE", 7)
    with dgrec.open(session) as opened:
        found = where.DetectionFilter(opened, "x_min < 30 or x_min > 100")
        for frame in [0, 59, 3, 58, 20, 21, 6, 7]:
            bits = [bit for bit in range(12) if frame >> bit & 1]
            assert found.kept(frame) == [i for i, bit in enumerate(bits) if bit in (0, 4, 5)]
        found.close()


# --- how fast ---


@pytest.mark.parametrize("speed", [0.5, 2.0, 3.0])
def test_speed(tmp_path: Path, session: Path, speed: float) -> None:
    output = tmp_path / "a.mp4"
    done(session, "-o", output, "--speed", speed, "--max-frames", 20)
    images, times = pictures(output)
    assert numbers(images) == list(range(20))
    assert times == [round(i * 40_000 / speed) for i in range(20)]


def test_times_go_forward_at_any_speed(session: Path) -> None:
    with dgrec.open(session) as opened, Pixels(Footage(None)) as pixels:
        fast = [frame.pts_us for frame in at_speed(replay_frames(opened, pixels), 1e9)]
    assert fast == list(range(FRAMES))


def animated(path: Path) -> Iterator[tuple[Any, int]]:
    """Yield the pictures of a GIF or WebP, and for how many milliseconds each is shown."""
    with PillowImage.open(path) as image:
        for index in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(index)
            image.load()
            yield np.array(image.convert("RGB"))[:, :, ::-1], image.info["duration"]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_hold_every_frame(tmp_path: Path, session: Path, suffix: str) -> None:
    output = tmp_path / f"a{suffix}"
    assert done(session, "-o", output, "--end", 40) == f"{output}: 40 frames, 1.6 s\n"
    images, durations = zip(*animated(output), strict=True)
    assert numbers(list(images)) == list(range(40))
    assert set(durations) == {40}
    assert {image.shape for image in images} == {(HEIGHT, WIDTH, 3)}
    assert [file.name for file in tmp_path.iterdir()] == [output.name]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("loop", [True, False])
def test_how_often_an_animation_plays(
    tmp_path: Path, session: Path, suffix: str, loop: bool
) -> None:
    output = tmp_path / f"a{suffix}"
    done(session, "-o", output, "--end", 3, *(["--loop"] if loop else []))
    with PillowImage.open(output) as image:
        once = None if suffix == ".gif" else 1
        assert image.info.get("loop") == (0 if loop else once)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_the_last_picture_of_an_animation_lasts_as_long_as_its_frame(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    made = Animation(path, WIDTH, HEIGHT, loop=True, overwrite=False)
    for number, (pts_us, duration_us) in enumerate([(0, 100_000), (100_000, 300_000)]):
        made.write(numbered_image(number), pts_us, duration_us, None)  # type: ignore[arg-type]
    made.write(numbered_image(2), 400_000, 700_000, None)  # type: ignore[arg-type]
    made.finish()
    images, durations = zip(*animated(path), strict=True)
    assert [number_in(image) for image in images] == [0, 1, 2]
    assert durations == (100, 300, 700)


@pytest.mark.slow
def test_an_uneven_animation_keeps_its_times(tmp_path: Path, clip: Path) -> None:
    media = [0.0, 0.04, 0.3, 0.346, 1.0]
    rows = [numbered_row(i, i, media_time_s=at) for i, at in enumerate(media)]
    path = write_session(tmp_path / "s.parquet", rows, numbered_metadata(file_source(clip)))
    expected = {".gif": (40, 260, 50, 650, 650), ".webp": (40, 260, 46, 654, 654)}
    for suffix, wanted in expected.items():  # a GIF counts in hundredths
        done(path, "-o", tmp_path / f"a{suffix}")
        images, durations = zip(*animated(tmp_path / f"a{suffix}"), strict=True)
        assert numbers(list(images)) == [0, 1, 2, 3, 4]
        assert durations == wanted


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_what_is_too_fast_for_an_animation_is_left_out(
    tmp_path: Path, session: Path, suffix: str
) -> None:
    output = tmp_path / f"a{suffix}"
    outcome = replay(session, "-o", output, "--speed", 8)  # 5 ms a frame
    assert outcome.exit_code == 0
    assert outcome.stderr == (
        f"{suffix[1:].upper()} shows at most 50 pictures a second: 45 of 60 frames were left out\n"
    )
    images, durations = zip(*animated(output), strict=True)
    assert numbers(list(images)) == list(range(0, FRAMES, 4))
    assert set(durations[:-1]) == {20}


@pytest.mark.slow
def test_wide_gifs_are_made_smaller(tmp_path: Path) -> None:
    rows = [make_row(i, width=1280, height=720) for i in range(2)]
    path = write_session(
        tmp_path / "s.parquet", rows, new_metadata(source={"kind": "camera", "given": "cam0"})
    )
    for options, size in [
        ([], (640, 360)),
        (["--scale", 1], (1280, 720)),
        (["--size", "x90"], (160, 90)),
    ]:
        outcome = replay(path, "-o", tmp_path / "a.gif", "--overwrite", *options)
        assert outcome.exit_code == 0
        assert ("made 640 pixels wide instead of 1,280" in outcome.stderr) == (not options)
        with PillowImage.open(tmp_path / "a.gif") as image:
            assert image.size == size


# --- pictures ---


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_folder_of_pictures(tmp_path: Path, session: Path, kind: str) -> None:
    output = tmp_path / "out"
    options = ["--where", "frame % 9 = 4", "--frames", kind]
    assert done(session, "-o", output, *options) == f"{output}: 7 frames\n"
    expected = list(range(4, FRAMES, 9))
    assert sorted(file.name for file in output.iterdir()) == [
        f"frame-{number:06}.{kind}" for number in expected
    ]
    images = [cv2.imread(str(file)) for file in sorted(output.iterdir())]
    assert numbers(images) == expected
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_png_pictures_are_what_pysdk_draws(tmp_path: Path, session: Path, clip: Path) -> None:
    done(session, "-o", f"{tmp_path}/out/", "--start", 20, "--end", 23)
    with dgrec.open(session) as opened, Pixels(Footage(clip)) as pixels:
        for frame in replay_frames(opened, pixels, 20, 23):
            saved = cv2.imread(str(tmp_path / "out" / f"frame-{frame.result.frame:06}.png"))
            assert np.array_equal(saved, frame.result.overlay(frame.image))


def test_a_folder_that_is_there(tmp_path: Path, session: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    done(session, "-o", f"{output}/", "--end", 3)  # an empty one is as good as none
    (output / "mine.txt").write_text("mine")
    outcome = replay(session, "-o", f"{output}/", "--start", 5, "--end", 6)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: {output}: exists and is not empty; ")
    assert len(list(output.iterdir())) == 4
    done(session, "-o", f"{output}/", "--start", 5, "--end", 6, "--overwrite")
    assert {file.name for file in output.iterdir()} == {"mine.txt", "frame-000005.png"}
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_contact_sheet(tmp_path: Path, session: Path) -> None:
    output = tmp_path / "sheet.png"
    assert done(session, "-o", output, "--contact-sheet", "3x2") == f"{output}: 6 frames\n"
    sheet = cv2.imread(str(output))
    expected = spread(FRAMES, 6)
    assert expected[0] == 0
    assert expected[-1] == FRAMES - 1
    assert numbers(list(cells(sheet, 3, 6))) == expected


@pytest.mark.slow
def test_a_contact_sheet_of_few_frames(tmp_path: Path, session: Path) -> None:
    output = tmp_path / "sheet.jpg"
    done(session, "-o", output, "--contact-sheet", "2x9", "--where", "frame % 20 = 3")
    sheet = cv2.imread(str(output))
    assert numbers(list(cells(sheet, 2, 3))) == [3, 23, 43]
    rows = (sheet.shape[0] - 7) / (HEIGHT + 17 + 14)
    assert rows == 2  # rows that nothing is in are left out


def test_a_contact_sheet_takes_no_room_for_cells_that_stay_empty(
    tmp_path: Path, session: Path
) -> None:
    output = tmp_path / "sheet.png"
    done(session, "-o", output, "--contact-sheet", "1x900", "--end", 3)
    assert numbers(list(cells(cv2.imread(str(output)), 1, 3))) == [0, 1, 2]
    options = ("--contact-sheet", "900x900", "--end", 3, "--overwrite")
    assert done(session, "-o", output, *options) == f"{output}: 3 frames\n"


def test_a_contact_sheet_larger_than_memory_is_refused(tmp_path: Path, session: Path) -> None:
    with dgrec.open(session) as opened, pytest.raises(OutputError, match="choose fewer cells"):
        ContactSheet(
            tmp_path / "sheet.png",
            1000,
            800,
            columns=16,
            rows=16,
            elapsed=Elapsed(opened),
            overwrite=False,
        )
    assert list(tmp_path.iterdir()) == []


def cells(sheet: Any, columns: int, count: int) -> Iterator[Any]:
    """Yield the pictures of a contact sheet: of the clip's size, 7 pixels apart, text below."""
    for index in range(count):
        row, column = divmod(index, columns)
        top, left = 7 + row * (HEIGHT + 17 + 14), 7 + column * (WIDTH + 7)
        yield sheet[top : top + HEIGHT, left : left + WIDTH]


def test_spread() -> None:
    assert spread(5, 5) == spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(11, 3) == [0, 5, 10]
    assert spread(10, 1) == [0]
    assert len(set(spread(1000, 999))) == 999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "a.png"], "is one picture; --contact-sheet 4x3 puts many"),
        (["-o", "a.mp4", "--contact-sheet", "2x2"], "choose a .png or .jpg name"),
        (["-o", "there.gif"], "exists already; choose another name or say --overwrite"),
        (["-o", "nowhere/a.gif"], "there is no folder"),
        (["-o", "nowhere/a/"], "there is no folder"),
        (["-o", "there.gif/"], "is a file, not a folder"),
        (["-o", "nowhere/a.png", "--contact-sheet", "2x2"], "there is no folder"),
    ],
)
def test_outputs_that_cannot_be(
    tmp_path: Path, session: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.gif").write_text("mine")
    outcome = replay(session, *options)
    assert outcome.exit_code == 1
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["a.gif", "a.webp", "out/", "sheet.png"])
def test_what_fails_in_the_middle_leaves_nothing(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """A condition that fails on a late row; the pictures before it were written."""
    from dgrec.replay.query import where

    monkeypatch.setattr(where, "_FRAMES_AT_ONCE", 10)
    path = write_numbered(tmp_path / "s.parquet", clip)
    options = ["--contact-sheet", "4x4"] if output == "sheet.png" else []
    condition = "CAST(CASE WHEN frame > 40 THEN 'x' ELSE '1' END AS INT) = 1"
    outcome = replay(path, "-o", f"{tmp_path}/{output}", "--detections-where", condition, *options)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("Error: --detections-where ")
    assert outcome.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["s.parquet"]


@pytest.mark.parametrize(
    "options",
    [
        ["--start", "soon"],
        ["--start", "5s", "--end", "4s"],
        ["--size", "640"],
        ["--size", "0x0"],
        ["--size", "x"],
        ["--size", "64x64", "--scale", "2"],
        ["--scale", "0"],
        ["--speed", "0"],
        ["--contact-sheet", "4"],
        ["--contact-sheet", "0x3"],
        ["--contact-sheet", "2x2", "--frames", "png"],
        ["--contact-sheet", "2x2", "--speed", "2"],
        ["--frames", "png", "--loop"],
        ["--output", "a.mp4", "--loop"],
        ["--frames", "bmp"],
        ["--trails", "1"],
        ["--redact-hold", "5"],
        ["--redact-style", "thin"],
        ["--redact", "all", "--side-by-side", "other.parquet"],
        *(
            ["--redact", "all", option, number]
            for option in NUMBERS
            for number in ("nan", "inf", "-inf")
        ),
        ["--redact", "all", "--redact-hold", f"{'9' * 400}s"],
        ["--no-such-option"],
    ],
)
def test_values_that_make_no_sense(session: Path, options: list[str]) -> None:
    outcome = replay(session, *options)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("Usage: ")
    assert not list(session.parent.glob("s.*.*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--redact-style", "mosaic"], "--redact-style goes with --redact"),
        (["--redact-style", "solid"], "--redact-style goes with --redact"),
        (["--redact-hold", "1s"], "--redact-hold goes with --redact"),
        (["--redact-margin", "1"], "--redact-margin goes with --redact"),
        (["--no-overlay", "--blur", "all"], "--blur does nothing with --no-overlay"),
        (["--no-overlay", "--no-show-labels"], "--show-labels does nothing with --no-overlay"),
        (
            ["--no-overlay", "--detections-where", "true"],
            "--detections-where does nothing with --no-overlay",
        ),
    ],
)
def test_options_that_would_do_nothing(session: Path, options: list[str], message: str) -> None:
    """Who asks for a mosaic and gets none shares every face."""
    outcome = replay(session, *options)
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[-1] == f"Error: {message}"
    assert not list(session.parent.glob("s.*.*"))


@pytest.mark.slow
def test_a_label_to_blur_that_was_never_recorded(tmp_path: Path, session: Path) -> None:
    """With a mistyped one nothing would be blurred, and look as if it had been."""
    output = tmp_path / "a.mp4"
    outcome = replay(session, "-o", output, "--blur", "nosuch")
    assert outcome.exit_code == 1
    assert outcome.stderr == ("Error: --blur nosuch: no such label was recorded (there are: bit)\n")
    assert not output.exists()
    for label in ("bit", "all", "person"):  # the model knows persons
        options = ["--overwrite", "--max-frames", 2, "--blur", label]
        assert replay(session, "-o", output, *options).exit_code == 0


def test_trails_may_be_filtered_without_an_overlay(tmp_path: Path, session: Path) -> None:
    options = ["--no-overlay", "--trails", 5, "--detections-where", "true", "--max-frames", 2]
    assert replay(session, "-o", tmp_path / "a.mp4", *options).exit_code == 0


# --- size ---


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--scale", 2], (2 * WIDTH, 2 * HEIGHT)),
        (["--size", "144x"], (144, 72)),
        (["--size", "x288"], (576, 288)),
        (["--size", "300x300"], (300, 300)),
    ],
)
def test_sizes(tmp_path: Path, session: Path, options: list[Any], size: tuple[int, int]) -> None:
    output = tmp_path / "a.mp4"
    done(session, "-o", output, "--max-frames", 2, *options)
    assert pictures(output)[0][0].shape[1::-1] == size


@pytest.mark.parametrize("size", ["99999x99999", "20000x10", "16000x16000"])
def test_sizes_that_are_too_large(tmp_path: Path, session: Path, size: str) -> None:
    outcome = replay(session, "-o", tmp_path / "a.mp4", "--max-frames", 2, "--size", size)
    assert outcome.exit_code == 1
    assert "cannot be drawn at " in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_picture_that_is_given_is_never_changed(session: Path) -> None:
    """A player draws on the same picture again."""
    with dgrec.open(session) as opened, ExitStack() as closing:
        for scene in (
            Scene(overlay=False, hud=True, redact=("all",)),
            Scene(overlay=False, hud=True, resize=Resize(scale=1)),
            Scene(hud=True, trails=5, redact=("bit",), where="score > 2"),
        ):
            result, picture = opened.result(7), np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            picture.flags.writeable = False
            painter = scene.painter(opened, closing)
            drawn = painter.draw(result, picture)
            assert (picture == 90).all()
            assert not np.array_equal(drawn, picture)
            assert np.array_equal(painter.draw(result, picture), drawn)


def test_no_overlay(tmp_path: Path, session: Path) -> None:
    output = tmp_path / "a.mp4"
    done(session, "-o", output, "--no-overlay", "--start", 30)
    images, _ = pictures(output)
    assert [number_in(image) for image in images] == list(range(30, FRAMES))
    assert {number_drawn(image) for image in images} == {0}


@pytest.mark.slow
def test_a_cut_of_a_recovered_session(tmp_path: Path, clip: Path) -> None:
    """Rows that were lost leave a gap in the numbers: positions count what is there."""
    path = write_journal(
        tmp_path / "s.arrows",
        [numbered_row(i, i) for i in range(40)],
        numbered_metadata(file_source(clip)),
        batch=5,
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"dgrec.batch", data.index(b"dgrec.batch") + 1) + 200
    data[at] ^= 0xFF
    path.write_bytes(data)
    with dgrec.open(path) as opened:
        there = [result.frame for result in opened]
        assert len(there) < 40
        cut = select_frames(opened, parse_position("8"), where="frame % 2 = 0")
        with Pixels(Footage(clip)) as pixels:
            shown = [frame.result.frame for frame in cut.frames(opened, pixels)]
            assert shown == [frame for frame in there[8:] if frame % 2 == 0]
        assert cut.wanted is not None
        assert [there[position] for position in cut.wanted] == shown

"""The frame and the video that belong to a row."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec import sample
from dgrec.errors import VideoError
from dgrec.footage import Footage, PictureTimes, Pixels, VideoFrames, find_footage
from dgrec.format import Journal, JournalWriter, Metadata, seal, utc_text
from dgrec.replay.verify import verify
from dgrec.video import VideoWriter, import_av
from tests.factory import CLOSING, START_NS, write_journal, write_session
from tests.permissions import permissions
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

av = import_av()
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
    reader = VideoFrames(clip)
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
    with pytest.raises(dgrec.VideoError, match=r"not\.mp4: cannot be read as a video"):
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


def test_a_link_to_the_folder_does_not_hide_the_file_above_it(tmp_path: Path) -> None:
    """``link/..`` is the folder above the one that the link names."""
    recordings = tmp_path / "disk" / "recordings"
    recordings.mkdir(parents=True)
    video = write_clip(tmp_path / "disk" / "v.mp4", 3)
    source = file_source(video, recordings)
    session_of(recordings / "s.parquet", source).close()
    (tmp_path / "link").symlink_to(recordings)
    with (
        dgrec.open(tmp_path / "link" / "s.parquet") as session,
        Pixels(find_footage(session)) as pixels,
    ):
        assert numbers(pixels, [0, 1, 2]) == [0, 1, 2]
    # The same of a name that has it in it: DuckDB and FFmpeg get it as the system takes it.
    (tmp_path / "disk" / "deep").mkdir()
    (tmp_path / "deep").symlink_to(tmp_path / "disk" / "deep")
    write_session(tmp_path / "disk" / "a.parquet", [numbered_row(i, i) for i in range(5)])
    write_session(tmp_path / "a.parquet", [numbered_row(0, 0)])
    with dgrec.open(tmp_path / "deep" / ".." / "a.parquet") as session:
        assert len(session) == 5
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(5,)]


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


def test_results_with_their_pixels(tmp_path: Path) -> None:
    """As `predict_stream` yields them: an application that reads `result.image` can be tested."""
    video = write_clip(tmp_path / "s.mp4", 5)
    with (
        camera_session(tmp_path, video, [0, 1, None, 4]) as session,
        Pixels(find_footage(session)) as pixels,
    ):
        results = list(pixels.results(session))
        assert [result.results for result in results] == [result.results for result in session]
        assert [hasattr(result, "image") for result in results] == [True, True, False, True]
        for result, number in [(results[1], 1), (results[3], 4)]:
            assert number_in(result.image) == number
            assert number_drawn(result.image) == 0
            assert number_drawn(result.image_overlay) == result.frame
            assert np.array_equal(result.image_overlay, result.overlay(result.image))


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


# --- footage that is not what it was ---

#: Microseconds between the frames of a recorded video and between its rows.
STEP_US = 40_000


def recorded_video(path: Path, frames: int, first: int = 0) -> Path:
    """Write a video as the recorder does: a key frame each second, no B-frames, exact times."""
    with VideoWriter(path, WIDTH, HEIGHT) as writer:
        for i in range(frames):
            writer.write(numbered_image(first + i), i * STEP_US, STEP_US)
    return path


def entry_of(video: Path, frames: int, started_us: int = 0, **overrides: Any) -> dict[str, Any]:
    started = START_NS + started_us * 1000
    return {
        "file": video.name,
        "kind": "raw",
        "frames": frames,
        "started_at": utc_text(started),
        "size": video.stat().st_size,
        "sha256": hashlib.sha256(video.read_bytes()).hexdigest(),
        **overrides,
    }


def recorded_row(frame: int, video_frame: int | None, **overrides: Any) -> Any:
    return numbered_row(
        frame,
        1000 + 5 * frame,
        video_frame=video_frame,
        media_time_s=None,
        captured_ns=START_NS + frame * STEP_US * 1000,
        **overrides,
    )


def recorded_session(path: Path, rows: list[Any], entry: dict[str, Any]) -> Path:
    metadata: Metadata = numbered_metadata({"given": "cam0", "kind": "camera"})
    metadata["video"] = [entry]
    return write_session(path, rows, metadata)


def seen(path: Path, video: Path | None = None) -> tuple[list[int | None], list[str]]:
    """Return the number in each row's pixels, and what is said about them."""
    with dgrec.open(path) as session:
        footage = find_footage(session, video)
        with Pixels(footage) as pixels:
            images = [pixels.frame(result.row) for result in session]
            notes = [footage.note, *pixels.notes()]
    told = [note for note in notes if note]
    assert not any("\n" in note for note in told)
    return [None if image is None else number_in(image) for image in images], told


def write_part(path: Path, rows: list[Any], metadata: Metadata, first_frame: int) -> None:
    journal = path.with_suffix(".arrows")
    writer = JournalWriter(journal, metadata, first_frame=first_frame)
    writer.write(rows)
    writer.end(CLOSING)
    writer.close()
    seal(Journal.open(journal), path)
    journal.unlink()


def damaged(video: Path, frame: int) -> None:
    """Destroy the data of one frame."""
    with av.open(str(video)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
        at, size = packets[frame].pos, packets[frame].size
    data = bytearray(video.read_bytes())
    data[at : at + size] = bytes(size)
    video.write_bytes(data)


def test_damage_in_the_middle_leaves_the_rest_in_place(tmp_path: Path) -> None:
    video = recorded_video(tmp_path / "s.mp4", 60)
    entry = entry_of(video, 60)
    damaged(video, 10)
    path = recorded_session(tmp_path / "s.parquet", [recorded_row(i, i) for i in range(60)], entry)
    numbers_, notes = seen(path)
    assert numbers_ == [*range(10), *[None] * 15, *range(25, 60)], "up to the next key frame"
    assert notes == [
        "s.mp4 is not as it was recorded (its contents have changed)",
        "s.mp4 is damaged (from frame 10 on): 15 recorded frames have no pixels and are left out",
    ]


def test_a_video_cut_short_is_said(tmp_path: Path) -> None:
    video = recorded_video(tmp_path / "s.mp4", 20)
    entry = entry_of(video, 50)
    path = recorded_session(tmp_path / "s.parquet", [recorded_row(i, i) for i in range(50)], entry)
    numbers_, notes = seen(path)
    assert numbers_ == [*range(20), *[None] * 30]
    assert notes == [
        "s.mp4 ends after 20 frames: 30 recorded frames have no pixels and are left out"
    ]


def test_a_video_that_ended_early_has_the_frames_that_it_says(tmp_path: Path) -> None:
    """What the encoder still wrote after the number was taken belongs to nobody."""
    video = recorded_video(tmp_path / "s.mp4", 20)
    path = recorded_session(
        tmp_path / "s.parquet", [recorded_row(i, i) for i in range(25)], entry_of(video, 15)
    )
    numbers_, notes = seen(path)
    assert numbers_ == [*range(15), *[None] * 10]
    assert notes == [
        "s.mp4 ends after 15 frames: 10 recorded frames have no pixels and are left out"
    ]


def test_another_video_in_its_place_is_not_drawn_on(tmp_path: Path) -> None:
    video = recorded_video(tmp_path / "s.mp4", 30)
    entry = entry_of(video, 30)
    write_clip(video, 30, [i * 33 for i in range(30)], first=500)
    path = recorded_session(tmp_path / "s.parquet", [recorded_row(i, i) for i in range(30)], entry)
    numbers_, notes = seen(path)
    assert numbers_ == [None] * 30, "not even frame 0, whose time any video begins with"
    assert notes[0].startswith("s.mp4 is not as it was recorded (")
    assert notes[1] == (
        "s.mp4 is another video: no frame has the time of a row: "
        "30 recorded frames have no pixels and are left out"
    )


def test_frames_that_moved_in_the_video_are_found_by_their_time(tmp_path: Path) -> None:
    """Frames 5 to 24 were cut out of it, without encoding it again."""
    video = recorded_video(tmp_path / "s.mp4", 60)
    entry = entry_of(video, 60)
    whole = video.with_name("whole.mp4")
    video.rename(whole)
    with av.open(str(whole)) as a, av.open(str(video), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0])
        for packet in a.demux(video=0):
            if packet.pts is not None and not 5 <= round(packet.pts * packet.time_base * 25) < 25:
                packet.stream = stream
                b.mux(packet)
    path = recorded_session(tmp_path / "s.parquet", [recorded_row(i, i) for i in range(60)], entry)
    numbers_, notes = seen(path)
    assert numbers_ == [*range(5), *[None] * 20, *range(25, 60)]
    assert len(notes) == 2


def test_a_journal_has_neither_digest_nor_beginning(tmp_path: Path) -> None:
    video = recorded_video(tmp_path / "s.mp4", 40)
    metadata: Metadata = numbered_metadata({"given": "cam0", "kind": "camera"})
    metadata["video"] = [{"file": "s.mp4", "kind": "raw", "codec": "h264"}]
    rows = [recorded_row(0, None, video_state="encoder_busy")]
    rows += [recorded_row(i, i - 1) for i in range(1, 50)]
    path = write_journal(tmp_path / "s.arrows", rows, metadata)
    numbers_, notes = seen(path)
    assert numbers_ == [None, *range(40), *[None] * 9]
    assert notes == [
        "not every frame is in s.mp4: 1 recorded frame has no pixels and is left out "
        "(the encoder was busy: 1)",
        "s.mp4 ends after 40 frames: 9 recorded frames have no pixels and are left out",
    ]
    write_clip(video, 40, [i * 47 for i in range(40)], first=500)
    with dgrec.open(path) as session, Pixels(find_footage(session)) as pixels:
        assert find_footage(session).started_at == session.result(1).row["captured_at"]
        assert all(pixels.frame(session.result(at).row) is None for at in (1, 2, 30))


def test_why_frames_were_left_out_is_counted(tmp_path: Path) -> None:
    video = recorded_video(tmp_path / "s.mp4", 3)
    rows = [recorded_row(i, i) for i in range(3)]
    rows += [recorded_row(i, None, video_state="encoder_busy") for i in range(3, 7)]
    rows += [recorded_row(7, None, video_state="encoder_failed"), recorded_row(8, None)]
    path = recorded_session(tmp_path / "s.parquet", rows, entry_of(video, 3))
    numbers_, notes = seen(path)
    assert numbers_ == [0, 1, 2, *[None] * 6]
    assert notes == [
        "not every frame is in s.mp4: 6 recorded frames have no pixels and are left out "
        "(the encoder was busy: 4, the encoder had failed: 1)"
    ]


def test_a_recorded_video_that_is_gone_is_said(tmp_path: Path) -> None:
    video = recorded_video(tmp_path / "s.mp4", 3)
    entry = entry_of(video, 3)
    video.unlink()
    path = recorded_session(tmp_path / "s.parquet", [recorded_row(0, 0)], entry)
    with dgrec.open(path) as session:
        assert find_footage(session) == Footage(
            None,
            note="s.mp4, recorded beside it, is gone: drawing on a blank canvas "
            "(--video PATH says where the pixels are)",
        )


def test_one_without_permission_is_not_said_to_be_gone(tmp_path: Path) -> None:
    video = recorded_video(tmp_path / "s.mp4", 3)
    path = recorded_session(tmp_path / "s.parquet", [recorded_row(0, 0)], entry_of(video, 3))
    video.chmod(0)
    with dgrec.open(path) as session, permissions():
        note = find_footage(session).note
        problems = verify(path)
    assert "s.mp4, recorded beside it, cannot be read: Permission denied: drawing on" in note
    assert "its video s.mp4 cannot be read: Permission denied" in problems


def annotated_session(folder: Path, *, digests: bool = True) -> tuple[Path, Path, Path]:
    """Return a session of a camera, its raw and its annotated video; rows begin with frame 14."""
    raw = recorded_video(folder / "s.mp4", 20)
    drawn = recorded_video(folder / "s.annotated.mp4", 20, first=100)
    entries = [entry_of(raw, 20), entry_of(drawn, 20, kind="annotated")]
    if not digests:
        entries = [{key: entry[key] for key in ("file", "kind")} for entry in entries]
    metadata: Metadata = numbered_metadata({"given": "cam0", "kind": "camera"})
    rows = [numbered_row(i, 14 + i, video_frame=i, media_time_s=None) for i in range(20)]
    for i, row in enumerate(rows):
        row.captured_ns = START_NS + i * STEP_US * 1000
    return write_session(folder / "s.parquet", rows, {**metadata, "video": entries}), raw, drawn


@pytest.mark.slow
@pytest.mark.parametrize("renamed", [True, False])
def test_an_annotated_video_is_known_and_numbered_as_it_was_recorded(
    tmp_path: Path, renamed: bool
) -> None:
    path, raw, drawn = annotated_session(tmp_path)
    if renamed:
        raw = raw.rename(tmp_path / "pixels.mp4")
        drawn = drawn.rename(tmp_path / "to_show.mp4")
    with dgrec.open(path) as session:
        assert find_footage(session, raw) == Footage(raw, "video_frame")
        with pytest.raises(dgrec.VideoError, match="has the overlay in it already"):
            find_footage(session, drawn)
        footage = find_footage(session, drawn, annotated=True)
        assert footage == Footage(drawn, "video_frame", annotated=True)
        with Pixels(footage) as pixels:
            images = [pixels.frame(result.row) for result in session]
    assert [number_in(image) for image in images] == list(range(100, 120))


def test_without_digests_an_annotated_video_is_known_by_its_name(tmp_path: Path) -> None:
    path, raw, drawn = annotated_session(tmp_path, digests=False)
    with dgrec.open(path) as session:
        assert not find_footage(session, raw).annotated
        assert find_footage(session, drawn, annotated=True).annotated


def test_an_annotated_video_keeps_its_shape(tmp_path: Path) -> None:
    """Labels of a classification stand below the picture."""
    path, _, drawn = annotated_session(tmp_path)
    with (
        dgrec.open(path) as session,
        Pixels(find_footage(session, drawn, annotated=True)) as pixels,
    ):
        images = [
            pixels.frame({**session.row(3), "width": width, "height": height})
            for width, height in [(WIDTH, HEIGHT // 2), (2 * WIDTH, 2 * HEIGHT + 9)]
        ]
    assert [None if im is None else im.shape[1::-1] for im in images] == [
        (WIDTH // 2, HEIGHT // 2),
        (2 * WIDTH, 2 * HEIGHT),
    ]


def test_a_blank_canvas_names_the_annotated_video(tmp_path: Path) -> None:
    path, raw, drawn = annotated_session(tmp_path)
    raw.unlink()
    with dgrec.open(path) as session:
        assert find_footage(session).note == (
            "s.mp4, recorded beside it, is gone: drawing on a blank canvas "
            f"(--video {drawn} shows what was drawn live)"
        )


@pytest.mark.parametrize(
    ("size", "frames", "why"),
    [
        ((WIDTH, WIDTH), 3, "of another shape"),
        ((2 * WIDTH, 2 * HEIGHT), 4, "with 4 frames instead of 3"),
        ((2 * WIDTH, 2 * HEIGHT), 3, ""),
        ((WIDTH, HEIGHT), 4, ""),
    ],
)
def test_footage_that_is_plainly_other_is_refused(
    tmp_path: Path, clip: Path, size: tuple[int, int], frames: int, why: str
) -> None:
    source = file_source(clip, frames=3)
    video = write_clip(tmp_path / "x.mp4", frames, size=size)
    with session_of(tmp_path / "s.parquet", source) as session:
        if not why:
            assert find_footage(session, video).changed
            return
        with pytest.raises(dgrec.VideoError) as error:
            find_footage(session, video)
    assert str(error.value) == (
        f"{video}: is not the footage that was recorded, nor a scaled copy: {size[0]}x{size[1]} "
        f"instead of {WIDTH}x{HEIGHT}, {why}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["the file", "another encoding", "a copy that was cut"])
def test_rounds_of_a_loop_in_a_copy_of_the_file(tmp_path: Path, kind: str) -> None:
    """The times of rows count on as well: each round lasts 90 pictures of 40 ms."""
    source = write_clip(tmp_path / "numbered.mp4", FRAMES)
    video, there = source, list(range(FRAMES)) * 3
    if kind == "another encoding":
        video = write_clip(tmp_path / "copy.mp4", FRAMES, b_frames=0)
    elif kind == "a copy that was cut":
        video = write_clip(tmp_path / "cut.mp4", 80)
        there = [*range(80), *[-1] * 190]
    rows = [numbered_row(n, n, media_time_s=n * 0.04) for n in range(3 * FRAMES)]
    metadata = numbered_metadata(file_source(source, loop=True, frames=FRAMES))
    with dgrec.open(write_session(tmp_path / "s.parquet", rows, metadata)) as session:
        footage = find_footage(session, video)
        with Pixels(footage) as pixels:
            images = [pixels.frame(session.row(n)) for n in range(3 * FRAMES)]
            assert pixels.missing == there.count(-1)
        times = PictureTimes(footage, video)
        shown = [times.of(session.row(n)) for n in range(3 * FRAMES)]
        times.close()
    assert [-1 if image is None else number_in(image) for image in images] == there
    numbers = [-1 if isinstance(each, str) else round(each.pts_s / 0.04) for each in shown]
    assert numbers == there


@pytest.mark.slow
@pytest.mark.parametrize("lost", [range(40, 43), range(FRAMES - 2, FRAMES)])
def test_a_loop_of_a_file_whose_pictures_could_not_all_be_decoded(
    tmp_path: Path, lost: range
) -> None:
    """The index counts them, the recorder did not; it would give the pictures of other rows."""
    source = write_clip(tmp_path / "numbered.mp4", FRAMES, b_frames=0, group=1)
    with av.open(str(source)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0)]
    data = bytearray(source.read_bytes())
    for number in lost:
        at, size = packets[number]
        data[at : at + size] = bytes([255]) * size
    source.write_bytes(data)
    decoded = [number for number in range(FRAMES) if number not in lost]
    period_s = decoded[-1] * 0.04 + 0.04
    rows = [
        numbered_row(frame, frame, media_time_s=number * 0.04 + round_ * period_s)
        for frame, (round_, number) in enumerate((r, n) for r in range(3) for n in decoded)
    ]
    metadata = numbered_metadata(file_source(source, loop=True, frames=FRAMES))
    late = range(FRAMES, 3 * len(decoded))
    expected = [decoded[frame % len(decoded)] for frame in late]
    with dgrec.open(write_session(tmp_path / "s.parquet", rows, metadata)) as session:
        footage = find_footage(session)
        with Pixels(footage) as pixels:
            images = [pixels.frame(session.row(frame)) for frame in late]
        times = PictureTimes(footage, source)
        assert {times.of(session.row(frame)) for frame in late} == {"other"}
        times.close()
    assert [None if image is None else number_in(image) for image in images] == expected


@pytest.mark.slow
def test_each_part_has_its_own_video(tmp_path: Path) -> None:
    metadata: Metadata = numbered_metadata({"given": "cam0", "kind": "camera"})
    counts = [30, 20, 40, 10]
    first = 0
    for number, count in enumerate(counts, 1):
        video = recorded_video(tmp_path / f"s-000{number}.mp4", count, first)
        part = {
            **metadata,
            "session_id": f"part-{number}",
            "part": {"number": number, "set_id": "all", "first_frame": first},
            "video": [entry_of(video, count, started_us=first * STEP_US)],
        }
        rows = [recorded_row(first + i, i) for i in range(count)]
        write_part(tmp_path / f"s-000{number}.parquet", rows, part, first)
        first += count
    (tmp_path / "s-0002.mp4").unlink()
    damaged(tmp_path / "s-0003.mp4", 30)
    path = tmp_path / "s.parquet"
    numbers_, notes = seen(path)
    lost = {*range(30, 50), *range(80, 90)}
    assert numbers_ == [None if i in lost else i for i in range(100)]
    assert notes == [
        "s-0003.mp4 is not as it was recorded (its contents have changed); "
        "the video of part 2 is gone",
        "the video of their part cannot be read: 20 recorded frames have no pixels "
        "and are left out",
        "s-0003.mp4 is damaged (from frame 80 on): 10 recorded frames have no pixels "
        "and are left out",
    ]
    (tmp_path / "s-0004.mp4").chmod(0)
    with dgrec.open(path) as session, permissions():
        assert find_footage(session).note.endswith("2 parts are gone, or cannot be read")
    (tmp_path / "s-0004.mp4").chmod(0o644)
    with dgrec.open(path) as session, Pixels(find_footage(session)) as pixels:
        assert [file.name for file in pixels.footage.files] == [
            "s-0001.mp4",
            "s-0003.mp4",
            "s-0004.mp4",
        ]
        for frame in (99, 0, 55, 29, 91, 50):
            image = pixels.frame(session.row(frame))
            assert image is not None
            assert number_in(image) == frame
    numbers_, _ = seen(path, tmp_path / "s-0001.mp4")
    assert numbers_ == [*range(30), *[None] * 70], "the video of one part is of that part"
    numbers_, _ = seen(tmp_path / "s-0004.parquet")
    assert numbers_ == [*range(90, 100)], "a part opened alone"


def test_a_source_whose_decoder_leaves_frames_out(tmp_path: Path) -> None:
    """The recorder counted what its decoder yielded; the index counts one more."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 20
        for i in range(120):
            frame = av.VideoFrame.from_ndarray(numbered_image(i), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    data = bytearray(path.read_bytes())
    at = packets[39].pos  # nothing refers to it: a key frame follows
    assert data[at : at + 4] == b"\0\0\1\xb6"
    # The picture's type (2 bits), no whole second (1), a mark (1), its time (5), a mark (1), and
    # whether it is coded at all.
    data[at + 5] &= 0xFF ^ 1 << 5
    path.write_bytes(data)
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    rows = []
    while True:
        ok, image = capture.read()
        if not ok:
            break
        time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        rows.append((number_in(image), numbered_row(len(rows), len(rows), media_time_s=time_s)))
    assert [number for number, _ in rows] == [*range(39), *range(40, 120)]
    session_path = write_session(
        tmp_path / "s.parquet", [row for _, row in rows], numbered_metadata(file_source(path))
    )
    with dgrec.open(session_path) as session, Pixels(find_footage(session)) as pixels:
        for position in (118, 3, 109, 38, 39, 50):
            image = pixels.frame(session.row(position))
            assert image is not None
            assert number_in(image) == rows[position][0]


@pytest.mark.parametrize("kind", ["camera", "url"])
def test_nothing_but_what_was_recorded_with_it_goes_with_a_stream(
    tmp_path: Path, kind: str
) -> None:
    """Its frames are counted from when it was opened: another file's begin elsewhere."""
    other = write_clip(tmp_path / "other.mp4", 8)
    metadata = numbered_metadata({"given": "cam0", "kind": kind})
    path = write_session(tmp_path / "s.parquet", [numbered_row(i, i) for i in range(8)], metadata)
    with (
        dgrec.open(path) as session,
        pytest.raises(VideoError, match=r"other\.mp4: was not recorded with s\."),
    ):
        find_footage(session, other)

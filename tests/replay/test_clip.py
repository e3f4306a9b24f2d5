"""`dgrec clip`: every frame of a clip carries its own number's row."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import Result

import dgrec as library
from dgrec.files import NewFile
from dgrec.footage import Pixels, VideoFrames, find_footage
from dgrec.format import Journal, JournalWriter, Row, seal, utc_text
from dgrec.paths import part_path
from dgrec.recorder.video.codecs import find_codec
from dgrec.recorder.video.file import EncodedVideo
from dgrec.replay.clip import Span
from dgrec.replay.clip import clip as clip_module
from dgrec.replay.rendering import write_replay
from dgrec.replay.verify import verify
from dgrec.video import VideoWriter
from tests.factory import (
    START_NS,
    edited,
    make_rows,
    new_metadata,
    restart,
    write_journal,
    write_session,
)
from tests.forks import forking
from tests.replay.clips import (
    HEIGHT,
    WIDTH,
    file_source,
    number_drawn,
    number_in,
    numbered_image,
    numbered_metadata,
    numbered_row,
)
from tests.replay.clips import write_clip as write_numbered

FRAMES = 100
STEP_NS = 40_000_000
#: Three frames are late, and two more until those have gone through.
LATENCY_MS = {40: 120, 41: 120, 42: 120, 43: 80, 44: 40}
Run = Callable[..., Result]


def captured_ns(frame: int) -> int:
    """Return an uneven stamp, in whole microseconds."""
    return START_NS + frame * STEP_NS + frame % 5 * 3_000_000


def camera_row(frame: int, video_frame: int | None, **overrides: Any) -> Row:
    stamps = {
        "captured_ns": captured_ns(frame),
        "completed_ns": captured_ns(frame) + LATENCY_MS.get(frame, 20) * 1_000_000,
        "media_time_s": None,
        "pixel_digest": 2**62 + frame,
        "pixel_sample": np.full((45, 80), frame, np.uint8),
    }
    state = None if video_frame is not None else "queue full"
    return numbered_row(
        frame,
        3 * frame + 7,
        **{**stamps, "video_frame": video_frame, "video_state": state, **overrides},
    )


def write_raw(path: Path, numbers: Sequence[int]) -> dict[str, Any]:
    """Write a video as the recorder does, and return what its session says of it."""
    with VideoWriter(path, WIDTH, HEIGHT) as writer:
        for number in numbers:
            pts_us = (captured_ns(number) - captured_ns(numbers[0])) // 1000
            writer.write(numbered_image(number), pts_us)
    return {
        **file_source(path),
        "kind": "raw" if "annotated" not in path.name else "annotated",
        "frames": len(numbers),
        "started_at": utc_text(captured_ns(numbers[0])),
    }


def camera_session(path: Path, frames: range = range(FRAMES), **more: Any) -> Path:
    """Write a session of a camera with raw video, in which every seventh frame is missing."""
    inside = [frame for frame in frames if frame % 7 != 3]
    video = write_raw(path.with_suffix(".mp4"), inside)
    places = {frame: index for index, frame in enumerate(inside)}
    rows = [camera_row(frame, places.get(frame)) for frame in frames]
    metadata = numbered_metadata({"given": "cam0", "kind": "camera"}, video=[video], **more)
    return write_session(path, rows, metadata)


def pictures(path: Path) -> list[Any]:
    clip = VideoFrames(path)
    images = []
    while (image := clip.read(len(images))) is not None:
        images.append(image)
    clip.close()
    return images


def frames_shown(path: Path, folder: Path) -> list[int]:
    """Replay a session; return the numbers of its pictures, each drawn with its own row."""
    output = folder / f"{path.stem}.shown.mp4"
    with library.open(path) as session, Pixels(find_footage(session)) as pixels:
        assert pixels.footage.path is not None, pixels.footage.note
        assert pixels.footage.note == ""
        write_replay(session, pixels, output, overwrite=True)
    numbers = []
    for image in pictures(output):
        assert number_in(image) == number_drawn(image), "another frame's row"
        numbers.append(number_in(image))
    return numbers


def assert_whole(path: Path) -> None:
    assert verify(path) == []


def seen(frames: Sequence[int]) -> list[int]:
    return [frame for frame in frames if frame % 7 != 3]


def assert_rows_kept(clip: Path, original: Path, frames: Sequence[int]) -> None:
    """Assert that rows are those of the original, but for the columns that count in the clip."""
    own = ("frame", "video_frame", "video_state")
    with library.open(clip) as one, library.open(original) as other:
        assert one.schema.equals(other.schema)
        first = other.first_frame
        rows = [one.row(place) for place in range(len(one))]
        olds = [other.row(frame - first) for frame in frames]
        assert [row["frame"] for row in rows] == list(range(len(frames)))
        for row, old in zip(rows, olds, strict=True):
            assert {k: v for k, v in row.items() if k not in own} == {
                k: v for k, v in old.items() if k not in own
            }
        totals = one.metadata["totals"]
        assert totals["frames"] == len(frames)
        assert totals["detections"] == sum(len(row["detections"]) for row in rows)


def metadata_of(path: Path) -> dict[str, Any]:
    with library.open(path) as session:
        return session.metadata


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camera_session(tmp_path_factory.mktemp("camera") / "s.parquet")


def key_frames(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [number for number, packet in enumerate(packets) if packet.is_keyframe]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "frames"),
    [
        (["--start", 20, "--end", 61], range(20, 61)),
        (["--start", "1s", "--end", "1m"], range(25, 100)),
        (["--end", "00:00:02"], range(50)),
        ([], range(100)),
    ],
)
def test_a_part_carries_its_own_rows(
    dgrec: Run, camera: Path, tmp_path: Path, options: list[Any], frames: range
) -> None:
    clip = tmp_path / "clip.parquet"
    done = dgrec("clip", camera, "-o", clip, *options)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"{clip}: {len(frames)} frames\n")
    assert_whole(clip)
    assert frames_shown(clip, tmp_path) == seen(frames)
    assert_rows_kept(clip, camera, frames)
    metadata = metadata_of(clip)
    assert metadata["clip"]["session_id"] == metadata_of(camera)["session_id"]
    assert metadata["session_id"] != metadata["clip"]["session_id"]
    assert metadata["clip"]["ranges"] == [
        {"first_frame": 0, "frames": len(frames), "from_frame": frames[0]}
    ]
    assert metadata["started_at"] == utc_text(captured_ns(frames[0]))
    assert [row["pixel_digest"] - 2**62 for row in rows_of(clip)] == list(frames)
    assert len({row["pixel_signature"] for row in rows_of(clip)}) == len(frames)
    states = [row["video_state"] for row in rows_of(clip)]
    assert [state is not None for state in states] == [frame % 7 == 3 for frame in frames]


def rows_of(path: Path) -> list[dict[str, Any]]:
    with library.open(path) as session:
        return [session.row(place) for place in range(len(session))]


@pytest.mark.slow
def test_utc_is_when_frames_were_captured(dgrec: Run, camera: Path, tmp_path: Path) -> None:
    start = dt.datetime.fromtimestamp(captured_ns(30) // 10**9, dt.UTC)
    start += dt.timedelta(microseconds=captured_ns(30) % 10**9 // 1000)
    clip = tmp_path / "clip.parquet"
    assert dgrec("clip", camera, "-o", clip, "--start", start.isoformat()).exit_code == 0
    assert frames_shown(clip, tmp_path) == seen(range(30, 100))


@pytest.mark.slow
def test_a_reel_of_moments(dgrec: Run, camera: Path, tmp_path: Path) -> None:
    clip = tmp_path / "reel.parquet"
    where = "latency_ms > 100 OR frame IN (10, 90)  -- the odd ones"
    done = dgrec("clip", camera, "-o", clip, "--where", where, "--pad", "200ms")
    assert done.exit_code == 0, done.output
    assert "from 3 moments" in done.output
    ranges = metadata_of(clip)["clip"]["ranges"]
    frames = [
        frame
        for item in ranges
        for frame in range(item["from_frame"], item["from_frame"] + item["frames"])
    ]
    expected = [
        frame
        for frame in range(FRAMES)
        if any(
            abs(captured_ns(frame) - captured_ns(moment)) <= 200_000_000
            for moment in (10, 40, 41, 42, 90)
        )
    ]
    assert frames == expected
    assert_whole(clip)
    assert frames_shown(clip, tmp_path) == seen(frames)
    assert_rows_kept(clip, camera, frames)
    with av.open(str(tmp_path / "reel.shown.mp4")) as container:
        length = container.duration / 1e6
    assert length == pytest.approx(len(frames) * 0.04, abs=0.2), "no pause where it was cut"
    with av.open(str(clip.with_suffix(".mp4"))) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert pts[0] == 0
    assert max(np.diff(pts)) < 200_000


@pytest.mark.slow
def test_moments_that_touch_become_one(dgrec: Run, camera: Path, tmp_path: Path) -> None:
    clip = tmp_path / "reel.parquet"
    where = "frame IN (20, 24)"
    assert dgrec("clip", camera, "-o", clip, "--where", where, "--pad", "100ms").exit_code == 0
    assert [item["from_frame"] for item in metadata_of(clip)["clip"]["ranges"]] == [18]
    assert len(rows_of(clip)) == 9
    done = dgrec("clip", camera, "-o", tmp_path / "two.parquet", "--where", where)
    assert "2 frames from 2 moments" in done.output
    inside = tmp_path / "inside.parquet"
    options = ["--where", where, "--pad", "1s", "--start", 19, "--end", 22]
    assert dgrec("clip", camera, "-o", inside, *options).exit_code == 0
    assert frames_shown(inside, tmp_path) == [19, 20, 21]


@pytest.mark.slow
def test_video_is_copied_where_it_begins_with_a_key_frame(
    dgrec: Run, camera: Path, tmp_path: Path
) -> None:
    video_frame = key_frames(camera.with_suffix(".mp4"))[2]
    start = seen(range(FRAMES))[video_frame]
    for first, word in ((start, "copied"), (start + 2, "encoded again")):
        clip = tmp_path / f"{first}.parquet"
        done = dgrec("clip", camera, "-o", clip, "--start", first, "--end", 90)
        assert f"{clip.with_suffix('.mp4')}: {word}" in done.output
        assert_whole(clip)
        assert frames_shown(clip, tmp_path) == seen(range(first, 90))
        with av.open(str(clip.with_suffix(".mp4"))) as container:
            pts = [packet.pts for packet in container.demux(video=0) if packet.size]
        frames = seen(range(first, 90))
        assert pts == [(captured_ns(f) - captured_ns(frames[0])) // 1000 for f in frames]
    recorded = pictures(camera.with_suffix(".mp4"))
    copied = pictures(tmp_path / f"{start}.mp4")
    assert np.array_equal(copied, recorded[video_frame : video_frame + len(copied)])


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h265", "av1", "vp9"])
def test_a_video_of_any_codec_is_copied(dgrec: Run, codec: str, tmp_path: Path) -> None:
    path, video = tmp_path / "s.parquet", tmp_path / "s.mp4"
    file = EncodedVideo(video, "raw", find_codec(codec), 70)
    for number in range(20):
        file.write(numbered_image(number), (captured_ns(number) - captured_ns(0)) // 1000)
    file.close()
    facts = {"kind": "raw", "codec": codec, "frames": 20, "started_at": utc_text(captured_ns(0))}
    entry = {**file_source(video), **facts}
    camera = {"given": "cam0", "kind": "camera"}
    rows = [camera_row(frame, frame) for frame in range(20)]
    write_session(path, rows, numbered_metadata(camera, video=[entry]))
    clip = tmp_path / "clip.parquet"
    done = dgrec("clip", path, "-o", clip, "--end", 10)
    assert done.exit_code == 0, done.output
    assert f"{clip.with_suffix('.mp4')}: copied" in done.output
    assert metadata_of(clip)["video"][0]["codec"] == codec
    assert_whole(clip)
    shown = pictures(clip.with_suffix(".mp4"))
    assert list(map(number_in, shown)) == list(range(10))
    assert np.array_equal(shown, pictures(video)[: len(shown)])


@pytest.mark.slow
def test_a_reel_of_more_moments_than_files_may_be_open(tmp_path: Path) -> None:
    """Each begins at a key frame of its own in a video of kept packets."""
    count = 60
    video = write_numbered(tmp_path / "s.mp4", count, b_frames=0, group=1)
    entry = {**file_source(video), "kind": "raw", "packets": "kept", "frames": count}
    rows = [camera_row(frame, frame) for frame in range(count)]
    metadata = numbered_metadata({"given": "cam0", "kind": "camera"}, video=[entry])
    moments = [Span(frame, frame + 1) for frame in range(0, count, 2)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with library.open(write_session(tmp_path / "s.parquet", rows, metadata)) as session:
        open_now = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 20, limits[1]))
        try:
            report = clip_module.write_clip(session, moments, tmp_path / "c.parquet")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert report.notes == []
    assert report.videos == [(tmp_path / "c.mp4", True)]
    shown = [number_in(image) for image in pictures(tmp_path / "c.mp4")]
    assert shown == list(range(0, count, 2))


@pytest.mark.slow
def test_a_clip_of_a_clip(dgrec: Run, camera: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "one.parquet", tmp_path / "two.parquet"
    where = ["--where", "frame IN (20, 60)", "--pad", "400ms"]
    assert dgrec("clip", camera, "-o", first, *where).exit_code == 0
    before = seen_frames = frames_shown(first, tmp_path)
    assert dgrec("clip", first, "-o", second, "--start", 5, "--end", 25).exit_code == 0
    assert_whole(second)
    kept = [row["source_frame"] // 3 - 2 for row in rows_of(second)]
    assert frames_shown(second, tmp_path) == seen(kept)
    assert set(seen(kept)) < set(seen_frames)
    assert before == sorted(before)
    clip = metadata_of(second)["clip"]
    assert clip["session_id"] == metadata_of(first)["session_id"]
    assert clip["clip"]["session_id"] == metadata_of(camera)["session_id"]
    assert clip["ranges"] == [{"first_frame": 0, "frames": 20, "from_frame": 5}]


@pytest.mark.slow
def test_a_clip_of_a_recording_in_parts(dgrec: Run, tmp_path: Path) -> None:
    name = tmp_path / "s.parquet"
    for number, start in enumerate(range(0, 90, 30), 1):
        path = part_path(name, number)
        frames = range(start, start + 30)
        inside = seen(frames)
        video = write_raw(path.with_suffix(".mp4"), inside)
        places = {frame: index for index, frame in enumerate(inside)}
        part = {"number": number, "set_id": "set-1", "first_frame": start}
        journal = path.with_suffix(".arrows")
        metadata = numbered_metadata({"given": "cam0", "kind": "camera"}, video=[video], part=part)
        writer = JournalWriter(journal, metadata, durability="never", first_frame=start)
        writer.write([camera_row(frame, places.get(frame)) for frame in frames])
        writer.end({"ended_at": None, "end_reason": "split"})
        writer.close()
        seal(Journal.open(journal), path)
        journal.unlink()
    clip = tmp_path / "clip.parquet"
    done = dgrec("clip", name, "-o", clip, "--start", 25, "--end", 70)
    assert done.exit_code == 0, done.output
    assert_whole(clip)
    assert frames_shown(clip, tmp_path) == seen(range(25, 70))
    assert_rows_kept(clip, name, range(25, 70))
    copied = tmp_path / "copied.parquet"
    done = dgrec("clip", name, "-o", copied, "--start", 30)
    assert "copied" in done.output
    assert_whole(copied)
    assert frames_shown(copied, tmp_path) == seen(range(30, 90))
    late = tmp_path / "late.parquet"
    assert dgrec("clip", part_path(name, 3), "-o", late, "--start", 10).exit_code == 0
    assert frames_shown(late, tmp_path) == seen(range(70, 90))
    assert metadata_of(late)["clip"]["ranges"][0]["from_frame"] == 70


@pytest.mark.slow
def test_a_clip_of_a_journal_whose_recorder_was_killed(dgrec: Run, tmp_path: Path) -> None:
    path = tmp_path / "s.arrows"
    inside = seen(range(60))
    # The video ends before the rows do: what was in the encoder was lost.
    video = write_raw(tmp_path / "s.mp4", inside[:40])
    unfinished = {key: video[key] for key in ("file", "kind", "width", "height")}
    places = {frame: index for index, frame in enumerate(inside)}
    rows = [camera_row(frame, places.get(frame)) for frame in range(60)]
    metadata = numbered_metadata({"given": "cam0", "kind": "camera"}, video=[unfinished])
    write_journal(path, rows, metadata, end=False)
    clip = tmp_path / "clip.parquet"
    done = dgrec("clip", path, "-o", clip, "--start", 8)
    assert done.exit_code == 0, done.output
    assert_whole(clip)
    assert frames_shown(clip, tmp_path) == [frame for frame in inside[:40] if frame >= 8]
    assert rows_of(clip)[-2]["video_state"] == "not in the video that the clip was cut from"


@pytest.mark.slow
def test_pixels_stay_in_the_source_file(dgrec: Run, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    source = write_numbered(media / "clip.mp4", 80)
    rows = [numbered_row(i, i, media_time_s=i * 0.04) for i in range(80)]
    metadata = numbered_metadata(file_source(source, tmp_path))
    del metadata["source"]["path"]
    session = write_session(tmp_path / "s.parquet", rows, metadata)
    (tmp_path / "elsewhere").mkdir()
    clip = tmp_path / "elsewhere" / "clip.parquet"
    assert dgrec("clip", session, "-o", clip, "--start", "1s", "--end", "2s").exit_code == 0
    assert [path.name for path in clip.parent.iterdir()] == ["clip.parquet"]
    assert_whole(clip)
    assert frames_shown(clip, tmp_path) == list(range(25, 50))
    assert_rows_kept(clip, session, range(25, 50))

    beside = tmp_path / "elsewhere" / "beside.parquet"
    options = ["--start", "1s", "--end", "2s", "--with-video"]
    assert dgrec("clip", session, "-o", beside, *options).exit_code == 0
    shutil.rmtree(media)
    assert_whole(beside)
    assert [number_in(image) for image in pictures(beside.with_suffix(".mp4"))] == [*range(25, 50)]
    with library.open(beside) as opened, Pixels(find_footage(opened)) as pixels:
        assert pixels.footage.column == "video_frame"
        shown = [number_in(pixels.frame(result.row)) for result in opened]
    assert shown == list(range(25, 50))
    done = dgrec("clip", session, "-o", tmp_path / "no.parquet", "--with-video")
    assert done.exit_code == 1
    assert "there is no video to put beside the clip" in done.output
    assert not (tmp_path / "no.parquet").exists()


@pytest.mark.slow
def test_an_annotated_video_is_cut_at_the_same_frames(dgrec: Run, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    videos = [
        write_raw(path.with_suffix(suffix), range(50)) for suffix in (".mp4", ".annotated.mp4")
    ]
    rows = [camera_row(frame, frame) for frame in range(50)]
    write_session(path, rows, numbered_metadata({"given": "cam0", "kind": "camera"}, video=videos))
    clip = tmp_path / "clip.parquet"
    assert dgrec("clip", path, "-o", clip, "--start", 11, "--end", 31).exit_code == 0
    assert_whole(clip)
    for name in ("clip.mp4", "clip.annotated.mp4"):
        assert [number_in(image) for image in pictures(tmp_path / name)] == [*range(11, 31)]
    assert [video["file"] for video in metadata_of(clip)["video"]] == [
        "clip.mp4",
        "clip.annotated.mp4",
    ]


def test_a_clip_answers_sql(dgrec: Run, camera: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.parquet"
    assert dgrec("clip", camera, "-o", clip, "--start", 40, "--end", 43).exit_code == 0
    sql = "SELECT count(*) AS n, min(latency_ms) AS low, any_value(session_id) AS id FROM frames"
    (row,) = json.loads(dgrec("query", clip, sql, "--format", "json").output)
    assert (row["n"], row["low"]) == (3, 120.0)
    assert row["id"] == metadata_of(clip)["session_id"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--start", 500], "has 100 frames; --start 500 is past the end"),
        (["--start", 50, "--end", 50], "there is no frame from --start 50 to --end 50"),
        (["--start", "3s", "--end", "1s"], "there is no frame from --start 3s"),
        (["--where", "latency_ms > 9000"], "there is no frame with latency_ms > 9000"),
        (["--where", "speed > 1"], 'Referenced column "speed" not found'),
        (["--where", "latency_ms >"], "--where 'latency_ms >': Parser Error: syntax error"),
        (["--where", "true); DELETE FROM frames; SELECT (1"], "give exactly one"),
    ],
)
def test_what_cannot_be_cut_is_said_in_one_line(
    dgrec: Run, camera: Path, tmp_path: Path, options: list[Any], words: str
) -> None:
    done = dgrec("clip", camera, "-o", tmp_path / "clip.parquet", *options)
    assert done.exit_code == 1, done.output
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_outputs_are_not_replaced_unasked(dgrec: Run, camera: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.parquet"
    assert dgrec("clip", camera, "-o", clip, "--end", 30).exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for output, words in (
        (clip, "exists already"),
        (camera, "is the session itself, or its video"),
        (tmp_path / "clip.mp4", "ends in .parquet"),
        (tmp_path / "no" / "clip.parquet", "there is no folder"),
    ):
        done = dgrec("clip", camera, "-o", output)
        assert done.exit_code == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    done = dgrec("clip", camera, "-o", camera, "--overwrite")
    assert "is the session itself, or its video" in done.stderr
    assert dgrec("clip", camera, "-o", clip, "--start", 50, "--overwrite").exit_code == 0
    assert_whole(clip)
    assert frames_shown(clip, tmp_path) == seen(range(50, 100))
    assert dgrec("clip", camera, "-o", clip, "--pad", "2s").exit_code == 2


@pytest.mark.parametrize("is_shown", [False, True], ids=["other footage", "recorded from it"])
def test_a_clip_without_a_video_takes_the_old_one_away(tmp_path: Path, is_shown: bool) -> None:
    """It would be nobody's, and in the way of every later clip with a video."""
    clip, video = tmp_path / "c.parquet", tmp_path / "c.mp4"
    video.write_bytes(b"recorded")
    entry = {**file_source(video), "kind": "raw", "frames": 2}
    write_session(clip, make_rows(2), new_metadata("c", video=[entry]))
    source = file_source(video) if is_shown else {"given": "cam0", "kind": "camera"}
    path = write_session(tmp_path / "s.parquet", make_rows(2), new_metadata("s", source=source))
    with library.open(path) as session:
        report = clip_module.write_clip(session, [Span(0, 2)], clip, overwrite=True)
    assert report.videos == report.notes == []
    assert video.exists() == is_shown
    assert "video" not in metadata_of(clip)


def test_options_that_make_no_sense(dgrec: Run, tmp_path: Path) -> None:
    session = write_session(tmp_path / "s.parquet", make_rows(5))
    clip = ("clip", session, "-o", tmp_path / "c.parquet", "--where", "true")
    for arguments, option in (
        ((*clip, "--start", "-3"), "--start"),
        ((*clip, "--end", "50%"), "--end"),
        ((*clip, "--pad", "soon"), "--pad"),
        ((*clip[:-1], " "), "--where"),
        (("view", session, "--export", tmp_path / "page", "--start", "-3"), "--start"),
    ):
        done = dgrec(*arguments)
        assert done.exit_code == 2
        assert f"Invalid value for '{option}': " in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"s.parquet"}


def test_a_video_in_the_way_of_a_clip_is_somebodys(
    dgrec: Run, camera: Path, tmp_path: Path
) -> None:
    """It may be footage, or that of a session which was renamed."""
    clip, footage = tmp_path / "clip.parquet", tmp_path / "clip.mp4"
    footage.write_bytes(b"footage")
    for more in ([], ["--overwrite"]):
        done = dgrec("clip", camera, "-o", clip, "--end", 30, *more)
        assert done.exit_code == 1
        assert f"{footage}: exists already, and the video would go there" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"clip.mp4": b"footage"}


def test_pixels_of_another_video_never_get_into_a_clip(dgrec: Run, tmp_path: Path) -> None:
    """Nothing could tell them from the right ones any more: the clip's digest would be theirs."""
    camera = camera_session(tmp_path / "s.parquet")
    with VideoWriter(camera.with_suffix(".mp4"), WIDTH, HEIGHT, overwrite=True) as writer:
        for index in range(FRAMES):
            writer.write(numbered_image(index), index * 77_000)
    output = tmp_path / "clip.parquet"
    done = dgrec("clip", camera, "-o", output, "--start", 10, "--end", 60)
    assert done.exit_code == 0, done.output
    assert "s.mp4 is another video" in done.stderr
    assert_whole(output)
    assert not output.with_suffix(".mp4").exists()


def test_a_video_that_is_gone_is_said(dgrec: Run, tmp_path: Path) -> None:
    camera = camera_session(tmp_path / "s.parquet")
    camera.with_suffix(".mp4").unlink()
    done = dgrec("clip", camera, "-o", tmp_path / "clip.parquet", "--end", 2)
    assert done.exit_code == 0
    words = "recorded beside it, is gone: 2 frames of the clip are not in its raw video"
    assert done.stderr == f"s.mp4, {words}\n"


@pytest.mark.slow
def test_a_damaged_video_is_held_against_the_rows(dgrec: Run, tmp_path: Path) -> None:
    camera = camera_session(tmp_path / "s.parquet")
    video = camera.with_suffix(".mp4")
    data = bytearray(video.read_bytes())
    for at in range(len(data) // 3, len(data) // 3 + 400):
        data[at] ^= 0x5A
    video.write_bytes(data)
    output = tmp_path / "clip.parquet"
    done = dgrec("clip", camera, "-o", output)
    assert "encoded again" in done.output
    assert "have no pixels" in done.stderr
    assert_whole(output)
    shown = frames_shown(output, tmp_path)
    assert 0 < len(shown) < len(seen(range(FRAMES)))


@pytest.mark.slow
def test_a_clip_that_begins_without_pixels_shows_the_rest_in_time(
    dgrec: Run, tmp_path: Path
) -> None:
    camera = camera_session(tmp_path / "s.parquet")
    with VideoWriter(camera.with_suffix(".mp4"), WIDTH, HEIGHT, overwrite=True) as writer:
        for number in seen(range(FRAMES)):
            if number < 10 or number >= 30:
                pts_us = (captured_ns(number) - captured_ns(0)) // 1000
                writer.write(numbered_image(number), pts_us)
    output = tmp_path / "clip.parquet"
    done = dgrec("clip", camera, "-o", output, "--start", 20, "--end", 50)
    assert "encoded again" in done.output
    assert_whole(output)
    assert frames_shown(output, tmp_path) == seen(range(30, 50))
    clip = VideoFrames(output.with_suffix(".mp4"))
    clip.read(0)
    assert clip.time_s == 0
    clip.close()


@pytest.mark.slow
@pytest.mark.parametrize("command", [("query", "SELECT 1"), ("stats",)])
def test_an_answer_does_not_replace_a_recorded_video(
    dgrec: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    camera = camera_session(tmp_path / "s.parquet")
    video = camera.with_suffix(".mp4")
    before = video.read_bytes()
    to_video = ("--output", video, "--overwrite", "--format", "json")
    done = dgrec(command[0], camera, *command[1:], *to_video)
    assert done.exit_code == 1
    assert "is the session itself" in done.stderr
    assert video.read_bytes() == before


# --- killed while it is written ---


def named_before(stop: int, work: Callable[[], Any]) -> None:
    """Do ``work`` in a process that is killed before (even) or after (odd) a file has its name."""
    real, count = NewFile._take_name, itertools.count()

    def take_name(self: NewFile) -> None:
        if next(count) == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self)
        if next(count) == stop:
            os.kill(os.getpid(), signal.SIGKILL)

    with forking():
        process = os.fork()
        if process == 0:
            try:
                NewFile._take_name = take_name  # type: ignore[method-assign]
                work()
            finally:
                os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status), "it came to its end"


@pytest.mark.slow
@pytest.mark.parametrize("stop", range(4))
@pytest.mark.parametrize("start", [0, 20], ids=["copied", "encoded"])
def test_a_clip_that_was_killed_is_in_nobodys_way(
    dgrec: Run, camera: Path, tmp_path: Path, start: int, stop: int
) -> None:
    clip = tmp_path / "clip.parquet"

    def write(overwrite: bool = False) -> None:
        with library.open(camera) as session:
            clip_module.write_clip(session, [Span(start, 60)], clip, overwrite=overwrite)

    named_before(stop, write)
    arguments = ("clip", camera, "--start", start, "--end", 60, "-o", clip)
    done = dgrec(*arguments)
    if stop == 3:  # the session has its name: nothing is missing
        assert "exists already" in done.output
    else:
        assert done.exit_code == 0, done.output
    assert_whole(clip)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip.parquet"]
    # And where there is a clip already.
    named_before(stop, lambda: write(overwrite=True))
    assert dgrec(*arguments, "--overwrite").exit_code == 0
    assert_whole(clip)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip.parquet"]


def test_events_of_rows_without_the_number_of_a_source_frame(tmp_path: Path) -> None:
    numbers = [None, *range(1, 9), None]
    events = [
        {"kind": "size", "source_frame": frame, "width": 4, "height": 2} for frame in (2, 5, 8)
    ]
    path = edited(
        write_session(tmp_path / "s.parquet", make_rows(10)),
        {"source_frame": numbers},
        events=events,
    )
    with library.open(path) as session:
        clip_module.write_clip(session, [Span(0, 6)], tmp_path / "clip.parquet")
    with library.open(tmp_path / "clip.parquet") as clip:
        assert [event["source_frame"] for event in clip.metadata["events"]] == [2, 5]


@pytest.mark.parametrize(
    ("spans", "is_in_it"),
    [
        ([Span(0, 3), Span(7, 9)], True),
        ([Span(0, 3), Span(5, 9)], True),
        ([Span(0, 3)], False),
        ([Span(6, 9)], False),
    ],
)
def test_a_clip_of_two_runs_is_of_two_runs(
    tmp_path: Path, spans: list[Span], is_in_it: bool
) -> None:
    rows = make_rows(10)
    event = restart(rows[5])
    path = write_session(tmp_path / "s.parquet", rows, new_metadata(events=[event]))
    with library.open(path) as session:
        clip_module.write_clip(session, spans, tmp_path / "clip.parquet")
    with library.open(tmp_path / "clip.parquet") as clip:
        assert clip.metadata["events"] == [event] * is_in_it


@pytest.mark.parametrize(
    ("span", "is_in_it"), [(Span(0, 3), False), (Span(2, 8), True), (Span(6, 10), False)]
)
def test_a_clip_has_the_outages_of_its_time(tmp_path: Path, span: Span, is_in_it: bool) -> None:
    rows = make_rows(10)
    times = {"from": utc_text(rows[4].completed_ns), "to": utc_text(rows[5].completed_ns)}
    events = [{"kind": "server_lost", **times, "seconds": 0.03}, {"kind": "of a later dgrec"}]
    path = edited(write_session(tmp_path / "s.parquet", rows), {}, events=events)
    with library.open(path) as session:
        clip_module.write_clip(session, [span], tmp_path / "clip.parquet")
    with library.open(tmp_path / "clip.parquet") as clip:
        assert clip.metadata["events"] == events[0 if is_in_it else 1 :]

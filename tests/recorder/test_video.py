"""Recorded video: every row names the frame that its results were found in."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import dgrec
from bench.kill9_video import mismatches, run_once
from dgrec.clock import Clock
from dgrec.errors import OutputError, VideoError
from dgrec.paths import VideoKind
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.cli import record_command
from dgrec.recorder.job import Plan, RecordRequest, make_plan
from dgrec.recorder.options import RecordingOptions, Retention, Splitting
from dgrec.recorder.recovery import recover
from dgrec.recorder.segments import PlacedRow
from dgrec.recorder.sources import FileSource, Frame, FrameSource, open_source, parse_source
from dgrec.recorder.video import encoder as video_module
from dgrec.recorder.video import video_options
from dgrec.recorder.video.codecs import CODECS, find_codec
from dgrec.recorder.video.file import EncodedVideo, _CountedFile
from dgrec.recorder.video.mp4 import drop_torn_end, frame_stamps
from dgrec.recorder.writing import parts as parts_module
from dgrec.replay.verify import verify
from dgrec.session import Session
from dgrec.video import import_av
from tests.factory import CLOSING, write_journal
from tests.footage import Encoding, encode
from tests.recorder.command import Command, error_of, names
from tests.recorder.doubles import (
    PysdkDouble,
    ScriptedFrames,
    journal_of,
    new_stream,
    record,
    write_rows,
)
from tests.recorder.network_camera import MjpegCamera, frame_number
from tests.replay.clips import (
    BLOCK,
    HEIGHT,
    WIDTH,
    number_drawn,
    number_in,
    numbered_image,
    numbered_results,
    numbered_row,
    write_clip,
)
from tests.waiting import wait_until

FRAMES = 90
#: A rate that varies from frame to frame, in milliseconds.
UNEVEN = np.cumsum(np.random.default_rng(3).integers(15, 90, FRAMES)).tolist()
SETTINGS = {"draw_color": (255, 255, 255), "line_width": 9, "show_labels": False}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("footage") / "numbered.mp4", FRAMES, UNEVEN)


class NoisyFrames(ScriptedFrames):
    """Pictures with their number that are hard to encode: 15 KB each."""

    def __init__(self) -> None:
        super().__init__(i / 30 for i in range(FRAMES))
        self._noise = np.random.default_rng(2).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is not None:
            frame.image = np.roll(self._noise, frame.source_frame, 1)
            top = numbered_image(frame.source_frame)[: 2 * BLOCK]
            frame.image[: 2 * BLOCK] = top
            frame.height, frame.width = frame.image.shape[:2]
        return frame


def options(*kinds: VideoKind, codec: str = "h264", **more: Any) -> dict[str, Any]:
    """Return options of a recording with videos."""
    video = "both" if len(kinds) == 2 else kinds[0] if kinds else "raw"
    return {"video": video, "codec": codec, **{f"video_{name}": more[name] for name in more}}


def run(
    output: Path,
    footage: Path | NoisyFrames,
    video: dict[str, Any],
    *,
    decimator: Decimator | None = None,
    pause_s: float = 0.0,
    watch: Callable[[int], None] = lambda _: None,
    **more: Any,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Record the footage through the real `predict_stream`; return the rows and the metadata."""
    clock = Clock()
    frames: FrameSource
    if isinstance(footage, Path):
        source = parse_source(str(footage))
        frames = FileSource(open_source(source), clock)
    else:
        frames = footage
    kept = []

    def infer(index: int) -> list[Any]:
        time.sleep(pause_s)
        return numbered_results(index)

    def watcher(row: Any, _: Any) -> None:
        kept.append(row.source_frame)
        watch(len(kept) - 1)

    model = PysdkDouble("Detection", infer, **SETTINGS)
    capture = Capture(frames, decimator=decimator)
    _, metadata = record(
        model, capture, output, model.describe(), clock=clock, watchers=(watcher,),
        **video, **more,
    )  # fmt: skip
    assert isinstance(metadata, dict), metadata
    assert verify(output) == []
    return rows_of(output), metadata


def rows_of(output: Path) -> list[dict[str, Any]]:
    with Session(output) as session:
        return [row for batch in session.batches() for row in batch.to_pylist()]


def pictures(path: Path) -> list[tuple[int, bool, np.ndarray[Any, Any]]]:
    """Return (microseconds, whether it is a key frame, BGR pixels) of every frame."""
    with import_av().open(str(path)) as container:
        return [
            (round(f.pts * f.time_base * 10**6), f.key_frame, f.to_ndarray(format="bgr24"))
            for f in container.decode(video=0)
        ]


def check(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Check that the video has exactly the frames of ``rows`` that say so, at their stamps."""
    shown = pictures(path)
    named = [row for row in rows if row["video_frame"] is not None]
    assert [row["video_frame"] for row in named] == list(range(len(shown)))
    begun = named[0]["captured_at"]
    key = 0
    for row, (pts, is_key, image) in zip(named, shown, strict=True):
        assert number_in(image) == row["source_frame"]
        assert pts == round((row["captured_at"] - begun).total_seconds() * 10**6)
        if is_key:
            key = pts
        assert pts - key <= 1_000_000
        assert row["video_state"] is None
    assert shown[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3])
def test_each_row_names_its_frame(tmp_path: Path, footage: Path, every: int) -> None:
    output = tmp_path / "s.parquet"
    rows, metadata = run(output, footage, options(), decimator=Decimator(every=every))
    assert [row["source_frame"] for row in rows] == list(range(0, FRAMES, every))
    assert all(row["video_frame"] is not None for row in rows)
    check(tmp_path / "s.mp4", rows)
    (entry,) = metadata["video"]
    with Session(output) as session:
        assert session.metadata["video"] == [entry]
    size = (tmp_path / "s.mp4").stat().st_size
    assert (entry["frames"], entry["size"], entry["file"]) == (len(rows), size, "s.mp4")
    assert entry["started_at"].replace("Z", "+00:00") == rows[0]["captured_at"].isoformat()
    assert mismatches(output) == (len(rows), 0)


def test_key_frames_by_the_clock(tmp_path: Path) -> None:
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec("h264"), 70)
    stamps = [i * 70_000 for i in range(60)] + [9_000_000, 12_500_000]
    for i, pts in enumerate(stamps):
        file.write(np.full((49, 65, 3), i, np.uint8), pts)
    file.close()
    shown = pictures(file.path)
    assert [pts for pts, _, _ in shown] == stamps == frame_stamps(file.path)
    assert shown[0][2].shape == (50, 66, 3)
    keys = [pts for pts, is_key, _ in shown if is_key]
    assert max(np.diff([k for k in keys if k < 4_200_000])) <= 1_000_000
    assert keys[-2:] == [9_000_000, 12_500_000]


@pytest.mark.slow
def test_frames_left_out_keep_their_rows(
    tmp_path: Path, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    write = EncodedVideo.write

    encoded: list[int] = []

    def slow(self: EncodedVideo, image: Any, pts_us: int) -> None:
        assert gate.wait(60)
        write(self, image, pts_us)
        encoded.append(pts_us)

    monkeypatch.setattr(EncodedVideo, "write", slow)
    monkeypatch.setattr(video_module, "_QUEUE_FRAMES", 5)

    def watch(index: int) -> None:
        if index == 30:
            gate.set()
            wait_until(lambda: len(encoded) == 10)  # five frames in two videos: it catches up

    rows, metadata = run(
        tmp_path / "s.parquet", footage, options("raw", "annotated", policy="leave-out"),
        watch=watch,
    )  # fmt: skip
    assert len(rows) == FRAMES
    assert [row["video_frame"] for row in rows[:5]] == [0, 1, 2, 3, 4]
    assert {row["video_state"] for row in rows[5:30]} == {"encoder_busy"}
    assert {row["video_frame"] for row in rows[5:30]} == {None}
    assert rows[31]["video_frame"] is not None
    left_out = [row for row in rows if row["video_state"] is not None]
    assert metadata["totals"]["video_left_out"] == len(left_out)
    check(tmp_path / "s.mp4", rows)
    annotated = pictures(tmp_path / "s.annotated.mp4")
    raw = pictures(tmp_path / "s.mp4")
    assert [number_in(image) for _, _, image in annotated] == [number_in(i) for _, _, i in raw]
    assert [pts for pts, _, _ in annotated] == [pts for pts, _, _ in raw]
    for row in rows:
        if row["video_frame"] is not None:
            assert number_drawn(annotated[row["video_frame"]][2]) == row["frame"]


def test_footage_waits_for_the_encoder(
    tmp_path: Path, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_QUEUE_BYTES", 1)  # one frame waits alone
    rows, metadata = run(tmp_path / "s.parquet", footage, options())
    assert [row["video_frame"] for row in rows] == list(range(FRAMES))
    assert metadata["totals"]["video_left_out"] == 0


def test_nobody_draws_on_what_waits(tmp_path: Path, footage: Path) -> None:
    kept: list[Any] = []

    class Model(PysdkDouble):
        def predict_batch(self, frames: Any) -> Any:
            for result in super().predict_batch(frames):
                kept.append(result)
                yield result

    model = Model("Detection", lambda _: [], **SETTINGS)
    capture = Capture(ScriptedFrames([0.0, 0.1]))
    record(model, capture, tmp_path / "s.parquet", model.describe(), **options())
    with pytest.raises(ValueError, match="read-only"):
        kept[0].image[:] = 0


@pytest.mark.slow
def test_parts_are_cut_where_rows_are(tmp_path: Path, footage: Path) -> None:
    output = tmp_path / "s.parquet"
    splitting = Splitting(every_s=0.12)
    run(output, footage, options("raw", "annotated"), pause_s=0.005, splitting=splitting)
    with dgrec.open(output) as session:
        parts = list(session.parts)
        assert len(session) == FRAMES
        assert session.metadata["totals"]["video_left_out"] == 0
    assert len(parts) > 2
    for part in parts:
        rows = rows_of(part.path)
        raw, annotated = part.metadata["video"]
        assert raw["file"] == f"{part.path.stem}.mp4"
        assert annotated["file"] == f"{part.path.stem}.annotated.mp4"
        assert raw["frames"] == annotated["frames"] == len(rows)
        check(tmp_path / raw["file"], rows)
        assert len(frame_stamps(tmp_path / annotated["file"])) == len(rows)
        assert verify(part.path) == []
    assert len(names(tmp_path)) == 3 * len(parts)


@pytest.mark.slow
def test_split_by_the_size_of_the_video(tmp_path: Path) -> None:
    size = 250_000
    run(
        tmp_path / "s.parquet",
        NoisyFrames(),
        options(),
        pause_s=0.02,
        splitting=Splitting(size=size),
    )
    with dgrec.open(tmp_path / "s") as session:
        parts = list(session.parts)
    # The journals alone, of 90 rows in all, take about 60 KB.
    assert len(parts) > 1
    for part in parts:
        check(tmp_path / part.metadata["video"][0]["file"], rows_of(part.path))


@pytest.mark.slow
def test_parts_are_removed_with_their_videos(tmp_path: Path) -> None:
    splitting = Splitting(every_s=0.4, keep=Retention(total=300_000))
    _, metadata = run(
        tmp_path / "s.parquet", NoisyFrames(), options(), pause_s=0.02, splitting=splitting
    )
    kept = {Path(name).stem for name in names(tmp_path)}
    assert "s-0001" not in kept
    assert names(tmp_path) == sorted(
        f"{stem}{end}" for stem in kept for end in (".mp4", ".parquet")
    )
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size <= 300_000 or len(kept) == 1
    assert metadata["totals"]["frames"] == FRAMES


@pytest.mark.slow
def test_a_part_that_cannot_be_begun(
    tmp_path: Path, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were handed over for it say so, and its next try has a video of its own."""
    monkeypatch.setattr(parts_module, "_RETRY_NS", 50_000_000)
    output, blocker = tmp_path / "s.parquet", tmp_path / "s-0002.arrows"

    def watch(index: int) -> None:
        if index == 10:
            blocker.write_bytes(b"in the way")
        elif index == 50:
            blocker.unlink()
        if index in (20, 40, 60):  # the writer comes to it
            time.sleep(0.6)

    splitting = Splitting(every_s=0.3)
    rows, _ = run(output, footage, options(), watch=watch, splitting=splitting)
    states = [row["video_state"] for row in rows]
    assert set(states) == {None, "part_not_begun"}
    with dgrec.open(output) as session:
        parts = list(session.parts)
        assert session.damage == []
        assert session.metadata["totals"]["video_left_out"] == states.count("part_not_begun")
    assert len(parts) > 1
    for part in parts:
        check(tmp_path / part.metadata["video"][0]["file"], rows_of(part.path))
    assert len(names(tmp_path)) == 2 * len(parts)  # no video without its part


@pytest.mark.slow
def test_two_parts_that_cannot_be_begun(tmp_path: Path) -> None:
    """The second was cut before the writer came to the first: neither may be left out."""
    blocker = tmp_path / "s-0002.arrows"
    blocker.write_bytes(b"in the way")
    journal = journal_of(tmp_path / "s", Splitting(every_s=1))
    rows = [numbered_row(i, i) for i in range(400)]  # 30 a second
    placed = [PlacedRow(row, journal.cutter.segment_of(row.completed_ns)) for row in rows[:90]]
    numbers = [segment.number for _, segment in placed]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 3
    journal.write(placed)
    blocker.unlink()
    for row in rows[90:]:
        write_rows(journal, [row])
    journal.end(CLOSING)
    assert journal.seal() == []
    with dgrec.open(tmp_path / "s") as session:
        assert session.damage == []
        counts = [part.rows for part in session.parts]
    # Five seconds after the last try, and then on the grid again.
    assert counts[0] in range(205, 215)
    assert counts[2:-1] == [30] * (len(counts) - 3)


@pytest.mark.slow
def test_a_full_disk_ends_the_video_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = _CountedFile.write

    def full(self: _CountedFile, data: Any) -> int:
        if self.size + len(data) > 250_000:  # well before the last frame
            write(self, memoryview(data)[:100])  # torn
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    monkeypatch.setattr(_CountedFile, "write", full)
    monkeypatch.setattr(video_module, "_QUEUE_FRAMES", 5)
    rows, metadata = run(tmp_path / "s.parquet", NoisyFrames(), options(), pause_s=0.02)
    assert len(rows) == FRAMES
    (entry,) = metadata["video"]
    assert entry["problem"] == "cannot be written: No space left on device"
    shown = pictures(tmp_path / "s.mp4")
    assert 0 < len(shown) == entry["frames"] < FRAMES
    for row in rows:
        if row["video_frame"] is not None and row["video_frame"] < len(shown):
            assert number_in(shown[row["video_frame"]][2]) == row["source_frame"]
    assert rows[-1]["video_state"] == "encoder_failed"


def test_an_overlay_that_cannot_be_drawn(tmp_path: Path, footage: Path) -> None:
    odd = {"bbox": [1, 2, 30, 40], "label": "car", "category_id": 1, "score": "high"}
    model = PysdkDouble("Detection", lambda i: [odd] if i == 7 else [])
    capture = Capture(ScriptedFrames([i / 30 for i in range(20)]))
    recording = new_stream(
        model, capture, tmp_path / "s.parquet", model.describe(), **options("raw", "annotated")
    )
    metadata = recording.run()
    raw, annotated = metadata["video"]
    assert raw["frames"] == 20
    assert annotated["frames"] < 8
    assert "overlay cannot be drawn" in annotated["problem"]
    (note,) = recording.notes
    assert note.startswith(f"{tmp_path}/s.annotated.mp4: the overlay cannot be drawn")
    assert verify(tmp_path / "s.parquet") == []


@pytest.mark.slow
def test_overwriting(tmp_path: Path, footage: Path) -> None:
    """The old session keeps its pixels until there is a new one, and leaves nothing behind."""
    output = tmp_path / "s.parquet"
    run(output, footage, options("raw", "annotated"))
    old = (tmp_path / "s.mp4").read_bytes()
    seen: list[bytes] = []

    def watch(index: int) -> None:
        if index == 5:
            seen.append((tmp_path / "s.mp4").read_bytes())

    rows, _ = run(output, footage, options(quality=20), watch=watch, overwrite=True)
    assert seen == [old]
    assert names(tmp_path) == ["s.mp4", "s.parquet"]
    assert len((tmp_path / "s.mp4").read_bytes()) < len(old)
    check(tmp_path / "s.mp4", rows)
    run(output, footage, options(), overwrite=True, splitting=Splitting(every_s=60))
    assert names(tmp_path) == ["s-0001.mp4", "s-0001.parquet"]
    run(output, footage, options(), overwrite=True, splitting=Splitting(every_s=60))
    assert names(tmp_path) == ["s-0001.mp4", "s-0001.parquet"]
    check(tmp_path / "s-0001.mp4", rows_of(tmp_path / "s-0001.parquet"))


def plan_of(source: str = "sample", **choices: Any) -> Plan:
    """Return the plan of a recording; ``choices`` are its options, and where it goes."""
    where = {name: choices.pop(name) for name in ("output", "overwrite") if name in choices}
    options = RecordingOptions(**choices)
    return make_plan(source, {}, RecordRequest(sources=(source,), options=options, **where))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("s.mp4", {}),
        ("s.mp4", {"overwrite": True}),
        ("s.new.mp4", {}),
        ("s.annotated.mp4", {"video": "both"}),
        ("s-0003.mp4", {"split_every": 60.0}),
    ],
)
def test_a_file_in_the_way_is_somebodys(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    (tmp_path / name).write_bytes(b"footage")
    wanted = {"output": tmp_path / "s.parquet", "video": "raw", **more}
    with pytest.raises(OutputError, match=f"{name}: exists already, and the video would go there"):
        plan_of(**wanted)
    plan_of(**{**wanted, "video": "auto"})  # which records none of a file


def test_auto() -> None:
    assert not plan_of().has_video
    live = plan_of("rtsp://192.0.2.1/x").options
    assert (live.video, live.video_policy) == ("raw", "leave-out")
    file = plan_of(video="both").options
    assert (file.video, file.video_policy) == ("both", "block")
    assert video_options(file).kinds == ("raw", "annotated")


@pytest.mark.parametrize("codec", [codec.name for codec in CODECS])
def test_codecs(tmp_path: Path, codec: str) -> None:
    sizes = []
    noise = np.random.default_rng(1).integers(0, 255, (6, 8, 3), np.uint8).repeat(16, 0)
    for quality in (20, 90):
        path = tmp_path / f"{quality}.mp4"
        file = EncodedVideo(path, "raw", find_codec(codec), quality, (128, 96))
        for i in range(12):
            file.write(np.roll(noise.repeat(16, 1), i, 1), i * 100_001)
        file.close()
        assert frame_stamps(path) == [i * 100_001 for i in range(12)]
        sizes.append(path.stat().st_size)
        with import_av().open(str(path)) as container:
            context = container.streams.video[0].codec_context
            assert (context.pix_fmt, context.has_b_frames) == ("yuv420p", False)
    assert sizes[0] * 1.3 < sizes[1]


@pytest.mark.slow
@pytest.mark.parametrize("video", ["raw", "auto"])
def test_a_codec_that_there_is_not(dgrec: Command, video: str) -> None:
    with pytest.raises(VideoError, match="the installed PyAV offers h264"):
        find_codec("h266")
    done = dgrec.record("--source", "sample", "--video", video, "--codec", "mpeg1")
    assert error_of(done) == "--codec mpeg1: the installed PyAV offers h264, h265, av1, vp9"
    assert names(dgrec.folder) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        ["--video-quality", "70"],
        ["--codec", "h264"],
        ["--video-size", "64x48", "--video", "none"],
        ["--video-when-full", "block"],
    ],
)
def test_options_of_a_video_where_there_is_none(dgrec: Command, given: list[str]) -> None:
    """Also where the value is that by default: who says it wants a video."""
    error = error_of(dgrec.record("--source", "sample", *given))
    assert error == f"{given[0]}: no video is recorded of sample; add --video raw"
    assert names(dgrec.folder) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("big", "is not a valid size; expected WIDTHxHEIGHT, such as 640x360"),
        ("641x360", "both numbers must be even"),
        ("8x8", "videos are 16 to 8192 pixels"),
    ],
)
def test_sizes_that_make_no_sense(text: str, message: str) -> None:
    done = CliRunner().invoke(record_command, ["--source", "sample", "--video-size", text])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_pictures_of_other_sizes(tmp_path: Path) -> None:
    """A raw one is stretched, as the reader will stretch it back; an overlay keeps its shape."""
    white = np.full((100, 200, 3), 255, np.uint8)
    tall = np.full((200, 100, 3), 255, np.uint8)
    small = np.full((50, 100, 3), 255, np.uint8)
    kinds: tuple[VideoKind, ...] = ("raw", "annotated")
    for kind in kinds:
        file = EncodedVideo(tmp_path / f"{kind}.mp4", kind, find_codec("h264"), 90)
        for i, image in enumerate((white, tall, small)):
            file.write(image, i * 40_000)
        file.close()
    raw, annotated = ([i for _, _, i in pictures(tmp_path / f"{kind}.mp4")] for kind in kinds)
    assert all(image.shape == (100, 200, 3) and image.min() > 200 for image in raw)
    assert annotated[1][:, :48].min() > 200
    assert annotated[1][:, 54:].max() < 50
    assert annotated[2].min() > 200


def test_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    file = EncodedVideo(tmp_path / "v.mp4", "raw", find_codec("h264"), 90)
    noise = np.random.default_rng(1).integers(0, 255, (96, 128, 3), np.uint8)
    for i in range(60):
        file.write(np.roll(noise, i, 1), i * 40_000)
    left = file.path.read_bytes()
    file.discard()
    assert not file.path.exists()
    counts = set()
    for size in range(len(left) - 200_000, len(left) + 1, 20_000):
        torn = tmp_path / "torn.mp4"
        torn.write_bytes(left[:size])
        drop_torn_end(torn)
        stamps = frame_stamps(torn)
        assert stamps == [i * 40_000 for i in range(len(stamps))]
        counts.add(len(stamps))
        whole = torn.read_bytes()
        drop_torn_end(torn)
        assert torn.read_bytes() == whole
    assert len(counts) > 1


@pytest.mark.slow
@pytest.mark.parametrize("split", [False, True])
def test_killed_and_recovered(tmp_path: Path, split: bool) -> None:
    # How much of the end is lost, half a second or so, is what the command measures.
    found, wrong, _ = run_once(tmp_path, 5, 30.0, split, at_least=20)
    assert found > 5
    assert wrong == 0


@pytest.mark.slow
def test_recovering_beside_another_video(tmp_path: Path, footage: Path) -> None:
    """What has the video's name and other frames is somebody's."""
    output = tmp_path / "s.parquet"
    run(output, footage, options(), splitting=Splitting(every_s=60))
    with Session(tmp_path / "s-0001.parquet") as session:
        metadata = session.metadata
    entry = {"file": "v.mp4", "kind": "raw", "codec": "h264"}
    rows = [numbered_row(i, i, video_frame=i) for i in range(20)]
    journal = tmp_path / "v.arrows"
    write_journal(journal, rows, {**metadata, "video": [entry]}, end=False)
    write_clip(tmp_path / "v.mp4", 30, [i * 41 + i % 2 for i in range(30)])
    before = (tmp_path / "v.mp4").read_bytes()
    result = recover(journal)
    assert result.videos == (f"{tmp_path}/v.mp4: is not the video of this recording; left out",)
    assert (tmp_path / "v.mp4").read_bytes() == before
    with Session(tmp_path / "v.parquet") as session:
        assert session.metadata["video"] == []
    # A stream without times.
    write_journal(journal, rows, {**metadata, "video": [entry]}, end=False)
    (tmp_path / "v.parquet").unlink()
    encode(tmp_path / "v.h264", Encoding()).rename(tmp_path / "v.mp4")
    result = recover(journal)
    assert result.videos == (f"{tmp_path}/v.mp4: is not the video of this recording; left out",)
    # Killed before the first fragment was complete.
    write_journal(journal, rows, {**metadata, "video": [entry]}, end=False)
    (tmp_path / "v.parquet").unlink()
    (tmp_path / "v.mp4").write_bytes(before[:32])
    (note,) = recover(journal).videos
    assert note == f"{tmp_path}/v.mp4: nothing in it can be played; left out"


@pytest.mark.slow
def test_a_camera_is_recorded_with_its_pictures(dgrec: Command) -> None:
    with MjpegCamera(fps=12.0) as camera:
        done = dgrec.record(
            "--source", camera.url, "--max-frames", "25", "--output", "s.parquet",
            "--video-size", "640x480",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Video: s.mp4 (" in done.stderr
    rows = rows_of(dgrec.folder / "s.parquet")
    shown = pictures(dgrec.folder / "s.mp4")
    assert len(rows) == 25
    named = [row for row in rows if row["video_frame"] is not None]
    assert [row["video_frame"] for row in named] == list(range(len(shown)))
    offsets = {
        frame_number(shown[row["video_frame"]][2][::2, ::2]) - row["source_frame"] for row in named
    }
    assert len(offsets) == 1
    assert verify(dgrec.folder / "s.parquet") == []
    with Session(dgrec.folder / "s.parquet") as session:
        recorded = session.metadata["options"]
        assert (recorded["video"], recorded["codec"]) == ("auto", "h264")
        assert json.loads(json.dumps(recorded["video_size"])) == [640, 480]


@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 700), (700, 1), (2, 2), pytest.param((6000, 4000), marks=pytest.mark.slow)],
)
def test_lossless_pictures_of_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    """Line cameras have one row of pixels; FFV1 takes a large picture in several slices."""
    images = [np.full((size[1], size[0], 3), (9, 80, value), np.uint8) for value in (7, 200)]
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output, video="lossless") as recorder:
        for image in images:
            recorder.add([], image=image)
    with dgrec.open(output) as session:
        (video,) = session.metadata["video"]
    assert (video["width"], video["height"], video["frames"]) == (*size, 2)
    with import_av().open(str(tmp_path / "s.mp4")) as container:
        decoded = [each.to_ndarray(format="bgr24") for each in container.decode(video=0)]
    assert len(decoded) == 2
    assert all(map(np.array_equal, decoded, images))


def test_lossless_says_what_it_scaled(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    with dgrec.Recorder(output, video="lossless") as recorder:
        for size in ((90, 160, 3), (90, 160, 3), (60, 80, 3), (90, 160, 3)):
            recorder.add([], image=np.zeros(size, np.uint8))
    assert recorder.notes == [
        f"{tmp_path / 's.mp4'}: 1 frame of another size, scaled to 160x90: not lossless"
    ]

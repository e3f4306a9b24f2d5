"""``dgrec record`` on footage that is interlaced, damaged, cut short or oddly stamped."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dgrec as library
from dgrec import sample
from dgrec.clock import Clock
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.sources import FileSource, open_source, parse_source
from dgrec.replay.verify import Findings, check
from dgrec.video import VideoReader, import_av
from dgrec.video.losses import Losses
from tests.footage import FRAMES, kinds
from tests.recorder.command import Command
from tests.recorder.doubles import PysdkDouble, record

KINDS = {kind.name: kind for kind in kinds()}


def make(name: str, folder: Path) -> Path:
    path = folder / name
    KINDS[name].make(path)
    return path


@pytest.mark.parametrize("bframes", [0, 2])
def test_files_put_one_behind_the_other(tmp_path: Path, bframes: int) -> None:
    """Where stamps begin again, pictures that still come out of the decoder are not lost."""
    av = import_av()
    one = tmp_path / "one.ts"
    with av.open(str(one), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": str(bframes), "g": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            picture = np.full((48, 64, 3), number * 8, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() * 3)
    reader = VideoReader(both)
    pictures = list(iter(reader.read, None))
    assert len(pictures) == 90
    assert sum(picture.lost_before for picture in pictures) + reader.lost_at_end == 0
    reader.release()


def test_losses_where_stamps_begin_again() -> None:
    losses = Losses("h264")
    for stamp in (0, 1, 2, 3, 0, 1, 2):
        packet = SimpleNamespace(pts=stamp, is_discard=False, is_keyframe=stamp == 0)
        losses.expect(packet)
    came = [SimpleNamespace(pts=stamp, interlaced_frame=False) for stamp in (0, 2, 1)]
    # Of the first four 1 and 3 are lost, of the others 0 and 2.
    assert [losses.before(frame) for frame in came] == [0, 1, 2]
    assert losses.at_end(7, 3) == 1


@pytest.mark.slow
def test_faces_are_found_in_interlaced_footage(dgrec: Command) -> None:
    """OpenCV 4.13 and newer return True and a black picture."""
    av = import_av()
    reader = VideoReader(sample.CLIP)
    for _ in range(150):
        assert reader.skip()
    with av.open(str(dgrec.folder / "interlaced.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = reader.size
        stream.pix_fmt = "yuv420p"
        stream.options = {"x264-params": "tff=1", "crf": "18"}
        stream.codec_context.flags |= 1 << 18 | 1 << 29
        for picture in itertools.islice(iter(reader.read, None), 8):
            frame = av.VideoFrame.from_ndarray(picture.image, format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reader.release()
    with av.open(str(dgrec.folder / "interlaced.mp4")) as container:
        assert next(container.decode(video=0)).interlaced_frame
    done = dgrec.record("--source", "interlaced.mp4", "--output", "s.parquet")
    assert done.returncode == 0, done.stderr
    with library.open(dgrec.folder / "s.parquet") as session:
        found = [result.results for result in session]
    assert len(found) == 8
    assert [len(results) > 0 for results in found] == [True] * 8


def recorded(
    path: Path, output: Path, max_frames: int | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Record a file with a model that finds nothing; return rows and metadata."""
    clock = Clock()
    model = PysdkDouble("Detection", lambda _: [])
    source = FileSource(open_source(parse_source(str(path))), clock)
    capture = Capture(source, max_frames=max_frames)
    record(model, capture, output, model.describe(), clock=clock)
    with library.open(output) as session:
        return session.frames.to_pylist(), session.metadata


@pytest.mark.parametrize("max_frames", [None, 12])
def test_damage_is_counted_and_reported(tmp_path: Path, max_frames: int | None) -> None:
    output = tmp_path / "s.parquet"
    rows, metadata = recorded(make("damaged-h264.mp4", tmp_path), output, max_frames)
    assert [row["source_frame"] for row in rows] == list(range(max_frames or FRAMES - 1))
    assert [row["frame"] for row in rows if row["dropped_camera"]] == [10]
    assert metadata["end_reason"] == ("limit" if max_frames else "finished")
    assert metadata["totals"]["dropped_camera"] == 1
    (event,) = metadata["events"]
    assert (event["kind"], event["lost"], event["source_frame"]) == ("damage", 1, 10)
    assert check(output) == Findings([], ["1 frame of its source could not be decoded"])


@pytest.mark.parametrize("name", ["cut-short.mkv", "cut-short.avi"])
def test_a_file_that_was_cut_short_is_not_finished(tmp_path: Path, name: str) -> None:
    output = tmp_path / "s.parquet"
    rows, metadata = recorded(make(name, tmp_path), output)
    assert 0 < len(rows) < FRAMES
    assert metadata["end_reason"] == "incomplete"
    assert metadata["end_detail"].endswith("the file ends early")
    assert f"its source was incomplete: {metadata['end_detail']}" in check(output).notes


@pytest.mark.slow
def test_the_summary_says_what_is_missing(dgrec: Command) -> None:
    make("cut-short.mp4", dgrec.folder)
    done = dgrec.record("--source", "cut-short.mp4", "--output", "s.parquet")
    assert done.returncode == 0, done.stderr
    with library.open(dgrec.folder / "s.parquet") as session:
        count, metadata = len(session), session.metadata
    assert metadata["end_detail"] == f"{count} of {FRAMES} frames: the file ends early"
    assert "Damaged in the source: 1 frame could not be decoded." in done.stderr
    assert f"The source is incomplete: {metadata['end_detail']}." in done.stderr


def kept(path: Path, fps: float) -> list[int]:
    reader = open_source(parse_source(str(path)))
    capture = Capture(FileSource(reader, Clock()), decimator=Decimator(fps))
    frames = []
    while (answer := capture.read())[0]:
        frames.append(capture.take(answer[1]).source_frame)
    capture.release()
    return frames


@pytest.mark.parametrize("name", ["repeated-stamp.mkv", "stamp-goes-back.mkv", "h264.mkv"])
def test_an_odd_stamp_leaves_the_rate_alone(tmp_path: Path, name: str) -> None:
    assert kept(make(name, tmp_path), 5) == [0, 5, 10, 15, 20]


def test_a_file_without_stamps_keeps_its_pace(tmp_path: Path) -> None:
    assert kept(make("no-stamps.h264", tmp_path), 5) == [0, 5, 10, 15, 20]

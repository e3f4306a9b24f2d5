"""MCAP read by the mcap library with Foxglove's schemas, Rerun's recordings by Rerun."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import dgrec
from dgrec.errors import DgrecError
from dgrec.format import Row
from tests.factory import CAMERA, edited, make_detection, make_row, new_metadata, write_session
from tests.replay.clips import file_source, number_in, numbered_results, write_clip
from tests.replay.exports.made import NUMBERED, detections, numbered, tracked, with_points
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow


def _messages(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Return (log time, message) of each topic, in order."""
    reader = pytest.importorskip("mcap.reader")
    decoder = pytest.importorskip("mcap_protobuf.decoder")
    found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    with path.open("rb") as file:
        made = reader.make_reader(file, decoder_factories=[decoder.DecoderFactory()])
        for schema, channel, message in made.iter_messages():
            if schema.encoding == "protobuf":
                decoded = made._decoder_factories[0].decoder_for("protobuf", schema)(message.data)
            else:
                decoded = json.loads(message.data)
            found[channel.topic].append((message.log_time, decoded))
    return found


def _ns(row: Row) -> int:
    return row.captured_ns // 1000 * 1000


def _decoded(packets: list[Any]) -> list[int]:
    """Return the numbers in the pictures of a stream of packets, without any header of a file."""
    context = av.CodecContext.create(packets[0].format, "r")
    found = []
    for packet in [*(av.Packet(each.data) for each in packets), None]:
        for frame in context.decode(packet):
            found.append(number_in(frame.to_ndarray(format="bgr24")))
    return found


def test_mcap_has_the_packets_of_the_frames_and_their_boxes(tmp_path: Path) -> None:
    path = numbered(tmp_path, b_frames=0, group=6)
    with dgrec.open(path) as session:
        stamps = [session.row(i)["captured_at"] for i in range(len(session))]
        session.export(tmp_path / "all.mcap")
        report = session.export(tmp_path / "part.mcap", start="5", every=3)
    assert report.notes == []
    found = _messages(tmp_path / "all.mcap")
    times = [round(stamp.timestamp() * 1e6) * 1000 for stamp in stamps]
    assert [at for at, _ in found["/annotations"]] == times
    # All packets from the first key frame on; those of rows have the times of their rows.
    packets = [message for _, message in found["/video"]]
    assert _decoded(packets) == list(range(3 + 2 * NUMBERED - 1))
    by_time = {at: number for number, (at, _) in enumerate(found["/video"])}
    assert [by_time[at] for at in times] == [3 + 2 * i for i in range(NUMBERED)]
    for number, (_, message) in enumerate(found["/annotations"]):
        lefts = [points.points[0].x for points in message.points]
        assert lefts == [each["bbox"][0] for each in numbered_results(number)]
    part = _messages(tmp_path / "part.mcap")
    numbers = _decoded([message for _, message in part["/video"]])
    # Each frame's own packet, and those from the key frame before it on: every sixth is one.
    assert numbers == [12, 13, 18, 19, 24, 25]
    by_time = {at: n for (at, _), n in zip(part["/video"], numbers, strict=True)}
    assert [by_time[at] for at, _ in part["/annotations"]] == [3 + 2 * i for i in (5, 8, 11)]
    ats = [at for at, _ in part["/video"]]
    assert ats == sorted(ats)


def test_mcap_has_exact_boxes_scores_tracks_and_metrics(tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "s.mcap")
        expected = [session.row(i) for i in range(len(session))]
    found = _messages(tmp_path / "s.mcap")
    boxes = [
        (frame, annotation)
        for frame, (_, message) in enumerate(found["/annotations"])
        for annotation in message.points
    ]
    for (frame, annotation), (number, each) in zip(boxes, detections(rows), strict=True):
        assert frame == number
        corners = [(point.x, point.y) for point in annotation.points]
        x_min, y_min, x_max, y_max = each["bbox"]
        wanted = [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)]
        assert np.allclose(corners, wanted, rtol=1e-13)
        facts = {pair.key: pair.value for pair in annotation.metadata}
        assert facts["label"] == each["label"]
        assert float(facts["score"]) == each["score"]
        assert facts.get("track_id") == (str(each["track_id"]) if "track_id" in each else None)
    metrics = [message for _, message in found["/metrics"]]
    assert [each["latency_ms"] for each in metrics] == [row["latency_ms"] for row in expected]
    assert [each["detections"] for each in metrics] == [len(row.results) for row in rows]
    assert [at for at, _ in found["/metrics"]] == [_ns(row) for row in rows]
    assert report.notes == ["the source is not where it was: there is no video in it"]


@pytest.mark.parametrize("images", [None, "png"])
def test_pictures_are_inside_where_the_video_cannot_be(images: str | None, tmp_path: Path) -> None:
    path = numbered(tmp_path, 6, b_frames=3)
    for suffix in ("mcap", "rrd"):
        options = {} if images is None else {"images": images}
        if suffix == "rrd" and images is None:
            (tmp_path / "clip.mp4").rename(tmp_path / "moved.mp4")
            options["video"] = str(tmp_path / "moved.mp4")
        with dgrec.open(path) as session:
            report = session.export(tmp_path / f"s.{suffix}", **options)
        assert [each.name for each in report.outputs] == [f"s.{suffix}"]
        if suffix == "mcap":
            assert report.pictures == 6
            found = _messages(tmp_path / "s.mcap")
            datas = [bytes(message.data) for _, message in found["/image"]]
            assert {message.format for _, message in found["/image"]} == {images or "jpeg"}
            assert ("B-frames" in " ".join(report.notes)) == (images is None)
        elif images is not None:
            rows = _chunk_rows(tmp_path / "s.rrd", "/video", "EncodedImage:blob")
            datas = [np.array(blob[0], np.uint8).tobytes() for _, blob in rows]
        else:
            continue
        pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in datas]
        assert [number_in(each) for each in pictures] == [3 + 2 * i for i in range(6)]


def test_a_redacted_export_has_no_video(tmp_path: Path) -> None:
    path = numbered(tmp_path, 4, b_frames=0)
    with dgrec.open(path) as session:
        session.export(tmp_path / "s.mcap", images="png", redact="all")
    found = _messages(tmp_path / "s.mcap")
    assert "/video" not in found
    for number, (_, message) in enumerate(found["/image"]):
        picture = cv2.imdecode(np.frombuffer(bytes(message.data), np.uint8), 1)
        for each in numbered_results(number):
            left, top, right, bottom = map(int, each["bbox"])
            assert not picture[top:bottom, left:right].any()


def _chunk_rows(path: Path, entity: str, column: str) -> list[tuple[int, Any]]:
    """Return (frame, value) of a component in a recording of Rerun."""
    chunks = pytest.importorskip("rerun.chunk")
    found = []
    for chunk in chunks.RrdReader(str(path)).stream().to_chunks():
        batch = chunk.to_record_batch()
        if chunk.entity_path == entity and column in batch.schema.names:
            frames = [None] * batch.num_rows
            if "frame" in batch.schema.names:
                frames = batch.column("frame").to_pylist()
            found += zip(frames, batch.column(column).to_pylist(), strict=True)
    return found


def _verify(path: Path) -> None:
    """Let Rerun's own command check a recording."""
    rerun = Path(sys.executable).with_name("rerun")
    if not rerun.exists():
        pytest.importorskip("rerun_cli")
        arguments = [sys.executable, "-m", "rerun_cli"]
    else:
        arguments = [str(rerun)]
    done = subprocess.run(
        [*arguments, "rrd", "verify", str(path)],
        env={"HOME": str(path.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "verified without error" in done.stderr
    assert "WARN" not in done.stderr


def test_rerun_has_the_video_and_the_frame_of_each_row(tmp_path: Path) -> None:
    path = numbered(tmp_path, b_frames=3)
    output = tmp_path / "s.rrd"
    with dgrec.open(path) as session:
        report = session.export(output, every=2)
    assert report.notes == []
    _verify(output)
    ((_, (blob,)),) = _chunk_rows(output, "/video", "AssetVideo:blob")
    (tmp_path / "back.mp4").write_bytes(np.array(blob, np.uint8).tobytes())
    assert (tmp_path / "back.mp4").read_bytes() == (tmp_path / "clip.mp4").read_bytes()
    with av.open(str(tmp_path / "back.mp4")) as container:
        base = container.streams.video[0].time_base
        shown = {
            round(frame.pts * base * 1_000_000_000): number_in(frame.to_ndarray(format="bgr24"))
            for frame in container.decode(video=0)
        }
    stamps = _chunk_rows(output, "/video", "VideoFrameReference:timestamp")
    assert [(frame, shown[stamp[0]]) for frame, stamp in stamps] == [
        (i, 3 + 2 * i) for i in range(0, NUMBERED, 2)
    ]
    for frame, centers in _chunk_rows(output, "/video/boxes", "Boxes2D:centers"):
        boxes = [each["bbox"] for each in numbered_results(frame)]
        assert [list(center) for center in centers] == [
            [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] for box in boxes
        ]


def test_rerun_has_labels_scores_tracks_points_and_metrics(tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    output = tmp_path / "s.rrd"
    with dgrec.open(path) as session:
        report = session.export(output)
        expected = [session.row(i) for i in range(len(session))]
    _verify(output)
    assert report.notes[0].startswith("rrd rounds coordinates to float32: 1")
    values = {
        name: _chunk_rows(output, "/video/boxes", name)
        for name in ("Boxes2D:labels", "Boxes2D:centers", "Boxes2D:half_sizes", "score", "track_id")
    }
    for number, row in enumerate(rows):
        here = {name: (found[number][1] or []) for name, found in values.items()}
        assert {found[number][0] for found in values.values()} == {number}
        assert here["Boxes2D:labels"] == [each["label"] for each in row.results]
        assert here["score"] == [each["score"] for each in row.results]
        assert here["track_id"] == [each.get("track_id") for each in row.results]
        centers, halves = (
            np.array(here[name]).reshape(-1, 2)
            for name in ("Boxes2D:centers", "Boxes2D:half_sizes")
        )
        boxes = np.array([each["bbox"] for each in row.results]).reshape(-1, 4)
        assert np.allclose(np.hstack([centers - halves, centers + halves]), boxes, rtol=1e-6)
    latency = _chunk_rows(output, "/metrics/latency_ms", "Scalars:scalars")
    assert latency == [(row["frame"], [row["latency_ms"]]) for row in expected]
    path, rows = with_points(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "p.rrd")
    _verify(tmp_path / "p.rrd")
    for frame, places in _chunk_rows(tmp_path / "p.rrd", "/video/points", "Points2D:positions"):
        wanted = [point["landmark"] for each in rows[frame].results for point in each["landmarks"]]
        assert np.allclose(places, wanted)


def test_a_video_whose_frames_are_at_other_times_is_not_trusted(tmp_path: Path) -> None:
    """A picture that could not be decoded is in no number of a row, but in those of packets."""
    video = write_clip(tmp_path / "clip.mp4", 12, b_frames=0)
    rows = [make_row(i, width=288, height=144, media_time_s=(i + 1) * 0.04) for i in range(10)]
    metadata = new_metadata(source=file_source(video, tmp_path, frames=12))
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    with dgrec.open(path) as session:
        for output in ("s.mcap", "s.rrd"):
            report = session.export(tmp_path / output)
            assert any("frames at other times" in note for note in report.notes)
            assert report.pictures > 0
    assert "/video" not in _messages(tmp_path / "s.mcap")


def test_a_scaled_or_turned_video_is_not_shown_below_the_boxes(tmp_path: Path) -> None:
    """Boxes are in pixels of the frames, and the viewers know of no scale and no turn."""
    path = numbered(tmp_path, b_frames=0)
    with dgrec.open(path) as session:
        assert session.export(tmp_path / "as-it-is.mcap").pictures == 0
    edited(path, {"width": [576] * NUMBERED, "height": [288] * NUMBERED})
    with dgrec.open(path) as session:
        for output in ("s.mcap", "s.rrd"):
            report = session.export(tmp_path / output)
            assert "clip.mp4 is 288x144 instead of the frames' 576x288" in report.notes[0]
            assert report.pictures == NUMBERED
    picture = bytes(_messages(tmp_path / "s.mcap")["/image"][0][1].data)
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), 1).shape == (288, 576, 3)


def _camera_in_parts(folder: Path) -> Path:
    """Write a recording of a camera in two parts, each with its own video."""
    for number in (1, 2):
        first = 5 * (number - 1)
        video = write_clip(folder / f"day-{number:04}.mp4", 5, first=first, b_frames=0)
        entry = {
            "kind": "raw",
            "file": video.name,
            "size": video.stat().st_size,
            "sha256": hashlib.sha256(video.read_bytes()).hexdigest(),
            "frames": 5,
        }
        rows = [make_row(first + i, width=288, height=144, video_frame=i) for i in range(5)]
        path = write_session(folder / f"day-{number:04}.parquet", rows, new_metadata(source=CAMERA))
        part = {"number": number, "set_id": "x", "first_frame": first}
        edited(path, {"frame": range(first, first + 5)}, part=part, video=[entry])
    return folder / "day.parquet"


def test_each_part_of_a_recording_has_its_own_video(tmp_path: Path) -> None:
    path = _camera_in_parts(tmp_path)
    with dgrec.open(path) as session:
        for output in ("s.mcap", "s.rrd"):
            report = session.export(tmp_path / output)
            assert report.pictures == 10
            assert "each part of the recording has a video of its own" in report.notes[-1]
        with pytest.raises(DgrecError, match="one by one"):
            session.export(tmp_path / "s.xml")
        session.export(tmp_path / "s.xml", images="jpg")
    found = [bytes(message.data) for _, message in _messages(tmp_path / "s.mcap")["/image"]]
    pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in found]
    assert [number_in(each) for each in pictures] == list(range(10))
    with dgrec.open(tmp_path / "day-0002.parquet") as session:
        assert session.export(tmp_path / "part.mcap").notes == []
    packets = [message for _, message in _messages(tmp_path / "part.mcap")["/video"]]
    assert _decoded(packets) == list(range(5, 10))


def test_hostile_values_are_left_out_or_kept_as_text(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    results = [
        make_detection(0, label="\x00\x1b[2J\u202e", score=nan),
        make_detection(1, bbox=[1e308, 0.0, 1.0, 1.0], track_id=-(2**63)),
        make_detection(2, angle=inf, track_id=-(2**63)),
        make_detection(3, landmarks=[{"label": "x", "landmark": [nan, 1.0]}, {"landmark": []}]),
    ]
    path = write_session(tmp_path / "s.parquet", [make_row(i, results) for i in range(4)])
    stamps = [None, -5, 2**62, 1_750_000_000_000_000]
    edited(path, {"captured_at": stamps, "latency_ms": [nan, inf, -1.0, nan]})
    with dgrec.open(path) as session:
        for output in ("s.mcap", "s.rrd"):
            report = session.export(tmp_path / output, images="none")
            assert "left out what has no box in the picture: 4 detections" in report.notes
    _verify(tmp_path / "s.rrd")
    found = _messages(tmp_path / "s.mcap")
    for _, message in found["/metrics"]:
        assert all(np.isfinite(value) for value in message.values())

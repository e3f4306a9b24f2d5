"""Exports of tracks: MOTChallenge by trackeval, CVAT's XML by its structure, Label Studio's tasks.

test_readers.py has what datumaro and label_studio_sdk read of them.
"""

from __future__ import annotations

import configparser
import json
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import dgrec
from dgrec.errors import ConfigError, DgrecError
from dgrec.format import Row
from dgrec.replay.exports import corners_of
from tests.factory import (
    edited,
    later,
    make_detection,
    make_row,
    new_metadata,
    restart,
    write_session,
)
from tests.replay.clips import HEIGHT, WIDTH, file_source, number_in, write_clip
from tests.replay.exports.made import NUMBERED, SIZE, detections, numbered, tracked


def _lines(path: Path) -> list[list[float]]:
    return [[float(part) for part in line.split(",")] for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_mot_is_a_perfect_score_by_trackeval(tmp_path: Path) -> None:
    trackeval = pytest.importorskip("trackeval")
    path, _ = tracked(tmp_path)
    truth = tmp_path / "truth"
    truth.mkdir()
    found = tmp_path / "found" / "dgrec" / "data"
    found.mkdir(parents=True)
    # TrackEval knows pedestrians only, by the number 1.
    with dgrec.open(path) as session:
        session.export(truth / "walk", "mot", detections_where="label = 'person'")
        session.export(found / "walk.txt", detections_where="label = 'person'")
    data = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(truth),
            "TRACKERS_FOLDER": str(tmp_path / "found"),
            "SKIP_SPLIT_FOL": True,
            "SEQ_INFO": {"walk": None},
            "DO_PREPROC": False,
            "PRINT_CONFIG": False,
        }
    )
    raw = data.get_raw_seq_data("dgrec", "walk")
    prepared = data.get_preprocessed_seq_data(raw, "pedestrian")
    scores = trackeval.metrics.HOTA().eval_sequence(prepared)
    assert prepared["num_timesteps"] == 30
    assert prepared["num_gt_dets"] == prepared["num_tracker_dets"] == 27
    assert scores["HOTA"].min() == pytest.approx(1.0)


def test_mot_has_every_track_and_every_detection(tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "mot", "mot")
        results = session.export(tmp_path / "mot.txt")
    everything = detections(rows)
    tracks = [(i, each) for i, each in everything if "track_id" in each]
    for name, expected in (("det/det.txt", everything), ("gt/gt.txt", tracks), ("", tracks)):
        lines = _lines(tmp_path / "mot" / name if name else tmp_path / "mot.txt")
        for line, (frame, each) in zip(lines, expected, strict=True):
            assert line[0] == frame + 1
            assert line[1] == (-1 if "det" in name else each["track_id"])
            assert line[2:4] == each["bbox"][:2]
            assert np.allclose(np.add(line[2:4], line[4:6]), each["bbox"][2:], rtol=1e-15)
            assert line[6:] == (
                [1, each["category_id"] + 1, 1]
                if name.startswith("gt")
                else [each["score"], -1, -1, -1]
            )
    assert (tmp_path / "mot/gt/labels.txt").read_text().split() == [
        "person",
        "car",
        "bicycle",
        "dog",
    ]
    info = configparser.ConfigParser()
    info.read(tmp_path / "mot/seqinfo.ini")
    assert dict(info["Sequence"]) == {
        "name": "tracked",
        "imdir": "img1",
        "framerate": "30",
        "seqlength": "30",
        "imwidth": "1920",
        "imheight": "1080",
        "imext": ".jpg",
    }
    assert "seqinfo.ini says 30 frames a second instead of 29.97" in report.notes
    without = sum("track_id" not in each for _, each in everything)
    assert f"gt.txt cannot hold what has no track: {without} detections" in report.notes
    assert f"left out what has no track: {without} detections" in results.notes


def test_pictures_of_a_mot_sequence_have_the_numbers_of_its_lines(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "mot", "mot", images="png", start="2", every=3)
    pictures = sorted((tmp_path / "mot/img1").iterdir())
    assert [each.name for each in pictures] == [f"{n:06}.png" for n in range(1, 5)]
    boxes: dict[int, list[float]] = defaultdict(list)
    for line in _lines(tmp_path / "mot/det/det.txt"):
        boxes[int(line[0])].append(line[2])
    for index, picture in enumerate(pictures):
        frame = 2 + 3 * index
        assert number_in(cv2.imread(str(picture))) == 3 + 2 * frame
        assert sum(1 << int((left - 8) // 24) for left in boxes[index + 1]) == frame


def test_tracks_of_two_runs_are_two_tracks(tmp_path: Path) -> None:
    """The first run has the ids 1, 2 and 4; the second 1, 2 and 3: 3 is free."""
    ids = [(1, 2), (1, 4), (1, 2, 3), (1, 2, 3)]
    rows = [make_row(i, [make_detection(track_id=t) for t in each]) for i, each in enumerate(ids)]
    metadata = new_metadata(events=[restart(rows[2])])
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    written = [(1, 2), (1, 4), (3, 5, 6), (3, 5, 6)]
    with dgrec.open(path) as session:
        for name in ("t.txt", "t.csv", "t.xml", "t.json"):
            report = session.export(tmp_path / name)
            assert "gave a track of a later run another id: 3 tracks" in report.notes, name
        session.export(tmp_path / "studio", "label-studio")
    lines = _lines(tmp_path / "t.txt")
    assert [(int(n), int(track)) for n, track, *_ in lines] == [
        (i + 1, track) for i, each in enumerate(written) for track in each
    ]
    root = ElementTree.parse(tmp_path / "t.xml").getroot()
    assert {track.get("id") for track in root.iter("track")} == {*"123456"}
    (task,) = json.loads((tmp_path / "studio" / "tasks.json").read_text())
    assert len(task["predictions"][0]["result"]) == 6


def test_tracks_and_classes_have_one_number_in_all_splits(tmp_path: Path) -> None:
    """The second run begins in the first split, and the model names none of its classes."""
    labels = ["car", "bus", "van", "van", "dog", "bus"]
    rows = [
        make_row(i, [make_detection(track_id=1, label=label, category_id=...)])
        for i, label in enumerate(labels)
    ]
    metadata = new_metadata(events=[restart(rows[1])])
    metadata["model"]["labels"] = {}
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    report = dgrec.export(path, tmp_path / "t.json", split="a=0.5,b=0.5")
    assert "gave a track of a later run another id: 1 track" in report.notes
    found = []
    for name in "ab":
        written = json.loads((tmp_path / f"t-{name}.json").read_text())
        named = {each["id"]: each["name"] for each in written["categories"]}
        assert len(named) == len({*named.values()})
        annotations = written["annotations"]
        found += [(each["category_id"], each["track_id"]) for each in annotations]
        assert [named[each["category_id"]] for each in annotations] == labels[len(found) - 3 :][:3]
    assert found == [(1, 1), (2, 2), (3, 2), (3, 2), (4, 2), (2, 2)]


def _cvat_tracks(path: Path) -> list[tuple[str, dict[int, Any]]]:
    """Return label and shown boxes by frame of each track, as CVAT shows them."""
    root = ElementTree.parse(path).getroot()
    last = int(root.findtext("meta/task/size") or 0)
    found = []
    for track in root.iter("track"):
        shown: dict[int, Any] = {}
        boxes = list(track.iter("box"))
        for box, following in zip(boxes, [*boxes[1:], None], strict=True):
            start = int(box.get("frame", ""))
            end = last if following is None else int(following.get("frame", ""))
            if box.get("outside") == "0":
                for frame in range(start, end):
                    shown[frame] = box
        found.append((track.get("label", ""), shown))
    return found


def test_cvat_shows_each_box_in_its_frame_only(tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "tracks.xml")
    tracks = _cvat_tracks(tmp_path / "tracks.xml")
    shown = sorted(
        (
            frame,
            *(float(box.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")),
            label,
            float(box.findtext("attribute")),
        )
        for label, boxes in tracks
        for frame, box in boxes.items()
    )
    expected = sorted(
        (frame, *each["bbox"], each["label"], each["score"]) for frame, each in detections(rows)
    )
    assert shown == expected
    assert len([boxes for _, boxes in tracks if len(boxes) > 1]) == 4


def test_frames_of_cvat_are_those_of_the_video_or_of_the_pictures(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    other = "frames do not have the numbers that they have in the source"
    with dgrec.open(path) as session:
        notes = [session.export(tmp_path / "video.xml", every=2).notes]
        notes.append(session.export(tmp_path / "pictures.xml", images="jpg", every=2).notes)
        notes.append(session.export(tmp_path / "mot", "mot").notes)
    assert [any(note.startswith(other) for note in each) for each in notes] == [False, True, False]
    assert (tmp_path / "mot/source_frames.txt").read_text().split()[:3] == ["3", "5", "7"]
    for name, shown_as in (("video", lambda i: 3 + 2 * i), ("pictures", lambda i: i // 2)):
        frames = {frame for _, boxes in _cvat_tracks(tmp_path / f"{name}.xml") for frame in boxes}
        assert frames == {shown_as(i) for i in range(2, NUMBERED, 2)}
    pictures = sorted((tmp_path / "pictures.images").iterdir())
    assert [number_in(cv2.imread(str(each))) for each in pictures] == [
        3 + 2 * i for i in range(0, NUMBERED, 2)
    ]


def recorded(folder: Path, rows: list[Row], pts_ms: list[int] | None = None) -> Path:
    """Write a session of a camera, with a recorded video of numbered pictures beside it."""
    video = write_clip(folder / "own.mp4", 12, pts_ms)
    facts = {key: file_source(video)[key] for key in ("file", "size", "sha256")}
    source = {"given": "0", "kind": "camera", "fps": 30.0, "live": True}
    entries = [{"kind": "raw", "frames": 12, **facts}]
    return write_session(folder / "own.parquet", rows, new_metadata(source=source, video=entries))


def test_cvat_refuses_a_video_of_another_size(tmp_path: Path) -> None:
    """Boxes are in pixels of the frames, those of a task in pixels of the video."""
    # Encoders make sides even; the size of one is not known; two are not in the video.
    sizes = [(WIDTH, HEIGHT), (WIDTH - 1, HEIGHT), (0, 0), (640, 480), (640, 480), (640, 360)]
    rows = [
        make_row(i, width=width, height=height, video_frame=None if height == 480 else i)
        for i, (width, height) in enumerate(sizes)
    ]
    output = tmp_path / "tracks.xml"
    said = f"own.mp4 is {WIDTH}x{HEIGHT} instead of the frames' 640x360.* --images jpg"
    with dgrec.open(recorded(tmp_path, rows)) as session:
        with pytest.raises(ConfigError, match=said):
            session.export(output)
        assert not output.exists()
        assert session.export(output, end="5").frames == 3
        session.export(tmp_path / "pictures.xml", images="jpg")
    shown = cv2.imread(str(tmp_path / "pictures.images" / "frame-000005.jpg"))
    assert shown.shape == (360, 640, 3)


@pytest.mark.parametrize("form", ["coco", "cvat", "supervision-json"])
def test_boxes_that_are_none_are_left_out(form: str, tmp_path: Path) -> None:
    boxes = ([10.0, 10.0, 50.0, 60.0], [50.0, 60.0, 10.0, 10.0], [float("nan")] * 4, [5.0] * 4)
    rows = [make_row(0, [make_detection(bbox=list(box)) for box in boxes])]
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "out", form)
    assert report.detections == 2
    assert "left out what has no box in the picture: 2 detections" in report.notes
    assert dgrec.import_(tmp_path / "out", tmp_path / "back.parquet").detections == 2


def test_footage_that_was_read_again_is_as_long_as_it_is(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    numbers = [3 + 2 * i for i in range(NUMBERED)]
    numbers[-2:] = [number + 3 + 2 * NUMBERED for number in numbers[:2]]
    with dgrec.open(path) as session:
        source = {**session.metadata["source"], "loop": True}
    edited(path, {"source_frame": numbers}, source=source)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "video.xml")
    frames = {frame for _, boxes in _cvat_tracks(tmp_path / "video.xml") for frame in boxes}
    assert max(frames) == numbers[-3]
    assert "left out frames that are not in the video: 2 frames" in report.notes


def test_label_studio_shows_each_box_in_its_frame_only(tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "tasks", "label-studio")
    (task,) = json.loads((tmp_path / "tasks/tasks.json").read_text())
    (prediction,) = task["predictions"]
    shown = []
    for region in prediction["result"]:
        sequence = region["value"]["sequence"]
        for key, following in zip(sequence, [*sequence[1:], None], strict=True):
            end = key["frame"] + 1
            if key["enabled"]:
                end = following["frame"] if following else region["value"]["framesCount"] + 1
            width, height = (size / 100 for size in SIZE)
            box = [key["x"] * width, key["y"] * height]
            box += [box[0] + key["width"] * width, box[1] + key["height"] * height]
            for frame in range(key["frame"], end):
                shown.append((frame - 1, region["value"]["labels"][0], key["score"], box))
    expected = sorted(
        (i, each["label"], each["score"], each["bbox"]) for i, each in detections(rows)
    )
    for one, other in zip(sorted(shown), expected, strict=True):
        assert one[:3] == other[:3]
        assert np.allclose(one[3], other[3], rtol=1e-12)


def test_label_studio_finds_frames_of_a_recorded_video(tmp_path: Path) -> None:
    """It finds them by a rate: that of a camera, or of a file that is gone, is another one."""
    # A video has every frame when it was captured; the source's own stamps are three times as fast.
    rows = [
        make_row(i, [make_detection(0, track_id=1)], video_frame=None if i == 4 else 2 * i)
        for i in range(6)
    ]
    rows = [later(row, i * 66_733_400) for i, row in enumerate(rows)]
    with dgrec.open(recorded(tmp_path, rows, [i * 50 for i in range(12)])) as session:
        session.export(tmp_path / "tasks", "label-studio", start="1", end="4")
    (task,) = json.loads((tmp_path / "tasks/tasks.json").read_text())
    (region,) = task["predictions"][0]["result"]
    rate = pytest.approx(20, rel=1e-4)
    config = ElementTree.parse(tmp_path / "tasks/label_config.xml")
    (video,) = config.iter("Video")
    assert float(video.get("frameRate", "")) == rate
    for key, i in zip(region["value"]["sequence"], (1, 2, 3), strict=True):
        assert key["frame"] == 2 * i + 1
        assert 2 * i / key["time"] == rate
    assert 7 / region["value"]["duration"] == rate


@pytest.mark.parametrize("is_whole", [True, False])
def test_label_studio_gets_the_rate_of_a_clip(is_whole: bool, tmp_path: Path) -> None:
    """Its video goes on at once where a minute was left out; where it is cut off, stamps count."""
    count = 12 if is_whole else 13
    rows = [make_row(i, [make_detection(0, track_id=1)], video_frame=i) for i in range(count)]
    rows[6:] = [later(row, 60_000_000_000) for row in rows[6:]]
    with dgrec.open(recorded(tmp_path, rows)) as session:
        session.export(tmp_path / "tasks", "label-studio")
    (video,) = ElementTree.parse(tmp_path / "tasks/label_config.xml").iter("Video")
    rate = float(video.get("frameRate", ""))
    assert rate == 25 if is_whole else rate < 1


def test_places_are_parts_of_their_own_frame(tmp_path: Path) -> None:
    """Frames of two sizes: those of pictures, or of two cameras one after the other."""
    sizes = [(640, 480), (1920, 1080), (640, 480)]
    rows = [
        make_row(
            i,
            [make_detection(0, bbox=[width / 4, height / 4, width / 2, height + 9.0], track_id=1)],
            width=width,
            height=height,
        )
        for i, (width, height) in enumerate(sizes)
    ]
    path = write_session(tmp_path / "s.parquet", rows)
    report = dgrec.export(path, tmp_path / "tasks", "label-studio")
    assert "cut boxes at the edge of the picture: 3 detections" in report.notes
    (task,) = json.loads((tmp_path / "tasks/tasks.json").read_text())
    (region,) = task["predictions"][0]["result"]
    for key in region["value"]["sequence"]:
        assert [key[name] for name in ("x", "y", "width", "height")] == [25, 25, 25, 75]
    one = "{} says 640x480 also for frames of another size: 1 frame"
    assert one.format("mot") in dgrec.export(path, tmp_path / "mot", "mot").notes
    assert one.format("cvat") in dgrec.export(path, tmp_path / "t.xml").notes
    root = ElementTree.parse(tmp_path / "t.xml")
    assert root.findtext("meta/task/original_size/width") == "640"
    assert "imHeight=480" in (tmp_path / "mot/seqinfo.ini").read_text()
    said = "frame 1 of the video has no recorded size, of which Label Studio's"
    edited(path, {"width": [640, 0, 640]})
    with pytest.raises(ConfigError, match=said):
        dgrec.export(path, tmp_path / "none", "label-studio")


def test_turned_boxes_are_turned_about_the_right_point(tmp_path: Path) -> None:
    box = [100.0, 100.0, 200.0, 140.0]
    results = [make_detection(0, bbox=box, angle=0.5, track_id=1)]
    path = write_session(tmp_path / "s.parquet", [make_row(0, results)])
    with dgrec.open(path) as session:
        session.export(tmp_path / "t.xml")
        session.export(tmp_path / "ls", "label-studio")
    ((_, shown),) = _cvat_tracks(tmp_path / "t.xml")
    assert float(shown[0].get("rotation")) == pytest.approx(np.degrees(0.5))
    (task,) = json.loads((tmp_path / "ls/tasks.json").read_text())
    (key,) = task["predictions"][0]["result"][0]["value"]["sequence"]
    # Label Studio turns about the upper left corner.
    turn = np.radians(key["rotation"])
    left, top = key["x"] * 6.4, key["y"] * 4.8
    right = [left + 100 * np.cos(turn), top + 100 * np.sin(turn)]
    assert np.allclose([left, top], corners_of((100, 100, 200, 140), 0.5)[0])
    assert np.allclose(right, corners_of((100, 100, 200, 140), 0.5)[1])


def test_hostile_labels_and_tracks_are_valid_xml(tmp_path: Path) -> None:
    labels = ['"><script>', "two\nlines", "\x00\x1b[31m", "a & b", "\u202e", "old\rlines"]
    results = [
        make_detection(index, label=label, track_id=-(2**63) + index)
        for index, label in enumerate(labels)
    ]
    results += [
        make_detection(0, track_id=7),
        make_detection(1, track_id=7, bbox=[1e308, 0.0, 1.0, 1.0]),
        make_detection(2, track_id=7, angle=float("nan"), score=float("inf")),
    ]
    path = write_session(tmp_path / "s.parquet", [make_row(0, results)])
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "t.xml")
        session.export(tmp_path / "ls", "label-studio")
        session.export(tmp_path / "mot", "mot")
    found = {label for label, _ in _cvat_tracks(tmp_path / "t.xml")}
    assert {'"><script>', "two\nlines", "a & b", "\u202e", "\ufffd\ufffd[31m"} <= found
    # Each is one of the task's labels.
    assert found <= {each.text for each in ElementTree.parse(tmp_path / "t.xml").iter("name")}
    assert report.notes[:4] == [
        "left out what has no box in the picture: 1 detection",
        "left out scores that are not finite: 1 detection",
        "left out angles that are not finite: 1 detection",
        "left out further boxes of a track in one frame: 1 detection",
    ]
    ElementTree.parse(tmp_path / "ls/label_config.xml")
    json.loads((tmp_path / "ls/tasks.json").read_text())
    assert len((tmp_path / "mot/gt/labels.txt").read_text().splitlines()) == 10


def test_parts_have_no_common_numbers_of_frames(tmp_path: Path) -> None:
    for number in (1, 2):
        part = {"number": number, "set_id": "x", "first_frame": 5 * (number - 1)}
        rows = [make_row(i) for i in range(5)]
        path = write_session(tmp_path / f"day-{number:04}.parquet", rows)
        numbers = range(5 * (number - 1), 5 * number)
        edited(path, {"frame": numbers, "source_frame": numbers}, part=part)
    with dgrec.open(tmp_path / "day.parquet") as session:
        assert len(session) == 10
        report = session.export(tmp_path / "t.xml")
        assert report.frames == 10
        session.export(tmp_path / "rows.csv")
        with pytest.raises(DgrecError, match="pictures cannot"):
            session.export(tmp_path / "y", "yolo")

"""Exports that are imported again equal the recording, but for what the notes count."""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import dgrec
from dgrec.cli import gather
from dgrec.comparison import accuracy
from dgrec.format import CORNERS, Row
from tests.factory import START_NS, make_detection, make_row, new_metadata, write_session
from tests.replay.exports.made import CONNECTED, POINTS, disc

_PLAIN = {"bbox", "label", "category_id", "score"}
_EVERYTHING = _PLAIN | {"angle", "track_id", "landmarks", "mask", "extra"}
#: What of a detection comes back, by format; and the file that is imported.
FORMATS: dict[str, tuple[str, set[str], str]] = {
    "csv": ("a.csv", _EVERYTHING, ""),
    "jsonl": ("a.jsonl", _EVERYTHING, ""),
    "supervision-json": ("s.json", _PLAIN | {"track_id"}, ""),
    "coco": ("c.json", _PLAIN | {"track_id", "mask", "places"}, ""),
    "coco-results": ("r.json", _PLAIN | {"mask", "places"}, ""),
    "mot": ("walk", {"bbox", "score", "rounded"}, "det/det.txt"),
    "mot-results": ("w.txt", {"bbox", "score", "track_id", "rounded"}, ""),
    "cvat": ("t.xml", {"bbox", "label", "score", "angle", "rounded"}, ""),
    "mcap": ("x.mcap", _EVERYTHING - {"mask", "extra"}, ""),
}


def _points(x: float) -> list[dict[str, Any]]:
    places = [[x, 60.5], [x + 8.125, 50.1], [0.3, 55.75]]
    return [
        {"category_id": i, "connect": c, "label": name, "landmark": place, "score": 0.5}
        for i, (c, name, place) in enumerate(zip(CONNECTED, POINTS, places, strict=True))
    ]


def _rows() -> list[Row]:
    """Return frames of every third picture of a source, some empty; boxes of float64."""
    rows = []
    for i in range(10):
        left = 20 + i / 3
        mask = {"x_min": 20 + i, "y_min": 30, "data": disc(40 + i, 30)}
        found = [
            make_detection(0, bbox=[left, 30.1, left + 300.7, 70.3], landmarks=_points(left)),
            make_detection(1, track_id=7, angle=0.1 + i / 7, bbox=[left, 0.1, 99.9, 300.3]),
            make_detection(2, track_id=9, mask=mask, colour="red"),
        ]
        rows.append(make_row(i, found if i % 4 else [], source_frame=2 + 3 * i))
    return rows


def _plain(found: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Return what of a detection is compared, masks as the pixels of the picture that they set."""
    plain = {name: found[name] for name in fields & found.keys()}
    if "extra" in fields and "colour" in found:
        plain["colour"] = found["colour"]
    if "places" in fields:  # names and connections as well, not scores
        plain["places"] = [
            {key: value for key, value in point.items() if key not in ("score", "label", "connect")}
            for point in found.get("landmarks", ())
        ]
    if {"places", "rounded"} & {*fields}:  # the last bit of edges and angles
        plain["bbox"] = [round(value, 9) for value in plain["bbox"]]
        plain |= {"angle": round(plain["angle"], 9)} if "angle" in plain else {}
    if "mask" in plain:
        mask = plain["mask"]
        y, x = np.nonzero(mask["data"] > 0)
        plain["mask"] = sorted(zip(x + int(mask["x_min"]), y + int(mask["y_min"]), strict=True))
    return plain


def _found(path: Path, fields: Collection[str]) -> dict[int, list[dict[str, Any]]]:
    with dgrec.open(path) as session:
        return {
            session.row(i)["source_frame"]: [_plain(each, fields) for each in session[i].results]
            for i in range(len(session))
        }


@pytest.mark.slow
def test_what_comes_back_is_what_was_recorded(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", _rows())
    counts = {
        "angle": ("angles", 7),
        "track_id": ("track ids", 14),
        "landmarks": ("key points", 7),
        "mask": ("masks", 7),
        "label": ("labels", 21),
        "extra": ("values that programs added", 7),
    }
    for name, (output, kept, inside) in FORMATS.items():
        with dgrec.open(path) as session:
            report = session.export(tmp_path / output, name, images="none")
        labels = str(tmp_path / "c.json") if name == "coco-results" else None
        imported = tmp_path / f"{name}.parquet"
        again = dgrec.import_(tmp_path / output / inside, imported, labels=labels)
        expected, found = _found(path, kept), _found(imported, kept)
        if name == "mot-results":  # what has no track is left out
            expected = {n: [e for e in each if "track_id" in e] for n, each in expected.items()}
        if name == "cvat":  # in the order of tracks
            for each in (*expected.values(), *found.values()):
                each.sort(key=lambda one: one["label"])
        shown = {number: each for number, each in found.items() if each}
        assert shown == {number: each for number, each in expected.items() if each}, name
        assert again.detections == sum(map(len, found.values())) == report.detections, name
        # What does not come back, the notes count.
        if name in ("csv", "jsonl", "supervision-json", "coco", "mot", "mcap"):
            note = f"{name} cannot hold frames without detections: 3 frames"
            assert (found.keys() == expected.keys()) == (note not in report.notes), name
        holds = kept | {"landmarks"} if "places" in kept else kept
        for field, (what, count) in counts.items():
            if name not in ("mot", "mot-results", "cvat"):
                note = f"{name} cannot hold {what}: {count} detections"
                assert (note in report.notes) == (field not in holds), (note, report.notes)
        said = dict(note.rsplit(": ", 1) for note in report.notes if ": " in note)
        if name == "cvat":
            assert said["made a track of each detection without one"] == "7 detections"
            assert said["cvat cannot hold key points"] == said["cvat cannot hold masks"]
            between = "cvat shows frames that are not exported as frames without detections"
            assert said[between] == "20 frames"
        if name.startswith("mot"):
            assert said[f"{name} cannot hold angles"] == "7 detections"
        if name == "mot":
            assert said["gt.txt cannot hold what has no track"] == "7 detections"
        if name == "mot-results":
            assert said["left out what has no track"] == "7 detections"


@pytest.mark.slow
def test_names_and_connections_of_key_points_come_back_from_coco(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", _rows())
    with dgrec.open(path) as session:
        session.export(tmp_path / "c.json")
        session.export(tmp_path / "r.json", "coco-results")
    dgrec.import_(tmp_path / "c.json", tmp_path / "c.parquet")
    dgrec.import_(tmp_path / "r.json", tmp_path / "r.parquet", labels=tmp_path / "c.json")
    keys = ("label", "connect", "landmark", "score")
    expected = [
        (each["label"], list(each["connect"]), each["landmark"], None)
        for each in _points(20 + 1 / 3)
    ]
    for name in ("c.parquet", "r.parquet"):
        with dgrec.open(tmp_path / name) as session:
            points = session[1].results[0]["landmarks"]
        assert [tuple(each.get(key) for key in keys) for each in points] == expected


@pytest.mark.slow
def test_times_come_back(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", _rows())
    names = ("captured_at", "latency_ms", "media_time_s", "width", "height")
    with dgrec.open(path) as session:
        expected = [[session.row(i)[name] for name in names] for i in (1, 2)]
        for output in ("a.csv", "a.jsonl", "x.mcap"):
            session.export(tmp_path / output, images="none")
    for output in ("a.csv", "a.jsonl", "x.mcap"):
        dgrec.import_(tmp_path / output, tmp_path / "back.parquet", overwrite=True)
        with dgrec.open(tmp_path / "back.parquet") as session:
            first = 1 if output == "x.mcap" else 0
            found = [[session.row(first + i)[name] for name in names] for i in range(2)]
        for row, wanted in zip(found, expected, strict=True):
            assert [row[0], *row[2:]] == [wanted[0], *wanted[2:]], output
            assert row[1] == pytest.approx(wanted[1], abs=0.001), output  # stamps are microseconds


@pytest.mark.slow
def test_boxes_of_a_session_s_own_video_are_paired_with_its_frames(tmp_path: Path) -> None:
    """Frames of CVAT's task of that video count from 0; the source's numbers rise by three."""
    video = tmp_path / "s.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 480))
    for _ in range(10):
        writer.write(np.zeros((480, 640, 3), np.uint8))
    writer.release()
    rows = [
        make_row(
            i,
            [make_detection(0, bbox=[10.0 + 40 * i, 20.0, 30.0 + 40 * i, 50.0])],
            source_frame=2 + 3 * i,
            video_frame=i,
        )
        for i in range(10)
    ]
    entry = {"kind": "raw", "file": "s.mp4", "width": 640, "height": 480, "frames": 10}
    path = write_session(tmp_path / "s.parquet", rows, new_metadata("s", video=[entry]))
    with dgrec.open(path) as session:
        notes = session.export(tmp_path / "t.xml").notes
        session.export(tmp_path / "w", "mot")
    assert "frames are numbered as in s.mp4" in notes
    assert (tmp_path / "w" / "source_frames.txt").read_text().split()[:2] == ["2", "5"]
    dgrec.import_(tmp_path / "t.xml", tmp_path / "t.parquet", video=video)
    for truth in ("t.xml", "t.parquet"):
        assert accuracy(path, tmp_path / truth).recall == 1.0, truth
        assert accuracy(path, tmp_path / truth).frames == 10, truth
    # As it is of a task of exported pictures.
    text = (tmp_path / "t.xml").read_text()
    (tmp_path / "p.xml").write_text(text.replace("<source>s.mp4<", "<source>p.images<"))
    refused = CliRunner().invoke(
        gather(), ["compare", "--truth", str(tmp_path / "p.xml"), str(path)]
    )
    assert refused.exit_code == 1
    assert "numbered as the pictures in p.images, not as in the source" in refused.stderr


def test_frames_of_a_clock_that_was_set_back_come_back_from_mcap(tmp_path: Path) -> None:
    """The file's messages are in the order of frames, and not in that of time."""
    steps = [0, 1, 2, 1, 1, 3]
    rows = [
        make_row(i, captured_ns=START_NS + step * 10**9, completed_ns=START_NS + step * 10**9)
        for i, step in enumerate(steps)
    ]
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.open(path) as session:
        session.export(tmp_path / "x.mcap", images="none")
    dgrec.import_(tmp_path / "x.mcap", tmp_path / "back.parquet")
    assert _found(tmp_path / "back.parquet", _PLAIN) == _found(path, _PLAIN)
    names = ["captured_at"]
    with dgrec.open(path) as session, dgrec.open(tmp_path / "back.parquet") as back:
        (before,), (after,) = ([*each.batches(names)] for each in (session, back))
        assert after.column(0).to_pylist() == before.column(0).to_pylist()


@pytest.mark.parametrize("output", ["a.csv", "a.jsonl"])
def test_classes_of_whole_pictures_come_back(output: str, tmp_path: Path) -> None:
    """They have no box: its columns are empty."""
    classes = [{"label": name, "category_id": i, "score": 0.5} for i, name in enumerate("ab")]
    path = write_session(tmp_path / "s.parquet", [make_row(0, classes), make_row(1, classes)])
    with dgrec.open(path) as session:
        session.export(tmp_path / output)
    dgrec.import_(tmp_path / output, tmp_path / "back.parquet")
    assert _found(tmp_path / "back.parquet", _PLAIN) == {0: classes, 1: classes}


def test_masks_beyond_the_picture_are_counted(tmp_path: Path) -> None:
    masks = [{"x_min": x, "y_min": 30, "data": disc(40, 30)} for x in (20, 700)]
    path = write_session(
        tmp_path / "s.parquet", [make_row(0, [make_detection(mask=mask) for mask in masks])]
    )
    for name in ("a.csv", "a.jsonl", "c.json"):
        with dgrec.open(path) as session:
            report = session.export(tmp_path / name)
        assert report.notes == ["left out masks without a place in the picture: 1 detection"]


ODD: list[dict[str, Any]] = [
    {"category_id": -1},
    {"category_id": -(2**31), "track_id": -3},
    {"track_id": 2**62 + 1},
    {"score": math.nan},
    {"score": -math.inf, "angle": math.nan},
    {"score": "high", "label": 5},
    {"label": "half \ud800"},
    {"category_id": 2**40, "track_id": "t1"},
    {"landmarks": [{"landmark": [math.nan, 1.0], "score": 0.5}, {"landmark": [3.0, 4.0]}]},
    {"landmarks": [{"landmark": [1.0, 2.0], "category_id": -1, "connect": [-1], "label": "p"}]},
    {"landmarks": [{"landmark": [i / 7, 2.0], "label": f"point {i}"} for i in range(133)]},
]
_COUNTED = (
    "left out scores that are not finite: 2 detections",
    "left out scores that are not numbers: 1 detection",
    "left out labels that are not text: 2 detections",
    "left out category ids that are not 32-bit numbers: 1 detection",
)


def _kept(found: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Return what of an odd detection comes back."""
    kept = {name: found[name] for name in fields & found.keys()}
    for name, kinds in (("score", float), ("angle", float), ("label", str), ("track_id", int)):
        value = kept.get(name)
        is_odd = not isinstance(value, kinds) or "\ud800" in str(value)
        if is_odd or (kinds is float and not math.isfinite(value)):
            kept.pop(name, None)
    if not -(2**31) <= kept.get("category_id", 0) < 2**31:
        del kept["category_id"]
    if "landmarks" in kept:
        there = [each for each in kept["landmarks"] if np.isfinite(each["landmark"]).all()]
        kept["landmarks"] = there
    return kept


@pytest.mark.parametrize(
    "output",
    [
        ("a.csv", _EVERYTHING),
        ("a.jsonl", _EVERYTHING),
        ("s.json", _PLAIN | {"track_id"}),
        ("c.json", {"bbox", "score", "track_id"}),
        ("x.mcap", _EVERYTHING),
    ],
    ids=lambda each: each[0],
)
def test_odd_values_come_back_or_are_counted(output: tuple[str, set[str]], tmp_path: Path) -> None:
    name, fields = output
    odd = [make_detection(0, bbox=[10.0, 20.5, 40.0, 60.5], **each) for each in ODD]
    rows = [make_row(i, [each]) for i, each in enumerate(odd)]
    path = write_session(tmp_path / "s.parquet", rows)
    kind = "supervision-json" if name == "s.json" else None
    with dgrec.open(path) as session:
        report = session.export(tmp_path / name, kind, images="none")
    assert {*_COUNTED} <= {*report.notes}
    dgrec.import_(tmp_path / name, tmp_path / "back.parquet")
    with dgrec.open(tmp_path / "back.parquet") as session:
        found = [{k: v for k, v in r.results[0].items() if k in fields} for r in session]
    assert found == [_kept(each, fields) for each in odd]


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else (1, math.nan)


ADDED: list[dict[str, Any]] = [
    {"embedding": np.arange(3, dtype=np.float32), "pair": (1, 2), "raw": b"xy"},
    {"ratio": math.nan, "names": {"a", "b"}, "by_id": {1: (2,)}, "like": {"$float": "nan"}},
    {"at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "inner": {"deep": [np.float32(0.5)]}},
    {"nested": _nested(60), "extra": {"a": 1}, "none": None},
    {"mask": np.zeros((4, 5), np.uint8)},
    {"landmarks": [{"landmark": "somewhere", "score": math.inf}]},
    {"landmarks": []},
    {"label": ""},
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_long_values_come_back(name: str, tmp_path: Path) -> None:
    """By default, Python reads no cell of more than 131,072 characters."""
    points = [{"landmark": [i / 7, i / 3], "label": "p" * 100} for i in range(900)]
    found = make_detection(0, embedding=[i / 7 for i in range(8000)], landmarks=points)
    path = write_session(tmp_path / "s.parquet", [make_row(0, [found])])
    with dgrec.open(path) as session:
        session.export(tmp_path / name)
    limit = csv.field_size_limit()
    dgrec.import_(tmp_path / name, tmp_path / "back.parquet")
    assert csv.field_size_limit() == limit
    with dgrec.open(tmp_path / "back.parquet") as session:
        assert session[0].results == [found]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_values_that_programs_added_come_back(name: str, tmp_path: Path) -> None:
    found = [make_detection(0, **each) for each in ADDED]
    path = write_session(
        tmp_path / "s.parquet", [make_row(i, [each]) for i, each in enumerate(found)]
    )
    with dgrec.open(path) as session:
        notes = session.export(tmp_path / name).notes
    assert notes == []
    report = dgrec.import_(tmp_path / name, tmp_path / "back.parquet")
    assert report.notes == ()
    if name == "a.csv":  # as a label that is not there
        del found[-1]["label"]
    with dgrec.open(tmp_path / "back.parquet") as session:
        for result, each in zip(session, found, strict=True):
            np.testing.assert_equal(result.results, [each])
            kinds = {key: type(value) for key, value in result.results[0].items()}
            assert kinds == {key: type(value) for key, value in each.items()}


def test_results_that_are_no_detections_are_counted(tmp_path: Path) -> None:
    found = ["text", {"$odd": 1}, make_detection(0)]
    path = write_session(tmp_path / "s.parquet", [make_row(0, found)])
    with dgrec.open(path) as session:
        session.export(tmp_path / "a.jsonl")
    report = dgrec.import_(tmp_path / "a.jsonl", tmp_path / "back.parquet")
    assert report.notes == ("results that are not dictionaries of names are left out (2)",)
    with dgrec.open(tmp_path / "back.parquet") as session:
        assert session[0].results == [{}, {}, found[-1]]


def test_arrays_are_no_marks_of_ground_truth(tmp_path: Path) -> None:
    marks = {"iscrowd": np.ones(2), "considered": np.zeros(2)}
    path = write_session(tmp_path / "s.parquet", [make_row(0, [make_detection(0, **marks)])])
    with dgrec.open(path) as session:
        session.export(tmp_path / "a.jsonl")
    assert accuracy(path, tmp_path / "a.jsonl").recall == 1.0


@pytest.mark.parametrize("name", ["s.json", "x.mcap"])
def test_empty_labels_come_back(name: str, tmp_path: Path) -> None:
    found = [make_detection(0, label=""), make_detection(1, label=...)]
    path = write_session(tmp_path / "s.parquet", [make_row(0, found)])
    kind = "supervision-json" if name == "s.json" else None
    with dgrec.open(path) as session:
        session.export(tmp_path / name, kind, images="none")
    dgrec.import_(tmp_path / name, tmp_path / "back.parquet")
    with dgrec.open(tmp_path / "back.parquet") as session:
        assert [each.get("label") for each in session[0].results] == ["", None]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"$ndarray": ["<f4", [10**9], "eF5j"]}, "decodes to 4,000,000,000 bytes"),
        ({"$bytes": 5}, "expected a text, not int"),
        ({"$tuple": {"a": 1}}, "expected a list, not dict"),
    ],
)
def test_what_no_export_wrote_is_refused(value: Any, problem: str, tmp_path: Path) -> None:
    row = dict(zip(CORNERS, range(4), strict=True), frame=0, source_frame=0, time_s=0.0)
    path, output = tmp_path / "a.jsonl", tmp_path / "back.parquet"
    path.write_text(json.dumps({**row, "extra": json.dumps({"emb": value})}))
    with pytest.raises(dgrec.ImportFileError) as error:
        dgrec.import_(path, output)
    assert str(error.value).startswith(f"{path}: detection 0: 'emb': {problem}")
    assert not output.exists()
    # A table of another program has its own meaning of it.
    del row["time_s"]
    path.write_text(json.dumps({**row, "extra": {"emb": value}}))
    dgrec.import_(path, output)
    with dgrec.open(output) as session:
        assert session[0].results[0]["emb"] == value


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_boxes_that_are_in_no_picture_come_back(name: str, tmp_path: Path) -> None:
    boxes = [[50.0, 60.0, 3.0, 4.0], [0.0, 0.0, 1e12, 1e12], [math.nan, 6.0, 5.0, 6.0]]
    rows = [make_row(i, [make_detection(0, bbox=box)]) for i, box in enumerate(boxes)]
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.open(path) as session:
        session.export(tmp_path / name)
    report = dgrec.import_(tmp_path / name, tmp_path / "back.parquet")
    with dgrec.open(tmp_path / "back.parquet") as session:
        assert [r.results[0].get("bbox") for r in session] == [*boxes[:2], None]
    assert any("boxes with a corner that is not a number" in note for note in report.notes)


def test_what_motchallenge_cannot_say_is_counted(tmp_path: Path) -> None:
    odd = [{"score": None}, {"score": math.nan}, {"track_id": -3}, {"label": "a  b\nc"}]
    odd = [make_detection(0, **{"track_id": 2**62 + 1, **each}) for each in odd]
    del odd[0]["score"]
    path = write_session(tmp_path / "s.parquet", [make_row(i, [d]) for i, d in enumerate(odd)])
    with dgrec.open(path) as session:
        for name, output in (("mot", "w"), ("mot-results", "w.txt")):
            notes = session.export(tmp_path / output, name, images="none").notes
            assert "wrote 1 for a score that is not there: 2 detections" in notes
            assert "wrote negative track ids, which mean no track there: 1 detection" in notes
            white = "labels.txt has other white space than labels: 1 label"
            assert (white in notes) == (name == "mot")
    for file in ("w.txt", "w/gt/gt.txt"):
        dgrec.import_(tmp_path / file, tmp_path / "back.parquet", overwrite=True)
        with dgrec.open(tmp_path / "back.parquet") as session:
            tracks = [r.results[0].get("track_id") for r in session]
        assert tracks == [2**62 + 1, 2**62 + 1, None, 2**62 + 1]


def test_a_missing_score_is_no_attribute_of_cvat(tmp_path: Path) -> None:
    found = make_detection(0)
    del found["score"]
    path = write_session(tmp_path / "s.parquet", [make_row(0, [found])])
    with dgrec.open(path) as session:
        session.export(tmp_path / "t.xml", images="none")
    dgrec.import_(tmp_path / "t.xml", tmp_path / "back.parquet")
    with dgrec.open(tmp_path / "back.parquet") as session:
        assert not {"score", "attributes"} & session[0].results[0].keys()


def test_parquet_keeps_what_is_not_finite(tmp_path: Path) -> None:
    rows = [make_row(0, [make_detection(0, score=math.nan)])]
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "flat.parquet", "parquet-flat")
    assert not report.notes
    (score,) = pq.read_table(tmp_path / "flat.parquet")["score"].to_pylist()
    assert math.isnan(score)

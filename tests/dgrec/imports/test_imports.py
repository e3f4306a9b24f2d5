"""Files of other programs become sessions, and mistakes in them are named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import dgrec
from dgrec import sample
from dgrec.cli import gather
from dgrec.imports import FORMATS
from dgrec.imports.text import _CHUNK
from dgrec.publishing import PublishedFrame
from dgrec.publishing.payload import message_of
from dgrec.replay.commands.imports import FORMATS as CHOICES
from dgrec.replay.verify import verify
from tests.dgrec.imports.hostile import variants
from tests.dgrec.imports.inputs import BOXES, RLE, inputs

SIZE = (640, 480)
#: Of a table.
HEAD = b"frame,x_min,y_min,x_max,y_max\n"
NAMES = (
    "coco coco-results mot-gt mot-results payload-guide payload-full ultralytics ultralytics-web "
    "cvat-video cvat-images cvat-archive fiftyone-samples fiftyone-frames fiftyone-labels "
    "fiftyone-video mcap-protobuf mcap-json csv supervision-json"
).split()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(gather(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = inputs(tmp_path_factory.mktemp("inputs"))
    assert sorted(made) == sorted(NAMES)
    return made


def format_of(name: str) -> str:
    return name if name in ("csv", "supervision-json") else name.split("-")[0]


def test_a_session_is_named_with_its_suffix(tmp_path: Path) -> None:
    lines = tmp_path / "found.jsonl"
    lines.write_text('{"detections": [{"label": "car", "score": 0.9, "bbox": [1, 2, 30, 40]}]}')
    report = dgrec.import_(lines, tmp_path / "walk", fps=30, size=SIZE)
    assert report.path == tmp_path / "walk.parquet"
    assert verify(report.path) == []


@pytest.mark.slow
def test_every_format_comes_back(files: dict[str, Path], tmp_path: Path) -> None:
    for name, path in files.items():
        output = tmp_path / f"{name}.parquet"
        report = dgrec.import_(path, output, size=SIZE)
        assert report.format == format_of(name)
        assert verify(output) == [], name
        with dgrec.open(output) as session:
            found = [
                (row["source_frame"], item)
                for batch in session.batches(["source_frame", "detections"])
                for row in batch.to_pylist()
                for item in row["detections"]
            ]
            wanted = sorted(BOXES, key=lambda each: (each[0], each[1]))
            found = [each for each in found if each[0] != 1]  # more kinds of shapes
            # Annotations stand in their own order.
            found.sort(key=lambda each: (each[0], each[1]["x_min"]))
            assert len(found) == len(wanted), name
            for (frame, item), (number, track, label, score, box) in zip(
                found, wanted, strict=True
            ):
                corners = [item[corner] for corner in ("x_min", "y_min", "x_max", "y_max")]
                assert frame == number * (2 if name == "payload-full" else 1), name
                np.testing.assert_allclose(corners, box, rtol=1e-12, err_msg=name)
                if name not in ("coco-results", "mot-results"):
                    expected = "pedestrian" if (name, label) == ("mot-gt", "person") else label
                    assert item["label"] == expected, name
                if name not in ("coco", "mot-gt", "cvat-images"):
                    assert item["score"] == pytest.approx(score, rel=1e-12), name
                if item["track_id"] is not None:
                    assert item["track_id"] == track, name
            assert session.metadata["imported"]["format"] == report.format
            assert [result.results for result in session]  # everything can be given back


@pytest.mark.slow
def test_frames_without_a_detection(files: dict[str, Path], tmp_path: Path) -> None:
    """Some formats have them; of the others, the user says how many there are."""
    output = tmp_path / "o.parquet"
    for name, options, frames in (
        ("mot-results", {}, [0, 1, 2, 3]),
        ("cvat-video", {}, [0, 1, 2, 3]),
        ("csv", {}, [0, 2, 3]),
        ("csv", {"frames": 6}, [0, 1, 2, 3, 4, 5]),
        ("coco-results", {"labels": str(files["coco"])}, None),
    ):
        if frames is None:  # the ids of the results are not those of the annotations
            with pytest.raises(dgrec.ImportFileError, match=r"results\[0\]: there is no image 0"):
                dgrec.import_(files[name], output, overwrite=True, **options)
            continue
        report = dgrec.import_(files[name], output, overwrite=True, **options)
        with dgrec.open(output) as session:
            assert session.frames.column("source_frame").to_pylist() == frames
        is_said = any("--frames N" in note for note in report.notes)
        assert is_said == (name in ("csv", "supervision-json") and "frames" not in options)


@pytest.mark.slow
def test_what_stands_beside_a_sequence_is_used(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    path, output = tmp_path / "gt" / "gt.txt", tmp_path / "o.parquet"
    path.write_bytes(files["mot-gt"].read_bytes())
    (tmp_path / "seqinfo.ini").write_text(
        "[Sequence]\nframeRate=25\nseqLength=9\nimWidth=1920\nimHeight=1080\n"
    )
    (tmp_path / "gt" / "labels.txt").write_text("walker\n\nbus\n")
    dgrec.import_(path, output)
    with dgrec.open(output) as session:
        rows = session.frames.to_pylist()
        labels = [item["label"] for result in session for item in result.results]
    assert [row["media_time_s"] for row in rows] == [n / 25 for n in range(9)]
    assert {(row["width"], row["height"]) for row in rows} == {(1920, 1080)}
    assert labels == ["walker", "bus", "walker", "bus"]
    for content in ("[Sequence]\nframeRate=nan\nseqLength=-1", "[", "\xff"):
        (tmp_path / "seqinfo.ini").write_text(content, encoding="latin-1")
        assert dgrec.import_(path, output, overwrite=True).frames == 4


@pytest.mark.parametrize("named", ["coco", "list", "same file", "alike"])
def test_labels_that_a_sequence_names_otherwise_are_refused(named: str, tmp_path: Path) -> None:
    """COCO's numbers are the model's, with gaps; those of labels.txt have none."""
    path, output, coco = tmp_path / "gt.txt", tmp_path / "o.parquet", tmp_path / "c.json"
    path.write_text("1,1,1,2,30,40,1,1,1\n2,1,1,2,30,40,1,2,1\n")
    (tmp_path / "labels.txt").write_text("car\ndog\n")
    second = 2 if named == "alike" else 8
    categories = [{"id": 1, "name": "car"}, {"id": second, "name": "dog"}]
    coco.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    labels, problem = {
        "coco": (str(coco), "line 2: class 2 is dog in labels.txt and none in --labels; import"),
        "list": ("car,dog,cat", None),  # from 0, as the user says
        "same file": (str(tmp_path / "labels.txt"), None),
        "alike": (str(coco), None),
    }[named]
    if problem is None:
        assert dgrec.import_(path, output, labels=labels).detections == 2
        return
    with pytest.raises(dgrec.ImportFileError, match=problem):
        dgrec.import_(path, output, labels=labels)


@pytest.mark.slow
def test_masks_and_key_points_are_those_of_pycocotools(
    files: dict[str, Path], tmp_path: Path
) -> None:
    from pycocotools import mask as coco_mask

    output = tmp_path / "o.parquet"
    rng = np.random.default_rng(5)
    results: list[dict[str, Any]] = []
    masks = []
    for number in range(30):
        mask = (rng.random((37, 53)) < rng.choice([0.01, 0.5, 0.99])).astype(np.uint8)
        mask[:, : number % 20] = number % 2
        rle = coco_mask.encode(np.asfortranarray(mask))
        masks.append(mask)
        counts: Any = rle["counts"].decode()
        if number % 3 == 0:  # not compressed
            flat = mask.reshape(-1, order="F")
            ends = [*(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
            counts = ([0] if flat[0] else []) + np.diff([0, *ends]).tolist()
        shape = {"size": [37, 53], "counts": counts}
        results.append(
            {"image_id": number, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": shape}
        )
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(results))
    dgrec.import_(path, output)
    with dgrec.open(output) as session:
        found = [result.results[0]["mask"] for result in session]
    for mask, item in zip(masks, found, strict=True):
        whole = np.zeros_like(mask)
        height, width = item["data"].shape
        whole[item["y_min"] :, item["x_min"] :][:height, :width] = item["data"]
        np.testing.assert_array_equal(whole, mask)
    dgrec.import_(files["coco"], output, overwrite=True)
    with dgrec.open(output) as session:
        crowd, person = session.result(0).results
    assert crowd["iscrowd"] == 1
    assert crowd["mask"]["data"].sum() == coco_mask.area({**RLE, "counts": RLE["counts"].encode()})
    assert [(point["label"], point["landmark"]) for point in person["landmarks"]] == [
        ("nose", [12.0, 22.0]),
        ("ear", [50.0, 60.0]),
    ]


def test_published_key_points_that_nobody_saw_are_left_out(tmp_path: Path) -> None:
    """A place of NaN, or none, is null in a payload."""
    places = [[1.0, 2.0], [float("nan"), float("nan")], None, [3.0, float("nan")]]
    points = [{"category_id": number, "landmark": each} for number, each in enumerate(places)]
    recorded, published = tmp_path / "s.parquet", tmp_path / "s.jsonl"
    with dgrec.Recorder(recorded) as recorder:
        recorder.add([{"label": "person", "bbox": [0.0, 0.0, 9.0, 9.0], "landmarks": points}])
    assert run("publish", recorded, published, "--fast", "--payload", "full").exit_code == 0
    report = dgrec.import_(published, tmp_path / "o.parquet")
    assert any("key points that are not marked are left out (3)" in note for note in report.notes)
    with dgrec.open(tmp_path / "o.parquet") as session:
        (found,) = session[0].results
    assert found["landmarks"] == points[:1]


@pytest.mark.slow
def test_a_published_session_comes_back(tmp_path: Path) -> None:
    """The full payload has all of a row but pixels: results and stamps are equal."""
    with dgrec.open(sample.SESSION) as session:
        rows = [row for batch in session.batches() for row in batch.slice(0, 40).to_pylist()][:40]
        wanted = [session.result(at).results for at in range(40)]
        lines = [message_of(PublishedFrame.of_recorded(row, "sample"), "full") for row in rows]
    path, output = tmp_path / "published.jsonl", tmp_path / "o.parquet"
    path.write_bytes(b"\n".join(lines))
    dgrec.import_(path, output, video=sample.CLIP)
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert [result.results for result in session] == wanted
        found = [row for batch in session.batches() for row in batch.to_pylist()]
        for name in ("source_frame", "media_time_s", "captured_at", "completed_at", "latency_ms",
                     "inference_ms", "width", "height"):  # fmt: skip
            got = [row[name] for row in found]
            if name == "latency_ms":  # from whole microseconds
                assert got == pytest.approx([row[name] for row in rows], abs=0.002)
            else:
                assert got == [row[name] for row in rows], name


@pytest.mark.slow
def test_what_was_imported_works_with_every_command(files: dict[str, Path], tmp_path: Path) -> None:
    """Boxes of the sample, as another program has them, with its footage."""
    with dgrec.open(sample.SESSION) as session:
        results = [
            {
                "image_id": number,
                "category_id": 0,
                "bbox": [x, y, x_max - x, y_max - y],
                "score": item["score"],
            }
            for number, result in enumerate(session)
            for item in result.results
            for x, y, x_max, y_max in [item["bbox"]]
        ]
        (labels,) = {item["label"] for result in session for item in result.results}
    path, output = tmp_path / "results.json", tmp_path / "o.parquet"
    path.write_text(json.dumps(results))
    arguments = ("import", path, "-o", output, "--labels", labels, "--video", sample.CLIP)
    said = run(*arguments)
    assert "--frames 420 adds them\n" in said.output
    said = run(*arguments, "--frames", 420, "--overwrite")
    assert said.exit_code == 0, said.output
    assert f"o.parquet: 420 frames, {len(results)} detections, from coco" in said.output
    for arguments, wanted in (
        (("verify", output), "whole"),
        (("info", output), "imported"),
        (("stats", output), labels),
        (("query", output, "SELECT count(*) FROM detections WHERE score > 0"), str(len(results))),
        (("compare", sample.SESSION, output), r"agreement \(F1\) +1.0000"),
        (("compare", "--truth", sample.SESSION, output), "1.0000 +1.0000\n"),
        (("whatif", output, "--threshold", "0.6"), "0.6"),
        (("clip", output, "--start", "20", "--end", "30", "-o", tmp_path / "c.parquet"), "10"),
        (("report", output, "-o", tmp_path / "r.html"), "MB"),
        (("replay", output, "--end", "8", "--output", tmp_path / "r.mp4"), "8 frames"),
    ):
        said = run(*arguments)
        assert said.exit_code == 0, (arguments, said.output)
        assert re.search(wanted, said.output), (arguments, said.output)
    assert "blank canvas" not in said.output
    said = run("import", files["csv"], "-o", tmp_path / "n.parquet")
    assert "the size of the frames is not known, and replay needs it" in said.output
    # Without footage or stamps.
    dgrec.import_(files["mot-gt"], output, overwrite=True, size=SIZE)
    for command in ("verify", "info", "stats"):
        assert run(command, output).exit_code == 0
    said = run("replay", output, "--output", tmp_path / "blank.mp4")
    assert said.exit_code == 0, said.output
    assert "the source was a file without pictures" in said.output


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_may_be_separated_otherwise(tmp_path: Path, delimiter: str) -> None:
    names = "frame,x_min,y_min,x_max,y_max,score,label"
    table = f'\ufeff{names}\r\n3,1,2,30.5,40,0.5,"a, b; c\td"\r\n'.split(",")
    text = delimiter.join(table).replace(f"a{delimiter} b", "a, b")  # not in the quoted text
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    dgrec.import_(tmp_path / "a.csv", tmp_path / "o.parquet")
    with dgrec.open(tmp_path / "o.parquet") as session:
        (found,) = session[0].results
        assert session.row(0)["source_frame"] == 3
    assert found["bbox"] == [1.0, 2.0, 30.5, 40.0]
    assert (found["label"], found["score"]) == ("a, b; c\td", 0.5)


def test_columns_that_exports_have_too_are_the_user_s_own_in_other_tables(tmp_path: Path) -> None:
    own = "time_s,video_frame,detection,picture,split"
    (tmp_path / "a.csv").write_text(f"frame,x_min,y_min,x_max,y_max,{own}\n3,1,2,3,4,0.5,7,2,b,c\n")
    dgrec.import_(tmp_path / "a.csv", tmp_path / "o.parquet")
    with dgrec.open(tmp_path / "o.parquet") as session:
        (found,) = session[0].results
    assert [found[name] for name in own.split(",")] == [0.5, 7, 2, "b", "c"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "its beginning: is empty"),
        ("a.json", b'{"hello": 1}', "its beginning: is of no format"),
        ("a.json", b"\xff\xfe[\x00{\x00", "its beginning: is UTF-16 text; save it as UTF-8"),
        ("a.json.gz", b"\x1f\x8b\x08", "its beginning: is compressed by gzip"),
        ("a.csv", HEAD + b"1,2,3,4,5\n1,2,3,4,\xe9\n", "line 3: is not UTF-8"),
        ("a.csv", HEAD + b"1,2,3,4\n", "line 2: has 4 values for 5 columns"),
        ("a.csv", b"x_min,y_min,x_max,y_max\n1,2,3,4\n", "line 2: nothing says which frame it is"),
        ("a.csv", HEAD + b"1,9,3,4,5\n", "line 2: 'box' is not [x_min"),
        ("a.csv", HEAD + b"-1,2,3,4,5\n", "line 2: 'frame' is not a whole"),
        ("a.csv", HEAD.replace(b"\n", b",detection\n") + b"1,9,3,4,5,0\n", "line 2: 'box' is not"),
        ("a.csv", HEAD.replace(b",", b";") + b"1;2,5;3;4;5\n",
         "line 2: x_min is 2,5, with a decimal comma; write it with a point"),
        ("a.csv", HEAD.replace(b",", b"|") + b"1|2|3|4|5\n", "its beginning: is of no format"),
        ("a.csv", HEAD.replace(b",", b";") + b"1;2;3;4\n", "line 2: has 4 values for 5 columns"),
        ("a.csv", HEAD + b"1,.2,.3,.4,.5\n", "all coordinates are from 0 to 1"),
        ("a.txt", b"1,2,3,4,5,6,7\n1,2,3,4,5,6,nan\n", "line 2: 'confidence' is not a finite"),
        ("a.txt", b"1,2,3,4,5,6,7\n0,2,3,4,5,6,7\n", "line 2: frames count from 1"),
        ("a.txt", b"1,2,3,4,5,6,7\n1,2,3,4,-5,6,7\n", "line 2: 'box' is not [x, y, width"),
        ("a.txt", b"99999999999,2,3,4,5,6,7\n", "is beyond 10,000,000, up to which"),
        ("a.jsonl", b'{"detections": []}\n{"detections": 1}\n', "line 2: 'detections' is not a"),
        ("a.jsonl", b'{"detections": []}\n{"detections": [\n', "line 3, column 1: ends too early"),
        ("a.jsonl", b'{"detections": [{"bbox": [1, 2, 3]}]}', "detections[0]: 'bbox' is not"),
        ("a.jsonl", b'{"detections": [{"bbox": [1, 2, 1e308, 4]}]}', "'bbox' is not"),
        ("a.jsonl", b'{"detections": [{"score": NaN}]}', "detections[0]: 'score' is not a finite"),
        ("a.jsonl", b'{"source_frame": 2, "detections": []}\n{"source_frame": 1, "detections": []}',
         "line 2: frame 1 comes after frame 2"),
        ("a.jsonl", b'{"detections": [{"a": [[[[[[[[[[[[1]]]]]]]]]]]]}]}', "'a' is nested more"),
        ("a.jsonl", b'{"detections": [{"a": ' + b"[" * 9999, "is nested too deeply"),
        ("a.json", b'[{"image_id": "a", "category_id": 1, "bbox": [1, 2, 3, 4]}]',
         "results[0]: no number in the image_id 'a' says its frame"),
        ("a.json", b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], '
         b'"segmentation": {"size": [100000, 100000], "counts": "0"}}]', "its mask has no size"),
        ("a.json", b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], '
         b'"segmentation": {"size": [2, 2], "counts": [5]}}]', "mask does not cover 2x2 pixels"),
        ("a.xml", b'<!DOCTYPE a [<!ENTITY b "ha">]><annotations>&b;</annotations>',
         "line 1: has a document type"),
        ("a.xml", b"<annotations>\n<track id='1' label='a'>\n<box frame='0' xtl='1'/></track>",
         "line 3: 'ytl' is not a number"),
        ("a.xml", b"<annotations>\n<meta></task>", "line 2: is not XML: mismatched tag"),
        ("a.csv", HEAD.replace(b"\n", b"\r") + b"1,2,3,4,5\r",
         "line 1: its lines end in carriage returns alone"),
        ("a.csv", HEAD + b"1_0,2,3,4,5\n", "line 2: 'frame' is not a whole number"),
        ("a.csv", HEAD.replace(b"\n", b",captured_at,latency_ms\n")
         + b"1,2,3,4,5,2026-01-02T03:04:05Z,1e300\n", "frame 1: its stamps and latency are not"),
        ("a.txt", b"1,2,3,4,5,6,7\n1_0,2,3,4,5,6,7\n", "line 2: has a value that is not a number"),
        ("a.jsonl", b'{"detections": [], "timestamp": "9998-01-01T00:00:00Z"}',
         "line 1: 'timestamp' is not a time from 1970 to 2261"),
        ("a.jsonl", b'{"detections": [], "captured_at": "2026-01-02T03:04:06Z", '
         b'"completed_at": "2026-01-02T03:04:05Z"}', "line 1: its result is from before"),
        ("a.json", b'[{"name": "a", "class": 0, "confidence": 0.5, "keypoints": 5}]',
         "line 1: keypoints: is not an object"),
        ("a.json", b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": "0"}]',
         "results[0]: 'iscrowd' is neither 0 nor 1"),
        ("a.json", b'{"samples": [{"filepath": "1.jpg", "metadata": {"width": 0, "height": 0}, '
         b'"gt": {"detections": [{"bounding_box": [0.1, 0.1, 0.2, 0.2]}]}}]}',
         "its box is a part of the picture, whose size is not known"),
        ("a.xml", b"<annotations><image id='1' name='1.jpg' width='99999999999' height='9'/>"
         b"</annotations>", "frame 1: its picture is 99999999999x9, which is too large"),
        ("a.xml", b"<?xml version='1.0' encoding='latin-99'?><annotations/>",
         "line 1: cannot be read: unknown encoding: latin-99"),
        ("a.zip", b"PK\x03\x04", "the archive: is damaged, or encrypted"),
        ("a.mcap", b"\x89MCAP0\r\n", "its beginning: is damaged"),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_one_line_that_says_where(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path, output = tmp_path / name, tmp_path / "o.parquet"
    path.write_bytes(content)
    with pytest.raises(dgrec.ImportFileError) as caught:
        dgrec.import_(path, output)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_what_a_table_says_of_a_frame_comes_back_without_a_size(tmp_path: Path) -> None:
    """A stamp of the capture is known also where nobody knows how long the frame took."""
    (tmp_path / "a.csv").write_text(
        "frame,x_min,y_min,x_max,y_max,media_time_s,captured_at,latency_ms\n"
        "1,2,3,4,5,0.25,2026-01-02T03:04:05Z,12.5\n"
        "2,2,3,4,5,,2026-01-02T03:04:06Z,\n"
    )
    dgrec.import_(tmp_path / "a.csv", tmp_path / "o.parquet")
    with dgrec.open(tmp_path / "o.parquet") as session:
        first, second = (session.row(n) for n in range(2))
    assert (first["media_time_s"], first["latency_ms"]) == (0.25, 12.5)
    assert first["captured_at"].isoformat() == "2026-01-02T03:04:05+00:00"
    assert second["captured_at"].isoformat() == "2026-01-02T03:04:06+00:00"
    assert [second[name] for name in ("media_time_s", "completed_at", "latency_ms")] == [None] * 3


def test_further_members_stay_what_they_are(tmp_path: Path) -> None:
    """Whatever they are called, and also where Python would take a name for a number."""
    (tmp_path / "a.csv").write_text(
        "frame,x_min,y_min,x_max,y_max,clip,$frame\n1,2,3,4,5,2024_01,7\n"
    )
    dgrec.import_(tmp_path / "a.csv", tmp_path / "o.parquet")
    with dgrec.open(tmp_path / "o.parquet") as session:
        (found,) = session[0].results
    assert found == {"bbox": [2.0, 3.0, 4.0, 5.0], "clip": "2024_01", "$frame": 7}


def test_a_mask_without_a_pixel_has_no_outline(tmp_path: Path) -> None:
    """Ultralytics writes empty lists for it."""
    found = {"name": "car", "class": 2, "confidence": 0.5, "segments": {"x": [], "y": []}}
    found["box"] = {"x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 40.0}
    (tmp_path / "a.json").write_text(json.dumps([found]))
    report = dgrec.import_(tmp_path / "a.json", tmp_path / "o.parquet", size=SIZE)
    assert report.notes == ()
    with dgrec.open(tmp_path / "o.parquet") as session:
        (item,) = session[0].results
    assert item == {"bbox": [1.0, 2.0, 30.0, 40.0], "category_id": 2, "label": "car", "score": 0.5}


def test_pictures_of_fiftyone_without_a_size_have_the_one_that_was_given(tmp_path: Path) -> None:
    gt = {"detections": [{"label": "a", "bounding_box": [0.5, 0.5, 0.25, 0.25]}]}
    samples = [
        {"filepath": f"{n}.jpg", "gt": gt, "pred": None, "metadata": about}
        for n, about in enumerate(({"size_bytes": 3}, {"width": 0, "height": 0}, None))
    ]
    path, output = tmp_path / "samples.json", tmp_path / "o.parquet"
    path.write_text(json.dumps({"samples": samples}))
    dgrec.import_(path, output, size=(100, 80))
    with dgrec.open(output) as session:
        boxes = [result.results[0]["bbox"] for result in session]
    assert boxes == [[50.0, 40.0, 75.0, 60.0]] * 3
    with pytest.raises(dgrec.ImportFileError, match="none has the field 'gt2'; there is gt"):
        dgrec.import_(path, output, size=(100, 80), field="gt2", overwrite=True)
    report = dgrec.import_(path, output, size=(100, 80), field="pred", overwrite=True)
    assert (report.frames, report.detections) == (3, 0)


@pytest.mark.slow
def test_damaged_files_get_one_line_or_a_whole_session(
    files: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "o.parquet"
    refused: list[str] = []
    taken = 0
    for name, original in files.items():
        path = tmp_path / f"damaged{original.suffix}"
        is_quick = name.startswith(("payload", "ultralytics", "mcap"))
        for data in variants(original.read_bytes(), 7, 40 if is_quick else 8):
            path.write_bytes(data)
            try:
                dgrec.import_(path, output, format=format_of(name), size=SIZE, overwrite=True)
            except dgrec.ImportFileError as error:
                refused.append(str(error))
                continue
            taken += 1
            with dgrec.open(output) as session:
                assert len([result.results for result in session]) == len(session)
    assert len(refused) > 150
    assert [each for each in refused if not re.fullmatch(r"[^\n]+: [^\n]+: [^\n]+", each)] == []
    assert taken > 30


def test_options_that_a_format_does_not_read_are_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    for name, options, others in (
        ("coco", {"frame_column": "n"}, "csv, supervision-json"),
        ("coco", {"field": "n"}, "fiftyone, mcap"),
        ("csv", {"field": "n"}, "fiftyone, mcap"),
        ("fiftyone-samples", {"labels": "face"}, "coco, csv, mot, payload, supervision-json"),
    ):
        (flag,) = options
        with pytest.raises(dgrec.ConfigError) as caught:
            dgrec.import_(files[name], tmp_path / "o.parquet", **options)  # type: ignore[arg-type]
        flag = f"--{flag.replace('_', '-')}: "
        assert str(caught.value).startswith(flag)
        assert str(caught.value).endswith(f" has no use for it; it is for {others}")
        assert not (tmp_path / "o.parquet").exists()


def test_options_that_cannot_be_used_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    path = files["payload-guide"]
    for options, code, message in (
        (("--size", "640x"), 2, "expected WIDTHxHEIGHT"),
        (("--format", "yolo"), 2, "is not one of"),
        (("--fps", "nan"), 2, "not a finite number"),
        (("--video", tmp_path / "no.mp4"), 1, "no.mp4: no such file"),
        (("--video", sample.CLIP, "--size", "1x1"), 1, "--size 1x1: the frames of"),
        (("--labels", tmp_path / "no.json"), 1, "no.json: cannot be read: No such file"),
        (("--labels", ","), 1, "expected names, such as person,car"),
        (("--frames", "2"), 1, "frame 3: is not one of the 2 frames of the footage"),
        (("--normalized",), 1, "frame 0: the size of its picture is not known; say --size"),
    ):
        said = run("import", path, "-o", output, *options)
        assert said.exit_code == code, said.output
        assert message in said.output
        assert not output.exists()
    assert "is a folder; name a file in it" in run("import", tmp_path, "-o", output).output
    assert "ends in .parquet" in run("import", path, "-o", tmp_path / "o.json").output
    assert run("import", path, "-o", output).exit_code == 0
    assert "exists already" in run("import", path, "-o", output).output


def test_a_size_that_no_picture_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEAD + b"1,2,3,4,5\n")
    for size in ((2**31, 480), (0, 480), (-640, 480)):
        with pytest.raises(dgrec.DgrecError, match=r"--size .*: expected 1 to 2,147,483,647"):
            dgrec.import_(tmp_path / "a.csv", tmp_path / "o.parquet", size=size)


def test_names_of_categories_are_texts_by_number(tmp_path: Path) -> None:
    path, output = tmp_path / "a.csv", tmp_path / "o.parquet"
    path.write_text("frame,x_min,y_min,x_max,y_max,category_id\n1,2,3,4,5,1\n")
    for labels, said in (({1: 5}, "labels: 5 is not a text"), ({"1": "car"}, "labels: '1' is not")):
        with pytest.raises(dgrec.DgrecError, match=said):
            dgrec.import_(path, output, labels=labels)  # type: ignore[arg-type]
    dgrec.import_(path, output, labels={np.int64(1): "car"})  # type: ignore[dict-item]
    with dgrec.open(output) as session:
        assert session[0].results[0]["label"] == "car"


@pytest.mark.parametrize("at", range(1, 8))
def test_numbers_may_be_anywhere_in_a_file(at: int, tmp_path: Path) -> None:
    """Files are read in pieces, which end within a number."""
    number = "-1.25e-07"
    head = '{"extra": ['
    found = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [], "categories": []}
    rest = f"{number}], {json.dumps(found)[1:]}"
    path = tmp_path / "a.json"
    path.write_text(head + " " * (_CHUNK - len(head) - at) + rest)
    assert dgrec.import_(path, tmp_path / "o.parquet", format="coco").frames == 1


@pytest.mark.parametrize("last", [1, -1.5, [1, 2], {"year": 2026}])
def test_a_file_may_end_with_a_number(last: Any, tmp_path: Path) -> None:
    """No more text follows what may go on in the next piece."""
    found = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [], "categories": []}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**found, "version": last}))
    assert dgrec.import_(path, tmp_path / "o.parquet", format="coco").frames == 1


@pytest.mark.parametrize("last", ["toothbrush", "St. Bernard"])
def test_a_list_of_names_may_be_longer_than_the_name_of_a_file(last: str, tmp_path: Path) -> None:
    names = [*(f"class number {number}" for number in range(79)), last]
    (tmp_path / "a.jsonl").write_text('{"detections": [{"category_id": 79, "bbox": [1, 2, 3, 4]}]}')
    dgrec.import_(tmp_path / "a.jsonl", tmp_path / "o.parquet", labels=",".join(names))
    with dgrec.open(tmp_path / "o.parquet") as session:
        assert session[0].results[0]["label"] == last


@pytest.mark.slow
def test_categories_of_annotations_keep_the_numbers_of_the_model(tmp_path: Path) -> None:
    """COCO's ids count from 1, as the classes of MOTChallenge do; a model's count from 0."""
    categories = [{"id": 1, "name": "face", "model_category_id": 0}, {"id": 3, "name": "car"}]
    images = [{"id": 7, "file_name": "0.jpg"}]
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"images": images, "categories": categories}))
    box = '"bbox": [1, 2, 30, 40]'
    for name, text, expected in (
        ("r.json", f'[{{"image_id": 7, "category_id": 1, "score": 1, {box}}}]', ("face", 0)),
        ("a.csv", HEAD.decode().strip() + ",class_id\n0,1,2,30,40,0", ("face", 0)),
        ("a.jsonl", f'{{"detections": [{{"category_id": 3, {box}}}]}}', ("car", 3)),
        ("gt.txt", "1,1,1,2,30,40,1,1,1", ("face", 1)),
    ):
        (tmp_path / name).write_text(text)
        dgrec.import_(tmp_path / name, tmp_path / "o.parquet", labels=labels, overwrite=True)
        with dgrec.open(tmp_path / "o.parquet") as session:
            (found,) = session[0].results
            assert (found["label"], found["category_id"]) == expected, name
            assert session.metadata["model"]["labels"][str(expected[1])] == expected[0]


@pytest.mark.slow
def test_pictures_of_one_number_are_not_one_frame(tmp_path: Path) -> None:
    results, labels = tmp_path / "r.json", tmp_path / "labels.json"
    found = {"category_id": 0, "bbox": [1, 2, 30, 40], "score": 0.5}
    pairs: list[tuple[list[Any], list[Any], str]] = [
        (["cam1/01", "cam1/01", "cam2/01"], [], 'results[2]: its image_id is frame 1, as is "cam1'),
        ([1, 2], [1, 2], "--labels: images[1]: is frame 1, as an image before it"),
        ([1, 1], [1, 1], "images[1]: has the id 1, as an image before it"),
    ]
    for ids, images, problem in pairs:
        results.write_text(json.dumps([{"image_id": each, **found} for each in ids]))
        named = [{"id": each, "file_name": f"cam{each}/0001.jpg"} for each in images]
        labels.write_text(json.dumps({"images": named}))
        with pytest.raises(dgrec.ImportFileError, match=re.escape(problem)):
            dgrec.import_(results, tmp_path / "o.parquet", labels=labels if images else None)
    # Of other formats, only the names are of interest.
    (tmp_path / "a.csv").write_bytes(HEAD + b"0,1,2,30,40")
    labels.write_text(json.dumps({"images": [{"id": n, "file_name": "1.jpg"} for n in range(2)]}))
    dgrec.import_(tmp_path / "a.csv", tmp_path / "o.parquet", labels=labels)


def test_a_number_beyond_one_is_no_score(tmp_path: Path) -> None:
    """Of a text at the corner of a box: the number of a gate belongs to its name."""
    from mcap.writer import Writer

    corners = [{"x": x, "y": y} for x, y in ((1, 2), (30, 2), (30, 40), (1, 40))]
    texts = ("gate 7", "car 0.5", "car 93%", "car 1.0")
    with (tmp_path / "a.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("foxglove.ImageAnnotations", "jsonschema", b"{}")
        channel = writer.register_channel("/found", "json", schema)
        for number, text in enumerate(texts):
            message = {
                "points": [{"type": 2, "points": corners}],
                "texts": [{"position": {"x": 1, "y": 2}, "text": text}],
            }
            writer.add_message(channel, number + 1000, json.dumps(message).encode(), number + 1000)
        writer.finish()
    dgrec.import_(tmp_path / "a.mcap", tmp_path / "o.parquet")
    with dgrec.open(tmp_path / "o.parquet") as session:
        found = [item for result in session for item in result.results]
    assert [(item["label"], item.get("score")) for item in found] == [
        ("gate 7", None),
        ("car", 0.5),
        ("car", 0.93),
        ("car", 1.0),
    ]


def test_the_command_knows_every_format() -> None:
    assert sorted(CHOICES) == sorted(FORMATS.load())


@pytest.mark.slow
def test_small_files_do_not_become_large(tmp_path: Path) -> None:
    """Run lengths of large masks, and tags that never end, in a few bytes."""
    path, output = tmp_path / "a.json", tmp_path / "o.parquet"
    shape = {"size": [2000, 3000], "counts": [0, 6_000_000]}
    item = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": shape}
    path.write_text(json.dumps([item] * 50))
    with pytest.raises(dgrec.ImportFileError, match="the masks of its frame take too much memory"):
        dgrec.import_(path, output)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("annotations.xml", b"<annotations><box a='" + b" " * (20 << 20))
    with pytest.raises(dgrec.ImportFileError, match="line 1: a tag of more than 16 MB"):
        dgrec.import_(path, output)


def test_other_coordinates(tmp_path: Path) -> None:
    """Parts of the picture become pixels where that is said; a rotated box keeps its angle."""
    path, output = tmp_path / "a.json", tmp_path / "o.parquet"
    item = {
        "name": "car",
        "class": 2,
        "confidence": 0.5,
        "box": {"x1": 0.1, "y1": 0.2, "x2": 0.5, "y2": 0.6},
        "keypoints": {"x": [0.25], "y": [0.5]},
        "segments": {"x": [0.5], "y": [0.5]},
    }
    path.write_text(json.dumps([item]))
    dgrec.import_(path, output, normalized=True, size=(640, 480))
    with dgrec.open(output) as session:
        (found,) = session.result(0).results
    assert found["bbox"] == [64.0, 96.0, 320.0, 288.0]
    assert found["landmarks"][0]["landmark"] == [160.0, 240.0]
    assert found["segmentation"] == [[320.0, 240.0]]
    pixels = {**item, "box": {"x1": 64.0, "y1": 96.0, "x2": 320.0, "y2": 288.0}}
    path.write_text(json.dumps([pixels]))
    with pytest.raises(dgrec.ImportFileError, match="frame 0: has a box in pixels"):
        dgrec.import_(path, output, normalized=True, size=(640, 480), overwrite=True)
    # What Ultralytics makes of a box of 100x40 about (200, 150), turned by 0.5.
    along, across = (
        np.array([np.cos(0.5), np.sin(0.5)]) * 50,
        np.array([-np.sin(0.5), np.cos(0.5)]) * 20,
    )
    steps = [along + across, along - across, -along - across, across - along]
    points = np.array([200, 150]) + steps
    box = {
        f"{axis}{n + 1}": float(p[a]) for n, p in enumerate(points) for a, axis in enumerate("xy")
    }
    path.write_text(json.dumps([{"name": "car", "class": 2, "confidence": 0.5, "box": box}]))
    with pytest.raises(dgrec.ImportFileError, match="frame 0: has a box with an angle"):
        dgrec.import_(path, output, normalized=True, size=(640, 480), overwrite=True)
    dgrec.import_(path, output, overwrite=True)
    with dgrec.open(output) as session:
        (found,) = session.result(0).results
    assert found["bbox"] == pytest.approx([150, 130, 250, 170])
    assert found["angle"] == pytest.approx(0.5)


_GROWTH = """
import resource, sys
import dgrec
def most(lines):
    with open("a.txt", "w") as file:
        for n in range(lines):  # as the benchmark sorts: by track
            file.write(f"{n % 2000 + 1},{n // 2000},{n % 600}.5,{n % 400}.25,30,40,0.5,-1,-1,-1\\n")
    dgrec.import_("a.txt", "a.parquet", overwrite=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
most(2000)
print(most(20_000), most(120_000))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_lines(tmp_path: Path) -> None:
    """100,000 lines more, as objects of Python, would take 100 MB."""
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    few, many = map(int, done.stdout.split())
    assert many - few < 60_000, (few, many)

"""Exported frames, detections and pictures are the chosen ones, and belong together."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import dgrec
from dgrec.cli import gather
from dgrec.errors import ConfigError, DgrecError
from dgrec.replay.exports import FORMATS, parse_split
from tests.factory import edited, make_detection, make_row, write_session
from tests.replay.clips import number_in, numbered_results
from tests.replay.exports.made import NUMBERED, numbered, tracked


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _export(path: Path, output: Path, *form: str, **options: Any) -> list[dict[str, str]]:
    with dgrec.open(path) as session:
        session.export(output, *form, overwrite=True, **options)
    return _rows(output)


@pytest.mark.slow
def test_options_choose_frames_and_detections(tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    everything = [(i, each) for i, row in enumerate(rows) for each in row.results]
    cases: list[tuple[dict[str, Any], Callable[[int, dict[str, Any]], bool]]] = [
        ({"detections_where": "label = 'car'"}, lambda i, each: each["label"] == "car"),
        ({"min_score": 0.75}, lambda i, each: each["score"] >= 0.75),
        ({"where": "frame % 3 = 1"}, lambda i, each: i % 3 == 1),
        ({"every": 4}, lambda i, each: i % 4 == 0),
        ({"start": "5", "end": "20"}, lambda i, each: 5 <= i < 20),
        ({"start": "0.5s"}, lambda i, each: i >= 15),
        (
            {"start": "3", "every": 5, "detections_where": "track_id IS NULL", "min_score": 0.1},
            lambda i, each: i >= 3 and (i - 3) % 5 == 0 and "track_id" not in each,
        ),
    ]
    for options, matches in cases:
        found = _export(path, tmp_path / "out.csv", **options)
        expected = [(str(i), repr(each["score"])) for i, each in everything if matches(i, each)]
        assert expected
        assert [(row["frame"], row["score"]) for row in found] == expected, options


def test_splits_are_stretches_of_time(tmp_path: Path) -> None:
    path, _ = tracked(tmp_path)
    found = _export(path, tmp_path / "out.csv", split="train=0.7,val=0.2,test=0.1")
    splits: dict[str, set[int]] = {}
    for row in found:
        splits.setdefault(row["split"], set()).add(int(row["frame"]))
    assert [(name, min(frames), max(frames)) for name, frames in splits.items()] == [
        ("train", 0, 20),
        ("val", 21, 26),
        ("test", 27, 28),  # frame 29 is empty
    ]
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "coco.json", split="train=0.8,val=0.2")
        assert [output.name for output in report.outputs] == ["coco-train.json", "coco-val.json"]
        with pytest.raises(ConfigError, match="none of the 30 frames"):
            session.export(tmp_path / "no.csv", split="train=0.999,val=0.001")
    found_images = [
        [image["id"] for image in json.loads(output.read_text())["images"]]
        for output in report.outputs
    ]
    assert found_images == [list(range(24)), list(range(24, 30))]
    for text in ("train", "train=0.8", "a=1,a=0", "../x=1", "=1", "train=nan,val=1", "a=0.5,b=0.6"):
        with pytest.raises(ConfigError):
            parse_split(text)


def _burnt(path: Path) -> int:
    image = cv2.imread(str(path))
    assert image is not None
    return number_in(image)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_pictures_are_those_of_their_boxes(kind: str, tmp_path: Path) -> None:
    path = numbered(tmp_path)
    found = _export(path, tmp_path / "out.csv", images=kind, every=2)
    assert len({row["picture"] for row in found}) == NUMBERED // 2 - 1  # frame 0 has no box
    assert len(list((tmp_path / "out.images").iterdir())) == NUMBERED // 2
    for row in found:
        assert row["picture"] == f"out.images/frame-{int(row['frame']):06}.{kind}"
        assert _burnt(tmp_path / row["picture"]) == 3 + 2 * int(row["frame"])
    # The boxes of a picture say the frame's number, in bits.
    for number in range(0, NUMBERED, 2):
        boxes = sorted(float(row["x_min"]) for row in found if int(row["frame"]) == number)
        assert boxes == sorted(each["bbox"][0] for each in numbered_results(number))


def test_frames_without_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    numbers = [3 + 2 * i for i in range(NUMBERED)]
    numbers[5] = 900
    edited(path, {"source_frame": numbers, "media_time_s": [n * 0.04 for n in numbers]})
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "coco.json", images="png")
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert [image["id"] for image in images] == [i for i in range(NUMBERED) if i != 5]
    for image in images:
        assert _burnt(tmp_path / image["file_name"]) == 3 + 2 * image["id"]
    assert report.frames == report.pictures == NUMBERED - 1
    assert any("1 recorded frame has no pixels" in note for note in report.notes)


@pytest.mark.slow
def test_what_is_redacted_is_covered_in_every_picture(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "covered.json", images="png", redact="bit")
        assert report.pictures == NUMBERED
        covered = 0
        for image in json.loads((tmp_path / "covered.json").read_text())["images"]:
            picture = cv2.imread(str(tmp_path / image["file_name"]))
            for each in numbered_results(image["id"]):
                left, top, right, bottom = map(int, each["bbox"])
                assert not picture[top:bottom, left:right].any()
                covered += 1
        assert covered > NUMBERED
        with pytest.raises(DgrecError, match="no such label"):
            session.export(tmp_path / "no.json", images="jpg", redact="bits")
        for form in FORMATS.load().values():
            if form.pictures[0] == "none":
                with pytest.raises(ConfigError, match="--redact"):
                    session.export(tmp_path / "no", form.name, redact="bit")


def test_without_footage_one_line_says_so(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [make_row(0)])
    with dgrec.open(path) as session, pytest.raises(DgrecError, match="--images none"):
        session.export(tmp_path / "yolo", "yolo")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["s.parquet"]


def test_nothing_is_overwritten_by_accident(tmp_path: Path) -> None:
    path, _ = tracked(tmp_path)
    before = path.read_bytes()
    data = tmp_path / "data"
    with dgrec.open(path) as session:
        for overwrite in (False, True):
            with pytest.raises(DgrecError, match="is the session itself"):
                session.export(path, "parquet-flat", overwrite=overwrite)
        session.export(data, "yolo", images="none")
        (data / "runs").mkdir()
        (data / "labels" / "train" / "frame-000999.txt").write_text("left over")
        with pytest.raises(DgrecError, match="is not empty"):
            session.export(data, "yolo", images="none")
        session.export(data, "yolo", images="none", overwrite=True, end="10")
        assert len(list((data / "labels" / "train").iterdir())) == 10
        assert (data / "runs").is_dir()
        mine = tmp_path / "mine"
        (mine / "images").mkdir(parents=True)
        with pytest.raises(DgrecError, match="not an earlier export"):
            session.export(mine, "yolo", images="none", overwrite=True)
        assert (mine / "images").is_dir()
    assert path.read_bytes() == before


def test_nothing_of_an_earlier_sequence_stays(tmp_path: Path) -> None:
    """Its numbers of frames, and its pictures, would be taken for those of the new one."""
    path = numbered(tmp_path)
    rows = [make_row(i, [make_detection(0, track_id=1)]) for i in range(20)]
    other = write_session(tmp_path / "s.parquet", rows)
    sequence = tmp_path / "walk"
    with dgrec.open(path) as session:
        session.export(sequence, "mot", images="jpg", every=2)
    (sequence / "notes.txt").write_text("mine")
    dgrec.export(other, tmp_path / "new", "mot")
    before = sorted(each.name for each in sequence.iterdir())
    with pytest.raises(DgrecError):
        dgrec.export(other, sequence, "mot", images="jpg", overwrite=True)  # it has no pictures
    assert sorted(each.name for each in sequence.iterdir()) == before
    assert {"img1", "source_frames.txt"} < {*before}
    dgrec.export(other, sequence, "mot", overwrite=True)
    names = {each.name for each in (tmp_path / "new").iterdir()}
    assert {each.name for each in sequence.iterdir()} == {*names, "notes.txt"}


def test_no_picture_of_an_earlier_export_stays(tmp_path: Path) -> None:
    """Pictures that were not covered, for example; a task of the folder would count them."""
    path = numbered(tmp_path)
    pictures = tmp_path / "t.images"
    with dgrec.open(path) as session:
        session.export(tmp_path / "t.xml", images="png", every=2)
        (pictures / "frame-mine.png").write_text("mine")
        (pictures / "frame-000007.png").mkdir()
        report = session.export(tmp_path / "t.xml", images="jpg", every=3, overwrite=True)
    ours = {f"frame-{number:06}.jpg" for number in range(0, NUMBERED, 3)}
    assert report.pictures == len(ours)
    assert {each.name for each in pictures.iterdir()} == {
        *ours,
        "frame-mine.png",
        "frame-000007.png",
    }


def test_the_footage_of_a_recording_is_never_replaced(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    footage = tmp_path / "clip.mp4"
    before = footage.read_bytes()
    with dgrec.open(path) as session, pytest.raises(DgrecError, match="is the session itself"):
        session.export(footage, "csv", overwrite=True)
    asked = ["query", str(path), "SELECT 1", "-o", str(footage), "--format", "csv", "--overwrite"]
    query = CliRunner().invoke(gather(), asked)
    assert query.exit_code == 1
    assert footage.read_bytes() == before


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    path, _ = tracked(tmp_path)
    numbers = [*range(20), *range(5, 15)]
    edited(path, {"frame": numbers})
    with dgrec.open(path) as session:
        for output, form in (("a.csv", None), ("b.json", None), ("c", "mot"), ("d.xml", None)):
            with pytest.raises(DgrecError, match="numbers of its frames do not rise"):
                session.export(tmp_path / output, form)
    assert [each.name for each in tmp_path.iterdir()] == ["tracked.parquet"]


def test_formats_are_registered_and_described() -> None:
    from dgrec.replay.commands.export import export_command

    formats = FORMATS.load()
    (choices,) = [each.type.choices for each in export_command.params if each.name == "form"]
    assert list(choices) == sorted(formats)
    suffixes = [suffix for form in formats.values() for suffix in form.suffixes]
    assert len(suffixes) == len(set(suffixes))
    for name, form in formats.items():
        assert form.name == name
        assert form.title
        assert bool(form.replaced) == form.is_folder
        assert form.is_folder or form.member_suffix or form.suffixes


@pytest.fixture
def formats() -> Iterator[dict[str, type[dgrec.ExportFormat]]]:
    before = dict(FORMATS.load())
    yield FORMATS
    FORMATS.clear()
    FORMATS.update(before)


def _defined(class_name: str, **attributes: Any) -> type:
    return type(class_name, (dgrec.ExportFormat,), {"write": lambda *_: None, **attributes})


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"title": "x"}, "class Mine: has no name; add: name = 'counts'"),
        ({"name": ""}, "class Mine: has no name"),
        ({"name": 5}, "class Mine: has no name"),
        (
            {"name": "csv"},
            r"Mine and .*Csv have the same name, 'csv': give",
        ),
        ({"name": "mine", "suffixes": ".mine"}, "class Mine: suffixes is a text, not a list"),
    ],
)
def test_a_format_that_cannot_be_named_is_refused(
    formats: dict[str, type], attributes: dict[str, Any], problem: str
) -> None:
    before = dict(formats)
    with pytest.raises(ConfigError, match=problem):
        _defined("Mine", **attributes)
    assert formats == before


def test_a_format_that_is_defined_again_replaces_itself(formats: dict[str, type]) -> None:
    """As in a notebook."""
    before = set(formats)
    for name in ("first", "second", "second"):
        last = _defined("Mine", name=name)
        assert set(formats) - before == {name}
        assert formats[name] is last


def test_a_function_may_make_several_formats(formats: dict[str, type]) -> None:
    """The second took the first away without a word."""

    def defined(label: str) -> type:
        class Counts(dgrec.ExportFormat):
            name = label

            def write(self, exported: Any, path: Path) -> None: ...

        return Counts

    before = set(formats)
    made = [defined(label) for label in ("cats", "dogs", "dogs")]
    assert set(formats) - before == {"cats", "dogs"}
    assert [formats["cats"], formats["dogs"]] == made[::2]


@pytest.mark.parametrize(
    ("form", "lacking"),
    [
        ("mot-results", "track"),
        ("coco", "box in the picture"),
        ("yolo", "box in the picture"),
        ("yolo-seg", "mask in the picture"),
    ],
)
def test_an_export_of_nothing_is_an_error(form: str, lacking: str, tmp_path: Path) -> None:
    """Without a track, a box or what else a format has: no empty file, no frames as background."""
    result = {"category_id": 0, "label": "cat", "score": 0.9}
    if "box" not in lacking:
        result["bbox"] = [1.0, 2.0, 30.0, 40.0]
    rows = [make_row(number, [result] if number else []) for number in range(4)]
    path = write_session(tmp_path / "s.parquet", rows)
    with (
        dgrec.open(path) as session,
        pytest.raises(ConfigError, match=f"nothing is left .* no {lacking}: 3 detections"),
    ):
        session.export(tmp_path / "out.data", form, images="none")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["s.parquet"]


def test_a_frame_may_be_given_as_a_number(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [make_row(number) for number in range(9)])
    by_number = dgrec.export(path, tmp_path / "a.csv", start=2, end=np.int64(5))
    assert (
        by_number.frames == dgrec.export(path, tmp_path / "b.csv", start="2", end="5").frames == 3
    )
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    for position in (-1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="is not a valid position"):
            dgrec.export(path, tmp_path / "c.csv", start=position)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["coco", "coco-results", "yolo", "cvat", "label-studio", "mot"])
def test_a_class_that_is_made_up_is_said(form: str, tmp_path: Path) -> None:
    found = [
        make_detection(0, track_id=1),
        make_detection(1, label=..., category_id=7, track_id=2),
        make_detection(2, label=None, category_id=..., track_id=3),
    ]
    path = write_session(tmp_path / "s.parquet", [make_row(0, found)])
    note = "made up the name of a class where there is no label"
    report = dgrec.export(path, tmp_path / "out", form, images="none")
    assert f"{note}: 2 detections" in report.notes
    plain = dgrec.export(path, tmp_path / "plain", form, images="none", where="frame = 0",
                         detections_where="label IS NOT NULL")  # fmt: skip
    assert not any(note in each for each in plain.notes)
    rows = dgrec.export(path, tmp_path / "rows.csv")  # which have no class
    assert not any(note in each for each in rows.notes)


def test_a_session_is_exported_by_its_path(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [make_row(number) for number in range(4)])
    by_path = dgrec.export(tmp_path / "s", tmp_path / "a.csv")
    with dgrec.open(path) as session:
        report = dgrec.export(session, tmp_path / "b.csv")
        assert len(session.sql("FROM frames").fetchall()) == 4  # it is not closed
    assert (by_path.frames, by_path.detections) == (report.frames, report.detections)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_an_export_of_a_recording_in_which_nothing_was_found_is_empty(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [make_row(number, []) for number in range(4)])
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "out.csv")
    assert (report.frames, report.detections) == (0, 0)
    assert (tmp_path / "out.csv").read_text().count("\n") == 1

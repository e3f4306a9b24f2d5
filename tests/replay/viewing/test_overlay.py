"""Drawings over pictures: their authors, their colors, and what is left out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dgrec
from dgrec.replay.viewing import overlay
from dgrec.replay.viewing.overlay import drawings, label_color, thumbnail
from tests.analyzed import everything, record_analyzed
from tests.factory import edited, make_detection, make_row, new_metadata, restart, write_session
from tests.replay.test_overlay import (
    CASES,
    COLORS,
    SETTINGS,
    box,
    full,
    letterbox,
    pysdk_result,
    record,
)
from tests.waiting import PATIENCE_S


def written(path: Path, *results: Any, **row: Any) -> dgrec.Session:
    """Write frames with these results and open them."""
    metadata = new_metadata(overlay=full({"color": COLORS, "alpha": "auto"}))
    metadata["model"]["result_type"] = "Detection"
    rows = [make_row(i, found, **row) for i, found in enumerate(results)]
    return dgrec.open(write_session(path, rows, metadata))


def ops_of(frame: dict[str, Any], detection: int) -> list[list[Any]]:
    groups = [group for layer in frame["layers"] for group in layer["groups"]]
    return [op for group in groups if group["d"] == detection for op in group["ops"]]


@pytest.mark.slow
def test_operations_belong_to_their_detections(tmp_path: Path) -> None:
    for name in ("boxes", "rotated", "pose with boxes", "instance masks", "hand", "classification"):
        type_name, found, conversion = CASES[name]
        settings = SETTINGS["as PySDK sets them"]
        original = pysdk_result(type_name, found, conversion, **settings)
        with record(tmp_path / f"{name}.parquet", type_name, [original], settings) as session:
            frame = drawings(session, 0, 1)["frames"][0]
            alone = [drawings_of_part(session, index) for index in range(len(found))]
        groups = [group for layer in frame["layers"] for group in layer["groups"]]
        assert {group["d"] for group in groups} == set(range(len(found))), name
        for index, ops in enumerate(alone):
            kinds = [op[0] for op in ops_of(frame, index)]
            assert kinds == [op[0] for op in ops], (name, index)


def drawings_of_part(session: dgrec.Session, index: int) -> list[list[Any]]:
    """Return the operations of one detection, drawn without the others."""
    from dgrec.overlay import Colors, Operations, note_overlay

    noted = Operations(Colors(), *session.result(0).size)
    note_overlay(session.result(0).keep([index]).to_pysdk(None), noted)
    return [op for layer in noted.layers for group in layer["groups"] for op in group["ops"]]


@pytest.mark.slow
def test_an_answer_is_json_of_numbers_and_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "_LONGEST_S", PATIENCE_S)
    record_analyzed(tmp_path / "s.parquet", everything())
    with dgrec.open(tmp_path / "s.parquet") as session:
        drawn = drawings(session, 3, 12)
    assert json.loads(json.dumps(drawn, allow_nan=False))["from"] == 3
    assert len(drawn["frames"]) == 9
    assert drawn["labels"] == ["person", "car"]
    frame = drawn["frames"][6]
    assert frame["labels"] == [0, 1]
    assert frame["scores"] == [0.9, 0.9]
    # What analyzers draw of no detection: zones, lines, trails.
    assert {op[0] for op in ops_of(frame, -1)} == {"poly", "line", "text"}
    tracks = {track for _, track, *_ in frame["tracks"]}
    assert tracks == {1, 2}
    colors = [drawn["colors"][color] for _, _, color, *_ in frame["tracks"]]
    assert colors[0] != colors[1]


def test_frames_of_later_runs_say_so(tmp_path: Path) -> None:
    """The page draws no trail from one run to the next."""
    rows = [make_row(i, [make_detection(track_id=1)]) for i in range(6)]
    events = [restart(rows[2]), restart(rows[4])]
    path = write_session(tmp_path / "s.parquet", rows, new_metadata(events=events))
    with dgrec.open(path) as session:
        frames = drawings(session, 1, 6)["frames"]
    assert [frame.get("run", 0) for frame in frames] == [0, 1, 1, 2, 2]


@pytest.mark.slow
def test_fewer_frames_come_where_they_are_large(tmp_path: Path) -> None:
    many = [make_detection(i, label="x" * 150) for i in range(3000)]
    with written(tmp_path / "s.parquet", *[many] * 5) as session:
        answers = []
        position = 0
        while position < 5:
            answers.append(drawings(session, position, 5))
            position += len(answers[-1]["frames"])
    assert position == 5
    assert len(answers) > 1
    assert max(len(json.dumps(answer)) for answer in answers) < 12e6
    assert all(len(ops_of(frame, 2999)) == 2 for answer in answers for frame in answer["frames"])


@pytest.mark.slow
def test_labels_that_are_not_the_models_have_the_colors_of_one_pass(tmp_path: Path) -> None:
    names = ["Ada", "Grace", "Edsger", "Grace", "Ada"]
    settings = {"color": COLORS, "alpha": "auto"}
    originals = [
        pysdk_result("Detection", [box(0, label=name)], letterbox, **settings) for name in names
    ]
    with record(tmp_path / "s.parquet", "Detection", originals, settings) as session:
        labels = session.result(0).label_dictionary
        pass_colors = []
        for result in session:
            drawn = result.overlay(np.zeros((180, 320, 3), np.uint8), labels=labels)
            pass_colors.append(tuple(drawn[60, 20, ::-1].tolist()))
        order = [3, 1, 4, 0, 2]
        found = {}
        for at in order:
            answer = drawings(session, at, at + 1)
            [line] = [op for op in ops_of(answer["frames"][0], 0) if op[0] == "box"]
            found[at] = answer["colors"][line[6]]
        card = [label_color(session, name, None) for name in names]
    assert len(set(pass_colors)) == 3
    assert [found[at] for at in range(5)] == pass_colors == card


@pytest.mark.parametrize(
    "odd",
    [
        {"bbox": [math.nan, 1.0, 5.0, 5.0]},
        {"bbox": [0.0, 0.0, 1e308, 1e308]},
        {"bbox": [-math.inf, 0.0, 9.0, math.inf]},
        {"bbox": [1.0, 2.0, 30.0, 40.0], "angle": math.nan},
        {"landmarks": [{"landmark": [1.0, 2.0], "connect": [700]}]},
        {"bbox": [1.0, 2.0, 30.0, 40.0], "mask": "none"},
        {"category_id": 1, "mask": {"x_min": -70, "y_min": 2**30, "data": np.ones((9, 9))}},
    ],
)
def test_what_cannot_be_drawn_is_left_out_with_a_note(tmp_path: Path, odd: dict[str, Any]) -> None:
    found = [make_detection(0), odd, make_detection(2)]
    with written(tmp_path / "s.parquet", found) as session:
        drawn = drawings(session, 0, 1)
    json.dumps(drawn, allow_nan=False)
    frame = drawn["frames"][0]
    assert any("not drawn: " in note for note in frame["notes"])
    if "mask" not in odd:
        assert any("detection 1 " in note for note in frame["notes"])
        assert ops_of(frame, 0)
        assert ops_of(frame, 2)


@pytest.mark.slow
def test_as_many_detections_as_a_row_may_have(tmp_path: Path) -> None:
    """They are cut off before they become Python values."""
    with written(tmp_path / "s.parquet", [make_detection(0)], [make_detection(1)]) as session:
        path = session.path
    table = pq.read_table(edited(path, {}))
    index = table.schema.get_field_index("detections")
    items = table.column(index).combine_chunks().flatten()
    many = items.take(pa.array(np.zeros(50_001, np.int32)))
    column = pa.ListArray.from_arrays(pa.array([0, 50_000, 50_001], pa.int32()), many)
    table = table.set_column(
        index, table.schema.field(index), column.cast(table.schema.types[index])
    )
    pq.write_table(table, path)
    with dgrec.open(path) as session:
        # One by one: an answer ends early where a frame takes long.
        first, second = (drawings(session, i, i + 1)["frames"][0] for i in range(2))
        assert len(thumbnail(session)) > 500
    assert first["notes"] == ["3,000 of 50,000 detections are drawn"]
    assert ops_of(first, 2999)
    assert "notes" not in second


def test_many_that_cannot_be_drawn_end_soon(tmp_path: Path) -> None:
    found = [make_detection(0, bbox=[math.nan] * 4)] * 500
    with written(tmp_path / "s.parquet", found) as session:
        notes = drawings(session, 0, 1)["frames"][0]["notes"]
    assert notes[0] == "detection 0 is not drawn: cannot convert float NaN to integer"
    assert len(notes) == 6


@pytest.mark.slow
def test_a_detection_with_too_many_points(tmp_path: Path) -> None:
    points = [{"landmark": [1.0, 2.0], "connect": list(range(300))} for _ in range(300)]
    with written(tmp_path / "s.parquet", [make_detection(0, landmarks=points)]) as session:
        frame = drawings(session, 0, 1)["frames"][0]
    assert frame["notes"] == ["too much to draw: the rest of this frame is left out"]


@pytest.mark.slow
def test_a_frame_of_any_size(tmp_path: Path) -> None:
    type_name, found, conversion = CASES["class map"]
    settings = SETTINGS["as PySDK sets them"]
    original = pysdk_result(type_name, found, conversion, **settings)
    with record(tmp_path / "s.parquet", type_name, [original], settings) as session:
        path = session.path
    for size in (2**31 - 1, 60_000, 0):
        edited(path, {"width": [size], "height": [size]})
        with dgrec.open(path) as session:
            drawn = drawings(session, 0, 1)
            assert len(thumbnail(session)) > 500
        notes = ["not drawn: the frame is too large"] if size == 60_000 else None
        assert drawn["frames"][0].get("notes") == notes


@pytest.mark.slow
def test_thumbnails_are_small_pictures(tmp_path: Path) -> None:
    import cv2

    sample = Path(dgrec.__file__).parent / "sample_data" / "session.parquet"
    with dgrec.open(sample) as session:
        picture = cv2.imdecode(np.frombuffer(thumbnail(session), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (180, 320, 3)
    with written(tmp_path / "s.parquet", [], [make_detection(0)], []) as session:
        dark = cv2.imdecode(np.frombuffer(thumbnail(session), np.uint8), cv2.IMREAD_COLOR)
    assert dark.shape[1] == 320
    assert dark.max() > 150, "it has the box of the frame with a detection"
    assert np.median(dark) < 60

"""Each picture gets the result that was recorded of it, and no other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from degirum.exceptions import DegirumException

import dgrec
from dgrec.errors import ModelError
from dgrec.stand_in.matching import Matcher
from tests.factory import edited, make_row, make_rows, write_session

Picture = np.ndarray[Any, Any]


def picture(number: int) -> Picture:
    """Return a picture with a square that moves, on noise that does not."""
    noise = np.random.default_rng(0).integers(60, 120, (120, 160, 3), np.uint8)
    x, y = 5 + number * 4 % 110, 10 + number // 27 * 30
    noise[y : y + 24, x : x + 24] = (40, 200, 250)
    return noise


def record(
    path: Path, numbers: Sequence[int], text: Callable[[int, int], str] | None = None
) -> Path:
    """Record pictures; each has one result, which names its number."""
    with dgrec.Recorder(path) as recorder:
        for at, number in enumerate(numbers):
            label = str(number) if text is None else text(at, number)
            found = {"label": label, "score": 0.9, "bbox": [1.0, 2.0, 30.0, 40.0]}
            recorder.add([found], picture(number))
    return path


def labels(results: Any) -> list[str]:
    return [result.results[0]["label"] for result in results]


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_thinned_recordings_are_never_shifted(tmp_path: Path, step: int) -> None:
    recorded = range(0, 90, step)
    path = record(tmp_path / "s.parquet", recorded)
    model = dgrec.model(path)
    assert labels(model.predict_batch(map(picture, recorded))) == list(map(str, recorded))
    every_sixth = [number for number in recorded if number % 6 == 0]
    assert labels(model.predict_batch(map(picture, every_sixth))) == list(map(str, every_sixth))
    backwards = recorded[::-1]
    assert labels(map(model.predict, map(picture, backwards))) == list(map(str, backwards))
    for number in set(range(90)) - set(recorded):
        with pytest.raises(DegirumException, match="has the pixels of this picture"):
            model.predict(picture(number))


def test_what_was_not_recorded_can_be_the_nearest_or_empty(tmp_path: Path) -> None:
    recorded = range(0, 27, 3)
    path = record(tmp_path / "s.parquet", recorded)
    nearest = dgrec.model(path, missing="nearest")
    found = [int(label) for label in labels(nearest.predict_batch(map(picture, range(25))))]
    assert all(abs(given - number) <= 1 for number, given in enumerate(found))
    assert len(found) == 25
    empty = dgrec.model(path, missing="empty")
    given = [len(result.results) for result in empty.predict_batch(map(picture, range(27)))]
    assert given == [1, 0, 0] * 9


@pytest.mark.slow
@pytest.mark.parametrize("quality", [95, 40])
def test_a_copy_that_was_encoded_again(tmp_path: Path, quality: int) -> None:
    path = record(tmp_path / "s.parquet", range(60))

    def copy(number: int) -> Picture:
        data = cv2.imencode(".jpg", picture(number), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(data, cv2.IMREAD_COLOR)

    with pytest.raises(DegirumException, match="or the same encoded again"):
        dgrec.model(path).predict(copy(5))
    model = dgrec.model(path, missing="nearest")
    assert labels(model.predict_batch(map(copy, range(60)))) == list(map(str, range(60)))


def test_a_loop_gives_its_passes_one_after_the_other(tmp_path: Path) -> None:
    numbers = [*range(8)] * 3
    path = record(tmp_path / "s.parquet", numbers, lambda at, number: f"{at // 8}: {number}")
    model = dgrec.model(path)
    expected = [f"{at // 8}: {number}" for at, number in enumerate(numbers)]
    assert labels(model.predict_batch(map(picture, numbers))) == expected
    assert labels(model.predict_batch(map(picture, numbers))) == expected  # from the beginning
    # A third of it is passed over: what follows is of the later pass.
    assert labels(model.predict_batch([picture(3), picture(2), picture(7)])) == [
        "0: 3",
        "1: 2",
        "1: 7",
    ]


def test_pixels_are_what_counts(tmp_path: Path) -> None:
    """Not how an array lies in memory; but a picture's shape, and the order of its colours."""
    model = dgrec.model(record(tmp_path / "s.parquet", range(10)))
    wide = np.zeros((120, 400, 3), np.uint8)
    wide[:, 100:260] = picture(4)
    assert labels([model.predict(wide[:, 100:260])]) == ["4"]
    assert labels([model.predict(np.asfortranarray(picture(4)))]) == ["4"]
    others = (picture(4)[..., ::-1], picture(4).reshape(160, 120, 3), picture(4)[:, :, :1])
    changed = picture(4)
    changed[60, 80, 1] ^= 1
    for other in (*others, changed):
        with pytest.raises(DegirumException, match="none of its 10 frames"):
            model.predict(np.ascontiguousarray(other))


def test_order_is_taken_where_nothing_was_skipped_and_said(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(5))
    with pytest.warns(
        UserWarning, match="no digests of its pictures: its results are given in order"
    ):
        model = dgrec.model(path)
    with dgrec.open(path) as session:
        expected = [result.results for result in session]
    pictures = [picture(0)] * 5
    assert [result.results for result in model.predict_batch(pictures)] == expected
    with pytest.raises(DegirumException, match="has 5 frames, and this is one more"):
        list(model.predict_batch([*pictures, picture(0)]))


@pytest.mark.parametrize(
    ("match", "missing"),
    [("auto", "error"), ("auto", "nearest"), ("pixels", "error"), ("order", "error")],
)
def test_a_recording_without_frames_says_so(tmp_path: Path, match: str, missing: str) -> None:
    path = write_session(tmp_path / "s.parquet", [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = dgrec.model(path, match=match, missing=missing)
    with pytest.raises(DegirumException, match=r"s\.parquet: has no frames$"):
        model.predict(picture(0))
    assert not dgrec.model(path, missing="empty").predict(picture(0)).results


@pytest.mark.parametrize("column", ["skipped_before", "dropped_queue"])
def test_order_is_refused_where_frames_are_missing(tmp_path: Path, column: str) -> None:
    fields = {column: 2}
    rows = [make_row(i, **(fields if i == 3 else {})) for i in range(5)]
    path = write_session(tmp_path / "s.parquet", rows)
    with pytest.raises(ModelError, match="2 frames of its source were not inferred"):
        dgrec.model(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dgrec.model(path, match="order")
    with pytest.raises(ModelError, match="match='order' gives its results in order all the same"):
        dgrec.model(path, match="pixels")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"match": "time"}, "match='time': expected auto, pixels, order"),
        ({"missing": "ignore"}, "missing='ignore': expected error, nearest, empty"),
        ({"match": "order", "missing": "nearest"}, "needs frames that are found by their pixels"),
    ],
)
def test_unknown_ways_are_refused(tmp_path: Path, options: dict[str, str], words: str) -> None:
    path = record(tmp_path / "s.parquet", range(2))
    with pytest.raises(ModelError, match=words):
        dgrec.model(path, **options)


def test_odd_digests_of_a_file_match_nothing(tmp_path: Path) -> None:
    """A file may hold any number, and signatures of any length."""
    odd = [
        {"pixel_digest": None, "pixel_signature": None},
        {"pixel_digest": -5, "pixel_signature": b""},
        {"pixel_digest": 2**63 - 1, "pixel_signature": b"short"},
        {"pixel_digest": 7, "pixel_signature": b"x" * 100_000},
    ]
    path = record(tmp_path / "s.parquet", range(4))

    columns = {name: [row[name] for row in odd] for name in ("pixel_digest", "pixel_signature")}
    edited(path, columns)
    with dgrec.open(path) as session:
        with pytest.raises(ModelError, match="none of its 4 frames"):
            Matcher(session).find(picture(0))
        with pytest.raises(ModelError, match="none of its 4 frames"):
            Matcher(session, missing="nearest").find(picture(0))
        assert Matcher(session, missing="empty").find(picture(0)) is None


@pytest.mark.slow
def test_a_copy_of_a_scene_that_hardly_moves(tmp_path: Path) -> None:
    """Encoding changes it more than time does: the frame that is due is taken."""

    def still(number: int) -> Picture:
        scene = cv2.GaussianBlur(picture(0), (9, 9), 0)
        scene[100:104, 20 + number : 30 + number] = (0, 0, 255)
        return scene

    def copy(number: int) -> Picture:
        quality = [cv2.IMWRITE_JPEG_QUALITY, 50 + number % 3]
        return cv2.imdecode(cv2.imencode(".jpg", still(number), quality)[1], cv2.IMREAD_COLOR)

    path = tmp_path / "s.parquet"
    with dgrec.Recorder(path) as recorder:
        for number in range(60):
            found = {"label": str(number), "score": 0.9, "bbox": [1.0, 2.0, 30.0, 40.0]}
            recorder.add([found], still(number))
    model = dgrec.model(path, missing="nearest")
    assert labels(model.predict_batch(map(copy, range(60)))) == list(map(str, range(60)))

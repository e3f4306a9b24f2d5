"""Two sessions side by side, against what `dgrec compare` says of the same two."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec import sample
from dgrec.format import Journal, JournalWriter, Row, seal
from dgrec.replay.viewing.pairs import GROUPS
from tests.factory import (
    CLOSING,
    make_detection,
    make_row,
    new_metadata,
    write_journal,
    write_session,
)
from tests.replay.viewing.client import Client, served
from tests.waiting import wait_until

_FOOTAGE = {"kind": "file", "given": "clip.mp4", "sha256": "ab" * 32, "width": 640, "height": 480}
_ROWS = 230


def _rows(
    numbers: range, results: Callable[[int], list[dict[str, Any]]], ms: float = 12.0
) -> list[Row]:
    return [
        make_row(i, results(number), source_frame=number, timing={"CoreInferenceDuration_ms": ms})
        for i, number in enumerate(numbers)
    ]


def _boxes(number: int) -> list[dict[str, Any]]:
    return [
        make_detection(
            k, bbox=[10.0 + 150 * k, 20.0, 110.0 + 150 * k, 120.0], label=label, score=0.5
        )
        for k, label in enumerate(("person", "car", "dog"))
    ]


def _changed(number: int) -> list[dict[str, Any]]:
    """Return the same boxes with other labels, moved, left out, doubled, and one more."""
    found = _boxes(number)
    if number % 5 == 0:
        found[1]["label"] = "truck"
    if number % 7 == 0:
        found[0]["bbox"] = [x + 50.0 * (at % 2 == 0) for at, x in enumerate(found[0]["bbox"])]
    if number % 11 == 0:
        del found[2]
    if number % 13 == 0:
        found.append({**found[0], "score": 0.3})
    if number % 17 == 0:
        found.append(make_detection(0, bbox=[500.0, 300.0, 600.0, 400.0], label="cat"))
    return found


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("pairs")

    def write(name: str, rows: list[Row], source: dict[str, Any] = _FOOTAGE) -> None:
        write_session(folder / f"{name}.parquet", rows, new_metadata(source=source))

    write("base", _rows(range(_ROWS), _boxes))
    write("changed", _rows(range(_ROWS), _changed, ms=20.0))
    write("decimated", _rows(range(1, _ROWS + 40, 3), _changed))
    write("later", _rows(range(_ROWS, _ROWS + 20), _boxes))
    write("elsewhere", _rows(range(_ROWS), _boxes), {**_FOOTAGE, "sha256": "cd" * 32})
    many = [make_detection(0, bbox=[k, 0.0, k + 9.0, 9.0]) for k in range(100_000)]
    write("many", _rows(range(3), lambda number: many if number == 1 else _boxes(number)))
    odd = [make_detection(0, bbox=[np.nan, 0.0, np.inf, 1.0], label="<b>" * 400, score=np.nan)]
    write("odd", _rows(range(9), lambda _: odd))
    write("none", [])
    write_journal(
        folder / "cut.arrows", _rows(range(40), _changed), new_metadata(source=_FOOTAGE), end=False
    )
    damaged = folder / "damaged.parquet"
    damaged.write_bytes((folder / "changed.parquet").read_bytes()[:-60])
    shutil.copy(sample.SESSION, folder / "sample.parquet")
    _at_threshold(folder / "stricter.parquet", 0.9)
    with served(folder) as client:
        yield client


def _at_threshold(path: Path, least: float) -> None:
    """Write the sample as a model with a higher threshold would have recorded it."""
    with dgrec.open(sample.SESSION) as session:
        rows = [
            make_row(
                row["frame"],
                [found for found in session[at].results if found["score"] >= least],
                source_frame=row["source_frame"],
            )
            for at, row in enumerate(session.frames.to_pylist())
        ]
        write_session(path, rows, new_metadata(source=session.metadata["source"]))


def _path(client: Client, name: str) -> Path:
    return client.server.recordings.path_of(name)


def _all_rows(client: Client, a: str, b: str) -> list[tuple[int | None, dict[str, Any] | None]]:
    n = client.json("/api/pair", a=a, b=b)["n"]
    found: list[tuple[int | None, dict[str, Any] | None]] = []
    while len(found) < n:
        part = client.json("/api/pair", a=a, b=b, **{"from": len(found), "to": n})
        assert part["from"] == len(found)
        assert part["to"] == len(found) + len(part["frames"]) > len(found)
        found += zip(part["partner"], part["frames"], strict=True)
    return found


def _verdict(client: Client, a: str, b: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def is_done() -> bool:
        found.update(client.json("/api/verdict", a=a, b=b))
        return bool(found["state"] != "comparing")

    wait_until(is_done)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("base", "changed"),
        ("base", "decimated"),
        ("decimated", "changed"),
        ("base", "cut"),
        ("base", "base"),
        ("base", "later"),
        ("sample", "stricter"),
    ],
)
def test_rows_marks_and_verdict_have_the_numbers_of_compare(client: Client, a: str, b: str) -> None:
    expected = dgrec.compare(_path(client, a), _path(client, b))
    agreement = expected.agreement
    assert agreement is not None
    rows = _all_rows(client, a, b)
    pairs = [(i, partner, frame) for i, (partner, frame) in enumerate(rows) if frame is not None]
    assert len(pairs) == agreement.frames
    assert len(rows) - len(pairs) == agreement.only_base_frames
    with dgrec.open(_path(client, a)) as base, dgrec.open(_path(client, b)) as new:
        sources = [s.frames.column("source_frame").to_pylist() for s in (base, new)]
    for i, partner, frame in pairs:
        assert partner is not None
        assert sources[0][i] == sources[1][partner] == frame["source_frame"]

    kinds: Counter[str] = Counter()
    for _, _, frame in pairs:
        kinds.update(frame["kinds"])
        assert len(frame["same"]) == frame["kinds"].get("same", 0)
        assert len(frame["different"]) == sum(frame["kinds"].values()) - len(frame["same"])
    assert dict(kinds) == {kind: n for kind, n in agreement.counts.items() if n}

    verdict = _verdict(client, a, b)
    assert verdict["state"] == "done"
    assert verdict["conclusion"][-1].startswith("In short: ")
    assert [table["title"] for table in verdict["tables"]][:2] == ["What differs", "Recordings"]
    assert verdict["groups"] == {
        "same": agreement.counts["same"],
        **{group: sum(agreement.counts[kind] for kind in of) for group, of in GROUPS.items()},
    }

    changed = [i for i, _, frame in pairs if frame["different"]]
    assert len(changed) == agreement.frames - agreement.same_frames
    marks = client.json("/api/pair/marks", a=a, b=b, width=300)
    assert marks["total"] == sum(mark["count"] for mark in marks["differences"]) == len(changed)
    assert {mark["i"] for mark in marks["differences"]} <= set(changed)
    for direction, order in ((1, changed[:9]), (-1, changed[:-10:-1])):
        at, seen = (-1 if direction > 0 else len(rows)), []
        for _ in order:
            at = client.json("/api/pair/next", a=a, b=b, i=at, dir=direction)["i"]
            seen.append(at)
        assert seen == order
    assert client.json("/api/pair/next", a=a, b=b, i=len(rows))["i"] is None


@pytest.mark.slow
def test_differences_say_labels_boxes_and_overlaps(client: Client) -> None:
    rows = _all_rows(client, "base", "changed")
    frame = rows[35][1]
    assert frame is not None
    found = {each["kind"]: each for each in frame["different"]}
    assert set(found) == {"label flip", "box shift"}
    flip, shift = found["label flip"], found["box shift"]
    assert (flip["a"], flip["b"], flip["labels"], flip["iou"]) == (1, 1, ["car", "truck"], 1)
    assert shift["boxes"] == [[10, 20, 110, 120], [60, 20, 160, 120]]
    assert shift["iou"] == pytest.approx(1 / 3, abs=1e-4)
    assert frame["same"] == [[2, 2, 1.0]]


@pytest.mark.slow
def test_the_other_latency_stands_at_the_frames_of_the_base(client: Client) -> None:
    query = {"a": "base", "b": "decimated", "names": "latency_ms", "width": 50}
    other = client.json("/api/pair/series", **query)
    own = client.json("/api/series", s="base", names="latency_ms", width=50)
    assert (other["from"], other["to"], other["step"]) == (own["from"], own["to"], own["step"])
    with (
        dgrec.open(_path(client, "base")) as a,
        dgrec.open(_path(client, "decimated")) as b,
    ):
        base, new = a.frames.to_pylist(), b.frames.to_pylist()
    latency = {row["source_frame"]: row["latency_ms"] for row in new}
    began = base[0]["captured_at"]
    pixels: dict[int, list[float]] = {}
    for row in base:
        if row["source_frame"] in latency:
            seconds = (row["captured_at"] - began).total_seconds()
            pixel = min(int(seconds / other["step"]), 49)
            pixels.setdefault(pixel, []).append(latency[row["source_frame"]])
    line = other["series"]["latency_ms"]
    assert {k for k, value in enumerate(line["mean"]) if value is not None} == set(pixels)
    for pixel, values in pixels.items():
        assert line["max"][pixel] == pytest.approx(max(values), rel=1e-4)
        assert line["mean"][pixel] == pytest.approx(sum(values) / len(values), rel=1e-4)


@pytest.mark.slow
def test_what_cannot_be_paired_says_why(client: Client) -> None:
    summary = client.json("/api/pair", a="base", b="elsewhere")
    assert summary["paired"] == 0
    assert summary["reason"].startswith("Detections are not compared: the sessions are not known")
    verdict = _verdict(client, "base", "elsewhere")
    assert verdict["state"] == "done"
    assert verdict["groups"] == dict.fromkeys(("same", *GROUPS), 0)
    assert client.json("/api/pair/next", a="base", b="elsewhere", i=0) == {
        "i": None,
        "is_certain": True,
    }
    status, error = client.refused("/api/pair", a="base", b="damaged")
    assert status == 422
    assert "damaged.parquet" in error
    for query, status in (
        ({"a": "base", "b": "nothing"}, 404),
        ({"a": "base"}, 400),
        ({"a": "base", "b": "changed", "from": "x"}, 400),
    ):
        assert client.refused("/api/pair", **query)[0] == status
    assert client.refused("/api/pair/series", a="base", b="changed", names="frame")[0] == 422


@pytest.mark.slow
def test_hostile_pairs(client: Client) -> None:
    # Too many to be matched; and against few they are matched and listed in part.
    for other, not_compared in (("many", 200_000), ("base", 0)):
        rows = _all_rows(client, "many", other)
        frame = rows[1][1]
        assert frame is not None
        assert frame["not_compared"] == not_compared
        assert len(frame["different"]) <= 3000
        assert sum(frame["groups"].values()) == (0 if not_compared else 100_003)
    verdict = _verdict(client, "many", "base")
    assert verdict["groups"]["only_a"] > 99_000
    assert client.json("/api/pair/marks", a="many", b="base")["differences"][0]["count"] == 1
    assert len(_all_rows(client, "odd", "base")) == 9
    assert _all_rows(client, "none", "base") == []
    assert _verdict(client, "none", "base")["state"] in ("done", "failed")
    end = client.json("/api/pair", a="base", b="changed", **{"from": 10**12, "to": 2 * 10**12})
    assert end["frames"] == []


@pytest.mark.slow
def test_the_end_of_a_recording_in_parts(tmp_path: Path) -> None:
    """Its path stays the same, and its page does not ask again after it."""
    write_session(tmp_path / "b.parquet", _rows(range(40), _boxes), new_metadata(source=_FOOTAGE))
    part = {"set_id": "a-set", "number": 1}
    journal, rows = tmp_path / "a-0001.arrows", _rows(range(40), _boxes)
    writer = JournalWriter(journal, new_metadata(source=_FOOTAGE, part=part))
    writer.write(rows[:25])
    with served(tmp_path) as client:
        assert client.json("/api/pair", a="a", b="b")["n"] == 25
        writer.write(rows[25:])
        writer.end(CLOSING)
        writer.close()
        seal(Journal.open(journal), journal.with_suffix(".parquet"))
        journal.unlink()
        assert client.json("/api/pair", a="a", b="b")["paired"] == 40

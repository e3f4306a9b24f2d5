"""Differences of recordings in their metadata."""

from __future__ import annotations

from typing import Any

import pytest

from dgrec.comparison.provenance import differences, same_footage
from tests.factory import new_metadata


def found(base: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    return {d.key: (d.base, d.new) for d in differences(base, new)}


def test_the_same_way_of_recording_has_no_differences() -> None:
    # Two recordings have ids, names, times and totals of their own.
    a = {**new_metadata("a"), "totals": {"frames": 1}, "events": [{}]}
    b = {**new_metadata("b"), "totals": {"frames": 2}, "started_at": "2027-01-01T00:00:00Z"}
    assert found([a], [b]) == {}


def test_model_comes_first_and_every_leaf_is_named() -> None:
    a, b = new_metadata(), new_metadata()
    a["options"], b["options"] = {"every": 2}, {"every": 3, "fps": 5}
    b["model"] = {**a["model"], "device": "N2X/CPU", "parameters": {"top_k": 3}}
    a["model"] = {**a["model"], "parameters": {"top_k": 0}}
    b["versions"] = {**a["versions"], "degirum": "9.9"}
    assert list(found([a], [b]).items()) == [
        ("model.device", (("TFLITE/CPU",), ("N2X/CPU",))),
        ("model.parameters.top_k", ((0,), (3,))),
        ("versions.degirum", ((a["versions"]["degirum"],), ("9.9",))),
        ("options.every", ((2,), (3,))),
        ("options.fps", ((None,), (5,))),
    ]


def test_a_parameter_asked_for_is_told_once() -> None:
    a, b = new_metadata(), new_metadata()
    for side, value in ((a, 1), (b, 2)):
        asked = {"properties": {"top_k": value, "other": value}, "parameters": {"top_k": value}}
        side["model"] = {**side["model"], **asked}
    assert list(found([a], [b])) == ["model.properties.other", "model.parameters.top_k"]


def test_one_side_may_differ_in_itself() -> None:
    a, b, c = (new_metadata() for _ in range(3))
    b["host"], a["host"], c["host"] = {"cpus": 4}, {"cpus": 2}, {"cpus": 2}
    assert found([a, b], [c]) == {"host.cpus": ((2, 4), (2,))}
    assert found([b, a], [c]) == {"host.cpus": ((2, 4), (2,))}


@pytest.mark.parametrize("digest", [None, "ab"])
def test_footage_is_told_by_its_digest(digest: str | None) -> None:
    a, b = new_metadata(), new_metadata()
    for side, path in ((a, "/here/clip.mp4"), (b, "/there/copy.mp4")):
        side["source"] = {**side["source"], "path": path, "sha256": digest}
    assert same_footage([a], [b]) is (digest is not None)
    # Where a file lies is no difference if it is known to be the same.
    assert ("source.path" in found([a], [b])) is (digest is None)
    b["source"]["sha256"] = "cd"
    assert not same_footage([a], [b])
    assert "source.sha256" in found([a], [b])

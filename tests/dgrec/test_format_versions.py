"""A file of every released format version is read for ever.

The files were recorded by ``dgrec record --source sample``: one came to its end, the other's
recorder was killed. When a new version is released, its two files are added, none is replaced.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dgrec

DATA = Path(__file__).parents[1] / "data"
FILES = {
    "format-1.parquet": (True, 14, "finished"),
    "format-1-killed.arrows": (False, 96, None),
}
BBOX = [220.40736257202147, 73.40595795752208, 421.8860684511482, 274.8724981740067]
KEYS = ["bbox", "category_id", "label", "landmarks", "score"]
TIMING = [
    "CoreInferenceDuration_ms",
    "CoreInputFrameSize_bytes",
    "CorePostprocessDuration_ms",
    "CorePreprocessDuration_ms",
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_every_version_is_read(name: str) -> None:
    sealed, frames, end_reason = FILES[name]
    with dgrec.open(DATA / name) as session:
        assert session.sealed is sealed
        assert session.damage == []
        assert len(session) == frames
        assert session.metadata["format"] == {"name": "dgrec", "version": 1}
        assert session.metadata["end_reason"] == end_reason
        (count,) = session.sql("SELECT count(*) FROM frames").fetchall()[0]
        assert count == frames


def test_windows_over_an_earlier_version_are_streamed() -> None:
    """Otherwise DuckDB holds all rows: a report of a day took 1,256 MB, and takes 500."""
    with dgrec.open(DATA / "format-1.parquet") as session:
        assert "pixel_digest" not in session.schema.names
        plan = session.sql("EXPLAIN SELECT frame - lag(frame) OVER () FROM frames").fetchall()
        assert "Streaming Window" in str(plan)
        types = session.sql("SELECT typeof(pixel_digest), typeof(signals) FROM frames").fetchall()
        assert {(a, b.partition("(")[0]) for a, b in types} == {("BIGINT", "STRUCT")}
        assert session.sql("SELECT count(pixel_digest), count(signals) FROM frames").fetchall() == [
            (0, 0)
        ]


@pytest.mark.parametrize("name", FILES)
def test_its_results_and_overlay_are_what_they_were(name: str) -> None:
    with dgrec.open(DATA / name) as session:
        (result,) = [r for r in session if r.row["source_frame"] == 90]
        assert list(result.timing) == TIMING
        assert [list(d) for d in result.results] == [
            ["bbox", "category_id", "label", "landmarks", "score"]
        ]
        (detection,) = result.results
        assert detection["label"] == "face"
        assert detection["bbox"] == BBOX
        assert [p["label"] for p in detection["landmarks"]][2] == "nose_tip"
        width, height = result.size
        drawn = result.overlay(np.zeros((height, width, 3), np.uint8))
        x, y = round(BBOX[0]), round((BBOX[1] + BBOX[3]) / 2)
        assert drawn[y, x].tolist() == [0, 255, 255], "the left edge of the box, in PySDK's yellow"


def test_there_is_a_file_of_this_version() -> None:
    from dgrec.format.schema import FORMAT_VERSION

    assert {f"format-{FORMAT_VERSION}.parquet", f"format-{FORMAT_VERSION}-killed.arrows"} <= set(
        FILES
    )
    assert set(FILES) == {path.name for path in DATA.iterdir()}

"""Recording from a recorded session: the numbers and stamps of its frames stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.errors import SourceError
from dgrec.recorder.sources import parse_source
from dgrec.replay.clip import Span, write_clip
from dgrec.replay.verify import verify
from tests.dgrec.stand_in.numbered import clip, number_in, record, wrong
from tests.factory import make_rows, write_session
from tests.recorder.command import Command, error_of

pytestmark = pytest.mark.slow


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    return clip(tmp_path / "numbered.mp4")


def rows_of(path: Path) -> list[tuple[int, float]]:
    """Return number and stamp of each frame, having checked that its picture shows that number."""
    assert verify(path) == []
    with dgrec.open(path) as session, session.pixels() as pixels:
        rows = session.frames.select(["source_frame", "media_time_s"]).to_pylist()
        shown = [number_in(result.image) for result in pixels.results(session)]
    assert shown == [row["source_frame"] % 24 for row in rows]
    return [(row["source_frame"], row["media_time_s"]) for row in rows]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {}, list(range(24))),
        ({"every": 3}, {}, list(range(0, 24, 3))),
        ({"every": 3}, {"every": 2}, list(range(0, 24, 6))),
        ({"every": 3}, {"loop": True, "max_frames": 12}, list(range(0, 36, 3))),
        ({"loop": True, "max_frames": 30}, {"loop": True, "max_frames": 35}, None),
        ({"video": "raw", "every": 5}, {}, list(range(0, 24, 5))),
        ({"video": "raw", "video_quality": 9, "every": 5}, {}, list(range(0, 24, 5))),
    ],
)
def test_numbers_and_stamps_are_those_recorded(
    footage: Path,
    tmp_path: Path,
    first: dict[str, Any],
    second: dict[str, Any],
    expected: list[int] | None,
) -> None:
    recorded = record(footage, tmp_path / "first.parquet", **first)
    if "video" in first:
        footage.unlink()
    again = rows_of(record(recorded, tmp_path / "second.parquet", **second))
    numbers = expected or [*range(30), *range(48, 53)]  # the second round begins the footage again
    assert [number for number, _ in again] == numbers
    before = rows_of(recorded)
    assert again[: len(before)] == [row for row in before if row in again[: len(before)]]


def test_time_counts_from_the_first_picture_of_a_clip(footage: Path, tmp_path: Path) -> None:
    recorded = record(footage, tmp_path / "first.parquet")
    cut = tmp_path / "clip.parquet"
    with dgrec.open(recorded) as session:
        write_clip(session, [Span(10, 20)], cut)

    limited = record(cut, tmp_path / "limited.parquet", duration=0.2)
    assert [number for number, _ in rows_of(limited)] == list(range(10, 15))  # 25 per second
    looped = record(cut, tmp_path / "looped.parquet", loop=True, max_frames=25)
    with dgrec.open(looped) as session:
        stamps = [session.row(row)["media_time_s"] for row in range(25)]
    assert stamps == pytest.approx([(10 + number) / 25 for number in range(25)], abs=1e-6)


def test_another_run_is_compared_frame_by_frame(footage: Path, tmp_path: Path) -> None:
    recorded = record(footage, tmp_path / "first.parquet", every=3)
    again = record(recorded, tmp_path / "second.parquet")
    comparison = dgrec.compare(recorded, again)
    assert comparison.agreement.frames == comparison.agreement.same_frames == 8


def test_a_stand_in_records_its_own_recording(footage: Path, tmp_path: Path) -> None:
    # Encoded: no picture has the pixels that the model saw.
    recorded = record(footage, tmp_path / "first.parquet", video="raw", video_quality=1)
    footage.unlink()
    stream = dgrec.predict_stream(
        dgrec.model(recorded), recorded, output=tmp_path / "again.parquet"
    )
    assert wrong(stream) == 0
    with dgrec.open(recorded) as before, dgrec.open(stream.output) as after:
        assert [frame.results for frame in after] == [frame.results for frame in before]
        assert len(after) == 24


def test_the_footage_stays_the_source(footage: Path, tmp_path: Path) -> None:
    recorded = record(footage, tmp_path / "first.parquet")
    (tmp_path / "folder").mkdir()
    again = record(recorded, tmp_path / "folder" / "second.parquet")
    with dgrec.open(recorded) as before, dgrec.open(again) as after:
        sources = before.metadata["source"], after.metadata["source"]
        assert "video" not in after.metadata
    assert sources[0]["sha256"] == sources[1]["sha256"]
    assert sources[1]["relative"] == "../numbered.mp4"
    assert (sources[1]["kind"], sources[1]["given"]) == ("file", str(recorded))


def test_a_session_without_pictures_is_no_source(dgrec: Command) -> None:
    write_session(dgrec.folder / "s.parquet", make_rows(3))
    done = dgrec.record("--source", "s.parquet", "-o", "t.parquet")
    assert "s.parquet: has no pictures to give" in error_of(done)
    assert not (dgrec.folder / "t.parquet").exists()


def test_what_only_looks_like_a_session(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    with pytest.raises(SourceError, match="no such source"):
        parse_source(str(path))
    with pytest.raises(SourceError, match="file name too long"):
        parse_source("x" * 300 + ".parquet")
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(SourceError, match=r"s\.parquet: "):
        parse_source(str(path))


def test_options_behind_a_session_are_refused_by_what_they_are(tmp_path: Path) -> None:
    """degirum_tools takes them after the name; "no such source" sends one looking for the file."""
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    with pytest.raises(SourceError, match=r"s\.parquet: takes no options here: leave out"):
        parse_source(f"{path}?pace=fast")
    with pytest.raises(SourceError, match="no such source"):
        parse_source(f"{tmp_path}/none.parquet?pace=fast")

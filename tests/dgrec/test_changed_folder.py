"""A program may change its folder after it has opened a session by a relative path."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.format import Journal, seal
from tests.dgrec.test_parts import write_set
from tests.factory import make_rows, new_metadata, write_journal, write_session

FRAMES = 24
NAMES = ("s.parquet", "s.arrows", "set.parquet")


def rows() -> list[Any]:
    return make_rows(FRAMES, width=64, height=48)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder with sessions; another folder has others of the same names."""
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here, other):
        folder.mkdir()
    write_session(here / "s.parquet", rows())
    write_journal(here / "s.arrows", rows(), new_metadata("journal"))
    write_set(here, size=8, journal=True, name="set.parquet")
    write_session(other / "s.parquet", make_rows(3))
    write_journal(other / "s.arrows", make_rows(3))
    write_session(other / "set-0001.parquet", make_rows(3))
    monkeypatch.chdir(here)
    return here


USES: dict[str, Callable[[dgrec.Session], Any]] = {
    "sql": lambda s: s.sql("SELECT count(*), sum(frame) FROM frames").fetchall(),
    "sql_rows": lambda s: s.sql_rows("SELECT count(*) FROM detections"),
    "path in sql": lambda s: s.sql("SELECT path, bytes FROM sessions").fetchall(),
    "rows": lambda s: [batch.to_pylist() for batch in s.batches(["frame", "detections"])],
    "a row": lambda s: s.row(FRAMES - 2)["frame"],
    "results": lambda s: [result.results for result in s],
    "files": lambda s: [file.name for file in s.files if file.exists()],
    "check": lambda s: s.check(),
    "check_rows": lambda s: s.check_rows(),
    "ended_at": lambda s: s.ended_at,
    "column_bytes": lambda s: s.column_bytes(),
    "another thread": lambda s: _another(s),
}


def _another(session: dgrec.Session) -> int:
    with session.for_another_thread() as own:
        return len(list(own))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_session_stays_the_one_that_was_opened(here: Path, name: str) -> None:
    for what, use in USES.items():
        os.chdir(here)
        with dgrec.open(name) as session:
            expected = use(session)
        with dgrec.open(name) as session:
            os.chdir(here.parent / "other")
            assert use(session) == expected, what
            assert str(session.path) == name


def test_sealed_files_are_compared_where_they_were_opened(here: Path) -> None:
    with dgrec.Recorder("large.parquet") as recorder:
        for number in range(64):
            noise = np.random.default_rng(number).bytes(1 << 16)
            recorder.add([{"label": "a", "noise": noise.hex()}])
    with dgrec.open("large.parquet") as session:
        assert session.unchecked_bytes
        os.chdir(here.parent / "other")
        session.check()
        assert not session.unchecked_bytes
        assert session.row(60)["frame"] == 60


def test_a_part_that_is_sealed_meanwhile(here: Path) -> None:
    with dgrec.open("set.parquet") as session:
        count = len(session)
        (journal,) = here.glob("set-*.arrows")
        os.chdir(here.parent / "other")
        seal(Journal.open(journal), journal.with_suffix(".parquet"))
        journal.unlink()
        assert len(list(session)) == count
        assert session.row(count - 1)["frame"] == count - 1


def test_all_sessions_of_a_folder(here: Path) -> None:
    (here / "s.arrows").unlink()
    sessions = dgrec.open_sessions(["."])
    connection = dgrec.connect("s.parquet", "set.parquet")
    counts = [len(session) for session in sessions]
    os.chdir(here.parent / "other")
    assert [len(list(session)) for session in sessions] == counts
    assert connection.sql("SELECT count(*) FROM frames").fetchall() == [(sum(counts),)]
    assert [str(session.path) for session in sessions] == ["s.parquet", "set.parquet"]


def pictures(session: dgrec.Session) -> list[int]:
    with session.pixels() as pixels:
        return [round(float(result.image.mean())) for result in pixels.results(session)]


def test_its_video(here: Path) -> None:
    with dgrec.Recorder("v.parquet", video="lossless") as recorder:
        for number in range(30):
            recorder.add([], np.full((48, 64, 3), number * 8, np.uint8), captured_at=1e9 + number)
            if number == 3:
                os.chdir(here.parent / "other")
    assert sorted(path.name for path in here.glob("v.*")) == ["v.mp4", "v.parquet"]
    os.chdir(here)
    with dgrec.open("v.parquet") as session:
        os.chdir(here.parent / "other")
        assert pictures(session) == [number * 8 for number in range(30)]
        os.chdir(here)
        with session.pixels("v.mp4") as pixels:
            os.chdir(here.parent / "other")
            # Backwards: the file is opened again, to seek in it.
            found = [pixels.stored(session.row(number)) for number in (29, 2, 20)]
    assert [image[0, 0, 0] for image in found if image is not None] == [232, 16, 160]

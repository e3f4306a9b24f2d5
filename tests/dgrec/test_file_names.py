"""No name of a folder or of a file changes what is read."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import dgrec
from dgrec import sample
from dgrec.cli import gather
from dgrec.errors import OutputError
from dgrec.replay.verify import verify
from dgrec.session import Session
from dgrec.sql import views
from tests.dgrec.test_parts import ROWS, write_set
from tests.factory import make_rows, write_journal, write_session

#: Each as the name of a folder, and (with an ending) of a file.
NAMES = [
    "latency_ms=5",
    "label=car",
    "session_id=x",
    "frame=7",
    "read_ms=__HIVE_DEFAULT_PARTITION__",
    "a=1&b=2",
    "filename=x",
    "file_index=3",
    "year=2026",
    "a*b",
    "a?b",
    "[ab]",
    "[!a]",
    "a[b",
    "a]b",
    "**",
    "{a,b}",
    "a\\b",
    "a\\*b",
    "\\?",
    "it's",
    'a "b"',
    "a;b",
    "a--b",
    "$1",
    "a%20b",
    "a#b",
    "s3:x",
    "https:",
    "~",
    "two\nlines",
    "tab\there",
    " blanks ",
    "déjà vu",
    "\u202eright",
    "a\x01b",
    os.fsdecode(b"not \xff\xfe utf-8"),
]
FRAMES = "SELECT * EXCLUDE (session_id, timing, detections) FROM frames ORDER BY ALL"
DETECTIONS = "SELECT frame, detection, label, score FROM detections ORDER BY ALL"
LATENCY = "FROM stage_latency"


def answers(*sessions: Session, confined: bool = True, latency: bool = False) -> list[list[Any]]:
    connection = views.connect(sessions, confined=confined, with_library=latency)
    queries = (FRAMES, DETECTIONS, LATENCY) if latency else (FRAMES, DETECTIONS)
    found = [connection.sql(query).fetchall() for query in queries]
    connection.close()
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_session(tmp_path_factory.mktemp("plain") / "s.parquet", make_rows(12))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_session_says_the_same_whatever_it_is_called(
    tmp_path: Path, plain: Path, kind: str
) -> None:
    (tmp_path / "ab.parquet").write_bytes(b"what a pattern would find, too")
    with contextlib.ExitStack() as stack:
        expected = answers(stack.enter_context(dgrec.open(plain)))
        together = []
        for name in NAMES:
            path = (
                tmp_path / name / "s.parquet" if kind == "folder" else tmp_path / f"{name}.parquet"
            )
            path.parent.mkdir(exist_ok=True)
            shutil.copy(plain, path)
            session = stack.enter_context(dgrec.open(path))
            # Where nothing but the session may be opened, and where anything may.
            assert answers(session) == expected, name
            together.append(session)
        measured = answers(stack.enter_context(dgrec.open(plain)), latency=True)
        for confined in (True, False):
            assert answers(together[0], confined=confined, latency=True) == measured
        frames, detections = answers(*together)
    assert frames == sorted(expected[0] * len(NAMES), key=lambda row: row[0])
    assert detections == sorted(expected[1] * len(NAMES), key=lambda row: row[0])


@pytest.mark.slow
def test_parts_and_journals_say_the_same(tmp_path: Path) -> None:
    place = tmp_path / "latency_ms=5"
    place.mkdir()
    write_journal(tmp_path / "j.arrows", make_rows(9))
    write_set(tmp_path)
    for file in tmp_path.glob("*.*"):
        shutil.copy(file, place)
    for name in ("j.arrows", "s.parquet"):
        with dgrec.open(tmp_path / name) as one, dgrec.open(place / name) as other:
            assert answers(one) == answers(other)
            assert one.frames == other.frames


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_recording_in_parts_is_found_whatever_it_is_called(tmp_path: Path, kind: str) -> None:
    """As a pattern, its name matches another session, which must not answer for it."""
    other = write_session(tmp_path / "other.parquet", make_rows(3))
    (tmp_path / "made").mkdir()
    parts = sorted(write_set(tmp_path / "made").parent.iterdir())
    for number, name in enumerate(NAMES):
        place = tmp_path / str(number)
        place.mkdir()
        if kind == "folder":
            for folder in {name, "a", "ab", "axb"}:
                (place / folder).mkdir()
                shutil.copy(other, place / folder / "s.parquet")
            (place / name / "s.parquet").unlink()
            path = place / name / "s.parquet"
        else:
            for folder in ("a", "ab", "axb"):
                shutil.copy(other, place / f"{folder}.parquet")
            path = place / f"{name}.parquet"
        for part in parts:
            shutil.copy(part, path.with_name(path.stem + part.name.removeprefix("s")))
        (session,) = dgrec.open_sessions([path])
        assert len(session) == len(ROWS), name
        connection = views.connect([session], with_library=False)
        query = "SELECT name IS NOT NULL, metadata->>'session_id', session_id FROM sessions"
        assert connection.sql(query).fetchall() == [(True, session.id, session.id)], name
        connection.close()
        session.close()


@pytest.mark.slow
def test_a_recording_of_any_name_has_its_video(tmp_path: Path) -> None:
    for name in [*NAMES, "a:b", "12:30:00"]:
        path = tmp_path / f"{name}.parquet"
        # Written again under some names: one of each alphabet is enough.
        for shade in (10, 20) if name in ("a*b", "two\nlines", NAMES[-1], "a:b") else (10,):
            with dgrec.Recorder(path, video="raw", overwrite=shade == 20) as recorder:
                recorder.add([], np.full((48, 64, 3), shade, np.uint8))
        assert verify(path) == [], name
        with dgrec.open(path) as session:
            query = "SELECT metadata->>'$.video[0].kind' FROM sessions"
            assert session.sql(query).fetchall() == [("raw",)], name
    videos = {file.stem for file in tmp_path.glob("*.mp4")}
    assert videos == {file.stem for file in tmp_path.glob("*.parquet")}


@pytest.mark.parametrize("command", ["clip", "analyze", "import", "merge", "record"])
@pytest.mark.parametrize("name", ["walk", "door-v1.2", "walk.txt"])
def test_what_is_written_as_a_session_ends_in_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    """Under another name it is in no list: all commands add the suffix, and refuse another one."""
    monkeypatch.chdir(tmp_path)
    write_session(Path("a.parquet"), make_rows(3))
    shutil.copy(sample.CLIP, "faces.mp4")
    Path("found.json").write_text('[{"image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4]}]')
    arguments = {
        "clip": ["a.parquet"],
        "analyze": ["a.parquet", "--tracker", ""],
        "import": ["found.json", "--labels", "face"],
        "merge": [sample.SESSION, sample.SESSION],
        "record": ["faces.mp4", "--max-frames", "1", "--zoo-url", "none", "--model-name", "none"],
    }[command]
    done = CliRunner().invoke(gather(), [command, *map(str, arguments), "-o", name])
    if name == "walk.txt":
        assert "walk.txt: a session is Parquet; choose a name that ends in .parquet" in done.stderr
        assert not Path(name).exists()
    else:
        assert "choose a name" not in done.stderr
        if command in ("clip", "import"):
            assert [each.name for each in tmp_path.glob(f"{name}*")] == [f"{name}.parquet"]


@pytest.mark.parametrize(("given", "written"), [("walk", "walk.parquet"), ("a.b.parquet", None)])
def test_a_program_leaves_out_the_suffix(tmp_path: Path, given: str, written: str | None) -> None:
    with dgrec.Recorder(tmp_path / given) as recorder:
        recorder.add([])
    assert [each.name for each in tmp_path.iterdir()] == [written or given]
    with pytest.raises(OutputError, match=r"walk\.txt: a session is Parquet"):
        dgrec.Recorder(tmp_path / "walk.txt")

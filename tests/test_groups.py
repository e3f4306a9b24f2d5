"""Several cameras, one recording: sessions that were recorded together, from record to clip."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

import dgrec as library
from dgrec import sample
from dgrec.cli import root
from dgrec.errors import ConfigError
from dgrec.recorder.groups import make_group
from dgrec.recorder.job import Plan, RecordRequest, make_plan
from dgrec.recorder.options import RecordingOptions
from dgrec.replay.verify import verify
from dgrec.session import RecordedFile
from tests.factory import CLOSING, make_rows, new_metadata, write_journal, write_session
from tests.recorder.command import Command, names
from tests.waiting import PATIENCE_S, wait_until

GROUP = {"id": "01a2249d-4ca9-7eac-a06f-9eedb810f4d7", "name": "walk"}
BEGIN = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
SIZE = (48, 64)
#: Tenths of a second at which each camera captured a frame; the second one begins later.
TIMES = {"door": [0, 2, 4, 6, 8, 10], "yard": [3, 5, 6, 11]}

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    import dgrec.recorder.cli
    import dgrec.replay.cli

    for command in (*dgrec.replay.cli.COMMANDS, *dgrec.recorder.cli.COMMANDS):
        root.add_command(command)
    monkeypatch.delenv("DISPLAY", raising=False)
    return lambda *arguments: CliRunner().invoke(root, [str(each) for each in arguments])


def shade(camera: str, tenths: int) -> int:
    """Return the gray that a frame consists of."""
    return 20 * tenths + (10 if camera == "yard" else 0)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two cameras of one group, with their pixels."""
    folder = tmp_path_factory.mktemp("walk")
    paths = []
    for camera, times in TIMES.items():
        path = folder / f"walk-{camera}.parquet"
        with library.Recorder(path, video="raw", metadata={"group": GROUP}) as recorder:
            for tenths in times:
                image = np.full((*SIZE, 3), shade(camera, tenths), np.uint8)
                moment = BEGIN + dt.timedelta(seconds=tenths / 10)
                recorder.add([], image, captured_at=moment)
        paths.append(path)
    return paths


# --- recording ---------------------------------------------------------------------------------


def plans_of(folder: Path, **given: Any) -> tuple[list[Plan], RecordRequest]:
    yard = folder / "yard.mp4"
    if not yard.exists():
        yard.write_bytes(sample.CLIP.read_bytes())
    request = RecordRequest(sources=("sample", str(yard)), together=True, **given)
    return [make_plan(text, {}, request) for text in request.sources], request


def test_each_source_has_a_file_of_the_recording_s_name(tmp_path: Path) -> None:
    plans, request = plans_of(tmp_path, output=tmp_path / "walk.parquet")
    assert [plan.output.name for plan in plans] == ["walk-sample.parquet", "walk-yard.parquet"]
    group = make_group(plans, request)
    assert group is not None
    assert group.description["name"] == "walk"
    assert group.description["members"] == ["walk-sample.parquet", "walk-yard.parquet"]
    plans, request = plans_of(tmp_path, output=tmp_path / "{source}-night.parquet")
    assert [plan.output.name for plan in plans] == ["sample-night.parquet", "yard-night.parquet"]
    group = make_group(plans, request)
    assert group is not None
    assert group.description["name"] == "night"


def test_without_together_there_is_no_group(tmp_path: Path) -> None:
    request = RecordRequest(sources=("sample",), output=tmp_path / "s.parquet")
    assert make_group([make_plan("sample", {}, request)], request) is None


@pytest.fixture
def of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two files of one name, below the working folder."""
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.mp4").write_bytes(sample.CLIP.read_bytes())
    return "a/x.mp4", "b/x.mp4"


@pytest.mark.slow
def test_sources_of_one_name_are_several_sessions(
    run: Run, tmp_path: Path, of_one_name: tuple[str, str]
) -> None:
    done = run("record", *of_one_name, "--max-frames", 3)
    assert done.exit_code == 0, done.output
    given = {
        session.metadata["source"]["given"]: session.path.stem
        for session in library.open_sessions("recordings")
    }
    assert given["b/x.mp4"] == given["a/x.mp4"] + "-2"


@pytest.mark.parametrize("how", [["--together", "-o", "walk.parquet"], ["-o", "{source}.parquet"]])
def test_sources_of_one_name_are_refused_where_names_are_given(
    run: Run, tmp_path: Path, of_one_name: tuple[str, str], how: list[str]
) -> None:
    done = run("record", *of_one_name, "--max-frames", 3, *how)
    assert done.exit_code == 1
    assert "a/x.mp4 and b/x.mp4 would both be recorded to " in done.output
    assert names(tmp_path) == ["a", "b"]


def test_files_of_any_script_have_sessions_of_their_own(tmp_path: Path) -> None:
    clips = [tmp_path / f"{name}.mp4" for name in ("前门", "后门", "Süd")]
    for clip in clips:
        clip.write_bytes(sample.CLIP.read_bytes())
    request = RecordRequest(sources=tuple(map(str, clips)), output=tmp_path / "{source}.parquet")
    plans = [make_plan(text, {}, request) for text in request.sources]
    assert [plan.output.name for plan in plans] == ["前门.parquet", "后门.parquet", "Süd.parquet"]


def test_one_source_is_not_recorded_together(run: Run, tmp_path: Path) -> None:
    done = run("record", "--source", "sample", "--together", "-o", tmp_path / "s.parquet")
    assert done.exit_code == 2
    assert "--together takes several sources" in done.output


def test_a_group_that_is_continued_keeps_its_id_and_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(3)
    for name in ("sample", "yard"):
        part = {"number": 1, "set_id": f"set of {name}", "first_frame": 0}
        metadata = new_metadata(f"walk-{name}-0001", part=part, group=GROUP)
        write_session(tmp_path / f"walk-{name}-0001.parquet", rows, metadata)
    plans, request = plans_of(
        tmp_path,
        output=tmp_path / "walk.parquet",
        continues=True,
        options=RecordingOptions(split_every=60, loop=True),
    )
    # The parts were looked at before the sources are opened, whose frames would be lost meanwhile.
    monkeypatch.setattr(RecordedFile, "__init__", lambda *_, **__: pytest.fail("opened again"))
    group = make_group(plans, request)
    assert group is not None
    assert group.description["id"] == GROUP["id"]
    assert group.clock.now_ns() > rows[-1].completed_ns


def test_two_groups_are_not_continued_as_one(tmp_path: Path) -> None:
    for name, id_ in (("sample", "a"), ("yard", "b")):
        part = {"number": 1, "set_id": f"set of {name}", "first_frame": 0}
        metadata = new_metadata(f"walk-{name}-0001", part=part, group={"id": id_})
        write_session(tmp_path / f"walk-{name}-0001.parquet", make_rows(3), metadata)
    plans, request = plans_of(
        tmp_path,
        output=tmp_path / "walk.parquet",
        continues=True,
        options=RecordingOptions(split_every=60, loop=True),
    )
    with pytest.raises(ConfigError, match="were not recorded together"):
        make_group(plans, request)


@pytest.mark.slow
def test_ctrl_c_ends_all_cameras_of_a_recording(tmp_path: Path) -> None:
    command = Command(tmp_path)
    (tmp_path / "yard.mp4").write_bytes(sample.CLIP.read_bytes())
    process = command.start(
        "--source",
        "sample",
        "--source",
        "yard.mp4",
        "--loop",
        "--together",
        "--output",
        "walk.parquet",
        "--signals",
        "host",
    )
    journals = [tmp_path / "walk-sample.arrows", tmp_path / "walk-yard.arrows"]

    def are_recording() -> bool:
        if not all(journal.exists() for journal in journals):
            return False
        sessions = [library.open(journal) for journal in journals]
        return all(len(session) > 3 for session in sessions)

    try:
        wait_until(are_recording, process=process)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == 0, stderr
    assert names(tmp_path) == ["walk-sample.parquet", "walk-yard.parquet", "yard.mp4"]
    paths = [journal.with_suffix(".parquet") for journal in journals]
    with library.connect(*paths) as connection:
        groups = "SELECT count(DISTINCT group_id), count(group_id) FROM sessions"
        assert connection.execute(groups).fetchone() == (1, 2)
        pairs = (
            "SELECT count(b.frame), count(*) FROM frames AS a ASOF LEFT JOIN frames AS b "
            "ON a.captured_at >= b.captured_at AND a.source_frame = b.source_frame"
        )
        found = connection.execute(pairs).fetchone()
        assert found is not None
        assert found[0] == found[1] > 6
        machine = "SELECT count(DISTINCT session_id) FROM signals WHERE name = 'host.memory'"
        assert connection.execute(machine).fetchone() == (2,)


# --- replay ------------------------------------------------------------------------------------


def shown(picture: np.ndarray[Any, Any]) -> list[int]:
    """Return the gray at the middle of the left and of the right half."""
    height, width = picture.shape[:2]
    row = height - SIZE[0] // 4
    return [int(picture[row, width // 4, 0]), int(picture[row, 3 * width // 4, 0])]


@pytest.mark.parametrize("together", [[], ["--together"]])
def test_each_side_shows_its_latest_frame(
    run: Run, walk: list[Path], tmp_path: Path, together: list[str]
) -> None:
    done = run("replay", *walk, *together, "-o", tmp_path / "frames", "--frames", "png")
    assert done.exit_code == 0, done.output
    assert "walk-yard.parquet has no frame for 2 frames" in done.output
    pictures = [cv2.imread(str(path)) for path in sorted((tmp_path / "frames").iterdir())]
    assert len(pictures) == len(TIMES["door"])
    nothing = 48
    latest = [None, None, 3, 6, 6, 6]
    for picture, tenths, other in zip(pictures, TIMES["door"], latest, strict=True):
        left, right = shown(picture)
        assert abs(left - shade("door", tenths)) <= 3
        assert abs(right - (nothing if other is None else shade("yard", other))) <= 3


def test_three_cameras_and_a_video(run: Run, walk: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "walk.mp4"
    done = run("replay", *walk, walk[0], "-o", output)
    assert done.exit_code == 0, done.output
    capture = cv2.VideoCapture(str(output))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(TIMES["door"])
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) >= 3 * SIZE[1]
    capture.release()


@pytest.mark.parametrize(
    ("options", "problem", "code"),
    [
        (["--side-by-side", "other.parquet"], "--side-by-side is for one session", 2),
        (["--redact", "all"], "--redact takes one session", 2),
    ],
)
def test_what_several_sessions_cannot_have(
    run: Run, walk: list[Path], options: list[str], problem: str, code: int
) -> None:
    done = run("replay", *walk, *options, "-o", "x.mp4")
    assert done.exit_code == code
    assert problem in done.output


def test_together_takes_several_sessions(run: Run, walk: list[Path]) -> None:
    done = run("replay", walk[0], "--together")
    assert done.exit_code == 2
    assert "--together takes several sessions" in done.output


def test_others_are_shown_together_only_if_asked_for(
    run: Run, walk: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "alone.parquet"
    with library.Recorder(path, video="raw") as recorder:
        recorder.add([], np.zeros((*SIZE, 3), np.uint8), captured_at=BEGIN)
    for command in (["replay"], ["clip"]):
        done = run(*command, walk[0], path, "-o", tmp_path / "x.parquet")
        assert done.exit_code == 1
        assert "alone.parquet: was not recorded together with" in done.output
    done = run("replay", walk[0], path, "--together", "-o", tmp_path / "x.mp4")
    assert done.exit_code == 0, done.output


# --- clip --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "end"), [("0.4s", "0.9s"), ("2026-01-02T03:04:05.4Z", "2026-01-02T03:04:05.9Z")]
)
def test_all_are_cut_at_the_same_times(
    run: Run, walk: list[Path], tmp_path: Path, start: str, end: str
) -> None:
    done = run("clip", *walk, "--start", start, "--end", end, "-o", tmp_path / "cut.parquet")
    assert done.exit_code == 0, done.output
    cuts = [tmp_path / "cut-walk-door.parquet", tmp_path / "cut-walk-yard.parquet"]
    for path, kept in zip(cuts, ([4, 6, 8], [5, 6]), strict=True):
        with library.open(path) as session:
            times = [session.row(i)["captured_at"] - BEGIN for i in range(len(session))]
            assert [round(time.total_seconds() * 10) for time in times] == kept
            members = [cut.name for cut in cuts]
            assert session.metadata["group"] == {**GROUP, "members": members}
        assert verify(path) == []
    done = run("replay", *cuts, "-o", tmp_path / "cut.mp4")
    assert done.exit_code == 0, done.output


def test_one_without_a_frame_then_is_left_out(run: Run, walk: list[Path], tmp_path: Path) -> None:
    done = run("clip", *walk, "--end", "0.2s", "-o", tmp_path / "cut.parquet")
    assert done.exit_code == 0, done.output
    assert "left out" in done.output
    assert names(tmp_path) == ["cut-walk-door.mp4", "cut-walk-door.parquet"]
    done = run("clip", *walk, "--start", "1h", "-o", tmp_path / "none.parquet")
    assert done.exit_code == 1
    assert "none of the sessions has a frame in that time" in done.output


@pytest.mark.parametrize(
    ("options", "problem", "code"),
    [
        (["--start", "3"], "each session numbers its own frames", 1),
        (["--where", "true"], "--where takes one session", 2),
    ],
)
def test_several_are_cut_by_time(
    run: Run, walk: list[Path], tmp_path: Path, options: list[str], problem: str, code: int
) -> None:
    done = run("clip", *walk, *options, "-o", tmp_path / "cut.parquet")
    assert done.exit_code == code
    assert problem in done.output
    assert names(tmp_path) == []


def test_the_group_survives_a_kill(tmp_path: Path, run: Run) -> None:
    journal = write_journal(
        tmp_path / "s.arrows", make_rows(3), new_metadata(group=GROUP), end=False, closing=CLOSING
    )
    assert run("recover", journal).exit_code == 0
    with library.open(tmp_path / "s.parquet") as session:
        assert session.sql("SELECT group_id FROM sessions").fetchall() == [(GROUP["id"],)]

"""``dgrec record --source A --source B``: a session each, and none stops the others."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dgrec import sample
from dgrec.errors import OutputError, SessionError
from dgrec.recorder import command
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.session_writer import SessionWriter
from dgrec.session import Session
from tests.factory import make_rows, new_metadata, write_session
from tests.recorder.command import Command, error_of, names
from tests.recorder.network_camera import MjpegCamera
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def clip(dgrec: Command) -> Path:
    """The sample's footage under another name."""
    path = dgrec.folder / "yard.mp4"
    path.write_bytes(sample.CLIP.read_bytes())
    return path


@pytest.mark.slow
def test_each_source_has_its_own_session(dgrec: Command, clip: Path) -> None:
    done = dgrec.record(
        "--source",
        "sample",
        "--source",
        clip.name,
        "--output",
        "{source}-s.parquet",
        "--every",
        "7",
        "--max-frames",
        "30",
    )
    assert done.returncode == 0, done.stderr
    with (
        Session(dgrec.folder / "sample-s.parquet") as first,
        Session(dgrec.folder / "yard-s.parquet") as second,
    ):
        assert first.id != second.id
        assert first.metadata["source"]["kind"] == "sample"
        assert second.metadata["source"]["file"] == "yard.mp4"
        # The same footage through two models at once: neither got the other's frames.
        assert [r.results for r in first] == [r.results for r in second]
        for session in (first, second):
            assert session.frames["source_frame"].to_pylist() == list(range(0, 210, 7))
            assert any(result.results for result in session)
    assert names(dgrec.folder) == ["sample-s.parquet", "yard-s.parquet", "yard.mp4"]
    assert "sample:\n" in done.stderr
    assert "yard.mp4:\n" in done.stderr


@pytest.mark.slow
def test_one_that_cannot_be_opened_is_left_out(dgrec: Command) -> None:
    done = dgrec.record(
        "--source",
        "cam97",
        "--source",
        "sample",
        "--output",
        "{source}.parquet",
        "--max-frames",
        "5",
    )
    assert done.returncode == 1
    assert done.stderr.count("Error: ") == 1
    assert "Error: cam97: " in done.stderr
    assert not (dgrec.folder / "cam97.parquet").exists()
    with Session(dgrec.folder / "sample.parquet") as session:
        assert len(session) == 5


@pytest.mark.slow
def test_none_that_can_be_opened(dgrec: Command) -> None:
    done = dgrec.record("--source", "cam97", "--source", "cam98")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "cam97: " in line
    assert "cam98: " in line
    assert names(dgrec.folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("--together",)])
def test_one_that_cannot_be_recorded_leaves_nothing_of_the_others(
    dgrec: Command, clip: Path, how: tuple[str, ...]
) -> None:
    """A service would add an empty part of the others at each start."""
    part = {"number": 1, "set_id": "a", "first_frame": 0}
    name = "s-yard-0001.parquet"
    other = new_metadata("s", part=part, source={"given": "cam7", "kind": "camera"})
    write_session(dgrec.folder / name, make_rows(3), other)
    split = ("--output", "s-{source}.parquet", "--split-every", "10m", "--continue", "--loop")
    done = dgrec.record("sample", clip.name, *split, *how, "--max-frames", "5")
    assert "has parts of another source (cam7, not yard.mp4)" in error_of(done)
    assert names(dgrec.folder) == [name, "yard.mp4"]


@pytest.mark.slow
def test_one_that_cannot_begin_leaves_nothing_of_the_others(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    old = write_session(output, make_rows(3)).read_bytes()

    def begin() -> Any:
        options = RecordingOptions(video="raw", signals="host")
        return SimpleNamespace(recorder=SessionWriter(output, options, overwrite=True))

    def fail() -> Any:
        assert (tmp_path / "s.arrows").exists()
        raise OutputError("no room for another one")

    with pytest.raises(OutputError, match="no room"):
        command._begin([begin, fail])
    assert names(tmp_path) == ["s.parquet"]
    assert output.read_bytes() == old


@pytest.mark.slow
def test_one_that_is_lost_does_not_stop_the_others(dgrec: Command) -> None:
    camera = MjpegCamera(fps=20)
    camera.start()
    try:
        process = dgrec.start(
            "--source",
            camera.url,
            "--source",
            "sample",
            "--loop",
            "--output",
            "{source}.parquet",
            "--reconnect-for",
            "0",
            "--stall-timeout",
            "2",
        )
        journals = _wait_for_two_journals(dgrec.folder)
        camera.kill()
        wait_until(lambda: sum(p.suffix == ".parquet" for p in dgrec.folder.iterdir()) == 1)
        lost = next(p for p in dgrec.folder.iterdir() if p.suffix == ".parquet")
        assert lost.stem != "sample"
        going_on = next(p for p in journals if p.stem == "sample")
        before = going_on.stat().st_size
        wait_until(lambda: going_on.stat().st_size > before)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    finally:
        camera.kill()
    assert process.returncode == 1
    assert "Traceback" not in stderr
    with Session(lost) as session:
        assert session.metadata["end_reason"] == "source_lost"
        assert len(session) > 0
    with Session(dgrec.folder / "sample.parquet") as session:
        assert session.metadata["end_reason"] == "interrupted"
        frames = session.frames["source_frame"].to_pylist()
        assert frames == list(range(len(frames)))


@pytest.mark.slow
def test_a_signal_ends_all(dgrec: Command, clip: Path) -> None:
    process = dgrec.start(
        "--source",
        "sample",
        "--source",
        clip.name,
        "--loop",
        "--output",
        "{source}.parquet",
    )
    _wait_for_two_journals(dgrec.folder)
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    for name in ("sample", "yard"):
        with Session(dgrec.folder / f"{name}.parquet") as session:
            assert session.metadata["end_reason"] == "interrupted"
            assert len(session) > 0
        assert not (dgrec.folder / f"{name}.arrows").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--source", "sample", "--source", "sample"], "given twice"),
        (["--source", "sample", "--source", "cam0", "--output", "a.parquet"], "{source}"),
        (["--source", "sample", "--source", "cam0", "--display"], "--display takes one source"),
        (["--source", "sample", "--source", "cam0", "--publish", "-"], "--publish - takes one"),
    ],
)
def test_usage(dgrec: Command, arguments: list[str], expected: str) -> None:
    done = dgrec.record(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr


def _wait_for_two_journals(folder: Path) -> list[Path]:
    """Wait until two recordings have written frames; return their journals."""

    def journals() -> list[Path]:
        found = []
        for path in folder.glob("*.arrows"):
            with contextlib.suppress(SessionError), Session(path) as session:
                if len(session) > 5:
                    found.append(path)
        return found

    wait_until(lambda: len(journals()) == 2)
    return journals()

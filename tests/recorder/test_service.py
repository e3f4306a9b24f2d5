"""The unit for systemd: what it says is understood, and its command line runs as it stands."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

import dgrec
from dgrec.recorder import status as status_module
from dgrec.recorder.cli import record_command
from dgrec.recorder.recovery import left_behind
from dgrec.replay.verify import verify
from tests.recorder.command import Command
from tests.waiting import PATIENCE_S, wait_until

UNIT = Path(__file__).parents[2] / "examples" / "dgrec.service"


def settings() -> dict[str, str]:
    """Return the unit's settings, lines that go on joined."""
    text = re.sub(r"\\\n\s*", "", UNIT.read_text())
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_unit_is_understood(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    # The program is not installed where the unit has it.
    unit = tmp_path / "dgrec.service"
    program = shlex.split(settings()["ExecStart"])[0]
    unit.write_text(UNIT.read_text().replace(program, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_ends_and_is_started_again_as_it_should() -> None:
    unit = settings()
    assert unit["Restart"] == "always"
    assert unit["StartLimitIntervalSec"] == "0"
    assert unit["KillMode"] == "mixed"
    assert unit.get("KillSignal", "SIGTERM") == "SIGTERM"


@pytest.mark.slow
def test_its_command_line_is_started_again_and_again(tmp_path: Path) -> None:
    """Stopped, killed and stopped: one recording, of which nothing is lost."""
    program, command, *arguments = shlex.split(settings()["ExecStart"])
    assert Path(program).name == "dgrec"
    assert command == "record"
    (tmp_path / "dgrec.toml").write_text('[sources]\nentrance = "sample"\n')
    # A camera that can be had here; parts that one need not wait for.
    arguments += ["--loop", "--split-every", "1s", "--min-free", "1MB"]
    output = tmp_path / arguments[arguments.index("--output") + 1]
    runs = Command(tmp_path)
    said = []
    for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        before = len(list(tmp_path.glob("entrance-*.parquet")))
        process = runs.start(*arguments)
        try:
            wait_until(
                lambda before=before: (  # type: ignore[misc]
                    # One more may be that of the run before.
                    len(list(tmp_path.glob("entrance-*.parquet"))) >= before + 2
                    and rows(tmp_path) > 0
                ),
                process=process,
            )
            if how == signal.SIGTERM:
                process.send_signal(how)  # to the main process only, as KillMode says
            else:
                os.killpg(process.pid, how)
            said.append(process.communicate(timeout=PATIENCE_S)[1])
            assert process.returncode == (0 if how == signal.SIGTERM else -how), said
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "was cut off" not in said[1]
    assert re.search(r"entrance-\d{4}\.arrows: kept .* frames? with", said[2])
    assert left_behind(tmp_path) == []
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert session.damage == []
        frames = session.frames
        assert frames.column("frame").to_pylist() == list(range(len(session)))
        for name in ("captured_at", "completed_at", "media_time_s", "source_frame"):
            values = frames.column(name).to_pylist()
            assert values == sorted(values)
        gaps = [e for e in session.metadata["events"] if e["kind"] == "gap"]
        assert len(gaps) == 2
        # Each run begins with the first frame of the file: there the same face was found.
        clip = session.metadata["source"]["frames"]
        first = session[0].results
        for gap in gaps:
            assert gap["source_frame"] % clip == 0
            at = frames.column("source_frame").to_pylist().index(gap["source_frame"])
            assert session[at].results == first


def rows(folder: Path) -> int:
    """Return how many rows are in the part that is being written."""
    count = 0
    for journal in folder.glob("*.arrows"):
        with contextlib.suppress(dgrec.DgrecError, OSError), dgrec.open(journal) as session:
            count += len(session)
    return count


@pytest.mark.slow
def test_a_line_a_minute_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "_REPORT_EVERY_S", 0.02)
    arguments = ["--source", "sample", "--max-frames", "15"]
    output = str(tmp_path / "s.parquet")
    done = CliRunner().invoke(record_command, [*arguments, "--output", output])
    assert done.exit_code == 0, done.output
    line = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [\d,]+ frames  [\d,]+ detections  [\d.]+ fps  p50 "
    assert len(re.findall(line, done.stderr, re.MULTILINE)) >= 2
    quiet = ["--output", str(tmp_path / "q.parquet"), "--quiet"]
    done = CliRunner().invoke(record_command, [*arguments, *quiet])
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--continue"], "--continue adds parts"),
        (["--continue", "--split-every", "1m", "--overwrite"], "contradict each other"),
    ],
)
def test_usage(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(record_command, ["--source", "sample", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize("there", ["footage", "file"])
def test_what_cannot_be_continued(tmp_path: Path, there: str) -> None:
    output = tmp_path / "s.parquet"
    arguments = ["--source", "sample", "--continue", "--split-every", "1m", "--output", str(output)]
    if there == "file":
        output.write_bytes(b"")
        arguments.append("--loop")
    done = CliRunner().invoke(record_command, arguments)
    message = "needs a source without an end" if there == "footage" else "s.parquet: exists already"
    assert message in str(done.exception) + done.output
    assert done.exit_code == 1
    assert not list(tmp_path.glob("*.arrows"))

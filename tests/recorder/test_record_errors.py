"""Errors of ``dgrec record``: one line each, and the right exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dgrec import sample
from dgrec.errors import OutputError, SourceError
from dgrec.format import JournalWriter
from dgrec.publishing import check_target
from dgrec.recorder.recovery import left_behind
from dgrec.recorder.sources import named_sources, parse_source
from dgrec.session import Session
from tests.factory import make_rows, new_metadata, write_journal
from tests.recorder.command import Command, error_of, names
from tests.recorder.zoo import broken_model
from tests.waiting import PATIENCE_S

# --- sources ---


@pytest.mark.slow
def test_a_missing_file(dgrec: Command) -> None:
    error = error_of(dgrec.record("--source", "nowhere.mp4"))
    assert error.startswith("nowhere.mp4: no such source")
    assert not (dgrec.folder / "recordings").exists()


@pytest.mark.slow
def test_a_text_file(dgrec: Command) -> None:
    (dgrec.folder / "notes.mp4").write_text("no video\n" * 1000)
    assert error_of(dgrec.record("--source", "notes.mp4")) == (
        "notes.mp4: cannot be read as a video: invalid data found when processing input"
    )


@pytest.mark.slow
def test_footage_without_a_frame(dgrec: Command) -> None:
    """A container whose index is whole, but not one picture: a copy that was cut off early."""
    (dgrec.folder / "cut.mp4").write_bytes(sample.CLIP.read_bytes()[:3000].ljust(3000))
    error = error_of(dgrec.record("--source", "cut.mp4", "--output", "s.parquet"))
    assert error == "cut.mp4: holds no frame that can be decoded"
    assert names(dgrec.folder) == ["cut.mp4"]


@pytest.mark.slow
def test_a_folder_as_source(dgrec: Command) -> None:
    assert "is a folder" in error_of(dgrec.record("--source", "."))


@pytest.mark.slow
@pytest.mark.skipif(Path("/dev/video9").exists(), reason="there is a camera 9")
def test_no_camera(dgrec: Command) -> None:
    error = error_of(dgrec.record("--source", "cam9"))
    assert error.startswith("cam9: there is no camera with index 9")


@pytest.mark.slow
def test_an_asset_without_a_network(dgrec: Command) -> None:
    error = error_of(dgrec.record("--source", "asset:traffic"))
    assert error.startswith("asset:traffic: DeGirum's media list cannot be fetched")
    assert "network" in error


# --- dgrec.toml ---


def test_named_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dgrec.toml").write_text(
        "[sources]\n"
        'entrance = "rtsp://${CAM_USER}:${CAM_PASSWORD}@192.0.2.10/stream1"\n'
        'yard = "cam1"\n'
        f'clip = "{sample.CLIP}"\n'
    )
    named = named_sources(tmp_path)
    monkeypatch.setenv("CAM_USER", "guard")
    monkeypatch.setenv("CAM_PASSWORD", "s3cret")
    entrance = parse_source("entrance", named)
    assert entrance.target == "rtsp://guard:s3cret@192.0.2.10/stream1"
    assert (entrance.given, entrance.kind, entrance.name) == ("entrance", "url", "entrance")
    assert "s3cret" not in str(entrance.describe(tmp_path))
    assert parse_source("yard", named).target == 1
    assert parse_source("clip", named).kind == "file"
    # It is found from any folder below, unless it is somebody else's.
    assert named_sources(tmp_path / "elsewhere" / "deeper") == named
    if os.getuid() == 0:
        os.chown(tmp_path / "dgrec.toml", 4711, -1)
        assert named_sources(tmp_path / "elsewhere") == {}
        assert named_sources(tmp_path) == named


def test_paths_of_named_sources_begin_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dgrec.toml").write_text(
        '[sources]\nyard = "clips/yard.mp4"\ngone = "${FOLDER}/gone.mp4"\n'
        'walk = "clips/walk.parquet"\n'
    )
    for folder in ("clips", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "clips" / "yard.mp4").symlink_to(sample.CLIP)
    session = tmp_path / "clips" / "walk.parquet"
    session.symlink_to(sample.SESSION)
    monkeypatch.setenv("FOLDER", "clips")
    monkeypatch.chdir(tmp_path / "elsewhere")
    named = named_sources(Path.cwd())
    yard = parse_source("yard", named)
    assert (yard.kind, yard.target) == ("file", str(tmp_path / "clips" / "yard.mp4"))
    with pytest.raises(SourceError, match=f"{tmp_path}/clips/gone.mp4: no such source"):
        parse_source("gone", named)
    # A session of a file is a source like that file, as it is without a name.
    walk, plain = parse_source("walk", named), parse_source(str(session))
    assert walk.recorded == plain.recorded
    assert (walk.given, walk.is_file) == ("walk", plain.is_file)
    assert plain.is_file


@pytest.mark.slow
def test_a_named_source_is_recorded_by_its_name(dgrec: Command) -> None:
    (dgrec.folder / "dgrec.toml").write_text('[sources]\nlobby = "${FOOTAGE}/faces.mp4"\n')
    done = dgrec.record(
        "--source", "lobby", "--max-frames", "2", env={"FOOTAGE": str(sample.CLIP.parent)}
    )
    assert done.returncode == 0, done.stderr
    (path,) = (dgrec.folder / "recordings").iterdir()
    assert path.name.startswith("lobby-")
    with Session(path) as session:
        assert session.metadata["source"]["given"] == "lobby"
        assert session.metadata["source"]["file"] == "faces.mp4"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("toml", "source", "expected"),
    [
        ('[sources]\nyard = "cam1"\nattic = "cam2"\n', "garden", "attic, yard"),
        ('[sources]\nyard = "${NOWHERE_SET}"\n', "yard", "NOWHERE_SET is not set"),
        ("[sources\n", "yard", "dgrec.toml: "),
        ("sources = 3\n", "yard", "must be a table"),
        ("[sources]\nyard = 3\n", "yard", "source 'yard' must be a text"),
    ],
)
def test_what_may_be_wrong_with_it(dgrec: Command, toml: str, source: str, expected: str) -> None:
    (dgrec.folder / "dgrec.toml").write_text(toml)
    assert expected in error_of(dgrec.record("--source", source))


# --- the session file ---


@pytest.mark.slow
def test_an_output_that_exists(dgrec: Command) -> None:
    (dgrec.folder / "s.parquet").write_bytes(b"something of worth")
    error = error_of(dgrec.record("--source", "sample", "--output", "s.parquet"))
    assert error == "s.parquet: exists already; choose another name or say --overwrite"
    assert (dgrec.folder / "s.parquet").read_bytes() == b"something of worth"


@pytest.mark.slow
def test_an_output_that_is_a_pipe(dgrec: Command) -> None:
    os.mkfifo(dgrec.folder / "s.parquet")
    for extra in ([], ["--overwrite"]):
        error = error_of(dgrec.record("--source", "sample", "--output", "s.parquet", *extra))
        assert error == "s.parquet: is a pipe or a device, not a file; choose another name"
    assert (dgrec.folder / "s.parquet").is_fifo()


@pytest.mark.slow
def test_a_home_in_which_pysdk_cannot_make_its_folder(dgrec: Command) -> None:
    """PySDK itself ends the process then, by SIGABRT."""
    home = dgrec.folder / "home"
    home.touch()
    error = error_of(dgrec.record("--source", "sample", env={"HOME": str(home)}))
    assert error == (
        f"{home}/.local/share/DeGirum: PySDK needs this folder, and it cannot be made: "
        "Not a directory; set HOME to a folder that can be written"
    )


@pytest.mark.slow
def test_a_folder_that_is_missing(dgrec: Command) -> None:
    error = error_of(dgrec.record("--source", "sample", "--output", "nowhere/s.parquet"))
    assert error == "nowhere: no such folder; make it first"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(dgrec: Command) -> None:
    folder = dgrec.folder / "locked"
    folder.mkdir(mode=0o500)
    error = error_of(dgrec.record("--source", "sample", "--output", "locked/s.parquet"))
    assert error == "locked/s.parquet: cannot be written: Permission denied"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
def test_a_folder_that_takes_no_files(dgrec: Command) -> None:
    """Root is not asked for permission; it finds out when the journal is opened."""
    error = error_of(dgrec.record("--source", "sample", "--output", "/proc/s.parquet"))
    assert error.startswith("/proc")
    assert "cannot be written: " in error


@pytest.mark.slow
def test_a_journal_that_was_left_behind(dgrec: Command) -> None:
    journal = write_journal(dgrec.folder / "s.arrows", make_rows(5), end=False)
    before = journal.read_bytes()
    for extra in ([], ["--overwrite"]):
        arguments = ["--source", "sample", "--output", "s.parquet", *extra]
        error = error_of(dgrec.record(*arguments))
        assert error.startswith("s.arrows: ")
        assert "a recording that was cut off" in error
    assert journal.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"something else\n" * 1000])
def test_a_file_that_is_only_called_like_a_journal(dgrec: Command, content: bytes) -> None:
    (dgrec.folder / "s.arrows").write_bytes(content)
    error = error_of(dgrec.record("--source", "sample", "--output", "s.parquet"))
    assert error.startswith("s.arrows: exists already")
    assert left_behind(dgrec.folder) == []
    write_journal(dgrec.folder / "t.arrows", make_rows(5), end=False)
    assert left_behind(dgrec.folder) == [dgrec.folder / "t.arrows"]
    assert (dgrec.folder / "s.arrows").read_bytes() == content


@pytest.mark.slow
def test_a_journal_that_is_being_written(dgrec: Command) -> None:
    journal = JournalWriter(dgrec.folder / "s.arrows", new_metadata())
    error = error_of(dgrec.record("--source", "sample", "--output", "s.parquet"))
    journal.close()
    assert error.startswith("s.arrows: is being recorded now")


@pytest.mark.slow
def test_a_publish_file_that_cannot_be_opened(dgrec: Command) -> None:
    arguments = ["--source", "sample", "--output", "s.parquet", "--publish", "nowhere/lines.jsonl"]
    error = error_of(dgrec.record(*arguments))
    assert error == "nowhere/lines.jsonl: cannot be written: No such file or directory"
    assert names(dgrec.folder) == []


def pretty_json(path: Path) -> None:
    path.write_text(json.dumps({"timestamp": 1, "detections": []}, indent=2) + "\n")


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("old.parquet", lambda path: path.write_bytes(b"PAR1"), "is the name of a session"),
        ("s.parquet", lambda _: None, "is the name of a session"),
        ("s.arrows", lambda _: None, "is the name of a session"),
        ("s.mp4", lambda _: None, "is the name of a session or a video"),
        ("clip.mkv", lambda path: path.write_bytes(sample.CLIP.read_bytes()), "exists already"),
        ("linked.jsonl", lambda path: path.symlink_to(sample.CLIP), "exists already"),
        ("settings.json", pretty_json, "exists already"),
        ("other.jsonl", lambda path: path.write_text('{"event": 1}\n'), "exists already"),
    ],
)
def test_a_publish_file_that_is_something_else(
    tmp_path: Path, name: str, make: Callable[[Path], Any], expected: str
) -> None:
    """Lines at the end of a session or a video would make it unreadable."""
    path = tmp_path / name
    make(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(OutputError) as caught:
        check_target(str(path), tmp_path / "s.parquet")
    assert str(caught.value).startswith(f"--publish {path}: {expected}")
    assert (path.read_bytes() if path.exists() else None) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["footage.mkv", "both.parquet"])
def test_publishing_to_the_source_or_to_the_output(dgrec: Command, name: str) -> None:
    footage = dgrec.folder / "footage.mkv"
    footage.write_bytes(sample.CLIP.read_bytes())
    arguments = ["--source", "footage.mkv", "--output", "both.parquet", "--publish", name]
    assert error_of(dgrec.record(*arguments)).startswith(f"--publish {name}: ")
    assert names(dgrec.folder) == ["footage.mkv"]
    assert footage.read_bytes() == sample.CLIP.read_bytes()


# --- usage ---


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--masks", "round"], "Invalid value for '--masks'"),
        (["--max-frames", "0"], "Invalid value for '--max-frames'"),
        (["--fps", "-1"], "is not a valid rate"),
        (["--fps", "nan"], "'nan' is not a valid rate; expected frames a second, such as 15"),
        (["--duration", "inf"], "'inf' is not a valid time"),
        (["--duration", "0"], "'0' is too little; 0.001s is the least"),
        (["--stall-timeout", "nan"], "'nan' is not a valid time"),
        (["--stall-timeout", "90d"], "'90d' is too much; 1d is the most"),
        (["--reconnect-for", "1e400"], "'1e400' is not a valid time"),
        (["--every", "2", "--fps", "5"], "--every and --fps"),
        (["--model", "face"], "--model-registry and --model"),
        (["--model-name", "a", "--model-url", "b/c"], "name the model twice"),
        (["--zoo-url", "zoo"], "--zoo-url needs --model-name"),
        (["--inference-host-address", "@local"], "needs a model"),
        (["--min-free", "much"], "'much' is not a valid size; expected 512MB or 20GB"),
        (["--min-free", "-1GB"], "is not a valid size"),
        (["--output", "s.arrows"], ".arrows is the suffix of journals"),
        (["--on-alert", "", "--alert", "a=count() > 0"], "'--on-alert': is empty"),
        (["--metrics", ""], "'--metrics': is empty; leave the option out"),
        (["--payload-where", " "], "'--payload-where': is empty"),
        (["--model-name", ""], "'--model-name': is empty"),
        (["--property", "threshold"], "property 'threshold': write it as key=value"),
        (["--property", "=1"], "property '=1': write it as key=value"),
        (["--codec", ""], "'--codec': is empty"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_usage(arguments: list[str], expected: str, tmp_path: Path) -> None:
    # In one process: click itself decides these, before anything is opened.
    from click.testing import CliRunner

    from dgrec.recorder.cli import record_command

    result = CliRunner().invoke(record_command, ["--source", "sample", *arguments])
    assert result.exit_code == 2
    assert expected in re.sub(r"\s+", " ", result.output)


def test_usage_errors_exit_with_2(dgrec: Command) -> None:
    done = dgrec.record("--source", "sample", "--durability", "perhaps")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("Error: ") == 1
    assert "Traceback" not in done.stderr


def test_help_does_not_wait_for_heavy_libraries(dgrec: Command) -> None:
    code = (
        "import sys; sys.argv = ['dgrec', 'record', '--help']\n"
        "from dgrec.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'degirum', 'degirum_tools', 'cv2', 'pyarrow', 'numpy', 'duckdb', 'rich'}\n"
        "print('LOADED', sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=dgrec.folder,
        env=dgrec.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert "Example: dgrec record sample" in done.stdout
    assert "LOADED []" in done.stdout


# --- models ---


@pytest.mark.slow
def test_an_unknown_model(dgrec: Command) -> None:
    arguments = ["--source", "sample", "--model-name", "yolo99", "--zoo-url", str(sample.ZOO)]
    error = error_of(dgrec.record(*arguments))
    assert error.startswith("yolo99: is not in the zoo; ")
    assert error.endswith(f" has {sample.MODEL_NAME}")
    assert names(dgrec.folder) in ([], ["recordings"])


@pytest.mark.slow
def test_an_unknown_property(dgrec: Command) -> None:
    arguments = ["--source", "sample", "--output", "s.parquet", "--property", "confidence=0.4"]
    error = error_of(dgrec.record(*arguments))
    assert "Model property 'confidence' does not exist" in error
    assert not (dgrec.folder / "s.arrows").exists()


@pytest.mark.slow
def test_a_model_that_fails_in_the_middle(dgrec: Command) -> None:
    options = broken_model(dgrec.folder, 'raise ValueError("the lens cap is on")', after=12)
    error = error_of(dgrec.record("--source", "sample", "--output", "s.parquet", *options))
    assert error.startswith("the model failed: ")
    assert "the lens cap is on" in error
    assert not (dgrec.folder / "s.arrows").exists()
    with Session(dgrec.folder / "s.parquet") as session:
        assert session.sealed
        assert error.endswith(f"the {len(session)} frames before are in s.parquet")
        # PySDK's workers have some frames in hand when one fails: which of their results still
        # come out is a matter of time, and the one that failed need not be the last.
        frames = session.frames["source_frame"].to_pylist()
        assert 1 <= len(frames) <= 12
        assert frames == sorted(set(frames))
        assert frames[:8] == list(range(len(frames[:8])))
        assert session.metadata["end_reason"] == "failed"
        assert "the lens cap is on" in session.metadata["end_detail"]
        assert session.metadata["model"]["zoo"] == "zoo"

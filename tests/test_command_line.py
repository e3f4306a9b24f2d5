"""All commands alike: names of sessions, --json, -q, -v, help, conditions, output."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import dgrec
from dgrec import sample
from dgrec.errors import ConfigError
from dgrec.format import JournalWriter
from dgrec.options import Command
from dgrec.recorder.destination import check_pattern, makes_folder, name_pattern, output_path
from dgrec.recorder.native_messages import left_out
from dgrec.session import session_file
from dgrec.sql import frame_condition
from tests.factory import make_detection, make_row, make_rows, new_metadata, write_journal
from tests.factory import write_session as write
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*arguments: object) -> Result:
    from dgrec.cli import gather

    return CliRunner().invoke(gather(), [str(argument) for argument in arguments])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "door.parquet", make_rows(40), new_metadata("door"))
    return tmp_path


# --- names ---------------------------------------------------------------------------------------


def test_a_session_is_found_by_its_name_and_by_its_video(folder: Path) -> None:
    for name in ("door.mp4", "door.annotated.mp4", "footage.mp4"):
        (folder / name).write_bytes(b"")
    write_journal(folder / "now.arrows", make_rows(5))
    for name, file in {
        "door": "door.parquet",
        "door.mp4": "door.parquet",
        "door.annotated.mp4": "door.parquet",
        "door.parquet": "door.parquet",
        "now": "now.arrows",
        "footage.mp4": "footage.mp4",
        "nothing": "nothing",
        "n" * 300: "n" * 300,
    }.items():
        assert session_file(Path(name)) == Path(file)
    for name in ("door", "door.mp4", "now"):
        with dgrec.open(name) as session:
            assert len(session) > 0
        assert name.split(".")[0] in done("query", name, "SELECT path FROM sessions").stdout
    assert "footage.mp4" in run("info", "footage.mp4").stderr


def test_a_part_is_found_by_its_video(folder: Path) -> None:
    (folder / "door-0001.mp4").write_bytes(b"")
    shutil.copy("door.parquet", "door-0001.parquet")
    assert session_file(Path("door-0001.mp4")) == Path("door-0001.parquet")


# --- list, info, verify --------------------------------------------------------------------------


def test_list_knows_every_state(folder: Path) -> None:
    write_journal(folder / "cut.arrows", make_rows(20), end=False)
    write_journal(folder / "ended.arrows", make_rows(20))
    data = (folder / "door.parquet").read_bytes()
    (folder / "damaged.parquet").write_bytes(data[:-20])
    (folder / "no-session.txt").write_text("x")
    pq.write_table(pa.table({"other": [1]}), folder / "other.parquet")
    writer = JournalWriter(folder / "now.arrows", new_metadata(), durability="never")
    try:
        writer.write(make_rows(10))
        listed = json.loads(done("list", "--json").stdout)
    finally:
        writer.close()
    assert {row["path"]: row["state"] for row in listed} == {
        "door.parquet": "sealed",
        "cut.arrows": "cut off",
        "ended.arrows": "ended, not sealed",
        "damaged.parquet": "damaged",
        "now.arrows": "being recorded",
        "other.parquet": "not a session",
    }
    (door,) = [row for row in listed if row["path"] == "door.parquet"]
    stats = json.loads(done("stats", "door", "--json").stdout)
    for here, there in (
        ("frames", "frames"),
        ("detections", "detections"),
        ("fps", "throughput_fps"),
        ("duration_s", "duration_s"),
    ):
        assert door[here] == pytest.approx(stats[there]), here
    assert door["dropped"] == stats["dropped"]["total"]
    assert door["bytes"] == os.path.getsize("door.parquet")
    assert door["model"] == new_metadata()["model"]["name"]
    (bad,) = [row for row in listed if row["path"] == "damaged.parquet"]
    assert "truncated" in bad["problem"]
    assert "truncated" in done("list").stdout
    names = done("list", "--quiet").stdout.split()
    assert sorted([*names, "other.parquet"]) == sorted(row["path"] for row in listed)


def test_list_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = done("list")
    assert (result.stdout, result.stderr) == (
        "",
        "No recordings here; `dgrec record sample` makes one.\n",
    )
    assert json.loads(done("list", "--json").stdout) == []
    assert "is a folder without sessions" in done("list", ".").stderr
    missing = run("list", "recordngs")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr == "Error: recordngs: there is no such folder or session\n"


def test_info_and_verify_take_folders_and_globs(folder: Path) -> None:
    write(folder / "yard.parquet", make_rows(30), new_metadata("yard"))
    for place in (".", "*.parquet"):
        infos = json.loads(done("info", place, "--json").stdout)
        assert [info["path"] for info in infos] == ["door.parquet", "yard.parquet"]
        assert done("info", place).stdout.count("\nid ") == 2
        checked = json.loads(done("verify", place, "--json").stdout)
        assert [(each["path"], each["whole"]) for each in checked] == [
            ("door.parquet", True),
            ("yard.parquet", True),
        ]
        assert done("verify", place, "-q").stdout == ""
    # One that is named is an object, as ever.
    assert json.loads(done("info", "door", "--json").stdout)["frames"] == 40
    data = bytearray((folder / "yard.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "yard.parquet").write_bytes(data)
    result = run("verify", ".", "--quiet")
    assert result.exit_code == 1
    assert "door" not in result.stdout
    assert "yard.parquet: 1 problem" in result.stdout


# --- options of every command --------------------------------------------------------------------


def test_every_command_has_them() -> None:
    from dgrec.cli import gather

    root = gather()
    for name, command in root.commands.items():
        assert isinstance(command, Command), f"{name}: needs cls=Command"
        flags = {flag for each in command.params for flag in each.opts}
        assert {"-q", "--quiet", "-v", "--verbose"} <= flags, name
        assert not re.search(r"\b(INTEGER|FLOAT|TEXT)\b", done("help", name).stdout), name
        # The output of `run` is that of a program.
        assert ("--json" in flags) == (name not in ("run", "completion", "help")), name
        assert done("help", name).stdout == done(name, "--help").stdout
    titles = re.findall(r"^(\S.*):$", done("help", "record").stdout, re.MULTILINE)
    assert {"Model", "Video", "While recording", "General options"} <= set(titles)
    assert done("help").stdout == done("--help").stdout
    assert done("-V").stdout == done("--version").stdout
    assert run("help", "recrod").exit_code == 2


def test_json_and_another_format_exclude_each_other(folder: Path) -> None:
    result = run("stats", "door", "--json", "--format", "csv")
    assert result.exit_code == 2
    assert "--json and --format csv exclude each other" in result.stderr


def test_verbose_says_where_an_error_came_from(folder: Path) -> None:
    quiet, verbose = run("info", "nothing"), run("info", "nothing", "-v")
    assert "Traceback" not in quiet.stderr
    assert "NotASessionError" in verbose.stderr
    assert verbose.stderr.endswith(quiet.stderr)
    assert "door.parquet: 40 frames" in done("-v", "verify", "door").stderr
    # It is forgotten with the command.
    assert "40 frames" not in done("verify", "door").stderr


# --- conditions ----------------------------------------------------------------------------------


def test_where_counts_what_was_found(folder: Path) -> None:
    kinds = [[], ["car"], ["car", "car"], ["car", "person"], ["it's"]]
    rows = [
        make_row(
            i,
            [
                make_detection(n, label=label, score=0.4 + 0.2 * n)
                for n, label in enumerate(kinds[i % 5])
            ],
        )
        for i in range(50)
    ]
    write(folder / "cars.parquet", rows)
    for condition, expected in {
        "count('car') >= 2": {2},
        "COUNT( 'car' , 0.5 ) = 1": {2},
        "count() = 2": {2, 3},
        "count('it''s') = 1": {4},
        "count('car') = 1 AND NOT count('person') > 0": {1},
        "best('person') > 0.5": {3},
        "best('car') IS NULL": {0, 4},
        "'count()' = 'count()' AND frame % 5 = 4 -- count()": {4},
    }.items():
        options = ["--where", condition, "--overwrite", "-o", "cut.parquet"]
        done("clip", "cars", *options)
        with dgrec.open("cut.parquet") as clip:
            numbers = clip.frames.column("source_frame").to_pylist()
        assert numbers == [i for i in range(50) if i % 5 in expected], condition
    connection = duckdb.connect()
    assert frame_condition("sum(x) > count(*)") == "sum(x) > count(*)"
    connection.close()


def test_a_wrong_condition_shows_a_right_one(folder: Path) -> None:
    for words in (
        ["clip", "door", "-o", "c.parquet", "--where", "nosuch = 1"],
        ["replay", "door", "-o", "c.mp4", "--where", "nosuch = 1"],
    ):
        result = run(*words)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert "\"count('car') >= 2\"" in result.stderr


# --- names of new sessions -----------------------------------------------------------------------


def test_placeholders_in_the_output(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5)

    def named(pattern: str) -> str:
        check_pattern(Path(pattern))
        return str(output_path(Path(pattern), "cam%Y", moment))

    assert named("a.parquet") == "a.parquet"
    assert named("{source}.parquet") == "cam%Y.parquet"  # what a source is called is no pattern
    assert named("x/%Y-%m/{source}_{time}.parquet") == "x/2026-01/cam%Y_20260102-030405.parquet"
    assert named("100%%.parquet") == "100%.parquet"
    assert makes_folder(Path("x/%Y/a.parquet"))
    assert makes_folder(Path("recordings/a.parquet"))
    assert not makes_folder(Path("x/%Y.parquet"))
    for wrong in (
        "{sorce}.parquet",
        "{}.parquet",
        "{source.parquet",
        "a}.parquet",
        "%Q",
        "a%",
        "-",
    ):
        with pytest.raises(ConfigError) as error:
            check_pattern(Path(wrong))
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="--continue needs the same"):
        check_pattern(Path("{time}.parquet"), continues=True)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("walk", "walk.parquet"),
        ("{source}-{time}", "{source}-{time}.parquet"),
        ("v1.{source}", "v1.{source}.parquet"),
        ("%Y.%m", "%Y.%m.parquet"),
        ("walk-1.2", "walk-1.2.parquet"),
        ("walk.parquet", "walk.parquet"),
    ],
)
def test_a_name_without_suffix_is_recorded_as_a_session_that_is_found(name: str, file: str) -> None:
    assert name_pattern(Path("night") / name) == Path("night") / file


def test_the_usual_folder_need_not_be_there_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = name_pattern(None)
    assert name_pattern(Path("recordings")) == usual
    assert makes_folder(usual)
    assert name_pattern(Path("other")) == Path("other.parquet")
    Path("other").mkdir()
    assert name_pattern(Path("other")) == Path("other") / usual.name


def test_no_session_goes_to_standard_output(folder: Path) -> None:
    for words in (["record", "sample"], ["report", "door"], ["clip", "door"], ["recover", "door"]):
        result = run(*words, "-o", "-")
        assert result.exit_code in (1, 2)
        assert not Path("-").exists()


def test_what_was_recorded_as_json(folder: Path) -> None:
    result = done("record", "sample", "--max-frames", 5, "--quiet", "--json", "-o", "new.parquet")
    assert result.stderr == ""
    said = json.loads(result.stdout)
    (listed,) = json.loads(done("list", "new", "--json").stdout)
    for name in ("path", "source", "frames", "detections", "dropped", "bytes"):
        assert said[name] == listed[name], name
    assert (said["frames"], said["end_reason"], said["files"]) == (5, "limit", ["new.parquet"])
    assert run("record", "sample", "--json", "--publish", "-").exit_code == 2


def test_a_journal_is_recovered_to_a_session(folder: Path) -> None:
    journal = write_journal(folder / "cut.arrows", make_rows(20), new_metadata())
    before = sorted(folder.iterdir())
    for name in ("whole.arrows", "whole.mp4"):
        refused = run("recover", "cut", "-o", name)
        assert refused.exit_code == 1
        assert refused.stderr == (
            f"Error: {name}: a session is Parquet; choose a name that ends in .parquet\n"
        )
    assert sorted(folder.iterdir()) == before
    done("recover", "cut", "-o", "whole")
    assert not journal.exists()
    (listed,) = json.loads(done("list", "whole.parquet", "--json").stdout)
    assert (listed["frames"], listed["state"]) == (20, "sealed")


def test_what_was_written_as_json(folder: Path) -> None:
    write_journal(folder / "cut.arrows", make_rows(20), new_metadata())
    done("export", "door", "-o", "given.jsonl", "--format", "jsonl")
    Path("found.jsonl").write_text('{"detections": [{"label": "car", "bbox": [1, 2, 30, 40]}]}\n')
    commands: dict[str, tuple[object, ...]] = {
        "recover": ("cut", "-o", "whole.parquet", "--keep"),
        "clip": (sample.SESSION, "--end", 5, "-o", "first.parquet"),
        "analyze": ("door", "--tracker", "-o", "tracked.parquet"),
        "merge": ("first.parquet", "second.parquet", "-o", "merged.parquet"),
        "export": ("door", "first", "--format", "coco", "-o", "tables"),
        "import": ("found.jsonl", "-o", "imported.parquet", "--fps", 30),
        "report": (sample.SESSION, "--no-pictures", "-o", "page.html"),
        "replay": (sample.SESSION, "--frames", "jpg", "--max-frames", 2, "-o", "pictures"),
        "publish": ("door", "sent.jsonl", "--fast"),
    }
    done("clip", sample.SESSION, "--start", 10, "--end", 15, "-o", "second.parquet")
    for name, arguments in commands.items():
        result = done(name, *arguments, "--json")
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert len(rows) == (2 if name == "export" else 1), name
        for row in rows:
            assert {"path", "files", "notes"} <= row.keys(), name
            assert row["messages" if name == "publish" else "frames"] > 0, name
            assert all(Path(each).exists() for each in (row["path"], *row["files"])), name
            said = result.stderr.splitlines()
            assert set(row["notes"]) <= set(said) or name == "recover", name
    mistyped = run("export", "door", "dor", "--format", "csv", "-o", "more")
    assert (mistyped.exit_code, mistyped.stdout, Path("more").exists()) == (1, "", False)
    for words in (("export", "door", "-o", "-", "--format", "csv"), ("publish", "door", "-")):
        refused = run(*words, "--json")
        assert refused.exit_code == 2, words
        assert "both write to standard output" in refused.stderr


def test_each_of_several_journals_is_recovered(folder: Path) -> None:
    write_journal(folder / "good.arrows", make_rows(20), new_metadata())
    damaged = write_journal(folder / "damaged.arrows", make_rows(20), new_metadata())
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    (folder / "empty.arrows").touch()
    result = run("recover", "empty.arrows", "gone.arrows", "damaged.arrows", "good.arrows")
    assert result.exit_code == 3
    said = result.stderr
    assert "Error: empty.arrows: is empty" in said
    assert "Error: gone.arrows: no such journal" in said
    assert "Lost: " in said
    assert said.endswith("good.arrows: kept 20 frames with 20 detections in good.parquet.\n")
    assert run("recover", "empty.arrows", "gone.arrows").exit_code == 1
    assert run("recover", "empty.arrows").exit_code == 1


# --- output --------------------------------------------------------------------------------------


def test_clip_says_where_the_pixels_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = done("clip", sample.SESSION, "--end", 5, "-o", "c.parquet")
    assert "Its pixels stay in faces.mp4" in result.stderr
    assert "--with-video takes them along" in result.stderr
    assert done("clip", sample.SESSION, "--end", 5, "-q", "-o", "d.parquet").stderr == ""


def test_compare_begins_with_its_conclusion(folder: Path) -> None:
    write(folder / "slow.parquet", make_rows(40), new_metadata("slow"))
    text = done("compare", "door", "slow", "--fail-on", "throughput_fps < 1").stdout
    first = text.split("\n\n")[0].splitlines()
    assert first[0].startswith(("NEW is", "Whether NEW is"))
    assert any(line.startswith("In short: ") for line in first)
    assert first[-1].startswith(("passed: ", "UNKNOWN: "))
    assert json.loads(run("compare", "door", "slow", "--json").stdout)["conclusion"][0] == first[0]


def test_a_line_of_a_native_library_is_left_out() -> None:
    code = (
        "import os, subprocess, sys\n"
        "from dgrec.recorder.native_messages import left_out\n"
        "with left_out(b'INFO: Created'):\n"
        "    os.write(2, b'before\\n')\n"
        "    child = subprocess.Popen(['sh', '-c', 'read x; echo child >&2'], stdin=-1)\n"
        "    os.write(2, b'INFO: Created something\\n')\n"
        "    os.write(2, b'half a line')\n"
        "    os.write(2, b', the rest\\n')\n"
        "os.write(2, b'after\\n')\n"
        "child.communicate(b'go\\n')\n"
        "import threading\n"
        "for each in threading.enumerate():\n"
        "    if each.name == 'dgrec-native-messages': each.join(60)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert sorted(found.stderr.splitlines()) == [
        "after",
        "before",
        "child",
        "half a line, the rest",
    ]


@pytest.mark.parametrize(
    ("line", "is_hidden"),
    [
        ("replay s.parquet", True),
        ("replay s.parquet --analyzers pd.py:make", False),
        ("replay s.parquet --analyzers=pd.py:make", False),
        ("alerts s.parquet", False),
    ],
)
def test_pandas_is_hidden_but_from_code_of_users(
    monkeypatch: pytest.MonkeyPatch, line: str, is_hidden: bool
) -> None:
    from dgrec.cli import _WithoutPandas

    monkeypatch.setattr(sys, "argv", ["dgrec", *line.split()])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    _WithoutPandas.begin()
    assert (_WithoutPandas in sys.meta_path) == is_hidden


def test_the_descriptor_is_what_it_was() -> None:
    before = os.fstat(2)
    with left_out(b"nothing"):
        assert os.fstat(2) != before
    assert os.fstat(2) == before
    for thread in threading.enumerate():
        if thread.name == "dgrec-native-messages":
            thread.join(60)


@pytest.mark.parametrize("command", ["recover", "run", "replay", "info"])
def test_a_name_too_long_for_any_file_is_not_said_to_be_written(command: str) -> None:
    name = "x" * 300 + ".arrows"
    done = run(command, name)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(rf"Error: {name}: cannot be (opened|read): File name too long", line)

"""Links to frames on the page of `dgrec view`, from `dgrec query` and `dgrec compare`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from dgrec import sample
from dgrec.errors import ConfigError
from dgrec.footage import parse_position
from dgrec.replay.commands.view import _first, _frame_at
from dgrec.replay.links import parse_links
from dgrec.replay.viewing.foreground import _shown
from dgrec.replay.viewing.server import ViewServer
from tests.factory import make_rows, new_metadata, write_session
from tests.waiting import PATIENCE_S

Run = Callable[..., Result]
_ADDRESS = "http://127.0.0.1:8080/?token=oN7vYqWc5sJk"


def test_addresses_and_commands() -> None:
    session = Path("/data/day 1/rec's.parquet")
    links = parse_links(f"{_ADDRESS}#s=old&f=7")
    assert links.to(session, 3) == f"{_ADDRESS}#s=data/day%201/rec%27s&f=3"
    assert links.to(Path("../a.arrows"), None, Path("b.parquet")) == f"{_ADDRESS}#s=a&b=b"
    command = "dgrec view '/data/day 1/rec'\"'\"'s.parquet' b.parquet --frame 3"
    assert parse_links("command").to(session, 3, Path("b.parquet")) == command
    for wrong in ("", "8080", "ftp://host/", "http://", "http://a b/", "javascript:alert(1)"):
        with pytest.raises(ConfigError, match="neither an address"):
            parse_links(wrong)


def test_a_command_for_a_name_that_is_not_utf8(dgrec: Run, tmp_path: Path) -> None:
    session = tmp_path / os.fsdecode(b"a'\\\xff1.parquet")
    shutil.copy(sample.SESSION, session)
    statement = "SELECT frame FROM frames WHERE frame = 7"
    found = dgrec("query", session, statement, "--links", "command", "--format", "jsonl")
    command = json.loads(found.stdout)["link"]
    words = subprocess.run(
        ["bash", "-c", f"dgrec() {{ printf '%s\\n' \"$@\"; }}; {command}"],
        capture_output=True, timeout=PATIENCE_S, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert words == [b"view", os.fsencode(session), b"--frame", b"7"]


def test_rows_of_a_query_have_links(dgrec: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_session(tmp_path / f"{name}.parquet", make_rows(3), new_metadata(name))
    one = tmp_path / "a.parquet"
    statement = "SELECT frame, 7 AS link FROM frames UNION ALL SELECT NULL, 8 ORDER BY frame"
    found = dgrec("query", one, statement, "--links", _ADDRESS, "--format", "jsonl")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["link"] for row in rows] == [7, 7, 7, 8]
    ends = [
        link and link.partition("#")[2].partition("&")[2] for link in (r["link_"] for r in rows)
    ]
    assert ends == ["f=0", "f=1", "f=2", None]

    both = "SELECT session_id, frame FROM frames WHERE frame = 1"
    found = dgrec("query", tmp_path, both, "--links", "command", "--format", "jsonl")
    commands = {json.loads(line)["link"] for line in found.stdout.splitlines()}
    assert commands == {f"dgrec view {tmp_path / name}.parquet --frame 1" for name in ("a", "b")}

    for statement, missing in (("SELECT frame FROM frames", "session_id"), ("SELECT 1", "frame")):
        found = dgrec("query", tmp_path, statement, "--links", "command")
        assert found.exit_code == 1
        assert f"the result has no column '{missing}'" in found.output
    assert dgrec("query", one, "--links", "command").exit_code == 2
    assert dgrec("query", one, "SELECT 1", "--links", "here").exit_code == 2


@pytest.mark.slow
def test_frames_that_changed_have_links_to_both(dgrec: Run, tmp_path: Path) -> None:
    for name, count in (("a", 30), ("b", 20)):
        rows = make_rows(count, **({} if name == "a" else {"results": []}))
        source = {"kind": "file", "given": "clip.mp4", "sha256": "ab" * 32}
        write_session(tmp_path / f"{name}.parquet", rows, new_metadata(name, source=source))
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    found = dgrec("compare", *paths, "--links", _ADDRESS, "--format", "json")
    changed = json.loads(found.stdout)["agreement"]["changed"]
    assert len(changed) == 10
    for frame in changed:
        head, _, fields = frame["link"].partition("#")
        assert head == _ADDRESS
        assert fields.startswith("s=")
        assert "&b=" in fields
        assert fields.endswith(f"&f={frame['base_position']}")
        assert frame["command"].startswith("dgrec replay ")
    shown = dgrec("compare", *paths, "--links", _ADDRESS, "--format", "table")
    assert shown.stdout.count(f"{_ADDRESS}#s=") == 10
    shown = dgrec("compare", *paths, "--links", "command", "--format", "markdown")
    assert f"dgrec view {paths[0]} {paths[1]} --frame" in shown.stdout.replace("\\", "")
    assert dgrec("compare", paths[0], "--truth", paths[1], "--links", "command").exit_code == 2


def test_where_the_page_opens(dgrec: Run, tmp_path: Path) -> None:
    shutil.copy(sample.SESSION, tmp_path / "a.parquet")
    for arguments, problem in (
        (["--frame", "3"], "--frame and --at go with one SESSION"),
        ([tmp_path, "--at", "3s"], "--frame and --at go with one SESSION"),
        ([tmp_path / "a.parquet", "--at", "3"], "a frame is --frame 3"),
        ([tmp_path / "a.parquet", "--at", "3s", "--frame", "3"], "give --frame or --at"),
    ):
        found = dgrec("view", *arguments)
        assert found.exit_code == 2
        assert problem in found.output


def test_the_address_says_what_was_named(tmp_path: Path) -> None:
    """One session, or two of the same footage side by side; for all else the list."""
    source = {"kind": "file", "given": "clip.mp4", "sha256": "ab" * 32}
    for name, of in (("a", source), ("b", source), ("c", {**source, "sha256": "cd" * 32})):
        write_session(tmp_path / f"{name}.parquet", make_rows(90), new_metadata(name, source=of))
    (tmp_path / "damaged.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    a, b, c, damaged = (tmp_path / f"{name}.parquet" for name in ("a", "b", "c", "damaged"))
    for places, fragment in (
        ([a], "#s=a&f=7"),
        ([a, b], "#s=a&b=b&f=7"),
        ([a, c], ""),
        ([a, damaged], ""),
        ([tmp_path], ""),
        ([a, b, c], ""),
    ):
        server = ViewServer(places, "127.0.0.1", 0)
        try:
            assert _shown(server, _first(places), 7) == fragment
        finally:
            server.close()
    # 30 frames a second: the first one at or after the time, or the last one.
    for at, frame in (("1s", 30), ("1.51s", 46), ("0:02", 60), ("1h", 89)):
        assert _frame_at(a, parse_position(at)) == frame

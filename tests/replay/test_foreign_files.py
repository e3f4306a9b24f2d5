"""A session leads to no file but those below its own folder, or with the digest that it has."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec import sample
from dgrec.footage import base_name, find_footage, recorded_video
from dgrec.footage.recorded_files import may_open
from dgrec.recorder.recovery import recover
from dgrec.replay.verify import verify
from tests.factory import make_rows, new_metadata, write_journal, write_session
from tests.test_architecture import ROOT
from tests.waiting import PATIENCE_S


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A private video, and the folder of a session beside its own."""
    private = tmp_path / "home" / "private.mp4"
    private.parent.mkdir()
    shutil.copy(sample.CLIP, private)
    shared = tmp_path / "shared"
    shared.mkdir()
    return private, shared


def facts_of(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def session_of(
    folder: Path, source: dict[str, Any], videos: list[dict[str, Any]] | None = None
) -> Path:
    metadata = new_metadata()
    metadata["source"] = {"kind": "file", "given": "clip.mp4", "file": "clip.mp4", **source}
    if videos is not None:
        metadata["video"] = videos
    rows = make_rows(4, width=960, height=540)
    if videos is not None:
        for number, row in enumerate(rows):
            row.video_frame = number
    return write_session(folder / "s.parquet", rows, metadata)


Named = Callable[[Path, Path], tuple[dict[str, Any], list[dict[str, Any]] | None]]


def _link(shared: Path, name: str, target: Path) -> str:
    (shared / name).symlink_to(target)
    return name


#: What the metadata says of a private video's path, or of others that must not be opened.
LEADING_OUT: dict[str, Named] = {
    "path": lambda private, _: ({"path": str(private)}, None),
    "relative": lambda *_: ({"relative": "../home/private.mp4"}, None),
    "relative, absolute": lambda private, _: ({"relative": str(private)}, None),
    "a path with its size": lambda private, _: (
        {"path": str(private), "size": private.stat().st_size},
        None,
    ),
    "a wrong digest": lambda private, _: (
        {"path": str(private), **facts_of(private), "sha256": "0" * 64},
        None,
    ),
    "a digest that is none": lambda private, _: (
        {"path": str(private), **facts_of(private), "sha256": "no digest"},
        None,
    ),
    "a link": lambda private, shared: (
        {"relative": _link(shared, "clip.mp4", private)},
        None,
    ),
    "a linked folder": lambda private, shared: (
        {"relative": _link(shared, "clips", private.parent) + "/private.mp4"},
        None,
    ),
    "a video beside it that is a link": lambda private, shared: (
        {"kind": "camera"},
        [{"kind": "raw", "file": _link(shared, "s.mp4", private)}],
    ),
    "a video elsewhere": lambda private, _: (
        {"kind": "camera"},
        [{"kind": "raw", "file": "../home/private.mp4"}, {"kind": "raw", "file": str(private)}],
    ),
    "annotated video": lambda private, shared: (
        {"kind": "camera"},
        [{"kind": "annotated", "file": _link(shared, "a.mp4", private)}],
    ),
    "a process": lambda *_: ({"path": "/proc/self/environ", "sha256": "0" * 64, "size": 0}, None),
    "a device": lambda *_: ({"path": "/dev/zero"}, [{"kind": "raw", "file": "/dev/zero"}]),
}


@pytest.mark.parametrize("name", LEADING_OUT)
def test_no_name_in_the_metadata_leads_out(places: tuple[Path, Path], name: str) -> None:
    private, shared = places
    source, videos = LEADING_OUT[name](private, shared)
    with dgrec.open(session_of(shared, source, videos)) as session:
        footage = find_footage(session)
        assert footage.path is None
        assert "blank canvas" in footage.note
        # Who names the file has it.
        if source.get("kind") != "camera":
            assert find_footage(session, private).path == private


def test_a_digest_leads_anywhere(places: tuple[Path, Path]) -> None:
    private, shared = places
    source = {"path": str(private), **facts_of(private)}
    with dgrec.open(session_of(shared, source)) as session:
        assert find_footage(session).path == private


def test_links_below_the_folder_are_followed(places: tuple[Path, Path]) -> None:
    private, shared = places
    (shared / "clips").mkdir()
    shutil.copy(private, shared / "clips" / "a.mp4")
    (shared / "clip.mp4").symlink_to("clips/a.mp4")
    with dgrec.open(session_of(shared, {"relative": "clip.mp4"})) as session:
        assert find_footage(session).path == shared / "clip.mp4"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{private}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:{private}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{web}/a.ts\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nlink.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile link.mp4\n",
        "ffconcat version 1.0\nfile {private}\n",
        "ffconcat version 1.0\nfile '{web}/a.mp4'\n",
    ],
)
@pytest.mark.parametrize("as_video", [False, True], ids=["source", "video beside it"])
def test_a_list_of_other_files_leads_to_none_of_them(
    places: tuple[Path, Path], text: str, as_video: bool
) -> None:
    private, shared = places
    (shared / "link.mp4").symlink_to(private)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        web = f"http://127.0.0.1:{server.getsockname()[1]}"
        playlist = shared / ("s.mp4" if as_video else "list.m3u8")
        playlist.write_text(text.format(private=private, web=web))
        source: dict[str, Any] = {"relative": "list.m3u8", **facts_of(playlist)}
        videos = None
        if as_video:
            source, videos = {"kind": "camera"}, [{"kind": "raw", "file": "s.mp4"}]
        with dgrec.open(session_of(shared, source, videos)) as session:
            assert find_footage(session).path is None
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


def test_pipes_and_sockets_are_not_waited_for(places: tuple[Path, Path]) -> None:
    _, shared = places
    os.mkfifo(shared / "s.mp4")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(shared / "clip.mp4"))
        source = {"relative": "clip.mp4", "path": str(shared / "s.mp4")}
        videos = [{"kind": kind, "file": "s.mp4"} for kind in ("raw", "annotated")]
        path = session_of(shared, source, videos)
        with dgrec.open(path) as session:
            assert find_footage(session).path is None
        assert any("is gone" in line for line in verify(path))


def test_recovery_leaves_a_linked_video_alone(places: tuple[Path, Path]) -> None:
    private, shared = places
    before = private.read_bytes()
    metadata = new_metadata()
    metadata["video"] = [{"kind": "raw", "file": "s.mp4"}]
    (shared / "s.mp4").symlink_to(private)
    rows = make_rows(4)
    for number, row in enumerate(rows):
        row.video_frame = number
    write_journal(shared / "s.arrows", rows, metadata, end=False)
    result = recover(shared / "s.arrows")
    assert [line for line in result.videos if "is missing" in line]
    assert private.read_bytes() == before


@pytest.mark.parametrize("name", ["", "..", ".", "/", "a\0b", None, 7, ["a"], "..\\..", "x/"])
def test_names_that_are_none(name: object, tmp_path: Path) -> None:
    assert recorded_video(tmp_path, {"file": name}) is None


def test_base_names() -> None:
    assert base_name("../../a.mp4") == base_name("C:\\x\\a.mp4") == base_name("/a.mp4") == "a.mp4"
    assert base_name("a:b.mp4") == "a:b.mp4"  # as Linux has it
    assert base_name("a\\b.mp4") == "a\\b.mp4"


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert not may_open(tmp_path / "a", tmp_path, {})
    assert not may_open(tmp_path / ("x" * 5000), tmp_path, {})


# --- looked at from outside --------------------------------------------------------------------


def opened_by(*arguments: object, cwd: Path) -> set[Path]:
    """Return every file that a command opens, links resolved, as the kernel sees it."""
    log = cwd / "strace.log"
    strace = ("strace", "-f", "-qq", "-y", "-s", "4096", "-e", "trace=open,openat,openat2")
    subprocess.run(
        [*strace, "-o", log, sys.executable, "-m", "dgrec", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    text = log.read_text("utf-8", "replace")
    log.unlink()
    return {Path(path) for path in re.findall(r"= \d+<([^>]+)>", text)}


@pytest.mark.slow
def test_no_command_opens_a_foreign_file(places: tuple[Path, Path]) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    private, shared = places
    names = [
        {"path": str(private), "relative": "../home/private.mp4", "size": private.stat().st_size},
        {"relative": "link.mp4"},
        {"relative": "list.m3u8"},
    ]
    (shared / "link.mp4").symlink_to(private)
    (shared / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{private}\n#EXT-X-ENDLIST\n"
    )
    for number, source in enumerate(names):
        session_of(shared, source, [{"kind": "raw", "file": "link.mp4"}]).rename(
            shared / f"{number}.parquet"
        )
    sessions = sorted(shared.glob("*.parquet"))
    assert private in opened_by("replay", sessions[0], "--video", private, cwd=shared)
    for session in sessions:
        opened = opened_by("replay", session, "-o", f"{session.stem}.mp4", cwd=shared)
        assert session in opened
        assert private not in opened
    for command in (
        ("clip", sessions[0], "--end", "2", "--with-video", "-o", "clip.parquet"),
        ("verify", *sessions),
        ("stats", *sessions),
    ):
        opened = opened_by(*command, cwd=shared)
        assert sessions[0] in opened
        assert private not in opened

"""A digest of a playlist covers what is shown: the files that it names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import dgrec
from dgrec.footage import files_of, find_footage
from dgrec.recorder.sources import parse_source
from dgrec.video import import_av, named_files
from dgrec.video.named_files import NamedFiles
from tests.factory import write_session
from tests.replay.clips import HEIGHT, WIDTH, numbered_image, numbered_metadata, numbered_row

FRAMES = 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one stream as HLS, as a list, as lists of those, and pictures."""
    folder = tmp_path_factory.mktemp("made")
    av = import_av()
    options = {"hls_time": "0.4", "hls_list_size": "0"}
    with av.open(str(folder / "hls.m3u8"), "w", format="hls", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 10
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(numbered_image(number), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert sorted(path.name for path in folder.glob("*.ts")) == ["hls0.ts", "hls1.ts", "hls2.ts"]
    head = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n"
    (folder / "master.m3u8").write_text(f"{head}hls.m3u8\n")
    (folder / "sub").mkdir()
    shutil.copy(folder / "hls1.ts", folder / "sub" / "it's one.ts")
    lines = ["file hls0.ts", "", "file 'sub/it'\\''s one.ts'", "duration 0.4", "file hls2.ts"]
    (folder / "list.ffconcat").write_text("\n".join(["ffconcat version 1.0", *lines]))
    (folder / "lists.txt").write_text("ffconcat version 1.0\nfile master.m3u8\nfile hls0.ts\n")
    import cv2

    for name in ("shot-%03d.png", "shot-001.png"):
        cv2.imwrite(str(folder / name), np.zeros((48, 64, 3), np.uint8))
    return folder


SEGMENTS = ["hls0.ts", "hls1.ts", "hls2.ts"]
CASES = {
    "hls.m3u8": SEGMENTS,
    "master.m3u8": ["hls.m3u8", *SEGMENTS],
    "list.ffconcat": ["hls0.ts", "it's one.ts", "hls2.ts"],
    "lists.txt": ["master.m3u8", "hls.m3u8", *SEGMENTS],
}


@pytest.fixture
def folder(tmp_path: Path, made: Path) -> Path:
    shutil.copytree(made, tmp_path / "of it")
    return tmp_path / "of it"


def named(path: Path) -> NamedFiles:
    found = named_files(path)
    assert found is not None
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_is_named(folder: Path, name: str) -> None:
    found = named(folder / name)
    assert [path.name for path in found.paths] == CASES[name]
    assert found.facts["count"] == len(CASES[name])
    assert found.facts["size"] == sum(path.stat().st_size for path in found.paths)
    assert found.difference(found.facts) == ""
    # Wherever it lies, and however it is named.
    moved = folder.rename(folder.with_name("elsewhere"))
    assert named(Path(os.path.relpath(moved / name))).facts == found.facts


@pytest.mark.parametrize("name", CASES)
def test_a_swapped_file_is_noticed(folder: Path, name: str) -> None:
    recorded = named(folder / name)
    first, last = recorded.paths[0], recorded.paths[-1]
    if first.suffix != last.suffix:
        first = recorded.paths[-2]
    content = first.read_bytes()
    first.write_bytes(last.read_bytes())
    last.write_bytes(content)
    assert named(folder / name).difference(recorded.facts) == "the files that it names have changed"
    last.unlink()
    assert named(folder / name).difference(recorded.facts) != ""


@pytest.mark.parametrize("name", ["hls0.ts", "shot-001.png", "shot-%03d.png"])
def test_footage_itself_names_nothing(made: Path, name: str) -> None:
    assert named_files(made / name) is None


def test_footage_that_looks_like_text(tmp_path: Path) -> None:
    path = tmp_path / "grey.y4m"
    path.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 C420\n" + (b"FRAME\n" + b"\x80" * 4608) * 3)
    assert named_files(path) is None


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("live.m3u8", "{hls without end}", "it has no end yet"),
        ("web.m3u8", "{head}http://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n", "a.ts"),
        ("up.m3u8", "{head}../private.ts\n#EXT-X-ENDLIST\n", "not below its folder"),
        ("up.ffconcat", "ffconcat version 1.0\nfile ../private.ts\n", "not below its folder"),
        ("loop.ffconcat", "ffconcat version 1.0\nfile loop.ffconcat\n", None),
        (
            "s.sdp",
            "v=0\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            "are local and whole",
        ),
        ("a.mpd", '<?xml version="1.0"?><MPD type="static"/>', "not all of its files are local"),
    ],
)
def test_what_no_digest_can_cover(folder: Path, name: str, text: str, problem: str | None) -> None:
    shutil.copy(folder / "hls0.ts", folder.parent / "private.ts")
    whole = (folder / "hls.m3u8").read_text()
    path = folder / name
    text = text.replace("{hls without end}", whole.replace("#EXT-X-ENDLIST", ""))
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    path.write_text(text.replace("{head}", head))
    found = named(path)
    assert (problem or "") in found.problem
    assert bool(found.problem) is (problem is not None)
    if problem is not None:
        assert found.facts == {"problem": found.problem}
    assert folder.parent / "private.ts" not in found.paths


def test_a_pipe_among_the_files_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.ts")
    path = folder / "pipe.ffconcat"
    path.write_text("ffconcat version 1.0\nfile pipe.ts\n")
    assert named(path).problem == "pipe.ts is not a file"


# --- in a session ---


def session_of(source: Path, output: Path) -> Path:
    metadata = numbered_metadata(parse_source(str(source)).describe(output.parent))
    return write_session(output, [numbered_row(i, i) for i in range(5)], metadata)


@pytest.mark.parametrize("name", ["hls.m3u8", "lists.txt"])
def test_a_replay_refuses_a_playlist_of_other_segments(folder: Path, name: str) -> None:
    path = session_of(folder / name, folder / "s.parquet")
    with dgrec.open(path) as session:
        footage = find_footage(session)
        assert (footage.path, footage.note) == (folder / name, "")
        assert {folder / segment for segment in SEGMENTS} <= set(files_of(session))
        shutil.copy(folder / "hls2.ts", folder / "hls0.ts")
        swapped = find_footage(session)
        assert swapped.path is None
        assert swapped.note.startswith(
            f"{name} is no longer the file that was recorded (the files that it names have changed)"
        )
        given = find_footage(session, folder / name)
        assert given.changed
        assert "the files that it names have changed" in given.note


def test_a_replay_says_that_it_cannot_tell(folder: Path) -> None:
    source = folder / "live.m3u8"
    source.write_text((folder / "hls.m3u8").read_text().replace("#EXT-X-ENDLIST", ""))
    path = session_of(source, folder / "s.parquet")
    with dgrec.open(path) as session:
        footage = find_footage(session)
        given = find_footage(session, source)
    # It may lead to any file: that is only followed where somebody asks for it.
    assert footage.path is None
    assert footage.note.startswith("live.m3u8 only names other files (it has no end yet: ")
    assert given.path == source
    assert given.note == (
        "live.m3u8 only names other files, and it is not known whether they are still the "
        "recorded ones (it has no end yet: it is live, or still being written)"
    )


def test_a_session_that_was_recorded_without_such_a_digest(folder: Path) -> None:
    source = parse_source(str(folder / "hls.m3u8")).describe(folder)
    del source["named_files"]
    rows = [numbered_row(i, i) for i in range(5)]
    path = write_session(folder / "s.parquet", rows, numbered_metadata(source))
    with dgrec.open(path) as session:
        footage = find_footage(session)
    assert footage.path == folder / "hls.m3u8"
    assert footage.note.startswith("hls.m3u8 only names other files")

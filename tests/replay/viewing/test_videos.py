"""The picture of a row: its time in the file, as PyAV and browsers count it."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

import dgrec
from dgrec.replay.viewing.opened_session import OpenedSession
from tests.dgrec.stand_in.numbered import NumberReader, clip, number_in, record
from tests.factory import new_metadata, write_session
from tests.recorder.kept import record_kept
from tests.replay.viewing.client import Client, served
from tests.replay.viewing.numbered_sessions import added
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

FRAMES = 40
B_FRAMES: dict[str, Any] = {"b_frames": 2, "options": {"preset": "medium", "bf": "2"}}


def uneven_ms(number: int) -> int:
    return number * number * 7 + number * 5 + 500


FOOTAGE: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "b.mp4": B_FRAMES,
    "b-late.mp4": {**B_FRAMES, "pts_ms": lambda i: 2000 + i * 40},
    "b-no-edit-list.mp4": {**B_FRAMES, "muxer": {"use_editlist": "0"}},
    "b-fragments.mp4": {
        **B_FRAMES,
        "muxer": {"movflags": "frag_keyframe+empty_moov"},
        "pts_ms": lambda i: 2000 + i * 40,
    },
    "uneven.mp4": {**B_FRAMES, "pts_ms": uneven_ms},
    "late.mkv": {**B_FRAMES, "pts_ms": lambda i: 3300 + i * 40},
    "vp9.webm": {"codec": "libvpx-vp9", "pts_ms": lambda i: 1000 + i * 40},
}


def check(client: Client, name: str) -> list[str]:
    """Compare the time of each row's picture with the picture that PyAV has there.

    Returns the kinds of the videos that pictures are in.
    """
    card = client.json("/api/card", s=name)
    rows = client.json("/api/rows", s=name, **{"from": 0, "to": card["n"]})
    videos = [
        _pictures(client.ask(f"/{video['url']}")[2]) if index in rows["video"] else {}
        for index, video in enumerate(card["videos"])
    ]
    with dgrec.open(client.server.recordings.path_of(name)) as session:
        expected = [round(result.results[0]["score"] * 256) for result in session]
    found = [
        videos[k].get(pts_s) if k >= 0 else None
        for k, pts_s in zip(rows["video"], rows["pts_s"], strict=True)
    ]
    assert found == expected, (card["videos"], rows["state"])
    assert rows["state"] == [""] * card["n"]
    for k, pts_s, duration_s in zip(rows["video"], rows["pts_s"], rows["duration_s"], strict=True):
        following = min((each for each in videos[k] if each > pts_s), default=None)
        if following is not None:
            assert pts_s + duration_s == pytest.approx(following, abs=1e-6)
    return sorted({card["videos"][k]["kind"] for k in rows["video"]})


def _pictures(data: bytes) -> dict[float, int]:
    """Return the numbers that the pictures of a video show, by their times."""
    with av.open(io.BytesIO(data)) as container:
        return {
            float(frame.pts * frame.time_base): number_in(frame.to_ndarray(format="bgr24"))
            for frame in container.decode(video=0)
            if frame.pts is not None and frame.time_base is not None
        }


def test_the_file_that_was_recorded(tmp_path: Path) -> None:
    for name, how in FOOTAGE.items():
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        record(clip(folder / name, FRAMES, **how), folder / f"{folder.name}.parquet", every=3)
    with served(*(tmp_path / name.replace(".", "-") for name in FOOTAGE)) as client:
        for name in FOOTAGE:
            assert check(client, name.replace(".", "-")) == ["source"], name


def test_a_file_that_was_recorded_in_a_loop(tmp_path: Path) -> None:
    names = ("plain.mp4", "b-late.mp4", "uneven.mp4", "late.mkv")
    for name in names:
        source = clip(tmp_path / name, FRAMES, **FOOTAGE[name])
        output = tmp_path / f"{name.replace('.', '-')}.parquet"
        record(source, output, every=3, loop=True, max_frames=FRAMES)
    with served(tmp_path) as client:
        for name in names:
            assert check(client, name.replace(".", "-")) == ["source"], name


def _recorded(folder: Path) -> None:
    source = clip(folder / "source.mp4", FRAMES, **FOOTAGE["uneven.mp4"])
    record(source, folder / "s.parquet", video="raw")
    source.unlink()


def _in_parts(folder: Path) -> None:
    source = clip(folder / "source.mp4", FRAMES)
    next_part_s = 0.0
    options: dict[str, Any] = {"video": "raw", "split_every": 1}
    for number, _ in enumerate(
        dgrec.predict_stream(NumberReader(), source, output=folder / "s.parquet", **options)
    ):
        if number == 0:  # a part begins with its first row, whatever it took until then
            next_part_s = time.monotonic() + 1.1
        if number == FRAMES // 2:
            time.sleep(max(0.0, next_part_s - time.monotonic()))
    assert len(list(folder.glob("s-*.mp4"))) > 1
    source.unlink()


def _clipped(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    source = clip(other / "source.mp4", FRAMES, **B_FRAMES)
    whole = record(source, other / "s.parquet", video="raw")
    dgrec_clip(whole, folder / "s.parquet")
    shutil.rmtree(other)


def dgrec_clip(session: Path, output: Path) -> None:
    from click.testing import CliRunner

    from dgrec.cli import gather

    arguments = ["clip", str(session), "--start", "9", "--end", "31", "--output", str(output)]
    result = CliRunner().invoke(gather(), arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("make", [_recorded, _in_parts, _clipped])
def test_the_video_that_was_recorded(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    with served(tmp_path) as client:
        assert check(client, "s") == ["raw"]


def test_packets_of_the_source_that_were_kept(tmp_path: Path) -> None:
    """They begin before the first row, and hold pictures that are in none."""
    source = clip(tmp_path / "source.mp4", FRAMES, **B_FRAMES)
    record_kept(source, tmp_path / "s.parquet", every=3)
    source.unlink()
    with served(tmp_path) as client:
        card = client.json("/api/card", s="s")
        rows = client.json("/api/rows", s="s", **{"from": 0, "to": card["n"]})
        shown = _pictures(client.ask(f"/{card['videos'][0]['url']}")[2])
        assert card["n"] == len(rows["frame"]) > 10
        with dgrec.open(tmp_path / "s.parquet") as session:
            expected = [result.row["source_frame"] for result in session]
        assert [shown[pts_s] for pts_s in rows["pts_s"]] == expected


def test_a_video_with_the_overlay_in_it_where_there_is_no_other(tmp_path: Path) -> None:
    for name, video in (("drawn", "annotated"), ("none", "none")):
        added(tmp_path / f"{name}.parquet", range(8), [n / 25 for n in range(8)], video=video)
    with served(tmp_path) as client:
        card = client.json("/api/card", s="drawn")
        rows = client.json("/api/rows", s="drawn", **{"from": 0, "to": 8})
        shown = _times(client.ask(f"/{card['videos'][0]['url']}")[2])
        assert card["videos"][0]["kind"] == "annotated"
        assert "filters do not hide" in card["picture_note"]
        assert rows["pts_s"] == shown
        assert client.ask("/api/picture", s="drawn", i=3)[0] == 200
        # In words of the page, which has no options.
        none = client.json("/api/card", s="none")
        assert none["picture_note"] == "no pictures: the source was a program"


def test_a_source_that_is_written_is_the_same_other_file(tmp_path: Path) -> None:
    """A session of a file that goes on after it would be opened anew at each look."""
    file = tmp_path / "camera.ts"
    file.write_bytes(b"12345678")
    source = {"kind": "file", "path": str(file), "relative": file.name, "size": 8}
    path = write_session(tmp_path / "s.parquet", [], new_metadata(source=source))
    opened = OpenedSession("s", path, "")
    try:
        seen = []
        for size in (8, 9, 10, 8):
            file.write_bytes(b"1" * size)
            seen.append(opened.videos.signature())
        assert seen[1] == seen[2]
        assert seen[1] not in (seen[0], seen[3])
    finally:
        opened.close()


def test_a_video_that_comes_or_goes_later(tmp_path: Path) -> None:
    path = added(tmp_path / "s.parquet", range(8), [n / 25 for n in range(8)], video="raw")
    video, away = path.with_suffix(".mp4"), tmp_path / "away"
    video.rename(away)
    with served(tmp_path) as client:

        def shown() -> tuple[list[str], int]:
            kinds = [each["kind"] for each in client.json("/api/card", s="s")["videos"]]
            return kinds, client.ask("/api/picture", s="s", i=3)[0]

        before = client.json("/api/card", s="s")
        assert (before["videos"], before["picture_note"][:11]) == ([], "no pictures")
        away.rename(video)
        wait_until(lambda: shown() == (["raw"], 200), pause_s=0.1)
        assert client.json("/api/card", s="s")["version"] != before["version"]
        # The same pictures in another file.
        shutil.copy(video, away)
        away.rename(video)
        wait_until(lambda: client.ask("/video", s="s", k=0)[0] == 200, pause_s=0.1)
        video.unlink()
        wait_until(lambda: not shown()[0], pause_s=0.1)


def _times(data: bytes) -> list[float]:
    with av.open(io.BytesIO(data)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]

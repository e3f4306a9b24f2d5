"""The page of a long recording: slow answers never hold up the first ones."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import pytest

from dgrec.footage.frame_index import FrameIndex, UntrustedIndexError
from dgrec.footage.table_index import TableIndex
from dgrec.replay.viewing import videos
from tests.footage import Encoding, encode
from tests.replay.clips import write_clip
from tests.replay.viewing.client import served
from tests.replay.viewing.numbered_sessions import recorded

pytestmark = pytest.mark.slow

_COUNT = 40


def test_the_table_of_an_mp4_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    reordered = {"b_frames": 2, "options": {"preset": "medium", "bf": "2"}}
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "reordered": reordered,
        "uneven": {**reordered, "pts_ms": lambda i: i * i * 7 + i * 5 + 500},
        "no-edit-list": {**reordered, "muxer": {"use_editlist": "0"}},
    }
    for name, how in ways.items():
        path = encode(tmp_path / f"{name}.mp4", Encoding(**how), _COUNT)
        with av.open(str(path)) as one, av.open(str(path)) as other:
            expected, found = FrameIndex(one), TableIndex(other)
            assert found.count == expected.count == _COUNT
            for frame in (27, 3, 39, 0, 28, 11, *range(_COUNT)):
                pts = expected.pts(frame)
                assert found.pts(frame) == pts, (name, frame)
                for off in (-1, 0, 1, 9):
                    at = found.frame_at(pts + off, 2)
                    assert at == expected.frame_at(pts + off, 2), (name, frame, off)
    path = encode(
        tmp_path / "f.mp4", Encoding(muxer={"movflags": "frag_keyframe+empty_moov"}), _COUNT
    )
    with av.open(str(path)) as container, pytest.raises(UntrustedIndexError):
        TableIndex(container)


def test_first_pictures_wait_for_no_digest_and_no_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clip(tmp_path / "source.mp4", _COUNT)
    folder = tmp_path / "sessions"
    folder.mkdir()
    recorded(source, folder / "s.parquet", video="raw")
    source.rename(tmp_path / "moved.mp4")
    digested: list[str] = []
    recorded_files = import_module("dgrec.footage.recorded_files")
    digest = recorded_files._digest

    def noted(file: Any, facts: os.stat_result) -> str:
        digested.append(Path(file.name).name)
        return digest(file, facts)

    monkeypatch.setattr(recorded_files, "_digest", noted)
    span = {"from": 0, "to": _COUNT}
    with served(folder) as client:
        whole = client.json("/api/card", s="s")
        usual = client.json("/api/rows", s="s", **span)
    assert "s.mp4" in digested
    assert None not in usual["pts_s"]
    digested.clear()
    monkeypatch.setattr(videos, "LARGEST_DIGESTED", 0)
    with served(folder) as client:
        brief = client.json("/api/card", s="s", brief=1)
        assert client.json("/api/rows", s="s", **span) == usual
        assert digested == []
        assert client.json("/api/card", s="s") == whole
    counted = {"labels", "labels_total", "stages"}  # there are no signals
    assert {name for name in whole if whole[name] != brief[name]} == counted
    # Where the times are not those of the rows, the digest decides.
    video = folder / "s.mp4"
    content = bytearray(video.read_bytes())
    scale = content.rindex(b"mdhd") + 16  # the first one is of its first fragment
    content[scale : scale + 4] = (int.from_bytes(content[scale : scale + 4]) // 2).to_bytes(4)
    video.write_bytes(content)
    with served(folder) as client:
        rows = client.json("/api/rows", s="s", **span)
        assert "s.mp4" in digested
        assert "contents have changed" in client.json("/api/card", s="s")["videos"][0]["note"]
    assert rows["pts_s"].count(None) > _COUNT // 2

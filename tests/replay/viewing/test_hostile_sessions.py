"""Sessions that somebody made to break a reader, through every endpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgrec import sample
from dgrec.replay.viewing import export_folder
from tests.hostile_files import write_cases
from tests.replay.viewing.client import Client, served, strict

pytestmark = pytest.mark.slow

_NAMES = (
    "m_all_deepest",
    "m_all_huge",
    "m_clip_ranges",
    "c_stamp_us_naive",
    "c_null_captured_at",
    "c_null_frame",
    "c_no_rows",
    "c_no_width",
    "c_widths",
    "c_both_cases",
    "v_all",
    "v_size_large",
    "j_forged_2",
    "j_note_end_3",
)
_REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/api/card", {}),
    ("/api/rows", {"from": 0, "to": 1000}),
    ("/api/row", {"i": 0}),
    ("/api/row", {"i": 7}),
    ("/api/overlay", {"from": 0, "to": 20}),
    ("/api/at", {"t": 0.1}),
    ("/api/at", {"t": -1e300}),
    ("/api/at", {"frame": 3}),
    ("/api/at", {"media": 1e300}),
    ("/api/series", {"names": "latency_ms,fps,detections,label:face,signal:x"}),
    ("/api/marks", {}),
    ("/api/next", {"i": 0}),
    ("/api/why", {}),
    ("/api/sql", {"q": "SELECT * FROM frames"}),
    ("/api/sql", {"q": "SELECT * FROM detections"}),
    ("/api/matches", {"q": "score > 0.5", "from": 0, "to": 100}),
    ("/api/picture", {"i": 0, "w": 320}),
    ("/api/thumb", {}),
    ("/video", {"k": 0}),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    made, folder = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("hostile")
    for path in write_cases(made, "mcvj"):
        if path.stem in _NAMES:
            shutil.copy(path, folder)
    shutil.rmtree(made)
    shutil.copy(sample.SESSION, folder / "sample.parquet")
    with served(Path(folder)) as client:
        yield client


def test_every_answer_is_json(client: Client) -> None:
    """Or a picture, or a video; and the server goes on."""
    names = [each["s"] for each in client.json("/api/sessions")["sessions"]]
    assert sorted(names) == sorted([*_NAMES, "sample"])
    for name in names:
        for path, query in _REQUESTS:
            status, headers, body = client.ask(path, s=name, **query)
            assert status in (200, 404, 422), (name, path, query, body)
            if headers["Content-Type"] == "application/json" or status != 200:
                strict(body)
            else:
                assert headers["Content-Type"] in ("image/jpeg", "video/mp4"), (name, path)
    assert len(client.json("/api/rows", s="sample", **{"from": 0, "to": 420})["frame"]) == 420


def test_all_that_can_be_asked_are_exported(client: Client, tmp_path: Path) -> None:
    folder = Path(client.server.recordings.names().popitem()[1]).parent
    said: list[str] = []
    left_out = {"m_all_deepest", "v_all", "c_null_frame"}
    names = {*left_out, "m_all_huge", "c_null_captured_at", "c_no_rows", "c_widths", "j_note_end_3"}
    places = [path for path in folder.iterdir() if path.stem in names]
    written = export_folder(places, tmp_path / "out", advise=said.append)
    assert {*written.recordings} == names - left_out
    assert all(any(name in line for line in said) for name in left_out)
    assert not [line for line in said if "cannot be shown" in line]

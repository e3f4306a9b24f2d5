"""Every frame that the page shows is that of its row: the picture, and the boxes over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgrec.replay.viewing.server import ViewServer
from tests.browser import Browser, needs_chromium
from tests.replay.viewing.numbered_sessions import CASES
from tests.replay.viewing.shown_frames import Recording, ShownFrames, recording_of

pytestmark = [needs_chromium, pytest.mark.slow]

_COUNT = 40
#: Rows of a cut-off recording whose pictures were not written any more.
_WITHOUT_PICTURES = ("killed", "recovered")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def recordings(folder: Path) -> dict[str, Recording]:
    return {name: recording_of(make(folder, _COUNT)) for name, make in CASES.items()}


@pytest.fixture(scope="module")
def url(folder: Path, recordings: dict[str, Recording]) -> Iterator[str]:
    server = ViewServer([folder], "127.0.0.1", 0)
    try:
        yield server.url
    finally:
        server.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.mark.parametrize("decode", ["webcodecs", "video", "server"])
def test_number_in_the_picture_row_and_boxes_agree(
    browser: Browser, url: str, recordings: dict[str, Recording], decode: str
) -> None:
    shown = ShownFrames(browser, url)
    # mediabunny reads the beginning of a file that was cut off, and the page takes another way.
    chosen = recordings
    if decode == "webcodecs":
        chosen = {n: r for n, r in recordings.items() if n not in _WITHOUT_PICTURES}
    for name, recording in chosen.items():
        shown.open(recording, len(recording) // 2, decode)
        shown.step_and_jump(recording, decode, 8 if decode == "server" else 16)
        shown.take_screenshots(recording, decode, 1, seed=len(name))
        if name in ("constant", "dropped") or (
            decode != "server" and name in ("variable", "b-frames")
        ):
            shown.play(recording, decode, 2)
    assert shown.wrong == []
    assert {reason.split(":")[0] for reason in shown.without_picture} <= {*_WITHOUT_PICTURES}
    assert shown.ways == {decode}
    assert shown.checked > len(chosen) * 9
    assert shown.screenshots >= len(chosen)
    # More than the first row and the last: a busy machine leaves out most of the others.
    assert shown.played > shown.played_of * 0.06
    assert browser.run("frameCheck.look().note") == ""

"""The player of the page: the way of decoding that it takes, keys, playing, what it says."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from dgrec.replay.viewing import ViewServer
from tests.browser import Browser, needs_chromium
from tests.replay.clips import write_clip
from tests.replay.viewing.numbered_sessions import CASES, added, recorded
from tests.replay.viewing.shown_frames import Recording, ShownFrames, recording_of

_COUNT = 40
#: Bytes of the page's script, compressed: most is mediabunny's, a sixth uPlot's.
_LARGEST = 145_000
#: As on http from another machine.
_INSECURE = "Object.defineProperty(window, 'isSecureContext', {value: false})"


def test_the_script_is_small() -> None:
    static = resources.files("dgrec.replay.viewing").joinpath("static")
    script = static.joinpath("page.js").read_bytes()
    assert 20_000 < len(gzip.compress(script, 9)) < _LARGEST
    page = static.joinpath("index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert "style=" not in page
    notice = static.joinpath("NOTICE").read_text(encoding="utf-8")
    assert "Mozilla Public License" in notice
    assert "uplot 1." in notice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def recordings(folder: Path) -> dict[str, Recording]:
    source = write_clip(folder / "source.mp4", _COUNT)
    paths = {name: CASES[name](folder, _COUNT) for name in ("constant", "dropped", "killed")}
    for name, choices in {
        "h265": {"video": "raw", "codec": "h265"},
        "lossless": {"video": "lossless"},
        "gone": {"video": "raw", "video_quality": 50},
    }.items():
        paths[name] = recorded(source, folder / f"{name}.parquet", **choices)
    (folder / "gone.mp4").unlink()
    paths["none"] = added(folder / "none.parquet", range(12), [n / 25 for n in range(12)])
    source.rename(folder / "moved")
    found = {name: recording_of(path) for name, path in paths.items()}
    assert {len(each) for each in found.values()} > {12, _COUNT}
    return found


@pytest.fixture(scope="module")
def shown(
    folder: Path, recordings: dict[str, Recording], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ShownFrames]:
    server = ViewServer([folder], "127.0.0.1", 0)
    try:
        with Browser(tmp_path_factory.mktemp("browser")) as browser:
            yield ShownFrames(browser, server.url)
    finally:
        server.close()


@needs_chromium
@pytest.mark.slow
def test_the_next_way_of_decoding_is_taken(
    shown: ShownFrames, recordings: dict[str, Recording]
) -> None:
    browser = shown.browser
    for name, at, way, note in (
        ("constant", 20, "webcodecs", ""),
        ("killed", 30, "video", "video player: the index of the video ends at 0.5"),
        ("h265", 20, "server", "come from the server"),
        ("lossless", 20, "server", ""),
    ):
        shown.open(recordings[name], at, "auto")
        shown.step_and_jump(recordings[name], "auto", 8)
        look = browser.run("frameCheck.look()")
        assert (look["way"], note in look["note"]) == (way, True), (name, look)
    assert shown.wrong == []
    # Without a picture the boxes are drawn all the same.
    shown.without_picture.clear()
    for name in ("gone", "none"):
        shown.open(recordings[name], 7, "auto")
        shown.step_and_jump(recordings[name], "auto", 6)
        look = browser.run("frameCheck.look()")
        assert look["picture"] is None
        assert look["why"] or look["note"], look
    assert shown.wrong == []

    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=_INSECURE)
    try:
        shown.open(recordings["constant"], 20, "auto")
        assert browser.run("frameCheck.look().way") == "video"
        assert browser.run("frameCheck.look().note") == ""
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)


def press(browser: Browser, *keys: str) -> None:
    for key in keys:
        browser.run(
            f"document.body.dispatchEvent(new KeyboardEvent('keydown',"
            f" {{key: {key!r}, bubbles: true, cancelable: true}}))"
        )


@needs_chromium
@pytest.mark.slow
def test_keys_and_playing(shown: ShownFrames, recordings: dict[str, Recording]) -> None:
    browser, dropped = shown.browser, recordings["dropped"]
    shown.open(dropped, 4, "auto")
    at = "Number(document.querySelector('.stage').dataset.position)"

    press(browser, "ArrowRight", ".", "ArrowRight", ",")
    browser.wait_for(f"{at} === 6")
    browser.wait_for("document.getElementById('announce').textContent.includes('Frame 6, 0:00.')")
    said = browser.run("document.getElementById('announce').textContent")
    assert "detection" in said
    press(browser, "[", ">")
    browser.wait_for(f"{at} === 7")
    press(browser, ".", ".", "]")
    browser.wait_for("/&m=0\\.[0-9]+-0\\.[0-9]+/.test(location.hash)")

    # The marked part is repeated until that is switched off.
    press(browser, "r", "Home", " ")
    browser.run(f"window.places = []; window.watching = setInterval(() => places.push({at}), 5)")
    browser.wait_for("places.lastIndexOf(6) > places.indexOf(8) && places.includes(8)")
    press(browser, " ")
    assert browser.run("Math.max(...places)") == 9
    browser.run("clearInterval(watching)")
    press(browser, "\\", "r")

    # Three seconds of which nothing was recorded are played as one, and said.
    middle = next(i for i, number in enumerate(dropped.numbers) if number > _COUNT // 2)
    shown.open(dropped, middle - 2, "auto")
    press(browser, " ")
    browser.wait_for("document.querySelector('.stage-chip').textContent.includes('3.')")
    browser.wait_for(f"{at} > {middle}")
    press(browser, "k")
    assert browser.run("document.querySelector('.stage-chip').hidden")

    # Backwards, too.
    press(browser, "End", "j")
    browser.wait_for(f"{at} < {len(dropped) - 3}")
    press(browser, "k", "0", "+", "+")
    browser.wait_for("document.querySelector('.stage').classList.contains('zoomed')")
    press(browser, "0", "?")
    browser.wait_for("document.querySelector('#help[open] kbd') !== null")
    press(browser, "?")
    browser.wait_for("!document.querySelector('#help[open]')")
    assert shown.wrong == []
    assert [line for line in browser.console if "Error" in line] == []

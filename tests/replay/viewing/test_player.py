"""The player of the page: the way of decoding that it takes, keys, playing, what it says."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from dgrec.replay.viewing.server import ViewServer
from tests.browser import Browser, needs_chromium
from tests.factory import write_session
from tests.replay.clips import write_clip
from tests.replay.viewing.numbered_sessions import CASES, added, recorded
from tests.replay.viewing.shown_frames import Recording, ShownFrames, recording_of

_COUNT = 40
#: Bytes of the page's script, compressed: most is mediabunny's, a sixth uPlot's.
_LARGEST = 145_000
#: As on http from another machine.
_INSECURE = "Object.defineProperty(window, 'isSecureContext', {value: false})"
#: Of a browser that is busy: what it presented, and what was asked for, is known later.
_LATE = """
const ask = HTMLVideoElement.prototype.requestVideoFrameCallback;
const waiting = new WeakMap();
HTMLVideoElement.prototype.requestVideoFrameCallback = function (run) {
  if (!waiting.has(this)) {
    const again = (...given) => {
      ask.call(this, again);
      setTimeout(() => {
        const those = waiting.get(this);
        waiting.set(this, []);
        for (const each of those) each(...given);
      }, 60);
    };
    waiting.set(this, []);
    ask.call(this, again);
  }
  waiting.get(this).push(run);
};
const load = window.fetch;
window.fetch = async (address, ...more) => {
  const answer = await load(address, ...more);
  if (String(address).includes("api/picture")) await new Promise((run) => setTimeout(run, 250));
  return answer;
};
"""


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
    write_session(folder / "empty.parquet", [])
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
        (
            "h265",
            20,
            "server",
            "from the server: this browser does not play the video, which is H.265",
        ),
        ("lossless", 20, "server", ""),
    ):
        shown.open(recordings[name], at, "auto")
        shown.step_and_jump(recordings[name], "auto", 8)
        look = browser.run("frameCheck.look()")
        assert look["way"] == way, (name, look)
        assert note in look["note"], (name, look)
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
    browser.run("location.hash = 's=empty'")
    note = "document.querySelector('.hud-note')?.textContent"
    browser.wait_for(f"{note} === 'nothing was recorded: there are no frames'")

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
    browser.wait_for("document.querySelector('.stage-chip')?.textContent.includes('3.')")
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


@needs_chromium
@pytest.mark.slow
def test_pictures_that_come_late(shown: ShownFrames, recordings: dict[str, Recording]) -> None:
    browser, constant = shown.browser, recordings["constant"]
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=_LATE)
    try:
        # Playing begins while a picture is on its way, asks for others, and is stopped.
        shown.open(constant, 2, "server")
        press(browser, "End", " ")
        browser.run("new Promise((run) => setTimeout(run, 50))")
        press(browser, "k")
        browser.wait_for("!document.querySelector('.play').title.startsWith('Pause')")
        shown.look_at(constant, browser.run("Number(document.querySelector('.seek').value)"))

        # It is stopped before the browser has said which picture it shows.
        shown.open(constant, 0, "video")
        at = "Number(document.querySelector('.stage').dataset.position)"
        for place in (6, 12):
            press(browser, "Home")
            shown.look_at(constant, 0)
            press(browser, "l", "l", "l")
            browser.wait_for(f"{at} >= {place}")
            press(browser, "l")  # so fast that each picture is sought
            browser.run("new Promise((run) => setTimeout(run, 100))")
            press(browser, "k")
            browser.wait_for("!document.getElementById('player').hasAttribute('aria-busy')")
            shown.look_at(constant, browser.run("Number(document.querySelector('.seek').value)"))
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)
    assert shown.wrong == []

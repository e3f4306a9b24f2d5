"""The panel beside the picture: filters, what was detected, all that was recorded of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dgrec.replay.viewing.server import ViewServer
from tests.browser import Browser, needs_chromium
from tests.factory import make_detection, make_row, new_metadata, write_session
from tests.replay.test_overlay import COLORS, full

pytestmark = [needs_chromium, pytest.mark.slow]

MARKUP = "<img src=x onerror='window.broken = 1'>"
FOUND: list[dict[str, Any]] = [
    make_detection(0, bbox=[20.0, 40.0, 220.0, 220.0], score=0.9, track_id=7),
    make_detection(1, bbox=[60.0, 80.0, 120.0, 140.0], score=0.4),
    make_detection(2, bbox=[260.0, 60.0, 320.0, 200.0], score=0.7, label=MARKUP, category_id=9),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("side")
    metadata = new_metadata(overlay=full({"color": COLORS, "alpha": "auto", "show_labels": False}))
    metadata["model"]["result_type"] = "Detection"
    rows = [make_row(i, FOUND if i else [], width=640, height=480) for i in range(3)]
    write_session(folder / "s.parquet", rows, metadata)
    for name, width, height in (("thin", 2000, 4), ("tall", 4, 2000)):
        lines = [make_row(0, width=width, height=height)]
        write_session(folder / f"{name}.parquet", lines, new_metadata(name))
    server = ViewServer([folder], "127.0.0.1", 0)
    try:
        with Browser(folder / "chromium", width=1400, height=1000) as opened:
            opened.call("Page.navigate", url=f"{server.url}#s=s&f=1")
            opened.wait_for("document.querySelectorAll('.found-row').length === 3")
            yield opened
    finally:
        server.close()


#: Whether the left edge of a box is on the overlay, by the box's index.
_DRAWN = """
(() => {
  const canvas = document.querySelector(".stage .overlay");
  const scale = canvas.width / 640;
  const on = canvas.getContext("2d");
  return %s.map(([x, y]) => on.getImageData(x * scale, y * scale, 1, 1).data[3] > 100);
})()
""" % [[20, 100], [60, 110], [260, 130]]


#: The least contrast of texts with each ground that the page has, by WCAG's definition.
_CONTRAST = """
(() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(name).trim();
    const [r, g, b] = [1, 3, 5].map((at) => {
      const value = parseInt(hex.slice(at, at + 2), 16) / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const grounds = ["--ground", "--surface", "--raised"].map(light);
  const texts = ["--text", "--soft", "--faint", "--accent", "--warn", "--bad", "--good"].map(light);
  return Math.min(...texts.flatMap((text) => grounds.map((ground) =>
    (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05))));
})()
"""


def test_texts_can_be_read(browser: Browser) -> None:
    for scheme in ("dark", "light"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.call("Emulation.setEmulatedMedia", features=[feature])
        assert browser.run(_CONTRAST) >= 4.5
    # A long name of a fact leaves room for its value.
    share = browser.run(
        "(() => { const facts = document.querySelector('.facts'); facts.open = true;"
        "facts.querySelector('dt').textContent = 'analyzers: ' + 'degirum_tools.'.repeat(5);"
        "const [all, value] = ['dl', 'dd'].map((name) => facts.querySelector(name).clientWidth);"
        "facts.open = false; return value / all; })()"
    )
    assert share > 0.4


def test_filters(browser: Browser) -> None:
    assert browser.run(_DRAWN) == [True, True, True]
    names = "[...document.querySelectorAll('.label-row .label-name')].map((row) => row.textContent)"
    assert sorted(browser.run(names)) == sorted(["person", "car", MARKUP])
    browser.run(
        "[...document.querySelectorAll('.label-row')]"
        ".find((row) => row.textContent.startsWith('person')).querySelector('input').click()"
    )
    browser.wait_for(f"String({_DRAWN}) === 'false,true,true'")
    browser.run(
        "(() => { const slider = document.querySelector('.score input'); slider.value = 0.5;"
        "slider.dispatchEvent(new Event('input')); })()"
    )
    browser.wait_for(f"String({_DRAWN}) === 'false,false,true'")
    browser.wait_for("location.hash.includes('score=0.5')")
    browser.run("document.querySelector('.filter-buttons button').click()")
    browser.wait_for(f"String({_DRAWN}) === 'true,false,true'")
    browser.run(
        "(() => { const slider = document.querySelector('.score input'); slider.value = 0;"
        "slider.dispatchEvent(new Event('input')); })()"
    )
    browser.wait_for(f"String({_DRAWN}) === 'true,true,true'")


def test_a_detection_that_is_selected(browser: Browser) -> None:
    text = "document.querySelector('.one').innerText"
    selected = (
        "[...document.querySelectorAll('.found-row')]"
        ".findIndex((row) => row.getAttribute('aria-selected') === 'true')"
    )
    _click(browser, 90, 110)
    browser.wait_for(f"{selected} === 1 && {text}.includes('Detection 1')")
    _click(browser, 180, 200)
    browser.wait_for(f"{selected} === 0 && {text}.includes('track_id')")
    assert "20, 40, 220, 220" in browser.run(text)
    # By the keyboard.
    browser.run("document.querySelectorAll('.found-row')[0].focus()")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        _press(browser, key)
    browser.wait_for(f"{selected} === 2 && {text}.includes('<img src=x')")
    _press(browser, "Escape")
    browser.wait_for(f"{selected} === -1 && {text} === ''")
    assert browser.run("window.broken === undefined")
    assert browser.run("document.querySelectorAll('#side img').length") == 0


def _click(browser: Browser, x: float, y: float) -> None:
    """Click at a pixel of the frame."""
    box = browser.run(
        "(({left, top, width}) => [left, top, width])"
        "(document.querySelector('.stage').getBoundingClientRect())"
    )
    scale = box[2] / 640
    place = {"x": box[0] + x * scale, "y": box[1] + y * scale, "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, **place)


def _press(browser: Browser, key: str) -> None:
    text = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        given = text if kind == "keyDown" else {}
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **given)


def test_pictures_of_a_few_lines_are_seen(browser: Browser) -> None:
    """They leave room for the panel beside them."""
    sizes = "['.stage', '#side'].map((name) => document.querySelector(name).clientWidth)"
    for name in ("thin", "tall"):
        browser.run(f"location.hash = '#s={name}'")
        browser.wait_for(f"document.getElementById('session-name').textContent === '{name}'")
        browser.wait_for("document.querySelector('.stage')?.dataset.frame === '0'")
        browser.wait_for("document.querySelectorAll('.label-row').length > 0")
        width, side = browser.run(sizes)
        height = browser.run("document.querySelector('.stage').clientHeight")
        assert min(width, height) >= 50, (name, width, height)
        assert side >= 300, name

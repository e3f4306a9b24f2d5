"""The page under fingers, on a telephone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgrec import sample
from tests.browser import Browser, needs_chromium
from tests.replay.viewing.client import served

pytestmark = [needs_chromium, pytest.mark.slow]

_FRAME = 200
Point = tuple[float, float]


class Fingers:
    def __init__(self, browser: Browser, first_box: list[float]) -> None:
        self.browser = browser
        self.first_box = first_box

    def _send(self, kind: str, *points: Point) -> None:
        fingers = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        self.browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    def move(self, *ways: tuple[Point, Point]) -> None:
        """Put fingers down, move each from one point to another, and take them away."""
        self._send("touchStart", *(begin for begin, _ in ways))
        for step in range(1, 9):
            self._send(
                "touchMove",
                *(
                    (x + (to_x - x) * step / 8, y + (to_y - y) * step / 8)
                    for (x, y), (to_x, to_y) in ways
                ),
            )
        self._send("touchEnd")

    def tap(self, at: Point) -> None:
        self._send("touchStart", at)
        self._send("touchEnd")

    def spread(self, at: Point, before: float, after: float) -> None:
        x, y = at
        self.move(((x - before, y), (x - after, y)), ((x + before, y), (x + after, y)))

    def place(self, selector: str, across: float = 0.5, down: float = 0.5) -> Point:
        """Return a point in an element, once it is in the window."""
        x, y, width, height = self.browser.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            "if (one.getBoundingClientRect().bottom > innerHeight) one.scrollIntoView();"
            "const { x, y, width, height } = one.getBoundingClientRect();"
            "return [x, y, width, height]; })()"
        )
        return x + width * across, y + height * down


@pytest.fixture
def fingers(tmp_path: Path) -> Iterator[Fingers]:
    shutil.copy(sample.SESSION, tmp_path / "session.parquet")
    with Browser(tmp_path / "browser") as browser, served(tmp_path) as client:
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=390,
            height=844,
            deviceScaleFactor=2,
            mobile=True,
        )
        browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
        browser.call("Page.navigate", url=f"{client.server.url}#s=session&f={_FRAME}")
        browser.wait_for(
            "document.querySelector('.stage')?.dataset.overlay === '200'"
            " && !document.querySelector('#player[aria-busy]')"
        )
        browser.wait_for("document.querySelectorAll('.uplot').length > 1")
        browser.wait_for("document.querySelectorAll('.found-row').length === 2")
        row = client.json("/api/row", s="session", i=_FRAME)
        x1, y1, x2, y2 = row["detections"][0]["bbox"]
        middle = [(x1 + x2) / 2 / row["width"], (y1 + y2) / 2 / row["height"]]
        yield Fingers(browser, middle)
        assert browser.console == []


def test_a_tap_on_a_box_selects_it_and_moves_nothing(fingers: Fingers) -> None:
    browser = fingers.browser
    fingers.tap(fingers.place(".stage", *fingers.first_box))
    browser.wait_for("location.hash.includes('d=0')")
    browser.wait_for("document.querySelector('.found-row').ariaSelected === 'true'")
    # What a tap becomes besides, a click of a mouse, comes at the same place.
    browser.wait_for("!!document.querySelector('.one header')")
    assert browser.run("[scrollY, location.hash]") == [0, "#s=session&f=200&d=0"]


def test_two_fingers_zoom_and_one_moves(fingers: Fingers) -> None:
    browser = fingers.browser
    fingers.spread(fingers.place(".stage"), 30, 90)
    browser.wait_for("document.querySelector('.stage').classList.contains('zoomed')")
    x, y = fingers.place(".stage")
    shown = "document.querySelector('.stage canvas').style.transform"
    before = browser.run(shown)
    fingers.move(((x, y), (x - 60, y - 20)))
    browser.wait_for(f"{shown} !== {json.dumps(before)}")
    fingers.spread((x, y), 100, 10)
    browser.wait_for("!document.querySelector('.stage').classList.contains('zoomed')")

    fingers.spread(fingers.place(".line-area", 0.6, 0.3), 20, 80)
    browser.wait_for("location.hash.includes('w=')")
    window = browser.run("location.hash.split('w=')[1]")
    x, y = fingers.place(".line-area", 0.6, 0.3)
    fingers.move(((x, y), (x - 60, y)))
    browser.wait_for(f"!location.hash.includes({json.dumps(window)})")
    assert browser.run("location.hash.includes('w=') && location.hash.includes('f=200')")
    assert browser.run("visualViewport.scale") == 1
    fingers.tap(fingers.place(".line-area", 0.3, 0.3))
    browser.wait_for("!location.hash.includes('f=200')")

"""The page in small and enlarged windows, and in colors that the user has chosen."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dgrec import sample
from tests.browser import Browser, needs_chromium
from tests.factory import make_row, new_metadata, write_session
from tests.replay.viewing.client import served

pytestmark = [needs_chromium, pytest.mark.slow]

_IS_STILL = "!document.querySelector('#player[aria-busy]')"
#: How far anything reaches beyond the window, beside its scroll bar.
_BEYOND = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_HEIGHT = "document.querySelector('.stage').getBoundingClientRect().height"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    shutil.copy(sample.SESSION, tmp_path / "session.parquet")
    with Browser(tmp_path / "browser") as found, served(tmp_path) as client:
        found.call("Page.navigate", url=client.server.url)
        found.wait_for("document.querySelectorAll('.list-name').length > 0")
        yield found


def show(browser: Browser, width: int, height: int) -> None:
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=False,
    )
    browser.wait_for(f"innerWidth === {width} && innerHeight === {height}")


def open_marked(browser: Browser) -> None:
    browser.run("location.hash = '#s=session&f=200&m=0.1-0.3'")
    browser.wait_for(f"document.querySelector('.stage')?.dataset.position === '200' && {_IS_STILL}")
    browser.wait_for("document.querySelectorAll('.uplot').length > 1")
    browser.wait_for("document.querySelectorAll('.range-command').length === 3")


def test_a_window_enlarged_four_times_shows_picture_and_controls(browser: Browser) -> None:
    show(browser, 320, 200)
    assert browser.run(_BEYOND) == 0
    open_marked(browser)
    assert browser.run(_BEYOND) == 0
    assert browser.run(_HEIGHT) >= 100
    for width, height in ((640, 360), (320, 640), (5120, 1440)):
        show(browser, width, height)
        assert browser.run(_BEYOND) == 0
        assert 170 < browser.run(_HEIGHT) < height
    assert 400 < browser.run("document.querySelector('#beside').offsetWidth") <= 800
    assert browser.console == []


def test_what_cannot_be_opened_is_not_said_of_the_list(browser: Browser) -> None:
    status = "document.getElementById('status').textContent"
    browser.run("location.hash = '#s=gone'")
    browser.wait_for(f"{status} === \"there is no recording 'gone' here\"")
    browser.run("document.getElementById('home').click()")
    browser.wait_for(f"document.querySelector('.list-name') && {status} === ''")


def test_long_names_fit_and_nothing_is_without_a_name(tmp_path: Path) -> None:
    name = "ארוכה מאוד " * 8
    labels = ["", "עברית (left) 3", "x" * 500, "a\u202eb"]
    found = [
        {"label": label, "score": 0.5, "bbox": [5.0, 5.0 + 9 * k, 25.0, 12.0 + 9 * k]}
        for k, label in enumerate(labels)
    ]
    metadata = new_metadata()
    metadata["model"]["name"] = "y" * 300
    rows = [make_row(frame, found) for frame in range(5)]
    write_session(tmp_path / f"{name}.parquet", rows, metadata=metadata)
    with Browser(tmp_path / "browser") as browser, served(tmp_path) as client:
        browser.call("Page.navigate", url=client.server.url)
        browser.wait_for("document.querySelectorAll('.list-name a').length > 0")
        show(browser, 1100, 800)
        assert browser.run(_BEYOND) <= 0
        show(browser, 320, 640)
        assert browser.run(_BEYOND) <= 0
        # The name ends where the box to choose it by begins.
        words, box = browser.run(
            "(() => { const row = document.querySelector('.list-table tbody tr');"
            "const text = document.createRange();"
            "text.selectNodeContents(row.querySelector('.list-name a'));"
            "return [text.getBoundingClientRect().right,"
            " row.querySelector('[type=checkbox]').getBoundingClientRect().left]; })()"
        )
        assert 200 < words <= box
        browser.run("document.querySelector('.list-name a').click()")
        browser.wait_for("document.querySelectorAll('.found-row').length === 4")
        browser.wait_for("document.querySelectorAll('.legend-name').length > 4")
        names = "[...document.querySelectorAll('.label-name, .line-name, .legend-name')]"
        shown = browser.run(f"{names}.map((each) => [each.tagName, each.textContent])")
        assert {tag for tag, _ in shown} == {"BDI"}
        assert "" not in {text for _, text in shown}
        assert browser.run(_BEYOND) == 0


def pixels(browser: Browser, selector: str, width: int | None = None) -> Any:
    """Return the pixels around an element, or of its middle."""
    box = browser.run(
        "(({left, top, width, height}) => [left + scrollX, top + scrollY, width, height])"
        f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
    )
    if width is not None:
        box[0] += box[2] / 2 - width / 2
        box[2] = width
    clip = {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "scale": 1}
    data = browser.call(
        "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True
    )["data"]
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(int)


def test_colors_of_the_user_hide_nothing(browser: Browser) -> None:
    open_marked(browser)
    for scheme in ("light", "dark"):
        features = [
            {"name": "forced-colors", "value": "active"},
            {"name": "prefers-color-scheme", "value": scheme},
        ]
        browser.call("Emulation.setEmulatedMedia", features=features)
        browser.wait_for("matchMedia('(forced-colors: active)').matches")
        ground = pixels(browser, "#player")[-1, -1]
        for selector in (".seek", ".row-legend .line-sample", ".swatch"):
            found = np.abs(pixels(browser, selector) - ground).sum(axis=2)
            assert found.max() > 150, (scheme, selector)
        # The moment that is shown, beside what is left and right of it.
        column = np.median(pixels(browser, ".line-cursor", 8)[30:], axis=0)
        assert np.abs(column[3:5] - ground).sum(axis=1).max() > 150, scheme
        pressed = pixels(browser, "button.icon[aria-pressed=true]")
        other = pixels(browser, "button.icon[aria-pressed=false]")
        edges = [int(np.abs(each[1:4, 8:-8] - ground).sum()) for each in (pressed, other)]
        assert edges[0] > edges[1], scheme


def test_what_is_unknown_comes_last_however_the_list_is_sorted(tmp_path: Path) -> None:
    shutil.copy(sample.SESSION, tmp_path / "long.parquet")
    write_session(tmp_path / "short.parquet", [make_row(frame) for frame in range(5)])
    (tmp_path / "broken.parquet").write_bytes(sample.SESSION.read_bytes()[:-9])
    with Browser(tmp_path / "browser") as browser, served(tmp_path) as client:
        browser.call("Page.navigate", url=client.server.url)
        browser.wait_for("document.querySelectorAll('.list-name').length === 3")
        names = "[...document.querySelectorAll('.list-name [data-s]')].map((e) => e.dataset.s)"
        orders = []
        for _ in range(2):
            browser.run("document.querySelector('[data-key=frames] button').click()")
            orders.append(browser.run(names))
    assert orders == [["short", "long", "broken"], ["long", "short", "broken"]]

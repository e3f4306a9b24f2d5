"""The page of a recording whose first rows, labels and signals come, and whose old parts go."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgrec.clock import Clock
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.program.session import Capture, ProgramSession
from dgrec.recorder.results import DetectionList
from tests.browser import Browser, needs_chromium
from tests.recorder.network_camera import picture
from tests.replay.viewing.client import served
from tests.replay.viewing.test_live_in_browser import NO_NOTE, NUMBER, STAGE, press
from tests.waiting import wait_until

pytestmark = [needs_chromium, pytest.mark.slow]

_POSITION, _FRAME = (f"Number({STAGE}.dataset.{name})" for name in ("position", "frame"))
#: Whether picture, row and overlay are there, and of one frame.
_AGREES = f"{NUMBER} === {_FRAME} && {STAGE}.dataset.overlay === {STAGE}.dataset.position"
#: Looks at each picture that is on the screen: one without a note is that of its row.
_WATCH = f"""
window.wrong = []; window.looks = 0;
(function look() {{
  const stage = {STAGE};
  if (stage?.dataset.position && {NO_NOTE}) {{
    window.looks++;
    const {{ overlay, position }} = stage.dataset;
    if ({NUMBER} !== {_FRAME} || (overlay && overlay !== position)) {{
      window.wrong.push([{NUMBER}, {_FRAME}, position, overlay]);
    }}
  }}
  requestAnimationFrame(look);
}})()
"""
#: Answers some requests for the newest picture as if a part had been removed meanwhile.
_MOVED = """
const send = window.fetch;
let asked = 0;
window.fetch = async (address, options) =>
  /api.picture.*before=/.test(address) && ++asked % 5 === 0
    ? new Response("{}", { status: 409 })
    : send(address, options);
"""
_STATUS = "document.getElementById('status').textContent"


class Growing:
    """A recording of 20 frames a second; in parts of 4 seconds, of which the last are kept."""

    def __init__(self, output: Path, *, has_parts: bool = True) -> None:
        parts = {"split_every": 4.0, "keep_last": 12.0} if has_parts else {}
        self.labels = ["cat"]
        self.session = ProgramSession(
            output,
            RecordingOptions(video="raw", **parts),
            metadata={},
            overwrite=False,
            clock=Clock(),
        )
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def begin(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._is_over.wait(0.05):
            if not self.goes_on.is_set():
                continue
            found = [
                {"label": label, "score": 0.9, "bbox": [1.0, 20.0 + 30 * k, 40.0, 45.0 + 30 * k]}
                for k, label in enumerate(self.labels)
            ]
            self.session.add(DetectionList(found), picture(number), Capture(source_frame=number))
            number += 1

    def end(self) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.session.close()


@contextlib.contextmanager
def growing(output: Path, *, has_parts: bool = True) -> Iterator[Growing]:
    found = Growing(output, has_parts=has_parts)
    try:
        yield found
    finally:
        found.end()


def test_what_is_shown_stays_while_rows_come_and_go(tmp_path: Path) -> None:
    with (
        Browser(tmp_path / "browser") as browser,
        served(tmp_path) as client,
        growing(tmp_path / "s.parquet") as recording,
    ):

        def card(**query: int) -> Any:
            # A part may be removed while it is read.
            while (answer := client.ask("/api/card", s="s", **query))[0] != 200:
                assert b"No such file" in answer[2] or b"no longer exists" in answer[2]
            return json.loads(answer[2])

        def first_frame() -> int:
            return int(card(brief=1)["first_frame"])

        # Before the first row, somebody writes SQL.
        browser.call("Page.navigate", url=f"{client.server.url}#s=s")
        browser.wait_for("!!document.querySelector('.sql-text')")
        browser.run("(window.field = document.querySelector('.sql-text')).focus()")
        browser.run("document.querySelector('.menu').open = true")
        browser.run(_WATCH)
        recording.begin()
        browser.wait_for("document.querySelectorAll('.uplot').length > 1")
        browser.wait_for("!!document.querySelector('.label-row')")
        assert browser.run("document.activeElement === window.field")

        # What comes later is offered, too, in a menu that is open.
        browser.run("(window.box = document.querySelector('.line-menu input')).focus()")
        recording.labels = ["cat", "dog"]
        browser.wait_for("document.querySelectorAll('.label-row').length === 2")
        browser.wait_for("document.querySelector('.line-menu')?.textContent.includes('dog')")
        assert browser.run(
            "document.activeElement === window.box && document.querySelector('.menu').open"
        )
        browser.run("document.activeElement.blur()")
        browser.wait_for("document.querySelector('.rows')?.textContent.includes('dog')")

        # A frame that is shown stays while those before it are removed, until it is the first.
        recording.goes_on.clear()
        press(browser, "<")
        browser.wait_for(f"!document.querySelector('#player[aria-busy]') && {NO_NOTE} && {_AGREES}")
        frame, position = browser.run(f"[{_FRAME}, {_POSITION}]")
        first = first_frame()
        recording.goes_on.set()
        wait_until(lambda: first_frame() > first)
        recording.goes_on.clear()  # until a busy machine has shown it
        browser.wait_for(f"{_POSITION} < {position} && {NO_NOTE} && {_AGREES}")
        shown = browser.run(_FRAME)
        # (A busy machine may seal several parts at once, and remove as many.)
        assert shown == frame or first_frame() > frame
        recording.goes_on.set()
        browser.wait_for(f"{_FRAME} !== {frame} && {NO_NOTE} && {_AGREES}")
        assert browser.run(_FRAME) > frame
        # (On a busy machine the nearest one may be gone by now, too.)
        assert re.match(r"There is no frame \d+ \(any more\)", browser.run(_STATUS))

        # Following goes on over it, also where a picture is asked for as a part is removed.
        browser.run(_MOVED)
        press(browser, "End")
        browser.wait_for("document.querySelector('.follow').ariaPressed === 'true'")
        for _ in range(2):
            first = first_frame()
            wait_until(lambda: first_frame() > first, pause_s=0.2)  # noqa: B023
            browser.wait_for(f"{_FRAME} > {card()['last_frame']}")
            assert browser.run("document.querySelector('.follow').ariaPressed") == "true"
        browser.wait_for(_AGREES)
        assert browser.run("window.looks") > 20
        assert browser.run("window.wrong") == []
    # Browsers note what is refused: positions of before, a picture that is not written yet, a part
    # that is removed whenever it is read.
    known = ("409", "404", "422", "Canvas2D")
    assert [text for text in browser.console if not any(each in text for each in known)] == []


def test_what_is_said_of_pictures_goes_once_they_are_there(tmp_path: Path) -> None:
    video, elsewhere = tmp_path / "s.mp4", tmp_path / "elsewhere"
    note = "document.querySelector('.hud-note')?.textContent"
    with (
        Browser(tmp_path / "browser") as browser,
        served(tmp_path) as client,
        growing(tmp_path / "s.parquet", has_parts=False) as recording,
    ):
        recording.begin()
        wait_until(video.exists)
        video.rename(elsewhere)  # as before its first picture
        wait_until(lambda: client.json("/api/sessions")["sessions"][0]["frames"] > 0, pause_s=0.2)
        browser.call("Page.navigate", url=f"{client.server.url}#s=s")
        browser.wait_for(f"{note} === 'no pictures: s.mp4, recorded beside it, is gone'")
        elsewhere.rename(video)
        browser.wait_for(f"{note} === '' && {NO_NOTE} && {_AGREES}")

        # Below the picture it says of how many frames it is one, also while that one is shown.
        press(browser, "Home")
        said = "document.querySelector('.hud-field dd')?.textContent"
        browser.wait_for(f"/^0 \\/ \\d+$/.test({said})")
        last = f"Number({said}.split('/')[1])"
        before = browser.run(last)
        browser.wait_for(f"{last} > {before} + 20 && {said}.startsWith('0 /')")

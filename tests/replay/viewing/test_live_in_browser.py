"""The page of a recording in progress, in a real browser: it grows, follows, and ends with it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.replay.viewing.server import ViewServer
from tests.browser import Browser, needs_chromium
from tests.recorder.network_camera import MjpegCamera, frame_number
from tests.waiting import PATIENCE_S, wait_until

pytestmark = [needs_chromium, pytest.mark.slow]

_ADDRESS = re.compile(r"Watch the recording at (http://\S+)")
STAGE = "document.querySelector('.stage')"
#: The number in the picture on the stage, as `tests.recorder.network_camera` writes it.
NUMBER = """(() => {
  const canvas = document.querySelector('.stage canvas');
  if (!canvas) return -1;
  const context = canvas.getContext('2d');
  let number = 0;
  for (let bit = 0; bit < 16; bit++) {
    if (context.getImageData(bit * 16 + 8, 8, 1, 1).data[0] > 127) number |= 1 << bit;
  }
  return number;
})()"""
_SHOWN = f"({{position: Number({STAGE}?.dataset.position), frame: Number({STAGE}?.dataset.frame), \
number: {NUMBER}, way: document.getElementById('player').dataset.way}})"
_IS_STILL = "!document.querySelector('#player[aria-busy]')"
NO_NOTE = "!document.querySelector('.stage-note').textContent"
_OPTIONS = (
    "--video raw --codec h264 --alert empty=count()==0 --alert full=count()>0 --publish out.jsonl"
).split()
_ALERT = ("--alert", "still=missing 1s")


@contextmanager
def recording(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Record, and give the process and the address of its page."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dgrec", "record", *arguments, "--view", "-o", "s.parquet"],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in ("DISPLAY", "DGREC_TOKEN")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "it ended"
            found = _ADDRESS.search(line)
        yield process, found[1]
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def press(browser: Browser, key: str) -> None:
    event = f"{{key: {key!r}, bubbles: true, cancelable: true}}"
    browser.run(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {event}))")


def is_gone(address: str) -> bool:
    host = address.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except OSError:
        return True
    finally:
        connection.close()
    return False


def picture_numbers(path: Path) -> dict[int, int]:
    """Return the number in the recorded picture of each frame."""
    with dgrec.open(path) as session, session.pixels() as pixels:
        rows = [session.row(i) for i in range(len(session))]
        images = [(row["frame"], pixels.frame(row)) for row in rows]
        return {frame: frame_number(image) for frame, image in images if image is not None}


def state_is(browser: Browser, state: str) -> None:
    browser.wait_for(f"document.getElementById('session-state').textContent === '{state}'")


def step_back(browser: Browser) -> dict[str, Any]:
    """Leave the newest frame, and return what is shown once its picture is there."""
    press(browser, "<")
    browser.wait_for(f"!!{STAGE}?.dataset.position && {NO_NOTE}")
    found: dict[str, Any] = browser.run(_SHOWN)
    return found


def test_a_recording_is_followed_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGREC_TOKEN", "a-token-that-stays-the-same-for-it")
    shown = []
    with (
        Browser(tmp_path / "browser") as browser,
        MjpegCamera(12) as camera,
        recording(tmp_path, camera.url, *_OPTIONS, *_ALERT) as (process, address),
    ):
        # What the camera sees now, with the figures of the newest rows.
        browser.call("Page.navigate", url=address)
        browser.wait_for(f"Number({STAGE}?.dataset.captured) > 0")
        state_is(browser, "being recorded")
        first = browser.run(f"[Number({STAGE}?.dataset.captured), {NUMBER}]")
        newest = f"[Number({STAGE}?.dataset.captured), {NUMBER}]"
        browser.wait_for(f"{newest}[0] > {first[0]} && {newest}[1] > {first[1]}")
        browser.wait_for("document.querySelector('.follow')?.ariaPressed === 'true'")
        assert "ago" in browser.run("document.querySelector('.stage-chip').textContent")
        at = "Number(document.querySelector('.seek').max)"
        last = browser.run(at)
        browser.wait_for(f"{at} > {last} + 10")
        browser.wait_for("document.querySelector('.live-targets tbody tr') !== null")
        assert "out.jsonl" in browser.run("document.querySelector('.live-targets').textContent")
        assert "f=" not in browser.run("location.hash")

        # An alert is shown as it comes, when the camera is silent; its mark comes with its row.
        browser.wait_for("document.querySelector('.uplot') !== null")
        alert = "document.querySelector('.live-alerts li')"
        alerts = "document.querySelectorAll('.live-alerts li').length"
        before = browser.run(alerts)  # a busy machine may have had some already
        camera.send_signal(signal.SIGSTOP)
        try:
            browser.wait_for(f"{alerts} > {before}")
        finally:
            camera.send_signal(signal.SIGCONT)
        browser.wait_for(f"{alert}.title === 'missing 1s'")
        assert browser.run(alert + ".textContent").startswith("still at ")
        lane = "document.querySelector('.lane[data-lane=alerts]')"
        browser.wait_for(f"{lane} !== null && !{lane}.hidden")
        last = browser.run(at)
        browser.wait_for(f"{at} > {last} + 3")  # its row has come
        marks = "fetch('api/marks?s=s&width=100000').then((answer) => answer.json())"
        marked = browser.run(f"{marks}.then(({{ alerts }}) => alerts.map(({{ i }}) => i))")
        browser.run(f"{alert}.querySelector('a').click()")
        # A busy machine may have had other alerts since.
        rows = f"{marks}.then(({{ alerts }}) => alerts.map(({{ i }}) => `${{i}}`))"
        browser.wait_for(f"{rows}.then((found) => found.includes({STAGE}?.dataset.position))")
        linked = "new URLSearchParams(location.hash.slice(1)).get('f')"
        is_there = f"{STAGE}?.dataset.frame === {linked}"
        browser.wait_for(f"{is_there} && {NO_NOTE} && {_IS_STILL}")
        shown.append(browser.run(_SHOWN))
        mark = shown[-1]["position"]
        browser.wait_for(f"Number({lane}.querySelector('b').textContent) >= {len(marked)}")
        press(browser, "Home")
        browser.wait_for(f"{STAGE}?.dataset.position === '0' && {_IS_STILL}")
        visited = [0]
        while visited[-1] < mark:  # late frames and drops may be before it
            press(browser, "n")
            browser.wait_for(f"Number({STAGE}?.dataset.position) > {visited[-1]}")
            visited.append(browser.run(f"Number({STAGE}?.dataset.position)"))
        # The row after the silence may not have been there when the alert was clicked, or marked.
        assert {str(visited[-1]), str(visited[-1] + 1)} & {*browser.run(rows)}
        press(browser, "End")

        # A step back ends it; the exact picture of a row is there. The page was made anew with the
        # first rows.
        browser.wait_for("document.querySelector('.uplot') !== null")
        shown.append(step_back(browser))
        browser.wait_for("document.querySelector('.follow')?.ariaPressed === 'false'")
        browser.wait_for("location.hash.includes('f=')")
        press(browser, "Home")
        browser.wait_for(f"{STAGE}?.dataset.position === '0' && {NO_NOTE}")
        shown.append(browser.run(_SHOWN))
        press(browser, "End")
        browser.wait_for(f"Number({STAGE}?.dataset.captured) > {first[0]}")

        # Elsewhere, without the recorder: the newest row that has its picture; over a restart.
        server = ViewServer([tmp_path], "127.0.0.1", 0)
        try:
            browser.call("Page.navigate", url=f"{server.url}#s=s")
            browser.wait_for(f"Number({STAGE}?.dataset.position) > 0")
            before = browser.run(f"Number({STAGE}?.dataset.position)")
            browser.wait_for(f"Number({STAGE}?.dataset.position) > {before}")
            shown.append(browser.run(_SHOWN))
        finally:
            server.close()
        browser.wait_for(
            "document.getElementById('status').textContent.includes('does not answer')"
        )
        server = ViewServer([tmp_path], "127.0.0.1", server.port)
        try:
            browser.wait_for("document.getElementById('status').textContent === ''")
            before = browser.run(f"Number({STAGE}?.dataset.position)")
            browser.wait_for(f"Number({STAGE}?.dataset.position) > {before}")
            shown.append(browser.run(_SHOWN))
        finally:
            server.close()

        # It is killed, and recovered; its own page stays as long as it is open.
        browser.call("Page.navigate", url=address)
        browser.wait_for(f"Number({STAGE}?.dataset.captured) > 0")
        browser.wait_for("document.querySelector('.uplot') !== null")
        shown.append(step_back(browser))
        process.kill()
        process.wait()
        state_is(browser, "cut off")
        subprocess.run(
            [sys.executable, "-m", "dgrec", "recover", "s.arrows"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        state_is(browser, "sealed")
        press(browser, "End")
        numbers = picture_numbers(tmp_path / "s.parquet")
        last = max(numbers)
        browser.wait_for(
            f"Number({STAGE}?.dataset.frame) >= {last}"
            " && !document.querySelector('#player[aria-busy]')"
        )
        assert not is_gone(address)
        browser.call("Page.navigate", url="about:blank")
        wait_until(lambda: is_gone(address), pause_s=0.2)

    for look in shown:
        assert look["number"] == numbers[look["frame"]], (look, shown)
    assert len({look["frame"] for look in shown}) > 3, shown
    assert [line for line in browser.console if "Uncaught" in line] == []

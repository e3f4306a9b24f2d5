"""Compares what the page shows with what was recorded: the row, its picture, its boxes."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dgrec

# isort: off
import cv2

# isort: on
import numpy as np

from tests.browser import Browser
from tests.replay.clips import HEIGHT, WIDTH, number_drawn, number_in
from tests.replay.viewing.numbered_sessions import numbers_of

__all__ = ["Recording", "ShownFrames", "recording_of"]

#: Of a browser that has no WebCodecs, as on http from another machine.
_WITHOUT_WEBCODECS = "delete window.VideoDecoder"
#: Writes a frame's number where the page does; what was there before it is returned.
_WRITE_FRAME = """(number => {
  const field = document.querySelector("input.frame");
  const before = field.value;
  field.value = number;
  return before;
})"""
_CHECK = Path(__file__).with_name("frame_check.js")


@dataclass(frozen=True)
class Recording:
    """What a numbered session holds."""

    name: str
    #: The number and the frame of each row.
    numbers: Sequence[int]
    frames: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)


def recording_of(path: Path) -> Recording:
    with dgrec.open(path) as session:
        frames = session.frames.column("frame").to_pylist()
        return Recording(path.stem, numbers_of(session), frames)


@dataclass
class ShownFrames:
    """Shows recordings on the page, and counts what was shown right and wrong.

    Args:
        url: The page's address, with its token.
    """

    browser: Browser
    url: str
    checked: int = 0
    #: Rows that were shown without a picture, and why.
    without_picture: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    ways: set[str] = field(default_factory=set)
    #: How many of what was checked were screenshots.
    screenshots: int = 0
    #: Rows shown while playing, and how many there were.
    played: int = 0
    played_of: int = 0

    def open(self, recording: Recording, position: int, decode: str) -> None:
        """Open the page by a link to a row.

        Args:
            decode: The way to have pictures; ``auto``: the best; ``plain``: without WebCodecs.
        """
        # Another hash alone would not load the page again.
        self.browser.call("Page.navigate", url="about:blank")
        self.browser.wait_for("location.href === 'about:blank'")
        link = self._link(recording, position, decode)
        script = _WITHOUT_WEBCODECS if decode == "plain" else ""
        added = self.browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)
        self.browser.call("Page.navigate", url=f"{self.url}#{link}")
        self.browser.wait_for("!!document.querySelector('.stage')")
        self.browser.call("Page.removeScriptToEvaluateOnNewDocument", **added)
        self.browser.run(_CHECK.read_text() + "; 0")
        self.browser.wait_for("frameCheck.isReady()")
        self._compare(recording, self._run("[frameCheck.look()]"), decode)
        assert self.browser.run("frameCheck.look().position") == position

    def look_at(self, recording: Recording, position: int) -> None:
        """Wait until a row is shown, and look."""
        shown = f"document.querySelector('.stage').dataset.position === '{position}'"
        busy = "document.getElementById('player').hasAttribute('aria-busy')"
        self.browser.wait_for(f"{shown} && !{busy}")
        self._compare(recording, self._run("[frameCheck.look()]"), "late")

    def step_and_jump(self, recording: Recording, decode: str, steps: int, seed: int = 0) -> None:
        """Step on and back, jump, and follow links, to ``steps`` rows."""
        places = list(self._places(recording, decode, steps, random.Random(seed)))
        self._compare(recording, self._run(f"frameCheck.visit({json.dumps(places)})"), decode)

    def take_screenshots(self, recording: Recording, decode: str, steps: int, seed: int) -> None:
        """Go to ``steps`` rows, and read what the screen shows: not what the page says."""
        places = [
            place
            for place in self._places(recording, decode, steps, random.Random(seed))
            if place[0] != "key" or place[1] in ("Home", "End", ".", ",", ">")
        ]
        for place in places:
            self._run(f"frameCheck.visit({json.dumps([place])})")
            self._look_at_screen(recording, place[2], decode)

    def _look_at_screen(self, recording: Recording, at: int, decode: str) -> None:
        image = cv2.resize(self._pixels_of(".stage"), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        field = self._pixels_of("input.frame")
        number = recording.frames[at]
        # The field as it was, and as it looks with the number that it should have.
        before = self.browser.run(f"{_WRITE_FRAME}('{number}')")
        right = self._pixels_of("input.frame")
        self.browser.run(f"{_WRITE_FRAME}({json.dumps(before)})")
        is_same = np.array_equal(field, right)
        if not is_same:  # a busy browser may not have painted it yet
            is_same = np.array_equal(self._pixels_of("input.frame"), right)
        found = _picture_number(image), number_drawn(image.max(axis=2)), is_same
        expected: tuple[Any, ...] = recording.numbers[at], recording.numbers[at], True
        if self.browser.run("frameCheck.look().why"):  # there is no picture
            found, expected = found[1:], expected[1:]
        self.checked += 1
        self.screenshots += 1
        if found != expected:
            self.wrong.append(
                f"{recording.name} by {decode}: the screen shows {found} (the picture, the boxes, "
                f"whether the frame is {number}), but expected is {expected}"
            )

    def _pixels_of(self, selector: str) -> Any:
        box = self.browser.run(
            f"(({{x, y, width, height}}) => ({{x, y, width, height, scale: 1}}))"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        data = self.browser.call("Page.captureScreenshot", format="png", clip=box)["data"]
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return image

    def play(self, recording: Recording, decode: str, speed: float) -> None:
        """Play it from beginning to end."""
        seen = self._run(f"frameCheck.play({speed}, {len(recording) - 1})")
        self._compare(recording, seen, decode)
        self.played += len({each["position"] for each in seen})
        self.played_of += len(recording)

    def _places(
        self, recording: Recording, decode: str, steps: int, chance: random.Random
    ) -> Iterator[tuple[str, str, int]]:
        last = len(recording) - 1
        at = 0
        yield "key", "Home", 0
        while steps > 0:
            kind = chance.choice(["on", "on", "back", "seek", "link", "ten"])
            if kind in ("on", "back", "ten"):
                key, by = {"on": (".", 1), "back": (",", -1), "ten": (">", 1)}[kind]
                for _ in range(min(steps, chance.randint(2, 6))):
                    if not 0 <= at + by <= last:
                        break
                    at += by
                    steps -= 1
                    yield "key", key, at
            else:
                at = chance.randint(0, last)
                steps -= 1
                yield kind, str(at) if kind == "seek" else self._link(recording, at, decode), at
        yield "key", "End", last

    def _link(self, recording: Recording, position: int, decode: str) -> str:
        forced = "" if decode in ("auto", "plain") else f"&decode={decode}"
        return f"s={quote(recording.name)}&f={recording.frames[position]}{forced}"

    def _run(self, script: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.browser.run(script)
        return found

    def _compare(self, recording: Recording, seen: Sequence[dict[str, Any]], decode: str) -> None:
        for shown in seen:
            at = shown["position"]
            expected = recording.numbers[at], recording.frames[at]
            self.checked += 1
            if shown["picture"] is not None:
                self.ways.add(shown["way"])
            if shown["picture"] is None and shown["why"]:
                self.without_picture[f"{recording.name}: {shown['why']}"] += 1
                expected = None, *expected
            else:
                expected = recording.numbers[at], *expected
            found = shown["picture"], shown["boxes"], shown["frame"]
            if found != expected:
                self.wrong.append(f"{recording.name} by {decode}: {expected}, but {shown}")


def _picture_number(image: Any) -> int | None:
    try:
        return number_in(image)
    except AssertionError:
        return None

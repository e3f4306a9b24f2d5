"""Two recordings side by side on the page, in Chromium: pictures, marks, counts, links."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.replay.viewing.pairs import GROUPS
from dgrec.replay.viewing.server import ViewServer
from tests.browser import Browser, needs_chromium
from tests.factory import make_row, new_metadata, write_session
from tests.recorder.doubles import PysdkDouble
from tests.replay.clips import numbered_results, write_clip
from tests.replay.viewing.numbered_sessions import NumberReader, recorded

_FRAMES, _EVERY = 120, 2

#: Reads the number in the picture of both sides from their pixels; null: there is none.
_LOOK = """
(() => {
  const BITS = 12, BLOCK = 24;
  const numberIn = (stage) => {
    const context = stage.querySelector("canvas.picture").getContext("2d");
    const bits = (top) => [...Array(BITS).keys()].reduce((sum, bit) => {
      const { data } = context.getImageData(bit * BLOCK + 11, top + 11, 3, 3);
      return sum + (data[0] + data[1] + data[2] > 300 ? 2 ** bit : 0);
    }, 0);
    const number = bits(0);
    return (number ^ bits(BLOCK)) === 2 ** BITS - 1 ? number : null;
  };
  const [a, b] = document.querySelectorAll(".stage");
  return [a, b].map((stage) => [numberIn(stage), Number(stage.dataset.frame)]);
})()
"""
_IS_AT = """
(() => {
  const [a, b] = document.querySelectorAll(".stage");
  return b?.dataset.of === "%d" && a.dataset.position === "%d"
    && !document.getElementById("player").hasAttribute("aria-busy");
})()
"""


def _altered(number: int) -> list[dict[str, Any]]:
    """Return the boxes with another label, or without the first one."""
    found = numbered_results(number)
    if number % 10 == 4:
        found[-1]["label"] = "other"
    return found[1:] if number % 14 == 6 else found


class _OtherReader(NumberReader):
    """Finds something else in some of the pictures."""

    def __init__(self) -> None:
        super().__init__()
        numbers = self._numbers
        PysdkDouble.__init__(
            self,
            "Detection",
            lambda index: _altered(numbers[index]),
            line_width=9,
            show_labels=False,
            show_probabilities=False,
        )
        self._numbers = numbers


@dataclass
class Shown:
    browser: Browser
    url: str
    a: Path
    b: Path

    def open(self, fragment: str) -> None:
        self.browser.call("Page.navigate", url="about:blank")
        self.browser.call("Page.navigate", url=f"{self.url}#{fragment}")
        self.browser.wait_for(
            "document.readyState === 'complete' && !!document.querySelector('#list')"
        )

    def press(self, key: str) -> None:
        self.browser.run(
            f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}, "
            "bubbles: true, cancelable: true}))"
        )

    def look_at(self, position: int) -> list[list[Any]]:
        self.browser.wait_for(_IS_AT % (position, position))
        found: list[list[Any]] = self.browser.run(_LOOK)
        return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("pair")
    source = write_clip(folder / "source.mp4", _FRAMES, b_frames=2)
    a = recorded(source, folder / "a.parquet", video="raw")
    b = folder / "b.parquet"
    choices: dict[str, Any] = {"video": "raw", "every": _EVERY}
    assert sum(1 for _ in dgrec.predict_stream(_OtherReader(), source, output=b, **choices)) > 50
    server = ViewServer([folder], "127.0.0.1", 0)
    try:
        with Browser(tmp_path_factory.mktemp("browser"), width=1300, height=1000) as browser:
            yield Shown(browser, server.url, a, b)
    finally:
        server.close()


@needs_chromium
@pytest.mark.slow
def test_both_pictures_show_the_same_frame_of_the_source(shown: Shown) -> None:
    browser = shown.browser
    shown.open("s=a&b=b&f=20")
    assert shown.look_at(20) == [[20, 20], [20, 10]]
    checked = 0
    for position in random.Random(3).sample(range(0, _FRAMES, _EVERY), 40):
        browser.run(
            f"(() => {{ const seek = document.querySelector('.seek'); seek.value = {position};"
            "seek.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        assert shown.look_at(position) == [[position] * 2, [position, position // _EVERY]]
        checked += 1
    shown.press("Home")
    shown.look_at(0)
    for position in range(1, 24):  # every second one is not in B
        shown.press(".")
        left, right = shown.look_at(position)
        assert left == [position, position]
        assert right == ([None, -1] if position % _EVERY else [position, position // _EVERY])
        checked += position % _EVERY == 0
    assert checked > 50
    # While it plays, both show one frame at any time.
    seen = browser.run(
        f"""(async () => {{
          const seen = [];
          document.body.dispatchEvent(new KeyboardEvent("keydown", {{key: " ", bubbles: true}}));
          while (seen.length < 30) {{
            await new Promise((resolve) => requestAnimationFrame(resolve));
            seen.push({_LOOK.strip()});
          }}
          document.body.dispatchEvent(new KeyboardEvent("keydown", {{key: "k", bubbles: true}}));
          return seen;
        }})()"""
    )
    pairs = [(left[0], right[0]) for left, right in seen if right[0] is not None]
    assert len({left for left, _ in pairs}) > 1
    assert [left for left, _ in pairs] == [right for _, right in pairs]


@needs_chromium
@pytest.mark.slow
def test_an_overlay_that_comes_late_leaves_the_other_picture(shown: Shown) -> None:
    browser = shown.browser
    shown.open("s=a&b=b&f=0")
    shown.look_at(0)
    browser.run(
        """(() => {
          const { fetch } = window;
          window.late = new Promise((resolve) => { window.give = resolve; });
          window.fetch = async (url, ...rest) => {
            if (String(url).includes("/overlay?s=a")) await window.late;
            return fetch(url, ...rest);
          };
        })()"""
    )
    browser.run(
        "(() => { const seek = document.querySelector('.seek'); seek.value = 100;"
        "seek.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    side = "document.querySelector('.stage.side-b')"
    browser.wait_for(f"{side}.dataset.of === '100'")
    browser.run("window.give()")
    assert shown.look_at(100) == [[100, 100], [100, 50]]


@needs_chromium
@pytest.mark.slow
def test_each_picture_has_its_own_shape(shown: Shown, tmp_path: Path) -> None:
    browser = shown.browser
    with dgrec.open(shown.a) as session:
        source = session.metadata["source"]
    for name, height in (("a", 144), ("c", 288)):
        rows = [make_row(i, [], source_frame=i, width=288, height=height) for i in range(3)]
        metadata = new_metadata(source={**source, "width": 288, "height": height})
        write_session(tmp_path / f"{name}.parquet", rows, metadata)
    server = ViewServer([tmp_path], "127.0.0.1", 0)
    try:
        for pair in ("s=a&b=c", "s=c&b=a"):
            Shown(browser, server.url, shown.a, shown.b).open(f"{pair}&f=1")
            browser.wait_for(_IS_AT % (1, 1))
            shapes = browser.run(
                "[...document.querySelectorAll('.stage')].map((stage) => {"
                "const { width, height } = stage.querySelector('canvas.picture');"
                "return [stage.clientWidth / stage.clientHeight, width / height]; })"
            )
            assert shapes[0][1] != shapes[1][1]
            for on_page, in_pixels in shapes:
                assert on_page == pytest.approx(in_pixels, rel=0.01)
    finally:
        server.close()


@needs_chromium
@pytest.mark.slow
def test_differences_are_counted_marked_and_found(shown: Shown) -> None:
    browser = shown.browser
    comparison = dgrec.compare(shown.a, shown.b)
    agreement = comparison.agreement
    assert agreement is not None
    shown.open("s=a&b=b&f=0")
    browser.wait_for("document.getElementById('pair-top').dataset.state === 'done'")
    counts = browser.run(
        "Object.fromEntries([...document.querySelectorAll('.diff-legend [data-group]')]"
        ".map((row) => [row.dataset.group, Number(row.cells[2].textContent)]))"
    )
    expected = {group: sum(agreement.counts[kind] for kind in of) for group, of in GROUPS.items()}
    assert counts == {"same": agreement.counts["same"], **expected}
    assert min(counts["label"], counts["only_a"]) > 0
    top = browser.run("document.getElementById('pair-top').textContent")
    assert f"{agreement.f1:.4f}" in top
    browser.wait_for("document.querySelector('[data-lane=differences]')?.hidden === false")
    lane = browser.run("document.querySelector('[data-lane=differences] b').textContent")
    changed = [n for n in range(0, _FRAMES, _EVERY) if _altered(n) != numbered_results(n)]
    assert int(lane) == len(changed) == agreement.frames - agreement.same_frames

    shown.look_at(0)
    for position in changed[:6]:
        shown.press("n")
        assert shown.look_at(position)[1][0] == position
        listed = browser.run("[...document.querySelectorAll('.diff-list tbody tr')].length")
        labels = [found["label"] for found in _altered(position)]
        left_out = len(numbered_results(position)) - len(labels)
        assert listed == labels.count("other") + left_out
    shown.press("p")
    shown.look_at(changed[4])
    browser.wait_for(f"location.hash === '#s=a&b=b&f={changed[4]}'")
    # The one is the other.
    shown.press("x")
    browser.wait_for(f"location.hash === '#s=b&b=a&f={changed[4] // _EVERY}'")
    at = changed[4]
    assert shown.look_at(at // _EVERY) == [[at, at // _EVERY], [at, at]]
    # Statements of the other tests may follow.
    assert [text for text in browser.console if "Error" in text] == []


@needs_chromium
@pytest.mark.slow
def test_two_of_the_list_are_compared_and_what_cannot_be_is_said(shown: Shown) -> None:
    browser = shown.browser
    shown.open("")
    browser.wait_for("document.querySelectorAll('[data-choose]').length === 2")
    assert browser.run("document.querySelector('.list-compare').disabled")
    browser.run("['b', 'a'].forEach((s) => document.querySelector(`[data-choose=${s}]`).click())")
    browser.run("document.querySelector('.list-compare').click()")
    browser.wait_for("location.hash.startsWith('#s=b&b=a')")
    assert shown.look_at(0) == [[0, 0], [0, 0]]
    shown.open("s=a&b=nothing")
    browser.wait_for("document.getElementById('status').textContent.includes(\"'nothing'\")")


@needs_chromium
@pytest.mark.slow
def test_a_link_restores_what_one_sees_and_runs_nothing(shown: Shown) -> None:
    """A statement of a link is somebody else's: it waits, and runs again once it was run here."""
    browser = shown.browser
    link = (
        "s=a&f=30&d=1&w=1-3.5&m=1.2-2&hide=none&score=0.25&where=score%20%3E%200.4"
        "&q=SELECT%20frame%20FROM%20frames%20WHERE%20frame%20%3C%205"
    )
    del browser.requests[:]
    shown.open(link)
    browser.wait_for("document.querySelector('.stage')?.dataset.position === '30'")
    browser.wait_for("document.querySelector('.sql-status')?.textContent.includes('link')")
    assert browser.run("document.querySelector('.sql-text').value").startswith("SELECT frame")
    assert browser.run("document.querySelector('.where-text').value") == "score > 0.4"
    assert browser.run("document.querySelector('.line-window').textContent").startswith("0:01.000")
    assert not browser.run("document.querySelector('.line-marked').hidden")
    # Writing the address anew loses nothing of it.
    shown.press(".")
    browser.wait_for("location.hash.includes('f=31')")
    written = browser.run("location.hash")
    for part in ("w=1-3.5", "m=1.2-2", "hide=none", "score=0.25", "where=score", "q=SELECT"):
        assert part in written
    assert not [url for url in browser.requests if "/api/sql" in url or "/api/matches" in url]

    browser.run("document.querySelector('.sql-bar .primary').click()")
    browser.wait_for("document.querySelector('.sql-status')?.textContent.startsWith('5 rows')")
    browser.wait_for("location.hash.includes('q=SELECT')")
    browser.call("Page.reload")
    browser.wait_for("document.querySelector('.sql-status')?.textContent.startsWith('5 rows')")


_ROWS_OF_B_FAIL = """
(() => {
  const real = window.fetch;
  [window.isFailing, window.failed] = [true, 0];
  window.fetch = (url, ...rest) => {
    const isOfB = /api\\/rows\\?(.*&)?s=b(&|$)/.test(String(url));
    if (!window.isFailing || !isOfB) return real(url, ...rest);
    window.failed++;
    return Promise.resolve(new Response('{"error": "it is gone"}', { status: 404 }));
  };
})()
"""


@needs_chromium
@pytest.mark.slow
def test_what_is_recorded_meanwhile_is_paired_and_shown(shown: Shown, tmp_path: Path) -> None:
    browser = shown.browser
    paired = "document.getElementById('player').dataset.paired"
    with contextlib.ExitStack() as stack:
        streams = [
            dgrec.predict_stream(NumberReader(), shown.a.with_name("source.mp4"), output=path)
            for path in (tmp_path / "a.parquet", tmp_path / "b.parquet")
        ]
        for stream, count in zip(streams, (60, 30), strict=True):
            stack.callback(stream.close)
            assert sum(1 for _ in itertools.islice(stream, count)) == count
        server = ViewServer([tmp_path], "127.0.0.1", 0)
        stack.callback(server.close)
        growing = Shown(browser, server.url, tmp_path / "a.parquet", tmp_path / "b.parquet")
        growing.open("s=a&b=b&f=0")
        browser.wait_for(f"Number({paired}) > 0")
        browser.run("window.isTheSame = true")
        begun = int(browser.run(paired))
        assert begun <= 30
        # B does not have the last frame of A yet.
        browser.wait_for("Number(document.querySelector('.seek').max) > 50")
        growing.press("End")
        browser.wait_for("Number(document.querySelector('.stage')?.dataset.position) > 50")
        at = int(browser.run("document.querySelector('.stage').dataset.position"))
        assert growing.look_at(at) == [[at, at], [None, -1]]
        # While B is sealed, its rows may not be there for a moment.
        browser.run(_ROWS_OF_B_FAIL)
        assert sum(1 for _ in streams[1]) == _FRAMES - 30
        browser.wait_for(f"Number({paired}) > {begun} && window.failed > 0")
        browser.run("window.isFailing = false")
        browser.wait_for(
            "document.querySelector('.stage.side-b')?.dataset.position === "
            "document.querySelector('.stage').dataset.position"
        )
        assert growing.look_at(at) == [[at, at], [at, at]]
        assert sum(1 for _ in streams[0]) == _FRAMES - 60
        browser.wait_for(f"{paired} === '{_FRAMES}'")
        browser.wait_for(f"document.querySelector('.seek').max === '{_FRAMES - 1}'")
        growing.press("End")
        assert growing.look_at(_FRAMES - 1) == [[_FRAMES - 1] * 2] * 2
        top = "document.getElementById('pair-top')"
        browser.wait_for(
            f"{top}.dataset.state === 'done' && !{top}.textContent.includes('goes on')"
        )
        assert browser.run("window.isTheSame")

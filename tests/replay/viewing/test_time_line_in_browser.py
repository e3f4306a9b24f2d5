"""The list, the time line, SQL and the commands of the page, in a real browser."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from PIL import Image

from dgrec.format import Signal
from dgrec.session import Session
from tests.browser import Browser, needs_chromium
from tests.factory import START_NS, make_detection, make_row, new_metadata, write_session
from tests.replay.viewing.client import Client, served
from tests.waiting import PATIENCE_S, wait_until

pytestmark = [needs_chromium, pytest.mark.slow]

MS = 1_000_000
FRAMES = 1200
#: A name that a shell would take apart.
NAME = "it's $HOME `gate` #1"
HOSTILE = "<b class=evil>bike</b><img src=x onerror='window.evil=1'>"
CAMERA = {"given": "rtsp://camera/1", "kind": "camera", "live": True, "width": 640, "height": 480}


def make_recordings(folder: Path) -> Path:
    """Write a session in which everything happens, one that is short, and files that are none."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    at, rows = START_NS, []
    for i in range(FRAMES):
        at += 33 * MS + int(rng.integers(0, 2 * MS)) + (6_000 * MS if i == 700 else 0)
        inference_ms = 6 + 2 * math.sin(i / 90) + (55 if i in (300, 900) else 0)
        labels = ["car"] * (i // 200 % 3) + ["person", HOSTILE][i % 2 :]
        rows.append(
            make_row(
                i,
                [make_detection(k, label=label) for k, label in enumerate(labels)],
                captured_ns=at,
                completed_ns=at + int((inference_ms + 4) * MS),
                timing={"CoreInferenceDuration_ms": inference_ms},
                dropped_queue=4 if i == 500 else 0,
                signals=[Signal(HOSTILE, at, 40 + i / 100)] if i % 30 == 0 else [],
            )
        )

    def stamp(i: int) -> str:
        return dt.datetime.fromtimestamp(rows[i].captured_ns / 1e9, dt.UTC).isoformat()

    events: list[dict[str, Any]] = [
        {"kind": "mark", "at": stamp(150), "text": HOSTILE + "\x1b[31m" + "x" * 10**6},
        {"kind": "alert", "from": stamp(600), "at": stamp(610), "text": "crowd",
         "rule": "count('car') > 1", "source_frame": 610},
    ]  # fmt: skip
    metadata = new_metadata(NAME, source=CAMERA, events=events)
    path = write_session(folder / f"{NAME}.parquet", rows, metadata)
    write_session(folder / "yard.parquet", rows[:40], new_metadata(started_at=stamp(0)))
    (folder / "broken.parquet").write_bytes(path.read_bytes()[:9000])
    (folder / "<i>notes.parquet").write_text("these are notes")
    return path


class Page:
    """What a person does on the page, and sees."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.run, self.wait_for = browser.run, browser.wait_for

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)"
        )
        return found

    def type(self, selector: str, text: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.key("Delete", code=46)
        self.browser.call("Input.insertText", text=text)

    def key(self, key: str, *, code: int = 0, modifiers: int = 0) -> None:
        plain = {"text": key} if len(key) == 1 and not modifiers & 2 else {}
        for kind in ("keyDown", "keyUp"):
            self.browser.call(
                "Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers,
                windowsVirtualKeyCode=code, **(plain if kind == "keyDown" else {}),
            )  # fmt: skip

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        held = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held, **more)

    def click(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def drag(self, x1: float, x2: float, y: float, *, modifiers: int = 0) -> None:
        self.mouse("mouseMoved", x1, y, modifiers=modifiers)
        self.mouse("mousePressed", x1, y, modifiers=modifiers)
        for x in (x1 + (x2 - x1) / 2, x2):
            self.mouse("mouseMoved", x, y, modifiers=modifiers, button="left")
        self.mouse("mouseReleased", x2, y, modifiers=modifiers)

    def box(self, selector: str) -> dict[str, float]:
        """Return where an element is on the screen, and bring it there."""
        found: dict[str, float] = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'});"
            "const {left, top, width, height} = e.getBoundingClientRect();"
            "return {left, top, width, height}; })()"
        )
        return found

    def hash(self) -> dict[str, str]:
        found: dict[str, str] = self.run(
            "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
        )
        return found

    def wait_for_frame(self, frame: int) -> None:
        self.wait_for(f"document.querySelector('.stage').dataset.frame === '{frame}'")

    def wait_for_hash(self, text: str) -> None:
        self.wait_for(f"location.hash.includes({json.dumps(text)})")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("recorded") / "recordings")


@pytest.fixture(scope="module")
def client(recorded: Path) -> Iterator[Client]:
    with served(recorded.parent) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Browser(tmp_path_factory.mktemp("page") / "chromium", width=1200, height=1000) as browser:
        browser.call("Page.navigate", url=client.server.url)
        browser.wait_for("location.protocol === 'http:' && document.readyState === 'complete'")
        yield Page(browser)
        wrong = [
            line for line in browser.console if not re.search(r"status of (404|422|503)", line)
        ]
        assert wrong == []
        assert browser.run("window.evil === undefined && !document.querySelector('.evil, i > img')")


def open_session(page: Page, more: str = "") -> None:
    page.run("location.hash = ''")
    page.wait_for("document.querySelector('#list tbody tr') !== null")
    hash_ = f"#s={NAME.replace('%', '%25').replace('#', '%23').replace(' ', '%20')}{more}"
    page.run(f"location.hash = {json.dumps(hash_)}")
    page.wait_for("document.querySelector('#timeline').dataset.drawn !== undefined")
    page.wait_for("document.querySelector('.stage')?.dataset.frame !== undefined")


def test_the_list(page: Page) -> None:
    page.wait_for("document.querySelectorAll('#list tbody tr').length === 4")
    names = page.texts("#list .list-name > :first-child")
    assert sorted(names) == sorted(["<i>notes", "broken", NAME, "yard"])
    assert set(page.texts("#list .list-state")) == {"sealed", "damaged", "not a session"}
    assert len(page.texts("#list .list-problem")) == 2
    cells = page.texts("#list tbody tr:has(a) .list-frames")
    assert sorted(cells) == ["1,200", "40"]
    # Sorted by a column, up and down.
    for expected in (["40", "1,200"], ["1,200", "40"]):
        page.run("document.querySelector('[data-key=frames] button').click()")
        assert [c for c in page.texts("#list .list-frames") if c != "\u2013"] == expected
    # Filtered by text, and by SQL.
    page.type(".list-text", "yard")
    page.wait_for("document.querySelectorAll('#list tbody tr').length === 1")
    page.type(".list-text", "")
    page.wait_for("document.querySelectorAll('#list tbody tr').length === 4")
    page.type(".list-where", "frames > 100")
    page.wait_for("document.querySelectorAll('#list tbody tr').length === 1")
    assert page.texts("#list a[data-s]") == [NAME]
    page.type(".list-where", "nonsense > 1")
    page.wait_for("document.querySelector('.list-status')?.textContent.includes('nonsense')")
    page.type(".list-where", "")
    page.wait_for("document.querySelectorAll('#list tbody tr').length === 4")
    # By keys.
    page.run("document.activeElement.blur()")
    page.key("ArrowDown", code=40)
    page.wait_for(f"document.activeElement.dataset.s === {json.dumps(NAME)}")
    page.key("Enter", code=13)
    page.wait_for("document.body.dataset.view === 'session'")


def test_the_time_line(page: Page, recorded: Path) -> None:
    with Session(recorded) as session:
        table = session.frames
        us = table.column("captured_at").cast("int64").to_numpy()
        t = (us - us[0]) / 1e6
        latency = table.column("latency_ms").to_numpy()
    open_session(page)
    area = page.box(".ruler")
    end = float(page.run("document.querySelector('#timeline').dataset.drawn").split("-")[1])
    y = page.box(".row")["top"] + 50

    def x(second: float) -> float:
        return area["left"] + second / end * area["width"]

    # A click goes to the frame, and the values are its own.
    for frame in (200, 1000):
        page.click(x(t[frame]), y)
        page.wait_for("document.querySelector('.line-cursor').hidden === false")
        page.wait_for(f"Math.abs(document.querySelector('.stage').dataset.frame - {frame}) <= 2")
        shown = int(page.run("document.querySelector('.stage').dataset.frame"))
        page.mouse("mouseMoved", 5, 5)
        page.wait_for(
            f"document.querySelector('#timeline').dataset.position === '{float(t[shown])!r}'"
        )
        assert float(page.texts(".legend-item b")[0]) == pytest.approx(latency[shown], abs=0.05)
        page.wait_for_hash(f"f={shown}")
        cursor = page.run("document.querySelector('.line-cursor').getBoundingClientRect().left + 1")
        assert cursor == pytest.approx(x(t[shown]), abs=1)
    # Hovering says what there is at a place: the peak of frame 300.
    peaks = []
    for beside in (-1, 0, 1):
        page.mouse("mouseMoved", x(t[300]) + beside, y)
        page.wait_for("!document.querySelector('.line-hint').hidden")
        peaks += [float(n) for n in re.findall(r"[\d.]+", page.texts(".legend-item b")[0])]
    assert max(peaks) == pytest.approx(latency[300], abs=0.05)
    # Lanes have what stands out, which comes after the lines.
    page.wait_for("document.querySelector('.lane[data-lane=drops] b').textContent === '4'")
    counts = dict(zip(page.texts(".lane-name span"), page.texts(".lane-name b"), strict=True))
    assert counts["drops"] == "4"
    assert counts["gaps"] == counts["events"] == counts["alerts"] == "1"
    assert int(counts["late"]) == 2
    lane = page.box(".lane[data-lane=events]")
    page.mouse("mouseMoved", x(t[150]), lane["top"] + 9)
    page.wait_for(
        "document.querySelector('.line-hint').textContent.includes('mark: <b class=evil')"
    )
    page.click(x(t[150]), lane["top"] + 9)
    page.wait_for("Math.abs(document.querySelector('.stage').dataset.frame - 150) <= 1")
    # From mark to mark by keys, and by the name of a lane.
    page.key("n", code=78)
    page.wait_for_frame(300)
    page.key("p", code=80)
    page.wait_for("Math.abs(document.querySelector('.stage').dataset.frame - 150) <= 1")
    page.run("document.querySelector('.lane[data-lane=drops] button').click()")
    page.wait_for_frame(500)
    # A stretch drawn with the mouse is shown; its lines are those of the stretch.
    y = page.box(".row")["top"] + 50
    page.drag(x(5), x(10), y)
    page.wait_for_hash("w=")
    begin, until = map(float, page.hash()["w"].split("-"))
    assert (begin, until) == pytest.approx((5, 10), abs=0.1)
    page.wait_for(
        f"document.querySelector('#timeline').dataset.drawn.split('-')[0] > {begin} - 0.01"
    )
    page.wait_for("!document.querySelector('.minimap').hidden")
    # Of a frame elsewhere, only its own values are said.
    page.mouse("mouseMoved", 5, 5)
    page.key("End", code=35)
    page.wait_for_frame(len(t) - 1)
    rate = (
        "[...document.querySelectorAll('.legend-item')]"
        ".find((each) => each.textContent.startsWith('rate'))"
    )
    page.wait_for("document.querySelector('.line-cursor').hidden")
    page.wait_for(f"{rate}.querySelector('b').textContent === '\u2013'")
    assert float(page.texts(".legend-item b")[0]) == pytest.approx(latency[-1], abs=0.05)
    # The wheel, keys, and all of it again.
    page.mouse("mouseMoved", area["left"] + 300, y)
    before = page.hash()["w"]
    page.browser.call(
        "Input.dispatchMouseEvent", type="mouseWheel", x=area["left"] + 300, y=y, deltaX=0,
        deltaY=-120,
    )  # fmt: skip
    page.wait_for(f"!location.hash.includes({json.dumps(before)})")
    begin, until = map(float, page.hash()["w"].split("-"))
    assert until - begin < 4.9
    page.key("o", code=79)
    page.wait_for(f"!location.hash.includes('w={begin:g}-')")
    page.key("a", code=65)
    page.wait_for("!location.hash.includes('w=')")


def test_the_marked_part_as_commands(
    page: Page, recorded: Path, tmp_path: Path, dgrec: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    open_session(page)
    area = page.box(".ruler")
    y = page.box(".row")["top"] + 50
    page.drag(area["left"] + 200, area["left"] + 400, y, modifiers=8)  # with Shift
    page.wait_for_hash("m=")
    page.wait_for("document.querySelectorAll('.range-command code').length === 3")
    commands = page.texts(".range-command code")
    (words,) = page.texts(".range-words")
    count = int(words.split(", ")[-1].split()[0])
    assert 150 < count < 300
    monkeypatch.chdir(tmp_path)
    outputs = [run_command(command, dgrec) for command in commands]
    assert pq.ParquetFile(outputs[0]).metadata.num_rows == count
    assert len(json.loads(outputs[1].read_text())["images"]) == count
    with Image.open(outputs[2]) as sheet:
        assert sheet.width > 100
    # Or made by the server.
    saved = tmp_path / "saved"
    page.browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
    page.run(
        "(() => { const note = document.querySelector('.range-note'); window.notes = [];"
        "new MutationObserver(() => notes.push(note.textContent))"
        ".observe(note, { childList: true }); })()"
    )
    # While it makes one thing, it refuses another: that which comes later.
    for name in ("clip", "png"):
        page.run(f"document.querySelector('[data-command={name}] .download').click()")
    # (Until it is whole, the browser gives it a further suffix.)
    wait_until(lambda: any([*saved.glob("*.parquet"), *saved.glob("*.png")]))
    assert any("something else is being made" in text for text in page.run("window.notes"))
    (made,) = [*saved.glob("*.parquet"), *saved.glob("*.png")]
    if made.suffix == ".png":
        page.run("document.querySelector('[data-command=clip] .download').click()")
        wait_until(lambda: any(saved.glob("*.parquet")))
    (clip,) = saved.glob("*.parquet")
    assert pq.read_table(clip).equals(pq.read_table(outputs[0]))
    # Another format of the export.
    page.run(
        "(() => { const s = document.querySelector('.range-command select'); s.value = 'csv';"
        "s.dispatchEvent(new Event('change')); })()"
    )
    (command,) = page.texts("[data-command=export] code")
    assert run_command(command, dgrec).suffix == ".csv"
    page.key("\\", code=220)
    page.wait_for("document.querySelector('.range-panel').hidden")


def run_command(command: str, dgrec: Callable[..., Result]) -> Path:
    """Run a command as a shell would split it; return its output."""
    arguments = split(command)
    result = dgrec(*arguments[1:])
    assert result.exit_code == 0, (command, result.output)
    return Path(arguments[arguments.index("-o") + 1])


def split(command: str) -> list[str]:
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", f"printf '%s\\0' {command}"],
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return done.stdout.decode(errors="surrogateescape").split("\0")[:-1]


def test_sql(page: Page, recorded: Path, dgrec: Callable[..., Result]) -> None:
    open_session(page)
    page.key("/", code=191)
    page.wait_for("document.activeElement.classList.contains('sql-text')")
    statement = (
        'SELECT label, frame, latency_ms AS "it\'s" FROM detections\n'
        "WHERE score > 0.1 -- all $HOME\nORDER BY latency_ms DESC, detection"
    )
    page.type(".sql-text", statement)
    page.key("Enter", code=13, modifiers=2)
    page.wait_for("document.querySelectorAll('.answer tbody tr[data-row]').length > 5")
    rows = page.texts(".answer tbody tr[data-row='0'] td")
    assert int(rows[1]) in (300, 900)
    assert page.run("document.querySelectorAll('.answer tbody tr').length") < 100
    assert page.texts(".answer thead th.number") == ["frame", "it's"]
    total = int(page.texts(".sql-status")[0].split()[0].replace(",", ""))
    assert total > FRAMES
    # All rows can be reached.
    page.run("document.querySelector('.answer-scroll').scrollTop = 1e7")
    page.wait_for(f"document.querySelector('[data-row=\"{total - 1}\"]') !== null")
    page.run("document.querySelector('.answer-scroll').scrollTop = 0")
    page.wait_for("document.querySelector('[data-row=\"0\"]') !== null")
    # A row leads to its frame, also by keys, and the time line shows them.
    page.run("document.querySelector('[data-row=\"0\"] td').click()")
    page.wait_for_frame(int(rows[1]))
    page.run("document.querySelector('.answer-scroll').focus()")
    for _ in range(3):
        page.key("ArrowDown", code=40)
    page.wait_for("document.querySelector('.answer .current')?.dataset.row === '3'")
    page.wait_for_frame(int(page.texts("[data-row='3'] td")[1]))
    page.wait_for("!document.querySelector('.lane[data-lane=found]').hidden")
    # The command gives the same.
    (command,) = page.texts(".sql-command code")
    arguments = split(command)
    assert arguments[:2] == ["dgrec", "query"]
    assert arguments[-1] == statement
    result = dgrec(*arguments[1:], "--format", "csv")
    assert result.output.splitlines()[1].split(",")[-2] == rows[1]
    # What fails says so in one line, and is no trap.
    for text, reason in (("SELECT nothing", "nothing"), ("COPY frames TO 'x'", "COPY is refused")):
        page.type(".sql-text", text)
        page.key("Enter", code=13, modifiers=2)
        page.wait_for(
            "document.querySelector('.sql-status.wrong')?.textContent"
            f".includes({json.dumps(reason)})"
        )
        assert page.run("document.querySelector('.answer') === null")
    # What was run before comes back.
    page.key("ArrowUp", code=38, modifiers=1)
    page.key("ArrowUp", code=38, modifiers=1)
    page.wait_for(f"document.querySelector('.sql-text').value === {json.dumps(statement)}")


def test_questions_findings_and_conditions(page: Page, client: Client) -> None:
    open_session(page)
    page.wait_for("document.querySelectorAll('.question').length > 20")
    page.run(
        "[...document.querySelectorAll('.question-name')]"
        ".find((e) => e.textContent === 'late frames').click()"
    )
    page.wait_for("document.querySelectorAll('.answer tbody tr[data-row]').length === 2")
    page.wait_for_hash("q=SELECT")
    definitions = page.texts(".question-sql")
    assert any(text.startswith("CREATE MACRO late_frames") for text in definitions)
    page.run("document.querySelector('#why').open = true")
    page.wait_for("document.querySelectorAll('.why-table').length === 2")
    assert sorted(_names_of_tables(page.browser)) == [
        "Answer",
        "How busy each stage was",
        "Stages, ms",
    ]
    found = client.json("/api/why", s=NAME)
    assert page.texts(".why-findings li") == found["findings"]
    assert (
        page.texts(".why-table:last-child tbody tr:first-child > *")
        == found["tables"][1]["rows"][0]
    )
    # A condition on detections decides what is drawn; or why it is none.
    drawn = (
        "(() => { const c = document.querySelector('.stage .overlay');"
        "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d');"
        "copy.drawImage(c, 0, 0);"
        "return copy.getImageData(0, 0, c.width, c.height).data.some((v) => v); })()"
    )
    page.wait_for(drawn)
    page.type(".where-text", "label = 'car' AND nonsense")
    page.wait_for("document.querySelector('.where-status')?.textContent.includes('nonsense')")
    page.type(".where-text", "label = 'car'")
    page.wait_for("document.querySelector('.where-status')?.textContent === ''")
    page.wait_for_hash("where=label")
    page.wait_for(f"!{drawn}")  # the first frame has no car
    page.type(".where-text", "label = 'person'")
    page.wait_for(drawn)


def _names_of_tables(browser: Browser) -> list[str]:
    """Return what screen readers call the tables of the page."""
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    tables = [node for node in nodes if node.get("role", {}).get("value") == "table"]
    return [node["name"]["value"] for node in tables]


def test_a_link_brings_all_of_it_back(page: Page) -> None:
    statement = 'SELECT frame, 1 AS "<b>" FROM frames WHERE frame % 100 = 0'
    more = f"&f=450&w=10-20&m=12-13.5&where=score%20%3E%200.2&q={statement.replace(' ', '%20')}"
    open_session(page, more.replace("%20%%20", "%20%25%20"))
    page.wait_for_frame(450)
    # A statement of a link waits until somebody runs it.
    page.wait_for("document.querySelector('.sql-status')?.textContent.startsWith('from the link')")
    page.run("document.querySelector('.sql-bar .primary').click()")
    page.wait_for("document.querySelectorAll('.answer tbody tr[data-row]').length === 12")
    page.wait_for("document.querySelector('#timeline').dataset.drawn === '10-20'")
    page.wait_for("!document.querySelector('.range-panel').hidden")
    assert page.texts(".line-window") == ["0:10.000 \u2013 0:20.000"]
    assert page.run("document.querySelector('.where-text').value") == "score > 0.2"
    shown = page.hash()
    assert (shown["f"], shown["w"], shown["m"], shown["q"]) == (
        "450",
        "10-20",
        "12-13.5",
        statement,
    )


#: Which columns of the first chart have something in the color of a line, from its left edge on.
_COLUMNS = """(() => {
  const canvas = document.querySelector('.row-plot canvas');
  const {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  return Array.from({length: width}, (_, x) => {
    for (let y = 0; y < height; y++) {
      const [r, g, b, alpha] = data.slice(4 * (y * width + x), 4 * (y * width + x) + 4);
      if (alpha > 100 && Math.max(r, g, b) - Math.min(r, g, b) > 60) return 1;
    }
    return 0;
  });
})()"""


def test_lines_are_interrupted_by_gaps_alone(page: Page, tmp_path: Path) -> None:
    # A source that sends bursts, and nothing for four seconds.
    steps = np.array([*[12] * 10, 150] * 40)
    steps[220] = 4000
    at = START_NS + np.cumsum(steps) * MS
    rows = [
        make_row(i, captured_ns=int(ns), completed_ns=int(ns) + 12 * MS) for i, ns in enumerate(at)
    ]
    write_session(tmp_path / "bursts.parquet", rows, new_metadata(source=CAMERA))
    with served(tmp_path) as other:
        page.browser.call("Page.navigate", url=f"{other.server.url}#s=bursts")
        page.wait_for("document.querySelector('#timeline')?.dataset.drawn !== undefined")
        columns = np.array(page.run(_COLUMNS), bool)
        page.browser.call("Page.navigate", url="about:blank")
    line = np.flatnonzero(columns)
    empty = np.diff(line)
    assert len(line) > 500
    share = (empty.max() - 1) / (line[-1] - line[0])
    assert share == pytest.approx(4 / (steps.sum() / 1e3), abs=0.02)
    assert sorted(empty)[-2] < 3

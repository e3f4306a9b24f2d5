"""The page without a server: a folder that opens from a file and from any static host."""

from __future__ import annotations

import base64
import html
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

# isort: off
import cv2  # noqa: F401 - before PyAV, or windows hang (dgrec.video)
import av

# isort: on
import pytest
from click.testing import Result

from dgrec import Recorder, Session
from dgrec import open as dgrec_open
from dgrec.format import Signal
from dgrec.replay.query import SqlReader
from dgrec.replay.viewing.export import export_folder
from dgrec.replay.viewing.overlay import drawings
from dgrec.replay.viewing.values import plain
from tests.browser import Browser, needs_chromium
from tests.factory import make_detection, make_row, make_rows, new_metadata, write_session
from tests.replay.clips import (
    BITS,
    BLOCK,
    OVERLAY_TOP,
    number_drawn,
    number_in,
    numbered_image,
    write_clip,
)
from tests.replay.viewing.exported_pages import RangeHandler, go_to, open_url, shown_picture
from tests.replay.viewing.numbered_sessions import CASES, NumberReader, numbers_of, recorded
from tests.replay.viewing.test_series import series
from tests.waiting import PATIENCE_S
from tests.web_server import serving

#: H.264 at uneven times; Matroska, of which a copy is made; a camera's with a gap; a clip.
_KINDS = ("variable", "in-place", "dropped", "clipped")
_FRAMES = 40
HOSTILE = "</script><img src=x onerror=\"document.title='PWNED'\">"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for kind in _KINDS:
        CASES[kind](folder, _FRAMES)
    labels = [HOSTILE, *(f"label {number}" for number in range(14))]
    found = [make_detection(0, label=label) for label in labels]
    at = make_row(0).completed_ns
    signals = [Signal(f"signal {number}", at, float(number)) for number in range(14)]
    rows = [make_row(i, found, signals=signals) for i in range(12)]
    metadata = {**new_metadata(), "name": HOSTILE}
    write_session(folder / "a'<b>&#.parquet", rows, metadata)
    write_session(folder / "no-rows.parquet", [])
    return folder


@pytest.fixture(scope="module")
def exported(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "out"
    export_folder([recordings], folder)
    return folder


@pytest.fixture(scope="module")
def numbers(recordings: Path) -> Mapping[str, list[int]]:
    found = {}
    for kind in _KINDS:
        with dgrec_open(recordings / f"{kind}.parquet") as session:
            found[kind] = numbers_of(session)
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def wrong_frames(browser: Browser, numbers: Mapping[str, list[int]]) -> list[object]:
    """Go to frames of each session; return those whose picture or boxes are of another one."""
    chance, wrong, checked = random.Random(5), [], 0
    for session, known in numbers.items():
        # Ends and neighbours in both directions, then anywhere.
        frames = [0, 1, 2, 1, len(known) - 1, *chance.sample(range(len(known)), 9)]
        for frame in frames:
            go_to(browser, session, frame)
            picture = shown_picture(browser)
            shown = number_in(picture), number_drawn(picture[..., 2])
            checked += 1
            if shown != (known[frame], known[frame]):
                wrong.append((session, frame, known[frame], shown))
    assert checked == 14 * len(numbers) > 0
    return wrong


@needs_chromium
@pytest.mark.slow
def test_every_frame_from_a_file_and_from_a_static_host(
    browser: Browser, exported: Path, numbers: Mapping[str, list[int]]
) -> None:
    browser.open(exported / "index.html")
    assert wrong_frames(browser, numbers) == []
    assert browser.run("document.querySelector('#player').dataset.way") == "video"
    assert [url for url in browser.requests if not url.startswith("file:")] == []
    assert browser.console == []

    handler = type("Handler", (RangeHandler,), {"folder": exported})
    with serving(handler) as url:
        open_url(browser, f"{url}/index.html")
        assert wrong_frames(browser, numbers) == []
        assert browser.run("document.querySelector('#player').dataset.way") == "webcodecs"
        others = [each for each in browser.requests if not each.startswith(("file:", url, "blob:"))]
        assert others == []

    # Browsers seek by parts of a file, which Python's own server does not give.
    with serving(type("Plain", (RangeHandler,), {"folder": exported, "has_ranges": False})) as url:
        open_url(browser, f"{url}/index.html")
        browser.console.clear()
        assert wrong_frames(browser, {"variable": numbers["variable"]}) == []
        assert browser.run("document.querySelector('#player').dataset.way") == "video"
        assert browser.console == []


@needs_chromium
@pytest.mark.slow
def test_page_works_and_runs_nothing_of_a_session(browser: Browser, exported: Path) -> None:
    browser.open(exported / "index.html")
    browser.console.clear()
    browser.wait_for("document.querySelector('#list')?.textContent.includes('variable')")
    assert browser.run("document.querySelector('#list').textContent").count("<b>") >= 1
    browser.run("location.hash = '#s=' + encodeURIComponent(\"a'<b>&#\") + '&f=5'")
    browser.wait_for("document.querySelector('.stage')?.dataset.frame === '5'")
    browser.wait_for(f"document.body.textContent.includes({HOSTILE!r})")
    assert "no video" in browser.run("document.querySelector('.stage-note').textContent")
    # The time line is there, and a click on it leads to a frame.
    browser.wait_for("document.querySelectorAll('#timeline canvas').length > 0")
    # Only lines that are there are offered.
    menu = browser.run("document.querySelector('.line-menu').textContent")
    assert "label 6" in menu
    assert "label 7" not in menu
    assert "of 3 labels and 2 signals more: dgrec view" in menu
    # SQL needs a server, but for the questions of the library.
    browser.run("location.hash += '&q=SELECT%201'")
    browser.wait_for("document.querySelector('#sql')?.textContent.includes('needs dgrec')")
    # Those have their answers.
    browser.run(
        "[...document.querySelectorAll('#sql button')].find("
        "(button) => button.textContent === 'end to end latency').click()"
    )
    browser.wait_for("document.querySelector('#sql table')?.textContent.includes('p95')")
    # A name of any length has one line.
    browser.run("location.hash = '#s=' + 'x'.repeat(100000)")
    browser.wait_for("document.querySelector('#status')?.textContent.startsWith('there is no rec')")
    assert browser.run("document.querySelector('#status').getBoundingClientRect().width") > 300
    assert len(browser.run("document.querySelector('#status').textContent")) < 150
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    assert "PWNED" not in browser.run("document.title").replace(HOSTILE, "")
    assert browser.console == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("video", "codec"), [("annotated", "h264"), ("annotated", "h265"), ("none", "h264")]
)
def test_without_its_source_it_has_the_pictures_that_the_page_shows(
    video: str, codec: str, tmp_path: Path
) -> None:
    source = write_clip(tmp_path / "source.mp4", 12)
    recorded(source, tmp_path / "s.parquet", video=video, codec=codec)
    source.unlink()
    export_folder([tmp_path / "s.parquet"], tmp_path / "out")
    copies = [each.read_bytes() for each in (tmp_path / "out").rglob("*.mp4")]
    note = unpacked(tmp_path / "out/data/0/session.js")["card"]["picture_note"]
    if video == "annotated":
        kept = (tmp_path / "s.annotated.mp4").read_bytes()
        assert [each == kept for each in copies] == [codec == "h264"]
        assert note.startswith("filters do not hide what was drawn into the video")
    else:
        assert copies == []
        assert note == "no pictures: source.mp4 is not where it was"


@pytest.mark.slow
def test_it_has_names_of_recordings_and_no_folder_of_their_author(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        (tmp_path / "private" / day).mkdir(parents=True)
        write_session(tmp_path / "private" / day / "door.parquet", make_rows(9))
    places = [tmp_path / "private" / "monday", tmp_path / "private" / "tuesday"]
    # No command can name what was cut for the export.
    for start, path in ((None, "door.parquet"), ("2", "")):
        export_folder(places, tmp_path / "out", start=start, overwrite=True)
        data = tmp_path / "out" / "data"
        cards = [unpacked(data / folder / "session.js")["card"] for folder in "01"]
        assert [card["name"] for card in cards] == ["monday/door", "tuesday/door"]
        assert [card["path"] for card in cards] == [path] * 2
        for script in data.rglob("*.js"):
            assert str(tmp_path) not in json.dumps(unpacked(script)), script


@pytest.mark.slow
def test_folder_is_replaced_only_where_it_is_an_export(
    tmp_path: Path, dgrec: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = write_session(tmp_path / "s.parquet", make_rows(5))
    kept = session.read_bytes()
    output = tmp_path / "out"
    result = dgrec("view", session, "--export", output)
    assert result.exit_code == 0, result.output
    assert "s: 5 frames, 0." in result.output
    assert re.search(f"{output}: 0[.][3-9] MB; open {output / 'index.html'}", result.output)
    first = {path.name for path in output.rglob("*")}
    assert {"index.html", "page.js", "page.css", "NOTICE", "index.js", "rows-0.js"} <= first
    assert oct(output.stat().st_mode)[-3:] in ("755", "775")
    again = dgrec("view", session, "--export", output)
    assert again.exit_code == 1
    assert "exists already; choose another name or say --overwrite" in again.output
    (output / "data" / "index.js").write_text("old")
    assert dgrec("view", session, "--export", output, "--overwrite").exit_code == 0
    assert (output / "data" / "index.js").read_text().startswith("dgrecData(")
    assert not list(output.parent.glob(".*"))
    # For programs, as of every command that writes.
    said = dgrec("view", session, "--export", output, "--overwrite", "--json")
    written = json.loads(said.stdout)
    assert written == {
        "path": str(output),
        "files": [str(output)],
        "page": str(output / "index.html"),
        "sessions": ["s"],
        "frames": 5,
        "detections": 5,
        "bytes": sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        "notes": [],
    }
    assert dgrec("view", session, "--json").exit_code == 2
    # A server may be serving the folder.
    monkeypatch.chdir(output)
    inside = dgrec("view", session, "--export", ".", "--overwrite")
    assert inside.exit_code == 1
    assert "is the current folder; choose another name" in inside.output
    assert dgrec("view", session, "--export", output.parent / "out", "--overwrite").exit_code == 1
    monkeypatch.chdir("/")
    before = output.stat().st_ino
    assert dgrec("view", session, "--export", output, "--overwrite").exit_code == 0
    assert output.stat().st_ino == before
    # Whatever else is in a folder stays.
    (output / "notes.txt").write_text("mine")
    for folder in (output, tmp_path):
        refused = dgrec("view", session, "--export", folder, "--overwrite")
        assert refused.exit_code == 1
        assert "holds something other than an export" in refused.output
    assert dgrec("view", session, "--export", session).exit_code == 1
    assert session.read_bytes() == kept
    assert dgrec("view", session, "--start", "1").exit_code == 2
    none = dgrec("view", tmp_path / "out", "--export", tmp_path / "other")
    assert none.exit_code == 1
    assert "no recordings found" in none.output
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_part_of_a_session_with_covered_detections(
    tmp_path: Path, dgrec: Callable[..., Result]
) -> None:
    """The copy shows the frames of the part at their times, and no pixel of what is covered."""
    output = tmp_path / "out"
    session = bright_below(tmp_path / "bright.parquet", 40)
    given = ("--start", "10", "--end", "30", "--redact", "bit")
    result = dgrec("view", session, "--export", output, *given)
    assert result.exit_code == 0, result.output
    assert "bright: 20 frames" in result.output
    with dgrec_open(session) as opened:
        known = numbers_of(opened)[10:30]
    answer = unpacked(output / "data" / "0" / "rows-0.js")
    (video,) = (output / "data" / "0").glob("video-*.mp4")
    shown = {}
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            shown[round(float(frame.pts * frame.time_base), 6)] = frame.to_ndarray(format="bgr24")
    assert [number_in(shown[pts]) for pts in answer["pts_s"]] == known
    # The boxes themselves are drawn by the page.
    for number, pts in zip(known, answer["pts_s"], strict=True):
        below = shown[pts][OVERLAY_TOP + 12, BLOCK // 2 :: BLOCK].mean(axis=1)
        assert all(below[bit] < 60 for bit in range(BITS) if number >> bit & 1)
        assert below[8:].min() > 150
    assert not (output / "data" / "0" / "thumb.jpg").exists()
    assert not list(tmp_path.glob(".dgrec*"))
    nobody = dgrec("view", session, "--export", tmp_path / "no", "--redact", "nobody")
    assert nobody.exit_code == 1
    assert "nobody" in nobody.output


def bright_below(path: Path, count: int) -> Path:
    """Record pictures that are bright where the boxes of their numbers are."""
    reader = NumberReader()
    images = [numbered_image(number) for number in range(count)]
    for image in images:
        image[OVERLAY_TOP:] = 200
    began = datetime.now(UTC) - timedelta(seconds=count)
    with Recorder(path, metadata={"model": reader.describe()["model"]}, video="raw") as recorder:
        for number, result in enumerate(reader.predict_batch(iter(images))):
            recorder.add(result, captured_at=began + timedelta(seconds=number / 25))
    return path


def unpacked(script: Path) -> Any:
    text = re.fullmatch(r'dgrecData\("[^"]+","([^"]+)"\);\n', script.read_text())
    assert text is not None
    return json.loads(zlib.decompress(base64.b64decode(text[1])))


@pytest.mark.slow
def test_parts_of_the_time_line_are_what_the_server_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pixel of each width is in one part, with the values that a request for it would get."""
    monkeypatch.setattr("dgrec.replay.viewing.contents._WIDTH", 64)
    rows = make_rows(400)
    for row in rows[::7]:
        row.dropped_camera = 2
    path = write_session(tmp_path / "s.parquet", rows)
    export_folder([path], tmp_path / "out")
    data = tmp_path / "out" / "data" / "0"
    levels = unpacked(data / "session.js")["levels"]
    assert levels == [1, 4, 16]
    with dgrec_open(path) as session, SqlReader([session]) as reader:
        latencies = session.frames.column("latency_ms").to_pylist()
        for level, count in enumerate(levels):
            parts = [unpacked(data / f"lines-{level}-{k}.js") for k in range(count)]
            for part in parts[:3]:
                stretch = part["from"], part["to"], 64
                same = series(session, reader, ["latency_ms", "fps"], *stretch)
                assert part["series"]["latency_ms"] == same["series"]["latency_ms"]
                assert part["series"]["fps"] == same["series"]["fps"]
            tallest = [v for part in parts for v in part["series"]["latency_ms"]["max"]]
            assert max(v for v in tallest if v is not None) == pytest.approx(max(latencies))
            drops = [mark for part in parts for mark in part["marks"]["drops"]]
            assert sum(mark["count"] for mark in drops) == 2 * len(rows[::7])
    marked = unpacked(data / "next.js")
    assert marked["drop"] == list(range(0, 400, 7))


@pytest.mark.slow
def test_an_export_is_cut_into_parts_by_rows_not_by_the_load_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is drawn and the details are what the server says of each row."""
    monkeypatch.setattr("dgrec.replay.viewing.overlay._LONGEST_S", 0)
    monkeypatch.setattr("dgrec.replay.viewing.contents._DRAWN", 8)
    monkeypatch.setattr("dgrec.replay.viewing.contents._DETAILED", 5)
    path = write_session(tmp_path / "s.parquet", make_rows(20))
    export_folder([path], tmp_path / "out")
    data = tmp_path / "out" / "data" / "0"
    contents = unpacked(data / "session.js")
    assert contents["overlay"] == [0, 8, 16]
    assert contents["details"] == [0, 5, 10, 15]
    with dgrec_open(path) as session:
        for number, start in enumerate(contents["overlay"]):
            answer = unpacked(data / f"overlay-{number}.js")
            assert answer["from"] == start
            alone = drawings(session, start + 1, 20)["frames"]
            assert answer["frames"][1]["layers"] == plain(alone[0]["layers"])
        found = [row for k in range(4) for row in unpacked(data / f"details-{k}.js")]
        assert [row["i"] for row in found] == list(range(20))
        assert [row["detections"] for row in found] == [plain(each.results) for each in session]


@needs_chromium
@pytest.mark.slow
def test_notebooks_show_the_player(
    browser: Browser, recordings: Path, numbers: Mapping[str, list[int]], tmp_path: Path
) -> None:
    with dgrec_open(recordings / "in-place.parquet") as session:
        shown = session._repr_html_()
    assert len(shown) < 1_500_000
    assert "<caption><b>in-place</b></caption>" in shown
    # In a frame of its own origin, it runs, and tells its place without that of the notebook.
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset=utf-8>{shown}")
    browser.open(tmp_path / "notebook.html")
    with browser.inside_frame():
        browser.wait_for("document.querySelector('.stage')?.dataset.frame === '0'")
        browser.wait_for("location.href === 'about:srcdoc#s=0&f=0'")
        assert browser.console == []
    # The same page, where its pixels can be read.
    (source,) = re.findall(r'srcdoc="([^"]*)"', shown)
    (tmp_path / "player.html").write_text(html.unescape(source))
    browser.open(tmp_path / "player.html")
    known = numbers["in-place"]
    for frame in (0, 1, 17, 16, len(known) - 1):
        go_to(browser, "0", frame, title="in-place")
        picture = shown_picture(browser)
        assert (number_in(picture), number_drawn(picture[..., 2])) == (known[frame], known[frame])
    assert browser.console == []


def test_a_notebook_gets_the_table_where_there_is_no_player(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session) -> str:
        raise RuntimeError("PySDK is not in the mood")

    path = write_session(tmp_path / "s.parquet", make_rows(3))
    monkeypatch.setattr("dgrec.replay.viewing.notebook.player", fail)
    with dgrec_open(path) as session:
        assert "<iframe" not in session._repr_html_()
        assert session._repr_html_().startswith("<table>")
    with dgrec_open(write_session(tmp_path / "none.parquet", [])) as session:
        assert "<iframe" not in session._repr_html_()


#: Exports, and waits for its end in the middle of it.
_STOPPED = """
import sys, time
from dgrec.cli import main
from dgrec.replay.viewing.contents import Contents
Contents._lines = lambda *_: time.sleep(300)
sys.argv = ["dgrec", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_export_that_is_stopped_leaves_no_part_of_it(tmp_path: Path, number: int) -> None:
    session = write_session(tmp_path / "s.parquet", make_rows(5))
    output = tmp_path / "out"
    export_folder([session], output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    command = ["view", str(session), "--export", str(output), "--start", "1", "--overwrite"]
    with subprocess.Popen(
        [sys.executable, "-c", _STOPPED, *command], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for(lambda: list(tmp_path.glob(".out.*/data/0/details-0.js")), process)
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    assert said.count("\n") <= 1
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    if number != signal.SIGKILL:
        assert not list(tmp_path.glob(".*"))
    # What was left behind is removed by the next one.
    export_folder([session], output, overwrite=True)
    assert not list(tmp_path.glob(".*"))


def wait_for(is_there: Callable[[], object], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not is_there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_full_disk_is_reported_and_nothing_is_left(
    recordings: Path, tmp_path: Path, dgrec: Callable[..., Result]
) -> None:
    """For a full disk stands a limit of the size of files: for data, a copied video, the page."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for largest, name in ((200, "variable"), (6_000, "in-place"), (100_000, "variable")):
            session = recordings / f"{name}.parquet"
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
            result = dgrec("view", session, "--export", tmp_path / "out")
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert result.exit_code == 4
            assert "cannot be written" in result.stderr
            assert result.stderr.count("\n") == 1
            assert list(tmp_path.iterdir()) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)

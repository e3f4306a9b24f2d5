"""The report: a page that opens offline, says the right numbers, and takes nothing for markup."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

import dgrec
from dgrec import sample
from dgrec.errors import OutputError
from dgrec.footage import Pixels, find_footage
from dgrec.format import Row, Signal, utc_text
from dgrec.rates import rate_text
from dgrec.replay import report
from dgrec.replay.query import SqlReader
from dgrec.replay.report.plots import CHARTS
from dgrec.replay.report.sections import report_of
from dgrec.replay.stats import explain
from tests.browser import Browser, needs_chromium
from tests.factory import (
    START_NS,
    edited,
    make_detection,
    make_row,
    make_rows,
    new_metadata,
    write_session,
)
from tests.reports import ReportPage

SESSION = Path(dgrec.__file__).parent.parent / "sample_data" / "session.parquet"
#: The plots of a page on which there are no signals.
ALWAYS = tuple(plan.name for plan in CHARTS if not plan.is_optional)
HOSTILE = (
    "</script><script>document.title='PWNED'</script>",
    "<img src=x onerror=\"document.title='PWNED'\">",
    '"><svg onload="document.title=\'PWNED\'">',
    "<!--<script>",
    "{{ 7 * 7 }}",
    "javascript:document.title='PWNED'",
    "\u2028'; document.title='PWNED'; //",
)


@pytest.fixture
def run() -> Callable[..., Result]:
    import dgrec.replay.cli
    from dgrec.cli import root

    for command in dgrec.replay.cli.COMMANDS:
        root.add_command(command)
    return lambda *arguments: CliRunner().invoke(root, list(map(str, arguments)))


@pytest.fixture(scope="module")
def sample_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "sample.html"
    with dgrec.open(SESSION) as session, Pixels(find_footage(session)) as pixels:
        report.write_report(session, path, pixels=pixels)
    return path


def with_signals(names: list[str]) -> list[Row]:
    """Return rows with a value of each signal every few frames."""
    return [
        make_row(i, signals=[Signal(names[i % len(names)], make_row(i).completed_ns, float(i))])
        for i in range(40)
    ]


def mark(text: str) -> dict[str, Any]:
    return {"kind": "mark", "at": utc_text(START_NS + 10**9), "text": text}


@pytest.fixture
def hostile_session(tmp_path: Path) -> Path:
    rows = with_signals(list(HOSTILE))
    for index, row in enumerate(rows):
        row.results = [make_detection(0, label=HOSTILE[index % len(HOSTILE)])]
    metadata = {**new_metadata(), "events": [mark(HOSTILE[0])]}
    metadata["name"] = HOSTILE[0]
    metadata["source"] = {**metadata["source"], "given": HOSTILE[1]}
    metadata["model"] = {**metadata["model"], "name": HOSTILE[2]}
    return write_session(tmp_path / "hostile.parquet", rows, metadata=metadata)


@pytest.mark.slow
def test_plots_hold_what_was_recorded(sample_report: Path) -> None:
    page = ReportPage(sample_report)
    assert tuple(page.plots) == ALWAYS
    with dgrec.open(SESSION) as session:
        frames = session.frames.to_pydict()
        detections = session.detections.num_rows
    latency = page.plots["latency"]
    assert [row["frame"] for row in latency] == frames["frame"]
    assert [row["latency_ms"] for row in latency] == frames["latency_ms"]
    bars = [row for row in page.plots["histogram"] if "frames" in row]
    assert sum(row["frames"] for row in bars) == len(frames["frame"])
    (plot,) = (each["plot"] for each in page.sections if each["name"] == "histogram")
    for bar in bars[:-1]:
        end = bar["from_ms"] + plot["bin_ms"]
        inside = [ms for ms in frames["latency_ms"] if bar["from_ms"] <= ms < end]
        assert bar["frames"] == len(inside)
    marks = {row["name"]: row["ms"] for row in page.plots["histogram"] if "ms" in row}
    expected = np.quantile(frames["latency_ms"], [0.5, 0.95, 0.99])
    assert list(marks.values()) == pytest.approx(expected)
    assert sum(row["frames"] for row in page.plots["throughput"]) == len(latency)
    labels = page.plots["detections"]
    assert sum(row["detections"] for row in labels) == detections
    with dgrec.open(SESSION) as session, SqlReader([session]) as reader:
        (whole,) = reader.rows("SELECT duration_s, fps FROM session_throughput")
    rate = f"{rate_text(whole['fps'])} frames a second"
    # The other rate on the page is that without the warm-up, and said to be.
    assert f"420 frames in {whole['duration_s']:.1f} s, {rate} (" in page.text
    assert f" without the warm-up, as below); {detections} detections." in page.text
    stages = page.plots["stages"]
    assert {row["stage"] for row in stages} == {"preprocess", "inference", "postprocess", "other"}


@pytest.mark.slow
@pytest.mark.parametrize("frames", [96, 93])
def test_the_last_span_is_as_long_as_it_was_recorded(frames: int, tmp_path: Path) -> None:
    """Ten frames a second in spans of one: no bar is lower because there was less time for it."""
    rows = [
        make_row(
            i,
            [make_detection(0), make_detection(1)],
            captured_ns=START_NS + i * 100_000_000,
            completed_ns=START_NS + (i + 1) * 100_000_000 - 1000,
        )
        for i in range(frames)
    ]
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        report.write_report(session, tmp_path / "s.html")
    plots = ReportPage(tmp_path / "s.html").plots
    labels = plots["detections"]
    assert [row["per_second"] for row in labels] == pytest.approx([10] * len(labels), rel=1e-4)
    assert sum(row["detections"] for row in labels) == 2 * frames
    rates = plots["throughput"]
    assert [row["fps"] for row in rates] == pytest.approx([10] * len(rates), rel=1e-4)
    assert sum(row["frames"] for row in rates) == frames
    assert {row["second"] for row in labels} == {row["second"] for row in rates}


@pytest.mark.slow
def test_statements_run_as_they_stand(sample_report: Path) -> None:
    """What the page shows as its SQL is what `dgrec query` takes."""
    sections = ReportPage(sample_report).sections
    statements = [sql for section in sections for sql in section["statements"].values()]
    assert len(statements) > 12
    with dgrec.open(SESSION) as session, SqlReader([session]) as reader:
        for statement in statements:
            reader.rows(statement)


@pytest.mark.slow
def test_the_head_says_what_when_and_where(sample_report: Path) -> None:
    head = ReportPage(sample_report).text.split("Why")[0]
    with dgrec.open(SESSION) as session:
        metadata = session.metadata
    day = metadata["started_at"][:10]
    for known in (metadata["model"]["name"], "TFLITE/CPU", "faces.mp4", day, "Linux", "x86_64"):
        assert known in head


@pytest.mark.slow
def test_strip_shows_the_slowest(sample_report: Path) -> None:
    page = ReportPage(sample_report)
    pictures = page.pictures()
    with dgrec.open(SESSION) as session:
        frames = session.frames.to_pydict()
        known = [*zip(frames["media_time_s"], frames["latency_ms"], frames["frame"], strict=True)]
        # Each the slowest of its own half second to either side.
        slowest = [
            (-latency, frame)
            for at, latency, frame in known
            if latency == max(other for time, other, _ in known if abs(time - at) <= 0.5)
        ]
        expected = sorted(frame for _, frame in sorted(slowest)[:12])
        assert [picture["frame"] for picture in pictures] == expected
        with Pixels(find_footage(session)) as pixels:
            result = session.result(expected[-1])
            image = pixels.frame(result.row)
            assert image is not None
            drawn = result.overlay(image)
        data = page.blocks[pictures[-1]["key"]]
        seen = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        small = cv2.resize(drawn, seen.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(seen.astype(int) - small).mean() < 6  # JPEG


@pytest.mark.slow
def test_pictures_on_a_blank_canvas_are_said_to_be(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(20))
    with dgrec.open(path) as session, Pixels(find_footage(session)) as pixels:
        report.write_report(session, tmp_path / "s.html", pixels=pixels)
    page = ReportPage(tmp_path / "s.html")
    assert len(page.pictures()) >= 1
    assert "The source is not where it was: drawing on a blank canvas" in page.text


def test_nothing_is_loaded(sample_report: Path) -> None:
    page = ReportPage(sample_report)
    for tag, values in page.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            value = values.get(name)
            assert value is None or value.startswith(("#", "data:image/")), (tag, name, value)
    policy = next(v["content"] for t, v in page.tags if v.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy


@pytest.mark.slow
def test_session_texts_are_no_markup(hostile_session: Path, tmp_path: Path) -> None:
    output = tmp_path / "hostile.html"
    with dgrec.open(hostile_session) as session:
        report.write_report(session, output)
    clean = tmp_path / "clean.parquet"
    rows = with_signals([f"signal {index}" for index in range(len(HOSTILE))])
    for index, row in enumerate(rows):
        row.results = [make_detection(0, label=f"label {index % len(HOSTILE)}")]
    write_session(clean, rows, {**new_metadata(), "events": [mark("lamp on")]})
    with dgrec.open(clean) as session:
        report.write_report(session, tmp_path / "clean.html")
    page, plain = ReportPage(output), ReportPage(tmp_path / "clean.html")
    # The same tags, whatever the session says.
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    for text in HOSTILE:
        assert text in page.text or any(row["label"] == text for row in page.plots["detections"])
    # Data are base64, whatever the session says.
    assert "PWNED" not in output.read_text()


DRAWN = "document.querySelector('#report footer') !== null"


def browser_on_a_phone_at_night(browser: Browser, page: Path) -> None:
    """Nothing is wider than a small screen, and what is written can be read on a dark ground."""
    phone = {"width": 380, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.call("Emulation.setDeviceMetricsOverride", **phone)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", features=dark)
    browser.open(page)
    browser.wait_for(DRAWN)
    assert browser.run("document.documentElement.scrollWidth") <= 380

    def sides(of: str, side: str) -> list[float]:
        found = f"[...document.querySelectorAll({of!r})]"
        values: list[float] = browser.run(f"{found}.map((s) => s.getBoundingClientRect().{side})")
        assert len(values) > 4
        return values

    # Diagrams are scrolled, so that their letters are large enough; words are not broken.
    assert max(sides(".plot", "width")) <= 380
    assert min(sides(".diagram .below", "height")) > 8
    assert min(sides(".report-table td:not(.number)", "width")) > 60

    def brightness(script: str) -> float:
        parts = browser.run(f"{script}.match(/[0-9.]+/g).slice(0, 3).map(Number)")
        return float(sum(parts)) / 3

    assert brightness("getComputedStyle(document.body).backgroundColor") < 60
    assert brightness("getComputedStyle(document.querySelector('.diagram .below')).fill") > 120
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.call("Emulation.setEmulatedMedia", features=[])


@pytest.mark.slow
@needs_chromium
def test_browser_draws_all_of_it_and_runs_nothing_of_a_session(
    sample_report: Path, hostile_session: Path, tmp_path: Path
) -> None:
    with Browser(tmp_path / "browser") as browser:
        browser.open(sample_report)
        browser.wait_for(DRAWN)
        assert browser.run("document.querySelectorAll('.diagram').length") == len(ALWAYS)
        assert browser.run("document.querySelectorAll('#latency .point').length") == 420
        # Pictures have the shape of their frames: the width and height of each, as drawn and as is.
        browser.wait_for("[...document.images].every((image) => image.naturalWidth > 0)")
        sizes = browser.run(
            "[...document.images].map((i) => [i.width, i.height, i.naturalWidth, i.naturalHeight])"
        )
        assert len(sizes) == 12
        for width, height, own_width, own_height in sizes:
            assert width / height == pytest.approx(own_width / own_height, rel=0.02)
        # What is read is there, in the order of the page.
        shown = browser.run("document.querySelector('#report').textContent")
        texts = [text for text in ReportPage(sample_report).text.splitlines()[1:] if text.strip()]
        assert len(texts) > 100
        assert [text for text in texts if text not in shown] == []
        browser_on_a_phone_at_night(browser, sample_report)
        pdf = base64.b64decode(browser.call("Page.printToPDF")["data"])
        assert pdf.startswith(b"%PDF-")
        browser_runs_nothing_of(hostile_session, browser, tmp_path / "hostile.html")
        assert browser.console == []
        loaded = [u for u in browser.requests if not u.startswith(("file:", "data:", "blob:"))]
        assert loaded == []


def browser_runs_nothing_of(path: Path, browser: Browser, output: Path) -> None:
    with dgrec.open(path) as session:
        report.write_report(session, output)
    browser.open(output)
    browser.wait_for(DRAWN)
    assert browser.run("document.querySelectorAll('#signals .diagram').length") == len(HOSTILE)
    title = browser.run("document.title")
    assert title == f"{HOSTILE[0]}: dgrec report"
    # What a reader's mouse brings up is text, too.
    tips = browser.run(
        "[...document.querySelectorAll('#detections .bar title')].map((t) => t.textContent)"
    )
    for text in HOSTILE:
        assert any(text in tip for tip in tips)
    assert browser.run("document.querySelectorAll('img, svg[onload]').length") == 0
    assert browser.run("document.title") == title


def sessions() -> Iterator[Any]:
    yield pytest.param([], id="no frames")
    yield pytest.param(make_rows(1), id="one frame")
    empty = make_rows(30)
    for row in empty:
        row.results = []
    yield pytest.param(empty, id="no detections")
    untimed = make_rows(30)
    for row in untimed:
        row.timing = {}
    yield pytest.param(untimed, id="no timing")
    lost = make_rows(30)
    for row in lost:
        row.dropped_camera = 5
    yield pytest.param(lost, id="all lose frames")


@pytest.mark.slow
@pytest.mark.parametrize("rows", list(sessions()))
def test_odd_sessions(rows: list[Any], tmp_path: Path) -> None:
    path = write_session(tmp_path / "odd.parquet", rows)
    with dgrec.open(path) as session:
        report.write_report(session, tmp_path / "odd.html")
    page = ReportPage(tmp_path / "odd.html")
    # Of one frame there is nothing to see over time.
    has_detections = len(rows) > 1 and any(row.results for row in rows)
    assert ("detections" in page.plots) == has_detections
    assert ("latency" in page.plots) == (len(rows) > 1)
    assert ("histogram" in page.plots) == bool(rows)
    if len(rows) == 1:
        assert "1 frame; 1 detection." in page.text
        assert page.text.count("1 frame: too little to draw over time.") == 4
    json.dumps(page.plots, allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [40, 4000])
def test_what_has_no_time_is_in_no_plot_over_time(tmp_path: Path, frames: int) -> None:
    """It would be drawn at the first frame."""
    events = [{"kind": "mark", "at": "2026-01-02T03:04:06Z", "text": "lamp"}]
    path = write_session(
        tmp_path / "s.parquet", make_rows(frames, dropped_queue=1), new_metadata(events=events)
    )
    captured = [START_NS // 1000 + i * 33_366 if i % 2 else None for i in range(frames)]
    edited(path, {"captured_at": captured})
    plots = _plots(path)
    for name in ("latency", "stages", "throughput", "detections"):
        assert all(row["second"] is not None for row in plots[name]), name
    assert sum(row.get("dropped_before", row.get("dropped")) or 0 for row in plots["latency"]) == (
        frames // 2
    )
    edited(path, {name: [None] * frames for name in ("captured_at", "latency_ms")})
    stamps = "No frame has the times of capture and result that this takes."
    assert _plots(path) == {
        **dict.fromkeys(("latency", "stages", "throughput", "detections"), stamps),
        "histogram": "No frame has a latency.",
    }


def _plots(path: Path) -> dict[str, Any]:
    """Return the rows of each plot, or what is said instead of it."""
    with dgrec.open(path) as session:
        sections = report_of(session)["sections"]
    return {
        each.name: each.nothing if each.plot is None else each.plot["rows"]
        for each in sections
        if each.name in ALWAYS
    }


@pytest.mark.slow
def test_long_session_is_drawn_in_spans(tmp_path: Path) -> None:
    rows = [make_row(i) for i in range(4000)]
    rows[1234].completed_ns = rows[1234].captured_ns + 5_000_000_000
    rows[2000].dropped_queue = 7
    path = write_session(tmp_path / "long.parquet", rows)
    with dgrec.open(path) as session:
        report.write_report(session, tmp_path / "long.html")
    page = ReportPage(tmp_path / "long.html")
    values = page.plots["latency"]
    assert len(values) <= 260
    assert sum(row["frames"] for row in values) == 4000
    slowest = max(values, key=lambda row: row["max_ms"])
    assert (slowest["slowest_frame"], slowest["max_ms"]) == (1234, 5000)
    assert sum(row["dropped"] for row in values) == 7


@pytest.mark.slow
def test_tables_say_what_they_leave_out(tmp_path: Path) -> None:
    rows = []
    for i in range(300):
        # A stall every tenth frame, which is late, too; and a label for every fifth.
        captured = START_NS + i * 40_000_000 + i // 10 * 500_000_000
        late = 300_000_000 if i % 10 == 0 else 0
        found = [make_detection(0, label=f"label {i // 5}")]
        rows.append(
            make_row(i, found, captured_ns=captured, completed_ns=captured + 20_000_000 + late)
        )
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        report.write_report(session, tmp_path / "s.html")
        with SqlReader([session]) as reader:
            (stalls,) = reader.rows("SELECT count(*) AS n FROM stalls()")
    text = ReportPage(tmp_path / "s.html").text
    late_frames, stalled, labels = (
        text[text.rindex(title) :].partition("SQL")[0]
        for title in ("The part of the way that", "Times without a result", "mean score")
    )
    assert "The first 20 of 30." in late_frames
    assert stalls["n"] == 29
    assert "The first 20 of 29." in stalled
    assert "The first 50 of 60." in labels


@pytest.mark.slow
@pytest.mark.parametrize("plot", ALWAYS)
def test_plots_as_png(plot: str, tmp_path: Path) -> None:
    output = tmp_path / "plot.png"
    with dgrec.open(SESSION) as session:
        report.write_plot(session, plot, output)
    picture = cv2.imread(str(output))
    assert picture is not None
    height, width = picture.shape[:2]
    assert width > 1700 and height > 350  # noqa: PT018
    assert (picture[0, 0] == 255).all()
    # Marks of the plots' colours cover some of it.
    saturated = np.ptp(picture.astype(int), axis=2) > 60
    assert saturated.mean() > 0.002


@pytest.mark.slow
def test_command(tmp_path: Path, run: Callable[..., Result]) -> None:
    path = tmp_path / "s.parquet"
    path.write_bytes(SESSION.read_bytes())
    video = ("--video", str(sample.CLIP))
    result = run("report", str(path), *video)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "s.report.html").stat().st_size > 400_000
    # What limits the rate stands first, as `dgrec stats --why` says it.
    text = ReportPage(tmp_path / "s.report.html").text
    with dgrec.open(path) as session, SqlReader([session]) as reader:
        (pipeline,) = explain([session], reader)
    assert text.index(pipeline.findings[0]) < text.index("Why this rate")
    assert all(finding in text for finding in pipeline.findings)
    again = run("report", str(path), *video)
    assert again.exit_code == 1
    assert "exists already; choose another name or say --overwrite" in again.output
    assert run("report", str(path), "--overwrite", "--no-pictures").exit_code == 0
    assert ReportPage(tmp_path / "s.report.html").pictures() == []
    result = run("report", str(path), "--png", "latency", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "s.latency.png").exists()


@pytest.mark.parametrize(
    ("name", "options", "ending"),
    [("r.pdf", (), ".html"), ("r.png", (), ".html"), ("r.html", ("--png", "latency"), ".png")],
)
def test_a_name_of_another_format_is_refused(
    tmp_path: Path, run: Callable[..., Result], name: str, options: tuple[str, ...], ending: str
) -> None:
    """A page called r.pdf is opened by nothing."""
    done = run("report", str(SESSION), "-o", str(tmp_path / name), *options)
    assert done.exit_code == 2
    assert f"choose a name that ends in {ending}" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--png", "latency", "--no-pictures"), "--png writes a plot: it goes without"),
        (("--png", "latency", "--video", "no.mp4"), "--png writes a plot: it goes without"),
        (("--no-pictures", "--video", "no.mp4"), "--no-pictures needs no --video"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    tmp_path: Path, run: Callable[..., Result], options: tuple[str, ...], problem: str
) -> None:
    done = run("report", str(SESSION), "-o", str(tmp_path / "r"), *options)
    assert done.exit_code == 2
    assert problem in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_input(tmp_path: Path, run: Callable[..., Result]) -> None:
    path = write_session(tmp_path / "none.parquet", [])
    result = run("report", str(path), "--png", "latency")
    assert result.exit_code == 1
    assert "no plot of latency: No frames." in result.output
    kept = path.read_bytes()
    for plot in ((), ("--png", "latency")):
        result = run("report", str(path), *plot, "--output", str(path), "--overwrite")
        assert result.exit_code == 1
        assert "is the session itself" in result.output
    assert path.read_bytes() == kept
    video = tmp_path / "footage.mp4"
    shutil.copy(sample.CLIP, video)
    again = ("--video", str(video), "--output", str(video), "--overwrite")
    assert "or its video; choose another name" in run("report", str(SESSION), *again).output
    assert video.read_bytes() == sample.CLIP.read_bytes()
    result = run("report", str(SESSION), "--png", "everything")
    assert result.exit_code == 2
    result = run("report", str(SESSION), "-o", str(tmp_path / "no" / "r.html"))
    assert result.exit_code == 1
    assert "there is no folder" in result.output
    with dgrec.open(SESSION) as session, pytest.raises(OutputError, match="is a folder"):
        report.write_report(session, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"none.parquet", "footage.mp4"}


@pytest.mark.slow
def test_without_the_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    result = run("report", str(SESSION), "--png", "latency", "-o", str(tmp_path / "r.png"))
    assert result.exit_code == 1
    assert "pip install 'dgrec[report]'" in result.output


@pytest.mark.parametrize("name", ["s.parquet", "s.mp4"])
@pytest.mark.parametrize("plot", [(), ("--png", "latency")])
def test_what_was_recorded_is_never_overwritten(
    run: Callable[..., Result], tmp_path: Path, name: str, plot: tuple[str, ...]
) -> None:
    source = {"given": "cam0", "kind": "camera", "name": "cam0"}
    metadata = new_metadata(source=source, video=[{"file": "s.mp4", "kind": "raw"}])
    path = write_session(tmp_path / "s.parquet", [make_row(0)], metadata)
    (tmp_path / "s.mp4").write_bytes(b"recorded")
    before = (tmp_path / name).read_bytes()
    result = run("report", str(path), "--overwrite", "--output", str(tmp_path / name), *plot)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path / name}: is the session itself, or its video; choose another name\n"
    )
    assert (tmp_path / name).read_bytes() == before


WHOLE = [
    "latency",
    "histogram",
    "stages",
    "pipeline",
    "load",
    "throughput",
    "detections",
    "stage-table",
    "targets",
    "losses",
    "late",
    "stalls",
    "labels",
    "warm-up",
    "recording",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranges", "sections"),
    [
        (None, WHOLE),
        ([(0, 60)], WHOLE),
        # Of moments there is no rate, and no load.
        ([(0, 20), (20, 40)], [name for name in WHOLE if name not in ("pipeline", "load")]),
    ],
    ids=["recording", "clip", "clip of moments"],
)
def test_each_section_is_there_once_and_in_its_order(
    tmp_path: Path, ranges: list[tuple[int, int]] | None, sections: list[str]
) -> None:
    metadata = new_metadata()
    if ranges is not None:
        items = [{"first_frame": a, "frames": n, "from_frame": 100 * a} for a, n in ranges]
        metadata["clip"] = {"session_id": "x", "ranges": items}
    path = write_session(tmp_path / "s.parquet", make_rows(60), metadata=metadata)
    with dgrec.open(path) as session:
        report.write_report(session, tmp_path / "s.html")
    page = ReportPage(tmp_path / "s.html")
    assert [section["name"] for section in page.sections] == sections

"""The page draws what PySDK draws: edges within a pixel, the same colors."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
import dgrec.replay.viewing
from dgrec.replay.drawing import Trails
from dgrec.replay.viewing import overlay
from dgrec.replay.viewing.overlay import drawings
from tests.analyzed import SIZE, everything, record_analyzed
from tests.browser import Browser, needs_chromium
from tests.factory import edited
from tests.replay.test_overlay import CASES, COLORS, HEIGHT, SETTINGS, WIDTH, pysdk_result, record
from tests.replay.viewing.drawn import differences, drawn_by_page
from tests.waiting import PATIENCE_S

pytestmark = [needs_chromium, pytest.mark.slow]

_PAGE = Path(dgrec.replay.viewing.__file__).with_name("static") / "index.html"
_SAMPLE = Path(dgrec.__file__).parent / "sample_data" / "session.parquet"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser") / "chromium") as opened:
        opened.open(_PAGE)
        opened.wait_for("!!window.dgrec")
        opened.run("Object.assign(window, dgrec); 0")
        yield opened


def compared(
    browser: Browser, session: dgrec.Session, size: tuple[int, int], at: int = 0, grey: int = 0
) -> tuple[list[str], Any]:
    """Return how a frame's drawing over a grey picture differs from PySDK's, and PySDK's."""
    drawn = drawings(session, at, at + 1)
    frame = drawn["frames"][0]
    assert "notes" not in frame
    page = drawn_by_page(browser, drawn, size, grey)
    pysdk = session.result(at).overlay(np.full((size[1], size[0], 3), grey, np.uint8))
    return differences(page, pysdk, frame), pysdk


_CHOSEN = ("as PySDK sets them", "translucent", "some blurred")


def test_all_results_of_pysdk(browser: Browser, tmp_path: Path) -> None:
    wrong, drawn = {}, 0
    for (case, (type_name, found, conversion)), settings in itertools.product(
        CASES.items(), _CHOSEN
    ):
        chosen = SETTINGS[settings]
        # PySDK takes black for a place that was not drawn, also where a blurred picture is black.
        grey = 96 if settings == "some blurred" else 0
        original = pysdk_result(type_name, found, conversion, **chosen)
        path = tmp_path / f"{case}, {settings}.parquet"
        with record(path, type_name, [original], chosen) as session:
            differ, pysdk = compared(browser, session, (WIDTH, HEIGHT), grey=grey)
        drawn += bool((pysdk != grey).any())
        if differ:
            wrong[case, settings] = differ
    assert wrong == {}
    assert drawn > 60


def test_drawn_with_pil(browser: Browser, tmp_path: Path) -> None:
    wrong = {}
    chosen = SETTINGS["large"]
    for case, (type_name, found, conversion) in CASES.items():
        original = pysdk_result(type_name, found, conversion, **chosen)
        with record(tmp_path / f"{case}.parquet", type_name, [original], chosen) as session:
            model = session.metadata["model"]
        path = edited(session.path, {}, model={**model, "image_backend": "pil"})
        with dgrec.open(path) as session:
            differ, _ = compared(browser, session, (WIDTH, HEIGHT))
        if differ:
            wrong[case] = differ
    assert wrong == {}


def test_the_sample(browser: Browser) -> None:
    with dgrec.open(_SAMPLE) as session:
        for at in range(0, len(session), 30):
            assert compared(browser, session, (640, 360), at)[0] == [], at


def test_what_analyzers_draw(browser: Browser, tmp_path: Path) -> None:
    wrong = {}
    for number, absolute in enumerate((True, False)):
        path = tmp_path / f"{number}.parquet"
        record_analyzed(path, everything(is_named=absolute, absolute=absolute))
        with dgrec.open(path) as session:
            for at in (0, 9, 20):
                if differ := compared(browser, session, SIZE, at)[0]:
                    wrong[absolute, at] = differ
            drawn = drawings(session, 20, 21)["frames"][0]
    assert wrong == {}
    assert [layer["alpha"] for layer in drawn["layers"]] == [1.0, 1.0]


def test_results_about_detections(browser: Browser, tmp_path: Path) -> None:
    """Those of compound models are drawn one over the other, each blended by itself."""

    def result(found: list[Any], **settings: Any) -> Any:
        made = pysdk_result("Detection", [], lambda x, y: (x, y), **settings)
        made._inference_results = found
        return made

    inner = {"bbox": [60.0, 70.0, 110.0, 120.0], "label": "eye", "category_id": 1, "score": 0.5}
    about = result([inner], color=(250, 20, 90), alpha=0.5, line_width=5)
    outer = {"bbox": [40.0, 50.0, 180.0, 150.0], "label": "cat", "category_id": 0, "score": 0.9}
    other = {"bbox": [200.0, 50.0, 300.0, 150.0], "label": "dog", "category_id": 1, "score": 0.9}
    whole = result([other, {**outer, "extra_results": [about]}], color=COLORS, alpha=0.8)
    with dgrec.Recorder(tmp_path / "s.parquet") as recorder:
        recorder.add(whole)
    with dgrec.open(tmp_path / "s.parquet") as session:
        frame = drawings(session, 0, 1)["frames"][0]
        assert compared(browser, session, (WIDTH, HEIGHT))[0] == []
    drawn = [[group["d"] for group in layer["groups"]] for layer in frame["layers"]]
    assert drawn == [[0, 1], [1]]


def test_a_box_that_is_moved_by_two_pixels_is_noticed(browser: Browser, tmp_path: Path) -> None:
    """The comparison above is strict enough."""
    type_name, found, conversion = CASES["boxes"]
    for settings in _CHOSEN:
        chosen = SETTINGS[settings]
        original = pysdk_result(type_name, found, conversion, **chosen)
        with record(tmp_path / f"{settings}.parquet", type_name, [original], chosen) as session:
            drawn = drawings(session, 0, 1)
            pysdk = session.result(0).overlay(np.full((HEIGHT, WIDTH, 3), 96, np.uint8))
        for by, color, is_noticed in ((0, 0, False), (2, 0, True), (0, 1, True)):
            moved = copy.deepcopy(drawn)
            groups = moved["frames"][0]["layers"][0]["groups"]
            box = next(op for op in groups[1]["ops"] if op[0] == "box")
            box[1], box[3], box[6] = box[1] + by, box[3] + by, box[6] + color
            page = drawn_by_page(browser, moved, (WIDTH, HEIGHT), 96)
            assert bool(differences(page, pysdk, moved["frames"][0])) == is_noticed, settings


def test_filters_emphasis_and_what_is_under_the_pointer(browser: Browser, tmp_path: Path) -> None:
    found = [
        {"bbox": [10.0, 10.0, 200.0, 160.0], "label": "cat", "category_id": 0, "score": 0.9},
        {"bbox": [50.0, 50.0, 90.0, 90.0], "label": "dog", "category_id": 1, "score": 0.8},
        {"bbox": [220.0, 60.0, 300.0, 100.0], "angle": 0.8, "label": "car", "category_id": 2},
        {"landmarks": [{"landmark": [30.0, 140.0]}, {"landmark": [120.0, 150.0], "connect": [0]}]},
    ]
    chosen = SETTINGS["as PySDK sets them"]
    original = pysdk_result("Detection", [], lambda x, y: (x, y), **chosen)
    original._inference_results = found
    with record(tmp_path / "s.parquet", "Detection", [original], chosen) as session:
        drawn = drawings(session, 0, 1)
        parts = {}
        for kept in ([0, 2, 3], [1], []):
            pysdk = session.result(0).keep(kept).overlay(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
            parts[tuple(kept)] = pysdk
    frame = drawn["frames"][0]
    for kept, pysdk in parts.items():
        options = f"{{keep: (index) => {list(kept)}.includes(index)}}"
        page = drawn_by_page(browser, drawn, (WIDTH, HEIGHT), options=options)
        visible = copy.deepcopy(frame)
        for layer in visible["layers"]:
            layer["groups"] = [group for group in layer["groups"] if group["d"] in kept]
        assert differences(page, pysdk, visible) == [], kept

    browser.run(f"frame = {json.dumps(frame)}; 0")
    places = {
        (70, 70): 1,  # the smaller of two boxes
        (30, 30): 0,
        (75, 145): 3,  # a connection between points
        (260, 80): 2,  # inside of a rotated box, and beside it
        (230, 110): -1,
        (310, 5): -1,
    }
    for (x, y), expected in places.items():
        assert browser.run(f"hit(frame, {x}, {y})") == expected, (x, y)
    assert browser.run("hit(frame, 70, 70, (index) => index !== 1)") == 0

    plain = drawn_by_page(browser, drawn, (WIDTH, HEIGHT))
    chosen_one = drawn_by_page(browser, drawn, (WIDTH, HEIGHT), options="{selected: 1}")
    changed = np.argwhere((plain != chosen_one).any(axis=2))
    assert changed.min(axis=0).tolist() >= [30, 40]
    assert changed.max(axis=0).tolist() <= [97, 97]


def test_masks_under_the_pointer(browser: Browser, tmp_path: Path) -> None:
    inside = np.zeros((60, 80), np.float32)
    inside[10:50, 20:40] = 1
    original = pysdk_result("SegmentationYoloV8", [], lambda x, y: (x, y), color=COLORS, alpha=0.5)
    original._inference_results = [
        {"category_id": 0, "mask": {"x_min": 100, "y_min": 50, "data": inside}}
    ]
    chosen = {"color": COLORS, "alpha": 0.5}
    with record(tmp_path / "s.parquet", "SegmentationYoloV8", [original], chosen) as session:
        browser.run(f"frame = {json.dumps(drawings(session, 0, 1)['frames'][0])}; 0")
    for y, x in ((59, 130), (60, 119), (60, 120), (99, 139), (100, 139), (99, 140)):
        is_inside = 60 <= y < 100 and 120 <= x < 140
        assert browser.run(f"hit(frame, {x + 0.5}, {y + 0.5})") == (0 if is_inside else -1), (x, y)


def test_what_is_blurred_cannot_be_seen(browser: Browser, tmp_path: Path) -> None:
    """With the picture it is blurred as strongly as PySDK does it; without, it is covered."""
    chosen = {"color": COLORS, "alpha": 1.0, "blur": "all", "show_labels": False, "line_width": 0}
    found = [{"bbox": [40.0, 30.0, 200.0, 150.0], "label": "cat", "category_id": 0}]
    original = pysdk_result("Detection", [], lambda x, y: (x, y), **chosen)
    original._inference_results = found
    with record(tmp_path / "s.parquet", "Detection", [original], chosen) as session:
        drawn = drawings(session, 0, 1)
    stripes = (
        "(() => { const c = document.createElement('canvas'); [c.width, c.height] = [640, 360];"
        "const on = c.getContext('2d'); on.fillRect(0, 0, 640, 360); on.fillStyle = '#fff';"
        "for (let x = 0; x < 640; x += 8) on.fillRect(x, 0, 4, 360); return c; })()"
    )
    area = slice(31, 149), slice(41, 199)
    for picture, mean in ((stripes, 127), ("undefined", 64)):
        browser.run(f"picture = {picture}; 0")
        page = drawn_by_page(browser, drawn, (WIDTH, HEIGHT), options="{picture: window.picture}")
        assert abs(page[area].mean() - mean) < 4
        assert page[area].std() < 12
        assert not page[:, :38].any()


def test_trails(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page draws them as `dgrec replay --trails` does."""
    monkeypatch.setattr(overlay, "_LONGEST_S", PATIENCE_S)
    record_analyzed(tmp_path / "s.parquet", [_tracker()], frames=14)
    with dgrec.open(tmp_path / "s.parquet") as session:
        drawn = drawings(session, 0, 14)
        picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        expected = Trails(session, 8).draw(session.result(13), picture)
    before = [
        {"colors": drawn["colors"], "labels": [], "frame": frame} for frame in drawn["frames"][:13]
    ]
    options = f"{{before: {json.dumps(before[:-8:-1])}}}"
    last = {**drawn, "frames": [{**drawn["frames"][13], "layers": []}]}
    page = drawn_by_page(browser, last, SIZE, options=options)
    assert differences(page, expected, last["frames"][0]) == []
    assert expected.any()


def _tracker() -> Any:
    from degirum_tools import ObjectTracker

    return ObjectTracker()

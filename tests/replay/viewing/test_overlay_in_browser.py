"""The page draws what PySDK draws: edges within a pixel, the same colors."""

from __future__ import annotations

import copy
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.replay.viewing.overlay import drawings
from tests.analyzed import SIZE, everything, record_analyzed
from tests.browser import Browser, needs_chromium
from tests.factory import edited
from tests.replay.test_overlay import CASES, HEIGHT, SETTINGS, WIDTH, pysdk_result, record
from tests.replay.viewing.drawn import differences, drawn_by_page

pytestmark = [needs_chromium, pytest.mark.slow]

_PAGE = Path(dgrec.__file__).parents[1] / "replay" / "viewing" / "page"
_SAMPLE = Path(dgrec.__file__).parent / "sample_data" / "session.parquet"
_ENTRY = 'import * as overlay from "./src/overlay"; Object.assign(window, overlay);'


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    esbuild = shutil.which("esbuild", path=str(_PAGE / "node_modules" / ".bin"))
    if esbuild is None:
        pytest.skip("esbuild is not installed (npm ci in replay/viewing/page)")
    folder = tmp_path_factory.mktemp("browser")
    made = subprocess.run(
        [esbuild, "--bundle", "--format=iife", "--loader=ts"],
        input=_ENTRY,
        cwd=_PAGE,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (folder / "draw.js").write_text(made.stdout)
    page = folder / "page.html"
    page.write_text("<!doctype html><meta charset=utf-8><script src=draw.js></script>")
    with Browser(folder / "chromium") as opened:
        opened.open(page)
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


_CHOSEN = ("as PySDK sets them", "translucent", "some blurred", "large")


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
    assert drawn > 80


def test_drawn_with_pil(browser: Browser, tmp_path: Path) -> None:
    wrong = {}
    chosen = SETTINGS["as PySDK sets them"]
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


def test_a_box_that_is_moved_by_two_pixels_is_noticed(browser: Browser, tmp_path: Path) -> None:
    """The comparison above is strict enough."""
    type_name, found, conversion = CASES["boxes"]
    for settings in _CHOSEN:
        chosen = SETTINGS[settings]
        original = pysdk_result(type_name, found, conversion, **chosen)
        with record(tmp_path / f"{settings}.parquet", type_name, [original], chosen) as session:
            drawn = drawings(session, 0, 1)
            pysdk = session.result(0).overlay(np.full((HEIGHT, WIDTH, 3), 96, np.uint8))
        for by, is_noticed in ((0, False), (2, True)):
            moved = copy.deepcopy(drawn)
            groups = moved["frames"][0]["layers"][0]["groups"]
            box = next(op for op in groups[1]["ops"] if op[0] == "box")
            box[1], box[3] = box[1] + by, box[3] + by
            page = drawn_by_page(browser, moved, (WIDTH, HEIGHT), 96)
            assert bool(differences(page, pysdk, moved["frames"][0])) == is_noticed, settings

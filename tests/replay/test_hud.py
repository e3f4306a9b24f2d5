"""The head-up display says what was recorded, legibly, and touches nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import dgrec
from dgrec.replay.drawing import Corner, Hud, Lettering, Line, text_height, time_text
from dgrec.replay.drawing.hud import BARS, Bar, HudModel, HudValues, hud_lines, strip_image
from dgrec.replay.drawing.lettering import draw_panel
from dgrec.replay.drawing.neighbours import Neighbours
from tests.factory import START_NS, make_row, new_metadata, write_journal, write_session
from tests.replay.conftest import uneven_rows

COUNT = 260


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_session(tmp_path_factory.mktemp("hud") / "s.parquet", uneven_rows(COUNT))


ROW = (
    "frame captured_at read_ms preprocess_ms inference_ms postprocess_ms latency_ms "
    "dropped_before skipped_before"
).split()


def expected(path: Path) -> list[HudValues]:
    """Return what the display has to say of each frame, from the file, without dgrec."""
    rows = pq.read_table(path).to_pylist()
    latencies = np.array([row["latency_ms"] for row in rows])
    values = []
    for at, row in enumerate(rows):
        recent = [
            other
            for other in rows[max(0, at - BARS + 1) : at + 1]
            if (row["completed_at"] - other["completed_at"]).total_seconds() <= 2
        ]
        stamps = [[other[name] for other in recent] for name in ("captured_at", "completed_at")]
        span = max((max(times) - min(times)).total_seconds() for times in stamps)
        bars = rows[max(0, at - BARS + 1) : at + 1]
        values.append(
            HudValues(
                row={
                    **{name: row[name] for name in ROW if name != "dropped_before"},
                    "dropped_before": sum(
                        row[f"dropped_{place}"] for place in ("camera", "queue", "writer")
                    ),
                },
                elapsed_s=row["media_time_s"] - rows[0]["media_time_s"],
                fps=(len(recent) - 1) / span if at else None,
                p99_ms=float(np.quantile(latencies, 0.99)),
                bars=tuple(Bar(bar["latency_ms"], bar["dropped_before"] > 0) for bar in bars),
            )
        )
    return values


def assert_says(found: HudValues, wanted: HudValues) -> None:
    pairs = {name: (found.row[name], wanted.row[name]) for name in ROW}
    for name in ("elapsed_s", "fps", "p99_ms", "bars"):
        pairs[name] = getattr(found, name), getattr(wanted, name)
    for name, (one, other) in pairs.items():
        if isinstance(other, float):
            assert one == pytest.approx(other, rel=1e-6), name
        else:
            assert one == other, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "order",
    [
        range(COUNT),
        range(150, COUNT, 3),
        [200, 30, 31, 29, 259, 0, 1, 130, 131, 20],
    ],
    ids=["in order", "every third", "back and forth"],
)
def test_values_are_those_of_the_rows(path: Path, order: Any) -> None:
    wanted = expected(path)
    assert any(values.row["dropped_before"] for values in wanted)
    with dgrec.open(path) as session:
        model = HudModel(session)
        for frame in order:
            assert_says(model.values(session.result(frame)), wanted[frame])


@pytest.mark.slow
def test_frames_with_gaps_in_their_numbers(tmp_path: Path) -> None:
    """Recovered rows: the strip goes on over what was lost."""
    journal = write_journal(tmp_path / "s.arrows", uneven_rows(60), batch=6)
    data = bytearray(journal.read_bytes())
    at = data.index(b"dgrec.batch", len(data) // 3) + 300
    data[at] ^= 0xFF
    journal.write_bytes(data)
    with dgrec.open(journal) as session:
        rows = [result.row for result in session]
        assert rows[-1]["frame"] > len(rows) - 1
        for position in (len(rows) - 1, 3, len(rows) // 2, len(rows) - 2):
            model = HudModel(session)
            values = model.values(session.result(position))
            assert values.row["frame"] == rows[position]["frame"]
            seen = rows[: position + 1]
            assert [bar.latency_ms for bar in values.bars] == [row["latency_ms"] for row in seen]


def test_looking_around_remembers_only_so_much(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgrec.replay.drawing.neighbours._REMEMBERED", 20)
    with dgrec.open(path) as session:
        neighbours = Neighbours(session, lambda row: row["frame"])
        for frame in (0, 100, 101, 5, 259):
            position = neighbours.note(session.result(frame))
            back = list(itertools.islice(neighbours.before(position), 10))
            ahead = list(itertools.islice(neighbours.after(position), 10))
            assert back == list(range(frame - 1, max(frame - 11, -1), -1))
            assert ahead == list(range(frame + 1, min(frame + 11, COUNT)))
            assert len(neighbours._picked) <= 20


# --- words ---


def values(**changes: Any) -> HudValues:
    import datetime as dt

    row: dict[str, Any] = {
        "frame": 1234,
        "captured_at": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "read_ms": 1.26,
        "preprocess_ms": 0.0,
        "inference_ms": 85.7,
        "postprocess_ms": None,
        "latency_ms": 415.04,
        "dropped_before": 0,
        "skipped_before": 0,
    }
    row |= {name: changes.pop(name) for name in row.keys() & changes}
    others = {"elapsed_s": 3723.5, "fps": 24.96, "p99_ms": 1605.3, "bars": (Bar(415.04, False),)}
    return HudValues(row, **{**others, **changes})


def test_the_text() -> None:
    assert [line.text for line in hud_lines(values())] == [
        "frame 1234 1:02:03.500",
        "03:04:05 UTC  25.0 fps",
        "read            1.3 ms",
        "preprocess      0.0 ms",
        "inference      85.7 ms",
        "postprocess       -   ",
        "latency       415.0 ms",
        "p99          1605.3 ms",
        "",
    ]
    assert hud_lines(values(frame=12345))[0].text == "12345      1:02:03.500"
    lost = hud_lines(values(dropped_before=10, skipped_before=2, fps=None))
    assert lost[-1].text == "10 dropped 2 skipped"
    assert lost[1].text == "03:04:05 UTC     - fps"
    assert lost[-1].color != hud_lines(values(skipped_before=2))[-1].color
    slow, fast = hud_lines(values(latency_ms=2000.0))[6], hud_lines(values())[6]
    assert slow.color != fast.color


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00.000"),
        (59.9996, "0:01:00.000"),
        (3600.25, "1:00:00.250"),
        (-1.5, "-0:00:01.500"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


@pytest.mark.parametrize("height", [10, 13, 20, 54])
def test_characters_can_be_told_apart(height: int) -> None:
    """Each is nearest to itself, also after the loss that a video encoder may cause."""
    lettering = Lettering.of(height)
    characters = "0123456789.:-# abcdefghilmnoprstux"
    image = lettering.render([Line(characters)], len(characters)).astype(int)
    cells = image.reshape(height, len(characters), lettering.width, 3).transpose(1, 0, 2, 3)
    noise = np.random.default_rng(1).normal(0, 20, cells.shape)
    for index, cell in enumerate(cells):
        distances = np.abs(cells - (cell + noise[index])).mean((1, 2, 3))
        assert distances.argmin() == index


def test_text_is_cut_filled_and_replaced() -> None:
    lettering = Lettering.of(12)
    one = lettering.render([Line("abcdef")], 3)
    assert one.shape == (12, 3 * lettering.width, 3)
    assert np.array_equal(one, lettering.render([Line("abc")], 3))
    assert np.array_equal(lettering.render([Line("é\n")], 4), lettering.render([Line("??")], 4))


# --- pictures ---


def test_the_strip_shows_drops_and_slow_frames() -> None:
    bars = tuple(Bar(10.0 + 10 * (i == 60), i in (40, 90)) for i in range(BARS))
    strip = strip_image(values(bars=bars, p99_ms=15.0), BARS, 45)
    red = np.flatnonzero((strip[40:, :, 2] > 200).all(0) & (strip[40:, :, 0] < 100).all(0))
    assert {40, 90} <= set(red.tolist())
    assert (strip[0, [40, 90]] == strip[44, [40, 90]]).all(), "a drop is marked at the top as well"
    heights = (strip.max(2) > 100).sum(0)
    assert heights[60] > heights[61]
    line = strip[44 - 30]  # the p99, at two thirds
    assert (line.min(1) > 200).sum() >= BARS // 3


def test_the_strip_of_the_first_frames() -> None:
    bars = (Bar(5.0, False), Bar(float("nan"), False))
    strip = strip_image(values(bars=bars, p99_ms=None), 2 * BARS, 30)
    assert not strip[:, :-4].any(), "before the first frame there is nothing"
    assert strip[:, -4:-2].any(2).all(), "the highest of all reaches the top"
    assert strip[-1, -2:].any(1).all()
    assert not strip[:-1, -2:].any()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(320, 240), (640, 480), (1920, 1080), (3840, 2160), (90, 40)])
def test_the_display_stays_in_its_corner(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    rows = [make_row(i, [], width=width, height=height) for i in range(3)]
    path = write_session(tmp_path / "s.parquet", rows, new_metadata())
    picture = np.full((height, width, 3), 128, np.uint8)
    with dgrec.open(path) as session:
        hud = Hud(session)
        drawn = hud.draw(session.result(2), picture.copy())
    assert drawn.shape == picture.shape
    changed = np.argwhere((drawn != picture).any(2))
    assert changed.min() == 0
    if width >= 320:
        right, bottom = changed[:, 1].max() / width, changed[:, 0].max() / height
        assert right < 0.45
        assert bottom < 0.6
        assert drawn.max() > 230, "bright text"
    assert text_height(width, height) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("corner", ["top-left", "top-right", "bottom-left", "bottom-right"])
def test_the_corner_can_be_chosen(tmp_path: Path, corner: Corner) -> None:
    path = write_session(tmp_path / "s.parquet", [make_row(0, [])], new_metadata())
    picture = np.full((480, 640, 3), 128, np.uint8)
    with dgrec.open(path) as session:
        drawn = Hud(session, corner).draw(session.result(0), picture.copy())
        small = Hud(session, corner).draw(session.result(0), picture[:40, :60].copy())
    rows, columns = np.nonzero((drawn != picture).any(2))
    assert (rows.min() == 0) == ("top" in corner)
    assert (rows.max() == 479) == ("bottom" in corner)
    assert (columns.min() == 0) == ("left" in corner)
    assert (columns.max() == 639) == ("right" in corner)
    assert (small != 128).all(), "where it does not fit it covers all there is"


def test_a_panel_that_does_not_fit() -> None:
    image = np.full((20, 30, 3), 200, np.uint8)
    draw_panel(image, np.full((50, 50, 3), 255, np.uint8), 10, 5, 2)
    assert (image[:5] == 200).all()
    assert (image[:, :10] == 200).all()
    assert (image[7:, 12:] == 255).all()
    draw_panel(image, np.full((5, 5, 3), 255, np.uint8), 40, 5, 2)


def test_a_camera_is_timed_by_when_its_frames_were_captured(tmp_path: Path) -> None:
    rows = [
        make_row(i, media_time_s=None, captured_ns=START_NS + i * 250_000_000) for i in range(5)
    ]
    path = write_session(tmp_path / "s.parquet", rows, new_metadata())
    with dgrec.open(path) as session:
        model = HudModel(session)
        assert [model.values(result).elapsed_s for result in session] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.slow
@pytest.mark.parametrize("media_s", [1e308, -1e300, float("inf"), float("nan")])
def test_a_stamp_that_no_source_can_have_is_not_used(tmp_path: Path, media_s: float) -> None:
    rows = [make_row(i, captured_ns=START_NS + i * 250_000_000) for i in range(4)]
    rows[2].media_time_s = media_s
    path = write_session(tmp_path / "s.parquet", rows, new_metadata())
    with dgrec.open(path) as session:
        model = HudModel(session)
        assert [model.values(result).elapsed_s for result in session][2] == 0.5

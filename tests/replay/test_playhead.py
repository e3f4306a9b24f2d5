"""Marked frames of a session, and the player's jumps to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.format import Row, utc_text
from dgrec.replay.player.marks import Mark, Marks, find_marks
from dgrec.replay.player.played_frames import PlayedFrames, played_frames
from dgrec.replay.player.playhead import SPEEDS, Look, Playhead
from dgrec.replay.player.time_bar import TimeBar
from tests.dgrec.test_parts import write_set
from tests.factory import (
    edited,
    make_detection,
    make_row,
    make_rows,
    new_metadata,
    write_journal,
    write_session,
)
from tests.replay.conftest import uneven_rows
from tests.replay.test_timeline import RowByRow


def marked(path: Path, *arguments: Any) -> tuple[PlayedFrames, Marks]:
    with dgrec.open(path) as session:
        frames = played_frames(session, *arguments)
    return frames, find_marks(path, frames)


def head_of(path: Path) -> Playhead:
    frames, marks = marked(path)
    head = Playhead(frames)
    head.marks = marks
    return head


def labelled(labels: str) -> list[Row]:
    """Return ten frames a second, each with the labels that its word has: ``a ab - a``."""
    return [
        make_row(
            i,
            [make_detection(label=label) for label in word if label != "-"],
            media_time_s=i / 10,
        )
        for i, word in enumerate(labels.split())
    ]


def write(folder: Path, rows: list[Row], form: str) -> Path:
    if form == "journal":
        return write_journal(folder / "s.arrows", rows)
    return write_session(folder / "s.parquet", rows)


# --- what stands out ---


@pytest.mark.parametrize("form", ["sealed", "journal"])
def test_marks_of_the_program(tmp_path: Path, form: str) -> None:
    rows = [make_row(i, [], media_time_s=i / 10) for i in range(10)]
    stamps = [
        utc_text(rows[0].captured_ns - 10**9),  # before the first frame
        utc_text(rows[4].captured_ns),
        utc_text(rows[4].captured_ns + 1000),
        utc_text(rows[9].captured_ns + 10**9),
    ]
    events = [{"kind": "mark", "at": at, "text": f"mark {n}"} for n, at in enumerate(stamps)]
    events += [{"kind": "gap", "from": stamps[1], "to": stamps[2]}, {"kind": "mark", "text": "no"}]
    metadata = {**new_metadata(), "events": events}
    if form == "journal":
        path = write_journal(tmp_path / "s.arrows", rows, metadata)
    else:
        path = write_session(tmp_path / "s.parquet", rows, metadata)
    _, marks = marked(path)
    assert marks.marked == {4: ("mark 1", "mark 2"), 9: ("mark 3",)}
    assert np.flatnonzero(marks.kinds & np.uint8(Mark.EVENT)).tolist() == [4, 9]
    assert marks.describe(4) == "mark: mark 1, mark 2"
    assert marks.after(3) == 4


def test_marks_between_frames_that_are_not_played(tmp_path: Path) -> None:
    rows = make_rows(10)
    events = [
        {"kind": "mark", "at": utc_text(row.captured_ns + 1000), "text": f"{i}"}
        for i, row in enumerate(rows)
    ]
    path = write_session(tmp_path / "s.parquet", rows, new_metadata(events=events))
    assert marked(path, 0, 3)[1].marked == {0: ("0",), 1: ("1",), 2: ("2",)}
    assert marked(path, 0, None, [2, 9])[1].marked == {0: ("2",), 1: ("9",)}
    stamps = [row.captured_ns // 1000 if i != 3 else None for i, row in enumerate(rows)]
    edited(path, {"captured_at": stamps})
    assert marked(path)[1].marked[2] == ("2", "3")


@pytest.mark.parametrize("form", ["sealed", "journal"])
def test_drops_and_slow_frames(tmp_path: Path, form: str) -> None:
    rows = uneven_rows(200)
    path = write(tmp_path, rows, form)
    frames, marks = marked(path)
    with dgrec.open(path) as session:
        recorded = [result.row for result in session]
    latency = np.array([row["latency_ms"] for row in recorded])
    p99 = np.percentile(latency, 99)
    assert len(frames) == 200
    assert marks.p99_ms == pytest.approx(p99)
    for i, row in enumerate(recorded):
        assert bool(marks.kinds[i] & np.uint8(Mark.DROP)) == (row["dropped_before"] > 0)
        assert bool(marks.kinds[i] & np.uint8(Mark.SLOW)) == (row["latency_ms"] > p99)
    slow = int(np.argmax(latency))
    assert f"latency {latency[slow]:.1f} ms, p99 is {p99:.1f}" in marks.describe(slow)
    seven = recorded[7]["dropped_before"]
    assert marks.describe(7).startswith(f"{seven:,} frame")


def test_slow_frames_are_found_among_those_with_a_latency(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(10))
    _, none = marked(edited(path, {"latency_ms": [None] * 10}))
    assert none.p99_ms is None
    edited(path, {"latency_ms": [None, float("nan"), float("inf"), *[10.0] * 6, 50.0]})
    _, marks = marked(path)
    assert marks.p99_ms is not None
    assert 40 < marks.p99_ms < 50
    assert np.flatnonzero(marks.kinds & np.uint8(Mark.SLOW)).tolist() == [9]


@pytest.mark.parametrize("form", ["sealed", "journal"])
def test_a_label_appears_when_it_was_away_for_a_second(tmp_path: Path, form: str) -> None:
    words = "- a ab a - a " + "- " * 9 + "a b " + "- " * 10 + "b a ab"
    _, marks = marked(write(tmp_path, labelled(words), form))
    found = {i: marks.appearing[i] for i in sorted(marks.appearing)}
    # a: 1, kept until 5, again at 15 after exactly a second, again at 28; b: 2, 16, 27.
    assert found == {1: ("a",), 2: ("b",), 16: ("b",), 27: ("b",), 28: ("a",)}
    assert all(marks.kinds[i] & np.uint8(Mark.LABEL) for i in found)
    assert marks.describe(2) == "b appears"


def test_times_are_those_of_a_replay(tmp_path: Path) -> None:
    """Also where stamps stand still, step back or are missing."""
    rng = np.random.default_rng(4)
    rows = []
    for i in range(300):
        media: float | None = (i % 90) * 0.04
        if rng.random() < 0.1:
            media = float(rng.uniform(0, 3))
        if rng.random() < 0.1:
            media = None
        if rng.random() < 0.05:
            media = float("nan")
        captured = 1_700_000_000_000_000_000 + int(rng.integers(-50_000_000, 90_000_000))
        if i >= 100:
            captured += 3 * 86_400 * 10**9  # the camera was away
            media = None if media is None else media + 7_000 * (i // 100)
        rows.append(make_row(i, [], media_time_s=media, captured_ns=captured + i * 40_000_000))
    path = write_journal(tmp_path / "s.arrows", rows, batch=7)
    with dgrec.open(path) as session:
        timeline, rows = RowByRow(), [dict(result.row) for result in session]
    for row in rows:
        row["captured_at"] = round(row["captured_at"].timestamp() * 1e6)
    expected = [timeline.pts_us(row) for row in rows]
    assert marked(path)[0].times_us.tolist() == expected


def test_a_stretch_and_chosen_frames(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", labelled("a " * 50))
    part, marks = marked(path, 10, 20)
    assert part.positions.tolist() == list(range(10, 20))
    assert part.times_us[0] == 0
    assert marks.describe(0) == "a appears"
    chosen, _ = marked(path, 0, 40, [3, 30, 31, 45])
    assert chosen.positions.tolist() == [3, 30, 31]
    assert marked(path, 0, 50, [])[0].positions.tolist() == []


@pytest.mark.slow
def test_chosen_frames_of_a_recording_in_parts(tmp_path: Path) -> None:
    output = write_set(tmp_path, size=8)  # 100 rows in 13 parts, a batch each
    wanted = np.random.default_rng(5).choice(100, 40, replace=False)
    with dgrec.open(output) as session:
        latency = np.asarray(session.frames["latency_ms"].to_pylist())
        for start, end in ((0, 100), (11, 77)):
            chosen, marks = marked(output, start, end, wanted)
            positions = np.sort(wanted[(wanted >= start) & (wanted < end)])
            assert chosen.positions.tolist() == positions.tolist()
            assert marks.latency_ms.tolist() == latency[positions].tolist()


# --- where a player goes ---


@pytest.fixture
def head(tmp_path: Path) -> Playhead:
    """Stand at the first of 300 frames, ten a second; 20, 150 and 299 stand out."""
    rows = labelled("- " * 300)
    rows[20].dropped_camera = 2
    rows[299].dropped_camera = 1
    for row in rows:
        row.completed_ns = row.captured_ns + 5_000_000
    rows[150].completed_ns += 1_000_000
    return head_of(write_session(tmp_path / "s.parquet", rows))


def test_marks_come_in_order(head: Playhead) -> None:
    assert head.act("next_mark")
    assert (head.frame, head.is_playing) == (20, False)
    for action, frame in [
        ("next_mark", 150),
        ("next_mark", 299),
        ("next_mark", 299),
        ("previous_mark", 150),
        ("previous_mark", 20),
        ("previous_mark", 20),
    ]:
        head.act(action)  # type: ignore[arg-type]
        assert head.frame == frame


def test_steps_and_jumps_end_at_the_ends(head: Playhead) -> None:
    for action, frame in [
        ("step_back", 0),
        ("step", 1),
        ("jump", 101),
        ("jump_back", 1),
        ("jump_back", 0),
        ("end", 299),
        ("step", 299),
        ("jump", 299),
        ("jump_back", 199),
        ("home", 0),
    ]:
        head.act(action)  # type: ignore[arg-type]
        assert head.frame == frame


def test_a_jump_goes_on_playing_and_a_step_does_not(head: Playhead) -> None:
    head.advance(0.0)
    head.act("jump")
    assert head.is_playing
    assert head.due(50.0) == pytest.approx(0.1), "the clock starts anew where it landed"
    assert not head.advance(50.05)
    assert head.advance(50.1)
    assert head.frame == 101
    head.act("step")
    assert (head.frame, head.due(60.0)) == (102, float("inf"))


def test_speeds(head: Playhead) -> None:
    for expected in (2.0, 4.0, 8.0, 16.0, 16.0):
        head.act("faster")
        assert head.speed == expected
    for _ in SPEEDS:
        head.act("slower")
    assert head.speed == 0.1
    assert head.due(5.0) == pytest.approx(1.0)
    uneven = Playhead(head.frames, speed=3.0)
    uneven.act("slower")
    assert uneven.speed == 2.0


def test_fast_playing_is_not_called_late(head: Playhead) -> None:
    head.act("faster")
    head.due(0.0)
    assert head.advance(1.0)
    assert (head.frame, head.passed_over) == (20, 0)
    slow = Playhead(head.frames)
    slow.due(0.0)
    assert slow.advance(1.0)
    assert (slow.frame, slow.passed_over) == (10, 9)


def test_the_end(head: Playhead) -> None:
    alone = Playhead(head.frames)
    now = 0.0
    while not alone.is_over:
        now += 0.1 + 1e-9
        alone.due(now)
        alone.advance(now)
    assert alone.frame == 299
    head.act("end")
    head.act("pause")
    assert (head.frame, head.is_playing, head.is_over) == (0, True, False), "from the start again"
    head.seek(1.0)
    head.due(0.0)
    assert not head.advance(1.0)
    assert (head.is_playing, head.is_over) == (False, False)
    head.loop = True
    head.is_playing = True
    assert head.advance(9.0)
    assert head.frame == 0


def test_looks(head: Playhead) -> None:
    assert head.look == Look(labels=True, hud=False)
    head.act("labels")
    head.act("hud")
    assert head.look == Look(labels=False, hud=True)
    head.act("help")
    assert head.shows_help
    head.act("quit")
    assert head.is_over


def test_one_frame(tmp_path: Path) -> None:
    head = head_of(write_session(tmp_path / "s.parquet", [make_row(0)]))
    bar = TimeBar(head.frames, 64, 48)
    screen = bar.draw(np.zeros((48, 64, 3), np.uint8), head)
    assert screen.shape == (48 + bar.height, 64, 3)
    head.seek(1.0)
    for action in ("step", "step_back", "jump", "next_mark", "end", "home"):
        head.act(action)  # type: ignore[arg-type]
        assert head.frame == 0


# --- the time line ---


def test_marks_stand_at_their_times(head: Playhead) -> None:
    bar = TimeBar(head.frames, 640, 360)
    black = np.zeros((360, 640, 3), np.uint8)
    screen = bar.draw(black, head)
    line = screen[360:]
    red = [int(x) for x in np.flatnonzero((line == (70, 70, 255)).all(-1).any(0))]
    amber = [int(x) for x in np.flatnonzero((line[:24] == (60, 190, 255)).all(-1).any(0))]
    at = [bar.column_of(float(head.frames.times_us[frame])) for frame in (20, 150, 299)]
    assert red[0] == at[0]
    assert at[2] in red
    assert amber[0] == at[1]
    fraction = bar.fraction_at(at[1], 360 + 15)
    assert fraction is not None
    head.seek(fraction)
    assert head.frame in (149, 150)
    moved = bar.draw(black, head)[360:]
    assert (moved[15, at[1] - 4 : at[1] + 4] == 255).all(-1).any(), "the position is white"
    assert bar.fraction_at(at[1], 100) is None, "the picture is not the time line"
    assert bar.fraction_at(-50, 375) == 0.0
    assert bar.fraction_at(5000, 375) == 1.0


def test_the_bar_says_why_a_frame_is_marked_and_where_help_is(head: Playhead) -> None:
    bar = TimeBar(head.frames, 640, 360)
    black = np.zeros((360, 640, 3), np.uint8)

    def text() -> np.ndarray[Any, Any]:
        return bar.draw(black, head)[360 + 26 :].astype(int)  # below the time line

    def colored(part: np.ndarray[Any, Any]) -> int:
        return int(np.count_nonzero(part[:, :, 2] - part[:, :, 0] > 60))  # more red than blue

    plain = text()
    assert plain[:, 560:].max() > 100, "? help stands at the right"
    assert colored(plain) == 0
    head.act("next_mark")  # two frames were dropped before it
    dropped = text()
    assert colored(dropped) > 50
    assert np.median(dropped[dropped[:, :, 2] > 200], axis=0)[1] < 100, "red"
    head.act("next_mark")  # a slow one
    slow = text()
    assert colored(slow) > 50
    assert not np.array_equal(slow, dropped)


def test_help_covers_the_picture_and_goes_again(head: Playhead) -> None:
    picture = np.full((360, 640, 3), 200, np.uint8)
    bar = TimeBar(head.frames, 640, 360)
    head.act("help")
    screen = bar.draw(picture, head)
    assert (screen[:360] != 200).any()
    assert (picture == 200).all(), "the picture itself is not written on"
    head.act("help")
    assert (bar.draw(picture, head)[:360] == 200).all()
    # However small the picture is.
    head.act("help")
    small = TimeBar(head.frames, 40, 30)
    assert small.draw(np.zeros((30, 40, 3), np.uint8), head, "a message").shape[1] == 40

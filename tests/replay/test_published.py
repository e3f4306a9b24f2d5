"""Answers about a recording that was published: delays, and missing messages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import dgrec
from dgrec.cli import gather
from dgrec.replay.drawing import hud
from tests.factory import make_rows, write_published, write_session
from tests.reports import ReportPage


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return write_published(tmp_path / "s.parquet")


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(gather(), [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return str(result.output)


@pytest.mark.slow
def test_stats_have_it_as_a_stage(session: Path, tmp_path: Path) -> None:
    # The slower of two targets had taken frame n after 30 + n milliseconds; the last 5 it has not.
    times = np.arange(15) + 30.0
    stages = json.loads(run("stats", session, "--format", "json"))["stages"]
    assert stages["published_ms"]["count"] == 15
    assert stages["published_ms"]["p95"] == pytest.approx(np.quantile(times, 0.95))
    (line,) = [line for line in run("stats", session).splitlines() if line.startswith("published")]
    assert line.split()[:3] == ["published", "15", "37.000"]
    with dgrec.open(session) as opened:
        row = opened.sql_rows("SELECT frames, p50_ms FROM stage_latency WHERE stage = 'published'")
        assert row == [(15, 37.0)]
    # Most recordings are not published.
    plain = write_session(tmp_path / "plain.parquet", make_rows(20))
    assert "published" not in run("stats", plain)
    assert "ublished" not in run("stats", plain, "--why")


@pytest.mark.slow
def test_why_says_how_long_and_what_is_missing(session: Path) -> None:
    text = " ".join(run("stats", session, "--why").split())
    with dgrec.open(session) as opened:
        after = opened.sql_rows("SELECT median(published_ms - latency_ms) FROM frames")[0][0]
    assert "Published: 37 ms from capture until the slowest target had taken a frame" in text
    assert f"{after:.3g} ms of that after its result" in text
    assert f"b.jsonl did not get 5 of 20 frames: dgrec publish {session} b.jsonl --missing" in text
    assert "a.jsonl did not get" not in text


def test_missing_sends_them(session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "b.jsonl: 5 messages" in run("publish", session, "b.jsonl", "--missing")
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 5
    assert "a.jsonl: 0 messages" in run("publish", session, "a.jsonl", "--missing")
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["c.jsonl", "--missing"], 1, "was not published to c.jsonl while recording; it was to a"),
        (["b.jsonl", "--missing", "--payload", "full"], 2, "no --payload"),
        (["b.jsonl", "--missing", "--speed", "2"], 2, "no --speed"),
    ],
)
def test_what_missing_does_not_take(
    session: Path, arguments: list[str], code: int, words: str
) -> None:
    result = CliRunner().invoke(gather(), ["publish", str(session), *arguments])
    assert result.exit_code == code
    assert words in result.output


def test_the_hud_has_it(session: Path, tmp_path: Path) -> None:
    with dgrec.open(session) as opened:
        model = hud.HudModel(opened)
        first = [line.text for line in hud.hud_lines(model.values(opened.result(0)))]
        last = [line.text for line in hud.hud_lines(model.values(opened.result(-1)))]
    assert any(line.split() == ["published", "30.0", "ms"] for line in first)
    assert any(line.split() == ["published", "-"] for line in last)
    plain = write_session(tmp_path / "plain.parquet", make_rows(3))
    with dgrec.open(plain) as opened:
        lines = hud.hud_lines(hud.HudModel(opened).values(opened.result(0)))
    assert not any("published" in line.text for line in lines)


def test_clips_keep_it(session: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.parquet"
    run("clip", session, "--where", "frame BETWEEN 10 AND 17", "-o", clip)
    with dgrec.open(clip) as opened:
        found = [result.row["published_ms"] for result in opened]
        assert "targets" not in opened.metadata
    assert found == [40.0, 41.0, 42.0, 43.0, 44.0, None, None, None]


@pytest.mark.slow
def test_the_report_has_it(session: Path, tmp_path: Path) -> None:
    run("report", session, "-o", tmp_path / "report.html")
    page = ReportPage(tmp_path / "report.html").text
    assert "What was published" in page
    assert "b.jsonl" in page

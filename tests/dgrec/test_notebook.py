"""Sessions and comparisons as a notebook shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

import dgrec
from tests.factory import edited, make_rows, new_metadata, write_journal, write_session

SESSION = Path(dgrec.__file__).parent.parent / "sample_data" / "session.parquet"


def test_notebook_shows_a_table() -> None:
    with dgrec.open(SESSION) as session:
        shown, _ = DisplayFormatter().format(session)
        text = shown["text/html"]
        latency = session.frames["latency_ms"].to_numpy()
    assert text.startswith("<table>")
    assert "<b>session</b>" in text
    assert ">420<" in text
    p50, p95, p99 = np.quantile(latency, [0.5, 0.95, 0.99])
    assert f"p50 {p50:,.1f}, p95 {p95:,.1f}, p99 {p99:,.1f}" in text


def test_texts_of_the_session_are_escaped(tmp_path: Path) -> None:
    metadata = new_metadata()
    metadata["name"] = "<script>alert(1)</script>"
    metadata["source"] = {"given": "<img src=x onerror=alert(1)>"}
    path = write_session(tmp_path / "s.parquet", make_rows(3), metadata=metadata)
    with dgrec.open(path) as session:
        text = session._repr_html_()
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_session_without_frames_and_journal(tmp_path: Path) -> None:
    with dgrec.open(write_session(tmp_path / "none.parquet", [])) as session:
        assert ">0<" in session._repr_html_()
    with dgrec.open(write_journal(tmp_path / "j.arrows", make_rows(3), end=False)) as session:
        assert "not sealed yet" in session._repr_html_()


@pytest.mark.parametrize(
    ("reason", "ended_at", "shown"),
    [
        ("finished", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z (finished)"),
        ("imported", None, "imported"),
        ("recovered", "2026-01-02T03:04:05Z", "cut off"),
        ("recovered", None, "cut off"),
        (None, None, "cut off"),
    ],
)
def test_how_a_session_ended(
    tmp_path: Path, reason: str | None, ended_at: str | None, shown: str
) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(1))
    with dgrec.open(edited(path, {}, end_reason=reason, ended_at=ended_at)) as session:
        assert f'>ended</th><td style="text-align:left">{shown}</td>' in session._repr_html_()


def test_comparison_is_a_table() -> None:
    comparison = dgrec.compare(SESSION, SESSION)
    shown, _ = DisplayFormatter().format(comparison)
    text = shown["text/html"]
    assert text.count("<tr>") == 1 + len(comparison.rows)
    assert "throughput_fps" in text
    assert ">+0.0% (+0.0% to +0.0%)<" in text
    assert "NEW: 420 frames, 0 of them warm-up." in text
    assert text.count(">SAME<") == len(comparison.rows)
    assert "What differs: nothing." in text
    assert "Agreement (F1) of 420 frames: 1.0000." in text


def test_texts_of_a_comparison_are_escaped(tmp_path: Path) -> None:
    metadata = new_metadata()
    metadata["model"] = {**metadata["model"], "name": "other"}
    base = write_session(tmp_path / "<img src=x onerror=alert(1)>.parquet", make_rows(40))
    new = write_session(tmp_path / "new.parquet", make_rows(40), metadata=metadata)
    text = dgrec.compare(base, new)._repr_html_()
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "model.name" in text

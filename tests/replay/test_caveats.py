"""Caveats of a session stand beside its numbers, wherever they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import dgrec as dgrec_package
from dgrec.format import JournalWriter
from dgrec.replay.stats import caveats, moments
from tests.factory import CLOSING, make_rows, new_metadata, write_journal, write_session
from tests.reports import ReportPage

Run = Callable[..., Result]
CUT_OFF = (
    "The recorder was cut off before it ended the recording: what it had in memory (less than a "
    "second) is lost."
)


def of(path: Path) -> tuple[str, ...]:
    with dgrec_package.open(path) as session:
        return caveats(session)


def damaged(path: Path) -> Path:
    """Write a journal with a byte changed in its middle."""
    write_journal(path, make_rows(200))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return path


def clip_of(dgrec: Run, path: Path, where: str, name: str) -> Path:
    output = path.with_name(name)
    done = dgrec("clip", path, "--where", where, "--output", output)
    assert done.exit_code == 0, done.output
    return output


def test_a_whole_recording_has_none(tmp_path: Path) -> None:
    assert of(write_session(tmp_path / "s.parquet", make_rows(20))) == ()
    assert of(write_journal(tmp_path / "ended.arrows", make_rows(20))) == ()


def test_recordings_without_an_end(tmp_path: Path) -> None:
    assert of(write_journal(tmp_path / "s.arrows", make_rows(20), end=False)) == (CUT_OFF,)
    assert of(write_session(tmp_path / "r.parquet", make_rows(20), end=False)) == (CUT_OFF,)
    writer = JournalWriter(tmp_path / "live.arrows", new_metadata(), durability="never")
    try:
        writer.write(make_rows(20))
        (caveat,) = of(tmp_path / "live.arrows")
    finally:
        writer.close()
    assert caveat.startswith("Still being recorded")


def test_an_end_that_nobody_asked_for(tmp_path: Path) -> None:
    for reason, told in (
        ("disk_full", "there was no room left (no space)"),
        ("source_lost", "the source was lost (no space)"),
        ("failed", "it failed (no space)"),
    ):
        closing = {**CLOSING, "end_reason": reason, "end_detail": "no space"}
        path = write_session(tmp_path / f"{reason}.parquet", make_rows(5), closing=closing)
        assert of(path) == (f"The recording ended early: {told}.",)
    for reason in ("limit", "interrupted", "split"):
        closing = {**CLOSING, "end_reason": reason}
        assert of(write_session(tmp_path / f"{reason}.parquet", [], closing=closing)) == ()


@pytest.mark.slow
def test_clips(dgrec: Run, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(300))
    one = clip_of(dgrec, path, "frame BETWEEN 50 AND 99", "one.parquet")
    assert of(one) == ()
    several = clip_of(dgrec, path, "frame % 100 < 20", "several.parquet")
    (caveat,) = of(several)
    assert caveat.startswith("A clip of 3 moments: rates, intervals and stalls go across the cuts")
    # One piece of the clip, with one of its cuts inside; and another, with none.
    for where, count in (("frame BETWEEN 10 AND 30", 2), ("frame BETWEEN 20 AND 39", 1)):
        with dgrec_package.open(clip_of(dgrec, several, where, f"again{count}.parquet")) as again:
            assert moments(again) == count
    (lost,) = of(clip_of(dgrec, damaged(tmp_path / "d.arrows"), "frame < 5", "d.parquet"))
    assert lost.startswith("Cut from a damaged session: ")


@pytest.mark.parametrize("clip", [{}, {"ranges": None}, {"ranges": [1, {"first_frame": "2"}]}])
def test_metadata_of_other_tools(clip: Any, tmp_path: Path) -> None:
    metadata = new_metadata(clip=clip)
    assert of(write_session(tmp_path / "s.parquet", make_rows(5), metadata)) == ()


def test_what_comes_from_the_session_is_one_line_and_steers_no_terminal(tmp_path: Path) -> None:
    closing = {**CLOSING, "end_reason": "failed", "end_detail": "a\x1b[31m\nb"}
    path = write_session(tmp_path / "s.parquet", make_rows(5), closing=closing)
    assert of(path) == ("The recording ended early: it failed (a [31m b).",)


@pytest.mark.slow
def test_they_are_the_same_wherever_numbers_are(dgrec: Run, tmp_path: Path) -> None:
    path = damaged(tmp_path / "s.arrows")
    (caveat,) = of(path)
    assert caveat.startswith("Not all can be read: ")
    for options in ((), ("--why",)):
        assert caveat in dgrec("stats", path, *options).stdout
        found = json.loads(dgrec("stats", path, *options, "--format", "json").stdout)
        assert (found[0] if options else found)["caveats"] == [caveat]
    assert f'caveat,"{caveat}"' in dgrec("stats", path, "--format", "csv").stdout
    # A table of rows has no place for them.
    by_label = dgrec("stats", path, "--by", "label")
    assert caveat not in by_label.stdout
    assert f"{path}: {caveat}" in by_label.stderr
    assert caveat in dgrec("report", path, "--no-pictures").stderr
    assert caveat in ReportPage(tmp_path / "s.report.html").text


@pytest.mark.slow
def test_of_a_clip_of_moments_no_rate_is_told(dgrec: Run, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(300))
    clip = clip_of(dgrec, path, "frame % 100 < 20", "clip.parquet")
    assert "(over 2 cuts)" in dgrec("stats", clip).stdout
    (found,) = json.loads(dgrec("stats", clip, "--why", "--format", "json").stdout)
    assert (found["fps"], found["in_flight"], found["limit"]) == (None, None, None)
    assert {load["busy"] for load in found["loads"]} == {None}
    told, latency, *_ = found["findings"]
    assert told == "From moments of a recording, its rate and what limits it is unknown."
    assert latency.startswith("Where the 12.")
    assert dgrec("report", clip, "--no-pictures").exit_code == 0
    page = ReportPage(tmp_path / "clip.report.html").text
    assert "60 frames of 3 moments; 60 detections." in page
    assert "waits for frames" not in page
    assert "it is the limit" not in page
    assert "Little's law" not in page

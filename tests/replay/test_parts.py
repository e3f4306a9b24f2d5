"""The commands of this room take a recording in parts as one session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from dgrec.format import Journal, JournalWriter, seal
from dgrec.paths import part_path
from dgrec.replay.verify import verify
from tests.factory import new_metadata, write_session
from tests.replay.conftest import uneven_rows

ROWS = uneven_rows(90)
Run = Callable[..., Result]


def write_parts(output: Path, *, size: int = 8, journal: bool = False) -> Path:
    for number, start in enumerate(range(0, len(ROWS), size), 1):
        path = part_path(output, number)
        part = {"number": number, "set_id": "set-1", "first_frame": start}
        writer = JournalWriter(
            path.with_suffix(".arrows"),
            new_metadata(path.stem, part=part),
            durability="never",
            first_frame=start,
        )
        rows = ROWS[start : start + size]
        writer.write(rows)
        is_left = journal and start + size >= len(ROWS)
        if not is_left:
            totals = {"frames": len(rows), "detections": sum(len(row.results) for row in rows)}
            writer.end({"ended_at": None, "end_reason": "split", "totals": totals})
        writer.close()
        if not is_left:
            seal(Journal.open(writer.path), path)
            writer.path.unlink()
    return output


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return write_parts(tmp_path / "s.parquet")


@pytest.fixture
def one(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    return write_session(tmp_path / "one" / "s.parquet", ROWS)


def output_of(done: Result) -> str:
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return done.stdout


def rounded(value: Any) -> Any:
    """Return a JSON value with twelve digits: averages are added up in another order."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


@pytest.mark.slow
def test_query(dgrec: Run, parts: Path, one: Path) -> None:
    query = "SELECT * EXCLUDE (session_id) FROM frames"
    whole = output_of(dgrec("query", one, query, "--format", "jsonl"))
    assert output_of(dgrec("query", parts, query, "--format", "jsonl")) == whole
    assert output_of(dgrec("query", parts.with_suffix(""), query, "--format", "jsonl")) == whole


@pytest.mark.slow
def test_stats(dgrec: Run, parts: Path, one: Path) -> None:
    stats, expected = (
        json.loads(output_of(dgrec("stats", path, "--format", "json"))) for path in (parts, one)
    )
    for own in ("session", "session_id"):
        assert stats.pop(own) != expected.pop(own)
    assert rounded(stats) == rounded(expected)


@pytest.mark.slow
def test_info(dgrec: Run, parts: Path) -> None:
    info = json.loads(output_of(dgrec("info", parts, "--format", "json")))
    assert info["form"] == "parts"
    assert info["state"] == "12 parts, sealed"
    assert info["frames"] == 90
    assert info["detections"] == sum(len(row.results) for row in ROWS)
    assert info["bytes"] == sum(path.stat().st_size for path in parts.parent.glob("s-*"))
    (frame,) = (column for column in info["columns"] if column["name"] == "frame")
    assert 0 < frame["bytes"] < info["bytes"]
    assert info["checksums"] is True
    table = output_of(dgrec("info", parts))
    assert "12 parts, sealed" in table
    assert "all correct" in table


@pytest.mark.slow
def test_info_of_a_set_that_was_cut_off(dgrec: Run, tmp_path: Path) -> None:
    write_parts(tmp_path / "s.parquet", journal=True)
    info = json.loads(output_of(dgrec("info", tmp_path / "s", "--format", "json")))
    assert info["state"] == "12 parts, cut off: its recorder did not end the last one"
    assert info["frames"] == 90
    assert info["detections"] == sum(len(row.results) for row in ROWS)
    assert "12 parts, cut off" in output_of(dgrec("info", tmp_path / "s"))


@pytest.mark.slow
def test_verify(dgrec: Run, parts: Path) -> None:
    done = dgrec("verify", parts, part_path(parts, 5))
    assert (done.exit_code, done.stderr) == (0, "2 sessions, none with problems\n")
    assert done.stdout.splitlines() == [f"{parts}: whole", f"{part_path(parts, 5)}: whole"]


def test_verify_after_the_oldest_parts_were_removed(parts: Path) -> None:
    part_path(parts, 1).unlink()
    part_path(parts, 2).unlink()
    assert verify(parts) == []


@pytest.mark.slow
def test_verify_finds_what_is_wrong(parts: Path) -> None:
    part_path(parts, 4).unlink()
    data = bytearray(part_path(parts, 7).read_bytes())
    data[50] ^= 1
    part_path(parts, 7).write_bytes(data)
    missing, damaged = sorted(verify(parts), key=lambda line: "damaged" in line)
    assert missing == "part 4 is missing: frames 24 to 31 are lost"
    assert damaged.startswith("part 7 (s-0007.parquet) cannot be read: damaged")


def test_verify_finds_rows_missing_between_two_parts(tmp_path: Path) -> None:
    """As if the end of part 1 had never been written."""
    output = tmp_path / "s.parquet"
    for number, first, rows in ((1, 0, ROWS[:5]), (2, 8, ROWS[8:16])):
        part = {"number": number, "set_id": "set-1", "first_frame": first}
        path = part_path(output, number)
        writer = JournalWriter(
            path.with_suffix(".arrows"), new_metadata(part=part), first_frame=first
        )
        writer.write(rows)
        writer.end({"totals": {}})
        writer.close()
        seal(Journal.open(writer.path), path)
        writer.path.unlink()
    assert verify(output) == ["row 5 has the frame number 8"]


@pytest.mark.slow
def test_verify_tells_of_a_part_that_was_cut_off(tmp_path: Path) -> None:
    output = write_parts(tmp_path / "s.parquet", journal=True)
    (problem,) = verify(output)
    assert problem.startswith("part 12: its recorder was cut off (dgrec recover ")


@pytest.mark.slow
def test_replay(dgrec: Run, parts: Path) -> None:
    video = parts.parent / "out.mp4"
    arguments = ["--start", 5, "--max-frames", 20, "--output", video]  # over three parts
    done = dgrec("replay", parts, *arguments)
    assert done.exit_code == 0, done.output
    assert "20 frames" in done.stdout
    import av

    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.parquet", "s-0003.parquet"])
def test_the_set_is_not_overwritten_with_an_answer(dgrec: Run, parts: Path, name: str) -> None:
    before = part_path(parts, 3).read_bytes()
    done = dgrec(
        "query",
        parts,
        "SELECT 1",
        "--format",
        "parquet",
        "--overwrite",
        "--output",
        parts.with_name(name),
    )
    assert done.exit_code == 1
    assert "is the session itself" in done.stderr
    assert not parts.exists()
    assert part_path(parts, 3).read_bytes() == before

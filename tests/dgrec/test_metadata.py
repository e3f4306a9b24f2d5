"""Metadata: identifiers that sort by time, versions that are refused, secrets that are not kept."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

import pytest

from dgrec.errors import DamagedSessionError, FormatVersionError, NotASessionError
from dgrec.format import metadata, utc_text, uuid7
from dgrec.format.schema import FORMAT_VERSION

# --- secrets -----------------------------------------------------------------------------------


# --- identifiers and stamps --------------------------------------------------------------------


def test_uuid7_sorts_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_767_323_045_678_901_234
    monkeypatch.setattr("time.time_ns", lambda: now)
    made = []
    for step in (0, 1_000_000, 2_000_000, 10**12, 10**15):
        now = 1_767_323_045_678_901_234 + step
        made.append(str(uuid7()))
    assert made == sorted(made)
    parsed = uuid.UUID(made[0])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_767_323_045_678


def test_uuid7_is_unique() -> None:
    assert len({uuid7() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_323_045_678_901_999, "2026-01-02T03:04:05.678901Z"),
        (1_767_323_045_000_000_000, "2026-01-02T03:04:05.000000Z"),
        (4_102_444_799_999_999_999, "2099-12-31T23:59:59.999999Z"),
    ],
)
def test_utc_text(ns: int, text: str) -> None:
    assert utc_text(ns) == text
    assert dt.datetime.fromisoformat(text).timestamp() == pytest.approx(ns / 1e9)


# --- form and version --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"), [("source", "cam"), ("name", 5), ("events", {}), ("totals", [1])]
)
def test_a_value_of_another_type_is_left_out_and_named(key: str, value: Any) -> None:
    made = metadata.new("s", 0)
    text = metadata.dumps({**made, key: value})
    assert metadata.loads(text, "s.parquet") == {k: v for k, v in made.items() if k != key}
    assert metadata.parse(text, "s.parquet")[1] == [key]
    # Null is what was not known.
    text = metadata.dumps({**made, "model": None})
    assert metadata.loads(text, "s") == made
    assert metadata.parse(text, "s")[1] == []


def test_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGREC_HOST", "gate-3")
    made = metadata.new("street", 0)
    assert made["format"] == {"name": "dgrec", "version": FORMAT_VERSION}
    assert made["started_at"] == "1970-01-01T00:00:00.000000Z"
    assert made["host"]["name"] == "gate-3"
    assert metadata.loads(metadata.dumps(made), "x") == made


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 99, "2", 1.5, None])
def test_a_newer_version_is_refused_naming_both(version: object) -> None:
    text = json.dumps({"format": {"name": "dgrec", "version": version}})
    with pytest.raises(FormatVersionError, match=f"a.parquet.*{version}.* up to {FORMAT_VERSION}"):
        metadata.loads(text, "a.parquet")


@pytest.mark.parametrize("text", ["", "{", "nul", b"\xff\xfe\x00"])
def test_damaged_text(text: str | bytes) -> None:
    with pytest.raises(DamagedSessionError, match="metadata is damaged"):
        metadata.loads(text, "a.parquet")


@pytest.mark.parametrize("text", ["1", "[]", "{}", '{"format": 1}', '{"format": {"name": "x"}}'])
def test_json_of_somebody_else(text: str) -> None:
    with pytest.raises(NotASessionError):
        metadata.loads(text, "a.parquet")

"""Sizes and durations with their units."""

from __future__ import annotations

import pytest

from dgrec.errors import ConfigError
from dgrec.units import parse_duration, parse_rate, parse_seconds, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1B", 1),
        ("512MB", 512_000_000),
        ("512 mb", 512_000_000),
        ("20GB", 20_000_000_000),
        ("1.5GB", 1_500_000_000),
        ("2TB", 2_000_000_000_000),
        ("3kB", 3_000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert type(parse_size(text)) is int


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800), ("0.5h", 1800), (" 1M ", 60)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "10", "MB", "-5MB", "10m", "1e3MB", "5MiB", "0MB", "5 M B", "0.4B", "9" * 400 + "MB"],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    "text",
    ["", "10", "s", "-5s", "10MB", "0s", "10min", "1h30m", "nan s", "9" * 400 + "d", "99999999d"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10), ("1.5", 1.5), (".5s", 0.5), ("2m", 120), ("0", 0), ("3.", 3)]
)
def test_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-1", "1e400", "1e3", "", ".", "9" * 400, "5 frames"]
)
def test_what_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(ConfigError, match="is no duration"):
        parse_seconds(text)


def test_rates() -> None:
    assert [parse_rate(text) for text in ("15", "0.5", "29.97")] == [15, 0.5, 29.97]


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "1e400", "15s", "2000000"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ConfigError, match="is no rate"):
        parse_rate(text)

"""Sizes and durations with their units."""

from __future__ import annotations

import pytest

from dgrec.errors import ConfigError
from dgrec.units import (
    Quantity,
    and_more,
    counted,
    parse_dimensions,
    parse_rate,
    parse_size,
    parse_time,
)


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
    "text",
    ["", "10", "MB", "-5MB", "10m", "1e3MB", "5MiB", "0MB", "5 M B", "0.4B", "9" * 400 + "MB"],
)
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid size; expected 512MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[
            ("90s", 90),
            ("10m", 600),
            ("24h", 86_400),
            ("7d", 604_800),
            ("0.5h", 1800),
            (" 1M ", 60),
        ],
        *[
            ("10", 10),
            ("1.5", 1.5),
            (".5s", 0.5),
            ("2m", 120),
            ("0", 0),
            ("3.", 3),
            ("250ms", 0.25),
        ],
        *[
            ("1h30m", 5400),
            ("1m30s", 90),
            ("1h 30m 5s", 5405),
            ("1d12h", 129_600),
            ("2s5ms", 2.005),
        ],
        *[("1:30", 90), ("00:01:30.5", 90.5), ("100:00:00", 360_000)],
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *["", ".", "s", "-5s", "-1", "10MB", "10min", "nan", "nan s", "inf", "1e400", "1e3"],
        *["9" * 400, "9" * 400 + "d", "99999999d", "5 frames", "30m1h", "1h1h", "1s30"],
        *["1:60", "1:5:60", "1:2:3:4", "::", "\u0663s"],
    ],
)
def test_what_is_not_a_time(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a valid time; expected 90s, 10m, 1h30m"):
        parse_time(text)


def test_a_quantity_has_limits() -> None:
    quantity = Quantity(parse_time, "1s", "1h")
    assert quantity.read("60m") == 3600
    with pytest.raises(ConfigError, match="'500ms' is too little; 1s is the least"):
        quantity.read("500ms")
    with pytest.raises(ConfigError, match="'61m' is too much; 1h is the most"):
        quantity.read("61m")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("640x360", (640, 360)),
        (" 640X360 ", (640, 360)),
        ("640x", (640, None)),
        ("x360", (None, 360)),
    ],
)
def test_dimensions(text: str, size: tuple[int | None, int | None]) -> None:
    assert parse_dimensions(text) == size


@pytest.mark.parametrize("text", ["", "x", "640", "0x360", "640x0", "-1x2", "6.5x3", "123456x1"])
def test_what_is_not_a_size_of_pictures(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid size; expected WIDTHxHEIGHT"):
        parse_dimensions(text)


def test_rates() -> None:
    assert [parse_rate(text) for text in ("15", "0.5", "29.97")] == [15, 0.5, 29.97]


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "1e400", "15s", "2000000"])
def test_what_is_not_a_rate(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid rate; expected frames a second"):
        parse_rate(text)


def test_counts_have_the_right_plural() -> None:
    assert counted(0, "frame") == "0 frames"
    assert counted(1, "frame", "is", "are") == "1 frame is"
    assert counted(2000, "more row") == "2,000 more rows"


def test_the_first_problem_says_how_many_more_there_are() -> None:
    assert and_more(["a"]) == "a"
    assert and_more(["a", *"b" * 1234], "more: dgrec info") == "a (and 1,234 more: dgrec info)"

"""Reads and writes sizes, times, rates and counts: ``512MB``, ``90s``, ``1h30m``, ``00:01:30``.

Units of sizes are decimal (1 KB is 1,000 bytes), as in everything that dgrec prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from dgrec.errors import ConfigError

__all__ = [
    "Quantity",
    "and_more",
    "count_text",
    "counted",
    "digits",
    "ms_text",
    "parse_both_dimensions",
    "parse_dimensions",
    "parse_rate",
    "parse_steps",
    "parse_size",
    "parse_time",
    "size_text",
]

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_PLAIN = re.compile(rf"{_NUMBER}\Z", re.ASCII)
_SIZE = re.compile(rf"{_NUMBER}\s*([kmgt]?b)\Z", re.ASCII)
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
#: Units from the largest to the smallest, each at most once. The m of ms is not a minute.
_TERMS = re.compile(
    r"\s*".join(rf"(?:{_NUMBER}\s*{unit}{'(?!s)' if unit == 'm' else ''})?" for unit in _SECONDS)
    + r"\Z",
    re.ASCII,
)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)\Z", re.ASCII)
_DIMENSIONS = re.compile(r"(\d{0,5})x(\d{0,5})\Z", re.ASCII)
#: More than any disk, recording or camera needs, and less than clocks and system calls allow.
_MOST_BYTES = 10**18
_LONGEST_S = 36_500 * 86_400
_FASTEST = 10**6
#: Values of a range.
_MOST_STEPS = 1000


@dataclass(frozen=True)
class Quantity:
    """A number with a unit: the function that reads its text, and its limits as texts."""

    parse: Callable[[str], float]
    least: str | None = None
    most: str | None = None

    def read(self, text: str) -> float:
        """Return the number that ``text`` names.

        Raises:
            ConfigError: It is invalid, or out of the limits.
        """
        number = self.parse(text)
        self.check(number, repr(text))
        return number

    def check(self, number: float, given: str) -> None:
        """Raise `ConfigError` if ``number``, which was given as ``given``, is out of the limits."""
        if self.least is not None and number < self.parse(self.least):
            raise ConfigError(f"{given} is too little; {self.least} is the least")
        if self.most is not None and number > self.parse(self.most):
            raise ConfigError(f"{given} is too much; {self.most} is the most")


def parse_size(text: str) -> int:
    """Return the number of bytes that ``text`` names.

    Raises:
        ConfigError: It is not a size.

    Example:
        >>> parse_size("512MB")
        512000000
    """
    match = _SIZE.match(text.strip().lower())
    size = float(match[1]) * _BYTES[match[2]] if match else 0
    if not 1 <= size <= _MOST_BYTES:
        raise _invalid(text, "size", "512MB or 20GB (units B, KB, MB, GB, TB)")
    return int(size)


def parse_time(text: str) -> float:
    """Return the number of seconds that ``text`` names; a number without a unit is seconds.

    Raises:
        ConfigError: It is not a time.

    Example:
        >>> parse_time("1h30m"), parse_time("250ms"), parse_time("00:01:30"), parse_time("90")
        (5400.0, 0.25, 90.0, 90.0)
    """
    seconds = _seconds(text.strip().lower())
    if seconds is None or seconds > _LONGEST_S:
        raise _invalid(text, "time", "90s, 10m, 1h30m, 250ms or 00:01:30")
    return seconds


def parse_rate(text: str) -> float:
    """Return the number of frames per second that ``text`` names.

    Raises:
        ConfigError: It is not a rate.
    """
    match = _PLAIN.match(text.strip())
    rate = float(match[1]) if match else 0
    if not 0 < rate <= _FASTEST:
        raise _invalid(text, "rate", "frames a second, such as 15 or 0.5")
    return rate


def parse_share(text: str) -> float:
    """Return the number from 0 to 1 that ``text`` names in percent.

    Raises:
        ConfigError: It is not a share.

    Example:
        >>> parse_share("1%"), parse_share("100 %")
        (0.01, 1.0)
    """
    number = text.strip().removesuffix("%").rstrip()
    is_plain = text.strip().endswith("%") and _PLAIN.match(number)
    share = float(Decimal(number) / 100) if is_plain else 2.0
    if not 0 <= share <= 1:
        raise _invalid(text, "share", "percent, such as 1% or 0.5%")
    return share


def parse_steps(text: str) -> tuple[float, ...]:
    """Return the numbers from 0 to 1 that ``text`` names.

    Raises:
        ConfigError: It names none, or too many.

    Example:
        >>> parse_steps("0.3:0.5:0.1"), parse_steps("0.25,0.5")
        ((0.3, 0.4, 0.5), (0.25, 0.5))
    """
    error = _invalid(text, "range", "FROM:TO:STEP from 0 to 1, such as 0.3:0.9:0.05, or 0.3,0.5")
    parts = text.split(":")
    numbers = [part.strip() for part in (parts if len(parts) > 1 else text.split(","))]
    if not all(map(_PLAIN.match, numbers)) or len(parts) not in (1, 3):
        raise error
    if len(parts) == 1:
        values = tuple(dict.fromkeys(map(float, numbers)))
    else:
        first, last, step = map(Decimal, numbers)
        if not step or last < first or (last - first) / step >= _MOST_STEPS:
            raise error
        count = int((last - first) / step) + 1
        values = tuple(float(first + index * step) for index in range(count))
    if not all(0 <= value <= 1 for value in values):
        raise error
    return values


def parse_dimensions(text: str) -> tuple[int | None, int | None]:
    """Return width and height from ``640x360``; ``640x`` and ``x360`` give one of them.

    Raises:
        ConfigError: It is not a size.
    """
    match = _DIMENSIONS.match(text.strip().lower())
    width, height = (
        int(part) if part else None for part in (match.groups() if match else ("", ""))
    )
    if width == 0 or height == 0 or (width is None and height is None):
        raise _invalid(text, "size", "WIDTHxHEIGHT, such as 640x360")
    return width, height


def parse_both_dimensions(text: str) -> tuple[int, int]:
    """Return width and height from ``640x360``.

    Raises:
        ConfigError: It does not say both.
    """
    width, height = parse_dimensions(text)
    if width is None or height is None:
        raise ConfigError(f"{text!r} is not a valid size; expected WIDTHxHEIGHT, such as 640x360")
    return width, height


def _seconds(text: str) -> float | None:
    if match := _PLAIN.match(text):
        return float(match[1])
    if text and (match := _TERMS.match(text)):
        parts = zip(match.groups(), _SECONDS.values(), strict=True)
        return sum(float(number) * unit for number, unit in parts if number)
    match = _CLOCK.match(text)
    if match is None or int(match[2]) >= 60 or float(match[3]) >= 60:
        return None
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3])


def _invalid(text: str, kind: str, expected: str) -> ConfigError:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return ConfigError(f"{shown!r} is not a valid {kind}; expected {expected}")


def size_text(size: int) -> str:
    """Return a number of bytes for people, such as ``1.5 GB``."""
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if round(value, 1) < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def counted(count: int, noun: str, one: str = "", many: str = "") -> str:
    """Return a count with its noun, and a following word for one and for many, such as a verb.

    Example:
        >>> counted(1, "frame"), counted(2000, "frame", "is", "are")
        ('1 frame', '2,000 frames are')
    """
    words = (f"{count:,}", noun, one) if count == 1 else (f"{count:,}", f"{noun}s", many)
    return " ".join(filter(None, words))


def and_more(problems: Sequence[str], what: str = "more") -> str:
    """Return the first of ``problems``, and how many more there are.

    Example:
        >>> and_more(["page 3 is damaged", "page 9 is damaged"])
        'page 3 is damaged (and 1 more)'
    """
    more = len(problems) - 1
    return problems[0] + (f" (and {more:,} {what})" if more else "")


def count_text(count: int | None) -> str:
    """Return a count; - if it is unknown."""
    return "-" if count is None else f"{count:,}"


def ms_text(value: float | None) -> str:
    """Return milliseconds with three digits, or with all before the point; - for unknown ones."""
    if value is None:
        return "-"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def digits(value: float) -> str:
    """Return a number with four digits, or with all digits before the point."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

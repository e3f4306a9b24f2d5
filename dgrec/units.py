"""Sizes and durations as people write them: ``512MB``, ``20GB``, ``90s``, ``10m``, ``24h``.

Units are decimal (1 KB is 1,000 bytes), as in everything that dgrec prints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dgrec.errors import ConfigError

__all__ = [
    "digits",
    "parse_duration",
    "parse_rate",
    "parse_seconds",
    "parse_size",
    "size_text",
]

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\Z", re.ASCII)
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: More than any disk or recording, and less than what clocks and system calls take.
_MOST = 10**18
_LONGEST = 36_500 * 86400
_FASTEST = 10**6


def parse_size(text: str) -> int:
    """Return the number of bytes that ``text`` names.

    Raises:
        ConfigError: It names none.
    """
    examples = "512MB or 20GB (units B, KB, MB, GB, TB)"
    return int(_parse(text, _BYTES, "size", examples, least=1, most=_MOST))


def parse_duration(text: str) -> float:
    """Return the number of seconds that ``text`` names.

    Raises:
        ConfigError: It names none.
    """
    # Without a unit, 10 might be seconds or minutes: better refused than guessed.
    examples = "90s, 10m or 24h (units s, m, h, d)"
    return _parse(text, _SECONDS, "duration", examples, least=1e-6, most=_LONGEST)


def parse_seconds(text: str) -> float:
    """Return the number of seconds that ``text`` names: as `parse_duration`, but 10 is 10 s, and
    0 is a duration.

    Raises:
        ConfigError: It names none.
    """
    examples = "10 (seconds), 90s, 10m or 24h (units s, m, h, d)"
    return _parse(text, {"": 1, **_SECONDS}, "duration", examples, least=0, most=_LONGEST)


def parse_rate(text: str) -> float:
    """Return the number of frames a second that ``text`` names.

    Raises:
        ConfigError: It names none.
    """
    return _parse(text, {"": 1}, "rate", "15 or 0.5", least=1e-6, most=_FASTEST)


def size_text(size: int) -> str:
    """Return a number of bytes as a person reads it."""
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if round(value, 1) < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def digits(value: float) -> str:
    """Return a number with four digits, or with all those before the point."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _parse(
    text: str, units: Mapping[str, int], kind: str, examples: str, *, least: float, most: float
) -> float:
    match = _QUANTITY.match(text.strip().lower())
    if match is None or match[2] not in units:
        raise ConfigError(f"{text!r} is no {kind}; write {examples}")
    value = float(match[1]) * units[match[2]]
    if value < least:
        raise ConfigError(f"{text!r} is no {kind}: it must be more than nothing")
    if value > most:
        raise ConfigError(f"{text[:20]!r} is no {kind}: it is more than can be")
    return value

"""What a program gives a function: checked, and taken as it is meant."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from dgrec.errors import ConfigError, value_text

__all__ = ["check_number", "given_path", "one_or_more"]


def one_or_more(name: str, given: Any, what: str, *kinds: type) -> list[Any]:
    """Return what was given for a list as one: a single item is a list of it.

    Args:
        what: The word for an item, as an error has it.
        kinds: What one item is.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(given, (*kinds, str, bytes)):
        return [given]
    if not isinstance(given, Iterable):
        raise ConfigError(f"{name}: {value_text(given)} is not {what}, or a list of them")
    return list(given)


def given_path(name: str, given: object) -> Path:
    """Return a path.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(given, str | os.PathLike):
        raise ConfigError(f"{name}: {value_text(given)} is not a path")
    return Path(given)


def check_number(name: str, given: object, *, is_whole: bool = False) -> None:
    """Raise `ConfigError` if something is not a number; those of numpy are."""
    if not isinstance(given, Integral if is_whole else Real) or isinstance(given, bool):
        kind = "whole number" if is_whole else "number"
        raise ConfigError(f"{name}: {value_text(given)} is not a {kind}")

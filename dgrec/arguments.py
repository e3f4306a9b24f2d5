"""Arguments of public functions: checks, paths and lists of one item."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from dgrec.errors import ConfigError, DgrecError, value_text

__all__ = [
    "check_number",
    "check_path",
    "check_text",
    "given_path",
    "one_or_more",
    "optional_path",
    "with_parameters",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")


def with_parameters(*others: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Decorate a function that programs call: its errors name its parameters.

    For a misspelt one, the error suggests the nearest. Messages that are shared with a command name
    the command's options (``say --overwrite``): they stay as they are, and below them a traceback
    shows which parameters these are.

    Args:
        others: Parameters that are not in the function's signature.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        known = {*inspect.signature(function).parameters, *others}
        name = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def call(*arguments: _P.args, **named: _P.kwargs) -> _T:
            for given in named:
                if given not in known:
                    nearest = get_close_matches(given, known, 1)
                    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
                    raise TypeError(f"{name}() got an unexpected keyword argument {given!r}{hint}")
            try:
                return function(*arguments, **named)
            except DgrecError as error:
                note = _parameters_in(str(error), known)
                if note and note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
                raise

        return call

    return decorate


def _parameters_in(message: str, known: set[str]) -> str:
    """Return a line with the parameters of the options that a message names; "" for none."""
    found = []
    for option in dict.fromkeys(_OPTION.findall(message)):
        name = option.replace("-", "_")
        # An option that is given several times is a list: --tracker is trackers=.
        if name not in known:
            name += "s"
        if name in known:
            found.append(f"--{option} is {name}=")
    return f"in Python, {', '.join(found)}" if found else ""


def one_or_more(name: str, given: Any, what: str, *kinds: type) -> list[Any]:
    """Return a list of what was given: a list, or a single item.

    Args:
        what: The word for an item, as an error has it.
        kinds: The types of an item.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(given, (*kinds, str, bytes)):
        return [given]
    if not isinstance(given, Iterable):
        raise ConfigError(f"{name}: {value_text(given)} is not {what}, or a list of them")
    return list(given)


def given_path(name: str, given: object, unusable: type[DgrecError] = ConfigError) -> Path:
    """Return a path.

    Args:
        unusable: The error for a path that no file can have, or in a folder without permission.

    Raises:
        ConfigError: It is not a path, or the name is empty or holds a NUL.
    """
    check_path(name, given)
    path = Path(given)  # type: ignore[arg-type]  # checked
    if not os.fspath(given):  # type: ignore[call-overload]  # Path("") is the current folder
        raise ConfigError(f"{name}: the name is empty")
    if "\0" in str(path):
        raise ConfigError(f"{name}: a name cannot hold a NUL")
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise unusable(f"{name}: {path}: {error.strerror}") from None
    return path


def optional_path(name: str, given: object, unusable: type[DgrecError]) -> Path | None:
    """Return a path as `given_path` does, or None where none is given."""
    return None if given is None else given_path(name, given, unusable)


def check_path(name: str, given: object) -> None:
    """Raise `ConfigError` if something is not a path."""
    if not isinstance(given, str | os.PathLike):
        raise ConfigError(f"{name}: {value_text(given)} is not a path")


def check_text(name: str, given: object) -> None:
    """Raise `ConfigError` if something is not a text."""
    if not isinstance(given, str):
        raise ConfigError(f"{name}: {value_text(given)} is not a text")


def check_number(name: str, given: object, *, is_whole: bool = False) -> None:
    """Raise `ConfigError` if something is not a number; those of numpy are."""
    if not isinstance(given, Integral if is_whole else Real) or isinstance(given, bool):
        kind = "whole number" if is_whole else "number"
        raise ConfigError(f"{name}: {value_text(given)} is not a {kind}")

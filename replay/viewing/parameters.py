"""The parameters of a request."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from dgrec.errors import DgrecError
from dgrec.replay.viewing.workers import CancelledError

#: Longer texts, such as SQL, are refused.
_LONGEST_TEXT = 100_000


class RequestError(DgrecError):
    """A request cannot be answered.

    Args:
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Parameters:
    """The query of a request: what follows its question mark.

    Raises:
        RequestError: In all methods: the parameter is missing, or is not valid.
    """

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query

    def __contains__(self, name: str) -> bool:
        return name in self._query

    def texts(self) -> dict[str, str]:
        """Return all parameters; of several with the same name, the first."""
        return {name: self._query[name] for name in self._query}

    def text(self, name: str, default: str | None = None) -> str:
        value = self._query.get(name, default)
        if value is None:
            raise RequestError(f"{name} is missing")
        if len(value) > _LONGEST_TEXT:
            raise RequestError(f"{name} is too long")
        return value

    def whole(self, name: str, default: int | None = None, *, least: int, most: int) -> int:
        """Return a whole number; one beyond the bounds becomes the bound."""
        text = self._query.get(name)
        if text is None and default is not None:
            return default
        text = self.text(name)
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()):
            raise RequestError(f"{name}: {text[:40]!r} is not a whole number")
        # Python refuses to read the longest.
        value = int(text) if len(digits) < 40 else (least if text.startswith("-") else most)
        return min(max(value, least), most)

    def seconds(self, name: str, default: float | None = None) -> float:
        """Return a finite number."""
        text = self._query.get(name)
        if text is None and default is not None:
            return default
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise RequestError(f"{name}: {text[:40]!r} is not a number of seconds")
        return value

    def positions(self, count: int, most: int) -> tuple[int, int]:
        """Return ``from`` and ``to``, at most ``most`` of ``count`` positions apart."""
        start = self.whole("from", least=0, most=count)
        stop = self.whole("to", min(start + most, count), least=0, most=count)
        return start, max(start, min(stop, start + most))

    def position(self, count: int) -> int:
        """Return ``i``, one of ``count`` positions."""
        position = self.whole("i", least=-1, most=count)
        if not 0 <= position < count:
            raise RequestError(f"i: there is no frame at position {self.text('i')}", 404)
        return position


def status_and_text(error: Exception) -> tuple[int, str] | None:
    """Return status and text for a request that failed; None: the error was not expected."""
    if isinstance(error, RequestError):
        return error.status, str(error)
    if isinstance(error, FileNotFoundError):
        return 404, "the file is not there any more"
    if isinstance(error, OSError):
        return 404, f"cannot be read: {error.strerror or os.strerror(error.errno or 0)}"
    if isinstance(error, MemoryError):
        return 422, "out of memory"
    if isinstance(error, DgrecError):
        return 422, str(error)
    if isinstance(error, CancelledError):
        return 503, "the server is shutting down"
    return None

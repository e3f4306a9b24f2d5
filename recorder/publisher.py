"""One JSON line a frame, while recording: for a message bus, a dashboard, a shell pipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from dgrec.errors import OutputError
from dgrec.rows import Row

__all__ = ["Publisher", "payload"]

_KEYS = ("label", "score", "bbox")


def payload(row: Row) -> dict[str, Any]:
    """Return a frame in the form that DeGirum's guide publishes.

    ``timestamp`` is when the result came out, in seconds since 1970 (UTC).
    """
    detections = row.results if isinstance(row.results, list) else []
    return {
        "timestamp": row.completed_ns / 1e9,
        "detections": [
            {key: _plain(item[key]) for key in _KEYS if key in item}
            for item in detections
            if isinstance(item, dict)
        ],
    }


class Publisher:
    """Writes `payload` lines to stdout (``-``) or to a file, flushed one by one.

    A reader that goes away ends the publishing, never the recording: ``failure`` then says why.

    Raises:
        OutputError: The file cannot be opened.
    """

    def __init__(self, target: str) -> None:
        self.failure: str | None = None
        self._target = target
        self._file: IO[str] | None
        if target == "-":
            self._file = sys.stdout
        else:
            try:
                self._file = Path(target).open("a", encoding="utf-8")  # noqa: SIM115
            except OSError as error:
                raise OutputError(f"{target}: cannot be written: {error.strerror}") from None

    def publish(self, row: Row) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(payload(row), separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:
            self.failure = f"{self._target}: publishing ended: {error.strerror}"
            if self._target == "-":
                # Python flushes stdout once more at exit, and would complain then.
                sys.stdout = None
            self._file = None

    def close(self) -> None:
        if self._file is not None and self._target != "-":
            self._file.close()
        self._file = None


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it; numbers that JSON has none for become null."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    return str(value)

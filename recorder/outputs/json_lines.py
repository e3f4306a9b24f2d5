"""One JSON line a frame, while recording: for a message bus, a dashboard, a shell pipe."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dgrec.errors import OutputError
from dgrec.files import output_error
from dgrec.format import Row
from dgrec.paths import SESSION_SUFFIXES, VIDEO_SUFFIXES
from dgrec.recorder.outputs.output import Output

__all__ = ["STDOUT", "JsonLines", "check_target", "payload"]

#: The target that means stdout.
STDOUT = "-"

_KEYS = ("label", "score", "bbox")
#: Suffixes of sessions and their videos, which lines must not be written under.
_SESSION_SUFFIXES = (*SESSION_SUFFIXES, VIDEO_SUFFIXES["raw"])


def check_target(target: str, output: Path) -> None:
    """Raise `OutputError` unless lines can be added to ``target`` without spoiling a file.

    That is so for stdout, a new or an empty file, one that was published to before, and one that is
    not regular (a FIFO, a device).

    Args:
        output: The session that is recorded at the same time.
    """
    if target == STDOUT:
        return
    path = Path(target)
    try:
        fits = not path.exists() or not path.is_file() or _holds_lines(path)
    except OSError as error:
        raise output_error(path, error) from None
    same = os.path.realpath(path) == os.path.realpath(output)
    if same or path.suffix.lower() in _SESSION_SUFFIXES:
        raise OutputError(
            f"--publish {target}: is the name of a session or a video; expected NAME.jsonl"
        )
    if not fits:
        raise OutputError(
            f"--publish {target}: exists already, and does not hold published lines; "
            "choose another name"
        )


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


class JsonLines(Output):
    """Writes `payload` lines to stdout (`STDOUT`) or to the end of a file, one by one.

    Raises:
        OutputError: The file cannot be opened.
    """

    def __init__(self, target: str) -> None:
        self.name = target
        path = Path(target)
        try:
            if target == STDOUT:
                sys.stdout.flush()
                # A descriptor of its own: a line that is never read must not hold up the exit.
                self._file = os.dup(sys.stdout.fileno())
                return
            # After a power cut, for example: ours must not be appended to that line.
            is_cut_off = path.is_file() and not _ends_with_a_line(path)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            if is_cut_off:
                os.write(self._file, b"\n")
        except OSError as error:
            raise output_error(path, error) from None

    def frame(self, row: Row, result: Any) -> None:
        line = memoryview(json.dumps(payload(row), separators=(",", ":")).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as error:
            raise OutputError(f"{self.name}: publishing ended: {error.strerror}") from None

    def close(self) -> None:
        os.close(self._file)


def _holds_lines(path: Path) -> bool:
    """Return whether a file is empty, or begins with a published line."""
    with path.open("rb") as file:
        # One byte first: a video may have no line end for gigabytes.
        line = file.readline() if file.peek(1)[:1] == b"{" else file.read(1)
    if not line:
        return True
    try:
        first = json.loads(line)
    except ValueError:
        return False
    return isinstance(first, dict) and {"timestamp", "detections"} <= first.keys()


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it; NaN and infinity become null."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    return str(value)

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

#: What stands for stdout among targets.
STDOUT = "-"

_KEYS = ("label", "score", "bbox")
#: Names that sessions and their videos have: lines under one of them would be in their way.
_SESSION_SUFFIXES = (*SESSION_SUFFIXES, VIDEO_SUFFIXES["raw"])


def check_target(target: str, output: Path) -> None:
    """Raise `OutputError` unless lines can be added to ``target`` and nothing is spoilt by it.

    That is so for stdout, a new file, an empty one, one that was published to before, and what is
    no regular file (a FIFO, a device).

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
            f"--publish {target}: is a name for a session or a video; call the lines NAME.jsonl"
        )
    if not fits:
        raise OutputError(
            f"--publish {target}: exists already, and is no file of published lines, to which more "
            "could be added; choose another name"
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
                # Its own: a line that a stuck reader never takes must not hold up the exit.
                self._file = os.dup(sys.stdout.fileno())
                return
            # By a power cut, say: that line is lost, and must not take ours with it.
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
    """Return whether a file is empty, or begins with a line as they are published."""
    with path.open("rb") as file:
        # A look at one byte first: a video may have no line end for gigabytes.
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
    """Return ``value`` as JSON can hold it; numbers that JSON has none for become null."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    return str(value)

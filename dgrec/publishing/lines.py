"""A target: lines of a file, or of standard output, for a shell pipe or a program."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from pathlib import Path

from dgrec.errors import OutputError, StorageError
from dgrec.files import output_error, output_errors
from dgrec.message import Message
from dgrec.paths import SESSION_SUFFIXES, VIDEO_SUFFIXES
from dgrec.publishing.address import STDOUT
from dgrec.publishing.target import Target

#: Suffixes of sessions and their videos, which lines must not be written under.
_SESSION_SUFFIXES = (*SESSION_SUFFIXES, VIDEO_SUFFIXES["raw"])


def check_target(target: str, output: Path | None = None) -> None:
    """Raise `OutputError` unless lines can be added to ``target`` without spoiling a file.

    That is so for stdout, a new or an empty file, one that was published to before, and one that is
    not regular (a FIFO, a device).

    Args:
        output: The session that is recorded at the same time, if it is known.
    """
    if target == STDOUT:
        return
    path = Path(target)
    with output_errors(path):
        fits = not path.exists() or not path.is_file() or _holds_lines(path)
    same = output is not None and os.path.realpath(path) == os.path.realpath(output)
    if same or path.suffix.lower() in _SESSION_SUFFIXES:
        raise OutputError(
            f"--publish {target}: is the name of a session or a video; expected NAME.jsonl"
        )
    if not fits:
        raise OutputError(
            f"--publish {target}: exists already, and does not hold published lines; "
            "choose another name"
        )


class Lines(Target):
    """Writes messages to stdout (`STDOUT`) or to the end of a file, a line each.

    Raises:
        OutputError: The file cannot be opened.
    """

    is_waited_for = True

    def __init__(self, target: str) -> None:
        super().__init__()
        self.name = target
        #: Held while a line is written: the number of a file that is closed meanwhile may be that
        #: of another one.
        self._writing = threading.Lock()
        self._is_closed = self._is_over = False
        path = Path(target)
        with output_errors(path):
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

    def send(self, message: Message) -> None:
        line = memoryview(message.text + b"\n")
        try:
            with self._writing:
                if self._is_over:
                    raise OutputError(f"{self.name}: publishing ended: it is closed")
                while line:
                    line = line[os.write(self._file, line) :]
        except OSError as error:
            text = f"{self.name}: publishing ended: {error.strerror}"
            kind = output_error(self.name, error)
            if isinstance(kind, StorageError):
                raise StorageError(text, is_full=kind.is_full) from None
            raise OutputError(text) from None
        finally:
            self._close_if_over()
        self._take(message.key)

    def close(self) -> None:
        self._is_over = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        """Close the file, once; if another thread is writing a line, it does that afterwards."""
        if self._is_over and self._writing.acquire(blocking=False):
            with contextlib.ExitStack() as stack:
                stack.callback(self._writing.release)
                if not self._is_closed:
                    self._is_closed = True
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
    return (
        isinstance(first, dict)
        and "timestamp" in first
        and not first.keys().isdisjoint({"detections", "change", "alert"})
    )


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

"""The destination of a result: a file, a device, or standard output."""

from __future__ import annotations

import contextlib
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dgrec.errors import OutputError
from dgrec.files import NewFile, output_error, resolved
from dgrec.terminal import Colour, line, painted, shown

if TYPE_CHECKING:
    from dgrec.session import Session


@dataclass
class Destination:
    """The destination of a result."""

    file: BinaryIO
    encoding: str = "utf-8"
    is_terminal: bool = False

    def write(self, text: str) -> None:
        """Write a text; on a terminal, control characters are escaped."""
        self.write_styled(shown(text) if self.is_terminal else text)

    def write_line(self, text: str, colour: Colour | None = None) -> None:
        """Write one `line`, on a terminal in a colour."""
        text = line(text)
        self.write_styled((painted(text, colour) if self.is_terminal else text) + "\n")

    def write_styled(self, text: str) -> None:
        """Write a text with its control characters, as a `dgrec.console.Console` made it."""
        self.file.write(text.encode(self.encoding, "backslashreplace"))


@contextlib.contextmanager
def open_output(
    path: Path | None, *, overwrite: bool = False, keep: Sequence[Path | Session] = ()
) -> Iterator[Destination]:
    """Open ``path`` (None or ``-``: standard output) for one result.

    A file appears under its name once it is complete. The files in ``keep``, and those of its
    sessions (`dgrec.footage.recorded_files`), are never overwritten.

    Raises:
        OutputError: The file exists and ``overwrite`` is false, or it cannot be written.
    """
    is_stdout = path is None or str(path) == "-"
    name = "standard output" if is_stdout else str(path)
    try:
        if path is None or is_stdout:
            with _stdout() as destination:
                yield destination
        elif _is_special(path):
            with path.open("wb") as file:
                yield Destination(file, is_terminal=file.isatty())
        else:
            from dgrec.footage import recorded_files, refuse_recorded

            files = [file for file in keep if isinstance(file, Path)]
            sessions = [session for session in keep if not isinstance(session, Path)]
            refuse_recorded(path, [*files, *recorded_files(sessions)])
            path = resolved(path)  # keeps a link
            if path.is_dir():
                raise OutputError(f"{path}: is a folder; give a file name")
            with NewFile(path, replace=overwrite) as new:
                yield Destination(new.file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(name, error) from None


def _is_special(path: Path) -> bool:
    """Return whether ``path`` is a device or a pipe, which is written to but not replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextlib.contextmanager
def _stdout() -> Iterator[Destination]:
    stdout = sys.stdout
    stdout.flush()
    terminal = stdout.isatty()
    # Programs get UTF-8 everywhere; people get the encoding of their terminal.
    encoding = stdout.encoding if terminal else "utf-8"
    yield Destination(stdout.buffer, encoding, terminal)
    stdout.buffer.flush()
